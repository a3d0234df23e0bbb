//! Where the parts of a record lie: reading its head.
//!
//! The hot loop of a consumer: each record is read twice, by the one pass that validates the batch and in the user's
//! loop. So the way of nearly all records, whose varints are short, has one check of bounds for all of a head up to the
//! key, and nothing fails in it that need not: what a user's loop does not look at the compiler leaves out.

use core::ops::Range;

use super::varint::{read_i32, read_i64, read_u32, unzigzag};

/// Where a record lies inside [`Batch::data`](super::Batch::data): with the batch it gives the record back, without
/// parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSpan {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) start: u32,
    pub(super) end: u32,
    key_start: u32,
    key_length: Length,
    value_start: u32,
    value_length: Length,
}

/// The length of a key or a value as it came, in zigzag: every negative one, and so every odd one, is that of null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Length(u32);

impl Length {
    /// How many bytes it takes.
    #[inline(always)]
    fn bytes(self) -> usize {
        if self.0 & 1 == 0 { self.0 as usize >> 1 } else { 0 }
    }

    /// The bytes from `start` on, unless it is null.
    #[inline(always)]
    fn range(self, start: u32) -> Option<Range<usize>> {
        let start = start as usize;
        (self.0 & 1 == 0).then(|| start..start.wrapping_add(self.bytes()))
    }
}

/// The most bytes of a short varint: lengths up to 1 MiB, timestamps 17 minutes apart.
const SHORT: usize = 3;
/// The most bytes of a head up to the length of the key, if its varints are short: attributes and four of them.
const SHORT_HEAD: usize = 1 + 4 * SHORT;

impl RecordSpan {
    /// Reads the head of the record that starts at `start` of `data`, which was validated; `None` behind the last one.
    #[inline(always)]
    pub(super) fn read(data: &[u8], start: u32) -> Option<Self> {
        match Self::read_short(data, start) {
            Some((span, _)) => Some(span),
            None => Self::read_long(data, start),
        }
    }

    /// A head whose varints are short, and whether neither length nor offset is negative. Not looked at is whether what
    /// it speaks of lies within the record, and that within the data.
    #[inline(always)]
    pub(super) fn read_short(data: &[u8], start: u32) -> Option<(Self, bool)> {
        let head: &[u8; SHORT_HEAD] = chunk(data, start as usize)?;
        let (length, at) = short(head, 0)?;
        let end = start.wrapping_add(at as u32).wrapping_add(length >> 1);
        // Behind the attributes, which say nothing.
        let (timestamp, at) = short(head, at.wrapping_add(1))?;
        let (offset, at) = short(head, at)?;
        let (key, at) = short(head, at)?;
        let key_start = (start as usize).wrapping_add(at);
        let value_at = key_start.wrapping_add(Length(key).bytes());
        let (value, at) = short(chunk::<SHORT>(data, value_at)?, 0)?;
        let span = Self {
            timestamp_delta: i64::from(unzigzag(timestamp)),
            offset_delta: unzigzag(offset),
            start,
            end,
            key_start: key_start as u32,
            key_length: Length(key),
            value_start: value_at.wrapping_add(at) as u32,
            value_length: Length(value),
        };
        Some((span, (length | offset) & 1 == 0))
    }

    /// Any head; `None` if there is none, or the record does not lie within the data.
    #[cold]
    #[inline(never)]
    pub(super) fn read_long(data: &[u8], start: u32) -> Option<Self> {
        let (length, at) = read_i32(data, start as usize)?;
        // No sum can wrap: no read succeeds behind the end of `data`.
        let end = at.wrapping_add(usize::try_from(length).ok()?);
        let (timestamp_delta, at) = read_i64(data, at.wrapping_add(1))?;
        let (offset_delta, at) = read_i32(data, at)?;
        let (key, key_start) = read_u32(data, at)?;
        let (value, value_start) = read_u32(data, key_start.wrapping_add(Length(key).bytes()))?;
        (end <= data.len()).then_some(Self {
            timestamp_delta,
            offset_delta,
            start,
            end: end as u32,
            key_start: key_start as u32,
            key_length: Length(key),
            value_start: value_start as u32,
            value_length: Length(value),
        })
    }

