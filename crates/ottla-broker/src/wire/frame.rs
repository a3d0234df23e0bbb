//! Request header and body in, answer header and body out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestKind, ResponseKind};

use super::{extra, guard, shapes};
use crate::api::Api;

/// A frame longer than this closes the connection.
pub(crate) const MAX_FRAME: usize = 100 * 1024 * 1024;

/// The part of a request that every version of every API has.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<String>,
}

/// Reads api key, version, correlation id and client id; what is left in `frame` starts with the header's tags.
pub(crate) fn read_header(frame: &mut Bytes) -> Result<Header, &'static str> {
    const SHORT: &str = "the frame is shorter than a request header";
    let key = frame.try_get_i16().map_err(|_| SHORT)?;
    let version = frame.try_get_i16().map_err(|_| SHORT)?;
    let correlation_id = frame.try_get_i32().map_err(|_| SHORT)?;
    // The client id keeps its two-byte length in header version 2 (KIP-482).
    let client_id = match frame.try_get_i16().map_err(|_| SHORT)? {
        -1 => None,
        length => {
            let length = usize::try_from(length).map_err(|_| "the client id has a negative length")?;
            if length > frame.len() {
                return Err(SHORT);
            }
            let bytes = frame.split_to(length);
            Some(std::str::from_utf8(&bytes).map_err(|_| "the client id is not utf-8")?.to_owned())
        }
    };
    Ok(Header { key, version, correlation_id, client_id })
}

/// Decodes what follows [`read_header`], hostile lengths included.
pub(crate) fn read_body(api: Api, version: i16, mut rest: Bytes) -> Result<RequestKind, String> {
    let flexible = api.is_flexible(version);
    if flexible {
        skip_header_tags(&mut rest)?;
    }
    guard::check(shapes::request(api), version, flexible, &rest)?;
    match (api, version) {
        (Api::OffsetCommit, 10) => Ok(RequestKind::OffsetCommit(extra::offset_commit_v10(&mut rest)?)),
        (Api::OffsetFetch, 10) => Ok(RequestKind::OffsetFetch(extra::offset_fetch_v10(&mut rest)?)),
        // ListOffsets 11 only adds a special timestamp: same layout.
        (Api::ListOffsets, 11) => RequestKind::decode(api.kafka(), &mut rest, 10).map_err(|e| e.to_string()),
        _ => RequestKind::decode(api.kafka(), &mut rest, version).map_err(|e| e.to_string()),
    }
}

fn skip_header_tags(rest: &mut Bytes) -> Result<(), &'static str> {
    const BAD: &str = "the header's tagged fields are malformed";
    let count = rest.try_get_u8().map_err(|_| BAD)?;
    for _ in 0..count {
        rest.try_get_u8().map_err(|_| BAD)?;
        let size = usize::from(rest.try_get_u8().map_err(|_| BAD)?);
        if count > 0x7f || size > 0x7f || size > rest.len() {
            return Err(BAD);
        }
        rest.advance(size);
    }
    Ok(())
}

/// Writes a whole answer frame, length prefix included.
pub(crate) fn write_response(
    api: Api,
    version: i16,
    correlation_id: i32,
    response: &ResponseKind,
    size_hint: usize,
) -> Result<Bytes, String> {
    let mut frame = BytesMut::with_capacity(size_hint + 256);
    frame.put_i32(0);
    put_response_header(&mut frame, api, version, correlation_id);
    // ListOffsets 11 has the layout of 10.
    let body_version = if api == Api::ListOffsets { version.min(10) } else { version };
    response.encode(&mut frame, body_version).map_err(|e| format!("cannot encode {api} v{version}: {e}"))?;
    finish(frame)
}

/// Writes an answer frame around a body that somebody else made.
pub(crate) fn write_raw_body(
    api: Api,
    version: i16,
    correlation_id: i32,
    body: &[u8],
) -> Result<Bytes, String> {
    let mut frame = BytesMut::with_capacity(body.len() + 16);
    frame.put_i32(0);
    put_response_header(&mut frame, api, version, correlation_id);
    frame.put_slice(body);
    finish(frame)
}

fn put_response_header(frame: &mut BytesMut, api: Api, version: i16, correlation_id: i32) {
    frame.put_i32(correlation_id);
    // ApiVersions answers keep header version 0 so that any client can read them (KIP-511).
    if api != Api::ApiVersions && api.is_flexible(version) {
        frame.put_u8(0);
    }
}

fn finish(mut frame: BytesMut) -> Result<Bytes, String> {
    let length = i32::try_from(frame.len() - 4).map_err(|_| "the answer is longer than 2 GiB".to_owned())?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// The text between `start` and the next `end`.
    fn between<'a>(line: &'a str, start: &str, end: char) -> Option<&'a str> {
        line.split_once(start)?.1.split(end).next()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// Bodies that Kafka's own classes wrote: nothing that is legal may be refused.
    #[test]
    fn every_golden_request_passes_the_guard_and_decodes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/messages");
        let mut checked = 0;
        for &api in Api::ALL {
            let file = std::fs::File::open(format!("{folder}/{api}.jsonl.gz")).unwrap();
            let mut lines = String::new();
            flate2::read::GzDecoder::new(file).read_to_string(&mut lines).unwrap();
            for line in lines.lines().filter(|line| line.contains("\"type\":\"request\"")) {
                let version: i16 = between(line, "\"version\":", ',').unwrap().parse().unwrap();
                if !api.implemented().contains(&version) {
                    continue;
                }
                let mut body = unhex(between(line, "\"hex\":\"", '"').unwrap());
                if api.is_flexible(version) {
                    body.insert(0, 0);
                }
                let id = between(line, "\"id\":\"", '"').unwrap();
                if let Err(why) = read_body(api, version, body.into()) {
                    panic!("{id}: {why}");
                }
                checked += 1;
            }
        }
        assert!(checked > 1000, "only {checked} requests were checked");
    }
}
