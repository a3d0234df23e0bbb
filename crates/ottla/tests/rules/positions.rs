//! Where partitions begin, what ends them, and what a reader is told of it.

use std::sync::Arc;
use std::time::Duration;

use ottla::{Consumer, Error, ErrorKind, Event, Offset, OffsetReset, ResetCause};
use ottla_broker::{Api, Broker, ErrorCode, Fault, TestRecord};

use crate::common::{GROUP, TOPIC, answered, broker, consumer, member, produce, settle, tp};

/// The next events, until a batch comes: they and the offset at which it begins.
async fn until_batch(consumer: &mut Consumer) -> (Vec<Event>, i64) {
    let mut events = Vec::new();
    loop {
        match consumer.next_event().await.unwrap().unwrap() {
            Event::Batch(batch) => return (events, batch.first_offset()),
            event => events.push(event),
        }
    }
}

/// The next event, which must come within an hour.
async fn next(consumer: &mut Consumer) -> Result<Option<Event>, Error> {
    let event = tokio::time::timeout(Duration::from_secs(3_600), consumer.next_event()).await;
    event.expect("nothing comes")
}

async fn nothing_comes(consumer: &mut Consumer) -> bool {
    tokio::time::timeout(Duration::from_secs(60), consumer.next_event()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_reset_by_duration_begins_at_the_first_record_that_is_young_enough() {
    const HOUR: i64 = 3_600_000;
    let broker = broker(2).await;
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for age in [3 * HOUR, 2 * HOUR, HOUR / 2, 0] {
        broker.produce(TOPIC, 0, [TestRecord::new("x").timestamp(now - age)]).unwrap();
    }
    // Of the other one all is too old: it begins at its end.
    broker.produce(TOPIC, 1, [TestRecord::new("x").timestamp(now - 2 * HOUR)]).unwrap();
    let policy = OffsetReset::ByDuration(Duration::from_millis(HOUR as u64));
    let mut consumer = member(&broker, 1).auto_offset_reset(policy).connect().await.unwrap();
    let (events, first) = until_batch(&mut consumer).await;
    assert_eq!(first, 2);
    let mut resets: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::OffsetReset { topic_partition, offset, cause: ResetCause::NoCommittedOffset } => {
                Some((topic_partition.partition(), *offset))
            }
            _ => None,
        })
        .collect();
    resets.sort();
    assert_eq!(resets, [(0, 2), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn partitions_assigned_by_hand_may_begin_at_the_committed_offset() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    broker.set_committed(GROUP, TOPIC, 0, 7).unwrap();
    let mut consumer = consumer(&broker).group(GROUP).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Committed), (tp(1), Offset::Committed)]).await.unwrap();
    let mut begins = std::collections::BTreeMap::new();
    while begins.len() < 2 {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        begins.entry(batch.partition()).or_insert_with(|| batch.first_offset());
    }
    // Nothing is committed of the other one: there the reset policy decides.
    assert_eq!(begins.into_values().collect::<Vec<_>>(), [7, 0]);
    let _ = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await;
    assert_eq!(broker.committed(GROUP, TOPIC, 0), Some(10), "and it is committed without being a member");
    // Without a group there is nothing to begin at.
    let without = crate::common::consumer(&broker).connect().await.unwrap();
    let error = without.assign([(tp(0), Offset::Committed)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse, "{error}");
}

#[tokio::test(start_paused = true)]
async fn unsubscribe_commits_what_is_done_leaves_the_group_and_allows_to_begin_anew() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).max_batch_records(4).connect().await.unwrap();
    for _ in 0..2 {
        consumer.next_batch().await.unwrap().unwrap();
    }
    let error = consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse, "{error}");
    consumer.unsubscribe().await.unwrap();
    assert!(broker.group_members(GROUP).is_empty());
    assert_eq!(broker.committed(GROUP, TOPIC, 0), Some(4), "what was in hand is not done");
    assert!(consumer.assignment().unwrap().is_empty());
    assert!(nothing_comes(&mut consumer).await);
    // By hand …
    consumer.assign([(tp(0), Offset::At(9))]).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 9);
    consumer.unsubscribe().await.unwrap();
    assert!(consumer.assignment().unwrap().is_empty());
    // … and as a member again.
    broker.set_committed(GROUP, TOPIC, 0, 2).unwrap();
    consumer.subscribe([TOPIC]).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_created_only_where_that_is_allowed() {
    let broker = broker(1).await;
    for allow in [false, true] {
        let builder = consumer(&broker).group(GROUP).subscribe(["fresh"]);
        let mut consumer = builder.allow_auto_create_topics(allow).connect().await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(30), consumer.next_batch()).await;
        if allow {
            broker.produce("fresh", 0, ["a"]).unwrap();
            assert_eq!(consumer.next_batch().await.unwrap().unwrap().topic(), "fresh");
        } else {
            assert!(broker.count_since(0, |r| r.api == Api::Metadata && !r.partitions.is_empty()) > 0);
            assert!(broker.produce("fresh", 0, ["a"]).is_err(), "it was created");
        }
        consumer.close().await.unwrap();
    }
}

