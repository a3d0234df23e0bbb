//! OffsetCommit: one at a time, in order, never cancelled. What waits goes out together in the next request; each
//! who asked still gets an answer of their own.
//!
//! | code                                            | what it means for the entry                                  |
//! |-------------------------------------------------|--------------------------------------------------------------|
//! | NONE                                            | committed                                                    |
//! | COORDINATOR_LOAD_IN_PROGRESS                    | again after a backoff                                        |
//! | UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID    | again after a backoff, three times; metadata is asked for    |
//! | NOT_COORDINATOR, …_NOT_AVAILABLE, REQUEST_TIMED_OUT | again at the new coordinator                             |
//! | REBALANCE_IN_PROGRESS                           | again when the rebalance is over; the group is told          |
//! | ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID           | again with a newer generation if there is one, else fenced   |
//! | ILLEGAL_GENERATION while joining                | again: the answer to JoinGroup that tells it may be lost     |
//! | STALE_MEMBER_EPOCH                              | again when the next heartbeat has told the newer epoch       |
//! | FENCED_INSTANCE_ID                              | fenced                                                       |
//! | everything else                                 | again if the code is retriable, else failed                  |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_wire::{ErrorCode, View};

use super::CommitResults;
use super::judge::{Verdict, judge, late};
use super::topic_ids::TopicIds;
use crate::delivery::{CommitEntry, RevocationId};
use crate::group::GroupIdentity;
use crate::planted::{planted, planting};
use crate::{
    Backoff, CommandId, CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Rng, Timestamp, TopicId,
    TopicPartition,
};

/// What the member is when an answer comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present {
    pub(crate) generation_id: Option<i32>,
    /// It joins, so that the group may have gone on to a generation that it was not told yet.
    pub(crate) joins: bool,
}

/// Who asked for a commit, and so who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitOrigin {
    User(CommandId),
    Background,
    Auto,
    Revocation(RevocationId),
    /// The user gave a subscription up.
    Unsubscribe,
    Close,
}

/// Offsets that are committed together.
#[derive(Debug)]
pub(crate) struct CommitJob {
    pub(crate) origin: CommitOrigin,
    pub(crate) entries: Vec<CommitEntry>,
    /// What is decided already.
    pub(crate) results: CommitResults,
    pub(crate) deadline: Timestamp,
    /// Whether it is the last commit of ownerships that ended with it: they need not stand any more.
    last: bool,
    /// How often the coordinator said that it does not know a topic.
    unknown: u8,
    /// How often metadata had told the ids of its topics when it was to go out by name, and how long it waits for more.
    told_before: Option<(BTreeMap<Arc<str>, u64>, Timestamp)>,
}

impl CommitJob {
    /// A commit of `entries`.
    pub(crate) fn new(origin: CommitOrigin, entries: Vec<CommitEntry>, deadline: Timestamp) -> Self {
        Self { origin, entries, results: Vec::new(), deadline, last: false, unknown: 0, told_before: None }
    }

    /// The last commit of ownerships that end with it.
    pub(crate) fn last(origin: CommitOrigin, entries: Vec<CommitEntry>, deadline: Timestamp) -> Self {
        Self { last: true, ..Self::new(origin, entries, deadline) }
    }
}

impl CommitJob {
    /// What it has of this topic is not sent (again).
    fn give_up(&mut self, topic: &str) {
        let results = &mut self.results;
        self.entries.retain(|entry| {
            let kept = entry.tp.topic() != topic;
            if !kept {
                results.push((entry.tp.clone(), Err(CommitError::NotOwned)));
            }
            kept
        });
    }
}

/// What an answer says, partition by partition.
type Told<'a> = BTreeMap<(&'a str, i32), i16>;

