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
