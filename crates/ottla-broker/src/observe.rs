//! The observation log: every request the brokers saw.

use std::time::Duration;

use kafka_protocol::messages::{RequestKind, ResponseKind};

use crate::api::Api;
use crate::error_code::ErrorCode;

/// A request that reached a broker, with the facts that tests ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// Its place in the log: 0, 1, 2 … over all nodes and connections.
    pub index: u64,
    /// When it was taken up, counted from the start of the cluster.
    pub at: Duration,
    /// The node it was sent to.
    pub node: i32,
    /// The connection it came on: a number that no other connection of the cluster has.
    pub connection: u64,
    /// Its API.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// Its correlation id.
    pub correlation_id: i32,
    /// The client id of its header.
    pub client_id: Option<String>,
    /// Bytes of the frame, without the length prefix.
    pub size: usize,
    /// The groups it names.
    pub groups: Vec<String>,
    /// The member id it carries (`""` in a first JoinGroup).
    pub member_id: Option<String>,
    /// The group instance id it carries (KIP-345).
    pub group_instance_id: Option<String>,
    /// The generation or member epoch it carries.
    pub generation: Option<i32>,
    /// The reason text of a JoinGroup or LeaveGroup (KIP-800).
    pub reason: Option<String>,
    /// The topics and partitions it names; an incremental Fetch names only what changed in its session.
    pub partitions: Vec<ObservedPartition>,
    /// Partitions that an incremental Fetch takes out of its session (KIP-227).
    pub forgotten: Vec<(String, i32)>,
    /// Session id and session epoch of a Fetch (KIP-227).
    pub fetch_session: Option<(i32, i32)>,
    /// Whether a fault hit it.
    pub faulted: bool,
    /// When its answer left, if it has.
    pub answered_at: Option<Duration>,
    /// The error of its answer: the top one, else that of the first partition or member that has one.
    pub error: Option<ErrorCode>,
}

/// A topic or partition that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedPartition {
    /// The topic's name (empty when the request carried an id that no topic has).
    pub topic: String,
    /// The partition; none where the request names the topic only.
    pub partition: Option<i32>,
    /// The fetch offset, the committed offset or the timestamp asked for.
    pub offset: Option<i64>,
    /// The leader epoch that goes with it: of the record (OffsetCommit) or the current one.
    pub leader_epoch: Option<i32>,
}

impl Observed {
    /// The group, when the request names exactly one.
    pub fn group(&self) -> Option<&str> {
        match self.groups.as_slice() {
            [group] => Some(group),
            _ => None,
        }
    }

    /// Whether the request names this partition.
    pub fn names(&self, topic: &str, partition: i32) -> bool {
        self.partitions.iter().any(|p| p.topic == topic && p.partition == Some(partition))
    }

    /// The offset that the request carries for this partition.
    pub fn offset(&self, topic: &str, partition: i32) -> Option<i64> {
        self.partitions.iter().find(|p| p.topic == topic && p.partition == Some(partition))?.offset
    }

    pub(crate) fn name(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        offset: Option<i64>,
        leader_epoch: Option<i32>,
    ) {
        self.partitions.push(ObservedPartition { topic: topic.to_owned(), partition, offset, leader_epoch });
    }

