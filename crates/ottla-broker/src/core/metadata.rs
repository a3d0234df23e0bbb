//! Metadata 0–13, DescribeCluster, ApiVersions.

use kafka_protocol::messages::api_versions_response::FinalizedFeatureKey;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeClusterResponse, MetadataRequest,
    MetadataResponse, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Cluster;
use super::connection::api_range;
use super::dispatch::Forced;
use super::topics::{Partition, Topic, is_valid_name};
use crate::error_code::ErrorCode;

impl Cluster {
    pub(super) fn handle_metadata(
        &mut self,
        version: i16,
        forced: &Forced,
        request: &MetadataRequest,
    ) -> ResponseKind {
        self.flips += u64::from(self.flapping);
        let aside = if self.flips % 2 == 1 && self.flapping { self.frozen_leaders.take() } else { None };
        let answer = self.metadata(version, forced, request);
        if aside.is_some() {
            self.frozen_leaders = aside;
        }
        answer
    }

    fn metadata(&mut self, version: i16, forced: &Forced, request: &MetadataRequest) -> ResponseKind {
        let mut response = MetadataResponse::default();
        let top = forced.everywhere();
        if version >= 13
            && let Some(code) = top
        {
            return response.with_error_code(code.0).into();
        }
        response.brokers = self
            .nodes
            .iter()
            .filter(|(_, node)| node.up)
            .map(|(id, node)| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(*id))
                    .with_host(StrBytes::from_string(node.host.clone()))
                    .with_port(i32::from(node.port))
                    .with_rack(node.rack.clone().map(StrBytes::from_string).filter(|_| version >= 1))
            })
            .collect();
        if version >= 2 {
            response.cluster_id = Some(StrBytes::from_string(self.cluster_id.clone()));
        }
        response.controller_id = BrokerId(self.up_nodes().first().copied().unwrap_or(-1));
        // Null asks for all topics; in version 0 an empty list does, later it asks for none.
        let all = match &request.topics {
            None => true,
            Some(topics) => version == 0 && topics.is_empty(),
        };
        if all {
            response.topics = self.topics.iter().map(|topic| self.describe(topic, version, forced)).collect();
            return response.into();
        }
        let create = self.config.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
        for asked in request.topics.iter().flatten() {
            let id = *asked.topic_id.as_bytes();
            let by_id = version >= 12 && id != [0; 16] && asked.name.is_none();
            let name = match (&asked.name, by_id) {
                (_, true) => self.topics.name_of(&id).map(str::to_owned),
                (Some(name), _) => Some(name.to_string()),
                (None, _) => None,
            };
            let answer = match name.as_deref().and_then(|name| self.topics.get(name)) {
                Some(topic) => self.describe(topic, version, forced),
                None if by_id => {
                    let answer = MetadataResponseTopic::default().with_topic_id(Uuid::from_bytes(id));
                    answer.with_name(None).with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
                }
                None => {
                    let name = name.unwrap_or_default();
                    let code = match forced.topic(&name) {
                        Some(code) => code,
                        None if !is_valid_name(&name) => ErrorCode::INVALID_TOPIC_EXCEPTION,
                        None => {
                            // As with KRaft: the topic is being made, this answer does not know it yet.
                            if create {
                                self.make_topic(&name, None, None);
                            }
                            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                        }
                    };
                    MetadataResponseTopic::default()
                        .with_name(Some(TopicName(StrBytes::from_string(name))))
                        .with_error_code(code.0)
                }
            };
            response.topics.push(answer);
        }
        response.into()
    }

    fn describe(&self, topic: &Topic, version: i16, forced: &Forced) -> MetadataResponseTopic {
        let mut answer = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))));
        if version >= 10 {
            answer.topic_id = Uuid::from_bytes(topic.id);
        }
        if let Some(code) = forced.topic(&topic.name) {
            return answer.with_error_code(code.0);
        }
        answer.partitions = topic
            .partitions
            .iter()
            .enumerate()
            .map(|(index, partition)| {
                let mut described = self.describe_partition(&topic.name, index as i32, partition, version);
                if let Some(code) = forced.get(&topic.name, index as i32) {
                    described.error_code = code.0;
                }
                described
            })
            .collect();
        answer
    }

    fn describe_partition(
        &self,
        topic: &str,
        index: i32,
        partition: &Partition,
        version: i16,
    ) -> MetadataResponsePartition {
        let ids = |list: &[i32]| list.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let up = self.up_nodes();
        let frozen =
            self.frozen_leaders.as_ref().and_then(|all| all.get(&(topic.to_owned(), index)).copied());
        let (leader, leader_epoch) = frozen.unwrap_or((partition.leader, partition.leader_epoch));
        let mut described = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader.unwrap_or(-1)))
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr));
        if version >= 7 {
            described.leader_epoch = leader_epoch;
        }
        if version >= 5 {
            let offline: Vec<i32> = partition.replicas.iter().copied().filter(|r| !up.contains(r)).collect();
            described.offline_replicas = ids(&offline);
        }
        if leader.is_none() {
            described.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0;
        }
        described
    }

    pub(super) fn handle_describe_cluster(&self, version: i16, forced: Option<ErrorCode>) -> ResponseKind {
        let mut response = DescribeClusterResponse::default()
            .with_cluster_id(StrBytes::from_string(self.cluster_id.clone()))
            .with_controller_id(BrokerId(self.up_nodes().first().copied().unwrap_or(-1)));
        if version >= 1 {
            response.endpoint_type = 1;
        }
        match forced {
            Some(code) => response.error_code = code.0,
            None => {
                response.brokers = self
                    .nodes
                    .iter()
                    .filter(|(_, node)| node.up)
                    .map(|(id, node)| {
                        DescribeClusterBroker::default()
                            .with_broker_id(BrokerId(*id))
                            .with_host(StrBytes::from_string(node.host.clone()))
                            .with_port(i32::from(node.port))
                            .with_rack(node.rack.clone().map(StrBytes::from_string))
                    })
                    .collect();
            }
        }
        response.into()
    }

    pub(super) fn handle_api_versions(
        &self,
        version: i16,
        forced: Option<ErrorCode>,
        request: &ApiVersionsRequest,
    ) -> ResponseKind {
        let mut response = ApiVersionsResponse::default();
        // KIP-511: name and version of the client software have a syntax.
        let valid = version < 3
            || (is_software_name(&request.client_software_name)
                && is_software_name(&request.client_software_version));
        match forced.or_else(|| (!valid).then_some(ErrorCode::INVALID_REQUEST)) {
            Some(code) => response.error_code = code.0,
            None => {
                response.api_keys = self.config.versions.iter().map(api_range).collect();
                if version >= 3 && self.has_consumer_groups() {
                    response.finalized_features_epoch = 1;
                    response.finalized_features = vec![group_version()];
                }
            }
        }
        response.into()
    }
}

/// The feature that says that consumer groups (KIP-848) are on.
fn group_version() -> FinalizedFeatureKey {
    FinalizedFeatureKey::default()
        .with_name(StrBytes::from_static_str("group.version"))
        .with_max_version_level(1)
        .with_min_version_level(1)
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            plain(*first) && plain(*last) && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'.'))
        }
        _ => false,
    }
}
