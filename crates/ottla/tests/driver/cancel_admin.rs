//! Every future of an administrator, polled n times and dropped: a call that was polled once is carried out, and one
//! that was not is not.

use std::time::Duration;

use ottla::{Admin, AdminBuilder, ErrorKind, GroupState, NewTopic, Offset};
use ottla_broker::Broker;

use crate::harness::{Cut, PARTITIONS, TOPIC, World, for_every_cut, polled, tp};
use crate::net::Weather;

/// A group without members that has committed.
const IDLE: &str = "idle";
/// A topic that is there only for this.
const SPARE: &str = "spare";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    ListTopics,
    CreateTopics,
    ValidateTopics,
    DeleteTopics,
    ListGroups,
    DescribeGroups,
    DeleteGroups,
    ListGroupOffsets,
    AlterGroupOffsets,
    DeleteGroupOffsets,
}

const CALLS: [Call; 10] = [
    Call::ListTopics,
    Call::CreateTopics,
    Call::ValidateTopics,
    Call::DeleteTopics,
    Call::ListGroups,
    Call::DescribeGroups,
    Call::DeleteGroups,
    Call::ListGroupOffsets,
    Call::AlterGroupOffsets,
    Call::DeleteGroupOffsets,
];

impl Call {
    /// True if it was ready; then it went well.
    async fn polled(self, admin: &Admin, cut: Cut, world: &World) -> bool {
        let net = &world.net;
        match self {
            Self::ListTopics => {
                let topics = polled(admin.list_topics(), cut, net).await;
                topics.map(|topics| assert!(topics.unwrap().contains_key(TOPIC)))
            }
            Self::CreateTopics => {
                let created = polled(admin.create_topics([NewTopic::new("new").num_partitions(1)]), cut, net);
                created.await.map(|created| assert!(created.unwrap()["new"].is_ok()))
            }
            Self::ValidateTopics => {
                let topic = NewTopic::new("new").num_partitions(1);
                let valid = polled(admin.validate_topics([topic]), cut, net).await;
                valid.map(|valid| assert!(valid.unwrap()["new"].is_ok()))
            }
            Self::DeleteTopics => {
                let deleted = polled(admin.delete_topics([SPARE]), cut, net).await;
                deleted.map(|deleted| assert!(deleted.unwrap()[SPARE].is_ok()))
            }
            Self::ListGroups => {
                let groups = polled(admin.list_groups(), cut, net).await;
                groups.map(|groups| assert!(groups.unwrap().contains_key(IDLE)))
            }
            Self::DescribeGroups => {
                let described = polled(admin.describe_groups([IDLE]), cut, net).await;
                described.map(|described| {
                    let group = &described.unwrap()[IDLE];
                    assert_eq!(group.as_ref().unwrap().state, GroupState::Empty);
                })
            }
            Self::DeleteGroups => {
                let deleted = polled(admin.delete_groups([IDLE]), cut, net).await;
                deleted.map(|deleted| assert!(deleted.unwrap()[IDLE].is_ok()))
            }
            Self::ListGroupOffsets => {
                let offsets = polled(admin.list_group_offsets(IDLE), cut, net).await;
                offsets.map(|offsets| assert_eq!(offsets.unwrap()[&tp(0)].as_ref().unwrap().offset, 3))
            }
            Self::AlterGroupOffsets => {
                let altered = admin.alter_group_offsets(IDLE, [(tp(0), Offset::Latest)]);
                let altered = polled(altered, cut, net).await;
                altered.map(|altered| assert_eq!(*altered.unwrap()[&tp(0)].as_ref().unwrap(), 12))
            }
            Self::DeleteGroupOffsets => {
                let deleted = polled(admin.delete_group_offsets(IDLE, [tp(0)]), cut, net).await;
                deleted.map(|deleted| assert!(deleted.unwrap()[&tp(0)].is_ok()))
            }
        }
        .is_some()
    }

    /// What the cluster has: the new topic, the spare one, the group's first offset.
    fn expected(self, is_done: bool) -> (bool, bool, Option<i64>) {
        let (mut new, mut spare, mut offset) = (false, true, Some(3));
        match self {
            _ if !is_done => {}
            Self::CreateTopics => new = true,
            Self::DeleteTopics => spare = false,
            Self::DeleteGroups | Self::DeleteGroupOffsets => offset = None,
            Self::AlterGroupOffsets => offset = Some(12),
            _ => {}
        }
        (new, spare, offset)
    }
}

fn found(broker: &Broker) -> (bool, bool, Option<i64>) {
    let there = |topic: &str| broker.log_end_offset(topic, 0).is_ok();
    (there("new"), there(SPARE), broker.committed(IDLE, TOPIC, 0))
}

async fn admin(world: &World) -> Result<Admin, ottla::Error> {
    AdminBuilder::from(world.consumer()).connect().await
}

#[test]
fn an_administrators_call_that_is_dropped_is_carried_out_once_it_was_polled() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for call in CALLS {
            let most = for_every_cut(&format!("{weather:?} {call:?}"), async |cut| {
                let world = World::new(2).await;
                world.produce(12);
                world.broker.create_topic(SPARE, 1).unwrap();
                for partition in 0..PARTITIONS {
                    world.broker.set_committed(IDLE, TOPIC, partition, 3).unwrap();
                }
                let admin = admin(&world).await.unwrap();
                world.net.set(weather);
                let completed = call.polled(&admin, cut, &world).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(found(&world.broker), call.expected(cut.polls > 0));
                // Its answer was lost, and nobody is in the way of the next call.
                assert!(admin.list_topics().await.unwrap().contains_key(TOPIC));
                drop(admin);
                tokio::time::sleep(Duration::from_secs(1)).await;
                world.assert_nothing_left().await;
                completed
            });
            assert!(most >= 2, "only {most} polls with {weather:?} {call:?}");
        }
    }
}

#[test]
fn an_administrators_connect_that_is_dropped_leaves_nothing() {
    for weather in [Weather::Fair, Weather::Choppy, Weather::Silent, Weather::Gone, Weather::Cut(30)] {
        for_every_cut(&format!("{weather:?} admin connect"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            let connected = polled(admin(&world), cut, &world.net).await;
            let completed = connected.is_some();
            if let Some(Err(error)) = &connected {
                assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
                assert!(!matches!(weather, Weather::Fair | Weather::Choppy), "{error}");
            }
            drop(connected);
            tokio::time::sleep(Duration::from_secs(6)).await;
            world.assert_nothing_left().await;
            completed
        });
    }
}

/// An administrator that goes while its call is under way: the call is carried out or not, and nothing is left.
#[test]
fn an_administrator_that_is_dropped_in_the_middle_of_a_call_leaves_nothing() {
    for call in CALLS {
        for_every_cut(&format!("{call:?} and drop"), async |cut| {
            let world = World::new(2).await;
            world.produce(12);
            world.broker.create_topic(SPARE, 1).unwrap();
            world.broker.set_committed(IDLE, TOPIC, 0, 3).unwrap();
            let admin = admin(&world).await.unwrap();
            let completed = call.polled(&admin, cut, &world).await;
            drop(admin);
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.assert_nothing_left().await;
            let found = found(&world.broker);
            assert!([call.expected(false), call.expected(true)].contains(&found), "{found:?}");
            assert!(!completed || found == call.expected(true), "{found:?}");
            completed
        });
    }
}
