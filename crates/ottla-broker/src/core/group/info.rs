//! A group as a test sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::blob::{Assigned, Subscription};
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
    /// Its session timeout; zero of a member of the consumer protocol, for which the broker sets it.
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
            let subscription = || Subscription::write(member.topics.iter());
            GroupMember {
                member_id: member.id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                protocols: member.classic.as_ref().map_or_else(
                    || vec![(consumer.assignor().to_owned(), subscription())],
                    |classic| classic.protocols.clone(),
                ),
                assignment: Assigned::write(0, &topics),
                is_leader: false,
                session_timeout: member.classic.as_ref().map_or(Duration::ZERO, |c| c.session_timeout),
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
        Assigned::read(self.assignment.clone()).map(|a| a.partitions).unwrap_or_default()
    }

    /// The subscribed topics, read as Kafka's consumer protocol from the metadata of the first protocol; empty when
    /// the bytes are something else.
    pub fn topics(&self) -> Vec<String> {
        let read = |(_, metadata): &(String, Bytes)| Subscription::read(metadata.clone());
        self.protocols.first().and_then(read).map(|s| s.topics.into_iter().collect()).unwrap_or_default()
    }
}
