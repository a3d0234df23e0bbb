//! Records that the reader hands out to itself: no guarantee of a read under the lock is weaker for them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::delivery::*;
use crate::{Error, ErrorKind, LeaderEpoch};

const INTERVAL: Duration = Duration::from_secs(300);

/// A partition with records 0 to 99 that a reader has begun.
fn begun(config: DeliveryConfig) -> (Rig, RecordReader) {
    let mut rig = Rig::new(config);
    rig.own(0, 0);
    rig.push(0, data(0, 100));
    let mut reader = RecordReader::new();
    assert_eq!(rig.record(&mut reader).offset(), 0);
    (rig, reader)
}

#[test]
fn the_position_moves_with_each_record_and_no_lock_is_needed_for_it() {
    let (mut rig, mut reader) = begun(auto());
    for offset in 1..99 {
        assert_eq!(reader.next_at_hand().unwrap().offset(), offset);
        assert_eq!((rig.position(0), rig.lag(0)), (Some(offset + 1), Some(END - offset - 1)));
    }
    assert!(reader.next_at_hand().is_none(), "the last one ends the strip, under the lock");
    assert_eq!(rig.record(&mut reader).offset(), 99);
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    assert_eq!((rig.position(0), rig.buffered(), rig.pinned()), (Some(100), 0, 0));
}

#[test]
fn what_lies_before_a_record_that_is_held_is_committed() {
    let (mut rig, mut reader) = begun(auto());
    assert_eq!(rig.committable(), [], "in hand, though it was dropped");
    for _ in 1..10 {
        rig.record(&mut reader);
    }
    assert_eq!(rig.committable(), [(0, 9)]);
    let held = rig.record(&mut reader);
    let clone = held.clone();
    for _ in 0..5 {
        rig.record(&mut reader);
    }
    drop(held);
    assert_eq!(rig.committable(), [(0, 10)]);
    rig.pass(Duration::from_secs(7));
    let held_back = rig.lock().held_back(rig.now);
    assert_eq!(held_back, [(tp(0), 10, Duration::from_secs(7))]);
    drop(clone);
    assert_eq!(rig.committable(), [(0, 15)]);
    assert_eq!(rig.lock().held_back(rig.now), []);
}

#[test]
fn offsets_without_a_record_are_done_with_the_record_before_them() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([compacted(0, &[3, 4, 8], 20), data(20, 2), compacted(22, &[], 30)]));
    let mut reader = RecordReader::new();
    let mut positions = Vec::new();
    for expected in [3, 4, 8, 20, 21] {
        let record = rig.record(&mut reader);
        assert_eq!(record.offset(), expected);
        positions.push((rig.position(0).unwrap(), record.token().next_offset()));
    }
    assert_eq!(positions, [(4, 4), (5, 5), (9, 9), (21, 21), (30, 30)]);
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    assert_eq!(rig.committable(), [(0, 30)]);
}

#[test]
fn a_mark_covers_the_offsets_before_its_record() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, compacted(0, &[3, 4, 8], 20));
    let mut reader = RecordReader::new();
    let records: Vec<Record> = (0..3).map(|_| rig.record(&mut reader)).collect();
    records[1].token().mark();
    assert_eq!(rig.committable(), []);
    records[0].token().mark();
    assert_eq!(rig.committable(), [(0, 5)]);
    records[2].token().mark();
    assert_eq!(rig.committable(), [(0, 20)]);
}

#[test]
fn once_paused_nothing_is_returned_and_on_resume_it_goes_on() {
    let (mut rig, mut reader) = begun(auto());
    let paused = [tp(0)];
    rig.lock().pause(&paused);
    assert!(reader.next_at_hand().is_none());
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    assert_eq!(rig.position(0), Some(1));
    let now = rig.now;
    rig.lock().resume(now, &paused);
    assert_eq!(rig.record(&mut reader).offset(), 1);
    // Resumed before the reader came.
    rig.lock().pause(&paused);
    rig.lock().resume(now, &paused);
    assert_eq!(rig.record(&mut reader).offset(), 2);
    // Its buffer is evicted while it is paused, and fetched again.
    rig.lock().pause(&paused);
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    rig.lock().evict_paused(usize::MAX);
    assert_eq!(rig.buffered(), 0);
    rig.lock().resume(now, &paused);
    rig.push(0, data(3, 5));
    assert_eq!(rig.record(&mut reader).offset(), 3);
}

