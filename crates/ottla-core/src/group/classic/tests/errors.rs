//! One test for each row of the table of errors.

use super::*;

const FATAL: [ErrorCode; 7] = [
    ErrorCode::FencedInstanceId,
    ErrorCode::InconsistentGroupProtocol,
    ErrorCode::InvalidSessionTimeout,
    ErrorCode::InvalidGroupId,
    ErrorCode::GroupAuthorizationFailed,
    ErrorCode::GroupMaxSizeReached,
    ErrorCode::UnsupportedVersion,
];

/// A cooperative member that owns a-0 and whose JoinGroup is parked.
fn rejoining() -> Rig {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["join 'm' a,b g1 owns[a-0]"]);
    rig
}

fn resyncing() -> Rig {
    let mut rig = rejoining();
    assert_eq!(rig.join(joined(2, "m", "other")), ["sync g2 m[]"]);
    rig
}

#[test]
fn join_load_in_progress_and_rebalance_in_progress_back_off_exponentially_and_keep_everything() {
    for code in [ErrorCode::CoordinatorLoadInProgress, ErrorCode::RebalanceInProgress] {
        let mut rig = rejoining();
        for (short, long) in [(79, 121), (159, 241), (319, 481)] {
            assert_eq!(rig.join(join_error(code, "")), [""; 0]);
            let sent = rig.now;
            assert_eq!(rig.wait(short), [""; 0], "{code}");
            let joined = rig.wait(long - short);
            assert_eq!(joined.first().map(String::as_str), Some("join 'm' a,b g1 owns[a-0]"), "{code}");
            assert!(rig.now.since(sent) < Duration::from_secs(1));
        }
        assert_eq!(rig.owned(), ["a-0"]);
    }
}

#[test]
fn join_coordinator_errors_rediscover_and_keep_everything() {
    for code in [ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator] {
        let mut rig = rejoining();
        assert_eq!(rig.join(join_error(code, "")), ["find"]);
        assert_eq!(rig.wait(300), [""; 0]);
        assert_eq!(rig.known(), ["join 'm' a,b g1 owns[a-0]", "probe g1 m"], "{code}");
    }
}

#[test]
fn join_disconnect_rediscovers_and_keeps_everything() {
    let mut rig = rejoining();
    assert_eq!(rig.broken(Kind::Join), ["find"]);
    assert_eq!(rig.known(), [""; 0], "a coordinator found at once does not spare the backoff");
    assert_eq!(rig.wait(200), ["join 'm' a,b g1 owns[a-0]", "probe g1 m"]);
}

#[test]
fn join_unknown_member_id_clears_id_and_generation_and_joins_now() {
    let mut rig = rejoining();
    let actions = rig.join(join_error(ErrorCode::UnknownMemberId, ""));
    assert_eq!(actions, ["lost [a-0]", "join '' a,b owns[]"]);
    assert_eq!(rig.group.identity(), None);
}

#[test]
fn join_member_id_required_takes_the_id_and_joins_now() {
    let mut rig = rejoining();
    assert_eq!(rig.join(join_error(ErrorCode::MemberIdRequired, "n")), ["join 'n' a,b g1 owns[a-0]"]);
}

#[test]
fn join_fatal_errors_lose_everything_and_are_told() {
    for code in FATAL {
        let mut rig = rejoining();
        let actions = rig.join(join_error(code, ""));
        assert_eq!(actions.first().map(String::as_str), Some("lost [a-0]"), "{code}");
        assert!(actions.last().unwrap().starts_with("fail"), "{code}: {actions:?}");
        let error = rig.error.as_ref().unwrap();
        assert!(error.is_fatal() && !error.is_retriable() && error.code() == Some(code), "{error}");
        assert_eq!(rig.state(), GroupState::Failed);
        assert_eq!(rig.wait(600_000), [""; 0], "{code}");
    }
}

/// The text says what to change.
#[test]
fn fatal_errors_name_what_to_change() {
    let text = |code| {
        let mut rig = rejoining();
        rig.join(join_error(code, ""));
        rig.error.unwrap().to_string()
    };
    assert!(text(ErrorCode::InconsistentGroupProtocol).contains("[cooperative-sticky]"));
    assert!(text(ErrorCode::InvalidSessionTimeout).contains("10000 ms"));
    assert!(text(ErrorCode::InvalidSessionTimeout).contains("group.max.session.timeout.ms"));
    assert!(text(ErrorCode::GroupMaxSizeReached).contains("group.max.size"));
    assert!(text(ErrorCode::GroupAuthorizationFailed).contains("READ"));
    assert!(text(ErrorCode::InvalidGroupId).contains("\"g\""));
    assert!(text(ErrorCode::FencedInstanceId).contains("group_instance_id"));
}

