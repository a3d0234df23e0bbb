//! A classic consumer group, with the rules of Kafka's group coordinator. Pure: time comes in, answers come out.
//!
//! | from | event | to |
//! |---|---|---|
//! | Empty | first member joins | PreparingRebalance |
//! | PreparingRebalance | all known members joined and nobody is pending, or the rebalance timeout | CompletingRebalance, Empty when nobody is left |
//! | CompletingRebalance | the leader syncs | Stable |
//! | CompletingRebalance | a member joins with other protocols, leaves, expires, or does not sync in time | PreparingRebalance |
//! | Stable | a new member, the leader rejoins, a member with other protocols, a leave, an expiry | PreparingRebalance |
//! | Empty | DeleteGroups | Dead |

mod blob;
pub(crate) mod consumer;
mod info;
mod join;
mod member;
mod migration;
mod offsets;
mod rebalance;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

pub use info::{GroupInfo, GroupMember};
pub(crate) use join::JoinRequest;
pub(crate) use member::Member;
pub use migration::MigrationPolicy;
pub(crate) use migration::Rules;
pub(crate) use offsets::Offsets;
pub use offsets::{Commit, Committed};

use self::consumer::ConsumerGroup;
use super::RequestId;
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// A new member that waits in JoinGroup is given up after this long: nobody would notice that its client is gone.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// The state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// No members; committed offsets may be there.
    Empty,
    /// Members are called to (re)join.
    PreparingRebalance,
    /// All joined, the leader's assignment is awaited.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Of a consumer group (KIP-848): a target assignment is to be computed.
    Assigning,
    /// Of a consumer group (KIP-848): members are on their way to their target assignments.
    Reconciling,
    /// The group is gone.
    Dead,
}

impl GroupState {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Dead => "Dead",
        }
    }
}

/// What the group says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinAnswer {
    pub(crate) error: ErrorCode,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// Member id, instance id and metadata: for the leader only.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

impl JoinAnswer {
    pub(crate) fn error(member_id: &str, error: ErrorCode) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncAnswer {
    pub(crate) error: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) assignment: Bytes,
}

impl SyncAnswer {
    pub(crate) fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// What a coordinator would find of a group in `__consumer_offsets`, besides the offsets.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    generation: i32,
    protocol_type: Option<String>,
    protocol_name: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
}

/// The open join phase.
#[derive(Debug, Clone, Copy)]
struct JoinPhase {
    deadline: Timestamp,
    /// `group.initial.rebalance.delay.ms` runs: wait for the deadline even when everybody is there. Holds how much
    /// of the rebalance timeout is left for further rounds.
    initial: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) state: GroupState,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol_name: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Instance id to member id (KIP-345).
    statics: BTreeMap<String, String>,
    /// Ids given out by MEMBER_ID_REQUIRED that have not joined yet, with their deadline (KIP-394).
    pending: BTreeMap<String, Timestamp>,
    /// Members of this generation that have not synced.
    pending_sync: BTreeSet<String>,
    join_phase: Option<JoinPhase>,
    sync_deadline: Option<Timestamp>,
    new_member_added: bool,
    initial_delay: Duration,
    persisted: Snapshot,
    pub(crate) offsets: Offsets,
    /// The node that coordinates the group now.
    pub(crate) coordinator: i32,
    /// The members of a consumer group (KIP-848), whichever protocol they speak; then there are none in `members`.
    consumer: Option<Box<ConsumerGroup>>,
    pub(crate) rules: Rules,
    answers: Vec<(RequestId, Answer)>,
}

impl Group {
    pub(crate) fn new(id: &str, coordinator: i32, rules: Rules) -> Self {
        Self {
            id: id.to_owned(),
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            join_phase: None,
            sync_deadline: None,
            new_member_added: false,
            initial_delay: Duration::ZERO,
            persisted: Snapshot::default(),
            offsets: Offsets::default(),
            coordinator,
            consumer: None,
            rules,
            answers: Vec::new(),
        }
    }

    pub(crate) fn consumer(&self) -> Option<&ConsumerGroup> {
        self.consumer.as_deref()
    }

    pub(crate) fn consumer_mut(&mut self) -> Option<&mut ConsumerGroup> {
        self.consumer.as_deref_mut()
    }

    /// An empty group changes its type; what was committed stays.
    pub(crate) fn become_consumer(&mut self) {
        self.consumer = Some(Box::new(ConsumerGroup::new(&self.id)));
        self.protocol_type = Some("consumer".to_owned());
        self.pending.clear();
    }

    /// As [`become_consumer`](Self::become_consumer), the other way.
    fn become_classic(&mut self) {
        self.consumer = None;
        (self.protocol_type, self.generation) = (None, 0);
    }

    /// What a consumer group's members did shows in the group.
    pub(crate) fn follow_consumer(&mut self) {
        if let Some(consumer) = &self.consumer
            && self.state != GroupState::Dead
        {
            (self.state, self.generation) = (consumer.state(), consumer.epoch);
        }
    }

    /// How many members the group has.
    pub(crate) fn size(&self) -> usize {
        self.consumer().map_or(self.members.len(), |consumer| consumer.members.len())
    }

    /// Answers to requests, also ones that were parked.
    pub(crate) fn take_answers(&mut self) -> Vec<(RequestId, Answer)> {
        std::mem::take(&mut self.answers)
    }

    fn answer_join(&mut self, request: RequestId, answer: JoinAnswer) {
        self.answers.push((request, Answer::Join(answer)));
    }

