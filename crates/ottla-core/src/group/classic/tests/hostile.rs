//! Answers and members that break the protocol: no panic, no loop, a typed error.

use super::*;

fn garbage() -> Bytes {
    Bytes::from_static(&[0, 3, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3])
}

fn leads(members: &[(&str, Bytes)]) -> (Rig, Vec<String>) {
    let mut rig = Rig::cooperative().joining(&["a"]);
    let actions = rig.join(leading(1, "m", members));
    (rig, actions)
}

#[test]
fn a_member_listed_twice_counts_once() {
    let (mut rig, _) =
        leads(&[("m", subscription(&["a"])), ("n", subscription(&["a"])), ("n", subscription(&["zzz"]))]);
    assert_eq!(rig.metadata(&[("a", 2)], &[]), ["compute cooperative-sticky for m,n"]);
    rig.computed();
    let Some(GroupRequest::Sync(request)) = &rig.request else { panic!("no SyncGroup") };
    assert_eq!(request.assignments.len(), 2);
}

#[test]
fn a_member_without_an_id_does_not_count() {
    let (mut rig, _) = leads(&[("", subscription(&["a"])), ("m", subscription(&["a"]))]);
    assert_eq!(rig.metadata(&[("a", 1)], &[]), ["compute cooperative-sticky for m"]);
    assert_eq!(rig.computed(), ["sync g1 m[m={a-0}]"]);
}

/// Garbage metadata of another member must not stop the leader; that member is assigned nothing.
#[test]
fn garbage_metadata_of_another_member_costs_only_that_member() {
    for metadata in [garbage(), Bytes::new(), Bytes::from_static(&[0xff, 0xff])] {
        let (mut rig, actions) = leads(&[("m", subscription(&["a"])), ("n", metadata)]);
        assert_eq!(actions, ["want[a]"]);
        rig.metadata(&[("a", 1)], &[]);
        assert_eq!(rig.computed(), ["sync g1 m[m={a-0}, n={}]"]);
    }
}

#[test]
fn negative_unknown_and_absurd_claims_of_another_member_do_no_harm() {
    let claims = Subscription {
        topics: vec!["a".to_owned(), "a".to_owned()],
        owned_partitions: vec![
            ("a".to_owned(), vec![-1, i32::MIN, i32::MAX, 0, 0, 7]),
            ("nowhere".to_owned(), vec![0]),
        ],
        generation_id: Some(i32::MAX),
        ..Subscription::default()
    };
    let (mut rig, _) = leads(&[("m", subscription(&["a"])), ("n", claims.encode(3).unwrap())]);
    rig.metadata(&[("a", 2)], &[]);
    let job = rig.job.clone().unwrap();
    let assignment = job.run();
    let given: usize = assignment.members().values().flatten().map(|(_, p)| p.len()).sum();
    let withheld: usize = assignment.withheld().values().flatten().map(|(_, p)| p.len()).sum();
    assert_eq!(given + withheld, 2);
    assert_eq!(rig.computed().len(), 1);
}

/// Names that no broker would have are not even asked for.
#[test]
fn topics_that_cannot_exist_are_not_asked_for() {
    let long = "x".repeat(250);
    let names = ["", ".", "..", "a b", "ä", long.as_str(), "a"];
    let (_, actions) = leads(&[("m", subscription(&["a"])), ("n", subscription(&names))]);
    assert_eq!(actions, ["want[a]"]);
}

/// Told once in a row, tried again with a backoff, and cured by an honest answer.
fn told_once(mut rig: Rig, mut answer: impl FnMut(&mut Rig) -> Vec<String>) {
    assert_eq!(answer(&mut rig), ["report BrokerMisbehaved"]);
    for _ in 0..5 {
        let again = rig.wait(1500);
        assert_eq!(again.iter().filter(|a| a.starts_with("join")).count(), 1, "{again:?}");
        if answer(&mut rig) == ["sync g1 m[]"] {
            answer(&mut rig);
        }
    }
    assert_eq!(rig.state(), GroupState::Unjoined);
}

