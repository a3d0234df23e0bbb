//! Magic 0 and 1.

use super::*;

/// One message.
fn message(
    magic: u8,
    offset: i64,
    attributes: u8,
    time: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend_from_slice(&time.to_be_bytes());
    }
    for field in [key, value] {
        body.extend_from_slice(&field.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
        body.extend_from_slice(field.unwrap_or_default());
    }
    let mut out = offset.to_be_bytes().to_vec();
    out.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    out.extend_from_slice(&crc32::crc32(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// A compressed message around `inner`.
fn wrapper(
    magic: u8,
    codec: Compression,
    offset: i64,
    attributes: u8,
    time: i64,
    inner: &[Vec<u8>],
) -> Bytes {
    let value = codec::compress(codec, &inner.concat()).unwrap();
    Bytes::from(message(magic, offset, attributes | codec.id(), time, None, Some(&value)))
}

fn places(batch: &Batch) -> Vec<(i64, i64)> {
    batch.iter().map(|r| (r.offset(), r.timestamp())).collect()
}

/// Null and empty, no timestamps in magic 0, the producer's or the broker's in magic 1.
#[test]
fn single_messages() {
    let batch = decode(Bytes::from(message(0, 7, 0, 0, None, Some(b"")))).unwrap();
    let record = batch.iter().next().unwrap();
    assert_eq!((record.key(), record.value()), (None, Some(&b""[..])));
    assert_eq!((record.timestamp_type(), record.timestamp()), (TimestampType::NoTimestampType, -1));
    assert_eq!((record.headers().len(), record.sequence()), (0, None));
    assert_eq!((batch.header().base_offset, batch.header().next_offset()), (7, 8));
    for (attributes, kind) in [(0, TimestampType::CreateTime), (8, TimestampType::LogAppendTime)] {
        let batch = decode(Bytes::from(message(1, 7, attributes, 99, Some(b"k"), None))).unwrap();
        let record = batch.iter().next().unwrap();
        assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), None));
        assert_eq!((record.timestamp_type(), record.timestamp()), (kind, 99));
    }
}

/// Old segments may hold several formats one behind the other.
#[test]
fn formats_may_be_mixed() {
    let mut bytes = message(0, 98, 0, 0, None, None);
    bytes.extend_from_slice(&message(1, 99, 0, 5, None, None));
    bytes.extend_from_slice(&small(2));
    let mut decoder = BatchDecoder::new();
    let offsets: Vec<i64> = Batches::new(Bytes::from(bytes))
        .map(|raw| raw.unwrap().decode(&mut decoder, DecodeOptions::default()).unwrap())
        .flat_map(|batch| batch.iter().map(|r| r.offset()).collect::<Vec<_>>())
        .collect();
    assert_eq!(offsets, [98, 99, 100, 101]);
}

/// KIP-31: inner offsets are absolute in magic 0; relative in magic 1, the last being the wrapper's.
#[test]
fn wrapped_offsets_and_timestamps() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let inner = [10, 12].map(|offset| message(0, offset, 0, 0, None, Some(b"v")));
        assert_eq!(places(&decode(wrapper(0, codec, 12, 0, 0, &inner)).unwrap()), [(10, -1), (12, -1)]);

        // Compaction may have taken the last message: absolute offsets do not move.
        let inner = [10, 12].map(|offset| message(0, offset, 0, 0, None, Some(b"v")));
        let batch = decode(wrapper(0, codec, 15, 0, 0, &inner)).unwrap();
        assert_eq!((places(&batch), batch.header().next_offset()), (vec![(10, -1), (12, -1)], 16));

        let inner = [0, 3].map(|offset| message(1, offset, 0, 50 + offset, None, Some(b"v")));
        let bytes = wrapper(1, codec, 103, 0, 7, &inner);
        let raw = one(bytes.clone());
        assert_eq!((raw.header.record_count, raw.header.last_offset), (-1, 103));
        let estimate = raw.decompressed_estimate(usize::MAX);
        let batch = decode(bytes).unwrap();
        assert_eq!(places(&batch), [(100, 50), (103, 53)]);
        assert_eq!((batch.header().base_offset, batch.header().record_count), (100, 2));
        assert!(estimate >= batch.data().len());

        // LogAppendTime of the wrapper overrides the inner times.
        assert_eq!(places(&decode(wrapper(1, codec, 103, 8, 7, &inner)).unwrap()), [(100, 7), (103, 7)]);
    }
}

