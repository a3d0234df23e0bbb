//! Claims of several generations and of several members (KIP-341, KIP-792, groups.md §5).

use super::support::{MemberExt, STICKY, member, show, sizes, targets, topics};
use crate::assignor::{Assignor, GroupMember};

#[test]
fn the_highest_generation_has_the_partition_in_whatever_order_members_come() {
    for assignor in STICKY {
        let claims = [("c1", 1, "t-0 t-1"), ("c2", 2, "t-1 t-2"), ("c3", 3, "t-2 t-0")];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let group = order.map(|i| member(claims[i].0, "t").owns(assignor, claims[i].1, claims[i].2));
            let answer = assignor.assign(&group, &topics(&[("t", 6)]));
            let targets = targets(&answer);
            assert_eq!(targets[&("t".to_owned(), 2)], "c3");
            assert_eq!(targets[&("t".to_owned(), 0)], "c3");
            assert_eq!(targets[&("t".to_owned(), 1)], "c2");
            assert!(sizes(&answer).into_values().all(|size| size == 2));
        }
    }
}

#[test]
fn old_claims_that_nobody_disputes_stand() {
    for assignor in STICKY {
        let group =
            [member("c1", "t").owns(assignor, 2, "t-0 t-1"), member("c2", "t").owns(assignor, 5, "t-2")];
        let answer = assignor.assign(&group, &topics(&[("t", 4)]));
        assert_eq!(show(answer.members()), "c1: t-0 t-1; c2: t-2 t-3");
    }
}

#[test]
fn a_claim_without_generation_is_older_than_any() {
    let old = GroupMember { generation_id: None, user_data: None, ..member("c1", "t") };
    let old = GroupMember { owned_partitions: vec![("t".to_owned(), vec![0, 1])], ..old };
    let new = member("c2", "t").owns(Assignor::CooperativeSticky, 0, "t-1");
    let answer = Assignor::CooperativeSticky.assign(&[old, new], &topics(&[("t", 2)]));
    assert_eq!(show(answer.members()), "c1: t-0; c2: t-1");
}

#[test]
fn a_double_claim_in_one_generation_is_nobodys_and_waits_kip_792() {
    let assignor = Assignor::CooperativeSticky;
    let group = [
        member("c1", "t").owns(assignor, 4, "t-0 t-1"),
        member("c2", "t").owns(assignor, 4, "t-0 t-2"),
        member("c3", "t"),
    ];
    let answer = assignor.assign(&group, &topics(&[("t", 3)]));
    assert_eq!(show(answer.members()), "c1: t-1; c2: t-2");
    assert_eq!(show(answer.withheld()), "c3: t-0");

    let eager = Assignor::Sticky;
    let group = [
        member("c1", "t").owns(eager, 4, "t-0 t-1"),
        member("c2", "t").owns(eager, 4, "t-0 t-2"),
        member("c3", "t"),
    ];
    assert_eq!(show(eager.assign(&group, &topics(&[("t", 3)])).members()), "c1: t-1; c2: t-2; c3: t-0");
}

#[test]
fn everybody_owns_everything() {
    for assignor in STICKY {
        let all = "t1-0 t1-1 t1-2 t2-0 t2-1 t2-2";
        let group = ["c1", "c2", "c3"].map(|id| member(id, "t1 t2").owns(assignor, 7, all));
        let answer = assignor.assign(&group, &topics(&[("t1", 3), ("t2", 3)]));
        assert!(sizes(&answer).into_values().all(|size| size == 2));
        if assignor == Assignor::CooperativeSticky {
            assert_eq!(show(answer.members()), "", "all of it has to be given up first");
        }
    }
}

#[test]
fn all_generations_differ_and_everybody_owns_everything() {
    for assignor in STICKY {
        let group: Vec<GroupMember> =
            (1..4).map(|i| member(&format!("c{i}"), "t").owns(assignor, i, "t-0 t-1 t-2")).collect();
        let answer = assignor.assign(&group, &topics(&[("t", 3)]));
        let kept = targets(&answer).into_values().filter(|owner| owner == "c3").count();
        assert_eq!(kept, 1);
        assert_eq!(answer.get("c3").len(), 1, "the believed owner goes on with what it keeps");
        if assignor == Assignor::CooperativeSticky {
            assert_eq!((answer.get("c1"), answer.get("c2")), (&[][..], &[][..]));
        }
    }
}

#[test]
fn old_subscriptions_carry_the_generation_in_the_user_data() {
    let assignor = Assignor::CooperativeSticky;
    let v1 = |id: &str, generation, owned| GroupMember {
        generation_id: None,
        ..member(id, "t").owns(assignor, generation, owned)
    };
    let group = [v1("c1", 3, "t-0 t-1"), v1("c2", 4, "t-1"), member("c3", "t").owns(assignor, 2, "t-0")];
    let answer = assignor.assign(&group, &topics(&[("t", 3)]));
    assert_eq!(show(answer.members()), "c1: t-0; c2: t-1; c3: t-2");
}

#[test]
fn absurd_generations_and_partitions_are_taken_for_what_they_are() {
    for assignor in STICKY {
        let group = [
            member("c1", "t").owns(assignor, i32::MIN, "t-0"),
            member("c2", "t").owns(assignor, i32::MAX, "t-0 t-2147483647"),
            GroupMember {
                owned_partitions: vec![
                    ("t".to_owned(), vec![-1, i32::MIN, 1, 1]),
                    ("gone".to_owned(), vec![0]),
                ],
                ..member("c3", "t")
            },
        ];
        let answer = assignor.assign(&group, &topics(&[("t", 3)]));
        assert_eq!(targets(&answer)[&("t".to_owned(), 0)], "c2");
        assert!(sizes(&answer).into_values().all(|size| size == 1));
    }
}

#[test]
fn a_member_that_is_listed_twice_counts_once() {
    for assignor in Assignor::ALL {
        let group = [member("c1", "t"), member("c1", "t u"), member("", "t")];
        let answer = assignor.assign(&group, &topics(&[("t", 4), ("u", 1)]));
        assert_eq!(sizes(&answer).into_values().collect::<Vec<_>>(), [2, 2]);
    }
}
