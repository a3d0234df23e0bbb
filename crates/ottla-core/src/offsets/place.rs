//! Offsets as users name and commit them.

use std::fmt;

use crate::{CommitError, LeaderEpoch, TopicPartition};

/// Where a partition begins to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offset {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record (read_committed: behind the last stable offset).
    Latest,
    /// At this offset.
    At(i64),
    /// This many records before the end, or at the beginning if there are fewer.
    FromEnd(u64),
    /// At the first record that is not older than this, in milliseconds since 1970; at the end if none is.
    Timestamp(i64),
    /// At the group's committed offset; without one the reset policy decides.
    Committed,
}

impl Offset {
    /// Whether a partition can begin there when the user keeps the offsets.
    pub fn is_start(self) -> bool {
        !matches!(self, Self::Committed | Self::At(..0))
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Epoch of the record before it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What was committed along with it.
    pub metadata: Option<String>,
}

/// What became of a commit, partition by partition.
pub type CommitResults = Vec<(TopicPartition, Result<(), CommitError>)>;

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(offset) => write!(f, "{offset}"),
            Self::FromEnd(n) => write!(f, "{n} before the end"),
            Self::Timestamp(ms) => write!(f, "timestamp {ms}"),
            Self::Committed => f.write_str("committed"),
        }
    }
}
