//! The read primitive.
//!
//! What happens in one call, and why nothing can get in between:
//! 1. Under the lock: what the reader held counts as come back from; an event or an error is its answer, or
//!    segments are taken out of a partition's queue (the *checkout*), or the waker is registered.
//! 2. Without the lock the segments are verified, decompressed and validated.
//! 3. Under the lock again: only if the partition is still owned by the same ownership, not paused and not being
//!    revoked does the position move and the batch become handed out. A seek, a revocation or a loss in between
//!    has taken the checkout's number away, and what was decoded is dropped; a pause gets it put back.
//!
//! All of it is one synchronous call, so a cancelled future can lose neither records nor the position.

use std::sync::Arc;
use std::task::Waker;

use ottla_wire::records::BatchDecoder;

use super::batch::{Batch, BatchInner, Part, Parts};
use super::checkout::{Checkout, Scratch};
use super::events::{Event, Filter, Taken};
use super::partition::Phase;
use super::queue::{Pending, Rest, Segment};
use super::{Delivery, Key, Shared};
use crate::{Timestamp, TopicPartition};

impl Shared {
    /// Reads. The call means that the reader came back for more: with `Commit::Auto` what it was given before
    /// is done, as far as no handle of it is alive.
    ///
    /// Decodes on the calling thread, outside the lock. If nothing is there, `waker` is registered under the
    /// same lock that said so, and called when that may have changed.
    pub fn take(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        filter: Filter<'_>,
        waker: Option<&Waker>,
    ) -> Taken {
        self.read(now, decoder, filter, waker, true)
    }

    /// The same as a part of the read before it: what that gave is not come back from.
    pub fn take_more(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        filter: Filter<'_>,
        waker: Option<&Waker>,
    ) -> Taken {
        self.read(now, decoder, filter, waker, false)
    }

    fn read(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        filter: Filter<'_>,
        waker: Option<&Waker>,
        mut came_back: bool,
    ) -> Taken {
        loop {
            let mut checkout = match self.lock().begin_take(self, now, &filter, waker, came_back) {
                Begun::Answer(taken) => return taken,
                Begun::Decode(checkout) => checkout,
            };
            came_back = false;
            checkout.decode(decoder);
            let answer = self.lock().finish_take(now, &mut checkout);
            // Dropped after the lock: what was discarded may be large.
            drop(checkout);
            if let Some(taken) = answer {
                return taken;
            }
        }
    }
}

/// What the first step of a read came to.
enum Begun {
    Answer(Taken),
    Decode(Checkout),
}

impl Delivery {
    fn begin_take(
        &mut self,
        shared: &Arc<Shared>,
        now: Timestamp,
        filter: &Filter<'_>,
        waker: Option<&Waker>,
        came_back: bool,
    ) -> Begun {
        self.saw(now);
        if let Some(tp) = filter.partition {
            return self.begin_partition(shared, now, filter, tp, waker, came_back);
        }
        if came_back {
            self.came_back(filter);
        }
        self.reader_came();
        if let Some(error) = self.fatal.clone() {
            return Begun::Answer(Taken::Error(error));
        }
        if self.shutdown {
            self.settle(Some(now));
            return Begun::Answer(Taken::End);
        }
        let event = self.take_event(filter.events).map(Taken::Event);
        if let Some(taken) = event.or_else(|| self.errors.pop_front().map(Taken::Error)) {
            self.holding = true;
            self.settle(Some(now));
            return Begun::Answer(taken);
        }
        if filter.max_records > 0
            && let Some(key) = self.next_ready()
            && let Some(checkout) = self.check_out(shared, key, filter.max_records)
        {
            self.settle(Some(now));
            return Begun::Decode(checkout);
        }
        if let Some(waker) = waker {
            self.reader_waker = Some(waker.clone());
        }
        // Without an answer it stands, unless data is there that was not asked for.
        self.settle(Some(now));
        Begun::Answer(Taken::Pending)
    }

