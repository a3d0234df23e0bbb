//! OffsetCommit 2–10, OffsetFetch 1–10, OffsetDelete.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::dispatch::Forced;
use super::group::{Commit, Committed, Group, GroupState};
use super::{Cluster, RequestId};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

impl Cluster {
    pub(super) fn handle_offset_commit(
        &mut self,
        now: Timestamp,
        id: RequestId,
        forced: &Forced,
        request: &OffsetCommitRequest,
    ) -> ResponseKind {
        let (node, version) = self.in_flight.get(&id).map_or((-1, 0), |flight| (flight.node, flight.version));
        let refused = forced
            .everywhere()
            .or_else(|| self.check_coordinator(node, &request.group_id).err())
            .or_else(|| self.refuse_commit(now, node, version, request));
        let mut response = OffsetCommitResponse::default();
        for topic in &request.topics {
            let mut answer = OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id);
            let name = self.name_or_id(version, &topic.name, topic.topic_id);
            for asked in &topic.partitions {
                let committed = Committed {
                    offset: asked.committed_offset,
                    leader_epoch: asked.committed_leader_epoch,
                    metadata: asked.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                let code = match (refused, &name) {
                    (Some(code), _) => code,
                    (None, None) => ErrorCode::UNKNOWN_TOPIC_ID,
                    (None, Some(name)) => match forced.get(name, asked.partition_index) {
                        Some(code) => code,
                        None => self.commit(now, request, name, asked.partition_index, committed),
                    },
                };
                answer.partitions.push(
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(asked.partition_index)
                        .with_error_code(code.0),
                );
            }
            response.topics.push(answer);
        }
        response.into()
    }

    /// The topic's name; none for an id that no topic has.
    fn name_or_id(&self, version: i16, name: &TopicName, id: Uuid) -> Option<String> {
        if version >= 10 {
            self.topics.name_of(id.as_bytes()).map(str::to_owned)
        } else {
            Some(name.to_string())
        }
    }

    fn refuse_commit(
        &mut self,
        now: Timestamp,
        node: i32,
        version: i16,
        request: &OffsetCommitRequest,
    ) -> Option<ErrorCode> {
        let generation = request.generation_id_or_member_epoch;
        if !self.groups.contains_key(request.group_id.as_str()) {
            if generation >= 0 {
                // The text of the error became precise with KIP-848.
                let new = version >= 9;
                return Some(if new { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION });
            }
            // Somebody who only stores offsets.
            self.ensure_group(node, &request.group_id);
        }
        self.with_group(now, &request.group_id, |group| {
            if let Some(consumer) = group.consumer() {
                return consumer.check_commit(version, &request.member_id, generation);
            }
            let instance = request.group_instance_id.as_deref();
            group.validate_commit(now, &request.member_id, instance, generation)
        })?
        .err()
    }

    fn commit(
        &mut self,
        now: Timestamp,
        request: &OffsetCommitRequest,
        topic: &str,
        partition: i32,
        committed: Committed,
    ) -> ErrorCode {
        if self.topics.partition(topic, partition).is_none() {
            return ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        }
        if committed.metadata.len() > self.config.max_offset_metadata {
            return ErrorCode::OFFSET_METADATA_TOO_LARGE;
        }
        let part = self.topics.get(topic).map(|t| (t.id, partition));
        if let Some(consumer) = self.groups.get(request.group_id.as_str()).and_then(Group::consumer)
            && let Err(code) =
                consumer.check_partition(&request.member_id, request.generation_id_or_member_epoch, part)
        {
            return code;
        }
        if let Some(group) = self.groups.get_mut(request.group_id.as_str()) {
            group.offsets.set(topic, partition, committed.clone());
        }
        self.commits.push(Commit {
            at: now.since_start(),
            group: request.group_id.to_string(),
            member_id: request.member_id.to_string(),
            generation: request.generation_id_or_member_epoch,
            topic: topic.to_owned(),
            partition,
            committed,
        });
        ErrorCode::NONE
    }

