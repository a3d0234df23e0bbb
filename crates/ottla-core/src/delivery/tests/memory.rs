//! The ledger (design §5), reliability.md R1.

use super::support::*;
use crate::delivery::*;

#[test]
fn a_frame_counts_whole_until_its_last_slice_goes() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    let charge = rig.shared.charge(10_000);
    for partition in 0..2 {
        let fetched = Fetched {
            charge: Some(charge.clone()),
            ..rig.fetched(partition, joined([data(0, 2), data(2, 2)]))
        };
        rig.lock().push(rig.now, fetched);
    }
    drop(charge);
    assert_eq!(rig.buffered(), 10_000);
    let first = rig.batch_of(4);
    assert_eq!((rig.buffered(), rig.pinned()), (10_000, 0), "partition 1 is in it");
    let second = rig.batch_of(4);
    assert_eq!((rig.buffered(), rig.pinned()), (0, 10_000), "moved, not doubled");
    drop(first);
    assert_eq!(rig.pinned(), 10_000);
    let record = second.records().next();
    drop(second);
    assert_eq!(rig.pinned(), 10_000, "one record holds the frame");
    drop(record);
    assert_eq!(rig.pinned(), 0);
}

#[test]
fn decompressed_data_counts_while_it_waits_and_is_pinned_when_it_is_handed_out() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, compressed(0, 10, 1000));
    assert!(rig.buffered() < 1000);
    let part = rig.batch_of(3);
    assert!(rig.buffered() > 10_000, "the rest waits");
    let rest = rig.batch();
    assert_eq!(rest.len(), 7);
    assert_eq!(rig.buffered(), 0);
    assert!(rig.pinned() > 10_000);
    drop(part);
    drop(rest);
    assert_eq!(rig.pinned(), 0);
}

#[test]
fn what_is_dropped_is_given_back() {
    for end in 0..5 {
        let rig = Rig::new(auto());
        rig.own(0, 0);
        rig.push(0, data(0, 100));
        assert!(rig.buffered() > 0);
        match end {
            0 => drop(rig.seek(0, 0)),
            1 => drop(rig.revoke(0)),
            2 => rig.lock().lose(rig.now, &[tp(0)]),
            3 => rig.lock().unassign_all(rig.now),
            _ => rig.lock().shutdown(),
        }
        assert_eq!(rig.buffered(), 0, "{end}");
    }
}

#[test]
fn room_is_what_the_ledger_has_left_and_the_driver_is_woken_when_it_comes_back() {
    let mut rig = Rig::new(DeliveryConfig { max_buffered_bytes: 100_000, ..auto() });
    rig.own(0, 0);
    let (waker, woken) = waker();
    rig.lock().set_driver_waker(waker);
    let fetched = Fetched { charge: Some(rig.shared.charge(120_000)), ..rig.fetched(0, data(0, 10)) };
    rig.lock().push(rig.now, fetched);
    assert_eq!(rig.lock().room(), 0, "an oversized batch may go over it");
    woken.count();
    let _batch = rig.batch();
    assert!(woken.count() > 0);
    assert_eq!(rig.lock().room(), 100_000, "handing out moves bytes from the ledger");
    assert_eq!(rig.pinned(), 120_000);
}

#[test]
fn paused_buffers_are_evicted_oldest_first_and_fetched_again_on_resume() {
    let mut rig = Rig::new(auto());
    for partition in 0..3 {
        rig.own(partition, 0);
        rig.push(partition, data(0, 100));
    }
    rig.batch_of(10); // of partition 0
    rig.lock().pause(&[tp(1)]);
    rig.lock().pause(&[tp(0)]);
    let one = data(0, 100).len();
    let freed = rig.lock().evict_paused(1);
    assert_eq!(freed, one, "partition 1, which was paused first");
    assert_eq!(rig.lock().evict_paused(usize::MAX), one, "partition 0, and never an unpaused one");
    assert_eq!(rig.buffered(), one);
    rig.lock().resume(rig.now, &[tp(0), tp(1)]);
    let positions: Vec<i64> = rig.lock().fetchable().iter().map(|p| p.offset).collect();
    assert_eq!(positions, [10, 0, 100]);
    rig.push(0, data(0, 100));
    let mut seen = Vec::new();
    while let Taken::Batch(batch) = rig.take() {
        if batch.partition() == 0 {
            seen.extend(offsets(&batch));
        }
    }
    assert_eq!(seen, (10..100).collect::<Vec<_>>(), "nothing lost, nothing twice");
}

