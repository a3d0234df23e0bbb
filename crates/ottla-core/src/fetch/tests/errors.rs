//! What becomes of errors.

use super::*;

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
