//! The four codecs behind one bounded interface.
//!
//! Whatever a stream claims about its size is believed only as far as its bytes could deliver it, and no more
//! than the limit is ever written. Decoder contexts and buffers are reused, also those that results leave in.

use core::fmt;

use bytes::Bytes;

use super::error::{BatchError, Fault};
use super::header::Compression;

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "lz4")]
mod lz4_block;
mod output;
mod recycler;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "lz4")]
mod xxhash;
#[cfg(feature = "zstd")]
mod zstd;

use output::Output;

/// Whether the header checksum of LZ4 frames counts. Old clients computed it over the wrong bytes, so with
/// magic 0 it means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lz4HeaderChecksum {
    Verify,
    Ignore,
}

/// Decoder contexts and buffers, to be reused from batch to batch.
///
/// Costs nothing until the first compressed batch; then it keeps at most about 2 MiB and the contexts of the
/// codecs it has met. One for each thread that decodes. The buffer of a batch comes back to its decoder when the last
/// handle of its records is dropped.
#[derive(Default)]
pub struct BatchDecoder {
    output: Output,
    #[cfg(feature = "gzip")]
    gzip: Option<flate2::Decompress>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::Context>,
}

impl BatchDecoder {
    /// A decoder that has met nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses `payload`, which is what a batch with this codec holds behind its header.
    ///
    /// # Errors
    /// As [`RawBatch::decode`](super::RawBatch::decode): `Corrupt`, `CodecDisabled`, or `Limit` when more than
    /// `limit` bytes would come out.
    pub fn decompress(
        &mut self,
        compression: Compression,
        payload: &[u8],
        limit: usize,
    ) -> Result<Bytes, BatchError> {
        self.decompress_payload(compression, payload, limit, Lz4HeaderChecksum::Verify)
            .map(|(data, _)| data)
            .map_err(Fault::bare)
    }

    /// Decompresses `payload`, at most `limit` bytes of it; gives the size of the allocation that they lie in, too.
    pub(super) fn decompress_payload(
        &mut self,
        compression: Compression,
        payload: &[u8],
        limit: usize,
        lz4_header_checksum: Lz4HeaderChecksum,
    ) -> Result<(Bytes, usize), Fault> {
        // Positions inside a batch are 32-bit, as lengths are in Kafka.
        self.output.begin(limit.min(i32::MAX as usize));
        let done = self.run(compression, payload, lz4_header_checksum);
        let data = done.map(|()| self.output.take());
        self.output.trim();
        data
    }

    #[cfg_attr(
        not(feature = "lz4"),
        expect(unused_variables, reason = "a codec compiled out needs no arguments")
    )]
    fn run(
        &mut self,
        compression: Compression,
        payload: &[u8],
        lz4_header_checksum: Lz4HeaderChecksum,
    ) -> Result<(), Fault> {
        if !compression.is_available() {
            return Err(Fault::Disabled(compression));
        }
        match compression {
            Compression::None => self.output.extend(payload),
            #[cfg(feature = "gzip")]
            Compression::Gzip => {
                let context = self.gzip.get_or_insert_with(|| flate2::Decompress::new(false));
                gzip::decompress(context, payload, &mut self.output)
            }
            #[cfg(feature = "snappy")]
            Compression::Snappy => snappy::decompress(payload, &mut self.output),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(payload, &mut self.output, lz4_header_checksum),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let context = self.zstd.get_or_insert_with(zstd::Context::new);
                zstd::decompress(context, payload, &mut self.output)
            }
            #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
            disabled => Err(Fault::Disabled(disabled)),
        }
    }
}

impl fmt::Debug for BatchDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchDecoder").field("scratch", &self.output.capacity()).finish_non_exhaustive()
    }
}

/// How many bytes `payload` may decompress to: see
/// [`RawBatch::decompressed_estimate`](super::RawBatch::decompressed_estimate).
pub(super) fn estimate(compression: Compression, payload: &[u8]) -> usize {
    match compression {
        Compression::None => 0,
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::estimate(payload),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::estimate(payload),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::estimate(payload),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::estimate(payload),
        // Will be refused.
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
        _ => payload.len(),
    }
}

/// `payload` compressed, for the writer; `None` if the codec is compiled out or fails.
pub(super) fn compress(compression: Compression, payload: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => None,
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::compress(payload),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::compress(payload),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::compress(payload),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(payload),
        #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
        _ => {
            let _ = payload;
            None
        }
    }
}
