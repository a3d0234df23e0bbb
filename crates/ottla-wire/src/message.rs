//! The traits of messages and of what they are made of.

use bytes::BytesMut;

use crate::{ApiKey, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind, Reader, Uuid, Writer};

/// How thoroughly [`Element::parse`] looks at the bytes. The modes are types, so that each gets its own machine
/// code from one generated function.
pub trait Mode {
    /// Whether strings are checked to be UTF-8 and returned (else they are stepped over and come out empty).
    const TEXT: bool;
    /// How the elements of an array are looked at.
    type Elements: Mode;
}

/// First contact: everything is checked, elements of arrays included.
#[derive(Debug)]
pub enum Check {}

/// Reads one value out of checked bytes; arrays in it are stepped over, to be read when they are iterated.
#[derive(Debug)]
pub enum Read {}

/// Steps over a value in checked bytes.
#[derive(Debug)]
pub enum Skip {}

impl Mode for Check {
    const TEXT: bool = true;
    type Elements = Self;
}

impl Mode for Read {
    const TEXT: bool = true;
    type Elements = Skip;
}

impl Mode for Skip {
    const TEXT: bool = false;
    type Elements = Self;
}

/// A value that can be read from a message: a primitive or a struct. Structs are generated.
pub trait Element<'a>: Sized {
    /// Encoded size if it is the same for all values, so that arrays can be stepped over at once.
    const FIXED: Option<usize> = None;

    /// Reads one value; `field` names the place in errors.
    ///
    /// # Errors
    /// When the bytes are not such a value.
    fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError>;
}

/// A message that can be decoded: a borrowed view into the bytes that were received.
pub trait View<'a>: Element<'a> {
    /// Kafka's name of the message: `FetchResponse`.
    const NAME: &'static str;
    /// The lowest version we know.
    const MIN_VERSION: i16;
    /// The highest version we know.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Decodes the whole of `body`. Allocates nothing.
    ///
    /// # Errors
    /// When the version is unknown, the bytes are not such a message, or bytes are left behind it.
    fn decode(version: i16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let view = Self::decode_from(version, &mut reader)?;
        reader.finish("")?;
        Ok(view)
    }

    /// Decodes from `reader` and leaves what follows the message.
    ///
    /// # Errors
    /// When the version is unknown or the bytes are not such a message.
    fn decode_from(version: i16, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.enter(Self::NAME, version, version >= Self::FLEXIBLE_FROM);
        if !(Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version) {
            let kind = DecodeErrorKind::UnsupportedVersion { min: Self::MIN_VERSION, max: Self::MAX_VERSION };
            return Err(reader.error("", kind));
        }
        Self::parse::<Check>(reader, "")
    }
}

/// A value that can be written into a message: a primitive or a struct. Structs are generated.
pub trait Fields {
    /// Writes the value; `field` names the place in errors.
    ///
    /// # Errors
    /// When the version cannot say it.
    fn write(&self, w: &mut Writer<'_>, field: &'static str) -> Result<(), EncodeError>;
}

/// A message other than a request that can be encoded.
pub trait Encode: Fields {
    /// Kafka's name of the message: `ConsumerProtocolSubscription`.
    const NAME: &'static str;
    /// The lowest version we know.
    const MIN_VERSION: i16;
    /// The highest version we know.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Appends the message in `version` to `out`. After an error `out` is as it was.
    ///
    /// # Errors
    /// When the version is unknown or cannot say what is set.
    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let range = (Self::MIN_VERSION, Self::MAX_VERSION);
        encode(self, Self::NAME, range, version, version >= Self::FLEXIBLE_FROM, out)
    }
}

/// A request: an owned struct that is encoded, and the view that its response is decoded to.
pub trait Request: Fields {
    /// The API.
    const API: ApiKey;
    /// Kafka's name of the message: `FetchRequest`.
    const NAME: &'static str;
    /// The lowest version we know.
    const MIN_VERSION: i16;
    /// The highest version we know.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;
    /// The response.
    type Response<'a>: View<'a>;

    /// Appends the body in `version` to `out`. After an error `out` is as it was.
    ///
    /// # Errors
    /// When the version is unknown or cannot say what is set.
    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let range = (Self::MIN_VERSION, Self::MAX_VERSION);
        encode(self, Self::NAME, range, version, version >= Self::FLEXIBLE_FROM, out)
    }
}

/// The one way a message is written: version checked, and nothing left behind on failure.
fn encode<T: Fields + ?Sized>(
    message: &T,
    name: &'static str,
    (min, max): (i16, i16),
    version: i16,
    flexible: bool,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut writer = Writer::new(out, name, version, flexible);
    let result = if (min..=max).contains(&version) {
        message.write(&mut writer, "")
    } else {
        Err(writer.error("", EncodeErrorKind::UnsupportedVersion { min, max }))
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

macro_rules! primitive {
    ($($type:ty, $size:literal, $get:ident, $put:ident;)*) => {$(
        impl<'a> Element<'a> for $type {
            const FIXED: Option<usize> = Some($size);

            #[inline]
            fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
                r.$get(field)
            }
        }

        impl Fields for $type {
            #[inline]
            fn write(&self, w: &mut Writer<'_>, _field: &'static str) -> Result<(), EncodeError> {
                w.$put(*self);
                Ok(())
            }
        }
    )*};
}

primitive! {
    bool, 1, boolean, boolean;
    i8, 1, int8, int8;
    i16, 2, int16, int16;
    u16, 2, uint16, uint16;
    i32, 4, int32, int32;
    u32, 4, uint32, uint32;
    i64, 8, int64, int64;
    f64, 8, float64, float64;
    Uuid, 16, uuid, uuid;
}

impl<'a> Element<'a> for &'a str {
    #[inline]
    fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        r.string::<M>(field)
    }
}

impl<'a> Element<'a> for &'a [u8] {
    #[inline]
    fn parse<M: Mode>(r: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        r.bytes(field)
    }
}

impl Fields for String {
    #[inline]
    fn write(&self, w: &mut Writer<'_>, field: &'static str) -> Result<(), EncodeError> {
        w.string(field, self)
    }
}

impl Fields for bytes::Bytes {
    #[inline]
    fn write(&self, w: &mut Writer<'_>, field: &'static str) -> Result<(), EncodeError> {
        w.bytes(field, self)
    }
}
