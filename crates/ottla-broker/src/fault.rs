//! The fault script: what goes wrong, for which requests, how often.

use std::time::Duration;

use bytes::Bytes;

use crate::api::Api;
use crate::error_code::ErrorCode;
use crate::observe::Observed;

/// One line of the fault script: for the next requests that match, do this.
///
/// Conditions narrow the match (`node`, `group`, `partition` …), `skip` and `times` say which of the matching
/// requests are hit (default: the next one), and an action says what happens to them. `delay` and `throttle` go
/// together with every other action; of the others the last one counts. Faults are tried in the order in which they
/// were added; a request is hit by the first one that matches and is not used up.
///
/// ```
/// use ottla_broker::{Api, ErrorCode, Fault};
/// use std::time::Duration;
///
/// let fault = Fault::on(Api::OffsetCommit).group("billing").times(3).error(ErrorCode::NOT_COORDINATOR);
/// let slow = Fault::on(Api::Fetch).node(2).always().delay(Duration::from_millis(300));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing until it is given to the broker"]
pub struct Fault {
    api: Option<Api>,
    node: Option<i32>,
    connection: Option<u64>,
    client_id: Option<String>,
    group: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    skip: u32,
    times: Option<u32>,
    plan: Plan,
}

/// What a fault does to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Option<Duration>,
    pub(crate) throttle: Option<Duration>,
    pub(crate) unprocessed: bool,
    pub(crate) error: Option<ErrorCode>,
    /// Set when the error is for some partitions only.
    pub(crate) scope: Option<(String, Option<i32>)>,
    pub(crate) end: End,
}

/// How the answer leaves the broker.
#[derive(Debug, Clone, Default)]
pub(crate) enum End {
    #[default]
    Answer,
    Drop,
    Close,
    CloseAfter(usize),
    RawBytes(Bytes),
    RawBody(Bytes),
    Corrupt(Corruption),
}

/// A way to spoil an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// Inverts the byte at this position of the answer, counted after the length prefix; a position beyond the end
    /// wraps around.
    FlipByte(usize),
    /// The answer carries the next correlation id.
    CorrelationId,
    /// The frame announces this length instead of its own.
    FrameLength(i32),
    /// Inverts a byte of the checksum of the first record batch of a Fetch answer. A Fetch answer without records
    /// goes out unharmed and does not count as hit.
    BatchCrc,
    /// Inverts the last byte of the records of a Fetch answer, so that the checksum of the last batch is wrong. As
    /// with `BatchCrc`, only answers with records are hit.
    LastRecordByte,
}

impl Corruption {
    pub(crate) fn needs_records(self) -> bool {
        matches!(self, Self::BatchCrc | Self::LastRecordByte)
    }
}

impl Fault {
    /// A fault for requests of one API.
    pub fn on(api: Api) -> Self {
        Self { api: Some(api), ..Self::any() }
    }

    /// A fault for requests of every API.
    pub fn any() -> Self {
        Self {
            api: None,
            node: None,
            connection: None,
            client_id: None,
            group: None,
            topic: None,
            partition: None,
            skip: 0,
            times: Some(1),
            plan: Plan::default(),
        }
    }

    /// Only requests to this node.
    pub fn node(mut self, node: i32) -> Self {
        self.node = Some(node);
        self
    }

    /// Only requests on this connection (see [`Observed::connection`]).
    pub fn connection(mut self, connection: u64) -> Self {
        self.connection = Some(connection);
        self
    }

    /// Only requests of clients with this client id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only requests that name this group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only requests that name this topic; an error is then given for this topic only.
    ///
    /// An incremental Fetch names only what changed: the partitions of its session count as named.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only requests that name this partition; an error is then given for this partition only.
    pub fn partition(mut self, topic: impl Into<String>, partition: i32) -> Self {
        self.topic = Some(topic.into());
        self.partition = Some(partition);
        self
    }

    /// Lets the first `count` matching requests pass.
    pub fn skip(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    /// Hits this many requests (default 1).
    pub fn times(mut self, count: u32) -> Self {
        self.times = Some(count);
        self
    }

    /// Hits every matching request until the fault is cancelled.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Answers with this error and does nothing else.
    ///
    /// Requests over partitions get it for every partition (or for those of [`partition`](Self::partition) and
    /// [`topic`](Self::topic) alone, the others are served), the others at the top. Fetch gets session errors
    /// (70, 71, 106) and UNKNOWN_SERVER_ERROR at the top, OffsetFetch without a partition gets every error for the
    /// group.
    pub fn error(mut self, code: ErrorCode) -> Self {
        self.plan.error = Some(code);
        self.plan.end = End::Answer;
        self
    }

    /// Holds the answer back for this long. With [`before_processing`](Self::before_processing) the request is
    /// processed only then.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.plan.delay = Some(delay);
        self
    }

