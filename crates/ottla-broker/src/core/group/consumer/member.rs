//! One member of a consumer group (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
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

/// What is known of a member that speaks the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Classic {
    pub(crate) session_timeout: Duration,
    /// In the member's order of preference: name and metadata.
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// It was told to rejoin, and has to by then.
    pub(super) join_deadline: Option<Timestamp>,
    /// It has joined, and has to sync by then.
    pub(super) sync_deadline: Option<Timestamp>,
}

impl Classic {
    pub(crate) fn new(session_timeout: Duration, protocols: Vec<(String, Bytes)>) -> Self {
        Self { session_timeout, protocols, join_deadline: None, sync_deadline: None }
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// The protocol that it is told was chosen: any of its own, as nobody leads.
    pub(super) fn protocol(&self) -> Option<&str> {
        self.protocols.first().map(|(name, _)| name.as_str())
    }
}

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
    pub(crate) session_deadline: Option<Timestamp>,
    /// It has to have given up what it must by then.
    pub(super) rebalance_deadline: Option<Timestamp>,
    /// It speaks the classic protocol.
    pub(crate) classic: Option<Classic>,
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
            classic: None,
        }
    }

    /// When the group has something to do about it.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let classic = self.classic.as_ref().map(|c| [c.join_deadline, c.sync_deadline]);
        let own = [self.session_deadline, self.rebalance_deadline];
        own.into_iter().chain(classic.into_iter().flatten()).flatten()
    }

    /// How long it may be silent. `session` is that of members of the consumer protocol.
    pub(super) fn session(&self, session: Duration) -> Duration {
        self.classic.as_ref().map_or(session, |classic| classic.session_timeout)
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

    /// What it holds, what it has to give up included.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Part> {
        self.assigned.keys().chain(self.revoking.keys())
    }

    fn move_to(&mut self, state: MemberState, epoch: i32, assigned: Held, revoking: Held) {
        self.state = state;
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self.assigned = assigned;
        self.revoking = revoking;
    }

    /// Takes the member as far towards `target` as what it and the others hold allows. `owned` is what it said it
    /// owns, `dropped` tells the topics it has just ended its subscription to, `taken` whether somebody else holds a
    /// partition.
    pub(super) fn reconcile(
        &mut self,
        target_epoch: i32,
        target: &BTreeSet<Part>,
        owned: Option<&BTreeSet<Part>>,
        dropped: impl Fn(&Part) -> bool,
        taken: impl Fn(&Part) -> bool,
    ) {
        // Silence about what it owns is no word that it gave something up.
        let still_owns =
            |parts: &Held| owned.is_none_or(|owned| parts.keys().any(|part| owned.contains(part)));
        match self.state {
            MemberState::Stable if self.epoch == target_epoch => return,
            // What it does not subscribe to any more it has to give up, too, whatever it is about to give up.
            MemberState::UnrevokedPartitions if still_owns(&self.revoking) => {
                let (gone, kept): (Held, Held) =
                    self.assigned.iter().map(|(part, epoch)| (*part, *epoch)).partition(|(p, _)| dropped(p));
                if !gone.is_empty() {
                    self.assigned = kept;
                    self.revoking.extend(gone);
                    self.previous_epoch = self.epoch;
                }
                return;
            }
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
