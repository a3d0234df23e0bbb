//! `cargo xtask test --matrix`: the suites on every version of Kafka that is promised, as a table in the repository.

use std::fmt::Write as _;
use std::time::Duration;

use ottla_kafka::{DEFAULT_VERSION, KafkaCluster, missing_tools, split_versions};

use crate::command::{self, root, run_lines};
use crate::metadata::Metadata;
use crate::test::{Counts, MATRIX, REAL, REAL_FEATURES, without_kafka};

pub(crate) const USAGE: &str = "\
usage: cargo xtask test --matrix [--versions 4.3.1,2.8.2] [--brokers 1,3] [--docs]
  every suite on the embedded broker and on each of these clusters; --docs writes docs/versions.md";

/// From the oldest with a ZooKeeper to the newest.
const VERSIONS: &str = "2.1.1,2.8.2,3.9.2,4.1.2,4.3.1";

/// The sizes of the cluster that the tests of a suite share. Tests that stop brokers have clusters of their own, of one
/// broker or of three, in each column.
const BROKERS: &str = "1,3";

/// Suites whose tests have clusters of their own: once for each version, in its first column.
const OWN_CLUSTERS: [&str; 3] = ["matrix_failures", "matrix_rolling", "real_elections"];

/// The same scenarios on the embedded broker.
const EMBEDDED: [(&str, &str); 2] = [("real_suite", "suite_embedded"), ("real_close", "close_embedded")];

/// What a test says in a line when a version lacks what it is about: `2.8.2 has no …`.
const LACKS: &str = "has no";

/// How long one suite may take on one cluster: one that hangs is a failure, not the end of the table.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How one suite went on one cluster.
#[derive(Debug, Default, Clone, Copy)]
struct Cell {
    counts: Counts,
    /// Tests of what this version does not have; they are among those that passed.
    without: u64,
    failed: bool,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A suite that does not build, or has not one test, has passed nothing.
        if self.failed || self.counts.passed() == 0 {
            return write!(f, "**failed: {}**", self.counts);
        }
        write!(f, "{}", self.counts.passed().saturating_sub(self.without))?;
        if self.without > 0 { write!(f, " ({} not there)", self.without) } else { Ok(()) }
    }
}

struct Column {
    name: String,
    cells: Vec<Option<Cell>>,
}

