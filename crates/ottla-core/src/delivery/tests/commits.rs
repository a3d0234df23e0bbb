//! Commits carry their ownership (design §6), reliability.md S8, S9, S10, S11.

use super::support::*;
use crate::delivery::*;
use crate::{CommitError, LeaderEpoch};

fn not_owned<T>(result: Result<T, CommitError>) -> bool {
    matches!(result, Err(CommitError::NotOwned))
}

#[test]
fn a_commit_of_a_record_is_cumulative() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let token = batch.iter().nth(2).unwrap().token();
    assert_eq!(token.next_offset(), 3);
    let entry = rig.check(&token).unwrap().unwrap();
    assert_eq!((entry.tp, entry.offset, entry.leader_epoch), (tp(0), 3, LeaderEpoch::from_wire(5)));
}

#[test]
fn a_batch_stands_for_all_of_it_and_its_last_record_for_what_lies_behind_it_too() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, compacted(0, &[1, 3], 9));
    let batch = rig.batch();
    assert_eq!(batch.token().next_offset(), 9);
    assert_eq!(batch.iter().last().unwrap().token().next_offset(), 9);
    assert_eq!(batch.records().next().unwrap().token().next_offset(), 2);
}

#[test]
fn manual_commits_nothing_that_was_not_said() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    drop(rig.batch());
    rig.pending();
    assert_eq!(rig.committable(), []);
}

#[test]
fn commit_delivered_is_everything_handed_out_the_batch_in_hand_included() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.own(1, 10);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let entries = rig.lock().delivered(rig.now);
    assert_eq!(entries.len(), 1, "nothing of partition 1 was handed out");
    assert_eq!((entries[0].tp.partition(), entries[0].offset), (0, 5));
    drop(batch);
}

#[test]
fn the_commit_carries_the_leader_epoch_of_the_record_before_it_or_of_the_position() {
    let mut rig = Rig::new(auto());
    rig.own_by(0, 0, StartCause::Reset);
    let entry = rig.lock().committable(CommitScope::All).remove(0);
    assert_eq!(entry.leader_epoch, LeaderEpoch::from_wire(4), "of the start");
    let later = fill(writer(3).partition_leader_epoch(9), 3, &[3, 4]);
    rig.push(0, joined([data(0, 3), later]));
    let batch = rig.batch();
    assert_eq!(batch.iter().nth(2).unwrap().token().leader_epoch(), LeaderEpoch::from_wire(5));
    assert_eq!(batch.iter().nth(3).unwrap().token().leader_epoch(), LeaderEpoch::from_wire(9));
    drop(batch);
    rig.pending();
    let entry = rig.lock().committable(CommitScope::All).remove(0);
    assert_eq!((entry.offset, entry.leader_epoch), (5, LeaderEpoch::from_wire(9)));
}

#[test]
fn an_unknown_leader_epoch_is_committed_all_the_same() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, fill(writer(0).partition_leader_epoch(-1), 0, &[0, 1]));
    drop(rig.batch());
    rig.pending();
    let entry = rig.lock().committable(CommitScope::All).remove(0);
    assert_eq!((entry.offset, entry.leader_epoch), (2, None));
}

#[test]
fn a_token_of_another_epoch_is_not_owned() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 3));
    let batch = rig.batch();
    let token = batch.token();
    rig.lock().lose(rig.now, &[tp(0)]);
    assert!(not_owned(rig.check(&token)), "lost");
    rig.own(0, 0);
    assert!(not_owned(rig.check(&token)), "and owned again");
    assert!(!batch.is_owned() && !token.is_owned());
    assert_eq!(offsets(&batch), [0, 1, 2], "readable all the same");
}

#[test]
fn a_seek_makes_tokens_of_before_not_owned() {
    let mut rig = Rig::new(manual());
    let before = rig.own(0, 0);
    rig.push(0, data(0, 3));
    let token = rig.batch().token();
    let after = rig.seek(0, 100);
    assert!(after > before);
    assert!(not_owned(rig.check(&token)));
    token.mark();
    assert_eq!(rig.committable(), [], "nor does a mark reach into the new one");
}

#[test]
fn the_epoch_of_a_kept_partition_does_not_move_with_the_generation() {
    let mut rig = Rig::new(manual());
    let epoch = rig.own(0, 0);
    rig.push(0, data(0, 3));
    let token = rig.batch().token();
    // A rebalance: partition 1 comes, 0 is kept, whether the group names it again or not.
    assert_eq!(rig.lock().assign(rig.now, &[tp(0), tp(1)]).len(), 1);
    assert_eq!(rig.lock().ownership(&tp(0)), Some(epoch));
    assert_eq!(rig.check(&token).unwrap().unwrap().offset, 3);
}

#[test]
fn a_token_at_or_below_what_is_committed_resolves_ok_unsent() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token()).collect();
    let entry = rig.check(&tokens[3]).unwrap().unwrap();
    rig.commit(&entry);
    assert!(rig.check(&tokens[3]).unwrap().is_none());
    assert!(rig.check(&tokens[0]).unwrap().is_none());
    assert!(rig.check(&tokens[4]).unwrap().is_some());
}

#[test]
fn a_token_below_a_commit_on_its_way_sends_the_higher_one_again() {
    let mut rig = Rig::new(manual());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let tokens: Vec<CommitToken> = batch.iter().map(|r| r.token().with_metadata("mine")).collect();
    let high = rig.check(&tokens[3]).unwrap().unwrap();
    let low = rig.check(&tokens[1]).unwrap().unwrap();
    assert_eq!(low, high, "the coordinator's offset never goes back without a rewind (S11)");
}