    /// Takes the facts out of a decoded request. `name_of` resolves topic ids.
    pub(crate) fn describe(&mut self, request: &RequestKind, name_of: impl Fn(&[u8; 16]) -> String) {
        let named =
            |name: &str, id: &uuid::Uuid| if id.is_nil() { name.to_owned() } else { name_of(id.as_bytes()) };
        let text = |s: &Option<kafka_protocol::protocol::StrBytes>| s.as_ref().map(|s| s.to_string());
        match request {
            RequestKind::Produce(r) => {
                for topic in &r.topic_data {
                    let name = named(&topic.name, &topic.topic_id);
                    for p in &topic.partition_data {
                        self.name(&name, Some(p.index), None, None);
                    }
                }
            }
            RequestKind::Fetch(r) => {
                self.fetch_session = Some((r.session_id, r.session_epoch));
                for topic in &r.topics {
                    let name = named(&topic.topic, &topic.topic_id);
                    for p in &topic.partitions {
                        self.name(
                            &name,
                            Some(p.partition),
                            Some(p.fetch_offset),
                            Some(p.current_leader_epoch),
                        );
                    }
                }
                for topic in &r.forgotten_topics_data {
                    let name = named(&topic.topic, &topic.topic_id);
                    self.forgotten.extend(topic.partitions.iter().map(|p| (name.clone(), *p)));
                }
            }
            RequestKind::ListOffsets(r) => {
                for topic in &r.topics {
                    for p in &topic.partitions {
                        let epoch = Some(p.current_leader_epoch);
                        self.name(&topic.name, Some(p.partition_index), Some(p.timestamp), epoch);
                    }
                }
            }
            RequestKind::OffsetForLeaderEpoch(r) => {
                for topic in &r.topics {
                    for p in &topic.partitions {
                        self.name(&topic.topic, Some(p.partition), None, Some(p.leader_epoch));
                    }
                }
            }
            RequestKind::Metadata(r) => {
                for topic in r.topics.iter().flatten() {
                    let name = named(topic.name.as_deref().map_or("", |n| n), &topic.topic_id);
                    self.name(&name, None, None, None);
                }
            }
            RequestKind::FindCoordinator(r) => {
                self.groups = r.coordinator_keys.iter().map(ToString::to_string).collect();
                if self.groups.is_empty() {
                    self.groups.push(r.key.to_string());
                }
            }
            RequestKind::JoinGroup(r) => {
                self.groups.push(r.group_id.to_string());
                self.member_id = Some(r.member_id.to_string());
                self.group_instance_id = text(&r.group_instance_id);
                self.reason = text(&r.reason);
            }
            RequestKind::SyncGroup(r) => {
                self.groups.push(r.group_id.to_string());
                self.member_id = Some(r.member_id.to_string());
                self.group_instance_id = text(&r.group_instance_id);
                self.generation = Some(r.generation_id);
            }
            RequestKind::Heartbeat(r) => {
                self.groups.push(r.group_id.to_string());
                self.member_id = Some(r.member_id.to_string());
                self.group_instance_id = text(&r.group_instance_id);
                self.generation = Some(r.generation_id);
            }
            RequestKind::LeaveGroup(r) => {
                self.groups.push(r.group_id.to_string());
                match r.members.first() {
                    Some(member) => {
                        self.member_id = Some(member.member_id.to_string());
                        self.group_instance_id = text(&member.group_instance_id);
                        self.reason = text(&member.reason);
                    }
                    None => self.member_id = Some(r.member_id.to_string()),
                }
            }
            RequestKind::ConsumerGroupHeartbeat(r) => {
                self.groups.push(r.group_id.to_string());
                self.member_id = Some(r.member_id.to_string());
                self.group_instance_id = text(&r.instance_id);
                self.generation = Some(r.member_epoch);
            }
            RequestKind::ConsumerGroupDescribe(r) => {
                self.groups.extend(r.group_ids.iter().map(|g| g.to_string()));
            }
            RequestKind::OffsetCommit(r) => {
                self.groups.push(r.group_id.to_string());
                self.member_id = Some(r.member_id.to_string());
                self.group_instance_id = text(&r.group_instance_id);
                self.generation = Some(r.generation_id_or_member_epoch);
                for topic in &r.topics {
                    let name = named(&topic.name, &topic.topic_id);
                    for p in &topic.partitions {
                        let epoch = Some(p.committed_leader_epoch);
                        self.name(&name, Some(p.partition_index), Some(p.committed_offset), epoch);
                    }
                }
            }
            RequestKind::OffsetFetch(r) => self.describe_offset_fetch(r, named),
            RequestKind::DescribeGroups(r) => self.groups.extend(r.groups.iter().map(|g| g.to_string())),
            RequestKind::DeleteGroups(r) => self.groups.extend(r.groups_names.iter().map(|g| g.to_string())),
            RequestKind::OffsetDelete(r) => {
                self.groups.push(r.group_id.to_string());
                for topic in &r.topics {
                    for p in &topic.partitions {
                        self.name(&topic.name, Some(p.partition_index), None, None);
                    }
                }
            }
            RequestKind::CreateTopics(r) => {
                r.topics.iter().for_each(|t| self.name(&t.name, None, None, None))
            }
            RequestKind::CreatePartitions(r) => {
                r.topics.iter().for_each(|t| self.name(&t.name, None, None, None))
            }
            RequestKind::DeleteTopics(r) => {
                r.topic_names.iter().for_each(|name| self.name(name, None, None, None));
                for topic in &r.topics {
                    let name = named(topic.name.as_deref().map_or("", |n| n), &topic.topic_id);
                    self.name(&name, None, None, None);
                }
            }
            RequestKind::DeleteRecords(r) => {
                for topic in &r.topics {
                    for p in &topic.partitions {
                        self.name(&topic.name, Some(p.partition_index), Some(p.offset), None);
                    }
                }
            }
            _ => {}
        }
    }

