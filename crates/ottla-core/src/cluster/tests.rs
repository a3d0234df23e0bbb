//! Metadata against answers written by hand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use ottla_wire::View;
use ottla_wire::messages::MetadataResponse;

use super::topic::MAX_PARTITIONS;
use super::{Changes, Cluster, Refresh};
use crate::table::{assert_documented, transitions};
use crate::{BrokerId, Error, ErrorKind, LeaderEpoch, Rng, Timestamp, TopicId, TopicPartition};

/// A topic in an answer: error, name, id, and per partition leader and epoch.
struct Told<'a>(i16, &'a str, u8, &'a [(i32, i32)]);

fn string(out: &mut BytesMut, text: &str) {
    let length = text.len() + 1;
    out.put_u8((length & 0x7f) as u8 | if length > 0x7f { 0x80 } else { 0 });
    if length > 0x7f {
        out.put_u8((length >> 7) as u8);
    }
    out.put_slice(text.as_bytes());
}

/// Metadata version 12.
fn answer(brokers: &[BrokerTold<'_>], topics: &[Told<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_u8(brokers.len() as u8 + 1);
    for (id, host, port, rack) in brokers {
        out.put_i32(*id);
        string(&mut out, host);
        out.put_i32(*port);
        match rack {
            Some(rack) => string(&mut out, rack),
            None => out.put_u8(0),
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    out.put_i32(-1);
    out.put_u8(topics.len() as u8 + 1);
    for Told(error, name, id, partitions) in topics {
        out.put_i16(*error);
        string(&mut out, name);
        out.put_slice(&[*id; 16]);
        out.put_u8(0);
        out.put_u8(partitions.len() as u8 + 1);
        for (index, (leader, epoch)) in partitions.iter().enumerate() {
            out.put_i16(if *leader < 0 { 5 } else { 0 });
            out.put_i32(index as i32);
            out.put_i32(*leader);
            out.put_i32(*epoch);
            out.put_u8(2);
            out.put_i32(1);
            out.put_slice(&[1, 1, 0]);
        }
        out.put_i32(i32::MIN);
        out.put_u8(0);
    }
    out.put_u8(0);
    out
}

/// Id, host, port, rack.
type BrokerTold<'a> = (i32, &'a str, i32, Option<&'a str>);

const TWO: &[BrokerTold<'_>] = &[(1, "a", 9092, Some("r1")), (2, "b", 9092, None)];

fn cluster(topics: &[&str]) -> Cluster {
    let mut cluster = Cluster::default();
    assert!(cluster.want(topics.iter().map(|t| Arc::from(*t)).collect()));
    cluster
}

fn tell_at(cluster: &mut Cluster, version: i16, bytes: &[u8]) -> Result<Changes, Error> {
    let asked: BTreeSet<Arc<str>> = cluster.wanted().clone();
    let answer = MetadataResponse::decode(version, bytes).expect("well formed");
    cluster.update(version, &answer, &asked)
}

fn tell(cluster: &mut Cluster, topics: &[Told<'_>]) -> Changes {
    tell_at(cluster, 12, &answer(TWO, topics)).expect("a good answer")
}

fn leader(cluster: &Cluster) -> Option<(i32, Option<i32>)> {
    cluster.leader(&TopicPartition::new("t", 0)).map(|l| (l.broker.0, l.epoch.map(|e| e.0)))
}

#[test]
fn an_answer_gives_brokers_leaders_and_epochs() {
    let mut cluster = cluster(&["t"]);
    let changes = tell(&mut cluster, &[Told(0, "t", 7, &[(1, 3), (2, 4)])]);
    assert!(changes.brokers && changes.topology && changes.leaders);
    assert_eq!(leader(&cluster), Some((1, Some(3))));
    assert_eq!(cluster.topic("t").and_then(|t| t.id), Some(TopicId([7; 16])));
    assert_eq!(cluster.brokers()[&BrokerId(1)].rack.as_deref(), Some("r1"));
    assert!(!cluster.is_incomplete());
    let changes = tell(&mut cluster, &[Told(0, "t", 7, &[(1, 3), (2, 4)])]);
    assert_eq!(changes, Changes::default(), "the same answer changes nothing");
}

#[test]
fn only_what_was_asked_for_is_kept() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 0)]), Told(0, "other", 8, &[(1, 0)])]);
    assert!(cluster.topic("other").is_none());
}

