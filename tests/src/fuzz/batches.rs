//! Record batches: what is accepted can be walked, moves on, and is what a naive reader makes of it.

use bytes::Bytes;
use ottla_wire::records::{
    AbortedTransactions, Batch, BatchDecoder, BatchError, Batches, Compression, ControlRecord, DecodeOptions,
    RawBatch, RecordCursor,
};

use super::input::Input;
use super::legacy;
use crate::heap::{allowed, measure};

/// A record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn plain(batch: &Batch) -> Vec<Plain> {
    let owned = |record: ottla_wire::records::RecordRef<'_>| Plain {
        offset: record.offset(),
        timestamp: record.timestamp(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect(),
    };
    batch.iter().map(owned).collect()
}

/// The naive reader: copies everything, checks every step, knows nothing of how ottla does it.
mod naive {
    use super::{Input, Plain};

    fn take<'a>(input: &mut Input<'a>, length: i64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        (length <= input.0.len()).then(|| input.take(length))
    }

    /// A zigzag varint of at most `bits` bits.
    fn varint(input: &mut Input<'_>, bits: u32) -> Option<i64> {
        let mut value: u128 = 0;
        for shift in (0..bits).step_by(7) {
            let byte = *take(input, 1)?.first()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // What does not fit is cut off, as in Java.
                let value = if bits == 32 { u64::from(value as u32) } else { value as u64 };
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    fn nullable<'a>(input: &mut Input<'a>) -> Option<Option<&'a [u8]>> {
        let length = varint(input, 32)?;
        if length < 0 { Some(None) } else { take(input, length).map(Some) }
    }

    fn record(input: &mut Input<'_>, header: &ottla_wire::records::BatchHeader) -> Option<Plain> {
        let length = varint(input, 32)?;
        let mut body = Input(take(input, length)?);
        take(&mut body, 1)?;
        let timestamp = varint(&mut body, 64)?;
        let offset = varint(&mut body, 32)?;
        let key = nullable(&mut body)?.map(<[u8]>::to_vec);
        let value = nullable(&mut body)?.map(<[u8]>::to_vec);
        let count = varint(&mut body, 32)?;
        if count < 0 {
            return None;
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let key = nullable(&mut body)??.to_vec();
            headers.push((key, nullable(&mut body)?.map(<[u8]>::to_vec)));
        }
        let append_time = header.attributes & 8 != 0;
        let timestamp =
            if append_time { header.max_timestamp } else { header.base_timestamp.wrapping_add(timestamp) };
        let read = Plain { offset: header.base_offset + offset, timestamp, key, value, headers };
        body.is_empty().then_some(read)
    }

    /// The records of an uncompressed batch of magic 2; `None` when it is damaged.
    pub(super) fn records(payload: &[u8], header: &ottla_wire::records::BatchHeader) -> Option<Vec<Plain>> {
        let mut input = Input(payload);
        let mut records: Vec<Plain> = Vec::new();
        for _ in 0..header.record_count {
            let next = record(&mut input, header)?;
            let after = records.last().map_or(header.base_offset - 1, |record| record.offset);
            if next.offset <= after || next.offset > header.last_offset {
                return None;
            }
            records.push(next);
        }
        input.is_empty().then_some(records)
    }
}

const OPTIONS: DecodeOptions = DecodeOptions { check_crcs: false, max_decompressed_batch_bytes: 1 << 20 };

/// Walks `records`: every entry is at least as large as the smallest there is, so the walk is bounded by the bytes.
fn walk(records: &Bytes) -> Vec<Result<RawBatch, BatchError>> {
    let mut batches = Batches::new(records.clone());
    let mut found = Vec::new();
    let mut left = batches.trailing();
    while let Some(next) = batches.next() {
        assert!(batches.trailing() < left, "no progress at {left}");
        left = batches.trailing();
        found.push(next);
    }
    // The last one may be an error about what is shorter.
    assert!(found.len() <= records.len() / 26 + 1, "{} batches of {} bytes", found.len(), records.len());
    assert!(batches.next().is_none(), "a walk that has ended goes on");
    found
}

/// What holds of any batch that was decoded.
fn is_sound(raw: &RawBatch, batch: &Batch) {
    let header = batch.header();
    assert!(header.base_offset >= 0 && header.last_offset < i64::MAX);
    assert!(header.next_offset() > header.last_offset);
    assert_eq!(batch.iter().count(), batch.record_count(), "fewer records than it says");
    let mut before = header.base_offset - 1;
    for record in batch {
        assert!(record.offset() > before && record.offset() <= header.last_offset, "offsets do not rise");
        before = record.offset();
        assert_eq!(record.headers().count(), record.headers().len(), "fewer headers than it says");
        let at = |range: Option<std::ops::Range<usize>>| range.map(|range| &batch.data()[range]);
        assert_eq!((at(record.key_range()), at(record.value_range())), (record.key(), record.value()));
        assert!(at(Some(record.headers_range())).is_some() && at(Some(record.range())).is_some());
        assert_eq!(record.sequence().is_some(), header.base_sequence >= 0);
        assert!(record.headers().all(|(key, _)| key.as_str().map_or(true, |text| key == text)));
    }
    assert_eq!(header.delete_horizon_ms().is_some(), header.has_delete_horizon);
    // A negative one other than -1 is hostile, and may come to anything.
    assert!(header.base_sequence < 0 || header.last_sequence() >= 0);
    // Without a list nothing is aborted; markers are read, whatever they say.
    assert!(!AbortedTransactions::new([]).is_batch_aborted(batch));
    for (record, control) in batch.iter().zip(batch.control_records()) {
        let epoch = ControlRecord::coordinator_epoch(record.value());
        if let (Ok(control), Ok(epoch)) = (control, epoch) {
            assert_eq!(ControlRecord::parse(Some(&control.key())), Ok(control));
            assert_eq!(
                ControlRecord::coordinator_epoch(Some(&ControlRecord::marker_value(epoch))),
                Ok(epoch)
            );
        }
    }
    assert!(header.next_offset() >= raw.header.next_offset() || raw.header.magic < 2, "goes back");
}

