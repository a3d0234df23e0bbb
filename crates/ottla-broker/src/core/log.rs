//! One partition's log: batches in memory segments, leader epochs, transactions.
//!
//! Bytes are written once, when they are appended. A fetch from a sealed segment is a slice; only the copy into the
//! answer frame remains.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::batch::{self, BatchHeader};

/// Segments are sealed at this size; a fetch that crosses a border costs one copy more.
const SEGMENT: usize = 4 * 1024 * 1024;

#[derive(Debug)]
struct Segment {
    sealed: Option<Bytes>,
    active: BytesMut,
}

impl Segment {
    fn new() -> Self {
        Self { sealed: None, active: BytesMut::new() }
    }

    fn slice(&self, from: usize, to: usize) -> Bytes {
        match &self.sealed {
            Some(bytes) => bytes.slice(from..to),
            None => Bytes::copy_from_slice(&self.active[from..to]),
        }
    }

    fn seal(&mut self) {
        self.sealed = Some(std::mem::take(&mut self.active).freeze());
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) header: BatchHeader,
    segment: u64,
    position: usize,
}

/// An aborted transaction: which producer, from where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
}

#[derive(Debug, Clone)]
struct ProducerState {
    epoch: i16,
    /// Up to five latest batches: first sequence, last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

/// What the log makes of a batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    Next,
    Duplicate(i64),
    OutOfOrder,
    Fenced,
}

#[derive(Debug)]
pub(crate) struct PartitionLog {
    segments: VecDeque<Segment>,
    first_segment: u64,
    entries: VecDeque<Entry>,
    log_start: i64,
    log_end: i64,
    /// Leader epoch and the first offset written under it.
    epochs: Vec<(i32, i64)>,
    producers: BTreeMap<i64, ProducerState>,
    /// Open transactions: producer id to first offset.
    ongoing: BTreeMap<i64, i64>,
    aborted: Vec<Aborted>,
}

impl Default for PartitionLog {
    fn default() -> Self {
        Self {
            segments: VecDeque::from([Segment::new()]),
            first_segment: 0,
            entries: VecDeque::new(),
            log_start: 0,
            log_end: 0,
            epochs: Vec::new(),
            producers: BTreeMap::new(),
            ongoing: BTreeMap::new(),
            aborted: Vec::new(),
        }
    }
}

impl PartitionLog {
    pub(crate) fn start(&self) -> i64 {
        self.log_start
    }

    pub(crate) fn end(&self) -> i64 {
        self.log_end
    }

    /// The first offset of an open transaction, else the high watermark.
    pub(crate) fn last_stable_offset(&self, high_watermark: i64) -> i64 {
        self.ongoing.values().copied().min().map_or(high_watermark, |first| first.min(high_watermark))
    }

