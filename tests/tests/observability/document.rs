//! The tables of `docs/observability.md`.

use std::collections::BTreeSet;
use std::path::Path;

/// The rows of the table that follows a heading, cell by cell, without the head; back quotes are taken off.
pub fn table(heading: &str) -> Vec<Vec<String>> {
    let rows = raw_table(heading).into_iter();
    rows.map(|row| row.into_iter().map(|cell| cell.replace('`', "")).collect()).collect()
}

/// The same as it stands there.
pub fn raw_table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observability.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "there is no {heading:?}");
    let rows = lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    let cells = |row: &str| {
        let cells = row.trim_start_matches('|').trim_end_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = rows.skip(1).map(cells).collect();
    assert!(!rows.is_empty(), "no rows below {heading:?}");
    rows
}

/// What a cell lists.
pub fn list(cell: &str) -> BTreeSet<String> {
    cell.split(", ")
        .map(str::trim)
        .filter(|item| !item.is_empty() && *item != "–")
        .map(str::to_owned)
        .collect()
}
