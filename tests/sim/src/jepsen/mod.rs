//! The Kafka workload of Jepsen: what clients did and saw, written down as a history, and judged afterwards by a checker
//! that knows nothing else. It is the second opinion next to the [`oracle`](crate::oracle), with which it shares no
//! state and no rule.
//!
//! | op | meaning |
//! |---|---|
//! | [`What::Sent`] | a value was sent: its offset, or that it failed (its transaction was aborted), or that nobody knows |
//! | [`What::Assigned`], [`What::Subscribed`] | the process chose keys (partitions) itself, or subscribed to topics |
//! | [`What::Rebalanced`] | the coordinator's log of rebalances; what a client says of them is no evidence |
//! | [`What::Sought`] | the process moved a position |
//! | [`What::Polled`] | what one poll of one key gave, in order |
//! | [`What::Crashed`] | the process is gone; a new one has a new number |
//! | [`What::Deleted`], [`What::Dropped`] | retention, and the deletion of a topic |
//! | [`What::FinalPolls`] | from now on this process reads all keys from the start, until every acknowledged send is seen |

mod check;
#[cfg(test)]
mod tests;

use std::fmt;

pub use check::{Anomaly, check};

/// A partition, as Jepsen calls it.
pub type Key = String;

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was written, there.
    Ok(i64),
    /// It was not, or its transaction was aborted.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What a process did or was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A value was sent to a key.
    Sent(Key, u64, Sent),
    /// The process reads these keys and no others from now on.
    Assigned(Vec<Key>),
    /// The process is in a group. `logged`: its rebalances are written down.
    Subscribed {
        /// Whether every change of its keys is in the history.
        logged: bool,
    },
    /// By the word of the coordinator this key came to the process, or all of its keys were dealt out anew.
    Rebalanced(Option<Key>),
    /// The process moved this position.
    Sought(Key),
    /// One poll of one key: offset and value.
    Polled(Key, Vec<(i64, u64)>),
    /// The process is gone.
    Crashed,
    /// What lies below this offset is deleted.
    Deleted(Key, i64),
    /// The key is gone.
    Dropped(Key),
    /// From now on this process reads everything again.
    FinalPolls,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Who; producers and the cluster have numbers of their own.
    pub process: usize,
    /// What.
    pub what: What,
}

/// Everything that happened, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    ops: Vec<Op>,
    /// Values of aborted transactions must not be seen.
    pub read_committed: bool,
}

/// The process number of producers and of the cluster.
pub const NOBODY: usize = usize::MAX;

impl History {
    /// An empty one.
    pub fn new(read_committed: bool) -> Self {
        Self { ops: Vec::new(), read_committed }
    }

    /// Something happened.
    pub fn add(&mut self, process: usize, what: What) {
        self.ops.push(Op { process, what });
    }

    /// All that happened.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}
