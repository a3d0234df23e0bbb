//! Nothing that `ottla` builds with default features compiles C.

use crate::checks::{Skipped, verdict};
use crate::command::{cargo, output, run, target_dir};
use crate::metadata::Metadata;

/// Crates that compile C, C++ or assembler, or that only exist to do so.
const COMPILERS: [&str; 8] =
    ["autotools", "bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "ring", "vcpkg"];

/// Names end in `-sys`, yet they only declare: no library is built.
const BINDINGS_ONLY: [&str; 4] = ["js-sys", "linux-raw-sys", "web-sys", "windows-sys"];

/// The build with compilers that fail decides; the list of names explains what it found.
pub(crate) fn check() -> Result<Skipped, String> {
    let tree = [
        "tree",
        "-p",
        "ottla",
        "-e",
        "normal,build",
        "--target",
        "all",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let names = output(&mut cargo(&tree))?;
    let mut suspects: Vec<&str> =
        names.lines().filter_map(|l| l.split(' ').next()).filter(|name| is_suspect(name)).collect();
    suspects.sort_unstable();
    suspects.dedup();
    let target = target_dir().join("c-free");
    let mut build = cargo(&["build", "-p", "ottla", "--locked"]);
    build.env("CARGO_TARGET_DIR", target);
    for tool in ["CC", "CXX", "CMAKE", "HOST_CC", "HOST_CXX"] {
        build.env(tool, "/bin/false");
    }
    let mut findings: Vec<String> = suspects
        .iter()
        .map(|name| format!("`ottla` depends on {name}, which compiles C or links to it"))
        .collect();
    let metadata = Metadata::load()?;
    for package in metadata.closure("ottla") {
        // A build script of such a crate may find a library instead of compiling one; C it is all the same.
        if let Some(library) = &package.links {
            findings.push(format!("`ottla` depends on {}, which links to {library}", package.name));
        }
    }
    if let Err(error) = run(&mut build) {
        findings.push(format!("without a C compiler {error}"));
    }
    verdict(findings)
}

fn is_suspect(name: &str) -> bool {
    COMPILERS.contains(&name)
        || name.starts_with("aws-lc")
        || (name.ends_with("-sys") && !BINDINGS_ONLY.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::is_suspect;

    #[test]
    fn what_compiles_c_is_told_from_what_declares_it() {
        for name in ["cc", "ring", "aws-lc-rs", "aws-lc-sys", "zstd-sys", "libz-sys", "openssl-sys"] {
            assert!(is_suspect(name), "{name}");
        }
        for name in ["libc", "windows-sys", "linux-raw-sys", "flate2", "zlib-rs"] {
            assert!(!is_suspect(name), "{name}");
        }
    }
}
