//! Figures: what a client has done so far and how it stands, put together when somebody asks.
//!
//! Counting costs an addition per request, per fetched partition and per batch that is handed out, never per record.

mod json;

use std::time::Duration;

use crate::delivery::Watermarks;
use crate::{BrokerId, ErrorKind, LeaderEpoch, TopicPartition};

/// How long something took, since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// How often it was measured.
    pub count: u64,
    /// All of it together.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
    /// The latest.
    pub last: Duration,
}

impl Latency {
    /// The mean, or zero if nothing was measured.
    pub fn mean(&self) -> Duration {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
        self.max = self.max.max(took);
        self.last = took;
    }

    /// Those of another, too. Which of the two had the latest is not known.
    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
        self.last = other.last;
    }
}

/// What went to and fro between this client and one broker, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Connections that were begun.
    pub connects: u64,
    /// Connections that ended, those that were not established among them.
    pub disconnects: u64,
    /// Requests that were written, ApiVersions left out.
    pub requests: u64,
    /// Requests that got no answer because their connection ended, or that were overdue.
    pub unanswered: u64,
    /// Bytes that were written, size fields included.
    pub bytes_sent: u64,
    /// Bytes of whole answers, size fields included.
    pub bytes_received: u64,
    /// From the moment a request was handed to its connection until its answer was there. Long polls are among
    /// them: a fetch waits up to `fetch_max_wait` where nothing is new.
    pub latency: Latency,
    /// How long the broker asked to be left alone (KIP-219), all together.
    pub throttled: Duration,
}

impl Traffic {
    pub(crate) fn add(&mut self, other: &Self) {
        self.connects += other.connects;
        self.disconnects += other.disconnects;
        self.requests += other.requests;
        self.unanswered += other.unanswered;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.latency.join(&other.latency);
        self.throttled = self.throttled.saturating_add(other.throttled);
    }
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerSnapshot {
    /// Its id; `None` for an address of the configuration, before metadata told who that is.
    pub id: Option<BrokerId>,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Connections that can be used now, of three at the most.
    pub connected: usize,
    /// Requests that wait for their answer now.
    pub in_flight: usize,
    /// Whether it throttles this client (KIP-219): answers on one of them ask to be left alone, or did within the last
    /// ten seconds.
    pub throttled: bool,
    /// What went to and fro since the broker is known.
    pub traffic: Traffic,
}

/// One owned partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSnapshot {
    /// Which one.
    pub topic_partition: TopicPartition,
    /// The broker that leads it, as far as is known.
    pub leader: Option<BrokerId>,
    /// In this epoch.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The next offset that will be handed out.
    pub position: Option<i64>,
    /// What the group has committed, as far as this ownership knows.
    pub committed: Option<i64>,
    /// What the last fetch said of its log.
    pub watermarks: Watermarks,
    /// Offsets between the position and the end that a read can reach.
    pub lag: Option<i64>,
    /// Whether it is paused.
    pub paused: bool,
    /// Bytes that wait to be handed out.
    pub buffered_bytes: usize,
    /// Records that wait to be handed out, as their batches declare them: with `read_committed` some of them may be
    /// left out.
    pub buffered_records: usize,
    /// Records that were handed out in this ownership.
    pub records: u64,
    /// Bytes of batches that were fetched in this ownership, as they came, compressed ones compressed.
    pub bytes: u64,
}

/// What was read of one topic since the consumer was made, in whichever ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSnapshot {
    /// Its name.
    pub topic: String,
    /// Records that were handed out.
    pub records: u64,
    /// Bytes of batches that were fetched, as they came.
    pub bytes: u64,
}

/// The member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSnapshot {
    /// The group.
    pub group_id: String,
    /// Where the state machine of the member stands, as its documentation names it: for people and logs.
    pub state: &'static str,
    /// The coordinator, if it is known.
    pub coordinator: Option<BrokerId>,
    /// The member's id, once it has one.
    pub member_id: Option<String>,
    /// The generation, or the member epoch (KIP-848), while it is in the group.
    pub generation_id: Option<i32>,
    /// How many generations or member epochs it has been in: each is a rebalance, the first one is the join.
    pub rebalances: u64,
    /// From the moment that the member was on its way to an assignment until it had it, giving back included: one such
    /// time may span several generations, and a generation that changes nothing for this member needs none.
    pub rebalance: Latency,
    /// How long ago the present one began.
    pub since_rebalance: Option<Duration>,
    /// From a heartbeat to its answer.
    pub heartbeat: Latency,
}

/// How a consumer stands, and what it has done since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the client calls itself.
    pub client_id: String,
    /// The wall clock, in milliseconds since 1970.
    pub unix_millis: i64,
    /// How long ago it was made.
    pub age: Duration,
    /// The group, if it is in one.
    pub group: Option<GroupSnapshot>,
    /// The brokers that it knows, by address.
    pub brokers: Vec<BrokerSnapshot>,
    /// Whether none of them can be reached: each was tried in vain since the last connection went.
    pub brokers_down: bool,
    /// What went to and fro since the beginning, with brokers that are not known any more too.
    pub traffic: Traffic,
    /// The topics that were read. Those whose partitions are not owned any more are remembered up to a thousand or so,
    /// so that their sum may be less than `records`.
    pub topics: Vec<TopicSnapshot>,
    /// The partitions that are owned now.
    pub partitions: Vec<PartitionSnapshot>,
    /// Records that were handed out.
    pub records: u64,
    /// Bytes of batches that were fetched, as they came.
    pub bytes: u64,
    /// Bytes that are fetched or decompressed and not handed out.
    pub buffered_bytes: usize,
    /// Bytes of batches and records that were handed out and are still held.
    pub held_bytes: usize,
    /// Since when something waits for the reader and it does not come: `max_poll_interval` bounds it.
    pub since_read: Option<Duration>,
    /// From a fetch to its answer.
    pub fetch: Latency,
    /// From a commit's request to its answer.
    pub commit: Latency,
    /// Requests of commits that the coordinator refused as a whole, or that had no answer. They are sent again where
    /// that is right.
    pub commits_failed: u64,
    /// How many errors the reader was told of, by kind. One that [is fatal](crate::Error::is_fatal) counts once.
    pub errors: Vec<(ErrorKind, u64)>,
}
