//! Fetch 4–18: sessions, long polls, limits, leader epochs, isolation.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::session::{Wanted, next_epoch};
use super::topics::Partition;
use super::{Cluster, RequestId, Timer};
use crate::api::Api;
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

const READ_COMMITTED: i8 = 1;
const ZSTD: i16 = 4;

/// A Fetch that is being answered or waits for data.
#[derive(Debug)]
pub(super) struct ParkedFetch {
    node: i32,
    version: i16,
    source: Source,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    rack: String,
    deadline: Timestamp,
    /// Errors that a fault gives: for all partitions or for some.
    error: Option<ErrorCode>,
    scope: Option<(String, Option<i32>)>,
}

/// Where the list of partitions comes from.
#[derive(Debug)]
enum Source {
    /// No session is wanted (`epoch` −1, or a version without sessions).
    Sessionless(Vec<Wanted>),
    /// A full request: the answer opens a session.
    Full(Vec<Wanted>),
    /// The session holds the list.
    Incremental(i32),
}

/// What one partition gives.
struct Read {
    data: PartitionData,
    bytes: usize,
    /// Answer at once: an error, a diverging epoch or a preferred replica.
    urgent: bool,
}

impl Cluster {
    pub(super) fn handle_fetch(&mut self, now: Timestamp, id: RequestId, request: FetchRequest) {
        let Some(flight) = self.in_flight.get(&id) else { return };
        let (node, version) = (flight.node, flight.version);
        let error = flight.plan.error;
        let scope = flight.plan.scope.clone();
        if let Some(code) = error.filter(|code| is_session_error(*code)) {
            return self.finish(now, id, Some(session_error(code).into()));
        }
        let source = match self.fetch_source(now, node, version, &request) {
            Ok(source) => source,
            Err(code) => return self.finish(now, id, Some(session_error(code).into())),
        };
        let parked = ParkedFetch {
            node,
            version,
            source,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(self.config.fetch_max_bytes),
            read_committed: request.isolation_level == READ_COMMITTED,
            rack: request.rack_id.to_string(),
            deadline: now.plus_wire_ms(request.max_wait_ms),
            error,
            scope,
        };
        let patient = request.max_wait_ms > 0;
        match self.try_fetch(now, &parked, !patient) {
            Some(response) => self.finish(now, id, Some(response.into())),
            None => {
                self.timers.insert((parked.deadline, Timer::FetchWait(id)));
                self.parked_fetches.insert(id, parked);
            }
        }
    }

