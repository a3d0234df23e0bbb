//! The fault script and the observation log.

mod support;

use std::time::Duration;

use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest, OffsetCommitRequest,
};
use ottla_broker::{Api, Broker, Corruption, ErrorCode, Fault};
use support::member::*;
use support::*;

fn sim() -> Sim {
    let mut sim = Sim::with_topic(1, "t", 2);
    sim.produce("t", 0, &["a"]);
    sim.produce("t", 1, &["b"]);
    sim
}

fn commit_code(sim: &mut Sim, request: &OffsetCommitRequest) -> Vec<ErrorCode> {
    let conn = sim.connect(1);
    let response = sim.call(conn, 7, request);
    response.topics.iter().map(|t| ErrorCode(t.partitions[0].error_code)).collect()
}

#[test]
fn an_error_hits_as_often_as_asked_and_nothing_is_done() {
    let mut sim = sim();
    let fault =
        sim.cluster.add_fault(Fault::on(Api::OffsetCommit).times(2).error(ErrorCode::NOT_COORDINATOR));
    let request = commit("g", "", -1, &[("t", 0, 5)]);
    assert_eq!(sim.cluster.unfired_faults().count(), 1);
    for _ in 0..2 {
        assert_eq!(commit_code(&mut sim, &request), [ErrorCode::NOT_COORDINATOR]);
        assert_eq!(sim.cluster.committed("g", "t", 0), None);
    }
    assert_eq!((sim.cluster.fault_fired(fault), sim.cluster.unfired_faults().count()), (2, 0));
    assert_eq!(commit_code(&mut sim, &request), [ErrorCode::NONE]);
}

#[test]
fn an_error_for_one_partition_leaves_the_others_alone() {
    let mut sim = sim();
    sim.cluster.add_fault(
        Fault::on(Api::OffsetCommit).partition("t", 1).error(ErrorCode::OFFSET_METADATA_TOO_LARGE),
    );
    let request = commit("g", "", -1, &[("t", 0, 5), ("t", 1, 5)]);
    assert_eq!(commit_code(&mut sim, &request), [ErrorCode::NONE, ErrorCode::OFFSET_METADATA_TOO_LARGE]);
    assert!(sim.cluster.committed("g", "t", 0).is_some() && sim.cluster.committed("g", "t", 1).is_none());
}

#[test]
fn a_fetch_error_reaches_a_partition_that_only_the_session_knows() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let id = sim.call(conn, 12, &fetch("t", &[(0, 1), (1, 1)]).with_session_epoch(0)).session_id;
    sim.cluster.add_fault(Fault::on(Api::Fetch).partition("t", 1).error(ErrorCode::KAFKA_STORAGE_ERROR));
    let mut next: FetchRequest = fetch("t", &[]).with_session_id(id).with_session_epoch(1);
    next.topics.clear();
    let response = sim.call(conn, 12, &next);
    assert_eq!(partitions(&response), [(1, ErrorCode::KAFKA_STORAGE_ERROR.0, 0, -1)]);
}

#[test]
fn session_errors_of_a_fetch_are_at_the_top() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::Fetch).error(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
    let conn = sim.connect(1);
    let response = sim.call(conn, 12, &fetch("t", &[(0, 0)]));
    assert_eq!(ErrorCode(response.error_code), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert!(response.responses.is_empty());
}

#[test]
fn conditions_narrow_the_match() {
    let mut sim = Sim::with_topic(2, "t", 2);
    let (one, two) = (sim.connect(1), sim.connect(2));
    let error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    sim.cluster.add_fault(Fault::on(Api::FindCoordinator).node(2).group("g").always().error(error));
    let mut ask = |conn, group: &str| {
        ErrorCode(sim.call(conn, 3, &FindCoordinatorRequest::default().with_key(text(group))).error_code)
    };
    assert_eq!(ask(one, "g"), ErrorCode::NONE);
    assert_eq!(ask(two, "h"), ErrorCode::NONE);
    assert_eq!(ask(two, "g"), error);
    assert_eq!(ask(two, "g"), error);
    sim.cluster.cancel_faults();
    sim.cluster.add_fault(Fault::any().connection(one.0).client_id("other").close_connection());
    sim.call(one, 0, &ApiVersionsRequest::default());
    sim.send_as(two, 0, &ApiVersionsRequest::default(), "other");
    assert!(sim.closed.is_empty());
    sim.send_as(one, 0, &ApiVersionsRequest::default(), "other");
    assert!(sim.closed.contains(&one));
}

#[test]
fn skip_lets_requests_pass_first() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::Metadata).skip(1).close_connection());
    let conn = sim.connect(1);
    sim.call(conn, 12, &MetadataRequest::default());
    sim.send(conn, 12, &MetadataRequest::default());
    assert!(sim.closed.contains(&conn));
}

