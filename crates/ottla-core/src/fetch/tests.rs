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
        Self { fetcher: Fetcher::new(config, Rng::new(1)), shared, now, topic_id: None }
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
            let candidate = |position| Candidate { position, topic_id, leader_epoch };
            let looked_at = |p: &FetchPosition| only.is_none_or(|only| only.contains(&p.tp));
            positions.into_iter().filter(looked_at).map(candidate).collect()
        };
        self.fetcher.prepare(self.now, BROKER, look, room, brokers)
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

// ---- Requests ------------------------------------------------------------------------------------------------

#[test]
fn a_request_carries_positions_epochs_limits_and_isolation() {
    let config = Config { isolation_level: IsolationLevel::ReadCommitted, ..Config::default() };
    let mut rig = Rig::with(&config, 2);
    let request = rig.ask();
    assert_eq!(Rig::offsets(&request), [(0, 0), (1, 0)]);
    assert_eq!((request.session_id, request.session_epoch), (0, 0));
    assert_eq!((request.isolation_level, request.min_bytes, request.max_wait_ms), (1, 1, 500));
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.current_leader_epoch, partition.partition_max_bytes), (3, 1 << 20));
}

#[test]
fn one_request_is_in_flight_per_broker() {
    let mut rig = Rig::new(1);
    rig.ask();
    assert!(rig.fetcher.is_busy(BROKER));
    assert!(rig.try_ask().is_none());
    rig.tell(&answer(0, 0, &[told(0, batch(0, 10))]));
    assert!(!rig.fetcher.is_busy(BROKER));
    assert_eq!(Rig::offsets(&rig.ask()), [(0, 10)], "while the reader is still busy with the data");
}

#[test]
fn kip_74_every_partition_comes_first_in_turn() {
    let mut rig = Rig::new(3);
    for first in [0, 1, 2, 0] {
        let order: Vec<i32> = Rig::offsets(&rig.ask()).iter().map(|(p, _)| *p).collect();
        assert_eq!(order, [first, (first + 1) % 3, (first + 2) % 3]);
        rig.wait(500);
        rig.tell(&answer(0, 0, &[]));
    }
}

#[test]
fn the_grant_is_a_share_of_the_room_within_its_bounds() {
    let config = Config { fetch_max_bytes: 1 << 30, ..Config::default() };
    for (room, brokers, grant) in [
        (64 << 20, 1, MAX_GRANT),
        (3 << 20, 3, 1 << 20),
        (300 << 10, 100, MIN_GRANT),
        (MIN_GRANT, 1, MIN_GRANT),
    ] {
        let mut rig = Rig::with(&config, 1);
        let prepared = rig.try_ask_with(room, brokers).expect("room");
        assert_eq!(prepared.request.max_bytes as usize, grant, "{room} for {brokers}");
        assert_eq!(rig.fetcher.reserved(), grant, "what is asked for is reserved");
        rig.fetcher.failed(rig.now, BROKER);
        assert_eq!(rig.fetcher.reserved(), 0);
    }
    let mut rig = Rig::with(&Config { fetch_max_bytes: 100 << 10, ..Config::default() }, 1);
    assert_eq!(rig.ask().max_bytes, 100 << 10, "the configuration's limit");
    for small in [1, 1_000, MIN_GRANT as i32 - 1] {
        let mut rig = Rig::with(&Config { fetch_max_bytes: small, ..Config::default() }, 1);
        assert_eq!(rig.ask().max_bytes, small, "also when that is little");
        assert_eq!(rig.fetcher.reserved(), small as usize);
    }
}

#[test]
fn without_room_nothing_is_asked() {
    let mut rig = Rig::new(1);
    assert!(rig.try_ask_with(MIN_GRANT - 1, 1).is_none());
    assert!(!rig.fetcher.is_busy(BROKER));
}

#[test]
fn a_partition_with_enough_buffered_is_left_out_and_the_others_do_not_wait_long_for_it() {
    let mut rig = Rig::new(2);
    rig.ask();
    rig.tell(&answer(0, 7, &[told(0, Bytes::new()), told(1, large(0))]));
    let prepared = rig.try_ask_with(MIN_GRANT, 1).expect("the other");
    assert_eq!(Rig::offsets(&prepared.request), [], "as the session has it");
    assert_eq!(prepared.request.forgotten_topics_data[0].partitions, [1]);
    assert_eq!(prepared.max_wait, SHORT_WAIT);
    // Once it is drained it comes back, where it was.
    assert!(matches!(rig.read(), Taken::Batch(_)));
    rig.tell(&answer(0, 7, &[]));
    let prepared = rig.try_ask_with(MIN_GRANT, 1).expect("both");
    assert_eq!(Rig::offsets(&prepared.request), [(1, 1)]);
    assert!(prepared.request.forgotten_topics_data.is_empty());
    assert_eq!(prepared.max_wait, Duration::from_millis(500));
}

