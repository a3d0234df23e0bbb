//! Sticky, when all members are subscribed to the same topics. The answer is Kafka's own, partition for partition.
//!
//! With P partitions and n members, P mod n members get ⌈P/n⌉ and the others ⌊P/n⌋.
//! 1. Everybody keeps what it had, as far as that goes: all of it below ⌊P/n⌋; else ⌈P/n⌉ while members may
//!    still have that many; else ⌊P/n⌋. What is not near the member is not kept.
//! 2. With racks: the other partitions, those with the fewest near members first, go to the next near member
//!    below ⌊P/n⌋, or else to the one that has been at ⌊P/n⌋ for the longest.
//! 3. The rest is dealt in turn to the members below ⌊P/n⌋, then one each to those at ⌊P/n⌋.

use std::collections::VecDeque;

use super::claims::Claims;
use super::group::{Group, NONE, Rows, id};
use super::racks::Racks;

pub(super) fn assign(group: &Group<'_>, claims: &Claims, racks: Option<&Racks>) -> Vec<u32> {
    let mut deal = Deal::new(group);
    if group.members.is_empty() {
        return deal.targets;
    }
    deal.keep(group, claims, racks);
    let mut free: Vec<usize> =
        (0..group.partitions()).filter(|&partition| deal.targets[partition] == NONE).collect();
    if let Some(racks) = racks {
        deal.near(racks, &mut free);
    }
    deal.rest(&free);
    deal.targets
}

struct Deal {
    targets: Vec<u32>,
    /// How many partitions each member has by now.
    count: Vec<usize>,
    floor: usize,
    /// How many members may still get one more than `floor`.
    extras: usize,
    /// Members below `floor`, in order.
    under: Vec<u32>,
    /// Members at `floor` that may get one more, in the order in which they got there.
    level: VecDeque<u32>,
}

impl Deal {
    fn new(group: &Group<'_>) -> Self {
        let members = group.members.len();
        let floor = group.partitions().checked_div(members).unwrap_or(0);
        Self {
            targets: vec![NONE; group.partitions()],
            count: vec![0; members],
            floor,
            extras: group.partitions() - floor * members,
            under: Vec::new(),
            level: VecDeque::new(),
        }
    }

    fn give(&mut self, partition: usize, member: u32) {
        self.targets[partition] = member;
        self.count[member as usize] += 1;
    }

    fn keep(&mut self, group: &Group<'_>, claims: &Claims, racks: Option<&Racks>) {
        let mut owned = Rows::new(group.members.len(), || {
            (0..group.partitions()).filter_map(|partition| {
                let owner = claims.owner(partition)?;
                let far = racks.is_some_and(|racks| racks.mismatch(owner, partition));
                (!far).then_some((owner, id(partition)))
            })
        });
        let (mut under, mut level) = (Vec::new(), Vec::new());
        for member in table_order(group) {
            let row = owned.row_mut(member);
            let keep = if row.len() < self.floor {
                under.push(id(member));
                row.len()
            } else if row.len() > self.floor && self.extras > 0 {
                self.extras -= 1;
                self.floor + 1
            } else {
                level.push(id(member));
                self.floor
            };
            if keep < row.len() {
                row.sort_by_key(|&partition| (group.number_of(partition as usize), partition));
            }
            for &partition in row.iter().take(keep) {
                self.give(partition as usize, id(member));
            }
        }
        under.sort_unstable();
        level.sort_unstable();
        self.under = under;
        self.level = level.into();
    }

