//! Users who assign by hand, users who change their mind about topics, and what of all users goes into a history for
//! Jepsen's checker.

use ottla_core::client::{Command, Offset};
use ottla_core::pattern::TopicPattern;
use ottla_core::{Rng, TopicPartition};

use super::User;
use super::given::Given;
use super::user::Asked;
use crate::World;
use crate::jepsen::{Key, What};
use crate::oracle::{Oracle, Sought};

/// What all topics match, those that are still to come, too.
const ALL_TOPICS: &str = "[tn][0-9]+";

/// A partition's name in a history.
pub(crate) fn key(tp: &TopicPartition) -> Key {
    tp.to_string()
}

fn keys(tps: &[TopicPartition]) -> Vec<Key> {
    tps.iter().map(key).collect()
}

impl Sought {
    /// The same for the client.
    pub(super) fn place(self) -> Offset {
        match self {
            Self::At(offset) => Offset::At(offset),
            Self::Beginning => Offset::Earliest,
            Self::End => Offset::Latest,
            Self::Committed => Offset::Committed,
        }
    }
}

impl User {
    /// Chooses what it reads and where it begins: some of what there is, or all of it from the start.
    pub(super) fn assign(&mut self, world: &mut World, oracle: &mut Oracle) {
        let all: Vec<TopicPartition> = oracle.partitions().cloned().collect();
        let mut chosen = Vec::new();
        for tp in all {
            if !self.reads_all && self.rng.below(4) == 0 {
                continue;
            }
            let (end, stable) = (oracle.log(&tp).end, oracle.log(&tp).stable_end());
            // The end is where the watermark is, or the first open transaction.
            let lags = stable < end
                || world.cluster.high_watermark(tp.topic(), tp.partition()).is_ok_and(|high| high < end);
            let at = if self.reads_all { Sought::Beginning } else { self.somewhere(end, lags) };
            chosen.push((tp, at));
        }
        let tps: Vec<TopicPartition> = chosen.iter().map(|(tp, _)| tp.clone()).collect();
        self.note(world, || What::Assigned(keys(&tps)));
        oracle.assigned_by_hand(world.now(), self.id, &chosen);
        let places = chosen.into_iter().map(|(tp, at)| (tp, at.place())).collect();
        self.command(world, oracle, Command::Assign(places), Asked::Sure);
    }

    fn somewhere(&mut self, end: i64, lags: bool) -> Sought {
        match self.rng.below(8) {
            0 => Sought::At(self.rng.below(end.max(0) as u64 + 1) as i64),
            1 if !lags => Sought::End,
            2 | 3 if self.style.hand == Some(Hand::WithGroup) => Sought::Committed,
            _ => Sought::Beginning,
        }
    }

    /// It wants something else from now on.
    pub(crate) fn changes_its_mind(&mut self, world: &mut World, oracle: &mut Oracle) {
        if self.style.hand.is_some() {
            self.drop_all(oracle);
            return self.assign(world, oracle);
        }
        let mut some = self.topics.clone();
        some.retain(|_| self.rng.below(2) == 0);
        if some.is_empty() {
            some.clone_from(&self.topics);
        }
        self.narrowed = some.len() < self.topics.len();
        self.subscribe_to(world, oracle, some);
    }

    pub(super) fn subscribe_to(&mut self, world: &mut World, oracle: &mut Oracle, topics: Vec<String>) {
        self.note(world, || What::Subscribed { logged: true });
        let all = self.style.pattern && topics == self.topics;
        oracle.subscribed(world.now(), self.id, (!all).then_some(&topics[..]));
        let command = match TopicPattern::new(ALL_TOPICS) {
            Ok(pattern) if all => Command::SubscribePattern(pattern),
            _ => Command::Subscribe(topics),
        };
        self.command(world, oracle, command, Asked::Sure);
    }

    /// A line of the history, if there is one.
    pub(super) fn note(&self, world: &mut World, what: impl FnOnce() -> What) {
        if let Some(history) = &mut world.history {
            history.add(self.id.0, what());
        }
    }

    pub(super) fn note_poll(&self, world: &mut World, given: &Given) {
        // Values begin with a number that no other has.
        self.note(world, || What::Polled(key(given.topic_partition()), given.numbers()));
    }
}

/// How somebody assigns by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// It commits nothing.
    WithoutGroup,
    /// For a group that it has for itself.
    WithGroup,
}

impl Hand {
    /// One of three, if there are such users at all.
    pub(crate) fn draw(rng: &mut Rng) -> Option<Self> {
        match rng.below(6) {
            0 => Some(Self::WithoutGroup),
            1 => Some(Self::WithGroup),
            _ => None,
        }
    }
}
