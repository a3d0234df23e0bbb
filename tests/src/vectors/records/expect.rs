//! `expect`: walking over batches and records with checksums not enforced.

use bytes::Bytes;
use ottla_wire::records::{
    Batch, BatchDecoder, BatchErrorKind, Batches, ControlRecord, RawBatch, RecordRef, TimestampType,
};
use serde_json::Value;

use super::{Leniency, Mismatch, options};
use crate::vectors::hex;
use crate::vectors::sha256::Sha256;

/// Compares all that the walk gives.
pub(super) fn check(input: &Bytes, expect: &Value, leniency: Leniency) -> Result<(), Mismatch> {
    let expected = expect["batches"].as_array().ok_or("no batches")?;
    let java_failed = |n: usize| match expected.get(n) {
        Some(batch) => batch.get("recordsError").is_some() || batch.get("fieldErrors").is_some(),
        None => expect.get("error").is_some(),
    };
    let mut decoder = BatchDecoder::new();
    let mut batches = Batches::new(input.clone());
    let mut position = 0;
    let mut n = 0;
    loop {
        let Some(next) = batches.next() else { break };
        let decoded =
            next.and_then(|raw| raw.clone().decode(&mut decoder, options(false)).map(|batch| (raw, batch)));
        match decoded {
            Ok((raw, batch)) => {
                if !java_failed(n) {
                    let want = expected.get(n).ok_or_else(|| format!("batch {n} is one too many"))?;
                    check_header(&raw, want, position).map_err(|why| format!("batch {n}: {why}"))?;
                    check_batch(&batch, want).map_err(|why| format!("batch {n}: {why}"))?;
                } else if !leniency.fuzz {
                    return Err(format!("batch {n} was accepted, java refuses it").into());
                }
                position += raw.header.size;
                n += 1;
            }
            Err(_) if java_failed(n) || leniency.may_reject || leniency.fuzz => return Ok(()),
            Err(error) => {
                let checksum_is_wrong = expected.get(n).is_some_and(|batch| batch["crcOk"] == false);
                if checksum_is_wrong && error.kind() == BatchErrorKind::Corrupt {
                    return Err(Mismatch::RefusedDamaged);
                }
                return Err(format!("batch {n} was refused: {error}").into());
            }
        }
    }
    if leniency.fuzz {
        return Ok(());
    }
    if n != expected.len() || expect.get("error").is_some() {
        return Err(format!("{n} batches without an error, expected {} batches", expected.len()).into());
    }
    same("parsedBytes", position as u64, &expect["parsedBytes"])?;
    Ok(same("trailingBytes", batches.trailing() as u64, &expect["trailingBytes"])?)
}

/// Compares the records alone: an alternative reading has headers of its own.
pub(super) fn check_records(input: &Bytes, expect: &Value) -> Result<(), String> {
    let expected = expect["batches"].as_array().ok_or("no batches")?;
    let mut decoder = BatchDecoder::new();
    let decoded: Result<Vec<Batch>, _> = Batches::new(input.clone())
        .map(|raw| raw.and_then(|raw| raw.decode(&mut decoder, options(false))))
        .collect();
    let decoded = decoded.map_err(|error| error.to_string())?;
    same("batches", decoded.len(), &Value::from(expected.len()))?;
    decoded.iter().zip(expected).try_for_each(|(batch, want)| check_batch(batch, want))
}

fn same(what: &str, ours: impl Into<Value>, want: &Value) -> Result<(), String> {
    let ours = ours.into();
    if ours == *want { Ok(()) } else { Err(format!("{what} is {ours}, expected {want}")) }
}

fn check_header(raw: &RawBatch, want: &Value, position: usize) -> Result<(), String> {
    let header = &raw.header;
    same("position", position as u64, &want["position"])?;
    same("size", header.size as u64, &want["size"])?;
    same("magic", header.magic, &want["magic"])?;
    same("lastOffset", header.last_offset, &want["lastOffset"])?;
    same("nextOffset", header.next_offset(), &want["nextOffset"])?;
    let timestamp_type = match header.timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
        TimestampType::NoTimestampType => "NoTimestampType",
    };
    same("timestampType", timestamp_type, &want["timestampType"])?;
    same("maxTimestamp", header.max_timestamp, &want["maxTimestamp"])?;
    same("compression", header.compression.name(), &want["compression"])?;
    same("crc", header.crc, &want["crc"])?;
    same("crcOk", raw.verify_crc().is_ok(), &want["crcOk"])?;
    if header.magic < 2 {
        return Ok(());
    }
    same("attributes", header.attributes, &want["attributes"])?;
    same("baseOffset", header.base_offset, &want["baseOffset"])?;
    same("baseTimestamp", header.base_timestamp, &want["baseTimestamp"])?;
    same("count", header.record_count, &want["count"])?;
    same("leaderEpoch", header.partition_leader_epoch, &want["leaderEpoch"])?;
    same("producerId", header.producer_id, &want["producerId"])?;
    same("producerEpoch", header.producer_epoch, &want["producerEpoch"])?;
    same("baseSequence", header.base_sequence, &want["baseSequence"])?;
    same("lastSequence", header.last_sequence(), &want["lastSequence"])?;
    same("transactional", header.is_transactional, &want["transactional"])?;
    same("control", header.is_control, &want["control"])?;
    same("deleteHorizonMs", header.delete_horizon_ms(), &want["deleteHorizonMs"])
}

