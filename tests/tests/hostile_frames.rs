//! Hostile frames, versions and answers that cannot be read, against the whole client (reliability: frames,
//! versions). After each lie the broker is honest and everything arrives.

use std::time::Duration;

use bytes::Bytes;
use ottla_broker::Api;
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

/// Where the throttle time lies, behind the length prefix and a header with tags.
const THROTTLE: std::ops::Range<usize> = 5..9;

/// Whatever byte is flipped on the way, three times in a row: no panic, no loop, and reading goes on, or an error says
/// why it does not and of which partition.
fn any_flipped_byte_of(api: Api) {
    let mut at = 0;
    loop {
        if api != Api::ApiVersions && at == THROTTLE.start {
            // A silence of days is asked for, and kept: see the tests of throttle times.
            at = THROTTLE.end;
        }
        let mut stage = Stage::new(1, 2, 20);
        // Fewer partitions than there are: nobody can know it, before the next metadata in due time.
        stage.config().metadata_max_age = 30 * SECOND;
        let flip = move |answer: &mut Answer| {
            let mut frame = answer.frame().to_vec();
            if let Some(byte) = frame.get_mut(4 + at) {
                *byte = !*byte;
                answer.set_frame(frame.into());
            }
        };
        let lie = stage.lie(Lie::about(api, flip).times(3));
        stage.subscribe();
        stage.run(20 * SECOND);
        if stage.world.told(lie) == 0 {
            assert!(at > 10, "{api} was never answered");
            return;
        }
        println!("{api}, byte {at}");
        stage.heal();
        stage.never_hot();
        reading_goes_on(&mut stage, api);
        stage.never_hot();
        stage.closes();
        // Headers byte by byte; what is far behind is names and records.
        at += if at < 200 { 1 } else { 5 };
    }
}

fn reading_goes_on(stage: &mut Stage, api: Api) {
    let errors = stage.errors();
    if let Some(error) = errors.iter().find(|e| e.is_fatal()) {
        // A group of another kind, a member fenced, a right withdrawn, or a code that nobody knows.
        let grouped = matches!(
            api,
            Api::ApiVersions
                | Api::FindCoordinator
                | Api::JoinGroup
                | Api::SyncGroup
                | Api::Heartbeat
                | Api::OffsetFetch
        );
        assert!(grouped && error.kind() != ErrorKind::Transport, "{error}");
        return;
    }
    if api == Api::ApiVersions && errors.iter().any(|e| e.kind() == ErrorKind::Unsupported) {
        // What a connection does not offer it does not offer as long as it stands, and that is said.
        return;
    }
    // A partition that has stopped is named, and the user lets it go on.
    for error in errors.iter().filter(|e| e.topic_partition().is_some()) {
        let tp = error.topic_partition().expect("a partition");
        stage.seek(tp.partition(), error.resume_at().unwrap_or(0).min(20));
    }
    if matches!(api, Api::JoinGroup | Api::SyncGroup) {
        // Another leader, or an assignment of other partitions, is one, until the next rebalance.
        stage.rebalance();
    }
    stage.produce(10);
    stage.all_is_read();
    // What was handed out is what was produced.
    let values = &stage.world.member(stage.id).values;
    for (tp, values) in values {
        for (offset, value) in values {
            assert_eq!(*value, format!("{}/{offset}", tp.partition()).into_bytes());
        }
    }
    // Nothing is skipped without a word: but for the partitions that an error named, every record came.
    let named: Vec<i32> = errors.iter().filter_map(|e| Some(e.topic_partition()?.partition())).collect();
    for p in (0..2).filter(|p| !named.contains(p)) {
        let of = values.iter().find(|(tp, _)| tp.partition() == p);
        let offsets: std::collections::BTreeSet<i64> =
            of.into_iter().flat_map(|(_, v)| v).map(|v| v.0).collect();
        assert!(offsets.into_iter().eq(0..30), "partition {p} lacks records");
    }
}

macro_rules! any_flipped_byte {
    ($($name:ident $api:ident)*) => {
        $(
            #[test]
            fn $name() {
                any_flipped_byte_of(Api::$api);
            }
        )*
    };
}

any_flipped_byte! {
    any_flipped_byte_of_api_versions_is_survived ApiVersions
    any_flipped_byte_of_metadata_is_survived Metadata
    any_flipped_byte_of_find_coordinator_is_survived FindCoordinator
    any_flipped_byte_of_join_group_is_survived JoinGroup
    any_flipped_byte_of_sync_group_is_survived SyncGroup
    any_flipped_byte_of_offset_fetch_is_survived OffsetFetch
    any_flipped_byte_of_list_offsets_is_survived ListOffsets
    any_flipped_byte_of_fetch_is_survived Fetch
    any_flipped_byte_of_heartbeat_is_survived Heartbeat
    any_flipped_byte_of_offset_commit_is_survived OffsetCommit
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
