//! The official jars of one Kafka version, resolved with Maven, and our Java helpers compiled against them.
//!
//! Kafka 2 lacks what our helpers need of a client, and clients speak with older brokers: there only the launcher is
//! compiled against the broker's jars, and the helpers run on those of [`HELPERS`]. So it is with [`WITHOUT_TOOLS`].

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::env::major_minor;
use crate::error::Context;
use crate::{Error, Result, target_dir, unique};

/// What starts a broker: file name and text.
const LAUNCHER: (&str, &str) = ("Launcher.java", include_str!("../java/ottla/Launcher.java"));

/// Our Java helpers and the launcher.
const SOURCES: [(&str, &str); 8] = [
    LAUNCHER,
    ("Bench.java", include_str!("../java/ottla/Bench.java")),
    ("Json.java", include_str!("../java/ottla/Json.java")),
    ("Records.java", include_str!("../java/ottla/Records.java")),
    ("Produce.java", include_str!("../java/ottla/Produce.java")),
    ("Tool.java", include_str!("../java/ottla/Tool.java")),
    ("Transactions.java", include_str!("../java/ottla/Transactions.java")),
    ("GroupMember.java", include_str!("../java/ottla/GroupMember.java")),
];

/// Whose clients our helpers use with the brokers of Kafka 2.
const HELPERS: &str = "3.9.2";

/// A version that was published without its tools, and the one whose jars our helpers use with its brokers.
const WITHOUT_TOOLS: (&str, &str) = ("4.4.0", "4.3.1");

/// What the helpers need besides with the brokers of Kafka 2; Kafka 4 has no jar of ZooKeeper.
const ZOOKEEPER_ADMIN: (&str, &str) =
    ("ZooKeeperAdmin.java", include_str!("../java/ottla/ZooKeeperAdmin.java"));

/// Kafka 2 logs through log4j 1, whose successor is still kept up.
const RELOAD4J_BINDING: &str = "1.7.36";

/// Clients before it cannot read an address as Java 14 and later print it (ZOOKEEPER-3779); Kafka 2.8 has this one.
const ZOOKEEPER_VERSION: &str = "3.5.9";

/// Kafka 4 logs through log4j 2, whose slf4j binding is not in Kafka's own POM.
const LOG4J2_VERSION: &str = "2.25.4";

const LOG4J2: &str = "status=ERROR
appender.console.type=Console
appender.console.name=console
appender.console.target=SYSTEM_ERR
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{HH:mm:ss.SSS} %-5p [%c{1}] %m%n
rootLogger.level=LEVEL
rootLogger.appenderRef.console.ref=console
";

const LOG4J1: &str = "log4j.rootLogger=LEVEL, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.Target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{HH:mm:ss.SSS} %-5p [%c{1}] %m%n
";

/// One Kafka version, ready to run.
#[derive(Debug, Clone)]
pub struct Distribution {
    version: String,
    dir: PathBuf,
    classpath: String,
    java: PathBuf,
    /// Whose jars the helpers use, where they are others.
    helpers: Option<Box<Distribution>>,
}

impl Distribution {
    /// Resolves `version`, compiles the helpers, and keeps both in `target/kafka/<version>` for the next time.
    ///
    /// # Errors
    /// When Java 17 or Maven is missing, the version does not exist, or the helpers do not compile.
    pub fn resolve(version: &str) -> Result<Self> {
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        {
            return Err(Error::new(format!("{version:?} is not a Kafka version")));
        }
        let missing = missing_java();
        if !missing.is_empty() {
            return Err(Error::new(format!("real Kafka needs {}", missing.join(" and "))));
        }
        let helpers = helpers_of(version).map(Self::resolve).transpose()?.map(Box::new);
        let dir = target_dir().join("kafka").join(version);
        fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        // Test binaries run side by side; one resolves, the others find it done.
        let lock = File::create(dir.join("lock")).context(|| "cannot create the lock file".to_owned())?;
        lock.lock().context(|| "cannot lock".to_owned())?;
        let jars = jars(version, &dir)?;
        let mut sources = if helpers.is_none() { SOURCES.to_vec() } else { vec![LAUNCHER] };
        if version == HELPERS {
            sources.push(ZOOKEEPER_ADMIN);
        }
        let classes = compile(&dir, &jars, &sources)?;
        for (name, text) in [("log4j2", LOG4J2), ("log4j1", LOG4J1)] {
            for (program, level) in [("broker", "INFO"), ("helper", "WARN")] {
                let file = dir.join(format!("{name}-{program}.properties"));
                fs::write(&file, text.replace("LEVEL", level))
                    .context(|| format!("cannot write {}", file.display()))?;
            }
        }
        let classpath = format!("{}{}{jars}", classes.display(), if cfg!(windows) { ';' } else { ':' });
        Ok(Self { version: version.to_owned(), dir, classpath, java: java_command("java"), helpers })
    }

    /// Whether its brokers are their own controllers; those of Kafka 2 need a ZooKeeper.
    pub(crate) fn has_kraft(&self) -> bool {
        has_kraft(&self.version)
    }

