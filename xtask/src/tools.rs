//! Cargo's own tools, installed once under the target folder.

use std::path::PathBuf;

use crate::command::{cargo, command, output, run, target_dir};

/// A tool, pinned so that a new release of it cannot break a build.
pub(crate) struct Tool {
    /// Its crate and its program.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// How it tells its version.
    pub(crate) asked: &'static [&'static str],
}

impl Tool {
    /// The program of the path if there is one, else one that is installed under the target folder and stays there.
    pub(crate) fn program(&self) -> Result<PathBuf, String> {
        let Self { name, version, asked } = *self;
        if output(&mut command(name, asked)).is_ok() {
            return Ok(name.into());
        }
        let tools = target_dir().join("tools");
        let program = tools.join("bin").join(name);
        let installed = output(&mut command(&program.to_string_lossy(), asked));
        if installed.is_ok_and(|text| text.contains(version)) {
            return Ok(program);
        }
        // Without optimization: it is built in half the time and runs for a second.
        println!("installing {name} {version} under {}", tools.display());
        let root = tools.to_string_lossy();
        let install =
            ["install", name, "--version", version, "--locked", "--debug", "--quiet", "--root", &root];
        run(cargo(&install).env("CARGO_TARGET_DIR", tools.join("build")))?;
        // Only the program is needed again.
        let _ = std::fs::remove_dir_all(tools.join("build"));
        Ok(program)
    }
}
