//! What a read hands out.

use std::fmt;
use std::sync::Arc;

use ottla_wire::records::{self as wire, RecordCursor};

use super::ledger::Pin;
use super::record::{Record, RecordRef, gap};
use super::strip::Strip;
use super::token::{CommitToken, Ownership};
use crate::{LeaderEpoch, TopicPartition};

/// Consecutive records of one partition.
///
/// Iterating `&batch` gives [`RecordRef`]s and allocates nothing. [`records`](Self::records) gives owned
/// [`Record`]s, which share the batch's memory: a record that is kept keeps the buffer it came in alive, for
/// uncompressed data that is the whole fetch response. [`detach`](Self::detach) copies instead.
///
/// With `Commit::Auto` the batch is done, and committed at the next interval, when the reader came back for more
/// *and* this batch and every `Record` of it are dropped. Data that was copied out cannot be seen.
#[derive(Clone)]
pub struct Batch(pub(super) Arc<BatchInner>);

pub(super) struct BatchInner {
    pub(super) ownership: Arc<Ownership>,
    pub(super) parts: Parts,
    /// The position before: where the first record's mark begins.
    pub(super) start: i64,
    /// The position after: behind the last record and behind the offsets next to it that hold none.
    pub(super) end: i64,
    /// The leader epoch of what lies before `end`.
    pub(super) end_epoch: Option<LeaderEpoch>,
    /// Offset of the last record.
    pub(super) last: i64,
    /// The number of records.
    pub(super) count: usize,
    /// Its records are handed out one at a time, and who holds which is known.
    pub(super) strip: Option<Strip>,
}

/// Mostly one: no allocation for that.
pub(super) enum Parts {
    One(Part),
    Many(Box<[Part]>),
}

/// Records of one batch of the wire, from a cursor on.
pub(super) struct Part {
    pub(super) batch: wire::Batch,
    pub(super) cursor: RecordCursor,
    pub(super) count: usize,
    /// Records of the parts before it, in a strip.
    pub(super) before: u32,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(super) pin: Option<Pin>,
}

impl Part {
    pub(super) fn leader_epoch(&self) -> Option<LeaderEpoch> {
        LeaderEpoch::from_wire(self.batch.header().partition_leader_epoch)
    }
}

impl Parts {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Part] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Many(parts) => parts,
        }
    }
}

impl BatchInner {
    #[inline]
    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.as_slice().get(index)
    }

    /// The part that the owned record at this place lies in; see [`Record`].
    #[inline]
    pub(super) fn part_of(&self, place: u32) -> Option<&Part> {
        match &self.parts {
            Parts::One(part) => Some(part),
            Parts::Many(parts) if self.strip.is_some() => {
                parts.get(parts.partition_point(|part| part.before <= place).checked_sub(1)?)
            }
            Parts::Many(parts) => parts.get(place as usize),
        }
    }

    /// Of the last record.
    pub(super) fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.parts.as_slice().last().and_then(Part::leader_epoch)
    }

    /// The token of the record at `offset`, `gap` offsets without a record lying before it.
    pub(super) fn record_token(&self, offset: i64, gap: u32, epoch: Option<LeaderEpoch>) -> CommitToken {
        let (next, leader_epoch) =
            if offset == self.last { (self.end, self.end_epoch) } else { (offset.saturating_add(1), epoch) };
        let from = match gap {
            u32::MAX => self.end_before(offset),
            gap => offset.saturating_sub(i64::from(gap)),
        };
        CommitToken { ownership: Arc::clone(&self.ownership), from, next, leader_epoch, metadata: None }
    }
}

impl BatchInner {
    /// The offset behind the record before `offset`, for gaps that do not fit: found by walking.
    fn end_before(&self, offset: i64) -> i64 {
        let mut end = self.start;
        for part in self.parts.as_slice() {
            for record in part.batch.iter_from(part.cursor).take(part.count) {
                if record.offset() >= offset {
                    return end;
                }
                end = record.offset().saturating_add(1);
            }
        }
        end
    }
}

impl Drop for BatchInner {
    fn drop(&mut self) {
        self.ownership.signals.handle_dropped();
    }
}

