//! The fuzz targets without the fuzzer; `cargo xtask fuzz` calls it.

use std::path::Path;
use std::process::ExitCode;

use ottla_tests::fuzz::seeds::Seeds;
use ottla_tests::fuzz::{TARGETS, corpus, target};
use ottla_tests::heap::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USAGE: &str = "usage: fuzz list | seed | unpack TARGET FOLDER | replay TARGET FILE... | cover [FOLDER]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => list(),
        ["seed"] => seed(),
        ["unpack", name, folder] => unpack(name, Path::new(folder)),
        ["replay", name, files @ ..] => replay(name, files),
        ["cover"] => cover(None),
        ["cover", folder] => cover(Some(Path::new(folder))),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Name, goal in executions, and what is held; one line each, tabs between.
fn list() {
    for target in TARGETS {
        println!("{}\t{}\t{}", target.name, target.class.goal(), target.holds);
    }
}

/// Writes the corpora in `fuzz/corpus` anew.
fn seed() {
    for (target, seeds) in Seeds::all().into_inner() {
        println!("{target}: {} seeds", seeds.len());
        corpus::save(target, seeds);
    }
}

/// Writes the corpus and the crashes of a target into a folder, a file each, as the fuzzer wants them.
fn unpack(name: &str, folder: &Path) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let crashes = corpus::crashes(name).into_iter().map(|(_, bytes)| bytes);
    for (at, input) in corpus::load(name).into_iter().chain(crashes).enumerate() {
        std::fs::write(folder.join(format!("seed-{at}")), input).expect("a seed can be written");
    }
}

fn replay(name: &str, files: &[&str]) {
    let Some(target) = target(name) else { panic!("there is no target {name}: see `fuzz list`") };
    for file in files {
        println!("{file}");
        (target.run)(&std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}")));
    }
}

/// Runs every target on its corpus, its crashes, and what lies in its folder of `folder`, if there is one: for
/// measuring coverage.
fn cover(folder: Option<&Path>) {
    for target in TARGETS {
        let mut inputs = corpus::load(target.name);
        inputs.extend(corpus::crashes(target.name).into_iter().map(|(_, bytes)| bytes));
        let grown = folder.and_then(|folder| std::fs::read_dir(folder.join(target.name)).ok());
        for entry in grown.into_iter().flatten() {
            inputs.extend(std::fs::read(entry.expect("an entry").path()));
        }
        println!("{}: {} inputs", target.name, inputs.len());
        inputs.iter().for_each(|input| (target.run)(input));
    }
}
