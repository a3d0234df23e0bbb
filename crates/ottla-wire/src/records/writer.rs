//! Writing batches of magic 2, and what a broker changes in them in place.

use bytes::Bytes;

use super::codec;
use super::encode::{put_record, size_of_body};
use super::error::{BatchError, Fault};
use super::header::{
    APPEND_TIME_BIT, CONTROL_BIT, CRC_START, Compression, DELETE_HORIZON_BIT, HEADER_SIZE, LOG_OVERHEAD,
    TRANSACTIONAL_BIT, TimestampType,
};

/// The most bytes of records in one batch, uncompressed: half of what the format can say, so that no codec can
/// go over it.
const MAX_RECORDS_BYTES: usize = 1 << 30;

/// Builds one batch of magic 2.
///
/// ```
/// use ottla_wire::records::{BatchWriter, Compression};
///
/// let mut batch = BatchWriter::new().compression(Compression::Lz4).base_offset(42);
/// batch.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[(b"trace", None)])?;
/// let bytes = batch.finish();
/// # assert_eq!(&bytes[..8], &42i64.to_be_bytes());
/// # Ok::<(), ottla_wire::records::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchWriter {
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
    base_offset: i64,
    partition_leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    log_append_time: i64,
    delete_horizon_ms: Option<i64>,
    last_offset_delta: Option<i32>,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: i32,
    next_offset_delta: i64,
    records: Vec<u8>,
}

impl Default for BatchWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchWriter {
    /// An empty, uncompressed batch at offset 0 without producer id and leader epoch.
    pub fn new() -> Self {
        Self {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            log_append_time: -1,
            delete_horizon_ms: None,
            last_offset_delta: None,
            base_timestamp: -1,
            max_timestamp: -1,
            record_count: 0,
            next_offset_delta: 0,
            records: Vec::new(),
        }
    }

    /// Compresses the records. A codec that is compiled out leaves them as they are
    /// ([`Compression::is_available`]).
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The offset of the first record; producers leave it at 0.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The leader epoch of the append; producers leave it at -1.
    #[must_use]
    pub fn partition_leader_epoch(mut self, epoch: i32) -> Self {
        self.partition_leader_epoch = epoch;
        self
    }

    /// What the timestamps mean. With `LogAppendTime` all records have the highest timestamp appended, unless
    /// [`log_append_time`](Self::log_append_time) sets another. `NoTimestampType` is not of this format and
    /// counts as `CreateTime`.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Makes it a `LogAppendTime` batch of this time in milliseconds.
    #[must_use]
    pub fn log_append_time(mut self, timestamp: i64) -> Self {
        self.timestamp_type = TimestampType::LogAppendTime;
        self.log_append_time = timestamp;
        self
    }

    /// The idempotent producer (KIP-98).
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction (KIP-98).
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Marks the records as control records: see [`ControlRecord::key`](super::ControlRecord::key).
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Sets a delete horizon (KIP-534): timestamps then count from it.
    #[must_use]
    pub fn delete_horizon_ms(mut self, horizon: i64) -> Self {
        self.delete_horizon_ms = Some(horizon);
        self
    }

    /// The last offset that the batch stands for, relative to the first: as compaction leaves it behind when
    /// it removes the last records. Never below that of a record appended.
    #[must_use]
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }

    /// Appends a record at the next offset.
    ///
    /// # Errors
    /// `Limit` when a batch cannot hold it; the batch stays as it was.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let full = Fault::Limit {
            setting: "the number of offsets in a batch",
            limit: i32::MAX as usize,
            at_least: i32::MAX as usize,
        };
        let delta = i32::try_from(self.next_offset_delta).map_err(|_| full.bare())?;
        self.append_at(delta, timestamp, key, value, headers)
    }

    /// Appends a record at an offset relative to that of the batch, as in a compacted batch. Deltas must rise;
    /// one that does not is written as it is, and no reader will take the batch.
    ///
    /// # Errors
    /// `Limit` when a batch cannot hold it; the batch stays as it was.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let base_timestamp = match self.delete_horizon_ms {
            Some(horizon) => horizon,
            None if self.record_count == 0 => timestamp,
            None => self.base_timestamp,
        };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let body = size_of_body(timestamp_delta, offset_delta, key, value, headers);
        // The length takes at most 5 bytes.
        let at_least = self.records.len().saturating_add(body).saturating_add(5);
        if at_least > MAX_RECORDS_BYTES {
            let setting = "the size of a batch";
            return Err(Fault::Limit { setting, limit: MAX_RECORDS_BYTES, at_least }.bare());
        }
        put_record(&mut self.records, timestamp_delta, offset_delta, key, value, headers);
        self.base_timestamp = base_timestamp;
        self.max_timestamp =
            if self.record_count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        // A record takes 7 bytes or more, so the count stays far below its limit.
        self.record_count = self.record_count.saturating_add(1);
        self.next_offset_delta = i64::from(offset_delta).saturating_add(1);
        Ok(())
    }

    /// The number of records so far.
    pub fn record_count(&self) -> usize {
        usize::try_from(self.record_count).unwrap_or(0)
    }

    /// The size of the batch so far, before compression.
    pub fn uncompressed_size(&self) -> usize {
        HEADER_SIZE.saturating_add(self.records.len())
    }

    /// The batch, its checksum set.
    pub fn finish(self) -> Bytes {
        let compressed = codec::compress(self.compression, &self.records);
        let compression = if compressed.is_some() { self.compression } else { Compression::None };
        let records = compressed.as_deref().unwrap_or(&self.records);

        let mut attributes = i16::from(compression.id());
        let mut max_timestamp = self.max_timestamp;
        let mut base_timestamp = self.base_timestamp;
        if self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= APPEND_TIME_BIT;
            if self.log_append_time >= 0 {
                max_timestamp = self.log_append_time;
            }
        }
        if self.transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        if self.control {
            attributes |= CONTROL_BIT;
        }
        if let Some(horizon) = self.delete_horizon_ms {
            attributes |= DELETE_HORIZON_BIT;
            base_timestamp = horizon;
        }
        let last_delta = self.next_offset_delta.saturating_sub(1).max(0);
        let last_delta = last_delta.max(i64::from(self.last_offset_delta.unwrap_or(0)));

        let size = HEADER_SIZE.saturating_add(records.len());
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&(size.saturating_sub(LOG_OVERHEAD) as i32).to_be_bytes());
        out.extend_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out.push(2);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&attributes.to_be_bytes());
        out.extend_from_slice(&(last_delta as i32).to_be_bytes());
        out.extend_from_slice(&base_timestamp.to_be_bytes());
        out.extend_from_slice(&max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
        out.extend_from_slice(records);
        seal(&mut out);
        Bytes::from(out)
    }
}

/// Sets the checksum.
fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(batch.get(CRC_START..).unwrap_or_default());
    put(batch, 17, crc.to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(field) = batch.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = bytes;
    }
}

/// Sets the base offset of a batch in place, as a broker does on append. The checksum does not cover it.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    put(batch, 0, base_offset.to_be_bytes());
}

/// Sets the leader epoch of a magic 2 batch in place, as a broker does on append. The checksum does not cover
/// it.
pub fn set_partition_leader_epoch(batch: &mut [u8], epoch: i32) {
    put(batch, 12, epoch.to_be_bytes());
}

/// Makes a magic 2 batch one of `LogAppendTime` in place, as a broker does on append to a topic so configured,
/// and sets its checksum anew.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) {
    if let Some(low) = batch.get_mut(22) {
        *low |= APPEND_TIME_BIT as u8;
        put(batch, 35, timestamp.to_be_bytes());
        seal(batch);
    }
}
