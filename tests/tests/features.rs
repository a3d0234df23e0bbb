//! `docs/features.md` and `docs/ported-suites.md` claim nothing without a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names of tests, and of the scenarios that tests run on both kinds of broker.
fn names_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let mut test = path.ends_with("scenarios.rs") || path.iter().any(|part| part == "scenarios");
            let scenarios = test;
            for line in source.lines().map(str::trim_start) {
                let line = line.strip_prefix("pub ").unwrap_or(line);
                let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
                match function {
                    Some(function) if test => names.extend(function.split('(').next().map(str::to_owned)),
                    _ if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => test = true,
                    _ if line.starts_with("#[") => {}
                    _ => test = scenarios,
                }
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["crates", "tests/tests", "tests/src", "tests/sim"] {
        names_below(&root().join(folder), &mut names);
    }
    names
}

#[test]
fn ported_suites_name_tests_that_exist() {
    let names = names();
    let text = std::fs::read_to_string(root().join("docs/ported-suites.md")).unwrap();
    let mut works = 0;
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let &[case, tests, state] = cells.as_slice() else { panic!("{row:?} has not three cells") };
        if case == "scenario" {
            continue;
        }
        let tests: Vec<&str> = tests.split(", ").filter(|test| !test.is_empty()).collect();
        for test in &tests {
            assert!(names.contains(*test), "{test:?} of {case:?} is no test");
        }
        if state.starts_with("works") {
            assert!(!tests.is_empty(), "{case:?} works, but no test shows it");
            works += 1;
        }
    }
    assert!(works > 40, "only {works} cases were read");
}

#[test]
fn features_name_tests_that_exist() {
    let (root, names) = (root(), names());
    let text = std::fs::read_to_string(root.join("docs/features.md")).unwrap();
    let mut works = 0;
    for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let &[feature, state, tests] = cells.as_slice() else { panic!("{row:?} has not three cells") };
        if feature == "feature" {
            continue;
        }
        let tests: Vec<&str> = tests.split(", ").filter(|test| !test.is_empty()).collect();
        for test in &tests {
            assert!(names.contains(*test), "{test:?} of {feature:?} is no test");
        }
        match state.split([':', ' ']).next() {
            Some("works") => {
                assert!(!tests.is_empty(), "{feature:?} works, but no test shows it");
                works += 1;
            }
            Some("partly") => assert!(state.contains(": "), "{feature:?}: say what is missing"),
            Some("not") => assert!(tests.is_empty(), "{feature:?} is not there, and tested?"),
            _ => panic!("{feature:?} is {state:?}"),
        }
    }
    assert!(works > 40, "only {works} features were read");
}
