//! Between the classic and the consumer protocol and back, while members are in the group.

use ottla_broker::{GroupInfo, GroupState};
use ottla_core::Timestamp;

/// The group turns classic with what its members shall have in the end, and calls them to join: nobody has that yet. If
/// it turns to the consumer protocol before they have joined, Kafka takes it for what they have, and who still holds a
/// part of that learns so with its next heartbeat. The coordinator's word is not to be trusted meanwhile.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Members of the consumer protocol are, or were last, in the group.
    consumer: bool,
    /// It has turned classic, and not everybody has joined since.
    unjoined: bool,
    in_haste: Option<Timestamp>,
}

impl Turns {
    pub(super) fn observe(&mut self, now: Timestamp, group: &GroupInfo) {
        // The broker sets their session timeout.
        let consumer = group.members.iter().any(|m| m.session_timeout.is_zero());
        if consumer {
            if std::mem::take(&mut self.unjoined) {
                self.in_haste = Some(now);
            }
            self.consumer = true;
            return;
        }
        match group.state {
            GroupState::PreparingRebalance | GroupState::CompletingRebalance => {
                self.unjoined |= std::mem::take(&mut self.consumer);
            }
            _ => (self.consumer, self.unjoined) = (false, false),
        }
    }

    /// When it turned to the consumer protocol last before everybody had joined.
    pub(super) fn in_haste(&self) -> Option<Timestamp> {
        self.in_haste
    }
}