/// What a partition must not have waiting if it is to be asked for with little room.
fn large(base: i64) -> Bytes {
    let mut writer = BatchWriter::new().base_offset(base).partition_leader_epoch(5);
    writer.append(0, None, Some(&vec![0; MIN_GRANT]), &[]).expect("it fits");
    writer.finish()
}

/// Requests of differences that are made by looking at a few partitions leave the broker with what requests that
/// are made by looking at all of them would.
#[test]
fn looking_only_where_something_changed_finds_what_looking_at_everything_finds() {
    let (mut differences, mut left_out) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::new(12);
        rig.topic_id = Some(ID);
        // What the broker's session holds: partition and offset.
        let mut session: BTreeMap<i32, i64> = BTreeMap::new();
        for _ in 0..120 {
            rig.wait(rng.below(300));
            for _ in 0..rng.below(3) {
                rig.read();
            }
            if rng.below(20) == 0 {
                let some = [tp(rng.below(12) as i32)];
                rig.shared.lock().pause(&some);
            }
            if rng.below(20) == 0 {
                let all: Vec<_> = (0..12).map(tp).collect();
                rig.shared.lock().resume(rig.now, &all);
            }
            let room = [MIN_GRANT, 3 * MIN_GRANT, ROOM][rng.below(3) as usize];
            let held: BTreeMap<i32, i64> = (rig.shared.lock().fetchable().into_iter())
                .filter(|p| rig.fetcher.troubles.get(&p.tp).is_none_or(|t| t.not_before <= rig.now))
                .filter(|p| p.buffered_bytes < room)
                .map(|p| (p.tp.partition(), p.offset))
                .collect();
            let Some(Prepared { request, .. }) = rig.try_ask_with(room, 1) else {
                let waits = rig.fetcher.brokers.get(&BROKER).is_some_and(|b| rig.now < b.not_before);
                assert!(held.is_empty() || waits, "seed {seed}: {held:?} is not asked for");
                continue;
            };
            if request.session_epoch == 0 {
                session.clear();
            } else {
                differences += 1;
            }
            for forgotten in &request.forgotten_topics_data {
                session.retain(|partition, _| !forgotten.partitions.contains(partition));
            }
            session.extend(Rig::offsets(&request));
            assert_eq!(session, held, "seed {seed}");
            left_out += 12 - held.len();
            let mut answered = Vec::new();
            for (partition, offset) in &session {
                answered.extend(match rng.below(8) {
                    0 => Some(told(*partition, batch(*offset, 3))),
                    1 => Some(told(*partition, large(*offset))),
                    2 => Some(refused(*partition, 6)),
                    3 => Some(told(*partition, Bytes::new())),
                    _ => None,
                });
            }
            if request.session_epoch == 0 {
                // A full answer names everything.
                answered = session.keys().map(|partition| told(*partition, Bytes::new())).collect();
            }
            match rng.below(12) {
                0 => rig.fetcher.failed(rig.now, BROKER),
                1 => drop(rig.try_tell(BY_ID, &answer_of(BY_ID, "", 70, 0, &[])).expect("it can be read")),
                _ => {
                    drop(rig.try_tell(BY_ID, &answer_of(BY_ID, "", 0, 7, &answered)).expect("it can be read"))
                }
            }
        }
    }
    assert!(differences > 1_000 && left_out > 500, "{differences}, {left_out}: too few to prove anything");
}

