//! A consumer group from start to end: read, commit, close.
//!
//! Without arguments it starts an embedded broker and fills it; with `--bootstrap HOST:PORT` it reads the topic
//! `orders` of a real one.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use ottla::{Consumer, Event, TopicPartition};
use ottla_broker::Broker;

const USAGE: &str = "\
Reads the topic orders in the group quickstart, commits and closes.

Usage: quickstart [--bootstrap HOST:PORT]

Without --bootstrap an embedded broker is started and a few hundred orders are written to it.";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
const ORDERS: usize = 300;
/// How long a broker that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => None,
        (Some("--help" | "-h"), None, _) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        (Some("--bootstrap"), Some(address), None) => Some(address),
        (Some("--bootstrap"), None, _) => return wrong_usage("--bootstrap needs a value"),
        (Some(other), ..) => return wrong_usage(&format!("the argument {other:?} is not expected")),
    };
    match run(bootstrap).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("quickstart: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(text: &str) -> ExitCode {
    eprintln!("quickstart: {text}; see quickstart --help");
    ExitCode::from(2)
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
        .default_api_timeout(PATIENCE)
        .partition_eof(true) // a real consumer goes on for ever
        .connect()
        .await?;
    let partitions = consumer.partitions_of(TOPIC).await?;
    if partitions.is_empty() {
        return Err(format!("the topic {TOPIC:?} does not exist on {bootstrap}").into());
    }
    println!("connected to {bootstrap}");

    let mut counts: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    let mut unread: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
    while !unread.is_empty() {
        match consumer.next_event().await? {
            Some(Event::Assigned(assigned)) => println!("joined the group: {assigned:?} are ours"),
            Some(Event::Batch(batch)) => {
                *counts.entry(batch.topic_partition().clone()).or_default() += batch.len();
            }
            Some(Event::PartitionEof { topic_partition, offset }) => {
                println!("read {topic_partition} to its end at {offset}");
                unread.remove(&topic_partition);
            }
            Some(_) => {}
            None => break,
        }
    }
    let total: usize = counts.values().sum();
    println!("read {total} orders: {counts:?}");

    // Automatic every few seconds and on close; here so that the result can be shown.
    consumer.commit_delivered().await?;
    for (partition, committed) in consumer.committed(&partitions).await? {
        match committed {
            Some(committed) => println!("committed {} for {partition}", committed.offset),
            None => println!("nothing to commit for {partition}"),
        }
    }
    consumer.close().await?;
    println!("left the group and closed");
    Ok(())
}
