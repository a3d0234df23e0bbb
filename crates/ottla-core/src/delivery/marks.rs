//! What is done of a partition: a prefix, and ranges that are done beyond gaps.

use std::collections::BTreeMap;

use crate::LeaderEpoch;
use crate::planted::planted;

/// Done offsets of one ownership. Ranges that touch are one: memory is bounded by the number of gaps.
#[derive(Debug)]
pub(super) struct Done {
    to: i64,
    epoch: Option<LeaderEpoch>,
    /// Start → end (exclusive) and the leader epoch of the last record before the end. All starts lie above `to`.
    ahead: BTreeMap<i64, (i64, Option<LeaderEpoch>)>,
}

impl Done {
    /// Everything below `offset` is done, and nothing else.
    pub(super) fn new(offset: i64, epoch: Option<LeaderEpoch>) -> Self {
        Self { to: offset, epoch, ahead: BTreeMap::new() }
    }

    /// Everything below this is done.
    pub(super) fn to(&self) -> i64 {
        self.to
    }

    /// Leader epoch of the record before [`to`](Self::to).
    pub(super) fn epoch(&self) -> Option<LeaderEpoch> {
        self.epoch
    }

    /// The number of ranges beyond the prefix.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> usize {
        self.ahead.len()
    }

    /// Everything below `to` is done, whatever was said of it before. Gives whether the prefix grew.
    pub(super) fn advance(&mut self, to: i64, epoch: Option<LeaderEpoch>) -> bool {
        if to <= self.to {
            return false;
        }
        (self.to, self.epoch) = (to, epoch);
        while let Some(first) = self.ahead.first_entry() {
            if *first.key() > self.to {
                break;
            }
            let (end, epoch) = first.remove();
            if end > self.to {
                (self.to, self.epoch) = (end, epoch);
            }
        }
        true
    }

    /// `from..to` is done. Gives whether the prefix grew.
    pub(super) fn insert(&mut self, from: i64, to: i64, epoch: Option<LeaderEpoch>) -> bool {
        if from <= self.to || planted!(MarksIgnoreGaps) {
            return self.advance(to, epoch);
        }
        if from >= to {
            return false;
        }
        let (mut start, mut end, mut epoch) = (from, to, epoch);
        // The range that begins at or before `from`, then all that begin inside.
        while let Some((&s, &(e, ep))) = self.ahead.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.ahead.remove(&s);
            start = start.min(s);
            if e > end {
                (end, epoch) = (e, ep);
            }
        }
        self.ahead.insert(start, (end, epoch));
        false
    }

    /// Whether all of `from..to` is done.
    pub(super) fn contains(&self, from: i64, to: i64) -> bool {
        to <= self.to
            || self
                .ahead
                .range(..=from.max(self.to))
                .next_back()
                .is_some_and(|(&s, &(e, _))| s <= from && to <= e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn epoch(n: i32) -> Option<LeaderEpoch> {
        LeaderEpoch::from_wire(n)
    }

    #[test]
    fn the_prefix_stops_at_the_first_gap_and_jumps_when_it_closes() {
        let mut done = Done::new(0, None);
        assert!(!done.insert(5, 6, epoch(1)));
        assert!(!done.insert(6, 9, epoch(2)));
        assert_eq!((done.to(), done.gaps()), (0, 1));
        assert!(done.insert(0, 4, epoch(1)));
        assert_eq!(done.to(), 4);
        assert!(done.insert(4, 5, epoch(1)));
        assert_eq!((done.to(), done.epoch(), done.gaps()), (9, epoch(2), 0));
    }

    #[test]
    fn going_ahead_swallows_what_lies_below() {
        let mut done = Done::new(10, None);
        done.insert(20, 30, epoch(3));
        done.insert(40, 50, epoch(4));
        assert!(done.advance(25, epoch(1)));
        assert_eq!((done.to(), done.epoch()), (30, epoch(3)));
        assert!(!done.advance(12, None), "never back");
        assert!(done.contains(11, 30) && done.contains(42, 50) && !done.contains(35, 45));
    }

    #[test]
    fn any_order_of_ranges_gives_what_a_set_of_offsets_gives() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut done = Done::new(0, None);
            let mut model = [false; 64];
            for _ in 0..60 {
                let from = rng.below(64);
                let to = (from + 1 + rng.below(6)).min(64);
                done.insert(from as i64, to as i64, None);
                model[from as usize..to as usize].fill(true);
                let prefix = model.iter().take_while(|d| **d).count();
                assert_eq!(done.to(), prefix as i64, "seed {seed}");
                let (a, b) = (rng.below(64), rng.below(64));
                let (a, b) = (a.min(b), a.max(b) + 1);
                let all = model[a as usize..b as usize].iter().all(|d| *d);
                assert_eq!(done.contains(a as i64, b as i64), all, "seed {seed}: {a}..{b}");
                let runs = model.windows(2).filter(|w| !w[0] && w[1]).count();
                assert_eq!(done.gaps(), runs, "seed {seed}: touching ranges are one");
            }
        }
    }
}
