//! ListOffsets 1–11 and OffsetForLeaderEpoch 2–4.

use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    ResponseKind,
};

use super::Cluster;
use super::dispatch::Forced;
use super::fetch::check_epoch;
use super::topics::Partition;
use crate::error_code::ErrorCode;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
/// Latest tiered and earliest pending upload: there is no tiered storage here.
const TIERED: [i64; 2] = [-5, -6];

impl Cluster {
    pub(super) fn handle_list_offsets(
        &self,
        node: i32,
        version: i16,
        forced: &Forced,
        request: &ListOffsetsRequest,
    ) -> ResponseKind {
        let mut response = ListOffsetsResponse::default();
        for topic in &request.topics {
            let mut answer = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
            for asked in &topic.partitions {
                let mut result = ListOffsetsPartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_timestamp(-1)
                    .with_offset(-1)
                    .with_leader_epoch(-1);
                let found = match forced.get(&topic.name, asked.partition_index) {
                    Some(code) => Err(code),
                    None => self
                        .led_by(node, &topic.name, asked.partition_index, asked.current_leader_epoch)
                        .and_then(|partition| {
                            let read_committed = request.isolation_level == 1;
                            lookup(partition, version, asked.timestamp, read_committed)
                        }),
                };
                match found {
                    Ok((timestamp, offset, epoch)) => {
                        result.timestamp = timestamp;
                        result.offset = offset;
                        if version >= 4 {
                            result.leader_epoch = epoch;
                        }
                    }
                    Err(code) => result.error_code = code.0,
                }
                answer.partitions.push(result);
            }
            response.topics.push(answer);
        }
        response.into()
    }

    /// The partition, if this node leads it and the epoch is the present one.
    fn led_by(&self, node: i32, topic: &str, index: i32, epoch: i32) -> Result<&Partition, ErrorCode> {
        let partition = self.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        check_epoch(partition, epoch)?;
        if partition.leader == Some(node) { Ok(partition) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
    }

    pub(super) fn handle_offset_for_leader_epoch(
        &self,
        node: i32,
        forced: &Forced,
        request: &OffsetForLeaderEpochRequest,
    ) -> ResponseKind {
        let mut response = OffsetForLeaderEpochResponse::default();
        for topic in &request.topics {
            let mut answer = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
            for asked in &topic.partitions {
                let mut result = EpochEndOffset::default()
                    .with_partition(asked.partition)
                    .with_leader_epoch(-1)
                    .with_end_offset(-1);
                let found = match forced.get(&topic.topic, asked.partition) {
                    Some(code) => Err(code),
                    None => self.led_by(node, &topic.topic, asked.partition, asked.current_leader_epoch),
                };
                match found {
                    Ok(partition) => {
                        let (epoch, end) =
                            partition.log.end_of_epoch(asked.leader_epoch, partition.leader_epoch);
                        result.leader_epoch = epoch;
                        result.end_offset = end;
                    }
                    Err(code) => result.error_code = code.0,
                }
                answer.partitions.push(result);
            }
            response.topics.push(answer);
        }
        response.into()
    }
}

/// Timestamp, offset and leader epoch for one asked timestamp.
fn lookup(
    partition: &Partition,
    version: i16,
    timestamp: i64,
    read_committed: bool,
) -> Result<(i64, i64, i32), ErrorCode> {
    let log = &partition.log;
    let end = if read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
    match timestamp {
        LATEST => Ok((-1, end, partition.leader_epoch)),
        EARLIEST => Ok((-1, log.start(), log.epoch_at(log.start()))),
        EARLIEST_LOCAL if version >= 8 => Ok((-1, log.start(), log.epoch_at(log.start()))),
        MAX_TIMESTAMP if version >= 7 => Ok(log
            .max_timestamp()
            .map_or((-1, -1, -1), |(time, offset)| (time, offset, log.epoch_at(offset)))),
        t if TIERED.contains(&t) => Ok((-1, -1, -1)),
        t if t < 0 => Err(ErrorCode::UNSUPPORTED_VERSION),
        t => Ok(log
            .offset_for_time(t, end)
            .map_or((-1, -1, -1), |(time, offset)| (time, offset, log.epoch_at(offset)))),
    }
}
