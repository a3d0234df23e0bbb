//! The family `messages`: every message in every version, both ways, against what Kafka's Java classes make of it.

use std::path::Path;

use bytes::BytesMut;
use ottla_wire::{ApiKey, DecodeError, DecodeErrorKind, frame, varint};
use serde_json::Value;

use super::{Report, files, hex, lines, unhex};
use crate::generated::frame_from_json;
use crate::register::Message;

/// Runs every vector of the family in `dir`.
pub fn run(dir: &Path) -> Report {
    let mut report = Report::new("messages");
    for file in files(dir, "messages") {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for line in lines(&file) {
            let id = line["id"].as_str().unwrap_or("no id").to_owned();
            let outcome = Vector::new(&line).and_then(|vector| match name.split('.').next() {
                Some("malformed") => vector.malformed(),
                Some("frames" | "next-frames") => vector.frame(),
                _ => vector.both_ways(),
            });
            report.count(&id, outcome);
        }
    }
    report
}

/// The structs that stand behind a tag of their own, and the bytes that their fields take.
const TAGGED_STRUCTS: [(&str, usize); 4] =
    [("divergingEpoch", 12), ("currentLeader", 8), ("snapshotId", 12), ("replicaState", 12)];

struct Vector<'l> {
    line: &'l Value,
    /// What the body says, with the field names of the schema.
    json: Value,
    /// Name of the message: API and direction, or that of the structure.
    message: String,
    api: &'l str,
    version: i16,
    bytes: Vec<u8>,
}

impl<'l> Vector<'l> {
    fn new(line: &'l Value) -> Result<Self, String> {
        let api = line["api"].as_str().ok_or("no api")?;
        let message = match line["type"].as_str() {
            Some("request") => format!("{api}Request"),
            Some("response") => format!("{api}Response"),
            _ => api.to_owned(),
        };
        let version = line["version"].as_i64().and_then(|v| i16::try_from(v).ok()).ok_or("no version")?;
        let bytes = unhex(line["hex"].as_str().ok_or("no hex")?);
        let mut json = line["json"].clone();
        // Renamed in Kafka 4.4.0.
        if message == "TxnOffsetCommitRequest"
            && let Some(fields) = json.as_object_mut()
            && let Some(value) = fields.remove("generationId")
        {
            fields.insert("generationIdOrMemberEpoch".to_owned(), value);
        }
        Ok(Self { line, json, message, api, version, bytes })
    }

    fn flag(&self, name: &str) -> bool {
        self.line[name] == Value::Bool(true)
    }

