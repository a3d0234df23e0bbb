//! What a reader sees of transactions: of those that were committed, aborted, and are still open.

use std::collections::{BTreeMap, BTreeSet};

use ottla::{Consumer, Event, IsolationLevel, TopicPartition};
use ottla_broker::BatchBuilder;
use ottla_core::Rng;

use super::{Backend, Result, guarded};
use crate::kafka::{Seen, Tool, unique};

const PARTITIONS: u32 = 3;
/// Producers with transactions; whoever comes behind them writes without.
const PRODUCERS: usize = 4;
const STEPS: usize = 150;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Visible,
    Aborted,
    Open(usize),
}

/// An offset; without a value it is a marker.
struct Slot {
    value: Option<String>,
    fate: Fate,
}

/// Writes, with Kafka's own producers on real Kafka, and keeps account of what must be seen.
struct Writers<'a> {
    backend: &'a Backend,
    tool: Option<Tool>,
    topic: String,
    logs: Vec<Vec<Slot>>,
    /// Where each producer has written in its open transaction.
    touched: Vec<BTreeSet<usize>>,
    sequences: BTreeMap<(usize, usize), i32>,
    written: usize,
}

impl<'a> Writers<'a> {
    fn new(backend: &'a Backend) -> Result<Self> {
        let topic = unique("transactions");
        backend.create_topic(&topic, PARTITIONS)?;
        Ok(Self {
            backend,
            tool: backend.real(|k| Ok(k.own_tool()?)).transpose()?,
            topic,
            logs: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            touched: vec![BTreeSet::new(); PRODUCERS],
            sequences: BTreeMap::new(),
            written: 0,
        })
    }

    fn id(&self, producer: usize) -> String {
        format!("{}-{producer}", self.topic)
    }

    fn send(&mut self, producer: Option<usize>, partition: usize, count: usize) -> Result<()> {
        let values: Vec<String> = (self.written..self.written + count).map(|n| n.to_string()).collect();
        self.written += count;
        let id = producer.map(|producer| self.id(producer));
        match (&mut self.tool, self.backend) {
            (Some(tool), _) => {
                tool.transaction_send(id.as_deref(), &self.topic, partition as u32, &values)?;
            }
            (None, Backend::Embedded(broker, _)) => {
                let mut batch = BatchBuilder::new(values.clone());
                if let Some(producer) = producer {
                    let sequence = self.sequences.entry((producer, partition)).or_default();
                    batch = batch.transactional(9_000 + producer as i64, 0, *sequence);
                    *sequence += count as i32;
                }
                broker.produce_batch(&self.topic, partition as i32, batch.finish())?;
            }
            _ => return Err("no tool".into()),
        }
        let fate = producer.map_or(Fate::Visible, Fate::Open);
        self.logs[partition].extend(values.into_iter().map(|value| Slot { value: Some(value), fate }));
        if let Some(producer) = producer {
            self.touched[producer].insert(partition);
        }
        Ok(())
    }

    fn end(&mut self, producer: usize, abort: bool) -> Result<()> {
        let touched = std::mem::take(&mut self.touched[producer]);
        let id = self.id(producer);
        match (&mut self.tool, self.backend) {
            (Some(tool), _) => tool.transaction_end(&id, abort)?,
            (None, Backend::Embedded(broker, _)) => {
                let id = 9_000 + producer as i64;
                for &partition in &touched {
                    let marker = match abort {
                        true => BatchBuilder::abort_marker(id, 0),
                        false => BatchBuilder::commit_marker(id, 0),
                    };
                    broker.produce_batch(&self.topic, partition as i32, marker)?;
                }
            }
            _ => return Err("no tool".into()),
        }
        for partition in touched {
            let fate = if abort { Fate::Aborted } else { Fate::Visible };
            let log = &mut self.logs[partition];
            log.iter_mut().filter(|slot| slot.fate == Fate::Open(producer)).for_each(|slot| slot.fate = fate);
            log.push(Slot { value: None, fate });
        }
        Ok(())
    }

