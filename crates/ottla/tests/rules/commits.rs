//! What is committed, and what each who asked is told.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ottla::{Commit, CommitError, CommitOffset, Consumer, ErrorKind, Event, IsolationLevel, Offset};
use ottla_broker::{Api, BatchBuilder, Broker, ErrorCode, Fault};

use crate::common::{GROUP, TOPIC, broker, member, produce, settle, tp};

const INTERVAL: Duration = Duration::from_secs(5);

async fn manual(broker: &Arc<Broker>) -> Consumer {
    member(broker, 1).commit(Commit::Manual).connect().await.unwrap()
}

fn committed(broker: &Broker) -> Option<i64> {
    broker.committed(GROUP, TOPIC, 0)
}

/// Waits for all of them at once.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in waiting.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn commits_that_wait_go_out_together_and_each_gets_its_answer() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..200);
    let mut consumer = manual(&broker).await;
    let mut batches = Vec::new();
    for _ in 0..2 {
        batches.push(consumer.next_batch().await.unwrap().unwrap());
    }
    settle().await;
    let mark = broker.mark();
    // The first one is slow: all the others wait behind it.
    broker.fault(Fault::on(Api::OffsetCommit).delay(Duration::from_secs(1)));
    let tokens: Vec<_> = batches.iter().flat_map(|b| b.iter().map(|r| r.token())).collect();
    let handle = consumer.handle();
    let outcomes = all(tokens.into_iter().map(|token| handle.commit(token))).await;
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let sent = broker.count_since(mark, |request| request.api == Api::OffsetCommit);
    assert!(sent <= 3, "{sent} requests for 200 commits");
    assert_eq!((committed(&broker), broker.committed(GROUP, TOPIC, 1)), (Some(100), Some(100)));
}