#[test]
fn an_unknown_code_is_fatal_with_its_number_shown() {
    let mut rig = rejoining();
    rig.join(join_error(ErrorCode::from_i16(31_999), ""));
    assert!(rig.error.unwrap().to_string().contains("31999"));
}

#[test]
fn join_unknown_server_error_is_told_once_and_tried_again() {
    let mut rig = rejoining();
    assert_eq!(rig.join(join_error(ErrorCode::UnknownServerError, "")), ["report BrokerMisbehaved"]);
    rig.wait(130);
    assert_eq!(rig.join(join_error(ErrorCode::UnknownServerError, "")), [""; 0]);
    let again = rig.wait(250);
    assert_eq!(again.first().map(String::as_str), Some("join 'm' a,b g1 owns[a-0]"));
}

#[test]
fn sync_coordinator_errors_rediscover() {
    for code in [ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator] {
        let mut rig = resyncing();
        assert_eq!(rig.sync(sync_error(code)), ["find"]);
        rig.wait(300);
        assert_eq!(rig.known(), ["join 'm' a,b g2 owns[a-0]", "probe g2 m"], "{code}");
    }
}

#[test]
fn sync_disconnect_rediscovers_and_joins_again() {
    let mut rig = resyncing();
    assert_eq!(rig.broken(Kind::Sync), ["find"]);
    rig.wait(300);
    assert_eq!(rig.known(), ["join 'm' a,b g2 owns[a-0]", "probe g2 m"]);
}

#[test]
fn sync_rebalance_in_progress_joins_again_with_everything() {
    let mut rig = resyncing();
    assert_eq!(rig.sync(sync_error(ErrorCode::RebalanceInProgress)), ["join 'm' a,b g2 owns[a-0]"]);
    assert_eq!(
        rig.group.identity().unwrap().generation_id,
        2,
        "the generation that commits are accepted with"
    );
}

#[test]
fn sync_unknown_member_id_clears_id_and_generation() {
    let mut rig = resyncing();
    assert_eq!(rig.sync(sync_error(ErrorCode::UnknownMemberId)), ["lost [a-0]", "join '' a,b owns[]"]);
}

#[test]
fn sync_illegal_generation_clears_the_generation_and_keeps_the_id() {
    let mut rig = resyncing();
    assert_eq!(rig.sync(sync_error(ErrorCode::IllegalGeneration)), ["lost [a-0]", "join 'm' a,b owns[]"]);
}

#[test]
fn sync_fatal_errors() {
    for code in [ErrorCode::FencedInstanceId, ErrorCode::InconsistentGroupProtocol] {
        let mut rig = resyncing();
        let actions = rig.sync(sync_error(code));
        assert_eq!(actions.first().map(String::as_str), Some("lost [a-0]"), "{code}");
        assert_eq!(rig.state(), GroupState::Failed, "{code}");
    }
}

/// KIP-559: SyncGroup 5 says which protocol the answer is of.
#[test]
fn kip_559_sync_with_another_protocol_is_inconsistent() {
    for (protocol_type, protocol_name) in [("consumer", "range"), ("connect", COOPERATIVE)] {
        let mut rig = resyncing();
        rig.sync(SyncReply {
            protocol_type: Some(protocol_type.to_owned()),
            protocol_name: Some(protocol_name.to_owned()),
            ..synced(&[("a", 0)])
        });
        assert_eq!(rig.error.unwrap().code(), Some(ErrorCode::InconsistentGroupProtocol));
    }
}

#[test]
fn heartbeat_load_in_progress_backs_off_exponentially() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.wait(1000);
    for (short, long) in [(79, 121), (159, 241), (319, 481)] {
        assert_eq!(rig.beat(ErrorCode::CoordinatorLoadInProgress), [""; 0]);
        assert_eq!(rig.wait(short), [""; 0]);
        assert_eq!(rig.wait(long - short), ["heartbeat g1 m"]);
    }
}

#[test]
fn heartbeat_coordinator_errors_rediscover_and_the_generation_stands() {
    for code in [ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator] {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        assert_eq!(rig.next_beat(code), ["find"]);
        assert_eq!(rig.known(), [""; 0], "no hot loop between heartbeat and search");
        assert_eq!(rig.wait(200), ["heartbeat g1 m"], "{code}");
        assert_eq!((rig.beat(ErrorCode::None), rig.owned()), (vec![], vec!["a-0".to_owned()]));
    }
}

#[test]
fn heartbeat_rebalance_in_progress_joins_again_if_stable() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["join 'm' a,b g1 owns[a-0]"]);
}

#[test]
fn heartbeat_illegal_generation_resets_the_generation_and_keeps_the_id() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::IllegalGeneration), ["lost [a-0]", "join 'm' a,b owns[]"]);
}

