//! Faults begin and end.

use std::time::Duration;

use kafka_protocol::messages::{
    FetchResponse, ListOffsetsResponse, OffsetCommitResponse, OffsetFetchResponse,
};
use ottla_broker::{Api, Corruption, ErrorCode, Fault as Scripted};
use ottla_core::{Rng, Timestamp, TopicPartition};

use super::{Fault, HEALED_AT, Planned};
use crate::MemberId;
use crate::network::{Condition, Way, Weather};
use crate::oracle::GROUP;
use crate::seed::Simulation;
use crate::tamper::Lie;

/// A fault that goes on.
#[derive(Debug)]
pub struct Active {
    fault: Fault,
    number: usize,
    until: Timestamp,
    undo: Undo,
    /// Whom it troubles, if not everybody.
    concerns: Option<MemberId>,
}

/// What is to be done at its end.
#[derive(Debug)]
enum Undo {
    Nothing,
    /// These nodes come back.
    Start(Vec<i32>),
    /// This node takes connections again.
    TakeIn(i32),
    /// Metadata is true again.
    Thaw,
    /// These lines of the script are crossed out; how often they hit is known only then.
    Script(Vec<usize>),
    /// The network is as before: the number of the condition.
    Weather(u64),
    /// A leader for partitions that have none.
    Lead,
    /// The watermark of this partition follows the log again.
    Watermark(TopicPartition),
    /// The log of this replica follows its leader's again.
    Replica(TopicPartition, i32),
    /// Timers are exact again.
    Exact,
    /// Answers are complete again.
    Honest(Vec<usize>),
    /// Transactions end at once again.
    Transactions,
}

impl Active {
    /// When it is over.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// Whom it troubles, if not everybody.
    pub fn concerns(&self) -> Option<MemberId> {
        self.concerns
    }
}

const GROUP_APIS: [Api; 5] =
    [Api::JoinGroup, Api::SyncGroup, Api::Heartbeat, Api::OffsetCommit, Api::OffsetFetch];

