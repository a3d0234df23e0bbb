//! One step after another until nothing moves any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_wire::Request;
use ottla_wire::messages::metadata_request::MetadataRequestTopic;
use ottla_wire::messages::{FetchRequest, MetadataRequest};

use super::anybody::Question;
use super::close::Closing;
use super::truncation::doubt;
use super::{Client, Mode, Tag, TimerReason};
use crate::cluster::{Cluster, Leader};
use crate::connection::{Role, Target};
use crate::delivery::FetchPosition;
use crate::fetch::{Candidate, MIN_GRANT, Replicas, Room};
use crate::group::Group;
use crate::planted::{planted, planting};
use crate::{BrokerId, Timestamp, TopicPartition};

/// The first version of Fetch that tells where the logs part.
const DIVERGING_EPOCH: i16 = 12;

/// From whom a partition is fetched, and who leads it.
fn source(
    cluster: &Cluster,
    replicas: &Replicas,
    now: Timestamp,
    tp: &TopicPartition,
) -> Option<(BrokerId, Leader)> {
    let leader = cluster.leader(tp)?;
    let preferred = replicas.preferred(now, tp, leader);
    let preferred = preferred.filter(|broker| cluster.brokers().contains_key(broker));
    Some((preferred.unwrap_or(leader.broker), leader))
}

impl Client {
    /// Hands on what happened and does what has become due or possible. Repeating it changes nothing.
    pub(super) fn advance(&mut self, now: Timestamp) {
        debug_assert!(now >= self.now, "time goes back from {:?} to {now:?}", self.now);
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
            self.watch_group(now);
            moved |= self.group.as_ref().is_some_and(Group::has_actions) || self.network.has_events();
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
        self.drive_admin(now);
        self.drive_lookups(now);
        self.drive_committed(now);
        moved |= self.drive_commits(now);
        self.drive_fetches(now);
        moved | self.drive_validations(now)
    }

    /// Which topics metadata is asked for, and asking for it.
    fn drive_metadata(&mut self, now: Timestamp) {
        self.want_topics(now);
        let all = self.wants_all_topics(now);
        let needed =
            all || !self.cluster.is_known() || !self.cluster.wanted().is_empty() || !self.commands.is_empty();
        if !needed || self.refresh.next().is_none_or(|at| now < at) {
            return;
        }
        let since = *self.unanswered_since.get_or_insert(now);
        if now.since(since) >= self.config.metadata_recovery_rebootstrap_trigger {
            self.rebootstrap(now, "no broker tells what is in the cluster");
            self.unanswered_since = Some(now);
        }
        let Some(target) = self.anybody(now, Question::Metadata) else {
            return;
        };
        let topics = self.cluster.wanted().clone();
        let request = MetadataRequest {
            topics: (!all).then(|| {
                topics
                    .iter()
                    .map(|name| MetadataRequestTopic { name: Some(name.to_string()), ..Default::default() })
                    .collect()
            }),
            allow_auto_topic_creation: self.config.allow_auto_create_topics,
            ..MetadataRequest::default()
        };
        self.refresh.sent();
        let timeout = self.config.request_timeout;
        let tag = Tag::Metadata { topics, all };
        self.network.send(now, (target, Role::Control), &request, i16::MAX, tag, timeout);
    }

    /// Puts together which topics are wanted, if that may have changed: there may be thousands.
    fn want_topics(&mut self, now: Timestamp) {
        let generation = self.delivery.lock().fetch_generation();
        let asking = self.lookups.partitions().next().is_some() || !self.commands.is_empty();
        let passing = asking || self.commits.holds_last();
        if self.topics_as_of == Some(generation) && !passing {
            // Now and then, by the clock: it is the dearest of all assertions, and what is forgotten stays forgotten.
            debug_assert!(
                !(now.as_nanos() / 1000).is_multiple_of(8) || self.wanted_topics() == *self.cluster.wanted()
            );
            return;
        }
        self.topics_as_of = (!passing).then_some(generation);
        let wanted = self.wanted_topics();
        if wanted != *self.cluster.wanted() && self.cluster.want(wanted) {
            self.refresh.request(now);
        }
    }

