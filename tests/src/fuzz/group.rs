//! The classic group machine, with a coordinator, a reader and a network that do anything at any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_core::assignor::{Assignor, ClusterTopics, GroupAssignment, TopicInfo};
use ottla_core::config::GroupConfig;
use ottla_core::group::classic::GroupState;
use ottla_core::group::{
    AssignJob, ClassicGroup, GroupAction, GroupRequest, GroupRequestKind as Kind, GroupVersions,
};
use ottla_core::{Error, ErrorKind, Rng, Timestamp, TopicPartition};
use ottla_wire::consumer_protocol::{Assignment, Subscription};
use ottla_wire::messages::JoinGroupRequest;
use ottla_wire::{Encode, ErrorCode};

use super::input::Input;
use super::told::{Told, bounded};
use crate::generated::{
    describe_groups_response, heartbeat_response, join_group_response, leave_group_response,
    sync_group_response,
};

const KINDS: [Kind; 6] = [Kind::Join, Kind::Sync, Kind::Heartbeat, Kind::Probe, Kind::Leave, Kind::Describe];

/// What a coordinator may say, and one code that nobody knows.
const CODES: [i16; 14] = [0, 14, 15, 16, 22, 23, 25, 26, 27, 30, 79, 81, 82, 999];

/// Actions that one input may cause at once: each of the member's few requests, what it gains and loses.
const MOST_ACTIONS: usize = 24;

/// Requests within [`STORM`] when each fails at once and the coordinator is found again at once: ten free joins, then
/// one per backoff (100 ms less its jitter), each with a heartbeat or a probe.
const STORM: Duration = Duration::from_secs(10);
const MOST_REQUESTS: usize = 400;

struct World {
    group: ClassicGroup,
    now: Timestamp,
    told: Told,
    /// Requests without an answer, by kind.
    asked: BTreeMap<Kind, VecDeque<GroupRequest>>,
    versions: GroupVersions,
    jobs: Vec<AssignJob>,
    finding: bool,
    sent: usize,
    /// Somebody waits for the end of the membership.
    left_wanted: bool,
    /// How often user or reader did what may end a membership.
    endings: usize,
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "made up")
}

