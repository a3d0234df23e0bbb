//! OffsetForLeaderEpoch: is what lies before a position in the leader's log (KIP-320)?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use ottla_wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ottla_wire::{ErrorCode, View};

use super::{Asker, Refused, refused};
use crate::{
    Backoff, BrokerId, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Rng, Timestamp, TopicPartition,
};

/// The first version that a consumer may use: those before need rights on the whole cluster.
pub(crate) const MIN_VERSION: i16 = 3;

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) ownership: OwnershipEpoch,
    /// What is to be fetched next.
    pub(crate) offset: i64,
    /// Leader epoch of what lies before it.
    pub(crate) last_epoch: LeaderEpoch,
    /// The leader who is asked, and its epoch.
    pub(crate) leader: BrokerId,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// What the leader says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has it.
    Same,
    /// It does not know the epoch at all.
    Unknown,
    /// Its last epoch up to the one that was asked about, and where that ends: before the offset.
    Diverges(LeaderEpoch, i64),
}

/// What an answer means for the client around it.
#[derive(Debug, Default)]
pub(crate) struct ValidationFindings {
    pub(crate) verdicts: Vec<(TopicPartition, Doubt, Verdict)>,
    /// Metadata is stale.
    pub(crate) stale: bool,
    /// Partitions that may not be asked about.
    pub(crate) failed: Vec<(TopicPartition, Doubt, Error)>,
    /// What the reader is to know, while it is asked on.
    pub(crate) told: Vec<Error>,
}

#[derive(Debug)]
struct Validation {
    backoff: Backoff,
    not_before: Timestamp,
    in_flight: Option<Doubt>,
}

/// What one request to one broker asked.
#[derive(Clone, Debug)]
pub(crate) struct ValidationTag(Vec<(TopicPartition, Doubt)>);

/// All positions that are in doubt.
#[derive(Debug)]
pub(crate) struct Validations {
    pending: BTreeMap<TopicPartition, Validation>,
    retry_backoff: (Duration, Duration),
    rng: Rng,
    /// The same for all that one answer leaves open: it is asked for together again.
    jitter: Rng,
}

impl Validations {
    pub(crate) fn new(retry_backoff: (Duration, Duration), rng: Rng) -> Self {
        Self { pending: BTreeMap::new(), retry_backoff, jitter: rng.clone(), rng }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A position is in doubt from now on. Nothing happens if it is already.
    pub(crate) fn begin(&mut self, now: Timestamp, tp: &TopicPartition) {
        if !self.pending.contains_key(tp) {
            let (initial, max) = self.retry_backoff;
            let backoff = Backoff::new(initial, max);
            self.pending.insert(tp.clone(), Validation { backoff, not_before: now, in_flight: None });
        }
    }

    /// A position is not in doubt any more.
    pub(crate) fn end(&mut self, tp: &TopicPartition) {
        self.pending.remove(tp);
    }

    /// Drops what `keep` does not want; the answers are ignored when they come.
    pub(crate) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.pending.retain(|tp, _| keep(tp));
    }

    /// What can be asked now, by leader. `doubt` says what is in doubt about a partition.
    pub(crate) fn due(
        &self,
        now: Timestamp,
        doubt: impl Fn(&TopicPartition) -> Option<Doubt>,
    ) -> BTreeMap<BrokerId, Vec<(TopicPartition, Doubt)>> {
        let mut due: BTreeMap<BrokerId, Vec<_>> = BTreeMap::new();
        for (tp, validation) in &self.pending {
            if validation.in_flight.is_none()
                && now >= validation.not_before
                && let Some(doubt) = doubt(tp)
            {
                due.entry(doubt.leader).or_default().push((tp.clone(), doubt));
            }
        }
        due
    }

