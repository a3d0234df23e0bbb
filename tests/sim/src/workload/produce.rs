//! Producers: straight into the brokers' logs, and into the ghost logs along with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_broker::{BatchBuilder, Codec, TestRecord};
use ottla_core::{Rng, Timestamp, TopicPartition};

use crate::World;
use crate::jepsen::{NOBODY, Sent, What};
use crate::oracle::{Entry, Kind, Oracle, content};

/// Writes to all partitions, with gaps as compaction leaves them, in any codec.
#[derive(Debug)]
pub(crate) struct Producer {
    rng: Rng,
    next: Timestamp,
    /// Most records of one batch.
    most: u64,
    /// Milliseconds between two batches, about.
    every: u64,
    /// One batch of so many has gaps.
    gaps: u64,
    compressed: bool,
    /// Aborted and committed transactions among the rest.
    transactions: bool,
    /// Some of them stay open, beside each other and the rest.
    long: bool,
    /// Those: by partition, which producer's, and whether it will be aborted.
    open: BTreeMap<TopicPartition, Vec<(i64, bool)>>,
    stayed_open: u64,
    /// Every value begins with a number that no other has.
    pub(crate) numbered: bool,
    written: u64,
    pub(crate) records: u64,
}

/// Producers that write in transactions.
const TRANSACTIONAL: [i64; 3] = [7, 8, 9];

const START_MS: i64 = 1_700_000_000_000;

impl Producer {
    pub(crate) fn new(mut rng: Rng, records_per_second: u64, transactions: bool) -> Self {
        let most = 1 + rng.below(60);
        let every = (1000 * most / 2 / records_per_second.max(1)).clamp(5, 2000);
        Self {
            next: Timestamp::ZERO,
            most,
            every,
            gaps: 2 + rng.below(12),
            compressed: rng.below(3) == 0,
            transactions,
            long: false,
            open: BTreeMap::new(),
            stayed_open: 0,
            numbered: false,
            written: 0,
            records: 0,
            rng,
        }
    }

    /// From now on transactions stay open for a while.
    pub(crate) fn take_time(&mut self) {
        self.long = self.transactions;
    }

