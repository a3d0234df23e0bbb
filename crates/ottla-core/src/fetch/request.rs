//! Building the next request to one broker.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_wire::messages::FetchRequest;
use ottla_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

use super::session::{Plan, Wanted};
use super::{Asked, Fetcher, InFlight, MAX_GRANT, MIN_GRANT, SHORT_WAIT};
use crate::config::IsolationLevel;
use crate::delivery::FetchPosition;
use crate::{BrokerId, LeaderEpoch, Timestamp, TopicId};

/// The last version that names topics.
const LAST_BY_NAME: i16 = 12;

/// A request that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) request: FetchRequest,
    pub(crate) max_version: i16,
    /// How long the broker may take on purpose.
    pub(crate) max_wait: Duration,
}

/// A partition that could be asked for, with what metadata says of it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) position: FetchPosition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

impl Fetcher {
    /// The next request to `broker`, if there is something to ask for and room for the answer.
    ///
    /// `room` is what the ledger has left, what is reserved already taken off; `brokers` is among how many it is
    /// shared. The request counts as sent.
    pub(crate) fn prepare(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        candidates: Vec<Candidate>,
        room: usize,
        brokers: usize,
    ) -> Option<Prepared> {
        let (max_partition_bytes, max_wait, max_bytes) =
            (self.max_partition_bytes, self.max_wait, self.max_bytes);
        let state = self.brokers.entry(broker).or_default();
        if state.in_flight.is_some() || now < state.not_before || room < MIN_GRANT {
            return None;
        }
        // When something that is left out now is to be asked for.
        let mut left_out: Option<Timestamp> = None;
        let mut asked = BTreeMap::new();
        let mut wanted = Vec::with_capacity(candidates.len());
        for Candidate { position, topic_id, leader_epoch } in candidates {
            let trouble = self.troubles.get(&position.tp);
            if let Some(at) = trouble.map(|t| t.not_before).filter(|at| now < *at) {
                left_out = Some(left_out.map_or(at, |earliest| earliest.min(at)));
                continue;
            }
            // The threshold falls with the room that is left: one busy partition may use half of the budget,
            // many share it evenly, and one that is stuck leaves room for the others.
            if position.buffered_bytes >= room.max(MIN_GRANT) {
                left_out = Some(now);
                continue;
            }
            // A session's answers leave out what has not changed since its last one, to whichever ownership.
            if !position.knows_end && state.session.holds(&position.tp) {
                state.session.replace();
            }
            let max_bytes = trouble.and_then(|t| t.max_bytes).unwrap_or(max_partition_bytes);
            asked.insert(position.tp.clone(), Asked { epoch: position.epoch, offset: position.offset });
            wanted.push((position.tp, Wanted { topic_id, offset: position.offset, leader_epoch, max_bytes }));
        }
        if wanted.is_empty() {
            return None;
        }
        // The order decides who is served when the answer's limit is reached: everybody comes first in turn.
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(first) = &state.first {
            let at = wanted.partition_point(|(tp, _)| tp < first);
            let at = if at < wanted.len() { at } else { 0 };
            wanted.rotate_left(at);
        }
        state.first = wanted.get(1).or_else(|| wanted.first()).map(|(tp, _)| tp.clone());

        let most = MAX_GRANT.min(max_bytes).max(1);
        let grant = (room / brokers.max(1)).clamp(MIN_GRANT.min(most), most);
        let max_wait = left_out.map_or(max_wait, |at| max_wait.min(at.since(now).max(SHORT_WAIT)));
        let names = wanted.iter().filter_map(|(tp, w)| Some((w.topic_id?, tp.topic_arc().clone()))).collect();
        let plan = state.session.plan(wanted);
        let max_version = if state.session.by_id() { i16::MAX } else { LAST_BY_NAME };
        let full = plan.session_epoch == 0;
        state.in_flight = Some(InFlight { asked, names, full, reserved: grant, sent_at: now, max_wait });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.min_bytes,
            max_bytes: i32::try_from(grant).unwrap_or(i32::MAX),
            isolation_level: match self.isolation_level {
                IsolationLevel::ReadUncommitted => 0,
                IsolationLevel::ReadCommitted => 1,
            },
            session_id: plan.session_id,
            session_epoch: plan.session_epoch,
            topics: topics(&plan),
            forgotten_topics_data: forgotten(&plan),
            ..FetchRequest::default()
        };
        Some(Prepared { request, max_version, max_wait })
    }
}

/// The partitions grouped by topic, in the order of the plan: a topic may come twice where that order says so.
fn topics(plan: &Plan) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (tp, wanted) in &plan.send {
        let partition = FetchPartition {
            partition: tp.partition(),
            current_leader_epoch: LeaderEpoch::to_wire(wanted.leader_epoch),
            fetch_offset: wanted.offset,
            partition_max_bytes: wanted.max_bytes,
            ..FetchPartition::default()
        };
        match topics.last_mut() {
            Some(topic) if topic.topic == tp.topic() => topic.partitions.push(partition),
            _ => topics.push(FetchTopic {
                topic: tp.topic().to_owned(),
                topic_id: wanted.topic_id.unwrap_or_default(),
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn forgotten(plan: &Plan) -> Vec<ForgottenTopic> {
    let mut topics: Vec<ForgottenTopic> = Vec::new();
    for (tp, id) in &plan.forget {
        let topic_id = id.unwrap_or_default();
        match topics.last_mut() {
            Some(topic) if topic.topic == tp.topic() && topic.topic_id == topic_id => {
                topic.partitions.push(tp.partition());
            }
            _ => topics.push(ForgottenTopic {
                topic: tp.topic().to_owned(),
                topic_id,
                partitions: vec![tp.partition()],
            }),
        }
    }
    topics
}
