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

use super::checkout::{Checkout, Scratch};
use super::events::{Event, Filter, Taken};
use super::partition::Phase;
use super::queue::{Pending, Segment};
use super::strip::RecordReader;
use super::{Delivery, Key, Shared};
use crate::planted::planted;
use crate::{Timestamp, TopicPartition};

/// Most records of a strip: what they are counted in is small, and a strip is made at once.
const MAX_STRIP: usize = 1 << 16;

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
        self.read(now, decoder, filter, waker, None, true)
    }

    /// The same as a part of the read before it: what that gave is not come back from.
    pub fn take_more(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        filter: Filter<'_>,
        waker: Option<&Waker>,
    ) -> Taken {
        self.read(now, decoder, filter, waker, None, false)
    }

    /// With `single` the records are handed out one at a time, and what is decoded beyond the first is its strip.
    pub(super) fn read(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        filter: Filter<'_>,
        waker: Option<&Waker>,
        mut single: Option<&mut RecordReader>,
        mut came_back: bool,
    ) -> Taken {
        loop {
            let begun = self.lock().begin_take(self, now, &filter, waker, single.is_some(), came_back);
            let mut checkout = match begun {
                // Rather than wait for a batch that is being decoded, it decodes what comes after it.
                Begun::Answer(Taken::Pending) if self.help(decoder) => {
                    came_back = false;
                    continue;
                }
                Begun::Answer(taken) => return taken,
                Begun::Decode(checkout) => checkout,
            };
            came_back = false;
            checkout.decode(decoder);
            let answer = self.lock().finish_take(now, &mut checkout, single.as_deref_mut());
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
        single: bool,
        came_back: bool,
    ) -> Begun {
        self.saw(now);
        if let Some(tp) = filter.partition {
            return self.begin_partition(shared, now, filter, tp, waker, came_back);
        }
        if let Some(taken) = self.begin_read(now, filter, came_back) {
            return Begun::Answer(taken);
        }
        if filter.max_records > 0
            && let Some(key) = self.next_ready()
            && let Some(begun) = self.begin_data(shared, now, key, filter.max_records, single)
        {
            return begun;
        }
        if let Some(waker) = waker {
            self.set_reader_waker(waker);
        }
        // Without an answer it stands, unless data is there that was not asked for.
        self.settle(Some(now));
        Begun::Answer(Taken::Pending)
    }

    /// The reader is here: the end, an event or an error comes before data.
    pub(super) fn begin_read(
        &mut self,
        now: Timestamp,
        filter: &Filter<'_>,
        came_back: bool,
    ) -> Option<Taken> {
        self.lose_strip();
        self.gathers = false;
        if came_back {
            self.came_back(filter);
        }
        self.reader_came();
        if let Some(error) = self.fatal.clone() {
            return Some(Taken::Error(error));
        }
        if self.shutdown {
            if self.events_mode {
                self.read_to_the_end();
            }
            self.settle(Some(now));
            return Some(Taken::End);
        }
        let event = self.take_event(filter.events).map(Taken::Event);
        let taken = event.or_else(|| self.errors.pop_front().map(Taken::Error))?;
        self.holding = true;
        self.settle(Some(now));
        Some(taken)
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
        let (ends, auto) = (p.revoking.is_some() || self.shutdown, self.config.is_auto());
        let deliverable = p.is_deliverable(self.config.max_unmarked);
        if came_back && auto {
            self.counted_is_done();
        }
        if ends {
            self.settle_partition(key, Some(now));
            self.settle(Some(now));
            return Begun::Answer(Taken::End);
        }
        if deliverable
            && filter.max_records > 0
            && let Some(begun) = self.begin_data(shared, now, key, filter.max_records, false)
        {
            return begun;
        }
        if let (Some(p), Some(waker)) = (self.partitions.get_mut(&key), waker) {
            self.stale.extend(p.waker.replace(waker.clone()));
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
        for key in self.in_hand.drain(..) {
            if let Some(p) = self.partitions.get_mut(&key) {
                p.handed.came_back();
            }
        }
        if self.config.is_auto() {
            self.counted_is_done();
        }
    }

    /// The next event; or, if events are not asked for, all of them handled by the defaults, which is to know
    /// that the reader has met them.
    fn take_event(&mut self, wanted: bool) -> Option<Event> {
        while let Some(event) = self.events.pop_front() {
            match event {
                Pending::Revoking(id) if wanted => {
                    if let Some(revocation) = self.revocation_seen(id) {
                        return Some(Event::Revoking(revocation));
                    }
                }
                Pending::Revoking(id) => self.revocation_met(id),
                Pending::Told(event) if wanted => {
                    if let Event::Assigned(partitions) = &event
                        && !self.questions.is_empty()
                    {
                        self.questions_told(partitions);
                    }
                    return Some(event);
                }
                Pending::Told(event) => tracing::debug!(?event, "handled by the defaults"),
            }
        }
        None
    }

    /// Hands out what needs no decoding, or takes out what does.
    fn begin_data(
        &mut self,
        shared: &Arc<Shared>,
        now: Timestamp,
        key: Key,
        max_records: usize,
        single: bool,
    ) -> Option<Begun> {
        let p = self.partitions.get(&key)?;
        // What is handed out beyond a mark is counted, under the lock.
        let max_records = match single {
            true if p.marks_used => 1,
            // The reader says that it came back from the records of a strip when that ends.
            true => max_records.min(MAX_STRIP).min(self.config.commit_records.unwrap_or(MAX_STRIP).max(1)),
            false => max_records,
        };
        let limit = max_records
            .min(self.config.max_batch_records)
            .min(p.unmarked_room(self.config.max_unmarked))
            .max(1);
        // Single records come out of a strip instead.
        if (!single || limit == 1)
            && let Some(batch) = self.take_at_hand(now, key, limit)
        {
            return Some(Begun::Answer(Taken::Batch(batch)));
        }
        self.check_out(shared, key, limit).map(Begun::Decode)
    }

    /// Takes segments out of a partition's queue to be decoded.
    pub(super) fn check_out(&mut self, shared: &Arc<Shared>, key: Key, limit: usize) -> Option<Checkout> {
        let number = self.number();
        let mut scratch = std::mem::take(&mut self.scratch);
        let p = self.partitions.get_mut(&key)?;
        let (mut records, mut bytes) = (0usize, 0usize);
        scratch.segments.clear();
        while records < limit {
            let Some(segment) = p.queue.pop_front() else { break };
            records = records.saturating_add(segment.records());
            bytes += segment.bytes();
            scratch.segments.push_back(segment);
        }
        p.checkout = Some(number);
        let (position, epoch) = (p.position(), p.position_epoch);
        let ownership = Arc::clone(&p.ownership);
        Some(Checkout::new(Arc::clone(shared), ownership, number, limit, bytes, (position, epoch), scratch))
    }

    /// Ends a checkout. `None`: nothing came of it, look again.
    pub(super) fn finish_take(
        &mut self,
        now: Timestamp,
        checkout: &mut Checkout,
        single: Option<&mut RecordReader>,
    ) -> Option<Taken> {
        checkout.finished = true;
        let key = checkout.ownership.key;
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
            checkout.bytes = p.queued_bytes;
            p.queue.clear();
            if p.phase == Phase::Active {
                self.fetch_generation += 1;
            }
            p.phase = Phase::Stopped;
        }
        let single = single.filter(|_| checkout.limit > 1);
        if (p.paused.is_some() && !planted!(PausedDelivered)) || (single.is_some() && p.marks_used) {
            checkout.put_ready_back();
            (checkout.position, checkout.position_epoch) = (checkout.lead, checkout.lead_epoch);
        }
        if single.is_some() {
            checkout.keep_one_epoch();
        }
        let error = checkout.error.take();
        let records: usize = checkout.ready.iter().map(|rest| rest.count).sum();
        let delivers = records > 0;
        let error = match error {
            // Told when the reader comes next: the records before it first, and nothing while paused.
            Some(error) if delivers || p.paused.is_some() || !checkout.segments.is_empty() => {
                checkout.segments.push_back(Segment::Failed(error));
                None
            }
            error => error,
        };
        let mut put_back = 0;
        while let Some(segment) = checkout.segments.pop_back() {
            put_back += segment.bytes();
            p.queue.push_front(segment);
        }
        let queued =
            if p.queue.is_empty() { 0 } else { p.queued_bytes.saturating_sub(checkout.bytes) + put_back };
        let drained = p.set_queued_bytes(queued);
        // Looked at under the lock: a job that ends now tells so after this.
        p.decoding = checkout.awaits.take().filter(|slot| !delivers && slot.is_running());
        if p.decoding.is_some() {
            self.awaited = Some(key);
        }
        let strip = single.filter(|_| records > 1);
        if strip.is_none() && checkout.position > p.position() {
            p.move_over(&checkout.ready, (checkout.lead, checkout.lead_epoch));
            p.move_position(checkout.position, checkout.position_epoch);
        }
        self.uncommitted.insert(key);
        let taken = if let Some(reader) = strip {
            self.begin_strip(now, checkout, reader).map(Taken::Record)
        } else if let Some(parts) = checkout.parts() {
            let last = parts.1;
            self.hand_out(now, key, parts.0, records, last).map(Taken::Batch)
        } else {
            error.map(|error| {
                self.tallies.told(error.kind());
                self.in_hand(key);
                Taken::Error(error)
            })
        };
        self.scratch = Scratch {
            segments: std::mem::take(&mut checkout.segments),
            ready: std::mem::take(&mut checkout.ready),
        };
        self.check_eof(key);
        self.served(now, key, drained);
        self.wake_decoders();
        taken
    }

    /// A checkout that was given up by a panic: what it held is fetched again.
    pub(super) fn abandon(&mut self, key: Key, number: u64) {
        if self.partitions.get(&key).is_some_and(|p| p.checkout == Some(number)) {
            self.fetch_again(key);
        }
    }

    /// A strip that its reader did not give back before it read on: the rest is fetched again.
    fn lose_strip(&mut self) {
        if let Some(key) = self.walked.take().map(|walked| walked.key)
            && self.partitions.get(&key).is_some_and(|p| p.strip.is_some())
        {
            self.fetch_again(key);
        }
    }

    fn fetch_again(&mut self, key: Key) {
        let Some(p) = self.partitions.get_mut(&key) else { return };
        p.refetch();
        if p.phase == Phase::Stopped {
            // The error that waited was dropped with the rest; fetching meets it again.
            p.phase = Phase::Active;
        }
        self.fetch_generation += 1;
        self.signals.wake_driver();
        self.settle(None);
    }
}