    fn describe_offset_fetch(
        &mut self,
        request: &kafka_protocol::messages::OffsetFetchRequest,
        named: impl Fn(&str, &uuid::Uuid) -> String,
    ) {
        if request.groups.is_empty() {
            self.groups.push(request.group_id.to_string());
        }
        for topic in request.topics.iter().flatten() {
            for p in &topic.partition_indexes {
                self.name(&topic.name, Some(*p), None, None);
            }
        }
        for group in &request.groups {
            self.groups.push(group.group_id.to_string());
            self.member_id = group.member_id.as_ref().map(|s| s.to_string());
            self.generation = Some(group.member_epoch);
            for topic in group.topics.iter().flatten() {
                let name = named(&topic.name, &topic.topic_id);
                for p in &topic.partition_indexes {
                    self.name(&name, Some(*p), None, None);
                }
            }
        }
    }
}

/// The top error of an answer, else the first one below it.
pub(crate) fn first_error(response: &ResponseKind) -> Option<ErrorCode> {
    let code = match response {
        ResponseKind::Produce(r) => {
            first(r.responses.iter().flat_map(|t| &t.partition_responses), |p| p.error_code)
        }
        ResponseKind::Fetch(r) => {
            top(r.error_code, first(r.responses.iter().flat_map(|t| &t.partitions), |p| p.error_code))
        }
        ResponseKind::ListOffsets(r) => first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code),
        ResponseKind::OffsetForLeaderEpoch(r) => {
            first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code)
        }
        ResponseKind::Metadata(r) => top(
            top(r.error_code, first(&r.topics, |t| t.error_code)),
            first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code),
        ),
        ResponseKind::FindCoordinator(r) => top(r.error_code, first(&r.coordinators, |c| c.error_code)),
        ResponseKind::JoinGroup(r) => r.error_code,
        ResponseKind::SyncGroup(r) => r.error_code,
        ResponseKind::Heartbeat(r) => r.error_code,
        ResponseKind::LeaveGroup(r) => top(r.error_code, first(&r.members, |m| m.error_code)),
        ResponseKind::OffsetCommit(r) => first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code),
        ResponseKind::OffsetFetch(r) => top(
            top(r.error_code, first(&r.groups, |g| g.error_code)),
            top(
                first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code),
                first(r.groups.iter().flat_map(|g| &g.topics).flat_map(|t| &t.partitions), |p| p.error_code),
            ),
        ),
        ResponseKind::ConsumerGroupHeartbeat(r) => r.error_code,
        ResponseKind::ConsumerGroupDescribe(r) => first(&r.groups, |g| g.error_code),
        ResponseKind::DescribeGroups(r) => first(&r.groups, |g| g.error_code),
        ResponseKind::ListGroups(r) => r.error_code,
        ResponseKind::DeleteGroups(r) => first(&r.results, |g| g.error_code),
        ResponseKind::OffsetDelete(r) => {
            top(r.error_code, first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code))
        }
        ResponseKind::CreateTopics(r) => first(&r.topics, |t| t.error_code),
        ResponseKind::DeleteTopics(r) => first(&r.responses, |t| t.error_code),
        ResponseKind::CreatePartitions(r) => first(&r.results, |t| t.error_code),
        ResponseKind::DeleteRecords(r) => {
            first(r.topics.iter().flat_map(|t| &t.partitions), |p| p.error_code)
        }
        ResponseKind::InitProducerId(r) => r.error_code,
        ResponseKind::DescribeCluster(r) => r.error_code,
        ResponseKind::ApiVersions(r) => r.error_code,
        _ => 0,
    };
    (code != 0).then_some(ErrorCode(code))
}

fn first<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, code: impl Fn(&T) -> i16) -> i16 {
    items.into_iter().map(code).find(|code| *code != 0).unwrap_or(0)
}

fn top(code: i16, below: i16) -> i16 {
    if code != 0 { code } else { below }
}
