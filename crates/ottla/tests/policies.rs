//! Assigning step by step, a reset policy for each topic, commits by number.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::{GROUP, TOPIC, answered, broker, consumer, member, produce, settle, tp};
use ottla::{Commit, Consumer, ErrorKind, Event, Offset, OffsetReset, ResetCause, TopicPartition};
use ottla_broker::{Api, Broker, Fault};

const HOUR: Duration = Duration::from_secs(3600);

fn committed(broker: &Broker, partition: i32) -> Option<i64> {
    broker.committed(GROUP, TOPIC, partition)
}

#[tokio::test(start_paused = true)]
async fn what_is_added_or_taken_away_leaves_positions_and_buffers_of_the_others() {
    let broker = broker(3).await;
    produce(&broker, 3, 0..30);
    let mut consumer = consumer(&broker).max_batch_records(4).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let held = consumer.next_batch().await.unwrap().unwrap();
    settle().await;
    let buffered = consumer.handle().buffered_bytes().unwrap();
    assert!(buffered > 0);
    let mark = broker.mark();
    // The first is assigned already: its position stays, whatever is said of it here.
    consumer.incremental_assign([(tp(1), Offset::At(9)), (tp(0), Offset::Earliest)]).await.unwrap();
    assert!(held.is_owned());
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(4));
    let mut first = BTreeMap::new();
    while first.len() < 2 {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        first.entry(batch.partition()).or_insert_with(|| batch.first_offset());
    }
    assert_eq!(first, [(0, 4), (1, 9)].into());
    let again =
        |r: &ottla_broker::Observed| r.api == Api::Fetch && r.offset(TOPIC, 0).is_some_and(|o| o < 10);
    assert_eq!(broker.count_since(mark, again), 0, "what was fetched is not fetched again");

    consumer.incremental_unassign([tp(1), tp(2)]).await.unwrap();
    assert_eq!(consumer.assignment().unwrap(), [tp(0)]);
    assert!(held.is_owned());
    consumer.incremental_unassign([&tp(0)]).await.unwrap();
    assert!(!held.is_owned());
    assert_eq!(consumer.assignment().unwrap(), []);
    // Nothing is assigned by hand any more.
    assert_eq!(
        consumer.subscribe([TOPIC]).await.unwrap_err().kind(),
        ErrorKind::ApiMisuse,
        "there is no group"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_is_committed_and_begins_there_when_it_is_added_again() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = consumer(&broker).group(GROUP).max_batch_records(4).connect().await.unwrap();
    consumer.incremental_assign([(tp(0), Offset::Committed), (tp(1), Offset::Committed)]).await.unwrap();
    for _ in 0..3 {
        drop(consumer.next_batch().await.unwrap().unwrap());
    }
    let mark = broker.mark();
    consumer.incremental_unassign([tp(0)]).await.unwrap();
    consumer.incremental_assign([(tp(0), Offset::Committed)]).await.unwrap();
    answered(&broker, mark, Api::OffsetFetch).await;
    settle().await;
    let done = committed(&broker, 0).unwrap();
    assert!(done > 0);
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(done));
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_and_an_assignment_by_hand_exclude_each_other() {
    let broker = broker(1).await;
    let subscribed = member(&broker, 1).connect().await.unwrap();
    let error = subscribed.incremental_assign([(tp(0), Offset::Earliest)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse);
    assert_eq!(subscribed.incremental_unassign([tp(0)]).await.unwrap_err().kind(), ErrorKind::ApiMisuse);
    let by_hand = consumer(&broker).connect().await.unwrap();
    for bad in [(tp(-1), Offset::Earliest), (tp(0), Offset::At(-1)), (tp(0), Offset::Committed)] {
        let both = [(tp(0), Offset::Earliest), bad];
        assert_eq!(by_hand.incremental_assign(both).await.unwrap_err().kind(), ErrorKind::ApiMisuse);
        assert_eq!(by_hand.assignment().unwrap(), [], "none of them");
    }
}

#[tokio::test(start_paused = true)]
async fn each_topic_is_reset_by_its_own_policy() {
    let topics = ["a", "b", "c"];
    let builder = topics.iter().fold(Broker::builder().in_memory(), |b, topic| b.topic(*topic, 1));
    let broker = Arc::new(builder.start().await.unwrap());
    for topic in topics {
        broker.produce(topic, 0, ["1", "2", "3"]).unwrap();
    }
    let mut consumer = consumer(&broker)
        .group(GROUP)
        .subscribe(topics)
        .auto_offset_reset(OffsetReset::Earliest)
        .auto_offset_reset_of("b", OffsetReset::Latest)
        .auto_offset_reset_of("c", OffsetReset::Error)
        .connect()
        .await
        .unwrap();
    let (mut resets, mut error) = (BTreeMap::new(), None);
    while resets.len() < 2 || error.is_none() {
        match consumer.next_event().await {
            Ok(Some(Event::OffsetReset { topic_partition, offset, cause })) => {
                assert_eq!(cause, ResetCause::NoCommittedOffset);
                resets.insert(topic_partition.topic().to_owned(), offset);
            }
            Ok(_) => {}
            Err(e) => error = Some(e),
        }
    }
    assert_eq!(resets, [("a".to_owned(), 0), ("b".to_owned(), 3)].into());
    let error = error.unwrap();
    let c = TopicPartition::new("c", 0);
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::NoOffset, Some(&c)));
    // Out of range is reset by the same policy.
    consumer.seek(&TopicPartition::new("b", 0), Offset::At(99)).await.unwrap();
    loop {
        if let Some(Event::OffsetReset { topic_partition, offset, .. }) = consumer.next_event().await.unwrap()
        {
            break assert_eq!((topic_partition.topic(), offset), ("b", 3));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn auto_commits_come_by_number_of_records() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..100);
    let builder = member(&broker, 1).commit(Commit::Auto { interval: HOUR }).commit_records(10);
    let mut consumer = builder.max_batch_records(4).connect().await.unwrap();
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(consumer.next_batch().await.unwrap().unwrap());
        settle().await;
    }
    // Twelve were come back from, and are held.
    assert_eq!(committed(&broker, 0), Some(0), "where the policy began");
    batches.clear();
    drop(consumer.next_batch().await.unwrap());
    settle().await;
    for _ in 0..3 {
        drop(consumer.next_batch().await.unwrap());
        settle().await;
    }
    let done = committed(&broker, 0).unwrap();
    assert!((16..=28).contains(&done), "{done}");
    let commits = broker.commits().len();
    settle().await;
    assert_eq!(broker.commits().len(), commits, "no more without more records");
}

