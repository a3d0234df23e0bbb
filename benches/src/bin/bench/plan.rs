//! The work sets, which clients they are for, and what is aimed at.

/// A ratio that is aimed at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The client.
    pub(crate) client: &'static str,
    /// Against the best of these: that with the lowest median.
    pub(crate) base: &'static [&'static str],
    /// What the base is called.
    pub(crate) name: &'static str,
    /// What per record.
    pub(crate) of: Measure,
    /// As a part of the base's, at most.
    pub(crate) at_most: f64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// CPU time, all threads together.
    Cpu,
    /// Time that passes.
    Time,
}

/// Records in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batches {
    /// About 16 KiB, the default of producers.
    Usual,
    /// Exactly so many records.
    Of(u64),
}

/// Topics that are read from beginning to end, as fast as possible.
#[derive(Debug, Clone)]
pub(crate) struct WorkSet {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) brokers: u32,
    pub(crate) partitions: u32,
    pub(crate) value_bytes: usize,
    pub(crate) codec: &'static str,
    pub(crate) batches: Batches,
    /// Records in the topic: one pass.
    pub(crate) records: u64,
    /// Passes that are measured.
    pub(crate) passes: u64,
    /// Most rounds, where nothing is aimed at.
    pub(crate) rounds: usize,
    pub(crate) clients: &'static [&'static str],
    pub(crate) targets: &'static [Target],
}

impl WorkSet {
    pub(crate) fn batch_records(&self) -> u64 {
        match self.batches {
            Batches::Usual => (16_384 / (self.value_bytes as u64 + 17)).max(1),
            Batches::Of(records) => records,
        }
    }

    /// Most rounds of this client: all where a target needs it, else few, or the whole would take an hour.
    pub(crate) fn rounds_of(&self, client: &str) -> usize {
        let needs = |target: &Target| target.client == client || target.base.contains(&client);
        if self.targets.iter().any(needs) || client == "floor" { self.rounds } else { self.rounds.min(FEW) }
    }
}

/// Rounds of what nothing is aimed at.
const FEW: usize = 3;

/// librdkafka's ways to read many messages at a time.
const BEST: &[&str] = &["rdkafka-batch", "rdkafka-callback", "rdkafka-batch-defaults"];
const FLOOR: &[&str] = &["floor"];
const BASE: &[&str] = &["rdkafka-base"];

const fn target(
    client: &'static str,
    base: &'static [&'static str],
    name: &'static str,
    at_most: f64,
) -> Target {
    Target { client, base, name, of: Measure::Cpu, at_most }
}

/// One and a half times the records per second.
const AHEAD_OF_INLINE: &[Target] = &[Target {
    client: "ottla-ahead-whole",
    base: &["ottla-batch-whole"],
    name: "ottla-batch-whole",
    of: Measure::Time,
    at_most: 1.0 / 1.5,
}];

const WHOLE: &[&str] = &["ottla-batch-whole", "ottla-ahead-whole", "rdkafka-batch-whole"];

const MAIN: &[&str] = &[
    "floor",
    "floor-tokio",
    "ottla-batch",
    "ottla-batch-inline",
    "ottla-batch-group",
    "ottla-record",
    "ottla-stream",
    "rdkafka-batch",
    "rdkafka-callback",
    "rdkafka-batch-defaults",
    "rdkafka-base",
    "rdkafka-stream",
    "java",
    "franz-go",
    "python",
];

const WIDE: &[&str] = &[
    "floor",
    "ottla-batch",
    "rdkafka-batch",
    "rdkafka-callback",
    "rdkafka-base",
    "java",
    "franz-go",
    "python",
];

const SIDE: &[&str] = &["floor", "ottla-batch", "rdkafka-batch", "rdkafka-callback"];

/// The first one; the others say where they differ.
const FIRST: WorkSet = WorkSet {
    name: "100b-none",
    what: "100 B, uncompressed, 6 partitions",
    brokers: 1,
    partitions: 6,
    value_bytes: 100,
    codec: "none",
    batches: Batches::Usual,
    records: 3_000_000,
    passes: 2,
    rounds: usize::MAX,
    clients: MAIN,
    targets: &[
        target("ottla-batch", FLOOR, "floor", 1.6),
        target("ottla-batch", BEST, "librdkafka's best", 0.25),
        target("ottla-batch", BASE, "BaseConsumer", 0.125),
        target("ottla-record", BASE, "BaseConsumer", 1.0 / 3.0),
        target("ottla-stream", BASE, "BaseConsumer", 1.0 / 3.0),
    ],
};

const SMALL: WorkSet = WorkSet { clients: SIDE, targets: AHEAD, ..FIRST };

const LARGE: WorkSet = WorkSet { value_bytes: 1000, records: 400_000, ..SMALL };

