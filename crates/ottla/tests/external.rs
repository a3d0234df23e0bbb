//! Offsets in a store of the user's own: `Commit::External`.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{GROUP, TOPIC, broker, consumer, member, produce, settle, tp};
use ottla::{
    Builder, Commit, CommitError, Consumer, ErrorKind, Event, GroupProtocol, Offset, OffsetReset,
    TopicPartition,
};
use ottla_broker::{Api, Broker, ErrorCode, Fault};

/// What was asked for, and what is answered.
#[derive(Clone, Default)]
struct Store {
    asked: Arc<Mutex<Vec<Vec<TopicPartition>>>>,
    offsets: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
}

impl Store {
    fn with(offsets: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let store = Self::default();
        store.offsets.lock().unwrap().extend(offsets.into_iter().map(|(p, offset)| (tp(p), offset)));
        store
    }

    fn asked(&self) -> Vec<Vec<TopicPartition>> {
        self.asked.lock().unwrap().clone()
    }

    /// Answers after `delay`.
    fn give(&self, builder: Builder, delay: Duration) -> Builder {
        let store = self.clone();
        builder.start_offsets(move |partitions| {
            let store = store.clone();
            async move {
                store.asked.lock().unwrap().push(partitions.clone());
                tokio::time::sleep(delay).await;
                let offsets = store.offsets.lock().unwrap();
                let found =
                    partitions.into_iter().filter_map(|p| Some((p.clone(), Offset::At(*offsets.get(&p)?))));
                Ok::<_, std::io::Error>(found.collect::<Vec<_>>())
            }
        })
    }
}

fn requests(broker: &Broker, api: Api) -> usize {
    broker.requests().iter().filter(|request| request.api == api).count()
}

/// Nothing was written to the group, nor asked of it.
fn untouched(broker: &Broker) {
    assert_eq!((requests(broker, Api::OffsetCommit), requests(broker, Api::OffsetFetch)), (0, 0));
    assert!((0..4).all(|p| broker.committed(GROUP, TOPIC, p).is_none()));
}

async fn first_of_each(consumer: &mut Consumer, partitions: usize) -> BTreeMap<i32, i64> {
    let mut first = BTreeMap::new();
    while first.len() < partitions {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        first.entry(batch.partition()).or_insert_with(|| batch.first_offset());
    }
    first
}

#[tokio::test(start_paused = true)]
async fn partitions_begin_where_the_users_store_says_and_nothing_is_committed() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let broker = broker(3).await;
        produce(&broker, 3, 0..30);
        // Of the third it knows nothing: the policy decides.
        let store = Store::with([(0, 4), (1, 7)]);
        let builder = member(&broker, 1).group_protocol(protocol).auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = store.give(builder, Duration::from_secs(20)).connect().await.unwrap();
        assert_eq!(first_of_each(&mut consumer, 3).await, [(0, 4), (1, 7), (2, 0)].into(), "{protocol:?}");
        assert_eq!(store.asked(), [[tp(0), tp(1), tp(2)]], "once");
        let _ = tokio::time::timeout(Duration::from_secs(60), consumer.next_batch()).await;
        consumer.close().await.unwrap();
        untouched(&broker);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_before_the_answer() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let store = Store::with([(0, 1), (1, 1)]);
    let mut consumer = store.give(member(&broker, 1), Duration::from_secs(50)).connect().await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(30), consumer.next_batch()).await;
    assert!(read.is_err());
    assert_eq!((store.asked().len(), requests(&broker, Api::Fetch)), (1, 0));
    // A read that is dropped drops the question; the next one asks again.
    assert_eq!(first_of_each(&mut consumer, 2).await, [(0, 1), (1, 1)].into());
    assert_eq!(store.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_events_the_assignment_is_answered_by_start_at() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let broker = broker(2).await;
        produce(&broker, 2, 0..20);
        let builder = member(&broker, 1).group_protocol(protocol).commit(Commit::External);
        let mut consumer = builder.connect().await.unwrap();
        let Some(Event::Assigned(assigned)) = consumer.next_event().await.unwrap() else {
            panic!("{protocol:?}")
        };
        assert_eq!(assigned, [tp(0), tp(1)]);
        for bad in [Offset::Committed, Offset::At(-1)] {
            let error = consumer.start_at([(tp(0), bad)]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ApiMisuse);
        }
        consumer
            .start_at([
                (tp(0), Offset::At(4)),
                (tp(0), Offset::At(5)),
                (tp(1), Offset::FromEnd(1)),
                (tp(9), Offset::At(3)),
            ])
            .await
            .unwrap();
        assert_eq!(first_of_each(&mut consumer, 2).await, [(0, 5), (1, 9)].into());
        let refused = consumer.commit((tp(0), 7)).await;
        assert!(
            matches!(&refused, Err(CommitError::Fatal(e)) if e.kind() == ErrorKind::ApiMisuse),
            "{refused:?}"
        );
        assert!(consumer.commit_delivered().await.is_err());
        // It is not asked twice, and an answer that nobody waits for changes nothing.
        consumer.start_at([(tp(0), Offset::At(0))]).await.unwrap();
        assert_eq!(consumer.position(&tp(0)).unwrap(), Some(10));
        consumer.close().await.unwrap();
        untouched(&broker);
    }
}

