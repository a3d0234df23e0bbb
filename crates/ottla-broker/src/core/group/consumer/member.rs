//! One member of a consumer group (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex_lite::Regex;

use crate::core::topics::TopicId;
use crate::time::Timestamp;

/// A partition by its topic's id.
pub(crate) type Part = (TopicId, i32);

/// Partitions with the epoch in which the member got each (KIP-1251).
pub(crate) type Held = BTreeMap<Part, i32>;

/// The epoch of a static member that has left for a while.
pub(crate) const LEFT_FOR_A_WHILE: i32 = -2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It has its whole target assignment.
    Stable,
    /// It has to give partitions up before it gets a newer epoch.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up yet.
    UnreleasedPartitions,
}

/// A regular expression that whole names of topics match. (Kafka's is RE2/J.)
#[derive(Debug, Clone)]
pub(crate) struct TopicRegex {
    pub(crate) text: String,
    compiled: Regex,
}

impl TopicRegex {
    /// # Errors
    /// Kafka's words for what it cannot read.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let refused = |e: regex_lite::Error| {
            format!("SubscribedTopicRegex `{text}` is not a valid regular expression: {e}.")
        };
        Regex::new(text).map_err(refused)?;
        let compiled = Regex::new(&format!(r"\A(?:{text})\z")).map_err(refused)?;
        Ok(Self { text: text.to_owned(), compiled })
    }
}

impl PartialEq for TopicRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicRegex {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerMember {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<TopicRegex>,
    pub(crate) assignor: Option<String>,
    pub(crate) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(crate) assigned: Held,
    /// What it has to give up, and still has.
    pub(super) revoking: Held,
    pub(super) session_deadline: Option<Timestamp>,
    /// It has to have given up what it must by then.
    pub(super) rebalance_deadline: Option<Timestamp>,
}

impl ConsumerMember {
    /// Whether it subscribes to this topic.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.topics.contains(topic) || self.regex.as_ref().is_some_and(|r| r.compiled.is_match(topic))
    }

    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            instance_id: None,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: Duration::ZERO,
            topics: BTreeSet::new(),
            regex: None,
            assignor: None,
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Held::new(),
            revoking: Held::new(),
            session_deadline: None,
            rebalance_deadline: None,
        }
    }

    pub(super) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    pub(super) fn has_left_for_a_while(&self) -> bool {
        self.epoch == LEFT_FOR_A_WHILE
    }

    /// Whether it holds the partition, also one that it has to give up.
    pub(super) fn holds(&self, part: &Part) -> bool {
        self.assigned.contains_key(part) || self.revoking.contains_key(part)
    }

    fn move_to(&mut self, state: MemberState, epoch: i32, assigned: Held, revoking: Held) {
        self.state = state;
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self.assigned = assigned;
        self.revoking = revoking;
    }

    /// Takes the member as far towards `target` as what it and the others hold allows. `owned` is what it said it
    /// owns, `taken` whether somebody else holds a partition.
    pub(super) fn reconcile(
        &mut self,
        target_epoch: i32,
        target: &BTreeSet<Part>,
        owned: Option<&BTreeSet<Part>>,
        taken: impl Fn(&Part) -> bool,
    ) {
        // Silence about what it owns is no word that it gave something up.
        let still_owns =
            |parts: &Held| owned.is_none_or(|owned| parts.keys().any(|part| owned.contains(part)));
        match self.state {
            MemberState::Stable if self.epoch == target_epoch => return,
            MemberState::UnrevokedPartitions if still_owns(&self.revoking) => return,
            _ => {}
        }
        let (mut kept, lost): (Held, Held) =
            self.assigned.iter().map(|(part, epoch)| (*part, *epoch)).partition(|(p, _)| target.contains(p));
        if !lost.is_empty() && still_owns(&lost) {
            let epoch = self.epoch;
            return self.move_to(MemberState::UnrevokedPartitions, epoch, kept, lost);
        }
        let mut waits = false;
        for part in target.iter().filter(|part| !self.assigned.contains_key(*part)) {
            if taken(part) {
                waits = true;
            } else {
                kept.insert(*part, target_epoch);
            }
        }
        let state = if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        self.move_to(state, target_epoch, kept, Held::new());
    }
}
