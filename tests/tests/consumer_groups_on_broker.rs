//! Membership over the consumer protocol (KIP-848): the client's core against the embedded broker's core, on virtual
//! time.

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, ErrorCode, Fault, GroupState, MigrationPolicy};
use ottla_core::client::{Command, Outcome};
use ottla_core::config::{GroupConfig, GroupProtocol};
use ottla_core::{ErrorKind, TopicPartition};
use ottla_tests::sim::{MemberId, Seen, World};

mod members;

use members::{MINUTE, PARTITIONS, produce, requests, shares, subscriber, told_of_partitions, world};

/// The broker's `group.consumer.session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(45);

fn group() -> GroupConfig {
    GroupConfig { protocol: GroupProtocol::Consumer, ..GroupConfig::new("g") }
}

fn older(release: &str) -> World {
    World::with_config(11, ClusterConfig::with_nodes(1).as_version(release).expect("a release"))
}

fn settle(world: &mut World, members: &[MemberId], expected: &[usize]) {
    world.run_until(3 * MINUTE, |w| {
        let group = w.cluster.group("g");
        let stable = group.is_some_and(|g| g.members.len() == members.len() && g.state == GroupState::Stable);
        let shares = shares(w, members);
        stable && shares == expected
    });
}

#[test]
fn heartbeats_come_at_the_brokers_interval_and_nothing_of_the_classic_protocol_is_sent() {
    let mut world = world(1);
    let member = subscriber(&mut world, group());
    settle(&mut world, &[member], &[PARTITIONS]);
    let since = world.cluster.next_request_index();
    world.run_for(MINUTE);
    let beats = requests(&world, Api::ConsumerGroupHeartbeat, since);
    assert!((11..=13).contains(&beats), "{beats}");
    for api in [Api::JoinGroup, Api::SyncGroup, Api::Heartbeat] {
        assert_eq!(requests(&world, api, 0), 0, "{api}");
    }
}

/// One to three to two members and back to one, with both assignors of the broker.
#[test]
fn members_come_and_go() {
    for assignor in [None, Some("uniform"), Some("range")] {
        let config = || GroupConfig { remote_assignor: assignor.map(str::to_owned), ..group() };
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
        for member in [first, second, third] {
            let told = told_of_partitions(&mut world, member, 0);
            let bad = told.iter().filter(|t| t.starts_with("Lost") || t.starts_with("Error")).count();
            assert_eq!(bad, 0, "{assignor:?}: {told:?}");
        }
    }
}

