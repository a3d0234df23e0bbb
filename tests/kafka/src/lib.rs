//! Real Apache Kafka for the suites: clusters from the official jars, and peers in Java and librdkafka.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ottla_kafka::{KafkaCluster, RecordSpec};
//!
//! let cluster = KafkaCluster::start("4.3.1", 1)?;
//! let mut tool = cluster.tool()?;
//! let topic = ottla_kafka::unique("orders");
//! tool.create_topic(&topic, 6)?;
//! let spec = RecordSpec::new(1_000).partitions(6);
//! tool.produce(&topic, &spec)?;
//! // … read `topic` from `cluster.bootstrap()` and compare with `spec.record(index)`.
//! # Ok(()) }
//! ```
//!
//! Nothing here depends on ottla. All calls block the calling thread: an async test either does its work on a client
//! that has a thread of its own (ottla's default) or calls through `spawn_blocking`.
//!
//! Every process started here ends with the value that owns it, and also when the test process is killed: each helper
//! holds a pipe from its owner and ends when that closes.
#![forbid(unsafe_code)]

mod cluster;
mod dist;
mod env;
mod error;
mod member;
mod node;
mod process;
mod records;
mod tool;
pub mod wire;

pub use cluster::{KafkaCluster, Running, StartOptions, ToolGuard};
pub use dist::{Distribution, missing_tools};
pub use env::{is_at_least, shared, split as split_versions, target_dir, unique, versions};
pub use error::Error;
pub use member::{Event, Member, MemberSpec, librdkafka_python};
pub use process::Lines;
pub use records::{Expected, RecordSpec};
pub use tool::{Group, GroupMember, Offsets, Produced, Replicas, Seen, Tool};

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The Kafka version that is used when none is named.
pub const DEFAULT_VERSION: &str = "4.3.1";
