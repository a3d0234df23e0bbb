//! What happened on the network, handed to the part that it concerns.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::messages::describe_groups_response::DescribedGroup;
use ottla_wire::messages::{DescribeGroupsResponse, MetadataResponse};
use ottla_wire::{ErrorCode, View};

use super::anybody::Question;
use super::{Client, Tag, figures};
use crate::connection::{NetEvent, Role, Target};
use crate::delivery::Event;
use crate::fetch::Finding;
use crate::group::Group;
use crate::group::classic::Described;
use crate::offsets::Present;
use crate::planted::planted;
use crate::{BrokerId, ConnectionId, Error, ErrorKind, Timestamp, TopicPartition};

/// So many connections in a row have ended because the broker talks nonsense when the reader is told.
const TELL_AFTER: u32 = 3;

fn id(target: Target) -> Option<BrokerId> {
    match target {
        Target::Broker(broker) => Some(broker),
        Target::Bootstrap(_) => None,
    }
}

/// An answer that arrived.
struct Answer {
    conn: ConnectionId,
    target: Target,
    version: i16,
    payload: Bytes,
    body_at: usize,
}

impl Answer {
    fn body(&self) -> &[u8] {
        self.payload.get(self.body_at..).unwrap_or_default()
    }
}

impl Client {
    pub(super) fn handle_network(&mut self, now: Timestamp, event: NetEvent<Tag>) {
        match event {
            NetEvent::Ready(target, role) => {
                tracing::debug!(?target, ?role, "connected");
                self.broker_available(now, target);
                if let (Target::Broker(_), Role::Control) = (target, role) {
                    self.leave_bootstrap();
                }
            }
            NetEvent::Lost { target, role, error, failures } => {
                tracing::debug!(?target, ?role, %error, failures, "connection lost");
                // A broker that talks nonsense once is asked again; one that goes on is told of, once in a row.
                if failures == TELL_AFTER && !error.is_retriable() {
                    self.delivery.lock().report(error.clone().with_fatal(false));
                }
                if failures > 0 {
                    self.broker_unreachable(now, &error);
                }
                if let Target::Broker(broker) = target {
                    // A control connection that broke while the group's stands says nothing about the coordinator,
                    // and a JoinGroup may be parked there.
                    let group_stands = self.network.is_ready(target, Role::Group);
                    let lost = role == Role::Group || (role == Role::Control && !group_stands);
                    if self.coordinator.broker() == Some(broker) && lost {
                        self.coordinator_lost(now);
                    }
                    if role == Role::Fetch && self.replicas.decline_all(now, broker) {
                        self.fetcher.outdate();
                    }
                    if role == Role::Control {
                        self.admin.unreachable(now, broker, &error);
                    }
                    // The broker may be gone, and somebody else may lead what it led.
                    self.refresh.request(now);
                }
            }
            NetEvent::Failed { target, tag, error } => self.request_failed(now, target, tag, &error),
            NetEvent::Response { conn, target, tag, version, payload, body_at, took } => {
                let what = figures::timed(&tag);
                let answer = Answer { conn, target, version, payload, body_at };
                self.throttled(now, &tag, &answer);
                let answered = self.answered(now, tag, &answer);
                self.took(target, what, took);
                match answered {
                    Ok(()) => self.network.worked(conn),
                    Err(error) => {
                        let error = match target {
                            Target::Broker(broker) => error.with_broker(broker),
                            Target::Bootstrap(_) => error,
                        };
                        tracing::warn!(?target, %error, "the connection is closed: its answers make no sense");
                        self.network.refuse(now, conn, error);
                    }
                }
            }
            NetEvent::Throttled { target, throttle_time } => {
                tracing::info!(?target, ?throttle_time, "throttled by the broker");
                self.tell_of_brokers(now, Event::Throttled { broker: id(target), throttle_time });
            }
            NetEvent::Unthrottled { target, throttled } => {
                tracing::info!(?target, ?throttled, "not throttled by the broker any more");
                self.tell_of_brokers(now, Event::ThrottleEnded { broker: id(target), throttled });
            }
        }
    }

    fn broker_available(&mut self, now: Timestamp, target: Target) {
        if self.are_brokers_down() {
            tracing::warn!(?target, "a broker can be reached again");
            self.set_brokers_down(false);
            self.tell_of_brokers(now, Event::BrokerAvailable { broker: id(target) });
        }
    }

    fn broker_unreachable(&mut self, now: Timestamp, error: &Error) {
        if !self.are_brokers_down() && self.network.is_down() {
            tracing::warn!(%error, "all brokers are down");
            self.set_brokers_down(true);
            self.tell_of_brokers(now, Event::AllBrokersDown { error: error.clone() });
        }
    }