    /// The session rules of KIP-227.
    fn fetch_source(
        &mut self,
        now: Timestamp,
        node: i32,
        version: i16,
        request: &FetchRequest,
    ) -> Result<Source, ErrorCode> {
        let wanted = self.wanted(version, request);
        let Some(node) = self.nodes.get_mut(&node) else { return Ok(Source::Sessionless(wanted)) };
        if version < 7 {
            return Ok(Source::Sessionless(wanted));
        }
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch <= 0 {
            // Epoch 0 asks for a new session, −1 for none; both end the one that is named.
            if id != 0 {
                node.sessions.remove(id);
            }
            return Ok(if epoch == 0 { Source::Full(wanted) } else { Source::Sessionless(wanted) });
        }
        let session = node.sessions.get_mut(id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.uses_ids != (version >= 13) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        for one in wanted {
            session.want(one);
        }
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                session.forget(&topic.topic, *topic.topic_id.as_bytes(), *partition);
            }
        }
        if session.is_empty() {
            node.sessions.remove(id);
            return Ok(Source::Sessionless(Vec::new()));
        }
        session.epoch = next_epoch(epoch);
        node.sessions.touch(id, now);
        Ok(Source::Incremental(id))
    }

    fn wanted(&self, version: i16, request: &FetchRequest) -> Vec<Wanted> {
        let mut list = Vec::new();
        for topic in &request.topics {
            let id = if version >= 13 { *topic.topic_id.as_bytes() } else { [0; 16] };
            let name =
                if version >= 13 { self.topics.name_of(&id).unwrap_or_default() } else { &topic.topic };
            let name: Arc<str> = Arc::from(name);
            list.extend(topic.partitions.iter().map(|p| Wanted {
                topic: name.clone(),
                id,
                partition: p.partition,
                offset: p.fetch_offset,
                max_bytes: p.partition_max_bytes,
                leader_epoch: p.current_leader_epoch,
                last_fetched_epoch: p.last_fetched_epoch,
            }));
        }
        list
    }

    /// Reads everything that is wanted; none when it is too little to answer and `last_call` is not given.
    fn try_fetch(&mut self, now: Timestamp, parked: &ParkedFetch, last_call: bool) -> Option<FetchResponse> {
        let wanted: Vec<Wanted> = match &parked.source {
            Source::Sessionless(list) | Source::Full(list) => list.clone(),
            Source::Incremental(id) => match self.nodes.get(&parked.node)?.sessions.get(*id) {
                Some(session) => session.wanted().cloned().collect(),
                None => return Some(session_error(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)),
            },
        };
        let mut reads: Vec<(Wanted, Read)> = Vec::new();
        let (mut bytes, mut urgent, mut left, mut min_one) = (0, false, parked.max_bytes, true);
        for one in wanted {
            let read = self.read_partition(parked, &one, left, min_one);
            if read.bytes > 0 {
                min_one = false;
            }
            left = left.saturating_sub(read.bytes);
            bytes += read.bytes;
            urgent |= read.urgent;
            reads.push((one, read));
        }
        if !last_call && !urgent && !reads.is_empty() && bytes < parked.min_bytes {
            return None;
        }
        Some(self.fetch_response(now, parked, reads))
    }

    fn read_partition(&self, parked: &ParkedFetch, wanted: &Wanted, left: usize, min_one: bool) -> Read {
        let forced = match (&parked.scope, parked.error) {
            (None, Some(code)) => Some(code),
            (Some((topic, partition)), Some(code)) => {
                let same = **topic == *wanted.topic && partition.is_none_or(|p| p == wanted.partition);
                same.then_some(code)
            }
            _ => None,
        };
        if let Some(code) = forced {
            return failed(wanted.partition, code, None);
        }
        let Some(name) = self.topic_name(wanted) else {
            let code = if wanted.id == [0; 16] {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                ErrorCode::UNKNOWN_TOPIC_ID
            };
            return unknown(wanted.partition, code);
        };
        let Some(partition) = self.topics.partition(name, wanted.partition) else {
            return unknown(wanted.partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        let is_leader = partition.leader == Some(parked.node);
        let may_follow = parked.version >= 11 && self.has_racks() && partition.isr.contains(&parked.node);
        let led = if is_leader || may_follow { Ok(()) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) };
        if let Err(code) = check_epoch(partition, wanted.leader_epoch).and(led) {
            return failed(wanted.partition, code, Some(partition).filter(|_| parked.version >= 12));
        }
        if is_leader
            && parked.version >= 11
            && let Some(replica) = self.preferred_replica(partition, parked, wanted.offset)
        {
            let mut data = healthy(wanted.partition, partition);
            data.preferred_read_replica = BrokerId(replica);
            return Read { data, bytes: 0, urgent: true };
        }
        if wanted.last_fetched_epoch >= 0 {
            let (epoch, end) = partition.log.end_of_epoch(wanted.last_fetched_epoch, partition.leader_epoch);
            if epoch < wanted.last_fetched_epoch || end < wanted.offset {
                let mut data = healthy(wanted.partition, partition);
                data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                return Read { data, bytes: 0, urgent: true };
            }
        }
        let log_end = partition.end_on(parked.node);
        if wanted.offset < partition.log.start() || wanted.offset > log_end {
            return failed(wanted.partition, ErrorCode::OFFSET_OUT_OF_RANGE, None);
        }
        let end =
            if parked.read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
        let end = end.min(log_end);
        // Brokers before 4.0 keep zstd from clients that may not know it.
        let guards_zstd = parked.version < 10 && !self.config.versions.supports(Api::Metadata, 13);
        if guards_zstd && partition.log.holds_codec(wanted.offset, end, ZSTD) {
            return failed(wanted.partition, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, None);
        }
        let max = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
        let records = partition.log.read(wanted.offset, end, max, min_one);
        let mut data = healthy(wanted.partition, partition);
        data.high_watermark = data.high_watermark.min(log_end);
        data.last_stable_offset = data.last_stable_offset.min(log_end);
        if parked.read_committed {
            let to = if records.is_empty() { wanted.offset } else { end };
            let aborted = partition.log.aborted_between(wanted.offset, to);
            data.aborted_transactions = Some(
                aborted
                    .map(|t| {
                        AbortedTransaction::default()
                            .with_producer_id(t.producer_id.into())
                            .with_first_offset(t.first_offset)
                    })
                    .collect(),
            );
        }
        let bytes = records.len();
        data.records = Some(records);
        Read { data, bytes, urgent: false }
    }

    /// A name now, also for an id that was unknown when the session was opened; none when the topic is gone.
    fn topic_name<'a>(&'a self, wanted: &'a Wanted) -> Option<&'a str> {
        if wanted.id == [0; 16] { Some(&wanted.topic) } else { self.topics.name_of(&wanted.id) }
    }

    fn has_racks(&self) -> bool {
        self.nodes.values().any(|node| node.rack.is_some())
    }

    /// KIP-392: a replica in the client's rack, when the leader is in another one.
    fn preferred_replica(&self, partition: &Partition, parked: &ParkedFetch, offset: i64) -> Option<i32> {
        let rack = Some(parked.rack.as_str()).filter(|rack| !rack.is_empty())?;
        let in_rack =
            |id: &i32| self.nodes.get(id).is_some_and(|node| node.up && node.rack.as_deref() == Some(rack));
        if in_rack(&parked.node) {
            return None;
        }
        // The leader knows how far its followers are.
        let has = |id: &i32| partition.end_on(*id) >= offset || self.config.leaders_are_ignorant;
        partition.isr.iter().copied().find(|id| in_rack(id) && has(id))
    }

    fn fetch_response(
        &mut self,
        now: Timestamp,
        parked: &ParkedFetch,
        mut reads: Vec<(Wanted, Read)>,
    ) -> FetchResponse {
        let mut response = FetchResponse::default();
        if parked.version >= 16 {
            response.node_endpoints = self.endpoints(reads.iter().map(|(_, read)| &read.data));
        }
        if let Some(node) = self.nodes.get_mut(&parked.node) {
            let incremental = matches!(parked.source, Source::Incremental(_));
            let session = match &parked.source {
                Source::Sessionless(_) => None,
                Source::Full(list) => {
                    node.sessions.create(&mut self.rng, parked.version >= 13, now).map(|(id, session)| {
                        list.iter().cloned().for_each(|wanted| session.want(wanted));
                        (id, session)
                    })
                }
                Source::Incremental(id) => node.sessions.get_mut(*id).map(|session| (*id, session)),
            };
            if let Some((id, session)) = session {
                response.session_id = id;
                // An incremental answer holds only what the client does not know already.
                reads.retain(|(wanted, read)| {
                    let data = &read.data;
                    let Some(cached) = session.cached_mut(wanted) else { return true };
                    let news = read.bytes > 0
                        || read.urgent
                        || cached.high_watermark != data.high_watermark
                        || cached.log_start != data.log_start_offset;
                    cached.high_watermark = if data.error_code == 0 { data.high_watermark } else { -1 };
                    cached.log_start = data.log_start_offset;
                    if read.bytes > 0 {
                        session.move_to_end(wanted);
                    }
                    news || !incremental
                });
            }
        }
        response.responses = into_topics(parked.version, reads);
        response
    }

    /// KIP-951: where the leaders named in the answer are.
    fn endpoints<'a>(&self, partitions: impl Iterator<Item = &'a PartitionData>) -> Vec<NodeEndpoint> {
        let leaders: BTreeMap<i32, NodeEndpoint> = partitions
            .filter_map(|data| {
                let id = data.current_leader.leader_id.0;
                let node = self.nodes.get(&id)?;
                let endpoint = NodeEndpoint::default()
                    .with_node_id(BrokerId(id))
                    .with_host(StrBytes::from_string(node.host.clone()))
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack.clone().map(StrBytes::from_string));
                Some((id, endpoint))
            })
            .collect();
        leaders.into_values().collect()
    }

    pub(super) fn fetch_wait_over(&mut self, now: Timestamp, id: RequestId) {
        if let Some(parked) = self.parked_fetches.remove(&id)
            && let Some(response) = self.try_fetch(now, &parked, true)
        {
            self.finish(now, id, Some(response.into()));
        }
    }

    /// Something changed in a topic (or in all): long polls that can be answered now are.
    pub(super) fn wake_fetches(&mut self, now: Timestamp, topic: Option<&str>) {
        let concerned: Vec<RequestId> = self
            .parked_fetches
            .iter()
            .filter(|(_, parked)| topic.is_none_or(|topic| self.concerns(parked, topic)))
            .map(|(id, _)| *id)
            .collect();
        for id in concerned {
            let Some(parked) = self.parked_fetches.remove(&id) else { continue };
            match self.try_fetch(now, &parked, false) {
                Some(response) => {
                    self.timers.remove(&(parked.deadline, Timer::FetchWait(id)));
                    self.finish(now, id, Some(response.into()));
                }
                None => drop(self.parked_fetches.insert(id, parked)),
            }
        }
    }

    fn concerns(&self, parked: &ParkedFetch, topic: &str) -> bool {
        match &parked.source {
            Source::Sessionless(list) | Source::Full(list) => list.iter().any(|w| &*w.topic == topic),
            Source::Incremental(id) => self
                .nodes
                .get(&parked.node)
                .and_then(|node| node.sessions.get(*id))
                .is_none_or(|session| session.holds(topic, None)),
        }
    }
}

