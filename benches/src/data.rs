//! The records that are read.

use std::fmt::Write as _;

use ottla_wire::records::{BatchWriter, Compression};

use crate::Result;

/// How many different batches there are of a kind; they are written in turn.
pub const VARIANTS: u64 = 64;

/// Batches of `count` records with an 8-byte key and a value of `size` bytes that looks like JSON, so that codecs find
/// what they find in practice.
///
/// # Errors
/// When the batch becomes too large.
pub fn batch(variant: u64, count: u64, size: usize, codec: Compression) -> Result<Vec<u8>> {
    let mut writer = BatchWriter::new().compression(codec);
    let mut state = variant.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut text = String::new();
    for index in 0..count {
        let key = format!("k{:07}", next(&mut state) % 10_000_000);
        text.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{{\"id\":{},\"user\":\"u{:05}\"",
            index + variant * 1_000_003,
            next(&mut state) % 100_000
        );
        while text.len() < size {
            let _ = match next(&mut state) % 4 {
                0 => write!(text, ",\"amount\":{}.{:02}", next(&mut state) % 10_000, next(&mut state) % 100),
                1 => write!(text, ",\"session\":\"{:016x}\"", next(&mut state)),
                2 => write!(
                    text,
                    ",\"country\":\"{}\"",
                    ["de", "fr", "it", "fi"][(next(&mut state) % 4) as usize]
                ),
                _ => write!(
                    text,
                    ",\"status\":\"{}\"",
                    ["created", "paid", "shipped"][(next(&mut state) % 3) as usize]
                ),
            };
        }
        text.truncate(size.saturating_sub(1));
        text.push('}');
        let timestamp = 1_700_000_000_000 + i64::try_from(index)?;
        writer.append(timestamp, Some(key.as_bytes()), Some(text.as_bytes()), &[])?;
    }
    Ok(writer.finish().to_vec())
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The codec of this name.
pub fn codec(name: &str) -> Option<Compression> {
    Some(match name {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => return None,
    })
}
