//! OffsetForLeaderEpoch.

use super::*;
use crate::offsets::validate::{Doubt, ValidationFindings, Validations, Verdict};

const DOUBT: Doubt = Doubt {
    ownership: OwnershipEpoch(3),
    offset: 100,
    last_epoch: LeaderEpoch(5),
    leader: LEADER,
    leader_epoch: LeaderEpoch(7),
};

/// OffsetForLeaderEpoch version 3: partition, error, epoch, end.
fn ends(partitions: &[(i32, i16, i32, i64)]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i16(1);
    out.put_slice(b"t");
    out.put_i32(partitions.len() as i32);
    for &(partition, error, epoch, end) in partitions {
        out.put_i16(error);
        out.put_i32(partition);
        out.put_i32(epoch);
        out.put_i64(end);
    }
    out
}

fn in_doubt() -> Validations {
    let mut validations = Validations::new(BACKOFF, Rng::new(1));
    validations.begin(T0, &tp(0));
    validations
}

fn due(validations: &Validations, now: Timestamp) -> bool {
    !validations.due(now, |_| Some(DOUBT)).is_empty()
}

/// Asks and answers.
fn round(validations: &mut Validations, answer: &[(i32, i16, i32, i64)]) -> ValidationFindings {
    let doubts = validations.due(LATER, |_| Some(DOUBT)).remove(&LEADER).expect("something is in doubt");
    let (request, tag) = validations.prepare(doubts);
    let asked = &request.topics[0].partitions[0];
    assert_eq!((request.replica_id, asked.current_leader_epoch, asked.leader_epoch), (-1, 7, 5));
    assert!(!due(validations, LATER), "asked once at a time");
    validations.answered(LATER, 3, &ends(answer), tag).expect("well formed")
}

#[test]
fn kip_320_each_answer_has_its_verdict() {
    for (epoch, end, verdict) in [
        (5, 100, Some(Verdict::Same)),
        (5, 1_000, Some(Verdict::Same)),
        (5, 99, Some(Verdict::Diverges(LeaderEpoch(5), 99))),
        (4, 60, Some(Verdict::Diverges(LeaderEpoch(4), 60))),
        // The leader never had our epoch: where its own ends does not matter.
        (4, 100, Some(Verdict::Diverges(LeaderEpoch(4), 100))),
        (-1, -1, Some(Verdict::Unknown)),
        (-1, 100, Some(Verdict::Unknown)),
        (5, -1, Some(Verdict::Unknown)),
        // Nonsense: it was asked for the last one up to 5.
        (6, 100, None),
    ] {
        let mut validations = in_doubt();
        let findings = round(&mut validations, &[(0, 0, epoch, end)]);
        let found: Vec<_> = findings.verdicts.iter().map(|(_, _, verdict)| *verdict).collect();
        assert_eq!(found, verdict.into_iter().collect::<Vec<_>>(), "{epoch} {end}");
        let over = matches!(verdict, Some(Verdict::Same | Verdict::Unknown));
        assert_eq!(validations.is_empty(), over, "{epoch} {end}");
        assert!(!due(&validations, LATER), "asked again after a pause at the earliest");
    }
}

#[test]
fn kip_320_errors_and_what_is_left_out_are_asked_for_again_after_a_pause() {
    let fenced = [(0, 74, -1, -1)];
    let (left_out, twice) = ([(7, 0, 5, 100)], [(0, 76, -1, -1), (0, 0, 5, 100)]);
    for answer in [&fenced[..], &left_out[..], &twice[..]] {
        let mut validations = in_doubt();
        let findings = round(&mut validations, answer);
        assert!(findings.verdicts.is_empty());
        assert_eq!(findings.stale, answer[0].1 != 0);
        assert!(!due(&validations, LATER));
        let at = validations.next_timeout(LATER).expect("asked again");
        assert!(due(&validations, at));
    }
    let mut validations = in_doubt();
    let told: usize = (0..10).map(|_| round_late(&mut validations, &[(0, 42, -1, -1)]).told.len()).sum();
    assert_eq!(told, 1, "the reader is told once");
}

fn round_late(validations: &mut Validations, answer: &[(i32, i16, i32, i64)]) -> ValidationFindings {
    let now = validations.next_timeout(T0).unwrap_or(LATER);
    let doubts = validations.due(now, |_| Some(DOUBT)).remove(&LEADER).expect("in doubt");
    let (_, tag) = validations.prepare(doubts);
    validations.answered(now, 3, &ends(answer), tag).expect("well formed")
}

#[test]
fn kip_320_who_may_not_ask_is_told_and_asks_no_more() {
    let mut validations = in_doubt();
    let findings = round(&mut validations, &[(0, 29, -1, -1)]);
    assert_eq!(findings.failed[0].2.kind(), ErrorKind::Authorization);
    assert!(validations.is_empty());
}

#[test]
fn kip_320_a_late_answer_says_nothing_of_what_is_asked_now() {
    let mut validations = in_doubt();
    let doubts = validations.due(LATER, |_| Some(DOUBT)).remove(&LEADER).expect("in doubt");
    let (_, tag) = validations.prepare(doubts);
    validations.end(&tp(0));
    validations.begin(T0, &tp(0));
    let findings = validations.answered(LATER, 3, &ends(&[(0, 0, 4, 60)]), tag).expect("well formed");
    assert!(findings.verdicts.is_empty());
    assert!(due(&validations, LATER));
}