    pub(super) fn handle_offset_fetch(
        &self,
        node: i32,
        version: i16,
        forced: &Forced,
        request: &OffsetFetchRequest,
    ) -> ResponseKind {
        let mut response = OffsetFetchResponse::default();
        if version < 8 {
            let refused =
                forced.everywhere().or_else(|| self.check_coordinator(node, &request.group_id).err());
            let asked = request.topics.as_ref().map(|topics| {
                topics
                    .iter()
                    .map(|t| (Some(t.name.to_string()), Uuid::nil(), t.partition_indexes.clone()))
                    .collect()
            });
            // Version 1 has no error at the top: every partition carries it.
            let per_partition = refused.filter(|_| version < 2);
            response.error_code = refused.filter(|_| version >= 2).map_or(0, |code| code.0);
            if refused.is_some() && version >= 2 {
                return response.into();
            }
            for (name, _, partitions) in self.fetch_offsets(&request.group_id, asked) {
                let name = name.unwrap_or_default();
                let mut topic = OffsetFetchResponseTopic::default()
                    .with_name(TopicName(StrBytes::from_string(name.clone())));
                for (index, committed) in partitions {
                    let (offset, epoch, metadata) = wire(committed);
                    let code = per_partition.or_else(|| forced.get(&name, index));
                    topic.partitions.push(
                        OffsetFetchResponsePartition::default()
                            .with_partition_index(index)
                            .with_committed_offset(if code.is_some() { -1 } else { offset })
                            .with_committed_leader_epoch(if version >= 5 { epoch } else { -1 })
                            .with_metadata(Some(metadata))
                            .with_error_code(code.map_or(0, |code| code.0)),
                    );
                }
                response.topics.push(topic);
            }
            return response.into();
        }
        for group in &request.groups {
            let mut answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
            let consumer = self.groups.get(group.group_id.as_str()).and_then(Group::consumer);
            let identity = || consumer?.check_fetch(group.member_id.as_deref(), group.member_epoch).err();
            let refused = forced.everywhere().or_else(|| self.check_coordinator(node, &group.group_id).err());
            if let Some(code) = refused.or_else(identity) {
                response.groups.push(answer.with_error_code(code.0));
                continue;
            }
            let asked = group.topics.as_ref().map(|topics| {
                topics
                    .iter()
                    .map(|t| {
                        (
                            self.name_or_id(version, &t.name, t.topic_id),
                            t.topic_id,
                            t.partition_indexes.clone(),
                        )
                    })
                    .collect()
            });
            for (name, id, partitions) in self.fetch_offsets(&group.group_id, asked) {
                let mut topic = OffsetFetchResponseTopics::default();
                if version >= 10 {
                    topic.topic_id = id;
                } else {
                    topic.name = TopicName(StrBytes::from_string(name.clone().unwrap_or_default()));
                }
                for (index, committed) in partitions {
                    let (offset, epoch, metadata) = wire(committed);
                    let code = match &name {
                        None => Some(ErrorCode::UNKNOWN_TOPIC_ID),
                        Some(name) => forced.get(name, index),
                    };
                    topic.partitions.push(
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(index)
                            .with_committed_offset(if code.is_some() { -1 } else { offset })
                            .with_committed_leader_epoch(epoch)
                            .with_metadata(Some(metadata))
                            .with_error_code(code.map_or(0, |code| code.0)),
                    );
                }
                answer.topics.push(topic);
            }
            response.groups.push(answer);
        }
        response.into()
    }

    /// The offsets of the asked partitions (none: of all that have one).
    fn fetch_offsets(&self, group: &str, asked: Option<Vec<Asked>>) -> Vec<Found> {
        let offsets = self.groups.get(group).map(|group| &group.offsets);
        match asked {
            None => offsets
                .into_iter()
                .flat_map(|offsets| offsets.iter())
                .map(|(name, partitions)| {
                    let id = self.topics.get(name).map_or(Uuid::nil(), |t| Uuid::from_bytes(t.id));
                    let found = partitions.iter().map(|(index, c)| (*index, Some(c.clone()))).collect();
                    (Some(name.to_owned()), id, found)
                })
                .collect(),
            Some(topics) => topics
                .into_iter()
                .map(|(name, id, partitions)| {
                    let found = partitions
                        .into_iter()
                        .map(|index| {
                            let committed =
                                name.as_deref().and_then(|name| offsets?.get(name, index)).cloned();
                            (index, committed)
                        })
                        .collect();
                    (name, id, found)
                })
                .collect(),
        }
    }

    pub(super) fn handle_offset_delete(
        &mut self,
        node: i32,
        forced: &Forced,
        request: &OffsetDeleteRequest,
    ) -> ResponseKind {
        let mut response = OffsetDeleteResponse::default();
        let refused = forced
            .everywhere()
            .or_else(|| self.check_coordinator(node, &request.group_id).err())
            .or_else(|| {
                (!self.groups.contains_key(request.group_id.as_str()))
                    .then_some(ErrorCode::GROUP_ID_NOT_FOUND)
            });
        let Some(group) = self.groups.get_mut(request.group_id.as_str()).filter(|_| refused.is_none()) else {
            response.error_code = refused.map_or(0, |code| code.0);
            return response.into();
        };
        // Without looking into the subscriptions, offsets of a group with members count as in use.
        let in_use = group.state != GroupState::Empty;
        let mut topics: BTreeMap<String, OffsetDeleteResponseTopic> = BTreeMap::new();
        for topic in &request.topics {
            let answer = topics
                .entry(topic.name.to_string())
                .or_insert_with(|| OffsetDeleteResponseTopic::default().with_name(topic.name.clone()));
            for asked in &topic.partitions {
                let code = match forced.get(&topic.name, asked.partition_index) {
                    Some(code) => code,
                    None if in_use => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                    None => {
                        group.offsets.remove(&topic.name, asked.partition_index);
                        ErrorCode::NONE
                    }
                };
                answer.partitions.push(
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(asked.partition_index)
                        .with_error_code(code.0),
                );
            }
        }
        response.topics = topics.into_values().collect();
        response.into()
    }
}

/// Name (none for an unknown id), id, partitions.
type Asked = (Option<String>, Uuid, Vec<i32>);
type Found = (Option<String>, Uuid, Vec<(i32, Option<Committed>)>);

fn wire(committed: Option<Committed>) -> (i64, i32, StrBytes) {
    match committed {
        Some(c) => (c.offset, c.leader_epoch, StrBytes::from_string(c.metadata)),
        None => (-1, -1, StrBytes::new()),
    }
}
