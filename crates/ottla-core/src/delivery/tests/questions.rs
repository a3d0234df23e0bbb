//! Where partitions begin whose offsets the user keeps.

use std::time::Duration;

use super::support::*;
use crate::config::CommitMode;
use crate::delivery::*;
use crate::{ErrorKind, OwnershipEpoch};

fn external() -> DeliveryConfig {
    DeliveryConfig { commit: CommitMode::External, start_timeout: Duration::from_secs(60), ..auto() }
}

fn assigned(rig: &Rig, partition: i32) -> OwnershipEpoch {
    rig.lock().assign(rig.now, &[tp(partition)])[0].1
}

fn answer(rig: &Rig, partition: i32) -> Option<OwnershipEpoch> {
    rig.lock().answer_start(&tp(partition), None)
}

#[test]
fn nothing_is_fetched_before_the_reader_has_said_where() {
    let mut rig = Rig::new(external());
    let epoch = assigned(&rig, 0);
    assert!(rig.lock().fetchable().is_empty());
    assert_eq!(answer(&rig, 0), None, "the reader does not know of it yet");
    assert!(matches!(rig.event(), Event::Assigned(p) if p == [tp(0)]));
    assert_eq!(answer(&rig, 0), Some(epoch));
    assert_eq!(answer(&rig, 0), None, "once");
    assert!(rig.lock().fetchable().is_empty(), "the client looks for the place");
    rig.start(0, epoch, 7, StartCause::Explicit);
    assert_eq!(rig.lock().fetchable()[0].offset, 7);
}

#[test]
fn an_answer_is_for_the_ownership_that_was_asked_for() {
    let rig = Rig::new(external());
    let first = assigned(&rig, 0);
    assert_eq!(rig.lock().ask_reader(rig.now), [(tp(0), first)]);
    let (waker, woken) = waker();
    assert!(rig.lock().is_awaited(&[(tp(0), first)], &waker));
    rig.lock().lose(rig.now, &[tp(0)]);
    assert_eq!(woken.count(), 1, "who is looking for it learns that it helps nobody");
    assert!(!rig.lock().is_awaited(&[(tp(0), first)], &waker));
    let second = assigned(&rig, 0);
    assert_eq!(rig.lock().answer_start(&tp(0), Some(first)), None);
    assert_eq!(rig.lock().answer_start(&tp(0), Some(second)), None, "not told of yet");
    assert_eq!(rig.lock().ask_reader(rig.now), [(tp(0), second)]);
    assert_eq!(rig.lock().answer_start(&tp(0), Some(first)), None);
    assert_eq!(rig.lock().answer_start(&tp(0), Some(second)), Some(second));
}

#[test]
fn kept_partitions_are_not_asked_for_again_and_a_revocation_ends_the_question() {
    let rig = Rig::new(external());
    let kept = assigned(&rig, 0);
    rig.lock().ask_reader(rig.now);
    answer(&rig, 0).unwrap();
    rig.start(0, kept, 0, StartCause::Explicit);
    let new = rig.lock().assign(rig.now, &[tp(0), tp(1)]);
    assert_eq!(new.len(), 1);
    assert_eq!(rig.lock().ask_reader(rig.now), new);
    rig.revoke(1);
    assert!(!rig.lock().is_asking());
    assert_eq!(answer(&rig, 1), None);
}

#[test]
fn an_answer_that_is_overdue_stops_the_partition_with_an_error_once_and_a_seek_starts_it() {
    let mut rig = Rig::new(external());
    assigned(&rig, 0);
    rig.pass(Duration::from_secs(600));
    rig.lock().expire_questions(rig.now);
    assert_eq!(rig.lock().question_deadline(), None, "the time begins when the reader knows of it");
    assert!(matches!(rig.event(), Event::Assigned(_)));
    let deadline = rig.now + Duration::from_secs(60);
    assert_eq!(rig.lock().question_deadline(), Some(deadline));
    rig.now = deadline;
    rig.lock().expire_questions(rig.now);
    let error = rig.error();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::NoOffset, Some(&tp(0))));
    assert!(error.to_string().contains("start_at"), "{error}");
    assert_eq!(answer(&rig, 0), None);
    rig.pending();
    rig.seek(0, 3);
    assert_eq!(rig.lock().fetchable()[0].offset, 3);
}

#[test]
fn a_seek_answers_too() {
    let rig = Rig::new(external());
    assigned(&rig, 0);
    rig.lock().ask_reader(rig.now);
    rig.seek(0, 5);
    assert!(!rig.lock().is_asking());
    assert_eq!((answer(&rig, 0), rig.position(0)), (None, Some(5)));
}

#[test]
fn nothing_is_committed_whatever_is_done() {
    let mut rig = Rig::new(external());
    let epoch = assigned(&rig, 0);
    rig.lock().ask_reader(rig.now);
    answer(&rig, 0).unwrap();
    rig.lock().resetting(&tp(0), epoch, ResetCause::NoCommittedOffset);
    rig.start(0, epoch, 0, StartCause::Reset);
    rig.push(0, data(0, 10));
    drop(rig.batch());
    rig.pending();
    assert_eq!(rig.committable(), []);
    assert_eq!(rig.lock().delivered(rig.now), []);
    rig.revoke(0);
    let revoked = rig.poll_revocation().expect("what was handed out is done");
    assert_eq!((revoked.timed_out, revoked.commits.len()), (false, 0));
}

#[test]
fn after_the_end_nobody_is_asked() {
    let rig = Rig::new(external());
    assigned(&rig, 0);
    rig.lock().shutdown();
    assert_eq!(rig.lock().ask_reader(rig.now), []);
}
