//! Members of the classic protocol in a consumer group, as they are during an online migration. They are led by the
//! coordinator: nobody parks, nobody assigns.
//!
//! | request | what it is here |
//! |---|---|
//! | JoinGroup | a heartbeat that tells subscription and ownership; answered at once, with the member's epoch as generation |
//! | SyncGroup | asks for what the member is assigned |
//! | Heartbeat | REBALANCE_IN_PROGRESS when a join would change something: a newer target, something to give up, or something that has become free |
//! | LeaveGroup | leaves |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::member::{Classic, ConsumerMember, MemberState, Part};
use super::{ConsumerGroup, Topics};
use crate::core::group::blob::{Assigned, Subscription};
use crate::core::group::{JoinAnswer, JoinRequest, Rules, SyncAnswer};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// What a JoinGroup has done.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It is answered.
    Answer(JoinAnswer),
    /// It replaced the last member of the consumer protocol: the group becomes a classic one, then it is answered.
    Downgrade { answer: JoinAnswer, rebalance: bool },
}

impl ConsumerGroup {
    /// Whether all members but these speak the classic protocol.
    fn is_classic_without(&self, ids: &[String]) -> bool {
        self.members.values().all(|m| m.classic.is_some() || ids.contains(&m.id))
    }

    /// Whether the group may become a classic one when these members are gone.
    pub(crate) fn may_turn_classic_without(&self, ids: &[String], rules: &Rules) -> bool {
        let left = self.members.keys().filter(|id| !ids.contains(id)).count();
        left > 0 && self.may_turn_classic(ids, left, rules)
    }

    fn may_turn_classic(&self, ids: &[String], left: usize, rules: &Rules) -> bool {
        self.is_classic_without(ids) && rules.migration.downgrades() && left <= rules.max_classic_size
    }

    /// All classic members must have a protocol in common.
    fn supports_protocols(&self, join: &JoinRequest) -> bool {
        let mut classic = self.members.values().filter_map(|m| m.classic.as_ref()).peekable();
        if join.protocol_type != "consumer" || join.protocols.is_empty() {
            return false;
        }
        classic.peek().is_none() || {
            let classic: Vec<_> = classic.collect();
            join.protocols.iter().any(|(name, _)| classic.iter().all(|c| c.supports(name)))
        }
    }

