//! Message sets of magic 0 and 1: a naive reader, and sets whose content is known.

use bytes::Bytes;
use std::io::Write as _;

use super::batches::Plain;
use super::input::Input;

/// The one message that `entry` holds, uncompressed; `None` when it is damaged.
pub(super) fn naive(entry: &[u8]) -> Option<Vec<Plain>> {
    let mut input = Input(entry);
    let offset = input.i64();
    input.take(8);
    let magic = input.byte();
    input.byte();
    if magic == 1 && input.0.len() < 8 {
        return None;
    }
    let timestamp = if magic == 1 { input.i64() } else { -1 };
    let mut field = || {
        if input.0.len() < 4 {
            return None;
        }
        let Ok(length) = usize::try_from(input.i32()) else { return Some(None) };
        (length <= input.0.len()).then(|| Some(input.take(length).to_vec()))
    };
    let (key, value) = (field()?, field()?);
    let message = Plain { offset, timestamp, key, value, headers: Vec::new() };
    input.is_empty().then(|| vec![message])
}

/// How the messages of a set are compressed together.
#[derive(Clone, Copy, Debug)]
enum Wrapper {
    None,
    Gzip,
    Snappy,
}

/// Messages that are written as Kafka before 0.11 wrote them.
#[derive(Debug)]
pub(super) struct Set {
    magic: u8,
    wrapper: Wrapper,
    messages: Vec<Plain>,
    /// A wrapper of magic 1 at which the broker put its own time (KIP-32).
    append_time: Option<i64>,
}

impl Set {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let magic = input.byte() % 2;
        let wrapper = [Wrapper::None, Wrapper::Gzip, Wrapper::Snappy][input.below(3)];
        let count = if matches!(wrapper, Wrapper::None) { 1 } else { 1 + input.below(8) };
        let mut offset = i64::from(input.u16()) + 1;
        let append_time = (magic == 1 && input.below(4) == 0).then(|| input.i64());
        let nullable = |input: &mut Input<'_>| (input.byte() > 60).then(|| input.some().to_vec());
        let messages = (0..count)
            .map(|_| {
                let timestamp = if magic == 1 { input.i64() } else { -1 };
                let (key, value) = (nullable(input), nullable(input));
                let message = Plain { offset, timestamp, key, value, headers: Vec::new() };
                // Gaps are what compaction leaves.
                offset += 1 + i64::from(input.byte());
                message
            })
            .collect();
        Self { magic, wrapper, messages, append_time }
    }

    /// What is to be read.
    pub(super) fn records(&self) -> Vec<Plain> {
        let mut records = self.messages.clone();
        if let Some(time) = self.append_time {
            records.iter_mut().for_each(|record| record.timestamp = time);
        }
        records
    }

    pub(super) fn encode(&self) -> Bytes {
        let appended = if self.append_time.is_some() { 8 } else { 0 };
        let first = self.messages.first().map_or(0, |m| m.offset);
        let last = self.messages.last().map_or(0, |m| m.offset);
        let mut inner = Vec::new();
        for message in &self.messages {
            match self.wrapper {
                Wrapper::None => {
                    let timestamp = self.append_time.unwrap_or(message.timestamp);
                    return entry(self.magic, appended, &Plain { timestamp, ..message.clone() }).into();
                }
                // Relative offsets since magic 1 (KIP-31).
                _ => {
                    let offset = message.offset - if self.magic == 1 { first } else { 0 };
                    inner.extend(entry(self.magic, 0, &Plain { offset, ..message.clone() }));
                }
            }
        }
        let (codec, value) = match self.wrapper {
            Wrapper::Snappy => (2, (super::codecs::SNAPPY.compress)(&inner, first as u8)),
            _ => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&inner).expect("into memory");
                (1, gzip.finish().expect("into memory"))
            }
        };
        let timestamp = self.append_time.unwrap_or(first);
        let wrapper = Plain { offset: last, timestamp, key: None, value: Some(value), headers: Vec::new() };
        entry(self.magic, codec | appended, &wrapper).into()
    }
}

fn entry(magic: u8, attributes: u8, message: &Plain) -> Vec<u8> {
    let mut covered = vec![magic, attributes];
    if magic == 1 {
        covered.extend(message.timestamp.to_be_bytes());
    }
    for field in [&message.key, &message.value] {
        covered.extend(field.as_ref().map_or(-1, |f| f.len() as i32).to_be_bytes());
        covered.extend(field.iter().flatten());
    }
    let mut crc = flate2::Crc::new();
    crc.update(&covered);
    let mut entry = message.offset.to_be_bytes().to_vec();
    entry.extend((covered.len() as u32 + 4).to_be_bytes());
    entry.extend(crc.sum().to_be_bytes());
    entry.extend(covered);
    entry
}
