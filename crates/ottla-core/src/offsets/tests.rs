//! Lookups and commits against answers written by hand.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::Asker;
use super::commit::{CommitJob, CommitOrigin, CommitQueue, CommitStep, JobResult};
use super::committed::{CommittedAnswer, CommittedFindings, CommittedLookups};
use super::lookup::{LookupAnswer, Lookups, Place};
use crate::config::IsolationLevel;
use crate::delivery::CommitEntry;
use crate::group::GroupIdentity;
use crate::{
    BrokerId, CommandId, CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Rng, Timestamp,
    TopicPartition,
};

const T0: Timestamp = Timestamp::from_millis(1_000);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
const LATER: Timestamp = Timestamp::from_millis(60_000);
const LEADER: BrokerId = BrokerId(1);
const QUERY: Asker = Asker::Query(CommandId(7));
const POSITION: Asker = Asker::Position(OwnershipEpoch(3));

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

// ---- ListOffsets -------------------------------------------------------------------------------------------

fn lookups() -> Lookups {
    Lookups::new(IsolationLevel::ReadUncommitted, BACKOFF, Rng::new(1))
}

/// ListOffsets version 4: (partition, error, offset).
fn offsets(partitions: &[(i32, i16, i64)]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i16(1);
    out.put_slice(b"t");
    out.put_i32(partitions.len() as i32);
    for &(partition, error, offset) in partitions {
        out.put_i32(partition);
        out.put_i16(error);
        out.put_i64(-1);
        out.put_i64(offset);
        out.put_i32(5);
    }
    out
}

/// Asks, answers, and gives the timestamps that were asked for, the answers, and whether metadata is stale.
fn round(
    lookups: &mut Lookups,
    now: Timestamp,
    answer: &[(i32, i16, i64)],
) -> (Vec<i64>, Vec<LookupAnswer>, bool) {
    let (request, tag) = lookups.prepare(now, LEADER, |_| Some((LEADER, None)));
    let asked = request.topics.iter().flat_map(|t| &t.partitions).map(|p| p.timestamp).collect();
    let findings = lookups.answered(now, 4, &offsets(answer), tag).expect("well formed");
    (asked, findings.answers, findings.stale)
}

fn found(answers: &[LookupAnswer]) -> Option<Option<i64>> {
    let [LookupAnswer { found: Ok(found), .. }] = answers else { return None };
    Some(found.map(|(offset, _)| offset))
}

#[test]
fn each_place_is_asked_for_under_its_timestamp() {
    for (place, asked) in
        [(Place::Earliest, -2), (Place::Latest, -1), (Place::Timestamp { millis: 77, or_end: true }, 77)]
    {
        let mut lookups = lookups();
        lookups.begin(T0, POSITION, tp(0), place);
        let (timestamps, answers, stale) = round(&mut lookups, T0, &[(0, 0, 42)]);
        assert_eq!((timestamps, found(&answers), stale), (vec![asked], Some(Some(42)), false));
        assert!(lookups.due(LATER, |_| Some(LEADER)).0.is_empty(), "it is over");
    }
}

#[test]
fn a_distance_from_the_end_is_bounded_by_the_beginning() {
    for (n, end, beginning, expected) in
        [(10, 100, 5, 90), (1000, 100, 5, 5), (0, 100, 5, 100), (u64::MAX, 9, 0, 0)]
    {
        let mut lookups = lookups();
        lookups.begin(T0, POSITION, tp(0), Place::FromEnd(n));
        assert_eq!(round(&mut lookups, T0, &[(0, 0, end)]).0, [-1]);
        let (asked, answers, _) = round(&mut lookups, T0, &[(0, 0, beginning)]);
        assert_eq!((asked, found(&answers)), (vec![-2], Some(Some(expected))));
    }
}

#[test]
fn no_record_that_young_is_the_end_for_a_position_and_nothing_for_a_query() {
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Timestamp { millis: 77, or_end: true });
    assert_eq!(found(&round(&mut lookups, T0, &[(0, 0, -1)]).1), None);
    let (asked, answers, _) = round(&mut lookups, T0, &[(0, 0, 9)]);
    assert_eq!((asked, found(&answers)), (vec![-1], Some(Some(9))));
    lookups.begin(T0, QUERY, tp(0), Place::Timestamp { millis: 77, or_end: false });
    assert_eq!(found(&round(&mut lookups, T0, &[(0, 0, -1)]).1), Some(None));
}