#[test]
fn heartbeat_unknown_member_id_resets_both() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::UnknownMemberId), ["lost [a-0]", "join '' a,b owns[]"]);
}

#[test]
fn heartbeat_fenced_is_fatal() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ErrorCode::FencedInstanceId), ["lost [a-0]", "fail Fenced"]);
}

/// "Only if the generation is still the one sent": a heartbeat overtaken by a rebalance says nothing.
#[test]
fn heartbeat_errors_of_an_older_generation_are_dropped() {
    let codes = [ErrorCode::IllegalGeneration, ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId];
    for code in codes {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        assert_eq!(rig.wait(1000), ["heartbeat g1 m"]);
        rig.subscribe(&["a", "b", "c"]);
        rig.join(joined(2, "m", "other"));
        rig.sync(synced(&[("a", 0)]));
        assert_eq!(rig.beat(code), [""; 0], "{code}");
        assert_eq!(rig.state(), GroupState::Stable);
    }
}

#[test]
fn leave_answers_and_failures_are_all_the_same() {
    for answer in [true, false] {
        let mut rig = Rig::cooperative().stable(&[]);
        assert_eq!(rig.input(|g, now| g.leave(now, "closed")), ["leave m"]);
        let end = if answer { rig.reply(Kind::Leave, Reply::Leave) } else { rig.broken(Kind::Leave) };
        assert_eq!((end, rig.state()), (vec!["left".to_owned()], GroupState::Unsubscribed));
        assert_eq!(rig.wait(600_000), [""; 0], "one try");
    }
}

fn refused(rig: &mut Rig, code: ErrorCode, generation: i32) -> Vec<String> {
    rig.input(|g, now| g.commit_refused(now, code, generation))
}

/// The zombie rule: a member that the group has put out stops at once, not at its next heartbeat.
#[test]
fn commit_unknown_member_id_and_illegal_generation_reset_now() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(refused(&mut rig, ErrorCode::UnknownMemberId, 1), ["lost [a-0]", "join '' a,b owns[]"]);
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(refused(&mut rig, ErrorCode::IllegalGeneration, 1), ["lost [a-0]", "join 'm' a,b owns[]"]);
}

#[test]
fn commit_fenced_is_fatal() {
    let mut rig = Rig::fixed().stable(&[("a", 0)]);
    assert_eq!(refused(&mut rig, ErrorCode::FencedInstanceId, 1), ["lost [a-0]", "fail Fenced"]);
}

#[test]
fn commit_rebalance_in_progress_joins_again() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(refused(&mut rig, ErrorCode::RebalanceInProgress, 1), ["join 'm' a,b g1 owns[a-0]"]);
}

#[test]
fn commit_errors_of_an_older_generation_are_dropped() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration, ErrorCode::FencedInstanceId] {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        assert_eq!(refused(&mut rig, code, 0), [""; 0], "{code}");
        assert_eq!(rig.state(), GroupState::Stable);
    }
}

/// Historic bug LK#4059: a commit that meets the next generation on its way must not lose the assignment.
#[test]
fn commit_illegal_generation_while_joining_waits_for_the_joins_answer() {
    let mut rig = rejoining();
    assert_eq!(refused(&mut rig, ErrorCode::IllegalGeneration, 1), [""; 0]);
    assert_eq!((rig.state(), rig.owned()), (GroupState::Joining, vec!["a-0".to_owned()]));
    // The same when the answer was lost with its connection: the next JoinGroup decides.
    rig.broken(Kind::Join);
    assert_eq!(refused(&mut rig, ErrorCode::IllegalGeneration, 1), [""; 0]);
    assert_eq!((rig.state(), rig.owned()), (GroupState::Unjoined, vec!["a-0".to_owned()]));
}

#[test]
fn commit_errors_of_the_commit_itself_do_not_touch_the_membership() {
    for code in
        [ErrorCode::OffsetMetadataTooLarge, ErrorCode::TopicAuthorizationFailed, ErrorCode::NotCoordinator]
    {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        assert_eq!(refused(&mut rig, code, 1), [""; 0], "{code}");
        assert_eq!(rig.state(), GroupState::Stable);
    }
}

/// A version that only one side knows.
#[test]
fn a_request_that_the_coordinator_does_not_know_is_fatal() {
    for kind in [Kind::Join, Kind::Sync] {
        let mut rig = if kind == Kind::Join { rejoining() } else { resyncing() };
        let error = Error::new(ErrorKind::Unsupported, "no common version of JoinGroup");
        let actions = rig.input(|g, now| g.handle_failure(now, kind, error));
        assert_eq!(actions, ["lost [a-0]", "fail Unsupported"]);
    }
}