impl Simulation {
    /// Begins a fault. Gives whether anything came of it at once.
    pub(crate) fn begin(&mut self, planned: Planned) {
        let now = self.world.now();
        let at = self.world.broker_now();
        let mut rng = Rng::new(planned.seed);
        let nodes = self.nodes;
        let node = 1 + rng.below(nodes as u64) as i32;
        let until = (now + planned.lasts).min(HEALED_AT);
        let fault = planned.fault;
        self.world.trace.line(now, "fault", || planned.to_string());
        // Whoever stands still, or is to be silent, is so for up to 20 s, whatever the plan says.
        let still =
            matches!(fault, Fault::ConsumerPause | Fault::SlowUser | Fault::StuckUser | Fault::Throttle);
        // Members and topics may come and go while all is well.
        let well = matches!(
            fault,
            Fault::Churn
                | Fault::NewTopic
                | Fault::PartitionsGrow
                | Fault::Compaction
                | Fault::Transactions
                | Fault::Resubscribe
                | Fault::Close
        );
        let mut concerns = None;
        let trouble = match fault {
            Fault::StuckUser => HEALED_AT,
            _ if still => now + planned.lasts + Duration::from_secs(20),
            _ => now,
        };
        if !well {
            self.oracle.disturbed(trouble);
        }
        if matches!(fault, Fault::Hostile | Fault::Damage) {
            self.oracle.damages();
        }
        if fault == Fault::Refusals {
            self.oracle.refuses();
        }
        let mut hit = false;
        let mut undo = Undo::Nothing;
        match fault {
            Fault::BrokerStop | Fault::BrokerKill => {
                hit = self.take_down(node, fault == Fault::BrokerKill);
                undo = Undo::Start(vec![node]);
            }
            Fault::CoordinatorKill => {
                if let Some(node) = self.world.cluster.coordinator(GROUP) {
                    hit = self.take_down(node, true);
                    undo = Undo::Start(vec![node]);
                }
            }
            Fault::AllDown => {
                for node in 1..=nodes as i32 {
                    hit |= self.take_down(node, rng.below(2) == 0);
                }
                undo = Undo::Start((1..=nodes as i32).collect());
            }
            Fault::Rolling => {
                hit = self.take_down(node, false);
                undo = Undo::Start(vec![node]);
                let next = node % nodes as i32 + 1;
                let down = Duration::from_millis(200 + rng.below(1500));
                if self.rolled < nodes as u32 {
                    self.rolled += 1;
                    self.planned_later(
                        now + down + down,
                        Planned { seed: next as u64, lasts: down, ..planned },
                    );
                } else {
                    self.rolled = 0;
                }
            }
            Fault::CoordinatorMove => {
                let here = self.world.cluster.coordinator(GROUP);
                hit = here != Some(node) && self.world.cluster.move_coordinator(at, GROUP, node).is_ok();
            }
            Fault::CoordinatorLoading => {
                let apis = GROUP_APIS.into_iter().chain([Api::LeaveGroup, Api::ConsumerGroupHeartbeat]);
                let lines =
                    apis.map(|api| Scripted::on(api).always().error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
                undo = Undo::Script(lines.map(|line| self.world.cluster.add_fault(line)).collect());
            }
            Fault::Partition | Fault::OneWay | Fault::ClientCut | Fault::BrokerStopped => {
                let way = match (fault, rng.below(2)) {
                    (Fault::OneWay, 0) => Way::ToBroker,
                    (Fault::OneWay, _) => Way::ToClient,
                    _ => Way::Both,
                };
                let member = self.some_member(&mut rng);
                let (member, node) = match fault {
                    Fault::BrokerStopped => (None, Some(node)),
                    Fault::ClientCut => (member, None),
                    _ => (member, Some(node)),
                };
                concerns = member;
                undo = self.weather(member, node, way, until, Weather::Blocked);
            }
            Fault::SlowLink => {
                let rate = 2_000 + rng.below(60_000);
                let member = self.some_member(&mut rng).filter(|_| rng.below(2) == 0);
                concerns = member;
                undo = self.weather(member, None, Way::Both, until, Weather::Slow(rate));
            }
            Fault::Latency => {
                let by = Duration::from_millis(1 + rng.below(400));
                let member = self.some_member(&mut rng).filter(|_| rng.below(2) == 0);
                concerns = member;
                undo = self.weather(member, None, Way::Both, until, Weather::Late(by));
            }
            Fault::Dribble => {
                let until = until.min(now + Duration::from_secs(1));
                let member = self.some_member(&mut rng);
                concerns = member;
                undo = self.weather(member, None, Way::Both, until, Weather::Dribble);
            }
            Fault::HalfOpen | Fault::MidFrame => {
                let member = self.some_member(&mut rng);
                concerns = member;
                let links = self.world.links_of(|l| Some(l.member) == member);
                let mut lines = Vec::new();
                for link in links {
                    if rng.below(2) == 0 {
                        continue;
                    }
                    if fault == Fault::HalfOpen {
                        hit = true;
                        self.world.half_open(link);
                    } else {
                        let line = Scripted::any().connection(link.0).close_mid_frame(rng.below(60) as usize);
                        lines.push(self.world.cluster.add_fault(line));
                    }
                }
                if !lines.is_empty() {
                    undo = Undo::Script(lines);
                }
            }
            Fault::ConnectionDeaths => {
                let links = self.world.links_of(|_| true);
                if !links.is_empty() {
                    self.world.reset(links[rng.below(links.len() as u64) as usize]);
                    hit = true;
                }
                let next = now + Duration::from_millis(50 + rng.below(1450));
                if next < until {
                    let lasts = until.since(next);
                    self.planned_later(next, Planned { at: next, lasts, seed: rng.next_u64(), ..planned });
                }
            }
            Fault::AcceptClose => {
                // Those that are there go, or nobody would connect.
                let links = self.world.links_of(|l| l.node == node);
                hit = self.world.cluster.is_up(node) && !links.is_empty();
                if hit && self.world.cluster.turn_away(node, true).is_ok() {
                    links.into_iter().for_each(|l| self.world.reset(l));
                    undo = Undo::TakeIn(node);
                }
            }
            Fault::LeaderMove => {
                for _ in 0..1 + rng.below(4) {
                    let Some(tp) = self.some_partition(&mut rng) else { continue };
                    let node = 1 + rng.below(nodes as u64) as i32;
                    let cluster = &mut self.world.cluster;
                    let other =
                        cluster.leader(tp.topic(), tp.partition()).is_ok_and(|(l, _)| l != Some(node));
                    hit |= other && cluster.move_leader(at, tp.topic(), tp.partition(), node).is_ok();
                }
            }
            Fault::StaleMetadata => {
                self.world.cluster.freeze_metadata(true);
                undo = Undo::Thaw;
                let Some(tp) = self.some_partition(&mut rng) else { return };
                let moved =
                    self.world.cluster.leader(tp.topic(), tp.partition()).is_ok_and(|(l, _)| l != Some(node));
                hit = moved && self.world.cluster.move_leader(at, tp.topic(), tp.partition(), node).is_ok();
            }
            Fault::FlappingMetadata => {
                self.world.cluster.flap_metadata();
                undo = Undo::Thaw;
                for _ in 0..1 + rng.below(4) {
                    let Some(tp) = self.some_partition(&mut rng) else { continue };
                    let node = 1 + rng.below(nodes as u64) as i32;
                    let cluster = &mut self.world.cluster;
                    let moved =
                        cluster.leader(tp.topic(), tp.partition()).is_ok_and(|(l, _)| l != Some(node));
                    hit |= moved && cluster.move_leader(at, tp.topic(), tp.partition(), node).is_ok();
                }
            }
            Fault::LeaderLost => {
                let Some(tp) = self.some_partition(&mut rng) else { return };
                hit = self.world.cluster.lose_leader(at, tp.topic(), tp.partition()).is_ok();
                undo = Undo::Lead;
            }
            Fault::Retention => hit = self.retention(&mut rng),
            Fault::Truncation => hit = self.truncate(&mut rng),
            Fault::LaggingWatermark => {
                let Some(tp) = self.some_partition(&mut rng) else { return };
                let end = self.world.cluster.log_end_offset(tp.topic(), tp.partition()).unwrap_or(0);
                self.oracle.log(&tp).held.push(end);
                // Never below what was shown: a watermark does not go back.
                hit =
                    self.world.cluster.hold_high_watermark(at, tp.topic(), tp.partition(), Some(end)).is_ok();
                undo = Undo::Watermark(tp);
            }
            Fault::LaggingReplica => {
                let Some(tp) = self.some_partition(&mut rng) else { return };
                let (topic, partition) = (tp.topic(), tp.partition());
                let cluster = &mut self.world.cluster;
                let end = cluster.log_end_offset(topic, partition).unwrap_or(0);
                let least = cluster.log_start_offset(topic, partition).unwrap_or(0);
                let held = (end - rng.below(40) as i64).max(least);
                let leads = cluster.leader(topic, partition).is_ok_and(|(leader, _)| leader == Some(node));
                hit = !leads && cluster.hold_replica(at, topic, partition, node, Some(held)).is_ok();
                undo = Undo::Replica(tp, node);
            }
            Fault::TopicDelete => hit = self.delete_topic(),
            Fault::TopicRecreated => hit = self.recreate_topic(&mut rng),
            Fault::Compaction => hit = self.compact(&mut rng),
            Fault::Transactions => {
                self.producer.take_time();
                undo = Undo::Transactions;
            }
            Fault::Resubscribe => hit = self.resubscribe(&mut rng),
            Fault::Migration => hit = self.migrate(&mut rng),
            Fault::Close => hit = self.close_some(&mut rng),
            Fault::PartitionsGrow => hit = self.grow(&mut rng),
            Fault::NewTopic => hit = self.new_topic(),
            Fault::ConsumerKill => hit = self.kill_member(&mut rng, true),
            Fault::Churn => hit = self.churn(&mut rng),
            Fault::StaticBounce => hit = self.static_bounce(),
            Fault::ConsumerPause => {
                if let Some(member) = self.some_member(&mut rng) {
                    let lasts = self.settings.session() + Duration::from_millis(1000 + rng.below(9000));
                    let until = (now + lasts).min(HEALED_AT);
                    self.world.freeze(member, until);
                    self.freeze_user(member, until);
                    concerns = Some(member);
                    hit = true;
                }
            }
            Fault::SlowUser | Fault::StuckUser => {
                if let Some(member) = self.some_member(&mut rng) {
                    // One that is stuck comes back when everything is well.
                    let until = if fault == Fault::SlowUser {
                        (now + Duration::from_millis(5_000 + rng.below(15_000))).min(HEALED_AT)
                    } else {
                        HEALED_AT
                    };
                    self.freeze_user(member, until);
                    concerns = Some(member);
                    hit = true;
                }
            }
            Fault::CoarseTimers => {
                self.world.coarse_timers(Some(Duration::from_millis(1 + rng.below(200))));
                undo = Undo::Exact;
                hit = true;
            }
            Fault::SessionEviction => {
                hit = (1..=nodes as i32).any(|n| self.world.cluster.fetch_sessions(n) > 0);
                self.world.cluster.evict_fetch_sessions();
            }
            Fault::Hostile if rng.below(3) == 0 => {
                let lies = omissions(1 + rng.below(3) as usize);
                undo = Undo::Honest(lies.into_iter().map(|lie| self.world.lie(lie)).collect());
            }
            Fault::CommitErrors
            | Fault::LostAnswers
            | Fault::LateHeartbeats
            | Fault::GroupErrors
            | Fault::Refusals
            | Fault::FetchErrors
            | Fault::Throttle
            | Fault::Hostile
            | Fault::Damage => {
                let lines: Vec<Scripted> = script(fault, &mut rng, self.settings.consumer);
                undo = Undo::Script(lines.into_iter().map(|l| self.world.cluster.add_fault(l)).collect());
            }
        }
        if hit {
            self.coverage.hit(fault, planned.number);
        }
        // Whoever joins, leaves or reads on may wait for one that is troubled: a group's members are in one boat.
        let concerns = concerns.filter(|_| !matches!(fault, Fault::ConsumerPause | Fault::SlowUser));
        if !well {
            self.oracle.troubled(concerns, trouble);
        }
        self.world.drain();
        if !matches!(undo, Undo::Nothing) {
            self.active.push(Active { fault, number: planned.number, until, undo, concerns });
        }
    }

    /// Ends what is over.
    pub(crate) fn end_faults(&mut self) {
        let now = self.world.now();
        while let Some(index) = self.active.iter().position(|a| a.until <= now) {
            let active = self.active.swap_remove(index);
            self.end(active);
        }
    }

    /// Everything is well again.
    pub(crate) fn end_all_faults(&mut self) {
        while let Some(active) = self.active.pop() {
            self.end(active);
        }
        self.world.heal();
        self.world.coarse_timers(None);
        self.world.cluster.freeze_metadata(false);
        for node in 1..=self.nodes as i32 {
            self.start(node);
            let _ = self.world.cluster.turn_away(node, false);
        }
        self.lead();
        self.world.drain();
    }

    fn end(&mut self, active: Active) {
        let fault = active.fault;
        let now = self.world.now();
        self.world.trace.line(now, "fault", || format!("{} is over", fault.name()));
        match active.undo {
            Undo::Nothing => {}
            // What another fault holds stays as it is.
            Undo::Start(nodes) => {
                let held = |n: &i32| {
                    self.active.iter().any(|a| matches!(&a.undo, Undo::Start(nodes) if nodes.contains(n)))
                };
                let free: Vec<i32> = nodes.into_iter().filter(|n| !held(n)).collect();
                free.into_iter().for_each(|n| self.start(n));
            }
            Undo::TakeIn(node)
                if self.active.iter().any(|a| matches!(a.undo, Undo::TakeIn(n) if n == node)) => {}
            Undo::Transactions if self.active.iter().any(|a| matches!(a.undo, Undo::Transactions)) => {}
            Undo::Transactions => {
                if self.producer.finish(&mut self.world, &mut self.oracle) {
                    self.coverage.hit(fault, active.number);
                }
            }
            Undo::Thaw if self.active.iter().any(|a| matches!(a.undo, Undo::Thaw)) => {}
            Undo::Exact if self.active.iter().any(|a| matches!(a.undo, Undo::Exact)) => {}
            Undo::Lead if self.active.iter().any(|a| matches!(a.undo, Undo::Lead)) => {}
            Undo::Watermark(tp)
                if self.active.iter().any(|a| matches!(&a.undo, Undo::Watermark(of) if *of == tp)) => {}
            Undo::Replica(tp, node)
                if self
                    .active
                    .iter()
                    .any(|a| matches!(&a.undo, Undo::Replica(of, n) if *of == tp && *n == node)) => {}
            Undo::TakeIn(node) => {
                let _ = self.world.cluster.turn_away(node, false);
            }
            Undo::Thaw => self.world.cluster.freeze_metadata(false),
            Undo::Script(lines) => {
                for line in lines {
                    if self.world.cluster.fault_fired(line) > 0 {
                        self.coverage.hit(fault, active.number);
                    }
                    self.world.cluster.cancel_fault(line);
                }
            }
            Undo::Weather(number) => {
                if self.world.conditions.has_hit(number) {
                    self.coverage.hit(fault, active.number);
                }
            }
            Undo::Lead => self.lead(),
            Undo::Watermark(tp) => {
                let at = self.world.broker_now();
                let _ = self.world.cluster.hold_high_watermark(at, tp.topic(), tp.partition(), None);
            }
            Undo::Replica(tp, node) => {
                let at = self.world.broker_now();
                let _ = self.world.cluster.hold_replica(at, tp.topic(), tp.partition(), node, None);
            }
            Undo::Exact => self.world.coarse_timers(None),
            Undo::Honest(lies) => {
                for lie in lies {
                    if self.world.told(lie) > 0 {
                        self.coverage.hit(fault, active.number);
                    }
                    self.world.stop_lying(lie);
                }
            }
        }
        self.world.drain();
    }

    fn weather(
        &mut self,
        member: Option<MemberId>,
        node: Option<i32>,
        way: Way,
        until: Timestamp,
        what: Weather,
    ) -> Undo {
        Undo::Weather(self.world.weather(Condition { member, node, way, until, what }))
    }

    fn take_down(&mut self, node: i32, silent: bool) -> bool {
        if !self.world.cluster.is_up(node) {
            return false;
        }
        self.world.silence(node, silent);
        let at = self.world.broker_now();
        let done = self.world.cluster.stop_node(at, node).is_ok();
        self.world.drain();
        self.world.silence(node, false);
        done
    }

    fn start(&mut self, node: i32) {
        if !self.world.cluster.is_up(node) {
            let at = self.world.broker_now();
            let _ = self.world.cluster.start_node(at, node);
        }
    }

    /// Partitions without a leader get one.
    fn lead(&mut self) {
        let at = self.world.broker_now();
        let up: Vec<i32> = (1..=self.nodes as i32).filter(|n| self.world.cluster.is_up(*n)).collect();
        let Some(node) = up.first().copied() else { return };
        for tp in self.partitions.clone() {
            if self.world.cluster.leader(tp.topic(), tp.partition()).is_ok_and(|(l, _)| l.is_none()) {
                let _ = self.world.cluster.move_leader(at, tp.topic(), tp.partition(), node);
            }
        }
    }
}

/// Answers that leave a partition out, or everything.
fn omissions(times: usize) -> Vec<Lie> {
    let offset_fetch = Lie::about(Api::OffsetFetch, |answer| {
        answer.try_edit(|r: &mut OffsetFetchResponse| {
            r.topics.iter_mut().for_each(|t| drop(t.partitions.pop()));
            let topics = r.groups.iter_mut().flat_map(|g| &mut g.topics);
            topics.for_each(|t| drop(t.partitions.pop()));
        });
    });
    let offset_commit = Lie::about(Api::OffsetCommit, |answer| {
        answer.try_edit(|r: &mut OffsetCommitResponse| {
            r.topics.iter_mut().for_each(|t| drop(t.partitions.pop()));
        });
    });
    let list_offsets = Lie::about(Api::ListOffsets, |answer| {
        answer.try_edit(|r: &mut ListOffsetsResponse| {
            r.topics.iter_mut().for_each(|t| drop(t.partitions.pop()));
        });
    });
    // One that is refused as a whole is refused as long as it lasts.
    let fetch = Lie::about(Api::Fetch, |answer| {
        answer.try_edit(|r: &mut FetchResponse| {
            (r.error_code, r.session_id) = (-1, 0);
            r.responses.clear();
        });
    });
    let few = [offset_fetch, offset_commit, list_offsets].map(|lie| lie.times(times));
    few.into_iter().chain((times == 1).then(|| fetch.times(usize::MAX))).collect()
}

/// The lines of the brokers' script for a fault.
fn script(fault: Fault, rng: &mut Rng, consumer: bool) -> Vec<Scripted> {
    // What members of the consumer protocol (KIP-848) send instead.
    let sent = |api: Api| match api {
        Api::JoinGroup | Api::SyncGroup | Api::Heartbeat | Api::LeaveGroup if consumer => {
            Api::ConsumerGroupHeartbeat
        }
        api => api,
    };
    let pick = |rng: &mut Rng, codes: &[ErrorCode]| codes[rng.below(codes.len() as u64) as usize];
    let api = |rng: &mut Rng, apis: &[Api]| sent(apis[rng.below(apis.len() as u64) as usize]);
    let times = 1 + rng.below(4) as u32;
    let any = [
        Api::Fetch,
        Api::ListOffsets,
        Api::Metadata,
        Api::FindCoordinator,
        Api::JoinGroup,
        Api::SyncGroup,
        Api::Heartbeat,
        Api::LeaveGroup,
        Api::OffsetCommit,
        Api::OffsetFetch,
        Api::ApiVersions,
    ];
    (0..1 + rng.below(3))
        .map(|_| match fault {
            Fault::CommitErrors => Scripted::on(Api::OffsetCommit).times(times).error(pick(
                rng,
                &[
                    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                    ErrorCode::COORDINATOR_NOT_AVAILABLE,
                    ErrorCode::NOT_COORDINATOR,
                    ErrorCode::REBALANCE_IN_PROGRESS,
                    ErrorCode::ILLEGAL_GENERATION,
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    ErrorCode::REQUEST_TIMED_OUT,
                    ErrorCode::OFFSET_METADATA_TOO_LARGE,
                    ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
                    ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                    ErrorCode::STALE_MEMBER_EPOCH,
                    ErrorCode::UNKNOWN_SERVER_ERROR,
                ],
            )),
            // In the answers that they belong to.
            Fault::GroupErrors if rng.below(3) == 0 => {
                let (to, code) = match rng.below(5) {
                    0 => (Api::Heartbeat, ErrorCode::REBALANCE_IN_PROGRESS),
                    1 => (Api::SyncGroup, ErrorCode::REBALANCE_IN_PROGRESS),
                    2 => (Api::Heartbeat, ErrorCode::ILLEGAL_GENERATION),
                    3 => (Api::SyncGroup, ErrorCode::ILLEGAL_GENERATION),
                    _ => (Api::OffsetFetch, ErrorCode::UNSTABLE_OFFSET_COMMIT),
                };
                let code = match to {
                    Api::Heartbeat | Api::SyncGroup if consumer => ErrorCode::FENCED_MEMBER_EPOCH,
                    _ => code,
                };
                Scripted::on(sent(to)).times(times).error(code)
            }
            Fault::GroupErrors => {
                Scripted::on(api(rng, &[Api::JoinGroup, Api::SyncGroup, Api::Heartbeat, Api::OffsetFetch]))
                    .times(times)
                    .error(pick(
                        rng,
                        &[
                            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                            ErrorCode::COORDINATOR_NOT_AVAILABLE,
                            ErrorCode::NOT_COORDINATOR,
                            ErrorCode::UNKNOWN_MEMBER_ID,
                        ],
                    ))
            }
            Fault::Refusals => {
                let (to, code) = match rng.below(5) {
                    0 => (Api::JoinGroup, ErrorCode::GROUP_AUTHORIZATION_FAILED),
                    1 => (Api::JoinGroup, ErrorCode::GROUP_MAX_SIZE_REACHED),
                    2 => (Api::Heartbeat, ErrorCode::FENCED_INSTANCE_ID),
                    3 => (Api::OffsetCommit, ErrorCode::FENCED_INSTANCE_ID),
                    _ => (Api::OffsetCommit, ErrorCode::GROUP_AUTHORIZATION_FAILED),
                };
                Scripted::on(sent(to)).times(1).error(code)
            }
            Fault::FetchErrors => {
                Scripted::on(api(rng, &[Api::Fetch, Api::ListOffsets])).times(times).error(pick(
                    rng,
                    &[
                        ErrorCode::NOT_LEADER_OR_FOLLOWER,
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        ErrorCode::LEADER_NOT_AVAILABLE,
                        ErrorCode::REPLICA_NOT_AVAILABLE,
                        ErrorCode::KAFKA_STORAGE_ERROR,
                        ErrorCode::FENCED_LEADER_EPOCH,
                        ErrorCode::UNKNOWN_LEADER_EPOCH,
                    ],
                ))
            }
            Fault::LateHeartbeats => Scripted::on(sent(Api::Heartbeat))
                .times(times)
                .delay(Duration::from_millis(200 + rng.below(6_000))),
            Fault::Throttle => {
                Scripted::on(api(rng, &any)).times(times).throttle(Duration::from_millis(rng.below(20_000)))
            }
            Fault::LostAnswers => {
                let line = Scripted::on(api(rng, &any)).times(times);
                match rng.below(4) {
                    0 => line.drop_response(),
                    1 => line.close_connection(),
                    2 => line.close_connection().before_processing(),
                    _ => line.delay(Duration::from_millis(rng.below(8_000))),
                }
            }
            Fault::Damage => Scripted::on(Api::Fetch).times(times).corrupt(if rng.below(2) == 0 {
                Corruption::BatchCrc
            } else {
                Corruption::LastRecordByte
            }),
            _ => {
                let line = Scripted::on(api(rng, &any)).times(1 + rng.below(2) as u32);
                match rng.below(4) {
                    0 => line.corrupt(Corruption::CorrelationId),
                    1 => line.corrupt(Corruption::FrameLength(match rng.below(3) {
                        0 => -1,
                        1 => i32::MAX,
                        _ => 3,
                    })),
                    2 => line.respond_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
                    // Cut off: too short for any answer.
                    _ => line.respond_body(vec![0xff; 1]),
                }
            }
        })
        .collect()
}
