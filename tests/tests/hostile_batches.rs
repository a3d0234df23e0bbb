//! Record batches that lie, through the whole client (reliability: batches, codecs). What each field may be is
//! tested in ottla-wire; here it is what the reader gets: an error of the partition, once, with where to go on; the
//! others go on; and a flipped bit never moves the position to where nothing is.

use std::ops::Range;
use std::time::Duration;

use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::AbortedTransaction;
use ottla_broker::{Api, BatchBuilder, Codec};
use ottla_core::ErrorKind;
use ottla_core::config::IsolationLevel;
use ottla_tests::hostile::Stage;
use ottla_tests::hostile::batches::{field, in_batch, partitions, set};
use ottla_tests::sim::Lie;

const SECOND: Duration = Duration::from_secs(1);

/// Two partitions of 100 records in batches of 25; the second batch of partition 0 is spoiled.
fn spoiled(change: impl FnMut(&mut Vec<u8>) + 'static) -> Stage {
    let mut stage = Stage::new(1, 2, 100);
    stage.lie(in_batch(0, 25, change));
    stage.assign();
    stage.run(10 * SECOND);
    stage
}

/// The partition stopped with one error of this kind, which says where to go on: behind the batch. There everything
/// is as it should be, although the broker goes on lying.
fn stops_once(mut stage: Stage, kind: ErrorKind, what: &str) {
    let [error] = &stage.errors()[..] else { panic!("{what}: {:?}", stage.errors()) };
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert_eq!(error.resume_at(), Some(50), "{what}: {error}");
    assert_eq!(
        stage.world.member(stage.id).count(),
        125,
        "{what}: what lies before, and the other partition"
    );
    assert!(std::error::Error::source(error).is_some() || kind == ErrorKind::Corrupt, "{what}: {error:?}");
    stage.skip(error);
    stage.everything_arrives();
    stage.never_reset();
    stage.never_hot();
    assert_eq!(stage.errors().len(), 1, "{what}: told once");
}

#[test]
fn a_wrong_checksum() {
    stops_once(spoiled(|batch| batch[field::CRC.start] ^= 1), ErrorKind::Corrupt, "crc");
    stops_once(spoiled(|batch| *batch.last_mut().expect("bytes") ^= 1), ErrorKind::Corrupt, "last byte");
    stops_once(spoiled(|batch| batch[field::HEADER] ^= 0x80), ErrorKind::Corrupt, "first byte");
}

/// A checksum that is wrong once on the way is told, because Kafka cannot tell where it went wrong; a seek to the same
/// offset reads what the disk has.
#[test]
fn a_wrong_checksum_once() {
    let mut stage = Stage::new(1, 2, 100);
    stage.lie(in_batch(0, 25, |batch| batch[field::CRC.start] ^= 1).times(1));
    stage.assign();
    stage.run(10 * SECOND);
    assert_eq!(stage.errors().len(), 1);
    stage.seek(0, 25);
    stage.everything_arrives();
    stage.once_and_never_reset();
}

#[test]
fn codecs_that_nobody_knows() {
    for codec in 5u16..8 {
        let stage = spoiled(move |batch| set(batch, field::ATTRIBUTES, &codec.to_be_bytes()));
        stops_once(stage, ErrorKind::Unsupported, &format!("codec {codec}"));
    }
}

/// Of a format that nobody knows it is not known where it ends: the error says the next offset, and each skips one.
#[test]
fn formats_that_nobody_knows() {
    for magic in [3u8, 4, 0x7f, 0xff] {
        let mut stage = spoiled(move |batch| set(batch, field::MAGIC, &[magic]));
        let mut at = 26;
        while let Some(error) = stage.errors().get(at as usize - 26) {
            assert_eq!((error.kind(), error.resume_at()), (ErrorKind::Unsupported, Some(at)), "{error}");
            stage.seek(0, at);
            stage.run(SECOND);
            at += 1;
        }
        assert_eq!(at, 51, "magic {magic}: 25 offsets");
        assert_eq!(stage.world.member(stage.id).count(), 175);
        stage.never_hot();
        stage.never_reset();
    }
}

/// The bytes are plain, the header says otherwise.
#[test]
fn codecs_that_were_not_used() {
    for codec in 1u16..5 {
        let stage = spoiled(move |batch| set(batch, field::ATTRIBUTES, &codec.to_be_bytes()));
        stops_once(stage, ErrorKind::Corrupt, &format!("codec {codec}"));
    }
}

