//! ApiVersions, Metadata, FindCoordinator, Produce and the topic APIs.

mod support;

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, FetchResponse, FindCoordinatorRequest,
    InitProducerIdRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::Decodable;
use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, BatchBuilder, Codec, ErrorCode};
use support::*;
use uuid::Uuid;

// ---- ApiVersions -----------------------------------------------------------------------------------------------------

fn software(request: ApiVersionsRequest, name: &str) -> ApiVersionsRequest {
    request.with_client_software_name(text(name)).with_client_software_version(text("1.0"))
}

#[test]
fn every_version_tells_the_ranges() {
    let mut sim = Sim::nodes(1);
    let conn = sim.connect(1);
    for version in 0..=4 {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = software(request, "ottla");
        }
        let response = sim.call(conn, version, &request);
        let fetch = response.api_keys.iter().find(|key| key.api_key == 1).unwrap();
        assert_eq!((response.error_code, fetch.min_version, fetch.max_version), (0, 4, 18), "v{version}");
    }
}

#[test]
fn kip_511_a_too_new_api_versions_is_answered_in_version_0_with_its_own_range() {
    let mut sim = Sim::nodes(1);
    let conn = sim.connect(1);
    // ApiVersions 99, correlation 7, no client id, then whatever version 99 may look like.
    let frame = [0, 18, 0, 99, 0, 0, 0, 7, 255, 255, 0, 1, 2, 3];
    sim.cluster.handle_request(sim.now, conn, Bytes::copy_from_slice(&frame));
    sim.drain();
    let mut answer = sim.raw.pop().unwrap().1.slice(4..);
    assert_eq!(answer.split_to(4)[..], 7_i32.to_be_bytes());
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert!(answer.is_empty());
    assert_eq!(ErrorCode(response.error_code), ErrorCode::UNSUPPORTED_VERSION);
    let keys: Vec<_> = response.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
    assert_eq!(keys, [(18, 0, 4)]);
    // The connection goes on.
    assert_eq!(sim.call(conn, 0, &ApiVersionsRequest::default()).error_code, 0);
}

#[test]
fn kip_511_a_client_software_name_has_a_syntax() {
    let mut sim = Sim::nodes(1);
    let conn = sim.connect(1);
    for (name, code) in [
        ("ottla-0.1", ErrorCode::NONE),
        ("", ErrorCode::INVALID_REQUEST),
        ("-ottla", ErrorCode::INVALID_REQUEST),
        ("ottla client", ErrorCode::INVALID_REQUEST),
    ] {
        let response = sim.call(conn, 3, &software(ApiVersionsRequest::default(), name));
        assert_eq!(ErrorCode(response.error_code), code, "'{name}'");
    }
}

#[test]
fn an_older_release_offers_less_and_refuses_the_rest() {
    let mut sim = Sim::new(ClusterConfig::default().as_version("2.8").unwrap().cap(Api::Metadata, 8));
    let conn = sim.connect(1);
    let response = sim.call(conn, 0, &ApiVersionsRequest::default());
    let max = |api: Api| response.api_keys.iter().find(|k| k.api_key == api.key()).map(|k| k.max_version);
    assert_eq!((max(Api::Fetch), max(Api::Metadata), max(Api::OffsetFetch)), (Some(12), Some(8), Some(7)));
    sim.send(conn, 13, &fetch("", &[(0, 0)]));
    assert!(sim.closed.contains(&conn), "a version that is not offered closes the connection");
}

// ---- Metadata --------------------------------------------------------------------------------------------------------

fn ask(names: &[&str]) -> MetadataRequest {
    let topics =
        names.iter().map(|n| MetadataRequestTopic::default().with_name(Some(topic_name(n)))).collect();
    MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false)
}

