//! The states of a member.

use bytes::Bytes;

use crate::assignor::GroupMember;
use crate::group::JobId;

/// Where a member stands. See the [module](super) for the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GroupState {
    /// No topics, no membership.
    Unsubscribed,
    /// Wants to join.
    Unjoined,
    /// JoinGroup is sent.
    Joining,
    /// JoinGroup is answered, SyncGroup is not.
    Syncing,
    /// In a generation.
    Stable,
    /// In a generation, partitions are being given back.
    Revoking,
    /// LeaveGroup is sent.
    Leaving,
    /// `max_poll_interval` was exceeded.
    Expired,
    /// A fatal error was told.
    Failed,
}

impl GroupState {
    /// Its name, for traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsubscribed => "Unsubscribed",
            Self::Unjoined => "Unjoined",
            Self::Joining => "Joining",
            Self::Syncing => "Syncing",
            Self::Stable => "Stable",
            Self::Revoking => "Revoking",
            Self::Leaving => "Leaving",
            Self::Expired => "Expired",
            Self::Failed => "Failed",
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    Unsubscribed,
    Unjoined,
    Joining,
    Syncing(Phase),
    Stable,
    Revoking,
    /// `for_id`: LeaveGroup waits for the JoinGroup in flight to tell our member id.
    Leaving {
        for_id: bool,
    },
    Expired,
    Failed,
}

/// What is still to be done before SyncGroup is answered.
#[derive(Debug)]
pub(super) enum Phase {
    /// The leader waits for the metadata of the members' topics.
    Metadata(Vec<GroupMember>),
    /// The leader's assignment is being computed for these members.
    Computing { job: JobId, member_ids: Vec<String> },
    /// To be sent as soon as there is a coordinator. Empty for all but the leader.
    Ready(Vec<(String, Bytes)>),
    /// SyncGroup is sent.
    Sent,
}

/// How soon to join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At once, unless it went wrong too often.
    Now,
    /// After a backoff.
    Backoff,
}
