//! Golden vectors made with Kafka's own Java classes (`tests/vectors/README.md` explains the format).
//!
//! One module a family. Each has `pub fn run(dir: &Path) -> Report`, where `dir` is the root of a folder in
//! the published format, so that a newer set of vectors can be tried without touching the repository.

use std::io::Read;
use std::path::{Path, PathBuf};

pub mod assign;
pub mod hash;
pub mod messages;
pub mod records;
pub mod sha256;
pub mod subscription;

/// What became of one family of vectors.
#[derive(Debug)]
pub struct Report {
    /// Name of the family: `messages`, `records`, `assign`, `hash` or `subscription`.
    pub family: &'static str,
    /// Vectors that hold.
    pub passed: usize,
    /// Vectors that do not: id and what was wrong.
    pub failed: Vec<(String, String)>,
    /// Vectors that differ for a reason that is written down: id and reason.
    pub exceptions: Vec<(String, String)>,
}

impl Report {
    /// An empty report of `family`.
    pub fn new(family: &'static str) -> Self {
        Self { family, passed: 0, failed: Vec::new(), exceptions: Vec::new() }
    }

    /// Counts one vector. One that holds must not be in the written list of exceptions.
    pub fn count(&mut self, id: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) if is_listed(self.family, id) => {
                let why = "it holds, and is listed as an exception: take it off the list".to_owned();
                self.failed.push((id.to_owned(), why));
            }
            Ok(()) => self.passed += 1,
            Err(why) => self.failed.push((id.to_owned(), why)),
        }
    }

    /// Counts one vector that differs for `reason`, which is a failure unless it is in the written list.
    pub fn except(&mut self, id: &str, reason: &str) {
        if is_listed(self.family, id) {
            self.exceptions.push((id.to_owned(), reason.to_owned()));
        } else {
            let why = format!("it differs and is not in vectors/exceptions.txt: {reason}");
            self.failed.push((id.to_owned(), why));
        }
    }
}

/// The vectors that may differ, each with its reason: family and id in a line, the reason behind `#`.
const EXCEPTIONS: &str = include_str!("../../vectors/exceptions.txt");

/// Whether a vector is in the written list of exceptions.
pub fn is_listed(family: &str, id: &str) -> bool {
    listed().any(|listed| listed == (family, id))
}

/// The written list of exceptions: family and id.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    EXCEPTIONS.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        Some((words.next()?, words.next()?))
    })
}

/// What is wrong with the written list after the project's own vectors were run: names that are no vector's.
/// (A listed vector that holds is a failure of its family.)
pub fn stale_exceptions(reports: &[Report]) -> Vec<String> {
    let occurs = |family: &str, id: &str| {
        let of_family = reports.iter().find(|report| report.family == family);
        of_family.is_some_and(|report| {
            let mut seen = report.exceptions.iter().chain(&report.failed);
            seen.any(|(seen, _)| seen == id)
        })
    };
    let stale = listed().filter(|(family, id)| !occurs(family, id));
    stale.map(|(family, id)| format!("{family} {id}: is listed as an exception and is no vector")).collect()
}

/// All families on the folder `dir`, in a fixed order.
pub fn run_all(dir: &Path) -> Vec<Report> {
    vec![messages::run(dir), records::run(dir), assign::run(dir), hash::run(dir), subscription::run(dir)]
}

/// The project's own copy of the vectors.
pub fn default_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The JSON objects of a `.jsonl` or `.jsonl.gz` file, one a line.
///
/// # Panics
/// When the file cannot be read or holds no JSON: a vector that is skipped in silence proves nothing.
pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    let raw = std::fs::read(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    let text = if path.extension().is_some_and(|e| e == "gz") {
        let mut text = String::new();
        flate2::read::MultiGzDecoder::new(raw.as_slice())
            .read_to_string(&mut text)
            .unwrap_or_else(|e| panic!("cannot unzip {}: {e}", path.display()));
        text
    } else {
        String::from_utf8(raw).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect()
}

/// The vector files of the sub-folder `family` of `dir`, sorted by name.
///
/// # Panics
/// When there are none.
pub fn files(dir: &Path, family: &str) -> Vec<PathBuf> {
    let folder = dir.join(family);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display()))
        .map(|entry| entry.expect("directory entry").path())
        .filter(|p| p.to_string_lossy().ends_with(".jsonl") || p.to_string_lossy().ends_with(".jsonl.gz"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no vectors in {}", folder.display());
    found
}

/// The bytes that the lower-case hex `text` stands for.
///
/// # Panics
/// When it is no hex.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd hex: {text}");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap_or_else(|e| panic!("bad hex {text}: {e}")))
        .collect()
}

/// `bytes` as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "legacy/v1/gzip/outer-offset-0";

    #[test]
    fn a_difference_is_an_exception_only_where_it_is_listed() {
        let mut report = Report::new("records");
        report.except(LISTED, "for a reason");
        report.except("another", "for a reason");
        assert_eq!(report.exceptions, [(LISTED.to_owned(), "for a reason".to_owned())]);
        assert_eq!(report.failed.len(), 1);
        // The same name in another family is not listed.
        let mut report = Report::new("messages");
        report.except(LISTED, "for a reason");
        assert!(report.exceptions.is_empty() && report.failed.len() == 1);
    }

    #[test]
    fn what_is_listed_must_differ() {
        let mut report = Report::new("records");
        report.count(LISTED, Ok(()));
        report.count("another", Ok(()));
        assert_eq!((report.passed, report.failed.len()), (1, 1));
    }

    #[test]
    fn what_is_listed_must_be_a_vector() {
        let mut report = Report::new("records");
        assert!(stale_exceptions(&[]).len() >= 2);
        let before = stale_exceptions(std::slice::from_ref(&report)).len();
        report.except(LISTED, "for a reason");
        assert_eq!(stale_exceptions(&[report]).len(), before - 1);
    }
}
