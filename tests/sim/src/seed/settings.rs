//! How the cluster and the members of a seed are set up.

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_core::Rng;
use ottla_core::assignor::{Assignor, OwnAssignor};
use ottla_core::config::{CommitMode, Config, GroupConfig, GroupProtocol, IsolationLevel, OffsetReset};

use super::assignor::Dealt;
use crate::oracle::{GROUP, Oracle, Traits, group_of_hand};
use crate::workload::{Commits, Hand, Reads, Style};

/// The largest batch that producers write, and more.
const MAX_BATCH: usize = 160 << 10;
/// Of the nodes.
const RACKS: [&str; 5] = ["r1", "r2", "r3", "r4", "r5"];
/// Topics have no more partitions.
pub(crate) const MAX_PARTITIONS: usize = 24;
/// What is decoded at once when it was compressed: batches are joined until they have 1 MiB.
pub(crate) const MAX_DECODED: usize = (1 << 20) + MAX_BATCH;

/// What is drawn once for a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) nodes: usize,
    pub(crate) topics: usize,
    pub(crate) partitions: i32,
    pub(crate) members: usize,
    pub(crate) records_per_second: u64,
    pub(crate) transactions: bool,
    pub(crate) latest: bool,
    /// Jepsen's workload: users who assign by hand or change their mind among the others, a history, final polls.
    pub(crate) jepsen: bool,
    assignors: u64,
    session: Duration,
    rebalance: Duration,
    metadata_age: Duration,
    request_timeout: Duration,
    max_poll: Option<Duration>,
    release: u64,
    initial_delay: Duration,
    /// The members speak the consumer protocol (KIP-848).
    pub(crate) consumer: bool,
    /// Some do, the others the classic one.
    mixed: bool,
    /// Every node is in a rack of its own, and members read from the one in theirs (KIP-392).
    racks: bool,
}

impl Settings {
    /// With `consumer` the members speak the consumer protocol (KIP-848); all else is drawn as without it.
    pub(crate) fn draw(rng: &mut Rng, consumer: bool) -> Self {
        // 1 to 50, each power of two as likely as the next.
        let power = rng.below(5644) as f64 / 1000.0;
        let members = (power.exp2().floor() as usize).clamp(1, 50);
        let seconds =
            |rng: &mut Rng, from: u64, to: u64| Duration::from_secs(from + rng.below(to - from + 1));
        Self {
            nodes: 1 + rng.below(5) as usize,
            topics: 1 + rng.below(3) as usize,
            partitions: 1 + rng.below(8) as i32,
            members,
            records_per_second: 40 + rng.below(160),
            transactions: rng.below(5) == 0,
            latest: rng.below(8) == 0,
            jepsen: false,
            assignors: rng.below(6),
            session: seconds(rng, 6, 10),
            rebalance: seconds(rng, 6, 15),
            metadata_age: seconds(rng, 3, 20),
            request_timeout: seconds(rng, 2, 6),
            max_poll: (rng.below(2) == 0).then(|| seconds(rng, 8, 15)),
            release: rng.below(4),
            consumer,
            mixed: false,
            initial_delay: Duration::from_millis(if rng.below(2) == 0 { 0 } else { rng.below(1000) }),
            racks: rng.below(4) == 0,
        }
    }

    /// Topics are to have ids.
    pub(crate) fn know_ids(&mut self) {
        self.release = self.release.max(1);
    }

    /// Members of both protocols are to be in the group, with no assignor of their own.
    pub(crate) fn mix(&mut self) {
        (self.mixed, self.release) = (!self.consumer, 2);
        self.assignors = self.assignors.min(4);
    }

    /// Whether members of both protocols are in the group.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Somebody is to read from a follower.
    pub(crate) fn spread(&mut self) {
        (self.racks, self.nodes) = (true, self.nodes.max(2));
    }

    /// The session timeout.
    pub(crate) fn session(&self) -> Duration {
        self.session
    }

    /// Somebody is to stay away for longer than it may.
    pub(crate) fn limit_polls(&mut self, seed: u64) {
        let seconds = 8 + Rng::new(seed ^ 0x9011).below(8);
        self.max_poll.get_or_insert(Duration::from_secs(seconds));
    }

    /// Whether the brokers tell their leader epochs, and the ends of earlier ones (not before 2.4).
    pub(crate) fn tells_epochs(&self) -> bool {
        self.consumer || self.release != 0 || !self.session.as_secs().is_multiple_of(2)
    }

    /// Whether they tell topic ids (2.8).
    pub(crate) fn tells_ids(&self) -> bool {
        self.consumer || self.release != 0
    }

    pub(crate) fn cluster(&self) -> ClusterConfig {
        let config = ClusterConfig::with_nodes(self.nodes);
        let mut config = match self.release {
            _ if self.consumer => config,
            0 if self.session.as_secs().is_multiple_of(2) => {
                config.as_version("2.1").expect("a known release")
            }
            0 => config.as_version("2.8").expect("a known release"),
            1 => config.as_version("3.9").expect("a known release"),
            _ => config,
        };
        if self.racks {
            config = config.racks(RACKS);
            config.leaders_are_ignorant = self.session.as_secs() < 8;
        }
        config.initial_rebalance_delay = self.initial_delay;
        config.auto_create_topics = false;
        config.consumer_session_timeout = self.session;
        // Now and then so often that one comes while something is being given back.
        config.consumer_heartbeat_interval =
            if self.session.as_secs() < 8 { Duration::from_millis(200) } else { self.session / 4 };
        config.max_observed = 2_000;
        config
    }

