//! The connection against bytes written by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_wire::frame::FrameReader;
use ottla_wire::messages::MetadataRequest;
use ottla_wire::{ApiKey, Request};

use super::network::{Io, NetEvent, Network, Role, Target};
use super::{Connection, Peer, Received, State};
use crate::config::Config;
use crate::table::{assert_documented, transitions};
use crate::{ConnectionId, Error, ErrorKind, Rng, Timestamp};

/// Key, lowest and highest version.
type Range = (i16, i16, i16);

const SETUP: Timestamp = Timestamp::from_millis(10_000);
const T0: Timestamp = Timestamp::ZERO;
const TIMEOUT: Duration = Duration::from_secs(30);

fn connection() -> Connection<&'static str> {
    let peer = Peer { broker: None, host: Arc::from("kafka"), port: 9092 };
    let mut connection = Connection::new(peer, Arc::from("test"), 100 << 20, SETUP);
    connection.connected().expect("negotiation begins");
    connection
}

/// ApiVersions in the layout of version 0.
fn versions_v0(error: i16, ranges: &[Range]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(error);
    out.put_i32(ranges.len() as i32);
    for &(key, min, max) in ranges {
        out.put_i16(key);
        out.put_i16(min);
        out.put_i16(max);
    }
    out.freeze()
}

/// ApiVersions in the layout of versions 3 and 4, throttle time and tags empty.
fn versions_v3(ranges: &[Range]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_u8(ranges.len() as u8 + 1);
    for &(key, min, max) in ranges {
        out.put_i16(key);
        out.put_i16(min);
        out.put_i16(max);
        out.put_u8(0);
    }
    out.put_i32(0);
    out.put_u8(0);
    out.freeze()
}

/// A payload: correlation id and body. ApiVersions answers always have the short header.
fn payload(correlation_id: i32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(correlation_id);
    out.put_slice(body);
    out.freeze()
}

fn frame(payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(payload.len() as i32);
    out.put_slice(payload);
    out
}

const ALL: &[Range] = &[(18, 0, 4), (3, 0, 12)];

fn ready() -> Connection<&'static str> {
    let mut connection = connection();
    connection.poll_send(T0).expect("ApiVersions is sent");
    let received = connection.handle_frame(payload(0, &versions_v3(ALL))).expect("a good answer");
    assert!(matches!(received, Received::Ready));
    connection
}

fn ask(connection: &mut Connection<&'static str>, tag: &'static str) -> i16 {
    connection.send(T0, &MetadataRequest::default(), i16::MAX, tag, TIMEOUT).expect("sent")
}

fn version_sent(bytes: &Bytes) -> (i16, i16, i32) {
    let i16_at = |i: usize| i16::from_be_bytes([bytes[i], bytes[i + 1]]);
    let id = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    (i16_at(4), i16_at(6), id)
}

fn refused(error: &Error, kind: ErrorKind, part: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error} {source}").contains(part), "{error} {source}");
}

#[test]
fn negotiation_begins_with_version_four_and_gives_the_highest_common_versions() {
    let mut connection = connection();
    let sent = connection.poll_send(T0).expect("ApiVersions is sent");
    assert_eq!(version_sent(&sent), (18, 4, 0));
    assert!(connection.send(T0, &MetadataRequest::default(), i16::MAX, "early", TIMEOUT).is_err());
    connection.handle_frame(payload(0, &versions_v3(ALL))).expect("a good answer");
    assert_eq!(ask(&mut connection, "m"), 12);
    assert_eq!(version_sent(&connection.poll_send(T0).expect("sent")), (3, 12, 1));
}

#[test]
fn kip_511_error_35_is_read_as_version_zero_and_asked_again_at_its_maximum() {
    let mut connection = connection();
    connection.poll_send(T0);
    let received = connection.handle_frame(payload(0, &versions_v0(35, &[(18, 0, 3)]))).expect("a downgrade");
    assert!(matches!(received, Received::Nothing));
    assert_eq!(version_sent(&connection.poll_send(T0).expect("asked again")), (18, 3, 1));
    let received = connection.handle_frame(payload(1, &versions_v3(ALL))).expect("a good answer");
    assert!(matches!(received, Received::Ready));
}

#[test]
fn error_35_with_an_empty_list_is_asked_again_in_version_zero() {
    let mut connection = connection();
    connection.poll_send(T0);
    connection.handle_frame(payload(0, &versions_v0(35, &[]))).expect("a downgrade");
    assert_eq!(version_sent(&connection.poll_send(T0).expect("asked again")), (18, 0, 1));
}

