//! The JoinGroup protocol: a member that joins, syncs, heartbeats and leaves.
//!
//! | state | meaning | heartbeats | next |
//! |---|---|---|---|
//! | `Unsubscribed` | no topics, no membership | no | `subscribe` → Unjoined |
//! | `Unjoined` | wants to join: waits for the coordinator, a backoff or a revocation | no | JoinGroup sent → Joining |
//! | `Joining` | JoinGroup is parked (Kafka: PREPARING_REBALANCE) | probes, if something is owned | answer → Syncing; error → Unjoined |
//! | `Syncing` | JoinGroup is answered (COMPLETING_REBALANCE): the leader waits for metadata and computes, then SyncGroup is parked | yes; probes while SyncGroup is parked | answer → Stable or Revoking; error → Unjoined |
//! | `Stable` | a generation with an assignment | yes | rejoin needed → Joining, or Revoking first |
//! | `Revoking` | partitions are being given back before the next JoinGroup or the leave | yes | finished → Stable, and on to Joining or Leaving |
//! | `Leaving` | LeaveGroup is sent | no | answer or failure → Unsubscribed |
//! | `Expired` | the reader stayed away for longer than `max_poll_interval` | no | `polled` → Unjoined |
//! | `Failed` | a fatal error was told | no | `leave` |
//!
//! | event | Unjoined | Joining | Syncing | Stable | Revoking |
//! |---|---|---|---|---|---|
//! | rejoin needed | – | after Sync | after Sync | give up → Join | when finished |
//! | Join answered | – | Syncing | – | – | – |
//! | Sync answered | – | – | Stable, apply | – | – |
//! | heartbeat: REBALANCE_IN_PROGRESS | – | ignored | ignored | rejoin | ignored |
//! | heartbeat: fenced, unknown, illegal; same membership as when sent | – | reset | reset | reset | reset |
//! | coordinator lost | – | Unjoined | Unjoined if SyncGroup was sent | stays | stays |
//! | session over by our clock | lost | lost, Unjoined | lost, Unjoined | lost, Unjoined | lost, Unjoined |
//! | `max_poll_interval` exceeded | Expired | Expired | Expired | Expired | Expired |
//! | metadata changed (leader) | – | – | recheck when Stable | rejoin | – |
//!
//! "Give up": an eager member gives up everything before each JoinGroup, a cooperative one only what it is not
//! subscribed to any more; what another member gets is given up after the SyncGroup that says so, and then the
//! member joins again (KIP-429). While a revocation is open no JoinGroup is sent: claimed, the assignor would
//! hand the partition back; unclaimed, it would get a second owner.
//!
//! "Reset": the generation is over, everything owned is lost at once, and the member joins again.
//!
//! The full matrix, as the code has it, is in `tests/matrix.txt`. The errors' table is `errors::reaction`.
//!
//! Three clocks: *heartbeat* (timed from the last one sent), *session* (from the sending of the last heartbeat
//! that was answered: the coordinator cannot have started its own clock earlier, so we never own a partition
//! that it has given away because of silence), and *backoff* for joining. A member that joins more than
//! `FREE_ROUNDS` times without one good heartbeat in between waits the backoff before each further try,
//! whatever the reason: no answer of a broker can make a hot loop.

mod blob;
mod errors;
mod heartbeat;
mod in_flight;
mod inherited;
mod join;
mod leader;
mod leave;
mod reply;
mod revoke;
mod state;
mod steps;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ottla_wire::ErrorCode;

pub(crate) use self::errors::{Described, no_assignor_in_common};
use self::errors::{Reaction, reaction};
use self::heartbeat::Clock;
use self::in_flight::InFlight;
use self::inherited::Inherited;
use self::leader::Leadership;
use self::reply::Reply;
use self::revoke::OpenRevocation;
pub use self::state::GroupState;
use self::state::{Pace, Phase, State};
use super::{Assignment, GroupAction, GroupIdentity, GroupRequestKind as Kind, GroupVersions, stayed_away};
use crate::config::GroupConfig;
use crate::planted::planted;
use crate::{Backoff, Error, ErrorKind, Rng, Timestamp, TopicPartition};

/// Kafka's name of the consumers' kind of group.
const PROTOCOL_TYPE: &str = "consumer";

/// How often a member may join without one good heartbeat in between before it slows down. A join takes two
/// (the member id first), a cooperative rebalance two more.
const FREE_ROUNDS: u32 = 10;

