//! JoinGroup: asking for a place in the next generation.

use bytes::Bytes;
use ottla_wire::messages::{JoinGroupRequest, join_group_request::JoinGroupRequestProtocol};
use ottla_wire::{EncodeError, ErrorCode};

use super::blob;
use super::errors::{self, Reaction, reaction};
use super::inherited::{Inherited, SKIP_ASSIGNMENT};
use super::reply::JoinReply;
use super::{ClassicGroup, FREE_ROUNDS, Kind, PROTOCOL_TYPE, Pace, State};
use crate::assignor::{Assignor, OwnAssignor, RebalanceProtocol};
use crate::group::{GroupRequest, GroupVersions};
use crate::planted::planted;
use crate::{Error, ErrorKind, Timestamp};

/// First JoinGroup version with a reason (KIP-800).
const JOIN_REASON: i16 = 8;
/// First versions with an instance id (KIP-345).
const STATIC_MEMBERS: GroupVersions = GroupVersions { join: 5, sync: 3, heartbeat: 3, leave: 0 };

/// Milliseconds as the wire counts them: what does not fit is as long as it can be.
fn millis(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl ClassicGroup {
    /// Whether a JoinGroup is wanted and nothing but time stands in the way.
    pub(super) fn can_join(&self) -> bool {
        let wanted = match self.state {
            State::Unjoined => true,
            State::Stable => self.rejoin.is_some(),
            State::Revoking if planted!(JoinsWhileRevoking) => self.rejoin.is_some(),
            _ => false,
        };
        wanted
            && (self.revocation.is_none() || planted!(JoinsWhileRevoking))
            && self.coordinator.is_some()
            && !self.subscription.is_empty()
    }

    pub(super) fn try_join(&mut self, now: Timestamp) {
        let Some(versions) = self.coordinator else { return };
        if !self.can_join() || now < self.join_at {
            return;
        }
        let enough = versions.join >= STATIC_MEMBERS.join
            && versions.sync >= STATIC_MEMBERS.sync
            && versions.heartbeat >= STATIC_MEMBERS.heartbeat;
        if self.is_static() && !enough {
            return self.fail(Error::new(
                ErrorKind::Unsupported,
                "the coordinator does not know static members (KIP-345, Kafka 2.3): unset group_instance_id or upgrade the brokers",
            ));
        }
        let give_up = self.assignment.before_join(&self.subscription);
        if !give_up.is_empty() {
            self.open_revocation(now, &give_up);
            if matches!(self.state, State::Stable) {
                self.state = State::Revoking;
            }
            return;
        }
        self.send_join(now, versions);
    }

    fn send_join(&mut self, now: Timestamp, versions: GroupVersions) {
        let own = match self.own_protocols() {
            Ok(own) => own,
            Err(why) => return self.assignor_failed(now, &why),
        };
        let protocols = match self.protocols(own) {
            Ok(protocols) => protocols,
            Err(e) => {
                let error = Error::new(ErrorKind::ApiMisuse, "the subscription cannot be told to the group");
                return self.fail(error.with_source(e));
            }
        };
        let reason = self.rejoin.take().filter(|_| versions.join >= JOIN_REASON);
        let request = JoinGroupRequest {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols,
            reason: reason.map(str::to_owned),
        };
        self.joined_with.clone_from(&self.subscription);
        self.rounds = self.rounds.saturating_add(1).min(FREE_ROUNDS);
        self.state = State::Joining;
        self.send(now, GroupRequest::Join(request));
    }

    /// Our subscription, once for each assignor, in order of preference: the group takes the first that all share.
    fn protocols(
        &self,
        own: Vec<(String, Option<Bytes>)>,
    ) -> Result<Vec<JoinGroupRequestProtocol>, EncodeError> {
        // An eager member owns nothing here: it has given up everything.
        let claims = match self.assignment.protocol() {
            RebalanceProtocol::Eager => Vec::new(),
            RebalanceProtocol::Cooperative => blob::by_topic(self.assignment.owned()),
        };
        let (last, generation) = &self.last_assigned;
        let kafkas = self.config.assignors.iter().map(|assignor: &Assignor| {
            (assignor.name().to_owned(), assignor.subscription_user_data(last, *generation))
        });
        let protocol = |(name, user_data)| {
            let metadata = blob::encode_subscription(
                &self.subscription,
                user_data,
                &claims,
                self.generation,
                self.client_rack.as_deref(),
            )?;
            Ok(JoinGroupRequestProtocol { name, metadata })
        };
        own.into_iter().chain(kafkas).map(protocol).collect()
    }

    /// The names of the user's assignors, and what they tell the leader; or why one cannot.
    fn own_protocols(&self) -> Result<Vec<(String, Option<Bytes>)>, String> {
        let protocol = |assignor: &OwnAssignor| {
            Ok((assignor.name(), assignor.user_data(&self.subscription, &self.last_assigned.0)?))
        };
        self.config.own_assignors.iter().map(protocol).collect()
    }

    pub(super) fn join_answered(&mut self, now: Timestamp, reply: JoinReply) {
        if matches!(self.state, State::Leaving { for_id: true }) {
            // All that was wanted is the id.
            if matches!(reaction(Kind::Join, reply.error), Reaction::Proceed | Reaction::TakeMemberId) {
                self.member_id = reply.member_id;
            }
            return self.depart(now, "the consumer was closed");
        }
        match reaction(Kind::Join, reply.error) {
            Reaction::Proceed => self.joined(now, reply),
            Reaction::TakeMemberId if reply.member_id.is_empty() => {
                self.misbehaved(now, self.misbehaviour("JoinGroup asks for a member id and gives none"));
            }
            Reaction::TakeMemberId => {
                // KIP-394: the coordinator remembers only members that come back with the id.
                self.member_id = reply.member_id;
                self.membership += 1;
                self.unjoined(now, Pace::Now, "joining with the member id that the coordinator gave");
            }
            other => self.round_failed(now, Kind::Join, reply.error, other),
        }
    }

    /// An error answer to JoinGroup or SyncGroup.
    pub(super) fn round_failed(&mut self, now: Timestamp, kind: Kind, code: ErrorCode, reaction: Reaction) {
        match reaction {
            Reaction::Rediscover => self.drop_joining_coordinator(now),
            Reaction::Rejoin => self.unjoined(now, Pace::Now, "the group began another rebalance"),
            Reaction::Reset { keep_member_id } => {
                self.reset(now, keep_member_id, "the coordinator does not know this member any more");
            }
            Reaction::Unexpected => {
                let text = format!("{} of group {} failed", kind.api(), self.config.group_id);
                self.report(
                    Error::new(ErrorKind::BrokerMisbehaved, text).with_code(code).with_retriable(true),
                );
                self.unjoined(now, Pace::Backoff, "joining failed");
            }
            Reaction::Fatal => self.fail(errors::fatal(kind, code, &self.config)),
            Reaction::Backoff | Reaction::Proceed | Reaction::TakeMemberId => {
                self.unjoined(now, Pace::Backoff, "joining failed");
            }
        }
    }

    fn drop_joining_coordinator(&mut self, now: Timestamp) {
        self.unjoined(now, Pace::Backoff, "the coordinator moved while joining");
        self.drop_coordinator(now);
    }

    pub(super) fn misbehaviour(&self, text: &str) -> Error {
        Error::new(ErrorKind::BrokerMisbehaved, format!("group {}: {text}", self.config.group_id))
    }

    fn joined(&mut self, now: Timestamp, reply: JoinReply) {
        if reply.protocol_type.as_deref().is_some_and(|t| t != PROTOCOL_TYPE) {
            let code = ErrorCode::InconsistentGroupProtocol;
            return self.fail(errors::fatal(Kind::Join, code, &self.config));
        }
        let name = reply.protocol_name.as_deref().unwrap_or_default();
        if !self.config.assignor_names().iter().any(|own| own == name) {
            let text =
                format!("the coordinator picked the assignor {name:?}, which this member does not offer");
            return self.misbehaved(now, self.misbehaviour(&text));
        }
        if reply.generation_id < 0 || reply.member_id.is_empty() {
            return self.misbehaved(
                now,
                self.misbehaviour("the coordinator let this member join without a generation or a member id"),
            );
        }
        self.generation = Some(reply.generation_id);
        // Only a static member is let in at once, and whoever was here before under its name may have been put out.
        let came_back = self.is_static() && self.member_id.is_empty();
        self.member_id = reply.member_id;
        self.membership += 1;
        name.clone_into(&mut self.protocol_name);
        self.in_flight.forget(Kind::Heartbeat);
        self.in_flight.forget(Kind::Probe);
        self.clock.joined(now, &self.config);
        if reply.leader == self.member_id {
            self.inherited = (came_back && reply.skip_assignment).then_some(Inherited::Assignment);
            self.lead(now, reply.members, reply.skip_assignment);
        } else {
            let told = self.coordinator.is_none_or(|v| v.join >= SKIP_ASSIGNMENT);
            self.inherited = (came_back && !told).then_some(Inherited::Leader(reply.leader));
            self.follow();
        }
    }
}
