//! Revocations: partitions that the reader is asked to give back.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ClassicGroup, Kind, State};
use crate::group::GroupAction;
use crate::{Timestamp, TopicPartition};

/// A revocation that has been asked for and is not finished. There is at most one.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenRevocation {
    /// Then the machine goes on without waiting for the client's word.
    pub(super) hard_deadline: Timestamp,
}

impl ClassicGroup {
    /// `partitions` were given back and committed, or their time is over: they are nobody's now.
    pub fn revocation_finished<'a>(
        &mut self,
        now: Timestamp,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) {
        self.assignment.gone(partitions);
        if self.revocation.is_some() && self.assignment.revoking().is_empty() {
            self.end_revocation();
        }
        self.drive(now);
    }

    fn end_revocation(&mut self) {
        self.revocation = None;
        if matches!(self.state, State::Revoking) {
            self.state = State::Stable;
        }
    }

    /// How much earlier than the coordinator we stop waiting: two round trips for the commit and the JoinGroup,
    /// and the heartbeat interval, because that is how late we may learn of a rebalance; a twentieth of the
    /// rebalance timeout at least, half of it at most.
    fn margin(&self) -> Duration {
        let rebalance = self.config.rebalance_timeout;
        let trips = self.clock.round_trip.saturating_mul(2).saturating_add(self.config.heartbeat_interval);
        trips.max(rebalance / 20).min(rebalance / 2)
    }

    /// Asks for `partitions`, from now on until the deadline.
    pub(super) fn open_revocation(&mut self, now: Timestamp, partitions: &BTreeSet<TopicPartition>) {
        let rebalance = self.config.rebalance_timeout;
        let margin = self.margin();
        let deadline = now + self.config.revoke_timeout.min(rebalance.saturating_sub(margin));
        // The last commit is sent at the deadline; half the margin is its, the other half the JoinGroup's.
        let hard_deadline = deadline.max(now + rebalance.saturating_sub(margin / 2));
        self.assignment.begin_revocation(partitions);
        self.revocation = Some(OpenRevocation { hard_deadline });
        let partitions = partitions.iter().cloned().collect();
        self.actions.push_back(GroupAction::Revoke { partitions, deadline });
    }

    pub(super) fn check_revocation(&mut self, now: Timestamp) {
        if self.revocation.is_some_and(|r| now >= r.hard_deadline) {
            let lost = self.assignment.lose_revoking();
            self.lost(lost);
            self.end_revocation();
        }
    }

    /// On the way out: everything is revoked, then the group is left. A parked JoinGroup is not waited for,
    /// because others may take long; SyncGroup is, because until it is answered no commit is accepted.
    pub(super) fn wind_up(&mut self, now: Timestamp) {
        let on_the_way = matches!(
            self.state,
            State::Unjoined | State::Joining | State::Stable | State::Revoking | State::Expired
        );
        if !on_the_way || !self.subscription.is_empty() || self.revocation.is_some() {
            return;
        }
        if self.assignment.owned().is_empty() {
            return self.depart(now, "the subscription ended");
        }
        let all = self.assignment.owned().clone();
        self.open_revocation(now, &all);
        if matches!(self.state, State::Joining) {
            self.in_flight.forget(Kind::Join);
        }
        if matches!(self.state, State::Joining | State::Stable) {
            self.state = State::Revoking;
        }
    }
}
