//! Instructions per record of the way from the driver to the reader, against those of the floor, and what spans and
//! metrics cost that nobody takes: a gate that no busy machine disturbs.

mod unseen;

use crate::checks::Skipped;
use crate::command::{cargo, command, output, run, target_dir};

/// Frames of the two runs whose difference counts.
const FRAMES: [u64; 2] = [4, 20];

/// Codec, bytes of a value, and how many times the floor's instructions the delivery may take. Above what it is by a
/// tenth: lower them when it gets better.
const LIMITS: [(&str, &str, f64); 3] = [("none", "100", 1.15), ("lz4", "100", 1.2), ("lz4", "1000", 1.25)];

/// Counts and compares.
pub(crate) fn check() -> Result<Skipped, String> {
    if output(&mut command("valgrind", &["--version"])).is_err() {
        return Ok(Some(
            "no valgrind here: only the test steady_allocations of ottla-tests gates".to_owned(),
        ));
    }
    run(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "ottla-benches",
        "--bin",
        "bench-instructions",
        "--locked",
    ]))?;
    let mut findings = unseen::check()?;
    for (codec, size, limit) in LIMITS {
        let frame = per_frame("frame", codec, size)?;
        let deliver = per_frame("deliver", codec, size)? - frame;
        let floor = per_frame("floor", codec, size)? - frame;
        let records = records(codec, size)?;
        let ratio = deliver / floor;
        println!(
            "{codec}, {size} B: {:.0} instructions a record, the floor {:.0}: {ratio:.2} × (at most {limit})",
            deliver / records,
            floor / records
        );
        if ratio > limit {
            findings.push(format!(
                "{codec}, {size} B: {ratio:.2} times the floor's instructions, at most {limit} are allowed"
            ));
        }
    }
    if findings.is_empty() { Ok(None) } else { Err(findings.join("\n")) }
}

fn program() -> String {
    let name = format!("bench-instructions{}", std::env::consts::EXE_SUFFIX);
    target_dir().join("release").join(name).display().to_string()
}

fn records(codec: &str, size: &str) -> Result<f64, String> {
    let [records, _] = printed(&program(), &["frame", codec, "1", size])?;
    Ok(records)
}

/// The instructions of one frame more.
fn per_frame(what: &str, codec: &str, size: &str) -> Result<f64, String> {
    let [few, many] = FRAMES.map(|frames| {
        let frames = frames.to_string();
        count(None, &program(), &[what, codec, &frames, size])
    });
    Ok((many? - few?) / (FRAMES[1] - FRAMES[0]) as f64)
}

/// The two numbers that a program prints.
fn printed(program: &str, arguments: &[&str]) -> Result<[f64; 2], String> {
    let text = output(&mut command(program, arguments))?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().map_err(|_| format!("unexpected: {text}"))
}

/// The instructions that a program executes: all, or those within functions of a name and what they call.
fn count(within: Option<&str>, program: &str, arguments: &[&str]) -> Result<f64, String> {
    let file = target_dir().join("callgrind.out");
    let out = format!("--callgrind-out-file={}", file.display());
    let toggle = within.map(|name| format!("--toggle-collect={name}"));
    let options = ["--quiet", "--tool=callgrind", &out].into_iter().chain(toggle.as_deref());
    let options: Vec<&str> = options.chain([program]).chain(arguments.iter().copied()).collect();
    output(&mut command("valgrind", &options))?;
    let text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read callgrind's output: {e}"))?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total.and_then(|n| n.trim().parse().ok()).ok_or_else(|| "callgrind gave no total".to_owned())
}
