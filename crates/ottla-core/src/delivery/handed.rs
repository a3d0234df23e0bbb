//! What was handed out of one partition in one ownership, and who still holds it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use super::batch::BatchInner;
use super::marks::Done;
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
    epoch: Option<LeaderEpoch>,
    at: Timestamp,
    /// The reader came back for more after it.
    returned: bool,
    inner: Weak<BatchInner>,
}

impl HandedBatch {
    fn is_alive(&self) -> bool {
        self.inner.strong_count() > 0
    }
}

impl Handed {
    /// Notes that this batch is handed out. Gives whether it is time to sweep.
    pub(super) fn push(&mut self, now: Timestamp, inner: &Arc<BatchInner>) -> bool {
        self.batches.push_back(HandedBatch {
            start: inner.start,
            end: inner.end,
            epoch: inner.leader_epoch(),
            at: now,
            returned: false,
            inner: Arc::downgrade(inner),
        });
        self.batches.len() > self.sweep_at.max(16)
    }

    /// The reader came back: it is finished with what it was given, unless it kept handles.
    pub(super) fn came_back(&mut self) {
        for batch in self.batches.iter_mut().rev() {
            if batch.returned {
                break;
            }
            batch.returned = true;
        }
    }

    /// Takes out what nobody holds any more. `auto`: the reader must have come back too, and then it is done.
    pub(super) fn sweep(&mut self, auto: bool, done: &mut Done) {
        self.batches.retain(|batch| {
            if batch.end <= done.to() && !batch.is_alive() {
                return false;
            }
            if batch.is_alive() {
                return true;
            }
            if !auto {
                return false;
            }
            if batch.returned {
                done.insert(batch.start, batch.end, batch.epoch);
            }
            !batch.returned
        });
        self.sweep_at = self.batches.len().saturating_mul(2);
    }

    /// Whether something that was handed out is not done.
    pub(super) fn holds_back(&self, done: &Done) -> bool {
        self.batches.iter().any(|batch| !done.contains(batch.start, batch.end))
    }

    /// The oldest batch that the reader came back from and that is still held: where it starts, and since when.
    pub(super) fn held_back(&self, done: &Done) -> Option<(i64, Timestamp)> {
        let batch = self.batches.iter().find(|b| b.returned && b.is_alive() && b.end > done.to())?;
        Some((batch.start.max(done.to()), batch.at))
    }
}

impl fmt::Debug for HandedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}..{} ({} handles, returned: {})",
            self.start,
            self.end,
            self.inner.strong_count(),
            self.returned
        )
    }
}
