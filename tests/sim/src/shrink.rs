//! The shortest list of faults with which a seed still fails in the same way.

use super::faults::Planned;
use super::oracle::Violation;
use super::seed::{Spec, run};
use super::trace::Trace;

/// Takes faults out, first halves, then one by one, as long as the same invariant fails in the same words, whatever the
/// numbers in them.
pub(super) fn shrink(spec: &Spec, faults: &[Planned], violation: &Violation) -> Vec<Planned> {
    let fails = |faults: &[Planned]| {
        let spec = Spec { faults: Some(faults.to_vec()), ..spec.clone() };
        run(&spec, Trace::default()).0.violation.is_some_and(|v| v.is_like(violation))
    };
    let mut left = faults.to_vec();
    let mut size = left.len();
    while size > 0 {
        let mut at = 0;
        while at < left.len() {
            let mut fewer = left.clone();
            fewer.drain(at..(at + size).min(left.len()));
            if fails(&fewer) {
                left = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    left
}
