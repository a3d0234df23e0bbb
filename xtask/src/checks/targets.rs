//! Other platforms: those we can only compile for, and the one without clock, threads and sockets.

use crate::checks::{Skipped, directions};
use crate::command::{cargo, command, output, run};

/// Windows and macOS: `ottla` compiles.
pub(crate) fn other_systems() -> Result<Skipped, String> {
    let mut skipped = Vec::new();
    for target in ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"] {
        if install(target) {
            run(&mut cargo(&["check", "-p", "ottla", "--locked", "--target", target]))?;
        } else {
            skipped.push(target);
        }
    }
    if skipped.is_empty() {
        Ok(None)
    } else {
        Ok(Some(format!("the target {} cannot be installed here", skipped.join(" and "))))
    }
}

/// wire and core build where there is no operating system.
pub(crate) fn wasm() -> Result<Skipped, String> {
    let target = "wasm32-unknown-unknown";
    if install(target) {
        run(&mut cargo(&["build", "-p", "ottla-wire", "-p", "ottla-core", "--locked", "--target", target]))?;
        return Ok(None);
    }
    directions::check()?;
    Ok(Some(format!("the target {target} cannot be installed here; checked dependencies and words instead")))
}

fn install(target: &str) -> bool {
    let installed = output(&mut command("rustup", &["target", "list", "--installed"]));
    installed.is_ok_and(|list| list.lines().any(|l| l.trim() == target))
        || output(&mut command("rustup", &["target", "add", target])).is_ok()
}
