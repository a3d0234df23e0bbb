//! From the `records` field of a fetch response to batches.

use bytes::{Buf, Bytes};

use super::batch::Batch;
use super::bytes_at::{be_i32, be_i64};
use super::codec::{self, BatchDecoder, Lz4HeaderChecksum};
use super::crc32::crc32;
use super::error::{BatchError, Fault};
use super::header::{BatchHeader, CRC_START, Compression, HEADER_SIZE, LOG_OVERHEAD, MIN_LENGTH_V2};
use super::{legacy, validate};

/// Where the magic byte is, in every format.
const MAGIC_AT: usize = 16;

/// Walks the `records` field of one partition of a fetch response, batch by batch.
///
/// Formats may be mixed: each entry says by its magic byte which it is, whatever version the fetch had. A last
/// batch that was cut off, as brokers do to keep to a size, ends the walk without an error.
///
/// An error inside a batch whose size is known is yielded in its place and the walk goes on behind it. An error
/// that leaves the size unknown (or an unknown format) ends the walk.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// A walk over `records`.
    pub fn new(records: Bytes) -> Self {
        Self { rest: records }
    }

    /// What such a walk would yield first.
    pub fn first(records: &Bytes) -> Option<Result<RawBatch, BatchError>> {
        Some(first_size(records)?.and_then(|size| RawBatch::of(records.slice(..size))))
    }

    /// The bytes not walked over: once the walk has ended without an error, the size of the truncated tail.
    pub fn trailing(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match first_size(&self.rest)? {
            Ok(size) => Some(RawBatch::of(self.rest.split_to(size))),
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// The size of the first batch of `records`; `None` if not all of it is there.
fn first_size(records: &[u8]) -> Option<Result<usize, BatchError>> {
    let length = be_i32(records, 8)?;
    // The smallest entry there is: a magic 0 message without key and value.
    let smallest = usize::try_from(length).ok().filter(|&length| length >= legacy::MIN_LENGTH_V0);
    let Some(length) = smallest else {
        return Some(Err(Fault::Structure("the length is below that of the smallest batch").bare()));
    };
    let magic = *records.get(MAGIC_AT)? as i8;
    if !(0..=2).contains(&magic) {
        return Some(Err(Fault::Magic(magic).bare()));
    }
    if magic == 2 && length < MIN_LENGTH_V2 {
        return Some(Err(Fault::Structure("the length is below that of the batch header").bare()));
    }
    let size = length.checked_add(LOG_OVERHEAD)?;
    (size <= records.len()).then_some(Ok(size))
}

/// How to decode a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Whether a wrong checksum is an error. Leave it on: it costs a few nanoseconds a record.
    pub check_crcs: bool,
    /// The most bytes that the records of one compressed batch may take once decompressed.
    pub max_decompressed_batch_bytes: usize,
}

impl Default for DecodeOptions {
    /// Checksums on, 128 MiB.
    fn default() -> Self {
        Self { check_crcs: true, max_decompressed_batch_bytes: 128 << 20 }
    }
}

/// One batch as it came: its header was parsed and checked for structure, its checksum not yet looked at.
///
/// Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The header. Public so that it can be read; what [`decode`](Self::decode) does follows it.
    pub header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// `bytes` is an entry whose magic byte is 0, 1 or 2, from its first to its last byte.
    fn of(bytes: Bytes) -> Result<Self, BatchError> {
        let is_legacy = bytes.get(MAGIC_AT).is_some_and(|&magic| magic < 2);
        let header = if is_legacy { legacy::parse_header(&bytes) } else { BatchHeader::parse_v2(&bytes) };
        header.map(|header| Self { header, bytes })
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks the checksum: CRC-32C in magic 2, CRC-32 in magic 0 and 1 (of the outer message).
    ///
    /// # Errors
    /// `Corrupt` when it is wrong.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = if self.header.magic == 2 {
            crc32c::crc32c(self.bytes.get(CRC_START..).unwrap_or_default())
        } else {
            crc32(self.bytes.get(legacy::CRC_START..).unwrap_or_default())
        };
        let stored = self.header.crc;
        if stored == computed { Ok(()) } else { Err(Fault::Crc { stored, computed }.of(&self.header)) }
    }

    /// How many bytes decoding this batch will take on top of those it has, at most `limit`; 0 for uncompressed
    /// batches of magic 2, which are read in place.
    ///
    /// It is an upper bound for what LZ4, Snappy and Zstandard can give out of these bytes. Of gzip, which
    /// tells too little about itself, it is what the stream claims, as far as that is possible at all.
    pub fn decompressed_estimate(&self, limit: usize) -> usize {
        let payload = if self.header.magic == 2 {
            self.bytes.get(HEADER_SIZE..).unwrap_or_default()
        } else if self.header.compression == Compression::None {
            return self.bytes.len().min(limit);
        } else {
            legacy::wrapper_value(&self.bytes)
        };
        codec::estimate(self.header.compression, payload).min(limit)
    }

    /// Checks the checksum if asked to, decompresses, and validates every record.
    ///
    /// The records of an uncompressed batch of magic 2 are not copied: the result shares the buffer that this
    /// one came in.
    ///
    /// # Errors
    /// `Corrupt` for a wrong checksum, a damaged stream or records that are not what the header says;
    /// `Limit` when more than [`DecodeOptions::max_decompressed_batch_bytes`] would come out; `CodecDisabled`.
    pub fn decode(self, decoder: &mut BatchDecoder, options: DecodeOptions) -> Result<Batch, BatchError> {
        if options.check_crcs {
            self.verify_crc()?;
        }
        let Self { header, mut bytes } = self;
        if header.magic < 2 {
            return legacy::decode(header, &bytes, decoder, options);
        }
        if bytes.len() < HEADER_SIZE {
            return Err(Fault::Structure("too short for its header").of(&header));
        }
        bytes.advance(HEADER_SIZE);
        let (data, allocated) = if header.compression == Compression::None {
            let size = bytes.len();
            (bytes, size)
        } else {
            let limit = options.max_decompressed_batch_bytes;
            decoder
                .decompress_payload(header.compression, &bytes, limit, Lz4HeaderChecksum::Verify)
                .map_err(|fault| fault.of(&header))?
        };
        validate::records(&data, header.record_count, header.last_offset_delta())
            .map_err(|fault| fault.of(&header))?;
        Ok(Batch::new(header, data, allocated))
    }

    /// The base offset as stored, for tools that look at the bytes.
    pub fn stored_offset(&self) -> i64 {
        be_i64(&self.bytes, 0).unwrap_or(-1)
    }
}