#[test]
fn a_delay_holds_the_answer_and_what_is_behind_it() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::OffsetCommit).delay(Duration::from_secs(3)));
    let conn = sim.connect(1);
    let slow = sim.send(conn, 7, &commit("g", "", -1, &[("t", 0, 5)]));
    let behind = sim.send(conn, 0, &ApiVersionsRequest::default());
    assert!(sim.cluster.committed("g", "t", 0).is_some(), "done at once, told late");
    sim.advance(Duration::from_millis(2999));
    assert!(sim.take(&slow).is_none() && sim.take(&behind).is_none());
    sim.advance(Duration::from_millis(1));
    assert!(sim.take(&slow).is_some() && sim.take(&behind).is_some());
}

#[test]
fn a_delay_before_processing_holds_the_request() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::OffsetCommit).delay(Duration::from_secs(3)).before_processing());
    let conn = sim.connect(1);
    let slow = sim.send(conn, 7, &commit("g", "", -1, &[("t", 0, 5)]));
    assert!(sim.cluster.committed("g", "t", 0).is_none());
    sim.advance(Duration::from_secs(3));
    assert!(sim.take(&slow).is_some() && sim.cluster.committed("g", "t", 0).is_some());
}

#[test]
fn a_dropped_response_hangs_the_connection_after_the_work_is_done() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::OffsetCommit).drop_response());
    let conn = sim.connect(1);
    let lost = sim.send(conn, 7, &commit("g", "", -1, &[("t", 0, 5)]));
    let behind = sim.send(conn, 0, &ApiVersionsRequest::default());
    sim.advance(Duration::from_secs(3600));
    assert!(sim.take(&lost).is_none() && sim.take(&behind).is_none());
    assert!(sim.cluster.committed("g", "t", 0).is_some());
}

#[test]
fn closing_instead_of_answering_before_and_after_the_work() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::OffsetCommit).close_connection().before_processing());
    sim.cluster.add_fault(Fault::on(Api::OffsetCommit).close_connection());
    for done in [false, true] {
        let conn = sim.connect(1);
        sim.send(conn, 7, &commit("g", "", -1, &[("t", 0, 5)]));
        assert!(sim.closed.contains(&conn));
        assert_eq!(sim.cluster.committed("g", "t", 0).is_some(), done);
    }
}

#[test]
fn closing_in_the_middle_of_a_frame() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::ApiVersions).close_mid_frame(7));
    let conn = sim.connect(1);
    sim.send(conn, 0, &ApiVersionsRequest::default());
    assert_eq!(sim.raw[0].1.len(), 7);
    assert!(sim.closed.contains(&conn));
}

#[test]
fn a_throttle_is_told_and_mutes_the_connection() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::Fetch).throttle(Duration::from_secs(2)));
    let conn = sim.connect(1);
    let response = sim.call(conn, 12, &fetch("t", &[(0, 0)]));
    assert_eq!(response.throttle_time_ms, 2000);
    let behind = sim.send(conn, 0, &ApiVersionsRequest::default());
    sim.advance(Duration::from_millis(1999));
    assert!(sim.take(&behind).is_none());
    sim.advance(Duration::from_millis(1));
    assert!(sim.take(&behind).is_some());
}

#[test]
fn a_throttle_is_told_by_every_api_and_version_or_left_out_where_it_has_no_field() {
    // Encoding must not fail in any version.
    let mut sim = sim();
    sim.cluster.add_fault(Fault::any().always().throttle(Duration::from_millis(1)));
    for version in 0..=12 {
        let conn = sim.connect(1);
        let request = MetadataRequest::default().with_topics(Some(vec![]));
        let response = sim.call(conn, version, &request);
        assert_eq!(response.throttle_time_ms, i32::from(version >= 3));
        sim.advance(Duration::from_millis(1));
    }
    for version in 0..=5 {
        let conn = sim.connect(1);
        sim.call(conn, version.min(4), &heartbeat("g", "m", 1));
        sim.advance(Duration::from_millis(1));
        sim.call(conn, version.min(3), &FindCoordinatorRequest::default().with_key(text("g")));
        sim.advance(Duration::from_millis(1));
    }
    assert!(sim.closed.is_empty());
}

#[test]
fn corruptions_spoil_what_they_say() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let clean = |sim: &mut Sim| {
        sim.raw.clear();
        sim.send(conn, 12, &fetch("t", &[(0, 0)]));
        sim.raw.pop().unwrap().1
    };
    let good = clean(&mut sim);
    let mut spoiled = |corruption| {
        sim.cluster.add_fault(Fault::on(Api::Fetch).corrupt(corruption));
        let bad = clean(&mut sim);
        let at: Vec<usize> = (0..good.len()).filter(|&i| good[i] != bad[i]).collect();
        // The correlation id differs from request to request.
        at.into_iter().filter(|i| !(4..8).contains(i)).collect::<Vec<_>>()
    };
    assert_eq!(spoiled(Corruption::FlipByte(20)), [24]);
    assert_eq!(spoiled(Corruption::BatchCrc).len(), 1);
    assert_eq!(spoiled(Corruption::LastRecordByte).len(), 1);
    assert!(spoiled(Corruption::FrameLength(i32::MAX)).iter().all(|i| *i < 4));
    assert!(spoiled(Corruption::CorrelationId).is_empty());
}

