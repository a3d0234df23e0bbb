//! The oracles of the fuzz targets: each takes any bytes and panics when ottla does with them what it must not.
//!
//! They are here, and not in `fuzz/`, so that an ordinary test replays every crash that was ever found and the
//! whole corpus on them, without the fuzzer (`tests/tests/fuzz_replay.rs`).
//!
//! *Time* is bounded without a clock wherever something can be counted (values visited, steps of a machine, bytes
//! written); what remains is left to the fuzzer's own limit of ten seconds an input.

pub mod admin;
pub mod assignors;
pub mod batches;
mod broker;
pub mod bytes;
mod client;
pub mod codecs;
pub mod consumer_group;
pub mod corpus;
pub mod frames;
pub mod group;
pub mod input;
mod legacy;
pub mod messages;
pub mod naive_lz4;
pub mod seeds;
mod told;
pub mod traffic;
pub mod transactions;

/// How much work one execution is: decides how many of them are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A decoder: tens of thousands of executions a second.
    Decoder,
    /// A codec.
    Codec,
    /// A state machine.
    Machine,
}

impl Class {
    /// How many executions are wanted before a release.
    pub fn goal(self) -> u64 {
        match self {
            Self::Decoder => 100_000_000,
            Self::Codec | Self::Machine => 10_000_000,
        }
    }
}

/// A fuzz target.
#[derive(Debug)]
pub struct Target {
    /// The name of the binary in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// How much work it is.
    pub class: Class,
    /// What it holds, in one line.
    pub holds: &'static str,
    /// The oracle.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame_split",
        class: Class::Decoder,
        holds: "a stream of frames gives the same answers however it is cut",
        run: frames::split,
    },
    Target {
        name: "resp_decode",
        class: Class::Decoder,
        holds: "no answer of any API and version panics, allocates, or takes more steps than it has bytes",
        run: messages::decode_response,
    },
    Target {
        name: "batch_v2",
        class: Class::Decoder,
        holds: "record batches: offsets increase, progress or an error, and the same as a naive reader",
        run: batches::v2,
    },
    Target {
        name: "batch_legacy",
        class: Class::Decoder,
        holds: "message sets of magic 0 and 1: as a naive reader reads them, and as they were written",
        run: batches::legacy,
    },
    Target {
        name: "batch_lazy",
        class: Class::Decoder,
        holds: "batches read in pieces, from a copy or record by record give what they give at once",
        run: batches::lazy,
    },
    Target {
        name: "resp_round_trip",
        class: Class::Decoder,
        holds: "what is read of a response, written and read again says the same",
        run: messages::response_both_ways,
    },
    Target {
        name: "req_round_trip",
        class: Class::Decoder,
        holds: "what is written of a request is read alike by us and the embedded broker, whose answer is readable",
        run: messages::request_both_ways,
    },
    Target {
        name: "kafka_protocol",
        class: Class::Decoder,
        holds: "messages that kafka-protocol and ottla both read say the same",
        run: messages::against_kafka_protocol,
    },
    Target {
        name: "members",
        class: Class::Decoder,
        holds: "subscriptions and assignments of other members: bounded memory, and read as written",
        run: messages::between_members,
    },
    Target {
        name: "codec_gzip",
        class: Class::Codec,
        holds: "gzip: bounded, and the bytes of zlib",
        run: |data| codecs::gzip(data, None),
    },
    Target {
        name: "codec_snappy",
        class: Class::Codec,
        holds: "snappy, bare and framed: bounded, and the bytes of a naive reader",
        run: codecs::snappy,
    },
    Target {
        name: "codec_lz4",
        class: Class::Codec,
        holds: "lz4 frames: bounded, and the bytes of a naive reader and of liblz4",
        run: |data| codecs::lz4(data, None),
    },
    Target {
        name: "codec_zstd",
        class: Class::Codec,
        holds: "zstd frames: bounded, and the bytes of libzstd",
        run: |data| codecs::zstd(data, None),
    },
    Target {
        name: "read_committed",
        class: Class::Machine,
        holds: "the filter of aborted transactions is the model that looks at everything before",
        run: transactions::read_committed,
    },
    Target {
        name: "assignors",
        class: Class::Machine,
        holds: "each partition to one member that wants it, whatever members claim; the sticky ones are sticky",
        run: assignors::assign,
    },
    Target {
        name: "group_machine",
        class: Class::Machine,
        holds: "a group's member under any sequence of answers, failures and time: S6, S7, S9, S10, L3",
        run: group::member,
    },
    Target {
        name: "consumer_group_machine",
        class: Class::Machine,
        holds: "the same of KIP-848: owned, told and wanted agree, epochs never go back, leaving ends: S6, S7, S9, S10, L2-L4",
        run: consumer_group::member,
    },
    Target {
        name: "admin_machine",
        class: Class::Machine,
        holds: "an administrator: each call has one outcome in time and a result for each item, whatever brokers say",
        run: admin::administrator,
    },
    Target {
        name: "fetch_machine",
        class: Class::Machine,
        holds: "a whole client against a broker that is honest or lies in its fields: S1-S3, S6, R1, R3, L1-L3",
        run: bytes::answers,
    },
    Target {
        name: "e2e_bytes",
        class: Class::Machine,
        holds: "a whole client against any bytes: S2, S6, R1, R3, L2, L3",
        run: bytes::script,
    },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
