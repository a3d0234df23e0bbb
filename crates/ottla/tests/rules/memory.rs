//! Memory is bounded by bytes, through the whole client and whatever the reader does.

use std::sync::Arc;
use std::time::Duration;

use ottla::{Consumer, Offset};
use ottla_broker::{BatchBuilder, Broker, Codec};

use crate::common::{TOPIC, consumer, tp};

const NODES: usize = 2;
const PARTITIONS: i32 = 6;
const BUDGET: usize = 1 << 20;
/// The largest batch, which a broker sends whole although it is over the limit.
const LARGE: usize = 700_000;

/// Batches of 1 to 700 KB in every partition, far more than the budget. Gives how many records there are.
async fn cluster(codec: Codec) -> (Arc<Broker>, usize) {
    let broker = Broker::builder().in_memory().brokers(NODES).topic(TOPIC, PARTITIONS).start().await.unwrap();
    let mut count = 0;
    for partition in 0..PARTITIONS {
        for i in 0..24u8 {
            let (records, size) = match i % 4 {
                0 => (1, LARGE),
                1 => (100, 1_000),
                _ => (3, 60_000),
            };
            // Does not compress well: the value of each record is its own.
            let value = |r: usize| -> Vec<u8> {
                let mut x = (r as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(i);
                std::iter::repeat_with(|| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    x ^= x << 17;
                    x as u8
                })
                .take(size)
                .collect()
            };
            let batch = BatchBuilder::new((0..records).map(value)).codec(codec).finish();
            broker.produce_batch(TOPIC, partition, batch).unwrap();
            count += records;
        }
    }
    (Arc::new(broker), count)
}

async fn reader(broker: &Arc<Broker>) -> Consumer {
    let consumer = consumer(broker).max_buffered_bytes(BUDGET).connect().await.unwrap();
    consumer.assign((0..PARTITIONS).map(|p| (tp(p), Offset::Earliest))).await.unwrap();
    consumer
}

/// Headers of frames and batches.
const OVERHEAD: usize = 4_096;

#[tokio::test(start_paused = true)]
async fn the_ledger_is_bounded_with_a_reader_that_is_stuck() {
    let (broker, _) = cluster(Codec::None).await;
    let consumer = reader(&broker).await;
    let handle = consumer.handle();
    let mut most = 0;
    for _ in 0..10_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        most = most.max(handle.buffered_bytes().unwrap());
    }
    // Nobody waits for a batch here, so that nothing is decoded.
    let bound = BUDGET + NODES * (LARGE + OVERHEAD);
    assert!(most <= bound, "{most} of {bound}");
    assert!(most > BUDGET / 2, "{most}: it is not used");
    // Nothing grows any more.
    let before = handle.buffered_bytes().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(handle.buffered_bytes().unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_bounded_with_a_reader_that_is_slow_and_everything_comes() {
    for codec in [Codec::None, Codec::Lz4] {
        let (broker, records) = cluster(codec).await;
        let mut consumer = reader(&broker).await;
        let handle = consumer.handle();
        let (mut most, mut count) = (0, 0);
        while count < records {
            count += consumer.next_batch().await.unwrap().unwrap().len();
            tokio::time::sleep(Duration::from_millis(20)).await;
            most = most.max(handle.buffered_bytes().unwrap());
        }
        // One oversized batch per broker, one decoded batch for the one reader.
        let bound = BUDGET + (NODES + 1) * (LARGE + OVERHEAD);
        assert!(most <= bound, "{codec:?}: {most} of {bound}");
        assert_eq!(count, records);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((handle.buffered_bytes().unwrap(), handle.pinned_bytes().unwrap()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_out_is_pinned_and_blocks_nothing() {
    let (broker, records) = cluster(Codec::None).await;
    let mut consumer = reader(&broker).await;
    let handle = consumer.handle();
    let (mut held, mut count) = (Vec::new(), 0);
    while count < records {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        count += batch.len();
        held.push(batch);
    }
    assert!(handle.pinned_bytes().unwrap() > 10 * BUDGET);
    assert_eq!(handle.buffered_bytes().unwrap(), 0);
    held.clear();
    assert_eq!(handle.pinned_bytes().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_partition_gives_its_room_to_one_that_is_read_and_loses_nothing() {
    let (broker, records) = cluster(Codec::None).await;
    let mut consumer = reader(&broker).await;
    let handle = consumer.handle();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let paused: Vec<_> = (1..PARTITIONS).map(tp).collect();
    handle.pause(&paused).await.unwrap();
    let mut count = 0;
    while let Ok(batch) = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await {
        let batch = batch.unwrap().unwrap();
        assert_eq!(batch.partition(), 0);
        count += batch.len();
    }
    assert_eq!(count, records / PARTITIONS as usize);
    handle.resume(&paused).await.unwrap();
    while count < records {
        count += consumer.next_batch().await.unwrap().unwrap().len();
    }
    assert!(tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await.is_err());
}
