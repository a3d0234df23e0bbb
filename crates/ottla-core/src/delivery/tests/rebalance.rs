//! Revocation, loss, assignment (design §6, "Rebalance"; groups.md §9), reliability.md S6.

use std::time::Duration;

use super::support::*;
use crate::delivery::*;

fn take_event(rig: &mut Rig) -> Taken {
    rig.take_with(Filter::EVENTS, None)
}

fn revoking(rig: &mut Rig) -> Revocation {
    match rig.event() {
        Event::Revoking(revocation) => revocation,
        other => panic!("{other:?}"),
    }
}

/// Reads with events until they are met.
fn rig_with_events(config: DeliveryConfig) -> Rig {
    let mut rig = Rig::new(config);
    rig.own(0, 0);
    rig.event();
    rig
}

#[test]
fn with_nothing_handed_out_a_revocation_ends_at_once() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    let id = rig.revoke(0);
    assert!(woken.count() > 0);
    let revoked = rig.poll_revocation().unwrap();
    assert_eq!((revoked.id, revoked.timed_out, revoked.partitions), (id, false, vec![tp(0)]));
    assert_eq!(revoked.commits, []);
    assert!(rig.poll_revocation().is_none(), "told once");
}

/// Nobody would be told of what the policy chose, and the next owner would take it for committed.
#[test]
fn a_partition_that_is_given_back_is_not_reset_any_more() {
    let mut rig = Rig::new(manual());
    let epoch = rig.lock().assign(rig.now, &[tp(0)])[0].1;
    rig.lock().resetting(&tp(0), epoch, ResetCause::NoCommittedOffset);
    assert!(matches!(rig.event(), Event::Assigned(_)));
    rig.revoke(0);
    revoking(&mut rig);
    let start = Start { offset: 4, leader_epoch: None, cause: StartCause::Reset };
    assert!(!rig.lock().start(rig.now, &tp(0), epoch, start));
    assert!(matches!(take_event(&mut rig), Taken::Pending));
    let revoked = rig.poll_revocation().expect("the reader reads on");
    assert_eq!((revoked.timed_out, revoked.commits), (false, Vec::new()));
}

#[test]
fn a_revocation_of_nothing_owned_is_done() {
    let rig = Rig::new(auto());
    rig.revoke(3);
    assert_eq!(rig.poll_revocation().unwrap().partitions, []);
}

#[test]
fn auto_holds_the_revocation_until_all_that_was_handed_out_is_done_and_commits_it() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    rig.push(0, data(0, 3));
    let batch = rig.batch();
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    let id = rig.revoke(0);
    assert!(rig.poll_revocation().is_none(), "in hand");
    let record = batch.records().next().unwrap();
    drop(batch);
    rig.push(1, data(0, 1));
    drop(rig.batch());
    assert!(rig.poll_revocation().is_none(), "come back, but a record is alive");
    woken.count();
    drop(record);
    assert_eq!(woken.count(), 1, "the last handle wakes the driver");
    let revoked = rig.poll_revocation().unwrap();
    assert!(!revoked.timed_out);
    assert_eq!(revoked.commits.len(), 1);
    assert_eq!(revoked.commits[0].offset, 3);
    rig.commit(&revoked.commits[0]);
    rig.lock().end_revocation(rig.now, id);
    assert_eq!(rig.owned().len(), 1);
    assert!(matches!(take_event(&mut rig), Taken::Pending), "no loss to tell");
}

#[test]
fn coming_back_ends_the_wait_for_dropped_data_and_wakes_the_driver() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    drop(rig.batch());
    rig.revoke(0);
    assert!(rig.poll_revocation().is_none());
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    rig.pending();
    assert_eq!(woken.count(), 1);
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 3);
}

#[test]
fn past_the_deadline_the_partitions_are_lost_and_said_so() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    let batch = rig.batch();
    let id = rig.revoke(0);
    assert_eq!(rig.lock().revocation_deadline(), Some(rig.now + Duration::from_secs(60)));
    rig.pass(Duration::from_secs(59));
    assert!(rig.poll_revocation().is_none());
    rig.pass(Duration::from_secs(1));
    let revoked = rig.poll_revocation().unwrap();
    assert!(revoked.timed_out);
    assert_eq!(revoked.commits, [], "nothing of it is done");
    assert_eq!(rig.lock().revocation_deadline(), None);
    rig.lock().end_revocation(rig.now, id);
    assert!(!batch.is_owned());
    assert!(matches!(take_event(&mut rig), Taken::Event(Event::Lost(tps)) if tps == [tp(0)]));
    assert!(matches!(take_event(&mut rig), Taken::Pending));
}

