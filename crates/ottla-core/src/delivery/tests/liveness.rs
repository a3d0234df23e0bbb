//! The poll clock (KIP-62) and wake-ups: groups.md §10, reliability.md L4.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::support::*;
use crate::Timestamp;
use crate::delivery::*;

const INTERVAL: Duration = Duration::from_secs(300);

#[test]
fn the_clock_stands_while_nothing_is_available() {
    let mut rig = Rig::new(auto());
    assert_eq!(rig.lock().poll_deadline(), None);
    rig.own(0, 0);
    rig.pending();
    assert_eq!(rig.lock().poll_deadline(), None);
    rig.pass(INTERVAL * 10);
    assert_eq!(rig.lock().poll_expired(rig.now), None);
    rig.push(0, bytes::Bytes::new());
    assert_eq!(rig.lock().poll_deadline(), None, "an idle topic never trips it");
}

#[test]
fn the_clock_runs_while_data_is_available_and_not_taken() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    rig.pass(Duration::from_secs(1000));
    rig.push(0, data(0, 1));
    assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL), "from when it came");
    rig.pass(Duration::from_secs(299));
    rig.push(0, data(1, 1));
    assert_eq!(rig.lock().poll_expired(rig.now), None);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.lock().poll_expired(rig.now), Some(vec![tp(0)]));
    assert_eq!(rig.lock().poll_expired(rig.now), None, "told once");
    assert_eq!(rig.lock().poll_deadline(), None);
}

#[test]
fn the_clock_runs_while_an_event_is_available() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL), "nobody has met the assignment");
}

#[test]
fn the_clock_runs_while_something_is_handed_out_and_the_reader_stays_away() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 1));
    let batch = rig.batch();
    drop(batch);
    assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL), "dropped, but not come back");
    rig.pass(Duration::from_secs(200));
    rig.pending();
    assert_eq!(rig.lock().poll_deadline(), None);
}

#[test]
fn each_read_starts_the_clock_anew() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    for _ in 0..3 {
        rig.batch_of(1);
        assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL));
        rig.pass(Duration::from_secs(250));
        assert_eq!(rig.lock().poll_expired(rig.now), None);
    }
}

#[test]
fn the_clock_stands_while_all_that_is_there_is_paused() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    rig.push(0, data(0, 3));
    rig.lock().pause(&[tp(0)]);
    assert_eq!(rig.lock().poll_deadline(), None);
    rig.pass(INTERVAL * 3);
    rig.lock().resume(rig.now, &[tp(0)]);
    assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL), "from the resume on");
}

#[test]
fn a_clock_that_starts_without_a_time_gets_one_from_the_driver() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    assert_eq!(rig.lock().poll_deadline(), None);
    rig.pass(INTERVAL * 3);
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    rig.lock().report(crate::Error::new(crate::ErrorKind::Unsupported, "no time here"));
    assert!(woken.count() > 0);
    assert!(rig.lock().poll_deadline().unwrap() <= rig.now, "the driver is to call");
    assert_eq!(rig.lock().poll_expired(rig.now), None, "which expires nothing");
    assert_eq!(rig.lock().poll_deadline(), Some(rig.now + INTERVAL));
}

#[test]
fn none_disables_the_clock() {
    let rig = Rig::new(DeliveryConfig { max_poll_interval: None, ..auto() });
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    assert_eq!(rig.lock().poll_deadline(), None);
    assert_eq!(rig.lock().poll_expired(Timestamp::NEVER), None);
}

#[test]
fn a_clock_that_ran_from_time_zero_on_is_like_any_other() {
    let mut rig = Rig::new(auto());
    rig.now = Timestamp::ZERO;
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    assert_eq!(rig.lock().poll_deadline(), Some(Timestamp::ZERO + INTERVAL));
    assert_eq!(rig.lock().poll_expired(Timestamp::from_millis(5)), None);
}

