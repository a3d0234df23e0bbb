//! Racks (KIP-881).

use std::sync::Arc;

use super::support::{MemberExt, STICKY, far, in_racks, member, sizes, targets};
use crate::assignor::claims::Claims;
use crate::assignor::group::Group;
use crate::assignor::racks::Racks;
use crate::assignor::{Assignor, ClusterTopics, GroupMember, PartitionInfo, TopicInfo, general};

const TOPICS: [(&str, usize); 3] = [("t1", 6), ("t2", 7), ("t3", 2)];

fn group(racks: [&str; 3]) -> Vec<GroupMember> {
    ["c1", "c2", "c3"].into_iter().zip(racks).map(|(id, rack)| member(id, "t1 t2 t3").rack(rack)).collect()
}

fn far_with(assignor: Assignor, group: &[GroupMember], cluster: &ClusterTopics) -> usize {
    far(&assignor.assign(group, cluster), group, cluster)
}

#[test]
fn sticky_with_equal_subscriptions_reads_nearby() {
    for assignor in STICKY {
        for replicas in 1..=3 {
            assert_eq!(far_with(assignor, &group(["a", "b", "c"]), &in_racks(&TOPICS, replicas, 3)), 0);
        }
    }
}

#[test]
fn sticky_with_differing_subscriptions_reads_nearby_where_that_is_possible() {
    let mut group = group(["a", "b", "c"]);
    for (member, topics) in group.iter_mut().zip(["t1 t2", "t1 t2 t3", "t2 t3"]) {
        member.topics = topics.split(' ').map(str::to_owned).collect();
    }
    for assignor in STICKY {
        assert!(far_with(assignor, &group, &in_racks(&TOPICS, 1, 3)) <= 4);
        for replicas in 2..=3 {
            assert_eq!(far_with(assignor, &group, &in_racks(&TOPICS, replicas, 3)), 0);
        }
    }
}

#[test]
fn racks_do_not_cost_balance() {
    for assignor in STICKY {
        for group in [group(["a", "a", "a"]), group(["a", "a", "z"]), group(["", "a", "b"])] {
            let answer = assignor.assign(&group, &in_racks(&TOPICS, 1, 3));
            assert!(sizes(&answer).into_values().all(|size| size == 5));
        }
    }
}

#[test]
fn racks_that_do_not_overlap_are_ignored() {
    let plain = group(["", "", ""]);
    let foreign = group(["x", "y", "z"]);
    for assignor in Assignor::ALL {
        let cluster = in_racks(&TOPICS, 2, 3);
        assert_eq!(
            targets(&assignor.assign(&foreign, &cluster)),
            targets(&assignor.assign(&plain, &cluster))
        );
    }
}

#[test]
fn racks_that_hold_everything_are_ignored() {
    for assignor in Assignor::ALL {
        let cluster = in_racks(&TOPICS, 3, 3);
        let answer = assignor.assign(&group(["c", "b", "a"]), &cluster);
        assert_eq!(targets(&answer), targets(&assignor.assign(&group(["", "", ""]), &cluster)));
    }
}

#[test]
fn range_reads_nearby() {
    assert_eq!(far_with(Assignor::Range, &group(["a", "b", "c"]), &in_racks(&TOPICS, 1, 3)), 0);
    assert_eq!(far_with(Assignor::Range, &group(["a", "b", "c"]), &in_racks(&TOPICS, 2, 3)), 1);
    assert_eq!(far_with(Assignor::Range, &group(["a", "b", "c"]), &in_racks(&TOPICS, 3, 3)), 0);
}

#[test]
fn range_keeps_topics_co_partitioned_whatever_the_racks() {
    let topics = [("t1", 6), ("t2", 6), ("t3", 6)];
    for replicas in 1..=3 {
        for racks in [["a", "b", "c"], ["c", "a", "b"], ["a", "a", "z"]] {
            let targets = targets(&Assignor::Range.assign(&group(racks), &in_racks(&topics, replicas, 3)));
            for number in 0..6 {
                let of = |topic: &str| &targets[&(topic.to_owned(), number)];
                assert!(of("t1") == of("t2") && of("t2") == of("t3"), "{targets:?}");
            }
        }
    }
}

#[test]
fn range_gives_members_a_partition_that_is_near_in_all_co_partitioned_topics() {
    // Six partitions each, so the second topic starts on the same broker as the first.
    let cluster = in_racks(&[("t1", 6), ("t2", 6)], 1, 3);
    let group: Vec<GroupMember> =
        [("c1", "c"), ("c2", "a"), ("c3", "b")].map(|(id, rack)| member(id, "t1 t2").rack(rack)).to_vec();
    let answer = Assignor::Range.assign(&group, &cluster);
    assert_eq!(far(&answer, &group, &cluster), 0);
    assert_eq!(answer.get("c1"), [("t1".to_owned(), vec![2, 5]), ("t2".to_owned(), vec![2, 5])]);
}

#[test]
fn metadata_with_countless_sets_of_racks_costs_the_racks_not_the_balance() {
    // Each partition in a set of racks of its own, as no cluster has it: 256 kinds for 16 seats.
    let racks: Vec<Arc<str>> = (0..8).map(|rack| Arc::from(format!("rack-{rack}"))).collect();
    let partition = |set: usize| PartitionInfo {
        racks: (0..8).filter(|rack| set >> rack & 1 == 1).map(|rack| racks[rack].clone()).collect(),
    };
    let cluster: ClusterTopics = [
        TopicInfo { name: "t".to_owned(), partitions: (0..256).map(partition).collect() },
        TopicInfo::new("u", 1),
    ]
    .into_iter()
    .collect();
    let members: Vec<GroupMember> = (0..16)
        .map(|i| member(&format!("m{i}"), if i == 0 { "t u" } else { "t" }).rack(&format!("rack-{}", i % 8)))
        .collect();
    let group = Group::new(&members, &cluster);
    let claims = Claims::of(Assignor::Sticky, &group);
    let racks = Racks::of(&group);
    for (limit, far_ones) in [(usize::MAX, 1..10), (100, 50..200)] {
        let targets = general::assign_within(limit, &group, &claims, racks.as_ref());
        let answer = group.assignment(&targets);
        assert!(sizes(&answer).into_values().all(|size| size == 16 || size == 17));
        assert!(far_ones.contains(&far(&answer, &members, &cluster)), "{}", far(&answer, &members, &cluster));
    }
}
