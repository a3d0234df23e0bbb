//! The driver's side: what to fetch, and taking in what was fetched.

use std::sync::Arc;

use bytes::Bytes;
use ottla_wire::records::{AbortedTransactions, BatchHeader, Batches, Compression};

use super::ahead::Ahead;
use super::errors;
use super::ledger::{FrameCharge, Queued};
use super::partition::{Partition, Phase};
use super::queue::{RawSegment, Rest, Segment};
use super::{Delivery, Key};
use crate::planted::{planted, planting};
use crate::{Error, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// The least that is worth fetching into: the driver is woken when there is that much room again.
const MIN_ROOM: usize = 64 << 10;
/// How many responses in a row may end at a batch whose offsets cannot be before the partition stops.
const MAX_SUSPECTS: u8 = 3;

/// Where a partition is to be fetched next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// The partition.
    pub tp: TopicPartition,
    /// The ownership; goes back with [`Fetched`].
    pub epoch: OwnershipEpoch,
    /// The next offset to fetch. Provisional while what was fetched before was not verified.
    pub offset: i64,
    /// Leader epoch of what lies before it (KIP-320, KIP-595).
    pub last_epoch: Option<LeaderEpoch>,
    /// The leader epoch as of which what lies before it is known to be in the leader's log.
    pub validated: Option<LeaderEpoch>,
    /// Bytes that wait to be handed out.
    pub buffered_bytes: usize,
    /// Whether a fetch has told this ownership where the log ends.
    pub knows_end: bool,
}

/// What one response said of one partition, without an error.
#[derive(Debug)]
pub struct Fetched {
    /// The partition.
    pub tp: TopicPartition,
    /// The ownership that it was fetched for.
    pub epoch: OwnershipEpoch,
    /// The offset that was asked for.
    pub fetch_offset: i64,
    /// The leader epoch that the request named, so that only a leader of this epoch has answered.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The records as they came.
    pub records: Bytes,
    /// Negative: unknown.
    pub high_watermark: i64,
    /// Negative: unknown.
    pub last_stable_offset: i64,
    /// Negative: unknown.
    pub log_start_offset: i64,
    /// With `read_committed`: producer id and first offset of each aborted transaction.
    pub aborted: Vec<(i64, i64)>,
    /// The allocation that `records` lies in. Without one, the records count for themselves.
    pub charge: Option<FrameCharge>,
}

/// What became of [`Fetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// Taken in.
    Accepted {
        /// Where to go on.
        next_fetch_offset: i64,
    },
    /// Of another ownership, or of another offset than the one to be fetched next: dropped.
    Stale,
    /// There are bytes, but not one whole batch: ask for more bytes.
    Incomplete,
    /// There are no records.
    Empty,
    /// The next batch has offsets that cannot be: not taken in. The same offset is to be fetched again, after
    /// a pause. It may be that the broker read the high watermark before it read the log; after three times in
    /// a row the partition stops.
    Suspect,
    /// The partition stopped: an error is on its way to the reader.
    Stopped,
}

impl Delivery {
    /// What is to be fetched: everything that has a position, is not paused, not being revoked and not stopped.
    /// Walks all partitions: ask again only when [`fetch_generation`](Self::fetch_generation) has changed, or
    /// for one of them with [`fetch_position`](Self::fetch_position).
    pub fn fetchable(&self) -> Vec<FetchPosition> {
        if self.is_closed() {
            return Vec::new();
        }
        self.partitions.values().filter(|p| p.is_fetchable()).map(|p| fetch_position(p)).collect()
    }

    /// Where this partition is to be fetched next, if it is to be fetched.
    pub fn fetch_position(&self, tp: &TopicPartition) -> Option<FetchPosition> {
        if self.is_closed() {
            return None;
        }
        self.partition(tp).filter(|p| p.is_fetchable()).map(fetch_position)
    }

