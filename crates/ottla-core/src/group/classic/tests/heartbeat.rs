//! Heartbeats, the session, and a coordinator that comes and goes.

use super::*;

/// The next heartbeat is timed from the last one sent, however long the answer took.
#[test]
fn heartbeats_are_timed_from_the_last_one_sent() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
    assert_eq!(rig.wait(700), [""; 0]);
    rig.beat(ErrorCode::None);
    assert_eq!(rig.wait(300), ["heartbeat g1 m"]);
    assert_eq!(rig.wait(2500), [""; 0], "one at a time");
    assert_eq!(rig.beat(ErrorCode::None), ["heartbeat g1 m"], "the interval is over");
}

/// Heartbeats start in COMPLETING_REBALANCE: a leader computes for as long as it takes.
#[test]
fn heartbeats_go_on_while_the_leader_waits_for_metadata_and_computes() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    rig.join(leading(1, "m", &[("m", subscription(&["a"]))]));
    assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
    rig.beat(ErrorCode::None);
    rig.metadata(&[("a", 1)], &[]);
    assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
    assert_eq!(rig.beat(ErrorCode::RebalanceInProgress), [""; 0], "ignored in COMPLETING_REBALANCE");
    assert_eq!(rig.state(), GroupState::Syncing);
}

/// REBALANCE_IN_PROGRESS counts as a received heartbeat.
#[test]
fn rebalance_in_progress_proves_that_the_coordinator_lives() {
    let mut rig = Rig::eager().stable(&[("a", 0)]);
    for _ in 0..15 {
        let sent = rig.next_beat(ErrorCode::RebalanceInProgress);
        assert!(!sent.iter().any(|a| a.starts_with("lost")), "{sent:?}");
    }
    assert_eq!(rig.state(), GroupState::Revoking, "still within the session of 10 s, after 15 s");
}

/// L5: a broker that is away for less than the session costs no rebalance, and the same partitions are kept.
#[test]
fn a_broker_bounce_shorter_than_the_session_makes_no_rebalance() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.idle(3000);
    assert_eq!(rig.wait(500), [""; 0]);
    assert_eq!(rig.input(ClassicGroup::coordinator_lost), ["find"]);
    assert_eq!(rig.wait(8500), [""; 0]);
    assert_eq!(rig.known(), ["heartbeat g1 m"], "asked at once whether the generation still stands");
    assert_eq!(rig.beat(ErrorCode::None), [""; 0]);
    assert_eq!((rig.state(), rig.owned()), (GroupState::Stable, vec!["a-0".to_owned()]));
}

/// Coordinator unreachable beyond the session, by our own clock: everything is lost; the member id is kept.
#[test]
fn a_coordinator_that_is_away_for_longer_than_the_session_costs_everything() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.input(ClassicGroup::coordinator_lost);
    assert_eq!(rig.wait(9999), [""; 0]);
    assert_eq!(rig.wait(1), ["lost [a-0]"]);
    assert_eq!((rig.state(), rig.group.identity()), (GroupState::Unjoined, None));
    assert_eq!(rig.known(), ["join 'm' a,b owns[]"]);
}

/// A coordinator that keeps the connection and says nothing is as good as gone.
#[test]
fn a_silent_coordinator_is_looked_for_when_the_session_is_over() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.wait(9999), ["heartbeat g1 m"]);
    assert_eq!(rig.wait(1), ["lost [a-0]", "find"]);
    assert_eq!(rig.broken(Kind::Heartbeat), [""; 0], "its outcome does not matter any more");
}

/// The session is counted from the sending of the heartbeat that was answered: the coordinator's clock cannot
/// have started before that, so it cannot have given our partitions away before ours is over (S7).
#[test]
fn the_session_is_counted_from_when_the_answered_heartbeat_was_sent() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.wait(1000);
    rig.wait(4000);
    rig.beat(ErrorCode::None);
    rig.input(ClassicGroup::coordinator_lost);
    assert_eq!(rig.wait(5999), [""; 0]);
    assert_eq!(rig.wait(1), ["lost [a-0]"]);
}

#[test]
fn a_broken_heartbeat_rediscovers_after_a_backoff() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.wait(1000);
    assert_eq!(rig.broken(Kind::Heartbeat), ["find"]);
    assert_eq!(rig.known(), [""; 0]);
    assert_eq!(rig.wait(200), ["heartbeat g1 m"]);
}

/// A parked JoinGroup looks the same as a dead coordinator. What a cooperative member reads on meanwhile must
/// not outlive its session, so it asks over the other connection.
#[test]
fn probes_go_over_the_other_connection_while_join_is_parked() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    for _ in 0..30 {
        assert_eq!(rig.wait(1000), ["probe g1 m"]);
        assert_eq!(rig.probe(ErrorCode::RebalanceInProgress), [""; 0]);
    }
    assert_eq!((rig.state(), rig.owned()), (GroupState::Joining, vec!["a-0".to_owned()]));
}

#[test]
fn without_an_answer_to_its_probes_a_parked_member_loses_everything_after_the_session() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    assert_eq!(rig.wait(9999), ["probe g1 m"]);
    assert_eq!(rig.wait(1), ["lost [a-0]", "find"]);
    assert_eq!(rig.join(joined(2, "m", "m")), [""; 0], "the answer to the parked request is dropped");
    assert_eq!(rig.known(), ["join 'm' a,b owns[]"]);
}

