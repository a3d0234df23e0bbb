//! What an administrator asks for, and what comes back: one result for each item that was asked for.

use std::fmt;

use crate::offsets::{CommittedOffset, Offset};
use crate::{BrokerId, Error, TopicId, TopicPartition};

/// What the user asks of the cluster.
#[derive(Clone, Debug)]
pub enum AdminCall {
    /// All topics.
    ListTopics,
    /// Creates topics, or only says whether they could be.
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Nothing is created.
        validate_only: bool,
    },
    /// Deletes topics.
    DeleteTopics(Vec<String>),
    /// All groups, asked of every broker.
    ListGroups,
    /// State and members of groups.
    DescribeGroups(Vec<String>),
    /// Deletes groups without members, with their offsets.
    DeleteGroups(Vec<String>),
    /// All that a group has committed.
    ListGroupOffsets(String),
    /// Commits for a group without members. Places that are not offsets are looked up first.
    AlterGroupOffsets {
        /// The group.
        group: String,
        /// Where it is to begin.
        offsets: Vec<(TopicPartition, Offset)>,
    },
    /// Deletes what a group has committed of partitions that no member reads.
    DeleteGroupOffsets {
        /// The group.
        group: String,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
}

/// A result for each item.
pub type Items<K, V> = Vec<(K, Result<V, Error>)>;

/// What became of an [`AdminCall`].
#[derive(Debug)]
pub enum AdminAnswer {
    /// Of `ListTopics`.
    Topics(Vec<TopicListing>),
    /// Of `CreateTopics`.
    CreatedTopics(Items<String, CreatedTopic>),
    /// Of `DeleteTopics`.
    DeletedTopics(Items<String, ()>),
    /// Of `ListGroups`.
    Groups(Vec<GroupListing>),
    /// Of `DescribeGroups`.
    DescribedGroups(Items<String, GroupDescription>),
    /// Of `DeleteGroups`.
    DeletedGroups(Items<String, ()>),
    /// Of `ListGroupOffsets`.
    GroupOffsets(Items<TopicPartition, CommittedOffset>),
    /// Of `AlterGroupOffsets`: the offset that is committed now.
    AlteredOffsets(Items<TopicPartition, i64>),
    /// Of `DeleteGroupOffsets`.
    DeletedOffsets(Items<TopicPartition, ()>),
}

/// A topic that is to be created.
///
/// # Examples
///
/// ```
/// # use ottla_core::admin::NewTopic;
/// let orders = NewTopic::new("orders").num_partitions(6).config("cleanup.policy", "compact");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it describes a topic and does not create it"]
pub struct NewTopic {
    pub(crate) name: String,
    pub(crate) num_partitions: i32,
    pub(crate) replication_factor: i16,
    pub(crate) configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with the brokers' default number of partitions and replicas (`num.partitions`,
    /// `default.replication.factor`; brokers from 2.4 on know them).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), num_partitions: -1, replication_factor: -1, configs: Vec::new() }
    }

    /// With so many partitions.
    pub fn num_partitions(mut self, partitions: i32) -> Self {
        self.num_partitions = partitions;
        self
    }

    /// With so many replicas of each partition.
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = replicas;
        self
    }

    /// With a setting of the topic, by Kafka's name: `cleanup.policy`, `retention.ms` …
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// A topic as the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id; brokers before 2.8 have none.
    pub topic_id: Option<TopicId>,
    /// Whether it is the cluster's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// How many partitions it has; 0 while its creation is under way.
    pub partitions: usize,
}

/// A topic that was created, or could be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; brokers before 2.8 tell none, and there is none if it was only validated.
    pub topic_id: Option<TopicId>,
    /// How many partitions it has; brokers before 2.4 do not tell.
    pub num_partitions: Option<i32>,
    /// How many replicas each has; brokers before 2.4 do not tell.
    pub replication_factor: Option<i16>,
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
            /// A word that this version of ottla does not know.
            Unknown,
        }

        impl $type {
            pub(crate) fn from_name(name: &str) -> Self {
                $(if name.eq_ignore_ascii_case($name) {
                    return Self::$variant;
                })*
                Self::Unknown
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown => "Unknown",
                })
            }
        }
    };
}

names! {
    /// The state of a group.
    GroupState {
        /// It has members, and all know their assignment.
        Stable = "Stable",
        /// Classic: the members are called together.
        PreparingRebalance = "PreparingRebalance",
        /// Classic: the members wait for their assignment.
        CompletingRebalance = "CompletingRebalance",
        /// Consumer protocol: the assignment is being computed.
        Assigning = "Assigning",
        /// Consumer protocol: the members move to their assignment.
        Reconciling = "Reconciling",
        /// Streams: something that the group needs is missing.
        NotReady = "NotReady",
        /// It has no members; its offsets may be there.
        Empty = "Empty",
        /// It is being deleted.
        Dead = "Dead",
    }
}

names! {
    /// The protocol that a group speaks.
    GroupType {
        /// JoinGroup and SyncGroup.
        Classic = "Classic",
        /// KIP-848.
        Consumer = "Consumer",
        /// A share group (KIP-932).
        Share = "Share",
        /// A streams group (KIP-1071).
        Streams = "Streams",
    }
}

/// A group as its coordinator lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// `consumer` for groups of consumers, empty for a group that only stores offsets.
    pub protocol_type: String,
    /// Its state; brokers before 2.6 do not tell.
    pub state: Option<GroupState>,
    /// The protocol it speaks; brokers before 3.8 do not tell.
    pub group_type: Option<GroupType>,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// [`Consumer`](GroupType::Consumer) or [`Classic`](GroupType::Classic).
    pub group_type: GroupType,
    /// Its state.
    pub state: GroupState,
    /// `consumer` for groups of consumers, empty for a group that only stores offsets.
    pub protocol_type: String,
    /// The assignor in use; empty while there is none.
    pub partition_assignor: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its `group.instance.id`, if it is a static member.
    pub group_instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// The partitions that it has, in order. Empty for a classic member while its group is not stable, and where
    /// the assignment is not in the layout of consumers.
    pub assignment: Vec<TopicPartition>,
}
