//! Exponential backoff with jitter (KIP-580).

use std::time::Duration;

use crate::Rng;

/// Delays that double from `initial` up to `max`, each spread by ±20 %.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff that has seen no failure yet.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max: max.max(initial), failures: 0 }
    }

    /// Counts a failure and gives how long to wait before the next try.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        let exponent = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        rng.jitter(self.initial.saturating_mul(1 << exponent).min(self.max))
    }

    /// How many failures in a row were counted.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_maximum_and_starts_over_after_a_reset() {
        let mut rng = Rng::new(3);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(1000));
        let bounds = [100u128, 200, 400, 800, 1000, 1000];
        for bound in bounds {
            let got = backoff.next(&mut rng).as_millis();
            assert!((bound * 8 / 10..=bound * 12 / 10).contains(&got), "{got} for {bound}");
        }
        backoff.reset();
        assert!(backoff.next(&mut rng).as_millis() <= 120);
    }
}
