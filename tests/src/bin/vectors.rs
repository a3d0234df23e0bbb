//! `cargo xtask vectors [DIR]`: runs every golden vector and prints the counts per family.
//!
//! It fails when a vector does that is not in the written list of exceptions, and when one of the list holds or,
//! with the project's own vectors, is none.

use std::path::PathBuf;
use std::process::ExitCode;

use ottla_tests::vectors;

fn main() -> ExitCode {
    let other = std::env::args_os().nth(1).map(PathBuf::from);
    let own = other.is_none();
    let reports = vectors::run_all(&other.unwrap_or_else(vectors::default_dir));
    let stale = if own { vectors::stale_exceptions(&reports) } else { Vec::new() };
    for line in &stale {
        println!("FAILED {line}");
    }
    let mut failed = stale.len();
    for report in reports {
        for (id, why) in report.failed.iter().take(40) {
            println!("FAILED {id}: {why}");
        }
        for (id, reason) in &report.exceptions {
            println!("exception {id}: {reason}");
        }
        failed += report.failed.len();
        println!(
            "{}: {} passed, {} failed, {} exceptions",
            report.family,
            report.passed,
            report.failed.len(),
            report.exceptions.len()
        );
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
