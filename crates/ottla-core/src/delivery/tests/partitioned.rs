//! Partitions that are read on their own: `run_partitioned` (design §6).

use std::time::Duration;

use super::support::*;
use crate::delivery::*;

fn of(rig: &mut Rig, partition: i32) -> Taken {
    let tp = tp(partition);
    let filter = Filter { events: false, partition: Some(&tp), max_records: usize::MAX };
    rig.take_with(filter, None)
}

/// What the one that starts the tasks reads: events, no data.
fn events(rig: &mut Rig) -> Taken {
    rig.take_with(Filter { events: true, partition: None, max_records: 0 }, None)
}

fn rig(config: DeliveryConfig) -> Rig {
    let mut rig = Rig::new(config);
    rig.own(0, 0);
    rig.own(1, 0);
    assert!(matches!(events(&mut rig), Taken::Event(_)));
    assert!(matches!(events(&mut rig), Taken::Event(_)));
    rig
}

#[test]
fn each_partition_gives_its_data_to_its_own_reader_only() {
    let mut rig = rig(auto());
    assert!(matches!(of(&mut rig, 0), Taken::Pending));
    assert!(matches!(of(&mut rig, 1), Taken::Pending));
    rig.push(0, data(0, 2));
    rig.push(1, data(0, 3));
    assert!(matches!(events(&mut rig), Taken::Pending), "no data for that one");
    assert!(matches!(of(&mut rig, 1), Taken::Batch(b) if b.len() == 3));
    assert!(matches!(of(&mut rig, 0), Taken::Batch(b) if b.len() == 2));
    rig.pending();
}

#[test]
fn each_reader_is_woken_for_its_own_partition() {
    let mut rig = rig(auto());
    let (a, a_woken) = waker();
    let (b, b_woken) = waker();
    for (partition, waker) in [(0, &a), (1, &b)] {
        let tp = tp(partition);
        let filter = Filter { partition: Some(&tp), ..Filter::BATCHES };
        assert!(matches!(rig.take_with(filter, Some(waker)), Taken::Pending));
    }
    rig.push(1, data(0, 1));
    assert_eq!((a_woken.count(), b_woken.count()), (0, 1));
    rig.revoke(0);
    assert_eq!(a_woken.count(), 1);
}

#[test]
fn coming_back_for_one_partition_says_nothing_of_another() {
    let mut rig = rig(auto());
    rig.push(0, data(0, 2));
    rig.push(1, data(0, 3));
    drop(of(&mut rig, 0));
    drop(of(&mut rig, 1));
    events(&mut rig);
    assert_eq!(rig.committable(), []);
    drop(of(&mut rig, 1));
    assert_eq!(rig.committable(), [(1, 3)]);
}

#[test]
fn the_next_call_of_a_task_ends_with_the_reason_until_it_has_returned() {
    let mut rig = rig(auto());
    of(&mut rig, 0);
    of(&mut rig, 1);
    let id = rig.revoke(0);
    assert!(matches!(of(&mut rig, 0), Taken::End));
    assert_eq!(rig.lock().partition_end(&tp(0)), Some(PartitionEnd::Revoked));
    assert_eq!(rig.lock().partition_end(&tp(1)), None);
    let Taken::Event(Event::Revoking(revocation)) = events(&mut rig) else { panic!() };
    revocation.finish([]);
    rig.poll_revocation();
    rig.lock().end_revocation(rig.now, id);
    // Owned again before the old task has returned: the new ownership is not for it.
    rig.own(0, 0);
    rig.push(0, data(0, 1));
    assert!(matches!(of(&mut rig, 0), Taken::End));
    rig.lock().release(rig.now, &tp(0), true);
    assert!(matches!(of(&mut rig, 0), Taken::Batch(_)), "its next task");

    rig.lock().lose(rig.now, &[tp(1)]);
    assert!(matches!(of(&mut rig, 1), Taken::End));
    assert_eq!(rig.lock().partition_end(&tp(1)), Some(PartitionEnd::Lost));
    rig.lock().shutdown();
    assert!(matches!(of(&mut rig, 0), Taken::End));
    assert_eq!(rig.lock().partition_end(&tp(0)), Some(PartitionEnd::Shutdown));
}

