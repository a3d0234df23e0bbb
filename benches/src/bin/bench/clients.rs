//! The programs that are measured.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use ottla_benches::Result;
use ottla_kafka::KafkaCluster;

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// What one run said.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) value: Value,
}

impl Run {
    /// Any field.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.value[name].as_f64()
    }

    fn per_record(&self, name: &str) -> Option<f64> {
        Some(self.number(name)? / self.number("records")?.max(1.0))
    }

    /// CPU per record in nanoseconds: user, system.
    pub(crate) fn cpu(&self) -> Option<(f64, f64)> {
        Some((self.per_record("user_ns")?, self.per_record("system_ns")?))
    }

    /// User and system together.
    pub(crate) fn total(&self) -> Option<f64> {
        self.cpu().map(|(user, system)| user + system)
    }

    /// Time per record, in nanoseconds.
    pub(crate) fn time(&self) -> Option<f64> {
        self.per_record("wall_ns")
    }

    /// Records per second.
    pub(crate) fn rate(&self) -> Option<f64> {
        Some(self.number("records")? / (self.number("wall_ns")? / 1e9))
    }

    /// Keys and values, in MB (of 1024²) per second, as Kafka's own tools count.
    pub(crate) fn megabytes(&self) -> Option<f64> {
        Some(self.number("bytes")? / (1 << 20) as f64 / (self.number("wall_ns")? / 1e9))
    }

    /// In MiB.
    pub(crate) fn peak_rss(&self) -> Option<f64> {
        Some(self.number("peak_rss_kib")? / 1024.0)
    }

    /// In MiB, of the counting allocator.
    pub(crate) fn peak_live(&self) -> Option<f64> {
        Some(self.number("peak_live_bytes")? / (1 << 20) as f64)
    }

    pub(crate) fn allocations(&self) -> Option<f64> {
        self.per_record("allocations")
    }

    /// Time to the first record, in milliseconds.
    pub(crate) fn first_record(&self) -> Option<f64> {
        Some(self.number("first_record_ns")? / 1e6)
    }

    /// What must be the same for all clients.
    pub(crate) fn sums(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let sum = |name: &str| self.value[name].as_u64();
        (sum("records"), sum("bytes"), sum("checksum"))
    }
}

/// How processes get their cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pinning {
    cores: usize,
}

impl Pinning {
    /// Brokers (whatever this process starts) on all cores but the first, each client on the first.
    pub(crate) fn set_up() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let list = format!("1-{}", cores.saturating_sub(1));
        let own = std::process::id().to_string();
        // Of all threads: there is only this one so far.
        let mut taskset = Command::new("taskset");
        taskset.args(["-a", "-c", "-p", &list, &own]).stdout(Stdio::null()).stderr(Stdio::null());
        let done = cores > 1 && taskset.status().is_ok_and(|status| status.success());
        Self { cores: if done { cores } else { 0 } }
    }

    /// For people.
    pub(crate) fn text(self) -> String {
        match self.cores {
            0 => "nothing is pinned (no taskset, or one core)".to_owned(),
            2 => "each client on one core, the brokers on the other".to_owned(),
            cores => format!("each client on one core, the brokers on the other {}", cores - 1),
        }
    }

    /// With `whole` the program has all cores, as the brokers have but the first.
    fn command(self, program: &PathBuf, whole: bool) -> Command {
        if self.cores == 0 {
            return Command::new(program);
        }
        let cores = if whole { format!("0-{}", self.cores - 1) } else { "0".to_owned() };
        let mut command = Command::new("taskset");
        command.args(["-c", &cores]).arg(program);
        command
    }
}

/// A way to start a client.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

/// confluent-kafka for Python; the text is handed to the interpreter.
const PYTHON: &str = include_str!("../../../peers/consumer.py");

/// The program of a client, or why it cannot be measured here.
pub(crate) fn program(client: &str, kafka: &KafkaCluster) -> Result<Program, String> {
    let plain = |path: PathBuf| Program { path, arguments: Vec::new() };
    match client {
        "java" => {
            let command = kafka.distribution().bench_client();
            let arguments = command.get_args().map(OsString::from).collect();
            Ok(Program { path: command.get_program().into(), arguments })
        }
        "python" => {
            let path = ottla_kafka::librdkafka_python().map_err(|e| first_line(&e.to_string()))?;
            Ok(Program { path, arguments: vec!["-c".into(), PYTHON.into()] })
        }
        "franz-go" => franz().map(plain),
        _ => {
            let name = if client.starts_with("rdkafka-") { "bench-rdkafka" } else { "bench-client" };
            let own = std::env::current_exe().map_err(|e| e.to_string())?;
            let path = own.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
            if path.is_file() { Ok(plain(path)) } else { Err("built without the feature `peers`".to_owned()) }
        }
    }
}

/// Builds the Go program; Go itself knows when there is nothing to do.
fn franz() -> Result<PathBuf, String> {
    let program =
        ottla_kafka::target_dir().join("bench").join(format!("franz{}", std::env::consts::EXE_SUFFIX));
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".");
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/franz")).stdin(Stdio::null());
    let output = build.output().map_err(|e| format!("no Go: {e}"))?;
    if output.status.success() {
        return Ok(program);
    }
    Err(first_line(&String::from_utf8_lossy(&output.stderr)))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl Program {
    /// Runs it to its end.
    pub(crate) fn run(&self, job: &Value, pinning: Pinning) -> Result<Run> {
        let whole = job["client"].as_str().is_some_and(|client| client.ends_with("-whole"));
        let mut command = pinning.command(&self.path, whole);
        command.args(&self.arguments).arg(job.to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let end = Instant::now() + LIMIT;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                // Both only fail when it is gone already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {LIMIT:?}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut text = String::new();
        if let Some(mut output) = child.stdout.take() {
            output.read_to_string(&mut text)?;
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("ended with {status}").into());
        }
        let line = text.lines().last().unwrap_or_default();
        Ok(Run { value: serde_json::from_str(line).map_err(|e| format!("said {text:?} ({e})"))? })
    }
}