    /// The offset that this ownership is to fetch next, whether it is to be fetched now or not.
    pub fn fetch_offset(&self, tp: &TopicPartition, epoch: OwnershipEpoch) -> Option<i64> {
        let p = self.partition(tp).filter(|p| p.ownership.epoch == epoch && p.has_position())?;
        Some(p.fetch_offset)
    }

    /// Changes when the set of partitions to fetch changes, or an offset of them other than by
    /// [`push`](Self::push).
    pub fn fetch_generation(&self) -> u64 {
        self.fetch_generation
    }

    /// How many bytes the ledger has left. If it is not enough to fetch into, the driver is woken when it is.
    pub fn room(&self) -> usize {
        self.signals.room(MIN_ROOM)
    }

    /// The same, waiting for `wanted` bytes.
    pub fn room_for(&self, wanted: usize) -> usize {
        self.signals.room(wanted)
    }

    fn is_closed(&self) -> bool {
        self.shutdown || self.reader_gone || self.fatal.is_some()
    }

    /// Takes in what was fetched of a partition. Looks at the headers of the batches and at nothing else.
    pub fn push(&mut self, now: Timestamp, fetched: Fetched) -> Pushed {
        self.saw(now);
        if self.is_closed() {
            return Pushed::Stale;
        }
        let Some(&key) = self.index.get(&fetched.tp) else { return Pushed::Stale };
        let Some(p) = self.partitions.get_mut(&key) else { return Pushed::Stale };
        if p.revoking.is_some() || (p.ownership.epoch != fetched.epoch && !planted!(StaleFetchTaken)) {
            return Pushed::Stale;
        }
        match p.phase {
            Phase::Stopped => return Pushed::Stopped,
            Phase::Active if p.fetch_offset == fetched.fetch_offset => {}
            Phase::Active if planting!(StaleFetchTaken) => {}
            Phase::Active | Phase::AwaitingPosition => return Pushed::Stale,
        }
        if fetched.leader_epoch.is_some() && p.validated != fetched.leader_epoch {
            // An answer of the former leader may come after the new one was asked about what lies before it.
            self.fetch_generation += u64::from(p.validated.is_some());
            p.validated = fetched.leader_epoch;
        }
        let known = |offset: i64| (offset >= 0).then_some(offset);
        p.watermarks.high_watermark = known(fetched.high_watermark);
        p.watermarks.last_stable_offset = known(fetched.last_stable_offset);
        p.watermarks.log_start_offset = known(fetched.log_start_offset);
        if fetched.records.is_empty() {
            self.check_eof(key);
            self.settle(Some(now));
            return Pushed::Empty;
        }
        let outcome = self.take_in(key, fetched);
        self.make_ready(key);
        self.settle_partition(key, Some(now));
        self.settle(Some(now));
        outcome
    }

