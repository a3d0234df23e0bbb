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
    /// At this offset of the log that was read: if its end has been truncated since (KIP-320), reading goes on where
    /// the logs part, and says so ([`OffsetReset`](crate::config::OffsetReset) decides how), instead of leaving out
    /// what the new log has below the offset. Brokers before 2.4 cannot be asked; there it is as `At`.
    AtEpoch {
        /// The next offset to read.
        offset: i64,
        /// Epoch of the record before it, as a batch, a record and a [`CommittedOffset`] know it.
        leader_epoch: LeaderEpoch,
    },
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
        !matches!(self, Self::Committed) && self.absolute().is_none_or(|(offset, _)| offset >= 0)
    }

    /// The offset, where it need not be looked up.
    pub(crate) fn absolute(self) -> Option<(i64, Option<LeaderEpoch>)> {
        match self {
            Self::At(offset) => Some((offset, None)),
            Self::AtEpoch { offset, leader_epoch } => Some((offset, Some(leader_epoch))),
            _ => None,
        }
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

/// Where whoever goes on from it begins.
impl From<&CommittedOffset> for Offset {
    fn from(committed: &CommittedOffset) -> Self {
        match committed.leader_epoch {
            Some(leader_epoch) => Self::AtEpoch { offset: committed.offset, leader_epoch },
            None => Self::At(committed.offset),
        }
    }
}

/// What became of a commit, partition by partition.
pub type CommitResults = Vec<(TopicPartition, Result<(), CommitError>)>;

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(offset) => write!(f, "{offset}"),
            Self::AtEpoch { offset, leader_epoch } => write!(f, "{offset} after leader epoch {leader_epoch}"),
            Self::FromEnd(n) => write!(f, "{n} before the end"),
            Self::Timestamp(ms) => write!(f, "timestamp {ms}"),
            Self::Committed => f.write_str("committed"),
        }
    }
}