#[test]
fn a_revocation_is_held_until_the_task_has_returned() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    rig.push(0, data(0, 2));
    drop(of(&mut rig, 0));
    rig.revoke(0);
    assert!(rig.poll_revocation().is_none());
    assert!(matches!(of(&mut rig, 0), Taken::End));
    assert!(rig.poll_revocation().is_none(), "it may write its state down before it returns");
    rig.lock().release(rig.now, &tp(0), true);
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 2);
}

#[test]
fn a_failed_task_does_not_make_its_batch_done() {
    let mut rig = rig(auto());
    rig.push(0, data(0, 2));
    drop(of(&mut rig, 0));
    rig.lock().release(rig.now, &tp(0), false);
    assert_eq!(rig.committable(), []);
    rig.push(1, data(0, 2));
    drop(of(&mut rig, 1));
    rig.lock().release(rig.now, &tp(1), true);
    assert_eq!(rig.committable(), [(1, 2)]);
}

#[test]
fn the_poll_clock_is_per_partition_and_names_the_stuck_one() {
    let mut rig = rig(auto());
    of(&mut rig, 0);
    of(&mut rig, 1);
    events(&mut rig);
    assert_eq!(rig.lock().poll_deadline(), None);
    rig.push(0, data(0, 2));
    let batch = of(&mut rig, 0);
    let started = rig.now;
    for _ in 0..10 {
        rig.pass(Duration::from_secs(29));
        rig.push(1, data(rig.position(1).unwrap(), 1));
        assert!(matches!(of(&mut rig, 1), Taken::Batch(_)), "the other one is alive");
        assert_eq!(rig.lock().poll_deadline(), Some(started + Duration::from_secs(300)));
    }
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.lock().poll_expired(rig.now), Some(vec![tp(0)]));
    assert_eq!(rig.lock().poll_expired(rig.now), None);
    drop(batch);
}

#[test]
fn one_stuck_partition_starves_nobody() {
    let mut rig = rig(auto());
    of(&mut rig, 0);
    of(&mut rig, 1);
    rig.push(0, data(0, 2));
    let stuck = of(&mut rig, 0);
    rig.push(0, data(2, 2));
    for i in 0..100 {
        rig.push(1, data(i, 1));
        assert!(matches!(of(&mut rig, 1), Taken::Batch(_)));
    }
    drop(stuck);
}

#[test]
fn a_partition_that_is_not_owned_gives_nothing() {
    let mut rig = rig(auto());
    assert!(matches!(of(&mut rig, 7), Taken::End));
}

#[test]
fn what_is_owned_is_claimed_once_and_again_when_its_task_has_returned() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    assert_eq!(rig.lock().claim(), [tp(0), tp(1)]);
    assert_eq!(rig.lock().claim(), []);
    // Lost and owned anew before its task has read at all: that task must not read the new ownership.
    rig.lock().lose(rig.now, &[tp(1)]);
    rig.own(1, 0);
    rig.push(1, data(0, 1));
    assert_eq!(rig.lock().claim(), []);
    assert!(matches!(of(&mut rig, 1), Taken::End));
    rig.lock().release(rig.now, &tp(1), true);
    assert_eq!(rig.lock().claim(), [tp(1)]);
    assert!(matches!(of(&mut rig, 1), Taken::Batch(_)));
    // What is given back is nobody's any more.
    rig.lock().release(rig.now, &tp(0), true);
    rig.revoke(0);
    assert_eq!(rig.lock().claim(), []);
    rig.lock().shutdown();
    assert_eq!(rig.lock().claim(), []);
}
