//! What a consumer pays for spans and metrics that nobody takes, as the difference between builds of one program
//! (`crates/ottla/benches/reads.rs`) that have them and that do not.

use super::{count, printed};
use crate::command::{cargo, output};

/// Megabytes of the two runs whose difference counts.
const MEGABYTES: [u64; 2] = [2, 8];

/// Seconds of the two runs without a record. Metrics are published every five seconds.
const SECONDS: [u64; 2] = [100, 300];
const INTERVAL: u64 = 5;

/// How many instructions more each read may take with spans, and with metrics too: above what it is by
/// what a compiler may change, less than 2 % of a read. Of
/// `batches` a read is up to a hundred records; of `records` most reads are a record that is at hand, which costs next to
/// nothing.
const LIMITS: [(&str, f64, f64); 2] = [("batches", 120.0, 500.0), ("records", 10.0, 5.0)];

/// Prints the differences, and says which are above their limits.
pub(super) fn check() -> Result<Vec<String>, String> {
    // Spans and log lines compiled out; as it is by default, without a subscriber; with metrics and no recorder.
    let bare = build("tracing/max_level_off")?;
    let default = build("")?;
    let metrics = build("metrics")?;
    let mut findings = Vec::new();
    for (what, spans_limit, metrics_limit) in LIMITS {
        let [bare, default, metrics] = [&bare, &default, &metrics].map(|program| per_read(program, what));
        let (bare, default, metrics) = (bare?, default?, metrics?);
        let spans = default.instructions - bare.instructions;
        let with_metrics = metrics.instructions - default.instructions;
        println!(
            "{what}: {:.1} instructions a read of {:.1} records without spans and metrics",
            bare.instructions, bare.records
        );
        for (of, more, limit) in [("spans", spans, spans_limit), ("metrics", with_metrics, metrics_limit)] {
            println!(
                "  with {of} that nobody takes: {:.1} more a read (at most {limit}), {:.3} a record",
                more,
                more / bare.records
            );
            if more > limit {
                findings.push(format!(
                    "{what}: a read pays {more:.1} instructions for {of} that nobody takes, at most {limit} are allowed"
                ));
            }
        }
    }
    let [without, with] = [&default, &metrics].map(|program| idle(program));
    println!("a publication of metrics that nobody takes: {:.0} instructions", with? - without?);
    Ok(findings)
}

/// Builds the program with these features of ottla, and gives where it is.
fn build(features: &str) -> Result<String, String> {
    let arguments = ["build", "--release", "--package", "ottla", "--bench", "reads", "--locked"];
    let more = ["--features", features, "--message-format", "json"];
    println!("$ cargo {} --features {features:?}", arguments.join(" "));
    let messages = output(&mut cargo(&[&arguments[..], &more].concat()))?;
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(message.get("executable")?.as_str()?.to_owned())
    });
    executable.ok_or_else(|| "cargo names no executable".to_owned())
}

/// What a read takes on the reader's side, and how many records it gives.
struct Read {
    instructions: f64,
    records: f64,
}

fn per_read(program: &str, what: &str) -> Result<Read, String> {
    let of = |megabytes: u64| -> Result<_, String> {
        let arguments = [what, &megabytes.to_string()];
        Ok((count(Some("*counted_*"), program, &arguments)?, printed(program, &arguments)?))
    };
    let (few, many) = (of(MEGABYTES[0])?, of(MEGABYTES[1])?);
    let [reads, records] = [0, 1].map(|n| many.1[n] - few.1[n]);
    if reads < 1.0 || many.0 <= few.0 {
        return Err(format!("nothing was counted of {what}: {many:?} after {few:?}"));
    }
    Ok(Read { instructions: (many.0 - few.0) / reads, records: records / reads })
}

/// The instructions of the whole program, in an interval in which no record comes.
fn idle(program: &str) -> Result<f64, String> {
    let [few, many] = SECONDS.map(|seconds| count(None, program, &["idle", &seconds.to_string()]));
    Ok((many? - few?) * INTERVAL as f64 / (SECONDS[1] - SECONDS[0]) as f64)
}
