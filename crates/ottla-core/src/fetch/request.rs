//! Building the next request to one broker.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_wire::messages::FetchRequest;
use ottla_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

use super::session::{Plan, Wanted};
use super::{Fetcher, InFlight, MAX_GRANT, MIN_GRANT, MOST_DOUBLINGS, SHORT_WAIT};
use crate::config::IsolationLevel;
use crate::delivery::FetchPosition;
use crate::{BrokerId, LeaderEpoch, Timestamp, TopicId, TopicPartition};

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
    /// Leader epoch of what lies before the offset, if the broker can tell whether its log is another one.
    pub(crate) last_epoch: Option<LeaderEpoch>,
    /// It is asked of its leader, not of another replica.
    pub(crate) from_leader: bool,
}

/// What the next request is made of.
enum Next {
    /// This, and when something that is left out is to be asked for.
    Ask(Plan, Option<Timestamp>),
    /// There is nothing to ask for.
    Nothing,
    /// More is needed than differences.
    Everything,
}

/// What fetching may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// What the ledger has left, what is reserved already taken off.
    pub(crate) left: usize,
    /// Among how many brokers that is shared.
    pub(crate) brokers: usize,
    /// A partition that has so much buffered is not asked for.
    pub(crate) of_one: usize,
}

/// What becomes of the partitions that were looked at.
#[derive(Debug, Default)]
struct Sorted {
    wanted: Vec<(TopicPartition, Wanted)>,
    /// When something that is left out is to be asked for.
    left_out: Option<Timestamp>,
    again: BTreeSet<TopicPartition>,
}

