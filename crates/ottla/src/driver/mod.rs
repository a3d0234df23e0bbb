//! The driver: owns the core, its sockets and its timer, and carries out what the core says.
//!
//! One task does it all, without a channel between a socket and the core. A turn of it is: the timer, the
//! commands, what the reader's side did, the sockets that moved; after each of these inputs everything the
//! core has to say is carried out. Each turn is bounded, so that no socket starves a heartbeat. The driver
//! never runs code of the user and never decodes a record.

mod buffers;
mod clock;
mod connection;
mod decode;
mod hub;
mod spawn;
mod transport;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_core::assignor::GroupAssignment;
use ottla_core::client::{Action, Client, Command, Outcome};
use ottla_core::delivery::Shared;
use ottla_core::group::{AssignJob, JobId};
use ottla_core::{CommandId, ConnectionId, Error, ErrorKind, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

#[cfg(feature = "metrics")]
use crate::observe::{Names, metrics};
use buffers::Buffers;
use connection::{Connection, Progress};
use hub::{DeliveryWaker, Hub};

pub(crate) use clock::{Clock, unix_millis};
pub(crate) use decode::Decoders;
pub(crate) use hub::Background;
pub(crate) use spawn::{Place, spawn};
pub(crate) use transport::{Plugged, Tcp, Transport};

/// Steps of one connection in one turn; a step reads at most what the core's hint says.
const STEPS_PER_TURN: usize = 8;
/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 64;
/// Turns before the runtime's other tasks get theirs.
const TURNS_PER_POLL: usize = 4;
/// Up to this many members times partitions an assignment is computed at once; it takes less time than a
/// thread takes to start.
const COMPUTE_AT_ONCE: usize = 2_000;

/// What the handles tell the driver.
#[derive(Debug)]
pub(crate) enum Message {
    /// A command, and where its outcome goes. Nobody may be there to take it.
    Command(Command, oneshot::Sender<Outcome>),
    /// There are commits in the background.
    Background,
}

/// What the driver needs to begin.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) delivery: Arc<Shared>,
    pub(crate) background: Arc<Background>,
    pub(crate) commands: mpsc::UnboundedReceiver<Message>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Clock,
    /// How long connecting may take, all addresses of a name together.
    pub(crate) connect_limit: Duration,
    pub(crate) decoders: Option<Decoders>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: (Arc<Names>, metrics::Settings),
}

struct Driver {
    client: Client,
    delivery: Arc<Shared>,
    background: Arc<Background>,
    commands: mpsc::UnboundedReceiver<Message>,
    /// The consumer is gone: no command will ever come.
    commands_ended: bool,
    transport: Arc<dyn Transport>,
    clock: Clock,
    connect_limit: Duration,
    hub: Arc<Hub>,
    connections: BTreeMap<ConnectionId, Connection>,
    buffers: Buffers,
    /// Connections with something to write since the core was last drained.
    to_write: Vec<ConnectionId>,
    ready: Vec<ConnectionId>,
    replies: BTreeMap<CommandId, oneshot::Sender<Outcome>>,
    last_command: u64,
    computed: (mpsc::UnboundedSender<Computed>, mpsc::UnboundedReceiver<Computed>),
    /// When `sleep` ends; it may be earlier than the core asked for, never later.
    armed: Option<Timestamp>,
    #[expect(dead_code, reason = "held for what its drop does: the threads end with the driver")]
    decoders: Option<Decoders>,
    #[cfg(feature = "metrics")]
    metrics: (Arc<Names>, metrics::Settings),
    /// Made where the driver runs.
    #[cfg(feature = "metrics")]
    publisher: Option<metrics::Publisher>,
}

type Computed = (JobId, GroupAssignment);

/// Drives the client until it is closed. Dropping the future drops the sockets and the timer with it.
///
/// The driver is made before the future: one that is dropped before its first poll (its runtime ends at once) must
/// tell the reader so too.
pub(crate) fn run(parts: Parts) -> impl Future<Output = ()> + Send {
    let mut driver = Driver::new(parts);
    async move {
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        driver.armed = Some(Timestamp::ZERO);
        #[cfg(feature = "metrics")]
        driver.begin_publishing();
        driver.settle(driver.clock.now());
        poll_fn(|cx| driver.poll(&mut sleep, cx)).await;
    }
}