const AHEAD: &[Target] = &[target("ottla-batch", BEST, "librdkafka's best", 1.0)];

/// All of them, in the order they are run.
pub(crate) const WORK_SETS: &[WorkSet] = &[
    FIRST,
    WorkSet {
        name: "100b-lz4",
        what: "100 B, lz4, 6 partitions",
        codec: "lz4",
        targets: &[
            target("ottla-batch", FLOOR, "floor", 1.4),
            target("ottla-batch", BEST, "librdkafka's best", 1.0 / 3.0),
        ],
        ..SMALL
    },
    WorkSet {
        name: "100b-snappy",
        what: "100 B, snappy, 6 partitions",
        codec: "snappy",
        rounds: FEW,
        ..SMALL
    },
    WorkSet { name: "100b-zstd", what: "100 B, zstd, 6 partitions", codec: "zstd", rounds: FEW, ..SMALL },
    WorkSet {
        name: "100b-gzip",
        what: "100 B, gzip, 6 partitions",
        codec: "gzip",
        passes: 1,
        rounds: FEW,
        ..SMALL
    },
    WorkSet {
        name: "1kb-none",
        what: "1 KB, uncompressed, 6 partitions",
        clients: WIDE,
        targets: &[
            target("ottla-batch", FLOOR, "floor", 1.35),
            target("ottla-batch", BEST, "librdkafka's best", 0.6),
        ],
        ..LARGE
    },
    WorkSet {
        name: "1kb-lz4",
        what: "1 KB, lz4, 6 partitions",
        codec: "lz4",
        targets: &[
            target("ottla-batch", FLOOR, "floor", 1.2),
            target("ottla-batch", BEST, "librdkafka's best", 0.8),
        ],
        ..LARGE
    },
    WorkSet { name: "1kb-snappy", what: "1 KB, snappy, 6 partitions", codec: "snappy", rounds: FEW, ..LARGE },
    WorkSet {
        name: "1kb-zstd",
        what: "1 KB, zstd, 6 partitions (the floor decompresses with C)",
        codec: "zstd",
        targets: &[
            target("ottla-batch", FLOOR, "floor", 1.4),
            target("ottla-batch", BEST, "librdkafka's best", 0.6),
        ],
        ..LARGE
    },
    WorkSet {
        name: "1kb-zstd-whole",
        what: "1 KB, zstd, 6 partitions, clients on all cores: without and with decoding ahead",
        codec: "zstd",
        clients: WHOLE,
        targets: AHEAD_OF_INLINE,
        ..LARGE
    },
    WorkSet {
        name: "1kb-zstd-whole-1p",
        what: "1 KB, zstd, 1 partition, clients on all cores: without and with decoding ahead",
        codec: "zstd",
        partitions: 1,
        clients: WHOLE,
        targets: AHEAD_OF_INLINE,
        ..LARGE
    },
    WorkSet {
        name: "1kb-gzip",
        what: "1 KB, gzip, 6 partitions",
        codec: "gzip",
        passes: 1,
        rounds: FEW,
        ..LARGE
    },
    WorkSet {
        name: "100b-1p",
        what: "100 B, uncompressed, 1 partition",
        partitions: 1,
        targets: &[
            target("ottla-batch", FLOOR, "floor", 1.5),
            target("ottla-batch", BEST, "librdkafka's best", 0.25),
        ],
        ..SMALL
    },
    WorkSet {
        name: "100b-6p-50",
        what: "100 B, uncompressed, 6 partitions, 50 records a batch",
        batches: Batches::Of(50),
        ..SMALL
    },
    WorkSet {
        name: "100b-1000p",
        what: "100 B, uncompressed, 1,000 partitions, 50 records a batch",
        partitions: 1000,
        batches: Batches::Of(50),
        ..SMALL
    },
    WorkSet {
        name: "small-batches",
        what: "100 B, uncompressed, 6 partitions, 10 records a batch",
        batches: Batches::Of(10),
        records: 1_500_000,
        // It was to be ahead, and that turned out easy.
        targets: &[target("ottla-batch", BEST, "librdkafka's best", 0.5)],
        ..SMALL
    },
    WorkSet {
        name: "big-batches",
        what: "100 B, uncompressed, 6 partitions, 2,000 records a batch",
        batches: Batches::Of(2000),
        rounds: FEW,
        ..SMALL
    },
    WorkSet {
        name: "100b-3b",
        what: "100 B, uncompressed, 6 partitions on 3 brokers",
        brokers: 3,
        rounds: FEW,
        ..SMALL
    },
];

