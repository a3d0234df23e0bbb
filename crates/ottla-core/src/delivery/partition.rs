//! One owned partition.
//!
//! | phase | input | next |
//! |---|---|---|
//! | – | `assign`, `assign_manual` | awaiting position |
//! | awaiting position | `start` | active |
//! | awaiting position, active | `fail`; a header out of range three times | stopped once the data before was read |
//! | active | a batch that cannot be read | stopped, what follows is dropped |
//! | any | `begin_seek` | awaiting position, ownership epoch + 1, nothing of before is left |
//! | any | `revoke` | the same phase, closed: nothing is handed out or fetched |
//! | any | `lose`, `unassign`, `end_revocation` | gone |
//!
//! Paused or not is another dimension: it survives seeks, and the buffers stay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::Key;
use super::ahead::Slot;
use super::batch::BatchInner;
use super::clock::PollClock;
use super::events::ResetCause;
use super::figures::Consumed;
use super::handed::Handed;
use super::marks::Done;
use super::queue::{Rest, Segment};
use super::revocation::RevocationId;
use super::strip::OpenStrip;
use super::token::Ownership;
use super::truncation::EpochSpans;
use crate::LeaderEpoch;
use crate::planted::{planted, planting};

/// What the last responses said of a partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// Offset of the oldest record.
    pub log_start_offset: Option<i64>,
    /// Below this the records are on all in-sync replicas.
    pub high_watermark: Option<i64>,
    /// Below this all transactions are decided.
    pub last_stable_offset: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    AwaitingPosition,
    Active,
    Stopped,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) ownership: Arc<Ownership>,
    pub(super) phase: Phase,
    /// It has a position.
    pub(super) started: bool,
    pub(super) revoking: Option<RevocationId>,
    /// When it was paused, as a running number.
    pub(super) paused: Option<u64>,

    // Read on its own (`run_partitioned`).
    pub(super) claimed: bool,
    pub(super) waker: Option<Waker>,
    pub(super) clock: PollClock,
    /// Its reader was given something and has not come back.
    pub(super) in_hand: bool,

    /// The reset policy is to choose the start, because of this.
    pub(super) resetting: Option<ResetCause>,
    /// Where what was done ended when that began, with its leader epoch, if what came after it was in hand.
    pub(super) undone: Option<Box<(i64, Option<LeaderEpoch>)>>,

    // Fetching.
    /// The next offset to fetch; provisional while batches below it were not verified.
    pub(super) fetch_offset: i64,
    pub(super) fetch_epoch: Option<LeaderEpoch>,
    /// The leader epoch as of which the log below the fetch offset is known to be the leader's (KIP-320).
    pub(super) validated: Option<LeaderEpoch>,
    /// A provisional offset was out of range: fetch no further than what is verified.
    pub(super) verify_first: bool,
    /// Responses in a row whose next batch had offsets that cannot be.
    pub(super) suspects: u8,
    pub(super) watermarks: Watermarks,

    pub(super) consumed: Consumed,

    // What waits.
    pub(super) queue: VecDeque<Segment>,
    /// Bytes in the queue, and in the checkout if there is one.
    pub(super) queued_bytes: usize,
    /// The driver is told when the queue has shrunk to this.
    pub(super) low_mark: usize,
    /// The reader has come to a batch that is being decoded ahead.
    pub(super) decoding: Option<Arc<Slot>>,
    /// Decoding goes on outside the lock, under this number.
    pub(super) checkout: Option<u64>,
    /// The reader hands out records of it to itself, and moves the position by that.
    pub(super) strip: Option<OpenStrip>,
    pub(super) in_ready: bool,

    // Handing out.
    /// The next offset to hand out, where there is no strip.
    position: i64,
    /// Leader epoch of what lies before it.
    pub(super) position_epoch: Option<LeaderEpoch>,
    /// The same of what was handed out before.
    pub(super) epochs: EpochSpans,
    /// The end of the last batch that was handed out; between here and the position there is no record.
    delivered_end: i64,
    pub(super) eof_told: Option<i64>,

    // Done and committed.
    pub(super) handed: Handed,
    pub(super) done: Done,
    /// The first mark was made in this ownership.
    pub(super) marks_used: bool,
    /// What was handed out since, beyond the done prefix: end of the batch, records in it.
    pub(super) unmarked: VecDeque<(i64, usize)>,
    pub(super) unmarked_records: usize,
    /// What the group has committed for it, as far as this ownership knows.
    pub(super) committed: Option<i64>,
    pub(super) committed_metadata: Option<String>,
    /// The latest offset that was given out to be committed and has not failed.
    pub(super) requested: Option<i64>,
    /// Only above this a commit makes sense: where it was started, or what a rewind leaves behind.
    pub(super) commit_above: i64,
    /// Metadata of the latest explicit commit, and its offset.
    pub(super) metadata: Option<(i64, String)>,
}

