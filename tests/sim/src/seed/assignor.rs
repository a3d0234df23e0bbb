//! An assignor of the users' own.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use bytes::Bytes;
use ottla_core::assignor::{
    ClusterTopics, GroupMember, PartitionAssignor, RebalanceProtocol, TopicPartitions,
};

/// Each partition goes to whoever subscribes to it and has least.
#[derive(Debug)]
pub(super) struct Dealt {
    pub(super) cooperative: bool,
}

impl PartitionAssignor for Dealt {
    fn name(&self) -> &str {
        "dealt"
    }

    fn protocol(&self) -> RebalanceProtocol {
        if self.cooperative { RebalanceProtocol::Cooperative } else { RebalanceProtocol::Eager }
    }

    fn subscription_user_data(&self, topics: &BTreeSet<String>, owned: &TopicPartitions) -> Option<Bytes> {
        (topics.len() > 1).then(|| Bytes::from(owned.len().to_string()))
    }

    fn assign(
        &self,
        members: &[GroupMember],
        topics: &ClusterTopics,
    ) -> Result<BTreeMap<String, TopicPartitions>, Box<dyn Error + Send + Sync>> {
        let mut given: BTreeMap<String, (usize, TopicPartitions)> =
            members.iter().map(|m| (m.member_id.clone(), Default::default())).collect();
        let names: BTreeSet<&String> = members.iter().flat_map(|m| &m.topics).collect();
        for name in names {
            let count = topics.get(name).map_or(0, |topic| topic.partitions.len());
            let wants: Vec<&GroupMember> = members.iter().filter(|m| m.topics.contains(name)).collect();
            for partition in 0..count as i32 {
                let least = wants.iter().map(|m| &m.member_id).min_by_key(|id| (given[*id].0, *id));
                let Some((count, mine)) = least.and_then(|id| given.get_mut(id)) else { continue };
                *count += 1;
                match mine.last_mut() {
                    Some((last, partitions)) if last == name => partitions.push(partition),
                    _ => mine.push((name.clone(), vec![partition])),
                }
            }
        }
        Ok(given.into_iter().map(|(id, (_, mine))| (id, mine)).collect())
    }
}
