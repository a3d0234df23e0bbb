//! The same conversation with the embedded broker and with a real one.
//!
//! `tests/parity/transcript.txt` is what Apache Kafka 4.3.1 answered; the embedded broker must answer the same. With
//! `OTTLA_PARITY_BOOTSTRAP=host:port` the conversation is held with that broker instead (one node, initial rebalance
//! delay 0), as `cargo xtask test` does, and with `OTTLA_PARITY_RECORD=1` its answers become the transcript.

mod support;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use ottla_broker::{BatchBuilder, Broker, Codec, TestRecord};
use support::member::*;
use support::talk::*;
use support::*;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

/// A real broker makes its internal topics at the first question.
async fn warm_up(talk: &mut Talk) {
    let mut conn = talk.connect().await;
    let find = FindCoordinatorRequest::default().with_key(text("warm"));
    while talk.call(&mut conn, 3, &find).await.error_code != 0 {}
    while talk.call(&mut conn, 7, &offset_fetch("warm", "t", &[0])).await.error_code != 0 {}
    while talk.call(&mut conn, 4, &producer_id()).await.error_code != 0 {}
}

fn producer_id() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(1000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

async fn topics(talk: &mut Talk) {
    let mut conn = talk.connect().await;
    let topic = |name: &str, partitions, replicas| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    let name = talk.name("t");
    let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
        topic(&name, 2, 1),
        topic("no good", 1, 1),
        topic(&talk.name("zero"), 0, 1),
        topic(&talk.name("many"), 1, 5),
    ]);
    for label in ["create topics", "create topics again"] {
        let r = talk.call(&mut conn, 7, &request).await;
        let mut codes: Vec<String> = r
            .topics
            .iter()
            .map(|t| format!("{} {} {}", code(t.error_code), t.num_partitions, t.replication_factor))
            .collect();
        codes.sort();
        talk.say(format!("{label}: {codes:?}"));
    }
    // Metadata of a fresh topic may lag on a real broker.
    loop {
        let ask = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic_name(&name)))]));
        if talk.call(&mut conn, 12, &ask).await.topics[0].error_code == 0 {
            break;
        }
    }
    let names = [name.clone(), talk.name("missing"), "no good".to_owned()];
    for version in [1, 4, 9, 12] {
        let topics =
            names.iter().map(|n| MetadataRequestTopic::default().with_name(Some(topic_name(n)))).collect();
        let mut request = MetadataRequest::default().with_topics(Some(topics));
        request.allow_auto_topic_creation = version < 4;
        if version < 4 {
            request.topics.as_mut().unwrap().remove(1);
        }
        let mut r = talk.call(&mut conn, version, &request).await;
        r.topics.sort_by(|a, b| a.name.cmp(&b.name));
        let topics: Vec<String> = r
            .topics
            .iter()
            .map(|t| {
                let partitions: Vec<String> = t
                    .partitions
                    .iter()
                    .map(|p| {
                        format!("{} leader {} epoch {}", code(p.error_code), p.leader_id.0, p.leader_epoch)
                    })
                    .collect();
                format!("{} id {} {partitions:?}", code(t.error_code), !t.topic_id.is_nil())
            })
            .collect();
        talk.say(format!("metadata v{version}: {topics:?}"));
    }
    let by_id = MetadataRequest::default().with_allow_auto_topic_creation(false).with_topics(Some(vec![
        MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(0x1234)),
    ]));
    let r = talk.call(&mut conn, 12, &by_id).await;
    talk.say(format!(
        "metadata by unknown id: {} {:?}",
        code(r.topics[0].error_code),
        r.topics[0].name.is_none()
    ));
    let grow = |count| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(&name))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic])
    };
    for count in [0, 2] {
        let r = talk.call(&mut conn, 3, &grow(count)).await;
        talk.say(format!("create partitions {count}: {}", code(r.results[0].error_code)));
    }
    for (key, kind) in [("", 0), ("x", 9)] {
        let request =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text(key)]).with_key_type(kind);
        let r = conn.call(4, &request).await;
        let line = r.map_or_else(|_| "closed".to_owned(), |r| code(r.coordinators[0].error_code));
        talk.say(format!("find coordinator '{key}' of type {kind}: {line}"));
        conn = talk.connect().await;
    }
    let delete = DeleteTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topic_names(vec![topic_name(&talk.name("missing"))]);
    let r = talk.call(&mut conn, 5, &delete).await;
    talk.say(format!("delete an unknown topic: {}", code(r.responses[0].error_code)));
    let by_id = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
        delete_topics_request::DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(Uuid::from_u128(0x1234)),
    ]);
    let r = talk.call(&mut conn, 6, &by_id).await;
    talk.say(format!("delete by an unknown id: {}", code(r.responses[0].error_code)));
}

