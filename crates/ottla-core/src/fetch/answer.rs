//! Taking in an answer: every partition of it moves its position, reports an error, or waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::messages::FetchResponse;
use ottla_wire::messages::fetch_response::PartitionData;
use ottla_wire::{ErrorCode, View};

use super::session::Wanted;
use super::{Fetcher, MAX_PARTITION_BYTES, partition_error};
use crate::delivery::{Delivery, Fetched, FrameCharge, Pushed};
use crate::planted::planted;
use crate::{BrokerId, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// What the client has to do about an answer.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The broker is not (any more) the one to ask: metadata is needed.
    StaleMetadata,
    /// The broker named the leader (KIP-951).
    LeaderHint { tp: TopicPartition, leader: i32, epoch: i32 },
    /// The leader says that the offset does not exist: the reset policy decides.
    OutOfRange { tp: TopicPartition, epoch: OwnershipEpoch, offset: i64 },
    /// The leader's log is another one than what lies before `offset`: of the epochs up to that of the last record it has
    /// `found` as the last, with its end.
    Diverges { tp: TopicPartition, epoch: OwnershipEpoch, offset: i64, found: (LeaderEpoch, i64) },
    /// The leader names a replica to fetch from (KIP-392). Mostly it gives nothing itself then.
    Replica { tp: TopicPartition, broker: BrokerId, empty: bool },
    /// The replica gave data, or could have.
    ReplicaWorked { tp: TopicPartition },
    /// The replica gave an error: the leader is to be asked.
    ReplicaFailed { tp: TopicPartition },
    /// The broker refuses the requests as such, again and again: the reader is told, while it is tried on.
    Refused(Error),
}

/// So many times in a row a broker refuses, for a reason that trying again should not help against, before the
/// reader is told.
const TELL_AFTER: u32 = 5;

