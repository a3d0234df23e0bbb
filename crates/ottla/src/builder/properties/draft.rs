//! What a property file adds up to, before it is a builder.

use std::time::Duration;

use ottla_core::assignor::Assignor;
use ottla_core::config::{CommitMode, GroupProtocol, IsolationLevel, OffsetReset};

use super::values::{boolean, iso_duration, millis, natural, size};
use super::{ConfigWarning, Dialect};
use crate::builder::Builder;

/// What a response holds besides the records that `fetch.max.bytes` counts.
const FETCH_OVERHEAD: usize = 512;

type Set = Result<(), String>;

/// A builder with the defaults of a dialect, and the properties that only together say something.
pub(super) struct Draft {
    dialect: Dialect,
    builder: Builder,
    warnings: Vec<ConfigWarning>,
    auto_commit: bool,
    /// librdkafka's `enable.auto.offset.store`.
    auto_store: bool,
    commit_interval: Duration,
    assignors: Vec<Assignor>,
    session_timeout: Option<Duration>,
    heartbeat_interval: Option<Duration>,
    max_poll_interval: Option<Duration>,
    group_instance_id: Option<String>,
    group_protocol: Option<GroupProtocol>,
    remote_assignor: Option<String>,
    /// librdkafka's `message.max.bytes`, below which `fetch.max.bytes` never is.
    message_max_bytes: i32,
    max_frame_bytes: Option<usize>,
}

impl Draft {
    pub(super) fn new(dialect: Dialect) -> Self {
        let mut builder = Builder::new("");
        builder.bootstrap.clear();
        let config = &mut builder.config;
        config.fetch_max_bytes = 52_428_800;
        config.auto_offset_reset = OffsetReset::Latest;
        let assignors = match dialect {
            Dialect::Java => {
                config.client_id = String::new();
                config.allow_auto_create_topics = true;
                config.max_batch_records = 500;
                vec![Assignor::Range, Assignor::CooperativeSticky]
            }
            Dialect::Librdkafka => {
                builder.carets_are_patterns = true;
                config.client_id = "rdkafka".to_owned();
                config.isolation_level = IsolationLevel::ReadCommitted;
                config.check_crcs = false;
                config.request_timeout = Duration::from_secs(60);
                config.connection_setup_timeout = Duration::from_secs(30);
                config.reconnect_backoff = (Duration::from_millis(100), Duration::from_secs(10));
                vec![Assignor::Range, Assignor::RoundRobin]
            }
        };
        Self {
            dialect,
            builder,
            warnings: Vec::new(),
            auto_commit: true,
            auto_store: true,
            commit_interval: Duration::from_secs(5),
            assignors,
            session_timeout: None,
            heartbeat_interval: None,
            max_poll_interval: None,
            group_instance_id: None,
            group_protocol: None,
            remote_assignor: None,
            message_max_bytes: 0,
            max_frame_bytes: None,
        }
    }

    pub(super) fn warn(&mut self, warning: ConfigWarning) {
        self.warnings.push(warning);
    }

    /// The builder; `given` says whether the file sets a property.
    pub(super) fn finish(mut self, given: impl Fn(&str) -> bool) -> Builder {
        self.warn_of_defaults(&given);
        self.warn_without_group(&given);
        let mut builder = self.builder;
        let config = &mut builder.config;
        config.fetch_max_bytes = config.fetch_max_bytes.max(self.message_max_bytes);
        let least = usize::try_from(config.fetch_max_bytes).unwrap_or(0).saturating_add(FETCH_OVERHEAD);
        // Not set, it follows what may be fetched; set, it is checked against it with everything else.
        config.max_frame_bytes = self.max_frame_bytes.unwrap_or_else(|| config.max_frame_bytes.max(least));
        config.marks_interval = self.commit_interval;
        config.commit = if self.auto_commit && self.auto_store {
            CommitMode::Auto { interval: self.commit_interval }
        } else {
            CommitMode::Manual
        };
        builder.warnings = self.warnings;
        if builder.group_id.is_none() {
            return builder;
        }
        // A default is not somebody's wish: the consumer protocol has no assignors of the members.
        builder.group.assignors = self.assignors;
        if given("partition.assignment.strategy") {
            builder.group_settings.push("assignors");
        }
        // What that world does without the setting.
        builder = builder.group_protocol(self.group_protocol.unwrap_or(GroupProtocol::Classic));
        if let Some(assignor) = self.remote_assignor {
            builder = builder.group_remote_assignor(assignor);
        }
        if let Some(timeout) = self.session_timeout {
            builder = builder.session_timeout(timeout);
        }
        if let Some(interval) = self.heartbeat_interval {
            builder = builder.heartbeat_interval(interval);
        }
        if let Some(interval) = self.max_poll_interval {
            builder = builder.max_poll_interval(interval);
        }
        if let Some(id) = self.group_instance_id {
            builder = builder.group_instance_id(id);
        }
        builder
    }

