//! What a `read_committed` consumer leaves out.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::control::ControlRecord;
use super::header::BatchHeader;

/// Decides, batch by batch and in the order of offsets, which batches belong to aborted transactions (KIP-98).
///
/// Made anew from the list of each fetch response. Use it only if the request asked for `read_committed`.
#[derive(Debug, Clone, Default)]
pub struct AbortedTransactions {
    /// (first offset, producer id), the lowest offset last.
    pending: Vec<(i64, i64)>,
    /// Producers inside an aborted transaction at the present offset.
    aborting: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// From the pairs of producer id and first offset of a fetch response, which need not be sorted: there
    /// are brokers that do not sort them.
    pub fn new(list: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut pending: Vec<(i64, i64)> =
            list.into_iter().map(|(id, first_offset)| (first_offset, id)).collect();
        pending.sort_unstable_by(|a, b| b.cmp(a));
        Self { pending, aborting: BTreeSet::new() }
    }

    /// Whether the batch with this header is to be left out. To be asked for each batch in turn, the control
    /// batches among them, with what their marker says; for data batches `control` is `None`. Needs no decoding
    /// of data batches, so that aborted ones are never decompressed.
    ///
    /// Control batches are never handed out, whatever the answer.
    pub fn is_aborted(&mut self, header: &BatchHeader, control: Option<ControlRecord>) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        while let Some((_, producer_id)) =
            self.pending.pop_if(|(first_offset, _)| *first_offset <= header.last_offset)
        {
            self.aborting.insert(producer_id);
        }
        if header.is_control && control == Some(ControlRecord::Abort) {
            self.aborting.remove(&header.producer_id);
            return false;
        }
        header.is_transactional && self.aborting.contains(&header.producer_id)
    }

    /// [`is_aborted`](Self::is_aborted) of a decoded batch. A control batch may hold several markers; they are
    /// all of the batch's producer.
    pub fn is_batch_aborted(&mut self, batch: &Batch) -> bool {
        let mut control = None;
        for record in batch.control_records().flatten() {
            if control != Some(ControlRecord::Abort) {
                control = Some(record);
            }
        }
        self.is_aborted(batch.header(), control)
    }
}
