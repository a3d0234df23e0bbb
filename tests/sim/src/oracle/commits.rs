//! Commits that the coordinator took.

use ottla_broker::Commit;
use ottla_broker::sim::Cluster;
use ottla_core::{Timestamp, TopicPartition};

use super::member::Expect;
use super::{GROUP, GhostLog, MemberId, Oracle};

/// The group of a member that assigns by hand.
pub fn group_of_hand(id: usize) -> String {
    format!("h{id}")
}

fn hand_of(group: &str) -> Option<usize> {
    group.strip_prefix('h')?.parse().ok()
}

impl Oracle {
    pub(super) fn observe_commits(&mut self, now: Timestamp, cluster: &Cluster) {
        let commits = cluster.commits();
        if commits.len() == self.seen_commits {
            return;
        }
        let news: Vec<Commit> = commits[self.seen_commits..].to_vec();
        self.seen_commits = commits.len();
        // Members are known by what the coordinator says of the group. A static one may take the place of another.
        self.look_again = news.iter().any(|c| !self.ids.contains_key(&c.member_id));
        self.observe_group(now, cluster);
        for commit in &news {
            let by_hand = hand_of(&commit.group);
            if commit.group != GROUP && by_hand.is_none() {
                continue;
            }
            self.commits += 1;
            let tp = TopicPartition::new(commit.topic.as_str(), commit.partition);
            match by_hand.or_else(|| self.ids.get(&commit.member_id).copied()) {
                Some(id) => {
                    let epoch = cluster.leader(tp.topic(), tp.partition()).ok().map(|(_, epoch)| epoch);
                    let told = (commit.committed.offset, commit.committed.leader_epoch);
                    self.check_commit(MemberId(id), &tp, told, epoch);
                }
                None => self.fail("S10", format!("{:?} commits {tp}", commit.member_id)),
            }
            let offset = commit.committed.offset;
            if by_hand.is_none() {
                self.is_bare(&tp, offset, commit.committed.leader_epoch < 0);
            }
            let committed = match by_hand.and_then(|id| self.members.get_mut(id)) {
                Some(member) => &mut member.committed,
                None => &mut self.committed,
            };
            committed.entry(tp).or_default().push((now, offset));
        }
    }

