//! What the fuzzer ever found, and what it starts from, on the oracles alone: no fuzzer needed.

use std::collections::BTreeSet;

use ottla_core::Rng;
use ottla_tests::fuzz::{Class, TARGETS, corpus, messages, traffic};
use ottla_tests::heap::Counting;
use ottla_tests::vectors::hex;
use ottla_wire::records::{BatchDecoder, Compression};

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
    let seeds = corpus::load("resp_decode").into_iter().filter(|seed| seed.len() > 2);
    let corpus: BTreeSet<Vec<u8>> = seeds.map(|mut seed| seed.drain(..2).collect()).collect();
    for (choice, message, version) in messages::read() {
        assert!(corpus.contains(&choice[..]), "{message} {version} has no seed");
    }
}

/// Buffers and tables that any payload before has left behind, of whatever codec, change nothing.
#[test]
fn a_decoder_that_has_met_anything_gives_what_a_new_one_gives() {
    const LIMIT: usize = 100_000;
    let codecs = [
        ("codec_gzip", Compression::Gzip),
        ("codec_snappy", Compression::Snappy),
        ("codec_lz4", Compression::Lz4),
        ("codec_zstd", Compression::Zstd),
    ];
    let mut payloads: Vec<(Compression, Vec<u8>)> = Vec::new();
    for (target, codec) in codecs {
        let crashes = corpus::crashes(target).into_iter().map(|(_, input)| input);
        let inputs = corpus::load(target).into_iter().chain(crashes);
        payloads.extend(inputs.filter(|input| !input.is_empty()).map(|input| (codec, input[1..].to_vec())));
    }
    let mut rng = Rng::new(1);
    let mut used = BatchDecoder::new();
    let mut read = 0;
    let mut held = Vec::new();
    for _ in 0..4 * payloads.len() {
        let (codec, payload) = &payloads[rng.below(payloads.len() as u64) as usize];
        let limit = if rng.below(4) == 0 { 100 } else { LIMIT };
        let out = used.decompress(*codec, payload, limit);
        match (&out, BatchDecoder::new().decompress(*codec, payload, limit)) {
            (Ok(out), Ok(new)) => assert_eq!(*out, new, "{codec}: {}", hex(payload)),
            // Damaged and too large at once: which of them is seen first, and when, is its own affair.
            (Err(_), Err(_)) => {}
            (out, new) => panic!("{codec}: {out:?} and {new:?} of {}", hex(payload)),
        }
        read += usize::from(out.is_ok());
        // Some results are held for a while, so that their buffers come back late.
        held.extend(out);
        if held.len() > 3 {
            held.swap_remove(rng.below(held.len() as u64) as usize);
        }
    }
    assert!(read > payloads.len(), "only {read} could be read");
}

/// The corpora hold what the embedded broker says now: each kind of answer, in some version.
#[test]
fn what_the_embedded_broker_says_is_in_the_corpora() {
    let corpus: BTreeSet<Vec<u8>> = corpus::load("resp_decode").into_iter().collect();
    let answers = traffic::answers(&traffic::conversations(), 1);
    let mut apis = BTreeSet::new();
    for (api, version, body) in answers {
        let Some(name) = messages::response_of(api) else { continue };
        let Some(seed) = messages::response_seed(name, version, &body) else { continue };
        if corpus.contains(&seed) {
            apis.insert(name);
        }
    }
    assert!(apis.len() >= 18, "only {apis:?}: `cargo xtask fuzz seed` makes the corpora anew");
}