    /// Only who wants to know is woken for it.
    fn tell_of_brokers(&self, now: Timestamp, event: Event) {
        if self.config.broker_events {
            self.delivery.lock().push_broker_event(now, event);
        }
    }

    /// The addresses of the configuration were only a way in.
    fn leave_bootstrap(&mut self) {
        for i in 0..self.config.bootstrap.len() {
            self.network.close_idle(Target::Bootstrap(i), Role::Control);
        }
    }

    fn request_failed(&mut self, now: Timestamp, target: Target, tag: Tag, error: &Error) {
        match tag {
            Tag::Metadata { .. } => {
                self.helpless.note(Question::Metadata, target, false);
                self.refresh.failed(now, &mut self.rng);
            }
            Tag::FindCoordinator => self.coordinator_not_told(now, target),
            Tag::Group(kind) => {
                if let Some(group) = &mut self.group {
                    group.handle_failure(now, kind, error.clone());
                }
            }
            // The error is told without it.
            Tag::DescribeGroup => return self.group_described(None),
            Tag::OffsetFetch(tag) => {
                if let Some(committed) = &mut self.committed {
                    committed.failed(now, tag);
                }
            }
            Tag::OffsetCommit => {
                self.commit_unanswered(now, error.kind().name());
                self.commits.failed(now, error);
            }
            Tag::ListOffsets(tag) => {
                self.lookups.failed(now, tag);
                self.refresh.request(now);
            }
            Tag::OffsetForLeaderEpoch(tag) => {
                self.validations.failed(now, tag);
                self.refresh.request(now);
            }
            Tag::Fetch => {
                if let Target::Broker(broker) = target {
                    self.fetcher.failed(now, broker);
                    // It could not even be asked: nobody says that its connection is lost.
                    if self.replicas.decline_all(now, broker) {
                        self.fetcher.outdate();
                    }
                }
                self.refresh.request(now);
                if planted!(FatalOnDisconnect) {
                    self.delivery.lock().fail_all(error.clone().with_fatal(true));
                }
                if planted!(ResetOnDisconnect) {
                    let all = self.delivery.lock().fetchable();
                    all.into_iter().for_each(|p| self.out_of_range(now, &p.tp, p.epoch, p.offset));
                }
            }
            // Whoever asked is told.
            Tag::Admin(tag) => return self.admin_failed(now, target, tag, error),
        }
        // What no version of the broker can do will not get better; a connection's end is told of by itself.
        if error.kind() == ErrorKind::Unsupported {
            self.delivery.lock().report(error.clone().with_fatal(false));
        }
    }

    /// KIP-219: the broker answers first and the client is silent afterwards. Every answer in use begins with the
    /// throttle time from its first version that we speak, but for the few that are listed.
    fn throttled(&mut self, now: Timestamp, tag: &Tag, answer: &Answer) {
        let from_version = match tag {
            Tag::Metadata { .. } | Tag::OffsetFetch(_) | Tag::OffsetCommit => 3,
            Tag::FindCoordinator | Tag::DescribeGroup => 1,
            Tag::ListOffsets(_) | Tag::OffsetForLeaderEpoch(_) => 2,
            Tag::Fetch => 1,
            // Silence towards the coordinator would cost the membership: the group's requests are rare.
            Tag::Group(_) => return,
            Tag::Admin(tag) => match super::admin::throttle_from(tag.api) {
                Some(version) => version,
                None => return,
            },
        };
        if answer.version < from_version {
            return;
        }
        let millis = answer.body().first_chunk::<4>().map_or(0, |b| i32::from_be_bytes(*b));
        self.network.throttle(now, answer.conn, millis);
        if let Ok(millis @ 1..) = u64::try_from(millis) {
            tracing::debug!(target = ?answer.target, millis, "asked to be silent");
            self.observe_throttle(answer.target, Duration::from_millis(millis));
        }
    }

