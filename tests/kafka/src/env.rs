//! What the environment says: which versions to test, where running clusters are, where files go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{KafkaCluster, Result};

/// Names the versions of the real-Kafka suites, separated by commas.
const VERSIONS: &str = "OTTLA_KAFKA_VERSIONS";

/// The Kafka versions that this run tests, from `OTTLA_KAFKA_VERSIONS`. A real-Kafka test is a loop over this list:
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for version in ottla_kafka::versions() {
///     let kafka = ottla_kafka::shared(&version)?;
///     // …
/// }
/// # Ok(()) }
/// ```
///
/// # Panics
/// When the variable is not set or names no version: a test that ran on nothing must not pass.
pub fn versions() -> Vec<String> {
    let versions = split(&std::env::var(VERSIONS).unwrap_or_default());
    assert!(
        !versions.is_empty(),
        "{VERSIONS} names no version of Kafka: use `cargo xtask test`, or set it (such as {VERSIONS}={})",
        crate::DEFAULT_VERSION
    );
    versions
}

/// The versions in a list with commas.
pub fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

/// Whether a version such as `3.9.2` is `major.minor` or later.
pub fn is_at_least(version: &str, major: u32, minor: u32) -> bool {
    major_minor(version) >= (major, minor)
}

/// The number before the first dot and the one behind it; what does not look like a version is taken for a new one.
pub(crate) fn major_minor(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|n| n.parse().ok());
    (numbers.next().flatten().unwrap_or(4), numbers.next().flatten().unwrap_or(0))
}

/// The cluster of `version` that all tests of this run share: of one broker, unless `cargo xtask test --matrix` says
/// otherwise.
///
/// It is the one at `OTTLA_KAFKA_BOOTSTRAP_<version with _ for .>` where that is set (`cargo xtask test` does), else one
/// started for this process. Use [`unique`] topics and groups, never stop its broker and never change its settings.
///
/// # Errors
/// When the cluster cannot be started.
pub fn shared(version: &str) -> Result<Arc<KafkaCluster>> {
    static CLUSTERS: Mutex<BTreeMap<String, Arc<KafkaCluster>>> = Mutex::new(BTreeMap::new());
    let mut clusters = CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = clusters.get(version) {
        return Ok(Arc::clone(cluster));
    }
    let cluster = Arc::new(match std::env::var(bootstrap_variable(version)) {
        Ok(bootstrap) => KafkaCluster::running(version, &bootstrap)?,
        Err(_) => KafkaCluster::start(version, 1)?,
    });
    clusters.insert(version.to_owned(), Arc::clone(&cluster));
    Ok(cluster)
}

/// The variable that says where a cluster of `version` runs.
pub(crate) fn bootstrap_variable(version: &str) -> String {
    format!("OTTLA_KAFKA_BOOTSTRAP_{}", version.replace('.', "_"))
}

/// A name that no other test, process or run uses: `prefix` and a suffix.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{:x}-{:x}-{next}", std::process::id(), clock_micros())
}

/// The low bits of the clock, to tell runs apart.
pub(crate) fn clock_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64 & 0xfff_ffff_ffff)
}

/// Cargo's target folder: that of the running program, else the workspace's.
pub fn target_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_split_at_commas() {
        assert_eq!(split(" 4.3.1, 3.9.2,"), ["4.3.1", "3.9.2"]);
        assert_eq!(split(" ,"), [""; 0]);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_at_least("3.10.0", 3, 9) && is_at_least("4.0.0", 3, 9) && is_at_least("2.4.1", 2, 4));
        assert!(!is_at_least("2.1.1", 2, 4) && !is_at_least("3.9.2", 4, 0));
    }

    #[test]
    fn names_differ() {
        assert_ne!(unique("a"), unique("a"));
    }

    #[test]
    fn the_variable_has_no_dots() {
        assert_eq!(bootstrap_variable("4.3.1"), "OTTLA_KAFKA_BOOTSTRAP_4_3_1");
    }
}
