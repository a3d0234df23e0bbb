//! A task for each partition.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use ottla_core::delivery::{Batch, Filter, PartitionEnd, Taken};
use ottla_core::{CommitError, Error, ErrorKind, TopicPartition};
use ottla_wire::records::BatchDecoder;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::Instrument;

use super::Consumer;
use super::start::Asking;
use crate::link::WeakLink;
use crate::observe::{Reading, Watch};
use crate::{ConsumerHandle, IntoCommit};

type Failure = Box<dyn StdError + Send + Sync>;

impl Consumer {
    /// Gives each partition a task of its own, with a backpressure of its own: one that is slow holds up no
    /// other.
    ///
    /// `task` is called with each partition that is assigned, and what it returns is spawned on the tokio
    /// runtime this is called in. The task reads with [`PartitionConsumer::next_batch`] until that gives `None`,
    /// finishes, and returns. Resolves after [`shutdown`](ConsumerHandle::shutdown), when all tasks have
    /// returned; then [`close`](Self::close).
    ///
    /// - A task is never aborted. When its partition is taken back, lost, or everything ends, its next read gives
    ///   `None` and [`end`](PartitionConsumer::end) the reason.
    /// - A revocation waits until the tasks of its partitions have returned, or its deadline has passed; then they
    ///   are lost.
    /// - A partition that comes again gets its next task when the one before has returned, and so does a
    ///   partition whose task returns before its end: one that does not want to read on must not return.
    /// - [`max_poll_interval`](crate::Builder::max_poll_interval) holds for each partition: the stuck one's read
    ///   ends with [`PartitionEnd::Lost`], and the member leaves the group and joins again.
    /// - With [`Commit::Auto`](crate::Commit::Auto) a batch is done when the task came back for more or returned
    ///   `Ok`, and nothing of it is held.
    ///
    /// # Errors
    ///
    /// The first task that fails or panics, and the first error of the consumer that belongs to no task, stops
    /// fetching as [`shutdown`](ConsumerHandle::shutdown) does, ends all reads, and is returned when all tasks have
    /// returned. What the failed task had in hand is not committed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the tasks go on, and the next call takes them over. Meanwhile no task is begun, and nobody looks
    /// for errors.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Consumer;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 2).start().await?;
    /// # broker.produce("orders", 0, ["a", "b"])?;
    /// let mut consumer =
    ///     Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]).connect().await?;
    /// let handle = consumer.handle();
    /// consumer
    ///     .run_partitioned(|mut partition| {
    ///         let handle = handle.clone();
    ///         async move {
    ///             while let Some(batch) = partition.next_batch().await? {
    ///                 println!("{} records of {}", batch.len(), batch.topic_partition());
    ///                 handle.shutdown(); // usually from elsewhere
    ///             }
    ///             println!("{} ends: {:?}", partition.topic_partition(), partition.end());
    ///             Ok::<_, ottla::Error>(())
    ///         }
    ///     })
    ///     .await?;
    /// consumer.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_partitioned<S, F, E>(&mut self, mut task: S) -> Result<(), PartitionTaskError>
    where
        S: FnMut(PartitionConsumer) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>> + 'static,
    {
        if tokio::runtime::Handle::try_current().is_err() {
            let text = "run_partitioned spawns tasks: call it inside of a tokio runtime";
            return Err(PartitionTaskError::Consumer(Error::new(ErrorKind::ApiMisuse, text)));
        }
        let mut asking = Asking::default();
        poll_fn(|cx| self.poll_tasks(cx, &mut task, &mut asking)).await
    }

