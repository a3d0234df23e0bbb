//! What the reader is told of a partition that stops.

use ottla_wire::records::{BatchError, BatchErrorKind, BatchHeader};

use crate::{Error, ErrorKind, TopicPartition};

/// A batch cannot be read. `resume_at` lies behind it.
pub(super) fn unreadable(tp: &TopicPartition, error: BatchError, resume_at: i64) -> Error {
    let (kind, advice) = match error.kind() {
        BatchErrorKind::Corrupt => (ErrorKind::Corrupt, String::new()),
        BatchErrorKind::Limit { setting, .. } => (ErrorKind::Limit, format!("raise {setting}, or ")),
        BatchErrorKind::CodecDisabled(codec) => {
            (ErrorKind::Unsupported, format!("enable the cargo feature {}, or ", codec.name()))
        }
        _ => (ErrorKind::Unsupported, String::new()),
    };
    let what = match (error.base_offset(), error.last_offset()) {
        (Some(base), Some(last)) => format!("the batch of offsets {base} to {last}"),
        _ => "a batch".to_owned(),
    };
    let text = format!("{what} cannot be read; {advice}seek to {resume_at} to skip it");
    Error::new(kind, text).with_partition(tp.clone()).with_resume_at(resume_at).with_source(error)
}

/// A batch, in response after response, has offsets that cannot be.
pub(super) fn impossible_offsets(
    tp: &TopicPartition,
    header: &BatchHeader,
    expected: i64,
    end: i64,
    resume_at: i64,
) -> Error {
    let resume_at = if end > expected { resume_at.min(end) } else { resume_at };
    let text = format!(
        "a batch claims the offsets {} to {}, but must lie between {expected} and the end at {end}; \
         seek to {resume_at} to skip it",
        header.base_offset, header.last_offset
    );
    Error::new(ErrorKind::Corrupt, text).with_partition(tp.clone()).with_resume_at(resume_at)
}
