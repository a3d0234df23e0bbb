//! What delivery needs to know.

use std::time::Duration;

use crate::config::{CommitMode, Config, IsolationLevel};

/// The settings that decide what is handed out and when it is done. [`Config`] documents each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryConfig {
    /// How offsets are committed: decides what counts as done.
    pub commit: CommitMode,
    /// Whether records of aborted transactions are left out.
    pub isolation_level: IsolationLevel,
    /// Whether each batch's checksum is verified.
    pub check_crcs: bool,
    /// Bound of the byte ledger.
    pub max_buffered_bytes: usize,
    /// Most records in one `Batch`.
    pub max_batch_records: usize,
    /// Most bytes that one batch of the wire may decompress to.
    pub max_decompressed_batch_bytes: usize,
    /// How many records may be handed out of one partition beyond the oldest that is not marked.
    pub max_unmarked: usize,
    /// How long the reader may stay away while something is there for it. `None`: for ever.
    pub max_poll_interval: Option<Duration>,
    /// Whether an event says that a partition was read to its end.
    pub partition_eof: bool,
    /// Commit whenever so many records are done or marked.
    pub commit_records: Option<usize>,
    /// With [`CommitMode::External`]: how long the reader may take to say where a partition begins.
    pub start_timeout: Duration,
    /// Most bytes that are decoded, or being decoded, ahead of the reader by somebody who runs
    /// [`DecodeJob`](super::DecodeJob)s: a part of `max_buffered_bytes`, which fetching does not use. 0: nobody does.
    pub decode_ahead_bytes: usize,
}

impl DeliveryConfig {
    /// Whether what the reader is done with counts as done without a word of it.
    pub(super) fn is_auto(&self) -> bool {
        matches!(self.commit, CommitMode::Auto { .. } | CommitMode::External)
    }

    /// Whether the user keeps the offsets.
    pub(super) fn is_external(&self) -> bool {
        self.commit == CommitMode::External
    }

    pub(super) fn read_committed(&self) -> bool {
        self.isolation_level == IsolationLevel::ReadCommitted
    }
}

impl From<&Config> for DeliveryConfig {
    fn from(config: &Config) -> Self {
        Self {
            commit: config.commit,
            isolation_level: config.isolation_level,
            check_crcs: config.check_crcs,
            max_buffered_bytes: config.max_buffered_bytes,
            max_batch_records: config.max_batch_records.max(1),
            max_decompressed_batch_bytes: config.max_decompressed_batch_bytes,
            max_unmarked: config.max_unmarked.max(1),
            max_poll_interval: config.group.as_ref().and_then(|group| group.max_poll_interval),
            partition_eof: config.partition_eof,
            commit_records: config.commit_records,
            start_timeout: config.default_api_timeout,
            decode_ahead_bytes: if config.decode_threads > 0 {
                ahead_bytes(config.max_buffered_bytes)
            } else {
                0
            },
        }
    }
}

/// Enough for the next read and the one after it, and no more than a quarter; nothing where fetching needs it all.
fn ahead_bytes(max_buffered_bytes: usize) -> usize {
    if max_buffered_bytes < 256 << 10 { 0 } else { (2 << 20).min(max_buffered_bytes / 4) }
}

impl Default for DeliveryConfig {
    /// What the default [`Config`] says, without a group.
    fn default() -> Self {
        Self::from(&Config::default())
    }
}
