//! Where partitions begin whose offsets the user keeps: [`Commit::External`](crate::Commit::External).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla_core::client::{Command, Offset};
use ottla_core::{Error, ErrorKind, OwnershipEpoch, TopicPartition};

use super::Consumer;

type Failure = Box<dyn StdError + Send + Sync>;
type Found = Result<Vec<(TopicPartition, Offset)>, Failure>;
type Finding = Pin<Box<dyn Future<Output = Found> + Send>>;

/// What the builder was given.
#[derive(Clone)]
pub(crate) struct StartOffsets(Arc<dyn Fn(Vec<TopicPartition>) -> Finding + Send + Sync>);

impl StartOffsets {
    pub(crate) fn new<F, R, I, E>(find: F) -> Self
    where
        F: Fn(Vec<TopicPartition>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (TopicPartition, Offset)>,
        E: Into<Failure>,
    {
        Self(Arc::new(move |partitions| {
            let found = find(partitions);
            Box::pin(async move { Ok(found.await.map_err(Into::into)?.into_iter().collect()) })
        }))
    }
}

impl fmt::Debug for StartOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartOffsets")
    }
}

/// Who says where partitions begin.
#[derive(Clone, Debug)]
pub(crate) enum Starts {
    /// Kafka and the reset policy.
    Committed,
    /// The reader, when it is given `Event::Assigned`.
    Events,
    /// This function, inside of the reads.
    Function(StartOffsets),
}

/// A question that a read has put to the user's function. Dropped with the read, so that nothing of the user's is
/// left half done while nobody polls it; the next read asks again.
#[derive(Default)]
pub(super) struct Asking(Option<Box<Running>>);

struct Running {
    partitions: Vec<(TopicPartition, OwnershipEpoch)>,
    finding: Finding,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asking").field(&self.0.is_some()).finish()
    }
}