/// Some producers of old left the wrapper at offset 0; what it holds counts from 0 then, and the position goes
/// on behind the last message, not behind the wrapper.
#[test]
fn a_wrapper_at_offset_0() {
    let inner = [0, 1, 2].map(|offset| message(1, offset, 0, 0, None, None));
    let batch = decode(wrapper(1, Compression::Gzip, 0, 0, 0, &inner)).unwrap();
    assert_eq!(batch.iter().map(|r| r.offset()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(batch.header().next_offset(), 3);
}

/// What a wrapper may not be or hold.
#[test]
fn wrappers_that_lie_are_corrupt() {
    let gzip = Compression::Gzip;
    let plain = message(1, 0, 0, 0, None, Some(b"v"));
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[]), "holds no message");
    assert_corrupt(Bytes::from(message(1, 5, gzip.id(), 0, None, None)), "without a value");
    let nested = wrapper(1, gzip, 0, 0, 0, std::slice::from_ref(&plain)).to_vec();
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[nested]), "compressed inside a compressed message");
    let other = message(0, 0, 0, 0, None, None);
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[other]), "its format is not that of");
    let cut = plain[..plain.len() - 1].to_vec();
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[plain.clone(), cut]), "longer than the bytes left");
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[plain.clone(), vec![0; 7]]), "the bytes end inside a message");
    let mut short = plain.clone();
    short[8..12].copy_from_slice(&3i32.to_be_bytes());
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[short]), "below that of the smallest message");
    let far = message(1, 9, 0, 0, None, None);
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &[far]), "lies below the last one that it holds");
    let twice = [plain.clone(), plain.clone()];
    assert_corrupt(wrapper(1, gzip, 5, 0, 0, &twice), "does not lie above");
    let apart = [message(0, 0, 0, 0, None, None), message(0, 1 << 40, 0, 0, None, None)];
    assert_corrupt(wrapper(0, gzip, 1 << 40, 0, 0, &apart), "does not lie above");
    let mut wrong = plain;
    *wrong.last_mut().unwrap() ^= 1;
    let error = error_of(wrapper(1, gzip, 5, 0, 0, &[wrong]));
    assert!(error.is_crc_mismatch(), "{error}");
}

/// Lengths inside a message.
#[test]
fn message_fields_are_checked() {
    for (at, why) in [(26, "the key of a message is longer"), (31, "the value of a message is longer")] {
        let mut bytes = message(1, 5, 0, 0, Some(b"k"), Some(b"v"));
        bytes[at..at + 4].copy_from_slice(&1_000i32.to_be_bytes());
        let crc = crc32::crc32(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
        assert_corrupt(Bytes::from(bytes), why);
    }
    for offset in [-1, i64::MAX, i64::MIN] {
        assert_corrupt(Bytes::from(message(0, offset, 0, 0, None, None)), "does not fit 63 bits");
    }
    let mut bytes = message(1, 5, 0, 0, Some(b"k"), Some(b"v"));
    bytes[30] ^= 1;
    assert!(error_of(Bytes::from(bytes)).is_crc_mismatch());
}

/// KIP-110: zstd came with magic 2; numbers 5 to 7 never existed.
#[test]
fn legacy_formats_have_three_codecs() {
    for codec in 4..8 {
        let error = error_of(Bytes::from(message(1, 5, codec, 0, None, Some(b"x"))));
        assert_eq!(error.kind(), BatchErrorKind::UnsupportedCodec(codec));
    }
}

/// Old clients computed the header checksum of lz4 frames over the wrong bytes: ignored in magic 0 only.
#[test]
fn lz4_header_checksum_means_nothing_in_magic_0() {
    for magic in [0, 1] {
        let inner = message(magic, 5, 0, 0, None, Some(b"v"));
        let mut frame = codec::compress(Compression::Lz4, &inner).unwrap();
        frame[6] ^= 0x55;
        let bytes = Bytes::from(message(magic, 5, Compression::Lz4.id(), 0, None, Some(&frame)));
        if magic == 0 {
            assert_eq!(decode(bytes).unwrap().record_count(), 1);
        } else {
            assert_corrupt(bytes, "the checksum of a frame header is wrong");
        }
    }
}