    /// What is not set and means different things in the two worlds.
    fn warn_of_defaults(&mut self, given: &impl Fn(&str) -> bool) {
        let differing: [(&'static str, [&'static str; 2], [&'static str; 2]); 4] = [
            ("auto.offset.reset", ["latest", "latest"], ["ottla's own default is earliest"; 2]),
            (
                "isolation.level",
                ["read_uncommitted", "read_committed"],
                ["librdkafka's default is read_committed", "Java's default is read_uncommitted"],
            ),
            ("check.crcs", ["true", "false"], ["librdkafka's default is false", "Java's default is true"]),
            (
                "allow.auto.create.topics",
                ["true", "false"],
                ["librdkafka's default is false", "Java's default is true"],
            ),
        ];
        let world = usize::from(self.dialect == Dialect::Librdkafka);
        for (property, used, others) in differing {
            if !given(property) {
                self.warn(ConfigWarning::Default { property, used: used[world], others: others[world] });
            }
        }
    }

    fn warn_without_group(&mut self, given: &impl Fn(&str) -> bool) {
        const MEMBERS: [&str; 7] = [
            "group.instance.id",
            "group.protocol",
            "group.remote.assignor",
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "max.poll.interval.ms",
            "partition.assignment.strategy",
        ];
        if self.builder.group_id.is_some() {
            return;
        }
        for property in MEMBERS.into_iter().filter(|p| given(p)) {
            self.warn(ConfigWarning::NoEffect { property, why: "there is no group.id" });
        }
    }
}

/// The setters that the tables name.
impl Draft {
    pub(super) fn bootstrap(&mut self, text: &str) -> Set {
        // Both names may be given, with the same value.
        self.builder.bootstrap = vec![text.to_owned()];
        Ok(())
    }

    pub(super) fn client_id(&mut self, text: &str) -> Set {
        self.builder.config.client_id = text.to_owned();
        Ok(())
    }

    pub(super) fn client_rack(&mut self, text: &str) -> Set {
        self.builder.config.client_rack = (!text.is_empty()).then(|| text.to_owned());
        Ok(())
    }

    pub(super) fn exclude_internal_topics(&mut self, text: &str) -> Set {
        self.builder.config.exclude_internal_topics = boolean(text)?;
        Ok(())
    }

    pub(super) fn group_id(&mut self, text: &str) -> Set {
        self.builder.group_id = Some(text.to_owned());
        Ok(())
    }

    pub(super) fn group_instance_id(&mut self, text: &str) -> Set {
        self.group_instance_id = Some(text.to_owned());
        Ok(())
    }

    pub(super) fn group_protocol(&mut self, text: &str) -> Set {
        self.group_protocol = Some(match text.to_ascii_lowercase().as_str() {
            "classic" => GroupProtocol::Classic,
            "consumer" => GroupProtocol::Consumer,
            _ => return Err(format!("{text:?} is no group protocol; use classic or consumer")),
        });
        Ok(())
    }

    pub(super) fn remote_assignor(&mut self, text: &str) -> Set {
        self.remote_assignor = (!text.is_empty()).then(|| text.to_owned());
        Ok(())
    }

    pub(super) fn group_protocol_type(&mut self, text: &str) -> Set {
        one_of(text, &["consumer"])
    }

