//! The client's core against the embedded broker's core, on virtual time.

use std::time::Duration;

use ottla_core::TopicPartition;
use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::config::GroupConfig;
use ottla_tests::sim::{MemberId, Seen, World};

const MINUTE: Duration = Duration::from_secs(60);

fn world(nodes: usize, partitions: i32) -> World {
    let mut world = World::new(7, nodes);
    world.cluster.create_topic("t", partitions).expect("a topic");
    world
}

fn fill(world: &mut World, partitions: i32, each: usize) {
    let now = world.broker_now();
    for p in 0..partitions {
        for chunk in (0..each).collect::<Vec<_>>().chunks(100) {
            let values: Vec<String> = chunk.iter().map(|i| format!("{p}/{i}")).collect();
            world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
        }
    }
}

fn subscriber(world: &mut World) -> MemberId {
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    id
}

fn assert_all_in_order(world: &mut World, id: MemberId, partitions: i32, each: usize) {
    for p in 0..partitions {
        let values = &world.member(id).values[&TopicPartition::new("t", p)];
        let expected: Vec<(i64, Vec<u8>)> =
            (0..each).map(|i| (i as i64, format!("{p}/{i}").into_bytes())).collect();
        assert_eq!(values, &expected, "partition {p}");
    }
}

#[test]
fn assigned_partitions_are_read_from_the_beginning_in_order() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 1000);
    let config = world.config();
    let id = world.join(config);
    let partitions = (0..6).map(|p| (TopicPartition::new("t", p), Offset::Earliest)).collect();
    world.command(id, Command::Assign(partitions));
    world.run_until(MINUTE, |w| w.member(id).count() == 6000);
    assert_all_in_order(&mut world, id, 6, 1000);
}

#[test]
fn a_group_of_one_reads_everything_and_commits_what_is_done() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 1000);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 6000);
    assert_all_in_order(&mut world, id, 6, 1000);
    world.command(id, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(MINUTE, |w| w.member(id).is_closed());
    let Some(Outcome::Closed(errors)) = world.member(id).outcomes.last() else { panic!("not closed") };
    assert!(errors.is_empty(), "{errors:?}");
    for p in 0..6 {
        let committed = world.cluster.committed("g", "t", p).expect("committed");
        assert_eq!(committed.offset, 1000, "partition {p}");
    }
}

#[test]
fn three_members_share_the_partitions_and_none_is_ever_owned_twice() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 200);
    let members: Vec<MemberId> = (0..3).map(|_| subscriber(&mut world)).collect();
    world.run_until(MINUTE, |w| {
        let mut owned: Vec<_> = members.iter().flat_map(|m| w.member(*m).owned()).collect();
        let count = owned.len();
        owned.sort();
        owned.dedup();
        assert_eq!(owned.len(), count, "a partition is owned twice");
        members.iter().all(|m| w.member(*m).owned().len() == 2)
    });
    for m in members {
        let errors = world.member(m).seen.iter().filter(|(_, s)| matches!(s, Seen::Error(_))).count();
        assert_eq!(errors, 0);
    }
}
