//! Leaving: one try, never waited for without somebody who can answer.

use ottla_wire::messages::{LeaveGroupRequest, leave_group_request::MemberIdentity};

use super::{ClassicGroup, Kind, State};
use crate::Timestamp;
use crate::group::{GroupAction, GroupRequest};
use crate::planted::planted;

/// Brokers take no longer reason (KIP-800).
const MAX_REASON: usize = 255;

/// First version that carries several members, and the instance id (KIP-345).
const LEAVE_BATCH: i16 = 3;

/// First JoinGroup version that answers a first join at once with a member id (KIP-394).
const JOIN_MEMBER_ID_REQUIRED: i16 = 4;

impl ClassicGroup {
    /// Leaves the group, after the client has revoked and committed; nothing is told as lost.
    /// [`GroupAction::Left`] follows when LeaveGroup is answered or failed, or at once when there is nobody to
    /// leave or to tell. A member that has an id and has not joined yet leaves too, else the others would wait
    /// for it. A static member leaves only if the configuration says so (KIP-345, KIP-1092).
    pub fn leave(&mut self, now: Timestamp, reason: &str) {
        self.subscription.clear();
        self.left_wanted = true;
        if matches!(self.state, State::Leaving { .. }) {
            return;
        }
        self.assignment.lose_all();
        self.revocation = None;
        self.depart(now, reason);
    }

    /// The subscription is empty from now on; [`Self::wind_up`] does the rest.
    pub(super) fn end_subscription(&mut self) {
        self.left_wanted = true;
        match self.state {
            State::Unsubscribed => self.left(),
            // What was owned is lost and told; a fatal error stays.
            State::Failed => self.left(),
            _ => {}
        }
    }

    /// Nothing is owned any more.
    pub(super) fn depart(&mut self, now: Timestamp, reason: &str) {
        let id_is_on_its_way = !self.is_static()
            && self.member_id.is_empty()
            && self.in_flight.is_live(Kind::Join)
            && self.coordinator.is_some_and(|v| v.join >= JOIN_MEMBER_ID_REQUIRED);
        if id_is_on_its_way {
            self.state = State::Leaving { for_id: true };
            return;
        }
        self.forget_rounds();
        self.send_leave(now, reason);
        self.end_generation(self.is_static());
        if self.in_flight.is_outstanding(Kind::Leave) {
            self.state = State::Leaving { for_id: false };
        } else {
            self.state = State::Unsubscribed;
            self.left();
        }
    }

    /// Sends LeaveGroup if there is a member to leave and a coordinator to tell it.
    pub(super) fn send_leave(&mut self, now: Timestamp, reason: &str) {
        let Some(versions) = self.coordinator else { return };
        // Without an id of ours, an instance id would put out whoever holds it now.
        if self.member_id.is_empty() || planted!(LeaveNotSent) {
            return;
        }
        let on_close = self.config.leave_on_close && self.subscription.is_empty();
        if self.is_static() && !(on_close && versions.leave >= LEAVE_BATCH) {
            return;
        }
        self.leave_at_once(now, reason);
    }

    /// Sends LeaveGroup, of a static member too where brokers can do that.
    pub(super) fn leave_at_once(&mut self, now: Timestamp, reason: &str) {
        let Some(versions) = self.coordinator else { return };
        if self.member_id.is_empty() {
            return;
        }
        let mut request = LeaveGroupRequest { group_id: self.config.group_id.clone(), ..Default::default() };
        if versions.leave >= LEAVE_BATCH {
            request.members = vec![MemberIdentity {
                member_id: self.member_id.clone(),
                group_instance_id: self.config.group_instance_id.clone(),
                reason: Some(reason.chars().take(MAX_REASON).collect()),
            }];
        } else {
            request.member_id = self.member_id.clone();
        }
        self.send(now, GroupRequest::Leave(request));
    }

    /// The outcome of a LeaveGroup, whatever it is. One that was sent because the reader stayed away is waited
    /// for by nobody.
    pub(super) fn leave_answered(&mut self) {
        if matches!(self.state, State::Leaving { for_id: false })
            && !self.in_flight.is_outstanding(Kind::Leave)
        {
            self.left_group();
        }
    }

    /// There is nobody to leave, or LeaveGroup is over.
    pub(super) fn left_group(&mut self) {
        self.forget_rounds();
        self.end_generation(self.is_static());
        self.state = State::Unsubscribed;
        self.left();
    }

    /// Tells it to whoever waits for it.
    pub(super) fn left(&mut self) {
        if std::mem::take(&mut self.left_wanted) {
            self.actions.push_back(GroupAction::Left);
        }
    }
}
