//! Every public future, polled n times and dropped, for all n up to the one that completes it.
//!
//! A read that was dropped has taken nothing; a call that was polled once is carried out, and one that was not is
//! not.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use ottla::{Consumer, ErrorKind, Event, Offset};
use ottla_broker::Api;

use crate::harness::{
    Cut, GROUP, OTHER, PARTITIONS, Seen, TOPIC, World, all, for_every_cut, polled, run, tp,
};
use crate::net::Weather;

pub const READS: [Read; 5] = [Read::Batch, Read::Batches, Read::Record, Read::Event, Read::Stream];

/// Long enough to be dropped often before it is over.
const GATHER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
pub enum Read {
    Batch,
    Batches,
    Record,
    Event,
    Stream,
}

impl Read {
    /// True if it was ready.
    pub async fn polled(self, consumer: &mut Consumer, cut: Cut, world: &World, seen: &mut Seen) -> bool {
        let net = &world.net;
        match self {
            Self::Batch => match polled(consumer.next_batch(), cut, net).await {
                Some(read) => seen.batch(&read.unwrap().unwrap()),
                None => return false,
            },
            // Of both partitions, so that it has something in hand while it waits.
            Self::Batches => match polled(consumer.next_batches(7, GATHER), cut, net).await {
                Some(read) => read.unwrap().unwrap().iter().for_each(|batch| seen.batch(batch)),
                None => return false,
            },
            Self::Record => match polled(consumer.next_record(), cut, net).await {
                Some(read) => {
                    let record = read.unwrap().unwrap();
                    seen.record(record.partition(), record.offset(), record.value());
                }
                None => return false,
            },
            Self::Event => match polled(consumer.next_event(), cut, net).await {
                Some(read) => {
                    if let Event::Batch(batch) = read.unwrap().unwrap() {
                        seen.batch(&batch);
                    }
                }
                None => return false,
            },
            Self::Stream => {
                let mut records = consumer.records();
                let next = poll_fn(|cx| Pin::new(&mut records).poll_next(cx));
                match polled(next, cut, net).await {
                    Some(read) => {
                        let record = read.unwrap().unwrap();
                        seen.record(record.partition(), record.offset(), record.value());
                    }
                    None => return false,
                }
            }
        }
        true
    }
}

/// A member that has read `batches` batches.
pub async fn reader(world: &World, batches: usize, seen: &mut Seen) -> Consumer {
    let mut consumer = world.member().connect_lazy().unwrap();
    for _ in 0..batches {
        seen.batch(&consumer.next_batch().await.unwrap().unwrap());
    }
    consumer
}

#[test]
fn a_read_that_is_dropped_after_any_number_of_polls_took_nothing() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for read in READS {
            // From the first byte to the first record.
            let most = for_every_cut(&format!("{weather:?} {read:?}"), async |cut| {
                let world = World::new(1).await;
                world.net.set(weather);
                world.produce(12);
                let mut seen = Seen::default();
                let mut consumer = reader(&world, 0, &mut seen).await;
                let completed = read.polled(&mut consumer, cut, &world, &mut seen).await;
                world.produce(6);
                world.read_to_the_end(&mut consumer, &mut seen).await;
                seen.assert_whole(&world);
                consumer.close().await.unwrap();
                world.assert_nothing_left().await;
                completed
            });
            let points = if weather == Weather::Choppy { 60 } else { 10 };
            assert!(most >= points, "only {most} polls with {weather:?} {read:?}");
        }
    }
}

#[test]
fn reads_that_are_dropped_again_and_again_take_nothing() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for read in READS {
            for polls in 0..5 {
                for late in [false, true] {
                    run(async {
                        let world = World::new(1).await;
                        world.net.set(weather);
                        let mut seen = Seen::default();
                        let mut consumer = reader(&world, 0, &mut seen).await;
                        let cut = Cut { polls, late };
                        for round in 0..300 {
                            if round % 30 == 0 {
                                world.produce(6);
                            }
                            read.polled(&mut consumer, cut, &world, &mut seen).await;
                            tokio::time::sleep(Duration::from_millis(round % 4)).await;
                        }
                        let some = polls > 0 && (0..PARTITIONS).all(|p| seen.of(p).len() > 20);
                        assert!(some || polls == 0, "{weather:?} {read:?} {cut:?}: {seen:?}");
                        world.read_to_the_end(&mut consumer, &mut seen).await;
                        seen.assert_whole(&world);
                        consumer.close().await.unwrap();
                        world.assert_nothing_left().await;
                    });
                }
            }
        }
    }
}