#[test]
fn a_negative_offset_is_never_a_position() {
    for offset in [-1, -2, i64::MIN] {
        let mut lookups = lookups();
        lookups.begin(T0, POSITION, tp(0), Place::Earliest);
        let (_, answers, _) = round(&mut lookups, T0, &[(0, 0, offset)]);
        assert!(answers.is_empty());
        assert!(lookups.next_timeout(T0).is_some(), "asked again after a pause");
    }
}

#[test]
fn leader_errors_and_silence_are_asked_again_and_never_end_a_position() {
    // NOT_LEADER, UNKNOWN_TOPIC, FENCED and UNKNOWN_LEADER_EPOCH, OFFSET_NOT_AVAILABLE, something unknown.
    for code in [6, 3, 74, 75, 78, 999] {
        let mut lookups = lookups();
        lookups.begin(T0, POSITION, tp(0), Place::Latest);
        let (_, answers, stale) = round(&mut lookups, T0, &[(0, code, -1)]);
        assert!(answers.is_empty() && stale, "code {code}");
        assert!(lookups.due(T0, |_| Some(LEADER)).0.is_empty(), "not at once");
        assert_eq!(lookups.due(LATER, |_| Some(LEADER)).0, [LEADER]);
    }
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Latest);
    let (_, answers, _) = round(&mut lookups, T0, &[(1, 0, 5)]);
    assert!(answers.is_empty(), "another partition's answer is not ours");
    assert_eq!(lookups.due(LATER, |_| Some(LEADER)).0, [LEADER]);
}

#[test]
fn a_topic_that_may_not_be_read_is_an_error() {
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Latest);
    let (_, answers, _) = round(&mut lookups, T0, &[(0, 29, -1)]);
    let [LookupAnswer { found: Err(error), .. }] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Authorization, Some(&tp(0))));
}

#[test]
fn a_late_answer_loses_against_a_newer_question() {
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Earliest);
    let (_, tag) = lookups.prepare(T0, LEADER, |_| Some((LEADER, None)));
    lookups.begin(T0, POSITION, tp(0), Place::Latest);
    let answers = lookups.answered(T0, 4, &offsets(&[(0, 0, 5)]), tag).expect("well formed").answers;
    assert!(answers.is_empty());
    lookups.retain(|_, _| false);
    let (_, answers, _) = round(&mut lookups, T0, &[(0, 0, 5)]);
    assert!(answers.is_empty(), "dropped");
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error_and_asked_again() {
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Earliest);
    let (_, tag) = lookups.prepare(T0, LEADER, |_| Some((LEADER, Some(LeaderEpoch(2)))));
    let error = lookups.answered(T0, 4, &[1, 2, 3], tag).expect_err("garbage");
    assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
    assert_eq!(lookups.due(LATER, |_| Some(LEADER)).0, [LEADER]);
}

/// Only what was asked for by time can be answered with "there are no times": a beginning that is not told must
/// never become the end.
#[test]
fn a_log_without_timestamps_answers_only_questions_of_time() {
    for place in [Place::Earliest, Place::Latest, Place::FromEnd(3)] {
        let mut lookups = lookups();
        lookups.begin(T0, POSITION, tp(0), place);
        let (asked, answers, _) = round(&mut lookups, T0, &[(0, 43, -1)]);
        assert!(answers.is_empty());
        assert!(lookups.due(T0, |_| Some(LEADER)).0.is_empty(), "after a pause");
        assert_eq!(round(&mut lookups, LATER, &[(0, 43, -1)]).0, asked, "the same place again");
    }
    let time = |or_end| Place::Timestamp { millis: 5, or_end };
    let mut lookups = lookups();
    lookups.begin(T0, QUERY, tp(0), time(false));
    assert_eq!(found(&round(&mut lookups, T0, &[(0, 43, -1)]).1), Some(None));
    lookups.begin(T0, POSITION, tp(0), time(true));
    assert!(round(&mut lookups, T0, &[(0, 43, -1)]).1.is_empty());
    let (asked, answers, _) = round(&mut lookups, T0, &[(0, 0, 9)]);
    assert_eq!((asked, found(&answers)), (vec![-1], Some(Some(9))));
}

