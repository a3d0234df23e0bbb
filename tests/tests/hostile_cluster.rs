//! Metadata and coordinators that lie, against the whole client (reliability: metadata). After each
//! lie the broker is honest and everything arrives, once, without a reset that has no cause.

use std::time::Duration;

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{FindCoordinatorResponse, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_broker::Api;
use ottla_core::client::{Command, Offset};
use ottla_core::delivery::ResetCause;
use ottla_core::{ErrorKind, TopicPartition};
use ottla_tests::hostile::Stage;
use ottla_tests::sim::Lie;

const SECOND: Duration = Duration::from_secs(1);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The lie is told once, three times, and for a while, to a client by hand and to one in a group, from the beginning
/// and when everything was well before.
fn in_metadata(change: impl Fn(&mut MetadataResponse) + Copy + 'static) {
    in_metadata_of_age(Duration::from_secs(300), change);
}

fn in_metadata_of_age(age: Duration, change: impl Fn(&mut MetadataResponse) + Copy + 'static) {
    in_metadata_then(age, change, Stage::once_and_never_reset);
}

fn in_metadata_then(
    age: Duration,
    change: impl Fn(&mut MetadataResponse) + Copy + 'static,
    then: impl Fn(&mut Stage),
) {
    for times in [1, 3, usize::MAX] {
        for group in [false, true] {
            for skip in [0, 1] {
                let mut stage = Stage::new(3, 3, 50);
                stage.config().metadata_max_age = age;
                stage.move_leaders();
                let lie = stage.lie(Lie::in_message(Api::Metadata, change).times(times).skip(skip));
                if group {
                    stage.subscribe();
                } else {
                    stage.assign();
                }
                stage.run(10 * SECOND);
                // Each client asks again when leaders move.
                stage.move_leaders();
                stage.run(10 * SECOND);
                assert!(stage.world.told(lie) > 0);
                println!("times {times}, group {group}, skip {skip}");
                stage.heal();
                stage.everything_arrives();
                then(&mut stage);
                stage.never_hot();
                stage.closes();
            }
        }
    }
}

fn partitions(answer: &mut MetadataResponse) -> impl Iterator<Item = &mut MetadataResponsePartition> {
    answer.topics.iter_mut().flat_map(|t| &mut t.partitions)
}

#[test]
fn no_leader_at_all() {
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_id = (-1).into()));
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_id = i32::MIN.into()));
}

#[test]
fn a_leader_that_is_not_among_the_brokers() {
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_id = 99.into()));
}

#[test]
fn a_leader_that_does_not_lead() {
    in_metadata(|answer| {
        for p in partitions(answer) {
            p.leader_id = (p.leader_id.0 % 3 + 1).into();
        }
    });
}

#[test]
fn an_epoch_that_goes_back() {
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_epoch = 0));
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_epoch = -1));
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_epoch = i32::MIN));
}

#[test]
fn an_epoch_beyond_all_others() {
    in_metadata(|answer| partitions(answer).for_each(|p| p.leader_epoch = i32::MAX));
}

#[test]
fn an_empty_broker_list() {
    in_metadata(|answer| answer.brokers.clear());
}

#[test]
fn brokers_without_an_address() {
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.host = text("")));
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.host = text(&"h".repeat(65_000))));
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.port = 0));
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.port = -1));
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.port = 65_536));
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.node_id = i32::MIN.into()));
}

/// All brokers at ports where nobody listens: the bootstrap addresses are tried again (KIP-899).
#[test]
fn brokers_where_nobody_listens() {
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.port += 1_000));
}

/// Another node at the port of the one that answers: it serves what it leads, and refuses the rest.
#[test]
fn all_nodes_at_the_port_of_one() {
    in_metadata(|answer| answer.brokers.iter_mut().for_each(|b| b.port = 9092));
}

#[test]
fn one_node_twice() {
    in_metadata(|answer| {
        let again: Vec<MetadataResponseBroker> =
            answer.brokers.iter().map(|b| b.clone().with_port(b.port + 1)).collect();
        answer.brokers.extend(again);
    });
}

