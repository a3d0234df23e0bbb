//! The round robin assignor: partitions are dealt like cards.

use super::group::{Group, NONE, id};

/// Deals the partitions of all topics, in order, over the members, static ones first. Who is not subscribed to a
/// topic is passed over; the deal goes on behind who got the last card.
pub(super) fn assign(group: &Group<'_>) -> Vec<u32> {
    let order = group.static_first();
    let mut rank = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &member)| rank[member as usize] = id(at));
    let subscribers = group.subscribers(&order);
    let mut targets = vec![NONE; group.partitions()];
    let mut turn = 0;
    for topic in 0..group.topics.len() {
        let row = subscribers.row(topic);
        let mut next = row.partition_point(|&member| rank[member as usize] < turn);
        for target in &mut targets[group.partitions_of(topic)] {
            let Some(&member) = row.get(next).or_else(|| row.first()) else { break };
            next = if next < row.len() { next + 1 } else { 1 };
            *target = member;
            turn = rank[member as usize] + 1;
        }
    }
    targets
}
