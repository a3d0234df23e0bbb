//! Where partitions begin whose offsets the user keeps (`CommitMode::External`).
//!
//! | state | input | next |
//! |---|---|---|
//! | – | `assign`, `ask_start` | open, untold |
//! | open, untold | the reader takes `Event::Assigned`, or `ask_reader` | open, with a deadline |
//! | open | `answer_start` | – ; the client looks for the place |
//! | open, with a deadline | `expire_questions` at the deadline | – ; the partition stops with an error |
//! | open | the ownership ends, is being given back, or is sought | – |
//!
//! Until it is answered the partition has no position, so that nothing of it is fetched.

use std::task::Waker;

use super::events::Event;
use super::{Delivery, Key};
use crate::{Error, ErrorKind, OwnershipEpoch, Timestamp, TopicPartition};

impl Delivery {
    /// The reader is to say where these partitions begin; `Event::Assigned` tells it.
    pub fn ask_start(&mut self, now: Timestamp, partitions: &[(TopicPartition, OwnershipEpoch)]) {
        self.saw(now);
        let owned = |(tp, epoch): &&(TopicPartition, OwnershipEpoch)| self.ownership(tp) == Some(*epoch);
        let asked: Vec<TopicPartition> = partitions.iter().filter(owned).map(|(tp, _)| tp.clone()).collect();
        if asked.is_empty() {
            return;
        }
        self.open_questions(asked.iter());
        self.queue_event(Event::Assigned(asked));
        self.settle(Some(now));
    }

    pub(super) fn open_questions<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition>) {
        for tp in partitions {
            if let Some(&key) = self.index.get(tp) {
                self.questions.insert(key, None);
            }
        }
    }

    /// The reader knows of them now: its time begins.
    pub(super) fn questions_told(&mut self, partitions: &[TopicPartition]) {
        let deadline = self.now + self.config.start_timeout;
        for tp in partitions {
            if let Some(question) = self.index.get(tp).and_then(|key| self.questions.get_mut(key)) {
                *question = Some(deadline);
            }
        }
        self.signals.wake_driver();
    }

    /// The partitions that wait to be told where they begin. Whoever asks begins to answer now.
    pub fn ask_reader(&mut self, now: Timestamp) -> Vec<(TopicPartition, OwnershipEpoch)> {
        self.saw(now);
        if self.questions.is_empty() || self.shutdown || self.reader_gone || self.fatal.is_some() {
            return Vec::new();
        }
        let waits = self.questions.keys().filter_map(|key| self.asked(*key)).collect::<Vec<_>>();
        if !waits.is_empty() {
            let partitions: Vec<TopicPartition> = waits.iter().map(|(tp, _)| tp.clone()).collect();
            self.questions_told(&partitions);
        }
        waits
    }

    /// Whether anything waits to be told where it begins.
    pub fn is_asking(&self) -> bool {
        self.questions.keys().any(|key| self.asked(*key).is_some())
    }

    /// Whether one of these still waits; then `waker` is called when that may have changed.
    pub fn is_awaited(&mut self, partitions: &[(TopicPartition, OwnershipEpoch)], waker: &Waker) -> bool {
        self.set_reader_waker(waker);
        if self.shutdown || self.reader_gone || self.fatal.is_some() {
            return false;
        }
        let waits = |(tp, epoch): &(TopicPartition, OwnershipEpoch)| {
            let key = self.index.get(tp).filter(|key| self.questions.contains_key(key));
            key.and_then(|key| self.asked(*key)).is_some_and(|(_, present)| present == *epoch)
        };
        partitions.iter().any(waits)
    }

    /// Nobody has to answer any more.
    pub(super) fn forget_question(&mut self, key: Key) {
        if !self.questions.is_empty() && self.questions.remove(&key).is_some() {
            self.wake_reader();
        }
    }

    fn asked(&self, key: Key) -> Option<(TopicPartition, OwnershipEpoch)> {
        let p = self.partitions.get(&key).filter(|p| p.revoking.is_none())?;
        Some((p.ownership.topic_partition.clone(), p.ownership.epoch))
    }

    /// The reader says where the partition begins. Gives the ownership that this holds for; `None` if it does not
    /// wait (any more), was not told of yet, or is owned under another epoch than `epoch` by now.
    pub fn answer_start(
        &mut self,
        tp: &TopicPartition,
        epoch: Option<OwnershipEpoch>,
    ) -> Option<OwnershipEpoch> {
        let key = *self.index.get(tp)?;
        let told = (*self.questions.get(&key)?).is_some();
        let (_, present) = self.asked(key)?;
        if !told || epoch.is_some_and(|epoch| epoch != present) {
            return None;
        }
        self.questions.remove(&key);
        Some(present)
    }

    /// When the first answer is overdue.
    pub fn question_deadline(&self) -> Option<Timestamp> {
        self.questions.values().copied().flatten().min()
    }

    /// Stops the partitions whose answer is overdue.
    pub fn expire_questions(&mut self, now: Timestamp) {
        if self.question_deadline().is_none_or(|at| now < at) {
            return;
        }
        let mut overdue: Vec<Key> = Vec::new();
        self.questions.retain(|key, at| {
            let late = at.is_some_and(|at| at <= now);
            overdue.extend(late.then_some(*key));
            !late
        });
        for key in overdue {
            let Some((tp, epoch)) = self.asked(key) else { continue };
            let text = format!(
                "nobody said within {:?} where the partition begins: answer Event::Assigned with start_at, or \
                 start_offsets sooner; seek to start it",
                self.config.start_timeout
            );
            let error = Error::new(ErrorKind::NoOffset, text).with_partition(tp.clone());
            self.fail(&tp, epoch, error);
        }
    }
}
