//! `cargo xtask test`: everything that is a test, with one count at the end.

use std::process::Command;
use std::time::Duration;

use ottla_kafka::{KafkaCluster, missing_tools, split_versions};

use crate::command::{cargo, run_lines};
use crate::metadata::Metadata;

/// The versions of real Kafka, unless `OTTLA_KAFKA_VERSIONS` says otherwise. CI may name more, not fewer.
const VERSIONS: [&str; 2] = ["4.3.1", "3.9.2"];

/// The version whose answers the embedded broker is compared with; they must still be its answers.
const PARITY: &str = "4.3.1";

/// Integration tests with this prefix need real Kafka.
pub(crate) const REAL: &str = "real_";

/// Programs that take many minutes on real Kafka: only the matrix runs them.
pub(crate) const MATRIX: &str = "matrix_";

/// What they are built with. Everything is, so that it is built once.
pub(crate) const REAL_FEATURES: &str = "ottla-tests/real-kafka,ottla-kafka/real-kafka";

/// How long one run of the test runner may take in CI.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// How many tests passed, failed and were left out by an attribute.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

impl Counts {
    /// Takes in a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    pub(crate) fn take_in(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// What the tests came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    /// What failed, one line each.
    pub(crate) failures: Vec<String>,
    /// What was not run and why, one line each.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    /// Prints everything and closes with the counts on a line of their own.
    pub(crate) fn finish(self) -> Result<(), String> {
        for line in &self.skipped {
            println!("skipped: {line}");
        }
        for line in &self.failures {
            println!("FAILED: {line}");
        }
        println!("{}", self.counts);
        if self.failures.is_empty() { Ok(()) } else { Err("the tests failed".to_owned()) }
    }

    fn run(&mut self, what: &str, command: &mut Command) {
        let mut counts = self.counts;
        // A person sees that a test hangs; and their interrupt should reach it, which it would not in its own group.
        let limit = is_ci().then_some(LIMIT);
        match run_lines(command, limit, |line| counts.take_in(line)) {
            Ok(true) => {}
            Ok(false) => self.failures.push(what.to_owned()),
            Err(error) => self.failures.push(format!("{what}: {error}")),
        }
        self.counts = counts;
    }
}

/// Runs everything.
pub(crate) fn run() -> Result<Report, String> {
    let metadata = Metadata::load()?;
    let mut report = Report::default();
    let mut tests: Vec<&str> = metadata.members().flat_map(|p| &p.tests).map(String::as_str).collect();
    tests.retain(|name| !name.starts_with(MATRIX));
    let (real, embedded): (Vec<&str>, Vec<&str>) = tests.into_iter().partition(|name| name.starts_with(REAL));

    let built = ["test", "--workspace", "--features", REAL_FEATURES, "--no-fail-fast"];
    let mut arguments = [&built[..], &["--lib", "--bins", "--examples"]].concat();
    arguments.extend(embedded.iter().flat_map(|name| ["--test", name]));
    report.run("unit tests, vectors and suites on the embedded broker", &mut without_kafka(&arguments));
    // The suites turn the feature metrics on, for everything that is built with them.
    let default = ["test", "-p", "ottla", "--no-fail-fast", "--lib", "--test", "driver"];
    report.run("ottla by itself, with its default features", &mut without_kafka(&default));
    report.run("doctests", &mut without_kafka(&[&built[..], &["--doc"]].concat()));
    let mut arguments = built.to_vec();
    arguments.extend(real.iter().flat_map(|name| ["--test", name]));
    real_kafka(&mut report, &real, &arguments);
    Ok(report)
}

/// Without the variables that would make a test start a Kafka of its own.
pub(crate) fn without_kafka(arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.env_remove("OTTLA_KAFKA_VERSIONS").env_remove("OTTLA_PARITY_BOOTSTRAP");
    command
}

/// The versions to test on, from the variable or the project's own.
fn wanted_versions(list: Option<&str>, ci: bool) -> Result<Vec<String>, String> {
    let Some(list) = list else { return Ok(VERSIONS.map(str::to_owned).to_vec()) };
    let versions = split_versions(list);
    if versions.is_empty() {
        return Err("OTTLA_KAFKA_VERSIONS is set and names no version: unset it, or name one".to_owned());
    }
    if let Some(left_out) = VERSIONS.iter().find(|version| ci && !versions.iter().any(|v| v == **version)) {
        return Err(format!("OTTLA_KAFKA_VERSIONS leaves out {left_out}, which CI must test on"));
    }
    Ok(versions)
}

fn real_kafka(report: &mut Report, tests: &[&str], arguments: &[&str]) {
    let versions = std::env::var("OTTLA_KAFKA_VERSIONS").ok();
    let versions = match wanted_versions(versions.as_deref(), is_ci()) {
        Ok(versions) => versions,
        Err(error) => return report.failures.push(error),
    };
    if tests.is_empty() {
        return report.failures.push(format!("there is no test whose name begins with {REAL}"));
    }
    let missing = missing_tools();
    if !missing.is_empty() {
        let text = format!(
            "the suites on real Kafka ({}) on {}: this machine has no {}",
            tests.join(", "),
            versions.join(" and "),
            missing.join(", no ")
        );
        if is_ci() {
            report.failures.push(format!("{text} (in CI this is a failure)"));
        } else {
            report.skipped.push(text);
        }
        return;
    }
    // One after the other: brokers of several versions at once would only compete for the processors.
    for version in &versions {
        println!("starting Kafka {version}");
        let cluster = match KafkaCluster::start(version, 1) {
            Ok(cluster) => cluster,
            Err(error) => {
                report.failures.push(format!("Kafka {version} does not start: {error}"));
                continue;
            }
        };
        println!("Kafka {version} is ready at {}", cluster.bootstrap());
        let mut command = cargo(arguments);
        command
            .env("OTTLA_KAFKA_VERSIONS", version)
            .env(format!("OTTLA_KAFKA_BOOTSTRAP_{}", version.replace('.', "_")), cluster.bootstrap());
        report.run(&format!("suites on real Kafka {version}"), &mut command);
        if version == PARITY {
            let mut parity = without_kafka(&["test", "-p", "ottla-broker", "--test", "parity*"]);
            parity.env("OTTLA_PARITY_BOOTSTRAP", cluster.bootstrap()).env_remove("OTTLA_PARITY_RECORD");
            report
                .run(&format!("the conversation of the embedded broker, with Kafka {version}"), &mut parity);
        }
    }
}

/// Whether this is a run of CI, where nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_test_runner_are_added_up() {
        let mut counts = Counts::default();
        counts.take_in(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
        );
        counts.take_in("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.take_in("running 5 tests");
        assert_eq!(counts.to_string(), "4 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn a_list_without_a_version_is_an_error_and_ci_wants_them_all() {
        assert_eq!(wanted_versions(None, true).unwrap(), VERSIONS);
        assert_eq!(wanted_versions(Some("3.9.2"), false).unwrap(), ["3.9.2"]);
        for empty in ["", " ,"] {
            assert!(wanted_versions(Some(empty), false).is_err());
        }
        assert!(wanted_versions(Some("4.3.1"), true).unwrap_err().contains("3.9.2"));
        assert_eq!(wanted_versions(Some("4.4.0, 3.9.2,4.3.1"), true).unwrap(), ["4.4.0", "3.9.2", "4.3.1"]);
    }
}