/// With thousands of partitions an answer to a few costs what those cost.
#[test]
fn partitions_of_which_nothing_was_heard_are_not_looked_at() {
    let mut rig = Rig::new(1_000);
    rig.topic_id = Some(ID);
    rig.ask();
    let everything: Vec<_> = (0..100).map(|p| told(p, Bytes::new())).collect();
    rig.fetcher.brokers.get_mut(&BROKER).unwrap().in_flight.as_mut().unwrap().full = false;
    rig.try_tell(BY_ID, &answer_of(BY_ID, "", 0, 7, &everything)).expect("it can be read");
    rig.ask();
    rig.try_tell(BY_ID, &answer_of(BY_ID, "", 0, 7, &[told(3, batch(0, 2))])).expect("it can be read");
    let looked_at = std::cell::RefCell::new(Vec::new());
    let look = |only: Option<&BTreeSet<TopicPartition>>| -> Vec<Candidate> {
        let only = only.expect("not all");
        looked_at.borrow_mut().extend(only.iter().cloned());
        let position = |tp| rig.shared.lock().fetch_position(tp);
        let candidate = |position| Candidate { position, topic_id: Some(ID), leader_epoch: None };
        only.iter().filter_map(position).map(candidate).collect()
    };
    let prepared = rig.fetcher.prepare(rig.now, BROKER, look, ROOM, 1).expect("asked");
    assert_eq!(Rig::offsets(&prepared.request), [(3, 2)]);
    assert_eq!(*looked_at.borrow(), [tp(3)]);
}

#[test]
fn kip_516_topics_go_by_id_only_when_all_ids_are_known() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.try_ask().expect("asked").max_version, 12);
    let mut rig = Rig::new(1);
    rig.topic_id = Some(ID);
    let prepared = rig.try_ask().expect("asked");
    assert_eq!((prepared.max_version, prepared.request.topics[0].topic_id), (i16::MAX, ID));
    rig.try_tell(BY_ID, &answer_of(BY_ID, "", 0, 0, &[told(0, batch(0, 1))])).expect("it can be read");
    assert_eq!(rig.shared.lock().fetch_position(&tp(0)).map(|p| p.offset), Some(1));
}

// ---- Answers -------------------------------------------------------------------------------------------------

#[test]
fn kip_227_after_an_answer_only_what_moved_is_sent() {
    let mut rig = Rig::new(2);
    rig.ask();
    rig.tell(&answer(0, 7, &[told(0, batch(0, 10)), told(1, Bytes::new())]));
    let request = rig.ask();
    assert_eq!((request.session_id, request.session_epoch), (7, 1));
    assert_eq!(Rig::offsets(&request), [(0, 10)]);
}

/// What the session does not hold would never be told of.
#[test]
fn kip_227_a_full_answer_that_leaves_a_partition_out_begins_a_new_session() {
    let mut rig = Rig::new(2);
    rig.ask();
    rig.tell(&answer(0, 7, &[told(0, batch(0, 10))]));
    let request = rig.ask();
    assert_eq!((request.session_id, request.session_epoch), (7, 0));
    assert_eq!(Rig::offsets(&request).len(), 2);
    // An incremental one leaves out what has no news.
    rig.tell(&answer(0, 7, &[told(0, Bytes::new()), told(1, Bytes::new())]));
    rig.ask();
    rig.tell(&answer(0, 7, &[]));
    assert_eq!(rig.ask().session_epoch, 2);
}

#[test]
fn partitions_that_were_not_asked_for_or_come_twice_are_dropped_and_begin_a_new_session() {
    let both = [told(0, batch(0, 10)), told(0, batch(10, 10))];
    for answer in [
        answer(0, 7, &both),
        answer(0, 7, &[told(0, batch(0, 10)), told(1, batch(0, 10))]),
        answer(0, 7, &[told(0, batch(0, 10)), told(-1, batch(0, 10))]),
    ] {
        let mut rig = Rig::new(1);
        rig.ask();
        rig.tell(&answer);
        let request = rig.ask();
        assert_eq!((request.session_id, request.session_epoch), (7, 0));
        assert_eq!(Rig::offsets(&request), [(0, 10)], "the first counts");
    }
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer_of(BY_NAME, "u", 0, 7, &[told(0, batch(0, 10))]));
    assert_eq!(Rig::offsets(&rig.ask()), [(0, 0)], "another topic");
}

#[test]
fn an_answer_of_another_ownership_is_dropped() {
    let mut rig = Rig::new(1);
    rig.ask();
    let epoch = rig.shared.lock().begin_seek(rig.now, &tp(0)).expect("owned");
    let start = Start { offset: 50, leader_epoch: None, cause: StartCause::Explicit };
    rig.shared.lock().start(rig.now, &tp(0), epoch, start);
    rig.tell(&answer(0, 0, &[told(0, batch(0, 10))]));
    assert_eq!(Rig::offsets(&rig.ask()), [(0, 50)]);
    assert!(matches!(rig.read(), Taken::Pending));
}

