//! Connections: framing, order, muting, and the way of one request from frame to answer.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsResponse, RequestKind, ResponseKind};

use super::{Cluster, ConnectionId, RequestId, Timer};
use crate::api::Api;
use crate::error_code::ErrorCode;
use crate::fault::{Corruption, End, Plan};
use crate::observe::{Observed, first_error};
use crate::time::Timestamp;
use crate::wire::frame;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) node: i32,
    /// Bytes of a frame that has not come in whole.
    partial: BytesMut,
    queue: VecDeque<Bytes>,
    current: Option<RequestId>,
    muted: bool,
}

/// A request in work.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) connection: ConnectionId,
    pub(super) node: i32,
    pub(super) api: Api,
    pub(super) version: i16,
    correlation_id: i32,
    pub(super) client_id: String,
    pub(super) plan: Plan,
    fault: Option<usize>,
    /// The request itself while a fault holds it back.
    waiting: Option<RequestKind>,
    /// The answer while a fault holds it back.
    held: Option<Option<ResponseKind>>,
}

impl Cluster {
    /// A client connected to a node. A node that is down or turns clients away closes the connection at
    /// once.
    pub fn handle_connected(&mut self, _now: Timestamp, node: i32, connection: ConnectionId) {
        if !self.nodes.get(&node).is_some_and(|node| node.up && !node.turns_away) {
            self.closes.push_back(connection);
            return;
        }
        let fresh = Connection {
            node,
            partial: BytesMut::new(),
            queue: VecDeque::new(),
            current: None,
            muted: false,
        };
        self.connections.insert(connection, fresh);
    }

    /// Bytes came in on a connection, cut anywhere. The other way in is [`handle_request`](Self::handle_request).
    pub fn handle_bytes(&mut self, now: Timestamp, connection: ConnectionId, bytes: &[u8]) {
        let Some(conn) = self.connections.get_mut(&connection) else { return };
        conn.partial.extend_from_slice(bytes);
        loop {
            let Some(conn) = self.connections.get_mut(&connection) else { return };
            let Some(prefix) = conn.partial.first_chunk::<4>() else { break };
            match usize::try_from(i32::from_be_bytes(*prefix)) {
                Ok(length) if length <= frame::MAX_FRAME => {
                    if conn.partial.len() < length + 4 {
                        break;
                    }
                    conn.partial.advance(4);
                    let whole = conn.partial.split_to(length).freeze();
                    conn.queue.push_back(whole);
                }
                _ => {
                    tracing::warn!(
                        connection = connection.0,
                        "frame length out of bounds: connection closed"
                    );
                    self.close(connection);
                    return;
                }
            }
        }
        self.ready.push_back(connection);
        self.pump(now);
    }

    /// A whole request came in: the frame without its length prefix.
    pub fn handle_request(&mut self, now: Timestamp, connection: ConnectionId, frame: Bytes) {
        let Some(conn) = self.connections.get_mut(&connection) else { return };
        conn.queue.push_back(frame);
        self.ready.push_back(connection);
        self.pump(now);
    }

