//! Metrics.

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{Unit, set_default_local_recorder};
use ottla::{Commit, Consumer};
use ottla_broker::{Api, ErrorCode, Fault};

use crate::recorder::Kept;
use crate::{TOPIC, broker, document, member, pass, produce, read, read_into_an_error, tp};

const INTERVAL: Duration = Duration::from_secs(5);

/// Everything that can be measured: a snapshot after it was published, and how many records were read.
async fn eventful(kept: &Kept) -> (ottla::Snapshot, f64) {
    let broker = broker(2, 2).await;
    produce(&broker, 0, 100);
    produce(&broker, 1, 50);
    let builder = member(&broker).client_id("counted").commit(Commit::Manual).max_batch_records(40);
    let mut consumer = builder.connect().await.unwrap();
    read(&mut consumer, 150).await;
    consumer.commit_delivered().await.unwrap();
    // A throttled fetch, a refused and an unanswered commit, an unreadable batch.
    broker.fault(Fault::on(Api::Fetch).throttle(Duration::from_secs(2)));
    broker.fault(Fault::on(Api::OffsetCommit).error(ErrorCode::REBALANCE_IN_PROGRESS));
    broker.fault(Fault::on(Api::OffsetCommit).close_connection());
    produce(&broker, 0, 7);
    read(&mut consumer, 7).await;
    consumer.commit_delivered().await.unwrap();
    broker.fault(Fault::on(Api::Fetch).partition(TOPIC, 0).corrupt(ottla_broker::Corruption::BatchCrc));
    let (more, error) = read_into_an_error(&broker, &mut consumer, 0).await;
    assert_eq!(error.topic_partition(), Some(&tp(0)));
    // A heartbeat or two, and time for the next publication.
    let before = kept.sum("kafka.consumer.heartbeat_total", &[]);
    let reading = async {
        while kept.sum("kafka.consumer.heartbeat_total", &[]) < before + 2.0 {
            let _ = tokio::time::timeout(Duration::from_secs(1), consumer.next_batch()).await;
        }
    };
    reading.await;
    let snapshot = settled(&mut consumer).await;
    consumer.close().await.unwrap();
    (snapshot, (157 + more) as f64)
}

/// What a calm consumer has nothing of: answers that take their time, a batch that is held, a pause, a broker that
/// throttles, and none that can be reached.
async fn troubled() {
    let broker = broker(1, 2).await;
    let slow = |api| broker.fault(Fault::on(api).delay(Duration::from_millis(20)));
    let _slow = [Api::JoinGroup, Api::Heartbeat, Api::OffsetCommit].map(slow);
    produce(&broker, 0, 20);
    let builder = member(&broker).client_id("troubled").metrics_interval(INTERVAL);
    let mut consumer = builder.connect().await.unwrap();
    // All that was fetched: what is handed out in part counts as buffered.
    let batch = consumer.next_batch().await.unwrap();
    consumer.pause([tp(1)]).await.unwrap();
    produce(&broker, 0, 5);
    pass(2 * INTERVAL).await;
    drop(batch);
    read(&mut consumer, 5).await;
    broker.fault(Fault::on(Api::Fetch).throttle(2 * INTERVAL));
    produce(&broker, 0, 20);
    read(&mut consumer, 20).await;
    pass(2 * INTERVAL).await;
    broker.stop_node(broker.nodes()[0]).unwrap();
    pass(2 * INTERVAL).await;
}

