//! Topics, partitions and who leads them.

use std::collections::{BTreeMap, BTreeSet};

use super::log::PartitionLog;
use crate::error::{BrokerError, Result, nearest};
use crate::rng::Rng;

/// The most partitions of one topic: a request for billions must not take the process with it.
pub(crate) const MAX_PARTITIONS: i32 = 20_000;

/// A topic id as it stands on the wire.
pub(crate) type TopicId = [u8; 16];

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Debug)]
pub(crate) struct Partition {
    /// None while no replica is up.
    pub(crate) leader: Option<i32>,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
    pub(crate) log: PartitionLog,
    /// A high watermark held below the log end, for tests.
    pub(crate) held_high_watermark: Option<i64>,
    /// Where the logs of followers end that lag behind, for tests.
    pub(crate) lagging: BTreeMap<i32, i64>,
}

impl Partition {
    pub(crate) fn high_watermark(&self) -> i64 {
        let end = self.log.end();
        self.held_high_watermark.map_or(end, |held| held.clamp(self.log.start(), end))
    }

    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.log.last_stable_offset(self.high_watermark())
    }

    /// Where the log of a replica ends.
    pub(crate) fn end_on(&self, node: i32) -> i64 {
        let end = self.log.end();
        if self.leader == Some(node) { end } else { self.lagging.get(&node).map_or(end, |at| end.min(*at)) }
    }

    /// Makes `node` the leader, under the next leader epoch.
    fn elect(&mut self, leader: Option<i32>) {
        if self.leader != leader {
            self.leader = leader;
            self.leader_epoch += 1;
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
}

impl Topics {
    pub(crate) fn create(
        &mut self,
        rng: &mut Rng,
        name: &str,
        partitions: i32,
        replication: usize,
        nodes: &[i32],
        up: &BTreeSet<i32>,
    ) -> TopicId {
        let mut id = rng.uuid();
        // A client must be able to tell "no id" apart.
        id[15] |= 1;
        let partitions = (0..partitions.max(0)).map(|p| new_partition(p, replication, nodes, up)).collect();
        self.names.insert(id, name.to_owned());
        self.by_name.insert(name.to_owned(), Topic { name: name.to_owned(), id, partitions });
        id
    }

    pub(crate) fn grow(&mut self, name: &str, count: i32, nodes: &[i32], up: &BTreeSet<i32>) {
        let Some(topic) = self.by_name.get_mut(name) else { return };
        let replication = topic.partitions.first().map_or(1, |p| p.replicas.len());
        for p in topic.partitions.len() as i32..count {
            topic.partitions.push(new_partition(p, replication, nodes, up));
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn name_of(&self, id: &TopicId) -> Option<&str> {
        self.names.get(id).map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.by_name.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.by_name.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// The partition, or an error for the user that lists near names.
    pub(crate) fn expect(&mut self, topic: &str, partition: i32) -> Result<&mut Partition> {
        self.expect_topic(topic)?;
        self.partition_mut(topic, partition)
            .ok_or_else(|| BrokerError::Unknown(format!("topic '{topic}' has no partition {partition}")))
    }

    /// As [`expect`](Self::expect), to look at.
    pub(crate) fn expect_ref(&self, topic: &str, partition: i32) -> Result<&Partition> {
        self.expect_topic(topic)?;
        self.partition(topic, partition)
            .ok_or_else(|| BrokerError::Unknown(format!("topic '{topic}' has no partition {partition}")))
    }

    pub(crate) fn expect_topic(&self, topic: &str) -> Result<&Topic> {
        self.by_name.get(topic).ok_or_else(|| {
            BrokerError::Unknown(format!(
                "unknown topic '{topic}'; nearest: {}",
                nearest(topic, self.by_name.keys().map(String::as_str))
            ))
        })
    }

    /// A node went down or came up: partitions get leaders among the replicas that are up.
    pub(crate) fn nodes_changed(&mut self, up: &BTreeSet<i32>) {
        for partition in self.by_name.values_mut().flat_map(|topic| &mut topic.partitions) {
            let live: Vec<i32> = partition.replicas.iter().copied().filter(|r| up.contains(r)).collect();
            if !live.is_empty() {
                partition.isr = live.clone();
            }
            if partition.leader.is_none_or(|leader| !up.contains(&leader)) {
                partition.elect(live.first().copied());
            }
        }
    }

    /// Takes a partition's leader away until it is given one.
    pub(crate) fn lose_leader(&mut self, topic: &str, partition: i32) -> Result<()> {
        self.expect(topic, partition)?.elect(None);
        Ok(())
    }

    pub(crate) fn move_leader(&mut self, topic: &str, partition: i32, node: i32) -> Result<()> {
        let partition = self.expect(topic, partition)?;
        if !partition.replicas.contains(&node) {
            // Kafka would reassign first; here the new leader just joins the replicas.
            partition.replicas.push(node);
            partition.isr.push(node);
        }
        partition.elect(Some(node));
        Ok(())
    }
}

/// Partition `p` is led by node `p mod n`; the replicas are the nodes that follow.
fn new_partition(p: i32, replication: usize, nodes: &[i32], up: &BTreeSet<i32>) -> Partition {
    let start = p as usize % nodes.len().max(1);
    let replicas: Vec<i32> =
        nodes.iter().cycle().skip(start).take(replication.clamp(1, nodes.len().max(1))).copied().collect();
    let leader = replicas.iter().copied().find(|node| up.contains(node));
    Partition {
        leader,
        leader_epoch: 0,
        isr: replicas.clone(),
        replicas,
        log: PartitionLog::default(),
        held_high_watermark: None,
        lagging: BTreeMap::new(),
    }
}

/// Kafka's rule for topic names.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 249
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
