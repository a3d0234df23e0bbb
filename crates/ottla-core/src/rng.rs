//! The only source of randomness: one seed given at construction.

use std::time::Duration;

/// A small seeded generator (xoshiro256**, seeded through splitmix64). Not for secrets.
///
/// It decides the jitter of backoffs; the same seed gives the same run, which is what makes a failing simulation
/// replayable.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator that is decided by `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 128-bit product: no modulo bias worth speaking of for the bounds in use.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `duration` spread by ±20 %, as Kafka does (KIP-580).
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let permille = 800 + self.below(401) as u32;
        duration / 1000 * permille
    }

    /// A generator of its own for a part of the core, so that one part's draws do not move another's.
    pub fn split(&mut self) -> Self {
        Self::new(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| (0..8).scan(Rng::new(seed), |r, _| Some(r.next_u64())).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        let mut rng = Rng::new(1);
        let base = Duration::from_millis(1000);
        let drawn: Vec<_> = (0..1000).map(|_| rng.jitter(base)).collect();
        assert!(drawn.iter().all(|d| (800..=1200).contains(&d.as_millis())));
        assert!(drawn.iter().any(|d| d.as_millis() < 900) && drawn.iter().any(|d| d.as_millis() > 1100));
    }
}
