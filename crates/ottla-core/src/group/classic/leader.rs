//! The leader's part: reads what the members say, has an assignment computed, and watches the topics.
//!
//! What members say is hostile: a member listed twice counts once, one without an id not at all, and one whose
//! subscription cannot be read is assigned nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::blob;
use super::reply::JoinMember;
use super::{ClassicGroup, Pace, Phase, State};
use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, GroupMember, PartitionInfo, TopicInfo};
use crate::group::{AssignJob, GroupAction, JobAssignor, JobId};
use crate::{Error, ErrorKind, Timestamp, TopicPartition};

/// More members than any group has: an answer with more is no answer.
const MAX_MEMBERS: usize = 100_000;

/// What is known of each topic of the group; `None`: it does not exist.
type Known = BTreeMap<String, Option<TopicInfo>>;

/// What the leader of a group has to know.
#[derive(Debug)]
pub(super) struct Leadership {
    /// The topics that members subscribe to.
    wanted: BTreeSet<String>,
    seen: Known,
    /// What the assignment was computed from.
    used: Option<Known>,
    /// A member said where it is: only then do racks count (KIP-881).
    racks_count: bool,
}

impl Leadership {
    /// Whether it is known of every topic what it has.
    pub(super) fn sees_all(&self) -> bool {
        self.used.is_some()
    }

    /// Every partition that there is to assign.
    pub(super) fn partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.seen.iter().flat_map(|(topic, info)| {
            let count = info.as_ref().map_or(0, |info| info.partitions.len());
            (0..count).map(|n| TopicPartition::new(topic.as_str(), i32::try_from(n).unwrap_or(i32::MAX)))
        })
    }

    /// Whether this is one of them.
    pub(super) fn knows(&self, tp: &TopicPartition) -> bool {
        let info = self.seen.get(tp.topic()).and_then(Option::as_ref);
        info.is_some_and(|info| usize::try_from(tp.partition()).is_ok_and(|n| n < info.partitions.len()))
    }

    /// Whether another assignment could come out now.
    ///
    /// A rack that is missing is no news: metadata do not name the rack of a broker that is down, and it will be
    /// back. Neither is the order of the replicas, which changes with the preferred leader.
    fn is_outdated(&self) -> bool {
        let Some(used) = &self.used else { return false };
        let racks_differ = |before: &PartitionInfo, now: &PartitionInfo| {
            self.racks_count && now.racks.iter().any(|rack| !before.racks.contains(rack))
        };
        used.len() != self.seen.len()
            || used.iter().zip(&self.seen).any(|((topic, before), (same, now))| match (before, now) {
                (Some(before), Some(now)) => {
                    let mut pairs = before.partitions.iter().zip(&now.partitions);
                    topic != same
                        || before.partitions.len() != now.partitions.len()
                        || pairs.any(|(before, now)| racks_differ(before, now))
                }
                _ => topic != same || before.is_some() != now.is_some(),
            })
    }
}

/// Whether Kafka allows a topic of this name. Others are not even asked for: they come from other members.
fn is_legal(topic: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(topic, "" | "." | "..") && topic.len() <= 249 && topic.bytes().all(legal)
}

impl ClassicGroup {
    /// This member was chosen. With `skip_assignment` (KIP-814: a static leader that came back) the group keeps
    /// its assignment, but the leader still watches the topics.
    pub(super) fn lead(&mut self, now: Timestamp, members: Vec<JoinMember>, skip_assignment: bool) {
        let members = match self.read_members(members) {
            Ok(members) => members,
            Err(error) => return self.misbehaved(now, error),
        };
        let wanted: BTreeSet<_> =
            members.iter().flat_map(|m| &m.topics).filter(|t| is_legal(t)).cloned().collect();
        self.actions.push_back(GroupAction::WantMetadata(wanted.iter().cloned().collect()));
        let racks_count = members.iter().any(|m| m.rack_id.is_some());
        self.leadership = Some(Leadership { wanted, seen: Known::new(), used: None, racks_count });
        self.state =
            State::Syncing(if skip_assignment { Phase::Ready(Vec::new()) } else { Phase::Metadata(members) });
    }

    /// Another member was chosen.
    pub(super) fn follow(&mut self) {
        self.end_leadership();
        self.state = State::Syncing(Phase::Ready(Vec::new()));
    }

    pub(super) fn end_leadership(&mut self) {
        if self.leadership.take().is_some() {
            self.actions.push_back(GroupAction::WantMetadata(Vec::new()));
        }
    }

