//! Clusters: those of a test, which end with their value, and those of `cargo xtask kafka start`, which stay.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Context;
use crate::node::{Node, Owner, POLL, free_port};
use crate::{Distribution, Error, Result, Tool, target_dir, unique, wire};

/// How long brokers may take to become ready; usually it is 3 to 6 seconds.
const READY: Duration = Duration::from_secs(180);

/// What makes a broker its own controller.
const KRAFT: &str = "process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
";

/// What a broker with a ZooKeeper needs; it notices that another one died as soon as brokers of KRaft do.
const WITH_ZOOKEEPER: &str = "inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT
zookeeper.session.timeout.ms=4000
zookeeper.connection.timeout.ms=60000
";

/// The settings of a ZooKeeper for our brokers alone.
const ZOOKEEPER: &str = "clientPortAddress=127.0.0.1
tickTime=500
minSessionTimeout=1000
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
";

/// The settings of all brokers. Those that an older version does not know it ignores with a warning.
const COMMON: &str = "auto.create.topics.enable=false
num.partitions=3
num.network.threads=2
num.io.threads=4
message.max.bytes=33554432
replica.fetch.max.bytes=33554432
log.retention.ms=-1
log.retention.bytes=-1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
offsets.topic.num.partitions=5
transaction.state.log.num.partitions=5
share.coordinator.state.topic.num.partitions=5
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=3000
group.consumer.session.timeout.ms=6000
group.consumer.assignment.interval.ms=0
";

/// What kind of cluster to start.
#[derive(Debug, Clone)]
pub struct StartOptions {
    version: String,
    brokers: u32,
    properties: Vec<(String, String)>,
}

impl StartOptions {
    /// One broker of `version`.
    pub fn new(version: &str) -> Self {
        Self { version: version.to_owned(), brokers: 1, properties: Vec::new() }
    }

    /// The number of brokers, 1 to 9.
    pub fn brokers(mut self, brokers: u32) -> Self {
        self.brokers = brokers.clamp(1, 9);
        self
    }

    /// A line more in every `server.properties`; it wins over ours.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it for this process.
    ///
    /// # Errors
    /// As [`KafkaCluster::start`].
    pub fn start(self) -> Result<KafkaCluster> {
        let distribution = Distribution::resolve(&self.version)?;
        let clusters = distribution.dir().join("clusters");
        fs::create_dir_all(&clusters).context(|| "cannot create the folder of clusters".to_owned())?;
        remove_abandoned(&clusters);
        let dir = clusters.join(unique("cluster"));
        fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        // Held while this process lives: how others know that the folder is in use.
        let lock = File::create(dir.join("lock")).context(|| "cannot create the lock file".to_owned())?;
        lock.lock().context(|| "cannot lock".to_owned())?;
        let folder = Folder { dir, _lock: lock };
        let Nodes { brokers, zookeeper } = self.start_nodes(&distribution, &folder.dir, &Owner::Pipe)?;
        Ok(KafkaCluster {
            bootstrap: bootstrap(&brokers),
            distribution,
            nodes: brokers,
            zookeeper,
            tools: Mutex::default(),
            folder: Some(folder),
        })
    }

