//! The state as a whole, and what every part of it needs.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use super::ahead::AheadQueue;
use super::checkout::Scratch;
use super::clock::PollClock;
use super::events::{Event, PartitionEnd};
use super::figures::{Consumed, Tallies};
use super::ledger::{FrameCharge, Signals};
use super::partition::{Partition, Watermarks};
use super::queue::Pending;
use super::revocation::{Open, RevocationId};
use super::strip::Walked;
use super::token::Ownership;
use super::{DeliveryConfig, Key, Shared};
use crate::{Error, OwnershipEpoch, Timestamp, TopicPartition};

/// More events than this are not kept for a reader that does not come: those that only inform go first.
const MAX_EVENTS: usize = 1024;

/// Everything that decides what is handed out, what is done, and what may be committed. Behind the lock of
/// [`Shared`].
pub struct Delivery {
    pub(super) config: DeliveryConfig,
    pub(super) shared: Weak<Shared>,
    pub(super) signals: Arc<Signals>,
    /// The latest time that was told.
    pub(super) now: Timestamp,
    pub(super) next_key: u64,
    pub(super) next_epoch: u64,
    pub(super) next_revocation: u64,
    /// Numbers checkouts and pauses.
    pub(super) next_number: u64,

    pub(super) index: BTreeMap<TopicPartition, Key>,
    /// Boxed: the nodes of a map that grows at its end stay half empty.
    pub(super) partitions: BTreeMap<Key, Box<Partition>>,
    /// Partitions with something to hand out, in the order they are served. An entry may be out of date.
    pub(super) ready: VecDeque<Key>,
    pub(super) events: VecDeque<Pending>,
    /// Errors that concern no partition.
    pub(super) errors: VecDeque<Error>,
    pub(super) revocations: BTreeMap<RevocationId, Open>,
    /// Paused partitions, the one that was paused first in front.
    pub(super) paused: BTreeMap<u64, Key>,
    /// Paused when a revocation took them: an assignment that follows gives the pause back.
    pub(super) paused_before: BTreeSet<TopicPartition>,
    /// Partitions whose done offset may be above what is committed.
    pub(super) uncommitted: BTreeSet<Key>,
    /// Partitions read on their own, with a clock that runs.
    pub(super) clocks: BTreeSet<(Option<Timestamp>, Key)>,
    /// Partitions that were read on their own until this happened.
    pub(super) ends: BTreeMap<TopicPartition, PartitionEnd>,
    /// Partitions that wait to be told where they begin, and until when, once the reader knows of it.
    pub(super) questions: BTreeMap<Key, Option<Timestamp>>,

    pub(super) reader_waker: Option<Waker>,
    /// To be called after the lock.
    pub(super) wakes: Vec<Waker>,
    /// The driver is to be woken when the lock is given back.
    pub(super) wakes_driver: bool,
    /// To be dropped after the lock: that may run foreign code.
    pub(super) stale: Vec<Waker>,
    /// Whether the reader asks for events.
    pub(super) events_mode: bool,
    /// The reader was given something and has not come back.
    pub(super) holding: bool,
    /// Partitions of which the reader was given something since it last came.
    pub(super) in_hand: Vec<Key>,
    pub(super) clock: PollClock,
    /// What the reader hands out to itself.
    pub(super) walked: Option<Walked>,
    /// The driver was told a deadline, and has not been told since that there is none.
    clock_known: Cell<bool>,
    /// The reader waits until then for more than there is.
    pub(super) gathering: Option<Timestamp>,
    /// The last read was one that gathers.
    pub(super) gathers: bool,
    /// Nothing was under way, and there was no room to fetch into, when that was tried last.
    pub(super) without_room: bool,
    /// The clock of a partition that is read on its own expired, and the reader of events has not come since.
    stuck: bool,
    /// The reader came since the driver last asked.
    pub(super) polled: bool,
    pub(super) reader_gone: bool,
    pub(super) shutdown: bool,
    pub(super) fatal: Option<Error>,

    /// Records since the driver was last told to commit: handed out (Auto), or marked.
    commit_count: usize,
    commit_due: bool,
    pub(super) fetch_generation: u64,
    pub(super) consumed: Consumed,
    pub(super) tallies: Tallies,
    pub(super) watching: bool,
    pub(super) scratch: Scratch,

