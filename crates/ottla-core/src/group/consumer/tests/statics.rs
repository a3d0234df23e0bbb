//! Static members (KIP-345).

use super::*;

#[test]
fn a_static_member_says_that_it_will_be_back() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.input(|g, now| g.leave(now)), ["beat -2"]);
    assert_eq!(rig.reply(ok(-2, None)), ["left"]);
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.input(ConsumerGroup::poll_expired)[0], "beat -2");
}

#[test]
fn unless_it_is_configured_to_leave() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    rig.group.config.leave_on_close = true;
    assert_eq!(rig.input(ConsumerGroup::poll_expired)[0], "beat -2", "it does not close");
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    rig.group.config.leave_on_close = true;
    assert_eq!(rig.input(|g, now| g.leave(now)), ["beat -1"]);
}

/// The answer to a join was lost: the coordinator has a member of this instance id, and it is we ourselves.
#[test]
fn an_instance_id_that_we_hold_ourselves_is_let_go_of() {
    let mut rig = Rig::fixed().joining();
    rig.broken();
    rig.known();
    assert_eq!(rig.wait(200), ["beat 0 reads[a,b] owns[] all"]);
    assert_eq!(rig.reply(refused(ErrorCode::UnreleasedInstanceId)), ["beat -2"]);
    assert_eq!(rig.reply(ok(-2, None)), [""; 0]);
    assert_eq!(rig.wait(300), ["beat 0 reads[a,b] owns[] all"]);
    rig.reply(ok(1, Some(&[])));
    assert_eq!(rig.state(), ConsumerState::Stable);
}

#[test]
fn an_instance_id_that_somebody_else_holds_is_fatal() {
    let mut rig = Rig::fixed().joining();
    assert_eq!(rig.reply(refused(ErrorCode::UnreleasedInstanceId)), ["beat -2"]);
    assert_eq!(rig.reply(refused(ErrorCode::FencedInstanceId)), [""; 0]);
    rig.wait(300);
    assert_eq!(rig.reply(refused(ErrorCode::UnreleasedInstanceId)), ["fail Fenced"]);
    let error = rig.error.unwrap();
    assert!(error.to_string().contains("holds group_instance_id i1"), "{error}");
}

/// It has none to let go of, and nothing that it could do would help.
#[test]
fn a_member_without_an_instance_id_that_is_told_that_it_is_held_leaves_no_instance() {
    let mut rig = Rig::dynamic().joining();
    assert_eq!(rig.reply(refused(ErrorCode::UnreleasedInstanceId)), ["fail Fenced"]);
}

#[test]
fn a_member_whose_instance_was_taken_over_is_fatal() {
    for fenced in [
        |r: &mut Rig| r.next_beat(refused(ErrorCode::FencedInstanceId)),
        |r: &mut Rig| r.input(|g, now| g.commit_refused(now, ErrorCode::FencedInstanceId, 1)),
    ] {
        let mut rig = Rig::fixed().stable(&[("a", 0)]);
        let told = fenced(&mut rig);
        assert!(told.ends_with(&["lost [a-0]".to_owned(), "fail Fenced".to_owned()]), "{told:?}");
    }
}