/// What trying again does not help against fails a query at once; of a position the reader is told, once.
#[test]
fn refusals_fail_queries_and_are_told_of_positions_after_five_tries() {
    for (code, offset) in [(42, -1), (999, -1), (0, -7), (0, i64::MIN)] {
        let mut lookups = lookups();
        lookups.begin(T0, QUERY, tp(0), Place::Latest);
        // Nonsense is given a few tries more than a refusal.
        for i in 0..if code == 0 { 4 } else { 0 } {
            let now = T0 + Duration::from_secs(2 * i);
            assert!(round(&mut lookups, now, &[(0, code, offset)]).1.is_empty());
        }
        let (_, answers, _) = round(&mut lookups, LATER, &[(0, code, offset)]);
        let [LookupAnswer { found: Err(error), .. }] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::BrokerMisbehaved, Some(&tp(0))));

        lookups.begin(T0, POSITION, tp(0), Place::Latest);
        let mut told = Vec::new();
        for i in 0..20 {
            let now = T0 + Duration::from_secs(2 * i);
            let (_, tag) = lookups.prepare(now, LEADER, |_| Some((LEADER, None)));
            let answer = offsets(&[(0, code, offset)]);
            let findings = lookups.answered(now, 4, &answer, tag).expect("well formed");
            assert!(findings.answers.is_empty(), "a position is asked for until it is known");
            told.extend(findings.told);
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].code().map(|c| c.code()), (code != 0).then_some(code));
    }
}

#[test]
fn without_a_leader_nothing_is_asked_and_metadata_is_wanted() {
    let mut lookups = lookups();
    lookups.begin(T0, POSITION, tp(0), Place::Earliest);
    assert_eq!(lookups.due(T0, |_| None), (vec![], true));
}

// ---- OffsetFetch -------------------------------------------------------------------------------------------

/// OffsetFetch version 5: (partition, offset, metadata, error); the error of the whole.
fn committed(partitions: &[(i32, i64, &str, i16)], error: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i16(1);
    out.put_slice(b"t");
    out.put_i32(partitions.len() as i32);
    for &(partition, offset, metadata, error) in partitions {
        out.put_i32(partition);
        out.put_i64(offset);
        out.put_i32(4);
        out.put_i16(metadata.len() as i16);
        out.put_slice(metadata.as_bytes());
        out.put_i16(error);
    }
    out.put_i16(error);
    out
}

fn ask_committed(partitions: &[(i32, i64, &str, i16)], error: i16) -> (CommittedLookups, CommittedFindings) {
    let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    lookups.begin(T0, POSITION, tp(0));
    let (request, tag) = lookups.prepare(T0, 5);
    assert_eq!((request.group_id.as_str(), request.topics.as_ref().map(Vec::len)), ("g", Some(1)));
    let findings = lookups.answered(T0, 5, &committed(partitions, error), tag).expect("well formed");
    (lookups, findings)
}

#[test]
fn a_committed_offset_comes_with_its_epoch_and_metadata() {
    let (lookups, findings) = ask_committed(&[(0, 42, "note", 0)], 0);
    let committed = findings.answers[0].committed.as_ref().expect("told").as_ref().expect("committed");
    assert_eq!((committed.offset, committed.leader_epoch), (42, Some(LeaderEpoch(4))));
    assert_eq!(committed.metadata.as_deref(), Some("note"));
    assert!(lookups.is_empty());
}

#[test]
fn only_minus_one_means_that_nothing_is_committed() {
    let (_, findings) = ask_committed(&[(0, -1, "", 0)], 0);
    assert!(matches!(findings.answers[0].committed, Ok(None)));
    let (lookups, findings) = ask_committed(&[(0, -7, "", 0)], 0);
    assert!(findings.answers.is_empty() && lookups.is_due(LATER), "any other negative number is nonsense");
}

#[test]
fn a_partition_that_is_left_out_is_asked_for_again() {
    let (lookups, findings) = ask_committed(&[(1, 42, "", 0)], 0);
    assert!(findings.answers.is_empty() && !lookups.is_due(T0) && lookups.is_due(LATER));
}

