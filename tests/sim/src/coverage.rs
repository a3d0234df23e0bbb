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

    /// Transitions that the list does not have.
    pub fn unlisted(&self) -> Vec<String> {
        let listed = Listed::read();
        let steps = self.moves.keys().map(|(what, from, to)| step(what, from, to));
        steps.filter(|step| !listed.0.contains_key(step)).collect()
    }

    /// Transitions of the list that every long run takes, and this one has not.
    pub fn never_taken(&self) -> Vec<String> {
        let taken: BTreeSet<String> =
            self.moves.keys().map(|(what, from, to)| step(what, from, to)).collect();
        let listed = Listed::read().0.into_iter();
        listed.filter(|(step, always)| *always && !taken.contains(step)).map(|(step, _)| step).collect()
    }

    /// Kinds that never hit.
    pub fn never(&self) -> Vec<&'static str> {
        FAULTS.iter().filter(|(f, ..)| !self.faults.contains_key(f)).map(|(_, _, name)| *name).collect()
    }
}

fn step(what: &str, from: &str, to: &str) -> String {
    format!("{what} {from} → {to}")
}

/// The transitions of `transitions.txt`, with whether every long run takes them.
struct Listed(BTreeMap<String, bool>);

impl Listed {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/transitions.txt");
        Self::parse(&std::fs::read_to_string(path).unwrap_or_default())
    }

    /// Lines `machine state: next (rare) …`.
    fn parse(text: &str) -> Self {
        let mut listed = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((state, targets)) = line.split_once(": ") else { continue };
            let (what, from) = state.split_once(' ').unwrap_or((state, ""));
            for to in targets.split(' ') {
                listed.insert(step(what, from, to.trim_matches(['(', ')'])), !to.starts_with('('));
            }
        }
        Self(listed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_or_never_taken_is_told() {
        let listed = Listed::parse("# a comment\ngroup Joining: Stable (Fatal)\n").0;
        let expected =
            [("group Joining → Fatal".to_owned(), false), ("group Joining → Stable".to_owned(), true)];
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), expected);
        let mut coverage = Coverage::default();
        coverage.moved("group", "Joining", "Nowhere");
        assert_eq!(coverage.unlisted(), ["group Joining → Nowhere"]);
        let never = coverage.never_taken();
        assert!(never.contains(&"group Joining → Stable".to_owned()), "{never:?}");
    }
}
