//! Decoding, outside the lock.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_wire::records::{self as wire, BatchDecoder, Compression, DecodeOptions, RawBatch, RecordCursor};

use super::ahead::{Front, Slot};
use super::batch::{Part, Parts};
use super::ledger::{FrameCharge, Pins, Queued};
use super::queue::{RawSegment, Rest, Segment};
use super::token::Ownership;
use super::{Shared, errors};
use crate::planted::{planted, planting};
use crate::{Error, LeaderEpoch};

/// Batches are joined until they hold this many bytes: a reader waits for one batch, and what it waits for is
/// decoded whether there is room in the ledger or not. And what was just decoded is still in the processor's cache when
/// it is read: with a megabyte most of it is not.
const JOIN_BYTES: usize = 768 << 10;

/// Collections that are used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) segments: VecDeque<Segment>,
    pub(super) ready: Vec<Rest>,
}

/// Segments taken out of a partition's queue to be decoded. Dropped without an end (decoding panicked), the
/// partition fetches them again.
#[derive(Debug)]
pub(super) struct Checkout {
    pub(super) shared: Arc<Shared>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) number: u64,
    /// Most records.
    pub(super) limit: usize,
    /// Bytes taken out of the queue.
    pub(super) bytes: usize,
    /// What is not decoded yet, then what is to be put back.
    pub(super) segments: VecDeque<Segment>,
    /// What may be handed out.
    pub(super) ready: Vec<Rest>,
    taken: usize,
    taken_bytes: usize,
    /// What decompressed batches are counted in.
    decompressed: Option<FrameCharge>,
    /// Before the first record that may be handed out.
    pub(super) lead: i64,
    pub(super) lead_epoch: Option<LeaderEpoch>,
    /// Behind what was decoded.
    pub(super) position: i64,
    pub(super) position_epoch: Option<LeaderEpoch>,
    /// The next batch is being decoded by somebody else.
    pub(super) awaits: Option<Arc<Slot>>,
    /// A batch was verified.
    pub(super) verified: bool,
    pub(super) error: Option<Error>,
    pub(super) finished: bool,
}

impl Checkout {
    pub(super) fn new(
        shared: Arc<Shared>,
        ownership: Arc<Ownership>,
        number: u64,
        limit: usize,
        bytes: usize,
        (position, position_epoch): (i64, Option<LeaderEpoch>),
        scratch: Scratch,
    ) -> Self {
        Self {
            shared,
            ownership,
            number,
            limit,
            bytes,
            segments: scratch.segments,
            ready: scratch.ready,
            taken: 0,
            taken_bytes: 0,
            decompressed: None,
            awaits: None,
            lead: position,
            lead_epoch: position_epoch,
            position,
            position_epoch,
            verified: false,
            error: None,
            finished: false,
        }
    }

