//! What the simulator has found: one test for each bug, named after the rule that was broken.

use std::time::Duration;

use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::config::GroupConfig;
use ottla_core::delivery::{BatchDecoder, DeliveryConfig, Filter, Shared, Taken};
use ottla_core::{Timestamp, TopicPartition};
use ottla_tests::sim::{Seen, World};

/// Room for one fetch, and two brokers: the first in order took it again and again.
#[test]
fn little_room_goes_round_among_brokers() {
    let mut world = World::new(1, 2);
    world.cluster.create_topic("t", 2).expect("a topic");
    let now = world.broker_now();
    let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let leaders =
        partitions.each_ref().map(|tp| world.cluster.leader("t", tp.partition()).expect("a partition").0);
    assert_ne!(leaders[0], leaders[1], "one partition for each broker");
    for tp in &partitions {
        world.cluster.produce(now, "t", tp.partition(), ["a", "b", "c"]).expect("produced");
    }
    let mut config = world.config();
    config.max_buffered_bytes = 64 << 10;
    let id = world.join(config);
    world.command(id, Command::Assign(partitions.iter().map(|tp| (tp.clone(), Offset::Earliest)).collect()));
    world.run_until(Duration::from_secs(10), |w| w.member(id).count() == 6);
}

/// The unsubscription was never told to be done when a subscription came before the group had been left.
#[test]
fn an_unsubscription_is_done_when_a_subscription_follows() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 2).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.member(id).outcomes.clear();
    world.command(id, Command::Unsubscribe);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    let outcomes = &world.member(id).outcomes;
    assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Done]), "{outcomes:?}");
}

/// A subscription that was given up before the reader had read of its partitions was told after the next one.
#[test]
fn nothing_is_told_of_partitions_that_were_given_up() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 2).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.member(id).auto_read = false;
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.command(id, Command::Unsubscribe);
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().is_empty());
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.member(id).auto_read = true;
    world.run_for(Duration::from_secs(1));
    let told = |seen: &Seen| matches!(seen, Seen::Assigned(_));
    assert_eq!(world.member(id).seen.iter().filter(|(_, seen)| told(seen)).count(), 1);
}

/// A revocation that waited to be read was told after its partitions were lost, which the reader never knew of.
#[test]
fn a_revocation_of_what_was_lost_meanwhile_is_not_told() {
    let delivery = Shared::new(DeliveryConfig::default());
    let (now, tps) = (Timestamp::from_millis(1), [TopicPartition::new("t", 0)]);
    delivery.lock().assign(now, &tps);
    delivery.lock().revoke(now, &tps, Timestamp::from_millis(1000));
    delivery.lock().lose(now, &tps);
    let told = delivery.take(now, &mut BatchDecoder::new(), Filter::EVENTS, None);
    assert!(matches!(told, Taken::Pending), "{told:?}");
}
