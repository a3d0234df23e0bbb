//! Subscriptions that change while they are carried out, and consumers that end with or without one. Most of it is what
//! librdkafka's suites 0113 and 0116 ask (`docs/ported-suites.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla::{Builder, Consumer, Event, GroupProtocol};
use ottla_broker::{Api, Broker, Observed};

use crate::common::{GROUP, consumer, settle};

const PROTOCOLS: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Consumer];

/// Topics with two partitions each.
async fn cluster(topics: &[&str]) -> Arc<Broker> {
    let builder =
        topics.iter().fold(Broker::builder().in_memory(), |builder, topic| builder.topic(*topic, 2));
    Arc::new(builder.start().await.unwrap())
}

fn member(broker: &Arc<Broker>, seed: u64, protocol: GroupProtocol) -> Builder {
    consumer(broker).__seed(seed).group(GROUP).group_protocol(protocol)
}

/// A record in each partition.
fn write(broker: &Broker, topics: &[&str]) {
    for topic in topics {
        for partition in 0..2 {
            broker.produce(topic, partition, ["a record"]).unwrap();
        }
    }
}

/// Reads until nothing has come for a minute: what was told, in short, and how many records came of each topic.
async fn told(consumer: &mut Consumer) -> (Vec<String>, BTreeMap<String, usize>) {
    let (mut told, mut records) = (Vec::new(), BTreeMap::new());
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(60), consumer.next_event()).await {
        let names = |partitions: &[ottla::TopicPartition]| {
            let topics: BTreeSet<&str> = partitions.iter().map(|tp| tp.topic()).collect();
            topics.into_iter().collect::<Vec<_>>().join("+")
        };
        match event.unwrap().expect("nobody shuts it down") {
            Event::Batch(batch) => *records.entry(batch.topic().to_owned()).or_default() += batch.len(),
            Event::Assigned(partitions) => told.push(format!("assigned {}", names(&partitions))),
            Event::Revoking(revocation) => told.push(format!("revoking {}", names(revocation.partitions()))),
            Event::Lost(partitions) => told.push(format!("lost {}", names(&partitions))),
            _ => {}
        }
    }
    (told, records)
}

fn owned(consumer: &Consumer) -> BTreeSet<String> {
    consumer.assignment().unwrap().iter().map(|tp| tp.topic().to_owned()).collect()
}

fn set(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|topic| (*topic).to_owned()).collect()
}

/// librdkafka's 0113 s1 to s6: another subscription, and before that one is carried out the next, or none. Only the last
/// one counts, whatever was on its way, and no record of it is left out.
#[tokio::test(start_paused = true)]
async fn subscriptions_that_change_at_once() {
    for (protocol, read_in_between, last) in PROTOCOLS
        .into_iter()
        .flat_map(|p| [false, true].map(|read| (p, read)))
        .flat_map(|(p, read)| [Some("c"), None].map(|last| (p, read, last)))
    {
        let case = format!("{protocol:?}, a read in between: {read_in_between}, then {last:?}");
        let broker = cluster(&["a", "b", "c"]).await;
        write(&broker, &["a", "b", "c"]);
        let mut consumer = member(&broker, 1, protocol).subscribe(["a"]).connect().await.unwrap();
        let (_, records) = told(&mut consumer).await;
        assert_eq!(records, [("a".to_owned(), 2)].into(), "{case}");

        consumer.subscribe(["b"]).await.unwrap();
        if read_in_between {
            // It takes the revocation, or what else there is at once.
            let _ = tokio::time::timeout(Duration::from_millis(5), consumer.next_event()).await;
        }
        match last {
            Some(topic) => consumer.subscribe([topic]).await.unwrap(),
            None => consumer.unsubscribe().await.unwrap(),
        }
        let (events, records) = told(&mut consumer).await;
        assert_eq!(owned(&consumer), last.map(|topic| set(&[topic])).unwrap_or_default(), "{case}");
        assert!(!events.iter().any(|event| event.starts_with("lost")), "{case}: {events:?}");
        match last {
            Some(topic) => {
                assert_eq!(events.last().unwrap(), &format!("assigned {topic}"), "{case}: {events:?}");
                assert_eq!(records.get(topic), Some(&2), "{case}: {records:?}");
            }
            None => assert!(broker.group_members(GROUP).is_empty(), "{case}"),
        }
        write(&broker, &["a", "b", "c"]);
        let (_, records) = told(&mut consumer).await;
        let expected = last.map(|topic| (topic.to_owned(), 2));
        assert_eq!(records, expected.into_iter().collect(), "{case}");
        consumer.close().await.unwrap();
    }
}

