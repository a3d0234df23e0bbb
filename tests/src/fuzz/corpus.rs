//! What the fuzzer starts from, and what it has found: files in `fuzz/` that tests read too.
//!
//! `fuzz/corpus/TARGET.hex` holds one input a line; `fuzz/crashes/TARGET/` holds, one file each, the inputs that
//! once failed.

use std::path::{Path, PathBuf};

use crate::vectors::{hex, unhex};

/// The folder `fuzz/`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The file with the corpus of `target`.
pub fn file(target: &str) -> PathBuf {
    folder().join("corpus").join(format!("{target}.hex"))
}

/// The corpus of `target`.
///
/// # Panics
/// When there is none.
pub fn load(target: &str) -> Vec<Vec<u8>> {
    let path = file(target);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(unhex).collect()
}

/// Writes `inputs` as the corpus of `target`, sorted and each once.
///
/// # Panics
/// When the file cannot be written.
pub fn save(target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let mut inputs: Vec<Vec<u8>> = inputs.into_iter().collect();
    inputs.sort();
    inputs.dedup();
    let text: String = inputs.iter().map(|input| hex(input) + "\n").collect();
    let path = file(target);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The inputs that once failed `target`: name and bytes.
///
/// # Panics
/// When a file cannot be read.
pub fn crashes(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder().join("crashes").join(target)).into_iter().flatten();
    let mut found: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let bytes = std::fs::read(entry.path()).expect("a crash can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    found.sort();
    found
}
