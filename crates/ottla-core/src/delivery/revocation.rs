//! Giving partitions back: delivery stops at once, and the group waits for the work in hand.
//!
//! | state | input | next |
//! |---|---|---|
//! | – | `revoke` | waiting (buffers dropped, `Event::Revoking` queued) |
//! | waiting, events are read | `finish`, or the next read after the event was taken | done |
//! | waiting, events are not read | no task reads of it on its own, and nothing of it is in hand, or all is done, marked, committed or dropped | done |
//! | waiting | the reader is gone | done |
//! | waiting | deadline | timed out |
//! | done, timed out | `poll_revocation` | told: the client commits |
//! | told | `end_revocation` | the ownerships are over; timed out: `Event::Lost` |

use std::fmt;
use std::sync::{Arc, Weak};

use super::commits::CommitEntry;
use super::events::PartitionEnd;
use super::queue::Pending;
use super::token::CommitToken;
use super::{Delivery, Key, Shared};
use crate::planted::planted;
use crate::{Timestamp, TopicPartition};

/// Tells one revocation from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId(pub(crate) u64);

/// A revocation that may be committed and ended.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// Until when giving it back may take, the last commit among it.
    pub deadline: Timestamp,
    /// To be given to [`end_revocation`](Delivery::end_revocation) once the commits are through.
    pub id: RevocationId,
    /// The partitions, as far as they were owned.
    pub partitions: Vec<TopicPartition>,
    /// Whether the deadline passed before the work in hand was done.
    pub timed_out: bool,
    /// What is done of these partitions and not committed yet.
    pub commits: Vec<CommitEntry>,
}

/// The group takes partitions back.
///
/// Until it is finished the partitions are still owned, so what was processed can be committed. Reading on
/// equals [`finish`](Self::finish) without tokens. Dropping it does nothing. Past the deadline the partitions
/// are lost.
pub struct Revocation {
    pub(super) id: RevocationId,
    pub(super) partitions: Arc<[TopicPartition]>,
    pub(super) deadline: Timestamp,
    pub(super) shared: Weak<Shared>,
}

