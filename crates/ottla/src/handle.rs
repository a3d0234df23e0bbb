//! The handle of a consumer: everything but reading.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use ottla_core::client::{Command, CommitResults, CommittedOffset, Offset, Outcome};
use ottla_core::delivery::Revocation;
use ottla_core::group::GroupIdentity;
use ottla_core::{CommitError, Error, ErrorKind, TopicPartition};

use crate::IntoCommit;
use crate::link::{WeakLink, unexpected};

/// Acts on a [`Consumer`](crate::Consumer) from elsewhere: another task, a signal handler, a worker.
///
/// Cheap to clone. It does not keep the consumer alive: once the consumer is gone every call gives an error of
/// kind [`Closed`](ErrorKind::Closed).
///
/// # Cancel safety
///
/// This holds for every method that returns a future: it is sent to the driver when it is polled for the first
/// time, and from then on it is carried out. Dropping the future loses the answer and nothing else; in
/// particular a commit is still sent, in its order.
#[derive(Clone, Debug)]
pub struct ConsumerHandle {
    link: WeakLink,
}

impl ConsumerHandle {
    pub(crate) fn new(link: WeakLink) -> Self {
        Self { link }
    }

    async fn ask(&self, command: Command) -> Result<Outcome, Error> {
        // Not held while waiting: see `WeakLink::upgrade`.
        let answer = self.link.upgrade()?.send(command)?;
        answer.outcome().await
    }

    async fn tell(&self, command: Command) -> Result<(), Error> {
        match self.ask(command).await? {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends reading: what was not handed out yet is dropped, and the next read returns `None`.
    ///
    /// That read also marks the batch before it as done, so that `close` commits it. Does nothing once the
    /// consumer is gone. It is synchronous and may be called from a signal handler's task.
    #[doc(alias = "wakeup")]
    pub fn shutdown(&self) {
        if let Ok(link) = self.link.upgrade() {
            link.delivery.lock().shutdown();
        }
    }

    /// Commits offsets: everything of their partitions up to and including what is passed.
    ///
    /// Takes `&record`, `&batch`, a [`CommitToken`](crate::CommitToken), a
    /// [`CommitOffset`](crate::CommitOffset), a `(TopicPartition, i64)` with the next offset to read, or a list
    /// of those. Commits are sent one after the other. What is at or below what this ownership committed
    /// already is not sent, and succeeds. Allowed with [`Commit::Auto`](crate::Commit::Auto) too, where it
    /// counts as done.
    ///
    /// # Errors
    ///
    /// [`CommitError::NotOwned`] if the partition is not owned any more, or was assigned anew or sought since:
    /// nothing is sent, and whoever owns it now repeats the work. If several partitions are passed,
    /// [`CommitError::Partial`] lists those that failed; the others are committed.
    #[doc(alias = "commitSync")]
    pub async fn commit(&self, what: impl IntoCommit) -> Result<(), CommitError> {
        let items = crate::commit::items(what);
        commit_outcome(self.ask(Command::Commit(items)).await)
    }

    /// Commits everything that was handed out, the batch in hand included.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_delivered(&self) -> Result<(), CommitError> {
        commit_outcome(self.ask(Command::CommitDelivered).await)
    }

    /// Commits without waiting: the latest of each partition goes out with the next commit, one at a time.
    ///
    /// What becomes of it is told by [`Event::CommitCompleted`](crate::Event::CommitCompleted) and
    /// [`Event::CommitFailed`](crate::Event::CommitFailed). Calling it after every record is fine.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    #[doc(alias = "commitAsync")]
    pub fn commit_in_background(&self, what: impl IntoCommit) -> Result<(), Error> {
        self.link.upgrade()?.commit_in_background(crate::commit::items(what))
    }

    /// Hands out no more records of these partitions until they are [resumed](Self::resume).
    ///
    /// Once it resolves no read returns one. What is buffered is kept, and given up only if another partition
    /// needs the room. A pause survives rebalances that leave the partition here. A partition that is not owned is
    /// left alone.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub async fn pause<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        let partitions = list(partitions);
        self.tell(Command::Pause(partitions)).await
    }

