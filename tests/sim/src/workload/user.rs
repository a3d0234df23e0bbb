//! A user: reads, works, commits, and does anything else at any time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ottla_core::client::{Command, CommitItem, Offset, Outcome};
use ottla_core::delivery::{CommitToken, Event, Gathering};
use ottla_core::{CommandId, ErrorKind, Rng, Timestamp, TopicPartition};

use super::given::Given;
use super::hand::{Hand, key};
use crate::jepsen::What;
use crate::oracle::{Oracle, Sought};
use crate::{MemberId, World};

mod reads;
mod whims;

/// How a user commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// The client does.
    Auto,
    /// Each batch's token, waiting for the outcome or not.
    Tokens,
    /// Offsets of its own.
    Offsets,
    /// Each batch is marked.
    Marks,
    /// In the background.
    Background,
    /// Everything that was handed out, now and then.
    Delivered,
}

/// How a user reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Batch by batch.
    Batches,
    /// Record by record.
    Records,
    /// Several batches at once, or what has come within so many milliseconds.
    Gathered(u64),
    /// Each partition on its own.
    Partitions,
}

/// How a user is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) events: bool,
    pub(crate) reads: Reads,
    pub(crate) commits: Commits,
    /// Most records of a read.
    pub(crate) batch: usize,
    /// Work per batch, in microseconds, at the most.
    pub(crate) work: u64,
    /// How many batches it holds on to.
    pub(crate) keep: usize,
    /// One read of so many is followed by something else.
    pub(crate) whims: u64,
    /// It assigns by hand.
    pub(crate) hand: Option<Hand>,
    /// It changes its mind about what it reads.
    pub(crate) fickle: bool,
    /// It subscribes to a pattern that all topics match.
    pub(crate) pattern: bool,
}

/// How late timers may be, and a moment.
const SLACK: Duration = Duration::from_millis(201);

/// A batch in hand.
#[derive(Debug)]
struct Held {
    batch: Given,
    number: u64,
    range: (i64, i64),
}

/// What a command was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Unsubscribe,
    /// These offsets.
    Commit(Vec<(TopicPartition, i64)>),
    Close(Timestamp),
    /// Everything that was handed out: up to there.
    Delivered(Vec<(TopicPartition, i64)>),
    /// It cannot fail.
    Sure,
    Seek(TopicPartition, Sought),
    /// To go back to there.
    Rewind(TopicPartition, i64),
    /// What is committed of these.
    Committed,
    /// Where these end, and where they did at least.
    Ends(Vec<(TopicPartition, i64)>),
    Other,
}

/// A user with its member.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: MemberId,
    pub(crate) style: Style,
    pub(super) rng: Rng,
    /// When it does something; none while it waits to be woken.
    next: Option<Timestamp>,
    held: VecDeque<Held>,
    asked: BTreeMap<CommandId, (Timestamp, Asked)>,
    /// How long its client may take for anything but to close.
    patience: Duration,
    pub(super) topics: Vec<String>,
    /// It subscribes to some of them only.
    pub(super) narrowed: bool,
    /// It reads everything there is from the start.
    pub(crate) reads_all: bool,
    /// It may do what it likes; else it reads on and nothing else.
    pub(crate) free: bool,
    /// So much slower.
    pub(crate) slowness: u32,
    unsubscribed: bool,
    closing: bool,
    /// It is over: closed or killed.
    pub(crate) over: bool,
    /// A fatal error came: somebody has to start it anew.
    pub(crate) failed: bool,
    /// It has a group instance id.
    pub(crate) is_static: bool,
    /// It never closes: it is killed.
    pub(crate) dies: bool,
    next_batch: u64,
    /// A wait for several batches that goes on.
    gathering: Option<Gathering>,
    /// Partitions that it reads on their own.
    tasks: Vec<TopicPartition>,
    /// It closes because it feels like it: somebody comes later.
    pub(crate) comes_again: bool,
}

