//! Incremental fetch sessions (KIP-227): each node remembers what a client wants and what it last told it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::topics::TopicId;
use crate::rng::Rng;
use crate::time::Timestamp;

/// A session that was used within this time is not evicted for another one (`min.incremental.fetch.session.eviction.ms`).
const MIN_EVICTION: Duration = Duration::from_secs(120);

/// What a client wants of one partition.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The topic's name; empty when the request carried an id that no topic has.
    pub(super) topic: Arc<str>,
    /// Zero when the request carried a name.
    pub(super) id: TopicId,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    pub(super) leader_epoch: i32,
    pub(super) last_fetched_epoch: i32,
}

impl Wanted {
    fn key(&self) -> Key {
        // With ids the name is not part of the identity: it may become known later.
        let topic = if self.id == [0; 16] { self.topic.clone() } else { Arc::from("") };
        (topic, self.id, self.partition)
    }
}

type Key = (Arc<str>, TopicId, i32);

#[derive(Debug, Clone)]
pub(super) struct Cached {
    pub(super) wanted: Wanted,
    /// −1 after an error, so that the partition is told again when the error is over.
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) epoch: i32,
    pub(super) uses_ids: bool,
    last_used: Timestamp,
    /// In the order in which they are answered: a partition that gave data moves to the end.
    order: BTreeMap<u64, Cached>,
    places: BTreeMap<Key, u64>,
    next_place: u64,
}

impl Session {
    fn new(uses_ids: bool, now: Timestamp) -> Self {
        Self {
            epoch: 1,
            uses_ids,
            last_used: now,
            order: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// Adds a partition or changes what is wanted of it; its place stays.
    pub(super) fn want(&mut self, wanted: Wanted) {
        let key = wanted.key();
        if let Some(cached) = self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            cached.wanted = wanted;
            return;
        }
        self.places.insert(key, self.next_place);
        self.order.insert(self.next_place, Cached { wanted, high_watermark: -1, log_start: -1 });
        self.next_place += 1;
    }

    pub(super) fn forget(&mut self, topic: &str, id: TopicId, partition: i32) {
        let topic = if id == [0; 16] { Arc::from(topic) } else { Arc::from("") };
        if let Some(place) = self.places.remove(&(topic, id, partition)) {
            self.order.remove(&place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &Wanted> {
        self.order.values().map(|cached| &cached.wanted)
    }

    pub(super) fn cached_mut(&mut self, wanted: &Wanted) -> Option<&mut Cached> {
        self.order.get_mut(self.places.get(&wanted.key())?)
    }

    /// Data was given: the next answer begins with somebody else.
    pub(super) fn move_to_end(&mut self, wanted: &Wanted) {
        let key = wanted.key();
        let Some(place) = self.places.get(&key).copied() else { return };
        if let Some(cached) = self.order.remove(&place) {
            self.order.insert(self.next_place, cached);
            self.places.insert(key, self.next_place);
            self.next_place += 1;
        }
    }

    pub(super) fn holds(&self, topic: &str, partition: Option<i32>) -> bool {
        self.wanted().any(|w| &*w.topic == topic && partition.is_none_or(|p| p == w.partition))
    }
}

/// The epoch after `epoch`: from the largest one back to 1, because 0 asks for a new session.
pub(super) fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The sessions of one node.
#[derive(Debug)]
pub(super) struct SessionCache {
    slots: usize,
    sessions: BTreeMap<i32, Session>,
}

impl SessionCache {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, sessions: BTreeMap::new() }
    }

    pub(super) fn get(&self, id: i32) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: i32) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    pub(super) fn touch(&mut self, id: i32, now: Timestamp) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.last_used = now;
        }
    }

    pub(super) fn remove(&mut self, id: i32) {
        self.sessions.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.sessions.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// A new session, or none when the cache is full of ones that are in use.
    pub(super) fn create(
        &mut self,
        rng: &mut Rng,
        uses_ids: bool,
        now: Timestamp,
    ) -> Option<(i32, &mut Session)> {
        if self.sessions.len() >= self.slots {
            let (id, oldest) = self.sessions.iter().min_by_key(|(_, session)| session.last_used)?;
            if now - oldest.last_used < MIN_EVICTION {
                return None;
            }
            let id = *id;
            self.sessions.remove(&id);
        }
        let id = std::iter::repeat_with(|| rng.positive_i32()).find(|id| !self.sessions.contains_key(id))?;
        Some((id, self.sessions.entry(id).or_insert_with(|| Session::new(uses_ids, now))))
    }
}
