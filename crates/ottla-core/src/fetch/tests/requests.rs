//! What is asked for.

use super::*;

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
    // A reader that takes nothing is not looked after as often, up to a limit.
    for doubled in [2, 4, 8, 8] {
        rig.wait(200);
        rig.tell(&answer(0, 7, &[]));
        let prepared = rig.try_ask_with(MIN_GRANT, 1).expect("the other");
        assert_eq!(prepared.max_wait, SHORT_WAIT * doubled);
    }
    // Once it is drained it comes back, where it was.
    assert!(matches!(rig.read(), Taken::Batch(_)));
    rig.tell(&answer(0, 7, &[]));
    let prepared = rig.try_ask_with(MIN_GRANT, 1).expect("both");
    assert_eq!(Rig::offsets(&prepared.request), [(1, 1)]);
    assert!(prepared.request.forgotten_topics_data.is_empty());
    assert_eq!(prepared.max_wait, Duration::from_millis(500));
}

#[test]
fn a_partition_with_as_much_buffered_as_an_answer_brings_waits_for_the_reader() {
    let mut rig = Rig::new(1);
    rig.of_one = MIN_GRANT;
    rig.ask();
    assert!(!rig.fetcher.waits_for_reader());
    rig.tell(&answer(0, 7, &[told(0, large(0))]));
    assert!(rig.try_ask().is_none(), "with all the room there is");
    assert!(rig.fetcher.waits_for_reader());
    // One who gathers wants more.
    rig.of_one = usize::MAX;
    assert!(rig.try_ask().is_some());
    assert!(!rig.fetcher.waits_for_reader());
    rig.of_one = MIN_GRANT;
    rig.tell(&answer(0, 7, &[]));
    assert!(rig.try_ask().is_none());
    assert!(matches!(rig.read(), Taken::Batch(_)));
    let request = rig.ask();
    assert_eq!(Rig::offsets(&request), [], "as the session has it");
    assert!(request.forgotten_topics_data.is_empty());
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
        let candidate = |position| Candidate {
            position,
            topic_id: Some(ID),
            leader_epoch: None,
            last_epoch: None,
            from_leader: true,
        };
        only.iter().filter_map(position).map(candidate).collect()
    };
    let prepared = rig
        .fetcher
        .prepare(rig.now, BROKER, look, "", Room { left: ROOM, brokers: 1, of_one: usize::MAX })
        .expect("asked");
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
