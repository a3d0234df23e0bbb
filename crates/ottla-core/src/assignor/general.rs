//! Sticky, when subscriptions differ.
//!
//! What is best is first of all the balance ([`levels`]); then how few partitions change hands and how few are far
//! from their reader, weighed against each other. Given the sizes that is a flow of least cost:
//!
//! ```text
//! partitions of a kind ──── keep: as many as it had ─────> member ── floor: free ────> sink
//!       └─ move: costs ──> seats of a subscription in a rack ─┘ └─── one more: dear ──────┘
//! ```
//!
//! A *kind* is all partitions that the same subscriptions want and that have replicas in the same racks: which of
//! them somebody gets makes no difference. So the network grows with distinct subscriptions, with racks and with
//! who had what, not with partitions times members.

use std::collections::BTreeMap;

use super::claims::Claims;
use super::flow::Network;
use super::group::{Group, NONE, Rows, id};
use super::levels::{self, Levels};
use super::racks::Racks;

/// A partition changes hands.
const MOVE: i64 = 2 << 22;
/// A partition goes to a member in a rack without a replica of it: worth one move to get rid of, not two.
const FAR: i64 = 3 << 22;
/// The same where that rack has no replicas at all, so that nothing is near: only decides between equals.
const REMOTE: i64 = 1;
/// A member gets more than its floor: outweighs everything else.
const ABOVE_FLOOR: i64 = 1 << 56;

/// With more arcs than this between kinds and seats, racks are not looked at. No real cluster has that many
/// different sets of racks.
const MOST_MOVES: usize = 1 << 23;

pub(super) fn assign(group: &Group<'_>, claims: &Claims, racks: Option<&Racks>) -> Vec<u32> {
    assign_within(MOST_MOVES, group, claims, racks)
}

pub(super) fn assign_within(
    most_moves: usize,
    group: &Group<'_>,
    claims: &Claims,
    racks: Option<&Racks>,
) -> Vec<u32> {
    let audiences = Audiences::new(group);
    let levels = audiences.levels(group);
    let mut places = Places::new(group, &audiences, racks);
    if racks.is_some() && places.moves(&audiences, &levels).nth(most_moves).is_some() {
        places = Places::new(group, &audiences, None);
    }
    let mut owned = Rows::new(group.members.len(), || {
        (0..group.partitions()).filter_map(|partition| Some((claims.owner(partition)?, id(partition))))
    });
    for member in 0..group.members.len() {
        let row = owned.row_mut(member);
        row.sort_unstable_by_key(|&p| (places.kind_of[p as usize], group.number_of(p as usize), p));
    }
    Problem::new(group, &audiences, &levels, &places, &owned).solve(group, &places, &owned)
}

/// Which subscriptions want which topics.
struct Audiences {
    /// Audience of each topic: a set of subscriptions.
    of_topic: Vec<u32>,
    /// The subscriptions in each.
    subscriptions: Rows,
    count: usize,
}

impl Audiences {
    fn new(group: &Group<'_>) -> Self {
        let by_topic = Rows::new(group.topics.len(), || {
            let subscriptions = (0..).zip(&group.subscriptions);
            subscriptions
                .flat_map(|(subscription, topics)| topics.iter().map(move |&topic| (topic, subscription)))
        });
        let mut known: BTreeMap<&[u32], u32> = BTreeMap::new();
        let mut distinct: Vec<&[u32]> = Vec::new();
        let audience = |topic| {
            *known.entry(by_topic.row(topic)).or_insert_with_key(|audience| {
                distinct.push(audience);
                id(distinct.len() - 1)
            })
        };
        let of_topic = (0..group.topics.len()).map(audience).collect();
        let subscriptions = Rows::new(distinct.len(), || {
            (0..)
                .zip(&distinct)
                .flat_map(|(audience, row)| row.iter().map(move |&subscription| (audience, subscription)))
        });
        Self { of_topic, subscriptions, count: distinct.len() }
    }

    fn levels(&self, group: &Group<'_>) -> Levels {
        let mut partitions = vec![0; self.count];
        for (topic, &audience) in group.topics.iter().zip(&self.of_topic) {
            partitions[audience as usize] += id(topic.partitions.len());
        }
        let mut members = vec![0; group.subscriptions.len()];
        group.subscription_of.iter().for_each(|&subscription| members[subscription as usize] += 1);
        levels::best(&partitions, &members, &self.subscriptions)
    }
}