#[test]
fn hostile_brokers_are_refused() {
    let long = "x".repeat(300);
    let cases: [&[BrokerTold<'_>]; 5] = [
        &[],
        &[(1, "", 9092, None)],
        &[(1, &long, 9092, None)],
        &[(1, "a", 0, None)],
        &[(-1, "a", 70_000, None)],
    ];
    for brokers in cases {
        let error = tell_at(&mut cluster(&["t"]), 12, &answer(brokers, &[])).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
    }
}

/// More partitions than any topic has are no answer: said, and nothing of it is kept.
#[test]
fn a_topic_with_more_partitions_than_the_limit_is_refused() {
    let whole = answer(TWO, &[Told(0, "t", 7, &[(1, 3)])]);
    // The count, and the one partition, whose bytes are repeated.
    let partition: Vec<u8> = {
        let two = answer(TWO, &[Told(0, "t", 7, &[(1, 3), (1, 3)])]);
        let end = 6;
        two[two.len() - end - (two.len() - whole.len())..two.len() - end].to_vec()
    };
    let many = |name: &str, count: usize| {
        let one = answer(TWO, &[Told(0, name, 7, &[(1, 3)])]);
        let (head, tail) = (one.len() - 6 - partition.len() - 1, one.len() - 6);
        let mut out = BytesMut::from(&one[..head]);
        let mut left = count + 1;
        while left >= 0x80 {
            out.put_u8((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        out.put_u8(left as u8);
        for _ in 0..count {
            out.put_slice(&partition);
        }
        out.put_slice(&one[tail..]);
        out
    };
    let mut cluster = cluster(&["t"]);
    assert_eq!(tell_at(&mut cluster, 12, &whole).expect("a good answer").recreated.len(), 0);
    let error = tell_at(&mut cluster, 12, &many("t", MAX_PARTITIONS + 1)).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
    assert!(error.to_string().contains("\"t\" has 1000001 partitions"), "{error}");
    assert_eq!(cluster.topic("t").map(|t| t.partition_count()), Some(1), "what was known stands");
    tell_at(&mut cluster, 12, &many("u", MAX_PARTITIONS + 1)).expect("nobody asked for it");
    tell_at(&mut cluster, 12, &many("t", 1_000)).expect("a topic of many partitions");
}

#[test]
fn kip_320_a_lower_epoch_is_refused_until_five_answers_in_a_row_agree() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    for _ in 0..4 {
        tell(&mut cluster, &[Told(0, "t", 7, &[(2, 5)])]);
        assert_eq!(leader(&cluster), Some((1, Some(9))));
    }
    tell(&mut cluster, &[Told(0, "t", 7, &[(2, 5)])]);
    assert_eq!(leader(&cluster), Some((2, Some(5))));
}

#[test]
fn flapping_lower_epochs_never_add_up() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    for i in 0..20 {
        tell(&mut cluster, &[Told(0, "t", 7, &[(2, 5 + i % 2)])]);
    }
    assert_eq!(leader(&cluster), Some((1, Some(9))));
}

#[test]
fn an_answer_without_an_epoch_moves_the_leader_and_keeps_the_epoch() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(2, -1)])]);
    assert_eq!(leader(&cluster), Some((2, Some(9))));
}

#[test]
fn kip_320_epochs_before_metadata_version_nine_are_not_trusted() {
    let mut cluster = cluster(&["t"]);
    // Version 8 in its own layout would be another message; what counts is the version that is told.
    let bytes = answer(TWO, &[Told(0, "t", 7, &[(1, 9)])]);
    let view = MetadataResponse::decode(12, &bytes).expect("well formed");
    let asked = cluster.wanted().clone();
    cluster.update(8, &view, &asked).expect("a good answer");
    assert_eq!(leader(&cluster), Some((1, None)));
}

#[test]
fn a_partition_without_a_leader_keeps_the_last_one_and_is_asked_for_again() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(-1, 9)])]);
    assert_eq!(leader(&cluster), Some((1, Some(9))));
    assert!(cluster.is_incomplete());
}