    /// The version, as Maven names it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where everything of this version is kept.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A fresh log file for a helper. Those of earlier days are removed: a process that ends does not drop the helpers
    /// of its shared clusters.
    pub(crate) fn helper_log(&self, name: &str) -> Result<PathBuf> {
        helper_log(&self.dir.join("logs"), name)
    }

    /// A JVM that can run a broker, or its ZooKeeper; the caller adds the class and its arguments. Standard error carries
    /// the log.
    pub(crate) fn broker(&self, heap: &str) -> Command {
        let mut command = self.jvm("broker", heap);
        // Early ones expect of log4j what its successor left out.
        command.arg("-Dzookeeper.jmx.log4j.disable=true");
        command
    }

    /// A JVM with our helpers; the caller adds the class and its arguments. Standard error carries warnings.
    pub(crate) fn helper(&self, heap: &str) -> Command {
        let mut command = self.helpers.as_deref().unwrap_or(self).jvm("helper", heap);
        // Helpers live for seconds; the second compiler would only take the broker's CPU.
        command.arg("-XX:TieredStopAtLevel=1");
        command
    }

    /// Kafka's own consumer for benchmarks, in a JVM as users run it; the caller adds the job.
    pub fn bench_client(&self) -> Command {
        let mut command = self.helpers.as_deref().unwrap_or(self).jvm("helper", "1g");
        command.arg("ottla.Bench");
        command
    }

    fn jvm(&self, program: &str, heap: &str) -> Command {
        let mut command = Command::new(&self.java);
        command
            .arg(format!("-Xmx{heap}"))
            .args([
                "-XX:+UseSerialGC",
                "-Xshare:auto",
                "-Djava.awt.headless=true",
                "-Djava.net.preferIPv4Stack=true",
            ])
            .arg(format!("-Dlog4j2.configurationFile={}", self.log_config("log4j2", program)))
            .arg(format!("-Dlog4j.configuration=file:{}", self.log_config("log4j1", program)))
            .args(["-cp", &self.classpath])
            .env_remove("KAFKA_OPTS")
            .env_remove("CLASSPATH");
        command
    }

    fn log_config(&self, name: &str, program: &str) -> String {
        self.dir.join(format!("{name}-{program}.properties")).display().to_string()
    }
}

/// A fresh log file in `folder`, from which old ones are removed.
pub(crate) fn helper_log(folder: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|m| m.modified()).ok();
        if written.and_then(|w| w.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(86_400)) {
            // Another process may be removing it too.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(folder.join(format!("{}.log", unique(name))))
}

/// What a machine lacks for the suites on real Kafka; empty when it has everything.
pub fn missing_tools() -> Vec<String> {
    let mut missing = missing_java();
    if output(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_none() {
        missing.push("Python 3 with venv (for the librdkafka member)".to_owned());
    }
    missing
}

/// What it lacks for a broker and our Java helpers.
fn missing_java() -> Vec<String> {
    let mut missing = Vec::new();
    match java_major() {
        Some(major) if major >= 17 => {}
        Some(major) => missing.push(format!("Java 17 or later (found {major})")),
        None => missing.push("Java 17 or later".to_owned()),
    }
    if output(Command::new(java_command("javac")).arg("-version")).is_none() {
        missing.push("javac (a JDK)".to_owned());
    }
    if output(Command::new("mvn").arg("--version")).is_none() {
        missing.push("Maven (mvn)".to_owned());
    }
    missing
}

/// `java -version` prints `openjdk version "17.0.15" …` or, before 9, `"1.8.0_…"`.
fn java_major() -> Option<u32> {
    let text = output(Command::new(java_command("java")).arg("-version"))?;
    parse_major(&text)
}

fn parse_major(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+', '_']).map(|p| p.parse::<u32>().ok());
    match parts.next()?? {
        1 => parts.next()?,
        major => Some(major),
    }
}

/// That of `JAVA_HOME` where there is one, else the one on the path.
fn java_command(name: &str) -> PathBuf {
    std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin").join(name))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The class path of the jars. Maven is asked once; the answer holds as long as every jar is still there.
fn jars(version: &str, dir: &Path) -> Result<String> {
    let file = dir.join("classpath.txt");
    let separator = if cfg!(windows) { ';' } else { ':' };
    if let Ok(known) = fs::read_to_string(&file)
        && !known.trim().is_empty()
        && known.trim().split(separator).all(|jar| Path::new(jar).is_file())
    {
        return Ok(known.trim().to_owned());
    }
    fs::write(dir.join("pom.xml"), pom(version)).context(|| "cannot write the pom".to_owned())?;
    let fresh = dir.join("classpath.new");
    let mut last = String::new();
    // A registry that hiccups is the usual reason for a failure, so try again.
    for _ in 0..3 {
        let result = Command::new("mvn")
            .args(["-q", "-B", "dependency:build-classpath"])
            .arg(format!("-Dmdep.outputFile={}", fresh.display()))
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .context(|| "cannot run mvn".to_owned())?;
        if result.status.success() {
            fs::rename(&fresh, &file).context(|| "Maven wrote no class path".to_owned())?;
            let text = fs::read_to_string(&file).context(|| "cannot read the class path".to_owned())?;
            return Ok(text.trim().to_owned());
        }
        last = String::from_utf8_lossy(&[result.stdout, result.stderr].concat()).into_owned();
    }
    Err(Error::new(format!("Maven cannot resolve Kafka {version}:\n{last}")))
}

/// The version on whose jars our helpers run, where it is another.
fn helpers_of(version: &str) -> Option<&'static str> {
    let (without, other) = WITHOUT_TOOLS;
    if version == without { Some(other) } else { (!has_kraft(version)).then_some(HELPERS) }
}

/// Kafka 3 is run as its own controller, though early ones could do without.
fn has_kraft(version: &str) -> bool {
    major_minor(version).0 >= 3
}

fn pom(version: &str) -> String {
    let scala = if major_minor(version) >= (2, 4) { "kafka_2.13" } else { "kafka_2.12" };
    let mut artifacts = vec![("org.apache.kafka", scala, version)];
    if has_kraft(version) {
        // The broker's own POM asks for the other one, which is not there either.
        let (artifact, tools) = match helpers_of(version) {
            Some(other) => ("kafka-tools-api", other),
            None => ("kafka-tools", version),
        };
        artifacts.push(("org.apache.kafka", artifact, tools));
    } else {
        artifacts.push(("org.slf4j", "slf4j-reload4j", RELOAD4J_BINDING));
        artifacts.push(("org.apache.zookeeper", "zookeeper", ZOOKEEPER_VERSION));
    }
    if major_minor(version).0 >= 4 {
        for artifact in ["log4j-slf4j-impl", "log4j-core", "log4j-api"] {
            artifacts.push(("org.apache.logging.log4j", artifact, LOG4J2_VERSION));
        }
    }
    let dependencies: String = artifacts
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>\n"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>ottla</groupId><artifactId>real-kafka</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies>\n</project>\n"
    )
}

