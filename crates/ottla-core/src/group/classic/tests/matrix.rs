//! Every event in every state, as the code has it: `matrix.txt`. A change of behaviour is a change of that file.
//! To write it anew: run this test with `OTTLA_UPDATE_SNAPSHOTS=1`, then read the difference.

use std::fmt::Write as _;

use super::*;

type Event = (&'static str, fn(&mut Rig) -> Vec<String>);

/// A member in each of its states, waits and requests in flight told apart.
pub(super) fn states() -> Vec<(&'static str, Rig)> {
    let owned = [("a", 0), ("b", 1)];
    let searching = || {
        let mut rig = Rig::cooperative();
        rig.subscribe(&["a", "b"]);
        rig
    };
    let rejoining = || {
        let mut rig = Rig::cooperative().stable(&owned);
        rig.next_beat(ErrorCode::RebalanceInProgress);
        rig
    };
    let leads = || {
        let mut rig = Rig::cooperative().joining(&["a"]);
        rig.join(leading(1, "m", &[("m", subscription(&["a"]))]));
        rig
    };
    let with = |mut rig: Rig, f: fn(&mut Rig)| {
        f(&mut rig);
        rig
    };
    vec![
        ("Unsubscribed", Rig::cooperative()),
        ("Unjoined, no coordinator", searching()),
        (
            "Unjoined, backing off",
            with(rejoining(), |r| drop(r.join(join_error(ErrorCode::RebalanceInProgress, "")))),
        ),
        ("Joining, first time", with(searching(), |r| drop(r.known()))),
        ("Joining, owning a-0 b-1", rejoining()),
        ("Syncing, leader waits for metadata", leads()),
        ("Syncing, leader computes", with(leads(), |r| drop(r.metadata(&[("a", 2)], &[])))),
        (
            "Syncing, owning a-0 b-1, SyncGroup sent",
            with(rejoining(), |r| drop(r.join(joined(2, "m", "other")))),
        ),
        ("Stable, owning a-0 b-1", Rig::cooperative().stable(&owned)),
        ("Stable, eager, owning a-0 b-1", Rig::eager().stable(&owned)),
        ("Stable, leader, owning a-0 a-1", Rig::cooperative().leader()),
        (
            "Stable, no coordinator, owning a-0 b-1",
            with(Rig::cooperative().stable(&owned), |r| drop(r.input(ClassicGroup::coordinator_lost))),
        ),
        ("Revoking b-1 of a-0 b-1", with(Rig::cooperative().stable(&owned), |r| drop(r.subscribe(&["a"])))),
        (
            "Revoking, eager, a-0 b-1",
            with(Rig::eager().stable(&owned), |r| drop(r.next_beat(ErrorCode::RebalanceInProgress))),
        ),
        ("Leaving", with(Rig::cooperative().stable(&[]), |r| drop(r.subscribe(&[])))),
        (
            "Leaving, member id on its way",
            with(searching(), |r| {
                r.known();
                r.subscribe(&[]);
            }),
        ),
        ("Expired", with(Rig::cooperative().stable(&owned), |r| drop(r.input(ClassicGroup::poll_expired)))),
        (
            "Failed",
            with(Rig::cooperative().stable(&owned), |r| {
                drop(r.next_beat(ErrorCode::GroupAuthorizationFailed))
            }),
        ),
    ]
}

/// The next heartbeat or probe, if one is sent, and its answer.
fn beat(rig: &mut Rig, code: ErrorCode) -> Vec<String> {
    let mut actions = rig.wait(1000);
    if actions.iter().any(|a| a.starts_with("heartbeat")) {
        actions.extend(rig.beat(code));
    } else if actions.iter().any(|a| a.starts_with("probe")) {
        actions.extend(rig.probe(code));
    }
    actions
}

fn events() -> Vec<Event> {
    vec![
        ("subscribe a b", |r| r.subscribe(&["a", "b"])),
        ("subscribe a b c", |r| r.subscribe(&["a", "b", "c"])),
        ("unsubscribe", |r| r.subscribe(&[])),
        ("coordinator known", Rig::known),
        ("coordinator lost", |r| r.input(ClassicGroup::coordinator_lost)),
        ("join: follower", |r| r.join(joined(5, "m", "other"))),
        ("join: leader", |r| r.join(leading(5, "m", &[("m", subscription(&["a"]))]))),
        ("join: MEMBER_ID_REQUIRED", |r| r.join(join_error(ErrorCode::MemberIdRequired, "n"))),
        ("join: REBALANCE_IN_PROGRESS", |r| r.join(join_error(ErrorCode::RebalanceInProgress, ""))),
        ("join: UNKNOWN_MEMBER_ID", |r| r.join(join_error(ErrorCode::UnknownMemberId, ""))),
        ("join: NOT_COORDINATOR", |r| r.join(join_error(ErrorCode::NotCoordinator, ""))),
        ("join: INCONSISTENT_GROUP_PROTOCOL", |r| {
            r.join(join_error(ErrorCode::InconsistentGroupProtocol, ""))
        }),
        ("join: disconnect", |r| r.broken(Kind::Join)),
        ("sync: the same", |r| r.sync(synced(&[("a", 0), ("b", 1)]))),
        ("sync: a-0 a-1", |r| r.sync(synced(&[("a", 0), ("a", 1)]))),
        ("sync: REBALANCE_IN_PROGRESS", |r| r.sync(sync_error(ErrorCode::RebalanceInProgress))),
        ("sync: UNKNOWN_MEMBER_ID", |r| r.sync(sync_error(ErrorCode::UnknownMemberId))),
        ("sync: ILLEGAL_GENERATION", |r| r.sync(sync_error(ErrorCode::IllegalGeneration))),
        ("sync: disconnect", |r| r.broken(Kind::Sync)),
        ("heartbeat: ok", |r| beat(r, ErrorCode::None)),
        ("heartbeat: REBALANCE_IN_PROGRESS", |r| beat(r, ErrorCode::RebalanceInProgress)),
        ("heartbeat: UNKNOWN_MEMBER_ID", |r| beat(r, ErrorCode::UnknownMemberId)),
        ("heartbeat: ILLEGAL_GENERATION", |r| beat(r, ErrorCode::IllegalGeneration)),
        ("heartbeat: FENCED_INSTANCE_ID", |r| beat(r, ErrorCode::FencedInstanceId)),
        ("heartbeat: NOT_COORDINATOR", |r| beat(r, ErrorCode::NotCoordinator)),
        ("session over", |r| r.wait(10_000)),
        ("metadata: a 2", |r| r.metadata(&[("a", 2)], &[])),
        ("metadata: a 3", |r| r.metadata(&[("a", 3)], &[])),
        ("assignment computed", |r| if r.job.is_some() { r.computed() } else { Vec::new() }),
        ("revocation finished", |r| r.given_back(&[("a", 0), ("a", 1), ("b", 1)])),
        ("commit: UNKNOWN_MEMBER_ID", |r| refused(r, ErrorCode::UnknownMemberId)),
        ("commit: ILLEGAL_GENERATION", |r| refused(r, ErrorCode::IllegalGeneration)),
        ("commit: REBALANCE_IN_PROGRESS", |r| refused(r, ErrorCode::RebalanceInProgress)),
        ("max_poll_interval exceeded", |r| r.input(ClassicGroup::poll_expired)),
        ("polled", |r| r.input(ClassicGroup::polled)),
        ("leave", |r| r.input(|g, now| g.leave(now, "closed"))),
        ("leave: answered", |r| r.reply(Kind::Leave, Reply::Leave)),
    ]
}

fn refused(rig: &mut Rig, code: ErrorCode) -> Vec<String> {
    let generation = rig.group.identity().map_or(-1, |i| i.generation_id);
    rig.input(|g, now| g.commit_refused(now, code, generation))
}

/// Any event may follow any other: the promises that [`Rig`] checks hold on every way through the states.
#[test]
fn random_sequences_of_events_break_no_promise() {
    let events = events();
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut rig = match seed % 3 {
            0 => Rig::cooperative(),
            1 => Rig::eager(),
            _ => Rig::fixed(),
        };
        for _ in 0..120 {
            let (name, apply) = events[rng.below(events.len() as u64) as usize];
            // Fatal ends would be all that most sequences see.
            let fatal = name.contains("FENCED") || name.contains("INCONSISTENT");
            if fatal && rng.below(20) > 0 {
                continue;
            }
            apply(&mut rig);
            seen.insert(rig.state());
            if rng.below(4) == 0 {
                rig.wait(rng.below(3000));
            }
        }
        let end = rig.input(|g, now| g.leave(now, "closed"));
        let mut left = end.contains(&"left".to_owned());
        for kind in [Kind::Join, Kind::Join, Kind::Join, Kind::Leave, Kind::Leave, Kind::Leave] {
            left |= rig.broken(kind).contains(&"left".to_owned());
        }
        assert!(left, "seed {seed}: {:?}", rig.state());
        assert_eq!(rig.state(), GroupState::Unsubscribed, "seed {seed}");
    }
    assert_eq!(seen.len(), 9, "every state was reached: {seen:?}");
}

