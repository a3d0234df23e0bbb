//! The client: connections, metadata, group, positions, fetches and commits under one owner.
//!
//! Every input ends in `Client::advance`, which hands events to the part that they concern and lets each part
//! send what it has to send, until nothing moves any more. What comes out is drained by the driver.

mod admin;
mod advance;
mod anybody;
mod close;
mod commands;
mod coordinator;
mod figures;
mod group;
mod interface;
mod pattern;
mod positions;
mod responses;
#[cfg(test)]
mod tests;
mod truncation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use ottla_wire::ErrorCode;

pub use interface::{
    Action, Command, CommitItem, CommitResults, CommittedOffset, Offset, Outcome, TimerReason,
};

use crate::admin::{AdminTag, Calls};
use crate::assignor::GroupAssignment;
use crate::cluster::{Cluster, Refresh};
use crate::config::Config;
use crate::connection::Network;
use crate::delivery;
use crate::fetch::{Fetcher, Replicas};
use crate::group::{Group, GroupRequestKind, JobId};
use crate::offsets::{
    CommitQueue, CommittedLookups, CommittedTag, LookupTag, Lookups, ValidationTag, Validations,
};
use crate::planted::planted;
use crate::{CommandId, ConnectionId, Error, Rng, Timestamp, TopicPartition};
use anybody::Helpless;
use close::Closing;
use commands::Pending;
use coordinator::Coordinator;
use figures::Figures;
pub use figures::{Observation, Timed};
use pattern::Matching;

/// What an answer is an answer to.
#[derive(Debug)]
enum Tag {
    Metadata {
        /// What was to be told of.
        topics: BTreeSet<Arc<str>>,
        /// All others were asked for, too.
        all: bool,
    },
    FindCoordinator,
    Group(GroupRequestKind),
    /// The member is over; what the group uses goes into its error.
    DescribeGroup,
    OffsetFetch(CommittedTag),
    OffsetCommit,
    ListOffsets(LookupTag),
    OffsetForLeaderEpoch(ValidationTag),
    Fetch,
    Admin(AdminTag),
}

/// How partitions come to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing is read.
    Idle,
    /// The group decides.
    Subscribed,
    /// The user decides.
    Assigned,
}

/// A Kafka consumer as a state machine: see the crate's documentation for the contract of its driver.
pub struct Client {
    config: Config,
    delivery: Arc<delivery::Shared>,
    unix_millis_at_zero: i64,
    network: Network<Tag>,
    cluster: Cluster,
    refresh: Refresh,
    /// Since when metadata has been asked for in vain.
    unanswered_since: Option<Timestamp>,
    coordinator: Coordinator,
    helpless: Helpless,
    group: Option<Group>,
    mode: Mode,
    /// Topics that the group's leader needs beyond its own.
    leader_topics: Vec<String>,
    subscription: BTreeSet<String>,
    /// What decides about `subscription`, or what the coordinator matches.
    pattern: Option<Matching>,
    /// The generation of the delivery for which the topics to know were last put together, unless what else they
    /// come from may have changed since.
    topics_as_of: Option<u64>,
    /// How many partitions each topic had when it was first looked at; 0 if it did not exist.
    first_seen: BTreeMap<Arc<str>, usize>,
    /// Topics whose refusal the user was told of.
    refused: BTreeMap<Arc<str>, ErrorCode>,
    lookups: Lookups,
    validations: Validations,
    committed: Option<CommittedLookups>,
    commits: CommitQueue,
    fetcher: Fetcher,
    replicas: Replicas,
    commands: BTreeMap<CommandId, Pending>,
    /// What administrators ask for; their deadlines are in `commands`.
    admin: Calls,
    revoking: BTreeMap<delivery::RevocationId, Vec<TopicPartition>>,
    /// Partitions of a subscription that was given up, until their last commit is through.
    given_up: Vec<TopicPartition>,
    next_auto_commit: Timestamp,
    /// Something has to be committed at once, and an automatic commit is under way.
    commit_again: bool,
    closing: Closing,
    figures: Figures,
    actions: VecDeque<Action>,
    outcomes: VecDeque<(CommandId, Outcome)>,
    rng: Rng,
    /// The last input's time: outputs that depend on time are drained right after it.
    now: Timestamp,
    /// The contract with the driver, checked in debug builds.
    drained: bool,
}

