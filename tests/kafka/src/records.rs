//! Records by formula, the reading side. The writing side is java/ottla/Records.java: change them together.

use serde_json::{Value, json};

/// Keys of the headers, in order: record `i` has the first `i mod 7` of them.
const HEADER_KEYS: [&str; 6] = ["trace", "retry", "dup", "dup", "größe", ""];

/// Which records to produce, and how. Every byte follows from it.
///
/// With `mix` the finalizer of SplitMix64 and `h = mix(seed xor mix(i))`, record `i` has:
/// - partition `i mod partitions`, or the one chosen with [`RecordSpec::partition`];
/// - timestamp `first_timestamp + i`;
/// - key `key-<h mod 1000>`; with nulls on, null when `i mod 7 = 3`, else empty when `i mod 11 = 5`;
/// - value of `min + h mod (max − min + 1)` bytes (the big record: its own size); with nulls on, null when
///   `i mod 13 = 6`, else empty when `i mod 17 = 8`. Byte `j` is byte `j mod 8`, low first, of `mix(h + j / 8)`; for
///   even `i` only its low four bits count, as a letter from a to p, so that codecs find something to shrink;
/// - with headers on, the first `i mod 7` of `trace, retry, dup, dup, größe, ""`: the second is null, the fifth
///   empty, header `k` of the others eight bytes of the sequence that starts at `h + 1000 + k` (mostly not UTF-8).
#[derive(Debug, Clone)]
pub struct RecordSpec {
    seed: u64,
    first: u64,
    count: u64,
    partitions: u32,
    partition: Option<u32>,
    min_value: u32,
    max_value: u32,
    nulls: bool,
    headers: bool,
    big: Option<(u64, u32)>,
    first_timestamp: i64,
    codec: String,
    batch_size: u32,
    linger_ms: u32,
    transactional_id: Option<String>,
    abort: bool,
}

