//! The end: commit what is done, leave the group, close the connections; each step is tried, all within one bound.
//! A test writes the table anew and compares: command 1 has begun the close, "close" is command 2, and without
//! anything to commit *Committing* is over at once.
//!
//! | state      | close     | dropped   | commits are through | their share is over | group has left  | deadline                    |
//! |------------|-----------|-----------|---------------------|---------------------|-----------------|-----------------------------|
//! | No         | Leaving   | Leaving   | –                   | –                   | –               | –                           |
//! | Committing | 1 is told | 1 is told | Leaving             | Leaving             | –               | Leaving                     |
//! | Leaving    | 1 is told | 1 is told | –                   | –                   | Done, 1 is told | Done, 1 is told what failed |
//! | Done       | 2 is told | –         | –                   | –                   | –               | –                           |

use std::time::Duration;

use super::{Client, Mode, Outcome};
use crate::offsets::{CommitJob, CommitOrigin};
use crate::planted::{planted, planting};
use crate::{CommandId, Error, ErrorKind, Timestamp};

/// How long a consumer that was dropped may take to leave: nobody waits for it.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// How far closing has come.
#[derive(Debug)]
pub(super) enum Closing {
    No,
    Committing(Close),
    Leaving(Close),
    Done,
}

/// What is known of a close under way.
#[derive(Debug)]
pub(super) struct Close {
    /// The commits' share of the time: leaving is tried whatever becomes of them.
    commits_until: Timestamp,
    deadline: Timestamp,
    /// Who waits, if somebody does.
    command: Option<CommandId>,
    pub(super) errors: Vec<Error>,
    left: bool,
}

impl Client {
    pub(super) fn is_closing(&self) -> bool {
        !matches!(self.closing, Closing::No)
    }

    /// The consumer was dropped: best effort, nobody waits.
    pub(super) fn begin_drop(&mut self, now: Timestamp) {
        self.begin_close(now, None, DROP_TIMEOUT);
    }

    pub(super) fn begin_close(&mut self, now: Timestamp, command: Option<CommandId>, timeout: Duration) {
        match &mut self.closing {
            Closing::No => {}
            Closing::Committing(close) | Closing::Leaving(close) => {
                // Once more: the later caller is told, and the shorter bound holds.
                close.deadline = close.deadline.min(now + timeout);
                close.commits_until = close.commits_until.min(now + timeout / 4 * 3);
                let before = std::mem::replace(&mut close.command, command);
                if let Some(id) = before {
                    self.finish_command(id, Outcome::Closed(Vec::new()));
                }
                return;
            }
            Closing::Done => {
                if let Some(id) = command {
                    self.finish_command(id, Outcome::Closed(Vec::new()));
                }
                return;
            }
        }
        let deadline = now + timeout;
        self.delivery.lock().reader_gone();
        self.abandon_commands();
        if self.config.group.is_some() {
            let entries = self.delivery.lock().committable(crate::delivery::CommitScope::All);
            if !entries.is_empty() && !planted!(CloseUncommitted) {
                self.commits.push(CommitJob::new(CommitOrigin::Close, entries, deadline));
            }
        }
        let commits_until = now + timeout / 4 * 3;
        let close = Close { commits_until, deadline, command, errors: Vec::new(), left: false };
        self.closing = Closing::Committing(close);
    }

    /// The group machine has left, or there was nothing to leave.
    pub(super) fn group_left(&mut self) {
        if let Closing::Leaving(close) = &mut self.closing {
            close.left = true;
        } else if self.mode == Mode::Subscribed {
            // Subscribed again meanwhile: whoever unsubscribed before that is done all the same. A pattern that matches
            // nothing has left as well, and is still subscribed to.
            if self.subscription.is_empty() && self.pattern.is_none() {
                self.mode = Mode::Idle;
                self.topics_as_of = None;
            }
            self.left();
        }
    }

