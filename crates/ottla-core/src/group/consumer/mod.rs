//! The consumer protocol (KIP-848): the coordinator assigns, a member tells what it owns and does what it is told.
//! Everything goes through one request, the heartbeat, of which one at a time is under way.
//!
//! | state | meaning | heartbeats | next |
//! |---|---|---|---|
//! | `Unsubscribed` | no topics, no membership | no | `subscribe` → Joining |
//! | `Joining` | a heartbeat of epoch 0 that tells all | at once | answer → Stable, Reconciling or Acknowledging |
//! | `Reconciling` | what is owned is not what the coordinator wants: a revocation is open, or the name of a topic is not known | at the interval | Acknowledging |
//! | `Acknowledging` | what is owned has changed | at once, with what is owned | answer → Stable, or Reconciling if more is wanted |
//! | `Stable` | owns what the coordinator wants | at the interval | another assignment → Reconciling or Acknowledging |
//! | `Fenced` | the coordinator does not know this member, or its epoch, any more: everything is lost | no | after a pause that grows → Joining |
//! | `PrepareLeaving` | the subscription ended, everything is being given back | at the interval | → Leaving |
//! | `Leaving` | a heartbeat of epoch -1 (static: -2) is sent | no | answer, or time → Unsubscribed |
//! | `Stale` | the reader stayed away for longer than `max_poll_interval`: everything is lost, the group was left | no | `polled` → Joining |
//! | `Fatal` | a fatal error was told | no | `leave` |
//!
//! What is owned is told when it changed, as is the subscription; everything is told when joining and again after any
//! error, because nobody knows what of the request before was heard.
//!
//! A topic comes as an id. One whose name is not known waits, and metadata is asked for; the rest goes on. What
//! another topic of the same name had (it was deleted and created anew) is given back first.
//!
//! Given up is first, in one revocation at a time that waits for the reader until its deadline; then what is new is
//! owned; then both are acknowledged. The coordinator gives nobody a partition before its owner has acknowledged that
//! it is gone, and puts a member out that takes longer than the rebalance timeout. Until then what is being revoked
//! counts as owned and is told so.
//!
//! The length of a session is not on the wire, so silence ends no ownership: an answer that fences does. The member
//! id is this client's own and stays for its whole life (KIP-1082).
//!
//! More than `FREE_BEATS` heartbeats that do not wait for the interval are followed by pauses that grow: no answer of
//! a broker can make a hot loop.
//!
//! The full matrix, as the code has it, is in `tests/matrix.txt`. The errors' table is `errors::reaction`.

mod errors;
mod heartbeat;
mod leave;
mod reconcile;
mod reply;
mod state;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;

use self::errors::{Reaction, reaction};
use self::heartbeat::{Pulse, Sent};
use self::reply::Reply;
pub use self::state::ConsumerState;
use super::{Assignment, GroupAction, GroupIdentity, stayed_away};
use crate::assignor::Assignor;
use crate::config::GroupConfig;
use crate::planted::planted;
use crate::{Backoff, Error, ErrorKind, Rng, Timestamp, TopicId, TopicPartition};

/// A partition as the coordinator names it.
type Part = (TopicId, i32);

/// What a member subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subscription {
    topics: BTreeSet<String>,
    pattern: Option<String>,
}

impl Subscription {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pattern.is_none()
    }
}

/// A member of a consumer group.
#[derive(Debug)]
pub struct ConsumerGroup {
    config: GroupConfig,
    client_rack: Option<String>,
    state: ConsumerState,

    /// Made once.
    member_id: String,
    /// 0: no membership.
    epoch: i32,
    /// Counts memberships: an answer for an older one is dropped.
    membership: u64,
    /// The coordinator may know this member: a heartbeat was sent that nothing has undone for certain.
    maybe_known: bool,
    /// The instance id was let go of after it was refused, and no join has gone well since.
    released: bool,

    subscription: Subscription,
    /// What the coordinator was told last; `None` if that is in doubt.
    told_subscription: Option<Subscription>,
    /// The coordinator may know of a pattern.
    told_pattern: bool,
    told_owned: Option<BTreeSet<Part>>,

    /// What the coordinator wants us to own.
    target: BTreeSet<Part>,
    /// Names by id, of what is wanted or owned.
    names: BTreeMap<TopicId, Arc<str>>,
    /// The id under which a topic is owned.
    ids: BTreeMap<Arc<str>, TopicId>,
    /// Ids that nobody could name yet.
    unnamed: BTreeSet<TopicId>,
    assignment: Assignment,
    /// A revocation is open: the machine goes on at this time without waiting for the client's word.
    revocation: Option<Timestamp>,
    /// Since when more has to be given up than is being revoked: the coordinator's patience counts from then.
    owes_since: Option<Timestamp>,
    /// Since when a revocation is put off because the names of what is assigned are not known.
    held_since: Option<Timestamp>,

