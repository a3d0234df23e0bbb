//! Checks a configuration as a whole and finds everything that is wrong with it.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_core::assignor::{Assignor, OwnAssignor};
use ottla_core::config::{CommitMode, Config, GroupConfig, GroupProtocol, OffsetReset};

use super::{Builder, ConfigError, ConfigProblem, address};

/// What a response holds besides the records that `fetch_max_bytes` counts.
const FETCH_OVERHEAD: usize = 512;
/// Kafka's string length is an `i16`.
const LONGEST_STRING: usize = i16::MAX as usize;
/// What only the classic protocol has, and what decides it under the consumer protocol.
const CLASSIC_ONLY: [(&str, &str); 3] = [
    ("session_timeout", "the brokers decide it: group.consumer.session.timeout.ms"),
    ("heartbeat_interval", "the brokers decide it: group.consumer.heartbeat.interval.ms"),
    ("assignors", "the brokers assign; group_remote_assignor chooses among their assignors"),
];
/// Most topics' names may be this long.
const LONGEST_TOPIC: usize = 249;

impl Builder {
    /// Checks the configuration without starting anything.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names all problems at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.checked().map(drop)
    }

    /// The configuration for the core.
    pub(super) fn checked(&self) -> Result<Config, ConfigError> {
        let mut problems = Problems(Vec::new());
        let mut config = self.config.clone();
        config.bootstrap = self.check_bootstrap(&mut problems);
        check_sizes(&config, &mut problems);
        check_times(&config, &mut problems);
        problems.string("client_id", &config.client_id);
        if let Some(rack) = &config.client_rack {
            problems.string("client_rack", rack);
        }
        config.group = self.check_group(&mut problems);
        self.check_subscription(&mut problems);
        if self.start_offsets.is_some() && config.commit != CommitMode::External {
            let why = "it says where partitions begin whose offsets are not in Kafka: leave commit out, or set it to External";
            let (setting, with) = ("start_offsets", "commit");
            problems.0.push(ConfigProblem::Conflict { setting, with, why: why.to_owned() });
        }
        ConfigError::new(problems.0).map(|()| config)
    }

    fn check_bootstrap(&self, problems: &mut Problems) -> Vec<(String, u16)> {
        let mut addresses = Vec::new();
        for text in &self.bootstrap {
            match address::parse(text) {
                Ok(more) => addresses.extend(more),
                Err(why) => problems.invalid("bootstrap", why),
            }
        }
        if addresses.is_empty() && problems.0.is_empty() {
            problems.invalid("bootstrap", "no address is given; write host:port".to_owned());
        }
        addresses
    }

    fn check_group(&self, problems: &mut Problems) -> Option<GroupConfig> {
        let Some(group_id) = &self.group_id else {
            for &setting in &self.group_settings {
                problems.0.push(ConfigProblem::Needs { setting, needs: "group" });
            }
            if !self.subscription.is_empty() {
                problems.0.push(ConfigProblem::Needs { setting: "subscribe", needs: "group" });
            }
            if self.pattern.is_some() {
                problems.0.push(ConfigProblem::Needs { setting: "subscribe_pattern", needs: "group" });
            }
            return None;
        };
        let mut group = self.group.clone();
        group.group_id.clone_from(group_id);
        group.rebalance_timeout = self.effective_rebalance_timeout();
        if group_id.is_empty() {
            problems.invalid("group", "the id is empty".to_owned());
        }
        problems.string("group", group_id);
        if let Some(id) = &group.group_instance_id {
            if id.is_empty() {
                problems.invalid("group_instance_id", "the id is empty".to_owned());
            }
            problems.string("group_instance_id", id);
        }
        problems.millis("session_timeout", group.session_timeout);
        problems.millis("heartbeat_interval", group.heartbeat_interval);
        problems.millis("rebalance_timeout", group.rebalance_timeout);
        problems.millis("revoke_timeout", group.revoke_timeout);
        if let Some(interval) = group.max_poll_interval {
            problems.millis("max_poll_interval", interval);
        }
        if group.heartbeat_interval.saturating_mul(2) > group.session_timeout {
            problems.0.push(ConfigProblem::Conflict {
                setting: "heartbeat_interval",
                with: "session_timeout",
                why: format!(
                    "{:?} is more than half of {:?}, so that one lost heartbeat loses the partitions; a third is usual",
                    group.heartbeat_interval, group.session_timeout
                ),
            });
        }
        self.check_protocol(&mut group, problems);
        check_own_assignors(&group, problems);
        if group.assignors.is_empty() && group.own_assignors.is_empty() {
            problems.invalid("assignors", "the list is empty".to_owned());
        }
        Some(group)
    }

    /// Settings that the protocol does not have are errors, as in Java; with `auto` they decide for the classic one.
    fn check_protocol(&self, group: &mut GroupConfig, problems: &mut Problems) {
        let given = || CLASSIC_ONLY.into_iter().filter(|(setting, _)| self.group_settings.contains(setting));
        match (group.protocol, self.decides_for_classic()) {
            (GroupProtocol::Consumer, _) => {
                for (setting, why) in given() {
                    let why = format!("the consumer protocol has no such setting: {why}; leave it out");
                    problems.0.push(ConfigProblem::Conflict { setting, with: "group_protocol", why });
                }
            }
            (GroupProtocol::Auto, Some(with)) => {
                group.protocol = GroupProtocol::Classic;
                if group.remote_assignor.is_some() {
                    let why =
                        format!("only the consumer protocol has the one, only the classic one has {with}");
                    let setting = "group_remote_assignor";
                    problems.0.push(ConfigProblem::Conflict { setting, with, why });
                }
            }
            (GroupProtocol::Classic, _) if group.remote_assignor.is_some() => {
                let why = "it is a setting of the consumer protocol: leave it out, or set group_protocol to consumer or auto"
                    .to_owned();
                let (setting, with) = ("group_remote_assignor", "group_protocol");
                problems.0.push(ConfigProblem::Conflict { setting, with, why });
            }
            _ => {}
        }
        if let Some(assignor) = &group.remote_assignor {
            if assignor.is_empty() {
                problems.invalid("group_remote_assignor", "the name is empty".to_owned());
            }
            problems.string("group_remote_assignor", assignor);
        }
    }

    /// The setting that makes `auto` take the classic protocol, if one is given.
    pub(super) fn decides_for_classic(&self) -> Option<&'static str> {
        let mut only = CLASSIC_ONLY.into_iter().map(|(setting, _)| setting);
        only.find(|setting| {
            self.group.protocol == GroupProtocol::Auto && self.group_settings.contains(setting)
        })
    }

    /// What is set, else the time that the reader has, else five minutes.
    pub(super) fn effective_rebalance_timeout(&self) -> Duration {
        self.rebalance_timeout.or(self.group.max_poll_interval).unwrap_or(Duration::from_secs(300))
    }

    fn check_subscription(&self, problems: &mut Problems) {
        if let Err(why) = self.first_subscription() {
            problems.invalid("subscribe_pattern", why.to_string());
        }
        for topic in self.subscription.iter().filter(|t| !self.is_pattern(t)) {
            if let Some(why) = topic_problem(topic) {
                problems.invalid("subscribe", why);
            }
        }
    }
}