/// Long enough for everything that was asked for to be done, too short for a timer of the consumer's own.
pub async fn a_moment() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[derive(Clone, Copy, Debug)]
enum Query {
    Committed,
    BeginningOffsets,
    EndOffsets,
    OffsetsForTimes,
    PartitionsOf,
    GroupMetadata,
    Snapshot,
}

const QUERIES: [Query; 7] = [
    Query::Committed,
    Query::BeginningOffsets,
    Query::EndOffsets,
    Query::OffsetsForTimes,
    Query::PartitionsOf,
    Query::GroupMetadata,
    Query::Snapshot,
];

impl Query {
    async fn polled(self, consumer: &Consumer, cut: Cut, world: &World) -> bool {
        let net = &world.net;
        let handle = consumer.handle();
        match self {
            Self::Committed => polled(handle.committed(all()), cut, net).await.map(drop_ok),
            Self::BeginningOffsets => {
                let offsets = polled(handle.beginning_offsets(all()), cut, net).await;
                offsets.map(|offsets| assert!(offsets.unwrap().into_values().all(|offset| offset == 0)))
            }
            Self::EndOffsets => {
                let offsets = polled(handle.end_offsets(all()), cut, net).await;
                offsets.map(|offsets| {
                    for (partition, end) in offsets.unwrap() {
                        assert_eq!(end, world.end(partition.partition()));
                    }
                })
            }
            Self::OffsetsForTimes => {
                let times = all().into_iter().map(|partition| (partition, 0));
                polled(handle.offsets_for_times(times), cut, net).await.map(drop_ok)
            }
            Self::PartitionsOf => {
                let partitions = polled(handle.partitions_of(TOPIC), cut, net).await;
                partitions.map(|partitions| assert_eq!(partitions.unwrap(), all()))
            }
            Self::GroupMetadata => polled(handle.group_metadata(), cut, net).await.map(drop_ok),
            Self::Snapshot => polled(handle.snapshot(), cut, net).await.map(drop_ok),
        }
        .is_some()
    }
}

fn drop_ok<T, E: std::fmt::Debug>(result: Result<T, E>) {
    drop(result.unwrap());
}

