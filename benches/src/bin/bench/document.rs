//! docs/benchmarks.md.

use std::fmt::Write as _;
use std::process::Command;

use ottla_benches::Result;

use crate::Options;
use crate::clients::Pinning;
use crate::stats::Spread;

const BEGIN: &str = "# Benchmarks

Written by `cargo xtask bench --docs`; not edited by hand. Losses are shown like wins; why they are, as far as it is known,
is in [performance.md](performance.md).

How to repeat it: `cargo xtask bench --docs` (`--quick` for fewer rounds and records, `--only` for some work sets); the last
line says how long it takes. It needs Java 17 and Maven for the broker, a C compiler and make for librdkafka, Go and Python
3 for the clients in those languages; what is missing is named below and left out.

## What is measured

- A real Kafka on loopback. Each client is a process of its own, on one core; the brokers have the other cores. Within a
  round the clients run one after the other (A B C A B C …), so that a slow minute hits all of them.
- Every client reads the whole topic once as a warm-up and then again while it is measured, without a group unless its name
  says so. CPU time is user and system time of all threads of the process. MB are 1024² bytes of keys and values.
- Checksums are verified by everybody; read_uncommitted; no commits without a group; fetches of at most 1 MiB, of a
  partition too, which wait for new records for 10 ms where a topic is read from the beginning again (`-defaults`: librdkafka's own sizes, 50 MiB); librdkafka has `fetch.queue.backoff.ms=5`, without which it
  stalls for a second at a time; Java has `max.poll.records=10000`, and a longer warm-up.
- Every client looks at the first and the last byte of every value and adds up lengths; the sums are compared.
- Keys have 8 bytes; values look like JSON; batches have about 16 KiB before compression where nothing else is said.
- The *floor* is a raw blocking socket: one connection to each broker, the next fetch under way while an answer is worked
  through, one buffer of 1 MiB that is used again; it verifies checksums, decompresses (lz4 with an unsafe decoder,
  zstd with C where librdkafka was built) and steps over the records, believing every byte. `floor-tokio` reads through tokio.
- ottla: `batch` is `next_batch` with borrowed records, `record` is `next_record`, `stream` is `records()`; `-group`
  means as a member of a group with automatic commits, `-inline` with `on_current_runtime`. On one core nothing is decoded
  ahead. `-whole` clients have all cores, those of the brokers too: `batch` then with `decode_threads(0)`, `ahead` with its default.
- librdkafka: `base` and `stream` are the consumers of the crate `rdkafka`, `batch` and `callback` are
  `rd_kafka_consume_batch_queue` and `rd_kafka_consume_callback_queue` through its C interface, which needs `unsafe`.
- Clients that no target speaks of have three rounds at most, as have the work sets without one. `floor` in the table of
  latencies is a blocking socket too.
- A ratio is the median of the ratios of the rounds, with the least and the greatest. \"Best\" is librdkafka's client with the
  lowest median. Allocations and the heap are those of Rust's allocator, so they are not known for the others.
";

const TITLE: &str = "\n### ";
/// So the last line begins.
pub(crate) const TOOK: &str = "The whole run took";

/// What was found, in parts, to be written at the end.
#[derive(Debug, Default)]
pub(crate) struct Document {
    tables: String,
}

impl Document {
    pub(crate) fn add(&mut self, part: &str) {
        let _ = writeln!(self.tables, "{part}");
    }

    /// Writes the file. Of some work sets only these are replaced, and say so.
    pub(crate) fn write(&self, options: &Options, pinning: Pinning, load: Option<Spread>) -> Result<()> {
        let mut text = format!("{BEGIN}\n| | |\n|---|---|\n");
        // Writing to a string cannot fail.
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "| {name} | {value} |");
        };
        line("machine", &machine());
        line("cores", &pinning.text());
        line("rounds", &format!("{}{}", options.rounds(), if options.quick { ", --quick" } else { "" }));
        line("Kafka", ottla_kafka::DEFAULT_VERSION);
        for (name, program, arguments) in [
            ("Rust", "rustc", &["--version"][..]),
            ("C compiler of librdkafka", "cc", &["--version"]),
            ("Java", "java", &["--version"]),
            ("Go", "go", &["version"]),
            ("Python", "python3", &["--version"]),
        ] {
            line(name, &version(program, arguments));
        }
        line("rdkafka", "0.39 (librdkafka 2.12.1), built with -O2 as its build script does");
        if let Some(load) = load {
            let busy = load.median > 4.0;
            let what = if busy {
                ": **a busy machine**; CPU time is comparable, rates and latencies are not"
            } else {
                ""
            };
            line(
                "load average during the run",
                &format!("{:.1} ({:.1}–{:.1}){what}", load.median, load.min, load.max),
            );
        }
        let _ = write!(text, "\n## Results\n\n{}", self.tables.trim_end());
        text.push('\n');
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
        if !options.only.is_empty() {
            let load = load.map_or(String::new(), |l| format!(", load average {:.1}", l.median));
            let note = format!(
                "Measured anew after the rest, in a run of its own: {} rounds{load}.",
                options.rounds()
            );
            text = merged(&std::fs::read_to_string(path)?, &text, &note)?;
        }
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))?;
        std::fs::write(path, text)?;
        eprintln!("wrote docs/benchmarks.md");
        Ok(())
    }
}

