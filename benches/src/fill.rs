//! Fills topics with prepared batches, as fast as the brokers take them.

use std::collections::BTreeMap;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ottla_kafka::wire;
use ottla_wire::records::{BatchWriter, Compression};

use crate::{Result, data, latency};

const PRODUCE: i16 = 0;
/// The first version in which a broker takes zstd.
const VERSION: i16 = 7;
/// Requests under way at a time.
const WINDOW: usize = 8;
/// About this much in one request.
const REQUEST_BYTES: usize = 1 << 20;

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// Partitions, filled evenly.
    pub partitions: u32,
    /// Records in all.
    pub records: u64,
    /// Records in a batch.
    pub batch_records: u64,
    /// Bytes in a value.
    pub value_bytes: usize,
    /// The codec.
    pub codec: Compression,
}

impl Filling {
    /// How many batches each partition gets.
    fn batches(&self) -> u64 {
        (self.records / u64::from(self.partitions) / self.batch_records).max(1)
    }

    /// How many records there will really be.
    pub fn total(&self) -> u64 {
        self.batches() * self.batch_records * u64::from(self.partitions)
    }

    /// Writes them and returns the bytes of all batches.
    ///
    /// # Errors
    /// When a broker refuses.
    pub fn fill(&self, bootstrap: SocketAddr, topic: &str) -> Result<u64> {
        let batches = (0..data::VARIANTS)
            .map(|variant| data::batch(variant, self.batch_records, self.value_bytes, self.codec))
            .collect::<Result<Vec<_>>>()?;
        let metadata = wire::metadata(bootstrap, &[topic])?;
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (_, partition, leader) in metadata.leaders.iter().filter(|(name, ..)| name == topic) {
            leaders.entry(*leader).or_default().push(*partition);
        }
        let mut bytes = 0;
        for (leader, partitions) in leaders {
            let (_, address) = metadata
                .brokers
                .iter()
                .find(|(id, _)| *id == leader)
                .ok_or("a partition without a leader")?;
            bytes += self.fill_leader(address.parse()?, topic, &partitions, &batches)?;
        }
        Ok(bytes)
    }

    fn fill_leader(
        &self,
        address: SocketAddr,
        topic: &str,
        partitions: &[i32],
        batches: &[Vec<u8>],
    ) -> Result<u64> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut output = BufWriter::with_capacity(1 << 20, stream.try_clone()?);
        let mut input = stream;
        let at_a_time = (REQUEST_BYTES / batches[0].len()).clamp(1, partitions.len());
        let mut bytes = 0;
        let mut under_way = 0;
        for round in 0..self.batches() {
            for (chunk, group) in partitions.chunks(at_a_time).enumerate() {
                let variant = |place: usize| {
                    let number = round * 7 + (chunk * at_a_time + place) as u64;
                    &batches[usize::try_from(number % data::VARIANTS).unwrap_or(0)]
                };
                let batches: Vec<(i32, &[u8])> = group
                    .iter()
                    .enumerate()
                    .map(|(place, partition)| (*partition, &variant(place)[..]))
                    .collect();
                request(&mut output, topic, &batches)?;
                bytes += batches.iter().map(|(_, batch)| batch.len() as u64).sum::<u64>();
                under_way += 1;
                if under_way == WINDOW {
                    output.flush()?;
                    while under_way > WINDOW / 2 {
                        answer(&mut input)?;
                        under_way -= 1;
                    }
                }
            }
        }
        output.flush()?;
        (0..under_way).try_for_each(|_| answer(&mut input))?;
        Ok(bytes)
    }
}

/// Writes records one by one at an even pace, each value beginning with the time, into partition 0.
///
/// # Errors
/// When a broker refuses.
pub fn pace(bootstrap: SocketAddr, topic: &str, records: u64, per_second: u64) -> Result<()> {
    let metadata = wire::metadata(bootstrap, &[topic])?;
    let leader = metadata.leaders.iter().find(|(name, partition, _)| name == topic && *partition == 0);
    let address = metadata.brokers.iter().find(|(id, _)| Some(*id) == leader.map(|(_, _, leader)| *leader));
    let mut output = TcpStream::connect(&address.ok_or("no leader")?.1)?;
    output.set_nodelay(true)?;
    let mut input = output.try_clone()?;
    // Nobody waits for an answer before the next record.
    let answers = std::thread::spawn(move || {
        (0..records).try_for_each(|_| answer(&mut input)).map_err(|error| error.to_string())
    });
    let start = Instant::now();
    let mut value = [b'x'; 100];
    let mut bytes = Vec::new();
    for index in 0..records {
        let due = start + Duration::from_nanos(index * 1_000_000_000 / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        value[..8].copy_from_slice(&latency::now().to_be_bytes());
        let mut batch = BatchWriter::new();
        batch.append(0, None, Some(&value), &[])?;
        bytes.clear();
        request(&mut bytes, topic, &[(0, &batch.finish())])?;
        output.write_all(&bytes)?;
    }
    answers.join().map_err(|_| "the reader of answers panicked")??;
    Ok(())
}

fn request(output: &mut impl Write, topic: &str, batches: &[(i32, &[u8])]) -> Result<()> {
    let body: usize = batches.iter().map(|(_, batch)| batch.len() + 8).sum();
    let head = 2 + 2 + 4 + 2 + 5 + 2 + 2 + 4 + 4 + 2 + topic.len() + 4;
    put(output, i32::try_from(head + body)?.to_be_bytes())?;
    put(output, PRODUCE.to_be_bytes())?;
    put(output, VERSION.to_be_bytes())?;
    put(output, 0i32.to_be_bytes())?;
    put(output, 5i16.to_be_bytes())?;
    output.write_all(b"bench")?;
    put(output, (-1i16).to_be_bytes())?; // no transaction
    put(output, (-1i16).to_be_bytes())?; // acks from all in sync
    put(output, 30_000i32.to_be_bytes())?;
    put(output, 1i32.to_be_bytes())?;
    put(output, i16::try_from(topic.len())?.to_be_bytes())?;
    output.write_all(topic.as_bytes())?;
    put(output, i32::try_from(batches.len())?.to_be_bytes())?;
    for (partition, batch) in batches {
        put(output, partition.to_be_bytes())?;
        put(output, i32::try_from(batch.len())?.to_be_bytes())?;
        output.write_all(batch)?;
    }
    Ok(())
}

fn put<const N: usize>(output: &mut impl Write, bytes: [u8; N]) -> std::io::Result<()> {
    output.write_all(&bytes)
}

/// Reads an answer; every partition must have taken its batch.
fn answer(input: &mut impl Read) -> Result<()> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::try_from(i32::from_be_bytes(length))?];
    input.read_exact(&mut bytes)?;
    let at = |place: usize, size: usize| bytes.get(place..place + size).ok_or("a short answer");
    let name = i16::from_be_bytes(at(8, 2)?.try_into()?);
    let mut place = 10 + usize::try_from(name)?;
    let partitions = i32::from_be_bytes(at(place, 4)?.try_into()?);
    place += 4;
    for _ in 0..partitions {
        let code = i16::from_be_bytes(at(place + 4, 2)?.try_into()?);
        if code != 0 {
            return Err(format!("the broker refuses a batch with error {code}").into());
        }
        place += 4 + 2 + 8 + 8 + 8;
    }
    Ok(())
}