async fn api_versions(talk: &mut Talk) {
    let mut conn = talk.connect().await;
    for (name, version) in [("ottla", "1.0"), ("", "1.0"), ("-x", "1.0"), ("a b", "1.0"), ("a", "")] {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(name))
            .with_client_software_version(text(version));
        let r = conn.call(3, &request).await;
        let line = r.map_or_else(|_| "closed".to_owned(), |r| code(r.error_code));
        talk.say(format!("api versions of '{name}' '{version}': {line}"));
        conn = talk.connect().await;
    }
    // A version that no broker has.
    let mut frame = BytesMut::new();
    frame.put_i32(14);
    frame.put_slice(&[0, 18, 0, 99, 0, 0, 0, 7, 255, 255, 0, 1, 2, 3]);
    tokio::io::AsyncWriteExt::write_all(&mut conn.stream, &frame).await.unwrap();
    let answer = conn.read_frame().await.unwrap();
    talk.say(format!(
        "api versions 99: error {} and {} api key, number {}",
        i16::from_be_bytes([answer[4], answer[5]]),
        i32::from_be_bytes(answer[6..10].try_into().unwrap()),
        i16::from_be_bytes([answer[10], answer[11]]),
    ));
    // Unknown api, unsupported version, body cut short: the connection is closed.
    for bytes in [&[3, 231, 0, 0][..], &[0, 3, 0, 99], &[0, 3, 0, 1]] {
        let mut conn = talk.connect().await;
        let mut frame = BytesMut::new();
        frame.put_i32(bytes.len() as i32 + 6);
        frame.put_slice(bytes);
        frame.put_slice(&[0, 0, 0, 1, 255, 255]);
        tokio::io::AsyncWriteExt::write_all(&mut conn.stream, &frame).await.unwrap();
        let mut rest = Vec::new();
        let _ = conn.stream.read_to_end(&mut rest).await;
        talk.say(format!("{bytes:?}: {} bytes, then closed", rest.len()));
    }
}

fn produce_to(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest::default().with_transactional_id(None).with_acks(-1).with_timeout_ms(5000).with_topic_data(
        vec![TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![
            PartitionProduceData::default().with_index(partition).with_records(Some(records)),
        ])],
    )
}

async fn produce(talk: &mut Talk) {
    let name = talk.name("t");
    let mut conn = talk.connect().await;
    let stamped = |values: &[(i64, &str)]| {
        BatchBuilder::new(values.iter().map(|(time, value)| TestRecord::from(*value).timestamp(*time)))
    };
    let good = stamped(&[(1000, "a"), (3000, "b"), (2000, "c")]).finish();
    let flipped = {
        let mut bytes = good.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        Bytes::from(bytes)
    };
    let two = Bytes::from([&good[..], &good[..]].concat());
    let zstd = stamped(&[(4000, "d"), (2500, "e")]).codec(Codec::Zstd).finish();
    let unknown = talk.name("missing");
    for (label, version, topic, partition, records, acks) in [
        ("a batch", 9, &name, 0, good.clone(), -1),
        ("a zstd batch", 9, &name, 0, zstd.clone(), 1),
        ("zstd in version 6", 6, &name, 0, zstd, -1),
        ("an unknown topic", 9, &unknown, 0, good.clone(), -1),
        ("an unknown partition", 9, &name, 9, good.clone(), -1),
        ("a wrong checksum", 9, &name, 0, flipped, -1),
        ("two batches", 9, &name, 0, two, -1),
        ("a control batch", 9, &name, 0, BatchBuilder::abort_marker(1, 0), -1),
        ("acks 5", 9, &name, 0, good.clone(), 5),
    ] {
        let r = conn.call(version, &produce_to(topic, partition, records).with_acks(acks)).await;
        let line = r.map_or_else(
            |_| "closed".to_owned(),
            |r| {
                let p = &r.responses[0].partition_responses[0];
                format!("{} at {}", code(p.error_code), p.base_offset)
            },
        );
        talk.say(format!("produce {label}: {line}"));
        conn = talk.connect().await;
    }
    let id = talk.call(&mut conn, 4, &producer_id()).await;
    talk.say(format!("producer id: {} epoch {}", code(id.error_code), id.producer_epoch));
    for (epoch, sequence) in [(0, 0), (0, 2), (0, 0), (0, 9), (1, 0), (0, 4)] {
        let batch = stamped(&[(5000, "f"), (5000, "g")]).producer(id.producer_id.0, epoch, sequence).finish();
        let r = talk.call(&mut conn, 9, &produce_to(&name, 1, batch)).await;
        let p = &r.responses[0].partition_responses[0];
        talk.say(format!("idempotent {epoch}/{sequence}: {} at {}", code(p.error_code), p.base_offset));
    }
}