#[test]
fn a_seek_ends_it() {
    let (mut rig, mut reader) = begun(auto());
    let old = rig.record(&mut reader);
    rig.seek(0, 50);
    assert!(reader.next_at_hand().is_none());
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    assert_eq!((rig.position(0), old.is_owned()), (Some(50), false));
    rig.push(0, data(50, 3));
    assert_eq!(rig.record(&mut reader).offset(), 50);
}

#[test]
fn a_revocation_waits_for_what_is_held_and_for_nothing_else() {
    let (mut rig, mut reader) = begun(auto());
    let held = rig.record(&mut reader);
    rig.record(&mut reader);
    rig.revoke(0);
    assert!(reader.next_at_hand().is_none());
    assert!(rig.poll_revocation().is_none(), "a record is held and one is in hand");
    assert!(matches!(rig.take_record(&mut reader), Taken::Pending));
    assert!(rig.poll_revocation().is_none(), "a record is held");
    rig.lock().take_driver_dirty();
    drop(held);
    assert!(rig.lock().take_driver_dirty(), "the driver is told");
    let revoked = rig.poll_revocation().unwrap();
    assert!(!revoked.timed_out);
    let commits: Vec<i64> = revoked.commits.iter().map(|entry| entry.offset).collect();
    assert_eq!(commits, [3], "all that was handed out and no more");
}

#[test]
fn a_revocation_past_its_deadline_commits_what_is_done() {
    let (mut rig, mut reader) = begun(auto());
    for _ in 0..5 {
        rig.record(&mut reader);
    }
    rig.revoke(0);
    rig.pass(Duration::from_secs(60));
    let revoked = rig.poll_revocation().unwrap();
    let commits: Vec<i64> = revoked.commits.iter().map(|entry| entry.offset).collect();
    assert_eq!((revoked.timed_out, commits), (true, vec![5]), "the sixth is in hand");
}

#[test]
fn what_is_for_the_reader_is_not_kept_waiting_by_the_rest_of_a_strip() {
    let (mut rig, mut reader) = begun(auto());
    rig.lock().report(Error::new(ErrorKind::Authorization, "a topic may not be read"));
    let Taken::Error(error) = rig.take_record(&mut reader) else { panic!("no error") };
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(rig.record(&mut reader).offset(), 1);
    // An event is handled by the defaults at the next read.
    rig.own(1, 0);
    rig.lock().begin_seek(rig.now, &tp(1));
    let id = rig.revoke(1);
    assert_eq!(rig.record(&mut reader).offset(), 2);
    assert_eq!(rig.poll_revocation().unwrap().id, id);
    rig.lock().shutdown();
    assert!(matches!(rig.take_record(&mut reader), Taken::End));
    rig.lock().fail_all(Error::new(ErrorKind::Fenced, "fenced"));
    for _ in 0..2 {
        assert!(matches!(rig.take_record(&mut reader), Taken::Error(_)));
    }
}

#[test]
fn other_reads_go_on_behind_the_last_record() {
    let (mut rig, mut reader) = begun(auto());
    rig.record(&mut reader);
    rig.shared.give_back(&mut reader);
    assert_eq!(rig.batch_of(3).first_offset(), 2);
    assert_eq!(rig.record(&mut reader).offset(), 5);
    // A reader that was forgotten: the rest is fetched again.
    rig.pending();
    let now = rig.now;
    assert_eq!(rig.lock().fetch_position(&tp(0)).unwrap().offset, 6);
    assert!(reader.next_at_hand().is_none());
    rig.push(0, data(6, 4));
    assert_eq!(offsets(&rig.batch()), [6, 7, 8, 9]);
    assert!(rig.shared.lock().poll_expired(now).is_none());
}

#[test]
fn a_strip_has_one_leader_epoch() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let later = writer(3).partition_leader_epoch(6);
    rig.push(0, joined([data(0, 3), fill(later, 3, &[3, 4, 5])]));
    let mut reader = RecordReader::new();
    let mut epochs = Vec::new();
    for _ in 0..6 {
        drop(rig.record(&mut reader));
        rig.shared.give_back(&mut reader);
        let entries = rig.lock().delivered(rig.now);
        epochs.push((entries[0].offset, entries[0].leader_epoch));
    }
    let epoch = |n| LeaderEpoch::from_wire(n);
    let expected = [(1, 5), (2, 5), (3, 5), (4, 6), (5, 6), (6, 6)].map(|(offset, n)| (offset, epoch(n)));
    assert_eq!(epochs, expected);
}

#[test]
fn after_the_first_mark_delivery_stops_at_max_unmarked() {
    let (mut rig, mut reader) = begun(DeliveryConfig { max_unmarked: 10, ..manual() });
    let first = rig.record(&mut reader);
    first.token().mark();
    let mut taken = 0;
    while let Taken::Record(_) = rig.take_record(&mut reader) {
        taken += 1;
    }
    assert_eq!(taken, 10);
}

