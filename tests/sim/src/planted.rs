//! `cargo xtask sim --planted`: bugs on purpose, each run until a seed fails because of it. What survives is a hole in
//! the oracle.
//!
//! A seed that fails without the bug, too, is no catch. The table of the last full run is `docs/planted-bugs.md`;
//! `--check` holds that everything in it is still caught.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ottla_core::planted::{Bug, hits, plant};

use super::cli::Planted;
use super::oracle::Violation;
use super::seed::{Spec, run};
use super::trace::Trace;

mod rows;

use rows::{ROWS, UNSEEN};

/// How many beyond the seed of the table `--check` tries: seeds change their meaning whenever the simulator does.
const DRIFT: u64 = 2_000;

/// A bug: its row in the list of historic bugs, and what it does.
type Known = (Bug, &'static str, &'static str);

/// What became of one bug.
#[derive(Debug)]
struct Hunt {
    bug: Known,
    /// The first seed that fails because of it, and how.
    caught: Option<(u64, Violation)>,
    /// How many seeds were run, that one included.
    seeds: u64,
    /// How often its branch was executed in them, and in how many.
    hits: u64,
    hit_seeds: u64,
    /// Seeds that fail without it.
    innocent: Vec<u64>,
}

fn name(bug: Known) -> String {
    format!("{:?}", bug.0)
}

fn chosen(names: &[String]) -> Result<Vec<Known>, String> {
    if names.is_empty() || names == ["all"] {
        return Ok(Bug::ALL.to_vec());
    }
    let known = |wanted: &String| {
        let found = Bug::ALL.iter().copied().find(|bug| name(*bug) == *wanted);
        found.ok_or_else(|| {
            let all: Vec<String> = Bug::ALL.iter().copied().map(name).collect();
            format!("there is no bug {wanted:?}; there are {}", all.join(", "))
        })
    };
    names.iter().map(known).collect()
}

/// From now on this thread's clients have the one bug that is named.
///
/// # Errors
/// It is not one, or there is none of this name.
pub(super) fn plant_one(asked: &Planted) -> Result<(), String> {
    match chosen(&asked.names)?.as_slice() {
        [bug] => {
            plant(Some(bug.0));
            Ok(())
        }
        _ => Err("a trace is of one bug: --planted NAME".to_owned()),
    }
}

/// Runs the bugs that are asked for.
///
/// # Errors
/// One survives, its branch is never executed, or the table is not what it was.
pub(super) fn main(asked: &Planted, seeds: std::ops::Range<u64>, jobs: usize) -> Result<(), String> {
    let bugs = chosen(&asked.names)?;
    // Bugs panic; what the oracle says is enough.
    std::panic::set_hook(Box::new(|_| {}));
    if asked.check {
        return check(&bugs, jobs);
    }
    let begun = Instant::now();
    let mut hunts = Vec::new();
    for bug in bugs {
        let hunt = hunt(bug, seeds.clone(), jobs);
        println!("{}", line(&hunt));
        hunts.push(hunt);
    }
    println!("{} bugs in {:.0} s", hunts.len(), begun.elapsed().as_secs_f64());
    if asked.docs {
        let before = std::fs::read_to_string(table_path()).unwrap_or_default();
        std::fs::write(table_path(), table(&hunts, &before)?)
            .map_err(|e| format!("cannot write {}: {e}", table_path().display()))?;
    }
    verdict(&hunts)
}

fn verdict(hunts: &[Hunt]) -> Result<(), String> {
    let which = |wrong: fn(&Hunt) -> bool| -> Vec<String> {
        hunts.iter().filter(|h| wrong(h)).map(|h| name(h.bug)).collect()
    };
    let never = which(|h| h.hits == 0);
    let survived = which(|h| h.hits > 0 && h.caught.is_none());
    match (never.is_empty(), survived.is_empty()) {
        (true, true) => Ok(()),
        _ => Err(format!("survived: {survived:?}; never executed: {never:?}")),
    }
}

/// Runs seeds until one fails because of the bug.
fn hunt(bug: Known, seeds: std::ops::Range<u64>, jobs: usize) -> Hunt {
    let next = AtomicU64::new(seeds.start);
    let first = AtomicU64::new(u64::MAX);
    let found: Mutex<Vec<Found>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // Lower ones than the one that fails are finished: the answer does not depend on threads.
                    if seed >= seeds.end || seed > first.load(Ordering::Relaxed) {
                        return;
                    }
                    let one = try_seed(bug, seed);
                    if one.is_caught() {
                        first.fetch_min(seed, Ordering::Relaxed);
                    }
                    found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_unstable_by_key(|f| f.seed);
    let caught = found.iter().position(Found::is_caught);
    found.truncate(caught.map_or(found.len(), |at| at + 1));
    Hunt {
        bug,
        seeds: found.len() as u64,
        hits: found.iter().map(|f| f.hits).sum(),
        hit_seeds: found.iter().filter(|f| f.hits > 0).count() as u64,
        innocent: found.iter().filter(|f| f.innocent).map(|f| f.seed).collect(),
        caught: found.pop().and_then(|f| Some((f.seed, f.violation.filter(|_| !f.innocent)?))),
    }
}

