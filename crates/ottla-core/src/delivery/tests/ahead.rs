//! Decoding ahead: the order stays, whoever decodes, and what is decoded in vain is dropped.

use super::support::*;
use crate::delivery::*;

fn rig() -> Rig {
    let rig = Rig::new(DeliveryConfig { decode_ahead_bytes: 1 << 20, ..auto() });
    rig.own(0, 0);
    rig
}

fn offsets(batch: &Batch) -> Vec<i64> {
    batch.iter().map(|record| record.offset()).collect()
}

/// Batches of ten records.
fn batches(count: i64) -> bytes::Bytes {
    joined((0..count).map(|i| compressed(i * 10, 10, 100)))
}

fn run(job: DecodeJob) {
    job.run(&mut BatchDecoder::new());
}

#[test]
fn batches_that_were_decoded_in_any_order_come_in_theirs() {
    let mut rig = rig();
    rig.push(0, batches(4));
    let jobs: Vec<_> = std::iter::from_fn(|| rig.shared.next_decode_job()).collect();
    assert_eq!(jobs.len(), 4);
    for job in jobs.into_iter().rev() {
        run(job);
    }
    assert_eq!(offsets(&rig.batch()), (0..40).collect::<Vec<_>>());
    rig.take();
    assert_eq!((rig.buffered(), rig.pinned()), (0, 0));
}

#[test]
fn a_reader_that_comes_to_a_running_job_gets_what_lies_before_it_and_then_waits_for_its_end() {
    let mut rig = rig();
    rig.push(0, batches(3));
    let (first, second) = (rig.shared.next_decode_job().unwrap(), rig.shared.next_decode_job().unwrap());
    run(first);
    assert_eq!(offsets(&rig.batch()), (0..10).collect::<Vec<_>>());
    let (waker, woken) = waker();
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
    assert_eq!(rig.lock().poll_deadline(), None, "nothing is there to be taken");
    assert_eq!(woken.count(), 0);
    assert!(rig.shared.next_decode_job().is_none(), "the reader has decoded the last one meanwhile");
    run(second);
    assert_eq!(woken.count(), 1);
    assert_eq!(offsets(&rig.batch()), (10..30).collect::<Vec<_>>());
}

#[test]
fn single_records_wait_for_a_running_job_too() {
    let mut rig = rig();
    rig.push(0, batches(1));
    let job = rig.shared.next_decode_job().unwrap();
    let (waker, woken) = waker();
    let mut reader = RecordReader::new();
    let Rig { shared, decoder, now, .. } = &mut rig;
    assert!(matches!(shared.take_record(|| *now, decoder, &mut reader, Some(&waker)), Taken::Pending));
    run(job);
    assert_eq!(woken.count(), 1);
    for offset in 0..10 {
        let taken = shared.take_record(|| *now, decoder, &mut reader, None);
        assert!(matches!(taken, Taken::Record(record) if record.offset() == offset));
    }
}

#[test]
fn a_job_that_is_dropped_is_left_to_the_reader() {
    let mut rig = rig();
    rig.push(0, batches(2));
    let job = rig.shared.next_decode_job().unwrap();
    let (waker, woken) = waker();
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
    drop(job);
    assert_eq!(woken.count(), 1);
    assert_eq!(offsets(&rig.batch()), (0..20).collect::<Vec<_>>());
}

#[test]
fn what_is_decoded_for_an_ownership_that_is_over_is_dropped() {
    let mut rig = rig();
    rig.push(0, batches(2));
    let job = rig.shared.next_decode_job().unwrap();
    assert!(matches!(rig.take(), Taken::Pending));
    rig.seek(0, 500);
    run(job);
    assert_eq!(rig.buffered(), 0);
    assert!(matches!(rig.take(), Taken::Pending));
    rig.push(0, compressed(500, 10, 100));
    assert_eq!(offsets(&rig.batch()), (500..510).collect::<Vec<_>>());
}