/// A record as it must arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The partition.
    pub partition: u32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<Vec<u8>>,
    /// The value, or null.
    pub value: Option<Vec<u8>>,
    /// The headers in order, with duplicates.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl RecordSpec {
    /// `count` records of 100 bytes for partition 0, uncompressed, without headers, nulls and transaction.
    pub fn new(count: u64) -> Self {
        Self {
            seed: 0,
            first: 0,
            count,
            partitions: 1,
            partition: None,
            min_value: 100,
            max_value: 100,
            nulls: false,
            headers: false,
            big: None,
            first_timestamp: 1_700_000_000_000,
            codec: "none".to_owned(),
            batch_size: 16384,
            linger_ms: 5,
            transactional_id: None,
            abort: false,
        }
    }

    /// Other records: another sequence.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Begin at this index, to continue a sequence.
    pub fn first(mut self, first: u64) -> Self {
        self.first = first;
        self
    }

    /// Spread over partitions 0 to `partitions` − 1 in turn.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// All to this partition.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Bytes in a value, from and to.
    pub fn value_size(mut self, min: u32, max: u32) -> Self {
        (self.min_value, self.max_value) = (min, max.max(min));
        self
    }

    /// Null and empty keys and values among the others.
    pub fn nulls(mut self) -> Self {
        self.nulls = true;
        self
    }

    /// Headers: duplicates, null, empty and non-UTF-8 values.
    pub fn headers(mut self) -> Self {
        self.headers = true;
        self
    }

    /// Record `index` gets a value of `size` bytes (unless its turn is null or empty).
    pub fn big(mut self, index: u64, size: u32) -> Self {
        self.big = Some((index, size));
        self
    }

    /// The timestamp of index 0, in milliseconds since 1970.
    pub fn first_timestamp(mut self, timestamp: i64) -> Self {
        self.first_timestamp = timestamp;
        self
    }

    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub fn codec(mut self, codec: &str) -> Self {
        codec.clone_into(&mut self.codec);
        self
    }

    /// The producer's `batch.size` in bytes and `linger.ms`.
    pub fn batching(mut self, bytes: u32, linger_ms: u32) -> Self {
        (self.batch_size, self.linger_ms) = (bytes, linger_ms);
        self
    }

    /// In one transaction that is committed, or aborted.
    pub fn transaction(mut self, id: &str, abort: bool) -> Self {
        (self.transactional_id, self.abort) = (Some(id.to_owned()), abort);
        self
    }

    /// The indexes of the records.
    pub fn indexes(&self) -> std::ops::Range<u64> {
        self.first..self.first.saturating_add(self.count)
    }

    /// The record of one index.
    pub fn record(&self, index: u64) -> Expected {
        Expected {
            partition: self.partition_of(index),
            timestamp: self.first_timestamp.wrapping_add_unsigned(index),
            key: self.key(index),
            value: self.value(index),
            headers: self.header_list(index),
        }
    }

    /// The records of one partition in the order of their offsets.
    pub fn of_partition(&self, partition: u32) -> impl Iterator<Item = Expected> + '_ {
        self.indexes().filter(move |&i| self.partition_of(i) == partition).map(|i| self.record(i))
    }

    /// The partition of one index.
    pub fn partition_of(&self, index: u64) -> u32 {
        self.partition
            .unwrap_or_else(|| u32::try_from(index % u64::from(self.partitions.max(1))).unwrap_or(0))
    }

    /// FNV-1a over every field of every record, to see that both languages have the same formula.
    pub fn digest(&self) -> u64 {
        let mut digest = 0xCBF2_9CE4_8422_2325;
        for record in self.indexes().map(|i| self.record(i)) {
            add(&mut digest, Some(record.partition.to_string().as_bytes()));
            add(&mut digest, Some(record.timestamp.to_string().as_bytes()));
            add(&mut digest, record.key.as_deref());
            add(&mut digest, record.value.as_deref());
            for (key, value) in &record.headers {
                add(&mut digest, Some(key));
                add(&mut digest, value.as_deref());
            }
        }
        digest
    }

    fn hash(&self, index: u64) -> u64 {
        mix(self.seed ^ mix(index))
    }

    fn key(&self, index: u64) -> Option<Vec<u8>> {
        if self.nulls && index % 7 == 3 {
            return None;
        }
        if self.nulls && index % 11 == 5 {
            return Some(Vec::new());
        }
        Some(format!("key-{}", self.hash(index) % 1000).into_bytes())
    }

    fn value(&self, index: u64) -> Option<Vec<u8>> {
        if self.nulls && index % 13 == 6 {
            return None;
        }
        if self.nulls && index % 17 == 8 {
            return Some(Vec::new());
        }
        let hash = self.hash(index);
        let size = match self.big {
            Some((big, size)) if big == index => u64::from(size),
            _ => u64::from(self.min_value) + hash % (u64::from(self.max_value - self.min_value) + 1),
        };
        Some(bytes(hash, size, index.is_multiple_of(2)))
    }

    fn header_list(&self, index: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        if !self.headers {
            return Vec::new();
        }
        let count = index % (HEADER_KEYS.len() as u64 + 1);
        (0..count)
            .zip(HEADER_KEYS)
            .map(|(i, key)| {
                let value = match i {
                    1 => None,
                    4 => Some(Vec::new()),
                    _ => Some(bytes(self.hash(index).wrapping_add(1000 + i), 8, false)),
                };
                (key.as_bytes().to_vec(), value)
            })
            .collect()
    }

    pub(crate) fn command(&self, topic: &str) -> Value {
        let (big_index, big_size) = self.big.map_or((-1, 0), |(i, s)| (i64::try_from(i).unwrap_or(-1), s));
        json!({
            "command": "produce", "topic": topic,
            "seed": self.seed.cast_signed(), "first": self.first, "count": self.count,
            "partitions": self.partitions, "partition": self.partition.map_or(-1, i64::from),
            "min_value": self.min_value, "max_value": self.max_value,
            "nulls": self.nulls, "headers": self.headers,
            "big_index": big_index, "big_size": big_size, "first_timestamp": self.first_timestamp,
            "codec": self.codec, "batch_size": self.batch_size, "linger_ms": self.linger_ms,
            "transactional_id": self.transactional_id, "abort": self.abort,
        })
    }
}

fn add(digest: &mut u64, bytes: Option<&[u8]>) {
    let mark = u64::from(bytes.is_some());
    for byte in std::iter::once(mark).chain(bytes.unwrap_or_default().iter().map(|&b| u64::from(b))) {
        *digest = (*digest ^ byte).wrapping_mul(0x100_0000_01B3);
    }
}

/// The finalizer of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn bytes(hash: u64, size: u64, readable: bool) -> Vec<u8> {
    (0..size)
        .map(|i| {
            let byte = mix(hash.wrapping_add(i / 8)).to_le_bytes()[(i % 8) as usize];
            if readable { b'a' + (byte & 15) } else { byte }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The first outputs of the published generator with seed 0.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(0x9E37_79B9_7F4A_7C15), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn records_have_what_the_formula_says() {
        let spec = RecordSpec::new(1000).partitions(6).nulls().headers().value_size(0, 50).big(100, 5000);
        assert_eq!(spec.record(3).key, None);
        assert_eq!(spec.record(5).key, Some(Vec::new()));
        assert_eq!(spec.record(6).value, None);
        assert_eq!(spec.record(8).value, Some(Vec::new()));
        assert_eq!(spec.record(100).value.map(|v| v.len()), Some(5000));
        let headers = spec.record(6).headers;
        assert_eq!(headers.len(), 6);
        assert_eq!(headers[2].0, headers[3].0);
        assert_eq!((&headers[1].1, &headers[4].1), (&None, &Some(Vec::new())));
        assert!(spec.record(0).headers.is_empty());
        assert_eq!(spec.of_partition(5).count(), 166);
        assert_eq!(spec.of_partition(5).nth(1).map(|r| r.timestamp), Some(1_700_000_000_011));
    }
}