    fn answered(&mut self, now: Timestamp, tag: Tag, answer: &Answer) -> Result<(), Error> {
        let version = answer.version;
        match tag {
            Tag::Metadata { topics, all } => {
                let read = MetadataResponse::decode(version, answer.body()).map_err(|e| {
                    let text = "sent an answer to Metadata that cannot be read";
                    Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e)
                });
                if read
                    .as_ref()
                    .is_ok_and(|m| ErrorCode::from_i16(m.error_code) == ErrorCode::RebootstrapRequired)
                {
                    self.helpless.note(Question::Metadata, answer.target, false);
                    self.refresh.failed(now, &mut self.rng);
                    self.rebootstrap(now, "a broker asks for it");
                    return Ok(());
                }
                let (changes, found) = read
                    .and_then(|metadata| self.update_metadata(version, &metadata, topics, all))
                    .inspect_err(|_| {
                        self.helpless.note(Question::Metadata, answer.target, false);
                        self.refresh.failed(now, &mut self.rng);
                    })?;
                if let Some(found) = found {
                    self.found_topics(now, found);
                }
                self.unanswered_since = None;
                let complete = !self.tell_names(now) && !self.cluster.is_incomplete();
                let helped = self.refresh.answered(now, complete, &mut self.rng);
                self.helpless.note(Question::Metadata, answer.target, helped);
                if changes.brokers {
                    self.tell_addresses();
                }
                if changes.topology || !self.leader_topics.is_empty() {
                    self.tell_topology(now);
                }
                self.look_at_topics();
                for topic in changes.recreated {
                    self.topic_recreated(now, &topic);
                }
                self.metadata_told(now);
            }
            Tag::FindCoordinator => self.coordinator_answered(now, answer.target, version, answer.body())?,
            Tag::Group(kind) => {
                if let Some(group) = &mut self.group {
                    group.handle_response(now, kind, version, answer.body());
                    self.figures.generation(now, group.identity().map(|i| i.generation_id));
                }
            }
            Tag::DescribeGroup => {
                let read = DescribeGroupsResponse::decode(version, answer.body());
                let name = self.config.group.as_ref().map(|g| g.group_id.clone());
                let found = read.as_ref().ok().and_then(|read| {
                    let ours =
                        |g: &DescribedGroup<'_>| g.error_code == 0 && Some(g.group_id) == name.as_deref();
                    read.groups.iter().find(ours)
                });
                let described =
                    found.map(|g| Described { protocol_type: g.protocol_type, protocol: g.protocol_data });
                self.group_described(described);
            }
            Tag::OffsetFetch(tag) => {
                let Some(committed) = &mut self.committed else {
                    return Ok(());
                };
                let findings = committed.answered(now, version, answer.body(), tag)?;
                if findings.coordinator_lost {
                    self.coordinator_lost(now);
                }
                if findings.unknown {
                    self.refresh.request(now);
                }
                if let (Some((code, epoch)), Some(group)) = (findings.refused, &mut self.group) {
                    group.commit_refused(now, code, epoch);
                }
                if let Some(error) = findings.fatal {
                    self.fail(now, error);
                }
                self.report_all(findings.told);
                for answer in findings.answers {
                    self.committed_told(now, answer);
                }
                self.check_queries();
            }
            Tag::OffsetCommit => {
                let group = self.group.as_ref();
                let present = Present {
                    generation_id: group.and_then(|g| g.identity()).map(|i| i.generation_id),
                    joins: group.is_some_and(Group::joins),
                };
                let step = self.commits.answered(now, version, answer.body(), present)?;
                self.figures.commits_failed += u64::from(step.refused.is_some());
                if let (Some((code, _)), Some(committing)) = (&step.refused, &mut self.figures.committing) {
                    committing.error = Some(code.name());
                }
                {
                    let mut delivery = self.delivery.lock();
                    for (tp, epoch, offset) in &step.acked {
                        delivery.note_committed(tp, *epoch, *offset);
                    }
                    if planted!(LostWakeup) {
                        delivery.eat_wakeup();
                    }
                }
                if step.coordinator_lost {
                    self.coordinator_lost(now);
                }
                if step.unknown {
                    self.refresh.request(now);
                }
                if let (Some((code, generation)), Some(group)) = (step.refused, &mut self.group) {
                    group.commit_refused(now, code, generation);
                }
            }
            Tag::ListOffsets(tag) => {
                let findings = self.lookups.answered(now, version, answer.body(), tag)?;
                if findings.stale {
                    self.refresh.request(now);
                }
                self.report_all(findings.told);
                for answer in findings.answers {
                    self.looked_up(now, answer);
                }
                self.check_queries();
            }
            Tag::OffsetForLeaderEpoch(tag) => self.validation_answered(now, version, answer.body(), tag)?,
            Tag::Fetch => {
                if let Target::Broker(broker) = answer.target {
                    self.fetched(now, broker, answer)?;
                }
            }
            Tag::Admin(tag) => self.admin_answered(now, answer.target, tag, version, answer.body())?,
        }
        Ok(())
    }

    /// What metadata says of topics that the user should know of, or that decides where they begin.
    pub(super) fn look_at_topics(&mut self) {
        let wanted = self.cluster.wanted().clone();
        self.refused.retain(|name, _| wanted.contains(name));
        self.first_seen.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let Some(topic) = self.cluster.topic(&name).filter(|t| t.is_settled()) else {
                continue;
            };
            let count = topic.partition_count();
            if self.subscription.contains(&*name) {
                let first = self.first_seen.entry(Arc::clone(&name)).or_insert(count);
                // Gone: if it comes again, all of it is new.
                *first = (*first).min(count);
            }
            let refusal = topic.error.filter(|code| {
                matches!(code, ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException)
            });
            match refusal {
                Some(code) if self.refused.get(&name) != Some(&code) => {
                    let (kind, text) = if code == ErrorCode::TopicAuthorizationFailed {
                        let text =
                            format!("topic {name:?} may not be described: grant DESCRIBE and READ on it");
                        (ErrorKind::Authorization, text)
                    } else {
                        (ErrorKind::ApiMisuse, format!("{name:?} is no valid name of a topic"))
                    };
                    let error = Error::new(kind, text).with_code(code).with_fatal(false);
                    self.delivery.lock().report(error);
                    self.refused.insert(name, code);
                }
                Some(_) => {}
                None => {
                    self.refused.remove(&name);
                }
            }
        }
    }

    pub(super) fn report_all(&mut self, errors: Vec<Error>) {
        for error in errors {
            self.delivery.lock().report(error.with_fatal(false));
        }
    }

    fn fetched(&mut self, now: Timestamp, broker: BrokerId, answer: &Answer) -> Result<(), Error> {
        let findings = {
            let mut delivery = self.delivery.lock();
            let payload = (&answer.payload, answer.body_at);
            self.fetcher.answered(now, broker, answer.version, payload, &mut delivery)?
        };
        for finding in findings {
            match finding {
                Finding::StaleMetadata => self.refresh.request(now),
                Finding::Refused(error) => {
                    self.delivery.lock().report(error);
                    self.refresh.request(now);
                }
                Finding::LeaderHint { tp, leader, epoch } => {
                    self.cluster.hint(&tp, leader, epoch);
                    self.refresh.request(now);
                }
                Finding::Replica { tp, broker: replica, empty } => {
                    if !self.replica_named(now, broker, &tp, replica) && empty {
                        self.fetcher.unserved(now, &tp);
                    }
                }
                Finding::ReplicaWorked { tp } => self.replicas.worked(&tp),
                Finding::ReplicaFailed { tp } => {
                    if self.replicas.decline(now, &tp, broker) {
                        self.fetcher.outdate();
                    }
                }
                Finding::Diverges { tp, epoch, offset, found } => {
                    self.diverged(now, &tp, epoch, offset, found);
                }
                Finding::OutOfRange { tp, epoch, offset } => {
                    tracing::info!(partition = %tp, offset, %broker, "the offset is out of range");
                    self.out_of_range(now, &tp, epoch, offset);
                }
            }
        }
        Ok(())
    }

    /// A leader sends us to a replica. One whose address is not known is not gone to. Gives whether there is somebody
    /// to ask now.
    fn replica_named(
        &mut self,
        now: Timestamp,
        by: BrokerId,
        tp: &TopicPartition,
        replica: BrokerId,
    ) -> bool {
        let Some(leader) = self.cluster.leader(tp).filter(|leader| leader.broker == by) else {
            // Somebody else leads by now.
            return true;
        };
        if replica == by || !self.cluster.brokers().contains_key(&replica) {
            self.refresh.request(now);
            if self.replicas.unusable(now, tp) {
                tracing::warn!(partition = %tp, %by, %replica, "the leader names a replica that cannot be fetched from");
            }
            return false;
        }
        let follows = self.replicas.prefer(now, tp, replica, leader);
        if follows {
            tracing::debug!(partition = %tp, %replica, "fetched from the replica that the leader names");
            self.fetcher.outdate();
        }
        follows
    }

    /// Forgets all brokers and begins anew at the configured addresses (KIP-1102). Positions, what is buffered and the
    /// membership stay.
    pub(super) fn rebootstrap(&mut self, now: Timestamp, why: &'static str) {
        if !self.cluster.is_known() {
            // There is nothing to forget: it begins anew already.
            return;
        }
        tracing::warn!(why, "all brokers are forgotten, beginning at the bootstrap addresses");
        self.unanswered_since = None;
        self.cluster.forget_brokers();
        self.coordinator_lost(now);
        self.tell_addresses();
        self.refresh.request(now);
    }

    pub(super) fn tell_addresses(&mut self) {
        let gone: Vec<_> =
            self.network.brokers().filter(|id| !self.cluster.brokers().contains_key(id)).collect();
        for id in gone {
            // The coordinator may be known before metadata names it.
            if self.coordinator.broker() != Some(id) {
                self.network.forget(Target::Broker(id));
            }
        }
        for (id, broker) in self.cluster.brokers() {
            self.network.set_address(Target::Broker(*id), &broker.host, broker.port);
        }
    }
}
