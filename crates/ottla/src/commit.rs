//! What can be committed.

use ottla_core::client::CommitItem;
use ottla_core::delivery::{Batch, CommitToken, Record, RecordRef};
use ottla_core::{LeaderEpoch, TopicPartition};

/// Something that says which offsets to commit: a record, a batch, a token, an offset, or a list of those.
///
/// A record, batch or token stands for everything of its partition up to and including it, and carries the
/// ownership under which it was handed out. A plain offset is the *next* offset to read and is checked against
/// the present ownership. Implemented here only.
pub trait IntoCommit: sealed::Items {}

mod sealed {
    use super::CommitItem;

    pub trait Items {
        fn items(self, into: &mut Vec<CommitItem>);
    }
}

pub(crate) fn items(what: impl IntoCommit) -> Vec<CommitItem> {
    let mut items = Vec::new();
    what.items(&mut items);
    items
}

/// An offset of the application's own to commit: the next offset to read.
///
/// # Examples
///
/// ```
/// use ottla::{CommitOffset, TopicPartition};
///
/// let commit = CommitOffset::new(TopicPartition::new("orders", 0), 42).metadata("checked by hand").rewind();
/// # drop(commit);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an offset is committed by passing it to `commit`"]
pub struct CommitOffset {
    topic_partition: TopicPartition,
    offset: i64,
    leader_epoch: Option<LeaderEpoch>,
    metadata: Option<String>,
    rewind: bool,
}

impl CommitOffset {
    /// The next offset to read of `topic_partition`.
    pub fn new(topic_partition: TopicPartition, offset: i64) -> Self {
        Self { topic_partition, offset, leader_epoch: None, metadata: None, rewind: false }
    }

    /// With the leader epoch of the record before it, so that a truncation is noticed (KIP-320). Of what this ownership
    /// has read it is known, and need not be said.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// With a text that is kept along with the offset and comes back with it.
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// Allows going back below what this ownership has committed already.
    pub fn rewind(mut self) -> Self {
        self.rewind = true;
        self
    }
}

impl IntoCommit for CommitOffset {}

impl sealed::Items for CommitOffset {
    fn items(self, into: &mut Vec<CommitItem>) {
        into.push(CommitItem::Offset {
            topic_partition: self.topic_partition,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata,
            rewind: self.rewind,
        });
    }
}

impl IntoCommit for (TopicPartition, i64) {}

impl sealed::Items for (TopicPartition, i64) {
    fn items(self, into: &mut Vec<CommitItem>) {
        CommitOffset::new(self.0, self.1).items(into);
    }
}

impl IntoCommit for CommitToken {}

impl sealed::Items for CommitToken {
    fn items(self, into: &mut Vec<CommitItem>) {
        into.push(CommitItem::Token(self));
    }
}

macro_rules! by_token {
    ($($what:ty),*) => {$(
        impl IntoCommit for $what {}

        impl sealed::Items for $what {
            fn items(self, into: &mut Vec<CommitItem>) {
                into.push(CommitItem::Token(self.token()));
            }
        }
    )*};
}

by_token!(&Batch, &Record, RecordRef<'_>, &RecordRef<'_>);

macro_rules! by_clone {
    ($($what:ty),*) => {$(
        impl IntoCommit for &$what {}

        impl sealed::Items for &$what {
            fn items(self, into: &mut Vec<CommitItem>) {
                self.clone().items(into);
            }
        }
    )*};
}

by_clone!(CommitToken, CommitOffset);

impl<T: IntoCommit> IntoCommit for Vec<T> {}

impl<T: IntoCommit> sealed::Items for Vec<T> {
    fn items(self, into: &mut Vec<CommitItem>) {
        for each in self {
            each.items(into);
        }
    }
}

impl<T: IntoCommit, const N: usize> IntoCommit for [T; N] {}

impl<T: IntoCommit, const N: usize> sealed::Items for [T; N] {
    fn items(self, into: &mut Vec<CommitItem>) {
        for each in self {
            each.items(into);
        }
    }
}

impl<'a, T> IntoCommit for &'a [T] where &'a T: IntoCommit {}

impl<'a, T> sealed::Items for &'a [T]
where
    &'a T: IntoCommit,
{
    fn items(self, into: &mut Vec<CommitItem>) {
        for each in self {
            each.items(into);
        }
    }
}

impl<'a, T> IntoCommit for &'a Vec<T> where &'a T: IntoCommit {}

impl<'a, T> sealed::Items for &'a Vec<T>
where
    &'a T: IntoCommit,
{
    fn items(self, into: &mut Vec<CommitItem>) {
        self.as_slice().items(into);
    }
}
