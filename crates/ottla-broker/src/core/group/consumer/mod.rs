//! A consumer group (KIP-848), with the rules of Kafka's group coordinator. Pure: time comes in, answers come out.
//!
//! Three epochs: the *group's* grows with every change of members, subscriptions or topics; the *target's* is the
//! group epoch for which the target assignment was computed; a *member's* is the target epoch that it was taken to.
//! A member learns of its assignment only in the answer to its own heartbeat.
//!
//! | state | meaning |
//! |---|---|
//! | Empty | no members |
//! | Assigning | the group epoch is newer than the target's |
//! | Reconciling | somebody is not at the target yet |
//! | Stable | everybody is |
//!
//! | member's state | heartbeat | becomes |
//! |---|---|---|
//! | Stable | target epoch is another one | UnrevokedPartitions if it has to give something up; else the target epoch, with what is free |
//! | UnrevokedPartitions | says that it owns none of that any more | the target epoch, with what is free |
//! | UnrevokedPartitions | not within its rebalance timeout | fenced: out of the group |
//! | UnrevokedPartitions | its subscription changed | what is of no subscribed topic has to be given up, too, within another rebalance timeout |
//! | UnreleasedPartitions | any | the target epoch, with what is free by now; Stable once that is all |
//!
//! Members of the classic protocol may be in it (see `classic`): they take these steps when they join.

mod classic;
mod member;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use classic::Joined;
pub(crate) use member::{Classic, ConsumerMember, LEFT_FOR_A_WHILE, Part, TopicRegex};
pub(crate) use target::{ASSIGNORS, Subscribed, Topics};

use super::GroupState;
use crate::core::topics::TopicId;
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// A heartbeat, as far as the group looks at it; what is none has not changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) topics: Option<BTreeSet<String>>,
    /// `Some(None)`: none any more.
    pub(crate) regex: Option<Option<TopicRegex>>,
    pub(crate) assignor: Option<String>,
    pub(crate) owned: Option<BTreeSet<Part>>,
}

impl Beat {
    /// Whether the member tells everything, so that it is told everything too.
    fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.epoch == 0 || (self.rebalance_timeout.is_some() && subscribes && self.owned.is_some())
    }
}

/// What a heartbeat is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BeatAnswer {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    /// None: unchanged.
    pub(crate) assignment: Option<BTreeSet<Part>>,
}

/// An error and Kafka's words for it.
pub(crate) type Refused = (ErrorCode, String);

#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: String,
    pub(crate) epoch: i32,
    pub(crate) target_epoch: i32,
    pub(crate) members: BTreeMap<String, ConsumerMember>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    target: target::Target,
    /// The subscribed topics for which the group epoch was made.
    topics: Topics,
}

impl ConsumerGroup {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            epoch: 1,
            target_epoch: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target: target::Target::new(),
            topics: Topics::new(),
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|m| m.is_reconciled_to(self.target_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(crate) fn target_of(&self, member: &str) -> BTreeSet<Part> {
        self.target.get(member).cloned().unwrap_or_default()
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.members.values().flat_map(ConsumerMember::deadlines).min()
    }

    /// Somebody who was silent, held on to partitions, or did not come back to join or sync, for too long.
    pub(crate) fn next_late(&self, now: Timestamp) -> Option<String> {
        let late = |m: &&ConsumerMember| m.deadlines().any(|at| at <= now);
        self.members.values().find(late).map(|m| m.id.clone())
    }

    /// A new coordinator has loaded the group: all sessions begin anew.
    pub(crate) fn migrate(&mut self, now: Timestamp, session: Duration) {
        for member in self.members.values_mut() {
            member.session_deadline = Some(now + member.session(session));
            if member.rebalance_deadline.is_some() {
                member.rebalance_deadline = Some(now + member.rebalance_timeout);
            }
            if let Some(classic) = &mut member.classic {
                (classic.join_deadline, classic.sync_deadline) = (None, None);
            }
        }
    }

    /// Takes these members out.
    pub(crate) fn fence(&mut self, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.remove(id);
        }
        self.topics.retain(|name, _| self.members.values().any(|m| wants(m, name)));
        self.epoch += 1;
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id
            && self.statics.get(instance).is_some_and(|owner| owner == id)
        {
            self.statics.remove(instance);
        }
        self.target.remove(id);
    }

    /// The topics of `known` that somebody subscribes to.
    fn subscribed(&self, known: &Topics) -> Topics {
        let wanted = |name: &str| self.members.values().any(|m| wants(m, name));
        known.iter().filter(|(name, _)| wanted(name)).map(|(name, t)| (name.clone(), *t)).collect()
    }

