//! JoinGroup and SyncGroup: who is let in, and with what answer.

use std::time::Duration;

use bytes::Bytes;

use super::consumer::Topics;
use super::{Answer, Group, GroupState, JoinAnswer, Member, NEW_MEMBER_JOIN_TIMEOUT, SyncAnswer};
use crate::core::RequestId;
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    pub(crate) request: RequestId,
    pub(crate) member_id: String,
    /// The id for a member that has none yet.
    pub(crate) new_member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// Version 4 and up: a dynamic member must come back with the id it is given (KIP-394).
    pub(crate) requires_known_id: bool,
    /// Version 9 and up: a restarted static leader is told not to assign (KIP-814).
    pub(crate) supports_skip_assignment: bool,
    pub(crate) initial_delay: Duration,
    /// All topics, if it is a consumer group that is joined.
    pub(crate) known: Topics,
}

impl Group {
    pub(crate) fn join(&mut self, now: Timestamp, join: JoinRequest) {
        let request = join.request;
        let id = join.member_id.clone();
        if let Err(error) = self.try_join(now, join) {
            self.answer_join(request, JoinAnswer::error(&id, error));
        }
    }

    fn try_join(&mut self, now: Timestamp, join: JoinRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if let Some(consumer) = self.consumer() {
            if !consumer.members.is_empty() {
                self.join_consumer(now, &join);
                return Ok(());
            }
            self.become_classic();
        }
        self.check_size(&join)?;
        if !self.supports_protocols(&join) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if join.member_id.is_empty() { self.join_new(now, join) } else { self.join_known(now, join) }
    }

    fn check_size(&self, join: &JoinRequest) -> Result<(), ErrorCode> {
        let inside = self.members.get(&join.member_id);
        let awaiting = self.members.values().filter(|m| m.join.is_some()).count();
        let full = match self.state {
            // Members that are already waiting may stay, others only while there is room.
            GroupState::PreparingRebalance => {
                inside.is_none_or(|m| m.join.is_none()) && awaiting >= self.rules.max_classic_size
            }
            _ => inside.is_none() && self.members.len() >= self.rules.max_classic_size,
        };
        if full { Err(ErrorCode::GROUP_MAX_SIZE_REACHED) } else { Ok(()) }
    }

