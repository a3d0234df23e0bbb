//! What the fuzzer ever found, and what it starts from, on the oracles alone: no fuzzer needed.

use std::collections::BTreeSet;

use ottla_core::Rng;
use ottla_tests::fuzz::{Class, TARGETS, corpus, messages};
use ottla_tests::heap::Counting;
use ottla_tests::vectors::hex;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn every_crash_that_was_found_stays_fixed() {
    for target in TARGETS {
        for (name, input) in corpus::crashes(target.name) {
            println!("{} {name}", target.name);
            (target.run)(&input);
        }
    }
}

#[test]
fn every_corpus_passes_whole_and_cut_anywhere() {
    for target in TARGETS {
        let corpus = corpus::load(target.name);
        assert!(!corpus.is_empty(), "{} has no seed", target.name);
        for input in corpus {
            (target.run)(&input);
            for at in [1, 2, 3, 5, 8].map(|part| input.len() * part / 9) {
                (target.run)(&input[..at]);
            }
        }
        (target.run)(&[]);
    }
}

/// Where an input is a list of choices, chance finds the shallow bugs without a fuzzer.
/// `OTTLA_FUZZ_SEEDS=0..100000 cargo test -p ottla-tests --test fuzz_replay machines` looks longer.
#[test]
fn machines_survive_inputs_made_at_random() {
    let seeds = std::env::var("OTTLA_FUZZ_SEEDS").unwrap_or_else(|_| "0..150".to_owned());
    let (from, to) = seeds.split_once("..").expect("OTTLA_FUZZ_SEEDS is FROM..TO");
    let seeds = from.parse::<u64>().expect("a number")..to.parse().expect("a number");
    for target in TARGETS.iter().filter(|target| target.class == Class::Machine) {
        for seed in seeds.clone() {
            let mut rng = Rng::new(seed);
            let length = rng.below(700);
            let input: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
            if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
                panic!("{} seed {seed} fails with {}", target.name, hex(&input));
            }
        }
    }
}

#[test]
fn every_target_has_a_binary_and_the_other_way_round() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let folder = std::fs::read_dir(corpus::folder().join("fuzz_targets")).expect("the targets");
    let files: BTreeSet<String> = folder
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    assert_eq!(names, files);
    let manifest = std::fs::read_to_string(corpus::folder().join("Cargo.toml")).expect("the manifest");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
    // What lies in the folder of crashes belongs to a target.
    for entry in std::fs::read_dir(corpus::folder().join("crashes")).into_iter().flatten() {
        let name = entry.expect("an entry").file_name();
        assert!(ottla_tests::fuzz::target(&name.to_string_lossy()).is_some(), "{name:?} is no target");
    }
}

#[test]
fn every_message_in_every_version_that_a_client_reads_has_a_seed() {
    let corpus: BTreeSet<Vec<u8>> =
        corpus::load("resp_decode").into_iter().map(|mut seed| seed.drain(..2).collect()).collect();
    for (choice, message, version) in messages::read() {
        assert!(corpus.contains(&choice[..]), "{message} {version} has no seed");
    }
}
