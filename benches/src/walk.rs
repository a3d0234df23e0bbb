//! Record batches read with as little work as a reader can do: what the floor does with bytes.
//!
//! Checks the checksum, decompresses into a buffer that stays, and steps over the records. It believes what it reads,
//! which a client must not.

use crate::{Result, Touch};

const HEADER: usize = 61;

/// The buffers and contexts that are used again.
#[derive(Default)]
pub struct Walker {
    scratch: Vec<u8>,
    gzip: Option<flate2::Decompress>,
    #[cfg(not(feature = "peers"))]
    zstd: Option<zrip::DecompressContext>,
    /// `zrip` appends, so it has a buffer of its own; the scratch buffer keeps its length.
    #[cfg(not(feature = "peers"))]
    appended: Vec<u8>,
    #[cfg(feature = "peers")]
    zstd: Option<zstd_safe::DCtx<'static>>,
}

/// The offset behind the last whole batch in `data`, from headers only.
///
/// # Errors
/// When a header is cut short.
pub fn next_offset(data: &[u8]) -> Result<Option<i64>> {
    let mut rest = data;
    let mut next = None;
    while let Some((batch, tail)) = split(rest) {
        next = Some(i64_at(batch, 0) + i64::from(i32_at(batch, 23)) + 1);
        rest = tail;
    }
    Ok(next)
}

/// The first batch, if all of it is there, and what follows.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    if data.len() < HEADER {
        return None;
    }
    data.split_at_checked(12 + usize::try_from(i32_at(data, 8)).ok()?)
}

fn i32_at(data: &[u8], at: usize) -> i32 {
    data[at..].first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes))
}

fn i64_at(data: &[u8], at: usize) -> i64 {
    data[at..].first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

impl Walker {
    /// Looks at every record of every whole batch in `data`.
    ///
    /// # Errors
    /// When a checksum is wrong or a batch cannot be decompressed.
    pub fn walk(&mut self, data: &[u8], touch: &mut Touch) -> Result<()> {
        let mut rest = data;
        while let Some((batch, tail)) = split(rest) {
            if crc32c::crc32c(&batch[21..]) != i32_at(batch, 17) as u32 {
                return Err("a checksum is wrong".into());
            }
            let count = i32_at(batch, 57);
            let payload = &batch[HEADER..];
            match batch[22] & 7 {
                0 => records(payload, count, touch),
                #[cfg(not(feature = "peers"))]
                4 => {
                    let context = self.zstd.get_or_insert_with(zrip::DecompressContext::new);
                    self.appended.clear();
                    context.decompress_into(payload, &mut self.appended)?;
                    records(&self.appended, count, touch);
                }
                codec => {
                    let size = self.decompress(codec, payload)?;
                    records(&self.scratch[..size], count, touch);
                }
            }
            rest = tail;
        }
        Ok(())
    }

    /// Into the scratch buffer, which grows when it is too small.
    fn decompress(&mut self, codec: u8, payload: &[u8]) -> Result<usize> {
        // Most that a batch of these topics holds; only what is used of it is ever touched again.
        if self.scratch.len() < 2 << 20 {
            self.scratch.resize(2 << 20, 0);
        }
        match codec {
            1 => self.gzip(payload),
            2 => self.snappy(payload),
            3 => self.lz4(payload),
            #[cfg(feature = "peers")]
            4 => self.zstd(payload),
            _ => Err("an unknown codec".into()),
        }
    }

    /// A header of ten bytes, one deflate stream.
    fn gzip(&mut self, payload: &[u8]) -> Result<usize> {
        let context = self.gzip.get_or_insert_with(|| flate2::Decompress::new(false));
        context.reset(false);
        // Its size is its last field; a larger buffer would be touched to its end.
        let size = payload.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        context.decompress(&payload[10..], &mut self.scratch[..size], flate2::FlushDecompress::Finish)?;
        Ok(size)
    }

    /// The framing of the Java library, or a bare block.
    fn snappy(&mut self, payload: &[u8]) -> Result<usize> {
        let mut decoder = snap::raw::Decoder::new();
        if !payload.starts_with(b"\x82SNAPPY\0") {
            return Ok(decoder.decompress(payload, &mut self.scratch)?);
        }
        let mut filled = 0;
        let mut rest = &payload[16..];
        while !rest.is_empty() {
            let (chunk, tail) = rest[4..].split_at(usize::try_from(i32_at(rest, 0))?);
            filled += decoder.decompress(chunk, &mut self.scratch[filled..])?;
            rest = tail;
        }
        Ok(filled)
    }

    /// One frame, no checksums of blocks.
    fn lz4(&mut self, payload: &[u8]) -> Result<usize> {
        let mut filled = 0;
        let mut rest = &payload[if payload[4] & 0b1000 != 0 { 15 } else { 7 }..];
        loop {
            let word = rest.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if word == 0 {
                return Ok(filled);
            }
            let (block, tail) = rest[4..].split_at((word & 0x7fff_ffff) as usize);
            if word >> 31 == 1 {
                self.scratch[filled..filled + block.len()].copy_from_slice(block);
                filled += block.len();
            } else {
                filled += lz4_flex_unchecked::block::decompress_into(block, &mut self.scratch[filled..])?;
            }
            rest = tail;
        }
    }

    /// With C where C may be compiled.
    #[cfg(feature = "peers")]
    fn zstd(&mut self, payload: &[u8]) -> Result<usize> {
        let context = self.zstd.get_or_insert_with(zstd_safe::DCtx::create);
        context
            .decompress(&mut self.scratch[..], payload)
            .map_err(|code| zstd_safe::get_error_name(code).to_owned().into())
    }
}

/// Steps over uncompressed records.
fn records(data: &[u8], count: i32, touch: &mut Touch) {
    let mut rest = data;
    for _ in 0..count {
        let length = varint(&mut rest);
        let (mut record, tail) = rest.split_at(length as usize);
        record = &record[1..]; // attributes
        varint(&mut record); // timestamp
        varint(&mut record); // offset
        let key = field(&mut record);
        let value = field(&mut record);
        touch.record(key, value);
        rest = tail;
    }
}

fn field<'a>(record: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(record)).ok()?;
    let (field, rest) = record.split_at(length);
    *record = rest;
    Some(field)
}

#[inline]
fn varint(data: &mut &[u8]) -> i64 {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let (&byte, rest) = data.split_first().unwrap_or((&0, &[]));
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1).cast_signed() ^ -(value & 1).cast_signed();
        }
        shift += 7;
    }
}

impl std::fmt::Debug for Walker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walker").field("scratch", &self.scratch.len()).finish_non_exhaustive()
    }
}
