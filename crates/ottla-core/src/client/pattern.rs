//! Subscribing to a pattern: which topics match, by whoever matches them.
//!
//! A classic member is subscribed to the topics that match in metadata of *all* topics, anew with each answer. A
//! coordinator of the consumer protocol matches by itself; then all topics are asked for only to learn the names of
//! the ids that it assigns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_wire::messages::MetadataResponse;
use ottla_wire::{ErrorCode, messages::metadata_response::MetadataResponseTopic};

use super::commands::{NO_GROUP, misuse};
use super::{Client, Mode, Outcome};
use crate::cluster::Changes;
use crate::config::OffsetReset;
use crate::group::Group;
use crate::pattern::{TopicPattern, is_topic_name};
use crate::{Error, Timestamp, TopicId};

/// The pattern that is subscribed to.
#[derive(Debug)]
pub(super) struct Matching {
    pattern: TopicPattern,
    /// All topics were asked for because of it, and were so to be matched here: not before it is known who matches.
    asked: bool,
    asked_here: bool,
    /// What matched at first is there: what comes later is new.
    seen: bool,
    /// Where the coordinator matches and `Latest` asks which topics are new: those that there were at first, whether
    /// they match or not, with their numbers of partitions. Nothing that is assigned tells: a first assignment is empty
    /// while others hold everything, and while the coordinator is still looking for what matches.
    before: Option<BTreeMap<TopicId, usize>>,
    /// The names of topics that were assigned by id.
    pub(super) named: BTreeSet<Arc<str>>,
}

/// What an answer about all topics holds for a pattern.
#[derive(Debug, Default)]
pub(super) struct FoundTopics {
    /// Those that match, where that is looked at here.
    matched: Option<BTreeSet<String>>,
    /// Those that were assigned by id.
    named: BTreeMap<Arc<str>, TopicId>,
    /// All that there are, if that is asked.
    all: Option<BTreeMap<TopicId, usize>>,
}

impl Client {
    pub(super) fn subscribe_pattern(&mut self, now: Timestamp, pattern: TopicPattern) -> Outcome {
        if self.mode == Mode::Assigned {
            return misuse("partitions are assigned by hand: unsubscribe() before subscribe_pattern()");
        }
        let Some(group) = &mut self.group else {
            return misuse(NO_GROUP);
        };
        if !pattern.is_local() && !group.is_consumer() {
            return misuse(
                "the pattern is for brokers, and the classic protocol leaves the matching to its members",
            );
        }
        self.mode = Mode::Subscribed;
        if group.is_consumer() {
            self.subscription.clear();
            group.subscribe_pattern(now, pattern.as_str());
        }
        // What is subscribed to stays until it is known what matches.
        self.pattern = Some(Matching {
            pattern,
            asked: false,
            asked_here: false,
            seen: false,
            before: None,
            named: BTreeSet::new(),
        });
        Outcome::Done
    }

    /// Whether the matching is done here.
    fn matches_here(&self) -> bool {
        self.pattern.is_some() && self.group.as_ref().is_some_and(|group| !group.is_consumer())
    }

    /// Whether the coordinator matches, and it is not known yet which topics there were before.
    fn asks_what_there_was(&self) -> bool {
        let mut resets = self.config.auto_offset_reset_of.values().chain([&self.config.auto_offset_reset]);
        self.pattern.as_ref().is_some_and(|matching| matching.before.is_none())
            && !self.matches_here()
            && resets.any(|reset| *reset == OffsetReset::Latest)
    }

    /// Whether metadata is to be asked of all topics.
    pub(super) fn wants_all_topics(&mut self, now: Timestamp) -> bool {
        let here = self.matches_here();
        let wanted = here || self.asks_what_there_was();
        let Some(matching) = &mut self.pattern else { return false };
        if wanted {
            let asked = std::mem::replace(&mut matching.asked, true);
            let asked_here = !here || std::mem::replace(&mut matching.asked_here, true);
            if !(asked && asked_here) {
                self.refresh.request(now);
            }
        }
        wanted || self.group.as_ref().is_some_and(Group::waits_for_names)
    }

