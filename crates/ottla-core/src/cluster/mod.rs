//! What is known about the cluster: brokers, topics, leaders (KIP-320 epochs, KIP-516 topic ids).
//!
//! State made from an answer holds only what was asked for, so hostile metadata cannot grow it.

mod refresh;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_wire::messages::MetadataResponse;

pub(crate) use refresh::Refresh;
use topic::MAX_PARTITIONS;
pub(crate) use topic::{Leader, Topic};

use crate::assignor::{ClusterTopics, PartitionInfo, TopicInfo};
use crate::{BrokerId, Error, ErrorKind, LeaderEpoch, TopicId, TopicPartition};

/// More brokers than any cluster has: an answer with more is no answer.
const MAX_BROKERS: usize = 10_000;

/// A broker's address and rack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

/// What metadata changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Addresses are new or different.
    pub(crate) brokers: bool,
    /// Topics, partition counts or replicas' racks differ: what a group's leader looks at.
    pub(crate) topology: bool,
    /// Leaders or their epochs moved: what fetching looks at.
    pub(crate) leaders: bool,
    /// Topics whose id is another one: they were deleted and made anew.
    pub(crate) recreated: Vec<Arc<str>>,
}

/// The cluster as last told.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// What is asked for in each request: by whom it is wanted does not matter here.
    wanted: BTreeSet<Arc<str>>,
    known: bool,
    generation: u64,
}

