//! Fetching: which broker is asked for which partitions, from where, and for how many bytes.
//!
//! At most one request is in flight per broker (it answers a connection strictly in order anyway); the next goes
//! out as soon as the last was taken in, while the reader is still busy with its data. What is asked for never
//! exceeds what the ledger has room for; a partition with enough buffered drops out of the request.

mod answer;
mod replica;
mod request;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, IsolationLevel};
use crate::planted::planted;
use crate::{Backoff, BrokerId, Error, Rng, Timestamp, TopicId, TopicPartition};

pub(crate) use answer::Finding;
pub(crate) use replica::Replicas;
pub(crate) use request::{Candidate, Room};
use session::Session;

/// A request for less than this is not worth its round trip.
pub(crate) const MIN_GRANT: usize = 64 << 10;
/// Larger responses are slower: their buffers are cold and page-faulted (see `docs` of the ledger).
const MAX_GRANT: usize = 4 << 20;
/// While partitions are left out because enough of them is buffered, a long poll for the others must not hold
/// them up once they are drained. (One that waits after an error is waited for no longer than that.)
const SHORT_WAIT: Duration = Duration::from_millis(20);
/// While none of those is drained, the waits get longer: 160 ms at most.
const MOST_DOUBLINGS: u32 = 3;
/// The largest partition limit that is tried for a batch that does not come whole.
const MAX_PARTITION_BYTES: i32 = 1 << 30;

#[derive(Debug)]
struct InFlight {
    /// The request named everything, so the answer has to as well.
    full: bool,
    reserved: usize,
    sent_at: Timestamp,
    max_wait: Duration,
    /// What [`Fetcher::looked_at`] knew of the leaders when it was sent.
    cluster: Option<u64>,
}

#[derive(Debug, Default)]
struct BrokerFetch {
    session: Session,
    /// The topics that the session holds or held.
    names: BTreeMap<TopicId, Arc<str>>,
    /// The partitions to look at for the next request, the others being as they were: those that were answered, are
    /// left out, or could be because much of them is buffered. `None`: all.
    again: Option<BTreeSet<TopicPartition>>,
    in_flight: Option<InFlight>,
    /// Requests in a row while which the same partitions were left out.
    unchanged: u32,
    /// Nothing was asked for when it was looked at last: of everything enough is buffered, or nothing is to be fetched.
    has_enough: bool,
    /// The partition that comes first in the next request.
    first: Option<TopicPartition>,
    /// Answers in a row that came at once and had nothing: a broker that does not wait must not be polled hotly.
    hasty: u32,
    /// Answers in a row that were errors as a whole, or did not come.
    refused: Option<Backoff>,
    not_before: Timestamp,
}

/// A partition that waits before it is asked for again, or asks for more than the others.
#[derive(Debug)]
struct Trouble {
    backoff: Backoff,
    not_before: Timestamp,
    max_bytes: Option<i32>,
    /// How often it was refused for a reason that trying again should not help against. Other causes to wait do not
    /// count here, and do not start the count anew: a leader that moves now and then would hide a refusal.
    refusals: u32,
    /// How often its offset was out of range.
    out_of_range: u32,
}

impl BrokerFetch {
    /// Waits before the next request, the longer the more often in a row. Gives how often that was.
    fn wait(&mut self, now: Timestamp, (initial, max): (Duration, Duration), rng: &mut Rng) -> u32 {
        let backoff = self.refused.get_or_insert_with(|| Backoff::new(initial, max));
        self.not_before = now + backoff.next(rng);
        backoff.failures()
    }
}

/// The fetch requests of one client.
#[derive(Debug)]
pub(crate) struct Fetcher {
    brokers: BTreeMap<BrokerId, BrokerFetch>,
    troubles: BTreeMap<TopicPartition, Trouble>,
    /// From whom what was to be fetched is fetched (its leader, mostly) when all partitions were last looked at, and as of
    /// which generations of the delivery and of the cluster.
    leaders: BTreeSet<BrokerId>,
    /// Some of what was to be fetched had no leader.
    leaderless: bool,
    looked_at: Option<(u64, u64)>,
    /// The broker that was given room last: the others come first.
    last_granted: Option<BrokerId>,
    isolation_level: IsolationLevel,
    min_bytes: i32,
    max_wait: Duration,
    max_bytes: usize,
    max_partition_bytes: i32,
    retry_backoff: (Duration, Duration),
    rng: Rng,
    /// The same for all partitions of an answer: what was refused together is asked for together again, or each of
    /// them would have a request of its own.
    jitter: Rng,
}

impl Fetcher {
    pub(crate) fn new(config: &Config, rng: Rng) -> Self {
        Self {
            brokers: BTreeMap::new(),
            troubles: BTreeMap::new(),
            leaders: BTreeSet::new(),
            leaderless: false,
            looked_at: None,
            last_granted: None,
            isolation_level: config.isolation_level,
            min_bytes: config.fetch_min_bytes,
            max_wait: config.fetch_max_wait,
            max_bytes: usize::try_from(config.fetch_max_bytes).unwrap_or(0),
            max_partition_bytes: config.max_partition_fetch_bytes,
            retry_backoff: config.retry_backoff,
            jitter: rng.clone(),
            rng,
        }
    }

