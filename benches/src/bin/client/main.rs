//! A run of ottla or of the floor: `cargo xtask bench` starts it with a job.

mod special;

use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_core::Stream;
use ottla::{Consumer, Offset, TopicPartition};
use ottla_benches::{Job, Meter, Result, Touch, floor};

#[global_allocator]
static ALLOCATOR: ottla_benches::alloc::Counting = ottla_benches::alloc::Counting;

fn main() -> Result<()> {
    let start = Instant::now();
    let mut meter = Meter::start(true);
    let job = Job::from_args()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let special = match job.kind()? {
        "first" => Some(runtime.block_on(special::first(&job, start))?),
        "latency" => Some(runtime.block_on(special::latency(&job))?),
        "idle" => Some(runtime.block_on(special::idle(&job))?),
        "slow" => Some(runtime.block_on(special::slow(&job))?),
        "rebalance" => Some(runtime.block_on(special::rebalance(&job))?),
        _ => None,
    };
    if let Some(result) = special {
        println!("{result}");
        return Ok(());
    }
    let touch = match job.client()? {
        "floor" => floor::blocking(&job, &mut meter)?,
        "floor-tokio" => runtime.block_on(floor::tokio(&job, &mut meter))?,
        _ => runtime.block_on(throughput(&job, &mut meter))?,
    };
    println!("{}", meter.finish(&touch));
    Ok(())
}

/// Which read of ottla.
#[derive(Clone, Copy)]
enum Read {
    Batch,
    Record,
    Stream,
}

async fn connect(job: &Job) -> Result<Consumer> {
    let mut builder = Consumer::builder(job.bootstrap()?)
        .fetch_max_bytes(job.fetch_bytes()?)
        .max_partition_fetch_bytes(job.fetch_bytes()?);
    if let Some(wait) = job.max_wait_ms() {
        builder = builder.fetch_max_wait(Duration::from_millis(wait));
    }
    if let Some(group) = job.group() {
        builder = builder.group(group).subscribe([job.topic()?]);
    }
    if job.client()?.ends_with("-inline") {
        builder = builder.on_current_runtime();
    }
    if job.client()? == "ottla-batch-whole" {
        builder = builder.decode_threads(0);
    }
    Ok(builder.connect().await?)
}

/// Reads the topic once without counting, then as often as the job says.
async fn throughput(job: &Job, meter: &mut Meter) -> Result<Touch> {
    let client = job.client()?;
    let read = match ["-inline", "-group", "-whole"].iter().fold(client, |c, end| c.trim_end_matches(end)) {
        "ottla-batch" | "ottla-ahead" => Read::Batch,
        "ottla-record" => Read::Record,
        "ottla-stream" => Read::Stream,
        other => return Err(format!("there is no client {other:?}").into()),
    };
    let mut consumer = connect(job).await?;
    let topic = job.topic()?;
    let partitions: Vec<_> = (0..job.partitions()?).map(|p| TopicPartition::new(topic, p)).collect();
    let mut touch = Touch::default();
    for pass in 0..=job.passes()? {
        if pass == 1 {
            meter.begin();
            touch = Touch::default();
        }
        if job.group().is_none() {
            consumer.assign(partitions.iter().map(|p| (p.clone(), Offset::At(0)))).await?;
        } else if pass > 0 {
            for partition in &partitions {
                consumer.handle().seek(partition, Offset::At(0)).await?;
            }
        }
        let end = touch.records + job.records()?;
        match read {
            Read::Batch => batches(&mut consumer, meter, &mut touch, end).await?,
            Read::Record => records(&mut consumer, meter, &mut touch, end).await?,
            Read::Stream => stream(&mut consumer, meter, &mut touch, end).await?,
        }
    }
    Ok(touch)
}

async fn batches(consumer: &mut Consumer, meter: &mut Meter, touch: &mut Touch, end: u64) -> Result<()> {
    while touch.records < end {
        let batch = consumer.next_batch().await?.ok_or("shut down")?;
        meter.first_record();
        for record in &batch {
            touch.record(record.key(), record.value());
        }
    }
    Ok(())
}

async fn records(consumer: &mut Consumer, meter: &mut Meter, touch: &mut Touch, end: u64) -> Result<()> {
    while touch.records < end {
        let record = consumer.next_record().await?.ok_or("shut down")?;
        meter.first_record();
        touch.record(record.key(), record.value());
    }
    Ok(())
}

async fn stream(consumer: &mut Consumer, meter: &mut Meter, touch: &mut Touch, end: u64) -> Result<()> {
    let mut records = pin!(consumer.records());
    while touch.records < end {
        let record = poll_fn(|cx| records.as_mut().poll_next(cx)).await.ok_or("shut down")??;
        meter.first_record();
        touch.record(record.key(), record.value());
    }
    Ok(())
}