impl Cluster {
    /// Whether any broker has answered yet.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn brokers(&self) -> &BTreeMap<BrokerId, Broker> {
        &self.brokers
    }

    /// Where the brokers are is not known any more; what they lead still is.
    pub(crate) fn forget_brokers(&mut self) {
        self.brokers.clear();
        self.known = false;
        self.generation += 1;
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// Changes whenever a leader, an epoch, a topic's id or an address does.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn wanted(&self) -> &BTreeSet<Arc<str>> {
        &self.wanted
    }

    /// Replaces the topics that are asked for. True if some of them are not known yet.
    pub(crate) fn want(&mut self, topics: BTreeSet<Arc<str>>) -> bool {
        self.topics.retain(|name, _| topics.contains(name));
        let unknown = topics.iter().any(|t| !self.topics.contains_key(t));
        self.wanted = topics;
        unknown
    }

    /// An answer about all topics was silent of these: they do not exist. True if that is news.
    pub(crate) fn absent<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>) -> bool {
        let mut news = false;
        for name in names.filter(|name| self.wanted.contains(*name)) {
            news |= self.topics.entry(Arc::clone(name)).or_default().absent();
        }
        news
    }

    /// Who leads a partition, if it has a leader whose address is known.
    pub(crate) fn leader(&self, tp: &TopicPartition) -> Option<Leader> {
        let leader = self.topics.get(tp.topic())?.partition(tp.partition())?.leader?;
        self.brokers.contains_key(&leader.broker).then_some(leader)
    }

    /// The names of the topics that are known, by id.
    pub(crate) fn names(&self) -> BTreeMap<TopicId, Arc<str>> {
        let exist = self.topics.iter().filter(|(_, topic)| topic.exists());
        exist.filter_map(|(name, topic)| Some((topic.id?, Arc::clone(name)))).collect()
    }

    /// The topics as an assignor sees them: those of `names` that exist.
    pub(crate) fn topics_for_assignor<'a>(&self, names: impl Iterator<Item = &'a str>) -> ClusterTopics {
        let racks: BTreeMap<BrokerId, Arc<str>> =
            self.brokers.iter().filter_map(|(id, b)| Some((*id, Arc::from(b.rack.as_deref()?)))).collect();
        names
            .filter_map(|name| Some((name, self.topics.get(name).filter(|t| t.exists())?)))
            .map(|(name, topic)| TopicInfo {
                name: name.to_owned(),
                partitions: topic
                    .partitions()
                    .map(|p| PartitionInfo {
                        racks: p.replicas.iter().filter_map(|id| racks.get(id).cloned()).collect(),
                    })
                    .collect(),
            })
            .collect()
    }

    /// A leader that an answer to another request named (KIP-951). True if it is news.
    pub(crate) fn hint(&mut self, tp: &TopicPartition, broker: i32, epoch: i32) -> bool {
        let (Some(epoch), broker @ 0..) = (LeaderEpoch::from_wire(epoch), broker) else {
            return false;
        };
        // A broker whose address is not known waits for metadata instead of stranding the partition.
        if !self.brokers.contains_key(&BrokerId(broker)) {
            return false;
        }
        let leader = Leader { broker: BrokerId(broker), epoch: Some(epoch) };
        let news = self.topics.get_mut(tp.topic()).is_some_and(|topic| topic.hint(tp.partition(), leader));
        self.generation += u64::from(news);
        news
    }

    /// Takes in an answer to a request that asked for `asked`.
    pub(crate) fn update(
        &mut self,
        version: i16,
        answer: &MetadataResponse<'_>,
        asked: &BTreeSet<Arc<str>>,
    ) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        let brokers = read_brokers(answer)?;
        for told in answer.topics.iter() {
            let count = told.partitions.len();
            if count > MAX_PARTITIONS
                && let Some(name) = told.name.filter(|name| asked.contains(*name))
            {
                let text = format!(
                    "metadata says that topic {name:?} has {count} partitions, more than {MAX_PARTITIONS}"
                );
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text));
            }
        }
        if brokers != self.brokers {
            changes.brokers = true;
            changes.topology =
                brokers.iter().any(|(id, b)| self.brokers.get(id).is_none_or(|old| old.rack != b.rack));
            self.brokers = brokers;
        }
        self.known = true;
        // KIP-320: before version 9 a broker may tell an epoch that is long over.
        let trust_epochs = version >= 9;
        for told in answer.topics.iter() {
            let Some(name) = told.name.filter(|name| asked.contains(*name)) else {
                continue;
            };
            let Some(name) = self.wanted.get(name).map(Arc::clone) else {
                continue;
            };
            let topic = self.topics.entry(Arc::clone(&name)).or_default();
            let update = topic.update(&told, trust_epochs);
            changes.topology |= update.topology;
            changes.leaders |= update.leaders;
            if update.recreated {
                changes.recreated.push(name);
            }
        }
        changes.leaders |= changes.brokers || !changes.recreated.is_empty();
        self.generation += u64::from(changes.leaders);
        Ok(changes)
    }

    /// Whether something that is wanted has no answer that could be worked with yet.
    pub(crate) fn is_incomplete(&self) -> bool {
        let nowhere = |topic: &Topic| {
            topic.partitions().filter_map(|p| p.leader).any(|l| !self.brokers.contains_key(&l.broker))
        };
        self.wanted
            .iter()
            .any(|name| self.topics.get(name).is_none_or(|topic| topic.is_incomplete() || nowhere(topic)))
    }
}

fn read_brokers(answer: &MetadataResponse<'_>) -> Result<BTreeMap<BrokerId, Broker>, Error> {
    let misbehaved = |text: String| Error::new(ErrorKind::BrokerMisbehaved, text);
    if answer.brokers.is_empty() {
        return Err(misbehaved("metadata names no broker at all".to_owned()));
    }
    if answer.brokers.len() > MAX_BROKERS {
        let text = format!("metadata names {} brokers, more than {MAX_BROKERS}", answer.brokers.len());
        return Err(misbehaved(text));
    }
    let mut brokers = BTreeMap::new();
    for broker in answer.brokers.iter() {
        let port = u16::try_from(broker.port).ok().filter(|port| *port > 0);
        let (Some(port), 1..=255, 0..) = (port, broker.host.len(), broker.node_id) else {
            let host: String = broker.host.chars().take(40).collect();
            let text = format!("metadata names broker {} at {host:?}:{}", broker.node_id, broker.port);
            return Err(misbehaved(text));
        };
        let rack = broker.rack.filter(|r| !r.is_empty()).map(str::to_owned);
        brokers.insert(BrokerId(broker.node_id), Broker { host: broker.host.to_owned(), port, rack });
    }
    Ok(brokers)
}
