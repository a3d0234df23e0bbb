//! How long the reader works on what it was given.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ::metrics::{Histogram, Label};
use ottla_core::{Timestamp, TopicPartition};

use super::names;
use crate::observe::Names;

/// More topics than this share one histogram without a name.
const MAX_TOPICS: usize = 1024;

type Topic = Option<Arc<str>>;

/// From the moment that a batch is given until its reader comes back.
pub(crate) struct ProcessTimes {
    published: bool,
    base: Vec<Label>,
    /// By topic; without one for batches of several partitions.
    histograms: BTreeMap<Topic, Histogram>,
    /// The one of the latest batch: the next one is mostly of the same topic.
    latest: Option<(Topic, Histogram)>,
    /// Since when it works.
    since: Option<Timestamp>,
}

impl ProcessTimes {
    pub(crate) fn new(names: &Names) -> Self {
        let (published, base) = (names.published, names::labels(names));
        Self { published, base, histograms: BTreeMap::new(), latest: None, since: None }
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
            self.latest = Some(self.of(topic.cloned()));
        }
        self.since = Some(now());
    }

    #[cold]
    fn of(&mut self, topic: Topic) -> (Topic, Histogram) {
        let known = self.histograms.len() < MAX_TOPICS || self.histograms.contains_key(&topic);
        let name = topic.clone().filter(|_| known);
        let base = &self.base;
        let histogram = self.histograms.entry(name).or_insert_with_key(|name| {
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
