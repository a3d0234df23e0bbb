//! `cargo xtask ci`: every check, each with its time. `.ci/run` calls it.

use std::time::{Duration, Instant};

use crate::checks::{Skipped, c_free, deny, directions, lengths, msrv, targets};
use crate::command::{cargo, output, root, run as run_command, run_lines, target_dir};
use crate::fuzz;
use crate::instructions;
use crate::test::{self, Report};

type Check = fn() -> Result<Skipped, String>;

/// Fast ones first; the tests come last, after all of these.
const CHECKS: &[(&str, Check)] = &[
    ("fmt", || command(&["fmt", "--all", "--check"])),
    ("gen", || crate::r#gen::run(true).map(|()| None)),
    ("lengths", lengths::check),
    ("directions", directions::check),
    ("clippy", clippy),
    ("lint-fuzz", lint_fuzz),
    ("lint-peers", lint_peers),
    ("features", features),
    ("doc", doc),
    ("wasm", targets::wasm),
    ("systems", targets::other_systems),
    ("no-c", c_free::check),
    ("msrv", msrv::check),
    ("deny", deny::check),
    ("quickstart", quickstart),
    ("vectors", || crate::vectors(&[]).map(|()| None)),
    ("instructions", instructions::check),
    ("fuzz", fuzz::check),
    // As many as it takes to demand that every fault hits. A full run has 5,000.
    ("sim", || crate::simulator(&["--seeds", "0..1000"]).map(|()| None)),
    ("sim-consumer", || crate::simulator(&["--consumer", "--seeds", "0..100"]).map(|()| None)),
    ("sim-twice", || crate::simulator_twice(&["--seeds", "0..20", "--jobs", "1", "--hash"]).map(|()| None)),
    ("planted", || crate::planted_bugs().map(|()| None)),
];

/// One line of the closing table.
struct Line {
    name: &'static str,
    time: Duration,
    result: Result<Skipped, String>,
}

/// Runs all checks and then the tests, or only the checks named in `only`.
pub(crate) fn run(only: &[&str]) -> Result<(), String> {
    let known = |name: &&str| *name == "test" || CHECKS.iter().any(|(check, _)| check == name);
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no check {unknown:?}; there are {}, test", names.join(", ")));
    }
    let wanted = |name: &str| only.is_empty() || only.contains(&name);
    let mut lines = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = check();
        if let Err(error) = &result {
            println!("{error}");
        }
        lines.push(Line { name, time: start.elapsed(), result });
    }
    let mut report = Report::default();
    if wanted("test") {
        println!("\n== test");
        let start = Instant::now();
        let result = test::run().map(|r| report = r);
        let time = start.elapsed();
        let result = match result {
            Ok(()) if report.failures.is_empty() => Ok(None),
            Ok(()) => Err("tests failed".to_owned()),
            Err(error) => Err(error),
        };
        lines.push(Line { name: "test", time, result });
    }
    close(&lines, report, wanted("test"))
}

fn close(lines: &[Line], report: Report, tested: bool) -> Result<(), String> {
    println!("\n== times");
    for Line { name, time, result } in lines {
        let state = match result {
            Ok(None) => "ok".to_owned(),
            Ok(Some(skipped)) => format!("ok, but {skipped}"),
            Err(_) => "FAILED".to_owned(),
        };
        println!("{name:<12}{:>8.1} s  {state}", time.as_secs_f64());
    }
    let total: Duration = lines.iter().map(|l| l.time).sum();
    println!("{:<12}{:>8.1} s", "all", total.as_secs_f64());
    for line in lines {
        if let Ok(Some(skipped)) = &line.result {
            println!("NOT CHECKED AS IT SHOULD BE: {}: {skipped}", line.name);
        }
    }
    let failed: Vec<&str> = lines.iter().filter(|l| l.result.is_err()).map(|l| l.name).collect();
    let tests = if tested { report.finish() } else { Ok(()) };
    if failed.is_empty() { tests } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn command(arguments: &[&str]) -> Result<Skipped, String> {
    run_command(&mut cargo(arguments)).map(|()| None)
}

/// The tests on real Kafka are built only with their features.
fn clippy() -> Result<Skipped, String> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--features", test::REAL_FEATURES, "--locked"];
    command(&[&arguments[..], &["--", "-D", "warnings"]].concat())
}

/// The fuzz targets, a workspace of its own; lints need the C compilers of its reference codecs.
fn lint_fuzz() -> Result<Skipped, String> {
    let fuzz = |arguments: &[&str]| {
        let mut command = cargo(arguments);
        command.current_dir(root().join("fuzz")).env("CARGO_TARGET_DIR", target_dir().join("fuzz-lint"));
        run_command(&mut command)
    };
    fuzz(&["fmt", "--check"])?;
    for program in ["cc", "c++"] {
        if output(&mut crate::command::command(program, &["--version"])).is_err() {
            return Ok(Some(format!("no {program} here: fuzz/ is not linted")));
        }
    }
    fuzz(&["clippy", "--all-targets", "--locked", "--", "-D", "warnings"]).map(|()| None)
}

/// The benchmarks with librdkafka and the floor's zstd, which are C and so in no other check.
fn lint_peers() -> Result<Skipped, String> {
    for program in ["cc", "make"] {
        if output(&mut crate::command::command(program, &["--version"])).is_err() {
            return Ok(Some(format!("no {program} here: the feature peers of benches/ is not linted")));
        }
    }
    let package = ["--package", "ottla-benches", "--features", "peers", "--all-targets", "--locked"];
    command(&[&["clippy"][..], &package, &["--", "-D", "warnings"]].concat())
}

/// The library with no codec and with each of them alone, and with metrics alone.
fn features() -> Result<Skipped, String> {
    for feature in ["", "gzip", "snappy", "lz4", "zstd", "metrics"] {
        let arguments = ["check", "-p", "ottla", "--locked", "--no-default-features", "--features", feature];
        run_command(&mut cargo(&arguments))?;
    }
    Ok(None)
}

/// Private items too; a link from public documentation to one of them is still an error.
fn doc() -> Result<Skipped, String> {
    let arguments = ["doc", "--no-deps", "--locked", "--workspace", "--document-private-items"];
    run_command(cargo(&arguments).env("RUSTDOCFLAGS", "-D warnings")).map(|()| None)
}

/// The README's first command, as it stands there. `tests/examples.rs` holds the rest of what it says.
fn quickstart() -> Result<Skipped, String> {
    let mut read_all = false;
    let mut example = cargo(&["run", "--release", "--example", "quickstart"]);
    let ended = run_lines(&mut example, None, |line| read_all |= line.starts_with("read 300 orders:"))?;
    match (ended, read_all) {
        (true, true) => Ok(None),
        (true, false) => Err("quickstart did not read its 300 orders".to_owned()),
        (false, _) => Err("quickstart failed".to_owned()),
    }
}
