//! `--planted` without the feature `planted`: `cargo xtask sim` builds with it where it is asked for.

use super::cli::Planted;

const OFF: &str = "this program was built without the feature `planted`: cargo xtask sim --planted";

pub(super) fn plant_one(_asked: &Planted) -> Result<(), String> {
    Err(OFF.to_owned())
}

pub(super) fn main(_asked: &Planted, _seeds: std::ops::Range<u64>, _jobs: usize) -> Result<(), String> {
    Err(OFF.to_owned())
}