    /// The broker that was given room last.
    pub(crate) fn last_granted(&self) -> Option<BrokerId> {
        self.last_granted
    }

    /// Bytes that are asked for and have not come.
    pub(crate) fn reserved(&self) -> usize {
        self.brokers.values().filter_map(|b| b.in_flight.as_ref()).map(|f| f.reserved).sum()
    }

    /// Whether a request to `broker` is under way.
    pub(crate) fn is_busy(&self, broker: BrokerId) -> bool {
        self.brokers.get(&broker).is_some_and(|b| b.in_flight.is_some())
    }

    /// Whether a leader has no request under way because enough of its partitions is buffered: the reader's side is to tell
    /// when that is less.
    pub(crate) fn waits_for_reader(&self) -> bool {
        let waits = |b: &BrokerFetch| b.in_flight.is_none() && b.has_enough;
        self.leaders.iter().any(|broker| self.brokers.get(broker).is_some_and(waits))
    }

    /// Whether nothing can be sent before an answer comes, because every leader has a request under way.
    pub(crate) fn is_settled(&self, delivery: u64, cluster: u64) -> bool {
        !self.is_outdated(delivery, cluster) && self.leaders.iter().all(|broker| self.is_busy(*broker))
    }

    /// Whether all partitions are to be looked at: what is to be fetched, or who leads it, is not what it was.
    pub(crate) fn is_outdated(&self, delivery: u64, cluster: u64) -> bool {
        self.looked_at != Some((delivery, cluster))
    }

    /// All partitions are to be looked at again.
    pub(crate) fn outdate(&mut self) {
        self.looked_at = None;
    }

    /// All partitions were looked at: these are their leaders, as far as they have one.
    pub(crate) fn looked(
        &mut self,
        delivery: u64,
        cluster: u64,
        leaders: BTreeSet<BrokerId>,
        leaderless: bool,
    ) {
        self.looked_at = Some((delivery, cluster));
        self.leaderless = leaderless;
        self.leaders = leaders;
        for state in self.brokers.values_mut() {
            state.again = None;
        }
    }

    /// Who leads what is to be fetched: the one behind `broker`, all around.
    pub(crate) fn leader_after(&self, broker: Option<BrokerId>) -> Option<BrokerId> {
        let behind = broker.and_then(|b| self.leaders.range((Bound::Excluded(b), Bound::Unbounded)).next());
        behind.or_else(|| self.leaders.first()).copied()
    }

    /// Among how many brokers the room is shared.
    pub(crate) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// Whether some of what is to be fetched has no leader.
    pub(crate) fn is_leaderless(&self) -> bool {
        self.leaderless
    }

    /// The request to `broker` will not be answered, or could not be sent: its session is in doubt.
    pub(crate) fn failed(&mut self, now: Timestamp, broker: BrokerId) {
        if let Some(b) = self.brokers.get_mut(&broker) {
            if planted!(OrphanedFetch) {
                return;
            }
            b.in_flight = None;
            b.session.replace();
            b.wait(now, self.retry_backoff, &mut self.rng);
        }
    }

    /// Forgets what is only about partitions that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.troubles.retain(|tp, _| keep(tp));
    }

    /// The partition was answered without anything, and the next answer will be the same: it waits, the longer the more
    /// often in a row.
    pub(crate) fn unserved(&mut self, now: Timestamp, tp: &TopicPartition) {
        self.hold_back(now, tp);
    }

    /// A partition's error: it waits, the longer the more often in a row, whatever the cause.
    fn hold_back(&mut self, now: Timestamp, tp: &TopicPartition) -> &mut Trouble {
        let (initial, max) = self.retry_backoff;
        let trouble = self.troubles.entry(tp.clone()).or_insert_with(|| Trouble {
            backoff: Backoff::new(initial, max),
            not_before: now,
            max_bytes: None,
            refusals: 0,
            out_of_range: 0,
        });
        trouble.not_before = now + trouble.backoff.next(&mut self.jitter.clone());
        if planted!(HotFetchErrors) {
            trouble.not_before = now;
        }
        trouble
    }

    /// When something that waits may be asked for.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let partitions = self.troubles.values().map(|t| t.not_before);
        let brokers = self.brokers.values().filter(|b| b.in_flight.is_none()).map(|b| b.not_before);
        partitions.chain(brokers).filter(|at| *at > now).min()
    }
}

/// What an error of one partition means for the client around the fetcher.
pub(crate) fn partition_error(error: Error, tp: &TopicPartition, broker: BrokerId) -> Error {
    error.with_partition(tp.clone()).with_broker(broker)
}
