//! Records that are handed out.

use std::collections::VecDeque;

use ottla_core::{OwnershipEpoch, Timestamp, TopicPartition};

use super::member::{Expect, Handed, Span};
use super::{MemberId, Oracle};

/// Key, value, headers and timestamp as one number.
pub fn content<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    timestamp: i64,
) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |b| b.len() as u64);
        hash = (hash ^ length).wrapping_mul(0x0100_0000_01b3);
        for byte in bytes.unwrap_or_default() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    mix(key);
    mix(value);
    for (name, value) in headers {
        mix(Some(name));
        mix(value);
    }
    mix(Some(&timestamp.to_le_bytes()));
    hash
}

impl Oracle {
    /// Records were given to the user of `id`: offset, content and leader epoch of each, under which ownership, and what
    /// comes next; `number` tells them from others.
    pub fn handed(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        (epoch, next): (OwnershipEpoch, i64),
        (number, high_watermark): (u64, i64),
        records: &[(i64, u64, i32)],
    ) {
        let tp = tp.clone();
        let Some((first, content, _)) = records.first().copied() else { return };
        let log = self.log(&tp);
        // What was fetched of a topic that was made anew since is nobody else's.
        let of_former = !log.has(first, content) && log.had(first, content);
        self.check_ownership(now, id, &tp, of_former);
        self.check_subscription(now, id, &tp);
        if self.members[id.0].behind.is_some_and(|behind| epoch <= behind) {
            let text = format!("{id} was given a record of {tp} by an ownership of before it joined anew");
            self.fail("S7", text);
        }
        let member = &self.members[id.0];
        let read_committed = member.traits.read_committed;
        let counts = !member.traits.by_hand;
        let same = member.spans.get(&tp).is_some_and(|s| s.epoch == epoch);
        // A seek begins a new ownership, and so does losing the partition and getting it back, which ends the pause:
        // only who reads events is told which of them it was.
        let sought = member.traits.events && member.expect.get(&tp).is_some_and(|e| e.is_chosen());
        if member.paused.contains(&tp) && (same || sought) {
            self.fail("S14", format!("{id} was given a record of {tp}, which is paused"));
        }
        // A pause ends with the ownership.
        self.members[id.0].paused.remove(&tp);
        self.members[id.0].perhaps_paused.remove(&tp);
        if self.members[id.0].spans.get(&tp).is_none_or(|s| s.epoch != epoch) {
            self.begin_span(now, id, &tp, epoch, (first, content));
        }
        let Some(position) = self.members[id.0].spans.get(&tp).map(|s| s.position) else { return };
        let mut expected = position;
        let of = self.members[id.0].spans.get(&tp).map_or(0, |span| span.of);
        if of < self.log(&tp).former {
            return self.handed_of_former(now, id, &tp, (number, next), records);
        }
        for (offset, content, told) in records.iter().copied() {
            if offset < expected {
                self.fail("S2", format!("{id} was given {tp} {offset} after {expected} was next"));
            }
            let log = self.log(&tp);
            if !log.has(offset, content)
                && let Some(cut) = log.cut_of(offset, content)
            {
                // It was fetched before an unclean election took it away.
                if let Some(span) = self.members[id.0].spans.get_mut(&tp) {
                    span.cut = Some(span.cut.map_or(cut, |before| before.min(cut)));
                }
                expected = offset + 1;
                continue;
            }
            if self.log(&tp).was_compacted(offset, content) {
                // It was fetched before.
                expected = offset + 1;
                continue;
            }
            let cut = self.members[id.0].spans.get(&tp).and_then(|span| span.cut);
            if let Some(cut) = cut.filter(|cut| *cut <= offset) {
                let text = format!("{id} was given {tp} {offset}, and not told of the cut at {cut}");
                self.fail("S13", text);
            }
            let log = self.log(&tp);
            if let Some(skipped) = log.visible_in(expected, offset, read_committed) {
                self.fail("S3", format!("{id} was given {tp} {offset} next, but {skipped} was not given"));
            }
            let log = self.log(&tp);
            match log.get_mut(offset) {
                None => self.fail("S1", format!("{id} was given {tp} {offset}, which was never written")),
                Some(entry) => {
                    entry.delivered |= counts;
                    let (known, at) = (entry.content, entry.epoch);
                    let aborted = entry.kind == super::Kind::Aborted;
                    if known != content {
                        self.fail("S1", format!("{id} was given {tp} {offset} with other content"));
                    }
                    if told != at {
                        self.fail("S1", format!("{id} was given {tp} {offset} of epoch {told}, not {at}"));
                    }
                    if aborted && read_committed {
                        self.fail("S5", format!("{id} was given {tp} {offset}, which was aborted"));
                    }
                }
            }
            let stable = self.log(&tp).stable_end();
            if read_committed && offset >= stable {
                let text = format!("{id} was given {tp} {offset}, the last stable offset is {stable}");
                self.fail("S5", text);
            }
            if offset >= high_watermark {
                let text = format!("{id} was given {tp} {offset}, the high watermark is {high_watermark}");
                self.fail("S5", text);
            }
            expected = offset + 1;
        }
        let cut = self.members[id.0].spans.get(&tp).is_some_and(|span| span.cut.is_some());
        if let Some(skipped) = self.log(&tp).visible_in(expected, next, read_committed)
            && !cut
        {
            self.fail("S3", format!("{id}'s batch of {tp} ends at {next} and leaves {skipped} out"));
        }
        self.was_given(now, id, &tp, (number, next), records.len() as u64);
    }

