//! The last step of a read: records become handed out.

use std::sync::Arc;

use super::batch::{Batch, BatchInner, Part, Parts};
use super::events::Event;
use super::partition::Phase;
use super::queue::Segment;
use super::{Delivery, Key};
use crate::Timestamp;
use crate::planted::planted;

/// So few records are walked over under the lock.
const AT_HAND: usize = 16;

impl Delivery {
    /// The short way for a reader that wants a few records at a time: the batch they are in was decoded by an
    /// earlier read, and more of it remains.
    pub(super) fn take_at_hand(&mut self, now: Timestamp, key: Key, limit: usize) -> Option<Batch> {
        let p = self.partitions.get_mut(&key)?;
        let Some(Segment::Decoded(rest)) = p.queue.front_mut() else { return None };
        if limit > AT_HAND || rest.count <= limit {
            return None;
        }
        let mut records = rest.batch.iter_from(rest.cursor);
        let last = records.nth(limit.saturating_sub(1))?.offset();
        if planted!(SkipsAtHand) {
            records.next();
        }
        let cursor = records.cursor();
        let bytes = cursor.position().saturating_sub(rest.cursor.position());
        let part = Part {
            batch: rest.batch.clone(),
            cursor: std::mem::replace(&mut rest.cursor, cursor),
            count: limit,
            before: 0,
            pin: Some(rest.queued.pin()),
        };
        rest.count -= limit;
        let before = rest.queued.bytes();
        rest.queued.shrink(bytes);
        let bytes = before - rest.queued.bytes();
        p.move_position(last.saturating_add(1), part.leader_epoch());
        let drained = p.set_queued_bytes(p.queued_bytes.saturating_sub(bytes));
        self.uncommitted.insert(key);
        let batch = self.hand_out(now, key, Parts::One(part), limit, last);
        self.served(now, key, drained);
        batch
    }

    /// Makes a batch of records up to the position, and keeps account of it.
    pub(super) fn hand_out(
        &mut self,
        now: Timestamp,
        key: Key,
        parts: Parts,
        count: usize,
        last: i64,
    ) -> Option<Batch> {
        let auto = self.config.is_auto();
        let p = self.partitions.get_mut(&key)?;
        let ownership = Arc::clone(&p.ownership);
        let (start, end, end_epoch) = (p.delivered_end(), p.position(), p.position_epoch);
        let inner =
            Arc::new(BatchInner { ownership, parts, start, end, end_epoch, last, count, strip: None });
        p.delivered();
        if p.handed.push(now, &inner) {
            p.sweep(auto);
        }
        if p.marks_used && !auto {
            p.unmarked.push_back((end, count));
            p.unmarked_records = p.unmarked_records.saturating_add(count);
        }
        p.consumed.records += count as u64;
        self.consumed.records += count as u64;
        if auto {
            self.count_for_commit(count);
        }
        self.in_hand(key);
        Some(Batch(inner))
    }

    /// The reader was given something of this partition.
    pub(super) fn in_hand(&mut self, key: Key) {
        let Some(p) = self.partitions.get_mut(&key) else { return };
        if p.claimed {
            p.in_hand = true;
        } else {
            self.holding = true;
            self.in_hand.push(key);
        }
    }

    /// A partition had its turn: the others come first.
    pub(super) fn served(&mut self, now: Timestamp, key: Key, drained: bool) {
        if self.ready.front() == Some(&key)
            && let Some(p) = self.partitions.get_mut(&key)
        {
            self.ready.pop_front();
            p.in_ready = false;
        }
        // After every megabyte or so: woken under the lock the driver would come at once on a core that both share, and
        // have to wait for it.
        self.wakes_driver |= drained;
        self.make_ready(key);
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
    }

    /// Tells that a partition was read to its end, once until there is more.
    pub(super) fn check_eof(&mut self, key: Key) {
        if !self.config.partition_eof {
            return;
        }
        let read_committed = self.config.read_committed();
        let Some(p) = self.partitions.get_mut(&key) else { return };
        let at_end = p.end_offset(read_committed).is_some_and(|end| p.position() >= end);
        if p.phase != Phase::Active
            || p.revoking.is_some()
            || !at_end
            || !p.queue.is_empty()
            || p.checkout.is_some()
            || p.strip.is_some()
            || p.eof_told == Some(p.position())
        {
            return;
        }
        let offset = p.position();
        p.eof_told = Some(offset);
        if planted!(EofMovesPosition) {
            p.move_position(offset + 1, p.position_epoch);
        }
        let topic_partition = p.ownership.topic_partition.clone();
        self.queue_event(Event::PartitionEof { topic_partition, offset });
    }
}
