//! Produce 3–13. Batches are opaque: header and checksum are checked, whatever the codec.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    BrokerId, InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;

use super::batch::{self, BatchError};
use super::log::Sequence;
use super::{Cluster, RequestId};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

const ZSTD: i16 = 4;

impl Cluster {
    pub(super) fn handle_produce(
        &mut self,
        now: Timestamp,
        id: RequestId,
        request: ProduceRequest,
    ) -> Option<ResponseKind> {
        let flight = self.in_flight.get(&id)?;
        let (node, version) = (flight.node, flight.version);
        let forced = flight.forced();
        // Transactional records without a transactional id: nobody could be authorized for that.
        let anonymous = request.transactional_id.is_none() && has_transactional_records(&request);
        let mut response = ProduceResponse::default();
        let mut changed = BTreeSet::new();
        let mut leaders = BTreeSet::new();
        for topic in request.topic_data {
            let mut answer =
                TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
            let name = if version >= 13 {
                self.topics.name_of(topic.topic_id.as_bytes()).map(str::to_owned)
            } else {
                Some(topic.name.to_string())
            };
            for data in topic.partition_data {
                let mut result = PartitionProduceResponse::default()
                    .with_index(data.index)
                    .with_base_offset(-1)
                    .with_log_append_time_ms(-1)
                    .with_log_start_offset(-1);
                let outcome = match (&name, forced.get(name.as_deref().unwrap_or_default(), data.index)) {
                    (_, Some(code)) => Err(code),
                    _ if anonymous => Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
                    _ if !matches!(request.acks, -1..=1) => Err(ErrorCode::INVALID_REQUIRED_ACKS),
                    (None, _) => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                    (Some(name), _) => self.append(node, version, name, data.index, data.records),
                };
                match outcome {
                    Ok((base, log_start)) => {
                        result.base_offset = base;
                        result.log_start_offset = if version >= 5 { log_start } else { -1 };
                        changed.extend(name.clone());
                    }
                    Err(code) => {
                        result.error_code = code.0;
                        let partition = name.as_deref().and_then(|n| self.topics.partition(n, data.index));
                        if version >= 10
                            && code == ErrorCode::NOT_LEADER_OR_FOLLOWER
                            && let Some(partition) = partition
                        {
                            let leader = partition.leader.unwrap_or(-1);
                            leaders.insert(leader);
                            result.current_leader = LeaderIdAndEpoch::default()
                                .with_leader_id(BrokerId(leader))
                                .with_leader_epoch(partition.leader_epoch);
                        }
                    }
                }
                answer.partition_responses.push(result);
            }
            response.responses.push(answer);
        }
        response.node_endpoints = leaders
            .into_iter()
            .filter_map(|id| {
                let node = self.nodes.get(&id)?;
                Some(
                    NodeEndpoint::default()
                        .with_node_id(BrokerId(id))
                        .with_host(StrBytes::from_string(node.host.clone()))
                        .with_port(i32::from(node.port))
                        .with_rack(node.rack.clone().map(StrBytes::from_string)),
                )
            })
            .collect();
        // With acks 0 the client waits for nothing and must get nothing.
        self.finish(now, id, (request.acks != 0).then(|| response.into()));
        for topic in changed {
            self.wake_fetches(now, Some(&topic));
        }
        None
    }

    fn append(
        &mut self,
        node: i32,
        version: i16,
        topic: &str,
        index: i32,
        records: Option<Bytes>,
    ) -> Result<(i64, i64), ErrorCode> {
        let max = self.config.max_message_bytes;
        let partition =
            self.topics.partition_mut(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if partition.leader != Some(node) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let records = records.unwrap_or_default();
        let header = batch::parse(&records).map_err(|error| match error {
            BatchError::Magic(_) => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            BatchError::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
        })?;
        // Since version 3 a partition's data is exactly one batch of consecutive offsets.
        if header.length != records.len()
            || header.count != header.last_offset_delta + 1
            || header.is_control()
        {
            return Err(ErrorCode::INVALID_RECORD);
        }
        if header.codec() == ZSTD && version < 7 {
            return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        }
        if records.len() > max {
            return Err(ErrorCode::MESSAGE_TOO_LARGE);
        }
        match partition.log.check_sequence(&header) {
            Sequence::Next => {}
            Sequence::Duplicate(base) => return Ok((base, partition.log.start())),
            Sequence::OutOfOrder => return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            Sequence::Fenced => return Err(ErrorCode::INVALID_PRODUCER_EPOCH),
        }
        let epoch = partition.leader_epoch;
        Ok((partition.log.append(&header, &records, epoch), partition.log.start()))
    }

    pub(super) fn handle_init_producer_id(
        &mut self,
        forced: Option<ErrorCode>,
        request: &InitProducerIdRequest,
    ) -> ResponseKind {
        let mut response =
            InitProducerIdResponse::default().with_producer_id((-1).into()).with_producer_epoch(-1);
        // Transactions are not offered.
        let refused = request.transactional_id.is_some().then_some(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        match forced.or(refused) {
            Some(code) => response.error_code = code.0,
            None => {
                response.producer_id = self.next_producer_id.into();
                response.producer_epoch = 0;
                self.next_producer_id += 1;
            }
        }
        response.into()
    }
}

fn has_transactional_records(request: &ProduceRequest) -> bool {
    let mut records =
        request.topic_data.iter().flat_map(|t| &t.partition_data).filter_map(|p| p.records.as_ref());
    records.any(|bytes| batch::is_transactional(bytes))
}