    /// The coordinator is connected.
    coordinator: bool,
    /// `FindCoordinator` stands.
    finding: bool,
    in_flight: VecDeque<Sent>,
    pulse: Pulse,
    /// Leaving is given up then.
    leave_until: Timestamp,
    /// The leave of a member whose reader stayed away has not been heard.
    owes_leave: bool,
    /// The coordinator has news: the heartbeat under way is followed by another one.
    beat_again: bool,
    /// Somebody waits for [`GroupAction::Left`].
    left_wanted: bool,
    /// An error of this row of failures was told.
    reported: bool,
    /// A classic member shall be made of it if the coordinator does not want it.
    may_fall_back: bool,
    /// It does not.
    fell_back: Option<ErrorCode>,
    rng: Rng,
    actions: VecDeque<GroupAction>,
}

impl ConsumerGroup {
    /// A member without a subscription. `retry_backoff`: the first and the longest wait before a failed request is
    /// sent again.
    pub fn new(
        config: GroupConfig,
        client_rack: Option<String>,
        retry_backoff: (Duration, Duration),
        mut rng: Rng,
    ) -> Self {
        let backoff = Backoff::new(retry_backoff.0, retry_backoff.1);
        let member_id = state::new_member_id(&mut rng);
        Self {
            // Partitions change hands one by one, as with the cooperative assignors.
            assignment: Assignment::new(&[Assignor::CooperativeSticky]),
            config,
            client_rack,
            state: ConsumerState::Unsubscribed,
            member_id,
            epoch: 0,
            membership: 0,
            maybe_known: false,
            released: false,
            subscription: Subscription::default(),
            told_subscription: None,
            told_pattern: false,
            told_owned: None,
            target: BTreeSet::new(),
            names: BTreeMap::new(),
            ids: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            revocation: None,
            owes_since: None,
            held_since: None,
            coordinator: false,
            finding: false,
            in_flight: VecDeque::new(),
            pulse: Pulse::new(backoff),
            leave_until: Timestamp::ZERO,
            owes_leave: false,
            beat_again: false,
            left_wanted: false,
            reported: false,
            may_fall_back: false,
            fell_back: None,
            rng,
            actions: VecDeque::new(),
        }
    }

    /// Gives up without an error if the coordinator does not want a member of this protocol: see
    /// [`take_fallback`](Self::take_fallback).
    pub(super) fn allow_fallback(&mut self) {
        self.may_fall_back = true;
    }

    /// Why the coordinator does not want a member of this protocol, once.
    pub(super) fn take_fallback(&mut self) -> Option<ErrorCode> {
        self.fell_back.take()
    }

    /// Whether somebody waits for [`GroupAction::Left`], or has not been told yet.
    pub(super) fn waits_for_left(&self) -> bool {
        self.left_wanted || self.actions.iter().any(|action| matches!(action, GroupAction::Left))
    }

    /// What is subscribed to.
    pub(super) fn subscription(&self) -> &BTreeSet<String> {
        &self.subscription.topics
    }

    /// Replaces the subscription. An empty one ends it: what is owned is revoked, the group is left, and
    /// [`GroupAction::Left`] says when that is done.
    pub fn subscribe(&mut self, now: Timestamp, topics: BTreeSet<String>) {
        self.replace_subscription(now, Subscription { topics, pattern: None });
    }

    /// Replaces the subscription by a regular expression, which the coordinator matches.
    pub fn subscribe_pattern(&mut self, now: Timestamp, pattern: &str) {
        let pattern = Some(pattern.to_owned()).filter(|p| !p.is_empty());
        self.replace_subscription(now, Subscription { topics: BTreeSet::new(), pattern });
    }

    fn replace_subscription(&mut self, now: Timestamp, subscription: Subscription) {
        self.subscription = subscription;
        if self.subscription.is_empty() {
            self.end_subscription();
        } else {
            match self.state {
                ConsumerState::Unsubscribed | ConsumerState::Leaving => {
                    self.state = ConsumerState::Joining;
                    self.hurry(now);
                }
                // What was given back already is ours as soon as we say so: the coordinator was not told.
                ConsumerState::PrepareLeaving => {
                    self.state = ConsumerState::Reconciling;
                    self.settle(now);
                }
                _ => {}
            }
            self.left();
            if self.told_subscription.as_ref() != Some(&self.subscription) {
                self.hurry(now);
            }
        }
        self.drive(now);
    }

