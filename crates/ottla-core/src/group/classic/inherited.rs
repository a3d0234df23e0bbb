//! What a static member that came back has inherited (KIP-345): the group goes on with the assignment of before, and
//! nobody has said what that is.
//!
//! A leader that came back (KIP-814) watches the topics from its first sight of them on. What was added while it was
//! away, or what its earlier life did not subscribe to, would never be assigned. Before KIP-814 it does not even learn
//! that it is the leader, and nobody watches the topics. So it asks once what the group has assigned, and joins again
//! if that is not everything: rebalancing on every return would take the point out of static members.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_wire::messages::DescribeGroupsRequest;

use super::leader::Leadership;
use super::{ClassicGroup, Kind, Pace, State, blob};
use crate::group::GroupRequest;
use crate::{Timestamp, TopicPartition};

/// First JoinGroup version that tells a leader that came back that it is one (KIP-814).
pub(super) const SKIP_ASSIGNMENT: i16 = 9;

/// What is to be looked up.
#[derive(Debug)]
pub(super) enum Inherited {
    /// Whether every partition is assigned.
    Assignment,
    /// Whether this leader is still there.
    Leader(String),
}

impl ClassicGroup {
    /// Asks once it may matter: when this member is stable, and knows what there is to assign.
    pub(super) fn try_describe(&mut self, now: Timestamp) {
        let ready = match &self.inherited {
            None => false,
            Some(Inherited::Assignment) => self.leadership.as_ref().is_some_and(Leadership::sees_all),
            Some(Inherited::Leader(_)) => true,
        };
        let asked = self.in_flight.is_live(Kind::Describe);
        if ready && !asked && matches!(self.state, State::Stable) && self.coordinator.is_some() {
            let groups = vec![self.config.group_id.clone()];
            self.send(now, GroupRequest::Describe(DescribeGroupsRequest { groups, ..Default::default() }));
        }
    }

    /// The answer: the members of a stable group, and what they were assigned. Where that is not told, another
    /// assignment is sure to be whole.
    pub(super) fn described(&mut self, now: Timestamp, members: Option<Vec<(String, Bytes)>>) {
        let Some(inherited) = self.inherited.take() else { return };
        let reason = match (members, inherited) {
            (None, _) => "what the group has assigned is not known",
            (Some(members), Inherited::Leader(leader)) => {
                if members.iter().any(|(member, _)| *member == leader) {
                    return;
                }
                "the leader that the coordinator names is not there any more"
            }
            (Some(members), Inherited::Assignment) => {
                if self.leadership.as_ref().is_none_or(|leadership| is_whole(leadership, &members)) {
                    return;
                }
                "some partitions are assigned to nobody"
            }
        };
        self.want_rejoin(now, Pace::Backoff, reason);
    }
}

fn is_whole(leadership: &Leadership, members: &[(String, Bytes)]) -> bool {
    let mut assigned: BTreeSet<TopicPartition> = BTreeSet::new();
    for (_, assignment) in members {
        // What cannot be read is nobody's. Of what is named only what is known counts: members may name anything.
        let decoded = blob::decode_assignment(assignment).unwrap_or_default();
        assigned.extend(blob::partitions(&decoded).into_iter().filter(|tp| leadership.knows(tp)));
    }
    leadership.partitions().all(|tp| assigned.contains(&tp))
}
