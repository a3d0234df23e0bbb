//! What can be asked of a consumer.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use ottla_core::client::{Command, CommittedOffset, Offset, Outcome};
use ottla_core::delivery::Revocation;
use ottla_core::group::GroupIdentity;
use ottla_core::snapshot::Snapshot;
use ottla_core::{Error, ErrorKind, TopicPartition};

use super::{ConsumerHandle, list};
use crate::link::unexpected;

/// Questions: those that are synchronous are answered from what is known here, the others by the brokers.
impl ConsumerHandle {
    /// The next offset that will be handed out, or `None` if the partition is not owned or its position is not
    /// known yet.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
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
    /// consumer.next_record().await?;
    /// assert_eq!(handle.position(&orders)?, Some(1));
    /// assert_eq!(handle.position(&TopicPartition::new("orders", 99))?, None);
    /// # Ok(())
    /// # }
    /// ```
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
    /// consumer.next_record().await?;
    /// assert_eq!(handle.lag(&orders)?, Some(2));
    /// # Ok(())
    /// # }
    /// ```
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
    /// consumer.next_record().await?;
    /// assert_eq!(handle.assignment()?, [TopicPartition::new("orders", 0)]);
    /// # Ok(())
    /// # }
    /// ```
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
    /// consumer.next_record().await?;
    /// println!("{} bytes wait to be read", handle.buffered_bytes()?);
    /// # Ok(())
    /// # }
    /// ```
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
    /// let batch = consumer.next_batch().await?;
    /// assert!(handle.pinned_bytes()? > 0);
    /// drop(batch);
    /// assert_eq!(handle.pinned_bytes()?, 0);
    /// # Ok(())
    /// # }
    /// ```
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
    /// let kept = consumer.next_record().await?;
    /// consumer.next_record().await?;
    /// for held in handle.held_back()? {
    ///     println!("{} is held at {} since {:?}", held.topic_partition, held.offset, held.age);
    /// }
    /// # assert_eq!(handle.held_back()?.iter().map(|held| held.offset).collect::<Vec<_>>(), [0]);
    /// # drop(kept);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Event};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    /// # let mut consumer = builder.connect().await?;
    /// # let handle = consumer.handle();
    /// # consumer.next_record().await?;
    /// # handle.shutdown();
    /// while let Some(event) = consumer.next_event().await? {
    ///     if let Event::Revoking(revocation) = event {
    ///         println!("{:?} left to finish", handle.time_left(&revocation)?);
    ///         revocation.finish([]);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
    /// let orders = TopicPartition::new("orders", 0);
    /// assert_eq!(handle.committed([&orders]).await?[&orders], None);
    /// consumer.next_record().await?;
    /// handle.commit_delivered().await?;
    /// let committed = handle.committed([&orders]).await?;
    /// assert_eq!(committed[&orders].as_ref().map(|c| c.offset), Some(1));
    /// # Ok(())
    /// # }
    /// ```
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
    /// assert_eq!(handle.beginning_offsets([&orders]).await?[&orders], 0);
    /// # Ok(())
    /// # }
    /// ```
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
    /// assert_eq!(handle.end_offsets([&orders]).await?[&orders], 3);
    /// # Ok(())
    /// # }
    /// ```
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
    /// let offsets = handle.offsets_for_times([(orders.clone(), 0)]).await?;
    /// assert_eq!(offsets[&orders], Some(0));
    /// # Ok(())
    /// # }
    /// ```
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
    /// assert_eq!(handle.partitions_of("orders").await?, [TopicPartition::new("orders", 0)]);
    /// assert!(handle.partitions_of("no-such-topic").await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
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
    /// consumer.next_record().await?;
    /// let identity = handle.group_metadata().await?.expect("it has a group");
    /// println!("{identity:?}");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "groupMetadata")]
    pub async fn group_metadata(&self) -> Result<Option<GroupIdentity>, Error> {
        match self.ask(Command::GroupMetadata).await? {
            Outcome::GroupMetadata(identity) => Ok(identity),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// How the consumer stands and what it has done since it was made: the group, the brokers, the partitions with
    /// their lag, what was read and how long it took. Nothing is asked of a broker.
    ///
    /// Put together when it is called, in time that grows with the partitions that are owned; nobody pays for it
    /// otherwise. For a dashboard ask every few seconds; [`Snapshot::to_json`] has the shape of librdkafka's
    /// statistics.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) once the consumer is gone.
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
    /// let batch = consumer.next_batch().await?.expect("nobody shuts it down");
    /// let snapshot = handle.snapshot().await?;
    /// assert_eq!(snapshot.records, batch.len() as u64);
    /// let lag: i64 = snapshot.partitions.iter().filter_map(|p| p.lag).sum();
    /// println!("{lag} records behind, a fetch takes {:?}", snapshot.fetch.mean());
    /// println!("{}", snapshot.to_json());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "metrics")]
    #[doc(alias = "statistics")]
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        match self.ask(Command::Snapshot).await? {
            Outcome::Snapshot(snapshot) => Ok(*snapshot),
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
