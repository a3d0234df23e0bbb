//! Reads, and what is done with what they give: a span each, by the messaging conventions of OpenTelemetry.

use std::sync::Arc;

use ottla_core::delivery::{Batch, Event, Record};
use ottla_core::{Error, Timestamp, TopicPartition};
use tracing::field::Empty;
use tracing::{Level, Span};

#[cfg(feature = "metrics")]
use super::metrics::ProcessTimes;

/// What every span says.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) client_id: String,
    pub(crate) group: Option<String>,
    /// Whether anything is published of this consumer.
    #[cfg(feature = "metrics")]
    pub(crate) published: bool,
}

/// The span of a read, from its first poll to its end. Boxed, and only if somebody wants it, so that futures stay small.
#[derive(Debug, Default)]
pub(crate) struct Reading<A> {
    /// What else the read keeps from poll to poll.
    pub(crate) more: A,
    span: Option<Box<Span>>,
}

/// What a read gave.
pub(crate) struct Given<'a> {
    partition: Option<&'a TopicPartition>,
    offset: Option<i64>,
    /// `None` for a record that is one of many.
    records: Option<usize>,
}

/// Something that a read can give.
pub(crate) trait Gives {
    /// `None` if there are no records in it.
    fn given(&self) -> Option<Given<'_>>;
}

impl Gives for Batch {
    fn given(&self) -> Option<Given<'_>> {
        let (partition, offset) = (Some(self.topic_partition()), Some(self.first_offset()));
        Some(Given { partition, offset, records: Some(self.len()) })
    }
}

impl Gives for Vec<Batch> {
    fn given(&self) -> Option<Given<'_>> {
        match &self[..] {
            [] => None,
            [batch] => batch.given(),
            batches => {
                let records = Some(batches.iter().map(Batch::len).sum());
                Some(Given { partition: None, offset: None, records })
            }
        }
    }
}

impl Gives for Record {
    fn given(&self) -> Option<Given<'_>> {
        let (partition, offset) = (Some(self.topic_partition()), Some(self.offset()));
        Some(Given { partition, offset, records: None })
    }
}

impl Gives for Event {
    fn given(&self) -> Option<Given<'_>> {
        match self {
            Self::Batch(batch) => batch.given(),
            _ => None,
        }
    }
}

/// Who sees to the reads of one reader.
#[derive(Debug)]
pub(crate) struct Watch {
    names: Arc<Names>,
    /// From the moment that a batch is given until the reader comes back.
    process: Option<Box<Span>>,
    #[cfg(feature = "metrics")]
    times: ProcessTimes,
}

impl Watch {
    pub(crate) fn new(names: Arc<Names>) -> Self {
        #[cfg(feature = "metrics")]
        let times = ProcessTimes::new(&names);
        Self {
            names,
            process: None,
            #[cfg(feature = "metrics")]
            times,
        }
    }

    /// For another reader of the same consumer.
    pub(crate) fn another(&self) -> Self {
        Self {
            names: Arc::clone(&self.names),
            process: None,
            #[cfg(feature = "metrics")]
            times: self.times.another(),
        }
    }

    /// The span around a task that reads a partition on its own: what the task logs is within it.
    pub(crate) fn task(&self, topic_partition: &TopicPartition) -> Span {
        tracing::info_span!(
            "partition",
            messaging.system = "kafka",
            messaging.client.id = self.names.client_id.as_str(),
            messaging.consumer.group.name = self.names.group.as_deref(),
            messaging.destination.name = topic_partition.topic(),
            messaging.destination.partition.id = tracing::field::display(topic_partition.partition()),
        )
    }

    /// A read is polled.
    pub(crate) fn polled<A>(&mut self, reading: &mut Reading<A>, now: impl FnOnce() -> Timestamp) {
        self.process = None;
        #[cfg(feature = "metrics")]
        self.times.came_back(now);
        #[cfg(not(feature = "metrics"))]
        let _ = now;
        if reading.span.is_none() && tracing::enabled!(Level::DEBUG) {
            reading.span = Some(Box::new(tracing::debug_span!(
                "poll",
                otel.kind = "client",
                messaging.system = "kafka",
                messaging.operation.name = "poll",
                messaging.operation.r#type = "receive",
                messaging.client.id = self.names.client_id.as_str(),
                messaging.consumer.group.name = self.names.group.as_deref(),
                messaging.destination.name = Empty,
                messaging.destination.partition.id = Empty,
                messaging.batch.message_count = Empty,
                messaging.kafka.offset = Empty,
                error.r#type = Empty,
            )));
        }
    }

    /// A read is over.
    pub(crate) fn gave<A, T: Gives>(
        &mut self,
        reading: &mut Reading<A>,
        answer: &Result<Option<T>, Error>,
        now: impl FnOnce() -> Timestamp,
    ) {
        let given = answer.as_ref().ok().and_then(Option::as_ref).and_then(Gives::given);
        if let Some(span) = reading.span.take() {
            match answer {
                Ok(Some(_)) => describe(&span, given.as_ref()),
                Ok(None) => {}
                Err(error) => {
                    span.record("error.type", error.kind().name());
                }
            }
        }
        // Records that come one at a time are not timed each: the clock would cost more than the record.
        let Some(given) = given.filter(|given| given.records.is_some()) else { return };
        #[cfg(feature = "metrics")]
        self.times.begins(given.partition, now);
        #[cfg(not(feature = "metrics"))]
        let _ = now;
        if tracing::enabled!(Level::DEBUG) {
            let span = tracing::debug_span!(
                "process",
                otel.kind = "consumer",
                messaging.system = "kafka",
                messaging.operation.name = "process",
                messaging.operation.r#type = "process",
                messaging.client.id = self.names.client_id.as_str(),
                messaging.consumer.group.name = self.names.group.as_deref(),
                messaging.destination.name = Empty,
                messaging.destination.partition.id = Empty,
                messaging.batch.message_count = Empty,
                messaging.kafka.offset = Empty,
            );
            describe(&span, Some(&given));
            self.process = Some(Box::new(span));
        }
    }
}

fn describe(span: &Span, given: Option<&Given<'_>>) {
    let Some(Given { partition, offset, records }) = given else { return };
    if let Some(partition) = partition {
        span.record("messaging.destination.name", partition.topic());
        // A text, by the conventions.
        span.record("messaging.destination.partition.id", tracing::field::display(partition.partition()));
    }
    span.record("messaging.kafka.offset", offset);
    span.record("messaging.batch.message_count", records);
}

impl<A> Reading<A> {
    /// What is logged by `poll` is within the read.
    pub(crate) fn within<R>(&mut self, poll: impl FnOnce(&mut A) -> R) -> R {
        let _entered = self.span.as_deref().map(Span::enter);
        poll(&mut self.more)
    }
}