#[tokio::test(start_paused = true)]
async fn single_records_and_tasks_are_committed_by_number_too() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..100);
    let builder = || member(&broker, 1).commit(Commit::Auto { interval: HOUR }).commit_records(10);
    let mut consumer = builder().connect().await.unwrap();
    for _ in 0..42 {
        drop(consumer.next_record().await.unwrap());
    }
    settle().await;
    assert!(
        committed(&broker, 0).is_some_and(|done| (30..=41).contains(&done)),
        "{:?}",
        committed(&broker, 0)
    );
    drop(consumer);
    settle().await;

    let mut consumer = builder().__seed(2).max_batch_records(10).connect().await.unwrap();
    let (handle, seen) = (consumer.handle(), broker.clone());
    consumer
        .run_partitioned(move |mut partition| {
            let (handle, broker) = (handle.clone(), seen.clone());
            async move {
                for _ in 0..3 {
                    partition.next_batch().await?;
                }
                while committed(&broker, 0).is_none_or(|done| done < 50) {
                    settle().await;
                }
                handle.shutdown();
                Ok::<_, ottla::Error>(())
            }
        })
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn marks_are_committed_by_number() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..100);
    let builder = member(&broker, 1).commit(Commit::Manual).marks_interval(HOUR).commit_records(10);
    let mut consumer: Consumer = builder.connect().await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..30 {
        tokens.push(consumer.next_record().await.unwrap().unwrap().token());
    }
    tokens[1..10].iter().for_each(|token| token.mark());
    settle().await;
    assert_eq!(committed(&broker, 0), Some(0), "there is a gap");
    tokens[0].mark();
    settle().await;
    assert_eq!(committed(&broker, 0), Some(10));
    tokens[10..19].iter().for_each(|token| token.mark());
    settle().await;
    assert_eq!(committed(&broker, 0), Some(10), "nine more");
    tokens[19].mark();
    settle().await;
    assert_eq!(committed(&broker, 0), Some(20));
}

