//! After a change of leaders: is the new leader's log what was read so far (KIP-320)?
//!
//! Before a position is fetched from a leader of another epoch, that leader is asked where the epoch of the last record
//! before it ends. A log that is another one means that records were taken away by an unclean election: what was
//! fetched and not handed out is dropped, and a position that lies beyond goes back to where the logs part.
//!
//! Nothing is asked where leader epochs are not known (brokers before 2.4), where the position has none (a seek to a
//! bare offset, records of format 0 or 1), and of brokers that answer the question only to administrators (before
//! 2.3).

use ottla_wire::Request;
use ottla_wire::messages::OffsetForLeaderEpochRequest;

use super::{Client, Tag};
use crate::cluster::Cluster;
use crate::config::{CommitMode, OffsetReset};
use crate::connection::{Role, Target};
use crate::delivery::{Divergence, FetchPosition, ResetCause, Start, StartCause};
use crate::offsets::{Doubt, VALIDATE_MIN_VERSION, ValidationTag, Verdict};
use crate::planted::planted;
use crate::{Error, ErrorKind, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// What is in doubt about a position before it may be fetched.
pub(super) fn doubt(cluster: &Cluster, position: &FetchPosition) -> Option<Doubt> {
    let leader = cluster.leader(&position.tp)?;
    let leader_epoch = leader.epoch?;
    let last_epoch = position.last_epoch?;
    if position.validated == Some(leader_epoch) || planted!(NotValidated) {
        return None;
    }
    let (ownership, offset) = (position.epoch, position.offset);
    Some(Doubt { ownership, offset, last_epoch, leader: leader.broker, leader_epoch })
}

impl Client {
    /// Asks about the positions that are in doubt. True if some of them are not any more.
    pub(super) fn drive_validations(&mut self, now: Timestamp) -> bool {
        if self.validations.is_empty() {
            return false;
        }
        let due = {
            let delivery = self.delivery.lock();
            self.validations.retain(|tp| delivery.ownership(tp).is_some());
            self.validations.due(now, |tp| doubt(&self.cluster, &delivery.fetch_position(tp)?))
        };
        let mut moved = false;
        for (broker, doubts) in due {
            let target = Target::Broker(broker);
            if !self.network.open(now, target, Role::Control) {
                continue;
            }
            let api = OffsetForLeaderEpochRequest::API;
            let max = OffsetForLeaderEpochRequest::MAX_VERSION;
            let versions = self.network.versions(target, Role::Control);
            if versions.is_some_and(|v| v.pick(api, VALIDATE_MIN_VERSION, max).is_err()) {
                for (tp, doubt) in doubts {
                    tracing::debug!(partition = %tp, %broker, "the position is not validated: the broker is too old");
                    self.validations.end(&tp);
                    self.not_in_doubt(&tp, doubt);
                }
                moved = true;
                continue;
            }
            let (request, tag) = self.validations.prepare(doubts);
            let timeout = self.config.request_timeout;
            let tag = Tag::OffsetForLeaderEpoch(tag);
            self.network.send(now, (target, Role::Control), &request, i16::MAX, tag, timeout);
        }
        moved
    }

    fn not_in_doubt(&mut self, tp: &TopicPartition, doubt: Doubt) {
        let Doubt { ownership, offset, leader_epoch, .. } = doubt;
        if !self.delivery.lock().validated(tp, ownership, offset, leader_epoch) {
            self.in_doubt_again();
        }
    }

    /// What was said is of another position than the one of now, which nobody asks about any more: it may be in doubt as
    /// well, and would not be fetched.
    fn in_doubt_again(&mut self) {
        self.fetcher.outdate();
    }

    pub(super) fn validation_answered(
        &mut self,
        now: Timestamp,
        version: i16,
        body: &[u8],
        tag: ValidationTag,
    ) -> Result<(), Error> {
        let findings = self.validations.answered(now, version, body, tag)?;
        if findings.stale {
            self.refresh.request(now);
        }
        self.report_all(findings.told);
        for (tp, doubt, error) in findings.failed {
            if !self.delivery.lock().fail(&tp, doubt.ownership, error) {
                self.in_doubt_again();
            }
        }
        for (tp, doubt, verdict) in findings.verdicts {
            match verdict {
                Verdict::Same => self.not_in_doubt(&tp, doubt),
                Verdict::Diverges(..) if planted!(DivergenceIgnored) => {
                    self.validations.end(&tp);
                    self.not_in_doubt(&tp, doubt);
                }
                Verdict::Unknown => {
                    // That proves nothing: an offset that is not there any more is found out of range.
                    tracing::warn!(partition = %tp, offset = doubt.offset, epoch = %doubt.last_epoch,
                        "the leader does not know the leader epoch of the position");
                    if !self.delivery.lock().forget_fetch_epoch(&tp, doubt.ownership, doubt.offset) {
                        self.in_doubt_again();
                    }
                }
                Verdict::Diverges(epoch, end) => {
                    self.diverged(now, &tp, doubt.ownership, doubt.offset, (epoch, end));
                }
            }
        }
        Ok(())
    }

    /// The leader's log is another one than what lies before `offset`.
    pub(super) fn diverged(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        ownership: OwnershipEpoch,
        offset: i64,
        found: (LeaderEpoch, i64),
    ) {
        let divergence = self.delivery.lock().diverged(now, tp, ownership, offset, found);
        let Divergence::Truncated { position, to: cut, epoch, done } = divergence else { return };
        // What is in hand, and is still in the log, can be committed no more: it is read again. Whoever keeps offsets
        // elsewhere, or none, is not asked what is done.
        let commits = self.config.group.is_some() && self.config.commit != CommitMode::External;
        let (to, epoch) = if commits && done.0 < cut { done } else { (cut, epoch) };
        tracing::warn!(partition = %tp, position, cut, to, "the log was truncated");
        if self.config.offset_reset(tp.topic()) == OffsetReset::Error {
            let text = format!(
                "the log was truncated by an unclean leader election: records from {cut} up to {position} were read and \
                 are not in it any more; seek to {to} to go on"
            );
            let error = Error::new(ErrorKind::DataLoss, text).with_resume_at(to);
            self.delivery.lock().fail(tp, ownership, error.with_fatal(false));
            return;
        }
        let mut delivery = self.delivery.lock();
        let Some(renewed) = delivery.begin_seek(now, tp) else { return };
        drop(delivery);
        self.forget_position_of(tp);
        let mut delivery = self.delivery.lock();
        delivery.resetting(tp, renewed, ResetCause::LogTruncation { offset: position });
        let cause = StartCause::Reset;
        delivery.start(now, tp, renewed, Start { offset: to, leader_epoch: epoch, cause });
        // What is committed beyond would hide records that come there from whoever is assigned the partition next.
        self.next_auto_commit = now;
    }
}
