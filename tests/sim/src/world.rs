//! Everything that runs: brokers, clients, and the network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Api;
use ottla_broker::sim::{Cluster, ClusterConfig, ConnectionId as BrokerConn};
use ottla_core::client::{Action, Command};
use ottla_core::config::Config;
use ottla_core::{CommandId, ConnectionId, Error, ErrorKind, Rng, Timestamp};

use super::jepsen::History;
use super::link::Link;
use super::member::Member;
use super::network::{Condition, Conditions, Queue, Way, Weather, Wire};
use super::tamper::{Answer, Lie, Then};
use super::trace::Trace;

#[cfg(test)]
mod tests;
mod wires;

/// Numbers the members of a world in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub usize);

impl std::fmt::Display for MemberId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("m{}", self.0))
    }
}

/// Everything that runs.
pub struct World {
    /// The brokers.
    pub cluster: Cluster,
    members: Vec<Member>,
    links: BTreeMap<BrokerConn, Link>,
    ids: BTreeMap<(MemberId, ConnectionId), BrokerConn>,
    /// Connections that are being made.
    connecting: BTreeSet<(MemberId, ConnectionId)>,
    queue: Queue,
    now: Timestamp,
    rng: Rng,
    next_link: u64,
    steps: u64,
    lies: Vec<Lie>,
    /// Bytes travel one by one.
    dribble: bool,
    /// When somebody tried to connect, and to which port.
    pub connects: Vec<(Timestamp, u16)>,
    /// Who that was.
    pub(super) connectors: Vec<MemberId>,
    /// What goes on in the network.
    pub(super) conditions: Conditions,
    /// Nodes whose connections end without a word.
    silent: BTreeSet<i32>,
    /// Members to be looked after.
    touched: BTreeSet<usize>,
    /// What happened, for Jepsen's checker, if it is to judge.
    pub(super) history: Option<History>,
    /// What happened.
    pub trace: Trace,
    traced: u64,
    /// State machines that have moved, for whoever counts them.
    moves: Vec<Move>,
    /// Timers fire only at multiples of this.
    coarse: Option<Duration>,
    /// Clients that stand still, and until when.
    frozen: BTreeMap<usize, Timestamp>,
}

