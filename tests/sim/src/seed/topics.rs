//! Topics that come, grow, shrink at the front, and go.

use ottla_core::{Rng, TopicPartition};

use super::Simulation;
use crate::jepsen::{NOBODY, What};
use crate::workload::key;

impl Simulation {
    pub(super) fn make_topics(&mut self) {
        for index in 0..self.settings.topics {
            self.make_topic(format!("t{index}"));
        }
    }

    fn make_topic(&mut self, name: String) {
        let count = 1 + self.rng.below(self.settings.partitions as u64 * 2) as i32;
        if let Err(error) = self.world.cluster.create_topic(&name, count) {
            panic!("the simulator cannot make {name}: {error}");
        }
        self.add_partitions(&name, 0, count);
        self.topics.push(name);
    }

    fn add_partitions(&mut self, topic: &str, from: i32, to: i32) {
        let now = self.world.now();
        for partition in from..to {
            let tp = TopicPartition::new(topic, partition);
            self.oracle.log(&tp).born = now;
            self.partitions.push(tp);
        }
    }

    /// More partitions for a topic.
    pub(crate) fn grow(&mut self, rng: &mut Rng) -> bool {
        let Some(topic) = self.topics.get(rng.below(self.topics.len() as u64) as usize).cloned() else {
            return false;
        };
        let present = self.partitions.iter().filter(|tp| tp.topic() == topic).count() as i32;
        let count = present + 1 + rng.below(3) as i32;
        if count > super::settings::MAX_PARTITIONS as i32
            || self.world.cluster.create_partitions(&topic, count).is_err()
        {
            return false;
        }
        self.add_partitions(&topic, present, count);
        true
    }

    /// A topic appears, and everybody subscribes to it.
    pub(crate) fn new_topic(&mut self) -> bool {
        if self.topics.len() >= 5 {
            return false;
        }
        let name = format!("n{}", self.next_topic);
        self.next_topic += 1;
        self.make_topic(name);
        self.subscribe_all();
        true
    }

    /// The last topic is deleted; one stays.
    pub(crate) fn delete_topic(&mut self) -> bool {
        if self.topics.len() < 2 {
            return false;
        }
        let Some(topic) = self.topics.pop() else { return false };
        let at = self.world.broker_now();
        if self.world.cluster.delete_topic(at, &topic).is_err() {
            return false;
        }
        if let Some(history) = &mut self.world.history {
            for tp in self.partitions.iter().filter(|tp| tp.topic() == topic) {
                history.add(NOBODY, What::Dropped(key(tp)));
            }
        }
        self.partitions.retain(|tp| tp.topic() != topic);
        self.oracle.topic_deleted(&topic);
        true
    }

    /// A topic is deleted and made anew at once, with fewer or more partitions and at least as many records. Jepsen's
    /// checker knows a topic by its name, before there were topic ids nobody could tell, and neither can a classic member of
    /// a group that goes by ids.
    pub(crate) fn recreate_topic(&mut self, rng: &mut Rng) -> bool {
        if self.world.history.is_some() || !self.settings.tells_ids() || self.settings.is_mixed() {
            return false;
        }
        let Some(topic) = self.topics.get(rng.below(self.topics.len() as u64) as usize).cloned() else {
            return false;
        };
        let before: Vec<TopicPartition> =
            self.partitions.iter().filter(|tp| tp.topic() == topic).cloned().collect();
        let ends: Vec<i64> = before.iter().map(|tp| self.oracle.log(tp).end).collect();
        let most = (super::settings::MAX_PARTITIONS as i32).min(2 * before.len() as i32 + 1);
        let count = 1 + rng.below(most as u64) as i32;
        let (now, at) = (self.world.now(), self.world.broker_now());
        if self.world.cluster.delete_topic(at, &topic).is_err() {
            return false;
        }
        if let Err(error) = self.world.cluster.create_topic(&topic, count) {
            panic!("the simulator cannot make {topic} anew: {error}");
        }
        self.partitions.retain(|tp| tp.topic() != topic);
        self.oracle.topic_recreated(now, &topic, count);
        self.producer.forget(&topic);
        self.add_partitions(&topic, 0, count);
        for (tp, end) in before.iter().zip(ends).filter(|(tp, _)| tp.partition() < count) {
            while self.oracle.log(tp).end < end + 1 {
                self.producer.write(&mut self.world, &mut self.oracle, tp);
            }
        }
        true
    }

    pub(super) fn subscribe_all(&mut self) {
        let topics = self.topics.clone();
        for user in &mut self.users {
            user.set_topics(&mut self.world, &mut self.oracle, &topics);
        }
    }

    /// Another broker leads a partition, and its log is shorter. A cut through a transaction would leave one that
    /// nobody ends, Jepsen's checker knows of no record that is taken back, and before 2.4 nobody can see it.
    pub(crate) fn truncate(&mut self, rng: &mut Rng) -> bool {
        let Some(tp) = self.some_partition(rng) else { return false };
        let node = 1 + rng.below(self.nodes as u64) as i32;
        let most = rng.below(4) * 60 + 5;
        if self.producer.has_transactions() || self.world.history.is_some() || !self.settings.tells_epochs() {
            return false;
        }
        let at = self.world.broker_now();
        let (topic, partition) = (tp.topic(), tp.partition());
        let cluster = &mut self.world.cluster;
        let (Ok(start), Ok(end)) =
            (cluster.log_start_offset(topic, partition), cluster.log_end_offset(topic, partition))
        else {
            return false;
        };
        let to = (end - 1 - rng.below(most) as i64).max(start);
        if to >= end || cluster.elect_uncleanly(at, topic, partition, node, to).is_err() {
            return false;
        }
        let now = self.world.now();
        let to = self.world.cluster.log_end_offset(topic, partition).unwrap_or(to);
        self.oracle.truncated(now, &tp, to);
        true
    }

    /// Some of what lies in a log, batch by batch, is compacted away. Jepsen's checker knows of no record that is taken
    /// back.
    pub(crate) fn compact(&mut self, rng: &mut Rng) -> bool {
        let Some(tp) = self.some_partition(rng).filter(|_| self.world.history.is_none()) else {
            return false;
        };
        let until = self.oracle.log(&tp).stable_end();
        let pattern = rng.next_u64();
        let mut number = 0;
        let keep = |_first: i64| {
            number += 1;
            (pattern >> (number % 64)) & 1 == 1
        };
        let gone = self.world.cluster.compact(tp.topic(), tp.partition(), until, keep).unwrap_or_default();
        for range in &gone {
            self.oracle.log(&tp).compact(*range);
        }
        !gone.is_empty()
    }

    /// The oldest records of a partition are deleted.
    pub(crate) fn retention(&mut self, rng: &mut Rng) -> bool {
        let Some(tp) = self.some_partition(rng) else { return false };
        let at = self.world.broker_now();
        let (topic, partition) = (tp.topic(), tp.partition());
        let cluster = &mut self.world.cluster;
        let (Ok(start), Ok(end)) =
            (cluster.log_start_offset(topic, partition), cluster.high_watermark(topic, partition))
        else {
            return false;
        };
        let offset = start + rng.below((end - start).max(0) as u64 + 1) as i64;
        if offset == start || cluster.delete_records(at, topic, partition, offset).is_err() {
            return false;
        }
        if let Some(history) = &mut self.world.history {
            history.add(NOBODY, What::Deleted(key(&tp), offset));
        }
        self.oracle.log(&tp).delete_below(offset);
        true
    }
}
