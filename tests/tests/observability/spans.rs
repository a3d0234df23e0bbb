//! Spans and events of `tracing`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_core::Stream;
use ottla::{Commit, Consumer, Error};
use ottla_broker::{Api, ErrorCode, Fault};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_default;

use crate::capture::{Capture, Seen};
use crate::{broker, document, member, pass, produce, read};

fn fields(seen: &Seen) -> BTreeMap<&str, &str> {
    seen.fields.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_polled_processed_and_committed() {
    let capture = Capture::new(LevelFilter::DEBUG);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 1).await;
    produce(&broker, 0, 5);
    let builder = member(&broker).client_id("spy").commit(Commit::Manual).max_batch_records(3);
    let mut consumer = builder.connect().await.unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let polls = capture.spans("poll");
    let [poll] = &polls[..] else { panic!("{polls:?}") };
    assert!(poll.closed && poll.level == Level::DEBUG);
    let common = [
        ("messaging.system", "kafka"),
        ("messaging.client.id", "spy"),
        ("messaging.consumer.group.name", "billing"),
        ("messaging.destination.name", "orders"),
        ("messaging.destination.partition.id", "0"),
        ("messaging.batch.message_count", "3"),
        ("messaging.kafka.offset", "0"),
    ];
    let with = |more: [(&'static str, &'static str); 3]| common.into_iter().chain(more).collect();
    let expected: BTreeMap<_, _> = with([
        ("otel.kind", "client"),
        ("messaging.operation.name", "poll"),
        ("messaging.operation.type", "receive"),
    ]);
    assert_eq!(fields(poll), expected);

    let processes = capture.spans("process");
    let [process] = &processes[..] else { panic!("{processes:?}") };
    assert!(!process.closed, "it has not come back");
    let expected: BTreeMap<_, _> = with([
        ("otel.kind", "consumer"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
    ]);
    assert_eq!(fields(process), expected);

    // Where the reset policy began is committed at once.
    let reset = capture.spans("commit").len();
    consumer.commit(&batch).await.unwrap();
    let commits = capture.spans("commit").split_off(reset);
    let [commit] = &commits[..] else { panic!("{commits:?}") };
    assert!(commit.closed && commit.level == Level::DEBUG && commit.within.is_empty());
    let said = fields(commit);
    assert_eq!((said["messaging.operation.name"], said["messaging.operation.type"]), ("commit", "settle"));
    assert_eq!((said["messaging.batch.message_count"], said["messaging.client.id"]), ("1", "spy"));
    assert!(said.contains_key("server.address") && said.contains_key("server.port"), "{said:?}");
    assert!(!said.contains_key("error.type"));

    broker.fault(Fault::on(Api::OffsetCommit).error(ErrorCode::REBALANCE_IN_PROGRESS));
    drop(batch);
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert!(capture.spans("process")[0].closed, "it came back");
    consumer.commit(&batch).await.unwrap();
    let commits = capture.spans("commit").split_off(reset);
    let errors: Vec<_> = commits.iter().map(|commit| commit.get("error.type").map(str::to_owned)).collect();
    assert_eq!(errors, [None, Some("REBALANCE_IN_PROGRESS".to_owned()), None], "it was sent again");
    drop(batch);
    consumer.close().await.unwrap();
    let open: Vec<Seen> = capture.seen().into_iter().filter(|seen| seen.span && !seen.closed).collect();
    assert!(open.is_empty(), "nothing is left open: {open:?}");
}

#[tokio::test(start_paused = true)]
async fn connections_and_rebalances_have_spans() {
    let capture = Capture::new(LevelFilter::DEBUG);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 3).await;
    broker.fault(Fault::on(Api::ApiVersions).close_connection());
    produce(&broker, 0, 1);
    let mut consumer = member(&broker).connect().await.unwrap();
    read(&mut consumer, 1).await;
    let connects = capture.spans("connect");
    assert!(connects.len() >= 4, "one that failed, and one for each use: {connects:?}");
    assert_eq!(connects[0].get("error.type"), Some("transport"));
    assert!(connects[1..].iter().all(|connect| connect.closed && connect.get("error.type").is_none()));
    let roles: BTreeSet<_> = connects.iter().filter_map(|c| c.get("kafka.connection.role")).collect();
    assert_eq!(roles, ["Control", "Fetch", "Group"].into());
    assert!(connects.iter().all(|c| c.level == Level::DEBUG && c.get("server.address").is_some()));

    let rebalances = capture.spans("rebalance");
    let [rebalance] = &rebalances[..] else { panic!("{rebalances:?}") };
    assert!(rebalance.closed && rebalance.level == Level::INFO);
    assert_eq!(rebalance.get("messaging.consumer.group.name"), Some("billing"));
    assert_eq!(rebalance.get("kafka.group.generation_id"), Some("1"));
    let stands = capture.events().into_iter().find(|e| e.name == "the assignment stands").expect("an event");
    assert_eq!((stands.level, &stands.within[..]), (Level::INFO, &["rebalance".to_owned()][..]));
    assert_eq!(stands.get("partitions"), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn what_a_task_of_a_partition_logs_is_within_its_span() {
    let capture = Capture::new(LevelFilter::INFO);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 2).await;
    produce(&broker, 0, 3);
    produce(&broker, 1, 3);
    let mut consumer = member(&broker).connect().await.unwrap();
    let handle = consumer.handle();
    let handled = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    consumer
        .run_partitioned(|mut partition| {
            let (handle, handled) = (handle.clone(), handled.clone());
            async move {
                while let Some(batch) = partition.next_batch().await? {
                    tokio::task::yield_now().await;
                    tracing::info!(target: "ottla_user", records = batch.len(), "handled");
                    if handled.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                        handle.shutdown();
                    }
                }
                Ok::<_, Error>(())
            }
        })
        .await
        .unwrap();
    let events: Vec<Seen> = capture.events().into_iter().filter(|e| e.target == "ottla_user").collect();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.within == ["partition"]), "{events:?}");
    let spans = capture.spans("partition");
    let partitions: BTreeSet<_> =
        spans.iter().filter_map(|span| span.get("messaging.destination.partition.id")).collect();
    assert_eq!(partitions, ["0", "1"].into());
    assert!(spans.iter().all(|span| span.closed && span.level == Level::INFO), "{spans:?}");
    assert!(capture.spans("poll").is_empty(), "below INFO");
}

