//! Fetching from the replica in one's own rack, on virtual time (KIP-392).

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse};
use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, ErrorCode, Fault};
use ottla_core::TopicPartition;
use ottla_core::client::{Command, Offset};
use ottla_tests::sim::{Lie, MemberId, Seen, World};

const MINUTE: Duration = Duration::from_secs(60);

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Three brokers in the racks a, b and c; broker 1 leads the one partition, in which there are 100 records.
fn world_with(change: impl FnOnce(ClusterConfig) -> ClusterConfig) -> World {
    let config = change(ClusterConfig::with_nodes(3).racks(["a", "b", "c"]));
    let mut world = World::with_config(7, config);
    world.cluster.create_topic("t", 1).expect("a topic");
    assert_eq!(world.cluster.leader("t", 0).expect("a partition").0, Some(1));
    produce(&mut world, 0..100);
    world
}

fn world() -> World {
    world_with(|config| config)
}

fn produce(world: &mut World, numbers: std::ops::Range<i64>) {
    let now = world.broker_now();
    for n in numbers {
        world.cluster.produce(now, "t", 0, [n.to_string().as_str()]).expect("produced");
    }
}

fn reader(world: &mut World, rack: Option<&str>) -> MemberId {
    let mut config = world.config();
    config.client_rack = rack.map(str::to_owned);
    let id = world.join(config);
    world.command(id, Command::Assign(vec![(tp(), Offset::Earliest)]));
    id
}

/// From which broker how many fetches were answered, since request `from`.
fn fetches(world: &World, from: usize, node: i32) -> usize {
    world.cluster.requests().skip(from).filter(|r| r.api == Api::Fetch && r.node == node).count()
}

fn requests(world: &World) -> usize {
    world.cluster.requests().count()
}

fn in_order(world: &mut World, id: MemberId, count: i64) {
    let values = &world.member(id).values[&tp()];
    let expected: Vec<_> = (0..count).map(|n| (n, n.to_string().into_bytes())).collect();
    assert_eq!(*values, expected);
}

fn untroubled(world: &mut World, id: MemberId) {
    let seen = &world.member(id).seen;
    let told: Vec<_> = seen.iter().filter(|(_, s)| matches!(s, Seen::Error(_) | Seen::Reset(..))).collect();
    assert!(told.is_empty(), "{told:?}");
}

fn read_to(world: &mut World, id: MemberId, count: i64) {
    world.run_until(MINUTE, |w| w.member(id).count() == usize::try_from(count).expect("a count"));
}

#[test]
fn kip_392_records_come_from_the_replica_in_the_clients_rack() {
    let mut world = world();
    let id = reader(&mut world, Some("b"));
    read_to(&mut world, id, 100);
    assert_eq!(fetches(&world, 0, 1), 1, "the leader says where to go");
    let before = requests(&world);
    produce(&mut world, 100..200);
    read_to(&mut world, id, 200);
    assert!(fetches(&world, before, 2) > 0);
    assert_eq!(fetches(&world, before, 1), 0);
    in_order(&mut world, id, 200);
    untroubled(&mut world, id);
}

#[test]
fn kip_392_without_a_rack_or_with_that_of_the_leader_the_leader_is_read_from() {
    for rack in [None, Some("a"), Some("nowhere")] {
        let mut world = world();
        let id = reader(&mut world, rack);
        read_to(&mut world, id, 100);
        world.run_for(Duration::from_secs(5));
        assert_eq!((fetches(&world, 0, 2), fetches(&world, 0, 3)), (0, 0), "{rack:?}");
    }
}

#[test]
fn kip_392_when_the_lease_is_over_the_leader_is_asked_again_from_where_it_stands() {
    let mut world = world();
    let id = reader(&mut world, Some("b"));
    read_to(&mut world, id, 100);
    let before = requests(&world);
    world.run_for(Duration::from_secs(280));
    assert_eq!(fetches(&world, before, 1), 0);
    world.run_for(Duration::from_secs(40));
    assert_eq!(fetches(&world, before, 1), 1, "once in five minutes");
    produce(&mut world, 100..200);
    read_to(&mut world, id, 200);
    in_order(&mut world, id, 200);
}

