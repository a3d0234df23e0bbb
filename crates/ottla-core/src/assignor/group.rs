//! The group with numbers in place of names: all that follows works on flat arrays of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{ClusterTopics, GroupAssignment, GroupMember, TopicInfo, TopicPartitions};

/// Nobody, nothing, nowhere.
pub(super) const NONE: u32 = u32::MAX;

/// A member, topic, partition, rack… as a `u32`. There are never that many: each takes more than a byte.
pub(super) fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

/// Members are numbered by member id, topics by name, partitions one after the other through all topics.
pub(super) struct Group<'a> {
    pub(super) members: Vec<&'a GroupMember>,
    /// Topics that somebody is subscribed to and that have partitions.
    pub(super) topics: Vec<&'a TopicInfo>,
    /// First partition of each topic; at the end, the number of partitions.
    base: Vec<usize>,
    topic_of: Vec<u32>,
    /// The distinct subscriptions: topics, ascending.
    pub(super) subscriptions: Vec<Vec<u32>>,
    /// Which of them each member has.
    pub(super) subscription_of: Vec<u32>,
    /// All members name the very same topics, also those without metadata.
    pub(super) uniform: bool,
}

impl<'a> Group<'a> {
    pub(super) fn new(members: &'a [GroupMember], cluster: &'a ClusterTopics) -> Self {
        let mut members: Vec<&GroupMember> = members.iter().collect();
        members.sort_by(|a, b| java_order(&a.member_id, &b.member_id));
        members.dedup_by(|later, first| later.member_id == first.member_id);

        let known: Vec<&TopicInfo> = cluster.iter().filter(|topic| !topic.partitions.is_empty()).collect();
        let (mut subscriptions, subscription_of) = distinct_subscriptions(&members, &known);

        // Only what somebody wants gets a number.
        let mut number = vec![NONE; known.len()];
        subscriptions.iter().flatten().for_each(|&topic| number[topic as usize] = 0);
        let mut topics = Vec::new();
        for (topic, number) in known.into_iter().zip(&mut number).filter(|(_, number)| **number != NONE) {
            *number = id(topics.len());
            topics.push(topic);
        }
        subscriptions.iter_mut().flatten().for_each(|topic| *topic = number[*topic as usize]);

        let mut base = Vec::with_capacity(topics.len() + 1);
        let mut topic_of = Vec::new();
        for (index, topic) in topics.iter().enumerate() {
            base.push(topic_of.len());
            topic_of.resize(topic_of.len() + topic.partitions.len(), id(index));
        }
        base.push(topic_of.len());
        let uniform = subscriptions.len() <= 1;
        Self { members, topics, base, topic_of, subscriptions, subscription_of, uniform }
    }

    /// How many partitions there are in all topics.
    pub(super) fn partitions(&self) -> usize {
        self.topic_of.len()
    }

    /// The partitions of `topic`.
    pub(super) fn partitions_of(&self, topic: usize) -> std::ops::Range<usize> {
        self.base[topic]..self.base[topic + 1]
    }

    /// The topic that `partition` is of.
    pub(super) fn topic_of(&self, partition: usize) -> usize {
        self.topic_of[partition] as usize
    }

    /// The number of `partition` in its topic.
    pub(super) fn number_of(&self, partition: usize) -> usize {
        partition - self.base[self.topic_of(partition)]
    }

    /// The partition that a claim speaks of.
    pub(super) fn partition(&self, topic: usize, number: i32) -> Option<usize> {
        let number = usize::try_from(number).ok()?;
        (number < self.topics[topic].partitions.len()).then(|| self.base[topic] + number)
    }

    /// The members in the order of range and roundrobin: static ones by instance id, then dynamic ones by
    /// member id (KIP-345).
    pub(super) fn static_first(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..id(self.members.len())).collect();
        order.sort_by(|&a, &b| {
            let instance = |member: u32| self.members[member as usize].group_instance_id.as_deref();
            match (instance(a), instance(b)) {
                (Some(a), Some(b)) => java_order(a, b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            }
        });
        order
    }

    /// The subscribers of every topic, in the given `order` of members.
    pub(super) fn subscribers(&self, order: &[u32]) -> Rows {
        let pairs = || {
            order.iter().flat_map(|&member| {
                let subscription = self.subscription_of[member as usize] as usize;
                self.subscriptions[subscription].iter().map(move |&topic| (topic, member))
            })
        };
        Rows::new(self.topics.len(), pairs)
    }