    pub(super) fn wanted_topics(&self) -> BTreeSet<Arc<str>> {
        let mut wanted: BTreeSet<Arc<str>> = BTreeSet::new();
        if self.mode == Mode::Subscribed {
            wanted.extend(self.subscription.iter().map(|t| Arc::from(t.as_str())));
            wanted.extend(self.pattern.iter().flat_map(|pattern| pattern.named.iter().cloned()));
            wanted.extend(self.leader_topics.iter().map(|t| Arc::from(t.as_str())));
        }
        wanted.extend(self.delivery.lock().topics());
        wanted.extend(self.lookups.partitions().map(|tp| tp.topic_arc().clone()));
        wanted.extend(self.commands.values().flat_map(|c| c.topics()));
        wanted.extend(self.commits.last_topics().cloned());
        wanted
    }

    /// One request to every broker that leads something we want and has none under way.
    fn drive_fetches(&mut self, now: Timestamp) {
        if !matches!(self.closing, Closing::No) {
            return;
        }
        let cluster = self.cluster.generation();
        let generation = self.delivery.lock().fetch_generation();
        if self.replicas.next_timeout().is_some_and(|at| at <= now) {
            let delivery = self.delivery.lock();
            if self.replicas.expire(now, |tp| delivery.ownership(tp).is_some()) {
                self.fetcher.outdate();
            }
        }
        if self.fetcher.is_settled(generation, cluster) {
            return;
        }
        if self.fetcher.is_outdated(generation, cluster) {
            let positions = self.delivery.lock().fetchable();
            let leader = |p: &FetchPosition| Some(source(&self.cluster, &self.replicas, now, &p.tp)?.0);
            let in_doubt = |p: &&FetchPosition| doubt(&self.cluster, p).is_some();
            positions.iter().filter(in_doubt).for_each(|p| self.validations.begin(now, &p.tp));
            let known = positions.iter().filter(|p| !in_doubt(p));
            let leaders: BTreeSet<BrokerId> = known.filter_map(leader).collect();
            let leaderless = positions.iter().any(|position| leader(position).is_none());
            self.fetcher.looked(generation, cluster, leaders, leaderless);
        }
        if self.fetcher.is_leaderless() {
            self.refresh.request(now);
        }
        let (room, gathers) = {
            let mut delivery = self.delivery.lock();
            let reserved = self.fetcher.reserved();
            // What is asked for and has not come is spoken for: the reader's side tells when there is more.
            let wanted = MIN_GRANT + reserved;
            let mut room = delivery.room_for(wanted);
            if room < MIN_GRANT && self.fetcher.leaders() > 0 {
                // Paused data must not starve what can be read; it is fetched again on resume.
                delivery.evict_paused(MIN_GRANT - room);
                room = delivery.room_for(wanted);
            }
            // While something is under way, more is to come.
            delivery.set_without_room(reserved == 0 && room < MIN_GRANT);
            (room, delivery.gathers())
        };
        // Who gathers wants as much as there is room for.
        let read_ahead = usize::try_from(self.config.max_partition_fetch_bytes).unwrap_or(0);
        let of_one = if gathers { usize::MAX } else { read_ahead };
        let brokers = self.fetcher.leaders();
        // Room goes round: with little of it the first one in order would take it again and again.
        let mut next = self.fetcher.leader_after(self.fetcher.last_granted());
        for _ in 0..brokers {
            let Some(broker) = next else { return };
            let target = Target::Broker(broker);
            if !self.fetcher.is_busy(broker) && self.network.open(now, target, Role::Fetch) {
                let mut left = room.saturating_sub(self.fetcher.reserved());
                if left < self.config.fetch_max_bytes.try_into().unwrap_or(usize::MAX)
                    && planted!(BudgetIgnored)
                {
                    left = usize::MAX;
                }
                self.fetch_from(now, broker, Room { left, brokers, of_one });
            }
            next = self.fetcher.leader_after(Some(broker));
        }
        if self.fetcher.waits_for_reader() {
            let delivery = self.delivery.lock();
            let free = delivery.room();
            // Less than that was waited for above.
            if free >= MIN_GRANT {
                delivery.room_for(free.saturating_add(MIN_GRANT));
            }
        }
    }