    /// Decodes until there are enough records, or until something cannot be read.
    pub(super) fn decode(&mut self, decoder: &mut BatchDecoder) {
        let options = self.shared.decode_options();
        let read_committed = self.shared.config.read_committed();
        while let Some(front) = self.segments.front_mut() {
            let go_on = match front {
                Segment::Raw(raw) => match raw.peek() {
                    None => {
                        self.segments.pop_front();
                        true
                    }
                    Some(Err(error)) => self.fail(error, self.position.saturating_add(1)),
                    Some(Ok(batch)) if batch.header.is_control => {
                        self.pass_control(batch, decoder, options, read_committed)
                    }
                    Some(Ok(batch)) => self.take_raw(batch, decoder, options, read_committed),
                },
                Segment::Decoded(_) => {
                    if self.is_full() {
                        false
                    } else if let Some(Segment::Decoded(rest)) = self.segments.pop_front() {
                        self.take_rest(rest)
                    } else {
                        false
                    }
                }
                Segment::Failed(_) => {
                    if self.ready.is_empty()
                        && let Some(Segment::Failed(error)) = self.segments.pop_front()
                    {
                        self.error = Some(error);
                    }
                    false
                }
            };
            if !go_on {
                return;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.taken >= self.limit || (self.taken > 0 && self.taken_bytes >= JOIN_BYTES)
    }

    /// Counts a decompressed batch, together with the others of this read.
    fn charge(&mut self, bytes: usize) -> FrameCharge {
        match &self.decompressed {
            Some(charge) => {
                charge.grow(bytes);
                charge.clone()
            }
            None => self.decompressed.insert(FrameCharge::new(&self.shared.signals, bytes)).clone(),
        }
    }

    fn raw(&mut self) -> Option<&mut RawSegment> {
        match self.segments.front_mut() {
            Some(Segment::Raw(raw)) => Some(raw),
            _ => None,
        }
    }

    /// The batch in front is dealt with.
    fn advance(&mut self, size: usize) {
        self.verified = true;
        if let Some(Segment::Raw(raw)) = self.segments.front_mut() {
            raw.advance(size);
            if raw.rest.is_empty() {
                self.segments.pop_front();
            }
        }
    }

    /// The position moves past offsets without a record: they belong to the batch before them.
    fn pass(&mut self, next: i64, epoch: i32) {
        self.position = self.position.max(next);
        self.position_epoch = LeaderEpoch::from_wire(epoch);
        match self.ready.last_mut() {
            Some(last) => (last.end, last.end_epoch) = (self.position, self.position_epoch),
            None => (self.lead, self.lead_epoch) = (self.position, self.position_epoch),
        }
    }

    fn fail(&mut self, error: wire::BatchError, resume_at: i64) -> bool {
        self.error = Some(errors::unreadable(&self.ownership.topic_partition, error, resume_at));
        false
    }

    /// Control batches are never handed out; with `read_committed` their markers end transactions (KIP-98).
    fn pass_control(
        &mut self,
        batch: RawBatch,
        decoder: &mut BatchDecoder,
        options: DecodeOptions,
        read_committed: bool,
    ) -> bool {
        let header = batch.header;
        if read_committed {
            match batch.decode(decoder, options) {
                Ok(batch) => {
                    if let Some(raw) = self.raw()
                        && !planted!(EmptyAbortHides)
                    {
                        raw.aborted.is_batch_aborted(&batch);
                    }
                }
                Err(error) => return self.fail(error, header.next_offset()),
            }
        } else if options.check_crcs
            && let Err(error) = batch.verify_crc()
        {
            return self.fail(error, header.next_offset());
        }
        self.advance(header.size);
        self.pass(header.next_offset(), header.partition_leader_epoch);
        true
    }

    fn take_raw(
        &mut self,
        batch: RawBatch,
        decoder: &mut BatchDecoder,
        options: DecodeOptions,
        read_committed: bool,
    ) -> bool {
        let header = batch.header;
        // Joined is what fits whole; only a batch that is too large by itself is split.
        let declared = usize::try_from(header.record_count).unwrap_or(usize::MAX);
        if self.is_full() || (self.taken > 0 && declared > self.limit.saturating_sub(self.taken)) {
            return false;
        }
        let Some(raw) = self.raw() else { return false };
        if read_committed && raw.aborted.is_aborted(&header, None) {
            // Never decompressed, but verified: its header moves the position.
            if options.check_crcs
                && let Err(error) = batch.verify_crc()
            {
                return self.fail(error, header.next_offset());
            }
            self.advance(header.size);
            self.pass(header.next_offset(), header.partition_leader_epoch);
            return true;
        }
        // Only what would have been refused counts.
        let _ = planting!(CorruptTaken) && batch.verify_crc().is_err() && planted!(CorruptTaken);
        let decoded = match raw.ahead.as_ref().map(|ahead| ahead.front(header.size)) {
            None | Some(Front::Undecoded) => batch.decode(decoder, options).map(|batch| (batch, None)),
            Some(Front::Decoded(result)) => result.map(|(batch, charge)| (batch, Some(charge))),
            Some(Front::Running(slot)) => {
                self.awaits = Some(slot);
                return false;
            }
        };
        let (batch, charge) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.fail(error, header.next_offset()),
        };
        let queued = if let Some(charge) = charge {
            charge.reached();
            Some(Queued::new(charge, batch.data().len()))
        } else if header.compression == Compression::None && header.magic == 2 {
            self.raw().map(|raw| raw.queued.split(header.size))
        } else {
            let charge = self.charge(batch.allocated());
            Some(Queued::new(charge, batch.data().len()))
        };
        self.advance(header.size);
        let Some(queued) = queued else { return false };
        match rest_of(batch, self.position, queued) {
            Some(rest) => self.take_rest(rest),
            None => {
                self.pass(header.next_offset(), header.partition_leader_epoch);
                true
            }
        }
    }

    /// Takes as many records as still fit; the others wait.
    fn take_rest(&mut self, mut rest: Rest) -> bool {
        let room = self.limit.saturating_sub(self.taken);
        if rest.count > room && self.taken > 0 {
            self.segments.push_front(Segment::Decoded(rest));
            return false;
        }
        if rest.count > room {
            let mut records = rest.batch.iter_from(rest.cursor);
            let Some(last) = records.nth(room.saturating_sub(1)) else { return false };
            let cursor = records.cursor();
            let size = cursor.position().saturating_sub(rest.cursor.position());
            rest.queued.shrink(size);
            let first = Rest {
                batch: rest.batch.clone(),
                cursor: rest.cursor,
                count: room,
                last: last.offset(),
                end: last.offset().saturating_add(1),
                end_epoch: LeaderEpoch::from_wire(rest.batch.header().partition_leader_epoch),
                queued: Queued::new(rest.queued.charge().clone(), size),
            };
            rest.count = rest.count.saturating_sub(room);
            rest.cursor = cursor;
            self.segments.push_front(Segment::Decoded(rest));
            self.take_whole(first);
            return false;
        }
        self.take_whole(rest);
        true
    }

    fn take_whole(&mut self, rest: Rest) {
        (self.position, self.position_epoch) = (self.position.max(rest.end), rest.end_epoch);
        self.taken = self.taken.saturating_add(rest.count);
        self.taken_bytes = self.taken_bytes.saturating_add(rest.queued.bytes());
        self.ready.push(rest);
    }

    /// What may be handed out, as the parts of a batch, and the offset of its last record. From here on its
    /// memory is pinned, not in the ledger.
    pub(super) fn parts(&mut self) -> Option<(Parts, i64)> {
        let last = self.ready.last()?.last;
        let mut pins = Pins::default();
        let mut part = |rest: Rest| Part {
            pin: pins.pin(&rest.queued),
            batch: rest.batch,
            cursor: rest.cursor,
            count: rest.count,
            before: 0,
        };
        let parts = match self.ready.len() {
            1 => Parts::One(part(self.ready.pop()?)),
            _ => Parts::Many(self.ready.drain(..).map(part).collect()),
        };
        Some((parts, last))
    }

    /// Leaves what has the same leader epoch as the first record, for a strip.
    pub(super) fn keep_one_epoch(&mut self) {
        let epoch = |rest: &Rest| LeaderEpoch::from_wire(rest.batch.header().partition_leader_epoch);
        let Some(first) = self.ready.first().map(epoch) else { return };
        while let Some(rest) = self.ready.pop_if(|rest| epoch(rest) != first) {
            self.segments.push_front(Segment::Decoded(rest));
            if let Some(last) = self.ready.last() {
                (self.position, self.position_epoch) = (last.end, last.end_epoch);
            }
        }
    }

    /// What is not handed out goes back in front of the queue, in order.
    pub(super) fn put_ready_back(&mut self) {
        while let Some(rest) = self.ready.pop() {
            self.segments.push_front(Segment::Decoded(rest));
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.lock().abandon(self.ownership.key, self.number);
        }
    }
}

/// The records of a batch from `position` on, if there are any. A fetch may begin inside a batch.
fn rest_of(batch: wire::Batch, position: i64, queued: Queued) -> Option<Rest> {
    let header = *batch.header();
    let mut cursor = RecordCursor::default();
    let mut count = batch.record_count();
    if header.base_offset < position {
        let mut records = batch.iter();
        loop {
            cursor = records.cursor();
            if records.next()?.offset() >= position {
                break;
            }
            count = count.saturating_sub(1);
        }
    }
    if count == 0 {
        return None;
    }
    // Offsets increase strictly: as many records as offsets means that there is no gap.
    let span = header.next_offset().saturating_sub(header.base_offset);
    let last = if i64::try_from(batch.record_count()) == Ok(span) {
        header.last_offset
    } else {
        batch.iter_from(cursor).last().map_or(header.last_offset, |record| record.offset())
    };
    let end_epoch = LeaderEpoch::from_wire(header.partition_leader_epoch);
    Some(Rest { batch, cursor, count, last, end: header.next_offset(), end_epoch, queued })
}
