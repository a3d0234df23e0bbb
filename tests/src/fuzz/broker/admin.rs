//! What administrators ask a broker for: one answer for each item, or, if it lies, some of them twice or not at all.

use bytes::BytesMut;
use ottla_wire::{ApiKey, Encode, EncodeError, View};

use super::{Broker, ID, Input, PARTITIONS, TOPIC};
use crate::generated as m;

/// What an administrator may be refused with, and what is no refusal.
pub(super) const REFUSALS: [i16; 12] = [3, 17, 24, 30, 36, 37, 38, 42, 44, 68, 69, 86];

impl Broker {
    /// The answer to a request of an administrator's; `None` for any other request.
    pub(super) fn answer_admin(
        &self,
        api: ApiKey,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> Option<Result<BytesMut, EncodeError>> {
        let mut out = BytesMut::new();
        let encoded = match api {
            ApiKey::CreateTopics => self.create(version, body, code, input).encode(version, &mut out),
            ApiKey::DeleteTopics => self.delete(version, body, code, input).encode(version, &mut out),
            ApiKey::ListGroups => self.list_groups(code, input).encode(version, &mut out),
            ApiKey::DescribeGroups => self.describe(version, body, code, input).encode(version, &mut out),
            ApiKey::ConsumerGroupDescribe => {
                self.describe_consumer(version, body, code, input).encode(version, &mut out)
            }
            ApiKey::DeleteGroups => self.delete_groups(version, body, code, input).encode(version, &mut out),
            ApiKey::OffsetDelete => self.delete_offsets(version, body, code, input).encode(version, &mut out),
            _ => return None,
        };
        Some(encoded.map(|()| out))
    }

    /// How often an item is in the answer.
    fn times(&self, input: &mut Input<'_>) -> usize {
        match input.byte() {
            250.. if !self.honest => 0,
            240.. if !self.honest => 2,
            _ => 1,
        }
    }

    /// What becomes of an item: as the request as a whole, or its own refusal.
    fn item(code: i16, input: &mut Input<'_>) -> i16 {
        if input.byte() > 220 { REFUSALS[input.below(REFUSALS.len())] } else { code }
    }

    fn create(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::create_topics_response::CreateTopicsResponse {
        use m::create_topics_response as r;
        let request = m::create_topics_request::CreateTopicsRequest::decode(version, body).expect("ours");
        let mut topics = Vec::new();
        for topic in request.topics {
            for _ in 0..self.times(input) {
                topics.push(r::CreatableTopicResult {
                    name: topic.name.to_owned(),
                    topic_id: ID,
                    error_code: Self::item(code, input),
                    num_partitions: topic.num_partitions,
                    ..Default::default()
                });
            }
        }
        r::CreateTopicsResponse { topics, ..Default::default() }
    }

    fn delete(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::delete_topics_response::DeleteTopicsResponse {
        use m::delete_topics_response as r;
        let request = m::delete_topics_request::DeleteTopicsRequest::decode(version, body).expect("ours");
        let named = request.topics.into_iter().filter_map(|topic| topic.name);
        let mut responses = Vec::new();
        for name in named.chain(request.topic_names) {
            for _ in 0..self.times(input) {
                responses.push(r::DeletableTopicResult {
                    name: Some(name.to_owned()),
                    error_code: Self::item(code, input),
                    ..Default::default()
                });
            }
        }
        r::DeleteTopicsResponse { responses, ..Default::default() }
    }

    fn list_groups(
        &self,
        error_code: i16,
        input: &mut Input<'_>,
    ) -> m::list_groups_response::ListGroupsResponse {
        use m::list_groups_response as r;
        let mut groups = Vec::new();
        for group in ["g", "h"] {
            for _ in 0..self.times(input) {
                groups.push(r::ListedGroup {
                    group_id: group.to_owned(),
                    protocol_type: "consumer".to_owned(),
                    group_state: ["Stable", "", "later"][input.below(3)].to_owned(),
                    group_type: ["Classic", "consumer", ""][input.below(3)].to_owned(),
                });
            }
        }
        r::ListGroupsResponse { error_code, groups, ..Default::default() }
    }

    fn describe(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::describe_groups_response::DescribeGroupsResponse {
        use m::describe_groups_response as r;
        let request = m::describe_groups_request::DescribeGroupsRequest::decode(version, body).expect("ours");
        let mut groups = Vec::new();
        for group in request.groups {
            for _ in 0..self.times(input) {
                let member = r::DescribedGroupMember {
                    member_id: "m".to_owned(),
                    member_assignment: input.some().to_vec().into(),
                    ..Default::default()
                };
                groups.push(r::DescribedGroup {
                    error_code: Self::item(code, input),
                    group_id: group.to_owned(),
                    group_state: ["Stable", "Dead", ""][input.below(3)].to_owned(),
                    protocol_type: ["consumer", ""][input.below(2)].to_owned(),
                    members: vec![member; input.below(3)],
                    ..Default::default()
                });
            }
        }
        r::DescribeGroupsResponse { groups, ..Default::default() }
    }

    fn describe_consumer(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::consumer_group_describe_response::ConsumerGroupDescribeResponse {
        use m::consumer_group_describe_response as r;
        let request = m::consumer_group_describe_request::ConsumerGroupDescribeRequest::decode(version, body);
        let mut groups = Vec::new();
        for group in request.expect("ours").group_ids {
            for _ in 0..self.times(input) {
                let owned = r::TopicPartitions {
                    topic_id: ID,
                    topic_name: TOPIC.to_owned(),
                    partitions: (0..input.below(4)).map(|_| input.number()).collect(),
                };
                let member = r::Member {
                    member_id: "m".to_owned(),
                    assignment: r::Assignment { topic_partitions: vec![owned] },
                    ..Default::default()
                };
                groups.push(r::DescribedGroup {
                    // A classic group is none here.
                    error_code: if input.byte() > 128 { 69 } else { Self::item(code, input) },
                    group_id: group.to_owned(),
                    group_state: "Stable".to_owned(),
                    members: vec![member; input.below(3)],
                    ..Default::default()
                });
            }
        }
        r::ConsumerGroupDescribeResponse { groups, ..Default::default() }
    }

    fn delete_groups(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::delete_groups_response::DeleteGroupsResponse {
        use m::delete_groups_response as r;
        let request = m::delete_groups_request::DeleteGroupsRequest::decode(version, body).expect("ours");
        let mut results = Vec::new();
        for group in request.groups_names {
            for _ in 0..self.times(input) {
                results.push(r::DeletableGroupResult {
                    group_id: group.to_owned(),
                    error_code: Self::item(code, input),
                    ..Default::default()
                });
            }
        }
        r::DeleteGroupsResponse { results, ..Default::default() }
    }

    fn delete_offsets(
        &self,
        version: i16,
        body: &[u8],
        error_code: i16,
        input: &mut Input<'_>,
    ) -> m::offset_delete_response::OffsetDeleteResponse {
        use m::offset_delete_response as r;
        let request = m::offset_delete_request::OffsetDeleteRequest::decode(version, body).expect("ours");
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for p in topic.partitions {
                for _ in 0..self.times(input) {
                    partitions.push(r::OffsetDeleteResponsePartition {
                        partition_index: p.partition_index,
                        error_code: Self::item(0, input),
                    });
                }
            }
            topics.push(r::OffsetDeleteResponseTopic { name: topic.name.to_owned(), partitions });
        }
        r::OffsetDeleteResponse { error_code, topics, ..Default::default() }
    }

    /// All that a group has committed, for whoever asks for no partitions by name.
    pub(super) fn all_committed(input: &mut Input<'_>) -> Vec<(i32, i64)> {
        (0..PARTITIONS).map(|partition| (partition, i64::from(input.number()))).collect()
    }
}
