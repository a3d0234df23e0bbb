//! One seeded generator (SplitMix64): ids of topics, members and the cluster come from it alone, so that the
//! same seed and the same inputs give the same bytes.

#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Sixteen bytes shaped like a version 4 UUID.
    pub(crate) fn uuid(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        bytes
    }

    /// A UUID in its usual text form.
    pub(crate) fn uuid_string(&mut self) -> String {
        uuid::Uuid::from_bytes(self.uuid()).to_string()
    }

    /// Kafka's short form of a UUID: 22 characters of URL-safe base64.
    pub(crate) fn uuid_base64(&mut self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.uuid());
        // 22 groups of six bits; the last one holds two bits and four zeros.
        (0..22)
            .map(|i| {
                let shift = 122 - i * 6;
                let six = if shift >= 0 { bits >> shift } else { bits << -shift };
                char::from(ALPHABET[(six & 63) as usize])
            })
            .collect()
    }

    /// A positive, non-zero `i32` (fetch session ids).
    pub(crate) fn positive_i32(&mut self) -> i32 {
        ((self.next_u64() >> 33) as i32).max(1)
    }
}