#[test]
fn from_the_revocation_on_nothing_of_the_partition_is_returned() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 6));
    let batch = rig.batch_of(2);
    let late = rig.fetched(0, data(6, 1));
    let id = rig.revoke(0);
    rig.pending();
    assert_eq!(rig.lock().push(rig.now, late), Pushed::Stale);
    rig.pending();
    // Until it has finished the tokens are good.
    assert!(batch.is_owned());
    assert!(rig.check(&batch.token()).unwrap().is_some());
    rig.poll_revocation();
    rig.lock().end_revocation(rig.now, id);
    assert!(!batch.is_owned());
    assert!(rig.check(&batch.token()).is_err());
    assert_eq!(offsets(&batch), [0, 1], "readable all the same");
    // Owned again: from the committed offset on, and the old batch is still of the old ownership.
    rig.own(0, 2);
    rig.push(0, data(2, 2));
    assert_eq!(offsets(&rig.batch()), [2, 3]);
    assert!(!batch.is_owned());
}

#[test]
fn with_events_reading_on_equals_finish() {
    let mut rig = rig_with_events(auto());
    rig.push(0, data(0, 3));
    assert!(matches!(take_event(&mut rig), Taken::Batch(_)));
    rig.revoke(0);
    assert!(rig.poll_revocation().is_none(), "the reader has not met it");
    let revocation = revoking(&mut rig);
    assert_eq!(revocation.partitions(), [tp(0)]);
    assert!(revocation.deadline() > rig.now);
    drop(revocation);
    assert!(rig.poll_revocation().is_none(), "dropping it does nothing");
    assert!(matches!(take_event(&mut rig), Taken::Pending));
    let revoked = rig.poll_revocation().unwrap();
    assert_eq!(revoked.commits[0].offset, 3, "come back and dropped: done");
}

#[test]
fn with_events_even_an_idle_revocation_waits_for_the_reader() {
    let mut rig = rig_with_events(auto());
    rig.revoke(0);
    assert!(rig.poll_revocation().is_none(), "the reader may keep state of its own");
    revoking(&mut rig).finish([]);
    assert!(rig.poll_revocation().is_some());
}

#[test]
fn a_revocation_met_by_a_batch_read_waits_for_its_work_whatever_read_comes_next() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    let batch = rig.batch();
    rig.revoke(0);
    rig.pending();
    // Events from here on: reading on must not finish what is still being worked on.
    assert!(matches!(take_event(&mut rig), Taken::Pending));
    assert!(rig.poll_revocation().is_none(), "in hand");
    drop(batch);
    assert!(rig.poll_revocation().is_some(), "and no event is there that would finish it");
}

#[test]
fn finish_commits_its_tokens() {
    let mut rig = rig_with_events(manual());
    rig.push(0, data(0, 5));
    let Taken::Batch(batch) = take_event(&mut rig) else { panic!() };
    rig.revoke(0);
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    let revocation = revoking(&mut rig);
    revocation.finish([batch.iter().nth(2).unwrap().token()]);
    assert_eq!(woken.count(), 1);
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 3, "cumulative, as commit is");
}

#[test]
fn finish_marks_where_marks_are_used() {
    let mut rig = rig_with_events(manual());
    rig.push(0, data(0, 5));
    let Taken::Batch(batch) = take_event(&mut rig) else { panic!() };
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token()).collect();
    tokens[0].mark();
    rig.revoke(0);
    revoking(&mut rig).finish([tokens[1].clone(), tokens[3].clone()]);
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 2, "record 2 was never acknowledged");
}

#[test]
fn finish_leaves_out_tokens_of_other_ownerships() {
    let mut rig = rig_with_events(manual());
    rig.push(0, data(0, 5));
    let Taken::Batch(batch) = take_event(&mut rig) else { panic!() };
    rig.seek(0, 0);
    rig.revoke(0);
    revoking(&mut rig).finish([batch.token()]);
    assert_eq!(rig.poll_revocation().unwrap().commits, []);
}

#[test]
fn a_revocation_that_has_ended_cannot_be_finished_any_more() {
    let mut rig = rig_with_events(manual());
    let id = rig.revoke(0);
    let revocation = revoking(&mut rig);
    rig.pass(Duration::from_secs(60));
    assert!(rig.poll_revocation().unwrap().timed_out);
    rig.lock().end_revocation(rig.now, id);
    revocation.finish([]);
    assert!(matches!(rig.event(), Event::Lost(_)));
}

#[test]
fn manual_gives_up_exactly_what_was_committed_or_marked() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    rig.revoke(0);
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token()).collect();
    assert!(rig.poll_revocation().is_none(), "in hand");
    rig.pending();
    assert!(rig.poll_revocation().is_none(), "coming back says nothing in this mode");
    for token in &tokens[..3] {
        token.mark();
    }
    assert!(rig.poll_revocation().is_none());
    drop(batch);
    let revoked = rig.poll_revocation().unwrap();
    assert_eq!(revoked.commits[0].offset, 3, "the rest was dropped: it is not committed");
}