/// Kinds of partitions and seats for members.
struct Places {
    kind_of: Vec<u32>,
    /// Audience and set of racks of each kind.
    kinds: Vec<(u32, u32)>,
    /// The sets of racks, as far as somebody is there.
    near: Vec<Vec<u32>>,
    /// The racks in any of them, ascending.
    served: Vec<u32>,
    seat_of: Vec<u32>,
    /// Subscription and rack of each seat, ascending.
    seats: Vec<(u32, u32)>,
}

impl Places {
    fn new(group: &Group<'_>, audiences: &Audiences, racks: Option<&Racks>) -> Self {
        let mut resident: Vec<u32> = racks.map_or_else(Vec::new, |racks| racks.member.clone());
        resident.sort_unstable();
        resident.dedup();
        let mut near: Vec<Vec<u32>> = Vec::new();
        let mut known = BTreeMap::new();
        // Sets that differ only in racks where nobody is are the same.
        let near_of: Vec<u32> = racks
            .map_or(&[][..], |racks| &racks.sets)
            .iter()
            .map(|set| {
                let set: Vec<u32> =
                    set.iter().copied().filter(|rack| resident.binary_search(rack).is_ok()).collect();
                *known.entry(set).or_insert_with_key(|set| {
                    near.push(set.clone());
                    id(near.len() - 1)
                })
            })
            .collect();
        let mut served: Vec<u32> = near.iter().flatten().copied().collect();
        served.sort_unstable();
        served.dedup();
        let mut known = BTreeMap::new();
        let mut kinds = Vec::new();
        let kind_of = (0..group.partitions())
            .map(|partition| {
                let near = racks.map_or(NONE, |racks| near_of[racks.set_of[partition] as usize]);
                *known.entry((audiences.of_topic[group.topic_of(partition)], near)).or_insert_with_key(
                    |&kind| {
                        kinds.push(kind);
                        id(kinds.len() - 1)
                    },
                )
            })
            .collect();
        let seat =
            |member: usize| (group.subscription_of[member], racks.map_or(NONE, |racks| racks.member[member]));
        let mut seats: Vec<(u32, u32)> = (0..group.members.len()).map(seat).collect();
        seats.sort_unstable();
        seats.dedup();
        let seat_of =
            (0..group.members.len()).map(|member| id(seats.partition_point(|&s| s < seat(member)))).collect();
        Self { kind_of, kinds, near, served, seat_of, seats }
    }

    /// What it costs that somebody in `rack` reads a partition of `kind`.
    fn distance(&self, kind: u32, rack: u32) -> i64 {
        let Some(near) = self.near.get(self.kinds[kind as usize].1 as usize) else { return 0 };
        if rack == NONE || near.binary_search(&rack).is_ok() {
            0
        } else if self.served.binary_search(&rack).is_ok() {
            FAR
        } else {
            REMOTE
        }
    }

    /// Kinds and the seats that may have them in a best balance.
    fn moves(&self, audiences: &Audiences, levels: &Levels) -> impl Iterator<Item = (u32, u32)> {
        (0..).zip(&self.kinds).flat_map(move |(kind, &(audience, _))| {
            let wanting = audiences.subscriptions.row(audience as usize).iter();
            let part = levels.audience[audience as usize];
            wanting.filter(move |&&subscription| levels.subscription[subscription as usize] == part).flat_map(
                move |&subscription| {
                    let first = self.seats.partition_point(|&(s, _)| s < subscription);
                    let seats =
                        (first..self.seats.len()).take_while(move |&seat| self.seats[seat].0 == subscription);
                    seats.map(move |seat| (kind, id(seat)))
                },
            )
        })
    }
}

/// Partitions of one kind that a member had.
struct Kept {
    member: u32,
    /// Where they are in the member's row.
    from: usize,
    to: usize,
    arc: usize,
}

struct Problem {
    network: Network,
    sink: usize,
    /// Kind, seat and arc, by kind.
    moves: Vec<(u32, u32, usize)>,
    kept: Vec<Kept>,
    /// The arc from its seat to each member.
    sits: Vec<usize>,
}