#[test]
fn a_record_corruption_waits_for_a_fetch_with_records() {
    let mut sim = sim();
    let fault = sim.cluster.add_fault(Fault::on(Api::Fetch).corrupt(Corruption::BatchCrc));
    let conn = sim.connect(1);
    sim.call(conn, 12, &fetch("t", &[(0, 1)]));
    assert_eq!(sim.cluster.fault_fired(fault), 0);
    sim.call(conn, 12, &fetch("t", &[(0, 0)]));
    assert_eq!(sim.cluster.fault_fired(fault), 1);
}

#[test]
fn raw_answers_go_out_as_given() {
    let mut sim = sim();
    sim.cluster.add_fault(Fault::on(Api::ApiVersions).respond_raw("HTTP/1.1 400"));
    sim.cluster.add_fault(Fault::on(Api::ApiVersions).respond_body(vec![0, 35, 0, 0, 0, 0]));
    let conn = sim.connect(1);
    sim.send(conn, 0, &ApiVersionsRequest::default());
    assert_eq!(sim.raw.pop().unwrap().1, "HTTP/1.1 400");
    let response = sim.call(conn, 0, &ApiVersionsRequest::default());
    assert_eq!((response.error_code, response.api_keys.len()), (35, 0));
}

#[test]
fn every_group_api_takes_an_error() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    sim.cluster.add_fault(Fault::any().group("g").always().error(code));
    let range = [("range", "")];
    let errors = [
        sim.call(conn, 5, &join("g", "", &range)).error_code,
        sim.call(conn, 3, &sync("g", "m", 1, &[])).error_code,
        sim.call(conn, 3, &heartbeat("g", "m", 1)).error_code,
        sim.call(conn, 4, &leave("g", "m", None)).error_code,
        sim.call(conn, 7, &offset_fetch("g", "t", &[0])).error_code,
    ];
    assert_eq!(errors, [code.0; 5]);
}

#[test]
fn bytes_may_come_cut_anywhere() {
    let mut sim = sim();
    let conn = sim.connect(1);
    let frame = encode(9, 12, &fetch("t", &[(0, 0)]), "c");
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&frame);
    let twice = [bytes.clone(), bytes].concat();
    for byte in twice {
        sim.cluster.handle_bytes(sim.now, conn, &[byte]);
        sim.drain();
    }
    assert_eq!(sim.raw.len(), 2);
}

#[test]
fn requests_are_observed_with_their_facts() {
    let mut sim = sim();
    let conn = sim.connect(1);
    sim.advance(Duration::from_secs(5));
    sim.send_as(conn, 7, &commit("g", "ghost", 4, &[("t", 1, 42)]), "app");
    let seen = sim.cluster.requests().last().unwrap().clone();
    assert_eq!((seen.api, seen.version, seen.node, seen.connection), (Api::OffsetCommit, 7, 1, conn.0));
    assert_eq!(
        (seen.client_id.as_deref(), seen.group(), seen.member_id.as_deref()),
        (Some("app"), Some("g"), Some("ghost"))
    );
    assert_eq!((seen.generation, seen.offset("t", 1), seen.names("t", 0)), (Some(4), Some(42), false));
    assert_eq!((seen.at, seen.answered_at), (Duration::from_secs(5), Some(Duration::from_secs(5))));
    assert_eq!(seen.error, Some(ErrorCode::ILLEGAL_GENERATION));
}

#[tokio::test(start_paused = true)]
async fn tests_wait_for_requests_without_sleeping() {
    let broker = Broker::builder().topic("t", 1).in_memory().start().await.unwrap();
    let mut client = Client::new(broker.connect_in_memory("", 19_001).unwrap());
    client.call(0, &ApiVersionsRequest::default()).await.unwrap();
    let mark = broker.mark();
    let fetching = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        client.call(12, &fetch("t", &[(0, 0)])).await.unwrap();
    };
    let waiting = broker.wait_for_since(mark, |request| request.answered_at.is_some());
    let (_, seen) = tokio::join!(fetching, waiting);
    assert_eq!((seen.api, seen.at.as_secs()), (Api::Fetch, 9));
    assert_eq!(broker.count_since(mark, |request| request.api == Api::JoinGroup), 0);
    assert_eq!(broker.wait_for(|request| request.api == Api::ApiVersions).await.index, 0);
}
