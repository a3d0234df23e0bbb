//! What 10 MB of hostile bytes in one answer cost the whole client core in heap, counted by the allocator: a bounded
//! multiple of the frame while it is handled, and nothing that stays, however often it comes.
#![deny(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    FetchResponse, FindCoordinatorResponse, JoinGroupResponse, ListOffsetsResponse, MetadataResponse,
    OffsetFetchResponse, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use ottla_broker::Api;
use ottla_tests::hostile::{Stage, TOPIC};
use ottla_tests::sim::{Lie, meter};

/// So many bytes an answer has at least.
const SIZE: usize = 10 << 20;

/// The system's allocator, which counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator that counts; everything is passed on unchanged")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        meter::allocated(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        meter::freed(layout.size());
        unsafe { System.dealloc(place, layout) }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The answer is told twice, and costs at most 64 KiB and 32 bytes for each of its own; afterwards everything
/// arrives, and nothing of it is left.
fn costs_little<M: Message + Encodable + Decodable>(
    what: &str,
    api: Api,
    mut change: impl FnMut(&mut M) + 'static,
) {
    let mut stage = Stage::new(1, 3, 50);
    let before = meter::total();
    let lie = Lie::about(api, move |answer| {
        let honest = answer.frame().clone();
        answer.edit(&mut change);
        assert!(answer.frame().len() >= SIZE || *answer.frame() == honest, "{} bytes", answer.frame().len());
    });
    let lie = stage.lie(lie.times(2));
    stage.subscribe();
    meter::most();
    stage.run(Duration::from_secs(20));
    assert!(stage.world.told(lie) > 0, "{what}: it was never asked");
    let most = meter::most();
    println!("{what}: {:.1} bytes of heap for each byte", most as f64 / SIZE as f64);
    assert!(most <= (64 << 10) + 32 * SIZE, "{what}: {most} bytes");
    stage.heal();
    stage.rebalance();
    stage.everything_arrives();
    stage.never_hot();
    stage.closes();
    let left = meter::total() - before;
    // The network keeps a buffer for each connection.
    assert!(left <= 6 * SIZE as isize, "{what}: {left} bytes are left");
}

// ---- Metadata ------------------------------------------------------------------------------------------------

fn in_metadata(what: &str, change: impl FnMut(&mut MetadataResponse) + 'static) {
    costs_little(what, Api::Metadata, change);
}

#[test]
fn metadata_of_many_brokers() {
    in_metadata("brokers", |answer| {
        let broker = |id: i32| MetadataResponseBroker::default().with_node_id(id.into()).with_port(9092);
        answer.brokers.extend((100..900_000).map(|id| broker(id).with_host(text("h"))));
    });
    // As many as are believed, with all that they can have.
    in_metadata("brokers with racks", |answer| {
        let broker = |id: i32| MetadataResponseBroker::default().with_node_id(id.into()).with_port(9092);
        let rack = text(&"r".repeat(1_100));
        let more = (100..9_999).map(|id| broker(id).with_host(text("h")).with_rack(Some(rack.clone())));
        answer.brokers.extend(more);
    });
}

#[test]
fn metadata_of_many_topics() {
    in_metadata("topics that nobody asked for", |answer| {
        let topic =
            |i: i32| MetadataResponseTopic::default().with_name(Some(TopicName(text(&format!("{i}")))));
        answer.topics.extend((0..400_000).map(topic));
    });
    in_metadata("one topic, again and again", |answer| {
        let topic = answer.topics.first().cloned().unwrap_or_default();
        answer.topics.extend(std::iter::repeat_n(topic, 120_000));
    });
}

#[test]
fn metadata_of_many_partitions() {
    in_metadata("more partitions than the limit", |answer| {
        for topic in &mut answer.topics {
            let partition = |i: i32| MetadataResponsePartition::default().with_partition_index(i);
            topic.partitions.extend((3..1_000_100).map(|i| partition(i).with_leader_id(1.into())));
        }
    });
}

