//! What holds for any group, with members that say anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::support::{Random, sizes, targets};
use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember, PartitionInfo, TopicInfo};

fn cluster(random: &mut Random) -> ClusterTopics {
    let racks: Vec<Arc<str>> = (0..random.below(4)).map(|rack| Arc::from(format!("rack-{rack}"))).collect();
    (0..random.below(7))
        .map(|topic| {
            let partitions = (0..random.below(13)).map(|_| {
                let replicas = if racks.is_empty() { 0 } else { random.below(4) };
                PartitionInfo {
                    racks: (0..replicas).map(|_| racks[random.below(racks.len())].clone()).collect(),
                }
            });
            TopicInfo { name: format!("t{topic}"), partitions: partitions.collect() }
        })
        .collect()
}

fn claims(random: &mut Random) -> Vec<(String, Vec<i32>)> {
    let number = |random: &mut Random| match random.below(10) {
        0 => random.int32(),
        1 => -1,
        _ => random.below(14) as i32,
    };
    (0..random.below(8))
        .map(|_| (format!("t{}", random.below(9)), (0..random.below(8)).map(|_| number(random)).collect()))
        .collect()
}

fn hostile_member(random: &mut Random, assignor: Assignor, index: usize, common: &[String]) -> GroupMember {
    let generation = match random.below(6) {
        0 => random.int32(),
        1 => i32::MAX,
        2 => -1,
        _ => 5 + random.below(2) as i32,
    };
    let user_data = match random.below(5) {
        0 => None,
        1 => Some((0..random.below(40)).map(|_| random.below(256) as u8).collect::<Vec<u8>>().into()),
        2 => assignor
            .subscription_user_data(&claims(random), generation)
            .map(|bytes| bytes.slice(..random.below(bytes.len() + 1))),
        _ => assignor.subscription_user_data(&claims(random), generation),
    };
    let mut topics = common.to_vec();
    if random.chance(40) {
        topics = (0..random.below(10)).map(|_| format!("t{}", random.below(9))).collect();
    }
    GroupMember {
        member_id: format!("m{index}"),
        group_instance_id: random.chance(30).then(|| format!("i{}", random.below(5))),
        topics,
        owned_partitions: claims(random),
        generation_id: random.chance(70).then_some(generation),
        rack_id: random.chance(50).then(|| format!("rack-{}", random.below(5))),
        user_data: user_data.map(|bytes: Bytes| bytes),
    }
}

fn hostile_group(random: &mut Random, assignor: Assignor) -> Vec<GroupMember> {
    let common: Vec<String> = (0..random.below(8)).map(|_| format!("t{}", random.below(8))).collect();
    (0..random.below(13)).map(|index| hostile_member(random, assignor, index, &common)).collect()
}

/// Every partition of every topic that somebody wants goes to exactly one member that wants it; nothing else
/// goes to anybody; every member is in the answer.
fn assert_valid(answer: &GroupAssignment, members: &[GroupMember], cluster: &ClusterTopics) {
    let ids: BTreeSet<&String> = members.iter().map(|member| &member.member_id).collect();
    assert!(answer.members().keys().eq(ids), "members missing");
    let targets = targets(answer);
    let wanted: BTreeSet<&String> = members.iter().flat_map(|member| &member.topics).collect();
    let mut expected = 0;
    for topic in cluster.iter().filter(|topic| wanted.contains(&topic.name)) {
        for number in 0..topic.partitions.len() {
            let target =
                targets.get(&(topic.name.clone(), number as i32)).expect("every partition goes somewhere");
            let member = members.iter().find(|member| member.member_id == *target).expect("a member");
            assert!(member.topics.contains(&topic.name), "{target} does not want {}", topic.name);
            expected += 1;
        }
    }
    assert_eq!(targets.len(), expected, "something goes out that is not there");
    for topics in answer.members().values().chain(answer.withheld().values()) {
        assert!(topics.is_sorted_by(|a, b| a.0 < b.0), "topics are sorted");
        assert!(topics.iter().all(|(_, list)| !list.is_empty() && list.is_sorted()), "partitions are sorted");
    }
}

#[test]
fn every_partition_goes_to_exactly_one_subscribed_member_whatever_members_claim() {
    for seed in 0..600 {
        let mut random = Random(seed);
        let cluster = cluster(&mut random);
        for assignor in Assignor::ALL {
            let members = hostile_group(&mut random, assignor);
            let answer = assignor.assign(&members, &cluster);
            assert_valid(&answer, &members, &cluster);
            assert!(assignor == Assignor::CooperativeSticky || answer.withheld().is_empty());
        }
    }
}

#[test]
fn the_order_of_members_does_not_matter() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let cluster = cluster(&mut random);
        for assignor in Assignor::ALL {
            let mut members = hostile_group(&mut random, assignor);
            // Members with the same instance id cannot be told apart by it: a broker has fenced one of them.
            members.iter_mut().enumerate().for_each(|(index, member)| {
                member.group_instance_id = member.group_instance_id.take().map(|id| format!("{id}-{index}"));
            });
            let answer = assignor.assign(&members, &cluster);
            random.shuffle(&mut members);
            assert_eq!(assignor.assign(&members, &cluster), answer, "seed {seed}");
        }
    }
}

#[test]
fn equal_subscriptions_are_served_equally() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let cluster = cluster(&mut random);
        for assignor in [Assignor::Sticky, Assignor::CooperativeSticky] {
            let mut members = hostile_group(&mut random, assignor);
            let topics: Vec<String> = (0..7).map(|topic| format!("t{topic}")).collect();
            members.iter_mut().for_each(|member| member.topics.clone_from(&topics));
            let sizes = sizes(&assignor.assign(&members, &cluster));
            let (least, most) = (sizes.values().min(), sizes.values().max());
            assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "seed {seed}: {sizes:?}");
        }
    }
}

#[test]
fn cooperative_gives_nothing_to_a_new_owner_that_somebody_else_claims_kip_429() {
    let assignor = Assignor::CooperativeSticky;
    let mut withheld = 0;
    for seed in 0..600 {
        let mut random = Random(seed);
        let cluster = cluster(&mut random);
        let members = hostile_group(&mut random, assignor);
        let mut claimants: BTreeMap<(String, i32), BTreeMap<&str, i32>> = BTreeMap::new();
        for member in &members {
            let (owned, generation) = assignor.previous_assignment(member);
            let generation = generation.unwrap_or(-1).max(-1);
            for (topic, number) in
                owned.iter().flat_map(|(topic, list)| list.iter().map(move |number| (topic, number)))
            {
                claimants.entry((topic.clone(), *number)).or_default().insert(&member.member_id, generation);
            }
        }
        let answer = assignor.assign(&members, &cluster);
        withheld += answer.withheld().len();
        for (member, topics) in answer.members() {
            for (topic, number) in
                topics.iter().flat_map(|(topic, list)| list.iter().map(move |number| (topic, number)))
            {
                let Some(claims) = claimants.get(&(topic.clone(), *number)) else { continue };
                let believed = claims.values().max().filter(|&highest| {
                    claims.values().filter(|&generation| generation == highest).count() == 1
                        && claims.get(member.as_str()) == Some(highest)
                });
                assert!(believed.is_some(), "seed {seed}: {member} gets {topic}-{number} of {claims:?}");
            }
        }
    }
    assert!(withheld > 100, "the groups claim too little");
}
