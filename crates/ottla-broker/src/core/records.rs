//! Building batches for tests, and reading timestamps back. The only place that looks inside a batch.

use bytes::Bytes;
use ottla_wire::records::{BatchDecoder, BatchWriter, Batches, Compression, ControlRecord, DecodeOptions};

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

/// A compression codec of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// No compression.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy in the framing of Java clients (xerial).
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard: only Fetch 10 and newer may see it.
    Zstd,
}

/// Makes one record batch for [`Broker::produce_batch`](crate::Broker::produce_batch): what `produce` does not do.
///
/// ```
/// use ottla_broker::{BatchBuilder, Codec};
///
/// let data = BatchBuilder::new(["a", "b"]).codec(Codec::Zstd).transactional(7, 0, 0).finish();
/// let abort = BatchBuilder::abort_marker(7, 0);
/// # assert!(!data.is_empty() && !abort.is_empty());
/// ```
#[derive(Debug, Clone)]
#[must_use = "finish() gives the bytes"]
pub struct BatchBuilder {
    writer: BatchWriter,
    records: Vec<TestRecord>,
    now_ms: i64,
}

impl BatchBuilder {
    /// A batch of these records.
    pub fn new(records: impl IntoIterator<Item = impl Into<TestRecord>>) -> Self {
        Self { writer: BatchWriter::new(), records: records.into_iter().map(Into::into).collect(), now_ms: 0 }
    }

    /// Compresses the records.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.writer = self.writer.compression(match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        });
        self
    }

    /// The timestamp of records that have none, in milliseconds since 1970 (default 0).
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.now_ms = millis;
        self
    }

    /// Makes it a batch of an idempotent producer (KIP-98).
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.writer = self.writer.producer(id, epoch, base_sequence);
        self
    }

    /// Makes it part of a producer's transaction (KIP-98), to be ended by a marker.
    pub fn transactional(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.writer = self.writer.producer(id, epoch, base_sequence).transactional(true);
        self
    }

    /// The batch's own offset, for [`Broker::produce_batch_at`](crate::Broker::produce_batch_at).
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.writer = self.writer.base_offset(offset);
        self
    }

    /// The last offset the batch stands for, relative to the first: larger than the records need when compaction
    /// removed the last ones.
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.writer = self.writer.last_offset_delta(delta);
        self
    }

    /// All records have this timestamp, given by the broker (`LogAppendTime`).
    pub fn log_append_time(mut self, millis: i64) -> Self {
        self.writer = self.writer.log_append_time(millis);
        self
    }

    /// The bytes of the batch.
    ///
    /// # Panics
    /// The records are more than a batch can hold (1 GiB).
    pub fn finish(self) -> Bytes {
        let mut writer = self.writer;
        for record in &self.records {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            let timestamp = record.timestamp.unwrap_or(self.now_ms);
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            if let Err(error) = writer.append(timestamp, key, value, &headers) {
                panic!("the records do not fit into one batch: {error}");
            }
        }
        writer.finish()
    }

    /// The marker that ends a producer's transaction by aborting it.
    pub fn abort_marker(producer_id: i64, producer_epoch: i16) -> Bytes {
        marker(ControlRecord::Abort, producer_id, producer_epoch)
    }

    /// The marker that ends a producer's transaction by committing it.
    pub fn commit_marker(producer_id: i64, producer_epoch: i16) -> Bytes {
        marker(ControlRecord::Commit, producer_id, producer_epoch)
    }
}

fn marker(kind: ControlRecord, producer_id: i64, producer_epoch: i16) -> Bytes {
    // Value: version 0, coordinator epoch 0.
    let record = TestRecord::new(vec![0; 6]).key(kind.key().to_vec());
    let mut batch = BatchBuilder::new([record]);
    batch.writer = batch.writer.producer(producer_id, producer_epoch, -1).transactional(true).control(true);
    batch.finish()
}

/// Offset and timestamp of each record of a batch.
pub(crate) fn times(batch: Bytes) -> Vec<(i64, i64)> {
    let Some(Ok(raw)) = Batches::new(batch).next() else { return Vec::new() };
    match raw.decode(&mut BatchDecoder::new(), DecodeOptions::default()) {
        Ok(batch) => batch.iter().map(|record| (record.offset(), record.timestamp())).collect(),
        Err(error) => {
            tracing::warn!(%error, "a stored batch cannot be read: no offsets by time from it");
            Vec::new()
        }
    }
}

/// One uncompressed batch of all records; `now_ms` for those without a timestamp.
pub(crate) fn build(records: Vec<TestRecord>, now_ms: i64) -> Bytes {
    BatchBuilder { writer: BatchWriter::new(), records, now_ms }.finish()
}
