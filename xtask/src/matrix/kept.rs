//! What was run of the matrix: a small file for each column in `target/matrix`, so that a table can be made of runs on
//! several days, and a run can go on where another one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::LACKS;
use crate::test::Counts;

/// What the suites of one column run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum On {
    Embedded,
    Kafka { version: String, brokers: u32 },
}

impl std::fmt::Display for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded => f.write_str(super::EMBEDDED_NAME),
            Self::Kafka { version, brokers } => write!(f, "{version} × {brokers}"),
        }
    }
}

/// How one suite went there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) counts: Counts,
    /// Tests of what this version does not have; they are among those that passed.
    pub(crate) without: u64,
    /// Also a suite that does not build, has not one test, or takes too long.
    pub(crate) failed: bool,
    /// The tests that failed, or what else happened.
    pub(crate) failures: Vec<String>,
    pub(crate) seconds: u64,
    pub(crate) commit: String,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.failed {
            return write!(f, "**failed: {}**", self.counts);
        }
        write!(f, "{}", self.counts.passed.saturating_sub(self.without))?;
        if self.without > 0 { write!(f, " ({} not there)", self.without) } else { Ok(()) }
    }
}

/// Reads the lines of one suite, as `--show-output` gives them.
#[derive(Debug)]
pub(crate) struct Lines {
    cell: Cell,
    /// How a line begins in which a test says that this version lacks what it is about.
    lacks: String,
    /// The test whose output this is.
    test: String,
    without: BTreeSet<String>,
}

impl Lines {
    pub(crate) fn of(on: &On) -> Self {
        let version =
            if let On::Kafka { version, .. } = on { version.as_str() } else { super::EMBEDDED_NAME };
        Self {
            cell: Cell::default(),
            lacks: format!("{version} {LACKS} "),
            test: String::new(),
            without: BTreeSet::new(),
        }
    }

    pub(crate) fn take_in(&mut self, line: &str) {
        self.cell.counts.take_in(line);
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            test.clone_into(&mut self.test);
        } else if line.starts_with(&self.lacks) {
            // Once for each test, however often it says so.
            self.without.insert(self.test.clone());
        } else if let Some(test) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.cell.failures.push(test.to_owned());
        }
    }

    /// What it came to; `passed` is what the test runner said, or why it could not be run.
    pub(crate) fn finish(mut self, passed: Result<bool, &str>) -> Cell {
        self.cell.without = self.without.len() as u64;
        match passed {
            Ok(passed) => self.cell.failed = !passed || self.cell.counts.passed == 0,
            Err(why) => {
                self.cell.failed = true;
                self.cell.failures.push(why.to_owned());
            }
        }
        self.cell
    }
}

/// The cells of one column by suite.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) on: On,
    pub(crate) cells: BTreeMap<String, Cell>,
}

impl Column {
    pub(crate) fn passed(&self, suite: &str) -> bool {
        self.cells.get(suite).is_some_and(|cell| !cell.failed)
    }

    fn file(on: &On) -> String {
        match on {
            On::Embedded => "embedded.json".to_owned(),
            On::Kafka { version, brokers } => format!("{version}-{brokers}.json"),
        }
    }

    /// What is kept in the folder; nothing if it was never run.
    pub(crate) fn load(folder: &Path, on: &On) -> Result<Self, String> {
        let path = folder.join(Self::file(on));
        let say = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let cells = match std::fs::read_to_string(&path) {
            Ok(text) => read(&text).map_err(|e| say(&e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(say(&e)),
        };
        Ok(Self { on: on.clone(), cells })
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<(), String> {
        let path = folder.join(Self::file(&self.on));
        let say = |e: std::io::Error| format!("{}: {e}", path.display());
        std::fs::create_dir_all(folder).map_err(say)?;
        std::fs::write(&path, write(&self.cells)).map_err(say)
    }
}

fn write(cells: &BTreeMap<String, Cell>) -> String {
    let cells: Map<String, Value> = cells
        .iter()
        .map(|(suite, cell)| {
            let Counts { passed, failed, ignored } = cell.counts;
            let value = json!({
                "tests": [passed, failed, ignored],
                "without": cell.without,
                "failed": cell.failed,
                "failures": cell.failures,
                "seconds": cell.seconds,
                "commit": cell.commit,
            });
            (suite.clone(), value)
        })
        .collect();
    format!("{:#}\n", Value::Object(cells))
}

fn read(text: &str) -> Result<BTreeMap<String, Cell>, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let cells = json.as_object().ok_or("not an object")?;
    cells
        .iter()
        .map(|(suite, cell)| Ok((suite.clone(), read_cell(cell).ok_or(format!("{suite}: not a cell"))?)))
        .collect()
}

fn read_cell(cell: &Value) -> Option<Cell> {
    let tests = &cell["tests"];
    let failures = cell["failures"].as_array()?.iter();
    Some(Cell {
        counts: Counts {
            passed: tests[0].as_u64()?,
            failed: tests[1].as_u64()?,
            ignored: tests[2].as_u64()?,
        },
        without: cell["without"].as_u64()?,
        failed: cell["failed"].as_bool()?,
        failures: failures.map(|test| test.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        seconds: cell["seconds"].as_u64()?,
        commit: cell["commit"].as_str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> On {
        On::Kafka { version: "2.8.2".to_owned(), brokers: 3 }
    }

    const OUTPUT: &str = "\
running 4 tests
test one ... ok
test two ... ok
test three ... ok
test four ... FAILED

---- one stdout ----
2.8.2 has no groups of the consumer protocol
2.8.2 has no groups of the consumer protocol
---- two stdout ----
2.8.2 has no static members
---- three stdout ----
2.8.2: groups of the classic protocol alone
test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s";

    fn cell(passed: Result<bool, &str>) -> Cell {
        let mut lines = Lines::of(&old());
        OUTPUT.lines().for_each(|line| lines.take_in(line));
        lines.finish(passed)
    }

    #[test]
    fn a_test_counts_once_as_not_there_and_is_named_when_it_fails() {
        let cell = cell(Ok(false));
        assert_eq!(cell.counts, Counts { passed: 3, failed: 1, ignored: 0 });
        assert_eq!(
            (cell.without, cell.failed, cell.failures.as_slice()),
            (2, true, &["four".to_owned()][..])
        );
    }

    #[test]
    fn what_does_not_run_has_failed() {
        assert_eq!(cell(Err("late")).failures, ["four", "late"]);
        assert!(Lines::of(&old()).finish(Ok(true)).failed, "not one test");
        assert!(!cell(Ok(true)).failed);
    }

    #[test]
    fn what_is_written_is_read() {
        let failed = Cell { seconds: 7, commit: "abc".to_owned(), ..cell(Ok(false)) };
        let cells = BTreeMap::from([("real_a".to_owned(), failed), ("real_b".to_owned(), Cell::default())]);
        assert_eq!(read(&write(&cells)), Ok(cells));
        assert!(read("[]").is_err() && read("{\"real_a\": {}}").is_err());
    }

    #[test]
    fn every_column_has_a_file_of_its_own() {
        let one = On::Kafka { version: "2.8.2".to_owned(), brokers: 1 };
        let files = [On::Embedded, one, old()].map(|on| Column::file(&on));
        assert_eq!(files, ["embedded.json", "2.8.2-1.json", "2.8.2-3.json"]);
    }
}