#[test]
fn a_leader_without_an_address_is_nobody_to_ask() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(5, 1)])]);
    assert_eq!(leader(&cluster), None);
    assert!(cluster.is_incomplete(), "it is asked for again, and not when it is old");
}

#[test]
fn kip_516_another_id_is_another_topic_and_its_epochs_begin_anew() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    let changes = tell(&mut cluster, &[Told(0, "t", 8, &[(1, 0)])]);
    assert_eq!(changes.recreated, [Arc::from("t")]);
    assert_eq!(leader(&cluster), Some((1, Some(0))));
    tell(&mut cluster, &[Told(0, "t", 0, &[(1, 0)])]);
    assert_eq!(cluster.topic("t").and_then(|t| t.id), Some(TopicId([8; 16])), "a missing id is ignored");
}

#[test]
fn kip_516_a_broker_that_still_tells_of_the_former_topic_is_not_believed() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    tell(&mut cluster, &[Told(0, "t", 8, &[(2, 0)])]);
    let changes = tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    assert!(changes.recreated.is_empty());
    assert_eq!(leader(&cluster), Some((2, Some(0))));
}

/// The id that nobody else tells was a lie: it must not strand the topic.
#[test]
fn kip_516_the_former_id_is_believed_after_five_answers_in_a_row() {
    let mut cluster = cluster(&["t"]);
    let mut told = |id: u8| tell(&mut cluster, &[Told(0, "t", id, &[(1, 9)])]).recreated.len();
    assert_eq!([7, 8, 7, 7, 7, 7].map(&mut told), [0, 1, 0, 0, 0, 0]);
    assert_eq!([8, 7, 7, 7, 7].map(&mut told), [0; 5], "not in a row");
    assert_eq!([7, 7].map(&mut told), [1, 0]);
    assert_eq!(told(8), 0, "and now that is the former one");
}

#[test]
fn a_deleted_topic_loses_its_partitions_and_an_error_in_passing_does_not() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    tell(&mut cluster, &[Told(5, "t", 7, &[])]);
    assert_eq!(leader(&cluster), Some((1, Some(9))), "LEADER_NOT_AVAILABLE");
    let mut told_gone = || {
        let changes = tell(&mut cluster, &[Told(3, "t", 7, &[])]);
        (changes.topology, leader(&cluster).is_some())
    };
    // A broker that has just started may say so of a topic that it leads.
    assert_eq!((0..9).map(|_| told_gone()).collect::<Vec<_>>(), [(false, true); 9]);
    assert_eq!(told_gone(), (true, false));
    assert_eq!(told_gone(), (false, false), "once");
}

#[test]
fn a_topic_that_is_told_of_in_between_was_never_gone() {
    let mut cluster = cluster(&["t"]);
    for _ in 0..3 {
        tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
        for _ in 0..9 {
            assert!(!tell(&mut cluster, &[Told(3, "t", 7, &[])]).topology);
        }
    }
    assert_eq!(leader(&cluster), Some((1, Some(9))));
}

#[test]
fn kip_951_a_hint_counts_only_with_a_newer_epoch_and_a_known_broker() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 9)])]);
    let tp = TopicPartition::new("t", 0);
    assert!(!cluster.hint(&tp, 2, 9));
    assert!(!cluster.hint(&tp, 2, -1));
    assert!(!cluster.hint(&tp, 77, 10));
    assert!(cluster.hint(&tp, 2, 10));
    assert_eq!(cluster.leader(&tp).map(|l| (l.broker, l.epoch)), Some((BrokerId(2), Some(LeaderEpoch(10)))));
}

#[test]
fn kip_881_assignors_see_partitions_and_racks_of_topics_that_exist() {
    let mut cluster = cluster(&["t", "missing"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[(1, 0), (2, 0)]), Told(3, "missing", 0, &[])]);
    let topics = cluster.topics_for_assignor(["t", "missing"].into_iter());
    let t = topics.get("t").expect("it exists");
    assert_eq!(t.partitions.iter().map(|p| p.racks.len()).collect::<Vec<_>>(), [1, 1]);
    assert!(topics.get("missing").is_none());
}

