//! From snapshots and observations to counters, gauges and histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram, Label};
use ottla_core::client::{Observation, Timed};
use ottla_core::snapshot::{BrokerSnapshot, Snapshot, Traffic};
use ottla_core::{BrokerId, ErrorKind, Timestamp, TopicPartition};

use super::Settings;
use super::names::{self, Metric};
use crate::observe::Names;

type Of = fn(&Traffic) -> u64;

/// What is counted for each broker.
const TRAFFIC: [(Metric, Of); 6] = [
    (names::CONNECTIONS_CREATED, |traffic| traffic.connects),
    (names::CONNECTIONS_CLOSED, |traffic| traffic.disconnects),
    (names::REQUESTS, |traffic| traffic.requests),
    (names::REQUESTS_UNANSWERED, |traffic| traffic.unanswered),
    (names::BYTES_SENT, |traffic| traffic.bytes_sent),
    (names::BYTES_RECEIVED, |traffic| traffic.bytes_received),
];

/// A counter, and how much of its source it holds.
struct Tally {
    counter: Counter,
    seen: u64,
}

impl Tally {
    fn new(counter: Counter) -> Self {
        Self { counter, seen: 0 }
    }

    /// The source stands there now: gives what is new. One that was forgotten and began anew stands lower.
    fn reaches(&mut self, total: u64) -> u64 {
        let new = total.checked_sub(self.seen).unwrap_or(total);
        self.seen = total;
        if new > 0 {
            self.counter.increment(new);
        }
        new
    }
}

/// What is counted by name, and what has no name (any more): together they are the whole.
struct Named<K> {
    named: BTreeMap<K, Tally>,
    unnamed: Option<Tally>,
    published: u64,
}

impl<K: Ord> Named<K> {
    fn new() -> Self {
        Self { named: BTreeMap::new(), unnamed: None, published: 0 }
    }

    fn reaches(&mut self, key: K, total: u64, most: usize, make: impl FnOnce(&K) -> Counter) {
        if self.named.len() >= most && !self.named.contains_key(&key) {
            return;
        }
        let tally = self.named.entry(key).or_insert_with_key(|key| Tally::new(make(key)));
        self.published += tally.reaches(total);
    }

    /// As much is new of that name.
    fn adds(&mut self, key: K, new: u64, most: usize, make: impl FnOnce(&K) -> Counter) {
        let total = self.named.get(&key).map_or(0, |tally| tally.seen) + new;
        self.reaches(key, total, most, make);
    }

    /// The rest of the whole, which no name accounts for.
    fn rest(&mut self, whole: u64, make: impl FnOnce() -> Counter) {
        let rest = whole.saturating_sub(self.published);
        if rest > 0 {
            let tally = self.unnamed.get_or_insert_with(|| Tally::new(make()));
            tally.counter.increment(rest);
            self.published += rest;
        }
    }
}

/// A gauge, and this consumer's part of it.
struct Part {
    gauge: Gauge,
    mine: f64,
}

impl Part {
    fn new(gauge: Gauge) -> Self {
        Self { gauge, mine: 0.0 }
    }

    fn set(&mut self, value: f64) {
        if value != self.mine {
            self.gauge.increment(value - self.mine);
            self.mine = value;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.set(0.0);
    }
}

/// What a consumer has once.
struct Own {
    fetches: Tally,
    commits: Tally,
    commit_failures: Tally,
    heartbeats: Tally,
    rebalances: Tally,
    lag_max: Part,
    lag_sum: Part,
    assigned: Part,
    paused: Part,
    buffered_records: Part,
    buffered_bytes: Part,
    held_bytes: Part,
    reader_away: Part,
    brokers_down: Part,
    throttled_brokers: Part,
    heartbeat: Histogram,
    rebalance: Histogram,
}

impl Own {
    fn new(base: &[Label]) -> Self {
        let tally = |metric: Metric| Tally::new(metric.counter(base, []));
        let part = |metric: Metric| Part::new(metric.gauge(base, []));
        Self {
            fetches: tally(names::FETCHES),
            commits: tally(names::COMMITS),
            commit_failures: tally(names::COMMIT_FAILURES),
            heartbeats: tally(names::HEARTBEATS),
            rebalances: tally(names::REBALANCES),
            lag_max: part(names::RECORDS_LAG_MAX),
            lag_sum: part(names::RECORDS_LAG_SUM),
            assigned: part(names::ASSIGNED_PARTITIONS),
            paused: part(names::PAUSED_PARTITIONS),
            buffered_records: part(names::BUFFERED_RECORDS),
            buffered_bytes: part(names::BUFFERED_BYTES),
            held_bytes: part(names::HELD_BYTES),
            reader_away: part(names::READER_AWAY),
            brokers_down: part(names::BROKERS_DOWN),
            throttled_brokers: part(names::THROTTLED_BROKERS),
            heartbeat: names::HEARTBEAT_RESPONSE_TIME.histogram(base, []),
            rebalance: names::REBALANCE_LATENCY.histogram(base, []),
        }
    }

