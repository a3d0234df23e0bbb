//! Range.

use super::support::{MemberExt, member, show, topics};
use crate::assignor::{Assignor, ClusterTopics, GroupMember};

fn assign(members: &[GroupMember], topics: &ClusterTopics) -> String {
    show(Assignor::Range.assign(members, topics).members())
}

#[test]
fn one_member_without_topics_gets_nothing_and_is_in_the_answer() {
    let answer = Assignor::Range.assign(&[member("c1", "")], &topics(&[("t1", 3)]));
    assert_eq!(answer.members().len(), 1);
    assert_eq!(answer.get("c1"), []);
}

#[test]
fn topics_without_metadata_are_nobodys() {
    assert_eq!(assign(&[member("c1", "t1 t2")], &topics(&[("t2", 1)])), "c1: t2-0");
    assert_eq!(assign(&[member("c1", "t1")], &topics(&[])), "");
    assert_eq!(assign(&[member("c1", "t1")], &topics(&[("t1", 0)])), "");
}

#[test]
fn topics_that_nobody_wants_are_nobodys() {
    assert_eq!(assign(&[member("c1", "t1")], &topics(&[("t1", 3), ("other", 3)])), "c1: t1-0 t1-1 t1-2");
}

#[test]
fn one_member_gets_all_of_several_topics() {
    assert_eq!(assign(&[member("c1", "t2 t1")], &topics(&[("t1", 1), ("t2", 2)])), "c1: t1-0 t2-0 t2-1");
}

#[test]
fn more_members_than_partitions() {
    let group = [member("c1", "t1"), member("c2", "t1")];
    assert_eq!(assign(&group, &topics(&[("t1", 1)])), "c1: t1-0");
    assert_eq!(assign(&group, &topics(&[("t1", 2)])), "c1: t1-0; c2: t1-1");
}

#[test]
fn mixed_subscriptions() {
    let group = [member("c1", "t1"), member("c2", "t1 t2"), member("c3", "t1")];
    assert_eq!(assign(&group, &topics(&[("t1", 3), ("t2", 2)])), "c1: t1-0; c2: t1-1 t2-0 t2-1; c3: t1-2");
}

#[test]
fn the_first_members_get_the_extra_partitions_of_every_topic() {
    let group = [member("c1", "t1 t2"), member("c2", "t1 t2")];
    assert_eq!(assign(&group, &topics(&[("t1", 3), ("t2", 3)])), "c1: t1-0 t1-1 t2-0 t2-1; c2: t1-2 t2-2");
}

#[test]
fn static_members_go_by_instance_id_before_dynamic_ones_kip_345() {
    let group = [member("c1", "t1 t2").instance("b"), member("c2", "t1 t2").instance("a")];
    assert_eq!(assign(&group, &topics(&[("t1", 3), ("t2", 3)])), "c1: t1-2 t2-2; c2: t1-0 t1-1 t2-0 t2-1");
    let mixed = [member("c1", "t1 t2"), member("c2", "t1 t2").instance("z")];
    assert_eq!(assign(&mixed, &topics(&[("t1", 3), ("t2", 3)])), "c1: t1-2 t2-2; c2: t1-0 t1-1 t2-0 t2-1");
}

#[test]
fn static_members_keep_theirs_when_member_ids_change_kip_345() {
    let cluster = topics(&[("t1", 5), ("t2", 5)]);
    for ids in [["x", "y", "z"], ["z", "x", "y"], ["y", "z", "x"]] {
        let group: Vec<GroupMember> =
            (0..3).map(|i| member(ids[i], "t1 t2").instance(&format!("i{}", i + 1))).collect();
        let answer = Assignor::Range.assign(&group, &cluster);
        assert_eq!(answer.get(ids[0]), [("t1".to_owned(), vec![0, 1]), ("t2".to_owned(), vec![0, 1])]);
        assert_eq!(answer.get(ids[1]), [("t1".to_owned(), vec![2, 3]), ("t2".to_owned(), vec![2, 3])]);
        assert_eq!(answer.get(ids[2]), [("t1".to_owned(), vec![4]), ("t2".to_owned(), vec![4])]);
    }
}

#[test]
fn topics_named_twice_count_once() {
    let group = [member("c1", "t1 t1 t1"), member("c2", "t1")];
    assert_eq!(assign(&group, &topics(&[("t1", 2)])), "c1: t1-0; c2: t1-1");
}
