//! The bytes that members send one another through the coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::consumer_protocol::{Assignment, MAX_VERSION, Subscription};
use ottla_wire::{DecodeError, EncodeError};

use crate::TopicPartition;
use crate::assignor::GroupMember;

/// Partitions by topic, both in order.
pub(super) fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<(String, Vec<i32>)> {
    let mut topics: Vec<(String, Vec<i32>)> = Vec::new();
    for tp in partitions {
        match topics.last_mut() {
            Some((topic, numbers)) if topic == tp.topic() => numbers.push(tp.partition()),
            _ => topics.push((tp.topic().to_owned(), vec![tp.partition()])),
        }
    }
    topics
}

/// The partitions of `topics`; negative numbers are left out.
pub(super) fn partitions(topics: &[(String, Vec<i32>)]) -> BTreeSet<TopicPartition> {
    let mut set = BTreeSet::new();
    for (topic, numbers) in topics {
        let topic: Arc<str> = topic.as_str().into();
        set.extend(numbers.iter().filter(|n| **n >= 0).map(|n| TopicPartition::new(Arc::clone(&topic), *n)));
    }
    set
}

/// Whether a partition of `topics` has a negative number.
pub(super) fn has_negative(topics: &[(String, Vec<i32>)]) -> bool {
    topics.iter().flat_map(|(_, numbers)| numbers).any(|n| *n < 0)
}

/// What this member tells the leader. Newest version: whoever is older reads the part it knows.
pub(super) fn encode_subscription(
    topics: &BTreeSet<String>,
    user_data: Option<Bytes>,
    owned_partitions: &[(String, Vec<i32>)],
    generation: Option<i32>,
    rack: Option<&str>,
) -> Result<Bytes, EncodeError> {
    let subscription = Subscription {
        topics: topics.iter().cloned().collect(),
        user_data,
        owned_partitions: owned_partitions.to_vec(),
        generation_id: generation,
        rack_id: rack.map(str::to_owned),
    };
    subscription.encode(MAX_VERSION)
}

/// What another member told; its ids are not in there.
pub(super) fn decode_subscription(bytes: &[u8]) -> Result<GroupMember, DecodeError> {
    let subscription = Subscription::decode(bytes)?;
    Ok(GroupMember {
        topics: subscription.topics,
        owned_partitions: subscription.owned_partitions,
        generation_id: subscription.generation_id,
        rack_id: subscription.rack_id,
        user_data: subscription.user_data,
        ..GroupMember::default()
    })
}

/// What the leader gives a member.
pub(super) fn encode_assignment(partitions: &[(String, Vec<i32>)]) -> Bytes {
    let assignment = Assignment { partitions: partitions.to_vec(), user_data: None };
    // Only a topic name beyond 32,767 bytes cannot be said, and none such is in the metadata.
    assignment.encode(MAX_VERSION).unwrap_or_default()
}

/// What the leader gave this member. No bytes at all: nothing.
pub(super) fn decode_assignment(bytes: &[u8]) -> Result<Vec<(String, Vec<i32>)>, DecodeError> {
    if bytes.is_empty() { Ok(Vec::new()) } else { Ok(Assignment::decode(bytes)?.partitions) }
}
