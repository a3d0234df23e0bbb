//! What decoding record batches allocates: a budget for good batches, a bound for hostile ones.

use bytes::Bytes;
use ottla_tests::heap::{Counting, Heap, measure};
use ottla_wire::records::{
    Batch, BatchDecoder, BatchErrorKind, BatchWriter, Batches, Compression, DecodeOptions, RawBatch,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn batch(compression: Compression, records: usize) -> Bytes {
    let mut writer = BatchWriter::new().compression(compression).base_offset(5);
    for i in 0..records {
        let value =
            format!("{{\"id\":{i},\"text\":\"order {} of customer {}\"}}", i * 7919 % 1000, i * 31 % 97);
        writer
            .append(
                i as i64,
                Some(b"key"),
                Some(value.as_bytes()),
                &[(b"trace", None), (b"trace", Some(b"x"))],
            )
            .unwrap();
    }
    writer.finish()
}

/// As a frame holds it: part of a larger buffer that is shared.
fn framed(compression: Compression, records: usize) -> RawBatch {
    let batch = batch(compression, records);
    let frame = Bytes::from([&[0; 100][..], &batch].concat());
    let keep = frame.clone();
    let raw = Batches::new(frame.slice(100..)).next().expect("a batch").expect("a good one");
    drop(keep);
    raw
}

fn walk(batch: &Batch) -> usize {
    let mut sum = 0;
    for record in batch {
        sum += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
        sum += record
            .headers()
            .map(|(key, value)| key.as_bytes().len() + value.map_or(0, <[u8]>::len))
            .sum::<usize>();
    }
    sum
}

/// At most one allocation for an uncompressed batch, two for a compressed one, none for iterating; the result
/// takes what the records take, not more.
#[test]
fn allocations_per_batch() {
    for compression in Compression::ALL {
        for records in [1, 10, 150, 3_000, 20_000] {
            let mut decoder = BatchDecoder::new();
            let raw = framed(compression, records);
            // The first batch makes the contexts, which stay.
            raw.clone().decode(&mut decoder, DecodeOptions::default()).unwrap();
            let ((decoded, sum), Heap { calls, peak, .. }) = measure(|| {
                let decoded = raw.decode(&mut decoder, DecodeOptions::default()).unwrap();
                let sum = walk(&decoded);
                (decoded, sum)
            });
            let budget = if compression == Compression::None { 1 } else { 2 };
            println!(
                "{compression} {records}: {calls} allocations, peak {peak}, data {}",
                decoded.data().len()
            );
            assert!(calls <= budget, "{compression} {records}: {calls} allocations");
            assert!(sum > records * 10);
            let (_, Heap { calls, .. }) = measure(|| walk(&decoded));
            assert_eq!(calls, 0, "{compression} {records}: iterating allocates");
            let kept = decoded.data().len();
            drop(decoder);
            // A little more while it runs: what a codec may write ahead.
            assert!(
                compression == Compression::None || peak <= kept + kept / 4 + (192 << 10),
                "{peak} for {kept}"
            );
        }
    }
}

/// What a scratch buffer keeps between batches is bounded, whatever came through it.
#[test]
fn a_decoder_keeps_little() {
    for compression in Compression::ALL {
        let (decoder, Heap { kept: held, .. }) = measure(|| {
            let mut decoder = BatchDecoder::new();
            for records in [20_000, 10, 5_000, 1] {
                framed(compression, records).decode(&mut decoder, DecodeOptions::default()).unwrap();
            }
            decoder
        });
        assert!(held <= (1 << 20) + (256 << 10), "{compression}: keeps {held} bytes");
        drop(decoder);
    }
}

/// Small streams that claim or give much: refused, and what is held meanwhile stays near the limit.
#[test]
fn hostile_streams_take_bounded_memory() {
    const LIMIT: usize = 1 << 20;
    let options = DecodeOptions { check_crcs: true, max_decompressed_batch_bytes: LIMIT };
    let mut bomb = BatchWriter::new();
    bomb.append(0, None, Some(&vec![0; 32 << 20]), &[]).unwrap();
    for compression in Compression::ALL.into_iter().filter(|&c| c != Compression::None) {
        let bytes = bomb.clone().compression(compression).finish();
        let (error, Heap { peak, .. }) = measure(|| {
            let raw = Batches::new(bytes).next().unwrap().unwrap();
            raw.decode(&mut BatchDecoder::new(), options).unwrap_err()
        });
        assert!(matches!(error.kind(), BatchErrorKind::Limit { limit: LIMIT, .. }), "{error}");
        assert!(peak <= 2 * LIMIT + (256 << 10), "{compression}: held {peak} bytes");
    }
}

/// Claims that the bytes cannot keep cost nothing to refuse.
#[test]
fn claims_are_not_paid_for() {
    let streams: [(Compression, &[u8]); 4] = [
        // 4 GiB in a bare block of six bytes.
        (Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        // A chunk of 2 GiB.
        (Compression::Snappy, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff"),
        // A content size of 100 MiB in a frame with one raw block of one byte.
        (Compression::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x40, 0x06, 0x09, 0, 0, 0]),
        // A trailer that says 4 GiB.
        (Compression::Gzip, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (compression, stream) in streams {
        let mut bytes = BatchWriter::new().finish().to_vec();
        bytes.extend_from_slice(stream);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[22] = compression.id();
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        let options = DecodeOptions { check_crcs: false, ..DecodeOptions::default() };
        let (error, Heap { peak, .. }) = measure(|| {
            let raw = Batches::new(Bytes::from(bytes)).next().unwrap().unwrap();
            raw.decode(&mut BatchDecoder::new(), options).unwrap_err()
        });
        assert_eq!(error.kind(), BatchErrorKind::Corrupt, "{error}");
        // The contexts of a codec are most of it.
        assert!(peak <= 256 << 10, "{compression}: held {peak} bytes for {} bytes of input", stream.len());
    }
}

/// Errors allocate nothing.
#[test]
fn errors_allocate_nothing() {
    let mut bytes = batch(Compression::None, 3).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let raw = Batches::new(Bytes::from(bytes)).next().unwrap().unwrap();
    let mut decoder = BatchDecoder::new();
    let (error, Heap { calls, .. }) =
        measure(|| raw.decode(&mut decoder, DecodeOptions::default()).unwrap_err());
    assert!(error.is_crc_mismatch());
    assert_eq!(calls, 0);
}
