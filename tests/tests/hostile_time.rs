//! Throttle times that cannot be meant, against the whole client (reliability: time). A broker that asks for silence
//! gets it (KIP-219), but the group is kept, and closing is bounded.

use std::time::Duration;

use kafka_protocol::messages::{
    FetchResponse, FindCoordinatorResponse, HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse,
    ListOffsetsResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse, SyncGroupResponse,
};
use ottla_broker::Api;
use ottla_core::client::Outcome;
use ottla_core::config::CommitMode;
use ottla_tests::hostile::{GROUP, Stage};
use ottla_tests::sim::Lie;

const SECOND: Duration = Duration::from_secs(1);

/// The APIs in use whose answers carry a throttle time that a client has to do with (that of ApiVersions comes before
/// anything could be silent).
const APIS: [Api; 10] = [
    Api::Metadata,
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::OffsetFetch,
    Api::ListOffsets,
    Api::Fetch,
    Api::Heartbeat,
    Api::OffsetCommit,
    Api::LeaveGroup,
];

/// Every answer of `api` carries this throttle time.
fn throttle(api: Api, millis: i32) -> Lie {
    match api {
        Api::Metadata => Lie::in_message(api, move |a: &mut MetadataResponse| a.throttle_time_ms = millis),
        Api::FindCoordinator => {
            Lie::in_message(api, move |a: &mut FindCoordinatorResponse| a.throttle_time_ms = millis)
        }
        Api::JoinGroup => Lie::in_message(api, move |a: &mut JoinGroupResponse| a.throttle_time_ms = millis),
        Api::SyncGroup => Lie::in_message(api, move |a: &mut SyncGroupResponse| a.throttle_time_ms = millis),
        Api::OffsetFetch => {
            Lie::in_message(api, move |a: &mut OffsetFetchResponse| a.throttle_time_ms = millis)
        }
        Api::ListOffsets => {
            Lie::in_message(api, move |a: &mut ListOffsetsResponse| a.throttle_time_ms = millis)
        }
        Api::Fetch => Lie::in_message(api, move |a: &mut FetchResponse| a.throttle_time_ms = millis),
        Api::Heartbeat => Lie::in_message(api, move |a: &mut HeartbeatResponse| a.throttle_time_ms = millis),
        Api::OffsetCommit => {
            Lie::in_message(api, move |a: &mut OffsetCommitResponse| a.throttle_time_ms = millis)
        }
        Api::LeaveGroup => {
            Lie::in_message(api, move |a: &mut LeaveGroupResponse| a.throttle_time_ms = millis)
        }
        other => panic!("{other} has no throttle time"),
    }
}

fn members(stage: &Stage) -> usize {
    stage.world.cluster.group(GROUP).map_or(0, |g| g.members.len())
}

/// Whatever is throttled for three weeks: the member stays in the group as long as it lives, and `close` returns within
/// its bound, with the group left.
#[test]
fn throttled_for_three_weeks_the_membership_is_kept_and_close_returns() {
    for api in APIS {
        for nodes in [1, 3] {
            println!("{api}, {nodes} brokers");
            let mut stage = Stage::new(nodes, 3, 50);
            stage.config().commit = CommitMode::Auto { interval: SECOND };
            let lie = stage.lie(throttle(api, i32::MAX));
            stage.subscribe();
            stage.run(30 * SECOND);
            let joined = members(&stage);
            let generation = stage.world.cluster.group(GROUP).map(|g| g.generation);
            stage.run(60 * SECOND);
            if joined > 0 {
                assert_eq!((members(&stage), joined), (1, 1), "the session is kept");
                assert_eq!(stage.world.cluster.group(GROUP).map(|g| g.generation), generation);
            }
            stage.never_hot();
            stage.closes();
            assert!(stage.world.told(lie) > 0, "{api} was never answered");
            assert_eq!(members(&stage), 0, "the group is left");
        }
    }
}

/// All at once, and in the middle of the work.
#[test]
fn everything_is_throttled_at_once_and_close_returns() {
    let mut stage = Stage::new(3, 3, 50);
    stage.subscribe();
    stage.everything_arrives();
    for api in APIS {
        stage.lie(throttle(api, i32::MAX));
    }
    stage.produce(50);
    stage.run(60 * SECOND);
    assert_eq!(members(&stage), 1);
    stage.never_hot();
    stage.closes();
    assert_eq!(members(&stage), 0);
    let outcome = stage.world.member(stage.id).outcomes.pop();
    let Some(Outcome::Closed(errors)) = outcome else { panic!("{outcome:?}") };
    // What could not be committed is said.
    assert!(errors.iter().all(|e| !e.is_fatal()), "{errors:?}");
}

/// One broker that throttles is not asked for what others know as well.
#[test]
fn another_broker_is_asked_while_one_is_silent() {
    let mut stage = Stage::new(3, 3, 50);
    stage.lie(throttle(Api::Metadata, i32::MAX).by(1));
    stage.assign();
    stage.run(5 * SECOND);
    stage.move_leaders();
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
    stage.closes();
}

/// A throttle time below zero is none.
#[test]
fn negative_throttle_times_are_none() {
    for millis in [-1, i32::MIN] {
        let mut stage = Stage::new(2, 3, 50);
        for api in APIS {
            stage.lie(throttle(api, millis));
        }
        stage.subscribe();
        stage.everything_arrives();
        stage.once_and_never_reset();
        stage.never_hot();
        stage.closes();
    }
}

/// A throttle time as brokers give them delays and does no more.
#[test]
fn throttled_for_a_moment_everything_arrives() {
    for api in APIS {
        let mut stage = Stage::new(2, 3, 50);
        stage.lie(throttle(api, 300));
        stage.subscribe();
        stage.everything_arrives();
        stage.once_and_never_reset();
        stage.never_hot();
        stage.closes();
    }
}
