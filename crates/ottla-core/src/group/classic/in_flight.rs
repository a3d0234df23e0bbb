//! Requests that wait for an answer.

use std::collections::{BTreeMap, VecDeque};

use crate::Timestamp;
use crate::group::GroupRequestKind as Kind;

/// What has to be known of a request when its answer comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// When it was sent.
    pub(super) sent: Timestamp,
    /// Which membership it spoke for: an answer for an older one is dropped.
    pub(super) membership: u64,
    /// Whether anybody still wants the answer.
    pub(super) live: bool,
}

/// Answers of one kind come in the order of the requests.
#[derive(Debug, Default)]
pub(super) struct InFlight(BTreeMap<Kind, VecDeque<Ticket>>);

impl InFlight {
    pub(super) fn sent(&mut self, kind: Kind, now: Timestamp, membership: u64) {
        self.0.entry(kind).or_default().push_back(Ticket { sent: now, membership, live: true });
    }

    /// The request that an outcome of `kind` belongs to; `None` if nobody asked.
    pub(super) fn answered(&mut self, kind: Kind) -> Option<Ticket> {
        self.0.get_mut(&kind)?.pop_front()
    }

    /// The answers to requests of `kind` will be dropped.
    pub(super) fn forget(&mut self, kind: Kind) {
        for ticket in self.0.get_mut(&kind).into_iter().flatten() {
            ticket.live = false;
        }
    }

    pub(super) fn is_live(&self, kind: Kind) -> bool {
        self.0.get(&kind).is_some_and(|tickets| tickets.iter().any(|t| t.live))
    }

    /// Whether an answer is outstanding, wanted or not: the broker answers nothing else on that connection.
    pub(super) fn is_outstanding(&self, kind: Kind) -> bool {
        self.0.get(&kind).is_some_and(|tickets| !tickets.is_empty())
    }
}