#[test]
fn ten_thousand_brokers_more() {
    in_metadata(|answer| {
        for id in 100..11_000 {
            let broker = MetadataResponseBroker::default().with_node_id(id.into()).with_port(9092);
            answer.brokers.push(broker.with_host(text("h")));
        }
    });
}

#[test]
fn topics_that_nobody_asked_for() {
    in_metadata(|answer| {
        let topic = answer.topics.first().cloned().unwrap_or_default();
        for i in 0..100 {
            let name = TopicName(text(&format!("other-{i}")));
            answer.topics.push(topic.clone().with_name(Some(name)));
        }
    });
}

#[test]
fn no_topic_at_all() {
    in_metadata(|answer| answer.topics.clear());
    in_metadata(|answer| answer.topics.iter_mut().for_each(|t| t.name = None));
    in_metadata(|answer| answer.topics.iter_mut().for_each(|t| t.partitions.clear()));
}

#[test]
fn partitions_that_cannot_be() {
    in_metadata(|answer| partitions(answer).for_each(|p| p.partition_index = -1 - p.partition_index));
    in_metadata(|answer| partitions(answer).for_each(|p| p.partition_index = i32::MAX - p.partition_index));
    in_metadata(|answer| partitions(answer).for_each(|p| p.partition_index = 0));
}

/// Fewer partitions than there are: nobody can know it, and the next metadata in due time shows the others.
#[test]
fn a_partition_that_is_left_out() {
    in_metadata_of_age(30 * SECOND, |answer| {
        answer.topics.iter_mut().for_each(|t| drop(t.partitions.pop()));
    });
    in_metadata_of_age(30 * SECOND, |answer| {
        answer.topics.iter_mut().for_each(|t| drop(t.partitions.drain(..1.min(t.partitions.len()))));
    });
}

#[test]
fn a_topic_twice() {
    in_metadata(|answer| {
        let again: Vec<MetadataResponseTopic> = answer.topics.clone();
        answer.topics.extend(again);
        for p in answer.topics.last_mut().into_iter().flat_map(|t| &mut t.partitions) {
            p.leader_id = 99.into();
        }
    });
}

/// An id of zero is none. Another id is another topic (KIP-516): that is said, and it is read from its beginning.
#[test]
fn another_topic_id() {
    in_metadata(|answer| answer.topics.iter_mut().for_each(|t| t.topic_id = uuid::Uuid::nil()));
    let another = |answer: &mut MetadataResponse| {
        answer.topics.iter_mut().for_each(|t| t.topic_id = uuid::Uuid::from_u128(7))
    };
    in_metadata_then(Duration::from_secs(300), another, |stage| {
        let id = stage.id;
        for (tp, offset, cause) in &stage.world.member(id).resets {
            let known = matches!(cause, ResetCause::NoCommittedOffset | ResetCause::TopicRecreated);
            assert!(known && *offset == 0, "{tp} was reset to {offset}: {cause:?}");
        }
    });
}

#[test]
fn replicas_that_cannot_be() {
    in_metadata(|answer| {
        for p in partitions(answer) {
            p.replica_nodes = vec![(-1).into(), i32::MAX.into(), 1.into(), 1.into()];
            p.isr_nodes.clear();
        }
    });
}

#[test]
fn an_error_of_the_whole() {
    for code in [-1, 129, 999] {
        in_metadata(move |answer| answer.error_code = code);
    }
}

/// No lie at all: a partition that does not exist is waited for with pauses.
#[test]
fn a_partition_that_does_not_exist() {
    let mut stage = Stage::new(3, 3, 50);
    stage.assign();
    let tps =
        vec![(TopicPartition::new("t", 99), Offset::Earliest), (TopicPartition::new("u", 0), Offset::At(5))];
    let id = stage.id;
    stage.world.command(id, Command::Assign(tps));
    stage.run(20 * SECOND);
    stage.never_hot();
    stage.closes();
}

