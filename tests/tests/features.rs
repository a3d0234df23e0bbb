//! `docs/features.md` and `docs/ported-suites.md` claim nothing without a test, and no document names a file that is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names of tests: functions with that attribute, and those that a list such as `on_embedded! { … }` makes of scenarios.
fn names_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let (mut test, mut list) = (false, false);
            for line in source.lines().map(str::trim_start) {
                let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
                let name = |line: &str| line.split(['(', ',']).next().map(str::to_owned);
                match function {
                    _ if list && line.starts_with('}') => list = false,
                    _ if list => names.extend(name(line)),
                    Some(function) if test => names.extend(name(function)),
                    _ if line.starts_with("on_") && line.ends_with("! {") => list = true,
                    _ if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => test = true,
                    _ if line.starts_with("#[") => {}
                    _ => test = false,
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

/// What would be ignored if it were there, as `ARCHITECTURE.md` says.
const IGNORED: [&str; 2] = ["tests/*.rs", "benches/*.rs"];

/// The documents of the repository: those at its root, and those in these folders.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let mut folders = vec![(root(), false)];
    let below = ["benches", "crates", "docs", "fuzz", "tests", "xtask"];
    folders.extend(below.map(|folder| (root().join(folder), true)));
    while let Some((folder, below)) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && below && !path.ends_with("target") {
                folders.push((path, true));
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    documents
}

/// The paths that a word with braces stands for: `a/{b,c}.rs` for two.
fn expanded(word: &str) -> Vec<String> {
    let Some((before, (inner, after))) =
        word.split_once('{').and_then(|(b, rest)| Some((b, rest.split_once('}')?)))
    else {
        return vec![word.to_owned()];
    };
    inner.split(',').flat_map(|one| expanded(&format!("{before}{}{after}", one.trim()))).collect()
}

/// Whether there is such a path. A star stands for anything within a name, as do names that are to be filled in.
fn exists(folder: &Path, path: &str) -> bool {
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let mut pattern = name.to_owned();
    for blank in ["CASE", "FILE", "FOLDER", "NAME", "TARGET", "VERSION"] {
        pattern = pattern.replace(blank, "*");
    }
    let Some((start, end)) = pattern.split_once('*') else {
        let path = folder.join(name);
        return path.exists() && (rest.is_empty() || exists(&path, rest));
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut fitting =
        names.filter(|n| n.len() >= pattern.len() - 1 && n.starts_with(start) && n.ends_with(end));
    fitting.any(|name| rest.is_empty() || exists(&folder.join(name), rest))
}

#[test]
fn documents_name_files_that_exist() {
    let root = root();
    let tops = [".ci/", "benches/", "crates/", "docs/", "fuzz/", "tests/", "xtask/"];
    let (mut seen, mut missing) = (0, Vec::new());
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.map(|link| link.split('#').next().unwrap_or_default());
        for link in links.filter(|link| !link.is_empty() && !link.contains(':') && !link.contains("::")) {
            seen += 1;
            if !document.parent().unwrap().join(link).exists() {
                missing.push(format!("{}: the link {link:?}", document.display()));
            }
        }
        let words = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        for path in
            words.filter(|w| !w.contains(' ') && tops.iter().any(|top| w.starts_with(top))).flat_map(expanded)
        {
            seen += 1;
            let beside = document.parent().unwrap();
            if !exists(&root, &path) && !exists(beside, &path) && !IGNORED.contains(&path.as_str()) {
                missing.push(format!("{}: {path:?}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seen > 100, "only {seen} paths were seen");
}