/// What one seed said.
struct Found {
    seed: u64,
    violation: Option<Violation>,
    hits: u64,
    /// It fails without the bug as well.
    innocent: bool,
}

impl Found {
    fn is_caught(&self) -> bool {
        self.violation.is_some() && !self.innocent
    }
}

fn try_seed(bug: Known, seed: u64) -> Found {
    let spec = Spec { seed, scenario: None, jepsen: false, faults: None, consumer: false };
    plant(Some(bug.0));
    let violation = run(&spec, Trace::default()).0.violation;
    let hits = hits();
    plant(None);
    let innocent = violation.is_some() && run(&spec, Trace::default()).0.violation.is_some();
    Found { seed, violation, hits, innocent }
}

fn line(hunt: &Hunt) -> String {
    let Hunt { seeds, hits, hit_seeds, innocent, .. } = hunt;
    let executed = format!("executed {hits} times in {hit_seeds} of {seeds} seeds");
    let mut text = match &hunt.caught {
        Some((seed, violation)) => {
            let violation: String = violation.to_string().chars().take(110).collect();
            format!("{:<24} seed {seed:>5}, {executed}: {violation}", name(hunt.bug))
        }
        None => format!("{:<24} SURVIVED, {executed}", name(hunt.bug)),
    };
    if !innocent.is_empty() {
        let _ = write!(text, " (not counted, they fail without it: {innocent:?})");
    }
    text
}

/// The invariant that saw it. A panic or a loop that ends the run is none of the oracle's.
fn rule(violation: &Violation) -> &'static str {
    match violation.invariant {
        "R2" => "(panic)",
        "L3" if violation.text.starts_with("time stands still") => "(loop)",
        invariant => invariant,
    }
}

fn table_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/planted-bugs.md")
}

/// The seeds of the table, by bug.
fn known_seeds(text: &str) -> Vec<(String, u64)> {
    let cells = |line: &str| -> Option<(String, u64)> {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.nth(3)?.parse().ok()?))
    };
    text.lines().filter_map(cells).collect()
}

/// Holds that every bug of the table is still caught, and that the table has them all.
fn check(bugs: &[Known], jobs: usize) -> Result<(), String> {
    let text = std::fs::read_to_string(table_path())
        .map_err(|e| format!("cannot read {}: {e}", table_path().display()))?;
    let known = known_seeds(&text);
    let again = "run cargo xtask sim --planted all --docs";
    let mut hunts = Vec::new();
    for bug in bugs {
        let Some((_, seed)) = known.iter().find(|(n, _)| *n == name(*bug)) else {
            return Err(format!("{} is not in docs/planted-bugs.md: {again}", name(*bug)));
        };
        let mut hunt = self::hunt(*bug, *seed..*seed + 1, 1);
        if hunt.caught.is_none() {
            hunt = self::hunt(*bug, 0..DRIFT, jobs);
            println!("{} (the table says {seed})", line(&hunt));
        }
        hunts.push(hunt);
    }
    if known.len() != Bug::ALL.len() {
        return Err(format!("docs/planted-bugs.md has bugs that are no more: {again}"));
    }
    println!("{} planted bugs are caught", hunts.iter().filter(|h| h.caught.is_some()).count());
    verdict(&hunts)
}

const SURVIVED: &str = "**survived";

fn table_line(hunt: &Hunt) -> String {
    let (_, row, what) = hunt.bug;
    let (seeds, seed, rule) = match &hunt.caught {
        Some((seed, violation)) => (hunt.seeds.to_string(), seed.to_string(), rule(violation)),
        None => (format!("{SURVIVED} {}**", hunt.seeds), "–".to_owned(), "–"),
    };
    let row = if row == "-" { "–" } else { row };
    format!("| `{}` | {row} | {what} | {seeds} | {seed} | {rule} | {} |", name(hunt.bug), hunt.hits)
}

