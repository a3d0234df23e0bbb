//! The same through bytes, as they come from a broker.

use ::bytes::{BufMut, BytesMut};

use super::*;

/// A string, or a null one, of the old versions.
fn string(out: &mut BytesMut, s: &str) {
    out.put_i16(s.len() as i16);
    out.put_slice(s.as_bytes());
}

/// A string of the flexible versions.
fn compact(out: &mut BytesMut, s: &str) {
    out.put_u8(s.len() as u8 + 1);
    out.put_slice(s.as_bytes());
}

fn send(rig: &mut Rig, kind: Kind, version: i16, body: &[u8]) -> Vec<String> {
    rig.input(|g, now| g.handle_response(now, kind, version, body))
}

/// JoinGroup 9: throttle, error, generation, protocol type and name, leader, skip, member id, members, tags.
fn join_v9(
    error: i16,
    generation: i32,
    member_id: &str,
    leader: &str,
    members: &[(&str, Bytes)],
) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(error);
    out.put_i32(generation);
    compact(&mut out, "consumer");
    compact(&mut out, COOPERATIVE);
    compact(&mut out, leader);
    out.put_u8(0);
    compact(&mut out, member_id);
    out.put_u8(members.len() as u8 + 1);
    for (id, metadata) in members {
        compact(&mut out, id);
        out.put_u8(0);
        out.put_u8(metadata.len() as u8 + 1);
        out.put_slice(metadata);
        out.put_u8(0);
    }
    out.put_u8(0);
    out
}

/// SyncGroup 5: throttle, error, protocol type and name, assignment, tags.
fn sync_v5(partitions: &[(&str, i32)]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(0);
    compact(&mut out, "consumer");
    compact(&mut out, COOPERATIVE);
    let assignment = synced(partitions).assignment;
    out.put_u8(assignment.len() as u8 + 1);
    out.put_slice(&assignment);
    out.put_u8(0);
    out
}

#[test]
fn the_newest_versions_are_read() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.known();
    assert_eq!(send(&mut rig, Kind::Join, 9, &join_v9(79, -1, "m", "", &[])), ["join 'm' a owns[]"]);
    let members = [("m", subscription(&["a"]))];
    assert_eq!(send(&mut rig, Kind::Join, 9, &join_v9(0, 3, "m", "m", &members)), ["want[a]"]);
    rig.metadata(&[("a", 1)], &[]);
    assert_eq!(rig.computed(), ["sync g3 m[m={a-0}]"]);
    assert_eq!(send(&mut rig, Kind::Sync, 5, &sync_v5(&[("a", 0)])), ["assign [a-0]"]);
    rig.wait(1000);
    assert_eq!(send(&mut rig, Kind::Heartbeat, 4, &[0, 0, 0, 0, 0, 27, 0]), ["join 'm' a g3 owns[a-0]"]);
}

/// Kafka 2.1: JoinGroup 3, SyncGroup 2, Heartbeat 2; no MEMBER_ID_REQUIRED, no protocol in SyncGroup.
#[test]
fn the_versions_of_the_oldest_broker_are_read() {
    let mut rig = Rig::cooperative();
    rig.subscribe(&["a"]);
    rig.input(|g, now| g.coordinator_known(now, OLDEST));
    let mut join = BytesMut::new();
    join.put_i32(0);
    join.put_i16(0);
    join.put_i32(3);
    string(&mut join, COOPERATIVE);
    string(&mut join, "other");
    string(&mut join, "m");
    join.put_i32(0);
    assert_eq!(send(&mut rig, Kind::Join, 3, &join), ["sync g3 m[]"]);
    let mut sync = BytesMut::new();
    sync.put_i32(0);
    sync.put_i16(0);
    let assignment = synced(&[("a", 0)]).assignment;
    sync.put_i32(assignment.len() as i32);
    sync.put_slice(&assignment);
    assert_eq!(send(&mut rig, Kind::Sync, 2, &sync), ["assign [a-0]"]);
    rig.wait(1000);
    assert_eq!(send(&mut rig, Kind::Heartbeat, 2, &[0, 0, 0, 0, 0, 25]), ["lost [a-0]", "join '' a owns[]"]);
}