impl CommitJob {
    /// Takes in its part of an answer. Gives whether nothing is left to be sent again.
    fn answered(&mut self, told: &Told<'_>, sent: i32, present: Present, step: &mut CommitStep) -> bool {
        let is_unknown =
            |code| matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
        let code_of = |entry: &CommitEntry| {
            // A partition that the answer leaves out is sent again: silence is no success.
            let code = told.get(&(entry.tp.topic(), entry.tp.partition()));
            if code.is_none() && planted!(UnknownEpochNotCommitted) {
                return ErrorCode::None;
            }
            code.map_or(ErrorCode::RequestTimedOut, |c| ErrorCode::from_i16(*c))
        };
        let any_unknown = self.entries.iter().any(|entry| is_unknown(code_of(entry)));
        step.unknown |= any_unknown;
        self.unknown = self.unknown.saturating_add(u8::from(any_unknown));
        let mut again = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            let code = code_of(&entry);
            if is_unknown(code) && self.unknown >= UNKNOWN_TRIES {
                let text = "the coordinator does not know the partition: was the topic deleted?";
                let error =
                    Error::new(ErrorKind::Transport, text).with_code(code).with_partition(entry.tp.clone());
                self.results.push((entry.tp, Err(CommitError::Retriable(error))));
                continue;
            }
            match judge(code, sent, present) {
                Verdict::Committed => {
                    step.acked.push((entry.tp.clone(), entry.epoch, entry.offset));
                    self.results.push((entry.tp, Ok(())));
                }
                Verdict::Again { coordinator_lost, refused } => {
                    step.coordinator_lost |= coordinator_lost;
                    if refused {
                        step.refused = Some((code, sent));
                    }
                    again.push(entry);
                }
                Verdict::Fenced => {
                    step.refused = Some((code, sent));
                    let text = "the group does not know this member any more; its partitions are lost";
                    let error = Error::new(ErrorKind::Fenced, text).with_code(code).with_fatal(false);
                    self.results.push((entry.tp, Err(CommitError::Fenced(error))));
                }
                Verdict::Failed(error) => {
                    let error = error.with_partition(entry.tp.clone());
                    self.results.push((entry.tp, Err(CommitError::Fatal(error))));
                }
            }
        }
        self.entries = again;
        self.entries.is_empty()
    }
}

/// So long a commit that has to name its topics waits for their ids to be confirmed: a group must not wait for brokers
/// that tell nothing.
const CONFIRMING: Duration = Duration::from_secs(1);

/// A topic that is not known after so many answers was deleted, and must not hold up the commits behind it.
const UNKNOWN_TRIES: u8 = 3;

/// A job that is over.
#[derive(Debug)]
pub(crate) struct JobResult {
    pub(crate) origin: CommitOrigin,
    pub(crate) results: CommitResults,
}

/// Whether commits may tell topics by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayName {
    Yes,
    /// Metadata is to be asked first.
    Ask,
    /// It was asked.
    Later,
}

/// What an answer, or its absence, means for the client around the queue.
#[derive(Debug, Default)]
pub(crate) struct CommitStep {
    pub(crate) acked: Vec<(TopicPartition, OwnershipEpoch, i64)>,
    pub(crate) coordinator_lost: bool,
    /// The coordinator does not know a topic: metadata may tell what became of it.
    pub(crate) unknown: bool,
    /// The group refused the generation that was sent.
    pub(crate) refused: Option<(ErrorCode, i32)>,
}

#[derive(Debug)]
struct Sent {
    generation_id: i32,
    /// How many jobs the request carries: the first ones.
    jobs: usize,
    topic_ids: TopicIds,
    /// Topics that were made anew since: what is not taken of them is not sent again.
    anew: BTreeSet<Arc<str>>,
}

/// More entries than this do not go out together: a request has to stay well below what a broker accepts.
const MAX_MERGED: usize = 10_000;

/// The commits of one client.
#[derive(Debug)]
pub(crate) struct CommitQueue {
    jobs: VecDeque<CommitJob>,
    in_flight: Option<Sent>,
    backoff: Backoff,
    not_before: Timestamp,
    rng: Rng,
}

impl CommitQueue {
    pub(crate) fn new((initial, max): (Duration, Duration), rng: Rng) -> Self {
        Self {
            jobs: VecDeque::new(),
            in_flight: None,
            backoff: Backoff::new(initial, max),
            not_before: Timestamp::ZERO,
            rng,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many offsets wait or are under way.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.jobs.iter().map(|job| job.entries.len()).sum()
    }

    /// Whether a job of this origin is under way or waits.
    pub(crate) fn holds(&self, origin: CommitOrigin) -> bool {
        self.jobs.iter().any(|j| j.origin == origin)
    }

    /// Whether the last commit of an ownership is under way: what is committed changes with it.
    pub(crate) fn holds_last(&self) -> bool {
        self.jobs.iter().any(|j| j.last)
    }

    /// How many jobs the request in flight carries.
    fn busy(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |sent| sent.jobs)
    }

