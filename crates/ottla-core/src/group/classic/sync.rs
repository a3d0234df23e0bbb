//! SyncGroup: learning what the leader decided, and acting on it.

use std::collections::BTreeSet;

use ottla_wire::ErrorCode;
use ottla_wire::messages::{SyncGroupRequest, sync_group_request::SyncGroupRequestAssignment};

use super::errors::{self, Reaction, reaction};
use super::reply::SyncReply;
use super::{ClassicGroup, Kind, PROTOCOL_TYPE, Pace, Phase, State, blob};
use crate::group::{GroupAction, GroupRequest};
use crate::planted::planted;
use crate::{Timestamp, TopicPartition};

/// More partitions than one member can own: an assignment with more is none. Each costs far more memory than the four
/// bytes that name it.
const MAX_ASSIGNED: usize = 200_000;

impl ClassicGroup {
    pub(super) fn try_sync(&mut self, now: Timestamp) {
        if self.coordinator.is_none() {
            return;
        }
        let (State::Syncing(phase), Some(generation_id)) = (&mut self.state, self.generation) else { return };
        let Phase::Ready(assignments) = phase else { return };
        let assignment = |(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment };
        let assignments = std::mem::take(assignments).into_iter().map(assignment).collect();
        *phase = Phase::Sent;
        let request = SyncGroupRequest {
            group_id: self.config.group_id.clone(),
            generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.to_owned()),
            protocol_name: Some(self.protocol_name.clone()),
            assignments,
        };
        self.send(now, GroupRequest::Sync(request));
    }

    pub(super) fn sync_answered(&mut self, now: Timestamp, reply: &SyncReply) {
        match reaction(Kind::Sync, reply.error) {
            Reaction::Proceed => self.synced(now, reply),
            other => self.round_failed(now, Kind::Sync, reply.error, other),
        }
    }

    fn synced(&mut self, now: Timestamp, reply: &SyncReply) {
        // KIP-559: the answer of another group's or another protocol's round is not ours.
        if reply.protocol_type.as_deref().is_some_and(|t| t != PROTOCOL_TYPE)
            || reply.protocol_name.as_deref().is_some_and(|n| n != self.protocol_name)
        {
            return self.fail(errors::fatal(Kind::Sync, ErrorCode::InconsistentGroupProtocol, &self.config));
        }
        let decoded = match blob::decode_assignment(&reply.assignment) {
            Ok(decoded) => decoded,
            Err(e) => {
                let error =
                    self.misbehaviour("the assignment that the leader sent cannot be read").with_source(e);
                return self.misbehaved(now, error);
            }
        };
        let count: usize = decoded.iter().map(|(_, numbers)| numbers.len()).sum();
        if count > MAX_ASSIGNED {
            let text = format!("the leader assigned {count} partitions, more than {MAX_ASSIGNED}");
            return self.misbehaved(now, self.misbehaviour(&text));
        }
        let target = blob::partitions(&decoded);
        let foreign =
            decoded.iter().find(|(topic, _)| !self.subscription.contains(topic)).map(|(t, _)| t.clone());
        if blob::has_negative(&decoded) {
            let error =
                self.misbehaviour("the leader assigned partitions with negative numbers, they are ignored");
            self.report(error);
        }

        self.state = State::Stable;
        self.clock.joined(now, &self.config);
        self.rejoin = None;
        let outdated = self.subscription != self.joined_with;
        if outdated {
            self.want_rejoin(now, Pace::Now, "the subscription changed while joining");
        }
        if let Some(topic) = foreign {
            // Nothing of it is taken: what is claimed in the next round is what was owned before.
            if !outdated {
                let text = format!("the leader assigned topic {topic:?}, which this member did not ask for");
                self.report(self.misbehaviour(&text));
            }
            return self.want_rejoin(now, Pace::Backoff, "the assignment does not match the subscription");
        }
        self.last_assigned = (blob::by_topic(&target), self.generation.unwrap_or(-1));
        self.apply(now, &target);
        self.recheck_metadata(now);
    }

    /// What goes is revoked first and then the member joins again (KIP-429); what is new is owned at once, for
    /// the assignor gives nobody a partition that somebody else still claims.
    fn apply(&mut self, now: Timestamp, target: &BTreeSet<TopicPartition>) {
        let mut change = self.assignment.retarget(target);
        if change.assign.len() < target.len() && planted!(AssignsTwice) {
            change.assign = target.iter().cloned().collect();
        }
        if planted!(RejoinsForEver) {
            self.want_rejoin(now, Pace::Now, "it never ends");
        }
        if !change.revoke.is_empty() && planted!(RevocationForgotten) {
            self.assignment.begin_revocation(&change.revoke);
            self.assignment.gone(&change.revoke);
            self.want_rejoin(now, Pace::Now, "partitions were given up for other members");
            change.revoke.clear();
        }
        if !change.revoke.is_empty() {
            self.want_rejoin(now, Pace::Now, "partitions were given up for other members");
            self.open_revocation(now, &change.revoke);
            self.state = State::Revoking;
        }
        if !change.assign.is_empty() {
            self.actions.push_back(GroupAction::Assign(change.assign));
        }
    }
}
