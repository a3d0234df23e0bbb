//! Short ways to write groups down, and random ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use crate::assignor::{
    Assignor, ClusterTopics, GroupAssignment, GroupMember, PartitionInfo, TopicInfo, TopicPartitions,
};

pub(super) const STICKY: [Assignor; 2] = [Assignor::Sticky, Assignor::CooperativeSticky];

/// Topics with so many partitions.
pub(super) fn topics(topics: &[(&str, usize)]) -> ClusterTopics {
    topics.iter().map(|&(name, partitions)| TopicInfo::new(name, partitions)).collect()
}

/// Topics whose partition i has its replica j on broker i + j + (all partitions before its topic), of `racks`
/// brokers in as many racks a, b, c…
pub(super) fn in_racks(topics: &[(&str, usize)], replicas: usize, racks: usize) -> ClusterTopics {
    let names: Vec<Arc<str>> = ('a'..).take(racks).map(|name| Arc::from(name.to_string())).collect();
    let mut next: usize = 0;
    let topic = |&(name, partitions): &(&str, usize)| {
        let partition = |i: usize| PartitionInfo {
            racks: (0..replicas).map(|j| names[(i + j + next) % racks].clone()).collect(),
        };
        let topic = TopicInfo { name: name.to_owned(), partitions: (0..partitions).map(partition).collect() };
        next += partitions;
        topic
    };
    topics.iter().map(topic).collect()
}

/// A member that is subscribed to `topics` (names with spaces between).
pub(super) fn member(id: &str, topics: &str) -> GroupMember {
    let topics = topics.split_whitespace().map(str::to_owned).collect();
    GroupMember { member_id: id.to_owned(), topics, ..GroupMember::default() }
}

/// `t1-0 t1-2 t2-0` as topics with their partitions.
pub(super) fn partitions(text: &str) -> TopicPartitions {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, number) in text.split_whitespace().map(|name| name.rsplit_once('-').expect("topic-number")) {
        topics.entry(topic.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    topics.into_iter().collect()
}

pub(super) trait MemberExt {
    /// It says that it owns `partitions` since `generation`, in the way of `assignor`.
    fn owns(self, assignor: Assignor, generation: i32, partitions: &str) -> Self;
    fn instance(self, id: &str) -> Self;
    fn rack(self, name: &str) -> Self;
}

impl MemberExt for GroupMember {
    fn owns(self, assignor: Assignor, generation: i32, text: &str) -> Self {
        owning(self, assignor, generation, partitions(text))
    }

    fn instance(self, id: &str) -> Self {
        Self { group_instance_id: Some(id.to_owned()), ..self }
    }

    fn rack(self, name: &str) -> Self {
        Self { rack_id: Some(name.to_owned()), ..self }
    }
}

pub(super) fn owning(
    member: GroupMember,
    assignor: Assignor,
    generation: i32,
    owned: TopicPartitions,
) -> GroupMember {
    let user_data = assignor.subscription_user_data(&owned, generation);
    let owned_partitions = if assignor == Assignor::CooperativeSticky { owned } else { Vec::new() };
    GroupMember { generation_id: Some(generation), owned_partitions, user_data, ..member }
}

/// The members after they got `assignment` in `generation`.
pub(super) fn settled(
    assignor: Assignor,
    generation: i32,
    members: &[GroupMember],
    assignment: &GroupAssignment,
) -> Vec<GroupMember> {
    let got = |member: &GroupMember| assignment.get(&member.member_id).to_vec();
    members.iter().map(|member| owning(member.clone(), assignor, generation, got(member))).collect()
}

/// `c1: t1-0 t1-2; c2: t2-0`, without members that get nothing.
pub(super) fn show(members: &BTreeMap<String, TopicPartitions>) -> String {
    let mut out = String::new();
    for (member, topics) in members.iter().filter(|(_, topics)| !topics.is_empty()) {
        let separator = if out.is_empty() { "" } else { "; " };
        let _ = write!(out, "{separator}{member}:");
        for (topic, number) in
            topics.iter().flat_map(|(topic, list)| list.iter().map(move |number| (topic, number)))
        {
            let _ = write!(out, " {topic}-{number}");
        }
    }
    out
}

/// Where each partition goes, those withheld included. Fails when one goes twice.
pub(super) fn targets(assignment: &GroupAssignment) -> BTreeMap<(String, i32), String> {
    let mut targets = BTreeMap::new();
    for (member, topics) in assignment.members().iter().chain(assignment.withheld()) {
        for (topic, number) in
            topics.iter().flat_map(|(topic, list)| list.iter().map(move |&number| (topic, number)))
        {
            let twice = targets.insert((topic.clone(), number), member.clone());
            assert_eq!(twice, None, "{topic}-{number} goes twice");
        }
    }
    targets
}

/// How many partitions each member gets, those withheld included.
pub(super) fn sizes(assignment: &GroupAssignment) -> BTreeMap<String, usize> {
    let mut sizes: BTreeMap<String, usize> =
        assignment.members().keys().map(|member| (member.clone(), 0)).collect();
    targets(assignment).into_values().for_each(|member| *sizes.entry(member).or_default() += 1);
    sizes
}

/// Sum over all pairs of the difference of sizes.
pub(super) fn score(sizes: impl IntoIterator<Item = usize>) -> usize {
    let sizes: Vec<usize> = sizes.into_iter().collect();
    let pairs = sizes.iter().enumerate().flat_map(|(at, a)| sizes[at + 1..].iter().map(|b| a.abs_diff(*b)));
    pairs.sum()
}

/// How many partitions go to a member in a rack without a replica of them.
pub(super) fn far(assignment: &GroupAssignment, members: &[GroupMember], cluster: &ClusterTopics) -> usize {
    let is_far = |((topic, number), target): &((String, i32), String)| {
        let member = members.iter().find(|member| member.member_id == *target).expect("a member");
        let info = cluster.get(topic).expect("a topic");
        let replicas = &info.partitions[usize::try_from(*number).expect("a number")].racks;
        member.rack_id.as_ref().is_some_and(|rack| replicas.iter().all(|replica| **replica != **rack))
    };
    targets(assignment).into_iter().filter(is_far).count()
}

/// SplitMix64: a seed makes a sequence.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn int32(&mut self) -> i32 {
        self.next() as i32
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
