//! How a cluster is set up.

use std::time::Duration;

use super::group::MigrationPolicy;
use crate::api::VersionTable;
use crate::error::Result;

/// One broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node id.
    pub id: i32,
    /// The host that Metadata advertises.
    pub host: String,
    /// The port that Metadata advertises.
    pub port: u16,
    /// The rack (KIP-392), if any.
    pub rack: Option<String>,
}

/// The settings of a sans-IO [`Cluster`](crate::sim::Cluster).
///
/// Start from `Default` (one node, Kafka's defaults except where the field says otherwise) and change fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// The brokers.
    pub nodes: Vec<NodeConfig>,
    /// Everything random (ids) comes from this seed.
    pub seed: u64,
    /// What `Timestamp::ZERO` is in milliseconds since 1970; record timestamps count from it.
    pub start_time_ms: i64,
    /// Replicas per partition of topics made without one, capped by the number of nodes.
    pub replication_factor: i16,
    /// Partitions of topics made without a number.
    pub num_partitions: i32,
    /// Whether Metadata requests that allow it create topics.
    pub auto_create_topics: bool,
    /// `group.initial.rebalance.delay.ms`. Kafka's default is 3 s, here it is zero.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`.
    pub max_group_size: usize,
    /// Whether the brokers offer the consumer protocol (KIP-848), as the feature `group.version` says; releases
    /// before 4.0 never do.
    pub consumer_groups: bool,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.max.size`.
    pub max_consumer_group_size: usize,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// `offset.metadata.max.bytes`.
    pub max_offset_metadata: usize,
    /// `fetch.max.bytes` of the broker.
    pub fetch_max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots` of each node.
    pub fetch_session_slots: usize,
    /// `message.max.bytes`. Kafka's default is 1 MiB, here it is 100 MiB.
    pub max_message_bytes: usize,
    /// How many requests the observation log keeps.
    pub max_observed: usize,
    /// Leaders send consumers to replicas in their rack that have not got that far, too.
    pub leaders_are_ignorant: bool,
    pub(crate) versions: VersionTable,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            nodes: vec![NodeConfig { id: 1, host: "127.0.0.1".to_owned(), port: 9092, rack: None }],
            seed: 0,
            start_time_ms: 1_700_000_000_000,
            replication_factor: 3,
            num_partitions: 1,
            auto_create_topics: true,
            initial_rebalance_delay: Duration::ZERO,
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(1800),
            max_group_size: usize::MAX,
            consumer_groups: true,
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_session_timeout: Duration::from_secs(45),
            max_consumer_group_size: usize::MAX,
            migration_policy: MigrationPolicy::default(),
            max_offset_metadata: 4096,
            fetch_max_bytes: 55 * 1024 * 1024,
            fetch_session_slots: 1000,
            max_message_bytes: 100 * 1024 * 1024,
            max_observed: 100_000,
            leaders_are_ignorant: false,
            versions: VersionTable::latest(),
        }
    }
}

impl ClusterConfig {
    /// A cluster of `count` nodes with ids from 1 and ports from 9092.
    pub fn with_nodes(count: usize) -> Self {
        let nodes = (0..count.max(1))
            .map(|i| NodeConfig {
                id: i as i32 + 1,
                host: "127.0.0.1".to_owned(),
                port: 9092 + i as u16,
                rack: None,
            })
            .collect();
        Self { nodes, ..Self::default() }
    }

    /// The racks of the nodes, in their order.
    #[must_use]
    pub fn racks<'a>(mut self, racks: impl IntoIterator<Item = &'a str>) -> Self {
        for (node, rack) in self.nodes.iter_mut().zip(racks) {
            node.rack = Some(rack.to_owned());
        }
        self
    }

    /// Offers only the API versions of this Kafka release ("2.8", "3.9", "4.3").
    ///
    /// # Errors
    /// The release is not known.
    pub fn as_version(mut self, release: &str) -> Result<Self> {
        self.versions = VersionTable::release(release)?;
        Ok(self)
    }

    /// Caps one API at a version; a cap below the API's lowest version takes the API away.
    #[must_use]
    pub fn cap(mut self, api: crate::Api, max: i16) -> Self {
        self.versions.set_max(api, max);
        self
    }
}
