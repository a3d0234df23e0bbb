//! Start and end: bounded, silent, and nothing is left behind. No broker is needed for that, only its absence.

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ottla::{Builder, Commit, CommitError, Consumer, ErrorKind, Offset, TopicPartition};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A cluster whose connections are never refused and never made.
fn silent() -> Builder {
    Consumer::builder("broker:9092").__connect_with(|_, _| pending::<io::Result<DuplexStream>>())
}

/// A cluster that refuses every connection.
fn refusing() -> Builder {
    Consumer::builder("broker:9092")
        .__connect_with(|_, _| async { Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()) })
}

fn in_group(builder: Builder) -> Builder {
    builder.group("billing").subscribe(["orders"])
}

/// Runs a future without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn is_closed(error: &CommitError) -> bool {
    matches!(error, CommitError::Fatal(error) if error.kind() == ErrorKind::Closed)
}

#[test]
fn connect_fails_in_its_time_and_names_the_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let builder =
        Consumer::builder(format!("127.0.0.1:{port}")).connection_setup_timeout(Duration::from_millis(300));
    let begun = Instant::now();
    // No runtime is around: the driver brings its own.
    let error = block_on(builder.connect()).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("connection refused"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn connect_tries_for_the_time_for_connecting_and_no_longer() {
    for builder in [silent(), refusing()] {
        let begun = tokio::time::Instant::now();
        let error = builder
            .on_current_runtime()
            .connection_setup_timeout(Duration::from_secs(7))
            .connect()
            .await
            .unwrap_err();
        assert!((7_000..=7_010).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        assert!(error.to_string().contains("broker:9092"), "{error}");
    }
}

/// An application may be started beside its broker, and be the faster of the two.
#[tokio::test(start_paused = true)]
async fn a_broker_that_comes_up_after_two_seconds_is_reached() {
    let broker = Arc::new(ottla_broker::Broker::builder().in_memory().start().await.unwrap());
    let begun = tokio::time::Instant::now();
    let (transport, up) = (broker.clone(), begun + Duration::from_secs(2));
    let builder = Consumer::builder(broker.bootstrap()).__connect_with(move |host, port| {
        let transport = transport.clone();
        async move {
            if tokio::time::Instant::now() < up {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            transport.connect_in_memory(&host, port)
        }
    });
    let consumer = builder.on_current_runtime().connect().await.unwrap();
    let waited = begun.elapsed();
    // What is there is found within the longest backoff, which is a second, and its jitter.
    assert!((2_000..3_500).contains(&waited.as_millis()), "{waited:?}");
    consumer.close().await.unwrap();
}

/// What time does not mend is said long before the time is over.
#[tokio::test(start_paused = true)]
async fn an_address_where_no_kafka_broker_answers_is_told_at_once() {
    let builder = Consumer::builder("broker:9092").__connect_with(|_, _| async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 10);
        tokio::spawn(async move {
            let _ = theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = theirs.read_to_end(&mut Vec::new()).await;
        });
        Ok(ours)
    });
    let begun = tokio::time::Instant::now();
    let error = builder.on_current_runtime().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved, "{error}");
    assert!(error.to_string().contains("broker:9092"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn addresses_where_nobody_answers_do_not_use_up_the_time_of_the_others() {
    let broker = Arc::new(ottla_broker::Broker::builder().in_memory().start().await.unwrap());
    let good = broker.bootstrap();
    for silent in [1, 3, 30] {
        let (transport, good) = (broker.clone(), good.clone());
        let addresses: Vec<String> = (0..silent).map(|i| format!("silent-{i}:9092")).chain([good]).collect();
        let builder = Consumer::builder(addresses.join(",")).__connect_with(move |host, port| {
            let transport = transport.clone();
            async move {
                if host.starts_with("silent") {
                    return pending::<io::Result<DuplexStream>>().await;
                }
                transport.connect_in_memory(&host, port)
            }
        });
        let begun = tokio::time::Instant::now();
        let consumer = builder.on_current_runtime().connect().await.unwrap();
        // Half of the time that setting up one connection may take, which bounds `connect` as a whole.
        let most = Duration::from_secs(silent.min(5)) + Duration::from_millis(100);
        assert!(begun.elapsed() <= most, "{silent}: {:?}", begun.elapsed());
        consumer.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn close_is_bounded_when_no_broker_was_ever_reached() {
    for builder in [silent(), refusing(), in_group(silent()), in_group(refusing())] {
        let consumer = builder.on_current_runtime().connect_lazy().unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let begun = tokio::time::Instant::now();
        let _ = consumer.close_timeout(Duration::from_secs(5)).await;
        assert!(begun.elapsed() <= Duration::from_millis(5_010), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_close() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let consumer = in_group(refusing()).on_current_runtime().connect_lazy().unwrap();
    assert_eq!(tasks(), 1);
    let _ = consumer.close_timeout(Duration::from_secs(1)).await;
    // Its last line has run; the runtime takes it away with the next turn.
    tokio::task::yield_now().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_task_is_left_after_drop() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for builder in [silent(), refusing(), in_group(silent()), in_group(refusing())] {
        drop(builder.on_current_runtime().connect_lazy().unwrap());
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(tasks(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_connect_future_stops_what_it_started() {
    let connect = in_group(silent()).on_current_runtime().connect();
    assert!(tokio::time::timeout(Duration::from_secs(1), connect).await.is_err());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_close_future_equals_dropping_the_consumer() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let consumer = in_group(silent()).on_current_runtime().connect_lazy().unwrap();
    let handle = consumer.handle();
    assert!(tokio::time::timeout(Duration::ZERO, consumer.close()).await.is_err());
    assert_eq!(handle.assignment().unwrap_err().kind(), ErrorKind::Closed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn handle_calls_give_closed_once_the_consumer_is_gone() {
    let consumer = in_group(silent()).on_current_runtime().connect_lazy().unwrap();
    let handle = consumer.handle();
    drop(consumer);
    let partition = TopicPartition::new("orders", 0);
    assert!(is_closed(&handle.commit((partition.clone(), 1)).await.unwrap_err()));
    assert!(is_closed(&handle.commit_delivered().await.unwrap_err()));
    let errors = [
        handle.commit_in_background((partition.clone(), 1)).unwrap_err(),
        handle.pause([&partition]).await.unwrap_err(),
        handle.resume([&partition]).await.unwrap_err(),
        handle.seek(&partition, Offset::Earliest).await.unwrap_err(),
        handle.committed([&partition]).await.unwrap_err(),
        handle.end_offsets([&partition]).await.unwrap_err(),
        handle.partitions_of("orders").await.unwrap_err(),
        handle.group_metadata().await.unwrap_err(),
        handle.position(&partition).unwrap_err(),
        handle.lag(&partition).unwrap_err(),
        handle.assignment().unwrap_err(),
        handle.buffered_bytes().unwrap_err(),
        handle.pinned_bytes().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    handle.shutdown(); // has nothing to do, and says nothing
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_ends_when_the_consumer_goes() {
    let consumer = in_group(silent()).on_current_runtime().connect_lazy().unwrap();
    let handle = consumer.handle();
    let call = tokio::spawn(async move { handle.partitions_of("orders").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    drop(consumer);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_reading_at_once() {
    let mut consumer = in_group(silent()).on_current_runtime().connect_lazy().unwrap();
    let handle = consumer.handle();
    let stop = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.shutdown();
    });
    let begun = tokio::time::Instant::now();
    assert!(consumer.next_batch().await.unwrap().is_none());
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(consumer.next_event().await.unwrap().is_none());
    assert!(consumer.next_record().await.unwrap().is_none());
    stop.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_polled_and_dropped_wait_for_nothing() {
    let mut consumer = in_group(silent()).commit(Commit::Manual).on_current_runtime().connect_lazy().unwrap();
    for _ in 0..100 {
        assert!(tokio::time::timeout(Duration::ZERO, consumer.next_batch()).await.is_err());
        assert!(tokio::time::timeout(Duration::ZERO, consumer.next_record()).await.is_err());
        assert!(tokio::time::timeout(Duration::ZERO, consumer.next_event()).await.is_err());
    }
}

#[test]
fn a_consumer_may_be_dropped_outside_of_any_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (own, on_runtime) = runtime.block_on(async {
        let own = in_group(silent()).connect_lazy().unwrap();
        (own, in_group(silent()).on_current_runtime().connect_lazy().unwrap())
    });
    drop(on_runtime);
    drop(runtime);
    drop(own);
}

#[test]
fn a_runtime_that_ends_first_is_told_and_blocks_nobody() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut consumer =
        runtime.block_on(async { in_group(silent()).on_current_runtime().connect_lazy().unwrap() });
    drop(runtime);
    for _ in 0..2 {
        let error = block_on(consumer.next_batch()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.is_fatal());
    }
    let error = block_on(consumer.close()).unwrap_err();
    assert!(error.to_string().contains("the runtime that drove the consumer ended first"), "{error}");
}
