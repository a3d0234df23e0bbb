//! What the core needs to know; `ottla::Builder` documents each setting for users and checks the values.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::assignor::{Assignor, OwnAssignor, RebalanceProtocol};

/// The configuration of one client.
#[derive(Clone, Debug)]
pub struct Config {
    /// Told to brokers in every request.
    pub client_id: String,
    /// Where to begin: host and port.
    pub bootstrap: Vec<(String, u16)>,
    /// The group, if there is one.
    pub group: Option<GroupConfig>,
    /// Where to begin without a committed offset, or when the offset is confirmed out of range.
    pub auto_offset_reset: OffsetReset,
    /// The same for single topics.
    pub auto_offset_reset_of: BTreeMap<String, OffsetReset>,
    /// How offsets are committed.
    pub commit: CommitMode,
    /// Besides the interval: what is done, or marked, is committed whenever it is so many records.
    pub commit_records: Option<usize>,
    /// Whether records of transactions that are open or aborted are handed out.
    pub isolation_level: IsolationLevel,
    /// Whether each batch's CRC is verified.
    pub check_crcs: bool,
    /// The rack the client is in, told to brokers (KIP-392) and to the group's leader (KIP-881).
    pub client_rack: Option<String>,
    /// Whether an unknown topic may be created by asking for its metadata.
    pub allow_auto_create_topics: bool,
    /// Whether patterns leave out the topics that brokers call internal.
    pub exclude_internal_topics: bool,
    /// Whether an event says that a partition was read to its end.
    pub partition_eof: bool,
    /// Whether events tell of throttling, and of all brokers being down.
    pub broker_events: bool,
    /// Bound of the byte ledger: fetched frames and decompressed data.
    pub max_buffered_bytes: usize,
    /// How many threads run the jobs of `delivery` that decode compressed batches ahead of the reader.
    pub decode_threads: usize,
    /// Most records in one `Batch`.
    pub max_batch_records: usize,
    /// Most bytes that one batch of the wire may decompress to.
    pub max_decompressed_batch_bytes: usize,
    /// Largest frame accepted from a broker.
    pub max_frame_bytes: usize,
    /// Manual commits: how far delivery may run ahead of the oldest record that is not marked.
    pub max_unmarked: usize,
    /// Manual commits: time between two commits of what is marked.
    pub marks_interval: Duration,
    /// Fetch: answer only when this many bytes are there …
    pub fetch_min_bytes: i32,
    /// … or this time is over.
    pub fetch_max_wait: Duration,
    /// Fetch: most bytes in one response (soft: the first batch always comes). However few they are, nothing is
    /// fetched while there is room for less than 64 KiB.
    pub fetch_max_bytes: i32,
    /// Fetch: most bytes of one partition in one response (soft).
    pub max_partition_fetch_bytes: i32,
    /// A request without an answer for this long fails and closes its connection.
    pub request_timeout: Duration,
    /// Connecting and negotiating may take this long.
    pub connection_setup_timeout: Duration,
    /// First and longest wait before a broker is connected to again.
    pub reconnect_backoff: (Duration, Duration),
    /// First and longest wait before a failed request is sent again.
    pub retry_backoff: (Duration, Duration),
    /// Metadata is asked for anew after this long.
    pub metadata_max_age: Duration,
    /// Without metadata for this long, although asked for, it begins anew at `bootstrap` (KIP-1102).
    pub metadata_recovery_rebootstrap_trigger: Duration,
    /// Budget of a query or a commit, retries included.
    pub default_api_timeout: Duration,
}

/// The group side of the configuration.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.id`.
    pub group_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// Without a heartbeat for this long the coordinator takes the member for dead.
    pub session_timeout: Duration,
    /// How often a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// How long the group waits for members to rejoin.
    pub rebalance_timeout: Duration,
    /// How long the reader may stay away while something is there for it. `None`: for ever.
    pub max_poll_interval: Option<Duration>,
    /// How long a revocation waits for work in hand.
    pub revoke_timeout: Duration,
    /// In order of preference.
    pub assignors: Vec<Assignor>,
    /// The user's own, which are preferred to `assignors`.
    pub own_assignors: Vec<OwnAssignor>,
    /// Which protocol the member speaks.
    pub protocol: GroupProtocol,
    /// The assignor that the coordinator is asked to use (KIP-848). `None`: its default.
    pub remote_assignor: Option<String>,
    /// Whether a static member leaves the group on close too.
    pub leave_on_close: bool,
}

/// Which protocol the members of a group speak (Kafka: `group.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// JoinGroup: the members' leader assigns. Every broker has it.
    Classic,
    /// KIP-848: the coordinator assigns, members that keep what they have never stop. Kafka 4.0 and later.
    Consumer,
    /// [`Consumer`](Self::Consumer) where the brokers offer it and the group is not used by classic members that
    /// have to stay alone, else [`Classic`](Self::Classic). Decided at the first join.
    Auto,
}

