//! What users do and are told.

use std::collections::BTreeSet;

use ottla_core::delivery::ResetCause;
use ottla_core::{OwnershipEpoch, Timestamp, TopicPartition};

use super::member::{Expect, GhostMember, Owned, Past, Rewind};
use super::{MemberId, Oracle};

impl Oracle {
    /// `Event::Assigned` was read.
    pub fn assigned(&mut self, now: Timestamp, id: MemberId, partitions: &[TopicPartition]) {
        for tp in partitions {
            let member = &mut self.members[id.0];
            let before = member.owned.insert(tp.clone(), Owned::default());
            member.end_span(now, tp);
            // The event may have waited for its reader: the position was looked up when the group said so, after
            // the reader had last found nothing.
            let since = member.drained;
            // The user may have sought it before it read that it is there.
            if !member.expect.get(tp).is_some_and(|e| e.is_chosen()) {
                member.expect.insert(tp.clone(), Expect::Committed(since));
            }
            if before.is_some_and(|o| !o.revoking) {
                self.fail("S6", format!("{id} is told that {tp} is assigned, which it owns already"));
            }
        }
        self.doubt_pauses(id);
    }

    /// A pause comes back with a partition that was taken and is in the next assignment. Which one that is depends on
    /// when the revocation ended: with it, what is taken or given beside it may be told before or after.
    fn doubt_pauses(&mut self, id: MemberId) {
        let GhostMember { paused, perhaps_paused, owned, .. } = &mut self.members[id.0];
        let (stay, perhaps): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(paused)
            .into_iter()
            .partition(|tp| owned.get(tp).is_some_and(|owned| !owned.revoking));
        *paused = stay;
        perhaps_paused.extend(perhaps);
    }

    /// The user chose what it reads, and where it begins. Everything else is given up.
    pub fn assigned_by_hand(
        &mut self,
        now: Timestamp,
        id: MemberId,
        partitions: &[(TopicPartition, Sought)],
    ) {
        self.gave_up(id, &[]);
        for (tp, at) in partitions {
            let member = &mut self.members[id.0];
            member.owned.insert(tp.clone(), Owned::default());
            member.expect.insert(tp.clone(), at.expected(now));
        }
    }

    /// A row ends without a record: offsets without a record in front of the first one may have been committed.
    fn end_expected(&mut self, id: MemberId, tp: &TopicPartition) {
        let Some(expect) = self.members[id.0].expect.remove(tp) else { return };
        let starts = self.starts(id, expect, tp, self.members[id.0].traits.latest);
        let moved = expect.is_chosen();
        let ended = self.now;
        let of = self.log(tp).former;
        let past = starts.into_iter().map(|start| Past { start, contig: start, moved, ended, of });
        self.members[id.0].past.entry(tp.clone()).or_default().extend(past);
    }

    /// The user read, and there was nothing.
    pub fn found_nothing(&mut self, now: Timestamp, id: MemberId) {
        self.members[id.0].drained = now;
    }

    /// A static member takes the place of another.
    pub fn replaced(&mut self, old: MemberId, new: MemberId) {
        let owners = self.owners.values_mut().chain(self.last_owners.values_mut());
        owners.filter(|owner| **owner == old.0).for_each(|owner| *owner = new.0);
        self.watched = Some(new.0);
    }

    /// The user has finished giving these back.
    pub fn gives_up(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        for tp in partitions {
            if let Some(owned) = self.members[id.0].owned.get_mut(tp) {
                owned.given_back = true;
            }
        }
    }

    /// `Event::Revoking` was read.
    pub fn revoking(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        self.doubt_pauses(id);
        for tp in partitions {
            match self.members[id.0].owned.get_mut(tp) {
                Some(owned) => {
                    owned.revoking = true;
                    self.end_expected(id, tp);
                    self.gives_back(id, tp);
                }
                None => self.fail("S6", format!("{id} is told that {tp} is revoked, which it does not own")),
            }
        }
    }

    /// `Event::Lost` was read.
    pub fn lost(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        for tp in partitions {
            self.end_expected(id, tp);
            self.handovers.remove(tp);
            let (now, member) = (self.now, &mut self.members[id.0]);
            member.end_span(now, tp);
            member.owned.remove(tp);
            // Only what was revoked, and comes back at once, is still paused.
            member.paused.remove(tp);
        }
    }

    /// The user gave everything up but what it `kept`, and that is done.
    pub fn gave_up(&mut self, id: MemberId, kept: &[TopicPartition]) {
        let open: Vec<TopicPartition> =
            self.members[id.0].expect.keys().filter(|tp| !kept.contains(tp)).cloned().collect();
        open.iter().for_each(|tp| self.end_expected(id, tp));
        let (now, member) = (self.now, &mut self.members[id.0]);
        let all: Vec<TopicPartition> = member.spans.keys().filter(|tp| !kept.contains(tp)).cloned().collect();
        all.iter().for_each(|tp| member.end_span(now, tp));
        member.owned.retain(|tp, _| kept.contains(tp));
        member.expect.retain(|tp, _| kept.contains(tp));
        member.paused.retain(|tp| kept.contains(tp));
    }

