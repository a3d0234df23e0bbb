//! A delivery with a reader and a driver at hand, on a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use ottla_wire::records::{BatchWriter, Compression, ControlRecord};

use crate::config::{CommitMode, IsolationLevel};
use crate::delivery::*;
use crate::{CommitError, Error, LeaderEpoch, OwnershipEpoch, Timestamp, TopicPartition};

/// The high watermark and last stable offset of pushes that do not say another.
pub(super) const END: i64 = 1_000_000;

pub(super) fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

pub(super) fn auto() -> DeliveryConfig {
    DeliveryConfig { max_poll_interval: Some(Duration::from_secs(300)), ..DeliveryConfig::default() }
}

pub(super) fn manual() -> DeliveryConfig {
    DeliveryConfig { commit: CommitMode::Manual, ..auto() }
}

pub(super) fn read_committed() -> DeliveryConfig {
    DeliveryConfig { isolation_level: IsolationLevel::ReadCommitted, ..auto() }
}

/// Counts how often it was woken.
#[derive(Default)]
pub(super) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    /// How often since the last time.
    pub(super) fn count(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

/// A waker and what counts its calls.
pub(super) fn waker() -> (Waker, Arc<Woken>) {
    let woken = Arc::new(Woken::default());
    (Waker::from(Arc::clone(&woken)), woken)
}

/// A writer of a batch at `base` with leader epoch 5.
pub(super) fn writer(base: i64) -> BatchWriter {
    BatchWriter::new().base_offset(base).partition_leader_epoch(5)
}

/// One batch with `records` records from `base` on; each value is its offset.
pub(super) fn data(base: i64, records: i64) -> Bytes {
    compacted(base, &(base..base + records).collect::<Vec<_>>(), base + records)
}

/// One batch with records at these offsets that stands for everything below `next`.
pub(super) fn compacted(base: i64, offsets: &[i64], next: i64) -> Bytes {
    fill(writer(base).last_offset_delta((next - 1 - base) as i32), base, offsets)
}

pub(super) fn fill(mut writer: BatchWriter, base: i64, offsets: &[i64]) -> Bytes {
    for offset in offsets {
        let delta = (offset - base) as i32;
        writer.append_at(delta, 0, None, Some(&offset.to_be_bytes()), &[]).unwrap();
    }
    writer.finish()
}

/// One compressed batch of zeros, `size` in each record.
pub(super) fn compressed(base: i64, records: i64, size: usize) -> Bytes {
    let mut writer = writer(base).compression(Compression::Lz4);
    for _ in 0..records {
        writer.append(0, None, Some(&vec![0; size]), &[]).unwrap();
    }
    writer.finish()
}

/// Part of a transaction of this producer.
pub(super) fn transactional(base: i64, records: i64, producer: i64) -> Bytes {
    let offsets: Vec<i64> = (base..base + records).collect();
    fill(writer(base).producer(producer, 0, 0).transactional(true), base, &offsets)
}

/// The marker that ends a transaction.
pub(super) fn marker(base: i64, producer: i64, record: ControlRecord) -> Bytes {
    let mut writer = writer(base).producer(producer, 0, -1).transactional(true).control(true);
    writer.append(0, Some(&record.key()), Some(&ControlRecord::marker_value(0)), &[]).unwrap();
    writer.finish()
}

pub(super) fn joined(batches: impl IntoIterator<Item = Bytes>) -> Bytes {
    batches.into_iter().flatten().collect()
}

pub(super) struct Rig {
    pub(super) shared: Arc<Shared>,
    pub(super) decoder: BatchDecoder,
    pub(super) now: Timestamp,
}

impl Rig {
    pub(super) fn new(config: DeliveryConfig) -> Self {
        let shared = Shared::new(config);
        Self { shared, decoder: BatchDecoder::default(), now: Timestamp::from_millis(1000) }
    }

    pub(super) fn lock(&self) -> Guard<'_> {
        self.shared.lock()
    }

    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.lock().position(&tp(partition))
    }

    pub(super) fn lag(&self, partition: i32) -> Option<i64> {
        self.lock().lag(&tp(partition))
    }

    pub(super) fn buffered(&self) -> usize {
        self.lock().buffered_bytes()
    }

    pub(super) fn pinned(&self) -> usize {
        self.lock().pinned_bytes()
    }

    pub(super) fn owned(&self) -> Vec<(TopicPartition, OwnershipEpoch)> {
        self.lock().owned()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Owns a partition that is read from `offset` on, as committed by the group.
    pub(super) fn own(&self, partition: i32, offset: i64) -> OwnershipEpoch {
        self.own_by(partition, offset, StartCause::Committed { metadata: None })
    }

    pub(super) fn own_by(&self, partition: i32, offset: i64, cause: StartCause) -> OwnershipEpoch {
        let epoch = self.lock().assign(self.now, &[tp(partition)])[0].1;
        self.start(partition, epoch, offset, cause);
        epoch
    }

    pub(super) fn start(&self, partition: i32, epoch: OwnershipEpoch, offset: i64, cause: StartCause) {
        let start = Start { offset, leader_epoch: LeaderEpoch::from_wire(4), cause };
        assert!(self.lock().start(self.now, &tp(partition), epoch, start));
    }

    pub(super) fn seek(&self, partition: i32, offset: i64) -> OwnershipEpoch {
        let epoch = self.lock().begin_seek(self.now, &tp(partition)).unwrap();
        self.start(partition, epoch, offset, StartCause::Explicit);
        epoch
    }

    /// What a response to the next fetch says.
    pub(super) fn fetched(&self, partition: i32, records: Bytes) -> Fetched {
        let delivery = self.lock();
        let epoch = delivery.ownership(&tp(partition)).unwrap();
        Fetched {
            tp: tp(partition),
            epoch,
            fetch_offset: delivery.fetch_offset(&tp(partition), epoch).unwrap_or(0),
            leader_epoch: None,
            records,
            high_watermark: END,
            last_stable_offset: END,
            log_start_offset: 0,
            aborted: Vec::new(),
            charge: None,
        }
    }

    pub(super) fn push(&self, partition: i32, records: Bytes) -> Pushed {
        let fetched = self.fetched(partition, records);
        self.lock().push(self.now, fetched)
    }

    /// The response reaches up to `end`.
    pub(super) fn push_up_to(&self, partition: i32, records: Bytes, end: i64) -> Pushed {
        let fetched =
            Fetched { high_watermark: end, last_stable_offset: end, ..self.fetched(partition, records) };
        self.lock().push(self.now, fetched)
    }

    pub(super) fn take_with(&mut self, filter: Filter<'_>, waker: Option<&Waker>) -> Taken {
        self.shared.take(self.now, &mut self.decoder, filter, waker)
    }

    /// What `next_batch` sees.
    pub(super) fn take(&mut self) -> Taken {
        self.take_with(Filter::BATCHES, None)
    }

    pub(super) fn batch(&mut self) -> Batch {
        match self.take() {
            Taken::Batch(batch) => batch,
            other => panic!("no batch but {other:?}"),
        }
    }

    pub(super) fn batch_of(&mut self, max_records: usize) -> Batch {
        match self.take_with(Filter { max_records, ..Filter::BATCHES }, None) {
            Taken::Batch(batch) => batch,
            other => panic!("no batch but {other:?}"),
        }
    }

    /// What `next_event` sees, which must be an event.
    pub(super) fn event(&mut self) -> Event {
        match self.take_with(Filter::EVENTS, None) {
            Taken::Event(event) => event,
            other => panic!("no event but {other:?}"),
        }
    }

    /// What `next_record` sees, with a reader of its own.
    pub(super) fn take_record(&mut self, reader: &mut RecordReader) -> Taken {
        self.shared.take_record(|| self.now, &mut self.decoder, reader, None)
    }

    pub(super) fn record(&mut self, reader: &mut RecordReader) -> Record {
        match self.take_record(reader) {
            Taken::Record(record) => record,
            other => panic!("no record but {other:?}"),
        }
    }

    pub(super) fn error(&mut self) -> Error {
        match self.take() {
            Taken::Error(error) => error,
            other => panic!("no error but {other:?}"),
        }
    }

    pub(super) fn pending(&mut self) {
        match self.take() {
            Taken::Pending => {}
            other => panic!("not pending but {other:?}"),
        }
    }

    /// What would be committed: partition and offset.
    pub(super) fn committable(&self) -> Vec<(i32, i64)> {
        let entries = self.lock().committable(CommitScope::All);
        entries.into_iter().map(|e| (e.tp.partition(), e.offset)).collect()
    }

    pub(super) fn check(&self, token: &CommitToken) -> Result<Option<CommitEntry>, CommitError> {
        self.lock().check_commit(self.now, CommitRequest::Token(token))
    }

    pub(super) fn check_plain(
        &self,
        partition: i32,
        offset: i64,
        rewind: bool,
    ) -> Result<Option<CommitEntry>, CommitError> {
        let request = CommitRequest::Offset {
            topic_partition: &tp(partition),
            offset,
            leader_epoch: None,
            metadata: None,
            rewind,
        };
        self.lock().check_commit(self.now, request)
    }

    /// The coordinator takes it.
    pub(super) fn commit(&self, entry: &CommitEntry) {
        self.lock().note_committed(&entry.tp, entry.epoch, entry.offset);
    }

    pub(super) fn revoke(&self, partition: i32) -> RevocationId {
        let deadline = self.now + Duration::from_secs(60);
        self.lock().revoke(self.now, &[tp(partition)], deadline)
    }

    pub(super) fn poll_revocation(&self) -> Option<Revoked> {
        self.lock().poll_revocation(self.now)
    }
}

pub(super) fn offsets(batch: &Batch) -> Vec<i64> {
    let by_ref: Vec<i64> = batch.iter().map(|r| r.offset()).collect();
    let owned: Vec<i64> = batch.records().map(|r| r.offset()).collect();
    assert_eq!(by_ref, owned, "both iterators see the same");
    assert_eq!(by_ref.len(), batch.len());
    for record in batch {
        assert_eq!(record.value(), record.to_owned().value(), "and the same record");
    }
    by_ref
}
