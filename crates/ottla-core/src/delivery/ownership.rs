//! Who owns what: assignment, start, seek, pause, loss, and the end of everything.

use super::events::{Event, PartitionEnd, ResetCause};
use super::partition::{Partition, Phase};
use super::{Delivery, Key};
use crate::planted::planted;
use crate::{Error, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// Where a partition starts to be read.
#[derive(Clone, Debug)]
pub struct Start {
    /// The next offset to hand out.
    pub offset: i64,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Who says so.
    pub cause: StartCause,
}

/// Who decided where a partition starts to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartCause {
    /// The group has committed the offset, with this text.
    Committed {
        /// What was committed along with it.
        metadata: Option<String>,
    },
    /// The reset policy chose it: the position counts as done and is committable at once, else an idle group
    /// that starts at the end resets again after a restart and loses what came meanwhile.
    Reset,
    /// The user: a seek, or an assignment with an offset.
    Explicit,
}

/// More errors than this are not kept for a reader that does not come.
const MAX_ERRORS: usize = 16;

impl Delivery {
    /// Partitions that the group gave us. Each gets a new ownership and waits for [`start`](Self::start);
    /// `Event::Assigned` tells the reader. Those that are owned already are kept as they are and left out.
    pub fn assign(
        &mut self,
        now: Timestamp,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, OwnershipEpoch)> {
        let new = self.assign_manual(now, partitions);
        if !new.is_empty() {
            if self.config.is_external() {
                self.open_questions(new.iter().map(|(tp, _)| tp));
            }
            self.queue_event(Event::Assigned(if planted!(AssignsTwice) {
                partitions.to_vec()
            } else {
                new.iter().map(|(tp, _)| tp.clone()).collect()
            }));
            self.settle(Some(now));
        }
        new
    }

    /// The same for partitions that the user chose: there is no event.
    pub fn assign_manual(
        &mut self,
        now: Timestamp,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, OwnershipEpoch)> {
        self.saw(now);
        let mut new = Vec::new();
        for tp in partitions {
            if let Some(&key) = self.index.get(tp) {
                if self.partitions.get(&key).is_some_and(|p| p.revoking.is_none()) {
                    continue;
                }
                // Given back to us before its revocation ended: the old ownership cannot be continued.
                self.end_ownership(key, PartitionEnd::Revoked);
            }
            let key = Key(self.next_key);
            self.next_key += 1;
            let ownership = self.new_ownership(tp.clone(), key);
            new.push((tp.clone(), ownership.epoch));
            let mut partition = Partition::new(ownership);
            // A task of an earlier ownership has not returned: it is nobody else's before that.
            partition.claimed = self.ends.contains_key(tp);
            if self.paused_before.contains(tp) {
                self.pause_partition(&mut partition);
            }
            self.index.insert(tp.clone(), key);
            self.partitions.insert(key, Box::new(partition));
        }
        if !partitions.is_empty() {
            self.paused_before.clear();
        }
        self.fetch_generation += 1;
        new
    }

    /// Where a partition is read from. Gives whether it was taken: not if the ownership is another by now, so
    /// that a late answer never overrides a seek.
    pub fn start(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        start: Start,
    ) -> bool {
        self.saw(now);
        let Some(&key) = self.index.get(tp) else { return false };
        let Some(p) = self.partitions.get_mut(&key) else { return false };
        let late = p.ownership.epoch != epoch || p.phase != Phase::AwaitingPosition;
        // What is being given back the policy need not place any more: it would be committed with it, nobody would be
        // told, and the next owner would take it for what a reader had done.
        let untold = start.cause == StartCause::Reset && p.revoking.is_some();
        if start.offset < 0 || untold || (late && !planted!(LateLoadOverridesSeek)) {
            return false;
        }
        let committed = matches!(start.cause, StartCause::Committed { .. });
        let resetting = p.resetting.take();
        let (mut offset, mut leader_epoch) = (start.offset, start.leader_epoch);
        if let Some(ResetCause::OutOfRange { offset: left }) = resetting
            && let Some((undone, epoch)) = p.undone.take().map(|undone| *undone)
            && undone < offset
            && offset < left
        {
            // The log ends before what was read: what is in hand of it can be committed no more, and is in it still.
            (offset, leader_epoch) = (undone, epoch);
        }
        p.start(offset, leader_epoch, committed, start.cause == StartCause::Reset);
        match start.cause {
            StartCause::Committed { metadata } => p.committed_metadata = metadata,
            StartCause::Reset => {
                self.uncommitted.insert(key);
                if let Some(cause) = resetting {
                    let topic_partition = tp.clone();
                    self.queue_event(Event::OffsetReset { topic_partition, offset, cause });
                }
            }
            StartCause::Explicit => {}
        }
        // A session's answers leave out a partition of which nothing has changed: the end that is known already
        // is not told again. (Beyond it the leader has to say whether there is such an offset.)
        let read_committed = self.config.read_committed();
        if self.partitions.get(&key).and_then(|p| p.end_offset(read_committed)) == Some(offset) {
            self.check_eof(key);
        }
        self.fetch_generation += 1;
        self.settle(Some(now));
        true
    }