    // Decoding ahead.
    /// Segments with batches that nobody has claimed, in the order they came.
    pub(super) ahead: AheadQueue,
    pub(super) decoder_waker: Option<Waker>,
    /// The partition whose next batch the reader found being decoded, if it still is.
    pub(super) awaited: Option<Key>,
    /// Whoever decodes ahead found nothing to do.
    pub(super) decoders_idle: bool,
}

impl Delivery {
    pub(super) fn new(config: DeliveryConfig, shared: Weak<Shared>, signals: Arc<Signals>) -> Self {
        Self {
            config,
            shared,
            signals,
            now: Timestamp::ZERO,
            next_key: 0,
            next_epoch: 0,
            next_revocation: 0,
            next_number: 0,
            index: BTreeMap::new(),
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            errors: VecDeque::new(),
            revocations: BTreeMap::new(),
            paused: BTreeMap::new(),
            paused_before: BTreeSet::new(),
            uncommitted: BTreeSet::new(),
            clocks: BTreeSet::new(),
            ends: BTreeMap::new(),
            questions: BTreeMap::new(),
            reader_waker: None,
            wakes: Vec::new(),
            wakes_driver: false,
            stale: Vec::new(),
            events_mode: false,
            holding: false,
            in_hand: Vec::new(),
            clock: PollClock::Standing,
            walked: None,
            clock_known: Cell::new(false),
            gathering: None,
            gathers: false,
            without_room: false,
            stuck: false,
            polled: false,
            reader_gone: false,
            shutdown: false,
            fatal: None,
            commit_count: 0,
            commit_due: false,
            fetch_generation: 0,
            consumed: Consumed::default(),
            tallies: Tallies::default(),
            watching: false,
            scratch: Scratch::default(),
            ahead: AheadQueue::new(),
            decoder_waker: None,
            awaited: None,
            decoders_idle: true,
        }
    }

    /// Whom to wake when the driver has something to do: room was freed, a revocation is done, the reader is
    /// gone, a clock started.
    pub fn set_driver_waker(&self, waker: Waker) {
        self.signals.set_driver_waker(waker);
    }

    /// Whether the driver was woken since it last asked.
    pub fn take_driver_dirty(&self) -> bool {
        self.signals.take_driver_dirty()
    }

    /// Counts an allocation that records are read into; dropping the charge gives the bytes back.
    pub fn charge(&self, bytes: usize) -> FrameCharge {
        FrameCharge::new(&self.signals, bytes)
    }

    /// The next offset that a read returns.
    pub fn position(&self, tp: &TopicPartition) -> Option<i64> {
        self.partition(tp).filter(|p| p.has_position()).map(Partition::position)
    }

    /// How many offsets lie between the position and the end that a read can reach: the high watermark, with
    /// `read_committed` the last stable offset. `None` before the first response.
    pub fn lag(&self, tp: &TopicPartition) -> Option<i64> {
        let end = self.partition(tp)?.end_offset(self.config.read_committed())?;
        Some(end.saturating_sub(self.position(tp)?).max(0))
    }

    /// What the last response said of the partition's log.
    pub fn watermarks(&self, tp: &TopicPartition) -> Option<Watermarks> {
        self.partition(tp).map(|p| p.watermarks)
    }

    /// What is owned, and under which epoch.
    pub fn owned(&self) -> Vec<(TopicPartition, OwnershipEpoch)> {
        let epoch = |key| self.partitions.get(key).map(|p| p.ownership.epoch);
        self.index.iter().filter_map(|(tp, key)| Some((tp.clone(), epoch(key)?))).collect()
    }

    /// The topics of what is owned.
    pub fn topics(&self) -> BTreeSet<Arc<str>> {
        self.index.keys().map(|tp| Arc::clone(tp.topic_arc())).collect()
    }

    /// The epoch of the present ownership.
    pub fn ownership(&self, tp: &TopicPartition) -> Option<OwnershipEpoch> {
        self.partition(tp).map(|p| p.ownership.epoch)
    }

    /// Bytes in the ledger: what was fetched or decompressed and not handed out, whole allocations.
    pub fn buffered_bytes(&self) -> usize {
        self.signals.ledger()
    }

    /// Bytes that only handed-out batches and records hold.
    pub fn pinned_bytes(&self) -> usize {
        self.signals.pinned()
    }

