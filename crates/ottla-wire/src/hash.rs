//! The hash that decides which partition a key belongs to.

/// The 32-bit murmur2 of `key` with Kafka's seed, as the Java producer's partitioner computes it.
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut h = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte).wrapping_shl((place as u32).saturating_mul(8));
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition that the Java producer gives a record with `key` in a topic of `partitions`; `None` when there
/// are no partitions.
pub fn partition_for_key(key: &[u8], partitions: i32) -> Option<i32> {
    if partitions < 1 { None } else { (murmur2(key) & i32::MAX).checked_rem(partitions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_partitions_has_no_partition() {
        assert_eq!(partition_for_key(b"k", 0), None);
        assert_eq!(partition_for_key(b"k", -1), None);
        assert_eq!(partition_for_key(b"k", 1), Some(0));
    }
}