    fn answer_sync(&mut self, request: RequestId, answer: SyncAnswer) {
        self.answers.push((request, Answer::Sync(answer)));
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// When the group has something to do by itself.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let sessions = self.members.values().filter_map(|m| m.session_deadline);
        let pending = self.pending.values().copied();
        let phases = self.join_phase.map(|phase| phase.deadline).into_iter().chain(self.sync_deadline);
        let consumer = self.consumer().and_then(ConsumerGroup::next_deadline);
        sessions.chain(pending).chain(phases).chain(consumer).min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(late) = self.consumer().and_then(|consumer| consumer.next_late(now)) {
            self.fence(now, &[late]);
        }
        let overdue: Vec<String> =
            self.pending.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in overdue {
            self.pending.remove(&id);
            self.maybe_complete_join(now);
        }
        let overdue: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.session_deadline.is_some_and(|at| at <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in overdue {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.session_deadline = None;
            // A member that waits for the others is alive by definition, unless it is new: see above.
            if member.is_new || (member.join.is_none() && member.sync.is_none()) {
                self.remove_member(now, &id);
            }
        }
        if self.join_phase.is_some_and(|phase| phase.deadline <= now) {
            self.join_deadline(now);
        }
        if self.sync_deadline.is_some_and(|at| at <= now) {
            self.sync_deadline = None;
            let missing: Vec<String> = self.pending_sync.iter().cloned().collect();
            if !missing.is_empty() {
                for id in &missing {
                    self.drop_member(id);
                }
                self.prepare_rebalance(now);
            }
        }
    }

    /// Checks that a request comes from a member of the group that is not fenced.
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(id) if id != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Timestamp,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        if let Some(consumer) = &mut self.consumer {
            return consumer.heartbeat(now, member_id, instance_id, generation);
        }
        if let Err(code) = self.validate_member(member_id, instance_id) {
            return code;
        }
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.schedule_session(now, member_id);
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            // A member may beat as soon as it has joined.
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::NONE,
            _ => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// One member (or, static, instance) leaves a classic group.
    fn leave(&mut self, now: Timestamp, member_id: &str, instance_id: Option<&str>) -> ErrorCode {
        if self.state == GroupState::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        if let Some(instance) = instance_id {
            // An administrator removes an instance without knowing its member id.
            return match self.statics.get(instance).cloned() {
                None => ErrorCode::UNKNOWN_MEMBER_ID,
                Some(id) if !member_id.is_empty() && id != member_id => ErrorCode::FENCED_INSTANCE_ID,
                Some(id) => {
                    self.remove_member(now, &id);
                    ErrorCode::NONE
                }
            };
        }
        if self.pending.remove(member_id).is_some() {
            self.maybe_complete_join(now);
            return ErrorCode::NONE;
        }
        if !self.members.contains_key(member_id) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.remove_member(now, member_id);
        ErrorCode::NONE
    }

    /// Whether an OffsetCommit with this identity is accepted.
    pub(crate) fn validate_commit(
        &mut self,
        now: Timestamp,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            // Somebody without membership, while the group has members.
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.schedule_session(now, member_id);
        Ok(())
    }

    pub(crate) fn schedule_session(&mut self, now: Timestamp, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline = Some(now + member.session_timeout);
        }
    }

    /// DeleteGroups.
    pub(crate) fn delete(&mut self) -> ErrorCode {
        match self.state {
            GroupState::Dead => ErrorCode::GROUP_ID_NOT_FOUND,
            GroupState::Empty => {
                self.state = GroupState::Dead;
                ErrorCode::NONE
            }
            _ => ErrorCode::NON_EMPTY_GROUP,
        }
    }

    /// Remembers what a new coordinator would find.
    fn persist(&mut self) {
        let mut members = self.members.clone();
        for member in members.values_mut() {
            member.join = None;
            member.sync = None;
        }
        self.persisted = Snapshot {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            members,
        };
    }

    /// The coordinator changed: parked requests are sent away, and the group is what was persisted last.
    pub(crate) fn migrate(&mut self, now: Timestamp, coordinator: i32, consumer_session: Duration) {
        self.coordinator = coordinator;
        if let Some(consumer) = &mut self.consumer {
            return consumer.migrate(now, consumer_session);
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.cancel_parked(&id, ErrorCode::NOT_COORDINATOR);
        }
        let snapshot = self.persisted.clone();
        self.generation = snapshot.generation;
        self.protocol_type = snapshot.protocol_type;
        self.protocol_name = snapshot.protocol_name;
        self.leader = snapshot.leader;
        self.members = snapshot.members;
        self.statics =
            self.members.values().filter_map(|m| Some((m.instance_id.clone()?, m.id.clone()))).collect();
        self.pending.clear();
        self.pending_sync.clear();
        self.join_phase = None;
        self.sync_deadline = None;
        self.state = if self.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        for member in self.members.values_mut() {
            member.session_deadline = Some(now + member.session_timeout);
        }
    }

    /// Answers a member's parked JoinGroup and SyncGroup with an error.
    fn cancel_parked(&mut self, member_id: &str, error: ErrorCode) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let (join, sync) = (member.join.take(), member.sync.take());
        if let Some(request) = join {
            self.answer_join(request, JoinAnswer::error(member_id, error));
        }
        if let Some(request) = sync {
            self.answer_sync(request, SyncAnswer::error(error));
        }
    }

    /// Takes a member out without thinking about a rebalance.
    fn drop_member(&mut self, member_id: &str) {
        self.cancel_parked(member_id, ErrorCode::UNKNOWN_MEMBER_ID);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        self.pending_sync.remove(member_id);
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// A member left or expired.
    fn remove_member(&mut self, now: Timestamp, member_id: &str) {
        self.drop_member(member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            GroupState::PreparingRebalance => self.maybe_complete_join(now),
            _ => {}
        }
    }
}
