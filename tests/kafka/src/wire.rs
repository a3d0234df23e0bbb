//! A few requests by hand: enough to see that a broker is ready, and to produce bytes that no client would write.
//!
//! On purpose not ottla's own wire: what tests the library must not be the library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Context;
use crate::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(20);
/// No answer asked for here is larger.
const MAX_ANSWER: usize = 64 << 20;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

/// A broker and the leaders it knows of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Node id and address of every broker that is alive.
    pub brokers: Vec<(i32, String)>,
    /// Topic, partition and leader (−1: none) of what was asked for.
    pub leaders: Vec<(String, i32, i32)>,
}

/// Asks for the versions of a broker's APIs; succeeds when the broker answers without an error.
///
/// # Errors
/// When it does not.
pub fn api_versions(address: SocketAddr) -> Result<()> {
    let answer = call(address, API_VERSIONS, 0, &[])?;
    match Reader(&answer).i16()? {
        0 => Ok(()),
        code => Err(Error::new(format!("{address} answers ApiVersions with error {code}"))),
    }
}

/// Metadata of the cluster and of these topics.
///
/// # Errors
/// When the broker does not answer.
pub fn metadata(address: SocketAddr, topics: &[&str]) -> Result<Metadata> {
    let mut body = Vec::new();
    put_length(&mut body, topics.len())?;
    for topic in topics {
        put_string(&mut body, topic)?;
    }
    let answer = call(address, METADATA, 1, &body)?;
    let mut reader = Reader(&answer);
    let mut result = Metadata::default();
    for _ in 0..reader.i32()? {
        let id = reader.i32()?;
        let host = reader.string()?;
        let port = reader.i32()?;
        let _rack = reader.string()?;
        result.brokers.push((id, format!("{host}:{port}")));
    }
    let _controller = reader.i32()?;
    for _ in 0..reader.i32()? {
        let _error = reader.i16()?;
        let topic = reader.string()?;
        let _internal = reader.take(1)?;
        for _ in 0..reader.i32()? {
            let _error = reader.i16()?;
            let partition = reader.i32()?;
            let leader = reader.i32()?;
            for _list in ["replicas", "in sync"] {
                for _ in 0..reader.i32()? {
                    reader.i32()?;
                }
            }
            result.leaders.push((topic.clone(), partition, leader));
        }
    }
    Ok(result)
}

/// Produces `records` (record batches as bytes) to the leader of a partition and returns their base offset.
///
/// This is how records get into Kafka that its own clients cannot write, such as header keys that are not UTF-8.
///
/// # Errors
/// When there is no leader or the broker refuses the batches.
pub fn produce(bootstrap: SocketAddr, topic: &str, partition: i32, records: &[u8]) -> Result<i64> {
    let address = leader(bootstrap, topic, partition)?;
    let mut body = Vec::new();
    body.extend((-1i16).to_be_bytes()); // no transaction
    body.extend((-1i16).to_be_bytes()); // acks from all in sync
    body.extend(15_000i32.to_be_bytes());
    put_length(&mut body, 1)?;
    put_string(&mut body, topic)?;
    put_length(&mut body, 1)?;
    body.extend(partition.to_be_bytes());
    put_length(&mut body, records.len())?;
    body.extend(records);
    // 7 is the first version in which a broker takes zstd; nothing else has changed since 3.
    let answer = call(address, PRODUCE, 7, &body)?;
    let mut reader = Reader(&answer);
    reader.i32()?;
    reader.string()?;
    reader.i32()?;
    reader.i32()?;
    match reader.i16()? {
        0 => reader.i64(),
        code => Err(Error::new(format!(
            "{address} refuses the batches for {topic}-{partition} with error {code}"
        ))),
    }
}

/// What the leader of a partition stores from `offset` on: whole record batches and perhaps the beginning of one more.
///
/// # Errors
/// When there is no leader or the broker answers with an error.
pub fn fetch(
    bootstrap: SocketAddr,
    topic: &str,
    partition: i32,
    offset: i64,
    max_bytes: i32,
) -> Result<Vec<u8>> {
    let address = leader(bootstrap, topic, partition)?;
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes()); // a consumer
    body.extend(0i32.to_be_bytes()); // no waiting
    body.extend(0i32.to_be_bytes());
    body.extend(max_bytes.to_be_bytes());
    body.push(0); // read uncommitted
    put_length(&mut body, 1)?;
    put_string(&mut body, topic)?;
    put_length(&mut body, 1)?;
    body.extend(partition.to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend(max_bytes.to_be_bytes());
    let answer = call(address, FETCH, 4, &body)?;
    let mut reader = Reader(&answer);
    let _throttle = reader.i32()?;
    let _topics = reader.i32()?;
    reader.string()?;
    let _partitions = reader.i32()?;
    reader.i32()?;
    let code = reader.i16()?;
    if code != 0 {
        return Err(Error::new(format!(
            "{address} answers the fetch of {topic}-{partition} with error {code}"
        )));
    }
    let _high_watermark = reader.i64()?;
    let _last_stable = reader.i64()?;
    for _ in 0..reader.i32()? {
        let _producer = reader.i64()?;
        let _first = reader.i64()?;
    }
    let size = reader.i32()?;
    Ok(reader.take(usize::try_from(size).unwrap_or(0))?.to_vec())
}

/// Where the leader of a partition listens.
fn leader(bootstrap: SocketAddr, topic: &str, partition: i32) -> Result<SocketAddr> {
    let known = metadata(bootstrap, &[topic])?;
    let leader =
        known.leaders.iter().find(|(t, p, _)| t == topic && *p == partition).map(|(_, _, leader)| *leader);
    let address = known
        .brokers
        .iter()
        .find(|(id, _)| Some(*id) == leader)
        .ok_or_else(|| Error::new(format!("{topic}-{partition} has no leader")))?;
    address.1.parse().context(|| format!("the broker calls itself {}", address.1))
}

fn call(address: SocketAddr, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let context = || format!("{address} does not answer request {key}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context(context)?;
    stream.set_read_timeout(Some(TIMEOUT)).context(context)?;
    stream.set_write_timeout(Some(TIMEOUT)).context(context)?;
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1i32.to_be_bytes());
    put_string(&mut frame, "ottla-suite")?;
    frame.extend(body);
    let mut bytes = Vec::new();
    put_length(&mut bytes, frame.len())?;
    bytes.extend(frame);
    stream.write_all(&bytes).context(context)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).context(context)?;
    let size = usize::try_from(i32::from_be_bytes(size)).context(context)?;
    if size > MAX_ANSWER {
        return Err(Error::new(format!("{address} answers request {key} with {size} bytes")));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).context(context)?;
    let mut reader = Reader(&answer);
    let _correlation = reader.i32()?;
    Ok(reader.0.to_vec())
}

fn put_length(body: &mut Vec<u8>, length: usize) -> Result<()> {
    body.extend(i32::try_from(length).context(|| "too long".to_owned())?.to_be_bytes());
    Ok(())
}

fn put_string(body: &mut Vec<u8>, text: &str) -> Result<()> {
    body.extend(i16::try_from(text.len()).context(|| "too long".to_owned())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.0.split_at_checked(size).ok_or_else(|| Error::new("the answer is too short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().context(|| "the answer is too short".to_owned())
    }

    fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string; null is empty.
    fn string(&mut self) -> Result<String> {
        let length = self.i16()?;
        let bytes = self.take(usize::try_from(length).unwrap_or(0))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}
