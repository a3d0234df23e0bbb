//! LZ4 frames as their format description has them, byte by byte; and an encoder that makes frames of every shape.

use std::collections::BTreeMap;

use super::input::Input;

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: u32 = 0x184d_2a50;

/// It is damaged, or too much comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage;

fn exactly<'a>(input: &mut Input<'a>, count: usize) -> Result<&'a [u8], Damage> {
    if count <= input.0.len() { Ok(input.take(count)) } else { Err(Damage) }
}

fn le_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn word(input: &mut Input<'_>) -> Result<u32, Damage> {
    le_u32(exactly(input, 4)?).ok_or(Damage)
}

fn require(holds: bool) -> Result<(), Damage> {
    if holds { Ok(()) } else { Err(Damage) }
}

fn length(bits: u8, input: &mut Input<'_>) -> Result<usize, Damage> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = exactly(input, 1)?[0];
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Ok(length)
}

/// Appends what a block gives, `most` bytes at the most; matches reach back to position `start` of `out`.
fn block(block: &[u8], out: &mut Vec<u8>, start: usize, most: usize) -> Result<(), Damage> {
    let mut input = Input(block);
    let end = out.len() + most;
    loop {
        let token = exactly(&mut input, 1)?[0];
        let literals = length(token >> 4, &mut input)?;
        out.extend_from_slice(exactly(&mut input, literals)?);
        if input.is_empty() {
            return require(out.len() <= end);
        }
        let offset = usize::from(exactly(&mut input, 1)?[0]) | usize::from(exactly(&mut input, 1)?[0]) << 8;
        let matched = 4 + length(token & 15, &mut input)?;
        require(offset > 0 && offset <= out.len() - start && out.len() + matched <= end)?;
        for _ in 0..matched {
            out.push(out[out.len() - offset]);
        }
    }
}

/// What a payload gives.
///
/// # Errors
/// It is damaged, or gives more than `limit` bytes.
pub fn read(payload: &[u8], limit: usize) -> Result<Vec<u8>, Damage> {
    let mut input = Input(payload);
    let mut out = Vec::new();
    let mut frames = 0;
    loop {
        while le_u32(input.0).is_some_and(|magic| magic & !0xf == SKIPPABLE) {
            word(&mut input)?;
            let size = word(&mut input)?;
            exactly(&mut input, usize::try_from(size).expect("64 bits"))?;
        }
        if le_u32(input.0) != Some(MAGIC) {
            require(frames > 0)?;
            return Ok(out);
        }
        word(&mut input)?;
        frames += 1;
        frame(&mut input, &mut out, limit)?;
    }
}

fn frame(input: &mut Input<'_>, out: &mut Vec<u8>, limit: usize) -> Result<(), Damage> {
    let descriptor = input.0;
    let (flags, sizes) = (exactly(input, 1)?[0], exactly(input, 1)?[0]);
    // Version 1, no dictionary, nothing reserved.
    require(flags >> 6 == 1 && flags & 3 == 0 && sizes & 0x8f == 0 && sizes >> 4 >= 4)?;
    let max_block = 1usize << (8 + 2 * (sizes >> 4));
    // The size of the content, where it is told, and its checksum are not looked at.
    exactly(input, if flags & 8 != 0 { 8 } else { 0 })?;
    let covered = &descriptor[..descriptor.len() - input.0.len()];
    require(exactly(input, 1)?[0] == xxh32(covered).to_le_bytes()[1])?;
    let start = out.len();
    loop {
        let size = word(input)?;
        if size == 0 {
            exactly(input, if flags & 4 != 0 { 4 } else { 0 })?;
            return Ok(());
        }
        let length = usize::try_from(size & 0x7fff_ffff).expect("64 bits");
        require(length <= max_block)?;
        let data = exactly(input, length)?;
        if flags & 0x10 != 0 {
            require(word(input)? == xxh32(data))?;
        }
        if size >> 31 == 1 {
            out.extend_from_slice(data);
        } else {
            let start = if flags & 0x20 == 0 { start } else { out.len() };
            let left = limit.saturating_sub(out.len());
            block(data, out, start, max_block.min(left))?;
        }
        require(out.len() <= limit)?;
    }
}