    /// The reset policy is to choose where the partition starts; with the [`start`](Self::start) that follows
    /// the reader is told why.
    pub fn resetting(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch, cause: ResetCause) {
        if let Some(p) = self.partition_mut(tp).filter(|p| p.ownership.epoch == epoch) {
            p.resetting = Some(cause);
        }
    }

    /// Where what is done of a partition ends, with its leader epoch, if more than that was handed out.
    pub fn undone(&mut self, tp: &TopicPartition) -> Option<(i64, Option<LeaderEpoch>)> {
        let auto = self.config.is_auto();
        let p = self.partition_mut(tp).filter(|p| p.has_position())?;
        p.sweep(auto);
        let done = p.settle_done(p.done.to(), p.done.epoch());
        (done.0 < p.position()).then_some(done)
    }

    /// What was handed out before the [`reset`](Self::resetting) and is [undone](Self::undone) is to be read again if the
    /// log still has it.
    pub fn resetting_undone(
        &mut self,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        undone: (i64, Option<LeaderEpoch>),
    ) {
        if let Some(p) = self.partition_mut(tp).filter(|p| p.ownership.epoch == epoch) {
            p.undone = Some(Box::new(undone));
        }
    }

    /// Whether [`resetting`](Self::resetting) was said of this ownership, which has no start yet.
    pub fn is_resetting(&self, tp: &TopicPartition, epoch: OwnershipEpoch) -> bool {
        self.partition(tp).is_some_and(|p| p.ownership.epoch == epoch && p.resetting.is_some())
    }

    /// Begins to move a position: from now on nothing of the old position is returned, tokens of before are
    /// `NotOwned`, a reset or an end of before is not told any more, and [`start`](Self::start) with the epoch given
    /// here says where it goes on. A partition that
    /// an error stopped goes on by that. `None` if it is not owned, or is being revoked.
    pub fn begin_seek(&mut self, now: Timestamp, tp: &TopicPartition) -> Option<OwnershipEpoch> {
        self.saw(now);
        let key = *self.index.get(tp)?;
        if self.partitions.get(&key)?.revoking.is_some() {
            return None;
        }
        let epoch = self.renew(tp, key)?;
        self.forget_question(key);
        self.forget_news(std::slice::from_ref(tp));
        self.fetch_generation += 1;
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
        Some(epoch)
    }

    /// There is another topic of this name: nothing that was done of the former one is committed. A partition that is
    /// being given back goes without; where the others go on, [`begin_seek`](Self::begin_seek) says.
    pub fn recreated(&mut self, now: Timestamp, tp: &TopicPartition) {
        self.saw(now);
        let Some(&key) = self.index.get(tp) else { return };
        let Some(revoking) = self.partitions.get(&key).and_then(|p| p.revoking) else { return };
        self.renew(tp, key);
        if let Some(p) = self.partitions.get_mut(&key) {
            p.revoking = Some(revoking);
        }
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
    }

    fn renew(&mut self, tp: &TopicPartition, key: Key) -> Option<OwnershipEpoch> {
        let ownership = self.new_ownership(tp.clone(), key);
        let epoch = ownership.epoch;
        self.partitions.get_mut(&key)?.renew(ownership);
        self.uncommitted.remove(&key);
        Some(epoch)
    }

