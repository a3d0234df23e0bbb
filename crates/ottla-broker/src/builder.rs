//! How a broker is described before it starts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::api::{Api, VersionTable};
use crate::broker::Broker;
use crate::core::{Cluster, ClusterConfig};
use crate::error::{BrokerError, Result};
use crate::net::Shared;

/// Describes a cluster; [`start`](Self::start) brings it up.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start"]
pub struct Builder {
    brokers: usize,
    host: String,
    topics: Vec<(String, i32)>,
    racks: Vec<(i32, String)>,
    release: Option<String>,
    caps: Vec<(Api, i16)>,
    in_memory: bool,
    own_thread: bool,
    write_chunk: Option<usize>,
    config: ClusterConfig,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut config = ClusterConfig::default();
        if let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) {
            config.start_time_ms = i64::try_from(since.as_millis()).unwrap_or(config.start_time_ms);
        }
        Self {
            brokers: 1,
            host: "127.0.0.1".to_owned(),
            topics: Vec::new(),
            racks: Vec::new(),
            release: None,
            caps: Vec::new(),
            in_memory: false,
            own_thread: false,
            write_chunk: None,
            config,
        }
    }

    /// How many brokers; their node ids are 1, 2, 3 … (default 1).
    pub fn brokers(mut self, count: usize) -> Self {
        self.brokers = count.max(1);
        self
    }

    /// The address to bind and to advertise (default `127.0.0.1`).
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// A topic that is there from the start. Partition `p` is led by node `p mod brokers + 1`.
    pub fn topic(mut self, name: impl Into<String>, partitions: i32) -> Self {
        self.topics.push((name.into(), partitions));
        self
    }

    /// The rack of a node. With racks, a consumer that names its own is sent to a replica there (KIP-392).
    pub fn rack(mut self, node: i32, rack: impl Into<String>) -> Self {
        self.racks.push((node, rack.into()));
        self
    }

    /// Offers only the API versions of this Kafka release ("2.8", "3.9", "4.3").
    pub fn as_version(mut self, release: impl Into<String>) -> Self {
        self.release = Some(release.into());
        self
    }

    /// Caps one API at a version; a cap below its lowest version takes the API away.
    pub fn cap_version(mut self, api: Api, max: i16) -> Self {
        self.caps.push((api, max));
        self
    }

    /// The seed of everything random: topic ids, member ids, the cluster id (default 0).
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Whether clients that ask for unknown topics create them (default true, as in Kafka).
    pub fn auto_create_topics(mut self, yes: bool) -> Self {
        self.config.auto_create_topics = yes;
        self
    }

    /// Replicas per partition, capped by the number of brokers (default 3).
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.config.replication_factor = replicas;
        self
    }

    /// How long an empty group waits for further members before its first rebalance (KIP-134). Kafka's default is
    /// 3 s, here it is zero.
    pub fn initial_rebalance_delay(mut self, delay: Duration) -> Self {
        self.config.initial_rebalance_delay = delay;
        self
    }

    /// The shortest session timeout that members may ask for (default 6 s, as in Kafka).
    pub fn min_session_timeout(mut self, timeout: Duration) -> Self {
        self.config.min_session_timeout = timeout;
        self
    }

    /// How many fetch sessions a node keeps (default 1,000); with 0 every fetch is a full one.
    pub fn fetch_session_slots(mut self, slots: usize) -> Self {
        self.config.fetch_session_slots = slots;
        self
    }

    /// The largest record batch that Produce takes (default 100 MiB).
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.config.max_message_bytes = bytes;
        self
    }

    /// Changes any setting of the cluster; nodes and versions are set by the other methods.
    ///
    /// The wall clock that record timestamps count from (`start_time_ms`) is the present time unless it is set here.
    pub fn configure(mut self, change: impl FnOnce(&mut ClusterConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Binds no socket: clients connect by [`Broker::connect_in_memory`] only. For tests on a paused clock.
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Runs the cluster on a thread and runtime of its own, so that a test that blocks its runtime does not block the
    /// brokers. Without it everything runs on the runtime that calls [`start`](Self::start), on its clock.
    pub fn on_own_thread(mut self) -> Self {
        self.own_thread = true;
        self
    }

    /// Writes answers in pieces of this many bytes.
    pub fn write_chunk(mut self, bytes: usize) -> Self {
        self.write_chunk = Some(bytes.max(1));
        self
    }

    /// Brings the cluster up.
    ///
    /// # Errors
    /// The release is not known, a topic is not legal or named twice, or a port cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(self) -> Result<Broker> {
        let mut config = self.config;
        let replication = config.replication_factor;
        let seeded = ClusterConfig::with_nodes(self.brokers);
        config.nodes = seeded.nodes;
        config.replication_factor = replication;
        for node in &mut config.nodes {
            node.host.clone_from(&self.host);
            // Never bound, so any numbers do.
            node.port = 19_000_u16.saturating_add(u16::try_from(node.id).unwrap_or(0));
            node.rack = self.racks.iter().find(|(id, _)| *id == node.id).map(|(_, rack)| rack.clone());
        }
        if let Some(release) = &self.release {
            config.versions = VersionTable::release(release)?;
        }
        for (api, max) in self.caps {
            config.versions.set_max(api, max);
        }
        let ids: Vec<i32> = config.nodes.iter().map(|node| node.id).collect();
        let mut cluster = Cluster::new(config);
        for (name, partitions) in &self.topics {
            cluster.create_topic(name, *partitions)?;
        }
        let (runtime, keep_alive) = if self.own_thread {
            let (runtime, end) = spawn_runtime().await?;
            (runtime, Some(end))
        } else {
            (Handle::current(), None)
        };
        let shared = Shared::new(cluster, runtime, self.write_chunk, keep_alive);
        let broker = Broker::new(shared.clone(), self.in_memory);
        if !self.in_memory {
            for id in ids {
                let port = shared.listen(id, &self.host, 0)?;
                shared.act(|cluster, _| cluster.set_port(id, port));
            }
        }
        Ok(broker)
    }
}

/// A runtime on a new thread. It ends when the sender is dropped.
async fn spawn_runtime() -> Result<(Handle, oneshot::Sender<()>)> {
    let (ready, handle) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    std::thread::Builder::new().name("ottla-broker".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = ready.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(ended);
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    })?;
    let handle = handle.await.map_err(|_| BrokerError::Invalid("the broker's thread ended".to_owned()))??;
    Ok((handle, end))
}
