use super::*;

/// The order of things: coordinator, member id, generation, assignment, heartbeats.
#[test]
fn a_member_joins_syncs_and_heartbeats() {
    let mut rig = Rig::cooperative();
    assert_eq!(rig.subscribe(&["a"]), ["find"]);
    assert_eq!(rig.known(), ["join '' a owns[]"]);
    assert_eq!(rig.join(join_error(ErrorCode::MemberIdRequired, "m")), ["join 'm' a owns[]"]);
    assert_eq!(rig.join(joined(7, "m", "other")), ["sync g7 m[]"]);
    assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]"]);
    assert_eq!(rig.wait(999), [""; 0]);
    assert_eq!(rig.wait(1), ["heartbeat g7 m"]);
    assert_eq!(rig.beat(ErrorCode::None), [""; 0]);
    assert_eq!((rig.state(), rig.owned()), (GroupState::Stable, vec!["a-0".to_owned()]));
    assert_eq!(rig.group.protocol_name(), Some(COOPERATIVE));
}

/// KIP-394: the coordinator answers a first join with an id, and the member joins again at once with it.
#[test]
fn kip_394_the_given_member_id_is_used_at_once() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.known();
    assert_eq!(rig.join(join_error(ErrorCode::MemberIdRequired, "m-1")), ["join 'm-1' a owns[]"]);
}

#[test]
fn nothing_is_sent_before_the_coordinator_is_known_and_it_is_looked_for_once() {
    let mut rig = Rig::cooperative();
    assert_eq!(rig.subscribe(&["a"]), ["find"]);
    assert_eq!(rig.subscribe(&["a", "b"]), [""; 0]);
    assert_eq!(rig.input(ClassicGroup::coordinator_lost), [""; 0], "the search stands");
    assert_eq!(rig.known(), ["join '' a,b owns[]"]);
}

#[test]
fn the_request_carries_timeouts_protocol_type_and_protocols_in_order_of_preference() {
    let assignors = vec![Assignor::Sticky, Assignor::CooperativeSticky, Assignor::Range];
    let mut rig = Rig::new(GroupConfig { assignors, ..config() });
    rig.subscribe(&["a"]);
    rig.known();
    let Some(GroupRequest::Join(request)) = rig.request else { panic!("no JoinGroup") };
    assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (10_000, 60_000));
    assert_eq!((request.protocol_type.as_str(), request.group_id.as_str()), ("consumer", "g"));
    let offered: Vec<_> = request.protocols.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(offered, ["sticky", "cooperative-sticky", "range"]);
}

/// int32 milliseconds on the wire: what is longer must not wrap around.
#[test]
fn timeouts_that_do_not_fit_the_wire_are_clamped() {
    let long = Duration::from_secs(u64::MAX);
    let mut rig = Rig::new(GroupConfig { session_timeout: long, rebalance_timeout: long, ..config() });
    rig.subscribe(&["a"]);
    rig.known();
    let Some(GroupRequest::Join(request)) = rig.request else { panic!("no JoinGroup") };
    assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (i32::MAX, i32::MAX));
}

/// KIP-800.
#[test]
fn kip_800_the_reason_is_told_from_version_8_on() {
    for (join, told) in [(7, false), (8, true)] {
        let mut rig = Rig::cooperative();
        rig.subscribe(&["a"]);
        rig.input(|g, now| g.coordinator_known(now, GroupVersions { join, ..NEWEST }));
        let Some(GroupRequest::Join(request)) = rig.request else { panic!("no JoinGroup") };
        assert_eq!(request.reason.is_some(), told, "version {join}");
    }
}

/// KIP-881: the leader learns the rack from the subscription.
#[test]
fn kip_881_the_rack_is_told_in_the_subscription() {
    let backoff = (Duration::from_millis(100), Duration::from_millis(1000));
    let mut group = ClassicGroup::new(config(), Some("r1".to_owned()), backoff, Rng::new(1));
    group.subscribe(Timestamp::ZERO, names(&["a"]));
    group.coordinator_known(Timestamp::ZERO, NEWEST);
    let request = std::iter::from_fn(|| group.poll_action()).find_map(|action| match action {
        GroupAction::Send(GroupRequest::Join(request)) => Some(request),
        _ => None,
    });
    let request = request.unwrap();
    let metadata = &request.protocols.first().unwrap().metadata;
    assert_eq!(Subscription::decode(metadata).unwrap().rack_id.as_deref(), Some("r1"));
}

/// KIP-54, KIP-341: the eager sticky assignor learns from user data what the member had, although it has given
/// everything up before joining.
#[test]
fn kip_341_sticky_tells_the_former_assignment_in_its_user_data() {
    let mut rig = Rig::new(GroupConfig { assignors: vec![Assignor::Sticky], ..config() });
    rig.subscribe(&["a"]);
    rig.known();
    let sticky = || Some("sticky".to_owned());
    rig.join(JoinReply { protocol_name: sticky(), ..joined(4, "m", "other") });
    rig.sync(SyncReply { protocol_name: sticky(), ..synced(&[("a", 3)]) });
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.given_back(&[("a", 3)]);
    let Some(GroupRequest::Join(request)) = &rig.request else { panic!("no JoinGroup") };
    let told = Subscription::decode(&request.protocols.first().unwrap().metadata).unwrap();
    assert!(told.owned_partitions.is_empty());
    assert_eq!(told.user_data, Assignor::Sticky.subscription_user_data(&[("a".to_owned(), vec![3])], 4));
}