impl Problem {
    fn new(group: &Group<'_>, audiences: &Audiences, levels: &Levels, places: &Places, owned: &Rows) -> Self {
        let (kinds, seats, members) = (places.kinds.len(), places.seats.len(), group.members.len());
        let (first_seat, first_member, sink) = (kinds, kinds + seats, kinds + seats + members);
        let all = id(group.partitions());
        let mut network = Network::new(sink + 1);
        for &kind in &places.kind_of {
            network.supply[kind as usize] += 1;
        }
        let moves: Vec<(u32, u32, usize)> = places
            .moves(audiences, levels)
            .map(|(kind, seat)| {
                let cost = MOVE + places.distance(kind, places.seats[seat as usize].1);
                (kind, seat, network.arc(kind as usize, first_seat + seat as usize, all, cost))
            })
            .collect();
        let mut sits = Vec::with_capacity(members);
        let mut kept = Vec::new();
        for member in 0..members {
            let node = first_member + member;
            let seat = places.seat_of[member];
            sits.push(network.arc(first_seat + seat as usize, node, all, 0));
            let part = levels.subscription[group.subscription_of[member] as usize];
            let Some(&floor) = levels.floor.get(part as usize) else { continue };
            let seated = network.arc(node, sink, floor, 0);
            network.arc(node, sink, 1, ABOVE_FLOOR);
            let mut has = 0;
            let mut from = 0;
            for same in
                owned.row(member).chunk_by(|&a, &b| places.kind_of[a as usize] == places.kind_of[b as usize])
            {
                let to = from + same.len();
                let kind = places.kind_of[same[0] as usize];
                if levels.audience[places.kinds[kind as usize].0 as usize] == part {
                    let distance = places.distance(kind, places.seats[seat as usize].1);
                    let arc = network.arc(kind as usize, node, id(same.len()), distance);
                    if distance == 0 {
                        // The flow starts with this, so that it only has to find what changes.
                        let stays = network.preset(arc, id(same.len()));
                        network.supply[kind as usize] -= stays;
                        has += stays;
                    }
                    kept.push(Kept { member: id(member), from, to, arc });
                }
                from = to;
            }
            network.supply[node] = has - network.preset(seated, has);
        }
        network.finish();
        Self { network, sink, moves, kept, sits }
    }

    fn solve(mut self, group: &Group<'_>, places: &Places, owned: &Rows) -> Vec<u32> {
        self.network.route(self.sink);
        let mut targets = vec![NONE; group.partitions()];
        for kept in &self.kept {
            let stays = self.network.flow(kept.arc) as usize;
            for &partition in owned.row(kept.member as usize)[kept.from..kept.to].iter().take(stays) {
                targets[partition as usize] = kept.member;
            }
        }
        let free = Rows::new(places.kinds.len(), || {
            let free = (0..group.partitions()).filter(|&partition| targets[partition] == NONE);
            free.map(|partition| (places.kind_of[partition], id(partition)))
        });
        let mut tables: Vec<Vec<u32>> = vec![Vec::new(); places.seats.len()];
        for moves in self.moves.chunk_by(|a, b| a.0 == b.0) {
            let shares =
                moves.iter().map(|&(_, seat, arc)| (seat, self.network.flow(arc))).collect::<Vec<_>>();
            for (&partition, seat) in free.row(moves[0].0 as usize).iter().zip(interleave(&shares)) {
                tables[seat as usize].push(partition);
            }
        }
        let sitting = Rows::new(places.seats.len(), || {
            (0..).zip(&places.seat_of).map(|(member, &seat)| (seat, member))
        });
        for (seat, table) in tables.iter().enumerate() {
            let mut partitions = table.iter();
            let mut hungry: Vec<(u32, u32)> =
                sitting.row(seat).iter().map(|&m| (m, self.network.flow(self.sits[m as usize]))).collect();
            loop {
                hungry.retain(|&(_, wants)| wants > 0);
                if hungry.is_empty() {
                    break;
                }
                for (member, wants) in &mut hungry {
                    *wants -= 1;
                    if let Some(&partition) = partitions.next() {
                        targets[partition as usize] = *member;
                    }
                }
            }
        }
        targets
    }
}

/// Each seat as often as its share says, spread evenly, so that no topic goes to one seat alone.
fn interleave(shares: &[(u32, u32)]) -> impl Iterator<Item = u32> {
    let mut turns: Vec<(u64, u32)> = Vec::new();
    for &(seat, share) in shares {
        turns.extend((0..u64::from(share)).map(|turn| (((2 * turn + 1) << 31) / u64::from(share), seat)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, seat)| seat)
}
