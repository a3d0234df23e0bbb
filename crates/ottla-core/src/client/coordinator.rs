//! Finding the group's coordinator, and talking to somebody in the cluster at all.
//!
//! The search belongs to everybody who waits for it: it has no deadline of its own and nobody cancels it.

use std::time::Duration;

use ottla_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use ottla_wire::{ApiKey, ErrorCode, Request, View};

use super::anybody::Question;
use super::{Client, Tag};
use crate::connection::{Role, Target};
use crate::group::{GroupVersions, Offers};
use crate::planted::planted;
use crate::{Backoff, BrokerId, Error, ErrorKind, Timestamp};

/// Key type of a group in FindCoordinator.
pub(super) const KEY_TYPE_GROUP: i8 = 0;

#[derive(Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Finding,
    Known(BrokerId),
}

/// Who coordinates the group.
#[derive(Debug)]
pub(super) struct Coordinator {
    state: State,
    backoff: Backoff,
    not_before: Timestamp,
    /// The group machine waits for it.
    pub(super) wanted: bool,
    /// The group machine was told.
    told: bool,
    /// Who said so.
    named_by: Option<Target>,
}

impl Coordinator {
    pub(super) fn new((initial, max): (Duration, Duration)) -> Self {
        Self {
            state: State::Unknown,
            backoff: Backoff::new(initial, max),
            not_before: Timestamp::ZERO,
            wanted: false,
            told: false,
            named_by: None,
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Unknown => "Unknown",
            State::Finding => "Finding",
            State::Known(_) => "Known",
        }
    }

    /// The broker that coordinates, if it is known.
    pub(super) fn broker(&self) -> Option<BrokerId> {
        match self.state {
            State::Known(broker) => Some(broker),
            State::Unknown | State::Finding => None,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        (self.state == State::Unknown).then_some(self.not_before)
    }
}

impl Client {
    /// Who coordinates is in doubt.
    pub(super) fn coordinator_lost(&mut self, now: Timestamp) {
        if let State::Known(broker) = self.coordinator.state {
            self.coordinator.state = State::Unknown;
            self.coordinator.not_before = now + self.coordinator.backoff.next(&mut self.rng);
            if let Some(named_by) = self.coordinator.named_by.take() {
                self.helpless.note(Question::Coordinator, named_by, self.coordinator.told);
            }
            if !self.cluster.brokers().contains_key(&broker) {
                // Only FindCoordinator named it: nobody else needs it, or would ever forget it.
                self.network.forget(Target::Broker(broker));
            }
        }
        if std::mem::take(&mut self.coordinator.told)
            && let Some(group) = &mut self.group
        {
            group.coordinator_lost(now);
        }
    }

    /// Whether anybody waits for the coordinator.
    fn wants_coordinator(&self) -> bool {
        self.config.group.is_some()
            && (self.coordinator.wanted
                || self.coordinator.told
                || !self.commits.is_empty()
                || self.committed.as_ref().is_some_and(|c| !c.is_empty()))
    }

    /// Finds the coordinator, connects to it, and tells the group machine.
    pub(super) fn drive_coordinator(&mut self, now: Timestamp) {
        if !self.wants_coordinator() {
            return;
        }
        match self.coordinator.state {
            State::Finding => {}
            State::Unknown => self.find_coordinator(now),
            State::Known(broker) => {
                let target = Target::Broker(broker);
                let control = self.network.open(now, target, Role::Control);
                let wants_group = self.coordinator.wanted || self.coordinator.told;
                if wants_group && self.network.open(now, target, Role::Group) && control {
                    self.tell_group(now, target);
                }
            }
        }
    }

    fn find_coordinator(&mut self, now: Timestamp) {
        if now < self.coordinator.not_before {
            return;
        }
        let (Some(target), Some(group)) = (self.anybody(now, Question::Coordinator), &self.config.group)
        else {
            return;
        };
        let versions = self.network.versions(target, Role::Control);
        let version = versions.map_or(0, |v| {
            v.pick(
                ApiKey::FindCoordinator,
                FindCoordinatorRequest::MIN_VERSION,
                FindCoordinatorRequest::MAX_VERSION,
            )
            .unwrap_or(0)
        });
        let mut request = FindCoordinatorRequest { key_type: KEY_TYPE_GROUP, ..Default::default() };
        if version >= 4 {
            request.coordinator_keys = vec![group.group_id.clone()];
        } else {
            request.key.clone_from(&group.group_id);
        }
        self.coordinator.state = State::Finding;
        let timeout = self.config.request_timeout;
        self.network.send(now, (target, Role::Control), &request, i16::MAX, Tag::FindCoordinator, timeout);
    }