    /// `Event::OffsetReset` was read.
    pub fn reset(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        offset: i64,
        cause: ResetCause,
    ) {
        self.resets += 1;
        if let ResetCause::LogTruncation { offset: asked } = cause {
            return self.cut_told(now, id, tp, (asked, offset));
        }
        let member = &mut self.members[id.0];
        let since = member.expect.get(tp).map_or(member.born, |e| e.since());
        member.expect.insert(tp.clone(), Expect::Reset(offset, now));
        let latest = member.traits.latest;
        let (position, last) = member.spans.get(tp).map_or((None, since), |s| (Some(s.position), s.last));
        member.end_span(now, tp);
        let never_committed =
            self.committed_of(id).get(tp).is_none_or(|c| c.first().is_none_or(|(at, _)| *at > since));
        let log = self.log(tp);
        match cause {
            // All that the new one holds came after what was read of the former one.
            ResetCause::TopicRecreated => {
                if log.former == 0 {
                    let text = format!("{id} is told that {tp} is of another topic now, which it is not");
                    self.fail("S12", text);
                } else if offset > log.start {
                    let text =
                        format!("{id} begins with the new {tp} at {offset}, the log is at {}", log.start);
                    self.fail("S4", text);
                }
                return;
            }
            ResetCause::NoCommittedOffset if !never_committed => {
                self.fail(
                    "S12",
                    format!("{id} resets {tp} for want of a committed offset, but there was one"),
                );
            }
            ResetCause::OutOfRange { offset: asked }
                if asked >= log.start && log.ends_since(last).all(|end| asked <= end) =>
            {
                let text = format!(
                    "{id} resets {tp}: {asked} is out of range, but the log is {}..{}",
                    log.start, log.end
                );
                self.fail("S12", text);
            }
            _ => {}
        }
        let log = self.log(tp);
        let first = log.start;
        if latest {
            if !self.is_reset(id, tp, offset, Timestamp::ZERO) {
                let text = format!("{id} resets {tp} to the end at {offset}, which is not the end");
                self.fail("S4", text);
            }
            if !self.members[id.0].traits.by_hand {
                self.log(tp).excuse(position.unwrap_or(0), offset);
            }
        } else if offset > first {
            let text = format!("{id} resets {tp} to the beginning at {offset}, which is at {first}");
            self.fail("S4", text);
        }
    }

    /// The user moves the position.
    pub fn sought(&mut self, now: Timestamp, id: MemberId, tp: &TopicPartition, to: Sought) {
        self.end_expected(id, tp);
        let former = self.log(tp).former;
        let member = &mut self.members[id.0];
        // What was handed out and is not done is given up as well. Nothing is done yet of a topic that was made anew.
        let done = member.spans.get(tp).filter(|s| s.of == former).map(|s| s.contig);
        member.end_span(now, tp);
        member.expect.insert(tp.clone(), to.expected(now));
        // What lies between is passed over because the user wants it so.
        let end = match to {
            Sought::At(offset) => offset,
            Sought::End => i64::MAX,
            Sought::Beginning | Sought::Committed => return,
        };
        if !self.members[id.0].traits.by_hand {
            self.log(tp).excuse(done.unwrap_or(0).min(end), end);
        }
    }

    /// The user pauses or resumes.
    pub fn paused(&mut self, id: MemberId, tp: &TopicPartition, yes: bool) {
        let GhostMember { paused, perhaps_paused, owned, spans, traits, .. } = &mut self.members[id.0];
        perhaps_paused.remove(tp);
        if !yes {
            paused.remove(tp);
            return;
        }
        // Of what is being revoked nothing comes anyway; what it is yet to be told of may be paused already. Who reads
        // no events knows only what it reads.
        let owns = owned.get(tp).is_none_or(|owned| !owned.revoking);
        if if traits.events || traits.by_hand { owns } else { spans.contains_key(tp) } {
            paused.insert(tp.clone());
        }
    }

    /// A partition that is not owned any more is not paused either, unless it comes back at once.
    pub fn forget_pauses(&mut self, id: MemberId) {
        self.members[id.0].paused.clear();
        self.members[id.0].perhaps_paused.clear();
    }

    /// The user comes back for more: of all partitions, or of one that it reads on its own.
    pub fn came_back(&mut self, id: MemberId, of: Option<&TopicPartition>) {
        let Self { members, logs, .. } = self;
        let member = &mut members[id.0];
        let auto = member.traits.auto;
        member.owned.values_mut().filter(|owned| owned.revoking).for_each(|owned| owned.given_back = true);
        for (tp, span) in member.spans.iter_mut().filter(|(tp, _)| of.is_none_or(|of| of == *tp)) {
            let mut changed = false;
            for batch in span.batches.iter_mut().rev() {
                if batch.returned {
                    break;
                }
                batch.returned = true;
                changed = true;
                if auto
                    && batch.dropped
                    && !member.traits.by_hand
                    && let Some(log) = logs.get_mut(tp)
                {
                    log.ack(batch.from, batch.to);
                }
            }
            if changed {
                span.grow(auto);
            }
        }
    }

