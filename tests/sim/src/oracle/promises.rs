//! What a client owes beyond each single step: a commit that it says is done is done, what is done gets committed, a
//! partition changes hands without a record given twice, who leaves has left, and a group comes to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_broker::Api;
use ottla_broker::sim::Cluster;
use ottla_core::{Error, ErrorKind, Timestamp, TopicPartition};

use super::member::Expect;
use super::{GROUP, MemberId, Oracle, is_settled};

/// So long after the last thing that went wrong nothing of it is left.
const AFTERMATH: Duration = Duration::from_secs(3);

/// So long a request takes while all is well.
const ON_ITS_WAY: Duration = Duration::from_millis(10);

/// So long it may take until a record is given to somebody who waits for it: a long poll, and what follows an error.
const PATIENCE: Duration = Duration::from_secs(3);

/// So long something that went wrong may have an effect: throttled requests, requests that are not answered.
const LEFTOVERS: Duration = Duration::from_secs(20);

/// So long a request may take to be answered or to have timed out, with another one behind it.
const TIMEOUTS: Duration = Duration::from_secs(9);

/// So long a commit may be on its way while something goes wrong: a client that stands still, until its requests have
/// timed out.
const LAST_TRY: Duration = Duration::from_secs(30);

/// A partition that was given back in order, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handover {
    pub(super) from: usize,
    /// Below this it was done. None while its owner is about to finish.
    pub(super) done: Option<i64>,
}

/// Before KIP-394 (JoinGroup 4) a member that joins is one at once, and learns its id from the answer: while that is
/// not there it has nothing to leave with.
fn is_joining_without_id(cluster: &Cluster, name: &str, now: Timestamp) -> bool {
    let last =
        cluster.requests().rev().find(|r| r.api == Api::JoinGroup && r.client_id.as_deref() == Some(name));
    last.is_some_and(|join| {
        let on_its_way = |at: Duration| now < Timestamp::ZERO + at + ON_ITS_WAY;
        join.version < 4 && join.member_id.as_deref() == Some("") && join.answered_at.is_none_or(on_its_way)
    })
}

impl Oracle {
    /// It is so late.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Something goes wrong, until then.
    pub fn disturbed(&mut self, until: Timestamp) {
        self.disturbed_until = self.disturbed_until.max(until);
        match self.disturbances.last_mut() {
            Some((_, to)) if self.now <= *to + AFTERMATH => *to = (*to).max(until),
            _ => self.disturbances.push((self.now, until)),
        }
    }

    /// Something troubles one member, or everybody, until then.
    pub fn troubled(&mut self, whom: Option<MemberId>, until: Timestamp) {
        let troubled = match whom.and_then(|id| self.members.get_mut(id.0)) {
            Some(member) => &mut member.troubled_until,
            None => &mut self.troubled_until,
        };
        *troubled = (*troubled).max(until);
    }

    /// Whether nothing was wrong then, nor shortly before, nor shortly after.
    fn was_quiet_then(&self, at: Timestamp) -> bool {
        let later = self.disturbances.iter().rev().take_while(|(_, to)| *to + AFTERMATH > at);
        !later.into_iter().any(|(from, _)| *from <= at + ON_ITS_WAY)
    }

    /// Whether nothing has gone wrong for a while before `at`, nor since.
    pub(super) fn was_quiet(&self, at: Timestamp) -> bool {
        self.disturbed_until + AFTERMATH <= at
    }

    /// Whether a commit may still come of a row that ended then: it was on its way.
    pub(super) fn may_be_under_way(&self, ended: Timestamp) -> bool {
        let for_so_long = if self.was_quiet_then(ended) { ON_ITS_WAY } else { LAST_TRY };
        self.now < ended + for_so_long
    }

    /// The user subscribes to these topics, or to all that there are.
    pub fn subscribed(&mut self, now: Timestamp, id: MemberId, topics: Option<&[String]>) {
        self.members[id.0].subscribed = topics.map(|topics| (now, topics.to_vec()));
    }

    /// S6: nobody is given for long what it does not subscribe to any more.
    pub(super) fn check_subscription(&mut self, now: Timestamp, id: MemberId, tp: &TopicPartition) {
        let member = &self.members[id.0];
        let Some((since, topics)) = member.subscribed.as_ref().filter(|_| !member.traits.by_hand) else {
            return;
        };
        let calm = self.troubled_until.max(member.troubled_until).max(*since) + TIMEOUTS + PATIENCE;
        if now > calm && !topics.iter().any(|topic| topic == tp.topic()) {
            let text =
                format!("{id} was given a record of {tp}, and subscribes to {topics:?} since {since:?}");
            self.fail("S6", text);
        }
    }

