//! Partition assignors: who in a classic group reads which partition.
//!
//! The leader of a group gets the subscriptions of all members and answers with an assignment. All members must
//! agree on the algorithm, also across implementations, so the names, the user data and (where Kafka's own
//! answer does not depend on the order of a hash table) the assignments are those of Kafka's Java client.
//!
//! [`Assignor::assign`] is a pure function of its arguments. It may take a while on groups of thousands of
//! members and millions of partitions: run it away from the thread that sends heartbeats.
//!
//! **Other members' bytes are hostile.** Claims of unknown topics, negative or absurd partitions, the same
//! partition claimed twice, user data that cannot be read, a member that is listed twice: none of that panics or
//! makes an assignment with two owners; it is ignored or, where Kafka has a rule for it, treated by that rule.
//!
//! | module | what it does |
//! |---|---|
//! | `user_data` | the bytes which the sticky assignors add to a subscription |
//! | `group` | names become numbers, equal subscriptions become one |
//! | `racks` | who is near what (KIP-881) |
//! | `claims` | who owned what before, by generation (KIP-341, KIP-792) |
//! | `range`, `round_robin` | the two without memory |
//! | `uniform` | sticky, all members subscribed to the same topics |
//! | `own` | assignors of the user's |
//! | `levels`, `general`, `flow` | sticky, subscriptions differ: the best balance, then the fewest moves |

mod claims;
mod flow;
mod general;
mod group;
mod levels;
mod own;
mod racks;
mod range;
mod round_robin;
mod uniform;
mod user_data;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::consumer_protocol::Subscription;

use claims::Claims;
use group::{Group, NONE};
use racks::Racks;

pub use own::{OwnAssignor, PartitionAssignor};

/// A member of the group as its join request describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it. Unique in a group; of several with the same id the first counts.
    pub member_id: String,
    /// The id of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// What it is subscribed to; repeated names count once.
    pub topics: Vec<String>,
    /// What it says it owns (`Subscription` version 1 and up). Only cooperative members own something then.
    pub owned_partitions: Vec<(String, Vec<i32>)>,
    /// The generation in which it owned that (`Subscription` version 2 and up, KIP-792).
    pub generation_id: Option<i32>,
    /// Where it runs (`Subscription` version 3, KIP-881). Empty is the same as none.
    pub rack_id: Option<String>,
    /// What its assignor added, see [`Assignor::subscription_user_data`].
    pub user_data: Option<Bytes>,
}

impl GroupMember {
    /// The member with this id, this instance id if it is a static one, and this subscription.
    pub fn new(member_id: String, group_instance_id: Option<String>, subscription: Subscription) -> Self {
        let Subscription { topics, user_data, owned_partitions, generation_id, rack_id } = subscription;
        Self { member_id, group_instance_id, topics, owned_partitions, generation_id, rack_id, user_data }
    }
}

/// A partition as far as assignors care.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Racks of all its replicas, also of those offline or out of sync. Empty where brokers have no racks.
    pub racks: Vec<Arc<str>>,
}

/// A topic as far as assignors care.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its partitions: the index is the partition's number.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// A topic with `partitions` partitions, racks unknown.
    pub fn new(name: impl Into<String>, partitions: usize) -> Self {
        Self { name: name.into(), partitions: vec![PartitionInfo::default(); partitions] }
    }
}

/// The topics that the metadata knows. A topic that is subscribed to and not in here is assigned to nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterTopics {
    topics: BTreeMap<String, TopicInfo>,
}

impl ClusterTopics {
    /// No topics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `topic`, in place of an older one of that name.
    pub fn insert(&mut self, topic: TopicInfo) {
        self.topics.insert(topic.name.clone(), topic);
    }

    /// The topic called `name`.
    pub fn get(&self, name: &str) -> Option<&TopicInfo> {
        self.topics.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &TopicInfo> {
        self.topics.values()
    }
}

impl FromIterator<TopicInfo> for ClusterTopics {
    fn from_iter<I: IntoIterator<Item = TopicInfo>>(topics: I) -> Self {
        Self { topics: topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect() }
    }
}

/// Topics with their partitions, both sorted.
pub type TopicPartitions = Vec<(String, Vec<i32>)>;

/// What every member gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupAssignment {
    members: BTreeMap<String, TopicPartitions>,
    withheld: BTreeMap<String, TopicPartitions>,
    refusal: Option<String>,
}

impl GroupAssignment {
    /// There is no assignment, because of this.
    pub(crate) fn refused(why: String) -> Self {
        Self { refusal: Some(why), ..Self::default() }
    }

