//! From joining to owning, and from one assignment to the next.

use super::*;

#[test]
fn joining_tells_all_and_what_is_assigned_is_acknowledged_at_once() {
    let mut rig = Rig::dynamic();
    assert_eq!(rig.subscribe(&["a", "b"]), ["find"]);
    assert_eq!(rig.known(), ["beat 0 reads[a,b] owns[] all"]);
    assert!(rig.group.identity().is_none(), "nothing can be committed yet");
    assert_eq!(rig.reply(ok(3, Some(&[("a", 0), ("a", 1)]))), ["want names"]);
    assert_eq!(rig.metadata(&["a"]), ["assign [a-0, a-1]", "beat 3 owns[a-0 a-1]"]);
    assert_eq!(rig.state(), ConsumerState::Acknowledging);
    assert_eq!(rig.reply(ok(3, None)), [""; 0]);
    assert_eq!(
        (rig.state(), rig.group.identity().map(|i| i.generation_id)),
        (ConsumerState::Stable, Some(3))
    );
}

#[test]
fn a_member_without_partitions_is_stable_at_once() {
    let mut rig = Rig::dynamic().joining();
    assert_eq!(rig.reply(ok(1, Some(&[]))), [""; 0]);
    assert_eq!(rig.state(), ConsumerState::Stable);
}

#[test]
fn heartbeats_come_at_the_interval_of_the_coordinator_and_tell_nothing_new() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.wait(999), [""; 0]);
    assert_eq!(rig.wait(1), ["beat 1"]);
    assert_eq!(rig.reply(Reply { interval_ms: 5000, ..ok(1, None) }), [""; 0]);
    assert_eq!(rig.wait(4999), [""; 0]);
    assert_eq!(rig.wait(1), ["beat 1"]);
}

#[test]
fn the_member_id_is_a_random_uuid_of_this_client() {
    let id = Rig::dynamic().group.member_id;
    let uuid: ottla_wire::Uuid = id.parse().unwrap();
    assert_eq!((uuid.0[6] >> 4, uuid.0[8] >> 6), (4, 0b10), "version and variant of RFC 9562");
    let other = ConsumerGroup::new(config(), None, (Duration::ZERO, Duration::ZERO), Rng::new(2)).member_id;
    assert_ne!(id, other);
}

#[test]
fn what_goes_is_given_back_first_and_counts_as_owned_until_then() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
    assert_eq!(rig.next_beat(ok(1, Some(&[("a", 0)]))), ["revoke [a-1] within 20000"]);
    assert_eq!(rig.state(), ConsumerState::Reconciling);
    for _ in 0..5 {
        assert_eq!(rig.wait(1000), ["beat 1"], "silence about what is owned is no word that it is gone");
        rig.reply(ok(1, None));
    }
    assert!(rig.group.identity().is_some(), "commits go on");
    assert_eq!(rig.given_back(&[("a", 1)]), ["beat 1 owns[a-0]"]);
    assert_eq!(rig.reply(ok(2, None)), [""; 0]);
    assert_eq!((rig.state(), rig.group.epoch), (ConsumerState::Stable, 2));
}

#[test]
fn what_is_told_after_a_failure_includes_what_is_being_given_back() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    rig.wait(1000);
    assert_eq!(rig.broken(), ["find"]);
    assert_eq!(rig.known(), [""; 0], "after a pause");
    assert_eq!(rig.wait(200), ["beat 1 reads[a,b] owns[a-0 a-1] all"]);
}

#[test]
fn a_new_assignment_while_a_revocation_is_open_waits_for_it() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    assert_eq!(rig.next_beat(ok(1, Some(&[("a", 0), ("a", 1), ("b", 0)]))), [""; 0]);
    // The coordinator wants a-1 again, and it has gone meanwhile: it is assigned anew.
    assert_eq!(rig.given_back(&[("a", 1)]), ["want names", "assign [a-1]"]);
    assert_eq!(rig.wait(1000), ["beat 1"]);
    assert_eq!(rig.metadata(&["a", "b"]), ["assign [b-0]"]);
    assert_eq!(rig.reply(ok(1, None)), ["beat 1 owns[a-0 a-1 b-0]"]);
}

#[test]
fn a_revocation_that_is_not_finished_in_time_is_lost_and_acknowledged() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    let mut told = Vec::new();
    for _ in 0..60 {
        let actions = rig.wait(1000);
        if actions.iter().any(|a| a.starts_with("beat")) {
            rig.reply(ok(1, None));
        }
        told.extend(actions.into_iter().filter(|a| a != "beat 1"));
    }
    assert_eq!(told, ["lost [a-1]", "beat 1 owns[a-0]"]);
    assert_eq!(rig.state(), ConsumerState::Stable);
}

