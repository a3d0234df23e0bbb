//! The floor: what reading costs without a client. One blocking socket to each leader (one with one broker), the next
//! fetch under way while an answer is worked through, 1 MiB fetches into one buffer that stays in cache.
//!
//! No client can beat it; `floor-tokio` is the same through tokio and shows what the runtime costs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use ottla_kafka::wire;
use ottla_wire::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_wire::messages::fetch_response::FetchResponse;
use ottla_wire::records::{BatchDecoder, Batches, DecodeOptions};
use ottla_wire::{ApiKey, View, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::walk::{self, Walker};
use crate::{Job, Latencies, Meter, Result, Touch};

/// The last version that knows topics by name and has fixed-size lengths.
const VERSION: i16 = 11;

/// What is asked of one leader.
#[derive(Debug)]
struct Leader {
    address: SocketAddr,
    request: FetchRequest,
    /// Partitions that are not at their end.
    open: usize,
    encoded: BytesMut,
    in_flight: bool,
}

impl Leader {
    fn all(job: &Job) -> Result<Vec<Self>> {
        let (topic, bytes) = (job.topic()?, job.fetch_bytes()?);
        let metadata = wire::metadata(job.address()?, &[topic])?;
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        for (_, partition, leader) in metadata.leaders.iter().filter(|(name, ..)| name == topic) {
            let partition = FetchPartition {
                partition: *partition,
                partition_max_bytes: bytes,
                ..FetchPartition::default()
            };
            by_leader.entry(*leader).or_default().push(partition);
        }
        let leader = |(leader, partitions): (i32, Vec<FetchPartition>)| {
            let address = metadata.brokers.iter().find(|(id, _)| *id == leader).ok_or("no such leader")?;
            let topic = FetchTopic { topic: topic.to_owned(), partitions, ..FetchTopic::default() };
            let request = FetchRequest {
                max_wait_ms: i32::try_from(job.max_wait_ms().unwrap_or(500))?,
                min_bytes: 1,
                max_bytes: bytes,
                topics: vec![topic],
                ..FetchRequest::default()
            };
            Ok(Self {
                address: address.1.parse()?,
                request,
                open: 0,
                encoded: BytesMut::new(),
                in_flight: false,
            })
        };
        by_leader.into_iter().map(leader).collect()
    }

    fn partitions(&mut self) -> &mut Vec<FetchPartition> {
        &mut self.request.topics[0].partitions
    }

    fn rewind(&mut self, offset: i64) {
        self.partitions().iter_mut().for_each(|p| p.fetch_offset = offset);
        self.open = self.partitions().len();
    }

    /// The bytes of the next request, if there is anything left to ask for.
    fn next_request(&mut self) -> Result<Option<&[u8]>> {
        self.in_flight = self.open > 0;
        if !self.in_flight {
            return Ok(None);
        }
        self.encoded.clear();
        frame::encode_request(VERSION, 1, Some("floor"), &self.request, &mut self.encoded)?;
        Ok(Some(&self.encoded))
    }

    /// Moves the offsets behind what is in the answer; the partitions that gave something go to the end of the request.
    fn advance(&mut self, response: &FetchResponse<'_>) -> Result<()> {
        for part in response.responses.iter().flat_map(|topic| topic.partitions.iter()) {
            if part.error_code != 0 {
                return Err(format!("the broker answers with error {}", part.error_code).into());
            }
            let Some(next) = walk::next_offset(part.records.unwrap_or_default())? else { continue };
            let partitions = self.partitions();
            // Answers come in the order of the request, so it is near the front.
            let at = partitions
                .iter()
                .position(|p| p.partition == part.partition_index)
                .ok_or("an unknown partition")?;
            let mut partition = partitions.remove(at);
            partition.fetch_offset = next;
            if next >= part.high_watermark {
                self.open -= 1;
            }
            self.partitions().push(partition);
        }
        Ok(())
    }
}

fn decode(answer: &[u8]) -> Result<FetchResponse<'_>> {
    let (_, body) = frame::decode_response_header(ApiKey::Fetch, VERSION, answer)?;
    Ok(FetchResponse::decode(VERSION, &answer[body..])?)
}

fn walk_answer(response: &FetchResponse<'_>, walker: &mut Walker, touch: &mut Touch) -> Result<()> {
    let partitions = response.responses.iter().flat_map(|topic| topic.partitions.iter());
    partitions.filter_map(|part| part.records).try_for_each(|records| walker.walk(records, touch))
}

