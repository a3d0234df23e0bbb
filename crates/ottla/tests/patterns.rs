//! Subscribing to a pattern: which topics match, as they come and go.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{GROUP, consumer, settle};
use ottla::{
    Assignor, Builder, Commit, Consumer, ErrorCode as Code, ErrorKind, Event, GroupProtocol, Offset,
    OffsetReset,
};
use ottla_broker::{Api, Broker};

const BOTH: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Consumer];

async fn broker(topics: &[&str]) -> Arc<Broker> {
    let builder = topics.iter().fold(Broker::builder().in_memory(), |b, topic| b.topic(*topic, 2));
    Arc::new(builder.start().await.unwrap())
}

fn member(broker: &Arc<Broker>, seed: u64, protocol: GroupProtocol) -> Builder {
    let builder = consumer(broker).__seed(seed).group(GROUP).group_protocol(protocol);
    builder.metadata_max_age(Duration::from_secs(10))
}

/// Reads until the topics of what is owned are these.
async fn until_owned(consumer: &mut Consumer, topics: &[&str]) {
    let wanted: BTreeSet<&str> = topics.iter().copied().collect();
    for _ in 0..600 {
        let owned = consumer.assignment().unwrap();
        if owned.iter().map(|tp| tp.topic()).collect::<BTreeSet<_>>() == wanted {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), consumer.next_event()).await;
    }
    panic!("{:?} is owned, not {wanted:?}", consumer.assignment());
}