impl Consumer {
    /// Says where partitions begin that [`Event::Assigned`](crate::Event::Assigned) named, with
    /// [`Commit::External`](crate::Commit::External).
    ///
    /// Nothing of them is fetched before. What is not answered within
    /// [`default_api_timeout`](crate::Builder::default_api_timeout) of the event stops with an error of kind
    /// [`NoOffset`](ErrorKind::NoOffset). Partitions that do not wait for it, those that were lost meanwhile among
    /// them, are left out. Reads that give no events need
    /// [`start_offsets`](crate::Builder::start_offsets) instead.
    ///
    /// # Errors
    ///
    /// Kind [`ApiMisuse`](ErrorKind::ApiMisuse) for an offset that is negative or [`Offset::Committed`]: then none of
    /// them is taken. Where one is named twice, the last place counts.
    ///
    /// # Cancel safety
    ///
    /// Polled once, it is carried out.
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Commit, Consumer, Event, Offset, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a", "b", "c"])?;
    /// # async fn load(_: &TopicPartition) -> Result<i64, std::io::Error> { Ok(2) }
    /// let mut consumer = Consumer::builder(broker.bootstrap())
    ///     .group("billing")
    ///     .subscribe(["orders"])
    ///     .commit(Commit::External)
    ///     .connect()
    ///     .await?;
    /// while let Some(event) = consumer.next_event().await? {
    ///     match event {
    ///         Event::Assigned(partitions) => {
    ///             for partition in partitions {
    ///                 let offset = load(&partition).await?; // from the database
    ///                 consumer.start_at([(partition, Offset::At(offset))]).await?;
    ///             }
    ///         }
    ///         Event::Batch(batch) => {
    ///             // One transaction: the results, and batch.next_offset() of the partition.
    ///             assert_eq!(batch.first_offset(), 2);
    ///             # break;
    ///         }
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_at(
        &self,
        places: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<(), Error> {
        let places: Vec<(TopicPartition, Offset)> = places.into_iter().collect();
        check(&places)?;
        let places: BTreeMap<_, _> = places.into_iter().collect();
        let starts: Vec<_> = {
            let mut delivery = self.link.delivery.lock();
            let mut owned = |tp: &TopicPartition| delivery.answer_start(tp, None);
            places.into_iter().filter_map(|(tp, offset)| Some((owned(&tp)?, tp, offset))).collect()
        };
        let starts = starts.into_iter().map(|(epoch, tp, offset)| (tp, epoch, Some(offset))).collect();
        self.tell(Command::StartAt(starts)).await
    }

    /// Lets the user's function say where partitions begin, before the read goes on. Ready when nothing waits for it.
    pub(super) fn poll_starts(&self, cx: &mut Context<'_>, asking: &mut Asking) -> Poll<Result<(), Error>> {
        match &self.starts {
            Starts::Committed => Poll::Ready(Ok(())),
            Starts::Events => Poll::Ready(self.refuse_questions()),
            Starts::Function(function) => self.poll_function(cx, asking, function),
        }
    }

    /// A read that gives no events cannot ask.
    fn refuse_questions(&self) -> Result<(), Error> {
        if !self.link.delivery.lock().is_asking() {
            return Ok(());
        }
        let text = "with Commit::External partitions wait to be told where they begin: read with next_event and \
                    answer with start_at, or give the builder start_offsets";
        Err(Error::new(ErrorKind::ApiMisuse, text))
    }

    fn poll_function(
        &self,
        cx: &mut Context<'_>,
        asking: &mut Asking,
        function: &StartOffsets,
    ) -> Poll<Result<(), Error>> {
        loop {
            let Some(running) = &mut asking.0 else {
                let partitions = self.link.delivery.lock().ask_reader(self.link.now());
                if partitions.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let names = partitions.iter().map(|(tp, _)| tp.clone()).collect();
                let finding = (function.0)(names);
                asking.0 = Some(Box::new(Running { partitions, finding }));
                continue;
            };
            match running.finding.as_mut().poll(cx) {
                Poll::Ready(found) => {
                    let partitions = std::mem::take(&mut running.partitions);
                    asking.0 = None;
                    self.found(partitions, found)?;
                }
                // Lost, or the time is over: what it finds helps nobody.
                Poll::Pending if !self.link.delivery.lock().is_awaited(&running.partitions, cx.waker()) => {
                    asking.0 = None;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn found(&self, partitions: Vec<(TopicPartition, OwnershipEpoch)>, found: Found) -> Result<(), Error> {
        let found = found.map_err(|source| {
            let text =
                "start_offsets failed: the partitions that were assigned wait, the next read asks again";
            Error::new(ErrorKind::NoOffset, text).with_boxed_source(source).with_fatal(false)
        })?;
        check(&found)?;
        let asked: BTreeSet<&TopicPartition> = partitions.iter().map(|(tp, _)| tp).collect();
        if let Some((other, _)) = found.iter().find(|(tp, _)| !asked.contains(tp)) {
            let text = "start_offsets answered for a partition that it was not asked for";
            return Err(Error::new(ErrorKind::ApiMisuse, text).with_partition(other.clone()));
        }
        let places: BTreeMap<_, _> = found.into_iter().collect();
        let mut delivery = self.link.delivery.lock();
        let answered =
            partitions.into_iter().filter(|(tp, epoch)| delivery.answer_start(tp, Some(*epoch)).is_some());
        let starts = answered
            .map(|(tp, epoch)| {
                let offset = places.get(&tp).copied();
                (tp, epoch, offset)
            })
            .collect();
        drop(delivery);
        // Its outcome says nothing new: what can be wrong was looked at.
        self.link.send(Command::StartAt(starts)).map(drop)
    }
}

fn check(places: &[(TopicPartition, Offset)]) -> Result<(), Error> {
    let Some((tp, offset)) = places.iter().find(|(_, offset)| !offset.is_start()) else { return Ok(()) };
    let text = format!("{offset} is no place to start at: the offsets are in a store of your own");
    Err(Error::new(ErrorKind::ApiMisuse, text).with_partition(tp.clone()))
}
