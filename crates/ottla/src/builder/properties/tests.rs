use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::{Assignor, Commit, Consumer, GroupProtocol, IsolationLevel, OffsetReset};

fn java(file: &[(&str, &str)]) -> Builder {
    Builder::from_properties(Dialect::Java, file.iter().copied()).unwrap()
}

fn librdkafka(file: &[(&str, &str)]) -> Builder {
    Builder::from_properties(Dialect::Librdkafka, file.iter().copied()).unwrap()
}

fn problems(dialect: Dialect, file: &[(&str, &str)]) -> String {
    Builder::from_properties(dialect, file.iter().copied()).unwrap_err().to_string()
}

fn has_no_effect(builder: &Builder, name: &str) -> bool {
    builder
        .warnings()
        .iter()
        .any(|w| matches!(w, ConfigWarning::NoEffect { property, .. } if *property == name))
}

/// The lists are Java's `ConsumerConfig.configDef()` without internal names, and the first column of
/// librdkafka's CONFIGURATION.md.
#[test]
fn every_property_of_both_clients_is_in_its_table_once() {
    let lists = [
        (Dialect::Java, include_str!("names/java-4.3.1.txt")),
        (Dialect::Librdkafka, include_str!("names/librdkafka-2.15.txt")),
    ];
    for (dialect, list) in lists {
        let theirs: BTreeSet<&str> = list.lines().collect();
        let ours: BTreeSet<&str> = dialect.table().iter().map(|p| p.name).collect();
        assert_eq!(ours.len(), dialect.table().len(), "{dialect:?}: a name stands twice");
        let missing: Vec<_> = theirs.difference(&ours).collect();
        assert!(missing.is_empty(), "{dialect:?}: {missing:?} are not in the table");
        let stray = ours.difference(&theirs).filter(|name| {
            !matches!(dialect.find(name).map(|p| &p.effect), Some(Effect::Nothing(why)) if *why == PRODUCERS)
        });
        assert_eq!(stray.count(), 0, "{dialect:?}: a name that the client does not have");
    }
}

#[test]
fn what_is_not_set_is_what_it_is_in_that_client() {
    let b = librdkafka(&[("group.id", "g")]);
    assert_eq!(b.config.isolation_level, IsolationLevel::ReadCommitted);
    assert_eq!(b.config.auto_offset_reset, OffsetReset::Latest);
    assert!(!b.config.check_crcs && !b.config.allow_auto_create_topics);
    assert_eq!(b.group.assignors, [Assignor::Range, Assignor::RoundRobin]);
    assert_eq!(b.config.request_timeout, Duration::from_secs(60));
    assert_eq!(b.config.commit, Commit::Auto { interval: Duration::from_secs(5) });
    let b = java(&[("group.id", "g")]);
    assert_eq!(b.config.isolation_level, IsolationLevel::ReadUncommitted);
    assert_eq!(b.config.auto_offset_reset, OffsetReset::Latest);
    assert!(b.config.check_crcs && b.config.allow_auto_create_topics);
    assert_eq!(b.group.assignors, [Assignor::Range, Assignor::CooperativeSticky]);
    assert_eq!(b.config.max_batch_records, 500);
}

#[test]
fn defaults_that_differ_between_the_worlds_are_told_once_each() {
    for (dialect, used) in [(Dialect::Java, "read_uncommitted"), (Dialect::Librdkafka, "read_committed")] {
        let b = Builder::from_properties(dialect, [("group.id", "g")]).unwrap();
        let told: Vec<_> = b
            .warnings()
            .iter()
            .filter_map(|w| match w {
                ConfigWarning::Default { property, used, .. } => Some((*property, *used)),
                ConfigWarning::NoEffect { .. } => None,
            })
            .collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.contains(&("isolation.level", used)));
        assert!(told.contains(&("auto.offset.reset", "latest")));
    }
    let b = java(&[
        ("auto.offset.reset", "none"),
        ("isolation.level", "READ_COMMITTED"),
        ("check.crcs", "false"),
        ("allow.auto.create.topics", "false"),
    ]);
    assert_eq!(b.warnings(), []);
}

