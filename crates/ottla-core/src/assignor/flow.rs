//! Flows of least cost through a network: successive shortest paths, many at a time.
//!
//! Each round finds the distances of all nodes (Dijkstra on reduced costs), then sends as much as fits along
//! the arcs that lie on shortest paths (Dinic's blocking flows). So rounds are counted by distinct path costs,
//! of which there are few here, not by partitions. Nothing recurses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A network with supplies at its nodes and one sink. Arcs come in pairs: arc `a ^ 1` leads back and has as much
/// room as arc `a` carries.
#[derive(Debug, Default)]
pub(super) struct Network {
    to: Vec<u32>,
    room: Vec<u32>,
    cost: Vec<i64>,
    /// What still has to leave each node.
    pub(super) supply: Vec<u32>,
    potential: Vec<i64>,
    /// Arcs by the node that they leave.
    start: Vec<usize>,
    out: Vec<u32>,
}

const FAR: i64 = i64::MAX;
const UNSEEN: u32 = u32::MAX;

impl Network {
    /// A network of `nodes` nodes without arcs and supplies.
    pub(super) fn new(nodes: usize) -> Self {
        Self { supply: vec![0; nodes], potential: vec![0; nodes], ..Self::default() }
    }

    /// Adds an arc, to be known by what is returned. Costs are not negative.
    pub(super) fn arc(&mut self, from: usize, to: usize, capacity: u32, cost: i64) -> usize {
        let arc = self.to.len();
        self.to.extend([to as u32, from as u32]);
        self.room.extend([capacity, 0]);
        self.cost.extend([cost, -cost]);
        arc
    }

    /// What goes through `arc`.
    pub(super) fn flow(&self, arc: usize) -> u32 {
        self.room[arc ^ 1]
    }

    /// Makes room for `more` through `arc`.
    pub(super) fn widen(&mut self, arc: usize, more: u32) {
        self.room[arc] = self.room[arc].saturating_add(more);
    }

    /// Sends up to `amount` through `arc` without asking where it comes from, and returns how much it was. Only
    /// before anything was routed, and only where the arc costs nothing.
    pub(super) fn preset(&mut self, arc: usize, amount: u32) -> u32 {
        let amount = amount.min(self.room[arc]);
        self.room[arc] -= amount;
        self.room[arc ^ 1] += amount;
        amount
    }

    /// Whether `arc` has no room left.
    pub(super) fn is_full(&self, arc: usize) -> bool {
        self.room[arc] == 0
    }

    /// To be called when all arcs are there.
    pub(super) fn finish(&mut self) {
        let nodes = self.supply.len();
        self.start = vec![0; nodes + 1];
        for arc in 0..self.to.len() {
            self.start[self.to[arc ^ 1] as usize + 1] += 1;
        }
        for node in 0..nodes {
            self.start[node + 1] += self.start[node];
        }
        let mut next = self.start.clone();
        self.out = vec![0; self.to.len()];
        for arc in 0..self.to.len() {
            let from = self.to[arc ^ 1] as usize;
            self.out[next[from]] = arc as u32;
            next[from] += 1;
        }
    }

    /// The nodes that what is left of the supplies could still go to.
    pub(super) fn reachable(&self) -> Vec<bool> {
        let mut seen: Vec<bool> = self.supply.iter().map(|&supply| supply > 0).collect();
        let mut open: Vec<usize> = (0..seen.len()).filter(|&node| seen[node]).collect();
        while let Some(node) = open.pop() {
            for &arc in &self.out[self.start[node]..self.start[node + 1]] {
                let to = self.to[arc as usize] as usize;
                if self.room[arc as usize] > 0 && !seen[to] {
                    seen[to] = true;
                    open.push(to);
                }
            }
        }
        seen
    }

    /// Sends as much of the supplies to `sink` as fits, at the least cost.
    pub(super) fn route(&mut self, sink: usize) {
        while self.measure(sink) {
            while let Some(level) = self.levels(sink) {
                self.block(sink, &level);
            }
        }
    }

    fn reduced_cost(&self, arc: usize) -> i64 {
        self.cost[arc] + self.potential[self.to[arc ^ 1] as usize] - self.potential[self.to[arc] as usize]
    }

