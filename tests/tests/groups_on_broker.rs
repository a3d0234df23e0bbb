//! Group membership: the client's core against the embedded broker's core, on virtual time.

use std::time::Duration;

use ottla_broker::{Api, ErrorCode, Fault, GroupState};
use ottla_core::assignor::Assignor;
use ottla_core::client::Command;
use ottla_core::config::GroupConfig;
use ottla_tests::sim::{MemberId, Seen, World};

mod members;

use members::{MINUTE, PARTITIONS, produce, requests, shares, subscriber, told_of_partitions, world};

fn group() -> GroupConfig {
    GroupConfig { session_timeout: Duration::from_secs(10), ..GroupConfig::new("g") }
}

fn settle(world: &mut World, members: &[MemberId], expected: &[usize]) {
    world.run_until(2 * MINUTE, |w| {
        let stable = w.cluster.group("g").is_some_and(|g| g.members.len() == members.len());
        let shares = shares(w, members);
        stable && shares == expected
    });
}

#[test]
fn heartbeats_come_on_time_while_nothing_else_happens() {
    let mut world = world(1);
    let member = subscriber(&mut world, group());
    settle(&mut world, &[member], &[PARTITIONS]);
    let since = world.cluster.next_request_index();
    world.run_for(MINUTE);
    let beats: Vec<Duration> = world
        .cluster
        .requests()
        .filter(|r| r.index >= since && r.api == Api::Heartbeat)
        .map(|r| r.at)
        .collect();
    assert!((19..=21).contains(&beats.len()), "{beats:?}");
    for pair in beats.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(gap <= Duration::from_millis(3010), "{gap:?} between two heartbeats");
    }
}

/// One to three to two members and back to one, eager and cooperative.
#[test]
fn members_come_and_go() {
    for assignor in Assignor::ALL {
        let config = || GroupConfig { assignors: vec![assignor], ..group() };
        let mut world = world(3);
        let first = subscriber(&mut world, config());
        settle(&mut world, &[first], &[12]);
        let second = subscriber(&mut world, config());
        let third = subscriber(&mut world, config());
        settle(&mut world, &[first, second, third], &[4, 4, 4]);
        world.command(second, Command::Close { timeout: Duration::from_secs(10) });
        world.run_until(MINUTE, |w| w.member(second).is_closed());
        settle(&mut world, &[first, third], &[6, 6]);
        world.command(third, Command::Unsubscribe);
        settle(&mut world, &[first], &[12]);
        assert_eq!(requests(&world, Api::LeaveGroup, 0), 2, "{assignor:?}");
        for member in [first, second, third] {
            let told = told_of_partitions(&mut world, member, 0);
            let bad = told.iter().filter(|t| t.starts_with("Lost") || t.starts_with("Error")).count();
            assert_eq!(bad, 0, "{assignor:?}: {told:?}");
        }
    }
}

/// KIP-429: what a member keeps is neither revoked nor assigned again, and its offset is not asked for again.
#[test]
fn kip_429_kept_partitions_are_not_touched() {
    let mut world = world(3);
    let first = subscriber(&mut world, group());
    settle(&mut world, &[first], &[12]);
    world.run_for(Duration::from_secs(5));
    let (since, before) = (world.cluster.next_request_index(), world.member(first).seen.len());
    let second = subscriber(&mut world, group());
    settle(&mut world, &[first, second], &[6, 6]);
    world.run_for(Duration::from_secs(5));
    let told = told_of_partitions(&mut world, first, before);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Revoking"), "{told:?}");
    let kept = world.member(first).owned();
    let again = world
        .cluster
        .requests()
        .filter(|r| r.index >= since && r.api == Api::OffsetFetch)
        .filter(|r| kept.iter().any(|tp| r.names(tp.topic(), tp.partition())))
        .count();
    assert_eq!(again, 0, "offsets of kept partitions were fetched again");
}