#[test]
fn the_first_of_two_answers_for_a_partition_counts() {
    let (_, findings) = ask_committed(&[(0, 42, "", 0), (0, 7, "", 0)], 0);
    assert_eq!(findings.answers.len(), 1);
    assert!(matches!(&findings.answers[0].committed, Ok(Some(c)) if c.offset == 42));
}

#[test]
fn kip_447_unstable_offsets_and_loading_coordinators_are_asked_again() {
    for code in [88, 14] {
        let (lookups, findings) = ask_committed(&[(0, -1, "", code)], 0);
        assert!(findings.answers.is_empty() && !findings.coordinator_lost && lookups.is_due(LATER));
    }
    let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    lookups.begin(T0, POSITION, tp(0));
    assert!(lookups.prepare(T0, 7).0.require_stable);
}

#[test]
fn another_coordinator_is_looked_for_and_the_question_stands() {
    for (partition, whole) in [(0, 16), (0, 15)] {
        let (lookups, findings) = ask_committed(&[(0, -1, "", partition)], whole);
        assert!(findings.coordinator_lost && findings.answers.is_empty() && lookups.is_due(LATER));
    }
}

#[test]
fn a_group_that_may_not_be_read_is_fatal() {
    let (_, findings) = ask_committed(&[(0, -1, "", 0)], 30);
    assert!(findings.fatal.is_some_and(|e| e.is_fatal() && e.kind() == ErrorKind::Authorization));
}

/// As with ListOffsets.
#[test]
fn refusals_of_committed_offsets_fail_queries_and_are_told_of_positions_after_five_tries() {
    for (code, offset) in [(24, -1), (999, -1), (0, -2), (0, i64::MIN)] {
        let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
        lookups.begin(T0, POSITION, tp(0));
        let answer = committed(&[(0, offset, "", code)], 0);
        let mut told = Vec::new();
        for i in 0..20 {
            let (_, tag) = lookups.prepare(T0 + Duration::from_secs(2 * i), 5);
            let now = T0 + Duration::from_secs(2 * i);
            let findings = lookups.answered(now, 5, &answer, tag).expect("well formed");
            assert!(findings.answers.is_empty());
            told.extend(findings.told);
        }
        assert_eq!(told.len(), 1, "{told:?}");
        lookups.begin(T0, QUERY, tp(0));
        let failed = (0..5).any(|i| {
            let now = T0 + Duration::from_secs(100 + 2 * i);
            let (_, tag) = lookups.prepare(now, 5);
            let findings = lookups.answered(now, 5, &answer, tag).expect("well formed");
            matches!(&findings.answers[..], [CommittedAnswer { asker: QUERY, committed: Err(_), .. }])
        });
        assert!(failed);
    }
}

#[test]
fn from_version_eight_on_the_group_is_one_of_several() {
    let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    lookups.begin(T0, POSITION, tp(0));
    lookups.begin(T0, QUERY, tp(0));
    let (request, _) = lookups.prepare(T0, 8);
    assert!(request.group_id.is_empty() && request.topics.is_none_or(|t| t.is_empty()));
    assert_eq!(request.groups[0].group_id, "g");
    let topics = request.groups[0].topics.as_ref().expect("topics");
    assert_eq!(topics[0].partition_indexes, [0], "a partition is named once");
}

// ---- OffsetCommit ------------------------------------------------------------------------------------------

fn identity(generation_id: i32) -> GroupIdentity {
    GroupIdentity {
        group_id: "g".to_owned(),
        generation_id,
        member_id: "m".to_owned(),
        group_instance_id: Some("i".to_owned()),
    }
}

fn entry(partition: i32, offset: i64) -> CommitEntry {
    CommitEntry { tp: tp(partition), epoch: OwnershipEpoch(3), offset, leader_epoch: None, metadata: None }
}

fn job(origin: CommitOrigin, entries: Vec<CommitEntry>) -> CommitJob {
    CommitJob::new(origin, entries, LATER)
}

fn queue(entries: Vec<CommitEntry>) -> CommitQueue {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(CommitOrigin::Auto, entries));
    queue
}

/// OffsetCommit version 6: (partition, error).
fn commit_answer(partitions: &[(i32, i16)]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(1);
    out.put_i16(1);
    out.put_slice(b"t");
    out.put_i32(partitions.len() as i32);
    for &(partition, error) in partitions {
        out.put_i32(partition);
        out.put_i16(error);
    }
    out
}