#[test]
fn manual_waits_no_longer_than_until_all_is_marked_in_any_order() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 4));
    let (a, b) = (rig.batch_of(2), rig.batch_of(2));
    rig.revoke(0);
    b.token().mark();
    assert!(rig.poll_revocation().is_none());
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    for record in &a {
        record.token().mark();
    }
    assert!(woken.count() > 0, "both are alive, and marked");
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 4);
}

#[test]
fn a_reader_that_is_gone_holds_nothing_up() {
    let mut rig = rig_with_events(auto());
    rig.push(0, data(0, 4));
    let batch = take_event(&mut rig);
    rig.revoke(0);
    rig.lock().reader_gone();
    assert_eq!(rig.poll_revocation().unwrap().commits, [], "the batch in hand is not done");
    drop(batch);
}

#[test]
fn a_loss_ends_the_ownership_at_once_and_is_told() {
    let mut rig = rig_with_events(auto());
    rig.push(0, data(0, 4));
    let Taken::Batch(batch) = rig.take_with(Filter { max_records: 2, ..Filter::EVENTS }, None) else {
        panic!()
    };
    rig.lock().lose(rig.now, &[tp(0), tp(5)]);
    assert!(!batch.is_owned());
    assert!(matches!(rig.event(), Event::Lost(tps) if tps == [tp(0)]));
    assert!(matches!(take_event(&mut rig), Taken::Pending));
    assert_eq!(rig.committable(), [], "nothing of it can be committed");
}

#[test]
fn a_loss_during_a_revocation_takes_its_partitions_out_of_it() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 2));
    let batch = rig.batch();
    let id = rig.revoke(0);
    rig.lock().lose(rig.now, &[tp(0)]);
    let revoked = rig.poll_revocation().unwrap();
    assert_eq!((revoked.partitions, revoked.commits, revoked.timed_out), (vec![], vec![], false));
    rig.lock().end_revocation(rig.now, id);
    drop(batch);
    assert!(matches!(rig.event(), Event::Lost(_)));
}

#[test]
fn a_partition_that_comes_back_before_its_revocation_ended_is_a_new_ownership() {
    let mut rig = Rig::new(auto());
    let old = rig.own(0, 0);
    rig.push(0, data(0, 2));
    let batch = rig.batch();
    let id = rig.revoke(0);
    let new = rig.own(0, 0);
    assert_ne!(old, new);
    assert!(!batch.is_owned());
    rig.lock().end_revocation(rig.now, id);
    assert_eq!(rig.lock().ownership(&tp(0)), Some(new), "the old revocation does not end it");
}

#[test]
fn pause_survives_rebalances_of_kept_partitions() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    rig.lock().pause(&[tp(0)]);
    // Cooperative: the partition is not touched.
    rig.own(1, 0);
    assert!(rig.lock().is_paused(&tp(0)));
    // Eager: everything is revoked and given out anew.
    let id = rig.lock().revoke(rig.now, &[tp(0), tp(1)], rig.now);
    rig.poll_revocation();
    rig.lock().end_revocation(rig.now, id);
    rig.lock().assign(rig.now, &[tp(0), tp(1)]);
    assert_eq!(rig.lock().paused(), [tp(0)]);
    // But not a rebalance in which it belonged to somebody else.
    let id = rig.lock().revoke(rig.now, &[tp(0)], rig.now);
    rig.poll_revocation();
    rig.lock().end_revocation(rig.now, id);
    rig.lock().assign(rig.now, &[tp(2)]);
    rig.lock().assign(rig.now, &[tp(0)]);
    assert!(!rig.lock().is_paused(&tp(0)));
}

#[test]
fn a_seek_of_a_partition_that_is_being_revoked_is_refused() {
    let rig = Rig::new(auto());
    rig.own(0, 0);
    rig.revoke(0);
    assert_eq!(rig.lock().begin_seek(rig.now, &tp(0)), None);
    assert_eq!(rig.lock().begin_seek(rig.now, &tp(9)), None);
}

#[test]
fn nothing_is_handed_out_that_was_decoded_while_the_partition_was_taken_away() {
    // A read in three steps, with everything that may come between the first and the last.
    for between in 0..5 {
        let mut rig = Rig::new(auto());
        let epoch = rig.own(0, 0);
        rig.pending();
        rig.push(0, data(0, 3));
        let key = rig.lock().next_ready().unwrap();
        let mut checkout = rig.shared.lock().check_out(&rig.shared, key, 10).unwrap();
        match between {
            0 => drop(rig.seek(0, 1)),
            1 => drop(rig.revoke(0)),
            2 => rig.lock().lose(rig.now, &[tp(0)]),
            3 => rig.lock().shutdown(),
            _ => drop(rig.lock().drop_prefetch(&tp(0), epoch)),
        }
        checkout.decode(&mut rig.decoder);
        assert!(rig.lock().finish_take(rig.now, &mut checkout, None).is_none(), "{between}");
        drop(checkout);
        assert_eq!(rig.buffered(), 0);
        assert_eq!(rig.committable(), []);
    }
}

