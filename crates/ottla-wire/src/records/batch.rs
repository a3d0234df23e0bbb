//! A validated batch and its records.

use core::ops::Range;
use core::{fmt, str};

use bytes::Bytes;

use super::control::ControlRecords;
use super::header::{BatchHeader, TimestampType};
use super::span::RecordSpan;
use super::validate::take_header;

/// A decoded batch: every record was validated, so iterating it allocates nothing and cannot fail.
///
/// Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Batch {
    header: BatchHeader,
    data: Bytes,
    allocated: usize,
}

impl Batch {
    /// `data` has passed [`validate::records`](super::validate::records) with this header.
    pub(super) fn new(header: BatchHeader, data: Bytes, allocated: usize) -> Self {
        Self { header, data, allocated }
    }

    /// The header. Of magic 0 and 1 it is filled in as if the batch had been magic 2.
    #[inline]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The number of records that are there.
    #[inline]
    pub fn record_count(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    /// The records, uncompressed, in the layout of magic 2. For an uncompressed batch of magic 2 it is a part of
    /// the buffer that the fetch response came in.
    #[inline]
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How much memory holding it takes: of a decompressed batch a little more than its records, of an uncompressed
    /// one its part of the buffer that it came in.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// The records in order.
    #[inline]
    pub fn iter(&self) -> Records<'_> {
        self.iter_from(RecordCursor::default())
    }

    /// The records from a place on where an earlier iteration over this batch stood.
    ///
    /// A cursor of another batch gives no panic, but nothing useful either.
    #[inline]
    pub fn iter_from(&self, cursor: RecordCursor) -> Records<'_> {
        Records { batch: self, data: &self.data, cursor }
    }

    /// The record that `span` was taken from; `span` must be of this batch.
    #[inline]
    pub fn record_at(&self, span: &RecordSpan) -> RecordRef<'_> {
        RecordRef { batch: self, data: &self.data, span: *span }
    }

    /// The same batch with its records copied into memory of their own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self::new(self.header, Bytes::copy_from_slice(&self.data), self.data.len())
    }

    /// The records from `cursor` on copied into memory of their own, and where they begin in there. What lies before
    /// `cursor` is not in it.
    #[must_use]
    pub fn detached_from(&self, cursor: RecordCursor) -> (Self, RecordCursor) {
        let rest = self.data.get(cursor.position()..).unwrap_or_default();
        let batch = Self::new(self.header, Bytes::copy_from_slice(rest), rest.len());
        (batch, RecordCursor { position: 0, index: cursor.index })
    }

    /// What the records of a control batch say; of any other batch: nothing.
    pub fn control_records(&self) -> ControlRecords<'_> {
        ControlRecords::new(self)
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordRef<'a>;
    type IntoIter = Records<'a>;

    #[inline]
    fn into_iter(self) -> Records<'a> {
        self.iter()
    }
}

/// A place between two records of a batch, so that it can be handed out in parts without walking it again.
/// The default is the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCursor {
    position: u32,
    index: u32,
}

impl RecordCursor {
    /// How many records lie before it.
    #[inline]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// How many bytes of [`Batch::data`] lie before it.
    #[inline]
    pub fn position(&self) -> usize {
        self.position as usize
    }
}

/// The records of a [`Batch`] in order.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a Batch,
    data: &'a [u8],
    cursor: RecordCursor,
}

impl Records<'_> {
    /// Where the iteration stands: before the record that comes next.
    #[inline]
    pub fn cursor(&self) -> RecordCursor {
        self.cursor
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    // In line whatever the size of the user's function: by call it takes twice as long, and gives back everything by
    // memory.
    #[inline(always)]
    fn next(&mut self) -> Option<RecordRef<'a>> {
        let span = RecordSpan::read(self.data, self.cursor.position)?;
        self.cursor = RecordCursor { position: span.end, index: self.cursor.index.wrapping_add(1) };
        Some(RecordRef { batch: self.batch, data: self.data, span })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.record_count().saturating_sub(self.cursor.index());
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// A record, borrowed from its batch.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    batch: &'a Batch,
    data: &'a [u8],
    span: RecordSpan,
}

impl<'a> RecordRef<'a> {
    /// The offset.
    #[inline]
    pub fn offset(&self) -> i64 {
        // Validation holds deltas below that of the last offset, which parsing has checked.
        self.batch.header.base_offset.wrapping_add(i64::from(self.span.offset_delta))
    }

    /// The timestamp in milliseconds since the epoch: the producer's, or the broker's when
    /// [`timestamp_type`](Self::timestamp_type) is `LogAppendTime`; -1 when there is none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        let header = &self.batch.header;
        match header.timestamp_type {
            // Wraps as in Java. A delete horizon (KIP-534) needs no care: deltas count from it.
            TimestampType::CreateTime => header.base_timestamp.wrapping_add(self.span.timestamp_delta),
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::NoTimestampType => -1,
        }
    }

    /// What the timestamp means.
    pub fn timestamp_type(&self) -> TimestampType {
        self.batch.header.timestamp_type
    }

    /// The key; `None` is null, which is not the same as empty.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.span.key().and_then(|at| self.data.get(at))
    }

    /// The value; `None` is null (a tombstone), which is not the same as empty.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.span.value().and_then(|at| self.data.get(at))
    }

    /// The headers, in order, duplicates kept, read as the iterator advances.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        let (count, at) = self.span.headers(self.data).unwrap_or_default();
        Headers { buf: self.data.get(at).unwrap_or_default(), left: count as usize }
    }

    /// The sequence number that the idempotent producer gave it (KIP-98).
    pub fn sequence(&self) -> Option<i32> {
        self.batch.header.sequence_at(self.span.offset_delta)
    }

    /// The batch it is in.
    pub fn batch(&self) -> &'a Batch {
        self.batch
    }

    /// What is needed to find it again in its batch.
    #[inline]
    pub fn span(&self) -> RecordSpan {
        self.span
    }

    /// Its bytes inside [`Batch::data`], length prefix included.
    pub fn range(&self) -> Range<usize> {
        self.span.range()
    }

    /// The bytes of its key inside [`Batch::data`].
    pub fn key_range(&self) -> Option<Range<usize>> {
        self.span.key()
    }

    /// The bytes of its value inside [`Batch::data`].
    pub fn value_range(&self) -> Option<Range<usize>> {
        self.span.value()
    }

    /// The bytes of its headers, their number not included, inside [`Batch::data`].
    pub fn headers_range(&self) -> Range<usize> {
        self.span.headers(self.data).unwrap_or_default().1
    }
}

impl fmt::Debug for RecordRef<'_> {
    /// Sizes instead of content: what is in a record belongs into no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef")
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().map(<[u8]>::len))
            .field("headers", &self.headers().len())
            .finish()
    }
}

/// The headers of a record in order; duplicates are legal and kept.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    buf: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (HeaderKey<'a>, Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (key, value) = take_header(&mut self.buf).ok()?;
        Some((HeaderKey(key), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The key of a header. Kafka says that it is UTF-8; brokers do not check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderKey<'a>(&'a [u8]);

impl<'a> HeaderKey<'a> {
    /// The bytes as they came.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The key as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn as_str(&self) -> Result<&'a str, str::Utf8Error> {
        str::from_utf8(self.0)
    }
}

impl PartialEq<str> for HeaderKey<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for HeaderKey<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}