/// Where to begin when no offset is known. A log that was truncated (KIP-320) is read on from where it parts from what
/// was read, unless this is [`Error`](Self::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// Nowhere: it is an error. A log that was truncated is `DataLoss`.
    Error,
    /// At the first record that is not older than this (KIP-1106).
    ByDuration(Duration),
}

/// Which records of transactions are handed out (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All of them.
    ReadUncommitted,
    /// Only those of committed transactions, up to the last stable offset.
    ReadCommitted,
}

/// How offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitMode {
    /// What is done, every `interval`, on revocation and on close.
    Auto {
        /// Time between two commits.
        interval: Duration,
    },
    /// What the user commits or marks.
    Manual,
    /// Nothing: the user keeps the offsets, in the same transaction as the results perhaps, and says where each
    /// partition begins when it is assigned. Nothing of it is fetched before.
    External,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: "ottla".to_owned(),
            bootstrap: Vec::new(),
            group: None,
            auto_offset_reset: OffsetReset::Earliest,
            auto_offset_reset_of: BTreeMap::new(),
            commit: CommitMode::Auto { interval: Duration::from_secs(5) },
            commit_records: None,
            isolation_level: IsolationLevel::ReadUncommitted,
            check_crcs: true,
            client_rack: None,
            allow_auto_create_topics: false,
            exclude_internal_topics: true,
            partition_eof: false,
            broker_events: false,
            max_buffered_bytes: 64 << 20,
            decode_threads: 0,
            max_batch_records: 10_000,
            max_decompressed_batch_bytes: 128 << 20,
            max_frame_bytes: 100 << 20,
            max_unmarked: 100_000,
            marks_interval: Duration::from_secs(5),
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 1 << 20,
            max_partition_fetch_bytes: 1 << 20,
            request_timeout: Duration::from_secs(30),
            connection_setup_timeout: Duration::from_secs(10),
            reconnect_backoff: (Duration::from_millis(50), Duration::from_secs(1)),
            retry_backoff: (Duration::from_millis(100), Duration::from_secs(1)),
            metadata_max_age: Duration::from_secs(300),
            metadata_recovery_rebootstrap_trigger: Duration::from_secs(300),
            default_api_timeout: Duration::from_secs(60),
        }
    }
}

impl GroupConfig {
    /// The names of the assignors, in order of preference.
    pub fn assignor_names(&self) -> Vec<String> {
        let own = self.own_assignors.iter().map(OwnAssignor::name);
        own.chain(self.assignors.iter().map(|a| a.name().to_owned())).collect()
    }

    /// How partitions change hands: one eager assignor makes the member eager, as in Java (KIP-429), for it cannot know
    /// beforehand which of them the group picks.
    pub(crate) fn rebalance_protocol(&self) -> RebalanceProtocol {
        let own = self.own_assignors.iter().map(OwnAssignor::protocol);
        let mut all = own.chain(self.assignors.iter().map(|a| a.protocol()));
        match all.any(|protocol| protocol == RebalanceProtocol::Eager) {
            true => RebalanceProtocol::Eager,
            false => RebalanceProtocol::Cooperative,
        }
    }

    /// The defaults for the group `group_id`.
    pub fn new(group_id: impl Into<String>) -> Self {
        Self {
            group_id: group_id.into(),
            group_instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(300),
            max_poll_interval: Some(Duration::from_secs(300)),
            revoke_timeout: Duration::from_secs(60),
            assignors: vec![Assignor::CooperativeSticky],
            own_assignors: Vec::new(),
            protocol: GroupProtocol::Classic,
            remote_assignor: None,
            leave_on_close: false,
        }
    }
}

impl Config {
    /// Where to begin with a topic when no offset is known.
    pub(crate) fn offset_reset(&self, topic: &str) -> OffsetReset {
        self.auto_offset_reset_of.get(topic).copied().unwrap_or(self.auto_offset_reset)
    }

    /// Time between two commits of what is done or marked.
    pub(crate) fn commit_interval(&self) -> Duration {
        match self.commit {
            CommitMode::Auto { interval } => interval,
            CommitMode::Manual | CommitMode::External => self.marks_interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_an_interval_of_their_own() {
        let every = Duration::from_secs;
        let auto = Config {
            commit: CommitMode::Auto { interval: every(1) },
            marks_interval: every(2),
            ..Config::default()
        };
        assert_eq!(auto.commit_interval(), every(1));
        assert_eq!(Config { commit: CommitMode::Manual, ..auto }.commit_interval(), every(2));
    }
}