    /// L4: the user waits for records, and some that it should have been given have been there for a while.
    pub fn waits(&mut self, now: Timestamp, id: MemberId) {
        let member = &self.members[id.0];
        // A request may have to time out first.
        let calm = self.troubled_until.max(member.troubled_until) + TIMEOUTS + PATIENCE;
        let told = member.traits.events || member.traits.by_hand;
        // Who is told nothing may hold on to what is being taken back, until its time for that is over.
        let patience = if told { PATIENCE } else { TIMEOUTS };
        if now < (member.drained + patience).max(calm) {
            return;
        }
        let read_committed = member.traits.read_committed;
        // Who is told nothing may have begun anew where the group was.
        let group = |tp: &TopicPartition| {
            self.committed.get(tp).and_then(|c| c.last()).map_or(0, |(_, offset)| *offset)
        };
        let starved = self.given(id).into_iter().find_map(|tp| {
            let log = self.logs.get(&tp).filter(|log| !log.deleted)?;
            let end = if read_committed { log.stable_end() } else { log.end };
            let from = match member.spans.get(&tp) {
                // Who reads another topic of this name yet is told so in time, or S15 says that it was not.
                Some(span) if span.of < log.former => return None,
                Some(span) if told => span.position,
                Some(span) => span.position.max(group(&tp)),
                // As far ahead as it may begin; where it looks at the end nobody else can tell where that was.
                None => {
                    let expect = member.expect.get(&tp).filter(|e| now > e.since() + TIMEOUTS + PATIENCE)?;
                    let latest = member.traits.latest || matches!(expect, Expect::End(_));
                    self.starts(id, *expect, &tp, latest).into_iter().max().filter(|_| !latest)?
                }
            };
            let offset = log.visible_in(from, end, read_committed)?;
            let at = log.get(offset)?.at.max(log.stable_since);
            (at + patience < now).then(|| format!("{id} waits, and {tp} {offset} is there since {at:?}"))
        });
        if let Some(text) = starved {
            self.fail("L4", text);
        }
    }

    /// What a member has and does not pause: by what its user was told, or by the group's word if nobody tells it.
    fn given(&self, id: MemberId) -> Vec<TopicPartition> {
        let member = &self.members[id.0];
        let told = member.traits.events || member.traits.by_hand;
        let owned = member.owned.iter().filter(|(_, owned)| told && !owned.revoking).map(|(tp, _)| tp);
        // Nobody has anything by the word of a group whose members are still called to join: L1 bounds how long that is.
        let settled = self.group.is_some_and(|(state, ..)| is_settled(state));
        let rested = settled && self.now > self.rebalanced_at + TIMEOUTS + PATIENCE;
        let by_word = self
            .owners
            .iter()
            .filter(|(tp, owner)| !told && rested && **owner == id.0 && member.spans.contains_key(*tp));
        let all = owned.chain(by_word.map(|(tp, _)| tp));
        let paused = |tp: &TopicPartition| member.paused.contains(tp) || member.perhaps_paused.contains(tp);
        all.filter(|tp| !paused(tp)).cloned().collect()
    }

    /// The client says that it has committed this.
    /// It was asked `at`.
    pub fn told_committed(&mut self, at: Timestamp, id: MemberId, tp: &TopicPartition, offset: i64) {
        let most = self
            .committed_of(id)
            .get(tp)
            .and_then(|c| c.iter().map(|(_, offset)| *offset).max())
            .unwrap_or(-1);
        // A rewind that is sent along with it takes its place. What was committed of a former topic went with it.
        let beside = |told: Option<Timestamp>| told.is_none_or(|told| told >= at);
        let rewound = self.members[id.0].rewound.iter().any(|r| r.tp == *tp && beside(r.told));
        let reborn = self.logs.get(tp).is_some_and(|log| log.former > 0);
        if most < offset && !rewound && !reborn {
            let text =
                format!("{id} says that it has committed {tp} at {offset}, the coordinator has taken {most}");
            self.fail("S15", text);
        }
    }

    /// The client says that this is committed; it was asked `at`.
    pub fn told_offset(&mut self, at: Timestamp, id: MemberId, tp: &TopicPartition, told: Option<i64>) {
        if self.logs.get(tp).is_none_or(|log| log.deleted || log.former > 0) {
            return;
        }
        let known = self.committed_of(id).get(tp).map_or(&[][..], |c| c);
        let before = known.partition_point(|(since, _)| *since <= at);
        let since = &known[before.saturating_sub(1)..];
        let fits = match told {
            None => before == 0,
            Some(told) => since.iter().any(|(_, offset)| *offset == told),
        };
        if !fits {
            self.fail("S15", format!("{id} says that {told:?} is committed of {tp}, not one of {since:?}"));
        }
    }

