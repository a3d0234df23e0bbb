//! Several members, one coordinator, a network that delays, breaks and swallows, all from one seed.
//!
//! What must hold: no partition has two owners for longer than a message may be on its way; nobody joins while a
//! revocation is open; nobody asks too often; and when the faults are over, everything has exactly one owner.

use std::collections::BTreeMap;

use super::stub::{Coordinator, Waiter};
use super::*;

const PARTITIONS: usize = 12;
const REQUEST_TIMEOUT: Duration = Duration::from_millis(5000);
/// Longest that a message is on its way.
const LATENCY: Duration = Duration::from_millis(40);

/// Two connections of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Group,
    Control,
}

#[derive(Debug)]
struct Pending {
    waiter: Waiter,
    lane: Lane,
    kind: Kind,
    request: GroupRequest,
    /// When the broker may read it.
    arrives: Timestamp,
    /// Read by the broker; what follows on the lane is not read before its answer.
    read: bool,
    /// The answer and when it is here.
    answer: Option<(Timestamp, Reply)>,
    fails: Timestamp,
}

struct Client {
    rig: Rig,
    subscribed: bool,
    /// When the coordinator is found, if it is looked for.
    found: Option<Timestamp>,
    connected: bool,
    pending: Vec<Pending>,
    /// What is being given back, and when the reader is done with it.
    revoking: Option<(Vec<TopicPartition>, Timestamp)>,
    owned: BTreeSet<TopicPartition>,
    /// Topics to be told, and when.
    wanted: Option<Timestamp>,
    /// Until then nothing it sends arrives and nothing arrives there.
    blackhole: Timestamp,
    computed: Option<Timestamp>,
    requests: u32,
}

struct World {
    rng: Rng,
    now: Timestamp,
    coordinator: Coordinator,
    clients: Vec<Client>,
    next_waiter: Waiter,
    known: ClusterTopics,
    /// Since when a partition has had more than one owner.
    doubled: BTreeMap<TopicPartition, Timestamp>,
    rebalances: u32,
}

