//! The cooperative step (KIP-429): nothing goes to a new owner while the old one still claims it.

use super::support::{MemberExt, member, settled, show, topics};
use crate::assignor::Assignor::CooperativeSticky as COOPERATIVE;

#[test]
fn what_changes_hands_is_withheld_for_a_round() {
    let cluster = topics(&[("t", 4)]);
    let group = [member("c1", "t").owns(COOPERATIVE, 1, "t-0 t-1 t-2 t-3"), member("c2", "t")];
    let first = COOPERATIVE.assign(&group, &cluster);
    assert_eq!(show(first.members()), "c1: t-0 t-1");
    assert_eq!(show(first.withheld()), "c2: t-2 t-3");
    let second = COOPERATIVE.assign(&settled(COOPERATIVE, 2, &group, &first), &cluster);
    assert_eq!(show(second.members()), "c1: t-0 t-1; c2: t-2 t-3");
    assert!(second.withheld().is_empty());
}

#[test]
fn what_had_no_owner_is_given_at_once() {
    let group = [member("c1", "t").owns(COOPERATIVE, 1, "t-0 t-1"), member("c2", "t")];
    let answer = COOPERATIVE.assign(&group, &topics(&[("t", 4)]));
    assert_eq!(show(answer.members()), "c1: t-0 t-1; c2: t-2 t-3");
}

#[test]
fn two_to_four_members_with_three_and_four_partitions() {
    let cluster = topics(&[("t1", 3), ("t2", 4)]);
    let group = [
        member("c1", "t1 t2").owns(COOPERATIVE, 1, "t1-0 t1-2 t2-1 t2-3"),
        member("c2", "t1 t2").owns(COOPERATIVE, 1, "t1-1 t2-0 t2-2"),
        member("c3", "t1 t2"),
        member("c4", "t1 t2"),
    ];
    let answer = COOPERATIVE.assign(&group, &cluster);
    assert_eq!(show(answer.members()), "c1: t1-0 t2-1; c2: t1-1 t2-0");
    assert_eq!(show(answer.withheld()), "c3: t1-2 t2-3; c4: t2-2");
}

#[test]
fn a_stale_claim_does_not_keep_the_owner_from_going_on() {
    let group =
        [member("c1", "t").owns(COOPERATIVE, 5, "t-0"), member("c2", "t").owns(COOPERATIVE, 4, "t-0 t-1")];
    let answer = COOPERATIVE.assign(&group, &topics(&[("t", 2)]));
    assert_eq!(show(answer.members()), "c1: t-0; c2: t-1");
}

#[test]
fn who_unsubscribed_still_has_to_give_up_first() {
    // c2 had t-0 last, c1 says so too but of an older generation: c1 must not go on with it yet.
    let group =
        [member("c1", "t").owns(COOPERATIVE, 1, "t-0"), member("c2", "u").owns(COOPERATIVE, 2, "t-0")];
    let answer = COOPERATIVE.assign(&group, &topics(&[("t", 1), ("u", 1)]));
    assert_eq!(show(answer.members()), "c2: u-0");
    assert_eq!(show(answer.withheld()), "c1: t-0");
}

#[test]
fn differing_subscriptions_withhold_too() {
    let group = [member("c1", "t u").owns(COOPERATIVE, 1, "t-0 t-1 t-2 u-0 u-1"), member("c2", "t")];
    let answer = COOPERATIVE.assign(&group, &topics(&[("t", 3), ("u", 2)]));
    assert_eq!(show(answer.members()), "c1: t-0 u-0 u-1");
    assert_eq!(show(answer.withheld()), "c2: t-1 t-2");
}
