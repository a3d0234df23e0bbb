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
    /// Where its high watermark was held for a while.
    pub held: Vec<i64>,
    /// The topic was deleted.
    pub deleted: bool,
    /// Open transactions: by producer, their first offsets.
    open: std::collections::BTreeMap<i64, i64>,
    /// When one of them ended last: what lies behind it may be read since then.
    pub(super) stable_since: Timestamp,
    /// Records that compaction has taken away: offset and content.
    compacted: std::collections::BTreeMap<i64, u64>,
    /// How many topics of this name there were before.
    pub(super) former: u32,
    /// An offset of one of them was committed for this one.
    pub(super) mistaken: bool,
    /// What was in them: offset and content.
    former_entries: std::collections::BTreeSet<(i64, u64)>,
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

    /// A transaction that stays open has written there.
    pub fn transaction_goes_on(&mut self, producer: i64, first: i64) {
        self.open.entry(producer).or_insert(first);
    }

    /// The marker of its end is written.
    pub fn transaction_ended(&mut self, now: Timestamp, producer: i64) {
        if self.open.remove(&producer).is_some() {
            self.stable_since = now;
        }
    }

    /// Compaction has taken these offsets away.
    pub fn compact(&mut self, (first, last): (i64, i64)) {
        let (from, to) = (self.index_of(first), self.index_of(last + 1));
        self.compacted.extend(self.entries.drain(from..to).map(|e| (e.offset, e.content)));
    }

    /// Whether this was here before compaction took it away.
    pub(super) fn was_compacted(&self, offset: i64, content: u64) -> bool {
        self.compacted.get(&offset) == Some(&content)
    }

    /// The last stable offset, if everything is below the high watermark.
    pub fn stable_end(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Another topic has this name from now on.
    pub(super) fn replaced(&mut self, now: Timestamp, former: u32) {
        let old = std::mem::take(self);
        self.born = now;
        self.former = former;
        self.former_entries = old.former_entries;
        self.former_entries.extend(old.entries.iter().map(|e| (e.offset, e.content)));
        self.former_entries.extend(old.compacted);
    }

    /// Whether this was in the log of the topic that had the name before.
    pub(super) fn had(&self, offset: i64, content: u64) -> bool {
        self.former_entries.contains(&(offset, content))
    }

    /// Whether the log began there once, or does.
    pub(super) fn is_begin(&self, offset: i64) -> bool {
        offset == 0 || self.starts.contains(&offset)
    }

    /// Where the log ended at `time`, as whoever asked was told: before what was written at the very moment, or behind
    /// it; or where its watermark was held.
    pub(super) fn ends_about(&self, time: Timestamp) -> Vec<i64> {
        let at = self.ends.partition_point(|(at, _)| *at < time);
        let before = at.checked_sub(1).map_or(0, |i| self.ends[i].1);
        let now = self.ends[at..].iter().take_while(|(at, _)| *at == time).map(|(_, end)| *end);
        let held = self.held.iter().copied();
        now.chain([before]).chain(held).collect()
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
