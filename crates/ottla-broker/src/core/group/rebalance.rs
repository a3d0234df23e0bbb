//! The join phase: when it opens, when it is over, who leads the next generation.

use std::time::Duration;

use bytes::Bytes;

use super::{Group, GroupState, JoinPhase, SyncAnswer};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

impl Group {
    /// The longest rebalance timeout of all members.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default()
    }

    pub(super) fn maybe_prepare_rebalance(&mut self, now: Timestamp, initial_delay: Duration) {
        match self.state {
            GroupState::Empty => {
                // KIP-134: a group that comes to life waits for more members.
                let timeout = self.rebalance_timeout();
                self.state = GroupState::PreparingRebalance;
                self.new_member_added = false;
                self.join_phase = Some(JoinPhase {
                    deadline: now + initial_delay,
                    initial: Some(timeout.saturating_sub(initial_delay)),
                });
                self.initial_delay = initial_delay;
                if initial_delay.is_zero() {
                    self.join_deadline(now);
                }
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now),
            GroupState::PreparingRebalance => self.maybe_complete_join(now),
            _ => {}
        }
    }

    /// Calls all members to rejoin.
    pub(super) fn prepare_rebalance(&mut self, now: Timestamp) {
        if self.state == GroupState::CompletingRebalance {
            // Who waits for the assignment must join again.
            self.members.values_mut().for_each(|m| m.assignment = Bytes::new());
            let parked: Vec<_> =
                self.members.values_mut().filter_map(|m| Some((m.id.clone(), m.sync.take()?))).collect();
            for (id, request) in parked {
                self.answer_sync(request, SyncAnswer::error(ErrorCode::REBALANCE_IN_PROGRESS));
                self.schedule_session(now, &id);
            }
        }
        self.sync_deadline = None;
        self.pending_sync.clear();
        self.state = GroupState::PreparingRebalance;
        self.join_phase = Some(JoinPhase { deadline: now + self.rebalance_timeout(), initial: None });
        self.maybe_complete_join(now);
    }

    /// Ends the join phase early when everybody who is known has joined.
    pub(super) fn maybe_complete_join(&mut self, now: Timestamp) {
        let open = self.state == GroupState::PreparingRebalance
            && self.join_phase.is_some_and(|phase| phase.initial.is_none());
        if open && self.pending.is_empty() && self.members.values().all(|m| m.join.is_some()) {
            self.complete_join(now);
        }
    }

    pub(super) fn join_deadline(&mut self, now: Timestamp) {
        let Some(phase) = self.join_phase else { return };
        if self.state != GroupState::PreparingRebalance {
            self.join_phase = None;
            return;
        }
        match phase.initial {
            // Somebody came during the delay: wait once more, up to the rebalance timeout in all.
            Some(left) if self.new_member_added && !left.is_zero() => {
                self.new_member_added = false;
                let delay = self.initial_delay.min(left);
                self.join_phase =
                    Some(JoinPhase { deadline: now + delay, initial: Some(left.saturating_sub(delay)) });
            }
            _ => self.complete_join(now),
        }
    }

    /// The next generation, of those who are there.
    fn complete_join(&mut self, now: Timestamp) {
        let missing: Vec<String> = self
            .members
            .values()
            .filter(|m| m.join.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for id in missing {
            self.drop_member(&id);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members that have not come back: they keep their place until their sessions end.
            self.join_phase = Some(JoinPhase { deadline: now + self.rebalance_timeout(), initial: None });
            return;
        }
        self.join_phase = None;
        self.pending_sync.clear();
        self.generation = if self.generation == i32::MAX { 0 } else { self.generation + 1 };
        if self.members.is_empty() {
            self.protocol_name = None;
            self.leader = None;
            self.state = GroupState::Empty;
            self.persist();
            return;
        }
        self.protocol_name = self.select_protocol();
        self.state = GroupState::CompletingRebalance;
        self.sync_deadline = Some(now + self.rebalance_timeout());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.current_generation(&id);
            self.schedule_session(now, &id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            let parked = member.join.take();
            self.pending_sync.insert(id);
            if let Some(request) = parked {
                self.answer_join(request, answer);
            }
        }
    }

    /// The leader stays if it rejoined, else somebody who did takes over. False when nobody did.
    fn elect_leader(&mut self) -> bool {
        let rejoined = |id: &String| self.members.get(id).is_some_and(|m| m.join.is_some());
        if self.leader.as_ref().is_some_and(rejoined) {
            return true;
        }
        match self.members.values().find(|m| m.join.is_some()).map(|m| m.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Each member votes for the first of its protocols that all support.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: Vec<(String, usize)> = Vec::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .map(|(name, _)| name)
                .find(|name| self.members.values().all(|m| m.supports(name)));
            let Some(vote) = vote else { continue };
            match votes.iter_mut().find(|(name, _)| name == vote) {
                Some((_, count)) => *count += 1,
                None => votes.push((vote.clone(), 1)),
            }
        }
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)
    }
}
