//! A member of a group, whichever protocol it speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::classic::GroupState;
use super::consumer::ConsumerState;
use super::{
    ClassicGroup, ConsumerGroup, GroupAction, GroupIdentity, GroupRequestKind as Kind, GroupVersions, JobId,
};
use crate::assignor::{ClusterTopics, GroupAssignment};
use crate::config::{GroupConfig, GroupProtocol};
use crate::{Error, ErrorKind, Rng, Timestamp, TopicId, TopicPartition};

/// First version of ConsumerGroupHeartbeat in which members make their own ids (KIP-1082): Kafka 4.0.
const CONSUMER_HEARTBEAT: i16 = 1;

/// What a coordinator offers.
#[derive(Clone, Debug)]
pub struct Offers {
    /// The versions of the classic protocol, or why it cannot be spoken.
    pub classic: Result<GroupVersions, Error>,
    /// The highest version of ConsumerGroupHeartbeat, if any.
    pub consumer: Option<i16>,
    /// The level of the feature `group.version`; 0: consumer groups are off.
    pub group_version: i16,
}

#[derive(Debug)]
enum Member {
    Classic(Box<ClassicGroup>),
    Consumer(Box<ConsumerGroup>),
}

/// How a classic member is made of one that has not decided yet.
#[derive(Debug)]
struct Undecided {
    config: GroupConfig,
    client_rack: Option<String>,
    retry_backoff: (Duration, Duration),
    rng: Rng,
}

/// A member of a group.
#[derive(Debug)]
pub struct Group {
    member: Member,
    /// `auto`, before the first join.
    undecided: Option<Undecided>,
    /// What the coordinator offered last.
    offers: Option<Offers>,
}

/// Calls the machine, whichever it is.
macro_rules! either {
    ($self:expr, $group:ident => $call:expr) => {
        match $self {
            Member::Classic($group) => $call,
            Member::Consumer($group) => $call,
        }
    };
}

impl Group {
    /// A member without a subscription. `retry_backoff`: the first and the longest wait before a failed request is
    /// sent again.
    pub fn new(
        config: GroupConfig,
        client_rack: Option<String>,
        retry_backoff: (Duration, Duration),
        mut rng: Rng,
    ) -> Self {
        let protocol = config.protocol;
        if protocol == GroupProtocol::Classic {
            let group = ClassicGroup::new(config, client_rack, retry_backoff, rng);
            return Self { member: Member::Classic(Box::new(group)), undecided: None, offers: None };
        }
        let own = rng.split();
        let mut group = ConsumerGroup::new(config.clone(), client_rack.clone(), retry_backoff, own);
        let undecided = (protocol == GroupProtocol::Auto).then(|| {
            group.allow_fallback();
            Undecided { config, client_rack, retry_backoff, rng }
        });
        Self { member: Member::Consumer(Box::new(group)), undecided, offers: None }
    }

    /// Whether it speaks the consumer protocol (KIP-848), as far as is decided.
    pub fn is_consumer(&self) -> bool {
        matches!(self.member, Member::Consumer(_))
    }

    /// See [`ClassicGroup::subscribe`] and [`ConsumerGroup::subscribe`].
    pub fn subscribe(&mut self, now: Timestamp, topics: BTreeSet<String>) {
        either!(&mut self.member, g => g.subscribe(now, topics));
    }

    /// Subscribes to the topics that a regular expression matches. Only a coordinator of the consumer protocol does the
    /// matching: a classic member is told the topics by [`subscribe`](Self::subscribe).
    pub fn subscribe_pattern(&mut self, now: Timestamp, pattern: &str) {
        match &mut self.member {
            Member::Classic(_) => {}
            Member::Consumer(group) => group.subscribe_pattern(now, pattern),
        }
    }

    /// Whether it has been assigned this topic and does not know its name.
    pub fn waits_for_name(&self, id: TopicId) -> bool {
        matches!(&self.member, Member::Consumer(group) if group.waits_for_name(id))
    }