impl User {
    pub(crate) fn new(
        id: MemberId,
        (style, patience): (Style, Duration),
        rng: Rng,
        topics: Vec<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            patience,
            id,
            style,
            rng,
            next: Some(now),
            held: VecDeque::new(),
            asked: BTreeMap::new(),
            topics,
            narrowed: false,
            reads_all: false,
            free: true,
            slowness: 1,
            unsubscribed: true,
            closing: false,
            over: false,
            failed: false,
            is_static: false,
            dies: false,
            next_batch: 0,
            gathering: None,
            tasks: Vec::new(),
            comes_again: false,
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.over && !self.closing)
    }

    /// Something came for it to do.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        if self.next.is_none() {
            self.next = Some(now);
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.next.is_none() && !self.over
    }

    /// It is gone, or about to be.
    pub(crate) fn is_leaving(&self) -> bool {
        self.over || self.closing
    }

    /// Whether it subscribes, and may want something else.
    pub(crate) fn may_change_its_mind(&self) -> bool {
        self.free && !self.is_leaving() && !self.unsubscribed && self.style.hand.is_none()
    }

    /// It does nothing for so long.
    pub(crate) fn freeze(&mut self, until: Timestamp) {
        self.next = Some(self.next.map_or(until, |n| n.max(until)));
    }

    /// It is gone without a word.
    pub(crate) fn kill(&mut self, world: &mut World, oracle: &mut Oracle) {
        if self.over {
            return;
        }
        self.over = true;
        self.held.clear();
        self.note(world, || What::Crashed);
        world.kill(self.id);
        oracle.gone(self.id);
    }

    /// It closes.
    pub(crate) fn close(&mut self, world: &mut World, oracle: &mut Oracle) {
        let timeout = Duration::from_millis(500 + self.rng.below(5000));
        self.close_within(world, oracle, timeout);
    }

    /// The same, with so much time for it.
    pub(crate) fn close_within(&mut self, world: &mut World, oracle: &mut Oracle, timeout: Duration) {
        if self.over || self.closing {
            return;
        }
        if self.dies {
            return self.kill(world, oracle);
        }
        self.closing = true;
        self.drop_all(oracle);
        self.end_tasks(world, oracle);
        let asked = Asked::Close(world.now() + timeout);
        self.command(world, oracle, Command::Close { timeout }, asked);
    }

    pub(super) fn command(&mut self, world: &mut World, oracle: &mut Oracle, command: Command, asked: Asked) {
        oracle.asked(self.id);
        let id = world.ask(self.id, command);
        self.asked.insert(id, (world.now(), asked));
        self.outcomes(world, oracle);
    }

    /// What became of commands.
    pub(crate) fn outcomes(&mut self, world: &mut World, oracle: &mut Oracle) {
        let now = world.now();
        let finished = world.member(self.id).finished.as_mut().map(std::mem::take).unwrap_or_default();
        for (command, outcome) in finished {
            world.trace.line(now, self.id, || format!("outcome of {command:?}: {outcome:?}"));
            world.trace.number(now.as_nanos() ^ command.0);
            let Some((at, asked)) = self.asked.remove(&command) else {
                oracle.fail("L2", format!("{}: a second outcome of {command:?}", self.id));
                continue;
            };
            match (asked, outcome) {
                (Asked::Unsubscribe, Outcome::Done) => {
                    // Only who has subscribed again meanwhile may have been spared giving anything up: which of it
                    // was kept nobody tells.
                    let kept = if self.unsubscribed { Vec::new() } else { world.member(self.id).owned() };
                    oracle.gave_up(self.id, &kept);
                }
                (Asked::Commit(offsets) | Asked::Delivered(offsets), Outcome::Commit(results)) => {
                    for (tp, offset) in offsets {
                        let mut told = results.iter().filter(|(of, _)| *of == tp).peekable();
                        if told.peek().is_some() && told.all(|(_, result)| result.is_ok()) {
                            oracle.told_committed(at, self.id, &tp, offset);
                        }
                    }
                }
                (Asked::Rewind(tp, offset), _) => oracle.rewind_told(self.id, &tp, offset),
                (Asked::Seek(tp, to), Outcome::Done) => {
                    self.note(world, || What::Sought(key(&tp)));
                    oracle.sought(now, self.id, &tp, to);
                }
                (Asked::Sure, outcome) if !matches!(outcome, Outcome::Done) => {
                    oracle.fail("S14", format!("{}: {command:?} ends with {outcome:?}", self.id));
                }
                (Asked::Committed, Outcome::Committed(told)) => {
                    for (tp, result) in told {
                        let Ok(offset) = result else { continue };
                        oracle.told_offset(at, self.id, &tp, offset.map(|o| o.offset));
                    }
                }
                (Asked::Ends(least), Outcome::Offsets(told)) => {
                    for ((tp, result), (_, least)) in told.into_iter().zip(least) {
                        let Ok(Some(end)) = result else { continue };
                        let log = oracle.log(&tp);
                        let most = log.end;
                        if !log.deleted && !(least..=most).contains(&end) {
                            let text =
                                format!("{} says that {tp} ends at {end}, not {least}..={most}", self.id);
                            oracle.fail("S14", text);
                        }
                    }
                }
                (Asked::Close(deadline), outcome) => {
                    if matches!(outcome, Outcome::Closed(errors) if errors.is_empty()) {
                        oracle.left_well(now, self.id, &world.cluster, self.is_static);
                    }
                    if now > deadline.max(world.stands_until(self.id)) + SLACK {
                        let late = now.since(deadline).as_millis();
                        oracle.fail("L2", format!("{} took {late} ms too long to close", self.id));
                    }
                    let left = world.sockets(self.id);
                    let timer = world.look(self.id).next_timeout();
                    if left > 0 || timer.is_some() {
                        let text = format!("{} has closed and has {left} sockets, timer {timer:?}", self.id);
                        oracle.fail("L2", text);
                    }
                    self.over = true;
                    oracle.gone(self.id);
                }
                _ => {}
            }
        }
        if self.closing && !self.over {
            let stands = world.stands_until(self.id);
            let late = |a: &Asked| matches!(a, Asked::Close(by) if now > stands.max(*by) + SLACK);
            if self.asked.values().any(|(_, asked)| late(asked)) {
                oracle.fail("L2", format!("{} does not close", self.id));
            }
        }
    }

    /// L2: everything that was asked is answered in the end.
    pub(crate) fn overdue(&self, now: Timestamp, world: &World, oracle: &mut Oracle) {
        if self.over || self.closing {
            return;
        }
        let since = now - (self.patience + SLACK);
        if world.stands_until(self.id) > since {
            return;
        }
        if let Some((command, (at, asked))) = self.asked.iter().find(|(_, (at, _))| *at < since) {
            oracle
                .fail("L2", format!("{}: {command:?}, {asked:?}, asked at {at:?}, is not answered", self.id));
        }
    }

    /// Does what is due.
    pub(crate) fn run(&mut self, world: &mut World, oracle: &mut Oracle) {
        let now = world.now();
        if self.over || self.closing || self.next.is_none_or(|at| at > now) {
            return;
        }
        if self.unsubscribed {
            self.subscribe(world, oracle);
        }
        self.finish_work(world, oracle);
        if !self.free {
            // A pause may come back with a partition that was taken and given again.
            let paused = world.member(self.id).delivery.lock().paused();
            if !paused.is_empty() {
                self.pause(world, oracle, paused, false);
            }
        }
        if self.free && self.rng.below(self.style.whims) == 0 {
            self.whim(world, oracle);
            if self.over || self.closing || self.unsubscribed {
                return;
            }
        }
        self.read(world, oracle);
    }

    fn subscribe(&mut self, world: &mut World, oracle: &mut Oracle) {
        self.unsubscribed = false;
        if self.style.hand.is_some() {
            return self.assign(world, oracle);
        }
        self.narrowed = false;
        self.subscribe_to(world, oracle, self.topics.clone());
    }

    /// From now on it wants these topics.
    pub(crate) fn set_topics(&mut self, world: &mut World, oracle: &mut Oracle, topics: &[String]) {
        self.topics = topics.to_vec();
        if !self.over && !self.closing && !self.unsubscribed && self.style.hand.is_none() {
            self.narrowed = false;
            self.subscribe_to(world, oracle, topics.to_vec());
        }
    }

    /// The work on what is in hand is done.
    fn finish_work(&mut self, world: &mut World, oracle: &mut Oracle) {
        let now = world.now();
        let mut keep = if self.free { self.style.keep } else { 0 };
        match self.style.commits {
            Commits::Auto => {}
            Commits::Delivered => {
                if self.rng.below(4) == 0 || !self.free {
                    for held in &self.held {
                        let tp = held.batch.topic_partition();
                        oracle.marked(self.id, tp, held.number, held.range);
                    }
                    let delivered = oracle.all_done(self.id);
                    self.command(world, oracle, Command::CommitDelivered, Asked::Delivered(delivered));
                }
            }
            Commits::Marks => {
                // In any order.
                let mut numbers: Vec<usize> = (0..self.held.len()).collect();
                if self.rng.below(2) == 0 {
                    numbers.reverse();
                }
                // Or every other one now, and the rest before it lets go of them.
                if self.free && self.style.keep > 0 {
                    keep = 3;
                    let spare = self.held.len().saturating_sub(keep);
                    let now = |i: &usize| *i < spare || self.held[*i].number.is_multiple_of(2);
                    numbers.retain(now);
                }
                for index in numbers {
                    let Some(held) = self.held.get(index) else { continue };
                    let tp = held.batch.topic_partition().clone();
                    oracle.marked(self.id, &tp, held.number, held.range);
                    world.trace.line(now, self.id, || format!("marks {tp} {:?}", held.range));
                    held.batch.token().mark();
                }
                world.tend(self.id);
            }
            Commits::Tokens | Commits::Offsets | Commits::Background => self.commit(world, oracle),
        }
        while self.held.len() > keep {
            self.drop_first(oracle);
        }
        world.tend(self.id);
    }

    /// What is in hand is dealt with after the next read, as often as not.
    fn may_wait(&self) -> bool {
        self.free && self.held.len() <= self.style.keep && !self.next_batch.is_multiple_of(2)
    }

    fn commit(&mut self, world: &mut World, oracle: &mut Oracle) {
        if self.style.commits == Commits::Tokens && self.may_wait() {
            return;
        }
        let mut items = Vec::new();
        for held in &self.held {
            let tp = held.batch.topic_partition().clone();
            let offset = held.range.1;
            if held.batch.is_owned() {
                oracle.commits_to(self.id, &tp, offset);
            } else {
                // Nobody takes it any more, but the work is done.
                oracle.marked(self.id, &tp, held.number, held.range);
            }
            let item = if self.style.commits == Commits::Offsets && held.batch.is_owned() {
                // Many users know of no leader epochs.
                let leader_epoch = held.batch.leader_epoch().filter(|_| !held.number.is_multiple_of(3));
                let metadata = (self.rng.below(4) == 0).then(|| "text".to_owned());
                let topic_partition = tp.clone();
                CommitItem::Offset { topic_partition, offset, leader_epoch, metadata, rewind: false }
            } else {
                CommitItem::Token(held.batch.token())
            };
            items.push(((tp, offset), item));
        }
        if items.is_empty() {
            return;
        }
        if self.style.commits == Commits::Tokens && self.next_batch.is_multiple_of(2) {
            // One by one, the last one first.
            for (offset, item) in items.into_iter().rev() {
                self.command(world, oracle, Command::Commit(vec![item]), Asked::Commit(vec![offset]));
            }
            return;
        }
        let (offsets, items) = items.into_iter().unzip();
        if self.style.commits == Commits::Background {
            self.command(world, oracle, Command::CommitInBackground(items), Asked::Sure);
        } else {
            self.command(world, oracle, Command::Commit(items), Asked::Commit(offsets));
        }
        if self.style.commits == Commits::Offsets && self.free && self.rng.below(16) == 0 {
            self.rewind(world, oracle);
        }
    }

    /// Whoever comes next is to read something again.
    fn rewind(&mut self, world: &mut World, oracle: &mut Oracle) {
        let Some(held) = self.held.iter().find(|held| held.batch.is_owned()) else { return };
        let topic_partition = held.batch.topic_partition().clone();
        let offset = (held.range.1 - 1 - self.rng.below(100) as i64).max(0);
        oracle.rewinds_to(self.id, &topic_partition, offset);
        let (leader_epoch, metadata) = (None, None);
        let asked = Asked::Rewind(topic_partition.clone(), offset);
        let item = CommitItem::Offset { topic_partition, offset, leader_epoch, metadata, rewind: true };
        self.command(world, oracle, Command::Commit(vec![item]), asked);
    }

    fn drop_first(&mut self, oracle: &mut Oracle) {
        if let Some(held) = self.held.pop_front() {
            self.let_go(oracle, held);
        }
    }

    fn let_go(&self, oracle: &mut Oracle, held: Held) {
        let tp = held.batch.topic_partition().clone();
        drop(held.batch);
        oracle.dropped(self.id, &tp, held.number, held.range);
    }

    pub(super) fn drop_all(&mut self, oracle: &mut Oracle) {
        while !self.held.is_empty() {
            self.drop_first(oracle);
        }
    }

    /// How long it keeps the user busy.
    fn event(&mut self, world: &mut World, oracle: &mut Oracle, event: Event) -> Duration {
        let (now, id) = (world.now(), self.id);
        let mut busy = Duration::ZERO;
        world.trace.line(now, id, || format!("is told: {event:?}"));
        match event {
            Event::Assigned(tps) => {
                oracle.assigned(now, id, &tps);
                // It may know better where to begin, while the committed offset is looked up.
                if let Some(tp) = tps.first().filter(|_| self.free && self.next_batch % 4 == 3) {
                    let half = oracle.log(tp).end / 2;
                    self.seek(world, oracle, tp, Sought::At(half));
                }
            }
            Event::Lost(tps) => {
                oracle.lost(id, &tps);
            }
            Event::OffsetReset { topic_partition, offset, cause } => {
                oracle.reset(now, id, &topic_partition, offset, cause);
            }
            Event::Revoking(revocation) => {
                let tps = revocation.partitions().to_vec();
                oracle.revoking(id, &tps);
                // As often as not it has something to write down first.
                if self.free && self.next_batch.is_multiple_of(2) {
                    busy = Duration::from_millis(50 + self.next_batch * 37 % 400);
                }
                if self.style.commits == Commits::Auto {
                    self.drop_all(oracle);
                } else if self.rng.below(2) == 0 {
                    let mut tokens: Vec<CommitToken> = Vec::new();
                    for held in self.held.iter().filter(|h| tps.contains(h.batch.topic_partition())) {
                        let tp = held.batch.topic_partition();
                        if self.style.commits == Commits::Marks {
                            oracle.marked(id, tp, held.number, held.range);
                        } else {
                            oracle.commits_to(id, tp, held.range.1);
                        }
                        tokens.push(held.batch.token());
                    }
                    revocation.finish(tokens);
                    oracle.gives_up(id, &tps);
                }
            }
            _ => {}
        }
        busy
    }

    fn error(&mut self, world: &mut World, oracle: &mut Oracle, error: &ottla_core::Error) {
        oracle.told_error(world.now(), self.id, error, self.is_static);
        if error.is_fatal() {
            self.failed = true;
            self.next = None;
            return;
        }
        // A batch whose version byte was damaged is one of a version that nobody knows.
        use ErrorKind::{Corrupt, Limit, NoOffset, Unsupported};
        let stopped = matches!(error.kind(), Corrupt | Limit | NoOffset | Unsupported);
        let Some(tp) = error.topic_partition().filter(|_| stopped).cloned() else { return };
        // It was damaged on its way: the same offset once more, which the client is not asked for.
        let again = match oracle.known_position(self.id, &tp) {
            Some(offset) => Sought::At(offset),
            None if self.style.hand == Some(Hand::WithoutGroup) => Sought::Beginning,
            None => Sought::Committed,
        };
        self.seek(world, oracle, &tp, again);
    }
}