#[test]
fn error_35_with_a_body_in_no_layout_is_asked_again() {
    let mut connection = connection();
    connection.poll_send(T0);
    connection.handle_frame(payload(0, &[0, 35, 1, 0, 0])).expect("a downgrade");
    assert_eq!(version_sent(&connection.poll_send(T0).expect("asked again")), (18, 2, 1));
}

#[test]
fn a_broker_that_always_answers_35_does_not_loop() {
    let mut connection = connection();
    connection.handle_frame(payload(0, &versions_v0(35, &[(18, 0, 9)]))).expect("a downgrade");
    let error = connection.handle_frame(payload(1, &versions_v0(35, &[(18, 0, 9)]))).expect_err("refused");
    refused(&error, ErrorKind::BrokerMisbehaved, "refused ApiVersions");
}

#[test]
fn hostile_version_lists_are_refused_with_their_reason() {
    let cases: [(&[Range], &str); 4] = [
        (&[], "no request at all"),
        (&[(3, 5, 4)], "5 to 4"),
        (&[(3, -1, 4)], "-1 to 4"),
        (&[(3, 0, 4), (3, 0, 5)], "two ranges"),
    ];
    for (ranges, part) in cases {
        let error = connection().handle_frame(payload(0, &versions_v3(ranges))).expect_err("refused");
        refused(&error, ErrorKind::BrokerMisbehaved, part);
    }
}

#[test]
fn a_broker_without_a_common_version_is_named_with_both_ranges() {
    let mut connection = connection();
    connection.handle_frame(payload(0, &versions_v3(&[(3, 99, 100)]))).expect("a good answer");
    let (tag, error) = connection
        .send(T0, &MetadataRequest::default(), i16::MAX, "m", TIMEOUT)
        .expect_err("no common version");
    assert_eq!(tag, "m");
    refused(&error, ErrorKind::Unsupported, "Metadata versions 99 to 100");
    assert!(connection.poll_send(T0).is_some_and(|sent| version_sent(&sent).0 == 18), "only the negotiation");
}

#[test]
fn a_pin_caps_the_version() {
    let mut connection = ready();
    let version = connection.send(T0, &MetadataRequest::default(), 9, "m", TIMEOUT).expect("sent");
    assert_eq!(version, 9);
    const { assert!(MetadataRequest::MAX_VERSION > 9) };
}

#[test]
fn answers_belong_to_the_oldest_request_in_flight() {
    let mut connection = ready();
    ask(&mut connection, "first");
    ask(&mut connection, "second");
    assert_eq!(connection.in_flight(), 2);
    for (id, tag) in [(1, "first"), (2, "second")] {
        // Metadata 12 has the flexible header: an empty tag section follows.
        let received = connection.handle_frame(payload(id, &[0, 7])).expect("in order");
        let Received::Response(r) = received else { panic!("no response: {received:?}") };
        assert_eq!((r.tag, r.version, &r.payload[r.body_at..]), (tag, 12, &[7u8][..]));
    }
}

#[test]
fn hostile_correlation_ids_end_the_connection() {
    for id in [0, 2, -1, i32::MAX] {
        let mut connection = ready();
        ask(&mut connection, "first");
        ask(&mut connection, "second");
        let error = connection.handle_frame(payload(id, &[0])).expect_err("out of order");
        refused(&error, ErrorKind::BrokerMisbehaved, "sent answer");
        assert_eq!(connection.into_unanswered().collect::<Vec<_>>(), ["first", "second"]);
    }
    let error = ready().handle_frame(payload(1, &[0])).expect_err("nothing asked");
    refused(&error, ErrorKind::BrokerMisbehaved, "nothing was asked");
}