    /// The assignor that most members ask for.
    pub(crate) fn assignor(&self) -> &'static str {
        let votes =
            |name: &str| self.members.values().filter(|m| m.assignor.as_deref() == Some(name)).count();
        let [uniform, range] = ASSIGNORS;
        if votes(range) > votes(uniform) { range } else { uniform }
    }

    /// A heartbeat of a member that stays. `known` are all topics of the cluster.
    pub(crate) fn beat(
        &mut self,
        now: Timestamp,
        beat: Beat,
        known: &Topics,
        session: Duration,
        max_size: usize,
    ) -> Result<BeatAnswer, Refused> {
        if self.members.len() >= max_size && !self.members.contains_key(&beat.member_id) {
            let text = format!("The consumer group has reached its maximum capacity of {max_size} members.");
            return Err((ErrorCode::GROUP_MAX_SIZE_REACHED, text));
        }
        let id = self.enter(&beat)?;
        let Some(member) = self.members.get_mut(&id) else {
            return Err(self.unknown(&id));
        };
        let held = member.assigned.clone();
        let subscription = (member.topics.clone(), member.regex.clone());
        member.client_id.clone_from(&beat.client_id);
        member.client_host.clone_from(&beat.client_host);
        member.instance_id = beat.instance_id.clone().or_else(|| member.instance_id.take());
        member.rack = beat.rack.clone().or_else(|| member.rack.take());
        member.assignor = beat.assignor.clone().or_else(|| member.assignor.take());
        member.rebalance_timeout = beat.rebalance_timeout.unwrap_or(member.rebalance_timeout);
        if let Some(topics) = &beat.topics {
            member.topics.clone_from(topics);
        }
        if let Some(regex) = &beat.regex {
            member.regex.clone_from(regex);
        }
        member.classic = None;
        let changed = subscription != (member.topics.clone(), member.regex.clone());
        if let Some(instance) = &beat.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.follow_topics(changed, known);
        self.aim();
        self.reconcile(now, &id, changed, beat.owned.as_ref());
        let Some(member) = self.members.get_mut(&id) else {
            return Err(self.unknown(&id));
        };
        member.session_deadline = Some(now + session);
        let changed = !member.assigned.keys().eq(held.keys());
        let assignment = (beat.is_full() || changed).then(|| member.assigned.keys().copied().collect());
        Ok(BeatAnswer { member_id: id, epoch: member.epoch, assignment })
    }

    /// The group epoch grows when a subscription or what there is of the subscribed topics changed.
    fn follow_topics(&mut self, changed: bool, known: &Topics) {
        let subscribed = self.subscribed(known);
        let bump = changed || subscribed != self.topics;
        self.topics = subscribed;
        self.epoch += i32::from(bump);
    }

    /// Computes the target of the present group epoch.
    fn aim(&mut self) {
        if self.epoch > self.target_epoch {
            self.target = target::compute(self.assignor(), &self.members, &self.topics, wants, &self.target);
            self.target_epoch = self.epoch;
        }
    }

    /// `changed`: whether its subscription has.
    fn reconcile(&mut self, now: Timestamp, id: &str, changed: bool, owned: Option<&BTreeSet<Part>>) {
        let Some(mut member) = self.members.remove(id) else { return };
        let target = self.target.get(id).cloned().unwrap_or_default();
        let before = (member.epoch, member.state, member.assigned.clone(), member.revoking.clone());
        let taken = |part: &Part| self.members.values().any(|other| other.holds(part));
        let wanted: BTreeSet<TopicId> =
            self.topics.iter().filter(|(name, _)| member.wants(name)).map(|(_, topic)| topic.id).collect();
        let dropped = |part: &Part| changed && !wanted.contains(&part.0);
        member.reconcile(self.target_epoch, &target, owned, dropped, taken);
        let after = (member.epoch, member.state, member.assigned.clone(), member.revoking.clone());
        // One of the classic protocol has a time to join and a time to sync instead.
        if before != after && member.classic.is_none() {
            let revokes = member.state == member::MemberState::UnrevokedPartitions;
            member.rebalance_deadline = revokes.then(|| now + member.rebalance_timeout);
        }
        self.members.insert(id.to_owned(), member);
    }

    fn unknown(&self, member: &str) -> Refused {
        let text = format!("Member {member} is not a member of group {}.", self.id);
        (ErrorCode::UNKNOWN_MEMBER_ID, text)
    }

    /// Finds the member, or lets it in.
    fn enter(&mut self, beat: &Beat) -> Result<String, Refused> {
        let joins = beat.epoch == 0;
        let Some(instance) = &beat.instance_id else {
            if joins {
                let new = || ConsumerMember::new(&beat.member_id);
                self.members.entry(beat.member_id.clone()).or_insert_with(new);
            }
            let member = self.members.get(&beat.member_id).ok_or_else(|| self.unknown(&beat.member_id))?;
            // Who joins has given up everything, and gets what the group has for it.
            if !joins {
                check_epoch(member, beat)?;
            }
            return Ok(beat.member_id.clone());
        };
        let owner = self.statics.get(instance).cloned();
        let Some(owner) = owner else {
            if !joins {
                return Err((ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance} is unknown.")));
            }
            let new = || ConsumerMember::new(&beat.member_id);
            self.members.entry(beat.member_id.clone()).or_insert_with(new);
            return Ok(beat.member_id.clone());
        };
        if joins {
            // A classic member is replaced as in a classic group.
            let free = |m: &ConsumerMember| m.has_left_for_a_while() || m.classic.is_some();
            if !self.members.get(&owner).is_some_and(free) {
                let text = format!(
                    "Static member {} with instance id {instance} cannot join the group because the instance id is owned by {owner} member.",
                    beat.member_id
                );
                return Err((ErrorCode::UNRELEASED_INSTANCE_ID, text));
            }
            self.replace(&owner, &beat.member_id);
            return Ok(beat.member_id.clone());
        }
        fenced_instance(&owner, beat)?;
        let member = self.members.get(&owner).ok_or_else(|| self.unknown(&owner))?;
        check_epoch(member, beat)?;
        Ok(owner)
    }

    /// A static member is back: with all that it had, under its new id.
    fn replace(&mut self, old: &str, new: &str) {
        if let Some(mut member) = self.members.remove(old) {
            new.clone_into(&mut member.id);
            (member.epoch, member.previous_epoch) = (0, 0);
            member.rebalance_deadline = None;
            self.members.insert(new.to_owned(), member);
        }
        if let Some(target) = self.target.remove(old) {
            self.target.insert(new.to_owned(), target);
        }
    }

    /// A member leaves: for good (-1), or, static, for a while (-2). In the former case it is still to be taken out.
    pub(crate) fn leave(&mut self, beat: &Beat) -> Result<BeatAnswer, Refused> {
        let id = match &beat.instance_id {
            None => {
                self.members.get(&beat.member_id).ok_or_else(|| self.unknown(&beat.member_id))?;
                beat.member_id.clone()
            }
            Some(instance) => {
                let owner = self.statics.get(instance).cloned().ok_or_else(|| {
                    (ErrorCode::UNKNOWN_MEMBER_ID, format!("Instance id {instance} is unknown."))
                })?;
                fenced_instance(&owner, beat)?;
                owner
            }
        };
        if beat.epoch == LEFT_FOR_A_WHILE
            && let Some(member) = self.members.get_mut(&id)
        {
            member.epoch = LEFT_FOR_A_WHILE;
            member.revoking.clear();
            member.rebalance_deadline = None;
        }
        Ok(BeatAnswer { member_id: id, epoch: beat.epoch, assignment: None })
    }

    /// Whether commits of this identity are taken at all.
    pub(crate) fn check_commit(&self, version: i16, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if version < 9 && member.classic.is_none() {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if epoch > member.epoch { Err(wrong_epoch(member)) } else { Ok(()) }
    }

    /// KIP-1251: a commit with an older epoch is taken for partitions that the member has had since then.
    pub(crate) fn check_partition(
        &self,
        member_id: &str,
        epoch: i32,
        part: Option<Part>,
    ) -> Result<(), ErrorCode> {
        let Some(member) = self.members.get(member_id) else { return Ok(()) };
        if epoch == member.epoch {
            return Ok(());
        }
        let since = part.and_then(|part| member.assigned.get(&part).or_else(|| member.revoking.get(&part)));
        if since.is_some_and(|since| *since <= epoch) { Ok(()) } else { Err(wrong_epoch(member)) }
    }

    /// Whether offsets are told to this identity.
    pub(crate) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let member_id = match member_id {
            None if epoch < 0 => return Ok(()),
            id => id.unwrap_or_default(),
        };
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if epoch == member.epoch { Ok(()) } else { Err(wrong_epoch(member)) }
    }
}

