//! The 61 bytes in front of a record batch: all that a broker reads of it.

pub(crate) const HEADER: usize = 61;
/// Bytes before the part that `batch_length` counts.
const PREFIX: usize = 12;
/// The checksum covers everything from the attributes on.
const CRC_START: usize = 21;

/// What the header of a magic 2 batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    pub(crate) length: usize,
    pub(crate) leader_epoch: i32,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) count: i32,
}

impl BatchHeader {
    pub(crate) fn codec(&self) -> i16 {
        self.attributes & 7
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & 16 != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 32 != 0
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchError {
    Magic(i8),
    Corrupt(&'static str),
}

impl BatchError {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Magic(magic) => format!("record format {magic} is not supported, only 2 is"),
            Self::Corrupt(why) => format!("the record batch is corrupt: {why}"),
        }
    }
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], BatchError> {
    bytes
        .get(offset..offset + N)
        .and_then(|slice| slice.try_into().ok())
        .ok_or(BatchError::Corrupt("shorter than a batch header"))
}

/// Reads and checks the first batch of `bytes`: magic, length, counts, checksum.
pub(crate) fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let magic = i8::from_be_bytes(at(bytes, 16)?);
    if magic != 2 {
        return Err(BatchError::Magic(magic));
    }
    let length = usize::try_from(i32::from_be_bytes(at(bytes, 8)?))
        .map_err(|_| BatchError::Corrupt("its length is negative"))?
        + PREFIX;
    if length < HEADER || length > bytes.len() {
        return Err(BatchError::Corrupt("its length does not fit the bytes"));
    }
    let header = BatchHeader {
        base_offset: i64::from_be_bytes(at(bytes, 0)?),
        length,
        leader_epoch: i32::from_be_bytes(at(bytes, 12)?),
        attributes: i16::from_be_bytes(at(bytes, 21)?),
        last_offset_delta: i32::from_be_bytes(at(bytes, 23)?),
        base_timestamp: i64::from_be_bytes(at(bytes, 27)?),
        max_timestamp: i64::from_be_bytes(at(bytes, 35)?),
        producer_id: i64::from_be_bytes(at(bytes, 43)?),
        producer_epoch: i16::from_be_bytes(at(bytes, 51)?),
        base_sequence: i32::from_be_bytes(at(bytes, 53)?),
        count: i32::from_be_bytes(at(bytes, 57)?),
    };
    if header.codec() > 4 {
        return Err(BatchError::Corrupt("unknown compression codec"));
    }
    if header.last_offset_delta < 0 || header.count < 0 {
        return Err(BatchError::Corrupt("a negative count"));
    }
    let crc = u32::from_be_bytes(at(bytes, 17)?);
    if crc32c::crc32c(&bytes[CRC_START..length]) != crc {
        return Err(BatchError::Corrupt("its checksum is wrong"));
    }
    Ok(header)
}

/// Whether what looks like a batch is part of a transaction; its checksum is not looked at.
pub(crate) fn is_transactional(bytes: &[u8]) -> bool {
    at::<2>(bytes, 21).is_ok_and(|attributes| i16::from_be_bytes(attributes) & 16 != 0)
}

/// Whether a control batch is an abort marker. Control batches are never compressed.
pub(crate) fn is_abort_marker(batch: &[u8]) -> bool {
    // record: length, attributes, timestamp delta, offset delta, key length, then version i16 and type i16.
    let mut rest = &batch[HEADER.min(batch.len())..];
    let mut walk = || -> Option<i16> {
        varint(&mut rest)?;
        rest = rest.get(1..)?;
        varint(&mut rest)?;
        varint(&mut rest)?;
        varint(&mut rest)?;
        Some(i16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))
    };
    walk() == Some(0)
}

/// A zig-zag varint of up to ten bytes.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Gives a batch its place in the log: base offset and leader epoch, which the checksum does not cover.
pub(crate) fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}