    /// How many whole requests of a connection wait behind the one in work.
    pub fn queued(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |conn| conn.queue.len())
    }

    /// A connection is gone. Requests of it that are in work lose their way back but not their effect.
    pub fn handle_closed(&mut self, _now: Timestamp, connection: ConnectionId) {
        self.forget(connection);
    }

    /// Takes up what is queued until every connection is busy or empty.
    pub(super) fn pump(&mut self, now: Timestamp) {
        while let Some(connection) = self.ready.pop_front() {
            let Some(conn) = self.connections.get_mut(&connection) else { continue };
            if conn.current.is_some() || conn.muted {
                continue;
            }
            let Some(frame) = conn.queue.pop_front() else { continue };
            if !conn.queue.is_empty() {
                self.ready.push_back(connection);
            }
            self.take_up(now, connection, frame);
        }
    }

    fn take_up(&mut self, now: Timestamp, connection: ConnectionId, mut rest: Bytes) {
        let Some(node) = self.connections.get(&connection).map(|conn| conn.node) else { return };
        let size = rest.len();
        let header = match frame::read_header(&mut rest) {
            Ok(header) => header,
            Err(why) => return self.refuse(connection, why),
        };
        let Some(api) = Api::from_key(header.key) else {
            return self.refuse(connection, &format!("api key {} is not supported", header.key));
        };
        let mut observed = Observed {
            index: self.next_request,
            at: now.since_start(),
            node,
            connection: connection.0,
            api,
            version: header.version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.clone(),
            size,
            groups: Vec::new(),
            member_id: None,
            group_instance_id: None,
            generation: None,
            reason: None,
            partitions: Vec::new(),
            forgotten: Vec::new(),
            fetch_session: None,
            faulted: false,
            answered_at: None,
            error: None,
        };
        let supported = self.config.versions.supports(api, header.version);
        let request = if supported {
            match frame::read_body(api, header.version, rest) {
                Ok(request) => Some(request),
                Err(why) => return self.refuse(connection, &format!("{api} v{}: {why}", header.version)),
            }
        } else if api == Api::ApiVersions {
            None
        } else {
            return self.refuse(connection, &format!("{api} v{} is not offered", header.version));
        };
        if let Some(request) = &request {
            observed.describe(request, |id| self.topics.name_of(id).unwrap_or_default().to_owned());
        }
        let session = match &request {
            Some(RequestKind::Fetch(r)) => {
                self.nodes.get(&node).and_then(|node| node.sessions.get(r.session_id))
            }
            _ => None,
        };
        let hit = self.script.take(&observed, &|topic, partition| {
            session.is_some_and(|session| session.holds(topic, partition))
        });
        observed.faulted = hit.is_some();
        let id = self.next_request;
        self.next_request += 1;
        self.observed.push_back(observed);
        if self.observed.len() > self.config.max_observed {
            self.observed.pop_front();
        }
        let (fault, plan) = hit.map_or_else(|| (None, Plan::default()), |(index, plan)| (Some(index), plan));
        let flight = InFlight {
            connection,
            node,
            api,
            version: header.version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.unwrap_or_default(),
            plan,
            fault,
            waiting: None,
            held: None,
        };
        if let Some(conn) = self.connections.get_mut(&connection) {
            conn.current = Some(id);
        }
        self.begin(now, id, flight, request);
    }

    fn begin(&mut self, now: Timestamp, id: RequestId, mut flight: InFlight, request: Option<RequestKind>) {
        let unprocessed = flight.plan.unprocessed;
        let answers = matches!(flight.plan.end, End::Answer | End::Corrupt(_));
        let Some(request) = request else {
            // KIP-511: a too new ApiVersions is answered in version 0 with the range of ApiVersions itself.
            flight.version = 0;
            let range = self.config.versions.iter().find(|(api, ..)| *api == Api::ApiVersions);
            self.in_flight.insert(id, flight);
            let mut response =
                ApiVersionsResponse::default().with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
            response.api_keys = range.into_iter().map(api_range).collect();
            return self.finish(now, id, Some(response.into()));
        };
        if unprocessed && answers {
            if let Some(delay) = flight.plan.delay.take() {
                flight.waiting = Some(request);
                self.timers.insert((now + delay, Timer::Process(id)));
                self.in_flight.insert(id, flight);
                return;
            }
        } else if unprocessed {
            self.in_flight.insert(id, flight);
            return self.finish(now, id, None);
        }
        self.in_flight.insert(id, flight);
        self.dispatch(now, id, request);
    }

    pub(super) fn process_delayed(&mut self, now: Timestamp, id: RequestId) {
        if let Some(request) = self.in_flight.get_mut(&id).and_then(|flight| flight.waiting.take()) {
            self.dispatch(now, id, request);
        }
    }

    pub(super) fn release(&mut self, now: Timestamp, id: RequestId) {
        if let Some(response) = self.in_flight.get_mut(&id).and_then(|flight| flight.held.take()) {
            self.emit(now, id, response);
        }
    }

    pub(super) fn unmute(&mut self, connection: ConnectionId) {
        if let Some(conn) = self.connections.get_mut(&connection) {
            conn.muted = false;
            self.ready.push_back(connection);
        }
    }

    /// A request is done. Without a response (Produce with acks 0) nothing is written.
    pub(super) fn finish(&mut self, now: Timestamp, id: RequestId, response: Option<ResponseKind>) {
        let Some(flight) = self.in_flight.get_mut(&id) else { return };
        match flight.plan.delay.take() {
            Some(delay) => {
                flight.held = Some(response);
                self.timers.insert((now + delay, Timer::Release(id)));
            }
            None => self.emit(now, id, response),
        }
    }

    fn emit(&mut self, now: Timestamp, id: RequestId, response: Option<ResponseKind>) {
        let Some(flight) = self.in_flight.remove(&id) else { return };
        let connection = flight.connection;
        let Some(conn) = self.connections.get_mut(&connection) else { return };
        if matches!(flight.plan.end, End::Drop) {
            // Never answered: the connection stays busy for good.
            return;
        }
        conn.current = None;
        if let Some(throttle) = flight.plan.throttle {
            conn.muted = true;
            self.timers.insert((now + throttle, Timer::Unmute(connection)));
        }
        self.ready.push_back(connection);
        let first = self.observed.front().map_or(0, |observed| observed.index);
        let place = id.checked_sub(first).and_then(|place| self.observed.get_mut(place as usize));
        if let Some(observed) = place {
            observed.answered_at = Some(now.since_start());
            observed.error = response.as_ref().and_then(first_error);
        }
        match self.encode(&flight, response) {
            Ok(Some(bytes)) => self.responses.push_back((connection, bytes)),
            Ok(None) => {}
            Err(why) => {
                tracing::error!(connection = connection.0, "{why}: connection closed");
                return self.close(connection);
            }
        }
        if matches!(flight.plan.end, End::Close | End::CloseAfter(_)) {
            self.close(connection);
        }
    }

    fn encode(&mut self, flight: &InFlight, response: Option<ResponseKind>) -> Result<Option<Bytes>, String> {
        let (api, version) = (flight.api, flight.version);
        let mut correlation_id = flight.correlation_id;
        match &flight.plan.end {
            End::Close | End::Drop => return Ok(None),
            End::RawBytes(bytes) => return Ok(Some(bytes.clone())),
            End::RawBody(body) => return frame::write_raw_body(api, version, correlation_id, body).map(Some),
            _ => {}
        }
        let Some(mut response) = response else { return Ok(None) };
        if let Some(throttle) = flight.plan.throttle {
            set_throttle(&mut response, i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX));
        }
        let mut harmless = false;
        if let End::Corrupt(corruption) = flight.plan.end {
            if corruption == Corruption::CorrelationId {
                correlation_id = correlation_id.wrapping_add(1);
            }
            if corruption.needs_records() {
                harmless = !corrupt_records(&mut response, corruption);
            }
        }
        let size = match &response {
            ResponseKind::Fetch(r) => {
                let partitions = r.responses.iter().flat_map(|t| &t.partitions);
                partitions.map(|p| 96 + p.records.as_ref().map_or(0, Bytes::len)).sum::<usize>()
            }
            _ => 1024,
        };
        let bytes = frame::write_response(api, version, correlation_id, &response, size)?;
        Ok(Some(match flight.plan.end {
            End::CloseAfter(count) => bytes.slice(..count.min(bytes.len())),
            End::Corrupt(Corruption::FlipByte(at)) => {
                let mut spoiled = BytesMut::from(&bytes[..]);
                let at = 4 + at % (spoiled.len() - 4);
                spoiled[at] = !spoiled[at];
                spoiled.freeze()
            }
            End::Corrupt(Corruption::FrameLength(length)) => {
                let mut spoiled = BytesMut::from(&bytes[..]);
                spoiled[..4].copy_from_slice(&length.to_be_bytes());
                spoiled.freeze()
            }
            End::Corrupt(_) if harmless => {
                if let Some(fault) = flight.fault {
                    self.script.give_back(fault);
                }
                bytes
            }
            _ => bytes,
        }))
    }

    fn refuse(&mut self, connection: ConnectionId, why: &str) {
        tracing::warn!(connection = connection.0, "{why}: connection closed");
        self.close(connection);
    }

    /// Closes a connection from this side.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.forget(connection);
            self.closes.push_back(connection);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(id) = self.connections.remove(&connection).and_then(|conn| conn.current) {
            self.parked_fetches.remove(&id);
            // A parked JoinGroup stays: Kafka does not notice that its client is gone either.
            if !matches!(self.in_flight.get(&id), Some(flight) if flight.waiting.is_some()) {
                self.in_flight.remove(&id);
            }
        }
    }
}

