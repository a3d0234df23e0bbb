//! Work for an instruction counter: `reads WHAT AMOUNT` reads so many megabytes through a whole consumer, in `batches`
//! or as `records`, or lets so many seconds pass (`idle`), and prints how many reads and records that were. Of the reads,
//! only what is in the functions `counted_*` is the reader's. The difference of two runs is what the amount costs; that
//! of two builds is what a feature costs. `cargo xtask bench gate` runs it.
#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla::{Batch, Consumer, Error, Offset, Record, TopicPartition};
use ottla_broker::Broker;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const TOPIC: &str = "orders";
/// Wire batches of a megabyte, records of each, bytes of a value.
const BATCHES: u64 = 64;
const RECORDS: u64 = 140;
const VALUE_BYTES: usize = 100;
/// Records of a read, few, so that what each read costs is seen.
const MAX_BATCH_RECORDS: usize = 100;

/// One poll of a read: the counter knows it by this name.
#[inline(never)]
fn counted_batch(consumer: &mut Consumer) -> Poll<Result<Option<Batch>, Error>> {
    pin!(consumer.next_batch()).poll(&mut Context::from_waker(Waker::noop()))
}

/// The same for one record.
#[inline(never)]
fn counted_record(consumer: &mut Consumer) -> Poll<Result<Option<Record>, Error>> {
    pin!(consumer.next_record()).poll(&mut Context::from_waker(Waker::noop()))
}

fn main() -> Result<()> {
    // `cargo bench` adds an option of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let (what, amount) = match &arguments[..] {
        [] => ("batches", 1),
        [what, amount] => (what.as_str(), amount.parse()?),
        _ => return Err("what and how much".into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let (reads, records) = runtime.block_on(run(what, amount))?;
    println!("{reads} {records}");
    Ok(())
}

async fn run(what: &str, amount: u64) -> Result<(u64, u64)> {
    let broker = Arc::new(Broker::builder().in_memory().topic(TOPIC, 1).start().await?);
    let transport = broker.clone();
    let mut consumer = Consumer::builder(broker.bootstrap())
        .__connect_with(move |host, port| {
            let connected = transport.connect_in_memory(&host, port);
            async move { connected }
        })
        .__seed(1)
        .on_current_runtime()
        .max_batch_records(MAX_BATCH_RECORDS)
        .connect()
        .await?;
    consumer.assign([(TopicPartition::new(TOPIC, 0), Offset::Earliest)]).await?;
    let counts = match what {
        "idle" => {
            tokio::time::sleep(Duration::from_secs(amount)).await;
            (0, 0)
        }
        "batches" | "records" => {
            let total = fill(&broker, amount)?;
            let reading = read(&mut consumer, what == "records", total);
            (tokio::time::timeout(Duration::from_secs(60), reading).await??, total)
        }
        _ => return Err("batches, records or idle".into()),
    };
    consumer.close().await?;
    Ok(counts)
}

async fn read(consumer: &mut Consumer, single: bool, total: u64) -> Result<u64> {
    let (mut reads, mut records) = (0, 0);
    while records < total {
        let read = match single {
            true => counted_record(consumer).map_ok(|record| u64::from(black_box(record).is_some())),
            false => counted_batch(consumer).map_ok(|batch| black_box(batch).map_or(0, |b| b.len() as u64)),
        };
        match read {
            // The driver and the broker get their turn.
            Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
            Poll::Ready(count) => {
                reads += 1;
                records += count?;
            }
        }
    }
    Ok(reads)
}

fn fill(broker: &Broker, megabytes: u64) -> Result<u64> {
    for _ in 0..megabytes * BATCHES {
        broker.produce(TOPIC, 0, vec!["x".repeat(VALUE_BYTES); usize::try_from(RECORDS)?])?;
    }
    Ok(megabytes * BATCHES * RECORDS)
}
