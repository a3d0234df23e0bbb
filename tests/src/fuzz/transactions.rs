//! The read_committed filter against a model that looks at everything that came before.

use ottla_wire::records::{AbortedTransactions, BatchHeader, Compression, ControlRecord, TimestampType};

use super::input::Input;

/// A batch as far as the filter looks.
#[derive(Clone, Copy, Debug)]
struct Seen {
    header: BatchHeader,
    control: Option<ControlRecord>,
}

fn header(base_offset: i64, last_offset: i64, producer_id: i64, transactional: bool) -> BatchHeader {
    BatchHeader {
        base_offset,
        last_offset,
        partition_leader_epoch: 0,
        magic: 2,
        attributes: 0,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        is_transactional: transactional,
        is_control: false,
        has_delete_horizon: false,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: 0,
        base_sequence: 0,
        record_count: 1,
        crc: 0,
        size: 100,
    }
}

/// Aborted, if the list has a transaction of this producer that began at or before the end of the batch, and no
/// abort marker of the producer lies between that beginning and the batch.
fn is_aborted(list: &[(i64, i64)], before: &[Seen], batch: &Seen) -> bool {
    let producer = batch.header.producer_id;
    let ended = |first: i64| {
        before.iter().any(|seen| {
            seen.header.producer_id == producer
                && seen.control == Some(ControlRecord::Abort)
                && seen.header.last_offset >= first
        })
    };
    batch.header.is_transactional
        && producer >= 0
        && list
            .iter()
            .any(|(id, first)| *id == producer && *first <= batch.header.last_offset && !ended(*first))
}

/// A list in any order, with repetitions and unknown producers, and batches with rising offsets.
pub fn read_committed(data: &[u8]) {
    let mut input = Input(data);
    let producer = |input: &mut Input<'_>| i64::from(input.byte() % 5) - 1;
    let list: Vec<(i64, i64)> =
        (0..input.below(12)).map(|_| (producer(&mut input), i64::from(input.number()))).collect();
    let mut filter = AbortedTransactions::new(list.iter().copied());
    let mut before: Vec<Seen> = Vec::new();
    let mut offset = 0;
    while !input.is_empty() && before.len() < 200 {
        let kind = input.byte();
        let last = offset + i64::from(kind >> 4);
        let mut seen =
            Seen { header: header(offset, last, producer(&mut input), kind & 1 == 1), control: None };
        if kind & 2 == 2 {
            seen.header.is_control = true;
            seen.control = Some(match kind >> 2 & 3 {
                0 | 1 => ControlRecord::Abort,
                2 => ControlRecord::Commit,
                _ => ControlRecord::Other(2),
            });
        }
        let aborted = filter.is_aborted(&seen.header, seen.control);
        // Of control batches nothing is handed out, whatever the answer.
        if !seen.header.is_control {
            assert_eq!(aborted, is_aborted(&list, &before, &seen), "{list:?} at {seen:?} after {before:?}");
        }
        before.push(seen);
        offset = last + 1 + i64::from(kind >> 6);
    }
}
