//! The whole core of a client, with a reader, against brokers that are driven by an input, on virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_core::admin::{AdminCall, NewTopic};
use ottla_core::assignor::Assignor;
use ottla_core::client::{Action, Client, Command, CommitItem, Offset, Outcome};
use ottla_core::config::{Config, GroupConfig, GroupProtocol, IsolationLevel};
use ottla_core::delivery::{Batch, BatchDecoder, DeliveryConfig, Filter, Shared, Taken};
use ottla_core::{CommandId, ConnectionId, Error, ErrorKind, OwnershipEpoch, Timestamp, TopicPartition};
use ottla_wire::{ApiKey, frame};

use super::admin::{self, Call};
use super::broker::{Broker, END, LOGS, PARTITIONS, TOPIC};
use super::input::Input;

/// Steps of one input.
const MOST_STEPS: usize = 250;
/// Requests and connections that one event may cause: two brokers, three connections each, and what waited.
const MOST_ACTIONS: usize = 40;
const BUDGET: usize = 64 << 10;
/// What the ledger may hold beyond the budget: an oversized batch of each broker and a decoded one.
const OVERSHOOT: usize = 1 << 20;
const CLOSE: Duration = Duration::from_secs(5);
/// Within this everything is read once nobody lies and nothing fails any more: session, rebalance, backoff, metadata.
const HEALED: Duration = Duration::from_secs(120);

/// A request that has no answer yet.
struct Asked {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Bytes,
}

#[derive(Default)]
struct Link {
    connected: bool,
    asked: VecDeque<Asked>,
    /// What came and is not a whole frame.
    buf: BytesMut,
}

/// All partitions, from their beginning.
fn all_earliest() -> Vec<(TopicPartition, Offset)> {
    (0..PARTITIONS).map(|p| (TopicPartition::new(TOPIC, p), Offset::Earliest)).collect()
}

/// A client and everything around it.
pub(super) struct Rig {
    client: Client,
    delivery: Arc<Shared>,
    decoder: BatchDecoder,
    now: Timestamp,
    links: BTreeMap<ConnectionId, Link>,
    broker: Broker,
    commands: u64,
    outcomes: usize,
    closed: bool,
    closing: bool,
    grouped: bool,
    /// An administrator's calls that have no outcome yet.
    calls: BTreeMap<CommandId, Call>,
    /// Since before the calls that are under way began, everything works.
    healed: bool,
    hand: Vec<Batch>,
    /// The last offset handed out by partition and ownership.
    last: BTreeMap<(TopicPartition, OwnershipEpoch), i64>,
    /// A fatal error was told.
    fatal: bool,
    /// The errors and events that the reader was told, for whoever reads a failure.
    told: Vec<String>,
}

