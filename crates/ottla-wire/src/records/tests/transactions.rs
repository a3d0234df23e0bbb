//! KIP-98: control records and what `read_committed` leaves out.

use super::*;

fn header(producer_id: i64, base_offset: i64, last_offset: i64) -> BatchHeader {
    let bytes = BatchWriter::new()
        .base_offset(base_offset)
        .last_offset_delta((last_offset - base_offset) as i32)
        .producer(producer_id, 0, 0)
        .transactional(true)
        .finish();
    one(bytes).header
}

fn markers(producer_id: i64, offset: i64, kinds: &[ControlRecord]) -> Batch {
    let mut writer =
        BatchWriter::new().base_offset(offset).producer(producer_id, 0, -1).transactional(true).control(true);
    for kind in kinds {
        writer.append(0, Some(&kind.key()), Some(&ControlRecord::marker_value(1)), NO_HEADERS).unwrap();
    }
    decode(writer.finish()).unwrap()
}

/// An aborted transaction ends at its marker; the list need not be sorted, may hold duplicates and producers
/// that never show up.
#[test]
fn aborted_batches_are_left_out_up_to_the_marker() {
    let mut aborted = AbortedTransactions::new([(1, 50), (2, 5), (1, 10), (1, 10), (77, 0)]);
    assert!(!aborted.is_aborted(&header(1, 0, 4), None), "before its transaction");
    assert!(aborted.is_aborted(&header(2, 5, 9), None));
    assert!(aborted.is_aborted(&header(1, 10, 12), None));
    assert!(!aborted.is_aborted(&header(3, 13, 13), None), "another producer");
    assert!(!aborted.is_batch_aborted(&markers(1, 14, &[ControlRecord::Abort])));
    assert!(!aborted.is_aborted(&header(1, 15, 20), None), "the next transaction commits");
    assert!(aborted.is_aborted(&header(2, 21, 22), None), "still open");
    assert!(!aborted.is_batch_aborted(&markers(1, 23, &[ControlRecord::Commit])));
    assert!(aborted.is_aborted(&header(1, 50, 51), None), "aborted again");
}

/// Batches that are not transactional, or have no producer, are never left out.
#[test]
fn plain_batches_are_never_aborted() {
    let mut aborted = AbortedTransactions::new([(1, 0), (-1, 0)]);
    let mut plain = header(1, 0, 5);
    plain.is_transactional = false;
    assert!(!aborted.is_aborted(&plain, None));
    assert!(!aborted.is_aborted(&header(-1, 0, 5), None));
}

/// Several markers in one batch are legal, and a second abort marker is no harm.
#[test]
fn several_markers_in_one_batch() {
    use ControlRecord::{Abort, Commit, Other};
    for kinds in [&[Abort, Abort][..], &[Commit, Abort], &[Abort, Commit], &[Other(9), Abort]] {
        let mut aborted = AbortedTransactions::new([(1, 0)]);
        assert!(aborted.is_aborted(&header(1, 0, 1), None));
        aborted.is_batch_aborted(&markers(1, 2, kinds));
        assert!(!aborted.is_aborted(&header(1, 9, 9), None), "{kinds:?}");
        aborted.is_batch_aborted(&markers(1, 10, kinds));
    }
}

/// A control batch emptied by compaction says nothing, and moves the position.
#[test]
fn an_emptied_control_batch_says_nothing() {
    let batch = markers(1, 2, &[]);
    assert_eq!(batch.control_records().count(), 0);
    assert_eq!(batch.header().next_offset(), 3);
    assert!(!AbortedTransactions::new([]).is_batch_aborted(&batch));
}

/// The filter agrees with the definition, evaluated naively, on random logs.
#[test]
fn the_filter_agrees_with_a_naive_model() {
    let mut rng = Rng(42);
    for _ in 0..500 {
        let mut log = Vec::new();
        let mut list = Vec::new();
        let mut open: Vec<Option<i64>> = vec![None; 4];
        for offset in 0..40i64 {
            let producer = rng.below(4) as usize;
            match (rng.below(3), open[producer]) {
                (0, Some(first)) => {
                    let kind = if rng.below(2) == 0 { ControlRecord::Abort } else { ControlRecord::Commit };
                    if kind == ControlRecord::Abort {
                        list.push((producer as i64, first));
                    }
                    open[producer] = None;
                    log.push((producer as i64, offset, Some(kind)));
                }
                _ => {
                    open[producer].get_or_insert(offset);
                    log.push((producer as i64, offset, None));
                }
            }
        }
        // Data is aborted if the next marker of its producer aborts.
        let naive = |at: usize| {
            let (producer, _, _) = log[at];
            log[at..].iter().filter(|(p, _, _)| *p == producer).find_map(|(_, _, kind)| *kind)
                == Some(ControlRecord::Abort)
        };
        let shift = rng.below(list.len() as u64 + 1) as usize;
        list.rotate_left(shift);
        let mut aborted = AbortedTransactions::new(list);
        for at in 0..log.len() {
            let (producer, offset, kind) = log[at];
            let mut header = header(producer, offset, offset);
            header.is_control = kind.is_some();
            let left_out = aborted.is_aborted(&header, kind);
            if kind.is_none() {
                assert_eq!(left_out, naive(at), "offset {offset} of {log:?}");
            }
        }
    }
}

/// Keys of control records: version and type; what cannot be read is an error, what is unknown is not.
#[test]
fn control_record_keys() {
    assert_eq!(ControlRecord::parse(Some(&[0, 0, 0, 0])), Ok(ControlRecord::Abort));
    assert_eq!(ControlRecord::parse(Some(&[0, 7, 0, 1, 99])), Ok(ControlRecord::Commit));
    assert_eq!(ControlRecord::parse(Some(&[0, 0, 0, 2])), Ok(ControlRecord::Other(2)));
    assert_eq!(ControlRecord::parse(Some(&[0, 0, 0xff, 0xff])), Ok(ControlRecord::Other(-1)));
    for key in [None, Some(&[][..]), Some(&[0, 0, 0]), Some(&[0xff, 0xff, 0, 0])] {
        assert!(ControlRecord::parse(key).is_err(), "{key:?}");
    }
    assert_eq!(ControlRecord::coordinator_epoch(Some(&[0, 0, 0, 0, 0, 5])), Ok(5));
    for value in [None, Some(&[0, 0, 0][..]), Some(&[0xff, 0xff, 0, 0, 0, 0])] {
        assert!(ControlRecord::coordinator_epoch(value).is_err(), "{value:?}");
    }
}
