//! The best balance that differing subscriptions allow.
//!
//! Among all ways to assign partitions there is one vector of sizes (up to who has which) that is best by every
//! measure of balance at once: nobody can get more evenly served without somebody who has less losing something.
//! It is found by dividing. Let everybody in a part have the average, rounded down: if a flow can fill them all,
//! and with one more each can take everything, then the part is balanced: all its members get the average,
//! rounded down or up. If not, what the flow could not place shows a cut: some topics crowd the members on their
//! side, whose members all get more than the others, and nothing crosses the cut in any best assignment. Both
//! sides are parts of their own, with an average further away, so the depth is logarithmic.

use super::flow::Network;
use super::group::{NONE, Rows, id};

/// The parts into which topics and subscriptions fall, and the size of members in each.
#[derive(Debug)]
pub(super) struct Levels {
    /// Part of each audience.
    pub(super) audience: Vec<u32>,
    /// Part of each subscription; [`NONE`] for one without topics.
    pub(super) subscription: Vec<u32>,
    /// How many partitions a member of each part gets at least. It gets one more at most.
    pub(super) floor: Vec<u32>,
}

/// `partitions` counts those of each audience (a set of subscriptions that wants the same topics), `members`
/// those with each subscription; `wanted_by` has the subscriptions of each audience.
pub(super) fn best(partitions: &[u32], members: &[u32], wanted_by: &Rows) -> Levels {
    let mut levels = Levels {
        audience: vec![NONE; partitions.len()],
        subscription: vec![NONE; members.len()],
        floor: Vec::new(),
    };
    let mut wants = vec![false; members.len()];
    (0..partitions.len())
        .flat_map(|audience| wanted_by.row(audience))
        .for_each(|&s| wants[s as usize] = true);
    let all_wanting = (0..members.len()).filter(|&subscription| wants[subscription]).collect();
    let mut parts: Vec<(Vec<usize>, Vec<usize>)> = vec![((0..partitions.len()).collect(), all_wanting)];
    let mut node_of = vec![usize::MAX; members.len()];
    while let Some((audiences, subscriptions)) = parts.pop() {
        let supply: u32 = audiences.iter().map(|&audience| partitions[audience]).sum();
        let size: u32 = subscriptions.iter().map(|&subscription| members[subscription]).sum();
        if size == 0 {
            continue;
        }
        let floor = supply / size;
        let sink = audiences.len() + subscriptions.len();
        let mut network = Network::new(sink + 1);
        let mut seats = Vec::with_capacity(subscriptions.len());
        for (node, &subscription) in (audiences.len()..).zip(&subscriptions) {
            node_of[subscription] = node;
            seats.push(network.arc(node, sink, floor * members[subscription], 0));
        }
        for (node, &audience) in audiences.iter().enumerate() {
            network.supply[node] = partitions[audience];
            for &subscription in wanted_by.row(audience) {
                if node_of[subscription as usize] != usize::MAX {
                    network.arc(node, node_of[subscription as usize], supply, 0);
                }
            }
        }
        subscriptions.iter().for_each(|&subscription| node_of[subscription] = usize::MAX);
        network.finish();
        network.route(sink);
        let mut balanced = seats.iter().all(|&seat| network.is_full(seat));
        if balanced {
            for (&seat, &subscription) in seats.iter().zip(&subscriptions) {
                network.widen(seat, members[subscription]);
            }
            network.route(sink);
            balanced = network.supply.iter().all(|&left| left == 0);
        }
        if balanced {
            let part = id(levels.floor.len());
            audiences.iter().for_each(|&audience| levels.audience[audience] = part);
            subscriptions.iter().for_each(|&subscription| levels.subscription[subscription] = part);
            levels.floor.push(floor);
            continue;
        }
        let crowded = network.reachable();
        let (mut dense, mut sparse) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (node, &audience) in audiences.iter().enumerate() {
            if crowded[node] { &mut dense.0 } else { &mut sparse.0 }.push(audience);
        }
        for (node, &subscription) in (audiences.len()..).zip(&subscriptions) {
            if crowded[node] { &mut dense.1 } else { &mut sparse.1 }.push(subscription);
        }
        parts.extend([dense, sparse]);
    }
    levels
}
