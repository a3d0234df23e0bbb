//! OffsetFetch.

use ottla_wire::messages::OffsetFetchRequest;

use super::*;
use crate::offsets::{BY_NAME, CommittedTag};

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

/// The request where no topic's id is known.
fn by_name(
    lookups: &mut CommittedLookups,
    now: Timestamp,
    version: i16,
    member: Option<GroupIdentity>,
) -> (OffsetFetchRequest, CommittedTag) {
    let (request, max_version, tag) = lookups.prepare(now, version, member, |_| None);
    assert_eq!(max_version, BY_NAME);
    (request, tag)
}

fn ask_committed(partitions: &[(i32, i64, &str, i16)], error: i16) -> (CommittedLookups, CommittedFindings) {
    let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    lookups.begin(T0, POSITION, tp(0));
    let (request, tag) = by_name(&mut lookups, T0, 5, None);
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
    assert!(by_name(&mut lookups, T0, 7, None).0.require_stable);
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
            let (_, tag) = by_name(&mut lookups, T0 + Duration::from_secs(2 * i), 5, None);
            let now = T0 + Duration::from_secs(2 * i);
            let findings = lookups.answered(now, 5, &answer, tag).expect("well formed");
            assert!(findings.answers.is_empty());
            told.extend(findings.told);
        }
        assert_eq!(told.len(), 1, "{told:?}");
        lookups.begin(T0, QUERY, tp(0));
        let failed = (0..5).any(|i| {
            let now = T0 + Duration::from_secs(100 + 2 * i);
            let (_, tag) = by_name(&mut lookups, now, 5, None);
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
    let (request, _) = by_name(&mut lookups, T0, 8, None);
    assert!(request.group_id.is_empty() && request.topics.is_none_or(|t| t.is_empty()));
    assert_eq!(request.groups[0].group_id, "g");
    let topics = request.groups[0].topics.as_ref().expect("topics");
    assert_eq!(topics[0].partition_indexes, [0], "a partition is named once");
}

/// KIP-848: a member tells its epoch, and one that is stale is asked for again, quietly, when it is newer.
#[test]
fn a_stale_member_epoch_is_asked_again_and_told_to_the_group() {
    let member = GroupIdentity {
        group_id: "g".to_owned(),
        generation_id: 4,
        member_id: "m".to_owned(),
        group_instance_id: None,
    };
    for code in [113, 25, 69] {
        for asker in [POSITION, QUERY] {
            let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
            lookups.begin(T0, asker, tp(0));
            let (request, tag) = by_name(&mut lookups, T0, 9, Some(member.clone()));
            assert_eq!(
                (request.groups[0].member_id.as_deref(), request.groups[0].member_epoch),
                (Some("m"), 4)
            );
            // Version 9: throttle time, one group without topics, its error, no tags.
            let mut body = BytesMut::new();
            body.put_i32(0);
            body.put_slice(&[2, 2, b'g', 1]);
            body.put_i16(code);
            body.put_slice(&[0, 0]);
            let findings = lookups.answered(T0, 9, &body, tag).expect("well formed");
            assert_eq!(findings.refused.map(|(code, epoch)| (code.code(), epoch)), Some((code, 4)));
            assert!(findings.answers.is_empty() && findings.told.is_empty() && !lookups.is_due(T0));
            let (request, _) = by_name(&mut lookups, LATER, 8, Some(member.clone()));
            assert_eq!((request.groups[0].member_id.as_deref(), request.groups[0].member_epoch), (None, -1));
        }
    }
}

/// OffsetFetch version 10, of one topic and partition 0: (offset, error).
fn committed_by_id(id: TopicId, offset: i64, error: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_slice(&[2, 2]);
    out.put_slice(b"g");
    out.put_u8(2);
    out.put_slice(&id.0);
    out.put_u8(2);
    out.put_i32(0);
    out.put_i64(offset);
    out.put_i32(4);
    out.put_u8(1);
    out.put_i16(error);
    out.put_slice(&[0, 0]);
    out.put_i16(0);
    out.put_slice(&[0, 0]);
    out
}

#[test]
fn topics_are_asked_for_by_their_ids_where_all_are_known() {
    let id = ottla_wire::Uuid([7; 16]);
    let id_of = |topic: &str| (topic == "t").then_some(id);
    let ask = |told: TopicId, error| {
        let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
        lookups.begin(T0, POSITION, tp(0));
        let (request, max_version, tag) = lookups.prepare(T0, 10, None, id_of);
        let asked = request.groups[0].topics.as_ref().expect("topics");
        assert_eq!((asked[0].topic_id, max_version), (id, i16::MAX));
        lookups.answered(T0, 10, &committed_by_id(told, 42, error), tag).expect("well formed")
    };
    let found = ask(id, 0);
    let committed = found.answers[0].committed.as_ref().expect("told").as_ref().expect("committed");
    assert_eq!((committed.offset, found.unknown), (42, false));
    assert!(ask(ottla_wire::Uuid([8; 16]), 0).answers.is_empty(), "another topic's answer is none");
    let unknown = ask(id, 100);
    assert!(unknown.answers.is_empty() && unknown.unknown, "asked for again, and metadata too");

    let mut mixed = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    mixed.begin(T0, POSITION, tp(0));
    mixed.begin(T0, POSITION, TopicPartition::new("u", 0));
    let (request, max_version, _) = mixed.prepare(T0, 10, None, id_of);
    let asked = request.groups[0].topics.as_ref().expect("topics");
    assert_eq!((asked.len(), asked[0].topic_id, max_version), (2, TopicId::ZERO, BY_NAME));
}

#[test]
fn what_is_asked_anew_takes_no_answer_of_before() {
    let mut lookups = CommittedLookups::new("g".to_owned(), BACKOFF, Rng::new(1));
    lookups.begin(T0, POSITION, tp(0));
    let (_, tag) = by_name(&mut lookups, T0, 5, None);
    assert!(lookups.ask_anew(T0, POSITION, &tp(0)) && !lookups.ask_anew(T0, POSITION, &tp(1)));
    let findings = lookups.answered(T0, 5, &committed(&[(0, 42, "", 0)], 0), tag).expect("well formed");
    assert!(findings.answers.is_empty() && lookups.is_due(T0));
}
