//! Beginning anew at the bootstrap addresses, on virtual time (KIP-899, KIP-1102).

use std::time::Duration;

use ottla_broker::{Api, ErrorCode, Fault};
use ottla_core::TopicPartition;
use ottla_core::client::Command;
use ottla_core::config::GroupConfig;
use ottla_tests::sim::{MemberId, Seen, World};

const MINUTE: Duration = Duration::from_secs(60);

fn produce(world: &mut World, count: usize) {
    let now = world.broker_now();
    for _ in 0..count {
        world.cluster.produce(now, "t", 0, ["a record"]).expect("produced");
    }
}

/// A member of a group that has read 100 records; it knows only broker 1 from its configuration.
fn member(world: &mut World) -> MemberId {
    world.cluster.create_topic("t", 1).expect("a topic");
    produce(world, 100);
    let mut config = world.config();
    config.bootstrap.truncate(1);
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    id
}

/// It goes on where it was, with the membership it had.
fn goes_on(world: &mut World, id: MemberId) {
    let generation = world.cluster.group_summary("g").expect("a group").1;
    produce(world, 100);
    world.run_until(MINUTE, |w| w.member(id).count() == 200);
    world.run_for(MINUTE);
    let member = world.member(id);
    let offsets: Vec<i64> = member.values[&TopicPartition::new("t", 0)].iter().map(|(o, _)| *o).collect();
    assert_eq!(offsets, (0..200).collect::<Vec<_>>(), "nothing twice, nothing left out");
    let lost = |s: &Seen| matches!(s, Seen::Lost(_) | Seen::Revoking(_));
    assert!(!member.seen.iter().any(|(_, s)| lost(s)));
    assert_eq!(world.cluster.group_summary("g").expect("a group").1, generation, "no rebalance");
}

#[test]
fn kip_1102_a_broker_that_asks_for_it_makes_us_begin_anew_at_once() {
    let mut world = World::new(7, 3);
    let id = member(&mut world);
    world.run_for(Duration::from_secs(200));
    let before = world.connects.len();
    let line =
        world.cluster.add_fault(Fault::on(Api::Metadata).times(1).error(ErrorCode::REBOOTSTRAP_REQUIRED));
    world.run_until(5 * MINUTE, |w| w.cluster.fault_fired(line) == 1);
    world.run_for(Duration::from_secs(5));
    let ports: Vec<u16> = world.connects[before..].iter().map(|(_, port)| *port).collect();
    assert_eq!(ports.first(), Some(&9092), "the configured address comes first: {ports:?}");
    assert!(ports.len() > 1, "and what the cluster is made of after it: {ports:?}");
    goes_on(&mut world, id);
}

#[test]
fn kip_1102_brokers_that_ask_for_it_again_and_again_are_not_asked_hotly() {
    let mut world = World::new(7, 3);
    let id = member(&mut world);
    let line =
        world.cluster.add_fault(Fault::on(Api::Metadata).always().error(ErrorCode::REBOOTSTRAP_REQUIRED));
    world.run_until(6 * MINUTE, |w| w.cluster.fault_fired(line) == 1);
    let before = world.connects.len();
    world.run_for(MINUTE);
    let connects = world.connects.len() - before;
    assert!(connects < 150, "{connects} connections in a minute");
    world.cluster.cancel_fault(line);
    world.run_for(Duration::from_secs(5));
    let member = world.member(id);
    member.seen.clear();
    produce(&mut world, 100);
    world.run_until(MINUTE, |w| w.member(id).count() == 200);
}

#[test]
fn kip_1102_without_metadata_for_the_time_of_the_trigger_it_begins_anew() {
    let mut world = World::new(7, 3);
    let id = member(&mut world);
    // Metadata is asked for every five minutes: from the sixth on no broker has helped for five.
    let line =
        world.cluster.add_fault(Fault::on(Api::Metadata).always().error(ErrorCode::UNKNOWN_SERVER_ERROR));
    world.run_until(6 * MINUTE, |w| w.cluster.fault_fired(line) > 0);
    let fetching = |w: &World| w.cluster.requests().rfind(|r| r.api == Api::Fetch).map(|r| r.connection);
    let connection = fetching(&world);
    world.run_for(4 * MINUTE);
    assert_eq!(fetching(&world), connection, "what works goes on");
    world.run_for(2 * MINUTE);
    world.cluster.cancel_fault(line);
    world.run_for(Duration::from_secs(5));
    assert_ne!(fetching(&world), connection, "all connections are new");
    goes_on(&mut world, id);
}

#[test]
fn kip_899_when_all_known_brokers_are_gone_the_configured_addresses_are_asked() {
    let mut world = World::new(7, 3);
    let id = member(&mut world);
    let now = world.broker_now();
    for node in 1..=3 {
        world.cluster.stop_node(now, node).expect("stopped");
    }
    world.run_for(Duration::from_secs(10));
    let before = world.connects.len();
    world.run_for(Duration::from_secs(10));
    assert!(world.connects[before..].iter().any(|(_, port)| *port == 9092));
    let now = world.broker_now();
    for node in 1..=3 {
        world.cluster.start_node(now, node).expect("started");
    }
    goes_on(&mut world, id);
}
