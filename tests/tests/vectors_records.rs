//! The golden vectors of record batches, from the project's own copy.

use ottla_tests::vectors::{default_dir, records};

/// Every line holds; what differs is listed with its reason and is at most one line in two hundred.
#[test]
fn record_batches_are_read_as_kafka_reads_them() {
    let report = records::run(&default_dir());
    for (id, why) in report.failed.iter().take(40) {
        println!("{id}: {why}");
    }
    assert!(report.failed.is_empty(), "{} of {} vectors fail", report.failed.len(), report.passed);
    assert!(report.passed > 1_000, "only {} vectors ran", report.passed);
    assert!(report.exceptions.len() * 200 <= report.passed, "too many exceptions: {:?}", report.exceptions);
}
