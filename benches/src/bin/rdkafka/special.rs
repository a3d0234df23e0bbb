//! What is not throughput, as in `bench-client`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_benches::measure::{cpu, millis, peak_rss};
use ottla_benches::{Job, Latencies, Result, Touch};
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::{PATIENCE, config};

fn assigned(job: &Job, offset: i64) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..job.partitions()? {
        list.add_partition_offset(job.topic()?, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

/// The next message.
pub(crate) fn poll(consumer: &BaseConsumer) -> Result<BorrowedMessage<'_>> {
    let end = Instant::now() + PATIENCE;
    // It also returns when a rebalance was served.
    while Instant::now() < end {
        if let Some(message) = consumer.poll(PATIENCE) {
            return Ok(message?);
        }
    }
    Err("nothing comes".into())
}

pub(crate) fn first(job: &Job, start: Instant) -> Result<Value> {
    let consumer: BaseConsumer = config(job)?.create()?;
    consumer.subscribe(&[job.topic()?])?;
    poll(&consumer)?;
    Ok(json!({"first_record_ms": millis(start.elapsed())}))
}

pub(crate) fn latency(job: &Job) -> Result<Value> {
    let begin = assigned(job, i64::try_from(job.extra("begin", 0))?)?;
    let mut latencies = Latencies::new(job);
    let (user, system) = cpu();
    if job.client()? == "rdkafka-stream" {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let consumer: StreamConsumer = config(job)?.create()?;
            consumer.assign(&begin)?;
            while !latencies.is_full() {
                let message = consumer.recv().await.map_err(|e: KafkaError| e.to_string())?;
                latencies.record(message.payload());
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
    } else {
        let consumer: BaseConsumer = config(job)?.create()?;
        consumer.assign(&begin)?;
        while !latencies.is_full() {
            latencies.record(poll(&consumer)?.payload());
        }
    }
    let now = cpu();
    Ok(latencies.result(now.0 + now.1 - user - system))
}

pub(crate) fn idle(job: &Job) -> Result<Value> {
    let consumer: BaseConsumer = config(job)?.create()?;
    consumer.assign(&assigned(job, 0)?)?;
    let mut touch = Touch::default();
    while touch.records < job.records()? {
        let message = poll(&consumer)?;
        touch.record(message.key(), message.payload());
    }
    drop(consumer.poll(Duration::from_secs(2)));
    let (user, system) = cpu();
    let start = Instant::now();
    if consumer.poll(Duration::from_millis(job.extra("millis", 10_000))).is_some() {
        return Err("a record nobody wrote".into());
    }
    let now = cpu();
    let busy = now.0 + now.1 - user - system;
    Ok(json!({
        "cpu_percent": busy.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0,
        "rss_mib": peak_rss().map(|kib| kib as f64 / 1024.0),
    }))
}

/// Takes 100 records, about a batch, now and then.
pub(crate) fn slow(job: &Job) -> Result<Value> {
    let consumer: BaseConsumer = config(job)?.create()?;
    consumer.assign(&assigned(job, 0)?)?;
    let start = Instant::now();
    let time = Duration::from_millis(job.extra("millis", 5_000));
    let mut touch = Touch::default();
    while start.elapsed() < time {
        for _ in 0..100 {
            let message = poll(&consumer)?;
            touch.record(message.key(), message.payload());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(json!({"rss_mib": peak_rss().map(|kib| kib as f64 / 1024.0), "records": touch.records}))
}

pub(crate) fn rebalance(job: &Job) -> Result<Value> {
    let members = usize::try_from(job.extra("members", 50))?;
    let total = usize::try_from(job.partitions()?)?;
    let start = Instant::now();
    let mut group = (0..members).map(|_| Member::start(job)).collect::<Result<Vec<_>>>()?;
    balanced(&group, total)?;
    let formed = start.elapsed();
    let start = Instant::now();
    group.remove(0).stop();
    balanced(&group, total)?;
    let left = start.elapsed();
    let start = Instant::now();
    group.push(Member::start(job)?);
    balanced(&group, total)?;
    let joined = start.elapsed();
    Ok(json!({"formed_ms": millis(formed), "left_ms": millis(left), "joined_ms": millis(joined)}))
}

struct Member {
    consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Member {
    fn start(job: &Job) -> Result<Self> {
        let mut config = config(job)?;
        config.set("partition.assignment.strategy", "cooperative-sticky");
        let consumer: Arc<BaseConsumer> = Arc::new(config.create()?);
        consumer.subscribe(&[job.topic()?])?;
        let stop = Arc::new(AtomicBool::new(false));
        let (reader, stopped) = (Arc::clone(&consumer), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                drop(reader.poll(Duration::from_millis(5)));
            }
        });
        Ok(Self { consumer, stop, thread })
    }

    /// The last handle is dropped here, which leaves the group.
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }
}

fn balanced(group: &[Member], total: usize) -> Result<()> {
    loop {
        let owned = group.iter().map(|m| Ok(m.consumer.assignment()?.count())).collect::<Result<Vec<_>>>()?;
        let (least, most) = (owned.iter().min().unwrap_or(&0), owned.iter().max().unwrap_or(&0));
        if owned.iter().sum::<usize>() == total && most - least <= 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
