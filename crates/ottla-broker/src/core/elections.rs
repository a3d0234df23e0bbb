//! What elections do to a partition's log.

use super::records::{TestRecord, build};
use super::{Cluster, batch};
use crate::error::{BrokerError, Result};
use crate::time::Timestamp;

impl Cluster {
    /// An unclean leader election: `node` leads from now on, under the next leader epoch, and its log ends at
    /// `offset` (at the start of the batch that holds it). What the former leader had beyond is gone.
    ///
    /// # Errors
    /// There is no such partition or node, or the node is down.
    pub fn elect_uncleanly(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        node: i32,
        offset: i64,
    ) -> Result<()> {
        self.expect_up(node)?;
        let target = self.topics.expect(topic, partition)?;
        target.log.truncate(offset);
        if target.leader == Some(node) {
            target.leader_epoch += 1;
        }
        self.topics.move_leader(topic, partition, node)?;
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Holds the log of a follower at `offset`, so that it lags behind its leader (none: it follows again). Consumers that
    /// fetch from it (KIP-392) see no more.
    ///
    /// # Errors
    /// There is no such partition.
    pub fn hold_replica(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        node: i32,
        offset: Option<i64>,
    ) -> Result<()> {
        let target = self.topics.expect(topic, partition)?;
        match offset {
            Some(offset) => target.lagging.insert(node, offset),
            None => target.lagging.remove(&node),
        };
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(())
    }

    /// Appends records as one batch that a leader of an earlier epoch had written: what the log of a replica may hold
    /// that wins an unclean election after another one. Gives the offset of the first.
    ///
    /// # Errors
    /// There is no such partition, the epoch is later than the present one, or the log holds a later one already.
    pub fn produce_in_epoch(
        &mut self,
        now: Timestamp,
        topic: &str,
        partition: i32,
        leader_epoch: i32,
        records: impl IntoIterator<Item = impl Into<TestRecord>>,
    ) -> Result<i64> {
        let records: Vec<TestRecord> = records.into_iter().map(Into::into).collect();
        let wall = self.wall_ms(now);
        let target = self.topics.expect(topic, partition)?;
        let last = target.log.last_epoch();
        if leader_epoch > target.leader_epoch || leader_epoch < last {
            return Err(BrokerError::Invalid(format!(
                "the leader epoch must lie from {last} to {}, not at {leader_epoch}",
                target.leader_epoch
            )));
        }
        if records.is_empty() {
            return Ok(target.log.end());
        }
        let bytes = build(records, wall);
        let header = batch::parse(&bytes).map_err(|error| BrokerError::Corrupt(error.text()))?;
        let first = target.log.append(&header, &bytes, leader_epoch);
        self.wake_fetches(now, Some(topic));
        self.pump(now);
        Ok(first)
    }
}