fn commit_round(queue: &mut CommitQueue, present: i32, answer: &[(i32, i16)]) -> CommitStep {
    queue.prepare(&identity(5), 6).expect("something to commit");
    queue.answered(T0, 6, &commit_answer(answer), Some(present)).expect("well formed")
}

fn owned(_: &TopicPartition) -> Option<OwnershipEpoch> {
    Some(OwnershipEpoch(3))
}

/// What became of the entries of the only job.
fn results(mut over: Vec<JobResult>) -> Vec<Result<(), CommitError>> {
    let job = over.pop().expect("the job is over");
    assert!(over.is_empty());
    job.results.into_iter().map(|(_, result)| result).collect()
}

/// What became of the only entry of the only job.
fn outcome(queue: &mut CommitQueue) -> Option<Result<(), CommitError>> {
    queue.settle(T0, owned).pop().and_then(|mut job| job.results.pop()).map(|(_, result)| result)
}

#[test]
fn a_commit_carries_offset_epoch_metadata_and_identity() {
    let mut with_all = entry(1, 8);
    with_all.leader_epoch = Some(LeaderEpoch(9));
    with_all.metadata = Some("note".to_owned());
    let mut queue = queue(vec![entry(0, 7), with_all]);
    let request = queue.prepare(&identity(5), 7).expect("something to commit");
    assert_eq!((request.generation_id_or_member_epoch, request.member_id.as_str()), (5, "m"));
    assert_eq!(request.group_instance_id.as_deref(), Some("i"));
    let told: Vec<_> = request.topics[0]
        .partitions
        .iter()
        .map(|p| {
            (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.committed_metadata.as_deref())
        })
        .collect();
    // An unknown epoch is committed as unknown: leaving the partition out would lose its offset.
    assert_eq!(told, [(0, 7, -1, Some("")), (1, 8, 9, Some("note"))]);
}

#[test]
fn one_commit_is_in_flight_at_a_time_and_they_go_in_order() {
    let mut queue = queue(vec![entry(0, 7)]);
    assert!(queue.is_due(T0));
    queue.prepare(&identity(5), 6).expect("the first");
    queue.push(job(CommitOrigin::User(CommandId(1)), vec![entry(0, 8)]));
    assert!(!queue.is_due(T0));
    let step = queue.answered(T0, 6, &commit_answer(&[(0, 0)]), Some(5)).expect("well formed");
    assert_eq!(step.acked, [(tp(0), OwnershipEpoch(3), 7)]);
    assert_eq!(queue.settle(T0, owned).len(), 1);
    let second = queue.prepare(&identity(5), 6).expect("the second");
    assert_eq!(second.topics[0].partitions[0].committed_offset, 8);
}

#[test]
fn codes_that_pass_are_sent_again_after_a_pause() {
    for (code, coordinator_lost) in [(14, false), (3, false), (15, true), (16, true), (7, true)] {
        let mut queue = queue(vec![entry(0, 7)]);
        let step = commit_round(&mut queue, 5, &[(0, code)]);
        assert_eq!((step.coordinator_lost, step.refused.is_some()), (coordinator_lost, false), "code {code}");
        assert!(outcome(&mut queue).is_none() && !queue.is_due(T0) && queue.is_due(LATER));
    }
}

#[test]
fn a_partition_that_the_answer_leaves_out_is_not_taken_for_committed() {
    let mut queue = queue(vec![entry(0, 7)]);
    let step = commit_round(&mut queue, 5, &[(1, 0)]);
    assert!(step.acked.is_empty() && outcome(&mut queue).is_none() && queue.is_due(LATER));
}

#[test]
fn a_deleted_topic_does_not_hold_up_the_commits_behind_it() {
    let mut queue = queue(vec![entry(0, 7), entry(1, 8)]);
    commit_round(&mut queue, 5, &[(0, 3), (1, 0)]);
    commit_round(&mut queue, 5, &[(0, 3)]);
    assert!(queue.settle(T0, owned).is_empty());
    commit_round(&mut queue, 5, &[(0, 3)]);
    let results = results(queue.settle(T0, owned));
    assert!(matches!(results[..], [Ok(()), Err(CommitError::Retriable(_))]));
}