    /// `epoch` is the commit's, `leader_epoch` the partition's.
    pub(super) fn check_commit(
        &mut self,
        id: MemberId,
        tp: &TopicPartition,
        (offset, epoch): (i64, i32),
        leader_epoch: Option<i32>,
    ) {
        let member = &self.members[id.0];
        // The present row, or one that has ended while the commit was on its way.
        let present = member.spans.get(tp).map(|s| (s.start, s.contig, s.moved));
        let member_position = member.spans.get(tp).map(|s| s.position);
        let past = member.past.get(tp).into_iter().flatten();
        let past = past.filter(|p| self.may_be_under_way(p.ended));
        // Before offsets are committed by topic id one of a former topic of this name may be taken for the new one's.
        let former = self.logs.get(tp).map_or(0, |log| log.former);
        let holds = |start: i64, contig: i64| start <= offset && offset <= contig;
        let of_former = former > 0
            && (member.spans.get(tp).is_some_and(|s| s.of < former && holds(s.start, s.position))
                || past.clone().any(|p| p.of < former && holds(p.start, p.contig)));
        let past = past.map(|p| (p.start, p.contig, p.moved));
        let mut rows: Vec<(i64, i64, bool)> = present.into_iter().chain(past).collect();
        // A row without a record yet: offsets without a record in front of the first one are done.
        let expect = member.expect.get(tp).copied().unwrap_or(Expect::Committed(member.born));
        let starts = self.starts(id, expect, tp, member.traits.latest);
        rows.extend(starts.into_iter().map(|start| (start, start, expect.is_chosen())));
        let log = self.logs.get(tp);
        let read_committed = member.traits.read_committed;
        // Offsets without a record behind done ones are done.
        let reaches = |contig: i64| {
            offset <= contig || log.is_none_or(|l| l.visible_in(contig, offset, read_committed).is_none())
        };
        let before = self.committed_of(id).get(tp).and_then(|c| c.last()).map_or(-1, |(_, offset)| *offset);
        // A position that the policy chose is committed at once, before its event is read.
        // So is one of a user who is, or has sought, where the log begins no more.
        let fell_off = |l: &GhostLog| {
            let present = member.spans.get(tp).map(|s| s.position);
            let sought = match expect {
                Expect::At(at, _) => Some(at),
                _ => None,
            };
            present.into_iter().chain(sought).any(|at| at < l.start)
        };
        let is_reset = self.is_reset(id, tp, offset, Timestamp::ZERO);
        // Who learns late that the topic is another one begins it anew, whatever others have done meanwhile.
        let is_anew = former > 0 && self.logs.get(tp).is_some_and(|log| log.is_begin(offset));
        let is_start =
            is_anew || is_reset && (before < 0 || log.is_some_and(|l| before < l.start || fell_off(l)));
        // So is the place where the logs part.
        let is_cut = log.is_some_and(|l| l.was_cut_below(before) && l.parts_at(offset));
        let ever_cut = log.is_some_and(|l| l.cuts().next().is_some());
        let latest = member.traits.latest;
        // Whoever comes next begins here, whatever was done before.
        let gone_back = offset < before && !member.traits.by_hand;
        // What was told to have failed may have been on its way.
        let under_way = |told: Option<Timestamp>| told.is_none_or(|at| self.may_be_under_way(at));
        let rewound = member.rewound.iter().any(|r| r.tp == *tp && r.offset == offset && under_way(r.told));
        let done = rows.iter().any(|(start, contig, _)| *start <= offset && reaches(*contig));
        if (is_start && latest || of_former) && !member.traits.by_hand {
            self.log(tp).excuse(0, offset);
        }
        if of_former {
            self.handovers.remove(tp);
            self.log(tp).mistaken = true;
            return;
        }
        let mistaken = former > 0 && std::mem::take(&mut self.log(tp).mistaken);
        if !rewound && !is_start && !is_cut && !done {
            let owns = self.owners.get(tp) == Some(&id.0) || !rows.is_empty();
            let text = format!("{id} commits {tp} at {offset}; what is done in its rows is {rows:?}");
            self.fail(if owns { "S8" } else { "S10" }, text);
        }
        if offset < before {
            // Going back is legal where the user, or the policy, went back first.
            let went_back = rewound || rows.iter().any(|(start, _, moved)| *moved && *start <= offset);
            if !went_back && !is_cut && !mistaken && !is_anew {
                self.fail("S11", format!("{id} commits {tp} at {offset}, {before} was committed"));
            }
        }
        if gone_back {
            self.handovers.remove(tp);
        }
        let known = self.logs.get(tp).and_then(|l| l.epoch_before(offset));
        // A position that the broker chose comes with the epoch of what lies at it, or of the present leader.
        let newest = self.logs.get(tp).and_then(GhostLog::last_epoch).max(leader_epoch);
        let fits =
            |known: i32| if is_start { epoch >= known && Some(epoch) <= newest } else { epoch == known };
        // What was read has an epoch, whoever names the offset.
        let read =
            present.zip(member_position).is_some_and(|((start, ..), to)| start < offset && offset <= to);
        if epoch < 0 && read && !rewound && known.is_some() && !ever_cut {
            self.fail(
                "S9",
                format!("{id} commits {tp} at {offset} without the leader epoch that it was given"),
            );
        }
        // Who goes back may end up between two records that were given out, of different epochs: what nobody is given
        // there may be taken for any of them. One that is too high finds every cut that the right one does.
        let next = || self.logs.get(tp).and_then(|l| l.epoch_next_to(offset).or(l.last_epoch()));
        let between = || rewound && Some(epoch) >= known && next().is_some_and(|next| epoch <= next);
        if epoch >= 0 && !known.is_none_or(fits) && !ever_cut && !between() {
            let text =
                format!("{id} commits {tp} at {offset} with leader epoch {epoch}, the record's is {known:?}");
            self.fail("S9", text);
        }
    }
}
