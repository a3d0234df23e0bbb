//! Hostile frames, versions and answers that cannot be read, against the whole client (reliability: frames,
//! versions). After each lie the broker is honest and everything arrives.

use std::time::Duration;

use bytes::Bytes;
use ottla_broker::{Api, Corruption, Fault};
use ottla_core::ErrorKind;
use ottla_tests::hostile::Stage;
use ottla_tests::sim::{Answer, Lie};

const SECOND: Duration = Duration::from_secs(1);

/// The requests of a client in a group, in the order in which they come.
const APIS: [Api; 10] = [
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::JoinGroup,
    Api::SyncGroup,
    Api::OffsetFetch,
    Api::ListOffsets,
    Api::Fetch,
    Api::Heartbeat,
    Api::OffsetCommit,
];

fn framed(length: i32, rest: &[u8]) -> Bytes {
    [&length.to_be_bytes(), rest].concat().into()
}

/// Each answer of each API in turn is spoiled once, and then every time for a while.
fn in_every_answer(spoil: impl Fn(&mut Answer) + Copy + 'static) {
    for api in APIS {
        for often in [false, true] {
            let mut stage = Stage::new(2, 3, 50);
            let lie = stage.lie(Lie::about(api, spoil).times(if often { usize::MAX } else { 1 }));
            stage.subscribe();
            if often {
                stage.run(20 * SECOND);
            } else {
                stage.run_until_told(lie, 1);
            }
            assert!(stage.world.told(lie) > 0, "{api} was never answered");
            println!("{api}, {}", if often { "for a while" } else { "once" });
            stage.heal();
            stage.everything_arrives();
            stage.never_hot();
            stage.never_reset();
            stage.closes();
        }
    }
}

#[test]
fn frame_lengths_that_cannot_be() {
    for frame in [
        framed(-1, b""),
        framed(0, b""),
        framed(3, b"abc"),
        framed(i32::MIN, b"abcdefgh"),
        framed(1 << 30, b"abcdefgh"),
        framed(i32::MAX, b"abcdefgh"),
    ] {
        in_every_answer_of(&[Api::ApiVersions, Api::Metadata, Api::Fetch], &frame);
    }
}

fn in_every_answer_of(apis: &[Api], frame: &Bytes) {
    for api in apis {
        let mut stage = Stage::new(1, 2, 50);
        let frame = frame.clone();
        let lie = stage.lie(Lie::about(*api, move |answer| answer.set_frame(frame.clone())));
        stage.assign();
        stage.run(5 * SECOND);
        assert!(stage.world.told(lie) > 0);
        stage.heal();
        stage.everything_arrives();
        stage.once_and_never_reset();
        stage.never_hot();
    }
}

#[test]
fn tls_alerts_and_http_text() {
    for frame in [&b"\x15\x03\x03\x00\x02\x02\x28"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        in_every_answer_of(&[Api::ApiVersions], &Bytes::from_static(frame));
    }
}

#[test]
fn bodies_shorter_than_their_message() {
    in_every_answer(|answer| {
        let body = answer.body().to_vec();
        answer.set_body(&body[..body.len() - 1]);
    });
}

#[test]
fn no_body_at_all() {
    in_every_answer(|answer| answer.set_body(b""));
}

#[test]
fn trailing_bytes_behind_the_message() {
    in_every_answer(|answer| {
        let body = [answer.body(), b"x"].concat();
        answer.set_body(&body);
    });
}

#[test]
fn garbage_bodies() {
    in_every_answer(|answer| answer.set_body(&[0xff; 100]));
}

#[test]
fn correlation_ids_of_nobody() {
    in_every_answer(|answer| {
        let mut frame = answer.frame().to_vec();
        frame[4] ^= 0x40;
        answer.set_frame(frame.into());
    });
}

#[test]
fn answers_that_come_twice() {
    in_every_answer(|answer| {
        answer.set_frame([answer.frame().clone(), answer.frame().clone()].concat().into())
    });
}

#[test]
fn answers_that_nobody_asked_for() {
    in_every_answer(|answer| {
        let mut other = answer.frame().to_vec();
        other[7] ^= 0x10;
        answer.set_frame([&other[..], answer.frame()].concat().into());
    });
}

#[test]
fn connections_that_close_in_the_middle_of_a_frame() {
    in_every_answer(|answer| {
        answer.set_frame(answer.frame().slice(..answer.frame().len() / 2));
        answer.close();
    });
}

/// Half a frame and then silence: the request timeout ends it.
#[test]
fn connections_that_stall_in_the_middle_of_a_frame() {
    in_every_answer(|answer| {
        answer.set_frame(answer.frame().slice(..answer.frame().len() / 2));
        answer.stall();
    });
}

#[test]
fn answers_that_never_come() {
    in_every_answer(|answer| {
        answer.set_frame(Bytes::new());
        answer.stall();
    });
}

/// One answer is left out and the next comes in its place.
#[test]
fn answers_out_of_order() {
    in_every_answer(|answer| answer.set_frame(Bytes::new()));
}

/// An answer in pieces of one byte is an answer.
#[test]
fn one_byte_after_the_other() {
    let mut stage = Stage::new(1, 2, 50);
    stage.world.dribble(true);
    stage.subscribe();
    stage.everything_arrives();
    stage.once_and_never_reset();
}

/// Whatever byte is flipped on the way: typed errors, no panic, no loop, and nothing is lost without a word.
#[test]
fn any_flipped_byte_of_any_answer_is_survived() {
    for api in APIS {
        for at in (0..120).step_by(7) {
            let mut stage = Stage::new(1, 2, 20);
            let fault = Fault::on(api).times(3).corrupt(Corruption::FlipByte(at));
            stage.world.cluster.add_fault(fault);
            stage.subscribe();
            stage.run(20 * SECOND);
            stage.heal();
            stage.run(20 * SECOND);
            stage.never_hot();
            stage.closes();
        }
    }
}

/// A client that is only about to connect is told what is wrong.
#[test]
fn the_first_contact_fails_with_the_reason() {
    for (frame, part) in [
        (&b"\x15\x03\x03\x00\x02\x02\x28"[..], "tls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http"),
        (b"\x7f\xff\xff\xff", "frame"),
    ] {
        let mut stage = Stage::new(1, 1, 1);
        let frame = Bytes::from_static(frame);
        stage.lie(Lie::about(Api::ApiVersions, move |answer| answer.set_frame(frame.clone())));
        let error = stage.bootstrap().expect_err("no broker was reached");
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved, "{error}");
        assert!(chain(&error).contains(part), "{}", chain(&error));
    }
}

fn chain(error: &ottla_core::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
