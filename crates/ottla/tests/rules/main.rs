//! The rules of the API: where a test of its own was missing, it is here.

#[path = "../common/mod.rs"]
mod common;

mod commits;
mod groups;
mod memory;
mod positions;
