//! The reads: faces of the one primitive, `take`.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ottla_core::Error;
use ottla_core::delivery::{Batch, Event, Filter, Gathered, Gathering, Record, Taken};

use super::Consumer;
use super::start::{Asking, Starts};
use crate::observe::{Gives, Reading};

/// What a read keeps from poll to poll.
pub(super) type ReadState = Reading<Asking>;

impl Consumer {
    /// One poll of a read, watched.
    fn read<T: Gives>(
        &mut self,
        reading: &mut ReadState,
        poll: impl FnOnce(&mut Self, &mut Asking) -> Poll<Result<Option<T>, Error>>,
    ) -> Poll<Result<Option<T>, Error>> {
        let clock = self.link.clock();
        self.watch.polled(reading, || clock.now());
        let answer = ready!(reading.within(|asking| poll(self, asking)));
        self.watch.gave(reading, &answer, || clock.now());
        Poll::Ready(answer)
    }

    /// Waits for the next batch of records, all of one partition.
    ///
    /// Coming back for more says that the batch before is worked through: with
    /// [`Commit::Auto`](crate::Commit::Auto) it is *done*, once nothing of it is held any more. Partitions that
    /// have something take turns. Revocations are handled by the configured defaults; see
    /// [`next_event`](Self::next_event), which also tells when a position was moved by a
    /// [reset](crate::Event::OffsetReset).
    ///
    /// `None` after [`shutdown`](crate::ConsumerHandle::shutdown).
    ///
    /// # Errors
    ///
    /// An error of one partition (a batch that cannot be decoded, a topic that may not be read) is returned
    /// once and stops that partition only; call again for the others, and
    /// [`seek`](Self::seek) to [`resume_at`](Error::resume_at) to skip what is bad. An error that
    /// [is fatal](Error::is_fatal) is returned by every call from then on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from the buffers before the poll that returns it.
    #[doc(alias = "poll")]
    pub async fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let mut reading = ReadState::default();
        poll_fn(|cx| {
            self.read(&mut reading, |me, asking| {
                ready!(me.poll_starts(cx, asking))?;
                me.poll_batch(cx, me.max_batch_records)
            })
        })
        .await
    }

    /// Waits for the next record.
    ///
    /// The record shares the buffer it was fetched into and holds it until it is dropped. Coming back for more
    /// says that the one before is worked through. `None` after
    /// [`shutdown`](crate::ConsumerHandle::shutdown). [`next_batch`](Self::next_batch) costs less per record.
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from the buffers before the poll that returns it.
    #[doc(alias = "recv")]
    pub async fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let mut reading = ReadState::default();
        poll_fn(|cx| self.poll_record(cx, &mut reading)).await
    }

    /// Waits for the next thing that happens: a batch, or a change of the assignment, or something else of
    /// [`Event`].
    ///
    /// Reading on after [`Event::Revoking`] equals [`finish`](crate::Revocation::finish). `None` after
    /// [`shutdown`](crate::ConsumerHandle::shutdown).
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from the buffers before the poll that returns it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Consumer, Event};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a"])?;
    /// # let mut consumer =
    /// #     Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]).connect().await?;
    /// while let Some(event) = consumer.next_event().await? {
    ///     match event {
    ///         Event::Assigned(partitions) => println!("open the state of {partitions:?}"),
    ///         Event::Batch(batch) => {
    ///             println!("{} records of {}", batch.len(), batch.topic_partition());
    ///             # break;
    ///         }
    ///         Event::Revoking(revocation) => println!("save the state of {:?}", revocation.partitions()),
    ///         Event::Lost(partitions) => println!("throw the state of {partitions:?} away"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next_event(&mut self) -> Result<Option<Event>, Error> {
        let mut reading = ReadState::default();
        poll_fn(|cx| {
            self.read(&mut reading, |me, asking| {
                if !matches!(me.starts, Starts::Events) {
                    ready!(me.poll_starts(cx, asking))?;
                }
                me.poll_event(cx)
            })
        })
        .await
    }

    /// Waits for records of whatever partitions: until `max_records` are there, or `max_wait` has passed since the
    /// call. For sinks that write many at once.
    ///
    /// Gives a [`Batch`] for each partition and stretch, `max_records` records altogether at most; none if nothing
    /// came in time. It does not wait for more than fits into half of
    /// [`max_buffered_bytes`](crate::Builder::max_buffered_bytes), nor longer than half of
    /// [`max_poll_interval`](crate::Builder::max_poll_interval). With a `max_wait` of zero it gives what is there.
    /// Coming back for more says that all of them are worked through. `None` after
    /// [`shutdown`](crate::ConsumerHandle::shutdown).
    ///
    /// # Errors
    ///
    /// As [`next_batch`](Self::next_batch); batches that are there come with the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken from the buffers before the poll that returns it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ottla::Consumer;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 2).start().await?;
    /// # broker.produce("orders", 0, ["a", "b"])?;
    /// # broker.produce("orders", 1, ["c"])?;
    /// # let mut consumer =
    /// #     Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]).connect().await?;
    /// # let handle = consumer.handle();
    /// while let Some(batches) = consumer.next_batches(5_000, Duration::from_secs(1)).await? {
    ///     let rows: Vec<&[u8]> = batches.iter().flatten().filter_map(|record| record.value()).collect();
    ///     println!("insert {} rows", rows.len());
    ///     # handle.shutdown();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "poll")]
    #[doc(alias = "consume")]
    pub async fn next_batches(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Option<Vec<Batch>>, Error> {
        let mut gathering = Gathering::new(max_records, max_wait);
        let mut reading = ReadState::default();
        poll_fn(|cx| {
            self.read(&mut reading, |me, asking| {
                ready!(me.poll_starts(cx, asking))?;
                me.poll_batches(cx, &mut gathering)
            })
        })
        .await
    }

    fn poll_batches(
        &mut self,
        cx: &mut Context<'_>,
        gathering: &mut Gathering,
    ) -> Poll<Result<Option<Vec<Batch>>, Error>> {
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let Self { link, decoder, reader, .. } = self;
        link.delivery.give_back(reader);
        let gathered = link.delivery.gather(link.now(), decoder, gathering, cx.waker());
        if matches!(gathered, Gathered::Pending) {
            return Poll::Pending;
        }
        budget.made_progress();
        Poll::Ready(match gathered {
            Gathered::Batches(batches) => Ok(Some(batches)),
            Gathered::Error(error) => Err(error),
            Gathered::End | Gathered::Pending => Ok(None),
        })
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        let max_records = self.max_batch_records;
        Poll::Ready(match ready!(self.poll_take(cx, true, max_records)) {
            Taken::Batch(batch) => Ok(Some(Event::Batch(batch))),
            Taken::Event(event) => Ok(Some(event)),
            Taken::Error(error) => Err(error),
            Taken::End => Ok(None),
            Taken::Pending | Taken::Record(_) => return Poll::Pending,
        })
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, max_records: usize) -> Poll<Result<Option<Batch>, Error>> {
        loop {
            return Poll::Ready(match ready!(self.poll_take(cx, false, max_records)) {
                Taken::Batch(batch) => Ok(Some(batch)),
                Taken::Event(_) => continue,
                Taken::Error(error) => Err(error),
                Taken::End => Ok(None),
                Taken::Pending | Taken::Record(_) => return Poll::Pending,
            });
        }
    }

    pub(super) fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
        reading: &mut ReadState,
    ) -> Poll<Result<Option<Record>, Error>> {
        // A record costs less than the budget does, so that is asked for now and then.
        if !self.reader.is_to_yield()
            && let Some(record) = self.reader.next_at_hand()
        {
            return Poll::Ready(Ok(Some(record)));
        }
        match self.reader.is_at_hand() {
            // Other tasks get their turn: no read to be watched.
            true => self.poll_strip(cx, &mut reading.more),
            false => self.read(reading, |me, asking| me.poll_strip(cx, asking)),
        }
    }

    fn poll_strip(
        &mut self,
        cx: &mut Context<'_>,
        asking: &mut Asking,
    ) -> Poll<Result<Option<Record>, Error>> {
        ready!(self.poll_starts(cx, asking))?;
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let Self { link, decoder, reader, .. } = self;
        let taken = link.delivery.take_record(|| link.now(), decoder, reader, Some(cx.waker()));
        if !matches!(taken, Taken::Pending) {
            budget.made_progress();
        }
        Poll::Ready(match taken {
            Taken::Record(record) => Ok(Some(record)),
            Taken::Error(error) => Err(error),
            Taken::End => Ok(None),
            Taken::Pending | Taken::Batch(_) | Taken::Event(_) => return Poll::Pending,
        })
    }

    /// The one read. Ready reads use up the budget of a tokio task, so that a reader that always finds data
    /// lets other tasks of its runtime run.
    pub(super) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        events: bool,
        max_records: usize,
    ) -> Poll<Taken> {
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let filter = Filter { events, partition: None, max_records };
        let now = self.link.now();
        self.link.delivery.give_back(&mut self.reader);
        match self.link.delivery.take(now, &mut self.decoder, filter, Some(cx.waker())) {
            Taken::Pending => Poll::Pending,
            taken => {
                budget.made_progress();
                Poll::Ready(taken)
            }
        }
    }
}
