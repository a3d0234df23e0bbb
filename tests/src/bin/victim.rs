//! A member that the suite kills: `victim BOOTSTRAP GROUP TOPIC PROTOCOL`.
//!
//! It commits its first batch, takes another one, says so as `PARTITION COMMITTED READ` (the next offsets of both), and
//! stays in the group until it is killed, or until its standard input ends with the process that started it.

use std::io::Read;
use std::time::Duration;

use ottla::{Commit, Consumer, GroupProtocol};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| arguments.next().ok_or_else(|| format!("{name} is missing"));
    let mut builder = Consumer::builder(argument("the bootstrap address")?)
        .client_id("victim")
        .group(argument("the group")?)
        .subscribe([argument("the topic")?])
        .commit(Commit::Manual)
        .max_batch_records(40);
    builder = match argument("the protocol")?.as_str() {
        "consumer" => builder.group_protocol(GroupProtocol::Consumer),
        _ => builder.session_timeout(Duration::from_secs(6)).heartbeat_interval(Duration::from_millis(300)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let in_hand = runtime.block_on(async {
        let mut consumer = builder.connect().await?;
        let first = consumer.next_batch().await?.ok_or("the end")?;
        consumer.commit(&first).await?;
        let second = loop {
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            if batch.partition() == first.partition() {
                break batch;
            }
        };
        println!("{} {} {}", first.partition(), first.next_offset(), second.next_offset());
        Ok::<_, Box<dyn std::error::Error>>((consumer, second))
    })?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(in_hand);
    Ok(())
}
