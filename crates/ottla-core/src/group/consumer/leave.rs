//! Leaving: never waited for without somebody who can answer, and not for long.

use std::time::Duration;

use ottla_wire::ErrorCode;

use super::errors;
use super::{ConsumerGroup, ConsumerState as S, Reaction, reaction};
use crate::Timestamp;
use crate::group::GroupAction;
use crate::planted::planted;

/// The epoch of a member that leaves.
const LEAVE: i32 = -1;
/// The epoch of a static member that will be back.
const LEAVE_FOR_A_WHILE: i32 = -2;

/// A leave that is not heard strands the group for a session: so long it is tried again when the coordinator moved or
/// its connection broke.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

impl ConsumerGroup {
    /// Leaves the group, after the client has revoked and committed; nothing is told as lost.
    /// [`GroupAction::Left`] follows when the leave is answered or was given up, or at once when there is nobody to
    /// leave. A static member tells that it will be back, unless the configuration says otherwise
    /// (KIP-345, KIP-1092).
    pub fn leave(&mut self, now: Timestamp) {
        self.subscription = super::Subscription::default();
        self.left_wanted = true;
        if self.state == S::Leaving {
            return;
        }
        self.assignment.lose_all();
        self.revocation = None;
        self.depart(now);
        self.drive(now);
    }

    /// The subscription is empty from now on; [`Self::wind_up`] does the rest.
    pub(super) fn end_subscription(&mut self) {
        self.left_wanted = true;
        // Of the latter, what was owned is lost and told; a fatal error stays.
        if matches!(self.state, S::Unsubscribed | S::Fatal) {
            self.left();
        }
    }

    /// On the way out: everything is revoked, then the group is left.
    pub(super) fn wind_up(&mut self, now: Timestamp) {
        let on_the_way = !matches!(self.state, S::Unsubscribed | S::Leaving | S::Fatal);
        if !on_the_way || !self.subscription.is_empty() || self.revocation.is_some() {
            return;
        }
        if self.assignment.owned().is_empty() {
            return self.depart(now);
        }
        self.state = S::PrepareLeaving;
        let all = self.assignment.owned().clone();
        self.open_revocation(now, &all);
    }

    /// Nothing is owned any more.
    fn depart(&mut self, now: Timestamp) {
        // The one that was sent because the reader stayed away will do, if nothing came after it.
        let leaving = self.in_flight.back().is_some_and(|s| s.leaves);
        // Without a coordinator it is sent as soon as there is one.
        let sent = leaving || self.send_leave(now) || self.maybe_known;
        self.owes_leave = false;
        self.forget_membership();
        if sent {
            self.state = S::Leaving;
            self.leave_until = now + PATIENCE;
        } else {
            self.state = S::Unsubscribed;
            self.left();
        }
    }

    /// Sends the leave if there may be a member to leave and there is a coordinator to tell it. It goes behind a
    /// heartbeat that is under way, also one that joins.
    pub(super) fn send_leave(&mut self, now: Timestamp) -> bool {
        if !self.coordinator || !self.maybe_known || planted!(LeaveNotSent) {
            return false;
        }
        let for_good = !self.is_static() || (self.config.leave_on_close && self.subscription.is_empty());
        let request = self.request(if for_good { LEAVE } else { LEAVE_FOR_A_WHILE });
        self.send(now, request, true);
        true
    }

    /// The outcome of a leave; a connection that broke counts as a coordinator that is not there.
    pub(super) fn leave_answered(&mut self, now: Timestamp, code: ErrorCode) {
        let again = matches!(reaction(code), Reaction::Rediscover | Reaction::Backoff);
        if !again {
            // One that joins again behind it makes the coordinator know us anew.
            self.maybe_known = self.in_flight.iter().any(|s| !s.leaves);
        }
        if self.in_flight.iter().any(|s| s.leaves) {
            return;
        }
        // One that was sent for another reason is waited for by nobody, but the group waits for who stays away.
        if self.state == S::Stale && again && now < self.leave_until {
            self.owes_leave = true;
            self.coordinator = false;
        }
        if self.state != S::Leaving {
            return;
        }
        if again && now < self.leave_until {
            self.coordinator = false;
        } else {
            self.left_group();
        }
    }

    /// A leave that was not heard is sent again as soon as there is a coordinator.
    pub(super) fn check_leaving(&mut self, now: Timestamp) {
        if self.owes_leave && (self.coordinator || now >= self.leave_until) {
            self.owes_leave = false;
            if now < self.leave_until {
                self.send_leave(now);
            }
        }
        if self.state != S::Leaving {
            return;
        }
        if now >= self.leave_until {
            return self.left_group();
        }
        if self.coordinator && !self.in_flight.iter().any(|s| s.leaves) {
            self.send_leave(now);
        }
    }

    /// There is nobody to leave, or the leave is over.
    pub(super) fn left_group(&mut self) {
        self.end_membership();
        self.state = S::Unsubscribed;
        self.left();
    }

    /// Tells it to whoever waits for it.
    pub(super) fn left(&mut self) {
        if std::mem::take(&mut self.left_wanted) {
            self.actions.push_back(GroupAction::Left);
        }
    }

    /// The coordinator has a member with our instance id. It may be ourselves: a join whose answer was lost, or a
    /// membership that ended with an error. So we let go of the id, which only its holder can, and join once more.
    pub(super) fn instance_held(&mut self, now: Timestamp, words: Option<&str>) {
        if self.released {
            let error = errors::fatal(ErrorCode::UnreleasedInstanceId, words, &self.config);
            self.maybe_known = false;
            return self.fail(now, error);
        }
        self.released = true;
        let request = self.request(LEAVE_FOR_A_WHILE);
        self.send(now, request, true);
        self.retry(now);
    }
}