/// What is wrong with a topic's name, by the broker's own rule.
pub(crate) fn topic_problem(topic: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.is_empty() {
        Some("a topic's name is empty".to_owned())
    } else if topic.len() > LONGEST_TOPIC {
        Some(format!("a topic's name has {} bytes; {LONGEST_TOPIC} is the most", topic.len()))
    } else if matches!(topic, "." | "..") || !topic.chars().all(legal) {
        let hint = if topic.starts_with('^') { "; subscribe_pattern takes patterns" } else { "" };
        Some(format!("{topic:?} is no topic's name: letters, digits, '.', '_' and '-' are allowed{hint}"))
    } else {
        None
    }
}

fn check_own_assignors(group: &GroupConfig, problems: &mut Problems) {
    let mut names = BTreeSet::new();
    for name in group.own_assignors.iter().map(OwnAssignor::name) {
        if name.is_empty() {
            problems.invalid("partition_assignor", "its name is empty".to_owned());
        } else if Assignor::from_name(&name).is_some() || !names.insert(name.clone()) {
            problems.invalid("partition_assignor", format!("another assignor is called {name:?}, too"));
        }
        problems.string("partition_assignor", &name);
    }
}

fn check_sizes(config: &Config, problems: &mut Problems) {
    problems.at_least_one("max_batch_records", config.max_batch_records);
    problems.at_least_one("max_unmarked", config.max_unmarked);
    problems.at_least_one("commit_records", config.commit_records.unwrap_or(1));
    problems.at_least_one("max_decompressed_batch_bytes", config.max_decompressed_batch_bytes);
    for (setting, value) in [
        ("fetch_max_bytes", config.fetch_max_bytes),
        ("max_partition_fetch_bytes", config.max_partition_fetch_bytes),
    ] {
        if value < 1 {
            problems.invalid(setting, format!("{value} is less than one byte"));
        }
    }
    if config.fetch_min_bytes < 0 {
        problems.invalid("fetch_min_bytes", format!("{} is negative", config.fetch_min_bytes));
    }
    if config.fetch_min_bytes > config.fetch_max_bytes {
        problems.0.push(ConfigProblem::Conflict {
            setting: "fetch_min_bytes",
            with: "fetch_max_bytes",
            why: format!("{} is more than {}", config.fetch_min_bytes, config.fetch_max_bytes),
        });
    }
    if config.max_buffered_bytes < 64 << 10 {
        let why =
            format!("{} bytes are too few to fetch with; 64 KiB is the least", config.max_buffered_bytes);
        problems.invalid("max_buffered_bytes", why);
    }
    let needed = usize::try_from(config.fetch_max_bytes).unwrap_or(0).saturating_add(FETCH_OVERHEAD);
    if config.max_frame_bytes < needed {
        problems.0.push(ConfigProblem::Conflict {
            setting: "max_frame_bytes",
            with: "fetch_max_bytes",
            why: format!("{} is less than {needed}, which a response may have", config.max_frame_bytes),
        });
    }
}