    /// Starts the nodes and waits until all are ready; after a failure none runs.
    fn start_nodes(&self, distribution: &Distribution, dir: &Path, owner: &Owner) -> Result<Nodes> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let dir = dir.join(format!("try-{attempt}"));
            let mut nodes = self.write_nodes(&dir, owner, distribution.has_kraft())?;
            let Err(error) = nodes.start(distribution) else { return Ok(nodes) };
            let taken = nodes.all().any(|node| node.port_was_taken());
            nodes.all().for_each(Node::kill);
            if !taken || attempt == 3 {
                return Err(error);
            }
        }
    }

    fn write_nodes(&self, dir: &Path, owner: &Owner, kraft: bool) -> Result<Nodes> {
        let mut taken = Vec::new();
        let mut ports = Vec::new();
        for id in 1..=self.brokers {
            ports.push((id, free_port(&mut taken)?, free_port(&mut taken)?));
        }
        let voters: Vec<String> =
            ports.iter().map(|(id, _, controller)| format!("{id}@127.0.0.1:{controller}")).collect();
        let cluster_id = cluster_id();
        let replication = self.brokers.min(3);
        let zookeeper = if kraft {
            None
        } else {
            let (dir, port) = (dir.join("zookeeper"), free_port(&mut taken)?);
            let settings = format!("{ZOOKEEPER}clientPort={port}\ndataDir={}\n", escape(&dir.join("data")));
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Some(Node::new(&dir, 0, address, &cluster_id, owner.clone(), &settings)?)
        };
        let brokers = ports
            .iter()
            .map(|&(id, port, controller)| {
                let dir = dir.join(format!("broker-{id}"));
                let mut settings = [if kraft { KRAFT } else { WITH_ZOOKEEPER }, COMMON].concat();
                let mut set = |name: &str, value: &dyn std::fmt::Display| {
                    // Writing to a string cannot fail.
                    let _ = writeln!(settings, "{name}={value}");
                };
                set("broker.rack", &format_args!("rack-{id}"));
                let listener = format!("PLAINTEXT://127.0.0.1:{port}");
                set("advertised.listeners", &listener);
                match &zookeeper {
                    None => {
                        set("node.id", &id);
                        set("controller.quorum.voters", &voters.join(","));
                        set("listeners", &format_args!("{listener},CONTROLLER://127.0.0.1:{controller}"));
                    }
                    Some(zookeeper) => {
                        set("broker.id", &id);
                        set("zookeeper.connect", &zookeeper.address);
                        set("listeners", &listener);
                    }
                }
                set("log.dirs", &escape(&dir.join("data")));
                set("default.replication.factor", &replication);
                set("min.insync.replicas", &1);
                for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
                    set(&format!("{topic}.replication.factor"), &replication);
                }
                for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
                    set(&format!("{topic}.min.isr"), &replication.min(2));
                }
                for (name, value) in &self.properties {
                    set(name, value);
                }
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                Node::new(&dir, id, address, &cluster_id, owner.clone(), &settings)
            })
            .collect::<Result<_>>()?;
        Ok(Nodes { brokers, zookeeper })
    }
}

/// What runs. The brokers end first.
struct Nodes {
    brokers: Vec<Node>,
    zookeeper: Option<Node>,
}

impl Nodes {
    fn all(&mut self) -> impl Iterator<Item = &mut Node> {
        self.brokers.iter_mut().chain(&mut self.zookeeper)
    }

    fn start(&mut self, distribution: &Distribution) -> Result<()> {
        let end = Instant::now() + READY;
        if let Some(zookeeper) = &mut self.zookeeper {
            zookeeper.spawn(distribution)?;
            zookeeper.wait_listening(end)?;
        }
        for node in &mut self.brokers {
            node.spawn(distribution)?;
        }
        let count = self.brokers.len();
        self.brokers.iter_mut().try_for_each(|node| node.wait_ready(count, end))
    }
}

/// In a properties file a backslash begins an escape.
fn escape(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\")
}

fn bootstrap(nodes: &[Node]) -> String {
    nodes.iter().map(|n| n.address.to_string()).collect::<Vec<_>>().join(",")
}

/// A cluster id has the form of a 16-byte number in base64: 22 letters, the last one of four.
fn cluster_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut state = crate::env::clock_micros() ^ (u64::from(std::process::id()) << 40);
    let mut id: String = (0..21)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[(state >> 33) as usize % LETTERS.len()])
        })
        .collect();
    id.push('A');
    id
}

