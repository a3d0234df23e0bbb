//! Heartbeats and the session: independent of everything else that goes on.

use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::messages::HeartbeatRequest;

use super::errors::{self, Reaction, reaction};
use super::in_flight::Ticket;
use super::{ClassicGroup, Kind, Pace, Phase, State};
use crate::config::GroupConfig;
use crate::group::GroupRequest;
use crate::planted::planted;
use crate::{Backoff, Error, ErrorKind, Timestamp};

/// When the next heartbeat is due and when the session is over.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) due: Timestamp,
    pub(super) session: Timestamp,
    /// Of heartbeats that failed.
    pub(super) backoff: Backoff,
    /// Of heartbeats; rises at once and falls slowly.
    pub(super) round_trip: Duration,
}

impl Clock {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { due: Timestamp::ZERO, session: Timestamp::NEVER, backoff, round_trip: Duration::ZERO }
    }

    /// JoinGroup or SyncGroup was answered: the coordinator starts its clock anew when it answers a parked
    /// request, which was about half a round trip ago.
    ///
    /// A heartbeat that was answered when the process ran again after a halt took longer than a session, and no
    /// other would ever correct that if every new session began with its end.
    pub(super) fn joined(&mut self, now: Timestamp, config: &GroupConfig) {
        self.session = now - self.round_trip.min(config.session_timeout / 2) + config.session_timeout;
        self.due = now + config.heartbeat_interval;
        self.backoff.reset();
    }
}

impl ClassicGroup {
    /// Whether our clock runs: there is a generation, and it makes a difference when it ends.
    pub(super) fn session_runs(&self) -> bool {
        self.generation.is_some()
            && match self.state {
                State::Stable | State::Revoking => true,
                // A parked request is answered or fails by itself; only what is owned cannot wait for it.
                State::Syncing(Phase::Sent) | State::Joining | State::Unjoined => {
                    !self.assignment.owned().is_empty()
                }
                State::Syncing(_) => true,
                State::Unsubscribed | State::Leaving { .. } | State::Expired | State::Failed => false,
            }
    }

    /// The coordinator has not been heard of for a whole session: by now it may have given our partitions to
    /// others. The member id is kept, because it may just as well be that nobody else was heard either.
    pub(super) fn check_session(&mut self, now: Timestamp) {
        if !self.session_runs() || now < self.clock.session {
            return;
        }
        if planted!(SessionNeverEnds) {
            self.clock.session = now + self.config.session_timeout;
            return;
        }
        self.forget_rounds();
        self.end_generation(true);
        self.unjoined(now, Pace::Now, "the session expired");
        self.coordinator = None;
    }

    /// The kind of heartbeat to send next, if one is wanted, whatever the time.
    pub(super) fn heartbeat_lane(&self) -> Option<Kind> {
        let wanted = self.coordinator.is_some()
            && !self.in_flight.is_live(Kind::Heartbeat)
            && !self.in_flight.is_live(Kind::Probe)
            && !matches!(self.state, State::Unjoined)
            && self.session_runs();
        let parked = self.in_flight.is_outstanding(Kind::Join) || self.in_flight.is_outstanding(Kind::Sync);
        if wanted && planted!(HeartbeatsStop) {
            return None;
        }
        wanted.then_some(if parked { Kind::Probe } else { Kind::Heartbeat })
    }

    pub(super) fn try_heartbeat(&mut self, now: Timestamp) {
        let (Some(lane), Some(generation_id)) = (self.heartbeat_lane(), self.generation) else { return };
        if now < self.clock.due {
            return;
        }
        self.clock.due = now + self.config.heartbeat_interval;
        let request = HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
        };
        let request =
            if lane == Kind::Probe { GroupRequest::Probe(request) } else { GroupRequest::Heartbeat(request) };
        self.send(now, request);
    }

    /// A heartbeat failed: the next one comes after a backoff, not after the interval.
    pub(super) fn retry_heartbeat(&mut self, now: Timestamp) {
        self.clock.due = now + self.clock.backoff.next(&mut self.rng);
    }

    fn alive(&mut self, now: Timestamp, sent: Timestamp) {
        let round_trip = now.since(sent);
        self.clock.round_trip = round_trip.max(self.clock.round_trip / 8 * 7);
        self.clock.session = self.clock.session.max(sent + self.config.session_timeout);
        self.clock.backoff.reset();
    }

    pub(super) fn heartbeat_answered(&mut self, now: Timestamp, kind: Kind, ticket: Ticket, code: ErrorCode) {
        if ticket.membership != self.membership || self.generation.is_none() {
            // Of an older generation, or of a member that has been reset since.
            return;
        }
        match reaction(kind, code) {
            Reaction::Proceed => {
                self.alive(now, ticket.sent);
                // One that is about to join again because of a failure has not left that behind.
                if matches!(self.state, State::Stable) && self.rejoin.is_none() {
                    self.rounds = 0;
                    self.join_backoff.reset();
                    self.reported = false;
                }
            }
            Reaction::Rejoin => {
                self.alive(now, ticket.sent);
                if kind == Kind::Heartbeat && matches!(self.state, State::Stable) {
                    self.want_rejoin(now, Pace::Now, "the group is rebalancing");
                }
            }
            // The group has moved on while our request is parked on the other connection; its answer decides.
            Reaction::Reset { keep_member_id: true } if kind == Kind::Probe => self.alive(now, ticket.sent),
            Reaction::Reset { .. } if planted!(Zombie) => self.alive(now, ticket.sent),
            Reaction::Reset { keep_member_id } => {
                self.reset(now, keep_member_id, "the coordinator does not know this member any more");
            }
            Reaction::Rediscover => {
                self.retry_heartbeat(now);
                self.drop_coordinator(now);
            }
            Reaction::Backoff | Reaction::TakeMemberId => self.retry_heartbeat(now),
            Reaction::Unexpected => {
                let text = format!("a heartbeat to group {} failed", self.config.group_id);
                self.report(
                    Error::new(ErrorKind::BrokerMisbehaved, text).with_code(code).with_retriable(true),
                );
                self.retry_heartbeat(now);
            }
            Reaction::Fatal => self.fail(errors::fatal(kind, code, &self.config)),
        }
    }
}
