//! A group as a test sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::consumer::{ConsumerGroup, ConsumerMember};
use super::{Group, GroupState};

/// A group, as the coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The state.
    pub state: GroupState,
    /// The generation; it grows with every finished rebalance. Of a consumer group (KIP-848), the group epoch.
    pub generation: i32,
    /// The chosen protocol (assignor).
    pub protocol: Option<String>,
    /// The node that coordinates it.
    pub coordinator: i32,
    /// The members, in the order of their ids.
    pub members: Vec<GroupMember>,
}

/// A member of a group, as the coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The member id.
    pub member_id: String,
    /// The group instance id (KIP-345).
    pub group_instance_id: Option<String>,
    /// The client id.
    pub client_id: String,
    /// The protocols (assignors) it offers with their metadata, in its order.
    pub protocols: Vec<(String, Bytes)>,
    /// Its assignment as the leader wrote it; empty until the group is stable.
    pub assignment: Bytes,
    /// Whether it leads the group.
    pub is_leader: bool,
    /// Its session timeout; zero in a consumer group, where the broker sets it.
    pub session_timeout: Duration,
    /// Its rebalance timeout.
    pub rebalance_timeout: Duration,
}

impl GroupInfo {
    pub(crate) fn of(group: &Group, name: impl Fn(&[u8; 16]) -> Option<String>) -> Self {
        if let Some(consumer) = group.consumer() {
            return Self::of_consumer(group, consumer, name);
        }
        let members = group
            .members
            .values()
            .map(|member| GroupMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                protocols: member.protocols.clone(),
                assignment: member.assignment.clone(),
                is_leader: group.is_leader(&member.id),
                session_timeout: member.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
            })
            .collect();
        Self {
            state: group.state,
            generation: group.generation,
            protocol: group.protocol_name.clone(),
            coordinator: group.coordinator,
            members,
        }
    }

    /// Assignments are written as Kafka's consumer protocol; what a member has to give up is not in them.
    fn of_consumer(
        group: &Group,
        consumer: &ConsumerGroup,
        name: impl Fn(&[u8; 16]) -> Option<String>,
    ) -> Self {
        let member = |member: &ConsumerMember| {
            let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for (id, partition) in member.assigned.keys() {
                if let Some(name) = name(id) {
                    topics.entry(name).or_default().push(*partition);
                }
            }
            GroupMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                protocols: vec![(consumer.assignor().to_owned(), subscription(member))],
                assignment: assignment(&topics),
                is_leader: false,
                session_timeout: Duration::ZERO,
                rebalance_timeout: member.rebalance_timeout,
            }
        };
        Self {
            state: group.state,
            generation: consumer.epoch,
            protocol: Some(consumer.assignor().to_owned()),
            coordinator: group.coordinator,
            members: consumer.members.values().map(member).collect(),
        }
    }

    /// Every assigned partition with the member it is assigned to, sorted.
    pub fn assigned(&self) -> Vec<(String, i32, String)> {
        let mut all: Vec<_> = self
            .members
            .iter()
            .flat_map(|m| m.partitions().into_iter().map(|(topic, p)| (topic, p, m.member_id.clone())))
            .collect();
        all.sort();
        all
    }
}

impl GroupMember {
    /// The assigned partitions, read as Kafka's consumer protocol; empty when the bytes are something else.
    pub fn partitions(&self) -> Vec<(String, i32)> {
        partitions(self.assignment.clone()).unwrap_or_default()
    }

    /// The subscribed topics, read as Kafka's consumer protocol from the metadata of the first protocol; empty when
    /// the bytes are something else.
    pub fn topics(&self) -> Vec<String> {
        self.protocols.first().and_then(|(_, metadata)| topics(metadata.clone())).unwrap_or_default()
    }
}

fn put_name(out: &mut BytesMut, name: &str) {
    out.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
    out.put_slice(name.as_bytes());
}

/// As [`partitions`] reads it.
fn assignment(topics: &BTreeMap<String, Vec<i32>>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for (name, partitions) in topics {
        put_name(&mut out, name);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|p| out.put_i32(*p));
    }
    out.put_i32(-1);
    out.freeze()
}

/// As [`topics`] reads it.
fn subscription(member: &ConsumerMember) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(member.topics.len() as i32);
    member.topics.iter().for_each(|name| put_name(&mut out, name));
    out.put_i32(-1);
    out.freeze()
}

/// ConsumerProtocolAssignment: version i16, then topics of name and partitions.
fn partitions(mut bytes: Bytes) -> Option<Vec<(String, i32)>> {
    bytes.try_get_i16().ok()?;
    let mut all = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = string(&mut bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            all.push((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(all)
}

/// ConsumerProtocolSubscription: version i16, then the names of topics.
fn topics(mut bytes: Bytes) -> Option<Vec<String>> {
    bytes.try_get_i16().ok()?;
    let mut all = Vec::new();
    for _ in 0..bytes.try_get_i32().ok()? {
        all.push(string(&mut bytes)?);
    }
    Some(all)
}

fn string(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_consumer_protocol_and_survives_garbage() {
        let assignment =
            [&[0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2][..], &[0, 0, 0, 3, 0, 0, 0, 4]].concat();
        let assignment = Bytes::from(assignment);
        assert_eq!(partitions(assignment.clone()).unwrap(), [("t".to_owned(), 3), ("t".to_owned(), 4)]);
        assert_eq!(topics(Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't'])).unwrap(), ["t"]);
        for length in 0..assignment.len() {
            assert_eq!(partitions(assignment.slice(..length)), None);
        }
        assert_eq!(topics(Bytes::from_static(&[0, 0, 127, 255, 255, 255, 0, 9])), None);
    }
}
