//! The declared minimum Rust version is true.

use crate::checks::{Skipped, verdict};
use crate::command::{cargo, command, output, run, target_dir};
use crate::metadata::Metadata;

/// As `rust-version` in the root Cargo.toml.
const MSRV: &str = "1.89";

pub(crate) fn check() -> Result<Skipped, String> {
    let metadata = Metadata::load()?;
    let mut findings = Vec::new();
    let published: Vec<&str> = metadata.members().filter(|p| p.published).map(|p| p.name.as_str()).collect();
    for package in metadata.members() {
        if package.rust_version.as_deref() != Some(MSRV) {
            findings.push(format!("{} does not declare Rust {MSRV}", package.name));
        }
    }
    for name in &published {
        for package in metadata.closure(name) {
            if package.rust_version.as_deref().is_some_and(|v| parts(v) > parts(MSRV)) {
                let needs = package.rust_version.as_deref().unwrap_or_default();
                findings.push(format!(
                    "{name} needs {} {}, which needs Rust {needs}",
                    package.name, package.version
                ));
            }
        }
    }
    let install = ["toolchain", "install", MSRV, "--profile", "minimal", "--no-self-update"];
    let skipped = match output(&mut command("rustup", &install)) {
        Ok(_) => {
            let mut check = command("rustup", &["run", MSRV, "cargo", "check", "--locked"]);
            check.args(published.iter().flat_map(|name| ["-p", name]));
            // A folder of its own, so that the two compilers do not throw each other's work away.
            check.env("CARGO_TARGET_DIR", target_dir().join("msrv")).env_remove("RUSTUP_TOOLCHAIN");
            findings.extend(run(&mut check).err());
            None
        }
        Err(error) => {
            println!("{error}");
            let lint = ["clippy", "--workspace", "--", "-D", "clippy::incompatible_msrv"];
            findings.extend(run(&mut cargo(&lint)).err());
            Some(format!("no toolchain {MSRV} here; checked with clippy's incompatible_msrv instead"))
        }
    };
    verdict(findings).map(|_| skipped)
}

fn parts(version: &str) -> Vec<u64> {
    let mut parts: Vec<u64> = version.split('.').map(|p| p.parse().unwrap_or(0)).collect();
    parts.resize(3, 0);
    parts
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn versions_compare_by_number() {
        assert!(parts("1.100") > parts("1.89"));
        assert!(parts("1.89.1") > parts("1.89"));
        assert!(parts("1.9") < parts("1.89"));
        assert_eq!(parts("1.89.0"), parts("1.89"));
    }
}
