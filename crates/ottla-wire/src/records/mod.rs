//! Record batches: reading what a fetch brings, writing what a produce sends, and the four codecs.
//!
//! The way of a batch: [`Batches`] walks the `records` field of one partition and yields a [`RawBatch`] a
//! batch, with nothing but its header looked at. [`RawBatch::decode`] checks the checksum, decompresses and
//! validates every record once; the [`Batch`] it gives is then iterated without allocation and without
//! failing. Batches of magic 2 and the message sets of magic 0 and 1 (which old segments still hold) look
//! alike from there on.
//!
//! Every byte is hostile: lengths are checked before they are believed, a decompressor never writes more than
//! [`DecodeOptions::max_decompressed_batch_bytes`], and whatever is wrong is a [`BatchError`].
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]
// Which helpers are used depends on the set of codecs; the full set is checked.
#![cfg_attr(
    not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code, reason = "helpers of codecs that are compiled out")
)]

mod batch;
mod batches;
mod bytes_at;
mod codec;
mod control;
mod crc32;
mod encode;
mod error;
mod header;
mod legacy;
mod span;
mod transactions;
mod validate;
mod varint;
mod writer;

pub use batch::{Batch, HeaderKey, Headers, RecordCursor, RecordRef, Records};
pub use batches::{Batches, DecodeOptions, RawBatch};
pub use codec::BatchDecoder;
pub use control::{ControlRecord, ControlRecordError, ControlRecords};
pub use error::{BatchError, BatchErrorKind};
pub use header::{BatchHeader, Compression, TimestampType};
pub use span::RecordSpan;
pub use transactions::AbortedTransactions;
pub use writer::{BatchWriter, set_base_offset, set_log_append_time, set_partition_leader_epoch};

// The tests compare the codecs with one another and with other encoders.
#[cfg(all(test, feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
mod tests;
