//! Coordinators and leaders that lie about the group, against the whole client (reliability: groups). After each lie
//! the coordinator is honest and everything arrives; what the reader should know it is told.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use ottla_broker::Api;
use ottla_core::{Error, ErrorKind};
use ottla_tests::hostile::{Stage, TOPIC};
use ottla_tests::sim::Lie;

const SECOND: Duration = Duration::from_secs(1);

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The lie is told so often, and then for a while; afterwards the stage is handed to `then`.
fn for_a_while(lie: impl Fn() -> Lie, then: impl Fn(Stage)) {
    for times in [1, 3, usize::MAX] {
        let mut stage = Stage::new(2, 3, 50);
        let lie = stage.lie(lie().times(times));
        stage.subscribe();
        stage.run(20 * SECOND);
        assert!(stage.world.told(lie) > 0, "it was never asked");
        println!("{times} times");
        stage.never_hot();
        stage.heal();
        then(stage);
    }
}

/// Everything arrives, in order and within an ownership once.
fn then_everything_arrives(mut stage: Stage) {
    stage.everything_arrives();
    stage.never_reset();
    stage.never_hot();
    stage.closes();
}

/// The same with nothing that the user would notice: one ownership, no error.
fn then_nothing_was_noticed(mut stage: Stage) {
    assert!(stage.errors().is_empty(), "{:?}", stage.errors());
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
    stage.closes();
}

/// The reader was told of the coordinator's misbehaviour, with this in the text, and not over and over.
fn was_told(stage: &mut Stage, part: &str) {
    let errors = stage.errors();
    let told = |e: &&Error| e.kind() == ErrorKind::BrokerMisbehaved && e.to_string().contains(part);
    let count = errors.iter().filter(told).count();
    assert!((1..=3).contains(&count) && count == errors.len(), "{part:?} in {errors:?}");
    assert!(errors.iter().all(|e| !e.is_fatal()));
}

fn in_join(change: impl Fn(&mut JoinGroupResponse) + Copy + 'static, then: impl Fn(Stage)) {
    // The first answer only gives the member id (KIP-394).
    for_a_while(
        || {
            Lie::in_message(Api::JoinGroup, move |answer: &mut JoinGroupResponse| {
                if answer.error_code == 0 {
                    change(answer);
                }
            })
        },
        then,
    );
}

fn in_sync(assignment: impl Fn(&Bytes) -> Bytes + Copy + 'static, then: impl Fn(Stage)) {
    for_a_while(
        || {
            Lie::in_message(Api::SyncGroup, move |answer: &mut SyncGroupResponse| {
                if answer.error_code == 0 {
                    answer.assignment = assignment(&answer.assignment);
                }
            })
        },
        then,
    );
}

/// An assignment as leaders write it (version 0).
fn assigned(topics: &[(&str, &[i32])]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|p| out.put_i32(*p));
    }
    out.put_i32(-1);
    out.freeze()
}

fn ghost(id: &str, metadata: &'static [u8]) -> JoinGroupResponseMember {
    JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(Bytes::from_static(metadata))
}

// ---- JoinGroup -----------------------------------------------------------------------------------------------

/// Listed twice, a member counts once.
#[test]
fn a_member_that_is_listed_twice() {
    in_join(
        |answer| {
            let again = answer.members.clone();
            answer.members.extend(again);
        },
        then_nothing_was_noticed,
    );
}

/// A member without an id is nobody: nothing is assigned to it.
#[test]
fn a_member_with_an_empty_id() {
    in_join(
        |answer| {
            let mut nobody = answer.members.clone();
            nobody.iter_mut().for_each(|m| m.member_id = text(""));
            answer.members.splice(0..0, nobody);
        },
        then_nothing_was_noticed,
    );
}

/// What this member itself is called must be known.
#[test]
fn an_empty_id_for_ourselves() {
    in_join(
        |answer| answer.member_id = text(""),
        |mut stage| {
            was_told(&mut stage, "without a generation or a member id");
            then_everything_arrives(stage);
        },
    );
}

#[test]
fn a_negative_generation() {
    in_join(
        |answer| answer.generation_id = i32::MIN,
        |mut stage| {
            was_told(&mut stage, "without a generation or a member id");
            then_everything_arrives(stage);
        },
    );
}

#[test]
fn a_protocol_that_was_not_offered() {
    for name in [Some("range"), Some(""), Some("fastest"), None] {
        in_join(
            move |answer| answer.protocol_name = name.map(text),
            |mut stage| {
                was_told(&mut stage, "which this member does not offer");
                then_everything_arrives(stage);
            },
        );
    }
}

/// A group of connectors is no group of consumers: trying again makes no consumers of them.
#[test]
fn a_group_of_another_kind() {
    in_join(
        |answer| answer.protocol_type = Some(text("connect")),
        |mut stage| {
            let errors = stage.errors();
            assert!(matches!(&errors[..], [e] if e.is_fatal()), "{errors:?}");
            stage.closes();
        },
    );
}

/// Members that talk nonsense are assigned nothing, and cost the others nothing.
#[test]
fn a_leader_of_members_with_garbage_metadata() {
    in_join(
        |answer| {
            if answer.leader == answer.member_id {
                answer.members.push(ghost("ghost-1", &[0xff; 100]));
                answer.members.push(ghost("ghost-2", b""));
                // Two thousand million topics.
                answer.members.push(ghost("ghost-3", &[0, 3, 0x7f, 0xff, 0xff, 0xff]));
                answer.members.splice(0..0, [ghost("ghost-0", b"\0\x01\0\0\0\x01\0\x01")]);
            }
        },
        then_nothing_was_noticed,
    );
}

