//! Metrics of brokers that come, go and move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::set_default_local_recorder;
use ottla::{Consumer, Snapshot, Traffic};
use ottla_broker::{Api, Broker, ErrorCode, Fault};

use crate::recorder::Kept;
use crate::{TOPIC, broker, member, pass, produce, read};

const INTERVAL: Duration = Duration::from_millis(10);

type Of = fn(&Traffic) -> u64;

const COUNTERS: [(&str, Of); 6] = [
    ("kafka.consumer.connection_creation_total", |t| t.connects),
    ("kafka.consumer.connection_close_total", |t| t.disconnects),
    ("kafka.consumer.request_total", |t| t.requests),
    ("kafka.consumer.request_unanswered_total", |t| t.unanswered),
    ("kafka.consumer.outgoing_byte_total", |t| t.bytes_sent),
    ("kafka.consumer.incoming_byte_total", |t| t.bytes_received),
];

/// A snapshot around which nothing happened for some publications: both have the same to say.
async fn calm(consumer: &mut Consumer) -> Snapshot {
    for _ in 0..1000 {
        let before = consumer.snapshot().await.unwrap();
        pass(3 * INTERVAL).await;
        let after = consumer.snapshot().await.unwrap();
        if before.traffic == after.traffic {
            return after;
        }
    }
    panic!("there is no calm")
}

fn sums_are_those_of(kept: &Kept, snapshot: &Snapshot) {
    let published = COUNTERS.map(|(name, _)| (name, kept.sum(name, &[]) as u64));
    assert_eq!(published, COUNTERS.map(|(name, of)| (name, of(&snapshot.traffic))));
}

#[tokio::test(start_paused = true)]
async fn counters_are_exact_over_a_rebootstrap() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(2, 2).await;
    produce(&broker, 0, 10);
    let builder = member(&broker).metrics_interval(INTERVAL).metadata_max_age(Duration::from_secs(5));
    let mut consumer = builder.connect().await.unwrap();
    read(&mut consumer, 10).await;
    sums_are_those_of(&kept, &calm(&mut consumer).await);
    for _ in 0..2 {
        let line = broker.fault(Fault::on(Api::Metadata).times(1).error(ErrorCode::REBOOTSTRAP_REQUIRED));
        pass(Duration::from_secs(20)).await;
        assert_eq!(line.fired(), 1, "it begins anew");
        sums_are_those_of(&kept, &calm(&mut consumer).await);
    }
}

#[tokio::test(start_paused = true)]
async fn counters_are_exact_over_a_broker_that_changes_its_address() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let old = broker(1, 1).await;
    produce(&old, 0, 10);
    // The same cluster as far as a client can see, but for the host.
    let new = Broker::builder().in_memory().host("moved").brokers(1).topic(TOPIC, 1);
    let new = Arc::new(new.start().await.unwrap());
    assert_ne!(old.bootstrap(), new.bootstrap());
    let moved = Arc::new(AtomicBool::new(false));
    let (from, to, is_moved) = (old.clone(), new.clone(), moved.clone());
    let builder = member(&old).metrics_interval(INTERVAL).__connect_with(move |host, port| {
        // What was configured leads to the cluster wherever it is.
        let connected = match is_moved.load(Ordering::Relaxed) {
            false => from.connect_in_memory(&host, port),
            true => to.connect_in_memory(&host, port),
        };
        async move { connected }
    });
    let mut consumer = builder.connect().await.unwrap();
    read(&mut consumer, 10).await;
    sums_are_those_of(&kept, &calm(&mut consumer).await);
    moved.store(true, Ordering::Relaxed);
    old.stop_node(old.nodes()[0]).unwrap();
    pass(Duration::from_secs(30)).await;
    let snapshot = calm(&mut consumer).await;
    assert!(snapshot.brokers.iter().any(|b| b.id.is_some() && b.host == "moved"), "{:?}", snapshot.brokers);
    sums_are_those_of(&kept, &snapshot);
    assert!(kept.sum("kafka.consumer.request_total", &[("server.address", "moved")]) > 0.0);
}

#[tokio::test(start_paused = true)]
async fn brokers_beyond_the_limit_share_what_has_no_label() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(3, 3).await;
    (0..3).for_each(|partition| produce(&broker, partition, 10));
    let builder = member(&broker).metrics_interval(INTERVAL).__metrics_servers(1);
    let mut consumer = builder.connect().await.unwrap();
    read(&mut consumer, 30).await;
    consumer.commit_delivered().await.unwrap();
    pass(Duration::from_secs(10)).await;
    let snapshot = calm(&mut consumer).await;
    sums_are_those_of(&kept, &snapshot);
    let sum = |name: &str| kept.sum(&format!("kafka.consumer.{name}"), &[]);
    let connected: usize = snapshot.brokers.iter().map(|b| b.connected).sum();
    assert!(connected > 3);
    assert_eq!(sum("connection_count"), connected as f64);
    let in_flight: usize = snapshot.brokers.iter().map(|b| b.in_flight).sum();
    assert_eq!(sum("requests_in_flight"), in_flight as f64);
    let latencies = kept.recorded("kafka.consumer.request_latency", &[]).len() as u64;
    assert_eq!(latencies, snapshot.traffic.latency.count, "each request, whoever answered it");
    let fetch = [("messaging.operation.name", "fetch")];
    let fetches = kept.recorded("messaging.client.operation.duration", &fetch).len() as u64;
    assert_eq!(fetches, snapshot.fetch.count);
    for name in ["kafka.consumer.request_latency", "kafka.consumer.connection_count"] {
        let labelled: Vec<bool> =
            kept.series(name).iter().map(|s| s.labels.contains_key("server.port")).collect();
        assert_eq!(labelled, [false, true], "{name}: one with labels, one for all others");
    }
}