#[test]
fn after_it_has_tripped_the_driver_learns_that_the_reader_is_back() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 1));
    rig.batch();
    rig.pass(INTERVAL);
    assert_eq!(rig.lock().poll_expired(rig.now), Some(vec![tp(0)]));
    rig.lock().lose(rig.now, &[tp(0)]);
    rig.lock().take_polled();
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    rig.pending();
    assert!(woken.count() > 0 && rig.lock().take_polled());
    assert!(!rig.lock().take_polled());
}

#[test]
fn the_reader_is_woken_by_whatever_it_may_have_waited_for() {
    type Cause = fn(&Rig);
    let causes: [Cause; 8] = [
        |rig| {
            let _ = rig.push(0, data(0, 1));
        },
        |rig| {
            let _ = rig.own(7, 0);
        },
        |rig| {
            let _ = rig.revoke(0);
        },
        |rig| rig.lock().lose(rig.now, &[tp(0)]),
        |rig| rig.lock().report(crate::Error::new(crate::ErrorKind::Unsupported, "x")),
        |rig| rig.lock().fail_all(crate::Error::new(crate::ErrorKind::Fenced, "x")),
        |rig| rig.lock().shutdown(),
        |rig| {
            let epoch = rig.lock().ownership(&tp(0)).unwrap();
            rig.lock().fail(&tp(0), epoch, crate::Error::new(crate::ErrorKind::Corrupt, "x"));
        },
    ];
    for (i, cause) in causes.iter().enumerate() {
        let mut rig = Rig::new(auto());
        rig.own(0, 0);
        let (waker, woken) = waker();
        assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
        assert_eq!(woken.count(), 0);
        cause(&rig);
        assert_eq!(woken.count(), 1, "cause {i}");
    }
}

#[test]
fn a_waker_may_read_at_once() {
    // Wakers are called after the lock was given back.
    struct Reads(Arc<Shared>, AtomicUsize);
    impl Wake for Reads {
        fn wake(self: Arc<Self>) {
            let mut decoder = BatchDecoder::default();
            if let Taken::Batch(batch) = self.0.take(Timestamp::ZERO, &mut decoder, Filter::BATCHES, None) {
                self.1.fetch_add(batch.len(), Ordering::SeqCst);
            }
        }
    }
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let reads = Arc::new(Reads(Arc::clone(&rig.shared), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&reads));
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
    rig.push(0, data(0, 3));
    assert_eq!(reads.1.load(Ordering::SeqCst), 3);
}

#[test]
fn a_waker_may_free_the_task_that_held_the_reader() {
    // Wakers are dropped after the lock too: the task's consumer says good-bye when it is dropped.
    struct Task(Arc<Shared>);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Task {
        fn drop(&mut self) {
            self.0.lock().reader_gone();
        }
    }
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let task = Waker::from(Arc::new(Task(Arc::clone(&rig.shared))));
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&task)), Taken::Pending));
    drop(task);
    let (other, _) = waker();
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&other)), Taken::Pending));
    assert!(rig.lock().is_reader_gone());
}

/// Lets a thread wait for its waker.
#[derive(Default)]
struct Signal(Mutex<bool>, Condvar);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
}

impl Signal {
    fn wait(&self) {
        let guard = self.0.lock().unwrap();
        let (mut woken, timeout) =
            self.1.wait_timeout_while(guard, Duration::from_secs(30), |woken| !*woken).unwrap();
        assert!(!timeout.timed_out(), "a wake-up was lost");
        *woken = false;
    }
}

