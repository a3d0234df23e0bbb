//! All connections: at most three per broker, opened lazily, each with a backoff of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_wire::Request;
use tracing::Span;
use tracing::field::Empty;

use super::{Connection, Peer, Received, Versions};
use crate::config::Config;
use crate::planted::planted;
use crate::snapshot::{BrokerSnapshot, Traffic};
use crate::{Backoff, BrokerId, ConnectionId, Error, Rng, Timestamp};

/// How long answers must not have asked for silence before a broker counts as not throttling any more: around its
/// quota every other answer does.
const CALM: Duration = Duration::from_secs(10);

/// Before each frame.
const SIZE_FIELD: u64 = 4;

/// Who to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// An address of the configuration.
    Bootstrap(usize),
    /// A broker that metadata named.
    Broker(BrokerId),
}

/// What a connection is for. A broker answers a connection strictly in order, so what may wait long gets its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Long polls.
    Fetch,
    /// JoinGroup, SyncGroup, Heartbeat: a join may be parked for minutes.
    Group,
    /// Everything that is answered at once.
    Control,
}

/// What is to be done with sockets; [`Action`](crate::client::Action) says it to the driver.
#[derive(Debug)]
pub(crate) enum Io {
    Connect { conn: ConnectionId, host: String, port: u16 },
    Send { conn: ConnectionId, bytes: Bytes },
    Close { conn: ConnectionId },
}

/// What happened on the network, drained by the client.
#[derive(Debug)]
pub(crate) enum NetEvent<T> {
    /// A connection can be used.
    Ready(Target, Role),
    /// A request was answered.
    Response {
        conn: ConnectionId,
        target: Target,
        tag: T,
        version: i16,
        payload: Bytes,
        body_at: usize,
        /// How long it took.
        took: Duration,
    },
    /// A request will not be answered.
    Failed { target: Target, tag: T, error: Error },
    /// A connection is gone, after what was in flight on it was failed.
    Lost {
        target: Target,
        role: Role,
        error: Error,
        /// How many connections in this use have ended in a row without an answer that made sense, this one
        /// among them; 0 if it was we who did not want it any more.
        failures: u32,
    },
    /// A broker that did not throttle us does.
    Throttled {
        target: Target,
        /// For how long, to begin with.
        throttle_time: Duration,
    },
    /// A broker that throttled us does not any more, or its connection is gone.
    Unthrottled {
        target: Target,
        /// For how long it did, all together.
        throttled: Duration,
    },
}

struct Slot<T> {
    connection: Connection<T>,
    target: Target,
    role: Role,
    /// Until it can be used, or has failed.
    connecting: Span,
    /// Answers asked for silence: it is throttled until one after this time does not.
    throttled: Option<Timestamp>,
}

struct Address {
    host: Arc<str>,
    port: u16,
    lanes: BTreeMap<Role, Lane>,
    traffic: Traffic,
    /// While it throttles us: for how long, all together.
    throttling: Option<Duration>,
}

/// How an address has behaved in one use. A broker that answers one kind of request well and another with nonsense
/// must not be asked hotly for either.
#[derive(Default)]
struct Lane {
    /// Counts failures until an answer made sense: that a connection is accepted, and versions are agreed on, is no
    /// proof that it works.
    backoff: Option<Backoff>,
    /// Not before then.
    retry_at: Timestamp,
    last_error: Option<Error>,
    /// The last connection ended before it could be used.
    unreachable: bool,
}

/// The connections of one client.
pub(crate) struct Network<T> {
    client_id: Arc<str>,
    max_frame_bytes: usize,
    setup_timeout: Duration,
    reconnect_backoff: (Duration, Duration),
    addresses: BTreeMap<Target, Address>,
    slots: BTreeMap<ConnectionId, Slot<T>>,
    by_use: BTreeMap<(Target, Role), ConnectionId>,
    next_id: u64,
    rng: Rng,
    actions: VecDeque<Io>,
    events: VecDeque<NetEvent<T>>,
    /// The earliest moment at which somebody who was refused by a backoff could be served.
    wanted_at: Option<Timestamp>,
    /// Of brokers that are not known any more.
    forgotten: Traffic,
}