impl Partition {
    pub(super) fn new(ownership: Arc<Ownership>) -> Self {
        Self {
            ownership,
            phase: Phase::AwaitingPosition,
            started: false,
            revoking: None,
            paused: None,
            claimed: false,
            waker: None,
            clock: PollClock::Standing,
            in_hand: false,
            resetting: None,
            undone: None,
            fetch_offset: 0,
            fetch_epoch: None,
            validated: None,
            verify_first: false,
            suspects: 0,
            watermarks: Watermarks::default(),
            consumed: Consumed::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            low_mark: 0,
            decoding: None,
            checkout: None,
            strip: None,
            in_ready: false,
            position: 0,
            position_epoch: None,
            epochs: EpochSpans::default(),
            delivered_end: 0,
            eof_told: None,
            handed: Handed::default(),
            done: Done::new(0, None),
            marks_used: false,
            unmarked: VecDeque::new(),
            unmarked_records: 0,
            committed: None,
            committed_metadata: None,
            requested: None,
            commit_above: i64::MAX,
            metadata: None,
        }
    }

    pub(super) fn key(&self) -> Key {
        self.ownership.key
    }

    /// A seek: the same assignment under a new ownership. Pause, claim and watermarks stay.
    pub(super) fn renew(&mut self, ownership: Arc<Ownership>) {
        let mut old = std::mem::replace(self, Self::new(ownership));
        old.end();
        self.paused = old.paused;
        self.claimed = old.claimed;
        self.waker = old.waker;
        self.clock = old.clock;
        self.in_hand = old.in_hand;
        self.in_ready = old.in_ready;
        self.watermarks = old.watermarks;
        self.epochs = std::mem::take(&mut old.epochs);
        if !old.queue.is_empty() && planted!(SeekKeepsQueue) {
            (self.queue, self.queued_bytes) = (std::mem::take(&mut old.queue), old.queued_bytes);
        }
        if old.started && self.paused.is_some() && planted!(SeekLostByResume) {
            self.start(old.position, old.position_epoch, false, false);
        }
        if old.started && planted!(SeekCommitsOld) {
            self.done = old.done;
        }
    }

    /// Where it is read from. `committed` says that the group has this offset, `reset` that it should.
    pub(super) fn start(&mut self, offset: i64, epoch: Option<LeaderEpoch>, committed: bool, reset: bool) {
        (self.phase, self.started) = (Phase::Active, true);
        (self.fetch_offset, self.fetch_epoch) = (offset, epoch);
        (self.position, self.position_epoch) = (offset, epoch);
        self.epochs.start(offset, epoch);
        self.delivered_end = offset;
        if self.done.to() == 0 || !planting!(SeekCommitsOld) {
            self.done = Done::new(offset, epoch);
        }
        self.committed = committed.then_some(offset);
        self.requested = None;
        self.commit_above = if reset { offset.saturating_sub(1) } else { offset };
    }

    /// The ownership is over: nothing of it is handed out any more.
    pub(super) fn end(&mut self) {
        self.close_strip();
        self.ownership.end();
    }

    /// The next offset to hand out.
    pub(super) fn position(&self) -> i64 {
        self.strip.as_ref().map_or(self.position, OpenStrip::position)
    }

    /// Where what was handed out ends.
    pub(super) fn delivered_end(&self) -> i64 {
        self.strip.as_ref().map_or(self.delivered_end, OpenStrip::position)
    }

    /// Everything up to here is dealt with.
    pub(super) fn move_position(&mut self, offset: i64, epoch: Option<LeaderEpoch>) {
        self.enter_epoch(self.position, epoch);
        self.position = offset;
    }

    /// What is read at once need not be of one leader epoch: nothing in front of `lead`, then these.
    pub(super) fn move_over(&mut self, ready: &[Rest], (lead, lead_epoch): (i64, Option<LeaderEpoch>)) {
        if lead > self.position {
            self.move_position(lead, lead_epoch);
        }
        for rest in ready {
            let epoch = LeaderEpoch::from_wire(rest.batch.header().partition_leader_epoch);
            self.move_position(rest.last.saturating_add(1), epoch);
            self.move_position(rest.end, rest.end_epoch);
        }
    }

    /// What is handed out from `offset` on is of this leader epoch.
    pub(super) fn enter_epoch(&mut self, offset: i64, epoch: Option<LeaderEpoch>) {
        if self.position_epoch != epoch {
            self.position_epoch = epoch;
            self.epochs.enter(offset, epoch);
        }
    }

    /// The leader epoch of what lies before `offset`, as far as it was read. Whoever begins there can be told of a cut
    /// below only if it knows this.
    pub(super) fn epoch_before(&self, offset: i64) -> Option<LeaderEpoch> {
        if offset > self.position() {
            return None;
        }
        let known = self.epochs.before(offset).flatten();
        known.filter(|_| !planted!(BareCommits))
    }

    /// Everything up to the position is handed out.
    pub(super) fn delivered(&mut self) {
        self.delivered_end = self.position;
    }

    /// Whether the reader has this strip of it.
    pub(super) fn has_strip(&self, inner: &Arc<BatchInner>) -> bool {
        self.strip.as_ref().is_some_and(|strip| strip.is(inner))
    }