    /// The bytes of the record.
    #[inline]
    pub(super) fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes of the key; `None` if it is null.
    #[inline]
    pub(super) fn key(&self) -> Option<Range<usize>> {
        self.key_length.range(self.key_start)
    }

    /// The bytes of the value; `None` if it is null.
    #[inline]
    pub(super) fn value(&self) -> Option<Range<usize>> {
        self.value_length.range(self.value_start)
    }

    /// Where the value ends and the number of headers is.
    #[inline(always)]
    pub(super) fn value_end(&self) -> usize {
        (self.value_start as usize).wrapping_add(self.value_length.bytes())
    }

    /// The number of headers, and their bytes.
    #[inline]
    pub(super) fn headers(&self, data: &[u8]) -> Option<(u32, Range<usize>)> {
        let (count, at) = read_i32(data, self.value_end())?;
        Some((u32::try_from(count).ok()?, at..self.end as usize))
    }
}

/// `N` bytes from `at` on.
#[inline(always)]
fn chunk<const N: usize>(data: &[u8], at: usize) -> Option<&[u8; N]> {
    data.get(at..at.wrapping_add(N))?.first_chunk()
}

/// What the varint at `at` says before zigzag and where it ends, if it has at most three bytes.
#[inline(always)]
fn short(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    let byte = |index| bytes.get(at.wrapping_add(index)).map(|byte| u32::from(*byte));
    let first = byte(0)?;
    if first < 0x80 {
        return Some((first, at.wrapping_add(1)));
    }
    let (low, second) = (first & 0x7f, byte(1)?);
    if second < 0x80 {
        return Some((low | (second << 7), at.wrapping_add(2)));
    }
    let (low, third) = (low | (second & 0x7f) << 7, byte(2)?);
    (third < 0x80).then_some((low | (third << 14), at.wrapping_add(3)))
}

#[cfg(test)]
mod tests {
    use super::super::varint::{put_i32, put_i64};
    use super::*;

    /// The record of these, in data that goes on or does not.
    fn data(timestamp: i64, offset: i32, key: i32, value: i32, more: usize) -> (Vec<u8>, usize) {
        let mut body = vec![0];
        put_i64(&mut body, timestamp);
        put_i32(&mut body, offset);
        for length in [key, value] {
            put_i32(&mut body, length);
            body.resize(body.len() + length.max(0) as usize, 7);
        }
        body.push(0);
        let mut data = Vec::new();
        put_i32(&mut data, body.len() as i32);
        data.extend_from_slice(&body);
        let end = data.len();
        data.resize(end + more, 9);
        (data, end)
    }

    /// Both ways of reading give what was written, at every length of a varint and with anything or nothing behind.
    #[test]
    fn heads_of_any_size_are_read_alike() {
        let edges = [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576];
        let mut short = 0;
        let mut check = |timestamp, offset, key, value| {
            for more in [0, 1, 40] {
                let (data, end) = data(timestamp, offset, key, value, more);
                let span = RecordSpan::read(&data, 0).unwrap();
                assert_eq!(Some(span), RecordSpan::read_long(&data, 0));
                assert_eq!(
                    (span.timestamp_delta, span.offset_delta, span.range()),
                    (timestamp, offset, 0..end)
                );
                assert_eq!(span.key().map(|at| at.len()), usize::try_from(key).ok());
                assert_eq!(span.value().map(|at| at.len()), usize::try_from(value).ok());
                assert_eq!((span.value_end(), span.headers(&data)), (end - 1, Some((0, end..end))));
                short += usize::from(RecordSpan::read_short(&data, 0) == Some((span, true)));
            }
        };
        for edge in edges {
            check(i64::from(edge), 0, -1, -1);
            check(-i64::from(edge), edge, 3, 3);
            check(0, 1, edge, -1);
            check(0, 1, -1, edge);
        }
        check(i64::MIN, i32::MAX, 0, 0);
        assert!(short > 50, "{short}");
    }

    /// Behind the last record there is none.
    #[test]
    fn the_end_is_none() {
        let (data, end) = data(0, 0, 3, 3, 0);
        assert_eq!(RecordSpan::read(&data, end as u32), None);
        assert_eq!(RecordSpan::read(&data, u32::MAX), None);
    }
}
