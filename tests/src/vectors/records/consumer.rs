//! `consumer`: what a consumer gives its user from one fetched partition, checksums enforced.

use bytes::Bytes;
use ottla_wire::records::{
    AbortedTransactions, Batch, BatchDecoder, BatchError, Batches, DecodeOptions, RecordCursor,
};
use serde_json::Value;

use super::{Leniency, options};

/// A consumer of one partition, as small as it can be.
struct Reader {
    batches: Batches,
    decoder: BatchDecoder,
    options: DecodeOptions,
    /// `None` at read_uncommitted.
    aborted: Option<AbortedTransactions>,
    current: Option<(Batch, RecordCursor)>,
    position: i64,
    error: Option<BatchError>,
    consumed: bool,
}

impl Reader {
    /// The offsets of at most `max` records, or the error that stands before the next one.
    fn poll(&mut self, max: usize) -> Result<Vec<i64>, BatchError> {
        let mut offsets = Vec::new();
        while offsets.len() < max && self.error.is_none() {
            match self.next_record() {
                Ok(Some(offset)) => {
                    self.position = offset + 1;
                    offsets.push(offset);
                }
                Ok(None) => break,
                Err(error) => self.error = Some(error),
            }
        }
        match self.error {
            Some(error) if offsets.is_empty() => Err(error),
            _ => Ok(offsets),
        }
    }

    fn next_record(&mut self) -> Result<Option<i64>, BatchError> {
        loop {
            if let Some((batch, cursor)) = &mut self.current {
                let mut records = batch.iter_from(*cursor);
                let record =
                    records.find(|record| record.offset() >= self.position).map(|record| record.offset());
                *cursor = records.cursor();
                if let Some(offset) = record {
                    return Ok(Some(offset));
                }
                // Offsets that compaction has removed are done with the batch.
                self.position = self.position.max(batch.header().next_offset());
                self.current = None;
            }
            let Some(raw) = self.batches.next() else {
                self.consumed = true;
                return Ok(None);
            };
            let raw = raw?;
            let header = raw.header;
            if !header.is_control
                && self.aborted.as_mut().is_some_and(|aborted| aborted.is_aborted(&header, None))
            {
                raw.verify_crc()?;
                self.position = self.position.max(header.next_offset());
                continue;
            }
            let batch = raw.decode(&mut self.decoder, self.options)?;
            if header.is_control {
                if let Some(aborted) = &mut self.aborted {
                    aborted.is_batch_aborted(&batch);
                }
                self.position = self.position.max(header.next_offset());
                continue;
            }
            self.current = Some((batch, RecordCursor::default()));
        }
    }
}

/// Compares one fetch of a line.
pub(super) fn check(input: &Bytes, fetch: &Value, leniency: Leniency) -> Result<(), String> {
    let from = fetch["fromByte"].as_u64().unwrap_or(0) as usize;
    let aborted = (fetch["isolation"] == "read_committed").then(|| {
        let list = fetch["abortedTransactions"].as_array().cloned().unwrap_or_default();
        AbortedTransactions::new(list.iter().map(|entry| {
            let field = |name: &str| entry[name].as_i64().expect("a number");
            (field("producerId"), field("firstOffset"))
        }))
    });
    let mut reader = Reader {
        batches: Batches::new(input.slice(from..)),
        decoder: BatchDecoder::new(),
        options: options(fetch["checkCrcs"].as_bool().unwrap_or(true)),
        aborted,
        current: None,
        position: fetch["fetchOffset"].as_i64().ok_or("no fetchOffset")?,
        error: None,
        consumed: false,
    };
    let max = fetch["maxRecords"].as_u64().ok_or("no maxRecords")? as usize;
    let calls = fetch["calls"].as_array().ok_or("no calls")?;
    let java_failed = calls.iter().any(|call| call.get("error").is_some());

    if java_failed || leniency.fuzz {
        return check_failing(&mut reader, max, calls, java_failed, leniency);
    }
    for (n, call) in calls.iter().enumerate() {
        let before = reader.position;
        let offsets = match reader.poll(max) {
            Ok(offsets) => offsets,
            Err(_) if leniency.may_reject => return Ok(()),
            Err(error) => return Err(format!("call {n}: {error}")),
        };
        if reader.error.is_some() && leniency.may_reject {
            return Ok(());
        }
        if call["records"] != offsets.len() {
            return Err(format!("call {n}: {} records, expected {}", offsets.len(), call["records"]));
        }
        let listed = call.get("offsets").filter(|want| want.is_array());
        if let Some(want) = listed.filter(|want| **want != Value::from(offsets.clone())) {
            return Err(format!("call {n}: offsets {offsets:?}, expected {want}"));
        }
        if call["nextFetchOffset"] != reader.position {
            return Err(format!(
                "call {n}: from {before} on to {}, expected {}",
                reader.position, call["nextFetchOffset"]
            ));
        }
    }
    if fetch["consumed"] == reader.consumed {
        Ok(())
    } else {
        Err(format!("consumed is {}, expected {}", reader.consumed, fetch["consumed"]))
    }
}

/// Java stops with an error: so do we, no later, and what we hand out before is what Java hands out.
fn check_failing(
    reader: &mut Reader,
    max: usize,
    calls: &[Value],
    java_failed: bool,
    leniency: Leniency,
) -> Result<(), String> {
    let java: Vec<i64> = calls
        .iter()
        .flat_map(|call| call["offsets"].as_array().cloned().unwrap_or_default())
        .filter_map(|offset| offset.as_i64())
        .collect();
    let counted: u64 = calls.iter().filter_map(|call| call["records"].as_u64()).sum();
    let mut ours = Vec::new();
    let failed = loop {
        match reader.poll(max) {
            Ok(offsets) => ours.extend(offsets),
            Err(_) => break true,
        }
        if reader.consumed {
            break false;
        }
    };
    if java.len() as u64 == counted && failed && java_failed && !java.starts_with(&ours) {
        return Err(format!("handed out {ours:?} before the error, java {java:?}"));
    }
    if failed || leniency.fuzz || !java_failed {
        return Ok(());
    }
    Err(format!("read to the end ({ours:?}), java stops with an error"))
}
