//! What administrators ask for: topics, groups, and the offsets of groups.
//!
//! A call is cut into *steps* (`step.rs`), one for each request that it takes; it ends when all of them have, or with its
//! time. The client around it finds brokers and sends (`client/admin.rs`); everything else is decided here.

mod answers;
mod codes;
mod interface;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_wire::{ApiKey, ErrorCode};

pub use interface::{
    AdminAnswer, AdminCall, CreatedTopic, GroupDescription, GroupListing, GroupState, GroupType, Items,
    MemberDescription, NewTopic, TopicListing,
};
pub(crate) use step::{Ask, Place, Want, Whom};

use crate::{Backoff, BrokerId, CommandId, Error, Rng, Timestamp, TopicPartition};
use step::Step;

/// More than a cluster can sensibly have of anything that is listed: an answer with more is no answer.
const MAX_LISTED: usize = 1_000_000;

/// A step of a call.
pub(crate) type StepKey = (CommandId, u64);

/// What an answer is an answer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdminTag {
    pub(crate) key: StepKey,
    pub(crate) api: ApiKey,
}

#[derive(Debug)]
struct Call {
    answer: AdminAnswer,
    steps: BTreeMap<u64, Step>,
    /// It has failed as a whole.
    failed: Option<Error>,
}

/// All calls that are under way.
#[derive(Debug)]
pub(crate) struct Calls {
    calls: BTreeMap<CommandId, Call>,
    /// Never reused: an answer to a step that was given up finds nobody.
    next_step: u64,
    retry_backoff: (Duration, Duration),
    rng: Rng,
}

impl Calls {
    pub(crate) fn new(retry_backoff: (Duration, Duration), rng: Rng) -> Self {
        Self { calls: BTreeMap::new(), next_step: 0, retry_backoff, rng }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Nobody waits for anything any more.
    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }

    /// Begins `id`. Offsets that have to be looked up are not its business: `begin_altering` is told them.
    pub(crate) fn begin(&mut self, now: Timestamp, id: CommandId, call: AdminCall) {
        let unique = |names: Vec<String>| -> Vec<String> {
            names.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
        };
        let (answer, asks) = match call {
            AdminCall::ListTopics => (AdminAnswer::Topics(Vec::new()), vec![Ask::ListTopics]),
            AdminCall::CreateTopics { topics, validate_only } => {
                (AdminAnswer::CreatedTopics(Vec::new()), vec![Ask::CreateTopics { topics, validate_only }])
            }
            AdminCall::DeleteTopics(names) => {
                (AdminAnswer::DeletedTopics(Vec::new()), vec![Ask::DeleteTopics(unique(names))])
            }
            AdminCall::ListGroups => (AdminAnswer::Groups(Vec::new()), vec![Ask::ListBrokers]),
            AdminCall::DescribeGroups(groups) => {
                let ask = |group| Ask::DescribeGroup { group, classic: false };
                let asks = unique(groups).into_iter().map(ask).collect();
                (AdminAnswer::DescribedGroups(Vec::new()), asks)
            }
            AdminCall::DeleteGroups(groups) => {
                let asks = unique(groups).into_iter().map(Ask::DeleteGroup).collect();
                (AdminAnswer::DeletedGroups(Vec::new()), asks)
            }
            AdminCall::ListGroupOffsets(group) => {
                (AdminAnswer::GroupOffsets(Vec::new()), vec![Ask::ListGroupOffsets(group)])
            }
            AdminCall::AlterGroupOffsets { group, offsets } => {
                let known = |(tp, offset)| match offset {
                    crate::offsets::Offset::At(offset) => Some((tp, offset)),
                    _ => None,
                };
                let offsets: Vec<_> = offsets.into_iter().filter_map(known).collect();
                return self.begin_altering(now, id, group, offsets, Vec::new());
            }
            AdminCall::DeleteGroupOffsets { group, partitions } => {
                let unique: BTreeSet<_> = partitions.into_iter().collect();
                let partitions = unique.into_iter().collect();
                let asks = vec![Ask::DeleteGroupOffsets { group, partitions }];
                (AdminAnswer::DeletedOffsets(Vec::new()), asks)
            }
        };
        self.start(now, id, answer, asks);
    }

