//! A stage for brokers that lie: one client, one topic with known records, and what must hold whatever is answered.
//!
//! - every record arrives, in order and once per ownership (S1, S2, S3, S15);
//! - the reset policy decides only where it may (S12);
//! - no API is asked hotly (L3), no address is connected to hotly.

pub mod batches;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use ottla_broker::Api;
use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::config::{Config, GroupConfig};
use ottla_core::delivery::ResetCause;
use ottla_core::{Error, Timestamp, TopicPartition};

use crate::sim::{Lie, MemberId, Seen, World};

/// The topic's name.
pub const TOPIC: &str = "t";
/// The group's id.
pub const GROUP: &str = "g";
/// So long after the last lie everything has arrived: session, rebalance, the longest backoffs.
pub const HEALED: Duration = Duration::from_secs(60);
/// No API is asked more often of one broker in one second, whatever it answers. Backoffs begin at 100 ms, and
/// several partitions wait independently.
pub const MAX_PER_SECOND: usize = 30;

/// One client, one topic, and a cluster that may lie.
pub struct Stage {
    /// Everything that runs.
    pub world: World,
    /// The client.
    pub id: MemberId,
    partitions: i32,
    each: usize,
    config: Config,
    /// What the user gave up by a seek, by partition.
    skipped: BTreeMap<i32, Range<i64>>,
}

impl Stage {
    /// A cluster of `nodes` with a topic of `partitions` that hold `each` records. There is no client yet.
    pub fn new(nodes: usize, partitions: i32, each: usize) -> Self {
        Self::in_world(World::new(42, nodes), partitions, each)
    }

    /// The same in a world of one's own.
    ///
    /// # Panics
    /// When the topic cannot be made.
    pub fn in_world(mut world: World, partitions: i32, each: usize) -> Self {
        world.cluster.create_topic(TOPIC, partitions).expect("a topic");
        let mut config = world.config();
        // Short, so that what hangs is noticed.
        config.request_timeout = Duration::from_secs(5);
        let mut stage =
            Self { world, id: MemberId(0), partitions, each: 0, config, skipped: BTreeMap::new() };
        stage.produce(each);
        stage
    }

    /// Settings of the client that is to come.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// More records in every partition.
    ///
    /// # Panics
    /// When they cannot be produced.
    pub fn produce(&mut self, more: usize) {
        let now = self.world.broker_now();
        let (from, to) = (self.each, self.each + more);
        for p in 0..self.partitions {
            // Several batches, so that an answer holds more than one.
            for chunk in (from..to).collect::<Vec<_>>().chunks(25) {
                let values: Vec<String> = chunk.iter().map(|i| format!("{p}/{i}")).collect();
                let produced = self.world.cluster.produce(now, TOPIC, p, values.iter().map(String::as_str));
                produced.expect("produced");
            }
        }
        self.each = to;
    }

    /// From now on brokers lie.
    pub fn lie(&mut self, lie: Lie) -> usize {
        self.world.lie(lie)
    }

    /// Every partition gets another leader, with a higher epoch.
    ///
    /// # Panics
    /// When there is only one broker.
    pub fn move_leaders(&mut self) {
        let nodes: Vec<i32> = self.world.cluster.addresses().map(|(id, ..)| id).collect();
        let now = self.world.broker_now();
        for p in 0..self.partitions {
            let (leader, _) = self.world.cluster.leader(TOPIC, p).expect("a partition");
            let at = nodes.iter().position(|n| Some(*n) == leader).expect("a leader");
            let next = nodes[(at + 1) % nodes.len()];
            self.world.cluster.move_leader(now, TOPIC, p, next).expect("moved");
        }
    }

    /// A client that reads all partitions from their beginning, without a group.
    pub fn assign(&mut self) {
        self.id = self.world.join(self.config.clone());
        let tps = (0..self.partitions).map(|p| (TopicPartition::new(TOPIC, p), Offset::Earliest)).collect();
        self.world.command(self.id, Command::Assign(tps));
    }

    /// A client that subscribes to the topic in a group.
    pub fn subscribe(&mut self) {
        let group = self.config.group.get_or_insert_with(|| GroupConfig::new(GROUP));
        group.session_timeout = Duration::from_secs(10);
        group.heartbeat_interval = Duration::from_secs(1);
        group.rebalance_timeout = Duration::from_secs(20);
        self.id = self.world.join(self.config.clone());
        self.world.command(self.id, Command::Subscribe(vec![TOPIC.to_owned()]));
    }