#[test]
fn a_small_rest_of_a_frame_is_copied_out_when_room_is_needed() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    let charge = rig.shared.charge(50_000);
    for (partition, records) in [(0, data(0, 1000)), (1, data(0, 3))] {
        let fetched = Fetched { charge: Some(charge.clone()), ..rig.fetched(partition, records) };
        rig.lock().push(rig.now, fetched);
    }
    drop(charge);
    drop(rig.batch());
    assert_eq!(rig.buffered(), 50_000);
    rig.lock().evict_paused(1);
    assert_eq!(rig.buffered(), data(0, 3).len());
    assert_eq!(offsets(&rig.batch()), [0, 1, 2]);
}

/// A user who keeps what it was given and waits for records of another partition: what cannot be handed out before it is
/// done holds no frame, whatever lies in it.
#[test]
fn what_waits_for_marks_holds_no_frame_when_nothing_else_can_be_fetched() {
    let mut rig = Rig::new(DeliveryConfig { max_unmarked: 10, ..manual() });
    rig.own(0, 0);
    rig.own(1, 0);
    let all = joined([data(0, 2), data(2, 10), data(12, 10)]);
    let charge = rig.shared.charge(all.len() + 1);
    let fetched = Fetched { charge: Some(charge), ..rig.fetched(0, all.clone()) };
    rig.lock().push(rig.now, fetched);
    let first = rig.batch_of(1);
    rig.batch_of(1).token().mark();
    let kept = rig.batch_of(5);
    assert_eq!(rig.lock().evict_paused(1), 0, "there is something to hand out yet");
    let more = rig.batch_of(5);
    rig.pending();
    let rest = all.len() + 1 - rig.lock().evict_paused(1);
    assert!(rest <= data(12, 10).len(), "{rest} of {} stay", all.len());
    assert_eq!(rig.buffered(), rest);
    assert_eq!(rig.lock().evict_paused(1), 0, "nothing is copied twice");
    rig.push(1, data(0, 1));
    assert_eq!(rig.batch().partition(), 1);
    for batch in [first, kept, more] {
        batch.token().mark();
    }
    assert_eq!(rig.batch().last_offset(), 21);
}

/// The same for a batch that was begun: a reader that is stuck in the middle of it must not hold a frame.
#[test]
fn the_small_rest_of_a_decoded_batch_is_copied_out_when_room_is_needed() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.own(1, 0);
    let charge = rig.shared.charge(50_000);
    for (partition, records) in [(0, data(0, 8)), (1, data(0, 1000))] {
        let fetched = Fetched { charge: Some(charge.clone()), ..rig.fetched(partition, records) };
        rig.lock().push(rig.now, fetched);
    }
    drop(charge);
    assert_eq!(offsets(&rig.batch_of(3)), [0, 1, 2]);
    rig.lock().evict_paused(1);
    assert_eq!(rig.buffered(), 50_000, "more than a quarter waits");
    let paused = [tp(0)];
    rig.lock().pause(&paused);
    drop(rig.batch());
    rig.lock().resume(rig.now, &paused);
    assert_eq!(rig.buffered(), 50_000);
    // No response came in between.
    rig.lock().evict_paused(1);
    assert!(rig.buffered() < data(0, 8).len(), "{} are left", rig.buffered());
    assert_eq!(offsets(&rig.batch_of(2)), [3, 4]);
    assert_eq!(offsets(&rig.batch_of(1)), [5]);
    assert_eq!(offsets(&rig.batch()), [6, 7]);
    assert_eq!(rig.buffered(), 0);
}

#[test]
fn hostile_tiny_batches_cost_no_memory_but_their_bytes() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined((0..5000).map(|i| compacted(i, &[], i + 1))));
    let delivery = rig.lock();
    assert_eq!(delivery.partition(&tp(0)).unwrap().queue.len(), 1, "one entry for a whole response");
}
