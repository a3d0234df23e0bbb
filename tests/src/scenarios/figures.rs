//! What a consumer says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::{Commit, Consumer, TopicPartition, Traffic};
use serde_json::Value;

use super::{Backend, Result, guarded};
use crate::kafka::{RecordSpec, unique};

/// Reads a topic in batches and then record by record, and compares the figures with what was read and committed.
///
/// # Errors
/// When they differ, or it hangs.
pub async fn the_figures_are_those_of_what_was_done(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("figures"), unique("figures"));
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2))?;
    let mut consumer = Consumer::builder(backend.bootstrap())
        .client_id("counted")
        .group(group.as_str())
        .subscribe([topic.as_str()])
        .commit(Commit::Manual)
        .max_batch_records(30)
        .connect()
        .await?;
    let tp = |partition| TopicPartition::new(topic.as_str(), partition);
    let mut read: BTreeMap<TopicPartition, u64> = BTreeMap::new();
    guarded("sixty records", async {
        while read.values().sum::<u64>() < 60 {
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            *read.entry(batch.topic_partition().clone()).or_default() += batch.len() as u64;
        }
        Ok(())
    })
    .await?;
    consumer.commit_delivered().await?;
    let committed = read.clone();
    // One record at a time: they count once their batch is through, or is left for a read of another kind.
    guarded("seven records", async {
        for _ in 0..7 {
            let record = consumer.next_record().await?.ok_or("the end")?;
            *read.entry(record.topic_partition().clone()).or_default() += 1;
        }
        let batch = consumer.next_batch().await?.ok_or("the end")?;
        *read.entry(batch.topic_partition().clone()).or_default() += batch.len() as u64;
        Ok(())
    })
    .await?;
    // Another broker may lead the other partition, and answer later.
    guarded("both ends", async {
        while consumer.snapshot().await?.partitions.iter().any(|p| p.lag.is_none()) {}
        Ok(())
    })
    .await?;
    consumer.pause([&tp(1)]).await?;

    let snapshot = consumer.snapshot().await?;
    let total: u64 = read.values().sum();
    assert_eq!((snapshot.client_id.as_str(), snapshot.records), ("counted", total));
    let member = snapshot.group.as_ref().ok_or("no group")?;
    let identity = consumer.group_metadata().await?.ok_or("no member")?;
    assert_eq!((member.group_id.as_str(), member.state), (group.as_str(), "Stable"));
    assert_eq!(member.member_id.as_deref(), Some(identity.member_id.as_str()));
    assert_eq!((member.generation_id, member.rebalances), (Some(identity.generation_id), 1));
    assert!(member.coordinator.is_some() && member.since_rebalance <= Some(snapshot.age));
    assert_eq!(snapshot.commits_failed, 0);
    assert!(snapshot.commit.count > 0 && snapshot.fetch.count > 0, "{snapshot:?}");
    assert!(snapshot.fetch.max <= snapshot.fetch.sum && snapshot.fetch.mean() <= snapshot.fetch.max);
    assert_eq!(snapshot.partitions.len(), 2);
    for partition in &snapshot.partitions {
        let of =
            |map: &BTreeMap<TopicPartition, u64>| map.get(&partition.topic_partition).copied().unwrap_or(0);
        let (read, committed) = (of(&read), of(&committed));
        assert_eq!((partition.records, partition.position), (read, Some(read as i64)), "{partition:?}");
        assert_eq!(partition.lag, Some(100 - read as i64), "{partition:?}");
        assert_eq!(partition.watermarks.high_watermark, Some(100));
        assert_eq!(
            partition.committed.filter(|offset| *offset > 0),
            Some(committed as i64).filter(|o| *o > 0)
        );
        assert_eq!(partition.paused, partition.topic_partition == tp(1));
        assert!(partition.leader.is_some() && partition.bytes > 0, "{partition:?}");
    }
    assert_eq!(snapshot.partitions.iter().map(|p| p.bytes).sum::<u64>(), snapshot.bytes);
    let leader = snapshot.partitions[0].leader;
    let broker = snapshot.brokers.iter().find(|b| b.id == leader).ok_or("no broker")?;
    let traffic = &broker.traffic;
    assert!(broker.connected > 0 && traffic.connects as usize >= broker.connected, "{broker:?}");
    assert!(traffic.requests >= traffic.latency.count && traffic.latency.max >= Duration::from_nanos(1));
    let sum = &snapshot.traffic;
    assert!(sum.bytes_received > snapshot.bytes && sum.bytes_sent > 0, "{snapshot:?}");
    let of_brokers = |of: fn(&Traffic) -> u64| snapshot.brokers.iter().map(|b| of(&b.traffic)).sum::<u64>();
    assert_eq!(of_brokers(|t| t.bytes_received), sum.bytes_received, "no broker was forgotten");

    let json: Value = serde_json::from_str(&snapshot.to_json())?;
    assert_eq!((&json["type"], &json["client_id"]), (&"consumer".into(), &"counted".into()));
    assert_eq!(json["rx_bytes"].as_u64(), Some(snapshot.traffic.bytes_received));
    assert_eq!((json["rxmsgs"].as_u64(), json["rxmsg_bytes"].as_u64()), (Some(total), Some(snapshot.bytes)));
    assert_eq!(json["cgrp"]["assignment_size"], 2);
    for partition in &snapshot.partitions {
        let number = partition.topic_partition.partition().to_string();
        let fields = &json["topics"][&topic]["partitions"][&number];
        let end = 100 - partition.committed.unwrap_or(0);
        assert_eq!(fields["app_offset"].as_i64(), partition.position, "{json}");
        assert_eq!(fields["consumer_lag_stored"].as_i64(), partition.lag);
        assert_eq!(fields["hi_offset"], 100);
        assert!(partition.committed.is_none() || fields["consumer_lag"].as_i64() == Some(end), "{json}");
    }
    let name = format!("{}:{}/{}", broker.host, broker.port, broker.id.ok_or("no id")?.0);
    assert_eq!(json["brokers"][&name]["connects"].as_u64(), Some(traffic.connects), "{json}");
    consumer.close().await?;
    Ok(())
}