    /// How long it may take until everything is read.
    pub(crate) fn bound(&self) -> Duration {
        Oracle::bound(self.session, self.rebalance, self.metadata_age)
            + self.request_timeout
            + self.max_poll.unwrap_or_default()
    }

    /// A member that is put out again and again joins within so long each time.
    pub(crate) fn calm_after(&self) -> Duration {
        self.session + Duration::from_secs(1)
    }

    /// A member's configuration, its user, and what the oracle is to know of both.
    pub(crate) fn member(&self, base: Config, rng: &mut Rng) -> (Config, Style, Traits) {
        let mut group = GroupConfig::new(GROUP);
        let rack = rng.below(self.nodes as u64 + 1) as usize;
        let consumer = self.consumer || self.mixed && rng.below(2) == 0;
        if consumer {
            group.protocol = GroupProtocol::Consumer;
        }
        group.session_timeout = self.session;
        group.heartbeat_interval = self.session / 4;
        group.rebalance_timeout = self.rebalance;
        group.max_poll_interval = self.max_poll;
        group.revoke_timeout = Duration::from_secs(1 + rng.below(5));
        group.assignors = match self.assignors {
            0 => vec![Assignor::Range],
            1 => vec![Assignor::RoundRobin],
            2 => vec![Assignor::Sticky],
            3 => vec![Assignor::CooperativeSticky, Assignor::Range],
            _ => vec![Assignor::CooperativeSticky],
        };
        if self.assignors == 5 && !self.consumer {
            // All of a group have it in the same place.
            group.own_assignors =
                vec![OwnAssignor::new(Dealt { cooperative: self.session.as_secs().is_multiple_of(2) })];
        }
        let commits = match rng.below(12) {
            0 | 1 => Commits::Tokens,
            2 => Commits::Offsets,
            3 => Commits::Marks,
            4 => Commits::Background,
            5 => Commits::Delivered,
            _ => Commits::Auto,
        };
        let interval = Duration::from_millis(200 + rng.below(4800));
        let max_buffered_bytes = (64 << 10) << rng.below(5);
        let config = Config {
            group: Some(group),
            auto_offset_reset: if self.latest { OffsetReset::Latest } else { OffsetReset::Earliest },
            commit: if commits == Commits::Auto { CommitMode::Auto { interval } } else { CommitMode::Manual },
            marks_interval: interval,
            client_rack: RACKS.get(rack).filter(|_| self.racks).map(|rack| (*rack).to_owned()),
            isolation_level: if self.transactions {
                IsolationLevel::ReadCommitted
            } else {
                IsolationLevel::ReadUncommitted
            },
            partition_eof: rng.below(4) == 0,
            max_buffered_bytes,
            max_batch_records: 1 + rng.below(500) as usize,
            max_unmarked: 1 + rng.below(2000) as usize,
            fetch_max_wait: Duration::from_millis(100 + rng.below(400)),
            fetch_max_bytes: (4 << 10) << rng.below(9),
            max_partition_fetch_bytes: (1 << 10) << rng.below(11),
            request_timeout: self.request_timeout,
            connection_setup_timeout: Duration::from_secs(2 + rng.below(4)),
            metadata_max_age: self.metadata_age,
            default_api_timeout: Duration::from_secs(5 + rng.below(10)),
            ..base
        };
        let reads = match rng.below(10) {
            0 | 1 => Reads::Records,
            2 => Reads::Gathered(1 + rng.below(1000)),
            3 => Reads::Partitions,
            _ => Reads::Batches,
        };
        let keep = if commits == Commits::Auto { rng.below(4) as usize } else { rng.below(2) as usize };
        let style = Style {
            // Only who reads batches can be told of events in between.
            events: rng.below(3) > 0 && reads == Reads::Batches,
            reads,
            commits,
            batch: if rng.below(3) == 0 { 1 + rng.below(20) as usize } else { usize::MAX },
            work: [10, 1_000, 50_000, 400_000][rng.below(4) as usize],
            keep,
            whims: 10 + rng.below(300),
            hand: None,
            fickle: self.jepsen,
            pattern: rng.below(8) == 0,
        };
        let traits = Traits {
            events: style.events,
            by_hand: false,
            auto: commits == Commits::Auto,
            latest: self.latest,
            read_committed: self.transactions,
            // Who is cut off does not learn when its session is over (KIP-848): an answer that fences tells.
            session: if consumer { Duration::MAX / 2 } else { self.session },
            max_ledger: max_buffered_bytes + self.nodes * MAX_BATCH,
            readers: if reads == Reads::Partitions { 2 * MAX_PARTITIONS } else { 1 },
            max_sockets: self.nodes * 4 + 3,
        };
        (config, style, traits)
    }

    /// The same for a user who assigns by hand.
    pub(crate) fn by_hand(
        &self,
        base: Config,
        rng: &mut Rng,
        hand: Hand,
        id: usize,
    ) -> (Config, Style, Traits) {
        let (mut config, mut style, mut traits) = self.member(base, rng);
        style.hand = Some(hand);
        traits.by_hand = true;
        match hand {
            Hand::WithGroup => config.group = Some(GroupConfig::new(group_of_hand(id))),
            Hand::WithoutGroup => {
                config.group = None;
                style.commits = Commits::Auto;
                traits.auto = true;
            }
        }
        (config, style, traits)
    }
}
