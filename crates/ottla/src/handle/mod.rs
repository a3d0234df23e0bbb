//! The handle of a consumer: everything but reading.

use std::borrow::Borrow;

use ottla_core::client::{Command, CommitResults, Offset, Outcome};
use ottla_core::{CommitError, Error, TopicPartition};

use crate::IntoCommit;
use crate::link::{WeakLink, unexpected};

mod queries;

pub use queries::HeldBack;

/// Acts on a [`Consumer`](crate::Consumer) from elsewhere: another task, a signal handler, a worker.
///
/// Cheap to clone. It does not keep the consumer alive: once the consumer is gone every call gives an error of
/// kind [`Closed`](crate::ErrorKind::Closed).
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Consumer;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.connect().await?;
    /// # let handle = consumer.handle();
    /// let worker = tokio::spawn(async move {
    ///     let mut records = 0;
    ///     while let Some(batch) = consumer.next_batch().await? {
    ///         records += batch.len();
    ///     }
    ///     consumer.close().await?;
    ///     Ok::<_, ottla::Error>(records)
    /// });
    /// // In a service this is the task that waits for the signal to end.
    /// handle.shutdown();
    /// let records = worker.await??;
    /// # assert!(records <= 3);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Commit, Consumer, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.commit(Commit::Manual).connect().await?;
    /// # let handle = consumer.handle();
    /// let record = consumer.next_record().await?.expect("nobody shuts it down");
    /// let token = record.token();
    /// drop(record);
    /// // Perhaps on another task, once the work is done.
    /// handle.commit(token).await?;
    /// let orders = TopicPartition::new("orders", 0);
    /// assert_eq!(handle.committed([&orders]).await?[&orders].as_ref().map(|c| c.offset), Some(1));
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Commit, Consumer, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.commit(Commit::Manual).connect().await?;
    /// # let handle = consumer.handle();
    /// let batch = consumer.next_batch().await?.expect("nobody shuts it down");
    /// handle.commit_delivered().await?;
    /// let orders = TopicPartition::new("orders", 0);
    /// let committed = handle.committed([&orders]).await?;
    /// assert_eq!(committed[&orders].as_ref().map(|c| c.offset), Some(batch.next_offset()));
    /// # Ok(())
    /// # }
    /// ```
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
    /// Kind [`Closed`](crate::ErrorKind::Closed) once the consumer is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Commit, Consumer, Event, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.commit(Commit::Manual).connect().await?;
    /// # let handle = consumer.handle();
    /// let batch = consumer.next_batch().await?.expect("nobody shuts it down");
    /// for record in &batch {
    ///     handle.commit_in_background(record)?;
    /// }
    /// loop {
    ///     match consumer.next_event().await? {
    ///         Some(Event::CommitCompleted(offsets)) => break println!("committed: {offsets:?}"),
    ///         Some(Event::CommitFailed(failed)) => break println!("tried again with the next commit: {failed:?}"),
    ///         Some(_) => {}
    ///         None => return Ok(()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    /// Kind [`Closed`](crate::ErrorKind::Closed) once the consumer is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Event, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.connect().await?;
    /// # let handle = consumer.handle();
    /// let orders = TopicPartition::new("orders", 0);
    /// # consumer.next_record().await?;
    /// // The database is overloaded: stop handing out, stay in the group.
    /// handle.pause([&orders]).await?;
    /// # let read = tokio::time::timeout(std::time::Duration::from_millis(20), consumer.next_batch()).await;
    /// # assert!(read.is_err(), "a paused partition is not read");
    /// handle.resume([&orders]).await?;
    /// # assert!(consumer.next_batch().await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
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
    /// Kind [`Closed`](crate::ErrorKind::Closed) once the consumer is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.connect().await?;
    /// # let handle = consumer.handle();
    /// let orders = TopicPartition::new("orders", 0);
    /// # consumer.next_record().await?;
    /// handle.pause([&orders]).await?;
    /// handle.resume(handle.assignment()?).await?;
    /// assert!(consumer.next_batch().await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
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
    /// Kind [`ApiMisuse`](crate::ErrorKind::ApiMisuse) for a partition that is not owned. What keeps the offset from being
    /// found is told by the reads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Offset, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.connect().await?;
    /// # let handle = consumer.handle();
    /// let orders = TopicPartition::new("orders", 0);
    /// # consumer.next_record().await?;
    /// handle.seek(&orders, Offset::At(2)).await?;
    /// let record = consumer.next_record().await?.expect("nobody shuts it down");
    /// assert_eq!(record.offset(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn seek(&self, topic_partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        let command = Command::Seek(topic_partition.clone(), offset);
        self.tell(command).await
    }
}

fn list<P: Borrow<TopicPartition>>(partitions: impl IntoIterator<Item = P>) -> Vec<TopicPartition> {
    partitions.into_iter().map(|p| p.borrow().clone()).collect()
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