    /// The coordinator is connected and knows this protocol.
    pub fn coordinator_known(&mut self, now: Timestamp) {
        self.finding = false;
        self.coordinator = true;
        if self.pulse.backoff.failures() == 0 {
            self.hurry(now);
        }
        self.drive(now);
    }

    /// The connection to the coordinator broke, or another broker is it now. What is in flight still gets its
    /// outcome, by `handle_failure`.
    pub fn coordinator_lost(&mut self, now: Timestamp) {
        self.drop_coordinator();
        self.drive(now);
    }

    /// The answer to the oldest outstanding request. `body` is hostile.
    pub fn handle_response(&mut self, now: Timestamp, version: i16, body: &[u8]) {
        let reply = Reply::decode(version, body).map_err(|e| {
            Error::new(
                ErrorKind::BrokerMisbehaved,
                format!("the answer to ConsumerGroupHeartbeat version {version} cannot be read"),
            )
            .with_source(e)
        });
        self.handle_reply(now, reply);
    }

    fn handle_reply(&mut self, now: Timestamp, reply: Result<Reply, Error>) {
        let Some(sent) = self.in_flight.pop_front() else { return };
        match reply {
            Ok(reply) if sent.leaves => self.leave_answered(now, reply.error),
            Err(_) if sent.leaves => self.leave_answered(now, ErrorCode::None),
            _ if sent.membership != self.membership => {}
            Ok(reply) => self.beat_answered(now, sent, reply),
            Err(error) => self.beat_failed(now, error),
        }
        self.drive(now);
    }

    /// The oldest outstanding request has no answer: it timed out, its connection broke, or the coordinator has no
    /// version of it that we know.
    pub fn handle_failure(&mut self, now: Timestamp, error: Error) {
        let Some(sent) = self.in_flight.pop_front() else { return };
        let hopeless = matches!(
            error.kind(),
            ErrorKind::Unsupported | ErrorKind::Authorization | ErrorKind::Authentication
        );
        if sent.leaves {
            let code = if hopeless { ErrorCode::None } else { ErrorCode::CoordinatorNotAvailable };
            self.leave_answered(now, code);
        } else if sent.membership == self.membership {
            if hopeless {
                self.fail(now, error);
            } else {
                // Whether it was heard is not known.
                self.in_doubt();
                self.retry(now);
                self.drop_coordinator();
            }
        }
        self.drive(now);
    }

    /// The reader exceeded `max_poll_interval`: everything is lost, and the group is left until [`Self::polled`]. A
    /// static member leaves for a while only (epoch -2), so that nobody else gets what it had.
    pub fn poll_expired(&mut self, now: Timestamp) {
        self.expire(now, true);
    }

    /// The reader of a partition exceeded it: the same, and that reader is told by the end of its partition.
    pub fn partition_expired(&mut self, now: Timestamp) {
        self.expire(now, false);
    }

    fn expire(&mut self, now: Timestamp, report: bool) {
        use ConsumerState as S;
        if matches!(self.state, S::Unsubscribed | S::PrepareLeaving | S::Leaving | S::Stale | S::Fatal) {
            return;
        }
        self.leave_until = now + leave::PATIENCE;
        self.owes_leave = !self.send_leave(now) && self.maybe_known;
        self.end_membership();
        self.state = S::Stale;
        if report {
            self.actions.push_back(GroupAction::Report(stayed_away(self.config.max_poll_interval)));
        }
        self.drive(now);
    }

    /// The reader is back.
    pub fn polled(&mut self, now: Timestamp) {
        if self.state == ConsumerState::Stale {
            self.owes_leave = false;
            self.state = ConsumerState::Joining;
            self.hurry(now);
            self.drive(now);
        }
    }

    /// A commit, or a question for offsets, that carried `epoch_sent` was refused with `code`. What the group thinks
    /// of this member the next heartbeat tells: at once.
    pub fn commit_refused(&mut self, now: Timestamp, code: ErrorCode, epoch_sent: i32) {
        if self.epoch == 0 || self.epoch != epoch_sent {
            return;
        }
        match code {
            ErrorCode::StaleMemberEpoch if planted!(CommitLosesAssignment) => {
                self.end_membership();
                self.state = ConsumerState::Unsubscribed;
            }
            ErrorCode::FencedInstanceId => self.fail(now, errors::fatal(code, None, &self.config)),
            ErrorCode::StaleMemberEpoch
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::GroupIdNotFound => {
                // One that is under way was sent before.
                self.beat_again = self.in_flight.iter().any(|s| !s.leaves);
                self.hurry(now);
            }
            // Everything else is the commit's own business.
            _ => {}
        }
        self.drive(now);
    }

