//! The rules of the format, one test each.

use bytes::Bytes;

use super::*;

type OwnedRecord = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn owned(batch: &Batch) -> Vec<OwnedRecord> {
    batch
        .iter()
        .map(|r| {
            (
                r.offset(),
                r.timestamp(),
                r.key().map(<[u8]>::to_vec),
                r.value().map(<[u8]>::to_vec),
                r.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect(),
            )
        })
        .collect()
}

fn one(bytes: Bytes) -> RawBatch {
    let mut batches = Batches::new(bytes);
    let raw = batches.next().expect("a batch").expect("a valid header");
    assert!(batches.next().is_none());
    assert_eq!(batches.trailing(), 0);
    raw
}

#[expect(dead_code)]
fn decode(bytes: Bytes) -> Result<Batch, BatchError> {
    one(bytes).decode(&mut BatchDecoder::new(), DecodeOptions::default())
}

/// A small deterministic generator; the wire has no randomness of its own.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, max: u64) -> Option<Vec<u8>> {
        let kind = self.below(8);
        let len = self.below(max + 1);
        match kind {
            0 => None,
            1 => Some(Vec::new()),
            2..=4 => Some((0..len).map(|_| self.next() as u8).collect()),
            _ => Some((0..len).map(|i| b'a' + (i % 7) as u8).collect()),
        }
    }
}

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
