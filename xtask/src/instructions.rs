//! Instructions per record of the way from the driver to the reader, against those of the floor: a gate that no busy
//! machine disturbs.

use crate::checks::Skipped;
use crate::command::{cargo, command, output, run, target_dir};

/// Frames of the two runs whose difference counts.
const FRAMES: [u64; 2] = [4, 20];

/// Codec, bytes of a value, and how many times the floor's instructions the delivery may take. Above what it is by a
/// tenth: lower them when it gets better.
const LIMITS: [(&str, &str, f64); 3] = [("none", "100", 1.75), ("lz4", "100", 1.45), ("lz4", "1000", 1.25)];

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
    let mut findings = Vec::new();
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
    let text = output(&mut command(&program(), &["frame", codec, "1", size]))?;
    text.split(' ').next().and_then(|n| n.parse().ok()).ok_or_else(|| format!("unexpected: {text}"))
}

/// The instructions of one frame more.
fn per_frame(what: &str, codec: &str, size: &str) -> Result<f64, String> {
    let mut counts = Vec::new();
    for frames in FRAMES {
        let file = target_dir().join("callgrind.out");
        let out = format!("--callgrind-out-file={}", file.display());
        let frames = frames.to_string();
        let arguments = ["--quiet", "--tool=callgrind", &out, &program(), what, codec, &frames, size];
        output(&mut command("valgrind", &arguments))?;
        let text =
            std::fs::read_to_string(&file).map_err(|e| format!("cannot read callgrind's output: {e}"))?;
        let total =
            text.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
        let total: f64 = total.and_then(|n| n.trim().parse().ok()).ok_or("callgrind gave no total")?;
        counts.push(total);
    }
    Ok((counts[1] - counts[0]) / (FRAMES[1] - FRAMES[0]) as f64)
}
