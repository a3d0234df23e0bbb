//! The sans-IO cluster: connections and requests in, answers out. No clock, no sockets, no hash order.

mod admin;
mod admin_api;
pub(crate) mod batch;
mod config;
mod connection;
mod consumer_group_api;
mod coordinator;
mod dispatch;
mod elections;
mod fetch;
pub(crate) mod group;
mod group_api;
mod groups_admin;
mod list_offsets;
mod log;
mod metadata;
mod offsets_api;
mod produce;
pub(crate) mod records;
mod session;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

pub use config::{ClusterConfig, NodeConfig};
use connection::{Connection, InFlight};
use fetch::ParkedFetch;
use group::Group;
use session::SessionCache;
use topics::Topics;

use crate::fault::Script;
use crate::observe::Observed;
use crate::rng::Rng;
use crate::time::Timestamp;

/// A connection, named by whoever drives the cluster. A number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A request: its place in the observation log.
pub(crate) type RequestId = u64;

/// Leader (if any) and leader epoch by topic and partition.
type Leaders = BTreeMap<(String, i32), (Option<i32>, i32)>;

/// What the cluster waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A request held back by a fault is processed.
    Process(RequestId),
    /// An answer held back by a fault leaves.
    Release(RequestId),
    /// A throttled connection is read again.
    Unmute(ConnectionId),
    /// A long poll is over.
    FetchWait(RequestId),
    /// A group has something to do.
    Group(String),
}

#[derive(Debug)]
struct Node {
    host: String,
    port: u16,
    rack: Option<String>,
    up: bool,
    /// Takes connections and closes them at once.
    turns_away: bool,
    sessions: SessionCache,
}

/// An embedded Kafka cluster as a value: the sans-IO core that sockets or a simulator drive.
///
/// Feed it with `handle_*`, each time with the present [`Timestamp`]; after every call drain
/// [`poll_response`](Self::poll_response) and then [`poll_close`](Self::poll_close) until both give none, and call
/// [`handle_timeout`](Self::handle_timeout) when [`next_timeout`](Self::next_timeout) has come. A spurious timeout
/// does nothing. The same configuration and the same calls give the same bytes.
///
/// Requests of one connection are answered strictly in order, and a connection is not read while one of its requests
/// is in work: a parked JoinGroup or a long poll blocks what is queued behind it, as in Kafka.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    cluster_id: String,
    rng: Rng,
    nodes: BTreeMap<i32, Node>,
    topics: Topics,
    groups: BTreeMap<String, Group>,
    /// Groups whose coordinator was moved by hand.
    pinned_coordinators: BTreeMap<String, i32>,
    connections: BTreeMap<ConnectionId, Connection>,
    in_flight: BTreeMap<RequestId, InFlight>,
    parked_fetches: BTreeMap<RequestId, ParkedFetch>,
    timers: BTreeSet<(Timestamp, Timer)>,
    group_timers: BTreeMap<String, Timestamp>,
    ready: VecDeque<ConnectionId>,
    responses: VecDeque<(ConnectionId, Bytes)>,
    closes: VecDeque<ConnectionId>,
    script: Script,
    observed: VecDeque<Observed>,
    next_request: RequestId,
    next_producer_id: i64,
    commits: Vec<group::Commit>,
    /// What Metadata says of leaders while it is frozen: leader and leader epoch.
    frozen_leaders: Option<Leaders>,
    /// Only every other answer is of then.
    flapping: bool,
    flips: u64,
}

impl Cluster {
    /// Makes a cluster; all nodes are up.
    pub fn new(config: ClusterConfig) -> Self {
        let mut rng = Rng::new(config.seed);
        let cluster_id = rng.uuid_base64();
        let nodes = config
            .nodes
            .iter()
            .map(|n| {
                let sessions = SessionCache::new(config.fetch_session_slots);
                let (host, rack) = (n.host.clone(), n.rack.clone());
                (n.id, Node { host, port: n.port, rack, up: true, turns_away: false, sessions })
            })
            .collect();
        Self {
            config,
            cluster_id,
            rng,
            nodes,
            topics: Topics::default(),
            groups: BTreeMap::new(),
            pinned_coordinators: BTreeMap::new(),
            connections: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            parked_fetches: BTreeMap::new(),
            timers: BTreeSet::new(),
            group_timers: BTreeMap::new(),
            ready: VecDeque::new(),
            responses: VecDeque::new(),
            closes: VecDeque::new(),
            script: Script::default(),
            observed: VecDeque::new(),
            next_request: 0,
            next_producer_id: 1000,
            commits: Vec::new(),
            frozen_leaders: None,
            flapping: false,
            flips: 0,
        }
    }

    /// Bytes to write to a connection as they are: whole frames with their length prefix, except where a fault cuts
    /// one.
    pub fn poll_response(&mut self) -> Option<(ConnectionId, Bytes)> {
        self.responses.pop_front()
    }

    /// A connection to close, after everything that `poll_response` gave for it has been written.
    pub fn poll_close(&mut self) -> Option<ConnectionId> {
        self.closes.pop_front()
    }

    /// When `handle_timeout` is due.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.timers.first() {
            if *at > now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Process(request) => self.process_delayed(now, request),
                Timer::Release(request) => self.release(now, request),
                Timer::Unmute(connection) => self.unmute(connection),
                Timer::FetchWait(request) => self.fetch_wait_over(now, request),
                Timer::Group(group) => self.group_timeout(now, &group),
            }
            self.pump(now);
        }
    }

    /// Milliseconds since 1970 at `now`.
    fn wall_ms(&self, now: Timestamp) -> i64 {
        self.config.start_time_ms.saturating_add(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    fn node_ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    fn up_nodes(&self) -> BTreeSet<i32> {
        self.nodes.iter().filter(|(_, node)| node.up).map(|(id, _)| *id).collect()
    }
}
