//! What can be wrong with a message.

use std::fmt;

/// Why bytes are not the message they should be. Small, `Copy`, and made without allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The message, in Kafka's name: `FetchResponse`.
    pub message: &'static str,
    /// The version it was decoded in.
    pub version: i16,
    /// The field, in Kafka's name, with that of its struct in front when it is nested: `PartitionData.Records`.
    /// Empty when the message as a whole is meant.
    pub field: &'static str,
    /// Byte offset in the message body (without frame length and header) where the field starts or was found bad.
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What is wrong at the place that a [`DecodeError`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The message has no such version, or we do not know it.
    UnsupportedVersion {
        /// The lowest version we know.
        min: i16,
        /// The highest version we know.
        max: i16,
    },
    /// The bytes end too early.
    Truncated {
        /// Bytes that the value takes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the end of the message or of a tagged field.
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// Null where the field cannot be null.
    Null,
    /// More elements than the bytes left could hold.
    CountTooLarge {
        /// Number of elements that the message claims.
        count: u32,
        /// Bytes that are left.
        left: usize,
    },
    /// A length beyond what the type allows.
    LengthTooLarge {
        /// Length that the message claims.
        length: u32,
    },
    /// A varint that does not end within its longest form, or overflows it.
    Varint,
    /// A string that is not UTF-8.
    Utf8,
    /// A tagged field that comes twice or out of order.
    TagOrder {
        /// The tag.
        tag: u32,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot decode {} version {}: ", self.message, self.version)?;
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        write!(f, "at byte {}: {}", self.offset, self.kind)
    }
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsupportedVersion { min, max } => {
                write!(f, "unknown version, known are {min} to {max}")
            }
            Self::Truncated { needed, left } => {
                write!(f, "the value takes {needed} bytes but {left} are left")
            }
            Self::TrailingBytes { left } => write!(f, "{left} bytes too many"),
            Self::Null => write!(f, "null where null is not allowed"),
            Self::CountTooLarge { count, left } => {
                write!(f, "{count} elements cannot fit in the {left} bytes left")
            }
            Self::LengthTooLarge { length } => write!(f, "length {length} is beyond what the type allows"),
            Self::Varint => write!(f, "varint does not end or overflows"),
            Self::Utf8 => write!(f, "string is not UTF-8"),
            Self::TagOrder { tag } => write!(f, "tagged field {tag} comes twice or out of order"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a message cannot be written in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The message, in Kafka's name: `FetchRequest`.
    pub message: &'static str,
    /// The version it was to be written in.
    pub version: i16,
    /// The field, named as in [`DecodeError::field`].
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: EncodeErrorKind,
}

/// What is wrong with the field that an [`EncodeError`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeErrorKind {
    /// The message has no such version, or we do not know it.
    UnsupportedVersion {
        /// The lowest version we know.
        min: i16,
        /// The highest version we know.
        max: i16,
    },
    /// The field is set, the version does not have it, and leaving it out would change the meaning.
    NotInVersion,
    /// Null, which this version cannot say.
    Null,
    /// Longer than its length field can say.
    TooLong {
        /// Its length in bytes or elements.
        length: usize,
        /// The longest that can be written.
        max: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot encode {} version {}: ", self.message, self.version)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        match self.kind {
            EncodeErrorKind::UnsupportedVersion { min, max } => {
                write!(f, "unknown version, known are {min} to {max}")
            }
            EncodeErrorKind::NotInVersion => {
                write!(f, "is set but this version does not have it, leave it at its default")
            }
            EncodeErrorKind::Null => write!(f, "must not be null in this version"),
            EncodeErrorKind::TooLong { length, max } => {
                write!(f, "length {length} is over the limit of {max}")
            }
        }
    }
}

impl std::error::Error for EncodeError {}