pub(super) fn api_range((api, min, max): (Api, i16, i16)) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key()).with_min_version(min).with_max_version(max)
}

/// Spoils the records of the first partition that has some. False when none has.
fn corrupt_records(response: &mut ResponseKind, corruption: Corruption) -> bool {
    let ResponseKind::Fetch(fetch) = response else { return false };
    let partitions = fetch.responses.iter_mut().flat_map(|t| &mut t.partitions);
    for records in partitions.filter_map(|p| p.records.as_mut()) {
        let at = match corruption {
            Corruption::BatchCrc => 17,
            _ => records.len().wrapping_sub(1),
        };
        if at < records.len() {
            let mut spoiled = BytesMut::from(&records[..]);
            spoiled[at] = !spoiled[at];
            *records = spoiled.freeze();
            return true;
        }
    }
    false
}

macro_rules! throttle_each {
    ($response:expr, $ms:expr, $($kind:ident)*) => {
        match $response {
            $(ResponseKind::$kind(r) => r.throttle_time_ms = $ms,)*
            _ => {}
        }
    };
}

fn set_throttle(response: &mut ResponseKind, ms: i32) {
    throttle_each!(
        response, ms,
        Produce Fetch ListOffsets Metadata OffsetCommit OffsetFetch FindCoordinator JoinGroup Heartbeat LeaveGroup
        SyncGroup DescribeGroups ListGroups ApiVersions CreateTopics DeleteTopics DeleteRecords InitProducerId
        OffsetForLeaderEpoch CreatePartitions DeleteGroups OffsetDelete DescribeCluster
    );
}