    /// Brings the potentials up to date with the distances from the supplies. False when `sink` cannot be reached.
    fn measure(&mut self, sink: usize) -> bool {
        let mut distance = vec![FAR; self.supply.len()];
        let mut open = BinaryHeap::new();
        // Nodes at the distance in hand need no heap.
        let mut here: Vec<u32> = Vec::new();
        for (node, _) in self.supply.iter().enumerate().filter(|(_, supply)| **supply > 0) {
            distance[node] = 0;
            here.push(node as u32);
        }
        let mut now = 0;
        loop {
            let node = match here.pop() {
                Some(node) => node as usize,
                None => match open.pop() {
                    Some(Reverse((far, node))) => {
                        if distance[node as usize] != far || distance[sink] <= far {
                            if distance[sink] <= far {
                                break;
                            }
                            continue;
                        }
                        now = far;
                        node as usize
                    }
                    None => break,
                },
            };
            for &arc in &self.out[self.start[node]..self.start[node + 1]] {
                let arc = arc as usize;
                if self.room[arc] == 0 {
                    continue;
                }
                let to = self.to[arc] as usize;
                let far = now + self.reduced_cost(arc);
                if far < distance[to] {
                    distance[to] = far;
                    if far == now {
                        here.push(to as u32);
                    } else {
                        open.push(Reverse((far, to as u32)));
                    }
                }
            }
        }
        let limit = distance[sink];
        if limit == FAR {
            return false;
        }
        for (potential, distance) in self.potential.iter_mut().zip(distance) {
            *potential += distance.min(limit);
        }
        true
    }

    /// How many arcs each node is from the supplies over arcs on shortest paths. None when `sink` is cut off.
    fn levels(&self, sink: usize) -> Option<Vec<u32>> {
        let mut level = vec![UNSEEN; self.supply.len()];
        let mut queue: Vec<u32> = Vec::new();
        for (node, _) in self.supply.iter().enumerate().filter(|(_, supply)| **supply > 0) {
            level[node] = 0;
            queue.push(node as u32);
        }
        let mut at = 0;
        while let Some(&node) = queue.get(at) {
            at += 1;
            let node = node as usize;
            if level[sink] != UNSEEN && level[node] >= level[sink] {
                break;
            }
            for &arc in &self.out[self.start[node]..self.start[node + 1]] {
                let to = self.to[arc as usize] as usize;
                if level[to] == UNSEEN && self.room[arc as usize] > 0 && self.reduced_cost(arc as usize) == 0
                {
                    level[to] = level[node] + 1;
                    queue.push(to as u32);
                }
            }
        }
        (level[sink] != UNSEEN).then_some(level)
    }

    /// Sends what fits along paths that go up by one level with every arc.
    fn block(&mut self, sink: usize, level: &[u32]) {
        let mut cursor = self.start.clone();
        let mut path: Vec<usize> = Vec::new();
        for source in 0..self.supply.len() {
            path.clear();
            let mut node = source;
            while self.supply[source] > 0 {
                if node == sink {
                    let fits =
                        path.iter().map(|&arc| self.room[arc]).min().unwrap_or(0).min(self.supply[source]);
                    self.supply[source] -= fits;
                    for &arc in &path {
                        self.room[arc] -= fits;
                        self.room[arc ^ 1] += fits;
                    }
                    // Go on from where the path is full now.
                    let full = path.iter().position(|&arc| self.room[arc] == 0).unwrap_or(0);
                    node = path.get(full).map_or(source, |&arc| self.to[arc ^ 1] as usize);
                    path.truncate(full);
                    continue;
                }
                let onward = (cursor[node]..self.start[node + 1]).find(|&at| {
                    let arc = self.out[at] as usize;
                    let to = self.to[arc] as usize;
                    level[to] == level[node].wrapping_add(1)
                        && self.room[arc] > 0
                        && self.reduced_cost(arc) == 0
                });
                if let Some(at) = onward {
                    cursor[node] = at;
                    let arc = self.out[at] as usize;
                    path.push(arc);
                    node = self.to[arc] as usize;
                } else {
                    cursor[node] = self.start[node + 1];
                    let Some(arc) = path.pop() else { break };
                    node = self.to[arc ^ 1] as usize;
                    cursor[node] += 1;
                }
            }
        }
    }
}
