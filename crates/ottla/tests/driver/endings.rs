//! The end at every point of a consumer's life, in any trouble: bounded, and nothing is left but what is committed.

use std::time::Duration;

use ottla::Consumer;
use ottla_broker::{Api, ErrorCode, Fault};
use tokio::time::Instant;

use crate::harness::{Cut, GROUP, PARTITIONS, Seen, TOPIC, World, all, named, polled, run};
use crate::net::Weather;

const NODES: usize = 2;
const CLOSE: Duration = Duration::from_secs(3);
/// How long a consumer that was dropped takes at most.
const DROP: Duration = Duration::from_secs(5);
/// Turns of the clock and of the runtime.
const SLACK: Duration = Duration::from_millis(10);

const GROUP_APIS: [Api; 7] = [
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::Heartbeat,
    Api::OffsetFetch,
    Api::OffsetCommit,
    Api::LeaveGroup,
];

#[derive(Clone, Copy, Debug)]
enum Trouble {
    None,
    Weather(Weather),
    /// All brokers stop: connections end and are refused.
    BrokersStop,
    /// The node that coordinates the group stops, another one takes over.
    CoordinatorStops,
    /// The coordinator takes requests and answers none.
    CoordinatorMute,
    /// The coordinator answers everything with this.
    CoordinatorSays(ErrorCode),
    /// Another member has joined: a rebalance is under way, and the other one never reads.
    Rebalance,
    /// Every answer ends in the middle.
    MidFrame,
    /// Connections are taken and closed at once.
    TurnedAway,
    /// Connections are closed once, and may come back.
    Killed,
    /// Every answer comes with a minute of throttling.
    Throttled,
}

