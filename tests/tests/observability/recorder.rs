//! A recorder that keeps everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// The labels of a metric, but for those that all have.
pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
pub struct Series {
    pub kind: &'static str,
    pub labels: Labels,
    /// Of a counter or a gauge, or the sum of a histogram.
    pub value: f64,
    /// Values of a histogram.
    pub values: Vec<f64>,
    /// How often something else than zero was told.
    pub updates: usize,
}

#[derive(Debug, Default)]
struct State {
    described: BTreeMap<String, (&'static str, Option<Unit>, String)>,
    series: BTreeMap<(String, Labels), Series>,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<State>>);

struct Handle(Kept, (String, Labels));

impl Handle {
    /// So much is told.
    fn change(&self, value: f64, change: impl FnOnce(&mut Series)) {
        let mut state = self.0.0.lock().unwrap();
        let series = state.series.get_mut(&self.1).expect("registered");
        series.updates += usize::from(value != 0.0);
        change(series);
    }
}

impl CounterFn for Handle {
    fn increment(&self, value: u64) {
        assert!(value > 0, "nothing is no news");
        self.change(value as f64, |series| series.value += value as f64);
    }

    fn absolute(&self, _: u64) {
        panic!("two consumers with the same labels would not add up");
    }
}

impl GaugeFn for Handle {
    fn increment(&self, value: f64) {
        self.change(value, |series| series.value += value);
    }

    fn decrement(&self, value: f64) {
        self.change(value, |series| series.value -= value);
    }

    fn set(&self, _: f64) {
        panic!("two consumers with the same labels would not add up");
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.change(value, |series| {
            series.value += value;
            series.values.push(value);
        });
    }
}

impl Kept {
    fn register(&self, kind: &'static str, key: &Key) -> Arc<Handle> {
        let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
        let labels: Labels = key.labels().map(label).collect();
        assert_eq!(labels.len(), key.labels().len(), "a label twice: {key}");
        let id = (key.name().to_owned(), labels.clone());
        let mut state = self.0.lock().unwrap();
        let series =
            state.series.entry(id.clone()).or_insert_with(|| Series { kind, labels, ..Series::default() });
        assert_eq!(series.kind, kind, "{key}");
        Arc::new(Handle(self.clone(), id))
    }

    fn describe(&self, kind: &'static str, key: &KeyName, unit: Option<Unit>, what: &SharedString) {
        let described = (kind, unit, what.to_string());
        self.0.lock().unwrap().described.insert(key.as_str().to_owned(), described);
    }

    /// What was described: kind and unit by name.
    pub fn described(&self) -> BTreeMap<String, (&'static str, Option<Unit>, String)> {
        self.0.lock().unwrap().described.clone()
    }

    /// All series of a metric.
    pub fn series(&self, name: &str) -> Vec<Series> {
        let state = self.0.lock().unwrap();
        state.series.iter().filter(|((of, _), _)| of == name).map(|(_, series)| series.clone()).collect()
    }

    /// The names of all metrics that are there, with the labels that occur.
    pub fn names(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, labels) in self.0.lock().unwrap().series.keys() {
            names.entry(name.clone()).or_default().extend(labels.keys().cloned());
        }
        names
    }

    /// The sum of all series of a metric that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &&Series| {
            labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|found| found == value))
        };
        self.series(name).iter().filter(has).map(|series| series.value).sum()
    }

    /// What was recorded by all such series of a histogram.
    pub fn recorded(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |series: &&Series| {
            labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|found| found == value))
        };
        self.series(name).iter().filter(has).flat_map(|series| series.values.clone()).collect()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, what: SharedString) {
        self.describe("counter", &key, unit, &what);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, what: SharedString) {
        self.describe("gauge", &key, unit, &what);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, what: SharedString) {
        self.describe("histogram", &key, unit, &what);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register("counter", key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register("gauge", key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.register("histogram", key))
    }
}