impl Client {
    /// A client that is decided by its arguments and inputs alone.
    ///
    /// `unix_millis_at_zero` is the wall clock at [`Timestamp::ZERO`], for resets by duration. `seed` decides what
    /// is random: only tests fix it.
    pub fn new(
        config: Config,
        delivery: Arc<delivery::Shared>,
        seed: u64,
        now: Timestamp,
        unix_millis_at_zero: i64,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let backoff = config.retry_backoff;
        let group =
            config.group.clone().map(|g| Group::new(g, config.client_rack.clone(), backoff, rng.split()));
        let committed =
            config.group.as_ref().map(|g| CommittedLookups::new(g.group_id.clone(), backoff, rng.split()));
        let mut client = Self {
            delivery,
            unix_millis_at_zero,
            network: Network::new(&config, rng.split()),
            cluster: Cluster::default(),
            refresh: Refresh::new(config.metadata_max_age, backoff),
            unanswered_since: None,
            coordinator: Coordinator::new(backoff),
            helpless: Helpless::default(),
            group,
            mode: Mode::Idle,
            leader_topics: Vec::new(),
            subscription: BTreeSet::new(),
            pattern: None,
            topics_as_of: None,
            first_seen: BTreeMap::new(),
            refused: BTreeMap::new(),
            lookups: Lookups::new(config.isolation_level, backoff, rng.split()),
            committed,
            commits: CommitQueue::new(backoff, rng.split()),
            fetcher: Fetcher::new(&config, rng.split()),
            commands: BTreeMap::new(),
            admin: Calls::new(backoff, rng.split()),
            validations: Validations::new(backoff, rng.split()),
            replicas: Replicas::new(&config, rng.split()),
            revoking: BTreeMap::new(),
            given_up: Vec::new(),
            next_auto_commit: now + config.commit_interval(),
            commit_again: false,
            closing: Closing::No,
            figures: Figures::new(now),
            actions: VecDeque::new(),
            outcomes: VecDeque::new(),
            rng,
            now,
            drained: true,
            config,
        };
        client.advance(now);
        client
    }

    /// The transport of `conn` is connected.
    pub fn handle_connected(&mut self, now: Timestamp, conn: ConnectionId) {
        self.network.handle_connected(now, conn);
        self.advance(now);
    }

    /// How many bytes to read from `conn` next at the most, and to reserve for it.
    pub fn read_hint(&self, conn: ConnectionId) -> usize {
        self.network.read_hint(conn)
    }

    /// Bytes arrived: takes the whole frames out of `buf` and leaves the rest in it.
    pub fn handle_bytes(&mut self, now: Timestamp, conn: ConnectionId, buf: &mut BytesMut) {
        // A large answer comes in many pieces, and nothing is to be done before the last one. What is due meanwhile its
        // timer tells.
        if self.network.handle_bytes(now, conn, buf) {
            self.advance(now);
        }
    }

    /// Connecting failed, or the connection broke or was closed by the broker.
    pub fn handle_closed(&mut self, now: Timestamp, conn: ConnectionId, error: Error) {
        self.network.handle_closed(now, conn, error);
        self.advance(now);
    }

    /// Time passed. A spurious call is a no-op.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.network.handle_timeout(now);
        self.advance(now);
    }

    /// The result of an [`Action::Compute`].
    pub fn handle_computed(&mut self, now: Timestamp, job: JobId, assignment: &GroupAssignment) {
        if let Some(group) = &mut self.group {
            group.assignment_computed(now, job, assignment);
        }
        self.advance(now);
    }

    /// The reader changed something in the delivery that concerns us.
    pub fn handle_delivery(&mut self, now: Timestamp) {
        self.advance(now);
    }

    /// A command of the user's; its outcome comes out under the same id, exactly once.
    pub fn command(&mut self, now: Timestamp, id: CommandId, command: Command) {
        self.topics_as_of = None;
        self.begin_command(now, id, command);
        self.advance(now);
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        let action = action.or_else(|| self.network.poll_action(self.now).map(Action::from));
        self.drained = action.is_none();
        action
    }

    /// The next command's outcome.
    pub fn poll_outcome(&mut self) -> Option<(CommandId, Outcome)> {
        self.outcomes.pop_front()
    }

    /// When `handle_timeout` is to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Timestamp, TimerReason)> {
        debug_assert!(self.drained, "drain poll_action before waiting");
        debug_assert!(self.outcomes.is_empty(), "drain poll_outcome before waiting");
        self.next_timeout()
    }

    /// Whether it is all over: nothing comes out any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.closing, Closing::Done) && self.actions.is_empty() && self.outcomes.is_empty()
    }

    /// Where the state machines stand, for traces: the name of each with the name of its state.
    pub fn states(&self) -> [(&'static str, &'static str); 4] {
        let mode = match self.mode {
            Mode::Idle => "Idle",
            Mode::Subscribed => "Subscribed",
            Mode::Assigned => "Assigned",
        };
        let closing = match self.closing {
            Closing::No => "No",
            Closing::Committing(_) => "Committing",
            Closing::Leaving(_) => "Leaving",
            Closing::Done => "Done",
        };
        let group = self.group.as_ref().map_or("None", |g| g.state_name());
        [
            ("group", group),
            ("coordinator", self.coordinator.state_name()),
            ("mode", mode),
            ("closing", closing),
        ]
    }

    /// The wall clock, in milliseconds since 1970.
    fn unix_millis(&self, now: Timestamp) -> i64 {
        let since_zero = i64::try_from(now.as_nanos() / 1_000_000).unwrap_or(i64::MAX);
        self.unix_millis_at_zero.saturating_add(since_zero)
    }

    fn finish_command(&mut self, id: CommandId, outcome: Outcome) {
        let failed = matches!(&outcome, Outcome::Commit(results) if results.iter().any(|(_, r)| r.is_err()));
        if failed && planted!(CommitNeverTold) {
            return;
        }
        self.outcomes.push_back((id, outcome));
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("client_id", &self.config.client_id)
            .field("mode", &self.mode)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
