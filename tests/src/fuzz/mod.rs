//! The oracles of the fuzz targets: each takes any bytes and panics when ottla does with them what it must not.
//!
//! They are here, and not in `fuzz/`, so that an ordinary test replays every crash that was ever found and the
//! whole corpus on them, without the fuzzer (`tests/tests/fuzz_replay.rs`).
//!
//! *Time* is bounded without a clock wherever something can be counted (values visited, steps of a machine, bytes
//! written); what remains is left to the fuzzer's own limit of ten seconds an input.

pub mod batches;
pub mod codecs;
pub mod corpus;
pub mod frames;
pub mod input;
pub mod messages;
pub mod seeds;

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
];

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