fn check_batch(batch: &Batch, want: &Value) -> Result<(), String> {
    same("recordCount", batch.record_count() as u64, &want["recordCount"])?;
    same("records that came out", batch.iter().count() as u64, &want["recordCount"])?;
    if let Some(digest) = want.get("recordsSha256") {
        same("recordsSha256", records_digest(batch), digest)?;
    }
    let listed = |name: &str| want[name].as_array().cloned().unwrap_or_default();
    let first: Vec<Value> =
        if want.get("records").is_some() { listed("records") } else { listed("firstRecords") };
    for (record, want) in batch.iter().zip(&first) {
        check_record(&record, want)?;
    }
    let last = listed("lastRecords");
    for (record, want) in batch.iter().skip(batch.record_count() - last.len()).zip(&last) {
        check_record(&record, want)?;
    }
    check_control(batch, want)
}

fn check_record(record: &RecordRef<'_>, want: &Value) -> Result<(), String> {
    same("offset", record.offset(), &want["offset"])?;
    let at = |why: String| format!("offset {}: {why}", record.offset());
    same("timestamp", record.timestamp(), &want["timestamp"]).map_err(at)?;
    same_bytes("key", record.key(), &want["key"]).map_err(at)?;
    same_bytes("value", record.value(), &want["value"]).map_err(at)?;
    same("sequence", record.sequence(), want.get("sequence").unwrap_or(&Value::Null)).map_err(at)?;
    let headers = want["headers"].as_array().cloned().unwrap_or_default();
    same("number of headers", record.headers().len(), &Value::from(headers.len())).map_err(at)?;
    for ((key, value), want) in record.headers().zip(&headers) {
        // Java reads keys as text, with U+FFFD for what is none.
        same("header key", String::from_utf8_lossy(key.as_bytes()).into_owned(), &want[0]).map_err(at)?;
        same_bytes("header value", value, &want[1]).map_err(at)?;
    }
    Ok(())
}

fn same_bytes(what: &str, ours: Option<&[u8]>, want: &Value) -> Result<(), String> {
    match (ours, want) {
        (None, Value::Null) => Ok(()),
        (Some(bytes), Value::String(text)) if hex(bytes) == *text => Ok(()),
        (Some(bytes), Value::Object(digest))
            if digest["len"] == bytes.len() && digest["sha256"] == Sha256::of(bytes).as_str() =>
        {
            Ok(())
        }
        _ => Err(format!("{what} is {:?}, expected {want}", ours.map(hex))),
    }
}

/// What `recordsSha256` is taken over.
fn records_digest(batch: &Batch) -> String {
    fn put(digest: &mut Sha256, bytes: Option<&[u8]>) {
        let length = bytes.map_or(-1, |bytes| bytes.len() as i32);
        digest.update(&length.to_be_bytes());
        digest.update(bytes.unwrap_or_default());
    }
    let mut digest = Sha256::new();
    for record in batch {
        digest.update(&record.offset().to_be_bytes());
        digest.update(&record.timestamp().to_be_bytes());
        put(&mut digest, record.key());
        put(&mut digest, record.value());
        digest.update(&(record.headers().len() as i32).to_be_bytes());
        for (key, value) in record.headers() {
            put(&mut digest, Some(String::from_utf8_lossy(key.as_bytes()).as_bytes()));
            put(&mut digest, value);
        }
    }
    digest.hex()
}

fn check_control(batch: &Batch, want: &Value) -> Result<(), String> {
    let Some(want) = want["controlRecords"].as_array() else { return Ok(()) };
    same("control records", batch.control_records().count(), &Value::from(want.len()))?;
    for ((parsed, record), want) in batch.control_records().zip(batch.iter()).zip(want) {
        let Some(type_id) = want.get("typeId") else {
            if parsed.is_ok() {
                return Err("the key of a control record was accepted, java refuses it".to_owned());
            }
            continue;
        };
        let parsed = parsed.map_err(|error| error.to_string())?;
        same("typeId", parsed.type_id(), type_id)?;
        if matches!(parsed, ControlRecord::Abort | ControlRecord::Commit) {
            let epoch = ControlRecord::coordinator_epoch(record.value());
            match want.get("coordinatorEpoch") {
                Some(epoch_wanted) => same("coordinatorEpoch", epoch.ok(), epoch_wanted)?,
                None if epoch.is_ok() => return Err("a marker was accepted, java refuses it".to_owned()),
                None => {}
            }
        }
    }
    Ok(())
}
