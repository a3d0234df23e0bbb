//! What an error code of the coordinator means to a member: one table, one line a case.

use ottla_wire::ErrorCode;

use crate::config::GroupConfig;
use crate::{Error, ErrorKind};

/// What a member does about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// No error.
    Proceed,
    /// Send it again, later.
    Backoff,
    /// Somebody else is the coordinator, or will be.
    Rediscover,
    /// The membership is over, everything is lost. Join again, under the same id.
    Fenced,
    /// Somebody holds our instance id.
    InstanceHeld,
    /// The group is no consumer group, or is not there.
    NoSuchGroup,
    /// Tell it, and go on.
    Tell,
    /// The broker failed: tell it, and try again later.
    Unexpected,
    /// Trying again cannot help.
    Fatal,
}

/// The error table of the consumer protocol. What it does not name is tried again if Kafka calls it retriable, and
/// fatal otherwise: a code from the future must not become a loop.
pub(super) fn reaction(code: ErrorCode) -> Reaction {
    use ErrorCode as E;
    match code {
        E::None => Reaction::Proceed,
        E::CoordinatorLoadInProgress => Reaction::Backoff,
        E::CoordinatorNotAvailable | E::NotCoordinator => Reaction::Rediscover,
        E::FencedMemberEpoch | E::UnknownMemberId | E::StaleMemberEpoch => Reaction::Fenced,
        E::UnreleasedInstanceId => Reaction::InstanceHeld,
        E::GroupIdNotFound => Reaction::NoSuchGroup,
        E::TopicAuthorizationFailed => Reaction::Tell,
        E::UnknownServerError => Reaction::Unexpected,
        E::InvalidRequest
        | E::GroupMaxSizeReached
        | E::UnsupportedAssignor
        | E::InvalidRegularExpression
        | E::GroupAuthorizationFailed
        | E::FencedInstanceId
        | E::UnsupportedVersion => Reaction::Fatal,
        code if code.is_retriable() => Reaction::Backoff,
        _ => Reaction::Fatal,
    }
}

/// The error that the user sees when the member is over. `words` are the broker's.
pub(super) fn fatal(code: ErrorCode, words: Option<&str>, config: &GroupConfig) -> Error {
    use ErrorCode as E;
    let group = &config.group_id;
    let instance = config.group_instance_id.as_deref().unwrap_or("(none)");
    let (kind, text) = match code {
        E::FencedInstanceId => (
            ErrorKind::Fenced,
            format!(
                "another member of group {group} has group_instance_id {instance}: give each running consumer an id of its own"
            ),
        ),
        E::UnreleasedInstanceId => (
            ErrorKind::Fenced,
            format!(
                "another member of group {group} holds group_instance_id {instance}: give each running consumer an id of its own; one that died without closing is let go of after the broker's group.consumer.session.timeout.ms"
            ),
        ),
        E::GroupIdNotFound => (
            ErrorKind::Unsupported,
            format!(
                "group {group} has classic members and the broker does not let it become a consumer group (group.consumer.migration.policy): stop them first, or set group_protocol to classic or auto"
            ),
        ),
        E::UnsupportedVersion => (
            ErrorKind::Unsupported,
            format!(
                "the coordinator of group {group} does not offer the consumer protocol (KIP-848): it needs Kafka 4.0 or later with the feature group.version=1; upgrade, or set group_protocol to classic or auto"
            ),
        ),
        E::UnsupportedAssignor => (
            ErrorKind::Config,
            format!(
                "the broker has no assignor {:?}: set group_remote_assignor to one of its group.consumer.assignors (uniform and range by default), or leave it out",
                config.remote_assignor.as_deref().unwrap_or_default()
            ),
        ),
        E::InvalidRegularExpression => (
            ErrorKind::ApiMisuse,
            format!(
                "the broker cannot read the pattern that group {group} is to subscribe to: it takes the syntax of RE2/J"
            ),
        ),
        E::GroupAuthorizationFailed => {
            (ErrorKind::Authorization, format!("no access to group {group}: the principal needs READ on it"))
        }
        E::GroupMaxSizeReached => (
            ErrorKind::Limit,
            format!("group {group} is full: the broker's group.consumer.max.size allows no further member"),
        ),
        E::InvalidGroupId => (ErrorKind::Config, format!("{group:?} cannot be a group id")),
        _ => (ErrorKind::BrokerMisbehaved, format!("the coordinator refuses this member of group {group}")),
    };
    Error::new(kind, with_words(text, words)).with_code(code).with_fatal(true).with_retriable(false)
}

/// The text with what the broker said.
pub(super) fn with_words(text: String, words: Option<&str>) -> String {
    match words {
        Some(words) => format!("{text}; the broker says: {words}"),
        None => text,
    }
}
