//! What a read can give, and what it is asked for.

use std::time::Duration;

use super::batch::Batch;
use super::record::Record;
use super::revocation::Revocation;
use crate::{BrokerId, CommitError, Error, TopicPartition};

/// What a read is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// Whether events are returned. Otherwise they are handled by the configured defaults.
    pub events: bool,
    /// Only this partition, which from now on gives its data to nobody else: `run_partitioned`. Events are
    /// never returned for it.
    pub partition: Option<&'a TopicPartition>,
    /// Most records of the batch; `max_batch_records` is the upper bound. 0: events only, and the reader does
    /// not count as having come back for the records it holds.
    pub max_records: usize,
}

impl Filter<'_> {
    /// Any partition, up to `max_batch_records` records, events handled by the defaults: `next_batch`.
    pub const BATCHES: Self = Filter { events: false, partition: None, max_records: usize::MAX };
    /// The same with events: `next_event`.
    pub const EVENTS: Self = Filter { events: true, partition: None, max_records: usize::MAX };
}

/// What a read gave.
#[derive(Debug)]
pub enum Taken {
    /// Records.
    Batch(Batch),
    /// One record: only by [`take_record`](super::Shared::take_record).
    Record(Record),
    /// Something happened; only when events were asked for.
    Event(Event),
    /// An error: of one partition, told once, while the others go on; or fatal, told for ever.
    Error(Error),
    /// Nothing is there; the waker is called when that may have changed.
    Pending,
    /// Nothing will come any more: the consumer was shut down, or the partition asked for is not owned any
    /// more ([`partition_end`](super::Delivery::partition_end) says why).
    End,
}

/// Why nothing comes any more of a partition that is read on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionEnd {
    /// The group takes it back; what is done is committed.
    Revoked,
    /// It is gone: the session is over, the reader stayed away for too long, or a deadline has passed. Nothing
    /// can be committed any more.
    Lost,
    /// The consumer shuts down.
    Shutdown,
}

/// Something that happened, met on a read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Records.
    Batch(Batch),
    /// These partitions are owned from now on; kept ones are not among them.
    Assigned(Vec<TopicPartition>),
    /// The group takes partitions back. Nothing more comes of them; heartbeats go on meanwhile. It ends when
    /// [`finish`](Revocation::finish) is called or the next event is asked for, or at its deadline.
    Revoking(Revocation),
    /// These partitions are gone without a chance to commit. Those that were not told of as assigned yet are not
    /// told of at all.
    Lost(Vec<TopicPartition>),
    /// The last record below the high watermark (with `read_committed`: the last stable offset) was handed
    /// out. Told once until there is more; needs `partition_eof`.
    PartitionEof {
        /// The partition.
        topic_partition: TopicPartition,
        /// The position, where the next record will be.
        offset: i64,
    },
    /// The position was decided by the reset policy.
    OffsetReset {
        /// The partition.
        topic_partition: TopicPartition,
        /// Where it is read from now.
        offset: i64,
        /// What made it necessary.
        cause: ResetCause,
    },
    /// Offsets were committed that nobody waits for: by `commit_in_background`.
    CommitCompleted(Vec<TopicPartition>),
    /// Offsets were not committed that nobody waits for. Those that are done are tried again with the next
    /// commit.
    CommitFailed(Vec<(TopicPartition, CommitError)>),
    /// A broker that did not throttle this client does (KIP-219): by its quota, and it is obeyed. Nothing is lost,
    /// and nothing is to be done. Told once until the throttling is over; needs `broker_events`.
    Throttled {
        /// Which one; `None` for a bootstrap address, before metadata told who that is.
        broker: Option<BrokerId>,
        /// How long it asked to be left alone, to begin with: each answer may ask anew.
        throttle_time: Duration,
    },
    /// A broker does not throttle this client any more: its answers have not asked for it for ten seconds, or its
    /// connection is gone. Needs `broker_events`.
    ThrottleEnded {
        /// Which one, as [`Throttled`](Self::Throttled) named it.
        broker: Option<BrokerId>,
        /// How long it asked to be left alone since then, all together.
        throttled: Duration,
    },
    /// No broker can be reached: each known address was tried in vain since the last connection went. It is tried on
    /// and on, nothing is lost, and partitions stay owned as long as the group allows. Told once until one is there
    /// again; needs `broker_events`.
    AllBrokersDown {
        /// What became of the last try.
        error: Error,
    },
    /// After [`AllBrokersDown`](Self::AllBrokersDown): a broker can be reached again. Needs `broker_events`.
    BrokerAvailable {
        /// Which one; `None` for a bootstrap address, before metadata told who that is.
        broker: Option<BrokerId>,
    },
}

impl Event {
    /// Whether it says that what `earlier` says is over.
    pub(super) fn undoes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::ThrottleEnded { broker: now, .. }, Self::Throttled { broker: then, .. })
            | (Self::Throttled { broker: now, .. }, Self::ThrottleEnded { broker: then, .. }) => now == then,
            (Self::BrokerAvailable { .. }, Self::AllBrokersDown { .. })
            | (Self::AllBrokersDown { .. }, Self::BrokerAvailable { .. }) => true,
            _ => false,
        }
    }
}

impl From<Batch> for Event {
    fn from(batch: Batch) -> Self {
        Self::Batch(batch)
    }
}

/// What made a reset necessary: nothing else ever does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetCause {
    /// The group has committed no offset for the partition.
    NoCommittedOffset,
    /// The leader confirmed that the offset is not in its log.
    OutOfRange {
        /// The offset that was asked for.
        offset: i64,
    },
    /// The log of the leader is shorter than what was read, or another one: an unclean election has taken records
    /// away (KIP-320). It is read on from where the logs part.
    LogTruncation {
        /// The position until then.
        offset: i64,
    },
    /// The topic was deleted and created anew (its id is another one): it begins at its first record.
    TopicRecreated,
}
