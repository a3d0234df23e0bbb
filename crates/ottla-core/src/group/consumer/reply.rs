//! What the coordinator answers.

use std::collections::BTreeSet;

use ottla_wire::messages::ConsumerGroupHeartbeatResponse;
use ottla_wire::{DecodeError, ErrorCode, View};

use super::Part;

/// More partitions than one member can own: an assignment with more is none.
const MAX_ASSIGNED: usize = 200_000;

/// More of a broker's words than this are not shown.
const MAX_WORDS: usize = 300;

/// An answer to a heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) error: ErrorCode,
    /// The broker's words for the error; hostile, cut and escaped.
    pub(super) message: Option<String>,
    pub(super) epoch: i32,
    pub(super) interval_ms: i32,
    /// `None`: unchanged.
    pub(super) assignment: Option<Told>,
}

/// What the member shall own.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// These; `strange`: others that cannot be were left out.
    Partitions { parts: BTreeSet<Part>, strange: bool },
    /// So many that it is nonsense.
    TooMany(usize),
}

impl Reply {
    pub(super) fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        let r = ConsumerGroupHeartbeatResponse::decode(version, body)?;
        let assignment = r.assignment.map(|assignment| {
            let count =
                assignment.topic_partitions.iter().map(|t| t.partitions.len()).fold(0, usize::saturating_add);
            if count > MAX_ASSIGNED {
                return Told::TooMany(count);
            }
            let mut strange = false;
            let mut parts = BTreeSet::new();
            for topic in assignment.topic_partitions.iter() {
                for partition in topic.partitions.iter() {
                    if partition < 0 || topic.topic_id.is_reserved() {
                        strange = true;
                    } else {
                        parts.insert((topic.topic_id, partition));
                    }
                }
            }
            Told::Partitions { parts, strange }
        });
        let words = |m: &str| m.chars().take(MAX_WORDS).flat_map(char::escape_debug).collect();
        Ok(Self {
            error: ErrorCode::from_i16(r.error_code),
            message: r.error_message.filter(|m| !m.is_empty()).map(words),
            epoch: r.member_epoch,
            interval_ms: r.heartbeat_interval_ms,
            assignment,
        })
    }
}
