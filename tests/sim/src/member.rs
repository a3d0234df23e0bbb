//! One client: core, delivery, and a reader that writes down everything that it is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::BytesMut;
use ottla_core::assignor::GroupAssignment;
use ottla_core::client::{Action, Client, Command, Outcome};
use ottla_core::config::Config;
use ottla_core::delivery::{
    Batch, BatchDecoder, DeliveryConfig, Event, Filter, Gathered, Gathering, Record, RecordReader,
    ResetCause, Shared, Taken,
};
use ottla_core::group::JobId;
use ottla_core::{CommandId, ConnectionId, Error, Timestamp, TopicPartition};

use super::meter::Inside;
use super::trace::Trace;

/// What a reader was given.
#[derive(Debug)]
pub enum Seen {
    /// Records: partition, first and last offset, how many.
    Records(TopicPartition, i64, i64, usize),
    /// Partitions were assigned.
    Assigned(Vec<TopicPartition>),
    /// Partitions are taken back.
    Revoking(Vec<TopicPartition>),
    /// Partitions are lost.
    Lost(Vec<TopicPartition>),
    /// The reset policy decided.
    Reset(TopicPartition, i64),
    /// The end of a partition.
    Eof(TopicPartition, i64),
    /// Something else happened.
    Other(String),
    /// An error.
    Error(Error),
    /// The end.
    End,
}

/// Says that the reader was woken.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client with its reader.
pub struct Member {
    client: Client,
    /// What client and reader share.
    pub delivery: Arc<Shared>,
    decoder: BatchDecoder,
    /// Everything that the reader was given, in order, with the time.
    pub seen: Vec<(Timestamp, Seen)>,
    /// Values by partition and offset, in the order in which they were handed out.
    pub values: BTreeMap<TopicPartition, Vec<(i64, Vec<u8>)>>,
    /// Where the reset policy put partitions, and why.
    pub resets: Vec<(TopicPartition, i64, ResetCause)>,
    /// Outcomes of commands, in order.
    pub outcomes: Vec<Outcome>,
    /// Whether events are asked for.
    pub events: bool,
    /// Whether single records are read, as `next_record` does; events are then handled by the defaults.
    pub single: bool,
    reader: RecordReader,
    /// Whether the world reads for it.
    pub auto_read: bool,
    /// The batch in hand, kept until the next read.
    pub hand: Option<Batch>,
    hand_record: Option<Record>,
    next_command: u64,
    alive: bool,
    /// When the driver would call again: as a driver does, looked up after each input.
    timeout: Option<Timestamp>,
    woken: Arc<Woken>,
    waker: Waker,
    /// The state machines as they were last seen.
    states: [(&'static str, &'static str); 4],
    /// Outcomes with their commands, for a simulation that asks for them.
    pub(super) finished: Option<Vec<(CommandId, Outcome)>>,
    /// Everything that came out of the core, if somebody wants to know.
    trace: Option<Trace>,
}

impl Member {
    pub(super) fn new(config: Config, seed: u64, now: Timestamp) -> Self {
        let delivery = Shared::new(DeliveryConfig::from(&config));
        let client = Client::new(config, Arc::clone(&delivery), seed, now, 1_700_000_000_000);
        let woken = Arc::new(Woken::default());
        Self {
            timeout: None,
            waker: Waker::from(Arc::clone(&woken)),
            woken,
            states: client.states(),
            finished: None,
            client,
            delivery,
            decoder: BatchDecoder::new(),
            seen: Vec::new(),
            values: BTreeMap::new(),
            resets: Vec::new(),
            outcomes: Vec::new(),
            events: true,
            single: false,
            reader: RecordReader::new(),
            auto_read: true,
            hand: None,
            hand_record: None,
            next_command: 0,
            alive: true,
            trace: None,
        }
    }

    pub(super) fn reads_by_itself(&self) -> bool {
        self.alive && self.auto_read && !self.client.is_closed()
    }

    pub(super) fn kill(&mut self) {
        self.alive = false;
        self.hand = None;
        self.hand_record = None;
        self.timeout = None;
    }

    pub(super) fn read(&mut self, now: Timestamp) -> bool {
        if !self.alive || matches!(self.seen.last(), Some((_, Seen::End))) {
            return false;
        }
        self.hand = None;
        self.hand_record = None;
        let filter = if self.events { Filter::EVENTS } else { Filter::BATCHES };
        let taken = if self.single {
            self.delivery.take_record(|| now, &mut self.decoder, &mut self.reader, None)
        } else {
            self.delivery.give_back(&mut self.reader);
            self.delivery.take(now, &mut self.decoder, filter, None)
        };
        let seen = match taken {
            Taken::Pending => return false,
            Taken::End => Seen::End,
            Taken::Error(error) => {
                // A fatal error is given for ever.
                let again =
                    error.is_fatal() && matches!(self.seen.last(), Some((_, Seen::Error(e))) if e.is_fatal());
                if again {
                    return false;
                }
                Seen::Error(error)
            }
            Taken::Batch(batch) => {
                let tp = batch.topic_partition().clone();
                let values = self.values.entry(tp.clone()).or_default();
                for record in &batch {
                    values.push((record.offset(), record.value().unwrap_or_default().to_vec()));
                }
                let seen = Seen::Records(tp, batch.first_offset(), batch.last_offset(), batch.len());
                self.hand = Some(batch);
                seen
            }
            Taken::Record(record) => {
                let tp = record.topic_partition().clone();
                let offset = record.offset();
                let value = record.value().unwrap_or_default().to_vec();
                self.values.entry(tp.clone()).or_default().push((offset, value));
                self.hand_record = Some(record);
                Seen::Records(tp, offset, offset, 1)
            }
            Taken::Event(event) => match event {
                Event::Assigned(tps) => Seen::Assigned(tps),
                Event::Revoking(revocation) => Seen::Revoking(revocation.partitions().to_vec()),
                Event::Lost(tps) => Seen::Lost(tps),
                Event::OffsetReset { topic_partition, offset, cause } => {
                    self.resets.push((topic_partition.clone(), offset, cause));
                    Seen::Reset(topic_partition, offset)
                }
                Event::PartitionEof { topic_partition, offset } => Seen::Eof(topic_partition, offset),
                other => Seen::Other(format!("{other:?}")),
            },
        };
        self.seen.push((now, seen));
        true
    }

