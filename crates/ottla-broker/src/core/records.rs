//! Building batches for tests, and reading timestamps back. The only place that looks inside a batch.

use bytes::{BufMut, Bytes, BytesMut};

use super::batch::{self, BatchHeader};

/// A record for the embedded broker to append.
///
/// `"text".into()` and `("key", "value").into()` make records without headers; the setters add the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestRecord {
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

impl TestRecord {
    /// A record with this value and no key.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with a null value: what compaction takes as a delete.
    pub fn tombstone(key: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the timestamp, in milliseconds since 1970. Without it the broker's present time is taken.
    #[must_use]
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Adds a header; names may repeat and keep their order.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header with a null value.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), None));
        self
    }
}

impl From<&str> for TestRecord {
    fn from(value: &str) -> Self {
        Self::new(value.to_owned())
    }
}

impl From<String> for TestRecord {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<Vec<u8>> for TestRecord {
    fn from(value: Vec<u8>) -> Self {
        Self::new(value)
    }
}

impl From<Bytes> for TestRecord {
    fn from(value: Bytes) -> Self {
        Self::new(value)
    }
}

impl From<(&str, &str)> for TestRecord {
    fn from((key, value): (&str, &str)) -> Self {
        Self::new(value.to_owned()).key(key.to_owned())
    }
}

impl From<(String, String)> for TestRecord {
    fn from((key, value): (String, String)) -> Self {
        Self::new(value).key(key)
    }
}

/// Offset and timestamp of each record of a batch.
pub(crate) fn times(bytes: &Bytes, header: &BatchHeader) -> Vec<(i64, i64)> {
    if header.codec() == 0 {
        return batch::deltas(bytes)
            .map(|(offset, time)| (header.base_offset + offset, header.base_timestamp + time))
            .collect();
    }
    vec![(header.base_offset, header.max_timestamp)]
}

/// One uncompressed batch of all records; `now_ms` for those without a timestamp.
pub(crate) fn build(records: &[TestRecord], now_ms: i64) -> Bytes {
    let time = |record: &TestRecord| record.timestamp.unwrap_or(now_ms);
    let base_timestamp = records.first().map_or(now_ms, time);
    let max_timestamp = records.iter().map(time).max().unwrap_or(now_ms);
    let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i32(count - 1);
    body.put_i64(base_timestamp);
    body.put_i64(max_timestamp);
    body.put_i64(-1);
    body.put_i16(-1);
    body.put_i32(-1);
    body.put_i32(count);
    let mut scratch = Vec::new();
    for (index, record) in records.iter().enumerate() {
        scratch.clear();
        scratch.push(0);
        put_varint(&mut scratch, time(record) - base_timestamp);
        put_varint(&mut scratch, index as i64);
        put_bytes(&mut scratch, record.key.as_deref());
        put_bytes(&mut scratch, record.value.as_deref());
        put_varint(&mut scratch, record.headers.len() as i64);
        for (name, value) in &record.headers {
            put_bytes(&mut scratch, Some(name));
            put_bytes(&mut scratch, value.as_deref());
        }
        let mut length = Vec::with_capacity(5);
        put_varint(&mut length, scratch.len() as i64);
        body.put_slice(&length);
        body.put_slice(&scratch);
    }
    let mut batch = BytesMut::with_capacity(body.len() + 21);
    batch.put_i64(0);
    batch.put_i32(i32::try_from(body.len() + 9).unwrap_or(i32::MAX));
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&body));
    batch.put_slice(&body);
    batch.freeze()
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
