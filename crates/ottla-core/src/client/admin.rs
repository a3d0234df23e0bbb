//! Carries administrators' calls: finds whom to ask, sends, and hands the answers to `crate::admin`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_wire::messages::delete_topics_request::DeleteTopicState;
use ottla_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_wire::messages::{
    ConsumerGroupDescribeRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, FindCoordinatorResponse, ListGroupsRequest,
    MetadataRequest, MetadataResponse, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use ottla_wire::{ApiKey, ErrorCode, Request, View};

use super::anybody::Question;
use super::coordinator::KEY_TYPE_GROUP;
use super::{Client, Outcome, Tag};
use crate::admin::{AdminAnswer, AdminTag, Ask, Place, StepKey, Want, Whom};
use crate::connection::{Role, Target};
use crate::offsets::BY_NAME;
use crate::{BrokerId, CommandId, Error, ErrorKind, Timestamp, TopicPartition};

impl Client {
    /// Sends what can be sent, and ends the calls that have all their answers.
    pub(super) fn drive_admin(&mut self, now: Timestamp) {
        for key in self.admin.due(now) {
            self.drive_step(now, key);
        }
        while let Some((id, result)) = self.admin.poll_finished() {
            self.forget_command(id);
            self.finish_command(id, admin_outcome(result));
        }
    }

    fn drive_step(&mut self, now: Timestamp, key: StepKey) {
        let Some((_, want)) = self.admin.want(now, key) else { return };
        let (question, place) = match want {
            Want::Find(Whom::Controller) => (Question::Metadata, None),
            Want::Find(Whom::Coordinator(_)) => (Question::Coordinator, None),
            Want::Ask(Place::Anybody) => (Question::Metadata, None),
            Want::Ask(Place::Broker(broker)) => (Question::Metadata, Some(Target::Broker(broker))),
        };
        let find = matches!(want, Want::Find(_));
        let target = match place {
            Some(target) if !self.network.is_known(target) => {
                // It has gone since it was found.
                let text = "the broker is not in the cluster any more";
                self.refresh.request(now);
                return self.admin.failed(now, key, Error::new(ErrorKind::Transport, text));
            }
            Some(target) => self.network.open(now, target, Role::Control).then_some(target),
            None => self.anybody(now, question),
        };
        let Some(target) = target else { return };
        match (find, question) {
            (true, Question::Coordinator) => {
                let group = self.admin.group_sought(key).unwrap_or_default().to_owned();
                let version = self.version::<FindCoordinatorRequest>(target, i16::MAX);
                let mut request = FindCoordinatorRequest { key_type: KEY_TYPE_GROUP, ..Default::default() };
                if version >= 4 {
                    request.coordinator_keys = vec![group];
                } else {
                    request.key = group;
                }
                self.send_admin(now, key, target, &request, i16::MAX);
            }
            (true, Question::Metadata) => self.send_admin(now, key, target, &brokers(), i16::MAX),
            (false, _) => {
                if let Some(ask) = self.admin.want(now, key).map(|(ask, _)| ask.clone()) {
                    self.send_ask(now, key, target, ask);
                }
            }
        }
    }

    /// The version in which `target` will be asked; 0 if in none, which sending finds out too.
    fn version<R: Request>(&self, target: Target, max: i16) -> i16 {
        let versions = self.network.versions(target, Role::Control);
        versions.map_or(0, |v| v.pick(R::API, R::MIN_VERSION, R::MAX_VERSION.min(max)).unwrap_or(0))
    }

    fn send_admin<R: Request>(
        &mut self,
        now: Timestamp,
        key: StepKey,
        target: Target,
        request: &R,
        max_version: i16,
    ) {
        self.admin.sent(key);
        let tag = Tag::Admin(AdminTag { key, api: R::API });
        let timeout = self.config.request_timeout;
        self.network.send(now, (target, Role::Control), request, max_version, tag, timeout);
    }

    fn send_ask(&mut self, now: Timestamp, key: StepKey, target: Target, ask: Ask) {
        // What the controller may take, in the time that the request has.
        let timeout_ms = i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        match ask {
            Ask::ListTopics => {
                let request = MetadataRequest { topics: None, ..brokers() };
                self.send_admin(now, key, target, &request, i16::MAX);
            }
            Ask::ListBrokers => self.send_admin(now, key, target, &brokers(), i16::MAX),
            Ask::CreateTopics { topics, validate_only } => {
                let topic = |t: crate::admin::NewTopic| CreatableTopic {
                    name: t.name,
                    num_partitions: t.num_partitions,
                    replication_factor: t.replication_factor,
                    configs: t
                        .configs
                        .into_iter()
                        .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
                        .collect(),
                    ..CreatableTopic::default()
                };
                let topics = topics.into_iter().map(topic).collect();
                let request = CreateTopicsRequest { topics, timeout_ms, validate_only };
                self.send_admin(now, key, target, &request, i16::MAX);
            }
            Ask::DeleteTopics(names) => {
                let mut request = DeleteTopicsRequest { timeout_ms, ..DeleteTopicsRequest::default() };
                if self.version::<DeleteTopicsRequest>(target, i16::MAX) >= 6 {
                    let state = |name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
                    request.topics = names.into_iter().map(state).collect();
                } else {
                    request.topic_names = names;
                }
                self.send_admin(now, key, target, &request, i16::MAX);
            }
            Ask::ListGroups(_) => {
                self.send_admin(now, key, target, &ListGroupsRequest::default(), i16::MAX);
            }
            Ask::DescribeGroup { group, classic } => {
                let versions = self.network.versions(target, Role::Control);
                let offered = versions.is_some_and(|v| v.pick(ApiKey::ConsumerGroupDescribe, 0, 1).is_ok());
                if offered && !classic {
                    let request =
                        ConsumerGroupDescribeRequest { group_ids: vec![group], ..Default::default() };
                    self.send_admin(now, key, target, &request, i16::MAX);
                } else {
                    let request = DescribeGroupsRequest { groups: vec![group], ..Default::default() };
                    self.send_admin(now, key, target, &request, i16::MAX);
                }
            }
            Ask::DeleteGroup(group) => {
                let request = DeleteGroupsRequest { groups_names: vec![group] };
                self.send_admin(now, key, target, &request, i16::MAX);
            }
            Ask::ListGroupOffsets(group) => {
                let version = self.version::<OffsetFetchRequest>(target, BY_NAME);
                let mut request =
                    OffsetFetchRequest { require_stable: version >= 7, ..OffsetFetchRequest::default() };
                if version >= 8 {
                    let group =
                        OffsetFetchRequestGroup { group_id: group, topics: None, ..Default::default() };
                    request.groups = vec![group];
                } else {
                    (request.group_id, request.topics) = (group, None);
                }
                self.send_admin(now, key, target, &request, BY_NAME);
            }
            Ask::AlterGroupOffsets { group, offsets } => {
                let partition = |partition_index, committed_offset| OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset,
                    committed_metadata: Some(String::new()),
                    ..OffsetCommitRequestPartition::default()
                };
                let topics =
                    by_topic(offsets, |(tp, offset)| (tp.clone(), partition(tp.partition(), *offset)));
                let topic = |(name, partitions)| OffsetCommitRequestTopic {
                    name,
                    partitions,
                    ..OffsetCommitRequestTopic::default()
                };
                let request = OffsetCommitRequest {
                    group_id: group,
                    topics: topics.into_iter().map(topic).collect(),
                    ..OffsetCommitRequest::default()
                };
                self.send_admin(now, key, target, &request, BY_NAME);
            }
            Ask::DeleteGroupOffsets { group, partitions } => {
                let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
                let topics = by_topic(partitions, |tp| (tp.clone(), partition(tp.partition())));
                let topic = |(name, partitions)| OffsetDeleteRequestTopic { name, partitions };
                let topics = topics.into_iter().map(topic).collect();
                let request = OffsetDeleteRequest { group_id: group, topics };
                self.send_admin(now, key, target, &request, i16::MAX);
            }
        }
    }

    /// A request of an administrator's will not be answered.
    pub(super) fn admin_failed(&mut self, now: Timestamp, target: Target, tag: AdminTag, error: &Error) {
        // What no version of the broker can do will not get better.
        if error.kind() == ErrorKind::Unsupported {
            return self.admin.refuse(tag.key, error.clone());
        }
        if let Some(question) = question(tag.api) {
            self.helpless.note(question, target, false);
        }
        self.admin.failed(now, tag.key, error.clone());
    }

    /// Takes in an answer to a request of an administrator's.
    pub(super) fn admin_answered(
        &mut self,
        now: Timestamp,
        target: Target,
        tag: AdminTag,
        version: i16,
        body: &[u8],
    ) -> Result<(), Error> {
        let Some(finding) = self.admin.is_finding(tag.key) else {
            return Ok(());
        };
        let result = match tag.api {
            ApiKey::Metadata if finding || self.admin.is_listing_brokers(tag.key) => {
                self.take_brokers(now, tag.key, version, body)
            }
            ApiKey::FindCoordinator => self.take_coordinator(now, tag.key, version, body),
            _ => self.admin.answered(now, tag, version, body),
        };
        if let Some(question) = question(tag.api) {
            self.helpless.note(question, target, result.is_ok());
        }
        result
    }

    /// Who is in the cluster, and who its controller is.
    fn take_brokers(&mut self, now: Timestamp, key: StepKey, version: i16, body: &[u8]) -> Result<(), Error> {
        let read = MetadataResponse::decode(version, body).map_err(|e| unreadable("Metadata", e));
        let told = read.and_then(|metadata| {
            let changes = self.cluster.update(version, &metadata, &BTreeSet::new())?;
            Ok((changes, BrokerId(metadata.controller_id)))
        });
        let (changes, controller) = match told {
            Ok(told) => told,
            Err(error) => {
                self.admin.failed(now, key, error.clone());
                return Err(error);
            }
        };
        if changes.brokers {
            self.tell_addresses();
        }
        if changes.topology {
            self.tell_topology(now);
        }
        if self.admin.is_listing_brokers(key) {
            let brokers: Vec<BrokerId> = self.cluster.brokers().keys().copied().collect();
            self.admin.brokers_told(now, key, &brokers);
        } else if self.cluster.brokers().contains_key(&controller) {
            self.admin.found(key, controller);
        } else {
            let text = "the cluster has no controller at present";
            self.admin.not_found(now, key, Error::new(ErrorKind::Transport, text));
        }
        Ok(())
    }

    fn take_coordinator(
        &mut self,
        now: Timestamp,
        key: StepKey,
        version: i16,
        body: &[u8],
    ) -> Result<(), Error> {
        let answer = match FindCoordinatorResponse::decode(version, body) {
            Ok(answer) => answer,
            Err(e) => {
                let error = unreadable("FindCoordinator", e);
                self.admin.failed(now, key, error.clone());
                return Err(error);
            }
        };
        let group = self.admin.group_sought(key).unwrap_or_default().to_owned();
        let (code, node) = if version >= 4 {
            let found = answer.coordinators.iter().find(|c| c.key == group);
            found.map_or((ErrorCode::CoordinatorNotAvailable, -1), |c| {
                (ErrorCode::from_i16(c.error_code), c.node_id)
            })
        } else {
            (ErrorCode::from_i16(answer.error_code), answer.node_id)
        };
        match code {
            // Where a broker is, metadata says.
            ErrorCode::None if self.cluster.brokers().contains_key(&BrokerId(node)) => {
                self.admin.found(key, BrokerId(node));
            }
            ErrorCode::None => {
                self.refresh.request(now);
                let text =
                    format!("the coordinator of group {group:?} is broker {node}, which nobody knows of");
                self.admin.not_found(now, key, Error::new(ErrorKind::Transport, text));
            }
            code => self.admin.coordinator_refused(now, key, code),
        }
        Ok(())
    }

    /// The time of a call is over.
    pub(super) fn expire_admin(&mut self, id: CommandId) -> Option<Outcome> {
        let before = (!self.cluster.is_known()).then(|| self.bootstrap_error());
        self.admin.expire(id, before.as_ref()).map(admin_outcome)
    }
}

