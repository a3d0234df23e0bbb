//! The codecs' reference implementations, which are C: zlib, liblz4, libzstd.

use std::io::{Cursor, Read, Write as _};

use ottla_tests::fuzz::codecs::{Reference, always, never};

/// zlib.
pub const GZIP: Reference =
    Reference { decompress: gunzip, compress: gzip, may_refuse: never, may_read: never };

/// liblz4. Unlike ours, and Java's, it compares checksum and size of the content, wants five literals at the end of a
/// block, and reads a match of distance 0, which the format calls corrupt. What is to be read and what is not the naive
/// reader says (`codecs::LZ4`).
pub const LZ4: Reference =
    Reference { decompress: unlz4, compress: lz4, may_refuse: always, may_read: always };

/// libzstd. It reads some damaged frames that zrip refuses, and refuses some that zrip reads
/// (`fuzz/crashes/codec_zstd/`). The batch's checksum stands before either; what both read must be the same bytes.
pub const ZSTD: Reference =
    Reference { decompress: unzstd, compress: zstd, may_refuse: always, may_read: always };

/// Members follow one another; what follows the last and is none is ignored, as in Java.
fn gunzip(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = payload;
    loop {
        let read = zlib::member(rest, &mut out, limit)?;
        rest = rest.get(read..)?;
        if !rest.starts_with(&[0x1f, 0x8b]) {
            return Some(out);
        }
    }
}

fn gzip(content: &[u8], level: u8) -> Vec<u8> {
    zlib::compress(content, i32::from(level % 10))
}

#[expect(unsafe_code, reason = "zlib is C")]
mod zlib {
    use std::mem::MaybeUninit;

    use libz_sys::*;

    /// A window of 32 KiB, and 16 for gzip.
    const WINDOW: i32 = 15 + 16;
    const SIZE: i32 = size_of::<z_stream>() as i32;
    const CHUNK: usize = 64 << 10;

    /// Runs `step` on a stream until it gives something else than `Z_OK`: that, and how much was read.
    ///
    /// # Safety
    /// `stream` was initialized, and `step` is of its kind.
    unsafe fn run(
        stream: *mut z_stream,
        input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        step: impl Fn(*mut z_stream) -> i32,
    ) -> (i32, usize) {
        let mut chunk = vec![0u8; CHUNK];
        // SAFETY: the pointers are those of live slices, and the lengths are theirs.
        unsafe {
            (*stream).next_in = input.as_ptr().cast_mut();
            (*stream).avail_in = input.len() as u32;
            loop {
                (*stream).next_out = chunk.as_mut_ptr();
                (*stream).avail_out = CHUNK as u32;
                let code = step(stream);
                let written = CHUNK - (*stream).avail_out as usize;
                out.extend_from_slice(&chunk[..written]);
                if code != Z_OK || out.len() > limit || (written == 0 && (*stream).avail_in == 0) {
                    return (code, input.len() - (*stream).avail_in as usize);
                }
            }
        }
    }

    /// Appends the member at the front of `payload` to `out` and tells its size.
    pub(super) fn member(payload: &[u8], out: &mut Vec<u8>, limit: usize) -> Option<usize> {
        // Null functions, which zlib takes for its own: hence never a whole `z_stream` in safe hands.
        let mut stream = MaybeUninit::<z_stream>::zeroed();
        let stream = stream.as_mut_ptr();
        // SAFETY: zeroed is how zlib wants it.
        let (code, read) = unsafe {
            assert_eq!(inflateInit2_(stream, WINDOW, zlibVersion(), SIZE), Z_OK);
            let done = run(stream, payload, out, limit, |stream| inflate(stream, Z_NO_FLUSH));
            inflateEnd(stream);
            done
        };
        (code == Z_STREAM_END && out.len() <= limit).then_some(read)
    }

    pub(super) fn compress(content: &[u8], level: i32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stream = MaybeUninit::<z_stream>::zeroed();
        let stream = stream.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            let code =
                deflateInit2_(stream, level, Z_DEFLATED, WINDOW, 8, Z_DEFAULT_STRATEGY, zlibVersion(), SIZE);
            assert_eq!(code, Z_OK);
            let (code, _) = run(stream, content, &mut out, usize::MAX, |stream| deflate(stream, Z_FINISH));
            assert_eq!(code, Z_STREAM_END);
            deflateEnd(stream);
        }
        out
    }
}

/// Frames follow one another; what follows the last and is none is ignored, as in Java.
fn unlz4(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = Cursor::new(payload);
    loop {
        let mut decoder = lz4::Decoder::new(rest).ok()?;
        (&mut decoder).take((limit + 1 - out.len()) as u64).read_to_end(&mut out).ok()?;
        if out.len() > limit {
            return None;
        }
        let (next, done) = decoder.finish();
        done.ok()?;
        rest = next;
        let left = payload.get(usize::try_from(rest.position()).ok()?..).unwrap_or_default();
        let magic = left.first_chunk::<4>().map_or(0, |magic| u32::from_le_bytes(*magic));
        if magic != 0x184d_2204 && magic & !0xf != 0x184d_2a50 {
            return Some(out);
        }
    }
}

fn lz4(content: &[u8], level: u8) -> Vec<u8> {
    let mut encoder = lz4::EncoderBuilder::new()
        .level(u32::from(level % 16))
        .block_mode(if level & 16 == 0 { lz4::BlockMode::Linked } else { lz4::BlockMode::Independent })
        .block_size(if level & 32 == 0 { lz4::BlockSize::Max64KB } else { lz4::BlockSize::Max4MB })
        .checksum(if level & 64 == 0 {
            lz4::ContentChecksum::NoChecksum
        } else {
            lz4::ContentChecksum::ChecksumEnabled
        })
        .build(Vec::new())
        .expect("an encoder");
    encoder.write_all(content).expect("into memory");
    let (out, done) = encoder.finish();
    done.expect("into memory");
    out
}

fn unzstd(payload: &[u8], limit: usize) -> Option<Vec<u8>> {
    // No frame at all is nothing for us, and a stream that ends too early for it.
    if payload.is_empty() {
        return Some(Vec::new());
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload).ok()?;
    decoder.window_log_max(27).ok()?;
    let mut out = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut out).ok()?;
    (out.len() <= limit).then_some(out)
}

fn zstd(content: &[u8], level: u8) -> Vec<u8> {
    let mut encoder =
        zstd::stream::write::Encoder::new(Vec::new(), i32::from(level % 20)).expect("an encoder");
    encoder.include_checksum(level & 32 != 0).expect("an option");
    encoder.long_distance_matching(level & 64 != 0).expect("an option");
    encoder.write_all(content).expect("into memory");
    encoder.finish().expect("into memory")
}
