//! Members of a group and what is seen of them, whatever their protocol.

use std::time::Duration;

use ottla_broker::Api;
use ottla_core::TopicPartition;
use ottla_core::client::Command;
use ottla_core::config::GroupConfig;
use ottla_tests::sim::{MemberId, Seen, World};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const PARTITIONS: usize = 12;

pub(crate) fn world(nodes: usize) -> World {
    let mut world = World::new(11, nodes);
    world.cluster.create_topic("t", PARTITIONS as i32).expect("a topic");
    world
}

pub(crate) fn subscriber(world: &mut World, group: GroupConfig) -> MemberId {
    let mut config = world.config();
    config.group = Some(group);
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    id
}

/// How many partitions each of `members` owns. No partition may have two owners at any time.
pub(crate) fn shares(world: &mut World, members: &[MemberId]) -> Vec<usize> {
    let owned: Vec<Vec<_>> = members.iter().map(|m| world.member(*m).owned()).collect();
    let mut all: Vec<_> = owned.iter().flatten().collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "a partition is owned twice");
    owned.iter().map(Vec::len).collect()
}

pub(crate) fn requests(world: &World, api: Api, since: u64) -> usize {
    world.cluster.requests().filter(|r| r.index >= since && r.api == api).count()
}

/// What `member` was told about its partitions since it had `before` things told.
pub(crate) fn told_of_partitions(world: &mut World, member: MemberId, before: usize) -> Vec<String> {
    let told = |(_, seen): &(_, Seen)| match seen {
        Seen::Assigned(_) | Seen::Revoking(_) | Seen::Lost(_) | Seen::Error(_) => Some(format!("{seen:?}")),
        _ => None,
    };
    world.member(member).seen.iter().skip(before).filter_map(told).collect()
}

pub(crate) fn produce(world: &mut World, partitions: &[TopicPartition]) {
    let now = world.broker_now();
    for tp in partitions {
        world.cluster.produce(now, "t", tp.partition(), ["record"]).expect("produced");
    }
}