    /// The coordinator is connected and offers this.
    ///
    /// # Errors
    /// It does not offer the protocol.
    pub fn coordinator_known(&mut self, now: Timestamp, offers: Offers) -> Result<(), Error> {
        let offered = offers.consumer.is_some_and(|version| version >= CONSUMER_HEARTBEAT);
        self.offers = Some(offers.clone());
        if let Member::Consumer(group) = &mut self.member {
            if offered && (self.undecided.is_none() || offers.group_version > 0) {
                group.coordinator_known(now);
                return Ok(());
            }
            if self.undecided.is_none() {
                let text = "the broker does not offer the consumer protocol (KIP-848), it needs Kafka 4.0 or later: upgrade the brokers, or set group_protocol to classic or auto";
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            let why =
                if offered { "the feature group.version is off" } else { "the broker is older than 4.0" };
            self.become_classic(now, why, Some(offers.classic?));
        } else if let Member::Classic(group) = &mut self.member {
            group.coordinator_known(now, offers.classic?);
        }
        Ok(())
    }

    /// `versions`: what the coordinator, who is connected, has of the classic protocol.
    fn become_classic(&mut self, now: Timestamp, why: &str, versions: Option<GroupVersions>) {
        let (Some(undecided), Member::Consumer(before)) = (self.undecided.take(), &self.member) else {
            return;
        };
        let Undecided { config, client_rack, retry_backoff, rng } = undecided;
        tracing::info!(group = %config.group_id, why, "the classic group protocol is used");
        let subscription = before.subscription().clone();
        let left = before.waits_for_left();
        let mut group = ClassicGroup::new(config, client_rack, retry_backoff, rng);
        // First, or it would look for the coordinator.
        if let Some(versions) = versions {
            group.coordinator_known(now, versions);
        }
        // Whoever waits for the end of the subscription waits on.
        if !subscription.is_empty() || left {
            group.subscribe(now, subscription);
        }
        self.member = Member::Classic(Box::new(group));
    }

    /// After an answer: a coordinator that does not want a member of the consumer protocol gets a classic one; one
    /// that has taken it has decided.
    fn decide(&mut self, now: Timestamp) {
        let Member::Consumer(group) = &mut self.member else { return };
        if let Some(code) = group.take_fallback() {
            let versions = self.offers.as_ref().and_then(|o| o.classic.as_ref().ok()).copied();
            self.become_classic(now, code.name(), versions);
        } else if group.identity().is_some()
            && let Some(undecided) = self.undecided.take()
        {
            tracing::info!(group = %undecided.config.group_id, "the consumer group protocol (KIP-848) is used");
        }
    }

    /// See [`ClassicGroup::coordinator_lost`].
    pub fn coordinator_lost(&mut self, now: Timestamp) {
        either!(&mut self.member, g => g.coordinator_lost(now));
    }

    /// The answer to the oldest outstanding request of `kind`. `body` is hostile.
    pub fn handle_response(&mut self, now: Timestamp, kind: Kind, version: i16, body: &[u8]) {
        match &mut self.member {
            Member::Consumer(group) if kind == Kind::ConsumerHeartbeat => {
                group.handle_response(now, version, body);
                self.decide(now);
            }
            Member::Classic(group) if kind != Kind::ConsumerHeartbeat => {
                group.handle_response(now, kind, version, body);
            }
            // An answer to who this was before.
            _ => {}
        }
    }

    /// The oldest outstanding request of `kind` has no answer.
    pub fn handle_failure(&mut self, now: Timestamp, kind: Kind, error: Error) {
        match &mut self.member {
            Member::Consumer(group) if kind == Kind::ConsumerHeartbeat => group.handle_failure(now, error),
            Member::Classic(group) if kind != Kind::ConsumerHeartbeat => {
                group.handle_failure(now, kind, error)
            }
            _ => {}
        }
    }

    /// See [`ClassicGroup::leave`] and [`ConsumerGroup::leave`].
    pub fn leave(&mut self, now: Timestamp, reason: &str) {
        match &mut self.member {
            Member::Classic(group) => group.leave(now, reason),
            Member::Consumer(group) => group.leave(now),
        }
    }

    /// See [`ClassicGroup::poll_expired`] and [`ConsumerGroup::poll_expired`].
    pub fn poll_expired(&mut self, now: Timestamp) {
        either!(&mut self.member, g => g.poll_expired(now));
    }

    /// See [`ClassicGroup::partition_expired`] and [`ConsumerGroup::partition_expired`].
    pub fn partition_expired(&mut self, now: Timestamp) {
        either!(&mut self.member, g => g.partition_expired(now));
    }

    /// The reader is back.
    pub fn polled(&mut self, now: Timestamp) {
        either!(&mut self.member, g => g.polled(now));
    }

    /// Whether it waits for the reader to be back.
    pub fn is_expired(&self) -> bool {
        match &self.member {
            Member::Classic(group) => group.state() == GroupState::Expired,
            Member::Consumer(group) => group.state() == ConsumerState::Stale,
        }
    }

    /// A commit that carried `generation_sent` was refused with `code`.
    pub fn commit_refused(&mut self, now: Timestamp, code: ottla_wire::ErrorCode, generation_sent: i32) {
        either!(&mut self.member, g => g.commit_refused(now, code, generation_sent));
    }

    /// `partitions` were given back and committed, or their time is over.
    pub fn revocation_finished<'a>(
        &mut self,
        now: Timestamp,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) {
        either!(&mut self.member, g => g.revocation_finished(now, partitions));
    }

