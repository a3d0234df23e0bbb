//! Fetch answers that lie, against the whole client (reliability: fetch). After each lie the broker is honest and
//! everything arrives, once, without a reset.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{FetchResponse, NodeEndpoint, PartitionData};
use ottla_broker::Api;
use ottla_broker::sim::ClusterConfig;
use ottla_core::ErrorKind;
use ottla_tests::hostile::Stage;
use ottla_tests::sim::{Lie, World};

const SECOND: Duration = Duration::from_secs(1);

/// Topics by id and by name, with and without sessions.
const RELEASES: [&str; 4] = ["2.1", "2.8", "3.9", "4.3"];

fn stage(release: &str, nodes: usize, partitions: i32, each: usize) -> Stage {
    let config = ClusterConfig::with_nodes(nodes).as_version(release).expect("a release");
    Stage::in_world(World::with_config(42, config), partitions, each)
}

/// Each Fetch answer is changed for a while, then none; in several versions.
fn for_a_while(change: impl Fn(&mut FetchResponse) + Copy + 'static) {
    for release in RELEASES {
        for times in [1, 3, usize::MAX] {
            let mut stage = stage(release, 2, 3, 100);
            let lie = stage.lie(Lie::in_message(Api::Fetch, change).times(times));
            stage.assign();
            stage.run(10 * SECOND);
            assert!(stage.world.told(lie) > 0, "{release}: never told");
            println!("{release}, {times} times, told {}", stage.world.told(lie));
            stage.heal();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
            assert!(stage.errors().is_empty(), "{:?}", stage.errors());
        }
    }
}

fn partitions(answer: &mut FetchResponse) -> impl Iterator<Item = &mut PartitionData> {
    answer.responses.iter_mut().flat_map(|t| &mut t.partitions)
}

#[test]
fn a_partition_that_was_not_asked_for() {
    for_a_while(|answer| {
        for topic in &mut answer.responses {
            let mut other = topic.partitions[0].clone();
            other.partition_index = 99;
            topic.partitions.push(other);
        }
    });
}

#[test]
fn a_negative_partition() {
    for_a_while(|answer| partitions(answer).for_each(|p| p.partition_index = -1 - p.partition_index));
}

#[test]
fn a_partition_that_is_missing() {
    for_a_while(|answer| answer.responses.iter_mut().for_each(|t| drop(t.partitions.remove(0))));
}

#[test]
fn a_topic_that_is_missing() {
    for_a_while(|answer| answer.responses.clear());
}

#[test]
fn a_partition_that_comes_twice() {
    for_a_while(|answer| {
        for topic in &mut answer.responses {
            let again = topic.partitions.clone();
            topic.partitions.extend(again);
        }
    });
}

#[test]
fn a_topic_that_comes_twice() {
    for_a_while(|answer| {
        let again = answer.responses.clone();
        answer.responses.extend(again);
    });
}

/// The records of one partition under the number of another: they lie at other offsets, or are somebody else's
/// values. Nothing in the protocol tells that; what can be told is that the sums do not add up.
#[test]
fn a_wrong_topic_id() {
    for release in ["3.9", "4.3"] {
        for id in [[0; 16], [9; 16]] {
            let mut stage = stage(release, 2, 3, 100);
            let lie = stage.lie(Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                answer.responses.iter_mut().for_each(|t| t.topic_id = uuid::Uuid::from_bytes(id));
            }));
            stage.assign();
            stage.run(10 * SECOND);
            assert!(stage.world.told(lie) > 0);
            assert_eq!(stage.world.member(stage.id).count(), 0, "nobody asked for that topic");
            stage.heal();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
        }
    }
}

#[test]
fn another_topics_name() {
    for release in ["2.1", "2.8"] {
        for name in ["", "u", "tt"] {
            let mut stage = stage(release, 2, 3, 100);
            stage.lie(Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                answer.responses.iter_mut().for_each(|t| t.topic = topic_name(name));
            }));
            stage.assign();
            stage.run(10 * SECOND);
            assert_eq!(stage.world.member(stage.id).count(), 0, "nobody asked for that topic");
            stage.heal();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
        }
    }
}

