//! What members claim to own when they join, and what their leader makes of it.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Decodable;
use ottla_broker::{GroupInfo, GroupMember};
use ottla_core::TopicPartition;

use super::Oracle;

/// The assignor with which members keep what they have while they join.
const COOPERATIVE: &str = "cooperative-sticky";

fn claimed(metadata: &Bytes) -> Option<Vec<TopicPartition>> {
    let mut metadata = metadata.clone();
    let version = metadata.try_get_i16().ok()?;
    let subscription = ConsumerProtocolSubscription::decode(&mut metadata, version.min(3)).ok()?;
    let topics = subscription.owned_partitions.iter();
    let of = |topic: &str, partitions: &[i32]| -> Vec<TopicPartition> {
        partitions.iter().map(|p| TopicPartition::new(topic, *p)).collect()
    };
    Some(topics.flat_map(|t| of(t.topic.as_str(), &t.partitions)).collect())
}

impl Oracle {
    /// S7: what a member was given last, and still claimed when it joined, goes to nobody else before it has joined
    /// without it (KIP-429).
    pub(super) fn check_claims(&mut self, group: &GroupInfo, owners: &BTreeMap<TopicPartition, usize>) {
        if group.protocol.as_deref() != Some(COOPERATIVE) {
            return;
        }
        let number = |member: &GroupMember| member.client_id.strip_prefix('m')?.parse::<usize>().ok();
        for member in &group.members {
            let Some(id) = number(member) else { continue };
            let metadata = member.protocols.iter().find(|(name, _)| name == COOPERATIVE);
            let claims = metadata.and_then(|(_, metadata)| claimed(metadata)).unwrap_or_default();
            let taken = claims.into_iter().find_map(|tp| {
                let new = *owners.get(&tp).filter(|new| **new != id)?;
                (self.last_owners.get(&tp) == Some(&id)).then_some((tp, new))
            });
            if let Some((tp, new)) = taken {
                let generation = group.generation;
                let text =
                    format!("generation {generation} gives {tp} to m{new}, which m{id} had and still claims");
                return self.fail("S7", text);
            }
        }
    }
}