    /// The request for these. It counts as sent.
    pub(crate) fn prepare(
        &mut self,
        doubts: Vec<(TopicPartition, Doubt)>,
    ) -> (OffsetForLeaderEpochRequest, ValidationTag) {
        let mut topics: BTreeMap<String, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        for (tp, doubt) in &doubts {
            if let Some(validation) = self.pending.get_mut(tp) {
                validation.in_flight = Some(*doubt);
            }
            topics.entry(tp.topic().to_owned()).or_default().push(OffsetForLeaderPartition {
                partition: tp.partition(),
                current_leader_epoch: LeaderEpoch::to_wire(Some(doubt.leader_epoch)),
                leader_epoch: LeaderEpoch::to_wire(Some(doubt.last_epoch)),
                ..OffsetForLeaderPartition::default()
            });
        }
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| OffsetForLeaderTopic { topic, partitions, ..Default::default() })
            .collect();
        // A consumer is no replica; the default is that of a tool for debugging.
        let request = OffsetForLeaderEpochRequest { replica_id: -1, topics, ..Default::default() };
        (request, ValidationTag(doubts))
    }

    /// The request will not be answered: everything in it is asked again later.
    pub(crate) fn failed(&mut self, now: Timestamp, tag: ValidationTag) {
        self.jitter = self.rng.split();
        for (tp, doubt) in tag.0 {
            self.again(now, &tp, doubt);
        }
    }

    /// Asked again after a pause. Gives how often that was, 0 if the question is another one by now.
    fn again(&mut self, now: Timestamp, tp: &TopicPartition, doubt: Doubt) -> u32 {
        let Some(validation) = self.pending.get_mut(tp).filter(|v| v.in_flight == Some(doubt)) else {
            return 0;
        };
        validation.in_flight = None;
        validation.not_before = now + validation.backoff.next(&mut self.jitter.clone());
        validation.backoff.failures()
    }

    /// Takes in an answer. Who is of one log with the leader is not in doubt any more; the others are asked again
    /// after a pause, about the position that they have then.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        version: i16,
        body: &[u8],
        tag: ValidationTag,
    ) -> Result<ValidationFindings, Error> {
        self.jitter = self.rng.split();
        let answer = match OffsetForLeaderEpochResponse::decode(version, body) {
            Ok(answer) => answer,
            Err(e) => {
                self.failed(now, tag);
                let text = "sent an answer to OffsetForLeaderEpoch that cannot be read";
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e));
            }
        };
        let mut told = BTreeMap::new();
        for topic in answer.topics.iter() {
            for p in topic.partitions.iter() {
                told.entry((topic.topic, p.partition)).or_insert(p);
            }
        }
        let mut findings = ValidationFindings::default();
        let mut seen = BTreeSet::new();
        for (tp, doubt) in tag.0 {
            let asked = self.pending.get(&tp).is_some_and(|v| v.in_flight == Some(doubt));
            if !asked || !seen.insert(tp.clone()) {
                continue;
            }
            let p = told.get(&(tp.topic(), tp.partition()));
            let code = p.map_or(ErrorCode::None, |p| ErrorCode::from_i16(p.error_code));
            let verdict = p.filter(|_| code == ErrorCode::None).and_then(|p| {
                match (LeaderEpoch::from_wire(p.leader_epoch), p.end_offset) {
                    (Some(epoch), 0..) if epoch > doubt.last_epoch => None,
                    (Some(epoch), end @ 0..) if epoch == doubt.last_epoch && end >= doubt.offset => {
                        Some(Verdict::Same)
                    }
                    (Some(epoch), end @ 0..) => Some(Verdict::Diverges(epoch, end)),
                    _ => Some(Verdict::Unknown),
                }
            });
            match verdict {
                Some(Verdict::Diverges(..)) => drop(self.again(now, &tp, doubt)),
                Some(_) => self.end(&tp),
                None if code == ErrorCode::TopicAuthorizationFailed => {
                    self.end(&tp);
                    let text = "asking for leader epochs is not allowed: grant DESCRIBE on the topic";
                    let error = Error::new(ErrorKind::Authorization, text).with_code(code);
                    findings.failed.push((tp, doubt, error));
                    continue;
                }
                None => {
                    findings.stale |= code != ErrorCode::None;
                    let times = self.again(now, &tp, doubt);
                    tracing::debug!(partition = %tp, %code, times, "the position is not validated, asking again");
                    let asker = Asker::Position(doubt.ownership);
                    if let Refused::Told(error) = refused(asker, &tp, "end of a leader epoch", code, times) {
                        findings.told.push(error);
                    }
                    continue;
                }
            }
            findings.verdicts.extend(verdict.map(|verdict| (tp, doubt, verdict)));
        }
        Ok(findings)
    }

    /// When the next position may be asked about.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.pending.values().filter(|v| v.in_flight.is_none() && v.not_before > now);
        waiting.map(|v| v.not_before).min()
    }
}
