//! A cluster that a scenario runs on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla_broker::{Broker, GroupInfo};
use ottla_wire::records::{BatchDecoder, BatchWriter, Batches, Compression, DecodeOptions, HeaderKey};

use super::{Result, guarded};
use crate::kafka::{Expected, KafkaCluster, RecordSpec, Tool, is_at_least, shared, wire};

/// The embedded broker, or real Kafka.
#[derive(Debug)]
pub enum Backend {
    /// In this process.
    Embedded(Arc<Broker>, Wires),
    /// The cluster of a version that all tests share.
    Shared(Arc<KafkaCluster>),
    /// A cluster of its own, whose brokers may be stopped.
    Own(Box<Mutex<KafkaCluster>>),
}

/// How clients reach the embedded broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wires {
    /// Over loopback.
    Sockets,
    /// Through pipes in memory: for paused clocks.
    Memory,
}

/// A cluster with the settings of the harness for real Kafka.
fn like_the_harness(brokers: usize) -> ottla_broker::Builder {
    let builder = Broker::builder().brokers(brokers).auto_create_topics(false).configure(|config| {
        config.consumer_heartbeat_interval = Duration::from_millis(500);
        config.consumer_session_timeout = Duration::from_secs(6);
    });
    (1..=brokers as i32).fold(builder, |b, node| b.rack(node, format!("rack-{node}")))
}

