//! OffsetCommit, OffsetFetch, ListOffsets, OffsetForLeaderEpoch.

mod support;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse,
    OffsetForLeaderEpochRequest,
};
use kafka_protocol::protocol::Decodable;
use ottla_broker::sim::{ClusterConfig, ConnectionId};
use ottla_broker::{BatchBuilder, Codec, ErrorCode, GroupState, TestRecord};
use support::member::*;
use support::*;

fn sim() -> Sim {
    Sim::with_topic(1, "t", 2)
}

fn codes(response: &OffsetCommitResponse) -> Vec<ErrorCode> {
    response.topics.iter().flat_map(|t| &t.partitions).map(|p| ErrorCode(p.error_code)).collect()
}

#[test]
fn every_version_commits_and_fetches() {
    let mut sim = sim();
    let conn = sim.connect(1);
    for version in 2..=9 {
        let mut request = commit("g", "", -1, &[("t", 0, i64::from(version))]);
        if version < 6 {
            request.topics[0].partitions[0].committed_leader_epoch = -1;
        }
        assert_eq!(codes(&sim.call(conn, version, &request)), [ErrorCode::NONE], "v{version}");
        let stored = sim.cluster.committed("g", "t", 0).unwrap();
        assert_eq!((stored.offset, &*stored.metadata), (i64::from(version), "note"));
        assert_eq!(stored.leader_epoch, if version < 6 { -1 } else { 3 });
    }
    for version in 1..=7 {
        let response = sim.call(conn, version, &offset_fetch("g", "t", &[0, 1]));
        let found: Vec<i64> = response.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
        assert_eq!((response.error_code, found), (0, vec![9, -1]), "v{version}");
    }
}

#[test]
fn kip_709_several_groups_in_one_offset_fetch() {
    let mut sim = sim();
    let conn = sim.connect(1);
    sim.call(conn, 8, &commit("g", "", -1, &[("t", 0, 5), ("t", 1, 6)]));
    let group = |name: &str, topics| {
        OffsetFetchRequestGroup::default().with_group_id(group_id(name)).with_topics(topics)
    };
    let some =
        vec![OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![1])];
    let request = OffsetFetchRequest::default()
        .with_groups(vec![group("g", None), group("g", Some(some)), group("h", None)])
        .with_require_stable(true);
    for version in 8..=9 {
        let response = sim.call(conn, version, &request);
        let found: Vec<Vec<i64>> = response
            .groups
            .iter()
            .map(|g| g.topics.iter().flat_map(|t| &t.partitions).map(|p| p.committed_offset).collect())
            .collect();
        assert_eq!(found, [vec![5, 6], vec![6], vec![]], "null topics asks for all");
    }
}

#[test]
fn a_simple_commit_needs_an_empty_group() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = sim.connect(1);
    let simple = commit("g", "", -1, &[("t", 0, 5)]);
    assert_eq!(codes(&sim.call(conn, 7, &simple)), [ErrorCode::UNKNOWN_MEMBER_ID]);
    sim.call(members[0].connection, 4, &leave("g", &members[0].id, None));
    assert_eq!(codes(&sim.call(conn, 7, &simple)), [ErrorCode::NONE]);
}

#[test]
fn commits_are_checked_against_member_and_generation() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = members[0].connection;
    let id = members[0].id.clone();
    let mut code = |group: &str, member: &str, generation, version| {
        codes(&sim.call(conn, version, &commit(group, member, generation, &[("t", 0, 5)])))[0]
    };
    assert_eq!(code("g", &id, 1, 7), ErrorCode::NONE);
    assert_eq!(code("g", &id, 0, 7), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code("g", "ghost", 1, 7), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code("none", &id, 1, 8), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code("none", &id, 1, 9), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(code("", "", -1, 7), ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn commits_go_on_while_members_rejoin_but_not_before_sync() {
    let mut sim = sim();
    let mut members = sim.stable_group("g", 1);
    let (mut other, joining) = sim.join_new("g", "x");
    assert_eq!(sim.cluster.group("g").unwrap().state, GroupState::PreparingRebalance);
    assert_eq!(sim.try_commit("g", &members[0], 5), ErrorCode::NONE);
    let rejoin = sim.rejoin("g", &members[0].clone(), "m0");
    sim.joined(&mut members[0], &rejoin);
    sim.joined(&mut other, &joining);
    assert_eq!(sim.try_commit("g", &members[0], 6), ErrorCode::REBALANCE_IN_PROGRESS);
    members.push(other);
    sim.sync_all("g", &members);
    assert_eq!(sim.try_commit("g", &members[0], 7), ErrorCode::NONE);
    let offsets: Vec<i64> = sim.cluster.commits().iter().map(|c| c.committed.offset).collect();
    assert_eq!(offsets, [5, 7], "the oracle log has what was accepted");
}

#[test]
fn bad_partitions_and_long_metadata_fail_alone() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let mut request = commit("g", "", -1, &[("t", 0, 1), ("t", 9, 1), ("nope", 0, 1), ("t", 1, 1)]);
    request.topics[3].partitions[0].committed_metadata = Some(text(&"x".repeat(4097)));
    assert_eq!(
        codes(&sim.call(conn, 7, &request)),
        [
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::OFFSET_METADATA_TOO_LARGE
        ]
    );
}

#[test]
fn another_node_than_the_coordinator_says_so() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.cluster.move_coordinator(sim.now, "g", 2).unwrap();
    let conn = sim.connect(1);
    assert_eq!(codes(&sim.call(conn, 7, &commit("g", "", -1, &[("t", 0, 1)]))), [ErrorCode::NOT_COORDINATOR]);
    assert_eq!(
        ErrorCode(sim.call(conn, 7, &offset_fetch("g", "t", &[0])).error_code),
        ErrorCode::NOT_COORDINATOR
    );
    let old = sim.call(conn, 1, &offset_fetch("g", "t", &[0]));
    assert_eq!(ErrorCode(old.topics[0].partitions[0].error_code), ErrorCode::NOT_COORDINATOR);
}

