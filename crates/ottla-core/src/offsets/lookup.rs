//! ListOffsets: where is the beginning, the end, or the first record of a time?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_wire::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_wire::{ErrorCode, View};

use super::{Asker, Offset, Refused, refused};
use crate::config::IsolationLevel;
use crate::{Backoff, BrokerId, Error, ErrorKind, LeaderEpoch, Rng, Timestamp, TopicPartition};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// A place that has to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Earliest,
    Latest,
    /// So many before the end.
    FromEnd(u64),
    /// The first record that is not older; `or_end`: the end if there is none.
    Timestamp {
        millis: i64,
        or_end: bool,
    },
}

impl Place {
    /// The place that `offset` names, if it has to be looked up with ListOffsets.
    pub(crate) fn of(offset: Offset, or_end: bool) -> Option<Self> {
        match offset {
            Offset::Earliest => Some(Self::Earliest),
            Offset::Latest => Some(Self::Latest),
            Offset::FromEnd(n) => Some(Self::FromEnd(n)),
            Offset::Timestamp(millis) => Some(Self::Timestamp { millis: millis.max(0), or_end }),
            Offset::At(_) | Offset::AtEpoch { .. } | Offset::Committed => None,
        }
    }

    fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => EARLIEST,
            Self::Latest | Self::FromEnd(_) => LATEST,
            Self::Timestamp { millis, .. } => millis,
        }
    }
}

/// An offset and the epoch of the leader that told it; `None`: no record is that young.
pub(crate) type Found = Option<(i64, Option<LeaderEpoch>)>;

/// The end of one lookup.
#[derive(Debug)]
pub(crate) struct LookupAnswer {
    pub(crate) asker: Asker,
    pub(crate) tp: TopicPartition,
    pub(crate) found: Result<Found, Error>,
}

/// What an answer means for the client around it.
#[derive(Debug, Default)]
pub(crate) struct LookupFindings {
    pub(crate) answers: Vec<LookupAnswer>,
    /// Metadata is stale.
    pub(crate) stale: bool,
    /// What the reader is to know, while it is asked on.
    pub(crate) told: Vec<Error>,
}

type Key = (Asker, TopicPartition);

#[derive(Debug)]
struct Lookup {
    place: Place,
    /// `FromEnd`: the end is known, the beginning is asked for.
    end: Option<i64>,
    backoff: Backoff,
    not_before: Timestamp,
    in_flight: bool,
}

impl Lookup {
    fn timestamp(&self) -> i64 {
        if self.end.is_some() { EARLIEST } else { self.place.timestamp() }
    }
}

/// What one request to one broker asked for.
#[derive(Clone, Debug)]
pub(crate) struct LookupTag(Vec<(Key, i64)>);

/// All lookups that are under way.
#[derive(Debug)]
pub(crate) struct Lookups {
    pending: BTreeMap<Key, Lookup>,
    isolation_level: IsolationLevel,
    retry_backoff: (Duration, Duration),
    rng: Rng,
    /// The same for all that one answer leaves open: it is asked for together again.
    jitter: Rng,
}

impl Lookups {
    pub(crate) fn new(
        isolation_level: IsolationLevel,
        retry_backoff: (Duration, Duration),
        rng: Rng,
    ) -> Self {
        Self { pending: BTreeMap::new(), isolation_level, retry_backoff, jitter: rng.clone(), rng }
    }

    /// Begins a lookup; one that the same asker has for the partition is replaced.
    pub(crate) fn begin(&mut self, now: Timestamp, asker: Asker, tp: TopicPartition, place: Place) {
        let (initial, max) = self.retry_backoff;
        let backoff = Backoff::new(initial, max);
        let lookup = Lookup { place, end: None, backoff, not_before: now, in_flight: false };
        self.pending.insert((asker, tp), lookup);
    }

    /// Drops the lookups that `keep` does not want; their answers are ignored when they come.
    pub(crate) fn retain(&mut self, keep: impl Fn(Asker, &TopicPartition) -> bool) {
        self.pending.retain(|(asker, tp), _| keep(*asker, tp));
    }

    /// Drops one lookup.
    pub(crate) fn forget(&mut self, asker: Asker, tp: &TopicPartition) {
        self.pending.remove(&(asker, tp.clone()));
    }