#[test]
fn kip_392_a_replica_that_lags_behind_gives_what_it_has_and_resets_nothing() {
    // The leader knows how far its followers are, or it does not.
    for leaders_are_ignorant in [false, true] {
        let mut world = world_with(|mut config| {
            config.leaders_are_ignorant = leaders_are_ignorant;
            config
        });
        let now = world.broker_now();
        world.cluster.hold_replica(now, "t", 0, 2, Some(60)).expect("held");
        let id = reader(&mut world, Some("b"));
        read_to(&mut world, id, 60);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.member(id).count(), 60, "it waits for the replica");
        let now = world.broker_now();
        // The replica goes back: it finds out of range what it has given itself.
        world.cluster.hold_replica(now, "t", 0, 2, Some(40)).expect("held");
        let before = requests(&world);
        read_to(&mut world, id, 100);
        assert!(fetches(&world, before, 1) > 0, "the leader judges");
        world.run_for(MINUTE);
        let asked = fetches(&world, before, 1) + fetches(&world, before, 2);
        assert!(asked < 300, "{asked} fetches in a minute");
        in_order(&mut world, id, 100);
        untroubled(&mut world, id);
        let now = world.broker_now();
        world.cluster.hold_replica(now, "t", 0, 2, None).expect("released");
        world.run_for(2 * MINUTE);
        let before = requests(&world);
        produce(&mut world, 100..200);
        read_to(&mut world, id, 200);
        assert!(fetches(&world, before, 2) > 0, "it is tried again");
        in_order(&mut world, id, 200);
    }
}

#[test]
fn kip_392_whatever_a_replica_refuses_is_the_leaders_to_judge() {
    for code in [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::CORRUPT_MESSAGE,
    ] {
        let mut world = world();
        let line = Fault::on(Api::Fetch).node(2).always().topic("t").error(code);
        world.cluster.add_fault(line);
        let id = reader(&mut world, Some("b"));
        read_to(&mut world, id, 100);
        world.run_for(MINUTE);
        in_order(&mut world, id, 100);
        untroubled(&mut world, id);
        let all = fetches(&world, 0, 1) + fetches(&world, 0, 2);
        assert!(all < 300, "{code:?}: {all} fetches in a minute");
    }
}

#[test]
fn kip_392_a_replica_that_refuses_requests_as_a_whole_is_left_for_the_leader() {
    // What brokers say, and what none has ever said.
    for code in [-1, 70, 71, 106, 31, 35, 42, 103, 999] {
        let mut world = world();
        let lie = Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
            (answer.error_code, answer.session_id) = (code, 0);
            answer.responses.clear();
        });
        let lie = world.lie(lie.by(2));
        let id = reader(&mut world, Some("b"));
        read_to(&mut world, id, 100);
        assert!(world.told(lie) > 0, "{code}: it was asked");
        let before = requests(&world);
        world.run_for(4 * MINUTE);
        produce(&mut world, 100..200);
        read_to(&mut world, id, 200);
        in_order(&mut world, id, 200);
        untroubled(&mut world, id);
        let (leader, replica) = (fetches(&world, before, 1), fetches(&world, before, 2));
        assert!(replica > 0, "{code}: it is tried again");
        assert!(leader + replica < 4 * 300, "{code}: {leader} and {replica} fetches in four minutes");
    }
}

#[test]
fn kip_392_a_replica_that_cannot_be_asked_is_left_for_the_leader() {
    let mut world = world();
    let lie = Lie::in_message(Api::ApiVersions, |answer: &mut ApiVersionsResponse| {
        answer.api_keys.retain(|api| api.api_key != Api::Fetch.key());
    });
    world.lie(lie.by(2));
    let id = reader(&mut world, Some("b"));
    read_to(&mut world, id, 100);
    in_order(&mut world, id, 100);
    assert_eq!(fetches(&world, 0, 2), 0);
}

/// Broker 1 names this replica whenever `of` says so of what it names by itself, and gives nothing then.
fn named(replica: i32, of: fn(i32) -> bool) -> Lie {
    let lie = Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
        let partitions = answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        for p in partitions.filter(|p| p.partition_index == 0 && of(*p.preferred_read_replica)) {
            (p.preferred_read_replica, p.records) = (replica.into(), None);
        }
    });
    lie.by(1)
}

