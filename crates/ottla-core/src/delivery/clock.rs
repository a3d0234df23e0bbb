//! The poll clock (`max.poll.interval.ms`, KIP-62): how long the reader has stayed away.

use crate::Timestamp;

/// Runs while something is there for the reader and it does not come; stands while nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollClock {
    /// Nothing is there for the reader.
    Standing,
    /// Something is, from the next time that is told on: the call that brought it knew no time.
    Due,
    /// Something is, since then.
    Running(Timestamp),
    /// The time was over and that was told; the reader starts it anew.
    Expired,
}

impl PollClock {
    /// Lets it run or stand. Gives whether it started, so that a deadline exists which did not before.
    pub(super) fn update(&mut self, run: bool, now: Option<Timestamp>) -> bool {
        let next = match (*self, run, now) {
            (Self::Expired, ..) => Self::Expired,
            (_, false, _) => Self::Standing,
            (Self::Running(since), true, _) => Self::Running(since),
            (_, true, Some(now)) => Self::Running(now),
            (_, true, None) => Self::Due,
        };
        let started = *self == Self::Standing && next != Self::Standing;
        *self = next;
        started
    }

    /// The reader came.
    pub(super) fn stop(&mut self) {
        *self = Self::Standing;
    }

    /// Since when it runs; the inner `None` is `Due`, which has no time yet.
    pub(super) fn running(self) -> Option<Option<Timestamp>> {
        match self {
            Self::Standing | Self::Expired => None,
            Self::Due => Some(None),
            Self::Running(since) => Some(Some(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_time_it_started_at_and_stands_when_nothing_is_there() {
        let (a, b) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        let mut clock = PollClock::Standing;
        assert!(clock.update(true, None));
        assert_eq!(clock, PollClock::Due);
        assert!(!clock.update(true, Some(a)));
        assert!(!clock.update(true, Some(b)));
        assert_eq!(clock.running(), Some(Some(a)));
        clock.update(false, Some(b));
        assert_eq!(clock.running(), None);
    }

    #[test]
    fn expired_stays_so_until_the_reader_comes() {
        let mut clock = PollClock::Expired;
        assert!(!clock.update(true, Some(Timestamp::ZERO)));
        assert_eq!(clock.running(), None);
        clock.stop();
        assert!(clock.update(true, Some(Timestamp::ZERO)));
    }
}
