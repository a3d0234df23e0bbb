//! Logs of leaders that are other ones (KIP-320).

use super::support::*;
use crate::LeaderEpoch;
use crate::delivery::*;

/// A leader that says of the very epoch that it ends behind the position is not asked about it for ever.
#[test]
fn a_divergence_at_the_position_or_behind_is_none() {
    let rig = Rig::new(auto());
    let epoch = rig.own(0, 100);
    let found = |epoch: i32, end: i64| (LeaderEpoch::from_wire(epoch).unwrap(), end);
    let last_epoch = |rig: &Rig| rig.lock().fetch_position(&tp(0)).unwrap().last_epoch;
    assert_eq!(last_epoch(&rig), LeaderEpoch::from_wire(4), "of the start");
    let diverged = |told| rig.lock().diverged(rig.now, &tp(0), epoch, 100, told);
    assert_eq!(diverged(found(3, 100)), Divergence::Same);
    assert_eq!(last_epoch(&rig), LeaderEpoch::from_wire(3), "asked about anew");
    assert_eq!(diverged(found(3, 130)), Divergence::Same);
    assert_eq!(last_epoch(&rig), None);
    assert!(matches!(diverged(found(2, 99)), Divergence::Truncated { position: 100, to: 99, .. }));
}

/// Wire batches of several leader epochs in one batch of the reader's: the cut is where the later epoch begins, not where
/// the batch does.
#[test]
fn a_cut_within_what_was_handed_out_at_once_is_found() {
    let mut rig = Rig::new(auto());
    let epoch = rig.own(0, 0);
    let of =
        |base: i64, epoch: i32| fill(writer(base).partition_leader_epoch(epoch), base, &[base, base + 1]);
    rig.push(0, joined([of(0, 5), of(2, 6), of(4, 6), of(6, 8)]));
    assert_eq!(offsets(&rig.batch()), [0, 1, 2, 3, 4, 5, 6, 7]);
    rig.pending();
    let found = |epoch: i32, end: i64| (LeaderEpoch::from_wire(epoch).unwrap(), end);
    let diverged = |told| match rig.lock().diverged(rig.now, &tp(0), epoch, 8, told) {
        Divergence::Truncated { to, epoch, .. } => (to, epoch.map(|e| e.0)),
        other => panic!("{other:?}"),
    };
    assert_eq!(diverged(found(6, 6)), (6, Some(6)));
    assert_eq!(diverged(found(6, 5)), (5, Some(6)));
    assert_eq!(diverged(found(5, 2)), (2, Some(5)));
    assert_eq!(diverged(found(5, 4)), (2, Some(5)), "of epoch 5 there were two");
}
