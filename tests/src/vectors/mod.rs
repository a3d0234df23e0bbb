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

    /// Counts one vector.
    pub fn count(&mut self, id: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(why) => self.failed.push((id.to_owned(), why)),
        }
    }
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
