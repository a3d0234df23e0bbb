//! Tests on virtual time: a member on its own, told what a coordinator might say.

mod errors;
mod hostile;
mod leave;
mod matrix;
mod reconcile;
mod statics;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;

use super::reply::{Reply, Told};
use super::*;
use crate::group::GroupRequest;
use crate::time::Timestamp;

/// Topics "a" and "b" have the ids 0x0a… and 0x0b….
fn id(topic: &str) -> TopicId {
    let byte = topic.bytes().next().unwrap_or_default() - b'a' + 10;
    ottla_wire::Uuid([byte; 16])
}

fn names(topics: &[&str]) -> BTreeSet<String> {
    topics.iter().map(|t| (*t).to_owned()).collect()
}

fn tps(partitions: &[(&str, i32)]) -> Vec<TopicPartition> {
    partitions.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
}

fn parts(partitions: &[(&str, i32)]) -> BTreeSet<Part> {
    partitions.iter().map(|(topic, partition)| (id(topic), *partition)).collect()
}

/// An answer that lets the member go on; without partitions the assignment is as before.
fn ok(epoch: i32, assignment: Option<&[(&str, i32)]>) -> Reply {
    Reply {
        error: ErrorCode::None,
        message: None,
        epoch,
        interval_ms: 1000,
        assignment: assignment.map(|a| Told::Partitions { parts: parts(a), strange: false }),
    }
}

fn refused(error: ErrorCode) -> Reply {
    Reply { error, message: Some("because".to_owned()), epoch: 0, interval_ms: 0, assignment: None }
}

fn config() -> GroupConfig {
    GroupConfig {
        rebalance_timeout: Duration::from_millis(60_000),
        revoke_timeout: Duration::from_millis(20_000),
        remote_assignor: Some("range".to_owned()),
        ..GroupConfig::new("g")
    }
}

/// A member under test and its clock. After every input the actions come back as text, in order, and promises are
/// checked: a spurious timeout does nothing; no timeout is asked for that is due already; what is owned is what the
/// actions said; nothing is assigned twice, lost or revoked without being owned; one heartbeat at a time; what is
/// told to be owned is what is owned; nobody joins who owns something.
struct Rig {
    group: ConsumerGroup,
    now: Timestamp,
    /// The last error told.
    error: Option<Error>,
    told: BTreeSet<TopicPartition>,
    revoking: BTreeSet<TopicPartition>,
}

impl Rig {
    fn new(config: GroupConfig) -> Self {
        let backoff = (Duration::from_millis(100), Duration::from_millis(1000));
        let group = ConsumerGroup::new(config, Some("rack".to_owned()), backoff, Rng::new(1));
        let now = Timestamp::from_millis(1_000_000);
        Self { group, now, error: None, told: BTreeSet::new(), revoking: BTreeSet::new() }
    }

    fn dynamic() -> Self {
        Self::new(config())
    }

    fn fixed() -> Self {
        Self::new(GroupConfig { group_instance_id: Some("i1".to_owned()), ..config() })
    }

    fn input(&mut self, f: impl FnOnce(&mut ConsumerGroup, Timestamp)) -> Vec<String> {
        f(&mut self.group, self.now);
        let actions = self.drain();
        self.group.handle_timeout(self.now);
        assert_eq!(self.drain(), [""; 0], "a spurious timeout does nothing, after {actions:?}");
        let next = self.group.next_timeout();
        assert!(next.is_none_or(|t| t > self.now), "{next:?} is due at {:?}, after {actions:?}", self.now);
        if matches!(self.state(), ConsumerState::Leaving | ConsumerState::Unsubscribed) {
            // The client has revoked everything before it left.
            self.told.clear();
            self.revoking.clear();
        }
        assert_eq!(*self.group.owned(), self.told, "after {actions:?}");
        let membership = self.group.membership;
        let live = self.group.in_flight.iter().filter(|s| !s.leaves && s.membership == membership).count();
        assert!(live <= 1, "one heartbeat at a time, after {actions:?}");
        actions
    }

