//! What is counted, and the snapshot of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;
use tracing::field::Empty;

use super::{Client, Tag};
use crate::Timestamp;
use crate::connection::Target;
use crate::group::GroupRequestKind;
use crate::snapshot::{GroupSnapshot, Latency, Snapshot};

/// What took some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timed {
    /// A Fetch and its answer.
    Fetch,
    /// An OffsetCommit and its answer.
    Commit,
    /// An OffsetCommit until it was clear that there is no answer.
    LostCommit,
    /// A heartbeat and its answer.
    Heartbeat,
    /// Another request and its answer.
    Request,
    /// From the moment that the member is on its way to an assignment until it has it.
    Rebalance,
    /// For how long a broker asked to be left alone.
    Throttle,
}

/// A time that was measured, for histograms: the figures of a [`Snapshot`] one by one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observation {
    /// Of what.
    pub what: Timed,
    /// Host and port of the broker that it was with, if it was with one.
    pub server: Option<(Arc<str>, u16)>,
    /// How long it took.
    pub took: Duration,
    /// The name of an error code or of an [`ErrorKind`](crate::ErrorKind), if it failed.
    pub error: Option<&'static str>,
}

/// What no other part of the client counts.
#[derive(Debug)]
pub(super) struct Figures {
    born: Timestamp,
    fetch: Latency,
    commit: Latency,
    heartbeat: Latency,
    rebalance: Latency,
    pub(super) commits_failed: u64,
    rebalances: u64,
    generation: Option<i32>,
    generation_at: Option<Timestamp>,
    /// Since when the member is on its way to an assignment.
    rebalancing: Option<(Timestamp, Span)>,
    /// The commit that is under way.
    pub(super) committing: Option<Committing>,
    /// Whether somebody takes the observations.
    observed: bool,
    observations: VecDeque<Observation>,
    /// Every address was tried in vain.
    brokers_down: bool,
}

/// A commit that is under way.
#[derive(Debug)]
pub(super) struct Committing {
    since: Timestamp,
    target: Target,
    span: Span,
    pub(super) error: Option<&'static str>,
}

impl Figures {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            born: now,
            fetch: Latency::default(),
            commit: Latency::default(),
            heartbeat: Latency::default(),
            rebalance: Latency::default(),
            commits_failed: 0,
            rebalances: 0,
            generation: None,
            generation_at: None,
            rebalancing: None,
            committing: None,
            observed: false,
            observations: VecDeque::new(),
            brokers_down: false,
        }
    }

    /// The generation, or the member epoch, that the member is in now.
    pub(super) fn generation(&mut self, now: Timestamp, generation: Option<i32>) {
        if generation.is_some() && generation != self.generation {
            self.rebalances += 1;
            self.generation_at = Some(now);
        }
        self.generation = generation.or(self.generation);
    }

    fn observe(&mut self, observation: impl FnOnce() -> Observation) {
        if self.observed {
            self.observations.push_back(observation());
        }
    }
}

/// What a request is, to whoever measures it.
pub(super) fn timed(tag: &Tag) -> Timed {
    match tag {
        Tag::Fetch => Timed::Fetch,
        Tag::OffsetCommit => Timed::Commit,
        Tag::Group(GroupRequestKind::Heartbeat | GroupRequestKind::ConsumerHeartbeat) => Timed::Heartbeat,
        _ => Timed::Request,
    }
}

impl Client {
    /// From now on measured times are given by [`poll_observation`](Self::poll_observation), each after the input that
    /// it comes from; whoever asks for this has to take them.
    pub fn observe(&mut self) {
        self.figures.observed = true;
    }

    /// The next time that was measured.
    pub fn poll_observation(&mut self) -> Option<Observation> {
        self.figures.observations.pop_front()
    }

    fn server(&self, target: Target) -> Option<(Arc<str>, u16)> {
        self.network.address(target).map(|(host, port)| (Arc::clone(host), port))
    }

    /// A request was answered, and the answer was taken in.
    pub(super) fn took(&mut self, target: Target, what: Timed, took: Duration) {
        let mut error = None;
        match what {
            Timed::Fetch => self.figures.fetch.add(took),
            Timed::Heartbeat => self.figures.heartbeat.add(took),
            Timed::Commit => {
                self.figures.commit.add(took);
                error = self.commit_over(None);
            }
            Timed::LostCommit | Timed::Request | Timed::Rebalance | Timed::Throttle => {}
        }
        if self.figures.observed {
            let server = self.server(target);
            self.figures.observe(|| Observation { what, server, took, error });
        }
    }

