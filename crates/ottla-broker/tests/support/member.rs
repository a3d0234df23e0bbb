//! Group requests in short form.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, SyncGroupResponse,
};
use ottla_broker::ErrorCode;
use ottla_broker::sim::ConnectionId;

use super::{Pending, Sim, group_id, text, topic_name};

pub(crate) fn join(group: &str, member: &str, protocols: &[(&str, &str)]) -> JoinGroupRequest {
    let protocols = protocols
        .iter()
        .map(|(name, metadata)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(Bytes::from((*metadata).to_owned()))
        })
        .collect();
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols)
}

pub(crate) fn sync(
    group: &str,
    member: &str,
    generation: i32,
    assignments: &[(&str, &str)],
) -> SyncGroupRequest {
    let assignments = assignments
        .iter()
        .map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from((*assignment).to_owned()))
        })
        .collect();
    SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_assignments(assignments)
}

pub(crate) fn heartbeat(group: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_generation_id(generation)
}

pub(crate) fn leave(group: &str, member: &str, instance: Option<&str>) -> LeaveGroupRequest {
    let member =
        MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text));
    LeaveGroupRequest::default().with_group_id(group_id(group)).with_members(vec![member])
}

pub(crate) fn commit(
    group: &str,
    member: &str,
    generation: i32,
    offsets: &[(&str, i32, i64)],
) -> OffsetCommitRequest {
    let topics = offsets
        .iter()
        .map(|(topic, partition, offset)| {
            OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![
                OffsetCommitRequestPartition::default()
                    .with_partition_index(*partition)
                    .with_committed_offset(*offset)
                    .with_committed_leader_epoch(3)
                    .with_committed_metadata(Some(text("note"))),
            ])
        })
        .collect();
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics)
}

pub(crate) fn offset_fetch(group: &str, topic: &str, partitions: &[i32]) -> OffsetFetchRequest {
    OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![
        OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(partitions.to_vec()),
    ]))
}

/// A member on its own connection to the coordinator (one node).
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) connection: ConnectionId,
    pub(crate) id: String,
    pub(crate) generation: i32,
}

impl Sim {
    /// Joins as a new dynamic member in two steps (KIP-394) and leaves the second request parked.
    pub(crate) fn join_new(&mut self, group: &str, metadata: &str) -> (Member, Pending<JoinGroupRequest>) {
        let connection = self.connect(1);
        let first = self.call(connection, 5, &join(group, "", &[("range", metadata)]));
        assert_eq!(ErrorCode(first.error_code), ErrorCode::MEMBER_ID_REQUIRED);
        let id = first.member_id.to_string();
        let pending = self.send(connection, 5, &join(group, &id, &[("range", metadata)]));
        (Member { connection, id, generation: -1 }, pending)
    }

    pub(crate) fn rejoin(
        &mut self,
        group: &str,
        member: &Member,
        metadata: &str,
    ) -> Pending<JoinGroupRequest> {
        self.send(member.connection, 5, &join(group, &member.id, &[("range", metadata)]))
    }

    pub(crate) fn joined(
        &mut self,
        member: &mut Member,
        pending: &Pending<JoinGroupRequest>,
    ) -> JoinGroupResponse {
        let response = self.take(pending).expect("the join phase is over");
        assert_eq!(response.error_code, 0);
        member.generation = response.generation_id;
        response
    }

    /// A stable group of `count` members; the first one leads.
    pub(crate) fn stable_group(&mut self, group: &str, count: usize) -> Vec<Member> {
        let (mut leader, pending) = self.join_new(group, "m0");
        self.joined(&mut leader, &pending);
        let mut members = vec![leader];
        let mut parked = Vec::new();
        for i in 1..count {
            let (member, pending) = self.join_new(group, &format!("m{i}"));
            members.push(member);
            parked.push(pending);
        }
        if count > 1 {
            parked.insert(0, self.rejoin(group, &members[0].clone(), "m0"));
            for (member, pending) in members.iter_mut().zip(&parked) {
                self.joined(member, pending);
            }
        }
        self.sync_all(group, &members);
        members
    }

    /// Everybody syncs, the first member as the leader.
    pub(crate) fn sync_all(&mut self, group: &str, members: &[Member]) -> Vec<SyncGroupResponse> {
        let assignments: Vec<(String, String)> =
            members.iter().enumerate().map(|(i, m)| (m.id.clone(), format!("a{i}"))).collect();
        let assignments: Vec<(&str, &str)> = assignments.iter().map(|(m, a)| (&m[..], &a[..])).collect();
        let parked: Vec<_> = members
            .iter()
            .skip(1)
            .map(|m| self.send(m.connection, 3, &sync(group, &m.id, m.generation, &[])))
            .collect();
        let leader = &members[0];
        let first =
            self.call(leader.connection, 3, &sync(group, &leader.id, leader.generation, &assignments));
        let mut all = vec![first];
        all.extend(parked.iter().map(|pending| self.take(pending).expect("the leader has synced")));
        assert!(all.iter().all(|response| response.error_code == 0));
        all
    }

    pub(crate) fn beat(&mut self, group: &str, member: &Member) -> ErrorCode {
        ErrorCode(
            self.call(member.connection, 3, &heartbeat(group, &member.id, member.generation)).error_code,
        )
    }

    pub(crate) fn try_commit(&mut self, group: &str, member: &Member, offset: i64) -> ErrorCode {
        let request = commit(group, &member.id, member.generation, &[("t", 0, offset)]);
        ErrorCode(self.call(member.connection, 7, &request).topics[0].partitions[0].error_code)
    }
}
