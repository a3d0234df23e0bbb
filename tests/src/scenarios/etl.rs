//! Three groups in a chain: each reads a topic and writes what it read to the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla::{
    Assignor, Batch, Builder, Commit, CommitError, Consumer, Event, GroupProtocol, ResetCause, TopicPartition,
};
use ottla_wire::records::BatchWriter;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::mortal::Network;
use super::{Backend, Result, guarded, over};
use crate::kafka::unique;

const PARTITIONS: usize = 10;

/// How many members each group has.
const MEMBERS: [usize; 3] = [9, 8, 6];

/// What the members of a chain are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Classic, range.
    Range,
    /// Classic, cooperative-sticky.
    Cooperative,
    /// Of the consumer protocol, the broker's range.
    BrokersRange,
    /// Of the consumer protocol, the broker's uniform.
    BrokersUniform,
    /// Classic, cooperative-sticky, with instance ids.
    CooperativeStatic,
    /// Of the consumer protocol, with instance ids.
    BrokersStatic,
}

impl Chain {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Range,
        Self::Cooperative,
        Self::BrokersRange,
        Self::BrokersUniform,
        Self::CooperativeStatic,
        Self::BrokersStatic,
    ];

    /// Those whose members brokers of this version understand.
    pub fn of(backend: &Backend) -> Vec<Self> {
        let (consumer_groups, fixed) = (backend.is_at_least(4, 0), backend.is_at_least(2, 3));
        let can = |chain: Self| {
            (consumer_groups || !chain.needs_consumer_protocol()) && (fixed || !chain.is_static())
        };
        Self::ALL.into_iter().filter(|chain| can(*chain)).collect()
    }

    fn needs_consumer_protocol(self) -> bool {
        matches!(self, Self::BrokersRange | Self::BrokersUniform | Self::BrokersStatic)
    }

    fn is_static(self) -> bool {
        matches!(self, Self::CooperativeStatic | Self::BrokersStatic)
    }

    fn member(self, bootstrap: &str, group: &str) -> Builder {
        let classic = |assignor| over(bootstrap, group, GroupProtocol::Classic).assignors([assignor]);
        let brokers =
            |name: &str| over(bootstrap, group, GroupProtocol::Consumer).group_remote_assignor(name);
        match self {
            Self::Range => classic(Assignor::Range),
            Self::Cooperative | Self::CooperativeStatic => classic(Assignor::CooperativeSticky),
            Self::BrokersRange => brokers("range"),
            Self::BrokersUniform | Self::BrokersStatic => brokers("uniform"),
        }
    }
}

/// A partition as its readers know it.
#[derive(Debug, Default)]
struct Progress {
    owner: Option<usize>,
    /// Where the owner reads on; unknown before its first batch.
    position: Option<i64>,
    /// Up to here it was passed on.
    passed: i64,
    /// Up to here a commit was said to be done.
    committed: i64,
    /// Up to here a commit was asked for.
    asked: i64,
    /// At the end of the chain: what was read, in order.
    values: Vec<u64>,
}

#[derive(Debug)]
struct Stage {
    topic: String,
    group: String,
    next: Option<String>,
    partitions: Vec<Mutex<Progress>>,
    /// How many records were passed on.
    passed: watch::Sender<u64>,
}