#[test]
fn kip_392_a_replica_that_no_metadata_names_is_not_waited_for() {
    // One that is not there, and the leader itself.
    for replica in [9, 1] {
        let mut world = world();
        let lie = world.lie(named(replica, |honest| honest >= 0));
        let id = reader(&mut world, Some("b"));
        read_to(&mut world, id, 100);
        world.run_for(MINUTE);
        produce(&mut world, 100..200);
        read_to(&mut world, id, 200);
        in_order(&mut world, id, 200);
        untroubled(&mut world, id);
        assert!((2..20).contains(&world.told(lie)), "{replica}: named {} times", world.told(lie));
        let asked = fetches(&world, 0, 1);
        assert!(asked < 300, "{replica}: {asked} fetches in a minute");
    }
}

#[test]
fn kip_392_a_leader_that_does_not_look_at_racks_is_followed_too() {
    for rack in [None, Some("b"), Some("nowhere")] {
        let mut world = world();
        world.lie(named(2, |_| true));
        let id = reader(&mut world, rack);
        read_to(&mut world, id, 100);
        // The replica is left for the leader, which gives nothing.
        let now = world.broker_now();
        world.cluster.stop_node(now, 2).expect("stopped");
        let before = requests(&world);
        world.run_for(MINUTE);
        let asked = fetches(&world, before, 1);
        assert!(asked < 300, "{rack:?}: {asked} fetches in a minute");
        let now = world.broker_now();
        world.cluster.start_node(now, 2).expect("started");
        produce(&mut world, 100..200);
        world.run_for(2 * MINUTE);
        in_order(&mut world, id, 200);
        untroubled(&mut world, id);
    }
}

#[test]
fn kip_392_a_partition_that_its_leader_does_not_serve_is_not_asked_for_hotly_beside_a_busy_one() {
    let mut world = world();
    world.cluster.create_topic("u", 2).expect("a topic");
    for p in 0..2 {
        let now = world.broker_now();
        world.cluster.move_leader(now, "u", p, 1).expect("moved");
    }
    let lie = world.lie(named(9, |_| true));
    let mut config = world.config();
    config.client_rack = None;
    let id = world.join(config);
    let partitions = [0, 1].map(|p| (TopicPartition::new("u", p), Offset::Earliest));
    world.command(id, Command::Assign(partitions.to_vec()));
    for n in 0..2_000 {
        let now = world.broker_now();
        for p in 0..2 {
            world.cluster.produce(now, "u", p, [n.to_string().as_str()]).expect("produced");
        }
        world.run_for(Duration::from_millis(5));
    }
    let busy =
        |world: &mut World| world.member(id).values.get(&TopicPartition::new("u", 1)).map_or(0, Vec::len);
    world.run_until(MINUTE, |w| busy(w) == 2_000);
    let (named, asked) = (world.told(lie), fetches(&world, 0, 1));
    assert!(asked > 500, "{asked} fetches: the other is busy");
    assert!(named < 100, "asked for {named} times in ten seconds");
}

#[test]
fn kip_392_a_session_that_a_replica_forgot_is_opened_anew_there() {
    let mut world = world();
    let id = reader(&mut world, Some("b"));
    read_to(&mut world, id, 100);
    for _ in 0..10 {
        world.cluster.evict_fetch_sessions();
        world.run_for(Duration::from_secs(2));
    }
    let before = requests(&world);
    produce(&mut world, 100..200);
    read_to(&mut world, id, 200);
    assert_eq!(fetches(&world, before, 1), 0);
}

#[test]
fn kip_392_a_replica_that_goes_down_is_left_for_the_leader_and_one_that_leads_too() {
    let mut world = world();
    let id = reader(&mut world, Some("b"));
    read_to(&mut world, id, 100);
    let now = world.broker_now();
    world.cluster.stop_node(now, 2).expect("stopped");
    produce(&mut world, 100..200);
    read_to(&mut world, id, 200);
    let now = world.broker_now();
    world.cluster.start_node(now, 2).expect("started");
    world.run_for(2 * MINUTE);
    let before = requests(&world);
    produce(&mut world, 200..300);
    read_to(&mut world, id, 300);
    assert!(fetches(&world, before, 2) > 0, "it is back");
    // Another leader names whom it likes.
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 3).expect("moved");
    produce(&mut world, 300..400);
    read_to(&mut world, id, 400);
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    produce(&mut world, 400..500);
    read_to(&mut world, id, 500);
    in_order(&mut world, id, 500);
    untroubled(&mut world, id);
}
