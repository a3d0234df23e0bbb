//! The network between the members and the brokers: what is under way, what ends, and how long that takes.

use super::*;

impl World {
    /// Something happens to the network.
    /// Gives it a number.
    pub fn weather(&mut self, condition: Condition) -> u64 {
        self.conditions.add(condition)
    }

    /// From now on the connections of this node end without a word, or no more.
    pub fn silence(&mut self, node: i32, yes: bool) {
        if yes {
            self.silent.insert(node);
        } else {
            self.silent.remove(&node);
        }
    }

    /// The open connections that these are: of which member, to which node.
    pub(in super::super) fn links_of(&self, which: impl Fn(&Link) -> bool) -> Vec<BrokerConn> {
        self.links.iter().filter(|(_, l)| l.open && which(l)).map(|(c, _)| *c).collect()
    }

    /// Whether somebody has a connection whose other end is gone without a word.
    pub(in super::super) fn is_cut(&self) -> bool {
        self.links.values().any(|l| l.open && l.half_open)
    }

    /// How many connections a member has, those that are being made among them.
    pub fn sockets(&self, id: MemberId) -> usize {
        let first = ConnectionId(0);
        let from = (id, first);
        self.ids.range(from..).take_while(|((m, _), _)| *m == id).count()
            + self.connecting.range(from..).take_while(|(m, _)| *m == id).count()
    }

    /// Breaks a connection: the client gets some of what is on its way, cut anywhere, and then a reset.
    pub(in super::super) fn reset(&mut self, link: BrokerConn) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if l.coming > 0 && l.left.is_none() {
            l.left = Some(self.rng.below(l.coming as u64 + 1) as usize);
        }
        let at = l.after(true, self.now + Duration::from_micros(10));
        self.cluster.handle_closed(broker_time(self.now), link);
        self.queue.push(at, Wire::Closed { link });
    }

    /// The broker's end of these connections is gone, and nobody tells the client.
    pub(in super::super) fn half_open(&mut self, link: BrokerConn) {
        let Some(l) = self.links.get_mut(&link) else { return };
        l.half_open = true;
        self.cluster.handle_closed(broker_time(self.now), link);
    }

    pub(super) fn unlink(&mut self, link: BrokerConn) {
        if let Some(l) = self.links.get_mut(&link) {
            l.open = false;
            self.ids.remove(&(l.member, l.conn));
        }
    }

    pub(super) fn latency(&mut self) -> Duration {
        Duration::from_micros(100 + self.rng.below(900))
    }

    /// Puts bytes on their way, cut anywhere, in order.
    pub(super) fn send(&mut self, link: BrokerConn, bytes: &Bytes, to_client: bool) {
        let Some((member, node)) = self.links.get(&link).map(|l| (l.member, l.node)) else { return };
        let verdict = self.conditions.judge(self.now, (member, node, to_client), &mut self.rng);
        let dribble = self.dribble || verdict.dribble;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let cut = if dribble {
                1
            } else if self.rng.below(8) == 0 {
                1 + self.rng.below(rest.len() as u64) as usize
            } else {
                rest.len()
            };
            let bytes = rest.split_to(cut);
            let mut at = verdict.not_before + verdict.later + self.latency();
            let Some(l) = self.links.get_mut(&link) else { return };
            if to_client {
                l.coming += cut;
            }
            if let Some(rate) = verdict.rate {
                let busy = &mut l.busy[usize::from(to_client)];
                *busy =
                    (*busy).max(self.now) + Duration::from_nanos(cut as u64 * 1_000_000_000 / rate.max(1));
                at = at.max(*busy);
            }
            let at = l.after(to_client, at);
            let wire =
                if to_client { Wire::ToClient { link, bytes } } else { Wire::ToBroker { link, bytes } };
            self.queue.push(at, wire);
        }
    }
}
