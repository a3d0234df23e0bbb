//! Records that are handed out one at a time, without the lock.
//!
//! A reader that wants single records is given a *strip*: the records of a read, decoded, of which it claims one
//! after the other. What reader and driver share of it is one word, the position, with a bit that closes it. A
//! record is handed out by moving that word, which fails once it is closed: so whoever closes a strip knows
//! exactly what was handed out of it, and after that nothing is.
//!
//! | state | input | next |
//! |---|---|---|
//! | – | the first record of a read is handed out | open: it is the partition's position that moves |
//! | open | the last record is handed out (under the lock) | – |
//! | open | pause; an event or an error for the reader; the first mark | closed: the reader gives the rest back |
//! | open, closed | revocation, seek, loss, shutdown | – what was not handed out is dropped |
//!
//! Who holds a record is counted for each, so that with `Commit::Auto` what lies before a record that is kept is
//! committed, as if each had come in a batch of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ottla_wire::records::RecordCursor;

use super::batch::{BatchInner, Part, Parts};
use super::checkout::Checkout;
use super::events::{Filter, Taken};
use super::ledger::{Pins, Queued};
use super::queue::{Rest, Segment};
use super::record::{Record, gap};
use super::{Delivery, Key, Shared};
use crate::{LeaderEpoch, Timestamp};

const CLOSED: u64 = 1 << 63;

/// What reader, driver and handles share of a strip.
pub(super) struct Strip {
    /// The offset behind the last record that was handed out; with the top bit set no other is.
    state: AtomicU64,
    /// Handles of each record.
    held: Box<[AtomicU32]>,
}

impl Strip {
    fn new(position: i64, records: usize) -> Self {
        let held = (0..records).map(|_| AtomicU32::new(0)).collect();
        Self { state: AtomicU64::new(position as u64), held }
    }

    /// The next offset to hand out.
    pub(super) fn position(&self) -> i64 {
        (self.state.load(Ordering::Acquire) & !CLOSED) as i64
    }

    fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Nothing more of it is handed out.
    pub(super) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Hands out the record at `index`: the position moves from `from` to `to`, unless it was closed.
    #[inline]
    fn claim(&self, index: u32, from: i64, to: i64) -> bool {
        let Some(held) = self.held.get(index as usize) else { return false };
        held.store(1, Ordering::Relaxed);
        let moved =
            self.state.compare_exchange(from as u64, to as u64, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !moved {
            held.store(0, Ordering::Relaxed);
        }
        moved
    }

    /// One more handle of a record that somebody holds.
    pub(super) fn hold(&self, index: u32) {
        if let Some(held) = self.held.get(index as usize) {
            held.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One handle less; true if it was the last.
    #[inline]
    pub(super) fn release(&self, index: u32) -> bool {
        // Sequentially consistent, with the flag that is read after it: see `Signals::record_dropped`.
        self.held.get(index as usize).is_some_and(|held| held.fetch_sub(1, Ordering::SeqCst) == 1)
    }

    pub(super) fn is_held(&self, index: u32) -> bool {
        self.held.get(index as usize).is_some_and(|held| held.load(Ordering::SeqCst) > 0)
    }
}

/// What a partition knows of the strip that the reader has of it.
pub(super) struct OpenStrip {
    inner: Arc<BatchInner>,
    /// The position behind all of it.
    pub(super) end: i64,
    pub(super) end_epoch: Option<LeaderEpoch>,
}

impl OpenStrip {
    pub(super) fn position(&self) -> i64 {
        self.inner.strip.as_ref().map_or(self.inner.start, Strip::position)
    }

    /// Behind its last record.
    pub(super) fn records_end(&self) -> i64 {
        self.inner.last.saturating_add(1)
    }

    /// Whether it is this one.
    pub(super) fn is(&self, inner: &Arc<BatchInner>) -> bool {
        Arc::ptr_eq(&self.inner, inner)
    }

    /// Closes it and gives the position where that met it.
    pub(super) fn close(&self) -> i64 {
        if let Some(strip) = &self.inner.strip {
            strip.close();
        }
        self.position()
    }
}

/// The reader's side of a strip, for [`Shared::take_record`]: where it is, and what comes next. Dropping it loses
/// nothing that was handed out; what was not is fetched again.
#[derive(Default)]
pub struct RecordReader {
    inner: Option<Arc<BatchInner>>,
    part: usize,
    cursor: RecordCursor,
    /// What is left of the part, and altogether.
    part_left: usize,
    left: usize,
    /// How many were handed out.
    index: u32,
    /// The position as far as this reader moved it.
    position: i64,
    /// Where the record before begins: what its mark would cover.
    before: i64,
    tails: Vec<Tail>,
}

/// What a part needs to be put back into the queue.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) last: i64,
    pub(super) end: i64,
    pub(super) end_epoch: Option<LeaderEpoch>,
    pub(super) queued: Queued,
}

impl RecordReader {
    /// A reader that has nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether other tasks should get their turn before the next record: every so many records.
    #[inline]
    pub fn is_to_yield(&self) -> bool {
        self.index.is_multiple_of(16)
    }

    /// Whether the next record can be had without the lock, unless the strip was closed.
    #[inline]
    pub fn is_at_hand(&self) -> bool {
        self.left > 1
    }

    /// The next record, if it can be had without the lock. Not the last one: that ends the strip.
    #[inline]
    pub fn next_at_hand(&mut self) -> Option<Record> {
        if self.left <= 1 {
            return None;
        }
        self.claim(None)
    }

    /// Hands out the next record; the position moves to `end`, or behind the record.
    #[inline]
    fn claim(&mut self, end: Option<i64>) -> Option<Record> {
        let inner = self.inner.as_ref()?;
        while self.part_left == 0 {
            let part = inner.part(self.part + 1)?;
            self.part += 1;
            (self.cursor, self.part_left) = (part.cursor, part.count);
        }
        let mut records = inner.part(self.part)?.batch.iter_from(self.cursor);
        let record = records.next()?;
        let offset = record.offset();
        let behind = end.unwrap_or_else(|| offset.saturating_add(1));
        if !inner.strip.as_ref()?.claim(self.index, self.position, behind) {
            return None;
        }
        let gap = gap(self.position, offset);
        let record = Record { inner: Arc::clone(inner), span: record.span(), place: self.index, gap };
        self.cursor = records.cursor();
        self.part_left -= 1;
        self.left -= 1;
        self.index += 1;
        (self.before, self.position) = (self.position, behind);
        Some(record)
    }

    fn has_strip(&self) -> bool {
        self.inner.is_some()
    }

    fn clear(&mut self) {
        self.inner = None;
        self.left = 0;
        self.tails.clear();
    }
}

impl Shared {
    /// Reads one record: as [`take`](Self::take) of single records, but while they are at hand without the lock
    /// and without asking for the time. `reader` is the same from call to call.
    pub fn take_record(
        self: &Arc<Self>,
        now: impl FnOnce() -> Timestamp,
        decoder: &mut ottla_wire::records::BatchDecoder,
        reader: &mut RecordReader,
        waker: Option<&std::task::Waker>,
    ) -> Taken {
        if let Some(record) = reader.next_at_hand() {
            return Taken::Record(record);
        }
        let now = now();
        if reader.has_strip()
            && let Some(record) = self.lock().end_strip(now, reader)
        {
            return Taken::Record(record);
        }
        match self.read(now, decoder, Filter::BATCHES, waker, Some(reader), true) {
            // One record in a batch of its own; a batch is never empty.
            Taken::Batch(batch) => batch.records().next().map_or(Taken::Pending, Taken::Record),
            taken => taken,
        }
    }

    /// What `reader` has at hand goes back in front of the queue: for a read of another kind.
    pub fn give_back(&self, reader: &mut RecordReader) {
        if reader.has_strip() {
            self.lock().give_strip_back(reader);
        }
    }
}

impl Delivery {
    /// The reader comes to the end of its strip, or cannot go on: gives the last record, or takes the rest back.
    fn end_strip(&mut self, now: Timestamp, reader: &mut RecordReader) -> Option<Record> {
        self.saw(now);
        let inner = reader.inner.clone()?;
        let key = inner.ownership.key;
        let p = self.partitions.get_mut(&key).filter(|p| p.has_strip(&inner));
        let whole = reader.left == 1 && inner.strip.as_ref().is_some_and(|strip| !strip.is_closed());
        let (Some(p), true) = (p, whole) else {
            self.give_strip_back(reader);
            return None;
        };
        let (end, epoch) = p.strip.as_ref().map(|strip| (strip.end, strip.end_epoch))?;
        let record = reader.claim(Some(end));
        let before = reader.before;
        reader.clear();
        p.strip_ended(end, epoch, before);
        self.count_records(&inner.ownership, inner.count);
        self.walked = None;
        self.reader_came();
        self.holding = true;
        self.uncommitted.insert(key);
        self.check_eof(key);
        self.served(now, key, false);
        record
    }

    /// The rest of a strip goes back, if its ownership is still the same.
    pub(super) fn give_strip_back(&mut self, reader: &mut RecordReader) {
        let Some(inner) = reader.inner.take() else { return };
        let key = inner.ownership.key;
        self.count_records(&inner.ownership, inner.count.saturating_sub(reader.left));
        if let Some(p) = self.partitions.get_mut(&key).filter(|p| p.has_strip(&inner)) {
            let (position, before) = (reader.position, reader.before);
            let epoch = p.position_epoch;
            p.strip_ended(position, epoch, before);
            self.walked = None;
            let mut left = reader.left;
            while let (Some(part), Some(tail)) =
                (inner.part(reader.tails.len().saturating_sub(1)), reader.tails.pop())
            {
                if left == 0 {
                    break;
                }
                let current = reader.tails.len() == reader.part;
                let (cursor, count) =
                    if current { (reader.cursor, reader.part_left) } else { (part.cursor, part.count) };
                left = left.saturating_sub(count);
                if count == 0 {
                    break;
                }
                let Tail { last, end, end_epoch, mut queued } = tail;
                queued.shrink(cursor.position().saturating_sub(part.cursor.position()));
                p.queued_bytes += queued.bytes();
                let batch = part.batch.clone();
                let rest = Rest { batch, cursor, count, last, end, end_epoch, queued };
                p.queue.push_front(Segment::Decoded(rest));
            }
            self.make_ready(key);
        }
        reader.clear();
    }

    /// Makes a strip of what was decoded, and hands out its first record. The position is still before it.
    pub(super) fn begin_strip(
        &mut self,
        now: Timestamp,
        checkout: &mut Checkout,
        reader: &mut RecordReader,
    ) -> Option<Record> {
        let auto = self.config.is_auto();
        let key = checkout.ownership.key;
        let p = self.partitions.get_mut(&key)?;
        let count = checkout.ready.iter().map(|rest| rest.count).sum();
        let last = checkout.ready.last()?.last;
        reader.clear();
        let tails = &mut reader.tails;
        let mut before = 0;
        let mut pins = Pins::default();
        let mut part = |rest: Rest| {
            let pin = pins.pin(&rest.queued);
            let Rest { last, end, end_epoch, queued, .. } = rest;
            tails.push(Tail { last, end, end_epoch, queued });
            let part = Part { pin, batch: rest.batch, cursor: rest.cursor, count: rest.count, before };
            before += part.count as u32;
            part
        };
        let parts = match checkout.ready.len() {
            1 => Parts::One(part(checkout.ready.pop()?)),
            _ => Parts::Many(checkout.ready.drain(..).map(part).collect()),
        };
        let start = p.delivered_end();
        let inner = Arc::new(BatchInner {
            ownership: Arc::clone(&p.ownership),
            parts,
            start,
            end: checkout.position,
            end_epoch: checkout.position_epoch,
            last,
            count,
            strip: Some(Strip::new(start, count)),
        });
        let first = inner.part(0)?;
        (reader.part, reader.cursor, reader.part_left) = (0, first.cursor, first.count);
        (reader.left, reader.index) = (count, 0);
        (reader.before, reader.position) = (start, start);
        p.enter_epoch(start, first.leader_epoch());
        if p.handed.push(now, &inner) {
            p.sweep(auto);
        }
        reader.inner = Some(Arc::clone(&inner));
        p.strip = Some(OpenStrip { inner, end: checkout.position, end_epoch: checkout.position_epoch });
        let record = reader.claim(None)?;
        if auto {
            self.count_for_commit(count);
        }
        self.walked = Some(Walked { key, seen: reader.position, looked: now });
        self.in_hand(key);
        Some(record)
    }

    /// The reader is to come under the lock before it is given another record.
    pub(super) fn interrupt(&mut self) {
        if let Some(strip) = self
            .walked
            .as_ref()
            .and_then(|walked| self.partitions.get(&walked.key))
            .and_then(|p| p.strip.as_ref())
        {
            strip.close();
        }
    }
}

/// The strip that is open, and how far it was when the poll clock was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walked {
    pub(super) key: Key,
    pub(super) seen: i64,
    pub(super) looked: Timestamp,
}

impl fmt::Debug for Strip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strip")
            .field("position", &self.position())
            .field("closed", &self.is_closed())
            .field("records", &self.held.len())
            .finish()
    }
}

impl fmt::Debug for OpenStrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenStrip({}..{})", self.position(), self.end)
    }
}

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader").field("left", &self.left).finish_non_exhaustive()
    }
}