fn topic(input: &mut Input<'_>) -> String {
    format!("t{}", input.below(4))
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let choices = input.byte();
        let mut config = GroupConfig::new("g");
        config.session_timeout = Duration::from_secs(10);
        config.heartbeat_interval = Duration::from_secs(1);
        config.rebalance_timeout = Duration::from_secs(20);
        config.revoke_timeout = Duration::from_secs(5);
        config.group_instance_id = (choices & 1 == 1).then(|| "i".to_owned());
        config.leave_on_close = choices & 2 == 2;
        config.assignors = match choices >> 2 & 3 {
            0 => vec![Assignor::Range],
            1 => vec![Assignor::Sticky, Assignor::RoundRobin],
            2 => vec![Assignor::CooperativeSticky],
            _ => vec![Assignor::CooperativeSticky, Assignor::Range],
        };
        let backoff = (Duration::from_millis(100), Duration::from_secs(1));
        let versions = input.byte();
        Self {
            group: ClassicGroup::new(config, None, backoff, Rng::new(u64::from(versions))),
            now: Timestamp::from_millis(1_000_000),
            told: Told::default(),
            asked: BTreeMap::new(),
            versions: GroupVersions {
                join: 2 + i16::from(versions % 8),
                sync: 1 + i16::from(versions >> 3 & 3),
                heartbeat: 1 + i16::from(versions >> 5 & 3),
                leave: 1 + i16::from(versions >> 3 & 3),
            },
            jobs: Vec::new(),
            finding: false,
            sent: 0,
            left_wanted: false,
            endings: 0,
        }
    }

    fn outstanding(&self, kind: Kind) -> usize {
        self.asked.get(&kind).map_or(0, VecDeque::len)
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        let choice = input.below(17);
        self.endings += usize::from(matches!(choice, 0 | 1 | 13 | 14));
        match choice {
            0 | 1 => {
                let topics: BTreeSet<String> = (0..input.below(3)).map(|_| topic(input)).collect();
                self.left_wanted |= topics.is_empty();
                self.group.subscribe(now, topics);
            }
            2 | 3 => self.find(),
            4 => {
                self.group.coordinator_lost(now);
                self.finding = true;
            }
            5..=8 => self.answer(input),
            9 => {
                let kind = KINDS[input.below(KINDS.len())];
                let what =
                    [ErrorKind::Transport, ErrorKind::Unsupported, ErrorKind::Authorization][input.below(3)];
                self.fail(kind, what);
            }
            10 => self.give_back(input),
            11 => {
                if let Some(job) =
                    (!self.jobs.is_empty()).then(|| self.jobs.remove(input.below(self.jobs.len())))
                {
                    let answer = if input.byte() > 20 { job.run() } else { GroupAssignment::default() };
                    self.group.assignment_computed(now, job.id, &answer);
                }
            }
            12 => {
                let topics: ClusterTopics =
                    (0..input.below(4)).map(|i| TopicInfo::new(format!("t{i}"), input.below(5))).collect();
                let unknown = (0..input.below(3)).map(|_| topic(input)).collect();
                self.group.metadata_changed(now, &topics, &unknown);
            }
            13 => match input.below(3) {
                0 => self.group.poll_expired(now),
                1 => self.group.polled(now),
                _ => {
                    let code = ErrorCode::from_i16(CODES[input.below(CODES.len())]);
                    let generation = self.group.identity().map_or(0, |identity| identity.generation_id);
                    self.group.commit_refused(now, code, generation - i32::from(input.byte() > 200));
                }
            },
            14 if input.byte() > 200 => {
                self.leave();
            }
            _ => {
                let due = self.group.next_timeout();
                let to = match input.byte() {
                    0 => Some(now + Duration::from_millis(u64::from(input.u16()))),
                    1 => Some(now),
                    _ => due,
                };
                self.now = to.unwrap_or(now).max(now);
                self.group.handle_timeout(self.now);
            }
        }
        self.drain();
    }

    fn leave(&mut self) {
        self.left_wanted = true;
        self.group.leave(self.now, "fuzz");
        self.told.forget();
    }

    fn find(&mut self) {
        self.finding = false;
        self.group.coordinator_known(self.now, self.versions);
    }

    fn fail(&mut self, kind: Kind, what: ErrorKind) {
        if self.asked.get_mut(&kind).and_then(VecDeque::pop_front).is_some() {
            self.group.handle_failure(self.now, kind, error(what));
        }
    }

    fn give_back(&mut self, input: &mut Input<'_>) {
        let given = self.told.give_back(self.now, input);
        if !given.is_empty() {
            self.group.revocation_finished(self.now, &given);
        }
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let kind = KINDS[input.below(KINDS.len())];
        let Some(request) = self.asked.get_mut(&kind).and_then(VecDeque::pop_front) else { return };
        let version = match kind {
            Kind::Join => self.versions.join,
            Kind::Sync => self.versions.sync,
            Kind::Heartbeat | Kind::Probe => self.versions.heartbeat,
            Kind::Leave => self.versions.leave,
            Kind::Describe => 6,
            Kind::ConsumerHeartbeat => unreachable!("of the other protocol"),
        };
        let mut body = BytesMut::new();
        // Mostly well.
        let choice = input.byte();
        if choice > 240 {
            body.extend_from_slice(input.some());
        } else {
            let code = if choice > 150 { CODES[input.below(CODES.len())] } else { 0 };
            let encoded = match &request {
                GroupRequest::Join(r) => self.joined(r, code, input).encode(version, &mut body),
                GroupRequest::Sync(_) => self.synced(code, input).encode(version, &mut body),
                GroupRequest::Heartbeat(_) | GroupRequest::Probe(_) => {
                    let answer =
                        heartbeat_response::HeartbeatResponse { error_code: code, ..Default::default() };
                    answer.encode(version, &mut body)
                }
                GroupRequest::Leave(_) => {
                    leave_group_response::LeaveGroupResponse::default().encode(version, &mut body)
                }
                GroupRequest::Describe(_) => self.described(code, input).encode(version, &mut body),
                GroupRequest::ConsumerHeartbeat(_) => unreachable!("of the other protocol"),
            };
            encoded.expect("an answer");
        }
        bounded(body.len(), || self.group.handle_response(self.now, kind, version, &body));
    }

    fn joined(
        &self,
        request: &JoinGroupRequest,
        code: i16,
        input: &mut Input<'_>,
    ) -> join_group_response::JoinGroupResponse {
        let choices = input.byte();
        let member_id = if choices & 1 == 0 && !request.member_id.is_empty() {
            request.member_id.clone()
        } else {
            ["m", "n", ""][input.below(3)].to_owned()
        };
        let own = request.protocols.first().map(|p| (p.name.clone(), p.metadata.clone())).unwrap_or_default();
        let leads = choices & 2 == 2;
        let member = |member_id: String, metadata: Bytes| join_group_response::JoinGroupResponseMember {
            member_id,
            group_instance_id: None,
            metadata,
        };
        let mut members = vec![member(member_id.clone(), own.1)];
        for _ in 0..input.below(4) {
            let other = Subscription {
                topics: (0..input.below(3)).map(|_| topic(input)).collect(),
                owned_partitions: (0..input.below(3)).map(|_| (topic(input), vec![input.number()])).collect(),
                generation_id: Some(input.number()),
                ..Subscription::default()
            };
            let metadata = if input.byte() > 220 {
                Bytes::copy_from_slice(input.some())
            } else {
                other.encode(3).expect("a subscription")
            };
            members.push(member(["o", "p", "m", ""][input.below(4)].to_owned(), metadata));
        }
        let strange = ["range", "nothing", ""][input.below(3)].to_owned();
        join_group_response::JoinGroupResponse {
            error_code: code,
            generation_id: if choices & 4 == 4 { input.number() } else { 1 + i32::from(choices >> 3) },
            protocol_type: (choices & 64 == 0).then(|| "consumer".to_owned()),
            protocol_name: Some(if choices & 32 == 0 { own.0 } else { strange }),
            leader: if leads { member_id.clone() } else { "o".to_owned() },
            skip_assignment: self.versions.join >= 9 && choices & 128 == 128,
            members: if leads { members } else { Vec::new() },
            member_id,
            ..Default::default()
        }
    }

    fn synced(&self, code: i16, input: &mut Input<'_>) -> sync_group_response::SyncGroupResponse {
        let choices = input.byte();
        let partitions = (0..input.below(4))
            .map(|_| (topic(input), (0..input.below(4)).map(|_| input.number() % 6).collect()));
        let assignment = Assignment { partitions: partitions.collect(), user_data: None };
        sync_group_response::SyncGroupResponse {
            error_code: code,
            protocol_type: (choices & 1 == 1).then(|| "consumer".to_owned()),
            protocol_name: (choices & 2 == 2)
                .then(|| ["range", "cooperative-sticky"][input.below(2)].to_owned()),
            assignment: if choices > 230 {
                Bytes::copy_from_slice(input.some())
            } else {
                assignment.encode(i16::from(choices >> 2 & 3)).expect("an assignment")
            },
            ..Default::default()
        }
    }

    fn described(
        &self,
        code: i16,
        input: &mut Input<'_>,
    ) -> describe_groups_response::DescribeGroupsResponse {
        let choices = input.byte();
        let member =
            |member_id: &str, input: &mut Input<'_>| describe_groups_response::DescribedGroupMember {
                member_id: member_id.to_owned(),
                member_assignment: self.synced(0, input).assignment,
                ..Default::default()
            };
        let group = describe_groups_response::DescribedGroup {
            error_code: code,
            group_id: "g".to_owned(),
            group_state: ["Stable", "PreparingRebalance"][usize::from(choices & 1)].to_owned(),
            members: ["m", "o", ""].iter().take(input.below(4)).map(|id| member(id, input)).collect(),
            ..Default::default()
        };
        describe_groups_response::DescribeGroupsResponse { groups: vec![group], ..Default::default() }
    }

    fn drain(&mut self) {
        let mut actions = 0;
        loop {
            while let Some(action) = self.group.poll_action() {
                actions += 1;
                assert!(actions <= MOST_ACTIONS, "{action:?} is one of too many");
                self.carry_out(action);
            }
            // The group connection is closed while the coordinator is looked for: what is in flight on it fails.
            let lost =
                [Kind::Join, Kind::Sync, Kind::Heartbeat].into_iter().find(|k| self.outstanding(*k) > 0);
            match lost.filter(|_| self.finding) {
                Some(kind) => self.fail(kind, ErrorKind::Transport),
                None => break,
            }
        }
        self.check();
    }

    fn carry_out(&mut self, action: GroupAction) {
        match action {
            GroupAction::FindCoordinator => self.finding = true,
            GroupAction::Send(request) => {
                let kind = request.kind();
                assert!(!self.finding, "{kind:?} to nobody");
                match &request {
                    GroupRequest::Join(r) => self.may_join(r),
                    GroupRequest::Heartbeat(r) | GroupRequest::Probe(r) => {
                        let identity = self.group.identity().expect("a heartbeat without a membership");
                        assert_eq!(
                            (r.generation_id, &r.member_id),
                            (identity.generation_id, &identity.member_id)
                        );
                    }
                    GroupRequest::Sync(_) | GroupRequest::Leave(_) | GroupRequest::Describe(_) => {}
                    GroupRequest::ConsumerHeartbeat(r) => panic!("{r:?} is of the other protocol"),
                }
                let asked = self.asked.entry(kind).or_default();
                // A membership that the user or the reader ended may leave a parked request behind.
                assert!(
                    asked.len() <= 1 + self.endings,
                    "{kind:?} once more while {} are not answered",
                    asked.len()
                );
                asked.push_back(request);
                self.sent += 1;
            }
            GroupAction::Compute(job) => self.jobs.push(job),
            GroupAction::WantTopicNames => panic!("of the other protocol"),
            GroupAction::WantMetadata(topics) => {
                assert!(topics.iter().all(|t| !t.is_empty() && t.len() < 250))
            }
            GroupAction::Revoke { partitions, deadline } => self.told.revoke(self.now, partitions, deadline),
            GroupAction::Assign(partitions) => self.told.assign(partitions),
            GroupAction::Lost(partitions) => self.told.lose(&partitions),
            GroupAction::Left => {
                assert!(std::mem::take(&mut self.left_wanted), "nobody waits for the end");
            }
            GroupAction::Fail(_) | GroupAction::Report(_) => {}
        }
    }

    /// S6, S7: nobody joins while partitions are being given back, and nobody claims what he has not.
    fn may_join(&self, request: &JoinGroupRequest) {
        assert!(self.told.revoking.is_none(), "S6: joins while {:?} is given back", self.told.revoking);
        for protocol in &request.protocols {
            let claimed = Subscription::decode(&protocol.metadata).expect("our own subscription");
            for (topic, partitions) in claimed.owned_partitions {
                for partition in partitions {
                    let tp = TopicPartition::new(topic.as_str(), partition);
                    assert!(self.told.owned.contains(&tp), "S10: {tp} is claimed");
                }
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.group.owned(), &self.told.owned, "told and owned are not the same");
        if matches!(self.group.state(), GroupState::Unsubscribed | GroupState::Expired | GroupState::Failed) {
            assert!(self.told.owned.is_empty(), "{:?} owns {:?}", self.group.state(), self.told.owned);
        }
        assert!(
            !self.group.may_commit() || self.group.identity().is_some(),
            "S9: a commit without a membership"
        );
        // A spurious timeout is a no-op, and what is due was done.
        self.group.handle_timeout(self.now);
        assert!(
            !self.group.has_actions(),
            "a spurious timeout does something: {:?}",
            self.group.poll_action()
        );
        let due = self.group.next_timeout();
        assert!(due.is_none_or(|due| due > self.now), "still due at {:?} of {:?}", due, self.now);
    }

    /// L3: every request fails at once and the coordinator is found again at once, for a while.
    fn storm(&mut self) {
        let end = self.now + STORM;
        let before = self.sent;
        loop {
            if let Some(kind) = KINDS.into_iter().find(|kind| self.outstanding(*kind) > 0) {
                self.fail(kind, ErrorKind::Transport);
            } else if self.finding {
                self.find();
            } else {
                let Some(due) = self.group.next_timeout().filter(|due| *due <= end) else { break };
                self.now = due;
                self.group.handle_timeout(due);
            }
            self.drain();
            assert!(self.sent - before <= MOST_REQUESTS, "L3: {} requests in {STORM:?}", self.sent - before);
        }
    }
}

impl World {
    /// L2: a leave that nobody answers ends with the requests that are under way, and leaves nothing.
    fn end(&mut self) {
        self.endings += 1;
        self.leave();
        self.drain();
        while let Some(kind) = KINDS.into_iter().find(|kind| self.outstanding(*kind) > 0) {
            self.fail(kind, ErrorKind::Transport);
            self.drain();
        }
        assert!(!self.left_wanted, "L2: not left");
        assert_eq!(self.group.state(), GroupState::Unsubscribed);
        assert_eq!(self.group.next_timeout(), None, "L2: a timer is left");
    }
}

/// A sequence of anything that the coordinator, the reader, the user and time can do to a member.
pub fn member(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(&mut input);
    let mut steps = 0;
    while !input.is_empty() && steps < 200 {
        world.step(&mut input);
        steps += 1;
    }
    world.storm();
    world.end();
}
