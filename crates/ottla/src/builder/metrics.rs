//! The settings of metrics.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// How often counters and gauges are brought up to date, with the feature `metrics`; histograms are recorded at
    /// once. Once more when the consumer ends.
    ///
    /// Default: 5 seconds. Each time costs a [`snapshot`](crate::Consumer::snapshot), a few hundred bytes for each owned
    /// partition while it is published. [`Duration::ZERO`] publishes
    /// nothing of this consumer.
    ///
    /// Install the recorder before the consumer is made: the facade gives what was there then. The driver is a thread
    /// of its own, so that a recorder for one thread is seen with
    /// [`on_current_runtime`](Self::on_current_runtime) only.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use ottla::Consumer;
    ///
    /// let builder = Consumer::builder("localhost:9092").metrics_interval(Duration::from_secs(15));
    /// builder.validate()?;
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    #[doc(alias = "statistics.interval.ms")]
    pub fn metrics_interval(mut self, interval: Duration) -> Self {
        self.metrics.interval = interval;
        self
    }

    /// How many partitions get a lag of their own in metrics (`kafka.consumer.records_lag`), with the feature
    /// `metrics`.
    ///
    /// Default: 1,000, counted over the whole life of the consumer: those it owned first. It bounds how many time
    /// series a consumer makes; the sum and the maximum of the lags are over all partitions whatever this is. `0`: none.
    pub fn metrics_partitions(mut self, partitions: usize) -> Self {
        self.metrics.partitions = partitions;
        self
    }

    /// For this project's tests: how many addresses of brokers get metrics of their own.
    #[doc(hidden)]
    pub fn __metrics_servers(mut self, servers: usize) -> Self {
        self.metrics.servers = servers;
        self
    }
}
