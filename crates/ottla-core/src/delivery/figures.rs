//! What was handed out, and how each partition stands.

use std::time::Duration;

use super::{Delivery, Key};
use crate::Timestamp;
use crate::snapshot::PartitionSnapshot;

/// What was read: of a partition in one ownership, or of all since the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Consumed {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Delivery {
    pub(super) fn count_records(&mut self, key: Key, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.consumed.records = self.consumed.records.saturating_add(count);
        if let Some(p) = self.partitions.get_mut(&key) {
            p.consumed.records = p.consumed.records.saturating_add(count);
        }
    }

    /// Records that were handed out and bytes that were fetched, of all partitions since the beginning.
    ///
    /// Records that are handed out one at a time are counted when the batch that they come from is through, or when
    /// the reader leaves it.
    pub fn consumed(&self) -> (u64, u64) {
        (self.consumed.records, self.consumed.bytes)
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
                records: p.consumed.records,
                bytes: p.consumed.bytes,
            })
        };
        self.index.iter().filter_map(snapshot).collect()
    }
}
