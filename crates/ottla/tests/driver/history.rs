//! Bugs that other clients had with wake-ups, cancelled calls and locks. Numbers are those of the list of historic
//! bugs that this project keeps; close and drop that hang (18) are in `endings`.

use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ottla::{Batch, Commit, ConsumerHandle, Event};
use ottla_broker::{Api, Fault};
use tokio::time::{Instant, timeout};

use crate::harness::{PARTITIONS, Seen, TOPIC, World, all, for_every_cut, polled, run, tp};
use crate::net::Weather;

const SECOND: Duration = Duration::from_secs(1);

/// 17: an event that the read skips used up the wake-up of the data behind it.
#[test]
fn a_wake_up_is_not_eaten_by_an_event_that_the_read_skips() {
    run(async {
        let world = World::new(1).await;
        world.net.set(Weather::Choppy);
        let mut seen = Seen::default();
        let mut consumer = world.member().partition_eof(true).connect_lazy().unwrap();
        for round in 0..300 {
            // The reader waits, events come, then records; in every order.
            let handle = consumer.handle();
            let others = async {
                tokio::join!(
                    async {
                        tokio::time::sleep(Duration::from_millis(round % 17)).await;
                        world.produce(1);
                    },
                    async {
                        tokio::time::sleep(Duration::from_millis(round % 13)).await;
                        for partition in 0..PARTITIONS {
                            if let Some(last) = seen.last(partition) {
                                handle.commit_in_background((tp(partition), last + 1)).unwrap();
                            }
                        }
                    },
                )
            };
            let read = async {
                let mut got = Vec::new();
                for _ in 0..PARTITIONS {
                    got.push(consumer.next_batch().await.unwrap().unwrap());
                }
                got
            };
            // The others are polled with the reader, and never poll it.
            let read = timeout(SECOND, read);
            let (got, _) = tokio::join!(read, others);
            let got = got.expect("the reader is woken");
            got.iter().for_each(|batch| seen.batch(batch));
        }
        seen.assert_whole(&world);
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
    });
}

/// 22: who began to wait after the trigger waited for the next one.
#[test]
fn a_reader_that_comes_after_the_data_does_not_wait() {
    for late in 0..60 {
        run(async {
            let world = World::new(1).await;
            let mut consumer = world.member().connect_lazy().unwrap();
            tokio::time::sleep(SECOND).await;
            world.produce(4);
            let step = world.net.steps() + late;
            world.net.reached(step).await;
            let begun = Instant::now();
            let buffered = consumer.handle().buffered_bytes().unwrap() > 0;
            let mut seen = Seen::default();
            seen.batch(&consumer.next_batch().await.unwrap().unwrap());
            let waited = begun.elapsed();
            assert!(if buffered { waited.is_zero() } else { waited < SECOND }, "{waited:?} at {late}");
            world.read_to_the_end(&mut consumer, &mut seen).await;
            seen.assert_whole(&world);
        });
    }
}

/// 21: a fetch that waited for room was forgotten, and whoever ended the consumer waited for it.
#[test]
fn a_fetch_that_waits_for_room_holds_up_neither_the_end_nor_the_reader() {
    for closed in [false, true] {
        for read in [0, 1, 50] {
            run(async {
                let world = World::new(1).await;
                let filler = "x".repeat(10_000);
                for partition in 0..PARTITIONS {
                    for _ in 0..50 {
                        world.broker.produce(TOPIC, partition, [filler.as_str()]).unwrap();
                    }
                }
                let builder = world.member().max_buffered_bytes(64 << 10).max_batch_records(1);
                let mut consumer = builder.connect_lazy().unwrap();
                for _ in 0..read {
                    consumer.next_batch().await.unwrap().unwrap();
                }
                // Everything is full, and no fetch is under way.
                tokio::time::sleep(5 * SECOND).await;
                assert!(consumer.handle().buffered_bytes().unwrap() > 40_000);
                let mark = world.broker.mark();
                tokio::time::sleep(SECOND).await;
                assert_eq!(world.broker.count_since(mark, |request| request.api == Api::Fetch), 0);
                if closed {
                    let begun = Instant::now();
                    consumer.close().await.unwrap();
                    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
                } else {
                    for _ in read..100 {
                        let next = timeout(SECOND, consumer.next_batch()).await;
                        next.expect("the fetch goes on when there is room").unwrap().unwrap();
                    }
                    drop(consumer);
                    tokio::time::sleep(SECOND).await;
                }
                world.assert_nothing_left().await;
            });
        }
    }
}