    fn fetch_from(&mut self, now: Timestamp, broker: BrokerId, room: Room) {
        let (delivery, cluster, replicas) = (&self.delivery, &self.cluster, &self.replicas);
        let target = Target::Broker(broker);
        let version = self.network.versions(target, Role::Fetch).and_then(|v| v.max(FetchRequest::API));
        let tells_divergence = version.is_some_and(|version| version >= DIVERGING_EPOCH)
            && !planting!(NotValidated)
            && !planting!(DivergenceIgnored)
            && !planting!(FetchEpochNotSent);
        let candidate = |position: FetchPosition| {
            let (_, leader) =
                source(cluster, replicas, now, &position.tp).filter(|(from, _)| *from == broker)?;
            if doubt(cluster, &position).is_some() {
                return None;
            }
            let topic_id = cluster.topic(position.tp.topic()).and_then(|t| t.id);
            let from_leader = leader.broker == broker;
            let last_epoch = position.last_epoch.filter(|_| tells_divergence && from_leader);
            let leader_epoch = leader.epoch.filter(|_| !planted!(FetchEpochNotSent));
            Some(Candidate { position, topic_id, leader_epoch, last_epoch, from_leader })
        };
        let look = |only: Option<&BTreeSet<TopicPartition>>| -> Vec<Candidate> {
            let delivery = delivery.lock();
            match only {
                Some(only) => only.iter().filter_map(|tp| candidate(delivery.fetch_position(tp)?)).collect(),
                None => delivery.fetchable().into_iter().filter_map(candidate).collect(),
            }
        };
        let rack = replicas.rack(now, broker, |tp| cluster.leader(tp));
        let Some(prepared) = self.fetcher.prepare(now, broker, look, rack, room) else { return };
        let timeout = self.config.request_timeout + prepared.max_wait;
        let use_ = (target, Role::Fetch);
        self.network.send(now, use_, &prepared.request, prepared.max_version, Tag::Fetch, timeout);
    }

    /// When it begins anew at the bootstrap addresses, unless somebody answers.
    fn rebootstrap_timeout(&self) -> Option<Timestamp> {
        let at = self.unanswered_since? + self.config.metadata_recovery_rebootstrap_trigger;
        Some(at).filter(|at| *at > self.now)
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
            let reader =
                [delivery.revocation_deadline(), delivery.gather_deadline(), delivery.question_deadline()];
            (reader.into_iter().flatten().min(), delivery.poll_deadline())
        };
        let wants_metadata = !self.cluster.wanted().is_empty()
            || !self.cluster.is_known()
            || !self.admin.is_empty()
            || self.pattern.is_some();
        [
            (self.network.next_timeout(), TimerReason::Request),
            (self.patience_timeout(), TimerReason::Reconnect),
            (later(self.refresh.next()).filter(|_| wants_metadata), TimerReason::Metadata),
            (later(self.coordinator.next_timeout()), TimerReason::Retry),
            (self.group.as_ref().and_then(|g| g.next_timeout()), TimerReason::Group),
            (self.lookups.next_timeout(now), TimerReason::Retry),
            (self.committed.as_ref().and_then(|c| c.next_timeout(now)), TimerReason::Retry),
            (self.commits.next_timeout(now), TimerReason::Retry),
            (self.validations.next_timeout(now), TimerReason::Retry),
            (later(self.replicas.next_timeout()), TimerReason::Retry),
            (self.rebootstrap_timeout(), TimerReason::Metadata),
            (self.fetcher.next_timeout(now), TimerReason::Retry),
            (self.admin.next_timeout(now), TimerReason::Retry),
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
