//! `cargo deny` with deny.toml.

use crate::checks::Skipped;
use crate::command::{command, run};
use crate::tools::Tool;

const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", asked: &["--version"] };

pub(crate) fn check() -> Result<Skipped, String> {
    let program = DENY.program()?;
    run(&mut command(&program.to_string_lossy(), &["check", "bans", "licenses", "sources"]))?;
    Ok(None)
}
