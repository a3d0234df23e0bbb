//! Reads: nothing is lost or repeated however their futures end, and what a handle says holds once it resolves.

mod common;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use common::{broker, consumer, member, number, produce, settle, tp};
use futures_core::Stream;
use ottla::{Consumer, ErrorKind, Event, Offset, Record};
use ottla_broker::{Corruption, Fault};

async fn assigned(broker: &std::sync::Arc<ottla_broker::Broker>, partitions: i32) -> Consumer {
    let consumer = consumer(broker).connect().await.unwrap();
    consumer.assign((0..partitions).map(|p| (tp(p), Offset::Earliest))).await.unwrap();
    consumer
}

/// What was read so far: the next number that each partition must give.
#[derive(Default)]
struct Seen {
    next: BTreeMap<i32, i64>,
    count: i64,
}

impl Seen {
    fn record(&mut self, partition: i32, partitions: i32, offset: i64, value: Option<&[u8]>) {
        let expected = self.next.entry(partition).or_insert(0);
        assert_eq!(offset, *expected, "of partition {partition}");
        assert_eq!(number(value), offset * i64::from(partitions) + i64::from(partition));
        *expected += 1;
        self.count += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_printed_through_assign() {
    let broker = broker(1).await;
    broker.produce("orders", 0, [("key", "value")]).unwrap();
    let mut consumer = assigned(&broker, 1).await;
    let record = consumer.next_record().await.unwrap().unwrap();
    assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 0, 0));
    assert_eq!((record.key(), record.value()), (Some(&b"key"[..]), Some(&b"value"[..])));
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_dropped_while_they_wait_lose_and_repeat_nothing() {
    const PARTITIONS: i32 = 3;
    const RECORDS: i64 = 3_000;
    let broker = broker(PARTITIONS).await;
    let mut consumer = assigned(&broker, PARTITIONS).await;
    let mut seen = Seen::default();
    let mut produced = 0;
    // Each kind of read is polled a few times and dropped, ready or not, while records arrive.
    let mut turn = 0u64;
    while seen.count < RECORDS {
        if produced < RECORDS && turn.is_multiple_of(7) {
            produce(&broker, PARTITIONS, produced..produced + 30);
            produced += 30;
        }
        turn += 1;
        let polls = turn % 4;
        match turn % 3 {
            0 => {
                if let Some(read) = polled(consumer.next_batch(), polls).await {
                    for record in &read.unwrap().unwrap() {
                        seen.record(record.partition(), PARTITIONS, record.offset(), record.value());
                    }
                }
            }
            1 => {
                if let Some(read) = polled(consumer.next_record(), polls).await {
                    let record = read.unwrap().unwrap();
                    seen.record(record.partition(), PARTITIONS, record.offset(), record.value());
                }
            }
            _ => {
                if let Some(Ok(Some(Event::Batch(batch)))) = polled(consumer.next_event(), polls).await {
                    for record in &batch {
                        seen.record(record.partition(), PARTITIONS, record.offset(), record.value());
                    }
                }
            }
        }
    }
    assert_eq!(produced, RECORDS);
}

/// Polls a future up to `polls` times, with time passing in between, and drops it.
async fn polled<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let output = poll_fn(|cx| {
            Poll::Ready(match future.as_mut().poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await;
        if output.is_some() {
            return output;
        }
        settle().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn the_position_moves_in_the_poll_that_returns() {
    let broker = broker(1).await;
    let mut consumer = assigned(&broker, 1).await;
    {
        // Fetched and offered to a read that waited for it, which is dropped instead of being polled again: not moved.
        let mut read = pin!(consumer.next_record());
        let polled = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx).is_ready())).await;
        assert!(!polled, "there is nothing yet");
        produce(&broker, 1, 0..10);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(0));
    consumer.next_record().await.unwrap();
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(1));
    consumer.next_batch().await.unwrap();
    assert_eq!(consumer.position(&tp(0)).unwrap(), Some(10));
    assert_eq!(consumer.lag(&tp(0)).unwrap(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn records_are_a_stream_that_ends_with_shutdown() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..100);
    let mut consumer = assigned(&broker, 2).await;
    let handle = consumer.handle();
    let mut seen = Seen::default();
    let mut records = consumer.records();
    while let Some(record) = next(&mut records).await {
        let record: Record = record.unwrap();
        seen.record(record.partition(), 2, record.offset(), record.value());
        if seen.count == 100 {
            handle.shutdown();
        }
    }
    assert!(next(&mut records).await.is_none());
    assert_eq!(seen.count, 100);
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_loses_nothing() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = assigned(&broker, 1).await;
    for offset in 0..10 {
        let mut records = consumer.records();
        assert_eq!(next(&mut records).await.unwrap().unwrap().offset(), offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_at_most_max_batch_records() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..1_000);
    let mut consumer = consumer(&broker).max_batch_records(64).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let mut count = 0;
    while count < 1_000 {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        assert!(batch.len() <= 64);
        assert_eq!(batch.first_offset(), count as i64);
        count += batch.len();
    }
}

#[tokio::test(start_paused = true)]
async fn once_a_seek_resolves_no_record_of_the_old_position_is_returned() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..1_000);
    let mut consumer = assigned(&broker, 1).await;
    let handle = consumer.handle();
    for target in [500, 0, 990, 250] {
        consumer.next_record().await.unwrap();
        handle.seek(&tp(0), Offset::At(target)).await.unwrap();
        assert_eq!(consumer.next_record().await.unwrap().unwrap().offset(), target);
    }
    handle.seek(&tp(0), Offset::FromEnd(3)).await.unwrap();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().offset(), 997);
    handle.seek(&tp(0), Offset::Earliest).await.unwrap();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn once_a_pause_resolves_no_record_of_the_partition_is_returned() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..1_000);
    let mut consumer = assigned(&broker, 2).await;
    let handle = consumer.handle();
    consumer.next_record().await.unwrap();
    handle.pause([tp(0)]).await.unwrap();
    let mut of_other = 0;
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await {
        let batch = batch.unwrap().unwrap();
        assert_eq!(batch.partition(), 1);
        of_other = batch.next_offset();
    }
    assert_eq!(of_other, 500);
    handle.resume([tp(0)]).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().partition(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_partition_is_told_once_until_there_is_more() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..5);
    let mut consumer = consumer(&broker).partition_eof(true).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    for round in 0..3i64 {
        let Event::Batch(batch) = consumer.next_event().await.unwrap().unwrap() else { panic!("no batch") };
        assert_eq!(batch.next_offset(), 5 + round);
        let event = consumer.next_event().await.unwrap().unwrap();
        assert!(matches!(event, Event::PartitionEof { offset, .. } if offset == 5 + round), "{event:?}");
        let again = tokio::time::timeout(Duration::from_secs(10), consumer.next_event()).await;
        assert!(again.is_err(), "{again:?}");
        produce(&broker, 1, 5 + round..6 + round);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_partition_is_told_once_and_the_others_go_on() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..4);
    // The next answer with records of partition 0 has a wrong checksum.
    broker.fault(Fault::on(ottla_broker::Api::Fetch).partition("orders", 0).corrupt(Corruption::BatchCrc));
    let mut consumer = consumer(&broker).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let error = consumer.next_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(error.topic_partition(), Some(&tp(0)));
    assert!(!error.is_fatal());
    let resume_at = error.resume_at().expect("an offset to go on at");
    assert_eq!(resume_at, 2);
    // Told once; the partition stands still.
    assert!(tokio::time::timeout(Duration::from_secs(60), consumer.next_batch()).await.is_err());
    consumer.seek(&tp(0), Offset::At(0)).await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_owned_record_outlives_everything() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..3);
    let mut consumer = assigned(&broker, 1).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let records: Vec<Record> = batch.records().collect();
    drop(batch);
    consumer.close().await.unwrap();
    drop(broker);
    assert_eq!(records.iter().map(|r| number(r.value())).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(!records[0].is_owned());
}

