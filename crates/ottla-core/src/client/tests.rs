//! The client without a network: what its commands and the group's wishes cost.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use ottla_wire::View;
use ottla_wire::messages::MetadataResponse;

use super::{Client, Command, CommitItem, Offset, Outcome};
use crate::config::{CommitMode, Config, GroupConfig};
use crate::delivery::{self, DeliveryConfig};
use crate::group::GroupAction;
use crate::pattern::TopicPattern;
use crate::{CommandId, Timestamp, TopicPartition};

/// Work that grows with the square of this does not end.
const MANY: i32 = 100_000;
const T0: Timestamp = Timestamp::from_millis(1_000);

fn client(config: Config) -> Client {
    let delivery = delivery::Shared::new(DeliveryConfig::from(&config));
    let mut client = Client::new(config, delivery, 1, T0, 0);
    drain(&mut client);
    client
}

fn config() -> Config {
    Config {
        bootstrap: vec![("127.0.0.1".to_owned(), 9092)],
        group: Some(GroupConfig::new("g")),
        commit: CommitMode::Manual,
        ..Config::default()
    }
}

fn drain(client: &mut Client) -> Vec<Outcome> {
    while client.poll_action().is_some() {}
    std::iter::from_fn(|| client.poll_outcome()).map(|(_, outcome)| outcome).collect()
}

fn command(client: &mut Client, command: Command) -> Vec<Outcome> {
    client.command(T0, CommandId(1), command);
    drain(client)
}

fn many() -> Vec<TopicPartition> {
    let topic: Arc<str> = Arc::from("t");
    (0..MANY).map(|p| TopicPartition::new(Arc::clone(&topic), p)).collect()
}

#[test]
fn a_hundred_thousand_partitions_are_given_back_and_lost_in_linear_work() {
    let mut client = client(config());
    command(&mut client, Command::Subscribe(vec!["t".to_owned()]));
    let (partitions, half) = (many(), MANY as usize / 2);
    client.handle_group_action(T0, GroupAction::Assign(partitions.clone()));
    assert_eq!(client.delivery.lock().owned().len(), partitions.len());
    let (back, lost) = partitions.split_at(half);
    let deadline = Timestamp::from_millis(60_000);
    client.handle_group_action(T0, GroupAction::Revoke { partitions: back.to_vec(), deadline });
    assert_eq!(client.revoking.len(), 1);
    assert_eq!(client.committed.as_ref().map(|c| c.len()), Some(lost.len()), "no question without an owner");
    client.handle_group_action(T0, GroupAction::Lost(lost.to_vec()));
    assert_eq!(client.revoking.len(), 1, "not among the lost");
    client.handle_group_action(T0, GroupAction::Lost(back.to_vec()));
    assert_eq!(client.revoking.len(), 0);
    assert_eq!(client.committed.as_ref().map(|c| c.len()), Some(0));
    assert_eq!(client.delivery.lock().owned().len(), 0);
}

#[test]
fn a_hundred_thousand_offsets_are_committed_in_linear_work() {
    let mut client = client(config());
    let partitions = many();
    let places = partitions.iter().map(|tp| (tp.clone(), Offset::At(5))).collect();
    assert!(matches!(command(&mut client, Command::Assign(places))[..], [Outcome::Done]));
    let items = |offset: i64| {
        let item = |tp: &TopicPartition| CommitItem::Offset {
            topic_partition: tp.clone(),
            offset,
            leader_epoch: None,
            metadata: None,
            rewind: false,
        };
        // Each twice: the latest counts.
        partitions.iter().chain(&partitions).map(item).collect()
    };
    for offset in [6, 7] {
        let done = command(&mut client, Command::CommitInBackground(items(offset)));
        assert!(matches!(done[..], [Outcome::Done]), "{done:?}");
    }
    assert_eq!(client.commits.entries(), partitions.len(), "one job, each partition once");
}

#[test]
fn a_query_of_a_hundred_thousand_partitions_takes_linear_work() {
    let mut client = client(config());
    let partitions = many();
    client.command(T0, CommandId(7), Command::Committed(partitions.clone()));
    for tp in &partitions {
        client.committed_answered(CommandId(7), tp, Ok(None));
    }
    client.check_queries();
    let done = drain(&mut client);
    let [Outcome::Committed(committed)] = &done[..] else { panic!("{done:?}") };
    assert_eq!(committed.len(), partitions.len());
}

