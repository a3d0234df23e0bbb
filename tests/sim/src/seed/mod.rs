//! One seed: a cluster, a topic or some, a group, a plan of faults, and an end at which everything is read.

mod assignor;
mod members;
mod settings;
mod threads;
mod topics;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ottla_core::{Rng, Timestamp, TopicPartition};

use super::coverage::Coverage;
use super::faults::{Active, Fault, HEALED_AT, Planned, plan};
use super::jepsen::{self, History, What};
use super::oracle::{Oracle, Violation};
use super::trace::Trace;
use super::workload::{Producer, User, key};
use super::{MemberId, World};
use settings::Settings;
use threads::Threads;

/// Producers stop here.
const WRITTEN_UNTIL: Timestamp = Timestamp::from_millis(45_000);
/// A run goes on until then at least.
const END: Timestamp = Timestamp::from_millis(60_000);
/// More steps without time going on are a loop.
const MAX_IDLE: u32 = 10_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Decides everything.
    pub seed: u64,
    /// Only this kind of fault.
    pub scenario: Option<Fault>,
    /// Jepsen's workload for sure; else every fourth seed of the full mix has it.
    pub jepsen: bool,
    /// These faults instead of those of the seed.
    pub faults: Option<Vec<Planned>>,
    /// The members speak the consumer protocol (KIP-848).
    pub consumer: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Of everything that happened.
    pub hash: u64,
    /// What hit, and which transitions were taken.
    pub coverage: Coverage,
    /// The faults of the plan.
    pub faults: Vec<Planned>,
    /// Figures of the run.
    pub figures: Figures,
}

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Members in all.
    pub members: u64,
    /// Generations of the group after the first.
    pub rebalances: u64,
    /// Records handed out.
    pub records: u64,
    /// Commits that the coordinator took.
    pub commits: u64,
    /// Faults that hit.
    pub hits: u64,
    /// Clients that ended with a fatal error.
    pub restarts: u64,
    /// Milliseconds of virtual time.
    pub millis: u64,
    /// Steps of the event loop.
    pub steps: u64,
}

/// One run.
pub(super) struct Simulation {
    pub(super) world: World,
    pub(super) oracle: Oracle,
    pub(super) users: Vec<User>,
    pub(super) producer: Producer,
    pub(super) rng: Rng,
    pub(super) settings: Settings,
    pub(super) nodes: usize,
    pub(super) topics: Vec<String>,
    pub(super) partitions: Vec<TopicPartition>,
    plan: Vec<Planned>,
    pub(super) active: Vec<Active>,
    pub(super) coverage: Coverage,
    /// Brokers that a rolling restart has been at.
    pub(super) rolled: u32,
    /// Members that start later.
    pub(super) arrivals: Vec<Timestamp>,
    pub(super) next_topic: usize,
    pub(super) static_user: Option<usize>,
    /// Who reads everything from the start in the end.
    pub(super) final_reader: Option<usize>,
    restarts: u64,
    threads: Threads,
    healed: Option<Timestamp>,
    looked: Timestamp,
    /// When to look next whether somebody waits in vain.
    hungry: Timestamp,
}

/// Runs a seed.
pub fn run(spec: &Spec, trace: Trace) -> (Outcome, Trace) {
    let mut plan_rng = Rng::new(spec.seed ^ 0xfa17);
    let faults = spec.faults.clone().unwrap_or_else(|| plan(&mut plan_rng, spec.seed, spec.scenario));
    let mut simulation = Simulation::new(spec, faults.clone(), trace);
    let ran = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    let mut violation = simulation.oracle.violation().cloned();
    if let Err(panic) = ran {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "a panic".to_owned());
        violation.get_or_insert(Violation { invariant: "R2", text: format!("panic: {text}") });
    }
    let Simulation { world, oracle, coverage, users, restarts, .. } = simulation;
    // Handles of batches go first: what they hold belongs to the world.
    drop(users);
    let figures = Figures {
        members: world.member_count() as u64,
        rebalances: oracle.rebalances,
        records: oracle.given,
        commits: oracle.commits,
        hits: coverage.hits(),
        restarts,
        millis: world.now().as_nanos() / 1_000_000,
        steps: world.steps(),
    };
    let trace = world.into_trace();
    let hash = trace.hash() ^ figures.records.rotate_left(32) ^ figures.commits.rotate_left(16);
    (Outcome { violation, hash, coverage, faults, figures }, trace)
}