#[tokio::test(start_paused = true)]
async fn topics_that_match_come_and_go() {
    for protocol in BOTH {
        let broker = broker(&["orders-eu", "orders", "my-orders-eu"]).await;
        let mut consumer =
            member(&broker, 1, protocol).subscribe_pattern("orders-.*").connect().await.unwrap();
        until_owned(&mut consumer, &["orders-eu"]).await;
        broker.create_topic("orders-us", 2).unwrap();
        until_owned(&mut consumer, &["orders-eu", "orders-us"]).await;
        broker.delete_topic("orders-eu").unwrap();
        until_owned(&mut consumer, &["orders-us"]).await;
        broker.delete_topic("orders-us").unwrap();
        until_owned(&mut consumer, &[]).await;
        broker.create_topic("orders-jp", 2).unwrap();
        until_owned(&mut consumer, &["orders-jp"]).await;
        consumer.close().await.unwrap();
        assert!(broker.group_members(GROUP).is_empty(), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_matches_is_the_coordinator_under_the_consumer_protocol_and_the_member_else() {
    for protocol in BOTH {
        let broker = broker(&["orders-eu", "invoices"]).await;
        let mut consumer =
            member(&broker, 1, protocol).subscribe_pattern("orders-.*").connect().await.unwrap();
        until_owned(&mut consumer, &["orders-eu"]).await;
        let group = broker.group(GROUP).unwrap();
        assert_eq!(group.members.len(), 1);
        // A list takes the place of the pattern, and the other way round.
        consumer.subscribe(["invoices"]).await.unwrap();
        until_owned(&mut consumer, &["invoices"]).await;
        broker.create_topic("orders-us", 2).unwrap();
        consumer.subscribe_pattern("orders-(us|jp)").await.unwrap();
        until_owned(&mut consumer, &["orders-us"]).await;
        consumer.unsubscribe().await.unwrap();
        assert!(broker.group_members(GROUP).is_empty(), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_later_is_read_from_its_beginning_whatever_the_policy() {
    for protocol in BOTH {
        let broker = broker(&["orders-eu"]).await;
        broker.produce("orders-eu", 0, ["before"]).unwrap();
        let builder = member(&broker, 1, protocol).auto_offset_reset(OffsetReset::Latest);
        let mut consumer = builder.subscribe_pattern("orders-.*").connect().await.unwrap();
        until_owned(&mut consumer, &["orders-eu"]).await;
        settle().await;
        broker.create_topic("orders-us", 2).unwrap();
        broker.produce("orders-us", 1, ["later"]).unwrap();
        let record = consumer.next_record().await.unwrap().unwrap();
        assert_eq!((record.topic(), record.offset()), ("orders-us", 0), "{protocol:?}");
    }
}

/// Kafka's coordinator tells a member nothing of a pattern that matches nothing: what the first topic is new to has to
/// be known beforehand.
#[tokio::test(start_paused = true)]
async fn the_first_topic_that_matches_is_read_from_its_beginning_if_it_came_later() {
    for protocol in BOTH {
        let broker = broker(&["invoices"]).await;
        let builder = member(&broker, 1, protocol).auto_offset_reset(OffsetReset::Latest);
        let mut consumer = builder.subscribe_pattern("orders-.*").connect().await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_secs(20), consumer.next_event()).await;
        assert!(nothing.is_err(), "{protocol:?}: {nothing:?}");
        broker.create_topic("orders-us", 2).unwrap();
        broker.produce("orders-us", 1, ["later"]).unwrap();
        let record = consumer.next_record().await.unwrap().unwrap();
        assert_eq!((record.topic(), record.offset()), ("orders-us", 0), "{protocol:?}");
        consumer.close().await.unwrap();
        // What there was at first is not new, however late it is assigned.
        let broker = self::broker(&["orders-eu"]).await;
        broker.produce("orders-eu", 0, ["before"]).unwrap();
        let first =
            member(&broker, 1, protocol).commit(Commit::External).auto_offset_reset(OffsetReset::Latest);
        let first = first.subscribe_pattern("orders-.*").connect().await.unwrap();
        settle().await;
        let second = member(&broker, 2, protocol).auto_offset_reset(OffsetReset::Latest);
        let mut second = second.subscribe_pattern("orders-.*").connect().await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_secs(20), second.next_record()).await;
        assert!(nothing.is_err(), "{protocol:?}: {nothing:?}");
        drop(first);
        let nothing = tokio::time::timeout(Duration::from_secs(20), second.next_record()).await;
        assert!(nothing.is_err(), "{protocol:?}: {nothing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_members_with_patterns_share_what_each_of_them_matches() {
    for protocol in BOTH {
        let broker = broker(&["a-1", "a-2", "b-1"]).await;
        let first = member(&broker, 1, protocol).subscribe_pattern("a-.*|b-.*").connect().await.unwrap();
        let second = member(&broker, 2, protocol).subscribe_pattern("a-.*").connect().await.unwrap();
        let read = |mut consumer: Consumer| async move {
            loop {
                consumer.next_event().await.unwrap();
            }
        };
        let handles = (first.handle(), second.handle());
        let (one, two) = (tokio::spawn(read(first)), tokio::spawn(read(second)));
        let mut shared = false;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (a, b) = (handles.0.assignment().unwrap(), handles.1.assignment().unwrap());
            shared = a.len() == 3 && b.len() == 3;
            if shared {
                assert!(b.iter().all(|tp| tp.topic().starts_with("a-")), "{b:?}");
                break;
            }
        }
        assert!(shared, "{protocol:?}: {:?} {:?}", handles.0.assignment(), handles.1.assignment());
        one.abort();
        two.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn every_assignor_of_the_leader_sees_what_others_match() {
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
        let broker = broker(&["a-1", "b-1"]).await;
        let builder = member(&broker, 1, GroupProtocol::Classic).assignors([assignor]);
        let mut consumer = builder.subscribe_pattern(".*-1").connect().await.unwrap();
        until_owned(&mut consumer, &["a-1", "b-1"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn auto_that_falls_back_matches_by_itself() {
    let builder = Broker::builder().in_memory().topic("orders-eu", 2);
    let broker = Arc::new(builder.as_version("3.6").start().await.unwrap());
    let builder = member(&broker, 1, GroupProtocol::Auto).subscribe_pattern("orders-.*");
    let mut consumer = builder.connect().await.unwrap();
    until_owned(&mut consumer, &["orders-eu"]).await;
    broker.create_topic("orders-us", 1).unwrap();
    until_owned(&mut consumer, &["orders-eu", "orders-us"]).await;
}

/// With `latest` all topics are asked for before it is known who matches, and once more when it is known.
#[tokio::test(start_paused = true)]
async fn auto_that_falls_back_with_latest_matches_at_once_and_knows_what_is_new() {
    let builder = Broker::builder().in_memory().topic("orders-eu", 1);
    let broker = Arc::new(builder.as_version("3.6").start().await.unwrap());
    let builder = member(&broker, 1, GroupProtocol::Auto)
        .subscribe_pattern("orders-.*")
        .auto_offset_reset(OffsetReset::Latest)
        .metadata_max_age(Duration::from_secs(30));
    let begun = tokio::time::Instant::now();
    let mut consumer = builder.connect().await.unwrap();
    until_owned(&mut consumer, &["orders-eu"]).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    broker.create_topic("orders-us", 1).unwrap();
    broker.produce("orders-us", 0, ["first"]).unwrap();
    loop {
        if let Event::Batch(batch) = consumer.next_event().await.unwrap().unwrap() {
            break assert_eq!((batch.topic(), batch.first_offset()), ("orders-us", 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_expression_is_said_at_once_or_by_the_brokers() {
    let broker = broker(&["orders"]).await;
    let classic = member(&broker, 1, GroupProtocol::Classic).connect().await.unwrap();
    let error = classic.subscribe_pattern("orders(").await.unwrap_err();
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::ApiMisuse, false));
    assert_eq!(classic.subscribe_pattern("").await.unwrap_err().kind(), ErrorKind::ApiMisuse);
    let mut new = member(&broker, 2, GroupProtocol::Consumer).connect().await.unwrap();
    new.subscribe_pattern("orders(").await.unwrap();
    let error = new.next_batch().await.unwrap_err();
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::ApiMisuse, true));
    assert_eq!(error.code(), Some(Code::InvalidRegularExpression));
    assert!(error.to_string().contains("orders("), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pattern_needs_a_group_and_no_assignment_by_hand() {
    let broker = broker(&["orders"]).await;
    let alone = consumer(&broker).connect().await.unwrap();
    assert_eq!(alone.subscribe_pattern("a").await.unwrap_err().kind(), ErrorKind::ApiMisuse);
    let member = member(&broker, 1, GroupProtocol::Classic).connect().await.unwrap();
    member.assign([(ottla::TopicPartition::new("orders", 0), Offset::Earliest)]).await.unwrap();
    assert_eq!(member.subscribe_pattern("a").await.unwrap_err().kind(), ErrorKind::ApiMisuse);
    assert!(consumer(&broker).subscribe_pattern("a").validate().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_because_its_topic_is_gone_is_told() {
    let broker = broker(&["orders-eu"]).await;
    let builder = member(&broker, 1, GroupProtocol::Classic).subscribe_pattern("orders-.*");
    let mut consumer = builder.connect().await.unwrap();
    until_owned(&mut consumer, &["orders-eu"]).await;
    broker.delete_topic("orders-eu").unwrap();
    loop {
        match consumer.next_event().await.unwrap().unwrap() {
            Event::Revoking(revocation) => break assert_eq!(revocation.partitions().len(), 2),
            Event::Lost(_) => panic!("it was to be given back"),
            _ => {}
        }
    }
}

/// Reads what comes, until the group has committed this of partition 1 of the topic.
async fn until_committed(broker: &Arc<Broker>, consumer: &mut Consumer, topic: &str, offset: i64) {
    for _ in 0..30 {
        if broker.committed(GROUP, topic, 1) == Some(offset) {
            return;
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), consumer.next_event()).await;
    }
    panic!("{:?} is committed", broker.committed(GROUP, topic, 1));
}

/// A topic that matches comes: it is read from its beginning and committed, and the member can be told to leave.
async fn is_subscribed(broker: &Arc<Broker>, consumer: &mut Consumer, topic: &str) {
    broker.create_topic(topic, 2).unwrap();
    broker.produce(topic, 1, ["later"]).unwrap();
    let record = tokio::time::timeout(Duration::from_secs(60), consumer.next_record()).await;
    let record = record.expect("it is read").unwrap().unwrap();
    assert_eq!((record.topic(), record.offset()), (topic, 0));
    drop(record);
    until_committed(broker, consumer, topic, 1).await;
    let by_hand = consumer.assign([(ottla::TopicPartition::new(topic, 0), Offset::Earliest)]).await;
    assert_eq!(by_hand.unwrap_err().kind(), ErrorKind::ApiMisuse);
    consumer.unsubscribe().await.unwrap();
    assert!(broker.group_members(GROUP).is_empty());
    assert!(consumer.assignment().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_matches_nothing_any_more_is_still_subscribed_to() {
    for protocol in BOTH {
        let broker = broker(&["orders-eu"]).await;
        let builder = member(&broker, 1, protocol).auto_offset_reset(OffsetReset::Latest);
        let mut consumer = builder.subscribe_pattern("orders-.*").connect().await.unwrap();
        until_owned(&mut consumer, &["orders-eu"]).await;
        broker.delete_topic("orders-eu").unwrap();
        until_owned(&mut consumer, &[]).await;
        // The classic member has left by now.
        let left = tokio::time::timeout(Duration::from_secs(30), consumer.next_batch()).await;
        assert!(left.is_err(), "{protocol:?}: {left:?}");
        assert_eq!(broker.group_members(GROUP).is_empty(), protocol == GroupProtocol::Classic);
        is_subscribed(&broker, &mut consumer, "orders-us").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pattern_right_behind_an_unsubscribe_that_nobody_waits_for_is_subscribed_to() {
    for protocol in BOTH {
        let broker = broker(&["orders-eu"]).await;
        let builder = member(&broker, 1, protocol).auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = builder.subscribe(["orders-eu"]).connect().await.unwrap();
        until_owned(&mut consumer, &["orders-eu"]).await;
        let mark = broker.mark();
        tokio::select! {
            biased;
            _ = consumer.unsubscribe() => panic!("the group is not left at once"),
            () = std::future::ready(()) => {}
        }
        consumer.subscribe_pattern("invoices-.*").await.unwrap();
        let leaves = |r: &ottla_broker::Observed| {
            let api = if protocol == GroupProtocol::Classic {
                Api::LeaveGroup
            } else {
                Api::ConsumerGroupHeartbeat
            };
            r.api == api && r.answered_at.is_some()
        };
        broker.wait_for_since(mark, leaves).await;
        is_subscribed(&broker, &mut consumer, "invoices-us").await;
    }
}