#[test]
fn every_version_describes_the_cluster() {
    let mut sim = Sim::with_topic(3, "t", 4);
    let id = sim.cluster.topic_id("t").unwrap();
    let conn = sim.connect(1);
    for version in 0..=13 {
        let mut request = ask(&["t"]);
        if version < 4 {
            request.allow_auto_topic_creation = true;
        }
        let response = sim.call(conn, version, &request);
        assert_eq!(response.brokers.len(), 3, "v{version}");
        let topic = &response.topics[0];
        assert_eq!(topic.error_code, 0);
        assert_eq!(topic.partitions.iter().map(|p| p.leader_id.0).collect::<Vec<_>>(), [1, 2, 3, 1]);
        assert_eq!(topic.partitions[1].replica_nodes.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!(*topic.topic_id.as_bytes(), if version >= 10 { id } else { [0; 16] });
        assert_eq!(topic.partitions[0].leader_epoch, if version >= 7 { 0 } else { -1 });
        if version >= 2 {
            assert_eq!(response.cluster_id.as_ref().unwrap().len(), 22);
        }
    }
}

#[test]
fn null_asks_for_all_topics_and_empty_for_none_but_in_version_0() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    assert_eq!(sim.call(conn, 12, &ask(&[]).with_topics(None)).topics.len(), 1);
    assert_eq!(sim.call(conn, 12, &ask(&[])).topics.len(), 0);
    let v0 = ask(&[]).with_allow_auto_topic_creation(true);
    assert_eq!(sim.call(conn, 0, &v0).topics.len(), 1);
}

#[test]
fn unknown_topics_are_created_only_if_the_request_allows_it() {
    let mut sim = Sim::nodes(1);
    let conn = sim.connect(1);
    let code =
        |sim: &mut Sim, request: &MetadataRequest| ErrorCode(sim.call(conn, 9, request).topics[0].error_code);
    assert_eq!(code(&mut sim, &ask(&["new"])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&mut sim, &ask(&["new"])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let create = ask(&["new"]).with_allow_auto_topic_creation(true);
    assert_eq!(code(&mut sim, &create), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "it is being made");
    assert_eq!(code(&mut sim, &ask(&["new"])), ErrorCode::NONE);
    assert_eq!(code(&mut sim, &ask(&["no good"])), ErrorCode::INVALID_TOPIC_EXCEPTION);
}

#[test]
fn from_version_12_a_topic_may_be_asked_for_by_id() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let id = Uuid::from_bytes(sim.cluster.topic_id("t").unwrap());
    let conn = sim.connect(1);
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let found = sim.call(conn, 12, &by_id(id));
    assert_eq!(found.topics[0].name.as_ref().unwrap().as_str(), "t");
    let missing = sim.call(conn, 12, &by_id(Uuid::from_u128(5)));
    assert_eq!(ErrorCode(missing.topics[0].error_code), ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(missing.topics[0].name, None);
}

#[test]
fn a_partition_without_a_live_replica_has_no_leader() {
    let mut config = ClusterConfig::with_nodes(2);
    config.replication_factor = 1;
    let mut sim = Sim::new(config);
    sim.cluster.create_topic("t", 2).unwrap();
    sim.cluster.stop_node(sim.now, 2).unwrap();
    let conn = sim.connect(1);
    let response = sim.call(conn, 12, &ask(&["t"]));
    assert_eq!(response.brokers.len(), 1);
    let lost = &response.topics[0].partitions[1];
    assert_eq!((ErrorCode(lost.error_code), lost.leader_id.0), (ErrorCode::LEADER_NOT_AVAILABLE, -1));
    assert_eq!(lost.offline_replicas.iter().map(|r| r.0).collect::<Vec<_>>(), [2]);
    sim.cluster.start_node(sim.now, 2).unwrap();
    assert_eq!(sim.cluster.leader("t", 1).unwrap(), (Some(2), 2));
}

#[test]
fn frozen_metadata_tells_of_leaders_that_are_no_more() {
    let mut sim = Sim::with_topic(2, "t", 2);
    let conn = sim.connect(1);
    let leaders = |sim: &mut Sim| -> Vec<(i32, i32, i16)> {
        let topic = sim.call(conn, 12, &ask(&["t"])).topics.remove(0);
        topic.partitions.iter().map(|p| (p.leader_id.0, p.leader_epoch, p.error_code)).collect()
    };
    sim.cluster.freeze_metadata(true);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    sim.cluster.lose_leader(sim.now, "t", 1).unwrap();
    assert_eq!(leaders(&mut sim), [(1, 0, 0), (2, 0, 0)]);
    sim.cluster.freeze_metadata(false);
    assert_eq!(leaders(&mut sim), [(2, 1, 0), (-1, 1, ErrorCode::LEADER_NOT_AVAILABLE.0)]);
}

#[test]
fn a_node_that_turns_clients_away_is_in_the_metadata_all_the_same() {
    let mut sim = Sim::nodes(2);
    sim.cluster.turn_away(2, true).unwrap();
    let refused = sim.connect(2);
    assert!(sim.closed.contains(&refused));
    let conn = sim.connect(1);
    assert_eq!(sim.call(conn, 12, &ask(&[])).brokers.len(), 2);
    sim.cluster.turn_away(2, false).unwrap();
    let taken = sim.connect(2);
    sim.call(taken, 12, &ask(&[]));
}

#[test]
fn describe_cluster_lists_the_nodes_that_are_up() {
    let mut sim = Sim::nodes(3);
    sim.cluster.stop_node(sim.now, 3).unwrap();
    let conn = sim.connect(1);
    for version in 0..=2 {
        let mut request = DescribeClusterRequest::default();
        if version >= 1 {
            request.endpoint_type = 1;
        }
        let response = sim.call(conn, version, &request);
        assert_eq!(response.brokers.iter().map(|b| b.broker_id.0).collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn every_version_finds_the_coordinator() {
    let mut sim = Sim::nodes(3);
    sim.cluster.move_coordinator(sim.now, "g", 2).unwrap();
    let conn = sim.connect(1);
    for version in 0..=3 {
        let response = sim.call(conn, version, &FindCoordinatorRequest::default().with_key(text("g")));
        assert_eq!((response.error_code, response.node_id.0, response.port), (0, 2, 9093), "v{version}");
    }
    for version in 4..=6 {
        let keys = vec![text("g")];
        let response =
            sim.call(conn, version, &FindCoordinatorRequest::default().with_coordinator_keys(keys));
        let found: Vec<_> =
            response.coordinators.iter().map(|c| (ErrorCode(c.error_code), c.node_id.0)).collect();
        assert_eq!(found, [(ErrorCode::NONE, 2)], "v{version}");
    }
}

// ---- Produce ---------------------------------------------------------------------------------------------------------

fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![
            PartitionProduceData::default().with_index(partition).with_records(Some(records)),
        ]),
    ])
}

fn produced(sim: &mut Sim, version: i16, request: &ProduceRequest) -> (ErrorCode, i64) {
    let conn = sim.connect(1);
    let response = sim.call(conn, version, request);
    let p = &response.responses[0].partition_responses[0];
    (ErrorCode(p.error_code), p.base_offset)
}

#[test]
fn every_version_of_produce_appends() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let id = Uuid::from_bytes(sim.cluster.topic_id("t").unwrap());
    for (expected, version) in (3..=13).enumerate() {
        let mut request = produce("t", 0, BatchBuilder::new(["a"]).finish());
        if version >= 13 {
            request.topic_data[0].name = Default::default();
            request.topic_data[0].topic_id = id;
        }
        assert_eq!(produced(&mut sim, version, &request), (ErrorCode::NONE, expected as i64), "v{version}");
    }
}

