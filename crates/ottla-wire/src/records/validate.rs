//! Reading one record, and the one pass over a batch that makes every later pass infallible.

use super::error::Fault;
use super::span::RecordSpan;
use super::varint::{read_i32, take_i32, take_i64};

/// Reads the record that starts at `start` of `data`, the one before it having the offset delta `last`: its own, and
/// where it ends. `None` if it is none; what is wrong with it [`examine`] says.
///
/// Positions only grow, so that the end lies within the data says it of everything before.
#[inline(always)]
fn record(data: &[u8], start: u32, last: i32) -> Option<(i32, u32)> {
    let Some((span, true)) = RecordSpan::read_short(data, start) else {
        return long_record(data, start, last);
    };
    let (end, value_end) = (span.end as usize, span.value_end());
    if end > data.len() || span.offset_delta <= last {
        return None;
    }
    // Most records have no headers: their number is the last byte.
    let bare = value_end.wrapping_add(1) == end && data.get(value_end) == Some(&0);
    (bare || has_good_headers(data, value_end, end)).then_some((span.offset_delta, span.end))
}

#[cold]
#[inline(never)]
fn long_record(data: &[u8], start: u32, last: i32) -> Option<(i32, u32)> {
    let span = RecordSpan::read_long(data, start)?;
    let good = span.offset_delta > last && has_good_headers(data, span.value_end(), span.end as usize);
    good.then_some((span.offset_delta, span.end))
}

/// Whether the headers of a record, the number of which is at `at`, are what it says and end where the record ends.
#[inline(never)]
fn has_good_headers(data: &[u8], at: usize, end: usize) -> bool {
    let Some((count, mut at)) = read_i32(data, at) else { return false };
    if at > end || count < 0 {
        return false;
    }
    for _ in 0..count {
        let Some((len, start)) = read_i32(data, at).filter(|(len, _)| *len >= 0) else { return false };
        let Some((len, start)) = read_i32(data, behind(start, len)) else { return false };
        at = behind(start, len);
    }
    at == end
}

/// Where a field ends whose length may be that of null.
#[inline(always)]
fn behind(start: usize, length: i32) -> usize {
    start.wrapping_add(length.max(0) as usize)
}

/// What is wrong with the record that starts at `start` of `data`, the one before it having the offset delta `last`: read
/// step by step, field by field within the record.
fn examine(data: &[u8], start: usize, last: i32) -> Result<(), &'static str> {
    let mut buf = data.get(start..).ok_or("starts behind the end")?;
    let length = take_i32(&mut buf).ok_or("its length is no varint")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let mut body = buf.get(..length).ok_or("longer than the bytes left")?;

    (_, body) = body.split_first().ok_or("ends before its attributes")?;
    take_i64(&mut body).ok_or("its timestamp is no varint")?;
    let offset_delta = take_i32(&mut body).ok_or("its offset is no varint")?;

    let len = take_i32(&mut body).ok_or("the length of its key is no varint")?;
    body = body.get(len.max(0) as usize..).ok_or("its key is longer than the record")?;
    let len = take_i32(&mut body).ok_or("the length of its value is no varint")?;
    body = body.get(len.max(0) as usize..).ok_or("its value is longer than the record")?;

    let headers = take_i32(&mut body).ok_or("its number of headers is no varint")?;
    let headers = usize::try_from(headers).map_err(|_| "its number of headers is negative")?;
    if offset_delta <= last {
        return Err("its offset does not lie above that of the record before");
    }
    // A header takes two bytes or more.
    if headers > body.len() / 2 {
        return Err("more headers declared than there are bytes");
    }
    for _ in 0..headers {
        take_header(&mut body)?;
    }
    if body.is_empty() { Ok(()) } else { Err("its declared length is not the length of its content") }
}

/// Takes one header off the front of `buf`: key and value.
#[inline]
pub(super) fn take_header<'a>(buf: &mut &'a [u8]) -> Result<(&'a [u8], Option<&'a [u8]>), &'static str> {
    let len = take_i32(buf).ok_or("the length of a header key is no varint")?;
    let len = usize::try_from(len).map_err(|_| "the length of a header key is negative")?;
    let (key, rest) = buf.split_at_checked(len).ok_or("a header key is longer than the record")?;
    *buf = rest;
    let len = take_i32(buf).ok_or("the length of a header value is no varint")?;
    let Ok(len) = usize::try_from(len) else { return Ok((key, None)) };
    let (value, rest) = buf.split_at_checked(len).ok_or("a header value is longer than the record")?;
    *buf = rest;
    Ok((key, Some(value)))
}

/// Checks that `data` is exactly `count` records with strictly increasing offsets up to `last_offset_delta`.
pub(super) fn records(data: &[u8], count: i32, last_offset_delta: i32) -> Result<(), Fault> {
    if i32::try_from(data.len()).is_err() {
        return Err(Fault::Structure("more than 2 GiB of records"));
    }
    let mut at = 0u32;
    let mut last = -1i32;
    for index in 0..count {
        match record(data, at, last) {
            Some(next) => (last, at) = next,
            None => return Err(Fault::Record(index as u32, what_is_wrong(data, at as usize, last))),
        }
    }
    if at as usize != data.len() {
        return Err(Fault::Structure("bytes are left behind the declared number of records"));
    }
    if last > last_offset_delta {
        return Err(Fault::Structure("a record lies behind the last offset of the batch"));
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn what_is_wrong(data: &[u8], at: usize, last: i32) -> &'static str {
    if at >= data.len() {
        return "the bytes end before the declared number of records";
    }
    examine(data, at, last).err().unwrap_or("it is damaged")
}

#[cfg(test)]
mod tests {
    use super::super::encode::put_record;
    use super::*;

    /// The ways to read, two of them fast, agree about every record that is one byte or two off.
    #[test]
    fn all_readers_agree() {
        let mut good = Vec::new();
        let value = [7; 70];
        put_record(&mut good, 300, 5, Some(b"key"), Some(&value), &[(b"h", Some(b"x")), (b"", None)]);
        put_record(&mut good, 1, 6, None, None, &[]);
        let mut bare = Vec::new();
        put_record(&mut bare, 1, 3, Some(b"key"), Some(b"value"), &[]);
        for good in [&good[..], &bare, &[&bare[..], &[0; 20]].concat()] {
            let refused = one_or_two_off(good);
            assert!(refused > 10_000, "{refused}");
            assert_eq!(examine(good, 0, 2), Ok(()));
            assert!(examine(good, 0, 5).is_err());
        }
    }

    fn one_or_two_off(good: &[u8]) -> usize {
        let mut refused = 0;
        let mut check = |data: &[u8]| {
            let read = record(data, 0, 2);
            assert_eq!(read, long_record(data, 0, 2), "{data:?}");
            assert_eq!(read.is_some(), examine(data, 0, 2).is_ok(), "{data:?}");
            refused += usize::from(read.is_none());
            let again = RecordSpan::read(data, 0).map(|span| (span.offset_delta, span.end));
            assert!(read.is_none() || read == again, "{data:?}");
        };
        for at in 0..good.len() {
            check(&good[..at]);
            for byte in 0..=255 {
                let mut bad = good.to_vec();
                bad[at] = byte;
                check(&bad);
                for other in [0, 1, 2, 0x7f, 0x80, 0xff] {
                    bad[(at + 1) % good.len()] = other;
                    check(&bad);
                }
            }
        }
        refused
    }
}