impl Backend {
    /// An embedded cluster of `brokers`, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn embedded(brokers: usize) -> Result<Self> {
        let builder = like_the_harness(brokers).on_own_thread();
        Ok(Self::Embedded(Arc::new(builder.start().await?), Wires::Sockets))
    }

    /// An embedded cluster of `brokers` without sockets, on the runtime and the clock of the test.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn in_memory(brokers: usize) -> Result<Self> {
        let builder = like_the_harness(brokers).in_memory().seed(1);
        Ok(Self::Embedded(Arc::new(builder.start().await?), Wires::Memory))
    }

    /// The embedded cluster that has no sockets.
    pub(super) fn without_sockets(&self) -> Option<&Arc<Broker>> {
        match self {
            Self::Embedded(broker, Wires::Memory) => Some(broker),
            _ => None,
        }
    }

    /// The real cluster of `version` that all tests share: one broker or three, not to be stopped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn shared(version: &str) -> Result<Self> {
        Ok(Self::Shared(shared(version)?))
    }

    /// A real cluster of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn own(version: &str, brokers: u32) -> Result<Self> {
        Ok(Self::Own(Box::new(Mutex::new(KafkaCluster::start(version, brokers)?))))
    }

    /// Whether it is Kafka `major.minor` or later; the embedded broker is as new as any.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let version = |kafka: &KafkaCluster| Ok(is_at_least(kafka.version(), major, minor));
        self.real(version).unwrap_or(Ok(true)).unwrap_or(true)
    }

    pub(super) fn real<T>(&self, on: impl FnOnce(&KafkaCluster) -> Result<T>) -> Option<Result<T>> {
        match self {
            Self::Embedded(..) => None,
            Self::Shared(kafka) => Some(on(kafka)),
            Self::Own(kafka) => Some(on(&kafka.lock().unwrap_or_else(PoisonError::into_inner))),
        }
    }

    /// Addresses to begin with.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Embedded(broker, _) => broker.bootstrap(),
            Self::Shared(kafka) => kafka.bootstrap().to_owned(),
            Self::Own(kafka) => kafka.lock().unwrap_or_else(PoisonError::into_inner).bootstrap().to_owned(),
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.create_topic(topic, partitions as i32)?),
            _ => self.real(|k| Ok(k.tool()?.create_topic(topic, partitions).map(drop)?)).unwrap_or(Ok(())),
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.delete_topic(topic)?),
            _ => self.real(|k| Ok(k.tool()?.delete_topic(topic)?)).unwrap_or(Ok(())),
        }
    }

    /// Where each partition of a topic ends.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn ends(&self, topic: &str, partitions: u32) -> Result<Vec<i64>> {
        match self {
            Self::Embedded(broker, _) => {
                (0..partitions).map(|p| Ok(broker.log_end_offset(topic, p as i32)?)).collect()
            }
            _ => self
                .real(|k| Ok(k.tool()?.offsets(topic)?.into_iter().map(|o| o.end).collect()))
                .unwrap_or_else(|| Ok(Vec::new())),
        }
    }

    /// What is stored in a partition, read without a consumer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self, topic: &str, partition: u32) -> Result<Vec<Expected>> {
        let address = self.bootstrap().split(',').next().ok_or("no address")?.parse()?;
        let (mut log, mut decoder) = (Vec::new(), BatchDecoder::new());
        loop {
            let stored = wire::fetch(address, topic, partition as i32, log.len() as i64, 1 << 20)?;
            let before = log.len();
            for batch in Batches::new(stored.into()) {
                let batch = batch?.decode(&mut decoder, DecodeOptions::default())?;
                for record in batch.iter().filter(|r| r.offset() >= before as i64) {
                    if record.offset() != log.len() as i64 {
                        return Err(
                            format!("{topic}-{partition} has a gap before {}", record.offset()).into()
                        );
                    }
                    let header = |(key, value): (HeaderKey<'_>, Option<&[u8]>)| {
                        (key.as_bytes().to_vec(), value.map(<[u8]>::to_vec))
                    };
                    log.push(Expected {
                        partition,
                        timestamp: record.timestamp(),
                        key: record.key().map(<[u8]>::to_vec),
                        value: record.value().map(<[u8]>::to_vec),
                        headers: record.headers().map(header).collect(),
                    });
                }
            }
            if log.len() == before {
                return Ok(log);
            }
        }
    }

    /// Deletes the records before `offset`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn delete_records(&self, topic: &str, partition: u32, offset: i64) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.delete_records(topic, partition as i32, offset)?),
            _ => self.real(|k| Ok(k.tool()?.delete_records(topic, partition, offset)?)).unwrap_or(Ok(())),
        }
    }

    /// Writes records by formula: with Kafka's own producer on real Kafka, as batches on the embedded broker.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn produce(&self, topic: &str, codec: &str, spec: &RecordSpec) -> Result<()> {
        let Self::Embedded(broker, _) = self else {
            return self.real(|k| Ok(k.tool()?.produce(topic, spec).map(drop)?)).unwrap_or(Ok(()));
        };
        let compression = compression(codec)?;
        let partitions: std::collections::BTreeSet<u32> =
            spec.indexes().map(|i| spec.partition_of(i)).collect();
        for partition in partitions {
            let records: Vec<_> = spec.of_partition(partition).collect();
            for chunk in records.chunks(100) {
                let mut writer = BatchWriter::new().compression(compression);
                for record in chunk {
                    let headers: Vec<(&[u8], Option<&[u8]>)> =
                        record.headers.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
                    writer.append(
                        record.timestamp,
                        record.key.as_deref(),
                        record.value.as_deref(),
                        &headers,
                    )?;
                }
                broker.produce_batch(topic, partition as i32, writer.finish())?;
            }
        }
        Ok(())
    }

    /// Somebody who writes also while brokers are stopped and started.
    ///
    /// # Errors
    /// When its process does not start.
    pub fn producer(&self) -> Result<Producer<'_>> {
        let tool = self.real(|k| Ok(k.own_tool()?)).transpose()?;
        Ok(Producer { backend: self, tool })
    }

    /// Writes record batches as they are and returns the offset of their first record: what Kafka's own clients
    /// cannot write.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn produce_batch(&self, topic: &str, partition: u32, batches: &[u8]) -> Result<i64> {
        match self {
            Self::Embedded(broker, _) => {
                Ok(broker.produce_batch(topic, partition as i32, batches.to_vec())?)
            }
            _ => self
                .real(|k| Ok(wire::produce(k.address()?, topic, partition as i32, batches)?))
                .unwrap_or_else(|| Err("no cluster".into())),
        }
    }

    /// Raises the number of partitions of a topic to `count`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn create_partitions(&self, topic: &str, count: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.create_partitions(topic, count as i32)?),
            _ => self.real(|k| Ok(k.tool()?.create_partitions(topic, count)?)).unwrap_or(Ok(())),
        }
    }

    /// What the group has committed of a topic, by partition.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<u32, i64>> {
        match self {
            Self::Embedded(broker, _) => {
                Ok((0..64).filter_map(|p| Some((p, broker.committed(group, topic, p as i32)?))).collect())
            }
            _ => self
                .real(|k| {
                    let all = k.tool()?.committed(group)?;
                    Ok(all
                        .into_iter()
                        .filter(|((t, _), _)| t == topic)
                        .map(|((_, p), (o, _))| (p, o))
                        .collect())
                })
                .unwrap_or_else(|| Ok(BTreeMap::new())),
        }
    }

    /// Stops a broker and starts it again.
    ///
    /// # Errors
    /// When that does not work, or the cluster is shared.
    pub fn restart(&self, node: u32) -> Result<()> {
        self.stop(node)?;
        self.start(node)
    }

    /// Stops a broker.
    ///
    /// # Errors
    /// When that does not work, or the cluster is shared.
    pub fn stop(&self, node: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.stop_node(node as i32)?),
            Self::Shared(_) => Err("the cluster is shared".into()),
            Self::Own(kafka) => Ok(kafka.lock().unwrap_or_else(PoisonError::into_inner).stop_node(node)?),
        }
    }

    /// Kills a broker: it takes leave of nobody.
    ///
    /// # Errors
    /// When that does not work, or the cluster is shared.
    pub fn kill(&self, node: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.stop_node(node as i32)?),
            Self::Shared(_) => Err("the cluster is shared".into()),
            Self::Own(kafka) => Ok(kafka.lock().unwrap_or_else(PoisonError::into_inner).kill_node(node)?),
        }
    }

    /// Starts a broker that was stopped.
    ///
    /// # Errors
    /// When that does not work, or the cluster is shared.
    pub fn start(&self, node: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.start_node(node as i32)?),
            Self::Shared(_) => Err("the cluster is shared".into()),
            Self::Own(kafka) => {
                Ok(kafka.lock().unwrap_or_else(PoisonError::into_inner).restart_node(node)?)
            }
        }
    }

    /// Waits until the group's coordinator says that it is in this state, such as `PreparingRebalance`, and has
    /// this many members.
    ///
    /// # Errors
    /// When that hangs.
    pub async fn group_is(&self, group: &str, state: &str, members: usize) -> Result<()> {
        guarded(&format!("{group} with {members} members in {state}"), async {
            match self {
                Self::Embedded(broker, _) => {
                    let is = |g: GroupInfo| format!("{:?}", g.state) == state && g.members.len() == members;
                    broker.wait_until(|b| b.group(group).is_some_and(is)).await;
                }
                // Kafka tells nobody when a group changes: it has to be asked.
                _ => {
                    while self.described(group)? != (state.to_owned(), members) {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// State and number of members of a group; a group that nobody knows of is dead.
    fn described(&self, group: &str) -> Result<(String, usize)> {
        let described = self.real(|k| Ok(k.tool()?.group(group)?));
        Ok(match described {
            Some(Ok(g)) => (g.state, g.members.len()),
            Some(Err(e)) if !e.to_string().contains("GroupIdNotFound") => return Err(e),
            _ => ("Dead".to_owned(), 0),
        })
    }

    /// The broker that coordinates `group`.
    ///
    /// # Errors
    /// When nobody does.
    pub fn coordinator(&self, group: &str) -> Result<u32> {
        let none = "nobody coordinates the group";
        match self {
            Self::Embedded(broker, _) => Ok(broker.coordinator(group).ok_or(none)? as u32),
            _ => self
                .real(|k| Ok(k.tool()?.group(group)?.coordinator.ok_or(none)?))
                .unwrap_or_else(|| Err(none.into())),
        }
    }

    /// Gives the group another coordinator, without stopping a broker.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn move_coordinator(&self, group: &str, to: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => broker.move_coordinator(group, to as i32)?,
            // Whoever leads the partition in which Kafka keeps the group coordinates it.
            _ => self.move_leader("__consumer_offsets", partition_of_group(group), to)?,
        }
        guarded("the new coordinator", async {
            while self.coordinator(group)? != to {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
        .await
    }

    /// Gives a partition another leader.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn move_leader(&self, topic: &str, partition: u32, to: u32) -> Result<()> {
        match self {
            Self::Embedded(broker, _) => Ok(broker.move_leader(topic, partition as i32, to as i32)?),
            _ => self.real(|k| Ok(k.tool()?.move_leader(topic, partition, to)?)).unwrap_or(Ok(())),
        }
    }
}

/// Writes on while brokers come and go.
#[derive(Debug)]
pub struct Producer<'a> {
    backend: &'a Backend,
    tool: Option<Tool>,
}

impl Producer<'_> {
    /// As [`Backend::produce`], uncompressed.
    ///
    /// # Errors
    /// When a record cannot be written at last.
    pub fn produce(&mut self, topic: &str, spec: &RecordSpec) -> Result<()> {
        match &mut self.tool {
            Some(tool) => Ok(tool.produce(topic, spec).map(drop)?),
            None => self.backend.produce(topic, "none", spec),
        }
    }
}

/// The partition of `__consumer_offsets` that holds a group: Java's hash of its id, over the harness' five.
fn partition_of_group(group: &str) -> u32 {
    let hash = group.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0).unsigned_abs() % 5
}

/// A codec by its name.
///
/// # Errors
/// When there is no such codec.
pub fn compression(codec: &str) -> Result<Compression> {
    let all =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    Ok(all.into_iter().find(|c| c.name() == codec).ok_or("no such codec")?)
}
