//! Zigzag varints of the record format, as a plain byte loop.
//!
//! Tricks (SWAR, unrolling) were measured and lose: almost every varint of a record has one or two bytes.
//! Overlong but terminated forms are read as Java reads them: surplus bits of the last byte are dropped.

/// Takes a zigzag varint of at most 5 bytes off the front of `buf`.
#[inline(always)]
pub(super) fn take_i32(buf: &mut &[u8]) -> Option<i32> {
    let mut value = 0u32;
    let mut rest = *buf;
    let mut shift = 0u32;
    while shift < 35 {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        value |= u32::from(byte & 0x7f).wrapping_shl(shift);
        if byte < 0x80 {
            *buf = rest;
            return Some((value >> 1) as i32 ^ (value & 1).wrapping_neg() as i32);
        }
        shift = shift.wrapping_add(7);
    }
    None
}

/// Takes a zigzag varint of at most 10 bytes off the front of `buf`.
#[inline(always)]
pub(super) fn take_i64(buf: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    let mut rest = *buf;
    let mut shift = 0u32;
    while shift < 70 {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if byte < 0x80 {
            *buf = rest;
            return Some((value >> 1) as i64 ^ (value & 1).wrapping_neg() as i64);
        }
        shift = shift.wrapping_add(7);
    }
    None
}

/// Appends `value` as a zigzag varint.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends `value` as a zigzag varint; the bytes are those of the 64-bit form.
pub(super) fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_i64(out, i64::from(value));
}

/// The bytes that [`put_i64`] takes for `value`.
pub(super) fn size_of_i64(value: i64) -> usize {
    let zigzag = (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    let bits = 64u32.saturating_sub((zigzag | 1).leading_zeros());
    bits.div_ceil(7) as usize
}