/// A leader that is not in its own group, or whose own subscription comes back as garbage, would assign nothing to
/// itself and go on without a word.
#[test]
fn a_leader_that_does_not_find_itself() {
    in_join(
        |answer| answer.members.clear(),
        |mut stage| {
            was_told(&mut stage, "does not list");
            then_everything_arrives(stage);
        },
    );
    in_join(
        |answer| answer.members.iter_mut().for_each(|m| m.metadata = Bytes::from_static(&[0xff; 100])),
        |mut stage| {
            was_told(&mut stage, "cannot be read");
            then_everything_arrives(stage);
        },
    );
}

/// A leader that is somebody else: this member assigns nothing, and so nobody has anything until the next rebalance.
#[test]
fn a_leader_that_does_not_exist() {
    in_join(
        |answer| {
            answer.leader = text("ghost");
            answer.members.clear();
        },
        |mut stage| {
            stage.rebalance();
            then_everything_arrives(stage);
        },
    );
}

/// Topics that no cluster can have are not asked for, and ten thousand that it does not have are asked for and no more.
#[test]
fn a_leader_of_a_member_with_ten_thousand_topics() {
    in_join(
        |answer| {
            let mut metadata = BytesMut::new();
            metadata.put_i16(0);
            metadata.put_i32(10_000);
            for i in 0..10_000 {
                let name = if i % 2 == 0 { format!("none-{i}") } else { format!("no/{i}") };
                metadata.put_i16(name.len() as i16);
                metadata.put_slice(name.as_bytes());
            }
            metadata.put_i32(-1);
            let ghost = JoinGroupResponseMember::default().with_member_id(text("ghost"));
            answer.members.push(ghost.with_metadata(metadata.freeze()));
        },
        then_nothing_was_noticed,
    );
}

// ---- SyncGroup -----------------------------------------------------------------------------------------------

/// Negative numbers are nobody's partitions: told, and the others are read.
#[test]
fn negative_partitions() {
    in_sync(
        |_| assigned(&[(TOPIC, &[-1, 0, i32::MIN, 1, 2])]),
        |mut stage| {
            was_told(&mut stage, "negative numbers");
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.closes();
        },
    );
}

/// A partition that metadata does not know may be one that is new: it is waited for, and nothing else waits.
#[test]
fn partitions_that_do_not_exist() {
    in_sync(
        |_| assigned(&[(TOPIC, &[0, 1, 2, 3, 99, i32::MAX])]),
        |mut stage| {
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_hot();
            stage.closes();
        },
    );
}

/// Nothing of an assignment that holds a foreign topic is taken.
#[test]
fn topics_that_were_not_subscribed_to() {
    type Topics = &'static [(&'static str, &'static [i32])];
    const FOREIGN: [Topics; 3] = [&[("u", &[0])], &[(TOPIC, &[0, 1, 2]), ("u", &[0])], &[("", &[0])]];
    for topics in FOREIGN {
        in_sync(
            move |_| assigned(topics),
            |mut stage| {
                was_told(&mut stage, "which this member did not ask for");
                then_everything_arrives(stage);
            },
        );
    }
}

#[test]
fn the_same_partition_twice() {
    in_sync(|_| assigned(&[(TOPIC, &[0, 0, 1, 2, 1]), (TOPIC, &[2, 0])]), then_nothing_was_noticed);
}

#[test]
fn assignments_that_cannot_be_read() {
    for bytes in [&[0xff; 100][..], b"\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\0\x01"] {
        in_sync(
            move |_| Bytes::from_static(bytes),
            |mut stage| {
                was_told(&mut stage, "cannot be read");
                then_everything_arrives(stage);
            },
        );
    }
}

#[test]
fn an_assignment_that_is_cut_off_anywhere() {
    for cut in 1..20 {
        let mut stage = Stage::new(1, 3, 20);
        let lie = Lie::in_message(Api::SyncGroup, move |answer: &mut SyncGroupResponse| {
            let cut = answer.assignment.len().saturating_sub(cut);
            answer.assignment.truncate(cut);
        });
        let lie = stage.lie(lie.times(2));
        stage.subscribe();
        stage.run(10 * SECOND);
        assert!(stage.world.told(lie) > 0);
        // What was cut may be an assignment still: the next rebalance puts it right.
        stage.rebalance();
        stage.everything_arrives();
        stage.never_reset();
        stage.never_hot();
    }
}

/// Nothing is an assignment: the member has nothing to read until the next rebalance, and stays a member.
#[test]
fn an_assignment_of_nothing() {
    for nothing in [Bytes::new(), assigned(&[]), assigned(&[(TOPIC, &[])])] {
        let mut stage = Stage::new(2, 3, 50);
        let lie = stage.lie(Lie::in_message(Api::SyncGroup, move |answer: &mut SyncGroupResponse| {
            answer.assignment = nothing.clone();
        }));
        stage.subscribe();
        stage.run(30 * SECOND);
        assert_eq!(stage.world.told(lie), 1, "one round");
        assert_eq!(stage.world.member(stage.id).count(), 0);
        assert!(stage.errors().is_empty(), "{:?}", stage.errors());
        stage.heal();
        stage.rebalance();
        stage.everything_arrives();
        stage.never_reset();
        stage.never_hot();
        stage.closes();
    }
}

/// KIP-559: the answer of another round is not ours.
#[test]
fn a_protocol_that_is_not_the_one_of_the_join() {
    for_a_while(
        || {
            Lie::in_message(Api::SyncGroup, |answer: &mut SyncGroupResponse| {
                answer.protocol_name = Some(text("range"));
            })
        },
        |mut stage| {
            let errors = stage.errors();
            assert!(matches!(&errors[..], [e] if e.is_fatal()), "{errors:?}");
            stage.closes();
        },
    );
}
