//! What is handed out to the reader, and what is done of it.
//!
//! The only thing that reader and driver share: delivery queues, ownership, positions, done-marks, the byte
//! ledger, the poll clock, and events. Sans-IO like all of the core; one short lock ([`Shared::lock`]) is
//! around it, never held while something is awaited or decoded.
//!
//! - The driver assigns, starts, pushes what was fetched, revokes and commits: `impl Delivery` in `ownership`,
//!   `fetch`, `revocation` and `commits`.
//! - The reader calls [`Shared::take`], and marks [`CommitToken`]s, which goes in directly.
//!
//! What must never be untrue:
//! - An *ownership epoch* stamps everything that comes of a partition between an assignment or a seek and the
//!   next seek, revocation or loss. Only its own epoch can push into it, return from it, mark or commit it.
//! - The position moves in the same call that returns the records, under the lock or in one atomic step that the
//!   lock's holder can forbid (see `strip`).
//! - The committed offset is never above what is done; what is done is a gap-free prefix of what was handed out.
//! - Dropping a handle takes no lock: counters and the driver's waker are all it touches (see `ledger`).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)
)]

mod ahead;
mod batch;
mod checkout;
mod clock;
mod commits;
mod config;
mod errors;
mod events;
mod fetch;
mod figures;
mod gather;
mod handed;
mod handout;
mod ledger;
mod marks;
mod ownership;
mod partition;
mod questions;
mod queue;
mod record;
mod revocation;
mod shared;
mod state;
mod strip;
mod take;
mod token;
mod truncation;

pub use ottla_wire::records::BatchDecoder;

pub use ahead::DecodeJob;
pub use batch::{Batch, BatchIter, BatchRecords};
pub use commits::{CommitEntry, CommitRequest, CommitScope};
pub use config::DeliveryConfig;
pub use events::{Event, Filter, PartitionEnd, ResetCause, Taken};
pub use fetch::{FetchPosition, Fetched, Pushed};
pub use gather::{Gathered, Gathering};
pub use ledger::FrameCharge;
pub use ownership::{Start, StartCause};
pub use partition::Watermarks;
pub use record::{Record, RecordRef};
pub use revocation::{Revocation, RevocationId, Revoked};
pub use shared::{Guard, Shared};
pub use state::Delivery;
pub use strip::RecordReader;
pub use token::CommitToken;
pub use truncation::Divergence;

/// One assignment of one partition: numbers never come twice, and a seek keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64);

#[cfg(test)]
mod tests;