/// Requests must be sayable in every version that can be negotiated.
#[test]
fn every_request_can_be_encoded_for_the_oldest_and_the_newest_broker() {
    use ottla_wire::Request as _;
    for (versions, fixed) in [(OLDEST, false), (NEWEST, false), (NEWEST, true)] {
        let mut rig = if fixed { Rig::fixed() } else { Rig::cooperative() };
        let mut kinds = BTreeSet::new();
        rig.subscribe(&["a"]);
        rig.input(|g, now| g.coordinator_known(now, versions));
        let encode = |rig: &Rig, kinds: &mut BTreeSet<Kind>| {
            let mut out = BytesMut::new();
            let request = rig.request.clone().unwrap();
            kinds.insert(request.kind());
            match request {
                GroupRequest::Join(r) => r.encode(versions.join, &mut out),
                GroupRequest::Sync(r) => r.encode(versions.sync, &mut out),
                GroupRequest::Heartbeat(r) | GroupRequest::Probe(r) => r.encode(versions.heartbeat, &mut out),
                GroupRequest::Leave(r) => r.encode(versions.leave, &mut out),
                GroupRequest::Describe(r) => r.encode(0, &mut out).and_then(|()| r.encode(6, &mut out)),
                GroupRequest::ConsumerHeartbeat(r) => panic!("{r:?} is of the other protocol"),
            }
            .unwrap();
        };
        encode(&rig, &mut kinds);
        rig.join(joined(1, "m", "other"));
        encode(&rig, &mut kinds);
        rig.sync(synced(&[("a", 0)]));
        rig.wait(1000);
        encode(&rig, &mut kinds);
        rig.beat(ErrorCode::RebalanceInProgress);
        rig.wait(1000);
        encode(&rig, &mut kinds);
        rig.input(|g, now| g.leave(now, "closed"));
        if !fixed {
            encode(&rig, &mut kinds);
        }
        assert_eq!(kinds.len(), if fixed { 4 } else { 5 });
    }
}

/// Every cut and every flipped byte of each answer: no panic, and the member stays in a state it can go on from.
#[test]
fn damaged_answers_do_no_harm() {
    let members = [("m", subscription(&["a"])), ("n", subscription(&["a"]))];
    let joins = join_v9(0, 3, "m", "m", &members);
    let syncs = sync_v5(&[("a", 0), ("a", 1)]);
    let damaged = |body: &[u8]| {
        let cuts = (0..body.len()).map(|n| body[..n].to_vec());
        let flips = (0..body.len()).flat_map(|n| {
            [0x01u8, 0x80, 0xff].map(|bits| {
                let mut bytes = body.to_vec();
                bytes[n] ^= bits;
                bytes
            })
        });
        cuts.chain(flips).collect::<Vec<_>>()
    };
    for body in damaged(&joins) {
        let mut rig = Rig::cooperative().joining(&["a"]);
        send(&mut rig, Kind::Join, 9, &body);
        let ok = [GroupState::Syncing, GroupState::Unjoined, GroupState::Joining, GroupState::Failed];
        assert!(ok.contains(&rig.state()), "{:?} after {body:?}", rig.state());
    }
    for body in damaged(&syncs) {
        let mut rig = Rig::cooperative().syncing(&["a"]);
        send(&mut rig, Kind::Sync, 5, &body);
        let ok = [GroupState::Stable, GroupState::Unjoined, GroupState::Joining, GroupState::Failed];
        assert!(ok.contains(&rig.state()), "{:?} after {body:?}", rig.state());
    }
}

#[test]
fn an_answer_in_a_version_we_do_not_know_is_a_typed_error() {
    let mut rig = Rig::cooperative().joining(&["a"]);
    assert_eq!(send(&mut rig, Kind::Join, 99, &[0; 8]), ["report BrokerMisbehaved"]);
    assert!(rig.error.unwrap().to_string().contains("JoinGroup version 99"));
}

#[test]
fn a_heartbeat_answer_that_cannot_be_read_is_retried_and_does_not_count_as_life() {
    let mut rig = Rig::cooperative().stable(&[("a", 0)]);
    rig.wait(1000);
    assert_eq!(send(&mut rig, Kind::Heartbeat, 4, &[1]), ["report BrokerMisbehaved"]);
    assert_eq!(rig.wait(121), ["heartbeat g1 m"]);
    assert_eq!(send(&mut rig, Kind::Heartbeat, 4, &[1]), [""; 0], "told once in a row");
    rig.wait(250);
    send(&mut rig, Kind::Heartbeat, 4, &[1]);
    let mut actions = Vec::new();
    while rig.state() == GroupState::Stable {
        actions = rig.wait(100);
        if actions.iter().any(|a| a.starts_with("heartbeat")) {
            send(&mut rig, Kind::Heartbeat, 4, &[1]);
        }
    }
    assert!(actions.contains(&"lost [a-0]".to_owned()), "{actions:?}");
}
