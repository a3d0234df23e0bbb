//! Reads the primitives of a message from received bytes.
//!
//! No length is believed before it is compared with the bytes that are left, and nothing is allocated.
//!
//! The methods are `inline(always)` because the generated parsers are long and call them dozens of times, where the
//! compiler stops inlining by itself: checking and walking a fetch response of 10,000 partitions took 22 to 24 ns a
//! partition without and 17 to 20 ns with it.

use crate::{Array, DecodeError, DecodeErrorKind, Element, Mode, Uuid, varint};

/// The unread rest of a message, and what errors need to say where it is.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// Offset in the message of the end of `rest`, so that an offset is this less what is left.
    end: usize,
    message: &'static str,
    version: i16,
    flexible: bool,
}

/// Where in a section of tagged fields a [`Reader`] is.
#[derive(Debug)]
pub struct Tags {
    left: u32,
    /// The lowest tag that may come next.
    next: u64,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; [`crate::View::decode_from`] tells it what it reads.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: bytes.len(), message: "", version: 0, flexible: false }
    }

    /// A reader of the elements of an array, which have been checked.
    pub(crate) const fn checked(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self { rest: bytes, end: bytes.len(), message: "", version, flexible }
    }

    /// Says what is read from now on.
    pub(crate) const fn enter(&mut self, message: &'static str, version: i16, flexible: bool) {
        self.message = message;
        self.version = version;
        self.flexible = flexible;
    }

    /// The version of the message.
    #[inline(always)]
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Whether lengths are compact and structs end with tagged fields.
    #[inline(always)]
    pub const fn flexible(&self) -> bool {
        self.flexible
    }

    /// Sets [`Self::flexible`] and returns what it was: a field may be an exception to its message.
    pub const fn set_flexible(&mut self, flexible: bool) -> bool {
        let was = self.flexible;
        self.flexible = flexible;
        was
    }

    /// Bytes that are left.
    #[inline(always)]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Offset in the message of the next byte.
    pub const fn offset(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    /// An error about `field` here.
    #[cold]
    pub const fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { message: self.message, version: self.version, field, offset: self.offset(), kind }
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub const fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(field, DecodeErrorKind::TrailingBytes { left })),
        }
    }

    #[inline(always)]
    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((value, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(field, N));
        };
        self.rest = rest;
        Ok(*value)
    }

    #[inline(always)]
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((value, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.truncated(field, length));
        };
        self.rest = rest;
        Ok(value)
    }

    #[cold]
    const fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        self.error(field, DecodeErrorKind::Truncated { needed, left: self.rest.len() })
    }

    /// Reads an unsigned varint of at most 32 bits.
    ///
    /// # Errors
    /// When it does not end or overflows.
    #[inline(always)]
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        match varint::read_unsigned(self.rest) {
            Some((value, rest)) => {
                self.rest = rest;
                Ok(value)
            }
            None => Err(self.error(field, DecodeErrorKind::Varint)),
        }
    }

    /// A length that may be null: i16 or i32 wide in old versions, compact in new ones.
    #[inline(always)]
    fn length<const SHORT: bool>(&mut self, field: &'static str) -> Result<Option<u32>, DecodeError> {
        if self.flexible {
            let length = self.unsigned_varint(field)?.checked_sub(1);
            match length {
                // Beyond what Java can say: its older releases read it as null, its newer ones refuse it.
                Some(length) if length >= i32::MAX as u32 => {
                    Err(self.error(field, DecodeErrorKind::LengthTooLarge { length }))
                }
                length => Ok(length),
            }
        } else if SHORT {
            // As in Java, every negative length is null.
            Ok(u32::try_from(self.int16(field)?).ok())
        } else {
            Ok(u32::try_from(self.int32(field)?).ok())
        }
    }

    #[inline(always)]
    fn not_null<T>(&self, value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
        match value {
            Some(value) => Ok(value),
            None => Err(self.error(field, DecodeErrorKind::Null)),
        }
    }

    /// Reads a string that cannot be null.
    ///
    /// # Errors
    /// When it is null, cut or not UTF-8.
    #[inline(always)]
    pub fn string<M: Mode>(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let value = self.nullable_string::<M>(field)?;
        self.not_null(value, field)
    }

    /// Reads a string.
    ///
    /// # Errors
    /// When it is cut or not UTF-8.
    #[inline(always)]
    pub fn nullable_string<M: Mode>(&mut self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.length::<true>(field)? else { return Ok(None) };
        if length > i16::MAX as u32 {
            return Err(self.error(field, DecodeErrorKind::LengthTooLarge { length }));
        }
        let text = self.take(length as usize, field)?;
        if !M::TEXT {
            return Ok(Some(""));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.error(field, DecodeErrorKind::Utf8)),
        }
    }

    /// Reads bytes (or records) that cannot be null.
    ///
    /// # Errors
    /// When they are null or cut.
    #[inline(always)]
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let value = self.nullable_bytes(field)?;
        self.not_null(value, field)
    }

    /// Reads bytes (or records).
    ///
    /// # Errors
    /// When they are cut.
    #[inline(always)]
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.length::<false>(field)? {
            Some(length) => self.take(length as usize, field).map(Some),
            None => Ok(None),
        }
    }

    /// Reads an array that cannot be null.
    ///
    /// # Errors
    /// When it is null, or its count or an element is bad.
    #[inline(always)]
    pub fn array<M: Mode, T: Element<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<Array<'a, T>, DecodeError> {
        let value = self.nullable_array::<M, T>(field)?;
        self.not_null(value, field)
    }

    /// Reads an array.
    ///
    /// # Errors
    /// When its count or an element is bad.
    #[inline(always)]
    pub fn nullable_array<M: Mode, T: Element<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Array<'a, T>>, DecodeError> {
        let Some(count) = self.length::<false>(field)? else { return Ok(None) };
        // No element is empty in any version (the generator makes sure), so this bounds the loop below.
        if count as usize > self.rest.len() {
            let left = self.rest.len();
            return Err(self.error(field, DecodeErrorKind::CountTooLarge { count, left }));
        }
        let start = self.rest;
        match T::FIXED {
            Some(size) => {
                self.take(size.saturating_mul(count as usize), field)?;
            }
            None => {
                for _ in 0..count {
                    T::parse::<M::Elements>(self, field)?;
                }
            }
        }
        let length = start.len().saturating_sub(self.rest.len());
        let elements = start.get(..length).unwrap_or_default();
        Ok(Some(Array::new(elements, count, self.version, self.flexible)))
    }

    /// Reads a struct that may be null.
    ///
    /// # Errors
    /// When it is bad.
    pub fn nullable_struct<M: Mode, T: Element<'a>>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        if self.int8(field)? < 0 { Ok(None) } else { T::parse::<M>(self, field).map(Some) }
    }

    /// Begins the section of tagged fields at the end of a struct; there is none in old versions.
    ///
    /// # Errors
    /// When the count is bad.
    #[inline(always)]
    pub fn tags(&mut self, field: &'static str) -> Result<Tags, DecodeError> {
        if !self.flexible {
            return Ok(Tags { left: 0, next: 0 });
        }
        let count = self.unsigned_varint(field)?;
        // A tagged field takes two bytes at least.
        if count as usize > self.rest.len() / 2 {
            let left = self.rest.len();
            return Err(self.error(field, DecodeErrorKind::CountTooLarge { count, left }));
        }
        Ok(Tags { left: count, next: 0 })
    }

    /// The next tagged field: its tag and a reader of its bytes, or `None` behind the last one.
    ///
    /// # Errors
    /// When it is cut, comes twice or out of order.
    #[inline(always)]
    pub fn next_tag(
        &mut self,
        tags: &mut Tags,
        field: &'static str,
    ) -> Result<Option<(u32, Self)>, DecodeError> {
        match tags.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                tags.left = left;
                self.read_tag(tags, field).map(Some)
            }
        }
    }

    /// Most structs have no tagged field at all: kept out of their way.
    #[inline(never)]
    fn read_tag(&mut self, tags: &mut Tags, field: &'static str) -> Result<(u32, Self), DecodeError> {
        let tag = self.unsigned_varint(field)?;
        if u64::from(tag) < tags.next {
            return Err(self.error(field, DecodeErrorKind::TagOrder { tag }));
        }
        tags.next = u64::from(tag).saturating_add(1);
        let size = self.unsigned_varint(field)?;
        let mut value = self.clone();
        value.rest = self.take(size as usize, field)?;
        value.end = self.offset();
        Ok((tag, value))
    }

    /// Steps over the tagged fields of a struct that defines none. Nothing of them is kept.
    ///
    /// # Errors
    /// When they are damaged.
    #[inline(always)]
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let mut tags = self.tags(field)?;
        while self.next_tag(&mut tags, field)?.is_some() {}
        Ok(())
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident -> $type:ty { $from:expr })*) => {
        impl Reader<'_> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// When it is cut.
            #[inline(always)]
            pub fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
                self.fixed(field).map($from)
            }
        )*}
    };
}

