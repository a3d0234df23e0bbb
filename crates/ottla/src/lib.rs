//! An Apache Kafka consumer with no C in it: groups, commits that cannot rewind, bounded memory, a close that
//! returns.
//!
//! ```
//! use ottla::Consumer;
//!
//! # use ottla_broker::Broker;
//! # async fn bill(_: Option<&[u8]>, _: Option<&[u8]>) -> Result<(), std::io::Error> { Ok(()) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let broker = Broker::builder().topic("orders", 6).start().await?;
//! # broker.produce("orders", 0, ["a", "b"])?;
//! # let mut billed = 0;
//! let mut consumer = Consumer::builder(broker.bootstrap()) // "localhost:9092"
//!     .group("billing")
//!     .subscribe(["orders"])
//!     .connect()
//!     .await?;
//!
//! let handle = consumer.handle(); // Clone + Send
//! # let stop = handle.clone();
//! tokio::spawn(async move {
//!     tokio::signal::ctrl_c().await.ok();
//!     handle.shutdown();
//! });
//!
//! while let Some(batch) = consumer.next_batch().await? {
//!     for record in &batch {
//!         bill(record.key(), record.value()).await?;
//!         # billed += 1;
//!     }
//!     # if billed == 2 { stop.shutdown(); }
//! } // coming back for more marks the last batch as done
//! consumer.close().await?; // commits what is done, leaves the group, within a bound
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - No record is lost: only what is *done* is committed, no default skips a record, and an offset is reset
//!   only where none was committed or it is confirmed to be out of range, told by an event.
//! - A commit carries its ownership: one that comes late cannot rewind what the partition's next owner did.
//! - Heartbeats come from a thread of their own: a handler may block, or take minutes for a batch.
//! - Memory for fetched data is bounded by bytes: [`Builder::max_buffered_bytes`].
//! - Every future is cancel safe; dropping a consumer never blocks; [`Consumer::close`] returns in time.
//! - No byte from a broker can make it panic, hang or grow without bound.
//!
//! # Reading
//!
//! | | |
//! |---|---|
//! | [`Consumer::next_batch`] | batches of one partition, without an allocation for each record: the fast one |
//! | [`Consumer::next_batches`] | batches of all partitions, up to a number of records or a time |
//! | [`Consumer::next_record`], [`Consumer::records`] | owned records, alone or as a stream |
//! | [`Consumer::run_partitioned`] | a task for each partition, with a backpressure of its own |
//! | [`Consumer::next_event`] | batches, and what happens to the assignment |
//!
//! Checksums, decompression and the walk over the records run inside of the read that returns them, on the
//! caller's thread; what is compressed is mostly decoded before, on [`Builder::decode_threads`].
//!
//! # Runtimes
//!
//! The driver brings its own tokio runtime on a thread of its own, so that a consumer works on any executor,
//! and under a tokio runtime whose threads are blocked. [`Builder::on_current_runtime`] runs it on the caller's
//! tokio runtime instead. [`blocking`] is for programs without async.
//!
//! # Features
//!
//! `gzip`, `snappy`, `lz4` and `zstd`, all on by default, decompress what producers compressed. All are written
//! in Rust.
//!
//! `metrics`, off by default, publishes the figures through the [`metrics`](https://docs.rs/metrics) facade: see
//! [observability.md](https://github.com/ottla-rs/ottla/blob/main/docs/observability.md), which also lists the spans
//! that are there for [`tracing`](https://docs.rs/tracing) whatever the features are.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod admin;
pub mod blocking;
mod builder;
mod commit;
mod consumer;
mod driver;
mod handle;
mod link;
mod observe;

pub use admin::{Admin, AdminBuilder, Results};
pub use builder::{Builder, ConfigError, ConfigProblem, ConfigWarning, Dialect};
pub use commit::{CommitOffset, IntoCommit};
pub use consumer::{Consumer, PartitionConsumer, PartitionTaskError, Records};
pub use handle::{ConsumerHandle, HeldBack};
pub use ottla_core::admin::{
    CreatedTopic, GroupDescription, GroupListing, GroupState, GroupType, MemberDescription, NewTopic,
    TopicListing,
};
pub use ottla_core::assignor::{
    Assignor, ClusterTopics, GroupMember, PartitionAssignor, PartitionInfo, RebalanceProtocol, TopicInfo,
};
pub use ottla_core::client::{CommittedOffset, Offset};
pub use ottla_core::config::{CommitMode as Commit, GroupProtocol, IsolationLevel, OffsetReset};
pub use ottla_core::delivery::{
    Batch, BatchIter, BatchRecords, CommitToken, Event, PartitionEnd, Record, RecordRef, ResetCause,
    Revocation,
};
pub use ottla_core::group::GroupIdentity as GroupMetadata;
pub use ottla_core::snapshot::{
    BrokerSnapshot, GroupSnapshot, Latency, PartitionSnapshot, Snapshot, TopicSnapshot, Traffic,
};
pub use ottla_core::{
    BrokerId, CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Timestamp, TopicId, TopicPartition,
};
pub use ottla_wire::ErrorCode;
pub use ottla_wire::records::{HeaderKey, Headers, TimestampType};