#[tokio::test(start_paused = true)]
async fn of_commits_that_go_out_together_only_the_refused_partition_fails() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = manual(&broker).await;
    let mut batches = Vec::new();
    for _ in 0..2 {
        batches.push(consumer.next_batch().await.unwrap().unwrap());
    }
    settle().await;
    let refused = Fault::on(Api::OffsetCommit).partition(TOPIC, 1).always();
    broker.fault(refused.error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let handle = consumer.handle();
    let outcomes = all(batches.iter().map(|batch| handle.commit(batch))).await;
    for (batch, outcome) in batches.iter().zip(outcomes) {
        match (batch.partition(), outcome) {
            (0, Ok(())) => {}
            (1, Err(CommitError::Fatal(error))) => {
                assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Authorization, Some(&tp(1))));
            }
            (partition, outcome) => panic!("{partition}: {outcome:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_offset_may_be_below_one_that_was_not_committed() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..20);
    let mut consumer = manual(&broker).await;
    consumer.next_batch().await.unwrap();
    consumer.commit((tp(0), 5)).await.unwrap();
    broker.fault(Fault::on(Api::OffsetCommit).error(ErrorCode::OFFSET_METADATA_TOO_LARGE));
    let error = consumer.commit(CommitOffset::new(tp(0), 15).metadata("too long")).await.unwrap_err();
    assert!(matches!(&error, CommitError::Fatal(e) if e.kind() == ErrorKind::Limit), "{error}");
    assert_eq!(committed(&broker), Some(5));
    // 15 was never committed: 10 goes forward.
    consumer.commit((tp(0), 10)).await.unwrap();
    assert_eq!(committed(&broker), Some(10));
    let error = consumer.commit((tp(0), 9)).await.unwrap_err();
    assert!(matches!(error, CommitError::WouldRewind { committed: 10 }), "{error}");
    // What is on its way counts like what is committed.
    broker.fault(Fault::on(Api::OffsetCommit).delay(Duration::from_secs(1)));
    let handle = consumer.handle();
    let mut slow = pin!(handle.commit((tp(0), 18)));
    assert!(tokio::time::timeout(Duration::from_millis(10), slow.as_mut()).await.is_err());
    let error = consumer.commit((tp(0), 17)).await.unwrap_err();
    assert!(matches!(error, CommitError::WouldRewind { committed: 18 }), "{error}");
    slow.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_text_goes_in_with_a_record_and_comes_back_with_the_offset() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let token = batch.iter().nth(3).unwrap().token().with_metadata("by hand");
    consumer.commit(token).await.unwrap();
    assert_eq!(broker.committed_offset(GROUP, TOPIC, 0).unwrap().metadata, "by hand");
    let found = consumer.committed([tp(0)]).await.unwrap();
    let found = found[&tp(0)].as_ref().unwrap();
    assert_eq!((found.offset, found.metadata.as_deref()), (4, Some("by hand")));
    // Another member finds it too.
    let other = crate::common::consumer(&broker).__seed(9).group(GROUP).connect().await.unwrap();
    assert_eq!(other.committed([tp(0)]).await.unwrap()[&tp(0)].as_ref(), Some(found));
}

#[tokio::test(start_paused = true)]
async fn delivery_of_a_partition_pauses_at_max_unmarked_and_the_others_go_on() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..200);
    let builder = member(&broker, 1).commit(Commit::Manual).max_unmarked(20).max_batch_records(10);
    let mut consumer = builder.connect().await.unwrap();
    // Of partition 0 the first record is never marked, of the other one everything is.
    let (mut read, mut first) = ([0, 0], None);
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await {
        let batch = batch.unwrap().unwrap();
        read[usize::try_from(batch.partition()).unwrap()] += batch.len();
        for record in &batch {
            match (batch.partition(), record.offset()) {
                (0, 0) => first = Some(record.token()),
                _ => record.token().mark(),
            }
        }
    }
    assert!((20..=30).contains(&read[0]), "{read:?}");
    assert_eq!(read[1], 100);
    first.unwrap().mark();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!((batch.partition(), batch.first_offset()), (0, i64::try_from(read[0]).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn control_and_aborted_offsets_next_to_done_data_are_done() {
    let broker = broker(1).await;
    let transaction = |values: &[&str], first| {
        BatchBuilder::new(values.iter().copied()).transactional(7, 0, first).finish()
    };
    broker.produce_batch(TOPIC, 0, transaction(&["a", "b"], 0)).unwrap();
    broker.produce_batch(TOPIC, 0, BatchBuilder::commit_marker(7, 0)).unwrap();
    broker.produce_batch(TOPIC, 0, transaction(&["c"], 2)).unwrap();
    broker.produce_batch(TOPIC, 0, BatchBuilder::abort_marker(7, 0)).unwrap();
    let builder = member(&broker, 1).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = builder.connect().await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().len(), 2);
    let _ = tokio::time::timeout(INTERVAL * 2, consumer.next_batch()).await;
    // Not 2: what lies behind the last record is nothing that anybody could read.
    assert_eq!(committed(&broker), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_sent_again_with_the_generation_that_came_meanwhile() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    // A revocation that waited for the commit, whose request times out after 30 s, would keep the generation.
    let builder = member(&broker, 1).commit(Commit::Manual).revoke_timeout(Duration::from_secs(5));
    let mut first = builder.connect().await.unwrap();
    let mut batches = Vec::new();
    while batches.len() < 2 {
        if let Event::Batch(batch) = first.next_event().await.unwrap().unwrap() {
            batches.push(batch);
        }
    }
    let generation = broker.group(GROUP).unwrap().generation;
    // Its answer says that the generation is over; it comes when the member has a newer one.
    let late =
        Fault::on(Api::OffsetCommit).error(ErrorCode::ILLEGAL_GENERATION).delay(Duration::from_secs(60));
    broker.fault(late);
    let mark = broker.mark();
    let handle = first.handle();
    let commits: Vec<_> = batches.iter().map(|batch| (batch.partition(), batch.token())).collect();
    let mut waiting = pin!(handle.commit(commits.iter().map(|(_, token)| token.clone()).collect::<Vec<_>>()));
    assert!(tokio::time::timeout(Duration::from_millis(10), waiting.as_mut()).await.is_err());
    let second = member(&broker, 2).connect().await.unwrap();
    while second.assignment().unwrap().is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), first.next_event()).await;
    }
    assert!(broker.group(GROUP).unwrap().generation > generation);
    let kept = first.assignment().unwrap();
    let error = waiting.await.unwrap_err();
    // The kept partition's token held: sent again. The other one's did not: nothing was sent of it.
    let CommitError::Partial(failed) = error else { panic!("{error}") };
    assert!(matches!(&failed[..], [(p, CommitError::NotOwned)] if *p != kept[0]), "{failed:?}");
    assert_eq!(broker.committed(GROUP, TOPIC, kept[0].partition()), Some(10));
    let last = broker.requests_since(mark).into_iter().rfind(|r| r.api == Api::OffsetCommit).unwrap();
    assert!(last.generation.unwrap() > generation);
}

#[tokio::test(start_paused = true)]
async fn after_a_seek_and_back_the_epoch_is_another_and_marks_have_no_effect() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let token = consumer.next_batch().await.unwrap().unwrap().token();
    consumer.seek(&tp(0), Offset::At(10)).await.unwrap();
    consumer.seek(&tp(0), Offset::At(0)).await.unwrap();
    token.mark();
    let again = consumer.next_batch().await.unwrap().unwrap().token();
    assert!(again.ownership_epoch() > token.ownership_epoch());
    tokio::time::sleep(INTERVAL * 2).await;
    assert!(committed(&broker).is_none_or(|offset| offset == 0));
    again.mark();
    tokio::time::sleep(INTERVAL * 2).await;
    assert_eq!(committed(&broker), Some(10));
}