    fn poll_tasks<S, F, E>(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut S,
        asking: &mut Asking,
    ) -> Poll<Result<(), PartitionTaskError>>
    where
        S: FnMut(PartitionConsumer) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure> + 'static,
    {
        loop {
            while let Poll::Ready(Some((topic_partition, outcome))) = self.tasks.poll_returned(cx) {
                let now = self.link.now();
                self.link.delivery.lock().release(now, &topic_partition, outcome.is_ok());
                if let Err(error) = outcome {
                    self.stop_tasks(error);
                }
            }
            if self.tasks.stopped {
                return match self.tasks.names.is_empty() {
                    true => Poll::Ready(self.tasks.failed.take().map_or(Ok(()), Err)),
                    false => Poll::Pending,
                };
            }
            // The tasks go on meanwhile.
            if let Poll::Ready(Err(error)) = self.poll_starts(cx, asking) {
                self.stop_tasks(PartitionTaskError::Consumer(error));
                continue;
            }
            // Events by the defaults, and no data.
            match self.poll_take(cx, false, 0) {
                Poll::Pending => {}
                Poll::Ready(Taken::End) => {
                    self.tasks.stopped = true;
                    continue;
                }
                Poll::Ready(Taken::Error(error)) => {
                    self.stop_tasks(PartitionTaskError::Consumer(error));
                    continue;
                }
                Poll::Ready(_) => continue,
            }
            // Only now, when whatever comes next wakes this task, is nothing missed.
            let claimed = self.link.delivery.lock().claim();
            if claimed.is_empty() {
                return Poll::Pending;
            }
            for topic_partition in claimed {
                let over = Arc::new(AtomicBool::new(false));
                let span = self.watch.task(&topic_partition);
                let reader = self.partition(topic_partition.clone(), Arc::clone(&over));
                // What the user does before the future is the task's, too.
                let running = span.in_scope(|| task(reader));
                let running = async move { running.await.map_err(Into::into) }.instrument(span);
                self.tasks.spawn(topic_partition, over, running);
            }
        }
    }

    fn partition(&self, topic_partition: TopicPartition, over: Arc<AtomicBool>) -> PartitionConsumer {
        PartitionConsumer {
            link: self.link.downgrade(),
            handle: self.handle.clone(),
            decoder: BatchDecoder::default(),
            topic_partition,
            max_batch_records: self.max_batch_records,
            end: None,
            over,
            watch: self.watch.another(),
        }
    }

    /// The first failure ends all of them.
    fn stop_tasks(&mut self, error: PartitionTaskError) {
        let mut delivery = self.link.delivery.lock();
        // A fatal error is met by every task: it is nobody's own.
        let error = delivery.fatal().cloned().map_or(error, PartitionTaskError::Consumer);
        self.tasks.failed.get_or_insert(error);
        self.tasks.stopped = true;
        delivery.shutdown();
    }
}

/// The tasks that run, and how the first one failed.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<Result<(), Failure>>,
    names: BTreeMap<Id, (TopicPartition, Arc<AtomicBool>)>,
    stopped: bool,
    failed: Option<PartitionTaskError>,
}

impl Tasks {
    fn spawn(
        &mut self,
        topic_partition: TopicPartition,
        over: Arc<AtomicBool>,
        task: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, (topic_partition, over));
    }

    /// A task that has returned.
    fn poll_returned(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(TopicPartition, Result<(), PartitionTaskError>)>> {
        let Some(joined) = ready!(self.running.poll_join_next_with_id(cx)) else { return Poll::Ready(None) };
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((topic_partition, over)) = self.names.remove(&id) else { return Poll::Ready(None) };
        over.store(true, Ordering::Release);
        let failed = |source| PartitionTaskError::Task { topic_partition: topic_partition.clone(), source };
        let outcome = match joined {
            Ok((_, outcome)) => outcome.map_err(failed),
            Err(error) => Err(PartitionTaskError::panicked(topic_partition.clone(), error)),
        };
        Poll::Ready(Some((topic_partition, outcome)))
    }
}

impl Drop for Tasks {
    /// A task is never aborted: its next read tells it that everything has ended.
    fn drop(&mut self) {
        self.running.detach_all();
    }
}

/// Reads one partition: what the tasks of [`Consumer::run_partitioned`] are given.
#[derive(Debug)]
pub struct PartitionConsumer {
    link: WeakLink,
    handle: ConsumerHandle,
    decoder: BatchDecoder,
    topic_partition: TopicPartition,
    max_batch_records: usize,
    end: Option<PartitionEnd>,
    /// Its task has returned: whoever has this still is not to read what the next task reads.
    over: Arc<AtomicBool>,
    watch: Watch,
}