impl Stage {
    fn of(&self, tp: &TopicPartition) -> MutexGuard<'_, Progress> {
        self.partitions[tp.partition() as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Run {
    backend: Arc<Backend>,
    network: Network,
    chain: Chain,
    stages: Vec<Stage>,
    over: watch::Sender<bool>,
}

/// What a member does in its life.
#[derive(Clone, Copy)]
enum Life {
    /// Until everything is over.
    Stays,
    /// It goes when it has this many batches, and does nothing with the last one.
    Leaves(usize),
}

/// The partition of the next topic to which a partition goes.
fn next_partition(partition: usize) -> usize {
    (3 * partition + 1) % PARTITIONS
}

/// The record batch of these numbers.
fn encoded(numbers: impl IntoIterator<Item = u64>) -> Result<Vec<u8>> {
    let mut writer = BatchWriter::new();
    for number in numbers {
        let (key, value) = (format!("key-{number}"), number.to_string());
        writer.append(1_700_000_000_000, Some(key.as_bytes()), Some(value.as_bytes()), &[])?;
    }
    Ok(writer.finish().to_vec())
}

/// `records` records go through three groups, whose members come and go while somebody writes: at the end each is
/// there once, in the order of its partition. Nobody owns a partition before the one before gave it back, an ownership
/// begins where the one before has committed and hands out each offset once and none left out.
///
/// Of nine, eight and six members three go at once, with their first and with their second batch, about which they do
/// nothing; as many come when a third of the records have passed. Static ones that went come back under their ids.
///
/// # Errors
/// When it is otherwise, or it hangs.
pub async fn a_chain_of_groups_loses_and_repeats_nothing(
    backend: Arc<Backend>,
    chain: Chain,
    records: u64,
) -> Result<()> {
    run(backend, Network::good(), chain, records, 40).await
}

/// The same while every connection dies 0.5 to 1.5 s after it was made, ten for each of `chunks` parts of the records.
///
/// A commit whose answer is lost may have been done or not: an ownership begins between what was said to be committed
/// and what was asked for.
///
/// # Errors
/// When it is otherwise, or it hangs.
pub async fn a_chain_of_groups_whose_connections_die_loses_nothing(
    backend: Arc<Backend>,
    chain: Chain,
    records: u64,
    chunks: u64,
) -> Result<()> {
    run(backend, Network::mortal(), chain, records, chunks).await
}

async fn run(backend: Arc<Backend>, network: Network, chain: Chain, records: u64, chunks: u64) -> Result<()> {
    // A name decides about the coordinator, so in memory, where runs are to be equal, it is always the same.
    let name = if backend.without_sockets().is_some() { "etl".to_owned() } else { unique("etl") };
    let topics: Vec<String> = (0..MEMBERS.len()).map(|n| format!("{name}-{n}")).collect();
    topics.iter().try_for_each(|topic| backend.create_topic(topic, PARTITIONS as u32))?;
    let stage = |n: usize| Stage {
        topic: topics[n].clone(),
        group: topics[n].clone(),
        next: topics.get(n + 1).cloned(),
        partitions: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
        passed: watch::Sender::default(),
    };
    let stages = (0..MEMBERS.len()).map(stage).collect();
    let run = Arc::new(Run { backend, network, chain, stages, over: watch::Sender::default() });
    let mut tasks = JoinSet::new();
    for (stage, members) in MEMBERS.into_iter().enumerate() {
        for id in 0..members {
            tasks.spawn(Arc::clone(&run).live(stage, id, records));
        }
    }
    tasks.spawn(Arc::clone(&run).write(records, chunks));
    let mut passed = run.stages.last().ok_or("no stage")?.passed.subscribe();
    // Whoever is stuck stops the chain before its end.
    while *passed.borrow_and_update() < records {
        guarded(&format!("{chain:?}, after {} records", *passed.borrow()), async {
            loop {
                tokio::select! {
                    biased;
                    ended = tasks.join_next() => ended.ok_or("nobody is there")???,
                    changed = passed.changed() => return Ok(changed?),
                }
            }
        })
        .await
        .map_err(|error| run.describe(&error.to_string()))?;
    }
    run.over.send_replace(true);
    guarded("the end of all members", async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    })
    .await?;
    run.assert_all_there_once(records)
}

impl Run {
    fn describe(&self, error: &str) -> String {
        let mut text = format!("{:?}: {error}; {} connections have died", self.chain, self.network.deaths());
        for stage in &self.stages {
            let partitions: Vec<_> = stage
                .partitions
                .iter()
                .map(|partition| {
                    let p = partition.lock().unwrap_or_else(PoisonError::into_inner);
                    (p.owner, p.position, p.passed, p.committed)
                })
                .collect();
            text.push_str(&format!("\n{}: {partitions:?}", stage.topic));
        }
        text
    }

