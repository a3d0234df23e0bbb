//! Waiting until enough is there for several batches at once: `next_batches` (design §6).
//!
//! Nothing is taken while it waits, so that a future which is dropped loses nothing: what is there is counted, and
//! taken in the same call that finds it to be enough. The driver keeps the time, as for everything else.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ottla_wire::records::BatchDecoder;

use super::batch::Batch;
use super::events::{Filter, Taken};
use super::partition::Partition;
use super::{Delivery, Shared};
use crate::{Error, Timestamp};

/// What [`Shared::gather`] came to.
#[derive(Debug)]
pub enum Gathered {
    /// What there was, from several partitions perhaps; nothing when the time was over.
    Batches(Vec<Batch>),
    /// An error, alone: what comes with it stays where it is.
    Error(Error),
    /// Not enough, and the time is not over: the waker is called when that may have changed.
    Pending,
    /// Nothing will come any more.
    End,
}

/// A wait that goes on from poll to poll.
#[derive(Debug)]
pub struct Gathering {
    records: usize,
    max_wait: Duration,
    deadline: Option<Timestamp>,
}

impl Gathering {
    /// Waits for `records` at most (one at least), and for no longer than `max_wait` from its first poll on.
    pub fn new(records: usize, max_wait: Duration) -> Self {
        Self { records: records.max(1), max_wait, deadline: None }
    }
}

enum Look {
    Enough,
    Over,
    Gathered(Gathered),
}

impl Shared {
    /// Reads batches of several partitions. The first poll means that the reader came back for more.
    pub fn gather(
        self: &Arc<Self>,
        now: Timestamp,
        decoder: &mut BatchDecoder,
        gathering: &mut Gathering,
        waker: &Waker,
    ) -> Gathered {
        loop {
            let over = match self.lock().look_for(now, gathering, waker) {
                Look::Gathered(answer) => return answer,
                Look::Enough => false,
                Look::Over => true,
            };
            let mut batches = Vec::new();
            let mut left = gathering.records;
            while left > 0 {
                let filter = Filter { max_records: left, ..Filter::BATCHES };
                match self.take_more(now, decoder, filter, None) {
                    Taken::Batch(batch) => {
                        left = left.saturating_sub(batch.len());
                        batches.push(batch);
                    }
                    Taken::Error(error) if batches.is_empty() => return Gathered::Error(error),
                    Taken::Error(error) => {
                        self.lock().errors.push_front(error);
                        break;
                    }
                    _ => break,
                }
            }
            // What was counted may have been control records only.
            if over || !batches.is_empty() {
                return Gathered::Batches(batches);
            }
        }
    }
}

impl Delivery {
    fn look_for(&mut self, now: Timestamp, gathering: &mut Gathering, waker: &Waker) -> Look {
        self.saw(now);
        let begins = gathering.deadline.is_none();
        let deadline = *gathering.deadline.get_or_insert_with(|| {
            // A reader that waits is not away; so that its clock need not know, it comes at half of its time.
            let longest = self.config.max_poll_interval.map_or(Duration::MAX, |interval| interval / 2);
            now + gathering.max_wait.min(longest)
        });
        self.gathering = None;
        if let Some(taken) = self.begin_read(now, &Filter::BATCHES, begins) {
            return Look::Gathered(match taken {
                Taken::Error(error) => Gathered::Error(error),
                _ => Gathered::End,
            });
        }
        self.gathers = true;
        if self.has_at_hand(gathering.records) {
            return Look::Enough;
        }
        if now >= deadline {
            return Look::Over;
        }
        self.gathering = Some(deadline);
        self.set_reader_waker(waker);
        self.signals.wake_driver();
        self.settle(Some(now));
        Look::Gathered(Gathered::Pending)
    }

    /// Whether so many records wait, or as many as can be had: more is fetched, or handed out, only when some of it is
    /// taken.
    fn has_at_hand(&mut self, wanted: usize) -> bool {
        // Takes what is out of date off.
        if self.next_ready().is_none() {
            return false;
        }
        // Behind what is not marked no more is handed out, however long it waits.
        let max = self.config.max_unmarked;
        let full = |p: &Partition| {
            let queued: usize = p.queue.iter().map(super::queue::Segment::records).sum();
            p.claimed || p.paused.is_some() || p.revoking.is_some() || queued >= p.unmarked_room(max)
        };
        if self.partitions.values().all(|p| full(p)) {
            return true;
        }
        let (mut records, mut bytes) = (0usize, 0usize);
        for key in &self.ready {
            let Some(p) = self.partitions.get(key) else { continue };
            if !p.claimed && p.is_deliverable(self.config.max_unmarked) {
                let queued: usize = p.queue.iter().map(super::queue::Segment::records).sum();
                bytes = bytes.saturating_add(p.queued_bytes);
                records = records.saturating_add(queued.min(p.unmarked_room(self.config.max_unmarked)));
            }
            // Of a partition that has half of what fetching may fill no more is asked for.
            let room = self.config.max_buffered_bytes.saturating_sub(self.config.decode_ahead_bytes);
            if records >= wanted || bytes >= room / 2 || (records > 0 && self.without_room) {
                return true;
            }
        }
        false
    }

    /// Whether the last read was one that gathers: as much as there is room for is read ahead of the next one.
    pub fn gathers(&self) -> bool {
        self.gathers
    }

    /// Whether nothing is under way and there is no room to fetch into: who gathers waits for nothing then.
    pub fn set_without_room(&mut self, is: bool) {
        self.without_room = is;
        if is && self.gathering.take().is_some() {
            self.wake_reader();
        }
    }

    /// When a reader that gathers is to be woken.
    pub fn gather_deadline(&self) -> Option<Timestamp> {
        self.gathering
    }

    /// Wakes a reader whose time for gathering is over.
    pub fn gather_expired(&mut self, now: Timestamp) {
        if self.gathering.is_some_and(|deadline| now >= deadline) {
            self.gathering = None;
            self.wake_reader();
        }
    }
}
