//! The machine of a consumer group's member (KIP-848), with a coordinator, a reader and a network that do anything at
//! any time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ottla_core::config::GroupConfig;
use ottla_core::group::consumer::ConsumerState as State;
use ottla_core::group::{ConsumerGroup, GroupAction, GroupRequest};
use ottla_core::{Error, ErrorKind, Rng, Timestamp, TopicId, TopicPartition};
use ottla_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use ottla_wire::{Encode, ErrorCode, View};

use super::input::Input;
use super::told::{Told, bounded};
use crate::generated::consumer_group_heartbeat_response as answer;

/// What a coordinator may say, and one code that nobody knows.
const CODES: [i16; 20] =
    [0, 14, 15, 16, 25, 22, 29, 30, 35, 42, 69, 81, 82, 110, 111, 112, 113, 128, -1, 999];

/// Intervals that a coordinator may tell; [`shortest`] is what the member makes of them.
const INTERVALS: [i32; 6] = [5_000, 1_000, 0, -1, i32::MAX, 1];

/// Actions that one input may cause at once.
const MOST_ACTIONS: usize = 16;

/// How long leaving may take when nobody answers any more.
const PATIENCE: Duration = Duration::from_secs(3);
/// No heartbeat is later than this, whatever interval the coordinator tells.
const LONGEST: Duration = Duration::from_secs(600);
const REBALANCE: Duration = Duration::from_secs(20);

/// How long everything goes wrong at once, for L3.
const STORM: Duration = Duration::from_secs(10);

type Part = (TopicId, i32);

struct Asked {
    request: ConsumerGroupHeartbeatRequest,
    /// How many endings there had been.
    endings: usize,
}

struct World {
    group: ConsumerGroup,
    now: Timestamp,
    told: Told,
    version: i16,
    instance: Option<String>,
    leave_on_close: bool,

    /// The group connection stands.
    connected: bool,
    /// The coordinator is looked for.
    finding: bool,
    asked: VecDeque<Asked>,
    sent: usize,
    /// How often the user did what may end a membership, or ended a wait.
    endings: usize,

    topics: BTreeSet<String>,
    pattern: String,
    /// Somebody waits for the end of the membership.
    left_wanted: bool,

    member_id: Option<String>,
    /// What the coordinator was told for certain.
    heard_owned: Option<BTreeSet<Part>>,
    heard_topics: Option<BTreeSet<String>>,
    /// The last regular expression it was told.
    heard_pattern: String,
    /// What the coordinator wants: for certain, or at most.
    target: BTreeSet<Part>,
    exact: bool,
    /// Every name that the machine was ever given.
    names: BTreeMap<TopicId, BTreeSet<String>>,
    /// The client was asked for names, and asks metadata as long as the machine waits for them.
    names_wanted: bool,
    /// The shortest interval that was ever told.
    interval: Duration,
}

