//! Consumer groups (KIP-848) on virtual time: what takes time, and what configurations change. The rest is compared
//! with Apache Kafka in `parity_consumer_groups.rs`.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::*;
use ottla_broker::sim::{ClusterConfig, ConnectionId};
use ottla_broker::{Api, ErrorCode, GroupState, MigrationPolicy};
use support::member::{commit, join, leave, offset_fetch};
use support::*;
use uuid::Uuid;

/// A member that does what it is told.
struct Member {
    connection: ConnectionId,
    id: String,
    instance: Option<String>,
    epoch: i32,
    owned: BTreeSet<i32>,
}

fn sim(partitions: i32) -> Sim {
    Sim::with_topic(1, "t", partitions)
}

fn member(sim: &mut Sim, id: &str) -> Member {
    let connection = sim.connect(1);
    Member { connection, id: id.to_owned(), instance: None, epoch: 0, owned: BTreeSet::new() }
}

impl Member {
    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group_id("g"))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.as_deref().map(text));
        if self.epoch == 0 {
            request = request
                .with_rebalance_timeout_ms(20_000)
                .with_subscribed_topic_names(Some(vec![topic_name("t")]))
                .with_topic_partitions(Some(Vec::new()));
        }
        request
    }

    fn send(&mut self, sim: &mut Sim, request: &ConsumerGroupHeartbeatRequest) -> ErrorCode {
        let r = sim.call(self.connection, 1, request);
        if r.error_code == 0 {
            self.epoch = r.member_epoch;
            if let Some(assignment) = r.assignment {
                self.owned = assignment.topic_partitions.iter().flat_map(|t| t.partitions.clone()).collect();
            }
        }
        ErrorCode(r.error_code)
    }

    /// Joins, or beats on.
    fn beat(&mut self, sim: &mut Sim) -> ErrorCode {
        let request = self.request();
        self.send(sim, &request)
    }

    /// Tells what it owns: all that it was told.
    fn acknowledge(&mut self, sim: &mut Sim) -> ErrorCode {
        let id = Uuid::from_bytes(sim.cluster.topic_id("t").unwrap());
        let partitions: Vec<i32> = self.owned.iter().copied().collect();
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![TopicPartitions::default().with_topic_id(id).with_partitions(partitions)],
        };
        let request = self.request().with_topic_partitions(Some(topics));
        self.send(sim, &request)
    }
}

fn state(sim: &Sim) -> (GroupState, usize) {
    let group = sim.cluster.group("g").unwrap();
    (group.state, group.members.len())
}

#[test]
fn members_share_the_partitions_and_nobody_gets_one_that_another_holds() {
    let mut sim = sim(6);
    let mut members: Vec<Member> = ["a", "b", "c"].iter().map(|id| member(&mut sim, id)).collect();
    for m in &mut members {
        assert_eq!(m.beat(&mut sim), ErrorCode::NONE);
    }
    assert_eq!(state(&sim), (GroupState::Reconciling, 3));
    for round in 0..4 {
        for i in 0..members.len() {
            let before = members[i].owned.clone();
            assert_eq!(members[i].beat(&mut sim), ErrorCode::NONE);
            // Until it acknowledges it may still own all of these.
            let mine: BTreeSet<i32> = before.union(&members[i].owned).copied().collect();
            let others = members.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, m)| &m.owned);
            assert!(others.clone().all(|o| o.is_disjoint(&mine)), "round {round}");
            assert_eq!(members[i].acknowledge(&mut sim), ErrorCode::NONE);
        }
    }
    assert_eq!(members.iter().map(|m| m.owned.len()).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(state(&sim), (GroupState::Stable, 3));
    assert_eq!(sim.cluster.group("g").unwrap().assigned().len(), 6);
}

#[test]
fn a_silent_member_is_put_out_after_its_session() {
    let mut sim = sim(4);
    let (mut a, mut b) = (member(&mut sim, "a"), member(&mut sim, "b"));
    a.beat(&mut sim);
    sim.advance(Duration::from_secs(44));
    b.beat(&mut sim);
    assert_eq!(b.owned.len(), 0, "a holds them");
    sim.advance(Duration::from_secs(2));
    assert_eq!(a.beat(&mut sim), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!((b.beat(&mut sim), b.owned.len()), (ErrorCode::NONE, 4));
}

#[test]
fn a_member_that_does_not_revoke_in_its_rebalance_timeout_is_put_out() {
    let mut sim = sim(4);
    let (mut a, mut b) = (member(&mut sim, "a"), member(&mut sim, "b"));
    a.beat(&mut sim);
    b.beat(&mut sim);
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 2));
    for _ in 0..3 {
        sim.advance(Duration::from_secs(5));
        assert_eq!((a.beat(&mut sim), b.beat(&mut sim)), (ErrorCode::NONE, ErrorCode::NONE));
    }
    sim.advance(Duration::from_secs(5));
    assert_eq!(a.beat(&mut sim), ErrorCode::UNKNOWN_MEMBER_ID, "20 s are over");
    assert_eq!((b.beat(&mut sim), b.owned.len()), (ErrorCode::NONE, 4));
}

