//! What is counted, and the snapshot of it.

use std::time::Duration;

use super::{Client, Tag};
use crate::Timestamp;
use crate::group::GroupRequestKind;
use crate::snapshot::{GroupSnapshot, Latency, Snapshot};

/// What no other part of the client counts.
#[derive(Debug)]
pub(super) struct Figures {
    born: Timestamp,
    fetch: Latency,
    commit: Latency,
    heartbeat: Latency,
    pub(super) commits_failed: u64,
    rebalances: u64,
    generation: Option<i32>,
    generation_at: Option<Timestamp>,
}

impl Figures {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            born: now,
            fetch: Latency::default(),
            commit: Latency::default(),
            heartbeat: Latency::default(),
            commits_failed: 0,
            rebalances: 0,
            generation: None,
            generation_at: None,
        }
    }

    /// A request was answered.
    pub(super) fn took(&mut self, tag: &Tag, took: Duration) {
        match tag {
            Tag::Fetch => self.fetch.add(took),
            Tag::OffsetCommit => self.commit.add(took),
            Tag::Group(GroupRequestKind::Heartbeat | GroupRequestKind::ConsumerHeartbeat) => {
                self.heartbeat.add(took)
            }
            _ => {}
        }
    }

    /// The generation, or the member epoch, that the member is in now.
    pub(super) fn generation(&mut self, now: Timestamp, generation: Option<i32>) {
        if generation.is_some() && generation != self.generation {
            self.rebalances += 1;
            self.generation_at = Some(now);
        }
        self.generation = generation.or(self.generation);
    }
}

impl Client {
    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let figures = &self.figures;
        let group = self.group.as_ref().zip(self.config.group.as_ref()).map(|(group, config)| {
            let identity = group.identity();
            GroupSnapshot {
                group_id: config.group_id.clone(),
                state: group.state_name(),
                coordinator: self.coordinator.broker(),
                generation_id: identity.as_ref().map(|i| i.generation_id),
                member_id: identity.map(|i| i.member_id),
                rebalances: figures.rebalances,
                since_rebalance: figures.generation_at.map(|at| now.since(at)),
                heartbeat: figures.heartbeat,
            }
        });
        let delivery = self.delivery.lock();
        let (records, bytes) = delivery.consumed();
        let mut partitions = delivery.partition_snapshots();
        for partition in &mut partitions {
            let leader = self.cluster.leader(&partition.topic_partition);
            partition.leader = leader.map(|leader| leader.broker);
            partition.leader_epoch = leader.and_then(|leader| leader.epoch);
        }
        Snapshot {
            client_id: self.config.client_id.clone(),
            unix_millis: self.unix_millis(now),
            age: now.since(figures.born),
            group,
            brokers: self.network.snapshot(),
            traffic: self.network.total(),
            partitions,
            records,
            bytes,
            buffered_bytes: delivery.buffered_bytes(),
            held_bytes: delivery.pinned_bytes(),
            since_read: delivery.since_read(now),
            fetch: figures.fetch,
            commit: figures.commit,
            commits_failed: figures.commits_failed,
        }
    }
}