impl Fetcher {
    /// Takes in the answer of `broker`; what belongs to partitions goes straight to `delivery`.
    ///
    /// An error means that the answer cannot be read: the connection is not to be trusted any more.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        version: i16,
        (payload, body_at): (&Bytes, usize),
        delivery: &mut Delivery,
    ) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        self.jitter = self.rng.split();
        let Some(state) = self.brokers.get_mut(&broker) else {
            return Ok(findings);
        };
        let Some(flight) = state.in_flight.take() else {
            return Ok(findings);
        };
        let answer = match FetchResponse::decode(version, payload.get(body_at..).unwrap_or_default()) {
            Ok(answer) => answer,
            Err(e) => {
                state.session.replace();
                let text = "sent an answer to Fetch that cannot be read";
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text).with_broker(broker).with_source(e));
            }
        };
        let error = ErrorCode::from_i16(answer.error_code);
        let held = state.session.take();
        state.session.answered(error, answer.session_id);
        if error != ErrorCode::None {
            // Whatever the session is by now, it holds nothing.
            self.refused(now, broker, error, flight.full, &held, &mut findings);
            return Ok(findings);
        }
        state.refused = None;

        // The position that it moves has the leader epoch of then, which a leader of now has to be asked about.
        if self.looked_at.is_some_and(|(_, cluster)| flight.cluster != Some(cluster)) {
            self.looked_at = None;
        }
        let charge = delivery.charge(payload.len());
        let mut seen = BTreeSet::new();
        let mut progress = false;
        let mut trouble = false;
        let mut again = state.again.take();
        for topic in answer.responses.iter() {
            let by_id = version >= 13;
            let name = self.brokers.get(&broker).filter(|_| by_id).and_then(|s| s.names.get(&topic.topic_id));
            let name = name.cloned();
            for data in topic.partitions.iter() {
                let tp = match &name {
                    Some(name) => TopicPartition::new(Arc::clone(name), data.partition_index),
                    None => TopicPartition::new(topic.topic, data.partition_index),
                };
                let asked = held
                    .get(&tp)
                    .filter(|asked| !by_id || asked.topic_id == Some(topic.topic_id))
                    .filter(|_| seen.insert(tp.clone()));
                let Some(asked) = asked else {
                    // Not asked for, or told twice: the broker's session is not what we think it is.
                    trouble = true;
                    continue;
                };
                if !data.records.unwrap_or_default().is_empty() || data.error_code != 0 {
                    progress = true;
                }
                let push = Push { now, broker, payload, charge: &charge, tp: &tp, asked };
                self.partition(push, &data, delivery, &mut findings);
            }
        }
        // What a full answer leaves out the broker's session does not hold: it would never be told of. An answer
        // without anything is one that is throttled (KIP-219), and has no session either.
        trouble |= flight.full && !seen.is_empty() && seen.len() < held.len();
        let state = self.brokers.entry(broker).or_default();
        // What was answered is not as it was.
        if let Some(again) = &mut again {
            again.append(&mut seen);
        }
        state.again = again;
        state.session.put_back(held);
        if trouble {
            state.session.replace();
        }
        // An empty answer is normal when the wait is over. One that comes at once, again and again, is not.
        let hasty = !progress && now.since(flight.sent_at) < flight.max_wait / 4;
        state.hasty = if hasty { state.hasty.saturating_add(1) } else { 0 };
        if state.hasty > 3 {
            state.not_before = state.not_before.max(now + self.retry_backoff.0);
        }
        Ok(findings)
    }

    /// The answer is an error as a whole, of a request for what was `held`.
    fn refused(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        error: ErrorCode,
        full: bool,
        held: &BTreeMap<TopicPartition, Wanted>,
        findings: &mut Vec<Finding>,
    ) {
        let Some(state) = self.brokers.get_mut(&broker) else { return };
        // KIP-227: brokers forget sessions all the time. One that does not know a session that it was just asked
        // to open is another matter.
        if error == ErrorCode::FetchSessionIdNotFound && !full {
            return;
        }
        let of_session = matches!(
            error,
            ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError
        );
        if full || !of_session {
            let as_replica = held.iter().filter(|(_, asked)| !asked.from_leader);
            findings.extend(as_replica.map(|(tp, _)| Finding::ReplicaFailed { tp: tp.clone() }));
        }
        if !findings.is_empty() && findings.len() == held.len() {
            // Nothing is asked of it any more, and the leaders give what it does not: nobody needs to know.
            tracing::warn!(%broker, %error, "the replica refuses a fetch as a whole, the leaders are asked");
            state.not_before = now + self.retry_backoff.0;
            findings.push(Finding::StaleMetadata);
            return;
        }
        let times = state.wait(now, self.retry_backoff, &mut self.rng);
        if planted!(HotRefusals) {
            state.not_before = now;
        }
        let known = error.is_retriable() || error == ErrorCode::UnknownServerError;
        if !known && times == TELL_AFTER {
            let text = "the broker refuses to be fetched from; it is tried again";
            let error = Error::new(ErrorKind::BrokerMisbehaved, text).with_code(error).with_broker(broker);
            return findings.push(Finding::Refused(error));
        }
        tracing::warn!(%broker, %error, times, "fetch failed as a whole");
        findings.push(Finding::StaleMetadata);
    }

    fn partition(
        &mut self,
        push: Push<'_>,
        data: &PartitionData<'_>,
        delivery: &mut Delivery,
        findings: &mut Vec<Finding>,
    ) {
        let Push { now, tp, asked, .. } = push;
        let error = ErrorCode::from_i16(data.error_code);
        let leader = data.current_leader;
        if leader.leader_id >= 0 {
            findings.push(Finding::LeaderHint {
                tp: tp.clone(),
                leader: leader.leader_id,
                epoch: leader.leader_epoch,
            });
        }
        let diverging = data.diverging_epoch;
        let found = LeaderEpoch::from_wire(diverging.epoch).filter(|_| diverging.end_offset >= 0);
        if !asked.from_leader {
            let tp = tp.clone();
            if error == ErrorCode::None {
                findings.push(Finding::ReplicaWorked { tp });
            } else {
                tracing::debug!(broker = %push.broker, partition = %tp, %error, "the replica failed, the leader is asked");
                findings.push(Finding::ReplicaFailed { tp });
                if error.is_invalid_metadata() {
                    findings.push(Finding::StaleMetadata);
                }
                return;
            }
        } else if error == ErrorCode::None && data.preferred_read_replica >= 0 {
            let broker = BrokerId(data.preferred_read_replica);
            let empty = data.records.unwrap_or_default().is_empty();
            findings.push(Finding::Replica { tp: tp.clone(), broker, empty });
        }
        match (error, found.filter(|_| asked.last_epoch.is_some())) {
            (ErrorCode::None, Some(epoch)) => {
                let (ownership, offset) = (asked.ownership, asked.offset);
                let found = (epoch, diverging.end_offset);
                findings.push(Finding::Diverges { tp: tp.clone(), epoch: ownership, offset, found });
                // Whatever comes of it: it is not asked for hotly.
                self.hold_back(now, tp);
            }
            (error, _) => self.error_or_records(push, error, data, delivery, findings),
        }
    }

    fn error_or_records(
        &mut self,
        push: Push<'_>,
        error: ErrorCode,
        data: &PartitionData<'_>,
        delivery: &mut Delivery,
        findings: &mut Vec<Finding>,
    ) {
        let Push { now, broker, tp, asked, .. } = push;
        match error {
            ErrorCode::None => self.records(push, data, delivery),
            ErrorCode::OffsetOutOfRange => {
                if delivery.is_provisional(tp) {
                    // The offset came from a header that nobody has verified: it proves nothing.
                    delivery.drop_prefetch(tp, asked.ownership);
                    self.hold_back(now, tp);
                } else if delivery
                    .fetch_position(tp)
                    .is_some_and(|p| (p.epoch, p.offset) == (asked.ownership, asked.offset))
                {
                    findings.push(Finding::OutOfRange {
                        tp: tp.clone(),
                        epoch: asked.ownership,
                        offset: asked.offset,
                    });
                    // The first time the new position is asked for at once. A broker that finds every offset out
                    // of range must not be asked hotly.
                    let trouble = self.hold_back(now, tp);
                    trouble.out_of_range = trouble.out_of_range.saturating_add(1);
                    if trouble.out_of_range == 1 {
                        trouble.not_before = now;
                    }
                }
            }
            ErrorCode::TopicAuthorizationFailed => {
                let text = "reading the topic is not allowed: grant READ on it to this client's principal";
                let error = Error::new(ErrorKind::Authorization, text).with_code(error);
                delivery.fail(tp, asked.ownership, partition_error(error, tp, broker));
            }
            ErrorCode::CorruptMessage => {
                let text = format!("the broker finds its own records at offset {} corrupt", asked.offset);
                let error = Error::new(ErrorKind::Corrupt, text).with_code(error).with_retriable(false);
                delivery.fail(tp, asked.ownership, partition_error(error, tp, broker));
            }
            ErrorCode::UnsupportedCompressionType => {
                let text = "the broker cannot convert the records for this version of Fetch";
                let error = Error::new(ErrorKind::Unsupported, text).with_code(error);
                delivery.fail(tp, asked.ownership, partition_error(error, tp, broker));
            }
            error => {
                // An epoch that the leader does not know may be one that only we were told: metadata decides.
                if error.is_invalid_metadata() || error == ErrorCode::UnknownLeaderEpoch {
                    findings.push(Finding::StaleMetadata);
                }
                let trouble = self.hold_back(now, tp);
                if error.is_retriable() || error == ErrorCode::UnknownServerError {
                    return;
                }
                trouble.refusals = trouble.refusals.saturating_add(1);
                let times = trouble.refusals;
                tracing::warn!(%broker, partition = %tp, %error, times, "fetch failed");
                if times >= TELL_AFTER {
                    self.troubles.remove(tp);
                    let text =
                        format!("reading at offset {} is refused; seek there to try again", asked.offset);
                    let error = Error::new(ErrorKind::BrokerMisbehaved, text).with_code(error);
                    let error = error.with_resume_at(asked.offset);
                    delivery.fail(tp, asked.ownership, partition_error(error, tp, broker));
                }
            }
        }
    }

    fn records(&mut self, push: Push<'_>, data: &PartitionData<'_>, delivery: &mut Delivery) {
        let Push { now, payload, charge, tp, asked, .. } = push;
        let records = data.records.unwrap_or_default();
        let aborted = data.aborted_transactions.iter().flatten().map(|a| (a.producer_id, a.first_offset));
        let pushed = delivery.push(
            now,
            Fetched {
                tp: tp.clone(),
                epoch: asked.ownership,
                fetch_offset: asked.offset,
                leader_epoch: asked.leader_epoch,
                records: if records.is_empty() { Bytes::new() } else { payload.slice_ref(records) },
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start_offset: data.log_start_offset,
                aborted: aborted.collect(),
                charge: Some(charge.clone()),
            },
        );
        match pushed {
            Pushed::Accepted { .. } => {
                self.troubles.remove(tp);
            }
            // Less than one batch: the next time this partition comes first, or asks for more.
            Pushed::Incomplete => {
                let bytes = self.troubles.get(tp).and_then(|t| t.max_bytes);
                let bytes = bytes.unwrap_or(self.max_partition_bytes).saturating_mul(2);
                self.hold_back(now, tp).max_bytes = Some(bytes.min(MAX_PARTITION_BYTES));
            }
            // The error that made it wait is over.
            Pushed::Empty => match self.troubles.get_mut(tp) {
                Some(trouble) if trouble.max_bytes.is_some() => {
                    (trouble.refusals, trouble.out_of_range) = (0, 0);
                }
                _ => drop(self.troubles.remove(tp)),
            },
            // The same again, after a pause.
            Pushed::Suspect => {
                self.hold_back(now, tp);
            }
            // Of another time, or told to the reader already.
            _ => {}
        }
    }
}

/// What belongs to one partition of an answer.
struct Push<'a> {
    now: Timestamp,
    broker: BrokerId,
    payload: &'a Bytes,
    charge: &'a FrameCharge,
    tp: &'a TopicPartition,
    asked: &'a Wanted,
}
