//! What the user asks for: each command has exactly one outcome, in bounded time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Client, Command, CommitItem, CommittedOffset, Mode, Offset, Outcome};
use crate::admin::AdminCall;
use crate::config::CommitMode;
use crate::connection::{Role, Target};
use crate::delivery::{CommitEntry, CommitRequest, CommitScope, ResetCause};
use crate::offsets::{Asker, CommitJob, CommitOrigin, Place};
use crate::planted::{planted, planting};
use crate::{CommandId, CommitError, Error, ErrorKind, OwnershipEpoch, Timestamp, TopicPartition};

/// How often every configured address must have refused us before the first contact is given up early.
const BOOTSTRAP_TRIES: u32 = 3;

/// A command that waits for answers.
#[derive(Debug)]
pub(super) struct Pending {
    deadline: Timestamp,
    what: Waiting,
}

type OffsetAnswers = BTreeMap<TopicPartition, Option<Result<Option<i64>, Error>>>;

#[derive(Debug)]
enum Waiting {
    Bootstrap,
    /// Until the group is left.
    Left,
    PartitionCounts(Vec<Arc<str>>),
    Offsets(OffsetAnswers),
    /// Offsets that are to be committed for the group once all are known.
    Alter(String, OffsetAnswers),
    /// `Client::admin` knows for what.
    Admin,
    Committed(BTreeMap<TopicPartition, Option<Result<Option<CommittedOffset>, Error>>>),
}

impl Pending {
    /// The topics whose metadata it needs.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        match &self.what {
            Waiting::PartitionCounts(topics) => topics.clone(),
            Waiting::Offsets(partitions) | Waiting::Alter(_, partitions) => {
                partitions.keys().map(|tp| tp.topic_arc().clone()).collect()
            }
            Waiting::Bootstrap | Waiting::Left | Waiting::Committed(_) | Waiting::Admin => Vec::new(),
        }
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Transport, "no answer in time; default_api_timeout says how long to wait")
}

pub(super) fn misuse(text: &str) -> Outcome {
    Outcome::Failed(Error::new(ErrorKind::ApiMisuse, text))
}

const EXTERNAL: &str = "with Commit::External the offsets are in a store of your own, and none in Kafka";
pub(super) const NO_GROUP: &str = "there is no group: give the builder one with group(\"…\")";

impl Client {
    pub(super) fn begin_command(&mut self, now: Timestamp, id: CommandId, command: Command) {
        if self.is_closing() && !matches!(command, Command::Close { .. }) {
            let error = Error::new(ErrorKind::Closed, "the consumer is closed");
            return self.finish_command(id, Outcome::Failed(error));
        }
        let outcome = match command {
            Command::Bootstrap => {
                return self.wait_for(now + self.config.connection_setup_timeout, id, Waiting::Bootstrap);
            }
            Command::Subscribe(topics) if topics.is_empty() => return self.unsubscribe(now, id),
            Command::Subscribe(topics) => self.subscribe(now, topics),
            Command::SubscribePattern(pattern) => self.subscribe_pattern(now, pattern),
            Command::Unsubscribe => return self.unsubscribe(now, id),
            Command::Assign(partitions) => self.assign(now, partitions),
            Command::IncrementalAssign(partitions) => self.incremental_assign(now, partitions),
            Command::IncrementalUnassign(partitions) => self.incremental_unassign(now, &partitions),
            Command::StartAt(starts) => self.start_at(now, starts),
            Command::Seek(tp, offset) => self.seek(now, &tp, offset),
            Command::Pause(partitions) => {
                self.delivery.lock().pause(&partitions);
                Outcome::Done
            }
            Command::Resume(partitions) => {
                self.delivery.lock().resume(now, &partitions);
                Outcome::Done
            }
            Command::Commit(items) => return self.commit(now, CommitOrigin::User(id), items),
            Command::CommitInBackground(items) => {
                self.commit(now, CommitOrigin::Background, items);
                Outcome::Done
            }
            Command::CommitDelivered => return self.commit_delivered(now, id),
            Command::Committed(partitions) => return self.query_committed(now, id, partitions),
            Command::ListOffsets(places) => return self.query_offsets(now, id, places),
            Command::PartitionCounts(topics) => {
                let topics = topics.into_iter().map(Arc::from).collect();
                return self.wait_for(
                    now + self.config.default_api_timeout,
                    id,
                    Waiting::PartitionCounts(topics),
                );
            }
            Command::Admin(AdminCall::AlterGroupOffsets { group, offsets }) => {
                return self.alter_group_offsets(now, id, group, offsets);
            }
            Command::Admin(call) => {
                self.admin.begin(now, id, call);
                return self.wait_for(now + self.config.default_api_timeout, id, Waiting::Admin);
            }
            Command::GroupMetadata => Outcome::GroupMetadata(self.group.as_ref().and_then(|g| g.identity())),
            Command::Snapshot => Outcome::Snapshot(Box::new(self.snapshot(now))),
            Command::Close { timeout } => return self.begin_close(now, Some(id), timeout),
        };
        self.finish_command(id, outcome);
    }

