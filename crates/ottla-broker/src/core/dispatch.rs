//! From a decoded request to the handler of its API.

use kafka_protocol::messages::RequestKind;

use super::connection::InFlight;
use super::{Cluster, RequestId};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// The errors that a fault gives to a request.
#[derive(Debug, Default)]
pub(super) struct Forced {
    code: Option<ErrorCode>,
    scope: Option<(String, Option<i32>)>,
}

impl Forced {
    /// The error for this partition.
    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        match &self.scope {
            None => self.code,
            Some((name, index)) => {
                self.code.filter(|_| name == topic && index.is_none_or(|index| index == partition))
            }
        }
    }

    /// The error for this topic as a whole.
    pub(super) fn topic(&self, topic: &str) -> Option<ErrorCode> {
        match &self.scope {
            None => self.code,
            Some((name, index)) => self.code.filter(|_| name == topic && index.is_none()),
        }
    }

    /// The error for the request as a whole.
    pub(super) fn everywhere(&self) -> Option<ErrorCode> {
        self.code.filter(|_| self.scope.is_none())
    }
}

impl InFlight {
    pub(super) fn forced(&self) -> Forced {
        Forced { code: self.plan.error, scope: self.plan.scope.clone() }
    }
}

impl Cluster {
    pub(super) fn dispatch(&mut self, now: Timestamp, id: RequestId, request: RequestKind) {
        let Some(flight) = self.in_flight.get(&id) else { return };
        let (node, version, forced) = (flight.node, flight.version, flight.forced());
        // Without partitions to aim at, an error is for the whole request.
        let whole = flight.plan.error;
        let response = match request {
            RequestKind::Produce(r) => self.handle_produce(now, id, r),
            RequestKind::Fetch(r) => {
                self.handle_fetch(now, id, r);
                None
            }
            RequestKind::ListOffsets(r) => Some(self.handle_list_offsets(node, version, &forced, &r)),
            RequestKind::OffsetForLeaderEpoch(r) => {
                Some(self.handle_offset_for_leader_epoch(node, &forced, &r))
            }
            RequestKind::Metadata(r) => Some(self.handle_metadata(version, &forced, &r)),
            RequestKind::ApiVersions(r) => Some(self.handle_api_versions(version, whole, &r)),
            RequestKind::DescribeCluster(_) => Some(self.handle_describe_cluster(version, whole)),
            RequestKind::InitProducerId(r) => Some(self.handle_init_producer_id(whole, &r)),
            RequestKind::FindCoordinator(r) => Some(self.handle_find_coordinator(version, whole, &r)),
            RequestKind::JoinGroup(r) => self.handle_join_group(now, id, whole, r),
            RequestKind::SyncGroup(r) => self.handle_sync_group(now, id, whole, r),
            RequestKind::Heartbeat(r) => Some(self.handle_heartbeat(now, node, whole, &r)),
            RequestKind::LeaveGroup(r) => self.handle_leave_group(now, id, whole, &r),
            RequestKind::OffsetCommit(r) => Some(self.handle_offset_commit(now, id, &forced, &r)),
            RequestKind::OffsetFetch(r) => Some(self.handle_offset_fetch(node, version, &forced, &r)),
            RequestKind::DescribeGroups(r) => Some(self.handle_describe_groups(node, version, whole, &r)),
            RequestKind::ConsumerGroupHeartbeat(r) => {
                self.handle_consumer_group_heartbeat(now, id, whole, &r)
            }
            RequestKind::ConsumerGroupDescribe(r) => {
                Some(self.handle_consumer_group_describe(node, version, whole, &r))
            }
            RequestKind::ListGroups(r) => Some(self.handle_list_groups(node, version, whole, &r)),
            RequestKind::DeleteGroups(r) => Some(self.handle_delete_groups(node, whole, &r)),
            RequestKind::OffsetDelete(r) => Some(self.handle_offset_delete(node, &forced, &r)),
            RequestKind::CreateTopics(r) => Some(self.handle_create_topics(version, &forced, &r)),
            RequestKind::CreatePartitions(r) => Some(self.handle_create_partitions(&forced, &r)),
            RequestKind::DeleteTopics(r) => Some(self.handle_delete_topics(now, version, &forced, &r)),
            RequestKind::DeleteRecords(r) => Some(self.handle_delete_records(now, node, &forced, &r)),
            // Every API of `Api` is above; others are refused before they get here.
            _ => None,
        };
        if let Some(response) = response {
            self.finish(now, id, Some(response));
        }
    }
}
