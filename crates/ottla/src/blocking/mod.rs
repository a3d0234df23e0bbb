//! The same for programs without async: calls that block.
//!
//! The driver runs on its own thread as ever; here the calling thread sleeps until there is something. Nothing of
//! it needs a tokio runtime. Guarantees, errors and names are those of [`crate::Consumer`].
//!
//! # Examples
//!
//! ```
//! use ottla::blocking;
//! # use ottla_broker::Broker;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let broker = runtime.block_on(Broker::builder().topic("orders", 1).on_own_thread().start())?;
//! # broker.produce("orders", 0, ["a", "b"])?;
//! let builder = ottla::Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
//! let mut consumer = blocking::Consumer::connect(builder)?;
//! let handle = consumer.handle();
//! let mut seen = 0;
//! while let Some(batch) = consumer.next_batch()? {
//!     for record in &batch {
//!         println!("{} {:?}", record.offset(), record.value());
//!         seen += 1;
//!     }
//!     if seen == 2 {
//!         handle.shutdown(); // usually from elsewhere
//!     }
//! }
//! consumer.close()?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod forward;
mod park;

use std::future::Future;
use std::time::Duration;

use ottla_core::delivery::{Batch, Event, Record};
use ottla_core::{Error, ErrorKind};

use crate::{Builder, ConsumerHandle};
use park::{block_on, block_on_for};

/// A [consumer](crate::Consumer) whose calls block.
#[derive(Debug)]
pub struct Consumer {
    inner: crate::Consumer,
}

/// What a read with a time limit came to.
#[derive(Debug)]
pub enum Waited<T> {
    /// Something came.
    Ready(T),
    /// Nothing came in time. Nothing is lost; read on.
    TimedOut,
    /// Nothing will come any more, after [`shutdown`](ConsumerHandle::shutdown).
    Ended,
}

impl<T> Waited<T> {
    /// What came, if something did.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(value) => Some(value),
            Self::TimedOut | Self::Ended => None,
        }
    }
}

/// Waits that long for a read.
fn within<T>(
    read: impl Future<Output = Result<Option<T>, Error>>,
    timeout: Duration,
) -> Result<Waited<T>, Error> {
    match block_on_for(read, timeout) {
        None => Ok(Waited::TimedOut),
        Some(Ok(None)) => Ok(Waited::Ended),
        Some(Ok(Some(value))) => Ok(Waited::Ready(value)),
        Some(Err(error)) => Err(error),
    }
}

impl Consumer {
    /// Connects; see [`Builder::connect`].
    ///
    /// # Errors
    ///
    /// As there; and kind [`Config`](ErrorKind::Config) with
    /// [`on_current_runtime`](Builder::on_current_runtime), whose driver would wait for the thread that waits for it.
    pub fn connect(builder: Builder) -> Result<Self, Error> {
        if builder.is_on_current_runtime() {
            let text = "on_current_runtime: a consumer that blocks needs a driver on a thread of its own";
            return Err(Error::new(ErrorKind::Config, text));
        }
        block_on(builder.connect()).map(Self::from)
    }

    /// Waits for the next batch; see [`next_batch`](crate::Consumer::next_batch).
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "poll")]
    pub fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        block_on(self.inner.next_batch())
    }

    /// The same, for no longer than `timeout`. With zero it takes what is there.
    ///
    /// # Errors
    ///
    /// As [`next_batch`](crate::Consumer::next_batch).
    pub fn next_batch_timeout(&mut self, timeout: Duration) -> Result<Waited<Batch>, Error> {
        within(self.inner.next_batch(), timeout)
    }

    /// Waits for records of whatever partitions; see [`next_batches`](crate::Consumer::next_batches).
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "consume")]
    pub fn next_batches(
        &mut self,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Option<Vec<Batch>>, Error> {
        block_on(self.inner.next_batches(max_records, max_wait))
    }

    /// Waits for the next record; see [`next_record`](crate::Consumer::next_record).
    ///
    /// # Errors
    ///
    /// As there.
    #[doc(alias = "recv")]
    pub fn next_record(&mut self) -> Result<Option<Record>, Error> {
        block_on(self.inner.next_record())
    }

    /// The same, for no longer than `timeout`. With zero it takes what is there.
    ///
    /// # Errors
    ///
    /// As [`next_record`](crate::Consumer::next_record).
    pub fn next_record_timeout(&mut self, timeout: Duration) -> Result<Waited<Record>, Error> {
        within(self.inner.next_record(), timeout)
    }

    /// Waits for the next thing that happens; see [`next_event`](crate::Consumer::next_event).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        block_on(self.inner.next_event())
    }

    /// The same, for no longer than `timeout`. With zero it takes what is there.
    ///
    /// # Errors
    ///
    /// As [`next_event`](crate::Consumer::next_event).
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Result<Waited<Event>, Error> {
        within(self.inner.next_event(), timeout)
    }

    /// The records, one after the other; see [`records`](crate::Consumer::records). It ends after
    /// [`shutdown`](ConsumerHandle::shutdown) and after an error that [is fatal](Error::is_fatal).
    pub fn records(&mut self) -> Records<'_> {
        Records { consumer: self, ended: false }
    }

    /// A handle for other threads. Its synchronous calls (`shutdown`, `commit_in_background`, `position`, …) are used
    /// as they are; it does not keep the consumer alive.
    pub fn handle(&self) -> ConsumerHandle {
        self.inner.handle()
    }

    /// Commits what is done, leaves the group and ends the driver, within the configured
    /// [`close_timeout`](Builder::close_timeout); see [`close`](crate::Consumer::close).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(self) -> Result<(), Error> {
        block_on(self.inner.close())
    }

    /// [`close`](Self::close) within `timeout`.
    ///
    /// # Errors
    ///
    /// As `close`.
    pub fn close_timeout(self, timeout: Duration) -> Result<(), Error> {
        block_on(self.inner.close_timeout(timeout))
    }

    /// The consumer whose calls are async.
    pub fn into_inner(self) -> crate::Consumer {
        self.inner
    }
}

impl From<crate::Consumer> for Consumer {
    /// Its driver must run on a thread of its own, or on a runtime of which the calling thread is no worker.
    fn from(inner: crate::Consumer) -> Self {
        Self { inner }
    }
}

/// The records of a consumer, one after the other. Made by [`Consumer::records`].
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is used"]
pub struct Records<'a> {
    consumer: &'a mut Consumer,
    ended: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.consumer.next_record().transpose();
        self.ended = match &item {
            None => true,
            Some(Err(error)) => error.is_fatal(),
            Some(Ok(_)) => false,
        };
        item
    }
}

impl std::iter::FusedIterator for Records<'_> {}
