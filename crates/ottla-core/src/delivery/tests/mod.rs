//! One test per rule of the design that this module decides.

mod ahead;
mod commits;
mod done;
mod errors;
mod fetching;
mod liveness;
mod marks;
mod memory;
mod model;
mod partitioned;
mod questions;
mod reading;
mod rebalance;
mod strips;
mod support;
mod truncation;
