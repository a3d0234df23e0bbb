//! The checks of `cargo xtask ci` that are more than one command.

pub(crate) mod c_free;
pub(crate) mod deny;
pub(crate) mod directions;
pub(crate) mod lengths;
pub(crate) mod msrv;
pub(crate) mod targets;

/// A check that could not be made here, and why.
pub(crate) type Skipped = Option<String>;

/// Fails with one line for each finding.
pub(crate) fn verdict(findings: Vec<String>) -> Result<Skipped, String> {
    if findings.is_empty() { Ok(None) } else { Err(findings.join("\n")) }
}
