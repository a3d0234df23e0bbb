//! One step after another until nothing moves any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_wire::messages::MetadataRequest;
use ottla_wire::messages::metadata_request::MetadataRequestTopic;

use super::anybody::Question;
use super::close::Closing;
use super::{Client, Mode, Tag, TimerReason};
use crate::connection::{Role, Target};
use crate::fetch::{Candidate, MIN_GRANT};
use crate::group::ClassicGroup;
use crate::{BrokerId, Timestamp};

impl Client {
    /// Hands on what happened and does what has become due or possible. Repeating it changes nothing.
    pub(super) fn advance(&mut self, now: Timestamp) {
        self.now = now;
        self.drained = false;
        if matches!(self.closing, Closing::Done) {
            return;
        }
        loop {
            let mut moved = false;
            while let Some(event) = self.network.poll_event() {
                self.handle_network(now, event);
                moved = true;
            }
            while let Some(action) = self.group.as_mut().and_then(|g| g.poll_action()) {
                self.handle_group_action(now, action);
                moved = true;
            }
            moved |= self.drive(now);
            moved |= self.group.as_ref().is_some_and(ClassicGroup::has_actions) || self.network.has_events();
            if !moved {
                break;
            }
        }
    }

    /// Lets each part do what it can. True if that led to something that has to be handed on at once.
    fn drive(&mut self, now: Timestamp) -> bool {
        if let Some(group) = &mut self.group
            && group.next_timeout().is_some_and(|at| now >= at)
        {
            group.handle_timeout(now);
        }
        let mut moved = self.drive_delivery(now);
        self.expire_commands(now);
        self.drive_close(now);
        if matches!(self.closing, Closing::Done) {
            return false;
        }
        self.drive_metadata(now);
        self.drive_coordinator(now);
        self.drive_lookups(now);
        self.drive_committed(now);
        moved |= self.drive_commits(now);
        self.drive_fetches(now);
        moved
    }

    /// Which topics metadata is asked for, and asking for it.
    fn drive_metadata(&mut self, now: Timestamp) {
        let wanted = self.wanted_topics();
        if wanted != *self.cluster.wanted() && self.cluster.want(wanted) {
            self.refresh.request(now);
        }
        let needed =
            !self.cluster.is_known() || !self.cluster.wanted().is_empty() || !self.commands.is_empty();
        if !needed || self.refresh.next().is_none_or(|at| now < at) {
            return;
        }
        let Some(target) = self.anybody(now, Question::Metadata) else {
            return;
        };
        let topics = self.cluster.wanted().clone();
        let request = MetadataRequest {
            topics: Some(
                topics
                    .iter()
                    .map(|name| MetadataRequestTopic { name: Some(name.to_string()), ..Default::default() })
                    .collect(),
            ),
            allow_auto_topic_creation: self.config.allow_auto_create_topics,
            ..MetadataRequest::default()
        };
        self.refresh.sent();
        let timeout = self.config.request_timeout;
        self.network.send(now, (target, Role::Control), &request, i16::MAX, Tag::Metadata(topics), timeout);
    }

    fn wanted_topics(&self) -> BTreeSet<Arc<str>> {
        let mut wanted: BTreeSet<Arc<str>> = BTreeSet::new();
        if self.mode == Mode::Subscribed {
            wanted.extend(self.subscription.iter().map(|t| Arc::from(t.as_str())));
            wanted.extend(self.leader_topics.iter().map(|t| Arc::from(t.as_str())));
        }
        wanted.extend(self.delivery.lock().topics());
        wanted.extend(self.lookups.partitions().map(|tp| tp.topic_arc().clone()));
        wanted.extend(self.commands.values().flat_map(|c| c.topics()));
        wanted
    }

    /// One request to every broker that leads something we want and has none under way.
    fn drive_fetches(&mut self, now: Timestamp) {
        if !matches!(self.closing, Closing::No) {
            return;
        }
        let cluster = self.cluster.generation();
        let (positions, generation, room) = {
            let mut delivery = self.delivery.lock();
            let generation = delivery.fetch_generation();
            if self.fetcher.is_settled(generation, cluster) {
                return;
            }
            let positions = delivery.fetchable();
            // What is asked for and has not come is spoken for: the reader's side tells when there is more.
            let wanted = MIN_GRANT + self.fetcher.reserved();
            let mut room = delivery.room_for(wanted);
            if room < MIN_GRANT && !positions.is_empty() {
                // Paused data must not starve what can be read; it is fetched again on resume.
                delivery.evict_paused(MIN_GRANT - room);
                room = delivery.room_for(wanted);
            }
            (positions, generation, room)
        };
        let mut by_broker: BTreeMap<BrokerId, Vec<Candidate>> = BTreeMap::new();
        let mut leaders = BTreeSet::new();
        let mut leaderless = false;
        for position in positions {
            let Some(leader) = self.cluster.leader(&position.tp) else {
                leaderless = true;
                continue;
            };
            leaders.insert(leader.broker);
            if self.fetcher.is_busy(leader.broker) {
                continue;
            }
            let topic_id = self.cluster.topic(position.tp.topic()).and_then(|t| t.id);
            let candidate = Candidate { position, topic_id, leader_epoch: leader.epoch };
            by_broker.entry(leader.broker).or_default().push(candidate);
        }
        if leaderless {
            self.refresh.request(now);
        }
        let brokers = leaders.len();
        self.fetcher.looked(generation, cluster, leaders);
        for (broker, candidates) in by_broker {
            let target = Target::Broker(broker);
            if !self.network.open(now, target, Role::Fetch) {
                continue;
            }
            let room = room.saturating_sub(self.fetcher.reserved());
            let Some(prepared) = self.fetcher.prepare(now, broker, candidates, room, brokers) else {
                continue;
            };
            let timeout = self.config.request_timeout + prepared.max_wait;
            let use_ = (target, Role::Fetch);
            self.network.send(now, use_, &prepared.request, prepared.max_version, Tag::Fetch, timeout);
        }
    }

    /// The next moment at which something is due, and what.
    pub(super) fn next_timeout(&self) -> Option<(Timestamp, TimerReason)> {
        if matches!(self.closing, Closing::Done) {
            return None;
        }
        let now = self.now;
        let later = |at: Option<Timestamp>| at.filter(|at| *at > now);
        let (reader, clock) = {
            let delivery = self.delivery.lock();
            (delivery.revocation_deadline(), delivery.poll_deadline())
        };
        let wants_metadata = !self.cluster.wanted().is_empty() || !self.cluster.is_known();
        [
            (self.network.next_timeout(), TimerReason::Request),
            (self.patience_timeout(), TimerReason::Reconnect),
            (later(self.refresh.next()).filter(|_| wants_metadata), TimerReason::Metadata),
            (later(self.coordinator.next_timeout()), TimerReason::Retry),
            (self.group.as_ref().and_then(|g| g.next_timeout()), TimerReason::Group),
            (self.lookups.next_timeout(now), TimerReason::Retry),
            (self.committed.as_ref().and_then(|c| c.next_timeout(now)), TimerReason::Retry),
            (later(self.commits.next_timeout()), TimerReason::Retry),
            (self.fetcher.next_timeout(now), TimerReason::Retry),
            (self.commit_timeout(), TimerReason::AutoCommit),
            (reader, TimerReason::Reader),
            (clock, TimerReason::Reader),
            (self.command_timeout(), TimerReason::Command),
            (self.close_timeout(), TimerReason::Command),
        ]
        .into_iter()
        .filter_map(|(at, why)| Some((at?, why)))
        .min()
    }
}
