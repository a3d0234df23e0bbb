//! Identifiers: one type each, so that two integers of the same width cannot be mistaken for one another.

use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A broker's node id.
    BrokerId(i32)
}
id! {
    /// A connection that the core asked for; never reused.
    ConnectionId(u64)
}
id! {
    /// A command given to the core; its outcome comes out later under the same id.
    CommandId(u64)
}
id! {
    /// The epoch of a partition's leadership (KIP-101, KIP-320). Absent where a broker does not tell it.
    LeaderEpoch(i32)
}
id! {
    /// Stamps one ownership of one partition. It changes on assignment, revocation, loss and every seek, and
    /// never when the generation of a kept partition moves, so that a commit carries whose work it is.
    OwnershipEpoch(u64)
}

impl LeaderEpoch {
    /// What the wire's integer says: negative means unknown.
    pub fn from_wire(epoch: i32) -> Option<Self> {
        (epoch >= 0).then_some(Self(epoch))
    }

    /// What goes on the wire: -1 for unknown.
    pub fn to_wire(epoch: Option<Self>) -> i32 {
        epoch.map_or(-1, |e| e.0)
    }
}

/// A partition of a topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic's name, shared.
    pub fn topic_arc(&self) -> &Arc<str> {
        &self.topic
    }

    /// The partition's number within the topic, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