#[test]
fn metadata_is_asked_for_at_once_then_when_old_and_with_growing_pauses_in_between() {
    let mut rng = Rng::new(1);
    let age = Duration::from_secs(300);
    let mut refresh = Refresh::new(age, (Duration::from_millis(100), Duration::from_secs(1)));
    let t0 = Timestamp::from_millis(1000);
    assert_eq!(refresh.next(), Some(Timestamp::ZERO));
    refresh.sent();
    assert_eq!(refresh.next(), None);
    refresh.answered(t0, true, &mut rng);
    assert_eq!(refresh.next(), Some(t0 + age));
    refresh.request(t0);
    assert_eq!(refresh.next(), Some(t0));
    let mut last = Duration::ZERO;
    for _ in 0..3 {
        refresh.sent();
        refresh.answered(t0, false, &mut rng);
        let pause = refresh.next().expect("due").since(t0);
        assert!(pause > last, "{pause:?} after {last:?}");
        last = pause;
    }
    refresh.sent();
    refresh.failed(t0, &mut rng);
    assert!(refresh.next().expect("due") > t0);
}

#[test]
fn a_topic_without_a_partition_is_no_answer() {
    let mut cluster = cluster(&["t"]);
    tell(&mut cluster, &[Told(0, "t", 7, &[])]);
    assert!(cluster.is_incomplete());
}

/// A partition that does not exist, or a leader that is another one in each answer: somebody asks for metadata after
/// each good answer.
#[test]
fn good_answers_that_do_not_help_are_followed_by_growing_pauses() {
    let mut rng = Rng::new(1);
    let mut refresh =
        Refresh::new(Duration::from_secs(300), (Duration::from_millis(100), Duration::from_secs(1)));
    let mut now = Timestamp::from_millis(1000);
    let mut asked = 0;
    let end = now + Duration::from_secs(10);
    while now < end {
        refresh.request(now);
        now = refresh.next().expect("due").max(now + Duration::from_millis(1));
        refresh.sent();
        refresh.answered(now, true, &mut rng);
        asked += 1;
    }
    assert!((8..=16).contains(&asked), "{asked} in ten seconds");
    now = now + Duration::from_secs(3);
    refresh.request(now);
    assert_eq!(refresh.next(), Some(now), "after a while it is done at once again");
    refresh.sent();
    refresh.answered(now, true, &mut rng);
    refresh.request(now);
    assert_eq!(refresh.next(), Some(now), "and once more");
}

#[test]
fn a_reason_that_comes_while_a_request_is_under_way_is_not_lost_and_does_not_loop() {
    let mut rng = Rng::new(1);
    let mut refresh =
        Refresh::new(Duration::from_secs(300), (Duration::from_millis(100), Duration::from_secs(1)));
    let now = Timestamp::from_millis(1000);
    refresh.sent();
    refresh.request(now);
    refresh.answered(now, true, &mut rng);
    assert_eq!(refresh.next(), Some(now), "the answer may be older than the reason");
    refresh.sent();
    refresh.request(now);
    refresh.answered(now, true, &mut rng);
    assert!(refresh.next().expect("due") > now, "again and again is not at once");
}