/// 24: a cancelled commit killed its connection, and the commit behind it was applied first.
#[test]
fn a_commit_that_is_dropped_leaves_its_connection_alone_and_is_not_overtaken() {
    for_every_cut("commit, commit", async |cut| {
        let world = World::new(1).await;
        world.produce(24);
        let mut consumer = world.member().connect_lazy().unwrap();
        let batch = consumer.next_batch().await.unwrap().unwrap();
        let partition = batch.topic_partition().clone();
        tokio::time::sleep(SECOND).await;
        let (connections, mark) = (world.net.connections(), world.broker.mark());
        world.broker.fault(Fault::on(Api::OffsetCommit).delay(Duration::from_millis(100)));
        let completed = polled(consumer.commit((partition.clone(), 1)), cut, &world.net).await.is_some();
        consumer.commit((partition.clone(), 3)).await.unwrap();
        let sent: Vec<Option<i64>> = world
            .broker
            .requests_since(mark)
            .iter()
            .filter(|request| request.api == Api::OffsetCommit)
            .map(|request| request.offset(TOPIC, partition.partition()))
            .collect();
        let both = [Some(1), Some(3)];
        assert_eq!(sent, if cut.polls == 0 { &both[1..] } else { &both });
        assert_eq!(world.committed(partition.partition()), Some(3));
        assert_eq!(world.net.connections(), connections);
        completed
    });
}

/// 25: a lookup of the coordinator that two wait for ended with the one who was cancelled.
#[test]
fn a_query_that_is_dropped_does_not_take_the_lookup_of_the_coordinator_with_it() {
    for_every_cut("committed", async |cut| {
        let world = World::new(1).await;
        world.produce(6);
        world.broker.fault(Fault::on(Api::FindCoordinator).delay(Duration::from_millis(200)));
        let mut consumer = world.member().connect_lazy().unwrap();
        let handle = consumer.handle();
        let other = tokio::spawn(async move { handle.committed(all()).await });
        let completed = polled(consumer.committed(all()), cut, &world.net).await.is_some();
        let begun = Instant::now();
        let mut seen = Seen::default();
        world.read_to_the_end(&mut consumer, &mut seen).await;
        other.await.unwrap().unwrap();
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert_eq!(world.broker.count_since(0, |request| request.api == Api::FindCoordinator), 1);
        completed
    });
}

/// 26: commits and joins exclude each other; the join waited for ever for a commit that was cancelled.
#[test]
fn a_commit_that_is_dropped_during_a_rebalance_does_not_hold_it_up() {
    for_every_cut("commit in a rebalance", async |cut| {
        let world = World::new(1).await;
        world.produce(24);
        let mut seen = Seen::default();
        let mut one = world.member().connect_lazy().unwrap();
        for _ in 0..4 {
            seen.batch(&one.next_batch().await.unwrap().unwrap());
        }
        let mark = world.broker.mark();
        let mut two = world.member().__seed(2).connect_lazy().unwrap();
        world.broker.wait_for_since(mark, |request| request.api == Api::JoinGroup).await;
        // Takes longer than the heartbeat that tells of the rebalance.
        world.broker.fault(Fault::on(Api::OffsetCommit).delay(4 * SECOND));
        tokio::time::sleep(Duration::from_millis(2_950)).await;
        let completed = polled(one.commit_delivered(), cut, &world.net).await.is_some();
        let shared = async {
            while [&one, &two].map(|consumer| consumer.assignment().unwrap().len()) != [1, 1] {
                tokio::select! {
                    biased;
                    batch = one.next_batch() => seen.batch(&batch.unwrap().unwrap()),
                    batch = two.next_batch() => drop(batch.unwrap().unwrap()),
                    () = tokio::time::sleep(SECOND) => {}
                }
            }
        };
        timeout(30 * SECOND, shared).await.expect("the rebalance ends");
        for partition in 0..PARTITIONS {
            assert_eq!(seen.jumps(partition), []);
            let committed = world.committed(partition).unwrap_or(0);
            assert!(committed <= seen.last(partition).map_or(0, |last| last + 1));
        }
        completed
    });
}

