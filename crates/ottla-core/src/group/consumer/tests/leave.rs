//! Leaving, in any state and with any answer.

use super::*;

#[test]
fn the_end_of_a_subscription_gives_everything_back_and_leaves() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.subscribe(&[]), ["revoke [a-0] within 20000"]);
    assert_eq!(rig.state(), ConsumerState::PrepareLeaving);
    assert_eq!(rig.wait(1000), ["beat 1"], "heartbeats go on");
    rig.reply(ok(1, None));
    assert_eq!(rig.given_back(&[("a", 0)]), ["beat -1"]);
    assert_eq!(rig.state(), ConsumerState::Leaving);
    assert_eq!(rig.reply(ok(-1, None)), ["left"]);
    assert_eq!(rig.state(), ConsumerState::Unsubscribed);
}

#[test]
fn who_never_joined_has_nobody_to_leave() {
    let mut rig = Rig::dynamic();
    assert_eq!(rig.input(|g, now| g.leave(now)), ["left"]);
    rig.subscribe(&["a"]);
    assert_eq!(rig.subscribe(&[]), ["left"]);
}

#[test]
fn a_join_that_is_under_way_is_followed_by_the_leave() {
    let mut rig = Rig::dynamic().joining();
    assert_eq!(rig.input(|g, now| g.leave(now)), ["beat -1"]);
    assert_eq!(rig.reply(ok(1, Some(&[("a", 0)]))), [""; 0], "nobody wants it any more");
    assert_eq!(rig.reply(ok(-1, None)), ["left"]);
}

#[test]
fn a_leave_waits_a_while_for_the_coordinator_that_is_looked_for() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.input(ConsumerGroup::coordinator_lost), ["find"]);
    assert_eq!(rig.input(|g, now| g.leave(now)), [""; 0], "the group would wait for the end of the session");
    assert_eq!(rig.state(), ConsumerState::Leaving);
    assert_eq!(rig.known(), ["beat -1"]);
    assert_eq!(rig.reply(ok(-1, None)), ["left"]);
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.input(ConsumerGroup::coordinator_lost);
    rig.input(|g, now| g.leave(now));
    assert_eq!(rig.wait(2999), [""; 0]);
    assert_eq!(rig.wait(1), ["left"], "and not for long");
}

#[test]
fn the_leave_of_a_reader_that_stayed_away_is_sent_again_for_a_while() {
    for lost_before in [false, true] {
        let mut rig = Rig::dynamic().stable(&[("a", 0)]);
        if lost_before {
            rig.input(ConsumerGroup::coordinator_lost);
            assert_eq!(rig.input(ConsumerGroup::poll_expired), ["lost [a-0]", "report Limit"]);
        } else {
            assert_eq!(rig.input(ConsumerGroup::poll_expired), ["beat -1", "lost [a-0]", "report Limit"]);
            assert_eq!(rig.broken(), ["find"], "nobody knows whether it was heard");
        }
        assert_eq!(rig.known(), ["beat -1"]);
        assert_eq!(rig.reply(ok(-1, None)), [""; 0]);
        assert_eq!(rig.wait(10_000), [""; 0]);
        assert_eq!(rig.state(), ConsumerState::Stale);
    }
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.input(ConsumerGroup::poll_expired);
    assert_eq!(rig.broken(), ["find"]);
    assert_eq!(rig.wait(10_000), [""; 0]);
    assert_eq!(rig.known(), [""; 0], "the session ends by itself");
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.input(ConsumerGroup::poll_expired);
    assert_eq!(rig.broken(), ["find"]);
    assert_eq!(rig.input(ConsumerGroup::polled), [""; 0]);
    assert_eq!(rig.known(), ["beat 0 reads[a,b] owns[] all"], "who is back does not leave");
}

#[test]
fn a_leave_that_was_not_heard_is_sent_again_for_a_while() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.input(|g, now| g.leave(now)), ["beat -1"]);
    assert_eq!(rig.reply(refused(ErrorCode::NotCoordinator)), ["find"]);
    assert_eq!(rig.known(), ["beat -1"]);
    assert_eq!(rig.broken(), ["find"]);
    assert_eq!(rig.known(), ["beat -1"]);
    assert_eq!(rig.wait(3000), ["left"], "the session ends by itself");
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.input(|g, now| g.leave(now));
    assert_eq!(rig.reply(refused(ErrorCode::UnknownMemberId)), ["left"]);
}

#[test]
fn subscribing_again_on_the_way_out_joins_again() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.subscribe(&[]);
    // Not left yet: what was given back is taken over again.
    assert_eq!(rig.subscribe(&["a", "b"]), ["left"]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["assign [a-0]"]);
    assert_eq!(rig.state(), ConsumerState::Stable);
    rig.subscribe(&[]);
    rig.given_back(&[("a", 0)]);
    assert_eq!(rig.state(), ConsumerState::Leaving);
    assert_eq!(rig.subscribe(&["b"]), ["left", "beat 0 reads[b] owns[] all"]);
    assert_eq!(rig.reply(ok(-1, None)), [""; 0]);
    rig.reply(ok(4, Some(&[])));
    assert_eq!(rig.state(), ConsumerState::Stable);
    // The late answer to the first leave is not taken for one to this.
    assert_eq!(rig.input(ConsumerGroup::leave), ["beat -1"]);
}

#[test]
fn a_member_that_is_over_leaves_on_close() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.next_beat(refused(ErrorCode::InvalidRequest));
    assert_eq!(rig.input(|g, now| g.leave(now)), ["beat -1"]);
    assert_eq!(rig.reply(ok(-1, None)), ["left"]);
}

#[test]
fn nothing_is_taken_over_after_the_end_of_the_subscription() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    // While a-1 is given back, the coordinator has more for this member, and the user has enough.
    rig.next_beat(ok(1, Some(&[("a", 0), ("b", 0)])));
    rig.subscribe(&[]);
    assert_eq!(rig.given_back(&[("a", 1)]), ["revoke [a-0] within 20000"]);
    assert_eq!(rig.given_back(&[("a", 0)]), ["beat -1"]);
}
