//! What can be seen of a consumer: metrics, spans, and events about brokers, on virtual time and an embedded broker in
//! memory. `docs/observability.md` is compared with what is really there.

mod broker_events;
mod capture;
mod document;
mod figures;
mod page;
mod published;
mod recorder;
mod spans;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use ottla::{Builder, Consumer, Error, GroupProtocol, TopicPartition};
use ottla_broker::Broker;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// A cluster without sockets.
async fn broker(nodes: usize, partitions: i32) -> Arc<Broker> {
    capture::watch_everything();
    let builder = Broker::builder().in_memory().brokers(nodes).topic(TOPIC, partitions);
    Arc::new(builder.start().await.unwrap())
}

fn produce(broker: &Broker, partition: i32, records: usize) {
    broker.produce(TOPIC, partition, (0..records).map(|n| n.to_string())).unwrap();
}

/// A consumer of that cluster, driven by the test's runtime and its paused clock.
fn consumer(broker: &Arc<Broker>) -> Builder {
    let transport = broker.clone();
    Consumer::builder(broker.bootstrap())
        .__connect_with(move |host, port| {
            let connected = transport.connect_in_memory(&host, port);
            async move { connected }
        })
        .__seed(1)
        .on_current_runtime()
}

/// A classic one: its rebalances take the most.
fn member(broker: &Arc<Broker>) -> Builder {
    consumer(broker).group(GROUP).group_protocol(GroupProtocol::Classic).subscribe([TOPIC])
}

/// Reads so many records, and gives the last batch.
async fn read(consumer: &mut Consumer, records: usize) {
    let mut seen = 0;
    while seen < records {
        seen += consumer.next_batch().await.unwrap().expect("nobody shuts it down").len();
    }
    assert_eq!(seen, records);
}

/// Fetches that wait already were there before a fault: gives how many records come before the error.
async fn read_into_an_error(broker: &Broker, consumer: &mut Consumer, partition: i32) -> (usize, Error) {
    for before in 0..10 {
        produce(broker, partition, 1);
        match consumer.next_batch().await {
            Ok(batch) => assert_eq!(batch.expect("nobody shuts it down").len(), 1),
            Err(error) => return (before, error),
        }
    }
    panic!("there is no error")
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