    fn publish(&mut self, snapshot: &Snapshot) {
        self.fetches.reaches(snapshot.fetch.count);
        self.commits.reaches(snapshot.commit.count);
        self.commit_failures.reaches(snapshot.commits_failed);
        if let Some(group) = &snapshot.group {
            self.heartbeats.reaches(group.heartbeat.count);
            self.rebalances.reaches(group.rebalances);
        }
        let lags = || snapshot.partitions.iter().filter_map(|p| p.lag);
        self.lag_max.set(lags().max().unwrap_or(0) as f64);
        self.lag_sum.set(lags().sum::<i64>() as f64);
        self.assigned.set(snapshot.partitions.len() as f64);
        self.paused.set(snapshot.partitions.iter().filter(|p| p.paused).count() as f64);
        self.buffered_records
            .set(snapshot.partitions.iter().map(|p| p.buffered_records).sum::<usize>() as f64);
        self.buffered_bytes.set(snapshot.buffered_bytes as f64);
        self.held_bytes.set(snapshot.held_bytes as f64);
        self.reader_away.set(snapshot.since_read.unwrap_or_default().as_secs_f64());
        self.brokers_down.set(f64::from(u8::from(snapshot.brokers_down)));
        self.throttled_brokers.set(snapshot.brokers.iter().filter(|b| b.throttled).count() as f64);
    }
}

/// What is measured with one broker, or with those that have no name.
struct Server {
    labels: Vec<Label>,
    request: Histogram,
    fetch: Histogram,
    commit: Histogram,
    throttle: Histogram,
    failed_commits: BTreeMap<&'static str, Histogram>,
}

impl Server {
    fn new(base: &[Label], labels: Vec<Label>) -> Self {
        let operation = |name, kind| {
            let labels = names::operation(name, kind).into_iter().chain(labels.clone());
            names::OPERATION_DURATION.histogram(base, labels)
        };
        Self {
            request: names::REQUEST_LATENCY.histogram(base, labels.clone()),
            fetch: operation("fetch", "receive"),
            commit: operation("commit", "settle"),
            throttle: names::THROTTLE_TIME.histogram(base, labels.clone()),
            failed_commits: BTreeMap::new(),
            labels,
        }
    }

