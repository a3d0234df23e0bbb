//! The directions between our crates, and what the pure ones must not touch.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checks::{Skipped, verdict};
use crate::command::root;
use crate::metadata::Metadata;

/// A crate of ours and what none of its normal or build dependencies may be, at any depth.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("ottla-wire", &["ottla", "ottla-core", "ottla-broker", "kafka-protocol"]),
    ("ottla-wire", &ENTROPY_OR_RUNTIME),
    ("ottla-core", &["ottla", "ottla-broker", "kafka-protocol"]),
    ("ottla-core", &ENTROPY_OR_RUNTIME),
    ("ottla", &["ottla-broker", "kafka-protocol"]),
    // Two implementations of every message meet in every test only as long as the broker has its own.
    ("ottla-broker", &["ottla", "ottla-core"]),
];

const ENTROPY_OR_RUNTIME: [&str; 7] =
    ["tokio", "futures-core", "rand", "rand_core", "fastrand", "getrandom", "uuid"];

/// Words that the pure crates must not contain outside comments and tests. `std::{` would hide the others:
/// `use std::{net::TcpStream, …}`.
const IMPURE: [&str; 11] = [
    "tokio::",
    "std::net",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::{",
    "use std as",
    "SystemTime::now",
    "Instant::now",
    "RandomState",
];

const PURE: [&str; 2] = ["crates/ottla-wire/src", "crates/ottla-core/src"];

pub(crate) fn check() -> Result<Skipped, String> {
    let metadata = Metadata::load()?;
    let mut findings = Vec::new();
    for (name, forbidden) in FORBIDDEN {
        for package in metadata.closure(name) {
            if forbidden.contains(&package.name.as_str()) {
                findings.push(format!("{name} depends on {}", package.name));
            }
        }
    }
    for package in metadata.members().filter(|p| p.published) {
        if package.name != "ottla" && !package.name.starts_with("ottla-") {
            findings.push(format!("{} would be published: set `publish = false`", package.name));
        }
        let file = root().join("crates").join(&package.name).join("src/lib.rs");
        if !read(&file)?.contains("#![forbid(unsafe_code)]") {
            findings.push(format!("{} does not forbid unsafe code", file.display()));
        }
    }
    for folder in PURE {
        for_each_line(&root().join(folder), &mut |place, line| {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{place}: `{word}` in a crate without clock, runtime and I/O"));
            }
        })?;
    }
    for_each_line(&root().join("crates/ottla-broker/src"), &mut |place, line| {
        for rest in line.split("ottla_wire::").skip(1) {
            if !rest.starts_with("records") {
                findings.push(format!("{place}: the broker may use only `ottla_wire::records`"));
            }
        }
    })?;
    verdict(findings)
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))
}

/// Calls `each` with the place and text of every line of code; stops at the tests of a file and skips files of tests.
fn for_each_line(folder: &Path, each: &mut dyn FnMut(&str, &str)) -> Result<(), String> {
    for path in entries(folder)? {
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                for_each_line(&path, each)?;
            }
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".rs") || name.ends_with("tests.rs") {
            continue;
        }
        let text = read(&path)?;
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        for (number, line) in text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]") {
            if !line.trim_start().starts_with("//") {
                each(&format!("{shown}:{}", number + 1), line);
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let context = |e: std::io::Error| format!("cannot read {}: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(context)? {
        paths.push(entry.map_err(context)?.path());
    }
    paths.sort();
    Ok(paths)
}