    /// An error if what this member itself has told did not come back: it would assign nothing to itself, and go on
    /// as if all were well.
    fn read_members(&self, members: Vec<JoinMember>) -> Result<Vec<GroupMember>, Error> {
        if members.len() > MAX_MEMBERS {
            let text = format!("the coordinator lists {} members, more than {MAX_MEMBERS}", members.len());
            return Err(self.misbehaviour(&text));
        }
        let mut seen = BTreeSet::new();
        let mut read = Vec::new();
        for member in members {
            if member.member_id.is_empty() || !seen.insert(member.member_id.clone()) {
                tracing::warn!(group = %self.config.group_id, member = %member.member_id, "member without an id, or listed twice: ignored");
                continue;
            }
            let mut described = match blob::decode_subscription(&member.metadata) {
                Ok(described) => described,
                Err(error) if member.member_id == self.member_id => {
                    let text =
                        "the subscription that this member told came back as something that cannot be read";
                    return Err(self.misbehaviour(text).with_source(error));
                }
                Err(error) => {
                    tracing::warn!(group = %self.config.group_id, member = %member.member_id, %error, "subscription of a member cannot be read: it is assigned nothing");
                    GroupMember::default()
                }
            };
            described.member_id = member.member_id;
            described.group_instance_id = member.group_instance_id;
            read.push(described);
        }
        if !seen.contains(&self.member_id) {
            return Err(self.misbehaviour(
                "the coordinator made this member the leader and does not list it among the members",
            ));
        }
        Ok(read)
    }

    /// The client's metadata are new: `topics` holds what it knows, `unknown` names topics of which it is known
    /// that they do not exist or may not be described. Of other topics nothing has been learned.
    pub fn metadata_changed(&mut self, now: Timestamp, topics: &ClusterTopics, unknown: &BTreeSet<String>) {
        let Some(leadership) = &mut self.leadership else { return };
        for name in &leadership.wanted {
            let news = topics.get(name);
            if news.is_none() && !unknown.contains(name) {
                continue;
            }
            if leadership.seen.get(name).is_none_or(|seen| seen.as_ref() != news) {
                leadership.seen.insert(name.clone(), news.cloned());
            }
        }
        if matches!(self.state, State::Stable) && leadership.is_outdated() {
            self.want_rejoin(now, Pace::Now, "topics, their partitions or their racks changed");
        }
        self.drive(now);
    }

    /// Starts the computation as soon as all metadata are there.
    pub(super) fn check_metadata(&mut self, now: Timestamp) {
        let Some(leadership) = &mut self.leadership else { return };
        if leadership.seen.len() < leadership.wanted.len() {
            return;
        }
        // KIP-814: the first sight stands in for what an earlier life of this member computed from.
        if leadership.used.is_none() {
            leadership.used = Some(leadership.seen.clone());
        }
        if let State::Syncing(Phase::Metadata(members)) = &mut self.state {
            let members = std::mem::take(members);
            let topics: ClusterTopics = leadership.seen.values().flatten().cloned().collect();
            self.compute(now, members, topics);
        }
    }

    fn compute(&mut self, now: Timestamp, members: Vec<GroupMember>, topics: ClusterTopics) {
        // `joined` accepted no other name than one of ours.
        let own = self.config.own_assignors.iter().find(|a| a.name() == self.protocol_name).cloned();
        let kafkas = || Assignor::from_name(&self.protocol_name).map(JobAssignor::Kafka);
        let Some(assignor) = own.map(JobAssignor::Own).or_else(kafkas) else {
            return self.misbehaved(now, self.misbehaviour("the group's assignor is not known"));
        };
        self.next_job += 1;
        let job = JobId(self.next_job);
        let member_ids = members.iter().map(|m| m.member_id.clone()).collect();
        self.state = State::Syncing(Phase::Computing { job, member_ids });
        self.actions.push_back(GroupAction::Compute(AssignJob { id: job, assignor, members, topics }));
    }

    /// The result of a [`GroupAction::Compute`]. Of a rebalance that is over it is dropped.
    pub fn assignment_computed(&mut self, now: Timestamp, id: JobId, assignment: &GroupAssignment) {
        if let State::Syncing(Phase::Computing { job, member_ids }) = &mut self.state
            && *job == id
        {
            if let Some(why) = assignment.refusal() {
                return self.assignor_failed(now, why);
            }
            let blob = |member: String| {
                let bytes = blob::encode_assignment(assignment.get(&member));
                (member, bytes)
            };
            let assignments = std::mem::take(member_ids).into_iter().map(blob).collect();
            self.state = State::Syncing(Phase::Ready(assignments));
        }
        self.drive(now);
    }

    /// The user's assignor cannot do what it is for: this member is over, and the group must not wait for it.
    pub(super) fn assignor_failed(&mut self, now: Timestamp, why: &str) {
        let text = format!("the assignor of group {} failed: {why}", self.config.group_id);
        self.leave_at_once(now, "its assignor failed");
        self.fail(Error::new(ErrorKind::ApiMisuse, text));
    }

    /// What changed while the member was not stable is looked at when it is.
    pub(super) fn recheck_metadata(&mut self, now: Timestamp) {
        if self.leadership.as_ref().is_some_and(Leadership::is_outdated) {
            self.want_rejoin(now, Pace::Now, "topics, their partitions or their racks changed");
        }
    }
}
