//! What a consumer asks of the heap while it reads, reader and driver together: nothing for a record, at most one
//! allocation for an uncompressed wire batch and two for a compressed one. This is the gate that always runs;
//! `cargo xtask bench` measures the same on real Kafka.

use std::sync::mpsc::channel;

use ottla::{Consumer, Offset, TopicPartition};
use ottla_broker::Broker;
use ottla_tests::heap::{Counting, Heap, measure};
use ottla_wire::records::{BatchWriter, Compression};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOPIC: &str = "steady";
const PARTITIONS: i32 = 6;
const BATCHES: i32 = 200;
/// What one pass may ask for besides: the assignment, and the requests and answers of its fetches.
const BESIDES: usize = 300;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn batch(records: i64, codec: Compression) -> Vec<u8> {
    let mut writer = BatchWriter::new().compression(codec);
    for index in 0..records {
        let value = format!(
            "{{\"id\":{index:08},\"user\":\"u{:05}\",\"status\":\"created\"}}",
            index * 7919 % 100_000
        );
        writer
            .append(index, Some(b"a key"), Some(value.as_bytes()), &[(b"trace", Some(b"x"))])
            .expect("it fits");
    }
    writer.finish().to_vec()
}

/// What the second pass over the topic asks for. The broker has a thread of its own, and the counts are per thread; the
/// driver shares that of the reader.
fn second_pass(records: i64, codec: Compression) -> Heap {
    let (started, address) = channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let broker = std::thread::spawn(move || {
        runtime().block_on(async {
            let broker = Broker::builder().topic(TOPIC, PARTITIONS).start().await.expect("a broker");
            let batch = batch(records, codec);
            for index in 0..PARTITIONS * BATCHES {
                broker.produce_batch(TOPIC, index % PARTITIONS, batch.clone()).expect("produced");
            }
            started.send(broker.bootstrap()).expect("the test waits");
            // Ends with an error when the test fails: the sender is dropped.
            let _ = stopped.await;
        });
    });
    let bootstrap = address.recv().expect("the broker starts");
    let runtime = runtime();
    let expected = records * i64::from(PARTITIONS * BATCHES);
    let mut consumer =
        runtime.block_on(Consumer::builder(bootstrap).on_current_runtime().connect()).expect("connected");
    let mut pass = || {
        runtime.block_on(async {
            let begin = (0..PARTITIONS).map(|p| (TopicPartition::new(TOPIC, p), Offset::At(0)));
            consumer.assign(begin).await.expect("assigned");
            let (mut seen, mut bytes) = (0, 0);
            while seen < expected {
                let batch = consumer.next_batch().await.expect("read").expect("nobody shuts it down");
                for record in &batch {
                    seen += 1;
                    bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                    bytes += record.headers().map(|(_, value)| value.map_or(0, <[u8]>::len)).sum::<usize>();
                }
            }
            assert_eq!(seen, expected);
            assert!(bytes > 0);
        });
    };
    pass();
    let ((), heap) = measure(pass);
    drop(consumer);
    drop(stop);
    broker.join().expect("the broker ends");
    heap
}

fn batches() -> usize {
    usize::try_from(PARTITIONS * BATCHES).expect("not negative")
}

#[test]
fn an_uncompressed_batch_is_one_allocation() {
    let heap = second_pass(100, Compression::None);
    assert!(heap.calls <= batches() + BESIDES, "{} batches: {heap:?}", batches());
}

#[test]
fn a_compressed_batch_is_two_allocations() {
    for codec in [Compression::Lz4, Compression::Snappy, Compression::Zstd, Compression::Gzip] {
        let heap = second_pass(100, codec);
        assert!(heap.calls <= 2 * batches() + BESIDES, "{codec:?}, {} batches: {heap:?}", batches());
    }
}

#[test]
fn a_record_is_none() {
    let (few, many) = (second_pass(10, Compression::Lz4), second_pass(300, Compression::Lz4));
    // Thirty times the records come in more answers.
    assert!(many.calls <= few.calls + BESIDES, "{few:?} {many:?}");
}
