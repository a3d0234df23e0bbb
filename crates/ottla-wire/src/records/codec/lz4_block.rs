//! One LZ4 block: literals and matches, copied in chunks of a fixed size where there is room for more than is wanted.
//!
//! Our own, because blocks are most of what reading LZ4 costs: a chunk is one check and two instructions, and what was
//! written too far is overwritten by what comes next.

use core::ops::ControlFlow;

use crate::records::bytes_at::le_u16;

/// The shortest match.
const MIN_MATCH: usize = 4;
/// The part of a token that says that the length goes on behind it.
const GOES_ON: usize = 15;

/// Why a block gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// More comes out than there is room for. It can be gone on with where there is more: so much of the input was taken,
    /// and what it gave ends there.
    Full { taken: usize, end: usize },
    /// It is not a block.
    Damaged,
}

/// Why a sequence gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Full,
    Damaged,
}

/// Decompresses `input` into `out` from position `start` on; matches reach back to the beginning of `out`. Returns where
/// the data ends. What lies behind that is overwritten too.
pub(super) fn decompress(input: &[u8], out: &mut [u8], start: usize) -> Result<usize, Failure> {
    // For `usual`; nothing is that large.
    let out = if u32::try_from(out.len()).is_ok() {
        out
    } else {
        return Err(Failure::Full { taken: 0, end: start });
    };
    let (mut rest, mut end) = (input, start);
    loop {
        let (taken, given) = match usual(rest, out, end) {
            Some(sizes) => sizes,
            None => match any(rest, out, end) {
                Ok(ControlFlow::Continue(sizes)) => sizes,
                Ok(ControlFlow::Break(given)) => return Ok(end.wrapping_add(given)),
                Err(Stop::Full) => {
                    return Err(Failure::Full { taken: input.len().wrapping_sub(rest.len()), end });
                }
                Err(Stop::Damaged) => return Err(Failure::Damaged),
            },
        };
        rest = rest.get(taken..).ok_or(Failure::Damaged)?;
        // All of it lies in `out`.
        end = end.wrapping_add(given);
    }
}

/// Most sequences: lengths that fit into the token, a match that is not too near, and more input and room than they need.
/// Gives how much of the input it took, and how much came out. `None`, and nothing that counts was written: it is another.
#[inline(always)]
fn usual(rest: &[u8], out: &mut [u8], end: usize) -> Option<(usize, usize)> {
    let [token, behind @ ..] = rest.first_chunk::<19>()?;
    let literals = usize::from(token >> 4);
    let more = usize::from(token & 15);
    if literals == GOES_ON || more == GOES_ON {
        return None;
    }
    let offset = usize::from(u16::from_le_bytes(*behind.get(literals..)?.first_chunk()?));
    // This changes nothing, but shows the compiler that no sum can wrap: then the next comparison stands for all those
    // that follow.
    let end = end as u32 as usize;
    let match_start = end.wrapping_add(literals);
    let from = match_start.checked_sub(offset)?;
    if match_start.wrapping_add(32) > out.len() || offset < 16 {
        return None;
    }
    // What is copied too far is overwritten by the match, and what the match copies too far by what comes next.
    out.get_mut(end..end.wrapping_add(16))?.copy_from_slice(behind.first_chunk::<16>()?);
    copy_16(out, from, match_start)?;
    // Up to 18 bytes.
    if more > 12 {
        copy_16(out, from.wrapping_add(16), match_start.wrapping_add(16))?;
    }
    Some((literals.wrapping_add(3), literals.wrapping_add(more).wrapping_add(MIN_MATCH)))
}

/// Copies 16 bytes within `out`.
#[inline(always)]
fn copy_16(out: &mut [u8], from: usize, to: usize) -> Option<()> {
    let chunk: [u8; 16] = *out.get(from..from.wrapping_add(16))?.first_chunk()?;
    out.get_mut(to..to.wrapping_add(16))?.copy_from_slice(&chunk);
    Some(())
}