fn wants(member: &ConsumerMember, topic: &str) -> bool {
    member.wants(topic)
}

/// Each protocol has a code of its own for it.
fn wrong_epoch(member: &ConsumerMember) -> ErrorCode {
    match member.classic {
        Some(_) => ErrorCode::ILLEGAL_GENERATION,
        None => ErrorCode::STALE_MEMBER_EPOCH,
    }
}

fn fenced_instance(owner: &str, beat: &Beat) -> Result<(), Refused> {
    if owner == beat.member_id {
        return Ok(());
    }
    let instance = beat.instance_id.as_deref().unwrap_or_default();
    let text =
        format!("Static member {} with instance id {instance} was fenced by member {owner}.", beat.member_id);
    Err((ErrorCode::FENCED_INSTANCE_ID, text))
}

fn check_epoch(member: &ConsumerMember, beat: &Beat) -> Result<(), Refused> {
    let fenced = |than: &str| {
        let text = format!(
            "The consumer group member has a {than} member epoch ({}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            beat.epoch, member.epoch
        );
        Err((ErrorCode::FENCED_MEMBER_EPOCH, text))
    };
    if beat.epoch > member.epoch {
        return fenced("greater");
    }
    // The answer that carried the newer epoch may have been lost.
    let of_before = beat.epoch == member.previous_epoch
        && beat.owned.as_ref().is_some_and(|owned| owned.iter().all(|p| member.assigned.contains_key(p)));
    if beat.epoch < member.epoch && !of_before { fenced("smaller") } else { Ok(()) }
}