    /// The latest offset of this ownership that is on its way.
    pub(crate) fn latest(&self, tp: &TopicPartition, epoch: OwnershipEpoch) -> Option<i64> {
        let entries = self.jobs.iter().rev().flat_map(|j| &j.entries);
        entries.filter(|e| e.epoch == epoch && e.tp == *tp).map(|e| e.offset).next()
    }

    /// Queues a job. In the background the latest per partition replaces what waits, if nothing waits behind it:
    /// a later offset must not overtake an earlier one of another job, which would undo it.
    pub(crate) fn push(&mut self, job: CommitJob) {
        let busy = self.busy();
        if job.origin == CommitOrigin::Background
            && let Some(waiting) =
                self.jobs.iter_mut().skip(busy).next_back().filter(|j| j.origin == job.origin)
        {
            let newer: BTreeSet<&TopicPartition> = job.entries.iter().map(|e| &e.tp).collect();
            waiting.entries.retain(|e| !newer.contains(&e.tp));
            waiting.entries.extend(job.entries);
            waiting.results.extend(job.results);
            waiting.deadline = waiting.deadline.max(job.deadline);
            return;
        }
        self.jobs.push_back(job);
    }

    /// These partitions were lost: whoever has them now may have committed more, so that their last commit is not
    /// sent any more, whatever membership comes next.
    pub(crate) fn lost(&mut self, partitions: &BTreeSet<&TopicPartition>) {
        for job in self.jobs.iter_mut().filter(|job| job.last) {
            job.last = !job.entries.iter().any(|entry| partitions.contains(&entry.tp));
        }
    }

    /// The topic was deleted and made anew: what its former partitions' offsets are says nothing of the new ones.
    pub(crate) fn recreated(&mut self, topic: &Arc<str>) {
        let busy = self.busy();
        if let Some(sent) = &mut self.in_flight {
            sent.anew.insert(Arc::clone(topic));
        }
        self.jobs.iter_mut().skip(busy).for_each(|job| job.give_up(topic));
    }