impl Revocation {
    /// What is taken back.
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// When the group stops waiting.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Ends it. The tokens are committed as `commit` would, each with everything of its partition before it;
    /// in a partition where records were acknowledged by [`mark`](CommitToken::mark) they are marks too.
    /// Tokens of other ownerships are left out.
    pub fn finish(self, tokens: impl IntoIterator<Item = CommitToken>) {
        let Some(shared) = self.shared.upgrade() else { return };
        // Collected first: the iterator is foreign code.
        let tokens: Vec<CommitToken> = tokens.into_iter().collect();
        shared.lock().finish_revocation(self.id, &tokens);
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("partitions", &self.partitions)
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// An open revocation.
#[derive(Debug)]
pub(super) struct Open {
    keys: Vec<Key>,
    /// Those whose work in hand is not known to be done; only shrinks.
    waiting: Vec<Key>,
    partitions: Arc<[TopicPartition]>,
    deadline: Timestamp,
    /// The reader took the event.
    seen: bool,
    /// It was met by a read without events: the work in hand decides, whatever kind of read comes next.
    by_default: bool,
    finished: bool,
    /// The driver was woken because it is done.
    announced: bool,
    /// `poll_revocation` told it, and whether as timed out.
    told: Option<bool>,
}

impl Delivery {
    /// Takes partitions back: nothing more of them is handed out from now on, and what was not handed out is
    /// dropped. [`poll_revocation`](Self::poll_revocation) tells when the work in hand is done. Partitions that
    /// are not owned, or taken back already, are left out.
    pub fn revoke(
        &mut self,
        now: Timestamp,
        partitions: &[TopicPartition],
        deadline: Timestamp,
    ) -> RevocationId {
        self.saw(now);
        let id = RevocationId(self.next_revocation);
        self.next_revocation += 1;
        let mut keys = Vec::new();
        let mut owned = Vec::new();
        for tp in partitions {
            let Some(&key) = self.index.get(tp) else { continue };
            let Some(p) = self.partitions.get_mut(&key) else { continue };
            if p.revoking.is_some() {
                continue;
            }
            p.revoking = Some(id);
            if !planted!(RevokedDelivered) {
                p.drop_queue();
            }
            keys.push(key);
            owned.push(tp.clone());
            if let Some(waker) = p.waker.take() {
                self.wakes.push(waker);
            }
        }
        self.fetch_generation += 1;
        let partitions: Arc<[TopicPartition]> = owned.into();
        let open = Open {
            waiting: keys.clone(),
            keys,
            partitions: Arc::clone(&partitions),
            deadline,
            seen: partitions.is_empty(),
            by_default: false,
            finished: partitions.is_empty(),
            announced: false,
            told: None,
        };
        if !partitions.is_empty() {
            self.events.push_back(Pending::Revoking(id));
            self.interrupt();
            self.wake_reader();
        }
        self.revocations.insert(id, open);
        // Before handles are counted: a handle that is dropped after that wakes the driver.
        self.watching = true;
        self.signals.set_watch_handles(true);
        self.settle(Some(now));
        id
    }

    /// A revocation that is done or whose deadline has passed: told once. The client commits and then calls
    /// [`end_revocation`](Self::end_revocation).
    pub fn poll_revocation(&mut self, now: Timestamp) -> Option<Revoked> {
        self.saw(now);
        let ids: Vec<RevocationId> =
            self.revocations.iter().filter(|(_, r)| r.told.is_none()).map(|(id, _)| *id).collect();
        for id in ids {
            let done = self.is_revocation_done(id);
            let Some(open) = self.revocations.get_mut(&id) else { continue };
            if !done && now < open.deadline {
                continue;
            }
            open.told = Some(!done);
            let deadline = open.deadline;
            let partitions = open.partitions.to_vec();
            let keys = open.keys.clone();
            let mut commits: Vec<CommitEntry> =
                keys.into_iter().filter_map(|key| self.committable_of(key)).collect();
            if !commits.is_empty() && planted!(RevocationUncommitted) {
                commits.clear();
            }
            let partitions = partitions.into_iter().filter(|tp| self.revokes(tp, id)).collect();
            return Some(Revoked { id, partitions, timed_out: !done, deadline, commits });
        }
        None
    }

    /// The earliest deadline of a revocation that was not told yet.
    pub fn revocation_deadline(&self) -> Option<Timestamp> {
        self.revocations.values().filter(|r| r.told.is_none()).map(|r| r.deadline).min()
    }

    /// The commits of the revocation are through, or have failed: the ownerships are over. If it had timed
    /// out, the partitions are lost, and an event says so.
    pub fn end_revocation(&mut self, now: Timestamp, id: RevocationId) {
        self.saw(now);
        let Some(open) = self.revocations.remove(&id) else { return };
        let timed_out = open.told == Some(true);
        let mut lost = Vec::new();
        self.paused_before.clear();
        for key in open.keys {
            let Some(p) = self.partitions.get(&key).filter(|p| p.revoking == Some(id)) else { continue };
            let tp = p.ownership.topic_partition.clone();
            if p.paused.is_some() {
                self.paused_before.insert(tp.clone());
            }
            self.end_ownership(key, if timed_out { PartitionEnd::Lost } else { PartitionEnd::Revoked });
            lost.push(tp);
        }
        // The reader that has not met the event yet has nothing to decide any more.
        self.events.retain(|event| !matches!(event, Pending::Revoking(i) if *i == id));
        if timed_out {
            self.queue_lost(lost);
        }
        self.settle(Some(now));
    }

    /// Whether this revocation holds the partition.
    fn revokes(&self, tp: &TopicPartition, id: RevocationId) -> bool {
        self.partition(tp).is_some_and(|p| p.revoking == Some(id))
    }

    /// The reader is finished with it, and with these records.
    pub(super) fn finish_revocation(&mut self, id: RevocationId, tokens: &[CommitToken]) {
        if !self.revocations.contains_key(&id) {
            return;
        }
        for token in tokens {
            let Some(p) = self.partitions.get_mut(&token.ownership.key) else { continue };
            if p.ownership.epoch != token.ownership.epoch || p.revoking != Some(id) {
                continue;
            }
            if p.marks_used {
                p.done.insert(token.from, token.next, token.leader_epoch);
            } else {
                p.accept(token.next, token.leader_epoch, token.metadata.as_deref());
            }
            let key = token.ownership.key;
            self.uncommitted.insert(key);
        }
        if let Some(open) = self.revocations.get_mut(&id) {
            open.finished = true;
        }
        self.settle(None);
    }

    /// The reader took the event.
    pub(super) fn revocation_seen(&mut self, id: RevocationId) -> Option<Revocation> {
        let open = self.revocations.get(&id)?;
        // What was lost meanwhile is told as lost, or was never told at all.
        let held = open.partitions.iter().filter(|tp| self.revokes(tp, id)).cloned();
        let partitions: Arc<[TopicPartition]> = held.collect();
        let open = self.revocations.get_mut(&id)?;
        open.seen = true;
        if partitions.is_empty() {
            open.finished = true;
            return None;
        }
        let deadline = open.deadline;
        Some(Revocation { id, partitions, deadline, shared: self.shared.clone() })
    }

    /// A read without events met it.
    pub(super) fn revocation_met(&mut self, id: RevocationId) {
        if let Some(open) = self.revocations.get_mut(&id) {
            open.seen = true;
            open.by_default = true;
        }
    }

    /// The reader came for more: reading on after `Revoking` equals `finish`.
    pub(super) fn read_on(&mut self) {
        if self.events_mode {
            for open in self.revocations.values_mut().filter(|r| r.seen && !r.by_default) {
                open.finished = true;
            }
        }
    }

    /// Nobody waits for the reader any more: it gave up what it reads.
    pub fn finish_revocations(&mut self) {
        self.read_to_the_end();
        self.settle(None);
    }

    /// The reader was told the end: it meets no event any more.
    pub(super) fn read_to_the_end(&mut self) {
        for open in self.revocations.values_mut() {
            open.finished = true;
        }
    }

    /// Whether the work in hand of a revocation is done.
    fn is_revocation_done(&mut self, id: RevocationId) -> bool {
        let (events_mode, gone) = (self.events_mode, self.reader_gone);
        let auto = self.config.is_auto();
        let Some(open) = self.revocations.get_mut(&id) else { return false };
        if open.finished || gone {
            return true;
        }
        if events_mode && !open.by_default {
            return false;
        }
        // Looked at from the back until one is not done: looking again costs nothing.
        while let Some(key) = open.waiting.last() {
            let waits = match self.partitions.get_mut(key) {
                // A task of its own may have more to do than its last batch: it is waited for.
                Some(p) => p.revoking == Some(id) && (p.claimed || p.has_work_in_hand(auto)),
                None => false,
            };
            if waits {
                return false;
            }
            open.waiting.pop();
        }
        true
    }

    /// Wakes the driver for revocations that became done.
    pub(super) fn check_revocations(&mut self) {
        if self.revocations.is_empty() {
            self.watching = false;
            self.signals.set_watch_handles(false);
            return;
        }
        let ids: Vec<RevocationId> = self
            .revocations
            .iter()
            .filter(|(_, r)| r.told.is_none() && !r.announced)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if self.is_revocation_done(id) {
                if let Some(open) = self.revocations.get_mut(&id) {
                    open.announced = true;
                }
                self.signals.wake_driver();
            }
        }
    }
}
