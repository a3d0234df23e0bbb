use super::*;

fn leave(rig: &mut Rig) -> Vec<String> {
    rig.input(|g, now| g.leave(now, "closed"))
}

#[test]
fn a_member_leaves_with_a_reason_and_is_done_when_answered() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(leave(&mut rig), ["leave m"]);
    let Some(GroupRequest::Leave(request)) = &rig.request else { panic!("no LeaveGroup") };
    assert_eq!(request.members.first().unwrap().reason.as_deref(), Some("closed"));
    assert_eq!((rig.group.identity(), rig.owned()), (None, Vec::new()));
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
}

/// LeaveGroup below version 3 knows one member.
#[test]
fn old_brokers_get_the_old_form() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.input(|g, now| g.coordinator_known(now, OLDEST));
    rig.join(joined(1, "m", "other"));
    leave(&mut rig);
    let Some(GroupRequest::Leave(request)) = rig.request else { panic!("no LeaveGroup") };
    assert_eq!((request.member_id.as_str(), request.members.len()), ("m", 0));
}

/// A pending member (id known, not joined) also leaves, else the group waits for it.
#[test]
fn a_pending_member_leaves_too() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    assert_eq!(leave(&mut rig), ["leave m"]);
}

/// Of a first JoinGroup the id is on its way (KIP-394): wait for it, then leave with it.
#[test]
fn a_member_whose_id_is_on_its_way_leaves_with_it() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.known();
    assert_eq!(leave(&mut rig), [""; 0]);
    assert_eq!(rig.join(join_error(ErrorCode::MemberIdRequired, "m")), ["leave m"]);
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
}

#[test]
fn a_member_whose_id_never_comes_is_done_when_that_is_known() {
    let endings: [fn(&mut Rig) -> Vec<String>; 4] = [
        |rig| rig.broken(Kind::Join),
        |rig| rig.input(ClassicGroup::coordinator_lost),
        |rig| rig.join(join_error(ErrorCode::GroupAuthorizationFailed, "")),
        |rig| rig.input(|g, now| g.handle_response(now, Kind::Join, 9, &[1, 2, 3])),
    ];
    for end in endings {
        let mut rig = Rig::cooperative();
        rig.subscribe(&["a"]);
        rig.known();
        assert_eq!(leave(&mut rig), [""; 0]);
        assert_eq!((end(&mut rig), rig.state()), (vec!["left".to_owned()], GroupState::Unsubscribed));
    }
}

/// Before KIP-394 (JoinGroup 3) a first JoinGroup may be parked for minutes: no close waits for that.
#[test]
fn an_old_broker_is_not_waited_for() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.input(|g, now| g.coordinator_known(now, OLDEST));
    assert_eq!(leave(&mut rig), ["left"]);
}

/// LeaveGroup without a coordinator must neither crash nor wait.
#[test]
fn without_a_coordinator_there_is_nobody_to_leave() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.input(ClassicGroup::coordinator_lost);
    assert_eq!(leave(&mut rig), ["left"]);
    let mut rig = Rig::cooperative();
    assert_eq!(leave(&mut rig), ["left"]);
}

#[test]
fn leaving_is_possible_in_every_state_and_ends() {
    for mut rig in matrix::states().into_iter().map(|(_, rig)| rig) {
        let before = rig.state();
        let mut actions = leave(&mut rig);
        if rig.state() == GroupState::Leaving {
            actions.extend(rig.broken(Kind::Join));
            actions.extend(rig.broken(Kind::Leave));
        }
        assert_eq!(actions.last().map(String::as_str), Some("left"), "{before:?}: {actions:?}");
        assert_eq!(actions.iter().filter(|a| *a == "left").count(), 1, "{before:?}: {actions:?}");
        assert_eq!(rig.wait(600_000), [""; 0], "{before:?}");
    }
}

/// Unsubscribing gives everything back first, then leaves.
#[test]
fn the_end_of_the_subscription_revokes_then_leaves() {
    let mut rig = Rig::cooperative().stable(&[("a", 0), ("b", 1)]);
    assert_eq!(rig.subscribe(&[]), ["revoke [a-0, b-1] within 20000"]);
    rig.next_beat(ErrorCode::None);
    assert!(rig.group.may_commit());
    assert_eq!(rig.given_back(&[("a", 0), ("b", 1)]), ["leave m"]);
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
}

/// A parked JoinGroup is not waited for; the generation it would end still commits.
#[test]
fn the_end_of_the_subscription_does_not_wait_for_a_parked_join() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    assert_eq!(rig.subscribe(&[]), ["revoke [a-0] within 20000"]);
    assert!(rig.group.may_commit());
    assert_eq!(rig.wait(1000), ["probe g1 m"], "the group connection is still taken");
    assert_eq!(rig.join(joined(2, "m", "m")), [""; 0]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["leave m"]);
}

/// Between JoinGroup's and SyncGroup's answers no commit is accepted, so a revocation waits for the latter.
#[test]
fn the_end_of_the_subscription_waits_for_sync() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    assert_eq!(rig.subscribe(&[]), [""; 0]);
    assert_eq!(rig.sync(synced(&[("a", 0), ("a", 1)])), ["revoke [a-0] within 20000"]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["leave m"]);
}

#[test]
fn a_subscription_that_begins_anew_while_leaving_joins_again() {
    let mut rig = Rig::cooperative().stable(&[]);
    assert_eq!(rig.subscribe(&[]), ["leave m"]);
    assert_eq!(rig.subscribe(&["a"]), ["left", "join '' a owns[]"]);
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), [""; 0]);
    assert_eq!(rig.state(), GroupState::Joining);
}

#[test]
fn a_subscription_that_begins_anew_while_everything_is_revoked_joins_afterwards() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.subscribe(&[]);
    assert_eq!(rig.subscribe(&["a"]), ["left"]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["join 'm' a g1 owns[]"]);
}
