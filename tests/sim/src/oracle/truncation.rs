//! Logs that are cut, and who has to be told of it.

use ottla_core::{Timestamp, TopicPartition};

use super::member::Expect;
use super::{Entry, GhostLog, MemberId, Oracle};

/// The end of a log was taken away.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Where the log ends, or ended, after it.
    pub to: i64,
}

impl GhostLog {
    /// Everything from `to` on is gone.
    pub fn truncate(&mut self, now: Timestamp, to: i64) {
        let index = self.index_of(to);
        let gone = self.entries.split_off(index);
        self.gone.extend(gone.into_iter().map(|entry| (entry, to)));
        self.epochs.retain(|(from, _)| *from < to);
        self.end = to;
        self.ends.push((now, to));
        self.cuts.push(Cut { to });
    }

    /// The cut that took this record away, if it was in the log once: its offset.
    pub fn cut_of(&self, offset: i64, content: u64) -> Option<i64> {
        let found = self.gone.iter().filter(|(e, _)| e.offset == offset && e.content == content);
        found.map(|(_, to)| *to).min()
    }

    /// Whether logs may part here: a cut, or where an epoch begins.
    pub fn parts_at(&self, offset: i64) -> bool {
        self.cuts.iter().any(|cut| cut.to == offset)
            || (!self.cuts.is_empty() && self.epochs.iter().any(|(from, _)| *from == offset))
    }

    /// Whether the log was cut below this offset.
    pub fn was_cut_below(&self, offset: i64) -> bool {
        self.cuts.iter().any(|cut| cut.to < offset)
    }

    /// Whether there is a record from `from` on, below `to`. The leader that cut the log may begin behind a gap: what was
    /// compacted away is no loss.
    pub fn holds_any(&self, from: i64, to: i64) -> bool {
        from < to && self.index_of(from) < self.index_of(to)
    }

    /// Where it was cut.
    pub fn cuts(&self) -> impl Iterator<Item = i64> + '_ {
        self.cuts.iter().map(|cut| cut.to)
    }

    /// Whether this very record is in the log.
    pub fn has(&self, offset: i64, content: u64) -> bool {
        self.get(offset).is_some_and(|entry: &Entry| entry.content == content)
    }
}

impl Oracle {
    /// An unclean election has cut a partition's log.
    pub fn truncated(&mut self, now: Timestamp, tp: &TopicPartition, to: i64) {
        let was = self.log(tp).end;
        self.log(tp).truncate(now, to);
        let mut latest = false;
        for member in &mut self.members {
            latest |= member.traits.latest;
            if let Some(span) = member.spans.get_mut(tp).filter(|span| span.position > to) {
                span.cut = Some(span.cut.map_or(to, |cut| cut.min(to)));
            }
        }
        if let Some(bare) = self.bare.get(tp).copied() {
            self.log(tp).excuse(to, bare);
        }
        if latest {
            // Who begins at the end of the old log has no record before it that it could ask about.
            self.log(tp).excuse(to, was);
        }
    }

    /// The group has committed an offset, and that is all that is known of it, or not. A cut below it is not seen then.
    pub(super) fn is_bare(&mut self, tp: &TopicPartition, offset: i64, bare: bool) {
        if !bare {
            self.bare.remove(tp);
            return;
        }
        self.bare.insert(tp.clone(), offset);
        let log = self.log(tp);
        if let Some(cut) = log.cuts().min() {
            log.excuse(cut, offset);
        }
    }

    /// S13: `Event::OffsetReset` says that the log was cut below `asked`, and that it is read on from `offset`.
    pub(super) fn cut_told(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        (asked, offset): (i64, i64),
    ) {
        let member = &mut self.members[id.0];
        let cut = member.spans.get(tp).and_then(|span| span.cut);
        // What is not done, but still there, is read again.
        let start = member.spans.get(tp).map(|span| span.start);
        member.end_span(now, tp);
        member.expect.insert(tp.clone(), Expect::Reset(offset, now));
        let log = self.log(tp);
        // It may have been the log of a former topic of this name.
        let text = if log.former > 0 {
            return;
        } else if !log.was_cut_below(asked) {
            format!("{id} is told that {tp} was cut below {asked}, which it was not")
        } else if cut.is_some_and(|cut| log.holds_any(cut, offset)) {
            format!("{id} goes on with {tp} at {offset}, beyond the cut at {cut:?}")
        } else if !log.parts_at(offset) && cut != Some(offset) && start.is_none_or(|start| offset < start) {
            format!("{id} goes back with {tp} to {offset}, where no logs part")
        } else {
            return;
        };
        self.fail("S13", text);
    }
}
