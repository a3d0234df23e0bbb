//! Everything at random against a simple model: reliability.md S2, S3, S6, S8, S10, S11, S14, R1.
//!
//! The log of each partition is known, so the model says what a read must return next: the first visible record
//! at or after the position. It keeps its own account of what is done and committed, record by record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::records::{Compression, ControlRecord};

use super::support::*;
use crate::delivery::*;
use crate::{CommitError, OwnershipEpoch, Rng};

mod world;

use world::World;

const PARTITIONS: usize = 4;
const BUDGET: usize = 6_000;
/// The largest response below: the fetch reserves nothing here, so the ledger may go over by one.
const OVERSHOOT: usize = 4_000;

/// A log and which of its offsets hold a record that the reader may see.
struct Log {
    batches: Vec<(i64, i64, Bytes)>,
    visible: BTreeSet<i64>,
    aborted: Vec<(i64, i64)>,
    end: i64,
}

impl Log {
    fn new(rng: &mut Rng, read_committed: bool) -> Self {
        let mut log = Self { batches: Vec::new(), visible: BTreeSet::new(), aborted: Vec::new(), end: 0 };
        while log.end < 400 {
            let base = log.end;
            let len = 1 + rng.below(12) as i64;
            let all: Vec<i64> = (base..base + len).collect();
            match rng.below(10) {
                0 => log.add(base, compacted(base, &[], base + len), len, &[]),
                1 | 2 => {
                    let kept: Vec<i64> = all.iter().copied().filter(|_| rng.below(2) == 0).collect();
                    log.add(base, compacted(base, &kept, base + len), len, &kept);
                }
                3 => log.add(base, marker(base, 77, ControlRecord::Commit), 1, &[]),
                4 => {
                    log.aborted.push((5, base));
                    let seen: &[i64] = if read_committed { &[] } else { &all };
                    log.add(base, transactional(base, len, 5), len, seen);
                    log.add(base + len, marker(base + len, 5, ControlRecord::Abort), 1, &[]);
                }
                5 => log.add(base, compressed(base, len, 40), len, &all),
                6 | 7 => {
                    let writer = writer(base).compression(Compression::Snappy);
                    log.add(base, fill(writer, base, &all), len, &all);
                }
                _ => log.add(base, data(base, len), len, &all),
            }
        }
        log
    }

    fn add(&mut self, base: i64, bytes: Bytes, len: i64, visible: &[i64]) {
        self.batches.push((base, base + len, bytes));
        self.visible.extend(visible);
        self.end = base + len;
    }

    /// What a broker answers: whole batches from the one that holds the offset on, maybe a cut one at the end.
    fn fetch(&self, offset: i64, rng: &mut Rng) -> Bytes {
        let from = self.batches.iter().filter(|(_, next, _)| *next > offset);
        let mut records = joined(from.clone().take(1 + rng.below(4) as usize).map(|(_, _, b)| b.clone()));
        if let Some((_, _, cut)) = from.last().filter(|_| rng.below(3) == 0) {
            records = joined([records, cut.slice(..cut.len() / 2)]);
        }
        records
    }

    fn next_visible(&self, offset: i64) -> Option<i64> {
        self.visible.range(offset..).next().copied()
    }
}

/// One ownership as the model sees it.
struct Span {
    epoch: OwnershipEpoch,
    position: i64,
    /// Where commits begin: everything below is done.
    start: i64,
    delivered: BTreeSet<i64>,
    done: BTreeSet<i64>,
    committed: Option<i64>,
    paused: bool,
    revoking: bool,
    marks: bool,
}

impl Span {
    /// The first offset that holds a record which is handed out and not done, or is not handed out at all.
    fn contiguous(&self, log: &Log) -> i64 {
        log.visible
            .range(self.start..)
            .copied()
            .find(|offset| !self.done.contains(offset))
            .unwrap_or(i64::MAX)
    }
}

/// A batch, or one record of a strip, in the reader's hands.
struct Held {
    partition: usize,
    epoch: OwnershipEpoch,
    offsets: Vec<i64>,
    hand: Hand,
}

enum Hand {
    Batch(Batch),
    Record(Record),
}

impl Hand {
    fn token(&self, nth: usize) -> Option<CommitToken> {
        match self {
            Self::Batch(batch) => batch.iter().nth(nth).map(|record| record.token()),
            Self::Record(record) => Some(record.token()),
        }
    }

    fn is_owned(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.is_owned(),
            Self::Record(record) => record.is_owned(),
        }
    }
}

#[test]
fn at_random_it_does_what_the_model_does() {
    let (mut seen, mut decoded) = (0, 0);
    for seed in 0..150 {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
            }
            world.drain();
            (world.seen, world.decoded)
        });
        match result {
            Ok((records, ahead)) => {
                seen += records;
                decoded += ahead;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(seen > 50_000, "{seen} records are too few to prove anything");
    assert!(decoded > 1_000, "{decoded} batches were decoded ahead");
}
