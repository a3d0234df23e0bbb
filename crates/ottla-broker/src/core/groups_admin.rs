//! DescribeGroups, ListGroups, DeleteGroups.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;

use super::Cluster;
use super::group::{Group, GroupState};
use crate::error_code::ErrorCode;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

impl Cluster {
    pub(super) fn handle_describe_groups(
        &self,
        node: i32,
        version: i16,
        forced: Option<ErrorCode>,
        request: &DescribeGroupsRequest,
    ) -> ResponseKind {
        let mut response = DescribeGroupsResponse::default();
        for id in &request.groups {
            let described = DescribedGroup::default().with_group_id(id.clone());
            let refused = forced.or_else(|| self.check_coordinator(node, id).err());
            response.groups.push(match (refused, self.groups.get(id.as_str())) {
                (Some(code), _) => described.with_error_code(code.0),
                // Since version 6 an unknown group is an error, before it is "Dead" (KIP-1043).
                (None, None) if version >= 6 => described
                    .with_group_state(text("Dead"))
                    .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
                    .with_error_message(Some(text(&format!("Group {} not found.", **id)))),
                (None, None) => described.with_group_state(text("Dead")),
                // It is described by ConsumerGroupDescribe.
                (None, Some(group)) if group.consumer().is_some() && version >= 6 => described
                    .with_group_state(text("Dead"))
                    .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
                    .with_error_message(Some(text(&format!("Group {} is not a classic group.", **id)))),
                (None, Some(group)) if group.consumer().is_some() => described.with_group_state(text("Dead")),
                (None, Some(group)) => describe(described, group, version),
            });
        }
        response.into()
    }

    pub(super) fn handle_list_groups(
        &self,
        node: i32,
        version: i16,
        forced: Option<ErrorCode>,
        request: &ListGroupsRequest,
    ) -> ResponseKind {
        let mut response = ListGroupsResponse::default();
        if let Some(code) = forced {
            return response.with_error_code(code.0).into();
        }
        let wanted = |filter: &[StrBytes], value: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
        };
        for group in self.groups.values().filter(|group| group.coordinator == node) {
            let kind = if group.consumer().is_some() { "consumer" } else { "classic" };
            if !wanted(&request.states_filter, group.state.name()) || !wanted(&request.types_filter, kind) {
                continue;
            }
            let mut listed = ListedGroup::default()
                .with_group_id(GroupId(text(&group.id)))
                .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()));
            if version >= 4 {
                listed.group_state = text(group.state.name());
            }
            if version >= 5 {
                listed.group_type = text(kind);
            }
            response.groups.push(listed);
        }
        response.into()
    }

    pub(super) fn handle_delete_groups(
        &mut self,
        node: i32,
        forced: Option<ErrorCode>,
        request: &DeleteGroupsRequest,
    ) -> ResponseKind {
        let mut response = DeleteGroupsResponse::default();
        for id in &request.groups_names {
            let refused = forced.or_else(|| self.check_coordinator(node, id).err());
            let code = match (refused, self.groups.get_mut(id.as_str())) {
                (Some(code), _) => code,
                (None, None) => ErrorCode::GROUP_ID_NOT_FOUND,
                (None, Some(group)) => group.delete(),
            };
            if code == ErrorCode::NONE {
                self.groups.remove(id.as_str());
            }
            response
                .results
                .push(DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code.0));
        }
        response.into()
    }
}

fn describe(described: DescribedGroup, group: &Group, version: i16) -> DescribedGroup {
    // Protocol and metadata mean something in a stable group only. An assignment is there until the next one begins.
    let stable = group.state == GroupState::Stable;
    let protocol = group.protocol_name.clone().filter(|_| stable).unwrap_or_default();
    let members = group
        .members
        .values()
        .map(|member| {
            let metadata = if stable { member.metadata(&protocol) } else { Default::default() };
            DescribedGroupMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(member.instance_id.as_deref().filter(|_| version >= 4).map(text))
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_member_metadata(metadata)
                .with_member_assignment(member.assignment.clone())
        })
        .collect();
    described
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(&protocol))
        .with_members(members)
}
