//! `cargo xtask test --matrix`: the suites on every version of Kafka that is promised, as a table in the repository.

mod kept;
mod table;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ottla_kafka::{KafkaCluster, missing_tools, split_versions};

use self::kept::{Cell, Column, Lines, On};
use crate::command::{self, root, run_lines};
use crate::metadata::Metadata;
use crate::test::{Counts, MATRIX, REAL, REAL_FEATURES, without_kafka};

const USAGE: &str = "\
usage: cargo xtask test --matrix [--versions embedded,4.3.1,2.8.2] [--brokers 1,3] [--suites real_suite] [--resume]
  every suite on the embedded broker and on each of these clusters; how each went is kept in target/matrix
  --resume leaves out what has passed before: remove target/matrix to begin anew
       cargo xtask test --matrix --docs
  runs nothing: writes docs/versions.md from what is kept";

/// The embedded broker among the versions.
const EMBEDDED_NAME: &str = "embedded";

/// From the oldest with a ZooKeeper to the newest.
const VERSIONS: &str = "embedded,2.1.1,2.8.2,3.9.2,4.1.2,4.3.1,4.4.0";

/// The sizes of the cluster that the tests of a suite share. Tests that stop brokers have clusters of their own, of one
/// broker or of three, in each column.
const BROKERS: &str = "1,3";

/// Suites whose tests all have clusters of their own: once for each version, in its column of one broker.
const OWN_CLUSTERS: [&str; 4] = ["matrix_failures", "matrix_rolling", "real_close", "real_elections"];

/// The same scenarios on the embedded broker.
const EMBEDDED: [(&str, &str); 4] = [
    ("real_bounces", "bounces_embedded"),
    ("real_close", "close_embedded"),
    ("real_etl", "etl_embedded"),
    ("real_suite", "suite_embedded"),
];

/// What a test says in a line when a version lacks what it is about: `2.8.2 has no …`.
const LACKS: &str = "has no";

/// How long one suite may take on one cluster: one that hangs is a failure, not the end of the table.
const LIMIT: Duration = Duration::from_secs(20 * 60);

struct Options {
    columns: Vec<On>,
    suites: Option<Vec<String>>,
    resume: bool,
}

fn options(mut words: &[&str]) -> Result<Options, String> {
    let (mut versions, mut brokers, mut suites, mut resume) = (VERSIONS, BROKERS, None, false);
    loop {
        match words {
            [] => break,
            ["--resume", rest @ ..] => (resume, words) = (true, rest),
            ["--versions", list, rest @ ..] => (versions, words) = (list, rest),
            ["--brokers", list, rest @ ..] => (brokers, words) = (list, rest),
            ["--suites", list, rest @ ..] => (suites, words) = (Some(split_versions(list)), rest),
            _ => return Err(USAGE.to_owned()),
        }
    }
    let number = |text: &String| text.parse().ok().filter(|n| (1..=9).contains(n)).ok_or(USAGE.to_owned());
    let brokers = split_versions(brokers).iter().map(number).collect::<Result<Vec<u32>, _>>()?;
    let mut columns = Vec::new();
    for version in split_versions(versions) {
        if version == EMBEDDED_NAME {
            columns.push(On::Embedded);
        } else {
            columns.extend(brokers.iter().map(|n| On::Kafka { version: version.clone(), brokers: *n }));
        }
    }
    if columns.is_empty() { Err(USAGE.to_owned()) } else { Ok(Options { columns, suites, resume }) }
}

/// Whether the suite is run in this column.
fn belongs(suite: &str, on: &On) -> bool {
    match on {
        On::Embedded => EMBEDDED.iter().any(|(real, _)| *real == suite),
        On::Kafka { brokers, .. } => *brokers == 1 || !OWN_CLUSTERS.contains(&suite),
    }
}

fn folder() -> PathBuf {
    command::target_dir().join("matrix")
}

pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let metadata = Metadata::load()?;
    let tests = metadata.members().flat_map(|p| &p.tests).map(String::as_str);
    let mut suites: Vec<&str> = tests.filter(|t| t.starts_with(REAL) || t.starts_with(MATRIX)).collect();
    suites.sort_unstable();
    if words == ["--docs"] {
        return write_document(&suites);
    }
    let Options { columns, suites: only, resume } = options(words)?;
    if let Some(only) = only {
        if let Some(unknown) = only.iter().find(|name| !suites.contains(&name.as_str())) {
            return Err(format!("there is no suite {unknown}: {}", suites.join(", ")));
        }
        suites.retain(|suite| only.iter().any(|name| name == suite));
    }
    let missing = missing_tools();
    if !missing.is_empty() && columns != [On::Embedded] {
        return Err(format!("this machine has no {}", missing.join(", no ")));
    }
    let mut done = Vec::new();
    for on in &columns {
        let mut column = Column::load(&folder(), on)?;
        let left = |suite: &&str| belongs(suite, on) && !(resume && column.passed(suite));
        let left: Vec<&str> = suites.iter().copied().filter(left).collect();
        fill(&mut column, &left)?;
        done.push(column);
    }
    println!("{}", table::table(&suites, &done));
    let cells = || done.iter().flat_map(|c| suites.iter().filter_map(|suite| c.cells.get(*suite)));
    println!("{}", cells().fold(Counts::default(), |sum, cell| sum + cell.counts));
    if cells().any(|cell| cell.failed) { Err("the matrix is not green".to_owned()) } else { Ok(()) }
}

