//! The path of a fetched frame through the core without a network: pushed as the driver does, taken as a reader does.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_core::delivery::{
    BatchDecoder, CommitScope, DeliveryConfig, Fetched, Filter, Pushed, Shared, Start, StartCause, Taken,
};
use ottla_core::{OwnershipEpoch, Timestamp, TopicPartition};
use ottla_wire::records::{Compression, set_base_offset};

use crate::{Result, Touch, data};

/// One partition, one reader.
#[derive(Debug)]
pub struct Steady {
    shared: Arc<Shared>,
    decoder: BatchDecoder,
    tp: TopicPartition,
    epoch: OwnershipEpoch,
    offset: i64,
    batches: Vec<Vec<u8>>,
    /// Records in a batch.
    pub records: u64,
}

impl Steady {
    /// Frames of about a megabyte of uncompressed data in batches of about 16 KiB.
    ///
    /// # Errors
    /// When the core refuses.
    pub fn new(value_bytes: usize, codec: Compression) -> Result<Self> {
        let shared = Shared::new(DeliveryConfig::default());
        let tp = TopicPartition::new("steady", 0);
        let now = Timestamp::ZERO;
        let mut delivery = shared.lock();
        let owned = delivery.assign_manual(now, std::slice::from_ref(&tp));
        let (_, epoch) = owned.first().ok_or("not assigned")?.clone();
        let start = Start { offset: 0, leader_epoch: None, cause: StartCause::Explicit };
        if !delivery.start(now, &tp, epoch, start) {
            return Err("not started".into());
        }
        drop(delivery);
        let records = (16_384 / (value_bytes as u64 + 17)).max(1);
        // Each is another one: of the same bytes again and again a processor foresees every branch.
        let batches = (0..data::VARIANTS)
            .map(|variant| data::batch(variant, records, value_bytes, codec))
            .collect::<Result<_>>()?;
        Ok(Self { shared, decoder: BatchDecoder::new(), tp, epoch, offset: 0, batches, records })
    }

    /// The next frame's records as a broker would send them.
    pub fn frame(&self) -> Bytes {
        let mut frame = BytesMut::with_capacity(self.batches.iter().map(Vec::len).sum());
        for (index, batch) in (0..).zip(&self.batches) {
            let start = frame.len();
            frame.extend_from_slice(batch);
            let offset = self.offset + i64::try_from(self.records).unwrap_or(0) * index;
            set_base_offset(&mut frame[start..], offset);
        }
        frame.freeze()
    }

    /// Records in a frame.
    pub fn frame_records(&self) -> u64 {
        self.records * self.batches.len() as u64
    }

    /// Pushes a frame made by [`frame`](Self::frame), and reads all of it.
    ///
    /// # Errors
    /// When the core does not take it or gives something else.
    pub fn pass(&mut self, frame: Bytes, touch: &mut Touch) -> Result<()> {
        let now = Timestamp::ZERO;
        let end = self.offset + i64::try_from(self.frame_records())?;
        let charge = self.shared.charge(frame.len());
        let fetched = Fetched {
            tp: self.tp.clone(),
            epoch: self.epoch,
            fetch_offset: self.offset,
            leader_epoch: None,
            records: frame,
            high_watermark: i64::MAX / 2,
            last_stable_offset: i64::MAX / 2,
            log_start_offset: 0,
            aborted: Vec::new(),
            charge: Some(charge),
        };
        let pushed = self.shared.lock().push(now, fetched);
        if pushed != (Pushed::Accepted { next_fetch_offset: end }) {
            return Err(format!("{pushed:?}").into());
        }
        self.offset = end;
        let filter = Filter { events: false, partition: None, max_records: 10_000 };
        loop {
            match self.shared.take(now, &mut self.decoder, filter, None) {
                Taken::Batch(batch) => {
                    batch.iter().for_each(|record| touch.record(record.key(), record.value()))
                }
                Taken::Event(_) => {}
                Taken::Pending => return Ok(()),
                other => return Err(format!("{other:?}").into()),
            }
        }
    }

    /// What a commit would send now.
    pub fn committable(&self) -> usize {
        self.shared.lock().committable(CommitScope::All).len()
    }
}