    pub(super) fn session_timeout(&mut self, text: &str) -> Set {
        self.session_timeout = Some(millis(text)?);
        Ok(())
    }

    pub(super) fn heartbeat_interval(&mut self, text: &str) -> Set {
        self.heartbeat_interval = Some(millis(text)?);
        Ok(())
    }

    pub(super) fn max_poll_interval(&mut self, text: &str) -> Set {
        self.max_poll_interval = Some(millis(text)?);
        Ok(())
    }

    pub(super) fn assignors(&mut self, text: &str) -> Set {
        self.assignors = text.split(',').map(assignor).collect::<Result<_, _>>()?;
        Ok(())
    }

    pub(super) fn java_offset_reset(&mut self, text: &str) -> Set {
        let lower = text.to_ascii_lowercase();
        self.builder.config.auto_offset_reset = match lower.as_str() {
            "earliest" => OffsetReset::Earliest,
            "latest" => OffsetReset::Latest,
            "none" => OffsetReset::Error,
            _ => match lower.strip_prefix("by_duration:") {
                Some(duration) => OffsetReset::ByDuration(iso_duration(duration)?),
                None => {
                    return Err(format!(
                        "{text:?} is none of earliest, latest, none, by_duration:PnDTnHnMnS"
                    ));
                }
            },
        };
        Ok(())
    }

    pub(super) fn librdkafka_offset_reset(&mut self, text: &str) -> Set {
        self.builder.config.auto_offset_reset = match text.to_ascii_lowercase().as_str() {
            "smallest" | "earliest" | "beginning" => OffsetReset::Earliest,
            "largest" | "latest" | "end" => OffsetReset::Latest,
            "error" => OffsetReset::Error,
            _ => {
                return Err(format!(
                    "{text:?} is none of smallest, earliest, beginning, largest, latest, end, error"
                ));
            }
        };
        Ok(())
    }

    pub(super) fn isolation_level(&mut self, text: &str) -> Set {
        self.builder.config.isolation_level = match text.to_ascii_lowercase().as_str() {
            "read_committed" => IsolationLevel::ReadCommitted,
            "read_uncommitted" => IsolationLevel::ReadUncommitted,
            _ => return Err(format!("{text:?} is none of read_committed, read_uncommitted")),
        };
        Ok(())
    }

    pub(super) fn auto_commit(&mut self, text: &str) -> Set {
        self.auto_commit = boolean(text)?;
        Ok(())
    }

    pub(super) fn auto_store(&mut self, text: &str) -> Set {
        self.auto_store = boolean(text)?;
        Ok(())
    }

    pub(super) fn commit_interval(&mut self, text: &str) -> Set {
        self.commit_interval = millis(text)?;
        Ok(())
    }

    pub(super) fn partition_eof(&mut self, text: &str) -> Set {
        self.builder.config.partition_eof = boolean(text)?;
        Ok(())
    }

    pub(super) fn check_crcs(&mut self, text: &str) -> Set {
        self.builder.config.check_crcs = boolean(text)?;
        Ok(())
    }

    pub(super) fn auto_create(&mut self, text: &str) -> Set {
        self.builder.config.allow_auto_create_topics = boolean(text)?;
        Ok(())
    }

    pub(super) fn fetch_max_wait(&mut self, text: &str) -> Set {
        self.builder.config.fetch_max_wait = Duration::from_millis(u64::from(natural(text)?.unsigned_abs()));
        Ok(())
    }

    pub(super) fn fetch_min_bytes(&mut self, text: &str) -> Set {
        self.builder.config.fetch_min_bytes = natural(text)?;
        Ok(())
    }

    pub(super) fn fetch_max_bytes(&mut self, text: &str) -> Set {
        self.builder.config.fetch_max_bytes = natural(text)?;
        Ok(())
    }

    pub(super) fn message_max_bytes(&mut self, text: &str) -> Set {
        self.message_max_bytes = natural(text)?;
        Ok(())
    }

    pub(super) fn max_partition_fetch_bytes(&mut self, text: &str) -> Set {
        self.builder.config.max_partition_fetch_bytes = natural(text)?;
        Ok(())
    }

