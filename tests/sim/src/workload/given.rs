//! What a user was given: a batch, or one record.

use ottla_core::delivery::{Batch, CommitToken, Record};
use ottla_core::{LeaderEpoch, OwnershipEpoch, TopicPartition};

use crate::oracle::content;

/// A batch, or one record.
#[derive(Debug)]
pub(super) enum Given {
    Batch(Batch),
    Record(Record),
}

/// A record as the oracle wants it: its offset, what is in it, its leader epoch.
pub(super) type Seen = (i64, u64, i32);

fn told(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| LeaderEpoch::to_wire(Some(epoch)))
}

impl Given {
    pub(super) fn topic_partition(&self) -> &TopicPartition {
        match self {
            Self::Batch(batch) => batch.topic_partition(),
            Self::Record(record) => record.topic_partition(),
        }
    }

    pub(super) fn token(&self) -> CommitToken {
        match self {
            Self::Batch(batch) => batch.token(),
            Self::Record(record) => record.token(),
        }
    }

    pub(super) fn epoch(&self) -> OwnershipEpoch {
        self.token().ownership_epoch()
    }

    pub(super) fn is_owned(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.is_owned(),
            Self::Record(record) => record.is_owned(),
        }
    }

    /// Of what lies before the next offset.
    pub(super) fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.token().leader_epoch()
    }

    pub(super) fn first_offset(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.first_offset(),
            Self::Record(record) => record.offset(),
        }
    }

    pub(super) fn next_offset(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.next_offset(),
            Self::Record(record) => record.token().next_offset(),
        }
    }

    /// The records.
    pub(super) fn seen(&self) -> Vec<Seen> {
        match self {
            Self::Batch(batch) => {
                let one = |record: ottla_core::delivery::RecordRef<'_>| {
                    let headers = record.headers().map(|(name, value)| (name.as_bytes(), value));
                    let content = content(record.key(), record.value(), headers, record.timestamp());
                    (record.offset(), content, told(record.leader_epoch()))
                };
                batch.iter().map(one).collect()
            }
            Self::Record(record) => {
                let headers: Vec<_> = record.headers().collect();
                let headers = headers.iter().map(|(name, value)| (name.as_bytes(), *value));
                let content = content(record.key(), record.value(), headers, record.timestamp());
                vec![(record.offset(), content, told(record.leader_epoch()))]
            }
        }
    }

    /// Offsets, and the numbers that values begin with.
    pub(super) fn numbers(&self) -> Vec<(i64, u64)> {
        let number =
            |value: Option<&[u8]>| value.and_then(|v| v.first_chunk()).map_or(0, |n| u64::from_be_bytes(*n));
        match self {
            Self::Batch(batch) => batch.iter().map(|r| (r.offset(), number(r.value()))).collect(),
            Self::Record(record) => vec![(record.offset(), number(record.value()))],
        }
    }
}
