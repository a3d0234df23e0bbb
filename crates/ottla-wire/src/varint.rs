//! Variable-length integers: 7 bits a byte, the lowest first, the top bit says that more follow.
//!
//! Lengths and tags are unsigned; records use zig-zag. Unterminated and overflowing forms are refused; forms that
//! are longer than needed are not, because Java writes and reads them.

use bytes::{BufMut, BytesMut};

/// Reads an unsigned varint of at most 32 bits: its value and the rest. `None` if it does not end within 5 bytes
/// or `bytes`, or overflows.
#[inline]
pub fn read_unsigned(bytes: &[u8]) -> Option<(u32, &[u8])> {
    // Most lengths and nearly all tag counts are one byte.
    if let Some((&first, rest)) = bytes.split_first()
        && first < 0x80
    {
        return Some((u32::from(first), rest));
    }
    let (value, rest) = read::<5>(bytes)?;
    Some((u32::try_from(value).ok()?, rest))
}

/// Reads an unsigned varint of at most 64 bits, as [`read_unsigned`] does.
#[inline]
pub fn read_unsigned_long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    read::<10>(bytes)
}

/// Reads a zig-zag varint of 32 bits: its value and the rest. `None` as for [`read_unsigned`].
#[inline]
pub fn read_zigzag(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (value, rest) = read_unsigned(bytes)?;
    Some((((value >> 1) as i32) ^ ((value & 1) as i32).wrapping_neg(), rest))
}

/// Reads a zig-zag varint of 64 bits: its value and the rest. `None` as for [`read_unsigned`].
#[inline]
pub fn read_zigzag_long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (value, rest) = read_unsigned_long(bytes)?;
    Some((((value >> 1) as i64) ^ ((value & 1) as i64).wrapping_neg(), rest))
}

#[inline]
fn read<const MAX: usize>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = bytes;
    let mut value = 0u64;
    let mut shift = 0u32;
    for _ in 0..MAX {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        let shifted = bits.checked_shl(shift)?;
        if shifted.checked_shr(shift)? != bits {
            return None;
        }
        value |= shifted;
        if byte < 0x80 {
            return Some((value, rest));
        }
        shift = shift.checked_add(7)?;
    }
    None
}

/// Appends `value` as an unsigned varint.
#[inline]
pub fn write_unsigned(value: u32, out: &mut BytesMut) {
    write_unsigned_long(u64::from(value), out);
}

/// Appends `value` as an unsigned varint.
#[inline]
pub fn write_unsigned_long(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends `value` as a zig-zag varint.
#[inline]
pub fn write_zigzag(value: i32, out: &mut BytesMut) {
    write_unsigned(((value << 1) ^ (value >> 31)) as u32, out);
}

/// Appends `value` as a zig-zag varint.
#[inline]
pub fn write_zigzag_long(value: i64, out: &mut BytesMut) {
    write_unsigned_long(((value << 1) ^ (value >> 63)) as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unterminated_and_overflowing_varints_are_refused() {
        assert_eq!(read_unsigned(&[]), None);
        assert_eq!(read_unsigned(&[0x80]), None);
        assert_eq!(read_unsigned(&[0xff; 4]), None);
        assert_eq!(read_unsigned(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(read_unsigned(&[0xff, 0xff, 0xff, 0xff, 0x10]), None, "33 bits");
        assert_eq!(read_unsigned(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some((u32::MAX, &[][..])));
        assert_eq!(read_unsigned_long(&[0xff; 10]), None);
        assert_eq!(read_unsigned_long(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read_unsigned_long(&longest), Some((u64::MAX, &[][..])));
    }

    #[test]
    fn overlong_forms_are_read_as_java_reads_them() {
        assert_eq!(read_unsigned(&[0x81, 0x80, 0x00, 7]), Some((1, &[7][..])));
    }

    #[test]
    fn zigzag_goes_both_ways() {
        for value in [0, -1, 1, 63, 64, -64, -65, i32::MAX, i32::MIN] {
            let mut out = BytesMut::new();
            write_zigzag(value, &mut out);
            assert_eq!(read_zigzag(&out), Some((value, &[][..])));
        }
        for value in [0, -1, i64::from(i32::MIN) - 1, i64::MAX, i64::MIN] {
            let mut out = BytesMut::new();
            write_zigzag_long(value, &mut out);
            assert_eq!(read_zigzag_long(&out), Some((value, &[][..])));
        }
    }
}