    fn wait_for(&mut self, deadline: Timestamp, id: CommandId, what: Waiting) {
        self.commands.insert(id, Pending { deadline, what });
        self.metadata_told(self.now);
    }

    fn subscribe(&mut self, now: Timestamp, topics: Vec<String>) -> Outcome {
        if let Some(bad) = topics.iter().find(|t| t.is_empty() || t.len() > 249) {
            return misuse(&format!("a topic's name has 1 to 249 characters, not {}", bad.len()));
        }
        if self.mode == Mode::Assigned {
            return misuse("partitions are assigned by hand: unsubscribe() before subscribe()");
        }
        let Some(group) = &mut self.group else {
            return misuse(NO_GROUP);
        };
        self.mode = Mode::Subscribed;
        self.pattern = None;
        self.first_seen.retain(|topic, _| self.subscription.contains(&**topic));
        self.subscription = topics.into_iter().collect();
        group.subscribe(now, self.subscription.clone());
        Outcome::Done
    }

    /// Gives up what is read. What is done of it is committed, without waiting for the reader.
    fn unsubscribe(&mut self, now: Timestamp, id: CommandId) {
        match self.mode {
            Mode::Subscribed if planted!(UnsubscribeKeeps) => self.finish_command(id, Outcome::Done),
            Mode::Subscribed => {
                self.subscription.clear();
                self.pattern = None;
                // Whoever holds what is being given back may be who waits for this call.
                self.delivery.lock().finish_revocations();
                let deadline = now + self.config.default_api_timeout;
                self.commands.insert(id, Pending { deadline, what: Waiting::Left });
                if let Some(group) = &mut self.group {
                    group.subscribe(now, self.subscription.clone());
                }
            }
            Mode::Assigned => {
                self.give_up_assigned(now);
                self.mode = Mode::Idle;
                self.finish_command(id, Outcome::Done);
            }
            Mode::Idle => self.finish_command(id, Outcome::Done),
        }
    }