#[test]
fn a_static_member_keeps_its_place_while_it_is_away_and_loses_it_after_the_session() {
    let mut sim = sim(4);
    let mut a = Member { instance: Some("i".to_owned()), ..member(&mut sim, "a") };
    a.beat(&mut sim);
    let epoch = a.epoch;
    a.epoch = -2;
    assert_eq!(a.beat(&mut sim), ErrorCode::NONE);
    let mut back = Member { instance: Some("i".to_owned()), ..member(&mut sim, "a2") };
    assert_eq!(back.beat(&mut sim), ErrorCode::NONE);
    assert_eq!((back.epoch, back.owned.len()), (epoch, 4), "no rebalance");
    back.epoch = -2;
    back.beat(&mut sim);
    sim.advance(Duration::from_secs(46));
    assert_eq!(state(&sim), (GroupState::Empty, 0));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut config = ClusterConfig::with_nodes(1);
    config.max_consumer_group_size = 1;
    let mut sim = Sim::new(config);
    sim.cluster.create_topic("t", 1).unwrap();
    let (mut a, mut b) = (member(&mut sim, "a"), member(&mut sim, "b"));
    assert_eq!(a.beat(&mut sim), ErrorCode::NONE);
    assert_eq!(b.beat(&mut sim), ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(a.beat(&mut sim), ErrorCode::NONE);
}

#[test]
fn new_partitions_and_new_topics_are_assigned_at_the_next_heartbeat() {
    let mut sim = Sim::nodes(1);
    let mut a = member(&mut sim, "a");
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 0));
    sim.cluster.create_topic("t", 2).unwrap();
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 2));
    sim.cluster.create_partitions("t", 5).unwrap();
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 5));
    sim.cluster.delete_topic(sim.now, "t").unwrap();
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 0));
}

#[test]
fn a_new_coordinator_knows_the_members_and_gives_each_a_new_session() {
    let mut sim = Sim::with_topic(2, "t", 4);
    let node = sim.cluster.coordinator("g").unwrap();
    let connection = sim.connect(node);
    let mut a = Member { connection, ..member(&mut sim, "a") };
    a.beat(&mut sim);
    sim.advance(Duration::from_secs(40));
    sim.cluster.move_coordinator(sim.now, "g", 3 - node).unwrap();
    assert_eq!(a.beat(&mut sim), ErrorCode::NOT_COORDINATOR);
    sim.advance(Duration::from_secs(40));
    a.connection = sim.connect(3 - node);
    assert_eq!(a.beat(&mut sim), ErrorCode::NONE);
}

#[test]
fn brokers_without_the_feature_refuse_and_do_not_tell_of_it() {
    let mut off = ClusterConfig::with_nodes(1);
    off.consumer_groups = false;
    for config in [off, ClusterConfig::with_nodes(1).as_version("3.9").unwrap()] {
        let mut sim = Sim::new(config);
        let connection = sim.connect(1);
        let versions = ApiVersionsRequest::default()
            .with_client_software_name(text("tester"))
            .with_client_software_version(text("1"));
        assert!(sim.call(connection, 3, &versions).finalized_features.is_empty());
        let request = member(&mut sim, "a").request();
        assert_eq!(ErrorCode(sim.call(connection, 0, &request).error_code), ErrorCode::UNSUPPORTED_VERSION);
    }
    let mut sim = Sim::new(ClusterConfig::with_nodes(1).cap(Api::ConsumerGroupHeartbeat, -1));
    let connection = sim.connect(1);
    let request = ApiVersionsRequest::default();
    let keys = sim.call(connection, 0, &request).api_keys;
    assert!(keys.iter().all(|k| k.api_key != Api::ConsumerGroupHeartbeat.key()));
}

#[test]
fn an_empty_group_changes_its_type_and_keeps_its_offsets() {
    let mut config = ClusterConfig::with_nodes(1);
    config.migration_policy = MigrationPolicy::Disabled;
    let mut sim = Sim::new(config);
    sim.cluster.create_topic("t", 2).unwrap();
    let members = sim.stable_group("g", 1);
    let mut a = member(&mut sim, "a");
    assert_eq!(a.beat(&mut sim), ErrorCode::GROUP_ID_NOT_FOUND, "it has a classic member");
    assert_eq!(sim.try_commit("g", &members[0], 7), ErrorCode::NONE);
    sim.call(members[0].connection, 3, &leave("g", &members[0].id, None));
    assert_eq!((a.beat(&mut sim), a.owned.len()), (ErrorCode::NONE, 2));
    let r = sim.call(a.connection, 7, &offset_fetch("g", "t", &[0]));
    assert_eq!(r.topics[0].partitions[0].committed_offset, 7);
    let r = sim.call(a.connection, 9, &commit("g", "a", a.epoch, &[("t", 0, 9)]));
    assert_eq!(r.topics[0].partitions[0].error_code, 0);
    let r = sim.call(a.connection, 5, &join("g", "", &[("range", "")]));
    assert_eq!(ErrorCode(r.error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    a.epoch = -1;
    a.beat(&mut sim);
    let r = sim.call(a.connection, 5, &join("g", "", &[("range", "")]));
    assert_eq!(ErrorCode(r.error_code), ErrorCode::MEMBER_ID_REQUIRED);
    assert_eq!(sim.cluster.committed("g", "t", 0).unwrap().offset, 9);
}