    /// A commit goes out.
    pub(super) fn commit_begins(&mut self, now: Timestamp, target: Target, partitions: usize) {
        let server = self.network.address(target);
        let group = self.config.group.as_ref().map(|group| group.group_id.as_str());
        let span = tracing::debug_span!(
            parent: None,
            "commit",
            otel.kind = "client",
            messaging.system = "kafka",
            messaging.operation.name = "commit",
            messaging.operation.r#type = "settle",
            messaging.client.id = self.config.client_id.as_str(),
            messaging.consumer.group.name = group,
            messaging.batch.message_count = partitions,
            server.address = server.map(|(host, _)| &**host),
            server.port = server.map(|(_, port)| port),
            error.r#type = Empty,
        );
        self.figures.committing = Some(Committing { since: now, target, span, error: None });
    }

    /// The commit that was under way is over. Gives why it failed, if it did.
    fn commit_over(&mut self, error: Option<&'static str>) -> Option<&'static str> {
        let committing = self.figures.committing.take()?;
        let error = committing.error.or(error)?;
        committing.span.record("error.type", error);
        Some(error)
    }

    /// A commit has no answer.
    pub(super) fn commit_unanswered(&mut self, now: Timestamp, error: &'static str) {
        self.figures.commits_failed += 1;
        let Some(Committing { since, target, .. }) = self.figures.committing else { return };
        let (what, server, took) = (Timed::LostCommit, self.server(target), now.since(since));
        let error = self.commit_over(Some(error));
        self.figures.observe(|| Observation { what, server, took, error });
    }

    /// A broker throttles us.
    pub(super) fn observe_throttle(&mut self, target: Target, took: Duration) {
        if self.figures.observed {
            let server = self.server(target);
            let error = None;
            self.figures.observe(|| Observation { what: Timed::Throttle, server, took, error });
        }
    }

    /// Sees to how long rebalances take.
    pub(super) fn watch_group(&mut self, now: Timestamp) {
        let Some(group) = &self.group else { return };
        let figures = &mut self.figures;
        match (group.is_rebalancing(), &figures.rebalancing) {
            (Some(true), None) => {
                let group = self.config.group.as_ref().map(|group| group.group_id.as_str());
                let span = tracing::info_span!(
                    parent: None,
                    "rebalance",
                    messaging.system = "kafka",
                    messaging.client.id = self.config.client_id.as_str(),
                    messaging.consumer.group.name = group,
                    kafka.group.generation_id = Empty,
                );
                figures.rebalancing = Some((now, span));
            }
            (Some(false), Some(_)) => {
                let Some((since, span)) = figures.rebalancing.take() else { return };
                let (took, generation) = (now.since(since), group.identity().map(|i| i.generation_id));
                span.record("kafka.group.generation_id", generation);
                figures.rebalance.add(took);
                figures.observe(|| Observation { what: Timed::Rebalance, server: None, took, error: None });
                let owned = self.delivery.lock().owned_count();
                span.in_scope(|| {
                    tracing::info!(generation, partitions = owned, ?took, "the assignment stands")
                });
            }
            // It is not in the group any more: that was no rebalance.
            (None, Some(_)) => figures.rebalancing = None,
            (Some(true), Some(_)) | (Some(false) | None, None) => {}
        }
    }

    pub(super) fn are_brokers_down(&self) -> bool {
        self.figures.brokers_down
    }

    pub(super) fn set_brokers_down(&mut self, down: bool) {
        self.figures.brokers_down = down;
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let figures = &self.figures;
        let group = self.group.as_ref().zip(self.config.group.as_ref()).map(|(group, config)| {
            let identity = group.identity();
            GroupSnapshot {
                group_id: config.group_id.clone(),
                state: group.state_name(),
                coordinator: self.coordinator.broker(),
                generation_id: identity.as_ref().map(|i| i.generation_id),
                member_id: identity.map(|i| i.member_id),
                rebalances: figures.rebalances,
                rebalance: figures.rebalance,
                since_rebalance: figures.generation_at.map(|at| now.since(at)),
                heartbeat: figures.heartbeat,
            }
        });
        let delivery = self.delivery.lock();
        let (records, bytes) = delivery.consumed();
        let mut partitions = delivery.partition_snapshots();
        for partition in &mut partitions {
            let leader = self.cluster.leader(&partition.topic_partition);
            partition.leader = leader.map(|leader| leader.broker);
            partition.leader_epoch = leader.and_then(|leader| leader.epoch);
        }
        Snapshot {
            client_id: self.config.client_id.clone(),
            unix_millis: self.unix_millis(now),
            age: now.since(figures.born),
            group,
            brokers: self.network.snapshot(),
            brokers_down: figures.brokers_down,
            traffic: self.network.total(),
            topics: delivery.topic_snapshots(),
            partitions,
            records,
            bytes,
            buffered_bytes: delivery.buffered_bytes(),
            held_bytes: delivery.pinned_bytes(),
            since_read: delivery.since_read(now),
            fetch: figures.fetch,
            commit: figures.commit,
            commits_failed: figures.commits_failed,
            errors: delivery.errors_told(),
        }
    }

    /// How it stands, as [`Command::Snapshot`](super::Command::Snapshot) tells it.
    pub fn figures(&self, now: Timestamp) -> Snapshot {
        self.snapshot(now)
    }
}
