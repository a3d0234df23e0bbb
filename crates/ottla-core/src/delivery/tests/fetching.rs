//! The driver's side: positions, provisional offsets, what is to be fetched (design §4, §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::{Bytes, BytesMut};

use super::support::*;
use crate::delivery::*;
use crate::{ErrorKind, LeaderEpoch};

fn at(batch: Bytes, base: i64) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.freeze()
}

#[test]
fn a_partition_is_fetched_from_its_start_and_on_from_what_came() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 10);
    let start = rig.lock().fetchable();
    assert_eq!(
        start,
        [FetchPosition {
            tp: tp(0),
            epoch,
            offset: 10,
            last_epoch: LeaderEpoch::from_wire(4),
            validated: None,
            buffered_bytes: 0,
            knows_end: false,
        }]
    );
    let records = data(10, 3);
    let bytes = records.len();
    assert_eq!(rig.push(0, records), Pushed::Accepted { next_fetch_offset: 13 });
    let next = rig.lock().fetch_position(&tp(0)).unwrap();
    assert_eq!((next.offset, next.buffered_bytes, next.last_epoch), (13, bytes, LeaderEpoch::from_wire(5)));
    rig.batch();
    assert_eq!(rig.lock().fetch_position(&tp(0)).unwrap().buffered_bytes, 0);
}

#[test]
fn only_what_has_a_position_and_may_be_read_is_fetched() {
    let rig = Rig::new(auto());
    for partition in 0..5 {
        rig.own(partition, 0);
    }
    rig.lock().assign(rig.now, &[tp(5)]);
    rig.lock().pause(&[tp(1)]);
    rig.revoke(2);
    rig.lock().lose(rig.now, &[tp(3)]);
    rig.lock().begin_seek(rig.now, &tp(4));
    let fetched: Vec<i32> = rig.lock().fetchable().iter().map(|p| p.tp.partition()).collect();
    assert_eq!(fetched, [0]);
    rig.lock().shutdown();
    assert_eq!(rig.lock().fetchable(), []);
}

#[test]
fn the_generation_tells_when_to_ask_again() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let mut last = rig.lock().fetch_generation();
    let mut changed = |rig: &Rig| {
        let now = rig.lock().fetch_generation();
        std::mem::replace(&mut last, now) != now
    };
    rig.push(0, data(0, 3));
    rig.batch();
    assert!(!changed(&rig), "neither a push nor a read");
    rig.lock().pause(&[tp(0)]);
    assert!(changed(&rig));
    rig.lock().resume(rig.now, &[tp(0)]);
    assert!(changed(&rig));
    rig.seek(0, 0);
    assert!(changed(&rig));
    rig.lock().lose(rig.now, &[tp(0)]);
    assert!(changed(&rig));
}

#[test]
fn an_answer_of_another_ownership_or_offset_is_stale() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    let answer = || rig.fetched(0, data(0, 3));
    let (first, again) = (answer(), answer());
    assert_eq!(rig.lock().push(rig.now, first), Pushed::Accepted { next_fetch_offset: 3 });
    assert_eq!(rig.lock().push(rig.now, again), Pushed::Stale, "of an offset that was fetched already");
    let old = rig.fetched(0, data(3, 1));
    rig.lock().lose(rig.now, &[tp(0)]);
    assert_eq!(rig.lock().push(rig.now, old), Pushed::Stale, "not owned");
    let old = {
        rig.own(0, 3);
        let old = rig.fetched(0, data(3, 1));
        rig.revoke(0);
        old
    };
    assert_eq!(rig.lock().push(rig.now, old), Pushed::Stale, "being revoked");
}

