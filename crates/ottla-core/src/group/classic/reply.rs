//! The answers of the coordinator as plain values: the seam between bytes and decisions.

use bytes::Bytes;
use ottla_wire::messages::describe_groups_response::DescribedGroupMember;
use ottla_wire::messages::{DescribeGroupsResponse, HeartbeatResponse, JoinGroupResponse, SyncGroupResponse};
use ottla_wire::{DecodeError, ErrorCode, View};

use crate::group::GroupRequestKind as Kind;

/// An answer to a request of the group.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(ErrorCode),
    /// DescribeGroups: the members of a stable group with what each was assigned; `None` of any other.
    Describe(Option<Vec<(String, Bytes)>>),
    /// Its content makes no difference.
    Leave,
}

/// JoinGroup's answer.
#[derive(Clone, Debug)]
pub(super) struct JoinReply {
    pub(super) error: ErrorCode,
    pub(super) generation_id: i32,
    /// Version 7 and up.
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) leader: String,
    /// KIP-814, version 9 and up.
    pub(super) skip_assignment: bool,
    pub(super) member_id: String,
    /// Empty for all but the leader.
    pub(super) members: Vec<JoinMember>,
}

/// A member as the coordinator describes it to the leader; every field was chosen by that member.
#[derive(Clone, Debug)]
pub(super) struct JoinMember {
    pub(super) member_id: String,
    pub(super) group_instance_id: Option<String>,
    pub(super) metadata: Bytes,
}

/// SyncGroup's answer.
#[derive(Clone, Debug)]
pub(super) struct SyncReply {
    pub(super) error: ErrorCode,
    /// Version 5 and up, as is the name.
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    /// Chosen by the leader.
    pub(super) assignment: Bytes,
}

impl Reply {
    pub(super) fn decode(kind: Kind, version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Join => {
                let r = JoinGroupResponse::decode(version, body)?;
                let members = r.members.iter().map(|m| JoinMember {
                    member_id: m.member_id.to_owned(),
                    group_instance_id: m.group_instance_id.map(str::to_owned),
                    metadata: Bytes::copy_from_slice(m.metadata),
                });
                Self::Join(JoinReply {
                    error: ErrorCode::from_i16(r.error_code),
                    generation_id: r.generation_id,
                    protocol_type: r.protocol_type.map(str::to_owned),
                    protocol_name: r.protocol_name.map(str::to_owned),
                    leader: r.leader.to_owned(),
                    skip_assignment: r.skip_assignment,
                    member_id: r.member_id.to_owned(),
                    members: members.collect(),
                })
            }
            Kind::Sync => {
                let r = SyncGroupResponse::decode(version, body)?;
                Self::Sync(SyncReply {
                    error: ErrorCode::from_i16(r.error_code),
                    protocol_type: r.protocol_type.map(str::to_owned),
                    protocol_name: r.protocol_name.map(str::to_owned),
                    assignment: Bytes::copy_from_slice(r.assignment),
                })
            }
            Kind::Heartbeat | Kind::Probe => {
                Self::Heartbeat(ErrorCode::from_i16(HeartbeatResponse::decode(version, body)?.error_code))
            }
            // The latter is not of this protocol.
            Kind::Describe => {
                let r = DescribeGroupsResponse::decode(version, body)?;
                let ours = r.groups.iter().find(|g| g.error_code == 0 && g.group_state == "Stable");
                Self::Describe(ours.map(|group| {
                    let member = |m: DescribedGroupMember<'_>| {
                        (m.member_id.to_owned(), Bytes::copy_from_slice(m.member_assignment))
                    };
                    group.members.iter().map(member).collect()
                }))
            }
            Kind::Leave | Kind::ConsumerHeartbeat => Self::Leave,
        })
    }
}
