//! Writing one record in the layout of magic 2.

use super::varint::{put_i32, put_i64, size_of_i64};

/// Appends a record. All lengths fit i32: the caller has checked the sum.
pub(super) fn put_record(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&[u8], Option<&[u8]>)],
) {
    put_i64(out, size_of_body(timestamp_delta, offset_delta, key, value, headers) as i64);
    out.push(0);
    put_i64(out, timestamp_delta);
    put_i32(out, offset_delta);
    put_bytes(out, key);
    put_bytes(out, value);
    put_i64(out, headers.len() as i64);
    for (key, value) in headers {
        put_bytes(out, Some(key));
        put_bytes(out, *value);
    }
}

/// The bytes of the record behind its length.
pub(super) fn size_of_body(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&[u8], Option<&[u8]>)],
) -> usize {
    let headers_size = headers
        .iter()
        .map(|(key, value)| size_of_bytes(Some(key)).saturating_add(size_of_bytes(*value)))
        .fold(size_of_i64(headers.len() as i64), usize::saturating_add);
    1usize
        .saturating_add(size_of_i64(timestamp_delta))
        .saturating_add(size_of_i64(i64::from(offset_delta)))
        .saturating_add(size_of_bytes(key))
        .saturating_add(size_of_bytes(value))
        .saturating_add(headers_size)
}

fn size_of_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| size_of_i64(b.len() as i64).saturating_add(b.len()))
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_i64(out, -1),
    }
}
