//! What happens around the clients: producers that write, users that read, commit, seek, pause, leave and crash.

mod given;
mod hand;
mod produce;
mod user;

pub(super) use hand::{Hand, key};
pub(super) use produce::Producer;
pub(super) use user::{Commits, Reads, Style, User};