    fn failed_commit(&mut self, base: &[Label], error: &'static str) -> &Histogram {
        let labels = &self.labels;
        self.failed_commits.entry(error).or_insert_with(|| {
            let error = Label::from_static_parts("error.type", error);
            let labels = names::operation("commit", "settle").into_iter().chain(labels.clone());
            names::OPERATION_DURATION.histogram(base, labels.chain([error]))
        })
    }
}

/// Whom a connection is for: a broker by its id, or the address of the configuration that stands there.
type Target = (Option<BrokerId>, usize);

/// Who each of them is. Addresses of the configuration are always there, in their order.
fn targets(snapshot: &Snapshot) -> impl Iterator<Item = (Target, &BrokerSnapshot)> {
    let mut configured = 0;
    snapshot.brokers.iter().map(move |broker| {
        configured += usize::from(broker.id.is_none());
        ((broker.id, if broker.id.is_none() { configured } else { 0 }), broker)
    })
}

/// Publishes what one consumer does.
pub(crate) struct Publisher {
    settings: Settings,
    due: Timestamp,
    base: Vec<Label>,
    own: Own,
    records: Named<String>,
    bytes: Named<String>,
    errors: BTreeMap<ErrorKind, Tally>,
    lags: BTreeMap<TopicPartition, Part>,
    traffic: [Named<(String, u16)>; 6],
    /// What is published of each target, whatever addresses it had.
    seen: BTreeMap<Target, [u64; 6]>,
    connections: BTreeMap<(String, u16), [Part; 2]>,
    other_connections: Option<[Part; 2]>,
    servers: BTreeMap<(Arc<str>, u16), Server>,
    other_servers: Option<Server>,
}

impl Publisher {
    pub(crate) fn new(names: &Names, settings: Settings, now: Timestamp) -> Self {
        names::describe();
        let base = names::labels(names);
        Self {
            own: Own::new(&base),
            due: now + settings.interval,
            settings,
            base,
            records: Named::new(),
            bytes: Named::new(),
            errors: BTreeMap::new(),
            lags: BTreeMap::new(),
            traffic: std::array::from_fn(|_| Named::new()),
            seen: BTreeMap::new(),
            connections: BTreeMap::new(),
            other_connections: None,
            servers: BTreeMap::new(),
            other_servers: None,
        }
    }

    /// When [`publish`](Self::publish) is to be called.
    pub(crate) fn due(&self) -> Timestamp {
        self.due
    }

    /// Brings counters and gauges to where the snapshot is.
    pub(crate) fn publish(&mut self, now: Timestamp, snapshot: &Snapshot) {
        self.due = now + self.settings.interval;
        self.own.publish(snapshot);
        self.topics(snapshot);
        self.partitions(snapshot);
        self.brokers(snapshot);
        let base = &self.base;
        for (kind, count) in &snapshot.errors {
            let counter =
                || names::ERRORS.counter(base, [Label::from_static_parts("error.type", kind.name())]);
            self.errors.entry(*kind).or_insert_with(|| Tally::new(counter())).reaches(*count);
        }
    }

    fn topics(&mut self, snapshot: &Snapshot) {
        let base = &self.base;
        let name = |topic: &String| Label::new("messaging.destination.name", topic.clone());
        let poll = || names::operation("poll", "receive");
        for topic in &snapshot.topics {
            self.records.reaches(topic.topic.clone(), topic.records, self.settings.topics, |topic| {
                names::CONSUMED_MESSAGES.counter(base, poll().into_iter().chain([name(topic)]))
            });
            self.bytes.reaches(topic.topic.clone(), topic.bytes, self.settings.topics, |topic| {
                names::BYTES_CONSUMED.counter(base, [name(topic)])
            });
        }
        self.records.rest(snapshot.records, || names::CONSUMED_MESSAGES.counter(base, poll()));
        self.bytes.rest(snapshot.bytes, || names::BYTES_CONSUMED.counter(base, []));
    }

    fn partitions(&mut self, snapshot: &Snapshot) {
        let mut lags: BTreeMap<&TopicPartition, i64> =
            snapshot.partitions.iter().filter_map(|p| Some((&p.topic_partition, p.lag?))).collect();
        for (partition, part) in &mut self.lags {
            part.set(lags.remove(partition).unwrap_or(0) as f64);
        }
        let room = self.settings.partitions.saturating_sub(self.lags.len());
        for (partition, lag) in lags.into_iter().take(room) {
            let labels = [
                Label::new("messaging.destination.name", partition.topic().to_owned()),
                Label::new("messaging.destination.partition.id", partition.partition().to_string()),
            ];
            let mut part = Part::new(names::RECORDS_LAG.gauge(&self.base, labels));
            part.set(lag as f64);
            self.lags.insert(partition.clone(), part);
        }
    }