/// 34: with rebalances blocked while the user works, the second read waited for the first one's end.
#[test]
fn reading_on_while_a_revocation_is_open_ends_it() {
    for_every_cut("the read after Revoking", async |cut| {
        let world = World::new(1).await;
        world.produce(24);
        let mut one = world.member().connect_lazy().unwrap();
        one.next_batch().await.unwrap().unwrap();
        let mut two = world.member().__seed(2).connect_lazy().unwrap();
        let revocation = loop {
            if let Event::Revoking(revocation) = one.next_event().await.unwrap().unwrap() {
                break revocation;
            }
        };
        // Open: nobody has the partition yet.
        tokio::time::sleep(5 * SECOND).await;
        assert!(two.assignment().unwrap().is_empty());
        world.produce(6);
        let completed = polled(one.next_event(), cut, &world.net).await.is_some();
        if cut.polls == 0 {
            tokio::time::sleep(5 * SECOND).await;
            assert!(two.assignment().unwrap().is_empty());
            revocation.finish([]);
        }
        let begun = Instant::now();
        let batch = two.next_batch().await.unwrap().unwrap();
        assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
        assert!(two.assignment().unwrap().contains(batch.topic_partition()));
        completed
    });
}

/// 38: user code that was called under a lock came back in and waited for itself.
#[test]
fn a_waker_may_call_the_consumer_that_wakes_it() {
    /// Does what can be done from anywhere, each time that it is woken.
    struct Busy {
        handle: ConsumerHandle,
        held: Mutex<Vec<Batch>>,
        woken: mpsc::Sender<()>,
    }
    impl Wake for Busy {
        fn wake(self: Arc<Self>) {
            let handle = &self.handle;
            let _ = (handle.position(&tp(0)), handle.lag(&tp(1)), handle.assignment(), handle.held_back());
            let held = std::mem::take(&mut *self.held.lock().unwrap());
            for batch in &held {
                batch.token().mark();
                let _ = handle.commit_in_background(batch);
            }
            drop(held);
            let _ = self.woken.send(());
        }
    }

    let body = || {
        run(async {
            let world = World::new(1).await;
            let mut consumer = world.member().commit(Commit::Manual).connect_lazy().unwrap();
            let (woken, wakes) = mpsc::channel();
            let busy = Arc::new(Busy { handle: consumer.handle(), held: Mutex::default(), woken });
            let waker = Waker::from(busy.clone());
            let mut seen = Seen::default();
            for round in 0..50 {
                if round == 49 {
                    consumer.handle().shutdown();
                }
                world.produce(1);
                let mut read = Box::pin(consumer.next_batch());
                loop {
                    match read.as_mut().poll(&mut Context::from_waker(&waker)) {
                        Poll::Ready(Ok(Some(batch))) => {
                            seen.batch(&batch);
                            busy.held.lock().unwrap().push(batch);
                            break;
                        }
                        Poll::Ready(read) => {
                            assert!(read.unwrap().is_none());
                            break;
                        }
                        Poll::Pending => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                }
            }
            assert!(wakes.try_iter().count() > 10);
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
        });
    };
    ends(body);
}

/// Fails if `body` has not ended in a minute of real time: it waits for itself.
fn ends(body: impl FnOnce() + Send + 'static) {
    let (ended, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = ended.send(());
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => thread.join().unwrap(),
    }
}
