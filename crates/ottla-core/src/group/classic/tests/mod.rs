//! Tests on virtual time: a member on its own, told what a coordinator might say.

mod bytes;
mod cooperative;
mod eager;
mod errors;
mod heartbeat;
mod hostile;
mod join;
mod leader;
mod leave;
mod matrix;
mod simulation;
mod statics;
mod stub;

use std::collections::BTreeSet;
use std::time::Duration;

use ::bytes::Bytes;
use ottla_wire::ErrorCode;
use ottla_wire::consumer_protocol::Subscription;

use super::reply::{JoinMember, JoinReply, Reply, SyncReply};
use super::*;
use crate::assignor::{Assignor, ClusterTopics, GroupAssignment, PartitionInfo, TopicInfo};
use crate::group::AssignJob;
use crate::group::GroupRequest;

/// Everything new enough for everything.
const NEWEST: GroupVersions = GroupVersions { join: 9, sync: 5, heartbeat: 4, leave: 5 };
/// Kafka 2.1.
const OLDEST: GroupVersions = GroupVersions { join: 3, sync: 2, heartbeat: 2, leave: 2 };

const COOPERATIVE: &str = "cooperative-sticky";

/// A member under test and its clock. After every input the actions come back as text, in order, and promises
/// are checked: a spurious timeout does nothing; no timeout is asked for that is due already; what is owned is
/// what the actions said; nothing is assigned twice, lost or revoked without being owned; nobody joins while
/// a revocation is open.
struct Rig {
    group: ClassicGroup,
    now: Timestamp,
    /// The last computation asked for.
    job: Option<AssignJob>,
    /// The last error told.
    error: Option<Error>,
    /// The last request sent.
    request: Option<GroupRequest>,
    /// What the actions so far say is owned, and which part of it is being revoked.
    told: BTreeSet<TopicPartition>,
    revoking: BTreeSet<TopicPartition>,
}

fn config() -> GroupConfig {
    GroupConfig {
        session_timeout: Duration::from_millis(10_000),
        heartbeat_interval: Duration::from_millis(1000),
        rebalance_timeout: Duration::from_millis(60_000),
        revoke_timeout: Duration::from_millis(20_000),
        ..GroupConfig::new("g")
    }
}

fn names(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|t| (*t).to_owned()).collect()
}

fn tps(partitions: &[(&str, i32)]) -> Vec<TopicPartition> {
    partitions.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
}

fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|t| (*t).to_owned()).collect();
    Subscription { topics, ..Subscription::default() }.encode(3).unwrap()
}

fn topics(counts: &[(&str, usize)]) -> ClusterTopics {
    counts.iter().map(|(name, partitions)| TopicInfo::new(*name, *partitions)).collect()
}

/// A JoinGroup answer that lets `member_id` in.
fn joined(generation_id: i32, member_id: &str, leader: &str) -> JoinReply {
    JoinReply {
        error: ErrorCode::None,
        generation_id,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some(COOPERATIVE.to_owned()),
        leader: leader.to_owned(),
        skip_assignment: false,
        member_id: member_id.to_owned(),
        members: Vec::new(),
    }
}

/// A JoinGroup answer that makes the member the leader of `members` and what they subscribe to.
fn leading(generation_id: i32, member_id: &str, members: &[(&str, Bytes)]) -> JoinReply {
    let member = |(id, metadata): &(&str, Bytes)| JoinMember {
        member_id: (*id).to_owned(),
        group_instance_id: None,
        metadata: metadata.clone(),
    };
    JoinReply { members: members.iter().map(member).collect(), ..joined(generation_id, member_id, member_id) }
}

fn join_error(error: ErrorCode, member_id: &str) -> JoinReply {
    JoinReply { error, protocol_name: None, protocol_type: None, ..joined(-1, member_id, "") }
}

fn synced(partitions: &[(&str, i32)]) -> SyncReply {
    let set = tps(partitions).into_iter().collect();
    let assignment = blob::encode_assignment(&blob::by_topic(&set));
    SyncReply {
        error: ErrorCode::None,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some(COOPERATIVE.to_owned()),
        assignment,
    }
}

fn sync_error(error: ErrorCode) -> SyncReply {
    SyncReply { error, protocol_type: None, protocol_name: None, assignment: Bytes::new() }
}

impl Rig {
    fn new(config: GroupConfig) -> Self {
        let backoff = (Duration::from_millis(100), Duration::from_millis(1000));
        let group = ClassicGroup::new(config, None, backoff, Rng::new(1));
        Self {
            group,
            now: Timestamp::from_millis(1_000_000),
            job: None,
            error: None,
            request: None,
            told: BTreeSet::new(),
            revoking: BTreeSet::new(),
        }
    }

    /// A cooperative member.
    fn cooperative() -> Self {
        Self::new(config())
    }

    /// An eager member; its helpers still say "cooperative-sticky", which it also offers.
    fn eager() -> Self {
        Self::new(GroupConfig { assignors: vec![Assignor::CooperativeSticky, Assignor::Range], ..config() })
    }