    /// Returns no records of these partitions from now on. What is buffered stays.
    pub fn pause(&mut self, partitions: &[TopicPartition]) {
        if partitions.iter().any(|tp| self.index.contains_key(tp)) && planted!(PauseIgnored) {
            return;
        }
        for tp in partitions {
            let Some(&key) = self.index.get(tp) else { continue };
            let number = self.number();
            let Some(p) = self.partitions.get_mut(&key).filter(|p| p.paused.is_none()) else { continue };
            p.paused = Some(number);
            if let Some(strip) = &p.strip {
                strip.close();
            }
            self.paused.insert(number, key);
            self.settle_partition(key, None);
        }
        self.fetch_generation += 1;
        self.settle(None);
    }

    /// Returns records of these partitions again, from where they were paused. Nothing happens to those that
    /// are not paused.
    pub fn resume(&mut self, now: Timestamp, partitions: &[TopicPartition]) {
        self.saw(now);
        for tp in partitions {
            let Some(&key) = self.index.get(tp) else { continue };
            let Some(p) = self.partitions.get_mut(&key) else { continue };
            if p.paused.is_none() && p.has_position() && planted!(ResumeJumpsBack) {
                p.move_position(p.done.to(), p.done.epoch());
                p.refetch();
            }
            let Some(number) = p.paused.take() else { continue };
            if !p.queue.is_empty() && planted!(DropOnResume) {
                p.drop_queue();
            }
            self.paused.remove(&number);
            self.make_ready(key);
            self.check_eof(key);
            self.settle_partition(key, Some(now));
            self.signals.wake_driver();
        }
        self.fetch_generation += 1;
        self.wake_decoders();
        self.settle(Some(now));
    }

    fn pause_partition(&mut self, p: &mut Partition) {
        let number = self.number();
        p.paused = Some(number);
        self.paused.insert(number, p.key());
    }

    /// Partitions that are gone without a chance to commit; `Event::Lost` tells the reader.
    pub fn lose(&mut self, now: Timestamp, partitions: &[TopicPartition]) {
        let lost = self.end_all(now, partitions, PartitionEnd::Lost);
        self.queue_lost(lost);
        self.settle(Some(now));
    }

    /// Partitions that the user gave up: there is no event.
    pub fn unassign(&mut self, now: Timestamp, partitions: &[TopicPartition]) {
        let gone = self.end_all(now, partitions, PartitionEnd::Revoked);
        self.forget_untold(&gone);
        self.forget_news(&gone);
        self.settle(Some(now));
    }

    /// Gives up everything, as the user wants it: there is no event.
    pub fn unassign_all(&mut self, now: Timestamp) {
        let all: Vec<TopicPartition> = self.index.keys().cloned().collect();
        self.unassign(now, &all);
        self.paused_before.clear();
    }

    fn end_all(
        &mut self,
        now: Timestamp,
        partitions: &[TopicPartition],
        end: PartitionEnd,
    ) -> Vec<TopicPartition> {
        self.saw(now);
        let mut ended = Vec::new();
        for tp in partitions {
            if let Some(&key) = self.index.get(tp) {
                self.end_ownership(key, end);
                ended.push(tp.clone());
            }
        }
        ended
    }

    /// The one place where an ownership ends but for a seek: no token of it is good any more, no record of it
    /// is returned.
    pub(super) fn end_ownership(&mut self, key: Key, end: PartitionEnd) {
        let Some(mut p) = self.partitions.remove(&key) else { return };
        p.end();
        self.count_past(&p.ownership, p.consumed);
        let tp = &p.ownership.topic_partition;
        self.index.remove(tp);
        self.uncommitted.remove(&key);
        self.forget_question(key);
        if let Some(number) = p.paused {
            self.paused.remove(&number);
        }
        if let Some(since) = p.clock.running() {
            self.clocks.remove(&(since, key));
        }
        if p.claimed {
            self.ends.insert(tp.clone(), end);
        }
        self.wakes.extend(p.waker.take());
        self.fetch_generation += 1;
    }