impl Simulation {
    fn new(spec: &Spec, plan: Vec<Planned>, trace: Trace) -> Self {
        let seed = spec.seed;
        let mut rng = Rng::new(seed);
        let mut settings = Settings::draw(&mut rng, spec.consumer);
        let in_the_mix = || spec.scenario.is_none() && Rng::new(seed ^ 0x1e95e2).below(4) == 0;
        if spec.jepsen || in_the_mix() {
            // Everything is to be seen.
            (settings.jepsen, settings.latest) = (true, false);
        }
        if plan.iter().any(|p| p.fault == Fault::SlowUser) {
            settings.limit_polls(seed);
        }
        if plan.iter().any(|p| p.fault == Fault::LaggingReplica) {
            settings.spread();
        }
        if plan.iter().any(|p| p.fault == Fault::Transactions) {
            (settings.transactions, settings.latest) = (true, false);
        }
        if plan.iter().any(|p| p.fault == Fault::TopicRecreated) {
            settings.know_ids();
        }
        if plan.iter().any(|p| p.fault == Fault::Migration) {
            settings.mix();
        }
        let mut world = World::with_config(rng.next_u64(), settings.cluster());
        world.trace = trace;
        world.trace.number(seed);
        let mut producer = Producer::new(rng.split(), settings.records_per_second, settings.transactions);
        if !settings.latest && seed.is_multiple_of(2) {
            producer.take_time();
        }
        if settings.jepsen {
            producer.numbered = true;
            world.history = Some(History::new(settings.transactions));
        }
        let mut simulation = Self {
            world,
            oracle: Oracle::default(),
            users: Vec::new(),
            producer,
            settings,
            nodes: settings.nodes,
            topics: Vec::new(),
            partitions: Vec::new(),
            plan,
            active: Vec::new(),
            coverage: Coverage::default(),
            rolled: 0,
            arrivals: Vec::new(),
            next_topic: 0,
            static_user: None,
            final_reader: None,
            restarts: 0,
            threads: Threads::new(seed),
            healed: None,
            looked: Timestamp::ZERO,
            hungry: Timestamp::ZERO,
            rng,
        };
        simulation.plan.reverse();
        simulation.make_topics();
        let members = simulation.settings.members;
        for index in 0..members {
            // Half of them are there at once.
            let at = if index < members.div_ceil(2) { 0 } else { simulation.rng.below(30_000) };
            simulation.arrivals.push(Timestamp::from_millis(at));
        }
        simulation.arrivals.sort_unstable();
        simulation.arrivals.reverse();
        simulation
    }

    fn run(&mut self) {
        // Steps since time went on.
        let mut idle = 0;
        loop {
            let now = self.world.now();
            self.turn(now);
            if self.oracle.violation().is_some() || self.is_over(now) {
                return;
            }
            let next = [
                self.producer_due(),
                self.plan.last().map(|p| p.at),
                self.active.iter().map(Active::until).min(),
                self.arrivals.last().copied(),
                self.users.iter().filter_map(User::next).min(),
                self.healed.is_none().then_some(HEALED_AT),
                self.threads.next(),
            ];
            let limit = next.into_iter().flatten().min().unwrap_or(Timestamp::NEVER);
            let limit = limit.max(now + Duration::from_nanos(1)).min(now + Duration::from_secs(1));
            self.world.step(limit);
            idle = if self.world.now() > now { 0 } else { idle + 1 };
            if idle > MAX_IDLE {
                self.oracle.fail("L3", format!("time stands still: {idle} steps at {now:?}"));
            }
        }
    }

    fn producer_due(&self) -> Option<Timestamp> {
        let next = self.producer.next();
        (next < WRITTEN_UNTIL).then_some(next)
    }

    /// Everything that is due now, but for what the world does by itself.
    fn turn(&mut self, now: Timestamp) {
        while self.arrivals.last().is_some_and(|at| *at <= now) {
            self.arrivals.pop();
            self.arrive();
        }
        self.end_faults();
        self.oracle.tick(now);
        // Who has not noticed yet that its connection is gone will be troubled by it.
        if !self.active.is_empty() || now >= self.hungry && self.world.is_cut() {
            self.oracle.disturbed(now);
            if self.active.is_empty() {
                self.oracle.troubled(None, now);
            }
        }
        for active in &self.active {
            self.oracle.troubled(active.concerns(), now);
        }
        while self.plan.last().is_some_and(|p| p.at <= now) {
            if let Some(planned) = self.plan.pop() {
                self.begin(planned);
            }
        }
        if self.healed.is_none() && now >= HEALED_AT {
            self.heal(now);
        }
        if now < WRITTEN_UNTIL {
            self.producer.run(&mut self.world, &mut self.oracle, &self.partitions);
        }
        if self.producer.compresses() {
            let members = self.users.iter().filter(|u| !u.over).map(|u| u.id);
            self.threads.run(&mut self.world, now, members);
        }
        for index in 0..self.users.len() {
            self.turn_of(index, now);
        }
        if now >= self.hungry {
            self.hungry = now + Duration::from_millis(250);
        }
        self.oracle.observe(&self.world);
        let moved = self.oracle.take_moved();
        if let Some(history) = &mut self.world.history {
            for (process, tp) in moved {
                history.add(process, What::Rebalanced(tp.as_ref().map(key)));
            }
        }
        for (from, to, what) in self.world.take_moves() {
            self.coverage.moved(what, from, to);
        }
    }

