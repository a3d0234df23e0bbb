//! From what is owned to what the coordinator wants.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ConsumerGroup, ConsumerState as S, Part};
use crate::group::GroupAction;
use crate::planted::planted;
use crate::{Timestamp, TopicPartition};

/// How long a revocation waits for the names of what is assigned: brokers that have heard of the topic tell them at
/// once.
const NAMES: Duration = Duration::from_secs(5);

impl ConsumerGroup {
    /// What is owned, what is being revoked included, by topic id.
    pub(super) fn owned_parts(&self) -> BTreeSet<Part> {
        let part = |tp: &TopicPartition| Some((*self.ids.get(tp.topic())?, tp.partition()));
        self.assignment.owned().iter().filter_map(part).collect()
    }

    /// Takes the next step towards the target: gives up, takes over, or tells what is owned.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if !matches!(self.state, S::Joining | S::Reconciling | S::Acknowledging | S::Stable) {
            return;
        }
        if self.revocation.is_some() {
            self.state = S::Reconciling;
            return;
        }
        self.forget_names();
        let mut wanted = BTreeSet::new();
        let mut unnamed = BTreeSet::new();
        let mut ids = self.ids.clone();
        let mut blocked = false;
        for (id, partition) in &self.target {
            let Some(name) = self.names.get(id) else {
                unnamed.insert(*id);
                continue;
            };
            // A former topic of this name goes first.
            if ids.entry(name.clone()).or_insert(*id) != id {
                blocked = true;
                continue;
            }
            wanted.insert(TopicPartition::new(name.clone(), *partition));
        }
        self.want_names(unnamed);
        let mut revoke: BTreeSet<_> = self.assignment.owned().difference(&wanted).cloned().collect();
        if !revoke.is_empty() && planted!(RevocationForgotten) {
            self.assignment.begin_revocation(&revoke);
            self.assignment.gone(&revoke);
            revoke.clear();
        }
        if !revoke.is_empty() {
            self.state = S::Reconciling;
            if !self.holds_for_names(now) {
                self.open_revocation(now, &revoke);
            }
            return;
        }
        self.held_since = None;
        let mut change = self.assignment.retarget(&wanted);
        if change.assign.len() < wanted.len() && planted!(AssignsTwice) {
            change.assign = wanted.iter().cloned().collect();
        }
        self.ids = ids;
        if !change.assign.is_empty() {
            self.actions.push_back(GroupAction::Assign(change.assign));
        }
        if self.told_owned.as_ref() != Some(&self.owned_parts()) {
            self.state = S::Acknowledging;
            self.hurry(now);
        } else if self.unnamed.is_empty() && !blocked {
            self.state = S::Stable;
        } else {
            self.state = S::Reconciling;
        }
    }

    /// Names are kept of what is owned or wanted, and no others.
    fn forget_names(&mut self) {
        let owned: BTreeSet<_> = self.assignment.owned().iter().map(|tp| tp.topic_arc().clone()).collect();
        self.ids.retain(|name, _| owned.contains(name));
        let (ids, target) = (&self.ids, &self.target);
        let wanted: BTreeSet<_> = target.iter().map(|(id, _)| *id).collect();
        self.names.retain(|id, name| wanted.contains(id) || ids.get(name) == Some(id));
    }

    fn want_names(&mut self, unnamed: BTreeSet<crate::TopicId>) {
        if unnamed != self.unnamed && !unnamed.is_empty() {
            self.actions.push_back(GroupAction::WantTopicNames);
        }
        self.unnamed = unnamed;
    }

    /// Whether a revocation waits for the names of what is assigned. A topic that was deleted and made anew is taken away
    /// and assigned in one answer: until metadata has told of the new one, the last commit of the former one would be
    /// taken for its, where commits name topics (before Kafka 4.2).
    fn holds_for_names(&mut self, now: Timestamp) -> bool {
        if self.unnamed.is_empty() {
            return false;
        }
        self.held_since.get_or_insert(now);
        self.held_until().is_some_and(|until| now < until)
    }

    /// Until when it waits for them: a name that nobody tells must not cost the membership.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let patience = NAMES.min(self.config.rebalance_timeout / 4);
        self.held_since.map(|since| since + patience)
    }

    pub(super) fn check_names(&mut self, now: Timestamp) {
        if self.held_until().is_some_and(|until| now >= until) {
            self.settle(now);
        }
    }

    /// How much earlier than the coordinator we stop waiting: two round trips for the commit and the heartbeat that
    /// acknowledges, and one interval, because that is how late we may learn of it; a twentieth of the rebalance
    /// timeout at least, half of it at most.
    fn margin(&self) -> Duration {
        let rebalance = self.config.rebalance_timeout;
        let trips = self.pulse.round_trip.saturating_mul(2).saturating_add(self.pulse.interval);
        trips.max(rebalance / 20).min(rebalance / 2)
    }

    /// The coordinator wants something else: what it does not want any more, and what is not being revoked yet because
    /// another revocation is open, the coordinator waits for from now on.
    pub(super) fn note_what_is_owed(&mut self, now: Timestamp) {
        let owed = self.revocation.is_some() && {
            let revoking = self.assignment.revoking();
            let kept = self.assignment.owned().iter().filter(|tp| !revoking.contains(*tp));
            let part = |tp: &TopicPartition| Some((*self.ids.get(tp.topic())?, tp.partition()));
            kept.filter_map(part).any(|part| !self.target.contains(&part))
        };
        self.owes_since = if owed { self.owes_since.or(Some(now)) } else { None };
    }

    /// Asks for `partitions`, until a deadline that counts from when it was known that they go.
    pub(super) fn open_revocation(&mut self, now: Timestamp, partitions: &BTreeSet<TopicPartition>) {
        let rebalance = self.config.rebalance_timeout;
        let margin = self.margin();
        let since = self.owes_since.take().unwrap_or(now);
        // The coordinator's time has run since then, the reader's has not.
        let known = self.held_since.take().map_or(since, |held| held.min(since));
        let deadline = (since + self.config.revoke_timeout).min(known + rebalance.saturating_sub(margin));
        // Who is asked too late is asked all the same.
        let deadline = deadline.max(now + Duration::from_millis(1));
        // The last commit is sent at the deadline; half the margin is its, the other half the heartbeat's.
        self.revocation = Some(deadline.max(known + rebalance.saturating_sub(margin / 2)));
        self.assignment.begin_revocation(partitions);
        let partitions = partitions.iter().cloned().collect();
        self.actions.push_back(GroupAction::Revoke { partitions, deadline });
    }

    pub(super) fn check_revocation(&mut self, now: Timestamp) {
        if self.revocation.is_some_and(|deadline| now >= deadline) {
            self.revocation = None;
            let lost = self.assignment.lose_revoking();
            if !lost.is_empty() {
                self.actions.push_back(GroupAction::Lost(lost));
            }
            self.wind_up(now);
            self.settle(now);
        }
    }
}
