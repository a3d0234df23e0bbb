//! What each refusal means for a step. Whoever tries again does so until the call's time is over.
//!
//! | code                                                      | asked of        | what is done                        |
//! |-----------------------------------------------------------|-----------------|-------------------------------------|
//! | NOT_CONTROLLER                                            | the controller  | the controller is looked up anew    |
//! | NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE                | the coordinator | the coordinator is looked up anew   |
//! | COORDINATOR_LOAD_IN_PROGRESS, UNSTABLE_OFFSET_COMMIT      | the coordinator | asked again                         |
//! | REQUEST_TIMED_OUT                                         | the coordinator | asked again: repeating does no harm |
//! | REQUEST_TIMED_OUT                                         | the controller  | told: it may have been done         |
//! | THROTTLING_QUOTA_EXCEEDED, NETWORK_EXCEPTION              | anybody         | asked again                         |
//! | LEADER_NOT_AVAILABLE, REBOOTSTRAP_REQUIRED                | anybody         | asked again                         |
//! | UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, STALE_MEMBER_EPOCH | OffsetCommit    | told as NON_EMPTY_GROUP             |
//! | FENCED_MEMBER_EPOCH, REBALANCE_IN_PROGRESS                | OffsetCommit    | told as NON_EMPTY_GROUP             |
//! | everything else                                           | anybody         | told                                |

use ottla_wire::ErrorCode;

use crate::{Error, ErrorKind};

/// So much of a broker's own words goes into an error.
const LONGEST_MESSAGE: usize = 300;

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Anybody,
    Controller,
    Coordinator,
    /// The coordinator, to commit on behalf of a group without members.
    Commit,
}

/// What is done about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// The same broker is asked again after a pause.
    Again,
    /// It is another broker's business: who that is, is looked up anew.
    Moved,
    /// The user is told.
    Told(ErrorCode),
}

pub(super) fn judge(asked: Asked, code: ErrorCode) -> Verdict {
    use ErrorCode as E;
    let group = matches!(asked, Asked::Coordinator | Asked::Commit);
    match code {
        E::None => Verdict::Done,
        E::NotController if asked == Asked::Controller => Verdict::Moved,
        E::NotCoordinator | E::CoordinatorNotAvailable if group => Verdict::Moved,
        E::CoordinatorLoadInProgress | E::UnstableOffsetCommit | E::RequestTimedOut if group => {
            Verdict::Again
        }
        E::ThrottlingQuotaExceeded | E::NetworkException | E::LeaderNotAvailable | E::RebootstrapRequired => {
            Verdict::Again
        }
        E::UnknownMemberId
        | E::IllegalGeneration
        | E::StaleMemberEpoch
        | E::FencedMemberEpoch
        | E::RebalanceInProgress
            if asked == Asked::Commit =>
        {
            Verdict::Told(E::NonEmptyGroup)
        }
        code => Verdict::Told(code),
    }
}

/// The error of one item: `what` names it, `message` is what the broker says.
pub(super) fn refused(what: &str, code: ErrorCode, message: Option<&str>) -> Error {
    use ErrorCode as E;
    let (kind, hint) = match code {
        E::TopicAuthorizationFailed => (ErrorKind::Authorization, "it is not allowed on the topic"),
        E::GroupAuthorizationFailed => (ErrorKind::Authorization, "it is not allowed on the group"),
        E::ClusterAuthorizationFailed => (ErrorKind::Authorization, "it is not allowed on the cluster"),
        E::UnsupportedVersion => (ErrorKind::Unsupported, "the brokers cannot do it"),
        E::NonEmptyGroup => (ErrorKind::ApiMisuse, "the group has members: stop them first"),
        E::GroupSubscribedToTopic => {
            (ErrorKind::ApiMisuse, "the group reads the topic: stop the members that do")
        }
        E::GroupIdNotFound => (ErrorKind::ApiMisuse, "there is no such group"),
        E::UnknownTopicOrPartition | E::UnknownTopicId => {
            (ErrorKind::ApiMisuse, "there is no such topic or partition")
        }
        E::TopicAlreadyExists => (ErrorKind::ApiMisuse, "it exists already"),
        E::TopicDeletionDisabled => (ErrorKind::ApiMisuse, "the brokers have delete.topic.enable=false"),
        E::InvalidTopicException
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidRequest
        | E::InvalidGroupId
        | E::PolicyViolation
        | E::OffsetMetadataTooLarge => (ErrorKind::ApiMisuse, "the broker refuses it"),
        E::RequestTimedOut => {
            (ErrorKind::Transport, "the broker did not see it done in time; it may be done")
        }
        _ => (ErrorKind::BrokerMisbehaved, "the broker refuses it"),
    };
    let text = match message.filter(|m| !m.is_empty()) {
        Some(message) => {
            let message: String = message.chars().take(LONGEST_MESSAGE).collect();
            format!("{what}: {hint}: {message:?}")
        }
        None => format!("{what}: {hint}"),
    };
    // What every retry was of no use for is not worth another call without a change.
    Error::new(kind, text).with_code(code).with_retriable(code == E::RequestTimedOut).with_fatal(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table above, one code each.
    #[test]
    fn the_table_is_what_the_code_does() {
        let mut rows = 0;
        for line in include_str!("codes.rs").lines().filter_map(|l| l.strip_prefix("//! | ")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [codes, asked, done, ..] = cells[..] else { panic!("{line}") };
            if codes == "code" || codes == "everything else" {
                continue;
            }
            let asked: &[Asked] = match asked {
                "the controller" => &[Asked::Controller],
                "the coordinator" => &[Asked::Coordinator, Asked::Commit],
                "OffsetCommit" => &[Asked::Commit],
                "anybody" => &[Asked::Anybody, Asked::Controller, Asked::Coordinator, Asked::Commit],
                other => panic!("{other}"),
            };
            for name in codes.split(", ") {
                let code = (0..=136).map(ErrorCode::from_i16).find(|c| c.name() == name).expect(name);
                for asked in asked {
                    let expected = match done {
                        "told as NON_EMPTY_GROUP" => Verdict::Told(ErrorCode::NonEmptyGroup),
                        "asked again" | "asked again: repeating does no harm" => Verdict::Again,
                        "told: it may have been done" => Verdict::Told(code),
                        _ => Verdict::Moved,
                    };
                    assert_eq!(judge(*asked, code), expected, "{name} of {asked:?}");
                    rows += 1;
                }
            }
        }
        assert_eq!(rows, 1 + 4 + 4 + 2 + 1 + 8 + 8 + 3 + 2);
        let told = |asked, code| judge(asked, code) == Verdict::Told(code);
        assert!(told(Asked::Controller, ErrorCode::UnknownTopicOrPartition));
        assert!(told(Asked::Coordinator, ErrorCode::UnknownMemberId));
        assert!(told(Asked::Anybody, ErrorCode::Unknown(999)));
        assert_eq!(judge(Asked::Commit, ErrorCode::None), Verdict::Done);
    }

    #[test]
    fn an_error_says_whose_fault_it_is_and_what_the_broker_said() {
        let error = refused("group \"g\"", ErrorCode::NonEmptyGroup, None);
        assert_eq!(error.kind(), ErrorKind::ApiMisuse);
        assert_eq!(
            error.to_string(),
            "misuse: group \"g\": the group has members: stop them first (NON_EMPTY_GROUP (68))"
        );
        assert!(!error.is_retriable() && !error.is_fatal());
        let error = refused("topic \"t\"", ErrorCode::InvalidConfig, Some(&"x".repeat(10_000)));
        assert!(error.to_string().len() < 500, "a broker's words are bounded");
    }
}
