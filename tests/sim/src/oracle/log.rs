//! The ghost of a partition's log: what was produced, offset by offset.

use ottla_core::Timestamp;

/// What lies at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A record that everybody may see.
    Data,
    /// A record of an aborted transaction.
    Aborted,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where.
    pub offset: i64,
    /// What.
    pub kind: Kind,
    /// Key, value, headers and timestamp.
    pub content: u64,
    /// The leader epoch under which it was written.
    pub epoch: i32,
    /// When it was written.
    pub at: Timestamp,
    /// Somebody was given it.
    pub delivered: bool,
    /// Somebody finished with it.
    pub acked: bool,
}

/// One partition's log.
#[derive(Debug, Default)]
pub struct GhostLog {
    /// In the order of offsets; offsets without a record are not here.
    pub entries: Vec<Entry>,
    /// The first offset that was not deleted.
    pub start: i64,
    /// Behind the last offset.
    pub end: i64,
    /// Under which leader epoch it was written, control records and all: from where on.
    pub(super) epochs: Vec<(i64, i32)>,
    /// When the end was where: for positions at the end.
    pub(super) ends: Vec<(Timestamp, i64)>,
    /// Records that a cut has taken away, with where that was.
    pub(super) gone: Vec<(Entry, i64)>,
    pub(super) cuts: Vec<super::truncation::Cut>,
    /// Where the log has begun.
    pub starts: Vec<i64>,
    /// When the partition came to be.
    pub born: Timestamp,
    /// The topic was deleted.
    pub deleted: bool,
    /// Ranges that users have passed over of their own will, or by `latest`.
    excused: Vec<(i64, i64)>,
}

impl GhostLog {
    /// Something was appended at `first` under this leader epoch: these entries, and the log ends at `end` now.
    pub fn append(
        &mut self,
        now: Timestamp,
        (first, epoch): (i64, i32),
        entries: impl IntoIterator<Item = Entry>,
        end: i64,
    ) {
        self.entries.extend(entries);
        if self.epochs.last().is_none_or(|(_, last)| *last != epoch) {
            self.epochs.push((first, epoch));
        }
        self.end = self.end.max(end);
        self.ends.push((now, self.end));
    }

    /// Where the log ended at `time`.
    pub fn end_at(&self, time: Timestamp) -> i64 {
        let index = self.ends.partition_point(|(at, _)| *at <= time);
        index.checked_sub(1).map_or(0, |i| self.ends[i].1)
    }

    /// Where the log has ended since then.
    pub fn ends_since(&self, time: Timestamp) -> impl Iterator<Item = i64> + '_ {
        let index = self.ends.partition_point(|(at, _)| *at <= time);
        std::iter::once(self.end_at(time)).chain(self.ends[index..].iter().map(|(_, end)| *end))
    }

    /// The oldest records are deleted.
    pub fn delete_below(&mut self, offset: i64) {
        self.start = offset;
        self.starts.push(offset);
    }

    /// Whether the reset policy may have chosen this offset.
    pub fn is_reset(&self, offset: i64, latest: bool) -> bool {
        let end = || offset == 0 || self.ends.iter().any(|(_, end)| *end == offset);
        if latest { end() } else { offset == 0 || self.starts.contains(&offset) }
    }

    pub(super) fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|e| e.offset < offset)
    }

    /// The record at `offset`.
    pub fn get(&self, offset: i64) -> Option<&Entry> {
        let index = self.index_of(offset);
        self.entries.get(index).filter(|e| e.offset == offset)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, offset: i64) -> Option<&mut Entry> {
        let index = self.index_of(offset);
        self.entries.get_mut(index).filter(|e| e.offset == offset)
    }

    /// The first record that must be seen in `from..to`: not control, not compacted, not deleted meanwhile.
    pub fn visible_in(&self, from: i64, to: i64, read_committed: bool) -> Option<i64> {
        let from = from.max(self.start);
        self.entries[self.index_of(from)..]
            .iter()
            .take_while(|e| e.offset < to)
            .find(|e| !(read_committed && e.kind == Kind::Aborted))
            .map(|e| e.offset)
    }

    /// The leader epoch under which what lies right before `offset` was written, be it a record or not.
    pub fn epoch_before(&self, offset: i64) -> Option<i32> {
        let index = self.epochs.partition_point(|(from, _)| *from < offset);
        index.checked_sub(1).map(|i| self.epochs[i].1)
    }

    /// The leader epoch of the next record at or behind `offset` that everybody is given.
    pub fn epoch_next_to(&self, offset: i64) -> Option<i32> {
        let visible = self.visible_in(offset, i64::MAX, true)?;
        self.get(visible).map(|entry| entry.epoch)
    }

    /// The leader epoch of the newest that was written.
    pub fn last_epoch(&self) -> Option<i32> {
        self.epochs.last().map(|(_, epoch)| *epoch)
    }

    /// Records in this range were passed over legally.
    pub fn excuse(&mut self, from: i64, to: i64) {
        if from < to {
            self.excused.push((from, to));
        }
    }

    /// Everything in `from..to` is finished with.
    pub fn ack(&mut self, from: i64, to: i64) {
        let index = self.index_of(from);
        for entry in self.entries[index..].iter_mut().take_while(|e| e.offset < to) {
            entry.acked |= entry.delivered;
        }
    }

    /// A record that nobody has finished with although somebody should have.
    pub fn missing(&self, read_committed: bool) -> Option<&Entry> {
        if self.deleted {
            return None;
        }
        self.entries[self.index_of(self.start)..]
            .iter()
            .filter(|e| !(e.acked || read_committed && e.kind == Kind::Aborted))
            .find(|e| !self.excused.iter().any(|(from, to)| (*from..*to).contains(&e.offset)))
    }
}