#[test]
fn the_transition_table_of_topics_is_what_the_code_does() {
    let states = ["unknown", "7", "7, gone for 9", "8, 7 before", "gone, 7 before"];
    let events = ["partitions of 7", "of 8", "of no id", "no partition", "error 3", "error 5", "error 29"];
    let table = transitions(&states, &events, |state, event| {
        let mut cluster = cluster(&["t"]);
        let before: &[Told<'_>] = match states[state] {
            "unknown" => &[],
            "7" => &[Told(0, "t", 7, &[(1, 9)])],
            "8, 7 before" => &[Told(0, "t", 7, &[(1, 9)]), Told(0, "t", 8, &[(1, 0)])],
            _ => &[Told(0, "t", 7, &[(1, 9)])],
        };
        for told in before {
            tell(&mut cluster, std::slice::from_ref(told));
        }
        let gone = match states[state] {
            "7, gone for 9" => 9,
            "gone, 7 before" => 10,
            _ => 0,
        };
        for _ in 0..gone {
            tell(&mut cluster, &[Told(3, "t", 7, &[])]);
        }
        let changes = tell(
            &mut cluster,
            &[match events[event] {
                "partitions of 7" => Told(0, "t", 7, &[(1, 9)]),
                "of 8" => Told(0, "t", 8, &[(1, 0)]),
                "of no id" => Told(0, "t", 0, &[(1, 9)]),
                "no partition" => Told(0, "t", 7, &[]),
                "error 3" => Told(3, "t", 0, &[]),
                "error 5" => Told(5, "t", 7, &[]),
                _ => Told(29, "t", 7, &[]),
            }],
        );
        let topic = cluster.topic("t").expect("asked for");
        let mut cell = match (topic.exists(), topic.id) {
            (true, Some(id)) => id.0[0].to_string(),
            (true, None) => "exists".to_owned(),
            (false, _) if topic.is_settled() => "gone".to_owned(),
            (false, _) => "unknown".to_owned(),
        };
        if !changes.recreated.is_empty() {
            cell.push_str(", recreated");
        }
        if topic.is_incomplete() {
            cell.push_str(", asked again");
        }
        cell
    });
    assert_documented(include_str!("topic.rs"), &table);
}

#[test]
fn the_transition_table_of_refreshing_is_what_the_code_does() {
    const AGE: Duration = Duration::from_secs(300);
    let (initial, max) = (Duration::from_millis(100), Duration::from_secs(1));
    let now = Timestamp::from_millis(1_000_000);
    let states = ["due", "in flight", "in flight, again", "fresh", "waits"];
    let events = ["wanted", "sent", "all is answered", "not all is answered", "failed", "max age is over"];
    let named = |refresh: &Refresh, now: Timestamp| match refresh.next() {
        None if refresh.is_asked_again() => "in flight, again",
        None => "in flight",
        Some(at) if at <= now => "due",
        Some(at) if at == now + AGE => "fresh",
        Some(at) => {
            assert!(at <= now + max * 2, "a backoff");
            "waits"
        }
    };
    let table = transitions(&states, &events, |state, event| {
        let mut rng = Rng::new(1);
        let mut refresh = Refresh::new(AGE, (initial, max));
        let steps: &[&str] = match states[state] {
            "due" => &[],
            "in flight" => &["sent"],
            "in flight, again" => &["sent", "wanted"],
            "fresh" => &["sent", "all is answered"],
            _ => &["sent", "failed"],
        };
        let mut apply = |refresh: &mut Refresh, event: &str| match event {
            "wanted" => refresh.request(now),
            "sent" => refresh.sent(),
            "all is answered" => drop(refresh.answered(now, true, &mut rng)),
            "not all is answered" => drop(refresh.answered(now, false, &mut rng)),
            _ => refresh.failed(now, &mut rng),
        };
        steps.iter().for_each(|step| apply(&mut refresh, step));
        assert_eq!(named(&refresh, now), states[state]);
        let flying = refresh.next().is_none();
        match events[event] {
            "max age is over" => return named(&refresh, now + AGE).to_owned(),
            // Nothing is sent twice, and only what was sent is answered.
            "sent" if flying => return "–".to_owned(),
            "sent" | "wanted" => {}
            _ if !flying => return "–".to_owned(),
            _ => {}
        }
        apply(&mut refresh, events[event]);
        named(&refresh, now).to_owned()
    });
    assert_documented(include_str!("refresh.rs"), &table);
}

/// What a restart of a broker had cost in pauses was paid again by the first request of the next one, minutes later.
#[test]
fn pauses_of_long_ago_do_not_count() {
    let (mut rng, age) = (Rng::new(1), Duration::from_secs(300));
    let mut refresh = Refresh::new(age, (Duration::from_millis(100), Duration::from_secs(1)));
    let mut now = Timestamp::from_millis(1000);
    for _ in 0..5 {
        refresh.sent();
        refresh.failed(now, &mut rng);
    }
    assert!(refresh.next().expect("due") >= now + Duration::from_millis(800), "they have grown");
    now = now + Duration::from_secs(60);
    refresh.sent();
    refresh.failed(now, &mut rng);
    assert!(refresh.next().expect("due") <= now + Duration::from_millis(120));
}
