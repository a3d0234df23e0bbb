//! What is done at random, and what is checked after each step.

use super::super::support;
use super::*;

pub(super) struct World {
    rng: Rng,
    rig: Rig,
    /// Reads single records.
    reader: RecordReader,
    auto: bool,
    logs: Vec<Log>,
    spans: Vec<Option<Span>>,
    held: Vec<Held>,
    /// What is being decoded ahead.
    jobs: Vec<DecodeJob>,
    /// Offsets of the last read, which is not come back from.
    last_read: Vec<(usize, OwnershipEpoch, Vec<i64>)>,
    /// Read, come back from, and maybe still held.
    returned: Vec<(usize, OwnershipEpoch, Vec<i64>)>,
    /// What the coordinator holds.
    coordinator: BTreeMap<usize, i64>,
    /// Per partition: since the last seek or assignment that goes back, the coordinator never does.
    may_go_back: BTreeSet<usize>,
    revocation: Option<(RevocationId, usize)>,
    pub(super) seen: usize,
    pub(super) decoded: usize,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let read_committed = rng.below(2) == 0;
        let auto_mode = rng.below(2) == 0;
        let base = if read_committed { support::read_committed() } else { auto() };
        let config = DeliveryConfig {
            commit: if auto_mode { base.commit } else { manual().commit },
            max_buffered_bytes: BUDGET,
            decode_ahead_bytes: if rng.below(2) == 0 { BUDGET / 4 } else { 0 },
            max_batch_records: 1 + rng.below(30) as usize,
            max_unmarked: 5 + rng.below(100) as usize,
            ..base
        };
        let logs = (0..PARTITIONS).map(|_| Log::new(&mut rng, read_committed)).collect();
        Self {
            rig: Rig::new(config),
            rng,
            reader: RecordReader::new(),
            auto: auto_mode,
            logs,
            spans: (0..PARTITIONS).map(|_| None).collect(),
            held: Vec::new(),
            jobs: Vec::new(),
            last_read: Vec::new(),
            returned: Vec::new(),
            coordinator: BTreeMap::new(),
            may_go_back: BTreeSet::new(),
            revocation: None,
            seen: 0,
            decoded: 0,
        }
    }

    fn pick(&mut self) -> usize {
        self.rng.below(PARTITIONS as u64) as usize
    }

    pub(super) fn step(&mut self) {
        self.rig.pass(Duration::from_millis(self.rng.below(50)));
        let p = self.pick();
        match self.rng.below(36) {
            0 | 1 => self.assign(p),
            2..=6 => self.fetch(p),
            7..=10 => self.read(),
            11 | 12 => self.read_interrupted(),
            13 | 14 => self.drop_held(),
            15 | 16 => self.mark(),
            17 | 18 => self.commit_token(),
            19 | 20 => self.background_commit(),
            21 => self.pause_or_resume(p),
            22 => self.seek(p),
            23 => self.revoke(p),
            24 => self.lose(p),
            25..=30 => self.read_records(),
            31..=34 => self.decode_ahead(),
            _ => self.disturb(p),
        }
        self.drive_revocation();
        self.check();
    }

    fn span(&mut self, p: usize) -> Option<&mut Span> {
        self.spans[p].as_mut()
    }

    fn assign(&mut self, p: usize) {
        if self.spans[p].is_some() {
            return;
        }
        let offset = self.coordinator.get(&p).copied();
        let cause = match offset {
            Some(_) => StartCause::Committed { metadata: None },
            None => StartCause::Reset,
        };
        let start = offset.unwrap_or(0);
        let epoch = self.rig.own_by(p as i32, start, cause);
        self.new_span(p, epoch, start, offset);
    }

    fn new_span(&mut self, p: usize, epoch: OwnershipEpoch, start: i64, committed: Option<i64>) {
        let paused = self.rig.lock().is_paused(&tp(p as i32));
        self.spans[p] = Some(Span {
            epoch,
            position: start,
            start,
            delivered: BTreeSet::new(),
            done: BTreeSet::new(),
            committed,
            paused,
            revoking: false,
            marks: false,
        });
    }

    /// A driver that keeps to the budget: it fetches only while there is room.
    fn fetch(&mut self, p: usize) {
        let position = self.rig.lock().fetch_position(&tp(p as i32));
        let Some(position) = position else { return };
        if self.rig.lock().room() == 0 {
            if self.rng.below(2) == 0 {
                self.rig.lock().evict_paused(1000);
            }
            return;
        }
        let records = self.logs[p].fetch(position.offset, &mut self.rng);
        let end = self.logs[p].end;
        let fetched = Fetched {
            tp: tp(p as i32),
            epoch: position.epoch,
            fetch_offset: position.offset,
            leader_epoch: None,
            charge: Some(self.rig.shared.charge(records.len())),
            records,
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: 0,
            aborted: self.logs[p].aborted.clone(),
        };
        let pushed = self.rig.lock().push(self.rig.now, fetched);
        match pushed {
            Pushed::Accepted { next_fetch_offset } => assert!(next_fetch_offset > position.offset),
            Pushed::Empty => assert_eq!(position.offset, end),
            other => panic!("{other:?}"),
        }
    }

    /// A job begins, ends, or comes to nothing.
    fn decode_ahead(&mut self) {
        match self.rng.below(5) {
            0 | 1 => self.jobs.extend(self.rig.shared.next_decode_job()),
            _ if self.jobs.is_empty() => {}
            end => {
                let job = self.jobs.swap_remove(self.rng.below(self.jobs.len() as u64) as usize);
                if end > 2 {
                    self.decoded += 1;
                    job.run(&mut BatchDecoder::new());
                }
            }
        }
    }

    fn read(&mut self) {
        let max_records = 1 + self.rng.below(20) as usize;
        if self.rng.below(10) > 0 {
            self.rig.shared.give_back(&mut self.reader);
        }
        let taken = self.rig.take_with(Filter { max_records, ..Filter::BATCHES }, None);
        self.returned.append(&mut self.last_read);
        match taken {
            Taken::Batch(batch) => self.got(batch, max_records),
            other => assert!(matches!(other, Taken::Pending), "{other:?}"),
        }
    }

    /// Single records, some with the lock and some without.
    fn read_records(&mut self) {
        for _ in 0..1 + self.rng.below(6) {
            let Rig { shared, decoder, now, .. } = &mut self.rig;
            let taken = shared.take_record(|| *now, decoder, &mut self.reader, None);
            self.returned.append(&mut self.last_read);
            match taken {
                Taken::Record(record) => self.got_record(record),
                Taken::Pending => return,
                other => panic!("{other:?}"),
            }
            if self.rng.below(3) == 0 {
                self.drop_held();
            }
        }
    }

    fn got_record(&mut self, record: Record) {
        let (p, offset) = (record.partition() as usize, record.offset());
        let next = self.spans[p].as_ref().and_then(|span| self.logs[p].next_visible(span.position));
        assert_eq!(Some(offset), next, "S2, S3: the next record");
        let value = record.value().unwrap();
        assert!(value == offset.to_be_bytes() || value == [0; 40], "the record's own bytes");
        // A clone counts as the record itself.
        let hand = Hand::Record(if self.rng.below(2) == 0 { record.clone() } else { record });
        self.note(p, vec![offset], 1, hand);
    }

    /// A read in its three steps, with something that happens on another thread while it decodes.
    fn read_interrupted(&mut self) {
        let limit = 1 + self.rng.below(20) as usize;
        self.rig.shared.give_back(&mut self.reader);
        let Some(key) = self.rig.lock().next_ready() else { return };
        let unmarked = self.rig.lock().config.max_unmarked;
        let room = self.rig.lock().partitions[&key].unmarked_room(unmarked);
        let limit = limit.min(self.rig.shared.config.max_batch_records).min(room);
        let checkout = self.rig.lock().check_out(&self.rig.shared, key, limit);
        let Some(mut checkout) = checkout else { return };
        let p = self.pick();
        match self.rng.below(9) {
            0 => self.pause_or_resume(p),
            1 => self.seek(p),
            2 => self.revoke(p),
            3 => self.lose(p),
            4 => self.disturb(p),
            5 => self.fetch(p),
            6 => self.mark(),
            7 => self.decode_ahead(),
            _ => self.background_commit(),
        }
        checkout.decode(&mut self.rig.decoder);
        let taken = self.rig.lock().finish_take(self.rig.now, &mut checkout, None);
        drop(checkout);
        if let Some(Taken::Batch(batch)) = taken {
            self.got(batch, limit);
        }
    }

    fn got(&mut self, batch: Batch, max_records: usize) {
        let p = batch.partition() as usize;
        let got = offsets(&batch);
        self.note(p, got, max_records, Hand::Batch(batch));
    }

    fn note(&mut self, p: usize, got: Vec<i64>, max_records: usize, hand: Hand) {
        self.seen += got.len();
        let log = &self.logs[p];
        let span = self.spans[p].as_mut().expect("S6: not owned");
        assert!(!span.revoking && !span.paused, "S6, S14: revoking or paused");
        assert!(got.len() <= max_records);
        for offset in &got {
            assert_eq!(Some(*offset), log.next_visible(span.position), "S2, S3: the next record");
            span.position = offset + 1;
            span.delivered.insert(*offset);
        }
        assert!(hand.is_owned());
        let epoch = span.epoch;
        assert_eq!(hand.token(0).map(|token| token.ownership_epoch()), Some(epoch));
        self.last_read.push((p, epoch, got.clone()));
        self.held.push(Held { partition: p, epoch, offsets: got, hand });
    }

    fn drop_held(&mut self) {
        if !self.held.is_empty() {
            let at = self.rng.below(self.held.len() as u64) as usize;
            self.held.swap_remove(at);
        }
    }

    /// In auto mode: returned and not held is done.
    fn count_done(&mut self) {
        if !self.auto {
            return;
        }
        let held: BTreeSet<(usize, OwnershipEpoch, i64)> =
            self.held.iter().flat_map(|h| h.offsets.iter().map(|o| (h.partition, h.epoch, *o))).collect();
        for (p, epoch, offsets) in &self.returned {
            let Some(span) = self.spans[*p].as_mut().filter(|s| s.epoch == *epoch) else { continue };
            span.done.extend(offsets.iter().filter(|o| !held.contains(&(*p, *epoch, **o))));
        }
    }

    fn any_record(&mut self) -> Option<(usize, OwnershipEpoch, i64, CommitToken)> {
        let len = self.held.len() as u64;
        if len == 0 {
            return None;
        }
        let at = self.rng.below(len) as usize;
        let held = &self.held[at];
        let nth = self.rng.below(held.offsets.len() as u64) as usize;
        let token = held.hand.token(nth)?;
        Some((held.partition, held.epoch, held.offsets[nth], token))
    }

    fn mark(&mut self) {
        let Some((p, epoch, offset, token)) = self.any_record() else { return };
        token.mark();
        if let Some(span) = self.span(p).filter(|s| s.epoch == epoch) {
            span.done.insert(offset);
            span.marks = true;
        }
    }

    fn commit_token(&mut self) {
        let Some((p, epoch, offset, token)) = self.any_record() else { return };
        // What is done beyond it may go along.
        self.count_done();
        let result = self.rig.check(&token);
        let Some(span) = self.spans[p].as_mut().filter(|s| s.epoch == epoch) else {
            assert!(matches!(result, Err(CommitError::NotOwned)), "S10: {result:?}");
            return;
        };
        span.done.extend(span.delivered.range(..=offset).copied().collect::<Vec<_>>());
        match result.unwrap() {
            Some(entry) => self.coordinate(entry),
            None => assert!(span.committed.is_some_and(|c| c > offset), "unsent means committed"),
        }
    }

    fn background_commit(&mut self) {
        self.count_done();
        let entries = self.rig.lock().committable(CommitScope::All);
        for entry in entries {
            self.coordinate(entry);
        }
    }

    /// The coordinator takes a commit; every one of them is checked.
    fn coordinate(&mut self, entry: CommitEntry) {
        let p = entry.tp.partition() as usize;
        let span = self.spans[p].as_mut().expect("S10: only owned partitions");
        assert_eq!(entry.epoch, span.epoch, "S10: never an offset of an earlier span");
        let contiguous = span.contiguous(&self.logs[p]);
        assert!(entry.offset <= contiguous, "S8: {} commits past {contiguous}", entry.offset);
        let before = self.coordinator.insert(p, entry.offset);
        if !self.may_go_back.remove(&p) {
            assert!(before.is_none_or(|b| b <= entry.offset), "S11: {before:?} then {}", entry.offset);
        }
        span.committed = Some(entry.offset);
        self.rig.commit(&entry);
    }

    fn commit_delivered(&mut self) {
        for span in self.spans.iter_mut().flatten() {
            span.done.extend(&span.delivered);
        }
        let entries = self.rig.lock().delivered(self.rig.now);
        for entry in entries {
            self.coordinate(entry);
        }
    }

    fn pause_or_resume(&mut self, p: usize) {
        let partitions = [tp(p as i32)];
        if self.rng.below(2) == 0 {
            self.rig.lock().pause(&partitions);
        } else {
            self.rig.lock().resume(self.rig.now, &partitions);
        }
        let paused = self.rig.lock().is_paused(&tp(p as i32));
        if let Some(span) = self.span(p) {
            span.paused = paused;
        }
    }

    fn seek(&mut self, p: usize) {
        if self.spans[p].as_ref().is_none_or(|s| s.revoking) {
            return;
        }
        let to = self.rng.below(self.logs[p].end as u64) as i64;
        let epoch = self.rig.seek(p as i32, to);
        self.new_span(p, epoch, to, None);
        self.may_go_back.insert(p);
    }

    fn revoke(&mut self, p: usize) {
        if self.revocation.is_some() || self.spans[p].is_none() {
            return;
        }
        self.revocation = Some((self.rig.revoke(p as i32), p));
        if let Some(span) = self.span(p) {
            span.revoking = true;
        }
    }

    fn drive_revocation(&mut self) {
        let Some((id, p)) = self.revocation else { return };
        if self.rng.below(40) == 0 {
            self.rig.pass(Duration::from_secs(60));
        }
        self.count_done();
        let Some(revoked) = self.rig.poll_revocation() else { return };
        if let Some(span) = self.spans[p].as_ref().filter(|s| s.revoking) {
            let in_hand = self.last_read.iter().filter(|_| self.auto).map(|(q, e, o)| (*q, *e, o));
            let held = self.held.iter().map(|h| (h.partition, h.epoch, &h.offsets));
            let undone = held.chain(in_hand).any(|(q, epoch, offsets)| {
                q == p && epoch == span.epoch && offsets.iter().any(|o| !span.done.contains(o))
            });
            assert_eq!(undone, revoked.timed_out, "held until done, no longer");
        }
        for entry in revoked.commits {
            self.coordinate(entry);
        }
        self.rig.lock().end_revocation(self.rig.now, id);
        if self.spans[p].as_ref().is_some_and(|s| s.revoking) {
            self.spans[p] = None;
        }
        self.revocation = None;
    }

    fn lose(&mut self, p: usize) {
        if self.rng.below(3) == 0 {
            self.rig.lock().lose(self.rig.now, &[tp(p as i32)]);
            self.spans[p] = None;
        }
    }

    /// What a broker or a late answer may do to us.
    fn disturb(&mut self, p: usize) {
        let Some(span) = self.spans[p].as_ref() else { return };
        let epoch = span.epoch;
        match self.rng.below(3) {
            0 => drop(self.rig.lock().drop_prefetch(&tp(p as i32), epoch)),
            1 => {
                let late = Fetched { fetch_offset: 3, ..self.rig.fetched(p as i32, data(3, 5)) };
                let next = self.rig.lock().fetch_offset(&tp(p as i32), epoch);
                if next != Some(3) {
                    assert_eq!(self.rig.lock().push(self.rig.now, late), Pushed::Stale);
                }
            }
            _ => {
                let late = Fetched { epoch: OwnershipEpoch(0), ..self.rig.fetched(p as i32, data(3, 5)) };
                assert_eq!(self.rig.lock().push(self.rig.now, late), Pushed::Stale);
            }
        }
    }

    fn check(&mut self) {
        assert!(self.rig.buffered() <= BUDGET + OVERSHOOT, "R1: {}", self.rig.buffered());
        for p in 0..PARTITIONS {
            let owned = self.rig.lock().ownership(&tp(p as i32));
            assert_eq!(owned, self.spans[p].as_ref().map(|s| s.epoch));
            let Some(span) = &self.spans[p] else { continue };
            let position = self.rig.position(p as i32).unwrap();
            // S14: between the two there is nothing that could be returned.
            let next = self.logs[p].next_visible(span.position);
            assert!(position >= span.position && next.is_none_or(|next| position <= next), "S14");
        }
        for held in &self.held {
            let current = self.spans[held.partition].as_ref().is_some_and(|s| s.epoch == held.epoch);
            assert_eq!(held.hand.is_owned(), current, "S6");
        }
    }

    /// Everything heals: whatever is owned is read to its end, done, and committed.
    pub(super) fn drain(&mut self) {
        while self.revocation.is_some() {
            self.rig.pass(Duration::from_secs(60));
            self.drive_revocation();
        }
        for p in 0..PARTITIONS {
            self.assign(p);
            self.rig.lock().resume(self.rig.now, &[tp(p as i32)]);
            if let Some(span) = self.span(p) {
                span.paused = false;
            }
        }
        for _ in 0..5000 {
            for held in std::mem::take(&mut self.held) {
                for nth in 0..held.offsets.len() {
                    held.hand.token(nth).unwrap().mark();
                }
                if let Some(span) = self.span(held.partition).filter(|s| s.epoch == held.epoch) {
                    span.done.extend(&held.offsets);
                }
            }
            if !self.auto {
                // What was dropped without a mark would hold up delivery at `max_unmarked` for ever.
                self.commit_delivered();
            }
            for p in 0..PARTITIONS {
                self.fetch(p);
            }
            self.decode_ahead();
            if self.rng.below(2) == 0 {
                self.read();
            } else {
                self.read_records();
            }
            let at_end = |p: usize| self.rig.position(p as i32) == Some(self.logs[p].end);
            if self.held.is_empty() && (0..PARTITIONS).all(at_end) {
                break;
            }
        }
        self.held.clear();
        self.jobs.clear();
        self.read();
        for p in 0..PARTITIONS {
            let end = self.logs[p].end;
            assert_eq!(self.rig.position(p as i32), Some(end), "L1: read to the end");
        }
        assert_eq!(self.rig.buffered(), 0);
        self.count_done();
        if self.auto {
            self.background_commit();
        } else {
            self.commit_delivered();
        }
        for p in 0..PARTITIONS {
            assert_eq!(self.coordinator.get(&p), Some(&self.logs[p].end), "S15: everything is committed");
        }
        assert_eq!(self.rig.pinned(), 0);
    }
}
