//! Offsets that lie, against the whole client (reliability: offsets). After each lie the broker is honest and
//! everything arrives, once, without a reset that has no cause.

use std::time::Duration;

use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::{ListOffsetsResponse, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use ottla_broker::Api;
use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::delivery::ResetCause;
use ottla_core::{ErrorKind, TopicPartition};
use ottla_tests::hostile::Stage;
use ottla_tests::sim::Lie;

const SECOND: Duration = Duration::from_secs(1);

// ---- ListOffsets ---------------------------------------------------------------------------------------------

fn looked_up(answer: &mut ListOffsetsResponse) -> impl Iterator<Item = &mut ListOffsetsPartitionResponse> {
    answer.topics.iter_mut().flat_map(|t| &mut t.partitions)
}

fn in_lookups(change: impl Fn(&mut ListOffsetsResponse) + Copy + 'static) -> Stage {
    let mut stage = Stage::new(2, 3, 50);
    let lie = stage.lie(Lie::in_message(Api::ListOffsets, change));
    stage.assign();
    stage.run(20 * SECOND);
    assert!(stage.world.told(lie) > 0);
    stage.never_hot();
    stage.heal();
    stage.everything_arrives();
    stage.never_hot();
    stage
}

/// Never a position: asked again, and told once it has gone on for a while.
#[test]
fn offsets_that_are_negative() {
    for offset in [-1, -2, -7, i64::MIN] {
        let mut stage = in_lookups(move |answer| looked_up(answer).for_each(|p| p.offset = offset));
        stage.once_and_never_reset();
        let errors = stage.errors();
        assert_eq!(errors.len(), 3, "once for each partition: {errors:?}");
        assert!(errors.iter().all(|e| e.kind() == ErrorKind::BrokerMisbehaved), "{errors:?}");
    }
}

/// The leader says so, so it is the position; the leader says that it is out of range, so it is reset.
#[test]
fn offsets_beyond_the_log() {
    for offset in [51, 1 << 40, i64::MAX] {
        let mut stage = in_lookups(move |answer| looked_up(answer).for_each(|p| p.offset = offset));
        let id = stage.id;
        for (tp, _, cause) in &stage.world.member(id).resets {
            assert_eq!(*cause, ResetCause::OutOfRange { offset }, "{tp}");
        }
        stage.in_order_once_and_complete();
    }
}

#[test]
fn lookups_that_leave_partitions_out_or_answer_others() {
    for change in [
        |answer: &mut ListOffsetsResponse| answer.topics.clear(),
        |answer: &mut ListOffsetsResponse| looked_up(answer).for_each(|p| p.partition_index += 100),
        |answer: &mut ListOffsetsResponse| looked_up(answer).for_each(|p| p.partition_index = -1),
        |answer: &mut ListOffsetsResponse| {
            answer.topics.iter_mut().for_each(|t| t.name = TopicName(StrBytes::from_static_str("u")));
        },
    ] {
        in_lookups(change).once_and_never_reset();
    }
}

#[test]
fn lookups_that_answer_twice() {
    let mut stage = in_lookups(|answer| {
        for topic in &mut answer.topics {
            let mut again = topic.partitions.clone();
            again.iter_mut().for_each(|p| p.offset = 40);
            topic.partitions.extend(again);
        }
    });
    stage.once_and_never_reset();
}

/// A query of the user's ends with the reason, within its time.
#[test]
fn queries_fail_with_the_reason() {
    for (offset, error) in [(-7, 0), (0, 42), (0, 999), (0, 29)] {
        let mut stage = Stage::new(1, 1, 10);
        stage.lie(Lie::in_message(Api::ListOffsets, move |answer: &mut ListOffsetsResponse| {
            looked_up(answer).for_each(|p| (p.offset, p.error_code) = (offset, error));
        }));
        let config = stage.config().clone();
        stage.id = stage.world.join(config);
        let tp = TopicPartition::new("t", 0);
        let id = stage.id;
        stage.world.command(id, Command::ListOffsets(vec![(tp, Offset::Latest)]));
        stage.world.run_until(30 * SECOND, |w| !w.member(id).outcomes.is_empty());
        let Some(Outcome::Offsets(offsets)) = stage.world.member(id).outcomes.pop() else { panic!() };
        let [(_, Err(told))] = &offsets[..] else { panic!("{offsets:?}") };
        assert!(matches!(told.kind(), ErrorKind::BrokerMisbehaved | ErrorKind::Authorization), "{told}");
        assert_eq!(told.code().map_or(0, |c| c.code()), error);
        stage.never_hot();
    }
}

// ---- OffsetFetch ---------------------------------------------------------------------------------------------

fn told(answer: &mut OffsetFetchResponse) -> impl Iterator<Item = &mut OffsetFetchResponsePartitions> {
    answer.groups.iter_mut().flat_map(|g| &mut g.topics).flat_map(|t| &mut t.partitions)
}

/// The group has committed 20 of 50 in each partition.
fn in_committed(change: impl Fn(&mut OffsetFetchResponse) + Copy + 'static) -> Stage {
    let mut stage = Stage::new(2, 3, 50);
    for p in 0..3 {
        stage.world.cluster.set_committed("g", "t", p, 20).expect("committed");
        stage.begin_at(p, 20);
    }
    let lie = stage.lie(Lie::in_message(Api::OffsetFetch, change));
    stage.subscribe();
    stage.run(20 * SECOND);
    assert!(stage.world.told(lie) > 0);
    stage.never_hot();
    stage
}

fn then_everything_arrives(mut stage: Stage) {
    assert_eq!(stage.world.member(stage.id).count(), 0, "nothing is read before it is known where to begin");
    stage.heal();
    stage.everything_arrives();
    stage.never_hot();
    assert!(stage.world.member(stage.id).resets.is_empty(), "S12");
    assert_eq!(stage.world.member(stage.id).count(), 3 * 40);
}

#[test]
fn committed_offsets_that_are_left_out() {
    then_everything_arrives(in_committed(|answer| answer.groups.clear()));
    then_everything_arrives(in_committed(|answer| answer.groups.iter_mut().for_each(|g| g.topics.clear())));
    then_everything_arrives(in_committed(|answer| {
        answer.groups.iter_mut().flat_map(|g| &mut g.topics).for_each(|t| t.partitions.clear());
    }));
}

#[test]
fn committed_offsets_of_others() {
    then_everything_arrives(in_committed(|answer| {
        answer
            .groups
            .iter_mut()
            .for_each(|g| g.group_id = kafka_protocol::messages::GroupId(StrBytes::from_static_str("h")));
    }));
    then_everything_arrives(in_committed(|answer| {
        // By the name or by the id, as the version has it.
        answer.groups.iter_mut().flat_map(|g| &mut g.topics).for_each(|t| {
            t.name = TopicName(StrBytes::from_static_str("u"));
            t.topic_id = uuid::Uuid::from_bytes([9; 16]);
        });
    }));
    then_everything_arrives(in_committed(|answer| told(answer).for_each(|p| p.partition_index += 100)));
}

/// Only −1 means that there is none.
#[test]
fn committed_offsets_that_are_negative() {
    for offset in [-2, -7, i64::MIN] {
        let stage = in_committed(move |answer| told(answer).for_each(|p| p.committed_offset = offset));
        then_everything_arrives(stage);
    }
}

#[test]
fn committed_offsets_that_come_twice_or_were_not_asked_for() {
    let mut stage = in_committed(|answer| {
        for topic in answer.groups.iter_mut().flat_map(|g| &mut g.topics) {
            let mut again = topic.partitions.clone();
            again.iter_mut().for_each(|p| p.committed_offset = 40);
            topic.partitions.extend(again.clone());
            again.iter_mut().for_each(|p| p.partition_index = 99);
            topic.partitions.extend(again);
        }
    });
    stage.heal();
    stage.everything_arrives();
    assert!(stage.world.member(stage.id).resets.is_empty());
    assert_eq!(stage.world.member(stage.id).count(), 3 * 40);
}

/// The leader confirms that there is no such offset: the policy decides, and says so.
#[test]
fn committed_offsets_beyond_the_log() {
    let mut stage = in_committed(|answer| told(answer).for_each(|p| p.committed_offset = i64::MAX));
    stage.heal();
    for p in 0..3 {
        stage.begin_at(p, 0);
    }
    stage.everything_arrives();
    let resets = &stage.world.member(stage.id).resets;
    assert_eq!(resets.len(), 3);
    assert!(resets.iter().all(|r| r.2 == ResetCause::OutOfRange { offset: i64::MAX }), "{resets:?}");
}