#[test]
fn an_answer_that_cannot_be_read_is_an_error_and_begins_a_new_session() {
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer(0, 7, &[told(0, batch(0, 1))]));
    rig.ask();
    let error = rig.try_tell(BY_NAME, &Bytes::from_static(&[0xff; 30])).expect_err("garbage");
    assert_eq!((error.kind(), error.broker()), (ErrorKind::BrokerMisbehaved, Some(BROKER)));
    assert_eq!(rig.ask().session_epoch, 0);
}

#[test]
fn a_request_that_fails_is_followed_by_a_pause_and_a_new_session() {
    let mut rig = Rig::new(1);
    for longest in [120, 240, 480] {
        rig.ask();
        rig.fetcher.failed(rig.now, BROKER);
        assert!(rig.try_ask().is_none());
        let at = rig.fetcher.next_timeout(rig.now).expect("it is told when");
        assert!(at.since(rig.now) <= Duration::from_millis(longest));
        rig.now = at;
    }
    assert_eq!(rig.ask().session_epoch, 0);
}

/// A batch that does not come whole is asked for with a larger limit, until it comes.
#[test]
fn a_partition_grows_its_limit_until_a_whole_batch_fits() {
    let mut rig = Rig::new(1);
    let cut = batch(0, 10).slice(..70);
    let limit = |request: &FetchRequest| request.topics[0].partitions[0].partition_max_bytes;
    assert_eq!(limit(&rig.ask()), 1 << 20);
    for expected in [2 << 20, 4 << 20, 8 << 20] {
        rig.tell(&answer(0, 0, &[told(0, cut.clone())]));
        assert!(rig.try_ask().is_none(), "after a pause");
        rig.wait(1_200);
        assert_eq!(limit(&rig.ask()), expected);
    }
    rig.tell(&answer(0, 0, &[told(0, batch(0, 10))]));
    assert_eq!(limit(&rig.ask()), 1 << 20);
}

#[test]
fn the_limit_of_a_partition_has_an_end() {
    let mut rig = Rig::new(1);
    for _ in 0..20 {
        let request = rig.ask();
        assert!(request.topics[0].partitions[0].partition_max_bytes <= MAX_PARTITION_BYTES);
        rig.tell(&answer(0, 0, &[told(0, Bytes::from_static(b"too short"))]));
        rig.wait(1_200);
    }
}

/// A broker that has nothing and does not wait, as it was asked to, is not asked hotly.
#[test]
fn empty_answers_that_come_at_once_are_followed_by_a_pause() {
    let mut rig = Rig::new(1);
    let mut asked = 0;
    let end = rig.now + Duration::from_secs(1);
    while rig.now < end {
        if rig.try_ask().is_some() {
            asked += 1;
            rig.tell(&answer(0, 0, &[told(0, Bytes::new())]));
        }
        rig.wait(1);
    }
    assert!((5..=20).contains(&asked), "{asked} in a second");
    rig.wait(1_000);
    for _ in 0..3 {
        rig.ask();
        rig.wait(500);
        rig.tell(&answer(0, 0, &[]));
        assert!(rig.fetcher.next_timeout(rig.now).is_none(), "one that waited is asked again at once");
    }
}

// ---- Errors --------------------------------------------------------------------------------------------------

/// What a code of one partition leads to: metadata asked for, and whether it waits or is told, with the kind.
fn outcome(code: i16) -> (bool, Option<ErrorKind>) {
    let mut rig = Rig::new(2);
    rig.ask();
    let findings = rig.tell(&answer(0, 0, &[refused(0, code), told(1, batch(0, 1))]));
    let stale = findings.iter().any(|f| matches!(f, Finding::StaleMetadata));
    let (mut others, mut told) = (0, None);
    loop {
        match rig.read() {
            Taken::Batch(batch) => {
                assert_eq!(batch.topic_partition(), &tp(1));
                others += 1;
            }
            Taken::Error(error) => {
                assert_eq!((error.topic_partition(), error.broker()), (Some(&tp(0)), Some(BROKER)));
                assert_eq!(error.code().map(|c| c.code()), Some(code));
                assert!(told.replace(error.kind()).is_none(), "told twice");
            }
            _ => break,
        }
    }
    assert_eq!(others, 1, "the other partition goes on");
    assert_eq!(Rig::offsets(&rig.ask()), [(1, 1)], "{code}: it waits or has stopped");
    (stale, told)
}

