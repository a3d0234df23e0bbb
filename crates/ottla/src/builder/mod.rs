//! The configuration of a consumer, and its start.

mod address;
mod check;
mod describe;
mod error;
mod fetch;
mod group;
#[cfg(feature = "metrics")]
mod metrics;
mod network;
mod pattern;
mod properties;
mod start;

use std::sync::Arc;
use std::time::Duration;

use ottla_core::TopicPartition;
use ottla_core::client::Offset;
use ottla_core::config::{CommitMode, Config, GroupConfig, GroupProtocol, IsolationLevel, OffsetReset};

use crate::consumer::StartOffsets;
use crate::driver::Transport;

pub(crate) use check::topic_problem;
pub use error::{ConfigError, ConfigProblem};
pub(crate) use pattern::topic_pattern;
pub use properties::{ConfigWarning, Dialect};

/// Configures a [`Consumer`](crate::Consumer) and starts it.
///
/// Only the bootstrap addresses are mandatory. Every setter says what it means, its default, why it is that and
/// what a change costs; searching the documentation for a Java or librdkafka property name finds the setter.
/// Values are checked together when the consumer is started, or by [`validate`](Self::validate).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use ottla::{Commit, Consumer, OffsetReset};
///
/// let builder = Consumer::builder("localhost:9092")
///     .group("billing")
///     .subscribe(["orders"])
///     .auto_offset_reset(OffsetReset::Latest)
///     .commit(Commit::Auto { interval: Duration::from_secs(1) });
/// builder.validate()?;
/// # Ok::<(), ottla::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is connected"]
pub struct Builder {
    /// Addresses as they were given, parsed when they are checked.
    bootstrap: Vec<String>,
    /// Its `bootstrap` and `group` are filled in when the consumer is started.
    config: Config,
    group_id: Option<String>,
    /// Its `group_id` and `rebalance_timeout` are filled in when the consumer is started.
    group: GroupConfig,
    rebalance_timeout: Option<Duration>,
    /// Names of setters that make no sense without a group, in the order they were called.
    group_settings: Vec<&'static str>,
    subscription: Vec<String>,
    /// Instead of a subscription to topics.
    pattern: Option<String>,
    /// Names that begin with `^` are patterns, as in librdkafka.
    carets_are_patterns: bool,
    close_timeout: Duration,
    on_current_runtime: bool,
    decode_threads: Option<usize>,
    start_offsets: Option<StartOffsets>,
    transport: Arc<dyn Transport>,
    seed: Option<u64>,
    #[cfg(feature = "metrics")]
    metrics: crate::observe::metrics::Settings,
    /// What its author should know; logged at the start.
    warnings: Vec<ConfigWarning>,
}

