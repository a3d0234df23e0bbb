//! `cargo xtask fuzz`: builds the targets in `fuzz/`, runs them, and keeps count of executions.
//!
//! Everything that is made while fuzzing is under `target/fuzz`: programs, the growing corpora, inputs that failed
//! (`failed/TARGET-…`) and the log of executions. `--docs` adds that log to `fuzz/executions.txt`, which stays.

mod coverage;
mod docs;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::checks::Skipped;
use crate::command::{cargo, command, output, root, run, target_dir};
use crate::tools::Tool;

const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", asked: &["--version"] };

const USAGE: &str = "\
usage: cargo xtask fuzz <command>

  list                            the targets, what they hold, and executions so far
  smoke [SECONDS [TARGET...]]     every target (or these) for 20 s (or so long), two at a time
  long --hours H [TARGET...]      the targets in turns, those that lack most of their goal first
  replay TARGET FILE...           inputs on the oracle of a target, without the fuzzer
  seed                            fuzz/corpus anew from the golden vectors and what the embedded broker says
  coverage [--grown] [--docs]     lines of the decoders that fuzz/corpus reaches: fails under 95 %; --grown: with what
                                  the fuzzer has added here; --docs writes docs/fuzzing.md
";

/// How long one input may take, and how much memory, before it counts as a failure.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// How long a turn is in a long run.
const TURN: Duration = Duration::from_secs(300);

/// One line of `fuzz list`.
struct Target {
    name: String,
    goal: u64,
    holds: String,
}

pub(crate) fn run_command(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        ["list"] => list(),
        ["smoke"] => smoke(20, &[]),
        ["smoke", seconds, only @ ..] => {
            smoke(seconds.parse().map_err(|_| format!("no number: {seconds}"))?, only)
        }
        ["long", "--hours", hours, only @ ..] => {
            let hours: f64 = hours.parse().map_err(|_| format!("no number: {hours}"))?;
            long(Duration::from_secs_f64(hours * 3600.0), only)
        }
        ["coverage"] => coverage::run(false).map(drop),
        ["coverage", "--grown"] => coverage::run(true).map(drop),
        ["coverage", "--docs"] => docs::write(&coverage::run(false)?),
        ["replay", ..] | ["seed"] => oracles(arguments).map(drop),
        _ => Err(USAGE.to_owned()),
    }
}

/// The check of CI: every target for a short time.
pub(crate) fn check() -> Result<Skipped, String> {
    smoke(20, &[]).map(|()| None)
}

/// Runs the program of the oracles, which this one does not link to.
fn oracles(arguments: &[&str]) -> Result<(), String> {
    let fixed = ["run", "--quiet", "--package", "ottla-tests", "--bin", "fuzz", "--"];
    let here = std::env::current_dir().map_err(|e| format!("cannot tell the current folder: {e}"))?;
    run(cargo(&[&fixed, arguments].concat()).current_dir(here))
}

/// The targets, or those of `only`.
fn targets(only: &[&str]) -> Result<Vec<Target>, String> {
    let text =
        output(&mut cargo(&["run", "--quiet", "--package", "ottla-tests", "--bin", "fuzz", "--", "list"]))?;
    let all: Vec<Target> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\t');
            let (name, goal, holds) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Target { name: name.to_owned(), goal: goal.parse().ok()?, holds: holds.to_owned() })
        })
        .collect();
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|t| t.name == **name)) {
        return Err(format!("there is no target {unknown:?}: see `cargo xtask fuzz list`"));
    }
    Ok(all.into_iter().filter(|t| only.is_empty() || only.contains(&t.name.as_str())).collect())
}

fn folder() -> PathBuf {
    target_dir().join("fuzz")
}

/// Builds every target; gives the folder of the programs. On nightly if there is one, else on the present
/// toolchain as if it were nightly.
fn build() -> Result<PathBuf, String> {
    let program = CARGO_FUZZ.program()?;
    let folder = folder();
    let target = folder.to_string_lossy();
    let triple = triple()?;
    let mut build = command(&program.to_string_lossy(), &["build", "-s", "none", "--target", &triple]);
    build.args(["--target-dir", &target]).current_dir(root().join("fuzz"));
    run(on_nightly(&mut build))?;
    Ok(folder.join(triple).join("release"))
}

/// Nightly where there is one, else the present toolchain as if it were.
fn on_nightly(command: &mut std::process::Command) -> &mut std::process::Command {
    let toolchains = output(&mut self::command("rustup", &["toolchain", "list"])).unwrap_or_default();
    // Rustup reads which toolchain it is to be, unless somebody before it has already said so.
    command.env_remove("CARGO").env_remove("RUSTC").env_remove("CARGO_TARGET_DIR");
    if toolchains.lines().any(|line| line.starts_with("nightly")) {
        command.env("RUSTUP_TOOLCHAIN", "nightly")
    } else {
        command.env("RUSTC_BOOTSTRAP", "1")
    }
}

