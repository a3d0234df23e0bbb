//! Group membership: who owns which partition, and how the coordinator is kept informed.
//!
//! [`classic`] is the JoinGroup protocol, [`consumer`] is KIP-848; a [`Group`] is a member that speaks one of them.
//! They decide nothing about records: they ask for partitions to be revoked, assigned or given up as lost through
//! [`GroupAction`], and the client carries that out on [`delivery`](crate::delivery).
//!
//! [`assignment`] alone decides who owns a partition; the protocols tell it what the group decided.

pub mod assignment;
pub mod classic;
pub mod consumer;
mod member;

use std::time::Duration;

use ottla_wire::messages::{
    ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, SyncGroupRequest,
};

pub use assignment::Assignment;
pub use classic::ClassicGroup;
pub use consumer::ConsumerGroup;
pub use member::{Group, Offers};

use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember, OwnAssignor};
use crate::{Error, ErrorKind, Timestamp, TopicPartition};

/// Tells one computation of an assignment from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Whose assignor.
#[derive(Clone, Debug)]
pub enum JobAssignor {
    /// One that Kafka has, too.
    Kafka(Assignor),
    /// The user's.
    Own(OwnAssignor),
}

impl JobAssignor {
    /// Its name in the protocol list.
    pub fn name(&self) -> String {
        match self {
            Self::Kafka(assignor) => assignor.name().to_owned(),
            Self::Own(assignor) => assignor.name(),
        }
    }
}

/// An assignment to be computed away from the thread that heartbeats; the result is fed back.
#[derive(Clone, Debug)]
pub struct AssignJob {
    /// Goes back with the result.
    pub id: JobId,
    /// The assignor that all members share.
    pub assignor: JobAssignor,
    /// The members as they described themselves.
    pub members: Vec<GroupMember>,
    /// The topics they subscribe to, as far as they exist.
    pub topics: ClusterTopics,
}

impl AssignJob {
    /// Whether it runs foreign code, which may block.
    pub fn is_foreign(&self) -> bool {
        matches!(self.assignor, JobAssignor::Own(_))
    }

    /// Computes the assignment. Pure, and possibly long: not for the thread that drives the client.
    pub fn run(&self) -> GroupAssignment {
        match &self.assignor {
            JobAssignor::Kafka(assignor) => assignor.assign(&self.members, &self.topics),
            JobAssignor::Own(assignor) => assignor.assign(&self.members, &self.topics),
        }
    }
}

/// The identity that a commit carries (KIP-447 calls it group metadata).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupIdentity {
    /// `group.id`.
    pub group_id: String,
    /// The classic generation, or the member epoch of a consumer group (KIP-848); -1 without one.
    pub generation_id: i32,
    /// Empty without one.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub group_instance_id: Option<String>,
}

/// The versions of the group's requests that were negotiated with the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupVersions {
    /// Of JoinGroup.
    pub join: i16,
    /// Of SyncGroup.
    pub sync: i16,
    /// Of Heartbeat.
    pub heartbeat: i16,
    /// Of LeaveGroup.
    pub leave: i16,
}

/// A request to the coordinator.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    /// JoinGroup, on the group connection: may be parked by the coordinator for as long as the rebalance timeout.
    Join(JoinGroupRequest),
    /// SyncGroup, on the group connection: parked until the leader has sent the assignment.
    Sync(SyncGroupRequest),
    /// Heartbeat, on the group connection.
    Heartbeat(HeartbeatRequest),
    /// A Heartbeat on the **control** connection, because a JoinGroup or SyncGroup is parked on the group
    /// connection and a broker answers one connection strictly in order. Without it nobody could tell a parked
    /// request from a dead coordinator, and a cooperative member would read on beyond its session.
    Probe(HeartbeatRequest),
    /// LeaveGroup, on the **control** connection.
    Leave(LeaveGroupRequest),
    /// DescribeGroups, on the **control** connection: what a static member that came back has inherited.
    Describe(DescribeGroupsRequest),
    /// ConsumerGroupHeartbeat, on the group connection, also when it leaves: it must not overtake one that joins.
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest),
}

