//! An embedded broker in memory, on the paused clock of the test.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part of it")]

use std::sync::Arc;
use std::time::Duration;

use ottla::{Builder, Consumer, GroupProtocol, TopicPartition};
use ottla_broker::{Api, Broker, Observed};

pub const TOPIC: &str = "orders";
pub const GROUP: &str = "billing";

pub fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// A cluster of one node without sockets.
pub async fn broker(partitions: i32) -> Arc<Broker> {
    Arc::new(Broker::builder().in_memory().topic(TOPIC, partitions).start().await.unwrap())
}

/// Appends records `from..to`, their values their numbers, round robin over the partitions.
pub fn produce(broker: &Broker, partitions: i32, numbers: std::ops::Range<i64>) {
    for partition in 0..partitions {
        let of_partition =
            numbers.clone().filter(|number| number % i64::from(partitions) == i64::from(partition));
        let records: Vec<String> = of_partition.map(|number| number.to_string()).collect();
        if !records.is_empty() {
            broker.produce(TOPIC, partition, records).unwrap();
        }
    }
}

/// A consumer of that cluster, driven by the test's runtime and its paused clock.
pub fn consumer(broker: &Arc<Broker>) -> Builder {
    let transport = broker.clone();
    Consumer::builder(broker.bootstrap())
        .__connect_with(move |host, port| {
            let connected = transport.connect_in_memory(&host, port);
            async move { connected }
        })
        .__seed(1)
        .on_current_runtime()
}

/// The same as a classic member of the group, with another seed for each.
pub fn member(broker: &Arc<Broker>, seed: u64) -> Builder {
    consumer(broker).__seed(seed).group(GROUP).group_protocol(GroupProtocol::Classic).subscribe([TOPIC])
}

pub fn number(value: Option<&[u8]>) -> i64 {
    std::str::from_utf8(value.unwrap()).unwrap().parse().unwrap()
}

/// Lets everything happen that happens without the clock moving far.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until the broker has answered a request of this API that came after `mark`.
pub async fn answered(broker: &Broker, mark: u64, api: Api) -> Observed {
    broker.wait_for_since(mark, |request| request.api == api && request.answered_at.is_some()).await
}