/// As in Java: a parked request is given up this long after the coordinator would have given it up.
///
/// So an answer to JoinGroup that is lost on a connection that stands costs a member that owns nothing the rebalance
/// timeout and this: no earlier sign tells a lost answer from one that is parked. (A broken connection is noticed at
/// once.) One that owns something probes meanwhile, and learns from ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID that the
/// group went on without it.
const PARKED_REQUEST_SLACK: Duration = Duration::from_secs(5);

/// A member of a classic group.
#[derive(Debug)]
pub struct ClassicGroup {
    config: GroupConfig,
    client_rack: Option<String>,
    state: State,

    /// Empty until the coordinator gave one; kept across coordinators.
    member_id: String,
    /// `None`: no membership that a commit could carry.
    generation: Option<i32>,
    /// Counts changes of the two above.
    membership: u64,
    /// The assignor that the group picked, by name.
    protocol_name: String,
    leadership: Option<Leadership>,
    /// This static member came back, and does not know yet whether its group's assignment is whole.
    inherited: Option<Inherited>,

    subscription: BTreeSet<String>,
    /// The subscription that the last JoinGroup told.
    joined_with: BTreeSet<String>,
    /// Why to join again, if so.
    rejoin: Option<&'static str>,
    /// Not before this.
    join_at: Timestamp,
    join_backoff: Backoff,
    /// JoinGroups since the last good heartbeat.
    rounds: u32,

    assignment: Assignment,
    /// What the last SyncGroup assigned, and in which generation: the sticky assignors tell it (KIP-54, KIP-341).
    last_assigned: (Vec<(String, Vec<i32>)>, i32),
    revocation: Option<OpenRevocation>,

    coordinator: Option<GroupVersions>,
    /// `FindCoordinator` stands.
    finding: bool,
    in_flight: InFlight,
    clock: Clock,
    next_job: u64,
    /// Somebody waits for [`GroupAction::Left`].
    left_wanted: bool,
    /// An error of this row of failures was told.
    reported: bool,
    rng: Rng,
    actions: VecDeque<GroupAction>,
}

impl ClassicGroup {
    /// A member without a subscription. `retry_backoff`: the first and the longest wait before a failed request
    /// is sent again.
    pub fn new(
        config: GroupConfig,
        client_rack: Option<String>,
        retry_backoff: (Duration, Duration),
        rng: Rng,
    ) -> Self {
        let backoff = Backoff::new(retry_backoff.0, retry_backoff.1);
        Self {
            assignment: Assignment::with_protocol(config.rebalance_protocol()),
            clock: Clock::new(backoff.clone()),
            config,
            client_rack,
            state: State::Unsubscribed,
            member_id: String::new(),
            generation: None,
            membership: 0,
            protocol_name: String::new(),
            leadership: None,
            inherited: None,
            subscription: BTreeSet::new(),
            joined_with: BTreeSet::new(),
            rejoin: None,
            join_at: Timestamp::ZERO,
            join_backoff: backoff,
            rounds: 0,
            last_assigned: (Vec::new(), -1),
            revocation: None,
            coordinator: None,
            finding: false,
            in_flight: InFlight::default(),
            next_job: 0,
            left_wanted: false,
            reported: false,
            rng,
            actions: VecDeque::new(),
        }
    }

    /// Replaces the subscription. An empty one ends it: what is owned is revoked, the group is left, and
    /// [`GroupAction::Left`] says when that is done.
    pub fn subscribe(&mut self, now: Timestamp, topics: BTreeSet<String>) {
        let was_ending = self.subscription.is_empty();
        self.subscription = topics;
        if self.subscription.is_empty() {
            self.end_subscription();
        } else {
            match self.state {
                State::Unsubscribed => self.unjoined(now, Pace::Now, "subscribed"),
                // The member id that the JoinGroup in flight brings is wanted after all.
                State::Leaving { for_id: true } => {
                    self.state = State::Joining;
                    self.left();
                }
                State::Leaving { for_id: false } => {
                    self.unjoined(now, Pace::Now, "subscribed");
                    self.left();
                }
                _ => {
                    self.left();
                    // What an ending subscription has given back is regained only by joining again.
                    if was_ending || self.subscription != self.joined_with {
                        self.want_rejoin(now, Pace::Now, "the subscription changed");
                    }
                }
            }
        }
        self.drive(now);
    }

