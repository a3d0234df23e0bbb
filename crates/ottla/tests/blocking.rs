//! Calls that block, without a runtime and inside of one. Over TCP, on real time.

use std::thread;
use std::time::Duration;

use ottla::blocking::{Consumer, Waited};
use ottla::{Builder, Commit, ErrorKind, Event, Offset, TopicPartition};
use ottla_broker::Broker;

const MOMENT: Duration = Duration::from_millis(20);
/// Against hanging only.
const LONG: Duration = Duration::from_secs(60);

fn broker() -> Broker {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Broker::builder().topic("orders", 1).on_own_thread().start()).unwrap()
}

fn numbers(range: std::ops::Range<i32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn member(broker: &Broker) -> Builder {
    ottla::Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"])
}

fn tp() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

#[test]
fn it_reads_commits_asks_and_closes_without_a_runtime() {
    let broker = broker();
    broker.produce("orders", 0, numbers(0..10)).unwrap();
    let mut consumer = Consumer::connect(member(&broker).commit(Commit::Manual)).unwrap();
    let record = consumer.next_record().unwrap().unwrap();
    consumer.commit(&record).unwrap();
    assert_eq!(consumer.committed([tp()]).unwrap()[&tp()].as_ref().map(|c| c.offset), Some(1));
    assert_eq!(consumer.beginning_offsets([tp()]).unwrap()[&tp()], 0);
    assert_eq!(consumer.end_offsets([tp()]).unwrap()[&tp()], 10);
    assert_eq!(consumer.offsets_for_times([(tp(), 0)]).unwrap()[&tp()], Some(0));
    assert_eq!(consumer.partitions_of("orders").unwrap(), [tp()]);
    assert!(consumer.group_metadata().unwrap().is_some());
    consumer.seek(&tp(), Offset::At(8)).unwrap();
    let offsets: Vec<i64> = consumer.records().take(2).map(|record| record.unwrap().offset()).collect();
    assert_eq!(offsets, [8, 9]);
    consumer.commit_delivered().unwrap();
    consumer.close().unwrap();
    assert_eq!(broker.committed("billing", "orders", 0), Some(10));
}

#[test]
fn a_read_ends_when_its_time_is_over_and_loses_nothing() {
    let broker = broker();
    let mut consumer = Consumer::connect(member(&broker)).unwrap();
    loop {
        match consumer.next_event_timeout(LONG).unwrap() {
            Waited::Ready(Event::Assigned(partitions)) => break assert_eq!(partitions, [tp()]),
            Waited::Ready(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(consumer.next_batch_timeout(MOMENT), Ok(Waited::TimedOut)));
    assert!(matches!(consumer.next_record_timeout(Duration::ZERO), Ok(Waited::TimedOut)));
    broker.produce("orders", 0, numbers(0..3)).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let Some(batch) = consumer.next_batch_timeout(MOMENT).unwrap().ready() {
            seen.extend(batch.iter().map(|record| record.offset()));
        }
    }
    assert_eq!(seen, [0, 1, 2]);
    broker.produce("orders", 0, numbers(3..4)).unwrap();
    // Longer than any clock can say.
    let record = consumer.next_record_timeout(Duration::MAX).unwrap().ready().unwrap();
    assert_eq!(record.offset(), 3);
    consumer.handle().shutdown();
    assert!(matches!(consumer.next_batch_timeout(LONG), Ok(Waited::Ended)));
    consumer.close().unwrap();
}

#[test]
fn a_shutdown_on_another_thread_wakes_a_read() {
    let broker = broker();
    let mut consumer = Consumer::connect(member(&broker)).unwrap();
    let handle = consumer.handle();
    let reader = thread::spawn(move || {
        let count = consumer.records().map(Result::unwrap).count();
        consumer.close().unwrap();
        count
    });
    handle.shutdown();
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn inside_of_a_task_it_uses_up_no_budget() {
    let broker = broker();
    broker.produce("orders", 0, numbers(0..1000)).unwrap();
    let mut consumer = Consumer::connect(member(&broker).max_batch_records(1)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        // A task has a budget of about a hundred reads, and cannot yield in here.
        let reads = tokio::spawn(async move {
            for offset in 0..1000 {
                let batch = consumer.next_batch().unwrap().unwrap();
                assert_eq!(batch.iter().next().unwrap().offset(), offset);
            }
            consumer.close().unwrap();
        });
        reads.await.unwrap();
    });
}

#[test]
fn a_driver_on_the_callers_runtime_is_refused() {
    let error = Consumer::connect(ottla::Consumer::builder("a:1").on_current_runtime()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("on_current_runtime"), "{error}");
}