/// Folders whose owner died: nobody holds their lock.
fn remove_abandoned(clusters: &Path) {
    for entry in fs::read_dir(clusters).into_iter().flatten().flatten() {
        let abandoned = File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok());
        if abandoned {
            // Another process may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A running cluster. Dropping it kills its brokers and removes their data.
#[derive(Debug)]
pub struct KafkaCluster {
    bootstrap: String,
    distribution: Distribution,
    nodes: Vec<Node>,
    /// Lives as long as they do.
    zookeeper: Option<Node>,
    tools: Mutex<Vec<Tool>>,
    // After `nodes`: a folder goes when nobody writes into it any more.
    folder: Option<Folder>,
}

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the broker logs of the failed test are in {}", self.dir.display());
        } else {
            // What stays is removed by the next start.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl KafkaCluster {
    /// Starts `brokers` brokers of `version` for this process and waits until they are ready.
    ///
    /// # Errors
    /// When Java or Maven is missing, the version cannot be resolved, or a broker does not come up; the text holds the
    /// end of its log.
    pub fn start(version: &str, brokers: u32) -> Result<Self> {
        StartOptions::new(version).brokers(brokers).start()
    }

    /// A cluster that somebody else runs at `bootstrap`.
    ///
    /// # Errors
    /// When the jars of `version` (for the helpers) cannot be resolved or nothing answers there.
    pub fn running(version: &str, bootstrap: &str) -> Result<Self> {
        let cluster = Self {
            bootstrap: bootstrap.to_owned(),
            distribution: Distribution::resolve(version)?,
            nodes: Vec::new(),
            zookeeper: None,
            tools: Mutex::default(),
            folder: None,
        };
        wire::api_versions(cluster.address()?)?;
        Ok(cluster)
    }

    /// `host:port` of every broker, separated by commas.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The address of the first broker.
    ///
    /// # Errors
    /// When the bootstrap address is a name instead of a number.
    pub fn address(&self) -> Result<SocketAddr> {
        let first = self.bootstrap.split(',').next().unwrap_or_default();
        first.parse().context(|| format!("{first:?} is not an address"))
    }

    /// The address of broker `id` (they count from 1).
    ///
    /// # Errors
    /// When this process did not start such a broker.
    pub fn node_address(&self, id: u32) -> Result<SocketAddr> {
        self.nodes.iter().find(|n| n.id == id).map(|n| n.address).ok_or_else(|| no_such(id))
    }

    /// The Kafka version.
    pub fn version(&self) -> &str {
        self.distribution.version()
    }

    /// Where the settings, logs and data of its brokers are, if this process started them.
    pub fn dir(&self) -> Option<&Path> {
        self.folder.as_ref().map(|f| f.dir.as_path())
    }

    /// The jars.
    pub fn distribution(&self) -> &Distribution {
        &self.distribution
    }

    /// A helper for topics, records, offsets and groups. Idle ones are kept for the next call.
    ///
    /// # Errors
    /// When its JVM does not start.
    pub fn tool(&self) -> Result<ToolGuard<'_>> {
        let idle = self.tools.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let tool = match idle {
            Some(tool) => tool,
            None => self.own_tool()?,
        };
        Ok(ToolGuard { cluster: self, tool: Some(tool) })
    }

    /// A helper of its own, for what goes on while brokers of this cluster are stopped and started.
    ///
    /// # Errors
    /// When its JVM does not start.
    pub fn own_tool(&self) -> Result<Tool> {
        let zookeeper = self.zookeeper.as_ref().map(|node| node.address);
        Tool::start(&self.distribution, &self.bootstrap, zookeeper)
    }

    /// Shuts broker `id` down in order: its leaders move away first.
    ///
    /// # Errors
    /// When it had to be killed, or this process did not start it.
    pub fn stop_node(&mut self, id: u32) -> Result<()> {
        self.node(id)?.stop()
    }

    /// Kills broker `id`: connections break, the others notice after the broker session timeout (4 s).
    ///
    /// # Errors
    /// When this process did not start it.
    pub fn kill_node(&mut self, id: u32) -> Result<()> {
        self.node(id)?.kill();
        Ok(())
    }

    /// Starts broker `id` again on its old address and data, and waits until it is ready.
    ///
    /// # Errors
    /// When it is running or does not come up.
    pub fn restart_node(&mut self, id: u32) -> Result<()> {
        let distribution = self.distribution.clone();
        let running = self.nodes.iter().filter(|n| n.is_running()).count() + 1;
        let has_zookeeper = self.zookeeper.is_some();
        let node = self.node(id)?;
        let end = Instant::now() + READY;
        loop {
            node.spawn(&distribution)?;
            let ready = node.wait_ready(running, end);
            // Kafka 2.1 ends when its ZooKeeper still has the session of a broker that was killed.
            if ready.is_err() && has_zookeeper && node.has_ended() && Instant::now() < end {
                node.kill();
                continue;
            }
            return ready;
        }
    }

    /// Freezes broker `id`: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn freeze_node(&mut self, id: u32) -> Result<()> {
        self.node(id)?.signal("STOP")
    }

    /// Lets a frozen broker go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw_node(&mut self, id: u32) -> Result<()> {
        self.node(id)?.signal("CONT")
    }

    fn node(&mut self, id: u32) -> Result<&mut Node> {
        self.nodes.iter_mut().find(|n| n.id == id).ok_or_else(|| no_such(id))
    }
}