/// The whole of `old`, with the sections of `new` in the place of theirs.
fn merged(old: &str, new: &str, note: &str) -> Result<String> {
    let rows = ["machine", "cores", "Kafka", "Rust", "C compiler of librdkafka", "rdkafka"];
    for row in rows.map(|row| format!("| {row} |")) {
        let of = |text: &str| text.lines().find(|line| line.starts_with(&row)).map(str::to_owned);
        if of(old) != of(new) {
            return Err(format!("the other tables have another row {row}: measure all of them").into());
        }
    }
    let mut all: Vec<String> = old.split(TITLE).map(str::to_owned).collect();
    for section in new.split(TITLE).skip(1) {
        let title = |section: &str| section.lines().next().map(str::to_owned);
        let place = all.iter_mut().skip(1).find(|known| title(known) == title(section));
        let place =
            place.ok_or_else(|| format!("no section {:?} to replace: measure all", title(section)))?;
        let took = place.lines().rfind(|line| line.starts_with(TOOK)).map(str::to_owned);
        let body = section.lines().filter(|line| !line.starts_with(TOOK)).collect::<Vec<_>>().join("\n");
        *place = format!("{}\n\n{note}\n", body.trim_end());
        // It is of the run that measured all.
        if let Some(took) = took {
            let _ = write!(place, "\n{took}\n");
        }
    }
    Ok(all.join(TITLE))
}

/// The class of machine, without its name.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let virtual_machine = if info.contains(" hypervisor") { ", a virtual machine" } else { "" };
    // Those that this process may use: its own are all but the first.
    let all = info.matches("processor\t").count().max(cores);
    format!(
        "{}, {all} cores{virtual_machine}, {}",
        model.unwrap_or(std::env::consts::ARCH).trim(),
        std::env::consts::OS
    )
}

fn version(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    match text.lines().next() {
        Some(line) => line.trim().to_owned(),
        None => "missing".to_owned(),
    }
}

/// How many programs want a core, over the last minute.
pub(crate) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# B\n\n| Kafka | 4 |\n\n## Results\n";

    #[test]
    fn some_work_sets_take_the_place_of_theirs() -> Result<()> {
        let old = format!("{HEAD}\n### a\n\n1\n\n### b\n\n2\n\nThe whole run took 9 minutes.\n");
        let new = format!("{HEAD}\n### b\n\n3\n\nThe whole run took 1 minutes.\n");
        let text = merged(&old, &new, "Anew.")?;
        assert_eq!(
            text,
            format!("{HEAD}\n### a\n\n1\n\n### b\n\n3\n\nAnew.\n\nThe whole run took 9 minutes.\n")
        );
        let other = new.replace("| 4 |", "| 5 |");
        assert!(merged(&old, &other, "").is_err() && merged(HEAD, &new, "").is_err());
        Ok(())
    }
}
