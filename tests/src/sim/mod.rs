//! Client cores and the embedded broker's core in one process, over a seeded virtual network on virtual time.
//!
//! Nothing here sleeps and nothing here is random but the seed: latency, and where bytes are cut. The same seed
//! gives the same run.

mod member;
pub mod meter;
mod network;
mod tamper;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_broker::Api;
use ottla_broker::sim::{Cluster, ClusterConfig, ConnectionId as BrokerConn};
use ottla_core::client::Action;
use ottla_core::config::Config;
use ottla_core::{ConnectionId, Error, ErrorKind, Rng, Timestamp};

pub use member::{Member, Seen};
use network::{Queue, Wire};
use tamper::Then;
pub use tamper::{Answer, Lie};

/// Numbers the members of a world in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub usize);

/// A connection as the network sees it.
#[derive(Debug)]
struct Link {
    member: MemberId,
    conn: ConnectionId,
    node: i32,
    /// What was asked on it and not answered: API and version by correlation id.
    asked: BTreeMap<i32, (i16, i16)>,
    buf: BytesMut,
    /// Nothing reaches the client any more, and it is not told.
    stalled: bool,
    /// Both ends know each other; nothing is delivered to a link that is gone.
    open: bool,
}

impl Link {
    fn new(member: MemberId, conn: ConnectionId, node: i32) -> Self {
        Self { member, conn, node, asked: BTreeMap::new(), buf: BytesMut::new(), stalled: false, open: true }
    }

    /// Keeps in mind what is asked.
    fn ask(&mut self, mut frames: &[u8]) {
        while let Some((length, rest)) = frames.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let (Some(&[k, e, v, r, c0, c1, c2, c3]), Some(next)) =
                (rest.first_chunk::<8>(), rest.get(length..))
            else {
                return;
            };
            let id = i32::from_be_bytes([c0, c1, c2, c3]);
            self.asked.insert(id, (i16::from_be_bytes([k, e]), i16::from_be_bytes([v, r])));
            frames = next;
        }
    }
}

/// Everything that runs.
pub struct World {
    /// The brokers.
    pub cluster: Cluster,
    members: Vec<Member>,
    links: BTreeMap<BrokerConn, Link>,
    ids: BTreeMap<(MemberId, ConnectionId), BrokerConn>,
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
}