    fn take_in(&mut self, key: Key, fetched: Fetched) -> Pushed {
        let signals = Arc::clone(&self.signals);
        let read_committed = self.config.read_committed();
        let Some(p) = self.partitions.get_mut(&key) else { return Pushed::Stale };
        let end = match p.watermarks.last_stable_offset {
            Some(stable) if read_committed => stable.min(fetched.high_watermark),
            _ => fetched.high_watermark,
        };
        let walk = walk(&fetched.records, p.fetch_offset, end, (p.fetch_epoch, fetched.leader_epoch));
        if walk.bytes > 0 && walk.records == 0 && planted!(MarkersFetchedAgain) {
            return Pushed::Empty;
        }
        if walk.bytes > 0 {
            p.suspects = 0;
            p.fetch_offset = walk.next;
            p.fetch_epoch = walk.epoch;
            let bytes = fetched.records.slice(..walk.bytes);
            let charge = fetched.charge.unwrap_or_else(|| FrameCharge::new(&signals, fetched.records.len()));
            let mut aborted = if read_committed { fetched.aborted } else { Vec::new() };
            if !aborted.is_sorted_by_key(|(_, first)| *first) && planted!(AbortedDelivered) {
                let mut latest = 0;
                for (_, first) in &mut aborted {
                    latest = latest.max(*first);
                    *first = latest;
                }
            }
            // Mostly one, of each of many partitions.
            if p.queue.capacity() == 0 {
                p.queue.reserve_exact(1);
            }
            // A reader that waits is not kept waiting for a thread to wake up.
            let awaited = p.queue.is_empty() && (self.reader_waker.is_some() || p.waker.is_some());
            let ahead = (walk.compressed && self.config.decode_ahead_bytes > 0)
                .then(|| Arc::new(Ahead::new(bytes.clone(), awaited)));
            p.queue.push_back(Segment::Raw(RawSegment {
                ahead: ahead.clone(),
                rest: bytes,
                aborted: AbortedTransactions::new(aborted),
                records: walk.records,
                queued: Queued::new(charge, walk.bytes),
            }));
            p.queued_bytes += walk.bytes;
            p.consumed.bytes += walk.bytes as u64;
            self.consumed.bytes += walk.bytes as u64;
            p.low_mark = p.queued_bytes / 2;
            if let Some(ahead) = ahead {
                self.offer_ahead(key, &ahead);
            }
        }
        let Some(p) = self.partitions.get_mut(&key) else { return Pushed::Stale };
        let tp = &p.ownership.topic_partition;
        let failure = match walk.stop {
            Stop::End | Stop::Cut if walk.bytes > 0 => None,
            Stop::End | Stop::Cut => return Pushed::Incomplete,
            Stop::Error(error) => {
                // Where the header can be read it says how far the batch reaches; else it is one offset at least.
                let behind = error.last_offset().map(|last| last.saturating_add(1));
                let least = walk.next.saturating_add(1);
                let resume = behind.filter(|behind| (least..=end).contains(behind)).unwrap_or(least);
                Some(errors::unreadable(tp, error, resume))
            }
            // What came before it is taken in; the next fetch begins with it.
            Stop::Suspect(_) if walk.bytes > 0 => None,
            Stop::Suspect(header) => {
                p.suspects += 1;
                if p.suspects < MAX_SUSPECTS {
                    return Pushed::Suspect;
                }
                let resume =
                    walk.next.saturating_add(i64::from(header.last_offset_delta())).saturating_add(1);
                Some(errors::impossible_offsets(tp, &header, walk.next, end, resume))
            }
        };
        match failure {
            Some(error) => {
                self.stop(key, error);
                Pushed::Stopped
            }
            None => Pushed::Accepted { next_fetch_offset: walk.next },
        }
    }

    /// The partition stops once the reader has come to this point.
    fn stop(&mut self, key: Key, error: Error) {
        let Some(p) = self.partitions.get_mut(&key) else { return };
        if p.phase == Phase::Stopped {
            return;
        }
        p.phase = Phase::Stopped;
        p.queue.push_back(Segment::Failed(error));
        self.fetch_generation += 1;
    }

    /// Stops a partition with an error, which the reader is given once, after the data before it. A seek lets
    /// it go on. Gives whether the ownership is still this one.
    pub fn fail(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch, error: Error) -> bool {
        let Some(&key) = self.index.get(tp) else { return false };
        let Some(p) = self.partitions.get(&key) else { return false };
        if p.ownership.epoch != epoch || p.revoking.is_some() || self.is_closed() {
            return false;
        }
        let error = if error.topic_partition().is_some() { error } else { error.with_partition(tp.clone()) };
        self.stop(key, error);
        self.make_ready(key);
        self.settle_partition(key, None);
        self.settle(None);
        true
    }

    /// Whether the offset to fetch next comes from a header that was not verified yet.
    pub fn is_provisional(&self, tp: &TopicPartition) -> bool {
        self.partition(tp).is_some_and(Partition::is_provisional)
    }

