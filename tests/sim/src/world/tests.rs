//! What seeds have found, by hand.

use std::time::Duration;

use ottla_broker::Api;
use ottla_broker::sim::ClusterConfig;
use ottla_core::TopicPartition;
use ottla_core::client::{Command, Offset};
use ottla_core::config::{GroupConfig, GroupProtocol};

use super::World;

/// Seeds 4 and 17 of the consumer protocol: who owned a partition of the former topic read the new one's at once, which
/// the group, going by ids, was about to give to somebody else. Both committed for it.
#[test]
fn a_topic_that_is_made_anew_is_read_by_whom_the_group_gives_it_to() {
    let mut cluster = ClusterConfig::with_nodes(1);
    cluster.consumer_heartbeat_interval = Duration::from_secs(5);
    let mut world = World::with_config(1, cluster);
    let make = |world: &mut World| {
        world.cluster.create_topic("t", 1).expect("a topic");
        let now = world.broker_now();
        world.cluster.produce(now, "t", 0, ["r"; 10]).expect("produced");
    };
    make(&mut world);
    let mut config = world.config();
    let mut group = GroupConfig::new("g");
    group.protocol = GroupProtocol::Consumer;
    config.group = Some(group);
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).count() == 10);
    let beats = |w: &World| w.cluster.requests().filter(|r| r.api == Api::ConsumerGroupHeartbeat).count();
    let before = beats(&world);
    world.run_until(Duration::from_secs(10), |w| beats(w) > before);
    world.run_for(Duration::from_millis(100));
    let (before, now) = (beats(&world), world.broker_now());
    world.cluster.delete_topic(now, "t").expect("it is there");
    make(&mut world);
    world.run_for(Duration::from_secs(3));
    assert_eq!(beats(&world), before, "it has not heard of the group");
    assert_eq!(world.member(id).count(), 10, "nobody has given it the new one");
    world.run_until(Duration::from_secs(20), |w| w.member(id).count() == 20);
}

#[test]
fn what_was_compacted_away_is_passed_over() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 1).expect("a topic");
    let now = world.broker_now();
    for value in ["a", "b", "c", "d"] {
        world.cluster.produce(now, "t", 0, [value]).expect("produced");
    }
    // The last one stays, whatever is wanted.
    let gone = world.cluster.compact("t", 0, 4, |first| first == 0 || first == 2).expect("it is there");
    assert_eq!(gone, [(1, 1)]);
    let tp = TopicPartition::new("t", 0);
    let id = world.join(world.config());
    world.command(id, Command::Assign(vec![(tp.clone(), Offset::Earliest)]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).count() == 3);
    let offsets: Vec<i64> = world.member(id).values[&tp].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [0, 2, 3]);
}