#[test]
fn batches_come_back_as_they_went_in_but_for_their_place() {
    let mut sim = Sim::with_topic(2, "t", 1);
    sim.produce("t", 0, &["first"]);
    sim.cluster.move_leader(sim.now, "t", 0, 2).unwrap();
    sim.cluster.move_leader(sim.now, "t", 0, 1).unwrap();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = BatchBuilder::new(["a", "b"]).codec(codec).finish();
        let (code, base) = produced(&mut sim, 9, &produce("t", 0, batch.clone()));
        assert_eq!(code, ErrorCode::NONE);
        let conn = sim.connect(1);
        let response: FetchResponse = sim.call(conn, 12, &fetch("t", &[(0, base)]));
        let stored = response.responses[0].partitions[0].records.as_ref().unwrap();
        assert_eq!(stored[..8], base.to_be_bytes());
        assert_eq!(stored[12..16], 2_i32.to_be_bytes(), "the leader epoch");
        assert_eq!((&stored[8..12], &stored[16..]), (&batch[8..12], &batch[16..]));
    }
}

#[test]
fn what_produce_refuses() {
    let mut sim = Sim::with_topic(2, "t", 2);
    let good = BatchBuilder::new(["a"]).finish();
    let flipped = {
        let mut bytes = good.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Bytes::from(bytes)
    };
    let old_magic = {
        let mut bytes = good.to_vec();
        bytes[16] = 1;
        Bytes::from(bytes)
    };
    let two = Bytes::from([&good[..], &good[..]].concat());
    let zstd = BatchBuilder::new(["a"]).codec(Codec::Zstd).finish();
    for (version, partition, records, code) in [
        (9, 7, good.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (9, 1, good.clone(), ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (9, 0, flipped, ErrorCode::CORRUPT_MESSAGE),
        (9, 0, old_magic, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT),
        (9, 0, two, ErrorCode::INVALID_RECORD),
        (9, 0, BatchBuilder::abort_marker(1, 0), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (6, 0, zstd.clone(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (7, 0, zstd, ErrorCode::NONE),
    ] {
        assert_eq!(produced(&mut sim, version, &produce("t", partition, records)).0, code);
    }
    let acks = produce("t", 0, good).with_acks(5);
    assert_eq!(produced(&mut sim, 9, &acks).0, ErrorCode::INVALID_REQUIRED_ACKS);
}

#[test]
fn acks_0_gets_no_answer() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let silent = sim.send(conn, 9, &produce("t", 0, BatchBuilder::new(["a"]).finish()).with_acks(0));
    let behind = sim.send(conn, 12, &fetch("t", &[(0, 0)]));
    assert!(sim.take(&silent).is_none());
    assert!(partitions(&sim.take(&behind).unwrap())[0].2 > 0);
}

#[test]
fn kip_98_an_idempotent_producer_is_kept_in_sequence() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let conn = sim.connect(1);
    let id = sim.call(
        conn,
        4,
        &InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1),
    );
    assert_eq!((id.error_code, id.producer_epoch), (0, 0));
    let mut send = |epoch, sequence| {
        let batch = BatchBuilder::new(["a", "b"]).producer(id.producer_id.0, epoch, sequence).finish();
        produced(&mut sim, 9, &produce("t", 0, batch))
    };
    assert_eq!(send(0, 0), (ErrorCode::NONE, 0));
    assert_eq!(send(0, 2), (ErrorCode::NONE, 2));
    assert_eq!(send(0, 0), (ErrorCode::NONE, 0), "a duplicate is not written again");
    assert_eq!(send(0, 6).0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(send(1, 0), (ErrorCode::NONE, 4));
    assert_eq!(send(0, 4).0, ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn read_committed_stops_at_the_first_open_transaction_and_lists_aborted_ones() {
    let mut sim = Sim::with_topic(1, "t", 1);
    let now = sim.now;
    let mut append = |bytes: Bytes| sim.cluster.produce_batch(now, "t", 0, &bytes).unwrap();
    append(BatchBuilder::new(["a"]).transactional(7, 0, 0).finish());
    append(BatchBuilder::new(["b"]).transactional(8, 0, 0).finish());
    append(BatchBuilder::abort_marker(7, 0));
    let conn = sim.connect(1);
    let committed =
        |sim: &mut Sim, offset| sim.call(conn, 12, &fetch("t", &[(0, offset)]).with_isolation_level(1));
    let response = committed(&mut sim, 0);
    let p = &response.responses[0].partitions[0];
    assert_eq!((p.last_stable_offset, p.high_watermark), (1, 3), "producer 8 is open");
    assert_eq!(batches(p.records.as_ref().unwrap()).0, [0]);
    sim.cluster.produce_batch(now, "t", 0, &BatchBuilder::commit_marker(8, 0)).unwrap();
    let response = committed(&mut sim, 0);
    let p = &response.responses[0].partitions[0];
    assert_eq!((p.last_stable_offset, batches(p.records.as_ref().unwrap()).0), (4, vec![0, 1, 2, 3]));
    let aborted: Vec<_> =
        p.aborted_transactions.iter().flatten().map(|t| (t.producer_id.0, t.first_offset)).collect();
    assert_eq!(aborted, [(7, 0)]);
    let later = committed(&mut sim, 3);
    assert_eq!(later.responses[0].partitions[0].aborted_transactions, Some(vec![]));
}

// ---- topics ----------------------------------------------------------------------------------------------------------

#[test]
fn topics_are_created_and_refused() {
    let mut sim = Sim::nodes(2);
    let conn = sim.connect(1);
    let topic = |name: &str, partitions, replicas| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    for version in 2..=7 {
        let name = format!("t{version}");
        let request = CreateTopicsRequest::default().with_topics(vec![
            topic(&name, 3, 2),
            topic(&name, 3, 2),
            topic("no good", 1, 1),
            topic("zero", 0, 1),
            topic("many", 1, 5),
        ]);
        let response = sim.call(conn, version, &request);
        let codes: Vec<ErrorCode> = response.topics.iter().map(|t| ErrorCode(t.error_code)).collect();
        assert_eq!(
            codes,
            [
                ErrorCode::NONE,
                ErrorCode::TOPIC_ALREADY_EXISTS,
                ErrorCode::INVALID_TOPIC_EXCEPTION,
                ErrorCode::INVALID_PARTITIONS,
                ErrorCode::INVALID_REPLICATION_FACTOR
            ]
        );
        if version == 7 {
            assert_eq!(Some(*response.topics[0].topic_id.as_bytes()), sim.cluster.topic_id(&name));
        }
    }
    let grow = CreatePartitionsRequest::default()
        .with_topics(vec![CreatePartitionsTopic::default().with_name(topic_name("t2")).with_count(5)]);
    assert_eq!(sim.call(conn, 3, &grow).results[0].error_code, 0);
    assert_eq!(ErrorCode(sim.call(conn, 0, &grow).results[0].error_code), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(sim.call(conn, 12, &ask(&["t2"])).topics[0].partitions.len(), 5);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut sim = Sim::with_topic(1, "t", 1);
    sim.cluster.create_topic("u", 1).unwrap();
    let conn = sim.connect(1);
    let by_name = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t"), topic_name("nope")]);
    let codes: Vec<ErrorCode> =
        sim.call(conn, 5, &by_name).responses.iter().map(|r| ErrorCode(r.error_code)).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    let id = Uuid::from_bytes(sim.cluster.topic_id("u").unwrap());
    let by_id = DeleteTopicsRequest::default()
        .with_topics(vec![DeleteTopicState::default().with_name(None).with_topic_id(id)]);
    let first = sim.call(conn, 6, &by_id);
    assert_eq!((first.responses[0].error_code, first.responses[0].topic_id), (0, id));
    let again = sim.call(conn, 6, &by_id);
    assert_eq!(ErrorCode(again.responses[0].error_code), ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(sim.cluster.topics().count(), 0);
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let mut sim = Sim::with_topic(1, "t", 1);
    for _ in 0..4 {
        sim.produce("t", 0, &["a"]);
    }
    let conn = sim.connect(1);
    let mut delete = |offset| {
        let request = DeleteRecordsRequest::default().with_topics(vec![
            DeleteRecordsTopic::default()
                .with_name(topic_name("t"))
                .with_partitions(vec![DeleteRecordsPartition::default().with_offset(offset)]),
        ]);
        let response = sim.call(conn, 2, &request);
        let p = &response.topics[0].partitions[0];
        (ErrorCode(p.error_code), p.low_watermark)
    };
    assert_eq!(delete(2), (ErrorCode::NONE, 2));
    assert_eq!(delete(5), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-1), (ErrorCode::NONE, 4));
}

#[test]
fn compaction_leaves_gaps() {
    let mut sim = Sim::with_topic(1, "t", 1);
    sim.produce("t", 0, &["a"]);
    let now = sim.now;
    let gap = BatchBuilder::new(["b"]).base_offset(10).last_offset_delta(4).finish();
    assert_eq!(sim.cluster.produce_batch_at(now, "t", 0, &gap).unwrap(), 10);
    assert_eq!(sim.cluster.log_end_offset("t", 0).unwrap(), 15);
    assert!(sim.cluster.produce_batch_at(now, "t", 0, &gap).is_err(), "below the end");
    let conn = sim.connect(1);
    let response = sim.call(conn, 12, &fetch("t", &[(0, 5)]));
    assert_eq!(batches(response.responses[0].partitions[0].records.as_ref().unwrap()).0, [10]);
}