const TROUBLES: [Trouble; 17] = [
    Trouble::None,
    Trouble::Weather(Weather::Choppy),
    Trouble::Weather(Weather::Drizzle),
    Trouble::Weather(Weather::Silent),
    Trouble::Weather(Weather::Clogged),
    Trouble::Weather(Weather::Gone),
    Trouble::Weather(Weather::Cut(7)),
    Trouble::BrokersStop,
    Trouble::CoordinatorStops,
    Trouble::CoordinatorMute,
    Trouble::CoordinatorSays(ErrorCode::NOT_COORDINATOR),
    Trouble::CoordinatorSays(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    Trouble::Rebalance,
    Trouble::MidFrame,
    Trouble::TurnedAway,
    Trouble::Killed,
    Trouble::Throttled,
];

impl Trouble {
    /// Lets it happen. What is returned is the other member, if there is one.
    fn begin(self, world: &World) -> Option<Consumer> {
        let broker = &world.broker;
        match self {
            Self::None => {}
            Self::Weather(weather) => world.net.set(weather),
            Self::BrokersStop => broker.nodes().into_iter().for_each(|node| broker.stop_node(node).unwrap()),
            Self::CoordinatorStops => broker.stop_node(broker.coordinator(GROUP).unwrap()).unwrap(),
            Self::CoordinatorMute => {
                for api in GROUP_APIS {
                    broker.fault(Fault::on(api).always().drop_response());
                }
            }
            Self::CoordinatorSays(error) => {
                for api in GROUP_APIS {
                    broker.fault(Fault::on(api).always().error(error));
                }
            }
            Self::Rebalance => return Some(world.member().__seed(2).connect_lazy().unwrap()),
            Self::MidFrame => drop(broker.fault(Fault::any().always().close_mid_frame(7))),
            Self::TurnedAway => {
                broker.kill_connections();
                broker.nodes().into_iter().for_each(|node| broker.turn_away(node, true).unwrap());
            }
            Self::Killed => broker.kill_connections(),
            Self::Throttled => drop(broker.fault(Fault::any().always().throttle(Duration::from_secs(60)))),
        }
        None
    }

    fn end(self, world: &World) {
        let broker = &world.broker;
        world.net.set(Weather::Fair);
        broker.clear_faults();
        for node in broker.nodes() {
            broker.start_node(node).unwrap();
            broker.turn_away(node, false).unwrap();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Close,
    Drop,
    /// The close future is dropped after so many polls.
    CloseDropped(u32),
    /// Shut down and read until the end, then closed.
    Shutdown,
    /// Dropped while calls of a handle wait for their answers.
    CallsWait,
}

const ENDINGS: [Ending; 6] = [
    Ending::Close,
    Ending::Drop,
    Ending::CloseDropped(1),
    Ending::CloseDropped(3),
    Ending::Shutdown,
    Ending::CallsWait,
];

impl Ending {
    /// Ends the consumer within its bound. Afterwards it may take `DROP` until nothing is left.
    async fn end(self, mut consumer: Consumer, world: &World) {
        let begun = Instant::now();
        match self {
            Self::Close => {
                let _ = consumer.close_timeout(CLOSE).await;
                assert!(begun.elapsed() <= CLOSE + SLACK, "close took {:?}", begun.elapsed());
                return;
            }
            Self::Drop => drop(consumer),
            Self::CloseDropped(polls) => {
                let cut = Cut { polls, late: false };
                tokio::select! {
                    biased;
                    _ = polled(consumer.close_timeout(CLOSE), cut, &world.net) => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
            Self::Shutdown => {
                consumer.handle().shutdown();
                loop {
                    match consumer.next_batch().await {
                        Ok(None) => break,
                        Ok(Some(batch)) => panic!("{batch:?} after shutdown"),
                        Err(error) => assert!(!error.is_fatal(), "{error}"),
                    }
                }
                assert_eq!(begun.elapsed(), Duration::ZERO, "the read waited");
                let _ = consumer.close_timeout(CLOSE).await;
                assert!(begun.elapsed() <= CLOSE + SLACK, "close took {:?}", begun.elapsed());
                return;
            }
            Self::CallsWait => {
                let handle = consumer.handle();
                let calls = tokio::spawn(async move {
                    let (_, _, _) = tokio::join!(
                        handle.commit_delivered(),
                        handle.end_offsets(all()),
                        handle.partitions_of(TOPIC)
                    );
                });
                tokio::task::yield_now().await;
                drop(consumer);
                calls.await.unwrap();
            }
        }
        tokio::time::sleep((DROP + SLACK).saturating_sub(begun.elapsed())).await;
    }
}

/// What a user does all day: reads, and commits every other batch.
async fn live(consumer: &mut Consumer, seen: &mut Seen) {
    let mut batches = 0;
    loop {
        match consumer.next_batch().await {
            Ok(Some(batch)) => {
                seen.batch(&batch);
                batches += 1;
                if batches % 2 == 0 {
                    // In trouble it may fail; then it is not committed.
                    let _ = consumer.commit(&batch).await;
                }
            }
            Ok(None) => panic!("nobody shut it down"),
            Err(error) => assert!(!error.is_fatal(), "{error}"),
        }
    }
}

/// One life that ends as `ending` says when `point` steps were made and `trouble` has lasted for `lasted`. Returns how
/// many steps there had been, or nothing if there never were so many.
async fn life(trouble: Trouble, ending: Ending, point: u64, lasted: Duration) -> Option<u64> {
    let world = World::new(NODES).await;
    world.produce(12);
    let mut seen = Seen::default();
    let mut consumer = world.member().connect_lazy().unwrap();
    // Until nothing is new any more.
    let day = Duration::from_secs(3);
    tokio::select! {
        biased;
        () = world.net.reached(point) => {}
        () = live(&mut consumer, &mut seen) => {}
        () = tokio::time::sleep(day) => return None,
    }
    let reached = world.net.steps();
    let other = trouble.begin(&world);
    tokio::select! {
        biased;
        () = tokio::time::sleep(lasted) => {}
        () = live(&mut consumer, &mut seen), if !lasted.is_zero() => {}
    }
    let connections = world.net.connections();
    assert!(connections <= 60, "{connections} connections in {lasted:?}");

    let mark = world.broker.mark();
    ending.end(consumer, &world).await;
    // 23 of the historic bugs: who is ending runs hot.
    let asked = world.broker.mark() - mark;
    let connected = world.net.connections() - connections;
    assert!(asked <= 60 && connected <= 45, "{asked} requests and {connected} connections to end");
    if let Some(other) = other {
        drop(other);
        tokio::time::sleep(DROP + SLACK).await;
    }
    world.assert_nothing_left().await;

    // What is committed was seen, and what is not committed comes again.
    trouble.end(&world);
    let committed: Vec<i64> = (0..PARTITIONS).map(|p| world.committed(p).unwrap_or(0)).collect();
    for (partition, committed) in (0..).zip(&committed) {
        assert!(*committed <= seen.last(partition).map_or(0, |last| last + 1), "{committed} of {seen:?}");
        assert_eq!(seen.jumps(partition), [], "in one ownership");
    }
    if reached % 3 != 0 {
        return Some(reached);
    }
    world.produce(6);
    let mut rest = Seen::default();
    let mut next = world.member().__seed(3).connect_lazy().unwrap();
    world.read_to_the_end(&mut next, &mut rest).await;
    for (partition, committed) in (0..).zip(committed) {
        assert_eq!(rest.of(partition).first(), Some(&committed));
        assert!(rest.jumps(partition).len() <= usize::from(committed > 0), "{rest:?}");
    }
    next.close().await.unwrap();
    world.assert_nothing_left().await;
    Some(reached)
}

fn every_point(trouble: Trouble, ending: Ending, lasted: Duration) {
    let (mut point, mut points) = (0, 0);
    while let Some(reached) = named(&format!("{trouble:?} {ending:?} at {point} after {lasted:?}"), || {
        run(life(trouble, ending, point, lasted))
    }) {
        // What happened in the same turn of the driver is one point.
        point = reached + 1;
        points += 1;
    }
    assert!(points >= 15, "only {points} points");
}

#[test]
fn the_end_is_bounded_and_leaves_nothing_when_trouble_begins() {
    for trouble in TROUBLES {
        for ending in ENDINGS {
            every_point(trouble, ending, Duration::ZERO);
        }
    }
}

#[test]
fn the_end_is_bounded_and_leaves_nothing_when_trouble_has_lasted() {
    for trouble in TROUBLES {
        for ending in [Ending::Close, Ending::Drop, Ending::Shutdown] {
            every_point(trouble, ending, Duration::from_secs(4));
        }
    }
}