#[test]
fn the_deadline_leaves_time_before_the_coordinator_puts_the_member_out() {
    for (revoke, rebalance, within) in
        [(20_000, 60_000, 20_000), (500_000, 60_000, 57_000), (500_000, 1000, 500)]
    {
        let mut rig = Rig::dynamic().stable(&[("a", 0)]);
        rig.group.config.revoke_timeout = Duration::from_millis(revoke);
        rig.group.config.rebalance_timeout = Duration::from_millis(rebalance);
        let told = rig.next_beat(ok(1, Some(&[])));
        assert_eq!(told, [format!("revoke [a-0] within {within}")]);
    }
}

#[test]
fn the_time_of_a_second_revocation_counts_from_when_it_was_learned() {
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1), ("b", 0)]);
    rig.next_beat(ok(1, Some(&[("a", 0), ("b", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    // The coordinator waits for b-0 since then, whatever else it says.
    for _ in 0..7 {
        rig.next_beat(ok(1, Some(&[("a", 0)])));
    }
    assert_eq!(rig.given_back(&[("a", 1)])[..1], ["revoke [b-0] within 13000"]);
    // One that was taken back meanwhile begins anew.
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1), ("b", 0)]);
    rig.next_beat(ok(1, Some(&[("a", 0), ("b", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0), ("b", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    assert_eq!(rig.given_back(&[("a", 1)])[..1], ["revoke [b-0] within 19000"]);
    // A commit of the first that takes long leaves no time for the second: it is asked all the same.
    let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1), ("b", 0)]);
    rig.next_beat(ok(1, Some(&[("a", 0), ("b", 0)])));
    rig.next_beat(ok(1, Some(&[("a", 0)])));
    for _ in 0..30 {
        rig.next_beat(ok(1, None));
    }
    assert_eq!(rig.given_back(&[("a", 1)])[..1], ["revoke [b-0] within 1"]);
}

#[test]
fn a_refused_commit_is_followed_by_a_heartbeat_that_was_sent_after_it() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.wait(1000), ["beat 1"]);
    assert_eq!(rig.input(|g, now| g.commit_refused(now, ErrorCode::StaleMemberEpoch, 1)), [""; 0]);
    assert_eq!(rig.reply(ok(1, None)), ["beat 1"], "the one under way says nothing of it");
    assert_eq!(rig.reply(ok(1, None)), [""; 0]);
    assert_eq!(rig.wait(999), [""; 0]);
    assert_eq!(rig.wait(1), ["beat 1"]);
}

#[test]
fn a_topic_without_a_name_waits_and_the_others_go_on() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(
        rig.next_beat(ok(2, Some(&[("a", 0), ("a", 1), ("b", 7)]))),
        ["want names", "assign [a-1]", "beat 2 owns[a-0 a-1]"]
    );
    assert!(rig.group.waits_for_names());
    assert_eq!(rig.reply(ok(2, None)), [""; 0]);
    assert_eq!(rig.state(), ConsumerState::Reconciling);
    assert_eq!(rig.metadata(&["a"]), [""; 0], "metadata does not know it yet");
    assert_eq!(rig.metadata(&["a", "b"]), ["assign [b-7]", "beat 2 owns[a-0 a-1 b-7]"]);
    assert!(!rig.group.waits_for_names());
    rig.reply(ok(2, None));
    assert_eq!(rig.state(), ConsumerState::Stable);
}

#[test]
fn a_topic_that_was_made_anew_is_given_back_before_it_is_taken_over() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    let anew = ottla_wire::Uuid([99; 16]);
    let told = BTreeSet::from([(anew, 0)]);
    let reply =
        Reply { assignment: Some(Told::Partitions { parts: told.clone(), strange: false }), ..ok(2, None) };
    // The last commit would be taken for the new one's: its name is waited for, which the client then knows.
    assert_eq!(rig.next_beat(reply), ["want names"]);
    assert_eq!(rig.wait(400), [""; 0]);
    let named = rig.input(|g, now| g.topic_names(now, [(anew, Arc::from("a"))]));
    assert_eq!(named, ["revoke [a-0] within 20000"]);
    let mut shown = rig.given_back(&[("a", 0)]);
    shown.truncate(1);
    assert_eq!(shown, ["assign [a-0]"]);
    assert_eq!(rig.group.owned_parts(), told);
}

