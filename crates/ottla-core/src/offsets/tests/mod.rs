//! Lookups and commits against answers written by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::Asker;
use super::commit::{CommitJob, CommitOrigin, CommitQueue, CommitStep, JobResult};
use super::committed::{CommittedAnswer, CommittedFindings, CommittedLookups};
use super::lookup::{LookupAnswer, Lookups, Place};
use crate::config::IsolationLevel;
use crate::delivery::CommitEntry;
use crate::group::GroupIdentity;
use crate::{
    BrokerId, CommandId, CommitError, Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Rng, Timestamp, TopicId,
    TopicPartition,
};

const T0: Timestamp = Timestamp::from_millis(1_000);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
const LATER: Timestamp = Timestamp::from_millis(60_000);
const LEADER: BrokerId = BrokerId(1);
const QUERY: Asker = Asker::Query(CommandId(7));
const POSITION: Asker = Asker::Position(OwnershipEpoch(3));

mod commit;
mod committed;
mod lookup;
mod validate;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}