/// Reads until both `errors` were told and `records` came; each error must come once.
async fn read_both(consumer: &mut Consumer, records: usize) -> (Vec<Error>, usize) {
    let (mut errors, mut count) = (Vec::new(), 0);
    while let Ok(read) = tokio::time::timeout(Duration::from_secs(120), consumer.next_batch()).await {
        match read {
            Ok(batch) => count += batch.unwrap().len(),
            Err(error) => errors.push(error),
        }
        assert!(count <= records);
    }
    (errors, count)
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_may_not_be_described_is_told_once_and_the_others_go_on() {
    let broker = broker(1).await;
    broker.create_topic("secret", 1).unwrap();
    produce(&broker, 1, 0..10);
    let refused = Fault::on(Api::Metadata).topic("secret").always();
    broker.fault(refused.error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let builder = consumer(&broker).group(GROUP).subscribe([TOPIC, "secret"]);
    let mut consumer = builder.connect().await.unwrap();
    let (errors, count) = read_both(&mut consumer, 10).await;
    assert_eq!(count, 10);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::Authorization, false));
    assert!(error.to_string().contains("\"secret\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_may_not_be_read_stops_its_partitions_once_each_and_the_others_go_on() {
    let broker = broker(1).await;
    broker.create_topic("secret", 2).unwrap();
    produce(&broker, 1, 0..10);
    let refused = Fault::on(Api::Fetch).topic("secret").always();
    let fault = broker.fault(refused.error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let builder = consumer(&broker).group(GROUP).subscribe([TOPIC, "secret"]);
    let mut consumer = builder.connect().await.unwrap();
    let (errors, count) = read_both(&mut consumer, 10).await;
    assert_eq!(count, 10);
    let mut told: Vec<_> = errors.iter().map(|e| e.topic_partition().unwrap().to_string()).collect();
    told.sort();
    assert_eq!(told, ["secret-0", "secret-1"], "{errors:?}");
    assert!(errors.iter().all(|e| e.kind() == ErrorKind::Authorization && !e.is_fatal()));
    // What a program needs to decide is in fields, not in the text.
    for error in &errors {
        assert_eq!(error.code().map(|c| c.code()), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED.0));
        assert!(error.broker().is_some() && !error.is_retriable(), "{error:?}");
    }
    // Once it is allowed, a seek lets a partition go on.
    fault.cancel();
    broker.produce("secret", 1, ["a"]).unwrap();
    consumer.seek(&ottla::TopicPartition::new("secret", 1), Offset::At(0)).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().topic(), "secret");
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_after_a_seek_to_the_very_end_and_after_assigning_anew() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..5);
    let mut consumer = consumer(&broker).partition_eof(true).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let eof = |event: &Event| matches!(event, Event::PartitionEof { offset: 5, .. });
    let next = async |consumer: &mut Consumer| next(consumer).await.unwrap().unwrap();
    assert!(matches!(next(&mut consumer).await, Event::Batch(_)));
    assert!(eof(&next(&mut consumer).await));
    for place in [Offset::At(5), Offset::Latest, Offset::FromEnd(0)] {
        consumer.seek(&tp(0), place).await.unwrap();
        let event = next(&mut consumer).await;
        assert!(eof(&event), "{place}: {event:?}");
        consumer.assign([(tp(0), place)]).await.unwrap();
        let event = next(&mut consumer).await;
        assert!(eof(&event), "assigned at {place}: {event:?}");
        assert_eq!(consumer.lag(&tp(0)).unwrap(), Some(0));
    }
    assert!(nothing_comes(&mut consumer).await, "once");
}