    /// Answers with this throttle time and reads nothing more from the connection for as long (KIP-219).
    pub fn throttle(mut self, throttle: Duration) -> Self {
        self.plan.throttle = Some(throttle);
        self
    }

    /// Processes the request and never answers it; the connection stays open and hangs.
    pub fn drop_response(mut self) -> Self {
        self.plan.end = End::Drop;
        self
    }

    /// Processes the request and closes the connection instead of answering.
    pub fn close_connection(mut self) -> Self {
        self.plan.end = End::Close;
        self
    }

    /// Processes the request and closes the connection after this many bytes of the answer (the length prefix
    /// included).
    pub fn close_mid_frame(mut self, bytes: usize) -> Self {
        self.plan.end = End::CloseAfter(bytes);
        self
    }

    /// Processes the request and spoils the answer.
    pub fn corrupt(mut self, corruption: Corruption) -> Self {
        self.plan.end = End::Corrupt(corruption);
        self
    }

    /// Processes the request and answers with these bytes as they are: length prefix, header and all are yours.
    pub fn respond_raw(mut self, bytes: impl Into<Bytes>) -> Self {
        self.plan.end = End::RawBytes(bytes.into());
        self
    }

    /// Processes the request and answers with this body behind a correct length prefix and header.
    pub fn respond_body(mut self, body: impl Into<Bytes>) -> Self {
        self.plan.end = End::RawBody(body.into());
        self
    }

    /// The request leaves no trace: with `close_connection`, `drop_response`, `close_mid_frame` and the raw answers
    /// it is not processed at all; with `delay` alone it is processed after the delay.
    pub fn before_processing(mut self) -> Self {
        self.plan.unprocessed = true;
        self
    }

    /// The plan as the processing of a request needs it.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = self.plan.clone();
        plan.scope = self.topic.clone().map(|topic| (topic, self.partition));
        plan
    }

    /// `in_session`: whether the fetch session of the request holds this topic (and partition).
    fn matches(&self, request: &Observed, in_session: &dyn Fn(&str, Option<i32>) -> bool) -> bool {
        let same =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|w| found == Some(w));
        self.api.is_none_or(|api| api == request.api)
            && self.node.is_none_or(|node| node == request.node)
            && self.connection.is_none_or(|connection| connection == request.connection)
            && same(&self.client_id, request.client_id.as_deref())
            && self.group.as_ref().is_none_or(|group| request.groups.contains(group))
            && self.topic.as_ref().is_none_or(|topic| {
                request.partitions.iter().any(|named| {
                    named.topic == *topic
                        && self.partition.is_none_or(|p| named.partition.is_none_or(|n| n == p))
                }) || in_session(topic, self.partition)
            })
    }
}

/// A fault in the script and how often it hit.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) fault: Fault,
    pub(crate) seen: u32,
    pub(crate) fired: u32,
    pub(crate) cancelled: bool,
}

/// The script.
#[derive(Debug, Default)]
pub(crate) struct Script {
    entries: Vec<Entry>,
}

impl Script {
    pub(crate) fn add(&mut self, fault: Fault) -> usize {
        self.entries.push(Entry { fault, seen: 0, fired: 0, cancelled: false });
        self.entries.len() - 1
    }

    pub(crate) fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(crate) fn cancel(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.cancelled = true;
        }
    }

    pub(crate) fn cancel_all(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.cancelled = true);
    }

    /// The plan for this request, if a fault hits it. Counts the hit.
    pub(crate) fn take(
        &mut self,
        request: &Observed,
        in_session: &dyn Fn(&str, Option<i32>) -> bool,
    ) -> Option<(usize, Plan)> {
        self.entries.iter_mut().enumerate().find_map(|(index, entry)| {
            let used_up = entry.fault.times.is_some_and(|times| entry.fired >= times);
            if entry.cancelled || used_up || !entry.fault.matches(request, in_session) {
                return None;
            }
            entry.seen += 1;
            if entry.seen <= entry.fault.skip {
                return None;
            }
            entry.fired += 1;
            Some((index, entry.fault.plan()))
        })
    }

    /// The hit counted by [`take`](Self::take) did not come about after all.
    pub(crate) fn give_back(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.fired = entry.fired.saturating_sub(1);
        }
    }

    /// Faults with a number of times that have not been hit as often.
    pub(crate) fn unfired(&self) -> impl Iterator<Item = &Fault> {
        self.entries
            .iter()
            .filter(|e| !e.cancelled && e.fault.times.is_some_and(|times| e.fired < times))
            .map(|e| &e.fault)
    }
}