#[test]
fn deleting_a_topic_deletes_its_committed_offsets() {
    let mut sim = sim();
    sim.cluster.set_committed("g", "t", 0, 5).unwrap();
    sim.cluster.delete_topic(sim.now, "t").unwrap();
    assert_eq!(sim.cluster.committed("g", "t", 0), None);
}

// ---- version 10: topic ids, by hand because kafka-protocol lacks it ------------------------------------------------

/// Sends a flexible request given as its body and returns the answer's body.
fn raw_call(sim: &mut Sim, conn: ConnectionId, key: i16, version: i16, body: &[u8]) -> bytes::Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(4711);
    frame.put_i16(-1);
    frame.put_u8(0);
    frame.put_slice(body);
    sim.raw.clear();
    sim.cluster.handle_request(sim.now, conn, frame.freeze());
    sim.drain();
    let (_, answer) = sim.raw.pop().expect("an answer");
    assert_eq!(answer[4..8], 4711_i32.to_be_bytes());
    answer.slice(9..)
}

fn commit_v10(topic: [u8; 16], offset: i64) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_slice(&[2, b'g']);
    body.put_i32(-1);
    body.put_slice(&[1, 0, 2]);
    body.put_slice(&topic);
    body.put_u8(2);
    body.put_i32(1);
    body.put_i64(offset);
    body.put_i32(7);
    body.put_slice(&[3, b'h', b'i', 0, 0, 0]);
    body
}

#[test]
fn offset_commit_10_takes_topic_ids() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let id = sim.cluster.topic_id("t").unwrap();
    let mut answer = raw_call(&mut sim, conn, 8, 10, &commit_v10(id, 42));
    let response = OffsetCommitResponse::decode(&mut answer, 10).unwrap();
    assert_eq!(codes(&response), [ErrorCode::NONE]);
    assert_eq!(response.topics[0].topic_id.as_bytes(), &id);
    let stored = sim.cluster.committed("g", "t", 1).unwrap();
    assert_eq!((stored.offset, stored.leader_epoch, &*stored.metadata), (42, 7, "hi"));
    let mut answer = raw_call(&mut sim, conn, 8, 10, &commit_v10([9; 16], 42));
    let response = OffsetCommitResponse::decode(&mut answer, 10).unwrap();
    assert_eq!(codes(&response), [ErrorCode::UNKNOWN_TOPIC_ID]);
}

#[test]
fn offset_fetch_10_takes_topic_ids() {
    let mut sim = sim();
    sim.cluster.set_committed("g", "t", 1, 42).unwrap();
    let conn = sim.connect(1);
    let id = sim.cluster.topic_id("t").unwrap();
    for (topic, offset, code) in [(id, 42, ErrorCode::NONE), ([9; 16], -1, ErrorCode::UNKNOWN_TOPIC_ID)] {
        let mut body = BytesMut::new();
        body.put_slice(&[2, 2, b'g', 0]);
        body.put_i32(-1);
        body.put_u8(2);
        body.put_slice(&topic);
        body.put_u8(2);
        body.put_i32(1);
        body.put_slice(&[0, 0, 1, 0]);
        let mut answer = raw_call(&mut sim, conn, 9, 10, &body);
        let response = OffsetFetchResponse::decode(&mut answer, 10).unwrap();
        let found = &response.groups[0].topics[0];
        assert_eq!(found.topic_id.as_bytes(), &topic);
        assert_eq!(
            (found.partitions[0].committed_offset, ErrorCode(found.partitions[0].error_code)),
            (offset, code)
        );
    }
}

