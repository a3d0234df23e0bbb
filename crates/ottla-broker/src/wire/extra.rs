//! Versions that kafka-protocol 0.18 lacks and real clusters use: OffsetCommit 10, OffsetFetch 10 (topic ids instead
//! of names) and ListOffsets 11 (the layout of 10). Kafka's layouts, written out by hand. The guard has walked the
//! body before, so a short read cannot happen; it would still only give an error.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

type Decoded<T> = Result<T, &'static str>;

const SHORT: &str = "the request is too short";

/// OffsetCommit 10: as 9, with a topic id in the place of the name.
pub(crate) fn offset_commit_v10(body: &mut Bytes) -> Decoded<OffsetCommitRequest> {
    let mut request = OffsetCommitRequest::default();
    request.group_id = GroupId(string(body)?.unwrap_or_default());
    request.generation_id_or_member_epoch = body.try_get_i32().map_err(|_| SHORT)?;
    request.member_id = string(body)?.unwrap_or_default();
    request.group_instance_id = string(body)?;
    for _ in 0..count(body)?.unwrap_or(0) {
        let mut topic = OffsetCommitRequestTopic::default();
        topic.topic_id = id(body)?;
        for _ in 0..count(body)?.unwrap_or(0) {
            let mut partition = OffsetCommitRequestPartition::default();
            partition.partition_index = body.try_get_i32().map_err(|_| SHORT)?;
            partition.committed_offset = body.try_get_i64().map_err(|_| SHORT)?;
            partition.committed_leader_epoch = body.try_get_i32().map_err(|_| SHORT)?;
            partition.committed_metadata = string(body)?;
            skip_tags(body)?;
            topic.partitions.push(partition);
        }
        skip_tags(body)?;
        request.topics.push(topic);
    }
    skip_tags(body)?;
    Ok(request)
}

/// OffsetFetch 10: as 9, with a topic id in the place of the name.
pub(crate) fn offset_fetch_v10(body: &mut Bytes) -> Decoded<OffsetFetchRequest> {
    let mut request = OffsetFetchRequest::default();
    for _ in 0..count(body)?.unwrap_or(0) {
        let mut group = OffsetFetchRequestGroup::default();
        group.group_id = GroupId(string(body)?.unwrap_or_default());
        group.member_id = string(body)?;
        group.member_epoch = body.try_get_i32().map_err(|_| SHORT)?;
        group.topics = match count(body)? {
            None => None,
            Some(topics) => {
                let mut list = Vec::new();
                for _ in 0..topics {
                    let mut topic = OffsetFetchRequestTopics::default();
                    topic.topic_id = id(body)?;
                    for _ in 0..count(body)?.unwrap_or(0) {
                        topic.partition_indexes.push(body.try_get_i32().map_err(|_| SHORT)?);
                    }
                    skip_tags(body)?;
                    list.push(topic);
                }
                Some(list)
            }
        };
        skip_tags(body)?;
        request.groups.push(group);
    }
    request.require_stable = body.try_get_u8().map_err(|_| SHORT)? != 0;
    skip_tags(body)?;
    Ok(request)
}

fn uvarint(body: &mut Bytes) -> Decoded<u32> {
    let mut value = 0_u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = body.try_get_u8().map_err(|_| SHORT)?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("an unterminated varint")
}

fn count(body: &mut Bytes) -> Decoded<Option<u32>> {
    Ok(uvarint(body)?.checked_sub(1))
}

fn string(body: &mut Bytes) -> Decoded<Option<StrBytes>> {
    let Some(length) = count(body)? else { return Ok(None) };
    if length as usize > body.len() {
        return Err(SHORT);
    }
    StrBytes::from_utf8(body.split_to(length as usize)).map(Some).map_err(|_| "a string is not utf-8")
}

fn id(body: &mut Bytes) -> Decoded<Uuid> {
    let mut bytes = [0; 16];
    body.try_copy_to_slice(&mut bytes).map_err(|_| SHORT)?;
    Ok(Uuid::from_bytes(bytes))
}

fn skip_tags(body: &mut Bytes) -> Decoded<()> {
    for _ in 0..uvarint(body)? {
        uvarint(body)?;
        let size = uvarint(body)? as usize;
        if size > body.len() {
            return Err(SHORT);
        }
        body.advance(size);
    }
    Ok(())
}
