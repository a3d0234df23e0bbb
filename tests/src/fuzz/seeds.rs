//! Where the corpora come from: the golden vectors, and batches that are made here.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use ottla_wire::records::{BatchWriter, Compression};

use super::messages;
use crate::vectors::{default_dir, files, lines, unhex};

/// The largest seed: small ones are mutated better.
const LARGEST: usize = 1 << 10;

/// Seeds by target.
#[derive(Debug, Default)]
pub struct Seeds(BTreeMap<&'static str, Vec<Vec<u8>>>);

impl Seeds {
    /// The seeds of all targets.
    pub fn all() -> Self {
        let mut seeds = Self::default();
        seeds.of_messages();
        seeds.of_batches();
        seeds.of_streams();
        seeds
    }

    /// By target.
    pub fn into_inner(self) -> BTreeMap<&'static str, Vec<Vec<u8>>> {
        self.0
    }

    fn add(&mut self, target: &'static str, seed: Vec<u8>) {
        if seed.len() <= LARGEST {
            self.0.entry(target).or_default().push(seed);
        }
    }

    /// The first vectors of each message in each version.
    fn of_messages(&mut self) {
        const EACH: usize = 3;
        let mut taken: BTreeMap<(String, i16), usize> = BTreeMap::new();
        for (message, version, body) in vectors() {
            let count = taken.entry((message.clone(), version)).or_default();
            if *count < EACH && body.len() < LARGEST {
                *count += 1;
                if let Some(seed) = messages::response_seed(&message, version, &body) {
                    self.add("resp_decode", seed);
                }
            }
        }
    }

    fn of_batches(&mut self) {
        for batch in batches() {
            self.add("batch_v2", batch.to_vec());
        }
        let two: Vec<u8> = batches().take(2).flatten().collect();
        self.add("batch_v2", two);
    }

    fn of_streams(&mut self) {
        for lengths in [&[4usize, 5, 300][..], &[9_000, 4], &[0], &[100, 3]] {
            let mut stream = BytesMut::new();
            stream.extend_from_slice(&[4, 1, 2, 3, 200, 15]);
            for (fill, length) in lengths.iter().enumerate() {
                stream.extend_from_slice(&(*length as u32).to_be_bytes());
                stream.resize(stream.len() + length, fill as u8);
            }
            self.0.entry("frame_split").or_default().push(stream.to_vec());
        }
        self.add("frame_split", [&[0, 15][..], &[0x15, 3, 1, 0], b"HTTP/1.1"].concat());
    }
}

/// Message, version and body of every vector.
pub fn vectors() -> impl Iterator<Item = (String, i16, Vec<u8>)> {
    let files = files(&default_dir(), "messages").into_iter();
    let files = files.filter(|file| !file.to_string_lossy().contains("frames"));
    files.flat_map(|file| lines(&file)).map(|line| {
        let suffix = match line["type"].as_str() {
            Some("request") => "Request",
            Some("response") => "Response",
            _ => "",
        };
        let message = format!("{}{suffix}", line["api"].as_str().expect("an api"));
        let version = line["version"].as_i64().and_then(|v| i16::try_from(v).ok()).expect("a version");
        (message, version, unhex(line["hex"].as_str().expect("bytes")))
    })
}

/// Small batches of every codec, plain, transactional, and of control records.
fn batches() -> impl Iterator<Item = Bytes> {
    Compression::ALL.into_iter().flat_map(|compression| {
        [0usize, 1, 3, 12].map(|records| {
            let mut writer = BatchWriter::new().compression(compression).base_offset(5);
            for at in 0..records {
                let value = format!("value {at} value {at}");
                let headers: &[(&[u8], Option<&[u8]>)] = &[(b"a", None), (b"a", Some(b"x"))];
                let headers = if at % 2 == 0 { headers } else { &[] };
                let key = (at % 3 != 0).then_some(&b"key"[..]);
                writer.append(at as i64, key, Some(value.as_bytes()), headers).expect("a record");
            }
            writer.finish()
        })
    })
}