fn id(number: usize) -> TopicId {
    let mut bytes = [0; 16];
    bytes[15] = u8::try_from(number).unwrap_or(u8::MAX);
    ottla_wire::Uuid(bytes)
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let choices = input.byte();
        let mut config = GroupConfig::new("g");
        config.rebalance_timeout = REBALANCE;
        config.revoke_timeout = Duration::from_secs(5);
        config.group_instance_id = (choices & 1 == 1).then(|| "i".to_owned());
        config.leave_on_close = choices & 2 == 2;
        config.remote_assignor = (choices & 4 == 4).then(|| "uniform".to_owned());
        let (instance, leave_on_close) = (config.group_instance_id.clone(), config.leave_on_close);
        let backoff = (Duration::from_millis(100), Duration::from_secs(1));
        let rack = (choices & 8 == 8).then(|| "r".to_owned());
        Self {
            group: ConsumerGroup::new(config, rack, backoff, Rng::new(u64::from(choices))),
            now: Timestamp::from_millis(1_000_000),
            told: Told::default(),
            version: 1,
            instance,
            leave_on_close,
            connected: false,
            finding: false,
            asked: VecDeque::new(),
            sent: 0,
            endings: 0,
            topics: BTreeSet::new(),
            pattern: String::new(),
            left_wanted: false,
            member_id: None,
            heard_owned: None,
            heard_topics: None,
            heard_pattern: String::new(),
            target: BTreeSet::new(),
            exact: true,
            names: BTreeMap::new(),
            names_wanted: false,
            interval: Duration::from_secs(5),
        }
    }

    fn is_subscribed(&self) -> bool {
        !self.topics.is_empty() || !self.pattern.is_empty()
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now;
        match input.below(18) {
            0 => {
                let topics = (0..input.below(3)).map(|_| format!("t{}", input.below(4))).collect();
                self.subscribe(topics, String::new());
            }
            1 => {
                let pattern = ["t.*", "u", "", "["][input.below(4)];
                self.subscribe(BTreeSet::new(), pattern.to_owned());
            }
            2 | 3 => self.find(),
            4 => self.lose_coordinator(),
            5..=9 => self.answer(input),
            10 => {
                let what = [
                    ErrorKind::Transport,
                    ErrorKind::Transport,
                    ErrorKind::Unsupported,
                    ErrorKind::Authorization,
                ];
                self.fail(what[input.below(what.len())]);
            }
            11 => {
                let given = self.told.give_back(now, input);
                if !given.is_empty() {
                    self.group.revocation_finished(now, &given);
                }
            }
            12 => self.name(input),
            13 => {
                self.endings += 1;
                match input.below(5) {
                    0 => self.group.poll_expired(now),
                    1 => self.group.partition_expired(now),
                    2 => self.group.polled(now),
                    _ => {
                        let code = ErrorCode::from_i16(CODES[input.below(CODES.len())]);
                        let epoch = self.group.identity().map_or(0, |identity| identity.generation_id);
                        self.group.commit_refused(now, code, epoch - i32::from(input.byte() > 200));
                    }
                }
            }
            14 if input.byte() > 200 => self.leave(),
            _ => {
                let to = match input.byte() {
                    0 => Some(now + Duration::from_millis(u64::from(input.u16()))),
                    1 => Some(now),
                    _ => self.group.next_timeout(),
                };
                self.now = to.unwrap_or(now).max(now);
                self.group.handle_timeout(self.now);
            }
        }
        self.drain();
    }

    fn subscribe(&mut self, topics: BTreeSet<String>, pattern: String) {
        self.endings += 1;
        (self.topics, self.pattern) = (topics, pattern);
        let waited = self.left_wanted;
        // One that is withdrawn is told as done, too.
        self.left_wanted |= !self.is_subscribed();
        if self.pattern.is_empty() {
            self.group.subscribe(self.now, self.topics.clone());
        } else {
            self.group.subscribe_pattern(self.now, &self.pattern);
        }
        if waited && self.is_subscribed() {
            self.drain();
            assert!(!self.left_wanted, "nobody says that the leave was withdrawn");
        }
    }

    fn leave(&mut self) {
        self.endings += 1;
        self.topics.clear();
        self.pattern.clear();
        self.left_wanted = true;
        self.group.leave(self.now);
        self.told.forget();
    }

    fn find(&mut self) {
        self.finding = false;
        self.connected = true;
        self.group.coordinator_known(self.now);
    }

    fn lose_coordinator(&mut self) {
        self.connected = false;
        self.in_doubt();
        self.group.coordinator_lost(self.now);
    }

    /// What was told before counts no more.
    fn in_doubt(&mut self) {
        self.heard_owned = None;
        self.heard_topics = None;
    }

    /// The outcome of this one is heard by the machine: it belongs to the present membership.
    fn counts(&self, asked: &Asked) -> bool {
        asked.request.member_epoch >= 0
            && asked.endings == self.endings
            && !matches!(
                self.group.state(),
                State::Leaving | State::Unsubscribed | State::Stale | State::Fatal
            )
    }

    fn fail(&mut self, what: ErrorKind) {
        let Some(asked) = self.asked.pop_front() else { return };
        if self.counts(&asked) {
            self.in_doubt();
        }
        let error = Error::new(what, "made up");
        bounded(0, || self.group.handle_failure(self.now, error));
    }

    /// Metadata tell the names of some topics: now and then the same name for two, or another than before.
    fn name(&mut self, input: &mut Input<'_>) {
        let mut known: Vec<(TopicId, Arc<str>)> = Vec::new();
        for _ in 0..1 + input.below(8) {
            let topic = input.below(9);
            let name = if input.byte() > 230 { input.below(4) } else { topic % 4 };
            known.push((id(topic), format!("t{name}").into()));
        }
        for (id, name) in &known {
            self.names.entry(*id).or_default().insert(name.to_string());
        }
        self.group.topic_names(self.now, known);
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(asked) = self.asked.pop_front() else { return };
        let mut body = BytesMut::new();
        let choice = input.byte();
        if choice > 240 {
            body.extend_from_slice(input.some());
        } else {
            let code = if choice > 180 { CODES[input.below(CODES.len())] } else { 0 };
            let answer = self.answer_to(&asked.request, code, input);
            answer.encode(self.version, &mut body).expect("an answer");
        }
        self.deliver(&asked, &body);
    }

    fn answer_to(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        error_code: i16,
        input: &mut Input<'_>,
    ) -> answer::ConsumerGroupHeartbeatResponse {
        let choices = input.byte();
        let member_epoch = match choices & 7 {
            7 => input.number(),
            more if request.member_epoch == 0 => 1 + i32::from(more),
            0..=3 => request.member_epoch,
            more => request.member_epoch.saturating_add(i32::from(more) - 3),
        };
        let assignment = (choices & 8 == 8).then(|| answer::Assignment {
            topic_partitions: (0..input.below(5))
                .map(|_| answer::TopicPartitions {
                    topic_id: id(input.below(9)),
                    partitions: (0..input.below(4)).map(|_| input.number()).map(|p| p.min(1 << 20)).collect(),
                })
                .collect(),
        });
        answer::ConsumerGroupHeartbeatResponse {
            error_code,
            error_message: (choices & 16 == 16).then(|| "words\u{7}\u{202e}".to_owned()),
            member_id: (choices & 32 == 32).then(|| "other".to_owned()),
            member_epoch,
            heartbeat_interval_ms: INTERVALS[usize::from(choices >> 5) % INTERVALS.len()],
            assignment,
            ..Default::default()
        }
    }

    fn deliver(&mut self, asked: &Asked, body: &[u8]) {
        let counts = self.counts(asked);
        let before = self.group.identity().map_or(0, |identity| identity.generation_id);
        match ConsumerGroupHeartbeatResponse::decode(self.version, body) {
            Ok(told) if told.error_code == 0 => {
                let plausible = told.member_epoch > 0 && told.member_epoch >= before;
                if told.heartbeat_interval_ms > 0 {
                    self.interval = self.interval.min(shortest(told.heartbeat_interval_ms));
                }
                if let Some(assignment) = told.assignment.filter(|_| plausible) {
                    if counts {
                        self.target.clear();
                    }
                    self.exact = counts;
                    for topic in assignment.topic_partitions.iter().filter(|t| !t.topic_id.is_reserved()) {
                        let partitions = topic.partitions.iter().filter(|p| *p >= 0);
                        self.target.extend(partitions.map(|partition| (topic.topic_id, partition)));
                    }
                }
                if counts && !plausible {
                    self.in_doubt();
                }
            }
            _ if counts => self.in_doubt(),
            _ => {}
        }
        bounded(body.len(), || self.group.handle_response(self.now, self.version, body));
        let after = self.group.identity().map_or(0, |identity| identity.generation_id);
        assert!(after == 0 || after >= before, "the epoch goes from {before} back to {after}");
    }

    fn drain(&mut self) {
        let mut actions = 0;
        loop {
            while let Some(action) = self.group.poll_action() {
                actions += 1;
                assert!(actions <= MOST_ACTIONS + self.asked.len(), "{action:?} is one of too many");
                self.carry_out(action);
            }
            // Without the group connection everything that is in flight on it fails.
            if self.connected || self.asked.is_empty() {
                break;
            }
            self.fail(ErrorKind::Transport);
        }
        self.check();
    }

    fn carry_out(&mut self, action: GroupAction) {
        match action {
            GroupAction::FindCoordinator => {
                assert!(!self.finding, "it is being looked for");
                self.finding = true;
                self.connected = false;
            }
            GroupAction::Send(GroupRequest::ConsumerHeartbeat(request)) => self.sent(request),
            GroupAction::Send(other) => panic!("{other:?} is of the other protocol"),
            GroupAction::Compute(job) => panic!("{job:?} is of the other protocol"),
            GroupAction::WantMetadata(topics) => panic!("{topics:?} are of the other protocol"),
            GroupAction::WantTopicNames => self.names_wanted = true,
            GroupAction::Revoke { partitions, deadline } => {
                assert!(deadline <= self.now + REBALANCE, "S7: longer than the coordinator waits");
                self.told.revoke(self.now, partitions, deadline);
            }
            GroupAction::Assign(partitions) => {
                assert!(self.told.revoking.is_none(), "S6: more is taken before all is given back");
                for tp in &partitions {
                    assert!(self.is_wanted(tp), "S6: nobody assigned {tp}: {:?}", self.target);
                }
                self.told.assign(partitions);
            }
            GroupAction::Lost(partitions) => self.told.lose(&partitions),
            GroupAction::Left => {
                assert!(std::mem::take(&mut self.left_wanted), "nobody waits for the end");
            }
            GroupAction::Fail(error) => {
                assert_eq!(self.group.state(), State::Fatal, "{error}");
                assert!(error.is_fatal(), "{error}");
            }
            GroupAction::Report(error) => assert!(!error.is_fatal(), "{error}"),
        }
    }

    /// Whether the topic has ever been told to be this one.
    fn may_be(&self, (id, partition): &Part, tp: &TopicPartition) -> bool {
        *partition == tp.partition() && self.names.get(id).is_some_and(|names| names.contains(tp.topic()))
    }

    fn is_wanted(&self, tp: &TopicPartition) -> bool {
        self.target.iter().any(|part| self.may_be(part, tp))
    }

    /// Whether this names what is owned, and all of it.
    fn is_owned(&self, parts: &BTreeSet<Part>) -> bool {
        parts.len() == self.told.owned.len()
            && self.told.owned.iter().all(|tp| parts.iter().any(|part| self.may_be(part, tp)))
    }

    fn sent(&mut self, request: ConsumerGroupHeartbeatRequest) {
        assert!(self.connected && !self.finding, "sent to nobody: {request:?}");
        assert_eq!((&request.group_id[..], &request.instance_id), ("g", &self.instance));
        let same = self.member_id.get_or_insert_with(|| request.member_id.clone());
        assert!(!same.is_empty() && *same == request.member_id, "S7: another member id");
        if request.member_epoch < 0 {
            let for_good = self.instance.is_none() || (self.leave_on_close && !self.is_subscribed());
            // Letting go of an instance id is one for a while, too.
            let known = (request.member_epoch == -1 && for_good)
                || (request.member_epoch == -2 && self.instance.is_some());
            assert!(known, "leaves: {request:?}");
            let leaves = self.asked.iter().filter(|asked| asked.request.member_epoch < 0).count();
            assert!(leaves <= 1 + self.endings, "{leaves} leaves are under way");
        } else {
            self.beats(&request);
        }
        self.asked.push_back(Asked { request, endings: self.endings });
        self.sent += 1;
    }

    fn beats(&mut self, request: &ConsumerGroupHeartbeatRequest) {
        let under_way = |a: &&Asked| a.request.member_epoch >= 0 && a.endings == self.endings;
        let under_way = self.asked.iter().filter(under_way).count();
        assert_eq!(under_way, 0, "a heartbeat while another is under way");
        let identity = self.group.identity();
        let epoch = identity.map_or(0, |identity| identity.generation_id);
        assert_eq!(request.member_epoch, epoch, "an epoch of another membership");
        if epoch == 0 {
            assert!(self.is_subscribed(), "joins without a subscription");
            assert!(self.told.owned.is_empty(), "S6: joins while it owns {:?}", self.told.owned);
            let all = request.topic_partitions.is_some() && request.subscribed_topic_names.is_some();
            assert!(all && request.rebalance_timeout_ms > 0, "a join that does not tell all: {request:?}");
        }
        if let Some(topics) = &request.topic_partitions {
            let parts = topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.topic_id, *p)));
            self.heard_owned = Some(parts.collect());
        }
        let heard = self.heard_owned.as_ref().expect("S10: what is owned was not told, or is in doubt");
        assert!(self.is_owned(heard), "S10: told {heard:?}, owned {:?}", self.told.owned);
        if let Some(regex) = &request.subscribed_topic_regex {
            self.heard_pattern.clone_from(regex);
        }
        if let Some(topics) = &request.subscribed_topic_names {
            assert_eq!(self.heard_pattern, self.pattern, "the pattern");
            self.heard_topics = Some(topics.iter().cloned().collect());
        }
        let heard = self.heard_topics.as_ref().expect("the subscription was not told, or is in doubt");
        assert!(
            (heard == &self.topics && self.heard_pattern == self.pattern) || !self.is_subscribed(),
            "told {heard:?} and {:?}",
            self.heard_pattern
        );
    }

    fn check(&mut self) {
        let state = self.group.state();
        assert_eq!(self.group.owned(), &self.told.owned, "told and owned are not the same");
        let member = self.group.identity().is_some();
        if !member {
            assert!(self.told.owned.is_empty(), "S6: {state:?} owns {:?}", self.told.owned);
            self.target.clear();
            self.exact = true;
        }
        assert!(self.names_wanted || !self.group.waits_for_names(), "L4: nobody asks for the names");
        self.names_wanted &= self.group.waits_for_names();
        match state {
            State::Unsubscribed | State::Fenced | State::Stale | State::Fatal | State::Leaving => {
                assert!(!member, "S9: a commit of {state:?}");
                assert!(self.is_subscribed() || !matches!(state, State::Fenced), "{state:?} of nothing");
            }
            State::Joining => assert!(!member && self.is_subscribed(), "{state:?} of a member"),
            State::Stable if self.exact => {
                assert!(self.is_owned(&self.target), "{:?} of {:?}", self.told.owned, self.target);
            }
            State::Reconciling if self.told.revoking.is_none() => {
                let names = self.target.iter().map(|(id, _)| id).collect::<BTreeSet<_>>();
                assert!(self.group.waits_for_names() || names.len() > 1, "L4: nothing to wait for");
            }
            State::PrepareLeaving => assert!(self.told.revoking.is_some(), "L4: nothing to wait for"),
            _ => {}
        }
        self.check_timers(state);
    }

    fn check_timers(&mut self, state: State) {
        // A spurious timeout is a no-op, and what is due was done.
        self.group.handle_timeout(self.now);
        assert!(
            !self.group.has_actions(),
            "a spurious timeout does something: {:?}",
            self.group.poll_action()
        );
        let due = self.group.next_timeout();
        assert!(due.is_none_or(|due| due > self.now), "still due at {due:?} of {:?}", self.now);
        let beats = matches!(
            state,
            State::Joining
                | State::Reconciling
                | State::Acknowledging
                | State::Stable
                | State::Fenced
                | State::PrepareLeaving
        );
        if beats && !self.finding {
            let under_way = self.asked.iter().any(|asked| asked.request.member_epoch >= 0);
            assert!(due.is_some() || under_way, "L4: {state:?} waits for nothing");
            assert!(under_way || due <= Some(self.now + LONGEST), "L4: {state:?} until {due:?}");
        }
        if state == State::Leaving {
            assert!(due.is_some_and(|due| due <= self.now + PATIENCE), "L2: leaves until {due:?}");
        }
        if self.told.revoking.is_some() {
            assert!(due.is_some_and(|due| due <= self.now + REBALANCE), "L4: revokes until {due:?}");
        }
    }

    /// L3: whatever the coordinator says, it is found again at once and says it at once.
    fn storm(&mut self, kind: usize) {
        let end = self.now + STORM;
        let before = self.sent;
        // Ten heartbeats do not wait; every interval allows for as many again. Between them are pauses.
        let intervals = STORM.as_millis() / self.interval.as_millis().max(1);
        let most = 40 + 12 * usize::try_from(intervals).expect("few");
        let nothing = &mut Input(&[]);
        loop {
            for topic in 2..6 {
                let name = format!("t{}", topic % 4);
                self.names.entry(id(topic)).or_default().insert(name.clone());
                self.group.topic_names(self.now, [(id(topic), name.into())]);
                self.drain();
            }
            if let Some(asked) = self.asked.pop_front() {
                self.storm_answer(&asked, kind);
            } else if self.finding {
                // A leave has no pauses of its own: those of the client that looks for the coordinator are enough.
                if matches!(self.group.state(), State::Leaving | State::Stale) {
                    self.now = self.now + Duration::from_millis(100);
                    self.group.handle_timeout(self.now);
                }
                self.find();
            } else if self.told.revoking.is_some() {
                let given = self.told.give_back(self.now, nothing);
                self.group.revocation_finished(self.now, &given);
            } else {
                let Some(due) = self.group.next_timeout().filter(|due| *due <= end) else { break };
                self.now = due;
                self.group.handle_timeout(due);
            }
            self.drain();
            assert!(self.sent - before <= most, "L3: {} requests in {STORM:?}", self.sent - before);
        }
    }

    fn storm_answer(&mut self, asked: &Asked, kind: usize) {
        let Some(code) = kind.checked_sub(1) else {
            self.asked.push_front(Asked { request: asked.request.clone(), endings: asked.endings });
            return self.fail(ErrorKind::Transport);
        };
        // Another assignment every time, or the same error.
        let partition = self.sent as i32 % 2;
        let mut body = BytesMut::new();
        let answer = answer::ConsumerGroupHeartbeatResponse {
            error_code: CODES[code % CODES.len()],
            member_epoch: asked.request.member_epoch.max(0).saturating_add(1),
            assignment: Some(answer::Assignment {
                topic_partitions: vec![answer::TopicPartitions {
                    topic_id: id(2 + (self.sent / 2) % 4),
                    partitions: vec![partition],
                }],
            }),
            ..Default::default()
        };
        answer.encode(self.version, &mut body).expect("an answer");
        self.deliver(asked, &body);
    }

    /// L2: a leave that nobody hears of any more ends all the same, and leaves nothing.
    fn end(&mut self) {
        self.leave();
        self.drain();
        let until = self.now + PATIENCE;
        while self.left_wanted {
            let due = self.group.next_timeout();
            assert!(due.is_some_and(|due| due <= until), "L2: not left, and due at {due:?}");
            self.now = due.unwrap_or(self.now);
            self.group.handle_timeout(self.now);
            self.drain();
        }
        assert_eq!(self.group.state(), State::Unsubscribed);
        assert_eq!(self.group.next_timeout(), None, "L2: a timer is left");
    }
}

/// The shortest interval that a member takes from a coordinator.
fn shortest(told_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(told_ms).unwrap_or(0)).max(Duration::from_millis(100))
}

/// A sequence of anything that the coordinator, the reader, the user and time can do to a member.
pub fn member(data: &[u8]) {
    let mut input = Input(data);
    let storm = input.below(1 + CODES.len());
    let mut world = World::new(&mut input);
    let mut steps = 0;
    while !input.is_empty() && steps < 200 {
        world.step(&mut input);
        steps += 1;
    }
    world.storm(storm);
    world.end();
}