/// Compiles the helpers into a folder named after their text, so that changed ones are compiled again.
fn compile(dir: &Path, jars: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    jars.hash(&mut hasher);
    let classes = dir.join(format!("classes-{:016x}", hasher.finish()));
    if classes.is_dir() {
        return Ok(classes);
    }
    let sources = dir.join("java");
    let fresh = dir.join("classes.new");
    // Left over from a run that was interrupted.
    let _ = fs::remove_dir_all(&fresh);
    for folder in [&sources, &fresh] {
        fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut javac = Command::new(java_command("javac"));
    javac.args(["-encoding", "UTF-8", "-nowarn", "-cp", jars, "-d"]).arg(&fresh);
    for (name, text) in files {
        let file = sources.join(name);
        fs::write(&file, text).context(|| format!("cannot write {}", file.display()))?;
        javac.arg(file);
    }
    let result = javac.stdin(Stdio::null()).output().context(|| "cannot run javac".to_owned())?;
    if !result.status.success() {
        return Err(Error::new(format!(
            "the Java helpers do not compile:\n{}",
            String::from_utf8_lossy(&[result.stdout, result.stderr].concat())
        )));
    }
    fs::rename(&fresh, &classes).context(|| "cannot keep the compiled helpers".to_owned())?;
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_java_is_read_from_what_it_prints() {
        assert_eq!(parse_major("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(parse_major("java version \"1.8.0_402\"\n"), Some(8));
        assert_eq!(parse_major("openjdk version \"26-ea\" 2026-03-17\n"), Some(26));
        assert_eq!(parse_major("command not found"), None);
    }

    #[test]
    fn only_kafka_4_gets_the_binding_of_log4j_2() {
        assert!(pom("4.3.1").contains("log4j-slf4j-impl"));
        assert!(!pom("3.9.2").contains("log4j"));
    }

    #[test]
    fn a_version_without_its_tools_has_helpers_of_another() {
        assert_eq!(
            [helpers_of("4.4.0"), helpers_of("2.8.2"), helpers_of("4.3.1")],
            [Some("4.3.1"), Some("3.9.2"), None]
        );
        assert!(pom("4.4.0").contains("<artifactId>kafka-tools-api</artifactId><version>4.3.1"));
        assert!(pom("4.4.0").contains("<artifactId>kafka_2.13</artifactId><version>4.4.0"));
        assert!(!pom("4.3.1").contains("kafka-tools-api"));
    }

    #[test]
    fn kafka_2_comes_without_our_helpers_and_before_2_4_for_an_older_scala() {
        assert!(pom("2.8.2").contains("kafka_2.13") && !pom("2.8.2").contains("kafka-tools"));
        assert!(pom("2.1.1").contains("kafka_2.12") && pom("2.1.1").contains("slf4j-reload4j"));
        assert!(pom("3.9.2").contains("kafka-tools") && has_kraft("3.9.2") && !has_kraft("2.8.2"));
    }

    #[test]
    fn a_version_cannot_leave_its_folder() {
        assert!(Distribution::resolve("../4.3.1").is_err());
        assert!(Distribution::resolve("").is_err());
    }
}