#[test]
fn the_last_commit_of_an_ownership_is_sent_although_it_has_ended() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(CommitJob::last(CommitOrigin::Unsubscribe, vec![entry(0, 7)], LATER));
    assert!(queue.settle(T0, |_| None).is_empty());
    assert!(queue.prepare(&identity(5), 6).is_some());
}

#[test]
fn a_rebalance_in_progress_is_told_to_the_group_and_the_commit_waits() {
    let mut queue = queue(vec![entry(0, 7)]);
    let step = commit_round(&mut queue, 5, &[(0, 27)]);
    assert_eq!(step.refused.map(|(_, generation)| generation), Some(5));
    assert!(outcome(&mut queue).is_none() && queue.is_due(LATER));
}

#[test]
fn an_old_generation_is_sent_again_with_the_newer_one_and_fenced_without() {
    for code in [22, 25] {
        let mut renewed = queue(vec![entry(0, 7)]);
        let step = commit_round(&mut renewed, 6, &[(0, code)]);
        assert!(step.refused.is_none() && outcome(&mut renewed).is_none() && renewed.is_due(LATER));

        let mut fenced = queue(vec![entry(0, 7)]);
        let step = commit_round(&mut fenced, 5, &[(0, code)]);
        assert!(step.refused.is_some());
        assert!(matches!(outcome(&mut fenced), Some(Err(CommitError::Fenced(_)))));
    }
}

#[test]
fn codes_that_stay_fail_the_commit_with_their_reason() {
    for (code, kind) in
        [(30, ErrorKind::Authorization), (29, ErrorKind::Authorization), (12, ErrorKind::Limit)]
    {
        let mut queue = queue(vec![entry(0, 7)]);
        commit_round(&mut queue, 5, &[(0, code)]);
        let Some(Err(CommitError::Fatal(error))) = outcome(&mut queue) else { panic!("code {code}") };
        assert_eq!((error.kind(), error.topic_partition()), (kind, Some(&tp(0))));
    }
}

#[test]
fn each_partition_has_its_own_outcome() {
    let mut queue = queue(vec![entry(0, 7), entry(1, 8)]);
    let step = commit_round(&mut queue, 5, &[(0, 0), (1, 12)]);
    assert_eq!(step.acked.len(), 1);
    let results = results(queue.settle(T0, owned));
    assert!(matches!(results[..], [Ok(()), Err(CommitError::Fatal(_))]));
}

#[test]
fn what_is_not_owned_any_more_is_never_sent() {
    let mut queue = queue(vec![entry(0, 7), entry(1, 8)]);
    let done = queue.settle(T0, |p| (p.partition() == 1).then_some(OwnershipEpoch(3)));
    assert!(done.is_empty());
    let request = queue.prepare(&identity(5), 6).expect("the other one");
    assert_eq!(request.topics[0].partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [1]);
    queue.answered(T0, 6, &commit_answer(&[(1, 0)]), Some(5)).expect("well formed");
    let results = results(queue.settle(T0, owned));
    assert!(matches!(results[..], [Err(CommitError::NotOwned), Ok(())]));
}

#[test]
fn a_commit_whose_time_is_over_fails_as_retriable() {
    let mut queue = queue(vec![entry(0, 7)]);
    assert_eq!(queue.next_timeout(), Some(Timestamp::ZERO));
    let results = results(queue.settle(LATER, owned));
    assert!(matches!(&results[..], [Err(CommitError::Retriable(e))] if e.is_retriable()));
}

#[test]
fn a_commit_without_an_answer_is_sent_again_and_one_that_cannot_be_sent_fails() {
    let mut lost = queue(vec![entry(0, 7)]);
    lost.prepare(&identity(5), 6).expect("sent");
    lost.failed(T0, &Error::new(ErrorKind::Transport, "reset"));
    assert!(!lost.is_due(T0) && lost.is_due(LATER));

    let mut refused = queue(vec![entry(0, 7)]);
    refused.prepare(&identity(5), 6).expect("sent");
    refused.failed(T0, &Error::new(ErrorKind::Unsupported, "no version"));
    assert!(matches!(outcome(&mut refused), Some(Err(CommitError::Fatal(_)))));
}

