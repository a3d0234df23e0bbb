//! ConsumerGroupHeartbeat, ConsumerGroupDescribe: between kafka-protocol's structs and the group machine (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::messages::consumer_group_describe_response as describe;
use kafka_protocol::messages::consumer_group_heartbeat_response as heartbeat;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, ResponseKind, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::group::consumer::{
    ASSIGNORS, Beat, BeatAnswer, ConsumerGroup, ConsumerMember, LEFT_FOR_A_WHILE, Part, Refused, Subscribed,
    TopicRegex, Topics,
};
use super::group::{Group, GroupState};
use super::{Cluster, RequestId};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// First version in which the member makes its own id (KIP-1082).
const OWN_MEMBER_ID: i16 = 1;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn invalid<T>(message: &str) -> Result<T, Refused> {
    Err((ErrorCode::INVALID_REQUEST, message.to_owned()))
}

fn check(version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refused> {
    let epoch = request.member_epoch;
    if (version >= OWN_MEMBER_ID || epoch > 0 || epoch == -1) && request.member_id.trim().is_empty() {
        return invalid("MemberId can't be empty.");
    }
    let blank = |s: &Option<StrBytes>| s.as_ref().is_some_and(|s| s.trim().is_empty());
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if blank(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if blank(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|parts| !parts.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
    } else if epoch == LEFT_FOR_A_WHILE && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < LEFT_FOR_A_WHILE {
        return invalid("MemberEpoch is invalid.");
    }
    match request.server_assignor.as_deref() {
        Some(name) if !ASSIGNORS.contains(&name) => {
            let text = format!(
                "ServerAssignor {name} is not supported. Supported assignors: {}.",
                ASSIGNORS.join(", ")
            );
            Err((ErrorCode::UNSUPPORTED_ASSIGNOR, text))
        }
        _ => Ok(()),
    }
}

impl Cluster {
    /// Whether the brokers take part in KIP-848: the feature `group.version` is 1.
    pub(super) fn has_consumer_groups(&self) -> bool {
        self.config.consumer_groups
            && self.config.versions.supports(crate::Api::ConsumerGroupHeartbeat, OWN_MEMBER_ID)
    }

    /// All topics as the group looks at them.
    pub(super) fn known_topics(&self) -> Topics {
        let known = |t: &super::topics::Topic| {
            (t.name.clone(), Subscribed { id: t.id, partitions: t.partitions.len() as i32 })
        };
        self.topics.iter().map(known).collect()
    }

    pub(super) fn handle_consumer_group_heartbeat(
        &mut self,
        now: Timestamp,
        id: RequestId,
        forced: Option<ErrorCode>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Option<ResponseKind> {
        let flight = self.in_flight.get(&id)?;
        let (node, version, client_id) = (flight.node, flight.version, flight.client_id.clone());
        let mut response = ConsumerGroupHeartbeatResponse::default();
        match self.beat(now, node, version, client_id, forced, request) {
            Err((code, message)) => {
                response.error_code = code.0;
                response.error_message =
                    if message.is_empty() { code.name().map(text) } else { Some(text(&message)) };
            }
            Ok(answer) => {
                response.member_id = Some(text(&answer.member_id));
                response.member_epoch = answer.epoch;
                if answer.epoch >= 0 {
                    let interval = self.config.consumer_heartbeat_interval.as_millis();
                    response.heartbeat_interval_ms = i32::try_from(interval).unwrap_or(i32::MAX);
                }
                response.assignment = answer.assignment.map(|parts| {
                    let topics = by_topic(parts.iter()).into_iter().map(|(id, partitions)| {
                        heartbeat::TopicPartitions::default()
                            .with_topic_id(Uuid::from_bytes(id))
                            .with_partitions(partitions)
                    });
                    heartbeat::Assignment::default().with_topic_partitions(topics.collect())
                });
            }
        }
        Some(response.into())
    }

    fn beat(
        &mut self,
        now: Timestamp,
        node: i32,
        version: i16,
        client_id: String,
        forced: Option<ErrorCode>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<BeatAnswer, Refused> {
        if let Some(code) = forced {
            return Err((code, String::new()));
        }
        if !self.has_consumer_groups() {
            return Err((ErrorCode::UNSUPPORTED_VERSION, String::new()));
        }
        check(version, request)?;
        let group_id = request.group_id.to_string();
        self.check_coordinator(node, &group_id).map_err(|code| (code, String::new()))?;
        let mut member_id = request.member_id.to_string();
        if member_id.is_empty() {
            member_id = self.rng.uuid_base64();
        }
        let string = |s: &Option<StrBytes>| s.as_ref().map(ToString::to_string);
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        // An empty one takes it back.
        let regex = match request.subscribed_topic_regex.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(text) => {
                let refused = |why| (ErrorCode::INVALID_REGULAR_EXPRESSION, why);
                Some(Some(TopicRegex::new(text).map_err(refused)?))
            }
        };
        let beat = Beat {
            member_id,
            epoch: request.member_epoch,
            instance_id: string(&request.instance_id),
            rack: string(&request.rack_id),
            client_id,
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout: (request.rebalance_timeout_ms != -1)
                .then(|| millis(request.rebalance_timeout_ms)),
            topics: request
                .subscribed_topic_names
                .as_ref()
                .map(|names| names.iter().map(|n| n.to_string()).collect()),
            regex,
            assignor: string(&request.server_assignor),
            owned: request.topic_partitions.as_ref().map(|topics| {
                let parts =
                    topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id.into_bytes(), *p)));
                parts.collect::<BTreeSet<Part>>()
            }),
        };
        if beat.epoch == 0 {
            self.ensure_group(node, &group_id);
        }
        let (session, max) = (self.config.consumer_session_timeout, self.config.max_consumer_group_size);
        let known = self.known_topics();
        let what = if beat.epoch < 0 { "Group" } else { "Consumer group" };
        let not_found = (ErrorCode::GROUP_ID_NOT_FOUND, format!("{what} {group_id} not found."));
        self.with_group(now, &group_id, |group| {
            let leaves_for_good = beat.epoch == -1;
            let consumer = group.consumer_for(now, &beat, &known)?;
            if beat.epoch >= 0 {
                return consumer.beat(now, beat, &known, session, max);
            }
            let answer = consumer.leave(&beat)?;
            if leaves_for_good {
                group.fence(now, std::slice::from_ref(&answer.member_id));
            }
            Ok(answer)
        })
        .ok_or(not_found)?
    }

    pub(super) fn handle_consumer_group_describe(
        &self,
        node: i32,
        version: i16,
        forced: Option<ErrorCode>,
        request: &ConsumerGroupDescribeRequest,
    ) -> ResponseKind {
        let mut response = ConsumerGroupDescribeResponse::default();
        for id in &request.group_ids {
            let described = describe::DescribedGroup::default().with_group_id(id.clone());
            let refused = forced
                .or_else(|| (!self.has_consumer_groups()).then_some(ErrorCode::UNSUPPORTED_VERSION))
                .or_else(|| self.check_coordinator(node, id).err());
            let not_found = |message: String| {
                described
                    .clone()
                    .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
                    .with_error_message(Some(text(&message)))
            };
            let found = self.groups.get(id.as_str()).map(|group| group.consumer());
            response.groups.push(match (refused, found) {
                (Some(code), _) => described.with_error_code(code.0),
                (None, None) => not_found(format!("Group {} not found.", **id)),
                (None, Some(None)) => not_found(format!("Group {} is not a consumer group.", **id)),
                (None, Some(Some(group))) => self.describe_consumer(described, version, group),
            });
        }
        response.into()
    }

    fn describe_consumer(
        &self,
        described: describe::DescribedGroup,
        version: i16,
        group: &ConsumerGroup,
    ) -> describe::DescribedGroup {
        let member = |member: &ConsumerMember| {
            let topics = member.topics.iter().map(|t| TopicName(text(t))).collect();
            let optional = |s: &Option<String>| s.as_deref().map(text);
            let answer = describe::Member::default()
                .with_member_id(text(&member.id))
                .with_instance_id(optional(&member.instance_id))
                .with_rack_id(optional(&member.rack))
                .with_member_epoch(member.epoch)
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_subscribed_topic_names(topics)
                .with_subscribed_topic_regex(member.regex.as_ref().map(|r| text(&r.text)))
                .with_assignment(self.described(member.held()))
                .with_target_assignment(self.described(group.target_of(&member.id).iter()));
            // 0: a member that speaks the classic protocol, 1: the consumer protocol (KIP-1099).
            let kind = i8::from(member.classic.is_none());
            if version >= 1 { answer.with_member_type(kind) } else { answer }
        };
        described
            .with_group_state(text(group.state().name()))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.target_epoch)
            .with_assignor_name(text(group.assignor()))
            .with_members(group.members.values().map(member).collect())
    }

    fn described<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> describe::Assignment {
        let topics = by_topic(parts).into_iter().filter_map(|(id, partitions)| {
            // A topic that is gone has no name.
            let name = self.topics.name_of(&id)?;
            let topic = describe::TopicPartitions::default().with_topic_id(Uuid::from_bytes(id));
            Some(topic.with_topic_name(TopicName(text(name))).with_partitions(partitions))
        });
        describe::Assignment::default().with_topic_partitions(topics.collect())
    }
}

fn by_topic<'a>(parts: impl Iterator<Item = &'a Part>) -> BTreeMap<[u8; 16], Vec<i32>> {
    let mut topics: BTreeMap<[u8; 16], Vec<i32>> = BTreeMap::new();
    for (id, partition) in parts {
        topics.entry(*id).or_default().push(*partition);
    }
    topics
}

impl Group {
    /// The consumer group of this id: it becomes one when a member joins.
    fn consumer_for(
        &mut self,
        now: Timestamp,
        beat: &Beat,
        known: &Topics,
    ) -> Result<&mut ConsumerGroup, Refused> {
        if self.consumer().is_none() && beat.epoch == 0 {
            match self.state {
                GroupState::Empty => self.become_consumer(),
                _ => self.upgrade(now, known)?,
            }
        }
        let id = self.id.clone();
        self.consumer_mut()
            .ok_or_else(|| (ErrorCode::GROUP_ID_NOT_FOUND, format!("Group {id} is not a consumer group.")))
    }
}
