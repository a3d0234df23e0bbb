//! Message sets of magic 0 and 1, which segments written before Kafka 0.11 still hold.
//!
//! An entry is one message; a compressed one is a wrapper whose value holds further entries. Decoding rewrites
//! them in the layout of magic 2, so that everything behind it knows one format only. These formats are rare
//! enough for the copy not to matter.

use bytes::Bytes;

use super::batch::Batch;
use super::batches::DecodeOptions;
use super::bytes_at::{be_i32, be_i64, be_u32};
use super::codec::{BatchDecoder, Lz4HeaderChecksum};
use super::crc32::crc32;
use super::encode::put_record;
use super::error::{BatchError, Fault};
use super::header::{APPEND_TIME_BIT, BatchHeader, CODEC_MASK, Compression, LOG_OVERHEAD, TimestampType};

/// The smallest length of a magic 0 entry: checksum, magic, attributes, and the lengths of key and value.
pub(super) const MIN_LENGTH_V0: usize = 14;
/// Where the bytes that the CRC-32 covers begin.
pub(super) const CRC_START: usize = 16;
const CRC_AT: usize = 12;
const ATTRIBUTES_AT: usize = 17;
const TIMESTAMP_AT: usize = 18;

/// One message.
struct Message<'a> {
    offset: i64,
    magic: i8,
    attributes: u8,
    /// -1 in magic 0.
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads the entry that `entry` holds from its first to its last byte.
    fn parse(entry: &'a [u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "a message is too short for its fields";
        let offset = be_i64(entry, 0).ok_or(SHORT)?;
        let magic = *entry.get(CRC_START).ok_or(SHORT)? as i8;
        let attributes = *entry.get(ATTRIBUTES_AT).ok_or(SHORT)?;
        let (timestamp, fields) = match magic {
            0 => (-1, entry.get(TIMESTAMP_AT..)),
            1 => (be_i64(entry, TIMESTAMP_AT).ok_or(SHORT)?, entry.get(TIMESTAMP_AT.wrapping_add(8)..)),
            _ => return Err("a message inside a wrapper is neither of magic 0 nor 1"),
        };
        let mut rest = fields.ok_or(SHORT)?;
        let key = take_bytes(&mut rest).ok_or("the key of a message is longer than the message")?;
        let value = take_bytes(&mut rest).ok_or("the value of a message is longer than the message")?;
        if !rest.is_empty() {
            return Err("bytes are left behind the value of a message");
        }
        Ok(Self { offset, magic, attributes, timestamp, key, value })
    }
}

/// Takes bytes with an i32 length off the front; negative is null.
fn take_bytes<'a>(buf: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = be_i32(buf, 0)?;
    let rest = buf.get(4..)?;
    let Ok(length) = usize::try_from(length) else {
        *buf = rest;
        return Some(None);
    };
    let (bytes, rest) = rest.split_at_checked(length)?;
    *buf = rest;
    Some(Some(bytes))
}

fn codec_of(attributes: u8) -> u8 {
    attributes & CODEC_MASK as u8
}

/// Reads what a batch header has of the entry that `entry` holds from its first to its last byte.
pub(super) fn parse_header(entry: &[u8]) -> Result<BatchHeader, BatchError> {
    let fields =
        be_i64(entry, 0).zip(be_u32(entry, CRC_AT)).zip(entry.get(CRC_START).zip(entry.get(ATTRIBUTES_AT)));
    let Some(((offset, crc), (&magic, &attributes))) = fields else {
        return Err(Fault::Structure("a message is too short for its fields").bare());
    };
    if !(0..i64::MAX).contains(&offset) {
        return Err(Fault::Structure("the offset of a message is negative or does not fit 63 bits").bare());
    }
    let fail = |fault: Fault| Err(fault.between(offset, offset));
    let magic = magic as i8;
    let codec = codec_of(attributes);
    // KIP-110 gave zstd to magic 2 only.
    let Some(compression) = Compression::from_id(codec).filter(|&c| c != Compression::Zstd) else {
        return fail(Fault::UnknownCodec(codec));
    };
    let (timestamp, timestamp_type) = match magic {
        0 => (-1, TimestampType::NoTimestampType),
        _ => {
            let Some(timestamp) = be_i64(entry, TIMESTAMP_AT) else {
                return fail(Fault::Structure("a message is too short for its fields"));
            };
            let appended = attributes & APPEND_TIME_BIT as u8 != 0;
            (timestamp, if appended { TimestampType::LogAppendTime } else { TimestampType::CreateTime })
        }
    };
    Ok(BatchHeader {
        base_offset: offset,
        last_offset: offset,
        partition_leader_epoch: -1,
        magic,
        attributes: i16::from(attributes),
        compression,
        timestamp_type,
        is_transactional: false,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: if compression == Compression::None { 1 } else { -1 },
        crc,
        size: entry.len(),
    })
}

/// The compressed bytes of a wrapper; empty if there are none.
pub(super) fn wrapper_value(entry: &[u8]) -> &[u8] {
    Message::parse(entry).ok().and_then(|message| message.value).unwrap_or_default()
}

