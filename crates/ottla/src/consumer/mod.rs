//! The consumer: reads, and what only its owner may do.

mod close;
mod forward;
mod partitioned;
mod read;
mod records;
mod start;

use std::borrow::Borrow;
use std::time::Duration;

use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::delivery::RecordReader;
use ottla_core::{Error, ErrorKind, TopicPartition};
use ottla_wire::records::BatchDecoder;
use tokio::sync::oneshot;

use crate::link::{Link, unexpected};
use crate::observe::Watch;
use crate::{Builder, ConsumerHandle, GroupProtocol};

pub use partitioned::{PartitionConsumer, PartitionTaskError};
pub use records::Records;
pub(crate) use start::{StartOffsets, Starts};

/// Reads records of Kafka topics, alone or as a member of a group.
///
/// Reads take `&mut self`: there is one reader. Everything else is also on its [`handle`](Self::handle), which is
/// `Clone` and `Send`. Records arrive, heartbeats go out and rebalances go on in a driver of its own; nothing
/// has to be polled for that.
///
/// The reads are faces of one primitive and may be mixed: [`next_batch`](Self::next_batch) is the fast one,
/// [`next_record`](Self::next_record) and [`records`](Self::records) give single records,
/// [`next_event`](Self::next_event) also tells what happens to the assignment. All are cancel safe: a position
/// moves in the same poll that returns the value.
///
/// No timeout argument anywhere: wrap a read into your runtime's timeout.
///
/// ```compile_fail,E0499
/// # async fn two(mut consumer: ottla::Consumer) {
/// let one = consumer.next_batch();
/// let other = consumer.next_batch(); // two readers do not compile
/// one.await;
/// # }
/// ```
///
/// End it with [`close`](Self::close), which commits what is done and leaves the group. Dropping it never blocks;
/// the driver then leaves the group in the background.
///
/// # Examples
///
/// ```
/// # use ottla::Consumer;
/// # use ottla_broker::Broker;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = Broker::builder().topic("orders", 1).start().await?;
/// # broker.produce("orders", 0, ["a", "b"])?;
/// let mut consumer = Consumer::builder(broker.bootstrap())
///     .group("billing")
///     .subscribe(["orders"])
///     .connect()
///     .await?;
///
/// let handle = consumer.handle();
/// let mut seen = 0;
/// while let Some(batch) = consumer.next_batch().await? {
///     for record in &batch {
///         println!("{} {:?}", record.offset(), record.value());
///         seen += 1;
///     }
///     if seen == 2 {
///         handle.shutdown(); // usually from elsewhere
///     }
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    link: Link,
    handle: ConsumerHandle,
    decoder: BatchDecoder,
    /// What `next_record` has at hand.
    reader: RecordReader,
    max_batch_records: usize,
    close_timeout: Duration,
    starts: Starts,
    protocol: GroupProtocol,
    /// The tasks of [`run_partitioned`](Self::run_partitioned).
    tasks: partitioned::Tasks,
    watch: Watch,
    /// Resolves when the driver has ended.
    ended: oneshot::Receiver<()>,
}

impl Consumer {
    /// Begins the configuration of a consumer with bootstrap addresses: `host:port`, several with commas.
    pub fn builder(bootstrap: impl Into<String>) -> Builder {
        Builder::new(bootstrap)
    }

    pub(crate) fn new(
        link: Link,
        ended: oneshot::Receiver<()>,
        max_batch_records: usize,
        close_timeout: Duration,
        starts: Starts,
        protocol: GroupProtocol,
        watch: Watch,
    ) -> Self {
        let handle = ConsumerHandle::new(link.downgrade());
        let decoder = BatchDecoder::default();
        Self {
            link,
            handle,
            decoder,
            reader: RecordReader::new(),
            max_batch_records,
            close_timeout,
            starts,
            protocol,
            tasks: partitioned::Tasks::default(),
            watch,
            ended,
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// A handle for other tasks. It does not keep the consumer alive.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Replaces what is subscribed to. Needs a group.
    ///
    /// Resolves when the subscription is known to the driver; the assignment follows, told by
    /// [`Event::Assigned`](crate::Event::Assigned).
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) without a group, or while partitions are
    /// [assigned](Self::assign) by hand; kind [`Config`](ErrorKind::Config) for what cannot be a topic's name.
    ///
    /// # Cancel safety
    ///
    /// Polled once, the subscription is replaced.
    pub async fn subscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        if let Some(why) = topics.iter().find_map(|topic| crate::builder::topic_problem(topic)) {
            return Err(Error::new(ErrorKind::ApiMisuse, format!("subscribe: {why}")));
        }
        self.tell(Command::Subscribe(topics)).await
    }

