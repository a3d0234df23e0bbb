//! Decoding ahead of the reader, on whatever threads there are for it.
//!
//! What a codec makes of a batch depends on nothing but its bytes, so batches may be decoded in any order and at any
//! time; the queue keeps the order, and a read still checks ownership and moves the position. Each raw segment has an
//! [`Ahead`]: a claim for each of its first batches, by the reader or by a [`DecodeJob`].
//!
//! | claim | input | next |
//! |---|---|---|
//! | – | the reader comes to it, or it is nothing to decode ahead | the reader's: decoded on its thread |
//! | – | `next_decode_job` | running, its estimate reserved in the ledger |
//! | running | the job ends | done: the batch is in the ledger with what it takes |
//! | running | the job is dropped | the reader's |
//! | any | the reader is past it; its segment is dropped | – |
//!
//! A reader that comes to a running batch is given what lies before it. If that is nothing it runs jobs itself, and waits
//! only when there are none.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use bytes::{Buf, Bytes};
use ottla_wire::records::{self as wire, BatchDecoder, BatchError, Batches, Compression, RawBatch};

use super::ledger::FrameCharge;
use super::{Delivery, Key, Shared};

/// The claims for the batches of one raw segment, from the front on.
#[derive(Debug)]
pub(super) struct Ahead(Mutex<Claims>);

#[derive(Debug)]
struct Claims {
    claims: VecDeque<Claim>,
    /// The batches that nobody has claimed.
    rest: Bytes,
}

#[derive(Debug)]
enum Claim {
    Reader,
    Job(Arc<Slot>),
}

/// Where a job puts what came of it.
#[derive(Debug)]
pub(super) struct Slot(Mutex<State>);

#[derive(Debug)]
enum State {
    Running,
    Done(Box<Result<(wire::Batch, FrameCharge), BatchError>>),
    Gone,
}

/// What the reader finds at the front of a segment.
pub(super) enum Front {
    /// To be decoded by the reader.
    Undecoded,
    Decoded(Result<(wire::Batch, FrameCharge), BatchError>),
    Running(Arc<Slot>),
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.lock(), State::Running)
    }
}

impl Ahead {
    /// For the batches in `rest`; if somebody waits for the first, it is the reader's.
    pub(super) fn new(mut rest: Bytes, is_awaited: bool) -> Self {
        let mut claims = VecDeque::new();
        if is_awaited && let Some(Ok(first)) = Batches::first(&rest) {
            rest.advance(first.header.size);
            claims.push_back(Claim::Reader);
        }
        Self(Mutex::new(Claims { claims, rest }))
    }

    fn lock(&self) -> MutexGuard<'_, Claims> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch in front, of this size, is wanted by the reader.
    pub(super) fn front(&self, size: usize) -> Front {
        let mut ahead = self.lock();
        let Some(claim) = ahead.claims.front() else {
            ahead.claim_for_reader(size);
            return Front::Undecoded;
        };
        let Claim::Job(slot) = claim else { return Front::Undecoded };
        let mut state = slot.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Done(result) => Front::Decoded(*result),
            State::Gone => Front::Undecoded,
            State::Running => {
                *state = State::Running;
                Front::Running(Arc::clone(slot))
            }
        }
    }

    /// The reader is past the batch in front, of this size.
    pub(super) fn pass(&self, size: usize) {
        let mut ahead = self.lock();
        if ahead.claims.pop_front().is_none() {
            let size = size.min(ahead.rest.len());
            ahead.rest.advance(size);
        }
    }
}

impl Claims {
    fn claim_for_reader(&mut self, size: usize) {
        self.rest.advance(size.min(self.rest.len()));
        self.claims.push_back(Claim::Reader);
    }

    /// The next batch that a job is good for.
    fn next(&mut self) -> Option<RawBatch> {
        loop {
            match Batches::first(&self.rest) {
                Some(Ok(batch))
                    if batch.header.is_control || batch.header.compression == Compression::None =>
                {
                    self.claim_for_reader(batch.header.size);
                }
                Some(Ok(batch)) => return Some(batch),
                // The reader meets the error when it comes here.
                Some(Err(_)) | None => {
                    self.rest.clear();
                    return None;
                }
            }
        }
    }
}

/// One batch to decode, on any thread. Dropped without having run, it is left to the reader.
pub struct DecodeJob {
    shared: Arc<Shared>,
    key: Key,
    slot: Arc<Slot>,
    batch: Option<RawBatch>,
    /// Its estimate, until it is known what it takes.
    reserved: Option<FrameCharge>,
}

