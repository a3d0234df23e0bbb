//! A consumer group from start to end: read, commit, close.
//!
//! Without arguments it starts an embedded broker and fills it; with `--bootstrap HOST:PORT` it reads the topic
//! `orders` of a real one, which must be there.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use ottla::{Consumer, Event, TopicPartition};
use ottla_broker::Broker;

const USAGE: &str = "\
Reads the topic orders in the group quickstart, commits and closes.

Usage: quickstart [--bootstrap HOST:PORT]

Without --bootstrap an embedded broker is started and a few hundred orders are written to it.
With it the topic must be there; nothing is written.";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const ORDERS: usize = 300;
/// How long a broker that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a group that is busy with its other members is waited for.
const BUSY_GROUP: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let bootstrap = match parse(std::env::args().skip(1)) {
        Ok(Some(bootstrap)) => bootstrap,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("quickstart: {text}; see quickstart --help");
            return ExitCode::from(2);
        }
    };
    match run(bootstrap).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The address of `--bootstrap`, if it is there; `Ok(None)`: help is asked for.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Option<String>>, String> {
    let mut bootstrap = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--bootstrap" => bootstrap = Some(arguments.next().ok_or("--bootstrap needs a value")?),
            other => match other.strip_prefix("--bootstrap=") {
                Some(address) => bootstrap = Some(address.to_owned()),
                None => return Err(format!("the argument {other:?} is not known")),
            },
        }
    }
    Ok(Some(bootstrap))
}

/// The error and its causes in one sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

async fn run(bootstrap: Option<String>) -> Result<(), Box<dyn std::error::Error>> {
    // The embedded broker lives as long as it is held.
    let (_broker, bootstrap) = match bootstrap {
        Some(bootstrap) => (None, bootstrap),
        None => {
            let broker = Broker::builder().topic(TOPIC, PARTITIONS).start().await?;
            for order in 0..ORDERS {
                let partition = (order % PARTITIONS as usize) as i32;
                broker.produce(TOPIC, partition, [format!("order {order}")])?;
            }
            let bootstrap = broker.bootstrap();
            println!("started an embedded broker on {bootstrap} and wrote {ORDERS} orders");
            (Some(broker), bootstrap)
        }
    };

    let mut consumer = Consumer::builder(&bootstrap)
        .group("quickstart")
        .subscribe([TOPIC])
        .connection_setup_timeout(PATIENCE / 2)
        .default_api_timeout(PATIENCE)
        .partition_eof(true) // a real consumer goes on for ever
        .connect()
        .await?;
    if consumer.partitions_of(TOPIC).await?.is_empty() {
        return Err(format!("the topic {TOPIC:?} does not exist on {bootstrap}").into());
    }
    println!("connected to {bootstrap}");

    let mut counts: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    // Whether each of our partitions was read to its end; other members of the group may have the others.
    let mut ends: BTreeMap<TopicPartition, bool> = BTreeMap::new();
    while ends.is_empty() || ends.values().any(|ended| !ended) {
        let event = if ends.is_empty() {
            let none = || format!("no partition of {TOPIC:?} became ours: are other members in the group?");
            tokio::time::timeout(BUSY_GROUP, consumer.next_event()).await.map_err(|_| none())?
        } else {
            consumer.next_event().await
        };
        match event? {
            Some(Event::Assigned(assigned)) => {
                println!("joined the group: {assigned:?} are ours");
                ends.extend(assigned.into_iter().map(|partition| (partition, false)));
            }
            Some(Event::Revoking(revocation)) => {
                ends.retain(|partition, _| !revocation.partitions().contains(partition));
            }
            Some(Event::Lost(lost)) => ends.retain(|partition, _| !lost.contains(partition)),
            Some(Event::Batch(batch)) => {
                *counts.entry(batch.topic_partition().clone()).or_default() += batch.len();
            }
            Some(Event::PartitionEof { topic_partition, offset }) => {
                println!("read {topic_partition} to its end at {offset}");
                ends.insert(topic_partition, true);
            }
            Some(_) => {}
            None => break,
        }
    }
    let total: usize = counts.values().sum();
    println!("read {total} orders: {counts:?}");

    // Automatic every few seconds and on close; here so that the result can be shown.
    consumer.commit_delivered().await?;
    for (partition, committed) in consumer.committed(ends.keys()).await? {
        match committed {
            Some(committed) => println!("committed {} for {partition}", committed.offset),
            None => println!("nothing to commit for {partition}"),
        }
    }
    consumer.close().await?;
    println!("left the group and closed");
    Ok(())
}