impl<T> Network<T> {
    pub(crate) fn new(config: &Config, rng: Rng) -> Self {
        let mut network = Self {
            client_id: Arc::from(config.client_id.as_str()),
            max_frame_bytes: config.max_frame_bytes,
            setup_timeout: config.connection_setup_timeout,
            reconnect_backoff: config.reconnect_backoff,
            addresses: BTreeMap::new(),
            slots: BTreeMap::new(),
            by_use: BTreeMap::new(),
            next_id: 0,
            rng,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            wanted_at: None,
            forgotten: Traffic::default(),
        };
        for (i, (host, port)) in config.bootstrap.iter().enumerate() {
            network.set_address(Target::Bootstrap(i), host, *port);
        }
        network
    }

    /// Tells where `target` is. Connections to another address that it had are closed.
    pub(crate) fn set_address(&mut self, target: Target, host: &str, port: u16) {
        let mut traffic = Traffic::default();
        match self.addresses.get_mut(&target) {
            Some(address) if &*address.host == host && address.port == port => return,
            Some(address) => {
                traffic = std::mem::take(&mut address.traffic);
                self.forget(target);
            }
            None => {}
        }
        let (host, lanes) = (Arc::from(host), BTreeMap::new());
        self.addresses.insert(target, Address { host, port, lanes, traffic, throttling: None });
    }

    /// Closes all connections to `target` and forgets where it is.
    pub(crate) fn forget(&mut self, target: Target) {
        let ids: Vec<_> =
            self.by_use.range((target, Role::Fetch)..=(target, Role::Control)).map(|(_, id)| *id).collect();
        for id in ids {
            let error = Error::new(crate::ErrorKind::Transport, "the broker moved to another address");
            self.close(id, error);
        }
        if let Some(address) = self.addresses.remove(&target) {
            self.forgotten.add(&address.traffic);
        }
    }

