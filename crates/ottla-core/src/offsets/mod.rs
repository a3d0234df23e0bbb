//! Offsets: looking them up (ListOffsets), what the group has committed (OffsetFetch), committing (OffsetCommit).
//!
//! A position is looked up until it is known, however long that takes: a timeout, a lost connection or a refused
//! request never turns into a reset. A query of the user's ends when its time is over.

mod commit;
mod committed;
mod lookup;
#[cfg(test)]
mod tests;

pub(crate) use commit::{CommitJob, CommitOrigin, CommitQueue, JobResult, MAX_VERSION as COMMIT_MAX_VERSION};
pub(crate) use committed::{
    CommittedAnswer, CommittedLookups, CommittedTag, MAX_VERSION as COMMITTED_MAX_VERSION,
};
pub(crate) use lookup::{LookupAnswer, LookupTag, Lookups, Place};

use crate::{CommandId, OwnershipEpoch};

/// Who wants to know an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// A partition that has no position yet, in this ownership.
    Position(OwnershipEpoch),
    /// A command of the user's.
    Query(CommandId),
}