/// What no broker of the cluster answers with a broker list is no cluster: said at the first contact.
#[test]
fn the_first_contact_fails_with_the_reason() {
    let mut stage = Stage::new(1, 1, 1);
    stage.lie(Lie::in_message(Api::Metadata, |answer: &mut MetadataResponse| answer.brokers.clear()));
    let error = stage.bootstrap().expect_err("no cluster");
    assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved, "{error}");
    assert!(error.to_string().contains("no broker at all"), "{error}");
}

// ---- FindCoordinator -----------------------------------------------------------------------------------------

fn in_coordinator(node: i32, host: &'static str, port: i32) {
    for times in [1, usize::MAX] {
        let mut stage = Stage::new(3, 3, 50);
        let change = move |answer: &mut FindCoordinatorResponse| {
            for c in &mut answer.coordinators {
                (c.node_id, c.host, c.port) = (node.into(), text(host), port);
            }
        };
        let lie = stage.lie(Lie::in_message(Api::FindCoordinator, change).times(times));
        stage.subscribe();
        stage.run(20 * SECOND);
        assert!(stage.world.told(lie) > 0);
        stage.heal();
        stage.everything_arrives();
        stage.once_and_never_reset();
        stage.never_hot();
        stage.closes();
    }
}

#[test]
fn coordinators_without_an_address() {
    in_coordinator(1, "", 9092);
    in_coordinator(-1, "127.0.0.1", 9092);
    in_coordinator(i32::MIN, "", -1);
    in_coordinator(1, "127.0.0.1", 0);
    in_coordinator(1, "127.0.0.1", 70_000);
}

#[test]
fn a_coordinators_host_of_64_kibibytes() {
    let long: &'static str = Box::leak("ä".repeat(32_000).into_boxed_str());
    in_coordinator(1, long, 9092);
}

#[test]
fn coordinators_that_are_others() {
    // A node that is known, at the address of another; one that nobody knows; one where nobody listens.
    in_coordinator(1, "127.0.0.1", 9093);
    in_coordinator(77, "127.0.0.1", 9094);
    in_coordinator(i32::MAX, "127.0.0.1", 9092);
    in_coordinator(2, "127.0.0.1", 9);
}

/// A broker that only FindCoordinator named, and that is not there, is forgotten with the coordinator: nobody connects
/// to it any more, also when all others are gone.
#[test]
fn a_coordinator_that_is_not_in_metadata_is_forgotten_when_it_is_gone() {
    let mut stage = Stage::new(2, 3, 50);
    let lie = stage.lie(
        Lie::in_message(Api::FindCoordinator, |answer: &mut FindCoordinatorResponse| {
            for c in &mut answer.coordinators {
                (c.node_id, c.host, c.port) = (77.into(), text("127.0.0.1"), 9);
            }
        })
        .times(1),
    );
    stage.subscribe();
    stage.everything_arrives();
    assert_eq!(stage.world.told(lie), 1);
    let to_it = |stage: &Stage| stage.world.connects.iter().filter(|(_, port)| *port == 9).count();
    let before = to_it(&stage);
    assert!(before > 0, "it was looked for");
    let nodes: Vec<i32> = stage.world.cluster.addresses().map(|(id, ..)| id).collect();
    for node in &nodes {
        let now = stage.world.broker_now();
        stage.world.cluster.stop_node(now, *node).expect("a node");
    }
    stage.run(30 * SECOND);
    assert_eq!(to_it(&stage), before, "a broker that nobody names is a candidate still");
    for node in nodes {
        let now = stage.world.broker_now();
        stage.world.cluster.start_node(now, node).expect("a node");
    }
    stage.everything_arrives();
    stage.never_hot();
    stage.closes();
}