#[test]
fn a_broken_probe_is_retried_and_the_parked_join_goes_on() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.wait(1000);
    assert_eq!(rig.broken(Kind::Probe), [""; 0]);
    assert_eq!(rig.wait(121), ["probe g1 m"]);
    assert_eq!(rig.state(), GroupState::Joining);
}

/// The group may have moved on while our JoinGroup's answer is on its way on the other connection.
#[test]
fn a_probe_that_meets_the_next_generation_resets_nothing() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.wait(1000);
    assert_eq!(rig.probe(ErrorCode::IllegalGeneration), [""; 0]);
    rig.wait(1000);
    assert_eq!(rig.probe(ErrorCode::UnknownMemberId), ["lost [a-0]", "join '' a,b owns[]"]);
}

#[test]
fn a_member_that_owns_nothing_sends_no_probes_while_joining() {
    let mut rig = Rig::cooperative().stable(&[]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    assert_eq!(rig.wait(120_000), [""; 0]);
    assert_eq!(rig.state(), GroupState::Joining);
}

#[test]
fn probes_prove_life_while_sync_is_parked() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    for _ in 0..30 {
        assert_eq!(rig.wait(1000), ["probe g2 m"]);
        rig.probe(ErrorCode::None);
    }
    assert_eq!(rig.state(), GroupState::Syncing);
}

/// A leader that loses its coordinator while it computes sends the result when there is one again.
#[test]
fn an_assignment_computed_without_a_coordinator_is_sent_later() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    rig.join(leading(1, "m", &[("m", subscription(&["a"]))]));
    rig.metadata(&[("a", 1)], &[]);
    assert_eq!(rig.input(ClassicGroup::coordinator_lost), ["find"]);
    assert_eq!(rig.computed(), [""; 0]);
    assert_eq!(rig.known(), ["sync g1 m[m={a-0}]"]);
}

/// `max_poll_interval`: leave, tell it once, join again when the reader is back.
#[test]
fn a_reader_that_stays_away_costs_the_membership_until_it_is_back() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    let actions = rig.input(ClassicGroup::poll_expired);
    assert_eq!(actions, ["leave m", "lost [a-0]", "report Limit"]);
    assert!(rig.error.as_ref().unwrap().to_string().contains("max_poll_interval"));
    assert_eq!((rig.state(), rig.group.identity()), (GroupState::Expired, None));
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), [""; 0], "nobody waits for this one");
    assert_eq!(rig.wait(600_000), [""; 0]);
    assert_eq!(rig.input(ClassicGroup::poll_expired), [""; 0]);
    assert_eq!(rig.input(ClassicGroup::polled), ["join '' a,b owns[]"]);
    assert_eq!(rig.input(ClassicGroup::polled), [""; 0]);
}

#[test]
fn a_reader_that_stays_away_while_joining_leaves_too() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    assert_eq!(rig.input(ClassicGroup::poll_expired), ["leave m", "lost [a-0]", "report Limit"]);
    assert_eq!(rig.join(join_error(ErrorCode::UnknownMemberId, "")), [""; 0]);
    assert_eq!(rig.state(), GroupState::Expired);
}

#[test]
fn an_expired_member_closes_without_waiting_once_its_leave_is_answered() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.input(ClassicGroup::poll_expired);
    assert_eq!(rig.input(|g, now| g.leave(now, "closed")), [""; 0]);
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
}

/// Historic bug 16: the answer to a heartbeat that comes during the leave must not revive the member.
#[test]
fn a_late_heartbeat_answer_during_the_leave_changes_nothing() {
    for code in [ErrorCode::None, ErrorCode::RebalanceInProgress, ErrorCode::UnknownMemberId] {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        rig.wait(1000);
        rig.input(|g, now| g.leave(now, "closed"));
        assert_eq!(rig.beat(code), [""; 0], "{code}");
        assert_eq!((rig.state(), rig.group.identity()), (GroupState::Leaving, None));
    }
}

#[test]
fn parked_requests_may_take_as_long_as_the_rebalance() {
    let rig = Rig::cooperative();
    let limit = |kind, seconds| rig.group.request_timeout(kind, Duration::from_secs(seconds)).as_secs();
    assert_eq!((limit(Kind::Join, 30), limit(Kind::Join, 90)), (65, 90));
    assert_eq!(limit(Kind::Sync, 30), 65);
    assert_eq!((limit(Kind::Heartbeat, 30), limit(Kind::Probe, 5)), (10, 5));
    assert_eq!(limit(Kind::Leave, 30), 30);
}

/// Found by the simulator. The process stood still for longer than a session while a heartbeat was under way: that
/// round trip was taken off every session from then on, which ended each as it began, for ever.
#[test]
fn a_halt_while_a_heartbeat_is_under_way_does_not_shorten_what_comes_after() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
    rig.now = rig.now + Duration::from_secs(12);
    assert_eq!(rig.beat(ErrorCode::None), ["lost [a-0]", "find"], "the session is over");
    assert_eq!(rig.known(), ["join 'm' a,b owns[]"]);
    rig.join(leading(2, "m", &[("m", subscription(&["a", "b"]))]));
    assert_eq!(rig.state(), GroupState::Syncing, "the next one is not");
    assert_eq!(
        rig.wait(4999).iter().filter(|a| a.starts_with("find")).count(),
        0,
        "for half its time at least"
    );
}