    /// Takes in an answer about `asked` or, with `all`, about all topics.
    pub(super) fn update_metadata(
        &mut self,
        version: i16,
        metadata: &MetadataResponse<'_>,
        mut asked: BTreeSet<Arc<str>>,
        all: bool,
    ) -> Result<(Changes, Option<FoundTopics>), Error> {
        if !all || self.pattern.is_none() {
            return Ok((self.cluster.update(version, metadata, &asked)?, None));
        }
        let mut found = self.find_topics(metadata);
        let told: BTreeSet<&str> = metadata.topics.iter().filter_map(|topic| topic.name).collect();
        let absent: Vec<Arc<str>> = asked.iter().filter(|name| !told.contains(&***name)).cloned().collect();
        asked.extend(found.matched.iter().flatten().map(|name| Arc::from(name.as_str())));
        asked.extend(found.named.keys().cloned());
        self.topics_as_of = None;
        let mut wanted = self.wanted_topics();
        wanted.extend(asked.iter().cloned());
        self.cluster.want(wanted);
        let mut changes = self.cluster.update(version, metadata, &asked)?;
        changes.topology |= self.cluster.absent(absent.iter());
        if let (Some(matched), Some(matching)) = (&mut found.matched, &self.pattern) {
            // Silence counts when the cluster believes it.
            let stands = |name: &&String| {
                matching.pattern.matches(name) && self.cluster.topic(name).is_some_and(|topic| topic.exists())
            };
            matched.extend(self.subscription.iter().filter(stands).cloned());
        }
        Ok((changes, Some(found)))
    }

    fn find_topics(&self, metadata: &MetadataResponse<'_>) -> FoundTopics {
        let mut found = FoundTopics::default();
        let (Some(matching), Some(group)) = (&self.pattern, &self.group) else { return found };
        let exclude = self.config.exclude_internal_topics;
        // What cannot be used does not keep the others from being read, and an error is no end of what is.
        let exists = |topic: &MetadataResponseTopic<'_>| match ErrorCode::from_i16(topic.error_code) {
            ErrorCode::None | ErrorCode::LeaderNotAvailable => true,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopicException => false,
            _ => topic.name.is_some_and(|name| self.subscription.contains(name)),
        };
        if self.asks_what_there_was() {
            let count = |topic: MetadataResponseTopic<'_>| (topic.topic_id, topic.partitions.len());
            found.all = Some(metadata.topics.iter().map(count).collect());
        }
        let mut matched = BTreeSet::new();
        for topic in metadata.topics.iter().filter(exists) {
            let Some(name) = topic.name.filter(|name| is_topic_name(name)) else { continue };
            if group.waits_for_name(topic.topic_id) {
                found.named.insert(Arc::from(name), topic.topic_id);
            }
            if !(exclude && topic.is_internal) && matching.pattern.matches(name) {
                matched.insert(name.to_owned());
            }
        }
        found.matched = self.matches_here().then_some(matched);
        found
    }

    /// The group is told what matches now.
    pub(super) fn found_topics(&mut self, now: Timestamp, found: FoundTopics) {
        let Some(matching) = &mut self.pattern else { return };
        let owned = self.delivery.lock().topics();
        matching.named.retain(|name| owned.contains(name));
        let later = matching.seen;
        matching.before = matching.before.take().or(found.all);
        for (name, id) in &found.named {
            if let Some(before) = &matching.before {
                let count = before.get(id).copied().unwrap_or(0);
                self.first_seen.entry(Arc::clone(name)).or_insert(count);
            }
        }
        matching.named.extend(found.named.into_keys());
        let Some(matched) = found.matched else { return };
        // Before it was known that the coordinator does not match, all topics may have been looked at already.
        let is_new = |name: &str| {
            let id = self.cluster.topic(name).and_then(|topic| topic.id);
            later || matching.before.as_ref().zip(id).is_some_and(|(before, id)| !before.contains_key(&id))
        };
        for name in matched.iter().filter(|name| !self.subscription.contains(*name) && is_new(name)) {
            self.first_seen.insert(Arc::from(name.as_str()), 0);
        }
        matching.seen = true;
        if matched == self.subscription && !matched.is_empty() {
            return;
        }
        let news = matched != self.subscription;
        tracing::debug!(pattern = matching.pattern.as_str(), topics = matched.len(), news, "topics match");
        self.subscription = matched;
        if news && let Some(group) = &mut self.group {
            group.subscribe(now, self.subscription.clone());
        }
    }
}
