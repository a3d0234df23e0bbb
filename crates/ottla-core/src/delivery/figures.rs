//! What was handed out, and how each partition stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Delivery;
use super::queue::Segment;
use super::token::Ownership;
use crate::snapshot::{PartitionSnapshot, TopicSnapshot};
use crate::{ErrorKind, Timestamp};

/// Of so many topics it is remembered what was read of partitions that are not owned any more.
const MAX_TOPICS: usize = 1024;

/// What was read: of a partition in one ownership, or of all since the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consumed {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Consumed {
    fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What is counted beyond that, and seldom.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    /// What was read of a topic in ownerships that are over.
    past: BTreeMap<Arc<str>, Consumed>,
    /// Errors that the reader was told of.
    errors: BTreeMap<ErrorKind, u64>,
}

impl Tallies {
    fn past(&mut self, topic: &Arc<str>, consumed: Consumed) {
        if let Some(past) = self.past.get_mut(topic) {
            past.add(consumed);
        } else if self.past.len() < MAX_TOPICS {
            self.past.insert(Arc::clone(topic), consumed);
        }
    }

    pub(super) fn told(&mut self, kind: ErrorKind) {
        *self.errors.entry(kind).or_default() += 1;
    }
}

impl Delivery {
    pub(super) fn count_records(&mut self, ownership: &Ownership, count: usize) {
        let records = u64::try_from(count).unwrap_or(u64::MAX);
        self.consumed.records = self.consumed.records.saturating_add(records);
        match self.partitions.get_mut(&ownership.key) {
            Some(p) => p.consumed.records = p.consumed.records.saturating_add(records),
            None => {
                let consumed = Consumed { records, bytes: 0 };
                self.tallies.past(ownership.topic_partition.topic_arc(), consumed);
            }
        }
    }

    /// An ownership is over: what was read in it stays counted.
    pub(super) fn count_past(&mut self, ownership: &Ownership, consumed: Consumed) {
        if consumed.records > 0 || consumed.bytes > 0 {
            self.tallies.past(ownership.topic_partition.topic_arc(), consumed);
        }
    }

    /// What was read of each topic since the beginning.
    pub fn topic_snapshots(&self) -> Vec<TopicSnapshot> {
        let mut topics: BTreeMap<&str, Consumed> =
            self.tallies.past.iter().map(|(topic, consumed)| (&**topic, *consumed)).collect();
        for p in self.partitions.values() {
            topics.entry(p.ownership.topic_partition.topic()).or_default().add(p.consumed);
        }
        let snapshot = |(topic, consumed): (&str, Consumed)| TopicSnapshot {
            topic: topic.to_owned(),
            records: consumed.records,
            bytes: consumed.bytes,
        };
        topics.into_iter().map(snapshot).collect()
    }

    /// How many errors of each kind the reader was told of.
    pub fn errors_told(&self) -> Vec<(ErrorKind, u64)> {
        self.tallies.errors.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    /// Records that were handed out and bytes that were fetched, of all partitions since the beginning.
    ///
    /// Records that are handed out one at a time are counted when the batch that they come from is through, or when
    /// the reader leaves it.
    pub fn consumed(&self) -> (u64, u64) {
        (self.consumed.records, self.consumed.bytes)
    }

    /// How many partitions are owned.
    pub fn owned_count(&self) -> usize {
        self.index.len()
    }

    /// For how long something waits for the reader that does not come.
    pub fn since_read(&self, now: Timestamp) -> Option<Duration> {
        self.clock.running().flatten().map(|since| now.since(since))
    }

    /// How the owned partitions stand. Who leads them is not known here.
    pub fn partition_snapshots(&self) -> Vec<PartitionSnapshot> {
        let snapshot = |(tp, key)| {
            let p = self.partitions.get(key)?;
            Some(PartitionSnapshot {
                topic_partition: Clone::clone(tp),
                leader: None,
                leader_epoch: None,
                position: self.position(tp),
                committed: p.committed,
                watermarks: p.watermarks,
                lag: self.lag(tp),
                paused: p.paused.is_some(),
                buffered_bytes: p.queued_bytes,
                buffered_records: p.queue.iter().map(Segment::records).sum(),
                records: p.consumed.records,
                bytes: p.consumed.bytes,
            })
        };
        self.index.iter().filter_map(snapshot).collect()
    }
}