fn check_times(config: &Config, problems: &mut Problems) {
    problems.millis("request_timeout", config.request_timeout);
    problems.millis("connection_setup_timeout", config.connection_setup_timeout);
    problems.millis("metadata_max_age", config.metadata_max_age);
    let trigger = config.metadata_recovery_rebootstrap_trigger;
    problems.millis("metadata_recovery_rebootstrap_trigger", trigger);
    problems.millis("default_api_timeout", config.default_api_timeout);
    if i32::try_from(config.fetch_max_wait.as_millis()).is_err() {
        problems.invalid("fetch_max_wait", format!("{:?} is too long", config.fetch_max_wait));
    }
    for (setting, (first, longest)) in
        [("reconnect_backoff", config.reconnect_backoff), ("retry_backoff", config.retry_backoff)]
    {
        problems.millis(setting, first);
        if longest < first {
            problems.invalid(
                setting,
                format!("the longest wait, {longest:?}, is shorter than the first, {first:?}"),
            );
        }
    }
    problems.millis("marks_interval", config.marks_interval);
    if let CommitMode::Auto { interval } = config.commit {
        problems.millis("commit", interval);
    }
    let own = config.auto_offset_reset_of.values().map(|reset| ("auto_offset_reset_of", reset));
    for (setting, reset) in own.chain([("auto_offset_reset", &config.auto_offset_reset)]) {
        if let OffsetReset::ByDuration(duration) = reset
            && i64::try_from(duration.as_millis()).is_err()
        {
            problems.invalid(setting, format!("{duration:?} is too long"));
        }
    }
}

struct Problems(Vec<ConfigProblem>);

impl Problems {
    fn invalid(&mut self, setting: &'static str, why: String) {
        self.0.push(ConfigProblem::Invalid { setting, why });
    }

    fn string(&mut self, setting: &'static str, value: &str) {
        if value.len() > LONGEST_STRING {
            self.invalid(
                setting,
                format!("{} bytes are too long; {LONGEST_STRING} is the most", value.len()),
            );
        }
    }

    fn at_least_one(&mut self, setting: &'static str, value: usize) {
        if value == 0 {
            self.invalid(setting, "zero; one is the least".to_owned());
        }
    }

