//! The handle's methods on the consumer itself.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use ottla_core::client::{CommittedOffset, Offset};
use ottla_core::delivery::Revocation;
use ottla_core::group::GroupIdentity;
use ottla_core::snapshot::Snapshot;
use ottla_core::{CommitError, Error, TopicPartition};

use super::Consumer;
use crate::{HeldBack, IntoCommit};

/// What a [handle](Consumer::handle) can do too, with the same errors and the same cancel safety: polled once,
/// a call is carried out; dropping its future loses the answer only.
impl Consumer {
    /// Commits offsets; see [`ConsumerHandle::commit`](crate::ConsumerHandle::commit).
    ///
    /// # Errors
    ///
    /// [`CommitError::NotOwned`] if the partition is not owned any more, or was assigned anew or sought since.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Commit, Consumer, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b"])?;
    /// let mut consumer = Consumer::builder(broker.bootstrap())
    ///     .group("billing")
    ///     .subscribe(["orders"])
    ///     .commit(Commit::Manual)
    ///     .connect()
    ///     .await?;
    /// let record = consumer.next_record().await?.expect("nobody shuts it down");
    /// consumer.commit(&record).await?;
    /// let orders = TopicPartition::new("orders", 0);
    /// let committed = consumer.committed([&orders]).await?;
    /// assert_eq!(committed[&orders].as_ref().map(|c| c.offset), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "commitSync")]
    pub async fn commit(&self, what: impl IntoCommit) -> Result<(), CommitError> {
        self.handle.commit(what).await
    }

    /// Commits everything that was handed out, the batch in hand included.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_delivered(&self) -> Result<(), CommitError> {
        self.handle.commit_delivered().await
    }

    /// Commits without waiting; see
    /// [`ConsumerHandle::commit_in_background`](crate::ConsumerHandle::commit_in_background).
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](crate::ErrorKind::Closed) after a fatal error.
    #[doc(alias = "commitAsync")]
    pub fn commit_in_background(&self, what: impl IntoCommit) -> Result<(), Error> {
        self.handle.commit_in_background(what)
    }

    /// Hands out no more records of these partitions; see
    /// [`ConsumerHandle::pause`](crate::ConsumerHandle::pause).
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](crate::ErrorKind::Closed) after a fatal error.
    pub async fn pause<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        self.handle.pause(partitions).await
    }

    /// Hands out records of these partitions again.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](crate::ErrorKind::Closed) after a fatal error.
    pub async fn resume<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        self.handle.resume(partitions).await
    }

    /// Moves the position of a partition; see [`ConsumerHandle::seek`](crate::ConsumerHandle::seek).
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](crate::ErrorKind::ApiMisuse) for a partition that is not owned. What keeps the offset
    /// from being found is told by the reads.
    pub async fn seek(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.handle.seek(topic_partition, offset).await
    }

    /// The next offset that will be handed out; `None` if it is not known.
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    pub fn position(&self, topic_partition: &TopicPartition) -> Result<Option<i64>, Error> {
        self.handle.position(topic_partition)
    }

    /// How many offsets lie between the position and the end; `None` if that is not known.
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    pub fn lag(&self, topic_partition: &TopicPartition) -> Result<Option<i64>, Error> {
        self.handle.lag(topic_partition)
    }

    /// The partitions that are owned now.
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    pub fn assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        self.handle.assignment()
    }

    /// Batches and records that are held and keep back the committed offset of their partition.
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    pub fn held_back(&self) -> Result<Vec<HeldBack>, Error> {
        self.handle.held_back()
    }

    /// How long a revocation still waits for [`finish`](crate::Revocation::finish).
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    pub fn time_left(&self, revocation: &Revocation) -> Result<Duration, Error> {
        self.handle.time_left(revocation)
    }

    /// The group's committed offsets, asked of the coordinator; `None` where nothing is committed.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](crate::ErrorKind::ApiMisuse) without a group, else the error of the first partition
    /// that has one.
    pub async fn committed<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>, Error> {
        self.handle.committed(partitions).await
    }

    /// The offset of the oldest record of each partition.
    ///
    /// # Errors
    ///
    /// The error of the first partition that has one, after the time for retries is over.
    #[doc(alias = "fetch_watermarks")]
    pub async fn beginning_offsets<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.handle.beginning_offsets(partitions).await
    }

    /// The offset behind the newest record of each partition.
    ///
    /// # Errors
    ///
    /// The error of the first partition that has one, after the time for retries is over.
    pub async fn end_offsets<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.handle.end_offsets(partitions).await
    }

    /// The offset of the first record that is not older than a time, in milliseconds since 1970; `None` where
    /// there is no such record.
    ///
    /// # Errors
    ///
    /// The error of the first partition that has one, after the time for retries is over.
    #[doc(alias = "offsetsForTimes")]
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        self.handle.offsets_for_times(times).await
    }

    /// The partitions of a topic; none if it does not exist.
    ///
    /// # Errors
    ///
    /// What kept the brokers from telling, after the time for retries is over.
    #[doc(alias = "partitionsFor")]
    pub async fn partitions_of(&self, topic: impl Into<String>) -> Result<Vec<TopicPartition>, Error> {
        self.handle.partitions_of(topic).await
    }

    /// The identity under which this member commits (KIP-447); `None` without a group.
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    #[doc(alias = "groupMetadata")]
    pub async fn group_metadata(&self) -> Result<Option<GroupIdentity>, Error> {
        self.handle.group_metadata().await
    }

    /// How it stands and what it has done since it was made; see
    /// [`ConsumerHandle::snapshot`](crate::ConsumerHandle::snapshot).
    ///
    /// # Errors
    ///
    /// None while the consumer lives.
    #[doc(alias = "metrics")]
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.handle.snapshot().await
    }
}