fn write_document(suites: &[&str]) -> Result<(), String> {
    let columns = options(&[])?.columns;
    let columns = columns.iter().map(|on| Column::load(&folder(), on));
    let text = table::document(suites, &columns.collect::<Result<Vec<_>, _>>()?);
    let path = root().join("docs/versions.md");
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Runs these suites and keeps how each went as soon as it has ended.
fn fill(column: &mut Column, suites: &[&str]) -> Result<(), String> {
    // Those with clusters of their own first, while no other runs beside them.
    let (own, shared): (Vec<&str>, Vec<&str>) =
        suites.iter().copied().partition(|s| OWN_CLUSTERS.contains(s));
    for suite in own {
        keep(column, suite, |on| suite_on(suite, on, None))?;
    }
    let On::Kafka { version, brokers } = column.on.clone() else {
        return shared.into_iter().try_for_each(|suite| keep(column, suite, |on| suite_on(suite, on, None)));
    };
    if shared.is_empty() {
        return Ok(());
    }
    println!("starting Kafka {version} with {brokers} broker(s)");
    let cluster = KafkaCluster::start(&version, brokers);
    for suite in shared {
        keep(column, suite, |on| match &cluster {
            Ok(cluster) => suite_on(suite, on, Some(cluster)),
            // A failure among the others.
            Err(error) => {
                println!("Kafka does not start: {error}");
                Lines::of(on).finish(Err("Kafka does not start"))
            }
        })?;
    }
    Ok(())
}

fn keep(column: &mut Column, suite: &str, run: impl FnOnce(&On) -> Cell) -> Result<(), String> {
    let (commit, begun) = (commit()?, Instant::now());
    let mut cell = run(&column.on);
    (cell.seconds, cell.commit) = (begun.elapsed().as_secs(), commit);
    println!("{suite} on {}: {cell}, {} s", column.on, cell.seconds);
    column.cells.insert(suite.to_owned(), cell);
    column.save(&folder())
}

/// What is run; a tree with changes is said to be one.
fn commit() -> Result<String, String> {
    let git = |arguments: &[&str]| command::output(&mut command::command("git", arguments));
    let commit = git(&["rev-parse", "--short=9", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.trim().is_empty();
    Ok(format!("{}{}", commit.trim(), if changed { " with changes" } else { "" }))
}

fn suite_on(suite: &str, on: &On, cluster: Option<&KafkaCluster>) -> Cell {
    let mut command: Command = without_kafka(&[]);
    let mut program = suite;
    match on {
        On::Embedded => {
            program = EMBEDDED.iter().find(|(real, _)| *real == suite).map_or(suite, |twin| twin.1)
        }
        On::Kafka { version, .. } => {
            command.env("OTTLA_KAFKA_VERSIONS", version);
            if let Some(cluster) = cluster {
                let variable = format!("OTTLA_KAFKA_BOOTSTRAP_{}", version.replace('.', "_"));
                command.env(variable, cluster.bootstrap());
            }
        }
    }
    let features = format!("{REAL_FEATURES},ottla-tests/matrix");
    command.args(["test", "--workspace", "--features", &features, "--no-fail-fast", "--test", program]);
    command.args(["--", "--show-output"]);
    let mut lines = Lines::of(on);
    let passed = run_lines(&mut command, Some(LIMIT), |line| lines.take_in(line));
    // What it says may name folders; it is printed, and kept in short.
    lines.finish(passed.map_err(|error| {
        println!("{error}");
        "it did not come to its end"
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_the_embedded_broker_and_each_version_twice() {
        let whole = options(&[]).unwrap();
        let columns: Vec<String> = whole.columns.iter().map(ToString::to_string).collect();
        assert_eq!(columns[..3], ["embedded", "2.1.1 × 1", "2.1.1 × 3"]);
        assert_eq!((columns.len(), whole.resume), (13, false));
    }

    #[test]
    fn columns_and_suites_are_chosen_and_nonsense_is_refused() {
        let some =
            options(&["--versions", "2.8.2", "--brokers", "3", "--suites", "a,b", "--resume"]).unwrap();
        assert_eq!(some.columns, [On::Kafka { version: "2.8.2".to_owned(), brokers: 3 }]);
        assert_eq!((some.suites, some.resume), (Some(vec!["a".to_owned(), "b".to_owned()]), true));
        for nonsense in [&["--versions", ","][..], &["--brokers", "0"], &["--docs", "--resume"], &["x"]] {
            assert!(options(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn clusters_of_their_own_are_run_once_for_each_version() {
        let on = |brokers| On::Kafka { version: "4.3.1".to_owned(), brokers };
        assert!(belongs("real_close", &on(1)) && !belongs("real_close", &on(3)));
        assert!(belongs("real_suite", &on(1)) && belongs("real_suite", &on(3)));
        assert!(belongs("real_close", &On::Embedded) && !belongs("real_harness", &On::Embedded));
    }
}
