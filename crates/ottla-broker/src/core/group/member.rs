//! One member of a group.

use std::time::Duration;

use bytes::Bytes;

use crate::core::RequestId;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// In the member's order of preference: name and metadata.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// Its parked JoinGroup.
    pub(super) join: Option<RequestId>,
    /// Its parked SyncGroup.
    pub(super) sync: Option<RequestId>,
    /// It waits in its first JoinGroup.
    pub(super) is_new: bool,
    pub(super) session_deadline: Option<Timestamp>,
}

impl Member {
    pub(crate) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }
}
