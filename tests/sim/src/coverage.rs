//! What a run, or many, have actually exercised.

use std::collections::{BTreeMap, BTreeSet};

use super::faults::{FAULTS, Fault, NOT_HERE};

/// How often each fault hit, and each transition was taken.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    faults: BTreeMap<Fault, u64>,
    /// Those of the plan that did.
    planned: BTreeSet<usize>,
    moves: BTreeMap<(&'static str, &'static str, &'static str), u64>,
}

impl Coverage {
    /// A fault did something; `number` is its place in the plan.
    pub fn hit(&mut self, fault: Fault, number: usize) {
        self.planned.insert(number);
        *self.faults.entry(fault).or_default() += 1;
    }

    /// A state machine moved.
    pub fn moved(&mut self, what: &'static str, from: &'static str, to: &'static str) {
        *self.moves.entry((what, from, to)).or_default() += 1;
    }

    /// How many faults of the plan hit.
    pub fn hits(&self) -> u64 {
        self.planned.len() as u64
    }

    /// Whether it did anything.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains_key(&fault)
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (step, count) in &other.moves {
            *self.moves.entry(*step).or_default() += count;
        }
    }

    /// Kinds that never hit.
    pub fn never(&self) -> Vec<&'static str> {
        FAULTS.iter().filter(|(f, ..)| !self.faults.contains_key(f)).map(|(_, _, name)| *name).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "faults that hit:")?;
        for (fault, row, name) in FAULTS {
            let count = self.faults.get(&fault).copied().unwrap_or(0);
            writeln!(f, "  {row:>5}  {name:<20} {count:>9}")?;
        }
        for (row, why) in NOT_HERE {
            writeln!(f, "  {row:>8}  {why}")?;
        }
        writeln!(f, "transitions taken:")?;
        for ((what, from, to), count) in &self.moves {
            writeln!(f, "  {what:<12} {from:>12} → {to:<12} {count:>9}")?;
        }
        Ok(())
    }
}
