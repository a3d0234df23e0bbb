//! What the group machine wants done, and what the reader says about it.

use std::collections::BTreeSet;
use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::messages::DescribeGroupsRequest;

use super::close::Closing;
use super::{Action, Client, Mode, Tag};
use crate::connection::{Role, Target};
use crate::delivery::CommitScope;
use crate::group::classic::{Described, no_assignor_in_common};
use crate::group::{Group, GroupAction, GroupRequest, GroupRequestKind};
use crate::offsets::{Asker, CommitJob, CommitOrigin, JobResult};
use crate::planted::{planted, planting};
use crate::{Error, ErrorKind, Timestamp, TopicPartition};

/// How long an error waits for what would make it more helpful.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    pub(super) fn handle_group_action(&mut self, now: Timestamp, action: GroupAction) {
        self.topics_as_of = None;
        match action {
            GroupAction::FindCoordinator => {
                self.coordinator.wanted = true;
                // A JoinGroup that is still parked would hold up the next one, and answers of the former
                // coordinator must not be taken for those of the next.
                self.network.close_role(Role::Group, "the group's coordinator is looked for again");
                self.coordinator_lost(now);
            }
            GroupAction::Send(request) => {
                if let Some(committed) = &mut self.committed
                    && !committed.is_empty()
                    && request.kind() == GroupRequestKind::Join
                    && planted!(LookupsForgotten)
                {
                    committed.retain(|asker, _| matches!(asker, Asker::Query(_)));
                }
                self.send_group(now, request);
            }
            GroupAction::Compute(job) => self.actions.push_back(Action::Compute(job)),
            GroupAction::WantMetadata(topics) => {
                self.leader_topics = topics;
                self.refresh_if_unknown(now);
                self.tell_topology(now);
            }
            GroupAction::WantTopicNames => {
                self.tell_names(now);
                if self.waits_for_names() {
                    self.refresh.request(now);
                }
            }
            // The user gave the subscription up: there is nobody to wait for.
            GroupAction::Revoke { partitions, .. }
                if self.subscription.is_empty() && self.pattern.is_none() =>
            {
                self.give_up(now, partitions);
            }
            GroupAction::Revoke { partitions, deadline } => {
                tracing::info!(partitions = partitions.len(), "partitions are taken back");
                let id = self.delivery.lock().revoke(now, &partitions, deadline);
                self.forget_lookups(&partitions);
                self.revoking.insert(id, partitions);
            }
            GroupAction::Assign(partitions) => {
                let kept =
                    if planting!(DuplicateRewinds) { self.delivery.lock().owned() } else { Vec::new() };
                if !kept.is_empty() && planted!(DuplicateRewinds) {
                    for (tp, _) in kept {
                        let epoch = self.delivery.lock().begin_seek(now, &tp);
                        epoch.inspect(|epoch| self.begin_position(now, tp, *epoch, super::Offset::Committed));
                    }
                }
                let external = self.keeps_no_offsets();
                let owned = self.delivery.lock().assign(now, &partitions);
                if !owned.is_empty() {
                    tracing::info!(partitions = owned.len(), "partitions are assigned");
                }
                for (tp, epoch) in owned {
                    // Who keeps the offsets is asked by the delivery.
                    if let Some(committed) = self.committed.as_mut().filter(|_| !external) {
                        committed.begin(now, Asker::Position(epoch), tp);
                    }
                }
            }
            GroupAction::Lost(partitions) => {
                if !partitions.is_empty() {
                    tracing::warn!(partitions = partitions.len(), "partitions are lost");
                }
                self.delivery.lock().lose(now, &partitions);
                self.forget_lookups(&partitions);
                let lost: BTreeSet<&TopicPartition> = partitions.iter().collect();
                self.revoking.retain(|_, revoking| !revoking.iter().all(|tp| lost.contains(tp)));
                self.commits.lost(&lost);
            }
            GroupAction::Fail(error) if error.code() == Some(ErrorCode::InconsistentGroupProtocol) => {
                self.describe_group(now, error);
            }
            GroupAction::Fail(error) => self.delivery.lock().fail_all(error.with_fatal(true)),
            GroupAction::Report(error) => self.delivery.lock().report(error.with_fatal(false)),
            GroupAction::Left => self.group_left(),
        }
    }

    /// Commits what is done of these partitions and ends their ownership; the group goes on when that is through.
    fn give_up(&mut self, now: Timestamp, partitions: Vec<TopicPartition>) {
        let entries = {
            let mut delivery = self.delivery.lock();
            let entries = delivery.committable(CommitScope::Only(&partitions));
            delivery.unassign(now, &partitions);
            entries
        };
        self.forget_lookups(&partitions);
        self.given_up = partitions;
        let deadline = now + self.config.default_api_timeout.min(self.commit_grace());
        self.commits.push(CommitJob::last(CommitOrigin::Unsubscribe, entries, deadline));
    }

    /// What was done of the partitions that were given up is committed, or cannot be.
    pub(super) fn gave_up(&mut self, now: Timestamp) {
        let partitions = std::mem::take(&mut self.given_up);
        if let Some(group) = &mut self.group {
            group.revocation_finished(now, &partitions);
        }
    }

    pub(super) fn forget_lookups(&mut self, partitions: &[TopicPartition]) {
        let gone: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let keep = |asker: Asker, tp: &TopicPartition| matches!(asker, Asker::Query(_)) || !gone.contains(tp);
        self.lookups.retain(keep);
        if let Some(committed) = &mut self.committed {
            committed.retain(keep);
        }
        self.fetcher.retain(|tp| !gone.contains(tp));
        self.replicas.retain(|tp| !gone.contains(tp));
    }

    fn refresh_if_unknown(&mut self, now: Timestamp) {
        if self.leader_topics.iter().any(|t| self.cluster.topic(t).is_none()) {
            self.refresh.request(now);
        }
    }

    /// The group's leader is told what metadata says of the topics that it asked for.
    pub(super) fn tell_topology(&mut self, now: Timestamp) {
        if let Some(group) = &mut self.group {
            let topics = self.cluster.topics_for_assignor(self.leader_topics.iter().map(String::as_str));
            let unknown = |t: &&String| self.cluster.topic(t).is_some_and(|t| t.is_settled() && !t.exists());
            let unknown = self.leader_topics.iter().filter(unknown).cloned().collect();
            group.metadata_changed(now, &topics, &unknown);
        }
    }

    fn waits_for_names(&self) -> bool {
        self.group.as_ref().is_some_and(Group::waits_for_names)
    }

    /// The member is told which topics the ids stand for that it was assigned. True if it waits for more.
    pub(super) fn tell_names(&mut self, now: Timestamp) -> bool {
        if self.waits_for_names()
            && let Some(group) = &mut self.group
        {
            group.topic_names(now, &self.cluster.names());
        }
        self.waits_for_names()
    }

    /// No assignor in common: what the others use is worth a question to the coordinator, but only one.
    fn describe_group(&mut self, now: Timestamp, error: Error) {
        let (Some((target, _)), Some(config)) =
            (self.coordinator_use::<DescribeGroupsRequest>(), &self.config.group)
        else {
            self.delivery.lock().fail_all(error);
            return;
        };
        let request = DescribeGroupsRequest { groups: vec![config.group_id.clone()], ..Default::default() };
        let timeout = self.config.request_timeout.min(DESCRIBE_TIMEOUT);
        self.network.send(now, (target, Role::Control), &request, i16::MAX, Tag::DescribeGroup, timeout);
    }

    /// What the group uses, or `None` if that cannot be told: the end of this member either way.
    pub(super) fn group_described(&mut self, group: Option<Described<'_>>) {
        if let Some(config) = &self.config.group {
            self.delivery.lock().fail_all(no_assignor_in_common(config, group));
        }
    }

    fn send_group(&mut self, now: Timestamp, request: GroupRequest) {
        let kind = request.kind();
        let Some(broker) = self.coordinator.broker() else {
            if let Some(group) = &mut self.group {
                let error = Error::new(ErrorKind::Transport, "the group's coordinator is not known");
                group.handle_failure(now, kind, error);
            }
            return;
        };
        let target = Target::Broker(broker);
        let timeout = self.config.request_timeout;
        let timeout = self.group.as_ref().map_or(timeout, |g| g.request_timeout(kind, timeout));
        let tag = Tag::Group(kind);
        let network = &mut self.network;
        let on_group = (target, Role::Group);
        // Leaving has one try: better behind a parked request than not at all, or when a long silence is over.
        let control =
            network.is_ready(target, Role::Control) && !network.is_muted(now, target, Role::Control);
        let control = kind == GroupRequestKind::Probe || control;
        let on_control = if control { (target, Role::Control) } else { on_group };
        match request {
            GroupRequest::Join(r) => network.send(now, on_group, &r, i16::MAX, tag, timeout),
            GroupRequest::Sync(r) => network.send(now, on_group, &r, i16::MAX, tag, timeout),
            GroupRequest::Heartbeat(r) => network.send(now, on_group, &r, i16::MAX, tag, timeout),
            GroupRequest::Probe(r) => network.send(now, on_control, &r, i16::MAX, tag, timeout),
            GroupRequest::Describe(r) => network.send(now, on_control, &r, i16::MAX, tag, timeout),
            GroupRequest::Leave(r) => network.send(now, on_control, &r, i16::MAX, tag, timeout),
            GroupRequest::ConsumerHeartbeat(r) => network.send(now, on_group, &r, i16::MAX, tag, timeout),
        };
    }

    /// What the reader did: revocations that are done, a poll interval that is over, a reader that is gone.
    /// True if the group machine has something to say about it.
    pub(super) fn drive_delivery(&mut self, now: Timestamp) -> bool {
        let mut moved = false;
        let (revoked, expired, gone, polled) = {
            let mut delivery = self.delivery.lock();
            delivery.take_driver_dirty();
            if delivery.take_commit_due() {
                self.next_auto_commit = now;
            }
            let revoked: Vec<_> = std::iter::from_fn(|| delivery.poll_revocation(now)).collect();
            delivery.gather_expired(now);
            delivery.expire_questions(now);
            let expired =
                delivery.poll_deadline().is_some_and(|at| now >= at) && delivery.poll_expired(now).is_some();
            let expired = expired.then(|| delivery.is_reader_away());
            (revoked, expired, delivery.is_reader_gone(), delivery.take_polled())
        };
        for revoked in revoked {
            moved = true;
            // What is left of the time for giving back is there for the last commit, too: a coordinator that has
            // just moved must not cost everything that was done since the one before.
            let grace = self.config.default_api_timeout.min(self.commit_grace());
            let deadline = revoked.deadline.max(now) + grace;
            let origin = CommitOrigin::Revocation(revoked.id);
            self.commits.push(CommitJob::new(origin, revoked.commits, deadline));
        }
        if let Some(group) = &mut self.group {
            if let Some(all_of_it) = expired {
                moved = true;
                match all_of_it {
                    true => group.poll_expired(now),
                    false => group.partition_expired(now),
                }
            } else if polled && group.is_expired() {
                moved = true;
                group.polled(now);
            }
        }
        if gone && matches!(self.closing, Closing::No) {
            self.begin_drop(now);
            moved = true;
        }
        moved
    }

    /// How long the last commit of a revocation may take beyond its deadline: what that leaves of the rebalance.
    fn commit_grace(&self) -> Duration {
        self.config.group.as_ref().map_or(self.config.request_timeout, |g| g.rebalance_timeout / 20)
    }

    /// A revocation's partitions are committed, or cannot be: they are given back.
    pub(super) fn end_revocation(&mut self, now: Timestamp, result: &JobResult) {
        let CommitOrigin::Revocation(id) = result.origin else {
            return;
        };
        // Also of one whose partitions were lost meanwhile: the reader's side must forget it.
        self.delivery.lock().end_revocation(now, id);
        let Some(partitions) = self.revoking.remove(&id) else {
            return;
        };
        if let Some(group) = &mut self.group {
            group.revocation_finished(now, &partitions);
        }
    }

    /// Moves what is done, or marked, into the queue of commits.
    pub(super) fn commit_done(&mut self, now: Timestamp, origin: CommitOrigin) {
        if self.config.group.is_none() || self.keeps_no_offsets() || self.commits.holds(origin) {
            return;
        }
        let entries = self.delivery.lock().committable(CommitScope::All);
        if !entries.is_empty() {
            let deadline = now + self.config.default_api_timeout;
            self.commits.push(CommitJob::new(origin, entries, deadline));
        }
    }

    pub(super) fn commit_timeout(&self) -> Option<Timestamp> {
        (self.config.group.is_some()
            && !self.keeps_no_offsets()
            && self.mode != Mode::Idle
            && matches!(self.closing, Closing::No))
        .then_some(self.next_auto_commit)
    }
}
