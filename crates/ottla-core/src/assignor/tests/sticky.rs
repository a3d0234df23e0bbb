//! Sticky and cooperative-sticky: who gets what, and who keeps what.

use super::support::{MemberExt, STICKY, member, settled, show, sizes, targets, topics};
use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember};

fn assign(assignor: Assignor, members: &[GroupMember], topics: &ClusterTopics) -> GroupAssignment {
    assignor.assign(members, topics)
}

/// Assigns until nothing is withheld, and returns the members with what they have then.
fn rebalance(
    assignor: Assignor,
    generation: &mut i32,
    members: &[GroupMember],
    cluster: &ClusterTopics,
) -> (Vec<GroupMember>, GroupAssignment) {
    let mut members = members.to_vec();
    loop {
        *generation += 1;
        assert!(*generation < 100, "never settles");
        let answer = assignor.assign(&members, cluster);
        members = settled(assignor, *generation, &members, &answer);
        if answer.withheld().is_empty() {
            return (members, answer);
        }
    }
}

/// Partitions that had an owner who is still there and have another one now.
fn moved(before: &GroupAssignment, after: &GroupAssignment) -> usize {
    let (before, after) = (targets(before), targets(after));
    let stays = |member: &String| after.values().any(|other| other == member);
    before.iter().filter(|(p, owner)| stays(owner) && after.get(*p).is_some_and(|now| now != *owner)).count()
}

#[test]
fn one_member() {
    for assignor in STICKY {
        let show =
            |topics_of: &str, cluster| show(assign(assignor, &[member("c1", topics_of)], &cluster).members());
        assert_eq!(show("", topics(&[("t1", 2)])), "");
        assert_eq!(show("unknown", topics(&[("t1", 2)])), "");
        assert_eq!(show("t1", topics(&[("t1", 2), ("other", 1)])), "c1: t1-0 t1-1");
        assert_eq!(show("t2 t1", topics(&[("t1", 1), ("t2", 2)])), "c1: t1-0 t2-0 t2-1");
    }
}

#[test]
fn no_members() {
    for assignor in Assignor::ALL {
        assert_eq!(assignor.assign(&[], &topics(&[("t1", 2)])), GroupAssignment::default());
    }
}

#[test]
fn partitions_of_topics_no_longer_subscribed_to_go_elsewhere() {
    for assignor in STICKY {
        let group = [member("c1", "t2").owns(assignor, 1, "t1-0 t1-1"), member("c2", "t1 t2")];
        let answer = assign(assignor, &group, &topics(&[("t1", 2), ("t2", 2)]));
        let targets = targets(&answer);
        assert!((0..2).all(|number| targets[&("t1".to_owned(), number)] == "c2"));
        assert!((0..2).all(|number| targets[&("t2".to_owned(), number)] == "c1"));
    }
}

#[test]
fn two_members_one_topic() {
    for assignor in STICKY {
        let group = [member("c1", "t1"), member("c2", "t1")];
        assert_eq!(show(assign(assignor, &group, &topics(&[("t1", 1)])).members()), "c1: t1-0");
        assert_eq!(show(assign(assignor, &group, &topics(&[("t1", 2)])).members()), "c1: t1-0; c2: t1-1");
    }
}

#[test]
fn mixed_subscriptions() {
    for assignor in STICKY {
        let group = [member("c1", "t1"), member("c2", "t1 t2"), member("c3", "t1")];
        let answer = assign(assignor, &group, &topics(&[("t1", 3), ("t2", 2)]));
        assert_eq!(sizes(&answer).into_values().collect::<Vec<_>>(), [2, 2, 1]);
        assert!(answer.get("c2").iter().any(|(topic, list)| topic == "t2" && list == &[0, 1]));
    }
}

#[test]
fn two_members_two_topics() {
    for assignor in STICKY {
        let group = [member("c1", "t1 t2"), member("c2", "t1 t2")];
        let answer = assign(assignor, &group, &topics(&[("t1", 3), ("t2", 3)]));
        assert_eq!(show(answer.members()), "c1: t1-0 t1-2 t2-1; c2: t1-1 t2-0 t2-2");
    }
}

