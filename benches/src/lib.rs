//! Benchmarks of ottla next to a raw socket and its peers: `cargo xtask bench`.
//!
//! `ottla-bench` (`src/bin/bench/`) starts Kafka, fills topics and runs the clients, each as a process of its own: the
//! programs under `src/bin/`, and those under `peers/` in other languages. A client gets a [`Job`] as its argument and
//! prints one line of JSON.

pub mod alloc;
pub mod data;
pub mod fill;
pub mod floor;
pub mod job;
pub mod latency;
pub mod measure;
pub mod steady;
pub mod walk;

pub use job::Job;
pub use latency::Latencies;
pub use measure::{Meter, Touch};

/// What can go wrong here ends the program that it happens in.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
