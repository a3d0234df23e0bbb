//! No file that nobody can read.

use std::fs;

use crate::checks::{Skipped, verdict};
use crate::command::{command, output, root};

/// Lines after which a file must be split, and after which it should be looked at.
const HARD: usize = 1_000;
const SOFT: usize = 600;

const KINDS: [&str; 6] = [".rs", ".java", ".py", ".msg", ".toml", ".sh"];

pub(crate) fn check() -> Result<Skipped, String> {
    let list = output(&mut command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut findings = Vec::new();
    for name in list.lines().filter(|name| counts(name)) {
        // A file that was deleted and not yet committed is still listed.
        let Ok(text) = fs::read(root().join(name)) else { continue };
        let lines = text.iter().filter(|&&b| b == b'\n').count();
        if lines > HARD {
            findings.push(format!("{name} has {lines} lines, more than {HARD}: split it"));
        } else if lines > SOFT {
            println!("note: {name} has {lines} lines, more than {SOFT}: look for the seam");
        }
    }
    verdict(findings)
}

fn counts(name: &str) -> bool {
    KINDS.iter().any(|kind| name.ends_with(kind))
        && !name.contains("/generated/")
        && !name.contains("/vectors/")
}
