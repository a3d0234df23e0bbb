#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod api;
mod broker;
mod builder;
mod core;
mod error;
mod error_code;
mod fault;
mod net;
mod observe;
mod rng;
mod time;
mod wire;

pub use api::Api;
pub use broker::{Broker, FaultHandle};
pub use builder::Builder;
pub use core::group::{Commit, Committed, GroupInfo, GroupMember, GroupState, MigrationPolicy};
pub use core::records::{BatchBuilder, Codec, TestRecord};
pub use error::{BrokerError, Result};
pub use error_code::ErrorCode;
pub use fault::{Corruption, Fault};
pub use observe::{Observed, ObservedPartition};

/// The sans-IO core, for simulators: bytes in, bytes out, no clock and no sockets.
pub mod sim {
    pub use crate::core::{Cluster, ClusterConfig, ConnectionId, NodeConfig};
    pub use crate::time::Timestamp;
}
