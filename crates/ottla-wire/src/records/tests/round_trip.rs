//! What the writer writes the reader reads.

use super::*;

/// Null and empty, duplicate and non-UTF-8 header keys, gaps in offsets, timestamps far apart: all come back.
#[test]
fn round_trip_keeps_every_byte_for_every_codec() {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    for round in 0..300 {
        let compression = Compression::ALL[round % 5];
        let base = rng.below(1 << 50) as i64;
        let mut writer = BatchWriter::new().compression(compression).base_offset(base);
        let mut expected: Vec<OwnedRecord> = Vec::new();
        let mut delta = -1;
        for _ in 0..rng.below(40) {
            delta += 1 + rng.below(3) as i32;
            let timestamp = match rng.below(4) {
                0 => rng.below(i64::MAX as u64) as i64,
                _ => 1_700_000_000_000 + rng.below(100_000) as i64,
            };
            let max = if rng.below(20) == 0 { 100_000 } else { 60 };
            let (key, value) = (rng.bytes(20), rng.bytes(max));
            let mut headers = Vec::new();
            for _ in 0..rng.below(4) {
                let key = match rng.below(4) {
                    0 => b"dup".to_vec(),
                    1 => vec![0xff, 0xfe, 0x00, 0x80],
                    2 => Vec::new(),
                    _ => rng.bytes(10).unwrap_or_default(),
                };
                headers.push((key, rng.bytes(10)));
            }
            let borrowed: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
            writer.append_at(delta, timestamp, key.as_deref(), value.as_deref(), &borrowed).unwrap();
            expected.push((base + i64::from(delta), timestamp, key, value, headers));
        }
        let bytes = writer.finish();
        let raw = one(bytes.clone());
        raw.verify_crc().unwrap();
        assert_eq!(raw.header.compression, compression);
        let estimate = raw.decompressed_estimate(usize::MAX);
        let batch = raw.decode(&mut BatchDecoder::new(), DecodeOptions::default()).unwrap();
        assert_eq!(owned(&batch), expected, "round {round} {compression}");
        assert_eq!(batch.iter().len(), expected.len());
        if compression != Compression::None {
            assert!(
                estimate >= batch.data().len(),
                "{compression}: estimate {estimate} of {}",
                batch.data().len()
            );
        }
        // Spans and cursors give the same records back.
        let mut records = batch.iter();
        let mut again = Vec::new();
        loop {
            let cursor = records.cursor();
            assert_eq!(batch.iter_from(cursor).len(), batch.record_count() - cursor.index());
            let Some(record) = records.next() else { break };
            assert_eq!(batch.iter_from(cursor).next().map(|r| r.span()), Some(record.span()));
            let same = batch.record_at(&record.span());
            assert_eq!(
                (same.offset(), same.key(), same.value()),
                (record.offset(), record.key(), record.value())
            );
            assert_eq!(record.key_range().map(|at| &batch.data()[at]), record.key());
            assert_eq!(record.value_range().map(|at| &batch.data()[at]), record.value());
            again.push(record.offset());
        }
        assert_eq!(again, expected.iter().map(|r| r.0).collect::<Vec<_>>());
    }
}

/// KIP-98: attributes, producer and sequences, which wrap from `i32::MAX` to 0.
#[test]
fn header_fields_round_trip_and_sequences_wrap() {
    let mut writer = BatchWriter::new()
        .base_offset(7)
        .partition_leader_epoch(3)
        .producer(9, 2, i32::MAX - 1)
        .transactional(true)
        .last_offset_delta(10);
    for i in 0..4 {
        writer.append(1_000 - i, None, None, NO_HEADERS).unwrap();
    }
    let batch = decode(writer.finish()).unwrap();
    let header = batch.header();
    assert_eq!((header.base_offset, header.last_offset, header.next_offset()), (7, 17, 18));
    assert_eq!((header.partition_leader_epoch, header.producer_id, header.producer_epoch), (3, 9, 2));
    assert!(header.is_transactional && !header.is_control && header.has_producer_id());
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_000));
    let sequences: Vec<_> = batch.iter().map(|r| r.sequence().unwrap()).collect();
    assert_eq!(sequences, [i32::MAX - 1, i32::MAX, 0, 1]);
    assert_eq!(header.last_sequence(), 8);
}

/// KIP-534: with a delete horizon deltas count from the horizon, and timestamps come out right.
#[test]
fn delete_horizon_keeps_timestamps() {
    let mut writer = BatchWriter::new().delete_horizon_ms(2_000_000);
    writer.append(5, Some(b"k"), None, NO_HEADERS).unwrap();
    writer.append(3_000_000, Some(b"l"), None, NO_HEADERS).unwrap();
    let batch = decode(writer.finish()).unwrap();
    assert_eq!(batch.header().delete_horizon_ms(), Some(2_000_000));
    assert_eq!(batch.iter().map(|r| r.timestamp()).collect::<Vec<_>>(), [5, 3_000_000]);
}