    /// Records of a topic that is no more, which were on their way; or of the one that has its name now, and nobody has
    /// told.
    fn handed_of_former(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        (number, next): (u64, i64),
        records: &[(i64, u64, i32)],
    ) {
        let log = self.log(tp);
        let strange = records.iter().find(|(offset, content, _)| !log.had(*offset, *content));
        if let Some((offset, content, _)) = strange.copied() {
            let text = if log.has(offset, content) {
                format!("{id} was given {tp} {offset} of another topic of this name, and not told")
            } else {
                format!("{id} was given {tp} {offset}, which was in no topic of this name")
            };
            self.fail("S13", text);
        }
        self.was_given(now, id, tp, (number, next), records.len() as u64);
    }

    fn was_given(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        (number, next): (u64, i64),
        count: u64,
    ) {
        self.given += count;
        let member = &mut self.members[id.0];
        member.given += count;
        if let Some(span) = member.spans.get_mut(tp) {
            let from = span.batches.back().map_or(span.position, |b| b.to);
            span.batches.push_back(Handed {
                from,
                to: next,
                number,
                returned: false,
                dropped: false,
                marked: false,
            });
            span.position = next;
            span.last = now;
        }
    }

    /// S6 and S7: records are given only to the owner.
    fn check_ownership(&mut self, now: Timestamp, id: MemberId, tp: &TopicPartition, of_former: bool) {
        let member = &self.members[id.0];
        if member.traits.events {
            match member.owned.get(tp) {
                None => {
                    return self
                        .fail("S6", format!("{id} was given a record of {tp}, which it does not own"));
                }
                Some(owned) if owned.revoking => {
                    return self.fail("S6", format!("{id} was given a record of {tp} after it was revoked"));
                }
                Some(_) => {}
            }
        }
        if member.traits.by_hand || of_former {
            return;
        }
        let Some(&owner) = self.owners.get(tp).filter(|owner| **owner != id.0) else { return };
        // Another one owns it by the coordinator's word: only who was put out may not know yet.
        match member.out_since {
            None if self.turns.in_haste().is_some_and(|since| now <= since + member.traits.session) => {}
            None => self.fail("S7", format!("{id} was given a record of {tp}, which m{owner} owns")),
            Some(since) if now > since + member.traits.session => {
                let ago = now.since(since).as_millis();
                self.fail(
                    "S7",
                    format!("{id}, put out {ago} ms ago, was given a record of {tp}, which m{owner} owns"),
                );
            }
            Some(_) => {}
        }
    }

