//! The vector families that the messages, hashes and subscriptions of `ottla-wire` answer for. No exceptions here.

use ottla_tests::vectors::{Report, default_dir, hash, messages, subscription};

fn assert_all(report: &Report, at_least: usize) {
    let first: Vec<_> = report.failed.iter().take(10).collect();
    assert!(report.failed.is_empty(), "{} of {} fail: {first:#?}", report.failed.len(), report.family);
    assert!(report.exceptions.is_empty(), "no exceptions are allowed: {:?}", report.exceptions);
    assert!(report.passed >= at_least, "only {} vectors of {}", report.passed, report.family);
}

#[test]
fn messages_agree_with_kafka() {
    assert_all(&messages::run(&default_dir()), 8_141);
}

#[test]
fn hashes_agree_with_kafka() {
    assert_all(&hash::run(&default_dir()), 2_615);
}

#[test]
fn subscriptions_agree_with_kafka() {
    assert_all(&subscription::run(&default_dir()), 793);
}