fn no_such(id: u32) -> Error {
    Error::new(format!("this process did not start a broker {id}"))
}

/// A [`Tool`] on loan from its cluster.
#[derive(Debug)]
pub struct ToolGuard<'a> {
    cluster: &'a KafkaCluster,
    tool: Option<Tool>,
}

impl Deref for ToolGuard<'_> {
    type Target = Tool;

    fn deref(&self) -> &Tool {
        self.tool.as_ref().expect("taken only by drop")
    }
}

impl DerefMut for ToolGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tool {
        self.tool.as_mut().expect("taken only by drop")
    }
}

impl Drop for ToolGuard<'_> {
    fn drop(&mut self) {
        if let Some(tool) = self.tool.take()
            && !tool.is_broken()
        {
            self.cluster.tools.lock().unwrap_or_else(PoisonError::into_inner).push(tool);
        }
    }
}

/// A cluster that stays after the process that started it: `cargo xtask kafka start`. At most one per version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The Kafka version.
    pub version: String,
    /// `host:port` of every broker, separated by commas.
    pub bootstrap: String,
    dir: PathBuf,
    processes: Vec<u32>,
}

impl Running {
    fn folder() -> PathBuf {
        target_dir().join("kafka").join("running")
    }

    /// Starts a cluster that stays until [`Running::stop`].
    ///
    /// # Errors
    /// When one of this version runs already, and as [`KafkaCluster::start`].
    pub fn start(options: &StartOptions) -> Result<Self> {
        if let Some(running) = Self::list().into_iter().find(|r| r.version == options.version) {
            if running.is_ready() {
                let Self { version, bootstrap, .. } = running;
                return Err(Error::new(format!("Kafka {version} is already running at {bootstrap}")));
            }
            running.stop()?;
        }
        let distribution = Distribution::resolve(&options.version)?;
        let dir = Self::folder().join(&options.version);
        // What a killed start may have left.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        let lease = dir.join("lease");
        fs::write(&lease, "the brokers run as long as this file exists\n")
            .context(|| "cannot write the lease".to_owned())?;
        let mut nodes = options.start_nodes(&distribution, &dir, &Owner::Lease(lease))?;
        let running = Self {
            version: options.version.clone(),
            bootstrap: bootstrap(&nodes.brokers),
            dir,
            processes: nodes.all().filter_map(|node| node.process_id()).collect(),
        };
        let state = json!({
            "version": running.version, "bootstrap": running.bootstrap, "processes": running.processes,
        });
        // Interrupted before this line, or failing in it, no broker stays.
        fs::write(running.dir.join("state.json"), state.to_string())
            .context(|| "cannot write the state".to_owned())?;
        nodes.all().try_for_each(Node::stay)?;
        Ok(running)
    }