#[test]
fn a_query_that_is_dropped_changes_nothing() {
    for query in QUERIES {
        for batches in [0, 3] {
            for_every_cut(&format!("{query:?} {batches}"), async |cut| {
                let world = World::new(1).await;
                world.produce(12);
                let mut seen = Seen::default();
                let mut consumer = reader(&world, batches, &mut seen).await;
                let completed = query.polled(&consumer, cut, &world).await;
                world.read_to_the_end(&mut consumer, &mut seen).await;
                seen.assert_whole(&world);
                consumer.close().await.unwrap();
                world.assert_nothing_left().await;
                completed
            });
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Commits {
    Batch,
    Offsets,
    Delivered,
}

#[test]
fn a_commit_that_is_dropped_is_sent_once_it_was_polled() {
    for commit in [Commits::Batch, Commits::Offsets, Commits::Delivered] {
        for weather in [Weather::Fair, Weather::Choppy] {
            for_every_cut(&format!("{weather:?} {commit:?}"), async |cut| {
                let world = World::new(1).await;
                world.net.set(weather);
                world.produce(24);
                let mut seen = Seen::default();
                let mut consumer = reader(&world, 2, &mut seen).await;
                let batch = consumer.next_batch().await.unwrap().unwrap();
                seen.batch(&batch);
                let partition = batch.partition();
                let next = batch.next_offset();
                // The positions that were chosen are committed by now.
                a_moment().await;
                let mark = world.broker.mark();
                let net = &world.net;
                let completed = match commit {
                    Commits::Batch => polled(consumer.commit(&batch), cut, net).await.map(drop_ok),
                    Commits::Offsets => {
                        let offset = (batch.topic_partition().clone(), next);
                        polled(consumer.commit(offset), cut, net).await.map(drop_ok)
                    }
                    Commits::Delivered => polled(consumer.commit_delivered(), cut, net).await.map(drop_ok),
                };
                a_moment().await;
                let of_this = |request: &ottla_broker::Observed| {
                    request.api == Api::OffsetCommit && request.offset(TOPIC, partition) == Some(next)
                };
                let sent = world.broker.count_since(mark, of_this);
                if cut.polls == 0 {
                    assert_eq!((sent, world.committed(partition)), (0, Some(0)));
                } else {
                    assert_eq!((sent, world.committed(partition)), (1, Some(next)));
                }
                // The next one comes after it.
                world.read_to_the_end(&mut consumer, &mut seen).await;
                consumer.commit_delivered().await.unwrap();
                seen.assert_whole(&world);
                for partition in 0..PARTITIONS {
                    assert_eq!(world.committed(partition), Some(world.end(partition)));
                    let commits = world.broker.commits();
                    let of_it = commits.iter().filter(|c| c.partition == partition);
                    assert!(of_it.is_sorted_by_key(|c| c.committed.offset));
                }
                consumer.close().await.unwrap();
                world.assert_nothing_left().await;
                completed.is_some()
            });
        }
    }
}

#[test]
fn commits_that_are_dropped_one_after_the_other_keep_their_order() {
    for_every_cut("three commits", async |cut| {
        let world = World::new(1).await;
        world.produce(24);
        let mut consumer = reader(&world, 0, &mut Seen::default()).await;
        let batch = consumer.next_batch().await.unwrap().unwrap();
        let partition = batch.topic_partition().clone();
        let mut completed = true;
        for offset in [1, 3, 4] {
            completed &=
                polled(consumer.commit((partition.clone(), offset)), cut, &world.net).await.is_some();
        }
        a_moment().await;
        let committed: Vec<i64> = world
            .broker
            .commits()
            .iter()
            .filter(|c| c.partition == partition.partition())
            .map(|c| c.committed.offset)
            .collect();
        assert!(committed.is_sorted() && committed.len() <= 4, "{committed:?}");
        assert_eq!(committed.last(), Some(if cut.polls == 0 { &0 } else { &4 }));
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
        completed
    });
}

#[test]
fn a_pause_that_is_dropped_holds_once_it_was_polled() {
    for batches in [1, 3] {
        for_every_cut(&format!("pause {batches}"), async |cut| {
            let world = World::new(1).await;
            world.produce(12);
            let mut seen = Seen::default();
            let mut consumer = reader(&world, batches, &mut seen).await;
            let completed = polled(consumer.pause([tp(0)]), cut, &world.net).await.is_some();
            a_moment().await;
            let before = seen.of(0).len();
            read_for_a_moment(&mut consumer, &mut seen).await;
            assert_eq!(seen.last(1), Some(11));
            if cut.polls == 0 {
                assert_eq!(seen.last(0), Some(11));
            } else {
                assert_eq!(seen.of(0).len(), before, "records of a paused partition");
            }
            consumer.resume([tp(0)]).await.unwrap();
            world.read_to_the_end(&mut consumer, &mut seen).await;
            seen.assert_whole(&world);
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed
        });
    }
}

#[test]
fn a_resume_that_is_dropped_holds_once_it_was_polled() {
    for_every_cut("resume", async |cut| {
        let world = World::new(1).await;
        world.produce(12);
        let mut seen = Seen::default();
        let mut consumer = reader(&world, 1, &mut seen).await;
        consumer.pause(all()).await.unwrap();
        let before = seen.of(0).len();
        let completed = polled(consumer.resume(all()), cut, &world.net).await.is_some();
        if cut.polls == 0 {
            read_for_a_moment(&mut consumer, &mut seen).await;
            assert_eq!(seen.of(0).len(), before, "records of a paused partition");
            consumer.resume(all()).await.unwrap();
        }
        world.read_to_the_end(&mut consumer, &mut seen).await;
        seen.assert_whole(&world);
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
        completed
    });
}

/// Reads until nothing comes for a while.
pub async fn read_for_a_moment(consumer: &mut Consumer, seen: &mut Seen) {
    let while_ = Duration::from_secs(2);
    while let Ok(read) = tokio::time::timeout(while_, consumer.next_batch()).await {
        seen.batch(&read.unwrap().expect("nobody shuts it down"));
    }
}

#[test]
fn a_seek_that_is_dropped_moves_the_position_once_it_was_polled() {
    for (place, to) in [(Offset::At(2), 2), (Offset::Earliest, 0), (Offset::FromEnd(1), 23)] {
        for batches in [2, 4] {
            for_every_cut(&format!("seek to {place} {batches}"), async |cut| {
                let world = World::new(1).await;
                world.produce(24);
                let mut seen = Seen::default();
                let mut consumer = reader(&world, batches, &mut seen).await;
                assert!(seen.last(0).is_some_and(|last| last < 23), "in the middle of it");
                let completed = polled(consumer.seek(&tp(0), place), cut, &world.net).await.is_some();
                read_for_a_moment(&mut consumer, &mut seen).await;
                // It jumped once, from wherever it was, and went on to the end.
                let jumps: Vec<i64> = seen.jumps(0).into_iter().map(|(_, to)| to).collect();
                assert_eq!(jumps, if cut.polls == 0 { vec![] } else { vec![to] });
                assert_eq!(seen.jumps(1), []);
                assert_eq!((seen.last(0), seen.last(1)), (Some(23), Some(23)));
                consumer.close().await.unwrap();
                world.assert_nothing_left().await;
                completed
            });
        }
    }
}

#[test]
fn a_subscription_that_is_dropped_holds_once_it_was_polled() {
    for pattern in [None, Some("^orde.*")] {
        for_every_cut(&format!("subscribe {pattern:?}"), async |cut| {
            let world = World::new(1).await;
            world.produce(12);
            let mut consumer = world.consumer().group(GROUP).connect_lazy().unwrap();
            let completed = match pattern {
                None => polled(consumer.subscribe([TOPIC]), cut, &world.net).await.map(drop_ok),
                Some(pattern) => {
                    polled(consumer.subscribe_pattern(pattern), cut, &world.net).await.map(drop_ok)
                }
            };
            if cut.polls == 0 {
                a_moment().await;
                assert!(world.broker.group_members(GROUP).is_empty());
            } else {
                let mut seen = Seen::default();
                world.read_to_the_end(&mut consumer, &mut seen).await;
                seen.assert_whole(&world);
            }
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed.is_some()
        });
    }
}

#[test]
fn a_subscription_that_is_replaced_by_a_dropped_call_keeps_what_stays() {
    for_every_cut("subscribe anew", async |cut| {
        let world = World::new(1).await;
        world.produce(12);
        let mut seen = Seen::default();
        let mut consumer = reader(&world, 2, &mut seen).await;
        world.broker.produce(OTHER, 0, ["x"]).unwrap();
        let completed = polled(consumer.subscribe([TOPIC, OTHER]), cut, &world.net).await.is_some();
        let mut others = 0;
        while let Ok(read) = tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await {
            let batch = read.unwrap().unwrap();
            if batch.topic() == OTHER { others += 1 } else { seen.batch(&batch) }
        }
        assert_eq!(others, i32::from(cut.polls > 0));
        // Cooperative: what stays is not read again.
        seen.assert_whole(&world);
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
        completed
    });
}

#[test]
fn an_unsubscribe_that_is_dropped_leaves_once_it_was_polled() {
    for batches in [0, 3] {
        for_every_cut(&format!("unsubscribe {batches}"), async |cut| {
            let world = World::new(1).await;
            world.produce(12);
            let mut seen = Seen::default();
            let mut consumer = reader(&world, batches, &mut seen).await;
            if batches > 0 {
                consumer.commit_delivered().await.unwrap();
            }
            let completed = polled(consumer.unsubscribe(), cut, &world.net).await.is_some();
            if cut.polls > 0 {
                a_moment().await;
                assert!(world.broker.group_members(GROUP).is_empty());
                let read = tokio::time::timeout(Duration::from_secs(2), consumer.next_batch()).await;
                assert!(read.is_err(), "a record of nothing: {read:?}");
                consumer.subscribe([TOPIC]).await.unwrap();
            }
            // Everything was committed: it goes on where it was.
            world.read_to_the_end(&mut consumer, &mut seen).await;
            seen.assert_whole(&world);
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed
        });
    }
}

#[test]
fn an_assign_that_is_dropped_holds_once_it_was_polled() {
    for batches in [0, 3] {
        for_every_cut(&format!("assign {batches}"), async |cut| {
            let world = World::new(1).await;
            world.produce(12);
            let mut seen = Seen::default();
            let mut consumer = world.consumer().connect_lazy().unwrap();
            if batches > 0 {
                consumer.assign(all().into_iter().map(|p| (p, Offset::Earliest))).await.unwrap();
                for _ in 0..batches {
                    seen.batch(&consumer.next_batch().await.unwrap().unwrap());
                }
            }
            let places = [(tp(0), Offset::At(1)), (tp(1), Offset::Earliest)];
            let completed = polled(consumer.assign(places), cut, &world.net).await.is_some();
            read_for_a_moment(&mut consumer, &mut seen).await;
            let jumps = |p| seen.jumps(p).into_iter().map(|(_, to)| to).collect::<Vec<_>>();
            match (batches, cut.polls) {
                (0, 0) => assert_eq!((seen.last(0), seen.last(1)), (None, None)),
                (0, _) => assert_eq!((jumps(0), seen.jumps(1)), (vec![1], vec![])),
                (_, 0) => seen.assert_whole(&world),
                _ => {
                    assert_eq!(jumps(0), [1]);
                    assert!(matches!(jumps(1)[..], [0] | []), "{:?}", seen.jumps(1));
                    assert_eq!((seen.last(0), seen.last(1)), (Some(11), Some(11)));
                }
            }
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
            completed
        });
    }
}

#[test]
fn a_connect_that_is_dropped_leaves_nothing() {
    for weather in [Weather::Fair, Weather::Choppy, Weather::Silent, Weather::Gone, Weather::Cut(30)] {
        for_every_cut(&format!("{weather:?} connect"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            let connected = polled(world.member().connect(), cut, &world.net).await;
            let completed = connected.is_some();
            if let Some(Err(error)) = &connected {
                assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
                assert!(!matches!(weather, Weather::Fair | Weather::Choppy), "{error}");
            }
            drop(connected);
            tokio::time::sleep(Duration::from_secs(6)).await;
            world.assert_nothing_left().await;
            assert!(world.broker.group_members(GROUP).is_empty());
            completed
        });
    }
}

#[test]
fn a_close_that_is_dropped_equals_dropping_the_consumer() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for (batches, timeout) in [(0, None), (1, None), (3, None), (3, Some(Duration::from_secs(5)))] {
            for_every_cut(&format!("{weather:?} close {batches} {timeout:?}"), async |cut| {
                let world = World::new(1).await;
                world.net.set(weather);
                world.produce(12);
                let mut seen = Seen::default();
                let mut consumer = reader(&world, 0, &mut seen).await;
                let mut done = [0; PARTITIONS as usize];
                for _ in 0..batches {
                    let batch = consumer.next_batch().await.unwrap().unwrap();
                    batch.iter().for_each(|record| record.token().mark());
                    done[usize::try_from(batch.partition()).unwrap()] = batch.next_offset();
                    seen.batch(&batch);
                }
                let handle = consumer.handle();
                let net = &world.net;
                let closed = match timeout {
                    None => polled(consumer.close(), cut, net).await,
                    Some(timeout) => polled(consumer.close_timeout(timeout), cut, net).await,
                };
                let completed = closed.map(drop_ok).is_some();
                assert_eq!(handle.assignment().unwrap_err().kind(), ErrorKind::Closed);
                tokio::time::sleep(Duration::from_secs(6)).await;
                world.assert_nothing_left().await;
                assert!(world.broker.group_members(GROUP).is_empty());
                // What was marked is committed, and nothing else.
                for (partition, done) in (0..).zip(done) {
                    assert_eq!(world.committed(partition).unwrap_or(0), done, "partition {partition}");
                }
                let mut next = reader(&world, 0, &mut seen).await;
                world.read_to_the_end(&mut next, &mut seen).await;
                seen.assert_whole(&world);
                completed
            });
        }
    }
}

#[test]
fn after_shutdown_a_read_that_is_dropped_still_ends() {
    for_every_cut("shutdown", async |cut| {
        let world = World::new(1).await;
        world.produce(12);
        let mut seen = Seen::default();
        let mut consumer = reader(&world, 2, &mut seen).await;
        consumer.handle().shutdown();
        let ended = polled(consumer.next_batch(), cut, &world.net).await;
        assert!(ended.as_ref().is_none_or(|read| matches!(read, Ok(None))), "{ended:?}");
        assert!(consumer.next_record().await.unwrap().is_none());
        consumer.commit_delivered().await.unwrap();
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
        let mut next = reader(&world, 0, &mut seen).await;
        world.read_to_the_end(&mut next, &mut seen).await;
        seen.assert_whole(&world);
        ended.is_some()
    });
}
