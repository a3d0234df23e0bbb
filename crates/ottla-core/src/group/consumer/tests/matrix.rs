//! Every event in every state, as the code has it: `matrix.txt`. A change of behaviour is a change of that file.
//! To write it anew: run this test with `OTTLA_UPDATE_SNAPSHOTS=1`, then read the difference.

use std::fmt::Write as _;

use super::*;

type Event = (&'static str, fn(&mut Rig) -> Vec<String>);

/// A member in each of its states, waits and requests in flight told apart.
fn states() -> Vec<(&'static str, Rig)> {
    let owned = [("a", 0), ("b", 1)];
    let stable = || Rig::dynamic().stable(&owned);
    let with = |mut rig: Rig, f: fn(&mut Rig)| {
        f(&mut rig);
        rig
    };
    vec![
        ("Unsubscribed", Rig::dynamic()),
        ("Joining, no coordinator", with(Rig::dynamic(), |r| drop(r.subscribe(&["a", "b"])))),
        ("Joining, sent", Rig::dynamic().joining()),
        (
            "Reconciling, a-0 has no name",
            with(Rig::dynamic().joining(), |r| drop(r.reply(ok(1, Some(&[("a", 0)]))))),
        ),
        (
            "Reconciling, giving back b-1 of a-0 b-1",
            with(stable(), |r| drop(r.next_beat(ok(1, Some(&[("a", 0)]))))),
        ),
        (
            "Acknowledging a-0 b-1 a-1, sent",
            with(stable(), |r| drop(r.next_beat(ok(2, Some(&[("a", 0), ("a", 1), ("b", 1)]))))),
        ),
        ("Stable, owning a-0 b-1", stable()),
        (
            "Stable, no coordinator, owning a-0 b-1",
            with(stable(), |r| drop(r.input(ConsumerGroup::coordinator_lost))),
        ),
        (
            "Fenced, for the second time",
            with(stable(), |r| {
                r.next_beat(refused(ErrorCode::UnknownMemberId));
                r.reply(refused(ErrorCode::UnknownMemberId));
            }),
        ),
        ("PrepareLeaving, giving back a-0 b-1", with(stable(), |r| drop(r.subscribe(&[])))),
        ("Leaving", with(Rig::dynamic().stable(&[]), |r| drop(r.subscribe(&[])))),
        ("Stale", with(stable(), |r| drop(r.input(ConsumerGroup::poll_expired)))),
        ("Fatal", with(stable(), |r| drop(r.next_beat(refused(ErrorCode::GroupAuthorizationFailed))))),
    ]
}

/// The next heartbeat, if one is sent or under way, and its answer.
fn beat(rig: &mut Rig, reply: Reply) -> Vec<String> {
    let mut actions = if rig.group.in_flight.is_empty() { rig.wait(1000) } else { Vec::new() };
    if !rig.group.in_flight.is_empty() {
        actions.push("·".to_owned());
        actions.extend(rig.reply(reply));
    }
    actions
}

fn commit(rig: &mut Rig, code: ErrorCode) -> Vec<String> {
    let epoch = rig.group.identity().map_or(-1, |i| i.generation_id);
    rig.input(|g, now| g.commit_refused(now, code, epoch))
}

fn events() -> Vec<Event> {
    vec![
        ("subscribe a b", |r| r.subscribe(&["a", "b"])),
        ("subscribe a c", |r| r.subscribe(&["a", "c"])),
        ("unsubscribe", |r| r.subscribe(&[])),
        ("coordinator known", Rig::known),
        ("coordinator lost", |r| r.input(ConsumerGroup::coordinator_lost)),
        ("heartbeat: unchanged", |r| beat(r, ok(3, None))),
        ("heartbeat: a-0 b-1", |r| beat(r, ok(3, Some(&[("a", 0), ("b", 1)])))),
        ("heartbeat: a-0", |r| beat(r, ok(3, Some(&[("a", 0)])))),
        ("heartbeat: a-0 a-2 b-1", |r| beat(r, ok(3, Some(&[("a", 0), ("a", 2), ("b", 1)])))),
        ("heartbeat: COORDINATOR_LOAD_IN_PROGRESS", |r| {
            beat(r, refused(ErrorCode::CoordinatorLoadInProgress))
        }),
        ("heartbeat: NOT_COORDINATOR", |r| beat(r, refused(ErrorCode::NotCoordinator))),
        ("heartbeat: FENCED_MEMBER_EPOCH", |r| beat(r, refused(ErrorCode::FencedMemberEpoch))),
        ("heartbeat: UNKNOWN_MEMBER_ID", |r| beat(r, refused(ErrorCode::UnknownMemberId))),
        ("heartbeat: GROUP_ID_NOT_FOUND", |r| beat(r, refused(ErrorCode::GroupIdNotFound))),
        ("heartbeat: UNSUPPORTED_ASSIGNOR", |r| beat(r, refused(ErrorCode::UnsupportedAssignor))),
        ("heartbeat: TOPIC_AUTHORIZATION_FAILED", |r| beat(r, refused(ErrorCode::TopicAuthorizationFailed))),
        ("heartbeat: disconnect", Rig::broken),
        ("metadata knows a and b", |r| r.metadata(&["a", "b"])),
        ("revocation finished", |r| r.given_back(&[("a", 0), ("b", 1)])),
        ("a minute without answers", |r| r.wait(60_000)),
        ("commit: STALE_MEMBER_EPOCH", |r| commit(r, ErrorCode::StaleMemberEpoch)),
        ("commit: UNKNOWN_MEMBER_ID", |r| commit(r, ErrorCode::UnknownMemberId)),
        ("max_poll_interval exceeded", |r| r.input(ConsumerGroup::poll_expired)),
        ("polled", |r| r.input(ConsumerGroup::polled)),
        ("leave", |r| r.input(|g, now| g.leave(now))),
    ]
}

/// Any event may follow any other: the promises that [`Rig`] checks hold on every way through the states.
#[test]
fn random_sequences_of_events_break_no_promise() {
    let events = events();
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut rig = if seed % 3 == 0 { Rig::fixed() } else { Rig::dynamic() };
        for _ in 0..150 {
            let (name, apply) = events[rng.below(events.len() as u64) as usize];
            // Fatal ends would be all that most sequences see.
            let fatal = name.contains("ASSIGNOR") || (name.contains("NOT_FOUND") && rig.group.epoch == 0);
            if fatal && rng.below(20) > 0 {
                continue;
            }
            apply(&mut rig);
            seen.insert(rig.state());
            if rng.below(4) == 0 {
                rig.wait(rng.below(3000));
            }
        }
        let mut left = rig.input(|g, now| g.leave(now)).contains(&"left".to_owned());
        left |= rig.wait(5000).contains(&"left".to_owned());
        assert!(left, "seed {seed}: {:?}", rig.state());
        assert_eq!(rig.state(), ConsumerState::Unsubscribed, "seed {seed}");
    }
    assert_eq!(seen.len(), 10, "every state was reached: {seen:?}");
}

fn matrix() -> String {
    let mut text = String::new();
    let count = states().len();
    for index in 0..count {
        let mut ignored = Vec::new();
        for (event, apply) in events() {
            let (name, mut rig) = states().swap_remove(index);
            if event == events()[0].0 {
                writeln!(text, "== {name}").unwrap();
            }
            let before = rig.state();
            let actions = apply(&mut rig);
            if actions.is_empty() && rig.state() == before {
                ignored.push(event);
                continue;
            }
            writeln!(text, "{event:<40} {:<14} {}", format!("{:?}", rig.state()), actions.join("; "))
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
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/group/consumer/tests/matrix.txt");
        std::fs::write(path, &actual).unwrap();
        return;
    }
    for (line, (expected, actual)) in include_str!("matrix.txt").lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "line {} of matrix.txt", line + 1);
    }
    assert_eq!(actual.len(), include_str!("matrix.txt").len());
}
