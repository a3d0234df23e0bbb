//! One stuck user out of N: the others go on, and what is stuck costs its budget and no more.

use std::time::Duration;

use ottla::{Commit, Consumer, ErrorKind};
use ottla_broker::{Api, Fault};
use tokio::time::{Instant, timeout};

use crate::harness::Cut;
use crate::harness::{GROUP, PARTITIONS, Seen, TOPIC, World, polled, run, tp};

const SECOND: Duration = Duration::from_secs(1);
const MEMBERS: usize = 4;
const WIDE: &str = "wide";
const WIDTH: i32 = 8;
const BUDGET: usize = 128 << 10;
const MAX_POLL: Duration = Duration::from_secs(120);

fn member(world: &World, seed: u64) -> Consumer {
    world
        .consumer()
        .__seed(seed)
        .group(GROUP)
        .subscribe([WIDE])
        .commit(Commit::Auto { interval: SECOND })
        .max_buffered_bytes(BUDGET)
        .max_poll_interval(MAX_POLL)
        .connect_lazy()
        .unwrap()
}

/// Each member reads for this long; the records it was handed out are marked in `seen`.
async fn read(members: &mut [Consumer], seen: &mut [Vec<u32>], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        for member in members.iter_mut() {
            while let Ok(read) = timeout(Duration::from_millis(20), member.next_batch()).await {
                let batch = read.unwrap().unwrap();
                let seen = &mut seen[usize::try_from(batch.partition()).unwrap()];
                for record in &batch {
                    let at = usize::try_from(record.offset()).unwrap();
                    seen.resize(seen.len().max(at + 1), 0);
                    seen[at] += 1;
                }
            }
        }
    }
}

#[test]
fn one_stuck_member_of_four_holds_up_nobody_and_gives_up_its_partitions_in_the_end() {
    run(async {
        let world = World::new(2).await;
        world.broker.create_topic(WIDE, WIDTH).unwrap();
        let mut members: Vec<Consumer> = (0..MEMBERS).map(|n| member(&world, n as u64 + 1)).collect();
        let mut seen = vec![Vec::new(); WIDTH as usize];
        let share = WIDTH as usize / MEMBERS;
        read(&mut members, &mut seen, 20 * SECOND).await;
        assert!(members.iter().all(|member| member.assignment().unwrap().len() == share));
        let value = "x".repeat(5_000);
        let produce = |count: usize| {
            for partition in 0..WIDTH {
                for _ in 0..count {
                    world.broker.produce(WIDE, partition, [value.as_str()]).unwrap();
                }
            }
        };
        produce(10);

        // It has a batch in hand and never comes back.
        let mut stuck = members.pop().unwrap();
        let held = stuck.next_batch().await.unwrap().unwrap();
        let its = stuck.assignment().unwrap();
        let is_stuck = |partition: i32| its.iter().any(|owned| owned.partition() == partition);
        let generation = world.broker.group(GROUP).unwrap().generation;
        let mark = world.broker.mark();
        for _ in 0..8 {
            produce(20);
            let begun = Instant::now();
            read(&mut members, &mut seen, 5 * SECOND).await;
            let latest = begun.elapsed();
            assert!(latest < 6 * SECOND, "{latest:?}");
            for partition in (0..WIDTH).filter(|partition| !is_stuck(*partition)) {
                let end = world.broker.log_end_offset(WIDE, partition).unwrap();
                let seen = &seen[usize::try_from(partition).unwrap()];
                assert_eq!(*seen, vec![1; usize::try_from(end).unwrap()], "partition {partition}");
                // They came back for more, so it is committed, all but the last batch of each.
                let committed = world.broker.committed(GROUP, WIDE, partition).unwrap_or(0);
                assert!(committed >= end - 4, "{committed} of {end}");
            }
            let buffered = stuck.handle().buffered_bytes().unwrap();
            assert!(buffered > 0 && buffered <= BUDGET + 5_100, "{buffered} bytes are buffered");
            assert!(its.iter().all(|p| world.broker.committed(GROUP, WIDE, p.partition()).unwrap_or(0) == 0));
        }
        // Nobody was bothered: the stuck one's driver is a good member.
        assert_eq!(world.broker.group(GROUP).unwrap().generation, generation);
        let rebalances = world.broker.count_since(mark, |request| request.api == Api::JoinGroup);
        assert_eq!(rebalances, 0);
        assert!(held.is_owned());

        // Its time is over: the others read everything, what it had in hand included.
        read(&mut members, &mut seen, MAX_POLL).await;
        assert!(!held.is_owned());
        for partition in 0..WIDTH {
            let end = world.broker.log_end_offset(WIDE, partition).unwrap();
            let seen = &seen[usize::try_from(partition).unwrap()];
            assert_eq!(*seen, vec![1; usize::try_from(end).unwrap()], "partition {partition}");
        }
        assert_eq!(stuck.handle().buffered_bytes().unwrap(), 0);

        // It comes back: told, and a member again.
        let error = stuck.next_batch().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Limit && !error.is_fatal(), "{error}");
        members.push(stuck);
        read(&mut members, &mut seen, 30 * SECOND).await;
        assert!(members.iter().all(|member| member.assignment().unwrap().len() == share));
        for member in members {
            member.close().await.unwrap();
        }
        world.assert_nothing_left().await;
    });
}

