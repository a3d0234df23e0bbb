//! What goes into a [`Client`](super::Client) and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

use crate::admin::{AdminAnswer, AdminCall};
use crate::connection::Io;
use crate::delivery::CommitToken;
use crate::group::{AssignJob, GroupIdentity};
pub use crate::offsets::{CommitResults, CommittedOffset, Offset};
use crate::pattern::TopicPattern;
use crate::snapshot::Snapshot;
use crate::{ConnectionId, Error, LeaderEpoch, OwnershipEpoch, TopicPartition};

/// Something the driver does for the core.
#[derive(Debug)]
pub enum Action {
    /// Connect to this address; `handle_connected` or `handle_closed` follows. All addresses of the name are
    /// tried before it counts as failed.
    Connect {
        /// The connection's id from now on.
        conn: ConnectionId,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Write these bytes, whole and in order.
    Send {
        /// Where to.
        conn: ConnectionId,
        /// One or several frames.
        bytes: Bytes,
    },
    /// Close the connection. Nothing is to be said of it any more.
    Close {
        /// Which one.
        conn: ConnectionId,
    },
    /// Compute an assignment away from this thread; `handle_computed` follows.
    Compute(AssignJob),
}

impl From<Io> for Action {
    fn from(io: Io) -> Self {
        match io {
            Io::Connect { conn, host, port } => Self::Connect { conn, host, port },
            Io::Send { conn, bytes } => Self::Send { conn, bytes },
            Io::Close { conn } => Self::Close { conn },
        }
    }
}

/// Why the core wants to be woken at its next timeout. For logs and traces only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerReason {
    /// A connection's set-up or an answer is overdue.
    Request,
    /// A broker may be connected to again.
    Reconnect,
    /// Metadata is too old, or is to be asked for again.
    Metadata,
    /// The group machine: heartbeat, session, retry.
    Group,
    /// A fetch, an offset query or a commit is tried again.
    Retry,
    /// The commit interval is over.
    AutoCommit,
    /// A revocation's deadline, or the reader stayed away for too long.
    Reader,
    /// A command's time is over.
    Command,
}

/// One offset to commit.
#[derive(Clone, Debug)]
pub enum CommitItem {
    /// What a handed-out record or batch says: carries its ownership.
    Token(CommitToken),
    /// An offset of the caller's own: checked against present ownership.
    Offset {
        /// The partition.
        topic_partition: TopicPartition,
        /// The next offset to read.
        offset: i64,
        /// Epoch of the record before it, if known: what was read needs none.
        leader_epoch: Option<LeaderEpoch>,
        /// Comes back with the committed offset.
        metadata: Option<String>,
        /// Whether going back is meant.
        rewind: bool,
    },
}

/// What the user asks of the core; its [`Outcome`] comes out later under the command's id.
#[derive(Debug)]
pub enum Command {
    /// Resolves when a broker was reached and said who is in the cluster.
    Bootstrap,
    /// Replaces the subscription. Needs a group.
    Subscribe(Vec<String>),
    /// Replaces the subscription by the topics that match, now and later. Needs a group.
    SubscribePattern(TopicPattern),
    /// Gives up the subscription and leaves the group, or gives up what was assigned.
    Unsubscribe,
    /// Replaces what is read, without group management.
    Assign(Vec<(TopicPartition, Offset)>),
    /// Reads these partitions, too; those that are assigned already are left as they are.
    IncrementalAssign(Vec<(TopicPartition, Offset)>),
    /// Does not read these partitions any more; what is done of them is committed.
    IncrementalUnassign(Vec<TopicPartition>),
    /// With [`CommitMode::External`](crate::config::CommitMode::External): where partitions begin that were asked
    /// for ([`Delivery::answer_start`](crate::delivery::Delivery::answer_start) gives the epochs); `None`: where the
    /// reset policy says. Ownerships that are over are left out.
    StartAt(Vec<(TopicPartition, OwnershipEpoch, Option<Offset>)>),
    /// Moves the position; resolves when no record of the old position can be returned any more.
    Seek(TopicPartition, Offset),
    /// No records of these partitions until resumed; their buffers are kept.
    Pause(Vec<TopicPartition>),
    /// Records of these partitions again.
    Resume(Vec<TopicPartition>),
    /// Commits these offsets; serialized with all other commits, never cancelled.
    Commit(Vec<CommitItem>),
    /// Commits everything that was handed out, the batch in hand included.
    CommitDelivered,
    /// As `Commit`, but the latest per partition replaces one that waits; the outcome is an event.
    CommitInBackground(Vec<CommitItem>),
    /// The group's committed offsets of these partitions.
    Committed(Vec<TopicPartition>),
    /// The offsets that these places stand for now. `At` and `Committed` are not queries.
    ListOffsets(Vec<(TopicPartition, Offset)>),
    /// The number of partitions of these topics; 0 for one that does not exist.
    PartitionCounts(Vec<String>),
    /// The identity that commits of this member carry.
    GroupMetadata,
    /// How the client stands and what it has done.
    Snapshot,
    /// What an administrator asks for.
    Admin(AdminCall),
    /// Commits what is done, leaves the group, closes all connections, within this time.
    Close {
        /// Bound of the whole.
        timeout: Duration,
    },
}

/// What became of a command.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed.
    Failed(Error),
    /// Of `Commit` and `CommitDelivered`.
    Commit(CommitResults),
    /// Of `Committed`: `None` where nothing is committed.
    Committed(Vec<(TopicPartition, Result<Option<CommittedOffset>, Error>)>),
    /// Of `ListOffsets`: `None` where no record is that young.
    Offsets(Vec<(TopicPartition, Result<Option<i64>, Error>)>),
    /// Of `PartitionCounts`.
    PartitionCounts(Vec<(String, i32)>),
    /// Of `GroupMetadata`.
    GroupMetadata(Option<GroupIdentity>),
    /// Of `Snapshot`.
    Snapshot(Box<Snapshot>),
    /// Of `Admin`.
    Admin(AdminAnswer),
    /// Of `Close`: what could not be done, in order; empty if all went well.
    Closed(Vec<Error>),
}
