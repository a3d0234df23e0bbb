//! Who owned a partition when its records were handed out, and the token that says so.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::ledger::Signals;
use super::{Key, Shared};
use crate::{LeaderEpoch, OwnershipEpoch, TopicPartition};

/// One ownership: from an assignment or a seek to the next seek, the revocation or the loss.
pub(super) struct Ownership {
    pub(super) topic_partition: TopicPartition,
    pub(super) key: Key,
    pub(super) epoch: OwnershipEpoch,
    pub(super) shared: Weak<Shared>,
    pub(super) signals: Arc<Signals>,
    ended: AtomicBool,
}

impl Ownership {
    pub(super) fn new(
        topic_partition: TopicPartition,
        key: Key,
        epoch: OwnershipEpoch,
        shared: Weak<Shared>,
        signals: Arc<Signals>,
    ) -> Self {
        Self { topic_partition, key, epoch, shared, signals, ended: AtomicBool::new(false) }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ownership({} epoch {}, alive: {})", self.topic_partition, self.epoch, self.is_alive())
    }
}

/// Says that a record, or a batch, was processed, and by whose right.
///
/// It holds the partition, the next offset, the leader epoch and the *ownership epoch*: once the partition was
/// revoked, lost or sought the token is refused with `NotOwned` and nothing is sent, so a late commit cannot
/// rewind the work of a new owner. A rebalance that keeps the partition does not touch it.
///
/// Committing is *cumulative*: everything of the partition up to and including the record. [`mark`](Self::mark)
/// acknowledges *one* record or batch. Dropping a token does nothing.
#[derive(Clone)]
pub struct CommitToken {
    pub(super) ownership: Arc<Ownership>,
    /// What a mark acknowledges: from behind the record before it …
    pub(super) from: i64,
    /// … to the offset that a commit writes down.
    pub(super) next: i64,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    pub(super) metadata: Option<Arc<str>>,
}

impl CommitToken {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.ownership.topic_partition
    }

    /// The offset that a commit writes down: the next one to be read.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// The leader epoch of the record before [`next_offset`](Self::next_offset), if the broker told one
    /// (KIP-320).
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.leader_epoch
    }

    /// The ownership that the record was handed out under.
    pub fn ownership_epoch(&self) -> OwnershipEpoch {
        self.ownership.epoch
    }

    /// The text that is committed along with the offset.
    pub fn metadata(&self) -> Option<&str> {
        self.metadata.as_deref()
    }

    /// With a text that is committed along with the offset and comes back with it. It has no effect on
    /// [`mark`](Self::mark), which shares its commits with other records.
    #[must_use]
    pub fn with_metadata(mut self, metadata: impl Into<Arc<str>>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// Whether the partition is still owned as it was when the record was handed out.
    pub fn is_owned(&self) -> bool {
        self.ownership.is_alive()
    }

    /// Acknowledges exactly this record, or exactly this batch. Sends nothing by itself and never waits.
    ///
    /// Only the gap-free prefix of what was acknowledged is committed, over the records that were handed out:
    /// offsets without a record are no gap. With `Commit::Manual` the delivery of the partition pauses when
    /// `max_unmarked` records were handed out beyond a gap. After a seek, a revocation or a loss a mark has no
    /// effect.
    pub fn mark(&self) {
        if let Some(shared) = self.ownership.shared.upgrade() {
            shared.lock().mark(self);
        }
    }
}

impl fmt::Debug for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitToken")
            .field("topic_partition", &self.ownership.topic_partition)
            .field("next_offset", &self.next)
            .field("leader_epoch", &self.leader_epoch)
            .field("ownership_epoch", &self.ownership.epoch)
            .field("metadata", &self.metadata)
            .finish()
    }
}
