//! Which node coordinates which group, and what happens when that changes.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, ResponseKind};
use kafka_protocol::protocol::StrBytes;

use super::group::{Answer, Group};
use super::group_api::{join_response, sync_response};
use super::{Cluster, Timer};
use crate::error_code::ErrorCode;
use crate::time::Timestamp;

/// `offsets.topic.num.partitions`.
const OFFSETS_PARTITIONS: u32 = 50;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Cluster {
    /// The node that coordinates a group: by hash as Kafka does it, unless moved by hand; the next one that is up.
    pub(super) fn coordinator_of(&self, group: &str) -> Option<i32> {
        let ids = self.node_ids();
        let start = match self.pinned_coordinators.get(group) {
            Some(pinned) => ids.iter().position(|id| id == pinned).unwrap_or(0),
            None => (java_hash(group) % OFFSETS_PARTITIONS) as usize % ids.len().max(1),
        };
        let up = |id: &i32| self.nodes.get(id).is_some_and(|node| node.up);
        ids.iter().cycle().skip(start).take(ids.len()).copied().find(|id| up(id))
    }

    /// NOT_COORDINATOR unless `node` coordinates the group; an empty group id is never valid.
    pub(super) fn check_coordinator(&self, node: i32, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        if self.coordinator_of(group) == Some(node) { Ok(()) } else { Err(ErrorCode::NOT_COORDINATOR) }
    }

    /// Runs `act` on a group that exists, sends what it answers, and keeps its timer.
    pub(super) fn with_group<T>(
        &mut self,
        now: Timestamp,
        id: &str,
        act: impl FnOnce(&mut Group) -> T,
    ) -> Option<T> {
        let rules = self.group_rules();
        let group = self.groups.get_mut(id)?;
        group.rules = rules;
        let result = act(group);
        group.follow_consumer();
        let answers = group.take_answers();
        let next = group.next_deadline();
        let dead = group.state == super::group::GroupState::Dead;
        let before = self.group_timers.get(id).copied();
        if before != next {
            if let Some(before) = before {
                self.timers.remove(&(before, Timer::Group(id.to_owned())));
                self.group_timers.remove(id);
            }
            if let Some(next) = next {
                self.timers.insert((next, Timer::Group(id.to_owned())));
                self.group_timers.insert(id.to_owned(), next);
            }
        }
        if dead {
            self.groups.remove(id);
        }
        for (request, answer) in answers {
            let Some(version) = self.in_flight.get(&request).map(|flight| flight.version) else { continue };
            let response = match answer {
                Answer::Join(join) => join_response(version, join),
                Answer::Sync(sync) => sync_response(version, sync),
            };
            self.finish(now, request, Some(response));
        }
        Some(result)
    }

    pub(super) fn group_timeout(&mut self, now: Timestamp, id: &str) {
        self.group_timers.remove(id);
        self.with_group(now, id, |group| group.handle_timeout(now));
    }

    /// Nodes or pins changed: groups whose coordinator is another one now move there.
    pub(super) fn move_groups(&mut self, now: Timestamp) {
        let moved: Vec<(String, i32)> = self
            .groups
            .iter()
            .filter_map(|(id, group)| {
                let coordinator = self.coordinator_of(id)?;
                (coordinator != group.coordinator).then(|| (id.clone(), coordinator))
            })
            .collect();
        let session = self.config.consumer_session_timeout;
        for (id, coordinator) in moved {
            self.with_group(now, &id, |group| group.migrate(now, coordinator, session));
        }
    }

    pub(super) fn handle_find_coordinator(
        &mut self,
        version: i16,
        forced: Option<ErrorCode>,
        request: &FindCoordinatorRequest,
    ) -> ResponseKind {
        let mut response = FindCoordinatorResponse::default();
        let keys = if version >= 4 { request.coordinator_keys.clone() } else { vec![request.key.clone()] };
        for key in keys {
            let found = match (forced, request.key_type) {
                (Some(code), _) => Err(code),
                (None, GROUP | TRANSACTION) => {
                    self.coordinator_of(&key).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)
                }
                _ => Err(ErrorCode::INVALID_REQUEST),
            };
            let mut coordinator = Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_message(None);
            match found.map(|id| (id, self.nodes.get(&id))) {
                Ok((id, Some(node))) => {
                    coordinator.node_id = BrokerId(id);
                    coordinator.host = StrBytes::from_string(node.host.clone());
                    coordinator.port = i32::from(node.port);
                }
                Ok((_, None)) => coordinator.error_code = ErrorCode::COORDINATOR_NOT_AVAILABLE.0,
                Err(code) => {
                    coordinator.error_code = code.0;
                    coordinator.error_message = code.name().map(StrBytes::from_static_str);
                }
            }
            if version >= 4 {
                response.coordinators.push(coordinator);
            } else {
                response.error_code = coordinator.error_code;
                response.error_message = coordinator.error_message.filter(|_| version >= 1);
                response.node_id = coordinator.node_id;
                response.host = coordinator.host;
                response.port = coordinator.port;
            }
        }
        response.into()
    }
}

/// Java's `String.hashCode` with the sign bit cleared, as Kafka maps groups to partitions of `__consumer_offsets`.
fn java_hash(text: &str) -> u32 {
    let hash =
        text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) as u32
}

#[cfg(test)]
mod tests {
    use super::java_hash;

    #[test]
    fn hashes_as_java_does() {
        // "hello".hashCode() == 99162322; "polygenelubricants".hashCode() == Integer.MIN_VALUE.
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("polygenelubricants"), 0);
    }
}
