//! The rules of the format, one test each, and what they share.

use bytes::Bytes;

use super::*;

mod hostile_batches;
mod hostile_codecs;
mod legacy;
mod mutation;
mod round_trip;
mod transactions;

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

/// What a record holds, as the writer takes it: one header list for all.
const NO_HEADERS: &[(&[u8], Option<&[u8]>)] = &[];

/// An uncompressed batch of `count` small records from offset 100 on.
fn small(count: i64) -> Vec<u8> {
    let mut writer = BatchWriter::new().base_offset(100);
    for i in 0..count {
        writer.append(1_000 + i, Some(b"k"), Some(b"value"), &[(b"h", None)]).unwrap();
    }
    writer.finish().to_vec()
}

/// Sets the checksum of a batch of magic 2 anew.
fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[header::CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch from its parts, length and checksum right: `count` records in `payload`.
fn assemble(codec: u8, last_offset_delta: i32, count: i32, payload: &[u8]) -> Bytes {
    let mut batch = BatchWriter::new().base_offset(100).finish().to_vec();
    batch.extend_from_slice(payload);
    let length = (batch.len() - header::LOG_OVERHEAD) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec;
    batch[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    seal(&mut batch);
    Bytes::from(batch)
}

/// `bytes` with `patch` written at `at` and the checksum set anew.
fn patched(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Bytes {
    bytes[at..at + patch.len()].copy_from_slice(patch);
    seal(&mut bytes);
    Bytes::from(bytes)
}

/// The first thing that goes wrong on the way to records.
fn error_of(bytes: Bytes) -> BatchError {
    let raw = match Batches::new(bytes).next().expect("an entry") {
        Ok(raw) => raw,
        Err(error) => return error,
    };
    raw.decode(&mut BatchDecoder::new(), DecodeOptions::default()).expect_err("must be refused")
}

/// It is `Corrupt`, and says `why`.
#[track_caller]
fn assert_corrupt(bytes: Bytes, why: &str) {
    let error = error_of(bytes);
    assert_eq!(error.kind(), BatchErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}
