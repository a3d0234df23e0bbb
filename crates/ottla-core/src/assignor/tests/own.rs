//! Assignors of the user's: what they do wrong is said, and never assigned.

use std::collections::BTreeMap;
use std::error::Error;

use crate::assignor::{
    ClusterTopics, GroupMember, OwnAssignor, PartitionAssignor, RebalanceProtocol, TopicInfo, TopicPartitions,
};

type Assigned = Result<BTreeMap<String, TopicPartitions>, Box<dyn Error + Send + Sync>>;
type Assign = fn() -> Assigned;

struct Fixed(RebalanceProtocol, Assign);

impl PartitionAssignor for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn protocol(&self) -> RebalanceProtocol {
        self.0
    }

    fn assign(&self, _: &[GroupMember], _: &ClusterTopics) -> Assigned {
        (self.1)()
    }
}

fn member(id: &str, topics: &[&str], owned: &[i32]) -> GroupMember {
    let owned_partitions = if owned.is_empty() { Vec::new() } else { vec![("t".to_owned(), owned.to_vec())] };
    GroupMember {
        member_id: id.to_owned(),
        topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        owned_partitions,
        ..GroupMember::default()
    }
}

fn given(list: &[(&str, &str, &[i32])]) -> Assigned {
    let mut all: BTreeMap<String, TopicPartitions> = BTreeMap::new();
    for (member, topic, partitions) in list {
        all.entry((*member).to_owned()).or_default().push(((*topic).to_owned(), partitions.to_vec()));
    }
    Ok(all)
}

fn run(protocol: RebalanceProtocol, assign: fn() -> Assigned) -> crate::assignor::GroupAssignment {
    let members = [member("a", &["t"], &[0, 1]), member("b", &["t", "u"], &[])];
    let topics = [TopicInfo::new("t", 3), TopicInfo::new("u", 1)].into_iter().collect();
    OwnAssignor::new(Fixed(protocol, assign)).assign(&members, &topics)
}

#[test]
fn what_it_says_is_assigned_sorted_and_who_is_left_out_gets_nothing() {
    let assigned =
        run(RebalanceProtocol::Eager, || given(&[("b", "u", &[0]), ("b", "t", &[2, 0]), ("b", "t", &[1])]));
    assert_eq!(assigned.refusal(), None);
    assert_eq!(assigned.get("b"), [("t".to_owned(), vec![0, 1, 2]), ("u".to_owned(), vec![0])]);
    assert_eq!(assigned.get("a"), []);
    assert_eq!(assigned.members().len(), 2);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let cases: [(Assign, &str); 8] = [
        (|| Err("the moon is full".into()), "the moon is full"),
        (|| panic!("oh no"), "assign panicked: oh no"),
        (|| given(&[("c", "t", &[0])]), "no member"),
        (|| given(&[("a", "u", &[0])]), "does not subscribe"),
        (|| given(&[("a", "v", &[0])]), "does not subscribe"),
        (|| given(&[("a", "t", &[3])]), "t-3, which does not exist"),
        (|| given(&[("a", "t", &[-1])]), "t--1, which does not exist"),
        (|| given(&[("a", "t", &[1]), ("b", "t", &[1])]), "t-1 to \"a\" and to \"b\""),
    ];
    for (assign, why) in cases {
        let refused = run(RebalanceProtocol::Eager, assign);
        assert!(refused.refusal().is_some_and(|text| text.contains(why)), "{:?}: {why}", refused.refusal());
        assert!(refused.members().is_empty());
    }
}

/// KIP-429: added and revoked partitions of one generation have nothing in common, whatever the assignor says.
#[test]
fn kip_429_a_cooperative_one_gives_nobody_what_another_member_claims() {
    let assign = || given(&[("a", "t", &[0]), ("b", "t", &[1, 2])]);
    let assigned = run(RebalanceProtocol::Cooperative, assign);
    assert_eq!(assigned.get("a"), [("t".to_owned(), vec![0])]);
    assert_eq!(assigned.get("b"), [("t".to_owned(), vec![2])]);
    assert_eq!(assigned.withheld()["b"], [("t".to_owned(), vec![1])]);
    assert_eq!(run(RebalanceProtocol::Eager, assign).get("b"), [("t".to_owned(), vec![1, 2])]);
}