#[test]
fn an_answer_with_a_broken_header_leaves_its_request_among_the_unanswered() {
    // Metadata 12 has the flexible header: too short, and a tag section that never ends.
    for damaged in [&[][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let mut connection = ready();
        ask(&mut connection, "first");
        ask(&mut connection, "second");
        let error = connection.handle_frame(payload(1, damaged)).expect_err("damaged");
        refused(&error, ErrorKind::BrokerMisbehaved, "broken header");
        assert_eq!(connection.into_unanswered().collect::<Vec<_>>(), ["first", "second"]);
    }
}

#[test]
fn hostile_frame_lengths_are_refused_without_allocating() {
    for (length, part) in [
        (-1i32, "negative"),
        (0, ""),
        (1 << 30, "over the limit"),
        (352_518_912, "tls"),
        (1_213_486_160, "http"),
    ] {
        let mut buf = BytesMut::from(&length.to_be_bytes()[..]);
        let error = ready().next_frame(&mut buf).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
        refused(&error, ErrorKind::BrokerMisbehaved, part);
    }
}

#[test]
fn a_long_frame_is_not_reserved_on_its_word_alone() {
    let mut connection = ready();
    let mut buf = BytesMut::from(&(90i32 << 20).to_be_bytes()[..]);
    assert!(connection.next_frame(&mut buf).expect("within the limit").is_none());
    assert!(connection.read_hint() <= FrameReader::TRUSTED);
}

#[test]
fn reading_stops_at_the_end_of_a_frame_and_any_cut_gives_the_same_frames() {
    let whole: Vec<u8> = [frame(&[1; 10]), frame(&[2; 300])].concat();
    for cut in 0..whole.len() {
        let mut connection = ready();
        let mut frames = Vec::new();
        let mut buf = BytesMut::new();
        for part in [&whole[..cut], &whole[cut..]] {
            buf.extend_from_slice(part);
            while let Some(frame) = connection.next_frame(&mut buf).expect("well formed") {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [vec![1; 10], vec![2; 300]]);
    }
    let mut connection = ready();
    let mut buf = BytesMut::from(&whole[14..20]);
    assert!(connection.next_frame(&mut buf).expect("well formed").is_none());
    assert_eq!(connection.read_hint(), 304 - 6);
}

#[test]
fn kip_219_a_throttled_connection_is_silent_until_the_time_is_over() {
    let mut connection = ready();
    connection.throttle(T0, 500);
    ask(&mut connection, "m");
    assert!(connection.poll_send(T0 + Duration::from_millis(499)).is_none());
    let (sends_at, overdue_at) = (T0 + Duration::from_millis(500), T0 + Duration::from_millis(500) + TIMEOUT);
    assert_eq!(connection.next_timeout(), Some(sends_at));
    assert!(connection.poll_send(sends_at).is_some());
    assert_eq!(connection.next_timeout(), Some(overdue_at));
    connection.throttle(T0, i32::MAX);
    connection.throttle(T0, -5);
    assert!(connection.overdue(overdue_at).is_some());
}

#[test]
fn an_answer_that_is_overdue_ends_the_connection() {
    let mut connection = ready();
    ask(&mut connection, "m");
    assert!(connection.overdue(T0 + TIMEOUT - Duration::from_nanos(1)).is_none());
    let error = connection.overdue(T0 + TIMEOUT).expect("overdue");
    refused(&error, ErrorKind::Transport, "did not answer Metadata");
}

#[test]
fn a_set_up_that_takes_too_long_says_how_far_it_came() {
    let peer = Peer { broker: None, host: Arc::from("kafka"), port: 9092 };
    let mut silent = Connection::<()>::new(peer, Arc::from("test"), 1 << 20, SETUP);
    refused(&silent.overdue(SETUP).expect("overdue"), ErrorKind::Transport, "did not accept");
    silent.connected().expect("negotiation begins");
    silent.poll_send(T0).expect("ApiVersions is sent");
    refused(&silent.overdue(SETUP).expect("overdue"), ErrorKind::Transport, "TLS");
    assert_eq!(silent.next_timeout(), Some(SETUP));
}

fn network() -> Network<u32> {
    let config = Config { bootstrap: vec![("kafka".to_owned(), 9092)], ..Config::default() };
    Network::new(&config, Rng::new(1))
}

const BOOTSTRAP: Target = Target::Bootstrap(0);

fn connect(network: &mut Network<u32>, now: Timestamp) -> ConnectionId {
    assert!(!network.open(now, BOOTSTRAP, Role::Control));
    let Some(Io::Connect { conn, .. }) = network.poll_action(now) else { panic!("no connection is opened") };
    conn
}

#[test]
fn a_connection_is_opened_once_per_use_and_told_when_it_is_ready() {
    let mut network = network();
    let conn = connect(&mut network, T0);
    assert!(!network.open(T0, BOOTSTRAP, Role::Control), "still connecting");
    assert!(network.poll_action(T0).is_none());
    network.handle_connected(T0, conn);
    assert!(matches!(network.poll_action(T0), Some(Io::Send { .. })));
    network.handle_bytes(T0, conn, &mut frame(&payload(0, &versions_v3(ALL))));
    assert!(matches!(network.poll_event(), Some(NetEvent::Ready(BOOTSTRAP, Role::Control))));
    assert!(network.open(T0, BOOTSTRAP, Role::Control));
}

#[test]
fn of_a_part_of_a_frame_nothing_comes() {
    let mut network = network();
    let conn = connect(&mut network, T0);
    network.handle_connected(T0, conn);
    let mut rest = frame(&payload(0, &versions_v3(ALL)));
    let mut buf = BytesMut::new();
    while rest.len() > 1 {
        buf.extend_from_slice(&rest.split_to(1));
        assert!(!network.handle_bytes(T0, conn, &mut buf) && !network.has_events());
    }
    buf.extend_from_slice(&rest);
    assert!(network.handle_bytes(T0, conn, &mut buf) && network.has_events());
    assert!(!network.handle_bytes(T0, conn, &mut buf), "it is empty");
    assert!(network.handle_bytes(T0, conn, &mut BytesMut::from(&[0xff; 4][..])), "no frame is an error");
}

#[test]
fn what_went_to_and_fro_is_counted_and_never_goes_back() {
    let mut network = network();
    let conn = connect(&mut network, T0);
    network.handle_connected(T0, conn);
    let Some(Io::Send { bytes, .. }) = network.poll_action(T0) else { panic!("no ApiVersions") };
    let negotiated = frame(&payload(0, &versions_v3(ALL)));
    let received = negotiated.len() as u64;
    network.handle_bytes(T0, conn, &mut negotiated.clone());
    network.poll_event();
    let control = (BOOTSTRAP, Role::Control);
    network.send(T0, control, &MetadataRequest::default(), i16::MAX, 1, TIMEOUT);
    let Some(Io::Send { bytes: asked, .. }) = network.poll_action(T0) else { panic!("no Metadata") };
    let answer = frame(&payload(1, &[0; 20]));
    let later = T0 + Duration::from_millis(30);
    network.handle_bytes(later, conn, &mut answer.clone());
    network.throttle(later, conn, 500);
    let [snapshot] = &network.snapshot()[..] else { panic!("one address") };
    assert_eq!((snapshot.connected, snapshot.in_flight, snapshot.id), (1, 0, None));
    let before = snapshot.traffic;
    assert_eq!((before.connects, before.disconnects, before.requests, before.unanswered), (1, 0, 1, 0));
    assert_eq!(before.bytes_sent, (bytes.len() + asked.len()) as u64);
    assert_eq!(before.bytes_received, received + answer.len() as u64);
    assert_eq!((before.latency.count, before.latency.max), (1, Duration::from_millis(30)));
    assert_eq!(before.throttled, Duration::from_millis(500));

    // At another address it is the same broker.
    network.send(later, control, &MetadataRequest::default(), i16::MAX, 2, TIMEOUT);
    network.set_address(BOOTSTRAP, "elsewhere", 9092);
    assert_eq!(network.snapshot()[0].traffic.requests, 2);
    network.forget(BOOTSTRAP);
    assert!(network.snapshot().is_empty());
    let total = network.total();
    assert_eq!((total.connects, total.disconnects, total.requests, total.unanswered), (1, 1, 2, 1));
    assert_eq!((total.bytes_received, total.latency), (before.bytes_received, before.latency));
}

#[test]
fn everything_in_flight_fails_once_when_the_connection_breaks() {
    let mut network = network();
    let conn = connect(&mut network, T0);
    network.handle_connected(T0, conn);
    network.handle_bytes(T0, conn, &mut frame(&payload(0, &versions_v3(ALL))));
    network.poll_event();
    for tag in [1, 2] {
        network.send(T0, (BOOTSTRAP, Role::Control), &MetadataRequest::default(), i16::MAX, tag, TIMEOUT);
    }
    network.handle_closed(T0, conn, Error::new(ErrorKind::Transport, "reset"));
    network.handle_closed(T0, conn, Error::new(ErrorKind::Transport, "reset"));
    let mut failed = Vec::new();
    let mut lost = 0;
    while let Some(event) = network.poll_event() {
        match event {
            NetEvent::Failed { tag, .. } => failed.push(tag),
            NetEvent::Lost { .. } => lost += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((failed, lost), (vec![1, 2], 1));
}

#[test]
fn an_accept_then_close_storm_obeys_the_backoff() {
    let mut network = network();
    let mut now = T0;
    let mut connects = 0;
    let end = T0 + Duration::from_secs(60);
    while now < end {
        if !network.open(now, BOOTSTRAP, Role::Control)
            && let Some(Io::Connect { conn, .. }) = network.poll_action(now)
        {
            connects += 1;
            network.handle_connected(now, conn);
            network.handle_closed(now, conn, Error::new(ErrorKind::Transport, "closed"));
            while network.poll_event().is_some() {}
            while network.poll_action(now).is_some() {}
        }
        network.open(now, BOOTSTRAP, Role::Control);
        now = network.next_timeout().expect("a retry is scheduled").max(now + Duration::from_nanos(1));
        network.handle_timeout(now);
    }
    assert!((50..=90).contains(&connects), "{connects} connects in a minute");
}

#[test]
fn a_broker_that_moved_loses_its_connections() {
    let mut network = network();
    let conn = connect(&mut network, T0);
    network.set_address(BOOTSTRAP, "kafka", 9092);
    assert!(network.poll_event().is_none(), "the same address changes nothing");
    network.set_address(BOOTSTRAP, "elsewhere", 9092);
    assert!(matches!(network.poll_action(T0), Some(Io::Close { conn: c }) if c == conn));
    assert!(matches!(network.poll_event(), Some(NetEvent::Lost { .. })));
    connect(&mut network, T0);
}

#[test]
fn a_request_over_no_connection_fails_at_once() {
    let mut network = network();
    let sent = network.send(T0, (BOOTSTRAP, Role::Fetch), &MetadataRequest::default(), i16::MAX, 9, TIMEOUT);
    assert_eq!(sent, None);
    assert!(matches!(network.poll_event(), Some(NetEvent::Failed { tag: 9, .. })));
}

#[test]
fn the_versions_of_a_connection_can_be_asked() {
    let versions = ready();
    let versions = versions.versions().expect("negotiated");
    assert_eq!(versions.max(ApiKey::Metadata), Some(12));
    assert_eq!(versions.max(ApiKey::Fetch), None);
}

/// A connection in each of its states.
fn in_state(name: &str) -> Connection<&'static str> {
    match name {
        "Connecting" => {
            let peer = Peer { broker: None, host: Arc::from("kafka"), port: 9092 };
            Connection::new(peer, Arc::from("test"), 100 << 20, SETUP)
        }
        "Negotiating" => connection(),
        "Negotiating again" => {
            let mut connection = connection();
            connection.handle_frame(payload(0, &versions_v0(35, &[(18, 0, 3)]))).expect("a downgrade");
            connection
        }
        "Ready" => ready(),
        "Ready, asked" => {
            let mut connection = ready();
            ask(&mut connection, "m");
            connection
        }
        other => panic!("{other} is no state"),
    }
}

fn state_of(connection: &Connection<&'static str>) -> &'static str {
    match connection.state {
        State::Connecting => "Connecting",
        State::Negotiating { downgraded: false } => "Negotiating",
        State::Negotiating { downgraded: true } => "Negotiating again",
        State::Ready(_) if connection.in_flight.is_empty() => "Ready",
        State::Ready(_) => "Ready, asked",
    }
}

#[test]
fn the_transition_table_is_what_the_code_does() {
    let states = ["Connecting", "Negotiating", "Negotiating again", "Ready", "Ready, asked"];
    let events = ["connected", "versions", "error 35", "other answer", "wrong id", "send", "time is over"];
    let table = transitions(&states, &events, |state, event| {
        let mut c = in_state(states[state]);
        let id = c.in_flight.front().map_or(77, |r| r.correlation_id);
        let received = match events[event] {
            "connected" => c.connected().map(|()| Received::Nothing),
            "versions" => c.handle_frame(payload(id, &versions_v3(ALL))),
            "error 35" => c.handle_frame(payload(id, &versions_v0(35, &[(18, 0, 3)]))),
            "other answer" => c.handle_frame(payload(id, &[0, 1])),
            "wrong id" => c.handle_frame(payload(id + 1, &versions_v3(ALL))),
            "send" => match c.send(T0, &MetadataRequest::default(), i16::MAX, "m", TIMEOUT) {
                Ok(_) => Ok(Received::Nothing),
                Err(_) => return "refused".to_owned(),
            },
            _ => match c.overdue(SETUP + TIMEOUT) {
                Some(error) => Err(error),
                None => Ok(Received::Nothing),
            },
        };
        match received {
            Err(_) => "fail".to_owned(),
            Ok(Received::Response(r)) => format!("{}, \"{}\" is answered", state_of(&c), r.tag),
            Ok(_) if state_of(&c) == states[state] => "–".to_owned(),
            Ok(_) => state_of(&c).to_owned(),
        }
    });
    assert_documented(include_str!("mod.rs"), &table);
}
