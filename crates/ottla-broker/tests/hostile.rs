//! Hostile bytes: whatever a client sends, the cluster neither panics nor asks for absurd memory.

mod support;

use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use ottla_broker::BatchBuilder;
use support::member::*;
use support::*;

/// Frames with something in every array, for every API in an old, a middle and a new layout.
fn samples() -> Vec<Bytes> {
    let mut frames = Vec::new();
    fn add<R: Request>(frames: &mut Vec<Bytes>, versions: &[i16], request: &R) {
        frames.extend(versions.iter().map(|v| encode(1, *v, request, "c")));
    }
    let batch = BatchBuilder::new(["a"]).finish();
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![
        TopicProduceData::default()
            .with_name(topic_name("t"))
            .with_partition_data(vec![PartitionProduceData::default().with_records(Some(batch))]),
    ]);
    add(&mut frames, &[3, 9], &produce);
    let mut plain = fetch("t", &[(0, 0), (1, 0)]);
    plain.forgotten_topics_data =
        vec![ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![1])];
    add(&mut frames, &[7, 9, 12], &plain);
    plain.topics[0].topic = Default::default();
    plain.forgotten_topics_data[0].topic = Default::default();
    add(&mut frames, &[13, 15, 18], &plain);
    let list = ListOffsetsRequest::default().with_topics(vec![
        ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![ListOffsetsPartition::default()]),
    ]);
    add(&mut frames, &[1, 4, 6, 10], &list);
    let epochs = OffsetForLeaderEpochRequest::default().with_replica_id((-2).into()).with_topics(vec![
        OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![OffsetForLeaderPartition::default()]),
    ]);
    add(&mut frames, &[2, 3, 4], &epochs);
    let metadata = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic_name("t")))]));
    add(&mut frames, &[1, 8, 9, 12, 13], &metadata);
    add(&mut frames, &[0, 2], &ApiVersionsRequest::default());
    let software = ApiVersionsRequest::default()
        .with_client_software_name(text("a"))
        .with_client_software_version(text("1"));
    add(&mut frames, &[3, 4], &software);
    add(&mut frames, &[0, 1, 3], &FindCoordinatorRequest::default().with_key(text("g")));
    add(&mut frames, &[4, 6], &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    add(&mut frames, &[2, 5, 6, 9], &join("g", "", &[("range", "m")]));
    add(&mut frames, &[0, 3, 4], &sync("g", "m", 1, &[("m", "a")]));
    let named = sync("g", "m", 1, &[("m", "a")])
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    add(&mut frames, &[5], &named);
    add(&mut frames, &[0, 3, 4], &heartbeat("g", "m", 1));
    add(&mut frames, &[3, 4, 5], &leave("g", "m", None));
    add(&mut frames, &[6, 7, 8, 9], &commit("g", "", -1, &[("t", 0, 1)]));
    add(&mut frames, &[1, 6, 7], &offset_fetch("g", "t", &[0]));
    let groups = OffsetFetchRequest::default().with_groups(vec![
        OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(Some(vec![
            OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0]),
        ])),
    ]);
    add(&mut frames, &[8, 9], &groups);
    add(&mut frames, &[0, 3, 5], &DescribeGroupsRequest::default().with_groups(vec![group_id("g")]));
    add(&mut frames, &[0, 3], &ListGroupsRequest::default());
    add(&mut frames, &[4, 5], &ListGroupsRequest::default().with_states_filter(vec![text("Empty")]));
    add(&mut frames, &[0, 2], &DeleteGroupsRequest::default().with_groups_names(vec![group_id("g")]));
    let create = CreateTopicsRequest::default().with_topics(vec![
        CreatableTopic::default()
            .with_name(topic_name("n"))
            .with_num_partitions(-1)
            .with_assignments(vec![CreatableReplicaAssignment::default().with_broker_ids(vec![1.into()])])
            .with_configs(vec![
                CreatableTopicConfig::default().with_name(text("k")).with_value(Some(text("v"))),
            ]),
    ]);
    add(&mut frames, &[2, 5, 7], &create);
    let grow = CreatePartitionsRequest::default().with_topics(vec![
        CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(4).with_assignments(Some(
            vec![CreatePartitionsAssignment::default().with_broker_ids(vec![1.into()])],
        )),
    ]);
    add(&mut frames, &[0, 2, 3], &grow);
    add(&mut frames, &[1, 4], &DeleteTopicsRequest::default().with_topic_names(vec![topic_name("u")]));
    let by_id = DeleteTopicsRequest::default()
        .with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name("u")))]);
    add(&mut frames, &[6], &by_id);
    let records = DeleteRecordsRequest::default().with_topics(vec![
        DeleteRecordsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![DeleteRecordsPartition::default()]),
    ]);
    add(&mut frames, &[0, 2], &records);
    add(&mut frames, &[0, 2, 4], &InitProducerIdRequest::default().with_transactional_id(None));
    let offsets = OffsetDeleteRequest::default().with_group_id(group_id("g")).with_topics(vec![
        offset_delete_request::OffsetDeleteRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![offset_delete_request::OffsetDeleteRequestPartition::default()]),
    ]);
    add(&mut frames, &[0], &offsets);
    add(&mut frames, &[0], &DescribeClusterRequest::default());
    frames
}

fn sim() -> Sim {
    let mut sim = Sim::with_topic(1, "t", 2);
    sim.produce("t", 0, &["a"]);
    sim
}

#[test]
fn the_guard_lets_sound_requests_of_every_api_pass() {
    for frame in samples() {
        let mut sim = sim();
        let conn = sim.connect(1);
        sim.cluster.handle_request(sim.now, conn, frame.clone());
        sim.drain();
        let (key, version) = (frame[1], frame[3]);
        assert!(sim.closed.is_empty() && sim.raw.len() == 1, "api key {key} v{version}");
    }
}

#[test]
fn every_cut_closes_the_connection() {
    for frame in samples() {
        let mut sim = sim();
        // What is left of the header alone is a whole DescribeCluster and the like: cut inside the body.
        for length in 0..frame.len() {
            let conn = sim.connect(1);
            sim.cluster.handle_request(sim.now, conn, frame.slice(..length));
            sim.drain();
            assert!(sim.closed.contains(&conn), "key {} v{} cut at {length}", frame[1], frame[3]);
        }
    }
}

#[test]
fn no_changed_byte_panics() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for frame in samples() {
        let mut sim = sim();
        for round in 0..200 {
            let mut bytes = frame.to_vec();
            for _ in 0..=round % 3 {
                let at = 4 + random() as usize % (bytes.len() - 4);
                bytes[at] = if random() % 2 == 0 { 0xff } else { random() as u8 };
            }
            let conn = sim.connect(1);
            sim.cluster.handle_request(sim.now, conn, bytes.into());
            sim.drain();
        }
        sim.advance(std::time::Duration::from_secs(3600));
    }
}