impl World {
    fn new(seed: u64, members: usize, eager: bool) -> Self {
        let mut rng = Rng::new(seed);
        let client = |_| {
            let assignors = vec![if eager { Assignor::Range } else { Assignor::CooperativeSticky }];
            let backoff = (Duration::from_millis(100), Duration::from_millis(1000));
            let config = GroupConfig { assignors, ..config() };
            let mut rig = Rig::cooperative();
            rig.group = ClassicGroup::new(config, None, backoff, rng.split());
            Client {
                rig,
                subscribed: false,
                found: None,
                connected: false,
                pending: Vec::new(),
                revoking: None,
                owned: BTreeSet::new(),
                wanted: None,
                blackhole: Timestamp::ZERO,
                computed: None,
                requests: 0,
            }
        };
        let clients = (0..members).map(client).collect();
        Self {
            rng,
            now: Timestamp::from_millis(1_000_000),
            coordinator: Coordinator::new(),
            clients,
            next_waiter: 0,
            known: topics(&[("a", PARTITIONS)]),
            doubled: BTreeMap::new(),
            rebalances: 0,
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(1 + self.rng.below(LATENCY.as_millis() as u64 - 1))
    }

    fn within(&mut self, millis: u64) -> Timestamp {
        self.now + Duration::from_millis(1 + self.rng.below(millis))
    }

    fn input(&mut self, index: usize, f: impl FnOnce(&mut ClassicGroup, Timestamp)) {
        let now = self.now;
        let client = &mut self.clients[index];
        client.rig.now = now;
        f(&mut client.rig.group, now);
        self.carry_out(index);
        let group = &mut self.clients[index].rig.group;
        group.handle_timeout(now);
        assert!(group.poll_action().is_none(), "a spurious timeout does nothing");
        assert!(group.next_timeout().is_none_or(|t| t > now), "{:?} is due at {now:?}", group.next_timeout());
        let client = &self.clients[index];
        assert_eq!(*client.rig.group.owned(), client.owned, "told and owned are the same");
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(action) = self.clients[index].rig.group.poll_action() {
            match action {
                GroupAction::FindCoordinator => {
                    self.clients[index].found = Some(self.within(300));
                    self.clients[index].connected = false;
                }
                GroupAction::Send(request) => self.send(index, request),
                GroupAction::WantTopicNames => panic!("of the other protocol"),
                GroupAction::Compute(job) => {
                    self.clients[index].computed = Some(self.within(500));
                    self.clients[index].rig.job = Some(job);
                }
                GroupAction::WantMetadata(topics) => {
                    self.clients[index].wanted = (!topics.is_empty()).then(|| self.within(200));
                }
                GroupAction::Revoke { partitions, deadline } => {
                    assert!(!partitions.is_empty() && deadline > self.now);
                    assert!(self.clients[index].revoking.is_none(), "one revocation at a time");
                    // Now and then the reader sits on it; the deadline is the client's to keep.
                    let patience = if self.rng.below(10) == 0 { 100_000 } else { 3000 };
                    let done = self.within(patience).min(deadline);
                    self.clients[index].revoking = Some((partitions, done));
                }
                GroupAction::Assign(partitions) => {
                    for tp in partitions {
                        assert!(self.clients[index].owned.insert(tp.clone()), "{tp} was kept");
                    }
                    self.check_owners();
                }
                GroupAction::Lost(partitions) => {
                    let client = &mut self.clients[index];
                    for tp in partitions {
                        assert!(client.owned.remove(&tp), "{tp} was not owned");
                    }
                    if client
                        .revoking
                        .as_ref()
                        .is_some_and(|(p, _)| !p.iter().all(|tp| client.owned.contains(tp)))
                    {
                        client.revoking = None;
                    }
                    self.check_owners();
                }
                GroupAction::Fail(error) => panic!("{error}"),
                GroupAction::Report(error) => assert_eq!(error.kind(), ErrorKind::Limit, "{error}"),
                GroupAction::Left => {}
            }
        }
    }

    fn send(&mut self, index: usize, request: GroupRequest) {
        let kind = request.kind();
        if kind == Kind::Join {
            assert!(self.clients[index].revoking.is_none(), "no JoinGroup while a revocation is open");
            self.rebalances += 1;
        }
        let lane = if matches!(kind, Kind::Probe | Kind::Leave) { Lane::Control } else { Lane::Group };
        let timeout = if kind == Kind::Join { Duration::from_millis(65_000) } else { REQUEST_TIMEOUT };
        let arrives = self.now + self.latency();
        self.next_waiter += 1;
        let waiter = self.next_waiter;
        let client = &mut self.clients[index];
        client.requests += 1;
        let fails = self.now + timeout;
        client.pending.push(Pending {
            waiter,
            lane,
            kind,
            request,
            arrives,
            read: false,
            answer: None,
            fails,
        });
    }

    fn check_owners(&mut self) {
        let mut owners: BTreeMap<&TopicPartition, u32> = BTreeMap::new();
        for tp in self.clients.iter().flat_map(|c| &c.owned) {
            *owners.entry(tp).or_default() += 1;
        }
        let now = self.now;
        let doubled: BTreeMap<_, _> = owners
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .map(|(tp, _)| (tp.clone(), self.doubled.get(tp).copied().unwrap_or(now)))
            .collect();
        for (tp, since) in &doubled {
            assert!(now.since(*since) <= LATENCY, "{tp} has two owners for {:?}", now.since(*since));
        }
        self.doubled = doubled;
    }

    /// The connections of a client break: everything in flight fails, and the client learns it later.
    fn cut(&mut self, index: usize) {
        let failed = std::mem::take(&mut self.clients[index].pending);
        self.clients[index].connected = false;
        for pending in failed {
            let error = Error::new(ErrorKind::Transport, "connection reset");
            self.input(index, |g, now| g.handle_failure(now, pending.kind, error));
        }
        self.input(index, ClassicGroup::coordinator_lost);
    }

    fn next_event(&self) -> Timestamp {
        let mut next = self.coordinator.next_timeout();
        for client in &self.clients {
            let times = [
                client.rig.group.next_timeout(),
                client.found,
                client.revoking.as_ref().map(|(_, t)| *t),
                client.wanted,
                client.computed,
            ];
            next = times.into_iter().flatten().fold(next, Timestamp::min);
            for pending in &client.pending {
                next = next.min(pending.fails);
                if !pending.read && pending.arrives > self.now {
                    next = next.min(pending.arrives);
                }
            }
            for lane in [Lane::Group, Lane::Control] {
                // Answers come in order.
                let first = client.pending.iter().find(|p| p.lane == lane);
                if let Some((t, _)) = first.and_then(|p| p.answer.as_ref()) {
                    next = next.min((*t).max(client.blackhole));
                }
            }
            if client.blackhole > self.now {
                next = next.min(client.blackhole);
            }
        }
        next
    }

    fn deliver_answers(&mut self) {
        for (waiter, reply) in std::mem::take(&mut self.coordinator.answers) {
            let at = self.now + self.latency();
            let pending = self.clients.iter_mut().flat_map(|c| &mut c.pending).find(|p| p.waiter == waiter);
            if let Some(pending) = pending {
                pending.answer = Some((at, reply));
            }
        }
    }

    /// Everything that is due now.
    fn step(&mut self) {
        self.coordinator.timeout(self.now);
        self.deliver_answers();
        for index in 0..self.clients.len() {
            let now = self.now;
            // Connections that cannot be established again before the hole is gone.
            if self.clients[index].found.is_some_and(|t| t <= now) {
                if self.clients[index].blackhole > now {
                    self.clients[index].found =
                        Some(self.clients[index].blackhole + Duration::from_millis(1));
                } else {
                    self.clients[index].found = None;
                    for pending in std::mem::take(&mut self.clients[index].pending) {
                        let error = Error::new(ErrorKind::Transport, "connection closed");
                        self.input(index, |g, now| g.handle_failure(now, pending.kind, error));
                    }
                    self.clients[index].connected = true;
                    self.clients[index].found = None;
                    self.input(index, |g, now| g.coordinator_known(now, NEWEST));
                }
            }
            if self.clients[index].blackhole <= now {
                self.read_requests(index);
                self.read_answers(index);
            }
            if self.clients[index].pending.iter().any(|p| p.fails <= now) {
                self.cut(index);
            }
            self.local(index);
            if self.clients[index].rig.group.next_timeout().is_some_and(|t| t <= now) {
                self.input(index, ClassicGroup::handle_timeout);
            }
        }
        self.check_owners();
    }

    /// The broker reads what has arrived; a lane waits behind a request that is not answered.
    fn read_requests(&mut self, index: usize) {
        for lane in [Lane::Group, Lane::Control] {
            loop {
                let now = self.now;
                let pending =
                    self.clients[index].pending.iter_mut().find(|p| p.lane == lane && p.answer.is_none());
                let Some(pending) = pending.filter(|p| !p.read && p.arrives <= now) else { break };
                pending.read = true;
                let (waiter, request) = (pending.waiter, pending.request.clone());
                self.coordinator.request(now, waiter, &request);
                self.deliver_answers();
            }
        }
    }

    fn read_answers(&mut self, index: usize) {
        loop {
            let now = self.now;
            let pending = &mut self.clients[index].pending;
            // The first of each lane only: answers come in order.
            let first = |lane| pending.iter().position(|p| p.lane == lane);
            let due = [Lane::Group, Lane::Control]
                .into_iter()
                .filter_map(first)
                .find(|i| pending[*i].answer.as_ref().is_some_and(|(t, _)| *t <= now));
            let Some(i) = due else { break };
            let pending = pending.remove(i);
            let (_, reply) = pending.answer.unwrap();
            self.input(index, |g, now| g.handle_reply(now, pending.kind, Ok(reply)));
        }
    }

    /// The client's own work.
    fn local(&mut self, index: usize) {
        let now = self.now;
        if self.clients[index].wanted.is_some_and(|t| t <= now) {
            self.clients[index].wanted = None;
            let known = self.known.clone();
            self.input(index, |g, now| g.metadata_changed(now, &known, &BTreeSet::new()));
        }
        if self.clients[index].computed.is_some_and(|t| t <= now) {
            self.clients[index].computed = None;
            let job = self.clients[index].rig.job.take().unwrap();
            let assignment = job.run();
            self.input(index, |g, now| g.assignment_computed(now, job.id, &assignment));
        }
        if self.clients[index].revoking.as_ref().is_some_and(|(_, t)| *t <= now) {
            let (partitions, _) = self.clients[index].revoking.take().unwrap();
            for tp in &partitions {
                self.clients[index].owned.remove(tp);
            }
            self.input(index, |g, now| g.revocation_finished(now, &partitions));
        }
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        let mut steps = 0;
        loop {
            let next = self.next_event();
            if next > until {
                break;
            }
            steps += 1;
            assert!(steps < 200_000, "a hot loop at {:?}", self.now);
            self.now = self.now.max(next);
            self.step();
        }
        self.now = until;
    }

    fn disturb(&mut self) {
        let index = self.rng.below(self.clients.len() as u64) as usize;
        match self.rng.below(10) {
            0 | 1 => self.cut(index),
            2 => self.clients[index].blackhole = self.within(8000),
            3 => self.clients[index].blackhole = self.within(40_000),
            4 => {
                self.input(index, ClassicGroup::poll_expired);
            }
            5 => self.input(index, ClassicGroup::polled),
            8 => {
                let away = Duration::from_millis(self.rng.below(6000));
                self.coordinator.fail_over(self.now, away);
                for index in 0..self.clients.len() {
                    self.cut(index);
                }
            }
            6 | 7 => {
                let subscribe = !self.clients[index].subscribed;
                self.clients[index].subscribed = subscribe;
                let topics = if subscribe { names(&["a"]) } else { BTreeSet::new() };
                self.input(index, |g, now| g.subscribe(now, topics));
            }
            _ => {
                let partitions = 1 + self.rng.below(PARTITIONS as u64 * 2) as usize;
                self.known = topics(&[("a", partitions)]);
                let known = self.known.clone();
                for index in 0..self.clients.len() {
                    self.input(index, |g, now| g.metadata_changed(now, &known, &BTreeSet::new()));
                }
            }
        }
    }

    fn play(&mut self) {
        for index in 0..self.clients.len() {
            self.clients[index].subscribed = true;
            self.input(index, |g, now| g.subscribe(now, names(&["a"])));
            let pause = self.rng.below(2000);
            self.run(pause);
        }
        for _ in 0..40 {
            let pause = self.rng.below(8000);
            self.run(pause);
            self.disturb();
        }
        // The faults are over; everybody takes part again.
        for index in 0..self.clients.len() {
            self.clients[index].blackhole = self.now;
            self.input(index, ClassicGroup::polled);
            if !self.clients[index].subscribed {
                self.clients[index].subscribed = true;
                self.input(index, |g, now| g.subscribe(now, names(&["a"])));
            }
        }
        // Session, rebalance timeout and the longest backoffs; then all is quiet.
        self.run(200_000);
        let joins = self.rebalances;
        self.run(60_000);
        assert_eq!(self.rebalances, joins, "a healthy group does not rebalance");
        let mut owned = BTreeSet::new();
        for client in &self.clients {
            assert_eq!(client.rig.group.state(), GroupState::Stable);
            for tp in &client.owned {
                assert!(owned.insert(tp.clone()), "{tp} has two owners");
            }
        }
        assert_eq!(owned.len(), self.known.get("a").unwrap().partitions.len(), "everything has an owner");
        let seconds = self.now.since(Timestamp::from_millis(1_000_000)).as_secs() as u32;
        for client in &self.clients {
            assert!(client.requests < seconds * 3, "{} requests in {seconds} s", client.requests);
        }
    }
}

/// `OTTLA_SEEDS` asks for more seeds than the few that every test run plays.
fn play(eager: bool) {
    let seeds = std::env::var("OTTLA_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let members = 2 + (seed % 4) as usize;
        let result = std::panic::catch_unwind(|| World::new(seed, members, eager).play());
        if let Err(cause) = result {
            eprintln!("seed {seed}, {members} members, eager: {eager}");
            std::panic::resume_unwind(cause);
        }
    }
}

#[test]
fn a_cooperative_group_survives_what_a_network_does() {
    play(false);
}

#[test]
fn an_eager_group_survives_what_a_network_does() {
    play(true);
}

/// L5, with several members: broker bounces shorter than the session cost nothing.
#[test]
fn a_group_survives_short_bounces_without_a_rebalance() {
    let mut world = World::new(7, 3, false);
    for index in 0..3 {
        world.input(index, |g, now| g.subscribe(now, names(&["a"])));
    }
    world.run(30_000);
    let (joins, generation) = (world.rebalances, world.coordinator.generation);
    for _ in 0..10 {
        for index in 0..3 {
            world.cut(index);
            world.clients[index].found = world.clients[index].found.map(|t| t + Duration::from_millis(7000));
        }
        world.run(20_000);
    }
    assert_eq!((world.rebalances, world.coordinator.generation), (joins, generation));
}

/// Unsubscribing gives everything back and leaves; the others take over.
#[test]
fn a_member_that_leaves_is_forgotten_and_replaced() {
    let mut world = World::new(3, 3, false);
    for index in 0..3 {
        world.input(index, |g, now| g.subscribe(now, names(&["a"])));
    }
    world.run(30_000);
    let id = world.clients[1].rig.group.identity().unwrap().member_id;
    assert!(world.coordinator.knows(&id));
    world.input(1, |g, now| g.subscribe(now, BTreeSet::new()));
    world.run(10_000);
    assert!(!world.coordinator.knows(&id));
    let owned: usize = world.clients.iter().map(|c| c.owned.len()).sum();
    assert_eq!((owned, world.clients[1].owned.len()), (PARTITIONS, 0));
}
