//! The steps that all parts of the member share: what to do next, and what to do when it went wrong.

use super::{ClassicGroup, FREE_ROUNDS, Kind, Pace, Phase, State};
use crate::group::{GroupAction, GroupRequest};
use crate::{Error, Timestamp, TopicPartition};

impl ClassicGroup {
    pub(super) fn is_static(&self) -> bool {
        self.config.group_instance_id.is_some()
    }

    /// Does what has become due or possible. After every input; repeating it changes nothing.
    pub(super) fn drive(&mut self, now: Timestamp) {
        self.check_session(now);
        self.check_revocation(now);
        self.wind_up(now);
        self.check_metadata(now);
        self.try_join(now);
        self.try_sync(now);
        self.try_heartbeat(now);
        self.try_describe(now);
        let wants = !matches!(
            self.state,
            State::Unsubscribed | State::Leaving { .. } | State::Expired | State::Failed
        );
        if wants && self.coordinator.is_none() && !self.finding {
            self.finding = true;
            self.actions.push_back(GroupAction::FindCoordinator);
        }
    }

    pub(super) fn send(&mut self, now: Timestamp, request: GroupRequest) {
        self.in_flight.sent(request.kind(), now, self.membership);
        self.actions.push_back(GroupAction::Send(request));
    }

    /// Membership is wanted and not there.
    pub(super) fn unjoined(&mut self, now: Timestamp, pace: Pace, reason: &'static str) {
        self.forget_rounds();
        self.end_leadership();
        self.state = State::Unjoined;
        self.rejoin = Some(reason);
        self.join_at = self.paced(now, pace);
    }

    /// The generation stands, and another one is wanted.
    pub(super) fn want_rejoin(&mut self, now: Timestamp, pace: Pace, reason: &'static str) {
        if self.rejoin.is_none() && matches!(self.state, State::Stable | State::Revoking) {
            self.rejoin = Some(reason);
            self.join_at = self.paced(now, pace);
        }
    }

    pub(super) fn paced(&mut self, now: Timestamp, pace: Pace) -> Timestamp {
        match pace {
            Pace::Now if self.rounds < FREE_ROUNDS => now,
            _ => now + self.join_backoff.next(&mut self.rng),
        }
    }

    /// The round that is under way is over for us: its answers do not count.
    pub(super) fn forget_rounds(&mut self) {
        self.inherited = None;
        self.in_flight.forget(Kind::Describe);
        self.in_flight.forget(Kind::Join);
        self.in_flight.forget(Kind::Sync);
    }

    pub(super) fn join_failed(&mut self, now: Timestamp, pace: Pace) {
        if matches!(self.state, State::Joining | State::Syncing(_)) {
            self.unjoined(now, pace, "joining failed");
        } else if matches!(self.state, State::Leaving { for_id: true }) {
            self.left_group();
        }
    }

    /// The generation is over: everything owned is lost.
    pub(super) fn end_generation(&mut self, keep_member_id: bool) {
        self.generation = None;
        self.membership += 1;
        if !keep_member_id {
            self.member_id.clear();
        }
        self.rejoin = None;
        self.revocation = None;
        self.in_flight.forget(Kind::Heartbeat);
        self.in_flight.forget(Kind::Probe);
        self.end_leadership();
        let lost = self.assignment.lose_all();
        self.lost(lost);
    }

    /// As [`Self::end_generation`], and joins again.
    pub(super) fn reset(&mut self, now: Timestamp, keep_member_id: bool, reason: &'static str) {
        if matches!(self.state, State::Leaving { for_id: true }) {
            return self.left_group();
        }
        self.end_generation(keep_member_id);
        self.unjoined(now, Pace::Now, reason);
    }

    pub(super) fn lost(&mut self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            self.actions.push_back(GroupAction::Lost(partitions));
        }
    }

    pub(super) fn drop_coordinator(&mut self, now: Timestamp) {
        self.coordinator = None;
        self.in_flight.forget(Kind::Heartbeat);
        self.in_flight.forget(Kind::Probe);
        match self.state {
            State::Joining | State::Syncing(Phase::Sent) => {
                self.unjoined(now, Pace::Backoff, "the coordinator was lost while joining");
            }
            State::Leaving { for_id: true } => self.left_group(),
            _ => {}
        }
    }

    /// A broker or another member broke the protocol: told once in a row, and tried again.
    pub(super) fn misbehaved(&mut self, now: Timestamp, error: Error) {
        if !matches!(self.state, State::Leaving { .. }) {
            self.report(error);
        }
        self.join_failed(now, Pace::Backoff);
    }

    pub(super) fn report(&mut self, error: Error) {
        if !self.reported {
            self.reported = true;
            self.actions.push_back(GroupAction::Report(error));
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        if matches!(self.state, State::Leaving { for_id: true }) {
            return self.left_group();
        }
        self.forget_rounds();
        self.end_generation(true);
        self.state = State::Failed;
        self.actions.push_back(GroupAction::Fail(error.with_fatal(true)));
        self.left();
    }
}