    /// A rebalance: somebody joins the group, reads nothing, and leaves again.
    pub fn rebalance(&mut self) {
        let other = self.world.join(self.config.clone());
        self.world.member(other).auto_read = false;
        self.world.command(other, Command::Subscribe(vec![TOPIC.to_owned()]));
        self.run(Duration::from_secs(5));
        self.world.command(other, Command::Close { timeout: Duration::from_secs(5) });
        self.run(Duration::from_secs(5));
    }

    /// Moves the position.
    pub fn seek(&mut self, partition: i32, offset: i64) {
        let tp = TopicPartition::new(TOPIC, partition);
        self.world.command(self.id, Command::Seek(tp, Offset::At(offset)));
    }

    /// What lies before this offset of the partition is not to be read: the group has committed it.
    pub fn begin_at(&mut self, partition: i32, offset: i64) {
        self.skipped.insert(partition, 0..offset);
    }

    /// Seeks to where the error of a partition says, and takes note of what is skipped by that.
    ///
    /// # Panics
    /// When the error is not one of a partition.
    pub fn skip(&mut self, error: &Error) {
        let tp = error.topic_partition().expect("an error of a partition").clone();
        let position = self.world.member(self.id).delivery.lock().position(&tp).expect("a position");
        let resume = error.resume_at().expect("where to go on");
        self.skipped.insert(tp.partition(), position..resume);
        self.seek(tp.partition(), resume);
    }

