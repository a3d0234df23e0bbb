//! Batches that lie: each a typed error, none a panic.

use super::*;

/// The length says less than the smallest entry, or than the header of magic 2: the next batch cannot be found.
#[test]
fn impossible_lengths_end_the_walk() {
    for length in [i32::MIN, -1, 0, 1, 13, 14, 48] {
        let mut bytes = small(1);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let mut batches = Batches::new(Bytes::from(bytes));
        let error = batches.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), BatchErrorKind::Corrupt, "{length}");
        assert!(error.to_string().contains("the length is below"), "{error}");
        assert!(batches.next().is_none());
    }
}

/// A length beyond what is there is a truncated tail, whatever it claims.
#[test]
fn a_huge_length_is_a_truncated_tail() {
    let mut bytes = small(1);
    let size = bytes.len();
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let mut batches = Batches::new(Bytes::from(bytes));
    assert!(batches.next().is_none());
    assert_eq!(batches.trailing(), size);
}

/// Formats that do not exist (yet) are named as such: the position stays, nothing is called corrupt.
#[test]
fn unknown_magic_is_unsupported() {
    for magic in [3, 4, 127, -1, -128i8] {
        let error = error_of(patched(small(1), 16, &magic.to_be_bytes()));
        assert_eq!(error.kind(), BatchErrorKind::UnsupportedMagic(magic));
        assert!(error.to_string().contains("not supported"), "{error}");
    }
}

/// Every single bit of what the checksum covers counts, and of the checksum itself.
#[test]
fn one_flipped_bit_is_a_checksum_error() {
    let good = small(2);
    for at in 17..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        let raw = match Batches::new(Bytes::from(bytes)).next().unwrap() {
            Ok(raw) => raw,
            // Some flips are seen in the header before the checksum is looked at.
            Err(error) => {
                assert!((21..61).contains(&at), "byte {at}: {error}");
                continue;
            }
        };
        let error = raw.verify_crc().unwrap_err();
        assert!(error.is_crc_mismatch() && error.kind() == BatchErrorKind::Corrupt, "byte {at}: {error}");
        assert!(error.base_offset().is_some() && error.last_offset().is_some());
    }
}

/// The checksum does not cover base offset and leader epoch: brokers set both on append.
#[test]
fn base_offset_and_leader_epoch_are_not_in_the_checksum() {
    let mut bytes = small(1);
    bytes[7] = 9;
    bytes[15] = 9;
    let batch = decode(Bytes::from(bytes)).unwrap();
    assert_eq!(batch.header().base_offset, 9);
}

/// With checksums off a batch with a wrong one is read.
#[test]
fn checksums_can_be_switched_off() {
    let mut bytes = small(2);
    bytes[17] ^= 1;
    let options = DecodeOptions { check_crcs: false, ..DecodeOptions::default() };
    let raw = one(Bytes::from(bytes));
    assert_eq!(raw.clone().decode(&mut BatchDecoder::new(), options).unwrap().record_count(), 2);
    assert!(raw.decode(&mut BatchDecoder::new(), DecodeOptions::default()).is_err());
}

/// The declared number of records is exactly what is there.
#[test]
fn a_wrong_record_count_is_corrupt() {
    for (count, why) in [
        (i32::MIN, "the number of records is negative"),
        (-1, "the number of records is negative"),
        (0, "bytes are left"),
        (2, "bytes are left"),
        (4, "the bytes end before"),
        (1_000, "more records declared than there are bytes"),
        (i32::MAX, "more records declared than there are bytes"),
    ] {
        assert_corrupt(patched(small(3), 57, &count.to_be_bytes()), why);
    }
    assert_corrupt(assemble(0, 0, 1, b""), "more records declared than there are bytes");
}

/// An error inside a batch of known size does not hide the batches behind it.
#[test]
fn the_walk_goes_on_behind_a_bad_header() {
    let mut bytes = patched(small(1), 57, &(-1i32).to_be_bytes()).to_vec();
    bytes.extend_from_slice(&small(2));
    let mut batches = Batches::new(Bytes::from(bytes));
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!((error.base_offset(), error.last_offset()), (Some(100), Some(100)));
    assert_eq!(batches.next().unwrap().unwrap().header.record_count, 2);
}

/// The last offset lies at or behind the last record, and all offsets and the one behind them exist.
#[test]
fn last_offsets_that_cannot_be_are_corrupt() {
    assert_corrupt(patched(small(3), 23, &(-1i32).to_be_bytes()), "lies before the first");
    assert_corrupt(patched(small(3), 23, &i32::MIN.to_be_bytes()), "lies before the first");
    assert_corrupt(patched(small(3), 23, &1i32.to_be_bytes()), "behind the last offset");
    for base in [i64::MAX, i64::MAX - 1, i64::MAX - 2] {
        assert_corrupt(patched(small(3), 0, &base.to_be_bytes()), "does not fit 63 bits");
    }
    for base in [-1, i64::MIN] {
        assert_corrupt(patched(small(3), 0, &i64::to_be_bytes(base)), "the base offset is negative");
    }
    let last = decode(patched(small(3), 0, &(i64::MAX - 3).to_be_bytes())).unwrap();
    assert_eq!(last.header().next_offset(), i64::MAX);
    assert_eq!(last.iter().last().unwrap().offset(), i64::MAX - 1);
}

