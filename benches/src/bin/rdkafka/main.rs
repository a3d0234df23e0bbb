//! A run of librdkafka: `cargo xtask bench` starts it with a job.

mod special;

use std::ptr;
use std::time::{Duration, Instant};

use ottla_benches::{Job, Meter, Result, Touch};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

/// How long to wait for the next record before giving up.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let start = Instant::now();
    let mut meter = Meter::start(false);
    let job = Job::from_args()?;
    let special = match job.kind()? {
        "first" => Some(special::first(&job, start)?),
        "latency" => Some(special::latency(&job)?),
        "idle" => Some(special::idle(&job)?),
        "slow" => Some(special::slow(&job)?),
        "rebalance" => Some(special::rebalance(&job)?),
        _ => None,
    };
    if let Some(result) = special {
        println!("{result}");
        std::process::exit(0);
    }
    let touch = match job
        .client()?
        .trim_end_matches("-defaults")
        .trim_end_matches("-group")
        .trim_end_matches("-whole")
    {
        "rdkafka-base" => run::<BaseConsumer>(&job, &mut meter, base)?,
        "rdkafka-stream" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // It starts a task when it is made.
            let _entered = runtime.enter();
            run::<StreamConsumer>(&job, &mut meter, |consumer, meter, touch, end| {
                runtime.block_on(stream(consumer, meter, touch, end))
            })?
        }
        "rdkafka-batch" => run::<BaseConsumer>(&job, &mut meter, queue::batches)?,
        "rdkafka-callback" => run::<BaseConsumer>(&job, &mut meter, queue::callbacks)?,
        other => return Err(format!("there is no client {other:?}").into()),
    };
    println!("{}", meter.finish(&touch));
    // Its close takes a while and is not what is measured.
    std::process::exit(0);
}

fn config(job: &Job) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    let bytes = job.fetch_bytes()?.to_string();
    config
        .set("bootstrap.servers", job.bootstrap()?)
        .set("group.id", job.group().unwrap_or("bench"))
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_uncommitted")
        .set("check.crcs", "true")
        // Its default is a second in which nothing is fetched.
        .set("fetch.queue.backoff.ms", "5");
    if let Some(wait) = job.max_wait_ms() {
        config.set("fetch.wait.max.ms", wait.to_string());
    }
    if job.group().is_none() {
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    }
    if !job.client()?.ends_with("-defaults") {
        config.set("fetch.max.bytes", &bytes).set("fetch.message.max.bytes", &bytes);
        // Below `fetch.max.bytes`, as the configuration demands.
        config.set("message.max.bytes", "1000000");
    }
    Ok(config)
}

/// Reads the topic once without counting, then as often as the job says.
fn run<C>(
    job: &Job,
    meter: &mut Meter,
    mut read: impl FnMut(&C, &mut Meter, &mut Touch, u64) -> Result<()>,
) -> Result<Touch>
where
    C: Consumer + rdkafka::config::FromClientConfig,
{
    let consumer: C = config(job)?.create()?;
    let mut beginning = TopicPartitionList::new();
    for partition in 0..job.partitions()? {
        beginning.add_partition_offset(job.topic()?, partition, Offset::Offset(0))?;
    }
    if job.group().is_some() {
        consumer.subscribe(&[job.topic()?])?;
    }
    let mut touch = Touch::default();
    for pass in 0..=job.passes()? {
        if pass == 1 {
            meter.begin();
            touch = Touch::default();
        }
        if job.group().is_none() {
            consumer.assign(&beginning)?;
        } else if pass > 0 {
            consumer.seek_partitions(beginning.clone(), PATIENCE)?;
        }
        let end = touch.records + job.records()?;
        read(&consumer, meter, &mut touch, end)?;
    }
    Ok(touch)
}

fn base(consumer: &BaseConsumer, meter: &mut Meter, touch: &mut Touch, end: u64) -> Result<()> {
    while touch.records < end {
        let message = special::poll(consumer)?;
        meter.first_record();
        touch.record(message.key(), message.payload());
    }
    Ok(())
}

async fn stream(consumer: &StreamConsumer, meter: &mut Meter, touch: &mut Touch, end: u64) -> Result<()> {
    while touch.records < end {
        let message = consumer.recv().await.map_err(|e: KafkaError| e.to_string())?;
        meter.first_record();
        touch.record(message.key(), message.payload());
    }
    Ok(())
}

/// librdkafka's own ways to get many messages at a time, which the wrapper does not have.
mod queue {
    #![expect(unsafe_code, reason = "the C interface")]

    use std::ffi::c_void;
    use std::slice;

    use rdkafka_sys::bindings as sys;

    use super::*;

    const AT_A_TIME: usize = 10_000;

    fn patience() -> i32 {
        i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX)
    }

    /// # Safety
    /// `pointer` must hold `length` bytes, or be null.
    unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
        if pointer.is_null() {
            return None;
        }
        // SAFETY: the caller's promise.
        Some(unsafe { slice::from_raw_parts(pointer.cast(), length) })
    }

    /// # Safety
    /// `message` must be one of librdkafka that was not destroyed.
    unsafe fn look(message: *const sys::rd_kafka_message_t, touch: &mut Touch) {
        // SAFETY: the caller's promise; a message owns its key and payload.
        unsafe {
            let message = &*message;
            if message.err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                touch.record(bytes(message.key, message.key_len), bytes(message.payload, message.len));
            }
        }
    }

    /// `rd_kafka_consume_batch_queue`.
    pub(super) fn batches(
        consumer: &BaseConsumer,
        meter: &mut Meter,
        touch: &mut Touch,
        end: u64,
    ) -> Result<()> {
        let mut messages = vec![ptr::null_mut(); AT_A_TIME];
        // SAFETY: the client lives longer than the queue, each message is destroyed once and not used afterwards.
        unsafe {
            let queue = sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
            while touch.records < end {
                // It waits until it has as many as it is asked for.
                let wanted = messages.len().min(usize::try_from(end - touch.records)?);
                let count =
                    sys::rd_kafka_consume_batch_queue(queue, patience(), messages.as_mut_ptr(), wanted);
                let count = usize::try_from(count)?;
                if count == 0 {
                    return Err("nothing comes".into());
                }
                meter.first_record();
                for message in &messages[..count] {
                    look(*message, touch);
                    sys::rd_kafka_message_destroy(*message);
                }
            }
            sys::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }

    /// `rd_kafka_consume_callback_queue`.
    pub(super) fn callbacks(
        consumer: &BaseConsumer,
        meter: &mut Meter,
        touch: &mut Touch,
        end: u64,
    ) -> Result<()> {
        unsafe extern "C" fn callback(message: *mut sys::rd_kafka_message_t, opaque: *mut c_void) {
            // SAFETY: `opaque` is the `Touch` below, which nobody else uses during the call.
            unsafe { look(message, &mut *opaque.cast::<Touch>()) };
        }
        // SAFETY: the client lives longer than the queue; `touch` lives during each call and is used by it alone.
        unsafe {
            let queue = sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
            while touch.records < end {
                let opaque: *mut Touch = touch;
                let count =
                    sys::rd_kafka_consume_callback_queue(queue, patience(), Some(callback), opaque.cast());
                if count <= 0 {
                    return Err("nothing comes".into());
                }
                if touch.records > 0 {
                    meter.first_record();
                }
            }
            sys::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }
}