fixed! {
    /// Reads an int8.
    int8 -> i8 { i8::from_be_bytes }
    /// Reads an int16.
    int16 -> i16 { i16::from_be_bytes }
    /// Reads a uint16.
    uint16 -> u16 { u16::from_be_bytes }
    /// Reads an int32.
    int32 -> i32 { i32::from_be_bytes }
    /// Reads a uint32.
    uint32 -> u32 { u32::from_be_bytes }
    /// Reads an int64.
    int64 -> i64 { i64::from_be_bytes }
    /// Reads a float64.
    float64 -> f64 { f64::from_be_bytes }
    /// Reads a bool; as in Java everything but 0 is true.
    boolean -> bool { |[byte]: [u8; 1]| byte != 0 }
    /// Reads a uuid.
    uuid -> Uuid { Uuid }
}

/// Parsing an element by itself, for tests of the reader.
#[cfg(test)]
pub(crate) fn parse_all<'a, T: Element<'a>>(bytes: &'a [u8], flexible: bool) -> Result<T, DecodeError> {
    let mut reader = Reader::checked(bytes, 0, flexible);
    let value = T::parse::<crate::Check>(&mut reader, "Field")?;
    reader.finish("Field")?;
    Ok(value)
}

#[cfg(test)]
mod tests;