/// Something else than throughput.
#[derive(Debug, Clone)]
pub(crate) struct Special {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What the clients are told.
    pub(crate) kind: Kind,
    pub(crate) partitions: u32,
    /// Records in the topic before it begins, and with `--quick`.
    pub(crate) records: u64,
    pub(crate) quick_records: u64,
    pub(crate) batch_records: u64,
    /// How long it takes where it takes a time, and with `--quick`.
    pub(crate) millis: u64,
    pub(crate) quick_millis: u64,
    pub(crate) rounds: usize,
    pub(crate) clients: &'static [&'static str],
    /// Fields of the results, and how tables call them.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// What is aimed at, in words, and what decides it.
    pub(crate) aim: &'static str,
    pub(crate) limit: Option<Limit>,
}

/// What one field of a client's may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) client: &'static str,
    pub(crate) field: &'static str,
    pub(crate) at_most: f64,
    /// As a part of that of the best of these; none: as it is.
    pub(crate) of: &'static [&'static str],
}

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    First,
    Latency,
    Idle,
    Slow,
    Rebalance,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Rebalance => "rebalance",
        }
    }
}

/// All of them, in the order they are run.
pub(crate) const SPECIALS: &[Special] = &[
    Special {
        name: "latency",
        what: "From writing to reading: 1,000 records a second, 1 partition",
        kind: Kind::Latency,
        partitions: 1,
        records: 0,
        quick_records: 0,
        batch_records: 1,
        millis: 5_000,
        quick_millis: 3_000,
        rounds: 5,
        clients: &[
            "floor",
            "ottla-batch",
            "ottla-batch-inline",
            "ottla-record",
            "rdkafka-base",
            "rdkafka-stream",
        ],
        columns: &[
            ("p50_us", "p50 µs"),
            ("p99_us", "p99 µs"),
            ("p999_us", "p99.9 µs"),
            ("cpu_us_per_record", "CPU µs/record"),
        ],
        aim: "p99 not above librdkafka's",
        limit: Some(Limit {
            client: "ottla-batch",
            field: "p99_us",
            at_most: 1.0,
            of: &["rdkafka-base", "rdkafka-stream"],
        }),
    },
    Special {
        name: "first-record",
        what: "From the start of the process to the first record, in a group of one",
        kind: Kind::First,
        partitions: 6,
        records: 600,
        quick_records: 600,
        batch_records: 100,
        millis: 0,
        quick_millis: 0,
        rounds: 7,
        clients: &["ottla-batch-group", "rdkafka-base-group"],
        columns: &[("first_record_ms", "first record ms")],
        aim: "",
        limit: None,
    },
    Special {
        name: "idle",
        what: "A consumer of 1,000 partitions to which nothing is written",
        kind: Kind::Idle,
        partitions: 1000,
        records: 1000,
        quick_records: 1000,
        batch_records: 1,
        millis: 8_000,
        quick_millis: 5_000,
        rounds: 5,
        clients: &["ottla-batch", "rdkafka-base"],
        columns: &[
            ("cpu_percent", "% of a core"),
            ("allocations_per_s", "allocations/s"),
            ("growth_bytes", "growth of the heap, bytes"),
            ("rss_mib", "peak RSS MB"),
        ],
        aim: "≤ 0.5 % of a core, no growth",
        limit: Some(Limit { client: "ottla-batch", field: "cpu_percent", at_most: 0.5, of: &[] }),
    },
    Special {
        name: "slow-user",
        what: "A user who takes a batch (librdkafka: 100 records) every 10 ms while 1 GiB (--quick: 225 MiB) waits in 1,000 partitions",
        kind: Kind::Slow,
        partitions: 1000,
        records: 9_000_000,
        quick_records: 2_000_000,
        batch_records: 100,
        millis: 5_000,
        quick_millis: 5_000,
        rounds: 5,
        clients: &["ottla-batch", "rdkafka-base"],
        columns: &[
            ("peak_heap_mib", "peak heap MB"),
            ("rss_mib", "peak RSS MB"),
            ("records", "records taken"),
        ],
        aim: "heap ≤ 64 MB (`max_buffered_bytes`) + 16 MB",
        limit: Some(Limit { client: "ottla-batch", field: "peak_heap_mib", at_most: 80.0, of: &[] }),
    },
    Special {
        name: "rebalance",
        what: "A group of 50 members, cooperative-sticky, 100 partitions: until the assignment is complete and even",
        kind: Kind::Rebalance,
        partitions: 100,
        records: 100,
        quick_records: 100,
        batch_records: 1,
        millis: 0,
        quick_millis: 0,
        rounds: 3,
        clients: &["ottla-batch-group", "rdkafka-base-group"],
        columns: &[
            ("formed_ms", "50 members start, ms"),
            ("left_ms", "one leaves, ms"),
            ("joined_ms", "one joins, ms"),
        ],
        aim: "",
        limit: None,
    },
];

/// The same batches in 1,000 partitions and in 6.
pub(crate) const MANY_AGAINST_FEW: (&str, &str) = ("100b-1000p", "100b-6p-50");
