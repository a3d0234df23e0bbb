//! What is on its way, and what the network does to it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::sim::ConnectionId as BrokerConn;
use ottla_core::{ConnectionId, Rng, Timestamp};

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
}

impl Queue {
    pub(super) fn push(&mut self, at: Timestamp, wire: Wire) {
        self.number += 1;
        self.heap.push(Reverse(Entry { at, number: self.number, wire }));
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

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Only what clients send.
    ToBroker,
    /// Only what brokers send.
    ToClient,
    /// Everything.
    Both,
}

impl Way {
    fn holds(self, to_client: bool) -> bool {
        match self {
            Self::Both => true,
            Self::ToClient => to_client,
            Self::ToBroker => !to_client,
        }
    }
}

/// Something that happens to bytes between some clients and some brokers until it is over.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Whose connections; all if none.
    pub member: Option<MemberId>,
    /// To which node; all if none.
    pub node: Option<i32>,
    /// Which way.
    pub way: Way,
    /// Until when.
    pub until: Timestamp,
    /// What happens.
    pub what: Weather,
}

/// What a [`Condition`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing gets through before the end; then everything does, as TCP sends it again.
    Blocked,
    /// Bytes per second.
    Slow(u64),
    /// So much later, give or take.
    Late(Duration),
    /// Bytes travel one by one.
    Dribble,
}

/// The conditions that there are.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    list: Vec<(u64, Condition)>,
    next: u64,
    /// Those that have concerned something that was sent.
    hits: BTreeSet<u64>,
}

/// What is to be done with bytes now.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) not_before: Timestamp,
    pub(super) rate: Option<u64>,
    pub(super) later: Duration,
    pub(super) dribble: bool,
}

impl Conditions {
    /// The number is for [`has_hit`](Self::has_hit).
    pub(super) fn add(&mut self, condition: Condition) -> u64 {
        self.next += 1;
        self.list.push((self.next, condition));
        self.next
    }

    pub(super) fn has_hit(&self, number: u64) -> bool {
        self.hits.contains(&number)
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        (member, node, to_client): (MemberId, i32, bool),
        rng: &mut Rng,
    ) -> Verdict {
        let mut verdict = Verdict { not_before: now, ..Verdict::default() };
        if self.list.is_empty() {
            return verdict;
        }
        self.list.retain(|(_, c)| c.until > now);
        for (number, c) in &self.list {
            let concerned = c.member.is_none_or(|m| m == member)
                && c.node.is_none_or(|n| n == node)
                && c.way.holds(to_client);
            if !concerned {
                continue;
            }
            match c.what {
                Weather::Blocked => verdict.not_before = verdict.not_before.max(c.until),
                Weather::Slow(rate) => {
                    verdict.rate = Some(verdict.rate.map_or(rate, |r| r.min(rate)));
                }
                Weather::Late(by) => verdict.later += by / 1000 * (500 + rng.below(1000) as u32),
                Weather::Dribble => verdict.dribble = true,
            }
            self.hits.insert(*number);
        }
        verdict
    }
}
