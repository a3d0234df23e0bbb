//! Zstandard frames, walked by us; decoded by `zrip`.
//!
//! The walk over frame and block headers gives where a frame ends and what it can hold at most, so that no
//! claimed content size is believed.

use zrip::{DecompressContext, DecompressError};

use super::output::Output;
use crate::records::bytes_at::{le_u16, le_u32, le_u64};
use crate::records::error::Fault;
use crate::records::header::Compression;

const MAGIC: u32 = 0xfd2f_b528;
/// The lower four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// The most that a block can give.
const MAX_BLOCK: usize = 128 << 10;
/// The largest window that is served: that of the reference decoder.
const MAX_WINDOW: u64 = 128 << 20;
/// What the decoder writes behind the data while it copies, as an allowance.
const OVERLENGTH: usize = 64;
/// Beyond this ratio the buffer grows as data comes, instead of ahead of it.
const TRUSTED_RATIO: usize = 64;
/// Level of what we write: the lowest regular one.
const LEVEL: i32 = 1;

/// The decoder's tables.
pub(super) struct Context(DecompressContext);

impl Context {
    pub(super) fn new() -> Self {
        Self(DecompressContext::new())
    }
}

fn corrupt(what: &'static str) -> Fault {
    Fault::Codec(Compression::Zstd, what)
}

/// A frame as its headers describe it.
struct Frame<'a> {
    /// From the magic number to the checksum.
    bytes: &'a [u8],
    /// The most bytes it can give.
    bound: usize,
    /// It says how many it gives.
    is_sized: bool,
}

/// Takes a frame off the front of `rest`, and the skippable frames before it.
fn next_frame<'a>(rest: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Fault> {
    while le_u32(rest, 0).is_some_and(|magic| magic & !0xf == SKIPPABLE_MAGIC) {
        let size = le_u32(rest, 4).ok_or_else(|| corrupt("the stream ends inside a skippable frame"))?;
        let body = rest.get(8..).unwrap_or_default();
        *rest =
            body.get(size as usize..).ok_or_else(|| corrupt("the stream ends inside a skippable frame"))?;
    }
    if rest.is_empty() {
        return Ok(None);
    }
    if le_u32(rest, 0) != Some(MAGIC) {
        return Err(corrupt("not a zstd frame"));
    }
    let (blocks, content_size, has_checksum) = frame_header(rest.get(4..).unwrap_or_default())?;
    let (mut tail, mut bound) = (blocks, 0usize);
    loop {
        let (block_bound, last, after) = block(tail)?;
        bound = bound.saturating_add(block_bound);
        tail = after;
        if last {
            break;
        }
    }
    if has_checksum {
        tail = tail.get(4..).ok_or_else(|| corrupt("the stream ends inside a checksum"))?;
    }
    if let Some(size) = content_size {
        // A frame gives neither more nor less than it declares.
        match usize::try_from(size) {
            Ok(size) if size <= bound => bound = size,
            _ => return Err(corrupt("a frame claims more bytes than it can hold")),
        }
    }
    let length = rest.len().saturating_sub(tail.len());
    let (bytes, tail) = rest.split_at_checked(length).unwrap_or_default();
    *rest = tail;
    Ok(Some(Frame { bytes, bound, is_sized: content_size.is_some() }))
}