    fn tell_group(&mut self, now: Timestamp, target: Target) {
        if self.coordinator.told {
            return;
        }
        let Some(group) = &mut self.group else {
            return;
        };
        let Some(versions) = self.network.versions(target, Role::Group) else {
            return;
        };
        let pick = |api: ApiKey, min, max| versions.pick(api, min, max);
        use ottla_wire::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};
        let classic = (|| {
            Ok::<_, Error>(GroupVersions {
                join: pick(ApiKey::JoinGroup, JoinGroupRequest::MIN_VERSION, JoinGroupRequest::MAX_VERSION)?,
                sync: pick(ApiKey::SyncGroup, SyncGroupRequest::MIN_VERSION, SyncGroupRequest::MAX_VERSION)?,
                heartbeat: pick(
                    ApiKey::Heartbeat,
                    HeartbeatRequest::MIN_VERSION,
                    HeartbeatRequest::MAX_VERSION,
                )?,
                leave: pick(
                    ApiKey::LeaveGroup,
                    LeaveGroupRequest::MIN_VERSION,
                    LeaveGroupRequest::MAX_VERSION,
                )?,
            })
        })();
        let offers = Offers {
            classic,
            consumer: versions.max(ApiKey::ConsumerGroupHeartbeat),
            group_version: versions.group_version(),
        };
        match group.coordinator_known(now, offers) {
            Ok(()) => {
                self.coordinator.told = true;
                self.coordinator.wanted = false;
                self.coordinator.backoff.reset();
                if let Some(named_by) = self.coordinator.named_by {
                    self.helpless.note(Question::Coordinator, named_by, true);
                }
            }
            Err(error) => self.fail(now, error),
        }
    }

    /// The end of everything but closing: every read gives the error from now on, and the group is left.
    pub(super) fn fail(&mut self, now: Timestamp, error: Error) {
        self.delivery.lock().fail_all(error.with_fatal(true));
        if let Some(group) = &mut self.group {
            group.leave(now, "the consumer cannot go on");
        }
        self.coordinator.wanted = false;
    }

    /// The request has no answer.
    pub(super) fn coordinator_not_told(&mut self, now: Timestamp, asked: Target) {
        self.helpless.note(Question::Coordinator, asked, false);
        if planted!(FindingGivenUp) {
            return;
        }
        self.coordinator_not_found(now);
    }

    /// The search failed.
    fn coordinator_not_found(&mut self, now: Timestamp) {
        if self.coordinator.state == State::Finding {
            self.coordinator.state = State::Unknown;
            self.coordinator.not_before = now + self.coordinator.backoff.next(&mut self.rng);
        }
    }

    /// Takes in the answer to FindCoordinator.
    pub(super) fn coordinator_answered(
        &mut self,
        now: Timestamp,
        asked: Target,
        version: i16,
        body: &[u8],
    ) -> Result<(), Error> {
        let result = self.find_in_answer(now, version, body);
        match self.coordinator.state {
            // Whether that is true is seen when it is used.
            State::Known(_) => self.coordinator.named_by = Some(asked),
            State::Unknown | State::Finding => self.helpless.note(Question::Coordinator, asked, false),
        }
        result
    }

    fn find_in_answer(&mut self, now: Timestamp, version: i16, body: &[u8]) -> Result<(), Error> {
        let answer = FindCoordinatorResponse::decode(version, body).map_err(|e| {
            let text = "sent an answer to FindCoordinator that cannot be read";
            Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e)
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.coordinator_not_found(now);
                return Err(error);
            }
        };
        let group_id = self.config.group.as_ref().map_or_else(String::new, |g| g.group_id.clone());
        let (code, node, host, port) = if version >= 4 {
            let Some(found) = answer.coordinators.iter().find(|c| c.key == group_id) else {
                self.coordinator_not_found(now);
                return Ok(());
            };
            (found.error_code, found.node_id, found.host, found.port)
        } else {
            (answer.error_code, answer.node_id, answer.host, answer.port)
        };
        match ErrorCode::from_i16(code) {
            ErrorCode::None => {
                let port = u16::try_from(port).ok().filter(|p| *p > 0);
                let (Some(port), 0.., 1..=255) = (port, node, host.len()) else {
                    self.coordinator_not_found(now);
                    let text = format!(
                        "named coordinator {node} at {:?}:{port:?}",
                        host.chars().take(40).collect::<String>()
                    );
                    return Err(Error::new(ErrorKind::BrokerMisbehaved, text));
                };
                // Where a broker is, metadata says: one that is sent to another address here would be looked for
                // there with all that it leads.
                match self.cluster.brokers().get(&BrokerId(node)) {
                    Some(known) if known.host == host && known.port == port => {}
                    Some(_) => self.refresh.request(now),
                    None => self.network.set_address(Target::Broker(BrokerId(node)), host, port),
                }
                self.coordinator.state = State::Known(BrokerId(node));
            }
            code @ ErrorCode::GroupAuthorizationFailed => {
                self.coordinator_not_found(now);
                let text = format!("using group {group_id:?} is not allowed: grant READ on the group");
                self.fail(now, Error::new(ErrorKind::Authorization, text).with_code(code));
            }
            code if code.is_retriable() => self.coordinator_not_found(now),
            code => {
                self.coordinator_not_found(now);
                let text = format!("the coordinator of group {group_id:?} cannot be found");
                let error = Error::new(ErrorKind::BrokerMisbehaved, text).with_code(code);
                self.delivery.lock().report(error.with_fatal(false));
            }
        }
        Ok(())
    }
}