#[test]
fn a_name_that_nobody_tells_holds_up_a_revocation_for_five_seconds() {
    // The reader has all of its time, as long as the coordinator waits at all.
    for (revoke, rebalance, held, within) in
        [(20_000, 60_000, 5000, 20_000), (3000, 60_000, 5000, 3000), (20_000, 8000, 2000, 5000)]
    {
        let mut rig = Rig::dynamic().stable(&[("a", 0), ("a", 1)]);
        rig.group.config.revoke_timeout = Duration::from_millis(revoke);
        rig.group.config.rebalance_timeout = Duration::from_millis(rebalance);
        assert_eq!(rig.next_beat(ok(2, Some(&[("a", 0), ("b", 7)]))), ["want names"]);
        let begun = rig.now;
        let mut shown = Vec::new();
        while !shown.iter().any(|s: &String| s.starts_with("revoke [a-1]")) {
            shown = rig.wait(100);
            if shown.iter().any(|s| s.starts_with("beat")) {
                rig.reply(ok(2, None));
            }
        }
        assert_eq!(rig.now.since(begun), Duration::from_millis(held));
        assert_eq!(shown[0], format!("revoke [a-1] within {within}"));
    }
}

#[test]
fn another_subscription_is_told_at_once_and_only_it() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.subscribe(&["a", "c"]), ["beat 1 reads[a,c]"]);
    assert_eq!(rig.reply(ok(2, None)), [""; 0]);
    // While a heartbeat is under way it goes with the next one.
    rig.wait(1000);
    assert_eq!(rig.subscribe(&["a"]), [""; 0]);
    assert_eq!(rig.reply(ok(2, None)), ["beat 2 reads[a]"]);
}

#[test]
fn a_commit_with_a_stale_epoch_asks_for_the_newer_one_at_once() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.input(|g, now| g.commit_refused(now, ErrorCode::StaleMemberEpoch, 1)), ["beat 1"]);
    rig.reply(ok(2, None));
    assert_eq!(
        rig.input(|g, now| g.commit_refused(now, ErrorCode::StaleMemberEpoch, 1)),
        [""; 0],
        "known already"
    );
    assert_eq!(
        rig.input(|g, now| g.commit_refused(now, ErrorCode::UnknownMemberId, 2)),
        ["beat 2"],
        "the coordinator itself decides"
    );
    assert_eq!(rig.reply(refused(ErrorCode::UnknownMemberId))[0], "lost [a-0]");
}

#[test]
fn what_is_taken_away_before_it_was_taken_over_is_acknowledged() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    assert_eq!(rig.next_beat(ok(2, Some(&[("a", 0), ("b", 7)]))), ["want names"]);
    assert_eq!(rig.state(), ConsumerState::Reconciling);
    // To the coordinator saying nothing is no acknowledgement.
    assert_eq!(rig.next_beat(ok(3, Some(&[("a", 0)]))), ["beat 3 reads[a,b] owns[a-0] all"]);
    rig.reply(ok(3, None));
    assert_eq!(rig.state(), ConsumerState::Stable);
    assert_eq!(rig.next_beat(ok(3, None)), [""; 0], "told once");
}

#[test]
fn a_pattern_is_told_in_place_of_topics_and_taken_back_by_an_empty_one() {
    let sent = |rig: &mut Rig, f: &dyn Fn(&mut ConsumerGroup, Timestamp)| {
        f(&mut rig.group, rig.now);
        let told = std::iter::from_fn(|| rig.group.poll_action()).find_map(|action| match action {
            GroupAction::Send(GroupRequest::ConsumerHeartbeat(r)) => {
                Some((r.subscribed_topic_names.map(|t| t.join(",")), r.subscribed_topic_regex))
            }
            _ => None,
        });
        told.map(|(topics, regex)| format!("{topics:?} {regex:?}"))
    };
    let mut rig = Rig::dynamic();
    assert_eq!(sent(&mut rig, &|g, now| g.subscribe_pattern(now, "a.*")), None);
    let joined = sent(&mut rig, &ConsumerGroup::coordinator_known);
    assert_eq!(joined.as_deref(), Some(r#"Some("") Some("a.*")"#));
    rig.reply(ok(1, Some(&[])));
    rig.wait(1000);
    rig.reply(ok(1, None));
    let replaced = sent(&mut rig, &|g, now| g.subscribe(now, names(&["b"])));
    assert_eq!(replaced.as_deref(), Some(r#"Some("b") Some("")"#));
    rig.reply(ok(2, None));
    let again = sent(&mut rig, &|g, now| g.subscribe_pattern(now, "b|c"));
    assert_eq!(again.as_deref(), Some(r#"Some("") Some("b|c")"#));
    rig.reply(ok(3, None));
    // To say nothing is to say that nothing has changed.
    rig.now = rig.now + Duration::from_millis(1000);
    assert_eq!(sent(&mut rig, &ConsumerGroup::handle_timeout).as_deref(), Some("None None"));
}