#[test]
fn a_cut_off_offset_commit_10_closes_the_connection() {
    let mut sim = sim();
    let id = sim.cluster.topic_id("t").unwrap();
    let whole = commit_v10(id, 1);
    for length in 0..whole.len() {
        let conn = sim.connect(1);
        let mut frame = BytesMut::new();
        frame.put_slice(&[0, 8, 0, 10, 0, 0, 0, 1, 255, 255, 0]);
        frame.put_slice(&whole[..length]);
        sim.cluster.handle_request(sim.now, conn, frame.freeze());
        sim.drain();
        assert!(sim.closed.contains(&conn), "{length} bytes");
    }
}

// ---- ListOffsets and OffsetForLeaderEpoch --------------------------------------------------------------------------

fn list(timestamps: &[i64]) -> ListOffsetsRequest {
    let partitions = timestamps.iter().map(|t| ListOffsetsPartition::default().with_timestamp(*t)).collect();
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(partitions)])
}

fn offsets(sim: &mut Sim, version: i16, request: &ListOffsetsRequest) -> Vec<(i16, i64, i64)> {
    let conn = sim.connect(1);
    let response = sim.call(conn, version, request);
    response.topics[0].partitions.iter().map(|p| (p.error_code, p.offset, p.timestamp)).collect()
}

fn timed(records: &[(i64, &str)]) -> Vec<TestRecord> {
    records.iter().map(|(time, value)| TestRecord::from(*value).timestamp(*time)).collect()
}

#[test]
fn every_version_lists_the_ends() {
    let mut sim = sim();
    sim.produce("t", 0, &["a", "b", "c"]);
    sim.cluster.delete_records(sim.now, "t", 0, 1).unwrap();
    for version in 1..=10 {
        let ends = offsets(&mut sim, version, &list(&[-2, -1]));
        assert_eq!(ends.iter().map(|e| e.1).collect::<Vec<_>>(), [1, 3], "v{version}");
    }
}

#[test]
fn offsets_by_time_are_those_of_the_first_record_at_or_after_it() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut sim = sim();
        let first = BatchBuilder::new(timed(&[(100, "a"), (300, "b"), (200, "c")])).codec(codec).finish();
        let second = BatchBuilder::new(timed(&[(400, "d"), (250, "e")])).codec(codec).finish();
        sim.cluster.produce_batch(sim.now, "t", 0, &[&first[..], &second[..]].concat()).unwrap();
        let found = offsets(&mut sim, 7, &list(&[0, 100, 101, 300, 301, 401]));
        let expected = [(0, 0, 100), (0, 0, 100), (0, 1, 300), (0, 1, 300), (0, 3, 400), (0, -1, -1)];
        assert_eq!(found, expected, "{codec:?}");
        // KIP-734: the record with the largest timestamp.
        assert_eq!(offsets(&mut sim, 7, &list(&[-3])), [(0, 3, 400)], "{codec:?}");
    }
}

#[test]
fn special_timestamps_need_their_version() {
    let mut sim = sim();
    let unsupported = ErrorCode::UNSUPPORTED_VERSION.0;
    assert_eq!(offsets(&mut sim, 6, &list(&[-3]))[0].0, unsupported);
    assert_eq!(offsets(&mut sim, 7, &list(&[-4]))[0].0, unsupported);
    assert_eq!(offsets(&mut sim, 8, &list(&[-4])), [(0, 0, -1)]);
    assert_eq!(offsets(&mut sim, 7, &list(&[-3])), [(0, -1, -1)], "an empty partition has no newest record");
}

#[test]
fn list_offsets_11_has_the_layout_of_10() {
    let mut sim = sim();
    sim.produce("t", 0, &["a"]);
    let conn = sim.connect(1);
    let mut body = BytesMut::new();
    kafka_protocol::protocol::Encodable::encode(&list(&[-1]), &mut body, 10).unwrap();
    let mut answer = raw_call(&mut sim, conn, 2, 11, &body);
    let response = kafka_protocol::messages::ListOffsetsResponse::decode(&mut answer, 10).unwrap();
    assert_eq!(response.topics[0].partitions[0].offset, 1);
}

