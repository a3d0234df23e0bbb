//! One record, borrowed or owned.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::records::{self as wire, Headers, RecordSpan, TimestampType};

use super::batch::BatchInner;
use super::token::CommitToken;
use crate::{LeaderEpoch, TopicPartition};

/// A record, borrowed from its [`Batch`](super::Batch). [`to_owned`](Self::to_owned) makes a [`Record`] of it.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    pub(super) record: wire::RecordRef<'a>,
    pub(super) inner: &'a Arc<BatchInner>,
    pub(super) part: u32,
    /// The offset behind the record before.
    pub(super) expected: i64,
}

/// An owned record: a cheap clone of a share in its batch, for other tasks and threads.
///
/// As long as it is alive its batch does not count as done with `Commit::Auto`, and the buffer that the batch
/// came in stays in memory.
pub struct Record {
    pub(super) inner: Arc<BatchInner>,
    pub(super) span: RecordSpan,
    /// The part it lies in; in a strip, which record it is.
    pub(super) place: u32,
    /// Offsets without a record before this one: its mark covers them.
    pub(super) gap: u32,
}

/// How many offsets lie from `expected`, the one behind the record before, to `offset`.
#[inline]
pub(super) fn gap(expected: i64, offset: i64) -> u32 {
    u32::try_from(offset.saturating_sub(expected)).unwrap_or(u32::MAX)
}

impl Clone for Record {
    fn clone(&self) -> Self {
        if let Some(strip) = &self.inner.strip {
            strip.hold(self.place);
        }
        Self { inner: Arc::clone(&self.inner), ..*self }
    }
}

impl Drop for Record {
    #[inline]
    fn drop(&mut self) {
        if let Some(strip) = &self.inner.strip
            && strip.release(self.place)
        {
            self.inner.ownership.signals.record_dropped();
        }
    }
}

impl<'a> RecordRef<'a> {
    /// Topic and partition.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.inner.ownership.topic_partition
    }

    /// The topic.
    pub fn topic(&self) -> &'a str {
        self.topic_partition().topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.topic_partition().partition()
    }

    /// The offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// The epoch of the leader that appended it, if the broker told one (KIP-320).
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        LeaderEpoch::from_wire(self.record.batch().header().partition_leader_epoch)
    }

    /// The timestamp in milliseconds since 1970; [`timestamp_type`](Self::timestamp_type) says whose. -1 if
    /// there is none (KIP-32).
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp()
    }

    /// Whether the producer or the broker set the timestamp.
    pub fn timestamp_type(&self) -> TimestampType {
        self.record.timestamp_type()
    }

    /// The key. `None` is null, which is not the same as empty.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value. `None` is null: a tombstone in a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    /// The headers in order, duplicates kept (KIP-82).
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.record.headers()
    }

    /// Offsets without a record before this one.
    fn gap(&self) -> u32 {
        gap(self.expected, self.offset())
    }

    /// Stands for this record.
    pub fn token(&self) -> CommitToken {
        self.inner.record_token(self.offset(), self.gap(), self.leader_epoch())
    }

    /// Whether the partition is still owned as it was when the record was handed out.
    pub fn is_owned(&self) -> bool {
        self.inner.ownership.is_alive()
    }

    /// The record on its own, sharing the batch's memory.
    pub fn to_owned(&self) -> Record {
        let inner = Arc::clone(self.inner);
        Record { inner, span: self.record.span(), place: self.part, gap: self.gap() }
    }
}

impl Record {
    /// The record in its batch. A span is only ever made from a record of that very part.
    #[inline]
    fn wire(&self) -> Option<wire::RecordRef<'_>> {
        self.inner.part_of(self.place).map(|part| part.batch.record_at(&self.span))
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.inner.ownership.topic_partition
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.topic_partition().topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.topic_partition().partition()
    }

    /// The offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.wire().map_or(-1, |r| r.offset())
    }

    /// The epoch of the leader that appended it, if the broker told one (KIP-320).
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.inner.part_of(self.place)?.leader_epoch()
    }

    /// The timestamp in milliseconds since 1970; [`timestamp_type`](Self::timestamp_type) says whose. -1 if
    /// there is none (KIP-32).
    pub fn timestamp(&self) -> i64 {
        self.wire().map_or(-1, |r| r.timestamp())
    }

    /// Whether the producer or the broker set the timestamp.
    pub fn timestamp_type(&self) -> TimestampType {
        self.wire().map_or(TimestampType::NoTimestampType, |r| r.timestamp_type())
    }

    /// The key. `None` is null, which is not the same as empty.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.wire()?.key()
    }

    /// The value. `None` is null: a tombstone in a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.wire()?.value()
    }

    /// The key as shared bytes, without a copy. They keep the buffer in memory, but not the batch from being
    /// done.
    pub fn key_bytes(&self) -> Option<Bytes> {
        let range = self.wire()?.key_range()?;
        Some(self.inner.part_of(self.place)?.batch.data().slice(range))
    }

    /// The value as shared bytes, without a copy. They keep the buffer in memory, but not the batch from being
    /// done.
    pub fn value_bytes(&self) -> Option<Bytes> {
        let range = self.wire()?.value_range()?;
        Some(self.inner.part_of(self.place)?.batch.data().slice(range))
    }

    /// The headers in order, duplicates kept (KIP-82).
    pub fn headers(&self) -> impl Iterator<Item = (wire::HeaderKey<'_>, Option<&[u8]>)> {
        self.wire().into_iter().flat_map(|r| r.headers())
    }

    /// Stands for this record.
    pub fn token(&self) -> CommitToken {
        self.inner.record_token(self.offset(), self.gap, self.leader_epoch())
    }

    /// Whether the partition is still owned as it was when the record was handed out.
    pub fn is_owned(&self) -> bool {
        self.inner.ownership.is_alive()
    }
}

fn debug(
    name: &str,
    f: &mut fmt::Formatter<'_>,
    tp: &TopicPartition,
    record: Option<wire::RecordRef<'_>>,
) -> fmt::Result {
    let size = |bytes: Option<&[u8]>| bytes.map(<[u8]>::len);
    f.debug_struct(name)
        .field("topic_partition", tp)
        .field("offset", &record.map(|r| r.offset()))
        .field("key_len", &record.and_then(|r| size(r.key())))
        .field("value_len", &record.and_then(|r| size(r.value())))
        .finish()
}

impl fmt::Debug for RecordRef<'_> {
    /// Sizes, no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("RecordRef", f, self.topic_partition(), Some(self.record))
    }
}

impl fmt::Debug for Record {
    /// Sizes, no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Record", f, self.topic_partition(), self.wire())
    }
}
