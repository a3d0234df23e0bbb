//! `cargo xtask sim --planted`: bugs on purpose, each run until a seed fails because of it. What survives is a hole in
//! the oracle.
//!
//! A seed that fails without the bug, too, is no catch. The table of the last full run is `docs/planted-bugs.md`;
//! `--check` holds that everything in it is still caught.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ottla_core::planted::{Bug, Members, hits, plant};

use super::cli::Planted;
use super::oracle::Violation;
use super::seed::{Spec, run};
use super::trace::Trace;

mod rows;

use rows::{OPEN, ROWS, UNSEEN};

/// How many beyond the seed of the table `--check` tries: seeds change their meaning whenever the simulator does.
const DRIFT: u64 = 2_000;

/// A bug: its row in the list of historic bugs, and what it does.
type Known = (Bug, &'static str, &'static str);

/// Members of which protocol a simulation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mix {
    Classic,
    Consumer,
}

impl Mix {
    const ALL: [Self; 2] = [Self::Classic, Self::Consumer];

    /// Those in which a bug can be.
    fn of(bug: Bug) -> Vec<Self> {
        let has = |mix: &Self| match bug.members() {
            Members::Both => true,
            Members::Classic => *mix == Self::Classic,
            Members::Consumer => *mix == Self::Consumer,
        };
        Self::ALL.into_iter().filter(has).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// What became of one bug in one mix.
#[derive(Debug)]
struct Hunt {
    bug: Known,
    mix: Mix,
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

/// All that are to be caught.
fn all() -> Vec<Known> {
    Bug::ALL.iter().copied().filter(|bug| !OPEN.contains(&bug.0)).collect()
}

fn chosen(names: &[String]) -> Result<Vec<Known>, String> {
    if names.is_empty() || names == ["all"] {
        return Ok(all());
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
    for (bug, mix) in in_mixes(&bugs) {
        if asked.consumer && mix == Mix::Classic {
            continue;
        }
        let hunt = hunt((bug, mix), seeds.clone(), jobs);
        println!("{}", line(&hunt));
        hunts.push(hunt);
    }
    println!("{} hunts in {:.0} s", hunts.len(), begun.elapsed().as_secs_f64());
    if asked.docs {
        let before = std::fs::read_to_string(table_path()).unwrap_or_default();
        std::fs::write(table_path(), table(&hunts, &before)?)
            .map_err(|e| format!("cannot write {}: {e}", table_path().display()))?;
    }
    verdict(&hunts)
}

/// Each bug in all the mixes that it can be in.
fn in_mixes(bugs: &[Known]) -> Vec<(Known, Mix)> {
    bugs.iter().flat_map(|bug| Mix::of(bug.0).into_iter().map(|mix| (*bug, mix))).collect()
}

fn verdict(hunts: &[Hunt]) -> Result<(), String> {
    let which = |wrong: fn(&Hunt) -> bool| -> Vec<String> {
        let bug = |h: &Hunt| format!("{} ({})", name(h.bug), h.mix.name());
        hunts.iter().filter(|h| wrong(h)).map(bug).collect()
    };
    let never = which(|h| h.hits == 0);
    let survived = which(|h| h.hits > 0 && h.caught.is_none());
    match (never.is_empty(), survived.is_empty()) {
        (true, true) => Ok(()),
        _ => Err(format!("survived: {survived:?}; never executed: {never:?}")),
    }
}

/// Runs seeds until one fails because of the bug.
fn hunt((bug, mix): (Known, Mix), seeds: std::ops::Range<u64>, jobs: usize) -> Hunt {
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
                    let one = try_seed((bug, mix), seed);
                    if one.is_caught() {
                        first.fetch_min(seed, Ordering::Relaxed);
                    }
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|f| f.seed);
    let caught = found.iter().position(Found::is_caught);
    found.truncate(caught.map_or(found.len(), |at| at + 1));
    Hunt {
        bug,
        mix,
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

fn try_seed((bug, mix): (Known, Mix), seed: u64) -> Found {
    let consumer = mix == Mix::Consumer;
    let spec = Spec { seed, scenario: None, jepsen: false, faults: None, consumer };
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
    let bug = format!("{:<24} {:<8}", name(hunt.bug), hunt.mix.name());
    let mut text = match &hunt.caught {
        Some((seed, violation)) => {
            let violation: String = violation.to_string().chars().take(110).collect();
            format!("{bug} seed {seed:>5}, {executed}: {violation}")
        }
        None => format!("{bug} SURVIVED, {executed}"),
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

/// The seeds of the table, by bug and mix.
fn known_seeds(text: &str) -> Vec<(String, Mix, u64)> {
    let seeds = |line: &str| -> Option<Vec<(String, Mix, u64)>> {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let name = cells.first()?.trim_end_matches('`');
        // Behind the row and what it does.
        let of = |mix: &Mix| cells.get(3 + 3 * *mix as usize)?.parse().ok();
        Some(Mix::ALL.iter().filter_map(|mix| Some((name.to_owned(), *mix, of(mix)?))).collect())
    };
    text.lines().filter_map(seeds).flatten().collect()
}

/// Holds that every bug of the table is still caught, and that the table has them all.
fn check(bugs: &[Known], jobs: usize) -> Result<(), String> {
    let text = std::fs::read_to_string(table_path())
        .map_err(|e| format!("cannot read {}: {e}", table_path().display()))?;
    let known = known_seeds(&text);
    let again = "run cargo xtask sim --planted all --docs";
    let mut wanted = Vec::new();
    for (bug, mix) in in_mixes(bugs) {
        let Some((.., seed)) = known.iter().find(|(n, of, _)| *n == name(bug) && *of == mix) else {
            return Err(format!("{} ({}) is not in docs/planted-bugs.md: {again}", name(bug), mix.name()));
        };
        wanted.push((bug, mix, *seed));
    }
    if known.len() != in_mixes(&all()).len() {
        return Err(format!("docs/planted-bugs.md has bugs that are no more: {again}"));
    }
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some((bug, mix, seed)) = wanted.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let hunt = self::hunt((*bug, *mix), *seed..*seed + 1, 1);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(hunt);
                }
            });
        }
    });
    let mut hunts = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for hunt in hunts.iter_mut().filter(|hunt| hunt.caught.is_none()) {
        *hunt = self::hunt((hunt.bug, hunt.mix), 0..DRIFT, jobs);
        println!("{} (the table says otherwise)", line(hunt));
    }
    println!("{} planted bugs are caught", hunts.iter().filter(|h| h.caught.is_some()).count());
    verdict(&hunts)
}

const SURVIVED: &str = "**survived";

/// Of one mix: seed, rule, executed.
fn cells(hunt: Option<&Hunt>) -> String {
    match hunt.map(|hunt| (hunt, &hunt.caught)) {
        Some((hunt, Some((seed, violation)))) => format!("{seed} | {} | {}", rule(violation), hunt.hits),
        Some((hunt, None)) => format!("{SURVIVED} {}** | – | {}", hunt.seeds, hunt.hits),
        None => "– | – | –".to_owned(),
    }
}

fn table_line((bug, row, what): Known, hunts: &[&Hunt]) -> String {
    let row = if row == "-" { "–" } else { row };
    let of = |mix| cells(hunts.iter().find(|hunt| hunt.mix == mix).copied());
    format!("| `{bug:?}` | {row} | {what} | {} | {} |", of(Mix::Classic), of(Mix::Consumer))
}

/// The table with these hunts; all others are as they were `before`.
fn table(hunts: &[Hunt], before: &str) -> Result<String, String> {
    let mut text = String::from(
        "# Planted bugs\n\n\
         Written by `cargo xtask sim --planted all --docs`; do not edit. Each bug is planted alone, and seeds of the full mix \
         run from 0 on until one fails because of it (without the bug it holds): of classic members, and of members of the \
         consumer protocol (KIP-848), wherever the code is that has the bug. *Seed* is that one, *rule* the invariant that said so \
         (`tests/sim/src/oracle/invariants.rs`), in brackets where the run ended before the oracle could say anything, *executed* how often the planted branch was executed in these seeds. \
         CI holds that each is still caught. Replay one with \
         `cargo xtask sim --planted NAME [--consumer] --seeds SEED --trace`.\n\n\
         | bug | row | what it does | classic: seed | rule | executed | KIP-848: seed | rule | executed |\n\
         |---|---|---|--:|---|--:|--:|---|--:|\n",
    );
    let mut caught = 0;
    for known in all() {
        let own: Vec<&Hunt> = hunts.iter().filter(|hunt| hunt.bug == known).collect();
        let line = if own.is_empty() {
            // What was not hunted now is as it was.
            let start = format!("| `{}` |", name(known));
            let line = before.lines().find(|line| line.starts_with(&start));
            line.ok_or_else(|| format!("{} was never hunted: --planted all --docs", name(known)))?.to_owned()
        } else {
            table_line(known, &own)
        };
        caught += u32::from(!line.contains(SURVIVED));
        text += &line;
        text.push('\n');
    }
    let of_row = |number: &str| -> Vec<String> {
        let bugs = all().into_iter().filter(|bug| bug.1.split('/').any(|row| row == number));
        bugs.map(|bug| format!("`{}`", name(bug))).collect()
    };
    let rows = ROWS.iter().filter(|(row, ..)| !of_row(row).is_empty()).count();
    let _ = write!(
        text,
        "\n{caught} of {} are caught; {rows} of the {} rows are planted.\n\n\
         ## Rows\n\nWhat other clients have had. A row without a bug here says why.\n\n\
         | row | bug | here |\n|--:|---|---|\n",
        all().len(),
        ROWS.len()
    );
    for (row, what, why) in ROWS {
        let bugs = of_row(row);
        let here = match (bugs.is_empty(), why.is_empty()) {
            (true, _) => (*why).to_owned(),
            (false, true) => bugs.join(", "),
            (false, false) => format!("{}; {why}", bugs.join(", ")),
        };
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

    fn hunted(bug: Known, mix: Mix, caught: Option<(u64, Violation)>, hits: u64) -> Hunt {
        Hunt { bug, mix, caught, seeds: 9, hits, hit_seeds: hits.min(2), innocent: vec![] }
    }

    fn violation(invariant: &'static str) -> Violation {
        Violation { invariant, text: "too far".to_owned() }
    }

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let bug = Bug::ALL[0];
        let classic = hunted(bug, Mix::Classic, Some((4711, violation("S8"))), 3);
        let consumer = hunted(bug, Mix::Consumer, Some((12, violation("S9"))), 1);
        let line = table_line(bug, &[&classic, &consumer]);
        let seeds = [(name(bug), Mix::Classic, 4711), (name(bug), Mix::Consumer, 12)];
        assert_eq!(known_seeds(&line), seeds);
        assert_eq!(known_seeds(&table_line(bug, &[&consumer])), seeds[1..]);
        assert_eq!(verdict(&[classic, consumer]), Ok(()));
    }

    #[test]
    fn what_is_not_hunted_again_keeps_its_line() {
        let all: Vec<Hunt> =
            in_mixes(&all()).into_iter().map(|(bug, mix)| hunted(bug, mix, None, 3)).collect();
        let before = table(&all, "").expect("all were hunted");
        assert!(before.contains("\n0 of "), "{before}");
        let first = hunted(Bug::ALL[0], Mix::Classic, Some((7, violation("S8"))), 3);
        let after = table(&[first], &before).expect("the others are there");
        assert!(after.contains("\n1 of "), "{after}");
        assert_eq!(known_seeds(&after), [(name(Bug::ALL[0]), Mix::Classic, 7)]);
        assert!(table(&[], "").is_err(), "nobody was ever hunted");
    }

    #[test]
    fn a_bug_that_survives_or_is_never_executed_is_an_error() {
        let bug = Bug::ALL[0];
        let survivor = hunted(bug, Mix::Consumer, None, 3);
        assert!(
            verdict(&[survivor]).is_err_and(|e| e.starts_with("survived: [\"CommitPosition (consumer)\"]"))
        );
        let never = hunted(bug, Mix::Classic, None, 0);
        assert!(
            verdict(&[never]).is_err_and(|e| e.ends_with("never executed: [\"CommitPosition (classic)\"]"))
        );
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
