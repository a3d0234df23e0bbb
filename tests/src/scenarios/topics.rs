//! Item 9: topics that are unknown, come later, grow and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::{Builder, Consumer, ErrorKind, Event, GroupProtocol, Offset, OffsetReset, TopicPartition};

use super::bytes::as_expected;
use super::{Backend, Result, guarded};
use crate::kafka::{Expected, RecordSpec, unique};

/// Looks for what is new every second.
fn watching(backend: &Backend) -> Builder {
    Consumer::builder(backend.bootstrap()).metadata_max_age(Duration::from_secs(1))
}

/// Reads until as many records came, in order from the beginning of each partition.
async fn read(
    consumer: &mut Consumer,
    next: &mut BTreeMap<TopicPartition, i64>,
    what: &str,
    count: i64,
) -> Result<()> {
    guarded(what, async {
        while next.values().sum::<i64>() < count {
            if let Event::Batch(batch) = consumer.next_event().await?.ok_or("the end")? {
                let next = next.entry(batch.topic_partition().clone()).or_default();
                assert_eq!(batch.first_offset(), *next, "{}", batch.topic_partition());
                *next = batch.next_offset();
            }
        }
        Ok(())
    })
    .await
}

/// A topic that nobody knows holds up nothing: the others are read, by hand and in a group, and it is read when it is
/// there.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn unknown_topics_hold_up_nothing(backend: &Backend) -> Result<()> {
    for by_hand in [true, false] {
        let (known, unknown, group) = (unique("known"), unique("unknown"), unique("unknown"));
        backend.create_topic(&known, 1)?;
        backend.produce(&known, "none", &RecordSpec::new(100).partitions(1))?;
        let mut consumer = if by_hand {
            let consumer = watching(backend).connect().await?;
            let places = [&unknown, &known].map(|t| (TopicPartition::new(t.as_str(), 0), Offset::Earliest));
            consumer.assign(places).await?;
            consumer
        } else {
            let builder = watching(backend).group(group.as_str());
            builder.subscribe([unknown.as_str(), known.as_str()]).connect().await?
        };
        let mut next = BTreeMap::new();
        read(&mut consumer, &mut next, "the known topic", 100).await?;
        assert!(next.keys().all(|tp| tp.topic() == known));
        assert!(consumer.partitions_of(&unknown).await?.is_empty(), "it does not exist");
        let tp = TopicPartition::new(unknown.as_str(), 0);
        let error = consumer.end_offsets([&tp]).await.err().ok_or("an offset of nothing")?;
        assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::ApiMisuse, Some(&tp)), "{error}");
        backend.create_topic(&unknown, 1)?;
        backend.produce(&unknown, "none", &RecordSpec::new(50).partitions(1))?;
        read(&mut consumer, &mut next, "the topic that came", 150).await?;
        assert_eq!(next.get(&tp), Some(&50));
        consumer.close().await?;
    }
    Ok(())
}

