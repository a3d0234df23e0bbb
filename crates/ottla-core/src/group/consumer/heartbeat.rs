//! The heartbeat: when it is sent, what it tells, what the answer means.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::messages::ConsumerGroupHeartbeatRequest;
use ottla_wire::messages::consumer_group_heartbeat_request::TopicPartitions;

use super::errors::{self, Reaction, reaction, with_words};
use super::reply::{Reply, Told};
use super::{ConsumerGroup, ConsumerState as S, Part};
use crate::group::{GroupAction, GroupRequest};
use crate::planted::{planted, planting};
use crate::{Backoff, Error, ErrorKind, Timestamp, TopicId};

/// How many heartbeats may be sent without waiting for the interval before pauses are made. A rebalance takes two.
const FREE_BEATS: u32 = 10;

/// The interval until the coordinator has told one.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// The bounds of what a coordinator may tell: Kafka's default is 5 s.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    at: Timestamp,
    pub(super) membership: u64,
    /// Whether it was to leave.
    pub(super) leaves: bool,
}

/// When the next heartbeat is due.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) due: Timestamp,
    pub(super) interval: Duration,
    /// Of heartbeats that failed, and of those that came too thick.
    pub(super) backoff: Backoff,
    sent: Option<Timestamp>,
    /// Heartbeats in a row that did not wait for the interval.
    hurried: u32,
    /// Of heartbeats; rises at once and falls slowly.
    pub(super) round_trip: Duration,
}

impl Pulse {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            due: Timestamp::ZERO,
            interval: FIRST_INTERVAL,
            backoff,
            sent: None,
            hurried: 0,
            round_trip: Duration::ZERO,
        }
    }
}

/// Milliseconds as the wire counts them: what does not fit is as long as it can be.
fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

impl ConsumerGroup {
    /// Whether a heartbeat is wanted, whatever the time.
    pub(super) fn can_beat(&self) -> bool {
        let under_way = |s: &Sent| !s.leaves && s.membership == self.membership;
        let can = self.coordinator && self.state.beats() && !self.in_flight.iter().any(under_way);
        can && !(self.epoch > 0 && planted!(HeartbeatsStop))
    }

