//! The parts on their own: `cargo bench -p ottla-benches`.

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ottla_benches::steady::Steady;
use ottla_benches::walk::Walker;
use ottla_benches::{Touch, data};
use ottla_core::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember, TopicInfo};
use ottla_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_wire::messages::fetch_response::FetchResponse;
use ottla_wire::records::{BatchDecoder, Batches, Compression, DecodeOptions};
use ottla_wire::{ApiKey, View, frame, varint};

const CODECS: [&str; 5] = ["none", "lz4", "snappy", "zstd", "gzip"];
const RECORDS: u64 = 140;

fn main() {
    divan::main();
}

fn codec(name: &str) -> Compression {
    data::codec(name).expect("a codec")
}

fn batch(name: &str) -> Bytes {
    data::batch(1, RECORDS, 100, codec(name)).expect("a batch").into()
}

/// A batch of 16 KiB: checksum, decompression, validation, and a walk over its records.
#[divan::bench(args = CODECS)]
fn batch_walk(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = batch(name);
    let mut decoder = BatchDecoder::new();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let raw = Batches::new(bytes.clone()).next().expect("a batch").expect("a good one");
        let batch = raw.decode(&mut decoder, DecodeOptions::default()).expect("it decodes");
        let mut touch = Touch::default();
        for record in &batch {
            touch.record(record.key(), record.value());
        }
        touch
    });
}

/// The same by the floor.
#[divan::bench(args = CODECS)]
fn floor_walk(bencher: Bencher<'_, '_>, name: &str) {
    let bytes = batch(name);
    let mut walker = Walker::default();
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut touch = Touch::default();
        walker.walk(black_box(&bytes), &mut touch).expect("a good batch");
        touch
    });
}

/// A frame of 64 such batches from the driver to the reader, with everything that `delivery` does.
#[divan::bench(args = CODECS)]
fn deliver(bencher: Bencher<'_, '_>, name: &str) {
    let mut steady = Steady::new(100, codec(name)).expect("a delivery");
    let mut touch = Touch::default();
    bencher.counter(ItemsCount::new(steady.frame_records())).bench_local(|| {
        let frame = steady.frame();
        steady.pass(frame, &mut touch).expect("it is delivered");
    });
}

/// What a commit would send, after each frame.
#[divan::bench]
fn commit_tracking(bencher: Bencher<'_, '_>) {
    let mut steady = Steady::new(100, Compression::None).expect("a delivery");
    let frame = steady.frame();
    steady.pass(frame, &mut Touch::default()).expect("it is delivered");
    bencher.bench_local(|| black_box(&steady).committable());
}

#[divan::bench(args = [1_024, 16_384, 1_048_576])]
fn crc(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = vec![0x5a; size];
    bencher.counter(BytesCount::new(size)).bench_local(|| crc32c::crc32c(black_box(&bytes)));
}

/// A thousand of one and two bytes.
#[divan::bench]
fn varints(bencher: Bencher<'_, '_>) {
    let mut bytes = BytesMut::new();
    (0..1000).for_each(|index| varint::write_zigzag(index % 150, &mut bytes));
    bencher.counter(ItemsCount::new(1000u64)).bench_local(|| {
        let (mut rest, mut sum) = (black_box(&bytes[..]), 0);
        while let Some((value, tail)) = varint::read_zigzag(rest) {
            sum += i64::from(value);
            rest = tail;
        }
        sum
    });
}

fn fetch_request(partitions: i32) -> FetchRequest {
    let partition =
        |partition| FetchPartition { partition, fetch_offset: 1 << 30, ..FetchPartition::default() };
    let topic = FetchTopic { partitions: (0..partitions).map(partition).collect(), ..FetchTopic::default() };
    FetchRequest { topics: vec![topic], ..FetchRequest::default() }
}

#[divan::bench(args = [1, 100, 10_000])]
fn request_encode(bencher: Bencher<'_, '_>, partitions: i32) {
    let request = fetch_request(partitions);
    let mut out = BytesMut::new();
    bencher.counter(ItemsCount::new(partitions.unsigned_abs())).bench_local(|| {
        out.clear();
        frame::encode_request(17, 1, Some("bench"), &request, &mut out).expect("it encodes");
        out.len()
    });
}