#[test]
fn members_at_the_minimum_grow_to_the_maximum() {
    for assignor in STICKY {
        let group = [
            member("c1", "t1 t2").owns(assignor, 1, "t1-0 t2-1"),
            member("c2", "t1 t2").owns(assignor, 1, "t1-1 t2-2"),
        ];
        let answer = assign(assignor, &group, &topics(&[("t1", 2), ("t2", 3)]));
        assert_eq!(show(answer.members()), "c1: t1-0 t2-0 t2-1; c2: t1-1 t2-2");
        assert!(answer.withheld().is_empty());
    }
}

#[test]
fn too_many_members_at_the_maximum() {
    // Which of the two goes down to the minimum follows the order of Java's hash table.
    for assignor in STICKY {
        let group = [
            member("consumer1", "topic1 topic2").owns(assignor, 1, "topic1-0 topic2-0"),
            member("consumer2", "topic1 topic2").owns(assignor, 1, "topic1-1 topic2-1"),
            member("consumer3", "topic1 topic2"),
        ];
        let answer = assign(assignor, &group, &topics(&[("topic1", 2), ("topic2", 2)]));
        let kept = "consumer1: topic1-0; consumer2: topic1-1 topic2-1";
        if assignor == Assignor::Sticky {
            assert_eq!(show(answer.members()), format!("{kept}; consumer3: topic2-0"));
        } else {
            assert_eq!(show(answer.members()), kept);
            assert_eq!(show(answer.withheld()), "consumer3: topic2-0");
        }
    }
}

#[test]
fn all_members_below_the_minimum() {
    for assignor in STICKY {
        let group = [
            member("c1", "t1 t2").owns(assignor, 1, "t1-0"),
            member("c2", "t1 t2").owns(assignor, 1, "t1-1"),
            member("c3", "t1 t2"),
        ];
        let answer = assign(assignor, &group, &topics(&[("t1", 2), ("t2", 3)]));
        assert_eq!(show(answer.members()), "c1: t1-0 t2-1; c2: t1-1 t2-2; c3: t2-0");
        assert!(answer.withheld().is_empty());
    }
}

