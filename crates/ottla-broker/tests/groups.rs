//! Classic groups on virtual time: one named test per rule of Kafka's coordinator.

mod support;

use std::time::Duration;

use kafka_protocol::messages::{DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use ottla_broker::sim::ClusterConfig;
use ottla_broker::{ErrorCode, GroupState};
use support::member::*;
use support::*;

fn sim() -> Sim {
    Sim::with_topic(1, "t", 2)
}

fn state(sim: &Sim) -> GroupState {
    sim.cluster.group("g").unwrap().state
}

#[test]
fn kip_394_a_dynamic_member_gets_its_id_first_and_must_come_back_with_it() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let first = sim.call(conn, 4, &join("g", "", &[("range", "")]));
    assert_eq!(ErrorCode(first.error_code), ErrorCode::MEMBER_ID_REQUIRED);
    assert!(first.member_id.starts_with("tester-"));
    assert!(sim.cluster.group("g").unwrap().members.is_empty());
    let second = sim.call(conn, 4, &join("g", &first.member_id, &[("range", "")]));
    assert_eq!((second.error_code, second.generation_id), (0, 1));
    assert_eq!(second.leader, first.member_id);
}

#[test]
fn before_version_4_a_member_joins_in_one_step() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let response = sim.call(conn, 3, &join("g", "", &[("range", "")]));
    assert_eq!((response.error_code, response.generation_id), (0, 1));
}

