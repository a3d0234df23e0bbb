//! Fixed-width big- and little-endian reads that cannot panic.

macro_rules! read_at {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $from:ident, $width:literal;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub(super) fn $name(buf: &[u8], at: usize) -> Option<$type> {
            let bytes: &[u8; $width] = buf.get(at..)?.first_chunk()?;
            Some(<$type>::$from(*bytes))
        }
    )*};
}

read_at! {
    /// A big-endian i16 at `at`.
    be_i16: i16 = from_be_bytes, 2;
    /// A big-endian i32 at `at`.
    be_i32: i32 = from_be_bytes, 4;
    /// A big-endian u32 at `at`.
    be_u32: u32 = from_be_bytes, 4;
    /// A big-endian i64 at `at`.
    be_i64: i64 = from_be_bytes, 8;
    /// A little-endian u16 at `at`.
    le_u16: u16 = from_le_bytes, 2;
    /// A little-endian u32 at `at`.
    le_u32: u32 = from_le_bytes, 4;
    /// A little-endian u64 at `at`.
    le_u64: u64 = from_le_bytes, 8;
}