    fn brokers(&mut self, snapshot: &Snapshot) {
        // A broker may be known by its id and as a bootstrap address.
        let mut addresses: BTreeMap<(&str, u16), Vec<&BrokerSnapshot>> = BTreeMap::new();
        for broker in &snapshot.brokers {
            addresses.entry((broker.host.as_str(), broker.port)).or_default().push(broker);
        }
        let (base, most) = (&self.base, self.settings.servers);
        // By target, not by address: a broker takes what it counted along to another address, and one that is
        // forgotten and comes again counts from zero.
        let before = std::mem::take(&mut self.seen);
        for (target, broker) in targets(snapshot) {
            let totals = TRAFFIC.map(|(_, of)| of(&broker.traffic));
            let seen = before.get(&target).copied().unwrap_or_default();
            let anew = totals.iter().zip(&seen).any(|(total, seen)| total < seen);
            let seen = if anew { [0; 6] } else { seen };
            for (i, ((metric, _), named)) in TRAFFIC.iter().zip(&mut self.traffic).enumerate() {
                let key = (broker.host.clone(), broker.port);
                named.adds(key, totals[i] - seen[i], most, |(host, port)| {
                    metric.counter(base, names::server(host, *port))
                });
            }
            self.seen.insert(target, totals);
        }
        for ((metric, of), named) in TRAFFIC.iter().zip(&mut self.traffic) {
            named.rest(of(&snapshot.traffic), || metric.counter(base, []));
        }
        let now = |brokers: &[&BrokerSnapshot]| {
            let connected: usize = brokers.iter().map(|broker| broker.connected).sum();
            let in_flight: usize = brokers.iter().map(|broker| broker.in_flight).sum();
            [connected as f64, in_flight as f64]
        };
        for ((host, port), parts) in &mut self.connections {
            let values = addresses.get(&(host.as_str(), *port)).map_or([0.0; 2], |brokers| now(brokers));
            parts.iter_mut().zip(values).for_each(|(part, value)| part.set(value));
        }
        let mut others = Vec::new();
        for ((host, port), brokers) in addresses {
            let key = (host.to_owned(), port);
            if self.connections.contains_key(&key) {
                continue;
            }
            if self.connections.len() >= most {
                others.extend(brokers);
                continue;
            }
            let gauge = |metric: Metric| Part::new(metric.gauge(base, names::server(host, port)));
            let mut parts = [gauge(names::CONNECTIONS), gauge(names::REQUESTS_IN_FLIGHT)];
            parts.iter_mut().zip(now(&brokers)).for_each(|(part, value)| part.set(value));
            self.connections.insert(key, parts);
        }
        if !others.is_empty() || self.other_connections.is_some() {
            let gauge = |metric: Metric| Part::new(metric.gauge(base, []));
            let make = || [gauge(names::CONNECTIONS), gauge(names::REQUESTS_IN_FLIGHT)];
            let parts = self.other_connections.get_or_insert_with(make);
            parts.iter_mut().zip(now(&others)).for_each(|(part, value)| part.set(value));
        }
    }

    /// Records what was measured.
    pub(crate) fn observe(&mut self, observation: Observation) {
        let Observation { what, server, took, error, .. } = observation;
        match what {
            Timed::Rebalance => return self.own.rebalance.record(took),
            Timed::Heartbeat => self.own.heartbeat.record(took),
            _ => {}
        }
        let (base, most) = (&self.base, self.settings.servers);
        let room = self.servers.len() < most;
        // A broker may have been forgotten meanwhile.
        let named = server.filter(|server| room || self.servers.contains_key(server));
        let server = match named {
            Some(server) => self
                .servers
                .entry(server)
                .or_insert_with_key(|(host, port)| Server::new(base, names::server(host, *port).to_vec())),
            None => self.other_servers.get_or_insert_with(|| Server::new(base, Vec::new())),
        };
        if what == Timed::Throttle {
            return server.throttle.record(took);
        }
        match (what, error) {
            (Timed::Fetch, _) => server.fetch.record(took),
            (Timed::Commit, None) => server.commit.record(took),
            (Timed::Commit | Timed::LostCommit, Some(error)) => {
                server.failed_commit(base, error).record(took)
            }
            _ => {}
        }
        if what != Timed::LostCommit {
            server.request.record(took);
        }
    }
}
