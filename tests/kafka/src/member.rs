//! Group members that are not ours: Kafka's Java consumer, and librdkafka through its Python wheel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dist::helper_log;
use crate::error::Context;
use crate::process::Lines;
use crate::{Error, KafkaCluster, Result, target_dir};

/// The wheel with librdkafka in it.
const WHEEL: &str = "confluent-kafka==2.16.1";

const SCRIPT: &str = include_str!("../python/member.py");

/// What kind of member.
#[derive(Debug, Clone)]
pub struct MemberSpec {
    group: String,
    topics: Vec<String>,
    commit: &'static str,
    properties: BTreeMap<String, String>,
}

impl MemberSpec {
    /// A member of `group` that reads `topics` from the earliest offset and commits by itself.
    pub fn new(group: &str, topics: &[&str]) -> Self {
        Self {
            group: group.to_owned(),
            topics: topics.iter().map(|&t| t.to_owned()).collect(),
            commit: "auto",
            properties: BTreeMap::new(),
        }
    }

    /// Commit after each poll instead, and say so.
    pub fn commit_each_poll(mut self) -> Self {
        self.commit = "poll";
        self
    }

    /// A setting by its name in that client, such as `partition.assignment.strategy`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.to_owned(), value.to_owned());
        self
    }

    fn json(&self, bootstrap: &str) -> String {
        json!({
            "bootstrap": bootstrap, "group": self.group, "topics": self.topics, "commit": self.commit,
            "properties": self.properties,
        })
        .to_string()
    }
}

/// What a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Partitions it got in addition.
    Assigned(Vec<(String, u32)>),
    /// Partitions it gives up.
    Revoked(Vec<(String, u32)>),
    /// Partitions that it lost to others.
    Lost(Vec<(String, u32)>),
    /// Records that its user got in one poll from one partition.
    Records {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The first offset.
        first: i64,
        /// The last offset.
        last: i64,
        /// How many.
        count: u64,
    },
    /// A commit succeeded.
    Committed,
    /// A commit was refused because the group moved on.
    CommitFailed(String),
    /// It closed and left the group.
    Closed,
    /// It failed.
    Error(String),
}

/// A running member. Dropping it kills it, so that the group sees it only after the session timeout.
#[derive(Debug)]
pub struct Member {
    lines: Lines,
}

impl Member {
    /// Kafka's Java consumer.
    ///
    /// # Errors
    /// When its JVM does not start.
    pub fn java(kafka: &KafkaCluster, spec: &MemberSpec) -> Result<Self> {
        let distribution = kafka.distribution();
        let log = distribution.helper_log("member")?;
        let mut command = distribution.helper("256m");
        command.arg("ottla.GroupMember").arg(spec.json(kafka.bootstrap()));
        Ok(Self { lines: Lines::start("the Java member", &mut command, log)? })
    }

    /// librdkafka's consumer, from the Python wheel in a virtual environment under `target/`, made at the first call.
    ///
    /// # Errors
    /// When Python or the wheel is missing.
    pub fn librdkafka(kafka: &KafkaCluster, spec: &MemberSpec) -> Result<Self> {
        let (python, dir) = python()?;
        let script = dir.join("member.py");
        let log = helper_log(&dir.join("logs"), "member")?;
        let mut command = Command::new(python);
        command.arg(script).arg(spec.json(kafka.bootstrap()));
        Ok(Self { lines: Lines::start("the librdkafka member", &mut command, log)? })
    }

    /// The next event, waiting at most `timeout`.
    ///
    /// # Errors
    /// When none comes in time or the member ended.
    pub fn next(&mut self, timeout: Duration) -> Result<Event> {
        event(&self.lines.next(timeout)?)
    }

    /// An event that is there already.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        self.lines.try_next().map(|v| event(&v)).transpose()
    }

    /// Waits for an event that satisfies `wanted` and returns it with all before it.
    ///
    /// # Errors
    /// When it does not come in time, counted over all events together, or the member ended.
    pub fn until(&mut self, timeout: Duration, mut wanted: impl FnMut(&Event) -> bool) -> Result<Vec<Event>> {
        let lines = self.lines.until(timeout, |v| event(v).is_ok_and(|e| wanted(&e)))?;
        lines.iter().map(event).collect()
    }

    /// Tells it to commit its position.
    ///
    /// # Errors
    /// When it has ended.
    pub fn commit(&mut self) -> Result<()> {
        self.lines.send("commit")
    }

    /// Tells it to stop fetching while it stays in the group.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.lines.send("pause")
    }

    /// Tells it to fetch again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.lines.send("resume")
    }

    /// Lets it leave the group and end; returns the events until then.
    ///
    /// # Errors
    /// When it does not close within `timeout`.
    pub fn close(mut self, timeout: Duration) -> Result<Vec<Event>> {
        self.lines.send("close")?;
        self.until(timeout, |e| *e == Event::Closed)
    }

    /// Kills it: it does not leave the group.
    pub fn kill(self) {
        self.lines.kill();
    }
}

fn event(line: &Value) -> Result<Event> {
    let partitions = || -> Vec<(String, u32)> {
        let pairs = line["partitions"].as_array().into_iter().flatten();
        pairs.filter_map(|p| Some((p[0].as_str()?.to_owned(), u32::try_from(p[1].as_u64()?).ok()?))).collect()
    };
    let error = || line["error"].as_str().unwrap_or_default().to_owned();
    Ok(match line["event"].as_str().unwrap_or_default() {
        "assigned" => Event::Assigned(partitions()),
        "revoked" => Event::Revoked(partitions()),
        "lost" => Event::Lost(partitions()),
        "records" => Event::Records {
            topic: line["topic"].as_str().unwrap_or_default().to_owned(),
            partition: line["partition"].as_u64().and_then(|p| p.try_into().ok()).unwrap_or(0),
            first: line["first"].as_i64().unwrap_or(-1),
            last: line["last"].as_i64().unwrap_or(-1),
            count: line["count"].as_u64().unwrap_or(0),
        },
        "committed" => Event::Committed,
        "commit_failed" => Event::CommitFailed(error()),
        "closed" => Event::Closed,
        "error" => Event::Error(error()),
        _ => return Err(Error::new(format!("a member said {line}"))),
    })
}

/// The Python interpreter that has librdkafka's wheel, in a virtual environment that is made when it is missing.
///
/// # Errors
/// When Python or the wheel is missing.
pub fn librdkafka_python() -> Result<PathBuf> {
    python().map(|(python, _)| python)
}

/// The interpreter of the virtual environment and the folder of our script, both made when they are missing.
fn python() -> Result<(PathBuf, PathBuf)> {
    let dir = target_dir().join("kafka").join("python");
    fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context(|| "cannot create the lock file".to_owned())?;
    lock.lock().context(|| "cannot lock".to_owned())?;
    fs::write(dir.join("member.py"), SCRIPT).context(|| "cannot write the script".to_owned())?;
    let venv = dir.join("venv");
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let ready = dir.join("installed");
    if fs::read_to_string(&ready).is_ok_and(|installed| installed == WHEEL) && python.is_file() {
        return Ok((python, dir));
    }
    // Left over from an interrupted installation, or of another version.
    let _ = fs::remove_dir_all(&venv);
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(pip(&python).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        WHEEL,
    ]))?;
    fs::write(&ready, WHEEL).context(|| "cannot note the installation".to_owned())?;
    Ok((python, dir))
}

fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip"]);
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context(|| format!("cannot run {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Err(Error::new(format!("{command:?} failed:\n{text}")))
}
