//! Threads that decode ahead of readers, each at its own pace.

use std::time::Duration;

use ottla_core::delivery::{BatchDecoder, DecodeJob};
use ottla_core::{Rng, Timestamp};

use crate::{MemberId, World};

/// So many batches of a member are decoded at once.
const THREADS: usize = 2;

/// What is being decoded.
#[derive(Debug)]
pub(super) struct Threads {
    rng: Rng,
    decoder: BatchDecoder,
    running: Vec<(Timestamp, MemberId, DecodeJob)>,
}

impl Threads {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0x00de_c0de), decoder: BatchDecoder::new(), running: Vec::new() }
    }

    /// When the next one is done.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.running.iter().map(|(at, ..)| *at).min()
    }

    /// Ends what is due, and begins what a member has.
    pub(super) fn run(&mut self, world: &mut World, now: Timestamp, members: impl Iterator<Item = MemberId>) {
        while let Some(index) = self.running.iter().position(|(at, ..)| *at <= now) {
            let (_, id, job) = self.running.swap_remove(index);
            // Threads die, too.
            if self.rng.below(64) > 0 {
                job.run(&mut self.decoder);
            }
            world.tend(id);
        }
        for id in members {
            while self.running.iter().filter(|(_, of, _)| *of == id).count() < THREADS {
                let Some(job) = world.look(id).delivery.next_decode_job() else { break };
                let takes = Duration::from_micros(1 + self.rng.below(4_000));
                self.running.push((now + takes, id, job));
            }
        }
    }
}