    /// Writes the records in parts, as they are taken, and as connections die.
    async fn write(self: Arc<Self>, records: u64, chunks: u64) -> Result<()> {
        let size = records.div_ceil(chunks);
        for chunk in 0..chunks {
            let numbers = chunk * size..records.min((chunk + 1) * size);
            // One part is on its way while the next one is written. The sender lives as long as `self`.
            let taken = (chunk * size).saturating_sub(size);
            let _ = self.stages[0].passed.subscribe().wait_for(|passed| *passed >= taken).await;
            if self.network.is_mortal() {
                self.network.died(10 * chunk).await;
            }
            for partition in 0..PARTITIONS as u64 {
                let here = numbers.clone().filter(|number| number % PARTITIONS as u64 == partition);
                let batch = encoded(here)?;
                self.backend.produce_batch(&self.stages[0].topic, partition as u32, &batch)?;
            }
        }
        Ok(())
    }

    /// A member from its first life to its last.
    async fn live(self: Arc<Self>, stage: usize, id: usize, records: u64) -> Result<()> {
        let failed = |error| format!("member {id} of group {stage}: {error}");
        match id {
            0..3 => {
                self.member(stage, id, Life::Leaves(id)).await.map_err(failed)?;
                if self.chain.is_static() {
                    self.member(stage, id, Life::Stays).await.map_err(failed)?;
                }
            }
            _ => {
                if id.is_multiple_of(2) {
                    let late = records / 3;
                    let _ = self.stages[stage].passed.subscribe().wait_for(|passed| *passed >= late).await;
                }
                self.member(stage, id, Life::Stays).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn member(&self, number: usize, id: usize, life: Life) -> Result<()> {
        let stage = &self.stages[number];
        let mut builder = self
            .chain
            .member(&self.backend.bootstrap(), &stage.group)
            .client_id(format!("etl-{number}-{id}"))
            .subscribe([stage.topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(500);
        if self.chain.is_static() {
            builder = builder.group_instance_id(format!("instance-{id}"));
        }
        if self.backend.without_sockets().is_some() {
            builder = builder.__seed((100 * number + id) as u64);
        }
        let mut consumer = self.network.plug(self.backend.without_sockets(), builder).connect().await?;
        let mut over = self.over.subscribe();
        let mut left = if let Life::Leaves(rounds) = life { Some(rounds) } else { None };
        loop {
            let event = tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => break,
                event = consumer.next_event() => event?.ok_or("the end")?,
            };
            match event {
                Event::Batch(batch) => {
                    self.hand_out(stage, id, &batch)?;
                    if left == Some(1) {
                        break;
                    }
                    left = left.map(|left| left - 1);
                    self.pass_on(stage, &batch)?;
                    self.commit(stage, &consumer, &batch).await?;
                }
                Event::Assigned(partitions) => {
                    for tp in &partitions {
                        let mut progress = stage.of(tp);
                        assert_eq!(progress.owner, None, "{tp} has an owner already, not only {id}");
                        (progress.owner, progress.position) = (Some(id), None);
                    }
                }
                // Whatever was handed out is committed: reading on gives them back.
                Event::Revoking(revocation) => give_back(stage, id, revocation.partitions()),
                Event::OffsetReset { topic_partition, offset, cause } => {
                    let asked = stage.of(&topic_partition).asked;
                    let expected = (0, 0, ResetCause::NoCommittedOffset);
                    assert_eq!((asked, offset, cause), expected, "{topic_partition}");
                }
                other => return Err(format!("it was told {other:?}").into()),
            }
            if left == Some(0) {
                break;
            }
        }
        // Closing gives back what it has.
        for partition in &stage.partitions {
            let mut progress = partition.lock().unwrap_or_else(PoisonError::into_inner);
            if progress.owner == Some(id) {
                (progress.owner, progress.position) = (None, None);
            }
        }
        match consumer.close().await {
            Ok(()) => Ok(()),
            // It could not say that it goes.
            Err(_) if self.network.is_mortal() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// An ownership begins where the one before has committed; from there on, every offset comes once.
    fn hand_out(&self, stage: &Stage, id: usize, batch: &Batch) -> Result<()> {
        let tp = batch.topic_partition();
        let mut progress = stage.of(tp);
        assert_eq!(progress.owner, Some(id), "{tp} was handed to {id}");
        let first = batch.first_offset();
        match progress.position {
            None => {
                let (done, asked) = (progress.committed, progress.asked);
                assert!((done..=asked).contains(&first), "{tp} begins at {first}, not in {done}..={asked}");
            }
            Some(position) => assert_eq!(first, position, "{tp}"),
        }
        for (offset, record) in (first..).zip(batch.iter()) {
            assert_eq!(record.offset(), offset, "{tp}");
        }
        progress.position = Some(batch.next_offset());
        Ok(())
    }

    /// Writes to the next topic what was not written there before.
    fn pass_on(&self, stage: &Stage, batch: &Batch) -> Result<()> {
        let tp = batch.topic_partition();
        let mut progress = stage.of(tp);
        let mut numbers = Vec::new();
        for record in batch.iter().filter(|record| record.offset() >= progress.passed) {
            let value = std::str::from_utf8(record.value().unwrap_or_default())?;
            assert_eq!(record.key(), Some(format!("key-{value}").as_bytes()));
            numbers.push(value.parse::<u64>()?);
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let count = numbers.len() as u64;
        match &stage.next {
            Some(next) => {
                let to = next_partition(tp.partition() as usize) as u32;
                self.backend.produce_batch(next, to, &encoded(numbers)?)?;
            }
            None => progress.values.extend(numbers),
        }
        progress.passed = batch.next_offset();
        drop(progress);
        stage.passed.send_modify(|passed| *passed += count);
        Ok(())
    }

    async fn commit(&self, stage: &Stage, consumer: &Consumer, batch: &Batch) -> Result<()> {
        let (tp, next) = (batch.topic_partition(), batch.next_offset());
        let asked = |progress: &mut Progress| progress.asked = progress.asked.max(next);
        asked(&mut stage.of(tp));
        match consumer.commit(batch).await {
            Ok(()) => {
                let mut progress = stage.of(tp);
                progress.committed = progress.committed.max(next);
                Ok(())
            }
            Err(CommitError::NotOwned) if self.network.is_mortal() => Ok(()),
            Err(error) => Err(format!("the commit of {tp} at {next}: {error}").into()),
        }
    }

    fn assert_all_there_once(&self, records: u64) -> Result<()> {
        for (number, stage) in self.stages.iter().enumerate() {
            let ends = self.backend.ends(&stage.topic, PARTITIONS as u32)?;
            assert_eq!(ends.iter().sum::<i64>() as u64, records, "{}", stage.topic);
            let committed = self.backend.committed(&stage.group, &stage.topic)?;
            for source in 0..PARTITIONS {
                let partition = (0..number).fold(source, |partition, _| next_partition(partition));
                let progress = stage.partitions[partition].lock().unwrap_or_else(PoisonError::into_inner);
                assert_eq!(progress.passed, ends[partition], "{}-{partition}", stage.topic);
                let committed = committed.get(&(partition as u32)).copied().unwrap_or_default();
                assert!((progress.committed..=progress.asked).contains(&committed), "{progress:?}");
                if stage.next.is_none() {
                    let expected = (0..records).filter(|n| n % PARTITIONS as u64 == source as u64);
                    assert!(progress.values.iter().copied().eq(expected), "{source} is not in order");
                }
            }
        }
        Ok(())
    }
}

fn give_back(stage: &Stage, id: usize, partitions: &[TopicPartition]) {
    for tp in partitions {
        let mut progress = stage.of(tp);
        assert_eq!(progress.owner, Some(id), "{tp} was taken from {id} before it gave it");
        (progress.owner, progress.position) = (None, None);
    }
}