/// A commit between the answers to JoinGroup and SyncGroup would be refused with REBALANCE_IN_PROGRESS; while
/// JoinGroup is parked the present generation still commits.
#[test]
fn commits_wait_only_between_the_answers_to_join_and_sync() {
    let mut rig = Rig::cooperative();
    assert_eq!((rig.group.identity(), rig.group.may_commit()), (None, false));
    rig = rig.stable(&[("a", 0)]);
    let generation = |rig: &Rig| rig.group.identity().map(|i| i.generation_id);
    assert_eq!((generation(&rig), rig.group.may_commit()), (Some(1), true));
    assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress), ["join 'm' a,b g1 owns[a-0]"]);
    assert_eq!((generation(&rig), rig.group.may_commit()), (Some(1), true), "JoinGroup is parked");
    rig.join(joined(2, "m", "other"));
    assert_eq!((generation(&rig), rig.group.may_commit()), (Some(2), false));
    rig.sync(synced(&[("a", 0)]));
    assert_eq!((generation(&rig), rig.group.may_commit()), (Some(2), true));
}

/// Own subscription changes concern every member, not only the leader.
#[test]
fn a_changed_subscription_rejoins_and_the_same_one_does_not() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.subscribe(&["b", "a"]), [""; 0]);
    assert_eq!(rig.subscribe(&["a", "b", "c"]), ["join 'm' a,b,c g1 owns[a-0]"]);
}

#[test]
fn a_subscription_that_changes_while_joining_is_told_in_the_next_round() {
    let mut rig = Rig::cooperative().syncing(&["a"]);
    assert_eq!(rig.subscribe(&["a", "b"]), [""; 0]);
    assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]", "join 'm' a,b g1 owns[a-0]"]);
}

/// Assignment ⊆ subscription, else nothing of it is taken and the member rejoins.
#[test]
fn an_assignment_beyond_the_present_subscription_is_not_taken() {
    let mut rig = Rig::cooperative().syncing(&["a", "b"]);
    rig.subscribe(&["a"]);
    assert_eq!(rig.sync(synced(&[("a", 0), ("b", 0)])), ["join 'm' a g1 owns[]"]);
    assert_eq!(rig.owned(), [""; 0]);
}

#[test]
fn an_assignment_of_a_topic_never_asked_for_is_told_and_retried_slowly() {
    let mut rig = Rig::cooperative().syncing(&["a"]);
    assert_eq!(rig.sync(synced(&[("a", 0), ("evil", 0)])), ["report BrokerMisbehaved"]);
    assert!(rig.error.as_ref().unwrap().to_string().contains("\"evil\""));
    assert_eq!(rig.owned(), [""; 0]);
    assert_eq!(rig.wait(70), [""; 0]);
    assert_eq!(rig.wait(60), ["join 'm' a g1 owns[]"]);
}

/// An empty SyncGroup assignment: a member too many, which owns nothing.
#[test]
fn an_empty_assignment_owns_nothing() {
    let mut rig = Rig::cooperative().syncing(&["a"]);
    assert_eq!(rig.sync(SyncReply { assignment: Bytes::new(), ..synced(&[]) }), [""; 0]);
    assert_eq!((rig.state(), rig.owned()), (GroupState::Stable, Vec::new()));
}

/// No answer of a broker makes a hot loop: after some free rounds every join waits a backoff.
#[test]
fn endless_rounds_without_a_heartbeat_slow_down() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.known();
    let mut sent = 1;
    let began = rig.now;
    while rig.now.since(began) < Duration::from_secs(60) {
        let again = rig.join(join_error(ErrorCode::MemberIdRequired, "m"));
        let again = if again.is_empty() { rig.wait(1500) } else { again };
        assert_eq!(again.len(), 1, "{again:?}");
        sent += 1;
    }
    assert!((40..=110).contains(&sent), "{sent} JoinGroups in 60 s");
}

#[test]
fn a_good_heartbeat_makes_the_next_rounds_free_again() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    for generation in 2..50 {
        rig.next_beat(ErrorCode::None);
        assert_eq!(rig.next_beat(ErrorCode::RebalanceInProgress).len(), 1);
        rig.join(joined(generation, "m", "other"));
        rig.sync(synced(&[("a", 0)]));
    }
}

/// Replies of an older round change nothing: the member was unsubscribed meanwhile.
#[test]
fn an_answer_to_a_join_that_nobody_waits_for_is_dropped() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    assert_eq!(rig.subscribe(&[]), ["leave m"]);
    assert_eq!(rig.join(joined(1, "m", "m")), [""; 0]);
    assert_eq!(rig.state(), GroupState::Leaving);
    assert_eq!(rig.reply(Kind::Leave, Reply::Leave), ["left"]);
    assert_eq!(rig.state(), GroupState::Unsubscribed);
    assert_eq!(rig.subscribe(&["a"]), ["join '' a owns[]"]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_ignored() {
    for kind in [Kind::Join, Kind::Sync, Kind::Heartbeat, Kind::Probe, Kind::Leave] {
        let mut rig = Rig::cooperative().stable(&[("a", 0)]);
        assert_eq!(rig.input(|g, now| g.handle_response(now, kind, 0, &[0; 64])), [""; 0]);
        assert_eq!(rig.broken(kind), [""; 0]);
        assert_eq!(rig.state(), GroupState::Stable);
    }
}