#[test]
fn record_counts_that_cannot_be() {
    for count in [-1, i32::MIN, 0, 1, 24, 26, 1 << 20, i32::MAX] {
        let stage = spoiled(move |batch| set(batch, field::RECORD_COUNT, &count.to_be_bytes()));
        stops_once(stage, ErrorKind::Corrupt, &format!("{count} records"));
    }
}

#[test]
fn records_without_their_bytes() {
    let stage = spoiled(|batch| {
        batch.truncate(field::HEADER);
        let length = batch.len() as i32 - 12;
        batch[field::LENGTH].copy_from_slice(&length.to_be_bytes());
        set(batch, field::RECORD_COUNT, &25i32.to_be_bytes());
    });
    stops_once(stage, ErrorKind::Corrupt, "no bytes");
}

/// The checksum is right, so this is what the broker says: the partition stops, wherever it says that it goes on.
fn stops(change: impl FnMut(&mut Vec<u8>) + 'static, what: &str) {
    let mut stage = spoiled(change);
    let [error] = &stage.errors()[..] else { panic!("{what}: {:?}", stage.errors()) };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    assert!(error.resume_at().is_some_and(|at| (26..=100).contains(&at)), "{what}: {error}");
    assert_eq!(stage.world.member(stage.id).count(), 125, "{what}");
    stage.never_fetched_beyond_the_end();
    stage.heal();
    stage.seek(0, 25);
    stage.everything_arrives();
    stage.once_and_never_reset();
    stage.never_hot();
}

#[test]
fn last_offsets_that_cannot_be() {
    for delta in [-1, i32::MIN, 0, 23, 75, 1_000, i32::MAX] {
        stops(
            move |batch| set(batch, field::LAST_OFFSET_DELTA, &delta.to_be_bytes()),
            &format!("last offset + {delta}"),
        );
    }
}

#[test]
fn lengths_that_cannot_be() {
    for length in [-1, i32::MIN, 0, 1, 48] {
        stops(
            move |batch| batch[field::LENGTH].copy_from_slice(&length.to_be_bytes()),
            &format!("length {length}"),
        );
    }
}

/// A batch that claims to go on behind the answer is cut off; it is asked for with larger limits, with pauses, for
/// as long as that goes on.
#[test]
fn lengths_beyond_the_answer() {
    for length in [1 << 20, i32::MAX] {
        let mut stage = spoiled(move |batch| batch[field::LENGTH].copy_from_slice(&length.to_be_bytes()));
        assert_eq!(stage.world.member(stage.id).count(), 125);
        stage.never_hot();
        stage.heal();
        stage.everything_arrives();
        stage.once_and_never_reset();
    }
}

#[test]
fn offsets_at_the_end_of_the_world() {
    for base in [i64::MAX, i64::MAX - 24, i64::MAX - 25, 1 << 62, 100, 76, -1, i64::MIN] {
        stops(
            move |batch| batch[field::BASE_OFFSET].copy_from_slice(&base.to_be_bytes()),
            &format!("offset {base}"),
        );
    }
}

/// Kafka itself sends batches that begin before the offset asked for; from the middle of one on all is read.
#[test]
fn batches_that_begin_before_the_offset_are_legal() {
    let mut stage = Stage::new(1, 2, 100);
    stage.assign();
    stage.all_is_read();
    stage.world.member(stage.id).values.clear();
    stage.world.member(stage.id).seen.clear();
    stage.seek(0, 37);
    stage.all_is_read();
    let tp = ottla_core::TopicPartition::new("t", 0);
    assert_eq!(stage.world.member(stage.id).values[&tp][0].0, 37);
    assert_eq!(stage.world.member(stage.id).count(), 63);
}

/// Any bit of any header, flipped once on the way: nothing far away is fetched, nothing is reset, and every record
/// arrives at its own offset, once; if the partition stops it is with an error.
fn any_flipped_bit(bits: Range<usize>) {
    for base in [0, 25, 75] {
        for bit in bits.clone() {
            let mut stage = Stage::new(1, 1, 100);
            let lie = in_batch(0, base, move |batch| batch[bit / 8] ^= 1 << (bit % 8)).times(1);
            let lie = stage.lie(lie);
            stage.assign();
            stage.run_until_told(lie, 1);
            stage.run(10 * SECOND);
            println!("bit {bit} of the batch at {base}: {:?}", stage.errors());
            if let Some(error) = stage.errors().first() {
                assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
                let position = stage.world.member(stage.id).count();
                stage.seek(0, position as i64);
            }
            stage.everything_arrives();
            stage.once_and_never_reset();
            stage.never_fetched_beyond_the_end();
            assert!(stage.errors().len() <= 1);
        }
    }
}