    /// The brokers whose address is known.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = BrokerId> {
        self.addresses.keys().filter_map(|t| match t {
            Target::Broker(id) => Some(*id),
            Target::Bootstrap(_) => None,
        })
    }

    /// Whether it is known where `target` is.
    pub(crate) fn is_known(&self, target: Target) -> bool {
        self.addresses.contains_key(&target)
    }

    /// Whether a connection can be used now.
    pub(crate) fn is_ready(&self, target: Target, role: Role) -> bool {
        self.by_use
            .get(&(target, role))
            .and_then(|id| self.slots.get(id))
            .is_some_and(|slot| slot.connection.is_ready())
    }

    /// Whether the broker asked for silence on this connection, which is not over.
    pub(crate) fn is_muted(&self, now: Timestamp, target: Target, role: Role) -> bool {
        let slot = self.by_use.get(&(target, role)).and_then(|id| self.slots.get(id));
        slot.is_some_and(|slot| slot.connection.is_muted(now))
    }

    /// Whether what is sent now goes out now. If the broker asked for silence, the caller is driven again when it is
    /// over.
    pub(crate) fn is_free(&mut self, now: Timestamp, target: Target, role: Role) -> bool {
        let slot = self.by_use.get(&(target, role)).and_then(|id| self.slots.get(id));
        let until = slot.map_or(now, |slot| slot.connection.muted_until());
        if until > now {
            self.wanted_at = Some(self.wanted_at.map_or(until, |at| at.min(until)));
        }
        until <= now
    }

    fn lane(&self, target: Target, role: Role) -> Option<&Lane> {
        self.addresses.get(&target)?.lanes.get(&role)
    }

    /// Whether `target` is not known, is in a backoff, or has just failed.
    pub(crate) fn is_failing(&self, target: Target, role: Role) -> bool {
        !self.addresses.contains_key(&target) || self.failures(target, role) > 0
    }

    /// Whether there is no connection, and none can be had: each address was tried, and its last connection in some
    /// use ended before it could be used. One that broke is no proof before it was tried again.
    pub(crate) fn is_down(&self) -> bool {
        let unreachable = |address: &Address| address.lanes.values().any(|lane| lane.unreachable);
        !self.addresses.is_empty()
            && !self.slots.values().any(|slot| slot.connection.is_ready())
            && self.addresses.values().all(unreachable)
    }

    /// Where `target` is.
    pub(crate) fn address(&self, target: Target) -> Option<(&Arc<str>, u16)> {
        self.addresses.get(&target).map(|address| (&address.host, address.port))
    }

    /// Failures in a row.
    pub(crate) fn failures(&self, target: Target, role: Role) -> u32 {
        self.lane(target, role).and_then(|lane| lane.backoff.as_ref()).map_or(0, Backoff::failures)
    }

    /// Why the last connection to `target` failed, unless one has worked since.
    pub(crate) fn last_error(&self, target: Target, role: Role) -> Option<&Error> {
        self.lane(target, role)?.last_error.as_ref()
    }

    /// How long setting up this connection takes already, if it is not ready.
    fn setting_up(&self, now: Timestamp, slot: &Slot<T>) -> Option<Duration> {
        let left = slot.connection.setup_deadline.since(now);
        (!slot.connection.is_ready()).then(|| self.setup_timeout.saturating_sub(left))
    }

    /// Whether a connection is being set up for longer than `patience`.
    pub(crate) fn is_slow(&self, now: Timestamp, target: Target, role: Role, patience: Duration) -> bool {
        let slot = self.by_use.get(&(target, role)).and_then(|id| self.slots.get(id));
        slot.and_then(|slot| self.setting_up(now, slot)).is_some_and(|time| time >= patience)
    }

    /// When the next connection in this role [is slow](Self::is_slow), if nothing happens before.
    pub(crate) fn slow_at(&self, now: Timestamp, role: Role, patience: Duration) -> Option<Timestamp> {
        let of_role = self.slots.values().filter(|slot| slot.role == role);
        let times = of_role.filter_map(|slot| self.setting_up(now, slot));
        times.filter(|time| *time < patience).max().map(|time| now + (patience - time))
    }

    /// The broker has answered, and the answer made sense.
    pub(crate) fn worked(&mut self, conn: ConnectionId) {
        if let Some(slot) = self.slots.get(&conn)
            && let Some(address) = self.addresses.get_mut(&slot.target)
        {
            address.lanes.remove(&slot.role);
        }
    }

    /// The broker has answered, and the answer made no sense: the connection is closed, and the next one waits.
    pub(crate) fn refuse(&mut self, now: Timestamp, conn: ConnectionId, error: Error) {
        self.fail(now, conn, error, true);
    }

    /// What the broker offers on a connection that can be used.
    pub(crate) fn versions(&self, target: Target, role: Role) -> Option<&Versions> {
        self.slots.get(self.by_use.get(&(target, role))?)?.connection.versions()
    }

    /// A connection that can be used now; otherwise one is opened as soon as the backoff allows, and
    /// [`NetEvent::Ready`] or [`NetEvent::Lost`] follows.
    pub(crate) fn open(&mut self, now: Timestamp, target: Target, role: Role) -> bool {
        if let Some(slot) = self.by_use.get(&(target, role)).and_then(|id| self.slots.get(id)) {
            return slot.connection.is_ready();
        }
        let Some(address) = self.addresses.get_mut(&target) else {
            return false;
        };
        let at = address.lanes.get(&role).map_or(Timestamp::ZERO, |lane| lane.retry_at);
        if now < at {
            self.wanted_at = Some(self.wanted_at.map_or(at, |w| w.min(at)));
            return false;
        }
        let id = ConnectionId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let broker = match target {
            Target::Broker(broker) => Some(broker),
            Target::Bootstrap(_) => None,
        };
        let peer = Peer { broker, host: Arc::clone(&address.host), port: address.port };
        let (host, port) = (address.host.to_string(), address.port);
        address.traffic.connects += 1;
        let connection = Connection::new(
            peer,
            Arc::clone(&self.client_id),
            self.max_frame_bytes,
            now + self.setup_timeout,
        );
        let connecting = tracing::debug_span!(
            parent: None,
            "connect",
            otel.kind = "client",
            messaging.system = "kafka",
            messaging.client.id = &*self.client_id,
            server.address = host.as_str(),
            server.port = port,
            kafka.connection.role = ?role,
            error.r#type = Empty,
        );
        self.slots.insert(id, Slot { connection, target, role, connecting, throttled: None });
        self.by_use.insert((target, role), id);
        self.actions.push_back(Io::Connect { conn: id, host, port });
        false
    }

    /// Sends over a connection that [`is_ready`](Self::is_ready); the tag comes back as a failure otherwise.
    pub(crate) fn send<R: Request>(
        &mut self,
        now: Timestamp,
        (target, role): (Target, Role),
        request: &R,
        max_version: i16,
        tag: T,
        timeout: Duration,
    ) -> Option<i16> {
        let slot = self.by_use.get(&(target, role)).and_then(|id| self.slots.get_mut(id));
        let (tag, error) = match slot {
            Some(slot) => match slot.connection.send(now, request, max_version, tag, timeout) {
                Ok(version) => {
                    self.traffic(target).requests += 1;
                    return Some(version);
                }
                Err(failed) => failed,
            },
            None => (tag, Error::new(crate::ErrorKind::Transport, "not connected")),
        };
        self.events.push_back(NetEvent::Failed { target, tag, error });
        None
    }

    /// An answer on this connection asked for silence for so long, perhaps for none.
    pub(crate) fn throttle(&mut self, now: Timestamp, conn: ConnectionId, millis: i32) {
        let Some(slot) = self.slots.get_mut(&conn) else { return };
        let throttle_time = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        let target = slot.target;
        if throttle_time.is_zero() {
            if slot.throttled.take_if(|until| *until <= now).is_some() {
                self.unthrottled(target);
            }
            return;
        }
        slot.connection.throttle(now, millis);
        slot.throttled = Some(slot.connection.muted_until() + CALM);
        let Some(address) = self.addresses.get_mut(&target) else { return };
        address.traffic.throttled = address.traffic.throttled.saturating_add(throttle_time);
        let before = address.throttling;
        address.throttling = Some(before.unwrap_or_default().saturating_add(throttle_time));
        if before.is_none() {
            self.events.push_back(NetEvent::Throttled { target, throttle_time });
        }
    }

    /// A connection is not throttled any more: neither is its broker, unless another one is.
    fn unthrottled(&mut self, target: Target) {
        if self.slots.values().any(|slot| slot.target == target && slot.throttled.is_some()) {
            return;
        }
        let address = self.addresses.get_mut(&target);
        if let Some(throttled) = address.and_then(|address| address.throttling.take()) {
            self.events.push_back(NetEvent::Unthrottled { target, throttled });
        }
    }

    fn traffic(&mut self, target: Target) -> &mut Traffic {
        match self.addresses.get_mut(&target) {
            Some(address) => &mut address.traffic,
            None => &mut self.forgotten,
        }
    }

    pub(crate) fn handle_connected(&mut self, now: Timestamp, conn: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(&conn)
            && let Err(error) = slot.connection.connected()
        {
            self.fail(now, conn, error, true);
        }
    }

    pub(crate) fn read_hint(&self, conn: ConnectionId) -> usize {
        self.slots.get(&conn).map_or(1, |slot| slot.connection.read_hint())
    }

    /// Takes the whole frames out of `buf`; false if there was none, and nothing has come of it.
    pub(crate) fn handle_bytes(&mut self, now: Timestamp, conn: ConnectionId, buf: &mut BytesMut) -> bool {
        let mut moved = false;
        while let Some(slot) = self.slots.get_mut(&conn) {
            let frame = match slot.connection.next_frame(buf) {
                Ok(Some(frame)) => frame,
                Ok(None) => return moved,
                Err(error) => {
                    self.fail(now, conn, error, true);
                    return true;
                }
            };
            moved = true;
            let (target, bytes) = (slot.target, frame.len() as u64 + SIZE_FIELD);
            match slot.connection.handle_frame(frame) {
                Ok(Received::Nothing) => {}
                Ok(Received::Ready) => {
                    slot.connecting = Span::none();
                    self.events.push_back(NetEvent::Ready(slot.target, slot.role));
                    if let Some(address) = self.addresses.get_mut(&target) {
                        address.lanes.values_mut().for_each(|lane| lane.unreachable = false);
                    }
                }
                Ok(Received::Response(r)) => {
                    let took = now.since(r.sent);
                    self.traffic(target).latency.add(took);
                    self.events.push_back(NetEvent::Response {
                        conn,
                        target,
                        tag: r.tag,
                        version: r.version,
                        payload: r.payload,
                        body_at: r.body_at,
                        took,
                    });
                }
                Err(error) => {
                    self.fail(now, conn, error, true);
                    return true;
                }
            }
            self.traffic(target).bytes_received += bytes;
        }
        moved
    }

    pub(crate) fn handle_closed(&mut self, now: Timestamp, conn: ConnectionId, error: Error) {
        self.fail(now, conn, error, false);
    }

    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        if self.wanted_at.is_some_and(|at| now >= at) {
            self.wanted_at = None;
        }
        let overdue: Vec<_> =
            self.slots.iter().filter_map(|(id, slot)| Some((*id, slot.connection.overdue(now)?))).collect();
        for (id, error) in overdue {
            self.fail(now, id, error, true);
        }
    }

    /// A connection's end that nobody wished for: it is some time before the next is opened.
    fn fail(&mut self, now: Timestamp, conn: ConnectionId, error: Error, close: bool) {
        let Some(slot) = self.slots.get(&conn) else {
            return;
        };
        let mut failures = 0;
        if let Some(address) = self.addresses.get_mut(&slot.target) {
            let lane = address.lanes.entry(slot.role).or_default();
            let (initial, max) = self.reconnect_backoff;
            let backoff = lane.backoff.get_or_insert_with(|| Backoff::new(initial, max));
            lane.retry_at = now + backoff.next(&mut self.rng);
            lane.last_error = Some(error.clone());
            lane.unreachable = !slot.connection.is_ready();
            failures = backoff.failures();
            if planted!(ReconnectsHot) {
                lane.retry_at = now;
            }
        }
        self.end(conn, error, failures, close);
    }

    /// Closes a connection that is not wanted any more.
    pub(crate) fn close(&mut self, conn: ConnectionId, error: Error) {
        self.end(conn, error, 0, true);
    }

    fn end(&mut self, conn: ConnectionId, error: Error, failures: u32, close: bool) {
        let Some(Slot { connection, target, role, connecting, throttled }) = self.slots.remove(&conn) else {
            return;
        };
        connecting.record("error.type", error.kind().name());
        if throttled.is_some() {
            self.unthrottled(target);
        }
        self.by_use.remove(&(target, role));
        if close && !planted!(SocketsLeak) {
            self.actions.push_back(Io::Close { conn });
        }
        self.traffic(target).disconnects += 1;
        for tag in connection.into_unanswered() {
            self.traffic(target).unanswered += 1;
            self.events.push_back(NetEvent::Failed { target, tag, error: error.clone() });
        }
        self.events.push_back(NetEvent::Lost { target, role, error, failures });
    }

    /// Closes all connections in this use, to whichever broker. What is in flight on them fails.
    pub(crate) fn close_role(&mut self, role: Role, why: &str) {
        let ids: Vec<_> =
            self.slots.iter().filter(|(_, slot)| slot.role == role).map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id, Error::new(crate::ErrorKind::Transport, why));
        }
    }

    /// Closes the connection in this use if nothing is in flight on it.
    pub(crate) fn close_idle(&mut self, target: Target, role: Role) {
        let idle = |id: &ConnectionId| self.slots.get(id).is_some_and(|s| s.connection.in_flight() == 0);
        if let Some(id) = self.by_use.get(&(target, role)).copied().filter(idle) {
            self.close(id, Error::new(crate::ErrorKind::Transport, "the connection is not needed any more"));
        }
    }

    /// Closes everything, silently: nobody is told what was in flight.
    pub(crate) fn close_all(&mut self) {
        for (id, slot) in std::mem::take(&mut self.slots) {
            self.actions.push_back(Io::Close { conn: id });
            self.traffic(slot.target).disconnects += 1;
        }
        self.by_use.clear();
        self.events.clear();
    }

    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(crate) fn poll_event(&mut self) -> Option<NetEvent<T>> {
        self.events.pop_front()
    }

    pub(crate) fn poll_action(&mut self, now: Timestamp) -> Option<Io> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let (conn, target, bytes) = self
            .slots
            .iter_mut()
            .find_map(|(id, slot)| slot.connection.poll_send(now).map(|bytes| (*id, slot.target, bytes)))?;
        self.traffic(target).bytes_sent += bytes.len() as u64;
        Some(Io::Send { conn, bytes })
    }

    /// What went to and fro since the beginning, with whomever.
    pub(crate) fn total(&self) -> Traffic {
        let mut total = self.forgotten;
        self.addresses.values().for_each(|address| total.add(&address.traffic));
        total
    }

    /// What is known of each address.
    pub(crate) fn snapshot(&self) -> Vec<BrokerSnapshot> {
        let of = |target: Target| self.slots.values().filter(move |slot| slot.target == target);
        let snapshot = |(target, address): (&Target, &Address)| BrokerSnapshot {
            id: match target {
                Target::Broker(id) => Some(*id),
                Target::Bootstrap(_) => None,
            },
            host: address.host.to_string(),
            port: address.port,
            connected: of(*target).filter(|slot| slot.connection.is_ready()).count(),
            in_flight: of(*target).map(|slot| slot.connection.in_flight()).sum(),
            throttled: address.throttling.is_some(),
            traffic: address.traffic,
        };
        self.addresses.iter().map(snapshot).collect()
    }

    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.slots.values().filter_map(|slot| slot.connection.next_timeout()).chain(self.wanted_at).min()
    }
}

impl<T> std::fmt::Debug for Network<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("connections", &self.by_use.len()).finish_non_exhaustive()
    }
}
