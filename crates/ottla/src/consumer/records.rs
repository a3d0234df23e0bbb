//! Records as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use ottla_core::Error;
use ottla_core::delivery::Record;

use super::Consumer;
use super::read::ReadState;

/// The records of a consumer, owned, one after the other. Made by [`Consumer::records`].
///
/// Dropping it loses nothing: the next read goes on behind the last record it gave.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Records<'a> {
    consumer: &'a mut Consumer,
    reading: ReadState,
    ended: bool,
}

impl Consumer {
    /// The records as a [`Stream`].
    ///
    /// It ends after [`shutdown`](crate::ConsumerHandle::shutdown), and after an error that
    /// [is fatal](Error::is_fatal); any other error is given once and the stream goes on with the other
    /// partitions. Several records may be held at the same time: with [`Commit::Auto`](crate::Commit::Auto) a
    /// record is done when the stream was polled again *and* the record was dropped, and only what lies before
    /// the oldest one that is held is committed.
    #[doc(alias = "stream")]
    pub fn records(&mut self) -> Records<'_> {
        Records { consumer: self, reading: ReadState::default(), ended: false }
    }
}

impl Stream for Records<'_> {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Self { consumer, reading, .. } = &mut *self;
        let item = ready!(consumer.poll_record(cx, reading)).transpose();
        self.ended = match &item {
            None => true,
            Some(Err(error)) => error.is_fatal(),
            Some(Ok(_)) => false,
        };
        Poll::Ready(item)
    }
}

impl FusedStream for Records<'_> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