    /// A read of one partition on its own.
    fn begin_partition(
        &mut self,
        shared: &Arc<Shared>,
        now: Timestamp,
        filter: &Filter<'_>,
        tp: &TopicPartition,
        waker: Option<&Waker>,
        came_back: bool,
    ) -> Begun {
        if let Some(error) = self.fatal.clone() {
            return Begun::Answer(Taken::Error(error));
        }
        let key = match self.index.get(tp) {
            Some(&key) if !self.ends.contains_key(tp) => key,
            _ => return Begun::Answer(Taken::End),
        };
        let Some(p) = self.partitions.get_mut(&key) else { return Begun::Answer(Taken::End) };
        p.claimed = true;
        self.polled = true;
        if let Some(since) = p.clock.running() {
            self.clocks.remove(&(since, key));
        }
        p.clock.stop();
        if came_back {
            p.handed.came_back();
            p.in_hand = false;
        }
        let ends = p.revoking.is_some() || self.shutdown;
        let deliverable = p.is_deliverable(self.config.max_unmarked);
        if ends {
            self.settle_partition(key, Some(now));
            self.settle(Some(now));
            return Begun::Answer(Taken::End);
        }
        if deliverable
            && filter.max_records > 0
            && let Some(checkout) = self.check_out(shared, key, filter.max_records)
        {
            return Begun::Decode(checkout);
        }
        if let Some(p) = self.partitions.get_mut(&key) {
            p.waker = waker.cloned().or_else(|| p.waker.take());
        }
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
        Begun::Answer(Taken::Pending)
    }

    /// The reader came for more.
    fn came_back(&mut self, filter: &Filter<'_>) {
        self.read_on();
        self.events_mode = filter.events;
        self.holding = false;
        if filter.max_records == 0 {
            return;
        }
        for key in std::mem::take(&mut self.in_hand) {
            if let Some(p) = self.partitions.get_mut(&key) {
                p.handed.came_back();
            }
        }
    }

    /// The next event; or, if events are not asked for, all of them handled by the defaults, which is to know
    /// that the reader has met them.
    fn take_event(&mut self, wanted: bool) -> Option<Event> {
        while let Some(event) = self.events.pop_front() {
            match event {
                Pending::Revoking(id) => {
                    if let Some(revocation) = self.revocation_seen(id)
                        && wanted
                    {
                        return Some(Event::Revoking(revocation));
                    }
                }
                Pending::Told(event) if wanted => return Some(event),
                Pending::Told(event) => tracing::debug!(?event, "handled by the defaults"),
            }
        }
        None
    }

    /// Takes segments out of a partition's queue to be decoded.
    pub(super) fn check_out(
        &mut self,
        shared: &Arc<Shared>,
        key: Key,
        max_records: usize,
    ) -> Option<Checkout> {
        let number = self.number();
        let mut scratch = std::mem::take(&mut self.scratch);
        let p = self.partitions.get_mut(&key)?;
        let limit = max_records
            .min(self.config.max_batch_records)
            .min(p.unmarked_room(self.config.max_unmarked))
            .max(1);
        let mut records = 0usize;
        scratch.segments.clear();
        while records < limit {
            let Some(segment) = p.queue.pop_front() else { break };
            records = records.saturating_add(segment.records());
            scratch.segments.push_back(segment);
        }
        p.checkout = Some(number);
        let (position, epoch) = (p.position, p.position_epoch);
        let ownership = Arc::clone(&p.ownership);
        Some(Checkout::new(Arc::clone(shared), ownership, number, limit, position, epoch, scratch))
    }