#[test]
fn one_batch_that_is_held_for_ever_holds_back_its_partition_alone() {
    run(async {
        let world = World::new(1).await;
        world.produce(6);
        let commit = Commit::Auto { interval: SECOND };
        let mut consumer = world.member().commit(commit).connect_lazy().unwrap();
        let held = consumer.next_batch().await.unwrap().unwrap();
        let (stuck, other) = (held.partition(), 1 - held.partition());
        let mut seen = Seen::default();
        seen.batch(&held);
        for _ in 0..20 {
            world.produce(6);
            world.read_to_the_end(&mut consumer, &mut seen).await;
            let _ = timeout(2 * SECOND, consumer.next_batch()).await;
            assert_eq!(world.committed(other), Some(world.end(other)));
            assert_eq!(world.committed(stuck), Some(0));
        }
        let held_back = consumer.handle().held_back().unwrap();
        assert_eq!(held_back.iter().map(|held| &held.topic_partition).collect::<Vec<_>>(), [&tp(stuck)]);
        drop(held);
        let _ = timeout(2 * SECOND, consumer.next_batch()).await;
        assert_eq!(world.committed(stuck), Some(world.end(stuck)));
        seen.assert_whole(&world);
        consumer.close().await.unwrap();
        world.assert_nothing_left().await;
    });
}

#[test]
fn a_commit_that_is_never_answered_holds_up_no_read_and_is_sent_again() {
    for polls in [1, 1_000] {
        run(async {
            let world = World::new(1).await;
            world.produce(6);
            let mut seen = Seen::default();
            let mut consumer = world.member().request_timeout(10 * SECOND).connect_lazy().unwrap();
            let batch = consumer.next_batch().await.unwrap().unwrap();
            seen.batch(&batch);
            tokio::time::sleep(SECOND).await;
            let fault = world.broker.fault(Fault::on(Api::OffsetCommit).before_processing().drop_response());
            // Given up after one poll, or waited for all the time.
            let handle = consumer.handle();
            let (net, token) = (world.net.clone(), batch.token());
            let waiting =
                tokio::spawn(
                    async move { polled(handle.commit(token), Cut { polls, late: false }, &net).await },
                );
            fault.wait_fired(1).await;
            for _ in 0..5 {
                world.produce(6);
                let begun = Instant::now();
                world.read_to_the_end(&mut consumer, &mut seen).await;
                assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
            }
            let answer = waiting.await.unwrap();
            tokio::time::sleep(15 * SECOND).await;
            assert_eq!(world.broker.committed(GROUP, TOPIC, batch.partition()), Some(batch.next_offset()));
            assert!(matches!((polls, answer), (1, None) | (1_000, Some(Ok(())))));
            world.read_to_the_end(&mut consumer, &mut seen).await;
            (0..PARTITIONS).for_each(|p| assert_eq!(seen.jumps(p), []));
            consumer.close().await.unwrap();
            world.assert_nothing_left().await;
        });
    }
}
