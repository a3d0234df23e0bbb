//! Snappy: bare blocks, as most clients write, and the framing of the Java library (xerial).

use snap::raw::{Decoder, Encoder, decompress_len};

use super::output::Output;
use crate::records::bytes_at::be_i32;
use crate::records::error::Fault;
use crate::records::header::Compression;

/// First bytes of the Java library's framing; a version and the oldest compatible version (i32 each) follow.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER: usize = 16;
/// Chunk size of what we write: that of the Java library.
const XERIAL_CHUNK: usize = 32 << 10;
/// A copy of two bytes gives eleven, one of three bytes 64: no block grows by more than this factor.
const MAX_RATIO: usize = 32;

fn corrupt(what: &'static str) -> Fault {
    Fault::Codec(Compression::Snappy, what)
}

pub(super) fn decompress(payload: &[u8], out: &mut Output) -> Result<(), Fault> {
    if !payload.starts_with(&XERIAL_MAGIC) {
        return block(payload, out);
    }
    // Room for all chunks at once, instead of growing with each.
    let _ = out.space(estimate(payload));
    let mut rest = payload;
    while let Some(chunk) = next_chunk(&mut rest)? {
        block(chunk, out)?;
    }
    Ok(())
}

/// The next chunk of a framed stream. The stream header may appear again between chunks: streams were
/// concatenated.
fn next_chunk<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
    while rest.starts_with(&XERIAL_MAGIC) {
        *rest = rest.get(XERIAL_HEADER..).ok_or_else(|| corrupt("the stream ends inside its header"))?;
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let length = be_i32(rest, 0).ok_or_else(|| corrupt("the stream ends inside the length of a chunk"))?;
    let length = usize::try_from(length).map_err(|_| corrupt("the length of a chunk is negative"))?;
    let body = rest.get(4..).unwrap_or_default();
    let (chunk, tail) =
        body.split_at_checked(length).ok_or_else(|| corrupt("a chunk is longer than the bytes left"))?;
    *rest = tail;
    Ok(Some(chunk))
}

/// The size that a block claims, if it could have it.
fn claim(block: &[u8]) -> Result<usize, Fault> {
    if block.is_empty() {
        return Err(corrupt("an empty block"));
    }
    let claim = decompress_len(block).map_err(|_| corrupt("the length of a block is no varint"))?;
    if claim > block.len().saturating_mul(MAX_RATIO) {
        return Err(corrupt("a block claims more bytes than it can hold"));
    }
    Ok(claim)
}

fn block(block: &[u8], out: &mut Output) -> Result<(), Fault> {
    let claim = claim(block)?;
    if claim > out.left() {
        return Err(out.over(out.filled().saturating_add(claim)));
    }
    let written =
        Decoder::new().decompress(block, out.space(claim)).map_err(|_| corrupt("a block is damaged"))?;
    out.advance(written)
}

pub(super) fn estimate(payload: &[u8]) -> usize {
    if !payload.starts_with(&XERIAL_MAGIC) {
        return claim(payload).unwrap_or(0);
    }
    let mut rest = payload;
    let mut total = 0usize;
    while let Ok(Some(chunk)) = next_chunk(&mut rest) {
        total = total.saturating_add(claim(chunk).unwrap_or(0));
    }
    total
}

/// In the framing of the Java library, which every client reads.
pub(super) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(payload.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    let mut encoder = Encoder::new();
    for chunk in payload.chunks(XERIAL_CHUNK) {
        let block = encoder.compress_vec(chunk).ok()?;
        out.extend_from_slice(&u32::try_from(block.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Some(out)
}
