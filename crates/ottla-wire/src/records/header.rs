//! The header of a batch.

use core::fmt;

use super::bytes_at::{be_i16, be_i32, be_i64, be_u32};
use super::error::{BatchError, Fault};

/// Bytes before the records of a magic 2 batch.
pub(super) const HEADER_SIZE: usize = 61;
/// Where the bytes that the CRC-32C covers begin.
pub(super) const CRC_START: usize = 21;
/// Base offset and length, which the length does not count.
pub(super) const LOG_OVERHEAD: usize = 12;
/// The smallest length of a magic 2 batch.
pub(super) const MIN_LENGTH_V2: usize = 49;

pub(super) const CODEC_MASK: i16 = 0x07;
pub(super) const APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (feature `gzip`).
    Gzip,
    /// Snappy, as a bare block or in the framing of the Java library (feature `snappy`).
    Snappy,
    /// LZ4 frames (feature `lz4`).
    Lz4,
    /// Zstandard, KIP-110; magic 2 only (feature `zstd`).
    Zstd,
}

impl Compression {
    /// All codecs, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The number in the attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Kafka's name of the codec, which is that of the cargo feature too.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether the codec was compiled in.
    pub fn is_available(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the timestamps of the records of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TimestampType {
    /// The producer set them.
    #[default]
    CreateTime,
    /// The broker set one for the whole batch when it appended it.
    LogAppendTime,
    /// There are none (magic 0).
    NoTimestampType,
}

/// The header of a batch: what can be known of it without looking at its records.
///
/// Until [`RawBatch::verify_crc`](super::RawBatch::verify_crc) has passed nothing vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first offset of the batch. Of a compressed message of magic 0 or 1 it is known only once it was
    /// decoded; until then it is `last_offset`.
    pub base_offset: i64,
    /// The last offset that the batch stands for, whether its record still exists or not: base offset plus
    /// `lastOffsetDelta`. At most `i64::MAX - 1`.
    pub last_offset: i64,
    /// Leader epoch of the append; -1 if unknown. The checksum does not cover it.
    pub partition_leader_epoch: i32,
    /// The format: 0, 1 or 2.
    pub magic: i8,
    /// The attributes as they came; of magic 0 and 1 the lower eight bits.
    pub attributes: i16,
    /// How the records are compressed.
    pub compression: Compression,
    /// What the timestamps mean.
    pub timestamp_type: TimestampType,
    /// Written inside a transaction (KIP-98).
    pub is_transactional: bool,
    /// Holds control records, which are never handed out.
    pub is_control: bool,
    /// `base_timestamp` is the delete horizon (KIP-534).
    pub has_delete_horizon: bool,
    /// What the timestamp deltas count from, in milliseconds.
    pub base_timestamp: i64,
    /// The highest timestamp of the batch, in milliseconds; with `LogAppendTime` that of every record.
    pub max_timestamp: i64,
    /// Id of the idempotent or transactional producer; negative: none.
    pub producer_id: i64,
    /// Epoch of that producer.
    pub producer_epoch: i16,
    /// Sequence number of the first record; negative: none.
    pub base_sequence: i32,
    /// The number of records as declared, never negative; -1 of a compressed message of magic 0 or 1 until it
    /// was decoded.
    pub record_count: i32,
    /// The checksum as stored: CRC-32C in magic 2, CRC-32 before.
    pub crc: u32,
    /// The whole batch, in bytes.
    pub size: usize,
}

impl BatchHeader {
    /// The offset behind the batch: where a fetch goes on, also when the batch was emptied by compaction.
    pub fn next_offset(&self) -> i64 {
        // Parsing refuses a last offset of i64::MAX.
        self.last_offset.saturating_add(1)
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// `last_offset - base_offset` of a magic 2 batch.
    pub fn last_offset_delta(&self) -> i32 {
        i32::try_from(self.last_offset.saturating_sub(self.base_offset)).unwrap_or(i32::MAX)
    }

    /// Sequence number of the last record; -1: none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == -1 {
            -1
        } else {
            increment_sequence(self.base_sequence, self.last_offset_delta())
        }
    }

    /// When the tombstones and markers of the batch may be removed, in milliseconds (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.has_delete_horizon.then_some(self.base_timestamp)
    }

    /// Sequence number of the record with this offset delta.
    pub(super) fn sequence_at(&self, delta: i32) -> Option<i32> {
        (self.base_sequence >= 0).then(|| increment_sequence(self.base_sequence, delta))
    }

    /// Reads the header of the magic 2 batch that `batch` holds from its first to its last byte.
    pub(super) fn parse_v2(batch: &[u8]) -> Result<Self, BatchError> {
        Self::read_v2(batch).unwrap_or_else(|| Err(Fault::Structure("too short for its header").bare()))
    }

    fn read_v2(batch: &[u8]) -> Option<Result<Self, BatchError>> {
        let base_offset = be_i64(batch, 0)?;
        let attributes = be_i16(batch, 21)?;
        let last_offset_delta = be_i32(batch, 23)?;
        let record_count = be_i32(batch, 57)?;
        let codec_id = (attributes & CODEC_MASK) as u8;
        let payload = batch.len().checked_sub(HEADER_SIZE)?;

        if base_offset < 0 {
            return Some(Err(Fault::Structure("the base offset is negative").bare()));
        }
        // The next offset must exist as well.
        let last_offset = match base_offset.checked_add(i64::from(last_offset_delta)) {
            Some(last) if last < i64::MAX => last,
            _ => return Some(Err(Fault::Structure("the last offset does not fit 63 bits").bare())),
        };
        if last_offset_delta < 0 {
            return Some(Err(Fault::Structure("the last offset lies before the first").bare()));
        }
        let fail = |fault: Fault| Some(Err(fault.between(base_offset, last_offset)));
        let Some(compression) = Compression::from_id(codec_id) else {
            return fail(Fault::UnknownCodec(codec_id));
        };
        if record_count < 0 {
            return fail(Fault::Structure("the number of records is negative"));
        }
        if compression == Compression::None && record_count as usize > payload {
            return fail(Fault::Structure("more records declared than there are bytes"));
        }
        Some(Ok(Self {
            base_offset,
            last_offset,
            partition_leader_epoch: be_i32(batch, 12)?,
            magic: 2,
            attributes,
            compression,
            timestamp_type: if attributes & APPEND_TIME_BIT == 0 {
                TimestampType::CreateTime
            } else {
                TimestampType::LogAppendTime
            },
            is_transactional: attributes & TRANSACTIONAL_BIT != 0,
            is_control: attributes & CONTROL_BIT != 0,
            has_delete_horizon: attributes & DELETE_HORIZON_BIT != 0,
            base_timestamp: be_i64(batch, 27)?,
            max_timestamp: be_i64(batch, 35)?,
            producer_id: be_i64(batch, 43)?,
            producer_epoch: be_i16(batch, 51)?,
            base_sequence: be_i32(batch, 53)?,
            record_count,
            crc: be_u32(batch, 17)?,
            size: batch.len(),
        }))
    }
}

/// Sequence numbers wrap from `i32::MAX` to 0 (KIP-98).
fn increment_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence).saturating_add(i64::from(by));
    let wrapped = if sum > i64::from(i32::MAX) { sum.saturating_sub(1 << 31) } else { sum };
    i32::try_from(wrapped).unwrap_or(i32::MAX)
}