#[test]
fn list_offsets_checks_leader_and_epoch() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    let mut request = list(&[-1]);
    assert_eq!(offsets(&mut sim, 7, &request)[0].0, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    assert_eq!(offsets(&mut sim, 7, &request)[0].0, ErrorCode::FENCED_LEADER_EPOCH.0);
    request.topics[0].partitions[0].current_leader_epoch = 5;
    assert_eq!(offsets(&mut sim, 7, &request)[0].0, ErrorCode::UNKNOWN_LEADER_EPOCH.0);
    request.topics[0].partitions[0].partition_index = 9;
    assert_eq!(offsets(&mut sim, 7, &request)[0].0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
}

#[test]
fn the_end_of_a_leader_epoch_is_where_the_next_one_starts() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.produce("t", 0, &["a", "b"]);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    sim.cluster.move_leader(sim.now, "t", 0, 1).unwrap();
    sim.produce("t", 0, &["c"]);
    let conn = sim.connect(1);
    // Epoch 1 wrote nothing: the largest epoch not above it is 0. Epoch 2 is the present one.
    for (asked, epoch, end) in [(0, 0, 2), (1, 0, 2), (2, 2, 3), (3, -1, -1)] {
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![
            OffsetForLeaderTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![OffsetForLeaderPartition::default().with_leader_epoch(asked)]),
        ]);
        for version in 3..=4 {
            let response = sim.call(conn, version, &request);
            let p = &response.topics[0].partitions[0];
            assert_eq!((p.error_code, p.leader_epoch, p.end_offset), (0, epoch, end), "epoch {asked}");
        }
    }
}

// ---- deleting --------------------------------------------------------------------------------------------------------

#[test]
fn groups_are_listed_and_deleted_when_empty() {
    let mut sim = sim();
    let members = sim.stable_group("g", 1);
    let conn = sim.connect(1);
    sim.call(conn, 7, &commit("h", "", -1, &[("t", 0, 1)]));
    let names = |sim: &mut Sim, request: &ListGroupsRequest| -> Vec<String> {
        sim.call(conn, 5, request)
            .groups
            .iter()
            .map(|g| format!("{}:{}", &*g.group_id.0, g.group_state))
            .collect()
    };
    assert_eq!(names(&mut sim, &ListGroupsRequest::default()), ["g:Stable", "h:Empty"]);
    let empty = ListGroupsRequest::default().with_states_filter(vec![text("Empty")]);
    assert_eq!(names(&mut sim, &empty), ["h:Empty"]);
    let delete =
        DeleteGroupsRequest::default().with_groups_names(vec![group_id("g"), group_id("h"), group_id("i")]);
    let results: Vec<ErrorCode> =
        sim.call(conn, 2, &delete).results.iter().map(|r| ErrorCode(r.error_code)).collect();
    assert_eq!(results, [ErrorCode::NON_EMPTY_GROUP, ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    assert_eq!(sim.cluster.committed("h", "t", 0), None);
    sim.call(members[0].connection, 4, &leave("g", &members[0].id, None));
    assert_eq!(sim.call(conn, 2, &delete).results[0].error_code, 0);
}

#[test]
fn offsets_of_an_empty_group_are_deleted() {
    let mut sim = sim();
    sim.cluster.set_committed("g", "t", 0, 5).unwrap();
    let conn = sim.connect(1);
    let request = OffsetDeleteRequest::default().with_group_id(group_id("g")).with_topics(vec![
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]),
    ]);
    assert_eq!(sim.call(conn, 0, &request).error_code, 0);
    assert_eq!(sim.cluster.committed("g", "t", 0), None);
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let run = || {
        let mut sim = Sim::new(ClusterConfig::with_nodes(2));
        sim.cluster.create_topic("t", 3).unwrap();
        sim.cluster.move_coordinator(sim.now, "g", 1).unwrap();
        sim.stable_group("g", 3);
        let conn = sim.connect(1);
        sim.call(conn, 12, &fetch("t", &[(0, 0)]).with_session_epoch(0));
        let _ = sim.call(conn, 12, &MetadataRequest::default());
        sim.raw
    };
    assert_eq!(run(), run());
}

#[test]
fn the_hand_written_frame_of_version_10_has_kafkas_layout() {
    // It equals version 9 with the topic's id in the place of its name.
    let mut v9 = BytesMut::new();
    let mut request: OffsetCommitRequest = commit("g", "", -1, &[("t", 1, 42)]);
    request.topics[0].partitions[0].committed_leader_epoch = 7;
    request.topics[0].partitions[0].committed_metadata = Some(text("hi"));
    kafka_protocol::protocol::Encodable::encode(&request, &mut v9, 9).unwrap();
    let v10 = commit_v10([5; 16], 42);
    let at = v9.windows(2).position(|w| w == [2, b't']).unwrap();
    assert_eq!([&v9[..at], &[5; 16], &v9[at + 2..]].concat(), v10[..]);
}
