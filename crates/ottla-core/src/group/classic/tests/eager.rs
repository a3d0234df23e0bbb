//! Eager rebalancing: everything is given up before each JoinGroup.

use super::*;

#[test]
fn everything_is_revoked_before_joining_and_assigned_anew() {
    let mut rig = Rig::eager().stable(&[("a", 0), ("b", 1)]);
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["revoke [a-0, b-1] within 20000"]);
    assert_eq!((rig.state(), rig.group.may_commit()), (GroupState::Revoking, true));
    assert_eq!(rig.given_back(&[("a", 0), ("b", 1)]), ["join 'm' a,b g1 owns[]"]);
    rig.join(joined(2, "m", "other"));
    assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]"]);
}

/// A list that holds an eager assignor makes the member eager, as in Java (KIP-429): also when the group picked
/// the cooperative one.
#[test]
fn a_list_with_an_eager_assignor_claims_nothing() {
    let mut rig = Rig::eager().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.given_back(&[("a", 0)]);
    let Some(GroupRequest::Join(request)) = &rig.request else { panic!("no JoinGroup") };
    for protocol in &request.protocols {
        assert!(Subscription::decode(&protocol.metadata).unwrap().owned_partitions.is_empty());
    }
}

#[test]
fn heartbeats_go_on_while_everything_is_given_back() {
    let mut rig = Rig::eager().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    for _ in 0..19 {
        assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
        assert_eq!(rig.beat(ErrorCode::RebalanceInProgress), [""; 0]);
    }
    assert_eq!(rig.given_back(&[("a", 0)]), ["join 'm' a,b g1 owns[]"]);
}

#[test]
fn a_member_that_owns_nothing_joins_at_once() {
    let mut rig = Rig::eager().stable(&[]);
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["join 'm' a,b g1 owns[]"]);
}

/// The prepare hook needs a coordinator: giving everything up with nobody to rejoin would only stop work.
#[test]
fn nothing_is_given_up_before_a_coordinator_is_known() {
    let mut rig = Rig::eager().stable(&[("a", 0)]);
    rig.input(ClassicGroup::coordinator_lost);
    assert_eq!(rig.subscribe(&["a"]), [""; 0]);
    assert_eq!(rig.known(), ["revoke [a-0] within 20000", "heartbeat g1 m"]);
}

#[test]
fn after_the_joins_answer_nothing_is_owned_that_could_be_lost() {
    let mut rig = Rig::eager().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.given_back(&[("a", 0)]);
    assert_eq!(rig.join(join_error(ErrorCode::UnknownMemberId, "")), ["join '' a,b owns[]"]);
}