    /// The names back: `targets` says which member gets each partition.
    pub(super) fn assignment(&self, targets: &[u32]) -> GroupAssignment {
        let mut lists: Vec<TopicPartitions> = vec![Vec::new(); self.members.len()];
        let mut newest = vec![NONE; self.members.len()];
        for (index, topic) in self.topics.iter().enumerate() {
            for (number, &member) in targets[self.partitions_of(index)].iter().enumerate() {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                let Some(list) = lists.get_mut(member as usize) else { continue };
                if newest[member as usize] == id(index)
                    && let Some((_, partitions)) = list.last_mut()
                {
                    partitions.push(number);
                } else {
                    newest[member as usize] = id(index);
                    list.push((topic.name.clone(), vec![number]));
                }
            }
        }
        let members = self.members.iter().map(|member| member.member_id.clone()).zip(lists).collect();
        GroupAssignment { members, ..GroupAssignment::default() }
    }
}

/// The distinct subscriptions as indices into `known`, and which of them each member has. Subscriptions that
/// differ only in topics without metadata are kept apart.
fn distinct_subscriptions(members: &[&GroupMember], known: &[&TopicInfo]) -> (Vec<Vec<u32>>, Vec<u32>) {
    let names: Vec<&str> = known.iter().map(|topic| topic.name.as_str()).collect();
    let mut lists: BTreeMap<&[String], u32> = BTreeMap::new();
    let mut sets: BTreeMap<(Vec<u32>, Vec<&str>), u32> = BTreeMap::new();
    let mut subscriptions = Vec::new();
    let mut subscription_of = Vec::with_capacity(members.len());
    for member in members {
        // Members of one application send the same list; resolving it once is enough.
        let subscription = *lists.entry(&member.topics).or_insert_with_key(|list| {
            let (mut topics, mut unknown) = (Vec::with_capacity(list.len()), Vec::new());
            let mut hint = 0;
            for name in *list {
                match find(&names, name, &mut hint) {
                    Some(topic) => topics.push(id(topic)),
                    None => unknown.push(name.as_str()),
                }
            }
            topics.sort_unstable();
            topics.dedup();
            unknown.sort_unstable();
            unknown.dedup();
            let next = id(subscriptions.len());
            *sets.entry((topics, unknown)).or_insert_with_key(|(topics, _)| {
                subscriptions.push(topics.clone());
                next
            })
        });
        subscription_of.push(subscription);
    }
    (subscriptions, subscription_of)
}

/// Where `name` is in the sorted `names`. Lists of names are mostly sorted, so the search starts at `hint`, where
/// the last one was found, and takes bigger and bigger steps.
pub(super) fn find(names: &[&str], name: &str, hint: &mut usize) -> Option<usize> {
    let (mut low, mut high) = (0, names.len());
    if names.get(*hint).is_some_and(|&at| at <= name) {
        low = *hint;
        let mut step = 1;
        while let Some(&at) = names.get(low + step) {
            if at > name {
                high = low + step;
                break;
            }
            low += step;
            step *= 2;
        }
    } else {
        high = high.min(*hint);
    }
    let found = low + names[low..high].binary_search(&name).ok()?;
    *hint = found;
    Some(found)
}

/// Java compares strings by UTF-16 code units. That differs from the order of bytes beyond the basic plane.
pub(super) fn java_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Lists of numbers for each of a range of numbers, in one array.
pub(super) struct Rows {
    start: Vec<usize>,
    items: Vec<u32>,
}

impl Rows {
    /// The rows with the items of `pairs` of (row, item), which is called twice; items keep their order.
    pub(super) fn new<I: Iterator<Item = (u32, u32)>>(rows: usize, pairs: impl Fn() -> I) -> Self {
        let mut start = vec![0; rows + 1];
        pairs().for_each(|(row, _)| start[row as usize + 1] += 1);
        for row in 0..rows {
            start[row + 1] += start[row];
        }
        let mut next = start.clone();
        let mut items = vec![0; start[rows]];
        for (row, item) in pairs() {
            items[next[row as usize]] = item;
            next[row as usize] += 1;
        }
        Self { start, items }
    }

    pub(super) fn row(&self, row: usize) -> &[u32] {
        &self.items[self.start[row]..self.start[row + 1]]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [u32] {
        &mut self.items[self.start[row]..self.start[row + 1]]
    }
}