#[test]
fn in_the_background_the_latest_per_partition_replaces_what_waits() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 1)]));
    queue.prepare(&identity(5), 6).expect("in flight");
    queue.push(job(CommitOrigin::Background, vec![entry(0, 2), entry(1, 2)]));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 3)]));
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), Some(5)).expect("well formed");
    queue.settle(T0, owned);
    let request = queue.prepare(&identity(5), 6).expect("what waited");
    let offsets: Vec<_> = request.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
    assert_eq!(offsets, [3, 2]);
}

fn user(id: u64) -> CommitOrigin {
    CommitOrigin::User(CommandId(id))
}

fn committed_offsets(request: &ottla_wire::messages::OffsetCommitRequest) -> Vec<(i32, i64)> {
    request
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| (p.partition_index, p.committed_offset))
        .collect()
}

#[test]
fn what_waits_goes_out_together_and_each_who_asked_gets_an_answer() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(user(0), vec![entry(0, 1)]));
    queue.prepare(&identity(5), 6).expect("in flight");
    for id in 1..100 {
        queue.push(job(user(id), vec![entry((id % 2) as i32, id as i64)]));
    }
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), Some(5)).expect("well formed");
    assert_eq!(queue.settle(T0, owned).len(), 1);
    let request = queue.prepare(&identity(5), 6).expect("all that waited");
    assert_eq!(committed_offsets(&request), [(0, 98), (1, 99)], "the last of each partition");
    let step = queue.answered(T0, 6, &commit_answer(&[(0, 0), (1, 12)]), Some(5)).expect("well formed");
    assert_eq!(step.acked.last(), Some(&(tp(0), OwnershipEpoch(3), 98)));
    let over = queue.settle(T0, owned);
    let told = |over: &JobResult| (over.origin, over.results[0].1.is_ok());
    assert_eq!(
        over.iter().map(told).collect::<Vec<_>>(),
        (1..100).map(|id| (user(id), id % 2 == 0)).collect::<Vec<_>>()
    );
    assert!(queue.is_empty());
}

#[test]
fn a_request_that_carries_several_is_sent_again_whole_and_fails_for_all() {
    let mut queue = queue(vec![entry(0, 1)]);
    queue.push(job(user(1), vec![entry(0, 2)]));
    queue.prepare(&identity(5), 6).expect("both");
    queue.failed(T0, &Error::new(ErrorKind::Transport, "reset"));
    queue.push(job(user(2), vec![entry(1, 3)]));
    assert_eq!(committed_offsets(&queue.prepare(&identity(5), 6).expect("again")), [(0, 2), (1, 3)]);
    queue.failed(T0, &Error::new(ErrorKind::Unsupported, "no version"));
    let over = queue.settle(T0, owned);
    assert_eq!(over.len(), 3);
    assert!(over.iter().all(|j| matches!(j.results[..], [(_, Err(CommitError::Fatal(_)))])));
}

#[test]
fn a_text_that_the_broker_may_refuse_waits_for_its_turn_behind_the_same_partition() {
    let mut queue = queue(vec![entry(0, 1)]);
    queue.push(job(user(1), vec![CommitEntry { metadata: Some("long".to_owned()), ..entry(0, 2) }]));
    queue.push(job(user(2), vec![entry(1, 3)]));
    assert_eq!(committed_offsets(&queue.prepare(&identity(5), 6).expect("the first")), [(0, 1)]);
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), Some(5)).expect("well formed");
    assert!(matches!(results(queue.settle(T0, owned))[..], [Ok(())]));
    assert_eq!(committed_offsets(&queue.prepare(&identity(5), 6).expect("the rest")), [(0, 2), (1, 3)]);
}

#[test]
fn a_later_offset_does_not_overtake_an_earlier_one_of_another_job() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 1)]));
    queue.prepare(&identity(5), 6).expect("in flight");
    queue.push(job(CommitOrigin::Background, vec![entry(0, 2)]));
    queue.push(job(CommitOrigin::Auto, vec![entry(0, 2)]));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 9)]));
    let mut sent = Vec::new();
    while !queue.is_empty() {
        queue.answered(T0, 6, &commit_answer(&[(0, 0)]), Some(5)).expect("well formed");
        queue.settle(T0, owned);
        if let Some(request) = queue.prepare(&identity(5), 6) {
            sent.push(request.topics[0].partitions[0].committed_offset);
        }
    }
    assert_eq!(sent, [9], "all of it goes out together, and the last one counts");
}
