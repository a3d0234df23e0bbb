//! LZ4 frames; `lz4_block` decompresses their blocks.
//!
//! Java's reader takes version 1, independent blocks and one frame, and skips content checksums. We take linked
//! blocks, several frames and skippable frames as well.

use lz4_flex::block::{compress_into, get_maximum_output_size};

use super::Lz4HeaderChecksum;
use super::lz4_block::{self, Failure};
use super::output::Output;
use super::xxhash::xxh32;
use crate::records::bytes_at::le_u32;
use crate::records::error::Fault;
use crate::records::header::Compression;

const MAGIC: u32 = 0x184d_2204;
/// The lower four bits are free.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// A length byte of 255 gives 255 bytes; the constant covers what a token gives by itself.
const MAX_RATIO: usize = 255;
const RATIO_SLACK: usize = 64;

fn corrupt(what: &'static str) -> Fault {
    Fault::Codec(Compression::Lz4, what)
}

/// What a frame header says.
struct Frame {
    max_block: usize,
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
}

/// One block of a frame.
struct Block<'a> {
    data: &'a [u8],
    stored: bool,
    checksum: Option<u32>,
}

impl Block<'_> {
    /// The most bytes it can give.
    fn bound(&self, frame: &Frame) -> usize {
        if self.stored {
            return self.data.len();
        }
        self.data.len().saturating_mul(MAX_RATIO).saturating_add(RATIO_SLACK).min(frame.max_block)
    }
}

/// Takes a frame header off the front of `rest`, and the skippable frames before it. `None`: no frame follows.
fn next_frame(rest: &mut &[u8], header_checksum: Lz4HeaderChecksum) -> Result<Option<Frame>, Fault> {
    while le_u32(rest, 0).is_some_and(|magic| magic & !0xf == SKIPPABLE_MAGIC) {
        let size = le_u32(rest, 4).ok_or_else(|| corrupt("the stream ends inside a skippable frame"))?;
        let body = rest.get(8..).unwrap_or_default();
        *rest =
            body.get(size as usize..).ok_or_else(|| corrupt("the stream ends inside a skippable frame"))?;
    }
    if le_u32(rest, 0) != Some(MAGIC) {
        return Ok(None);
    }
    let cut = corrupt("the stream ends inside a frame header");
    let descriptor = rest.get(4..).ok_or(cut)?;
    let (&flags, &sizes) = descriptor.first().zip(descriptor.get(1)).ok_or(cut)?;
    if flags >> 6 != 1 {
        return Err(corrupt("the frame is not of version 1"));
    }
    if flags & 0b01 != 0 {
        return Err(corrupt("the frame needs a dictionary"));
    }
    if flags & 0b10 != 0 || sizes & 0b1000_1111 != 0 {
        return Err(corrupt("reserved bits of a frame header are set"));
    }
    let max_block = match sizes >> 4 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return Err(corrupt("the block size of a frame is not defined")),
    };
    // The content size, where there is one, is a claim that we do not need.
    let length = if flags & 0b1000 != 0 { 10 } else { 2 };
    let (covered, tail) = descriptor.split_at_checked(length).ok_or(cut)?;
    let (&stored, tail) = tail.split_first().ok_or(cut)?;
    if header_checksum == Lz4HeaderChecksum::Verify && stored != (xxh32(covered) >> 8) as u8 {
        return Err(corrupt("the checksum of a frame header is wrong"));
    }
    *rest = tail;
    Ok(Some(Frame {
        max_block,
        linked: flags & 0b10_0000 == 0,
        block_checksums: flags & 0b1_0000 != 0,
        content_checksum: flags & 0b100 != 0,
    }))
}

/// Takes a block off the front of `rest`; `None` is the end mark.
fn next_block<'a>(rest: &mut &'a [u8], frame: &Frame) -> Result<Option<Block<'a>>, Fault> {
    let word = le_u32(rest, 0).ok_or_else(|| corrupt("the stream ends without an end mark"))?;
    let body = rest.get(4..).unwrap_or_default();
    if word == 0 {
        let checksum = if frame.content_checksum { 4 } else { 0 };
        *rest = body.get(checksum..).ok_or_else(|| corrupt("the stream ends inside its checksum"))?;
        return Ok(None);
    }
    let size = (word & 0x7fff_ffff) as usize;
    if size > frame.max_block {
        return Err(corrupt("a block is larger than its frame allows"));
    }
    let (data, mut tail) =
        body.split_at_checked(size).ok_or_else(|| corrupt("a block is longer than the bytes left"))?;
    let mut checksum = None;
    if frame.block_checksums {
        checksum =
            Some(le_u32(tail, 0).ok_or_else(|| corrupt("the stream ends inside the checksum of a block"))?);
        tail = tail.get(4..).unwrap_or_default();
    }
    *rest = tail;
    Ok(Some(Block { data, stored: word >> 31 == 1, checksum }))
}