impl DecodeJob {
    /// Decodes it; the reader is woken if it waits for it.
    pub fn run(mut self, decoder: &mut BatchDecoder) {
        let Some(batch) = self.batch.take() else { return };
        let result = batch.decode(decoder, self.shared.decode_options()).map(|batch| {
            let charge = FrameCharge::new_ahead(&self.shared.signals, batch.allocated());
            (batch, charge)
        });
        *self.slot.lock() = State::Done(Box::new(result));
    }
}

impl Drop for DecodeJob {
    fn drop(&mut self) {
        let mut state = self.slot.lock();
        if matches!(*state, State::Running) {
            *state = State::Gone;
        }
        drop(state);
        self.reserved = None;
        self.shared.lock().decoded(self.key);
    }
}

impl fmt::Debug for DecodeJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeJob").finish_non_exhaustive()
    }
}

impl Shared {
    /// A batch to decode ahead of the reader. `None`: there is none now; the waker set with
    /// [`set_decoder_waker`](Self::set_decoder_waker) is called when that may have changed.
    pub fn next_decode_job(self: &Arc<Self>) -> Option<DecodeJob> {
        let mut delivery = self.lock();
        let job = delivery.next_job(self);
        delivery.decoders_idle = job.is_none();
        job
    }

    /// Decodes a batch ahead on the reader's thread, if the reader would wait for another thread otherwise.
    pub(super) fn help(self: &Arc<Self>, decoder: &mut BatchDecoder) -> bool {
        if !self.decodes_ahead() {
            return false;
        }
        let mut delivery = self.lock();
        let awaits = delivery
            .awaited
            .and_then(|key| delivery.partitions.get(&key))
            .is_some_and(|p| p.decoding.is_some());
        let job = if awaits { delivery.next_job(self) } else { None };
        drop(delivery);
        job.map(|job| job.run(decoder)).is_some()
    }

    /// Whom to wake when there is something to decode ahead.
    pub fn set_decoder_waker(&self, waker: Waker) {
        let mut delivery = self.lock();
        let old = delivery.decoder_waker.replace(waker);
        delivery.stale.extend(old);
    }
}

impl Delivery {
    fn next_job(&mut self, shared: &Arc<Shared>) -> Option<DecodeJob> {
        if self.shutdown || self.reader_gone || self.fatal.is_some() {
            return None;
        }
        let budget = self.config.decode_ahead_bytes;
        let mut index = 0;
        while let Some((key, ahead)) = self.ahead.get(index) {
            let key = *key;
            let (Some(p), Some(ahead)) = (self.partitions.get(&key), ahead.upgrade()) else {
                self.ahead.remove(index);
                continue;
            };
            // What is not handed out would only hold memory.
            if p.paused.is_some() || p.revoking.is_some() {
                index += 1;
                continue;
            }
            let mut claims = ahead.lock();
            let Some(batch) = claims.next() else {
                self.ahead.remove(index);
                continue;
            };
            let size = batch.header.size;
            let estimate = batch.decompressed_estimate(self.config.max_decompressed_batch_bytes);
            if estimate > budget {
                claims.claim_for_reader(size);
                continue;
            }
            if self.signals.ahead().saturating_add(estimate) > budget {
                return None;
            }
            let slot = Arc::new(Slot(Mutex::new(State::Running)));
            claims.rest.advance(size);
            claims.claims.push_back(Claim::Job(Arc::clone(&slot)));
            let reserved = Some(FrameCharge::new_ahead(&self.signals, estimate));
            return Some(DecodeJob { shared: Arc::clone(shared), key, slot, batch: Some(batch), reserved });
        }
        None
    }

    /// Batches came that may be decoded ahead.
    pub(super) fn offer_ahead(&mut self, key: Key, ahead: &Arc<Ahead>) {
        // Segments that are gone are forgotten as they are met; if nobody looks, here.
        if self.ahead.len() == self.ahead.capacity() {
            self.ahead.retain(|(_, ahead)| ahead.strong_count() > 0);
        }
        self.ahead.push_back((key, Arc::downgrade(ahead)));
        self.wake_decoders();
    }

    /// There may be something for them to do, or room for it.
    pub(super) fn wake_decoders(&mut self) {
        if self.decoders_idle && !self.ahead.is_empty() {
            self.decoders_idle = false;
            self.wakes.extend(self.decoder_waker.clone());
        }
    }

    /// A job of this partition has ended.
    fn decoded(&mut self, key: Key) {
        let Some(p) = self.partitions.get_mut(&key) else { return };
        // Whoever waits does so for one of them.
        if p.decoding.take_if(|slot| !slot.is_running()).is_none() {
            return;
        }
        self.make_ready(key);
        self.settle_partition(key, None);
        self.settle(None);
    }
}

/// Segments that may have something to decode, and their partitions.
pub(super) type AheadQueue = VecDeque<(Key, Weak<Ahead>)>;