    pub(super) fn drive_close(&mut self, now: Timestamp) {
        self.closing = match std::mem::replace(&mut self.closing, Closing::Done) {
            Closing::No => Closing::No,
            Closing::Done => Closing::Done,
            Closing::Committing(close) if self.commits.is_empty() || now >= close.commits_until => {
                self.closing = Closing::Committing(close);
                for result in self.commits.abandon() {
                    self.commit_finished(now, result);
                }
                let Closing::Committing(close) = std::mem::replace(&mut self.closing, Closing::Done) else {
                    return;
                };
                if let Some(group) = &mut self.group {
                    group.leave(now, "the consumer was closed");
                    Closing::Leaving(close)
                } else {
                    self.finish_close(close);
                    Closing::Done
                }
            }
            Closing::Committing(close) => Closing::Committing(close),
            Closing::Leaving(close) if close.left => {
                self.finish_close(close);
                Closing::Done
            }
            Closing::Leaving(mut close) if now >= close.deadline && !planted!(CloseHangs) => {
                let text = "the group's coordinator did not take the leave in time; it will notice after the session timeout";
                close.errors.push(Error::new(ErrorKind::Transport, text));
                self.finish_close(close);
                Closing::Done
            }
            Closing::Leaving(close) => Closing::Leaving(close),
        };
    }

    fn finish_close(&mut self, close: Close) {
        self.network.close_all();
        self.delivery.lock().close();
        if let Some(id) = close.command {
            self.finish_command(id, Outcome::Closed(close.errors));
        }
    }

    pub(super) fn close_timeout(&self) -> Option<Timestamp> {
        match &self.closing {
            Closing::Committing(close) => Some(close.commits_until),
            Closing::Leaving(_) if planted!(BusyLoop) => Some(self.now),
            Closing::Leaving(close) if self.now >= close.deadline && planting!(CloseHangs) => None,
            Closing::Leaving(close) => Some(close.deadline),
            Closing::No | Closing::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, GroupConfig};
    use crate::delivery::{CommitEntry, DeliveryConfig, Shared};
    use crate::table::{assert_documented, transitions};
    use crate::{OwnershipEpoch, TopicPartition};

    const T0: Timestamp = Timestamp::from_millis(1_000);
    const TIMEOUT: Duration = Duration::from_secs(8);

    fn client() -> Client {
        let config = Config { group: Some(GroupConfig::new("g")), ..Config::default() };
        Client::new(config, Shared::new(DeliveryConfig::default()), 1, T0, 0)
    }

    fn in_state(name: &str) -> Client {
        let mut client = client();
        if name == "Committing" {
            let tp = TopicPartition::new("t", 0);
            let epoch = OwnershipEpoch(1);
            let entry = CommitEntry { tp, epoch, offset: 1, leader_epoch: None, metadata: None };
            client.commits.push(CommitJob::last(CommitOrigin::Auto, vec![entry], T0 + TIMEOUT * 9));
        }
        if name != "No" {
            client.begin_close(T0, Some(CommandId(1)), TIMEOUT);
            client.drive_close(T0);
        }
        if name == "Done" {
            client.group_left();
            client.drive_close(T0);
        }
        assert_eq!(state_of(&client), name);
        client.outcomes.clear();
        client
    }

    fn state_of(client: &Client) -> &'static str {
        match client.closing {
            Closing::No => "No",
            Closing::Committing(_) => "Committing",
            Closing::Leaving(_) => "Leaving",
            Closing::Done => "Done",
        }
    }

    #[test]
    fn the_transition_table_is_what_the_code_does() {
        let states = ["No", "Committing", "Leaving", "Done"];
        let events =
            ["close", "dropped", "commits are through", "their share is over", "group has left", "deadline"];
        let table = transitions(&states, &events, |state, event| {
            let mut client = in_state(states[state]);
            let mut now = T0;
            match events[event] {
                "close" => client.begin_close(now, Some(CommandId(2)), TIMEOUT),
                "dropped" => client.begin_drop(now),
                "commits are through" => drop(client.commits.abandon()),
                "their share is over" => now = T0 + TIMEOUT / 4 * 3,
                "group has left" => client.group_left(),
                _ => now = T0 + TIMEOUT,
            }
            client.drive_close(now);
            let told: Vec<String> = client
                .outcomes
                .iter()
                .map(|(id, outcome)| match outcome {
                    Outcome::Closed(errors) if errors.is_empty() => format!("{} is told", id.0),
                    Outcome::Closed(_) => format!("{} is told what failed", id.0),
                    other => panic!("{other:?}"),
                })
                .collect();
            let same = state_of(&client) == states[state];
            match (same, told.is_empty()) {
                (true, true) => "–".to_owned(),
                (true, false) => told.join(", "),
                (false, true) => state_of(&client).to_owned(),
                (false, false) => format!("{}, {}", state_of(&client), told.join(", ")),
            }
        });
        assert_documented(include_str!("close.rs"), &table);
    }
}