/// The checksum of LZ4 frames, with seed 0.
fn xxh32(data: &[u8]) -> u32 {
    const P: [u32; 5] = [2_654_435_761, 2_246_822_519, 3_266_489_917, 668_265_263, 374_761_393];
    let mut rest = data;
    let mut sum = P[4];
    if data.len() >= 16 {
        let mut lanes = [P[0].wrapping_add(P[1]), P[1], 0, 0u32.wrapping_sub(P[0])];
        while rest.len() >= 16 {
            for lane in &mut lanes {
                let (four, behind) = rest.split_at(4);
                let more = le_u32(four).unwrap_or(0).wrapping_mul(P[1]);
                *lane = lane.wrapping_add(more).rotate_left(13).wrapping_mul(P[0]);
                rest = behind;
            }
        }
        let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        sum = turned.fold(0, u32::wrapping_add);
    }
    sum = sum.wrapping_add(data.len() as u32);
    while let Some(four) = le_u32(rest) {
        sum = sum.wrapping_add(four.wrapping_mul(P[2])).rotate_left(17).wrapping_mul(P[3]);
        rest = &rest[4..];
    }
    for byte in rest {
        sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(P[4])).rotate_left(11).wrapping_mul(P[0]);
    }
    sum = (sum ^ sum >> 15).wrapping_mul(P[1]);
    sum = (sum ^ sum >> 13).wrapping_mul(P[2]);
    sum ^ sum >> 16
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let Some(mut more) = length.checked_sub(15) else { return };
    while more >= 255 {
        out.push(255);
        more -= 255;
    }
    out.push(more as u8);
}

/// A sequence; a match of no bytes is none.
fn sequence(out: &mut Vec<u8>, literals: &[u8], offset: usize, matched: usize) {
    let more = matched.saturating_sub(4);
    out.push((literals.len().min(15) << 4) as u8 | more.min(15) as u8);
    put_length(out, literals.len());
    out.extend_from_slice(literals);
    if matched > 0 {
        out.extend_from_slice(&(offset as u16).to_le_bytes());
        put_length(out, more);
    }
}

/// Frames of linked or independent blocks, with and without checksums, as `shape` says; blocks are cut anywhere, and
/// end with as few literals as may be.
pub fn compress(content: &[u8], shape: u8) -> Vec<u8> {
    let linked = shape & 1 == 0;
    let checksums = if shape & 2 == 2 { 0x10 } else { 0 };
    let flags = 0x40 | checksums | if linked { 0 } else { 0x20 };
    let descriptor = [flags, 0x40];
    let mut out = MAGIC.to_le_bytes().to_vec();
    out.extend_from_slice(&descriptor);
    out.push(xxh32(&descriptor).to_le_bytes()[1]);
    let size = [64 << 10, 1_000, 61, 17][usize::from(shape >> 2 & 3)];
    let longest = [usize::MAX, 18, 19, 40][usize::from(shape >> 4 & 3)];
    let mut seen: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut from = 0;
    for chunk in content.chunks(size) {
        let mut block = Vec::new();
        let (start, end) = (from, from + chunk.len());
        let mut at = from;
        while at + 4 < end {
            let four = &content[at..at + 4];
            let before = seen.insert(four, at).filter(|p| at - p <= 65_535 && (linked || *p >= start));
            let Some(before) = before else {
                at += 1;
                continue;
            };
            let same = content[at..end - 1].iter().zip(&content[before..]).take_while(|(a, b)| a == b);
            let matched = same.take(longest).count();
            if matched < 4 {
                at += 1;
                continue;
            }
            sequence(&mut block, &content[from..at], at - before, matched);
            at += matched;
            from = at;
        }
        sequence(&mut block, &content[from..end], 0, 0);
        from = end;
        let stored = block.len() >= chunk.len();
        let (data, mark) = if stored { (chunk, 1 << 31) } else { (&block[..], 0) };
        out.extend_from_slice(&(data.len() as u32 | mark).to_le_bytes());
        out.extend_from_slice(data);
        if checksums > 0 {
            out.extend_from_slice(&xxh32(data).to_le_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out
}
