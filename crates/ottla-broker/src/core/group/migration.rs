//! Online migration (KIP-848): a classic group becomes a consumer group, with its members in it, when one of the
//! consumer protocol joins; and a classic group again when the last of those has gone.

use std::collections::{BTreeMap, BTreeSet};

use super::blob::{Assigned, Subscription};
use super::consumer::{Classic, ConsumerGroup, ConsumerMember, Joined, Part, Refused, Topics};
use super::{Group, GroupState, JoinAnswer, JoinRequest, Member, SyncAnswer};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// `group.consumer.migration.policy`: which groups may change their type while members are in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum MigrationPolicy {
    /// Both ways: Kafka's default.
    #[default]
    Bidirectional,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic ones.
    Downgrade,
    /// None, and a consumer group takes no classic members.
    Disabled,
}

impl MigrationPolicy {
    pub(crate) fn upgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }

    pub(crate) fn is_enabled(self) -> bool {
        self != Self::Disabled
    }
}

/// What the cluster allows its groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) migration: MigrationPolicy,
    pub(crate) max_classic_size: usize,
    pub(crate) max_consumer_size: usize,
}

impl Group {
    /// A member of the consumer protocol joins a classic group that has members.
    pub(crate) fn upgrade(&mut self, now: Timestamp, known: &Topics) -> Result<(), Refused> {
        let refused = |why: &str| {
            let text = format!("Cannot upgrade classic group {} to consumer group because {why}.", self.id);
            (ErrorCode::GROUP_ID_NOT_FOUND, text)
        };
        if !self.rules.migration.upgrades() {
            return Err(refused("online upgrade is disabled"));
        }
        if self.protocol_type.as_deref() != Some("consumer") {
            return Err(refused("the group does not use the consumer embedded protocol"));
        }
        if self.members.len() > self.rules.max_consumer_size {
            return Err(refused("the group size exceeds the consumer group maximum size"));
        }
        // Before the first generation there is no protocol, which Kafka does not expect.
        let Some(protocol) = self.protocol_name.clone() else {
            return Err((ErrorCode::UNKNOWN_SERVER_ERROR, String::new()));
        };
        let ids: BTreeMap<&str, _> = known.iter().map(|(name, t)| (name.as_str(), t.id)).collect();
        let mut members = Vec::new();
        for member in self.members.values() {
            let malformed = || refused("the embedded consumer protocol is malformed");
            let assigned = if member.assignment.is_empty() {
                Assigned::default()
            } else {
                Assigned::read(member.assignment.clone()).ok_or_else(malformed)?
            };
            if assigned.user_data > 0 {
                let why = "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade";
                return Err(refused(why));
            }
            let subscription = Subscription::read(member.metadata(&protocol)).ok_or_else(malformed)?;
            let part = |(topic, p): &(String, i32)| Some((*ids.get(topic.as_str())?, *p));
            let parts: BTreeSet<Part> = assigned.partitions.iter().filter_map(part).collect();
            let classic = Classic::new(member.session_timeout, member.protocols.clone());
            let mut new = ConsumerMember::classic(&member.id, self.generation, classic, parts);
            new.instance_id.clone_from(&member.instance_id);
            new.rack = subscription.rack;
            new.client_id.clone_from(&member.client_id);
            new.client_host.clone_from(&member.client_host);
            new.rebalance_timeout = member.rebalance_timeout;
            new.topics = subscription.topics;
            new.session_deadline = Some(now + member.session_timeout);
            members.push(new);
        }
        // Who waits for the others joins once more.
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.cancel_parked(&id, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        let group = ConsumerGroup::of_classic(&self.id, self.generation, members, known);
        self.forget_classic();
        self.consumer = Some(Box::new(group));
        Ok(())
    }

    /// Nothing of a classic group is left.
    fn forget_classic(&mut self) {
        self.members.clear();
        self.statics.clear();
        self.pending.clear();
        self.pending_sync.clear();
        (self.join_phase, self.sync_deadline) = (None, None);
        (self.leader, self.protocol_name) = (None, None);
        self.protocol_type = Some("consumer".to_owned());
    }

    /// These members of a consumer group leave, or are put out: the others are a classic group from now on if all of
    /// them speak that protocol.
    pub(crate) fn fence(&mut self, now: Timestamp, ids: &[String]) {
        let rules = self.rules;
        let Some(consumer) = &mut self.consumer else { return };
        if ids.is_empty() || !consumer.may_turn_classic_without(ids, &rules) {
            return consumer.fence(ids);
        }
        self.downgrade(now, ids);
        self.prepare_rebalance(now);
    }

    /// The members of a consumer group without these become those of a stable classic one, which has what they shall
    /// have by their targets.
    fn downgrade(&mut self, now: Timestamp, without: &[String]) {
        let Some(consumer) = self.consumer.take() else { return };
        self.forget_classic();
        self.generation = consumer.epoch;
        self.state = GroupState::Stable;
        for (member, classic, assignment) in consumer.classic_members() {
            if without.contains(&member.id) {
                continue;
            }
            if let Some(instance) = &member.instance_id {
                self.statics.insert(instance.clone(), member.id.clone());
            }
            self.leader.get_or_insert_with(|| member.id.clone());
            let new = Member {
                id: member.id.clone(),
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                session_timeout: classic.session_timeout,
                rebalance_timeout: member.rebalance_timeout,
                protocols: classic.protocols,
                assignment,
                join: None,
                sync: None,
                is_new: false,
                session_deadline: Some(now + classic.session_timeout),
            };
            self.members.insert(member.id, new);
        }
        self.protocol_name = self.select_protocol();
        self.persist();
    }

    /// JoinGroup in a consumer group that has members. A refusal names nobody.
    pub(super) fn join_consumer(&mut self, now: Timestamp, join: &JoinRequest) {
        let rules = self.rules;
        let Some(consumer) = &mut self.consumer else { return };
        let epoch = consumer.epoch;
        let answer = match consumer.join(now, join, &join.known, &rules) {
            Err(code) => JoinAnswer::error("", code),
            Ok(Joined::Answer(answer)) => answer,
            Ok(Joined::Downgrade { answer, rebalance }) => {
                // The generation is that of before this member's subscription was looked at.
                consumer.epoch = epoch;
                self.downgrade(now, &[]);
                if rebalance {
                    self.prepare_rebalance(now);
                }
                answer
            }
        };
        self.answer_join(join.request, answer);
    }

    /// Members leave. An answer for each.
    pub(crate) fn leave_all(&mut self, now: Timestamp, who: &[(String, Option<String>)]) -> Vec<ErrorCode> {
        let Some(consumer) = &self.consumer else {
            let leave =
                |(member, instance): &(String, Option<String>)| self.leave(now, member, instance.as_deref());
            return who.iter().map(leave).collect();
        };
        let found: Vec<Result<String, ErrorCode>> =
            who.iter().map(|(member, instance)| consumer.leaving(member, instance.as_deref())).collect();
        let ids: BTreeSet<String> = found.iter().filter_map(|f| f.clone().ok()).collect();
        self.fence(now, &ids.into_iter().collect::<Vec<_>>());
        found.into_iter().map(|f| f.err().unwrap_or(ErrorCode::NONE)).collect()
    }
}

impl SyncAnswer {
    /// The answer, or the error as one.
    pub(super) fn of(result: Result<Self, ErrorCode>) -> Self {
        result.unwrap_or_else(Self::error)
    }
}
