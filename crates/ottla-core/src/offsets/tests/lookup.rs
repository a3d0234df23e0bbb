//! ListOffsets.

use super::*;

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
