//! Who owned what before.

use super::group::{Group, NONE, find, id};
use super::{Assignor, user_data};
use crate::planted::planted;

/// What members claim to own, settled by generation (KIP-792): the highest generation that claims a partition
/// has it; where two members of that generation claim it nobody has it. A missing generation is older than any.
pub(super) struct Claims {
    claims: Vec<Claim>,
}

#[derive(Clone, Copy)]
struct Claim {
    /// Among all that claim the partition: who is to be believed to have it.
    holder: Winner,
    /// Among those that are still subscribed to it: who is to keep it.
    keeper: Winner,
    /// More than one member claims it, in whatever generations.
    shared: bool,
}

#[derive(Clone, Copy)]
struct Winner {
    member: u32,
    generation: i32,
    /// Somebody else claims the same in the same generation.
    contested: bool,
}

impl Claims {
    pub(super) fn of(assignor: Assignor, group: &Group<'_>) -> Self {
        let nobody = Winner { member: NONE, generation: -1, contested: false };
        let mut claims = vec![Claim { holder: nobody, keeper: nobody, shared: false }; group.partitions()];
        let names: Vec<&str> = group.topics.iter().map(|topic| topic.name.as_str()).collect();
        for (index, member) in group.members.iter().enumerate() {
            let previous = user_data::previous(assignor, member);
            let generation = previous.generation.unwrap_or(-1).max(-1);
            let topics = &group.subscriptions[group.subscription_of[index] as usize];
            let mut hint = 0;
            for (name, partitions) in &previous.topics {
                let Some(topic) = find(&names, name, &mut hint) else { continue };
                let subscribed = topics.binary_search(&id(topic)).is_ok();
                for partition in partitions.iter().filter_map(|number| group.partition(topic, number)) {
                    let claim = &mut claims[partition];
                    claim.shared |= claim.holder.member != NONE && claim.holder.member != id(index);
                    claim.holder.challenge(id(index), generation);
                    if subscribed {
                        claim.keeper.challenge(id(index), generation);
                    }
                }
            }
        }
        Self { claims }
    }

    /// Who has `partition` and may keep it.
    pub(super) fn owner(&self, partition: usize) -> Option<u32> {
        self.claims[partition].keeper.alone()
    }

    /// Whether `partition` has to be given up by somebody before `target` may have it.
    pub(super) fn must_wait(&self, partition: usize, target: u32) -> bool {
        let claim = self.claims[partition];
        let others = claim.shared || (claim.holder.member != NONE && claim.holder.member != target);
        others && claim.holder.alone() != Some(target)
    }
}

impl Winner {
    fn challenge(&mut self, member: u32, generation: i32) {
        if self.member == NONE || (generation > self.generation && !planted!(StaleClaims)) {
            *self = Self { member, generation, contested: false };
        } else if generation == self.generation && self.member != member {
            self.contested = true;
        }
    }

    fn alone(self) -> Option<u32> {
        (self.member != NONE && !self.contested).then_some(self.member)
    }
}
