//! What is on its way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use ottla_broker::sim::ConnectionId as BrokerConn;
use ottla_core::{ConnectionId, Timestamp};

use super::MemberId;

/// Something on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Connect { member: MemberId, conn: ConnectionId, port: u16 },
    ToBroker { link: BrokerConn, bytes: Bytes },
    ToClient { link: BrokerConn, bytes: Bytes },
    Closed { link: BrokerConn },
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Timestamp,
    /// Ties go by the order of sending.
    number: u64,
    wire: Wire,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The event heap.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    number: u64,
    /// Bytes of one direction of one connection never overtake each other.
    last: BTreeMap<(BrokerConn, bool), Timestamp>,
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, wire: Wire) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, wire }));
    }

    /// `at`, or later if that would overtake what was sent before on the same way.
    pub(super) fn after(&mut self, link: BrokerConn, to_client: bool, at: Timestamp) -> Timestamp {
        let last = self.last.entry((link, to_client)).or_default();
        *last = (*last).max(at);
        *last
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(e)| e.at)
    }

    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Wire> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(e)| e.wire)
    }
}