/// Any sequence: how much of the input it took, and how much came out. The last one has no match.
#[inline(always)]
fn any(input: &[u8], out: &mut [u8], end: usize) -> Result<ControlFlow<usize, (usize, usize)>, Stop> {
    let token = *input.first().ok_or(Stop::Damaged)?;
    let mut at = 1;
    let literals = length(usize::from(token >> 4), input, &mut at)?;
    copy_literals(input, at, out, end, literals)?;
    at = at.wrapping_add(literals);
    if at == input.len() {
        return Ok(ControlFlow::Break(literals));
    }
    let end = end.wrapping_add(literals);
    let offset = usize::from(le_u16(input, at).ok_or(Stop::Damaged)?);
    at = at.wrapping_add(2);
    let matched = length(usize::from(token & 15), input, &mut at)?.wrapping_add(MIN_MATCH);
    let from = end.checked_sub(offset).filter(|_| offset > 0).ok_or(Stop::Damaged)?;
    repeat(out, from, end, matched)?;
    Ok(ControlFlow::Continue((at, literals.wrapping_add(matched))))
}

/// A length that begins with four bits of a token. It cannot wrap: a byte adds 255 at most.
#[inline(always)]
fn length(bits: usize, input: &[u8], at: &mut usize) -> Result<usize, Stop> {
    let mut length = bits;
    if bits == GOES_ON {
        loop {
            let more = *input.get(*at).ok_or(Stop::Damaged)?;
            *at = at.wrapping_add(1);
            length = length.wrapping_add(usize::from(more));
            if more != u8::MAX {
                break;
            }
        }
    }
    Ok(length)
}

/// Copies `N` bytes, if both sides have so many.
#[inline(always)]
fn copy_in<const N: usize>(input: &[u8], at: usize, out: &mut [u8], end: usize) -> Option<()> {
    let chunk: &[u8; N] = input.get(at..)?.first_chunk()?;
    *out.get_mut(end..)?.first_chunk_mut()? = *chunk;
    Some(())
}

/// Copies `length` literals.
#[inline(always)]
fn copy_literals(input: &[u8], at: usize, out: &mut [u8], end: usize, length: usize) -> Result<(), Stop> {
    if length <= 32 && copy_in::<32>(input, at, out, end).is_some() {
        return Ok(());
    }
    let literals = input.get(at..).and_then(|rest| rest.get(..length)).ok_or(Stop::Damaged)?;
    let space = out.get_mut(end..).and_then(|rest| rest.get_mut(..length)).ok_or(Stop::Full)?;
    space.copy_from_slice(literals);
    Ok(())
}

/// Copies a match of any length, which may overlap with what it gives; it lies behind `from`.
#[inline(always)]
fn repeat(out: &mut [u8], from: usize, end: usize, length: usize) -> Result<(), Stop> {
    let offset = end.wrapping_sub(from);
    let region = out.get_mut(from..).ok_or(Stop::Damaged)?;
    if offset >= 16 && length <= 64 && region.len() >= offset.wrapping_add(64) {
        copy_16(region, 0, offset).ok_or(Stop::Damaged)?;
        copy_16(region, 16, offset.wrapping_add(16)).ok_or(Stop::Damaged)?;
        if length > 32 {
            copy_16(region, 32, offset.wrapping_add(32)).ok_or(Stop::Damaged)?;
            copy_16(region, 48, offset.wrapping_add(48)).ok_or(Stop::Damaged)?;
        }
        return Ok(());
    }
    repeat_exactly(region, offset, length)
}