    fn near(&mut self, racks: &Racks, free: &mut Vec<usize>) {
        let rack_count =
            racks.member.iter().filter(|&&rack| rack != NONE).max().map_or(0, |&rack| rack as usize + 1);
        let members = || (0..).zip(&racks.member).filter(|(_, rack)| **rack != NONE);
        let mut residents = vec![0usize; rack_count];
        members().for_each(|(_, &rack)| residents[rack as usize] += 1);
        // The racks of each set where somebody is, and how many that are.
        let sets: Vec<Vec<usize>> = racks
            .sets
            .iter()
            .map(|set| set.iter().map(|&rack| rack as usize).filter(|&rack| rack < rack_count).collect())
            .collect();
        let candidates: Vec<usize> =
            sets.iter().map(|set| set.iter().map(|&rack| residents[rack]).sum()).collect();
        free.sort_by_key(|&partition| candidates[racks.set_of[partition] as usize]);

        let mut under: Vec<Circle> = vec![Circle::default(); rack_count];
        for &member in &self.under {
            if let Some(circle) = under.get_mut(racks.member[member as usize] as usize) {
                circle.members.push(member);
            }
        }
        under.iter_mut().for_each(Circle::close);
        let mut level: Vec<VecDeque<(usize, u32)>> = vec![VecDeque::new(); rack_count];
        let mut arrivals = 0;
        for &member in &self.level {
            if let Some(queue) = level.get_mut(racks.member[member as usize] as usize) {
                queue.push_back((arrivals, member));
            }
            arrivals += 1;
        }

        let mut turn = 0;
        let mut left_level = vec![false; self.count.len()];
        free.retain(|&partition| {
            let set = &sets[racks.set_of[partition] as usize];
            let next = |member: u32| (member < turn, member);
            let found =
                set.iter().filter_map(|&rack| under[rack].next(turn)).min_by_key(|&member| next(member));
            if let Some(member) = found {
                self.give(partition, member);
                turn = member + 1;
                if self.count[member as usize] >= self.floor {
                    let rack = racks.member[member as usize] as usize;
                    under[rack].remove(member);
                    self.level.push_back(member);
                    level[rack].push_back((arrivals, member));
                    arrivals += 1;
                }
                return false;
            }
            if self.extras == 0 {
                return true;
            }
            let Some(&(_, member)) = set.iter().filter_map(|&rack| level[rack].front()).min() else {
                return true;
            };
            level[racks.member[member as usize] as usize].pop_front();
            left_level[member as usize] = true;
            self.give(partition, member);
            self.extras -= 1;
            false
        });
        let (count, floor) = (&self.count, self.floor);
        self.under.retain(|&member| count[member as usize] < floor);
        self.level.retain(|&member| !left_level[member as usize]);
    }

    fn rest(&mut self, free: &[usize]) {
        let mut free = free.iter();
        while !self.under.is_empty() {
            let mut under = std::mem::take(&mut self.under);
            let mut exhausted = false;
            under.retain(|&member| {
                let Some(&partition) = free.next() else {
                    exhausted = true;
                    return false;
                };
                self.give(partition, member);
                let filled = self.count[member as usize] >= self.floor;
                if filled {
                    self.level.push_back(member);
                }
                !filled
            });
            if exhausted {
                return;
            }
            self.under = under;
        }
        for &partition in free {
            let Some(member) = self.level.pop_front() else { return };
            self.give(partition, member);
        }
    }
}

/// The members in the order of Java's hash table of their ids. Kafka walks through it when more members have
/// ⌈P/n⌉ than may keep it; whoever comes first does. Any order would do, but this one gives the same answer.
fn table_order(group: &Group<'_>) -> Vec<usize> {
    // The table doubles when it is three quarters full.
    let slots = (group.members.len() * 4).div_ceil(3).next_power_of_two().max(16);
    let slot = |member: &usize| {
        let units = group.members[*member].member_id.encode_utf16();
        let hash = units.fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)));
        (hash ^ (hash >> 16)) as usize & (slots - 1)
    };
    let mut order: Vec<usize> = (0..group.members.len()).collect();
    order.sort_by_cached_key(slot);
    order
}

/// Members of one rack, from which members are taken out: finds the next one left at or behind a number.
#[derive(Clone, Default)]
struct Circle {
    /// Ascending.
    members: Vec<u32>,
    /// For each place the next one to look at: itself while the member there is left.
    skip: Vec<usize>,
}

impl Circle {
    fn close(&mut self) {
        self.skip = (0..=self.members.len()).collect();
    }

    /// The first place from `at` on where a member is left. Paths are halved on the way, so that this takes
    /// next to no time in the long run.
    fn left(&mut self, at: usize) -> usize {
        let mut at = at;
        while self.skip[at] != at {
            self.skip[at] = self.skip[self.skip[at]];
            at = self.skip[at];
        }
        at
    }

    /// The first member that is left from `member` on, or else the first of all.
    fn next(&mut self, member: u32) -> Option<u32> {
        let at = self.members.partition_point(|&m| m < member);
        let at = self.left(at);
        let at = if at < self.members.len() { at } else { self.left(0) };
        self.members.get(at).copied()
    }

    fn remove(&mut self, member: u32) {
        if let Ok(at) = self.members.binary_search(&member) {
            self.skip[at] = at + 1;
        }
    }
}
