//! Marks: one record or batch each, the gap-free prefix is committed (design §6).

use super::support::*;
use crate::delivery::*;

#[test]
fn only_the_gap_free_prefix_of_marks_is_committed() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token()).collect();
    tokens[1].mark();
    tokens[2].mark();
    assert_eq!(rig.committable(), []);
    tokens[0].mark();
    assert_eq!(rig.committable(), [(0, 3)]);
    tokens[4].mark();
    assert_eq!(rig.committable(), [(0, 3)]);
    tokens[3].mark();
    assert_eq!(rig.committable(), [(0, 5)]);
}

#[test]
fn offsets_without_a_record_are_no_gap_between_marks() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    let commit = ottla_wire::records::ControlRecord::Commit;
    rig.push(0, joined([compacted(0, &[2, 7], 10), marker(10, 1, commit), compacted(11, &[13], 20)]));
    // Read one by one, so that marks go from batch to batch too.
    let tokens: Vec<CommitToken> =
        (0..3).map(|_| rig.batch_of(1).records().next().unwrap().token()).collect();
    rig.push(0, marker(20, 1, commit));
    rig.pending();
    tokens[2].mark();
    tokens[0].mark();
    assert_eq!(rig.committable(), [(0, 3)]);
    tokens[1].mark();
    assert_eq!(rig.committable(), [(0, 21)], "up to the position");
}

#[test]
fn a_batch_is_marked_as_a_whole_and_may_be_joined_by_single_marks() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 9));
    let (a, b, c) = (rig.batch_of(3), rig.batch_of(3), rig.batch_of(3));
    c.token().mark();
    a.token().mark();
    assert_eq!(rig.committable(), [(0, 3)]);
    for record in &b {
        record.token().mark();
    }
    assert_eq!(rig.committable(), [(0, 9)]);
}

#[test]
fn a_mark_survives_its_batch_and_takes_no_effect_twice() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    let token = rig.batch().iter().next().unwrap().token();
    token.mark();
    token.mark();
    assert_eq!(rig.committable(), [(0, 1)]);
    drop(rig);
    token.mark(); // The consumer is gone: nothing happens.
}

#[test]
fn delivery_of_a_partition_pauses_at_max_unmarked_behind_a_gap_and_others_go_on() {
    let mut rig = Rig::new(DeliveryConfig { max_unmarked: 10, ..manual() });
    rig.own(0, 0);
    rig.own(1, 0);
    rig.push(0, data(0, 100));
    let first = rig.batch_of(1);
    let second = rig.batch_of(1);
    second.token().mark();
    let mut handed = 0;
    let mut batches = Vec::new();
    while let Taken::Batch(batch) = rig.take() {
        handed += batch.len();
        batches.push(batch);
    }
    assert_eq!(handed, 10, "counted from the first mark on");
    rig.push(1, data(0, 1));
    assert_eq!(rig.batch().partition(), 1);
    rig.pending();
    let (waker, woken) = waker();
    assert!(matches!(rig.take_with(Filter::BATCHES, Some(&waker)), Taken::Pending));
    batches[0].token().mark();
    assert_eq!(woken.count(), 0, "the gap is still there");
    first.token().mark();
    assert_eq!(woken.count(), 1);
    assert!(rig.batch().len() <= 10);
}

#[test]
fn without_marks_manual_delivery_never_pauses() {
    let mut rig = Rig::new(DeliveryConfig { max_unmarked: 10, ..manual() });
    rig.own(0, 0);
    rig.push(0, data(0, 100));
    assert_eq!(rig.batch().len(), 100);
}

#[test]
fn the_gap_between_records_may_be_larger_than_32_bits() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    let far = 7_000_000_000;
    let fetched = Fetched { high_watermark: i64::MAX, ..rig.fetched(0, joined([data(0, 1), data(far, 2)])) };
    rig.lock().push(rig.now, fetched);
    let batch = rig.batch();
    let tokens: Vec<CommitToken> = batch.records().map(|r| r.token()).collect();
    tokens[0].mark();
    tokens[1].mark();
    assert_eq!(rig.committable(), [(0, far + 1)]);
    // Before the first record as well: the log begins far above where it was read from.
    rig.own(1, 0);
    let fetched = Fetched { high_watermark: i64::MAX, ..rig.fetched(1, data(far, 1)) };
    rig.lock().push(rig.now, fetched);
    rig.batch().iter().next().unwrap().token().mark();
    assert!(rig.committable().contains(&(1, far + 1)));
}

#[test]
fn memory_of_marks_is_bounded_by_the_gaps() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 1000));
    let batch = rig.batch();
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token()).collect();
    for token in &tokens[1..] {
        token.mark();
    }
    assert_eq!(rig.lock().partition(&tp(0)).unwrap().done.gaps(), 1);
}