#[test]
fn any_flipped_bit_of_the_base_offset() {
    any_flipped_bit(0..64);
}

#[test]
fn any_flipped_bit_of_length_epoch_magic_and_checksum() {
    any_flipped_bit(64..168);
}

#[test]
fn any_flipped_bit_of_the_rest_of_the_header() {
    any_flipped_bit(168..488);
}

/// The high watermark is lowered: what lies beyond it is not handed out.
#[test]
fn records_beyond_the_high_watermark() {
    let beyond = |answer: &mut FetchResponse| {
        for p in partitions(answer).filter(|p| p.partition_index == 0) {
            p.high_watermark = 50;
        }
    };
    for times in [1, 2] {
        let mut stage = Stage::new(1, 2, 100);
        stage.lie(Lie::in_message(Api::Fetch, beyond).times(times));
        stage.assign();
        stage.everything_arrives();
        stage.once_and_never_reset();
        assert!(stage.errors().is_empty());
    }
    let mut stage = Stage::new(1, 2, 100);
    stage.lie(Lie::in_message(Api::Fetch, beyond));
    stage.assign();
    stage.run(20 * SECOND);
    let tp = ottla_core::TopicPartition::new("t", 0);
    let last = stage.world.member(stage.id).values[&tp].last().map(|(offset, _)| *offset);
    assert_eq!(last, Some(49), "S5");
    let [error] = &stage.errors()[..] else { panic!("{:?}", stage.errors()) };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    stage.never_hot();
    stage.heal();
    stage.seek(0, 50);
    stage.everything_arrives();
    stage.once_and_never_reset();
}

/// 16 MiB of zeros in a few bytes, in every codec: an error that names the setting, and memory stays what it was.
#[test]
fn decompression_bombs() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut stage = Stage::new(1, 2, 25);
        stage.config().max_decompressed_batch_bytes = 1 << 20;
        let now = stage.world.broker_now();
        let bomb = BatchBuilder::new([vec![0u8; 16 << 20]]).codec(codec).finish();
        stage.world.cluster.produce_batch(now, "t", 0, &bomb).expect("produced");
        stage.assign();
        stage.run(10 * SECOND);
        let [error] = &stage.errors()[..] else { panic!("{codec:?}: {:?}", stage.errors()) };
        assert_eq!((error.kind(), error.resume_at()), (ErrorKind::Limit, Some(26)), "{codec:?}");
        assert!(error.to_string().contains("max_decompressed_batch_bytes"), "{error}");
        assert_eq!(stage.world.member(stage.id).count(), 50, "{codec:?}: what lies before, and the others");
        let buffered = stage.world.member(stage.id).delivery.lock().buffered_bytes();
        assert_eq!(buffered, 0, "{codec:?}");
        stage.never_hot();
        stage.seek(0, 26);
        let now = stage.world.broker_now();
        stage.world.cluster.produce(now, "t", 0, ["after"]).expect("produced");
        let id = stage.id;
        stage.world.run_until(60 * SECOND, |w| w.member(id).count() == 51);
    }
}

/// Lists of aborted transactions that are unsorted, doubled, absurd, or not asked for.
#[test]
fn aborted_transactions_of_nobody() {
    let aborted = |producer: i64, first: i64| {
        AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
    };
    for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted] {
        let mut stage = Stage::new(1, 2, 100);
        stage.config().isolation_level = isolation;
        stage.lie(Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
            for p in partitions(answer) {
                p.aborted_transactions = Some(vec![
                    aborted(7, 90),
                    aborted(7, 3),
                    aborted(7, 3),
                    aborted(-1, 0),
                    aborted(-1, -1),
                    aborted(i64::MAX, i64::MAX),
                    aborted(i64::MIN, i64::MIN),
                ]);
            }
        }));
        stage.assign();
        stage.everything_arrives();
        stage.once_and_never_reset();
        stage.never_hot();
    }
}
