//! What was reached, written down: executions by target and commit, and a document of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::coverage::Coverage;
use super::{folder, targets};
use crate::command::root;

/// Executions by target and commit.
type Executions = BTreeMap<(String, String), u64>;

/// The record: commit, target and executions, a line each; the latest commit last.
fn record() -> PathBuf {
    root().join("fuzz/executions.txt")
}

/// The lines of the record, in order, and behind them those of the log here, which begin alike.
fn lines() -> Vec<(String, String, u64)> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let text = read(record()) + &read(folder().join("executions.log"));
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (commit, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((commit, target, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// All executions that are known.
pub(super) fn executions() -> Executions {
    let mut sums = Executions::new();
    for (commit, target, count) in lines() {
        *sums.entry((target, commit)).or_default() += count;
    }
    sums
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(",")
}

/// How many inputs there are that once failed.
fn crashes() -> usize {
    let folders = std::fs::read_dir(root().join("fuzz/crashes")).into_iter().flatten().flatten();
    folders.map(|folder| std::fs::read_dir(folder.path()).map_or(0, Iterator::count)).sum()
}

/// Moves the log into the record, and writes `docs/fuzzing.md`.
pub(super) fn write(coverage: &Coverage) -> Result<(), String> {
    let mut commits: Vec<String> = Vec::new();
    for (commit, _, _) in lines() {
        if !commits.contains(&commit) {
            commits.push(commit);
        }
    }
    let sums = executions();
    let targets = targets(&[])?;
    let mut text = String::new();
    for commit in &commits {
        for ((target, _), count) in sums.iter().filter(|((_, of), _)| of == commit) {
            let _ = writeln!(text, "{commit} {target} {count}");
        }
    }
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    write(record(), &text)?;
    // What is written down is not counted twice.
    let _ = std::fs::remove_file(folder().join("executions.log"));

    let mut page = String::from(
        "# Fuzzing\n\n<!-- Written by `cargo xtask fuzz coverage --docs`. -->\n\nEvery target, what it holds, how often it \
         was executed, and on which commits (the latest first). The figures are those of `fuzz/executions.txt`: what was run \
         and not written down is not in them. An oracle that was sharpened starts at nothing in truth; the commits tell.\n\n",
    );
    let _ = writeln!(
        page,
        "The corpora in `fuzz/corpus` alone reach **{:.2} %** of the lines of the decoders ({} of {}), and have to reach 95 % \
         (`cargo xtask fuzz coverage` fails otherwise). `fuzz/crashes` holds {} inputs that once failed: every test run \
         replays them.\n",
        coverage.percent(),
        grouped(coverage.reached),
        grouped(coverage.lines),
        crashes()
    );
    page.push_str("| target | holds | executions | goal | on |\n|---|---|---:|---:|---|\n");
    for target in targets {
        let of: Vec<(&String, u64)> = commits
            .iter()
            .rev()
            .filter_map(|c| Some((c, *sums.get(&(target.name.clone(), c.clone()))?)))
            .collect();
        let sum = of.iter().map(|(_, count)| count).sum();
        let on: Vec<String> =
            of.iter().map(|(commit, count)| format!("`{commit}` {}", grouped(*count))).collect();
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} |",
            target.name,
            target.holds,
            grouped(sum),
            grouped(target.goal),
            on.join(", ")
        );
    }
    write(root().join("docs/fuzzing.md"), &page)?;
    println!("docs/fuzzing.md is written");
    Ok(())
}