#[test]
fn join_halves_and_leave_returns_all() {
    for assignor in STICKY {
        let cluster = topics(&[("t1", 3)]);
        let mut generation = 0;
        let (alone, first) = rebalance(assignor, &mut generation, &[member("c1", "t1")], &cluster);
        let both = [alone[0].clone(), member("c2", "t1")];
        let (both, second) = rebalance(assignor, &mut generation, &both, &cluster);
        assert_eq!(sizes(&second).into_values().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(moved(&first, &second), 1);
        let (_, third) = rebalance(assignor, &mut generation, &both[1..], &cluster);
        assert_eq!(sizes(&third).into_values().collect::<Vec<_>>(), [3]);
        assert_eq!(moved(&second, &third), 0);
    }
}

#[test]
fn balance_per_topic_while_members_come_and_go() {
    for assignor in STICKY {
        let cluster = topics(&[("t1", 12), ("t2", 12)]);
        let mut generation = 0;
        let mut members = Vec::new();
        for count in [1usize, 2, 4, 2] {
            members.truncate(count);
            members.extend((members.len()..count).map(|i| member(&format!("c{i}"), "t1 t2")));
            let (settled, answer) = rebalance(assignor, &mut generation, &members, &cluster);
            members = settled;
            assert!(
                sizes(&answer).into_values().all(|size| size == 24 / count),
                "{}",
                show(answer.members())
            );
        }
    }
}

#[test]
fn a_topic_comes_and_goes() {
    for assignor in STICKY {
        let mut generation = 0;
        let group = [member("c1", "t1 t2"), member("c2", "t1 t2")];
        let (group, first) = rebalance(assignor, &mut generation, &group, &topics(&[("t1", 3)]));
        let (group, second) = rebalance(assignor, &mut generation, &group, &topics(&[("t1", 3), ("t2", 3)]));
        assert_eq!(sizes(&second).into_values().collect::<Vec<_>>(), [3, 3]);
        assert_eq!(moved(&first, &second), 0);
        let (group, third) = rebalance(assignor, &mut generation, &group, &topics(&[("t2", 3)]));
        assert!(targets(&third).keys().all(|(topic, _)| topic == "t2"));
        assert_eq!(moved(&second, &third), 0);
        let (_, none) = rebalance(assignor, &mut generation, &group, &topics(&[]));
        assert_eq!(show(none.members()), "");
    }
}

#[test]
fn nested_subscriptions_after_a_leave() {
    for assignor in STICKY {
        let names: Vec<String> = (1..20).map(|i| format!("t{i:02}")).collect();
        let cluster: Vec<(&str, usize)> = names.iter().zip(1..).map(|(name, i)| (name.as_str(), i)).collect();
        let cluster = topics(&cluster);
        let members: Vec<GroupMember> =
            (1..20).map(|i| member(&format!("c{i:02}"), &names[..i].join(" "))).collect();
        let mut generation = 0;
        let (mut members, before) = rebalance(assignor, &mut generation, &members, &cluster);
        members.remove(9);
        let (_, after) = rebalance(assignor, &mut generation, &members, &cluster);
        assert_eq!(targets(&after).len(), (1..20).sum());
        assert!(moved(&before, &after) <= 10, "{}", moved(&before, &after));
    }
}

#[test]
fn a_tenth_member_for_twenty_partitions() {
    for assignor in STICKY {
        let cluster = topics(&[("t", 20)]);
        let members: Vec<GroupMember> = (0..9).map(|i| member(&format!("c{i}"), "t")).collect();
        let mut generation = 0;
        let (mut members, before) = rebalance(assignor, &mut generation, &members, &cluster);
        members.push(member("c9", "t"));
        let (_, after) = rebalance(assignor, &mut generation, &members, &cluster);
        assert!(sizes(&after).into_values().all(|size| size == 2));
        assert_eq!(moved(&before, &after), 2);
    }
}

#[test]
fn subscriptions_grow() {
    for assignor in STICKY {
        let cluster = topics(&[("t1", 6), ("t2", 6), ("t3", 6)]);
        let mut generation = 0;
        let group = [member("c1", "t1"), member("c2", "t1 t2"), member("c3", "t1 t2 t3")];
        let (mut group, before) = rebalance(assignor, &mut generation, &group, &cluster);
        assert!(sizes(&before).into_values().all(|size| size == 6));
        group.iter_mut().for_each(|member| member.topics = ["t1", "t2", "t3"].map(str::to_owned).to_vec());
        let (_, after) = rebalance(assignor, &mut generation, &group, &cluster);
        assert_eq!(targets(&before), targets(&after));
    }
}

#[test]
fn the_quota_is_filled_without_a_move() {
    for assignor in STICKY {
        let group = [
            member("c1", "t").owns(assignor, 1, "t-0 t-1"),
            member("c2", "t").owns(assignor, 1, "t-2"),
            member("c3", "t"),
        ];
        let answer = assign(assignor, &group, &topics(&[("t", 4)]));
        assert_eq!(show(answer.members()), "c1: t-0 t-1; c2: t-2; c3: t-3");
    }
}

#[test]
fn survivors_keep_theirs_when_the_first_member_leaves() {
    for assignor in STICKY {
        let cluster = topics(&[("a", 3), ("b", 3), ("c", 3), ("d", 3)]);
        let members: Vec<GroupMember> = (1..5).map(|i| member(&format!("c{i}"), "a b c d")).collect();
        let mut generation = 0;
        let (members, before) = rebalance(assignor, &mut generation, &members, &cluster);
        let (_, after) = rebalance(assignor, &mut generation, &members[1..], &cluster);
        assert_eq!(moved(&before, &after), 0);
        assert!(sizes(&after).into_values().all(|size| size == 4));
    }
}
