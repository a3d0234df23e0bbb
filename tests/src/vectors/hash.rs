//! The family `hash`: murmur2, CRC-32C, varints and uuids.

use std::path::Path;

use bytes::BytesMut;
use ottla_wire::{Uuid, murmur2, partition_for_key, varint};
use serde_json::Value;

use super::{Report, files, hex, lines, unhex};

/// Runs every vector of the family in `dir`.
pub fn run(dir: &Path) -> Report {
    let mut report = Report::new("hash");
    for file in files(dir, "hash") {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for line in lines(&file) {
            let id = line["id"].as_str().unwrap_or("no id").to_owned();
            let outcome = match name.split('.').next() {
                Some("murmur2") => key(&line),
                Some("crc32c") => checksum(&line),
                Some("varint") if line["decode"].is_string() => read(&line),
                Some("varint") => write(&line),
                Some("uuid") if line["parse"].is_string() => parse(&line),
                Some("uuid") => uuid(&line),
                _ => Err(format!("no reader for {name}")),
            };
            report.count(&id, outcome);
        }
    }
    report
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: {ours:?} instead of {theirs:?}")) }
}

fn text<'l>(line: &'l Value, name: &str) -> Result<&'l str, String> {
    line[name].as_str().ok_or_else(|| format!("no {name}"))
}

fn key(line: &Value) -> Result<(), String> {
    let key = unhex(text(line, "key")?);
    let hash = murmur2(&key);
    equal("murmur2", Some(i64::from(hash)), line["murmur2"].as_i64())?;
    equal("positive", Some(i64::from(hash & i32::MAX)), line["positive"].as_i64())?;
    for (partitions, partition) in line["partition"].as_object().ok_or("no partition")? {
        let ours = partition_for_key(&key, partitions.parse().map_err(|_| "no number")?);
        equal("partition", ours.map(i64::from), partition.as_i64())?;
    }
    Ok(())
}

fn checksum(line: &Value) -> Result<(), String> {
    let bytes = unhex(text(line, "hex")?);
    equal("crc32c", Some(u64::from(crc32c::crc32c(&bytes))), line["crc32c"].as_u64())?;
    let number = |name: &str| line[name].as_u64().map(|n| n as usize).ok_or_else(|| format!("no {name}"));
    let (offset, length) = (number("offset")?, number("length")?);
    let part = bytes.get(offset..offset + length).ok_or("part out of range")?;
    equal("crc32cOfPart", Some(u64::from(crc32c::crc32c(part))), line["crc32cOfPart"].as_u64())?;
    // In two steps as over a batch that is read in pieces.
    let (head, tail) = bytes.split_at(offset);
    let steps = crc32c::crc32c_append(crc32c::crc32c(head), tail);
    equal("crc32c in steps", Some(u64::from(steps)), line["crc32c"].as_u64())
}

fn write(line: &Value) -> Result<(), String> {
    let value = line["value"].as_i64().ok_or("no value")?;
    let written = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        hex(&out)
    };
    let long = written(&|out| varint::write_zigzag_long(value, out));
    equal("varlong", long.as_str(), text(line, "varlong")?)?;
    equal("varlongSize", Some(long.len() as u64 / 2), line["varlongSize"].as_u64())?;
    equal("read varlong", varint::read_zigzag_long(&unhex(&long)), Some((value, &[][..])))?;
    let unsigned = written(&|out| varint::write_unsigned_long(value as u64, out));
    equal("unsignedVarlong", unsigned.as_str(), text(line, "unsignedVarlong")?)?;
    equal(
        "read unsignedVarlong",
        varint::read_unsigned_long(&unhex(&unsigned)),
        Some((value as u64, &[][..])),
    )?;
    let Ok(value) = i32::try_from(value) else {
        return equal("varint", line["varint"].as_str(), None);
    };
    let short = written(&|out| varint::write_zigzag(value, out));
    equal("varint", short.as_str(), text(line, "varint")?)?;
    equal("read varint", varint::read_zigzag(&unhex(&short)), Some((value, &[][..])))?;
    let unsigned = written(&|out| varint::write_unsigned(value as u32, out));
    equal("unsignedVarint", unsigned.as_str(), text(line, "unsignedVarint")?)?;
    equal("read unsignedVarint", varint::read_unsigned(&unhex(&unsigned)), Some((value as u32, &[][..])))
}

/// Java's readers from a stream differ only where bytes are missing, which is an error for us either way. Java
/// drops bits beyond 32 or 64 in silence: such a form is no number, and we refuse it.
fn read(line: &Value) -> Result<(), String> {
    let bytes = unhex(text(line, "decode")?);
    let used = |rest: &[u8]| (bytes.len() - rest.len()) as u64;
    let unsigned = varint::read_unsigned(&bytes).map(|(v, rest)| (i64::from(v as i32), used(rest)));
    let short = varint::read_zigzag(&bytes).map(|(v, rest)| (i64::from(v), used(rest)));
    let long = varint::read_zigzag_long(&bytes).map(|(v, rest)| (v, used(rest)));
    for (name, ours, longest, last) in
        [("unsignedVarint", unsigned, 5, 0x0f), ("varint", short, 5, 0x0f), ("varlong", long, 10, 0x01)]
    {
        let theirs = line[name]["value"].as_i64().zip(line[name]["used"].as_u64());
        if theirs.is_none() && line[name]["error"].is_null() {
            return Err(format!("{name}: neither value nor error"));
        }
        let overflows = theirs.is_some_and(|(_, used)| used == longest && bytes[longest as usize - 1] > last);
        equal(name, ours, theirs.filter(|_| !overflows))?;
    }
    Ok(())
}

fn halves(id: Uuid) -> (Option<i64>, Option<i64>) {
    let value = u128::from_be_bytes(id.0);
    (Some((value >> 64) as i64), Some(value as i64))
}

fn uuid(line: &Value) -> Result<(), String> {
    let bytes = unhex(text(line, "hex")?);
    let id = Uuid(bytes.try_into().map_err(|_| "not 16 bytes")?);
    equal("text", id.to_string().as_str(), text(line, "string")?)?;
    equal("parsed", text(line, "string")?.parse(), Ok(id))?;
    equal("halves", halves(id), (line["mostSignificant"].as_i64(), line["leastSignificant"].as_i64()))?;
    equal("reserved", Some(id.is_reserved()), line["reserved"].as_bool())
}

fn parse(line: &Value) -> Result<(), String> {
    match text(line, "parse")?.parse::<Uuid>() {
        Ok(id) => {
            equal(
                "halves",
                halves(id),
                (line["mostSignificant"].as_i64(), line["leastSignificant"].as_i64()),
            )?;
            equal("text", id.to_string().as_str(), text(line, "string")?)
        }
        Err(_) if !line["error"].is_null() => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
