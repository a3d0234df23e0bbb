//! The family `records`: batches of every format and codec, whole, compacted, damaged and hostile.
//!
//! Each line is read twice: batch by batch with checksums off (`expect`), and through a small reader that does
//! what a consumer does with one fetched partition (`consumer`).

mod consumer;
mod expect;

use std::path::Path;

use bytes::Bytes;
use ottla_wire::records::DecodeOptions;
use serde_json::Value;

use super::sha256::Sha256;
use super::{Report, files, is_listed, lines, unhex};

/// Why lines of the written list that are wrong otherwise differ: see `exceptions.txt`.
const OTHERWISE: &str = "we read it otherwise than java's consumer";

/// More than any vector needs, except those of 64 MB, which a client may refuse by a limit.
const LIMIT: usize = 32 << 20;

/// How a vector is decoded.
fn options(check_crcs: bool) -> DecodeOptions {
    DecodeOptions { check_crcs, max_decompressed_batch_bytes: LIMIT }
}

/// Lines with a wrong checksum that we refuse for their structure as well, also when checksums are not enforced.
///
/// Bits were flipped so that a record lies behind the last offset that its batch declares. Java then hands it
/// out if told not to check; we never do, because the position that follows from it is worth nothing. With
/// checksums on, as in the `consumer` part of the same line, both refuse.
const DAMAGED: &str =
    "checksum and structure are both wrong: we refuse it even when checksums are not enforced";

/// Why a line does not hold.
enum Mismatch {
    /// It differs.
    Wrong(String),
    /// See [`DAMAGED`].
    RefusedDamaged,
}

impl From<String> for Mismatch {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<&str> for Mismatch {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

/// How strictly a line is to be met.
#[derive(Clone, Copy)]
struct Leniency {
    /// Java lets it pass; a stricter reader may refuse it.
    may_reject: bool,
    /// Where both accept, they must agree; that is all.
    fuzz: bool,
}

/// Runs every vector of the family in `dir`.
pub fn run(dir: &Path) -> Report {
    let mut report = Report::new("records");
    for file in files(dir, "records") {
        let fuzz = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("fuzz"));
        for line in lines(&file) {
            let id = line["id"].as_str().expect("an id");
            let outcome = run_line(dir, &line, fuzz);
            match outcome {
                Err(Mismatch::RefusedDamaged) => report.except(id, DAMAGED),
                Err(Mismatch::Wrong(why)) if is_listed("records", id) => {
                    report.except(id, &format!("{OTHERWISE}: {why}"));
                }
                Err(Mismatch::Wrong(why)) => report.count(id, Err(why)),
                Ok(()) => report.count(id, Ok(())),
            }
        }
    }
    report
}

fn run_line(dir: &Path, line: &Value, fuzz: bool) -> Result<(), Mismatch> {
    let input = input(dir, line)?;
    let leniency = Leniency { may_reject: line["mayReject"].as_bool().unwrap_or(false), fuzz };
    let mut damaged = false;
    if let Some(expect) = line.get("expect") {
        match (expect::check(&input, expect, leniency), line.get("alsoAcceptable")) {
            (Ok(()), _) => {}
            (Err(Mismatch::RefusedDamaged), _) => damaged = true,
            // A reader that understands the container may give the alternative instead, and its consumer then
            // goes on where Java's stops.
            (Err(Mismatch::Wrong(why)), Some(also)) => {
                return Ok(expect::check_records(&input, also).map_err(|also| format!("{why}; nor {also}"))?);
            }
            (Err(wrong), None) => return Err(wrong),
        }
    }
    match line.get("consumer") {
        Some(Value::Array(fetches)) => {
            for (n, fetch) in fetches.iter().enumerate() {
                consumer::check(&input, fetch, leniency).map_err(|why| format!("fetch {n}: {why}"))?;
            }
        }
        Some(fetch) => consumer::check(&input, fetch, leniency)?,
        None => {}
    }
    if damaged { Err(Mismatch::RefusedDamaged) } else { Ok(()) }
}

/// The bytes of a line, from itself or from a file beside it.
fn input(dir: &Path, line: &Value) -> Result<Bytes, String> {
    if let Some(hex) = line["hex"].as_str() {
        return Ok(Bytes::from(unhex(hex)));
    }
    let path = dir.join(line["bin"].as_str().ok_or("neither hex nor bin")?);
    let bytes = std::fs::read(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let same = line["binLength"].as_u64() == Some(bytes.len() as u64)
        && line["binSha256"].as_str() == Some(Sha256::of(&bytes).as_str());
    if same {
        Ok(Bytes::from(bytes))
    } else {
        Err(format!("{} is not the file it should be", path.display()))
    }
}