/// Which [`GroupRequest`] an outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupRequestKind {
    /// [`GroupRequest::Join`].
    Join,
    /// [`GroupRequest::Sync`].
    Sync,
    /// [`GroupRequest::Heartbeat`].
    Heartbeat,
    /// [`GroupRequest::Probe`].
    Probe,
    /// [`GroupRequest::Leave`].
    Leave,
    /// [`GroupRequest::Describe`].
    Describe,
    /// [`GroupRequest::ConsumerHeartbeat`].
    ConsumerHeartbeat,
}

impl GroupRequest {
    /// Its kind.
    pub fn kind(&self) -> GroupRequestKind {
        match self {
            Self::Join(_) => GroupRequestKind::Join,
            Self::Sync(_) => GroupRequestKind::Sync,
            Self::Heartbeat(_) => GroupRequestKind::Heartbeat,
            Self::Probe(_) => GroupRequestKind::Probe,
            Self::Leave(_) => GroupRequestKind::Leave,
            Self::Describe(_) => GroupRequestKind::Describe,
            Self::ConsumerHeartbeat(_) => GroupRequestKind::ConsumerHeartbeat,
        }
    }
}

impl GroupRequestKind {
    /// Kafka's name of the API.
    pub fn api(self) -> &'static str {
        match self {
            Self::Join => "JoinGroup",
            Self::Sync => "SyncGroup",
            Self::Heartbeat | Self::Probe => "Heartbeat",
            Self::Leave => "LeaveGroup",
            Self::Describe => "DescribeGroups",
            Self::ConsumerHeartbeat => "ConsumerGroupHeartbeat",
        }
    }
}

/// What a group machine wants done, drained by the client after every input.
#[derive(Debug)]
pub enum GroupAction {
    /// Find the coordinator (again). Stands, retries included, until `coordinator_known` is called. The group
    /// connection is closed first, which fails what is in flight on it: a JoinGroup that is still parked there
    /// would hold up the next one.
    FindCoordinator,
    /// Send this to the coordinator; exactly one `handle_response` or `handle_failure` follows, in the order of
    /// sending among requests of the same kind.
    Send(GroupRequest),
    /// Compute this elsewhere and feed the result to `assignment_computed`.
    Compute(AssignJob),
    /// The leader needs these topics' metadata, now and as long as it leads; `metadata_changed` is called with
    /// them. Replaces the former list; empty when the member does not lead any more.
    WantMetadata(Vec<String>),
    /// Topics are assigned whose names are not known: `topic_names` is called with what metadata says, again and
    /// again while `waits_for_names`.
    WantTopicNames,
    /// Take these partitions back from the reader; `revocation_finished` is called when they are done and
    /// committed, or when the deadline has passed. No JoinGroup is sent meanwhile.
    Revoke {
        /// Never empty.
        partitions: Vec<TopicPartition>,
        /// From when the machine learned of it.
        deadline: Timestamp,
    },
    /// These partitions are owned from now on. Kept ones are not among them. Never empty.
    Assign(Vec<TopicPartition>),
    /// These partitions are gone without a chance to commit, also those that were being revoked. Never empty.
    Lost(Vec<TopicPartition>),
    /// The group cannot go on; the error is told to the user.
    Fail(Error),
    /// An error that is told to the user while the group goes on.
    Report(Error),
    /// LeaveGroup was answered, or there was nobody to leave: `leave`, or the end of the subscription, is
    /// complete.
    Left,
}
/// What the reader is told when it comes back after its partitions were given up.
fn stayed_away(max_poll_interval: Option<Duration>) -> Error {
    let limit = max_poll_interval.unwrap_or_default().as_millis();
    Error::new(
        ErrorKind::Limit,
        format!(
            "the reader stayed away for longer than max_poll_interval ({limit} ms), its partitions were given up: handle records faster, read fewer at a time, or raise max_poll_interval"
        ),
    )
}