/// The broker that is asked first is of no help, for as long as it likes: another one is asked.
#[test]
fn a_broker_that_knows_no_coordinator_does_not_keep_the_group_from_it() {
    for node in [1, 2] {
        for code in [15, -1, 41] {
            let mut stage = Stage::new(3, 3, 50);
            let lie = Lie::in_message(Api::FindCoordinator, move |answer: &mut FindCoordinatorResponse| {
                answer.coordinators.iter_mut().for_each(|c| c.error_code = code);
            });
            stage.lie(lie.by(node));
            stage.subscribe();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
            stage.closes();
        }
    }
}

#[test]
fn a_broker_that_names_a_coordinator_that_is_not_there_does_not_keep_the_group_from_it() {
    let mut stage = Stage::new(3, 3, 50);
    let lie = Lie::in_message(Api::FindCoordinator, |answer: &mut FindCoordinatorResponse| {
        for c in &mut answer.coordinators {
            (c.node_id, c.host, c.port) = (77.into(), text("127.0.0.1"), 9);
        }
    });
    stage.lie(lie.by(1));
    stage.subscribe();
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
    stage.closes();
}

/// Metadata of a broker that is cut off from the others, or does not answer at all.
#[test]
fn a_broker_whose_metadata_do_not_help_does_not_keep_the_client_from_others() {
    let knows_no_topic = |answer: &mut MetadataResponse| {
        for t in &mut answer.topics {
            (t.error_code, t.topic_id) = (3, uuid::Uuid::nil());
            t.partitions.clear();
        }
    };
    let knows_no_leader =
        |answer: &mut MetadataResponse| partitions(answer).for_each(|p| p.leader_id = (-1).into());
    // Complete, and wrong: who is asked for records says so.
    let knows_another_leader = |answer: &mut MetadataResponse| {
        partitions(answer).for_each(|p| p.leader_id = (p.leader_id.0 % 3 + 1).into());
    };
    let lies: [&dyn Fn() -> Lie; 5] = [
        &|| Lie::in_message(Api::Metadata, knows_no_topic),
        &|| Lie::in_message(Api::Metadata, knows_no_leader),
        &|| Lie::in_message(Api::Metadata, knows_another_leader),
        &|| Lie::in_message(Api::Metadata, |answer: &mut MetadataResponse| answer.brokers.clear()),
        &|| {
            Lie::about(Api::Metadata, |answer| {
                answer.set_frame(bytes::Bytes::new());
                answer.stall();
            })
        },
    ];
    for (number, lie) in lies.iter().enumerate() {
        for group in [false, true] {
            println!("lie {number}, group {group}");
            let mut stage = Stage::new(3, 3, 50);
            let lie = stage.lie(lie().by(1));
            if group {
                stage.subscribe();
            } else {
                stage.assign();
            }
            stage.everything_arrives();
            stage.move_leaders();
            stage.everything_arrives();
            assert!(stage.world.told(lie) > 0);
            stage.never_reset();
            stage.never_hot();
            stage.closes();
        }
    }
}

/// A topic that nobody knows is asked for everywhere in turn, and no broker is asked hotly.
#[test]
fn a_topic_that_nobody_knows_is_asked_for_with_pauses() {
    let mut stage = Stage::new(3, 3, 50);
    stage.assign();
    let id = stage.id;
    stage.world.command(id, Command::Assign(vec![(TopicPartition::new("nowhere", 0), Offset::Earliest)]));
    stage.run(60 * SECOND);
    let asked = |node: i32| {
        let of = |r: &&ottla_broker::Observed| r.api == Api::Metadata && r.node == node;
        stage.world.cluster.requests().filter(of).count()
    };
    let counts: Vec<usize> = (1..=3).map(asked).collect();
    assert!(counts.iter().all(|c| (5..=60).contains(c)), "{counts:?}");
    stage.never_hot();
}

#[test]
fn a_coordinator_of_another_group() {
    let mut stage = Stage::new(3, 3, 50);
    stage.lie(
        Lie::in_message(Api::FindCoordinator, |answer: &mut FindCoordinatorResponse| {
            answer.coordinators.iter_mut().for_each(|c| c.key = text("other"));
        })
        .times(10),
    );
    stage.subscribe();
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
}