#[test]
fn less_than_one_batch_is_incomplete_and_a_cut_last_batch_is_normal() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let whole = data(0, 3);
    assert_eq!(rig.push(0, whole.slice(..whole.len() - 1)), Pushed::Incomplete);
    assert_eq!(rig.push(0, whole.slice(..5)), Pushed::Incomplete);
    assert_eq!(rig.push(0, Bytes::new()), Pushed::Empty);
    let cut = joined([data(0, 3), data(3, 3).slice(..20)]);
    assert_eq!(rig.push(0, cut), Pushed::Accepted { next_fetch_offset: 3 });
    assert_eq!(rig.batch().len(), 3);
}

#[test]
fn an_offset_above_the_high_watermark_is_asked_for_again_and_then_corrupt() {
    // The base offset is not covered by the checksum: one flipped bit, and librdkafka fetched at 8·10¹⁸.
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let bad = at(data(2, 3), 8_000_000_000_000_000_000);
    let pushed = rig.push(0, joined([data(0, 2), bad.clone()]));
    assert_eq!(pushed, Pushed::Accepted { next_fetch_offset: 2 }, "what lies before it is good");
    assert_eq!(rig.push(0, bad.clone()), Pushed::Suspect);
    assert_eq!(rig.push(0, bad.clone()), Pushed::Suspect);
    assert_eq!(rig.push(0, bad), Pushed::Stopped);
    assert_eq!(offsets(&rig.batch()), [0, 1]);
    let error = rig.error();
    assert_eq!((error.kind(), error.resume_at()), (ErrorKind::Corrupt, Some(5)));
    assert_eq!(rig.position(0), Some(2));
}

#[test]
fn a_high_watermark_that_was_read_before_the_log_does_no_harm() {
    // Kafka takes the high watermark first and reads the log after it: an append in between is in the answer.
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    assert_eq!(rig.push_up_to(0, data(0, 3), 2), Pushed::Suspect);
    assert_eq!(rig.push_up_to(0, data(0, 3), 3), Pushed::Accepted { next_fetch_offset: 3 });
    assert_eq!(rig.batch().len(), 3);
}

#[test]
fn batches_must_go_on_and_not_overlap() {
    for bad in [
        joined([at(data(0, 3), 3), at(data(0, 3), 0)]), // back
        joined([data(3, 3), at(data(0, 3), 5)]),        // into the one before
    ] {
        let mut rig = Rig::new(auto());
        rig.own(0, 3);
        assert_eq!(rig.push(0, bad), Pushed::Accepted { next_fetch_offset: 6 });
        for pushed in [Pushed::Suspect, Pushed::Suspect, Pushed::Stopped] {
            assert_eq!(rig.push(0, at(data(0, 3), 0)), pushed, "wholly below the offset: no progress");
        }
        rig.batch();
        assert_eq!(rig.error().kind(), ErrorKind::Corrupt);
    }
}