impl Batch {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.0.ownership.topic_partition.topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.0.ownership.topic_partition.partition()
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.0.ownership.topic_partition
    }

    /// The number of records; a batch has at least one.
    pub fn len(&self) -> usize {
        self.0.count
    }

    /// Whether it has no record, which is never so.
    pub fn is_empty(&self) -> bool {
        self.0.count == 0
    }

    /// The offset of the first record.
    pub fn first_offset(&self) -> i64 {
        self.iter().next().map_or(self.0.start, |record| record.offset())
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.0.last
    }

    /// The position after the batch: behind the last record, and behind control records and offsets that
    /// compaction or an abort left empty next to it.
    pub fn next_offset(&self) -> i64 {
        self.0.end
    }

    /// The leader epoch of what lies right before [`next_offset`](Self::next_offset), if the broker told one
    /// (KIP-320): what a commit of that offset carries.
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        self.0.end_epoch
    }

    /// The records in order.
    #[inline]
    pub fn iter(&self) -> BatchIter<'_> {
        let at = InPart { next: 0, records: None, left: 0, behind: self.0.count };
        BatchIter { inner: &self.0, at, expected: self.0.start }
    }

    /// The records in order, owned: each shares this batch's memory and keeps it from counting as done.
    pub fn records(&self) -> BatchRecords {
        let inner = Arc::clone(&self.0);
        let (cursor, left) = inner.part(0).map_or_else(Default::default, |p| (p.cursor, p.count));
        BatchRecords { part: 0, cursor, left, total: inner.count, expected: inner.start, inner }
    }

    /// Stands for all records of the batch.
    pub fn token(&self) -> CommitToken {
        CommitToken {
            ownership: Arc::clone(&self.0.ownership),
            from: self.0.start,
            next: self.0.end,
            leader_epoch: self.0.end_epoch,
            metadata: None,
        }
    }

    /// Whether the partition is still owned as it was when the batch was handed out. If not, the records stay
    /// readable, the tokens are refused, and whoever owns the partition now sees the records again.
    pub fn is_owned(&self) -> bool {
        self.0.ownership.is_alive()
    }

    /// A copy of the records in memory of their own, so that the buffer they came in is freed. It is not
    /// tracked: with `Commit::Auto` the batch counts as done although the copy is alive. Tokens stay usable.
    #[must_use]
    pub fn detach(self) -> Self {
        let parts = self.0.parts.as_slice().iter();
        let mut parts: Vec<Part> = parts
            .map(|part| Part {
                batch: part.batch.detached(),
                cursor: part.cursor,
                count: part.count,
                before: part.before,
                pin: None,
            })
            .collect();
        let parts = match parts.pop() {
            Some(part) if parts.is_empty() => Parts::One(part),
            last => Parts::Many(parts.into_iter().chain(last).collect()),
        };
        let BatchInner { start, end, end_epoch, last, count, .. } = *self.0;
        Self(Arc::new(BatchInner {
            ownership: Arc::clone(&self.0.ownership),
            parts,
            start,
            end,
            end_epoch,
            last,
            count,
            strip: None,
        }))
    }
}

impl fmt::Debug for Batch {
    /// Offsets and sizes, no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic_partition", self.topic_partition())
            .field("first_offset", &self.first_offset())
            .field("next_offset", &self.next_offset())
            .field("records", &self.len())
            .field("is_owned", &self.is_owned())
            .finish()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordRef<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

/// The records of a [`Batch`], borrowed.
#[derive(Clone)]
pub struct BatchIter<'a> {
    inner: &'a Arc<BatchInner>,
    at: InPart<'a>,
    /// The offset behind the record before.
    expected: i64,
}

/// Where an iteration is.
#[derive(Clone)]
struct InPart<'a> {
    /// The part that comes after the one that `records` walks.
    next: u32,
    records: Option<wire::Records<'a>>,
    /// What is left of the part, and of those behind it.
    left: usize,
    behind: usize,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = RecordRef<'a>;

    // In line at the user's loop, what the loop does not look at is not read.
    #[inline(always)]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        if self.at.left == 0 {
            self.at = InPart::nth(self.at.next, self.at.behind, self.inner)?;
        }
        self.at.left -= 1;
        let record = self.at.records.as_mut()?.next()?;
        let expected = self.expected;
        self.expected = record.offset().saturating_add(1);
        Some(RecordRef { record, inner: self.inner, part: self.at.next.wrapping_sub(1), expected })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.at.left.saturating_add(self.at.behind);
        (left, Some(left))
    }
}

impl<'a> InPart<'a> {
    /// At the beginning of the part `next`, or of the one after it that has records. Takes no reference to where the
    /// iteration is: the state of a loop that lends a part of itself does not stay in registers.
    #[cold]
    #[inline(never)]
    fn nth(mut next: u32, behind: usize, inner: &'a BatchInner) -> Option<Self> {
        loop {
            let part = inner.part(next as usize)?;
            next += 1;
            if part.count > 0 {
                let records = Some(part.batch.iter_from(part.cursor));
                let behind = behind.saturating_sub(part.count);
                return Some(Self { next, records, left: part.count, behind });
            }
        }
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

impl fmt::Debug for BatchIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("left", &self.len()).finish()
    }
}

/// The records of a [`Batch`], owned.
#[derive(Clone)]
pub struct BatchRecords {
    inner: Arc<BatchInner>,
    part: usize,
    /// Within the part.
    cursor: RecordCursor,
    /// What is left of the part, and altogether.
    left: usize,
    total: usize,
    /// The offset behind the record before.
    expected: i64,
}

impl Iterator for BatchRecords {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while self.left == 0 {
            let next = self.inner.part(self.part + 1)?;
            self.part += 1;
            (self.cursor, self.left) = (next.cursor, next.count);
        }
        let mut records = self.inner.part(self.part)?.batch.iter_from(self.cursor);
        let record = records.next()?;
        self.cursor = records.cursor();
        let (offset, span) = (record.offset(), record.span());
        self.left -= 1;
        self.total = self.total.saturating_sub(1);
        let gap = gap(self.expected, offset);
        self.expected = offset.saturating_add(1);
        Some(Record { inner: Arc::clone(&self.inner), span, place: self.part as u32, gap })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.total, Some(self.total))
    }
}

impl ExactSizeIterator for BatchRecords {}

impl fmt::Debug for BatchRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchRecords").field("left", &self.total).finish()
    }
}
