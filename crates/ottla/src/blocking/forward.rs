//! What the consumer's async calls do, on a thread that waits for it.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use ottla_core::client::{CommittedOffset, Offset};
use ottla_core::group::GroupIdentity;
use ottla_core::snapshot::Snapshot;
use ottla_core::{CommitError, Error, TopicPartition};

use super::Consumer;
use super::park::block_on;
use crate::IntoCommit;

/// What only waits for the driver and the brokers. What is synchronous is on the [`handle`](Self::handle).
impl Consumer {
    /// Replaces what is subscribed to; see
    /// [`subscribe`](crate::Consumer::subscribe).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        block_on(self.inner.subscribe(topics))
    }

    /// Replaces what is subscribed to by all topics that match; see
    /// [`subscribe_pattern`](crate::Consumer::subscribe_pattern).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn subscribe_pattern(&self, pattern: impl Into<String>) -> Result<(), Error> {
        block_on(self.inner.subscribe_pattern(pattern))
    }

    /// Says where partitions begin that were assigned, with `Commit::External`; see
    /// [`start_at`](crate::Consumer::start_at).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_at(&self, places: impl IntoIterator<Item = (TopicPartition, Offset)>) -> Result<(), Error> {
        block_on(self.inner.start_at(places))
    }

    /// Gives up the subscription and leaves the group, or gives up what was assigned by hand; see
    /// [`unsubscribe`](crate::Consumer::unsubscribe).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn unsubscribe(&self) -> Result<(), Error> {
        block_on(self.inner.unsubscribe())
    }

    /// Reads these partitions, too; see
    /// [`incremental_assign`](crate::Consumer::incremental_assign).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn incremental_assign(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        block_on(self.inner.incremental_assign(partitions))
    }

    /// Does not read these partitions any more; see
    /// [`incremental_unassign`](crate::Consumer::incremental_unassign).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn incremental_unassign<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        block_on(self.inner.incremental_unassign(partitions))
    }

    /// Reads exactly these partitions from these places on, without group management; see
    /// [`assign`](crate::Consumer::assign).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn assign(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        block_on(self.inner.assign(partitions))
    }

    /// Commits offsets: everything of their partitions up to and including what is passed; see
    /// [`commit`](crate::Consumer::commit).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit(&self, what: impl IntoCommit) -> Result<(), CommitError> {
        block_on(self.inner.commit(what))
    }

    /// Commits everything that was handed out, the batch in hand included; see
    /// [`commit_delivered`](crate::Consumer::commit_delivered).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit_delivered(&self) -> Result<(), CommitError> {
        block_on(self.inner.commit_delivered())
    }

    /// Hands out no more records of these partitions; see
    /// [`pause`](crate::Consumer::pause).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn pause<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        block_on(self.inner.pause(partitions))
    }

    /// Hands out records of these partitions again; see
    /// [`resume`](crate::Consumer::resume).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resume<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        block_on(self.inner.resume(partitions))
    }

    /// Moves the position of a partition; see
    /// [`seek`](crate::Consumer::seek).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn seek(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        block_on(self.inner.seek(topic_partition, offset))
    }

    /// The group's committed offsets, asked of the coordinator; see
    /// [`committed`](crate::Consumer::committed).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn committed<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>, Error> {
        block_on(self.inner.committed(partitions))
    }

    /// The offset of the oldest record of each partition; see
    /// [`beginning_offsets`](crate::Consumer::beginning_offsets).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn beginning_offsets<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        block_on(self.inner.beginning_offsets(partitions))
    }

    /// The offset behind the newest record of each partition; see
    /// [`end_offsets`](crate::Consumer::end_offsets).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn end_offsets<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        block_on(self.inner.end_offsets(partitions))
    }

    /// The offset of the first record that is not older than a time, in milliseconds since 1970; see
    /// [`offsets_for_times`](crate::Consumer::offsets_for_times).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        block_on(self.inner.offsets_for_times(times))
    }

    /// The partitions of a topic; none if it does not exist; see
    /// [`partitions_of`](crate::Consumer::partitions_of).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn partitions_of(&self, topic: impl Into<String>) -> Result<Vec<TopicPartition>, Error> {
        block_on(self.inner.partitions_of(topic))
    }

    /// The identity under which this member commits (KIP-447); see
    /// [`group_metadata`](crate::Consumer::group_metadata).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn group_metadata(&self) -> Result<Option<GroupIdentity>, Error> {
        block_on(self.inner.group_metadata())
    }

    /// How it stands and what it has done since it was made; see [`snapshot`](crate::Consumer::snapshot).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        block_on(self.inner.snapshot())
    }
}
