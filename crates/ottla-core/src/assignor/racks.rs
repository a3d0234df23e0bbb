//! Who is near what (KIP-881).

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, NONE, id};

/// Racks of members and partitions. Exists only where a member has a rack.
pub(super) struct Racks {
    /// Rack of each member, or [`NONE`].
    pub(super) member: Vec<u32>,
    /// Which of `sets` each partition has.
    pub(super) set_of: Vec<u32>,
    /// The distinct sets of racks with a replica, ascending.
    pub(super) sets: Vec<Vec<u32>>,
}

impl Racks {
    /// The racks of `group`, if any member has one.
    pub(super) fn of(group: &Group<'_>) -> Option<Self> {
        let name_of =
            |member: usize| group.members[member].rack_id.as_deref().filter(|name| !name.is_empty());
        if (0..group.members.len()).all(|member| name_of(member).is_none()) {
            return None;
        }
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        let mut intern = |name| {
            let next = id(names.len());
            *names.entry(name).or_insert(next)
        };
        let member =
            (0..group.members.len()).map(|member| name_of(member).map_or(NONE, &mut intern)).collect();
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut sets = Vec::new();
        let mut set_of = Vec::with_capacity(group.partitions());
        let mut racks = Vec::new();
        for partition in group.topics.iter().flat_map(|topic| &topic.partitions) {
            racks.clear();
            racks.extend(partition.racks.iter().map(|name| intern(name)));
            racks.sort_unstable();
            racks.dedup();
            let set = known.get(&racks).copied().unwrap_or_else(|| {
                known.insert(racks.clone(), id(sets.len()));
                sets.push(racks.clone());
                id(sets.len() - 1)
            });
            set_of.push(set);
        }
        Some(Self { member, set_of, sets })
    }

    /// Whether a replica of a partition with the racks of `set` is in `rack`.
    pub(super) fn holds(&self, set: u32, rack: u32) -> bool {
        self.sets[set as usize].binary_search(&rack).is_ok()
    }

    /// Whether `member` has a rack and `partition` no replica in it.
    pub(super) fn mismatch(&self, member: u32, partition: usize) -> bool {
        let rack = self.member[member as usize];
        rack != NONE && !self.holds(self.set_of[partition], rack)
    }

    /// Whether racks make a difference to anybody.
    pub(super) fn matter(&self) -> bool {
        self.matter_to(self.member.iter().copied(), &self.set_of)
    }

    /// Whether racks make a difference to members in `racks` for partitions with `sets`: some member shares a
    /// rack with some partition, and not every partition is in every rack that there is.
    pub(super) fn matter_to(&self, racks: impl Iterator<Item = u32>, sets: &[u32]) -> bool {
        let distinct: BTreeSet<u32> = sets.iter().copied().collect();
        let all: BTreeSet<u32> = distinct.iter().flat_map(|&set| &self.sets[set as usize]).copied().collect();
        let mut racks = racks;
        racks.any(|rack| all.contains(&rack))
            && distinct.iter().any(|&set| self.sets[set as usize].len() != all.len())
    }
}