    /// The reader has come to the end of its strip, or gives it back; the last record of it begins at `last`.
    pub(super) fn strip_ended(&mut self, end: i64, epoch: Option<LeaderEpoch>, last: i64) {
        // Offsets without a record behind it may be of another leader epoch.
        if let Some(records_end) = self.strip.take().map(|strip| strip.records_end()).filter(|at| *at < end) {
            self.position = self.position.max(records_end);
        }
        self.move_position(end, epoch);
        self.delivered();
        self.handed.strip_ended(end, Some(last));
    }

    /// Takes the strip away from the reader. What was handed out of it stays so, the rest is dropped.
    pub(super) fn close_strip(&mut self) {
        let Some(strip) = self.strip.take() else { return };
        self.move_position(strip.close(), self.position_epoch);
        self.delivered();
        self.handed.strip_ended(self.position, None);
    }

    pub(super) fn has_position(&self) -> bool {
        self.started
    }

    /// The offset that a read can reach.
    pub(super) fn end_offset(&self, read_committed: bool) -> Option<i64> {
        let Watermarks { high_watermark, last_stable_offset, .. } = self.watermarks;
        if read_committed { last_stable_offset.or(high_watermark) } else { high_watermark }
    }

    /// Drops what was not handed out, what is being decoded among it.
    pub(super) fn drop_queue(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.decoding = None;
        self.checkout = None;
        self.close_strip();
    }

    /// Drops what was not handed out and goes back to the position with fetching.
    pub(super) fn refetch(&mut self) {
        self.drop_queue();
        (self.fetch_offset, self.fetch_epoch) = (self.position, self.position_epoch);
    }

    /// The queue has so many bytes now. Gives whether it has shrunk so far that the driver should know.
    pub(super) fn set_queued_bytes(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.queued_bytes, bytes);
        (bytes <= self.low_mark && before > self.low_mark) || (bytes == 0 && before > 0)
    }

    /// Whether something can be handed out.
    pub(super) fn is_deliverable(&self, max_unmarked: usize) -> bool {
        !self.queue.is_empty()
            && (self.paused.is_none() || planted!(PausedDelivered))
            && (self.revoking.is_none() || planted!(RevokedDelivered))
            && self.decoding.is_none()
            && self.checkout.is_none()
            && self.strip.is_none()
            && self.unmarked_room(max_unmarked) > 0
    }

    /// How many records may be handed out beyond the gap.
    pub(super) fn unmarked_room(&self, max_unmarked: usize) -> usize {
        if self.marks_used { max_unmarked.saturating_sub(self.unmarked_records) } else { usize::MAX }
    }

    pub(super) fn is_fetchable(&self) -> bool {
        self.phase == Phase::Active
            && self.paused.is_none()
            && self.revoking.is_none()
            && !(self.verify_first && self.is_provisional())
    }

    /// Whether batches below the fetch offset were not verified yet.
    pub(super) fn is_provisional(&self) -> bool {
        self.checkout.is_some() || self.queue.iter().any(|s| matches!(s, Segment::Raw(_)))
    }

    /// Something was done: what the done prefix has passed is not unmarked any more.
    pub(super) fn forget_unmarked(&mut self) {
        while let Some(&(end, records)) = self.unmarked.front() {
            if end > self.done.to() {
                break;
            }
            self.unmarked.pop_front();
            self.unmarked_records = self.unmarked_records.saturating_sub(records);
        }
    }

    /// The user says that everything below `offset` is processed. Gives the metadata a place if it is the
    /// latest word.
    pub(super) fn accept(&mut self, offset: i64, epoch: Option<LeaderEpoch>, metadata: Option<&str>) {
        if offset >= self.done.to() {
            self.metadata = metadata.map(|text| (self.resolve(offset, epoch).0, text.to_owned()));
        }
        self.done.advance(offset, epoch);
        self.forget_unmarked();
    }

    /// The offset to commit when everything below `offset` is done: behind the last record that was handed
    /// out that is the position, since what lies between holds no record.
    pub(super) fn resolve(&self, offset: i64, epoch: Option<LeaderEpoch>) -> (i64, Option<LeaderEpoch>) {
        if offset >= self.delivered_end() && offset <= self.position() {
            (self.position(), self.position_epoch)
        } else {
            (offset, epoch)
        }
    }

    /// The same for what is done and is to be committed now. The offsets without a record are done from here on:
    /// when more was handed out, a commit that has to be made again must not go back in front of them.
    pub(super) fn settle_done(
        &mut self,
        offset: i64,
        epoch: Option<LeaderEpoch>,
    ) -> (i64, Option<LeaderEpoch>) {
        let (to, epoch) = self.resolve(offset, epoch);
        if to > offset {
            self.done.advance(to, epoch);
            self.forget_unmarked();
        }
        (to, epoch)
    }

    /// Looks which handles are gone, and counts what is done by that.
    pub(super) fn sweep(&mut self, auto: bool) {
        self.handed.sweep(auto, &mut self.done);
        self.forget_unmarked();
    }

    /// Whether a handed-out batch or record is neither done, nor marked or committed, nor (unless `auto`)
    /// dropped.
    pub(super) fn has_work_in_hand(&mut self, auto: bool) -> bool {
        self.sweep(auto);
        self.handed.holds_back(&self.done)
    }
}
