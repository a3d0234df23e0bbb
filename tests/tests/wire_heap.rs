//! What decoding costs in heap, counted by the allocator: nothing for messages, however hostile, and a bounded
//! multiple of the input for the bytes that members of a group send one another.

use bytes::BytesMut;
use ottla_tests::fuzz::seeds::vectors;
use ottla_tests::generated::fetch_response as owned;
use ottla_tests::heap::{Counting, measure};
use ottla_tests::register::Message;
use ottla_tests::vectors::{default_dir, lines, unhex};
use ottla_wire::consumer_protocol::{Assignment, Subscription};
use ottla_wire::messages::FetchResponse;
use ottla_wire::{Encode, Uuid, View};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of heap that `work` asked for, freed or not, and its result.
fn heap<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let (result, heap) = measure(work);
    (heap.asked, result)
}

/// A stream of numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn fetch(version: i16, topics: usize, partitions: usize) -> BytesMut {
    let partition = |index: usize| owned::PartitionData {
        partition_index: index as i32,
        high_watermark: 7,
        aborted_transactions: Some(vec![owned::AbortedTransaction { producer_id: 1, first_offset: 2 }]),
        records: Some(vec![9; 100].into()),
        ..Default::default()
    };
    let topic = |number: usize| owned::FetchableTopicResponse {
        topic: format!("topic-{number}"),
        topic_id: Uuid([number as u8; 16]),
        partitions: (0..partitions).map(partition).collect(),
    };
    let response = owned::FetchResponse { responses: (0..topics).map(topic).collect(), ..Default::default() };
    let mut body = BytesMut::new();
    response.encode(version, &mut body).unwrap();
    body
}

#[test]
fn a_fetch_response_with_10_000_partitions_allocates_nothing() {
    for version in [4, 11, 12, 13, 18] {
        let body = fetch(version, 10, 1_000);
        let (asked, sum) = heap(|| {
            let response = FetchResponse::decode(version, &body).unwrap();
            let mut sum = (0, 0, 0);
            for topic in &response.responses {
                for partition in &topic.partitions {
                    let aborted = partition.aborted_transactions.into_iter().flatten();
                    sum.0 += 1;
                    sum.1 += partition.records.map_or(0, <[u8]>::len);
                    sum.2 += aborted.map(|transaction| transaction.first_offset).sum::<i64>();
                }
            }
            sum
        });
        assert_eq!(sum, (10_000, 1_000_000, 20_000), "version {version}");
        assert_eq!(asked, 0, "version {version}");
    }
}

#[test]
fn no_message_however_damaged_allocates_while_it_is_decoded() {
    let mut random = Random(1);
    let mut refused = 0;
    for (message, version, mut body) in vectors() {
        for round in 0..12 {
            if round > 0 && !body.is_empty() {
                let at = random.below(body.len());
                match random.below(4) {
                    0 => body[at] = random.below(256) as u8,
                    1 => body[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                    2 => body.truncate(at),
                    _ => body[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
                }
            }
            let message = Message::named(&message).unwrap();
            // Walks what was accepted: this panics if an array ends early.
            let (asked, result) = heap(|| (message.walk)(version, &body));
            assert_eq!(asked, 0, "{} {version} {body:02x?}", message.name);
            refused += usize::from(result.is_err());
        }
    }
    assert!(refused > 20_000, "damage was found only {refused} times");
}

/// KIP-429 metadata comes from other members by way of the coordinator, so it is as hostile as a broker.
#[test]
fn subscriptions_and_assignments_are_bounded_by_their_bytes() {
    let limit = |bytes: &[u8]| (64 << 10) + 32 * bytes.len();
    let count = |n: u32| n.to_be_bytes();
    // The most elements for the fewest bytes: empty topics, then empty lists of partitions, each 60,000 times.
    let mut topics = vec![0, 3];
    topics.extend(count(60_000));
    topics.extend(std::iter::repeat_n(0, 120_000));
    topics.extend([0xff; 4]);
    topics.extend(count(60_000));
    topics.extend(std::iter::repeat_n(0, 360_000));
    topics.extend([0xff; 4]);
    topics.extend([0xff, 0xff]);
    let (asked, read) = heap(|| Subscription::decode(&topics).unwrap());
    assert_eq!((read.topics.len(), read.owned_partitions.len()), (60_000, 60_000));
    assert!(asked <= limit(&topics), "{asked} for {}", topics.len());
    let mut assigned = vec![0, 0];
    assigned.extend(count(60_000));
    assigned.extend(std::iter::repeat_n(0, 360_000));
    assigned.extend([0xff; 4]);
    let (asked, read) = heap(|| Assignment::decode(&assigned).unwrap());
    assert_eq!(read.partitions.len(), 60_000);
    assert!(asked <= limit(&assigned), "{asked} for {}", assigned.len());
    // A claim that the bytes do not cover costs nothing at all.
    for claim in [&[0, 3, 0x7f, 0xff, 0xff, 0xff][..], &[0, 3, 0, 1, 0, 0, 0, 0, 0, 0]] {
        let (asked, read) =
            heap(|| (Subscription::decode(claim).is_err(), Assignment::decode(claim).is_err()));
        assert_eq!((asked, read), (0, (true, true)));
    }
}

#[test]
fn damaged_subscriptions_never_panic_and_stay_bounded() {
    let mut random = Random(2);
    for name in ["subscription", "assignment", "decode"] {
        for line in lines(&default_dir().join("subscription").join(format!("{name}.jsonl"))) {
            let whole = unhex(line["hex"].as_str().unwrap());
            for _ in 0..40 {
                let mut bytes = whole.clone();
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
                bytes.truncate(random.below(bytes.len()) + 1 + bytes.len() / 2);
                let (asked, _) =
                    heap(|| (Subscription::decode(&bytes).is_ok(), Assignment::decode(&bytes).is_ok()));
                assert!(asked <= (64 << 10) + 64 * bytes.len(), "{asked} for {bytes:02x?}");
            }
        }
    }
}
