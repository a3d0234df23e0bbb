//! What an answer to OffsetCommit, or its absence, means for what was sent.

use ottla_wire::ErrorCode;

use super::commit::{CommitOrigin, Present};
use crate::planted::planted;
use crate::{CommitError, Error, ErrorKind, TopicPartition};

/// What is said of a partition whose commit was not answered in time.
pub(super) fn late(origin: CommitOrigin, tp: &TopicPartition) -> CommitError {
    let text = match origin {
        CommitOrigin::User(_) => {
            "the offset was not committed in time: the coordinator did not answer; default_api_timeout says how long \
             to wait"
        }
        _ => "the offset was not committed in time: the coordinator did not answer",
    };
    CommitError::Retriable(Error::new(ErrorKind::Transport, text).with_partition(tp.clone()))
}

/// What a code means for an entry.
pub(super) enum Verdict {
    Committed,
    Again { coordinator_lost: bool, refused: bool },
    Fenced,
    Failed(Error),
}

/// What `code` means for an entry that was sent in the generation `sent`; the table is that of `commit`.
pub(super) fn judge(code: ErrorCode, sent: i32, present: Present) -> Verdict {
    let again = Verdict::Again { coordinator_lost: false, refused: false };
    match code {
        ErrorCode::None => Verdict::Committed,
        _ if planted!(RefusedIsCommitted) => Verdict::Committed,
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::UnknownTopicId => again,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::RequestTimedOut => {
            Verdict::Again { coordinator_lost: true, refused: false }
        }
        ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch => {
            Verdict::Again { coordinator_lost: false, refused: true }
        }
        ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound
            if present.generation_id.is_some_and(|p| p != sent) =>
        {
            again
        }
        ErrorCode::IllegalGeneration if present.joins => again,
        ErrorCode::IllegalGeneration
        | ErrorCode::UnknownMemberId
        | ErrorCode::GroupIdNotFound
        | ErrorCode::FencedMemberEpoch
        | ErrorCode::FencedInstanceId => Verdict::Fenced,
        ErrorCode::GroupAuthorizationFailed => Verdict::Failed(
            Error::new(ErrorKind::Authorization, "committing is not allowed: grant READ on the group")
                .with_code(code),
        ),
        ErrorCode::TopicAuthorizationFailed => Verdict::Failed(
            Error::new(ErrorKind::Authorization, "committing is not allowed: grant READ on the topic")
                .with_code(code),
        ),
        ErrorCode::OffsetMetadataTooLarge => Verdict::Failed(
            Error::new(
                ErrorKind::Limit,
                "the metadata is longer than the broker's offset.metadata.max.bytes (4096 by default)",
            )
            .with_code(code),
        ),
        code if code.is_retriable() => again,
        code => {
            Verdict::Failed(Error::new(ErrorKind::BrokerMisbehaved, "the offset was refused").with_code(code))
        }
    }
}
