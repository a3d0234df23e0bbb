//! Offsets: looking them up (ListOffsets), what the group has committed (OffsetFetch), committing (OffsetCommit),
//! whether the log before them is still the same (OffsetForLeaderEpoch).
//!
//! A position is looked up until it is known, however long that takes: a timeout, a lost connection or a refused
//! request never turns into a reset. A query of the user's ends when its time is over.

mod commit;
mod committed;
mod judge;
mod lookup;
mod place;
#[cfg(test)]
mod tests;
mod topic_ids;
mod validate;

pub(crate) use commit::{CommitJob, CommitOrigin, CommitQueue, JobResult, MayName, Present};
pub(crate) use committed::{CommittedAnswer, CommittedLookups, CommittedTag};
pub(crate) use lookup::{LookupAnswer, LookupTag, Lookups, Place};
pub use place::{CommitResults, CommittedOffset, Offset};
pub(crate) use topic_ids::BY_NAME;
pub(crate) use validate::{Doubt, MIN_VERSION as VALIDATE_MIN_VERSION, ValidationTag, Validations, Verdict};

use ottla_wire::ErrorCode;

use crate::{CommandId, Error, ErrorKind, OwnershipEpoch, TopicPartition};

/// So many times in a row a position is asked for in vain before the reader is told why. It is asked for on.
const TELL_AFTER: u32 = 5;

/// Who wants to know an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// A partition that has no position yet, in this ownership.
    Position(OwnershipEpoch),
    /// A command of the user's.
    Query(CommandId),
}

/// What a refusal means that is not expected to pass by itself.
enum Refused {
    /// The user's query fails.
    Query(Error),
    /// The reader is told, and the position is asked for again.
    Told(Error),
    /// It is asked for again.
    Again,
}

/// Judges an answer that is no answer: `times` in a row, for `what`. Without a code the answer made no sense.
fn refused(asker: Asker, tp: &TopicPartition, what: &str, code: ErrorCode, times: u32) -> Refused {
    if code.is_retriable() || code == ErrorCode::UnknownServerError {
        return Refused::Again;
    }
    let error = if code == ErrorCode::None {
        Error::new(ErrorKind::BrokerMisbehaved, format!("the broker's answer has no {what}"))
    } else {
        Error::new(ErrorKind::BrokerMisbehaved, format!("the broker refuses to tell the {what}"))
            .with_code(code)
    };
    let error = error.with_partition(tp.clone());
    match asker {
        Asker::Query(_) if code != ErrorCode::None || times >= TELL_AFTER => Refused::Query(error),
        Asker::Position(_) if times == TELL_AFTER => Refused::Told(error),
        _ => Refused::Again,
    }
}
