//! Over TCP, on real time: the driver's own thread, both kinds of runtime, and none at all.

use std::thread;
use std::time::Duration;

use ottla::{Consumer, Event, Offset, TopicPartition};
use ottla_broker::{Api, Broker};

async fn broker() -> Broker {
    let builder = Broker::builder().topic("orders", 1).on_own_thread();
    builder.min_session_timeout(Duration::from_millis(100)).start().await.unwrap()
}

async fn read_ten(broker: &Broker, on_current_runtime: bool) {
    let mut builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    if on_current_runtime {
        builder = builder.on_current_runtime();
    }
    let mut consumer = builder.connect().await.unwrap();
    let mut count = 0;
    while count < 10 {
        count += consumer.next_batch().await.unwrap().unwrap().len();
    }
    consumer.commit_delivered().await.unwrap();
    consumer.close().await.unwrap();
    assert_eq!(broker.committed("billing", "orders", 0), Some(10));
}

fn ten() -> Vec<String> {
    (0..10).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn it_works_on_a_current_thread_runtime() {
    for on_current_runtime in [false, true] {
        let broker = broker().await;
        broker.produce("orders", 0, ten()).unwrap();
        read_ten(&broker, on_current_runtime).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_a_multi_thread_runtime() {
    for on_current_runtime in [false, true] {
        let broker = broker().await;
        broker.produce("orders", 0, ten()).unwrap();
        read_ten(&broker, on_current_runtime).await;
    }
}

#[tokio::test]
async fn a_handler_that_blocks_for_longer_than_the_session_keeps_its_partitions() {
    let broker = broker().await;
    broker.produce("orders", 0, ten()).unwrap();
    let session = Duration::from_millis(600);
    let mut consumer = Consumer::builder(broker.bootstrap())
        .group("billing")
        .subscribe(["orders"])
        .session_timeout(session)
        .heartbeat_interval(Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    let batch = loop {
        match consumer.next_event().await.unwrap().unwrap() {
            Event::Batch(batch) => break batch,
            Event::Assigned(_) | Event::OffsetReset { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let generation = broker.group("billing").unwrap().generation;
    let mark = broker.mark();
    // The handler: it blocks the only thread of the caller's runtime.
    thread::sleep(session * 3);
    let heartbeats = broker.count_since(mark, |request| request.api == Api::Heartbeat);
    assert!(heartbeats >= 6, "{heartbeats} heartbeats in {:?}", session * 3);
    assert!(batch.is_owned());
    let group = broker.group("billing").unwrap();
    assert_eq!((group.generation, group.members.len()), (generation, 1));
    consumer.commit(&batch).await.unwrap();
    consumer.close().await.unwrap();
    assert_eq!(broker.committed("billing", "orders", 0), Some(10));
}

#[tokio::test]
async fn large_responses_come_whole_over_tcp() {
    let broker = broker().await;
    // Larger than what one read of the socket gives, and than a fetch asks for.
    let sizes = [1usize, 100_000, 3_000_000, 0, 700_000];
    for size in sizes {
        broker.produce("orders", 0, [vec![b'x'; size]]).unwrap();
    }
    let mut consumer = Consumer::builder(broker.bootstrap()).connect().await.unwrap();
    consumer.assign([(TopicPartition::new("orders", 0), Offset::Earliest)]).await.unwrap();
    for size in sizes {
        let record = consumer.next_record().await.unwrap().unwrap();
        assert_eq!(record.value().map(<[u8]>::len), Some(size));
    }
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn close_closes_every_connection() {
    let broker = broker().await;
    broker.produce("orders", 0, ten()).unwrap();
    read_ten(&broker, false).await;
    // The broker sees the end of a connection a moment after the driver's thread has closed it.
    tokio::time::timeout(Duration::from_secs(10), async {
        while broker.connection_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all connections are closed");
}