/// Reads the header behind the magic number: what follows it, the content size, whether there is a checksum.
fn frame_header(input: &[u8]) -> Result<(&[u8], Option<u64>, bool), Fault> {
    let cut = corrupt("the stream ends inside a frame header");
    let (&descriptor, mut rest) = input.split_first().ok_or(cut)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x08 != 0 {
        return Err(corrupt("a reserved bit of a frame header is set"));
    }
    if !single_segment {
        let (&window, tail) = rest.split_first().ok_or(cut)?;
        rest = tail;
        let base = 1u64.wrapping_shl(u32::from(window >> 3).saturating_add(10));
        let size = base.saturating_add((base / 8).saturating_mul(u64::from(window & 7)));
        if size > MAX_WINDOW {
            return Err(corrupt("the window of a frame is larger than 128 MiB"));
        }
    }
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let (id, tail) = rest.split_at_checked(dictionary).ok_or(cut)?;
    rest = tail;
    if id.iter().any(|&byte| byte != 0) {
        return Err(corrupt("a frame needs a dictionary"));
    }
    let (content_size, width) = match (descriptor >> 6, single_segment) {
        (0, false) => (None, 0),
        (0, true) => (Some(u64::from(*rest.first().ok_or(cut)?)), 1),
        (1, _) => (Some(u64::from(le_u16(rest, 0).ok_or(cut)?).saturating_add(256)), 2),
        (2, _) => (Some(u64::from(le_u32(rest, 0).ok_or(cut)?)), 4),
        _ => (Some(le_u64(rest, 0).ok_or(cut)?), 8),
    };
    rest = rest.get(width..).ok_or(cut)?;
    Ok((rest, content_size, descriptor & 4 != 0))
}

/// Skips a block: the most it can give, whether it is the last, what follows it.
fn block(input: &[u8]) -> Result<(usize, bool, &[u8]), Fault> {
    let (&[a, b, c], rest) =
        input.split_first_chunk().ok_or_else(|| corrupt("the stream ends inside a block header"))?;
    let word = u32::from_le_bytes([a, b, c, 0]);
    let size = (word >> 3) as usize;
    let (bound, length) = match (word >> 1) & 3 {
        0 => (size, size),
        1 => (size, 1),
        2 => (MAX_BLOCK, size),
        _ => return Err(corrupt("a block type is not defined")),
    };
    if size > MAX_BLOCK {
        return Err(corrupt("a block is larger than 128 KiB"));
    }
    let rest = rest.get(length..).ok_or_else(|| corrupt("a block is longer than the bytes left"))?;
    Ok((bound, word & 1 == 1, rest))
}

pub(super) fn decompress(context: &mut Context, payload: &[u8], out: &mut Output) -> Result<(), Fault> {
    let mut rest = payload;
    while let Some(frame) = next_frame(&mut rest)? {
        let left = out.left();
        // A compressed block that runs into its limit is damaged to zrip, so it gets the room of one block more:
        // what is over the limit is then over it before any block can run into that.
        let room = left.saturating_add(MAX_BLOCK);
        let trusted = frame.bytes.len().saturating_mul(TRUSTED_RATIO).saturating_add(MAX_BLOCK);
        let expected = frame.bound.min(left).min(trusted).saturating_add(OVERLENGTH);
        let mut run = |expected: usize, room: usize, out: &mut Output| {
            out.append(expected, |buf| context.0.decompress_into_with_limit(frame.bytes, buf, room))
        };
        // zrip zeroes what a block could give, and streams do not say how much that is: so first with no more than
        // what the batches before took.
        let start = out.filled();
        let at_hand = out.at_hand().saturating_sub(OVERLENGTH);
        let mut done = Err(DecompressError::OutputTooSmall);
        if !frame.is_sized && at_hand < expected.min(room) {
            done = run(0, at_hand, out);
        }
        if done.is_err() {
            out.rewind(start);
            done = run(expected, room, out);
        }
        if out.filled() > out.limit() {
            return Err(out.over(out.limit().saturating_add(1)));
        }
        match done {
            Ok(()) => {}
            Err(DecompressError::OutputTooSmall) => return Err(out.over(out.limit().saturating_add(1))),
            Err(DecompressError::ChecksumMismatch { .. }) => {
                return Err(corrupt("the checksum of a frame is wrong"));
            }
            Err(DecompressError::DictRequired | DecompressError::DictMismatch { .. }) => {
                return Err(corrupt("a frame needs a dictionary"));
            }
            Err(_) => return Err(corrupt("a frame is damaged")),
        }
    }
    Ok(())
}

pub(super) fn estimate(payload: &[u8]) -> usize {
    let mut rest = payload;
    let mut total = 0usize;
    while let Ok(Some(frame)) = next_frame(&mut rest) {
        total = total.saturating_add(frame.bound);
    }
    total
}

pub(super) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    zrip::compress(payload, LEVEL).ok()
}