impl Fetcher {
    /// The next request to `broker`, if there is something to ask for and room for the answer.
    ///
    /// `look` gives of the partitions that it is told, or of all, those that are to be fetched from this broker. The
    /// request counts as sent.
    pub(crate) fn prepare(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        look: impl Fn(Option<&BTreeSet<TopicPartition>>) -> Vec<Candidate>,
        rack: &str,
        room: Room,
    ) -> Option<Prepared> {
        let (isolation_level, min_bytes) = (self.isolation_level, self.min_bytes);
        let (max_wait, max_bytes) = (self.max_wait, self.max_bytes);
        let state = self.brokers.entry(broker).or_default();
        if state.in_flight.is_some() || now < state.not_before || room.left < MIN_GRANT {
            return None;
        }
        let again = state.again.take().filter(|_| state.session.is_open());
        let next = match again {
            Some(again) => {
                let candidates = look(Some(&again));
                self.differences(now, broker, candidates, again, room)
            }
            None => Next::Everything,
        };
        let next = match next {
            Next::Everything => self.everything(now, broker, look(None), room),
            next => next,
        };
        let state = self.brokers.entry(broker).or_default();
        let Next::Ask(plan, left_out) = next else {
            state.has_enough = true;
            return None;
        };
        state.has_enough = false;
        let names = plan.send.iter().filter_map(|(tp, w)| Some((w.topic_id?, tp)));
        for (id, tp) in names {
            state.names.entry(id).or_insert_with(|| tp.topic_arc().clone());
        }
        let most = MAX_GRANT.min(max_bytes).max(1);
        let grant = (room.left / room.brokers.max(1)).clamp(MIN_GRANT.min(most), most);
        // A reader that has taken nothing for a while is not looked after as often.
        let short = SHORT_WAIT * (1 << state.unchanged.saturating_sub(1).min(MOST_DOUBLINGS));
        let until = |at: Timestamp| if at > now { at.since(now).max(SHORT_WAIT) } else { short };
        let max_wait = left_out.map_or(max_wait, |at| max_wait.min(until(at)));
        // While there is not room for all brokers at once, none may keep the others from theirs for long.
        let busy = self.brokers.values().filter(|b| b.in_flight.is_some()).count();
        let others_wait = busy + 1 < room.brokers && room.left.saturating_sub(grant) < MIN_GRANT;
        let max_wait = if others_wait { max_wait.min(SHORT_WAIT) } else { max_wait };
        let state = self.brokers.entry(broker).or_default();
        let max_version = if state.session.by_id() { i16::MAX } else { LAST_BY_NAME };
        let full = plan.session_epoch == 0;
        let cluster = self.looked_at.map(|(_, cluster)| cluster);
        state.in_flight = Some(InFlight { full, reserved: grant, sent_at: now, max_wait, cluster });
        self.last_granted = Some(broker);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes,
            max_bytes: i32::try_from(grant).unwrap_or(i32::MAX),
            isolation_level: match isolation_level {
                IsolationLevel::ReadUncommitted => 0,
                IsolationLevel::ReadCommitted => 1,
            },
            session_id: plan.session_id,
            session_epoch: plan.session_epoch,
            topics: topics(&plan),
            rack_id: rack.to_owned(),
            forgotten_topics_data: forgotten(&plan),
            ..FetchRequest::default()
        };
        Some(Prepared { request, max_version, max_wait })
    }

    /// A request of differences: what was not looked at stays as the session holds it.
    fn differences(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        candidates: Vec<Candidate>,
        mut looked_at: BTreeSet<TopicPartition>,
        room: Room,
    ) -> Next {
        let sorted = self.sort(now, broker, candidates, room);
        let state = self.brokers.entry(broker).or_default();
        let is_back = |(tp, _): &(TopicPartition, Wanted)| !state.session.holds(tp);
        state.unchanged = if sorted.left_out.is_none() || sorted.wanted.iter().any(is_back) {
            0
        } else {
            state.unchanged.saturating_add(1)
        };
        for (tp, _) in &sorted.wanted {
            looked_at.remove(tp);
        }
        let gone: Vec<_> = looked_at.into_iter().filter(|tp| state.session.holds(tp)).collect();
        if sorted.wanted.is_empty() && gone.len() == state.session.len() {
            // The session stays as it is, and is looked at as it is the next time.
            state.again = state.session.is_open().then(|| gone.into_iter().chain(sorted.again).collect());
            return Next::Nothing;
        }
        let Some(plan) = state.session.change(sorted.wanted, gone) else { return Next::Everything };
        state.again = Some(sorted.again);
        Next::Ask(plan, sorted.left_out)
    }

    /// A request that says what is wanted as if nothing was known of the session, which takes the differences.
    fn everything(
        &mut self,
        now: Timestamp,
        broker: BrokerId,
        candidates: Vec<Candidate>,
        room: Room,
    ) -> Next {
        let Sorted { mut wanted, left_out, again } = self.sort(now, broker, candidates, room);
        if wanted.is_empty() {
            return Next::Nothing;
        }
        let state = self.brokers.entry(broker).or_default();
        // The order decides who is served when the answer's limit is reached: everybody comes first in turn.
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(first) = &state.first {
            let at = wanted.partition_point(|(tp, _)| tp < first);
            let at = if at < wanted.len() { at } else { 0 };
            wanted.rotate_left(at);
        }
        state.first = wanted.get(1).or_else(|| wanted.first()).map(|(tp, _)| tp.clone());
        state.names.clear();
        state.again = Some(again);
        Next::Ask(state.session.plan(wanted), left_out)
    }

    /// Who is asked for now, who is left out, and who has to be looked at again.
    fn sort(&mut self, now: Timestamp, broker: BrokerId, candidates: Vec<Candidate>, room: Room) -> Sorted {
        let mut sorted = Sorted::default();
        let state = self.brokers.entry(broker).or_default();
        for Candidate { position, topic_id, leader_epoch, last_epoch, from_leader } in candidates {
            let trouble = self.troubles.get(&position.tp);
            if let Some(at) = trouble.map(|t| t.not_before).filter(|at| now < *at) {
                sorted.left_out = Some(sorted.left_out.map_or(at, |earliest| earliest.min(at)));
                sorted.again.insert(position.tp);
                continue;
            }
            // What lies here for long is cold when it is decoded, so that as much as an answer brings is enough. The
            // threshold falls with the room that is left: many partitions share it evenly, and one that is stuck leaves
            // room for the others.
            if position.buffered_bytes >= MIN_GRANT {
                sorted.again.insert(position.tp.clone());
            }
            if position.buffered_bytes >= room.left.min(room.of_one).max(MIN_GRANT) {
                sorted.left_out = Some(now);
                continue;
            }
            // A session's answers leave out what has not changed since its last one, to whichever ownership.
            if !position.knows_end && state.session.holds(&position.tp) {
                state.session.replace();
            }
            let wanted = Wanted {
                topic_id,
                ownership: position.epoch,
                offset: position.offset,
                leader_epoch,
                last_epoch,
                from_leader,
                max_bytes: trouble.and_then(|t| t.max_bytes).unwrap_or(self.max_partition_bytes),
            };
            sorted.wanted.push((position.tp, wanted));
        }
        sorted
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
            last_fetched_epoch: LeaderEpoch::to_wire(wanted.last_epoch),
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