    /// Hands out records of these partitions again. Those that are not paused, or not owned, are left alone.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub async fn resume<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        let partitions = list(partitions);
        self.tell(Command::Resume(partitions)).await
    }

    /// Moves the position of a partition; also starts one again that an error stopped.
    ///
    /// Once it resolves no read returns a record of the old position. Records that were handed out before cannot
    /// be committed any more: their tokens give [`CommitError::NotOwned`].
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) for a partition that is not owned. What keeps the offset from being
    /// found is told by the reads.
    pub async fn seek(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        let command = Command::Seek(topic_partition.clone(), offset);
        self.tell(command).await
    }

    /// The next offset that will be handed out, or `None` if the partition is not owned or its position is not
    /// known yet.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn position(&self, topic_partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let link = self.link.upgrade()?;
        let position = link.delivery.lock().position(topic_partition);
        Ok(position)
    }

    /// How many offsets lie between the position and the end of the partition (with
    /// [`ReadCommitted`](crate::IsolationLevel::ReadCommitted) its last stable offset) as the last fetch told
    /// it; `None` if that is not known.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn lag(&self, topic_partition: &TopicPartition) -> Result<Option<i64>, Error> {
        let link = self.link.upgrade()?;
        let lag = link.delivery.lock().lag(topic_partition);
        Ok(lag)
    }

    /// The partitions that are owned now.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        let link = self.link.upgrade()?;
        let owned = link.delivery.lock().owned();
        Ok(owned.into_iter().map(|(topic_partition, _)| topic_partition).collect())
    }

    /// Bytes that are fetched or decompressed and not handed out; bounded by
    /// [`max_buffered_bytes`](crate::Builder::max_buffered_bytes).
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn buffered_bytes(&self) -> Result<usize, Error> {
        let link = self.link.upgrade()?;
        let bytes = link.delivery.lock().buffered_bytes();
        Ok(bytes)
    }

    /// Bytes of batches and records that were handed out and are still held. Nothing bounds them but you.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn pinned_bytes(&self) -> Result<usize, Error> {
        let link = self.link.upgrade()?;
        let bytes = link.delivery.lock().pinned_bytes();
        Ok(bytes)
    }

    /// Batches and records that were handed out, that the reader came back from, and that are still held, so
    /// that nothing behind them is committed: the oldest of each partition.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn held_back(&self) -> Result<Vec<HeldBack>, Error> {
        let link = self.link.upgrade()?;
        let now = link.now();
        let held = link.delivery.lock().held_back(now);
        let held_back = |(topic_partition, offset, age)| HeldBack { topic_partition, offset, age };
        Ok(held.into_iter().map(held_back).collect())
    }

    /// How long a revocation still waits for [`finish`](Revocation::finish).
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    pub fn time_left(&self, revocation: &Revocation) -> Result<Duration, Error> {
        let link = self.link.upgrade()?;
        Ok(revocation.deadline().since(link.now()))
    }

    /// The group's committed offsets, asked of the coordinator; `None` where nothing is committed.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) without a group, else the error of the first partition that has
    /// one.
    pub async fn committed<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, Option<CommittedOffset>>, Error> {
        let partitions = list(partitions);
        match self.ask(Command::Committed(partitions)).await? {
            Outcome::Committed(results) => all_or_first_error(results),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
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
        let places = at(partitions, Offset::Earliest);
        self.known_offsets(places).await
    }

    /// The offset behind the newest record of each partition (with
    /// [`ReadCommitted`](crate::IsolationLevel::ReadCommitted) behind its last stable offset).
    ///
    /// # Errors
    ///
    /// The error of the first partition that has one, after the time for retries is over.
    pub async fn end_offsets<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let places = at(partitions, Offset::Latest);
        self.known_offsets(places).await
    }

    /// The offset of the first record that is not older than a time, in milliseconds since 1970, for each
    /// partition; `None` where there is no such record.
    ///
    /// # Errors
    ///
    /// The error of the first partition that has one, after the time for retries is over.
    #[doc(alias = "offsetsForTimes")]
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        let places = times.into_iter().map(|(p, millis)| (p, Offset::Timestamp(millis))).collect();
        self.offsets(places).await
    }

    async fn known_offsets(
        &self,
        places: Vec<(TopicPartition, Offset)>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let offsets = self.offsets(places).await?;
        offsets
            .into_iter()
            .map(|(topic_partition, offset)| match offset {
                Some(offset) => Ok((topic_partition, offset)),
                None => Err(Error::new(ErrorKind::BrokerMisbehaved, "the broker knows no such offset")
                    .with_partition(topic_partition)),
            })
            .collect()
    }

    async fn offsets(
        &self,
        places: Vec<(TopicPartition, Offset)>,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
        match self.ask(Command::ListOffsets(places)).await? {
            Outcome::Offsets(results) => all_or_first_error(results),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// The partitions of a topic; none if it does not exist.
    ///
    /// # Errors
    ///
    /// What kept the brokers from telling, after the time for retries is over.
    #[doc(alias = "partitionsFor")]
    pub async fn partitions_of(&self, topic: impl Into<String>) -> Result<Vec<TopicPartition>, Error> {
        let command = Command::PartitionCounts(vec![topic.into()]);
        match self.ask(command).await? {
            Outcome::PartitionCounts(counts) => Ok(counts
                .into_iter()
                .flat_map(|(topic, count)| {
                    let topic: std::sync::Arc<str> = topic.into();
                    (0..count).map(move |partition| TopicPartition::new(topic.clone(), partition))
                })
                .collect()),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// The identity under which this member commits, for fencing in a store of your own (KIP-447); `None`
    /// without a group.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
    #[doc(alias = "groupMetadata")]
    pub async fn group_metadata(&self) -> Result<Option<GroupIdentity>, Error> {
        match self.ask(Command::GroupMetadata).await? {
            Outcome::GroupMetadata(identity) => Ok(identity),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }
}

/// A batch or record that is held and keeps back the committed offset of its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBack {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Where what is held begins; up to here the partition is committed.
    pub offset: i64,
    /// How long ago it was handed out.
    pub age: Duration,
}

fn list<P: Borrow<TopicPartition>>(partitions: impl IntoIterator<Item = P>) -> Vec<TopicPartition> {
    partitions.into_iter().map(|p| p.borrow().clone()).collect()
}

fn at<P: Borrow<TopicPartition>>(
    partitions: impl IntoIterator<Item = P>,
    offset: Offset,
) -> Vec<(TopicPartition, Offset)> {
    partitions.into_iter().map(|p| (p.borrow().clone(), offset)).collect()
}

fn all_or_first_error<T>(
    results: Vec<(TopicPartition, Result<T, Error>)>,
) -> Result<BTreeMap<TopicPartition, T>, Error> {
    results.into_iter().map(|(topic_partition, result)| Ok((topic_partition, result?))).collect()
}

fn commit_outcome(outcome: Result<Outcome, Error>) -> Result<(), CommitError> {
    match outcome {
        Ok(Outcome::Commit(results)) => partial(results),
        Ok(Outcome::Done) => Ok(()),
        Ok(Outcome::Failed(error)) | Err(error) => {
            Err(if error.is_retriable() { CommitError::Retriable(error) } else { CommitError::Fatal(error) })
        }
        Ok(other) => Err(CommitError::Fatal(unexpected(&other))),
    }
}

/// One partition's error as it is; of several partitions those that failed, by name.
fn partial(results: CommitResults) -> Result<(), CommitError> {
    let several = results.len() > 1;
    let mut failed: Vec<(TopicPartition, CommitError)> =
        results.into_iter().filter_map(|(p, result)| result.err().map(|error| (p, error))).collect();
    match failed.pop() {
        None => Ok(()),
        Some((_, error)) if !several => Err(error),
        Some(last) => {
            failed.push(last);
            Err(CommitError::Partial(failed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_of_several_partitions_answers_for_each() {
        let results =
            |second| vec![(TopicPartition::new("t", 0), Ok(())), (TopicPartition::new("t", 1), second)];
        assert!(partial(results(Ok(()))).is_ok());
        let Err(CommitError::Partial(failed)) = partial(results(Err(CommitError::NotOwned))) else {
            panic!("not partial");
        };
        assert!(matches!(&failed[..], [(p, CommitError::NotOwned)] if p.partition() == 1));
    }

    #[test]
    fn a_commit_of_one_partition_fails_with_its_own_error() {
        let results = vec![(TopicPartition::new("t", 0), Err(CommitError::NotOwned))];
        assert!(matches!(partial(results), Err(CommitError::NotOwned)));
    }
}
