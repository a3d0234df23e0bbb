//! `cargo xtask`: the commands of the project.

mod bench;
mod checks;
mod ci;
mod command;
mod fuzz;
mod r#gen;
mod instructions;
mod kafka;
mod matrix;
mod metadata;
mod test;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test                                      all tests; those on real Kafka where Java 17+, Maven and Python are
  test --matrix [--versions V,V] [--brokers 1,3] [--suites S,S] [--resume]
                                            the suites on every version of Kafka, as a table
  test --matrix --docs                      docs/versions.md from what those runs have kept
  ci [CHECK...]                             everything that CI runs, or only these checks
  vectors [DIR]                             the golden vectors of DIR, or the project's own
  sim [--seeds A..B] [--scenario NAME] [--jobs N] [--trace] …
                                            the simulator; `sim help` for all of it
  sim --planted [NAME...] [--docs | --check]
                                            bugs on purpose: does its oracle see them?
  gen [--check]                             message definitions to code, or only whether it is up to date
  gen --import FOLDER                       Kafka's JSON message definitions to ours
  fuzz list | smoke | long --hours H        the fuzz targets; `cargo xtask fuzz` says more
  bench [--quick] [--only WORK_SET...]      ottla next to a raw socket and its peers; --list and --help say more
  bench gate                                instructions per record, against those of the floor
  kafka start [--version V] [--brokers N]   a real Kafka on loopback that stays until stopped
  kafka stop [--version V] | status
  kafka produce TOPIC COUNT [PARTITIONS [BYTES [CODEC]]]
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["test"] => test::run().and_then(test::Report::finish),
        ["test", "--matrix", rest @ ..] => matrix::run(rest),
        ["ci", only @ ..] => ci::run(only),
        ["vectors", rest @ ..] => vectors(rest),
        ["sim", rest @ ..] => simulator(rest),
        ["gen"] => r#gen::run(false),
        ["gen", "--check"] => r#gen::run(true),
        ["gen", "--import", folder] => r#gen::import(folder.as_ref()),
        ["fuzz", rest @ ..] => fuzz::run_command(rest),
        ["bench", "gate"] => instructions::check().map(|skipped| {
            if let Some(why) = skipped {
                println!("{why}");
            }
        }),
        ["bench", rest @ ..] => bench::start(rest),
        ["kafka", rest @ ..] => kafka::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// The simulator needs the library too. Optimized, with all assertions.
fn simulator(rest: &[&str]) -> Result<(), String> {
    let planted = rest.contains(&"--planted");
    let mut arguments = vec!["run", "--quiet", "--profile", "sim", "--package", "ottla-sim"];
    if planted {
        arguments.extend(["--features", "planted"]);
    }
    arguments.push("--");
    arguments.extend(rest);
    let mut command = command::cargo(&arguments);
    if planted {
        // Neither build throws the other one away.
        command.env("CARGO_TARGET_DIR", command::target_dir().join("planted"));
    }
    command::run(&mut command)
}

/// Two processes with the same seeds tell the same of them: nothing depends on an address or on what ran before.
fn simulator_twice(rest: &[&str]) -> Result<(), String> {
    let fixed = ["run", "--quiet", "--profile", "sim", "--package", "ottla-sim", "--"];
    let hashes = || {
        let told = command::output(&mut command::cargo(&[&fixed, rest].concat()))?;
        let hashes: Vec<String> =
            told.lines().filter(|l| l.starts_with("seed ")).map(str::to_owned).collect();
        if hashes.is_empty() { Err("no seed told its hash".to_owned()) } else { Ok(hashes) }
    };
    let (first, second) = (hashes()?, hashes()?);
    match first.iter().zip(&second).find(|(a, b)| a != b) {
        None if first.len() == second.len() => {
            println!("{} seeds are the same in two processes", first.len());
            Ok(())
        }
        None => Err("two processes told of different seeds".to_owned()),
        Some((a, b)) => Err(format!("two processes differ:\n{a}\n{b}")),
    }
}

/// The oracle of the simulator still sees every planted bug, at the seeds of its table.
fn planted_bugs() -> Result<(), String> {
    let tests =
        ["test", "--quiet", "--profile", "sim", "--package", "ottla-sim", "--features", "planted", "--lib"];
    command::run(command::cargo(&tests).env("CARGO_TARGET_DIR", command::target_dir().join("planted")))?;
    simulator(&["--planted", "--check"])
}

/// The vectors need the library, which this program does not link to.
fn vectors(rest: &[&str]) -> Result<(), String> {
    let fixed = ["run", "--quiet", "--package", "ottla-tests", "--bin", "vectors", "--"];
    // A folder is meant from where the user stands.
    let here = std::env::current_dir().map_err(|e| format!("cannot tell the current folder: {e}"))?;
    command::run(command::cargo(&[&fixed, rest].concat()).current_dir(here))
}