#[test]
fn a_prefetch_that_is_dropped_goes_on_behind_the_strip() {
    let (mut rig, mut reader) = begun(auto());
    rig.push(0, data(100, 10));
    let epoch = rig.lock().ownership(&tp(0)).unwrap();
    assert_eq!(rig.lock().drop_prefetch(&tp(0), epoch), Some(100));
    rig.push(0, data(100, 5));
    let read: Vec<i64> = std::iter::from_fn(|| match rig.take_record(&mut reader) {
        Taken::Record(record) => Some(record.offset()),
        _ => None,
    })
    .collect();
    assert_eq!(read, (1..105).collect::<Vec<_>>());
}

#[test]
fn the_clock_of_a_reader_that_comes_never_expires_and_of_one_that_is_stuck_it_does() {
    let (mut rig, mut reader) = begun(auto());
    let mut records = 0;
    // As the driver does: it looks when it was asked to.
    let look = |rig: &Rig| {
        let due = rig.lock().poll_deadline().is_some_and(|at| at <= rig.now);
        due && rig.lock().poll_expired(rig.now).is_some()
    };
    for second in 0..5_000 {
        rig.pass(Duration::from_secs(1));
        assert!(!look(&rig), "it comes");
        if second % 290 == 0 {
            rig.record(&mut reader);
            records += 1;
        }
    }
    assert!(records > 15);
    drop(rig.record(&mut reader));
    let since = rig.now;
    while !look(&rig) {
        rig.pass(Duration::from_secs(1));
    }
    let stuck = rig.now.since(since);
    assert!(stuck >= INTERVAL && stuck <= INTERVAL + INTERVAL / 8, "{stuck:?}");
}

#[test]
fn a_consumer_without_an_interval_has_no_timer_for_it() {
    let (rig, _reader) = begun(DeliveryConfig { max_poll_interval: None, ..auto() });
    assert_eq!(rig.lock().poll_deadline(), None);
}

/// Tells the other thread that it is over, also when this one panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// While one thread reads without the lock, another pauses: what it then sees as the position is exactly what was
/// handed out, and stays so.
#[test]
fn a_pause_and_a_record_never_cross() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    const BATCH: i64 = 3_000;
    const PAUSES: usize = 10;
    let (next, end) = (AtomicI64::new(0), AtomicI64::new(0));
    let (crossed, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let push = |rig: &Rig| {
        let base = end.load(Ordering::SeqCst);
        rig.push_up_to(0, data(base, BATCH), base + BATCH);
        end.store(base + BATCH, Ordering::SeqCst);
    };
    for _ in 0..20 {
        push(&rig);
    }
    let shared = rig.shared.clone();
    let now = rig.now;
    std::thread::scope(|scope| {
        let pauses = scope.spawn(|| {
            let paused = [tp(0)];
            while !over.load(Ordering::SeqCst) {
                shared.lock().pause(&paused);
                let position = shared.lock().position(&tp(0)).unwrap();
                let amid = position < end.load(Ordering::SeqCst);
                for _ in 0..200 {
                    // Returned before the pause, and maybe not yet noted by the other thread: never beyond.
                    assert!(next.load(Ordering::SeqCst) <= position, "beyond the position");
                    std::hint::spin_loop();
                }
                assert_eq!(shared.lock().position(&tp(0)), Some(position));
                crossed.fetch_add(usize::from(amid), Ordering::SeqCst);
                shared.lock().resume(now, &paused);
                std::thread::yield_now();
            }
        });
        let _over = Over(&over);
        let mut reader = RecordReader::new();
        // How often the other thread has its turn is not ours to say: there are records until it had enough of them.
        let mut batches = 100_000;
        loop {
            if next.load(Ordering::SeqCst) == end.load(Ordering::SeqCst) {
                if crossed.load(Ordering::SeqCst) > PAUSES {
                    break;
                }
                batches -= 1;
                assert!(batches > 0 && !pauses.is_finished(), "nobody pauses");
                push(&rig);
                std::thread::yield_now();
            }
            match rig.take_record(&mut reader) {
                Taken::Record(record) => {
                    assert_eq!(record.offset(), next.load(Ordering::SeqCst));
                    next.store(record.offset() + 1, Ordering::SeqCst);
                }
                Taken::Pending => {
                    assert!(!pauses.is_finished());
                    std::thread::yield_now();
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(crossed.load(Ordering::SeqCst) > PAUSES);
}