#[tokio::test(start_paused = true)]
async fn shared_bytes_outlive_their_record_and_do_not_hold_back_what_is_done() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..3);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    let record = consumer.next_record().await.unwrap().unwrap();
    let (key, value) = (record.key_bytes(), record.value_bytes());
    assert_eq!((key.as_deref(), value.as_deref()), (record.key(), record.value()));
    let held = consumer.next_record().await.unwrap().unwrap();
    drop(record);
    consumer.next_record().await.unwrap().unwrap();
    // The bytes of the first are still held, but only the second record itself holds anything back.
    let held_back = consumer.held_back().unwrap();
    assert_eq!(held_back.iter().map(|h| h.offset).collect::<Vec<_>>(), [1]);
    drop(held);
    consumer.close().await.unwrap();
    drop(broker);
    assert_eq!(number(value.as_deref()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_always_finds_data_lets_other_tasks_run() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..20_000);
    let mut consumer = consumer(&broker).max_batch_records(1).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    consumer.next_batch().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let handle = consumer.handle();
    tokio::spawn(async move { handle.shutdown() });
    let mut more = 0;
    while consumer.next_batch().await.unwrap().is_some() {
        more += 1;
    }
    assert!(more < 1_000, "{more} batches were read before the other task got its turn");
}

#[tokio::test(start_paused = true)]
async fn offsets_can_be_asked_for() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    broker.delete_records("orders", 0, 2).unwrap();
    let consumer = consumer(&broker).connect().await.unwrap();
    assert_eq!(consumer.partitions_of("orders").await.unwrap(), [tp(0), tp(1)]);
    assert!(consumer.partitions_of("no-such-topic").await.unwrap().is_empty());
    let both = [tp(0), tp(1)];
    let beginnings = consumer.beginning_offsets(&both).await.unwrap();
    assert_eq!(beginnings.into_values().collect::<Vec<_>>(), [2, 0]);
    let ends = consumer.end_offsets(&both).await.unwrap();
    assert_eq!(ends.into_values().collect::<Vec<_>>(), [5, 5]);
    let times = consumer.offsets_for_times([(tp(1), 0), (tp(0), i64::MAX)]).await.unwrap();
    assert_eq!(times.into_values().collect::<Vec<_>>(), [None, Some(0)]);
}
