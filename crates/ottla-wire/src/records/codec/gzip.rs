//! gzip: header and trailer by us, the deflate stream by `flate2` on zlib-rs.

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::output::Output;
use crate::records::bytes_at::{le_u16, le_u32};
use crate::records::crc32::crc32;
use crate::records::error::Fault;
use crate::records::header::Compression;

/// Deflate gives at most 258 bytes for two bits.
const MAX_RATIO: usize = 1032;
/// First space when the trailer says nothing useful.
const SMALLEST: usize = 4 << 10;

const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

fn corrupt(what: &'static str) -> Fault {
    Fault::Codec(Compression::Gzip, what)
}

/// The members of a stream may follow one another (RFC 1952); what follows the last and is none is ignored, as
/// in Java.
pub(super) fn decompress(context: &mut Decompress, payload: &[u8], out: &mut Output) -> Result<(), Fault> {
    let mut rest = payload;
    loop {
        rest = member(context, rest, out)?;
        if !rest.starts_with(&[0x1f, 0x8b]) {
            return Ok(());
        }
    }
}

/// Decompresses the member at the front of `input` and gives what follows it.
fn member<'a>(context: &mut Decompress, input: &'a [u8], out: &mut Output) -> Result<&'a [u8], Fault> {
    let mut rest = header(input)?;
    let start = out.filled();
    context.reset(false);
    let mut want = claimed_size(rest);
    loop {
        let space = out.space(want);
        let room = space.len();
        let (before_in, before_out) = (context.total_in(), context.total_out());
        let status = context
            .decompress(rest, space, FlushDecompress::Finish)
            .map_err(|_| corrupt("the deflate stream is damaged"))?;
        let read = usize::try_from(context.total_in().wrapping_sub(before_in)).unwrap_or(usize::MAX);
        let written = usize::try_from(context.total_out().wrapping_sub(before_out)).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        out.advance(written)?;
        if status == Status::StreamEnd {
            break;
        }
        // Without more input or more space it cannot go on.
        if written < room && (rest.is_empty() || (read == 0 && written == 0)) {
            return Err(corrupt("the stream ends before its data"));
        }
        want = out.filled().max(SMALLEST);
    }
    let (Some(crc), Some(size)) = (le_u32(rest, 0), le_u32(rest, 4)) else {
        return Err(corrupt("the stream ends inside its trailer"));
    };
    let data = out.written_from(start);
    let mut computed = Crc::new();
    computed.update(data);
    if computed.sum() != crc || data.len() as u32 != size {
        return Err(corrupt("checksum or size in the trailer are wrong"));
    }
    Ok(rest.get(8..).unwrap_or_default())
}

/// Skips the header of a member.
fn header(input: &[u8]) -> Result<&[u8], Fault> {
    let cut = corrupt("the stream ends inside its header");
    if !input.starts_with(&[0x1f, 0x8b]) {
        return Err(corrupt("not a gzip stream"));
    }
    let (fixed, mut rest) = input.split_at_checked(10).ok_or(cut)?;
    let (&method, &flags) = fixed.get(2).zip(fixed.get(3)).ok_or(cut)?;
    if method != 8 {
        return Err(corrupt("the method is not deflate"));
    }
    if flags & RESERVED != 0 {
        return Err(corrupt("reserved flags of the header are set"));
    }
    if flags & EXTRA != 0 {
        let length = usize::from(le_u16(rest, 0).ok_or(cut)?);
        rest = rest.get(2..).and_then(|extra| extra.get(length..)).ok_or(cut)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0).ok_or(cut)?;
            rest = rest.get(end.saturating_add(1)..).ok_or(cut)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let stored = le_u16(rest, 0).ok_or(cut)?;
        let covered = input.get(..input.len().saturating_sub(rest.len())).unwrap_or_default();
        if crc32(covered) as u16 != stored {
            return Err(corrupt("the checksum of the header is wrong"));
        }
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(rest)
}

/// What the last four bytes say, which are the size of the last member if nothing follows it, as far as
/// `input` could give that much.
fn claimed_size(input: &[u8]) -> usize {
    let claim = le_u32(input, input.len().saturating_sub(4)).unwrap_or(0) as usize;
    claim.min(input.len().saturating_mul(MAX_RATIO)).max(SMALLEST)
}

pub(super) fn estimate(payload: &[u8]) -> usize {
    claimed_size(payload).max(payload.len().saturating_mul(4))
}

pub(super) fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    let mut deflate = Compress::new(flate2::Compression::default(), false);
    let mut rest = payload;
    loop {
        out.reserve(rest.len().max(256));
        let before = deflate.total_in();
        let status = deflate.compress_vec(rest, &mut out, FlushCompress::Finish).ok()?;
        let read = usize::try_from(deflate.total_in().wrapping_sub(before)).ok()?;
        rest = rest.get(read..)?;
        if status == Status::StreamEnd {
            break;
        }
    }
    let mut crc = Crc::new();
    crc.update(payload);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    Some(out)
}