/// Offsets inside a batch strictly increase.
#[test]
fn offsets_that_do_not_rise_are_corrupt() {
    for deltas in [[0, 2, 1], [0, 0, 1], [-1, 0, 1], [0, 1, -5]] {
        let mut writer = BatchWriter::new().last_offset_delta(9);
        for delta in deltas {
            writer.append_at(delta, 0, None, None, NO_HEADERS).unwrap();
        }
        assert_corrupt(writer.finish(), "does not lie above");
    }
}

/// One record of ten bytes, hand-made, and every field of it wrong in turn.
#[test]
fn every_field_of_a_record_is_checked() {
    // Length 9, attributes, timestamp +1, offset 0, key "k", value "v", one header "h" = null ... in zigzag.
    let good = [20, 0, 2, 0, 2, b'k', 2, b'v', 2, 2, b'h'];
    let with = |at: usize, byte: u8| {
        let mut record = [&good[..], &[1]].concat();
        record[0] = 22;
        record[at] = byte;
        assemble(0, 0, 1, &record)
    };
    let record = decode(with(0, 22)).unwrap();
    let record = record.iter().next().unwrap();
    assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert!(record.headers().eq([(record.headers().next().unwrap().0, None)]));
    assert_corrupt(with(0, 24), "longer than the bytes left");
    assert_corrupt(with(0, 21), "its length is negative");
    assert_corrupt(with(0, 20), "the length of a header value is no varint");
    assert_corrupt(with(0, 0), "ends before its attributes");
    assert_corrupt(with(3, 1), "does not lie above");
    assert_corrupt(with(3, 2), "behind the last offset");
    assert_corrupt(with(4, 0x7e), "its key is longer than the record");
    assert_corrupt(with(6, 0x7e), "its value is longer than the record");
    assert_corrupt(with(8, 1), "its number of headers is negative");
    assert_corrupt(with(8, 0x7e), "more headers declared than there are bytes");
    assert_corrupt(with(8, 0), "its declared length is not the length of its content");
    assert_corrupt(with(9, 1), "the length of a header key is negative");
    assert_corrupt(with(9, 0x7e), "a header key is longer than the record");
    assert_corrupt(with(11, 0x7e), "a header value is longer than the record");
}

/// Varints that do not end, or end too late.
#[test]
fn unterminated_varints_are_corrupt() {
    assert_corrupt(assemble(0, 0, 1, &[0xff; 5]), "its length is no varint");
    assert_corrupt(assemble(0, 0, 1, &[0xff; 64]), "its length is no varint");
    let mut record = vec![24, 0];
    record.extend_from_slice(&[0x80; 10]);
    record.push(0);
    assert_corrupt(assemble(0, 0, 1, &record), "its timestamp is no varint");
}

/// Timestamp deltas have 64 bits: a month does not fit 32.
#[test]
fn timestamps_a_month_apart_come_back() {
    let mut writer = BatchWriter::new();
    let times = [0, 30 * 86_400_000, i64::MAX, i64::MIN, -1];
    for time in times {
        writer.append(time, None, None, NO_HEADERS).unwrap();
    }
    let batch = decode(writer.finish()).unwrap();
    assert_eq!(batch.iter().map(|r| r.timestamp()).collect::<Vec<_>>(), times);
}

/// Lengths below -1 are read as null, as Java reads them; -1 is what is written.
#[test]
fn negative_lengths_are_null() {
    let batch = decode(assemble(0, 0, 1, &[12, 0, 0, 0, 3, 5, 0])).unwrap();
    let record = batch.iter().next().unwrap();
    assert_eq!((record.key(), record.value()), (None, None));
}

/// A batch that cannot hold a record says so and stays as it was.
#[test]
fn the_writer_refuses_what_does_not_fit() {
    let mut writer = BatchWriter::new();
    writer.append_at(i32::MAX, 0, None, None, NO_HEADERS).unwrap();
    let error = writer.append(0, None, None, NO_HEADERS).unwrap_err();
    assert!(matches!(error.kind(), BatchErrorKind::Limit { .. }), "{error}");
    let batch = decode(writer.finish()).unwrap();
    assert_eq!(batch.header().next_offset(), 1 << 31);
}

/// An error is small and costs no allocation.
#[test]
fn errors_are_small_and_copy() {
    fn copy<T: Copy>() {}
    copy::<BatchError>();
    assert!(size_of::<BatchError>() <= 64, "{}", size_of::<BatchError>());
}