fn topic_name(name: &'static str) -> kafka_protocol::messages::TopicName {
    kafka_protocol::messages::TopicName(kafka_protocol::protocol::StrBytes::from_static_str(name))
}

/// Once or twice is no more than bad luck; a watermark that stays negative stops the partition with a typed error,
/// and a seek lets it go on.
#[test]
fn a_negative_high_watermark() {
    for release in RELEASES {
        for times in [1, 2] {
            let mut stage = stage(release, 2, 1, 100);
            stage.lie(
                Lie::in_message(Api::Fetch, |a: &mut FetchResponse| {
                    partitions(a).for_each(|p| p.high_watermark = -1);
                })
                .times(times),
            );
            stage.assign();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
            assert!(stage.errors().is_empty());
        }
        let mut stage = stage(release, 2, 1, 100);
        stage.lie(Lie::in_message(Api::Fetch, |a: &mut FetchResponse| {
            partitions(a).for_each(|p| p.high_watermark = i64::MIN);
        }));
        stage.assign();
        stage.run(10 * SECOND);
        let [error] = &stage.errors()[..] else { panic!("{:?}", stage.errors()) };
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        stage.heal();
        stage.seek(0, 0);
        stage.everything_arrives();
        stage.never_hot();
    }
}

#[test]
fn a_log_start_beyond_the_high_watermark() {
    for_a_while(|answer| partitions(answer).for_each(|p| p.log_start_offset = i64::MAX));
    for_a_while(|answer| partitions(answer).for_each(|p| p.log_start_offset = i64::MIN));
}

#[test]
fn a_last_stable_offset_that_cannot_be() {
    for_a_while(|answer| partitions(answer).for_each(|p| p.last_stable_offset = i64::MAX));
    for_a_while(|answer| partitions(answer).for_each(|p| p.last_stable_offset = i64::MIN));
}

#[test]
fn a_preferred_replica_that_is_unknown_or_the_broker_itself() {
    for replica in [99, 1, i32::MAX, -7] {
        for release in ["2.8", "4.3"] {
            let mut stage = stage(release, 2, 3, 100);
            stage.config().client_rack = Some("r".to_owned());
            stage.lie(
                Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                    for p in partitions(answer) {
                        p.preferred_read_replica = replica.into();
                        p.records = Some(Bytes::new());
                    }
                })
                .times(20),
            );
            stage.assign();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
        }
    }
}

#[test]
fn a_session_id_that_changes() {
    for_a_while(|answer| answer.session_id = answer.session_id.wrapping_add(1));
    for_a_while(|answer| answer.session_id = -1);
}

/// KIP-227: without a session every request is full, and an answer comes at once only if there is data.
#[test]
fn a_session_id_of_zero() {
    for_a_while(|answer| answer.session_id = 0);
}

/// Whatever the whole answer's code is, it is tried again with pauses, and nothing is lost.
#[test]
fn errors_of_the_whole_answer() {
    for code in [999, -2, i16::MAX, i16::MIN, -1, 1, 3, 6, 35, 42, 70, 71, 100, 103, 106] {
        for release in ["2.1", "4.3"] {
            let mut stage = stage(release, 2, 3, 100);
            stage.lie(Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                (answer.error_code, answer.session_id) = (code, 0);
                answer.responses.clear();
            }));
            stage.assign();
            stage.run(10 * SECOND);
            println!("{code}");
            stage.heal();
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
        }
    }
}

