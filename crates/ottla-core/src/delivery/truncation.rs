//! Whether what lies before a position is in the leader's log (KIP-320), and what becomes of it if it is not.

use super::partition::{Partition, Phase};
use super::queue::Pending;
use super::{Delivery, Event, ResetCause};
use crate::{LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// So many changes of the leader epoch are remembered of a partition.
const MAX_SPANS: usize = 16;

/// From where on, or from further on, what was handed out is of which leader epoch: the earlier first, the last is the
/// present one.
#[derive(Debug, Default)]
pub(super) struct EpochSpans(Vec<(i64, Option<LeaderEpoch>)>);

impl EpochSpans {
    /// It is read on from `offset`; what lies before is of this epoch. What is known of earlier ones stays if it says
    /// so too.
    pub(super) fn start(&mut self, offset: i64, epoch: Option<LeaderEpoch>) {
        self.cut(offset);
        if epoch.is_none() || self.0.last().is_none_or(|(_, last)| *last != epoch) {
            self.0.clear();
            self.push(offset, epoch);
        }
    }

    /// There is one of these for each partition, and hardly ever more than two in it.
    fn push(&mut self, offset: i64, epoch: Option<LeaderEpoch>) {
        if self.0.len() < 2 {
            self.0.reserve_exact(1);
        }
        self.0.push((offset, epoch));
    }

    /// What is handed out from `offset` on is of this epoch.
    pub(super) fn enter(&mut self, offset: i64, epoch: Option<LeaderEpoch>) {
        if self.0.len() >= MAX_SPANS {
            self.0.remove(0);
        }
        self.push(offset, epoch);
    }

    /// Where the first later epoch begins, if there is one.
    fn end_of(&self, epoch: LeaderEpoch) -> Option<i64> {
        self.0.iter().find(|(_, later)| *later > Some(epoch)).map(|(from, _)| *from)
    }

    /// The epoch of what lies before `offset`, if any of that was handed out, or it is where reading began.
    pub(super) fn before(&self, offset: i64) -> Option<Option<LeaderEpoch>> {
        let began = self.0.first().filter(|(from, _)| *from == offset);
        self.0.iter().rev().find(|(from, _)| *from < offset).or(began).map(|(_, epoch)| *epoch)
    }

    fn cut(&mut self, offset: i64) {
        self.0.retain(|(from, _)| *from < offset);
    }
}

/// What a leader that has another log means for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// Nothing: it was said of another ownership, or of another offset than the one to be fetched next.
    Stale,
    /// What was fetched and not handed out is dropped. Whether the position itself is in the leader's log has to be
    /// asked.
    Dropped,
    /// Nothing: the leader has as much of the epochs up to it as was handed out. An epoch without a record, which a
    /// position at the end of a log may have, is in no log.
    Same,
    /// What was handed out is not in the leader's log.
    Truncated {
        /// The position, or that of an earlier cut which the reader was not told of yet.
        position: i64,
        /// The last offset up to which the logs are the same, as far as is known.
        to: i64,
        /// Leader epoch of what lies before it: as it was read, if that is known, so that the leader can be asked about
        /// that in turn.
        epoch: Option<LeaderEpoch>,
        /// What is done ends here, with its leader epoch. What was handed out beyond is in hand, and under no ownership
        /// any more as soon as the position moves.
        done: (i64, Option<LeaderEpoch>),
    },
}

impl Delivery {
    /// The leader of this epoch has what lies before `offset`, which is to be fetched next. Gives whether it is
    /// still so.
    pub fn validated(
        &mut self,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        offset: i64,
        leader_epoch: LeaderEpoch,
    ) -> bool {
        let Some(p) = self.fetched_next(tp, epoch, offset) else { return false };
        p.validated = Some(leader_epoch);
        self.fetch_generation += 1;
        true
    }

    /// The leader cannot tell of the leader epoch of what lies before `offset`: nothing can be said of it.
    pub fn forget_fetch_epoch(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch, offset: i64) -> bool {
        let Some(p) = self.fetched_next(tp, epoch, offset) else { return false };
        p.fetch_epoch = None;
        self.fetch_generation += 1;
        true
    }

    /// The log of the leader is another one than what lies before `offset`: of the epochs up to the one that was asked
    /// about it has `found` as the last, which ends at `end`.
    pub fn diverged(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        offset: i64,
        (found, end): (LeaderEpoch, i64),
    ) -> Divergence {
        self.saw(now);
        let auto = self.config.is_auto();
        let Some(p) = self.fetched_next(tp, epoch, offset) else { return Divergence::Stale };
        let ahead = !p.queue.is_empty() || p.checkout.is_some() || p.strip.is_some();
        if ahead || p.fetch_offset != p.position() {
            p.refetch();
            p.validated = None;
            let key = p.key();
            self.fetch_generation += 1;
            self.settle_partition(key, Some(now));
            self.settle(Some(now));
            return Divergence::Dropped;
        }
        let position = p.position();
        // Records of a later epoch than the leader's last are all another log's, wherever that one ends.
        let own = p.epochs.end_of(found).unwrap_or(position);
        let to = end.min(own).min(position).max(0);
        if to >= position {
            // A leader that tells it of its own epoch as well is asked no more.
            let known = (p.fetch_epoch != Some(found)).then_some(found);
            (p.fetch_epoch, p.position_epoch, p.validated) = (known, known, None);
            p.epochs.enter(position, known);
            self.fetch_generation += 1;
            return Divergence::Same;
        }
        p.sweep(auto);
        let done = p.settle_done(p.done.to(), p.done.epoch());
        let epoch = p.epochs.before(to).unwrap_or(Some(found));
        let position = self.untold_cut(tp).map_or(position, |untold| untold.max(position));
        Divergence::Truncated { position, to, epoch, done }
    }

    /// Where the reader was before a cut that it was not told of yet.
    fn untold_cut(&self, tp: &TopicPartition) -> Option<i64> {
        self.events.iter().find_map(|event| match event {
            Pending::Told(Event::OffsetReset {
                topic_partition,
                cause: ResetCause::LogTruncation { offset },
                ..
            }) if topic_partition == tp => Some(*offset),
            _ => None,
        })
    }

    fn fetched_next(
        &mut self,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        offset: i64,
    ) -> Option<&mut Partition> {
        self.partition_mut(tp).filter(|p| {
            p.ownership.epoch == epoch
                && p.phase == Phase::Active
                && p.revoking.is_none()
                && p.fetch_offset == offset
        })
    }
}
