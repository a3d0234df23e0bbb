//! The leader's part.

use super::*;

fn told(members: &[(&str, Bytes)]) -> Rig {
    let mut rig = Rig::cooperative().joining(&["a"]);
    let topics: BTreeSet<String> = members
        .iter()
        .flat_map(|(_, m)| Subscription::decode(m).map(|s| s.topics).unwrap_or_default())
        .collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    assert_eq!(rig.join(leading(1, "m", members)), [format!("want[{}]", topics.join(","))]);
    rig
}

#[test]
fn the_leader_asks_for_metadata_computes_and_sends_everybodys_assignment() {
    let mut rig = told(&[("m", subscription(&["a"])), ("n", subscription(&["a", "b"]))]);
    assert!(rig.group.is_leader());
    assert_eq!(rig.metadata(&[("a", 2)], &[]), [""; 0], "b is not known yet");
    assert_eq!(rig.metadata(&[("a", 2), ("b", 1)], &[]), ["compute cooperative-sticky for m,n"]);
    let synced = rig.computed();
    assert_eq!(synced.len(), 1);
    assert!(synced[0].starts_with("sync g1 m[m={a-") && synced[0].contains("b-0"), "{synced:?}");
}

#[test]
fn topics_that_do_not_exist_are_not_waited_for() {
    let mut rig = told(&[("m", subscription(&["a", "nowhere"]))]);
    assert_eq!(rig.metadata(&[("a", 1)], &["nowhere"]), ["compute cooperative-sticky for m"]);
    assert_eq!(rig.computed(), ["sync g1 m[m={a-0}]"]);
}

#[test]
fn a_computation_of_a_rebalance_that_is_over_is_dropped() {
    let mut rig = told(&[("m", subscription(&["a"]))]);
    rig.metadata(&[("a", 1)], &[]);
    let old = rig.job.take().unwrap();
    rig.wait(1000);
    rig.beat(ErrorCode::UnknownMemberId);
    rig.join(leading(2, "m2", &[("m2", subscription(&["a"]))]));
    rig.metadata(&[("a", 1)], &[]);
    let stale = old.run();
    assert_eq!(rig.input(|g, now| g.assignment_computed(now, old.id, &stale)), [""; 0]);
    assert_eq!(rig.computed(), ["sync g2 m2[m2={a-0}]"]);
}

#[test]
fn changed_topics_partitions_or_racks_make_the_leader_rejoin() {
    let mut rig = Rig::cooperative().leader();
    assert_eq!(rig.metadata(&[("a", 2), ("other", 7)], &[]), [""; 0]);
    assert_eq!(rig.metadata(&[("a", 3)], &[]), ["join 'm' a g1 owns[a-0 a-1]"]);

    let mut rig = Rig::cooperative().leader();
    assert_eq!(rig.metadata(&[], &["a"]), ["join 'm' a g1 owns[a-0 a-1]"], "deleted");

    let mut rig = leader_of_a_member_in(Some("r"), &[&["r"], &["s"]]);
    assert_eq!(racks(&mut rig, &[&["r"], &["t"]]), ["join 'm' a g1 owns[a-0 a-1]"], "moved");
}

/// A leader in generation 1, alone, that said where it is and computed from partitions with these racks.
fn leader_of_a_member_in(rack: Option<&str>, known: &[&[&str]]) -> Rig {
    let rack_id = rack.map(str::to_owned);
    let metadata = Subscription { topics: vec!["a".to_owned()], rack_id, ..Subscription::default() };
    let mut rig = told(&[("m", metadata.encode(3).unwrap())]);
    racks(&mut rig, known);
    rig.computed();
    rig.sync(synced(&[("a", 0), ("a", 1)]));
    assert_eq!(rig.state(), GroupState::Stable);
    rig
}

/// New metadata: topic "a" with a partition for each list of racks.
fn racks(rig: &mut Rig, partitions: &[&[&str]]) -> Vec<String> {
    let partition = |racks: &&[&str]| PartitionInfo { racks: racks.iter().map(|r| (*r).into()).collect() };
    let topic = TopicInfo { name: "a".to_owned(), partitions: partitions.iter().map(partition).collect() };
    let known: ClusterTopics = [topic].into_iter().collect();
    rig.input(|g, now| g.metadata_changed(now, &known, &BTreeSet::new()))
}

/// KIP-881 uses racks only where a member has said its own: in a cluster with racks whose consumers have none a moved
/// leader or a broker that restarts would otherwise cost a rebalance.
#[test]
fn kip_881_racks_are_no_news_to_a_group_in_which_nobody_has_one() {
    let mut rig = leader_of_a_member_in(None, &[&["r", "s"], &["s", "t"]]);
    for partitions in [[&["s", "r"][..], &["t", "s"]], [&["r"], &[]], [&["x"], &["y"]]] {
        assert_eq!(racks(&mut rig, &partitions), [""; 0], "{partitions:?}");
    }
}

/// The order of replicas changes with the preferred leader, and the rack of a broker that is down is not known.
#[test]
fn kip_881_replicas_in_another_order_or_offline_are_no_news() {
    let mut rig = leader_of_a_member_in(Some("r"), &[&["r", "s"], &["s", "t"]]);
    for partitions in
        [[&["s", "r"][..], &["t", "s"]], [&["r"], &["t"]], [&["s"], &[]], [&["r", "s"], &["s", "t"]]]
    {
        assert_eq!(racks(&mut rig, &partitions), [""; 0], "{partitions:?}");
    }
}

/// Metadata that say nothing of a topic are not news about it.
#[test]
fn metadata_without_the_groups_topics_change_nothing() {
    let mut rig = Rig::cooperative().leader();
    assert_eq!(rig.metadata(&[("other", 1)], &["another"]), [""; 0]);
}

#[test]
fn what_changes_while_the_leader_is_not_stable_is_looked_at_when_it_is() {
    let mut rig = told(&[("m", subscription(&["a"]))]);
    rig.metadata(&[("a", 1)], &[]);
    assert_eq!(rig.metadata(&[("a", 2)], &[]), [""; 0]);
    rig.computed();
    assert_eq!(rig.sync(synced(&[("a", 0)])), ["assign [a-0]", "join 'm' a g1 owns[a-0]"]);
}

#[test]
fn a_follower_does_not_rejoin_for_metadata() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    assert_eq!(rig.metadata(&[("a", 9)], &["b"]), [""; 0]);
}

#[test]
fn the_watch_ends_with_the_leadership() {
    let mut rig = Rig::cooperative().leader();
    rig.next_beat(ErrorCode::RebalanceInProgress);
    assert_eq!(rig.join(joined(2, "m", "other")), ["want[]", "sync g2 m[]"]);
    assert!(!rig.group.is_leader());
}

/// KIP-341 and others read it: what an assignment was computed from has to be complete.
#[test]
fn members_without_an_assignment_get_an_empty_one() {
    let mut rig = told(&[("m", subscription(&["a"])), ("n", subscription(&["a"]))]);
    rig.metadata(&[("a", 1)], &[]);
    let id = rig.job.take().unwrap().id;
    let nothing = GroupAssignment::default();
    let actions = rig.input(|g, now| g.assignment_computed(now, id, &nothing));
    assert_eq!(actions, ["sync g1 m[m={}, n={}]"]);
}