    fn drain(&mut self) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(action) = self.group.poll_action() {
            shown.push(self.show(&action));
            self.note(action);
        }
        shown
    }

    fn note(&mut self, action: GroupAction) {
        match action {
            GroupAction::Assign(partitions) => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.told.insert(tp.clone()), "{tp} assigned twice");
                }
            }
            GroupAction::Lost(partitions) => {
                assert!(!partitions.is_empty());
                for tp in partitions {
                    assert!(self.told.remove(&tp), "{tp} lost and not owned");
                    self.revoking.remove(&tp);
                }
            }
            GroupAction::Revoke { partitions, deadline } => {
                assert!(!partitions.is_empty() && deadline > self.now && self.revoking.is_empty());
                for tp in partitions {
                    assert!(self.told.contains(&tp), "{tp} revoked and not owned");
                    self.revoking.insert(tp);
                }
            }
            GroupAction::Fail(error) | GroupAction::Report(error) => self.error = Some(error),
            GroupAction::Send(GroupRequest::ConsumerHeartbeat(r)) if r.member_epoch >= 0 => {
                assert!(r.member_epoch > 0 || self.told.is_empty(), "joins and owns {:?}", self.told);
                if let Some(topics) = r.topic_partitions {
                    let told = topics.iter().map(|t| t.partitions.len()).sum::<usize>();
                    assert_eq!(told, self.told.len(), "what is told is what is owned");
                }
            }
            _ => {}
        }
    }

    fn show(&self, action: &GroupAction) -> String {
        match action {
            GroupAction::FindCoordinator => "find".to_owned(),
            GroupAction::Send(GroupRequest::ConsumerHeartbeat(r)) => {
                let mut text = format!("beat {}", r.member_epoch);
                if let Some(topics) = &r.subscribed_topic_names {
                    text += &format!(" reads[{}]", topics.join(","));
                }
                if let Some(owned) = &r.topic_partitions {
                    let owned: Vec<_> = owned
                        .iter()
                        .flat_map(|t| {
                            let name = char::from(b'a' + t.topic_id.0[0] - 10);
                            t.partitions.iter().map(move |p| format!("{name}-{p}"))
                        })
                        .collect();
                    text += &format!(" owns[{}]", owned.join(" "));
                }
                if r.rebalance_timeout_ms >= 0 {
                    assert_eq!((r.rebalance_timeout_ms, r.rack_id.as_deref()), (60_000, Some("rack")));
                    assert_eq!(r.server_assignor.as_deref(), Some("range"));
                    text += " all";
                }
                assert_eq!(r.instance_id, self.group.config.group_instance_id);
                assert_eq!(r.member_id, self.group.member_id);
                text
            }
            GroupAction::WantTopicNames => "want names".to_owned(),
            GroupAction::Revoke { partitions, deadline } => {
                format!("revoke {partitions:?} within {}", deadline.since(self.now).as_millis())
            }
            GroupAction::Assign(partitions) => format!("assign {partitions:?}"),
            GroupAction::Lost(partitions) => format!("lost {partitions:?}"),
            GroupAction::Fail(error) => format!("fail {:?}", error.kind()),
            GroupAction::Report(error) => format!("report {:?}", error.kind()),
            GroupAction::Left => "left".to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self, topics: &[&str]) -> Vec<String> {
        self.input(|g, now| g.subscribe(now, names(topics)))
    }

    fn known(&mut self) -> Vec<String> {
        self.input(ConsumerGroup::coordinator_known)
    }

    fn reply(&mut self, reply: Reply) -> Vec<String> {
        self.input(|g, now| g.handle_reply(now, Ok(reply)))
    }

    fn broken(&mut self) -> Vec<String> {
        let error = Error::new(ErrorKind::Transport, "connection reset");
        self.input(|g, now| g.handle_failure(now, error))
    }

    /// Metadata knows these topics.
    fn metadata(&mut self, topics: &[&str]) -> Vec<String> {
        let known: Vec<_> = topics.iter().map(|t| (id(t), Arc::from(*t))).collect();
        self.input(|g, now| g.topic_names(now, known))
    }

    fn given_back(&mut self, partitions: &[(&str, i32)]) -> Vec<String> {
        let partitions = tps(partitions);
        for tp in partitions.iter().filter(|tp| self.revoking.remove(tp)) {
            self.told.remove(tp);
        }
        self.input(|g, now| g.revocation_finished(now, &partitions))
    }

    /// Time passes; timeouts come when they were asked for.
    fn wait(&mut self, millis: u64) -> Vec<String> {
        let until = self.now + Duration::from_millis(millis);
        let mut shown = Vec::new();
        while let Some(next) = self.group.next_timeout().filter(|t| *t <= until) {
            self.now = next;
            shown.extend(self.input(ConsumerGroup::handle_timeout));
        }
        self.now = until;
        shown
    }

    /// Waits for the next heartbeat and answers it.
    fn next_beat(&mut self, reply: Reply) -> Vec<String> {
        let sent = self.wait(1000);
        assert!(sent.iter().any(|a| a.starts_with("beat")), "{sent:?}");
        self.reply(reply)
    }

    fn state(&self) -> ConsumerState {
        self.group.state()
    }

    /// Subscribed to "a" and "b", with the join under way.
    fn joining(mut self) -> Self {
        self.subscribe(&["a", "b"]);
        self.known();
        assert_eq!(self.state(), ConsumerState::Joining);
        self
    }

    /// A member in epoch 1 that owns `partitions`, told and acknowledged.
    fn stable(self, partitions: &[(&str, i32)]) -> Self {
        let mut rig = self.joining();
        rig.reply(ok(1, Some(partitions)));
        rig.metadata(&["a", "b"]);
        if !partitions.is_empty() {
            rig.reply(ok(1, None));
        }
        assert_eq!(rig.state(), ConsumerState::Stable);
        rig
    }
}
