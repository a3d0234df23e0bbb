//! Every error code of every API in use: which end the consumer, and that the others cost it nothing (invariants L3
//! and S12).

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse,
    SyncGroupResponse,
};
use ottla_broker::Api;
use ottla_broker::sim::ClusterConfig;
use ottla_tests::hostile::Stage;
use ottla_tests::sim::{Lie, World};

const SECOND: Duration = Duration::from_secs(1);

/// Puts `code` wherever an answer to `api` has an error code, and takes away what such an answer does not have.
fn refusal(api: Api, code: i16) -> Lie {
    match api {
        Api::ApiVersions => Lie::in_message(api, move |m: &mut ApiVersionsResponse| m.error_code = code),
        Api::Metadata => Lie::about(api, move |answer| {
            let version = answer.version;
            answer.edit(|m: &mut MetadataResponse| {
                if version >= 13 {
                    m.error_code = code;
                }
                for topic in &mut m.topics {
                    topic.error_code = code;
                    topic.partitions.clear();
                }
            });
        }),
        Api::FindCoordinator => Lie::about(api, move |answer| {
            let version = answer.version;
            answer.edit(|m: &mut FindCoordinatorResponse| {
                if version < 4 {
                    (m.error_code, m.node_id, m.port) = (code, (-1).into(), -1);
                }
                for c in &mut m.coordinators {
                    (c.error_code, c.node_id, c.port) = (code, (-1).into(), -1);
                }
            });
        }),
        Api::JoinGroup => Lie::in_message(api, move |m: &mut JoinGroupResponse| {
            m.error_code = code;
            m.generation_id = -1;
            m.members.clear();
        }),
        Api::SyncGroup => Lie::in_message(api, move |m: &mut SyncGroupResponse| {
            (m.error_code, m.assignment) = (code, Bytes::new());
        }),
        Api::Heartbeat => Lie::in_message(api, move |m: &mut HeartbeatResponse| m.error_code = code),
        Api::LeaveGroup => Lie::in_message(api, move |m: &mut LeaveGroupResponse| m.error_code = code),
        Api::OffsetFetch => Lie::about(api, move |answer| {
            let version = answer.version;
            answer.edit(|m: &mut OffsetFetchResponse| {
                if version < 8 {
                    m.error_code = code;
                    m.topics.clear();
                }
                for group in &mut m.groups {
                    group.error_code = code;
                    group.topics.clear();
                }
            });
        }),
        Api::OffsetCommit => Lie::in_message(api, move |m: &mut OffsetCommitResponse| {
            m.topics.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.error_code = code);
        }),
        Api::ListOffsets => Lie::in_message(api, move |m: &mut ListOffsetsResponse| {
            for p in m.topics.iter_mut().flat_map(|t| &mut t.partitions) {
                (p.error_code, p.offset) = (code, -1);
            }
        }),
        Api::Fetch => Lie::in_message(api, move |m: &mut FetchResponse| {
            for p in m.responses.iter_mut().flat_map(|t| &mut t.partitions) {
                (p.error_code, p.records) = (code, Some(Bytes::new()));
            }
        }),
        other => panic!("{other} is not in use"),
    }
}

const CODES: std::ops::RangeInclusive<i16> = -1..=136;

/// OFFSET_OUT_OF_RANGE, the one error after which the reset policy decides.
const OUT_OF_RANGE: i16 = 1;

/// The codes that Kafka's documentation calls retriable.
const RETRIABLE: [i16; 32] = [
    2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 88, 89, 100,
    103, 106, 122, 123, 133,
];
/// UNKNOWN_SERVER_ERROR is told once and tried again; after ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID and
/// REBALANCE_IN_PROGRESS a member joins again.
const MEMBER_GOES_ON: [i16; 4] = [-1, 22, 25, 27];
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;

/// Whether this code in an answer to `api` ends the consumer.
fn is_fatal(api: Api, code: i16) -> bool {
    match api {
        // What a member cannot understand it cannot obey.
        Api::JoinGroup | Api::SyncGroup | Api::Heartbeat => {
            let joins_again = api == Api::JoinGroup && code == MEMBER_ID_REQUIRED;
            !RETRIABLE.contains(&code) && !MEMBER_GOES_ON.contains(&code) && !joins_again
        }
        Api::FindCoordinator | Api::OffsetFetch => code == GROUP_AUTHORIZATION_FAILED,
        Api::OffsetCommit => code == FENCED_INSTANCE_ID,
        // Errors of a partition or of the commit stay with that; a broker that refuses is not the only one.
        _ => false,
    }
}

/// For every code but 0: answered for a while; not hot; then everything arrives, unless it is one that is fatal for
/// this API; and closing is bounded.
fn every_code_of(api: Api, release: &str) {
    for code in CODES.chain([999, i16::MIN]).filter(|code| *code != 0) {
        let config = ClusterConfig::with_nodes(2).as_version(release).expect("a release");
        let mut stage = Stage::in_world(World::with_config(42, config), 3, 20);
        let lie = stage.lie(refusal(api, code));
        stage.subscribe();
        stage.run(20 * SECOND);
        if api == Api::LeaveGroup {
            stage.closes();
        }
        assert!(stage.world.told(lie) > 0, "{api} {code}: never answered");
        stage.heal();
        println!("{api} {code} {release}");
        stage.never_hot();
        if api == Api::LeaveGroup {
            continue;
        }
        let errors = stage.errors();
        let fatal = errors.iter().any(|e| e.is_fatal());
        assert_eq!(fatal, is_fatal(api, code), "{api} {code} {release}: {errors:?}");
        if !fatal {
            for tp in errors.iter().filter_map(|e| e.topic_partition()) {
                // It has stopped, and the user lets it go on.
                stage.seek(tp.partition(), 0);
            }
            stage.everything_arrives();
            if (api, code) != (Api::Fetch, OUT_OF_RANGE) {
                stage.never_reset();
            }
            stage.never_hot();
        }
        stage.closes();
    }
}

macro_rules! every_code {
    ($($name:ident $api:ident)*) => {
        $(
            #[test]
            fn $name() {
                every_code_of(Api::$api, "4.3");
                every_code_of(Api::$api, "2.1");
            }
        )*
    };
}

every_code! {
    every_code_of_api_versions ApiVersions
    every_code_of_metadata Metadata
    every_code_of_find_coordinator FindCoordinator
    every_code_of_join_group JoinGroup
    every_code_of_sync_group SyncGroup
    every_code_of_heartbeat Heartbeat
    every_code_of_leave_group LeaveGroup
    every_code_of_offset_fetch OffsetFetch
    every_code_of_offset_commit OffsetCommit
    every_code_of_list_offsets ListOffsets
    every_code_of_fetch Fetch
}