async fn offsets(talk: &mut Talk) {
    let name = talk.name("t");
    let mut conn = talk.connect().await;
    for (version, timestamp) in [
        (1, -1),
        (1, -2),
        (5, -1),
        (7, -3),
        (7, 0),
        (7, 1000),
        (7, 1001),
        (7, 2600),
        (7, 3500),
        (7, 9999),
        (8, -4),
        (9, -5),
        (6, -3),
        (7, -4),
        (7, -7),
    ] {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let r = talk.call(&mut conn, version, &request).await;
        let p = &r.topics[0].partitions[0];
        talk.say(format!(
            "list offsets v{version} of {timestamp}: {} offset {} time {} epoch {}",
            code(p.error_code),
            p.offset,
            p.timestamp,
            p.leader_epoch
        ));
    }
    for (partition, epoch) in [(9, -1), (0, 0), (0, 5)] {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(-1)
            .with_current_leader_epoch(epoch);
        let topic = ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let r = talk.call(&mut conn, 7, &request).await;
        let p = &r.topics[0].partitions[0];
        talk.say(format!(
            "list offsets of {partition} in epoch {epoch}: {} offset {}",
            code(p.error_code),
            p.offset
        ));
    }
    for (current, asked) in [(-1, 0), (0, 0), (0, 5), (5, 0), (0, -1)] {
        let partition =
            OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(asked);
        let topic =
            OffsetForLeaderTopic::default().with_topic(topic_name(&name)).with_partitions(vec![partition]);
        let request =
            OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let r = talk.call(&mut conn, 4, &request).await;
        let p = &r.topics[0].partitions[0];
        talk.say(format!(
            "end of epoch {asked} in {current}: {} epoch {} offset {}",
            code(p.error_code),
            p.leader_epoch,
            p.end_offset
        ));
    }
}