fn triple() -> Result<String, String> {
    let text = output(&mut command("rustc", &["-vV"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not tell its host".to_owned())
}

/// A run of one target.
struct Run {
    target: String,
    seconds: u64,
    child: std::process::Child,
    log: PathBuf,
}

/// Starts a target for so many seconds on the corpus under `target/fuzz`, to which the repo's is added.
fn start(programs: &Path, target: &Target, seconds: u64) -> Result<Run, String> {
    let io = |e: std::io::Error| format!("{}: {e}", target.name);
    let corpus = folder().join("corpus").join(&target.name);
    let text = corpus.to_string_lossy();
    output(&mut cargo(&[
        "run",
        "--quiet",
        "--package",
        "ottla-tests",
        "--bin",
        "fuzz",
        "--",
        "unpack",
        &target.name,
        &text,
    ]))?;
    let failed = folder().join("failed");
    std::fs::create_dir_all(&failed).map_err(io)?;
    let log = folder().join(format!("{}.log", target.name));
    let out = std::fs::File::create(&log).map_err(io)?;
    let mut child = command(&programs.join(&target.name).to_string_lossy(), &LIMITS);
    child
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{}-", failed.display(), target.name))
        .args(["-print_final_stats=1", "-reload=0"])
        .arg(&corpus)
        .stdout(Stdio::null())
        .stderr(out);
    let child = child.spawn().map_err(io)?;
    Ok(Run { target: target.name.clone(), seconds, child, log })
}

impl Run {
    /// Waits for its end, prints and logs what came of it.
    fn finish(mut self, commit: &str) -> Result<u64, String> {
        let status = self.child.wait().map_err(|e| format!("{}: {e}", self.target))?;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let stat = |name: &str| {
            let line = text.lines().rev().find_map(|line| line.strip_prefix(&format!("stat::{name}:")));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let executions = stat("number_of_executed_units");
        let corpus = std::fs::read_dir(folder().join("corpus").join(&self.target)).map_or(0, Iterator::count);
        let line = format!(
            "{:<18} {executions:>12} executions in {:>5} s  {:>8} a second  {corpus:>6} inputs  {}",
            self.target,
            self.seconds,
            stat("average_exec_per_sec"),
            if status.success() { "ok" } else { "FAILED" },
        );
        println!("{line}");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder().join("executions.log"));
        let mut log = log.map_err(|e| format!("the log: {e}"))?;
        writeln!(log, "{commit} {line}").map_err(|e| format!("the log: {e}"))?;
        if status.success() {
            return Ok(executions);
        }
        let tail: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let tail = tail[tail.len().saturating_sub(40)..].join("\n");
        Err(format!(
            "{tail}\n{} failed. The input is in {}; `cargo xtask fuzz replay {} FILE` runs it alone. Once it is \
             understood, move it to fuzz/crashes/{}/ under a name that says what it is: the tests replay it.",
            self.target,
            folder().join("failed").display(),
            self.target,
            self.target
        ))
    }
}

fn commit() -> String {
    let text = output(&mut command("git", &["rev-parse", "--short", "HEAD"]));
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn smoke(seconds: u64, only: &[&str]) -> Result<(), String> {
    let targets = targets(only)?;
    let programs = build()?;
    let commit = commit();
    let mut failures = Vec::new();
    for pair in targets.chunks(2) {
        let runs: Vec<Run> =
            pair.iter().map(|target| start(&programs, target, seconds)).collect::<Result<_, _>>()?;
        for run in runs {
            match run.finish(&commit) {
                Ok(0) => failures.push("a target was not executed once".to_owned()),
                Ok(_) => {}
                Err(error) => failures.push(error),
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n")) }
}

/// Executions of `target` so far: those that are written down, and those of the log.
fn executed(target: &str) -> u64 {
    let all = docs::executions();
    all.iter().filter(|((name, _), _)| name == target).map(|(_, count)| count).sum()
}

fn list() -> Result<(), String> {
    for target in targets(&[])? {
        println!(
            "{:<18} {:>12} of {:>11}  {}",
            target.name,
            executed(&target.name),
            target.goal,
            target.holds
        );
    }
    Ok(())
}

fn long(time: Duration, only: &[&str]) -> Result<(), String> {
    let targets = targets(only)?;
    let programs = build()?;
    let commit = commit();
    let end = Instant::now() + time;
    let mut failures = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(TURN).as_secs();
        let share = |t: &Target| executed(&t.name) as f64 / t.goal as f64;
        let open = targets.iter().filter(|t| !failed.contains(&t.name.as_str()));
        let Some(target) = open.min_by(|a, b| share(a).total_cmp(&share(b))).filter(|_| left > 0) else {
            break;
        };
        if let Err(error) = start(&programs, target, left)?.finish(&commit) {
            println!("{error}");
            failures.push(error);
            failed.push(&target.name);
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n")) }
}