/// The base offset is not covered by the checksum: one flipped bit would hand records out at offsets of others, and
/// leave those out.
#[test]
fn of_two_batches_that_overlap_the_one_behind_a_gap_lies() {
    let honest = joined([data(0, 3), data(3, 3), data(6, 3)]);
    for (flipped, good) in [(1, 3), (4, 3), (5, 3)] {
        let mut rig = Rig::new(auto());
        rig.own(0, 0);
        let spoiled = joined([data(0, 3), at(data(3, 3), flipped), data(6, 3)]);
        assert_eq!(rig.push(0, spoiled), Pushed::Accepted { next_fetch_offset: good }, "{flipped}");
        assert_eq!(rig.push(0, joined([data(3, 3), data(6, 3)])), Pushed::Accepted { next_fetch_offset: 9 });
        assert_eq!(offsets(&rig.batch()), (0..9).collect::<Vec<_>>());
    }
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let spoiled = joined([at(data(0, 3), 2), data(3, 3), data(6, 3)]);
    assert_eq!(rig.push(0, spoiled.clone()), Pushed::Suspect, "the first of the response");
    assert_eq!(rig.push(0, spoiled.clone()), Pushed::Suspect);
    assert_eq!(rig.push(0, honest), Pushed::Accepted { next_fetch_offset: 9 }, "it was a bit on the way");
    rig.own(1, 0);
    for pushed in [Pushed::Suspect, Pushed::Suspect, Pushed::Stopped] {
        assert_eq!(rig.push(1, spoiled.clone()), pushed);
    }
    rig.batch();
    assert_eq!(rig.error().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_fetch_offset_is_provisional_until_all_below_it_was_verified() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    assert!(!rig.lock().is_provisional(&tp(0)));
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    assert!(rig.lock().is_provisional(&tp(0)));
    rig.batch_of(2);
    assert!(rig.lock().is_provisional(&tp(0)));
    rig.batch_of(1);
    rig.batch_of(1);
    assert!(!rig.lock().is_provisional(&tp(0)), "the rest was decoded, thus verified");
}

#[test]
fn a_provisional_offset_out_of_range_drops_the_prefetch_and_goes_back_to_what_is_verified() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 0);
    rig.push(0, data(0, 4));
    rig.batch_of(2);
    rig.push(0, data(4, 3));
    assert_eq!(rig.lock().drop_prefetch(&tp(0), epoch), Some(4));
    assert!(!rig.lock().is_provisional(&tp(0)));
    assert_eq!(rig.lock().fetchable()[0].offset, 4);
    // It is fetched again, but no further before the reader has verified it: no endless round.
    rig.push(0, data(4, 3));
    assert_eq!(rig.lock().fetchable(), []);
    assert_eq!(offsets(&rig.batch()), [2, 3, 4, 5, 6], "nothing was lost, nothing comes twice");
    assert_eq!(rig.lock().fetchable()[0].offset, 7);
    rig.push(0, data(7, 1));
    assert_eq!(rig.lock().fetchable()[0].offset, 8, "and the next is fetched ahead again");
}

#[test]
fn dropping_all_of_the_prefetch_goes_back_to_the_position() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 5);
    rig.push(0, joined([data(5, 4), data(9, 4)]));
    assert_eq!(rig.lock().drop_prefetch(&tp(0), epoch), Some(5));
    assert_eq!((rig.position(0), rig.buffered()), (Some(5), 0));
    assert_eq!(rig.lock().drop_prefetch(&tp(0), crate::OwnershipEpoch(99)), None);
    rig.pending();
}

#[test]
fn the_driver_is_woken_when_a_partition_was_drained() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    rig.push(0, data(0, 100));
    woken.count();
    for _ in 0..99 {
        rig.batch_of(1);
    }
    assert!(woken.count() <= 2, "not for each record");
    rig.batch_of(1);
    assert_eq!(woken.count(), 1, "empty");
    assert!(rig.shared.take_driver_dirty() && !rig.shared.take_driver_dirty());
}

/// Looks whether the lock is free when it is called.
struct Looks(Arc<Shared>, AtomicUsize);

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        assert!(self.0.state.try_lock().is_ok(), "woken only to wait for the lock");
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn whoever_drains_a_partition_wakes_the_driver_behind_the_lock() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let looks = Arc::new(Looks(Arc::clone(&rig.shared), AtomicUsize::new(0)));
    rig.shared.set_driver_waker(Waker::from(Arc::clone(&looks)));
    rig.push(0, data(0, 100));
    assert_eq!(rig.batch().len(), 100);
    assert!(looks.1.load(Ordering::SeqCst) > 0);
}

#[test]
fn reading_many_partitions_costs_the_same_for_each() {
    let mut rig = Rig::new(auto());
    let all: Vec<_> = (0..10_000).map(tp).collect();
    let owned = rig.lock().assign(rig.now, &all);
    for (tp, epoch) in owned {
        rig.start(tp.partition(), epoch, 0, StartCause::Committed { metadata: None });
    }
    rig.push(9_999, data(0, 1));
    assert_eq!(rig.batch().partition(), 9_999);
    rig.pending();
    assert_eq!(rig.lock().topics().len(), 1);
}
