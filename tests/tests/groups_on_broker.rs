//! Group membership: the client's core against the embedded broker's core, on virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_broker::{Api, ErrorCode, Fault, GroupState};
use ottla_core::assignor::Assignor;
use ottla_core::client::{Command, CommitItem, Outcome};
use ottla_core::config::{CommitMode, GroupConfig, GroupProtocol};
use ottla_core::{CommitError, TopicPartition};
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

/// librdkafka's 0106: nobody answers heartbeats for a session. What was owned is lost by the member's own clock; commits of
/// what was read before it are `NotOwned` and move nothing, by hand and in the background, and automatic ones are dropped.
/// When the coordinator is back everything is read again and committed.
#[test]
fn a_session_that_ends_here_ends_commits_too() {
    for mode in [CommitMode::Manual, CommitMode::Auto { interval: MINUTE }] {
        let mut world = world(1);
        let mut config = world.config();
        config.group = Some(group());
        config.commit = mode;
        let member = world.join(config);
        world.command(member, Command::Subscribe(vec!["t".to_owned()]));
        settle(&mut world, &[member], &[PARTITIONS]);
        world.run_for(Duration::from_secs(5));
        let before = world.member(member).seen.len();
        let all = world.member(member).owned();
        let fault =
            world.cluster.add_fault(Fault::on(Api::Heartbeat).always().error(ErrorCode::NOT_COORDINATOR));
        produce(&mut world, &all);
        world.member(member).auto_read = false;
        world.run_until(MINUTE, |w| w.read(member) && w.member(member).count() == PARTITIONS);
        let token = world.member(member).hand.as_ref().expect("the last batch").token();
        world.member(member).auto_read = true;
        world.run_until(MINUTE, |w| w.member(member).owned().is_empty());
        world.member(member).outcomes.clear();
        world.command(member, Command::Commit(vec![CommitItem::Token(token.clone())]));
        let outcome = world.member(member).outcomes.pop();
        let Some(Outcome::Commit(results)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(results[..], [(_, Err(CommitError::NotOwned))]), "{results:?}");
        world.command(member, Command::CommitInBackground(vec![CommitItem::Token(token)]));
        world.cluster.cancel_fault(fault);
        world.run_until(MINUTE, |w| w.member(member).count() == 2 * PARTITIONS);
        let told = told_of_partitions(&mut world, member, before);
        let lost = told.iter().filter(|text| text.starts_with("Lost")).count();
        assert_eq!((lost, told.len()), (1, 2), "lost once, assigned anew: {told:?}");
        let committed = |w: &World| {
            let one = |p| w.cluster.committed("g", "t", p).is_some_and(|c| c.offset == 1);
            (0..PARTITIONS as i32).filter(|p| one(*p)).count()
        };
        assert_eq!(committed(&world), 0, "{mode:?}: nothing that was lost is committed");
        if mode == CommitMode::Manual {
            world.command(member, Command::CommitDelivered);
        } else {
            world.command(member, Command::Close { timeout: Duration::from_secs(10) });
        }
        world.run_until(MINUTE, |w| committed(w) == PARTITIONS);
    }
}

/// librdkafka's 0113 u: eight members change what they subscribe to by a script. At any time a partition has one owner; in
/// the end everybody owns of its topics alone, all of them are shared out, and every record has come.
#[test]
fn subscriptions_change_by_a_script() {
    /// After so many seconds this member subscribes to these: 0 is none of both topics, 3 both.
    const SCRIPT: [(u64, usize, u8); 27] = [
        (0, 0, 1),
        (0, 1, 1),
        (1, 2, 1),
        (1, 3, 1),
        (2, 4, 1),
        (4, 5, 1),
        (0, 6, 1),
        (2, 7, 1),
        (1, 0, 3),
        (1, 1, 3),
        (0, 2, 3),
        (3, 3, 3),
        (1, 0, 2),
        (0, 1, 2),
        (6, 4, 0),
        (1, 5, 0),
        (0, 6, 2),
        (1, 7, 2),
        (5, 4, 3),
        (0, 5, 3),
        (1, 2, 1),
        (1, 3, 1),
        (2, 0, 0),
        (0, 0, 3),
        (1, 1, 1),
        (0, 1, 2),
        (4, 7, 3),
    ];
    let protocols = [GroupProtocol::Classic, GroupProtocol::Consumer];
    for (protocol, events) in protocols.into_iter().flat_map(|p| [(p, true), (p, false)]) {
        let mut world = world(3);
        world.cluster.create_topic("other", 6).expect("a topic");
        let topics = ["t", "other"];
        let members: Vec<MemberId> = (0..8)
            .map(|_| {
                let mut config = world.config();
                config.group = Some(GroupConfig { protocol, ..group() });
                let id = world.join(config);
                world.member(id).events = events;
                id
            })
            .collect();
        let mut wanted = [0u8; 8];
        let mut written = 0;
        for (round, (seconds, member, of)) in SCRIPT.into_iter().enumerate() {
            let now = world.broker_now();
            for (topic, partitions) in [("t", PARTITIONS as i32), ("other", 6)] {
                for p in 0..partitions {
                    world.cluster.produce(now, topic, p, [round.to_string().as_str()]).expect("produced");
                    written += 1;
                }
            }
            wanted[member] = of;
            let names = topics.iter().enumerate().filter(|(i, _)| of & (1 << i) != 0);
            let names: Vec<String> = names.map(|(_, topic)| (*topic).to_owned()).collect();
            let command = if names.is_empty() { Command::Unsubscribe } else { Command::Subscribe(names) };
            world.command(members[member], command);
            let until = world.now() + Duration::from_secs(seconds);
            world.run_until(MINUTE, |w| {
                shares(w, &members);
                w.now() >= until
            });
        }
        let whole = |w: &mut World| {
            let fits = members.iter().zip(wanted).all(|(member, of)| {
                let fit = |tp: &TopicPartition| of & if tp.topic() == "t" { 1 } else { 2 } != 0;
                w.member(*member).owned().iter().all(fit)
            });
            fits && shares(w, &members).iter().sum::<usize>() == PARTITIONS + 6
        };
        world.run_until(3 * MINUTE, whole);
        // Everything has come, whoever got it; what was under way at a change may come twice.
        let come = |w: &mut World| {
            let mut all = BTreeSet::new();
            for member in &members {
                for (tp, values) in &w.member(*member).values {
                    all.extend(values.iter().map(|(offset, _)| (tp.clone(), *offset)));
                }
            }
            all.len()
        };
        world.run_until(3 * MINUTE, |w| come(w) == written);
        world.run_for(MINUTE);
        assert!(whole(&mut world), "{protocol:?}, events {events}");
        let lost = members
            .iter()
            .map(|m| told_of_partitions(&mut world, *m, 0))
            .filter(|told| told.iter().any(|text| text.starts_with("Lost") || text.starts_with("Error")));
        assert_eq!(lost.count(), 0, "{protocol:?}, events {events}");
    }
}
