//! What a test does to the cluster from outside: topics, records, leaders, nodes, faults, and looking in.

use super::group::{Commit, Committed, GroupInfo, GroupState};
use super::records::{TestRecord, build};
use super::topics::{MAX_PARTITIONS, is_valid_name};
use super::{Cluster, ConnectionId, batch};
use crate::error::{BrokerError, Result};
use crate::fault::Fault;
use crate::observe::Observed;
use crate::time::Timestamp;

impl Cluster {
    /// Creates a topic.
    ///
    /// # Errors
    /// It exists, or the name or the number of partitions is not legal.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<()> {
        if !is_valid_name(name) {
            return Err(BrokerError::Invalid(format!("'{name}' is not a legal topic name")));
        }
        if self.topics.get(name).is_some() {
            return Err(BrokerError::Invalid(format!("topic '{name}' exists already")));
        }
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(BrokerError::Invalid(format!(
                "a topic has from 1 to {MAX_PARTITIONS} partitions, not {partitions}"
            )));
        }
        self.make_topic(name, Some(partitions), None);
        Ok(())
    }

    /// Deletes a topic, its records and the offsets committed for it.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn delete_topic(&mut self, now: Timestamp, name: &str) -> Result<()> {
        self.topics.expect_topic(name)?;
        self.drop_topic(now, name);
        self.pump(now);
        Ok(())
    }

    /// Adds partitions until there are `count`.
    ///
    /// # Errors
    /// There is no such topic, or it has as many already.
    pub fn create_partitions(&mut self, name: &str, count: i32) -> Result<()> {
        let present = self.topics.expect_topic(name)?.partitions.len();
        if count > MAX_PARTITIONS {
            return Err(BrokerError::Invalid(format!(
                "a topic has at most {MAX_PARTITIONS} partitions, not {count}"
            )));
        }
        if usize::try_from(count).unwrap_or(0) <= present {
            return Err(BrokerError::Invalid(format!("topic '{name}' has {present} partitions already")));
        }
        let (nodes, up) = (self.node_ids(), self.up_nodes());
        self.topics.grow(name, count, &nodes, &up);
        Ok(())
    }

    /// Appends records as one uncompressed batch and returns the offset of the first.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn produce(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = impl Into<TestRecord>>,
    ) -> Result<i64> {
        let records: Vec<TestRecord> = records.into_iter().map(Into::into).collect();
        let end = self.topics.expect(topic, partition)?.log.end();
        if records.is_empty() {
            return Ok(end);
        }
        let batch = build(records, self.wall_ms(now));
        self.produce_batch(now, topic, partition, &batch)
    }

    /// Appends one or more ready-made batches (magic 2, any codec, also transactional and control batches) with new
    /// offsets and returns the first.
    ///
    /// # Errors
    /// There is no such partition, or the bytes are not whole, sound batches.
    pub fn produce_batch(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        batches: &[u8],
    ) -> Result<i64> {
        self.append_batches(now, topic, partition, batches, false)
    }

    /// Appends batches that keep the base offsets they carry, which must not lie below the log's end: gaps, as
    /// compaction leaves them.
    ///
    /// # Errors
    /// As [`produce_batch`](Self::produce_batch), and when a base offset lies below the end.
    pub fn produce_batch_at(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        batches: &[u8],
    ) -> Result<i64> {
        self.append_batches(now, topic, partition, batches, true)
    }

    fn append_batches(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        batches: &[u8],
        keep: bool,
    ) -> Result<i64> {
        let target = self.topics.expect(topic, partition)?;
        let (mut rest, mut first) = (batches, None);
        while !rest.is_empty() || first.is_none() {
            let header = batch::parse(rest).map_err(|error| BrokerError::Corrupt(error.text()))?;
            let base = if keep { header.base_offset } else { target.log.end() };
            if base < target.log.end() {
                return Err(BrokerError::Invalid(format!(
                    "base offset {base} lies below the log's end {}",
                    target.log.end()
                )));
            }
            target.log.append_at(base, &header, rest, target.leader_epoch);
            first = first.or(Some(base));
            rest = &rest[header.length..];
        }
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(first.unwrap_or(-1))
    }

    /// The offset after the last record.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn log_end_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.topics.expect_ref(topic, partition)?.log.end())
    }

    /// The high watermark: what consumers may see lies below it.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.topics.expect_ref(topic, partition)?.high_watermark())
    }

    /// The first offset that is still there.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn log_start_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.topics.expect_ref(topic, partition)?.log.start())
    }

    /// Deletes everything below `offset`, as retention or DeleteRecords does.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn delete_records(&mut self, now: Timestamp, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.topics.expect(topic, partition)?.log.delete_before(offset);
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Compacts a log: of the batches with records that end below `until`, and below the high watermark, those go that
    /// `keep` does not want, told by their first offsets. Markers of transactions and the last batch stay. Gives the
    /// first and last offsets of what went.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn compact(
        &mut self,
        topic: &str,
        partition: i32,
        until: i64,
        keep: impl FnMut(i64) -> bool,
    ) -> Result<Vec<(i64, i64)>> {
        let partition = self.topics.expect(topic, partition)?;
        let until = until.min(partition.high_watermark());
        Ok(partition.log.compact(until, keep))
    }

    /// Cuts the log's end back to `offset` (to the start of the batch that holds it) under a new leader epoch, as an
    /// unclean leader election does.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn truncate(&mut self, now: Timestamp, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let target = self.topics.expect(topic, partition)?;
        target.log.truncate(offset);
        target.leader_epoch += 1;
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Holds the high watermark at `offset` (none: it follows the log's end again).
    ///
    /// # Errors
    /// There is no such partition.
    pub fn hold_high_watermark(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
    ) -> Result<()> {
        self.topics.expect(topic, partition)?.held_high_watermark = offset;
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// The leader and leader epoch of a partition; none while no replica is up.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<(Option<i32>, i32)> {
        let target = self.topics.expect_ref(topic, partition)?;
        Ok((target.leader, target.leader_epoch))
    }

    /// Makes a node the leader of a partition, under the next leader epoch.
    ///
    /// # Errors
    /// There is no such partition or node, or the node is down.
    pub fn move_leader(&mut self, now: Timestamp, topic: &str, partition: i32, node: i32) -> Result<()> {
        self.expect_up(node)?;
        self.topics.move_leader(topic, partition, node)?;
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Leaves a partition without a leader until one is moved there or a node comes or goes.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn lose_leader(&mut self, now: Timestamp, topic: &str, partition: i32) -> Result<()> {
        self.topics.lose_leader(topic, partition)?;
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Freezes what Metadata says of leaders and leader epochs, whatever happens to them, or lets it be true again.
    pub fn freeze_metadata(&mut self, freeze: bool) {
        self.flapping = false;
        self.frozen_leaders = freeze.then(|| {
            self.topics
                .iter()
                .flat_map(|topic| {
                    topic.partitions.iter().enumerate().map(|(index, partition)| {
                        ((topic.name.clone(), index as i32), (partition.leader, partition.leader_epoch))
                    })
                })
                .collect()
        });
    }

    /// As [`freeze_metadata`](Self::freeze_metadata), but every other answer is true.
    pub fn flap_metadata(&mut self) {
        self.freeze_metadata(true);
        self.flapping = true;
    }

    /// Lets a node close every new connection at once, or take them again.
    ///
    /// # Errors
    /// There is no such node.
    pub fn turn_away(&mut self, node: i32, yes: bool) -> Result<()> {
        self.expect_node(node)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.turns_away = yes;
        }
        Ok(())
    }

    /// The node that coordinates a group; none while all are down.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.coordinator_of(group)
    }

    /// Makes a node the coordinator of a group. Parked requests get NOT_COORDINATOR; the new coordinator knows the
    /// group as it was when it was last stable or empty.
    ///
    /// # Errors
    /// There is no such node, or it is down.
    pub fn move_coordinator(&mut self, now: Timestamp, group: &str, node: i32) -> Result<()> {
        self.expect_up(node)?;
        self.pinned_coordinators.insert(group.to_owned(), node);
        self.move_groups(now);
        self.pump(now);
        Ok(())
    }

    fn expect_node(&self, node: i32) -> Result<()> {
        if self.nodes.contains_key(&node) {
            return Ok(());
        }
        let known: Vec<String> = self.nodes.keys().map(ToString::to_string).collect();
        Err(BrokerError::Unknown(format!("there is no node {node}; the nodes are {}", known.join(", "))))
    }

    pub(super) fn expect_up(&self, node: i32) -> Result<()> {
        self.expect_node(node)?;
        if self.is_up(node) { Ok(()) } else { Err(BrokerError::Invalid(format!("node {node} is down"))) }
    }

    /// Whether a node is up.
    pub fn is_up(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.up)
    }

    /// Takes a node down: its connections close, its fetch sessions are gone, other replicas lead its partitions,
    /// its groups move.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stop_node(&mut self, now: Timestamp, node: i32) -> Result<()> {
        self.expect_node(node)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.up = false;
            node.sessions.clear();
        }
        self.close_connections(Some(node));
        self.nodes_changed(now);
        Ok(())
    }

    /// Brings a node back. It leads nothing until partitions without a leader need it or it is given some.
    ///
    /// # Errors
    /// There is no such node.
    pub fn start_node(&mut self, now: Timestamp, node: i32) -> Result<()> {
        self.expect_node(node)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.up = true;
        }
        self.nodes_changed(now);
        Ok(())
    }

    fn nodes_changed(&mut self, now: Timestamp) {
        let up = self.up_nodes();
        self.topics.nodes_changed(&up);
        self.move_groups(now);
        self.wake_fetches(now, None);
        self.pump(now);
    }

    /// Closes all connections, of one node or of all.
    pub fn close_connections(&mut self, node: Option<i32>) {
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, conn)| node.is_none_or(|node| node == conn.node))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.close(id);
        }
    }

    /// Closes one connection.
    pub fn close_connection(&mut self, connection: ConnectionId) {
        self.close(connection);
    }

    /// How many connections are open, to one node or to all.
    pub fn connection_count(&self, node: Option<i32>) -> usize {
        self.connections.values().filter(|conn| node.is_none_or(|node| node == conn.node)).count()
    }

    /// Forgets all fetch sessions: the next incremental Fetch gets FETCH_SESSION_ID_NOT_FOUND.
    pub fn evict_fetch_sessions(&mut self) {
        self.nodes.values_mut().for_each(|node| node.sessions.clear());
    }

    /// How many fetch sessions a node holds.
    pub fn fetch_sessions(&self, node: i32) -> usize {
        self.nodes.get(&node).map_or(0, |node| node.sessions.len())
    }

    /// What a group committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.groups.get(group)?.offsets.get(topic, partition)
    }

    /// Every commit that was accepted, in order.
    pub fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// Stores an offset as an administrator would, whatever the group's state. Not in [`commits`](Self::commits).
    ///
    /// # Errors
    /// There is no such partition.
    pub fn set_committed(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.topics.expect(topic, partition)?;
        let coordinator = self.coordinator_of(group).unwrap_or(-1);
        self.ensure_group(coordinator, group);
        if let Some(group) = self.groups.get_mut(group) {
            let committed = Committed { offset, leader_epoch: -1, metadata: String::new() };
            group.offsets.set(topic, partition, committed);
        }
        Ok(())
    }

    /// The state, generation and members of a group.
    pub fn group(&self, id: &str) -> Option<GroupInfo> {
        let group = self.groups.get(id)?;
        let names = |id: &[u8; 16]| self.topics.name_of(id).map(str::to_owned);
        Some(GroupInfo::of(group, names))
    }

    /// State, generation and number of members of a group: cheap to ask for after every step.
    pub fn group_summary(&self, id: &str) -> Option<(GroupState, i32, usize)> {
        self.groups.get(id).map(|group| (group.state, group.generation, group.size()))
    }

    /// The topics' names.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| topic.name.as_str())
    }

    /// The id of a topic.
    pub fn topic_id(&self, name: &str) -> Option<[u8; 16]> {
        self.topics.get(name).map(|topic| topic.id)
    }

    /// The node that listens on a port, if any.
    pub fn node_at(&self, port: u16) -> Option<i32> {
        self.nodes.iter().find(|(_, node)| node.port == port).map(|(id, _)| *id)
    }

    /// Gives a node its port: Metadata advertises it.
    pub(crate) fn set_port(&mut self, id: i32, port: u16) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.port = port;
        }
    }

    /// Node ids with host and port, in the order of the ids.
    pub fn addresses(&self) -> impl Iterator<Item = (i32, &str, u16)> {
        self.nodes.iter().map(|(id, node)| (*id, node.host.as_str(), node.port))
    }

    /// Adds a fault to the script and returns its number.
    pub fn add_fault(&mut self, fault: Fault) -> usize {
        self.script.add(fault)
    }

    /// How often a fault has hit.
    pub fn fault_fired(&self, fault: usize) -> u32 {
        self.script.entry(fault).map_or(0, |entry| entry.fired)
    }

    /// Ends a fault.
    pub fn cancel_fault(&mut self, fault: usize) {
        self.script.cancel(fault);
    }

    /// Ends all faults.
    pub fn cancel_faults(&mut self) {
        self.script.cancel_all();
    }

    /// Faults with a number of times that have not been hit as often.
    pub fn unfired_faults(&self) -> impl Iterator<Item = &Fault> {
        self.script.unfired()
    }

    /// The requests that were taken up, oldest first, as many as the configuration keeps.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &Observed> {
        self.observed.iter()
    }

    /// The index that the next request will have.
    pub fn next_request_index(&self) -> u64 {
        self.next_request
    }
}
