//! The figures of a [`Snapshot`](crate::Snapshot) through the `metrics` facade.
//!
//! The driver publishes: counters and gauges on an interval, from the same snapshot that
//! [`Consumer::snapshot`](crate::Consumer::snapshot) gives, so that nothing is counted twice or for metrics alone;
//! histograms when something was measured, which is per request. The reader adds how long batches were worked on, per
//! batch. Nothing is done per record.
//!
//! Counters add what came since the last publication. A gauge adds and takes away this consumer's own part, so that
//! consumers with the same labels add up, and a consumer that is gone leaves zero.

mod names;
mod publish;
mod reader;

pub(crate) use publish::Publisher;
pub(crate) use reader::ProcessTimes;

use std::time::Duration;

/// What the builder says of them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) interval: Duration,
    /// How many partitions get labels of their own.
    pub(crate) partitions: usize,
    /// How many addresses of brokers; what is beyond shares the metrics without a name.
    pub(crate) servers: usize,
    /// And how many topics.
    pub(crate) topics: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), partitions: 1000, servers: 256, topics: 1024 }
    }
}
