//! Fetch: sessions, limits, long polls, epochs, isolation.

mod support;

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use ottla_broker::ErrorCode;
use ottla_broker::sim::ClusterConfig;
use support::*;
use uuid::Uuid;

fn session(request: FetchRequest, id: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(id).with_session_epoch(epoch)
}

fn records(response: &FetchResponse) -> &[u8] {
    response.responses[0].partitions[0].records.as_ref().unwrap()
}

#[test]
fn every_version_gives_the_records() {
    let mut sim = Sim::with_topic(1, "t", 1);
    sim.produce("t", 0, &["a", "b"]);
    let id = Uuid::from_bytes(sim.cluster.topic_id("t").unwrap());
    let conn = sim.connect(1);
    for version in 4..=18 {
        let mut request = fetch("t", &[(0, 0)]);
        if version >= 13 {
            request.topics[0].topic = Default::default();
            request.topics[0].topic_id = id;
        }
        if version < 7 {
            request.session_epoch = -1;
        }
        let response = sim.call(conn, version, &request);
        assert_eq!(response.error_code, 0);
        let p = &response.responses[0].partitions[0];
        assert_eq!((p.error_code, p.high_watermark, p.last_stable_offset), (0, 2, 2), "v{version}");
        assert_eq!(batches(records(&response)).0, [0], "v{version}");
    }
}

#[test]
fn kip_227_a_full_request_opens_a_session_and_the_next_one_brings_only_news() {
    let mut sim = Sim::with_topic(1, "t", 3);
    sim.produce("t", 0, &["a"]);
    let conn = sim.connect(1);
    let full = sim.call(conn, 12, &session(fetch("t", &[(0, 0), (1, 0), (2, 0)]), 0, 0));
    let id = full.session_id;
    assert!(id > 0);
    assert_eq!(partitions(&full).len(), 3);

    // Only partition 1 has news; nothing is repeated.
    sim.produce("t", 1, &["b"]);
    let mut next = session(fetch("t", &[(0, 1)]), id, 1);
    let news = sim.call(conn, 12, &next);
    assert_eq!(news.session_id, id);
    assert_eq!(partitions(&news).iter().map(|p| p.0).collect::<Vec<_>>(), [1]);

    // An incremental request without changes; the high watermark the client knows is not told again.
    next.topics.clear();
    next.topics.extend(fetch("t", &[(1, 1)]).topics);
    next.session_epoch = 2;
    assert_eq!(partitions(&sim.call(conn, 12, &next)), []);
}

#[test]
fn kip_227_wrong_epochs_and_unknown_sessions_are_refused() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let id = sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id;
    let code = |response: FetchResponse| (ErrorCode(response.error_code), response.session_id);
    let empty = fetch("t", &[]);
    assert_eq!(
        code(sim.call(conn, 12, &session(empty.clone(), id, 5))),
        (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0)
    );
    assert_eq!(
        code(sim.call(conn, 12, &session(empty.clone(), id.wrapping_add(1), 1))),
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0)
    );
    // The session survived both.
    assert_eq!(code(sim.call(conn, 12, &session(empty.clone(), id, 1))), (ErrorCode::NONE, id));
    sim.cluster.evict_fetch_sessions();
    assert_eq!(code(sim.call(conn, 12, &session(empty, id, 2))), (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0));
}

#[test]
fn kip_227_minus_one_ends_a_session_and_zero_replaces_it() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let first = sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id;
    let second = sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), first, 0)).session_id;
    assert_ne!(first, second);
    assert_eq!(sim.cluster.fetch_sessions(1), 1);
    assert_eq!(sim.call(conn, 12, &session(fetch("t", &[]), second, -1)).session_id, 0);
    assert_eq!(sim.cluster.fetch_sessions(1), 0);
}