#[tokio::test(start_paused = true)]
async fn single_records_cost_a_span_for_each_strip_and_none_each() {
    let capture = Capture::new(LevelFilter::DEBUG);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 1).await;
    produce(&broker, 0, 1_000);
    let mut consumer = member(&broker).connect().await.unwrap();
    let mut records = std::pin::pin!(consumer.records());
    for _ in 0..1_000 {
        std::future::poll_fn(|cx| records.as_mut().poll_next(cx)).await.unwrap().unwrap();
    }
    let polls = capture.spans("poll");
    assert!(polls.len() < 60, "{} spans for a thousand records", polls.len());
    assert_eq!(polls[0].get("messaging.kafka.offset"), Some("0"));
    assert!(capture.spans("process").is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_info_a_consumer_that_works_is_calm() {
    let capture = Capture::new(LevelFilter::INFO);
    let _guard = set_default(capture.clone());
    let broker = broker(2, 2).await;
    let mut consumer = member(&broker).connect().await.unwrap();
    produce(&broker, 0, 1);
    read(&mut consumer, 1).await;
    let begun = capture.events().len();
    assert!(begun <= 5, "{:?}", capture.events());
    for _ in 0..100 {
        produce(&broker, 0, 10);
        produce(&broker, 1, 10);
        read(&mut consumer, 20).await;
        pass(Duration::from_secs(10)).await;
    }
    assert_eq!(capture.events().len(), begun, "{:?}", capture.events());
    // What is worth a line has one: once, however often it is tried again.
    broker.fault(Fault::on(Api::Fetch).times(20).throttle(Duration::from_secs(1)));
    pass(Duration::from_secs(60)).await;
    broker.nodes().into_iter().for_each(|node| broker.stop_node(node).unwrap());
    pass(Duration::from_secs(60)).await;
    broker.nodes().into_iter().for_each(|node| broker.start_node(node).unwrap());
    produce(&broker, 0, 1);
    read(&mut consumer, 1).await;
    let lines: Vec<String> = capture.events()[begun..].iter().map(|event| event.name.clone()).collect();
    let count = |line: &str| lines.iter().filter(|found| *found == line).count();
    assert_eq!(count("all brokers are down"), 1, "{lines:?}");
    assert_eq!(count("a broker can be reached again"), 1, "{lines:?}");
    let throttled = count("throttled by the broker");
    assert!((1..=2).contains(&throttled), "for each of two brokers once: {lines:?}");
    assert_eq!(count("not throttled by the broker any more"), throttled, "{lines:?}");
    assert!(lines.len() < 20, "{lines:?}");
}

/// A run with everything that has a span.
async fn everything() -> Capture {
    let capture = Capture::new(LevelFilter::DEBUG);
    let _guard = set_default(capture.clone());
    let broker = broker(1, 1).await;
    produce(&broker, 0, 1);
    let mut consumer: Consumer = member(&broker).connect().await.unwrap();
    read(&mut consumer, 1).await;
    consumer.commit_delivered().await.unwrap();
    let handle = consumer.handle();
    let run = consumer.run_partitioned(|mut partition| {
        handle.shutdown();
        async move {
            while partition.next_batch().await?.is_some() {}
            Ok::<_, Error>(())
        }
    });
    run.await.unwrap();
    consumer.close().await.unwrap();
    capture
}

#[tokio::test(start_paused = true)]
async fn the_document_lists_the_spans_that_are_there() {
    let capture = everything().await;
    let mut seen: BTreeMap<String, (Level, BTreeSet<String>)> = BTreeMap::new();
    for span in capture.seen().into_iter().filter(|seen| seen.span && seen.target.starts_with("ottla")) {
        if span.target.starts_with("ottla_broker") {
            continue;
        }
        let fields = span.fields.keys().cloned().collect();
        let before = seen.insert(span.name.clone(), (span.level, fields));
        assert!(before.is_none_or(|before| before == seen[&span.name]), "{span:?}");
    }
    let common: BTreeSet<String> = ["messaging.system", "messaging.client.id"].map(str::to_owned).into();
    let mut rows = BTreeMap::new();
    for row in document::table("## Spans") {
        let [name, level, _, attributes] = &row[..] else { panic!("{row:?}") };
        let mut attributes = document::list(attributes);
        attributes.extend(common.clone());
        rows.insert(name.clone(), (level.parse::<Level>().unwrap(), attributes));
    }
    assert_eq!(rows, seen);
}
