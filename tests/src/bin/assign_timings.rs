//! How long the assignors take on the groups by formula, next to Java: `cargo run --release --bin assign_timings`.

use ottla_tests::vectors;

fn main() {
    let dir = std::env::args_os().nth(1).map_or_else(vectors::default_dir, std::path::PathBuf::from);
    for (id, ours, java) in vectors::assign::timings(&dir) {
        println!("{:>10} µs, Java {:>10} µs  {id}", ours.as_micros(), java.as_micros());
    }
}
