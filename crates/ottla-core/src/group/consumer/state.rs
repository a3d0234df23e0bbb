//! The states of a member.

use ottla_wire::Uuid;

use crate::Rng;

/// Where a member of a consumer group stands. See the [module](super) for the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConsumerState {
    /// No topics, no membership.
    Unsubscribed,
    /// Wants to be a member.
    Joining,
    /// On the way to what the coordinator wants it to own.
    Reconciling,
    /// About to tell what it owns.
    Acknowledging,
    /// Owns what the coordinator wants.
    Stable,
    /// The membership is over; joins again after a pause.
    Fenced,
    /// Gives everything back before it leaves.
    PrepareLeaving,
    /// The leave is sent.
    Leaving,
    /// `max_poll_interval` was exceeded.
    Stale,
    /// A fatal error was told.
    Fatal,
}

impl ConsumerState {
    /// Its name, for traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsubscribed => "Unsubscribed",
            Self::Joining => "Joining",
            Self::Reconciling => "Reconciling",
            Self::Acknowledging => "Acknowledging",
            Self::Stable => "Stable",
            Self::Fenced => "Fenced",
            Self::PrepareLeaving => "PrepareLeaving",
            Self::Leaving => "Leaving",
            Self::Stale => "Stale",
            Self::Fatal => "Fatal",
        }
    }

    /// Whether heartbeats are sent.
    pub(super) fn beats(self) -> bool {
        matches!(
            self,
            Self::Joining
                | Self::Reconciling
                | Self::Acknowledging
                | Self::Stable
                | Self::Fenced
                | Self::PrepareLeaving
        )
    }

    pub(super) fn wants_coordinator(self) -> bool {
        self.beats() || self == Self::Leaving
    }
}

/// An id as Java's clients make it: a random UUID (version 4) in Kafka's form.
pub(super) fn new_member_id(rng: &mut Rng) -> String {
    let mut bytes = [0; 16];
    let (high, low) = bytes.split_at_mut(8);
    // As version 4 of RFC 9562 says.
    let random = (rng.next_u64() & !0xf000) | 0x4000;
    high.copy_from_slice(&random.to_be_bytes());
    let random = (rng.next_u64() & !(0b11 << 62)) | (0b10 << 62);
    low.copy_from_slice(&random.to_be_bytes());
    Uuid(bytes).to_string()
}
