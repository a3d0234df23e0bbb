//! Runtimes that end first, threads that know of none, and a user who blocks.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ottla::{Builder, Commit, Consumer, ErrorKind};
use ottla_broker::{Api, Broker};
use tokio::runtime::Runtime;

use crate::harness::{GROUP, PARTITIONS, Seen, TOPIC, World, all, named, paused};
use crate::net::Net;

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
    let begun = Instant::now();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(Duration::from_secs(10)),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it hangs");
    }
}

/// A member that reads until `point` steps were made; `None` if there never are so many.
async fn until(world: &World, point: u64, seen: &mut Seen) -> Option<Consumer> {
    let mut consumer = world.member().connect_lazy().unwrap();
    let reading = async {
        loop {
            seen.batch(&consumer.next_batch().await.unwrap().unwrap());
        }
    };
    tokio::select! {
        biased;
        () = world.net.reached(point) => {}
        () = reading => {}
        () = tokio::time::sleep(Duration::from_secs(3)) => return None,
    }
    Some(consumer)
}

#[test]
fn a_runtime_that_ends_at_any_point_takes_the_driver_with_it_and_blocks_nobody() {
    let (mut point, mut points) = (0, 0);
    loop {
        let runtime = paused();
        let (world, mut seen) = (runtime.block_on(World::new(1)), Seen::default());
        world.produce(12);
        let Some(mut consumer) = runtime.block_on(until(&world, point, &mut seen)) else { break };
        let reached = world.net.steps();
        named(&format!("at {point}"), || {
            let handle = consumer.handle();
            // What is there may be in hand when it happens.
            let held = runtime.block_on(async {
                let read = tokio::time::timeout(Duration::ZERO, consumer.next_batch()).await;
                read.ok().map(|read| read.unwrap().unwrap())
            });
            drop(runtime);
            assert_eq!(world.net.sockets(), 0);
            for _ in 0..2 {
                let error = block_on(consumer.next_batch()).unwrap_err();
                assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::Closed, true), "{error}");
            }
            if let Some(batch) = held {
                seen.batch(&batch);
                batch.token().mark();
                block_on(consumer.commit(&batch)).unwrap_err();
            }
            let error = block_on(handle.end_offsets(all())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            if point % 2 == 0 {
                block_on(consumer.close()).unwrap_err();
            } else {
                drop(consumer);
            }
            assert_eq!(handle.assignment().unwrap_err().kind(), ErrorKind::Closed);
            (0..PARTITIONS).for_each(|p| assert_eq!(seen.jumps(p), []));
        });
        point = reached + 1;
        points += 1;
    }
    assert!(points >= 10, "only {points} points");
}

#[test]
fn a_consumer_that_goes_with_its_runtime_at_any_point_leaves_no_socket_and_no_waiting_call() {
    let (mut point, mut points) = (0, 0);
    loop {
        let runtime = paused();
        let (world, mut seen) = (runtime.block_on(World::new(1)), Seen::default());
        world.produce(12);
        let Some(mut consumer) = runtime.block_on(until(&world, point, &mut seen)) else { break };
        let reached = world.net.steps();
        named(&format!("at {point}"), || {
            let handle = consumer.handle();
            runtime.spawn(async move { while consumer.next_batch().await.is_ok() {} });
            let mut call = Box::pin(handle.end_offsets(all()));
            let limit = Duration::from_millis(point % 3);
            let answer = runtime.block_on(async { tokio::time::timeout(limit, &mut call).await });
            drop(runtime);
            assert_eq!(world.net.sockets(), 0);
            match answer {
                Ok(offsets) => assert_eq!(offsets.unwrap().len(), all().len()),
                Err(_) => assert_eq!(block_on(call).unwrap_err().kind(), ErrorKind::Closed),
            }
            assert_eq!(handle.assignment().unwrap_err().kind(), ErrorKind::Closed);
        });
        point = reached + 1;
        points += 1;
    }
    assert!(points >= 10, "only {points} points");
}

/// A cluster on a thread of its own, and a consumer's builder whose driver has one too.
fn threads(partitions: i32) -> (Arc<Broker>, Net) {
    let builder = Broker::builder().in_memory().on_own_thread().topic(TOPIC, partitions);
    let builder = builder.min_session_timeout(Duration::from_millis(100));
    let broker = Arc::new(Runtime::new().unwrap().block_on(builder.start()).unwrap());
    let net = Net::new(broker.clone(), 1);
    (broker, net)
}