    /// The user let go of a batch: with automatic commits it is finished with it once it came back, too.
    pub fn dropped(&mut self, id: MemberId, tp: &TopicPartition, number: u64, range: (i64, i64)) {
        let Self { members, logs, .. } = self;
        let member = &mut members[id.0];
        let auto = member.traits.auto;
        let mut returned = true;
        if let Some(span) = member.spans.get_mut(tp)
            && let Some(batch) = span.batches.iter_mut().find(|b| b.number == number)
        {
            batch.dropped = true;
            returned = batch.returned;
            span.grow(auto);
        }
        if auto
            && returned
            && !member.traits.by_hand
            && let Some(log) = logs.get_mut(tp)
        {
            log.ack(range.0, range.1);
        }
    }

    /// The user acknowledges one batch, and nothing else.
    pub fn marked(&mut self, id: MemberId, tp: &TopicPartition, number: u64, range: (i64, i64)) {
        let Self { members, logs, .. } = self;
        let member = &mut members[id.0];
        if let Some(span) = member.spans.get_mut(tp)
            && let Some(batch) = span.batches.iter_mut().find(|b| b.number == number)
        {
            batch.marked = true;
            span.grow(member.traits.auto);
        }
        if let Some(log) = logs.get_mut(tp).filter(|_| !member.traits.by_hand) {
            log.ack(range.0, range.1);
        }
    }

    /// The user commits everything of the partition below `offset`.
    pub fn commits_to(&mut self, id: MemberId, tp: &TopicPartition, offset: i64) {
        let Self { members, logs, .. } = self;
        let member = &mut members[id.0];
        if let Some(span) = member.spans.get_mut(tp) {
            let from = span.start;
            span.contig = span.contig.max(offset);
            span.grow(member.traits.auto);
            if let Some(log) = logs.get_mut(tp).filter(|_| !member.traits.by_hand) {
                log.ack(from, offset);
            }
        }
    }

    /// The user says that everything it was given is done: up to there.
    pub fn all_done(&mut self, id: MemberId) -> Vec<(TopicPartition, i64)> {
        // While something goes wrong an ownership may have changed that the user has not read of yet.
        let quiet = self.was_quiet(self.now);
        let Self { members, logs, .. } = self;
        let by_hand = members[id.0].traits.by_hand;
        let mut delivered = Vec::new();
        for (tp, span) in &mut members[id.0].spans {
            span.contig = span.contig.max(span.position);
            span.batches.clear();
            if let Some(log) = logs.get_mut(tp).filter(|_| !by_hand) {
                log.ack(span.start, span.position);
            }
            if quiet {
                delivered.push((tp.clone(), span.position));
            }
        }
        delivered
    }

    /// The user commits an offset that lies below what is committed, and means it.
    pub fn rewinds_to(&mut self, id: MemberId, tp: &TopicPartition, offset: i64) {
        self.members[id.0].rewound.push(Rewind { tp: tp.clone(), offset, told: None });
    }

    /// The client has told what became of it.
    pub fn rewind_told(&mut self, id: MemberId, tp: &TopicPartition, offset: i64) {
        let now = self.now;
        let mut rewinds = self.members[id.0].rewound.iter_mut();
        if let Some(rewind) = rewinds.find(|r| r.tp == *tp && r.offset == offset && r.told.is_none()) {
            rewind.told = Some(now);
        }
    }

    /// S14: where the client says that the next record lies.
    pub fn position(&mut self, id: MemberId, tp: &TopicPartition, epoch: OwnershipEpoch, position: i64) {
        let member = &self.members[id.0];
        let read_committed = member.traits.read_committed;
        // A position of an ownership that the user has not read of says nothing about this row.
        let row = member.spans.get(tp).filter(|s| s.epoch == epoch);
        let Some((known, of)) = row.map(|s| (s.position, s.of)) else { return };
        let log = self.log(tp);
        if of < log.former {
            return;
        }
        let skipped = log.visible_in(known, position, read_committed);
        if position < known || skipped.is_some() {
            self.fail(
                "S14",
                format!("{id} says that {tp} is at {position}, but the user was given all below {known}"),
            );
        }
    }

    /// The offset behind the last record that the user was given in this row.
    pub fn known_position(&self, id: MemberId, tp: &TopicPartition) -> Option<i64> {
        self.members[id.0].spans.get(tp).map(|s| s.position)
    }
}

/// Where a user seeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// An offset.
    At(i64),
    /// The oldest record.
    Beginning,
    /// Behind the newest record.
    End,
    /// What the group has committed.
    Committed,
}

impl Sought {
    fn expected(self, now: Timestamp) -> Expect {
        match self {
            Self::At(offset) => Expect::At(offset, now),
            Self::Beginning => Expect::Beginning(now),
            Self::End => Expect::End(now),
            Self::Committed => Expect::Committed(now),
        }
    }
}
