//! What connects the consumer and its handles with the driver.

use std::sync::{Arc, Weak};

use ottla_core::client::{Command, CommitItem, Outcome};
use ottla_core::delivery::Shared;
use ottla_core::{Error, ErrorKind, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Background, Clock, Message};

/// The strong end, held by the consumer alone: the driver ends when it is gone.
#[derive(Debug)]
pub(crate) struct Link {
    commands: mpsc::UnboundedSender<Message>,
    pub(crate) delivery: Arc<Shared>,
    background: Arc<Background>,
    clock: Clock,
}

/// The weak end, held by handles.
#[derive(Clone, Debug)]
pub(crate) struct WeakLink {
    commands: mpsc::WeakUnboundedSender<Message>,
    delivery: Weak<Shared>,
    background: Weak<Background>,
    clock: Clock,
}

impl WeakLink {
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// The strong end for the length of one synchronous step. Never held across an await, or a call that is
    /// waiting would keep the driver from seeing that the consumer is gone.
    pub(crate) fn upgrade(&self) -> Result<Link, Error> {
        let commands = self.commands.upgrade().ok_or_else(closed)?;
        let delivery = self.delivery.upgrade().ok_or_else(closed)?;
        let background = self.background.upgrade().ok_or_else(closed)?;
        Ok(Link { commands, delivery, background, clock: self.clock })
    }
}

impl Link {
    pub(crate) fn new(
        commands: mpsc::UnboundedSender<Message>,
        delivery: Arc<Shared>,
        background: Arc<Background>,
        clock: Clock,
    ) -> Self {
        Self { commands, delivery, background, clock }
    }

    pub(crate) fn downgrade(&self) -> WeakLink {
        WeakLink {
            commands: self.commands.downgrade(),
            delivery: Arc::downgrade(&self.delivery),
            background: Arc::downgrade(&self.background),
            clock: self.clock,
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Gives the driver a command. From here on it is carried out, whether its answer is waited for or not.
    pub(crate) fn send(&self, command: Command) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Message::Command(command, reply)).map_err(|_| closed())?;
        Ok(Answer(answer))
    }

    pub(crate) async fn ask(&self, command: Command) -> Result<Outcome, Error> {
        self.send(command)?.outcome().await
    }

    pub(crate) fn commit_in_background(&self, items: Vec<CommitItem>) -> Result<(), Error> {
        if self.background.add(items) {
            self.commands.send(Message::Background).map_err(|_| closed())
        } else if self.commands.is_closed() {
            Err(closed())
        } else {
            Ok(())
        }
    }
}

/// The answer to a command, some time.
pub(crate) struct Answer(oneshot::Receiver<Outcome>);

impl Answer {
    pub(crate) async fn outcome(self) -> Result<Outcome, Error> {
        self.0.await.map_err(|_| closed())
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the consumer is closed")
}

/// The core answered a command with another one's outcome.
pub(crate) fn unexpected(outcome: &Outcome) -> Error {
    Error::new(ErrorKind::ApiMisuse, format!("a bug in ottla: the unexpected outcome {outcome:?}"))
}