    /// Why a partition that is read on its own gives nothing any more; `None` while it does.
    pub fn partition_end(&self, tp: &TopicPartition) -> Option<PartitionEnd> {
        if let Some(end) = self.ends.get(tp) {
            return Some(*end);
        }
        if self.shutdown || self.reader_gone {
            return Some(PartitionEnd::Shutdown);
        }
        match self.partition(tp) {
            Some(p) => p.revoking.map(|_| PartitionEnd::Revoked),
            None => Some(PartitionEnd::Revoked),
        }
    }

    /// Gives each owned partition that nobody reads on its own to a reader of its own, who begins now. Left out
    /// is what is being given back, and what a task still has that did not [return](Self::release).
    pub fn claim(&mut self) -> Vec<TopicPartition> {
        if self.shutdown || self.reader_gone {
            return Vec::new();
        }
        let ends = &self.ends;
        let free = self.partitions.values_mut().filter(|p| {
            !p.claimed && p.revoking.is_none() && !ends.contains_key(&p.ownership.topic_partition)
        });
        let claimed = free.map(|p| {
            p.claimed = true;
            p.ownership.topic_partition.clone()
        });
        let claimed = claimed.collect();
        // What is there for them does not concern the other reader's clock any more.
        self.settle(None);
        claimed
    }

    /// Nobody reads this partition on its own any more: its task has returned. Only after that a new
    /// ownership of the partition gives something to the next task. Work in hand counts as come back from
    /// with `came_back`; without it, it is never done (the task failed).
    pub fn release(&mut self, now: Timestamp, tp: &TopicPartition, came_back: bool) {
        self.saw(now);
        self.ends.remove(tp);
        let Some(&key) = self.index.get(tp) else { return };
        let Some(p) = self.partitions.get_mut(&key) else { return };
        if came_back {
            p.handed.came_back();
        }
        p.in_hand = false;
        self.settle_partition(key, Some(now));
        if let Some(p) = self.partitions.get_mut(&key) {
            p.claimed = false;
            self.stale.extend(p.waker.take());
            if let Some(since) = p.clock.running() {
                self.clocks.remove(&(since, key));
            }
            p.clock.stop();
        }
        self.make_ready(key);
        self.settle(Some(now));
    }

    /// Ends reading: what was not handed out is dropped. The next read returns `End` and thereby says that
    /// the records before it are done.
    pub fn shutdown(&mut self) {
        if self.shutdown {
            return;
        }
        self.shutdown = true;
        self.close_all();
        self.signals.wake_driver();
    }

    /// The reader is gone: closed or dropped. That is not coming back: what it holds is not done. Open
    /// revocations need not wait any longer.
    pub fn reader_gone(&mut self) {
        if self.reader_gone {
            return;
        }
        self.reader_gone = true;
        self.close_all();
        self.signals.wake_driver();
    }

    fn close_all(&mut self) {
        for p in self.partitions.values_mut() {
            p.drop_queue();
        }
        self.fetch_generation += 1;
        self.wake_all_readers();
        self.settle(None);
    }

    /// The consumer is closed: nothing is owned any more, and reads give `End`.
    pub fn close(&mut self) {
        self.shutdown = true;
        self.reader_gone = true;
        self.end_everything(PartitionEnd::Shutdown);
    }

    /// An error that concerns no partition, told to the reader once while everything goes on.
    pub fn report(&mut self, error: Error) {
        if self.errors.len() < MAX_ERRORS {
            self.tallies.told(error.kind());
            self.errors.push_back(error);
        }
        self.interrupt();
        self.wake_reader();
        self.settle(None);
    }

    /// Ends everything with an error that every read gives from now on.
    pub fn fail_all(&mut self, error: Error) {
        if self.fatal.is_none() {
            self.tallies.told(error.kind());
            self.fatal = Some(error.with_fatal(true));
        }
        self.end_everything(PartitionEnd::Lost);
    }

    fn end_everything(&mut self, end: PartitionEnd) {
        for key in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.end_ownership(key, end);
        }
        self.wake_all_readers();
        self.signals.wake_driver();
        self.settle(None);
    }
}
