//! The oracle: a ghost state fed from what producers wrote, what the coordinator took, and what users did and were
//! given. It never asks a client what it thinks.
//!
//! The invariants are those of the project's list, in [`INVARIANTS`]; each failure names its own.

mod claims;
mod commits;
mod invariants;
mod log;
mod member;
mod promises;
mod rates;
mod spans;
#[cfg(test)]
mod tests;
mod truncation;
mod turns;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_broker::GroupState;
use ottla_broker::sim::Cluster;
use ottla_core::{Timestamp, TopicPartition};

use super::{MemberId, World};
pub use commits::group_of_hand;
pub use invariants::INVARIANTS;
pub use log::{Entry, GhostLog, Kind};
pub use member::Traits;
use member::{Committed, GhostMember};
use promises::Handover;
use rates::Rates;
pub use spans::content;
pub use users::Sought;

/// The group that all members of a simulation are in.
pub const GROUP: &str = "g";

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name: `S3`.
    pub invariant: &'static str,
    /// What happened.
    pub text: String,
}

impl Violation {
    /// Whether this is the same but for numbers.
    pub fn is_like(&self, other: &Self) -> bool {
        let words =
            |text: &str| text.split(|c: char| !c.is_alphabetic()).map(str::to_owned).collect::<Vec<_>>();
        self.invariant == other.invariant && words(&self.text) == words(&other.text)
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

/// Whether members have what the group says that they have, or are on their way there.
fn is_settled(state: GroupState) -> bool {
    matches!(state, GroupState::Stable | GroupState::Reconciling | GroupState::Assigning)
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Oracle {
    logs: BTreeMap<TopicPartition, GhostLog>,
    members: Vec<GhostMember>,
    /// What the group has committed, from when on.
    committed: Committed,
    /// The last of them that says nothing of the leader epoch before it: whoever begins there cannot be told of a cut.
    bare: BTreeMap<TopicPartition, i64>,
    seen_commits: usize,
    /// Members by the ids that the coordinator gave them.
    ids: BTreeMap<String, usize>,
    /// Who owns what by the coordinator's word.
    owners: BTreeMap<TopicPartition, usize>,
    /// Who did last, where nobody does at the moment.
    last_owners: BTreeMap<TopicPartition, usize>,
    group: Option<(GroupState, i32, usize)>,
    turns: turns::Turns,
    /// The last that was complete.
    generation: Option<i32>,
    /// Generations after the first.
    pub rebalances: u64,
    rates: Rates,
    violation: Option<Violation>,
    /// Records handed out.
    pub given: u64,
    /// Commits that the coordinator took.
    pub commits: u64,
    /// Positions that the policy chose.
    pub resets: u64,
    /// When members have asked where partitions end.
    ends_asked: BTreeMap<(usize, TopicPartition), Vec<Timestamp>>,
    /// Members whose partitions the coordinator has moved: all of theirs, or this one.
    moved: Vec<(usize, Option<TopicPartition>)>,
    /// A member is known to the group whose id is not known here.
    look_again: bool,
    /// A member that takes the place of another: the group looks the same with it.
    watched: Option<usize>,
    now: Timestamp,
    rebalanced_at: Timestamp,
    /// Something goes wrong, or did, until then.
    disturbed_until: Timestamp,
    /// The same, where it concerns everybody.
    troubled_until: Timestamp,
    /// When something went wrong: from, to, in order.
    disturbances: Vec<(Timestamp, Timestamp)>,
    /// What comes from brokers may be nonsense.
    damaged: bool,
    /// They may refuse somebody for good.
    refuses: bool,
    /// Partitions that were given back in order and not read since.
    handovers: BTreeMap<TopicPartition, Handover>,
}

impl Oracle {
    /// The first invariant that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// An invariant does not hold.
    pub fn fail(&mut self, invariant: &'static str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, text });
        }
    }

    /// The ghost of a partition's log.
    pub fn log(&mut self, tp: &TopicPartition) -> &mut GhostLog {
        if !self.logs.contains_key(tp) {
            self.logs.insert(tp.clone(), GhostLog::default());
        }
        self.logs.get_mut(tp).expect("it was put there")
    }

    /// All logs.
    pub fn logs(&self) -> impl Iterator<Item = (&TopicPartition, &GhostLog)> {
        self.logs.iter()
    }

    /// The partitions that there are.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.logs.iter().filter(|(_, log)| !log.deleted).map(|(tp, _)| tp)
    }

    /// What is committed for the group that this member commits for.
    fn committed_of(&self, id: MemberId) -> &Committed {
        let member = &self.members[id.0];
        if member.traits.by_hand { &member.committed } else { &self.committed }
    }

    /// The first record that the member has not got to.
    pub fn unread(&self, id: MemberId) -> Option<String> {
        let member = &self.members[id.0];
        self.logs.iter().filter(|(_, log)| !log.deleted).find_map(|(tp, log)| {
            let from =
                member.spans.get(tp).map_or(0, |s| s.cut.map_or(s.position, |cut| cut.min(s.position)));
            let offset = log.visible_in(from, log.end, member.traits.read_committed)?;
            Some(format!("{id} has not got to {tp} offset {offset}"))
        })
    }

    /// A topic is gone.
    pub fn topic_deleted(&mut self, topic: &str) {
        for (_, log) in self.logs.iter_mut().filter(|(tp, _)| tp.topic() == topic) {
            log.deleted = true;
        }
    }

    /// A topic is gone, and there is another one of its name, with so many partitions.
    pub fn topic_recreated(&mut self, now: Timestamp, topic: &str, partitions: i32) {
        let of_it = |tp: &TopicPartition| tp.topic() == topic;
        let former = self.logs.iter().filter(|(tp, _)| of_it(tp)).map(|(_, log)| log.former).max();
        let former = former.unwrap_or(0) + 1;
        for (tp, log) in self.logs.iter_mut().filter(|(tp, log)| of_it(tp) && !log.deleted) {
            log.replaced(now, former);
            log.deleted = tp.partition() >= partitions;
            // The offsets of the former one go with it.
            self.committed.remove(tp);
            self.bare.remove(tp);
            self.handovers.remove(tp);
            self.members.iter_mut().for_each(|member| drop(member.committed.remove(tp)));
        }
        for partition in 0..partitions {
            let tp = TopicPartition::new(topic, partition);
            let log = self.log(&tp);
            if log.former < former {
                log.replaced(now, former);
            }
        }
    }

    /// A member starts.
    pub fn joined(&mut self, now: Timestamp, traits: Traits) {
        self.members.push(GhostMember::new(traits, now));
    }

    /// A member is gone, killed or closed.
    pub fn gone(&mut self, id: MemberId) {
        let (now, member) = (self.now, &mut self.members[id.0]);
        member.alive = false;
        member.owned.clear();
        let open: Vec<TopicPartition> = member.spans.keys().cloned().collect();
        open.iter().for_each(|tp| member.end_span(now, tp));
    }

    /// A record that nobody has finished with although somebody should have.
    pub fn missing(&self) -> Option<String> {
        let read_committed = self.members.first().is_some_and(|m| m.traits.read_committed);
        self.logs.iter().find_map(|(tp, log)| {
            let entry = log.missing(read_committed)?;
            let state =
                if entry.delivered { "was handed out and not finished" } else { "was never handed out" };
            Some(format!("{tp} offset {} {state}; the log is {}..{}", entry.offset, log.start, log.end))
        })
    }

    /// Looks at everything that may have changed in the brokers. Called after every step.
    pub fn observe(&mut self, world: &World) {
        self.now = world.now();
        self.observe_commits(world.now(), &world.cluster);
        self.observe_group(world.now(), &world.cluster);
        self.observe_requests(world.now(), &world.cluster);
        self.observe_connects(world);
    }

    /// Who is a member and who owns what by the coordinator's word.
    fn observe_group(&mut self, now: Timestamp, cluster: &Cluster) {
        let summary = cluster.group_summary(GROUP);
        let watched =
            self.watched.is_some_and(|id| self.members[id].alive && self.members[id].out_since.is_some());
        // In a consumer group (KIP-848) partitions change hands one by one, at no particular moment.
        let moving = summary.is_some_and(|(state, ..)| state == GroupState::Reconciling);
        if summary == self.group && !self.look_again && !watched && !moving {
            return;
        }
        self.group = summary;
        self.look_again = false;
        let Some(group) = cluster.group(GROUP) else { return };
        self.turns.observe(now, &group);
        let number = |client: &str| client.strip_prefix('m').and_then(|n| n.parse::<usize>().ok());
        let mut inside = vec![false; self.members.len()];
        for member in &group.members {
            let Some(id) = number(&member.client_id) else { continue };
            if !self.ids.contains_key(&member.member_id) {
                self.ids.insert(member.member_id.clone(), id);
            }
            // Its id is its own for life (KIP-1082), where it chooses it.
            let chosen = member.session_timeout.is_zero() && member.group_instance_id.is_none();
            if let Some(known) = inside.get_mut(id)
                && std::mem::replace(known, true)
                && chosen
            {
                self.fail("S7", format!("the group has two members of m{id}"));
            }
        }
        for (member, inside) in self.members.iter_mut().zip(inside) {
            match (inside, member.out_since) {
                (true, _) => member.out_since = None,
                (false, None) => member.out_since = Some(now),
                (false, Some(_)) => {}
            }
        }
        if is_settled(group.state) {
            // The same generation may be looked at again and again, for other reasons.
            if self.generation != Some(group.generation) {
                self.rebalances += u64::from(self.generation.is_some());
                self.generation = Some(group.generation);
                self.rebalanced_at = now;
                let everybody = group.members.iter().filter_map(|m| number(&m.client_id));
                self.moved.extend(everybody.map(|id| (id, None)));
            }
            let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
            for member in &group.members {
                let Some(id) = number(&member.client_id) else { continue };
                for (topic, partition) in member.partitions() {
                    let tp = TopicPartition::new(topic, partition);
                    if let Some(other) = owners.insert(tp.clone(), id) {
                        let g = group.generation;
                        self.fail("S7", format!("generation {g} gives {tp} to m{other} and to m{id}"));
                    }
                }
            }
            self.check_handovers(now, &owners);
            self.check_claims(&group, &owners);
            // Under KIP-848 partitions come and go within a generation.
            for (tp, id) in owners.iter().filter(|(tp, id)| self.owners.get(tp) != Some(id)) {
                self.moved.push((*id, Some(tp.clone())));
            }
            self.last_owners.extend(owners.iter().map(|(tp, id)| (tp.clone(), *id)));
            self.owners = owners;
        }
    }

    /// The coordinator's log of rebalances, since this was last asked.
    pub fn take_moved(&mut self) -> Vec<(usize, Option<TopicPartition>)> {
        std::mem::take(&mut self.moved)
    }

    /// How much a client holds, and how many sockets.
    pub fn resources(&mut self, id: MemberId, ledger: usize, sockets: usize) {
        let Traits { max_ledger, max_sockets, .. } = self.members[id.0].traits;
        if ledger > max_ledger {
            self.fail("R1", format!("{id} holds {ledger} bytes, more than {max_ledger}"));
        }
        if sockets > max_sockets {
            self.fail("R3", format!("{id} has {sockets} sockets, more than {max_sockets}"));
        }
    }

    /// How long it may take after everything is well again until everything is read.
    pub fn bound(session: Duration, rebalance: Duration, metadata_age: Duration) -> Duration {
        session + rebalance + metadata_age + Duration::from_secs(10)
    }
}