    /// Handles that hold back commits although the reader came back: partition, the offset that cannot be
    /// passed, and how long ago it was handed out.
    pub fn held_back(&mut self, now: Timestamp) -> Vec<(TopicPartition, i64, Duration)> {
        if !self.config.is_auto() || self.config.is_external() {
            return Vec::new();
        }
        let held = |p: &mut Partition| {
            // What was dropped since the last look holds nothing back, and hides what does.
            p.sweep(true);
            let (offset, at) = p.handed.held_back(&p.done)?;
            Some((p.ownership.topic_partition.clone(), offset, now.since(at)))
        };
        self.partitions.values_mut().filter_map(|p| held(p)).collect()
    }

    /// Whether the partition is paused.
    pub fn is_paused(&self, tp: &TopicPartition) -> bool {
        self.partition(tp).is_some_and(|p| p.paused.is_some())
    }

    /// All that is paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let tp = |key| self.partitions.get(key).map(|p| p.ownership.topic_partition.clone());
        self.paused.values().filter_map(tp).collect()
    }

    /// Whether the consumer was shut down.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// Whether there is no reader any more.
    pub fn is_reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// The error that ended everything.
    pub fn fatal(&self) -> Option<&Error> {
        self.fatal.as_ref()
    }

    pub(super) fn partition(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(self.index.get(tp)?).map(|p| &**p)
    }

    pub(super) fn partition_mut(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        self.partitions.get_mut(self.index.get(tp)?).map(|p| &mut **p)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn new_ownership(&mut self, tp: TopicPartition, key: Key) -> Arc<Ownership> {
        self.next_epoch += 1;
        let epoch = OwnershipEpoch(self.next_epoch);
        Arc::new(Ownership::new(tp, key, epoch, self.shared.clone(), Arc::clone(&self.signals)))
    }

    pub(super) fn saw(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Whom to wake when something is there.
    pub(super) fn set_reader_waker(&mut self, waker: &Waker) {
        if !self.reader_waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.stale.extend(self.reader_waker.replace(waker.clone()));
        }
    }

    pub(super) fn wake_reader(&mut self) {
        self.wakes.extend(self.reader_waker.take());
    }

    /// A planted bug: the reader waits, and nobody knows it.
    pub(crate) fn eat_wakeup(&mut self) {
        self.reader_waker = None;
    }

    /// Whoever waits for a partition of its own, and the reader.
    pub(super) fn wake_all_readers(&mut self) {
        self.wake_reader();
        let wakers = self.partitions.values_mut().filter_map(|p| p.waker.take());
        self.wakes.extend(wakers);
    }

    /// Puts an event into the queue and wakes the reader for it.
    pub(super) fn queue_event(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            let informs = |e: &Pending| {
                matches!(
                    e,
                    Pending::Told(
                        Event::CommitCompleted(_)
                            | Event::CommitFailed(_)
                            | Event::PartitionEof { .. }
                            | Event::OffsetReset { .. }
                    )
                )
            };
            if let Some(at) = self.events.iter().position(informs) {
                self.events.remove(at);
            }
        }
        self.events.push_back(Pending::Told(event));
        self.interrupt();
        self.wake_reader();
    }

    /// Partitions are gone without a chance to commit. Those that came and went while the reader stayed away are not
    /// told of at all, so that what waits is bounded by what the reader knows of and by what is owned.
    pub(super) fn queue_lost(&mut self, mut lost: Vec<TopicPartition>) {
        let untold = self.forget_untold(&lost);
        lost.retain(|tp| !untold.contains(tp));
        if !lost.is_empty() {
            self.queue_event(Event::Lost(lost));
        }
    }

    /// Takes out what was to be told of where these partitions are: who gave them up, or sought, does not want to
    /// know.
    pub(super) fn forget_news(&mut self, gone: &[TopicPartition]) {
        let gone: BTreeSet<&TopicPartition> = gone.iter().collect();
        self.events.retain(|event| match event {
            Pending::Told(
                Event::OffsetReset { topic_partition, .. } | Event::PartitionEof { topic_partition, .. },
            ) => !gone.contains(topic_partition),
            _ => true,
        });
    }

    /// Takes partitions that are gone out of the events that say that they came, and with them what those events
    /// would have introduced. Gives them.
    pub(super) fn forget_untold(&mut self, gone: &[TopicPartition]) -> BTreeSet<TopicPartition> {
        let gone: BTreeSet<&TopicPartition> = gone.iter().collect();
        let mut untold = BTreeSet::new();
        self.events.retain_mut(|event| match event {
            Pending::Told(Event::Assigned(assigned)) => {
                untold.extend(assigned.extract_if(.., |tp| gone.contains(tp)));
                !assigned.is_empty()
            }
            // What stands before it is of an ownership that the reader knew.
            Pending::Told(
                Event::OffsetReset { topic_partition, .. } | Event::PartitionEof { topic_partition, .. },
            ) => !untold.contains(topic_partition),
            _ => true,
        });
        untold
    }

    /// Tells the reader something that delivery does not know of itself: a reset, the outcome of a commit in
    /// the background.
    pub fn push_event(&mut self, now: Timestamp, event: Event) {
        self.saw(now);
        self.queue_event(event);
        self.settle(Some(now));
    }

    /// Tells the reader how the brokers stand. What it did not hear of and is over already is not told of at all, so
    /// that what waits is bounded by the number of brokers.
    pub fn push_broker_event(&mut self, now: Timestamp, event: Event) {
        self.saw(now);
        let before = self.events.len();
        self.events.retain(|waiting| !matches!(waiting, Pending::Told(told) if event.undoes(told)));
        if self.events.len() == before {
            self.queue_event(event);
        }
        self.settle(Some(now));
    }

    /// Sees to it that a partition with something to hand out is served.
    pub(super) fn make_ready(&mut self, key: Key) {
        let max_unmarked = self.config.max_unmarked;
        let Some(p) = self.partitions.get_mut(&key) else { return };
        if !p.is_deliverable(max_unmarked) {
            return;
        }
        if p.claimed {
            self.wakes.extend(p.waker.take());
            return;
        }
        if !p.in_ready {
            p.in_ready = true;
            self.ready.push_back(key);
        }
        self.wake_reader();
    }

    /// The partition to serve next; it stays in front. Entries that are out of date are taken off.
    pub(super) fn next_ready(&mut self) -> Option<Key> {
        while let Some(&key) = self.ready.front() {
            if let Some(p) = self.partitions.get_mut(&key) {
                if p.is_deliverable(self.config.max_unmarked) && !p.claimed {
                    return Some(key);
                }
                p.in_ready = false;
            }
            self.ready.pop_front();
        }
        None
    }

    /// Brings the clocks and the revocations up to date. Called at the end of every change.
    pub(super) fn settle(&mut self, now: Option<Timestamp>) {
        let run = !self.reader_gone
            && self.fatal.is_none()
            && (self.holding
                || !self.events.is_empty()
                || !self.errors.is_empty()
                || self.next_ready().is_some());
        if self.clock.update(run, now) {
            self.clock_started(now.is_none());
        }
        if self.watching {
            self.check_revocations();
        }
    }

    /// Brings the clock of a partition that is read on its own up to date.
    pub(super) fn settle_partition(&mut self, key: Key, now: Option<Timestamp>) {
        let max_unmarked = self.config.max_unmarked;
        let Some(p) = self.partitions.get_mut(&key).filter(|p| p.claimed) else { return };
        // Nobody can come to it while the task of an earlier ownership has not returned.
        let waits = !self.ends.is_empty() && self.ends.contains_key(&p.ownership.topic_partition);
        let run = !self.reader_gone && !waits && (p.in_hand || p.is_deliverable(max_unmarked));
        let before = p.clock.running();
        let started = p.clock.update(run, now);
        let after = p.clock.running();
        if before != after {
            self.clocks.extend(after.map(|since| (since, key)));
            if let Some(since) = before {
                self.clocks.remove(&(since, key));
            }
        }
        if started {
            self.clock_started(now.is_none());
        }
    }

    /// A deadline that began later is no news: the driver comes at the earlier one and is told. One without a
    /// time is to be given one.
    fn clock_started(&mut self, due: bool) {
        if self.config.max_poll_interval.is_some() && (!self.clock_known.replace(true) || due) {
            self.signals.wake_driver();
        }
    }

    /// When the reader will have stayed away for too long. It may be in the past: a clock that does not know
    /// the time yet is told it by [`poll_expired`](Self::poll_expired).
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        let interval = self.config.max_poll_interval?;
        let first = self.clocks.first().map(|(since, _)| *since);
        let deadline = |since: Option<Timestamp>| match since {
            Some(since) => since + interval,
            None => Timestamp::ZERO,
        };
        let deadline =
            [self.clock.running(), first].into_iter().flatten().map(deadline).chain(self.next_look()).min();
        self.clock_known.set(deadline.is_some());
        deadline
    }

    /// A reader that walks a strip does not say when it comes. Whether it came is seen by its position, so that is
    /// looked at from time to time: the clock may expire by an eighth of the interval too late, never too early.
    fn next_look(&self) -> Option<Timestamp> {
        let walked = self.walked.filter(|_| self.clock.running().is_some())?;
        self.partitions.get(&walked.key)?.strip.as_ref()?;
        Some(walked.looked + (self.config.max_poll_interval? / 8).max(Duration::from_millis(1)))
    }

    fn look(&mut self, now: Timestamp) {
        let Some(walked) = &mut self.walked else { return };
        let Some(p) = self.partitions.get(&walked.key).filter(|p| p.strip.is_some()) else { return };
        walked.looked = now;
        if std::mem::replace(&mut walked.seen, p.position()) != p.position()
            && matches!(self.clock, PollClock::Running(_))
        {
            self.clock = PollClock::Running(now);
        }
    }

    /// Whether the reader stayed away for too long, and the partitions to lose, which may be none. Told once, until the reader comes
    /// again. For partitions that are read on their own only the stuck ones are told; their member leaves the
    /// group, so the others are to be revoked.
    pub fn poll_expired(&mut self, now: Timestamp) -> Option<Vec<TopicPartition>> {
        self.saw(now);
        self.clock.update(self.clock.running().is_some(), Some(now));
        while let Some(&(None, key)) = self.clocks.first() {
            self.clocks.pop_first();
            if let Some(p) = self.partitions.get_mut(&key) {
                p.clock = PollClock::Running(now);
                self.clocks.insert((Some(now), key));
            }
        }
        let interval = self.config.max_poll_interval?;
        self.look(now);
        if let PollClock::Running(since) = self.clock
            && since + interval <= now
        {
            self.clock = PollClock::Expired;
            return Some(self.index.keys().cloned().collect());
        }
        let mut stuck = Vec::new();
        while let Some(&(Some(since), key)) = self.clocks.first() {
            if since + interval > now {
                break;
            }
            self.clocks.pop_first();
            if let Some(p) = self.partitions.get_mut(&key) {
                p.clock = PollClock::Expired;
                stuck.push(p.ownership.topic_partition.clone());
            }
        }
        self.stuck |= !stuck.is_empty();
        (!stuck.is_empty()).then_some(stuck)
    }
}

