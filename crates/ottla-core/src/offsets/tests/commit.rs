//! OffsetCommit.

use ottla_wire::messages::OffsetCommitRequest;

use super::*;
use crate::delivery::RevocationId;
use crate::offsets::{BY_NAME, MayName, Present};

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

fn present(generation_id: i32) -> Present {
    Present { generation_id: Some(generation_id), joins: false }
}

/// The request where no topic's id is known.
fn prepare(queue: &mut CommitQueue, version: i16) -> Option<OffsetCommitRequest> {
    let (request, max_version) = queue.prepare(&identity(5), version, |_| None)?;
    assert_eq!(max_version, BY_NAME);
    Some(request)
}

fn commit_round(queue: &mut CommitQueue, generation_id: i32, answer: &[(i32, i16)]) -> CommitStep {
    prepare(queue, 6).expect("something to commit");
    queue.answered(T0, 6, &commit_answer(answer), present(generation_id)).expect("well formed")
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
    let request = prepare(&mut queue, 7).expect("something to commit");
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
    prepare(&mut queue, 6).expect("the first");
    queue.push(job(CommitOrigin::User(CommandId(1)), vec![entry(0, 8)]));
    assert!(!queue.is_due(T0));
    let step = queue.answered(T0, 6, &commit_answer(&[(0, 0)]), present(5)).expect("well formed");
    assert_eq!(step.acked, [(tp(0), OwnershipEpoch(3), 7)]);
    assert_eq!(queue.settle(T0, owned).len(), 1);
    let second = prepare(&mut queue, 6).expect("the second");
    assert_eq!(second.topics[0].partitions[0].committed_offset, 8);
}

#[test]
fn codes_that_pass_are_sent_again_after_a_pause() {
    for (code, coordinator_lost) in [(14, false), (3, false), (100, false), (15, true), (16, true), (7, true)]
    {
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
    assert!(prepare(&mut queue, 6).is_some());
}

#[test]
fn the_last_commit_of_a_membership_that_was_lost_is_not_sent_by_the_next_one() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(CommitJob::last(CommitOrigin::Unsubscribe, vec![entry(0, 7)], LATER));
    queue.lost(&[&tp(1)].into());
    assert_eq!(queue.settle(T0, |_| None).len(), 0, "another partition");
    queue.lost(&[&tp(0)].into());
    let over = queue.settle(T0, |_| None);
    assert!(matches!(results(over)[..], [Err(CommitError::NotOwned)]));
    assert!(!queue.is_due(T0));
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

/// The answer to JoinGroup may have been lost with its connection: the group is a generation further than the member
/// knows, and what it claimed is still its own.
#[test]
fn a_generation_that_a_joining_member_was_not_told_yet_is_waited_for() {
    let mut queue = queue(vec![entry(0, 7)]);
    for (code, ends) in [(22, false), (25, true)] {
        prepare(&mut queue, 6).expect("something to commit");
        let joins = Present { joins: true, ..present(5) };
        queue.answered(T0, 6, &commit_answer(&[(0, code)]), joins).expect("well formed");
        let over = queue.settle(T0, owned);
        assert_eq!(over.is_empty(), !ends, "{code}");
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
    let request = prepare(&mut queue, 6).expect("the other one");
    assert_eq!(request.topics[0].partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [1]);
    queue.answered(T0, 6, &commit_answer(&[(1, 0)]), present(5)).expect("well formed");
    let results = results(queue.settle(T0, owned));
    assert!(matches!(results[..], [Err(CommitError::NotOwned), Ok(())]));
}

#[test]
fn a_commit_whose_time_is_over_fails_as_retriable() {
    let mut queue = queue(vec![entry(0, 7)]);
    // It may be sent at once; while it cannot, its deadline is what is waited for.
    assert_eq!(queue.next_timeout(T0), Some(LATER));
    let results = results(queue.settle(LATER, owned));
    assert!(matches!(&results[..], [Err(CommitError::Retriable(e))] if e.is_retriable()));
}

#[test]
fn a_commit_without_an_answer_is_sent_again_and_one_that_cannot_be_sent_fails() {
    let mut lost = queue(vec![entry(0, 7)]);
    prepare(&mut lost, 6).expect("sent");
    lost.failed(T0, &Error::new(ErrorKind::Transport, "reset"));
    assert!(!lost.is_due(T0) && lost.is_due(LATER));

    let mut refused = queue(vec![entry(0, 7)]);
    prepare(&mut refused, 6).expect("sent");
    refused.failed(T0, &Error::new(ErrorKind::Unsupported, "no version"));
    assert!(matches!(outcome(&mut refused), Some(Err(CommitError::Fatal(_)))));
}

#[test]
fn in_the_background_the_latest_per_partition_replaces_what_waits() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 1)]));
    prepare(&mut queue, 6).expect("in flight");
    queue.push(job(CommitOrigin::Background, vec![entry(0, 2), entry(1, 2)]));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 3)]));
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), present(5)).expect("well formed");
    queue.settle(T0, owned);
    let request = prepare(&mut queue, 6).expect("what waited");
    let offsets: Vec<_> = request.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
    assert_eq!(offsets, [3, 2]);
}

