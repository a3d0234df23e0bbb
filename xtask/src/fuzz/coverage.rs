//! Lines of the decoders that the corpora reach.

use std::collections::BTreeSet;
use std::path::Path;

use super::{folder, on_nightly, triple};
use crate::command::{command, output, root, run as run_command, target_dir};

/// The least that is wanted of the lines of decoders, in percent.
const LEAST: f64 = 95.0;

/// What was measured.
pub(super) struct Coverage {
    pub(super) lines: u64,
    pub(super) reached: u64,
}

impl Coverage {
    pub(super) fn percent(&self) -> f64 {
        self.reached as f64 * 100.0 / self.lines as f64
    }
}

/// What reads bytes from the network: files and folders of ottla-wire's sources. The rest writes, or says what was
/// wrong.
const DECODERS: [&str; 15] = [
    "array.rs",
    "consumer_protocol.rs",
    "frame.rs",
    "reader.rs",
    "varint.rs",
    "records/batch.rs",
    "records/batches.rs",
    "records/bytes_at.rs",
    "records/control.rs",
    "records/header.rs",
    "records/legacy.rs",
    "records/transactions.rs",
    "records/validate.rs",
    "records/varint.rs",
    "records/codec/",
];

/// Prints the line coverage of the decoders, file by file and in sum. Fails when it is too little. Needs the component
/// `llvm-tools`. No check of CI: it builds everything anew, with counters.
pub(super) fn run(grown: bool) -> Result<Coverage, String> {
    let target = target_dir().join("coverage");
    let profile = target.join("fuzz.profraw");
    let mut build = command("cargo", &["build", "--package", "ottla-tests", "--bin", "fuzz"]);
    on_nightly(&mut build).env("RUSTFLAGS", "-C instrument-coverage").env("CARGO_TARGET_DIR", &target);
    run_command(&mut build)?;
    let program = target.join("debug/fuzz");
    let mut cover = command(&program.to_string_lossy(), &["cover"]);
    if grown {
        cover.arg(folder().join("corpus"));
    }
    run_command(cover.env("LLVM_PROFILE_FILE", &profile))?;
    let sysroot = output(on_nightly(&mut command("rustc", &["--print", "sysroot"])))?;
    let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(triple()?).join("bin");
    let tool = |name: &str| tools.join(name).to_string_lossy().into_owned();
    let data = target.join("fuzz.profdata");
    let (profile, data) = (profile.to_string_lossy(), data.to_string_lossy());
    run_command(&mut command(&tool("llvm-profdata"), &["merge", "-sparse", &profile, "-o", &data]))?;
    let instr = format!("-instr-profile={data}");
    let program = program.to_string_lossy();
    let text = output(&mut command(&tool("llvm-cov"), &["export", "-format=lcov", &instr, &program]))?;
    let coverage = report(&text)?;
    if coverage.percent() < LEAST {
        return Err(format!(
            "fewer than {LEAST} % of the lines of decoders are reached: see which are not, and add a seed that does to \
             tests/src/fuzz/seeds.rs, then `cargo xtask fuzz seed`"
        ));
    }
    Ok(coverage)
}

/// Lines of blocks that read nothing: views that are made, copied, compared or shown, and what compresses.
fn other_lines(source: &str) -> BTreeSet<u64> {
    const TRAITS: [&str; 5] =
        [" Default for ", " Clone for ", "Debug for ", "Display for ", " PartialEq for "];
    let mut inside = false;
    let mut lines = BTreeSet::new();
    for (number, line) in (1..).zip(source.lines()) {
        let other = line.starts_with("impl") && TRAITS.iter().any(|name| line.contains(name));
        inside |= other || line.starts_with("mod tests") || line.starts_with("pub(super) fn compress");
        if inside {
            lines.insert(number);
        }
        inside &= !line.starts_with('}');
    }
    lines
}

/// Sums the lines of the decoders up, from lcov's format: `SF:` begins a file, `DA:` is a line and its count.
fn report(lcov: &str) -> Result<Coverage, String> {
    let wire = root().join("crates/ottla-wire/src");
    let (mut all, mut reached) = (0u64, 0u64);
    for file in lcov.split("end_of_record") {
        let Some(path) = file.lines().find_map(|line| line.strip_prefix("SF:")) else { continue };
        let Ok(name) = Path::new(path).strip_prefix(&wire) else { continue };
        let name = name.to_string_lossy();
        let views = name.starts_with("generated/")
            && (name.ends_with("_response.rs") || name.contains("consumer_protocol"));
        if !views && !DECODERS.iter().any(|decoder| name.starts_with(decoder)) {
            continue;
        }
        let others = other_lines(&std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?);
        let lines: Vec<(u64, u64)> = file
            .lines()
            .filter_map(|line| line.strip_prefix("DA:")?.split_once(','))
            .filter_map(|(line, count)| Some((line.parse().ok()?, count.parse().ok()?)))
            .filter(|(line, _)| !others.contains(line))
            .collect();
        let missed: Vec<u64> = lines.iter().filter(|(_, count)| *count == 0).map(|(line, _)| *line).collect();
        all += lines.len() as u64;
        reached += (lines.len() - missed.len()) as u64;
        if !missed.is_empty() {
            println!("{name}: {} of {} lines, not {missed:?}", lines.len() - missed.len(), lines.len());
        }
    }
    if all == 0 {
        return Err("no line of a decoder was measured".to_owned());
    }
    let coverage = Coverage { lines: all, reached };
    println!("decoders: {reached} of {all} lines, {:.2} %", coverage.percent());
    Ok(coverage)
}