async fn recreate(broker: &Arc<Broker>, partitions: i32) {
    broker.delete_topic(TOPIC).unwrap();
    broker.create_topic(TOPIC, partitions).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_is_data_loss_once_and_is_read_from_its_beginning() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = member(&broker, 1).auto_offset_reset(OffsetReset::Latest).connect().await.unwrap();
    consumer.next_event().await.unwrap();
    settle().await;
    produce(&broker, 2, 20..40);
    let mut count = 0;
    while count < 20 {
        count += consumer.next_batch().await.unwrap().unwrap().len();
    }
    // The next one holds as much, so that the old offsets would be good ones of it.
    recreate(&broker, 2).await;
    produce(&broker, 2, 0..60);
    let (mut errors, mut resets, mut numbers) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    while numbers.len() < 60 {
        match next(&mut consumer).await {
            Ok(Some(Event::Batch(batch))) => {
                for record in &batch {
                    assert!(numbers.insert(crate::common::number(record.value())), "twice: {record:?}");
                }
            }
            Ok(Some(Event::OffsetReset { offset, cause: ResetCause::TopicRecreated, topic_partition })) => {
                resets.push((topic_partition.partition(), offset));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    resets.sort();
    assert_eq!(resets, [(0, 0), (1, 0)]);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::DataLoss, false), "{error}");
    let _ = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await;
    assert_eq!(broker.committed(GROUP, TOPIC, 0), Some(30), "commits go on in the new topic");
}

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_stops_its_partitions_where_the_policy_is_error() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = consumer(&broker).auto_offset_reset(OffsetReset::Error).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::At(0))]).await.unwrap();
    consumer.next_batch().await.unwrap();
    recreate(&broker, 1).await;
    produce(&broker, 1, 0..20);
    let error = next(&mut consumer).await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::DataLoss, Some(&tp(0))), "{error}");
    assert!(nothing_comes(&mut consumer).await);
    consumer.seek(&tp(0), Offset::At(15)).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 15);
}

/// Who knows a topic by its former id only, and is given a partition of it, goes on where the group is in the new one.
#[tokio::test(start_paused = true)]
async fn who_learns_late_of_a_recreated_topic_begins_where_the_group_is() {
    let broker = broker(1).await;
    broker.fault(Fault::on(Api::SyncGroup).delay(Duration::from_secs(2)));
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    answered(&broker, 0, Api::JoinGroup).await;
    recreate(&broker, 1).await;
    produce(&broker, 1, 0..60);
    broker.set_committed(GROUP, TOPIC, 0, 50).unwrap();
    let batch = loop {
        if let Some(Event::Batch(batch)) = next(&mut consumer).await.unwrap() {
            break batch;
        }
    };
    assert_eq!(batch.first_offset(), 50, "nothing that was its own is lost");
}

/// Where the policy is an error, too, nothing of the former topic is committed for the one that has its name.
#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_recreated_topic_is_not_committed_where_the_policy_is_error() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..20);
    let mut consumer = member(&broker, 1).auto_offset_reset(OffsetReset::Error).connect().await.unwrap();
    while next(&mut consumer).await.is_ok() {}
    consumer.seek(&tp(0), Offset::At(0)).await.unwrap();
    while !matches!(next(&mut consumer).await.unwrap(), Some(Event::Batch(_))) {}
    recreate(&broker, 1).await;
    produce(&broker, 1, 0..20);
    let error = loop {
        if let Err(error) = next(&mut consumer).await {
            break error;
        }
    };
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::DataLoss, Some(&tp(0))), "{error}");
    consumer.close().await.unwrap();
    assert_eq!(broker.committed(GROUP, TOPIC, 0), None, "of the new topic nothing was read");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_back_is_new_and_begins_at_earliest() {
    let broker = broker(1).await;
    let mut consumer = member(&broker, 1).auto_offset_reset(OffsetReset::Latest).connect().await.unwrap();
    while consumer.assignment().unwrap().is_empty() {
        consumer.next_event().await.unwrap();
    }
    settle().await;
    broker.delete_topic(TOPIC).unwrap();
    // Until the group has noticed: nothing is owned any more.
    while !consumer.assignment().unwrap().is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), consumer.next_event()).await;
    }
    broker.create_topic(TOPIC, 1).unwrap();
    produce(&broker, 1, 0..10);
    // Written before the member saw it: at latest it would be lost.
    let mut events = Vec::new();
    let first = loop {
        match next(&mut consumer).await {
            Ok(Some(Event::Batch(batch))) => break batch.first_offset(),
            other => events.push(other),
        }
        assert!(events.len() < 100, "{events:?}");
    };
    assert_eq!(first, 0, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn fetching_goes_on_while_the_reader_works() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = consumer(&broker).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let mark = broker.mark();
    answered(&broker, mark, Api::Fetch).await;
    produce(&broker, 1, 10..20);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(consumer.handle().buffered_bytes().unwrap() > 0, "the next records are here already");
    drop(batch);
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 10);
}
