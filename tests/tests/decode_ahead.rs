//! Batches are decoded ahead of the reader on threads of their own: everything comes, in order, by batches and by single records; and the
//! threads end with their consumer. A binary of its own, because it looks at the threads of the process.

use std::collections::BTreeMap;

use ottla::{Consumer, Offset, TopicPartition};
use ottla_broker::Broker;
use ottla_wire::records::{BatchWriter, Compression};
use tokio::runtime::{Builder, Runtime};

const TOPIC: &str = "ahead";
const BATCHES: i64 = 120;
const RECORDS: i64 = 40;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A batch whose values say what their offsets will be.
fn batch(first: i64, codec: Compression) -> Vec<u8> {
    let mut writer = BatchWriter::new().compression(codec);
    for offset in first..first + RECORDS {
        let value = format!("{offset} {}", "some text that is not too short to be compressed ".repeat(8));
        writer.append(0, None, Some(value.as_bytes()), &[]).expect("it fits");
    }
    writer.finish().to_vec()
}

/// What was read, checked to be in order and nothing else.
#[derive(Default)]
struct Seen(BTreeMap<i32, i64>);

impl Seen {
    fn record(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        let next = self.0.entry(partition).or_default();
        assert_eq!(offset, *next, "partition {partition}");
        assert!(value.expect("a value").starts_with(format!("{offset} ").as_bytes()));
        *next += 1;
    }

    fn is_whole(&self, partitions: i32) -> bool {
        (0..partitions).all(|p| self.0.get(&p) == Some(&(BATCHES * RECORDS)))
    }
}

async fn broker(partitions: i32) -> Broker {
    let broker = Broker::builder().on_own_thread().topic(TOPIC, partitions).start().await.expect("a broker");
    let codecs =
        [Compression::Zstd, Compression::Lz4, Compression::None, Compression::Gzip, Compression::Snappy];
    for index in 0..BATCHES {
        let batch = batch(index * RECORDS, codecs[index as usize % codecs.len()]);
        for partition in 0..partitions {
            broker.produce_batch(TOPIC, partition, batch.clone()).expect("produced");
        }
    }
    broker
}

async fn consumer(broker: &Broker, partitions: i32) -> Consumer {
    // Little is fetched at a time, so that fetching, decoding and reading go on at the same time.
    let consumer = Consumer::builder(broker.bootstrap())
        .decode_threads(2)
        .fetch_max_bytes(40_000)
        .max_partition_fetch_bytes(20_000)
        .connect()
        .await
        .expect("connected");
    let all = (0..partitions).map(|p| (TopicPartition::new(TOPIC, p), Offset::Earliest));
    consumer.assign(all).await.expect("assigned");
    consumer
}

#[cfg(target_os = "linux")]
fn decoders() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    // A thread that ends while it is looked at has no name any more.
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().map(name).filter(|name| name.trim() == "ottla-decode").count()
}

#[cfg(target_os = "linux")]
fn wait_for_decoders(expected: usize) {
    let start = std::time::Instant::now();
    while decoders() != expected {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{} threads are left", decoders());
        std::thread::yield_now();
    }
}

/// On other systems what they end with is tested alone, in the driver.
#[cfg(not(target_os = "linux"))]
fn wait_for_decoders(_expected: usize) {}

#[test]
fn everything_comes_in_order_by_every_read_and_the_threads_end() {
    runtime().block_on(async {
        for partitions in [1, 4] {
            let broker = broker(partitions).await;
            let mut batches = consumer(&broker, partitions).await;
            wait_for_decoders(2);
            let mut seen = Seen::default();
            while !seen.is_whole(partitions) {
                let batch = batches.next_batch().await.expect("read").expect("nobody shuts it down");
                batch.iter().for_each(|r| seen.record(r.partition(), r.offset(), r.value()));
            }
            batches.close().await.expect("closed");
            wait_for_decoders(0);

            let mut records = consumer(&broker, partitions).await;
            let mut seen = Seen::default();
            while !seen.is_whole(partitions) {
                let r = records.next_record().await.expect("read").expect("nobody shuts it down");
                seen.record(r.partition(), r.offset(), r.value());
            }
            drop(records);
            wait_for_decoders(0);
        }
    });
}