/// A snapshot after a publication.
async fn settled(consumer: &mut Consumer) -> ottla::Snapshot {
    pass(INTERVAL).await;
    consumer.snapshot().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_document_lists_the_metrics_that_are_there() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    eventful(&kept).await;
    troubled().await;
    let rows = document::table("## Metrics");
    let described = kept.described();
    let names = kept.names();
    let all: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(all.len(), rows.len(), "one row each");
    assert_eq!(all, described.keys().cloned().collect(), "what is documented, and what is described");
    assert_eq!(all, names.keys().cloned().collect(), "what is documented, and what is published");
    let common = ["messaging.system", "messaging.client.id", "messaging.consumer.group.name"];
    for row in rows {
        let [name, kind, unit, labels, meaning] = &row[..] else { panic!("{row:?}") };
        let (described_kind, described_unit, what) = &described[name];
        assert_eq!(kind, described_kind, "{name}");
        assert!(meaning.starts_with(what.trim_end_matches('.')), "{name}: {meaning:?} begins with {what:?}");
        let expected = match described_unit.unwrap() {
            Unit::Seconds => "s",
            Unit::Bytes => "By",
            _ => "1",
        };
        assert_eq!(unit, expected, "{name}");
        let mut labels = document::list(labels);
        labels.extend(common.map(str::to_owned));
        assert_eq!(labels, names[name], "{name}");
        assert!(kept.series(name).iter().all(|series| series.kind == kind), "{name}");
        let updates: usize = kept.series(name).iter().map(|series| series.updates).sum();
        assert!(updates > 0, "{name} is registered, and nothing is told of it but zero");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_held_and_who_throttles_is_told_and_taken_back() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(1, 1).await;
    produce(&broker, 0, 10);
    let mut consumer = member(&broker).metrics_interval(INTERVAL).connect().await.unwrap();
    let sum = |name: &str| kept.sum(&format!("kafka.consumer.{name}"), &[]);

    let batch = consumer.next_batch().await.unwrap().unwrap();
    pass(INTERVAL + Duration::from_secs(2)).await;
    let snapshot = consumer.snapshot().await.unwrap();
    assert!(snapshot.held_bytes > 0, "a batch is held");
    assert_eq!(sum("held_bytes"), snapshot.held_bytes as f64);
    let in_flight: usize = snapshot.brokers.iter().map(|broker| broker.in_flight).sum();
    assert_eq!((in_flight, sum("requests_in_flight")), (1, 1.0), "a fetch that waits");
    drop(batch);
    let times = || kept.recorded("messaging.process.duration", &[("messaging.destination.name", TOPIC)]);
    assert!(times().is_empty(), "it has not come back");
    produce(&broker, 0, 10);
    read(&mut consumer, 10).await;
    let [time] = times()[..] else { panic!("{:?}", times()) };
    assert!((time - 7.0).abs() < 0.01, "worked on for seven seconds: {time}");

    broker.fault(Fault::on(Api::Fetch).throttle(4 * INTERVAL));
    produce(&broker, 0, 10);
    read(&mut consumer, 10).await;
    let _ = tokio::time::timeout(Duration::from_millis(10), consumer.next_batch()).await;
    pass(2 * INTERVAL).await;
    assert_eq!((sum("held_bytes"), sum("throttled_brokers")), (0.0, 1.0));
    pass(8 * INTERVAL).await;
    assert_eq!(sum("throttled_brokers"), 0.0);

    let open = sum("connection_count");
    assert_eq!((open, sum("connection_close_total")), (3.0, sum("connection_creation_total") - 3.0));
    let closed = sum("connection_close_total");
    broker.stop_node(broker.nodes()[0]).unwrap();
    pass(INTERVAL).await;
    assert_eq!((sum("connection_count"), sum("requests_in_flight")), (0.0, 0.0));
    assert!(sum("connection_close_total") >= closed + open, "those that were open, and what was tried since");
}

#[tokio::test(start_paused = true)]
async fn metrics_are_the_figures_of_the_snapshot() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let (snapshot, read) = eventful(&kept).await;
    // The consumer has closed since, which sends requests; what was read is what it was.
    let sum = |name: &str| kept.sum(name, &[]);
    assert_eq!(sum("messaging.client.consumed.messages"), read);
    assert_eq!(sum("messaging.client.consumed.messages"), snapshot.records as f64);
    assert_eq!(sum("kafka.consumer.bytes_consumed_total"), snapshot.bytes as f64);
    let of_orders = [("messaging.destination.name", "orders"), ("messaging.operation.name", "poll")];
    assert_eq!(kept.sum("messaging.client.consumed.messages", &of_orders), read);
    assert_eq!(sum("kafka.consumer.errors_total"), 1.0);
    assert_eq!(kept.sum("kafka.consumer.errors_total", &[("error.type", "corrupt")]), 1.0);
    assert_eq!(snapshot.errors, [(ottla::ErrorKind::Corrupt, 1)]);

    // Histograms have each time that counters count.
    let group = snapshot.group.as_ref().unwrap();
    let recorded = |name: &str, labels: &[(&str, &str)]| kept.recorded(name, labels);
    let commit = [("messaging.operation.name", "commit"), ("messaging.operation.type", "settle")];
    let commits = recorded("messaging.client.operation.duration", &commit);
    assert_eq!(
        commits.len() as f64,
        sum("kafka.consumer.commit_total") + 1.0,
        "and the one without an answer"
    );
    let failed = |error| recorded("messaging.client.operation.duration", &[("error.type", error)]).len();
    assert_eq!((failed("REBALANCE_IN_PROGRESS"), failed("transport")), (1, 1));
    assert_eq!(sum("kafka.consumer.commit_failures_total"), 2.0);
    assert_eq!(snapshot.commits_failed, 2);
    let fetch = [("messaging.operation.name", "fetch"), ("messaging.operation.type", "receive")];
    let fetches = recorded("messaging.client.operation.duration", &fetch);
    assert_eq!(fetches.len() as f64, sum("kafka.consumer.fetch_total"));
    let longest = fetches.iter().copied().fold(0.0, f64::max);
    assert!((0.4..3.0).contains(&longest), "a long poll takes half a second: {longest}");
    let heartbeats = recorded("kafka.consumer.heartbeat_response_time", &[]);
    assert_eq!(heartbeats.len() as f64, sum("kafka.consumer.heartbeat_total"));
    let rebalances = recorded("kafka.consumer.rebalance_latency", &[]);
    assert_eq!(
        (rebalances.len() as u64, sum("kafka.consumer.rebalance_total")),
        (group.rebalance.count, group.rebalances as f64)
    );
    assert!((rebalances.iter().sum::<f64>() - group.rebalance.sum.as_secs_f64()).abs() < 1e-6);
    assert_eq!(recorded("kafka.consumer.throttle_time", &[]), [2.0]);
    assert_eq!(snapshot.traffic.throttled, Duration::from_secs(2));
    let processed = recorded("messaging.process.duration", &[("messaging.destination.name", "orders")]);
    assert!(processed.len() >= 5, "150 records in batches of 40: {processed:?}");

    // Everything that was written and read, whichever broker it was, closing included.
    let requests = recorded("kafka.consumer.request_latency", &[]).len() as f64;
    let unanswered = sum("kafka.consumer.request_unanswered_total");
    assert!(unanswered >= 1.0 && sum("kafka.consumer.request_total") >= requests + unanswered);
    assert!(sum("kafka.consumer.incoming_byte_total") >= snapshot.traffic.bytes_received as f64);
    assert!(sum("kafka.consumer.outgoing_byte_total") >= snapshot.traffic.bytes_sent as f64);
    assert!(sum("kafka.consumer.connection_creation_total") >= snapshot.traffic.connects as f64);
    assert_eq!(sum("kafka.consumer.connection_close_total"), sum("kafka.consumer.connection_creation_total"));

    // A consumer that is closed leaves no gauge behind.
    for (name, _) in kept.names() {
        for series in kept.series(&name).iter().filter(|series| series.kind == "gauge") {
            assert!(series.value.abs() < 1e-9, "{name}: {series:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn gauges_follow_the_consumer_and_add_up() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(1, 4).await;
    for partition in 0..4 {
        produce(&broker, partition, 100);
    }
    // Two consumers with the same labels; the lag of three partitions each may have a label.
    let builder = || member(&broker).metrics_interval(INTERVAL).metrics_partitions(3).max_batch_records(10);
    let mut one = builder().__seed(1).connect().await.unwrap();
    read(&mut one, 10).await;
    pass(2 * INTERVAL).await;
    let sum = |name: &str| kept.sum(&format!("kafka.consumer.{name}"), &[]);
    let snapshot = one.snapshot().await.unwrap();
    assert_eq!(sum("assigned_partitions"), 4.0);
    assert_eq!((sum("records_lag_sum"), sum("records_lag_max")), (390.0, 100.0));
    assert_eq!(kept.series("kafka.consumer.records_lag").len(), 3, "no more labels than allowed");
    assert_eq!(sum("buffered_records"), 390.0);
    let buffered: usize = snapshot.partitions.iter().map(|p| p.buffered_records).sum();
    assert_eq!(buffered, 390);
    assert_eq!(sum("buffered_bytes"), snapshot.buffered_bytes as f64);
    assert!(sum("reader_away_time") >= INTERVAL.as_secs_f64(), "something waits for the reader");
    assert!(sum("connection_count") >= 2.0, "{}", sum("connection_count"));
    one.pause([tp(0)]).await.unwrap();

    let mut two = builder().__seed(2).connect().await.unwrap();
    let both = async {
        loop {
            tokio::select! {
                batch = one.next_batch() => drop(batch.unwrap().unwrap()),
                batch = two.next_batch() => drop(batch.unwrap().unwrap()),
                () = pass(4 * INTERVAL) => break,
            }
        }
    };
    both.await;
    assert_eq!(sum("assigned_partitions"), 4.0, "two each");
    let left: i64 = {
        let [one, two] = [one.snapshot().await.unwrap(), two.snapshot().await.unwrap()];
        let paused = |s: &ottla::Snapshot| s.partitions.iter().filter(|p| p.paused).count();
        assert_eq!(sum("paused_partitions"), (paused(&one) + paused(&two)) as f64);
        one.partitions.iter().chain(&two.partitions).filter_map(|p| p.lag).sum()
    };
    assert_eq!(sum("records_lag_sum"), left as f64);
    assert_eq!(sum("reader_away_time"), 0.0);
    two.close().await.unwrap();
    drop(one);
    pass(INTERVAL).await;
    assert_eq!(
        (sum("assigned_partitions"), sum("records_lag_sum"), sum("connection_count")),
        (0.0, 0.0, 0.0)
    );
}

#[tokio::test(start_paused = true)]
async fn brokers_that_are_down_are_a_gauge() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(1, 1).await;
    produce(&broker, 0, 1);
    let mut consumer = member(&broker).metrics_interval(INTERVAL).connect().await.unwrap();
    read(&mut consumer, 1).await;
    let down = || kept.sum("kafka.consumer.brokers_down", &[]);
    pass(INTERVAL).await;
    assert_eq!(down(), 0.0);
    broker.stop_node(broker.nodes()[0]).unwrap();
    pass(2 * INTERVAL).await;
    assert_eq!(down(), 1.0);
    broker.start_node(broker.nodes()[0]).unwrap();
    pass(2 * INTERVAL).await;
    assert_eq!(down(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_zero_publishes_nothing() {
    let kept = Kept::default();
    let _guard = set_default_local_recorder(&kept);
    let broker = broker(1, 1).await;
    produce(&broker, 0, 10);
    let mut consumer = member(&broker).metrics_interval(Duration::ZERO).connect().await.unwrap();
    read(&mut consumer, 10).await;
    pass(Duration::from_secs(60)).await;
    let _ = tokio::time::timeout(INTERVAL, consumer.next_batch()).await;
    consumer.close().await.unwrap();
    assert!(kept.names().is_empty(), "{:?}", kept.names());
}
