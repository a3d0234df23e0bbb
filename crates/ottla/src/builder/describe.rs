//! The configuration that came out, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use ottla_core::config::{CommitMode, GroupProtocol, IsolationLevel, OffsetReset};

use super::Builder;

impl Builder {
    /// The configuration that came out, one `setter = value` a line, secrets redacted.
    ///
    /// For logs and bug reports: what is not set shows its default, and what came
    /// [from properties](Self::from_properties) shows what it became. The lines are sorted and made for people;
    /// their form may change.
    ///
    /// # Examples
    ///
    /// ```
    /// let text = ottla::Consumer::builder("localhost:9092").group("billing").describe_effective();
    /// assert!(text.contains("group = billing\n"));
    /// assert!(text.contains("session_timeout = 45s\n"));
    /// ```
    pub fn describe_effective(&self) -> String {
        let c = &self.config;
        let mut lines = vec![
            ("bootstrap", self.bootstrap.join(",")),
            ("client_id", c.client_id.clone()),
            ("client_rack", c.client_rack.clone().unwrap_or_else(|| "(none)".to_owned())),
            ("auto_offset_reset", reset(c.auto_offset_reset)),
            ("auto_offset_reset_of", resets(&c.auto_offset_reset_of)),
            ("commit", commit(c.commit)),
            ("commit_records", c.commit_records.map_or_else(|| "(none)".to_owned(), |n| n.to_string())),
            ("marks_interval", time(c.marks_interval)),
            ("isolation_level", isolation(c.isolation_level).to_owned()),
            ("check_crcs", c.check_crcs.to_string()),
            ("allow_auto_create_topics", c.allow_auto_create_topics.to_string()),
            ("partition_eof", c.partition_eof.to_string()),
            ("broker_events", c.broker_events.to_string()),
            ("max_batch_records", c.max_batch_records.to_string()),
            ("max_unmarked", c.max_unmarked.to_string()),
            ("max_buffered_bytes", c.max_buffered_bytes.to_string()),
            ("max_decompressed_batch_bytes", c.max_decompressed_batch_bytes.to_string()),
            ("max_frame_bytes", c.max_frame_bytes.to_string()),
            ("fetch_min_bytes", c.fetch_min_bytes.to_string()),
            ("fetch_max_wait", time(c.fetch_max_wait)),
            ("fetch_max_bytes", c.fetch_max_bytes.to_string()),
            ("max_partition_fetch_bytes", c.max_partition_fetch_bytes.to_string()),
            ("request_timeout", time(c.request_timeout)),
            ("connection_setup_timeout", time(c.connection_setup_timeout)),
            ("reconnect_backoff", range(c.reconnect_backoff)),
            ("retry_backoff", range(c.retry_backoff)),
            ("metadata_max_age", time(c.metadata_max_age)),
            ("metadata_recovery_rebootstrap_trigger", time(c.metadata_recovery_rebootstrap_trigger)),
            ("default_api_timeout", time(c.default_api_timeout)),
            ("close_timeout", time(self.close_timeout)),
            ("on_current_runtime", self.on_current_runtime.to_string()),
            ("decode_threads", self.effective_decode_threads().to_string()),
            ("group", self.group_id.clone().unwrap_or_else(|| "(none)".to_owned())),
        ];
        #[cfg(feature = "metrics")]
        lines.extend([
            ("metrics_interval", time(self.metrics.interval)),
            ("metrics_partitions", self.metrics.partitions.to_string()),
        ]);
        if self.group_id.is_some() {
            let g = &self.group;
            let none = || "(none)".to_owned();
            let classic = |text: String| match g.protocol {
                GroupProtocol::Consumer => "(the brokers decide)".to_owned(),
                _ => text,
            };
            lines.extend([
                ("subscribe", self.subscription.join(",")),
                ("subscribe_pattern", self.pattern.clone().unwrap_or_else(none)),
                ("exclude_internal_topics", c.exclude_internal_topics.to_string()),
                (
                    "group_protocol",
                    self.decides_for_classic().map_or_else(
                        || protocol(g.protocol).to_owned(),
                        |setting| format!("classic (auto, and {setting} is given)"),
                    ),
                ),
                ("group_remote_assignor", g.remote_assignor.clone().unwrap_or_else(none)),
                ("group_instance_id", g.group_instance_id.clone().unwrap_or_else(none)),
                ("session_timeout", classic(time(g.session_timeout))),
                ("heartbeat_interval", classic(time(g.heartbeat_interval))),
                ("max_poll_interval", g.max_poll_interval.map_or_else(|| "(none)".to_owned(), time)),
                ("rebalance_timeout", time(self.effective_rebalance_timeout())),
                ("revoke_timeout", time(g.revoke_timeout)),
                ("assignors", classic(g.assignor_names().join(","))),
                ("leave_on_close", g.leave_on_close.to_string()),
            ]);
        }
        lines.sort_unstable();
        lines.iter().fold(String::new(), |mut text, (setting, value)| {
            let _ = writeln!(text, "{setting} = {value}");
            text
        })
    }
}

fn time(time: Duration) -> String {
    format!("{time:?}")
}

fn range((first, longest): (Duration, Duration)) -> String {
    format!("{first:?} to {longest:?}")
}

fn reset(reset: OffsetReset) -> String {
    match reset {
        OffsetReset::Earliest => "earliest".to_owned(),
        OffsetReset::Latest => "latest".to_owned(),
        OffsetReset::Error => "error".to_owned(),
        OffsetReset::ByDuration(back) => format!("by duration {back:?}"),
        // The enumeration may grow; what it says of itself is better than nothing.
        other => format!("{other:?}"),
    }
}

fn resets(resets: &BTreeMap<String, OffsetReset>) -> String {
    if resets.is_empty() {
        return "(none)".to_owned();
    }
    let one = |(topic, how): (&String, &OffsetReset)| format!("{topic}: {}", reset(*how));
    resets.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn commit(commit: CommitMode) -> String {
    match commit {
        CommitMode::Auto { interval } => format!("auto every {interval:?}"),
        CommitMode::Manual => "manual".to_owned(),
        CommitMode::External => "external".to_owned(),
        other => format!("{other:?}"),
    }
}

fn protocol(protocol: GroupProtocol) -> &'static str {
    match protocol {
        GroupProtocol::Consumer => "consumer",
        GroupProtocol::Auto => "auto",
        _ => "classic",
    }
}

fn isolation(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadUncommitted => "read_uncommitted",
        _ => "read_committed",
    }
}