#[test]
fn kip_227_forgotten_partitions_leave_the_session() {
    let mut sim = Sim::with_topic(1, "t", 2);
    let conn = sim.connect(1);
    let id = sim.call(conn, 12, &session(fetch("t", &[(0, 0), (1, 0)]), 0, 0)).session_id;
    let mut request = session(fetch("t", &[]), id, 1);
    request.topics.clear();
    request.forgotten_topics_data =
        vec![ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![0])];
    sim.call(conn, 12, &request);
    sim.produce("t", 0, &["a"]);
    sim.produce("t", 1, &["b"]);
    let mut next = session(fetch("t", &[]), id, 2);
    next.topics.clear();
    assert_eq!(partitions(&sim.call(conn, 12, &next)).iter().map(|p| p.0).collect::<Vec<_>>(), [1]);
    // The last partition forgotten: the session is over.
    next.session_epoch = 3;
    next.forgotten_topics_data =
        vec![ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![1])];
    assert_eq!(sim.call(conn, 12, &next).session_id, 0);
    assert_eq!(sim.cluster.fetch_sessions(1), 0);
}

#[test]
fn kip_227_a_full_cache_gives_no_session() {
    let mut config = ClusterConfig::default();
    config.fetch_session_slots = 1;
    let mut sim = Sim::new(config);
    sim.cluster.create_topic("t", 1).unwrap();
    let conn = sim.connect(1);
    assert_ne!(sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id, 0);
    assert_eq!(sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id, 0);
    // After two minutes without use the slot is free for another one.
    sim.advance(Duration::from_secs(121));
    assert_ne!(sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id, 0);
}

#[test]
fn a_session_of_names_cannot_go_on_with_ids() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let id = sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id;
    let mut request = session(fetch("t", &[]), id, 1);
    request.topics.clear();
    assert_eq!(sim.call(conn, 13, &request).error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR.0);
}

#[test]
fn a_partition_with_an_error_is_told_again_when_the_error_is_over() {
    let mut sim = Sim::with_topic(2, "t", 1);
    let conn = sim.connect(1);
    let id = sim.call(conn, 12, &session(fetch("t", &[(0, 0)]), 0, 0)).session_id;
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    let mut next = session(fetch("t", &[]), id, 1);
    next.topics.clear();
    let error = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
    assert_eq!(partitions(&sim.call(conn, 12, &next)), [(0, error, 0, -1)]);
    sim.cluster.move_leader(sim.now, "t", 0, 1).unwrap();
    next.session_epoch = 2;
    assert_eq!(partitions(&sim.call(conn, 12, &next)), [(0, 0, 0, 0)]);
}

#[test]
fn unknown_topics_have_the_error_of_their_kind() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let by_name = sim.call(conn, 12, &fetch("nope", &[(0, 0)]));
    assert_eq!(partitions(&by_name)[0].1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    let mut by_id = fetch("", &[(0, 0)]);
    by_id.topics[0].topic_id = Uuid::from_u128(77);
    let response = sim.call(conn, 13, &by_id);
    assert_eq!(partitions(&response)[0].1, ErrorCode::UNKNOWN_TOPIC_ID.0);
    assert_eq!(response.responses[0].topic_id, Uuid::from_u128(77));
}

#[test]
fn a_recreated_topic_has_another_id_and_the_old_one_is_unknown() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let old = sim.cluster.topic_id("t").unwrap();
    let conn = sim.connect(1);
    let mut request = session(fetch("", &[(0, 0)]), 0, 0);
    request.topics[0].topic_id = Uuid::from_bytes(old);
    let id = sim.call(conn, 13, &request).session_id;
    sim.cluster.delete_topic(sim.now, "t").unwrap();
    sim.cluster.create_topic("t", 1).unwrap();
    assert_ne!(sim.cluster.topic_id("t").unwrap(), old);
    let mut next = session(fetch("", &[]), id, 1);
    next.topics.clear();
    assert_eq!(partitions(&sim.call(conn, 13, &next))[0].1, ErrorCode::UNKNOWN_TOPIC_ID.0);
}

