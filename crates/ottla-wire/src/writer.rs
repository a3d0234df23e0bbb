//! Writes the primitives of a message.

use bytes::{BufMut, BytesMut};

use crate::{EncodeError, EncodeErrorKind, Fields, Uuid, varint};

/// The buffer that a message is written to, and what errors need to say where.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut BytesMut,
    message: &'static str,
    version: i16,
    flexible: bool,
}

impl<'o> Writer<'o> {
    pub(crate) const fn new(
        out: &'o mut BytesMut,
        message: &'static str,
        version: i16,
        flexible: bool,
    ) -> Self {
        Self { out, message, version, flexible }
    }

    /// The version of the message.
    pub const fn version(&self) -> i16 {
        self.version
    }

    /// Sets whether lengths are compact and returns what it was: a field may be an exception to its message.
    pub const fn set_flexible(&mut self, flexible: bool) -> bool {
        let was = self.flexible;
        self.flexible = flexible;
        was
    }

    /// An error about `field`.
    #[cold]
    pub const fn error(&self, field: &'static str, kind: EncodeErrorKind) -> EncodeError {
        EncodeError { message: self.message, version: self.version, field, kind }
    }

    /// Refuses a field that is set but that the version lacks.
    ///
    /// # Errors
    /// When `is_default` is false.
    pub const fn absent(&self, field: &'static str, is_default: bool) -> Result<(), EncodeError> {
        if is_default { Ok(()) } else { Err(self.error(field, EncodeErrorKind::NotInVersion)) }
    }

    /// Refuses a null that the version cannot say.
    const fn null(&self, field: &'static str, nullable: bool) -> Result<(), EncodeError> {
        if nullable { Ok(()) } else { Err(self.error(field, EncodeErrorKind::Null)) }
    }

    /// A length: i16 or i32 wide in old versions, compact in new ones.
    fn length<const SHORT: bool>(&mut self, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let max = if SHORT { i16::MAX as usize } else { 0x7fff_fffe };
        let too_long = |w: &Self| w.error(field, EncodeErrorKind::TooLong { length, max });
        if length > max {
            return Err(too_long(self));
        }
        let length = u32::try_from(length).map_err(|_| too_long(self))?;
        if self.flexible {
            varint::write_unsigned(length.saturating_add(1), self.out);
        } else if SHORT {
            self.out.put_u16(length as u16);
        } else {
            self.out.put_u32(length);
        }
        Ok(())
    }

    fn null_length<const SHORT: bool>(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        } else if SHORT {
            self.out.put_i16(-1);
        } else {
            self.out.put_i32(-1);
        }
    }

    /// Writes a string.
    ///
    /// # Errors
    /// When it is longer than 32,767 bytes.
    pub fn string(&mut self, field: &'static str, text: &str) -> Result<(), EncodeError> {
        self.length::<true>(field, text.len())?;
        self.out.put_slice(text.as_bytes());
        Ok(())
    }

    /// Writes a string that may be null if the version is `nullable`.
    ///
    /// # Errors
    /// When it is longer than 32,767 bytes, or null where it cannot be.
    pub fn nullable_string(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        let Some(text) = text else {
            self.null(field, nullable)?;
            self.null_length::<true>();
            return Ok(());
        };
        self.string(field, text)
    }

    /// Writes bytes (or records).
    ///
    /// # Errors
    /// When they are 2 GiB or more.
    pub fn bytes(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.length::<false>(field, bytes.len())?;
        self.out.put_slice(bytes);
        Ok(())
    }

    /// Writes bytes (or records) that may be null if the version is `nullable`.
    ///
    /// # Errors
    /// When they are 2 GiB or more, or null where they cannot be.
    pub fn nullable_bytes(
        &mut self,
        field: &'static str,
        bytes: Option<&[u8]>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        let Some(bytes) = bytes else {
            self.null(field, nullable)?;
            self.null_length::<false>();
            return Ok(());
        };
        self.bytes(field, bytes)
    }

    /// Writes an array.
    ///
    /// # Errors
    /// When an element cannot be written.
    pub fn array<T: Fields>(&mut self, field: &'static str, elements: &[T]) -> Result<(), EncodeError> {
        self.length::<false>(field, elements.len())?;
        elements.iter().try_for_each(|element| element.write(self, field))
    }

    /// Writes an array that may be null if the version is `nullable`.
    ///
    /// # Errors
    /// When an element cannot be written, or the array is null where it cannot be.
    pub fn nullable_array<T: Fields>(
        &mut self,
        field: &'static str,
        elements: Option<&[T]>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        let Some(elements) = elements else {
            self.null(field, nullable)?;
            self.null_length::<false>();
            return Ok(());
        };
        self.array(field, elements)
    }

    /// Writes a struct that may be null if the version is `nullable`.
    ///
    /// # Errors
    /// When it cannot be written, or is null where it cannot be.
    pub fn nullable_struct<T: Fields>(
        &mut self,
        field: &'static str,
        value: Option<&T>,
        nullable: bool,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.null(field, nullable)?;
            self.out.put_i8(-1);
            return Ok(());
        };
        self.out.put_i8(1);
        value.write(self, field)
    }

    /// Begins the tagged fields at the end of a struct: `present` says of each whether it will be written.
    /// Old versions have none; then nothing is written, and nothing may be present.
    pub fn tags(&mut self, present: &[bool]) {
        if self.flexible {
            let count = present.iter().filter(|present| **present).count();
            varint::write_unsigned_long(count as u64, self.out);
        }
    }

    /// Writes one tagged field; `value` writes its content.
    ///
    /// # Errors
    /// When the content cannot be written.
    pub fn tag(
        &mut self,
        field: &'static str,
        tag: u32,
        value: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        varint::write_unsigned(tag, self.out);
        // The size stands in front of the content and is known behind it: write it there and rotate.
        let start = self.out.len();
        value(self)?;
        let end = self.out.len();
        let length = end.saturating_sub(start);
        let Ok(size) = u32::try_from(length) else {
            return Err(self.error(field, EncodeErrorKind::TooLong { length, max: u32::MAX as usize }));
        };
        varint::write_unsigned(size, self.out);
        let width = self.out.len().saturating_sub(end);
        if let Some(field) = self.out.get_mut(start..) {
            field.rotate_right(width);
        }
        Ok(())
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident($type:ty) $put:ident;)*) => {
        impl Writer<'_> {$(
            $(#[$doc])*
            #[inline]
            pub fn $name(&mut self, value: $type) {
                self.out.$put(value);
            }
        )*}
    };
}

fixed! {
    /// Writes an int8.
    int8(i8) put_i8;
    /// Writes an int16.
    int16(i16) put_i16;
    /// Writes a uint16.
    uint16(u16) put_u16;
    /// Writes an int32.
    int32(i32) put_i32;
    /// Writes a uint32.
    uint32(u32) put_u32;
    /// Writes an int64.
    int64(i64) put_i64;
    /// Writes a float64.
    float64(f64) put_f64;
}

impl Writer<'_> {
    /// Writes a bool.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.out.put_u8(u8::from(value));
    }

    /// Writes a uuid.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.out.put_slice(&value.0);
    }
}
