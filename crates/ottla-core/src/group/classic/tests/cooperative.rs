//! Cooperative rebalancing (KIP-429).

use super::*;

/// Kept partitions go on: nothing is revoked, nothing assigned again, and they are claimed with the generation.
#[test]
fn kip_429_a_rebalance_that_changes_nothing_touches_nothing() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("b", 1)]);
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["join 'm' a,b g1 owns[a-0 b-1]"]);
    assert_eq!(rig.join(joined(2, "m", "other")), ["sync g2 m[]"]);
    assert_eq!(rig.sync(synced(&[("a", 0), ("b", 1)])), [""; 0]);
    assert_eq!(rig.state(), GroupState::Stable);
}

/// What another member gets is given up first, then the member joins again; what is new is owned at once.
#[test]
fn kip_429_what_goes_is_revoked_and_then_the_member_joins_again() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    assert_eq!(rig.sync(synced(&[("a", 1), ("b", 0)])), ["revoke [a-0] within 20000", "assign [b-0]"]);
    assert_eq!((rig.state(), rig.owned().join(" ")), (GroupState::Revoking, "a-0 a-1 b-0".to_owned()));
    assert_eq!(rig.given_back(&[("a", 0)]), ["join 'm' a,b g2 owns[a-1 b-0]"]);
}

/// While a revocation is open no JoinGroup is sent: claimed, the assignor would hand the partition back;
/// unclaimed, it would get a second owner. Heartbeats and commits go on.
#[test]
fn no_join_while_a_revocation_is_open() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    rig.sync(synced(&[("a", 1)]));
    for _ in 0..10 {
        assert_eq!(rig.wait(1000), ["heartbeat g2 m"]);
        assert_eq!(rig.beat(ErrorCode::RebalanceInProgress), [""; 0]);
        assert_eq!(rig.subscribe(&["a", "b", "c"]), [""; 0]);
        assert!(rig.group.may_commit());
    }
    assert_eq!(rig.given_back(&[("a", 0)]), ["join 'm' a,b,c g2 owns[a-1]"]);
}

#[test]
fn partitions_that_were_not_asked_back_cannot_be_given_back() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    assert_eq!(rig.given_back(&[("a", 0)]), [""; 0]);
    assert_eq!(rig.owned(), ["a-0", "a-1"]);
}

#[test]
fn a_revocation_is_finished_when_its_last_partition_is_back() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    rig.sync(synced(&[]));
    assert_eq!(rig.given_back(&[("a", 1)]), [""; 0]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["join 'm' a,b g2 owns[]"]);
}

/// Prepare hook: only topics that are not subscribed any more, before the JoinGroup.
#[test]
fn kip_429_unsubscribed_topics_are_revoked_before_joining() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("b", 1)]);
    assert_eq!(rig.subscribe(&["a"]), ["revoke [b-1] within 20000"]);
    assert_eq!(rig.given_back(&[("b", 1)]), ["join 'm' a g1 owns[a-0]"]);
}

/// KIP-792: claims carry the generation; after everything is lost there is none.
#[test]
fn kip_792_claims_carry_the_generation() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::IllegalGeneration), ["lost [a-0]", "join 'm' a,b owns[]"]);
}

/// The client's word does not come: the machine goes on before the coordinator gives the member up.
#[test]
fn past_the_deadline_partitions_are_lost_and_the_member_goes_on() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    rig.sync(synced(&[("a", 1)]));
    for _ in 0..58 {
        assert_eq!(rig.next_beat(ErrorCode::None), [""; 0]);
    }
    let actions = rig.wait(1000);
    assert_eq!(actions, ["lost [a-0]", "join 'm' a,b g2 owns[a-1]", "probe g2 m"]);
    assert_eq!(rig.given_back(&[("a", 0)]), [""; 0], "too late, and of no consequence");
}

/// A revocation's deadline is the shorter of `revoke_timeout` and the rebalance timeout less a margin: two
/// round trips as measured and the heartbeat interval, a twentieth of the timeout at least.
#[test]
fn the_deadline_of_a_revocation_leaves_room_for_the_last_commit_and_the_join() {
    let limit = |rebalance: u64, revoke: u64, round_trip: u64| {
        let mut rig = Rig::new(GroupConfig {
            rebalance_timeout: Duration::from_millis(rebalance),
            revoke_timeout: Duration::from_millis(revoke),
            ..config()
        })
        .stable(&[("a", 0)]);
        rig.wait(1000);
        rig.wait(round_trip);
        rig.beat(ErrorCode::None);
        rig.subscribe(&["b"])
    };
    assert_eq!(limit(60_000, 20_000, 10), ["revoke [a-0] within 20000"]);
    assert_eq!(limit(60_000, 90_000, 10), ["revoke [a-0] within 57000"]);
    assert_eq!(limit(20_000, 90_000, 10), ["revoke [a-0] within 18980"]);
    assert_eq!(limit(20_000, 90_000, 900), ["revoke [a-0] within 17200"]);
    assert_eq!(limit(1_000, 90_000, 900), ["revoke [a-0] within 500"]);
}

/// KIP-429 in Java's error case: everything that is owned is lost at once when the membership is.
#[test]
fn a_reset_during_a_revocation_ends_it() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    rig.sync(synced(&[("a", 1)]));
    assert_eq!(rig.next_beat(ErrorCode::UnknownMemberId), ["lost [a-0, a-1]", "join '' a,b owns[]"]);
    assert_eq!(rig.given_back(&[("a", 0)]), [""; 0]);
}

/// A coordinator that is lost while partitions are given back changes nothing about that.
#[test]
fn a_revocation_goes_on_without_a_coordinator() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("b", 0)]);
    assert_eq!(rig.subscribe(&["a"]), ["revoke [b-0] within 20000"]);
    assert_eq!(rig.input(ClassicGroup::coordinator_lost), ["find"]);
    assert_eq!(rig.given_back(&[("b", 0)]), [""; 0]);
    assert_eq!(rig.known(), ["join 'm' a g1 owns[a-0]", "probe g1 m"]);
}