/// Between JoinGroup and SyncGroup, however long that takes, the records of kept partitions are handed out as soon as
/// they are written, and when the last member has given back, the rebalance is over at once.
#[test]
fn kip_429_a_rebalance_that_is_held_up_delays_no_record_of_a_kept_partition() {
    /// A few times there and back.
    const SOON: Duration = Duration::from_millis(20);
    let mut world = world(3);
    let first = subscriber(&mut world, group());
    settle(&mut world, &[first], &[12]);
    let second = subscriber(&mut world, group());
    settle(&mut world, &[first, second], &[6, 6]);
    world.run_for(Duration::from_secs(5));
    // The second one does not read on after its revocation.
    world.member(second).auto_read = false;
    let before = world.member(first).seen.len();
    let third = subscriber(&mut world, group());
    world.run_until(MINUTE, |w| {
        if !matches!(w.member(second).seen.last(), Some((_, Seen::Revoking(_)))) {
            w.read(second);
            return false;
        }
        let waits = w.cluster.group("g").is_some_and(|g| g.state == GroupState::PreparingRebalance);
        waits && w.member(first).owned().len() == 4
    });
    let kept = world.member(first).owned();
    for round in 1..=20 {
        produce(&mut world, &kept);
        let written = world.now();
        world.run_until(MINUTE, |w| w.member(first).count() == 4 * round);
        let took = world.now().since(written);
        assert!(took <= SOON, "round {round}: {took:?}");
        world.run_for(Duration::from_millis(500));
        assert_eq!(shares(&mut world, &[first, second, third]), [4, 6, 0], "round {round}");
    }
    assert_eq!(
        world.cluster.group("g").map(|g| g.state),
        Some(GroupState::PreparingRebalance),
        "the rebalance stood still all the while"
    );
    world.member(second).auto_read = true;
    let freed = world.now();
    settle(&mut world, &[first, second, third], &[4, 4, 4]);
    let took = world.now().since(freed);
    assert!(took <= SOON, "{took:?}");
    let told = told_of_partitions(&mut world, first, before);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Revoking"), "{told:?}");
}

/// Eager: everybody stops from learning of the rebalance, at the latest a heartbeat after it began, until the new
/// assignment; that is no longer than the slowest heartbeat.
#[test]
fn an_eager_rebalance_takes_no_longer_than_a_heartbeat() {
    let config = || GroupConfig { assignors: vec![Assignor::Range], ..group() };
    let mut world = world(3);
    let first = subscriber(&mut world, config());
    settle(&mut world, &[first], &[12]);
    let second = subscriber(&mut world, config());
    settle(&mut world, &[first, second], &[6, 6]);
    world.run_for(Duration::from_secs(5));
    let joined = world.now();
    let third = subscriber(&mut world, config());
    settle(&mut world, &[first, second, third], &[4, 4, 4]);
    let took = world.now().since(joined);
    let bound = group().heartbeat_interval + Duration::from_millis(50);
    assert!(took <= bound, "{took:?}");
    for member in [first, second] {
        let told = |wanted: fn(&Seen) -> bool, world: &mut World| {
            world.member(member).seen.iter().rfind(|(_, s)| wanted(s)).map(|(at, _)| *at).expect("told")
        };
        let revoked = told(|s| matches!(s, Seen::Revoking(_)), &mut world);
        let assigned = told(|s| matches!(s, Seen::Assigned(_)), &mut world);
        assert!(revoked >= joined && assigned.since(revoked) <= bound, "{revoked:?} to {assigned:?}");
    }
}

#[test]
fn a_killed_member_is_replaced_after_its_session() {
    let mut world = world(3);
    let members: Vec<_> = (0..3).map(|_| subscriber(&mut world, group())).collect();
    settle(&mut world, &members, &[4, 4, 4]);
    let killed = world.now();
    world.kill(members[2]);
    settle(&mut world, &members[..2], &[6, 6]);
    let took = world.now().since(killed);
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(20), "{took:?}");
}

/// L5: the coordinator is away for less than the session, or moves to another broker.
#[test]
fn a_coordinator_that_goes_and_comes_costs_no_rebalance() {
    let mut world = world(3);
    let members: Vec<_> = (0..3).map(|_| subscriber(&mut world, group())).collect();
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(Duration::from_secs(10));
    let generation = world.cluster.group("g").expect("the group").generation;
    let since = world.cluster.next_request_index();
    let before: Vec<_> = members.iter().map(|m| world.member(*m).seen.len()).collect();
    for _ in 0..3 {
        let node = world.cluster.coordinator("g").expect("a coordinator");
        let now = world.broker_now();
        world.cluster.stop_node(now, node).expect("stopped");
        world.run_for(Duration::from_secs(4));
        let now = world.broker_now();
        world.cluster.start_node(now, node).expect("started");
        world.run_for(Duration::from_secs(10));
    }
    assert_eq!(requests(&world, Api::JoinGroup, since), 0);
    assert_eq!(world.cluster.group("g").expect("the group").generation, generation);
    for (member, before) in members.iter().zip(before) {
        let told = told_of_partitions(&mut world, *member, before);
        let moved = told.iter().filter(|t| !t.starts_with("Error")).count();
        assert_eq!(moved, 0, "{told:?}");
    }
    assert_eq!(shares(&mut world, &members), [4, 4, 4]);
}