    /// A topic is gone.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.open.retain(|tp, _| tp.topic() != topic);
    }

    /// Ends every transaction. Gives whether any has stayed open.
    pub(crate) fn finish(&mut self, world: &mut World, oracle: &mut Oracle) -> bool {
        self.long = false;
        while let Some((tp, open)) = self.open.pop_first() {
            for (producer, aborted) in open {
                self.end(world, oracle, &tp, (producer, aborted));
            }
        }
        std::mem::take(&mut self.stayed_open) > 0
    }

    /// The marker that ends a transaction, be there one or not.
    fn end(
        &mut self,
        world: &mut World,
        oracle: &mut Oracle,
        tp: &TopicPartition,
        (producer, aborted): (i64, bool),
    ) {
        let Ok(base) = world.cluster.log_end_offset(tp.topic(), tp.partition()) else { return };
        let (_, epoch) = world.cluster.leader(tp.topic(), tp.partition()).unwrap_or((None, 0));
        let marker = if aborted {
            BatchBuilder::abort_marker(producer, 0)
        } else {
            BatchBuilder::commit_marker(producer, 0)
        };
        let (now, at) = (world.now(), world.broker_now());
        if let Err(error) = world.cluster.produce_batch(at, tp.topic(), tp.partition(), &marker) {
            panic!("the simulator cannot end a transaction of {tp}: {error}");
        }
        let log = oracle.log(tp);
        log.append(now, (base, epoch), [], base + 1);
        log.transaction_ended(now, producer);
        world.drain();
    }

    /// Ends one of the open transactions of a partition now and then, or one that has written nothing.
    fn end_some(&mut self, world: &mut World, oracle: &mut Oracle, tp: &TopicPartition) {
        let choice = self.rng.below(12);
        let open = self.open.entry(tp.clone()).or_default();
        let ended = match choice {
            0..=3 if !open.is_empty() => open.remove(self.rng.below(open.len() as u64) as usize),
            4 => {
                let idle = |id: &&i64| !open.iter().any(|(busy, _)| busy == *id);
                let Some(producer) = TRANSACTIONAL.iter().find(idle) else { return };
                (*producer, true)
            }
            _ => return,
        };
        self.end(world, oracle, tp, ended);
    }

    pub(crate) fn has_transactions(&self) -> bool {
        self.transactions
    }

    pub(crate) fn compresses(&self) -> bool {
        self.compressed
    }

    pub(crate) fn next(&self) -> Timestamp {
        self.next
    }

    /// Writes what is due.
    pub(crate) fn run(&mut self, world: &mut World, oracle: &mut Oracle, partitions: &[TopicPartition]) {
        let now = world.now();
        if now < self.next {
            return;
        }
        self.next = now + std::time::Duration::from_millis(1 + self.rng.below(2 * self.every));
        if partitions.is_empty() {
            return;
        }
        let tp = &partitions[self.rng.below(partitions.len() as u64) as usize];
        self.write(world, oracle, tp);
    }

    /// One batch at the end of a partition.
    pub(crate) fn write(&mut self, world: &mut World, oracle: &mut Oracle, tp: &TopicPartition) {
        if self.long {
            self.end_some(world, oracle, tp);
        }
        let Ok(base) = world.cluster.log_end_offset(tp.topic(), tp.partition()) else { return };
        let transaction = self.transactions && self.rng.below(if self.long { 2 } else { 4 }) == 0;
        let mut aborted = transaction && self.rng.below(2) == 0;
        let mut producer = TRANSACTIONAL[0];
        let mut stays_open = false;
        if transaction && self.long {
            producer = TRANSACTIONAL[self.rng.below(3) as usize];
            let open = self.open.entry(tp.clone()).or_default();
            match open.iter().find(|(id, _)| *id == producer) {
                Some((_, fate)) => aborted = *fate,
                None => open.push((producer, aborted)),
            }
            stays_open = true;
            self.stayed_open += 1;
        }
        let count = 1 + self.rng.below(self.most);
        let gap = self.rng.below(self.gaps) == 0;
        let mut offset = base + if gap { self.rng.below(20) as i64 } else { 0 };
        let first = offset;
        let now = world.now();
        let (_, epoch) = world.cluster.leader(tp.topic(), tp.partition()).unwrap_or((None, 0));
        let mut records = Vec::new();
        let mut numbers = Vec::new();
        let mut entries = Vec::new();
        // A batch that compaction emptied keeps its place.
        let empty = gap && self.rng.below(4) == 0 && !stays_open;
        for _ in 0..if empty { 0 } else { count } {
            let (record, content) = self.record(tp, now);
            numbers.push((offset, self.written));
            let kind = if aborted { Kind::Aborted } else { Kind::Data };
            entries.push(Entry { offset, kind, content, epoch, at: now, delivered: false, acked: false });
            records.push(record);
            offset += 1;
        }
        let mut batch = BatchBuilder::new(records).base_offset(first);
        if self.compressed {
            let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
            batch = batch.codec(codecs[self.rng.below(5) as usize]);
        }
        if transaction {
            batch = batch.transactional(producer, 0, -1);
        }
        if empty || (gap && self.rng.below(2) == 0) {
            // The last ones were compacted away.
            offset = offset.max(first + 1) + self.rng.below(6) as i64;
            batch = batch.last_offset_delta((offset - 1 - first) as i32);
        }
        let at = world.broker_now();
        if let Err(error) = world.cluster.produce_batch_at(at, tp.topic(), tp.partition(), &batch.finish()) {
            panic!("the simulator cannot write to {tp}: {error}");
        }
        if stays_open {
            oracle.log(tp).transaction_goes_on(producer, first);
        } else if transaction {
            let marker =
                if aborted { BatchBuilder::abort_marker(7, 0) } else { BatchBuilder::commit_marker(7, 0) };
            if let Err(error) = world.cluster.produce_batch(at, tp.topic(), tp.partition(), &marker) {
                panic!("the simulator cannot end a transaction of {tp}: {error}");
            }
            offset += 1;
        }
        if let Some(history) = &mut world.history {
            for (offset, number) in numbers {
                let sent = if aborted { Sent::Failed } else { Sent::Ok(offset) };
                history.add(NOBODY, What::Sent(super::key(tp), number, sent));
            }
        }
        self.records += entries.len() as u64;
        oracle.log(tp).append(now, (first, epoch), entries, offset);
        world.drain();
    }

    fn record(&mut self, tp: &TopicPartition, now: Timestamp) -> (TestRecord, u64) {
        self.written += 1;
        let rng = &mut self.rng;
        let number = self.written;
        let mut value: Option<Bytes> = match rng.below(16) {
            0 => None,
            1 => Some(Bytes::new()),
            2 => Some(vec![number as u8; 200 + rng.below(2000) as usize].into()),
            _ => Some(format!("{tp}/{number}").into_bytes().into()),
        };
        if self.numbered {
            let rest = value.unwrap_or_default();
            value = Some([&number.to_be_bytes()[..], &rest].concat().into());
        }
        let key: Option<Bytes> = match rng.below(4) {
            0 => None,
            1 => Some(Bytes::new()),
            _ => Some(number.to_be_bytes().to_vec().into()),
        };
        let timestamp = START_MS + (now.as_nanos() / 1_000_000) as i64 - rng.below(50) as i64;
        let mut headers: Vec<(&'static [u8], Option<Bytes>)> = Vec::new();
        if rng.below(4) == 0 {
            for _ in 0..rng.below(4) {
                let name: &[u8] = [&b"a"[..], b"b", b"\xff"][rng.below(3) as usize];
                headers.push((name, (rng.below(3) > 0).then(|| Bytes::from(number.to_string()))));
            }
        }
        let pairs = headers.iter().map(|(name, value)| (*name, value.as_deref()));
        let content = content(key.as_deref(), value.as_deref(), pairs, timestamp);
        let mut record = match value {
            Some(value) => TestRecord::new(value),
            None => TestRecord::default(),
        };
        if let Some(key) = key {
            record = record.key(key);
        }
        record = record.timestamp(timestamp);
        for (name, value) in headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        (record, content)
    }
}
