//! Item 9: where reading begins.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla::{Commit, Consumer, ErrorKind, Event, Offset, OffsetReset, ResetCause, TopicPartition};

use super::{Backend, Result, guarded};
use crate::kafka::{RecordSpec, unique};

const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Fifty records that are years old and fifty of an hour ago, in each partition.
fn old_and_new(backend: &Backend, topic: &str, partitions: u32) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let of = |at: Duration| {
        let spec = RecordSpec::new(50 * u64::from(partitions)).partitions(partitions);
        spec.first_timestamp(at.as_millis() as i64)
    };
    backend.create_topic(topic, partitions)?;
    backend.produce(topic, "none", &of(now - 3 * YEAR))?;
    backend.produce(topic, "none", &of(now - HOUR))
}

/// Where each policy begins in those, if the first `gone` records are deleted; none: it is an error.
fn policies(gone: i64) -> [(OffsetReset, Option<i64>); 6] {
    [
        (OffsetReset::Earliest, Some(gone)),
        (OffsetReset::Latest, Some(100)),
        (OffsetReset::ByDuration(10 * YEAR), Some(gone)),
        (OffsetReset::ByDuration(YEAR), Some(50)),
        // Nothing is as new as that.
        (OffsetReset::ByDuration(Duration::from_secs(1)), Some(100)),
        (OffsetReset::Error, None),
    ]
}

/// The policy decided about a partition: where it is read from now, and why. An error if something else comes first.
async fn reset(consumer: &mut Consumer) -> Result<(TopicPartition, i64, ResetCause)> {
    guarded("the reset", async {
        loop {
            match consumer.next_event().await?.ok_or("the end")? {
                Event::OffsetReset { topic_partition, offset, cause } => {
                    return Ok((topic_partition, offset, cause));
                }
                Event::Batch(batch) => return Err(format!("{batch:?} before the reset").into()),
                _ => {}
            }
        }
    })
    .await
}