    /// A client that only tries to reach a broker.
    ///
    /// # Errors
    /// Why it could not.
    ///
    /// # Panics
    /// When it is not told.
    pub fn bootstrap(&mut self) -> Result<(), Error> {
        self.id = self.world.join(self.config.clone());
        let id = self.id;
        self.world.command(id, Command::Bootstrap);
        self.world.run_until(HEALED, |w| !w.member(id).outcomes.is_empty());
        match self.world.member(id).outcomes.pop() {
            Some(Outcome::Done) => Ok(()),
            Some(Outcome::Failed(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Lets `time` pass.
    pub fn run(&mut self, time: Duration) {
        self.world.run_for(time);
    }

    /// Runs until `lie` was told so often.
    pub fn run_until_told(&mut self, lie: usize, times: usize) {
        self.world.run_until(HEALED, |w| w.told(lie) >= times);
    }

    /// All brokers are honest from now on.
    pub fn heal(&mut self) {
        self.world.heal();
    }

    fn tps(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        (0..self.partitions).map(|p| TopicPartition::new(TOPIC, p))
    }

    /// Everything that was produced arrives, and what comes later too; in order and once per ownership.
    ///
    /// # Panics
    /// When it does not.
    pub fn everything_arrives(&mut self) {
        self.all_is_read();
        self.produce(10);
        self.all_is_read();
        self.in_order_once_and_complete();
    }

    /// Every partition is read to its end within [`HEALED`].
    ///
    /// # Panics
    /// When it is not.
    pub fn all_is_read(&mut self) {
        let (id, end) = (self.id, self.each as i64);
        let tps: Vec<_> = self.tps().collect();
        let deadline = self.world.now() + HEALED;
        self.world.run_until(HEALED * 2, |w| {
            let position = |w: &mut World, tp| w.member(id).delivery.lock().position(tp);
            let there = tps.iter().all(|tp| position(w, tp) == Some(end));
            if !there && w.now() >= deadline {
                let positions: Vec<_> = tps.iter().map(|tp| position(w, tp)).collect();
                let seen = &w.member(id).seen;
                let told: Vec<_> = seen.iter().filter(|(_, s)| !matches!(s, Seen::Records(..))).collect();
                panic!("not healed: positions {positions:?} of {end}, told {told:?}");
            }
            there
        });
    }

    /// What was handed out so far is right, and within an ownership without repetition and without a gap; all
    /// ownerships together lack nothing.
    ///
    /// # Panics
    /// When that is not so.
    pub fn in_order_once_and_complete(&mut self) {
        let each = self.each;
        let partitions = self.partitions;
        let member = self.world.member(self.id);
        let mut next: BTreeMap<&TopicPartition, i64> = BTreeMap::new();
        let mut read: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        let mut covered: BTreeMap<&TopicPartition, BTreeSet<i64>> = BTreeMap::new();
        for (_, seen) in &member.seen {
            match seen {
                Seen::Records(tp, _, _, count) => {
                    let from = read.entry(tp).or_default();
                    for (offset, value) in &member.values[tp][*from..*from + count] {
                        assert_eq!(*value, format!("{}/{offset}", tp.partition()).into_bytes(), "{tp}");
                        if let Some(mut expected) = next.insert(tp, offset + 1) {
                            if let Some(range) = self.skipped.get(&tp.partition())
                                && range.contains(&expected)
                            {
                                expected = range.end;
                            }
                            assert_eq!(*offset, expected, "{tp}: a gap or a repetition in one ownership");
                        }
                        covered.entry(tp).or_default().insert(*offset);
                    }
                    *from += count;
                }
                Seen::Assigned(tps) | Seen::Revoking(tps) | Seen::Lost(tps) => {
                    next.retain(|tp, _| !tps.contains(tp));
                }
                Seen::Reset(tp, _) => {
                    next.remove(tp);
                }
                _ => {}
            }
        }
        for p in 0..partitions {
            let tp = TopicPartition::new(TOPIC, p);
            let got = covered.get(&tp).map_or(0, BTreeSet::len);
            let skipped = self.skipped.get(&p).map_or(0, |range| (range.end - range.start) as usize);
            assert_eq!(got, each - skipped, "{tp}: records are missing");
        }
    }

    /// S12 from the broker's side: no offset beyond the log was ever fetched.
    ///
    /// # Panics
    /// When one was.
    pub fn never_fetched_beyond_the_end(&self) {
        for request in self.world.cluster.requests().filter(|r| r.api == Api::Fetch) {
            for p in &request.partitions {
                let offset = p.offset.unwrap_or_default();
                assert!(
                    (0..=self.each as i64).contains(&offset),
                    "fetched {}-{:?} at {offset}",
                    p.topic,
                    p.partition
                );
            }
        }
    }

    /// Every record was handed out exactly once: there was one ownership, and no reset but the one of a group
    /// that has committed nothing.
    ///
    /// # Panics
    /// When that is not so.
    pub fn once_and_never_reset(&mut self) {
        self.never_reset();
        let (count, partitions, each) = (self.world.member(self.id).count(), self.partitions, self.each);
        assert_eq!(count, partitions as usize * each, "records were handed out twice");
    }

    /// S12: no reset but the one of a group that has committed nothing, once per partition.
    ///
    /// # Panics
    /// When that is not so.
    pub fn never_reset(&mut self) {
        let resets = &self.world.member(self.id).resets;
        let mut partitions = BTreeSet::new();
        for (tp, offset, cause) in resets {
            assert_eq!((*offset, *cause), (0, ResetCause::NoCommittedOffset), "{tp}");
            assert!(partitions.insert(tp), "{tp} was reset twice");
        }
    }

    /// The errors that the reader was told.
    pub fn errors(&mut self) -> Vec<Error> {
        let error = |(_, seen): &(Timestamp, Seen)| match seen {
            Seen::Error(error) => Some(error.clone()),
            _ => None,
        };
        self.world.member(self.id).seen.iter().filter_map(error).collect()
    }

    /// L3: the busiest second of one API at one broker had few requests, and there were few connections.
    ///
    /// # Panics
    /// When there were many.
    pub fn never_hot(&self) {
        let mut counts: BTreeMap<(Api, i32, u64), usize> = BTreeMap::new();
        for request in self.world.cluster.requests() {
            *counts.entry((request.api, request.node, request.at.as_secs())).or_default() += 1;
        }
        if let Some((what, count)) = counts.iter().max_by_key(|(_, count)| **count) {
            assert!(*count <= MAX_PER_SECOND, "{count} requests a second: {what:?}");
        }
        let mut connects: BTreeMap<u64, usize> = BTreeMap::new();
        for (at, _) in &self.world.connects {
            *connects.entry(at.as_nanos() / 1_000_000_000).or_default() += 1;
        }
        let worst = connects.values().max().copied().unwrap_or_default();
        assert!(worst <= 2 * MAX_PER_SECOND, "{worst} connections a second");
    }

    /// Closing is bounded, whatever happened.
    ///
    /// # Panics
    /// When it is not.
    pub fn closes(&mut self) {
        let timeout = Duration::from_secs(10);
        let before = self.world.now();
        self.world.command(self.id, Command::Close { timeout });
        self.world.run_until(2 * timeout, |w| w.member(self.id).is_closed());
        assert!(self.world.now().since(before) <= timeout, "close took too long");
        let outcome = self.world.member(self.id).outcomes.last();
        assert!(matches!(outcome, Some(Outcome::Closed(_))), "{outcome:?}");
    }
}