/// Makes room for a frame of `length` and returns it.
fn room(buffer: &mut Vec<u8>, length: [u8; 4]) -> Result<&mut [u8]> {
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    Ok(&mut buffer[..length])
}

/// The floor on blocking sockets.
///
/// # Errors
/// When anything is not as it should be.
pub fn blocking(job: &Job, meter: &mut Meter) -> Result<Touch> {
    let mut leaders = Leader::all(job)?;
    let mut streams = Vec::new();
    for leader in &leaders {
        let stream = TcpStream::connect(leader.address)?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (mut buffer, mut walker, mut touch) = (Vec::new(), Walker::default(), Touch::default());
    for pass in 0..=job.passes()? {
        if pass == 1 {
            meter.begin();
            touch = Touch::default();
        }
        for (leader, stream) in leaders.iter_mut().zip(&mut streams) {
            leader.rewind(0);
            if let Some(request) = leader.next_request()? {
                stream.write_all(request)?;
            }
        }
        while leaders.iter().any(|leader| leader.in_flight) {
            for (leader, stream) in
                leaders.iter_mut().zip(&mut streams).filter(|(leader, _)| leader.in_flight)
            {
                let mut length = [0; 4];
                stream.read_exact(&mut length)?;
                let answer = room(&mut buffer, length)?;
                stream.read_exact(answer)?;
                let response = decode(answer)?;
                leader.advance(&response)?;
                if let Some(request) = leader.next_request()? {
                    stream.write_all(request)?;
                }
                walk_answer(&response, &mut walker, &mut touch)?;
                meter.first_record();
            }
        }
    }
    Ok(touch)
}

/// Waits for each record on a blocking socket: what the broker, the kernel and the way between them take by themselves.
///
/// # Errors
/// When anything is not as it should be.
pub fn latency(job: &Job, latencies: &mut Latencies) -> Result<()> {
    let mut leaders = Leader::all(job)?;
    let [leader] = &mut leaders[..] else { return Err("more than one leader".into()) };
    leader.rewind(i64::try_from(job.extra("begin", 0))?);
    let mut stream = TcpStream::connect(leader.address)?;
    stream.set_nodelay(true)?;
    let (mut buffer, mut decoder) = (Vec::new(), BatchDecoder::default());
    while !latencies.is_full() {
        // More will be written behind what is the end now.
        leader.open = 1;
        stream.write_all(leader.next_request()?.ok_or("nothing to ask for")?)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let answer = room(&mut buffer, length)?;
        stream.read_exact(answer)?;
        let response = decode(answer)?;
        leader.advance(&response)?;
        for part in response.responses.iter().flat_map(|topic| topic.partitions.iter()) {
            for batch in Batches::new(Bytes::copy_from_slice(part.records.unwrap_or_default())) {
                let batch = batch?.decode(&mut decoder, DecodeOptions::default())?;
                batch.iter().for_each(|record| latencies.record(record.value()));
            }
        }
    }
    Ok(())
}

/// The same as [`blocking`], through tokio.
///
/// # Errors
/// When anything is not as it should be.
pub async fn tokio(job: &Job, meter: &mut Meter) -> Result<Touch> {
    let mut leaders = Leader::all(job)?;
    let mut streams = Vec::new();
    for leader in &leaders {
        let stream = ::tokio::net::TcpStream::connect(leader.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (mut buffer, mut walker, mut touch) = (Vec::new(), Walker::default(), Touch::default());
    for pass in 0..=job.passes()? {
        if pass == 1 {
            meter.begin();
            touch = Touch::default();
        }
        for (leader, stream) in leaders.iter_mut().zip(&mut streams) {
            leader.rewind(0);
            if let Some(request) = leader.next_request()? {
                stream.write_all(request).await?;
            }
        }
        while leaders.iter().any(|leader| leader.in_flight) {
            for (leader, stream) in
                leaders.iter_mut().zip(&mut streams).filter(|(leader, _)| leader.in_flight)
            {
                let mut length = [0; 4];
                stream.read_exact(&mut length).await?;
                let answer = room(&mut buffer, length)?;
                stream.read_exact(answer).await?;
                let response = decode(answer)?;
                leader.advance(&response)?;
                if let Some(request) = leader.next_request()? {
                    stream.write_all(request).await?;
                }
                walk_answer(&response, &mut walker, &mut touch)?;
                meter.first_record();
            }
        }
    }
    Ok(touch)
}
