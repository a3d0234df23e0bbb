//! Static members (KIP-345).

use super::*;

#[test]
fn kip_345_requests_carry_the_instance_id() {
    let mut rig = Rig::fixed().stable(&[]);
    let id = Some("i1");
    rig.next_beat(ErrorCode::None);
    let Some(GroupRequest::Heartbeat(request)) = &rig.request else { panic!("no Heartbeat") };
    assert_eq!(request.group_instance_id.as_deref(), id);
    assert_eq!(rig.group.identity().unwrap().group_instance_id.as_deref(), id);
    rig.wait(1000);
    rig.beat(ErrorCode::RebalanceInProgress);
    let Some(GroupRequest::Join(request)) = &rig.request else { panic!("no JoinGroup") };
    assert_eq!(request.group_instance_id.as_deref(), id);
    rig.join(joined(2, "m", "other"));
    let Some(GroupRequest::Sync(request)) = &rig.request else { panic!("no SyncGroup") };
    assert_eq!(request.group_instance_id.as_deref(), id);
}

/// JoinGroup 5, SyncGroup 3 and Heartbeat 3 are needed: Kafka 2.3.
#[test]
fn kip_345_an_older_broker_is_refused_with_a_reason() {
    let mut rig = Rig::fixed();
    rig.subscribe(&["a"]);
    assert_eq!(rig.input(|g, now| g.coordinator_known(now, OLDEST)), ["fail Unsupported"]);
    assert!(rig.error.unwrap().to_string().contains("2.3"));
}

#[test]
fn kip_345_a_static_member_does_not_leave() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.input(|g, now| g.leave(now, "closed")), ["left"]);
}

/// KIP-1092.
#[test]
fn a_static_member_leaves_if_configured() {
    let static_config =
        GroupConfig { group_instance_id: Some("i1".to_owned()), leave_on_close: true, ..config() };
    let mut rig = Rig::new(static_config).stable(&[("a", 0)]);
    assert_eq!(rig.input(|g, now| g.leave(now, "closed")), ["leave m"]);
    let Some(GroupRequest::Leave(request)) = &rig.request else { panic!("no LeaveGroup") };
    assert_eq!(request.members.first().unwrap().group_instance_id.as_deref(), Some("i1"));
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
}

/// Without a member id of its own, an instance id in LeaveGroup would put out whoever holds it now.
#[test]
fn a_static_member_that_never_joined_puts_nobody_out() {
    let static_config =
        GroupConfig { group_instance_id: Some("i1".to_owned()), leave_on_close: true, ..config() };
    let mut rig = Rig::new(static_config);
    rig.subscribe(&["a"]);
    rig.known();
    assert_eq!(rig.input(|g, now| g.leave(now, "closed")), ["left"]);
}

#[test]
fn kip_345_a_static_member_whose_reader_stays_away_only_stops_its_heartbeats() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.input(ClassicGroup::poll_expired), ["lost [a-0]", "report Limit"]);
    assert_eq!(rig.wait(600_000), [""; 0]);
    assert_eq!(rig.input(ClassicGroup::polled), ["join 'm' a,b owns[]"]);
}

/// KIP-814: a leader that came back within its session must not compute, but still watches the topics.
#[test]
fn kip_814_skip_assignment_is_honoured_and_the_topics_are_watched() {
    let mut rig = Rig::fixed();
    rig.subscribe(&["a"]);
    rig.known();
    let reply = JoinReply { skip_assignment: true, ..leading(5, "m", &[("m", subscription(&["a"]))]) };
    assert_eq!(rig.join(reply), ["want[a]", "sync g5 m[]"]);
    assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]"]);
    assert!(rig.group.is_leader());
    assert_eq!(
        rig.metadata(&[("a", 1)], &[]),
        ["describe g"],
        "the first sight is what the group was assigned from, if that is whole"
    );
    assert_eq!(rig.described(&[("m", &[("a", 0)])]), [""; 0]);
    assert_eq!(rig.metadata(&[("a", 2)], &[]), ["join 'm' a g5 owns[a-0]"]);
}

/// A static leader that came back, stable, with metadata of topic `a`: it has asked what is assigned.
fn came_back(partitions: usize) -> Rig {
    let mut rig = Rig::fixed();
    rig.subscribe(&["a"]);
    rig.known();
    let reply = JoinReply { skip_assignment: true, ..leading(5, "m", &[("m", subscription(&["a"]))]) };
    rig.join(reply);
    rig.sync(synced(&[("a", 0)]));
    assert_eq!(rig.metadata(&[("a", partitions)], &[]), ["describe g"]);
    rig
}

/// Found by the simulator (seed 4502; jepsen 598, where the earlier life had not subscribed to the topic): partitions
/// that were added while the leader was away were never assigned to anybody.
#[test]
fn a_static_leader_that_came_back_joins_again_when_a_partition_is_nobodys() {
    let mut rig = came_back(3);
    assert_eq!(rig.described(&[("m", &[("a", 0)]), ("n", &[("a", 1)])]), [""; 0]);
    assert_eq!(rig.wait(200), ["join 'm' a g5 owns[a-0]"]);
    rig.join(leading(6, "m", &[("m", subscription(&["a"]))]));
    rig.metadata(&[("a", 3)], &[]);
    rig.computed();
    assert_eq!(rig.sync(synced(&[("a", 0), ("a", 1), ("a", 2)])), ["assign [a-1, a-2]"]);
    assert_eq!(rig.metadata(&[("a", 3)], &[]), [""; 0], "it asks once");
}

#[test]
fn a_static_leader_that_came_back_stays_when_all_is_assigned() {
    let mut rig = came_back(3);
    assert_eq!(rig.described(&[("m", &[("a", 0)]), ("n", &[("a", 1), ("a", 2), ("b", 7)])]), [""; 0]);
    assert_eq!(rig.wait(900), [""; 0]);
}

/// Nobody can tell what is assigned: another assignment is whole.
#[test]
fn a_static_leader_that_is_not_told_what_is_assigned_joins_again() {
    for broken in [true, false] {
        let mut rig = came_back(1);
        let told = if broken {
            rig.broken(Kind::Describe)
        } else {
            rig.reply(Kind::Describe, Reply::Describe(None))
        };
        assert_eq!(told, [""; 0]);
        assert_eq!(rig.wait(200), ["join 'm' a g5 owns[a-0]"]);
    }
}

/// Before KIP-814 the leader that came back is told that its earlier life leads: nobody would watch the topics.
#[test]
fn a_static_member_joins_again_when_its_leader_is_gone() {
    for (members, rejoins) in [(["m", "n"], true), (["m", "old"], false)] {
        let mut rig = Rig::fixed();
        rig.subscribe(&["a"]);
        let versions = GroupVersions { join: 7, sync: 5, heartbeat: 4, leave: 4 };
        rig.input(|g, now| g.coordinator_known(now, versions));
        rig.join(joined(5, "m", "old"));
        assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]", "describe g"]);
        rig.described(&members.map(|m| (m, &[][..])));
        let expected = if rejoins { vec!["join 'm' a g5 owns[a-0]"] } else { vec![] };
        assert_eq!(rig.wait(200), expected);
    }
}

/// The old member of a doubled instance id is fenced and stops at once.
#[test]
fn kip_345_a_doubled_instance_id_fences_the_old_member() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::FencedInstanceId), ["lost [a-0]", "fail Fenced"]);
    let error = rig.error.as_ref().unwrap();
    assert!(error.is_fatal() && error.to_string().contains("i1"), "{error}");
    assert_eq!(rig.input(|g, now| g.leave(now, "closed")), ["left"]);
}
