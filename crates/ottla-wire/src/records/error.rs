//! What can be wrong with a batch.

use core::fmt;

use super::header::{BatchHeader, Compression};

/// Name of the setting that bounds decompression, as users know it.
pub(super) const LIMIT_SETTING: &str = "max_decompressed_batch_bytes";

/// A batch cannot be read, or a record does not fit into the batch being written.
///
/// Small and `Copy`: making one allocates nothing, so that hostile input is refused as cheaply as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchError {
    fault: Fault,
    offsets: Option<(i64, i64)>,
}

/// What sort of fault a [`BatchError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchErrorKind {
    /// The bytes contradict themselves: structure, checksum or compressed data.
    Corrupt,
    /// A format newer than magic 2, or no format at all.
    UnsupportedMagic(i8),
    /// A codec number (attributes bits 0 to 2) that no Kafka release defines, or, in the formats of old, one
    /// that they do not have.
    UnsupportedCodec(u8),
    /// A codec that was compiled out.
    CodecDisabled(Compression),
    /// The batch is larger than a setting allows; nothing says that it is damaged.
    Limit {
        /// The setting that stopped it.
        setting: &'static str,
        /// Its value, in bytes.
        limit: usize,
        /// The batch needs at least this many bytes.
        at_least: usize,
    },
}

/// The fault itself; [`BatchErrorKind`] is the coarse view of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The header, or the batch as a whole.
    Structure(&'static str),
    /// The record of this index.
    Record(u32, &'static str),
    /// The checksum.
    Crc {
        stored: u32,
        computed: u32,
    },
    /// The compressed stream.
    Codec(Compression, &'static str),
    Magic(i8),
    UnknownCodec(u8),
    Disabled(Compression),
    Limit {
        setting: &'static str,
        limit: usize,
        at_least: usize,
    },
}

impl Fault {
    /// The error without offsets.
    pub(super) fn bare(self) -> BatchError {
        BatchError { fault: self, offsets: None }
    }

    /// The error of the batch with this header.
    pub(super) fn of(self, header: &BatchHeader) -> BatchError {
        self.between(header.base_offset, header.last_offset)
    }

    /// The error of the batch of these offsets.
    pub(super) fn between(self, base_offset: i64, last_offset: i64) -> BatchError {
        BatchError { fault: self, offsets: Some((base_offset, last_offset)) }
    }
}

impl BatchError {
    /// What sort of fault it is.
    pub fn kind(&self) -> BatchErrorKind {
        match self.fault {
            Fault::Structure(_) | Fault::Record(..) | Fault::Crc { .. } | Fault::Codec(..) => {
                BatchErrorKind::Corrupt
            }
            Fault::Magic(magic) => BatchErrorKind::UnsupportedMagic(magic),
            Fault::UnknownCodec(id) => BatchErrorKind::UnsupportedCodec(id),
            Fault::Disabled(codec) => BatchErrorKind::CodecDisabled(codec),
            Fault::Limit { setting, limit, at_least } => BatchErrorKind::Limit { setting, limit, at_least },
        }
    }

    /// The first offset of the batch, if its header could be read. Nothing vouches for it.
    pub fn base_offset(&self) -> Option<i64> {
        self.offsets.map(|(base, _)| base)
    }

    /// The last offset of the batch, if its header could be read. Nothing vouches for it.
    pub fn last_offset(&self) -> Option<i64> {
        self.offsets.map(|(_, last)| last)
    }

    /// Whether the checksum was wrong.
    pub fn is_crc_mismatch(&self) -> bool {
        matches!(self.fault, Fault::Crc { .. })
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offsets {
            Some((base, last)) if base == last => write!(f, "record batch at offset {base}: ")?,
            Some((base, last)) => write!(f, "record batch of offsets {base} to {last}: ")?,
            None => f.write_str("record batch: ")?,
        }
        match self.fault {
            Fault::Structure(what) => f.write_str(what),
            Fault::Record(index, what) => write!(f, "record {index} of the batch: {what}"),
            Fault::Crc { stored, computed } => {
                write!(f, "checksum mismatch: the batch says {stored:#010x}, its bytes give {computed:#010x}")
            }
            Fault::Codec(codec, what) => write!(f, "cannot decompress {codec}: {what}"),
            Fault::Magic(magic) => {
                write!(f, "record format (magic) {magic} is not supported: only 0, 1 and 2 are")
            }
            Fault::UnknownCodec(id) => {
                write!(f, "compression codec {id} is not defined in this record format")
            }
            Fault::Disabled(codec) => {
                write!(
                    f,
                    "compressed with {codec}, which is compiled out: enable the cargo feature \"{codec}\""
                )
            }
            Fault::Limit { setting, limit, at_least } => {
                write!(f, "needs at least {at_least} bytes, more than the {limit} that {setting} allows")
            }
        }
    }
}

impl std::error::Error for BatchError {}
