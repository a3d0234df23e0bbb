//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: between kafka-protocol's structs and the group machine.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ResponseKind, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::group::{Group, JoinAnswer, JoinRequest, Rules, SyncAnswer};
use super::{Cluster, RequestId};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

impl Cluster {
    pub(super) fn handle_join_group(
        &mut self,
        now: Timestamp,
        id: RequestId,
        forced: Option<ErrorCode>,
        request: JoinGroupRequest,
    ) -> Option<ResponseKind> {
        let flight = self.in_flight.get(&id)?;
        let (node, version, client_id) = (flight.node, flight.version, flight.client_id.clone());
        let group_id = request.group_id.to_string();
        let member_id = request.member_id.to_string();
        let instance_id = request.group_instance_id.as_ref().map(|s| s.to_string());
        let session_timeout = wire_duration(request.session_timeout_ms);
        let allowed = self.config.min_session_timeout..=self.config.max_session_timeout;
        let error = match (forced, self.check_coordinator(node, &group_id)) {
            (Some(code), _) | (None, Err(code)) => Some(code),
            _ if request.session_timeout_ms < 0 || !allowed.contains(&session_timeout) => {
                Some(ErrorCode::INVALID_SESSION_TIMEOUT)
            }
            // Only a member without an id makes a group.
            _ if !member_id.is_empty() && !self.groups.contains_key(&group_id) => {
                Some(ErrorCode::UNKNOWN_MEMBER_ID)
            }
            _ => None,
        };
        if let Some(code) = error {
            return Some(join_response(version, JoinAnswer::error(&member_id, code)));
        }
        let joins_consumers =
            self.groups.get(&group_id).and_then(Group::consumer).is_some_and(|c| !c.members.is_empty());
        let prefix = instance_id.as_deref().unwrap_or(&client_id);
        let (new_member_id, known) = if joins_consumers {
            (self.rng.uuid_base64(), self.known_topics())
        } else {
            (format!("{prefix}-{}", self.rng.uuid_string()), BTreeMap::new())
        };
        let join = JoinRequest {
            request: id,
            member_id,
            new_member_id,
            instance_id,
            client_id,
            client_host: "/127.0.0.1".to_owned(),
            session_timeout,
            // Version 0 has no rebalance timeout: the session timeout stands in.
            rebalance_timeout: if version == 0 {
                session_timeout
            } else {
                wire_duration(request.rebalance_timeout_ms)
            },
            protocol_type: request.protocol_type.to_string(),
            protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata)).collect(),
            requires_known_id: version >= 4,
            supports_skip_assignment: version >= 9,
            initial_delay: self.config.initial_rebalance_delay,
            known,
        };
        self.ensure_group(node, &group_id);
        self.with_group(now, &group_id, |group| group.join(now, join));
        None
    }

    pub(super) fn ensure_group(&mut self, coordinator: i32, id: &str) {
        let rules = self.group_rules();
        self.groups.entry(id.to_owned()).or_insert_with(|| Group::new(id, coordinator, rules));
    }

    pub(super) fn group_rules(&self) -> Rules {
        Rules {
            migration: self.config.migration_policy,
            max_classic_size: self.config.max_group_size,
            max_consumer_size: self.config.max_consumer_group_size,
        }
    }

    pub(super) fn handle_sync_group(
        &mut self,
        now: Timestamp,
        id: RequestId,
        forced: Option<ErrorCode>,
        request: SyncGroupRequest,
    ) -> Option<ResponseKind> {
        let flight = self.in_flight.get(&id)?;
        let (node, version) = (flight.node, flight.version);
        let group_id = request.group_id.to_string();
        let error = match (forced, self.check_coordinator(node, &group_id)) {
            (Some(code), _) | (None, Err(code)) => Some(code),
            // Version 5 must name the protocol.
            _ if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) => {
                Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
            }
            _ if !self.groups.contains_key(&group_id) => Some(ErrorCode::UNKNOWN_MEMBER_ID),
            _ => None,
        };
        if let Some(code) = error {
            return Some(sync_response(version, SyncAnswer::error(code)));
        }
        let assignments =
            request.assignments.into_iter().map(|a| (a.member_id.to_string(), a.assignment)).collect();
        self.with_group(now, &group_id, |group| {
            group.sync(
                now,
                id,
                &request.member_id,
                request.group_instance_id.as_deref(),
                request.generation_id,
                (request.protocol_type.as_deref(), request.protocol_name.as_deref()),
                assignments,
            );
        });
        None
    }

    pub(super) fn handle_heartbeat(
        &mut self,
        now: Timestamp,
        node: i32,
        forced: Option<ErrorCode>,
        request: &HeartbeatRequest,
    ) -> ResponseKind {
        let code = match (forced, self.check_coordinator(node, &request.group_id)) {
            (Some(code), _) | (None, Err(code)) => code,
            _ => self
                .with_group(now, &request.group_id, |group| {
                    let instance = request.group_instance_id.as_deref();
                    group.heartbeat(now, &request.member_id, instance, request.generation_id)
                })
                .unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        HeartbeatResponse::default().with_error_code(code.0).into()
    }

    pub(super) fn handle_leave_group(
        &mut self,
        now: Timestamp,
        id: RequestId,
        forced: Option<ErrorCode>,
        request: &LeaveGroupRequest,
    ) -> Option<ResponseKind> {
        let flight = self.in_flight.get(&id)?;
        let (node, version) = (flight.node, flight.version);
        let mut response = LeaveGroupResponse::default();
        if let Some(code) = forced.or_else(|| self.check_coordinator(node, &request.group_id).err()) {
            return Some(response.with_error_code(code.0).into());
        }
        let who: Vec<(String, Option<String>)> = if version < 3 {
            vec![(request.member_id.to_string(), None)]
        } else {
            let instance = |m: &MemberIdentity| m.group_instance_id.as_ref().map(ToString::to_string);
            request.members.iter().map(|m| (m.member_id.to_string(), instance(m))).collect()
        };
        let codes = self
            .with_group(now, &request.group_id, |group| group.leave_all(now, &who))
            .unwrap_or_else(|| vec![ErrorCode::UNKNOWN_MEMBER_ID; who.len()]);
        if version < 3 {
            response.error_code = codes.first().map_or(0, |code| code.0);
        } else {
            for (member, code) in request.members.iter().zip(codes) {
                response.members.push(
                    MemberResponse::default()
                        .with_member_id(member.member_id.clone())
                        .with_group_instance_id(member.group_instance_id.clone())
                        .with_error_code(code.0),
                );
            }
        }
        Some(response.into())
    }
}