pub(crate) fn run(mut options: &[&str]) -> Result<(), String> {
    let (mut versions, mut brokers, mut docs) = (VERSIONS, BROKERS, false);
    loop {
        match options {
            [] => break,
            ["--docs", rest @ ..] => (docs, options) = (true, rest),
            ["--versions", list, rest @ ..] => (versions, options) = (list, rest),
            ["--brokers", list, rest @ ..] => (brokers, options) = (list, rest),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let number = |text: &str| text.parse().ok().filter(|n| (1..=9).contains(n)).ok_or(USAGE.to_owned());
    let brokers = split_versions(brokers).iter().map(|n| number(n)).collect::<Result<Vec<u32>, _>>()?;
    let versions = split_versions(versions);
    let whole = versions == split_versions(VERSIONS) && brokers == [1, 3];
    if docs && !whole {
        return Err("--docs is for the whole: without --versions and --brokers".to_owned());
    }
    if versions.is_empty() || brokers.is_empty() {
        return Err(USAGE.to_owned());
    }
    let missing = missing_tools();
    if !missing.is_empty() {
        return Err(format!("this machine has no {}", missing.join(", no ")));
    }
    let metadata = Metadata::load()?;
    let tests = metadata.members().flat_map(|p| &p.tests).map(String::as_str);
    let suites: Vec<&str> = tests.filter(|t| t.starts_with(REAL) || t.starts_with(MATRIX)).collect();
    let mut columns = vec![embedded(&suites)?];
    for version in &versions {
        for (nth, count) in brokers.iter().enumerate() {
            columns.push(real(version, *count, &suites, nth == 0));
        }
    }
    let table = table(&suites, &columns);
    println!("{table}");
    if docs {
        let path = root().join("docs/versions.md");
        std::fs::write(&path, document(&table)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let cells = || columns.iter().flat_map(|c| &c.cells).flatten();
    let total = cells().fold(Counts::default(), |sum, cell| sum + cell.counts);
    println!("{total}");
    if cells().any(|cell| cell.failed) { Err("the matrix is not green".to_owned()) } else { Ok(()) }
}

fn embedded(suites: &[&str]) -> Result<Column, String> {
    let cell = |suite: &&str| {
        let Some((_, twin)) = EMBEDDED.iter().find(|(real, _)| real == suite) else { return Ok(None) };
        suite_on(twin, &mut without_kafka(&[]), "").map(Some)
    };
    Ok(Column { name: "embedded".to_owned(), cells: suites.iter().map(cell).collect::<Result<_, _>>()? })
}

/// One that does not start, or a suite that cannot be run, is a failure among the others.
fn real(version: &str, brokers: u32, suites: &[&str], first: bool) -> Column {
    println!("starting Kafka {version} with {brokers} broker(s)");
    let name = format!("{version} × {brokers}");
    let failed = Cell { failed: true, ..Cell::default() };
    let cluster = match KafkaCluster::start(version, brokers) {
        Ok(cluster) => cluster,
        Err(error) => {
            println!("FAILED: Kafka {version} with {brokers} broker(s) does not start: {error}");
            return Column { name, cells: vec![Some(failed); suites.len()] };
        }
    };
    let cell = |suite: &&str| {
        if !first && OWN_CLUSTERS.contains(suite) {
            return None;
        }
        let mut command = without_kafka(&[]);
        command
            .env("OTTLA_KAFKA_VERSIONS", version)
            .env(format!("OTTLA_KAFKA_BOOTSTRAP_{}", version.replace('.', "_")), cluster.bootstrap());
        let cell = suite_on(suite, &mut command, version).unwrap_or_else(|error| {
            println!("FAILED: {suite} on Kafka {version}: {error}");
            failed
        });
        Some(cell)
    };
    Column { name, cells: suites.iter().map(cell).collect() }
}

/// `command` is cargo with the environment of the cluster.
fn suite_on(suite: &str, command: &mut std::process::Command, version: &str) -> Result<Cell, String> {
    let features = format!("{REAL_FEATURES},ottla-tests/matrix");
    command.args(["test", "--workspace", "--features", &features, "--no-fail-fast", "--test", suite]);
    command.args(["--", "--show-output"]);
    let (mut cell, says) = (Cell::default(), format!("{version} {LACKS} "));
    let passed = run_lines(command, Some(LIMIT), |line| {
        cell.counts.take_in(line);
        cell.without += u64::from(!version.is_empty() && line.starts_with(&says));
    })?;
    cell.failed = !passed || cell.counts.passed() == 0;
    Ok(cell)
}

fn table(suites: &[&str], columns: &[Column]) -> String {
    let mut text = "| suite |".to_owned();
    // Writing to a string cannot fail.
    for column in columns {
        let _ = write!(text, " {} |", column.name);
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(columns.len()));
    for (row, suite) in suites.iter().enumerate() {
        let _ = write!(text, "| `{suite}` |");
        for column in columns {
            let cell =
                column.cells.get(row).copied().flatten().map_or("–".to_owned(), |cell| cell.to_string());
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn document(table: &str) -> String {
    let java = command::output(&mut command::command("java", &["--version"])).unwrap_or_default();
    let java = java.lines().next().unwrap_or("unknown");
    format!(
        "# Versions of Kafka\n\nWritten by `cargo xtask test --matrix --docs`: how many tests of each suite passed, on \
         the embedded broker and on real Kafka (version × brokers of the cluster that the tests share; those that stop \
         brokers have clusters of their own, and suites of such tests alone are run once for each version). *Not there* are tests of what a version has not, such as groups of the \
         consumer protocol before 4.0. Brokers of Kafka 2 run with a ZooKeeper, later ones are their own controllers; \
         all on {java}. CI runs 3.9.2 and {DEFAULT_VERSION} on one broker.\n\n{table}"
    )
}
