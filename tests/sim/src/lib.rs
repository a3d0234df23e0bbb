//! Client cores and the embedded broker's core in one process, over a seeded virtual network on virtual time.
//!
//! Nothing here sleeps and nothing here is random but the seed: latency, where bytes are cut, what goes wrong. The
//! same seed gives the same run.
//!
//! - [`World`] is what runs: brokers, clients, the network between them. Tests drive it by hand.
//! - [`seed`] runs one seed of the simulator on it: a plan of [`faults`], users who do anything at any time
//!   (`workload`), and an [`oracle`] with a ghost state of its own.
//! - [`cli`] is `cargo xtask sim`.

pub mod cli;
pub mod coverage;
pub mod faults;
pub mod jepsen;
mod link;
mod member;
pub mod meter;
mod network;
pub mod oracle;
#[cfg_attr(not(feature = "planted"), path = "planted/off.rs")]
mod planted;
pub mod seed;
mod shrink;
mod tamper;
mod trace;
mod workload;
mod world;

pub use member::{Member, Seen};
pub use network::{Condition, Way, Weather};
pub use tamper::{Answer, Lie};
pub use trace::Trace;
pub use world::{MemberId, World};
