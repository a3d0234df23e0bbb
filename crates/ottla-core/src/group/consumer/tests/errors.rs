//! What errors and failures lead to.

use super::*;

#[test]
fn fenced_members_lose_everything_and_join_again_under_the_same_id() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId, ErrorCode::GroupIdNotFound] {
        let mut rig = Rig::dynamic().stable(&[("a", 0), ("b", 1)]);
        let id = rig.group.member_id.clone();
        assert_eq!(
            rig.next_beat(refused(code)),
            ["lost [a-0, b-1]", "beat 0 reads[a,b] owns[] all"],
            "{code}"
        );
        assert!(rig.group.identity().is_none());
        assert_eq!(rig.group.member_id, id);
        rig.reply(ok(5, Some(&[])));
        assert_eq!(rig.state(), ConsumerState::Stable);
    }
}

#[test]
fn who_is_fenced_again_and_again_waits_longer_and_longer() {
    let mut rig = Rig::dynamic().stable(&[]);
    rig.wait(1000);
    let mut joins = 0;
    let begin = rig.now;
    let mut shown = rig.reply(refused(ErrorCode::UnknownMemberId));
    while rig.now.since(begin) < Duration::from_secs(30) {
        joins += shown.iter().filter(|a| a.starts_with("beat 0")).count();
        shown = if shown.is_empty() { rig.wait(100) } else { rig.reply(refused(ErrorCode::UnknownMemberId)) };
    }
    assert!((20..50).contains(&joins), "{joins} in 30 s");
}

#[test]
fn a_coordinator_that_moved_is_looked_for_and_told_everything() {
    for code in [ErrorCode::NotCoordinator, ErrorCode::CoordinatorNotAvailable] {
        let mut rig = Rig::dynamic().stable(&[("a", 0)]);
        assert_eq!(rig.next_beat(refused(code)), ["find"]);
        assert_eq!(rig.state(), ConsumerState::Stable, "nothing is lost");
        assert_eq!(rig.known(), ["beat 1 reads[a,b] owns[a-0] all"]);
        // As far as it is concerned nothing has changed.
        assert_eq!(rig.reply(ok(1, Some(&[("a", 0)]))), [""; 0]);
        assert_eq!(rig.state(), ConsumerState::Stable);
    }
}

#[test]
fn a_coordinator_that_loads_is_asked_again_and_told_everything() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(refused(ErrorCode::CoordinatorLoadInProgress)), [""; 0]);
    assert_eq!(rig.wait(200), ["beat 1 reads[a,b] owns[a-0] all"]);
}

#[test]
fn silence_ends_no_ownership() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    for _ in 0..20 {
        rig.wait(1000);
        rig.broken();
        rig.known();
        rig.wait(10_000);
    }
    assert_eq!(rig.group.owned().len(), 1);
}

#[test]
fn fatal_errors_are_told_with_the_brokers_words() {
    for (code, kind) in [
        (ErrorCode::InvalidRequest, ErrorKind::BrokerMisbehaved),
        (ErrorCode::GroupMaxSizeReached, ErrorKind::Limit),
        (ErrorCode::UnsupportedAssignor, ErrorKind::Config),
        (ErrorCode::InvalidRegularExpression, ErrorKind::ApiMisuse),
        (ErrorCode::GroupAuthorizationFailed, ErrorKind::Authorization),
        (ErrorCode::UnsupportedVersion, ErrorKind::Unsupported),
        (ErrorCode::Unknown(999), ErrorKind::BrokerMisbehaved),
    ] {
        let mut rig = Rig::dynamic().stable(&[("a", 0)]);
        assert_eq!(
            rig.next_beat(refused(code)),
            ["lost [a-0]".to_owned(), format!("fail {kind:?}")],
            "{code}"
        );
        let error = rig.error.take().unwrap();
        assert!(error.is_fatal() && error.code() == Some(code), "{error}");
        assert!(error.to_string().contains("the broker says: because"), "{error}");
        assert_eq!((rig.state(), rig.wait(100_000).len()), (ConsumerState::Fatal, 0));
    }
}

#[test]
fn a_group_that_stays_classic_is_fatal_at_the_join() {
    let mut rig = Rig::dynamic().joining();
    assert_eq!(rig.reply(refused(ErrorCode::GroupIdNotFound)), ["fail Unsupported"]);
    assert!(rig.error.unwrap().to_string().contains("group.consumer.migration.policy"));
}

#[test]
fn where_it_may_it_falls_back_instead() {
    for code in [ErrorCode::GroupIdNotFound, ErrorCode::UnsupportedVersion] {
        let mut rig = Rig::dynamic();
        rig.group.allow_fallback();
        let mut rig = rig.joining();
        rig.group.handle_reply(rig.now, Ok(refused(code)));
        assert_eq!(rig.group.take_fallback(), Some(code));
    }
}

#[test]
fn what_passes_is_told_once_in_a_row() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    for code in [ErrorCode::UnknownServerError, ErrorCode::TopicAuthorizationFailed] {
        let mut told = Vec::new();
        for _ in 0..5 {
            rig.wait(2000);
            told.extend(rig.reply(refused(code)));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(rig.group.owned().len(), 1);
        // A good one begins a new row.
        rig.wait(2000);
        rig.reply(ok(1, Some(&[("a", 0)])));
    }
}

#[test]
fn answers_of_an_older_membership_are_dropped() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.wait(1000);
    rig.input(ConsumerGroup::poll_expired);
    assert_eq!(rig.reply(ok(9, Some(&[("a", 5)]))), [""; 0]);
    assert_eq!((rig.state(), rig.group.epoch), (ConsumerState::Stale, 0));
}

#[test]
fn a_reader_that_stays_away_leaves_and_is_taken_back() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.input(ConsumerGroup::poll_expired), ["beat -1", "lost [a-0]", "report Limit"]);
    assert_eq!(rig.wait(100_000), [""; 0]);
    assert_eq!(rig.reply(ok(-1, None)), [""; 0]);
    assert_eq!(rig.input(ConsumerGroup::polled), ["beat 0 reads[a,b] owns[] all"]);
}

#[test]
fn what_was_decided_at_the_first_join_stays_so() {
    let mut rig = Rig::dynamic();
    rig.group.allow_fallback();
    let mut rig = rig.joining();
    rig.reply(ok(2, Some(&[])));
    rig.next_beat(refused(ErrorCode::FencedMemberEpoch));
    rig.wait(60_000);
    // Classic members took the group meanwhile.
    rig.group.handle_reply(rig.now, Ok(refused(ErrorCode::GroupIdNotFound)));
    assert_eq!(rig.group.take_fallback(), None);
    rig.drain();
    assert_eq!(rig.state(), ConsumerState::Fatal);
}