    /// `known` are all topics of the cluster.
    pub(crate) fn join(
        &mut self,
        now: Timestamp,
        join: &JoinRequest,
        known: &Topics,
        rules: &Rules,
    ) -> Result<Joined, ErrorCode> {
        if !rules.migration.is_enabled() {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let unknown = join.member_id.is_empty();
        let id = if unknown { &join.new_member_id } else { &join.member_id };
        if self.members.len() >= rules.max_consumer_size && !self.members.contains_key(id) {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if !self.supports_protocols(join) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if unknown && join.instance_id.is_none() && join.requires_known_id {
            return Ok(Joined::Answer(JoinAnswer::error(id, ErrorCode::MEMBER_ID_REQUIRED)));
        }
        // Kafka has no good answer to one that cannot be read either.
        let read = join.protocols.first().and_then(|(_, metadata)| Subscription::read(metadata.clone()));
        let subscription = read.ok_or(ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let replaces_last = self.enter_classic(join, id, rules)?;
        let changed = self.update_classic(join, id, &subscription);
        self.follow_topics(changed, known);
        let rebalance = self.target_epoch < self.epoch;
        if !replaces_last {
            self.aim();
        }
        if !replaces_last || !rebalance {
            let ids: BTreeMap<&str, _> = known.iter().map(|(name, t)| (name.as_str(), t.id)).collect();
            let owned = subscription.owned.iter().filter_map(|(t, p)| Some((*ids.get(t.as_str())?, *p)));
            self.reconcile(now, id, changed, Some(&owned.collect()));
        }
        let Some(member) = self.members.get_mut(id) else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        member.session_deadline = Some(now + join.session_timeout);
        let timeout = member.rebalance_timeout;
        let protocol = member.classic.as_mut().and_then(|classic| {
            (classic.join_deadline, classic.sync_deadline) = (None, Some(now + timeout));
            classic.protocol().map(str::to_owned)
        });
        let answer = JoinAnswer {
            generation: member.epoch,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: protocol,
            ..JoinAnswer::error(id, ErrorCode::NONE)
        };
        Ok(if replaces_last { Joined::Downgrade { answer, rebalance } } else { Joined::Answer(answer) })
    }

    /// Finds the member, or lets it in. True: it replaces the last one of the consumer protocol, and the group may
    /// become a classic one.
    fn enter_classic(&mut self, join: &JoinRequest, id: &str, rules: &Rules) -> Result<bool, ErrorCode> {
        let Some(instance) = &join.instance_id else {
            self.members.entry(id.to_owned()).or_insert_with(|| ConsumerMember::new(id));
            return Ok(false);
        };
        let owner = self.statics.get(instance).cloned();
        if !join.member_id.is_empty() {
            return match owner {
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(owner) if owner != id => Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => Ok(self.replaces_last(id, rules)),
            };
        }
        let Some(owner) = owner else {
            self.members.insert(id.to_owned(), ConsumerMember::new(id));
            return Ok(false);
        };
        let last = self.replaces_last(&owner, rules);
        self.replace(&owner, id);
        Ok(last)
    }

    fn replaces_last(&self, owner: &str, rules: &Rules) -> bool {
        self.members.get(owner).is_some_and(|m| m.classic.is_none())
            && self.may_turn_classic(&[owner.to_owned()], self.members.len(), rules)
    }

    /// True: its subscription has changed.
    fn update_classic(&mut self, join: &JoinRequest, id: &str, subscription: &Subscription) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let changed = member.topics != subscription.topics || member.regex.is_some();
        member.topics.clone_from(&subscription.topics);
        member.regex = None;
        member.instance_id = join.instance_id.clone().or_else(|| member.instance_id.take());
        member.rack = subscription.rack.clone().or_else(|| member.rack.take());
        member.rebalance_timeout = join.rebalance_timeout;
        member.client_id.clone_from(&join.client_id);
        member.client_host.clone_from(&join.client_host);
        member.classic = Some(Classic::new(join.session_timeout, join.protocols.clone()));
        member.rebalance_deadline = None;
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        changed
    }

    /// The member that a request names.
    fn named(&self, member_id: &str, instance_id: Option<&str>) -> Result<&ConsumerMember, ErrorCode> {
        let id = match instance_id {
            None => member_id,
            Some(instance) => match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(owner) if owner != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(owner) => owner.as_str(),
            },
        };
        self.members.get(id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    /// The member that a request of the classic protocol comes from.
    fn caller(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<&ConsumerMember, ErrorCode> {
        let member = self.named(member_id, instance_id)?;
        if member.classic.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if member.epoch == generation { Ok(member) } else { Err(ErrorCode::ILLEGAL_GENERATION) }
    }

    pub(crate) fn sync(
        &mut self,
        now: Timestamp,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
    ) -> Result<SyncAnswer, ErrorCode> {
        let member = self.caller(member_id, instance_id, generation)?;
        let own = member.classic.as_ref().and_then(Classic::protocol);
        if protocol.0.is_some_and(|t| t != "consumer") || protocol.1.is_some_and(|p| Some(p) != own) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if self.target_epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            self.call_to_join(now, member_id);
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let assignment = self.told(member, member.assigned.keys());
        self.hear(now, member_id);
        if let Some(classic) = self.members.get_mut(member_id).and_then(|m| m.classic.as_mut()) {
            classic.sync_deadline = None;
        }
        Ok(SyncAnswer {
            error: ErrorCode::NONE,
            protocol_type: protocol.0.map(str::to_owned),
            protocol_name: protocol.1.map(str::to_owned),
            assignment,
        })
    }

    /// As the member is told partitions; what has no name is left out.
    pub(super) fn told<'a>(&self, member: &ConsumerMember, parts: impl Iterator<Item = &'a Part>) -> Bytes {
        let metadata = member.classic.as_ref().and_then(|c| c.protocols.first());
        let version = metadata.and_then(|(_, m)| Subscription::read(m.clone())).map_or(0, |s| s.version);
        let names: BTreeMap<_, &String> = self.topics.iter().map(|(name, t)| (t.id, name)).collect();
        let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (id, partition) in parts {
            if let Some(name) = names.get(id) {
                topics.entry((*name).clone()).or_default().push(*partition);
            }
        }
        Assigned::write(version, &topics)
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Timestamp,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        let member = match self.caller(member_id, instance_id, generation) {
            Ok(member) => member,
            Err(code) => return code,
        };
        let behind = member.epoch < self.target_epoch;
        let joins = behind
            || match member.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits(member),
            };
        self.hear(now, member_id);
        if joins {
            self.call_to_join(now, member_id);
            return ErrorCode::REBALANCE_IN_PROGRESS;
        }
        ErrorCode::NONE
    }

    /// Whether somebody else holds a partition that the member shall have.
    fn waits(&self, member: &ConsumerMember) -> bool {
        let others = |part: &Part| self.members.values().any(|m| m.id != member.id && m.holds(part));
        self.target_of(&member.id).iter().any(|part| !member.assigned.contains_key(part) && others(part))
    }

    fn hear(&mut self, now: Timestamp, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id)
            && let Some(classic) = &member.classic
        {
            member.session_deadline = Some(now + classic.session_timeout);
        }
    }

    fn call_to_join(&mut self, now: Timestamp, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = now + member.rebalance_timeout;
            if let Some(classic) = &mut member.classic {
                classic.join_deadline.get_or_insert(deadline);
            }
        }
    }

