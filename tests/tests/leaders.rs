//! Leaders that move, on virtual time: who is read from, and who is asked for offsets.

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, ErrorCode, Fault};
use ottla_core::TopicPartition;
use ottla_core::client::{Command, Offset, Outcome};
use ottla_tests::sim::{MemberId, World};

const MINUTE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;

/// A topic with ten records in each partition, all of which were read.
fn world(release: &str) -> (World, MemberId) {
    let config = ClusterConfig::with_nodes(3).as_version(release).expect("a release");
    let mut world = World::with_config(7, config);
    world.cluster.create_topic("t", PARTITIONS).expect("a topic");
    for p in 0..PARTITIONS {
        produce(&mut world, p, 10);
    }
    let config = world.config();
    let id = world.join(config);
    let places = (0..PARTITIONS).map(|p| (TopicPartition::new("t", p), Offset::Earliest));
    world.command(id, Command::Assign(places.collect()));
    world.run_until(MINUTE, |w| w.member(id).count() == 40);
    world.run_for(Duration::from_secs(5));
    (world, id)
}

fn produce(world: &mut World, partition: i32, records: usize) {
    let now = world.broker_now();
    world.cluster.produce(now, "t", partition, vec!["record"; records]).expect("produced");
}

fn move_leader(world: &mut World, partition: i32) {
    let now = world.broker_now();
    let (leader, _) = world.cluster.leader("t", partition).expect("a partition");
    let to = leader.expect("a leader") % 3 + 1;
    world.cluster.move_leader(now, "t", partition, to).expect("moved");
}

/// librdkafka's 0146: one leader moves, or two at once, while their long polls wait: what is written then comes when
/// the former leader has answered, once, and so does what is written to the others.
#[test]
fn a_leader_that_moves_is_fetched_from_as_soon_as_the_former_one_has_answered() {
    for moving in [1, 2] {
        // With hints in the answers (KIP-951), and without.
        for release in ["4.3", "2.8"] {
            let (mut world, id) = world(release);
            for partition in 0..moving {
                move_leader(&mut world, partition);
            }
            let moved = world.now();
            for partition in 0..PARTITIONS {
                produce(&mut world, partition, 1);
            }
            world.run_until(MINUTE, |w| w.member(id).count() == 44);
            let took = world.now().since(moved);
            // The embedded broker does not end a long poll because its leadership does: half a second, and the way there.
            assert!(took <= Duration::from_millis(510), "{moving} moved, {release}: {took:?}");
            for values in world.member(id).values.values() {
                assert!((0..11).eq(values.iter().map(|(offset, _)| *offset)), "{values:?}");
            }
        }
    }
}

/// librdkafka's 0139: offsets by time and the ends of a partition are asked for while its leader moves: the former leader
/// refuses, the new one is not ready, and the answer comes all the same, without an error.
#[test]
fn offsets_are_asked_for_again_while_the_leader_moves() {
    for (place, expected) in [(Offset::Earliest, 0), (Offset::Latest, 10), (Offset::Timestamp(0), 0)] {
        for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::LEADER_NOT_AVAILABLE] {
            let (mut world, id) = world("4.3");
            world.cluster.add_fault(Fault::on(Api::ListOffsets).skip(1).times(2).error(code));
            let since = world.cluster.next_request_index();
            move_leader(&mut world, 0);
            world.member(id).outcomes.clear();
            world.command(id, Command::ListOffsets(vec![(TopicPartition::new("t", 0), place)]));
            world.run_until(Duration::from_secs(10), |w| !w.member(id).outcomes.is_empty());
            let outcome = world.member(id).outcomes.pop();
            let Some(Outcome::Offsets(answers)) = outcome else { panic!("{place}: {outcome:?}") };
            assert!(
                matches!(answers[..], [(_, Ok(Some(found)))] if found == expected),
                "{place}: {answers:?}"
            );
            let asked = world.cluster.requests().filter(|r| r.index >= since && r.api == Api::ListOffsets);
            assert!((2..=6).contains(&asked.count()), "{place}, {code}");
        }
    }
}
