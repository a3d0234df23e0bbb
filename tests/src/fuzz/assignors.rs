//! Assignors, with members that say anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_core::assignor::{
    Assignor, ClusterTopics, GroupAssignment, GroupMember, PartitionInfo, TopicInfo, TopicPartitions,
};
use ottla_wire::consumer_protocol::Subscription;

use super::input::Input;

fn topics(input: &mut Input<'_>) -> ClusterTopics {
    let racks: Vec<Arc<str>> = (0..input.below(4)).map(|rack| Arc::from(format!("r{rack}"))).collect();
    (0..input.below(6))
        .map(|topic| {
            let partitions = (0..input.below(12)).map(|_| {
                let replicas = if racks.is_empty() { 0 } else { input.below(3) };
                PartitionInfo {
                    racks: (0..replicas).map(|_| racks[input.below(racks.len())].clone()).collect(),
                }
            });
            TopicInfo { name: format!("t{topic}"), partitions: partitions.collect() }
        })
        .collect()
}

fn claims(input: &mut Input<'_>) -> TopicPartitions {
    (0..input.below(5))
        .map(|_| (format!("t{}", input.below(7)), (0..input.below(8)).map(|_| input.number()).collect()))
        .collect()
}

fn member(input: &mut Input<'_>, assignor: Assignor, index: usize) -> GroupMember {
    let choices = input.byte();
    let instance = (choices & 1 == 1).then(|| format!("i{}", input.below(4)));
    // Now and then a member that was there already.
    let id = if choices & 2 == 2 && index > 0 { index - 1 } else { index };
    let id = format!("m{id}");
    if choices & 12 == 12 {
        // What a member really sends is bytes.
        let subscription = Subscription::decode(input.some()).unwrap_or_default();
        return GroupMember::new(id, instance, subscription);
    }
    let wanted = input.byte();
    let generation = input.number();
    let owned = claims(input);
    GroupMember {
        member_id: id,
        group_instance_id: instance,
        topics: (0..8).filter(|topic| wanted >> topic & 1 == 1).map(|topic| format!("t{topic}")).collect(),
        user_data: match choices >> 4 & 3 {
            0 => None,
            1 => Some(Bytes::copy_from_slice(input.some())),
            _ => assignor.subscription_user_data(&owned, generation),
        },
        owned_partitions: owned,
        generation_id: (choices & 64 == 64).then_some(generation),
        rack_id: (choices & 128 == 128).then(|| format!("r{}", input.below(4))),
    }
}

/// Where each partition goes, those withheld included.
fn targets(answer: &GroupAssignment) -> BTreeMap<(&str, i32), &str> {
    let mut targets = BTreeMap::new();
    for (member, topics) in answer.members().iter().chain(answer.withheld()) {
        for (topic, list) in topics {
            for number in list {
                let twice = targets.insert((topic.as_str(), *number), member.as_str());
                assert_eq!(twice, None, "{topic}-{number} goes twice");
            }
        }
    }
    targets
}

/// Every partition of every topic that somebody wants goes to exactly one member that wants it, and nothing else.
fn is_valid(answer: &GroupAssignment, members: &[&GroupMember], cluster: &ClusterTopics) {
    let ids: BTreeSet<&String> = members.iter().map(|member| &member.member_id).collect();
    assert!(answer.members().keys().eq(ids), "members missing");
    let targets = targets(answer);
    let mut expected = 0;
    for topic in cluster.iter() {
        let wants = |member: &&&GroupMember| member.topics.contains(&topic.name);
        let wanting: BTreeSet<&str> = members.iter().filter(wants).map(|m| m.member_id.as_str()).collect();
        for number in 0..topic.partitions.len() {
            let target = targets.get(&(topic.name.as_str(), number as i32)).copied();
            assert_eq!(target.is_some(), !wanting.is_empty(), "{}-{number} goes to {target:?}", topic.name);
            assert!(target.is_none_or(|t| wanting.contains(t)), "{target:?} does not want {}", topic.name);
            expected += usize::from(target.is_some());
        }
    }
    assert_eq!(targets.len(), expected, "something goes out that is not there");
}

/// The members after they got what they are to get, the withheld included, honestly told.
fn settled(assignor: Assignor, members: &[GroupMember], answer: &GroupAssignment) -> Vec<GroupMember> {
    let got = |member: &GroupMember| {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        let withheld = answer.withheld().get(&member.member_id).map_or(&[][..], Vec::as_slice);
        for (topic, list) in answer.get(&member.member_id).iter().chain(withheld) {
            topics.entry(topic).or_default().extend(list);
        }
        topics.into_iter().map(|(topic, list)| (topic.to_owned(), list)).collect::<TopicPartitions>()
    };
    let honest = |member: &GroupMember| {
        let owned = got(member);
        GroupMember {
            user_data: assignor.subscription_user_data(&owned, 8),
            owned_partitions: if assignor == Assignor::CooperativeSticky { owned } else { Vec::new() },
            generation_id: Some(8),
            ..member.clone()
        }
    };
    members.iter().map(honest).collect()
}

/// Any group: a valid answer that does not depend on the order of members; and with the sticky ones nothing moves
/// once everybody has what he is to have.
pub fn assign(data: &[u8]) {
    let mut input = Input(data);
    let assignor = Assignor::ALL[input.below(4)];
    let cluster = topics(&mut input);
    let count = input.below(14);
    let members: Vec<GroupMember> = (0..count).map(|index| member(&mut input, assignor, index)).collect();
    // Of several members with one id the first counts.
    let mut ids = BTreeSet::new();
    let first: Vec<&GroupMember> = members.iter().filter(|m| ids.insert(&m.member_id)).collect();
    let answer = assignor.assign(&members, &cluster);
    is_valid(&answer, &first, &cluster);
    for member in &members {
        let (previous, _) = assignor.previous_assignment(member);
        assert!(previous.len() <= data.len());
    }

    let unique: Vec<GroupMember> = first.into_iter().cloned().collect();
    let instances: BTreeSet<&String> = unique.iter().filter_map(|m| m.group_instance_id.as_ref()).collect();
    if instances.len() == unique.iter().filter(|m| m.group_instance_id.is_some()).count() {
        let mut reversed = unique.clone();
        reversed.reverse();
        assert_eq!(assignor.assign(&reversed, &cluster), answer, "the order of members matters");
    }
    // As in Kafka a partition is not kept by a member that is far from it (KIP-881), so racks may make moves.
    let racks = unique.iter().any(|member| member.rack_id.is_some());
    if !racks && matches!(assignor, Assignor::Sticky | Assignor::CooperativeSticky) {
        let settled = settled(assignor, &unique, &answer);
        let again = assignor.assign(&settled, &cluster);
        assert_eq!(targets(&again), targets(&answer), "partitions move without cause");
        assert!(again.withheld().is_empty());
    }
}