impl Delivery {
    /// So many more records will be done.
    pub(super) fn count_for_commit(&mut self, records: usize) {
        self.commit_count = self.commit_count.saturating_add(records);
    }

    /// What was counted is done, as far as no handle holds it back.
    pub(super) fn counted_is_done(&mut self) {
        if self.config.commit_records.is_some_and(|enough| self.commit_count >= enough)
            && !self.config.is_external()
        {
            self.commit_count = 0;
            self.commit_due = true;
            self.signals.wake_driver();
        }
    }

    /// Whether enough is done for a commit, once.
    pub fn take_commit_due(&mut self) -> bool {
        std::mem::take(&mut self.commit_due)
    }

    /// Whether the reader came since this was last asked: a member that left because it stayed away joins again.
    pub fn take_polled(&mut self) -> bool {
        std::mem::take(&mut self.polled)
    }

    /// Whether the clock of the one reader is over, not only that of a partition that is read on its own.
    pub fn is_reader_away(&self) -> bool {
        self.clock == PollClock::Expired
    }

    /// The reader came: the clock starts anew.
    pub(super) fn reader_came(&mut self) {
        self.polled = true;
        if self.clock == PollClock::Expired || std::mem::take(&mut self.stuck) {
            self.signals.wake_driver();
        }
        self.clock.stop();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("partitions", &self.index.len())
            .field("ready", &self.ready.len())
            .field("events", &self.events.len())
            .field("revocations", &self.revocations.len())
            .field("buffered_bytes", &self.buffered_bytes())
            .field("pinned_bytes", &self.pinned_bytes())
            .field("shutdown", &self.shutdown)
            .field("reader_gone", &self.reader_gone)
            .finish_non_exhaustive()
    }
}