#[test]
fn each_code_of_a_partition_leads_to_what_the_table_says() {
    for code in [3, 5, 6, 9, 13, 56, 72, 74, 75, 80, 100, 103] {
        assert_eq!(outcome(code), (true, None), "{code}: metadata, and again");
    }
    for code in [-1, 7, 14, 78, 88, 999, 42] {
        assert_eq!(outcome(code), (false, None), "{code}: again after a pause");
    }
    assert_eq!(outcome(29), (false, Some(ErrorKind::Authorization)));
    assert_eq!(outcome(2), (false, Some(ErrorKind::Corrupt)));
    assert_eq!(outcome(76), (false, Some(ErrorKind::Unsupported)));
}

#[test]
fn a_partition_that_is_refused_for_no_known_reason_is_told_once_after_five_tries() {
    let mut rig = Rig::new(1);
    for _ in 0..4 {
        rig.ask();
        rig.tell(&answer(0, 0, &[refused(0, 999)]));
        assert!(matches!(rig.read(), Taken::Pending));
        rig.wait(1_200);
    }
    rig.ask();
    rig.tell(&answer(0, 0, &[refused(0, 999)]));
    let error = rig.error();
    assert_eq!((error.kind(), error.resume_at()), (ErrorKind::BrokerMisbehaved, Some(0)));
    rig.wait(10_000);
    assert!(rig.try_ask().is_none(), "it has stopped");
}

/// What passes by itself neither counts as a refusal nor hides one.
#[test]
fn refusals_are_counted_apart_from_errors_that_pass() {
    let mut rig = Rig::new(1);
    let once = |rig: &mut Rig, code| {
        rig.ask();
        rig.tell(&answer(0, 0, &[refused(0, code)]));
        rig.wait(1_200);
    };
    for _ in 0..4 {
        once(&mut rig, 6);
        once(&mut rig, 9);
    }
    for round in 0..5 {
        assert!(matches!(rig.read(), Taken::Pending), "told after {round} refusals");
        once(&mut rig, 6);
        once(&mut rig, 999 + round % 2);
    }
    assert_eq!(rig.error().kind(), ErrorKind::BrokerMisbehaved);
}

/// An answer without an error ends the row of refusals, also while the partition asks for more than the others.
#[test]
fn refusals_of_another_time_do_not_count() {
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer(0, 0, &[told(0, batch(0, 9).slice(..70))]));
    rig.wait(1_200);
    for _ in 0..3 {
        for _ in 0..4 {
            rig.ask();
            rig.tell(&answer(0, 0, &[refused(0, 999)]));
            rig.wait(1_200);
        }
        rig.ask();
        rig.tell(&answer(0, 0, &[told(0, Bytes::new())]));
    }
    assert!(matches!(rig.read(), Taken::Pending), "never five in a row");
}

/// The first answer that the new position is out of range leads to a reset at once, whatever was before.
#[test]
fn an_offset_out_of_range_is_not_taken_for_a_repetition_after_other_errors() {
    let mut rig = Rig::new(1);
    for _ in 0..3 {
        rig.ask();
        rig.tell(&answer(0, 0, &[refused(0, 6)]));
        rig.wait(1_200);
    }
    rig.ask();
    let findings = rig.tell(&answer(0, 0, &[refused(0, 1)]));
    assert!(matches!(findings[..], [Finding::OutOfRange { offset: 0, .. }]), "{findings:?}");
    assert!(rig.try_ask().is_some(), "without a pause");
}

#[test]
fn a_partition_that_errs_waits_longer_each_time_and_data_ends_that() {
    let mut rig = Rig::new(1);
    for (at_least, at_most) in [(80, 120), (160, 240), (320, 480), (640, 960), (800, 1200), (800, 1200)] {
        rig.ask();
        rig.tell(&answer(0, 0, &[refused(0, 6)]));
        let at = rig.fetcher.next_timeout(rig.now).expect("it is told when");
        let wait = at.since(rig.now).as_millis();
        assert!((at_least..=at_most).contains(&wait), "{wait} ms");
        rig.now = at;
    }
    rig.ask();
    rig.tell(&answer(0, 0, &[told(0, Bytes::new())]));
    rig.ask();
    rig.tell(&answer(0, 0, &[refused(0, 6)]));
    let at = rig.fetcher.next_timeout(rig.now).expect("it is told when");
    assert!(at.since(rig.now) <= Duration::from_millis(120), "an answer without an error ends the row");
}

