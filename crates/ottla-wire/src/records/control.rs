//! Control records: transaction markers and what KRaft writes into its own log.

use core::fmt;

use super::batch::{Batch, Records};
use super::bytes_at::{be_i16, be_i32};

/// What a control record says (KIP-98). Control records are never handed out to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlRecord {
    /// The transaction of the batch's producer was aborted.
    Abort,
    /// The transaction of the batch's producer was committed.
    Commit,
    /// Another type: leader change (2), snapshots and feature levels of KRaft, or unknown. To be ignored.
    Other(i16),
}

/// The key of a control record, or the value of a marker, is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecordError(&'static str);

impl fmt::Display for ControlRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control record: {}", self.0)
    }
}

impl std::error::Error for ControlRecordError {}

impl ControlRecord {
    /// Reads the key: version and type. Versions above 0 are read as 0, as everywhere in Kafka.
    ///
    /// # Errors
    /// When the key is null, too short, or its version is negative.
    pub fn parse(key: Option<&[u8]>) -> Result<Self, ControlRecordError> {
        let key = key.ok_or(ControlRecordError("its key is null"))?;
        let (Some(version), Some(kind)) = (be_i16(key, 0), be_i16(key, 2)) else {
            return Err(ControlRecordError("its key is shorter than 4 bytes"));
        };
        if version < 0 {
            return Err(ControlRecordError("the version of its key is negative"));
        }
        Ok(match kind {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// Reads the value of an abort or commit marker: the epoch of the transaction coordinator that wrote it.
    ///
    /// # Errors
    /// When the value is null, too short, or its version is negative.
    pub fn coordinator_epoch(value: Option<&[u8]>) -> Result<i32, ControlRecordError> {
        let value = value.ok_or(ControlRecordError("the value of a marker is null"))?;
        let (Some(version), Some(epoch)) = (be_i16(value, 0), be_i32(value, 2)) else {
            return Err(ControlRecordError("the value of a marker is shorter than 6 bytes"));
        };
        if version < 0 {
            return Err(ControlRecordError("the version of a marker is negative"));
        }
        Ok(epoch)
    }

    /// The type as a number.
    pub fn type_id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }

    /// The key of such a record, as it is written.
    pub fn key(self) -> [u8; 4] {
        let [a, b] = self.type_id().to_be_bytes();
        [0, 0, a, b]
    }

    /// The value of an abort or commit marker, as it is written.
    pub fn marker_value(coordinator_epoch: i32) -> [u8; 6] {
        let [a, b, c, d] = coordinator_epoch.to_be_bytes();
        [0, 0, a, b, c, d]
    }
}

/// What the records of a control batch say; see [`Batch::control_records`].
#[derive(Debug, Clone)]
pub struct ControlRecords<'a>(Option<Records<'a>>);

impl<'a> ControlRecords<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self(batch.header().is_control.then(|| batch.iter()))
    }
}

impl Iterator for ControlRecords<'_> {
    type Item = Result<ControlRecord, ControlRecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.as_mut()?.next()?;
        Some(ControlRecord::parse(record.key()))
    }
}