    /// `partitions` were given back and committed, or their time is over: they are nobody's now.
    pub fn revocation_finished<'a>(
        &mut self,
        now: Timestamp,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) {
        self.assignment.gone(partitions);
        if self.revocation.is_some() && self.assignment.revoking().is_empty() {
            self.revocation = None;
            // Whoever ends its subscription takes nothing over any more.
            self.wind_up(now);
            self.settle(now);
        }
        self.drive(now);
    }

    /// The topics that metadata knows, by id: after [`GroupAction::WantTopicNames`], until
    /// [`Self::waits_for_names`] is false.
    pub fn topic_names(&mut self, now: Timestamp, known: impl IntoIterator<Item = (TopicId, Arc<str>)>) {
        let mut news = false;
        for (id, name) in known {
            if self.unnamed.contains(&id) {
                self.names.insert(id, name);
                news = true;
            }
        }
        if news {
            self.settle(now);
            self.drive(now);
        } else if !self.unnamed.is_empty() && planted!(TopicIdStranded) {
            self.unnamed.clear();
        }
    }

    /// Whether it waits for the name of this topic.
    pub fn waits_for_name(&self, id: TopicId) -> bool {
        self.unnamed.contains(&id)
    }

    /// Whether a topic is assigned whose name is not known.
    pub fn waits_for_names(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// A spurious call is a no-op.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.drive(now);
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<GroupAction> {
        self.actions.pop_front()
    }

    /// Whether [`Self::poll_action`] has something to give.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let mut next = Timestamp::NEVER;
        if let Some(until) = self.held_until() {
            next = next.min(until);
        }
        if let Some(deadline) = self.revocation {
            next = next.min(deadline);
        }
        if self.can_beat() {
            next = next.min(self.pulse.due);
        }
        if self.state == ConsumerState::Leaving || self.owes_leave {
            next = next.min(self.leave_until);
        }
        (next != Timestamp::NEVER).then_some(next)
    }

    /// How long a heartbeat may take before it has failed. `request_timeout` is that of other requests. It should be
    /// sent again before the session is over, whose length is not on the wire: nine heartbeats by default.
    pub fn request_timeout(&self, request_timeout: Duration) -> Duration {
        request_timeout.min((self.pulse.interval * 2).max(Duration::from_secs(5)))
    }

    /// What commits carry; `None` without a membership.
    pub fn identity(&self) -> Option<GroupIdentity> {
        (self.epoch > 0).then(|| GroupIdentity {
            group_id: self.config.group_id.clone(),
            generation_id: self.epoch,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
        })
    }

    /// What is owned, what is being revoked included.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        self.assignment.owned()
    }

    /// Where the member stands.
    pub fn state(&self) -> ConsumerState {
        self.state
    }

    pub(super) fn is_static(&self) -> bool {
        self.config.group_instance_id.is_some()
    }

    /// Does what has become due or possible. After every input; repeating it changes nothing.
    fn drive(&mut self, now: Timestamp) {
        self.check_names(now);
        self.check_revocation(now);
        self.wind_up(now);
        self.check_leaving(now);
        self.try_beat(now);
        let wants = self.state.wants_coordinator() || self.owes_leave;
        if wants && !self.coordinator && !self.finding {
            self.finding = true;
            self.actions.push_back(GroupAction::FindCoordinator);
        }
    }

    /// The membership is over: everything owned is lost.
    fn end_membership(&mut self) {
        self.forget_membership();
        let lost = self.assignment.lose_all();
        if !lost.is_empty() {
            self.actions.push_back(GroupAction::Lost(lost));
        }
    }

    /// As [`Self::end_membership`], without a word to the client.
    fn forget_membership(&mut self) {
        self.epoch = 0;
        self.membership += 1;
        self.revocation = None;
        self.owes_since = None;
        self.held_since = None;
        self.beat_again = false;
        self.target.clear();
        self.names.clear();
        self.ids.clear();
        self.unnamed.clear();
        self.in_doubt();
    }

    /// What the coordinator was told is in doubt: it is told everything again.
    fn in_doubt(&mut self) {
        self.told_subscription = None;
        self.told_owned = None;
    }

    fn drop_coordinator(&mut self) {
        self.coordinator = false;
        self.in_doubt();
    }

    fn report(&mut self, error: Error) {
        if !self.reported {
            self.reported = true;
            self.actions.push_back(GroupAction::Report(error));
        }
    }

    fn fail(&mut self, now: Timestamp, error: Error) {
        // It is over for us; the group need not wait for the end of the session to know.
        if self.epoch > 0 {
            self.send_leave(now);
        }
        self.end_membership();
        self.state = ConsumerState::Fatal;
        self.actions.push_back(GroupAction::Fail(error.with_fatal(true)));
        self.left();
    }
}
