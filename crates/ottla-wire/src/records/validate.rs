//! Reading one record, and the one pass over a batch that makes every later pass infallible.

use super::batch::RecordSpan;
use super::error::Fault;
use super::varint::{take_i32, take_i64};

/// Reads the record that starts at `start` of `data`, all but its headers, which stay in `rest`.
///
/// `data` has at most `i32::MAX` bytes, so positions fit u32.
#[inline(always)]
pub(super) fn read_record(data: &[u8], start: usize) -> Result<(RecordSpan, &[u8]), &'static str> {
    let mut buf = data.get(start..).ok_or("starts behind the end")?;
    let length = take_i32(&mut buf).ok_or("its length is no varint")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    let (mut body, after) = buf.split_at_checked(length).ok_or("longer than the bytes left")?;
    let end = data.len().wrapping_sub(after.len());
    // Positions are told by what is left of the body: it ends where the record ends.
    let at = |rest: &[u8]| end.wrapping_sub(rest.len()) as u32;

    let (_attributes, rest) = body.split_first().ok_or("ends before its attributes")?;
    body = rest;
    let timestamp_delta = take_i64(&mut body).ok_or("its timestamp is no varint")?;
    let offset_delta = take_i32(&mut body).ok_or("its offset is no varint")?;

    let key_len = take_i32(&mut body).ok_or("the length of its key is no varint")?;
    let key_start = at(body);
    if let Ok(len) = usize::try_from(key_len) {
        (_, body) = body.split_at_checked(len).ok_or("its key is longer than the record")?;
    }
    let value_len = take_i32(&mut body).ok_or("the length of its value is no varint")?;
    let value_start = at(body);
    if let Ok(len) = usize::try_from(value_len) {
        (_, body) = body.split_at_checked(len).ok_or("its value is longer than the record")?;
    }
    let header_count = take_i32(&mut body).ok_or("its number of headers is no varint")?;
    let header_count = u32::try_from(header_count).map_err(|_| "its number of headers is negative")?;
    let span = RecordSpan {
        timestamp_delta,
        offset_delta,
        start: start as u32,
        end: end as u32,
        key_start,
        key_len,
        value_start,
        value_len,
        headers_start: at(body),
        header_count,
    };
    Ok((span, body))
}

/// Takes one header off the front of `buf`: key and value.
#[inline(always)]
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
        let index = index as u32;
        if at >= data.len() {
            return Err(Fault::Record(index, "the bytes end before the declared number of records"));
        }
        let (span, mut headers) = read_record(data, at).map_err(|what| Fault::Record(index, what))?;
        if span.offset_delta <= last {
            return Err(Fault::Record(index, "its offset does not lie above that of the record before"));
        }
        last = span.offset_delta;
        // A header takes two bytes or more.
        if span.header_count as usize > headers.len() / 2 {
            return Err(Fault::Record(index, "more headers declared than there are bytes"));
        }
        for _ in 0..span.header_count {
            take_header(&mut headers).map_err(|what| Fault::Record(index, what))?;
        }
        if !headers.is_empty() {
            return Err(Fault::Record(index, "its declared length is not the length of its content"));
        }
        at = span.end as usize;
    }
    if at != data.len() {
        return Err(Fault::Structure("bytes are left behind the declared number of records"));
    }
    if last > last_offset_delta {
        return Err(Fault::Structure("a record lies behind the last offset of the batch"));
    }
    Ok(())
}