    /// Whoever waited for the group to be left goes on.
    pub(super) fn left(&mut self) {
        let waiting: Vec<CommandId> = self
            .commands
            .iter()
            .filter(|(_, p)| matches!(p.what, Waiting::Left))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.commands.remove(&id);
            self.finish_command(id, Outcome::Done);
        }
    }

    /// Ends what was assigned by hand, and commits what is done of it.
    fn give_up_assigned(&mut self, now: Timestamp) {
        self.forget_positions();
        let entries = {
            let mut delivery = self.delivery.lock();
            let entries = delivery.committable(CommitScope::All);
            delivery.unassign_all(now);
            entries
        };
        self.commit_last(now, entries);
    }

    /// Commits what is done of partitions that are not read any more.
    fn commit_last(&mut self, now: Timestamp, entries: Vec<CommitEntry>) {
        if self.config.group.is_some() && !entries.is_empty() {
            let deadline = now + self.config.default_api_timeout;
            self.commits.push(CommitJob::last(CommitOrigin::Auto, entries, deadline));
        }
    }

    fn forget_positions(&mut self) {
        let keep = |asker: Asker, _: &TopicPartition| matches!(asker, Asker::Query(_));
        self.lookups.retain(keep);
        if let Some(committed) = &mut self.committed {
            committed.retain(keep);
        }
        self.fetcher.retain(|_| false);
    }

    fn assign(&mut self, now: Timestamp, partitions: Vec<(TopicPartition, Offset)>) -> Outcome {
        if let Some(misuse) = self.cannot_assign(&partitions) {
            return misuse;
        }
        self.give_up_assigned(now);
        self.mode = Mode::Idle;
        self.add_assigned(now, partitions)
    }

    fn incremental_assign(&mut self, now: Timestamp, partitions: Vec<(TopicPartition, Offset)>) -> Outcome {
        match self.cannot_assign(&partitions) {
            Some(misuse) => misuse,
            None => self.add_assigned(now, partitions),
        }
    }

    fn cannot_assign(&self, partitions: &[(TopicPartition, Offset)]) -> Option<Outcome> {
        if self.mode == Mode::Subscribed {
            return Some(misuse("topics are subscribed to: unsubscribe() before assign()"));
        }
        partitions.iter().find_map(|(tp, offset)| match offset {
            _ if tp.partition() < 0 || tp.topic().is_empty() => {
                Some(misuse(&format!("{tp:?} is no partition")))
            }
            _ if offset.absolute().is_some_and(|(offset, _)| offset < 0) => {
                Some(misuse(&format!("{offset} is no offset")))
            }
            Offset::Committed if self.group.is_none() && !self.keeps_no_offsets() => Some(misuse(NO_GROUP)),
            _ => None,
        })
    }

    /// Partitions that are read already stay as they are.
    fn add_assigned(&mut self, now: Timestamp, partitions: Vec<(TopicPartition, Offset)>) -> Outcome {
        let tps: Vec<TopicPartition> = partitions.iter().map(|(tp, _)| tp.clone()).collect();
        let owned = self.delivery.lock().assign_manual(now, &tps);
        if !partitions.is_empty() {
            self.mode = Mode::Assigned;
        }
        self.begin_assigned(now, owned, partitions);
        Outcome::Done
    }

    fn incremental_unassign(&mut self, now: Timestamp, partitions: &[TopicPartition]) -> Outcome {
        if self.mode == Mode::Subscribed {
            return misuse("topics are subscribed to: the group decides what is read");
        }
        let entries = {
            let mut delivery = self.delivery.lock();
            let entries = delivery.committable(CommitScope::Only(partitions));
            delivery.unassign(now, partitions);
            entries
        };
        self.forget_lookups(partitions);
        self.commit_last(now, entries);
        if self.delivery.lock().owned().is_empty() {
            self.mode = Mode::Idle;
        }
        Outcome::Done
    }

    fn begin_assigned(
        &mut self,
        now: Timestamp,
        owned: Vec<(TopicPartition, OwnershipEpoch)>,
        places: Vec<(TopicPartition, Offset)>,
    ) {
        let places: BTreeMap<TopicPartition, Offset> = places.into_iter().collect();
        let mut asked = Vec::new();
        for (tp, epoch) in owned {
            match places.get(&tp) {
                Some(Offset::Committed) if self.keeps_no_offsets() => asked.push((tp, epoch)),
                Some(offset) => self.begin_position(now, tp, epoch, *offset),
                None => {}
            }
        }
        self.delivery.lock().ask_start(now, &asked);
    }

    /// Whether the offsets are in a store of the user's.
    pub(super) fn keeps_no_offsets(&self) -> bool {
        self.config.commit == CommitMode::External
    }

    /// What was asked of the reader is answered.
    fn start_at(
        &mut self,
        now: Timestamp,
        starts: Vec<(TopicPartition, OwnershipEpoch, Option<Offset>)>,
    ) -> Outcome {
        if let Some(bad) = starts.iter().filter_map(|(_, _, offset)| *offset).find(|o| !o.is_start()) {
            return misuse(&format!("{bad} is no place to start at"));
        }
        for (tp, epoch, offset) in starts {
            if self.delivery.lock().ownership(&tp) != Some(epoch) {
                continue;
            }
            match offset {
                Some(offset) => self.begin_position(now, tp, epoch, offset),
                None => self.reset_position(now, tp, epoch, ResetCause::NoCommittedOffset),
            }
        }
        Outcome::Done
    }

    fn seek(&mut self, now: Timestamp, tp: &TopicPartition, offset: Offset) -> Outcome {
        match offset {
            _ if offset.absolute().is_some_and(|(offset, _)| offset < 0) => {
                return misuse(&format!("{offset} is no offset"));
            }
            Offset::Committed if self.keeps_no_offsets() => return misuse(EXTERNAL),
            Offset::Committed if self.group.is_none() => return misuse(NO_GROUP),
            _ => {}
        }
        if self.delivery.lock().ownership(tp).is_some() && planted!(SeekIgnored) {
            return Outcome::Done;
        }
        let epoch = self.delivery.lock().begin_seek(now, tp);
        let Some(epoch) = epoch else {
            return misuse(&format!("{tp} is not owned: only what is assigned can be sought"));
        };
        self.forget_position_of(tp);
        self.begin_position(now, tp.clone(), epoch, offset);
        Outcome::Done
    }

    /// Where this partition begins is not looked for any more.
    pub(super) fn forget_position_of(&mut self, tp: &TopicPartition) {
        if planting!(LateLoadOverridesSeek) {
            return;
        }
        let keep = |asker: Asker, other: &TopicPartition| matches!(asker, Asker::Query(_)) || other != tp;
        self.lookups.retain(keep);
        if let Some(committed) = &mut self.committed {
            committed.retain(keep);
        }
    }

    fn commit(&mut self, now: Timestamp, origin: CommitOrigin, items: Vec<CommitItem>) {
        let mut entries = Vec::new();
        let mut results = Vec::new();
        {
            let mut delivery = self.delivery.lock();
            for item in items {
                let (tp, request) = match &item {
                    CommitItem::Token(token) => {
                        (token.topic_partition().clone(), CommitRequest::Token(token))
                    }
                    CommitItem::Offset { topic_partition, offset, leader_epoch, metadata, rewind } => (
                        topic_partition.clone(),
                        CommitRequest::Offset {
                            topic_partition,
                            offset: *offset,
                            leader_epoch: *leader_epoch,
                            metadata: metadata.as_deref(),
                            rewind: *rewind,
                        },
                    ),
                };
                let refused = if self.keeps_no_offsets() {
                    Some(EXTERNAL)
                } else {
                    self.config.group.is_none().then_some(NO_GROUP)
                };
                if let Some(why) = refused {
                    let error = Error::new(ErrorKind::ApiMisuse, why);
                    results.push((tp, Err(CommitError::Fatal(error))));
                    continue;
                }
                match delivery.check_commit(now, request) {
                    Ok(Some(entry)) => entries.push(entry),
                    Ok(None) => results.push((tp, Ok(()))),
                    Err(error) => results.push((tp, Err(error))),
                }
            }
        }
        let deadline = now + self.config.default_api_timeout;
        let mut job = CommitJob::new(origin, latest_per_partition(entries), deadline);
        job.results = results;
        self.commits.push(job);
    }

    fn commit_delivered(&mut self, now: Timestamp, id: CommandId) {
        if self.keeps_no_offsets() {
            return self.finish_command(id, misuse(EXTERNAL));
        }
        if self.config.group.is_none() {
            return self.finish_command(id, misuse(NO_GROUP));
        }
        let entries = self.delivery.lock().delivered(now);
        let deadline = now + self.config.default_api_timeout;
        self.commits.push(CommitJob::new(CommitOrigin::User(id), entries, deadline));
    }

    fn query_committed(&mut self, now: Timestamp, id: CommandId, partitions: Vec<TopicPartition>) {
        let Some(committed) = &mut self.committed else {
            return self.finish_command(id, misuse(NO_GROUP));
        };
        for tp in &partitions {
            committed.begin(now, Asker::Query(id), tp.clone());
        }
        let waiting = Waiting::Committed(partitions.into_iter().map(|tp| (tp, None)).collect());
        self.wait_for(now + self.config.default_api_timeout, id, waiting);
        self.check_queries();
    }

    fn query_offsets(&mut self, now: Timestamp, id: CommandId, places: Vec<(TopicPartition, Offset)>) {
        let mut partitions = BTreeMap::new();
        for (tp, offset) in places {
            let Some(place) = Place::of(offset, false) else {
                return self.finish_command(
                    id,
                    misuse("only earliest, latest, a time or a distance can be asked for"),
                );
            };
            self.lookups.begin(now, Asker::Query(id), tp.clone(), place);
            partitions.insert(tp, None);
        }
        self.wait_for(now + self.config.default_api_timeout, id, Waiting::Offsets(partitions));
        self.check_queries();
    }

    /// Looks up what are no offsets yet; what is known then is committed.
    fn alter_group_offsets(
        &mut self,
        now: Timestamp,
        id: CommandId,
        group: String,
        offsets: Vec<(TopicPartition, Offset)>,
    ) {
        let mut partitions = BTreeMap::new();
        for (tp, offset) in offsets {
            let known = match (offset.absolute(), Place::of(offset, true)) {
                (Some((offset, _)), _) if offset >= 0 => Some(Ok(Some(offset))),
                (_, Some(place)) => {
                    self.lookups.begin(now, Asker::Query(id), tp.clone(), place);
                    None
                }
                (_, None) => {
                    let text = format!("{offset} is nothing that could be committed");
                    let error = Error::new(ErrorKind::ApiMisuse, text).with_partition(tp.clone());
                    Some(Err(error))
                }
            };
            partitions.insert(tp, known);
        }
        self.wait_for(now + self.config.default_api_timeout, id, Waiting::Alter(group, partitions));
        self.check_queries();
    }

    /// The places of `alter_group_offsets` are known, or its time is over.
    fn begin_altering(&mut self, id: CommandId, deadline: Timestamp, group: String, answers: OffsetAnswers) {
        let (mut offsets, mut failed) = (Vec::new(), Vec::new());
        for (tp, answer) in answers {
            match answer {
                Some(Ok(Some(offset))) if self.now < deadline => offsets.push((tp, offset)),
                Some(Err(error)) => failed.push((tp, Err(error))),
                Some(Ok(_)) | None => {
                    let error = self.not_looked_up(&tp);
                    failed.push((tp, Err(error)));
                }
            }
        }
        self.commands.insert(id, Pending { deadline, what: Waiting::Admin });
        self.admin.begin_altering(self.now, id, group, offsets, failed);
    }

    /// What is said of a partition whose place was not told in time: with what stood in the way, if that is known.
    fn not_looked_up(&self, tp: &TopicPartition) -> Error {
        let last = |broker| self.network.last_error(Target::Broker(broker), Role::Control).cloned();
        let cause = if self.cluster.is_known() {
            let leader = self.cluster.leader(tp).and_then(|leader| last(leader.broker));
            leader.or_else(|| self.network.brokers().find_map(last))
        } else {
            Some(self.bootstrap_error())
        };
        let Some(cause) = cause else {
            return late().with_partition(tp.clone());
        };
        let text = format!("not looked up in time: {cause}; default_api_timeout says how long to wait");
        Error::new(ErrorKind::Transport, text).with_partition(tp.clone()).with_source(cause)
    }

    pub(super) fn forget_command(&mut self, id: CommandId) {
        self.commands.remove(&id);
    }

    pub(super) fn query_answered(
        &mut self,
        id: CommandId,
        tp: &TopicPartition,
        found: Result<Option<i64>, Error>,
    ) {
        let what = self.commands.get_mut(&id).map(|p| &mut p.what);
        if let Some(Waiting::Offsets(answers) | Waiting::Alter(_, answers)) = what {
            answers.insert(tp.clone(), Some(found));
        }
    }

    pub(super) fn committed_answered(
        &mut self,
        id: CommandId,
        tp: &TopicPartition,
        mut committed: Result<Option<CommittedOffset>, Error>,
    ) {
        if let Ok(Some(told)) = &mut committed
            && planted!(OldOffsetTold)
        {
            told.offset -= 1;
        }
        if let Some(Pending { what: Waiting::Committed(answers), .. }) = self.commands.get_mut(&id) {
            answers.insert(tp.clone(), Some(committed));
        }
    }

    /// Ends the queries that have all their answers. Walks them: once for all the answers of a response.
    pub(super) fn check_queries(&mut self) {
        let done: Vec<CommandId> = self
            .commands
            .iter()
            .filter(|(_, p)| match &p.what {
                Waiting::Offsets(answers) | Waiting::Alter(_, answers) => {
                    answers.values().all(Option::is_some)
                }
                Waiting::Committed(answers) => answers.values().all(Option::is_some),
                Waiting::Bootstrap | Waiting::Left | Waiting::PartitionCounts(_) | Waiting::Admin => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            self.end_query(id);
        }
    }

    /// Ends a command with what is known; what is not is out of time.
    fn end_query(&mut self, id: CommandId) {
        let Some(Pending { deadline, what }) = self.commands.remove(&id) else { return };
        let outcome = match what {
            Waiting::Offsets(answers) => Outcome::Offsets(
                answers.into_iter().map(|(tp, a)| (tp, a.unwrap_or_else(|| Err(late())))).collect(),
            ),
            Waiting::Committed(answers) => Outcome::Committed(
                answers.into_iter().map(|(tp, a)| (tp, a.unwrap_or_else(|| Err(late())))).collect(),
            ),
            Waiting::Bootstrap => Outcome::Failed(self.bootstrap_error()),
            Waiting::PartitionCounts(_) | Waiting::Left => Outcome::Failed(late()),
            Waiting::Alter(group, answers) => {
                self.forget_query(id);
                return self.begin_altering(id, deadline, group, answers);
            }
            Waiting::Admin => match self.expire_admin(id) {
                Some(outcome) => outcome,
                None => return,
            },
        };
        self.forget_query(id);
        self.finish_command(id, outcome);
    }

    fn forget_query(&mut self, id: CommandId) {
        let keep = |asker: Asker, _: &TopicPartition| asker != Asker::Query(id);
        self.lookups.retain(keep);
        if let Some(committed) = &mut self.committed {
            committed.retain(keep);
        }
    }

    pub(super) fn bootstrap_error(&self) -> Error {
        let addresses: Vec<String> =
            self.config.bootstrap.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        let text = format!("no broker can be reached at {}", addresses.join(", "));
        let error = Error::new(ErrorKind::Transport, text);
        let cause = (0..self.config.bootstrap.len())
            .find_map(|i| self.network.last_error(Target::Bootstrap(i), Role::Control));
        match cause {
            // What the broker refuses is not a matter of reaching it.
            Some(cause) if cause.kind() != ErrorKind::Transport => cause.clone(),
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }

    /// Metadata said something: commands that waited for it go on.
    pub(super) fn metadata_told(&mut self, now: Timestamp) {
        let known = self.cluster.is_known();
        let ready: Vec<CommandId> = self
            .commands
            .iter()
            .filter(|(_, p)| match &p.what {
                Waiting::Bootstrap => known,
                Waiting::PartitionCounts(topics) => {
                    topics.iter().all(|t| self.cluster.topic(t).is_some_and(|t| t.is_settled()))
                }
                Waiting::Left
                | Waiting::Offsets(_)
                | Waiting::Alter(..)
                | Waiting::Committed(_)
                | Waiting::Admin => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            let outcome = match self.commands.remove(&id).map(|p| p.what) {
                Some(Waiting::PartitionCounts(topics)) => self.partition_counts(&topics),
                _ => Outcome::Done,
            };
            self.finish_command(id, outcome);
        }
        self.fail_unknown(now);
    }

    fn partition_counts(&self, topics: &[Arc<str>]) -> Outcome {
        let mut counts = Vec::new();
        for name in topics {
            let topic = self.cluster.topic(name);
            if let Some(code) = topic
                .and_then(|t| t.error)
                .filter(|c| !c.is_retriable() && *c != ottla_wire::ErrorCode::UnknownTopicOrPartition)
            {
                let kind = match code {
                    ottla_wire::ErrorCode::TopicAuthorizationFailed => ErrorKind::Authorization,
                    _ => ErrorKind::ApiMisuse,
                };
                let text = format!("the broker refuses to tell of topic {name:?}");
                return Outcome::Failed(Error::new(kind, text).with_code(code));
            }
            let count = topic.map_or(0, |t| t.partition_count());
            counts.push((name.to_string(), i32::try_from(count).unwrap_or(i32::MAX)));
        }
        Outcome::PartitionCounts(counts)
    }

    /// Queries about partitions that do not exist end at once.
    fn fail_unknown(&mut self, _now: Timestamp) {
        let mut unknown = Vec::new();
        for (id, pending) in &self.commands {
            if let Waiting::Offsets(answers) | Waiting::Alter(_, answers) = &pending.what {
                for (tp, answer) in answers {
                    let missing =
                        |t: &crate::cluster::Topic| t.is_settled() && t.partition(tp.partition()).is_none();
                    if answer.is_none() && self.cluster.topic(tp.topic()).is_some_and(missing) {
                        unknown.push((*id, tp.clone()));
                    }
                }
            }
        }
        for (id, tp) in unknown {
            self.lookups.forget(Asker::Query(id), &tp);
            let error =
                Error::new(ErrorKind::ApiMisuse, "the partition does not exist").with_partition(tp.clone());
            self.query_answered(id, &tp, Err(error));
        }
        self.check_queries();
    }

    pub(super) fn expire_commands(&mut self, now: Timestamp) {
        let hopeless = self.bootstrap_is_hopeless();
        let over: Vec<CommandId> = self
            .commands
            .iter()
            .filter(|(_, p)| now >= p.deadline || (hopeless && matches!(p.what, Waiting::Bootstrap)))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.end_query(id);
        }
    }

    /// Every address has refused us several times, for a reason that time does not mend: saying so beats waiting.
    /// A broker that cannot be reached may be starting.
    fn bootstrap_is_hopeless(&self) -> bool {
        let refused = |i| {
            let (target, role) = (Target::Bootstrap(i), Role::Control);
            self.network.failures(target, role) >= BOOTSTRAP_TRIES
                && self.network.last_error(target, role).is_some_and(|error| !error.is_retriable())
        };
        !self.cluster.is_known() && (0..self.config.bootstrap.len()).all(refused)
    }

    /// Ends every command: the client closes.
    pub(super) fn abandon_commands(&mut self) {
        self.admin.clear();
        for id in std::mem::take(&mut self.commands).into_keys() {
            let error = Error::new(ErrorKind::Closed, "the consumer was closed before the answer came");
            self.finish_command(id, Outcome::Failed(error));
        }
    }

    pub(super) fn command_timeout(&self) -> Option<Timestamp> {
        self.commands.values().map(|p| p.deadline).min()
    }
}

fn latest_per_partition(entries: Vec<CommitEntry>) -> Vec<CommitEntry> {
    let mut latest: BTreeMap<TopicPartition, CommitEntry> = BTreeMap::new();
    for entry in entries {
        match latest.get(&entry.tp) {
            Some(known) if known.offset > entry.offset && known.epoch == entry.epoch => {}
            _ => drop(latest.insert(entry.tp.clone(), entry)),
        }
    }
    latest.into_values().collect()
}