fn matrix() -> String {
    let mut text = String::new();
    let count = states().len();
    for index in 0..count {
        let mut ignored = Vec::new();
        for (event, apply) in events() {
            let (name, mut rig) = states().swap_remove(index);
            if text.is_empty() || event == events()[0].0 {
                writeln!(text, "== {name}").unwrap();
            }
            let before = rig.state();
            let actions = apply(&mut rig);
            if actions.is_empty() && rig.state() == before {
                ignored.push(event);
                continue;
            }
            writeln!(text, "{event:<36} {:<12} {}", format!("{:?}", rig.state()), actions.join("; "))
                .unwrap();
        }
        let mut line = "nothing:".to_owned();
        for event in ignored {
            if line.len() + event.len() > 108 {
                writeln!(text, "{line}").unwrap();
                line = "        ".to_owned();
            }
            write!(line, " {event},").unwrap();
        }
        writeln!(text, "{}\n", line.trim_end_matches(',')).unwrap();
    }
    text
}

#[test]
fn every_event_in_every_state() {
    let actual = matrix();
    if std::env::var_os("OTTLA_UPDATE_SNAPSHOTS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/group/classic/tests/matrix.txt");
        std::fs::write(path, &actual).unwrap();
        return;
    }
    for (line, (expected, actual)) in include_str!("matrix.txt").lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "line {} of matrix.txt", line + 1);
    }
    assert_eq!(actual.len(), include_str!("matrix.txt").len());
}