    /// What a reader of this isolation level must see of each partition, and where it ends for it.
    fn seen(&self, isolation: IsolationLevel) -> BTreeMap<u32, Seen> {
        let committed = isolation == IsolationLevel::ReadCommitted;
        let open = |slot: &Slot| matches!(slot.fate, Fate::Open(_));
        let of = |log: &Vec<Slot>| {
            let stable = log.iter().position(open).unwrap_or(log.len());
            let end = if committed { stable } else { log.len() };
            let records =
                log.iter().enumerate().take(end).filter(|(_, slot)| !committed || slot.fate == Fate::Visible);
            let records = records.filter_map(|(at, slot)| Some((at as i64, slot.value.clone()?))).collect();
            Seen { records, end: end as i64 }
        };
        self.logs.iter().enumerate().map(|(partition, log)| (partition as u32, of(log))).collect()
    }

    /// The same as Java's consumer sees it.
    fn java_agrees(&mut self, isolation: IsolationLevel, name: &str) -> Result<()> {
        if let Some(tool) = &mut self.tool {
            assert_eq!(tool.read(&self.topic, name)?, self.seen(isolation), "{name}");
        }
        Ok(())
    }
}

/// Reads until `partitions` have come to their ends; what was seen is added to `seen`.
async fn read_to_the_ends(
    consumer: &mut Consumer,
    mut partitions: BTreeSet<u32>,
    seen: &mut BTreeMap<u32, Seen>,
) -> Result<()> {
    guarded("the end of the partitions", async {
        while !partitions.is_empty() {
            match consumer.next_event().await?.ok_or("the end")? {
                Event::Batch(batch) => {
                    let of = seen.entry(batch.partition() as u32).or_default();
                    for record in &batch {
                        let value = std::str::from_utf8(record.value().ok_or("no value")?)?;
                        of.records.push((record.offset(), value.to_owned()));
                    }
                }
                Event::PartitionEof { topic_partition, offset } => {
                    let partition = topic_partition.partition() as u32;
                    partitions.remove(&partition);
                    seen.entry(partition).or_default().end = offset;
                }
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

/// Transactions of several producers that are interleaved, committed, aborted and left open: a reader with
/// `read_committed` sees what was committed before the first one that is open, the rest when that is committed; a
/// reader without sees all. Ends, lag and committed offsets are those of the isolation level.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn transactions_are_seen_when_they_are_committed(backend: &Backend) -> Result<()> {
    let mut writers = Writers::new(backend)?;
    let mut rng = Rng::new(98);
    for _ in 0..STEPS {
        let producer = rng.below(PRODUCERS as u64 + 1) as usize;
        let partition = rng.below(u64::from(PARTITIONS)) as usize;
        if producer == PRODUCERS {
            writers.send(None, partition, 1 + rng.below(4) as usize)?;
        } else if !writers.touched[producer].is_empty() && rng.below(3) == 0 {
            writers.end(producer, rng.below(2) == 0)?;
        } else {
            writers.send(Some(producer), partition, 1 + rng.below(4) as usize)?;
        }
    }
    for producer in 0..PRODUCERS {
        if !writers.touched[producer].is_empty() {
            writers.end(producer, producer % 2 == 0)?;
        }
    }
    // One stays open in the first partition; behind it others commit, abort, and write without.
    writers.send(Some(0), 0, 3)?;
    for (producer, abort) in [(1, false), (2, true)] {
        (0..PARTITIONS as usize).try_for_each(|partition| writers.send(Some(producer), partition, 2))?;
        writers.end(producer, abort)?;
    }
    (0..PARTITIONS as usize).try_for_each(|partition| writers.send(None, partition, 1))?;
    writers.java_agrees(IsolationLevel::ReadCommitted, "read_committed")?;
    writers.java_agrees(IsolationLevel::ReadUncommitted, "read_uncommitted")?;

    let group = unique("transactions");
    let all: BTreeSet<u32> = (0..PARTITIONS).collect();
    let partitions: Vec<TopicPartition> =
        all.iter().map(|&p| TopicPartition::new(writers.topic.as_str(), p as i32)).collect();
    let builder = |isolation| {
        let builder = Consumer::builder(backend.bootstrap()).subscribe([writers.topic.as_str()]);
        builder.isolation_level(isolation).partition_eof(true).max_batch_records(7)
    };
    let uncommitted = builder(IsolationLevel::ReadUncommitted).group(unique("transactions"));
    let committed = builder(IsolationLevel::ReadCommitted).group(group.as_str());
    let mut consumer = uncommitted.connect().await?;
    let mut seen = BTreeMap::new();
    read_to_the_ends(&mut consumer, all.clone(), &mut seen).await?;
    assert_eq!(seen, writers.seen(IsolationLevel::ReadUncommitted));
    consumer.close().await?;

    let mut consumer = committed.connect().await?;
    let mut seen = BTreeMap::new();
    read_to_the_ends(&mut consumer, all, &mut seen).await?;
    let expected = writers.seen(IsolationLevel::ReadCommitted);
    assert_eq!(seen, expected);
    let ends = consumer.end_offsets(&partitions).await?;
    for tp in &partitions {
        let end = expected[&(tp.partition() as u32)].end;
        assert_eq!((ends[tp], consumer.position(tp)?, consumer.lag(tp)?), (end, Some(end), Some(0)), "{tp}");
    }
    // What was held back comes when the open one is committed.
    writers.end(0, false)?;
    read_to_the_ends(&mut consumer, [0].into(), &mut seen).await?;
    let expected = writers.seen(IsolationLevel::ReadCommitted);
    assert_eq!(seen, expected);
    assert!(expected[&0].end > seen[&0].records.last().map_or(0, |(offset, _)| *offset));
    writers.java_agrees(IsolationLevel::ReadCommitted, "read_committed")?;
    consumer.close().await?;
    let ends = expected.into_iter().map(|(partition, seen)| (partition, seen.end)).collect();
    assert_eq!(backend.committed(&group, &writers.topic)?, ends, "markers and aborted records are done too");
    Ok(())
}

/// Far more aborted records than a fetch brings, and nothing else: a reader with `read_committed` comes to the end of
/// them, is told of it, and goes on with what comes later.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn aborted_records_alone_are_no_trouble(backend: &Backend) -> Result<()> {
    /// What a fetch may bring of a partition.
    const FETCH: i32 = 4_096;
    let mut writers = Writers::new(backend)?;
    let group = unique("aborted");
    for _ in 0..20 {
        // A value has a few bytes, a record a few more.
        writers.send(Some(0), 0, 400)?;
    }
    writers.end(0, true)?;
    assert!(writers.written as i32 * 10 > 10 * FETCH);
    let mut consumer = Consumer::builder(backend.bootstrap())
        .group(group.as_str())
        .subscribe([writers.topic.as_str()])
        .isolation_level(IsolationLevel::ReadCommitted)
        .partition_eof(true)
        .max_partition_fetch_bytes(FETCH)
        .connect()
        .await?;
    let mut seen = BTreeMap::new();
    read_to_the_ends(&mut consumer, (0..PARTITIONS).collect(), &mut seen).await?;
    assert_eq!(seen, writers.seen(IsolationLevel::ReadCommitted));
    assert_eq!((seen[&0].records.len(), seen[&0].end), (0, 8_001));
    writers.send(None, 0, 3)?;
    read_to_the_ends(&mut consumer, [0].into(), &mut seen).await?;
    assert_eq!(seen, writers.seen(IsolationLevel::ReadCommitted));
    consumer.close().await?;
    assert_eq!(backend.committed(&group, &writers.topic)?[&0], 8_004, "aborted records are done, too");
    Ok(())
}