    /// Between one millisecond and what Kafka's `i32` of milliseconds holds.
    fn millis(&mut self, setting: &'static str, value: Duration) {
        if value < Duration::from_millis(1) {
            self.invalid(setting, format!("{value:?} is too short; a millisecond is the least"));
        } else if i32::try_from(value.as_millis()).is_err() {
            self.invalid(setting, format!("{value:?} is too long; 24 days are the most"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Consumer;

    #[test]
    fn the_defaults_are_valid() {
        Consumer::builder("localhost:9092").validate().unwrap();
        Consumer::builder("localhost:9092").group("g").subscribe(["t"]).validate().unwrap();
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let error = Consumer::builder("localhost")
            .subscribe(["or ders"])
            .session_timeout(Duration::from_secs(6))
            .max_batch_records(0)
            .fetch_max_bytes(-1)
            .request_timeout(Duration::ZERO)
            .validate()
            .unwrap_err();
        let text = error.to_string();
        for part in [
            "bootstrap: \"localhost\" has no port",
            "session_timeout needs group",
            "subscribe needs group",
            "subscribe: \"or ders\" is no topic's name",
            "max_batch_records: zero",
            "fetch_max_bytes: -1",
            "request_timeout: 0ns is too short",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(error.problems().len() >= 7);
    }

    #[test]
    fn a_heartbeat_that_is_too_rare_is_refused() {
        let error = Consumer::builder("localhost:9092")
            .group("g")
            .heartbeat_interval(Duration::from_secs(5))
            .session_timeout(Duration::from_secs(6))
            .validate()
            .unwrap_err();
        assert!(error.to_string().contains("heartbeat_interval does not fit session_timeout"), "{error}");
    }

    #[test]
    fn the_rebalance_timeout_follows_the_poll_interval_unless_it_is_set() {
        let builder =
            Consumer::builder("localhost:9092").group("g").max_poll_interval(Duration::from_secs(60));
        let timeout = |b: &Builder| b.checked().unwrap().group.unwrap().rebalance_timeout;
        assert_eq!(timeout(&builder), Duration::from_secs(60));
        assert_eq!(timeout(&builder.clone().max_poll_interval(None)), Duration::from_secs(300));
        assert_eq!(timeout(&builder.rebalance_timeout(Duration::from_secs(9))), Duration::from_secs(9));
    }

    #[test]
    fn a_session_needs_its_parts_whatever_the_order_of_the_calls() {
        let config = Consumer::builder("a:1")
            .session_timeout(Duration::from_secs(10))
            .group("late")
            .bootstrap("b:2,c:3")
            .checked()
            .unwrap();
        assert_eq!(config.bootstrap.len(), 3);
        let group = config.group.unwrap();
        assert_eq!((group.group_id.as_str(), group.session_timeout), ("late", Duration::from_secs(10)));
    }

    #[test]
    fn each_protocol_has_settings_of_its_own() {
        let group = || Consumer::builder("a:1").group("g");
        let consumer = group().group_protocol(GroupProtocol::Consumer);
        assert!(consumer.clone().group_remote_assignor("range").validate().is_ok());
        let error = consumer
            .session_timeout(Duration::from_secs(10))
            .heartbeat_interval(Duration::from_secs(1))
            .assignors([Assignor::Range])
            .validate()
            .unwrap_err();
        assert_eq!(error.problems().len(), 3, "{error}");
        assert!(error.to_string().contains("assignors does not fit group_protocol"), "{error}");
        let classic = group().group_protocol(GroupProtocol::Classic);
        let error = classic.group_remote_assignor("range").validate().unwrap_err().to_string();
        assert!(error.contains("group_remote_assignor does not fit group_protocol"), "{error}");
        let needs = Consumer::builder("a:1").group_protocol(GroupProtocol::Auto).validate().unwrap_err();
        assert_eq!(needs.to_string(), "group_protocol needs group");
    }

    #[test]
    fn auto_is_the_default_and_with_a_classic_setting_it_is_classic() {
        let auto = || Consumer::builder("a:1").group("g");
        let protocol = |b: Builder| b.checked().unwrap().group.unwrap().protocol;
        assert_eq!(protocol(auto().group_remote_assignor("range")), GroupProtocol::Auto);
        assert!(auto().describe_effective().contains("group_protocol = auto\n"));
        for (builder, setting) in [
            (auto().session_timeout(Duration::from_secs(10)), "session_timeout"),
            (auto().heartbeat_interval(Duration::from_secs(1)), "heartbeat_interval"),
            (auto().assignors([Assignor::Range]), "assignors"),
        ] {
            let builder = builder.group_protocol(GroupProtocol::Auto);
            assert_eq!(protocol(builder.clone()), GroupProtocol::Classic);
            let text = builder.describe_effective();
            let line = format!("group_protocol = classic (auto, and {setting} is given)\n");
            assert!(text.contains(&line), "{text}");
            let error = builder.group_remote_assignor("range").validate().unwrap_err().to_string();
            assert!(error.contains(&format!("group_remote_assignor does not fit {setting}")), "{error}");
        }
    }
}
