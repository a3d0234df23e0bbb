//! A raw client on kafka-protocol's client side, against the sans-IO cluster (virtual time) or a stream.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod consumers;
pub(crate) mod member;
pub(crate) mod talk;

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    FetchRequest, FetchResponse, GroupId, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use ottla_broker::sim::{Cluster, ClusterConfig, ConnectionId, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A cluster on virtual time.
pub(crate) struct Sim {
    pub(crate) cluster: Cluster,
    pub(crate) now: Timestamp,
    next_connection: u64,
    correlation: i32,
    inbox: BTreeMap<(ConnectionId, i32), Bytes>,
    pub(crate) raw: Vec<(ConnectionId, Bytes)>,
    pub(crate) closed: BTreeSet<ConnectionId>,
}

/// A request on its way.
pub(crate) struct Pending<R> {
    pub(crate) connection: ConnectionId,
    pub(crate) correlation: i32,
    version: i16,
    kind: PhantomData<R>,
}

impl Sim {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        Self {
            cluster: Cluster::new(config),
            now: Timestamp::ZERO,
            next_connection: 1,
            correlation: 0,
            inbox: BTreeMap::new(),
            raw: Vec::new(),
            closed: BTreeSet::new(),
        }
    }

    pub(crate) fn nodes(count: usize) -> Self {
        Self::new(ClusterConfig::with_nodes(count))
    }

    pub(crate) fn with_topic(count: usize, topic: &str, partitions: i32) -> Self {
        let mut sim = Self::nodes(count);
        sim.cluster.create_topic(topic, partitions).unwrap();
        sim
    }

    pub(crate) fn connect(&mut self, node: i32) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.cluster.handle_connected(self.now, node, connection);
        self.drain();
        connection
    }

    pub(crate) fn send<R: Request>(
        &mut self,
        connection: ConnectionId,
        version: i16,
        request: &R,
    ) -> Pending<R> {
        self.send_as(connection, version, request, "tester")
    }

    pub(crate) fn send_as<R: Request>(
        &mut self,
        connection: ConnectionId,
        version: i16,
        request: &R,
        client_id: &str,
    ) -> Pending<R> {
        self.correlation += 1;
        let frame = encode(self.correlation, version, request, client_id);
        self.cluster.handle_request(self.now, connection, frame);
        self.drain();
        Pending { connection, correlation: self.correlation, version, kind: PhantomData }
    }

    /// The answer, if it has come.
    pub(crate) fn take<R: Request>(&mut self, pending: &Pending<R>) -> Option<R::Response> {
        let frame = self.inbox.remove(&(pending.connection, pending.correlation))?;
        Some(decode::<R>(frame, pending.version))
    }

    pub(crate) fn call<R: Request>(
        &mut self,
        connection: ConnectionId,
        version: i16,
        request: &R,
    ) -> R::Response {
        let pending = self.send(connection, version, request);
        self.take(&pending).expect("the request is answered at once")
    }

    pub(crate) fn drain(&mut self) {
        while let Some((connection, mut bytes)) = self.cluster.poll_response() {
            self.raw.push((connection, bytes.clone()));
            if bytes.len() >= 8 && bytes.get_i32() as usize == bytes.len() {
                let correlation = i32::from_be_bytes(bytes[..4].try_into().unwrap());
                self.inbox.insert((connection, correlation), bytes);
            }
        }
        while let Some(connection) = self.cluster.poll_close() {
            self.closed.insert(connection);
        }
    }

    /// Lets time pass, doing what falls due on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(next) = self.cluster.next_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.cluster.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.cluster.handle_timeout(self.now);
        self.drain();
    }

    pub(crate) fn produce(&mut self, topic: &str, partition: i32, records: &[&str]) -> i64 {
        let first = self.cluster.produce(self.now, topic, partition, records.iter().copied()).unwrap();
        self.drain();
        first
    }
}

pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub(crate) fn topic_name(s: &str) -> TopicName {
    TopicName(text(s))
}

pub(crate) fn group_id(s: &str) -> GroupId {
    GroupId(text(s))
}

pub(crate) fn encode<R: Request>(correlation: i32, version: i16, request: &R, client_id: &str) -> Bytes {
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text(client_id)))
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

pub(crate) fn decode<R: Request>(mut frame: Bytes, version: i16) -> R::Response {
    ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
    let response = R::Response::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty(), "bytes left after the answer");
    response
}

/// A Fetch of `(partition, offset)`s of one topic, sessionless unless changed, without waiting.
pub(crate) fn fetch(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|(p, offset)| {
            FetchPartition::default()
                .with_partition(*p)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        })
        .collect();
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(50 << 20)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions)])
}

/// Partition, error, bytes and high watermark of everything in an answer.
pub(crate) fn partitions(response: &FetchResponse) -> Vec<(i32, i16, usize, i64)> {
    response
        .responses
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| {
            (p.partition_index, p.error_code, p.records.as_ref().map_or(0, Bytes::len), p.high_watermark)
        })
        .collect()
}

/// Base offsets of the whole batches in a records field, and how many bytes hang over.
pub(crate) fn batches(mut records: &[u8]) -> (Vec<i64>, usize) {
    let mut bases = Vec::new();
    while records.len() >= 12 {
        let length = i32::from_be_bytes(records[8..12].try_into().unwrap()) as usize + 12;
        if length > records.len() {
            break;
        }
        bases.push(i64::from_be_bytes(records[..8].try_into().unwrap()));
        records = &records[length..];
    }
    (bases, records.len())
}

/// A client on a stream.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    correlation: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, correlation: 0 }
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<i32> {
        self.correlation += 1;
        let frame = encode(self.correlation, version, request, "tester");
        let mut out = BytesMut::new();
        out.put_u32(frame.len() as u32);
        out.put_slice(&frame);
        self.stream.write_all(&out).await?;
        Ok(self.correlation)
    }

    pub(crate) async fn read_frame(&mut self) -> std::io::Result<Bytes> {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }

    pub(crate) async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> std::io::Result<R::Response> {
        let correlation = self.send(version, request).await?;
        let frame = self.read_frame().await?;
        assert_eq!(frame[..4], correlation.to_be_bytes(), "correlation id");
        Ok(decode::<R>(frame, version))
    }
}
