//! Requests, budget and answers of one fetcher over a delivery.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_wire::messages::FetchRequest;
use ottla_wire::records::{BatchDecoder, BatchWriter};

use super::request::Prepared;
use super::*;
use crate::delivery::{DeliveryConfig, FetchPosition, Filter, Shared, Start, StartCause, Taken};
use crate::{ErrorKind, LeaderEpoch};

mod answers;
mod errors;
mod requests;

const BROKER: BrokerId = BrokerId(1);
const ROOM: usize = 64 << 20;
/// The last version whose layout has no tags, and the first with topic ids.
const BY_NAME: i16 = 11;
const BY_ID: i16 = 13;
const ID: TopicId = TopicId([7; 16]);

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn batch(base: i64, records: i64) -> Bytes {
    let mut writer = BatchWriter::new().base_offset(base).partition_leader_epoch(5);
    for _ in 0..records {
        writer.append(0, None, Some(b"v"), &[]).expect("it fits");
    }
    writer.finish()
}

/// One partition of an answer.
#[derive(Clone)]
struct Told {
    partition: i32,
    error: i16,
    high_watermark: i64,
    records: Bytes,
}

fn told(partition: i32, records: Bytes) -> Told {
    Told { partition, error: 0, high_watermark: 1_000, records }
}

fn refused(partition: i32, error: i16) -> Told {
    Told { error, ..told(partition, Bytes::new()) }
}

fn answer(error: i16, session_id: i32, partitions: &[Told]) -> Bytes {
    answer_of(BY_NAME, "t", error, session_id, partitions)
}

fn answer_of(version: i16, topic: &str, error: i16, session_id: i32, partitions: &[Told]) -> Bytes {
    let by_id = version >= BY_ID;
    let count = |out: &mut BytesMut, count: usize| {
        if !by_id {
            return out.put_i32(count as i32);
        }
        let mut left = count + 1;
        while left >= 0x80 {
            out.put_u8(left as u8 | 0x80);
            left >>= 7;
        }
        out.put_u8(left as u8);
    };
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(error);
    out.put_i32(session_id);
    count(&mut out, usize::from(!partitions.is_empty()));
    if !partitions.is_empty() {
        if by_id {
            out.put_slice(&ID.0);
        } else {
            out.put_i16(topic.len() as i16);
            out.put_slice(topic.as_bytes());
        }
        count(&mut out, partitions.len());
        for p in partitions {
            out.put_i32(p.partition);
            out.put_i16(p.error);
            out.put_i64(p.high_watermark);
            out.put_i64(p.high_watermark);
            out.put_i64(0);
            count(&mut out, 0);
            out.put_i32(-1);
            count(&mut out, p.records.len());
            out.put_slice(&p.records);
            if by_id {
                out.put_u8(0);
            }
        }
        if by_id {
            out.put_u8(0);
        }
    }
    if by_id {
        out.put_u8(0);
    }
    out.freeze()
}

struct Rig {
    fetcher: Fetcher,
    shared: Arc<Shared>,
    now: Timestamp,
    topic_id: Option<TopicId>,
    of_one: usize,
}

impl Rig {
    /// Partitions 0 … that are read from offset 0.
    fn new(partitions: i32) -> Self {
        Self::with(&Config::default(), partitions)
    }

    fn with(config: &Config, partitions: i32) -> Self {
        let shared = Shared::new(DeliveryConfig::from(config));
        let now = Timestamp::from_millis(1_000);
        let tps: Vec<_> = (0..partitions).map(tp).collect();
        let owned = shared.lock().assign_manual(now, &tps);
        for (tp, epoch) in owned {
            let start = Start { offset: 0, leader_epoch: None, cause: StartCause::Explicit };
            assert!(shared.lock().start(now, &tp, epoch, start));
        }
        Self { fetcher: Fetcher::new(config, Rng::new(1)), shared, now, topic_id: None, of_one: usize::MAX }
    }

    /// As the client does it: partitions are looked at again only where that is needed.
    fn try_ask_with(&mut self, room: usize, brokers: usize) -> Option<Prepared> {
        let generation = self.shared.lock().fetch_generation();
        if self.fetcher.is_outdated(generation, 0) {
            self.fetcher.looked(generation, 0, BTreeSet::from([BROKER]), false);
        }
        let (shared, topic_id) = (&self.shared, self.topic_id);
        let look = |only: Option<&BTreeSet<TopicPartition>>| -> Vec<Candidate> {
            let positions = shared.lock().fetchable();
            let leader_epoch = LeaderEpoch::from_wire(3);
            let candidate = |position| Candidate {
                position,
                topic_id,
                leader_epoch,
                last_epoch: None,
                from_leader: true,
            };
            let looked_at = |p: &FetchPosition| only.is_none_or(|only| only.contains(&p.tp));
            positions.into_iter().filter(looked_at).map(candidate).collect()
        };
        let room = Room { left: room, brokers, of_one: self.of_one };
        self.fetcher.prepare(self.now, BROKER, look, "", room)
    }

    fn try_ask(&mut self) -> Option<Prepared> {
        self.try_ask_with(ROOM, 1)
    }

    fn ask(&mut self) -> FetchRequest {
        self.try_ask().expect("there is something to ask").request
    }

    fn tell(&mut self, answer: &Bytes) -> Vec<Finding> {
        self.try_tell(BY_NAME, answer).expect("it can be read")
    }

    fn try_tell(&mut self, version: i16, answer: &Bytes) -> Result<Vec<Finding>, Error> {
        self.fetcher.answered(self.now, BROKER, version, (answer, 0), &mut self.shared.lock())
    }

    fn wait(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// Partitions and offsets in the order in which they are asked for.
    fn offsets(request: &FetchRequest) -> Vec<(i32, i64)> {
        request.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition, p.fetch_offset)).collect()
    }

    fn read(&self) -> Taken {
        self.shared.take(self.now, &mut BatchDecoder::default(), Filter::BATCHES, None)
    }

    fn error(&self) -> Error {
        match self.read() {
            Taken::Error(error) => error,
            other => panic!("no error: {other:?}"),
        }
    }
}
