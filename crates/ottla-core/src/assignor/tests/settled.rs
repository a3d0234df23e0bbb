//! Groups that live on: what was assigned stays, and cooperative groups come to rest.

use std::sync::Arc;

use super::support::{Random, STICKY, settled, targets};
use crate::assignor::{Assignor, ClusterTopics, GroupMember, PartitionInfo, TopicInfo};

fn group(random: &mut Random, racks: usize, equal: bool) -> (Vec<GroupMember>, ClusterTopics) {
    let racks: Vec<Arc<str>> = (0..racks).map(|rack| Arc::from(format!("rack-{rack}"))).collect();
    let cluster: ClusterTopics = (0..1 + random.below(5))
        .map(|topic| {
            let partitions = (0..1 + random.below(9)).map(|_| {
                let replicas = if racks.is_empty() { 0 } else { 1 + random.below(2) };
                PartitionInfo {
                    racks: (0..replicas).map(|_| racks[random.below(racks.len())].clone()).collect(),
                }
            });
            TopicInfo { name: format!("t{topic}"), partitions: partitions.collect() }
        })
        .collect();
    let members = (0..1 + random.below(9))
        .map(|index| GroupMember {
            member_id: format!("m{index}"),
            topics: cluster
                .iter()
                .filter(|_| equal || random.chance(60))
                .map(|topic| topic.name.clone())
                .collect(),
            rack_id: racks.get(random.below(racks.len() + 1)).map(ToString::to_string),
            ..GroupMember::default()
        })
        .collect();
    (members, cluster)
}

/// Lets members leave, join and change their minds, and checks after each change that the group comes to rest.
fn live(seed: u64, racks: usize, equal: bool) {
    let mut random = Random(seed);
    for assignor in STICKY {
        let (mut members, cluster) = group(&mut random, racks, equal);
        let mut generation = 0;
        for step in 0..6 {
            let mut rounds = 0;
            let rest = loop {
                generation += 1;
                rounds += 1;
                let answer = assignor.assign(&members, &cluster);
                members = settled(assignor, generation, &members, &answer);
                if answer.withheld().is_empty() {
                    break answer;
                }
                assert!(rounds < 4, "seed {seed} step {step}: still withholding {:?}", answer.withheld());
            };
            if racks == 0 {
                let again = assignor.assign(&members, &cluster);
                assert_eq!(targets(&again), targets(&rest), "seed {seed} step {step}: moves for no reason");
            }
            match random.below(3) {
                0 if members.len() > 1 => {
                    members.remove(random.below(members.len()));
                }
                1 if !equal => {
                    let index = random.below(members.len());
                    members[index].topics = cluster
                        .iter()
                        .filter(|_| random.chance(60))
                        .map(|topic| topic.name.clone())
                        .collect();
                }
                _ => {
                    let topics = members[0].topics.clone();
                    members.push(GroupMember {
                        member_id: format!("new-{step}"),
                        topics,
                        ..GroupMember::default()
                    });
                }
            }
        }
    }
}

#[test]
fn equal_subscriptions_come_to_rest() {
    (0..150).for_each(|seed| live(seed, 0, true));
}

#[test]
fn differing_subscriptions_come_to_rest() {
    (0..150).for_each(|seed| live(seed, 0, false));
}

#[test]
fn differing_subscriptions_with_racks_come_to_rest() {
    (0..150).for_each(|seed| live(seed, 3, false));
}

#[test]
fn equal_subscriptions_with_racks_come_to_rest() {
    (0..150).for_each(|seed| live(seed, 3, true));
}

#[test]
fn two_hundred_members_of_which_fifty_leave() {
    for assignor in STICKY {
        let mut random = Random(42);
        let cluster: ClusterTopics =
            (0..40).map(|topic| TopicInfo::new(format!("t{topic:02}"), 10)).collect();
        let mut members: Vec<GroupMember> = (0..200)
            .map(|index| GroupMember {
                member_id: format!("m{index:03}"),
                topics: (0..1 + random.below(20)).map(|_| format!("t{:02}", random.below(40))).collect(),
                ..GroupMember::default()
            })
            .collect();
        let before = assignor.assign(&members, &cluster);
        members = settled(assignor, 1, &members, &before);
        random.shuffle(&mut members);
        members.truncate(150);
        let after = targets(&assignor.assign(&members, &cluster));
        let stayed = |member: &String| members.iter().any(|m| m.member_id == *member);
        let moved = targets(&before)
            .iter()
            .filter(|(p, owner)| stayed(owner) && after.get(*p).is_none_or(|now| now != *owner))
            .count();
        assert!(moved <= 5, "{moved} moves of {}", assignor.name());
    }
}

#[test]
fn a_hundred_thousand_partitions_and_garbage_claims_are_no_matter() {
    let cluster: ClusterTopics = [TopicInfo::new("t", 100_000)].into_iter().collect();
    let all: Vec<i32> = (-10..100_010).collect();
    let members: Vec<GroupMember> = (0..3)
        .map(|index| GroupMember {
            member_id: format!("m{index}"),
            topics: vec!["t".to_owned()],
            owned_partitions: vec![("t".to_owned(), all.clone())],
            ..GroupMember::default()
        })
        .collect();
    for assignor in Assignor::ALL {
        assert_eq!(targets(&assignor.assign(&members, &cluster)).len(), 100_000);
    }
}
