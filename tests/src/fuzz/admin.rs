//! An administrator's calls: each has one outcome, in time, with one result for each item that was asked for.

use std::time::Duration;

use ottla_core::admin::{AdminAnswer, AdminCall, Items, NewTopic};
use ottla_core::client::{Offset, Outcome};
use ottla_core::{Error, ErrorKind, Timestamp, TopicPartition};

use super::broker::TOPIC;
use super::client::Rig;
use super::input::Input;

/// How long a call may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// A call that is under way, and until when.
#[derive(Debug)]
pub(super) struct Call {
    call: AdminCall,
    pub(super) until: Timestamp,
}

impl Call {
    pub(super) fn new(now: Timestamp, call: AdminCall) -> Self {
        Self { call, until: now + TIMEOUT }
    }

    /// Its outcome. `healed`: since before it began everything works.
    pub(super) fn check(&self, outcome: Outcome, closing: bool, healed: bool) {
        match outcome {
            Outcome::Failed(error) => {
                assert!(!healed, "{self:?}: {error}");
                let whole = matches!(
                    self.call,
                    AdminCall::ListTopics | AdminCall::ListGroups | AdminCall::ListGroupOffsets(_)
                );
                assert!(whole || (closing && error.kind() == ErrorKind::Closed), "{self:?}: {error}");
            }
            Outcome::Admin(answer) => self.check_answer(answer, healed),
            other => panic!("{other:?} of {self:?}"),
        }
    }

    fn check_answer(&self, answer: AdminAnswer, healed: bool) {
        match (&self.call, answer) {
            (AdminCall::ListTopics, AdminAnswer::Topics(_))
            | (AdminCall::ListGroups, AdminAnswer::Groups(_))
            | (AdminCall::ListGroupOffsets(_), AdminAnswer::GroupOffsets(_)) => {}
            (AdminCall::CreateTopics { topics, .. }, AdminAnswer::CreatedTopics(results)) => {
                // Names only are told of what was asked for.
                assert_eq!(results.len(), topics.len());
                let names = NAMES.iter().map(|name| (*name).to_owned()).take(topics.len()).collect();
                items(names, results, healed);
            }
            (AdminCall::DeleteTopics(names), AdminAnswer::DeletedTopics(results)) => {
                items(names.clone(), results, healed);
            }
            // A group that is not there, to the one who asks for it, is an error of its own.
            (AdminCall::DescribeGroups(groups), AdminAnswer::DescribedGroups(results)) => {
                items(groups.clone(), results, false);
            }
            (AdminCall::DeleteGroups(groups), AdminAnswer::DeletedGroups(results)) => {
                items(groups.clone(), results, healed);
            }
            (AdminCall::AlterGroupOffsets { offsets, .. }, AdminAnswer::AlteredOffsets(results)) => {
                let asked = offsets.iter().map(|(tp, _)| tp.clone()).collect();
                items(asked, results, healed);
            }
            (AdminCall::DeleteGroupOffsets { partitions, .. }, AdminAnswer::DeletedOffsets(results)) => {
                items(partitions.clone(), results, healed);
            }
            (call, answer) => panic!("{answer:?} of {call:?}"),
        }
    }
}

/// One result for each that was asked for.
fn items<K: Ord + std::fmt::Debug, V: std::fmt::Debug>(
    mut asked: Vec<K>,
    results: Items<K, V>,
    healed: bool,
) {
    asked.sort();
    asked.dedup();
    let mut failed: Vec<Error> = Vec::new();
    let mut got = Vec::new();
    for (key, result) in results {
        got.push(key);
        failed.extend(result.err());
    }
    got.sort();
    assert_eq!(got, asked, "one result for each item");
    assert!(!healed || failed.is_empty(), "{failed:?}");
}

const NAMES: [&str; 3] = ["t", "u", "v"];

fn partition(input: &mut Input<'_>) -> TopicPartition {
    TopicPartition::new(TOPIC, i32::from(input.byte() % 3))
}

/// Anything that an administrator may ask for.
pub(super) fn call(input: &mut Input<'_>) -> AdminCall {
    let some = |input: &mut Input<'_>| -> Vec<String> {
        (0..input.below(4)).map(|_| NAMES[input.below(3)].to_owned()).collect()
    };
    match input.below(9) {
        0 => AdminCall::ListTopics,
        1 => AdminCall::CreateTopics {
            topics: NAMES.iter().take(input.below(4)).map(|name| NewTopic::new(*name)).collect(),
            validate_only: input.byte() > 128,
        },
        2 => AdminCall::DeleteTopics(some(input)),
        3 => AdminCall::ListGroups,
        4 => AdminCall::DescribeGroups(some(input)),
        5 => AdminCall::DeleteGroups(some(input)),
        6 => AdminCall::ListGroupOffsets(NAMES[input.below(3)].to_owned()),
        7 => {
            let offset = |input: &mut Input<'_>| match input.byte() {
                0..60 => Offset::Earliest,
                60..120 => Offset::Latest,
                120 => Offset::At(-1),
                at => Offset::At(i64::from(at)),
            };
            let offsets = (0..input.below(4)).map(|_| (partition(input), offset(input))).collect();
            AdminCall::AlterGroupOffsets { group: "g".to_owned(), offsets }
        }
        _ => {
            let partitions = (0..input.below(4)).map(|_| partition(input)).collect();
            AdminCall::DeleteGroupOffsets { group: "g".to_owned(), partitions }
        }
    }
}

/// An administrator with calls of every kind, side by side, against a broker that is honest or lies, in any order of
/// events: one outcome for each, in time; with an honest broker that is left alone every call succeeds; and closing ends.
pub fn administrator(data: &[u8]) {
    let mut input = Input(data);
    let mut rig = Rig::administrator(&mut input);
    rig.run(&mut input, !rig.is_honest());
    rig.end_calls();
    if rig.is_honest() {
        rig.heal_calls();
    }
    rig.close();
}
