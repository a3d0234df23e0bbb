//! What an error code of the coordinator means, request by request: one table, one line a case.

use ottla_wire::ErrorCode;

use super::PROTOCOL_TYPE;
use crate::config::GroupConfig;
use crate::group::GroupRequestKind as Kind;
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
    /// The coordinator gave us an id to join with (KIP-394).
    TakeMemberId,
    /// Join again with what we have.
    Rejoin,
    /// The generation is over for us, everything is lost. Join again, with the member id if it is kept.
    Reset {
        /// Whether the coordinator still knows the member.
        keep_member_id: bool,
    },
    /// The broker failed: tell it, and try again later.
    Unexpected,
    /// Trying again cannot help.
    Fatal,
}

/// The error table of the classic protocol. What it does not name is tried again if Kafka calls it retriable,
/// and fatal otherwise: a code from the future must not become a loop.
pub(super) fn reaction(kind: Kind, code: ErrorCode) -> Reaction {
    use ErrorCode as E;
    match (kind, code) {
        (_, E::None) => Reaction::Proceed,
        // One try: what it would undo ends by itself after the session.
        (Kind::Leave, _) => Reaction::Proceed,
        (_, E::CoordinatorNotAvailable | E::NotCoordinator) => Reaction::Rediscover,
        (_, E::CoordinatorLoadInProgress) => Reaction::Backoff,
        (Kind::Join, E::RebalanceInProgress) => Reaction::Backoff,
        (Kind::Join, E::MemberIdRequired) => Reaction::TakeMemberId,
        (_, E::RebalanceInProgress) => Reaction::Rejoin,
        (_, E::UnknownMemberId) => Reaction::Reset { keep_member_id: false },
        (_, E::IllegalGeneration) => Reaction::Reset { keep_member_id: true },
        (_, E::UnknownServerError) => Reaction::Unexpected,
        (
            _,
            E::FencedInstanceId
            | E::InconsistentGroupProtocol
            | E::InvalidSessionTimeout
            | E::InvalidGroupId
            | E::GroupAuthorizationFailed
            | E::GroupMaxSizeReached
            | E::UnsupportedVersion,
        ) => Reaction::Fatal,
        (_, code) if code.is_retriable() => Reaction::Backoff,
        _ => Reaction::Fatal,
    }
}

/// The error that the user sees when the member is over.
pub(super) fn fatal(kind: Kind, code: ErrorCode, config: &GroupConfig) -> Error {
    use ErrorCode as E;
    let group = &config.group_id;
    let (error_kind, text) = match code {
        E::FencedInstanceId => (
            ErrorKind::Fenced,
            format!(
                "another member of group {group} joined with group_instance_id {}: give each running consumer an id of its own",
                config.group_instance_id.as_deref().unwrap_or("(none)"),
            ),
        ),
        E::InconsistentGroupProtocol => return no_assignor_in_common(config, None),
        E::InvalidSessionTimeout => (
            ErrorKind::Config,
            format!(
                "the broker does not allow a session_timeout of {} ms: choose one between its group.min.session.timeout.ms and group.max.session.timeout.ms",
                config.session_timeout.as_millis(),
            ),
        ),
        E::InvalidGroupId => (ErrorKind::Config, format!("{group:?} cannot be a group id")),
        E::GroupAuthorizationFailed => {
            (ErrorKind::Authorization, format!("no access to group {group}: the principal needs READ on it"))
        }
        E::GroupMaxSizeReached => (
            ErrorKind::Limit,
            format!("group {group} is full: the broker's group.max.size allows no further member"),
        ),
        E::UnsupportedVersion => (
            ErrorKind::Unsupported,
            format!("the coordinator of group {group} does not know this version of {}", kind.api()),
        ),
        _ => (ErrorKind::BrokerMisbehaved, format!("{} of group {group} was refused", kind.api())),
    };
    Error::new(error_kind, text).with_code(code).with_fatal(true).with_retriable(false)
}

/// What the coordinator tells of a group in which a member found nobody to agree with. Hostile text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described<'a> {
    pub(crate) protocol_type: &'a str,
    /// The assignor that its members agreed on.
    pub(crate) protocol: &'a str,
}

/// The error of a member whose assignors no other member has. Both lists are in it where the group's is known: of
/// the members' lists the coordinator tells only the one assignor that they agreed on.
pub(crate) fn no_assignor_in_common(config: &GroupConfig, group: Option<Described<'_>>) -> Error {
    let ours = config.assignor_names().join(", ");
    let name = &config.group_id;
    let short = |text: &str| text.chars().take(100).flat_map(char::escape_debug).collect::<String>();
    let text = match group {
        Some(group) if !group.protocol_type.is_empty() && group.protocol_type != PROTOCOL_TYPE => format!(
            "group {name} is used by members of type {:?} and not by consumers: choose another group",
            short(group.protocol_type),
        ),
        Some(group) if !group.protocol.is_empty() => format!(
            "the members of group {name} have no assignor in common: this member offers [{ours}], the others use [{}]: add that one, or give the others one of these",
            short(group.protocol),
        ),
        _ => format!(
            "the members of group {name} have no assignor in common: this member offers [{ours}], add one that all others list (kafka-consumer-groups --describe --members --verbose shows theirs)",
        ),
    };
    Error::new(ErrorKind::Config, text)
        .with_code(ErrorCode::InconsistentGroupProtocol)
        .with_fatal(true)
        .with_retriable(false)
}