    /// The first member brings the protocols; later ones must share a type and at least one that all support.
    fn supports_protocols(&self, join: &JoinRequest) -> bool {
        if self.state == GroupState::Empty || self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|(name, _)| self.members.values().all(|m| m.supports(name)))
    }

    fn join_new(&mut self, now: Timestamp, join: JoinRequest) -> Result<(), ErrorCode> {
        let new_id = join.new_member_id.clone();
        if let Some(instance) = &join.instance_id {
            return match self.statics.get(instance).cloned() {
                Some(old) => {
                    self.replace_static(now, &old, join);
                    Ok(())
                }
                None => {
                    self.add_member(now, &new_id, join);
                    Ok(())
                }
            };
        }
        if join.requires_known_id {
            self.pending.insert(new_id.clone(), now + join.session_timeout);
            self.answers.push((
                join.request,
                Answer::Join(JoinAnswer::error(&new_id, ErrorCode::MEMBER_ID_REQUIRED)),
            ));
            return Ok(());
        }
        self.add_member(now, &new_id, join);
        Ok(())
    }

    fn join_known(&mut self, now: Timestamp, join: JoinRequest) -> Result<(), ErrorCode> {
        let id = join.member_id.clone();
        if join.instance_id.is_none() && self.pending.contains_key(&id) {
            self.add_member(now, &id, join);
            return Ok(());
        }
        self.validate_member(&id, join.instance_id.as_deref())?;
        let unchanged = self.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            // It did not get the answer of this generation: here it is again.
            GroupState::CompletingRebalance if unchanged => {
                let answer = self.current_generation(&id);
                self.answer_join(join.request, answer);
            }
            // A follower that lost its answer; a leader that rejoins wants a rebalance.
            GroupState::Stable if unchanged && !self.is_leader(&id) => {
                let answer = self.current_generation(&id);
                self.answer_join(join.request, answer);
            }
            GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
                self.update_member(&id, &join);
                self.maybe_prepare_rebalance(now, join.initial_delay);
            }
            _ => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
        Ok(())
    }

    pub(super) fn current_generation(&self, member_id: &str) -> JoinAnswer {
        let members = if self.is_leader(member_id) { self.metadata_of_all() } else { Vec::new() };
        JoinAnswer {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }

    pub(super) fn metadata_of_all(&self) -> Vec<(String, Option<String>, Bytes)> {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        self.members.values().map(|m| (m.id.clone(), m.instance_id.clone(), m.metadata(&protocol))).collect()
    }

    fn add_member(&mut self, now: Timestamp, id: &str, join: JoinRequest) {
        self.pending.remove(id);
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if self.leader.is_none() {
            self.leader = Some(id.to_owned());
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        if self.state == GroupState::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        let member = Member {
            id: id.to_owned(),
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join: Some(join.request),
            sync: None,
            is_new: true,
            session_deadline: Some(now + NEW_MEMBER_JOIN_TIMEOUT),
        };
        self.members.insert(id.to_owned(), member);
        self.maybe_prepare_rebalance(now, join.initial_delay);
    }

    fn update_member(&mut self, id: &str, join: &JoinRequest) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = join.protocols.clone();
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        // The newer JoinGroup counts; the older one's connection is gone or has given up.
        member.join = Some(join.request);
    }

    /// KIP-345: an instance is back under a new member id. The old id is fenced, the assignment stays.
    fn replace_static(&mut self, now: Timestamp, old: &str, join: JoinRequest) {
        self.cancel_parked(old, ErrorCode::FENCED_INSTANCE_ID);
        let new = join.new_member_id.clone();
        let old_leader = self.leader.clone().unwrap_or_default();
        let Some(mut member) = self.members.remove(old) else { return };
        member.id.clone_from(&new);
        member.client_id.clone_from(&join.client_id);
        member.client_host.clone_from(&join.client_host);
        self.members.insert(new.clone(), member);
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        self.update_member(&new, &join);
        self.schedule_session(now, &new);
        let keeps_protocol = self.select_protocol() == self.protocol_name;
        match self.state {
            GroupState::Stable if keeps_protocol => {
                if let Some(member) = self.members.get_mut(&new) {
                    member.join = None;
                }
                self.persist();
                let mut answer = self.current_generation(&new);
                if join.supports_skip_assignment {
                    answer.skip_assignment = self.is_leader(&new);
                } else {
                    // KIP-345 without KIP-814: the leader's old id in the answer keeps the new one from assigning.
                    answer.leader = old_leader;
                    answer.members = Vec::new();
                }
                self.answer_join(join.request, answer);
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            GroupState::PreparingRebalance => self.maybe_complete_join(now),
            _ => {
                self.cancel_parked(&new, ErrorCode::UNKNOWN_MEMBER_ID);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a SyncGroup request")]
    pub(crate) fn sync(
        &mut self,
        now: Timestamp,
        request: RequestId,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(String, Bytes)>,
    ) {
        if let Some(consumer) = self.consumer.as_mut().filter(|_| self.state != GroupState::Dead) {
            let answer = consumer.sync(now, member_id, instance_id, generation, protocol);
            return self.answer_sync(request, SyncAnswer::of(answer));
        }
        let mismatch =
            |given: Option<&str>, own: &Option<String>| given.is_some_and(|g| own.as_deref() != Some(g));
        let error = if self.state == GroupState::Dead {
            Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        } else if let Err(code) = self.validate_member(member_id, instance_id) {
            Some(code)
        } else if generation != self.generation {
            Some(ErrorCode::ILLEGAL_GENERATION)
        } else if mismatch(protocol.0, &self.protocol_type) || mismatch(protocol.1, &self.protocol_name) {
            Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
        } else {
            match self.state {
                GroupState::PreparingRebalance => Some(ErrorCode::REBALANCE_IN_PROGRESS),
                GroupState::CompletingRebalance | GroupState::Stable => None,
                _ => Some(ErrorCode::UNKNOWN_MEMBER_ID),
            }
        };
        if let Some(code) = error {
            return self.answer_sync(request, SyncAnswer::error(code));
        }
        self.pending_sync.remove(member_id);
        if self.state == GroupState::Stable {
            let answer = self.sync_answer(member_id);
            self.schedule_session(now, member_id);
            return self.answer_sync(request, answer);
        }
        if let Some(member) = self.members.get_mut(member_id) {
            member.sync = Some(request);
        }
        if self.is_leader(member_id) {
            self.assign(now, assignments);
        }
    }

    /// The leader has spoken: whom it did not name gets nothing.
    fn assign(&mut self, now: Timestamp, assignments: Vec<(String, Bytes)>) {
        self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.state = GroupState::Stable;
        self.persist();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.sync_answer(&id);
            let parked = self.members.get_mut(&id).and_then(|member| member.sync.take());
            if let Some(request) = parked {
                self.schedule_session(now, &id);
                self.answer_sync(request, answer);
            }
        }
    }

    fn sync_answer(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self.members.get(member_id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}
