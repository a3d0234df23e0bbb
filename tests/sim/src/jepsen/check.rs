//! The checker: a function of a history.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Key, Op, Sent, What};

/// Something that must not be in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Jepsen's name for it.
    pub name: &'static str,
    /// Where it is.
    pub text: String,
}

/// Every anomaly of the history, at most one of a kind per key and process.
pub fn check(history: &History) -> Vec<Anomaly> {
    let facts = Facts::of(history);
    let mut found = facts.values();
    found.extend(facts.writes());
    found.extend(facts.polls(history.ops()));
    found
}

/// What sends and polls say of one key.
#[derive(Debug, Default)]
struct Facts<'a> {
    /// The values that somebody saw or wrote at an offset.
    at: BTreeMap<(&'a Key, i64), BTreeSet<u64>>,
    /// The offsets at which a value was seen or written.
    of: BTreeMap<(&'a Key, u64), BTreeSet<i64>>,
    sent: BTreeMap<(&'a Key, u64), Sent>,
    polled: BTreeSet<(&'a Key, u64)>,
    polled_in_the_end: BTreeSet<(&'a Key, u64)>,
    /// What processes of the group polled, and the keys whose positions they moved themselves.
    polled_in_group: BTreeSet<(&'a Key, u64)>,
    sought: BTreeSet<&'a Key>,
    /// Processes that have subscribed.
    members: BTreeSet<usize>,
    /// The highest offset that anybody polled.
    highest: BTreeMap<&'a Key, i64>,
    deleted: BTreeMap<&'a Key, i64>,
    dropped: BTreeSet<&'a Key>,
    final_polls: bool,
    read_committed: bool,
}

impl<'a> Facts<'a> {
    fn of(history: &'a History) -> Self {
        let mut facts = Self { read_committed: history.read_committed, ..Self::default() };
        let mut last_reader = None;
        for Op { process, what } in history.ops() {
            match what {
                What::Sent(key, value, sent) => {
                    facts.sent.insert((key, *value), *sent);
                    if let Sent::Ok(offset) = sent {
                        facts.saw(key, *offset, *value);
                    }
                }
                What::Polled(key, records) => {
                    for (offset, value) in records {
                        facts.saw(key, *offset, *value);
                        facts.polled.insert((key, *value));
                        if facts.members.contains(process) {
                            facts.polled_in_group.insert((key, *value));
                        }
                        if last_reader == Some(*process) {
                            facts.polled_in_the_end.insert((key, *value));
                        }
                        let highest = facts.highest.entry(key).or_insert(*offset);
                        *highest = (*highest).max(*offset);
                    }
                }
                What::Deleted(key, below) => {
                    let deleted = facts.deleted.entry(key).or_default();
                    *deleted = (*deleted).max(*below);
                }
                What::Dropped(key) => {
                    facts.dropped.insert(key);
                }
                What::FinalPolls => {
                    facts.final_polls = true;
                    last_reader = Some(*process);
                }
                What::Subscribed { .. } => {
                    facts.members.insert(*process);
                }
                What::Sought(key) if facts.members.contains(process) => {
                    facts.sought.insert(key);
                }
                What::Assigned(_) | What::Rebalanced(_) | What::Sought(_) | What::Crashed => {}
            }
        }
        facts
    }

    fn saw(&mut self, key: &'a Key, offset: i64, value: u64) {
        self.at.entry((key, offset)).or_default().insert(value);
        self.of.entry((key, value)).or_default().insert(offset);
    }

    /// Inconsistent offsets, duplicates, aborted and unsent reads.
    fn values(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for ((key, offset), values) in self.at.iter().filter(|(_, values)| values.len() > 1) {
            let text = format!("{key} has {values:?} at offset {offset}");
            found.push(Anomaly { name: "inconsistent offsets", text });
        }
        for ((key, value), offsets) in self.of.iter().filter(|(_, offsets)| offsets.len() > 1) {
            let text = format!("{key} has {value} at offsets {offsets:?}");
            found.push(Anomaly { name: "duplicate", text });
        }
        for (key, value) in &self.polled {
            match self.sent.get(&(*key, *value)) {
                None => {
                    let text = format!("{key} gave {value}, which nobody sent");
                    found.push(Anomaly { name: "unsent read", text });
                }
                Some(Sent::Failed) if self.read_committed => {
                    let text = format!("{key} gave {value}, whose send failed");
                    found.push(Anomaly { name: "aborted read", text });
                }
                Some(_) => {}
            }
        }
        found
    }

    /// Lost writes, and those that are unseen in the end.
    fn writes(&self) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for ((key, value), sent) in &self.sent {
            let Sent::Ok(offset) = sent else { continue };
            let deleted = self.deleted.get(key).is_some_and(|below| offset < below);
            if deleted || self.dropped.contains(key) {
                continue;
            }
            // The group reads everything, whatever somebody else reads next to it, where nobody passes records over.
            let owed = self.final_polls && !self.members.is_empty() && !self.sought.contains(key);
            if owed && !self.polled_in_group.contains(&(*key, *value)) {
                let text = format!("{key} offset {offset}, {value}: the group has not read it");
                found.push(Anomaly { name: "lost write", text });
                continue;
            }
            let passed = self.highest.get(key).is_some_and(|highest| offset <= highest);
            if passed && !self.polled.contains(&(*key, *value)) {
                let text = format!("{key} offset {offset}, {value}: read up to {:?}", self.highest.get(key));
                found.push(Anomaly { name: "lost write", text });
            } else if self.final_polls && !self.polled_in_the_end.contains(&(*key, *value)) {
                found.push(Anomaly { name: "unseen", text: format!("{key} offset {offset}, {value}") });
            }
        }
        found
    }

    /// What one process sees of one key in a row: nothing left out, nothing twice.
    fn polls(&self, ops: &'a [Op]) -> Vec<Anomaly> {
        let order = self.order();
        let mut found = Vec::new();
        // Where each process is with each key, as an index of the version order.
        let mut last: BTreeMap<(usize, &Key), usize> = BTreeMap::new();
        let mut unlogged: BTreeSet<usize> = BTreeSet::new();
        let mut deleted: BTreeMap<&Key, i64> = BTreeMap::new();
        for Op { process, what } in ops {
            let process = *process;
            match what {
                What::Assigned(_) | What::Crashed => last.retain(|(p, _), _| *p != process),
                What::Subscribed { logged } => {
                    last.retain(|(p, _), _| *p != process);
                    if !*logged {
                        unlogged.insert(process);
                    }
                }
                What::Rebalanced(None) => last.retain(|(p, _), _| *p != process),
                What::Rebalanced(Some(key)) => {
                    last.remove(&(process, key));
                }
                What::Sought(key) => {
                    last.remove(&(process, key));
                }
                What::Deleted(key, below) => {
                    deleted.insert(key, *below);
                }
                What::Polled(key, records) => {
                    if unlogged.contains(&process) {
                        // Its keys may have gone and come back in between. Inside of one poll they have not.
                        last.remove(&(process, key));
                    }
                    let Some(order) = order.get(key) else { continue };
                    for (offset, value) in records {
                        let at = order.partition_point(|o| o < offset);
                        if let Some(before) = last.insert((process, key), at) {
                            let below = deleted.get(key).copied().unwrap_or(0);
                            let between = order.get(before + 1..at).unwrap_or_default();
                            let skipped = between.iter().find(|o| **o >= below);
                            let text = || format!("process {process}, {key}: offset {offset} ({value})");
                            if at <= before {
                                let text = format!("{} after offset {}", text(), order[before]);
                                found.push(Anomaly { name: "nonmonotonic poll", text });
                            } else if let Some(skipped) = skipped {
                                let text = format!("{} next, without offset {skipped}", text());
                                found.push(Anomaly { name: "poll skip", text });
                            }
                        }
                    }
                }
                What::Sent(..) | What::Dropped(_) | What::FinalPolls => {}
            }
        }
        found
    }

    /// The version order: the offsets of each key that a good send or a poll has shown, without the gaps between.
    fn order(&self) -> BTreeMap<&'a Key, Vec<i64>> {
        let mut order: BTreeMap<&Key, Vec<i64>> = BTreeMap::new();
        for (key, offset) in self.at.keys() {
            order.entry(key).or_default().push(*offset);
        }
        order
    }
}