/// The first `length` bytes again behind the first `offset`: what is there already, then twice as much, and so on.
#[inline(never)]
fn repeat_exactly(region: &mut [u8], offset: usize, length: usize) -> Result<(), Stop> {
    let end = offset.wrapping_add(length);
    if region.len() < end {
        return Err(Stop::Full);
    }
    let mut done = offset;
    while done < end {
        let size = done.min(end.wrapping_sub(done));
        region.copy_within(..size, done);
        done = done.wrapping_add(size);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lz4_flex::block::{DecompressError, compress, decompress_into, decompress_into_with_dict};

    use super::*;

    /// What `lz4_flex` makes of it, in our words.
    fn reference(input: &[u8], room: usize) -> Result<Vec<u8>, Stop> {
        let mut out = vec![0; room];
        match decompress_into(input, &mut out) {
            Ok(size) => Ok(out[..size].to_vec()),
            Err(DecompressError::OutputTooSmall { .. }) => Err(Stop::Full),
            Err(_) => Err(Stop::Damaged),
        }
    }

    fn ours(input: &[u8], room: usize) -> Result<Vec<u8>, Stop> {
        // Whatever lies before the data is none of its business, and what follows is only room.
        let mut out = vec![0xee; room + 3];
        let end = decompress(input, &mut out[3..], 0);
        assert_eq!(out[..3], [0xee; 3]);
        match end {
            Ok(end) => Ok(out[3..3 + end].to_vec()),
            Err(Failure::Damaged) => Err(Stop::Damaged),
            Err(Failure::Full { taken, end }) => {
                // With more room it goes on from there as if there had been enough from the beginning.
                out.truncate(3 + end);
                out.resize(room + 1000, 0x77);
                let mut whole = vec![0x55; room + 1000];
                let (on, at_once) =
                    (decompress(&input[taken..], &mut out[3..], end), decompress(input, &mut whole, 0));
                match (on, at_once) {
                    (Ok(on), Ok(at_once)) => assert_eq!(out[3..3 + on], whole[..at_once], "{input:?}"),
                    (on, at_once) => assert!(on.is_err() && at_once.is_err(), "{on:?}, {at_once:?}"),
                }
                Err(Stop::Full)
            }
        }
    }

    fn agree(input: &[u8], room: usize) {
        let (ours, theirs) = (ours(input, room), reference(input, room));
        match (&ours, &theirs) {
            // Damaged and too large at once: either may be seen first.
            (Err(_), Err(_)) => {}
            _ => assert_eq!(ours, theirs, "{input:?} into {room}"),
        }
    }

    /// Literals and a match of every kind, at every distance from the end of the room.
    fn block(literals: usize, offset: usize, length: usize) -> Vec<u8> {
        let mut block = Vec::new();
        let put = |block: &mut Vec<u8>, mut rest: usize| {
            while rest >= 255 {
                block.push(255);
                rest -= 255;
            }
            block.push(rest as u8);
        };
        block.push(((literals.min(15) as u8) << 4) | (length - MIN_MATCH).min(15) as u8);
        if literals >= 15 {
            put(&mut block, literals - 15);
        }
        block.extend((0..literals).map(|i| i as u8));
        block.extend((offset as u16).to_le_bytes());
        if length - MIN_MATCH >= 15 {
            put(&mut block, length - MIN_MATCH - 15);
        }
        block.extend([0x50, 1, 2, 3, 4, 5]);
        block
    }

    #[test]
    fn every_offset_and_length() {
        for literals in [1, 3, 7, 8, 14, 15, 16, 17, 31, 32, 33, 40, 300] {
            for offset in (1..=literals + 2).filter(|o| *o < 40 || *o > literals - 2) {
                for length in [4, 5, 8, 15, 16, 17, 18, 19, 20, 31, 32, 33, 34, 64, 255, 256, 257, 300, 600] {
                    let block = block(literals, offset, length);
                    let size = literals + length + 5;
                    for room in [size, size + 1, size + 7, size + 40, size - 1, size - 6, literals + 1] {
                        agree(&block, room);
                    }
                    assert_eq!(ours(&block, size).is_ok(), offset <= literals);
                    assert!(ours(&block, size - 1).is_err());
                }
            }
        }
    }

    /// 40 literals and a match, so that the next sequence has something to reach back to; that one, and `tail` literals.
    /// Gives the block and its size.
    fn short(literals: usize, more: usize, offset: usize, tail: usize) -> (Vec<u8>, usize) {
        let mut block = vec![0xf0, 40 - 15];
        block.extend((0..40).map(|i| i * 5 + 1));
        block.extend([20, 0, ((literals << 4) | more) as u8]);
        block.extend((0..literals).map(|i| i as u8 + 100));
        block.extend((offset as u16).to_le_bytes());
        match tail {
            0..15 => block.push((tail << 4) as u8),
            _ => block.extend([0xf0, (tail - 15) as u8]),
        }
        block.extend((0..tail).map(|i| i as u8 + 200));
        (block, 40 + MIN_MATCH + literals + more + MIN_MATCH + tail)
    }

    /// The quick way, and each reason not to take it, alone and behind what a linked block reaches back to.
    #[test]
    fn short_sequences_near_the_end_of_the_input_and_of_the_room() {
        let before: Vec<u8> = (0..100).map(|i| 255 - i).collect();
        let mut quick = 0;
        for (literals, more) in (0..15).flat_map(|l| (0..15).map(move |m| (l, m))) {
            for offset in [15, 16, 17, 18, 20, 31, 32, 33, 44, 58, 59, 100] {
                for tail in [5, 6, 12, 13, 16, 17, 18, 19, 24] {
                    let (block, size) = short(literals, more, offset, tail);
                    let at = 2 + 40 + 2;
                    let written = 40 + MIN_MATCH;
                    for room in [size - 1, size, size + 1, size + 9, size + 10, size + 40] {
                        agree(&block, room);
                        let mut out = vec![0xee; room];
                        quick += u32::from(usual(&block[at..], &mut out, written).is_some());
                        let mut linked = before.clone();
                        linked.resize(before.len() + room, 0xee);
                        let ours = decompress(&block, &mut linked, before.len());
                        let mut theirs = vec![0; room];
                        match decompress_into_with_dict(&block, &mut theirs, &before) {
                            Ok(end) => {
                                assert_eq!(ours, Ok(before.len() + end));
                                assert_eq!(linked[before.len()..before.len() + end], theirs[..end]);
                            }
                            Err(_) => assert!(ours.is_err()),
                        }
                        assert_eq!(linked[..before.len()], before);
                    }
                }
            }
        }
        assert!(quick > 10_000, "only {quick} took the quick way");
    }

    #[test]
    fn damaged_blocks() {
        let text: Vec<u8> =
            (0..700u32).flat_map(|i| format!("{{\"n\":{},\"m\":{}}}", i % 7, i * i).into_bytes()).collect();
        let good = compress(&text);
        assert_eq!(ours(&good, text.len()).as_deref(), Ok(&text[..]));
        for cut in 0..good.len() {
            agree(&good[..cut], text.len());
        }
        for at in (0..good.len()).step_by(3) {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                agree(&bad, text.len());
                agree(&bad, text.len() + 100);
            }
        }
        for bytes in
            [&[][..], &[0], &[0x10], &[0xf0, 255], &[0x0f, 1, 0, 255], &[0x10, 7, 0, 0], &[0x10, 7, 1, 0]]
        {
            agree(bytes, 64);
        }
    }

    /// A block that is linked to the one before reaches back into it, and no further.
    #[test]
    fn a_match_may_lie_before_the_block() {
        // No literals, a match of 4 bytes 8 back, 5 literals.
        let block = [0x00, 8, 0, 0x50, 1, 2, 3, 4, 5];
        let mut out = *b"abcdefgh.........";
        assert_eq!(decompress(&block, &mut out, 8), Ok(17));
        assert_eq!(&out, b"abcdefghabcd\x01\x02\x03\x04\x05");
        assert_eq!(decompress(&block, &mut out[1..], 7), Err(Failure::Damaged));
    }
}
