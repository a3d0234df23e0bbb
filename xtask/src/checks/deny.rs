//! `cargo deny` with deny.toml.

use std::path::PathBuf;

use crate::checks::Skipped;
use crate::command::{cargo, command, output, run, target_dir};

/// Pinned, so that a new release of the tool cannot break a build.
const VERSION: &str = "0.20.2";

pub(crate) fn check() -> Result<Skipped, String> {
    let program = program()?;
    run(&mut command(&program.to_string_lossy(), &["check", "bans", "licenses", "sources"]))?;
    Ok(None)
}

/// The one of the path if there is one, else one that is installed under the target folder and stays there.
fn program() -> Result<PathBuf, String> {
    if output(&mut command("cargo-deny", &["--version"])).is_ok() {
        return Ok("cargo-deny".into());
    }
    let tools = target_dir().join("tools");
    let program = tools.join("bin").join("cargo-deny");
    let installed = output(&mut command(&program.to_string_lossy(), &["--version"]));
    if installed.is_ok_and(|text| text.contains(VERSION)) {
        return Ok(program);
    }
    // Without optimization: it is built in half the time and runs for a second.
    println!("installing cargo-deny {VERSION} under {}", tools.display());
    let root = tools.to_string_lossy();
    let install =
        ["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--quiet", "--root", &root];
    run(cargo(&install).env("CARGO_TARGET_DIR", tools.join("build")))?;
    // Only the program is needed again.
    let _ = std::fs::remove_dir_all(tools.join("build"));
    Ok(program)
}