/// What is kept of topics is bounded by what is asked for now.
#[test]
fn nothing_is_kept_of_topics_that_are_not_wanted_any_more() {
    let mut client = client(config());
    command(&mut client, Command::Subscribe(vec!["t".to_owned()]));
    let tell = |client: &mut Client, names: &[String], code: i16| {
        client.cluster.want(names.iter().map(|n| Arc::from(n.as_str())).collect());
        let body = unknown_topics(names, code);
        let answer = MetadataResponse::decode(4, &body).unwrap();
        let asked = client.cluster.wanted().clone();
        client.cluster.update(4, &answer, &asked).unwrap();
        client.look_at_topics();
    };
    for round in 0..50 {
        let mut names: Vec<String> = (0..20).map(|i| format!("other-{round}-{i}")).collect();
        names.push("t".to_owned());
        tell(&mut client, &names, 29);
        assert_eq!((client.refused.len(), client.first_seen.len()), (21, 1));
    }
    tell(&mut client, &["t".to_owned()], 3);
    assert_eq!((client.refused.len(), client.first_seen.len()), (0, 1));
}

/// Who matches is told of what it can use: not of internal topics, nor of those that it may not describe; and what it
/// reads is not given up for an error.
#[test]
fn a_pattern_matches_what_can_be_used() {
    let mut client = client(config());
    let pattern = TopicPattern::new("t-.*|__t").unwrap();
    assert!(matches!(command(&mut client, Command::SubscribePattern(pattern))[..], [Outcome::Done]));
    assert!(client.wants_all_topics(T0));
    let tell = |client: &mut Client, names: &[&str], code: i16| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let body = topics(&names, code, i32::from(code == 0));
        let answer = MetadataResponse::decode(4, &body).unwrap();
        let asked = client.cluster.wanted().clone();
        let (_, found) = client.update_metadata(4, &answer, asked, true).unwrap();
        client.found_topics(T0, found.unwrap());
        client.look_at_topics();
        client.subscription.iter().cloned().collect::<Vec<_>>()
    };
    const NOT_AUTHORIZED: i16 = 29;
    assert_eq!(tell(&mut client, &["t-1", "t-2", "u", "__t"], 0), ["t-1", "t-2"]);
    assert_eq!(tell(&mut client, &["t-1", "t-2", "t-3"], NOT_AUTHORIZED), ["t-1", "t-2"]);
    assert_eq!(tell(&mut client, &["t-1", "t-3", "t-?"], 0), ["t-1", "t-2", "t-3"]);
    assert!(client.first_seen.get("t-3").is_some_and(|count| *count == 0), "it is new");
    // A broker that has just started knows of none.
    for _ in 0..9 {
        assert!(tell(&mut client, &[], 0).contains(&"t-3".to_owned()));
    }
    assert_eq!(tell(&mut client, &["u"], 0), [""; 0]);
    assert_eq!(client.mode, super::Mode::Subscribed);
}

/// Metadata version 4 of topics without partitions.
fn unknown_topics(names: &[String], code: i16) -> BytesMut {
    topics(names, code, 0)
}

/// Metadata version 4 of topics with so many partitions. Those that begin with an underscore are internal.
fn topics(names: &[String], code: i16, partitions: i32) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i32(1);
    out.put_i16(1);
    out.put_slice(b"h");
    out.put_i32(9092);
    out.put_i16(-1);
    out.put_i16(-1);
    out.put_i32(1);
    out.put_i32(names.len() as i32);
    for name in names {
        out.put_i16(code);
        out.put_i16(name.len() as i16);
        out.put_slice(name.as_bytes());
        out.put_u8(u8::from(name.starts_with('_')));
        out.put_i32(partitions);
        for partition in 0..partitions {
            out.put_i16(0);
            out.put_i32(partition);
            // Its leader, its replicas, those in sync.
            for number in [1, 1, 1, 1, 1] {
                out.put_i32(number);
            }
        }
    }
    out
}
