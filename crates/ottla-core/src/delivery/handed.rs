//! What was handed out of one partition in one ownership, and who still holds it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use ottla_wire::records::RecordCursor;

use super::batch::BatchInner;
use super::marks::Done;
use crate::planted::planted;
use crate::{LeaderEpoch, Timestamp};

/// Handed-out batches in the order of offsets. Those that are done and dropped are swept out, so its size
/// follows the number of batches that the user holds.
#[derive(Debug, Default)]
pub(super) struct Handed {
    batches: VecDeque<HandedBatch>,
    /// Sweep when it has grown to this: the cost per batch stays constant.
    sweep_at: usize,
}

struct HandedBatch {
    start: i64,
    end: i64,
    /// The leader epoch of its last record, and that of what lies before the end of the whole.
    epoch: Option<LeaderEpoch>,
    whole: (i64, Option<LeaderEpoch>),
    at: Timestamp,
    /// The reader came back for more after it.
    returned: bool,
    inner: Weak<BatchInner>,
    /// Its records are handed out one at a time. `start` follows what is done of them.
    singly: Option<Singly>,
}

/// How far the records of a strip were looked at: those before are done, or nobody holds them.
#[derive(Clone, Copy)]
struct Singly {
    part: usize,
    cursor: RecordCursor,
    /// Records of the part that lie before the cursor.
    taken: usize,
    index: u32,
    /// Where the last record begins that was handed out, once no other will be.
    last: Option<i64>,
}

/// One handed-out record of a strip.
struct Single {
    index: u32,
    end: i64,
    /// It was handed out last, and the reader has not come back for more.
    in_hand: bool,
    /// Behind it.
    next: Singly,
}

impl HandedBatch {
    fn is_alive(&self) -> bool {
        self.inner.strong_count() > 0
    }

    /// The leader epoch of what lies before `offset`. A strip's records are all of one.
    fn epoch_before(&self, offset: i64) -> Option<LeaderEpoch> {
        let (end, epoch) = self.whole;
        if offset >= end { epoch } else { self.epoch }
    }

    /// Whether all of it is handed out.
    fn is_closed(&self) -> bool {
        self.singly.is_none_or(|singly| singly.last.is_some())
    }

    /// The offset behind what is handed out of it.
    fn end(&self) -> i64 {
        match &self.singly {
            Some(singly) if singly.last.is_none() => self
                .inner
                .upgrade()
                .and_then(|inner| inner.strip.as_ref().map(|strip| strip.position()))
                .unwrap_or(self.end),
            _ => self.end,
        }
    }

    /// The record at `singly`, if it is handed out; `end` is the offset behind all that are.
    fn single(&self, inner: &BatchInner, mut singly: Singly, end: i64) -> Option<Single> {
        let mut part = inner.part(singly.part)?;
        while singly.taken == part.count {
            part = inner.part(singly.part + 1)?;
            (singly.part, singly.taken, singly.cursor) = (singly.part + 1, 0, part.cursor);
        }
        let mut records = part.batch.iter_from(singly.cursor);
        let offset = records.next()?.offset();
        if offset >= end {
            return None;
        }
        let is_last = offset.saturating_add(1) >= end || offset == inner.last;
        let index = singly.index;
        let next = Singly {
            cursor: records.cursor(),
            taken: singly.taken + 1,
            index: index.wrapping_add(1),
            ..singly
        };
        let behind = if is_last { end } else { offset.saturating_add(1) };
        Some(Single { index, end: behind, in_hand: is_last && !self.returned, next })
    }

    /// Moves `start` over the records of a strip that are done, marked or (unless `auto`) dropped.
    fn sweep_singly(&mut self, auto: bool, done: &mut Done) {
        let Some(mut singly) = self.singly else { return };
        let (from, end) = (self.start, self.end());
        match self.inner.upgrade() {
            Some(inner) => {
                let held = |index| inner.strip.as_ref().is_some_and(|strip| strip.is_held(index));
                // Done from here on, and not told yet.
                let mut done_from = from;
                while let Some(single) = self.single(&inner, singly, end) {
                    if held(single.index) || (auto && single.in_hand) {
                        if auto {
                            done.insert(done_from, self.start, self.epoch_before(self.start));
                        }
                        if !done.contains(self.start, single.end) {
                            done_from = self.start;
                            break;
                        }
                        done_from = single.end;
                    }
                    (self.start, singly) = (single.end, single.next);
                }
                if auto {
                    done.insert(done_from, self.start, self.epoch_before(self.start));
                }
                self.singly = Some(singly);
            }
            // Nobody holds any; the last one may be copied out, and worked on.
            None => {
                let to = if self.returned || !auto { end } else { singly.last.unwrap_or(from).max(from) };
                if auto {
                    done.insert(from, to, self.epoch_before(to));
                }
                self.start = to;
            }
        }
    }

