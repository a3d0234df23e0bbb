//! What happened, as a number that is the same for the same run, and as text for whoever replays a seed.

use std::fmt;

use ottla_core::Timestamp;

/// The trace of a run: always a hash; text only on demand.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// One line per event: time, node, what.
    text: Option<Vec<String>>,
    stamp: bool,
}

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

impl Trace {
    /// With text.
    pub fn with_text() -> Self {
        Self { text: Some(Vec::new()), ..Self::default() }
    }

    /// The text is printed as it comes: for runs that do not come to an end.
    pub fn printing() -> Self {
        Self { text: Some(Vec::new()), stamp: true, ..Self::default() }
    }

    /// Whether somebody reads the text.
    pub fn is_on(&self) -> bool {
        self.text.is_some()
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things were noted.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines so far.
    pub fn lines(&self) -> &[String] {
        self.text.as_deref().unwrap_or_default()
    }

    /// Mixes a number in.
    pub fn number(&mut self, number: u64) {
        self.events += 1;
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(PRIME);
    }

    /// Mixes bytes in.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        let mut hash = self.hash ^ bytes.len() as u64;
        for chunk in &mut chunks {
            let word = chunk.first_chunk().map_or(0, |c| u64::from_le_bytes(*c));
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(PRIME);
        }
        for byte in chunks.remainder() {
            hash = (hash.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
        self.events += 1;
        self.hash = hash;
    }

    /// A line for the reader; not part of the hash.
    pub fn line(&mut self, now: Timestamp, who: impl fmt::Display, what: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            let micros = now.as_nanos() / 1000;
            let line = format!("{:>4}.{:06}s {who:<8} {}", micros / 1_000_000, micros % 1_000_000, what());
            if self.stamp {
                println!("{line}");
            } else {
                text.push(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_knows_order_length_and_every_byte() {
        let of = |parts: &[&[u8]]| {
            let mut trace = Trace::default();
            parts.iter().for_each(|p| trace.bytes(p));
            trace.hash()
        };
        assert_eq!(of(&[b"abc", b"d"]), of(&[b"abc", b"d"]));
        assert_ne!(of(&[b"abc", b"d"]), of(&[b"ab", b"cd"]));
        assert_ne!(of(&[b"abcdefgh"]), of(&[b"abcdefgi"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
    }
}