pub(super) fn decompress(
    payload: &[u8],
    out: &mut Output,
    header_checksum: Lz4HeaderChecksum,
) -> Result<(), Fault> {
    let mut rest = payload;
    let mut frames = 0u32;
    // What follows the last frame and is none itself is ignored, as in Java.
    while let Some(frame) = next_frame(&mut rest, header_checksum)? {
        frames = frames.saturating_add(1);
        // All blocks but the last give what they can, mostly.
        let bound = frame_bound(rest, &frame);
        if out.filled() == 0 && bound > frame.max_block {
            let _ = out.space(bound);
        }
        let start = out.filled();
        while let Some(block) = next_block(&mut rest, &frame)? {
            decode_block(&block, &frame, start, out)?;
        }
    }
    if frames == 0 {
        return Err(corrupt("not an lz4 frame"));
    }
    Ok(())
}

fn decode_block(block: &Block<'_>, frame: &Frame, start: usize, out: &mut Output) -> Result<(), Fault> {
    if block.checksum.is_some_and(|checksum| checksum != xxh32(block.data)) {
        return Err(corrupt("the checksum of a block is wrong"));
    }
    if block.stored {
        return out.extend(block.data);
    }
    let bound = block.bound(frame);
    let first = out.filled();
    // How far back a match may reach.
    let start = if frame.linked { start } else { first };
    // A block gives far less than it could: mostly what the batches before took is enough, else it goes on with more.
    let mut want = out.at_hand().min(bound);
    let mut goes_on = want < bound;
    let mut rest = block.data;
    loop {
        let written = out.filled().saturating_sub(start);
        let buf = out.written_and_space(written, want);
        let room = buf.len().saturating_sub(written);
        let done = lz4_block::decompress(rest, buf, written);
        let (Ok(end) | Err(Failure::Full { end, .. })) = done else {
            return Err(corrupt("a block is damaged"));
        };
        if done.is_err() && room < want {
            return Err(out.over(out.filled().saturating_add(room)));
        }
        out.advance(end.saturating_sub(written))?;
        let given = out.filled().saturating_sub(first);
        match done {
            Err(Failure::Full { taken, .. }) if goes_on && given <= bound => {
                rest = rest.get(taken..).unwrap_or_default();
                want = bound.saturating_sub(given);
                goes_on = false;
            }
            Ok(_) if given <= frame.max_block => return Ok(()),
            _ => return Err(corrupt("a block gives more than its frame allows")),
        }
    }
}

/// The most bytes that the blocks of the frame before `rest` can give.
fn frame_bound(mut rest: &[u8], frame: &Frame) -> usize {
    let mut total = 0usize;
    while let Ok(Some(block)) = next_block(&mut rest, frame) {
        total = total.saturating_add(block.bound(frame));
    }
    total
}

pub(super) fn estimate(payload: &[u8]) -> usize {
    let mut rest = payload;
    let mut total = 0usize;
    while let Ok(Some(frame)) = next_frame(&mut rest, Lz4HeaderChecksum::Ignore) {
        total = total.saturating_add(frame_bound(rest, &frame));
        while let Ok(Some(_)) = next_block(&mut rest, &frame) {}
    }
    total
}

/// One frame of independent blocks of 64 KiB without checksums: what Java's producer writes and its consumer
/// reads.
pub(super) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    const BLOCK: usize = 64 << 10;
    let mut out = Vec::with_capacity(payload.len() / 2);
    let descriptor = [0b0110_0000, 0b0100_0000];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&descriptor);
    out.push((xxh32(&descriptor) >> 8) as u8);
    let mut scratch = vec![0; get_maximum_output_size(BLOCK.min(payload.len()))];
    for block in payload.chunks(BLOCK) {
        let size = compress_into(block, &mut scratch).ok()?;
        match scratch.get(..size) {
            Some(smaller) if size < block.len() => {
                out.extend_from_slice(&u32::try_from(size).ok()?.to_le_bytes());
                out.extend_from_slice(smaller);
            }
            _ => {
                out.extend_from_slice(&(u32::try_from(block.len()).ok()? | 1 << 31).to_le_bytes());
                out.extend_from_slice(block);
            }
        }
    }
    out.extend_from_slice(&[0; 4]);
    Some(out)
}