/// A subscription to a topic that does not exist yet waits for it, and takes up partitions that are added: both are
/// read from their beginning, whatever the policy, because what came after the subscription must not be skipped. A
/// topic that is deleted is given up.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn topics_come_and_go(backend: &Backend) -> Result<()> {
    for policy in [OffsetReset::Earliest, OffsetReset::Latest] {
        let (topic, group) = (unique("later"), unique("later"));
        let builder = watching(backend).group(group.as_str()).subscribe([topic.as_str()]);
        let mut consumer = builder.auto_offset_reset(policy).connect().await?;
        assert!(consumer.partitions_of(&topic).await?.is_empty(), "it does not exist");
        backend.create_topic(&topic, 2)?;
        backend.produce(&topic, "none", &RecordSpec::new(100).partitions(2))?;
        let mut next = BTreeMap::new();
        read(&mut consumer, &mut next, "the topic that came later", 100).await?;
        backend.create_partitions(&topic, 4)?;
        backend.produce(&topic, "none", &RecordSpec::new(100).partitions(4).seed(1))?;
        read(&mut consumer, &mut next, "the partitions that came later", 200).await?;
        let ends = [75, 75, 25, 25];
        assert!(next.values().eq(&ends), "{policy:?}: {next:?}");
        assert_eq!(consumer.assignment()?.len(), 4);
        backend.delete_topic(&topic)?;
        guarded("the topic that was deleted", async {
            loop {
                match consumer.next_event().await?.ok_or("the end")? {
                    Event::Batch(batch) => return Err(format!("{batch:?} of nothing").into()),
                    Event::OffsetReset { .. } => return Err("a reset without a cause".into()),
                    Event::Revoking(revocation) => {
                        assert_eq!(revocation.partitions().len(), 4);
                        revocation.finish([]);
                        break;
                    }
                    Event::Lost(lost) => break assert_eq!(lost.len(), 4),
                    _ => {}
                }
            }
            // The driver ends the ownership; nothing tells of it.
            while !consumer.assignment()?.is_empty() {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
        .await?;
        // What was done of it cannot be committed any more, if it was not before: that is said, and nothing else.
        if let Err(error) = consumer.close().await {
            assert!(error.to_string().contains("was the topic deleted?"), "{error}");
        }
    }
    Ok(())
}

/// A pattern takes up what matches as a whole, also what is created later, from its beginning, and nothing else; what is
/// deleted is given up, and the rest is read on.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn topics_that_match_a_pattern_come_and_go(backend: &Backend) -> Result<()> {
    topics_that_match(backend, GroupProtocol::Classic).await
}

pub(super) async fn topics_that_match(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (prefix, group) = (unique("pattern"), unique("pattern"));
    let [first, later, other] = ["-first", "-later", ".other"].map(|name| format!("{prefix}{name}"));
    for topic in [&first, &other] {
        backend.create_topic(topic, 2)?;
        backend.produce(topic, "none", &RecordSpec::new(100).partitions(2))?;
    }
    let builder = watching(backend).group(group.as_str()).group_protocol(protocol);
    let mut consumer = builder.subscribe_pattern(format!("{prefix}-[a-z]+")).connect().await?;
    let mut next = BTreeMap::new();
    read(&mut consumer, &mut next, "the topic that is there", 100).await?;
    backend.create_topic(&later, 2)?;
    backend.produce(&later, "none", &RecordSpec::new(60).partitions(2))?;
    read(&mut consumer, &mut next, "the topic that came later", 160).await?;
    assert!(next.keys().all(|tp| tp.topic() != other), "{next:?}");
    assert_eq!(consumer.assignment()?.len(), 4);
    backend.delete_topic(&first)?;
    guarded("the topic that was deleted", async {
        while consumer.assignment()?.iter().any(|tp| tp.topic() == first) {
            tokio::select! {
                event = consumer.next_event() => if let Event::Batch(batch) = event?.ok_or("the end")? {
                    return Err(format!("{batch:?} of nothing").into());
                },
                () = tokio::task::yield_now() => {}
            }
        }
        Ok(())
    })
    .await?;
    backend.produce(&later, "none", &RecordSpec::new(40).partitions(2).seed(1))?;
    read(&mut consumer, &mut next, "the topic that stays", 200).await?;
    if let Err(error) = consumer.close().await {
        assert!(error.to_string().contains("was the topic deleted?"), "{error}");
    }
    Ok(())
}

/// A topic is deleted and made anew with fewer and with more partitions while somebody reads it: the reader is told
/// once that what it held is gone, of each partition, and reads the new one from its beginning; nothing of it is left out or handed out twice.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn topics_that_are_made_anew_are_read_anew(
    backend: &Backend,
    protocol: GroupProtocol,
) -> Result<()> {
    let (topic, group) = (unique("anew"), unique("anew"));
    backend.create_topic(&topic, 3)?;
    let builder = watching(backend).group(group.as_str()).group_protocol(protocol);
    let mut consumer = builder.subscribe([topic.as_str()]).connect().await?;
    let number = |tp: &TopicPartition| tp.partition();
    let mut before = 0;
    for (life, partitions) in [3, 1, 5].into_iter().enumerate() {
        if life > 0 {
            backend.delete_topic(&topic)?;
            backend.create_topic(&topic, partitions)?;
        }
        let mut seen: BTreeMap<TopicPartition, Vec<Expected>> = BTreeMap::new();
        let mut written = Vec::new();
        let (mut losses, mut gone) = (0, BTreeSet::new());
        for phase in 0..3 {
            let spec = RecordSpec::new(150).partitions(partitions).seed(10 * life as u64 + phase);
            backend.produce(&topic, "none", &spec)?;
            written.push(spec);
            let count = written.len() * 150;
            guarded(&format!("life {life}, {count} records"), async {
                while seen.values().map(Vec::len).sum::<usize>() < count {
                    match consumer.next_event().await {
                        Ok(Some(Event::Batch(batch))) => {
                            let records = seen.entry(batch.topic_partition().clone()).or_default();
                            for record in batch.records() {
                                assert_eq!(record.offset(), records.len() as i64, "{batch:?}");
                                records.push(as_expected(&record));
                            }
                        }
                        Ok(Some(event @ Event::OffsetReset { offset, .. })) => {
                            assert_eq!(offset, 0, "{event:?} in life {life}, phase {phase}");
                        }
                        Ok(Some(Event::Lost(partitions))) => gone.extend(partitions.iter().map(number)),
                        Ok(Some(Event::Revoking(r))) => gone.extend(r.partitions().iter().map(number)),
                        Ok(Some(_)) => {}
                        Ok(None) => return Err("the end".into()),
                        Err(error) if error.kind() == ErrorKind::DataLoss => {
                            losses += 1;
                            gone.extend(0..before);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            })
            .await?;
        }
        for p in 0..partitions {
            let expected = written.iter().flat_map(|spec| spec.of_partition(p));
            let read = seen.get(&TopicPartition::new(topic.as_str(), p as i32)).into_iter().flatten();
            assert!(read.cloned().eq(expected), "partition {p} in life {life}");
        }
        assert!(losses <= usize::from(life > 0), "told {losses} times in life {life}");
        // By one error for the topic, or as partitions that are given back or lost.
        let untold: Vec<i32> = (0..before).filter(|partition| !gone.contains(partition)).collect();
        assert!(untold.is_empty(), "nothing was told of the end of {untold:?} in life {life}");
        before = partitions as i32;
    }
    consumer.close().await?;
    Ok(())
}
