//! Who owns a partition: the one place that decides it.
//!
//! ```text
//!            retarget                 begin_revocation              gone
//!  (nobody) ──────────▶ assigned ─────────────────────▶ revoking ─────────▶ (nobody)
//!                           │                              │
//!                           └──────────── lose ────────────┴──────────────▶ (nobody)
//! ```
//!
//! A partition counts as owned, and is claimed when the member joins again, until it is gone: an assignor that
//! sees it unclaimed would give it to somebody else while its last records are still in work.

use std::collections::BTreeSet;

use crate::TopicPartition;
use crate::assignor::{Assignor, RebalanceProtocol};

/// What one member owns.
#[derive(Clone, Debug)]
pub struct Assignment {
    protocol: RebalanceProtocol,
    owned: BTreeSet<TopicPartition>,
    /// A subset of `owned`.
    revoking: BTreeSet<TopicPartition>,
}

/// How to get from what is owned to what the group decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Owned, and somebody else's in the next rebalance: to be given up, then the member rejoins.
    pub revoke: BTreeSet<TopicPartition>,
    /// New, and nobody else's: owned from now on.
    pub assign: Vec<TopicPartition>,
}

impl Assignment {
    /// Nothing is owned. One eager assignor among `assignors` makes the member eager, as in Java: it cannot
    /// know beforehand which of them the group picks, and must be ready for either (KIP-429).
    pub fn new(assignors: &[Assignor]) -> Self {
        let eager = assignors.iter().any(|a| a.protocol() == RebalanceProtocol::Eager);
        Self::with_protocol(if eager { RebalanceProtocol::Eager } else { RebalanceProtocol::Cooperative })
    }

    /// Nothing is owned, and partitions change hands in this way.
    pub fn with_protocol(protocol: RebalanceProtocol) -> Self {
        Self { protocol, owned: BTreeSet::new(), revoking: BTreeSet::new() }
    }

    /// How partitions change hands.
    pub fn protocol(&self) -> RebalanceProtocol {
        self.protocol
    }

    /// What is owned, what is being revoked included.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// What is being revoked.
    pub fn revoking(&self) -> &BTreeSet<TopicPartition> {
        &self.revoking
    }

    /// What must be given up before the member may join: everything if it is eager, else what it is not
    /// subscribed to any more.
    pub fn before_join(&self, subscription: &BTreeSet<String>) -> BTreeSet<TopicPartition> {
        match self.protocol {
            RebalanceProtocol::Eager => self.owned.clone(),
            RebalanceProtocol::Cooperative => {
                self.owned.iter().filter(|tp| !subscription.contains(tp.topic())).cloned().collect()
            }
        }
    }

    /// Takes over what the group decided: what is new is owned at once; what is to be revoked is only named.
    pub fn retarget(&mut self, target: &BTreeSet<TopicPartition>) -> Change {
        let revoke = self.owned.difference(target).cloned().collect();
        let assign: Vec<_> = target.difference(&self.owned).cloned().collect();
        self.owned.extend(assign.iter().cloned());
        Change { revoke, assign }
    }

    /// The reader is being asked to give `partitions` up.
    pub fn begin_revocation(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.revoking.extend(partitions.iter().filter(|tp| self.owned.contains(*tp)).cloned());
    }

    /// The reader has given `partitions` up. Only a revocation ends in this way: others are ignored.
    pub fn gone<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for tp in partitions {
            if self.revoking.remove(tp) {
                self.owned.remove(tp);
            }
        }
    }

    /// Gives up what is being revoked without waiting for the reader.
    pub fn lose_revoking(&mut self) -> Vec<TopicPartition> {
        let lost = std::mem::take(&mut self.revoking);
        self.owned.retain(|tp| !lost.contains(tp));
        lost.into_iter().collect()
    }

    /// Gives up everything without waiting for the reader.
    pub fn lose_all(&mut self) -> Vec<TopicPartition> {
        self.revoking.clear();
        std::mem::take(&mut self.owned).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(partitions: &[(&str, i32)]) -> BTreeSet<TopicPartition> {
        partitions.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    fn names(topics: &[&str]) -> BTreeSet<String> {
        topics.iter().map(|t| (*t).to_owned()).collect()
    }

    fn holding(assignors: &[Assignor], partitions: &[(&str, i32)]) -> Assignment {
        let mut assignment = Assignment::new(assignors);
        assignment.retarget(&set(partitions));
        assignment
    }

    #[test]
    fn one_eager_assignor_makes_the_member_eager_as_in_java() {
        let protocol = |assignors: &[Assignor]| Assignment::new(assignors).protocol();
        assert_eq!(protocol(&[Assignor::CooperativeSticky]), RebalanceProtocol::Cooperative);
        assert_eq!(protocol(&[Assignor::CooperativeSticky, Assignor::Range]), RebalanceProtocol::Eager);
        assert_eq!(protocol(&[Assignor::Sticky]), RebalanceProtocol::Eager);
    }

    #[test]
    fn eager_gives_up_everything_before_a_join_and_cooperative_only_what_is_not_subscribed() {
        let owned = [("a", 0), ("a", 1), ("b", 0)];
        let eager = holding(&[Assignor::Range], &owned);
        assert_eq!(eager.before_join(&names(&["a"])), set(&owned));
        let cooperative = holding(&[Assignor::CooperativeSticky], &owned);
        assert_eq!(cooperative.before_join(&names(&["a"])), set(&[("b", 0)]));
        assert!(cooperative.before_join(&names(&["a", "b"])).is_empty());
    }

    #[test]
    fn kept_partitions_are_neither_assigned_nor_revoked_again() {
        let mut assignment = holding(&[Assignor::CooperativeSticky], &[("a", 0), ("a", 1)]);
        let change = assignment.retarget(&set(&[("a", 1), ("a", 2)]));
        assert_eq!(change, Change { revoke: set(&[("a", 0)]), assign: vec![TopicPartition::new("a", 2)] });
    }

    #[test]
    fn a_partition_stays_owned_until_its_revocation_is_finished() {
        let mut assignment = holding(&[Assignor::CooperativeSticky], &[("a", 0), ("a", 1)]);
        let change = assignment.retarget(&set(&[("a", 1)]));
        assert_eq!(assignment.owned(), &set(&[("a", 0), ("a", 1)]));
        assignment.begin_revocation(&change.revoke);
        assignment.gone(&set(&[("a", 0), ("a", 1)]));
        assert_eq!(assignment.owned(), &set(&[("a", 1)]), "only what was being revoked can go");
        assert!(assignment.revoking().is_empty());
    }

    #[test]
    fn what_is_lost_is_told_once_and_includes_what_was_being_revoked() {
        let mut assignment = holding(&[Assignor::Range], &[("a", 0), ("a", 1)]);
        assignment.begin_revocation(&set(&[("a", 0)]));
        assert_eq!(assignment.clone().lose_revoking(), vec![TopicPartition::new("a", 0)]);
        assert_eq!(assignment.lose_all().len(), 2);
        assert!(assignment.lose_all().is_empty() && assignment.revoking().is_empty());
    }
}
