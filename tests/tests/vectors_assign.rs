//! The golden vectors of the assignors, and of the user data of the sticky ones.

use ottla_tests::vectors::{assign, default_dir, lines};

#[test]
fn every_assignment_is_as_good_as_javas() {
    let report = assign::run(&default_dir());
    assert!(report.failed.is_empty(), "{} failed: {:#?}", report.failed.len(), report.failed);
    assert!(report.exceptions.len() * 200 <= report.passed, "too many exceptions: {:#?}", report.exceptions);
    assert!(report.passed >= 1_100, "only {} vectors ran", report.passed);
}

#[test]
fn user_data_of_the_sticky_assignors() {
    let all = lines(&default_dir().join("subscription/userdata.jsonl"));
    let outcomes: Vec<_> = all.iter().map(|line| (&line["id"], assign::userdata_line(line))).collect();
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    assert!(outcomes.len() >= 100, "only {} vectors ran", outcomes.len());
}