    /// Goes back with fetching to the last verified offset, which is given: what was fetched beyond is dropped.
    /// For a broker that says that a provisional offset is out of range. Until the reader has verified what is
    /// fetched then, the partition is not fetched any further.
    pub fn drop_prefetch(&mut self, tp: &TopicPartition, epoch: OwnershipEpoch) -> Option<i64> {
        let key = *self.index.get(tp)?;
        let p = self.partitions.get_mut(&key).filter(|p| p.ownership.epoch == epoch)?;
        if p.phase != Phase::Active {
            return None;
        }
        let raw = p.queue.iter().position(|s| matches!(s, Segment::Raw(_))).unwrap_or(p.queue.len());
        if p.checkout.is_some() || (raw == 0 && p.strip.is_none()) {
            // What is being decoded lies in front of all the rest.
            p.refetch();
        } else {
            p.queue.truncate(raw);
            p.queued_bytes = p.queue.iter().map(Segment::bytes).sum();
            if let Some(Segment::Decoded(Rest { end, end_epoch, .. })) = p.queue.back() {
                (p.fetch_offset, p.fetch_epoch) = (*end, *end_epoch);
            } else if let Some(strip) = &p.strip {
                (p.fetch_offset, p.fetch_epoch) = (strip.end, strip.end_epoch);
            }
        }
        p.verify_first = true;
        self.fetch_generation += 1;
        let offset = p.fetch_offset;
        self.settle_partition(key, None);
        self.settle(None);
        Some(offset)
    }

    /// Makes room when an unpaused partition cannot be granted any: copies out small rests of frames, then
    /// drops the buffers of paused partitions, the one that was paused first to begin with, until `bytes` are
    /// given back. They are fetched again on resume. Gives how much the ledger shrank.
    pub fn evict_paused(&mut self, bytes: usize) -> usize {
        let before = self.signals.ledger();
        let freed = |d: &Self| before.saturating_sub(d.signals.ledger());
        self.copy_rests(|charge| charge.is_small_rest() && !charge.is_pinned());
        let paused: Vec<Key> = self.paused.values().copied().collect();
        for key in paused {
            if freed(self) >= bytes {
                break;
            }
            let Some(p) = self.partitions.get_mut(&key) else { continue };
            // What lies before the error of a stopped partition would not be fetched again.
            if p.phase == Phase::Active && !p.queue.is_empty() && p.checkout.is_none() {
                if planted!(EvictedNotRefetched) {
                    p.drop_queue();
                    continue;
                }
                p.refetch();
                self.fetch_generation += 1;
            }
        }
        if freed(self) < bytes && self.is_starved() {
            self.copy_rests(FrameCharge::is_rest);
        }
        freed(self)
    }

    /// All that is queued has to wait for what its reader does with records that it has (`max_unmarked`), and nothing
    /// else can be fetched: whoever waits for records of other partitions first would wait for ever.
    fn is_starved(&self) -> bool {
        let max_unmarked = self.config.max_unmarked;
        let idle = |p: &Partition| p.strip.is_none() && p.checkout.is_none() && p.decoding.is_none();
        let blocked =
            |p: &Partition| p.paused.is_some() || p.revoking.is_some() || p.unmarked_room(max_unmarked) == 0;
        self.partitions.values().all(|p| idle(p) && (p.queue.is_empty() || blocked(p)))
    }

    /// The rests of these frames are copied out, and the frames are given back.
    fn copy_rests(&mut self, which: impl Fn(&FrameCharge) -> bool) {
        let signals = Arc::clone(&self.signals);
        for segment in self.partitions.values_mut().flat_map(|p| p.queue.iter_mut()) {
            let (Segment::Raw(RawSegment { queued, .. }) | Segment::Decoded(Rest { queued, .. })) = segment
            else {
                continue;
            };
            // What is copied fills its allocation: that is not looked at again before most of it is handed out.
            if !which(queued.charge()) {
                continue;
            }
            let size = match segment {
                Segment::Raw(raw) => {
                    raw.rest = Bytes::copy_from_slice(&raw.rest);
                    // It has slices of the frame.
                    raw.ahead = None;
                    raw.rest.len()
                }
                Segment::Decoded(rest) => {
                    (rest.batch, rest.cursor) = rest.batch.detached_from(rest.cursor);
                    rest.batch.data().len()
                }
                Segment::Failed(_) => continue,
            };
            if let Segment::Raw(RawSegment { queued, .. }) | Segment::Decoded(Rest { queued, .. }) = segment {
                // What the partition's queue counts stays the same.
                *queued = Queued::new(FrameCharge::new(&signals, size), queued.bytes());
            }
        }
    }
}