/// Read piece by piece, from memory of its own, or record by record: always the same.
fn lazy_is_eager(batch: &Batch, mut pieces: Input<'_>) {
    let eager = plain(batch);
    assert_eq!(plain(&batch.detached()), eager);
    let mut cursor = RecordCursor::default();
    let mut at = 0;
    while at < eager.len() {
        let mut records = batch.iter_from(cursor);
        let count = 1 + usize::from(pieces.byte());
        for record in records.by_ref().take(count) {
            assert_eq!(record.offset(), eager[at].offset);
            let again = batch.record_at(&record.span());
            assert_eq!((again.key(), again.value()), (record.key(), record.value()));
            assert_eq!(again.key(), eager[at].key.as_deref());
            assert_eq!(again.value(), eager[at].value.as_deref());
            at += 1;
        }
        cursor = records.cursor();
        assert_eq!(cursor.index(), at);
    }
    assert_eq!(cursor.position(), if eager.is_empty() { 0 } else { batch.data().len() });
}

/// `records` fields of any bytes, checksums not looked at: batches of magic 2 against the naive reader.
pub fn v2(data: &[u8]) {
    let records = Bytes::copy_from_slice(data);
    let mut decoder = BatchDecoder::new();
    for raw in walk(&records).into_iter().flatten().filter(|raw| raw.header.magic == 2) {
        let plainly = raw.header.compression == Compression::None;
        let payload = raw.bytes().slice(61..);
        let (decoded, heap) = measure(|| raw.clone().decode(&mut decoder, OPTIONS));
        if plainly {
            assert_eq!(heap.asked, 0, "an uncompressed batch is copied");
            let expected = naive::records(&payload, &raw.header);
            assert_eq!(decoded.as_ref().ok().map(plain), expected);
        } else {
            let most = allowed(raw.bytes().len()) + 3 * OPTIONS.max_decompressed_batch_bytes;
            assert!(heap.peak <= most, "{} bytes for {}", heap.peak, raw.bytes().len());
        }
        if let Ok(batch) = decoded {
            is_sound(&raw, &batch);
        }
    }
}

/// `records` fields of any bytes and any formats mixed, read lazily: the first byte says how many of the next say
/// in what pieces.
pub fn lazy(data: &[u8]) {
    let mut input = Input(data);
    let pieces = Input(input.some());
    let records = Bytes::copy_from_slice(input.rest());
    let mut decoder = BatchDecoder::new();
    for raw in walk(&records).into_iter().flatten() {
        if let Ok(batch) = raw.clone().decode(&mut decoder, OPTIONS) {
            is_sound(&raw, &batch);
            lazy_is_eager(&batch, pieces);
            assert_eq!(
                batch.control_records().next().is_some(),
                raw.header.is_control && batch.record_count() > 0
            );
        }
        let with_crc = DecodeOptions { check_crcs: true, ..OPTIONS };
        let checked = raw.clone().decode(&mut decoder, with_crc);
        assert!(checked.is_err() || raw.verify_crc().is_ok(), "a wrong checksum passes");
        assert!(
            raw.decompressed_estimate(OPTIONS.max_decompressed_batch_bytes)
                <= OPTIONS.max_decompressed_batch_bytes
        );
    }
}

/// Message sets of magic 0 and 1. The first byte says whether the rest is one (0) or says what is in one (1), which
/// is then to be read as it was written.
pub fn legacy(data: &[u8]) {
    let mut input = Input(data);
    if input.below(2) == 1 {
        let set = legacy::Set::new(&mut input);
        let raws = walk(&set.encode());
        let [Ok(raw)] = &raws[..] else { panic!("{set:?} is {raws:?}") };
        let with_crc = DecodeOptions { check_crcs: true, ..OPTIONS };
        let batch =
            raw.clone().decode(&mut BatchDecoder::new(), with_crc).unwrap_or_else(|e| panic!("{set:?}: {e}"));
        is_sound(raw, &batch);
        assert_eq!(plain(&batch), set.records(), "{set:?}");
        return;
    }
    let records = Bytes::copy_from_slice(input.rest());
    for raw in walk(&records).into_iter().flatten().filter(|raw| raw.header.magic < 2) {
        let (decoded, heap) = measure(|| raw.clone().decode(&mut BatchDecoder::new(), OPTIONS));
        if raw.header.compression == Compression::None {
            assert!(heap.asked <= allowed(raw.bytes().len()), "{} bytes", heap.asked);
            assert_eq!(decoded.as_ref().ok().map(plain), legacy::naive(raw.bytes()));
        } else {
            let most = allowed(raw.bytes().len()) + 8 * OPTIONS.max_decompressed_batch_bytes;
            assert!(heap.peak <= most, "{} bytes for {}", heap.peak, raw.bytes().len());
        }
        if let Ok(batch) = decoded {
            is_sound(&raw, &batch);
        }
    }
}