    pub(crate) fn aborted_between(&self, from: i64, to: i64) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter().filter(move |t| t.last_offset >= from && t.first_offset < to)
    }

    /// Appends a batch that [`batch::parse`] accepted, at the end of the log.
    pub(crate) fn append(&mut self, header: &BatchHeader, bytes: &[u8], leader_epoch: i32) -> i64 {
        self.append_at(self.log_end, header, bytes, leader_epoch)
    }

    /// Appends a batch at an offset at or beyond the end: gaps are what compaction leaves behind.
    pub(crate) fn append_at(
        &mut self,
        base: i64,
        header: &BatchHeader,
        bytes: &[u8],
        leader_epoch: i32,
    ) -> i64 {
        let length = header.length;
        if self.segments.back().is_none_or(|s| s.sealed.is_some() || s.active.len() + length > SEGMENT) {
            match self.segments.back_mut() {
                // A fresh segment takes a batch of any size.
                Some(last) if last.sealed.is_none() && last.active.is_empty() => {}
                Some(last) => {
                    if last.sealed.is_none() {
                        last.seal();
                    }
                    self.segments.push_back(Segment::new());
                }
                None => self.segments.push_back(Segment::new()),
            }
        }
        let segment = self.first_segment + self.segments.len() as u64 - 1;
        let Some(last) = self.segments.back_mut() else { return base };
        let position = last.active.len();
        last.active.extend_from_slice(&bytes[..length]);
        batch::place(&mut last.active[position..], base, leader_epoch);
        let mut header = *header;
        header.base_offset = base;
        header.leader_epoch = leader_epoch;
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < leader_epoch) {
            self.epochs.push((leader_epoch, base));
        }
        self.log_end = header.last_offset().saturating_add(1);
        self.note_producer(&header, bytes);
        self.entries.push_back(Entry { header, segment, position });
        base
    }

    fn note_producer(&mut self, header: &BatchHeader, bytes: &[u8]) {
        if header.producer_id < 0 {
            return;
        }
        if header.is_control() {
            if let Some(first_offset) = self.ongoing.remove(&header.producer_id)
                && batch::is_abort_marker(bytes)
            {
                let last_offset = header.last_offset();
                self.aborted.push(Aborted { producer_id: header.producer_id, first_offset, last_offset });
            }
            return;
        }
        if header.is_transactional() {
            self.ongoing.entry(header.producer_id).or_insert(header.base_offset);
        }
        if header.base_sequence >= 0 {
            let state = self
                .producers
                .entry(header.producer_id)
                .or_insert_with(|| ProducerState { epoch: header.producer_epoch, batches: VecDeque::new() });
            if state.epoch != header.producer_epoch {
                state.epoch = header.producer_epoch;
                state.batches.clear();
            }
            let last = wrapping_sequence(header.base_sequence, header.last_offset_delta);
            state.batches.push_back((header.base_sequence, last, header.base_offset));
            if state.batches.len() > 5 {
                state.batches.pop_front();
            }
        }
    }

    /// Idempotent producers (KIP-98): a batch must continue the sequence; one of the last five is a duplicate.
    pub(crate) fn check_sequence(&self, header: &BatchHeader) -> Sequence {
        if header.producer_id < 0 || header.base_sequence < 0 || header.is_control() {
            return Sequence::Next;
        }
        let Some(state) = self.producers.get(&header.producer_id) else { return Sequence::Next };
        if header.producer_epoch < state.epoch {
            return Sequence::Fenced;
        }
        if header.producer_epoch > state.epoch {
            return if header.base_sequence == 0 { Sequence::Next } else { Sequence::OutOfOrder };
        }
        let last = wrapping_sequence(header.base_sequence, header.last_offset_delta);
        if let Some((_, _, base)) =
            state.batches.iter().find(|(f, l, _)| *f == header.base_sequence && *l == last)
        {
            return Sequence::Duplicate(*base);
        }
        match state.batches.back() {
            Some((_, last, _)) if wrapping_sequence(*last, 1) != header.base_sequence => Sequence::OutOfOrder,
            _ => Sequence::Next,
        }
    }

    /// The index of the first batch that holds `offset` or comes after it.
    fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.header.last_offset() < offset)
    }

    /// Bytes from the batch that holds `offset` up to batches that end below `end`.
    ///
    /// As Kafka reads: up to `max_bytes`, cut anywhere; the first batch whole when `min_one`; nothing when the first
    /// batch does not fit and `min_one` is not given.
    pub(crate) fn read(&self, offset: i64, end: i64, max_bytes: usize, min_one: bool) -> Bytes {
        let first = self.index_of(offset);
        let Some(entry) = self.entries.get(first).filter(|entry| entry.header.last_offset() < end) else {
            return Bytes::new();
        };
        if entry.header.length > max_bytes && !min_one {
            return Bytes::new();
        }
        let limit = max_bytes.max(entry.header.length);
        // Runs of neighbouring batches: segment, from, to.
        let mut runs: Vec<(u64, usize, usize)> = Vec::new();
        let mut taken = 0;
        for entry in self.entries.iter().skip(first) {
            if taken >= limit || entry.header.last_offset() >= end {
                break;
            }
            let length = entry.header.length.min(limit - taken);
            taken += length;
            match runs.last_mut() {
                // Not where compaction has left a hole.
                Some((segment, _, to)) if (*segment, *to) == (entry.segment, entry.position) => *to += length,
                _ => runs.push((entry.segment, entry.position, entry.position + length)),
            }
        }
        let mut pieces = runs.into_iter().filter_map(|(segment, from, to)| {
            Some(self.segments.get(usize::try_from(segment - self.first_segment).ok()?)?.slice(from, to))
        });
        let Some(head) = pieces.next() else { return Bytes::new() };
        if head.len() == taken {
            return head;
        }
        let mut joined = BytesMut::with_capacity(taken);
        joined.extend_from_slice(&head);
        pieces.for_each(|piece| joined.extend_from_slice(&piece));
        joined.freeze()
    }

    /// Compaction: of the batches with records that end below `until`, those go that `keep` does not want, told by their
    /// first offsets. Gives which offsets those were; the last batch of the log stays.
    pub(crate) fn compact(&mut self, until: i64, mut keep: impl FnMut(i64) -> bool) -> Vec<(i64, i64)> {
        let last = self.entries.back().map(|entry| entry.header.base_offset);
        let mut gone = Vec::new();
        self.entries.retain(|entry| {
            let h = &entry.header;
            let stays = h.is_control() || h.last_offset() >= until || Some(h.base_offset) == last;
            let stays = stays || keep(h.base_offset);
            if !stays {
                gone.push((h.base_offset, h.last_offset()));
            }
            stays
        });
        gone
    }

    /// Whether the batches that a read from `offset` returns hold one of codec `codec`.
    pub(crate) fn holds_codec(&self, offset: i64, end: i64, codec: i16) -> bool {
        self.entries
            .iter()
            .skip(self.index_of(offset))
            .take_while(|entry| entry.header.base_offset < end)
            .any(|entry| entry.header.codec() == codec)
    }

    /// The end offset of an epoch, as OffsetForLeaderEpoch answers: the largest epoch not above the asked one and
    /// where the next one starts; `(-1, -1)` when there is none.
    pub(crate) fn end_of_epoch(&self, asked: i32, current: i32) -> (i32, i64) {
        if asked == current {
            return (current, self.log_end);
        }
        if asked > current || asked < 0 {
            return (-1, -1);
        }
        let index = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        match (index.checked_sub(1).and_then(|i| self.epochs.get(i)), self.epochs.get(index)) {
            (Some((epoch, _)), Some((_, next_start))) => (*epoch, *next_start),
            (Some((epoch, _)), None) => (*epoch, self.log_end),
            // Older than everything that is left: the log starts with a later epoch.
            (None, Some((_, next_start))) => (asked, *next_start),
            // Nothing is left of any epoch, and the present one begins at the end.
            (None, None) => (asked, self.log_end),
        }
    }

    /// The leader epoch of the last record.
    pub(crate) fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(0, |(epoch, _)| *epoch)
    }

    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        let index = self.epochs.partition_point(|(_, start)| *start <= offset);
        index.checked_sub(1).and_then(|i| self.epochs.get(i)).map_or(-1, |(epoch, _)| *epoch)
    }

    /// The first record with a timestamp of at least `target`: its timestamp and offset.
    pub(crate) fn offset_for_time(&self, target: i64, end: i64) -> Option<(i64, i64)> {
        self.entries.iter().filter(|e| e.header.max_timestamp >= target).find_map(|entry| {
            self.times(entry)
                .into_iter()
                .find(|(offset, time)| *time >= target && *offset >= self.log_start && *offset < end)
                .map(|(offset, time)| (time, offset))
        })
    }

    /// The earliest record with the largest timestamp (KIP-734): its timestamp and offset.
    pub(crate) fn max_timestamp(&self) -> Option<(i64, i64)> {
        let max = self.entries.iter().map(|e| e.header.max_timestamp).max()?;
        self.offset_for_time(max, self.log_end)
    }

    /// Offset and timestamp of each record.
    fn times(&self, entry: &Entry) -> Vec<(i64, i64)> {
        let h = &entry.header;
        if h.is_log_append_time() {
            return vec![(h.base_offset, h.max_timestamp)];
        }
        let Some(segment) = self.segments.get((entry.segment - self.first_segment) as usize) else {
            return Vec::new();
        };
        super::records::times(segment.slice(entry.position, entry.position + h.length))
    }

    /// DeleteRecords: moves the log start; batches wholly below it go.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.log_start = self.log_start.max(offset.min(self.log_end));
        while self.entries.front().is_some_and(|e| e.header.last_offset() < self.log_start) {
            self.entries.pop_front();
        }
        let keep =
            self.entries.front().map_or(self.first_segment + self.segments.len() as u64 - 1, |e| e.segment);
        while self.first_segment < keep && self.segments.len() > 1 {
            self.segments.pop_front();
            self.first_segment += 1;
        }
        self.aborted.retain(|t| t.last_offset >= self.log_start);
        let epoch = self.epoch_at(self.log_start);
        self.epochs.retain(|(e, _)| *e >= epoch);
        if let Some(first) = self.epochs.first_mut() {
            first.1 = first.1.max(self.log_start);
        }
    }

    /// Cuts the log so that it ends at `offset`, or at the start of the batch that holds it.
    pub(crate) fn truncate(&mut self, offset: i64) {
        if offset >= self.log_end {
            return;
        }
        let mut end = offset.max(self.log_start);
        while let Some(entry) = self.entries.back() {
            if entry.header.last_offset() < end {
                break;
            }
            end = end.min(entry.header.base_offset);
            self.entries.pop_back();
        }
        self.log_end = end.max(self.log_start);
        // The bytes behind the cut stay in their segment, unreachable; what follows goes to a new one.
        if let Some(last) = self.segments.back_mut() {
            if last.sealed.is_none() {
                last.seal();
            }
            self.segments.push_back(Segment::new());
        }
        self.epochs.retain(|(_, start)| *start < end);
        self.aborted.retain(|t| t.first_offset < end);
        self.ongoing.retain(|_, first| *first < end);
        self.producers.clear();
    }
}

fn wrapping_sequence(sequence: i32, add: i32) -> i32 {
    // Sequences wrap from i32::MAX to 0.
    ((i64::from(sequence) + i64::from(add)) % (i64::from(i32::MAX) + 1)) as i32
}