/// A code that nobody knows, of a partition: tried again a few times, then told once with its number.
#[test]
fn unknown_errors_of_a_partition() {
    for code in [999, -2, i16::MAX, i16::MIN, 42, 87] {
        for release in ["2.1", "4.3"] {
            let mut stage = stage(release, 2, 3, 100);
            stage.lie(
                Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                    for p in partitions(answer) {
                        (p.error_code, p.records) = (code, Some(Bytes::new()));
                    }
                })
                .times(2),
            );
            stage.assign();
            stage.everything_arrives();
            stage.once_and_never_reset();
            assert!(stage.errors().is_empty(), "{:?}", stage.errors());

            let mut stage = self::stage(release, 2, 3, 100);
            stage.lie(Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                for p in partitions(answer).filter(|p| p.partition_index == 1) {
                    (p.error_code, p.records) = (code, Some(Bytes::new()));
                }
            }));
            stage.assign();
            stage.run(60 * SECOND);
            let [error] = &stage.errors()[..] else { panic!("{code}: {:?}", stage.errors()) };
            assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved, "{error}");
            assert_eq!(error.code().map(|c| c.code()), Some(code));
            assert_eq!(error.topic_partition().map(|tp| tp.partition()), Some(1));
            assert_eq!(stage.world.member(stage.id).count(), 200, "the others go on");
            stage.never_hot();
            stage.heal();
            let resume = error.resume_at().expect("where to go on");
            stage.seek(1, resume);
            stage.everything_arrives();
        }
    }
}

/// KIP-951: a leader that is not there, or an epoch beyond all others, must not strand the partition.
#[test]
fn leader_hints_that_lie() {
    for (leader, epoch) in [(99, 1_000), (2, i32::MAX), (1, i32::MAX), (2, -1), (-5, 7), (i32::MAX, i32::MAX)]
    {
        for release in ["2.8", "4.3"] {
            let mut stage = stage(release, 2, 3, 100);
            let lie = stage.lie(
                Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
                    for p in partitions(answer) {
                        p.current_leader.leader_id = leader.into();
                        p.current_leader.leader_epoch = epoch;
                        (p.error_code, p.records) = (6, Some(Bytes::new()));
                    }
                })
                .times(5),
            );
            stage.assign();
            stage.run(5 * SECOND);
            println!("{leader} {epoch} {release}: told {}", stage.world.told(lie));
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
        }
    }
}

/// KIP-951: endpoints that name brokers we know at other addresses are not believed.
#[test]
fn node_endpoints_that_lie() {
    let mut stage = stage("4.3", 2, 3, 100);
    stage.lie(Lie::in_message(Api::Fetch, |answer: &mut FetchResponse| {
        for (node, port) in [(1, 9), (2, -1), (3, 70_000), (-1, 0)] {
            let endpoint = NodeEndpoint::default().with_node_id(node.into()).with_port(port);
            answer.node_endpoints.push(endpoint);
        }
    }));
    stage.assign();
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
}

/// A broker that answers at once, and has nothing, is not asked hotly.
#[test]
fn empty_answers_without_waiting() {
    for release in RELEASES {
        let mut stage = stage(release, 2, 3, 0);
        let fault = ottla_broker::Fault::on(Api::Fetch).always().error(ottla_broker::ErrorCode(0));
        stage.world.cluster.add_fault(fault);
        stage.assign();
        stage.run(20 * SECOND);
        stage.never_hot();
        stage.heal();
        stage.everything_arrives();
    }
}

/// OFFSET_OUT_OF_RANGE again and again although the offset is there: each is confirmed by the leader, so each is a
/// reset with its event; but not a hot loop.
#[test]
fn out_of_range_again_and_again() {
    for release in RELEASES {
        let mut stage = stage(release, 2, 3, 100);
        stage.lie(Lie::in_message(Api::Fetch, |answer: &mut FetchResponse| {
            for p in partitions(answer) {
                (p.error_code, p.records) = (1, Some(Bytes::new()));
            }
        }));
        stage.assign();
        stage.run(20 * SECOND);
        stage.never_hot();
        stage.heal();
        stage.everything_arrives();
    }
}