fn user(id: u64) -> CommitOrigin {
    CommitOrigin::User(CommandId(id))
}

fn committed_offsets(request: &OffsetCommitRequest) -> Vec<(i32, i64)> {
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
    prepare(&mut queue, 6).expect("in flight");
    for id in 1..100 {
        queue.push(job(user(id), vec![entry((id % 2) as i32, id as i64)]));
    }
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), present(5)).expect("well formed");
    assert_eq!(queue.settle(T0, owned).len(), 1);
    let request = prepare(&mut queue, 6).expect("all that waited");
    assert_eq!(committed_offsets(&request), [(0, 98), (1, 99)], "the last of each partition");
    let step = queue.answered(T0, 6, &commit_answer(&[(0, 0), (1, 12)]), present(5)).expect("well formed");
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
    prepare(&mut queue, 6).expect("both");
    queue.failed(T0, &Error::new(ErrorKind::Transport, "reset"));
    queue.push(job(user(2), vec![entry(1, 3)]));
    assert_eq!(committed_offsets(&prepare(&mut queue, 6).expect("again")), [(0, 2), (1, 3)]);
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
    assert_eq!(committed_offsets(&prepare(&mut queue, 6).expect("the first")), [(0, 1)]);
    queue.answered(T0, 6, &commit_answer(&[(0, 0)]), present(5)).expect("well formed");
    assert!(matches!(results(queue.settle(T0, owned))[..], [Ok(())]));
    assert_eq!(committed_offsets(&prepare(&mut queue, 6).expect("the rest")), [(0, 2), (1, 3)]);
}

#[test]
fn a_later_offset_does_not_overtake_an_earlier_one_of_another_job() {
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 1)]));
    prepare(&mut queue, 6).expect("in flight");
    queue.push(job(CommitOrigin::Background, vec![entry(0, 2)]));
    queue.push(job(CommitOrigin::Auto, vec![entry(0, 2)]));
    queue.push(job(CommitOrigin::Background, vec![entry(0, 9)]));
    let mut sent = Vec::new();
    while !queue.is_empty() {
        queue.answered(T0, 6, &commit_answer(&[(0, 0)]), present(5)).expect("well formed");
        queue.settle(T0, owned);
        if let Some(request) = prepare(&mut queue, 6) {
            sent.push(request.topics[0].partitions[0].committed_offset);
        }
    }
    assert_eq!(sent, [9], "all of it goes out together, and the last one counts");
}

const ID: TopicId = ottla_wire::Uuid([7; 16]);

fn id_of(topic: &str) -> Option<TopicId> {
    (topic == "t").then_some(ID)
}

/// OffsetCommit version 10, of one topic: (partition, error).
fn commit_answer_by_id(id: TopicId, partitions: &[(i32, i16)]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_u8(2);
    out.put_slice(&id.0);
    out.put_u8(partitions.len() as u8 + 1);
    for &(partition, error) in partitions {
        out.put_i32(partition);
        out.put_i16(error);
        out.put_u8(0);
    }
    out.put_slice(&[0, 0]);
    out
}