#[test]
fn plain_offsets_go_lower_only_with_rewind() {
    let mut rig = Rig::new(manual());
    rig.own(0, 100);
    rig.push(0, data(100, 10));
    let batch = rig.batch();
    let entry = rig.check_plain(0, 105, false).unwrap().unwrap();
    rig.commit(&entry);
    let refused = rig.check_plain(0, 103, false);
    assert!(matches!(refused, Err(CommitError::WouldRewind { committed: 105 })), "{refused:?}");
    let entry = rig.check_plain(0, 103, true).unwrap().unwrap();
    assert_eq!(entry.offset, 103);
    rig.commit(&entry);
    assert_eq!(rig.committable(), [], "what is done beyond does not undo the rewind at once");
    // More that is done does go on from there.
    let entry = rig.check(&batch.token()).unwrap().unwrap();
    assert_eq!(entry.offset, 110);
}

#[test]
fn an_offset_below_the_committed_one_needs_rewind_before_anything_was_read() {
    let rig = Rig::new(manual());
    rig.own(0, 100);
    assert!(matches!(rig.check_plain(0, 50, false), Err(CommitError::WouldRewind { committed: 100 })));
    assert!(rig.check_plain(0, 100, false).unwrap().is_none(), "committed already");
    assert_eq!(rig.check_plain(0, 50, true).unwrap().unwrap().offset, 50);
}

#[test]
fn plain_offsets_are_checked_against_present_ownership() {
    let rig = Rig::new(manual());
    assert!(not_owned(rig.check_plain(0, 5, false)));
    rig.own(0, 0);
    assert!(matches!(rig.check_plain(0, -1, true), Err(CommitError::Fatal(_))));
    assert_eq!(rig.check_plain(0, 5, false).unwrap().unwrap().offset, 5);
}

#[test]
fn after_a_seek_the_user_may_commit_below_what_was_committed_before() {
    let mut rig = Rig::new(auto());
    rig.own(0, 500);
    rig.seek(0, 10);
    rig.push(0, data(10, 5));
    drop(rig.batch());
    rig.pending();
    assert_eq!(rig.committable(), [(0, 15)]);
    assert_eq!(rig.check_plain(0, 12, false).map_err(|e| e.to_string()), Err(WOULD.to_owned()));
}

const WOULD: &str = "not committed: 15 is committed already; use rewind() to go back";

#[test]
fn explicit_commits_under_auto_count_as_done() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    let batch = rig.batch();
    let entry = rig.check(&batch.iter().nth(1).unwrap().token()).unwrap().unwrap();
    assert_eq!(entry.offset, 2);
    assert_eq!(rig.committable(), [(0, 2)], "until it is taken");
    rig.commit(&entry);
    assert_eq!(rig.committable(), []);
    rig.revoke(0);
    assert!(rig.poll_revocation().is_none(), "records 2 to 4 are in hand");
    rig.check(&batch.token()).unwrap();
    assert_eq!(rig.poll_revocation().unwrap().commits[0].offset, 5, "done by a commit, though alive");
}

#[test]
fn metadata_goes_in_with_its_own_offset_and_comes_back() {
    let mut rig = Rig::new(manual());
    rig.own_by(0, 7, StartCause::Committed { metadata: Some("from before".to_owned()) });
    assert_eq!(rig.lock().committed(&tp(0)), Some((7, Some("from before"))));
    rig.push(0, data(7, 3));
    let batch = rig.batch();
    let token = batch.iter().next().unwrap().token().with_metadata("mine");
    let entry = rig.check(&token).unwrap().unwrap();
    assert_eq!(entry.metadata.as_deref(), Some("mine"));
    assert_eq!(rig.lock().committable(CommitScope::All)[0].metadata.as_deref(), Some("mine"), "sent again");
    rig.commit(&entry);
    assert_eq!(rig.lock().committed(&tp(0)), Some((8, Some("mine"))));
    let entry = rig.check(&batch.token()).unwrap().unwrap();
    assert_eq!(entry.metadata, None, "it belongs to offset 8");
}

#[test]
fn what_the_coordinator_says_of_another_ownership_says_nothing() {
    let mut rig = Rig::new(auto());
    let old = rig.own(0, 0);
    rig.push(0, data(0, 5));
    rig.seek(0, 0);
    rig.lock().note_committed(&tp(0), old, 5);
    rig.push(0, data(0, 3));
    drop(rig.batch());
    rig.pending();
    assert_eq!(rig.committable(), [(0, 3)]);
}

#[test]
fn what_is_committed_is_not_committed_again() {
    let mut rig = Rig::new(auto());
    rig.own(0, 0);
    rig.push(0, data(0, 5));
    drop(rig.batch());
    rig.pending();
    let entries = rig.lock().committable(CommitScope::All);
    rig.commit(&entries[0]);
    assert_eq!(rig.committable(), []);
    assert_eq!(rig.lock().committable(CommitScope::Only(&[tp(0), tp(7)])), []);
}

#[test]
fn the_outcome_of_a_background_commit_is_an_event() {
    let mut rig = Rig::new(manual());
    rig.lock().background_committed(vec![(tp(0), Ok(())), (tp(1), Err(CommitError::NotOwned))]);
    assert!(matches!(rig.event(), Event::CommitCompleted(tps) if tps == [tp(0)]));
    assert!(matches!(rig.event(), Event::CommitFailed(failed) if failed[0].0 == tp(1)));
}