    fn turn_of(&mut self, index: usize, now: Timestamp) {
        let user = &mut self.users[index];
        if user.over {
            return;
        }
        if user.is_waiting() && self.world.member(user.id).is_woken() {
            user.wake(now);
        }
        if user.is_waiting() && now >= self.hungry {
            self.oracle.waits(now, user.id);
        }
        if now >= self.hungry {
            user.overdue(now, &self.world, &mut self.oracle);
        }
        let due = user.next().is_some_and(|at| at <= now) || user.is_leaving();
        if due {
            user.run(&mut self.world, &mut self.oracle);
        }
        let member = self.world.look(user.id);
        let news = member.finished.as_ref().is_some_and(|f| !f.is_empty());
        if news || due {
            user.outcomes(&mut self.world, &mut self.oracle);
        }
        // One that is stuck, too.
        if news || due || now >= self.hungry {
            let id = user.id;
            let ledger = self.world.look(id).delivery.lock().buffered_bytes();
            let sockets = self.world.sockets(id);
            if self.world.look(id).is_alive() {
                self.oracle.resources(id, ledger, sockets);
            }
        }
        if self.users[index].failed {
            self.restart(index);
        }
        if self.users[index].over && std::mem::take(&mut self.users[index].comes_again) {
            let at = now + Duration::from_millis(self.rng.below(5_000));
            self.arrives_at(at);
        }
    }

    /// From now on everything is well.
    fn heal(&mut self, now: Timestamp) {
        self.world.trace.line(now, "world", || "everything is well from now on".to_owned());
        self.healed = Some(now);
        self.plan.clear();
        self.end_all_faults();
        self.producer.finish(&mut self.world, &mut self.oracle);
        for index in 0..self.users.len() {
            let user = &mut self.users[index];
            user.calm(&mut self.world, &mut self.oracle);
        }
        // Somebody must be there to read.
        if self.users.iter().all(|u| u.is_leaving() || u.style.hand.is_some()) {
            self.arrive_in_group();
        }
        if self.settings.jepsen {
            self.arrive_for_final_polls();
        }
    }

    fn is_over(&mut self, now: Timestamp) -> bool {
        let Some(healed) = self.healed else { return false };
        if now < WRITTEN_UNTIL {
            return false;
        }
        for index in 0..self.users.len() {
            self.users[index].calm(&mut self.world, &mut self.oracle);
        }
        if now >= self.looked + Duration::from_millis(500) {
            self.looked = now;
            let missing =
                self.oracle.missing().or_else(|| self.oracle.uncommitted()).or_else(|| self.unrest(now));
            let missing = missing.or_else(|| self.unread());
            if missing.is_none() {
                if now >= END {
                    self.judge();
                }
                return now >= END;
            }
            let bound = self.settings.bound();
            if now > healed.max(WRITTEN_UNTIL) + bound {
                let missing = missing.unwrap_or_default();
                self.oracle.fail("L1", format!("{missing}, {} s after everything was well", bound.as_secs()));
            }
        }
        false
    }

    /// Something that the final polls have not got to.
    fn unread(&mut self) -> Option<String> {
        let index = self.final_reader?;
        if self.users[index].over {
            self.arrive_for_final_polls();
        }
        self.oracle.unread(self.users[self.final_reader?].id)
    }

    /// The second opinion.
    fn judge(&mut self) {
        let Some(history) = &self.world.history else { return };
        if let Some(anomaly) = jepsen::check(history).first() {
            self.oracle.fail("Jepsen", anomaly.to_string());
        }
    }

    /// A group in which nobody comes or goes is rebalanced no more.
    fn unrest(&self, now: Timestamp) -> Option<String> {
        let ago = now.since(self.oracle.last_rebalance());
        (ago < self.settings.calm_after())
            .then(|| format!("the group was rebalanced {} ms ago", ago.as_millis()))
    }

    /// Another fault of the plan, later.
    pub(super) fn planned_later(&mut self, at: Timestamp, planned: Planned) {
        if at < HEALED_AT {
            self.plan.push(Planned { at, ..planned });
            self.plan.sort_by_key(|p| std::cmp::Reverse((p.at, p.seed)));
        }
    }

    /// A member that runs.
    pub(super) fn some_member(&self, rng: &mut Rng) -> Option<MemberId> {
        let alive: Vec<MemberId> = self.users.iter().filter(|u| !u.over).map(|u| u.id).collect();
        alive.get(rng.below(alive.len() as u64) as usize).copied()
    }

    /// A partition.
    pub(super) fn some_partition(&self, rng: &mut Rng) -> Option<TopicPartition> {
        self.partitions.get(rng.below(self.partitions.len() as u64) as usize).cloned()
    }
}