/// A broker rewrites offset, leader epoch and timestamp type in place.
#[test]
fn broker_rewrites_in_place_keep_the_checksum_right() {
    for compression in Compression::ALL {
        let mut writer = BatchWriter::new().compression(compression);
        for i in 0..3 {
            writer.append(i, None, Some(b"v"), NO_HEADERS).unwrap();
        }
        let mut bytes = writer.finish().to_vec();
        set_base_offset(&mut bytes, 1 << 40);
        set_partition_leader_epoch(&mut bytes, 12);
        one(Bytes::from(bytes.clone())).verify_crc().unwrap();
        set_log_append_time(&mut bytes, 77);
        let batch = decode(Bytes::from(bytes)).unwrap();
        assert_eq!(batch.header().partition_leader_epoch, 12);
        for (i, record) in batch.iter().enumerate() {
            assert_eq!(record.offset(), (1 << 40) + i as i64);
            assert_eq!((record.timestamp_type(), record.timestamp()), (TimestampType::LogAppendTime, 77));
        }
    }
}

/// Too short slices are left alone.
#[test]
fn rewriting_a_fragment_does_nothing() {
    for length in 0..40 {
        let mut bytes = vec![0; length];
        set_base_offset(&mut bytes, 1);
        set_partition_leader_epoch(&mut bytes, 1);
        set_log_append_time(&mut bytes, 1);
    }
}

/// Compaction leaves batches without records behind: the position must pass them.
#[test]
fn an_emptied_batch_still_moves_the_position() {
    let batch = decode(BatchWriter::new().base_offset(50).last_offset_delta(9).finish()).unwrap();
    assert_eq!((batch.record_count(), batch.iter().next().is_none()), (0, true));
    assert_eq!(batch.header().next_offset(), 60);
}

/// An uncompressed batch is read in place.
#[test]
fn uncompressed_records_share_the_buffer_of_the_frame() {
    let frame = Bytes::from(small(3));
    let place = frame[header::HEADER_SIZE..].as_ptr();
    assert_eq!(decode(frame).unwrap().data().as_ptr(), place);
}

/// A batch that is cut off anywhere ends the walk without an error; whole ones before it are kept.
#[test]
fn a_truncated_tail_is_not_an_error() {
    let first = small(2);
    let mut both = first.clone();
    both.extend_from_slice(&small(3));
    for length in 0..both.len() {
        let mut batches = Batches::new(Bytes::copy_from_slice(&both[..length]));
        let whole = usize::from(length >= first.len());
        for _ in 0..whole {
            batches.next().unwrap().unwrap();
        }
        assert!(batches.next().is_none(), "length {length}");
        assert_eq!(batches.trailing(), length - whole * first.len());
    }
}

/// Records of offset below the fetch offset come first in a batch; that is legal, and skipping is the reader's.
#[test]
fn a_batch_may_start_below_the_fetch_offset() {
    let batch = decode(Bytes::from(small(5))).unwrap();
    let rest: Vec<_> = batch.iter().filter(|r| r.offset() >= 103).map(|r| r.offset()).collect();
    assert_eq!(rest, [103, 104]);
}

/// A batch can be handed out in parts.
#[test]
fn a_cursor_goes_on_where_it_was_taken() {
    let batch = decode(Bytes::from(small(5))).unwrap();
    let mut records = batch.iter();
    assert_eq!(records.by_ref().take(2).count(), 2);
    let cursor = records.cursor();
    assert_eq!((cursor.index(), batch.iter_from(cursor).len()), (2, 3));
    assert_eq!(batch.iter_from(cursor).map(|r| r.offset()).collect::<Vec<_>>(), [102, 103, 104]);
    assert_eq!(batch.iter_from(RecordCursor::default()).len(), 5);
}

/// A cursor or span of another batch gives nothing useful, but no panic.
#[test]
fn a_foreign_cursor_does_not_panic() {
    let (long, short) = (decode(Bytes::from(small(50))).unwrap(), decode(Bytes::from(small(1))).unwrap());
    for _ in 0..50 {
        let mut records = long.iter();
        while let Some(record) = records.next() {
            let _ = short.iter_from(records.cursor()).count();
            let foreign = short.record_at(&record.span());
            let _ = (foreign.key(), foreign.value(), foreign.headers().count(), foreign.timestamp());
        }
    }
}

/// What is in a record does not appear in logs.
#[test]
fn debug_of_a_record_shows_no_content() {
    let mut writer = BatchWriter::new();
    writer.append(0, Some(b"secret-key"), Some(b"secret-value"), NO_HEADERS).unwrap();
    let batch = decode(writer.finish()).unwrap();
    let text = format!("{:?}", batch.iter().next().unwrap());
    assert!(!text.contains("secret") && text.contains("value_len: Some(12)"), "{text}");
}

/// The types move between threads.
#[test]
fn batches_are_send_and_sync() {
    fn both<T: Send + Sync>() {}
    fn send<T: Send>() {}
    both::<Batch>();
    both::<RawBatch>();
    both::<RecordRef<'_>>();
    send::<BatchDecoder>();
}