#[test]
fn what_is_held_ahead_is_bounded_and_its_share_is_not_fetched_into() {
    const LIMIT: usize = 400_000;
    let config = DeliveryConfig { decode_ahead_bytes: LIMIT / 4, max_buffered_bytes: LIMIT, ..auto() };
    let mut rig = Rig::new(config);
    rig.own(0, 0);
    assert_eq!(rig.lock().room(), LIMIT - LIMIT / 4);
    rig.push(0, joined((0..40).map(|i| compressed(i * 10, 10, 1000))));
    let mut jobs = Vec::new();
    while let Some(job) = rig.shared.next_decode_job() {
        jobs.push(job);
    }
    let (running, frame) = (jobs.len(), rig.buffered());
    assert!((1..=10).contains(&running) && frame <= LIMIT, "{running} {frame}");
    jobs.into_iter().for_each(run);
    // They take less than was feared: there is room for more.
    let more: Vec<_> = std::iter::from_fn(|| rig.shared.next_decode_job()).collect();
    assert!(!more.is_empty());
    more.into_iter().for_each(run);
    assert!(rig.buffered() <= LIMIT, "{}", rig.buffered());
    let mut next = 0;
    while let Taken::Batch(batch) = rig.take() {
        assert_eq!(batch.first_offset(), next);
        next = batch.next_offset();
    }
    assert_eq!((next, rig.buffered()), (400, 0));
}

#[test]
fn a_batch_that_cannot_be_read_is_told_in_its_place_whoever_decoded_it() {
    let mut rig = rig();
    let mut bad = compressed(10, 10, 100).to_vec();
    *bad.last_mut().unwrap() ^= 1;
    rig.push(0, joined([compressed(0, 10, 100), bad.into(), compressed(20, 10, 100)]));
    while let Some(job) = rig.shared.next_decode_job() {
        run(job);
    }
    assert_eq!(offsets(&rig.batch()), (0..10).collect::<Vec<_>>());
    let Taken::Error(error) = rig.take() else { panic!("an error") };
    assert_eq!((error.kind(), error.resume_at()), (crate::ErrorKind::Corrupt, Some(20)));
    assert!(matches!(rig.take(), Taken::Pending));
    assert_eq!(rig.buffered(), 0);
}

#[test]
fn nothing_is_decoded_ahead_of_a_pause_or_a_reader_that_is_gone() {
    let rig = rig();
    rig.push(0, batches(2));
    rig.lock().pause(&[tp(0)]);
    assert!(rig.shared.next_decode_job().is_none());
    rig.lock().resume(rig.now, &[tp(0)]);
    assert!(rig.shared.next_decode_job().is_some());
    rig.lock().reader_gone();
    assert!(rig.shared.next_decode_job().is_none());
}

#[test]
fn whoever_decodes_is_woken_when_there_is_something_for_it() {
    let mut rig = rig();
    let (waker, woken) = waker();
    rig.shared.set_decoder_waker(waker);
    assert!(rig.shared.next_decode_job().is_none());
    rig.push(0, data(0, 10));
    assert_eq!(woken.count(), 0, "not compressed");
    rig.push(0, compressed(10, 10, 100));
    assert_eq!(woken.count(), 1);
    rig.push(0, compressed(20, 10, 100));
    assert_eq!(woken.count(), 0, "it was told and has not come yet");
    while rig.shared.next_decode_job().is_some() {}
    rig.batch();
    rig.lock().pause(&[tp(0)]);
    rig.push(0, compressed(30, 10, 100));
    woken.count();
    assert!(rig.shared.next_decode_job().is_none());
    rig.lock().resume(rig.now, &[tp(0)]);
    assert_eq!(woken.count(), 1, "resumed");
}

#[test]
fn a_reader_that_waits_decodes_the_first_batch_itself() {
    let mut rig = rig();
    let (waker, _) = waker();
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
    rig.push(0, batches(1));
    assert!(rig.shared.next_decode_job().is_none());
    assert_eq!(rig.batch().len(), 10);
}