/// From, to, which machine.
type Move = (&'static str, &'static str, &'static str);

fn broker_time(now: Timestamp) -> ottla_broker::sim::Timestamp {
    ottla_broker::sim::Timestamp::from_nanos(now.as_nanos())
}

fn reset_by_peer() -> Error {
    Error::new(ErrorKind::Transport, "connection reset by peer")
}

impl World {
    /// A cluster of `nodes` brokers without topics.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self::with_config(seed, ClusterConfig::with_nodes(nodes))
    }

    /// A cluster with settings of its own.
    pub fn with_config(seed: u64, mut config: ClusterConfig) -> Self {
        config.seed = seed;
        Self {
            cluster: Cluster::new(config),
            members: Vec::new(),
            links: BTreeMap::new(),
            ids: BTreeMap::new(),
            connecting: BTreeSet::new(),
            queue: Queue::default(),
            now: Timestamp::ZERO,
            rng: Rng::new(seed),
            next_link: 0,
            steps: 0,
            lies: Vec::new(),
            dribble: false,
            connects: Vec::new(),
            connectors: Vec::new(),
            conditions: Conditions::default(),
            silent: BTreeSet::new(),
            touched: BTreeSet::new(),
            history: None,
            trace: Trace::default(),
            traced: 0,
            moves: Vec::new(),
            coarse: None,
            frozen: BTreeMap::new(),
        }
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The present, as the brokers' core wants it.
    pub fn broker_now(&self) -> ottla_broker::sim::Timestamp {
        broker_time(self.now)
    }

    /// How many steps it took so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A configuration that finds the cluster and has short timeouts.
    pub fn config(&self) -> Config {
        let bootstrap = self.cluster.addresses().map(|(_, host, port)| (host.to_owned(), port)).collect();
        Config { bootstrap, ..Config::default() }
    }

    /// A new client.
    pub fn join(&mut self, config: Config) -> MemberId {
        let id = MemberId(self.members.len());
        let seed = self.rng.next_u64();
        self.members.push(Member::new(config, seed, self.now));
        self.trace.line(self.now, id, || "starts".to_owned());
        self.touched.insert(id.0);
        self.drain();
        id
    }

    /// How many members there are or were.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// A client, to look at or to read with.
    pub fn member(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[id.0]
    }

    /// A client, to look at.
    pub fn look(&self, id: MemberId) -> &Member {
        &self.members[id.0]
    }

    /// Gives a command to a client.
    pub fn command(&mut self, id: MemberId, command: Command) {
        self.ask(id, command);
    }

    /// The same; its outcome comes out under this id.
    pub(super) fn ask(&mut self, id: MemberId, command: Command) -> CommandId {
        let now = self.now;
        self.trace.line(now, id, || format!("command {command:?}"));
        let command = self.members[id.0].command(now, command);
        self.touched.insert(id.0);
        self.drain();
        command
    }

    /// The client is gone without a word: its connections break, nothing of it runs any more.
    pub fn kill(&mut self, id: MemberId) {
        self.trace.line(self.now, id, || "is killed".to_owned());
        self.members[id.0].kill();
        for conn in self.links_of(|l| l.member == id) {
            self.unlink(conn);
            self.links.remove(&conn);
            self.cluster.handle_closed(self.broker_now(), conn);
        }
        self.drain();
    }

    /// Lets `member` read once; whatever it got is in its record of what was seen.
    pub fn read(&mut self, id: MemberId) -> bool {
        let now = self.now;
        let got = self.members[id.0].read(now);
        self.tend(id);
        got
    }

    /// The reader of `member` did something: its driver is woken if it has to know.
    pub fn tend(&mut self, id: MemberId) {
        if self.members[id.0].handle_delivery(self.now) {
            self.touched.insert(id.0);
        }
        self.drain();
    }

    /// Runs until `done`, reading with every live member as long as something is there.
    ///
    /// # Panics
    /// When it takes longer than `limit` of virtual time: a guard against hanging.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + limit;
        loop {
            for id in (0..self.members.len()).map(MemberId) {
                while self.members[id.0].reads_by_itself() && self.read(id) {}
            }
            if done(self) {
                return;
            }
            assert!(self.now < deadline, "not done after {limit:?} of virtual time and {} steps", self.steps);
            self.step(deadline);
        }
    }

    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(time + Duration::from_nanos(1), |w| w.now >= end);
    }

    /// The next event, or the next timer, or `limit`.
    pub fn step(&mut self, limit: Timestamp) {
        self.steps += 1;
        let timers = (0..self.members.len()).filter_map(|i| self.due(i)).min();
        let brokers = self.cluster.next_timeout().map(|t| Timestamp::from_nanos(t.as_nanos()));
        let next =
            [self.queue.next(), timers, brokers, Some(limit)].into_iter().flatten().min().unwrap_or(limit);
        self.now = self.now.max(next.min(limit));
        let now = self.now;
        while let Some(wire) = self.queue.pop(now) {
            self.deliver(wire);
            self.drain();
        }
        if brokers.is_some_and(|t| t <= now) {
            self.cluster.handle_timeout(broker_time(now));
        }
        for index in 0..self.members.len() {
            if self.due(index).is_some_and(|at| at <= now) && self.members[index].handle_timeout(now) {
                self.touched.insert(index);
            }
        }
        self.drain();
    }

    /// When a client's timer fires.
    fn due(&self, index: usize) -> Option<Timestamp> {
        let mut at = self.members[index].next_timeout()?;
        if let Some(coarse) = self.coarse {
            let step = coarse.as_nanos() as u64;
            at = Timestamp::from_nanos(at.as_nanos().div_ceil(step).saturating_mul(step));
        }
        Some(self.frozen.get(&index).map_or(at, |until| at.max(*until)))
    }

    /// Timers fire late from now on, or exactly again.
    pub fn coarse_timers(&mut self, step: Option<Duration>) {
        self.coarse = step;
    }

    /// A client stands still: its timers wait, and nothing reaches it.
    pub fn freeze(&mut self, id: MemberId, until: Timestamp) {
        self.frozen.insert(id.0, until);
        let (member, node, what) = (Some(id), None, Weather::Blocked);
        self.weather(Condition { member, node, way: Way::Both, until, what });
    }

    /// Until when a client stands still; long ago if it does not.
    pub fn stands_until(&self, id: MemberId) -> Timestamp {
        self.frozen.get(&id.0).copied().unwrap_or(Timestamp::ZERO)
    }

    /// State machines that have moved since this was last asked.
    pub(super) fn take_moves(&mut self) -> Vec<Move> {
        std::mem::take(&mut self.moves)
    }

    /// The trace of it all.
    pub fn into_trace(self) -> Trace {
        self.trace
    }

    fn deliver(&mut self, wire: Wire) {
        let now = self.now;
        match wire {
            Wire::Connect { member, conn, port } => self.connect(member, conn, port),
            Wire::ToBroker { link, bytes } => {
                let Some(l) = self.links.get(&link).filter(|l| l.open) else { return };
                if l.half_open {
                    // Nobody there knows of it: once the node answers again, it says so.
                    if self.cluster.is_up(l.node) {
                        let at = self.now + Duration::from_micros(200);
                        self.queue.push(at, Wire::Closed { link });
                    }
                    return;
                }
                self.trace.number(now.as_nanos() ^ link.0);
                self.trace.bytes(&bytes);
                self.cluster.handle_bytes(broker_time(now), link, &bytes);
                self.trace_requests();
            }
            Wire::ToClient { link, bytes } => {
                if let Some(l) = self.links.get_mut(&link).filter(|l| l.open) {
                    l.coming = l.coming.saturating_sub(bytes.len());
                    let arrives = l.left.map_or(bytes.len(), |left| left.min(bytes.len()));
                    l.left = l.left.map(|left| left - arrives);
                    if arrives == 0 {
                        return;
                    }
                    let bytes = bytes.slice(..arrives);
                    self.trace.number(now.as_nanos() ^ !link.0);
                    self.trace.bytes(&bytes);
                    l.buf.extend_from_slice(&bytes);
                    self.members[l.member.0].handle_bytes(now, l.conn, &mut l.buf);
                    self.touched.insert(l.member.0);
                }
            }
            Wire::Closed { link } => {
                if let Some(l) = self.links.remove(&link).filter(|l| l.open) {
                    self.trace
                        .line(now, l.member, || format!("connection {} to n{} is closed", l.conn.0, l.node));
                    self.ids.remove(&(l.member, l.conn));
                    self.members[l.member.0].handle_closed(now, l.conn, reset_by_peer());
                    self.touched.insert(l.member.0);
                }
            }
        }
    }

    fn connect(&mut self, member: MemberId, conn: ConnectionId, port: u16) {
        if !self.connecting.remove(&(member, conn)) {
            return;
        }
        let now = self.now;
        self.touched.insert(member.0);
        match self.cluster.node_at(port) {
            Some(node) if self.cluster.is_up(node) => {
                let link = BrokerConn(self.next_link);
                self.next_link += 1;
                self.trace.line(now, member, || format!("connection {} to n{node} is made", conn.0));
                self.cluster.handle_connected(broker_time(now), node, link);
                self.links.insert(link, Link::new(member, conn, node));
                self.ids.insert((member, conn), link);
                self.members[member.0].handle_connected(now, conn);
            }
            _ => {
                let error = Error::new(ErrorKind::Transport, "connection refused");
                self.members[member.0].handle_closed(now, conn, error);
            }
        }
    }

    /// Hands on everything that clients and brokers have to say until nobody says anything.
    pub(super) fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(index) = self.touched.pop_first() {
                while let Some(action) = self.members[index].poll_action() {
                    quiet = false;
                    self.act(MemberId(index), action);
                }
                let now = self.now;
                for (from, to, what) in self.members[index].settle() {
                    self.trace.line(now, MemberId(index), || format!("{what}: {from} → {to}"));
                    self.moves.push((from, to, what));
                }
            }
            while let Some((link, bytes)) = self.cluster.poll_response() {
                quiet = false;
                self.answer(link, bytes);
            }
            while let Some(link) = self.cluster.poll_close() {
                quiet = false;
                let Some(l) = self.links.get_mut(&link) else { continue };
                if self.silent.contains(&l.node) {
                    l.half_open = true;
                    continue;
                }
                let at = l.after(true, self.now + Duration::from_micros(50));
                self.queue.push(at, Wire::Closed { link });
            }
            if quiet {
                return;
            }
        }
    }

    /// The requests that brokers took up, for whoever reads.
    fn trace_requests(&mut self) {
        if !self.trace.is_on() {
            return;
        }
        let Self { cluster, trace, traced, now, .. } = self;
        let news: Vec<_> = cluster.requests().rev().take_while(|r| r.index >= *traced).collect();
        for r in news.into_iter().rev() {
            *traced = r.index + 1;
            let node = format!("n{}", r.node);
            trace.line(*now, node, || {
                let named: Vec<String> = r
                    .partitions
                    .iter()
                    .map(|p| {
                        let (index, at) = (p.partition.unwrap_or(-1), p.offset.unwrap_or(-1));
                        format!("{}-{index}@{at}", p.topic)
                    })
                    .collect();
                let id = r.client_id.as_deref().unwrap_or_default();
                let (api, generation) = (r.api, r.generation.map_or(String::new(), |g| format!(" gen {g}")));
                let faulted = if r.faulted { " FAULT" } else { "" };
                format!("takes {api} of {id} #{}{generation} {}{faulted}", r.correlation_id, named.join(" "))
            });
        }
    }

    /// An answer leaves a broker, as it is or as somebody's lie.
    fn answer(&mut self, link: BrokerConn, bytes: Bytes) {
        let mut then = Then::GoesOn;
        let mut frame = bytes;
        let id = frame.get(4..8).and_then(|id| id.first_chunk()).map(|id| i32::from_be_bytes(*id));
        if let (Some(l), Some(id)) = (self.links.get_mut(&link), id)
            && let Some((key, version)) = l.asked.remove(&id)
        {
            let (node, member) = (l.node, l.member);
            if let Some(api) = Api::from_key(key) {
                let length = frame.len();
                let Self { trace, cluster, now, .. } = self;
                trace.line(*now, format_args!("n{node}"), || {
                    let asked =
                        |r: &&ottla_broker::Observed| r.connection == link.0 && r.correlation_id == id;
                    let error = cluster.requests().rev().find(asked).and_then(|r| r.error);
                    let error = error.map_or(String::new(), |error| format!(", {error}"));
                    format!("answers {api} #{id} of {member}: {length} bytes{error}")
                });
                if !self.lies.is_empty()
                    && let Some(mut answer) = Answer::new(node, api, version, frame.clone())
                {
                    self.lies.iter_mut().for_each(|lie| lie.tell(&mut answer));
                    (frame, then) = answer.into_parts();
                }
            }
        }
        if self.links.get(&link).is_some_and(|l| l.stalled) {
            return;
        }
        self.send(link, &frame, true);
        match then {
            Then::GoesOn => {}
            Then::Closes => self.cluster.close_connection(link),
            Then::Stalls => {
                if let Some(l) = self.links.get_mut(&link) {
                    l.stalled = true;
                }
            }
        }
    }

    /// From now on brokers lie. The number is for [`told`](Self::told).
    pub fn lie(&mut self, lie: Lie) -> usize {
        self.lies.push(lie);
        self.lies.len() - 1
    }

    /// Bytes travel one by one, or not.
    pub fn dribble(&mut self, dribble: bool) {
        self.dribble = dribble;
    }

    /// How often a lie was told.
    pub fn told(&self, lie: usize) -> usize {
        self.lies[lie].told()
    }

    /// A lie is not told any more.
    pub(super) fn stop_lying(&mut self, lie: usize) {
        self.lies[lie].stop();
    }

    /// All brokers are honest from now on.
    pub fn heal(&mut self) {
        self.lies.iter_mut().for_each(Lie::stop);
        self.cluster.cancel_faults();
        self.conditions.clear();
        self.silent.clear();
    }

    fn act(&mut self, member: MemberId, action: Action) {
        match action {
            Action::Connect { conn, port, .. } => {
                self.connects.push((self.now, port));
                self.connectors.push(member);
                self.connecting.insert((member, conn));
                let node = self.cluster.node_at(port).unwrap_or(-1);
                let there = self.conditions.judge(self.now, (member, node, false), &mut self.rng);
                let back = self.conditions.judge(self.now, (member, node, true), &mut self.rng);
                let begin = there.not_before.max(back.not_before);
                let at = begin + there.later + back.later + self.latency();
                self.queue.push(at, Wire::Connect { member, conn, port });
            }
            Action::Send { conn, bytes } => {
                if let Some(link) = self.ids.get(&(member, conn)).copied() {
                    let (now, trace) = (self.now, &mut self.trace);
                    if let Some(l) = self.links.get_mut(&link) {
                        let node = l.node;
                        l.ask(&bytes, |key, version, id| {
                            trace.line(now, member, || {
                                let api = Api::from_key(key).map_or("?", Api::name);
                                format!("sends {api} v{version} #{id} to n{node} on connection {}", conn.0)
                            });
                        });
                    }
                    self.send(link, &bytes, false);
                }
            }
            Action::Close { conn } => {
                self.connecting.remove(&(member, conn));
                if let Some(link) = self.ids.remove(&(member, conn)) {
                    self.trace.line(self.now, member, || format!("closes connection {}", conn.0));
                    self.unlink(link);
                    self.links.remove(&link);
                    self.cluster.handle_closed(self.broker_now(), link);
                }
            }
            Action::Compute(job) => {
                let assignment = job.run();
                self.members[member.0].handle_computed(self.now, job.id, &assignment);
                self.touched.insert(member.0);
            }
        }
    }
}