fn wire_duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(super) fn join_response(version: i16, answer: JoinAnswer) -> ResponseKind {
    let text = |s: String| StrBytes::from_string(s);
    let mut response = JoinGroupResponse::default()
        .with_error_code(answer.error.0)
        .with_generation_id(answer.generation)
        .with_leader(text(answer.leader))
        .with_member_id(text(answer.member_id));
    if version >= 7 {
        response.protocol_type = answer.protocol_type.map(text);
        response.protocol_name = answer.protocol_name.map(text);
    } else {
        response.protocol_name = Some(text(answer.protocol_name.unwrap_or_default()));
    }
    if version >= 9 {
        response.skip_assignment = answer.skip_assignment;
    }
    response.members = answer
        .members
        .into_iter()
        .map(|(id, instance, metadata)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(id))
                .with_group_instance_id(instance.filter(|_| version >= 5).map(text))
                .with_metadata(metadata)
        })
        .collect();
    response.into()
}

pub(super) fn sync_response(version: i16, answer: SyncAnswer) -> ResponseKind {
    let mut response =
        SyncGroupResponse::default().with_error_code(answer.error.0).with_assignment(answer.assignment);
    if version >= 5 {
        response.protocol_type = answer.protocol_type.map(StrBytes::from_string);
        response.protocol_name = answer.protocol_name.map(StrBytes::from_string);
    }
    response.into()
}