    pub(super) fn max_frame_bytes(&mut self, text: &str) -> Set {
        self.max_frame_bytes = Some(size(text, 1)?);
        Ok(())
    }

    pub(super) fn max_buffered_kbytes(&mut self, text: &str) -> Set {
        self.builder.config.max_buffered_bytes = size(text, 1024)?;
        Ok(())
    }

    pub(super) fn max_poll_records(&mut self, text: &str) -> Set {
        self.builder.config.max_batch_records = size(text, 1)?;
        Ok(())
    }

    pub(super) fn default_api_timeout(&mut self, text: &str) -> Set {
        self.builder.config.default_api_timeout = millis(text)?;
        Ok(())
    }

    pub(super) fn request_timeout(&mut self, text: &str) -> Set {
        self.builder.config.request_timeout = millis(text)?;
        Ok(())
    }

    pub(super) fn connection_setup_timeout(&mut self, text: &str) -> Set {
        self.builder.config.connection_setup_timeout = millis(text)?;
        Ok(())
    }

    pub(super) fn reconnect_backoff(&mut self, text: &str) -> Set {
        self.builder.config.reconnect_backoff.0 = millis(text)?;
        Ok(())
    }

    pub(super) fn reconnect_backoff_max(&mut self, text: &str) -> Set {
        self.builder.config.reconnect_backoff.1 = millis(text)?;
        Ok(())
    }

    pub(super) fn retry_backoff(&mut self, text: &str) -> Set {
        self.builder.config.retry_backoff.0 = millis(text)?;
        Ok(())
    }

    pub(super) fn retry_backoff_max(&mut self, text: &str) -> Set {
        self.builder.config.retry_backoff.1 = millis(text)?;
        Ok(())
    }

    pub(super) fn rebootstrap_trigger(&mut self, text: &str) -> Set {
        self.builder.config.metadata_recovery_rebootstrap_trigger = millis(text)?;
        Ok(())
    }

    pub(super) fn metadata_max_age(&mut self, text: &str) -> Set {
        // librdkafka's -1 is "never"; 24 days are.
        let text = if text == "-1" { "2147483647" } else { text };
        self.builder.config.metadata_max_age = millis(text)?;
        Ok(())
    }

    pub(super) fn plaintext(&mut self, text: &str) -> Set {
        match text.to_ascii_lowercase().as_str() {
            "plaintext" => Ok(()),
            "ssl" | "sasl_plaintext" | "sasl_ssl" => {
                Err(format!("{text} is not supported yet; only plaintext is"))
            }
            _ => Err(format!("{text:?} is no security protocol; only plaintext is supported")),
        }
    }

    pub(super) fn all_dns_ips(&mut self, text: &str) -> Set {
        one_of(text, &["use_all_dns_ips"])
    }

    pub(super) fn rebootstrap(&mut self, text: &str) -> Set {
        if text.eq_ignore_ascii_case("none") {
            let why = "when every known broker is gone the bootstrap addresses are always asked again";
            self.warn(ConfigWarning::NoEffect { property: "metadata.recovery.strategy", why });
            return Ok(());
        }
        one_of(text, &["rebootstrap"])
    }

    pub(super) fn offsets_in_broker(&mut self, text: &str) -> Set {
        one_of(text, &["broker"])
    }
}

/// The only values that a property can have here.
fn one_of(text: &str, values: &[&str]) -> Set {
    if values.iter().any(|v| text.eq_ignore_ascii_case(v)) {
        return Ok(());
    }
    Err(format!("{text:?} is not supported; use {}", values.join(" or ")))
}

/// An assignor by librdkafka's name or by Java's class.
fn assignor(text: &str) -> Result<Assignor, String> {
    let text = text.trim();
    let class = text.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(text);
    match class {
        "range" | "RangeAssignor" => Ok(Assignor::Range),
        "roundrobin" | "RoundRobinAssignor" => Ok(Assignor::RoundRobin),
        "sticky" | "StickyAssignor" => Ok(Assignor::Sticky),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Ok(Assignor::CooperativeSticky),
        _ => Err(format!(
            "{text:?} is none of range, roundrobin, sticky, cooperative-sticky, nor the Java class of one"
        )),
    }
}
