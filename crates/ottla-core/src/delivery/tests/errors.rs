//! Errors of one partition, and of all (design §6, "Errors").

use bytes::{Bytes, BytesMut};
use ottla_wire::records::Compression;

use super::support::*;
use crate::delivery::*;
use crate::{Error, ErrorKind};

/// The batch with one byte of its records flipped.
fn corrupt(batch: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    bytes.freeze()
}

#[test]
fn a_corrupt_batch_stops_only_its_partition_and_is_told_once_with_where_to_resume() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    rig.push(0, joined([data(0, 2), corrupt(&data(2, 3)), data(5, 2)]));
    rig.push(1, data(0, 1));
    assert_eq!(offsets(&rig.batch()), [0, 1], "what lies before it is returned");
    assert_eq!(rig.batch().partition(), 1);
    let error = rig.error();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!((error.topic_partition(), error.resume_at()), (Some(&tp(0)), Some(5)));
    assert!(!error.is_fatal() && std::error::Error::source(&error).is_some());
    rig.pending();
    assert_eq!(rig.position(0), Some(2), "an error moves no position");
    assert_eq!(rig.lock().fetchable().len(), 1, "only partition 1");
    rig.push(1, data(1, 1));
    assert_eq!(offsets(&rig.batch()), [1], "the others go on");
    // Skipped by a seek.
    rig.seek(0, 5);
    rig.push(0, data(5, 2));
    assert_eq!(offsets(&rig.batch()), [5, 6]);
}

#[test]
fn nothing_behind_a_corrupt_batch_is_committed() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 2), corrupt(&data(2, 3))]));
    drop(rig.batch());
    rig.error();
    rig.pending();
    assert_eq!(rig.committable(), [(0, 2)]);
}

#[test]
fn a_corrupt_batch_is_read_if_checksums_are_not_asked_for() {
    let mut rig = Rig::new(DeliveryConfig { check_crcs: false, ..auto() });
    rig.own(0, 0);
    rig.push(0, corrupt(&data(0, 3)));
    assert_eq!(rig.batch().len(), 3);
}

#[test]
fn the_checksum_of_aborted_and_control_batches_counts_too() {
    let abort = ottla_wire::records::ControlRecord::Abort;
    for bad in [transactional(2, 3, 1), marker(2, 1, abort)] {
        let mut rig = Rig::new(read_committed());
        rig.own(0, 0);
        let records = joined([data(0, 2), corrupt(&bad)]);
        let fetched = Fetched { aborted: vec![(1, 2)], ..rig.fetched(0, records) };
        rig.lock().push(rig.now, fetched);
        rig.batch();
        assert_eq!(rig.error().kind(), ErrorKind::Corrupt);
        assert_eq!(rig.position(0), Some(2));
    }
}

#[test]
fn a_batch_over_the_limit_is_limit_and_names_the_setting() {
    let mut rig = Rig::new(DeliveryConfig { max_decompressed_batch_bytes: 1000, ..auto() });
    rig.own(0, 0);
    rig.push(0, compressed(0, 10, 1000));
    let error = rig.error();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("max_decompressed_batch_bytes"), "{error}");
    assert_eq!(error.resume_at(), Some(10));
}

#[test]
fn bytes_that_are_no_batch_stop_the_partition_after_the_data_before() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let mut newer = BytesMut::from(&data(2, 1)[..]);
    newer[16] = 3;
    assert_eq!(rig.push(0, joined([data(0, 2), newer.freeze()])), Pushed::Stopped);
    assert_eq!(rig.push(0, data(2, 1)), Pushed::Stopped);
    rig.batch();
    assert_eq!(rig.error().kind(), ErrorKind::Unsupported);
    rig.pending();
}

#[test]
fn an_unknown_codec_is_unsupported() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let mut bytes = BytesMut::from(&data(0, 3)[..]);
    bytes[22] |= 7;
    rig.push(0, bytes.freeze());
    let error = rig.error();
    assert_eq!((error.kind(), error.resume_at()), (ErrorKind::Unsupported, Some(3)));
    assert!(Compression::from_id(7).is_none());
}

#[test]
fn a_failed_fetch_stops_the_partition_after_its_data() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 0);
    rig.push(0, data(0, 2));
    let error = Error::new(ErrorKind::Authorization, "not allowed");
    assert!(rig.lock().fail(&tp(0), epoch, error.clone()));
    assert_eq!(rig.batch().len(), 2);
    let told = rig.error();
    assert_eq!((told.kind(), told.topic_partition()), (ErrorKind::Authorization, Some(&tp(0))));
    rig.pending();
    rig.seek(0, 0);
    assert!(!rig.lock().fail(&tp(0), epoch, error), "of another ownership");
    rig.pending();
}

#[test]
fn a_partition_without_a_start_can_fail_too() {
    let mut rig = Rig::new(auto());
    let epoch = rig.lock().assign(rig.now, &[tp(0)])[0].1;
    rig.lock().fail(&tp(0), epoch, Error::new(ErrorKind::NoOffset, "none"));
    assert_eq!(rig.error().kind(), ErrorKind::NoOffset);
    rig.pending();
    assert_eq!(rig.position(0), None, "it never had one");
}

#[test]
fn a_fatal_error_repeats_and_ends_everything() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 2), data(2, 2)]));
    let batch = rig.batch_of(2);
    rig.lock().fail_all(Error::new(ErrorKind::Fenced, "another member took our place"));
    for _ in 0..3 {
        let error = rig.error();
        assert!(error.is_fatal() && error.kind() == ErrorKind::Fenced);
    }
    assert!(!batch.is_owned());
    assert_eq!((rig.owned().len(), rig.buffered()), (0, 0));
    rig.lock().fail_all(Error::new(ErrorKind::Closed, "later"));
    assert_eq!(rig.error().kind(), ErrorKind::Fenced, "the first one is the reason");
    assert_eq!(rig.lock().poll_deadline(), None);
}

#[test]
fn an_error_of_no_partition_is_told_once() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 1));
    rig.lock().report(Error::new(ErrorKind::Unsupported, "the broker is too old"));
    assert_eq!(rig.error().kind(), ErrorKind::Unsupported);
    assert_eq!(rig.batch().len(), 1);
}

#[test]
fn the_error_of_a_paused_partition_waits_with_its_data() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 0);
    rig.push(0, data(0, 2));
    rig.lock().pause(&[tp(0)]);
    rig.lock().fail(&tp(0), epoch, Error::new(ErrorKind::Corrupt, "bad"));
    rig.pending();
    assert_eq!(rig.lock().evict_paused(1 << 20), 0, "it would not be fetched again");
    rig.lock().resume(rig.now, &[tp(0)]);
    assert_eq!(rig.batch().len(), 2);
    rig.error();
}

#[test]
fn what_a_token_or_record_prints_holds_no_content() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let mut writer = writer(0);
    writer.append(0, Some(b"secret"), Some(b"secret"), &[(b"secret", None)]).unwrap();
    rig.push(0, writer.finish());
    let batch = rig.batch();
    let record = batch.records().next().unwrap();
    let printed = format!("{batch:?} {record:?} {:?} {:?} {:?}", batch.iter(), batch.token(), rig.lock());
    assert!(!printed.contains("secret"), "{printed}");
}
