//! Over TCP, on real time: the driver's own thread, both kinds of runtime, and none at all.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ottla::{Commit, Consumer, Event, Offset, TopicPartition};
use ottla_broker::{Api, Broker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

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

/// Blocks the thread, whatever runtime it belongs to, until the broker was asked for so many heartbeats.
fn block_for_heartbeats(broker: &Broker, mark: u64, count: usize) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let heartbeats = |broker: &Broker| broker.count_since(mark, |request| request.api == Api::Heartbeat);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut seen = pin!(broker.wait_until(|broker| heartbeats(broker) >= count));
    let begun = Instant::now();
    while seen.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park_timeout(Duration::from_secs(10));
        assert!(begun.elapsed() < Duration::from_secs(120), "{} heartbeats of {count}", heartbeats(broker));
    }
}

/// Twice as long as the session: ten seconds, told by the heartbeats that come meanwhile.
async fn a_handler_blocks_and_keeps_its_partitions() {
    const HEARTBEATS: usize = 20;
    let broker = broker().await;
    broker.produce("orders", 0, ten()).unwrap();
    let mut consumer = Consumer::builder(broker.bootstrap())
        .group("billing")
        .subscribe(["orders"])
        .session_timeout(Duration::from_secs(5))
        .heartbeat_interval(Duration::from_millis(500))
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
    block_for_heartbeats(&broker, broker.mark(), HEARTBEATS);
    assert!(batch.is_owned());
    let group = broker.group("billing").unwrap();
    assert_eq!((group.generation, group.members.len()), (generation, 1));
    consumer.commit(&batch).await.unwrap();
    consumer.close().await.unwrap();
    assert_eq!(broker.committed("billing", "orders", 0), Some(10));
}

#[tokio::test]
async fn a_handler_that_blocks_a_current_thread_runtime_for_two_sessions_keeps_its_partitions() {
    a_handler_blocks_and_keeps_its_partitions().await;
}

/// Its only worker, so that nothing else of the runtime can run.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_handler_that_blocks_a_multi_thread_runtime_for_two_sessions_keeps_its_partitions() {
    tokio::spawn(a_handler_blocks_and_keeps_its_partitions()).await.unwrap();
}

#[tokio::test]
async fn no_wake_up_is_lost_between_the_threads() {
    let broker = broker().await;
    let mut consumer = Consumer::builder(broker.bootstrap()).connect().await.unwrap();
    consumer.assign([(TopicPartition::new("orders", 0), Offset::Earliest)]).await.unwrap();
    // Each record is produced when the one before was read: the reader always waits, and is always woken.
    for round in 0..2_000i64 {
        broker.produce("orders", 0, ["x"]).unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), consumer.next_batch());
        let batch = read.await.expect("the reader is woken").unwrap().unwrap();
        assert_eq!(batch.next_offset(), round + 1);
    }
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_may_hold_records_and_handles_at_once() {
    const RECORDS: i64 = 20_000;
    let broker = broker().await;
    for from in (0..RECORDS).step_by(1_000) {
        broker.produce("orders", 0, (from..from + 1_000).map(|n| n.to_string())).unwrap();
    }
    let mut consumer = Consumer::builder(broker.bootstrap())
        .group("billing")
        .subscribe(["orders"])
        .commit(Commit::Manual)
        .max_batch_records(100)
        .connect()
        .await
        .unwrap();
    let handle = consumer.handle();
    let mut tasks = JoinSet::new();
    let mut next = 0;
    while next < RECORDS {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        assert_eq!(batch.first_offset(), next);
        next = batch.next_offset();
        for record in batch.records() {
            tasks.spawn(async move { record.token().mark() });
        }
        let handle = handle.clone();
        tasks.spawn(async move { handle.commit_in_background(&batch).unwrap() });
        if next % 2_000 == 0 {
            let orders = TopicPartition::new("orders", 0);
            consumer.pause([&orders]).await.unwrap();
            consumer.resume([&orders]).await.unwrap();
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    consumer.close().await.unwrap();
    assert_eq!(broker.committed("billing", "orders", 0), Some(RECORDS));
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

/// A peer that sends without end: one frame as large as is allowed, then the next.
struct Flood(usize);

impl AsyncRead for Flood {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const FRAME: u32 = 64 << 20;
        while buf.remaining() > 0 {
            let at = self.0 % (FRAME as usize + 4);
            let length = FRAME.to_be_bytes();
            let piece = length.get(at..).filter(|rest| !rest.is_empty());
            let piece = piece.unwrap_or(&[7; 4096]);
            let most = piece.len().min(buf.remaining()).min(FRAME as usize + 4 - at);
            buf.put_slice(&piece[..most]);
            self.0 += most;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_peer_that_sends_without_end_starves_nothing() {
    let consumer = Consumer::builder("broker:9092")
        .__connect_with(|_, _| async { Ok(Flood(0)) })
        .connect_lazy()
        .unwrap();
    let handle = consumer.handle();
    // Commands get their turn, and so does the end.
    let call = tokio::time::timeout(Duration::from_millis(100), handle.partitions_of("orders")).await;
    assert!(!matches!(call, Ok(Ok(_))), "{call:?}");
    let closed =
        tokio::time::timeout(Duration::from_secs(20), consumer.close_timeout(Duration::from_secs(5))).await;
    assert!(closed.is_ok());
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