impl Builder {
    pub(crate) fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: vec![bootstrap.into()],
            config: Config::default(),
            group_id: None,
            group: GroupConfig { protocol: GroupProtocol::Auto, ..GroupConfig::new(String::new()) },
            rebalance_timeout: None,
            group_settings: Vec::new(),
            subscription: Vec::new(),
            pattern: None,
            carets_are_patterns: false,
            close_timeout: Duration::from_secs(30),
            on_current_runtime: false,
            decode_threads: None,
            start_offsets: None,
            transport: Arc::new(crate::driver::Tcp),
            seed: None,
            #[cfg(feature = "metrics")]
            metrics: crate::observe::metrics::Settings::default(),
            warnings: Vec::new(),
        }
    }

    /// What remains for somebody who reads nothing.
    pub(crate) fn without_group(mut self) -> Self {
        self.group_id = None;
        self.group_settings.clear();
        self.subscription.clear();
        self.pattern = None;
        self
    }

    /// Adds a bootstrap address, `host:port`, or several with commas between them.
    ///
    /// Any broker of the cluster will do: the others are learned from it. Name at least two, so that one that is
    /// down does not keep the consumer from starting. They are asked again when every known broker is gone.
    #[doc(alias = "bootstrap.servers")]
    #[doc(alias = "metadata.broker.list")]
    pub fn bootstrap(mut self, address: impl Into<String>) -> Self {
        self.bootstrap.push(address.into());
        self
    }

    /// The name brokers write into their logs and quotas for this client.
    ///
    /// Default: `ottla`. Costs nothing; one name per application makes quotas and broker logs useful.
    #[doc(alias = "client.id")]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.config.client_id = client_id.into();
        self
    }

    /// Where to begin when no offset is known: none was committed, or the offset is confirmed to be out of range.
    ///
    /// Default: [`OffsetReset::Earliest`], because no default may lose a record. `Latest` skips what was written
    /// before, `Error` stops the partition with an error instead of choosing.
    /// Each choice is told by [`Event::OffsetReset`](crate::Event::OffsetReset).
    ///
    /// A log that an unclean leader election has cut (KIP-320) is read on from where it parts from what was read,
    /// whatever is chosen here ([`ResetCause::LogTruncation`](crate::ResetCause::LogTruncation)); in a group from
    /// the first record that is not done, if that lies before. `Error` alone stops the partition, with
    /// [`ErrorKind::DataLoss`](crate::ErrorKind::DataLoss) and where to [`resume_at`](crate::Error::resume_at). Reads
    /// that return no events tell such a cut by that error alone, else in the log.
    #[doc(alias = "auto.offset.reset")]
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.config.auto_offset_reset = reset;
        self
    }

    /// [`auto_offset_reset`](Self::auto_offset_reset) for one topic; for several, call it again.
    ///
    /// Default: none, so that what holds for all holds for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use ottla::{Consumer, OffsetReset};
    ///
    /// let builder = Consumer::builder("localhost:9092")
    ///     .group("billing")
    ///     .subscribe(["orders", "prices"])
    ///     .auto_offset_reset(OffsetReset::Earliest)
    ///     .auto_offset_reset_of("prices", OffsetReset::Latest);
    /// builder.validate()?;
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    pub fn auto_offset_reset_of(mut self, topic: impl Into<String>, reset: OffsetReset) -> Self {
        self.config.auto_offset_reset_of.insert(topic.into(), reset);
        self
    }

    /// Commits whenever so many records are done, besides the interval of [`commit`](Self::commit): with
    /// [`Commit::Auto`](crate::Commit::Auto) records that the reader came back from, with
    /// [`Commit::Manual`](crate::Commit::Manual) offsets that [marks](crate::CommitToken::mark) have passed.
    ///
    /// Default: none; the interval alone. It bounds how many records are repeated after a crash, whatever their rate.
    /// One commit is under way at a time: where they come faster than the coordinator answers, the next one holds
    /// more. A batch that is larger is committed as a whole: [`max_batch_records`](Self::max_batch_records) bounds it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use ottla::{Commit, Consumer};
    ///
    /// let builder = Consumer::builder("localhost:9092")
    ///     .group("billing")
    ///     .commit(Commit::Auto { interval: Duration::from_secs(10) })
    ///     .commit_records(1_000);
    /// builder.validate()?;
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    pub fn commit_records(mut self, records: usize) -> Self {
        self.config.commit_records = Some(records);
        self
    }

    /// How offsets are committed.
    ///
    /// Default: [`Commit::Auto`](crate::Commit::Auto) every 5 seconds, on revocation and on close. Auto commits
    /// only what is *done*: the reader has come back for more, and nothing that was handed out is held any more.
    /// With [`Commit::Manual`](crate::Commit::Manual) only what the application commits or marks is committed.
    /// With [`Commit::External`](crate::Commit::External) nothing is: the offsets are in a store of your own, and each
    /// partition that is assigned waits until [`start_offsets`](Self::start_offsets) or
    /// [`Consumer::start_at`](crate::Consumer::start_at) has said where it begins.
    /// A shorter interval means fewer repeated records after a crash, and more requests to the coordinator.
    /// Without a group nothing is committed.
    #[doc(alias = "enable.auto.commit")]
    #[doc(alias = "auto.commit.interval.ms")]
    #[doc(alias = "enable.auto.offset.store")]
    pub fn commit(mut self, commit: CommitMode) -> Self {
        self.config.commit = commit;
        self
    }

    /// Keeps the offsets in a store of your own, in the same transaction as the results perhaps: `find` says where
    /// partitions begin that are assigned, and nothing is committed to Kafka. Sets
    /// [`commit`](Self::commit) to [`Commit::External`](crate::Commit::External).
    ///
    /// `find` is called with the partitions inside of the next read, whatever read it is, which waits for its
    /// answer; nothing of them is fetched before. What it leaves out begins where
    /// [`auto_offset_reset`](Self::auto_offset_reset) says. Its error is the read's (kind
    /// [`NoOffset`](crate::ErrorKind::NoOffset), with yours as its source), and the next read calls it again; so does
    /// the next read after one that was dropped. It is dropped when its partitions are lost, or when it took longer
    /// than [`default_api_timeout`](Self::default_api_timeout): then they stop with an error each.
    ///
    /// With [`assign`](crate::Consumer::assign) it is asked for [`Offset::Committed`], with
    /// or without a group. [`group_metadata`](crate::Consumer::group_metadata) gives what fences a former owner that
    /// writes late.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Offset};
    /// # use ottla_broker::Broker;
    /// # struct Database;
    /// # impl Database {
    /// #     async fn offsets(&self, p: Vec<ottla::TopicPartition>) -> Result<Vec<(ottla::TopicPartition, i64)>, std::io::Error> {
    /// #         Ok(p.into_iter().map(|p| (p, 1)).collect())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b"])?;
    /// # let database = std::sync::Arc::new(Database);
    /// let stored = database.clone();
    /// let mut consumer = Consumer::builder(broker.bootstrap())
    ///     .group("billing")
    ///     .subscribe(["orders"])
    ///     .start_offsets(move |partitions| {
    ///         let stored = stored.clone();
    ///         async move {
    ///             let found = stored.offsets(partitions).await?;
    ///             Ok::<_, std::io::Error>(found.into_iter().map(|(p, offset)| (p, Offset::At(offset))))
    ///         }
    ///     })
    ///     .connect()
    ///     .await?;
    /// let batch = consumer.next_batch().await?.expect("nobody shuts it down");
    /// // One transaction: the results, and batch.next_offset() of the partition.
    /// assert_eq!((batch.first_offset(), batch.next_offset()), (1, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_offsets<F, R, I, E>(mut self, find: F) -> Self
    where
        F: Fn(Vec<TopicPartition>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (TopicPartition, Offset)>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.start_offsets = Some(StartOffsets::new(find));
        self.commit(CommitMode::External)
    }

    /// Whether records of transactions that are open or aborted are handed out (KIP-98).
    ///
    /// Default: [`IsolationLevel::ReadUncommitted`], as in Java (librdkafka: committed). `ReadCommitted` waits
    /// for the end of each transaction, so that a hanging one holds its partitions up.
    #[doc(alias = "isolation.level")]
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.config.isolation_level = level;
        self
    }

    /// Whether an unknown topic is created by the broker when it is asked for, if the broker is configured so.
    ///
    /// Default: `false`: a misspelt name should be an error and not a topic.
    #[doc(alias = "allow.auto.create.topics")]
    pub fn allow_auto_create_topics(mut self, allow: bool) -> Self {
        self.config.allow_auto_create_topics = allow;
        self
    }

    /// Whether [`Event::PartitionEof`](crate::Event::PartitionEof) tells that a partition was read to its end.
    ///
    /// Default: `false`. The event comes after the last record below the high watermark (with `ReadCommitted`
    /// below the last stable offset) was handed out, once until there is new data.
    #[doc(alias = "enable.partition.eof")]
    pub fn partition_eof(mut self, eof: bool) -> Self {
        self.config.partition_eof = eof;
        self
    }

    /// Whether events tell how the brokers stand: [`Throttled`](crate::Event::Throttled) and
    /// [`ThrottleEnded`](crate::Event::ThrottleEnded), [`AllBrokersDown`](crate::Event::AllBrokersDown) and
    /// [`BrokerAvailable`](crate::Event::BrokerAvailable).
    ///
    /// Default: `false`. Each is told once per change, by [`next_event`](crate::Consumer::next_event); what began and
    /// ended while the reader stayed away is not told of. They inform: a broker's throttling is obeyed, and brokers
    /// that are down are tried again, whoever listens. The log says the same without this setting.
    ///
    /// # Examples
    ///
    /// ```
    /// use ottla::{Consumer, Event};
    ///
    /// async fn watch() -> Result<(), ottla::Error> {
    ///     let builder = Consumer::builder("localhost:9092").group("billing").subscribe(["orders"]);
    ///     let mut consumer = builder.broker_events(true).connect().await?;
    ///     while let Some(event) = consumer.next_event().await? {
    ///         match event {
    ///             Event::AllBrokersDown { error } => eprintln!("no broker can be reached: {error}"),
    ///             Event::BrokerAvailable { .. } => eprintln!("it goes on"),
    ///             Event::Throttled { broker, throttle_time } => eprintln!("{broker:?}: {throttle_time:?}"),
    ///             _ => {}
    ///         }
    ///     }
    ///     consumer.close().await
    /// }
    /// # drop(watch);
    /// ```
    pub fn broker_events(mut self, events: bool) -> Self {
        self.config.broker_events = events;
        self
    }

    /// Most records in one [`Batch`](crate::Batch).
    ///
    /// Default: 10,000. A batch never waits to become full. Smaller ones are done, and committed, in smaller
    /// steps; each costs a visit to the buffers.
    #[doc(alias = "max.poll.records")]
    pub fn max_batch_records(mut self, records: usize) -> Self {
        self.config.max_batch_records = records;
        self
    }

    /// With marks ([`CommitToken::mark`](crate::CommitToken::mark)): how far delivery of a partition may run
    /// ahead of its oldest record that is not marked.
    ///
    /// Default: 100,000 records. One record that is never marked holds back the committed offset; this bound
    /// makes that visible, and keeps the number of repeated records after a crash finite.
    pub fn max_unmarked(mut self, records: usize) -> Self {
        self.config.max_unmarked = records;
        self
    }

    /// With [`Commit::Manual`](crate::Commit::Manual): how often what is marked is committed.
    ///
    /// Default: 5 seconds, and on revocation and close. Shorter means fewer repeated records after a crash, and
    /// more requests to the coordinator. Explicit commits do not wait for it.
    pub fn marks_interval(mut self, interval: Duration) -> Self {
        self.config.marks_interval = interval;
        self
    }

    /// Bound of [`Consumer::close`](crate::Consumer::close).
    ///
    /// Default: 30 seconds, as in Java. A healthy cluster needs milliseconds; the bound is for one that is not.
    #[doc(alias = "default.close.timeout.ms")]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Runs the driver as a task of the tokio runtime that the consumer is started on, instead of on a thread
    /// of its own.
    ///
    /// Default: a thread of its own. On your runtime, code that blocks stops heartbeats: a handler that blocks a
    /// current-thread runtime, or all workers of another, for longer than the session timeout loses its
    /// partitions to other members. What you gain is one thread less, and tests on paused time.
    /// The runtime needs its I/O and time drivers enabled.
    pub fn on_current_runtime(mut self) -> Self {
        self.on_current_runtime = true;
        self
    }

    pub(crate) fn is_on_current_runtime(&self) -> bool {
        self.on_current_runtime
    }

    /// For this project's tests: connects through `connect` instead of over TCP.
    #[doc(hidden)]
    pub fn __connect_with<F, R, S>(mut self, connect: F) -> Self
    where
        F: Fn(String, u16) -> R + Send + Sync + 'static,
        R: Future<Output = std::io::Result<S>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        self.transport = Arc::new(crate::driver::Plugged(connect));
        self
    }

    /// For this project's tests: the same seed makes the same jitter.
    #[doc(hidden)]
    pub fn __seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("bootstrap", &self.bootstrap)
            .field("group_id", &self.group_id)
            .field("subscription", &self.subscription)
            .field("pattern", &self.pattern)
            .field("config", &self.config)
            .field("group", &self.group)
            .field("rebalance_timeout", &self.rebalance_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("on_current_runtime", &self.on_current_runtime)
            .field("decode_threads", &self.decode_threads)
            .finish_non_exhaustive()
    }
}