    /// Why an [`OwnAssignor`] made none.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What `member_id` gets; nothing for who is not a member.
    pub fn get(&self, member_id: &str) -> &[(String, Vec<i32>)] {
        self.members.get(member_id).map_or(&[], Vec::as_slice)
    }

    /// Every member of the group, also those that get nothing.
    pub fn members(&self) -> &BTreeMap<String, TopicPartitions> {
        &self.members
    }

    /// Partitions that nobody gets in this round, because somebody other than the coming owner still claims
    /// them, under the member that is to get them in the next (KIP-429). Always empty with eager assignors.
    pub fn withheld(&self) -> &BTreeMap<String, TopicPartitions> {
        &self.withheld
    }

    /// The members with what they get.
    pub fn into_members(self) -> BTreeMap<String, TopicPartitions> {
        self.members
    }
}

/// How partitions change hands in a rebalance (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceProtocol {
    /// Everybody gives up everything before joining.
    Eager,
    /// Members keep what they have while joining; what changes hands is given up first and assigned in a
    /// rebalance of its own.
    Cooperative,
}

/// The assignors of Kafka's Java client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// Topic by topic, consecutive partitions to each member; topics with the same subscribers and the same
    /// number of partitions are co-partitioned. Rack-aware (KIP-881).
    Range,
    /// All partitions of all topics are dealt in turn.
    RoundRobin,
    /// As balanced as possible, then as few moves as possible; eager. Rack-aware (KIP-881).
    Sticky,
    /// As `Sticky`, without stopping the partitions that stay (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Range, Self::RoundRobin, Self::Sticky, Self::CooperativeSticky];

    /// The name in the protocol list of a join request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The rebalance protocol that it needs.
    pub fn protocol(self) -> RebalanceProtocol {
        match self {
            Self::CooperativeSticky => RebalanceProtocol::Cooperative,
            Self::Range | Self::RoundRobin | Self::Sticky => RebalanceProtocol::Eager,
        }
    }

    /// The user data of a subscription whose member was given `owned` in `generation` (below 0: never joined).
    ///
    /// Sticky writes both (its version 1), and nothing before the first assignment; cooperative-sticky writes
    /// the generation alone; the others write nothing.
    pub fn subscription_user_data(self, owned: &[(String, Vec<i32>)], generation: i32) -> Option<Bytes> {
        match self {
            Self::Range | Self::RoundRobin => None,
            Self::Sticky if owned.is_empty() && generation < 0 => None,
            Self::Sticky => Some(user_data::encode_sticky(owned, generation)),
            Self::CooperativeSticky => Some(user_data::encode_cooperative(generation)),
        }
    }

    /// What the leader takes for the earlier assignment of `member` and its generation.
    ///
    /// Sticky reads the user data alone. Cooperative-sticky takes the partitions from the subscription, and the
    /// generation from there too; only where it is missing (`Subscription` below version 2) from the user data.
    /// User data that cannot be read means generation −1, which is older than any.
    pub fn previous_assignment(self, member: &GroupMember) -> (TopicPartitions, Option<i32>) {
        let previous = user_data::previous(self, member);
        let topics =
            previous.topics.iter().map(|(name, partitions)| (name.to_string(), partitions.iter().collect()));
        (topics.collect(), previous.generation)
    }

    /// Assigns the partitions of all topics that somebody is subscribed to.
    ///
    /// The answer does not depend on the order of `members`. Time grows with the number of partitions, members
    /// and subscriptions, not with a product of them; with differing subscriptions the sticky assignors solve a
    /// flow problem over the distinct subscriptions.
    pub fn assign(self, members: &[GroupMember], topics: &ClusterTopics) -> GroupAssignment {
        let group = Group::new(members, topics);
        match self {
            Self::Range => group.assignment(&range::assign(&group, Racks::of(&group).as_ref())),
            Self::RoundRobin => group.assignment(&round_robin::assign(&group)),
            Self::Sticky | Self::CooperativeSticky => {
                let claims = Claims::of(self, &group);
                let racks = Racks::of(&group);
                let mut targets = if group.uniform {
                    uniform::assign(&group, &claims, racks.as_ref().filter(|racks| racks.matter()))
                } else {
                    general::assign(&group, &claims, racks.as_ref())
                };
                if self.protocol() == RebalanceProtocol::Eager {
                    return group.assignment(&targets);
                }
                let mut withheld = vec![NONE; targets.len()];
                for (partition, target) in targets.iter_mut().enumerate() {
                    if *target != NONE && claims.must_wait(partition, *target) {
                        withheld[partition] = std::mem::replace(target, NONE);
                    }
                }
                let mut assignment = group.assignment(&targets);
                assignment.withheld = group.assignment(&withheld).members;
                assignment.withheld.retain(|_, topics| !topics.is_empty());
                assignment
            }
        }
    }
}
