//! Random damage with the checksum set right again, so that it reaches what lies behind the checksum.

use super::*;

/// What the fuzz targets hold to as well: an error, or records that obey the header.
fn check(bytes: Bytes, decoder: &mut BatchDecoder, limit: usize) {
    let options = DecodeOptions { check_crcs: false, max_decompressed_batch_bytes: limit };
    for raw in Batches::new(bytes).flatten() {
        let header = raw.header;
        let compressed = header.compression != Compression::None;
        assert!(raw.decompressed_estimate(limit) <= limit);
        let Ok(batch) = raw.decode(decoder, options) else { continue };
        assert!(!compressed || header.magic < 2 || batch.data().len() <= limit);
        let mut last = -1;
        let mut count = 0;
        for record in &batch {
            assert!(record.offset() > last && record.offset() < batch.header().next_offset());
            last = record.offset();
            count += 1;
            assert_eq!(record.headers().count(), record.headers().len());
            let _ = (record.key(), record.value(), record.timestamp(), record.sequence());
        }
        assert_eq!(count, batch.record_count());
        let _ = batch.control_records().count();
    }
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, from: usize) {
    for _ in 0..=rng.below(3) {
        let at = from + rng.below((bytes.len() - from) as u64) as usize;
        match rng.below(6) {
            0 => bytes[at] = 0,
            1 => bytes[at] = 0xff,
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] ^= 1 << rng.below(8),
            4 => bytes.truncate((at + 1).max(from + 1)),
            _ => bytes[at] = rng.next() as u8,
        }
    }
}

/// Batches of magic 2, every codec: damaged in the header, in the stream, and inside the records before
/// compression.
#[test]
fn damaged_batches_never_panic_or_outgrow_the_limit() {
    let mut rng = Rng(7);
    let mut decoder = BatchDecoder::new();
    for round in 0..4_000 {
        let compression = Compression::ALL[round % 5];
        let mut writer = BatchWriter::new().base_offset(1_000).control(rng.below(10) == 0);
        for i in 0..rng.below(12) as i64 {
            let (key, value) = (rng.bytes(8), rng.bytes(200));
            writer.append(i, key.as_deref(), value.as_deref(), &[(b"h", Some(b"v"))]).unwrap();
        }
        let plain = writer.finish().to_vec();
        let mut bytes = if rng.below(2) == 0 && plain.len() > 70 {
            let mut payload = plain[header::HEADER_SIZE..].to_vec();
            damage(&mut rng, &mut payload, 0);
            let stream = codec::compress(compression, &payload).unwrap_or(payload);
            let count = i32::from_be_bytes(plain[57..61].try_into().unwrap());
            assemble(compression.id(), count.max(1) - 1, count, &stream).to_vec()
        } else {
            let payload = &plain[header::HEADER_SIZE..];
            let stream = codec::compress(compression, payload).unwrap_or_else(|| payload.to_vec());
            let count = i32::from_be_bytes(plain[57..61].try_into().unwrap());
            let mut bytes = assemble(compression.id(), count.max(1) - 1, count, &stream).to_vec();
            let from = if rng.below(2) == 0 { 17 } else { header::HEADER_SIZE.min(bytes.len() - 1) };
            damage(&mut rng, &mut bytes, from);
            let length = bytes.len().saturating_sub(12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        if bytes.len() > 21 {
            seal(&mut bytes);
        }
        check(Bytes::from(bytes), &mut decoder, 1 << 16);
    }
}

/// Bytes that never were a batch.
#[test]
fn random_bytes_never_panic() {
    let mut rng = Rng(11);
    let mut decoder = BatchDecoder::new();
    for _ in 0..4_000 {
        let mut bytes: Vec<u8> = (0..rng.below(300)).map(|_| rng.next() as u8).collect();
        if bytes.len() > 20 {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[0] &= 0x7f;
            bytes[16] = rng.below(4) as u8;
        }
        check(Bytes::from(bytes), &mut decoder, 1 << 16);
    }
}
