//! Item 9: where reading begins, and topics that come and go.

use ottla::{Consumer, ErrorKind, Event, Offset, OffsetReset, TopicPartition};

use super::{Backend, Result, guarded};
use crate::kafka::{RecordSpec, unique};

/// Earliest, latest and error, without an offset and out of range; each reset is told.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn offsets_are_reset_by_policy(backend: &Backend) -> Result<()> {
    let topic = unique("reset");
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    backend.delete_records(&topic, 0, 40)?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    for policy in [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::Error] {
        let mut consumer = Consumer::builder(backend.bootstrap()).auto_offset_reset(policy).connect().await?;
        consumer.assign([(tp.clone(), Offset::At(10))]).await?;
        guarded("the reset", async {
            match policy {
                OffsetReset::Error => {
                    let error = loop {
                        match consumer.next_event().await {
                            Ok(_) => {}
                            Err(error) => break error,
                        }
                    };
                    assert_eq!(error.kind(), ErrorKind::NoOffset, "{error}");
                    assert_eq!(error.topic_partition(), Some(&tp));
                    // The partition goes on where it is told to.
                    consumer.seek(&tp, Offset::At(99)).await?;
                    let batch = consumer.next_batch().await?.ok_or("the end")?;
                    assert_eq!(batch.first_offset(), 99);
                }
                _ => {
                    let at = if policy == OffsetReset::Earliest { 40 } else { 100 };
                    loop {
                        match consumer.next_event().await?.ok_or("the end")? {
                            Event::OffsetReset { offset, .. } => {
                                assert_eq!(offset, at);
                                break;
                            }
                            Event::Batch(batch) => return Err(format!("{batch:?} before the reset").into()),
                            _ => {}
                        }
                    }
                    if at == 40 {
                        let batch = consumer.next_batch().await?.ok_or("the end")?;
                        assert_eq!(batch.first_offset(), 40);
                    }
                }
            }
            Ok(())
        })
        .await?;
        assert_eq!(consumer.beginning_offsets([&tp]).await?.get(&tp), Some(&40));
        assert_eq!(consumer.end_offsets([&tp]).await?.get(&tp), Some(&100));
        consumer.close().await?;
    }
    Ok(())
}

/// A subscription to a topic that does not exist yet waits for it; one that is deleted is given up.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn topics_come_and_go(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("later"), unique("later"));
    let mut consumer = Consumer::builder(backend.bootstrap())
        .group(group.as_str())
        .subscribe([topic.as_str()])
        .metadata_max_age(std::time::Duration::from_secs(1))
        .connect()
        .await?;
    assert!(consumer.partitions_of(&topic).await?.is_empty(), "it does not exist");
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(2))?;
    guarded("the topic that came later", async {
        let mut count = 0;
        while count < 100 {
            if let Event::Batch(batch) = consumer.next_event().await?.ok_or("the end")? {
                count += batch.len();
            }
        }
        Ok(())
    })
    .await?;
    backend.delete_topic(&topic)?;
    guarded("the topic that was deleted", async {
        loop {
            match consumer.next_event().await?.ok_or("the end")? {
                Event::Revoking(_) | Event::Lost(_) => return Ok(()),
                _ => {}
            }
        }
    })
    .await?;
    // What was done of it cannot be committed any more, if it was not before: that is said, and nothing else.
    if let Err(error) = consumer.close().await {
        assert!(error.to_string().contains("was the topic deleted?"), "{error}");
    }
    Ok(())
}