    /// Begins to commit `offsets` for `group`; `failed` could not be looked up.
    pub(crate) fn begin_altering(
        &mut self,
        now: Timestamp,
        id: CommandId,
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
        failed: Items<TopicPartition, i64>,
    ) {
        let asks = vec![Ask::AlterGroupOffsets { group, offsets }];
        self.start(now, id, AdminAnswer::AlteredOffsets(failed), asks);
    }

    fn start(&mut self, now: Timestamp, id: CommandId, answer: AdminAnswer, asks: Vec<Ask>) {
        self.calls.insert(id, Call { answer, steps: BTreeMap::new(), failed: None });
        self.add_steps(now, id, asks.into_iter().filter(|ask| !ask.is_empty()));
    }

    fn add_steps(&mut self, now: Timestamp, id: CommandId, asks: impl Iterator<Item = Ask>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let (initial, max) = self.retry_backoff;
        for ask in asks {
            call.steps.insert(self.next_step, Step::new(now, ask, Backoff::new(initial, max)));
            self.next_step = self.next_step.wrapping_add(1);
        }
    }

    /// The steps that have something to send.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<StepKey> {
        let of_call = |(id, call): (&CommandId, &Call)| {
            let id = *id;
            let due: Vec<StepKey> =
                call.steps.iter().filter(|(_, s)| s.want(now).is_some()).map(|(k, _)| (id, *k)).collect();
            due
        };
        self.calls.iter().flat_map(of_call).collect()
    }

    fn step(&mut self, (id, step): StepKey) -> Option<&mut Step> {
        self.calls.get_mut(&id)?.steps.get_mut(&step)
    }

    /// What a step has to send now.
    pub(crate) fn want(&self, now: Timestamp, (id, step): StepKey) -> Option<(&Ask, Want<'_>)> {
        let step = self.calls.get(&id)?.steps.get(&step)?;
        Some((&step.ask, step.want(now)?))
    }

    /// It was sent.
    pub(crate) fn sent(&mut self, key: StepKey) {
        if let Some(step) = self.step(key) {
            step.sent();
        }
    }

    /// Whether an answer is one about whom to ask; `None` if nobody waits for it any more.
    pub(crate) fn is_finding(&mut self, key: StepKey) -> Option<bool> {
        self.step(key).map(|step| step.is_finding())
    }

    /// The group whose coordinator is looked for, if it is one.
    pub(crate) fn group_sought(&self, (id, step): StepKey) -> Option<&str> {
        match &self.calls.get(&id)?.steps.get(&step)?.ask {
            Ask::DescribeGroup { group, .. }
            | Ask::DeleteGroup(group)
            | Ask::ListGroupOffsets(group)
            | Ask::AlterGroupOffsets { group, .. }
            | Ask::DeleteGroupOffsets { group, .. } => Some(group),
            _ => None,
        }
    }

    /// Whether a step has asked who is in the cluster, to ask each.
    pub(crate) fn is_listing_brokers(&self, (id, step): StepKey) -> bool {
        let step = self.calls.get(&id).and_then(|call| call.steps.get(&step));
        step.is_some_and(|step| matches!(step.ask, Ask::ListBrokers))
    }

    /// Nobody says who coordinates the group.
    pub(crate) fn coordinator_refused(&mut self, now: Timestamp, key: StepKey, code: ErrorCode) {
        let Some(step) = self.step(key) else { return };
        let error = codes::refused(&step.ask.what(), code, None);
        match codes::judge(codes::Asked::Coordinator, code) {
            codes::Verdict::Told(_) => self.refuse(key, error),
            _ => self.not_found(now, key, error),
        }
    }

    /// The broker to ask is known.
    pub(crate) fn found(&mut self, key: StepKey, broker: BrokerId) {
        if let Some(step) = self.step(key) {
            step.found(broker);
        }
    }

    /// Whom to ask was not told.
    pub(crate) fn not_found(&mut self, now: Timestamp, key: StepKey, error: Error) {
        let rng = &mut self.rng;
        if let Some(step) = self.calls.get_mut(&key.0).and_then(|call| call.steps.get_mut(&key.1)) {
            step.moved(now, error, rng);
        }
    }

    /// The request has no answer.
    pub(crate) fn failed(&mut self, now: Timestamp, key: StepKey, error: Error) {
        let rng = &mut self.rng;
        let Some(call) = self.calls.get_mut(&key.0) else { return };
        let Some(step) = call.steps.get_mut(&key.1) else { return };
        step.failed(now, error, rng);
        self.relist(now, key.0);
    }

    /// A broker cannot be connected to.
    pub(crate) fn unreachable(&mut self, now: Timestamp, broker: BrokerId, error: &Error) {
        let ids: Vec<CommandId> = self.calls.keys().copied().collect();
        for id in ids {
            if let Some(call) = self.calls.get_mut(&id) {
                let rng = &mut self.rng;
                call.steps.values_mut().for_each(|step| step.unreachable(now, broker, error, rng));
            }
            self.relist(now, id);
        }
    }

    /// A list of groups in which a broker is missing would be wrong: its groups are somebody else's by now. All
    /// brokers are asked again, those that are there then.
    fn relist(&mut self, now: Timestamp, id: CommandId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let broken = |step: &Step| matches!(step.ask, Ask::ListGroups(_)) && step.next_timeout(now).is_some();
        let Some(key) = call.steps.iter().find(|(_, step)| broken(step)).map(|(key, _)| *key) else {
            return;
        };
        let Some(mut step) = call.steps.remove(&key) else { return };
        step.ask_brokers();
        call.steps.clear();
        call.steps.insert(self.next_step, step);
        self.next_step = self.next_step.wrapping_add(1);
        call.answer = AdminAnswer::Groups(Vec::new());
    }

    /// The brokers are known: the groups of each are asked for.
    pub(crate) fn brokers_told(&mut self, now: Timestamp, key: StepKey, brokers: &[BrokerId]) {
        let Some(call) = self.calls.get_mut(&key.0) else { return };
        let Some(step) = call.steps.remove(&key.1) else { return };
        let backoff = step.into_backoff();
        for broker in brokers {
            call.steps.insert(self.next_step, Step::new(now, Ask::ListGroups(*broker), backoff.clone()));
            self.next_step = self.next_step.wrapping_add(1);
        }
    }

    /// A step cannot be done, ever: its items have this result.
    pub(crate) fn refuse(&mut self, (id, step): StepKey, error: Error) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(step) = call.steps.remove(&step)
            && let Some(error) = step.ask.fail(error, &mut call.answer)
        {
            call.failed = Some(error);
        }
    }

    /// Takes a call that has ended, if one has.
    pub(crate) fn poll_finished(&mut self) -> Option<(CommandId, Result<AdminAnswer, Error>)> {
        let over = |call: &Call| call.steps.is_empty() || call.failed.is_some();
        let id = self.calls.iter().find(|(_, call)| over(call)).map(|(id, _)| *id)?;
        let call = self.calls.remove(&id)?;
        Some((id, call.failed.map_or(Ok(call.answer), Err)))
    }

    /// The time of `id` is over: what has no result has none. `before`: why no broker was reached at all, if so.
    pub(crate) fn expire(
        &mut self,
        id: CommandId,
        before: Option<&Error>,
    ) -> Option<Result<AdminAnswer, Error>> {
        let mut call = self.calls.remove(&id)?;
        for step in call.steps.into_values() {
            let late = step.late(before);
            if let Some(error) = step.ask.fail(late, &mut call.answer) {
                call.failed = Some(error);
            }
        }
        Some(call.failed.map_or(Ok(call.answer), Err))
    }

    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        self.calls.values().flat_map(|call| call.steps.values()).filter_map(|s| s.next_timeout(now)).min()
    }
}
