//! Group membership: who owns which partition, and how the coordinator is kept informed.
//!
//! `classic` is the JoinGroup protocol. It decides nothing about records: it asks for partitions to be
//! revoked, assigned or given up as lost through [`GroupAction`], and the client carries that out on
//! [`delivery`](crate::delivery).

use ottla_wire::messages::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};

use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember};
use crate::{Error, Timestamp, TopicPartition};

/// Tells one computation of an assignment from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// An assignment to be computed away from the thread that heartbeats; the result is fed back.
#[derive(Clone, Debug)]
pub struct AssignJob {
    /// Goes back with the result.
    pub id: JobId,
    /// The assignor that all members share.
    pub assignor: Assignor,
    /// The members as they described themselves.
    pub members: Vec<GroupMember>,
    /// The topics they subscribe to, as far as they exist.
    pub topics: ClusterTopics,
}

impl AssignJob {
    /// Computes the assignment. Pure, and possibly long: not for the thread that drives the client.
    pub fn run(&self) -> GroupAssignment {
        self.assignor.assign(&self.members, &self.topics)
    }
}

/// The identity that a commit carries (KIP-447 calls it group metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupIdentity {
    /// `group.id`.
    pub group_id: String,
    /// The classic generation, -1 without one.
    pub generation_id: i32,
    /// Empty without one.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
}

/// A request to the coordinator, on the group connection; only `Leave` goes over the control connection.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// JoinGroup: may be parked by the coordinator for as long as the rebalance timeout.
    Join(JoinGroupRequest),
    /// SyncGroup.
    Sync(SyncGroupRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup.
    Leave(LeaveGroupRequest),
}

/// What a group machine wants done, drained by the client after every input.
#[derive(Debug)]
pub enum GroupAction {
    /// Find the coordinator (again); `coordinator_known` is called when it is connected.
    FindCoordinator,
    /// Send this to the coordinator; exactly one `handle_response` or `handle_failure` follows.
    Send(GroupRequest),
    /// Compute this elsewhere and feed the result to `assignment_computed`.
    Compute(AssignJob),
    /// The leader needs these topics' metadata; `metadata_changed` is called with them.
    WantMetadata(Vec<String>),
    /// Take these partitions back from the reader; `revocation_finished` is called when they are done and
    /// committed, or when the deadline has passed. No JoinGroup is sent meanwhile.
    Revoke {
        /// Never empty.
        partitions: Vec<TopicPartition>,
        /// From when the machine learned of it.
        deadline: Timestamp,
    },
    /// These partitions are owned from now on. Kept ones are not among them.
    Assign(Vec<TopicPartition>),
    /// These partitions are gone without a chance to commit.
    Lost(Vec<TopicPartition>),
    /// The group cannot go on; the error is told to the user.
    Fail(Error),
    /// An error that is told to the user while the group goes on.
    Report(Error),
    /// LeaveGroup was answered, or there was nobody to leave: `leave` is complete.
    Left,
}
