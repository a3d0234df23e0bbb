//! What the snapshot says besides what was read and committed (which a scenario of the suite asks).

use std::time::Duration;

use ottla::{ErrorKind, Offset};
use ottla_broker::{Api, Corruption, Fault};
use serde_json::Value;

use crate::{TOPIC, broker, consumer, member, pass, produce, read, read_into_an_error, tp};

const DELAY: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_topic_keeps_what_was_read_of_it_when_its_partitions_go() {
    let broker = broker(1, 2).await;
    broker.create_topic("payments", 1).unwrap();
    produce(&broker, 0, 10);
    produce(&broker, 1, 20);
    broker.produce("payments", 0, ["a", "b"]).unwrap();
    let payments = ottla::TopicPartition::new("payments", 0);
    let mut consumer = consumer(&broker).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest), (tp(1), Offset::Earliest)]).await.unwrap();
    read(&mut consumer, 30).await;
    consumer.assign([(payments, Offset::Earliest)]).await.unwrap();
    read(&mut consumer, 2).await;
    // Single records are counted when their batch is left: here by a seek, which renews the ownership.
    consumer.assign([(tp(0), Offset::At(4))]).await.unwrap();
    consumer.next_record().await.unwrap().unwrap();
    consumer.unsubscribe().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(1), consumer.next_batch()).await;
    let snapshot = consumer.snapshot().await.unwrap();
    assert!(snapshot.partitions.is_empty());
    let topics: Vec<(&str, u64)> = snapshot.topics.iter().map(|t| (t.topic.as_str(), t.records)).collect();
    assert_eq!(topics, [(TOPIC, 31), ("payments", 2)]);
    assert_eq!(snapshot.records, 33);
    assert_eq!(snapshot.topics.iter().map(|t| t.bytes).sum::<u64>(), snapshot.bytes);
}

#[tokio::test(start_paused = true)]
async fn rebalances_errors_and_what_is_buffered_are_figures() {
    let builder = ottla_broker::Broker::builder().in_memory().topic(TOPIC, 2).initial_rebalance_delay(DELAY);
    let broker = std::sync::Arc::new(builder.start().await.unwrap());
    produce(&broker, 0, 100);
    produce(&broker, 1, 100);
    let mut one = member(&broker).max_batch_records(30).connect().await.unwrap();
    read(&mut one, 30).await;
    pass(Duration::from_secs(1)).await;
    let snapshot = one.snapshot().await.unwrap();
    let first = snapshot.group.as_ref().unwrap().rebalance;
    assert_eq!((first.count, first.last), (1, first.sum));
    // The coordinator waits for other members of a new group before it answers.
    assert_eq!(first.sum, DELAY);
    let buffered: usize = snapshot.partitions.iter().map(|p| p.buffered_records).sum();
    assert_eq!(buffered, 170);

    let mut two = member(&broker).__seed(2).connect().await.unwrap();
    let settled = async {
        loop {
            tokio::select! {
                batch = one.next_batch() => drop(batch.unwrap().unwrap()),
                batch = two.next_batch() => drop(batch.unwrap().unwrap()),
                () = pass(Duration::from_secs(20)) => break,
            }
        }
    };
    settled.await;
    let snapshot = one.snapshot().await.unwrap();
    let group = snapshot.group.as_ref().unwrap();
    assert_eq!(group.rebalance.count, 2, "one goes with the partition that is given back: {group:?}");
    assert_eq!(snapshot.partitions.len(), 1);
    // The other one has nothing at first, and gets the partition with the next generation.
    assert_eq!(two.snapshot().await.unwrap().group.unwrap().rebalance.count, 2);

    let mine = snapshot.partitions[0].topic_partition.partition();
    broker.fault(Fault::on(Api::Fetch).partition(TOPIC, mine).corrupt(Corruption::BatchCrc));
    let (_, error) = read_into_an_error(&broker, &mut one, mine).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let snapshot = one.snapshot().await.unwrap();
    assert_eq!(snapshot.errors, [(ErrorKind::Corrupt, 1)]);

    let json: Value = serde_json::from_str(&snapshot.to_json()).unwrap();
    let more = &json["ottla"];
    let count = |name: &str| more[name]["cnt"].as_u64();
    assert_eq!((count("fetch"), count("rebalance")), (Some(snapshot.fetch.count), Some(2)));
    assert_eq!(count("commit"), Some(snapshot.commit.count));
    assert_eq!(
        more["rebalance"]["sum"].as_u64().map(u128::from),
        Some(snapshot.group.as_ref().unwrap().rebalance.sum.as_micros())
    );
    assert_eq!(more["errors"]["corrupt"], 1);
    assert_eq!(more["topics"][TOPIC]["records"].as_u64(), Some(snapshot.records));
    assert_eq!((&more["brokers_down"], &more["throttled_brokers"]), (&false.into(), &0.into()));
    assert_eq!(more["commits_failed"], 0);
    let fields = &json["topics"][TOPIC]["partitions"][&mine.to_string()];
    assert_eq!(fields["fetchq_cnt"], 0);
}