/// An answer of version 17 in which every partition is empty.
fn fetch_response(partitions: i32) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.push(2); // one topic
    body.extend([7; 16]);
    let mut count = BytesMut::new();
    varint::write_unsigned(partitions.unsigned_abs() + 1, &mut count);
    body.extend_from_slice(&count);
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend([0, 0]);
        body.extend([0; 24]);
        body.push(0); // no aborted transactions
        body.extend((-1i32).to_be_bytes());
        body.push(1); // no records
        body.push(0);
    }
    body.extend([0, 0]);
    body
}

#[divan::bench(args = [1, 100, 10_000])]
fn message_decode(bencher: Bencher<'_, '_>, partitions: i32) {
    let body = fetch_response(partitions);
    assert_eq!(ApiKey::Fetch.response_header_version(17), 1);
    bencher.counter(ItemsCount::new(partitions.unsigned_abs())).bench_local(|| {
        let response = FetchResponse::decode(17, black_box(&body)).expect("it decodes");
        let partitions = response.responses.iter().flat_map(|topic| topic.partitions.iter());
        partitions.map(|partition| partition.high_watermark).sum::<i64>()
    });
}

/// Topics and a group in which everybody wants all of them. With `racks` each partition has its replicas in two of three,
/// and the members are spread over them.
fn group(partitions: usize, members: usize, racks: bool) -> (ClusterTopics, Vec<GroupMember>) {
    let rack = |index: usize| Some(format!("rack-{}", index % 3)).filter(|_| racks);
    let mut topics = ClusterTopics::new();
    let names: Vec<String> = (0..100).map(|topic| format!("topic-{topic:03}")).collect();
    for name in &names {
        let mut topic = TopicInfo::new(name, partitions / 100);
        for (index, partition) in topic.partitions.iter_mut().enumerate() {
            partition.racks = rack(index).into_iter().chain(rack(index + 1)).map(Into::into).collect();
        }
        topics.insert(topic);
    }
    let member = |index: usize| GroupMember {
        member_id: format!("member-{index:05}"),
        topics: names.clone(),
        rack_id: rack(index),
        ..GroupMember::default()
    };
    (topics, (0..members).map(member).collect())
}

/// What it was given before is what it owns.
fn owns(member: &mut GroupMember, assignor: Assignor, before: &GroupAssignment) {
    member.owned_partitions = before.get(&member.member_id).to_vec();
    member.generation_id = Some(1);
    member.user_data = assignor.subscription_user_data(&member.owned_partitions, 1);
}

/// A group whose members own what they were given before, and one more. `assign_timings` of ottla-tests compares with
/// Java's times.
#[divan::bench(
    args = [(Assignor::Range, 100_000, 200), (Assignor::RoundRobin, 100_000, 200), (Assignor::Sticky, 1_000_000, 2_000),
            (Assignor::CooperativeSticky, 1_000_000, 2_000)],
    sample_count = 3,
    sample_size = 1
)]
fn assign(bencher: Bencher<'_, '_>, (assignor, partitions, members): (Assignor, usize, usize)) {
    joined(bencher, assignor, group(partitions, members + 1, false));
}

/// The same with replicas and members in three racks.
#[divan::bench(
    args = [(Assignor::Range, 100_000, 200), (Assignor::Sticky, 1_000_000, 2_000), (Assignor::CooperativeSticky, 1_000_000, 2_000)],
    sample_count = 3,
    sample_size = 1
)]
fn assign_racks(bencher: Bencher<'_, '_>, (assignor, partitions, members): (Assignor, usize, usize)) {
    joined(bencher, assignor, group(partitions, members + 1, true));
}

fn joined(
    bencher: Bencher<'_, '_>,
    assignor: Assignor,
    (topics, mut group): (ClusterTopics, Vec<GroupMember>),
) {
    let Some(last) = group.pop() else { return };
    let before = assignor.assign(&group, &topics);
    group.iter_mut().for_each(|member| owns(member, assignor, &before));
    group.push(last);
    bencher.bench_local(|| assignor.assign(&group, &topics));
}

/// 20,000 partitions and 200 members who each leave out other topics.
#[divan::bench(args = [Assignor::Sticky, Assignor::CooperativeSticky], sample_count = 5, sample_size = 1)]
fn assign_differing(bencher: Bencher<'_, '_>, assignor: Assignor) {
    let (topics, mut group) = group(20_000, 201, false);
    for (index, member) in group.iter_mut().enumerate() {
        let mut place = 0;
        member.topics.retain(|_| {
            place += 1;
            (place + index) % 7 != 0 && place % 11 != index % 11
        });
    }
    joined(bencher, assignor, (topics, group));
}