async fn fetches(talk: &mut Talk) {
    let name = talk.name("t");
    let mut conn = talk.connect().await;
    talk.fetch("sessionless", &mut conn, 12, None, &fetch(&name, &[(0, 0), (1, 0)])).await;
    talk.fetch("from the middle", &mut conn, 12, None, &fetch(&name, &[(0, 1)])).await;
    talk.fetch("version 4", &mut conn, 4, None, &fetch(&name, &[(0, 0)])).await;
    talk.fetch("version 9 sees no zstd", &mut conn, 9, None, &fetch(&name, &[(0, 3)])).await;
    talk.fetch("read committed", &mut conn, 12, None, &fetch(&name, &[(0, 0)]).with_isolation_level(1)).await;
    talk.fetch("at the end", &mut conn, 12, None, &fetch(&name, &[(0, 5)])).await;
    talk.fetch("beyond the end", &mut conn, 12, None, &fetch(&name, &[(0, 6)])).await;
    talk.fetch("below zero", &mut conn, 12, None, &fetch(&name, &[(0, -5)])).await;
    talk.fetch("unknown partition", &mut conn, 12, None, &fetch(&name, &[(9, 0)])).await;
    talk.fetch("unknown topic", &mut conn, 12, None, &fetch(&talk.name("missing"), &[(0, 0)])).await;
    let mut by_id = fetch("", &[(0, 0)]);
    by_id.topics[0].topic_id = Uuid::from_u128(0x1234);
    talk.fetch("unknown id", &mut conn, 13, None, &by_id).await;
    let mut small = fetch(&name, &[(0, 0), (1, 0)]);
    small.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 1);
    talk.fetch("one byte each", &mut conn, 12, None, &small).await;
    small.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 100);
    talk.fetch("a hundred bytes each", &mut conn, 12, None, &small).await;
    small.max_bytes = 10;
    talk.fetch("ten bytes in all", &mut conn, 12, None, &small).await;
    for epoch in [0, 3] {
        let mut request = fetch(&name, &[(0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        talk.fetch(&format!("leader epoch {epoch}"), &mut conn, 12, None, &request).await;
    }
    let mut diverging = fetch(&name, &[(0, 5)]);
    diverging.topics[0].partitions[0].last_fetched_epoch = 0;
    talk.fetch("last fetched epoch 0", &mut conn, 12, None, &diverging).await;

    // Sessions (KIP-227).
    let full = fetch(&name, &[(0, 5), (1, 4)]).with_session_epoch(0);
    let id = talk.fetch("full", &mut conn, 12, None, &full).await;
    let bare = |epoch| {
        let mut request = fetch(&name, &[]).with_session_id(id).with_session_epoch(epoch);
        request.topics.clear();
        request
    };
    talk.fetch("no news", &mut conn, 12, Some(id), &bare(1)).await;
    talk.fetch("wrong epoch", &mut conn, 12, Some(id), &bare(9)).await;
    talk.fetch("ids in a session of names", &mut conn, 13, Some(id), &bare(2)).await;
    let changed = fetch(&name, &[(0, 0)]).with_session_id(id).with_session_epoch(2);
    talk.fetch("one offset changed", &mut conn, 12, Some(id), &changed).await;
    talk.fetch("again", &mut conn, 12, Some(id), &bare(3)).await;
    let out = fetch(&name, &[(1, 99)]).with_session_id(id).with_session_epoch(4);
    talk.fetch("out of range", &mut conn, 12, Some(id), &out).await;
    let back = fetch(&name, &[(1, 4)]).with_session_id(id).with_session_epoch(5);
    talk.fetch("in range again", &mut conn, 12, Some(id), &back).await;
    let mut forget = bare(6);
    forget.forgotten_topics_data =
        vec![ForgottenTopic::default().with_topic(topic_name(&name)).with_partitions(vec![0])];
    talk.fetch("partition 0 forgotten", &mut conn, 12, Some(id), &forget).await;
    let batch = BatchBuilder::new([TestRecord::from("h").timestamp(6000)]).finish();
    talk.call(&mut conn, 9, &produce_to(&name, 1, batch)).await;
    talk.fetch("partition 1 grew", &mut conn, 12, Some(id), &bare(7)).await;
    forget.session_epoch = 8;
    forget.forgotten_topics_data[0].partitions = vec![1];
    talk.fetch("all forgotten", &mut conn, 12, Some(id), &forget).await;
    talk.fetch("session over", &mut conn, 12, Some(id), &bare(9)).await;
    let id = talk.fetch("another full", &mut conn, 12, Some(id), &full).await;
    let end = bare(-1).with_session_id(id);
    talk.fetch("ended by the client", &mut conn, 12, Some(id), &end).await;
    talk.fetch("after the end", &mut conn, 12, Some(id), &bare(1).with_session_id(id)).await;

    for offset in [2, 99, -1] {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic =
            DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(5000).with_topics(vec![topic]);
        let r = talk.call(&mut conn, 2, &request).await;
        let p = &r.topics[0].partitions[0];
        talk.say(format!("delete records to {offset}: {} {}", code(p.error_code), p.low_watermark));
        let first = if offset == 2 { 1 } else { 4 };
        talk.fetch("below the log start", &mut conn, 12, None, &fetch(&name, &[(0, first)])).await;
        talk.fetch("above the log start", &mut conn, 12, None, &fetch(&name, &[(0, first + 1)])).await;
    }
}

async fn classic_group(talk: &mut Talk, too_short_ms: i32) {
    let g = talk.name("g");
    let g = g.as_str();
    let topic = talk.name("t");
    let range = |metadata| [("range", metadata)];
    let mut a = talk.connect().await;
    let mut b = talk.connect().await;

    talk.join("unknown member", &mut a, 5, &join(g, "ghost", &range("a"))).await;
    talk.join("empty group id", &mut a, 5, &join("", "", &range("a"))).await;
    talk.join("no protocols", &mut a, 5, &join(g, "", &[])).await;
    talk.join("short session", &mut a, 5, &join(g, "", &range("a")).with_session_timeout_ms(too_short_ms))
        .await;
    talk.beat("heartbeat to no group", &mut a, &heartbeat(g, "ghost", 1)).await;
    talk.sync("sync to no group", &mut a, 5, &named(sync(g, "ghost", 1, &[]))).await;
    talk.leave("leave no group", &mut a, &leave(g, "ghost", None)).await;
    talk.commit("commit to no group", &mut a, 8, &commit(g, "ghost", 1, &[(&topic, 0, 1)])).await;
    talk.commit("commit to no group v9", &mut a, 9, &commit(g, "ghost", 1, &[(&topic, 0, 1)])).await;

    let ma = talk.join("first step", &mut a, 5, &join(g, "", &range("a"))).await;
    talk.beat("heartbeat of a pending member", &mut a, &heartbeat(g, &ma, -1)).await;
    talk.join("second step", &mut a, 5, &join(g, &ma, &range("a"))).await;
    talk.beat("heartbeat before sync", &mut a, &heartbeat(g, &ma, 1)).await;
    talk.commit("commit before sync", &mut a, 8, &commit(g, &ma, 1, &[(&topic, 0, 1)])).await;
    talk.join("join again before sync", &mut a, 5, &join(g, &ma, &range("a"))).await;
    talk.sync("wrong generation", &mut a, 5, &named(sync(g, &ma, 7, &[]))).await;
    talk.sync("unknown member", &mut a, 5, &named(sync(g, "ghost", 1, &[]))).await;
    talk.sync("wrong protocol", &mut a, 5, &named(sync(g, &ma, 1, &[])).with_protocol_name(Some(text("x"))))
        .await;
    talk.sync("no protocol", &mut a, 5, &sync(g, &ma, 1, &[])).await;
    talk.sync("leader", &mut a, 5, &named(sync(g, &ma, 1, &[(&ma, "A")]))).await;
    talk.sync("again when stable", &mut a, 5, &named(sync(g, &ma, 1, &[]))).await;
    talk.beat("heartbeat", &mut a, &heartbeat(g, &ma, 1)).await;
    talk.beat("wrong generation", &mut a, &heartbeat(g, &ma, 2)).await;
    talk.beat("unknown member", &mut a, &heartbeat(g, "ghost", 1)).await;
    talk.beat("unknown instance", &mut a, &heartbeat(g, &ma, 1).with_group_instance_id(Some(text("i"))))
        .await;
    talk.commit("commit", &mut a, 8, &commit(g, &ma, 1, &[(&topic, 0, 2), (&topic, 9, 2), ("nope", 0, 2)]))
        .await;
    talk.commit("wrong generation", &mut a, 8, &commit(g, &ma, 0, &[(&topic, 0, 3)])).await;
    talk.commit("unknown member", &mut a, 8, &commit(g, "ghost", 1, &[(&topic, 0, 3)])).await;
    talk.commit("simple commit", &mut a, 8, &commit(g, "", -1, &[(&topic, 0, 3)])).await;
    let mut long = commit(g, &ma, 1, &[(&topic, 0, 4)]);
    long.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4097)));
    talk.commit("long metadata", &mut a, 8, &long).await;
    talk.join("other protocol", &mut b, 5, &join(g, "", &[("sticky", "b")])).await;
    talk.join("other type", &mut b, 5, &join(g, "", &range("b")).with_protocol_type(text("connect"))).await;

    // A second member: rebalance.
    let mb = talk.join("first step of b", &mut b, 5, &join(g, "", &range("b"))).await;
    b.send(5, &join(g, &mb, &range("b"))).await.unwrap();
    wait_for_rebalance(talk, &mut a, g, &ma, 1).await;
    talk.beat("while b waits", &mut a, &heartbeat(g, &ma, 1)).await;
    talk.commit("commit while b waits", &mut a, 8, &commit(g, &ma, 1, &[(&topic, 0, 5)])).await;
    talk.sync("sync while b waits", &mut a, 5, &named(sync(g, &ma, 1, &[]))).await;
    talk.join("a rejoins", &mut a, 5, &join(g, &ma, &range("a"))).await;
    let answer = decode::<JoinGroupRequest>(b.read_frame().await.unwrap(), 5);
    talk.joined("b joined", 5, &answer);
    b.send(5, &named(sync(g, &mb, 2, &[]))).await.unwrap();
    talk.commit("commit before sync", &mut a, 8, &commit(g, &ma, 2, &[(&topic, 0, 6)])).await;
    talk.sync("leader", &mut a, 5, &named(sync(g, &ma, 2, &[(&ma, "A2"), ("stranger", "S")]))).await;
    let answer = decode::<SyncGroupRequest>(b.read_frame().await.unwrap(), 5);
    talk.synced("b synced", &answer);
    talk.join("follower unchanged", &mut b, 5, &join(g, &mb, &range("b"))).await;
    talk.beat("still stable", &mut a, &heartbeat(g, &ma, 2)).await;

    let r = talk
        .call(&mut a, 5, &DescribeGroupsRequest::default().with_groups(vec![group_id(g), group_id("none")]))
        .await;
    for group in &r.groups {
        let mut members: Vec<String> = group
            .members
            .iter()
            .map(|m| {
                let id = talk.member(&m.member_id);
                format!(
                    "{id} {} {} {:?} {:?}",
                    m.client_id, m.client_host, m.member_metadata, m.member_assignment
                )
            })
            .collect();
        members.sort();
        talk.say(format!(
            "describe: {} {} {} {} {members:?}",
            code(group.error_code),
            group.group_state,
            group.protocol_type,
            group.protocol_data
        ));
    }
    let r = talk.call(&mut a, 6, &DescribeGroupsRequest::default().with_groups(vec![group_id("none")])).await;
    talk.say(format!(
        "describe an unknown group v6: {} {}",
        code(r.groups[0].error_code),
        r.groups[0].group_state
    ));

    // The leader rejoins unchanged: a rebalance; the follower leaves meanwhile.
    a.send(5, &join(g, &ma, &range("a"))).await.unwrap();
    wait_for_rebalance(talk, &mut b, g, &mb, 2).await;
    talk.leave("b leaves", &mut b, &leave(g, &mb, None)).await;
    let answer = decode::<JoinGroupRequest>(a.read_frame().await.unwrap(), 5);
    talk.joined("a alone", 5, &answer);
    talk.beat("b is gone", &mut b, &heartbeat(g, &mb, 2)).await;
    talk.leave("b leaves again", &mut b, &leave(g, &mb, None)).await;
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id(g), group_id("none")]);
    let r = talk.call(&mut a, 2, &delete).await;
    let mut codes: Vec<String> = r.results.iter().map(|r| code(r.error_code)).collect();
    codes.sort();
    talk.say(format!("delete groups: {codes:?}"));
    talk.leave("a leaves", &mut a, &leave(g, &ma, None)).await;
    talk.commit("simple commit to the empty group", &mut a, 8, &commit(g, "", -1, &[(&topic, 1, 3)])).await;
    talk.commit("member commit to the empty group", &mut a, 8, &commit(g, &ma, 3, &[(&topic, 1, 4)])).await;

    for version in [1, 2, 5, 7] {
        let r = talk.call(&mut a, version, &offset_fetch(g, &topic, &[0, 1, 9])).await;
        let found: Vec<String> = r.topics[0]
            .partitions
            .iter()
            .map(|p| {
                let metadata = p.metadata.as_deref().map(|m| m as &str);
                format!(
                    "{} {} {} {metadata:?}",
                    code(p.error_code),
                    p.committed_offset,
                    p.committed_leader_epoch
                )
            })
            .collect();
        talk.say(format!("offset fetch v{version}: {} {found:?}", code(r.error_code)));
    }
    let asked = |group: &str, topics| {
        OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(topics)
    };
    let some =
        OffsetFetchRequestTopics::default().with_name(topic_name("nope")).with_partition_indexes(vec![3]);
    let request = OffsetFetchRequest::default().with_groups(vec![
        asked(g, None),
        asked("none", None),
        asked(g, Some(vec![some])),
    ]);
    let r = talk.call(&mut a, 8, &request).await;
    for group in &r.groups {
        let found: Vec<String> = group
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| format!("{} {} {}", p.partition_index, code(p.error_code), p.committed_offset))
            .collect();
        talk.say(format!("offset fetch v8: {} {found:?}", code(group.error_code)));
    }
    let r = talk.call(&mut a, 2, &delete).await;
    let mut codes: Vec<String> = r.results.iter().map(|r| code(r.error_code)).collect();
    codes.sort();
    talk.say(format!("delete groups: {codes:?}"));
}