/// With the policy `Error` the partition stops, which is told once, and goes on where it is told to.
async fn stopped_and_sought(consumer: &mut Consumer, tp: &TopicPartition) -> Result<()> {
    guarded("the error", async {
        let error = loop {
            match consumer.next_event().await {
                Ok(Some(Event::Batch(batch))) => return Err(format!("{batch:?} without an offset").into()),
                Ok(Some(_)) => {}
                Ok(None) => return Err("the end".into()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::NoOffset, "{error}");
        assert_eq!(error.topic_partition(), Some(tp));
        consumer.seek(tp, Offset::At(99)).await?;
        let batch = consumer.next_batch().await?.ok_or("the end")?;
        assert_eq!(batch.first_offset(), 99);
        Ok(())
    })
    .await
}

async fn first_batch_at(consumer: &mut Consumer, tp: &TopicPartition, at: i64) -> Result<()> {
    if at < 100 {
        let batch = guarded("a batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!((batch.topic_partition(), batch.first_offset()), (tp, at));
    } else {
        assert_eq!(consumer.position(tp)?, Some(at));
    }
    Ok(())
}

/// Earliest, latest, by duration and error, for an offset that is out of range; each reset is told with its cause.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn offsets_are_reset_by_policy(backend: &Backend) -> Result<()> {
    let topic = unique("reset");
    old_and_new(backend, &topic, 1)?;
    backend.delete_records(&topic, 0, 40)?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    for (policy, expected) in policies(40) {
        let mut consumer = Consumer::builder(backend.bootstrap()).auto_offset_reset(policy).connect().await?;
        consumer.assign([(tp.clone(), Offset::At(10))]).await?;
        match expected {
            None => stopped_and_sought(&mut consumer, &tp).await?,
            Some(at) => {
                let cause = ResetCause::OutOfRange { offset: 10 };
                assert_eq!(reset(&mut consumer).await?, (tp.clone(), at, cause), "{policy:?}");
                first_batch_at(&mut consumer, &tp, at).await?;
            }
        }
        assert_eq!(consumer.beginning_offsets([&tp]).await?.get(&tp), Some(&40));
        assert_eq!(consumer.end_offsets([&tp]).await?.get(&tp), Some(&100));
        consumer.close().await?;
    }
    Ok(())
}

/// The same for the committed offset of a group whose records are deleted: what the policy chose is committed, and
/// with the policy `Error` the group's offset stays what it was.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_committed_offset_out_of_range_is_reset_by_policy(backend: &Backend) -> Result<()> {
    let topic = unique("outofrange");
    old_and_new(backend, &topic, 1)?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let mut groups = Vec::new();
    for (policy, expected) in policies(40) {
        let group = unique("outofrange");
        let before = Consumer::builder(backend.bootstrap()).group(group.as_str()).connect().await?;
        before.assign([(tp.clone(), Offset::At(10))]).await?;
        before.commit((tp.clone(), 10)).await?;
        before.close().await?;
        assert_eq!(backend.committed(&group, &topic)?, [(0, 10)].into(), "{policy:?}");
        groups.push((group, policy, expected));
    }
    backend.delete_records(&topic, 0, 40)?;
    for (group, policy, expected) in groups {
        let builder = Consumer::builder(backend.bootstrap())
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .auto_offset_reset(policy);
        let mut consumer = builder.connect().await?;
        match expected {
            None => stopped_and_sought(&mut consumer, &tp).await?,
            Some(at) => {
                let cause = ResetCause::OutOfRange { offset: 10 };
                assert_eq!(reset(&mut consumer).await?, (tp.clone(), at, cause), "{policy:?}");
                first_batch_at(&mut consumer, &tp, at).await?;
            }
        }
        consumer.close().await?;
        assert_eq!(backend.committed(&group, &topic)?, [(0, expected.unwrap_or(10))].into(), "{policy:?}");
    }
    Ok(())
}

/// Every position that a policy chose is committed at once, in each way of committing and each partition, also of
/// partitions without a record to hand out: an idle group would otherwise reset again after a restart, and lose what
/// came meanwhile. Nothing else is committed with it.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn positions_that_a_policy_chose_are_committed_at_once(backend: &Backend) -> Result<()> {
    let topic = unique("chosen");
    old_and_new(backend, &topic, 3)?;
    for commit in [Commit::Auto { interval: 10 * HOUR }, Commit::Manual] {
        for (policy, at) in policies(0).into_iter().filter_map(|(policy, at)| Some((policy, at?))) {
            let group = unique("chosen");
            let builder = Consumer::builder(backend.bootstrap())
                .group(group.as_str())
                .subscribe([topic.as_str()])
                .commit(commit)
                .auto_offset_reset(policy);
            let mut consumer = builder.connect().await?;
            // The records in hand are not done, so that they do not count.
            let mut hand = Vec::new();
            let mut chosen = BTreeMap::new();
            guarded("the resets", async {
                while chosen.len() < 3 {
                    match consumer.next_event().await?.ok_or("the end")? {
                        Event::OffsetReset { topic_partition, offset, cause } => {
                            assert_eq!(cause, ResetCause::NoCommittedOffset);
                            chosen.insert(topic_partition.partition() as u32, offset);
                        }
                        Event::Batch(batch) => hand.push(batch),
                        _ => {}
                    }
                }
                Ok(())
            })
            .await?;
            let expected: BTreeMap<u32, i64> = (0..3).map(|p| (p, at)).collect();
            assert_eq!(chosen, expected, "{policy:?}");
            guarded("the commit", async {
                while backend.committed(&group, &topic)?.len() < 3 {
                    tokio::task::yield_now().await;
                }
                Ok(())
            })
            .await?;
            assert_eq!(backend.committed(&group, &topic)?, expected, "{policy:?} {commit:?}");
            consumer.close().await?;
            assert_eq!(backend.committed(&group, &topic)?, expected, "{policy:?} {commit:?}");
        }
    }
    Ok(())
}