#[test]
fn metadata_of_many_replicas() {
    in_metadata("replicas", |answer| {
        answer.brokers.iter_mut().for_each(|b| b.rack = Some(text("rack")));
        for partition in answer.topics.iter_mut().flat_map(|t| &mut t.partitions) {
            partition.replica_nodes = vec![1.into(); SIZE / 12 + 1];
            partition.isr_nodes = vec![];
        }
    });
}

// ---- FindCoordinator -----------------------------------------------------------------------------------------

#[test]
fn many_coordinators() {
    costs_little("coordinators", Api::FindCoordinator, |answer: &mut FindCoordinatorResponse| {
        let mut other = answer.coordinators[0].clone();
        other.key = text("");
        answer.coordinators.splice(0..0, std::iter::repeat_n(other, 600_000));
    });
}

// ---- JoinGroup -----------------------------------------------------------------------------------------------

fn in_join(what: &str, mut change: impl FnMut(&mut JoinGroupResponse) + 'static) {
    costs_little(what, Api::JoinGroup, move |answer: &mut JoinGroupResponse| {
        if answer.error_code == 0 && answer.leader == answer.member_id {
            change(answer);
        }
    });
}

fn ghost(id: &str, metadata: impl Into<Bytes>) -> JoinGroupResponseMember {
    JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata.into())
}

#[test]
fn many_members() {
    in_join("members without an id", |answer| {
        answer.members.splice(0..0, std::iter::repeat_n(ghost("", Bytes::new()), SIZE / 4 + 1));
    });
    in_join("members with unreadable metadata", |answer| {
        answer.members.extend((0..1_200_000).map(|i| ghost(&format!("{i:x}"), Bytes::new())));
    });
    in_join("members without topics", |answer| {
        let metadata = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        answer.members.extend((0..600_000).map(|i| ghost(&format!("{i:x}"), metadata.clone())));
    });
}

/// A subscription (version 1) of these topics and claims.
fn subscription(topics: impl ExactSizeIterator<Item = String>, claims: usize) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.put_i32(claims as i32);
    for _ in 0..claims {
        out.put_slice(&[0; 6]);
    }
    out.freeze()
}

#[test]
fn a_member_of_many_topics() {
    in_join("topics without a name", |answer| {
        answer.members.push(ghost("ghost", subscription((0..SIZE / 2).map(|_| String::new()), 0)));
    });
}

#[test]
fn a_member_of_many_claims() {
    in_join("claims", |answer| {
        let topics = [TOPIC.to_owned()];
        answer.members.push(ghost("ghost", subscription(topics.into_iter(), SIZE / 6 + 1)));
    });
    in_join("partitions that are claimed", |answer| {
        let mut out = BytesMut::from(&subscription([TOPIC.to_owned()].into_iter(), 0)[..]);
        out.truncate(out.len() - 4);
        out.put_i32(1);
        out.put_i16(1);
        out.put_slice(TOPIC.as_bytes());
        out.put_i32((SIZE / 4) as i32);
        (0..SIZE / 4).for_each(|i| out.put_i32(i as i32));
        answer.members.push(ghost("ghost", out.freeze()));
    });
}

// ---- SyncGroup -----------------------------------------------------------------------------------------------

fn in_sync(what: &str, assignment: impl Fn(&mut BytesMut) + 'static) {
    costs_little(what, Api::SyncGroup, move |answer: &mut SyncGroupResponse| {
        if answer.error_code == 0 {
            let mut out = BytesMut::new();
            out.put_i16(0);
            assignment(&mut out);
            out.put_i32(-1);
            answer.assignment = out.freeze();
        }
    });
}

