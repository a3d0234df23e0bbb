//! Answers that no coordinator should give.

use super::*;

#[test]
fn epochs_that_cannot_be_change_nothing_and_are_told_once() {
    for epoch in [0, -1, -2, i32::MIN, 1] {
        let mut rig = Rig::dynamic().stable(&[("a", 0)]);
        rig.next_beat(ok(2, None));
        assert_eq!(rig.next_beat(ok(epoch, Some(&[]))), ["report BrokerMisbehaved"], "{epoch}");
        assert_eq!((rig.group.epoch, rig.group.owned().len()), (2, 1));
        assert_eq!(rig.wait(2000), ["beat 2 reads[a,b] owns[a-0] all"]);
    }
}

#[test]
fn intervals_that_cannot_be_are_bounded() {
    for (told, interval) in [(0, 1000), (-5, 1000), (1, 100), (i32::MAX, 600_000)] {
        let mut rig = Rig::dynamic().stable(&[]);
        rig.next_beat(Reply { interval_ms: told, ..ok(1, None) });
        assert_eq!(rig.group.pulse.interval, Duration::from_millis(interval), "{told}");
    }
}

/// An assignment that changes with every answer would be acknowledged at once each time.
#[test]
fn no_row_of_answers_is_a_hot_loop() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    let (mut sent, mut flip) = (0, false);
    let until = rig.now + Duration::from_secs(60);
    while rig.now < until {
        let mut shown = rig.wait(10);
        while shown.iter().any(|a| a.starts_with("beat")) {
            sent += 1;
            assert!(sent < 600, "{:?} left", until.since(rig.now));
            flip = !flip;
            shown = rig.reply(ok(1, Some(if flip { &[("a", 0), ("a", 1)] } else { &[("a", 0)] })));
            if shown.iter().any(|a| a.starts_with("revoke")) {
                shown = rig.given_back(&[("a", 1)]);
            }
        }
    }
    assert!(sent > 60, "{sent}");
}

#[test]
fn garbage_is_told_once_and_asked_again() {
    let mut rig = Rig::dynamic().stable(&[("a", 0)]);
    rig.wait(1000);
    assert_eq!(rig.input(|g, now| g.handle_response(now, 1, &[1, 2, 3])), ["report BrokerMisbehaved"]);
    assert_eq!(rig.wait(500).len(), 1);
    assert_eq!(rig.input(|g, now| g.handle_response(now, 1, &[])), [""; 0]);
}

#[test]
fn answers_that_nobody_asked_for_are_ignored() {
    let mut rig = Rig::dynamic();
    assert_eq!(rig.reply(ok(1, Some(&[("a", 0)]))), [""; 0]);
    assert_eq!(rig.broken(), [""; 0]);
}

#[test]
fn what_cannot_be_a_partition_is_left_out() {
    let mut rig = Rig::dynamic().joining();
    let reply = Reply {
        assignment: Some(Told::Partitions { parts: parts(&[("a", 0)]), strange: true }),
        ..ok(1, None)
    };
    assert_eq!(rig.reply(reply), ["report BrokerMisbehaved", "want names"]);
    assert_eq!(rig.next_beat(Reply { assignment: Some(Told::TooMany(9_000_000)), ..ok(1, None) }), [""; 0]);
    assert_eq!(rig.group.target, parts(&[("a", 0)]));
}