/// FENCED_LEADER_EPOCH for an epoch that is over, UNKNOWN_LEADER_EPOCH for one that this broker has not seen (KIP-320).
pub(super) fn check_epoch(partition: &Partition, epoch: i32) -> Result<(), ErrorCode> {
    if epoch < 0 || epoch == partition.leader_epoch {
        Ok(())
    } else if epoch < partition.leader_epoch {
        Err(ErrorCode::FENCED_LEADER_EPOCH)
    } else {
        Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
    }
}

fn is_session_error(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
            | ErrorCode::UNKNOWN_SERVER_ERROR
    )
}

fn session_error(code: ErrorCode) -> FetchResponse {
    FetchResponse::default().with_error_code(code.0)
}

fn healthy(index: i32, partition: &Partition) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(partition.high_watermark())
        .with_last_stable_offset(partition.last_stable_offset())
        .with_log_start_offset(partition.log.start())
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

/// A partition that is not there. Kafka answers with an empty list of aborted transactions here, with null elsewhere.
fn unknown(index: i32, code: ErrorCode) -> Read {
    let mut read = failed(index, code, None);
    read.data.aborted_transactions = Some(Vec::new());
    read
}

/// An error; with the partition given it says who leads now, where that helps (KIP-951).
fn failed(index: i32, code: ErrorCode, partition: Option<&Partition>) -> Read {
    let mut data = PartitionData::default()
        .with_partition_index(index)
        .with_error_code(code.0)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()));
    if let Some(partition) = partition
        && matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH)
    {
        data.current_leader = LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
            .with_leader_epoch(partition.leader_epoch);
    }
    Read { data, bytes: 0, urgent: true }
}

/// Neighbours of one topic share an entry; the order of the partitions stays.
fn into_topics(version: i16, reads: Vec<(Wanted, Read)>) -> Vec<FetchableTopicResponse> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    for (wanted, mut read) in reads {
        if version < 5 {
            read.data.log_start_offset = -1;
        }
        let id = Uuid::from_bytes(wanted.id);
        match topics.last_mut() {
            Some(last) if last.topic_id == id && (version >= 13 || **last.topic == *wanted.topic) => {
                last.partitions.push(read.data);
            }
            _ => {
                let mut topic = FetchableTopicResponse::default().with_topic_id(id);
                if version < 13 {
                    topic.topic = TopicName(StrBytes::from_string(wanted.topic.to_string()));
                }
                topic.partitions.push(read.data);
                topics.push(topic);
            }
        }
    }
    topics
}