    /// Reads as a reader that waits does: if nothing is there it is woken when something may be.
    pub(super) fn take(&mut self, now: Timestamp, filter: Filter<'_>) -> Taken {
        if !self.alive {
            return Taken::Pending;
        }
        self.woken.0.store(false, Ordering::Relaxed);
        self.delivery.take(now, &mut self.decoder, filter, Some(&self.waker))
    }

    /// The same, one record.
    pub(super) fn take_record(&mut self, now: Timestamp) -> Taken {
        if !self.alive {
            return Taken::Pending;
        }
        self.woken.0.store(false, Ordering::Relaxed);
        self.delivery.take_record(|| now, &mut self.decoder, &mut self.reader, Some(&self.waker))
    }

    /// The same, several batches at once.
    pub(super) fn gather(&mut self, now: Timestamp, gathering: &mut Gathering) -> Gathered {
        if !self.alive {
            return Gathered::Pending;
        }
        self.woken.0.store(false, Ordering::Relaxed);
        self.delivery.gather(now, &mut self.decoder, gathering, &self.waker)
    }

    /// Whether the reader that waits was woken.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    pub(super) fn command(&mut self, now: Timestamp, command: Command) -> CommandId {
        self.next_command += 1;
        let id = CommandId(self.next_command);
        let inside = Inside::enter();
        self.client.command(now, id, command);
        drop(inside);
        self.collect();
        id
    }

    fn collect(&mut self) {
        while let Some((id, outcome)) = self.client.poll_outcome() {
            if let Some(trace) = &mut self.trace {
                trace.bytes(format!("{outcome:?}").as_bytes());
            }
            match &mut self.finished {
                Some(finished) => finished.push((id, outcome)),
                None => self.outcomes.push(outcome),
            }
        }
    }

    /// Looks after the client when it was drained: gives the state machines that have moved.
    pub(super) fn settle(&mut self) -> Vec<(&'static str, &'static str, &'static str)> {
        self.timeout = if self.alive { self.client.poll_timeout().map(|(at, _)| at) } else { None };
        let states = self.client.states();
        if states == self.states {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.states, states);
        before
            .into_iter()
            .zip(states)
            .filter(|(before, after)| before != after)
            .map(|((what, from), (_, to))| (from, to, what))
            .collect()
    }

    /// From now on all that comes out of the core goes into a digest: what it wants done byte for byte, when it wants
    /// to be woken, outcomes, and what the reader is given.
    pub fn record(&mut self) {
        self.trace = Some(Trace::default());
    }

    /// The digest of what came out since [`record`](Self::record).
    ///
    /// # Panics
    /// If that was not called.
    pub fn digest(&self) -> String {
        let mut trace = self.trace.clone().expect("record() was called");
        trace.bytes(format!("{:?} {:?}", self.seen, self.values).as_bytes());
        format!("{:016x}", trace.hash())
    }

    /// True if the driver had something to do.
    pub(super) fn handle_delivery(&mut self, now: Timestamp) -> bool {
        let dirty = self.alive && self.delivery.take_driver_dirty();
        if dirty {
            let _inside = Inside::enter();
            self.client.handle_delivery(now);
        }
        dirty
    }

    pub(super) fn handle_connected(&mut self, now: Timestamp, conn: ConnectionId) {
        if self.alive {
            let _inside = Inside::enter();
            self.client.handle_connected(now, conn);
        }
    }

    pub(super) fn handle_bytes(&mut self, now: Timestamp, conn: ConnectionId, buf: &mut BytesMut) {
        if self.alive {
            let _inside = Inside::enter();
            self.client.handle_bytes(now, conn, buf);
        }
    }

    pub(super) fn handle_closed(&mut self, now: Timestamp, conn: ConnectionId, error: Error) {
        if self.alive {
            let _inside = Inside::enter();
            self.client.handle_closed(now, conn, error);
        }
    }

    pub(super) fn handle_computed(&mut self, now: Timestamp, job: JobId, assignment: &GroupAssignment) {
        if self.alive {
            let _inside = Inside::enter();
            self.client.handle_computed(now, job, assignment);
        }
    }

    /// True if something was due.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) -> bool {
        let due = self.alive && self.timeout.is_some_and(|at| at <= now);
        if due {
            if let Some(trace) = &mut self.trace {
                trace.bytes(format!("{now:?} {:?}", self.client.poll_timeout()).as_bytes());
            }
            let _inside = Inside::enter();
            self.client.handle_timeout(now);
        }
        due
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.timeout
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.collect();
        let action = if self.alive { self.client.poll_action() } else { None };
        if let (Some(trace), Some(action)) = (&mut self.trace, &action) {
            trace.bytes(format!("{action:?}").as_bytes());
        }
        action
    }

    /// Whether the client is at its end.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What the delivery says is owned.
    pub fn owned(&self) -> Vec<TopicPartition> {
        if !self.alive {
            return Vec::new();
        }
        self.delivery.lock().owned().into_iter().map(|(tp, _)| tp).collect()
    }

    /// How many records were handed out.
    pub fn count(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }
}