#[test]
fn what_was_decoded_while_the_partition_was_paused_is_returned_on_resume() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.pending();
    let commit = ottla_wire::records::ControlRecord::Commit;
    rig.push(0, joined([marker(0, 1, commit), data(1, 3), marker(4, 1, commit), compressed(5, 3, 9)]));
    let key = rig.lock().next_ready().unwrap();
    let mut checkout = rig.shared.lock().check_out(&rig.shared, key, 5).unwrap();
    rig.lock().pause(&[tp(0)]);
    checkout.decode(&mut rig.decoder);
    assert!(rig.lock().finish_take(rig.now, &mut checkout, None).is_none());
    drop(checkout);
    rig.pending();
    assert_eq!(rig.position(0), Some(1), "nothing was returned yet");
    assert_eq!(rig.committable(), [(0, 1)]);
    rig.lock().resume(rig.now, &[tp(0)]);
    let mut seen = Vec::new();
    let mut ends = Vec::new();
    while let Taken::Batch(batch) = rig.take_with(Filter { max_records: 2, ..Filter::BATCHES }, None) {
        seen.extend(offsets(&batch));
        ends.push(batch.next_offset());
    }
    assert_eq!(
        (seen, ends),
        (vec![1, 2, 3, 5, 6, 7], vec![3, 5, 7, 8]),
        "the marker goes with what lies before it"
    );
    assert_eq!(rig.position(0), Some(8));
    assert_eq!(rig.buffered(), 0);
}

#[test]
fn after_shutdown_the_next_read_ends_revocations_too() {
    let mut rig = rig_with_events(auto());
    rig.push(0, data(0, 3));
    drop(take_event(&mut rig));
    rig.revoke(0);
    rig.lock().shutdown();
    assert!(rig.poll_revocation().is_none(), "the reader is at work");
    assert!(matches!(take_event(&mut rig), Taken::End));
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 3);
}

#[test]
fn without_a_revocation_dropped_handles_wake_nobody() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.own(1, 0);
    rig.push(0, data(0, 3));
    let batch = rig.batch();
    let id = rig.revoke(1);
    rig.poll_revocation();
    rig.lock().end_revocation(rig.now, id);
    let (waker, woken) = waker();
    rig.shared.set_driver_waker(waker);
    drop(batch);
    assert_eq!(woken.count(), 0);
}

/// A reader that stays away while partitions come and go is told of what it knew and of what it has.
#[test]
fn partitions_that_come_and_go_unseen_are_not_told_of() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    assert!(matches!(rig.event(), Event::Assigned(tps) if tps == [tp(0)]));
    for round in 0..500 {
        rig.lock().lose(rig.now, &[tp(0), tp(1)]);
        rig.own(0, 0);
        rig.own(1, 0);
        rig.own(2 + round, 0);
    }
    assert_eq!(rig.lock().events.len(), 1 + 2 + 500, "the one loss, and what is owned");
    rig.lock().lose(rig.now, &(0..600).map(tp).collect::<Vec<_>>());
    assert!(matches!(rig.event(), Event::Lost(tps) if tps == [tp(0)]));
    rig.pending();
    rig.own(1, 0);
    rig.own(2, 0);
    rig.lock().unassign(rig.now, &[tp(1)]);
    assert!(matches!(rig.event(), Event::Assigned(tps) if tps == [tp(2)]));
    rig.pending();
}

/// Found by the simulator: the reset came out of the blue, of a partition that the reader never had.
#[test]
fn the_reset_of_an_ownership_that_came_and_went_unseen_is_not_told_either() {
    let reset = |partition| Event::OffsetReset {
        topic_partition: tp(partition),
        offset: 0,
        cause: ResetCause::NoCommittedOffset,
    };
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    assert!(matches!(rig.event(), Event::Assigned(tps) if tps == [tp(0)]));
    rig.lock().push_event(rig.now, reset(0));
    rig.lock().lose(rig.now, &[tp(0)]);
    rig.own(0, 0);
    rig.lock().push_event(rig.now, reset(0));
    rig.own(1, 0);
    rig.lock().push_event(rig.now, reset(1));
    rig.lock().lose(rig.now, &[tp(0), tp(1)]);
    let told = matches!(rig.event(), Event::OffsetReset { topic_partition, .. } if topic_partition == tp(0));
    assert!(told, "that one the reader had");
    assert!(matches!(rig.event(), Event::Lost(tps) if tps == [tp(0)]));
    rig.pending();
}
