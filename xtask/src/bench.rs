//! `cargo xtask bench`: builds the benchmarks and starts them.

use crate::command::{cargo, command, run, target_dir};

/// The programs need the library, which this one does not link to.
pub(crate) fn start(rest: &[&str]) -> Result<(), String> {
    // librdkafka is C: where it cannot be built, the benchmark says that it is missing.
    let fixed = ["build", "--release", "--package", "ottla-benches", "--bins"];
    if run(&mut cargo(&[&fixed[..], &["--features", "peers"]].concat())).is_err() {
        println!("librdkafka cannot be built here (it needs a C compiler and make); the others are measured");
        run(&mut cargo(&fixed))?;
    }
    let program = target_dir().join("release").join(format!("ottla-bench{}", std::env::consts::EXE_SUFFIX));
    run(&mut command(&program.to_string_lossy(), rest))
}
