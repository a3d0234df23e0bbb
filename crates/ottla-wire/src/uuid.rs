//! Kafka's ids: of topics, members, directories, clusters.

use std::fmt;
use std::str::FromStr;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An id of 128 bits, shown as Kafka shows it: 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(
    /// Its bytes, in the order of the wire.
    pub [u8; 16],
);

impl Uuid {
    /// No id.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Self::ZERO`], which stands for no id.
    pub const fn is_zero(self) -> bool {
        u128::from_be_bytes(self.0) == 0
    }

    /// Whether no topic may have this id: 0 (none) and 1 (the metadata log).
    pub const fn is_reserved(self) -> bool {
        u128::from_be_bytes(self.0) <= 1
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 22 digits hold 132 bits, so four zero bits are put behind the 128.
        let value = u128::from_be_bytes(self.0);
        let mut text = [0u8; 22];
        for (place, digit) in text.iter_mut().rev().enumerate() {
            let bits = match place {
                0 => (value << 4) & 0x3f,
                _ => {
                    value.checked_shr((place as u32).saturating_mul(6).saturating_sub(4)).unwrap_or(0) & 0x3f
                }
            };
            *digit = DIGITS.get(bits as usize).copied().unwrap_or_default();
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no [`Uuid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id of 22 characters of URL-safe base64 (letters, digits, - and _)")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    /// Parses what `Display` writes; as in Java, `==` may follow and the four spare bits are not looked at.
    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let digits = text.strip_suffix("==").unwrap_or(text).as_bytes();
        if digits.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut value = 0u128;
        for (place, digit) in digits.iter().enumerate() {
            let bits = DIGITS.iter().position(|d| d == digit).ok_or(ParseUuidError)? as u128;
            value = if place == 21 { (value << 2) | (bits >> 4) } else { (value << 6) | bits };
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let id = Uuid([0xfb, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(id.to_string(), "-_AAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("-_AAAAAAAAAAAAAAAAAAAQ".parse(), Ok(id));
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        assert!(Uuid::ZERO.is_zero() && Uuid::ZERO.is_reserved() && !id.is_reserved());
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "A", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA=", "+/AAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