#[test]
fn kept_partitions_are_not_touched() {
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

/// The member that holds on to what it has to give back delays nobody else; records of kept partitions are handed out
/// as soon as they are written.
#[test]
fn a_member_that_holds_on_delays_only_what_it_holds() {
    const SOON: Duration = Duration::from_millis(20);
    let mut world = world(3);
    let first = subscriber(&mut world, group());
    let second = subscriber(&mut world, group());
    settle(&mut world, &[first, second], &[6, 6]);
    world.run_for(Duration::from_secs(5));
    world.member(second).auto_read = false;
    let third = subscriber(&mut world, group());
    world.run_until(MINUTE, |w| {
        if !matches!(w.member(second).seen.last(), Some((_, Seen::Revoking(_)))) {
            w.read(second);
        }
        w.member(first).owned().len() == 4 && w.member(third).owned().len() == 2
    });
    let kept = world.member(first).owned();
    let before = world.member(first).count();
    for round in 1..=10 {
        produce(&mut world, &kept);
        let written = world.now();
        world.run_until(MINUTE, |w| w.member(first).count() == before + 4 * round);
        let took = world.now().since(written);
        assert!(took <= SOON, "round {round}: {took:?}");
        world.run_for(Duration::from_millis(500));
        assert_eq!(shares(&mut world, &[first, second, third]), [4, 6, 2], "round {round}");
    }
    world.member(second).auto_read = true;
    settle(&mut world, &[first, second, third], &[4, 4, 4]);
}

/// Revocations wait for the reader until their deadline; then what it did not give back is lost, and the broker never
/// had to put the member out.
#[test]
fn what_is_not_given_back_in_time_is_lost_before_the_broker_fences() {
    let config =
        || GroupConfig { rebalance_timeout: Duration::from_secs(40), max_poll_interval: None, ..group() };
    let mut world = world(1);
    let first = subscriber(&mut world, config());
    settle(&mut world, &[first], &[12]);
    world.member(first).auto_read = false;
    let before = world.member(first).seen.len();
    let since = world.cluster.next_request_index();
    let second = subscriber(&mut world, config());
    // It takes the revocation, and stays away.
    world.run_until(MINUTE, |w| {
        w.read(first);
        matches!(w.member(first).seen.last(), Some((_, Seen::Revoking(_))))
    });
    settle(&mut world, &[first, second], &[6, 6]);
    world.member(first).auto_read = true;
    world.run_for(Duration::from_secs(1));
    let told = told_of_partitions(&mut world, first, before);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("Revoking") && told[1].starts_with("Lost"), "{told:?}");
    let fenced = world.cluster.requests().filter(|r| r.index >= since && r.error.is_some());
    assert_eq!(fenced.filter(|r| r.api == Api::ConsumerGroupHeartbeat).count(), 0);
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
    assert!(took > SESSION - Duration::from_secs(6) && took < SESSION + Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_coordinator_that_goes_and_comes_costs_no_rebalance() {
    let mut world = world(3);
    let members: Vec<_> = (0..3).map(|_| subscriber(&mut world, group())).collect();
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(Duration::from_secs(10));
    let epoch = world.cluster.group("g").expect("the group").generation;
    let before: Vec<_> = members.iter().map(|m| world.member(*m).seen.len()).collect();
    for _ in 0..3 {
        let node = world.cluster.coordinator("g").expect("a coordinator");
        let now = world.broker_now();
        world.cluster.stop_node(now, node).expect("stopped");
        world.run_for(Duration::from_secs(20));
        let now = world.broker_now();
        world.cluster.start_node(now, node).expect("started");
        world.run_for(Duration::from_secs(10));
    }
    assert_eq!(world.cluster.group("g").expect("the group").generation, epoch);
    for (member, before) in members.iter().zip(before) {
        let told = told_of_partitions(&mut world, *member, before);
        let moved = told.iter().filter(|t| !t.starts_with("Error")).count();
        assert_eq!(moved, 0, "{told:?}");
    }
    assert_eq!(shares(&mut world, &members), [4, 4, 4]);
}

/// KIP-345: a static member that is back within its session takes up where it was, and nobody else notices.
#[test]
fn a_static_restart_within_the_session_costs_no_rebalance() {
    let fixed = |id: &str| GroupConfig { group_instance_id: Some(id.to_owned()), ..group() };
    let mut world = world(3);
    let mut members: Vec<_> = ["a", "b", "c"].iter().map(|id| subscriber(&mut world, fixed(id))).collect();
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(Duration::from_secs(10));
    let epoch = world.cluster.group("g").expect("the group").generation;
    let was = world.member(members[1]).owned();
    let before = world.member(members[0]).seen.len();
    world.command(members[1], Command::Close { timeout: Duration::from_secs(5) });
    world.run_for(Duration::from_secs(20));
    members[1] = subscriber(&mut world, fixed("b"));
    settle(&mut world, &members, &[4, 4, 4]);
    world.run_for(MINUTE);
    assert_eq!(world.member(members[1]).owned(), was);
    assert_eq!(world.cluster.group("g").expect("the group").generation, epoch);
    assert_eq!(told_of_partitions(&mut world, members[0], before), [""; 0]);
}

/// Unlike in a classic group, of two with one instance id the newer is refused.
#[test]
fn a_doubled_instance_id_is_refused_and_the_owner_does_not_notice() {
    let fixed = || GroupConfig { group_instance_id: Some("a".to_owned()), ..group() };
    let mut world = world(1);
    let older = subscriber(&mut world, fixed());
    settle(&mut world, &[older], &[12]);
    let before = world.member(older).seen.len();
    let newer = subscriber(&mut world, fixed());
    world.run_until(MINUTE, |w| {
        w.member(newer).seen.iter().any(|(_, s)| matches!(s, Seen::Error(e) if e.is_fatal()))
    });
    world.run_for(MINUTE);
    assert_eq!((world.member(older).owned().len(), world.member(newer).owned().len()), (12, 0));
    assert_eq!(told_of_partitions(&mut world, older, before), [""; 0]);
}

/// The answer to the join of a static member is lost: the coordinator says that its id is taken, by itself.
#[test]
fn a_static_member_whose_join_was_not_answered_gets_in_all_the_same() {
    let faults: [fn(Fault) -> Fault; 2] = [Fault::drop_response, Fault::close_connection];
    for fault in faults {
        let mut world = world(1);
        world.cluster.add_fault(fault(Fault::on(Api::ConsumerGroupHeartbeat).times(1)));
        let fixed = GroupConfig { group_instance_id: Some("a".to_owned()), ..group() };
        let member = subscriber(&mut world, fixed);
        settle(&mut world, &[member], &[12]);
    }
}

/// Whatever a coordinator answers now and then, the group ends up whole, with one owner each.
#[test]
fn errors_of_every_kind_are_survived() {
    let codes = [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_MEMBER_EPOCH,
        ErrorCode::STALE_MEMBER_EPOCH,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ];
    for api in [Api::ConsumerGroupHeartbeat, Api::OffsetCommit, Api::OffsetFetch, Api::FindCoordinator] {
        for code in codes {
            let mut world = world(2);
            let first = subscriber(&mut world, group());
            settle(&mut world, &[first], &[12]);
            world.cluster.add_fault(Fault::on(api).times(3).error(code));
            let second = subscriber(&mut world, group());
            world.run_for(MINUTE);
            settle(&mut world, &[first, second], &[6, 6]);
            let epoch = world.cluster.group("g").expect("the group").generation;
            world.run_for(MINUTE);
            assert_eq!(world.cluster.group("g").expect("the group").generation, epoch, "{api} {code}");
        }
    }
}

/// Answers that never come, and connections that break in the middle of them.
#[test]
fn answers_that_are_lost_are_survived() {
    for api in [Api::ConsumerGroupHeartbeat, Api::FindCoordinator, Api::Metadata] {
        let faults: [fn(Fault) -> Fault; 3] =
            [Fault::drop_response, Fault::close_connection, |f| f.close_mid_frame(6)];
        for fault in faults {
            let mut world = world(2);
            let first = subscriber(&mut world, group());
            settle(&mut world, &[first], &[12]);
            world.cluster.add_fault(fault(Fault::on(api).times(3)));
            let second = subscriber(&mut world, group());
            settle(&mut world, &[first, second], &[6, 6]);
        }
    }
}

/// The epoch moves on while a commit is under way: it is sent again with the newer one and nothing is lost.
#[test]
fn a_commit_with_a_stale_epoch_is_sent_again_with_the_newer_one() {
    let mut world = world(1);
    let first = subscriber(&mut world, group());
    settle(&mut world, &[first], &[12]);
    let all = world.member(first).owned();
    produce(&mut world, &all);
    world.run_until(MINUTE, |w| w.member(first).count() == 12);
    world.cluster.add_fault(Fault::on(Api::OffsetCommit).times(4).error(ErrorCode::STALE_MEMBER_EPOCH));
    world.run_for(MINUTE);
    for p in 0..PARTITIONS as i32 {
        assert_eq!(world.cluster.committed("g", "t", p).map(|c| c.offset), Some(1), "t-{p}");
    }
    assert!(told_of_partitions(&mut world, first, 0).len() == 1);
}

/// Topics and partitions that come and go are assigned by the coordinator, by id.
#[test]
fn topics_and_partitions_come_and_go() {
    let mut world = World::new(5, 1);
    let member = subscriber(&mut world, group());
    world.run_for(Duration::from_secs(20));
    world.cluster.create_topic("t", 2).expect("a topic");
    settle(&mut world, &[member], &[2]);
    world.cluster.create_partitions("t", 5).expect("more");
    settle(&mut world, &[member], &[5]);
    let now = world.broker_now();
    world.cluster.delete_topic(now, "t").expect("deleted");
    settle(&mut world, &[member], &[0]);
    world.cluster.create_topic("t", 3).expect("made anew");
    settle(&mut world, &[member], &[3]);
    let now = world.broker_now();
    world.cluster.delete_topic(now, "t").expect("deleted");
    world.cluster.create_topic("t", 4).expect("made anew at once");
    settle(&mut world, &[member], &[4]);
    let written: Vec<_> = (0..4).map(|p| TopicPartition::new("t", p)).collect();
    let before = world.member(member).count();
    produce(&mut world, &written);
    world.run_until(MINUTE, |w| w.member(member).count() == before + 4);
}

/// What was done of a topic that was deleted says nothing of the one that has its name now, whoever tells of it first and
/// however long the reader holds on to it: as many records as it had read of the old one are not skipped in the new one.
#[test]
fn nothing_of_a_deleted_topic_is_committed_for_the_one_made_anew() {
    // By topic id, and in versions of commits that name topics.
    let cases = [
        (GroupProtocol::Consumer, "4.3"),
        (GroupProtocol::Consumer, "4.1"),
        (GroupProtocol::Classic, "4.3"),
        (GroupProtocol::Classic, "3.9"),
    ];
    for (protocol, release) in cases {
        for holds_on in [false, true] {
            let mut world = older(release);
            world.cluster.create_topic("t", PARTITIONS as i32).expect("a topic");
            let member = subscriber(&mut world, GroupConfig { protocol, ..group() });
            settle(&mut world, &[member], &[PARTITIONS]);
            let all = world.member(member).owned();
            produce(&mut world, &all);
            world.run_until(MINUTE, |w| w.member(member).count() == PARTITIONS);
            world.member(member).auto_read = !holds_on;
            let now = world.broker_now();
            world.cluster.delete_topic(now, "t").expect("deleted");
            world.cluster.create_topic("t", 1).expect("made anew at once");
            produce(&mut world, &[TopicPartition::new("t", 0)]);
            if holds_on {
                world.run_for(Duration::from_secs(15));
                // Its beginning is where it is read from, and nothing else.
                let committed = world.cluster.committed("g", "t", 0).map_or(0, |c| c.offset);
                assert_eq!(committed, 0, "{protocol:?} on {release}");
                world.member(member).auto_read = true;
            }
            world.run_until(MINUTE, |w| w.member(member).count() == PARTITIONS + 1);
        }
    }
}

/// Who had a partition of a topic that was deleted reads nothing of the new one of its name before the group has
/// exchanged them: the group goes by ids, and may give it to somebody else.
#[test]
fn a_topic_made_anew_is_not_read_before_the_group_has_given_it() {
    let mut world = world(1);
    let member = subscriber(&mut world, group());
    settle(&mut world, &[member], &[PARTITIONS]);
    let all = world.member(member).owned();
    produce(&mut world, &all);
    world.run_until(MINUTE, |w| w.member(member).count() == PARTITIONS);

    let held = Duration::from_secs(20);
    world.cluster.add_fault(Fault::on(Api::ConsumerGroupHeartbeat).delay(held));
    let now = world.broker_now();
    world.cluster.delete_topic(now, "t").expect("deleted");
    world.cluster.create_topic("t", PARTITIONS as i32).expect("made anew");
    produce(&mut world, &all);
    world.run_until(held / 2, |w| {
        let mut seen = w.member(member).seen.iter();
        seen.any(|(_, seen)| matches!(seen, Seen::Error(e) if e.kind() == ErrorKind::DataLoss))
    });
    world.run_for(held / 4);
    assert_eq!(world.member(member).count(), PARTITIONS, "read without having been given it");
    world.run_until(MINUTE, |w| w.member(member).count() == 2 * PARTITIONS);
    assert_eq!(world.member(member).owned().len(), PARTITIONS);
}

/// The coordinator takes back what was deleted, and before metadata says so there is another topic of the name: where
/// commits name topics, the last one waits for metadata.
#[test]
fn what_is_taken_back_is_not_committed_for_a_topic_that_metadata_has_not_told_of() {
    let mut world = older("4.1");
    world.cluster.create_topic("t", PARTITIONS as i32).expect("a topic");
    let member = subscriber(&mut world, group());
    settle(&mut world, &[member], &[PARTITIONS]);
    let all = world.member(member).owned();
    produce(&mut world, &all);
    world.run_until(MINUTE, |w| w.member(member).count() == PARTITIONS);
    world.member(member).auto_read = false;
    world.cluster.add_fault(Fault::on(Api::Metadata).always().delay(Duration::from_millis(200)));
    let now = world.broker_now();
    world.cluster.delete_topic(now, "t").expect("deleted");
    world.run_until(MINUTE, |w| {
        w.read(member);
        matches!(w.member(member).seen.last(), Some((_, Seen::Revoking(_))))
    });
    world.cluster.create_topic("t", 1).expect("made anew");
    produce(&mut world, &[TopicPartition::new("t", 0)]);
    world.member(member).auto_read = true;
    world.run_until(MINUTE, |w| w.member(member).count() == PARTITIONS + 1);
}

/// `auto`: the consumer protocol where the brokers really offer it, the classic one elsewhere, and beside classic
/// members that have to stay alone.
#[test]
fn auto_decides_at_the_first_join() {
    let auto = || GroupConfig { protocol: GroupProtocol::Auto, ..group() };
    let mut new = world(1);
    let first = subscriber(&mut new, auto());
    settle(&mut new, &[first], &[12]);
    assert_eq!(requests(&new, Api::JoinGroup, 0), 0);

    for release in ["2.8", "3.9"] {
        let mut old = older(release);
        old.cluster.create_topic("t", 12).expect("a topic");
        let first = subscriber(&mut old, auto());
        settle(&mut old, &[first], &[12]);
        assert_eq!(requests(&old, Api::ConsumerGroupHeartbeat, 0), 0, "{release}");
        assert_eq!(requests(&old, Api::FindCoordinator, 0), 1, "{release}: the one that was found will do");
    }

    // Where classic members have to stay alone it joins as one of them; elsewhere they come along.
    for (policy, mixes) in [(MigrationPolicy::Disabled, false), (MigrationPolicy::Bidirectional, true)] {
        let mut config = ClusterConfig::with_nodes(1);
        config.migration_policy = policy;
        let mut beside = World::with_config(11, config);
        beside.cluster.create_topic("t", 12).expect("a topic");
        let first = subscriber(&mut beside, GroupConfig { protocol: GroupProtocol::Classic, ..group() });
        settle(&mut beside, &[first], &[12]);
        let mark = beside.cluster.next_request_index();
        let second = subscriber(&mut beside, auto());
        settle(&mut beside, &[first, second], &[6, 6]);
        assert_eq!(requests(&beside, Api::FindCoordinator, mark), 1, "{policy:?}");
        let protocol = beside.cluster.group("g").and_then(|g| g.protocol);
        assert_eq!(protocol.as_deref(), Some(if mixes { "uniform" } else { "cooperative-sticky" }));
    }
}

#[test]
fn brokers_without_the_protocol_are_told_as_what_they_are() {
    let mut old = older("3.9");
    let member = subscriber(&mut old, group());
    old.run_until(MINUTE, |w| {
        w.member(member).seen.iter().any(|(_, s)| matches!(s, Seen::Error(e) if e.is_fatal()))
    });
    let told = told_of_partitions(&mut old, member, 0).join("\n");
    assert!(told.contains("Kafka 4.0") && told.contains("group_protocol"), "{told}");
}

/// What everybody has read, and what is committed, of the twelve partitions with a record each.
fn read_and_committed(world: &mut World, members: &[MemberId]) -> (usize, usize) {
    let read = members.iter().map(|m| world.member(*m).count()).sum();
    let committed = |p| world.cluster.committed("g", "t", p).is_some_and(|c| c.offset == 1);
    (read, (0..PARTITIONS as i32).filter(|p| committed(*p)).count())
}

/// librdkafka's 0148: the last commit, at the end of a member or of an ownership, is refused with a stale epoch four
/// times: it is made in the end, and nothing comes again.
#[test]
fn last_commits_with_a_stale_epoch_are_made_in_the_end() {
    for close in [true, false] {
        let mut world = world(1);
        let first = subscriber(&mut world, group());
        settle(&mut world, &[first], &[12]);
        let all = world.member(first).owned();
        produce(&mut world, &all);
        world.run_until(MINUTE, |w| w.member(first).count() == 12);
        let stale = Fault::on(Api::OffsetCommit).times(4).error(ErrorCode::STALE_MEMBER_EPOCH);
        let fault = world.cluster.add_fault(stale);
        if close {
            world.command(first, Command::Close { timeout: Duration::from_secs(10) });
            world.run_until(MINUTE, |w| w.member(first).is_closed());
            let outcome = world.member(first).outcomes.pop();
            assert!(matches!(&outcome, Some(Outcome::Closed(errors)) if errors.is_empty()), "{outcome:?}");
        }
        let second = subscriber(&mut world, group());
        if !close {
            settle(&mut world, &[first, second], &[6, 6]);
        }
        world.run_for(MINUTE);
        assert_eq!(world.cluster.fault_fired(fault), 4, "closed: {close}");
        assert_eq!(read_and_committed(&mut world, &[first, second]), (12, 12), "closed: {close}");
    }
}

/// librdkafka's 0148: the session is over for the coordinator before the last commit is made: it cannot be, so that
/// everything comes again, to whoever has the partitions then. Closing is bounded all the same.
#[test]
fn what_a_session_ended_before_the_last_commit_comes_again() {
    for close in [true, false] {
        let mut world = world(1);
        let first = subscriber(&mut world, group());
        settle(&mut world, &[first], &[12]);
        world.run_for(Duration::from_secs(6));
        let all = world.member(first).owned();
        let faults = [Api::OffsetCommit, Api::ConsumerGroupHeartbeat]
            .map(|api| world.cluster.add_fault(Fault::on(api).always().error(ErrorCode::UNKNOWN_MEMBER_ID)));
        produce(&mut world, &all);
        world.run_until(MINUTE, |w| w.member(first).count() == 12);
        if close {
            let begun = world.now();
            world.command(first, Command::Close { timeout: Duration::from_secs(10) });
            world.run_until(MINUTE, |w| w.member(first).is_closed());
            assert!(world.now().since(begun) <= Duration::from_secs(10));
        } else {
            world.run_until(MINUTE, |w| w.member(first).owned().is_empty());
        }
        faults.into_iter().for_each(|fault| world.cluster.cancel_fault(fault));
        let second = subscriber(&mut world, group());
        // Of a member that let go of nothing the coordinator has to find out.
        world.run_for(3 * MINUTE);
        assert_eq!(read_and_committed(&mut world, &[first, second]), (24, 12), "closed: {close}");
    }
}

/// librdkafka's 0148: a heartbeat is under way when the member leaves, and the coordinator has gone on to another epoch
/// with it: the last commit is refused as stale, and made with the epoch that the answer brings.
#[test]
fn a_heartbeat_under_way_at_the_leave_brings_the_epoch_for_the_last_commit() {
    let mut world = world(1);
    world.cluster.create_topic("other", 1).expect("a topic");
    let mut config = world.config();
    config.group = Some(group());
    let first = world.join(config);
    world.command(first, Command::Subscribe(vec!["t".to_owned(), "other".to_owned()]));
    settle(&mut world, &[first], &[PARTITIONS + 1]);
    let all: Vec<_> = (0..PARTITIONS as i32).map(|p| TopicPartition::new("t", p)).collect();
    produce(&mut world, &all);
    world.run_until(MINUTE, |w| w.member(first).count() == 12);
    let late = Fault::on(Api::ConsumerGroupHeartbeat).delay(Duration::from_secs(1));
    let fault = world.cluster.add_fault(late);
    let since = world.cluster.next_request_index();
    world.command(first, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.cluster.fault_fired(fault) == 1);
    produce(&mut world, &all);
    world.run_until(MINUTE, |w| w.member(first).count() == 24);
    // As brokers before KIP-1251 do, which take no older epoch: until the answer is there.
    let stale = Fault::on(Api::OffsetCommit).always().error(ErrorCode::STALE_MEMBER_EPOCH);
    let stale = world.cluster.add_fault(stale);
    world.command(first, Command::Close { timeout: Duration::from_secs(10) });
    world.run_for(Duration::from_secs(1));
    world.cluster.cancel_fault(stale);
    assert!(!world.member(first).is_closed(), "it waits for a newer epoch");
    world.run_until(MINUTE, |w| w.member(first).is_closed());
    let outcome = world.member(first).outcomes.pop();
    assert!(matches!(&outcome, Some(Outcome::Closed(errors)) if errors.is_empty()), "{outcome:?}");
    let commits = requests(&world, Api::OffsetCommit, since);
    assert!((2..=10).contains(&commits), "without haste: {commits}");
    for p in 0..PARTITIONS as i32 {
        assert_eq!(world.cluster.committed("g", "t", p).map(|c| c.offset), Some(2), "t-{p}");
    }
}
