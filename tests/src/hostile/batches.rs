//! Record batches by their bytes: finding them in an answer, and spoiling them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::PartitionData;
use ottla_broker::Api;

use crate::sim::Lie;

/// Where the fields of a batch of magic 2 lie.
pub mod field {
    use std::ops::Range;

    /// First offset.
    pub const BASE_OFFSET: Range<usize> = 0..8;
    /// Bytes behind this field.
    pub const LENGTH: Range<usize> = 8..12;
    /// Not covered by the checksum.
    pub const LEADER_EPOCH: Range<usize> = 12..16;
    /// The format.
    pub const MAGIC: Range<usize> = 16..17;
    /// CRC-32C of all that follows.
    pub const CRC: Range<usize> = 17..21;
    /// Codec, kind of time, transactional, control.
    pub const ATTRIBUTES: Range<usize> = 21..23;
    /// Last offset, counted from the first.
    pub const LAST_OFFSET_DELTA: Range<usize> = 23..27;
    /// How many records.
    pub const RECORD_COUNT: Range<usize> = 57..61;
    /// The header's end.
    pub const HEADER: usize = 61;
}

/// Partitions of a Fetch answer.
pub fn partitions(answer: &mut FetchResponse) -> impl Iterator<Item = &mut PartitionData> {
    answer.responses.iter_mut().flat_map(|t| &mut t.partitions)
}

/// Changes the batch that begins at `base`, wherever it is fetched from `partition`.
pub fn in_batch(partition: i32, base: i64, mut change: impl FnMut(&mut Vec<u8>) + 'static) -> Lie {
    Lie::in_message(Api::Fetch, move |answer: &mut FetchResponse| {
        for p in partitions(answer).filter(|p| p.partition_index == partition) {
            let Some(records) = &p.records else { continue };
            let mut out = BytesMut::new();
            for mut batch in split(records) {
                if batch[..8] == base.to_be_bytes() {
                    change(&mut batch);
                }
                out.extend_from_slice(&batch);
            }
            p.records = Some(out.freeze());
        }
    })
}

/// The whole batches; a rest that is cut off is left out, as any client does.
fn split(records: &Bytes) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut rest = &records[..];
    while let Some(length) = rest.get(field::LENGTH).and_then(|l| l.first_chunk::<4>()) {
        let size = 12 + u32::from_be_bytes(*length) as usize;
        let Some((batch, more)) = rest.split_at_checked(size) else { break };
        batches.push(batch.to_vec());
        rest = more;
    }
    batches
}

/// Puts `value` into a field and makes the checksum right again.
pub fn set(batch: &mut [u8], at: std::ops::Range<usize>, value: &[u8]) {
    batch[at].copy_from_slice(value);
    let crc = crc32c::crc32c(&batch[field::ATTRIBUTES.start..]);
    batch[field::CRC].copy_from_slice(&crc.to_be_bytes());
}
