//! Where partitions begin: committed offsets, the reset policy, offsets that are looked up; and commits.

use std::sync::Arc;

use ottla_wire::Request;
use ottla_wire::messages::{OffsetCommitRequest, OffsetFetchRequest};

use super::close::Closing;
use super::{Client, CommittedOffset, Mode, Offset, Outcome, Tag};
use crate::config::{CommitMode, OffsetReset};
use crate::connection::{Role, Target};
use crate::delivery::{ResetCause, Start, StartCause};
use crate::group::GroupIdentity;
use crate::offsets::{
    Asker, BY_NAME, CommitOrigin, CommittedAnswer, JobResult, LookupAnswer, MayName, Place,
};
use crate::planted::planted;
use crate::{CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

impl Client {
    /// Begins to look for where `offset` is; an absolute one is there at once.
    pub(super) fn begin_position(
        &mut self,
        now: Timestamp,
        tp: TopicPartition,
        epoch: OwnershipEpoch,
        offset: Offset,
    ) {
        if let Some((offset, leader_epoch)) = offset.absolute() {
            let start = Start { offset, leader_epoch, cause: StartCause::Explicit };
            self.delivery.lock().start(now, &tp, epoch, start);
            return;
        }
        match (offset, Place::of(offset, true)) {
            (Offset::Committed, _) => match &mut self.committed {
                Some(committed) => committed.begin(now, Asker::Position(epoch), tp),
                None => self.reset_position(now, tp, epoch, ResetCause::NoCommittedOffset),
            },
            (_, Some(place)) => self.lookups.begin(now, Asker::Position(epoch), tp, place),
            (_, None) => {}
        }
    }

    /// There is no offset to begin at: the policy decides.
    pub(super) fn reset_position(
        &mut self,
        now: Timestamp,
        tp: TopicPartition,
        epoch: OwnershipEpoch,
        cause: ResetCause,
    ) {
        let place = match self.config.offset_reset(tp.topic()) {
            // All that the new topic holds came after what was read of the former one.
            _ if cause == ResetCause::TopicRecreated => Place::Earliest,
            OffsetReset::Earliest if planted!(ResetToEnd) => Place::Latest,
            OffsetReset::Earliest => Place::Earliest,
            // A partition that came after the subscription: what was written before we saw it would be lost.
            OffsetReset::Latest if cause == ResetCause::NoCommittedOffset && self.is_new(&tp) => {
                Place::Earliest
            }
            OffsetReset::Latest => Place::Latest,
            OffsetReset::ByDuration(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Place::Timestamp { millis: self.unix_millis(now).saturating_sub(age).max(0), or_end: true }
            }
            OffsetReset::Error => {
                let text = match cause {
                    ResetCause::NoCommittedOffset => {
                        "the group has committed no offset here and auto_offset_reset is error: \
                         seek, commit an offset, or choose another policy"
                    }
                    ResetCause::OutOfRange { .. } => {
                        "the offset is out of range and auto_offset_reset is error: seek, or choose another policy"
                    }
                    ResetCause::LogTruncation { .. } => {
                        "the log was truncated and auto_offset_reset is error: seek"
                    }
                    ResetCause::TopicRecreated => "the topic was deleted and created anew: seek",
                };
                let error = Error::new(ErrorKind::NoOffset, text).with_partition(tp.clone());
                self.delivery.lock().fail(&tp, epoch, error);
                return;
            }
        };
        self.delivery.lock().resetting(&tp, epoch, cause);
        self.lookups.begin(now, Asker::Position(epoch), tp, place);
    }

    /// Whether the partition was added after this client first looked at its topic.
    fn is_new(&self, tp: &TopicPartition) -> bool {
        let first = self.first_seen.get(tp.topic());
        self.mode == Mode::Subscribed
            && first.is_some_and(|count| usize::try_from(tp.partition()).is_ok_and(|p| p >= *count))
    }

    /// Another topic has this name now (KIP-516): the offsets of the former one say nothing of it. What is owned of
    /// it begins at its first record, and the reader is told, once. Under the consumer protocol (KIP-848) only the former
    /// one's partitions are owned: nothing more is read before the group has exchanged them.
    pub(super) fn topic_recreated(&mut self, now: Timestamp, topic: &Arc<str>) {
        tracing::warn!(%topic, "the topic was deleted and created anew");
        self.first_seen.insert(Arc::clone(topic), 0);
        self.commits.recreated(topic);
        let mut owned = self.delivery.lock().owned();
        owned.retain(|(tp, _)| tp.topic() == &**topic);
        let by_hand = self.config.offset_reset(topic) == OffsetReset::Error;
        let how =
            if by_hand { "seek to where it shall be read from" } else { "it is read from its beginning" };
        let text = format!("topic {topic:?} was deleted and created anew, what it held is gone: {how}");
        let error = Error::new(ErrorKind::DataLoss, text).with_fatal(false);
        // Who assigns by id takes the former topic's partitions back, and gives those of the new one to whom it likes.
        let by_id = self.mode == Mode::Subscribed && self.group.as_ref().is_some_and(|g| g.is_consumer());
        // Who only just asks what the group has committed may have to go on in the new one: it is asked again, by its id.
        if let Some(committed) = self.committed.as_mut().filter(|_| !by_id) {
            owned.retain(|(tp, epoch)| !committed.ask_anew(now, Asker::Position(*epoch), tp));
        }
        if !owned.is_empty() && !by_hand {
            self.delivery.lock().report(error.clone());
        }
        for (tp, _) in owned {
            self.delivery.lock().recreated(now, &tp);
            if !by_hand && !by_id {
                self.begin_reset(now, &tp, ResetCause::TopicRecreated, None);
                continue;
            }
            // What is done of the former one is not committed any more.
            let epoch = self.delivery.lock().begin_seek(now, &tp);
            if let Some(epoch) = epoch {
                self.forget_position_of(&tp);
                if by_hand {
                    self.delivery.lock().fail(&tp, epoch, error.clone());
                }
            }
        }
    }

    /// Leaves the position for where the policy says. A lookup for the former one is forgotten.
    fn begin_reset(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        cause: ResetCause,
        undone: Option<(i64, Option<LeaderEpoch>)>,
    ) {
        let epoch = self.delivery.lock().begin_seek(now, tp);
        if let Some(epoch) = epoch {
            self.forget_position_of(tp);
            self.reset_position(now, tp.clone(), epoch, cause);
            if let Some(undone) = undone {
                self.delivery.lock().resetting_undone(tp, epoch, undone);
            }
        }
    }

    /// The leader says that the offset does not exist.
    pub(super) fn out_of_range(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        offset: i64,
    ) {
        if self.config.offset_reset(tp.topic()) == OffsetReset::Error {
            return self.reset_position(now, tp.clone(), epoch, ResetCause::OutOfRange { offset });
        }
        // A reset position is committed at once: with what is in hand before it, if that is in the log. The earliest
        // offset has nothing before it, and whoever keeps offsets elsewhere, or none, is not asked what is done.
        let commits = self.config.group.is_some() && self.config.commit != CommitMode::External;
        let undone = if commits && self.config.offset_reset(tp.topic()) != OffsetReset::Earliest {
            self.delivery.lock().undone(tp)
        } else {
            None
        };
        self.begin_reset(now, tp, ResetCause::OutOfRange { offset }, undone);
    }

    pub(super) fn drive_lookups(&mut self, now: Timestamp) {
        let (brokers, leaderless) = self.lookups.due(now, |tp| self.cluster.leader(tp).map(|l| l.broker));
        if leaderless {
            self.refresh.request(now);
        }
        for broker in brokers {
            let target = Target::Broker(broker);
            if !self.network.open(now, target, Role::Control) {
                continue;
            }
            let (request, tag) =
                self.lookups.prepare(now, broker, |tp| self.cluster.leader(tp).map(|l| (l.broker, l.epoch)));
            let timeout = self.config.request_timeout;
            let tag = Tag::ListOffsets(tag);
            self.network.send(now, (target, Role::Control), &request, i16::MAX, tag, timeout);
        }
    }

    /// The coordinator's control connection, when it can be used, and the version of a request on it.
    pub(super) fn coordinator_use<R: Request>(&self) -> Option<(Target, i16)> {
        let target = Target::Broker(self.coordinator.broker()?);
        let versions = self.network.versions(target, Role::Control)?;
        // A version that cannot be agreed on fails in `send`, with its reason.
        let version = versions.pick(R::API, R::MIN_VERSION, R::MAX_VERSION).unwrap_or(R::MIN_VERSION);
        Some((target, version))
    }

    pub(super) fn drive_committed(&mut self, now: Timestamp) {
        // A position must not be looked up before the commit of the former ownership is through.
        if self.commits.holds_last() || !self.committed.as_ref().is_some_and(|c| c.is_due(now)) {
            return;
        }
        let Some((target, version)) = self.coordinator_use::<OffsetFetchRequest>() else {
            return;
        };
        if let Some(committed) = &mut self.committed {
            let member = self.group.as_ref().filter(|g| g.is_consumer()).and_then(|g| g.identity());
            let cluster = &self.cluster;
            let (request, max, tag) =
                committed.prepare(now, version, member, |topic| cluster.topic(topic)?.id);
            let timeout = self.config.request_timeout;
            let tag = Tag::OffsetFetch(tag);
            self.network.send(now, (target, Role::Control), &request, max, tag, timeout);
        }
    }

    /// A lookup ended: the partition begins there, or the query has its answer.
    pub(super) fn looked_up(&mut self, now: Timestamp, answer: LookupAnswer) {
        let LookupAnswer { asker, tp, found } = answer;
        match asker {
            Asker::Query(id) => self.query_answered(id, &tp, found.map(|f| f.map(|(offset, _)| offset))),
            Asker::Position(epoch) => match found {
                Ok(Some((offset, leader_epoch))) => {
                    let mut delivery = self.delivery.lock();
                    let reset = delivery.is_resetting(&tp, epoch);
                    let cause = if reset { StartCause::Reset } else { StartCause::Explicit };
                    let started = delivery.start(now, &tp, epoch, Start { offset, leader_epoch, cause });
                    if started {
                        // Nothing was read before it that a truncation could have taken: an offset that is not there
                        // is out of range.
                        delivery.forget_fetch_epoch(&tp, epoch, offset);
                    }
                    if reset && started {
                        // An idle partition would be reset again after a restart and lose what came meanwhile.
                        self.next_auto_commit = now;
                    }
                }
                Ok(None) => {
                    // The broker's log has no timestamps: its end is where nothing is older.
                    self.lookups.begin(now, Asker::Position(epoch), tp, Place::Latest);
                }
                Err(error) => {
                    self.delivery.lock().fail(&tp, epoch, error);
                }
            },
        }
    }

    /// What the group committed is known.
    pub(super) fn committed_told(&mut self, now: Timestamp, answer: CommittedAnswer) {
        let CommittedAnswer { asker, tp, committed } = answer;
        match (asker, committed) {
            (Asker::Query(id), committed) => self.committed_answered(id, &tp, committed),
            (Asker::Position(epoch), Ok(Some(CommittedOffset { offset, leader_epoch, metadata }))) => {
                let cause = StartCause::Committed { metadata };
                self.delivery.lock().start(now, &tp, epoch, Start { offset, leader_epoch, cause });
            }
            (Asker::Position(epoch), Ok(None)) => {
                self.reset_position(now, tp, epoch, ResetCause::NoCommittedOffset);
            }
            (Asker::Position(epoch), Err(error)) => {
                self.delivery.lock().fail(&tp, epoch, error);
            }
        }
    }

    /// Sends the next commit, and tells those whose commit is over. True if somebody has to be told more.
    pub(super) fn drive_commits(&mut self, now: Timestamp) -> bool {
        if self.commit_timeout().is_some_and(|at| now >= at) {
            self.next_auto_commit = now + self.config.commit_interval();
            self.commit_again = self.commits.holds(CommitOrigin::Auto);
            self.commit_done(now, CommitOrigin::Auto);
        }
        if self.commits.is_empty() {
            return false;
        }
        let done = {
            let delivery = self.delivery.lock();
            self.commits.settle(now, |tp| delivery.ownership(tp))
        };
        let mut moved = false;
        for result in done {
            moved = true;
            self.commit_finished(now, result);
        }
        if self.commits.is_due(now)
            && let Some(identity) = self.identity()
            && let Some((target, version)) = self.coordinator_use::<OffsetCommitRequest>()
            && self.may_commit_by(now, version)
            // One that waited for the end of a silence could not be told to be late, however long that is.
            && self.network.is_free(now, target, Role::Control)
            && let Some((request, max)) =
                self.commits.prepare(&identity, version, |topic| self.cluster.topic(topic)?.id)
        {
            let timeout = self.config.request_timeout;
            let use_ = (target, Role::Control);
            let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
            self.commit_begins(now, target, partitions);
            self.network.send(now, use_, &request, max, Tag::OffsetCommit, timeout);
        }
        moved
    }

    /// Whether what waits may be committed in this version. One that names topics may have to wait for metadata.
    fn may_commit_by(&mut self, now: Timestamp, version: i16) -> bool {
        let id_told = |topic: &str| self.cluster.topic(topic).filter(|t| t.id.is_some()).map(|t| t.id_told);
        let by_id = version > BY_NAME && self.commits.topics().all(|topic| id_told(topic).is_some());
        let may = if by_id { MayName::Yes } else { self.commits.may_name(now, id_told) };
        if may == MayName::Ask {
            self.refresh.request(now);
        }
        may == MayName::Yes
    }

    /// What commits carry now; `None` while none can be sent.
    fn identity(&self) -> Option<GroupIdentity> {
        let group = self.group.as_ref()?;
        if self.mode == Mode::Subscribed || group.identity().is_some() {
            return group.identity().filter(|_| group.may_commit());
        }
        // Without group management only a group without members takes commits.
        Some(GroupIdentity {
            group_id: self.config.group.as_ref()?.group_id.clone(),
            generation_id: -1,
            member_id: String::new(),
            group_instance_id: None,
        })
    }

    pub(super) fn commit_finished(&mut self, now: Timestamp, result: JobResult) {
        self.note_failures(&result);
        match result.origin {
            CommitOrigin::User(id) => {
                self.finish_command(id, Outcome::Commit(result.results));
            }
            CommitOrigin::Revocation(_) => self.end_revocation(now, &result),
            CommitOrigin::Unsubscribe => self.gave_up(now),
            CommitOrigin::Background => {
                self.delivery.lock().background_committed(result.results);
            }
            CommitOrigin::Auto | CommitOrigin::Close => {
                if std::mem::take(&mut self.commit_again) {
                    self.next_auto_commit = now;
                }
                for (tp, result) in result.results {
                    let Err(error) = result else { continue };
                    match (&mut self.closing, error) {
                        // Somebody else has it: that is no failure of ours.
                        (_, CommitError::NotOwned) => {}
                        (Closing::Committing(close) | Closing::Leaving(close), error) => {
                            close.errors.push(error.into_error(&tp));
                        }
                        (_, error) => {
                            tracing::warn!(partition = %tp, %error, "the offset was not committed, trying again later");
                        }
                    }
                }
            }
        }
    }

    /// What failed is neither committed nor on its way any more.
    fn note_failures(&self, result: &JobResult) {
        let mut delivery = self.delivery.lock();
        for (tp, result) in &result.results {
            let failed = matches!(
                result,
                Err(CommitError::Fenced(_) | CommitError::Retriable(_) | CommitError::Fatal(_))
            );
            if failed && let Some(epoch) = delivery.ownership(tp) {
                delivery.note_not_committed(tp, epoch, self.commits.latest(tp, epoch));
            }
        }
    }
}