#[test]
fn topics_are_told_by_their_ids_where_all_are_known() {
    let mut by_id = queue(vec![entry(0, 7)]);
    let (request, max_version) = by_id.prepare(&identity(5), 10, id_of).expect("something to commit");
    assert_eq!((request.topics[0].topic_id, max_version), (ID, i16::MAX));
    let answer = commit_answer_by_id(ID, &[(0, 0)]);
    let step = by_id.answered(T0, 10, &answer, present(5)).expect("well formed");
    assert_eq!(step.acked, [(tp(0), OwnershipEpoch(3), 7)]);
    // Another topic's answer is none.
    by_id.push(job(CommitOrigin::Auto, vec![entry(0, 8)]));
    by_id.prepare(&identity(5), 10, id_of).expect("something to commit");
    let answer = commit_answer_by_id(ottla_wire::Uuid([8; 16]), &[(0, 0)]);
    assert!(by_id.answered(T0, 10, &answer, present(5)).expect("well formed").acked.is_empty());

    let nameless = CommitEntry { tp: TopicPartition::new("u", 0), ..entry(0, 1) };
    let mut mixed = queue(vec![entry(0, 7), nameless]);
    let (request, max_version) = mixed.prepare(&identity(5), 10, id_of).expect("something to commit");
    assert_eq!((request.topics[0].topic_id, max_version), (TopicId::ZERO, BY_NAME), "one is not known by id");
    let mut old = queue(vec![entry(0, 7)]);
    let (request, max_version) = old.prepare(&identity(5), 9, id_of).expect("something to commit");
    assert_eq!((request.topics[0].topic_id, max_version), (TopicId::ZERO, BY_NAME), "ids cannot be told");
}

#[test]
fn nothing_is_sent_again_of_a_topic_that_was_made_anew() {
    let other = CommitEntry { tp: TopicPartition::new("u", 0), ..entry(0, 1) };
    let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
    // As the last commit of an ownership it need not stand any more: nothing else would stop it.
    queue.push(CommitJob::last(CommitOrigin::Auto, vec![entry(0, 7), other], LATER));
    prepare(&mut queue, 6).expect("in flight");
    queue.push(CommitJob::last(user(1), vec![entry(0, 8)], LATER));
    queue.recreated(&Arc::from("t"));
    assert!(matches!(results(queue.settle(T0, owned))[..], [Err(CommitError::NotOwned)]), "it waits no more");
    queue.failed(T0, &Error::new(ErrorKind::Transport, "reset"));
    let request = prepare(&mut queue, 6).expect("the other topic");
    assert_eq!(request.topics.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["u"]);
}

#[test]
fn what_was_taken_of_a_topic_that_was_made_anew_is_committed() {
    for (code, taken) in [(0, true), (14, false), (100, false)] {
        let mut queue = queue(vec![entry(0, 7)]);
        prepare(&mut queue, 6).expect("in flight");
        queue.recreated(&Arc::from("t"));
        let step = queue.answered(T0, 6, &commit_answer(&[(0, code)]), present(5)).expect("well formed");
        assert_eq!((!step.acked.is_empty(), step.unknown), (taken, code == 100));
        assert_eq!(outcome(&mut queue).expect("over").is_ok(), taken, "code {code}");
    }
}

#[test]
fn what_is_taken_back_is_committed_by_name_only_after_its_ids_were_told_again() {
    let taken_back = || {
        let mut queue = CommitQueue::new(BACKOFF, Rng::new(1));
        queue.push(job(CommitOrigin::Revocation(RevocationId(1)), vec![entry(0, 7)]));
        queue
    };
    let mut told_again = taken_back();
    let asked: Vec<_> = [3, 3, 4].map(|times| told_again.may_name(T0, |_| Some(times))).into();
    assert_eq!(asked, [MayName::Ask, MayName::Later, MayName::Yes]);
    let mut not_told = taken_back();
    assert_eq!(not_told.may_name(T0, |_| Some(3)), MayName::Ask);
    let second = T0 + Duration::from_secs(1);
    assert_eq!(not_told.next_timeout(T0), Some(second));
    assert_eq!(not_told.may_name(second, |_| Some(3)), MayName::Yes);
    let mut hasty = CommitQueue::new(BACKOFF, Rng::new(1));
    let soon = T0 + Duration::from_millis(600);
    hasty.push(CommitJob::new(CommitOrigin::Revocation(RevocationId(1)), vec![entry(0, 7)], soon));
    assert_eq!(hasty.may_name(T0, |_| Some(3)), MayName::Ask);
    let half = T0 + Duration::from_millis(300);
    assert_eq!(hasty.may_name(half, |_| Some(3)), MayName::Yes, "half of its time is over");
    // The time of one that is over does not hide that of the next.
    let mut two = taken_back();
    two.may_name(T0, |_| Some(3));
    two.push(job(CommitOrigin::Revocation(RevocationId(2)), vec![entry(1, 7)]));
    two.may_name(second, |_| Some(3));
    assert_eq!(two.next_timeout(second), Some(second + Duration::from_secs(1)));
    assert_eq!(taken_back().may_name(T0, |_| None), MayName::Yes, "brokers without topic ids");
    assert_eq!(queue(vec![entry(0, 7)]).may_name(T0, |_| Some(3)), MayName::Yes, "nothing is taken back");
}