/// The table with these hunts; all others are as they were `before`.
fn table(hunts: &[Hunt], before: &str) -> Result<String, String> {
    let mut text = String::from(
        "# Planted bugs\n\n\
         Written by `cargo xtask sim --planted all --docs`; do not edit. Each bug is planted alone, and seeds of the full mix \
         run from 0 on until one fails because of it (without the bug it holds). *Rule* is the invariant that said so \
         (`tests/sim/src/oracle/invariants.rs`), in brackets where the run ended before the oracle could say anything, *executed* how often the planted branch was executed in these seeds. \
         CI holds that each is still caught. Replay one with \
         `cargo xtask sim --planted NAME --seeds SEED --trace`.\n\n\
         | bug | row | what it does | seeds until caught | seed | rule | executed |\n\
         |---|---|---|--:|--:|---|--:|\n",
    );
    let mut caught = 0;
    for bug in Bug::ALL.iter().copied() {
        let line = match hunts.iter().find(|hunt| hunt.bug == bug) {
            Some(hunt) => table_line(hunt),
            // What was not hunted now is as it was.
            None => {
                let start = format!("| `{}` |", name(bug));
                let line = before.lines().find(|line| line.starts_with(&start));
                line.ok_or_else(|| format!("{} was never hunted: --planted all --docs", name(bug)))?
                    .to_owned()
            }
        };
        caught += u32::from(!line.contains(SURVIVED));
        text += &line;
        text.push('\n');
    }
    let of_row = |number: &str| -> Vec<String> {
        let bugs = Bug::ALL.iter().copied().filter(|bug| bug.1.split('/').any(|row| row == number));
        bugs.map(|bug| format!("`{}`", name(bug))).collect()
    };
    let rows = ROWS.iter().filter(|(row, ..)| !of_row(row).is_empty()).count();
    let _ = write!(
        text,
        "\n{caught} of {} are caught; {rows} of the {} rows are planted.\n\n\
         ## Rows\n\nWhat other clients have had. A row without a bug here says why.\n\n\
         | row | bug | here |\n|--:|---|---|\n",
        Bug::ALL.len(),
        ROWS.len()
    );
    for (row, what, why) in ROWS {
        let bugs = of_row(row);
        let here = if bugs.is_empty() { (*why).to_owned() } else { bugs.join(", ") };
        let _ = writeln!(text, "| {row} | {what} | {here} |");
    }
    text += "\n## Not planted\n\nWhat survives, or would, because nobody outside could tell.\n\n| bug | why |\n|---|---|\n";
    for (what, why) in UNSEEN {
        let _ = writeln!(text, "| {what} | {why} |");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let bug = Bug::ALL[0];
        let violation = Violation { invariant: "S8", text: "too far".to_owned() };
        let caught = Some((4711, violation));
        let hunts = [Hunt { bug, caught, seeds: 12, hits: 3, hit_seeds: 2, innocent: vec![7] }];
        assert_eq!(known_seeds(&table_line(&hunts[0])), [(name(bug), 4711)]);
        assert_eq!(verdict(&hunts), Ok(()));
    }

    #[test]
    fn what_is_not_hunted_again_keeps_its_line() {
        let all: Vec<Hunt> = Bug::ALL
            .to_vec()
            .into_iter()
            .map(|bug| Hunt { bug, caught: None, seeds: 9, hits: 3, hit_seeds: 2, innocent: vec![] })
            .collect();
        let before = table(&all, "").expect("all were hunted");
        assert!(before.contains("\n0 of "), "{before}");
        let violation = Violation { invariant: "S8", text: String::new() };
        let first = Hunt {
            bug: all[0].bug,
            caught: Some((7, violation)),
            seeds: 8,
            hits: 3,
            hit_seeds: 2,
            innocent: vec![],
        };
        let after = table(&[first], &before).expect("the others are there");
        assert!(after.contains("\n1 of "), "{after}");
        assert_eq!(known_seeds(&after), [(name(all[0].bug), 7)]);
        assert!(table(&[], "").is_err(), "nobody was ever hunted");
    }

    #[test]
    fn a_bug_that_survives_or_is_never_executed_is_an_error() {
        let bug = Bug::ALL[0];
        let survivor = Hunt { bug, caught: None, seeds: 9, hits: 3, hit_seeds: 2, innocent: vec![] };
        assert!(verdict(&[survivor]).is_err_and(|e| e.starts_with("survived: [\"CommitPosition\"]")));
        let never = Hunt { bug, caught: None, seeds: 9, hits: 0, hit_seeds: 0, innocent: vec![] };
        assert!(verdict(&[never]).is_err_and(|e| e.ends_with("never executed: [\"CommitPosition\"]")));
    }

    #[test]
    fn every_row_of_a_bug_is_a_row() {
        for (bug, row, _) in Bug::ALL {
            for row in row.split('/').filter(|row| *row != "-") {
                assert!(ROWS.iter().any(|(known, ..)| *known == row), "{bug:?}: {row}");
            }
        }
    }
}