    /// E1: what the user is told went wrong.
    pub fn told_error(&mut self, now: Timestamp, id: MemberId, error: &Error, is_static: bool) {
        // A static member may be too young for its brokers, or have a twin.
        let refusal = matches!(error.kind(), ErrorKind::Authorization | ErrorKind::Limit | ErrorKind::Fenced);
        let cause = if error.is_fatal() {
            self.damaged
                || self.refuses && refusal
                || is_static && matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Fenced)
        } else {
            match error.kind() {
                ErrorKind::Corrupt | ErrorKind::Unsupported => self.damaged,
                _ => true,
            }
        };
        if !cause {
            self.fail("E1", format!("{id} is told at {now:?}, and there is no reason: {error}"));
        }
    }

    /// From now on brokers may refuse somebody for good.
    pub fn refuses(&mut self) {
        self.refuses = true;
    }

    /// From now on what comes from brokers may be nonsense.
    pub fn damages(&mut self) {
        self.damaged = true;
    }

    /// Something that is done and that its owner has not committed, though that is the client's business.
    pub fn uncommitted(&self) -> Option<String> {
        self.owners.iter().find_map(|(tp, owner)| {
            let member = self.members.get(*owner).filter(|m| m.alive && m.traits.auto)?;
            let span = member.spans.get(tp).filter(|s| s.contig > s.start)?;
            let log = self.logs.get(tp).filter(|l| !l.deleted && l.former == span.of)?;
            let committed = self.committed.get(tp).and_then(|c| c.last()).map_or(0, |(_, offset)| *offset);
            let behind = log.visible_in(committed, span.contig, member.traits.read_committed)?;
            Some(format!("m{owner} is done with {tp} up to {}, {behind} is not committed", span.contig))
        })
    }

    /// When the group was rebalanced last.
    pub fn last_rebalance(&self) -> Timestamp {
        self.rebalanced_at
    }

    /// A partition is about to be given back in order.
    pub(super) fn gives_back(&mut self, id: MemberId, tp: &TopicPartition) {
        let former = self.logs.get(tp).map_or(0, |log| log.former);
        let member = &self.members[id.0];
        if member.traits.auto && member.spans.get(tp).is_none_or(|span| span.of == former) {
            self.handovers.insert(tp.clone(), Handover { from: id.0, done: None });
        }
    }

    /// S7: the leader gives nobody a partition that its owner has not given back.
    pub(super) fn check_handovers(&mut self, now: Timestamp, owners: &BTreeMap<TopicPartition, usize>) {
        if !self.was_quiet(now) {
            return;
        }
        let taken = owners.iter().find_map(|(tp, new)| {
            let old = *self.last_owners.get(tp).filter(|old| *old != new)?;
            let member = &self.members[old];
            let holds = member.owned.get(tp).is_some_and(|owned| !owned.given_back);
            (member.alive && member.out_since.is_none() && holds).then_some((tp, *new, old))
        });
        if let Some((tp, new, old)) = taken {
            self.fail("S7", format!("the group gives {tp} to m{new}, which m{old} has not given back"));
        }
    }

    /// A member has closed, and nothing went wrong: what it has done is committed, and it is no member any more.
    pub fn left_well(&mut self, now: Timestamp, id: MemberId, cluster: &Cluster, is_static: bool) {
        let member = &self.members[id.0];
        if member.traits.auto && !member.traits.by_hand {
            let from = id.0;
            let told = |tp: &TopicPartition| member.owned.get(tp).is_some_and(|owned| !owned.revoking);
            let present = |tp| self.logs.get(tp).map_or(0, |log| log.former);
            let rows = member
                .spans
                .iter()
                .filter(|(tp, s)| member.traits.events && told(tp) && s.of == present(*tp));
            let rows: Vec<_> =
                rows.map(|(tp, s)| (tp.clone(), Handover { from, done: Some(s.contig) })).collect();
            self.handovers.extend(rows);
        }
        let name = format!("m{}", id.0);
        let group = cluster.group(GROUP).filter(|_| !is_static && self.was_quiet(now));
        let member = group.and_then(|g| g.members.into_iter().find(|m| m.client_id == name));
        if member.is_some() && !is_joining_without_id(cluster, &name, now) {
            self.fail("L2", format!("{id} has closed and is still a member"));
        }
    }

    /// S15: a new owner begins to read where the one before, who gave the partition back in order, was done.
    pub(super) fn takes_over(&mut self, now: Timestamp, id: MemberId, tp: &TopicPartition, first: i64) {
        if self.members[id.0].traits.by_hand {
            return;
        }
        let Some(Handover { from, done }) = self.handovers.remove(tp).filter(|h| h.from != id.0) else {
            return;
        };
        let before = &self.members[from];
        let Some(done) = done.or_else(|| before.spans.get(tp).map(|s| s.contig)) else { return };
        let again = self.logs.get(tp).and_then(|l| l.visible_in(first, done, before.traits.read_committed));
        // A commit that was not answered stands in the way of those behind it until it has timed out.
        let hurt = before.hurt.is_some_and(|at| now < at + LEFTOVERS);
        if let Some(again) = again.filter(|_| !hurt && self.was_quiet(now - Duration::from_secs(2))) {
            let text = format!("{id} is given {tp} {again}, which m{from} had done when it gave it back");
            self.fail("S15", text);
        }
    }
}