#[test]
fn wrong_values_are_told() {
    let builder = Consumer::builder("a:1").group("g").commit_records(0);
    let long = OffsetReset::ByDuration(Duration::MAX);
    let error = builder.auto_offset_reset_of("a", long).validate().unwrap_err().to_string();
    assert!(error.contains("commit_records: zero") && error.contains("auto_offset_reset_of: "), "{error}");
}

/// librdkafka's 0113 a1, a4 and a5: nothing added and nothing taken away; two topics step by step, of which what is not
/// there is not read; and everything taken away at once.
#[tokio::test(start_paused = true)]
async fn steps_by_hand_read_what_is_there_and_nothing_else() {
    const OTHER: &str = "other";
    let broker = Broker::builder().in_memory().topic(TOPIC, 2).topic(OTHER, 2).start().await.unwrap();
    let broker = Arc::new(broker);
    let mut consumer = consumer(&broker).group(GROUP).connect().await.unwrap();
    consumer.incremental_assign([]).await.unwrap();
    consumer.incremental_unassign::<TopicPartition>([]).await.unwrap();
    assert_eq!(consumer.assignment().unwrap(), []);
    let all = || [TOPIC, OTHER].into_iter().flat_map(|t| [0, 1].map(|p| TopicPartition::new(t, p)));
    let steps: [(&[usize], &[usize]); 6] =
        [(&[0], &[]), (&[2, 3], &[]), (&[], &[0]), (&[0, 1], &[2]), (&[], &[3, 1]), (&[1, 2], &[0])];
    let mut assigned = BTreeSet::new();
    for (step, (add, take)) in steps.into_iter().enumerate() {
        let pick = |places: &[usize]| places.iter().filter_map(|i| all().nth(*i)).collect::<Vec<_>>();
        let (add, take) = (pick(add), pick(take));
        consumer.incremental_assign(add.iter().map(|tp| (tp.clone(), Offset::Latest))).await.unwrap();
        consumer.incremental_unassign(&take).await.unwrap();
        assigned.extend(add);
        assigned.retain(|tp| !take.contains(tp));
        assert_eq!(consumer.assignment().unwrap().into_iter().collect::<BTreeSet<_>>(), assigned, "{step}");
        // Where they begin is known before anything is written.
        let nothing = tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await;
        assert!(nothing.is_err(), "{step}: {nothing:?}");
        for tp in all() {
            broker.produce(tp.topic(), tp.partition(), [step.to_string()]).unwrap();
        }
        let mut come = BTreeSet::new();
        while let Ok(batch) = tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await {
            let batch = batch.unwrap().unwrap();
            assert_eq!((batch.len(), batch.first_offset()), (1, step as i64), "{step}: {batch:?}");
            assert!(come.insert(batch.topic_partition().clone()), "{step}: {batch:?} twice");
        }
        assert_eq!(come, assigned, "{step}");
    }
    consumer.unsubscribe().await.unwrap();
    assert_eq!(consumer.assignment().unwrap(), []);
    for tp in all() {
        broker.produce(tp.topic(), tp.partition(), ["later"]).unwrap();
        let done = assigned.contains(&tp).then_some(6);
        let committed = broker.committed(GROUP, tp.topic(), tp.partition());
        assert!(done.is_none() || committed == done, "{tp}: {committed:?}");
    }
    let nothing = tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    consumer.close().await.unwrap();
}

/// librdkafka's 0113 a, rapid: a partition comes, goes and comes again while a slow OffsetFetch is under way. It begins where
/// the group stands when it came last.
#[tokio::test(start_paused = true)]
async fn an_offset_that_is_told_late_begins_no_later_assignment() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..30);
    let mut consumer = consumer(&broker).group(GROUP).connect().await.unwrap();
    for (round, offset) in [10, 12, 14, 20].into_iter().enumerate() {
        broker.set_committed(GROUP, TOPIC, 0, offset).unwrap();
        broker.fault(Fault::on(Api::OffsetFetch).delay(Duration::from_secs(2)));
        let mark = broker.mark();
        consumer.incremental_assign([(tp(0), Offset::Committed)]).await.unwrap();
        settle().await;
        if round < 3 {
            assert_eq!(consumer.position(&tp(0)).unwrap(), None, "it is asked for");
            consumer.incremental_unassign([tp(0)]).await.unwrap();
        } else {
            assert!(broker.count_since(mark, |r| r.api == Api::Fetch) == 0, "it waits for its own answer");
        }
    }
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!((batch.first_offset(), batch.len()), (20, 10));
    consumer.close().await.unwrap();
}