    /// The coordinator is connected and its versions are negotiated.
    pub fn coordinator_known(&mut self, now: Timestamp, versions: GroupVersions) {
        self.finding = false;
        self.coordinator = Some(versions);
        if self.clock.backoff.failures() == 0 {
            // Does it still know us? A heartbeat tells, and proves that the generation stands.
            self.clock.due = now;
        }
        self.drive(now);
    }

    /// The connection to the coordinator broke, or another broker is it now. What is in flight still gets its
    /// outcome, by `handle_failure`.
    pub fn coordinator_lost(&mut self, now: Timestamp) {
        self.drop_coordinator(now);
        self.drive(now);
    }

    /// The answer to the oldest outstanding request of `kind`. `body` is hostile.
    pub fn handle_response(&mut self, now: Timestamp, kind: Kind, version: i16, body: &[u8]) {
        let reply = Reply::decode(kind, version, body).map_err(|e| {
            Error::new(
                ErrorKind::BrokerMisbehaved,
                format!("the answer to {} version {version} cannot be read", kind.api()),
            )
            .with_source(e)
        });
        self.handle_reply(now, kind, reply);
    }

    /// The oldest outstanding request of `kind` has no answer: it timed out, its connection broke, or the
    /// coordinator has no version of it that we know.
    pub fn handle_failure(&mut self, now: Timestamp, kind: Kind, error: Error) {
        let Some(ticket) = self.in_flight.answered(kind) else { return };
        match kind {
            Kind::Leave | Kind::ConsumerHeartbeat => self.leave_answered(),
            _ if !ticket.live => {}
            // It is asked for nobody's sake but to spare a rebalance.
            Kind::Describe => self.described(now, None),
            _ if matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::Authorization | ErrorKind::Authentication
            ) =>
            {
                self.fail(error);
            }
            // The control connection alone says nothing about the group connection, where the request is parked.
            Kind::Probe => self.retry_heartbeat(now),
            Kind::Heartbeat => {
                self.retry_heartbeat(now);
                self.drop_coordinator(now);
            }
            Kind::Join | Kind::Sync => {
                self.join_failed(now, Pace::Backoff);
                self.drop_coordinator(now);
            }
        }
        self.drive(now);
    }

    fn handle_reply(&mut self, now: Timestamp, kind: Kind, reply: Result<Reply, Error>) {
        let Some(ticket) = self.in_flight.answered(kind) else { return };
        match (reply, kind) {
            (_, Kind::Leave | Kind::ConsumerHeartbeat) => self.leave_answered(),
            _ if !ticket.live => {}
            (Ok(Reply::Join(reply)), Kind::Join) => self.join_answered(now, reply),
            (Ok(Reply::Sync(reply)), Kind::Sync) => self.sync_answered(now, &reply),
            (Ok(Reply::Heartbeat(code)), Kind::Heartbeat | Kind::Probe) => {
                self.heartbeat_answered(now, kind, ticket, code);
            }
            (Ok(Reply::Describe(members)), Kind::Describe) => self.described(now, members),
            (Err(_), Kind::Describe) => self.described(now, None),
            (Err(error), Kind::Heartbeat | Kind::Probe) => {
                self.report(error);
                self.retry_heartbeat(now);
            }
            (Err(error), Kind::Join | Kind::Sync) => self.misbehaved(now, error),
            // `Reply::decode` makes no other pairs.
            (Ok(_), _) => {}
        }
        self.drive(now);
    }

    /// The reader exceeded `max_poll_interval`: everything is lost, and the group is left until [`Self::polled`].
    /// A static member does not leave, it only stops its heartbeats (KIP-345).
    pub fn poll_expired(&mut self, now: Timestamp) {
        self.expire(now, true);
    }

    /// The reader of a partition exceeded it: the same, and that reader is told by the end of its partition.
    pub fn partition_expired(&mut self, now: Timestamp) {
        self.expire(now, false);
    }

    fn expire(&mut self, now: Timestamp, report: bool) {
        if matches!(self.state, State::Unsubscribed | State::Leaving { .. } | State::Expired | State::Failed)
        {
            return;
        }
        self.forget_rounds();
        self.send_leave(now, "max_poll_interval was exceeded");
        self.end_generation(self.is_static());
        self.state = State::Expired;
        if report {
            self.actions.push_back(GroupAction::Report(stayed_away(self.config.max_poll_interval)));
        }
        self.drive(now);
    }

    /// The reader is back.
    pub fn polled(&mut self, now: Timestamp) {
        if matches!(self.state, State::Expired) {
            self.unjoined(now, Pace::Now, "the reader is back after max_poll_interval was exceeded");
            self.drive(now);
        }
    }

    /// A commit that carried `generation_sent` was refused with `code`. A member that the group has put out must
    /// stop at once, not at its next heartbeat.
    pub fn commit_refused(&mut self, now: Timestamp, code: ErrorCode, generation_sent: i32) {
        if self.generation != Some(generation_sent) {
            return;
        }
        match reaction(Kind::Heartbeat, code) {
            // The group has moved on and still knows us: the answer to the JoinGroup that is parked, or was lost
            // with its connection, said so. Nobody else has what we claimed in it, and the next one decides.
            Reaction::Reset { keep_member_id: true }
                if matches!(self.state, State::Joining | State::Unjoined) => {}
            Reaction::Reset { .. } if planted!(Zombie) => {}
            Reaction::Reset { keep_member_id } => self.reset(now, keep_member_id, "a commit was refused"),
            Reaction::Rejoin if planted!(CommitLosesAssignment) => {
                let lost = self.assignment.lose_all();
                self.lost(lost);
            }
            Reaction::Rejoin => self.want_rejoin(now, Pace::Now, "a commit met a rebalance"),
            Reaction::Fatal if code == ErrorCode::FencedInstanceId => {
                self.fail(errors::fatal(Kind::Heartbeat, code, &self.config));
            }
            // Everything else is the commit's own business.
            _ => {}
        }
        self.drive(now);
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
        if self.session_runs() {
            next = next.min(self.clock.session);
        }
        if let Some(revocation) = &self.revocation {
            next = next.min(revocation.hard_deadline);
        }
        if self.can_join() {
            next = next.min(self.join_at);
        }
        if self.heartbeat_lane().is_some() {
            next = next.min(self.clock.due);
        }
        (next != Timestamp::NEVER).then_some(next)
    }

    /// How long a request may take before it has failed. `request_timeout` is that of other requests.
    ///
    /// JoinGroup is parked for as long as the members have to join, and SyncGroup for as long as the leader
    /// computes; five seconds more are for the way. An answer to a heartbeat that is older than the session is
    /// of no use.
    pub fn request_timeout(&self, kind: Kind, request_timeout: Duration) -> Duration {
        match kind {
            Kind::Join | Kind::Sync => {
                request_timeout.max(self.config.rebalance_timeout.saturating_add(PARKED_REQUEST_SLACK))
            }
            Kind::Heartbeat | Kind::Probe => request_timeout.min(self.config.session_timeout),
            Kind::Leave | Kind::Describe | Kind::ConsumerHeartbeat => request_timeout,
        }
    }

    /// What commits carry; `None` without a generation.
    pub fn identity(&self) -> Option<GroupIdentity> {
        Some(GroupIdentity {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation?,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
        })
    }

    /// Whether the coordinator takes commits: not between the answers to JoinGroup and SyncGroup, and not
    /// without a generation. While JoinGroup is parked it takes them with the present one.
    pub fn may_commit(&self) -> bool {
        let blocked = matches!(self.state, State::Revoking) && planted!(CommitWaitsForJoin);
        self.generation.is_some() && !matches!(self.state, State::Syncing(_)) && !blocked
    }

    /// What is owned, what is being revoked included.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        self.assignment.owned()
    }

    /// Where the member stands.
    pub fn state(&self) -> GroupState {
        match self.state {
            State::Unsubscribed => GroupState::Unsubscribed,
            State::Unjoined => GroupState::Unjoined,
            State::Joining => GroupState::Joining,
            State::Syncing(_) => GroupState::Syncing,
            State::Stable => GroupState::Stable,
            State::Revoking => GroupState::Revoking,
            State::Leaving { .. } => GroupState::Leaving,
            State::Expired => GroupState::Expired,
            State::Failed => GroupState::Failed,
        }
    }

    /// Whether the coordinator chose this member to compute the assignment.
    pub fn is_leader(&self) -> bool {
        self.leadership.is_some()
    }

    /// The assignor that the group picked, once it did.
    pub fn protocol_name(&self) -> Option<&str> {
        (!self.protocol_name.is_empty()).then_some(self.protocol_name.as_str())
    }
}