    /// Whether the reader came back from the record at `start` and somebody holds it.
    fn is_held_singly(&self, singly: Singly) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let held = |index| inner.strip.as_ref().is_some_and(|strip| strip.is_held(index));
        self.single(&inner, singly, self.end()).is_some_and(|single| held(single.index) && !single.in_hand)
    }
}

impl Handed {
    /// Notes that this batch is handed out. Gives whether it is time to sweep.
    pub(super) fn push(&mut self, now: Timestamp, inner: &Arc<BatchInner>) -> bool {
        let singly = inner.strip.as_ref().map(|_| Singly {
            part: 0,
            cursor: inner.part(0).map(|part| part.cursor).unwrap_or_default(),
            taken: 0,
            index: 0,
            last: None,
        });
        // Mostly one, of each of many partitions.
        if self.batches.capacity() == 0 {
            self.batches.reserve_exact(1);
        }
        self.batches.push_back(HandedBatch {
            start: inner.start,
            end: inner.end,
            epoch: inner.leader_epoch(),
            whole: (inner.end, inner.end_epoch),
            at: now,
            returned: false,
            inner: Arc::downgrade(inner),
            singly,
        });
        self.batches.len() > self.sweep_at.max(16)
    }

    /// Of the strip that was handed out last no other record will be: `end` is the offset behind those that were,
    /// and the last one begins at `last`. Without that it is looked for.
    pub(super) fn strip_ended(&mut self, end: i64, last: Option<i64>) {
        let Some(batch) = self.batches.back_mut() else { return };
        let Some(mut singly) = batch.singly.filter(|singly| singly.last.is_none()) else { return };
        let last = last.or_else(|| {
            let inner = batch.inner.upgrade()?;
            let (mut at, mut start) = (singly, batch.start);
            while let Some(single) = batch.single(&inner, at, end).filter(|single| single.end < end) {
                (at, start) = (single.next, single.end);
            }
            Some(start)
        });
        singly.last = Some(last.unwrap_or(batch.start));
        batch.singly = Some(singly);
        batch.end = end;
    }

    /// The reader came back: it is finished with what it was given, unless it kept handles.
    pub(super) fn came_back(&mut self) {
        for batch in self.batches.iter_mut().rev() {
            if batch.returned {
                break;
            }
            // A strip that is open is come back from by the next record.
            batch.returned = batch.is_closed();
        }
    }

    /// Takes out what nobody holds any more. `auto`: the reader must have come back too, and then it is done.
    pub(super) fn sweep(&mut self, auto: bool, done: &mut Done) {
        self.batches.retain_mut(|batch| {
            if batch.singly.is_some() {
                batch.sweep_singly(auto, done);
                return !batch.is_closed() || batch.start < batch.end;
            }
            if batch.end <= done.to() && !batch.is_alive() {
                return false;
            }
            if batch.is_alive() {
                return true;
            }
            if !auto {
                return false;
            }
            let returned = batch.returned || planted!(CommitsUnreturned);
            if returned {
                done.insert(batch.start, batch.end, batch.epoch_before(batch.end));
            }
            !returned
        });
        self.sweep_at = self.batches.len().saturating_mul(2);
    }

    /// Whether something that was handed out is not done.
    pub(super) fn holds_back(&self, done: &Done) -> bool {
        self.batches.iter().any(|batch| !done.contains(batch.start, batch.end()))
    }

    /// The oldest batch that the reader came back from and that is still held: where it starts, and since when.
    pub(super) fn held_back(&self, done: &Done) -> Option<(i64, Timestamp)> {
        let holds = |batch: &&HandedBatch| match batch.singly {
            Some(singly) => batch.end() > done.to() && batch.is_held_singly(singly),
            None => batch.returned && batch.is_alive() && batch.end > done.to(),
        };
        let batch = self.batches.iter().find(holds)?;
        Some((batch.start.max(done.to()), batch.at))
    }
}

impl fmt::Debug for HandedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}..{} ({} handles, returned: {})",
            self.start,
            self.end(),
            self.inner.strong_count(),
            self.returned
        )
    }
}