    /// The next heartbeat does not wait for the interval, unless that happened too often.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        let at =
            if self.pulse.hurried < FREE_BEATS { now } else { now + self.pulse.backoff.next(&mut self.rng) };
        self.pulse.due = self.pulse.due.min(at);
    }

    /// The heartbeat failed: the next one comes after a pause.
    pub(super) fn retry(&mut self, now: Timestamp) {
        self.pulse.due = now + self.pulse.backoff.next(&mut self.rng);
    }

    pub(super) fn try_beat(&mut self, now: Timestamp) {
        if !self.can_beat() || now < self.pulse.due {
            return;
        }
        if self.state == S::Fenced {
            self.state = S::Joining;
        }
        let regular = self.pulse.sent.is_none_or(|sent| now >= sent + self.pulse.interval);
        self.pulse.hurried = if regular { 0 } else { self.pulse.hurried.saturating_add(1) };
        self.pulse.sent = Some(now);
        self.pulse.due = now + self.pulse.interval;
        let mut owned = self.owned_parts();
        let revoking = self.assignment.revoking();
        if self.epoch > 0 && !revoking.is_empty() && planted!(RevocationCleared) {
            let ids = &self.ids;
            owned.retain(|(id, p)| {
                !revoking.iter().any(|tp| tp.partition() == *p && ids.get(tp.topic()) == Some(id))
            });
        }
        let mut request = self.request(self.epoch);
        let all = self.epoch == 0 || self.told_owned.is_none() || self.told_subscription.is_none();
        if all {
            request.rebalance_timeout_ms = millis(self.config.rebalance_timeout);
            request.rack_id.clone_from(&self.client_rack);
            request.server_assignor.clone_from(&self.config.remote_assignor);
        }
        // While it ends it is told no more: what is given back is.
        let ends = self.subscription.is_empty();
        let changed = !ends && self.told_subscription.as_ref() != Some(&self.subscription);
        if all || (changed && !planted!(SubscriptionUntold)) {
            request.subscribed_topic_names = Some(self.subscription.topics.iter().cloned().collect());
            // An empty one takes it back.
            let known = self.told_pattern.then(String::new);
            request.subscribed_topic_regex = self.subscription.pattern.clone().or(known);
            self.told_pattern |= self.subscription.pattern.is_some();
            self.told_subscription = Some(self.subscription.clone());
        }
        if all || self.told_owned.as_ref() != Some(&owned) {
            request.topic_partitions = Some(by_topic(&owned));
            self.told_owned = Some(owned);
        }
        self.maybe_known = true;
        self.send(now, request, false);
    }

    /// What every heartbeat tells.
    pub(super) fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch: epoch,
            instance_id: self.config.group_instance_id.clone(),
            ..Default::default()
        }
    }

    pub(super) fn send(&mut self, now: Timestamp, request: ConsumerGroupHeartbeatRequest, leaves: bool) {
        self.in_flight.push_back(Sent { at: now, membership: self.membership, leaves });
        self.actions.push_back(GroupAction::Send(GroupRequest::ConsumerHeartbeat(request)));
    }

    /// The answer to a heartbeat of this membership.
    pub(super) fn beat_answered(&mut self, now: Timestamp, sent: Sent, reply: Reply) {
        let round_trip = now.since(sent.at);
        self.pulse.round_trip = round_trip.max(self.pulse.round_trip / 8 * 7);
        let words = reply.message.as_deref();
        let code = reply.error;
        let done = reaction(code);
        if done != Reaction::Proceed {
            tracing::debug!(group = %self.config.group_id, %code, words, "the heartbeat was refused");
            self.in_doubt();
        }
        match done {
            Reaction::Proceed => self.accepted(now, sent, reply),
            Reaction::Backoff => self.retry(now),
            Reaction::Rediscover => {
                self.hurry(now);
                self.drop_coordinator();
            }
            Reaction::Fenced => self.fenced(now),
            Reaction::NoSuchGroup if self.epoch > 0 => self.fenced(now),
            Reaction::NoSuchGroup if self.may_fall_back => self.fell_back = Some(code),
            Reaction::Fatal
                if code == ErrorCode::UnsupportedVersion && self.epoch == 0 && self.may_fall_back =>
            {
                self.fell_back = Some(code);
            }
            // One without an instance id has none to let go of.
            Reaction::InstanceHeld if self.is_static() => self.instance_held(now, words),
            Reaction::Tell => {
                let text = "a topic of the subscription may not be described: grant DESCRIBE and READ on it";
                let error = Error::new(ErrorKind::Authorization, with_words(text.to_owned(), words));
                self.report(error.with_code(code).with_fatal(false));
                self.retry(now);
            }
            Reaction::Unexpected => {
                let text = format!("a heartbeat to group {} failed", self.config.group_id);
                let error = Error::new(ErrorKind::BrokerMisbehaved, with_words(text, words));
                self.report(error.with_code(code).with_retriable(true));
                self.retry(now);
            }
            Reaction::NoSuchGroup | Reaction::InstanceHeld | Reaction::Fatal => {
                let error = errors::fatal(code, words, &self.config);
                // The coordinator said so itself: there is nobody to leave.
                self.epoch = 0;
                self.fail(now, error);
            }
        }
    }

    /// An answer that cannot be read, or makes no sense: told once in a row, and asked again.
    pub(super) fn beat_failed(&mut self, now: Timestamp, error: Error) {
        self.report(error);
        self.in_doubt();
        self.retry(now);
    }

    fn misbehaved(&mut self, now: Timestamp, text: &str) {
        let text = format!("group {}: {text}", self.config.group_id);
        self.beat_failed(now, Error::new(ErrorKind::BrokerMisbehaved, text));
    }

    fn accepted(&mut self, now: Timestamp, sent: Sent, reply: Reply) {
        // An epoch below zero would turn the next heartbeat into a leave, and 0 into a join.
        if reply.epoch <= 0 || reply.epoch < self.epoch {
            return self.misbehaved(now, "the coordinator gave this member an epoch that cannot be");
        }
        let parts = match reply.assignment {
            None => None,
            Some(Told::Partitions { parts, strange }) => {
                if strange {
                    let text = format!(
                        "group {}: the coordinator assigned partitions that cannot be, they are left out",
                        self.config.group_id
                    );
                    self.report(Error::new(ErrorKind::BrokerMisbehaved, text));
                }
                Some(parts)
            }
            Some(Told::TooMany(count)) => {
                return self.misbehaved(now, &format!("the coordinator assigned {count} partitions"));
            }
        };
        let joined = self.epoch == 0;
        // Decided: a group that turns classic later is told as such.
        self.may_fall_back = false;
        if joined || reply.epoch == self.epoch || !planted!(EpochNotTaken) {
            self.epoch = reply.epoch;
        }
        self.released = false;
        let told = u64::try_from(reply.interval_ms).unwrap_or(0);
        if told > 0 {
            self.pulse.interval = Duration::from_millis(told).clamp(INTERVALS.0, INTERVALS.1);
        }
        self.pulse.due = (sent.at + self.pulse.interval).max(now);
        if self.pulse.hurried < FREE_BEATS && !joined {
            self.pulse.backoff.reset();
            self.reported = false;
        }
        let news = parts.is_some();
        if let Some(parts) = parts {
            let owned = self.owned_parts();
            // What was never taken over, because nobody could name it, is given up by saying what is owned.
            if self.target.difference(&parts).any(|part| !owned.contains(part)) {
                self.told_owned = None;
            }
            self.target = parts;
            self.note_what_is_owed(now);
        }
        if std::mem::take(&mut self.beat_again) {
            self.hurry(now);
        }
        if news || matches!(self.state, S::Joining | S::Acknowledging) {
            self.settle(now);
        }
        // What changed while the heartbeat was under way is told at once.
        let changed = self.told_subscription.as_ref() != Some(&self.subscription);
        if changed && !self.subscription.is_empty() && !planting!(SubscriptionUntold) {
            self.hurry(now);
        }
    }

    /// The coordinator does not know this member, or its epoch: what it owned may be somebody else's by now.
    fn fenced(&mut self, now: Timestamp) {
        if !self.assignment.owned().is_empty() && planted!(Zombie) {
            self.forget_membership();
        } else {
            self.end_membership();
        }
        if !self.is_static() && planted!(FreshIdWhenFenced) {
            self.member_id = super::state::new_member_id(&mut self.rng);
        }
        if self.subscription.is_empty() {
            return self.left_group();
        }
        self.state = S::Fenced;
        // The first time at once.
        let first = self.pulse.backoff.failures() == 0;
        let pause = self.pulse.backoff.next(&mut self.rng);
        self.pulse.due = if first { now } else { now + pause };
    }
}

pub(super) fn by_topic(parts: &std::collections::BTreeSet<Part>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (id, partition) in parts {
        topics.entry(*id).or_default().push(*partition);
    }
    topics.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
}