    fn fixed() -> Self {
        Self::new(GroupConfig { group_instance_id: Some("i1".to_owned()), ..config() })
    }

    fn input(&mut self, f: impl FnOnce(&mut ClassicGroup, Timestamp)) -> Vec<String> {
        f(&mut self.group, self.now);
        let actions = self.drain();
        self.group.handle_timeout(self.now);
        assert_eq!(self.drain(), [""; 0], "a spurious timeout does nothing, after {actions:?}");
        let next = self.group.next_timeout();
        assert!(next.is_none_or(|t| t > self.now), "{next:?} is due at {:?}, after {actions:?}", self.now);
        if matches!(self.state(), GroupState::Leaving | GroupState::Unsubscribed) {
            // The client has revoked everything before it left.
            self.told.clear();
            self.revoking.clear();
        }
        assert_eq!(*self.group.owned(), self.told, "after {actions:?}");
        actions
    }

    fn drain(&mut self) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(action) = self.group.poll_action() {
            shown.push(self.show(&action));
            self.note(&action);
            match action {
                GroupAction::Compute(job) => self.job = Some(job),
                GroupAction::Send(request) => self.request = Some(request),
                GroupAction::Fail(error) | GroupAction::Report(error) => self.error = Some(error),
                _ => {}
            }
        }
        shown
    }

    fn note(&mut self, action: &GroupAction) {
        match action {
            GroupAction::Assign(partitions) => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.told.insert(tp.clone()), "{tp} assigned twice");
                }
            }
            GroupAction::Lost(partitions) => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.told.remove(tp), "{tp} lost and not owned");
                    self.revoking.remove(tp);
                }
            }
            GroupAction::Revoke { partitions, deadline } => {
                assert!(!partitions.is_empty() && *deadline > self.now && self.revoking.is_empty());
                for tp in partitions {
                    assert!(self.told.contains(tp), "{tp} revoked and not owned");
                    self.revoking.insert(tp.clone());
                }
            }
            GroupAction::Send(GroupRequest::Join(_)) => {
                assert!(self.revoking.is_empty(), "no JoinGroup while a revocation is open");
            }
            _ => {}
        }
    }

    fn show(&self, action: &GroupAction) -> String {
        match action {
            GroupAction::FindCoordinator => "find".to_owned(),
            GroupAction::Send(GroupRequest::Join(r)) => {
                let claims = Subscription::decode(&r.protocols.first().unwrap().metadata).unwrap();
                let generation = claims.generation_id.map(|g| format!(" g{g}")).unwrap_or_default();
                let owned: Vec<_> = claims
                    .owned_partitions
                    .iter()
                    .flat_map(|(t, ps)| ps.iter().map(move |p| format!("{t}-{p}")))
                    .collect();
                let topics = claims.topics.join(",");
                format!("join '{}' {topics}{generation} owns[{}]", r.member_id, owned.join(" "))
            }
            GroupAction::Send(GroupRequest::Sync(r)) => {
                let given: Vec<_> = r
                    .assignments
                    .iter()
                    .map(|a| {
                        let decoded = blob::decode_assignment(&a.assignment).unwrap();
                        format!("{}={:?}", a.member_id, blob::partitions(&decoded))
                    })
                    .collect();
                format!("sync g{} {}[{}]", r.generation_id, r.member_id, given.join(", "))
            }
            GroupAction::Send(GroupRequest::Heartbeat(r)) => {
                format!("heartbeat g{} {}", r.generation_id, r.member_id)
            }
            GroupAction::Send(GroupRequest::Probe(r)) => {
                format!("probe g{} {}", r.generation_id, r.member_id)
            }
            GroupAction::Send(GroupRequest::Leave(r)) => {
                let members: Vec<_> = r.members.iter().map(|m| m.member_id.as_str()).collect();
                format!("leave {}{}", r.member_id, members.join(","))
            }
            GroupAction::Send(GroupRequest::Describe(r)) => format!("describe {}", r.groups.join(",")),
            GroupAction::Compute(job) => {
                let members: Vec<_> = job.members.iter().map(|m| m.member_id.as_str()).collect();
                format!("compute {} for {}", job.assignor.name(), members.join(","))
            }
            GroupAction::WantMetadata(topics) => format!("want[{}]", topics.join(",")),
            GroupAction::Revoke { partitions, deadline } => {
                format!("revoke {partitions:?} within {}", deadline.since(self.now).as_millis())
            }
            GroupAction::Assign(partitions) => format!("assign {partitions:?}"),
            GroupAction::Lost(partitions) => format!("lost {partitions:?}"),
            GroupAction::Fail(error) => format!("fail {:?}", error.kind()),
            GroupAction::Report(error) => format!("report {:?}", error.kind()),
            GroupAction::Left => "left".to_owned(),
            GroupAction::Send(GroupRequest::ConsumerHeartbeat(_)) | GroupAction::WantTopicNames => {
                panic!("{action:?} is of the other protocol")
            }
        }
    }

    fn subscribe(&mut self, topics: &[&str]) -> Vec<String> {
        self.input(|g, now| g.subscribe(now, names(topics)))
    }

    fn known(&mut self) -> Vec<String> {
        self.input(|g, now| g.coordinator_known(now, NEWEST))
    }

    fn reply(&mut self, kind: Kind, reply: Reply) -> Vec<String> {
        self.input(|g, now| g.handle_reply(now, kind, Ok(reply)))
    }

    fn join(&mut self, reply: JoinReply) -> Vec<String> {
        self.reply(Kind::Join, Reply::Join(reply))
    }

    fn sync(&mut self, reply: SyncReply) -> Vec<String> {
        self.reply(Kind::Sync, Reply::Sync(reply))
    }

    /// Each member with what it was assigned.
    fn described(&mut self, members: &[(&str, &[(&str, i32)])]) -> Vec<String> {
        let member =
            |(id, partitions): &(&str, &[(&str, i32)])| ((*id).to_owned(), synced(partitions).assignment);
        let members = members.iter().map(member).collect();
        self.reply(Kind::Describe, Reply::Describe(Some(members)))
    }

    fn beat(&mut self, code: ErrorCode) -> Vec<String> {
        self.reply(Kind::Heartbeat, Reply::Heartbeat(code))
    }

    fn probe(&mut self, code: ErrorCode) -> Vec<String> {
        self.reply(Kind::Probe, Reply::Heartbeat(code))
    }

    fn broken(&mut self, kind: Kind) -> Vec<String> {
        let error = Error::new(ErrorKind::Transport, "connection reset");
        self.input(|g, now| g.handle_failure(now, kind, error))
    }

    fn metadata(&mut self, known: &[(&str, usize)], unknown: &[&str]) -> Vec<String> {
        self.input(|g, now| g.metadata_changed(now, &topics(known), &names(unknown)))
    }

    /// Runs the last computation asked for.
    fn computed(&mut self) -> Vec<String> {
        let job = self.job.take().unwrap();
        let assignment: GroupAssignment = job.run();
        self.input(|g, now| g.assignment_computed(now, job.id, &assignment))
    }

    fn given_back(&mut self, partitions: &[(&str, i32)]) -> Vec<String> {
        let partitions = tps(partitions);
        for tp in partitions.iter().filter(|tp| self.revoking.remove(tp)) {
            self.told.remove(tp);
        }
        self.input(|g, now| g.revocation_finished(now, &partitions))
    }

    /// Time passes; timeouts come when they were asked for.
    fn wait(&mut self, millis: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(millis);
        let mut shown = Vec::new();
        while let Some(next) = self.group.next_timeout().filter(|t| *t <= until) {
            self.now = next;
            shown.extend(self.input(ClassicGroup::handle_timeout));
        }
        self.now = until;
        shown
    }

    /// Time passes, and each heartbeat is answered.
    fn idle(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            for action in self.wait(100) {
                assert!(action.starts_with("heartbeat"), "{action}");
                assert_eq!(self.beat(ErrorCode::None), [""; 0]);
            }
        }
    }

    fn owned(&self) -> Vec<String> {
        self.group.owned().iter().map(ToString::to_string).collect()
    }

    fn state(&self) -> GroupState {
        self.group.state()
    }

    /// Subscribed to `topic`, joining with the id "m".
    fn joining(mut self, topics: &[&str]) -> Self {
        self.subscribe(topics);
        self.known();
        self.join(join_error(ErrorCode::MemberIdRequired, "m"));
        assert_eq!(self.state(), GroupState::Joining);
        self
    }

    /// A follower in generation 1 whose SyncGroup is sent.
    fn syncing(self, topics: &[&str]) -> Self {
        let mut rig = self.joining(topics);
        rig.join(joined(1, "m", "other"));
        assert_eq!(rig.state(), GroupState::Syncing);
        rig
    }

    /// A follower in generation 1 that owns `partitions` of the topics "a" and "b".
    fn stable(self, partitions: &[(&str, i32)]) -> Self {
        let mut rig = self.syncing(&["a", "b"]);
        rig.sync(synced(partitions));
        assert_eq!(rig.state(), GroupState::Stable);
        rig
    }

    /// Waits for the next heartbeat and answers it with `code`.
    fn next_beat(&mut self, code: ErrorCode) -> Vec<String> {
        let sent = self.wait(1000);
        assert!(sent.iter().any(|a| a.starts_with("heartbeat")), "{sent:?}");
        self.beat(code)
    }

    /// A leader in generation 1 of one topic "a" with two partitions, alone in the group.
    fn leader(self) -> Self {
        let mut rig = self.joining(&["a"]);
        rig.join(leading(1, "m", &[("m", subscription(&["a"]))]));
        rig.metadata(&[("a", 2)], &[]);
        rig.computed();
        rig.sync(synced(&[("a", 0), ("a", 1)]));
        assert_eq!(rig.state(), GroupState::Stable);
        rig
    }
}
