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

/// From the moment that a batch is given until its reader comes back.
pub(crate) struct ProcessTimes {
    published: bool,
    base: Vec<Label>,
    /// By topic; without one for batches of several partitions.
    histograms: BTreeMap<Option<Arc<str>>, Histogram>,
    /// Since when it works, and on what.
    begun: Option<(Timestamp, Histogram)>,
}

impl ProcessTimes {
    pub(crate) fn new(names: &Names) -> Self {
        let (published, base) = (names.published, names::labels(names));
        Self { published, base, histograms: BTreeMap::new(), begun: None }
    }

    /// The reader is back.
    pub(crate) fn came_back(&mut self, now: impl FnOnce() -> Timestamp) {
        if let Some((since, histogram)) = self.begun.take() {
            histogram.record(now().since(since));
        }
    }

    /// The reader was given something.
    pub(crate) fn begins(&mut self, partition: Option<&TopicPartition>, now: impl FnOnce() -> Timestamp) {
        if !self.published {
            return;
        }
        let topic = partition.map(TopicPartition::topic_arc);
        let topic = topic.filter(|topic| {
            self.histograms.len() < MAX_TOPICS || self.histograms.contains_key(&Some(Arc::clone(topic)))
        });
        let topic = topic.cloned();
        let base = &self.base;
        let histogram = self.histograms.entry(topic).or_insert_with_key(|topic| {
            let name = topic.as_deref().map(|t| Label::new("messaging.destination.name", t.to_owned()));
            let labels = names::operation("process", "process").into_iter().chain(name);
            names::PROCESS_DURATION.histogram(base, labels)
        });
        self.begun = Some((now(), histogram.clone()));
    }
}

impl fmt::Debug for ProcessTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessTimes").field("since", &self.begun.as_ref().map(|(at, _)| at)).finish()
    }
}