impl Rig {
    /// A consumer in a group of either protocol, or of partitions that are assigned by hand.
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let mut rig = Self::idle(input, true);
        rig.command(if rig.grouped {
            Command::Subscribe(vec![TOPIC.to_owned()])
        } else {
            Command::Assign(all_earliest())
        });
        rig
    }

    /// An administrator, who reads nothing.
    pub(super) fn administrator(input: &mut Input<'_>) -> Self {
        let mut rig = Self::idle(input, false);
        rig.broker.administered = true;
        rig.drain();
        rig
    }

    fn idle(input: &mut Input<'_>, may_join: bool) -> Self {
        let choices = input.byte();
        let mut config = Config {
            bootstrap: vec![("b".to_owned(), 9092), ("b".to_owned(), 9093)],
            max_buffered_bytes: BUDGET,
            max_decompressed_batch_bytes: 64 << 10,
            max_frame_bytes: 256 << 10,
            max_batch_records: 1 + input.below(20),
            request_timeout: Duration::from_secs(5),
            isolation_level: if choices & 1 == 1 {
                IsolationLevel::ReadCommitted
            } else {
                IsolationLevel::ReadUncommitted
            },
            ..Config::default()
        };
        config.default_api_timeout = admin::TIMEOUT;
        let grouped = may_join && choices & 2 == 2;
        // Who insists on the consumer protocol finds it; who takes either may not.
        let (protocol, offered) = match choices >> 4 & 7 {
            0 | 1 => (GroupProtocol::Classic, false),
            2 => (GroupProtocol::Auto, false),
            3 => (GroupProtocol::Auto, true),
            _ => (GroupProtocol::Consumer, true),
        };
        if grouped {
            let mut group = GroupConfig::new("g");
            group.session_timeout = Duration::from_secs(10);
            group.rebalance_timeout = Duration::from_secs(20);
            group.revoke_timeout = Duration::from_secs(5);
            group.protocol = protocol;
            group.assignors = vec![Assignor::ALL[usize::from(choices >> 2 & 3)]];
            config.group = Some(group);
        }
        let broker = Broker::new(input, offered);
        let delivery = Shared::new(DeliveryConfig::from(&config));
        let now = Timestamp::from_millis(1_000);
        let client = Client::new(config, Arc::clone(&delivery), u64::from(choices), now, 1_700_000_000_000);
        Self {
            client,
            delivery,
            decoder: BatchDecoder::new(),
            now,
            links: BTreeMap::new(),
            broker,
            commands: 0,
            outcomes: 0,
            closed: false,
            closing: false,
            grouped,
            calls: BTreeMap::new(),
            healed: false,
            hand: Vec::new(),
            last: BTreeMap::new(),
            fatal: false,
            told: Vec::new(),
        }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.broker.honest
    }

    /// What the broker says is not all that comes.
    pub(super) fn distrust(&mut self) {
        self.broker.honest = false;
    }

    fn command(&mut self, command: Command) {
        self.commands += 1;
        self.client.command(self.now, CommandId(self.commands), command);
        self.drain();
    }

    /// What is to be done after every input: see the contract of the core.
    fn drain(&mut self) {
        let mut actions = 0;
        loop {
            while let Some((id, outcome)) = self.client.poll_outcome() {
                self.outcomes += 1;
                self.closed |= matches!(outcome, Outcome::Closed(_));
                if let Some(call) = self.calls.remove(&id) {
                    call.check(outcome, self.closing, self.healed);
                }
            }
            let Some(action) = self.client.poll_action() else { break };
            actions += 1;
            assert!(actions <= MOST_ACTIONS, "L3: {action:?} is one of too many at once");
            match action {
                Action::Connect { conn, .. } => {
                    self.links.insert(conn, Link::default());
                }
                Action::Close { conn } => {
                    self.links.remove(&conn);
                }
                Action::Send { conn, bytes } => self.sent(conn, bytes),
                Action::Compute(job) => self.client.handle_computed(self.now, job.id, &job.run()),
            }
        }
        assert!(self.links.len() <= 24, "R3: {} connections", self.links.len());
        assert!(
            self.outcomes <= usize::try_from(self.commands).unwrap_or(0),
            "an outcome that nobody waits for"
        );
        let delivery = self.delivery.lock();
        assert!(delivery.buffered_bytes() <= BUDGET + OVERSHOOT, "R1: {} bytes", delivery.buffered_bytes());
    }

    /// Takes requests apart.
    fn sent(&mut self, conn: ConnectionId, mut bytes: Bytes) {
        let link = self.links.get_mut(&conn).expect("nothing is sent on a connection that is not there");
        assert!(link.connected, "X2: sent before it is connected");
        while let Some(&length) = bytes.first_chunk::<4>() {
            let mut framed = bytes.split_to(4 + frame::frame_length(length, 1 << 20).expect("our own frame"));
            let payload = framed.split_off(4);
            let (header, at) = frame::decode_request_header(&payload).expect("our own header");
            let api = ApiKey::from_i16(header.api_key).expect("our own api");
            let (version, correlation_id) = (header.api_version, header.correlation_id);
            let body = payload.slice(at..);
            link.asked.push_back(Asked { api, version, correlation_id, body });
        }
        // A command may ask for something at once, whatever else waits: a query or a seek looks up an offset.
        let most = 24 + usize::try_from(self.commands).unwrap_or(0);
        assert!(link.asked.len() <= most, "L3: {} requests without an answer", link.asked.len());
    }

    /// One of the connections, oldest first.
    fn pick(&self, input: &mut Input<'_>) -> Option<ConnectionId> {
        let at = input.below(self.links.len());
        self.links.keys().nth(at).copied()
    }

    fn connect(&mut self, conn: ConnectionId) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.connected) else { return };
        link.connected = true;
        self.client.handle_connected(self.now, conn);
        self.drain();
    }

    fn cut(&mut self, conn: ConnectionId) {
        self.links.remove(&conn);
        let error = Error::new(ErrorKind::Transport, "cut");
        self.client.handle_closed(self.now, conn, error);
        self.drain();
    }

    /// The oldest request of the connection is answered by the broker, or with these bytes.
    fn answer(&mut self, conn: ConnectionId, body: Option<&[u8]>, input: &mut Input<'_>) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.connected) else { return };
        let Some(asked) = link.asked.pop_front() else { return };
        let body = match body {
            Some(body) => BytesMut::from(body),
            None => self.broker.answer(asked.api, asked.version, &asked.body, input),
        };
        let header = asked.api.response_header_version(asked.version);
        let tags = usize::try_from(header).unwrap_or(0);
        let mut framed = BytesMut::new();
        framed.put_u32(u32::try_from(4 + tags + body.len()).expect("small"));
        framed.put_i32(asked.correlation_id);
        framed.put_bytes(0, tags);
        framed.extend_from_slice(&body);
        self.receive(conn, &framed);
    }

    /// Bytes arrive.
    fn receive(&mut self, conn: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| link.connected) else { return };
        let mut buf = std::mem::take(&mut link.buf);
        buf.extend_from_slice(bytes);
        self.client.handle_bytes(self.now, conn, &mut buf);
        if let Some(link) = self.links.get_mut(&conn) {
            link.buf = buf;
        }
        self.drain();
    }

    /// Time passes, to the next timer or by so much.
    fn pass(&mut self, by: Option<Duration>) {
        let due = self.client.poll_timeout().map(|(at, _)| at);
        let to = by.map_or(due, |by| Some(self.now + by));
        self.now = to.unwrap_or(self.now).max(self.now);
        self.client.handle_timeout(self.now);
        self.drain();
        let due = self.client.poll_timeout();
        assert!(due.is_none_or(|(at, _)| at > self.now), "still due at {:?}: {due:?}", self.now);
        let late = self.calls.values().find(|call| call.until <= self.now);
        assert!(late.is_none(), "L4: no outcome of {late:?}");
    }

    /// The reader reads once; tells whether it got something.
    fn read(&mut self, limit: usize, events: bool) -> bool {
        let filter = Filter { events, partition: None, max_records: limit };
        let taken = self.delivery.take(self.now, &mut self.decoder, filter, None);
        let got = match taken {
            Taken::Batch(batch) => {
                self.check(&batch);
                self.hand.push(batch);
                true
            }
            Taken::Record(record) => unreachable!("{record:?} instead of a batch"),
            Taken::Event(event) => {
                self.told.push(format!("{event:?}"));
                true
            }
            Taken::Error(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                self.told.push(format!("{error}: {source:?}"));
                let again = self.fatal && error.is_fatal();
                self.fatal |= error.is_fatal();
                !again
            }
            Taken::Pending | Taken::End => false,
        };
        self.client.handle_delivery(self.now);
        self.drain();
        got
    }

    /// S1, S2, S3, S6 of what was handed out.
    fn check(&mut self, batch: &Batch) {
        assert!(batch.is_owned(), "S6: handed out and not owned");
        let tp = batch.topic_partition().clone();
        let epoch = batch.token().ownership_epoch();
        let last = self.last.entry((tp.clone(), epoch)).or_insert(-1);
        for record in batch {
            assert!(record.offset() > *last, "S2: {tp} gives {} after {last}", record.offset());
            if self.broker.honest {
                let value = format!("{}/{}", tp.partition(), record.offset());
                assert_eq!(record.value(), Some(value.as_bytes()), "S1: {tp}");
                let log = &LOGS[usize::try_from(tp.partition()).expect("a partition")];
                let expected = log.next(*last + 1);
                assert!(*last < 0 || record.offset() == expected, "S3: {tp} gives {record:?} after {last}");
            }
            *last = record.offset();
        }
    }

    /// What a user does.
    fn user(&mut self, input: &mut Input<'_>) {
        if self.broker.administered {
            return self.call(admin::call(input));
        }
        let tp = TopicPartition::new(TOPIC, i32::from(input.byte() % 3));
        match input.below(11) {
            0 => self.command(Command::Pause(vec![tp])),
            1 => self.command(Command::Resume(vec![tp])),
            2 => {
                let to = match input.byte() {
                    255 if !self.broker.honest => Offset::At(i64::from(input.number())),
                    254 => Offset::Latest,
                    253 => Offset::Committed,
                    252 => Offset::FromEnd(u64::from(input.byte())),
                    at => Offset::At(i64::from(at) % (END + 1)),
                };
                self.command(Command::Seek(tp, to));
            }
            3 => self.command(Command::CommitDelivered),
            4 => {
                let tokens = self.hand.iter().map(|batch| CommitItem::Token(batch.token())).collect();
                self.command(Command::Commit(tokens));
            }
            5 => self.hand.clear(),
            6 => self.command(Command::Committed(vec![tp])),
            7 => self.command(Command::ListOffsets(vec![(tp, Offset::Latest)])),
            8 if !self.grouped => self.command(Command::IncrementalUnassign(vec![tp])),
            9 if !self.grouped => self.command(Command::IncrementalAssign(vec![(tp, Offset::Earliest)])),
            _ => {
                // Tokens of what is in hand, marked or not.
                if let Some(batch) = self.hand.pop() {
                    batch.token().mark();
                }
            }
        }
    }

    /// An administrator's call.
    fn call(&mut self, call: AdminCall) {
        let id = CommandId(self.commands + 1);
        self.calls.insert(id, Call::new(self.now, call.clone()));
        self.command(Command::Admin(call));
    }

    fn step(&mut self, input: &mut Input<'_>, raw: bool) {
        let choice = input.below(16);
        let conn = self.pick(input);
        match (choice, conn) {
            (0..=1, Some(conn)) => self.connect(conn),
            (2..=6, Some(conn)) => self.answer(conn, None, input),
            (7, Some(conn)) if input.byte() > 100 => self.cut(conn),
            (8, Some(conn)) if raw => {
                let body = input.some();
                self.answer(conn, Some(body), input);
            }
            (9, Some(conn)) if raw => {
                let bytes = input.some();
                self.receive(conn, bytes);
            }
            (10, _) => {
                let by = Duration::from_millis(u64::from(input.u16()));
                self.pass(Some(by));
            }
            (11 | 12, _) => {
                let limit = input.below(20);
                self.read(limit, input.byte().is_multiple_of(2));
            }
            (13, _) => self.user(input),
            _ => self.pass(None),
        }
    }

    /// Everything that the input says, and then an end.
    pub(super) fn run(&mut self, input: &mut Input<'_>, raw: bool) {
        let mut steps = 0;
        while !input.is_empty() && steps < MOST_STEPS {
            self.step(input, raw);
            steps += 1;
        }
    }

    /// L1: from now on everything works and everybody reads; then everything is read.
    pub(super) fn heal(&mut self) {
        let all: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(TOPIC, p)).collect();
        self.command(Command::Resume(all.clone()));
        if !self.grouped {
            self.command(Command::IncrementalAssign(all_earliest()));
        }
        let end = self.now + HEALED;
        let mut steps = 0;
        loop {
            let at_end = |tp: &TopicPartition| self.delivery.lock().position(tp) == Some(END);
            if all.iter().all(at_end) {
                break;
            }
            assert!(!self.fatal, "an honest broker is fatal: {:?}", self.told);
            steps += 1;
            let positions: Vec<_> = all.iter().map(|tp| self.delivery.lock().position(tp)).collect();
            assert!(
                self.now < end && steps < 5_000,
                "L1: {positions:?} of {END} after {steps} steps, told {:?}",
                self.told
            );
            let mut moved = self.serve(&mut steps);
            while self.read(100, true) {
                self.hand.clear();
                moved = true;
            }
            self.hand.clear();
            if !moved {
                self.pass(None);
            }
        }
    }

    /// Everything that was asked for is answered, and well; tells whether there was anything.
    fn serve(&mut self, steps: &mut usize) -> bool {
        let nothing = &mut Input(&[]);
        let conns: Vec<ConnectionId> = self.links.keys().copied().collect();
        let mut moved = false;
        for conn in conns {
            self.connect(conn);
            while self.links.get(&conn).is_some_and(|link| !link.asked.is_empty()) && *steps < 5_000 {
                *steps += 1;
                self.answer(conn, None, nothing);
                moved = true;
            }
        }
        moved
    }

    /// Nobody answers any more: every call has its outcome when its time is over.
    pub(super) fn end_calls(&mut self) {
        let mut steps = 0;
        while !self.calls.is_empty() {
            steps += 1;
            assert!(steps < 1_000, "L3: {:?} take {steps} steps", self.calls);
            self.pass(None);
        }
    }

    /// L1: with a broker that answers, a call of each kind succeeds.
    pub(super) fn heal_calls(&mut self) {
        self.healed = true;
        let names = vec!["t".to_owned(), "u".to_owned()];
        let partitions: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(TOPIC, p)).collect();
        let group = "g".to_owned();
        let topics = vec![NewTopic::new("t"), NewTopic::new("u")];
        for call in [
            AdminCall::ListTopics,
            AdminCall::CreateTopics { topics, validate_only: false },
            AdminCall::DeleteTopics(names.clone()),
            AdminCall::ListGroups,
            AdminCall::DescribeGroups(names.clone()),
            AdminCall::DeleteGroups(names),
            AdminCall::ListGroupOffsets(group.clone()),
            AdminCall::AlterGroupOffsets { group: group.clone(), offsets: all_earliest() },
            AdminCall::DeleteGroupOffsets { group, partitions },
        ] {
            self.call(call);
        }
        let mut steps = 0;
        while !self.calls.is_empty() {
            steps += 1;
            assert!(steps < 5_000, "L1: {:?} take {steps} steps", self.calls);
            if !self.serve(&mut steps) {
                self.pass(None);
            }
        }
    }

    /// L2: whatever has happened, closing ends in time, also with nobody there any more.
    pub(super) fn close(&mut self) {
        if self.closed {
            return;
        }
        self.hand.clear();
        self.closing = true;
        let end = self.now + CLOSE;
        self.command(Command::Close { timeout: CLOSE });
        let mut steps = 0;
        while !self.client.is_closed() {
            steps += 1;
            assert!(steps < 1_000, "L3: closing takes {steps} steps");
            let due = self.client.poll_timeout().map(|(at, _)| at);
            assert!(
                due.is_some_and(|due| due <= end),
                "L2: not closed, and nothing is due before {end:?}: {due:?}"
            );
            self.pass(None);
        }
        assert!(self.closed, "no outcome of close");
        assert!(self.links.is_empty(), "L2: connections are left");
        assert!(self.client.poll_timeout().is_none(), "L2: a timer is left");
    }
}
