//! Transition tables in the documentation of modules are what the code does: tests write them anew and compare.

/// A table in Markdown: the first row is its head.
fn render(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}", cells.collect::<String>())
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let rule: String = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect();
    lines.insert(1, format!("|{rule}"));
    lines
}

/// The table of a state machine: one row a state, one column an event. `cell` is told both by their numbers.
pub(crate) fn transitions(
    states: &[&str],
    events: &[&str],
    mut cell: impl FnMut(usize, usize) -> String,
) -> Vec<Vec<String>> {
    let mut rows = vec![std::iter::once("state").chain(events.iter().copied()).map(str::to_owned).collect()];
    for (at, state) in states.iter().enumerate() {
        let cells = (0..events.len()).map(|event| cell(at, event));
        rows.push(std::iter::once((*state).to_owned()).chain(cells).collect());
    }
    rows
}

/// Checks that the documentation in `source` has this very table.
///
/// # Panics
/// If it has not; the text is the table as it should be.
pub(crate) fn assert_documented(source: &str, rows: &[Vec<String>]) {
    let expected = render(rows);
    let doc = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("//! ").or_else(|| line.strip_prefix("/// ")).unwrap_or_default().to_owned()
    };
    let lines: Vec<String> = source.lines().map(doc).collect();
    let found = lines.windows(expected.len()).any(|window| window == expected);
    assert!(found, "the documentation differs from what the code does:\n{}", expected.join("\n"));
}