#[test]
fn a_long_poll_waits_for_min_bytes_and_no_longer_than_max_wait() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let pending = sim.send(conn, 12, &fetch("t", &[(0, 0)]).with_max_wait_ms(500));
    assert!(sim.take(&pending).is_none());
    sim.advance(Duration::from_millis(499));
    assert!(sim.take(&pending).is_none());
    sim.advance(Duration::from_millis(1));
    assert_eq!(partitions(&sim.take(&pending).unwrap()), [(0, 0, 0, 0)]);

    let pending = sim.send(conn, 12, &fetch("t", &[(0, 0)]).with_max_wait_ms(500).with_min_bytes(100));
    sim.produce("t", 0, &["a"]);
    assert!(sim.take(&pending).is_none(), "one small batch is less than 100 bytes");
    sim.produce("t", 0, &["b"]);
    assert_eq!(batches(records(&sim.take(&pending).unwrap())).0, [0, 1]);
    assert_eq!(sim.cluster.next_timeout(), None, "the deadline of an answered poll is gone");
}

#[test]
fn a_long_poll_blocks_what_is_queued_behind_it() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let poll = sim.send(conn, 12, &fetch("t", &[(0, 0)]).with_max_wait_ms(500));
    let behind = sim.send(conn, 12, &fetch("t", &[(0, 0)]));
    assert!(sim.take(&behind).is_none());
    sim.advance(Duration::from_millis(500));
    assert!(sim.take(&poll).is_some() && sim.take(&behind).is_some());
}

#[test]
fn a_long_poll_ends_at_once_when_the_leader_moves() {
    let mut sim = Sim::with_topic(2, "t", 1);
    let conn = sim.connect(1);
    let mut request = fetch("t", &[(0, 0)]).with_max_wait_ms(60_000);
    request.topics[0].topic = Default::default();
    request.topics[0].topic_id = Uuid::from_bytes(sim.cluster.topic_id("t").unwrap());
    let pending = sim.send(conn, 16, &request);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    sim.drain();
    let response = sim.take(&pending).unwrap();
    // KIP-951: the answer says who leads now and where it is.
    let p = &response.responses[0].partitions[0];
    assert_eq!(p.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    assert_eq!((p.current_leader.leader_id.0, p.current_leader.leader_epoch), (2, 1));
    let endpoint = &response.node_endpoints[0];
    assert_eq!((endpoint.node_id.0, endpoint.port), (2, 9093));
}

#[test]
fn kip_74_the_first_batch_comes_whole_and_the_tail_is_cut() {
    let mut sim = Sim::with_topic(1, "t", 2);
    let big = "x".repeat(1000);
    for p in 0..2 {
        for _ in 0..3 {
            sim.produce("t", p, &[&big]);
        }
    }
    let conn = sim.connect(1);
    let mut request = fetch("t", &[(0, 0), (1, 0)]);
    request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 10);
    let response = sim.call(conn, 12, &request);
    let got = &response.responses[0].partitions;
    assert_eq!(batches(got[0].records.as_ref().unwrap()), (vec![0], 0), "the first batch, whole");
    assert!(got[1].records.as_ref().unwrap().is_empty(), "no second exception to the limit");

    request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 1500);
    let response = sim.call(conn, 12, &request);
    let first = response.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(first.len(), 1500);
    let (whole, rest) = batches(first);
    assert!(whole == [0] && rest > 0, "cut in the middle of the second batch");

    request.max_bytes = 100;
    let response = sim.call(conn, 12, &request);
    let sizes: Vec<usize> = partitions(&response).iter().map(|p| p.2).collect();
    assert!(sizes[0] > 1000 && sizes[1] == 0, "max_bytes is over all partitions: {sizes:?}");
}

#[test]
fn a_fetch_across_segments_is_gapless() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let big = "x".repeat(1 << 20);
    for _ in 0..10 {
        sim.produce("t", 0, &[&big]);
    }
    let conn = sim.connect(1);
    let mut request = fetch("t", &[(0, 1)]);
    request.topics[0].partitions[0].partition_max_bytes = 20 << 20;
    let response = sim.call(conn, 12, &request);
    assert_eq!(batches(records(&response)), ((1..10).collect(), 0));
}

