//! `cargo xtask vectors [DIR]`: runs every golden vector and prints the counts per family.

use std::path::PathBuf;
use std::process::ExitCode;

use ottla_tests::vectors;

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map_or_else(vectors::default_dir, PathBuf::from);
    let mut failed = 0;
    for report in vectors::run_all(&dir) {
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