fn broker_time(now: Timestamp) -> ottla_broker::sim::Timestamp {
    ottla_broker::sim::Timestamp::from_nanos(now.as_nanos())
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
            queue: Queue::default(),
            now: Timestamp::ZERO,
            rng: Rng::new(seed),
            next_link: 0,
            steps: 0,
            lies: Vec::new(),
            dribble: false,
            connects: Vec::new(),
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
        self.drain();
        id
    }

    /// A client, to look at or to read with.
    pub fn member(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[id.0]
    }

    /// Gives a command to a client.
    pub fn command(&mut self, id: MemberId, command: ottla_core::client::Command) {
        let now = self.now;
        self.members[id.0].command(now, command);
        self.drain();
    }

    /// The client is gone without a word: its connections break, nothing of it runs any more.
    pub fn kill(&mut self, id: MemberId) {
        self.members[id.0].kill();
        let links: Vec<_> =
            self.links.iter().filter(|(_, l)| l.member == id && l.open).map(|(c, _)| *c).collect();
        for conn in links {
            self.unlink(conn);
            self.cluster.handle_closed(self.broker_now(), conn);
        }
        self.drain();
    }

    /// Lets `member` read once; whatever it got is in its record of what was seen.
    pub fn read(&mut self, id: MemberId) -> bool {
        let now = self.now;
        let got = self.members[id.0].read(now);
        self.members[id.0].handle_delivery(now);
        self.drain();
        got
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
    fn step(&mut self, limit: Timestamp) {
        self.steps += 1;
        let timers = self.members.iter().filter_map(Member::next_timeout).min();
        let brokers = self.cluster.next_timeout().map(|t| Timestamp::from_nanos(t.as_nanos()));
        let next =
            [self.queue.next(), timers, brokers, Some(limit)].into_iter().flatten().min().unwrap_or(limit);
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(wire) = self.queue.pop(now) {
            self.deliver(wire);
            self.drain();
        }
        if brokers.is_some_and(|t| t <= now) {
            self.cluster.handle_timeout(broker_time(now));
        }
        for member in &mut self.members {
            member.handle_timeout(now);
        }
        self.drain();
    }

    fn deliver(&mut self, wire: Wire) {
        let now = self.now;
        match wire {
            Wire::Connect { member, conn, port } => match self.cluster.node_at(port) {
                Some(node) if self.cluster.is_up(node) => {
                    let link = BrokerConn(self.next_link);
                    self.next_link += 1;
                    self.cluster.handle_connected(broker_time(now), node, link);
                    self.links.insert(link, Link::new(member, conn, node));
                    self.ids.insert((member, conn), link);
                    self.members[member.0].handle_connected(now, conn);
                }
                _ => {
                    let error = Error::new(ErrorKind::Transport, "connection refused");
                    self.members[member.0].handle_closed(now, conn, error);
                }
            },
            Wire::ToBroker { link, bytes } => {
                if self.links.get(&link).is_some_and(|l| l.open) {
                    self.cluster.handle_bytes(broker_time(now), link, &bytes);
                }
            }
            Wire::ToClient { link, bytes } => {
                if let Some(l) = self.links.get_mut(&link).filter(|l| l.open) {
                    l.buf.extend_from_slice(&bytes);
                    self.members[l.member.0].handle_bytes(now, l.conn, &mut l.buf);
                }
            }
            Wire::Closed { link } => {
                if let Some(l) = self.links.remove(&link).filter(|l| l.open) {
                    self.ids.remove(&(l.member, l.conn));
                    let error = Error::new(ErrorKind::Transport, "connection closed by the broker");
                    self.members[l.member.0].handle_closed(now, l.conn, error);
                }
            }
        }
    }

    /// Hands on everything that clients and brokers have to say until nobody says anything.
    fn drain(&mut self) {
        loop {
            let mut quiet = true;
            for index in 0..self.members.len() {
                while let Some(action) = self.members[index].poll_action() {
                    quiet = false;
                    self.act(MemberId(index), action);
                }
            }
            while let Some((link, bytes)) = self.cluster.poll_response() {
                quiet = false;
                self.answer(link, bytes);
            }
            while let Some(link) = self.cluster.poll_close() {
                quiet = false;
                let at = self.queue.after(link, true, self.now + Duration::from_micros(50));
                self.queue.push(at, Wire::Closed { link });
            }
            if quiet {
                return;
            }
        }
    }

    /// An answer leaves a broker, as it is or as somebody's lie.
    fn answer(&mut self, link: BrokerConn, bytes: Bytes) {
        let mut then = Then::GoesOn;
        let mut frame = bytes;
        let id = frame.get(4..8).and_then(|id| id.first_chunk()).map(|id| i32::from_be_bytes(*id));
        if let (Some(l), Some(id)) = (self.links.get_mut(&link), id)
            && let Some((key, version)) = l.asked.remove(&id)
            && let Some(api) = Api::from_key(key)
            && let Some(mut answer) = Answer::new(l.node, api, version, frame.clone())
        {
            self.lies.iter_mut().for_each(|lie| lie.tell(&mut answer));
            (frame, then) = answer.into_parts();
        }
        if self.links.get(&link).is_some_and(|l| l.stalled) {
            return;
        }
        self.send(link, &frame, |link, bytes| Wire::ToClient { link, bytes });
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

    /// All brokers are honest from now on.
    pub fn heal(&mut self) {
        self.lies.iter_mut().for_each(Lie::stop);
        self.cluster.cancel_faults();
    }

    fn act(&mut self, member: MemberId, action: Action) {
        match action {
            Action::Connect { conn, port, .. } => {
                self.connects.push((self.now, port));
                let at = self.now + self.latency();
                self.queue.push(at, Wire::Connect { member, conn, port });
            }
            Action::Send { conn, bytes } => {
                if let Some(link) = self.ids.get(&(member, conn)).copied() {
                    if let Some(l) = self.links.get_mut(&link) {
                        l.ask(&bytes);
                    }
                    self.send(link, &bytes, |link, bytes| Wire::ToBroker { link, bytes });
                }
            }
            Action::Close { conn } => {
                if let Some(link) = self.ids.remove(&(member, conn)) {
                    self.unlink(link);
                    self.cluster.handle_closed(self.broker_now(), link);
                }
            }
            Action::Compute(job) => {
                let assignment = job.run();
                self.members[member.0].handle_computed(self.now, job.id, &assignment);
            }
        }
    }

    fn unlink(&mut self, link: BrokerConn) {
        if let Some(l) = self.links.get_mut(&link) {
            l.open = false;
            self.ids.remove(&(l.member, l.conn));
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(100 + self.rng.below(900))
    }

    /// Puts bytes on their way, cut anywhere, in order.
    fn send(&mut self, link: BrokerConn, bytes: &Bytes, wire: impl Fn(BrokerConn, Bytes) -> Wire) {
        let mut rest = bytes.clone();
        let to_client = matches!(wire(link, Bytes::new()), Wire::ToClient { .. });
        while !rest.is_empty() {
            let cut = if self.dribble {
                1
            } else if self.rng.below(8) == 0 {
                1 + self.rng.below(rest.len() as u64) as usize
            } else {
                rest.len()
            };
            let part = rest.split_to(cut);
            let at = self.now + self.latency();
            let at = self.queue.after(link, to_client, at);
            self.queue.push(at, wire(link, part));
        }
    }
}