/// Decodes the entry with this header: the message, or what its wrapper holds.
pub(super) fn decode(
    header: BatchHeader,
    entry: &[u8],
    decoder: &mut BatchDecoder,
    options: DecodeOptions,
) -> Result<Batch, BatchError> {
    decode_entry(header, entry, decoder, options).map_err(|fault| fault.of(&header))
}

fn decode_entry(
    header: BatchHeader,
    entry: &[u8],
    decoder: &mut BatchDecoder,
    options: DecodeOptions,
) -> Result<Batch, Fault> {
    let message = Message::parse(entry).map_err(Fault::Structure)?;
    if header.compression == Compression::None {
        return rewrite(header, &[(message.offset, message)]);
    }
    let value = message.value.ok_or(Fault::Structure("a compressed message without a value"))?;
    let lz4_checksum = if header.magic == 0 { Lz4HeaderChecksum::Ignore } else { Lz4HeaderChecksum::Verify };
    let (data, _) = decoder.decompress_payload(
        header.compression,
        value,
        options.max_decompressed_batch_bytes,
        lz4_checksum,
    )?;
    let inner = inner_messages(&data, header.magic, options.check_crcs)?;
    let Some(last_inner) = inner.last().map(|message| message.offset) else {
        return Err(Fault::Structure("a compressed message that holds no message"));
    };
    // Magic 0 holds absolute offsets, magic 1 offsets relative to the first, the last of which has the offset
    // of the wrapper (KIP-31). Some producers of old left the wrapper at 0.
    let base = if header.magic == 0 || header.last_offset == 0 {
        0
    } else {
        header.last_offset.checked_sub(last_inner).filter(|&base| base >= 0).ok_or(Fault::Structure(
            "the offset of a compressed message lies below the last one that it holds",
        ))?
    };
    let mut placed = Vec::with_capacity(inner.len());
    for message in inner {
        let offset = base.checked_add(message.offset).filter(|offset| (0..i64::MAX).contains(offset));
        placed.push((offset.ok_or(Fault::Structure("an inner offset does not fit 63 bits"))?, message));
    }
    rewrite(header, &placed)
}

/// The entries inside a wrapper of format `magic`.
fn inner_messages(data: &[u8], magic: i8, check_crcs: bool) -> Result<Vec<Message<'_>>, Fault> {
    let mut messages = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let index = messages.len() as u32;
        let fail = |what| Fault::Record(index, what);
        let length = be_i32(rest, 8).ok_or_else(|| fail("the bytes end inside a message"))?;
        let length = usize::try_from(length).ok().filter(|&length| length >= MIN_LENGTH_V0);
        let size = length
            .and_then(|length| length.checked_add(LOG_OVERHEAD))
            .ok_or_else(|| fail("its length is below that of the smallest message"))?;
        let (entry, tail) = rest.split_at_checked(size).ok_or_else(|| fail("longer than the bytes left"))?;
        rest = tail;
        let message = Message::parse(entry).map_err(fail)?;
        if message.magic != magic {
            return Err(fail("its format is not that of the message around it"));
        }
        if codec_of(message.attributes) != 0 {
            return Err(fail("compressed inside a compressed message"));
        }
        if check_crcs {
            let stored = be_u32(entry, CRC_AT).unwrap_or(0);
            let computed = crc32(entry.get(CRC_START..).unwrap_or_default());
            if stored != computed {
                return Err(Fault::Crc { stored, computed });
            }
        }
        messages.push(message);
    }
    Ok(messages)
}

/// Writes messages with their absolute offsets as records of magic 2.
fn rewrite(mut header: BatchHeader, messages: &[(i64, Message<'_>)]) -> Result<Batch, Fault> {
    let (Some((first, first_message)), Some((last, _))) = (messages.first(), messages.last()) else {
        return Err(Fault::Structure("a compressed message that holds no message"));
    };
    let base_timestamp = first_message.timestamp;
    let mut data = Vec::with_capacity(header.size);
    let mut previous = -1;
    for (index, (offset, message)) in messages.iter().enumerate() {
        let index = index as u32;
        let delta = offset.checked_sub(*first).and_then(|delta| i32::try_from(delta).ok());
        let Some(delta) = delta.filter(|&delta| delta > previous) else {
            return Err(Fault::Record(index, "its offset does not lie above that of the message before"));
        };
        previous = delta;
        // The batch adds the base again, wrapping in the same way.
        let timestamp_delta = message.timestamp.wrapping_sub(base_timestamp);
        put_record(&mut data, timestamp_delta, delta, message.key, message.value, &[]);
    }
    if i32::try_from(data.len()).is_err() {
        return Err(Fault::Structure("more than 2 GiB of records"));
    }
    header.base_offset = *first;
    // A wrapper at offset 0 says nothing of where its messages end.
    header.last_offset = header.last_offset.max(*last);
    header.base_timestamp = base_timestamp;
    header.record_count =
        i32::try_from(messages.len()).map_err(|_| Fault::Structure("more than 2^31 messages"))?;
    let data = Bytes::copy_from_slice(&data);
    let allocated = data.len();
    Ok(Batch::new(header, data, allocated))
}