    fn message(&self) -> Result<&'static Message, String> {
        Message::named(&self.message).ok_or_else(|| format!("no message {}", self.message))
    }

    fn try_decode(&self, body: &[u8]) -> Result<Result<(Value, usize), DecodeError>, String> {
        let message = self.message()?;
        Ok((message.to_json)(self.version, body))
    }

    fn decode(&self, body: &[u8]) -> Result<(Value, usize), String> {
        self.try_decode(body)?.map_err(|e| e.to_string())
    }

    fn encode(&self, json: &Value) -> Result<Vec<u8>, String> {
        (self.message()?.encode)(self.version, json)
    }

    /// Decoding gives the JSON, encoding that gives the bytes.
    fn both_ways(&self) -> Result<(), String> {
        self.body_both_ways(&self.bytes)
    }

    fn body_both_ways(&self, body: &[u8]) -> Result<(), String> {
        let (json, left) = self.decode(body)?;
        if left != 0 {
            return Err(format!("{left} bytes left"));
        }
        let encoded = self.encode(&self.json)?;
        let with_unknown_tags = self.line.get("unknownTags").is_some();
        if !with_unknown_tags && !self.flag("decodeOnly") {
            same("decoded", &json, &self.json)?;
            return if encoded == body { Ok(()) } else { Err(format!("encoded {}", hex(&encoded))) };
        }
        // We would not write these tags. Without them, what we write must say the same and be that much shorter.
        // A tagged struct that has nothing but unknown tags is a default for us and none for Java, so its JSON
        // shows it: then we leave out the struct too, which takes its tag, its length and what is in it.
        let (again, left) = self.decode(&encoded)?;
        same("decoded again", &again, &json)?;
        let left_out = self.left_out(&json)?;
        if left_out == 0 {
            same("decoded", &json, &self.json)?;
        }
        let shorter = body.len() - encoded.len();
        let removed = extra(&self.line["unknownTags"]);
        let right = if left_out == 0 && self.flag("decodeOnly") {
            // Nor would we write defaults with a tag of their own.
            shorter > removed
        } else {
            shorter == removed + left_out
        };
        if left == 0 && right {
            Ok(())
        } else {
            Err(format!("encoded without the extra tags: {}", hex(&encoded)))
        }
    }

    /// How many bytes the tagged structs take that are left out because they are empty but for unknown tags: without
    /// these tags. Anything else that is missing or different is an error.
    fn left_out(&self, json: &Value) -> Result<usize, String> {
        let mut found = Vec::new();
        missing(json, &self.json, "", &mut found)?;
        let tags: Vec<&Value> = self.line["unknownTags"].as_array().into_iter().flatten().collect();
        let mut bytes = 0;
        for path in &found {
            let (_, name) = path.rsplit_once('.').unwrap_or(("", path));
            let fields = TAGGED_STRUCTS.iter().find(|(tagged, _)| *tagged == name).map(|(_, size)| *size);
            let inside: Vec<_> = tags.iter().filter(|tag| tag["path"] == path.as_str()).copied().collect();
            let Some(fields) = fields.filter(|_| !inside.is_empty()) else {
                return Err(format!("{path} is missing: {json}"));
            };
            // The fields, and how many tags follow.
            let content = fields + 1;
            let mut head = BytesMut::new();
            varint::write_unsigned_long(
                (content + inside.iter().map(|tag| extra(tag)).sum::<usize>()) as u64,
                &mut head,
            );
            bytes += 1 + head.len() + content;
        }
        // That what is in them is the default: we write none of it.
        if !found.is_empty() && self.encode(&self.json)? != self.encode(json)? {
            return Err(format!("{found:?} are missing and not empty: {json}"));
        }
        Ok(bytes)
    }

    /// A whole frame: size, header and body, read and written by [`frame`].
    fn frame(&self) -> Result<(), String> {
        let api = ApiKey::ALL.iter().find(|api| api.name() == self.api).ok_or("no such api")?;
        let header_version = self.line["headerVersion"].as_i64();
        let correlation = self.line["correlationId"].as_i64();
        let client = self.line["clientId"].as_str();
        let (size, payload) = self.bytes.split_first_chunk::<4>().ok_or("too short")?;
        let size = frame::frame_length(*size, 100 << 20).map_err(|e| e.to_string())?;
        if size != payload.len() {
            return Err(format!("frame length {size} for {} bytes", payload.len()));
        }
        let unknown_tags = self.line.get("headerUnknownTags").is_some();
        if self.line["type"] == "response" {
            if header_version != Some(api.response_header_version(self.version).into()) {
                return Err("response header version".to_owned());
            }
            let (correlation_id, body) =
                frame::decode_response_header(*api, self.version, payload).map_err(|e| e.to_string())?;
            if correlation != Some(correlation_id.into()) {
                return Err(format!("correlation id {correlation_id}"));
            }
            return self.body_both_ways(payload.get(body..).unwrap_or_default());
        }
        if header_version != Some(api.request_header_version(self.version).into()) {
            return Err("request header version".to_owned());
        }
        let (header, body) = frame::decode_request_header(payload).map_err(|e| e.to_string())?;
        if (header.api_key, header.api_version) != (api.code(), self.version)
            || correlation != Some(header.correlation_id.into())
            || client != header.client_id
        {
            return Err(format!("header {header:?}"));
        }
        self.body_both_ways(payload.get(body..).unwrap_or_default())?;
        let written = frame_from_json(&self.message, self.version, header.correlation_id, client, &self.json)
            .ok_or_else(|| format!("no request {}", self.message))??;
        // In the header the tags stand before the body, so only the length can be compared.
        let expected =
            self.bytes.len() - extra(&self.line["headerUnknownTags"]) - extra(&self.line["unknownTags"]);
        let same = if unknown_tags { written.len() == expected } else { written == self.bytes };
        if same { Ok(()) } else { Err(format!("written {}", hex(&written))) }
    }

    /// Damaged bytes: where both sides accept, they must agree; where Java refuses, so must we.
    fn malformed(&self) -> Result<(), String> {
        let decoded = self.try_decode(&self.bytes)?;
        let json = &self.json;
        match decoded {
            Ok(_) if !self.line["error"].is_null() => Err("accepted what Java refuses".to_owned()),
            Ok((_, left)) if json.is_null() => {
                if self.flag("notRendered") && self.line["remaining"].as_u64() == Some(left as u64) {
                    Ok(())
                } else {
                    Err(format!("{left} bytes left"))
                }
            }
            Ok((ours, left)) => {
                if self.line["remaining"].as_u64() != Some(left as u64) {
                    return Err(format!("{left} bytes left"));
                }
                same("decoded", &ours, json)
            }
            Err(_) if !self.line["error"].is_null() => Ok(()),
            // Java puts U+FFFD where a string is not UTF-8, and takes a count of 2^31 or more for null.
            Err(e) if self.flag("replacementChar") && e.kind == DecodeErrorKind::Utf8 => Ok(()),
            Err(_) if self.flag("mayReject") => Ok(()),
            // Java reads a tagged field that it knows without looking at its size; we hold it to its size.
            Err(e)
                if e.field.ends_with("tagged fields")
                    && matches!(e.kind, DecodeErrorKind::Truncated { .. }) =>
            {
                Ok(())
            }
            Err(e) => Err(format!("refused: {e}")),
        }
    }
}

fn same(what: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what} {ours}")) }
}

/// Bytes that one unknown tagged field, or those of a list, take.
fn extra(tags: &Value) -> usize {
    let size = |tag: &Value| {
        let number = tag["tag"].as_u64().unwrap_or(0);
        let length = tag["hex"].as_str().map_or(0, str::len) / 2;
        let mut head = BytesMut::new();
        varint::write_unsigned_long(number, &mut head);
        varint::write_unsigned_long(length as u64, &mut head);
        head.len() + length
    };
    tags.as_array()
        .map_or_else(|| if tags.is_object() { size(tags) } else { 0 }, |tags| tags.iter().map(size).sum())
}

/// The paths of what `theirs` has and `ours` has not; an error if they differ in anything else.
fn missing(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) -> Result<(), String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            if let Some(name) = ours.keys().find(|name| !theirs.contains_key(*name)) {
                return Err(format!("decoded {path}.{name}, which is not there"));
            }
            for (name, theirs) in theirs {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match ours.get(name) {
                    Some(ours) => missing(ours, theirs, &path, found)?,
                    None => found.push(path),
                }
            }
            Ok(())
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            let mut pairs = ours.iter().zip(theirs).enumerate();
            pairs.try_for_each(|(i, (ours, theirs))| missing(ours, theirs, &format!("{path}[{i}]"), found))
        }
        (ours, theirs) if ours == theirs => Ok(()),
        (ours, theirs) => Err(format!("decoded {ours} at {path} instead of {theirs}")),
    }
}