impl Driver {
    fn new(parts: Parts) -> Self {
        let hub = Arc::new(Hub::default());
        parts.delivery.set_driver_waker(Waker::from(Arc::new(DeliveryWaker(hub.clone()))));
        Self {
            client: parts.client,
            delivery: parts.delivery,
            background: parts.background,
            commands: parts.commands,
            commands_ended: false,
            transport: parts.transport,
            clock: parts.clock,
            connect_limit: parts.connect_limit,
            hub,
            connections: BTreeMap::new(),
            buffers: Buffers::default(),
            to_write: Vec::new(),
            ready: Vec::new(),
            replies: BTreeMap::new(),
            last_command: 0,
            computed: mpsc::unbounded_channel(),
            armed: None,
            decoders: parts.decoders,
            #[cfg(feature = "metrics")]
            metrics: parts.metrics,
            #[cfg(feature = "metrics")]
            publisher: None,
        }
    }

    fn poll(&mut self, sleep: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
        self.hub.register(cx.waker());
        for _ in 0..TURNS_PER_POLL {
            let moved = self.turn(sleep, cx);
            if self.client.is_closed() {
                return Poll::Ready(());
            }
            if !moved && !self.arm(sleep, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round over everything that may have happened; false if nothing had.
    fn turn(&mut self, sleep: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if self.armed.is_some() && sleep.as_mut().poll(cx).is_ready() {
            moved = true;
            self.armed = None;
            let now = self.clock.now();
            self.client.handle_timeout(now);
            self.settle(now);
            #[cfg(feature = "metrics")]
            self.publish(now);
        }
        moved |= self.take_commands(cx);
        if self.hub.take_delivery() {
            moved = true;
            let now = self.clock.now();
            self.client.handle_delivery(now);
            self.settle(now);
        }
        while let Poll::Ready(Some((id, assignment))) = self.computed.1.poll_recv(cx) {
            moved = true;
            let now = self.clock.now();
            self.client.handle_computed(now, id, &assignment);
            self.settle(now);
        }
        let mut ready = std::mem::take(&mut self.ready);
        self.hub.take_ready(&mut ready);
        for conn in ready.drain(..) {
            moved = true;
            self.drive(conn);
        }
        self.ready = ready;
        moved
    }

    /// Sets the timer to what the core waits for; true if that is over already.
    fn arm(&mut self, sleep: &mut Pin<Box<Sleep>>, cx: &mut Context<'_>) -> bool {
        let next = self.client.poll_timeout().map(|(at, reason)| (at, Some(reason)));
        #[cfg(feature = "metrics")]
        let next = next.into_iter().chain(self.publisher.as_ref().map(|p| (p.due(), None))).min();
        let Some((at, reason)) = next else { return false };
        // A timer that ends too early costs one look at the core, less than moving it each time.
        if self.armed.is_some_and(|armed| armed <= at) {
            return false;
        }
        let Some(instant) = self.clock.instant(at) else { return false };
        tracing::trace!(?at, ?reason, "timer");
        self.armed = Some(at);
        sleep.as_mut().reset(instant);
        // Registers the task; if it is over already the next turn sees that.
        sleep.as_mut().poll(cx).is_ready()
    }

    fn take_commands(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for _ in 0..COMMANDS_PER_TURN {
            if self.commands_ended {
                break;
            }
            let message = match self.commands.poll_recv(cx) {
                Poll::Ready(Some(message)) => message,
                Poll::Ready(None) => {
                    self.commands_ended = true;
                    moved = true;
                    let now = self.clock.now();
                    self.client.handle_delivery(now);
                    self.settle(now);
                    break;
                }
                Poll::Pending => break,
            };
            moved = true;
            let command = match message {
                Message::Command(command, reply) => {
                    self.last_command += 1;
                    self.replies.insert(CommandId(self.last_command), reply);
                    command
                }
                Message::Background => {
                    self.last_command += 1;
                    Command::CommitInBackground(self.background.take())
                }
            };
            let now = self.clock.now();
            self.client.command(now, CommandId(self.last_command), command);
            self.settle(now);
        }
        moved
    }

    /// Gives one connection its share of a turn.
    fn drive(&mut self, conn: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.taken();
        if let Err(error) = connection.write() {
            return self.lost(conn, error);
        }
        for _ in 0..STEPS_PER_TURN {
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            let hint = if connection.is_connecting() { 0 } else { self.client.read_hint(conn) };
            match connection.step(&mut self.buffers, hint) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => return self.lost(conn, error),
                Poll::Ready(Ok(Progress::Connected)) => {
                    let now = self.clock.now();
                    self.client.handle_connected(now, conn);
                    self.settle(now);
                }
                Poll::Ready(Ok(Progress::Read)) => {
                    let now = self.clock.now();
                    self.client.handle_bytes(now, conn, &mut connection.buffer.bytes);
                    self.settle(now);
                }
            }
        }
        if let Some(connection) = self.connections.get(&conn) {
            connection.wake();
        }
    }

    fn lost(&mut self, conn: ConnectionId, error: Error) {
        tracing::debug!(%conn, %error, "connection lost");
        self.forget(conn);
        let now = self.clock.now();
        self.client.handle_closed(now, conn, error);
        self.settle(now);
    }

    fn forget(&mut self, conn: ConnectionId) {
        if let Some(connection) = self.connections.remove(&conn) {
            self.buffers.keep(connection.into_buffer());
        }
    }

    /// Carries out what the core says until it says nothing any more.
    fn settle(&mut self, now: Timestamp) {
        loop {
            let mut quiet = true;
            while let Some(action) = self.client.poll_action() {
                quiet = false;
                self.execute(action);
            }
            while let Some((id, outcome)) = self.client.poll_outcome() {
                quiet = false;
                if let Some(reply) = self.replies.remove(&id) {
                    // Whoever asked may have gone; the command was carried out all the same.
                    let _ = reply.send(outcome);
                }
            }
            while let Some(conn) = self.to_write.pop() {
                let Some(connection) = self.connections.get_mut(&conn) else { continue };
                if let Err(error) = connection.write() {
                    quiet = false;
                    self.forget(conn);
                    self.client.handle_closed(now, conn, error);
                    break;
                }
            }
            if quiet {
                break;
            }
        }
        #[cfg(feature = "metrics")]
        if let Some(publisher) = &mut self.publisher {
            while let Some(observation) = self.client.poll_observation() {
                publisher.observe(observation);
            }
        }
    }

    #[cfg(feature = "metrics")]
    fn begin_publishing(&mut self) {
        let (names, settings) = &self.metrics;
        if names.published {
            self.client.observe();
            let now = self.clock.now();
            self.publisher = Some(metrics::Publisher::new(names, settings.clone(), now));
        }
    }

    #[cfg(feature = "metrics")]
    fn publish(&mut self, now: Timestamp) {
        if let Some(publisher) = self.publisher.as_mut().filter(|publisher| publisher.due() <= now) {
            publisher.publish(now, &self.client.figures(now));
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Connect { conn, host, port } => {
                tracing::debug!(%conn, %host, port, "connecting");
                let address = address(&host, port);
                let connecting = self.transport.connect(host, port, self.connect_limit);
                let connection = Connection::new(&self.hub, conn, address, connecting);
                // A future moves only once it was polled: its first turn is due.
                connection.wake();
                self.connections.insert(conn, connection);
            }
            Action::Send { conn, bytes } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.send(bytes);
                    self.to_write.push(conn);
                }
            }
            Action::Close { conn } => {
                tracing::debug!(%conn, "closing");
                if let Some(connection) = self.connections.get_mut(&conn) {
                    // What was to be sent before goes out if the socket takes it; nobody waits for it.
                    let _ = connection.write();
                }
                self.forget(conn);
            }
            Action::Compute(job) => self.compute(job),
        }
    }

