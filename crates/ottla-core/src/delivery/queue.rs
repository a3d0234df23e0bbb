//! What waits to be handed out.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use ottla_wire::records::{self as wire, AbortedTransactions, BatchError, Batches, RawBatch, RecordCursor};

use super::ahead::Ahead;
use super::events::Event;
use super::ledger::Queued;
use super::revocation::RevocationId;
use crate::{Error, LeaderEpoch};

/// An event that waits to be read.
#[derive(Debug)]
pub(super) enum Pending {
    /// Becomes [`Event::Revoking`] when it is read.
    Revoking(RevocationId),
    Told(Event),
}

/// What waits in a partition's queue, in the order of offsets.
#[derive(Debug)]
pub(super) enum Segment {
    /// Batches of one response, as they came.
    Raw(RawSegment),
    /// The rest of a batch that was decoded.
    Decoded(Rest),
    /// The partition stops here.
    Failed(Error),
}

/// The batches of one partition in one response. Only their headers were looked at; they are walked again when
/// they are decoded, so that a batch costs no memory but its bytes.
#[derive(Debug)]
pub(super) struct RawSegment {
    pub(super) rest: Bytes,
    /// What to leave out, as far as `rest` was not walked.
    pub(super) aborted: AbortedTransactions,
    /// Records as declared, when it came.
    pub(super) records: usize,
    pub(super) queued: Queued,
    /// What of it is decoded already.
    pub(super) ahead: Option<Arc<Ahead>>,
}

impl RawSegment {
    pub(super) fn peek(&self) -> Option<Result<RawBatch, BatchError>> {
        Batches::first(&self.rest)
    }

    /// Takes off the batch of this size, which [`peek`](Self::peek) gave.
    pub(super) fn advance(&mut self, size: usize) {
        let size = size.min(self.rest.len());
        self.rest.advance(size);
        if let Some(ahead) = &self.ahead {
            ahead.pass(size);
        }
        // Nothing, if it was split off.
        self.queued.shrink(self.queued.bytes().saturating_sub(self.rest.len()));
    }
}

/// Records of one decoded batch, from a cursor on.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) batch: wire::Batch,
    pub(super) cursor: RecordCursor,
    pub(super) count: usize,
    /// The offset of its last record.
    pub(super) last: i64,
    /// The position behind it, and the leader epoch of what lies before that: the last record's, or that of
    /// control, aborted or emptied batches next to it.
    pub(super) end: i64,
    pub(super) end_epoch: Option<LeaderEpoch>,
    pub(super) queued: Queued,
}

impl Segment {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.queued.bytes(),
            Self::Decoded(rest) => rest.queued.bytes(),
            Self::Failed(_) => 0,
        }
    }

    /// Records as far as is known.
    pub(super) fn records(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.records,
            Self::Decoded(rest) => rest.count,
            Self::Failed(_) => 0,
        }
    }
}