fn member(broker: &Broker, net: &Net) -> Builder {
    let net = net.clone();
    Consumer::builder(broker.bootstrap())
        .__connect_with(move |host, port| net.clone().connect(host, port))
        .group(GROUP)
        .subscribe([TOPIC])
        .commit(Commit::Manual)
}

#[derive(Clone, Copy, Debug)]
enum End {
    DroppedByAThread,
    DroppedByARuntime,
    Closed,
    CloseDropped,
    ShutDown,
}

#[test]
fn a_driver_with_a_thread_of_its_own_leaves_the_group_wherever_its_consumer_ends() {
    for end in [End::DroppedByAThread, End::DroppedByARuntime, End::Closed, End::CloseDropped, End::ShutDown]
    {
        let (broker, net) = threads(1);
        broker.produce(TOPIC, 0, ["0", "1"]).unwrap();
        let mut consumer = member(&broker, &net).connect_lazy().unwrap();
        let batch = block_on(consumer.next_batch()).unwrap().unwrap();
        assert_eq!(broker.group_members(GROUP).len(), 1);
        match end {
            End::DroppedByAThread => drop(consumer),
            End::DroppedByARuntime => {
                let runtime = Runtime::new().unwrap();
                runtime.spawn(async move { while consumer.next_batch().await.is_ok() {} });
                drop(runtime);
            }
            End::Closed => block_on(consumer.close()).unwrap(),
            End::CloseDropped => {
                let mut close = pin!(consumer.close());
                let _ = close.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            End::ShutDown => {
                let handle = consumer.handle();
                thread::spawn(move || handle.shutdown());
                assert!(block_on(consumer.next_batch()).unwrap().is_none());
                drop(consumer);
            }
        }
        block_on(
            broker.wait_until(|broker| {
                broker.group_members(GROUP).is_empty() && broker.connection_count() == 0
            }),
        );
        assert_eq!(net.sockets(), 0, "{end:?}");
        // It was in hand all the time, and still is.
        assert_eq!(batch.iter().count(), 2);
    }
}

#[test]
fn one_user_of_three_who_blocks_its_thread_keeps_its_place_and_holds_up_nobody() {
    const USERS: i32 = 3;
    let session = Duration::from_millis(1_500);
    let (broker, net) = threads(USERS);
    let (seen, what) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let mut released = Some(released);
    let mut handles = Vec::new();
    for _ in 0..USERS {
        let builder = member(&broker, &net).session_timeout(session);
        let mut consumer = builder.heartbeat_interval(Duration::from_millis(100)).connect_lazy().unwrap();
        handles.push(consumer.handle());
        let (seen, released) = (seen.clone(), released.take());
        thread::spawn(move || {
            while let Some(batch) = block_on(consumer.next_batch()).unwrap() {
                seen.send((batch.partition(), batch.next_offset())).unwrap();
                if let Some(released) = &released {
                    // Blocks, with the batch in hand; from then on it does not wait any more.
                    let _ = released.recv();
                }
            }
            block_on(consumer.close()).unwrap();
        });
    }
    drop(seen);
    let each_has_one = || handles.iter().all(|h| h.assignment().is_ok_and(|owned| owned.len() == 1));
    block_on(broker.wait_until(|_| each_has_one()));
    let stuck = handles[0].assignment().unwrap()[0].partition();
    let generation = broker.group(GROUP).unwrap().generation;
    broker.produce(TOPIC, stuck, ["x"]).unwrap();
    assert_eq!(what.recv().unwrap(), (stuck, 1));
    broker.produce(TOPIC, stuck, ["y"]).unwrap();

    let (begun, mark) = (Instant::now(), broker.mark());
    let mut rounds = 0;
    while begun.elapsed() < session * 2 {
        rounds += 1;
        let others = (0..USERS).filter(|partition| *partition != stuck);
        for partition in others.clone() {
            broker.produce(TOPIC, partition, ["x"]).unwrap();
        }
        let mut got: Vec<_> = others.clone().map(|_| what.recv().unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, others.map(|partition| (partition, rounds)).collect::<Vec<_>>());
    }
    let heartbeats = broker.count_since(mark, |request| request.api == Api::Heartbeat);
    assert!(heartbeats >= 3 * USERS as usize, "{heartbeats} heartbeats");
    let group = broker.group(GROUP).unwrap();
    assert_eq!((group.generation, group.members.len()), (generation, USERS as usize));

    drop(release);
    assert_eq!(what.recv().unwrap(), (stuck, 2));
    handles.iter().for_each(|handle| handle.shutdown());
    assert!(what.recv().is_err(), "all have ended");
    block_on(
        broker.wait_until(|broker| broker.group_members(GROUP).is_empty() && broker.connection_count() == 0),
    );
}
