//! What the embedded broker says to clients of all kinds, captured on virtual time: seeds that are as answers are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_core::TopicPartition;
use ottla_core::admin::{AdminCall, NewTopic};
use ottla_core::assignor::Assignor;
use ottla_core::client::{Command, Offset};
use ottla_core::config::{GroupConfig, GroupProtocol};
use ottla_sim::{Lie, MemberId, World};
use ottla_wire::records::{BatchWriter, Compression};

/// Releases that differ most in what they say.
const RELEASES: [&str; 8] = ["2.1", "2.4", "2.8", "3.2", "3.8", "4.0", "4.2", "4.4"];

const SECOND: Duration = Duration::from_secs(1);

/// An answer: the API's number, the version, and the message behind the header.
pub type Answer = (i16, i16, Vec<u8>);

/// Everything that was said in one conversation, in order.
fn conversation(release: &str, protocol: GroupProtocol) -> Vec<Answer> {
    let config = ClusterConfig::with_nodes(2).as_version(release).expect("a release");
    let mut world = World::with_config(7, config);
    let heard: Rc<RefCell<Vec<Answer>>> = Rc::default();
    let ear = Rc::clone(&heard);
    world.lie(Lie::about_anything(move |answer| {
        ear.borrow_mut().push((answer.api.key(), answer.version, answer.body().to_vec()));
    }));
    world.cluster.create_topic("t", 3).expect("a topic");
    write(&mut world);
    let group =
        GroupConfig { protocol, assignors: vec![Assignor::CooperativeSticky], ..GroupConfig::new("g") };
    let first = subscriber(&mut world, group.clone());
    world.run_for(10 * SECOND);
    let second = subscriber(&mut world, group);
    world.run_for(20 * SECOND);
    let tp = TopicPartition::new("t", 0);
    for command in [
        Command::CommitDelivered,
        Command::Committed(vec![tp.clone()]),
        Command::ListOffsets(vec![(tp.clone(), Offset::Latest)]),
        Command::Seek(tp.clone(), Offset::Earliest),
    ] {
        world.command(first, command);
        world.run_for(SECOND);
    }
    // Leaders and coordinators move: errors, and questions that are asked only then.
    let now = world.broker_now();
    for node in [2, 1] {
        world.cluster.move_leader(now, "t", 0, node).expect("a leader");
        write(&mut world);
        world.run_for(5 * SECOND);
    }
    administer(&mut world);
    for member in [second, first] {
        world.command(member, Command::Close { timeout: 10 * SECOND });
        world.run_for(10 * SECOND);
    }
    drop(world);
    heard.take()
}

/// A batch of every codec to each partition.
fn write(world: &mut World) {
    let now = world.broker_now();
    for partition in 0..3 {
        for codec in Compression::ALL {
            let mut writer = BatchWriter::new().compression(codec);
            for record in 0..3i64 {
                let value = format!("value {record} value {partition}");
                writer.append(record, Some(b"key"), Some(value.as_bytes()), &[]).expect("a record");
            }
            world.cluster.produce_batch(now, "t", partition, &writer.finish()).expect("written");
        }
    }
}

fn subscriber(world: &mut World, group: GroupConfig) -> MemberId {
    let mut config = world.config();
    config.group = Some(group);
    let member = world.join(config);
    world.command(member, Command::Subscribe(vec!["t".to_owned()]));
    member
}

fn administer(world: &mut World) {
    let config = world.config();
    let admin = world.join(config);
    let group = "g".to_owned();
    let partitions = vec![TopicPartition::new("t", 0)];
    let offsets = vec![(TopicPartition::new("t", 0), Offset::Earliest)];
    for call in [
        AdminCall::ListTopics,
        AdminCall::ListGroups,
        AdminCall::DescribeGroups(vec![group.clone(), "other".to_owned()]),
        AdminCall::ListGroupOffsets(group.clone()),
        AdminCall::CreateTopics {
            topics: vec![NewTopic::new("u"), NewTopic::new("t")],
            validate_only: false,
        },
        AdminCall::AlterGroupOffsets { group: group.clone(), offsets },
        AdminCall::DeleteGroupOffsets { group: group.clone(), partitions },
        AdminCall::DeleteGroups(vec![group]),
        AdminCall::DeleteTopics(vec!["u".to_owned(), "v".to_owned()]),
    ] {
        world.command(admin, Command::Admin(call));
        world.run_for(SECOND);
    }
    world.command(admin, Command::Close { timeout: SECOND });
    world.run_for(2 * SECOND);
}

/// All conversations: with each release, over each protocol that it has.
pub fn conversations() -> Vec<Vec<Answer>> {
    let mut all = Vec::new();
    for release in RELEASES {
        all.push(conversation(release, GroupProtocol::Classic));
        if release >= "4.0" {
            all.push(conversation(release, GroupProtocol::Consumer));
        }
    }
    all
}

/// Of each API and version so many answers, of different lengths, the shortest first.
pub fn answers(conversations: &[Vec<Answer>], each: usize) -> Vec<Answer> {
    let mut by_kind: BTreeMap<(i16, i16), BTreeMap<usize, &[u8]>> = BTreeMap::new();
    for (api, version, body) in conversations.iter().flatten() {
        by_kind.entry((*api, *version)).or_default().entry(body.len()).or_insert(body);
    }
    let some = by_kind.into_iter().flat_map(|((api, version), bodies)| {
        bodies.into_values().take(each).map(move |body| (api, version, body.to_vec()))
    });
    some.collect()
}