/// librdkafka's 0113 e: what is no longer subscribed to is given back, what stays is not touched, and the other member
/// takes over. Closed, and dropped.
#[tokio::test(start_paused = true)]
async fn a_topic_is_taken_from_a_subscription() {
    for (protocol, closed) in PROTOCOLS.into_iter().flat_map(|p| [(p, true), (p, false)]) {
        let case = format!("{protocol:?}, closed: {closed}");
        let broker = cluster(&["a", "b"]).await;
        write(&broker, &["a", "b"]);
        let mut consumer = member(&broker, 1, protocol).subscribe(["a", "b"]).connect().await.unwrap();
        told(&mut consumer).await;
        assert_eq!(owned(&consumer), set(&["a", "b"]), "{case}");
        consumer.subscribe(["a"]).await.unwrap();
        let (events, _) = told(&mut consumer).await;
        assert_eq!(events, ["revoking b"], "{case}");
        assert_eq!(owned(&consumer), set(&["a"]), "{case}");
        write(&broker, &["a", "b"]);
        let (_, records) = told(&mut consumer).await;
        assert_eq!(records, [("a".to_owned(), 2)].into(), "{case}");
        // What it gave back was committed: who comes next begins there.
        assert_eq!([0, 1].map(|partition| broker.committed(GROUP, "b", partition)), [Some(1); 2], "{case}");
        if closed {
            consumer.close().await.unwrap();
        } else {
            drop(consumer);
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        assert!(broker.group_members(GROUP).is_empty(), "{case}");
    }
}

/// librdkafka's 0113 h and j: a topic of the list is deleted. Its partitions go, the others are not touched; if it was the
/// only one the member waits for it, also with a reader that handles no events.
#[tokio::test(start_paused = true)]
async fn a_topic_of_the_list_is_deleted() {
    for (protocol, topics) in PROTOCOLS.into_iter().flat_map(|p| [(p, &["a", "b"][..]), (p, &["a"])]) {
        let case = format!("{protocol:?}, {topics:?}");
        let broker = cluster(topics).await;
        write(&broker, topics);
        let builder = member(&broker, 1, protocol).metadata_max_age(Duration::from_secs(5));
        let mut consumer = builder.subscribe(topics.iter().copied()).connect().await.unwrap();
        let mut records = 0;
        while records < 2 * topics.len() {
            records += consumer.next_batch().await.unwrap().unwrap().len();
        }
        broker.delete_topic("a").unwrap();
        let nothing = tokio::time::timeout(Duration::from_secs(60), consumer.next_batch()).await;
        assert!(nothing.is_err(), "{case}: {nothing:?}");
        assert_eq!(owned(&consumer), set(&topics[1..]), "{case}");
        broker.create_topic("a", 2).unwrap();
        write(&broker, topics);
        let mut after = BTreeMap::new();
        while after.values().sum::<usize>() < 2 * topics.len() {
            let batch = consumer.next_batch().await.unwrap().unwrap();
            *after.entry(batch.topic().to_owned()).or_default() += batch.len();
        }
        assert!(after.values().all(|records| *records == 2), "{case}: {after:?}");
        consumer.close().await.unwrap();
    }
}

/// librdkafka's 0116: whatever a consumer did before, it ends at once and leaves nothing behind, closed or dropped.
#[tokio::test(start_paused = true)]
async fn the_end_comes_at_once_whatever_was_subscribed_to() {
    for protocol in PROTOCOLS {
        for (subscribed, unsubscribed) in [(true, false), (true, true), (false, false), (false, true)] {
            for closed in [true, false] {
                let case =
                    format!("{protocol:?}: subscribed {subscribed}, unsubscribed {unsubscribed}, {closed}");
                let broker = cluster(&["a"]).await;
                write(&broker, &["a"]);
                let mut consumer = member(&broker, 1, protocol).connect().await.unwrap();
                if subscribed {
                    consumer.subscribe(["a"]).await.unwrap();
                    consumer.next_batch().await.unwrap().unwrap();
                    assert_eq!(broker.group_members(GROUP).len(), 1, "{case}");
                }
                if unsubscribed {
                    consumer.unsubscribe().await.unwrap();
                    assert!(broker.group_members(GROUP).is_empty(), "{case}");
                }
                let begun = tokio::time::Instant::now();
                if closed {
                    consumer.close().await.unwrap();
                } else {
                    drop(consumer);
                    settle().await;
                }
                assert!(begun.elapsed() < Duration::from_millis(100), "{case}: {:?}", begun.elapsed());
                assert!(broker.group_members(GROUP).is_empty(), "{case}");
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert_eq!(broker.connection_count(), 0, "{case}");
                let asked = |r: &Observed| matches!(r.api, Api::JoinGroup | Api::ConsumerGroupHeartbeat);
                assert_eq!(broker.count_since(0, asked) > 0, subscribed, "{case}");
            }
        }
    }
}
