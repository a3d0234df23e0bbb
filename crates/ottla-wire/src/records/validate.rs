//! Reading one record, and the one pass over a batch that makes every later pass infallible.

use super::batch::RecordSpan;
use super::error::Fault;
use super::varint::{read_i32, read_i64, take_i32, take_i64};

/// Reads the record that starts at `start` of `data`; `None` if it is none. Its headers are not looked at.
///
/// The hot loop of a consumer, together with what is made of it: positions only grow, so one comparison at the end says
/// that all of it lies within the record. What exactly is wrong with one that is refused [`examine`] says.
///
/// `data` has at most `i32::MAX` bytes, so positions fit u32.
#[inline(always)]
pub(super) fn read_record(data: &[u8], start: usize) -> Option<RecordSpan> {
    let (length, at) = read_i32(data, start)?;
    // A negative length becomes one that is too long. No sum can wrap: no read succeeds behind the end of `data`.
    let end = at.wrapping_add(length as u32 as usize);
    // Behind the attributes, which say nothing.
    let (timestamp_delta, at) = read_i64(data, at.wrapping_add(1))?;
    let (offset_delta, at) = read_i32(data, at)?;
    let (key_len, key_start) = read_i32(data, at)?;
    let (value_len, value_start) = read_i32(data, behind(key_start, key_len))?;
    let (header_count, at) = read_i32(data, behind(value_start, value_len))?;
    if at > end || end > data.len() || header_count < 0 {
        return None;
    }
    Some(RecordSpan {
        timestamp_delta,
        offset_delta,
        start: start as u32,
        end: end as u32,
        key_start: key_start as u32,
        key_len,
        value_start: value_start as u32,
        value_len,
        headers_start: at as u32,
        header_count: header_count as u32,
    })
}

/// Where a field ends whose length may be that of null.
#[inline(always)]
fn behind(start: usize, length: i32) -> usize {
    start.wrapping_add(length.max(0) as usize)
}

/// Whether the headers of a record are what it says, and its content ends where the record ends.
#[inline(always)]
fn has_good_headers(data: &[u8], span: &RecordSpan) -> bool {
    let mut at = span.headers_start as usize;
    for _ in 0..span.header_count {
        let Some((len, start)) = read_i32(data, at).filter(|(len, _)| *len >= 0) else { return false };
        let Some((len, start)) = read_i32(data, behind(start, len)) else { return false };
        at = behind(start, len);
    }
    at == span.end as usize
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
    let mut at = 0usize;
    let mut last = -1i32;
    for index in 0..count {
        match read_record(data, at) {
            Some(span) if span.offset_delta > last && has_good_headers(data, &span) => {
                last = span.offset_delta;
                at = span.end as usize;
            }
            _ => return Err(Fault::Record(index as u32, what_is_wrong(data, at, last))),
        }
    }
    if at != data.len() {
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

    /// The fast way and the careful one agree about every record that is one byte or two off.
    #[test]
    fn both_readers_agree() {
        let mut good = Vec::new();
        let value = [7; 70];
        put_record(&mut good, 300, 5, Some(b"key"), Some(&value), &[(b"h", Some(b"x")), (b"", None)]);
        put_record(&mut good, 1, 6, None, None, &[]);
        let mut refused = 0;
        let mut check = |data: &[u8]| {
            let read = read_record(data, 0);
            let taken = read.filter(|span| span.offset_delta > 2 && has_good_headers(data, span)).is_some();
            assert_eq!(taken, examine(data, 0, 2).is_ok(), "{data:?}");
            refused += usize::from(!taken);
        };
        for at in 0..good.len() {
            check(&good[..at]);
            for byte in 0..=255 {
                let mut bad = good.clone();
                bad[at] = byte;
                check(&bad);
                for other in [0, 1, 2, 0x7f, 0x80, 0xff] {
                    bad[(at + 1) % good.len()] = other;
                    check(&bad);
                }
            }
        }
        assert!(refused > 10_000, "{refused}");
        assert_eq!(examine(&good, 0, 2), Ok(()));
        assert!(examine(&good, 0, 5).is_err());
    }
}
