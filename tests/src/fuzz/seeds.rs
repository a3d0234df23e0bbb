//! Where the corpora come from: the golden vectors, what the embedded broker says, and batches that are made here.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use ottla_core::Rng;
use ottla_wire::records::{BatchWriter, Batches, Compression};
use serde_json::Value;

use super::{Class, TARGETS, messages, traffic};
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
        seeds.of_traffic();
        seeds.of_batches();
        seeds.of_streams();
        seeds.of_members();
        seeds.of_choices();
        seeds.of_damage();
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
                    self.add("resp_decode", seed.clone());
                    self.add("resp_round_trip", seed);
                }
                if let Some(seed) = messages::request_seed(&message, version, &body) {
                    self.add("req_round_trip", seed);
                }
                if let Some(seed) = messages::shared_seed(&message, version, &body) {
                    self.add("kafka_protocol", seed);
                }
            }
        }
    }

    fn of_batches(&mut self) {
        for batch in batches() {
            self.add("batch_v2", batch.to_vec());
            self.add("batch_lazy", [&[2, 0, 1][..], &batch].concat());
        }
        for records in record_vectors() {
            let legacy = records.get(16).is_some_and(|magic| *magic < 2);
            if legacy {
                self.add("batch_legacy", [&[0][..], &records].concat());
            } else {
                self.add("batch_v2", records.clone());
            }
            self.add("batch_lazy", [&[0][..], &records].concat());
            for raw in Batches::new(records.into()).flatten() {
                let target = match raw.header.compression {
                    Compression::Gzip => "codec_gzip",
                    Compression::Snappy => "codec_snappy",
                    Compression::Lz4 => "codec_lz4",
                    Compression::Zstd => "codec_zstd",
                    Compression::None => continue,
                };
                if raw.header.magic == 2 {
                    self.add(target, [&[0][..], &raw.bytes()[61..]].concat());
                }
            }
        }
        let two: Vec<u8> = batches().take(2).flatten().collect();
        self.add("batch_v2", two);
    }

    /// What the embedded broker says.
    fn of_traffic(&mut self) {
        const EACH: usize = 3;
        let conversations = traffic::conversations();
        for (api, version, body) in traffic::answers(&conversations, EACH) {
            let Some(message) = messages::response_of(api) else { continue };
            if let Some(seed) = messages::response_seed(message, version, &body) {
                self.add("resp_decode", seed.clone());
                self.add("resp_round_trip", seed);
            }
            if let Some(seed) = messages::shared_seed(message, version, &body) {
                self.add("kafka_protocol", seed);
            }
            let machine = match message {
                "ConsumerGroupHeartbeatResponse" => "consumer_group_machine",
                _ => continue,
            };
            // Subscribes, finds the coordinator, and gets this answer: see the machine's steps.
            if let Ok(length) = u8::try_from(body.len()) {
                self.add(machine, [&[0, 0, 0, 1, 0, 2, 5, 250, length][..], &body].concat());
            }
        }
        // A client that asks for other things than this answers: the first of them fit, and then it is on its own.
        for conversation in &conversations {
            let mut script = vec![0, 10, 1, 0];
            for (_, _, body) in conversation.iter().filter(|(_, _, body)| body.len() < 256).take(6) {
                script.extend_from_slice(&[0, 0, 0, 1, 8, 0, body.len() as u8]);
                script.extend_from_slice(body);
            }
            self.add("e2e_bytes", script.clone());
            self.add("admin_machine", script);
            let mut stream = vec![4, 1, 2, 3, 200, 15];
            for (id, (_, _, body)) in conversation.iter().take(8).enumerate() {
                stream.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
                stream.extend_from_slice(&(id as u32).to_be_bytes());
                stream.extend_from_slice(body);
            }
            self.add("frame_split", stream);
        }
    }

    fn of_members(&mut self) {
        for file in files(&default_dir(), "subscription") {
            for line in lines(&file) {
                if let Some(bytes) = line["hex"].as_str() {
                    self.add("members", unhex(bytes));
                }
            }
        }
    }

    /// Where an input is a list of choices any bytes are as good as others.
    fn of_choices(&mut self) {
        for target in TARGETS.iter().filter(|target| target.class != Class::Decoder) {
            let mut rng = Rng::new(target.name.len() as u64);
            for length in [20usize, 60, 150, 300, 500] {
                // A codec's input begins with what it is: content to be compressed.
                for first in 0..3 {
                    let rest = (1..length).map(|_| rng.next_u64() as u8);
                    self.add(target.name, std::iter::once(first).chain(rest).collect());
                }
            }
        }
        let mut rng = Rng::new(1);
        for length in [20usize, 60, 150] {
            let rest = (1..length).map(|_| rng.next_u64() as u8);
            self.add("batch_legacy", std::iter::once(1).chain(rest).collect());
        }
    }

    /// Some small seeds of each decoder and codec, cut and with bytes changed: what is wrong has to be reached, too.
    fn of_damage(&mut self) {
        const SOME: usize = 16;
        const LONGEST: usize = 250;
        for target in TARGETS.iter().filter(|target| target.class != Class::Machine) {
            let all = self.0.get(target.name).into_iter().flatten();
            let mut small: Vec<Vec<u8>> =
                all.filter(|seed| (1..=LONGEST).contains(&seed.len())).cloned().collect();
            small.sort();
            small.dedup();
            let mut rng = Rng::new(2);
            for seed in small.iter().step_by(small.len().div_ceil(SOME).max(1)) {
                for part in 1..8 {
                    self.add(target.name, seed[..seed.len() * part / 8].to_vec());
                }
                for change in [1, 0x80, 0xff, 0x10, 0x7f] {
                    for _ in 0..3 {
                        let mut damaged = seed.clone();
                        let at = rng.below(damaged.len() as u64) as usize;
                        damaged[at] ^= change;
                        self.add(target.name, damaged);
                    }
                }
            }
        }
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

/// Some of the `records` fields of each file of vectors.
fn record_vectors() -> impl Iterator<Item = Vec<u8>> {
    const EACH: usize = 40;
    let files = files(&default_dir(), "records").into_iter();
    files.flat_map(|file| {
        let small = |line: &Value| line["hex"].as_str().map(unhex).filter(|bytes| bytes.len() <= LARGEST);
        let all: Vec<Vec<u8>> = lines(&file).iter().filter_map(small).collect();
        let step = all.len().div_ceil(EACH).max(1);
        all.into_iter().step_by(step)
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