#[test]
fn leader_epochs_are_checked() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    let conn = sim.connect(2);
    let mut request = fetch("t", &[(0, 0)]);
    for (epoch, code) in [
        (-1, ErrorCode::NONE),
        (0, ErrorCode::FENCED_LEADER_EPOCH),
        (1, ErrorCode::NONE),
        (2, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(ErrorCode(partitions(&sim.call(conn, 12, &request))[0].1), code, "epoch {epoch}");
    }
}

#[test]
fn offsets_outside_the_log_are_out_of_range() {
    let mut sim = Sim::with_topic(1, "t", 1);
    for _ in 0..3 {
        sim.produce("t", 0, &["a"]);
    }
    sim.cluster.delete_records(sim.now, "t", 0, 1).unwrap();
    let conn = sim.connect(1);
    let mut code = |offset| ErrorCode(partitions(&sim.call(conn, 12, &fetch("t", &[(0, offset)])))[0].1);
    assert_eq!(code(0), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(code(1), ErrorCode::NONE);
    assert_eq!(code(3), ErrorCode::NONE);
    assert_eq!(code(4), ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn nothing_above_a_held_high_watermark_is_served() {
    let mut sim = Sim::with_topic(1, "t", 1);
    sim.produce("t", 0, &["a"]);
    sim.produce("t", 0, &["b"]);
    sim.cluster.hold_high_watermark(sim.now, "t", 0, Some(1)).unwrap();
    let conn = sim.connect(1);
    let response = sim.call(conn, 12, &fetch("t", &[(0, 0)]));
    assert_eq!(batches(records(&response)).0, [0]);
    assert_eq!(partitions(&response)[0].3, 1);
    let poll = sim.send(conn, 12, &fetch("t", &[(0, 1)]).with_max_wait_ms(1000));
    sim.cluster.hold_high_watermark(sim.now, "t", 0, None).unwrap();
    sim.drain();
    assert_eq!(batches(records(&sim.take(&poll).unwrap())).0, [1]);
}

#[test]
fn a_diverging_last_fetched_epoch_is_told() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.produce("t", 0, &["a"]);
    sim.produce("t", 0, &["b"]);
    sim.cluster.truncate(sim.now, "t", 0, 1).unwrap();
    sim.produce("t", 0, &["c"]);
    let conn = sim.connect(1);
    let mut request = fetch("t", &[(0, 2)]);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let response = sim.call(conn, 12, &request);
    let diverging = &response.responses[0].partitions[0].diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (0, 1));
}

#[test]
fn kip_392_a_consumer_is_sent_to_the_replica_in_its_rack() {
    let mut config = ClusterConfig::with_nodes(2);
    config.nodes[0].rack = Some("a".to_owned());
    config.nodes[1].rack = Some("b".to_owned());
    let mut sim = Sim::new(config);
    sim.cluster.create_topic("t", 1).unwrap();
    sim.produce("t", 0, &["a"]);
    let leader = sim.connect(1);
    let request = fetch("t", &[(0, 0)]).with_rack_id(text("b"));
    let response = sim.call(leader, 12, &request);
    let p = &response.responses[0].partitions[0];
    assert_eq!((p.preferred_read_replica.0, p.records.as_ref().unwrap().len()), (2, 0));
    let follower = sim.connect(2);
    assert_eq!(batches(records(&sim.call(follower, 12, &request))).0, [0]);
}

#[test]
fn two_topics_keep_apart() {
    let mut sim = Sim::with_topic(1, "t", 1);
    sim.cluster.create_topic("u", 1).unwrap();
    sim.produce("u", 0, &["a"]);
    let conn = sim.connect(1);
    let mut request = fetch("t", &[(0, 0)]);
    request.topics.push(
        FetchTopic::default().with_topic(topic_name("u")).with_partitions(vec![
            FetchPartition::default().with_partition(0).with_partition_max_bytes(1000),
        ]),
    );
    let response = sim.call(conn, 12, &request);
    let names: Vec<String> = response.responses.iter().map(|t| t.topic.to_string()).collect();
    assert_eq!(names, ["t", "u"]);
    assert!(partitions(&response)[0].2 == 0 && partitions(&response)[1].2 > 0);
}
