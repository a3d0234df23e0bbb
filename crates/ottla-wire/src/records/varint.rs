//! Zigzag varints of the record format.
//!
//! Almost every varint of a record has one or two bytes: those are read in line, longer ones in a function of their own,
//! so that what walks records stays small. Cleverer ways (SWAR, unrolling) were measured and lose.
//! Overlong but terminated forms are read as Java reads them: surplus bits of the last byte are dropped.

/// What a varint of at most `MOST` bytes at `at` says before zigzag, and where it ends. Positions go in and out by value,
/// so that they stay in registers.
#[inline(always)]
fn read<const MOST: u32>(data: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = u64::from(*data.get(at)?);
    let next = at.wrapping_add(1);
    if first < 0x80 {
        return Some((first, next));
    }
    let second = u64::from(*data.get(next)?);
    if second < 0x80 {
        return Some(((first & 0x7f) | (second << 7), next.wrapping_add(1)));
    }
    read_long::<MOST>(data, at)
}

#[cold]
#[inline(never)]
fn read_long<const MOST: u32>(data: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, byte) in (0..MOST).zip(data.get(at..)?) {
        value |= u64::from(byte & 0x7f).wrapping_shl(index.wrapping_mul(7));
        if *byte < 0x80 {
            return Some((value, at.wrapping_add(index as usize).wrapping_add(1)));
        }
    }
    None
}

/// Reads a varint of at most 5 bytes: what it says before zigzag, and where it ends.
#[inline(always)]
pub(super) fn read_u32(data: &[u8], at: usize) -> Option<(u32, usize)> {
    let (value, end) = read::<5>(data, at)?;
    Some((value as u32, end))
}

/// Reads a varint of at most 5 bytes: its value, and where it ends.
#[inline(always)]
pub(super) fn read_i32(data: &[u8], at: usize) -> Option<(i32, usize)> {
    let (value, end) = read_u32(data, at)?;
    Some((unzigzag(value), end))
}

/// The number that zigzag writes as `value`.
#[inline(always)]
pub(super) fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ (value & 1).wrapping_neg() as i32
}

/// Reads a varint of at most 10 bytes: its value, and where it ends.
#[inline(always)]
pub(super) fn read_i64(data: &[u8], at: usize) -> Option<(i64, usize)> {
    let (value, end) = read::<10>(data, at)?;
    Some(((value >> 1) as i64 ^ (value & 1).wrapping_neg() as i64, end))
}

/// Takes a varint of at most 5 bytes off the front of `buf`.
pub(super) fn take_i32(buf: &mut &[u8]) -> Option<i32> {
    let (value, end) = read_i32(buf, 0)?;
    *buf = buf.get(end..)?;
    Some(value)
}

/// Takes a varint of at most 10 bytes off the front of `buf`.
pub(super) fn take_i64(buf: &mut &[u8]) -> Option<i64> {
    let (value, end) = read_i64(buf, 0)?;
    *buf = buf.get(end..)?;
    Some(value)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn i32_of(mut bytes: &[u8]) -> Option<(i32, usize)> {
        let length = bytes.len();
        take_i32(&mut bytes).map(|value| (value, length - bytes.len()))
    }

    fn i64_of(mut bytes: &[u8]) -> Option<(i64, usize)> {
        let length = bytes.len();
        take_i64(&mut bytes).map(|value| (value, length - bytes.len()))
    }

    /// What is written is read, in the size foretold, around every change of size.
    #[test]
    fn varints_round_trip() {
        for bit in 0..64 {
            for near in [-2i64, -1, 0, 1, 2] {
                for value in
                    [(1i64 << bit).wrapping_add(near), (1i64 << bit).wrapping_add(near).wrapping_neg()]
                {
                    let mut bytes = Vec::new();
                    put_i64(&mut bytes, value);
                    assert_eq!(bytes.len(), size_of_i64(value), "{value}");
                    bytes.push(0x55);
                    assert_eq!(i64_of(&bytes), Some((value, bytes.len() - 1)));
                    if let Ok(small) = i32::try_from(value) {
                        assert_eq!(i32_of(&bytes), Some((small, bytes.len() - 1)));
                    }
                }
            }
        }
    }

    /// At most 5 and 10 bytes, whatever follows; longer than needed is legal, unterminated is not.
    #[test]
    fn varints_end_in_time() {
        assert_eq!(i32_of(&[0x82, 0x80, 0x80, 0x80, 0x00]), Some((1, 5)));
        assert_eq!(i32_of(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        let mut long = vec![0x82; 9];
        long.push(0);
        assert_eq!(i64_of(&long).map(|(_, used)| used), Some(10));
        long.insert(0, 0x82);
        assert_eq!(i64_of(&long), None);
        for length in 0..12 {
            assert_eq!(i32_of(&vec![0x80; length]), None);
            assert_eq!(i64_of(&vec![0x80; length]), None);
        }
    }
}