fn named(request: SyncGroupRequest) -> SyncGroupRequest {
    request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
}

/// A request on another connection may be processed later than one sent after it.
async fn wait_for_rebalance(talk: &mut Talk, conn: &mut Conn, group: &str, member: &str, generation: i32) {
    while talk.call(conn, 4, &heartbeat(group, member, generation)).await.error_code == 0 {}
}

async fn static_group(talk: &mut Talk) {
    let g = talk.name("s");
    let g = g.as_str();
    let topic = talk.name("t");
    let with = |instance: &str| Some(StrBytes::from_string(instance.to_owned()));
    let range = [("range", "s")];
    let as_instance = |member: &str| join(g, member, &range).with_group_instance_id(with("inst"));
    let mut a = talk.connect().await;
    let mut b = talk.connect().await;
    let old = talk.join("static", &mut a, 5, &as_instance("")).await;
    talk.sync(
        "static",
        &mut a,
        5,
        &named(sync(g, &old, 1, &[(&old, "S")])).with_group_instance_id(with("inst")),
    )
    .await;
    let new = talk.join("static back", &mut b, 5, &as_instance("")).await;
    talk.beat("old id", &mut a, &heartbeat(g, &old, 1).with_group_instance_id(with("inst"))).await;
    talk.beat("old id without instance", &mut a, &heartbeat(g, &old, 1)).await;
    talk.join("old id joins", &mut a, 5, &as_instance(&old)).await;
    talk.sync("old id syncs", &mut a, 5, &named(sync(g, &old, 1, &[])).with_group_instance_id(with("inst")))
        .await;
    let late = commit(g, &old, 1, &[(&topic, 0, 1)]).with_group_instance_id(with("inst"));
    talk.commit("old id commits", &mut a, 8, &late).await;
    talk.leave("old id leaves", &mut a, &leave(g, &old, Some("inst"))).await;
    talk.sync("new id syncs", &mut b, 5, &named(sync(g, &new, 1, &[])).with_group_instance_id(with("inst")))
        .await;
    talk.beat("new id", &mut b, &heartbeat(g, &new, 1).with_group_instance_id(with("inst"))).await;
    let newest = talk.join("back in version 9", &mut a, 9, &as_instance("")).await;
    talk.beat("newest id", &mut a, &heartbeat(g, &newest, 1).with_group_instance_id(with("inst"))).await;
    talk.leave("unknown instance", &mut b, &leave(g, "", Some("other"))).await;
    talk.leave("by instance", &mut b, &leave(g, "", Some("inst"))).await;
    talk.beat("after that", &mut a, &heartbeat(g, &newest, 1).with_group_instance_id(with("inst"))).await;
}

#[tokio::test]
async fn answers_are_those_of_apache_kafka() {
    let real = std::env::var("OTTLA_PARITY_BOOTSTRAP").ok();
    let broker = Broker::builder().start().await.unwrap();
    let address = real.clone().unwrap_or_else(|| broker.bootstrap());
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut talk = Talk { address, suffix: unique.to_string(), lines: Vec::new(), members: Vec::new() };
    warm_up(&mut talk).await;
    talk.say("# topics");
    topics(&mut talk).await;
    talk.say("# api versions");
    api_versions(&mut talk).await;
    talk.say("# produce");
    produce(&mut talk).await;
    talk.say("# offsets");
    offsets(&mut talk).await;
    talk.say("# fetch");
    fetches(&mut talk).await;
    talk.say("# classic group");
    // The clusters of `cargo xtask` take a session of one second, Kafka as it comes one of six.
    classic_group(&mut talk, if real.is_some() { 999 } else { 5999 }).await;
    talk.say("# static group");
    static_group(&mut talk).await;
    talk.compare("transcript.txt");
}
