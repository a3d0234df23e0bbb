//! What is not throughput: latency, the first record, an idle consumer, a slow one, and a group that rebalances.

use std::time::{Duration, Instant};

use ottla::{Consumer, ConsumerHandle, Offset, TopicPartition};
use ottla_benches::measure::{cpu, millis, peak_rss};
use ottla_benches::{Job, Latencies, Result, Touch, alloc, floor};
use serde_json::{Value, json};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

fn partitions(job: &Job) -> Result<Vec<TopicPartition>> {
    let topic = job.topic()?;
    Ok((0..job.partitions()?).map(|p| TopicPartition::new(topic, p)).collect())
}

/// From the start of the process to the first record, in a group of one.
pub(crate) async fn first(job: &Job, start: Instant) -> Result<Value> {
    let mut consumer = crate::connect(job).await?;
    consumer.next_batch().await?.ok_or("shut down")?;
    let result = json!({"first_record_ms": millis(start.elapsed())});
    consumer.close().await?;
    Ok(result)
}

/// Each value begins with the time it was written at.
pub(crate) async fn latency(job: &Job) -> Result<Value> {
    if job.client()? == "floor" {
        let mut latencies = Latencies::new(job);
        let (user, system) = cpu();
        floor::latency(job, &mut latencies)?;
        let now = cpu();
        return Ok(latencies.result(now.0 + now.1 - user - system));
    }
    let mut consumer = crate::connect(job).await?;
    let begin = i64::try_from(job.extra("begin", 0))?;
    consumer.assign(partitions(job)?.into_iter().map(|p| (p, Offset::At(begin)))).await?;
    let mut latencies = Latencies::new(job);
    let (user, system) = cpu();
    if job.client()? == "ottla-record" {
        while !latencies.is_full() {
            let record = consumer.next_record().await?.ok_or("shut down")?;
            latencies.record(record.value());
        }
    } else {
        while !latencies.is_full() {
            let batch = consumer.next_batch().await?.ok_or("shut down")?;
            batch.iter().for_each(|record| latencies.record(record.value()));
        }
    }
    let now = cpu();
    Ok(latencies.result(now.0 + now.1 - user - system))
}

/// Reads everything, then waits where nothing comes.
pub(crate) async fn idle(job: &Job) -> Result<Value> {
    let mut consumer = crate::connect(job).await?;
    consumer.assign(partitions(job)?.into_iter().map(|p| (p, Offset::At(0)))).await?;
    let mut touch = Touch::default();
    while touch.records < job.records()? {
        let batch = consumer.next_batch().await?.ok_or("shut down")?;
        batch.iter().for_each(|record| touch.record(record.key(), record.value()));
    }
    // Whatever follows the last record is over by then.
    let _ = tokio::time::timeout(Duration::from_secs(2), consumer.next_batch()).await;
    let (allocations, live, (user, system)) = (alloc::allocations(), alloc::live(), cpu());
    let time = Duration::from_millis(job.extra("millis", 10_000));
    let start = Instant::now();
    if tokio::time::timeout(time, consumer.next_batch()).await.is_ok() {
        return Err("a record nobody wrote".into());
    }
    let now = cpu();
    let busy = now.0 + now.1 - user - system;
    Ok(json!({
        "cpu_percent": busy.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0,
        "allocations_per_s": (alloc::allocations() - allocations) as f64 / start.elapsed().as_secs_f64(),
        "growth_bytes": alloc::live() as f64 - live as f64,
        "rss_mib": peak_rss().map(|kib| kib as f64 / 1024.0),
    }))
}

/// Takes a batch now and then while much more waits.
pub(crate) async fn slow(job: &Job) -> Result<Value> {
    let mut consumer = crate::connect(job).await?;
    consumer.assign(partitions(job)?.into_iter().map(|p| (p, Offset::At(0)))).await?;
    let start = Instant::now();
    let time = Duration::from_millis(job.extra("millis", 5_000));
    let mut touch = Touch::default();
    alloc::reset_peak();
    while start.elapsed() < time {
        let batch = consumer.next_batch().await?.ok_or("shut down")?;
        batch.iter().for_each(|record| touch.record(record.key(), record.value()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(json!({
        "peak_heap_mib": alloc::peak() as f64 / (1 << 20) as f64,
        "rss_mib": peak_rss().map(|kib| kib as f64 / 1024.0),
        "records": touch.records,
    }))
}

/// A group of many members: until each has its part, until the others have that of one that left, and until one more
/// has its part.
pub(crate) async fn rebalance(job: &Job) -> Result<Value> {
    let members = usize::try_from(job.extra("members", 50))?;
    let total = usize::try_from(job.partitions()?)?;
    let mut group = Vec::new();
    let start = Instant::now();
    for _ in 0..members {
        group.push(Member::start(job).await?);
    }
    balanced(&group, total).await?;
    let formed = start.elapsed();
    let start = Instant::now();
    group.remove(0).stop().await?;
    balanced(&group, total).await?;
    let left = start.elapsed();
    let start = Instant::now();
    group.push(Member::start(job).await?);
    balanced(&group, total).await?;
    let joined = start.elapsed();
    for member in group {
        member.handle.shutdown();
    }
    Ok(json!({"formed_ms": millis(formed), "left_ms": millis(left), "joined_ms": millis(joined)}))
}

struct Member {
    handle: ConsumerHandle,
    task: tokio::task::JoinHandle<Result<(), ottla::Error>>,
}

impl Member {
    async fn start(job: &Job) -> Result<Self> {
        let mut consumer: Consumer = crate::connect(job).await?;
        let handle = consumer.handle();
        let task = tokio::spawn(async move {
            while consumer.next_batch().await?.is_some() {}
            consumer.close().await.map(drop)
        });
        Ok(Self { handle, task })
    }

    async fn stop(self) -> Result<()> {
        self.handle.shutdown();
        Ok(self.task.await??)
    }
}

/// Waits until all partitions are owned, and no member has two more than another.
async fn balanced(group: &[Member], total: usize) -> Result<()> {
    loop {
        let owned = group.iter().map(|m| Ok(m.handle.assignment()?.len())).collect::<Result<Vec<_>>>()?;
        let (least, most) = (owned.iter().min().unwrap_or(&0), owned.iter().max().unwrap_or(&0));
        if owned.iter().sum::<usize>() == total && most - least <= 1 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
