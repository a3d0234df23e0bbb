//! CreateTopics, CreatePartitions, DeleteTopics, DeleteRecords.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, ResponseKind,
    TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Cluster;
use super::dispatch::Forced;
use super::topics::{MAX_PARTITIONS, is_valid_name};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

impl Cluster {
    /// Makes a topic that does not exist yet; the numbers default to the configuration's.
    pub(super) fn make_topic(
        &mut self,
        name: &str,
        partitions: Option<i32>,
        replication: Option<i16>,
    ) -> Uuid {
        let partitions = partitions.unwrap_or(self.config.num_partitions);
        let replication = replication.unwrap_or(self.config.replication_factor).max(1) as usize;
        let (nodes, up) = (self.node_ids(), self.up_nodes());
        Uuid::from_bytes(self.topics.create(&mut self.rng, name, partitions, replication, &nodes, &up))
    }

    pub(super) fn handle_create_topics(
        &mut self,
        version: i16,
        forced: &Forced,
        request: &CreateTopicsRequest,
    ) -> ResponseKind {
        let mut response = CreateTopicsResponse::default();
        for topic in &request.topics {
            let mut result =
                CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
            // -1 asks for the broker's default since version 4 (KIP-464).
            let partitions = Some(topic.num_partitions).filter(|n| *n != -1);
            let replication = Some(topic.replication_factor).filter(|n| *n != -1);
            let manual = !topic.assignments.is_empty();
            let asked = if manual {
                Some(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))
            } else {
                partitions
            };
            let nodes = self.nodes.len();
            let error = if let Some(code) = forced.topic(&topic.name) {
                Some((code, "injected"))
            } else if !is_valid_name(&topic.name) {
                Some((ErrorCode::INVALID_TOPIC_EXCEPTION, "the topic name is not legal"))
            } else if self.topics.get(&topic.name).is_some() {
                Some((ErrorCode::TOPIC_ALREADY_EXISTS, "the topic exists already"))
            } else if asked.is_some_and(|n| !(1..=MAX_PARTITIONS).contains(&n)) {
                Some((ErrorCode::INVALID_PARTITIONS, "the number of partitions must be from 1 to 20000"))
            } else if !manual && replication.is_some_and(|n| n < 1 || n as usize > nodes) {
                Some((ErrorCode::INVALID_REPLICATION_FACTOR, "more replicas than brokers, or none"))
            } else {
                None
            };
            match error {
                Some((code, text)) => {
                    result.error_code = code.0;
                    result.error_message = Some(StrBytes::from_static_str(text));
                }
                None => {
                    let id = if request.validate_only {
                        Uuid::nil()
                    } else {
                        self.make_topic(&topic.name, asked, replication)
                    };
                    if version >= 5 {
                        result.num_partitions = asked.unwrap_or(self.config.num_partitions);
                        result.replication_factor = replication
                            .unwrap_or(self.config.replication_factor)
                            .min(i16::try_from(nodes).unwrap_or(i16::MAX));
                        result.configs = Some(Vec::new());
                    }
                    if version >= 7 {
                        result.topic_id = id;
                    }
                }
            }
            response.topics.push(result);
        }
        response.into()
    }

    pub(super) fn handle_create_partitions(
        &mut self,
        forced: &Forced,
        request: &CreatePartitionsRequest,
    ) -> ResponseKind {
        let mut response = CreatePartitionsResponse::default();
        for topic in &request.topics {
            let mut result =
                CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
            let present = self.topics.get(&topic.name).map(|t| t.partitions.len() as i32);
            let error = match (forced.topic(&topic.name), present) {
                (Some(code), _) => Some(code),
                (None, None) => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                (None, Some(present)) => {
                    let grows = (present + 1..=MAX_PARTITIONS).contains(&topic.count);
                    (!grows).then_some(ErrorCode::INVALID_PARTITIONS)
                }
            };
            match error {
                Some(code) => result.error_code = code.0,
                None if request.validate_only => {}
                None => {
                    let (nodes, up) = (self.node_ids(), self.up_nodes());
                    self.topics.grow(&topic.name, topic.count, &nodes, &up);
                }
            }
            response.results.push(result);
        }
        response.into()
    }

    pub(super) fn handle_delete_topics(
        &mut self,
        now: Timestamp,
        version: i16,
        forced: &Forced,
        request: &DeleteTopicsRequest,
    ) -> ResponseKind {
        let mut response = DeleteTopicsResponse::default();
        let by_name = request.topic_names.iter().map(|name| (Some(name.to_string()), Uuid::nil()));
        let listed = request.topics.iter().map(|t| (t.name.as_ref().map(|n| n.to_string()), t.topic_id));
        let asked: Vec<(Option<String>, Uuid)> = by_name.chain(listed).collect();
        for (name, id) in asked {
            let known = match &name {
                Some(name) => self.topics.get(name).map(|t| t.name.clone()),
                None => self.topics.name_of(id.as_bytes()).map(str::to_owned),
            };
            let code = match &known {
                Some(known) => forced.topic(known),
                None if name.is_none() => Some(ErrorCode::UNKNOWN_TOPIC_ID),
                None => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            let mut result = DeletableTopicResult::default()
                .with_error_code(code.map_or(0, |code| code.0))
                .with_name(known.clone().or(name).map(|n| TopicName(StrBytes::from_string(n))));
            if version >= 6 {
                result.topic_id = id;
            }
            if let (None, Some(known)) = (code, known) {
                if version >= 6
                    && let Some(topic) = self.topics.get(&known)
                {
                    result.topic_id = Uuid::from_bytes(topic.id);
                }
                self.drop_topic(now, &known);
            }
            response.responses.push(result);
        }
        response.into()
    }

    /// Removes a topic with its records and the offsets that groups committed for it.
    pub(super) fn drop_topic(&mut self, now: Timestamp, name: &str) {
        if self.topics.remove(name).is_some() {
            self.groups.values_mut().for_each(|group| group.offsets.forget_topic(name));
            self.wake_fetches(now, Some(name));
        }
    }

    pub(super) fn handle_delete_records(
        &mut self,
        now: Timestamp,
        node: i32,
        forced: &Forced,
        request: &DeleteRecordsRequest,
    ) -> ResponseKind {
        let mut response = DeleteRecordsResponse::default();
        for topic in &request.topics {
            let mut answer = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
            for asked in &topic.partitions {
                let mut result = DeleteRecordsPartitionResult::default()
                    .with_partition_index(asked.partition_index)
                    .with_low_watermark(-1);
                let partition = self.topics.partition_mut(&topic.name, asked.partition_index);
                let code = match (forced.get(&topic.name, asked.partition_index), partition) {
                    (Some(code), _) => Some(code),
                    (None, None) => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    (None, Some(p)) if p.leader != Some(node) => Some(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                    (None, Some(p)) => {
                        // -1 deletes up to the high watermark.
                        let to = if asked.offset == -1 { p.high_watermark() } else { asked.offset };
                        if to < 0 || to > p.high_watermark() {
                            Some(ErrorCode::OFFSET_OUT_OF_RANGE)
                        } else {
                            p.log.delete_before(to);
                            result.low_watermark = p.log.start();
                            None
                        }
                    }
                };
                result.error_code = code.map_or(0, |code| code.0);
                answer.partitions.push(result);
            }
            self.wake_fetches(now, Some(&topic.name));
            response.topics.push(answer);
        }
        response.into()
    }
}