/// From which version on the answer begins with the throttle time, if it does.
pub(super) fn throttle_from(api: ApiKey) -> Option<i16> {
    match api {
        ApiKey::Metadata | ApiKey::OffsetFetch | ApiKey::OffsetCommit => Some(3),
        ApiKey::CreateTopics => Some(2),
        ApiKey::DeleteTopics | ApiKey::FindCoordinator | ApiKey::ListGroups | ApiKey::DescribeGroups => {
            Some(1)
        }
        ApiKey::DeleteGroups | ApiKey::ConsumerGroupDescribe => Some(0),
        // OffsetDelete has it behind the error code.
        _ => None,
    }
}

fn question(api: ApiKey) -> Option<Question> {
    match api {
        ApiKey::Metadata => Some(Question::Metadata),
        ApiKey::FindCoordinator => Some(Question::Coordinator),
        _ => None,
    }
}

fn admin_outcome(result: Result<AdminAnswer, Error>) -> Outcome {
    result.map_or_else(Outcome::Failed, Outcome::Admin)
}

/// Metadata of no topic: who is in the cluster.
fn brokers() -> MetadataRequest {
    MetadataRequest {
        topics: Some(Vec::new()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    }
}

fn unreadable(api: &str, error: ottla_wire::DecodeError) -> Error {
    let text = format!("sent an answer to {api} that cannot be read");
    Error::new(ErrorKind::BrokerMisbehaved, text).with_source(error)
}

fn by_topic<T, P>(items: Vec<T>, partition: impl Fn(&T) -> (TopicPartition, P)) -> BTreeMap<String, Vec<P>> {
    let mut topics: BTreeMap<String, Vec<P>> = BTreeMap::new();
    for (tp, partition) in items.iter().map(partition) {
        topics.entry(tp.topic().to_owned()).or_default().push(partition);
    }
    topics
}
