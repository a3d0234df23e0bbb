//! The driver on a network in memory and on virtual time: every future dropped at every point, the end at every point
//! and in any weather, and the same seed gives the same bytes.
#![allow(unreachable_pub, reason = "the modules of a test program share what they have")]

mod cancel;
mod cancel_admin;
mod cancel_calls;
mod cancel_tasks;
mod endings;
mod harness;
mod history;
#[path = "../common/net.rs"]
mod net;
mod public;
mod runtimes;
mod stuck;
mod trace;
