//! What becomes of answers.

use super::*;

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