    /// The result of [`GroupAction::Compute`].
    pub fn assignment_computed(&mut self, now: Timestamp, job: JobId, assignment: &GroupAssignment) {
        if let Member::Classic(group) = &mut self.member {
            group.assignment_computed(now, job, assignment);
        }
    }

    /// What metadata says of the topics of [`GroupAction::WantMetadata`].
    pub fn metadata_changed(&mut self, now: Timestamp, topics: &ClusterTopics, unknown: &BTreeSet<String>) {
        if let Member::Classic(group) = &mut self.member {
            group.metadata_changed(now, topics, unknown);
        }
    }

    /// The topics that metadata knows, by id.
    pub fn topic_names(&mut self, now: Timestamp, known: &BTreeMap<TopicId, Arc<str>>) {
        if let Member::Consumer(group) = &mut self.member {
            group.topic_names(now, known.iter().map(|(id, name)| (*id, name.clone())));
        }
    }

    /// Whether it has been assigned a topic whose name is not known.
    pub fn waits_for_names(&self) -> bool {
        matches!(&self.member, Member::Consumer(group) if group.waits_for_names())
    }

    /// A spurious call is a no-op.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        either!(&mut self.member, g => g.handle_timeout(now));
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<GroupAction> {
        either!(&mut self.member, g => g.poll_action())
    }

    /// Whether [`Self::poll_action`] has something to give.
    pub fn has_actions(&self) -> bool {
        either!(&self.member, g => g.has_actions())
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        either!(&self.member, g => g.next_timeout())
    }

    /// How long a request may take before it has failed.
    pub fn request_timeout(&self, kind: Kind, request_timeout: Duration) -> Duration {
        match &self.member {
            Member::Classic(group) => group.request_timeout(kind, request_timeout),
            Member::Consumer(group) => group.request_timeout(request_timeout),
        }
    }

    /// What commits carry; `None` without a membership.
    pub fn identity(&self) -> Option<GroupIdentity> {
        either!(&self.member, g => g.identity())
    }

    /// Whether the coordinator takes commits.
    pub fn may_commit(&self) -> bool {
        match &self.member {
            Member::Classic(group) => group.may_commit(),
            Member::Consumer(group) => group.identity().is_some(),
        }
    }

    /// Whether it is on its way to an assignment, or has it; `None` if it is not in the group, or about to leave.
    pub fn is_rebalancing(&self) -> Option<bool> {
        match &self.member {
            Member::Classic(group) => match group.state() {
                GroupState::Unjoined | GroupState::Joining | GroupState::Syncing | GroupState::Revoking => {
                    Some(true)
                }
                GroupState::Stable => Some(false),
                _ => None,
            },
            Member::Consumer(group) => match group.state() {
                ConsumerState::Joining
                | ConsumerState::Reconciling
                | ConsumerState::Acknowledging
                | ConsumerState::Fenced => Some(true),
                ConsumerState::Stable => Some(false),
                _ => None,
            },
        }
    }

    /// Whether it joins with what it owns: the group may be in a generation that it was not told yet.
    pub fn joins(&self) -> bool {
        match &self.member {
            Member::Classic(group) => matches!(group.state(), GroupState::Joining | GroupState::Unjoined),
            // The epoch is told by every heartbeat.
            Member::Consumer(_) => false,
        }
    }

    /// The name of its state, for traces.
    pub fn state_name(&self) -> &'static str {
        match &self.member {
            Member::Classic(group) => group.state().name(),
            Member::Consumer(group) => group.state().name(),
        }
    }
}