#[test]
fn no_wake_up_is_lost_between_two_threads() {
    // The reader waits whenever nothing is there; the driver waits whenever the ledger is full.
    const BATCHES: i64 = 3000;
    let rig = Rig::new(DeliveryConfig { max_buffered_bytes: 64 << 10, ..auto() });
    rig.own(0, 0);
    let shared = Arc::clone(&rig.shared);
    let records = data(0, 10);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let signal = Arc::new(Signal::default());
            shared.set_driver_waker(Waker::from(Arc::clone(&signal)));
            for i in 0..BATCHES {
                while shared.lock().room() < 64 << 10 {
                    signal.wait();
                }
                let mut bytes = bytes::BytesMut::from(&records[..]);
                bytes[..8].copy_from_slice(&(i * 10).to_be_bytes());
                let charge = shared.charge(20 << 10);
                let fetched = Fetched { charge: Some(charge), ..rig.fetched(0, bytes.freeze()) };
                assert!(matches!(shared.lock().push(rig.now, fetched), Pushed::Accepted { .. }));
            }
        });
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::clone(&signal));
        let mut decoder = BatchDecoder::default();
        let mut next = 0;
        while next < BATCHES * 10 {
            match rig.shared.take(rig.now, &mut decoder, Filter::BATCHES, Some(&waker)) {
                Taken::Batch(batch) => {
                    assert_eq!(batch.first_offset(), next);
                    next = batch.next_offset();
                }
                Taken::Pending => signal.wait(),
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(rig.buffered(), 0);
}

#[test]
fn once_a_seek_or_pause_has_returned_no_thread_reads_the_old_state() {
    const ROUNDS: usize = 1500;
    let rig = Rig::new(auto());
    rig.own(0, 0);
    let (oldest, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let records = compressed(0, 200, 50);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut decoder = BatchDecoder::default();
            while !done.load(Ordering::SeqCst) {
                let oldest = oldest.load(Ordering::SeqCst);
                if let Taken::Batch(batch) = rig.shared.take(rig.now, &mut decoder, Filter::BATCHES, None) {
                    assert!(batch.token().ownership_epoch().0 >= oldest, "a batch of before the seek");
                }
            }
        });
        for round in 0..ROUNDS {
            rig.push(0, records.clone());
            let epoch = rig.seek(0, 0);
            oldest.store(epoch.0, Ordering::SeqCst);
            if round % 3 == 0 {
                rig.push(0, records.clone());
                rig.lock().pause(&[tp(0)]);
                let position = rig.position(0);
                for _ in 0..20 {
                    assert_eq!(rig.position(0), position, "something was returned while paused");
                }
                rig.lock().resume(rig.now, &[tp(0)]);
            }
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_poisoned_lock_survives() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    let shared = Arc::clone(&rig.shared);
    let panicked = std::panic::catch_unwind(move || {
        let _guard = shared.lock();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert_eq!(rig.batch().len(), 2);
}

#[test]
fn a_panic_while_decoding_loses_nothing() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    let key = rig.lock().next_ready().unwrap();
    let checkout = rig.shared.lock().check_out(&rig.shared, key, 10);
    drop(checkout);
    rig.pending();
    assert_eq!(rig.lock().fetchable()[0].offset, 0, "fetched again");
    rig.push(0, data(0, 2));
    assert_eq!(offsets(&rig.batch()), [0, 1]);
}

#[test]
fn handles_may_be_dropped_under_the_lock() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    let batch = rig.batch();
    rig.revoke(0);
    let guard = rig.lock();
    drop(batch);
    drop(guard);
    assert!(rig.shared.take_driver_dirty(), "the driver is told all the same");
}

#[test]
fn events_for_a_reader_that_does_not_come_are_bounded() {
    let rig = Rig::new(manual());
    rig.own(0, 0);
    for _ in 0..5000 {
        rig.lock().background_committed(vec![(tp(0), Ok(()))]);
    }
    assert!(rig.lock().events.len() <= 1024);
    assert!(matches!(rig.lock().events[0], queue::Pending::Told(Event::Assigned(_))));
}

#[test]
fn the_driver_is_woken_for_a_deadline_it_does_not_know() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    assert_eq!(rig.lock().poll_deadline(), None, "now it sleeps for ever");
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    rig.push(0, data(0, 3));
    assert_eq!(woken.count(), 1);
    rig.batch_of(1);
    rig.batch_of(1);
    assert_eq!(woken.count(), 0, "later deadlines are no news");
}
