//! What is done (design §6, "Done, marks and commits"), reliability.md S8.

use super::support::*;
use crate::delivery::*;

#[test]
fn auto_data_is_done_only_when_the_reader_came_back_and_no_handle_is_alive() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3)]));
    let batch = rig.batch();
    assert_eq!(rig.committable(), [], "in hand");
    rig.pending();
    assert_eq!(rig.committable(), [], "come back, but the batch is alive");
    let record = batch.records().nth(1).unwrap();
    drop(batch);
    assert_eq!(rig.committable(), [], "a record of it is alive");
    drop(record);
    assert_eq!(rig.committable(), [(0, 3)]);
}

#[test]
fn auto_data_that_was_dropped_is_not_done_before_the_reader_comes_back() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    drop(rig.batch());
    assert_eq!(rig.committable(), []);
    rig.pending();
    assert_eq!(rig.committable(), [(0, 3)]);
}

#[test]
fn auto_commits_end_at_the_end_of_the_previous_read() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    drop(rig.batch_of(3));
    drop(rig.batch_of(3));
    assert_eq!(rig.committable(), [(0, 3)]);
}

#[test]
fn thirty_two_records_in_flight_are_not_committed_early() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 100));
    // A stream of records: each read gives one, 32 of them are worked on, the oldest is the slowest.
    let mut in_flight: Vec<Record> = Vec::new();
    for offset in 0..64 {
        let record = rig.batch_of(1).records().next().unwrap();
        assert_eq!(record.offset(), offset);
        in_flight.push(record);
        if in_flight.len() > 32 {
            in_flight.remove(1);
        }
        assert_eq!(rig.committable(), [], "record 0 is alive");
    }
    in_flight.remove(0);
    let oldest = in_flight[0].offset();
    assert_eq!(rig.committable(), [(0, oldest)], "up to the oldest that is alive");
}

#[test]
fn a_gap_holds_back_what_is_done_behind_it_and_the_memory_of_it_stays_small() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 5000));
    let first = rig.batch_of(1);
    for _ in 0..4000 {
        drop(rig.batch_of(1));
    }
    assert_eq!(rig.committable(), []);
    let delivery = rig.lock();
    let p = delivery.partition(&tp(0)).unwrap();
    assert!(format!("{:?}", p.handed).matches("handles").count() < 64, "swept as it grows");
    assert_eq!(p.done.gaps(), 1);
    drop(delivery);
    drop(first);
    assert_eq!(rig.committable(), [(0, 4000)], "the last one is in hand");
}

#[test]
fn closing_is_not_coming_back() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    drop(rig.batch_of(3));
    drop(rig.batch_of(3));
    rig.lock().reader_gone();
    assert_eq!(rig.committable(), [(0, 3)], "the batch in hand after a break is not done");
    assert!(rig.lock().is_reader_gone());
}

#[test]
fn shutdown_drops_what_was_not_handed_out_and_the_next_read_marks_the_previous_batch_done() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    drop(rig.batch_of(3));
    rig.lock().shutdown();
    assert_eq!(rig.buffered(), 0);
    assert_eq!(rig.committable(), []);
    assert!(matches!(rig.take(), Taken::End));
    assert_eq!(rig.committable(), [(0, 3)]);
    assert!(matches!(rig.take(), Taken::End), "and so on");
    assert_eq!(rig.push(0, data(3, 3)), Pushed::Stale);
}

#[test]
fn copied_data_cannot_be_seen_a_detached_batch_does_not_hold_back_commits() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    let copy = rig.batch().detach();
    assert_eq!(rig.pinned(), 0);
    rig.pending();
    assert_eq!(rig.committable(), [(0, 6)]);
    assert_eq!(offsets(&copy), [0, 1, 2, 3, 4, 5]);
    assert_eq!(copy.records().nth(4).unwrap().value_bytes().unwrap(), 4i64.to_be_bytes().as_slice());
    assert!(copy.is_owned());
}

#[test]
fn a_handle_that_holds_back_commits_is_reported_with_its_age() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    let first = rig.batch_of(3);
    drop(rig.batch_of(3));
    assert_eq!(rig.lock().held_back(rig.now).len(), 1);
    rig.pass(std::time::Duration::from_secs(7));
    rig.pending();
    assert_eq!(rig.lock().held_back(rig.now), [(tp(0), 0, std::time::Duration::from_secs(7))]);
    drop(first);
    assert_eq!(rig.lock().held_back(rig.now), []);
}

#[test]
fn a_read_that_takes_several_batches_comes_back_from_none_of_them() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, joined([data(0, 3), data(3, 3)]));
    drop(rig.batch_of(3));
    let filter = Filter { max_records: 3, ..Filter::BATCHES };
    let more = rig.shared.take_more(rig.now, &mut rig.decoder, filter, None);
    assert!(matches!(more, Taken::Batch(_)));
    drop(more);
    assert_eq!(rig.committable(), []);
    rig.pending();
    assert_eq!(rig.committable(), [(0, 6)]);
}

#[test]
fn control_and_compacted_offsets_next_to_done_data_are_done() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    let commit = ottla_wire::records::ControlRecord::Commit;
    rig.push(0, joined([compacted(0, &[1, 3], 6), marker(6, 1, commit)]));
    let batch = rig.batch();
    assert_eq!((offsets(&batch), batch.next_offset()), (vec![1, 3], 7));
    drop(batch);
    rig.pending();
    assert_eq!(rig.committable(), [(0, 7)], "the position, not the last record + 1");
    // And when nothing but control records comes later.
    rig.push(0, marker(7, 1, commit));
    rig.pending();
    assert_eq!(rig.committable(), [(0, 8)]);
    assert_eq!(rig.position(0), Some(8));
}

#[test]
fn a_position_that_the_reset_policy_chose_is_committable_at_once() {
    for config in [auto(), manual()] {
        let mut rig = Rig::new(config);
        let epoch = rig.own_by(0, 42, StartCause::Reset);
        let entries = rig.lock().committable(CommitScope::All);
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].offset, entries[0].epoch), (42, epoch));
        rig.commit(&entries[0]);
        assert_eq!(rig.committable(), []);
        rig.pending();
    }
}

#[test]
fn a_position_that_the_user_or_the_group_chose_is_not_committed_before_something_is_done() {
    let rig = Rig::new(auto());
    rig.own_by(0, 42, StartCause::Explicit);
    rig.own(1, 42);
    assert_eq!(rig.committable(), []);
}