    fn compute(&self, job: AssignJob) {
        let results = self.computed.0.clone();
        let partitions: usize = job.topics.iter().map(|topic| topic.partitions.len()).sum();
        let size = job.members.len().saturating_mul(partitions);
        let job = Arc::new(job);
        let run = |job: &AssignJob, results: &mpsc::UnboundedSender<Computed>| {
            // The driver may have ended meanwhile.
            let _ = results.send((job.id, job.run()));
        };
        if size > COMPUTE_AT_ONCE || job.is_foreign() {
            let (job, results) = (Arc::clone(&job), results.clone());
            let thread = std::thread::Builder::new().name("ottla-assign".to_owned());
            match thread.spawn(move || run(&job, &results)) {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "no thread for an assignment: the driver computes it"),
            }
        }
        run(&job, &results);
    }
}

impl Drop for Driver {
    /// Whatever ends the driver, its reader is not left waiting.
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        if let Some(mut publisher) = self.publisher.take() {
            // What came since the last time, and nothing is left of its gauges.
            let now = self.clock.now();
            publisher.publish(now, &self.client.figures(now));
        }
        if !self.client.is_closed() {
            let text = "the runtime that drives the consumer has ended";
            self.delivery.lock().fail_all(Error::new(ErrorKind::Closed, text).with_fatal(true));
        }
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