/// The coordinator is unreachable for longer than the session: everything is lost by the member's own clock,
/// and when it is back the group forms anew.
#[test]
fn a_cluster_that_is_away_for_longer_than_the_session_costs_everything() {
    let mut world = world(1);
    let members: Vec<_> = (0..2).map(|_| subscriber(&mut world, group())).collect();
    settle(&mut world, &members, &[6, 6]);
    let node = world.cluster.coordinator("g").expect("a coordinator");
    let now = world.broker_now();
    world.cluster.stop_node(now, node).expect("stopped");
    world.run_for(Duration::from_secs(11));
    assert_eq!(shares(&mut world, &members), [0, 0]);
    let now = world.broker_now();
    world.cluster.start_node(now, node).expect("started");
    settle(&mut world, &members, &[6, 6]);
}

/// KIP-345: a static member that is back within its session takes up where it was, and nobody else notices.
#[test]
fn kip_345_a_static_restart_within_the_session_costs_no_rebalance() {
    let fixed = |id: &str| GroupConfig { group_instance_id: Some(id.to_owned()), ..group() };
    let mut world = world(3);
    let mut members: Vec<_> = ["a", "b", "c"].iter().map(|id| subscriber(&mut world, fixed(id))).collect();
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(Duration::from_secs(10));
    let generation = world.cluster.group("g").expect("the group").generation;
    let was = world.member(members[1]).owned();
    let before = world.member(members[0]).seen.len();
    world.command(members[1], Command::Close { timeout: Duration::from_secs(5) });
    world.run_for(Duration::from_secs(4));
    members[1] = subscriber(&mut world, fixed("b"));
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.member(members[1]).owned(), was);
    assert_eq!(world.cluster.group("g").expect("the group").generation, generation);
    assert_eq!(requests(&world, Api::LeaveGroup, 0), 0);
    assert_eq!(told_of_partitions(&mut world, members[0], before), [""; 0]);
}

/// KIP-345: of two with one instance id the older is fenced, and says so.
#[test]
fn kip_345_a_doubled_instance_id_fences_the_older_member() {
    let fixed = || GroupConfig { group_instance_id: Some("a".to_owned()), ..group() };
    let mut world = world(1);
    let older = subscriber(&mut world, fixed());
    settle(&mut world, &[older], &[12]);
    let newer = subscriber(&mut world, fixed());
    world.run_until(MINUTE, |w| {
        w.member(newer).owned().len() == 12
            && w.member(older).seen.iter().any(|(_, s)| matches!(s, Seen::Error(e) if e.is_fatal()))
    });
    assert_eq!(world.member(older).owned(), []);
}

/// Whatever a coordinator answers now and then, the group ends up whole, with one owner each.
#[test]
fn errors_of_every_kind_are_survived() {
    let codes = [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
    ];
    for api in [Api::JoinGroup, Api::SyncGroup, Api::Heartbeat, Api::OffsetCommit] {
        for code in codes {
            for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
                let config = || GroupConfig { assignors: vec![assignor], ..group() };
                let mut world = world(2);
                let first = subscriber(&mut world, config());
                settle(&mut world, &[first], &[12]);
                world.cluster.add_fault(Fault::on(api).times(3).error(code));
                let second = subscriber(&mut world, config());
                world.run_for(Duration::from_secs(30));
                settle(&mut world, &[first, second], &[6, 6]);
                let since = world.cluster.next_request_index();
                world.run_for(MINUTE);
                assert_eq!(requests(&world, Api::JoinGroup, since), 0, "{api:?} {code:?} {assignor:?}");
            }
        }
    }
}

/// Answers that never come, and connections that break in the middle of them.
#[test]
fn answers_that_are_lost_are_survived() {
    for api in [Api::JoinGroup, Api::SyncGroup, Api::Heartbeat, Api::FindCoordinator] {
        let faults: [fn(Fault) -> Fault; 3] =
            [Fault::drop_response, Fault::close_connection, |f| f.close_mid_frame(6)];
        for fault in faults {
            // An answer that was lost on a connection that lives is given up only after the rebalance timeout.
            let config = || GroupConfig { rebalance_timeout: Duration::from_secs(10), ..group() };
            let mut world = world(2);
            let first = subscriber(&mut world, config());
            settle(&mut world, &[first], &[12]);
            world.cluster.add_fault(fault(Fault::on(api).times(3)));
            let second = subscriber(&mut world, config());
            settle(&mut world, &[first, second], &[6, 6]);
        }
    }
}
