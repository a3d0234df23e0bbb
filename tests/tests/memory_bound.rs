//! The memory of a consumer stays within what is documented, counted by the allocator: reader and driver on one thread,
//! the broker on another.

use std::sync::mpsc::channel;

use ottla::{Builder, Consumer, Offset, TopicPartition};
use ottla_broker::Broker;
use ottla_tests::heap::{Counting, Heap, measure};
use ottla_wire::records::{BatchWriter, Compression};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "bounded";
const MIB: usize = 1 << 20;
/// What the ledger does not cover: the state of the partitions, requests, answers that are being read.
const BESIDES: usize = 16 * MIB;
/// A batch that is handed out to the reader is joined up to this.
const HANDED_OUT: usize = MIB;
const RECORDS: i64 = 20;

fn runtime() -> Runtime {
    RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Records that hardly compress.
fn batch(codec: Compression, seed: u64) -> Vec<u8> {
    let mut writer = BatchWriter::new().compression(codec);
    let mut state = seed;
    for index in 0..RECORDS {
        let value: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        writer.append(index, None, Some(&value), &[]).expect("it fits");
    }
    writer.finish().to_vec()
}

/// What `read` takes while it reads a topic of `partitions`, one batch each of all codecs in turn.
fn reading(
    partitions: i32,
    settings: impl Fn(Builder) -> Builder,
    read: impl AsyncFn(&mut Consumer),
) -> Heap {
    let (started, address) = channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let broker = std::thread::spawn(move || {
        runtime().block_on(async {
            let broker = Broker::builder().topic(TOPIC, partitions).start().await.expect("a broker");
            let batches: Vec<_> = Compression::ALL.iter().zip(1..).map(|(c, seed)| batch(*c, seed)).collect();
            for (partition, batch) in (0..partitions).zip(batches.iter().cycle()) {
                broker.produce_batch(TOPIC, partition, batch.clone()).expect("produced");
            }
            started.send(broker.bootstrap()).expect("the test waits");
            // Ends with an error when the test fails: the sender is dropped.
            let _ = stopped.await;
        });
    });
    let bootstrap = address.recv().expect("the broker starts");
    let runtime = runtime();
    let ((), heap) = measure(|| {
        runtime.block_on(async {
            // As without the feature: a snapshot to publish of 10,000 partitions would be counted, too.
            let builder =
                Consumer::builder(bootstrap).on_current_runtime().metrics_interval(std::time::Duration::ZERO);
            let mut consumer = settings(builder).connect().await.expect("connected");
            let all = (0..partitions).map(|p| (TopicPartition::new(TOPIC, p), Offset::At(0)));
            consumer.assign(all).await.expect("assigned");
            read(&mut consumer).await;
            consumer.close().await.expect("closed");
        });
    });
    drop(stop);
    broker.join().expect("the broker ends");
    heap
}

async fn read_on(consumer: &mut Consumer, mut seen: i64, until: i64) {
    while seen < until {
        let batch = consumer.next_batch().await.expect("read").expect("nobody shuts it down");
        seen += batch.len() as i64;
    }
    assert_eq!(seen, until);
}

/// The user takes one batch and does not come back while ten times the budget waits.
#[test]
fn ten_thousand_partitions_and_a_user_that_is_stuck() {
    const PARTITIONS: i32 = 10_000;
    const BUDGET: usize = 4 * MIB;
    let heap = reading(
        PARTITIONS,
        |builder| builder.max_buffered_bytes(BUDGET),
        async |consumer| {
            let stuck = consumer.next_batch().await.expect("read").expect("nobody shuts it down");
            // So many round trips: what can be fetched was fetched meanwhile.
            for partition in 0..50 {
                let asked = TopicPartition::new(TOPIC, partition);
                assert_eq!(consumer.end_offsets([&asked]).await.expect("told")[&asked], RECORDS);
            }
            let seen = stuck.len() as i64;
            drop(stuck);
            read_on(consumer, seen, i64::from(PARTITIONS) * RECORDS).await;
        },
    );
    assert!(heap.peak > BUDGET, "the budget was never used: {heap:?}");
    assert!(heap.peak <= BUDGET + HANDED_OUT + BESIDES, "{heap:?}");
}

/// The configuration that the documentation of `max_buffered_bytes` names for little memory.
#[test]
fn the_small_configuration_takes_less_than_sixteen_mebibytes() {
    const PARTITIONS: i32 = 1_000;
    let heap = reading(
        PARTITIONS,
        |builder| builder.max_buffered_bytes(2 * MIB).fetch_max_bytes(256 << 10),
        async |consumer| read_on(consumer, 0, i64::from(PARTITIONS) * RECORDS).await,
    );
    assert!(heap.peak < 16 * MIB, "{heap:?}");
}
