//! Batches of all partitions, up to a number of records or a time: `next_batches`.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{GROUP, TOPIC, broker, consumer, member, number, produce, settle, tp};
use ottla::{Assignor, Batch, Commit, Consumer, ErrorKind, Offset, OffsetReset};
use ottla_broker::{Api, Corruption, Fault};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn count(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::len).sum()
}

async fn gather(consumer: &mut Consumer, max_records: usize, max_wait: Duration) -> Vec<Batch> {
    consumer.next_batches(max_records, max_wait).await.unwrap().expect("nobody shuts it down")
}

async fn assigned(broker: &std::sync::Arc<ottla_broker::Broker>, partitions: i32) -> Consumer {
    let consumer = consumer(broker).connect().await.unwrap();
    consumer.assign((0..partitions).map(|p| (tp(p), Offset::Earliest))).await.unwrap();
    settle().await;
    consumer
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_number_of_records_and_no_longer() {
    let broker = broker(3).await;
    produce(&broker, 3, 0..30);
    let mut consumer = assigned(&broker, 3).await;
    let begun = Instant::now();
    let (batches, ()) = tokio::join!(gather(&mut consumer, 60, 100 * SECOND), async {
        for hundred in 1..4 {
            tokio::time::sleep(SECOND).await;
            produce(&broker, 3, hundred * 100..hundred * 100 + 12);
        }
    });
    assert_eq!(count(&batches), 60);
    assert!(begun.elapsed() < 4 * SECOND, "{:?}", begun.elapsed());
    assert!(batches.len() >= 3, "all partitions have their share");
    // The six that were too many come next, alone, when the time is over.
    let batches = gather(&mut consumer, 60, SECOND).await;
    assert_eq!(count(&batches), 6);
}

/// What `max_unmarked` keeps back does not come by waiting.
#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_more_than_the_marks_allow() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..50);
    let builder = member(&broker, 1).commit(Commit::Manual).max_unmarked(10);
    let mut consumer = builder.auto_offset_reset(OffsetReset::Earliest).connect().await.unwrap();
    // The first mark begins it.
    let first = gather(&mut consumer, 1, 100 * SECOND).await;
    first[0].token().mark();
    let begun = Instant::now();
    let batches = gather(&mut consumer, 1_000, 100 * SECOND).await;
    assert_eq!((count(&batches), begun.elapsed().as_secs()), (10, 0), "{:?}", begun.elapsed());
    // Nothing can be had before there is a mark.
    let batches = gather(&mut consumer, 1_000, 100 * SECOND).await;
    assert_eq!((count(&batches), begun.elapsed().as_secs()), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_over_it_gives_what_is_there_or_nothing() {
    let broker = broker(2).await;
    let mut consumer = assigned(&broker, 2).await;
    for (produced, wait) in [(0, SECOND), (5, 7 * SECOND), (0, Duration::ZERO), (3, 20 * SECOND)] {
        if produced > 0 {
            produce(&broker, 2, 0..produced);
        }
        let begun = Instant::now();
        let batches = gather(&mut consumer, 1_000, wait).await;
        assert_eq!(count(&batches) as i64, produced);
        assert!(begun.elapsed() >= wait && begun.elapsed() < wait + SECOND / 10, "{:?}", begun.elapsed());
    }
    produce(&broker, 2, 0..4);
    for p in 0..2 {
        while consumer.lag(&tp(p)).unwrap() != Some(2) {
            settle().await;
        }
    }
    assert_eq!(count(&gather(&mut consumer, 1_000, Duration::ZERO).await), 4, "what is there");
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_while_it_gathers_has_taken_nothing() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = assigned(&broker, 2).await;
    for _ in 0..3 {
        let gathering = consumer.next_batches(1_000, 100 * SECOND);
        assert!(tokio::time::timeout(SECOND, gathering).await.is_err());
        assert_eq!([0, 1].map(|p| consumer.position(&tp(p)).unwrap()), [Some(0), Some(0)]);
    }
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for batch in gather(&mut consumer, 20, SECOND).await {
        for record in &batch {
            let at = next.entry(batch.partition()).or_default();
            assert_eq!(
                (record.offset(), number(record.value())),
                (*at, *at * 2 + i64::from(batch.partition()))
            );
            *at += 1;
        }
    }
    assert_eq!(next, BTreeMap::from([(0, 10), (1, 10)]));
}

#[tokio::test(start_paused = true)]
async fn coming_back_makes_all_of_them_done() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    assert_eq!(count(&gather(&mut consumer, 20, 100 * SECOND).await), 20);
    let committed = |p| broker.committed(GROUP, TOPIC, p);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!([0, 1].map(committed), [Some(0), Some(0)], "nobody came back from them");
    assert_eq!(count(&gather(&mut consumer, 20, 20 * SECOND).await), 0);
    assert_eq!([0, 1].map(committed), [Some(10), Some(10)]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gathers_for_longer_than_max_poll_interval_is_not_away() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let builder = member(&broker, 1).max_poll_interval(60 * SECOND);
    let mut consumer = builder.connect().await.unwrap();
    for _ in 0..5 {
        let begun = Instant::now();
        let batches = gather(&mut consumer, 1_000, 600 * SECOND).await;
        assert_eq!(count(&batches), 10);
        assert!(begun.elapsed() <= 31 * SECOND, "{:?}", begun.elapsed());
        produce(&broker, 1, 0..10);
    }
    assert_eq!(consumer.assignment().unwrap(), [tp(0)]);
    // One that is dropped is away, whatever it wanted.
    let gathering = consumer.next_batches(1_000, 600 * SECOND);
    assert!(tokio::time::timeout(SECOND, gathering).await.is_err());
    tokio::time::sleep(200 * SECOND).await;
    let error = consumer.next_batches(1, SECOND).await.unwrap_err();
    assert!(error.to_string().contains("max_poll_interval"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_for_more_than_the_buffer_holds() {
    // What decodes ahead has a share of the buffer, and with the least there can be one batch leaves no room at all.
    for (buffer, threads) in [(4 << 20, 0), (4 << 20, 1), (64 << 10, 0)] {
        waits_for_no_more_than(buffer, threads).await;
    }
}

async fn waits_for_no_more_than(buffer: usize, threads: usize) {
    let broker = broker(1).await;
    let large = vec!["x".repeat(10_000); 100];
    for _ in 0..10 {
        broker.produce(TOPIC, 0, large.clone()).unwrap();
    }
    let builder = consumer(&broker).max_buffered_bytes(buffer).decode_threads(threads);
    let mut consumer = builder.connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let begun = Instant::now();
    let mut seen = 0;
    while seen < 1_000 {
        let batches = gather(&mut consumer, 1_000_000, 60 * SECOND).await;
        assert_ne!(count(&batches), 0);
        seen += count(&batches);
        if begun.elapsed() >= 60 * SECOND {
            assert!(seen > 500, "{seen} with {buffer} B and {threads} threads");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_alone_and_what_came_with_it_comes_too() {
    // The batch that is read first, and the one that is read last.
    for (corruption, good, resume_at) in [(Corruption::BatchCrc, 0, 10), (Corruption::LastRecordByte, 10, 20)]
    {
        let broker = broker(1).await;
        produce(&broker, 1, 0..10);
        produce(&broker, 1, 10..20);
        broker.fault(Fault::on(Api::Fetch).corrupt(corruption));
        let mut consumer = assigned(&broker, 1).await;
        if good > 0 {
            assert_eq!(count(&gather(&mut consumer, 1_000, SECOND).await), good);
        }
        let error = consumer.next_batches(1_000, SECOND).await.unwrap_err();
        assert_eq!((error.kind(), error.resume_at()), (ErrorKind::Corrupt, Some(resume_at)), "{error}");
        assert_eq!(count(&gather(&mut consumer, 1_000, SECOND).await), 0, "told once");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_gathering() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    assert_eq!(count(&gather(&mut consumer, 10, 100 * SECOND).await), 10);
    let handle = consumer.handle();
    let (ended, ()) = tokio::join!(consumer.next_batches(10, 100 * SECOND), async {
        tokio::time::sleep(SECOND).await;
        handle.shutdown();
    });
    assert!(ended.unwrap().is_none());
    consumer.close().await.unwrap();
    assert_eq!(broker.committed(GROUP, TOPIC, 0), Some(10));
}

/// A second member joins while the first waits for more than there is: between them every record comes once, and both
/// have their share of what comes later.
#[tokio::test(start_paused = true)]
async fn a_rebalance_while_it_gathers_repeats_and_loses_nothing() {
    async fn rounds(consumer: &mut Consumer, count: usize) -> Vec<(i32, i64)> {
        let mut records = Vec::new();
        for _ in 0..count {
            for batch in gather(consumer, 500, 20 * SECOND).await {
                records.extend(batch.iter().map(|record| (batch.partition(), record.offset())));
            }
        }
        records
    }
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let broker = broker(4).await;
        produce(&broker, 4, 0..400);
        let member = |seed| member(&broker, seed).assignors([assignor]).connect();
        let mut first = member(1).await.unwrap();
        let (mut all, (more, mut second)) = tokio::join!(rounds(&mut first, 3), async {
            tokio::time::sleep(SECOND).await;
            let mut second = member(2).await.unwrap();
            (rounds(&mut second, 3).await, second)
        });
        all.extend(more);
        all.sort_unstable();
        let expected = |to: i64| (0..4).flat_map(|p| (0..to).map(move |o| (p, o))).collect::<Vec<_>>();
        assert_eq!(all, expected(100), "{assignor:?}");
        produce(&broker, 4, 400..800);
        let (one, other) = tokio::join!(rounds(&mut first, 1), rounds(&mut second, 1));
        assert_eq!((one.len(), other.len()), (200, 200), "{assignor:?}");
        all.extend(one.into_iter().chain(other));
        all.sort_unstable();
        assert_eq!(all, expected(200), "{assignor:?}");
    }
}
