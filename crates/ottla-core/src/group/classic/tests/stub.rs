//! A coordinator as far as members of one classic group can tell it from Kafka's: generations, the barriers of
//! JoinGroup and SyncGroup, sessions, the two-step member id.

use std::collections::{BTreeMap, BTreeSet};

use ottla_wire::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};

use super::*;

/// Who waits for an answer: a request of a client.
pub(super) type Waiter = u64;

#[derive(Clone, Debug)]
struct Known {
    metadata: Bytes,
    session: Duration,
    rebalance: Duration,
    expires: Timestamp,
    joining: Option<Waiter>,
    syncing: Option<Waiter>,
    assignment: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    /// Until this time members may join.
    Preparing(Timestamp),
    /// Until this time members may sync.
    Completing(Timestamp),
    Stable,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    members: BTreeMap<String, Known>,
    pending: BTreeSet<String>,
    leader: String,
    protocol: String,
    next_id: u32,
    /// What was written to disk with the last assignment: generation, leader, members.
    saved: (i32, String, BTreeMap<String, Known>),
    /// Until then another broker is asked in vain.
    away: Timestamp,
    /// Answers on their way out.
    pub(super) answers: Vec<(Waiter, Reply)>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            members: BTreeMap::new(),
            pending: BTreeSet::new(),
            leader: String::new(),
            protocol: String::new(),
            next_id: 0,
            saved: (0, String::new(), BTreeMap::new()),
            away: Timestamp::ZERO,
            answers: Vec::new(),
        }
    }

    pub(super) fn knows(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    /// Another broker takes over: it knows what the last assignment knew, gives everybody a new session, and
    /// until it has loaded that it is not the coordinator.
    pub(super) fn fail_over(&mut self, now: Timestamp, away: Duration) {
        self.away = now + away;
        self.pending.clear();
        (self.generation, self.leader, self.members) = self.saved.clone();
        self.phase = if self.members.is_empty() { Phase::Empty } else { Phase::Stable };
        for known in self.members.values_mut() {
            known.expires = self.away + known.session;
        }
    }

    pub(super) fn request(&mut self, now: Timestamp, from: Waiter, request: &GroupRequest) {
        if now < self.away {
            let code = ErrorCode::NotCoordinator;
            let reply = match request {
                GroupRequest::Join(_) => Reply::Join(join_error(code, "")),
                GroupRequest::Sync(_) => Reply::Sync(sync_error(code)),
                GroupRequest::Heartbeat(_) | GroupRequest::Probe(_) => Reply::Heartbeat(code),
                GroupRequest::Describe(_) => Reply::Describe(None),
                GroupRequest::Leave(_) | GroupRequest::ConsumerHeartbeat(_) => Reply::Leave,
            };
            return self.answers.push((from, reply));
        }
        match request {
            GroupRequest::Join(r) => self.join(now, from, r),
            GroupRequest::Sync(r) => self.sync(now, from, r),
            GroupRequest::Heartbeat(r) | GroupRequest::Probe(r) => {
                let code = self.heartbeat(now, r);
                self.answers.push((from, Reply::Heartbeat(code)));
            }
            GroupRequest::Leave(r) => {
                self.leave(now, r);
                self.answers.push((from, Reply::Leave));
            }
            GroupRequest::Describe(r) => panic!("{r:?} is of static members"),
            GroupRequest::ConsumerHeartbeat(r) => panic!("{r:?} is of the other protocol"),
        }
    }

    fn join(&mut self, now: Timestamp, from: Waiter, r: &JoinGroupRequest) {
        if r.member_id.is_empty() {
            self.next_id += 1;
            let id = format!("m{}", self.next_id);
            self.pending.insert(id.clone());
            return self.answer_join(from, join_error(ErrorCode::MemberIdRequired, &id));
        }
        let new = self.pending.remove(&r.member_id);
        if !new && !self.members.contains_key(&r.member_id) {
            return self.answer_join(from, join_error(ErrorCode::UnknownMemberId, ""));
        }
        let millis = |ms: i32| Duration::from_millis(ms as u64);
        let protocol = r.protocols.first().unwrap();
        protocol.name.clone_into(&mut self.protocol);
        let metadata = protocol.metadata.clone();
        let known = self.members.entry(r.member_id.clone()).or_insert(Known {
            metadata: Bytes::new(),
            session: millis(r.session_timeout_ms),
            rebalance: millis(r.rebalance_timeout_ms),
            expires: Timestamp::NEVER,
            joining: None,
            syncing: None,
            assignment: Bytes::new(),
        });
        let changed = known.metadata != metadata;
        known.metadata = metadata;
        known.expires = now + known.session;
        // As Kafka: a member that joins again without anything new is told what stands, unless it leads.
        let stands = match self.phase {
            Phase::Stable => !changed && self.leader != r.member_id,
            Phase::Completing(_) => !changed,
            Phase::Empty | Phase::Preparing(_) => false,
        };
        if stands {
            let reply = self.welcome(&r.member_id);
            return self.answer_join(from, reply);
        }
        known.joining = Some(from);
        if !matches!(self.phase, Phase::Preparing(_)) {
            self.prepare(now);
        }
        self.try_complete(now);
    }

    fn answer_join(&mut self, to: Waiter, reply: JoinReply) {
        self.answers.push((to, Reply::Join(reply)));
    }

    fn welcome(&self, member_id: &str) -> JoinReply {
        let members: Vec<_> = if member_id == self.leader {
            self.members.iter().map(|(id, known)| (id.as_str(), known.metadata.clone())).collect()
        } else {
            Vec::new()
        };
        JoinReply {
            leader: self.leader.clone(),
            protocol_name: Some(self.protocol.clone()),
            ..leading(self.generation, member_id, &members)
        }
    }

    fn prepare(&mut self, now: Timestamp) {
        let waiting: Vec<_> = self.members.values_mut().filter_map(|k| k.syncing.take()).collect();
        for waiter in waiting {
            self.answers.push((waiter, Reply::Sync(sync_error(ErrorCode::RebalanceInProgress))));
        }
        let longest = self.members.values().map(|k| k.rebalance).max().unwrap_or_default();
        self.phase = Phase::Preparing(now + longest);
    }

    fn try_complete(&mut self, now: Timestamp) {
        let Phase::Preparing(until) = self.phase else { return };
        if now < until && !self.members.values().all(|k| k.joining.is_some()) {
            return;
        }
        self.members.retain(|_, known| known.joining.is_some());
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        self.generation += 1;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().unwrap().clone();
        }
        let longest = self.members.values().map(|k| k.rebalance).max().unwrap_or_default();
        self.phase = Phase::Completing(now + longest);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let known = self.members.get_mut(&id).unwrap();
            known.expires = now + known.session;
            let waiter = known.joining.take().unwrap();
            let reply = self.welcome(&id);
            self.answer_join(waiter, reply);
        }
    }

    fn sync(&mut self, now: Timestamp, from: Waiter, r: &SyncGroupRequest) {
        let error = |code| Reply::Sync(sync_error(code));
        let generation = self.generation;
        let phase = self.phase;
        let Some(known) = self.members.get_mut(&r.member_id) else {
            return self.answers.push((from, error(ErrorCode::UnknownMemberId)));
        };
        if r.generation_id != generation {
            return self.answers.push((from, error(ErrorCode::IllegalGeneration)));
        }
        match phase {
            Phase::Empty => self.answers.push((from, error(ErrorCode::UnknownMemberId))),
            Phase::Preparing(_) => self.answers.push((from, error(ErrorCode::RebalanceInProgress))),
            Phase::Stable => {
                known.expires = now + known.session;
                let assignment = known.assignment.clone();
                self.answer_sync(from, assignment);
            }
            Phase::Completing(_) => {
                known.syncing = Some(from);
                if r.member_id != self.leader {
                    return;
                }
                for known in self.members.values_mut() {
                    known.assignment = Bytes::new();
                }
                for given in &r.assignments {
                    if let Some(known) = self.members.get_mut(&given.member_id) {
                        known.assignment = given.assignment.clone();
                    }
                }
                self.phase = Phase::Stable;
                let waiting: Vec<_> = self
                    .members
                    .values_mut()
                    .filter_map(|known| {
                        let waiter = known.syncing.take()?;
                        known.expires = now + known.session;
                        Some((waiter, known.assignment.clone()))
                    })
                    .collect();
                for (waiter, assignment) in waiting {
                    self.answer_sync(waiter, assignment);
                }
                self.saved = (self.generation, self.leader.clone(), self.members.clone());
                self.saved.2.values_mut().for_each(|known| known.syncing = None);
            }
        }
    }

    fn answer_sync(&mut self, to: Waiter, assignment: Bytes) {
        let protocol_name = Some(self.protocol.clone());
        self.answers.push((to, Reply::Sync(SyncReply { assignment, protocol_name, ..synced(&[]) })));
    }

    fn heartbeat(&mut self, now: Timestamp, r: &HeartbeatRequest) -> ErrorCode {
        let generation = self.generation;
        let Some(known) = self.members.get_mut(&r.member_id) else { return ErrorCode::UnknownMemberId };
        if r.generation_id != generation {
            return ErrorCode::IllegalGeneration;
        }
        known.expires = now + known.session;
        if matches!(self.phase, Phase::Preparing(_)) {
            ErrorCode::RebalanceInProgress
        } else {
            ErrorCode::None
        }
    }

    fn leave(&mut self, now: Timestamp, r: &LeaveGroupRequest) {
        for member in &r.members {
            self.remove(now, &member.member_id);
        }
    }

    fn remove(&mut self, now: Timestamp, member_id: &str) {
        self.pending.remove(member_id);
        let Some(known) = self.members.remove(member_id) else { return };
        if let Some(waiter) = known.joining {
            self.answer_join(waiter, join_error(ErrorCode::UnknownMemberId, ""));
        }
        if let Some(waiter) = known.syncing {
            self.answers.push((waiter, Reply::Sync(sync_error(ErrorCode::UnknownMemberId))));
        }
        if !matches!(self.phase, Phase::Preparing(_)) {
            self.prepare(now);
        }
        self.try_complete(now);
    }

    /// Sessions and barriers whose time is over.
    pub(super) fn timeout(&mut self, now: Timestamp) {
        // Members that wait at a barrier satisfy their heartbeats by it.
        let dead: Vec<_> = self
            .members
            .iter()
            .filter(|(_, k)| now >= k.expires && k.joining.is_none() && k.syncing.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in dead {
            self.remove(now, &id);
        }
        if let Phase::Completing(until) = self.phase
            && now >= until
        {
            let late: Vec<_> =
                self.members.iter().filter(|(_, k)| k.syncing.is_none()).map(|(id, _)| id.clone()).collect();
            for id in late {
                self.remove(now, &id);
            }
        }
        self.try_complete(now);
    }

    pub(super) fn next_timeout(&self) -> Timestamp {
        let sessions = self
            .members
            .values()
            .filter(|k| k.joining.is_none() && k.syncing.is_none())
            .map(|k| k.expires)
            .min()
            .unwrap_or(Timestamp::NEVER);
        match self.phase {
            Phase::Preparing(until) | Phase::Completing(until) => sessions.min(until),
            Phase::Empty | Phase::Stable => sessions,
        }
    }
}
