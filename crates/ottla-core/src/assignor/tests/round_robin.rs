//! Round robin.

use super::support::{MemberExt, member, show, topics};
use crate::assignor::{Assignor, ClusterTopics, GroupMember};

fn assign(members: &[GroupMember], topics: &ClusterTopics) -> String {
    show(Assignor::RoundRobin.assign(members, topics).members())
}

#[test]
fn one_member() {
    assert_eq!(assign(&[member("c1", "")], &topics(&[("t1", 2)])), "");
    assert_eq!(assign(&[member("c1", "unknown")], &topics(&[("t1", 2)])), "");
    assert_eq!(assign(&[member("c1", "t1")], &topics(&[("t1", 2), ("other", 2)])), "c1: t1-0 t1-1");
    assert_eq!(assign(&[member("c1", "t1 t2")], &topics(&[("t1", 1), ("t2", 2)])), "c1: t1-0 t2-0 t2-1");
}

#[test]
fn two_members_one_topic() {
    let group = [member("c1", "t1"), member("c2", "t1")];
    assert_eq!(assign(&group, &topics(&[("t1", 1)])), "c1: t1-0");
    assert_eq!(assign(&group, &topics(&[("t1", 2)])), "c1: t1-0; c2: t1-1");
}

#[test]
fn members_that_are_not_subscribed_are_passed_over() {
    let group = [member("c1", "t1"), member("c2", "t1 t2"), member("c3", "t1")];
    assert_eq!(assign(&group, &topics(&[("t1", 3), ("t2", 2)])), "c1: t1-0; c2: t1-1 t2-0 t2-1; c3: t1-2");
}

#[test]
fn the_deal_goes_on_over_topics() {
    let cluster = topics(&[("t1", 3), ("t2", 3)]);
    let dealt = "c1: t1-0 t1-2 t2-1; c2: t1-1 t2-0 t2-2";
    assert_eq!(assign(&[member("c1", "t1 t2"), member("c2", "t1 t2")], &cluster), dealt);
    let fixed = [member("c1", "t1 t2").instance("a"), member("c2", "t1 t2").instance("b")];
    assert_eq!(assign(&fixed, &cluster), dealt);
    assert_eq!(assign(&[member("c1", "t1 t2").instance("z"), member("c2", "t1 t2")], &cluster), dealt);
}

#[test]
fn static_members_keep_theirs_when_member_ids_change_kip_345() {
    let cluster = topics(&[("t1", 5), ("t2", 5)]);
    for ids in [["x", "y", "z"], ["z", "x", "y"]] {
        let group: Vec<GroupMember> =
            (0..3).map(|i| member(ids[i], "t1 t2").instance(&format!("i{}", i + 1))).collect();
        let answer = Assignor::RoundRobin.assign(&group, &cluster);
        assert_eq!(answer.get(ids[0]), [("t1".to_owned(), vec![0, 3]), ("t2".to_owned(), vec![1, 4])]);
        assert_eq!(answer.get(ids[1]), [("t1".to_owned(), vec![1, 4]), ("t2".to_owned(), vec![2])]);
        assert_eq!(answer.get(ids[2]), [("t1".to_owned(), vec![2]), ("t2".to_owned(), vec![0, 3])]);
    }
}

#[test]
fn member_ids_go_by_utf_16_as_in_java() {
    // U+FF5E is one code unit, above the surrogates that U+1F425 takes; as UTF-8 it is below.
    let group = [member("\u{ff5e}", "t1"), member("\u{1f425}", "t1")];
    let answer = Assignor::RoundRobin.assign(&group, &topics(&[("t1", 1)]));
    assert_eq!(answer.get("\u{1f425}").len(), 1);
}