/// The others are not polled hotly meanwhile, nor is it held up by them.
#[test]
fn the_long_poll_of_the_others_ends_when_a_partition_that_waits_may_be_asked_for() {
    let mut rig = Rig::new(2);
    rig.ask();
    rig.tell(&answer(0, 0, &[refused(0, 6), told(1, Bytes::new())]));
    let at = rig.fetcher.next_timeout(rig.now).expect("it is told when");
    let prepared = rig.try_ask().expect("the other");
    assert_eq!(Rig::offsets(&prepared.request), [(1, 0)]);
    assert_eq!(prepared.max_wait, at.since(rig.now));
}

#[test]
fn out_of_range_is_a_finding_only_at_the_present_position() {
    let mut rig = Rig::new(1);
    rig.ask();
    let findings = rig.tell(&answer(0, 0, &[refused(0, 1)]));
    assert!(matches!(findings[..], [Finding::OutOfRange { offset: 0, .. }]), "{findings:?}");
    assert!(rig.try_ask().is_some(), "the first time without a pause");
    // The user has moved on meanwhile.
    rig.shared.lock().begin_seek(rig.now, &tp(0));
    assert!(rig.tell(&answer(0, 0, &[refused(0, 1)])).is_empty());
}

#[test]
fn out_of_range_again_and_again_waits() {
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer(0, 0, &[refused(0, 1)]));
    rig.ask();
    rig.tell(&answer(0, 0, &[refused(0, 1)]));
    assert!(rig.try_ask().is_none());
}

/// An offset that comes from a header which nobody has verified proves nothing.
#[test]
fn out_of_range_at_a_provisional_offset_is_no_finding() {
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer(0, 0, &[told(0, batch(0, 10))]));
    rig.ask();
    assert!(rig.tell(&answer(0, 0, &[refused(0, 1)])).is_empty());
    assert!(rig.try_ask().is_none(), "after a pause");
    rig.wait(2_000);
    assert_eq!(Rig::offsets(&rig.ask()), [(0, 0)], "back to what is known");
    rig.tell(&answer(0, 0, &[told(0, batch(0, 10))]));
    rig.wait(2_000);
    assert!(rig.try_ask().is_none(), "no further than the reader has verified");
    assert!(matches!(rig.read(), Taken::Batch(_)));
    assert_eq!(Rig::offsets(&rig.ask()), [(0, 10)]);
}

#[test]
fn kip_227_a_session_that_is_not_known_is_begun_anew_at_once_but_only_once() {
    let mut rig = Rig::new(1);
    rig.ask();
    rig.tell(&answer(0, 7, &[told(0, batch(0, 1))]));
    rig.ask();
    assert!(rig.tell(&answer(70, 0, &[])).is_empty());
    assert_eq!(rig.ask().session_epoch, 0, "at once");
    rig.tell(&answer(70, 0, &[]));
    assert!(rig.try_ask().is_none(), "it was asked to open one");
}

#[test]
fn errors_of_the_whole_answer_wait_and_unknown_ones_are_told_once() {
    for (code, refusals) in [(71, 0), (106, 0), (-1, 0), (6, 0), (999, 1), (35, 1), (42, 1)] {
        let mut rig = Rig::new(1);
        let mut count = 0;
        for _ in 0..20 {
            rig.ask();
            for finding in rig.tell(&answer(code, 0, &[])) {
                match finding {
                    Finding::Refused(error) => {
                        count += 1;
                        assert_eq!(error.code().map(|c| c.code()), Some(code));
                    }
                    Finding::StaleMetadata => {}
                    other => panic!("{other:?}"),
                }
            }
            assert!(rig.try_ask().is_none(), "{code}");
            rig.wait(1_200);
        }
        assert_eq!(count, refusals, "{code}");
    }
}

#[test]
fn kip_219_an_empty_answer_of_a_throttled_broker_is_no_trouble() {
    let mut rig = Rig::new(2);
    rig.ask();
    rig.wait(500);
    assert!(rig.tell(&answer(0, 0, &[])).is_empty());
    assert_eq!(Rig::offsets(&rig.ask()).len(), 2);
}