    /// Ends a checkout. `None`: nothing came of it, look again.
    pub(super) fn finish_take(&mut self, now: Timestamp, checkout: &mut Checkout) -> Option<Taken> {
        checkout.finished = true;
        let key = checkout.ownership.key;
        let auto = self.config.is_auto();
        let p = self.partitions.get_mut(&key).filter(|p| p.checkout == Some(checkout.number))?;
        p.checkout = None;
        if checkout.verified {
            if p.verify_first {
                self.fetch_generation += 1;
            }
            p.verify_first = false;
        }
        if checkout.error.is_some() {
            // What follows cannot be returned without a gap.
            checkout.segments.clear();
            p.queue.clear();
            if p.phase == Phase::Active {
                self.fetch_generation += 1;
            }
            p.phase = Phase::Stopped;
        }
        if p.paused.is_some() {
            checkout.put_ready_back();
            checkout.position = checkout.lead;
        }
        let error = checkout.error.take();
        let records: usize = checkout.ready.iter().map(|rest| rest.count).sum();
        let delivers = records > 0;
        let error = match error {
            // Told when the reader comes next: the records before it first, and nothing while paused.
            Some(error) if delivers || p.paused.is_some() => {
                checkout.segments.push_back(Segment::Failed(error));
                None
            }
            error => error,
        };
        while let Some(segment) = checkout.segments.pop_back() {
            p.queue.push_front(segment);
        }
        let before = p.queued_bytes;
        p.queued_bytes = p.queue.iter().map(Segment::bytes).sum();
        let drained = p.queued_bytes <= p.low_mark && before > p.low_mark || p.queue.is_empty() && before > 0;
        if checkout.position > p.position {
            (p.position, p.position_epoch) = (checkout.position, checkout.position_epoch);
        }
        self.uncommitted.insert(key);
        let taken = if delivers {
            let batch = hand_out(checkout, p.delivered_end, p.position);
            p.delivered_end = batch.0.end;
            if p.handed.push(now, &batch.0) {
                p.sweep(auto);
            }
            if p.marks_used && !auto {
                p.unmarked.push_back((batch.0.end, records));
                p.unmarked_records = p.unmarked_records.saturating_add(records);
            }
            if p.claimed {
                p.in_hand = true;
            } else {
                self.holding = true;
                self.in_hand.push(key);
            }
            Some(Taken::Batch(batch))
        } else {
            error.map(|error| {
                if p.claimed {
                    p.in_hand = true;
                } else {
                    self.holding = true;
                }
                Taken::Error(error)
            })
        };
        // Served: the others come first.
        if self.ready.front() == Some(&key) {
            self.ready.pop_front();
            p.in_ready = false;
        }
        self.scratch = Scratch {
            segments: std::mem::take(&mut checkout.segments),
            ready: std::mem::take(&mut checkout.ready),
        };
        if drained {
            self.signals.wake_driver();
        }
        self.make_ready(key);
        self.check_eof(key);
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
        taken
    }

    /// A checkout that was given up by a panic: what it held is fetched again.
    pub(super) fn abandon(&mut self, key: Key, number: u64) {
        let Some(p) = self.partitions.get_mut(&key).filter(|p| p.checkout == Some(number)) else { return };
        p.refetch();
        if p.phase == Phase::Stopped {
            // The error that waited was dropped with the rest; fetching meets it again.
            p.phase = Phase::Active;
        }
        self.fetch_generation += 1;
        self.signals.wake_driver();
        self.settle(None);
    }

    /// Tells that a partition was read to its end, once until there is more.
    pub(super) fn check_eof(&mut self, key: Key) {
        if !self.config.partition_eof {
            return;
        }
        let read_committed = self.config.read_committed();
        let Some(p) = self.partitions.get_mut(&key) else { return };
        let at_end = p.end_offset(read_committed).is_some_and(|end| p.position >= end);
        if p.phase != Phase::Active
            || p.revoking.is_some()
            || !at_end
            || !p.queue.is_empty()
            || p.checkout.is_some()
            || p.eof_told == Some(p.position)
        {
            return;
        }
        let offset = p.position;
        p.eof_told = Some(offset);
        let topic_partition = p.ownership.topic_partition.clone();
        self.queue_event(Event::PartitionEof { topic_partition, offset });
    }
}

/// Makes a batch of what was decoded. From here on its memory is pinned, not in the ledger.
fn hand_out(checkout: &mut Checkout, start: i64, end: i64) -> Batch {
    let count = checkout.ready.iter().map(|rest| rest.count).sum();
    let last = checkout.ready.last().map_or(start, |rest| rest.last);
    let part = |rest: Rest| Part {
        _pin: Some(rest.queued.pin()),
        batch: rest.batch,
        cursor: rest.cursor,
        count: rest.count,
    };
    let parts = if checkout.ready.len() > 1 {
        Parts::Many(checkout.ready.drain(..).map(part).collect())
    } else {
        checkout.ready.pop().map_or(Parts::Many(Box::default()), |rest| Parts::One(part(rest)))
    };
    Batch(Arc::new(BatchInner { ownership: Arc::clone(&checkout.ownership), parts, start, end, last, count }))
}