    /// Who shall be taken out by a LeaveGroup, which may name members of either protocol.
    pub(crate) fn leaving(&self, member_id: &str, instance_id: Option<&str>) -> Result<String, ErrorCode> {
        // An administrator removes an instance without knowing its member id.
        match instance_id.and_then(|instance| self.statics.get(instance)) {
            Some(owner) if member_id.is_empty() => Ok(owner.clone()),
            _ => self.named(member_id, instance_id).map(|member| member.id.clone()),
        }
    }

    /// What a classic group is made of: members with the target of each, in the names of topics.
    pub(crate) fn classic_members(&self) -> Vec<(ConsumerMember, Classic, Bytes)> {
        let member = |m: &ConsumerMember| {
            let told = self.told(m, self.target_of(&m.id).iter());
            Some((m.clone(), m.classic.clone()?, told))
        };
        self.members.values().filter_map(member).collect()
    }

    /// A consumer group made of a classic one of this generation. `known` are all topics of the cluster.
    pub(crate) fn of_classic(
        id: &str,
        generation: i32,
        members: Vec<ConsumerMember>,
        known: &Topics,
    ) -> Self {
        let mut group = Self::new(id);
        (group.epoch, group.target_epoch) = (generation, generation);
        for member in members {
            if let Some(instance) = &member.instance_id {
                group.statics.insert(instance.clone(), member.id.clone());
            }
            let held: BTreeSet<Part> = member.assigned.keys().copied().collect();
            group.target.insert(member.id.clone(), held);
            group.members.insert(member.id.clone(), member);
        }
        group.topics = group.subscribed(known);
        group
    }
}

impl ConsumerMember {
    /// A stable member of the classic protocol that owns this.
    pub(crate) fn classic(id: &str, generation: i32, classic: Classic, assigned: BTreeSet<Part>) -> Self {
        let mut member = Self::new(id);
        (member.epoch, member.previous_epoch) = (generation, generation);
        member.assigned = assigned.into_iter().map(|part| (part, generation)).collect();
        member.classic = Some(classic);
        member
    }
}
