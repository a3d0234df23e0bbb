//! Serves an embedded cluster to any Kafka client until standard input ends.
//!
//! `cargo run -p ottla-broker --example serve -- [brokers] [topic:partitions ...]`

use std::io::Read;

use ottla_broker::Broker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().map_or(Ok(1), |count| count.parse())?;
    let mut builder = Broker::builder().brokers(brokers).on_own_thread();
    for topic in arguments {
        let (name, partitions) = topic.split_once(':').unwrap_or((&topic, "1"));
        builder = builder.topic(name, partitions.parse()?);
    }
    let broker = builder.start().await?;
    println!("{}", broker.bootstrap());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    println!("{} requests served", broker.mark());
    Ok(())
}