#[test]
fn stored_offsets_become_marks() {
    let b = librdkafka(&[("enable.auto.offset.store", "false"), ("auto.commit.interval.ms", "250")]);
    assert_eq!(b.config.commit, Commit::Manual);
    assert_eq!(b.config.marks_interval, Duration::from_millis(250));
    assert_eq!(librdkafka(&[("enable.auto.commit", "false")]).config.commit, Commit::Manual);
    let b = java(&[("auto.commit.interval.ms", "0")]);
    assert_eq!(b.config.commit, Commit::Auto { interval: Duration::from_millis(1) });
}

#[test]
fn each_worlds_words_are_understood() {
    for (word, reset) in [
        ("earliest", OffsetReset::Earliest),
        ("latest", OffsetReset::Latest),
        ("none", OffsetReset::Error),
        ("by_duration:PT1H", OffsetReset::ByDuration(Duration::from_secs(3600))),
    ] {
        assert_eq!(java(&[("auto.offset.reset", word)]).config.auto_offset_reset, reset, "{word}");
    }
    for (words, reset) in [
        (&["smallest", "earliest", "beginning"][..], OffsetReset::Earliest),
        (&["largest", "latest", "end"], OffsetReset::Latest),
        (&["error"], OffsetReset::Error),
    ] {
        for word in words {
            assert_eq!(librdkafka(&[("auto.offset.reset", word)]).config.auto_offset_reset, reset, "{word}");
        }
    }
    let b = java(&[
        ("group.id", "g"),
        (
            "partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.StickyAssignor, roundrobin,cooperative-sticky",
        ),
    ]);
    assert_eq!(b.group.assignors, [Assignor::Sticky, Assignor::RoundRobin, Assignor::CooperativeSticky]);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one() {
    let text = problems(Dialect::Java, &[("sesion.timeout.ms", "6000"), ("zzzzzzzzzzzz", "1")]);
    assert!(
        text.contains("unknown property \"sesion.timeout.ms\"; did you mean \"session.timeout.ms\"?"),
        "{text}"
    );
    assert!(text.contains("unknown property \"zzzzzzzzzzzz\"") && !text.contains("zzzz\"; did"), "{text}");
    let text = problems(Dialect::Java, &[("fetch.wait.max.ms", "1")]);
    assert!(text.contains("it is one of librdkafka's"), "{text}");
    let text = problems(Dialect::Librdkafka, &[("default.api.timeout.ms", "1")]);
    assert!(text.contains("it is one of Java's"), "{text}");
}

#[test]
fn every_problem_is_told_at_once_and_no_secret() {
    let text = problems(
        Dialect::Librdkafka,
        &[
            ("session.timeout.ms", "soon"),
            ("enable.auto.commit", "yes"),
            ("auto.offset.reset", "none"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.password", "hunter2"),
            ("sasl.pasword", "hunter2"),
            ("interceptors", "x"),
            ("group.protocol", "streams"),
            ("partition.assignment.strategy", "range,mine"),
            ("bootstrap.servers", "a:1"),
            ("metadata.broker.list", "b:1"),
        ],
    );
    for part in [
        "session.timeout.ms: \"soon\" is no number",
        "enable.auto.commit: \"yes\" is neither",
        "auto.offset.reset: \"none\" is none of smallest",
        "security.protocol: SASL_SSL is not supported yet",
        "did you mean \"sasl.password\"",
        "interceptors: interceptors are not supported",
        "group.protocol: \"streams\" is no group protocol",
        "\"mine\" is none of range",
        "bootstrap.servers does not fit metadata.broker.list",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_has_no_effect_is_told_and_not_passed_over() {
    let b = librdkafka(&[("queued.min.messages", "1"), ("acks", "all"), ("session.timeout.ms", "6000")]);
    assert!(has_no_effect(&b, "queued.min.messages") && has_no_effect(&b, "acks"));
    assert!(has_no_effect(&b, "session.timeout.ms"), "there is no group");
    b.bootstrap("a:1").validate().unwrap();
    let b = librdkafka(&[("group.id", "g"), ("session.timeout.ms", "20000"), ("interceptors", "")]);
    assert!(!has_no_effect(&b, "session.timeout.ms"));
    assert_eq!(b.group.session_timeout, Duration::from_secs(20));
    let b = java(&[("metadata.recovery.strategy", "none"), ("key.deserializer", "a.B")]);
    assert!(has_no_effect(&b, "metadata.recovery.strategy") && has_no_effect(&b, "key.deserializer"));
}

#[test]
fn sizes_follow_each_other_as_in_librdkafka() {
    let b = librdkafka(&[("message.max.bytes", "200000000"), ("bootstrap.servers", "a:1")]);
    assert_eq!(b.config.fetch_max_bytes, 200_000_000);
    assert_eq!(b.config.max_frame_bytes, 200_000_512);
    b.validate().unwrap();
    let b = librdkafka(&[("receive.message.max.bytes", "1000000"), ("bootstrap.servers", "a:1")]);
    assert!(b.validate().unwrap_err().to_string().contains("max_frame_bytes does not fit fetch_max_bytes"));
    let b = librdkafka(&[("queued.max.messages.kbytes", "1024")]);
    assert_eq!(b.config.max_buffered_bytes, 1 << 20);
    let b = librdkafka(&[("topic.metadata.refresh.interval.ms", "-1"), ("bootstrap.servers", "a:1")]);
    b.validate().unwrap();
}

#[test]
fn the_typed_setters_go_on_from_there_and_win() {
    let b = java(&[
        ("bootstrap.servers", "a:1,b:2"),
        ("group.id", "g"),
        ("client.id", "x"),
        ("check.crcs", "false"),
    ])
    .check_crcs(true)
    .assignors([Assignor::CooperativeSticky])
    .subscribe(["t"]);
    let config = b.checked().unwrap();
    assert!(config.check_crcs);
    assert_eq!((config.client_id.as_str(), config.bootstrap.len()), ("x", 2));
    assert_eq!(config.group.unwrap().assignors, [Assignor::CooperativeSticky]);
}

#[test]
fn the_effective_configuration_names_every_setting() {
    let text = librdkafka(&[("group.id", "g"), ("fetch.wait.max.ms", "100")]).describe_effective();
    for line in [
        "fetch_max_wait = 100ms",
        "isolation_level = read_committed",
        "commit = auto every 5s",
        "assignors = range,roundrobin",
        "rebalance_timeout = 300s",
        "reconnect_backoff = 100ms to 10s",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    // Every field of the configuration has its line: `Debug` lists the fields.
    let debug = format!("{:#?}", Consumer::builder("a:1").group("g").config);
    for line in debug.lines().filter(|l| l.starts_with("    ") && !l.starts_with("     ")) {
        let Some((field, _)) = line.trim().split_once(':') else { continue };
        assert!(text.contains(&format!("{field} = ")), "{field} is not in {text}");
    }
}

#[test]
fn the_consumer_protocol_takes_its_own_settings_and_refuses_the_others() {
    for dialect in [java as fn(&[(&str, &str)]) -> Builder, librdkafka] {
        let file = |more: &[(&'static str, &'static str)]| {
            let mut all =
                vec![("bootstrap.servers", "a:1"), ("group.id", "g"), ("group.protocol", "CONSUMER")];
            all.extend_from_slice(more);
            dialect(&all)
        };
        let group = file(&[("group.remote.assignor", "range")]).checked().unwrap().group.unwrap();
        assert_eq!(
            (group.protocol, group.remote_assignor.as_deref()),
            (GroupProtocol::Consumer, Some("range"))
        );
        for (property, value) in [
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "1000"),
            ("partition.assignment.strategy", "range"),
        ] {
            let error = file(&[(property, value)]).validate().unwrap_err().to_string();
            assert!(error.contains("does not fit group_protocol"), "{property}: {error}");
        }
        let text = file(&[]).describe_effective();
        assert!(
            text.contains("group_protocol = consumer\n")
                && text.contains("session_timeout = (the brokers decide)\n"),
            "{text}"
        );
    }
    let b = java(&[("group.remote.assignor", "range")]);
    assert!(has_no_effect(&b, "group.remote.assignor"), "there is no group");
}

#[test]
fn a_file_that_names_no_protocol_is_classic_as_in_its_world() {
    for dialect in [java as fn(&[(&str, &str)]) -> Builder, librdkafka] {
        let file = dialect(&[("bootstrap.servers", "a:1"), ("group.id", "g")]);
        assert_eq!(file.checked().unwrap().group.unwrap().protocol, GroupProtocol::Classic);
        assert!(file.describe_effective().contains("group_protocol = classic\n"));
    }
}