#[tokio::test(start_paused = true)]
async fn an_assignment_that_is_not_answered_in_time_stops_with_an_error_that_says_what_to_do() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let builder = member(&broker, 1).commit(Commit::External).default_api_timeout(Duration::from_secs(10));
    let mut consumer = builder.connect().await.unwrap();
    assert!(matches!(consumer.next_event().await.unwrap(), Some(Event::Assigned(_))));
    consumer.start_at([(tp(1), Offset::At(3))]).await.unwrap();
    let error = loop {
        match consumer.next_event().await {
            Ok(Some(Event::Batch(batch))) => assert_eq!(batch.partition(), 1),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.kind(), error.topic_partition(), error.is_fatal()),
        (ErrorKind::NoOffset, Some(&tp(0)), false)
    );
    assert!(error.to_string().contains("start_at"), "{error}");
    consumer.seek(&tp(0), Offset::At(8)).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_takes_too_long_is_dropped_and_its_partitions_stop() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let builder = member(&broker, 1).default_api_timeout(Duration::from_secs(10));
    let mut consumer = Store::default().give(builder, Duration::from_secs(1_000)).connect().await.unwrap();
    let error = consumer.next_record().await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::NoOffset, Some(&tp(0))));
    consumer.seek(&tp(0), Offset::At(8)).await.unwrap();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().offset(), 8);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_function_is_the_reads_and_the_next_read_asks_again() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let calls = Arc::new(Mutex::new(0));
    let builder = member(&broker, 1).start_offsets(move |partitions| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        let call = *calls;
        async move {
            match call {
                1 => Err(std::io::Error::other("the database is down")),
                2 => Ok(vec![(TopicPartition::new("other", 0), Offset::Earliest)]),
                _ => Ok(partitions.into_iter().map(|p| (p, Offset::At(2))).collect()),
            }
        }
    });
    let mut consumer = builder.connect().await.unwrap();
    let error = consumer.next_batches(10, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::NoOffset, false));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the database is down");
    let error = consumer.next_record().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse, "{error}");
    assert_eq!(consumer.next_record().await.unwrap().unwrap().offset(), 2);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_lost_while_the_question_is_open_are_asked_for_again() {
    let classic = Fault::on(Api::Heartbeat).error(ErrorCode::ILLEGAL_GENERATION);
    let consumer = Fault::on(Api::ConsumerGroupHeartbeat).error(ErrorCode::FENCED_MEMBER_EPOCH);
    for (protocol, fault) in [(GroupProtocol::Classic, classic), (GroupProtocol::Consumer, consumer)] {
        let broker = broker(1).await;
        produce(&broker, 1, 0..10);
        let store = Store::with([(0, 3)]);
        let builder =
            member(&broker, 1).group_protocol(protocol).default_api_timeout(Duration::from_secs(100));
        let mut consumer = store.give(builder, Duration::from_secs(40)).connect().await.unwrap();
        let (offset, ()) =
            tokio::join!(async { consumer.next_record().await.unwrap().unwrap().offset() }, async {
                while store.asked().is_empty() {
                    settle().await;
                }
                // Meanwhile somebody else was the owner and got further.
                store.offsets.lock().unwrap().insert(tp(0), 6);
                broker.fault(fault);
            });
        assert_eq!((offset, store.asked().len()), (6, 2), "{protocol:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_without_events_and_without_a_function_says_what_is_missing() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).commit(Commit::External).connect().await.unwrap();
    while consumer.assignment().unwrap().is_empty() {
        settle().await;
    }
    for _ in 0..2 {
        let error = consumer.next_batch().await.unwrap_err();
        assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::ApiMisuse, false));
        assert!(error.to_string().contains("start_offsets"), "{error}");
    }
    assert!(matches!(consumer.next_event().await.unwrap(), Some(Event::Assigned(_))));
    consumer.start_at([(tp(0), Offset::Earliest)]).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn assigned_by_hand_committed_means_the_users_store() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let store = Store::with([(0, 4)]);
    let mut reader = store.give(consumer(&broker), Duration::ZERO).connect().await.unwrap();
    reader.assign([(tp(0), Offset::Committed), (tp(1), Offset::At(9))]).await.unwrap();
    assert_eq!(first_of_each(&mut reader, 2).await, [(0, 4), (1, 9)].into());
    assert_eq!(store.asked(), [[tp(0)]]);
    let error = reader.seek(&tp(0), Offset::Committed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse);
    reader.close().await.unwrap();
    untouched(&broker);
}

#[tokio::test(start_paused = true)]
async fn each_partitions_task_begins_where_the_store_says() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let store = Store::with([(0, 4), (1, 7)]);
    let mut consumer = store.give(member(&broker, 1), Duration::from_secs(5)).connect().await.unwrap();
    let (handle, first) = (consumer.handle(), Arc::new(Mutex::new(BTreeMap::new())));
    let seen = first.clone();
    consumer
        .run_partitioned(move |mut partition| {
            let (handle, seen) = (handle.clone(), seen.clone());
            async move {
                while let Some(batch) = partition.next_batch().await? {
                    let mut seen = seen.lock().unwrap();
                    seen.entry(batch.partition()).or_insert_with(|| batch.first_offset());
                    if seen.len() == 2 {
                        handle.shutdown();
                    }
                }
                Ok::<_, ottla::Error>(())
            }
        })
        .await
        .unwrap();
    assert_eq!(*first.lock().unwrap(), [(0, 4), (1, 7)].into());
}

#[test]
fn a_function_for_offsets_that_are_in_kafka_is_refused() {
    let builder = Store::default().give(Consumer::builder("a:1").group("g"), Duration::ZERO);
    builder.validate().unwrap();
    let error = builder.commit(Commit::Manual).validate().unwrap_err();
    assert!(error.to_string().contains("start_offsets does not fit commit"), "{error}");
}