    /// Replaces what is subscribed to by all topics whose whole name matches `pattern`, those that are created later
    /// too; see [`Builder::subscribe_pattern`]. Needs a group.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) without a group, while partitions are [assigned](Self::assign) by hand,
    /// and for what is no regular expression; under the consumer protocol it is the brokers who say that: a fatal error
    /// of the reads, of the same kind and with the code
    /// [`InvalidRegularExpression`](crate::ErrorCode::InvalidRegularExpression).
    ///
    /// # Cancel safety
    ///
    /// Polled once, the subscription is replaced.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Consumer;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders-eu", 1).topic("invoices", 1).start().await?;
    /// # broker.produce("orders-eu", 0, ["a"])?;
    /// # broker.produce("invoices", 0, ["b"])?;
    /// let mut consumer = Consumer::builder(broker.bootstrap()).group("audit").connect().await?;
    /// consumer.subscribe_pattern("orders-.*").await?;
    /// let batch = consumer.next_batch().await?.expect("nobody shuts it down");
    /// assert_eq!(batch.topic(), "orders-eu");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn subscribe_pattern(&self, pattern: impl Into<String>) -> Result<(), Error> {
        let pattern = crate::builder::topic_pattern(&pattern.into(), self.protocol)?;
        self.tell(Command::SubscribePattern(pattern)).await
    }

    /// Gives up the subscription and leaves the group, or gives up what was assigned by hand.
    ///
    /// # Errors
    ///
    /// Kind [`Closed`](ErrorKind::Closed) after a fatal error.
    ///
    /// # Cancel safety
    ///
    /// Polled once, it is carried out.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        self.tell(Command::Unsubscribe).await
    }

    /// Reads exactly these partitions from these places on, without group management; replaces what was
    /// assigned before.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) while topics are [subscribed](Self::subscribe) to, or for
    /// [`Offset::Committed`] without a group.
    ///
    /// # Cancel safety
    ///
    /// Polled once, it is carried out.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Offset, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b"])?;
    /// let mut consumer = Consumer::builder(broker.bootstrap()).connect().await?;
    /// consumer.assign([(TopicPartition::new("orders", 0), Offset::Earliest)]).await?;
    /// let record = consumer.next_record().await?.expect("nobody shuts it down");
    /// assert_eq!(record.value(), Some(&b"a"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn assign(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        let partitions = partitions.into_iter().collect();
        self.tell(Command::Assign(partitions)).await
    }

    /// Reads these partitions from these places on, besides what is [assigned](Self::assign) already, whose positions
    /// and buffers stay. A partition that is assigned already is left as it is: [`seek`](Self::seek) moves it.
    ///
    /// # Errors
    ///
    /// As [`assign`](Self::assign); then none of them is taken.
    ///
    /// # Cancel safety
    ///
    /// Polled once, it is carried out.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Offset, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 2).start().await?;
    /// # broker.produce("orders", 1, ["a"])?;
    /// let mut consumer = Consumer::builder(broker.bootstrap()).connect().await?;
    /// let [first, second] = [0, 1].map(|partition| TopicPartition::new("orders", partition));
    /// consumer.assign([(first.clone(), Offset::Earliest)]).await?;
    /// consumer.incremental_assign([(second.clone(), Offset::Earliest)]).await?;
    /// consumer.incremental_unassign([&first]).await?;
    /// assert_eq!(consumer.assignment()?, [second]);
    /// assert_eq!(consumer.next_batch().await?.map(|batch| batch.partition()), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn incremental_assign(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        let partitions = partitions.into_iter().collect();
        self.tell(Command::IncrementalAssign(partitions)).await
    }

    /// Does not read these partitions any more; the others are read on. With a group, what is done of them is committed
    /// without being waited for. Those that are not assigned are left alone.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) while topics are [subscribed](Self::subscribe) to.
    ///
    /// # Cancel safety
    ///
    /// Polled once, it is carried out.
    pub async fn incremental_unassign<P: Borrow<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<(), Error> {
        let partitions = partitions.into_iter().map(|p| p.borrow().clone()).collect();
        self.tell(Command::IncrementalUnassign(partitions)).await
    }

    pub(crate) async fn tell(&self, command: Command) -> Result<(), Error> {
        match self.link.ask(command).await? {
            Outcome::Done => Ok(()),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Consumer {
    /// Never blocks and never spawns: the driver sees the end, leaves the group on a best-effort basis and ends.
    fn drop(&mut self) {
        self.link.delivery.lock().reader_gone();
    }
}