    /// All clusters that were started and not stopped, ready or not.
    pub fn list() -> Vec<Self> {
        let mut list: Vec<Self> = fs::read_dir(Self::folder())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let dir = entry.path();
                let state: Value = serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()?;
                let processes = state["processes"].as_array()?.iter();
                Some(Self {
                    version: state["version"].as_str()?.to_owned(),
                    bootstrap: state["bootstrap"].as_str()?.to_owned(),
                    processes: processes.filter_map(|p| p.as_u64()?.try_into().ok()).collect(),
                    dir,
                })
            })
            .collect();
        list.sort_by(|a, b| a.version.cmp(&b.version));
        list
    }

    /// Whether every broker answers.
    pub fn is_ready(&self) -> bool {
        self.addresses().iter().all(|a| wire::api_versions(*a).is_ok())
    }

    /// Stops the brokers, waits until their processes are gone and removes their data.
    ///
    /// # Errors
    /// When a process is still there after half a minute.
    pub fn stop(self) -> Result<()> {
        // Without its lease a broker shuts down by itself: no process id that now belongs to another is ever killed.
        let _ = fs::remove_file(self.dir.join("lease"));
        let end = Instant::now() + Duration::from_secs(40);
        while self.processes.iter().any(|id| self.is_alive(*id)) {
            if Instant::now() > end {
                return Err(Error::new(format!(
                    "the processes {:?} of {} do not end",
                    self.processes, self.version
                )));
            }
            std::thread::sleep(POLL);
        }
        fs::remove_dir_all(&self.dir).context(|| format!("cannot remove {}", self.dir.display()))
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.bootstrap.split(',').filter_map(|a| a.parse().ok()).collect()
    }

    /// Whether the process still is our broker: its command line names our folder.
    fn is_alive(&self, id: u32) -> bool {
        match Command::new("ps").args(["-ww", "-o", "args=", "-p", &id.to_string()]).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).contains(&self.dir.display().to_string()),
            // No `ps` here: the ports tell nearly as well.
            Err(_) => self.addresses().iter().any(|a| wire::api_versions(*a).is_ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_have_the_length_kafka_wants() {
        assert_eq!(cluster_id().len(), 22);
    }

    #[test]
    fn three_brokers_replicate_and_know_each_other() -> Result<()> {
        let dir = target_dir().join("kafka").join(unique("settings"));
        let options = StartOptions::new("4.3.1").brokers(3).property("num.partitions", "9");
        let nodes = options.write_nodes(&dir, &Owner::Pipe, true)?;
        assert!(nodes.zookeeper.is_none());
        assert_eq!(nodes.brokers.iter().map(|n| n.id).collect::<Vec<_>>(), [1, 2, 3]);
        let text =
            fs::read_to_string(dir.join("broker-2/server.properties")).context(|| "read".to_owned())?;
        assert!(text.contains("offsets.topic.replication.factor=3"), "{text}");
        assert!(text.contains("transaction.state.log.min.isr=2"), "{text}");
        assert!(text.trim_end().ends_with("num.partitions=9"), "{text}");
        fs::remove_dir_all(&dir).context(|| "remove".to_owned())
    }

    #[test]
    fn brokers_of_kafka_2_share_a_zookeeper() -> Result<()> {
        let dir = target_dir().join("kafka").join(unique("settings"));
        let nodes = StartOptions::new("2.8.2").brokers(2).write_nodes(&dir, &Owner::Pipe, false)?;
        let address = nodes.zookeeper.as_ref().map(|z| z.address.to_string()).unwrap_or_default();
        for broker in ["broker-1", "broker-2"] {
            let text = fs::read_to_string(dir.join(broker).join("server.properties"))
                .context(|| "read".to_owned())?;
            assert!(text.contains(&format!("zookeeper.connect={address}\n")), "{text}");
            assert!(!text.contains("process.roles") && !text.contains("CONTROLLER"), "{text}");
        }
        fs::remove_dir_all(&dir).context(|| "remove".to_owned())
    }
}
