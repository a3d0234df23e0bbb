//! Assignors of the user's own.
//!
//! They are foreign code: what they do wrong, and a panic, becomes an error of the leader, which leaves the group so
//! that it does not wait. What they return is checked like what comes from the network.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use super::{ClusterTopics, GroupAssignment, GroupMember, RebalanceProtocol, TopicPartitions};

/// An assignor of one's own, for the classic protocol (Java: `ConsumerPartitionAssignor`).
///
/// All members of a group must offer one of the same name; the member that the coordinator chooses as leader runs it.
/// Called away from the thread that heartbeats, [`subscription_user_data`](Self::subscription_user_data) excepted.
pub trait PartitionAssignor: Send + Sync + 'static {
    /// The name in the protocol list, which is not that of one of Kafka's own.
    fn name(&self) -> &str;

    /// How partitions change hands. Default: eager.
    ///
    /// With [`RebalanceProtocol::Cooperative`] a partition that another member claims is given to nobody in this round,
    /// whatever [`assign`](Self::assign) says; its owner gives it up, and the next round assigns it.
    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    /// What this member tells the leader besides its topics: [`GroupMember::user_data`]. Default: nothing.
    ///
    /// Called whenever the member joins, on the thread that drives the consumer: it must be quick and must not block.
    /// `owned` is what the member was given last.
    fn subscription_user_data(&self, topics: &BTreeSet<String>, owned: &TopicPartitions) -> Option<Bytes> {
        let _ = (topics, owned);
        None
    }

    /// Who gets what: partitions by member id. A member that is left out gets nothing.
    ///
    /// `topics` are those that members subscribe to, as far as they exist. What other members say of themselves is not
    /// to be trusted.
    ///
    /// # Errors
    /// Whatever it cannot do. The leader then fails with it and leaves the group, which chooses another one.
    fn assign(
        &self,
        members: &[GroupMember],
        topics: &ClusterTopics,
    ) -> Result<BTreeMap<String, TopicPartitions>, Box<dyn StdError + Send + Sync>>;
}

/// A [`PartitionAssignor`] that members share.
#[derive(Clone)]
pub struct OwnAssignor(Arc<dyn PartitionAssignor>);

impl fmt::Debug for OwnAssignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnAssignor({:?})", self.name())
    }
}

impl OwnAssignor {
    /// Takes it in.
    pub fn new(assignor: impl PartitionAssignor) -> Self {
        Self(Arc::new(assignor))
    }

    /// Its name; empty if it panics.
    pub fn name(&self) -> String {
        guarded("name", || Ok(self.0.name().to_owned())).unwrap_or_default()
    }

    /// How partitions change hands; eager if it panics.
    pub fn protocol(&self) -> RebalanceProtocol {
        guarded("protocol", || Ok(self.0.protocol())).unwrap_or(RebalanceProtocol::Eager)
    }

    /// What this member tells the leader.
    ///
    /// # Errors
    /// What the panic said.
    pub(crate) fn user_data(
        &self,
        topics: &BTreeSet<String>,
        owned: &TopicPartitions,
    ) -> Result<Option<Bytes>, String> {
        guarded("subscription_user_data", || Ok(self.0.subscription_user_data(topics, owned)))
    }

    /// Assigns, or says why not: [`GroupAssignment::refusal`].
    pub(crate) fn assign(&self, members: &[GroupMember], topics: &ClusterTopics) -> GroupAssignment {
        let assigned = guarded("assign", || self.0.assign(members, topics).map_err(|e| e.to_string()));
        let checked = assigned.and_then(|assigned| check(assigned, members, topics));
        match checked {
            Ok(assigned) => match self.protocol() {
                RebalanceProtocol::Eager => assigned,
                RebalanceProtocol::Cooperative => withhold(assigned, members),
            },
            Err(why) => GroupAssignment::refused(why),
        }
    }
}

/// Runs foreign code.
fn guarded<T>(what: &str, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("{what} panicked: {}", text.as_deref().unwrap_or("no text")))
    })
}

/// Only members, only what they subscribe to, only what there is, and nothing twice.
fn check(
    assigned: BTreeMap<String, TopicPartitions>,
    members: &[GroupMember],
    topics: &ClusterTopics,
) -> Result<GroupAssignment, String> {
    let known: BTreeMap<&str, BTreeSet<&str>> = members
        .iter()
        .map(|m| (m.member_id.as_str(), m.topics.iter().map(String::as_str).collect()))
        .collect();
    let mut owners: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for (member, given) in &assigned {
        let Some(subscribed) = known.get(member.as_str()) else {
            return Err(format!("it assigned to {member:?}, which is no member"));
        };
        for (topic, partitions) in given {
            let Some(info) = topics.get(topic).filter(|_| subscribed.contains(topic.as_str())) else {
                return Err(format!(
                    "it gave {topic:?} to {member:?}, which does not subscribe to it, or it does not exist"
                ));
            };
            for partition in partitions {
                if !usize::try_from(*partition).is_ok_and(|p| p < info.partitions.len()) {
                    return Err(format!("it assigned {topic}-{partition}, which does not exist"));
                }
                if let Some(other) = owners.insert((topic, *partition), member) {
                    return Err(format!("it gave {topic}-{partition} to {other:?} and to {member:?}"));
                }
            }
        }
    }
    let mut of_all: BTreeMap<String, TopicPartitions> =
        members.iter().map(|m| (m.member_id.clone(), TopicPartitions::new())).collect();
    for ((topic, partition), member) in owners {
        let Some(given) = of_all.get_mut(member) else { continue };
        match given.last_mut() {
            Some((last, partitions)) if last == topic => partitions.push(partition),
            _ => given.push((topic.to_owned(), vec![partition])),
        }
    }
    Ok(GroupAssignment { members: of_all, ..GroupAssignment::default() })
}

/// Takes back what somebody else claims: it is given up first (KIP-429).
fn withhold(mut assignment: GroupAssignment, members: &[GroupMember]) -> GroupAssignment {
    let mut claims: BTreeMap<(&str, i32), BTreeSet<&str>> = BTreeMap::new();
    for member in members {
        for (topic, partitions) in &member.owned_partitions {
            for partition in partitions {
                claims.entry((topic, *partition)).or_default().insert(&member.member_id);
            }
        }
    }
    for (member, given) in &mut assignment.members {
        let mut withheld = TopicPartitions::new();
        for (topic, partitions) in given.iter_mut() {
            let waits = |partition: &i32| {
                let claimed = claims.get(&(topic.as_str(), *partition));
                claimed.is_some_and(|by| by.iter().any(|other| *other != member.as_str()))
            };
            let (wait, free): (Vec<i32>, Vec<i32>) = partitions.iter().partition(|p| waits(p));
            *partitions = free;
            if !wait.is_empty() {
                withheld.push((topic.clone(), wait));
            }
        }
        given.retain(|(_, partitions)| !partitions.is_empty());
        if !withheld.is_empty() {
            assignment.withheld.insert(member.clone(), withheld);
        }
    }
    assignment
}