/// It would assign nothing to itself, and nobody would know why nothing comes.
#[test]
fn a_leader_that_is_not_among_the_members_or_cannot_read_what_it_said_is_told() {
    let members: [&[(&str, Bytes)]; 4] = [
        &[],
        &[("n", subscription(&["a"]))],
        &[("m", garbage()), ("n", subscription(&["a"]))],
        &[("n", subscription(&["a"])), ("m", Bytes::new())],
    ];
    for members in members {
        told_once(Rig::cooperative().joining(&["a"]), |rig| rig.join(leading(1, "m", members)));
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_refused() {
    for name in [Some("range"), Some(""), Some("\u{0}"), None] {
        told_once(Rig::cooperative().joining(&["a"]), |rig| {
            rig.join(JoinReply { protocol_name: name.map(str::to_owned), ..joined(1, "m", "m") })
        });
    }
}

#[test]
fn a_protocol_type_other_than_consumer_is_inconsistent() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    let reply = JoinReply { protocol_type: Some("connect".to_owned()), ..joined(1, "m", "m") };
    assert_eq!(rig.join(reply), ["fail Config"]);
}

#[test]
fn a_negative_generation_is_refused() {
    told_once(Rig::cooperative().joining(&["a"]), |rig| rig.join(joined(-1, "m", "m")));
}

#[test]
fn an_empty_member_id_is_refused() {
    told_once(Rig::cooperative().joining(&["a"]), |rig| rig.join(joined(1, "", "")));
    told_once(Rig::cooperative().joining(&["a"]), |rig| {
        rig.join(join_error(ErrorCode::MemberIdRequired, ""))
    });
}

#[test]
fn an_assignment_that_cannot_be_read_is_told_and_joined_again() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.next_beat(ErrorCode::RebalanceInProgress);
    rig.join(joined(2, "m", "other"));
    let reply = SyncReply { assignment: garbage(), ..synced(&[]) };
    assert_eq!(rig.sync(reply), ["report BrokerMisbehaved"]);
    assert!(std::error::Error::source(&rig.error.clone().unwrap()).is_some());
    assert_eq!(rig.wait(130), ["join 'm' a,b g2 owns[a-0]"], "what was owned is still owned");
}

#[test]
fn negative_partitions_in_an_assignment_are_left_out_and_told() {
    let mut rig = Rig::cooperative().syncing(&["a"]);
    let assignment = blob::encode_assignment(&[("a".to_owned(), vec![-1, 0, i32::MIN, 0])]);
    assert_eq!(
        rig.sync(SyncReply { assignment, ..synced(&[]) }),
        ["report BrokerMisbehaved", "assign [a-0]"]
    );
}

/// A broker that answers every heartbeat with REBALANCE_IN_PROGRESS and lets everybody in: paced by heartbeats.
#[test]
fn a_broker_that_always_rebalances_is_not_a_hot_loop() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    let began = rig.now;
    let mut joins = 0;
    for generation in 2..100 {
        let mut actions = rig.wait(1000);
        if actions.iter().any(|a| a.starts_with("heartbeat")) {
            actions.extend(rig.beat(ErrorCode::RebalanceInProgress));
        }
        if !actions.iter().any(|a| a.starts_with("join")) {
            actions.extend(rig.wait(1300));
        }
        joins += actions.iter().filter(|a| a.starts_with("join")).count();
        rig.join(joined(generation, "m", "other"));
        rig.sync(synced(&[("a", 0)]));
    }
    let seconds = rig.now.since(began).as_secs() as usize;
    assert!(joins > 10 && joins <= seconds, "{joins} in {seconds} s");
}

/// A coordinator that denies being one, found again at once, for ever.
#[test]
fn a_coordinator_that_denies_being_one_is_not_a_hot_loop() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.known();
    let (began, mut joins) = (rig.now, 1);
    while rig.now.since(began) < Duration::from_secs(60) {
        rig.join(join_error(ErrorCode::NotCoordinator, ""));
        rig.known();
        joins += rig.wait(1300).len();
    }
    assert!(joins < 100, "{joins} JoinGroups in 60 s");
}
