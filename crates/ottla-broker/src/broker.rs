//! The broker as a user holds it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::DuplexStream;

use crate::api::Api;
use crate::builder::Builder;
use crate::core::ConnectionId;
use crate::core::group::{Commit, Committed, GroupInfo};
use crate::core::records::TestRecord;
use crate::error::{BrokerError, Result};
use crate::error_code::ErrorCode;
use crate::fault::Fault;
use crate::net::Shared;
use crate::observe::Observed;

/// Bytes that an in-memory connection holds in each direction.
const PIPE: usize = 256 * 1024;

/// A Kafka cluster inside this process.
///
/// Made by [`Broker::builder`]. Methods that are not `async` act at once and may be called from any thread; what
/// they change is seen by the next request. Dropping the value stops everything and does not block.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ottla_broker::BrokerError> {
/// use ottla_broker::Broker;
///
/// let broker = Broker::builder().brokers(3).topic("orders", 6).start().await?;
/// broker.produce("orders", 0, ["first", "second"])?;
/// assert_eq!(broker.log_end_offset("orders", 0)?, 2);
/// println!("point your client at {}", broker.bootstrap());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    in_memory: bool,
}

impl Broker {
    /// Starts describing a cluster: one broker, no topics, Kafka's defaults.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(shared: Arc<Shared>, in_memory: bool) -> Self {
        Self { shared, in_memory }
    }

    /// The addresses of all nodes as a client wants them: `host:port,host:port`.
    pub fn bootstrap(&self) -> String {
        self.shared.look(|cluster| {
            cluster.addresses().map(|(_, host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",")
        })
    }

    /// The address of one node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn address(&self, node: i32) -> Result<String> {
        self.shared.look(|cluster| {
            cluster
                .addresses()
                .find(|(id, ..)| *id == node)
                .map(|(_, host, port)| format!("{host}:{port}"))
                .ok_or_else(|| BrokerError::Unknown(format!("there is no node {node}")))
        })
    }

    /// The node ids, in order.
    pub fn nodes(&self) -> Vec<i32> {
        self.shared.look(|cluster| cluster.addresses().map(|(id, ..)| id).collect())
    }

    /// Connects without a socket: works on a paused clock.
    ///
    /// The node is found by its port, whatever the host.
    ///
    /// # Errors
    /// `ConnectionRefused` when no node has the port or the node is down.
    pub fn connect_in_memory(&self, host: &str, port: u16) -> std::io::Result<DuplexStream> {
        let node = self.shared.look(|cluster| cluster.node_at(port).filter(|node| cluster.is_up(*node)));
        let Some(node) = node else {
            let text = format!("no broker of this cluster listens on {host}:{port}");
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, text));
        };
        let (client, server) = tokio::io::duplex(PIPE);
        self.shared.serve(node, server);
        Ok(client)
    }

    // ---- topics and records -----------------------------------------------------------------------------------

    /// Creates a topic.
    ///
    /// # Errors
    /// It exists, or the name is not legal.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.shared.act(|cluster, _| cluster.create_topic(name, partitions))
    }

    /// Deletes a topic with its records and the offsets committed for it.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.shared.act(|cluster, now| cluster.delete_topic(now, name))
    }

    /// Adds partitions until there are `count`.
    ///
    /// # Errors
    /// There is no such topic, or it has as many already.
    pub fn create_partitions(&self, topic: &str, count: i32) -> Result<()> {
        self.shared.act(|cluster, _| cluster.create_partitions(topic, count))
    }

    /// Appends records as one uncompressed batch and returns the offset of the first.
    ///
    /// Records are anything that is a [`TestRecord`]: `"value"`, `("key", "value")`, bytes, or one built by hand.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn produce(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = impl Into<TestRecord>>,
    ) -> Result<i64> {
        self.shared.act(|cluster, now| cluster.produce(now, topic, partition, records))
    }

    /// Appends ready-made record batches (magic 2, any codec, also transactional and control batches) and returns
    /// the offset of the first; base offsets and leader epochs are set.
    ///
    /// # Errors
    /// There is no such partition, or the bytes are not whole, sound batches.
    pub fn produce_batch(&self, topic: &str, partition: i32, batches: impl Into<Bytes>) -> Result<i64> {
        let batches = batches.into();
        self.shared.act(|cluster, now| cluster.produce_batch(now, topic, partition, &batches))
    }

    /// As [`produce_batch`](Self::produce_batch), but the batches keep their base offsets: gaps, as compaction leaves
    /// them.
    ///
    /// # Errors
    /// As there, and when a base offset lies below the log's end.
    pub fn produce_batch_at(&self, topic: &str, partition: i32, batches: impl Into<Bytes>) -> Result<i64> {
        let batches = batches.into();
        self.shared.act(|cluster, now| cluster.produce_batch_at(now, topic, partition, &batches))
    }

    /// The offset after the last record.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn log_end_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        self.shared.look(|cluster| cluster.log_end_offset(topic, partition))
    }

    /// The first offset that is still there.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn log_start_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        self.shared.look(|cluster| cluster.log_start_offset(topic, partition))
    }

    /// Deletes every record below `offset`, as retention does.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.act(|cluster, now| cluster.delete_records(now, topic, partition, offset))
    }

    /// Cuts the log's end back to `offset` (to the start of the batch that holds it) under a new leader epoch, as an
    /// unclean leader election does.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.act(|cluster, now| cluster.truncate(now, topic, partition, offset))
    }

    /// An unclean leader election: `node` leads from now on, under the next leader epoch, and its log ends at
    /// `offset` (at the start of the batch that holds it). What the former leader had beyond is gone.
    ///
    /// # Errors
    /// There is no such partition or node, or the node is down.
    pub fn elect_uncleanly(&self, topic: &str, partition: i32, node: i32, offset: i64) -> Result<()> {
        self.shared.act(|cluster, now| cluster.elect_uncleanly(now, topic, partition, node, offset))
    }

    /// Holds the log of a follower at `offset`, so that it lags behind its leader; none lets it follow again.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn hold_replica(&self, topic: &str, partition: i32, node: i32, offset: Option<i64>) -> Result<()> {
        self.shared.act(|cluster, now| cluster.hold_replica(now, topic, partition, node, offset))
    }

    /// Holds the high watermark at `offset`; none lets it follow the log's end again.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn hold_high_watermark(&self, topic: &str, partition: i32, offset: Option<i64>) -> Result<()> {
        self.shared.act(|cluster, now| cluster.hold_high_watermark(now, topic, partition, offset))
    }

    // ---- leaders, coordinators, nodes --------------------------------------------------------------------------

    /// The leader (none while no replica is up) and leader epoch of a partition.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<(Option<i32>, i32)> {
        self.shared.look(|cluster| cluster.leader(topic, partition))
    }

    /// Makes a node the leader of a partition, under the next leader epoch.
    ///
    /// # Errors
    /// There is no such partition or node, or the node is down.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        self.shared.act(|cluster, now| cluster.move_leader(now, topic, partition, node))
    }

    /// Leaves a partition without a leader until one is moved there or a node comes or goes.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn lose_leader(&self, topic: &str, partition: i32) -> Result<()> {
        self.shared.act(|cluster, now| cluster.lose_leader(now, topic, partition))
    }

    /// Freezes what Metadata says of leaders and leader epochs, whatever happens to them (stale metadata), or lets
    /// it be true again.
    pub fn freeze_metadata(&self, freeze: bool) {
        self.shared.act(|cluster, _| cluster.freeze_metadata(freeze));
    }

    /// Lets a node close every new connection at once, or take them again.
    ///
    /// # Errors
    /// There is no such node.
    pub fn turn_away(&self, node: i32, yes: bool) -> Result<()> {
        self.shared.act(|cluster, _| cluster.turn_away(node, yes))
    }

    /// The node that coordinates a group; none while all nodes are down.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shared.look(|cluster| cluster.coordinator(group))
    }

    /// Makes a node the coordinator of a group.
    ///
    /// Parked requests get NOT_COORDINATOR. The new coordinator knows the group as it was when it was last stable or
    /// empty, and gives every member a fresh session.
    ///
    /// # Errors
    /// There is no such node, or it is down.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<()> {
        self.shared.act(|cluster, now| cluster.move_coordinator(now, group, node))
    }

    /// Takes a node down: its connections are closed, its port refuses, other replicas lead its partitions and other
    /// nodes coordinate its groups.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stop_node(&self, node: i32) -> Result<()> {
        self.shared.act(|cluster, now| cluster.stop_node(now, node))?;
        self.shared.stop_listening(node);
        Ok(())
    }

    /// Brings a node back on its old port.
    ///
    /// # Errors
    /// There is no such node, or its port is taken.
    pub fn start_node(&self, node: i32) -> Result<()> {
        let address = self.shared.look(|cluster| {
            let found = cluster.addresses().find(|(id, ..)| *id == node);
            found.map(|(_, host, port)| (host.to_owned(), port)).filter(|_| !cluster.is_up(node))
        });
        if let Some((host, port)) = address
            && !self.in_memory
        {
            self.shared.listen(node, &host, port)?;
        }
        self.shared.act(|cluster, now| cluster.start_node(now, node))
    }

    /// Closes all connections of all nodes; they may come back at once.
    pub fn kill_connections(&self) {
        self.shared.act(|cluster, _| cluster.close_connections(None));
    }

    /// Closes all connections of one node.
    pub fn kill_connections_of(&self, node: i32) {
        self.shared.act(|cluster, _| cluster.close_connections(Some(node)));
    }

    /// Closes one connection (its number is in [`Observed::connection`]).
    pub fn kill_connection(&self, connection: u64) {
        self.shared.act(|cluster, _| cluster.close_connection(ConnectionId(connection)));
    }

    /// How many connections are open.
    pub fn connection_count(&self) -> usize {
        self.shared.look(|cluster| cluster.connection_count(None))
    }

    /// How many connections are open to one node.
    pub fn connection_count_of(&self, node: i32) -> usize {
        self.shared.look(|cluster| cluster.connection_count(Some(node)))
    }

    /// Forgets all fetch sessions: the next incremental Fetch gets FETCH_SESSION_ID_NOT_FOUND, which is routine
    /// (KIP-227).
    pub fn evict_fetch_sessions(&self) {
        self.shared.act(|cluster, _| cluster.evict_fetch_sessions());
    }

    // ---- groups ------------------------------------------------------------------------------------------------

    /// The committed offset of a group for a partition; none when nothing was committed.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.committed_offset(group, topic, partition).map(|committed| committed.offset)
    }

    /// The committed offset with its leader epoch and metadata.
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.shared.look(|cluster| cluster.committed(group, topic, partition).cloned())
    }

    /// Stores an offset as an administrator would, whatever the group's state.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn set_committed(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.act(|cluster, _| cluster.set_committed(group, topic, partition, offset))
    }

    /// Every commit that a coordinator accepted, in order.
    pub fn commits(&self) -> Vec<Commit> {
        self.shared.look(|cluster| cluster.commits().to_vec())
    }

    /// State, generation, coordinator and members of a group; none when there is no such group.
    pub fn group(&self, group: &str) -> Option<GroupInfo> {
        self.shared.look(|cluster| cluster.group(group))
    }

    /// The member ids of a group; empty when there is no such group.
    pub fn group_members(&self, group: &str) -> Vec<String> {
        self.group(group).map(|g| g.members.into_iter().map(|m| m.member_id).collect()).unwrap_or_default()
    }

    // ---- faults ------------------------------------------------------------------------------------------------

    /// Adds a fault to the script.
    pub fn fault(&self, fault: Fault) -> FaultHandle {
        let index = self.shared.act(|cluster, _| cluster.add_fault(fault));
        FaultHandle { shared: Arc::clone(&self.shared), index }
    }

    /// Answers the next request of `api` with `error`; both by value or by Kafka's name.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ottla_broker::BrokerError> {
    /// # let broker = ottla_broker::Broker::builder().start().await?;
    /// broker.fail_next("OffsetCommit", "NOT_COORDINATOR")?;
    /// assert!(broker.fail_next("OffsetComit", "NOT_COORDINATOR").unwrap_err().to_string().contains("OffsetCommit"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A name is not known; the text lists the nearest.
    pub fn fail_next(
        &self,
        api: impl TryInto<Api, Error: Into<BrokerError>>,
        error: impl TryInto<ErrorCode, Error: Into<BrokerError>>,
    ) -> Result<FaultHandle> {
        let api = api.try_into().map_err(Into::into)?;
        let error = error.try_into().map_err(Into::into)?;
        Ok(self.fault(Fault::on(api).error(error)))
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.act(|cluster, _| cluster.cancel_faults());
    }

    /// Faults that have not hit as often as they were meant to: a test can assert that there are none.
    pub fn unfired_faults(&self) -> Vec<Fault> {
        self.shared.look(|cluster| cluster.unfired_faults().cloned().collect())
    }

    // ---- observation -------------------------------------------------------------------------------------------

    /// All requests that the brokers took up, oldest first (the latest 100,000).
    pub fn requests(&self) -> Vec<Observed> {
        self.shared.look(|cluster| cluster.requests().cloned().collect())
    }

    /// A place in the log: what comes now has an index of at least this.
    pub fn mark(&self) -> u64 {
        self.shared.look(|cluster| cluster.next_request_index())
    }

    /// The requests from a [`mark`](Self::mark) on.
    pub fn requests_since(&self, mark: u64) -> Vec<Observed> {
        self.shared.look(|cluster| {
            let mut since: Vec<Observed> =
                cluster.requests().rev().take_while(|request| request.index >= mark).cloned().collect();
            since.reverse();
            since
        })
    }

    /// How many requests since a mark are like this.
    pub fn count_since(&self, mark: u64, matches: impl FnMut(&Observed) -> bool) -> usize {
        let mut matches = matches;
        self.requests_since(mark).iter().filter(|request| matches(request)).count()
    }

    /// Waits for the first request, past or future, that is like this.
    ///
    /// It may not have been answered yet: ask for `answered_at.is_some()` when that matters.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait_for(&self, matches: impl FnMut(&Observed) -> bool) -> Observed {
        self.wait_for_since(0, matches).await
    }

    /// Waits for the first request from a mark on that is like this.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait_for_since(&self, mark: u64, mut matches: impl FnMut(&Observed) -> bool) -> Observed {
        let mut changed = self.shared.subscribe();
        // Requests below this were seen in their final form.
        let mut settled = mark;
        loop {
            changed.mark_unchanged();
            let found = self.shared.look(|cluster| {
                let mut prefix = true;
                let first = cluster.requests().next().map_or(0, |request| request.index);
                for request in cluster.requests().skip(settled.saturating_sub(first) as usize) {
                    if request.index < settled {
                        continue;
                    }
                    if matches(request) {
                        return Some(request.clone());
                    }
                    prefix &= request.answered_at.is_some();
                    if prefix {
                        settled = request.index + 1;
                    }
                }
                None
            });
            match found {
                Some(request) => return request,
                // The sender lives as long as `self`.
                None => drop(changed.changed().await),
            }
        }
    }

    /// Waits until the cluster is like this; looked at after everything that happens.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait_until(&self, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.shared.subscribe();
        loop {
            changed.mark_unchanged();
            if holds(self) {
                return;
            }
            drop(changed.changed().await);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A fault in the script of a running [`Broker`].
#[derive(Debug, Clone)]
pub struct FaultHandle {
    shared: Arc<Shared>,
    index: usize,
}

impl FaultHandle {
    /// How many requests it has hit.
    pub fn fired(&self) -> u32 {
        self.shared.look(|cluster| cluster.fault_fired(self.index))
    }

    /// Waits until it has hit `times` requests.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn wait_fired(&self, times: u32) {
        let mut changed = self.shared.subscribe();
        while {
            changed.mark_unchanged();
            self.fired() < times
        } {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends it: no further request is hit.
    pub fn cancel(&self) {
        self.shared.act(|cluster, _| cluster.cancel_fault(self.index));
    }
}