    /// The first record of a row: it must be the first one behind where the row may begin.
    fn begin_span(
        &mut self,
        now: Timestamp,
        id: MemberId,
        tp: &TopicPartition,
        epoch: OwnershipEpoch,
        (first, content): (i64, u64),
    ) {
        let log = self.log(tp);
        let now_of = log.former;
        // What was on its way when the topic went may have been of an ownership that nobody had read of.
        let of = if !log.has(first, content) && log.had(first, content) { now_of - 1 } else { now_of };
        let member = &mut self.members[id.0];
        let traits = member.traits;
        let before = member.spans.get(tp).map(|s| (s.position, s.last));
        let recreated = member.spans.get(tp).is_some_and(|s| s.of < now_of);
        let expect = member.expect.remove(tp);
        let born = member.born;
        if before.is_some() && expect.is_none() && traits.events {
            self.fail("S14", format!("{id} reads {tp} under a new ownership, and nobody has told why"));
        }
        self.members[id.0].end_span(now, tp);
        // Without events nobody tells when it was assigned: after the last record of before, at the earliest.
        let expect = expect.unwrap_or(Expect::Committed(before.map_or(born, |(_, last)| last)));
        let since = expect.since();
        let mut starts = self.starts(id, expect, tp, traits.latest);
        if !traits.events {
            // A reset is not told either: records that were deleted meanwhile, or an ownership that came and went.
            let more = self.starts(id, Expect::Committed(since), tp, traits.latest);
            starts.extend(more);
            starts.extend(before.map(|(position, _)| position));
            starts.extend(recreated.then_some(0));
        }
        if traits.latest {
            starts.extend(self.told_ends(id, tp, since));
        }
        let log = self.log(tp);
        let fits =
            |start: &i64| *start <= first && log.visible_in(*start, first, traits.read_committed).is_none();
        let fitting = starts.iter().copied().filter(fits).max();
        let start = if of < now_of { Some(first) } else { fitting };
        let moved = expect.is_chosen();
        if !moved && of == now_of {
            self.takes_over(now, id, tp, first);
        }
        if start.is_none() {
            let text =
                format!("{id} begins to read {tp} at {first}; it may begin at {starts:?} ({expect:?})");
            self.fail("S4", text);
        }
        let start = start.unwrap_or(first);
        // Who begins at the end leaves out what lies before it.
        if traits.latest && !traits.by_hand && self.told_ends(id, tp, since).contains(&start) {
            self.log(tp).excuse(0, start);
        }
        let (batches, contig, position, last) = (VecDeque::new(), start, start, now);
        let span = Span { epoch, start, position, batches, contig, last, moved, cut: None, of };
        self.members[id.0].spans.insert(tp.clone(), span);
    }

    /// What a member has been told of where a partition ends, when it asked at `since` or later.
    fn told_ends(&self, id: MemberId, tp: &TopicPartition, since: Timestamp) -> Vec<i64> {
        let Some(log) = self.logs.get(tp) else { return Vec::new() };
        let asked = self.ends_asked.get(&(id.0, tp.clone())).map_or(&[][..], |asked| asked);
        let asked = asked.iter().filter(|at| **at >= since);
        asked.flat_map(|at| log.ends_about(*at)).collect()
    }

    /// Whether the policy may have chosen this offset for a member that asked for it at `since` or later.
    pub(super) fn is_reset(&self, id: MemberId, tp: &TopicPartition, offset: i64, since: Timestamp) -> bool {
        let begins = self.logs.get(tp).is_none_or(|log| log.is_begin(offset));
        begins || self.members[id.0].traits.latest && self.told_ends(id, tp, since).contains(&offset)
    }

    /// Where a row of records may begin.
    pub(super) fn starts(&self, id: MemberId, expect: Expect, tp: &TopicPartition, latest: bool) -> Vec<i64> {
        let Some(log) = self.logs.get(tp) else { return vec![0] };
        let mut starts = Vec::new();
        match expect {
            Expect::At(offset, _) => starts.push(offset),
            Expect::Reset(offset, _) => starts.push(offset),
            Expect::Beginning(_) => starts.push(0),
            Expect::End(since) => {
                // Anywhere between the end of then and the end of now: what came meanwhile may be left out.
                starts.extend(log.ends_since(since));
                starts.extend(log.entries.iter().filter(|e| e.at >= since).map(|e| e.offset));
                starts.push(log.end);
            }
            Expect::Committed(since) => {
                let known = self.committed_of(id).get(tp).map_or(&[][..], |c| c);
                let index = known.partition_point(|(at, _)| *at <= since);
                if index == 0 && !latest {
                    starts.push(0);
                }
                if index == 0 && latest && log.born > Timestamp::ZERO {
                    starts.push(0);
                }
                starts.extend(known[index.saturating_sub(1)..].iter().map(|(_, offset)| *offset));
                // Without events nobody tells of a cut.
                starts.extend(log.cuts());
            }
        }
        starts
    }
}
