//! How long the reader works on what it was given.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::metrics::{Histogram, Label};
use ottla_core::{Timestamp, TopicPartition};

use super::names;
use crate::observe::Names;

/// More topics than this share one histogram without a name.
const MAX_TOPICS: usize = 1024;

type Topic = Option<Arc<str>>;

/// What all readers of a consumer have together, so that it is bounded for the consumer.
struct Shared {
    base: Vec<Label>,
    /// By topic; without one for batches of several partitions. Looked into when a reader goes to another topic.
    histograms: Mutex<BTreeMap<Topic, Histogram>>,
}

/// From the moment that a batch is given until its reader comes back.
pub(crate) struct ProcessTimes {
    published: bool,
    shared: Arc<Shared>,
    /// The one of the latest batch: the next one is mostly of the same topic.
    latest: Option<(Topic, Histogram)>,
    /// Since when it works.
    since: Option<Timestamp>,
}

impl ProcessTimes {
    pub(crate) fn new(names: &Names) -> Self {
        let shared = Shared { base: names::labels(names), histograms: Mutex::default() };
        Self { published: names.published, shared: Arc::new(shared), latest: None, since: None }
    }

    /// For another reader of the same consumer.
    pub(crate) fn another(&self) -> Self {
        Self { published: self.published, shared: Arc::clone(&self.shared), latest: None, since: None }
    }

    /// The reader is back.
    pub(crate) fn came_back(&mut self, now: impl FnOnce() -> Timestamp) {
        if let Some(since) = self.since.take()
            && let Some((_, histogram)) = &self.latest
        {
            histogram.record(now().since(since));
        }
    }

    /// The reader was given something.
    pub(crate) fn begins(&mut self, partition: Option<&TopicPartition>, now: impl FnOnce() -> Timestamp) {
        if !self.published {
            return;
        }
        let topic = partition.map(TopicPartition::topic_arc);
        let same = self.latest.as_ref().is_some_and(|(latest, _)| match (latest, topic) {
            (Some(latest), Some(topic)) => Arc::ptr_eq(latest, topic),
            (None, None) => true,
            _ => false,
        });
        if !same {
            self.latest = Some(self.shared.of(topic.cloned(), MAX_TOPICS));
        }
        self.since = Some(now());
    }
}

impl Shared {
    #[cold]
    fn of(&self, topic: Topic, most: usize) -> (Topic, Histogram) {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        let known = histograms.len() < most || histograms.contains_key(&topic);
        let name = topic.clone().filter(|_| known);
        let base = &self.base;
        let histogram = histograms.entry(name).or_insert_with_key(|name| {
            let name = name.as_deref().map(|t| Label::new("messaging.destination.name", t.to_owned()));
            let labels = names::operation("process", "process").into_iter().chain(name);
            names::PROCESS_DURATION.histogram(base, labels)
        });
        (topic, histogram.clone())
    }
}

impl fmt::Debug for ProcessTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTimes").field("since", &self.since).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use ::metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
    };
    use ottla_core::{Timestamp, TopicPartition};

    use super::{MAX_TOPICS, ProcessTimes};
    use crate::observe::Names;

    /// Which series were made.
    #[derive(Default)]
    struct Made(Mutex<BTreeSet<String>>);

    impl Recorder for Made {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.0.lock().unwrap().insert(key.to_string());
            Histogram::noop()
        }
    }

    #[test]
    fn all_readers_of_a_consumer_have_one_bound() {
        let made = Made::default();
        with_local_recorder(&made, || {
            let names = Names { client_id: "one".to_owned(), group: None, published: true };
            let first = ProcessTimes::new(&names);
            for n in 0..MAX_TOPICS + 10 {
                let topic_partition = TopicPartition::new(format!("t{n}"), 0);
                first.another().begins(Some(&topic_partition), || Timestamp::ZERO);
            }
        });
        assert_eq!(made.0.lock().unwrap().len(), MAX_TOPICS + 1, "and one for all others");
    }
}