    /// The topics of what waits.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.jobs.iter().flat_map(|job| &job.entries).map(|entry| entry.tp.topic_arc())
    }

    /// The topics of last commits: nobody owns anything of them any more, and their ids are to be known until then.
    pub(crate) fn last_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        let last = self.jobs.iter().filter(|job| job.last);
        last.flat_map(|job| &job.entries).map(|entry| entry.tp.topic_arc())
    }

    /// Whether what waits may go out by the topics' names. The coordinator takes partitions back when a topic was deleted,
    /// and who has not heard of that would commit the former topic's offsets for the one that was made under its name
    /// since: metadata has to tell the ids first, or a second passes. `told` says how often it has, of a topic that has
    /// an id.
    pub(crate) fn may_name(&mut self, now: Timestamp, told: impl Fn(&str) -> Option<u64>) -> MayName {
        let mut may = MayName::Yes;
        for job in self.jobs.iter_mut().filter(|job| matches!(job.origin, CommitOrigin::Revocation(_))) {
            let topics: BTreeSet<&Arc<str>> = job.entries.iter().map(|entry| entry.tp.topic_arc()).collect();
            let present = topics.into_iter().filter_map(|topic| Some((Arc::clone(topic), told(topic)?)));
            let present: BTreeMap<_, _> = present.collect();
            let Some((before, until)) = &job.told_before else {
                if !present.is_empty() {
                    may = MayName::Ask;
                }
                // Half of its time at most: a commit that nobody confirms is better than none.
                let patience = CONFIRMING.min(job.deadline.since(now) / 2);
                job.told_before = Some((present, now + patience));
                continue;
            };
            let again = |(topic, times)| before.get(topic).is_none_or(|before| before < times);
            if now < *until && !present.iter().all(again) && may == MayName::Yes {
                may = MayName::Later;
            }
        }
        may
    }

    /// Whether something can be sent now.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.in_flight.is_none() && !self.jobs.is_empty() && now >= self.not_before
    }

    /// Decides what needs no broker (ownership that is over, time that is over) and gives the jobs that are done
    /// with. `owned` tells the present ownership of a partition.
    pub(crate) fn settle(
        &mut self,
        now: Timestamp,
        owned: impl Fn(&TopicPartition) -> Option<OwnershipEpoch>,
    ) -> Vec<JobResult> {
        let mut done = Vec::new();
        let mut index = self.busy();
        for job in self.jobs.iter_mut().take(index) {
            // What is sent is not cancelled, but nobody waits for its answer any longer.
            if now >= job.deadline && matches!(job.origin, CommitOrigin::User(_)) {
                let origin = std::mem::replace(&mut job.origin, CommitOrigin::Auto);
                let mut results = std::mem::take(&mut job.results);
                results.extend(job.entries.iter().map(|e| (e.tp.clone(), Err(late(origin, &e.tp)))));
                done.push(JobResult { origin, results });
            }
        }
        while let Some(job) = self.jobs.get_mut(index) {
            let (is_late, last, origin) = (now >= job.deadline, job.last, job.origin);
            let results = &mut job.results;
            job.entries.retain(|e| {
                if !last && owned(&e.tp) != Some(e.epoch) && !planted!(OldOwnershipCommitted) {
                    results.push((e.tp.clone(), Err(CommitError::NotOwned)));
                    return false;
                }
                if is_late {
                    results.push((e.tp.clone(), Err(late(origin, &e.tp))));
                }
                !is_late
            });
            if job.entries.is_empty() {
                if let Some(job) = self.jobs.remove(index) {
                    done.push(JobResult { origin: job.origin, results: job.results });
                }
            } else {
                index += 1;
            }
        }
        done
    }

    /// How many jobs can go out together, from the first on. Of a partition that several name the last one counts,
    /// as it would if they went out one after the other. One with a text of its own waits for its turn: should the
    /// broker refuse the text, that is not to be told of an earlier one.
    fn mergeable(&self) -> usize {
        let mut named: BTreeSet<&TopicPartition> = BTreeSet::new();
        for (count, job) in self.jobs.iter().enumerate() {
            let again = |e: &CommitEntry| e.metadata.is_some() && named.contains(&e.tp);
            let crowded = !named.is_empty() && named.len() + job.entries.len() > MAX_MERGED;
            if crowded || job.entries.iter().any(again) {
                return count;
            }
            named.extend(job.entries.iter().map(|e| &e.tp));
        }
        self.jobs.len()
    }

    /// The request for what waits, and the latest version that can carry it. It counts as sent. `version` is what
    /// the coordinator speaks, `id_of` tells a topic's present id.
    pub(crate) fn prepare(
        &mut self,
        identity: &GroupIdentity,
        version: i16,
        id_of: impl Fn(&str) -> Option<TopicId>,
    ) -> Option<(OffsetCommitRequest, i16)> {
        self.jobs.front()?;
        let jobs = self.mergeable();
        let named =
            self.jobs.iter().take(jobs).flat_map(|job| &job.entries).map(|entry| entry.tp.topic_arc());
        let topic_ids = TopicIds::new(named, version, id_of);
        let mut topics: BTreeMap<&str, BTreeMap<i32, OffsetCommitRequestPartition>> = BTreeMap::new();
        for entry in self.jobs.iter().take(jobs).flat_map(|job| &job.entries) {
            if entry.leader_epoch.is_none() && planted!(UnknownEpochNotCommitted) {
                continue;
            }
            let mut offset = entry.offset;
            if planting!(MixedUpCommits) {
                let all = self.jobs.iter().take(jobs).flat_map(|job| &job.entries);
                let same = all.filter(|e| e.tp.partition() == entry.tp.partition());
                let most = same.map(|e| e.offset).max().unwrap_or(offset);
                if most > offset && planted!(MixedUpCommits) {
                    offset = most;
                }
            }
            let mut leader_epoch = LeaderEpoch::to_wire(entry.leader_epoch);
            if leader_epoch >= 0 && planted!(FutureEpochCommitted) {
                leader_epoch += 1;
            }
            let partition = OffsetCommitRequestPartition {
                partition_index: entry.tp.partition(),
                committed_offset: offset,
                // Unknown is committed as unknown: leaving the entry out would lose it.
                committed_leader_epoch: leader_epoch,
                committed_metadata: Some(entry.metadata.clone().unwrap_or_default()),
                ..OffsetCommitRequestPartition::default()
            };
            topics.entry(entry.tp.topic()).or_default().insert(entry.tp.partition(), partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name: name.to_owned(),
            topic_id: topic_ids.id_of(name),
            partitions: partitions.into_values().collect(),
            ..OffsetCommitRequestTopic::default()
        });
        let request = OffsetCommitRequest {
            group_id: identity.group_id.clone(),
            generation_id_or_member_epoch: identity.generation_id,
            member_id: identity.member_id.clone(),
            group_instance_id: identity.group_instance_id.clone().filter(|_| version >= 7),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        let (max_version, anew) = (topic_ids.max_version(), BTreeSet::new());
        self.in_flight = Some(Sent { generation_id: identity.generation_id, jobs, topic_ids, anew });
        Some((request, max_version))
    }

    /// The request will not be answered. Whether it was carried out is not known: it is sent again.
    pub(crate) fn failed(&mut self, now: Timestamp, error: &Error) {
        if planted!(FailedCommitSticks) {
            return;
        }
        if self.jobs.len() > 1 && planted!(CommitsOvertake) {
            self.jobs.rotate_left(1);
        }
        let Some(sent) = self.in_flight.take() else {
            return;
        };
        self.give_up(&sent);
        if error.is_retriable() {
            self.not_before = now + self.backoff.next(&mut self.rng);
            return;
        }
        for job in self.jobs.iter_mut().take(sent.jobs) {
            for entry in std::mem::take(&mut job.entries) {
                job.results.push((entry.tp, Err(CommitError::Fatal(error.clone()))));
            }
        }
    }

    /// Takes in an answer.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        version: i16,
        body: &[u8],
        present: Present,
    ) -> Result<CommitStep, Error> {
        let mut step = CommitStep::default();
        let Some(sent) = self.in_flight.take() else {
            return Ok(step);
        };
        let answer = match OffsetCommitResponse::decode(version, body) {
            Ok(answer) => answer,
            Err(e) => {
                self.give_up(&sent);
                self.not_before = now + self.backoff.next(&mut self.rng);
                let text = "sent an answer to OffsetCommit that cannot be read";
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e));
            }
        };
        let mut told = Told::new();
        for topic in answer.topics.iter() {
            // A topic that was not asked about: what was is left out, and sent again.
            let Some(name) = sent.topic_ids.name_of(version, topic.name, topic.topic_id) else { continue };
            for p in topic.partitions.iter() {
                told.entry((name, p.partition_index)).or_insert(p.error_code);
            }
        }
        let mut complete = true;
        for job in self.jobs.iter_mut().take(sent.jobs) {
            complete &= job.answered(&told, sent.generation_id, present, &mut step);
        }
        self.give_up(&sent);
        if complete {
            self.backoff.reset();
            self.not_before = now;
        } else {
            self.not_before = now + self.backoff.next(&mut self.rng);
        }
        Ok(step)
    }

    /// What was sent of topics that were made anew meanwhile is not sent again.
    fn give_up(&mut self, sent: &Sent) {
        for topic in &sent.anew {
            self.jobs.iter_mut().take(sent.jobs).for_each(|job| job.give_up(topic));
        }
    }

    /// Gives everything up: the time for it is over.
    pub(crate) fn abandon(&mut self) -> Vec<JobResult> {
        self.in_flight = None;
        let jobs = std::mem::take(&mut self.jobs);
        let text = "the offset was not committed before the close timeout was over";
        jobs.into_iter()
            .map(|mut job| {
                for entry in job.entries {
                    let error = Error::new(ErrorKind::Transport, text).with_partition(entry.tp.clone());
                    job.results.push((entry.tp, Err(CommitError::Retriable(error))));
                }
                JobResult { origin: job.origin, results: job.results }
            })
            .collect()
    }

    /// When the queue wants to be looked at again. What may be sent already and cannot waits for something else, but no
    /// longer than until its deadline.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let busy = self.busy();
        let waits = |(index, job): &(usize, &CommitJob)| {
            *index >= busy || matches!(job.origin, CommitOrigin::User(_))
        };
        let deadline = self.jobs.iter().enumerate().filter(waits).map(|(_, job)| job.deadline).min();
        let retry = (self.in_flight.is_none() && !self.jobs.is_empty()).then_some(self.not_before);
        // Each of them: one that is past must not hide one that is to come.
        let named = self.jobs.iter().filter_map(|job| job.told_before.as_ref()).map(|(_, until)| *until);
        deadline.into_iter().chain(retry).chain(named).filter(|at| *at > now).min()
    }
}
