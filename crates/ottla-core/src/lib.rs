//! The sans-IO state machines of ottla, an Apache Kafka consumer.
//!
//! Private to the `ottla` crate: no promise of stability is made for this API.
//!
//! One owner, no async, no clock, no random numbers of its own. A [`Client`](client::Client) is driven by
//! `handle_*` inputs and commands, and drained through `poll_*`. The contract, checked in debug builds:
//! **after every mutation the caller drains `poll_*` to quiescence; a spurious timeout is a no-op.**
//! The same seed and the same inputs give byte-identical outputs.
#![forbid(unsafe_code)]

pub mod admin;
pub mod assignor;
mod backoff;
pub mod client;
mod cluster;
pub mod config;
mod connection;
pub mod delivery;
mod error;
mod fetch;
pub mod group;
mod ids;
mod offsets;
pub mod pattern;
pub mod planted;
mod rng;
pub mod snapshot;
#[cfg(test)]
mod table;
mod time;

pub use backoff::Backoff;
pub use error::{CommitError, Error, ErrorKind};
pub use ids::{BrokerId, CommandId, ConnectionId, LeaderEpoch, OwnershipEpoch, TopicPartition};
pub use ottla_wire::Uuid as TopicId;
pub use rng::Rng;
pub use time::Timestamp;
