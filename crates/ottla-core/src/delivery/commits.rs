//! What may be committed.

use super::events::Event;
use super::token::CommitToken;
use super::{Delivery, Key};
use crate::planted::planted;
use crate::{CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEntry {
    /// The partition.
    pub tp: TopicPartition,
    /// The ownership that it is committed by.
    pub epoch: OwnershipEpoch,
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// A text of the user's.
    pub metadata: Option<String>,
}

/// Which partitions.
#[derive(Clone, Copy, Debug)]
pub enum CommitScope<'a> {
    /// All that are owned.
    All,
    /// Those of these that are owned.
    Only(&'a [TopicPartition]),
}

/// What the user wants committed.
#[derive(Clone, Copy, Debug)]
pub enum CommitRequest<'a> {
    /// What a handed-out record or batch says.
    Token(&'a CommitToken),
    /// An offset of the user's own.
    Offset {
        /// The partition.
        topic_partition: &'a TopicPartition,
        /// The next offset to read.
        offset: i64,
        /// Leader epoch of the record before it, if known.
        leader_epoch: Option<LeaderEpoch>,
        /// Comes back with the committed offset.
        metadata: Option<&'a str>,
        /// Whether going back is meant.
        rewind: bool,
    },
}

impl Delivery {
    /// What is done and above what this ownership has committed. With `Commit::Auto` that is what the reader
    /// is done with; in any mode what was marked or committed explicitly, and a position that the reset policy
    /// chose.
    ///
    /// Commits are to be sent one after the other, in the order in which they were given out here and by
    /// [`check_commit`](Self::check_commit).
    pub fn committable(&mut self, scope: CommitScope<'_>) -> Vec<CommitEntry> {
        let keys: Vec<Key> = match scope {
            CommitScope::All => self.uncommitted.iter().copied().collect(),
            CommitScope::Only(partitions) => {
                partitions.iter().filter_map(|tp| self.index.get(tp).copied()).collect()
            }
        };
        keys.into_iter().filter_map(|key| self.committable_of(key)).collect()
    }

    pub(super) fn committable_of(&mut self, key: Key) -> Option<CommitEntry> {
        if self.config.is_external() {
            self.uncommitted.remove(&key);
            return None;
        }
        let auto = self.config.is_auto();
        let p = self.partitions.get_mut(&key)?;
        if !p.has_position() {
            return None;
        }
        p.sweep(auto);
        let (mut offset, leader_epoch) = p.settle_done(p.done.to(), p.done.epoch());
        if offset < p.position() && planted!(CommitPosition) {
            offset = p.position();
        }
        if offset > p.commit_above && planted!(CommitOneTooFar) {
            offset += 1;
        }
        if p.committed.is_some_and(|committed| offset <= committed) || offset <= p.commit_above {
            if p.position() <= offset && p.strip.is_none() {
                self.uncommitted.remove(&key);
            }
            return None;
        }
        p.requested = Some(offset);
        let metadata = p.metadata.as_ref().filter(|(at, _)| *at == offset).map(|(_, text)| text.clone());
        Some(CommitEntry {
            tp: p.ownership.topic_partition.clone(),
            epoch: p.ownership.epoch,
            offset,
            leader_epoch,
            metadata,
        })
    }

    /// Everything that was handed out, the batch in hand included: counts as done. Gives what of it is not
    /// committed.
    pub fn delivered(&mut self, now: Timestamp) -> Vec<CommitEntry> {
        self.saw(now);
        let keys: Vec<Key> = self.partitions.keys().copied().collect();
        for key in &keys {
            let Some(p) = self.partitions.get_mut(key).filter(|p| p.has_position()) else { continue };
            if p.position() > p.done.to() {
                p.accept(p.position(), p.position_epoch, None);
            }
            self.make_ready(*key);
        }
        let entries = keys.into_iter().filter_map(|key| self.committable_of(key)).collect();
        self.settle(Some(now));
        entries
    }

    /// Whether what the user wants committed may be: gives what is to be sent, or `None` if it is committed
    /// already. What is accepted counts as done.
    ///
    /// # Errors
    /// `NotOwned` if the partition is not owned, or not by the ownership of the token any more;
    /// `WouldRewind` if an offset is below what was committed, or is on its way to be, and `rewind` does not say
    /// that this is meant;
    /// `Fatal` for a negative offset.
    pub fn check_commit<'a>(
        &mut self,
        now: Timestamp,
        request: impl Into<CommitRequest<'a>>,
    ) -> Result<Option<CommitEntry>, CommitError> {
        self.saw(now);
        let result = match request.into() {
            CommitRequest::Token(token) => self.check_token(token),
            CommitRequest::Offset { topic_partition, offset, leader_epoch, metadata, rewind } => {
                self.check_offset(topic_partition, offset, leader_epoch, metadata, rewind)
            }
        };
        self.settle(Some(now));
        result
    }

    fn check_token(&mut self, token: &CommitToken) -> Result<Option<CommitEntry>, CommitError> {
        let key = token.ownership.key;
        let p = self.partitions.get_mut(&key).ok_or(CommitError::NotOwned)?;
        if p.ownership.epoch != token.ownership.epoch && !planted!(TokenUnchecked) {
            return Err(CommitError::NotOwned);
        }
        p.accept(token.next, token.leader_epoch, token.metadata.as_deref());
        let (own, own_epoch) = p.settle_done(token.next, token.leader_epoch);
        // What else is done was given out to be committed before, perhaps, and it is not known what became of that:
        // going back would be wrong if it was taken. Behind a rewind it is what the user wants.
        let (mut offset, mut leader_epoch) =
            if p.done.to() > own.max(p.commit_above) && !planted!(CommitGoesBack) {
                p.settle_done(p.done.to(), p.done.epoch())
            } else {
                (own, own_epoch)
            };
        let mut metadata = if offset == own {
            token.metadata.as_deref().map(str::to_owned)
        } else {
            p.metadata.as_ref().filter(|(at, _)| *at == offset).map(|(_, text)| text.clone())
        };
        if p.committed.is_some_and(|committed| offset <= committed) {
            return Ok(None);
        }
        if p.requested.is_some_and(|requested| offset < requested) && !planted!(CommitGoesBack) {
            // A higher one is on its way: sending this one after it would go back. The higher one is sent again.
            offset = p.requested.unwrap_or(offset);
            let (done, epoch) = p.resolve(p.done.to(), p.done.epoch());
            leader_epoch = if done == offset { epoch } else { p.epoch_before(offset) };
            metadata = p.metadata.as_ref().filter(|(at, _)| *at == offset).map(|(_, text)| text.clone());
        }
        p.requested = Some(offset);
        let entry = CommitEntry {
            tp: p.ownership.topic_partition.clone(),
            epoch: p.ownership.epoch,
            offset,
            leader_epoch,
            metadata,
        };
        self.uncommitted.insert(key);
        self.make_ready(key);
        Ok(Some(entry))
    }

    fn check_offset(
        &mut self,
        tp: &TopicPartition,
        offset: i64,
        leader_epoch: Option<LeaderEpoch>,
        metadata: Option<&str>,
        rewind: bool,
    ) -> Result<Option<CommitEntry>, CommitError> {
        let key = *self.index.get(tp).ok_or(CommitError::NotOwned)?;
        let p = self.partitions.get_mut(&key).ok_or(CommitError::NotOwned)?;
        if offset < 0 {
            let text = format!("offset {offset} cannot be committed: it is negative");
            return Err(CommitError::Fatal(
                Error::new(ErrorKind::ApiMisuse, text).with_partition(tp.clone()),
            ));
        }
        let leader_epoch = leader_epoch.or_else(|| p.epoch_before(offset));
        let highest = p.committed.max(p.requested);
        if let Some(committed) = highest.filter(|&highest| offset < highest) {
            if !rewind {
                return Err(CommitError::WouldRewind { committed });
            }
            // What is done beyond stays done, but is not committed again before more is: that would undo the
            // rewind at once.
            p.sweep(self.config.is_auto());
            let (done, _) = p.resolve(p.done.to(), p.done.epoch());
            p.commit_above = done;
            p.metadata = None;
            p.committed = None;
        } else if p.committed == Some(offset) && metadata.is_none() {
            return Ok(None);
        } else if p.has_position() {
            p.accept(offset, leader_epoch, metadata);
        }
        p.requested = Some(offset);
        let entry = CommitEntry {
            tp: tp.clone(),
            epoch: p.ownership.epoch,
            offset,
            leader_epoch,
            metadata: metadata.map(str::to_owned),
        };
        self.uncommitted.insert(key);
        self.make_ready(key);
        Ok(Some(entry))
    }

    /// The coordinator has taken this offset. Of another ownership it says nothing.
    pub fn note_committed(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch, offset: i64) {
        let Some(p) = self.partition_mut(tp).filter(|p| p.ownership.epoch == epoch) else { return };
        p.committed = Some(offset);
        if let Some((at, text)) = &p.metadata {
            p.committed_metadata = (*at == offset).then(|| text.clone());
        }
    }

    /// An offset that was given out to be committed was not, and is not tried again. `pending` is the latest of
    /// this ownership that is still on its way: a plain offset may not go below that or what is committed, but it
    /// may go below what failed.
    pub fn note_not_committed(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch, pending: Option<i64>) {
        let Some(p) = self.partition_mut(tp).filter(|p| p.ownership.epoch == epoch) else { return };
        p.requested = pending;
    }

    /// What this ownership knows to be committed, with the text that came along.
    pub fn committed(&self, tp: &TopicPartition) -> Option<(i64, Option<&str>)> {
        let p = self.partition(tp)?;
        Some((p.committed?, p.committed_metadata.as_deref()))
    }

    /// Tells the reader what became of commits that nobody waits for.
    pub fn background_committed(&mut self, results: Vec<(TopicPartition, Result<(), CommitError>)>) {
        let mut completed = Vec::new();
        let mut failed = Vec::new();
        for (tp, result) in results {
            match result {
                Ok(()) => completed.push(tp),
                Err(error) => failed.push((tp, error)),
            }
        }
        if !completed.is_empty() {
            self.queue_event(Event::CommitCompleted(completed));
        }
        if !failed.is_empty() {
            self.queue_event(Event::CommitFailed(failed));
        }
        self.settle(None);
    }

    /// One record, or one batch, is acknowledged.
    pub(super) fn mark(&mut self, token: &CommitToken) {
        let key = token.ownership.key;
        let Some(p) = self.partitions.get_mut(&key) else { return };
        if p.ownership.epoch != token.ownership.epoch {
            return;
        }
        let first = !std::mem::replace(&mut p.marks_used, true);
        let before = p.done.to();
        let grew = p.done.insert(token.from, token.next, token.leader_epoch);
        if grew {
            let done = usize::try_from(p.done.to().saturating_sub(before)).unwrap_or(0);
            p.forget_unmarked();
            self.uncommitted.insert(key);
            self.make_ready(key);
            self.settle_partition(key, None);
            if !self.config.is_auto() {
                self.count_for_commit(done);
                self.counted_is_done();
            }
        }
        if first {
            // From now on what is handed out is counted.
            self.interrupt();
        }
        // Without a revocation that may wait for it, or delivery that went on, nothing else has changed.
        if self.watching || grew {
            self.settle(None);
        }
    }
}