#[test]
fn kip_394_a_pending_id_expires_with_its_session_timeout() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let id = sim.call(conn, 4, &join("g", "", &[("range", "")])).member_id;
    sim.advance(Duration::from_secs(10));
    let late = sim.call(conn, 4, &join("g", &id, &[("range", "")]));
    assert_eq!(ErrorCode(late.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn kip_394_a_pending_member_holds_the_join_phase_open() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let id = sim.call(conn, 4, &join("g", "", &[("range", "")])).member_id;
    // The leader rejoins: everybody known is there, but an id was given out.
    let pending = sim.rejoin("g", &members[0], "m0");
    assert!(sim.take(&pending).is_none());
    let joined = sim.send(conn, 4, &join("g", &id, &[("range", "")]));
    assert!(sim.take(&pending).is_some() && sim.take(&joined).is_some());
}

#[test]
fn only_the_leader_gets_the_members() {
    let mut sim = sim();
    let (mut a, pending) = sim.join_new("g", "meta-a");
    sim.joined(&mut a, &pending);
    let (mut b, joining) = sim.join_new("g", "meta-b");
    assert_eq!(state(&sim), GroupState::PreparingRebalance);
    assert_eq!(sim.beat("g", &a), ErrorCode::REBALANCE_IN_PROGRESS);
    let rejoining = sim.rejoin("g", &a, "meta-a");
    let (leader, follower) = (sim.joined(&mut a, &rejoining), sim.joined(&mut b, &joining));
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!(leader.leader, leader.member_id);
    assert_eq!(follower.leader, leader.member_id);
    let mut metadata: Vec<_> = leader.members.iter().map(|m| m.metadata.clone()).collect();
    metadata.sort();
    assert_eq!(metadata, ["meta-a", "meta-b"]);
    assert!(follower.members.is_empty());
    assert_eq!(leader.protocol_name.as_deref().map(|s| s as &str), Some("range"));
}

#[test]
fn followers_wait_in_sync_for_the_leader() {
    let mut sim = sim();
    let members = sim.stable_group("g", 3);
    let all = sim.cluster.group("g").unwrap();
    assert_eq!((all.state, all.generation, all.members.len()), (GroupState::Stable, 2, 3));
    // A second sync in the stable group gives the same assignment again.
    let again = sim.call(members[1].connection, 3, &sync("g", &members[1].id, 2, &[]));
    assert_eq!(again.assignment, "a1");
}

#[test]
fn a_member_the_leader_did_not_name_gets_an_empty_assignment() {
    let mut sim = sim();
    let (mut a, pending) = sim.join_new("g", "");
    sim.joined(&mut a, &pending);
    let response = sim.call(a.connection, 3, &sync("g", &a.id, 1, &[("stranger", "x")]));
    assert_eq!((response.error_code, response.assignment.len()), (0, 0));
    assert_eq!(state(&sim), GroupState::Stable);
}

#[test]
fn sync_is_checked_against_member_generation_state_and_protocol() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let (conn, id) = (members[0].connection, members[0].id.clone());
    let mut code =
        |version, request: SyncGroupRequest| ErrorCode(sim.call(conn, version, &request).error_code);
    assert_eq!(code(3, sync("g", "stranger", 1, &[])), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(3, sync("g", &id, 0, &[])), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code(3, sync("other", &id, 1, &[])), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(3, sync("", &id, 1, &[])), ErrorCode::INVALID_GROUP_ID);
    let named = |kind, name| {
        sync("g", &id, 1, &[]).with_protocol_type(Some(text(kind))).with_protocol_name(Some(text(name)))
    };
    assert_eq!(code(5, named("consumer", "range")), ErrorCode::NONE);
    assert_eq!(code(5, named("consumer", "sticky")), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(code(5, named("connect", "range")), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(code(5, sync("g", &id, 1, &[])), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    // A rebalance is on: sync is too late.
    let (_, _parked) = sim.join_new("g", "");
    let late = sim.call(conn, 3, &sync("g", &id, 1, &[]));
    assert_eq!(ErrorCode(late.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn heartbeats_are_checked_against_member_and_generation() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = members[0].connection;
    assert_eq!(sim.beat("g", &members[0]), ErrorCode::NONE);
    let mut code = |request: HeartbeatRequest| ErrorCode(sim.call(conn, 3, &request).error_code);
    assert_eq!(code(heartbeat("g", &members[0].id, 7)), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code(heartbeat("g", "stranger", 1)), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(heartbeat("nobody", &members[0].id, 1)), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_heartbeat_between_join_and_sync_is_fine() {
    let mut sim = sim();
    let (mut a, pending) = sim.join_new("g", "");
    sim.joined(&mut a, &pending);
    assert_eq!(state(&sim), GroupState::CompletingRebalance);
    assert_eq!(sim.beat("g", &a), ErrorCode::NONE);
}

#[test]
fn a_member_that_does_not_beat_is_expired_and_the_others_rebalance() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    for _ in 0..3 {
        sim.advance(Duration::from_secs(3));
        assert_eq!(sim.beat("g", &members[0]), ErrorCode::NONE);
    }
    sim.advance(Duration::from_secs(1));
    assert_eq!(state(&sim), GroupState::PreparingRebalance);
    assert_eq!(sim.cluster.group("g").unwrap().members.len(), 1);
    assert_eq!(sim.beat("g", &members[1]), ErrorCode::UNKNOWN_MEMBER_ID);
    let rejoin = sim.rejoin("g", &members[0], "m0");
    assert_eq!(sim.take(&rejoin).unwrap().generation_id, 3);
}

#[test]
fn commits_and_syncs_keep_a_session_alive_too() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    for _ in 0..4 {
        sim.advance(Duration::from_secs(9));
        assert_eq!(sim.try_commit("g", &members[0], 1), ErrorCode::NONE);
        sim.advance(Duration::from_secs(9));
        let again = sim.call(members[0].connection, 3, &sync("g", &members[0].id, 1, &[]));
        assert_eq!(again.error_code, 0);
    }
}

#[test]
fn the_last_member_expires_and_the_group_is_empty() {
    let mut sim = sim();
    sim.stable_group("g", 1);
    sim.advance(Duration::from_secs(10));
    let group = sim.cluster.group("g").unwrap();
    assert_eq!((group.state, group.generation), (GroupState::Empty, 2));
}

#[test]
fn who_does_not_rejoin_within_the_rebalance_timeout_is_out() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    let parked = sim.rejoin("g", &members[0], "m0");
    // The second member beats but does not rejoin; 60 s is the rebalance timeout.
    for _ in 0..12 {
        assert_eq!(sim.beat("g", &members[1]), ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(sim.take(&parked).is_none());
        sim.advance(Duration::from_secs(5));
    }
    let response = sim.take(&parked).unwrap();
    assert_eq!((response.generation_id, response.members.len()), (3, 1));
    assert_eq!(sim.beat("g", &members[1]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_parked_in_join_is_not_expired() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    let parked = sim.rejoin("g", &members[0], "m0");
    for _ in 0..5 {
        sim.advance(Duration::from_secs(9));
        sim.beat("g", &members[1]);
    }
    let other = sim.rejoin("g", &members[1], "m1");
    assert_eq!(sim.take(&parked).unwrap().generation_id, 3);
    assert!(sim.take(&other).is_some());
}

#[test]
fn a_leader_that_does_not_rejoin_is_replaced() {
    let mut sim = sim();
    let mut members = sim.stable_group("g", 2);
    let parked = sim.rejoin("g", &members[1], "changed");
    sim.advance(Duration::from_secs(10));
    let response = sim.joined(&mut members[1], &parked);
    assert_eq!(response.leader, response.member_id);
    assert_eq!(response.members.len(), 1);
}

#[test]
fn who_does_not_sync_within_the_rebalance_timeout_is_out() {
    let mut sim = sim();
    let mut members = sim.stable_group("g", 2);
    let parked: Vec<_> = members.clone().iter().map(|m| sim.rejoin("g", m, "x")).collect();
    for (member, pending) in members.iter_mut().zip(&parked) {
        sim.joined(member, pending);
    }
    // The leader beats and never syncs; the follower waits in sync.
    let waiting = sim.send(members[1].connection, 3, &sync("g", &members[1].id, 3, &[]));
    for _ in 0..12 {
        assert_eq!(sim.beat("g", &members[0]), ErrorCode::NONE);
        sim.advance(Duration::from_secs(5));
    }
    let response = sim.take(&waiting).unwrap();
    assert_eq!(ErrorCode(response.error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(sim.beat("g", &members[0]), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_new_member_while_others_sync_sends_them_back_to_join() {
    let mut sim = sim();
    let mut members = sim.stable_group("g", 2);
    let parked: Vec<_> = members.clone().iter().map(|m| sim.rejoin("g", m, "x")).collect();
    for (member, pending) in members.iter_mut().zip(&parked) {
        sim.joined(member, pending);
    }
    let waiting = sim.send(members[1].connection, 3, &sync("g", &members[1].id, 3, &[]));
    let (_, _joining) = sim.join_new("g", "new");
    assert_eq!(ErrorCode(sim.take(&waiting).unwrap().error_code), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(state(&sim), GroupState::PreparingRebalance);
}

#[test]
fn a_follower_that_joins_unchanged_gets_the_present_generation_and_no_rebalance() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    let pending = sim.rejoin("g", &members[1], "m1");
    let response = sim.take(&pending).unwrap();
    assert_eq!((response.generation_id, response.members.len()), (2, 0));
    assert_eq!(state(&sim), GroupState::Stable);
    // With other metadata it is a rebalance.
    let pending = sim.rejoin("g", &members[1], "other");
    assert!(sim.take(&pending).is_none());
    assert_eq!(state(&sim), GroupState::PreparingRebalance);
}

#[test]
fn a_leader_that_rejoins_starts_a_rebalance_even_unchanged() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    let pending = sim.rejoin("g", &members[0], "m0");
    assert!(sim.take(&pending).is_none());
    assert_eq!(sim.beat("g", &members[1]), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_repeated_join_before_sync_repeats_the_answer() {
    let mut sim = sim();
    let (mut a, pending) = sim.join_new("g", "m");
    sim.joined(&mut a, &pending);
    let again = sim.rejoin("g", &a, "m");
    let response = sim.take(&again).unwrap();
    assert_eq!((response.generation_id, response.members.len()), (1, 1));
    assert_eq!(state(&sim), GroupState::CompletingRebalance);
}

#[test]
fn the_protocol_is_the_one_most_members_prefer_among_those_all_support() {
    let mut sim = sim();
    let protocols: [&[(&str, &str)]; 3] =
        [&[("a", ""), ("b", "")], &[("b", ""), ("a", "")], &[("c", ""), ("b", ""), ("a", "")]];
    let mut parked = Vec::new();
    let conn = sim.connect(1);
    let first = sim.call(conn, 3, &join("g", "", protocols[0]));
    for p in &protocols[1..] {
        let conn = sim.connect(1);
        parked.push(sim.send(conn, 3, &join("g", "", p)));
    }
    let response = sim.call(conn, 3, &join("g", &first.member_id, protocols[0]));
    assert_eq!(response.protocol_name.as_deref().map(|s| s as &str), Some("b"));
}

#[test]
fn members_without_a_common_protocol_are_refused() {
    let mut sim = sim();
    sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let mut code = |request: JoinGroupRequest| ErrorCode(sim.call(conn, 5, &request).error_code);
    assert_eq!(code(join("g", "", &[("sticky", "")])), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let other_type = join("g", "", &[("range", "")]).with_protocol_type(text("connect"));
    assert_eq!(code(other_type), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(code(join("fresh", "", &[])), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn session_timeouts_outside_the_brokers_bounds_are_refused() {
    let mut sim = sim();
    let conn = sim.connect(1);
    for (timeout, code) in [
        (5_999, ErrorCode::INVALID_SESSION_TIMEOUT),
        (6_000, ErrorCode::MEMBER_ID_REQUIRED),
        (1_800_000, ErrorCode::MEMBER_ID_REQUIRED),
        (1_800_001, ErrorCode::INVALID_SESSION_TIMEOUT),
        (-1, ErrorCode::INVALID_SESSION_TIMEOUT),
    ] {
        let request = join("g", "", &[("range", "")]).with_session_timeout_ms(timeout);
        assert_eq!(ErrorCode(sim.call(conn, 5, &request).error_code), code, "{timeout}");
    }
}

#[test]
fn an_unknown_member_and_an_empty_group_id_are_refused() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let mut code = |request: JoinGroupRequest| ErrorCode(sim.call(conn, 5, &request).error_code);
    assert_eq!(code(join("g", "ghost", &[("range", "")])), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(join("", "", &[("range", "")])), ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn a_full_group_takes_nobody() {
    let mut config = ClusterConfig::default();
    config.max_group_size = 1;
    let mut sim = Sim::new(config);
    sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let response = sim.call(conn, 5, &join("g", "", &[("range", "")]));
    assert_eq!(ErrorCode(response.error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn kip_134_an_empty_group_waits_for_more_members() {
    let mut config = ClusterConfig::default();
    config.initial_rebalance_delay = Duration::from_secs(3);
    let mut sim = Sim::new(config);
    let (_, a) = sim.join_new("g", "a");
    sim.advance(Duration::from_secs(2));
    let (_, b) = sim.join_new("g", "b");
    sim.advance(Duration::from_secs(1));
    assert!(sim.take(&a).is_none(), "a new member came: once more the delay");
    sim.advance(Duration::from_secs(3));
    let (a, b) = (sim.take(&a).unwrap(), sim.take(&b).unwrap());
    assert_eq!((a.generation_id, b.generation_id), (1, 1));
    assert_eq!(a.members.len() + b.members.len(), 2);
}

#[test]
fn leaving_starts_a_rebalance_and_leaving_twice_is_unknown() {
    let mut sim = sim();
    let members = sim.stable_group("g", 2);
    let conn = members[1].connection;
    let response = sim.call(conn, 4, &leave("g", &members[1].id, None));
    assert_eq!((response.error_code, response.members[0].error_code), (0, 0));
    assert_eq!(sim.beat("g", &members[0]), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = sim.call(conn, 4, &leave("g", &members[1].id, None));
    assert_eq!(ErrorCode(again.members[0].error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    let old = leave("g", "", None).with_members(vec![]).with_member_id(text("ghost"));
    assert_eq!(ErrorCode(sim.call(conn, 2, &old).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_pending_member_may_leave_and_no_longer_holds_the_join_phase() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let id = sim.call(conn, 5, &join("g", "", &[("range", "")])).member_id;
    let pending = sim.rejoin("g", &members[0], "m0");
    assert!(sim.take(&pending).is_none());
    let response = sim.call(conn, 4, &leave("g", &id, None));
    assert_eq!(response.members[0].error_code, 0);
    assert!(sim.take(&pending).is_some());
}

#[test]
fn a_new_member_parked_in_join_is_given_up_after_five_minutes() {
    let mut sim = sim();
    let patient = |member: &str| join("g", member, &[("range", "")]).with_rebalance_timeout_ms(600_000);
    let conn = sim.connect(1);
    let id = sim.call(conn, 3, &patient("")).member_id.to_string();
    let leader = Member { connection: conn, id, generation: 1 };
    sim.sync_all("g", std::slice::from_ref(&leader));
    // Somebody joins; whether its client is still there nobody can tell while the request is parked.
    let ghost = sim.connect(1);
    let parked = sim.send(ghost, 3, &patient(""));
    for _ in 0..60 {
        assert_eq!(sim.cluster.group("g").unwrap().members.len(), 2);
        assert_eq!(sim.beat("g", &leader), ErrorCode::REBALANCE_IN_PROGRESS);
        sim.advance(Duration::from_secs(5));
    }
    assert_eq!(ErrorCode(sim.take(&parked).unwrap().error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(sim.cluster.group("g").unwrap().members.len(), 1);
}

// ---- static members (KIP-345) ------------------------------------------------------------------------------------

fn static_join(instance: &str, member: &str) -> JoinGroupRequest {
    join("g", member, &[("range", "m")]).with_group_instance_id(Some(text(instance)))
}

/// A stable group of one static member; returns its connection and id.
fn static_group(sim: &mut Sim, instance: &str) -> Member {
    let connection = sim.connect(1);
    let joined = sim.call(connection, 5, &static_join(instance, ""));
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let id = joined.member_id.to_string();
    assert!(id.starts_with(instance));
    let request = sync("g", &id, 1, &[(&id, "mine")]).with_group_instance_id(Some(text(instance)));
    assert_eq!(sim.call(connection, 3, &request).error_code, 0);
    Member { connection, id, generation: 1 }
}

#[test]
fn kip_345_a_static_member_joins_in_one_step_and_returns_without_a_rebalance() {
    let mut sim = sim();
    let old = static_group(&mut sim, "i");
    let conn = sim.connect(1);
    let back = sim.call(conn, 5, &static_join("i", ""));
    assert_eq!((back.error_code, back.generation_id), (0, 1));
    assert_ne!(back.member_id, text(&old.id));
    assert_eq!(state(&sim), GroupState::Stable);
    // Without KIP-814 the old leader id in the answer keeps the member from assigning.
    assert_eq!(back.leader, text(&old.id));
    let request = sync("g", &back.member_id, 1, &[]).with_group_instance_id(Some(text("i")));
    assert_eq!(sim.call(conn, 3, &request).assignment, "mine");
}

#[test]
fn kip_814_a_returning_static_leader_is_told_not_to_assign() {
    let mut sim = sim();
    static_group(&mut sim, "i");
    let conn = sim.connect(1);
    let back = sim.call(conn, 9, &static_join("i", ""));
    assert!(back.skip_assignment);
    assert_eq!(back.leader, back.member_id);
    assert_eq!(back.members.len(), 1);
}

#[test]
fn kip_345_the_old_id_of_an_instance_is_fenced() {
    let mut sim = sim();
    let old = static_group(&mut sim, "i");
    let conn = sim.connect(1);
    sim.call(conn, 5, &static_join("i", ""));
    let with = Some(text("i"));
    let beat = heartbeat("g", &old.id, 1).with_group_instance_id(with.clone());
    assert_eq!(ErrorCode(sim.call(old.connection, 3, &beat).error_code), ErrorCode::FENCED_INSTANCE_ID);
    let again = static_join("i", &old.id);
    assert_eq!(ErrorCode(sim.call(old.connection, 5, &again).error_code), ErrorCode::FENCED_INSTANCE_ID);
    let late = sync("g", &old.id, 1, &[]).with_group_instance_id(with.clone());
    assert_eq!(ErrorCode(sim.call(old.connection, 3, &late).error_code), ErrorCode::FENCED_INSTANCE_ID);
    let stale = commit("g", &old.id, 1, &[("t", 0, 5)]).with_group_instance_id(with);
    let response = sim.call(old.connection, 7, &stale);
    assert_eq!(ErrorCode(response.topics[0].partitions[0].error_code), ErrorCode::FENCED_INSTANCE_ID);
    let left = sim.call(old.connection, 4, &leave("g", &old.id, Some("i")));
    assert_eq!(ErrorCode(left.members[0].error_code), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn kip_345_a_parked_join_of_the_old_id_is_answered_with_the_fence() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let old = sim.connect(1);
    let parked = sim.send(old, 5, &static_join("i", ""));
    let new = sim.connect(1);
    let taken_over = sim.send(new, 5, &static_join("i", ""));
    assert_eq!(ErrorCode(sim.take(&parked).unwrap().error_code), ErrorCode::FENCED_INSTANCE_ID);
    let rejoin = sim.rejoin("g", &members[0], "m0");
    assert!(sim.take(&rejoin).is_some() && sim.take(&taken_over).is_some());
}

#[test]
fn kip_345_a_static_member_that_stays_away_keeps_its_place_until_its_session_ends() {
    let mut sim = sim();
    static_group(&mut sim, "i");
    let (mut other, joining) = sim.join_new("g", "x");
    // The static member does not rejoin; after the rebalance timeout it is still part of the generation.
    sim.advance(Duration::from_secs(9));
    assert!(sim.take(&joining).is_none());
    sim.advance(Duration::from_secs(1));
    // Its session ended at 10 s: now the other one is alone.
    let response = sim.joined(&mut other, &joining);
    assert_eq!(response.members.len(), 1);
}

#[test]
fn kip_345_an_administrator_removes_an_instance_by_name() {
    let mut sim = sim();
    static_group(&mut sim, "i");
    let conn = sim.connect(1);
    let unknown = sim.call(conn, 4, &leave("g", "", Some("j")));
    assert_eq!(ErrorCode(unknown.members[0].error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    let removed = sim.call(conn, 4, &leave("g", "", Some("i")));
    assert_eq!(removed.members[0].error_code, 0);
    assert_eq!(state(&sim), GroupState::Empty);
}

#[test]
fn an_unknown_instance_is_an_unknown_member() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let request = heartbeat("g", &members[0].id, 1).with_group_instance_id(Some(text("i")));
    let response = sim.call(members[0].connection, 3, &request);
    assert_eq!(ErrorCode(response.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

// ---- coordinators ------------------------------------------------------------------------------------------------

#[test]
fn a_moved_coordinator_knows_the_last_stable_generation() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.cluster.move_coordinator(sim.now, "g", 1).unwrap();
    let members = sim.stable_group("g", 2);
    // A rebalance is under way; the parked member is sent away.
    let parked = sim.rejoin("g", &members[0], "m0");
    sim.cluster.move_coordinator(sim.now, "g", 2).unwrap();
    sim.drain();
    assert_eq!(ErrorCode(sim.take(&parked).unwrap().error_code), ErrorCode::NOT_COORDINATOR);
    assert_eq!(sim.beat("g", &members[0]), ErrorCode::NOT_COORDINATOR);
    let conn = sim.connect(2);
    let beat = heartbeat("g", &members[1].id, 2);
    assert_eq!(sim.call(conn, 3, &beat).error_code, 0, "generation 2 stands, without a rebalance");
    assert_eq!(state(&sim), GroupState::Stable);
}

#[test]
fn stopping_the_coordinator_moves_its_groups() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.cluster.move_coordinator(sim.now, "g", 1).unwrap();
    let members = sim.stable_group("g", 1);
    sim.cluster.stop_node(sim.now, 1).unwrap();
    sim.drain();
    assert!(sim.closed.contains(&members[0].connection));
    assert_eq!(sim.cluster.coordinator("g"), Some(2));
    let conn = sim.connect(2);
    assert_eq!(sim.call(conn, 3, &heartbeat("g", &members[0].id, 1)).error_code, 0);
}

#[test]
fn describe_groups_shows_state_protocol_and_members() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("g"), group_id("none")]);
    let response = sim.call(conn, 5, &request);
    let group = &response.groups[0];
    assert_eq!((&*group.group_state, &*group.protocol_data), ("Stable", "range"));
    assert_eq!(
        (&*group.members[0].member_id, &group.members[0].member_assignment[..]),
        (&*members[0].id, &b"a0"[..])
    );
    assert_eq!((&*response.groups[1].group_state, response.groups[1].error_code), ("Dead", 0));
    let newer = sim.call(conn, 6, &request);
    assert_eq!(ErrorCode(newer.groups[1].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
}
