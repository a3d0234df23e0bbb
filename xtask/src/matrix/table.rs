//! The matrix as a table for people: `docs/versions.md`, and what a run prints at its end.

use std::fmt::Write as _;

use super::belongs;
use super::kept::{Cell, Column};

/// Suites in rows; what was run of each column, how long that took, and on which commits.
pub(crate) fn table(suites: &[&str], columns: &[Column]) -> String {
    let mut text = row("suite", columns.iter().map(|column| column.on.to_string()));
    let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
    for suite in suites {
        let cells = columns.iter().map(|column| match column.cells.get(*suite) {
            Some(cell) => cell.to_string(),
            None if belongs(suite, &column.on) => "not run".to_owned(),
            None => "–".to_owned(),
        });
        text += &row(&format!("`{suite}`"), cells);
    }
    let run = |column: &Column| -> Vec<Cell> {
        suites.iter().filter_map(|suite| column.cells.get(*suite)).cloned().collect()
    };
    let minutes = columns.iter().map(|column| {
        let seconds: u64 = run(column).iter().map(|cell| cell.seconds).sum();
        if run(column).is_empty() { "–".to_owned() } else { seconds.div_ceil(60).to_string() }
    });
    text += &row("minutes", minutes);
    let commits = columns.iter().map(|column| {
        let mut commits: Vec<String> =
            run(column).into_iter().map(|cell| format!("`{}`", cell.commit)).collect();
        commits.sort();
        commits.dedup();
        if commits.is_empty() { "–".to_owned() } else { commits.join(", ") }
    });
    text + &row("commit", commits)
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    // Writing to a string cannot fail.
    cells.fold(format!("| {name} |"), |mut text, cell| {
        let _ = write!(text, " {cell} |");
        text
    }) + "\n"
}

/// What did not pass, and what was not run, in words.
fn remarks(suites: &[&str], columns: &[Column]) -> String {
    let mut text = String::new();
    for column in columns {
        let failed = suites.iter().filter_map(|suite| Some((suite, column.cells.get(*suite)?)));
        for (suite, cell) in failed.filter(|(_, cell)| cell.failed) {
            let _ = writeln!(text, "- **Failed**: `{suite}` on {}: {}.", column.on, cell.failures.join(", "));
        }
    }
    let list = |wanted: &dyn Fn(usize, usize) -> bool| -> String {
        let count = |column: &&Column| {
            let belonging = suites.iter().filter(|suite| belongs(suite, &column.on));
            let run = belonging.clone().filter(|suite| column.cells.contains_key(**suite));
            wanted(run.count(), belonging.count())
        };
        columns.iter().filter(count).map(|column| column.on.to_string()).collect::<Vec<_>>().join(", ")
    };
    let never = list(&|run, _| run == 0);
    if !never.is_empty() {
        let _ = writeln!(text, "- Never run: {never}.");
    }
    let partly = list(&|run, all| run > 0 && run < all);
    if !partly.is_empty() {
        let _ = writeln!(text, "- Not run whole: {partly}.");
    }
    text
}

/// The whole of `docs/versions.md`.
pub(crate) fn document(suites: &[&str], columns: &[Column]) -> String {
    format!(
        "# Versions of Kafka

Written by `cargo xtask test --matrix --docs` from what runs of `cargo xtask test --matrix` have kept: how many tests of \
each suite passed, on the embedded broker and on real Kafka (version × brokers of the cluster that the tests share). \
*Not there* are tests of what a version has not, such as groups of the consumer protocol before 4.0. Suites whose tests \
all have clusters of their own, mostly of three brokers, are run once for each version, in its first column: – is for \
those, and for what needs real Kafka. Brokers of Kafka 2 run with a ZooKeeper, later ones are their own controllers. \
The commit is the one a column was run on, or each of them.

{}
{}",
        table(suites, columns),
        remarks(suites, columns)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::kept::On;
    use super::*;
    use crate::test::Counts;

    const SUITES: [&str; 3] = ["matrix_failures", "real_records", "real_suite"];

    fn cell(passed: u64, failed: u64, without: u64, commit: &str) -> Cell {
        Cell {
            counts: Counts { passed, failed, ignored: 0 },
            without,
            failed: failed > 0,
            failures: vec!["a_test".to_owned(); failed as usize],
            seconds: 61,
            commit: commit.to_owned(),
        }
    }

    fn column(version: &str, brokers: u32, cells: &[(&str, Cell)]) -> Column {
        let on = match brokers {
            0 => On::Embedded,
            _ => On::Kafka { version: version.to_owned(), brokers },
        };
        let cells: BTreeMap<_, _> = cells.iter().map(|(s, cell)| ((*s).to_owned(), cell.clone())).collect();
        Column { on, cells }
    }

    fn columns() -> Vec<Column> {
        vec![
            column("", 0, &[("real_suite", cell(40, 0, 0, "aaa"))]),
            column(
                "2.8.2",
                1,
                &[("real_suite", cell(46, 0, 16, "bbb")), ("real_records", cell(2, 0, 0, "aaa"))],
            ),
            column(
                "2.8.2",
                3,
                &[("real_suite", cell(45, 1, 16, "bbb")), ("real_records", cell(2, 0, 0, "bbb"))],
            ),
            column("4.3.1", 1, &[]),
        ]
    }

    #[test]
    fn what_passed_what_failed_and_what_was_not_run_is_told_apart() {
        let expected = "\
| suite | embedded | 2.8.2 × 1 | 2.8.2 × 3 | 4.3.1 × 1 |
|---|---|---|---|---|
| `matrix_failures` | – | not run | – | not run |
| `real_records` | – | 2 | 2 | not run |
| `real_suite` | 40 | 30 (16 not there) | **failed: 45 passed, 1 failed** | not run |
| minutes | 2 | 3 | 3 | – |
| commit | `aaa` | `aaa`, `bbb` | `bbb` | – |
";
        assert_eq!(table(&SUITES, &columns()), expected);
    }

    #[test]
    fn the_document_names_what_failed_and_what_never_ran() {
        let text = document(&SUITES, &columns());
        for line in [
            "- **Failed**: `real_suite` on 2.8.2 × 3: a_test.",
            "- Never run: 4.3.1 × 1.",
            "- Not run whole: 2.8.2 × 1.",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_whole() {
        let whole =
            [column("4.3.1", 3, &[("real_suite", cell(1, 0, 0, "a")), ("real_records", cell(1, 0, 0, "a"))])];
        assert_eq!(remarks(&SUITES, &whole), "");
    }
}
