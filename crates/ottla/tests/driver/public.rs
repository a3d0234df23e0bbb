//! Nothing that is public and has to be awaited is without a test that drops it at every poll.

use std::collections::BTreeSet;
use std::path::Path;

/// File under `src`, function, and the test that drops it.
const FUTURES: &[(&str, &str, &str)] = &[
    ("admin/builder.rs", "connect", "an_administrators_connect_that_is_dropped_leaves_nothing"),
    ("admin/mod.rs", "alter_group_offsets", ADMIN),
    ("admin/mod.rs", "create_topics", ADMIN),
    ("admin/mod.rs", "delete_group_offsets", ADMIN),
    ("admin/mod.rs", "delete_groups", ADMIN),
    ("admin/mod.rs", "delete_topics", ADMIN),
    ("admin/mod.rs", "describe_groups", ADMIN),
    ("admin/mod.rs", "list_group_offsets", ADMIN),
    ("admin/mod.rs", "list_groups", ADMIN),
    ("admin/mod.rs", "list_topics", ADMIN),
    ("admin/mod.rs", "validate_topics", ADMIN),
    ("builder/start.rs", "connect", "a_connect_that_is_dropped_leaves_nothing"),
    ("consumer/close.rs", "close", CLOSE),
    ("consumer/close.rs", "close_timeout", CLOSE),
    // What `consumer/forward.rs` has are the handle's: it waits for them and does nothing else.
    ("consumer/forward.rs", "beginning_offsets", QUERY),
    ("consumer/forward.rs", "commit", COMMIT),
    ("consumer/forward.rs", "commit_delivered", COMMIT),
    ("consumer/forward.rs", "committed", QUERY),
    ("consumer/forward.rs", "end_offsets", QUERY),
    ("consumer/forward.rs", "group_metadata", QUERY),
    ("consumer/forward.rs", "offsets_for_times", QUERY),
    ("consumer/forward.rs", "partitions_of", QUERY),
    ("consumer/forward.rs", "pause", PAUSE),
    ("consumer/forward.rs", "resume", RESUME),
    ("consumer/forward.rs", "seek", SEEK),
    ("consumer/forward.rs", "snapshot", QUERY),
    ("consumer/mod.rs", "assign", "an_assign_that_is_dropped_holds_once_it_was_polled"),
    (
        "consumer/mod.rs",
        "incremental_assign",
        "partitions_that_are_added_by_a_dropped_call_are_read_once_it_was_polled",
    ),
    (
        "consumer/mod.rs",
        "incremental_unassign",
        "partitions_that_a_dropped_call_takes_away_are_not_read_once_it_was_polled",
    ),
    ("consumer/mod.rs", "subscribe", SUBSCRIBE),
    ("consumer/mod.rs", "subscribe_pattern", SUBSCRIBE),
    ("consumer/mod.rs", "unsubscribe", "an_unsubscribe_that_is_dropped_leaves_once_it_was_polled"),
    ("consumer/partitioned.rs", "commit", "a_commit_of_a_task_that_is_dropped_is_sent_once_it_was_polled"),
    ("consumer/partitioned.rs", "next_batch", "a_read_of_a_task_that_is_dropped_took_nothing"),
    ("consumer/partitioned.rs", "run_partitioned", "a_run_that_is_dropped_is_taken_over_by_the_next"),
    ("consumer/read.rs", "next_batch", READ),
    ("consumer/read.rs", "next_batches", READ),
    ("consumer/read.rs", "next_event", READ),
    ("consumer/read.rs", "next_record", READ),
    ("consumer/start.rs", "start_at", "an_answer_where_to_begin_that_is_dropped_holds_once_it_was_polled"),
    ("handle/mod.rs", "commit", COMMIT),
    ("handle/mod.rs", "commit_delivered", COMMIT),
    ("handle/mod.rs", "pause", PAUSE),
    ("handle/mod.rs", "resume", RESUME),
    ("handle/mod.rs", "seek", SEEK),
    ("handle/queries.rs", "beginning_offsets", QUERY),
    ("handle/queries.rs", "committed", QUERY),
    ("handle/queries.rs", "end_offsets", QUERY),
    ("handle/queries.rs", "group_metadata", QUERY),
    ("handle/queries.rs", "offsets_for_times", QUERY),
    ("handle/queries.rs", "partitions_of", QUERY),
    ("handle/queries.rs", "snapshot", QUERY),
];

const ADMIN: &str = "an_administrators_call_that_is_dropped_is_carried_out_once_it_was_polled";
const CLOSE: &str = "a_close_that_is_dropped_equals_dropping_the_consumer";
const COMMIT: &str = "a_commit_that_is_dropped_is_sent_once_it_was_polled";
const PAUSE: &str = "a_pause_that_is_dropped_holds_once_it_was_polled";
const QUERY: &str = "a_query_that_is_dropped_changes_nothing";
const READ: &str = "a_read_that_is_dropped_after_any_number_of_polls_took_nothing";
const RESUME: &str = "a_resume_that_is_dropped_holds_once_it_was_polled";
const SEEK: &str = "a_seek_that_is_dropped_moves_the_position_once_it_was_polled";
const SUBSCRIBE: &str = "a_subscription_that_is_dropped_holds_once_it_was_polled";

/// Path below `root`, and text, of every Rust file there.
fn sources(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(root, &path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_public_future_is_dropped_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    sources(&root.join("src"), &root.join("src"), &mut code);
    sources(root, &root.join("tests/driver"), &mut tests);
    let mut public = BTreeSet::new();
    for (file, text) in &code {
        let mut lines = text.lines().map(str::trim_start);
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                public.insert((file.clone(), name));
            }
            if line.starts_with("pub fn ") {
                // A signature may take several lines.
                let mut signature = line.to_owned();
                while !signature.ends_with(['{', ';', '}']) {
                    signature.push(' ');
                    signature.push_str(lines.next().expect("the rest of it"));
                }
                let bare = signature.split(" where ").next().unwrap_or_default();
                let gives = bare.rsplit_once("->").map_or("", |(_, gives)| gives);
                let hidden = gives.contains("Future") || gives.contains("impl Stream");
                assert!(!hidden, "{file}: {line}: a future that this test does not see");
            }
        }
    }
    let listed: BTreeSet<_> =
        FUTURES.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
    assert_eq!(public, listed, "what is public, and what FUTURES has");
    for (file, name, test) in FUTURES {
        let line = format!("fn {test}() {{");
        assert!(tests.iter().any(|(_, text)| text.contains(&line)), "{file} {name}: there is no test {test}");
    }
}
