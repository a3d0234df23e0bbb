//! Kafka's error codes by name.

use std::fmt;
use std::str::FromStr;

use crate::error::{BrokerError, nearest};

/// An error code of the Kafka protocol, as it stands in an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

macro_rules! codes {
    ($($code:literal $name:ident)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("Code ", stringify!($code), ".")]
                pub const $name: Self = Self($code);
            )*

            const NAMES: &'static [(i16, &'static str)] = &[$(($code, stringify!($name))),*];
        }
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR 0 NONE 1 OFFSET_OUT_OF_RANGE 2 CORRUPT_MESSAGE 3 UNKNOWN_TOPIC_OR_PARTITION
    4 INVALID_FETCH_SIZE 5 LEADER_NOT_AVAILABLE 6 NOT_LEADER_OR_FOLLOWER 7 REQUEST_TIMED_OUT 8 BROKER_NOT_AVAILABLE
    9 REPLICA_NOT_AVAILABLE 10 MESSAGE_TOO_LARGE 11 STALE_CONTROLLER_EPOCH 12 OFFSET_METADATA_TOO_LARGE
    13 NETWORK_EXCEPTION 14 COORDINATOR_LOAD_IN_PROGRESS 15 COORDINATOR_NOT_AVAILABLE 16 NOT_COORDINATOR
    17 INVALID_TOPIC_EXCEPTION 18 RECORD_LIST_TOO_LARGE 19 NOT_ENOUGH_REPLICAS 20 NOT_ENOUGH_REPLICAS_AFTER_APPEND
    21 INVALID_REQUIRED_ACKS 22 ILLEGAL_GENERATION 23 INCONSISTENT_GROUP_PROTOCOL 24 INVALID_GROUP_ID
    25 UNKNOWN_MEMBER_ID 26 INVALID_SESSION_TIMEOUT 27 REBALANCE_IN_PROGRESS 28 INVALID_COMMIT_OFFSET_SIZE
    29 TOPIC_AUTHORIZATION_FAILED 30 GROUP_AUTHORIZATION_FAILED 31 CLUSTER_AUTHORIZATION_FAILED 32 INVALID_TIMESTAMP
    33 UNSUPPORTED_SASL_MECHANISM 34 ILLEGAL_SASL_STATE 35 UNSUPPORTED_VERSION 36 TOPIC_ALREADY_EXISTS
    37 INVALID_PARTITIONS 38 INVALID_REPLICATION_FACTOR 39 INVALID_REPLICA_ASSIGNMENT 40 INVALID_CONFIG
    41 NOT_CONTROLLER 42 INVALID_REQUEST 43 UNSUPPORTED_FOR_MESSAGE_FORMAT 44 POLICY_VIOLATION
    45 OUT_OF_ORDER_SEQUENCE_NUMBER 46 DUPLICATE_SEQUENCE_NUMBER 47 INVALID_PRODUCER_EPOCH 48 INVALID_TXN_STATE
    49 INVALID_PRODUCER_ID_MAPPING 50 INVALID_TRANSACTION_TIMEOUT 51 CONCURRENT_TRANSACTIONS
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED 54 SECURITY_DISABLED 55 OPERATION_NOT_ATTEMPTED 56 KAFKA_STORAGE_ERROR
    58 SASL_AUTHENTICATION_FAILED 59 UNKNOWN_PRODUCER_ID 60 REASSIGNMENT_IN_PROGRESS 68 NON_EMPTY_GROUP
    69 GROUP_ID_NOT_FOUND 70 FETCH_SESSION_ID_NOT_FOUND 71 INVALID_FETCH_SESSION_EPOCH 72 LISTENER_NOT_FOUND
    73 TOPIC_DELETION_DISABLED 74 FENCED_LEADER_EPOCH 75 UNKNOWN_LEADER_EPOCH 76 UNSUPPORTED_COMPRESSION_TYPE
    77 STALE_BROKER_EPOCH 78 OFFSET_NOT_AVAILABLE 79 MEMBER_ID_REQUIRED 80 PREFERRED_LEADER_NOT_AVAILABLE
    81 GROUP_MAX_SIZE_REACHED 82 FENCED_INSTANCE_ID 83 ELIGIBLE_LEADERS_NOT_AVAILABLE 84 ELECTION_NOT_NEEDED
    86 GROUP_SUBSCRIBED_TO_TOPIC 87 INVALID_RECORD 88 UNSTABLE_OFFSET_COMMIT 89 THROTTLING_QUOTA_EXCEEDED
    90 PRODUCER_FENCED 91 RESOURCE_NOT_FOUND 100 UNKNOWN_TOPIC_ID 103 INCONSISTENT_TOPIC_ID
    104 INCONSISTENT_CLUSTER_ID 106 FETCH_SESSION_TOPIC_ID_ERROR 109 OFFSET_MOVED_TO_TIERED_STORAGE
    110 FENCED_MEMBER_EPOCH 111 UNRELEASED_INSTANCE_ID 112 UNSUPPORTED_ASSIGNOR 113 STALE_MEMBER_EPOCH
    114 MISMATCHED_ENDPOINT_TYPE 117 UNKNOWN_SUBSCRIPTION_ID 118 TELEMETRY_TOO_LARGE 120 TRANSACTION_ABORTABLE
    121 INVALID_RECORD_STATE 122 SHARE_SESSION_NOT_FOUND 123 INVALID_SHARE_SESSION_EPOCH 124 FENCED_STATE_EPOCH
    128 INVALID_REGULAR_EXPRESSION 129 REBOOTSTRAP_REQUIRED 133 SHARE_SESSION_LIMIT_REACHED
}

impl ErrorCode {
    /// Kafka's name, when the code has one.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(code, _)| *code == self.0).map(|(_, name)| *name)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl FromStr for ErrorCode {
    type Err = BrokerError;

    /// Takes Kafka's name (`NOT_COORDINATOR`, in any case) or a number.
    fn from_str(text: &str) -> Result<Self, BrokerError> {
        if let Ok(code) = text.parse() {
            return Ok(Self(code));
        }
        match Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            Some((code, _)) => Ok(Self(*code)),
            None => Err(BrokerError::Unknown(format!(
                "unknown error code '{text}'; nearest: {}",
                nearest(text, Self::NAMES.iter().map(|(_, name)| *name))
            ))),
        }
    }
}

impl TryFrom<&str> for ErrorCode {
    type Error = BrokerError;

    fn try_from(text: &str) -> Result<Self, BrokerError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_wrong_names_list_the_nearest() {
        assert_eq!("not_coordinator".parse::<ErrorCode>().unwrap(), ErrorCode::NOT_COORDINATOR);
        assert_eq!("-1".parse::<ErrorCode>().unwrap(), ErrorCode::UNKNOWN_SERVER_ERROR);
        let text = "NOT_CORDINATOR".parse::<ErrorCode>().unwrap_err().to_string();
        assert!(text.contains("NOT_COORDINATOR"), "{text}");
    }
}
