//! The range assignor: consecutive partitions of each topic to each member.

use super::group::{Group, NONE, Rows};
use super::racks::Racks;

/// Topic by topic, `partitions / members` each, one more for the first `partitions mod members`, static members
/// first.
///
/// With racks (KIP-881), topics with the same subscribers and as many partitions stay co-partitioned: a
/// partition number goes to the first member with room that is near that partition in *every* such topic. A
/// topic that has no such company gives each member what is near it, up to its share. The rest is dealt as
/// without racks.
pub(super) fn assign(group: &Group<'_>, racks: Option<&Racks>) -> Vec<u32> {
    let order = group.static_first();
    let subscribers = group.subscribers(&order);
    let mut targets = vec![NONE; group.partitions()];
    let mut shares: Vec<Shares> = Vec::with_capacity(group.topics.len());
    for (index, topic) in group.topics.iter().enumerate() {
        shares.push(Shares::new(topic.partitions.len(), subscribers.row(index).len()));
    }
    if let Some(racks) = racks {
        let needs: Vec<bool> = (0..group.topics.len())
            .map(|topic| {
                let near = subscribers.row(topic).iter().map(|&member| racks.member[member as usize]);
                racks.matter_to(near, &racks.set_of[group.partitions_of(topic)])
            })
            .collect();
        if needs.iter().any(|&needs| needs) {
            for company in companies(group, &subscribers) {
                match company.as_slice() {
                    [topic] if needs[*topic] => {
                        let row = subscribers.row(*topic);
                        let partitions = group.partitions_of(*topic);
                        give_near(racks, row, partitions, &mut shares[*topic], &mut targets);
                    }
                    [_] | [] => {}
                    [first, ..] => {
                        let row = subscribers.row(*first);
                        give_co_partitioned(group, racks, row, &company, &mut shares, &mut targets);
                    }
                }
            }
        }
    }
    for (topic, shares) in shares.iter_mut().enumerate() {
        let mut free =
            group.partitions_of(topic).filter(|&p| targets[p] == NONE).collect::<Vec<_>>().into_iter();
        for (at, &member) in subscribers.row(topic).iter().enumerate() {
            let room = shares.room(at);
            let taken = free.by_ref().take(room).map(|partition| targets[partition] = member).count();
            shares.take(at, taken);
        }
    }
    targets
}

/// Topics by subscribers and number of partitions.
fn companies(group: &Group<'_>, subscribers: &Rows) -> Vec<Vec<usize>> {
    let key = |topic: usize| (group.topics[topic].partitions.len(), subscribers.row(topic));
    let mut topics: Vec<usize> = (0..group.topics.len()).collect();
    topics.sort_by(|&a, &b| key(a).cmp(&key(b)));
    topics.chunk_by(|&a, &b| key(a) == key(b)).map(<[usize]>::to_vec).collect()
}

/// How much each subscriber of a topic may still get. Subscribers go by their place in the topic's row.
#[derive(Clone)]
struct Shares {
    floor: usize,
    /// How many members may still get one more than `floor`.
    extras: usize,
    taken: Vec<usize>,
}

impl Shares {
    fn new(partitions: usize, members: usize) -> Self {
        let floor = partitions.checked_div(members).unwrap_or(0);
        Self { floor, extras: partitions - floor * members, taken: vec![0; members] }
    }

    fn room(&self, member: usize) -> usize {
        (self.floor + usize::from(self.extras > 0)).saturating_sub(self.taken[member])
    }

    /// `member` got `count`, at most what there was [`room`](Self::room) for.
    fn take(&mut self, member: usize, count: usize) {
        self.taken[member] += count;
        if count > 0 && self.taken[member] > self.floor {
            self.extras -= 1;
        }
    }
}

/// Members of a row by rack, each list in order, with how far it is used up. Room only shrinks, so what was
/// passed once is never looked at again.
struct ByRack {
    /// Rack, places in the row.
    lists: Vec<(u32, Vec<usize>, usize)>,
}

impl ByRack {
    fn new(racks: &Racks, row: &[u32]) -> Self {
        let mut places: Vec<(u32, usize)> =
            row.iter().enumerate().map(|(at, &member)| (racks.member[member as usize], at)).collect();
        places.sort_unstable();
        let lists = places.chunk_by(|a, b| a.0 == b.0);
        Self { lists: lists.map(|list| (list[0].0, list.iter().map(|&(_, at)| at).collect(), 0)).collect() }
    }

    /// The first member with room in a rack that is `near`.
    fn first(&mut self, shares: &Shares, near: impl Fn(u32) -> bool) -> Option<usize> {
        let mut first = None;
        for (rack, list, used) in &mut self.lists {
            if *rack != NONE && !near(*rack) {
                continue;
            }
            while list.get(*used).is_some_and(|&at| shares.room(at) == 0) {
                *used += 1;
            }
            first = match (first, list.get(*used)) {
                (Some(a), Some(&b)) => Some(if b < a { b } else { a }),
                (a, b) => a.or_else(|| b.copied()),
            };
        }
        first
    }
}

/// Partition p of all topics of `company` to the first member that is near all of them.
fn give_co_partitioned(
    group: &Group<'_>,
    racks: &Racks,
    row: &[u32],
    company: &[usize],
    shares: &mut [Shares],
    targets: &mut [u32],
) {
    let Some(&first) = company.first() else { return };
    let mut common = shares[first].clone();
    let mut members = ByRack::new(racks, row);
    for number in 0..group.partitions_of(first).len() {
        let partitions = company.iter().map(|&topic| group.partitions_of(topic).start + number);
        let near = |rack| partitions.clone().all(|partition| racks.holds(racks.set_of[partition], rack));
        if let Some(at) = members.first(&common, near) {
            partitions.clone().for_each(|partition| targets[partition] = row[at]);
            common.take(at, 1);
        }
    }
    company.iter().for_each(|&topic| shares[topic] = common.clone());
}

/// To each member in turn what is near it, up to its share.
fn give_near(
    racks: &Racks,
    row: &[u32],
    partitions: std::ops::Range<usize>,
    shares: &mut Shares,
    targets: &mut [u32],
) {
    let mut lists = ByRack::new(racks, row).lists;
    // From here on the lists hold partitions: those near each rack, and how far they are given away.
    for (rack, list, _) in &mut lists {
        list.clear();
        list.extend(partitions.clone().filter(|&p| *rack == NONE || racks.holds(racks.set_of[p], *rack)));
    }
    for (at, &member) in row.iter().enumerate() {
        let rack = racks.member[member as usize];
        let Ok(found) = lists.binary_search_by_key(&rack, |list| list.0) else { continue };
        let (_, list, used) = &mut lists[found];
        let room = shares.room(at);
        let mut taken = 0;
        while taken < room
            && let Some(&partition) = list.get(*used)
        {
            *used += 1;
            if targets[partition] == NONE {
                targets[partition] = member;
                taken += 1;
            }
        }
        shares.take(at, taken);
    }
}