impl PartitionConsumer {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Waits for the next batch of the partition.
    ///
    /// Coming back for more says that the batch before is worked through. `None` when the partition is not this
    /// task's any more; [`end`](Self::end) says why.
    ///
    /// # Errors
    ///
    /// A batch that cannot be decoded, once: [`seek`](ConsumerHandle::seek) to
    /// [`resume_at`](Error::resume_at) to go on behind it, or return the error to stop everything. An error that
    /// [is fatal](Error::is_fatal) is returned by every call from then on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from the buffers before the poll that returns it.
    pub async fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let mut reading = Reading::<()>::default();
        poll_fn(|cx| {
            let clock = self.link.clock();
            self.watch.polled(&mut reading, || clock.now());
            let answer = ready!(reading.within(|_| self.poll_batch(cx)));
            self.watch.gave(&mut reading, &answer, || clock.now());
            Poll::Ready(answer)
        })
        .await
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Batch>, Error>> {
        if self.over.load(Ordering::Acquire) {
            self.end.get_or_insert(PartitionEnd::Revoked);
        }
        if self.end.is_some() {
            return Poll::Ready(Ok(None));
        }
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let Ok(link) = self.link.upgrade() else {
            self.end = Some(PartitionEnd::Shutdown);
            return Poll::Ready(Ok(None));
        };
        let partition = Some(&self.topic_partition);
        let filter = Filter { events: false, partition, max_records: self.max_batch_records };
        let taken = link.delivery.take(link.now(), &mut self.decoder, filter, Some(cx.waker()));
        if matches!(taken, Taken::Pending) {
            return Poll::Pending;
        }
        budget.made_progress();
        Poll::Ready(match taken {
            Taken::Batch(batch) => Ok(Some(batch)),
            Taken::Error(error) => Err(error),
            _ => {
                self.end = link.delivery.lock().partition_end(&self.topic_partition);
                Ok(None)
            }
        })
    }

    /// Why nothing more comes; `None` before the read that gave `None`.
    pub fn end(&self) -> Option<PartitionEnd> {
        self.end
    }

    /// A handle of the consumer.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// Commits offsets; see [`ConsumerHandle::commit`].
    ///
    /// # Errors
    ///
    /// [`CommitError::NotOwned`] if the partition is not owned any more, or was assigned anew or sought since.
    ///
    /// # Cancel safety
    ///
    /// Polled once, the commit is sent.
    pub async fn commit(&self, what: impl IntoCommit) -> Result<(), CommitError> {
        self.handle.commit(what).await
    }
}

/// Why [`Consumer::run_partitioned`] ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum PartitionTaskError {
    /// An error of the consumer that belongs to no task.
    Consumer(Error),
    /// A task returned this error.
    Task {
        /// Whose task.
        topic_partition: TopicPartition,
        /// What it returned.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A task panicked.
    Panicked {
        /// Whose task.
        topic_partition: TopicPartition,
        /// What the panic said, if it was a text.
        message: Option<String>,
    },
}

impl PartitionTaskError {
    fn panicked(topic_partition: TopicPartition, error: JoinError) -> Self {
        let message = error.try_into_panic().ok().and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        Self::Panicked { topic_partition, message }
    }
}

impl fmt::Display for PartitionTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer(error) => error.fmt(f),
            Self::Task { topic_partition, source } => write!(f, "the task of {topic_partition}: {source}"),
            Self::Panicked { topic_partition, message } => {
                let message = message.as_deref().unwrap_or("no text");
                write!(f, "the task of {topic_partition} panicked: {message}")
            }
        }
    }
}

impl StdError for PartitionTaskError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Consumer(error) => error.source(),
            Self::Task { source, .. } => Some(&**source),
            Self::Panicked { .. } => None,
        }
    }
}