#[test]
fn an_assignment_of_many_partitions() {
    in_sync("partitions", |out| {
        out.put_i32(1);
        out.put_i16(1);
        out.put_slice(TOPIC.as_bytes());
        out.put_i32((SIZE / 4) as i32);
        (0..SIZE / 4).for_each(|i| out.put_i32(i as i32));
    });
    in_sync("one partition, again and again", |out| {
        out.put_i32(1);
        out.put_i16(1);
        out.put_slice(TOPIC.as_bytes());
        out.put_i32((SIZE / 4) as i32);
        (0..SIZE / 4).for_each(|i| out.put_i32(i as i32 % 3));
    });
}

#[test]
fn an_assignment_of_many_topics() {
    in_sync("topics without a name", |out| {
        out.put_i32((SIZE / 6 + 1) as i32);
        (0..SIZE / 6 + 1).for_each(|_| out.put_slice(&[0; 6]));
    });
    in_sync("garbage", |out| (0..SIZE).for_each(|i| out.put_u8(i as u8)));
}

// ---- offsets -------------------------------------------------------------------------------------------------

#[test]
fn committed_offsets_of_many_partitions() {
    costs_little("committed offsets", Api::OffsetFetch, |answer: &mut OffsetFetchResponse| {
        for topic in answer.groups.iter_mut().flat_map(|g| &mut g.topics) {
            let more = (3..600_000).map(|i| OffsetFetchResponsePartitions::default().with_partition_index(i));
            topic.partitions.extend(more);
        }
    });
    costs_little("topics of committed offsets", Api::OffsetFetch, |answer: &mut OffsetFetchResponse| {
        for group in &mut answer.groups {
            let none = OffsetFetchResponseTopics::default();
            group.topics.extend(std::iter::repeat_n(none, SIZE / 3 + 1));
        }
    });
}

#[test]
fn offsets_of_many_partitions() {
    costs_little("offsets", Api::ListOffsets, |answer: &mut ListOffsetsResponse| {
        for topic in &mut answer.topics {
            let more = (3..500_000).map(|i| ListOffsetsPartitionResponse::default().with_partition_index(i));
            topic.partitions.extend(more);
        }
    });
    costs_little("topics of offsets", Api::ListOffsets, |answer: &mut ListOffsetsResponse| {
        answer.topics.extend(std::iter::repeat_n(ListOffsetsTopicResponse::default(), SIZE / 3 + 1));
    });
}

// ---- Fetch ---------------------------------------------------------------------------------------------------

#[test]
fn fetched_partitions_that_nobody_asked_for() {
    costs_little("partitions", Api::Fetch, |answer: &mut FetchResponse| {
        let more = (3..320_000).map(|i| PartitionData::default().with_partition_index(i));
        match answer.responses.first_mut() {
            Some(topic) => topic.partitions.extend(more),
            None => answer.responses.push(FetchableTopicResponse::default().with_partitions(more.collect())),
        }
    });
    costs_little("topics", Api::Fetch, |answer: &mut FetchResponse| {
        let none = FetchableTopicResponse::default();
        answer.responses.extend(std::iter::repeat_n(none, SIZE / 18 + 1));
    });
}

#[test]
fn aborted_transactions_and_records_that_are_garbage() {
    costs_little("aborted transactions", Api::Fetch, |answer: &mut FetchResponse| {
        for partition in answer.responses.iter_mut().flat_map(|t| &mut t.partitions).take(1) {
            let aborted = AbortedTransaction::default().with_first_offset(7);
            partition.aborted_transactions = Some(vec![aborted; SIZE / 17 + 1]);
        }
    });
    costs_little("records", Api::Fetch, |answer: &mut FetchResponse| {
        for partition in answer.responses.iter_mut().flat_map(|t| &mut t.partitions).take(1) {
            // Cut off: it begins like a batch and never ends.
            let mut records = BytesMut::from(&partition.records.clone().unwrap_or_default()[..]);
            records.put_i64(50);
            records.put_i32(i32::MAX);
            records.resize(SIZE + 100, 1);
            partition.records = Some(records.freeze());
        }
    });
}