fn fetch_position(p: &Partition) -> FetchPosition {
    FetchPosition {
        tp: p.ownership.topic_partition.clone(),
        epoch: p.ownership.epoch,
        offset: p.fetch_offset,
        last_epoch: p.fetch_epoch,
        validated: p.validated,
        buffered_bytes: p.queued_bytes,
        knows_end: p.watermarks.high_watermark.is_some(),
    }
}

/// How far the headers of a response are good.
struct Walk {
    /// Whole batches, in bytes.
    bytes: usize,
    /// Records as they are declared.
    records: usize,
    /// The offset behind them.
    next: i64,
    epoch: Option<LeaderEpoch>,
    /// One of the batches at least is compressed.
    compressed: bool,
    stop: Stop,
}

enum Stop {
    /// All of it.
    End,
    /// The last batch was cut off, which is normal.
    Cut,
    Error(ottla_wire::records::BatchError),
    /// Offsets that cannot be.
    Suspect(BatchHeader),
}

/// Walks the headers. The checksum covers neither a batch's base offset nor its leader epoch, and nothing was
/// verified yet: so that one flipped bit cannot move the position to where nothing is, each batch must begin
/// where the one before it ended or later, go on beyond the offset that was asked for, and end below `end`.
///
/// Of two batches that overlap the first is the one that lies if it left a gap before it: its records may be those
/// of the gap. Otherwise it is the second.
///
/// `before` is the leader epoch of what lies before, `leader` that of the leader: a log's epochs never go back and
/// never exceed its leader's, and one that does is not taken for where the log stands.
fn walk(
    records: &Bytes,
    fetch_offset: i64,
    end: i64,
    (before, leader): (Option<LeaderEpoch>, Option<LeaderEpoch>),
) -> Walk {
    let mut walk =
        Walk { bytes: 0, records: 0, next: fetch_offset, epoch: before, compressed: false, stop: Stop::End };
    // The walk as it was before the last batch, and that batch, if there was a gap.
    let mut doubtful: Option<(Walk, BatchHeader)> = None;
    let mut batches = Batches::new(records.clone());
    for batch in batches.by_ref() {
        let header = match batch {
            Ok(batch) => batch.header,
            Err(error) => {
                walk.stop = Stop::Error(error);
                return walk;
            }
        };
        if walk.bytes > 0 && header.base_offset < walk.next {
            let (mut good, liar) = doubtful.unwrap_or((walk, header));
            good.stop = Stop::Suspect(liar);
            return good;
        }
        if header.next_offset() <= walk.next || header.next_offset() > end {
            walk.stop = Stop::Suspect(header);
            return walk;
        }
        if (header.record_count == 0 && planted!(EmptiedBatchSticks))
            || (header.is_control && planted!(ControlBatchSticks))
        {
            walk.stop = Stop::Cut;
            return walk;
        }
        let gap = header.base_offset > walk.next;
        let before = Walk { stop: Stop::End, ..walk };
        walk.bytes += header.size;
        walk.compressed |= header.compression != Compression::None;
        walk.next = header.next_offset();
        walk.epoch = match LeaderEpoch::from_wire(header.partition_leader_epoch) {
            Some(epoch) if leader.is_some_and(|leader| epoch > leader) => walk.epoch,
            Some(epoch) => walk.epoch.max(Some(epoch)),
            None => None,
        };
        if !header.is_control {
            walk.records += usize::try_from(header.record_count).unwrap_or(1);
        }
        doubtful = gap.then_some((before, header));
    }
    if batches.trailing() > 0 {
        walk.stop = Stop::Cut;
    }
    walk
}