    /// The partitions that something is asked for.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.pending.keys().map(|(_, tp)| tp)
    }

    /// What can be asked now, by leader. Partitions without a known leader are in the second part.
    pub(crate) fn due(
        &self,
        now: Timestamp,
        leader: impl Fn(&TopicPartition) -> Option<BrokerId>,
    ) -> (Vec<BrokerId>, bool) {
        let mut brokers = BTreeSet::new();
        let mut leaderless = false;
        for ((_, tp), lookup) in &self.pending {
            if lookup.in_flight || now < lookup.not_before {
                continue;
            }
            match leader(tp) {
                Some(broker) => drop(brokers.insert(broker)),
                None => leaderless = true,
            }
        }
        (brokers.into_iter().collect(), leaderless)
    }

    /// The request for everything that `broker` can be asked now. It counts as sent.
    pub(crate) fn prepare(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        leader: impl Fn(&TopicPartition) -> Option<(BrokerId, Option<LeaderEpoch>)>,
    ) -> (ListOffsetsRequest, LookupTag) {
        let mut topics: BTreeMap<String, Vec<ListOffsetsPartition>> = BTreeMap::new();
        let mut tag = Vec::new();
        // A request may name a partition once: another question about it waits for the next request.
        let mut named: BTreeSet<TopicPartition> = BTreeSet::new();
        for (key, lookup) in &mut self.pending {
            let tp = &key.1;
            if lookup.in_flight || now < lookup.not_before {
                continue;
            }
            let Some((_, epoch)) = leader(tp).filter(|(b, _)| *b == broker) else {
                continue;
            };
            if !named.insert(tp.clone()) {
                continue;
            }
            lookup.in_flight = true;
            topics.entry(tp.topic().to_owned()).or_default().push(ListOffsetsPartition {
                partition_index: tp.partition(),
                current_leader_epoch: LeaderEpoch::to_wire(epoch),
                timestamp: lookup.timestamp(),
                ..ListOffsetsPartition::default()
            });
            tag.push((key.clone(), lookup.timestamp()));
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic { name, partitions, ..ListOffsetsTopic::default() })
            .collect();
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: match self.isolation_level {
                IsolationLevel::ReadUncommitted => 0,
                IsolationLevel::ReadCommitted => 1,
            },
            topics,
            ..ListOffsetsRequest::default()
        };
        (request, LookupTag(tag))
    }

    /// The request will not be answered: everything in it is asked again later.
    pub(crate) fn failed(&mut self, now: Timestamp, tag: LookupTag) {
        self.jitter = self.rng.split();
        for (key, _) in tag.0 {
            self.again(now, &key);
        }
    }

    /// Asked again after a pause. Gives how often that was.
    fn again(&mut self, now: Timestamp, key: &Key) -> u32 {
        let Some(lookup) = self.pending.get_mut(key) else {
            return 0;
        };
        lookup.in_flight = false;
        lookup.not_before = now + lookup.backoff.next(&mut self.jitter.clone());
        lookup.backoff.failures()
    }

    /// Takes in an answer.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        version: i16,
        body: &[u8],
        tag: LookupTag,
    ) -> Result<LookupFindings, Error> {
        self.jitter = self.rng.split();
        let answer = match ListOffsetsResponse::decode(version, body) {
            Ok(answer) => answer,
            Err(e) => {
                self.failed(now, tag);
                let text = "sent an answer to ListOffsets that cannot be read";
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e));
            }
        };
        let mut told = BTreeMap::new();
        for topic in answer.topics.iter() {
            for p in topic.partitions.iter() {
                told.entry((topic.name, p.partition_index)).or_insert(p);
            }
        }
        let mut findings = LookupFindings::default();
        for (key, timestamp) in tag.0 {
            // Replaced or dropped meanwhile: a late answer loses against a newer question.
            let Some(lookup) = self.pending.get_mut(&key) else {
                continue;
            };
            if !lookup.in_flight || lookup.timestamp() != timestamp {
                continue;
            }
            let tp = &key.1;
            let p = told.get(&(tp.topic(), tp.partition()));
            let code = p.map_or(ErrorCode::None, |p| ErrorCode::from_i16(p.error_code));
            let step = match (code, p) {
                (ErrorCode::None, Some(p)) => {
                    lookup.take_in(p.offset, LeaderEpoch::from_wire(p.leader_epoch))
                }
                // Records without timestamps (before 0.10): none is young enough.
                (ErrorCode::UnsupportedForMessageFormat, _) => lookup.without_timestamps(),
                _ => Step::Nonsense,
            };
            let found = match step {
                Step::Found(found) => Ok(found),
                Step::AskOn => {
                    lookup.in_flight = false;
                    continue;
                }
                Step::Nonsense if code == ErrorCode::TopicAuthorizationFailed => {
                    let text = "asking for offsets is not allowed: grant DESCRIBE on the topic";
                    Err(Error::new(ErrorKind::Authorization, text).with_code(code).with_partition(tp.clone()))
                }
                Step::Nonsense => {
                    findings.stale |= code != ErrorCode::None;
                    let times = self.again(now, &key);
                    tracing::debug!(partition = %tp, %code, times, "offset not told, asking again");
                    match refused(key.0, tp, "offset that was asked for", code, times) {
                        Refused::Again => continue,
                        Refused::Told(error) => {
                            findings.told.push(error);
                            continue;
                        }
                        Refused::Query(error) => Err(error),
                    }
                }
            };
            self.pending.remove(&key);
            findings.answers.push(LookupAnswer { asker: key.0, tp: key.1, found });
        }
        Ok(findings)
    }

    /// When the next lookup that waits may be asked.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        self.pending.values().filter(|l| !l.in_flight && l.not_before > now).map(|l| l.not_before).min()
    }
}

enum Step {
    Found(Found),
    AskOn,
    /// No answer, or negative where an offset is due: never a position.
    Nonsense,
}

impl Lookup {
    fn without_timestamps(&mut self) -> Step {
        match self.place {
            Place::Timestamp { or_end: false, .. } => Step::Found(None),
            Place::Timestamp { or_end: true, .. } => {
                self.place = Place::Latest;
                Step::AskOn
            }
            // No timestamp was asked for: a beginning that is not told must never become the end.
            Place::Earliest | Place::Latest | Place::FromEnd(_) => Step::Nonsense,
        }
    }

    fn take_in(&mut self, offset: i64, epoch: Option<LeaderEpoch>) -> Step {
        match self.place {
            Place::Timestamp { or_end: false, .. } if offset == -1 => Step::Found(None),
            Place::Timestamp { or_end: true, .. } if offset == -1 => {
                self.place = Place::Latest;
                Step::AskOn
            }
            _ if offset < 0 => Step::Nonsense,
            Place::FromEnd(n) => match self.end {
                None => {
                    self.end = Some(offset);
                    Step::AskOn
                }
                Some(end) => {
                    let back = i64::try_from(n).unwrap_or(i64::MAX);
                    Step::Found(Some((end.saturating_sub(back).max(offset), None)))
                }
            },
            Place::Earliest | Place::Latest | Place::Timestamp { .. } => Step::Found(Some((offset, epoch))),
        }
    }
}
