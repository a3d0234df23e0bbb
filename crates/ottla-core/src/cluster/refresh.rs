//! When metadata is asked for. A test writes the table anew and compares:
//!
//! | state            | wanted           | sent      | all is answered | not all is answered | failed | max age is over  |
//! |------------------|------------------|-----------|-----------------|---------------------|--------|------------------|
//! | due              | due              | in flight | –               | –                   | –      | due              |
//! | in flight        | in flight, again | –         | fresh           | waits               | waits  | in flight        |
//! | in flight, again | in flight, again | –         | due             | waits               | waits  | in flight, again |
//! | fresh            | due              | in flight | –               | –                   | –      | due              |
//! | waits            | waits            | in flight | –               | –                   | –      | due              |

use std::time::Duration;

use crate::{Backoff, Rng, Timestamp};

/// The schedule of metadata requests: at once when somebody needs it, with backoff while it does not help, and
/// in any case when it is old.
#[derive(Debug)]
pub(crate) struct Refresh {
    max_age: Duration,
    backoff: Backoff,
    due: Timestamp,
    in_flight: bool,
    /// Asked for while a request was in flight whose answer may be older than the reason.
    again: bool,
    not_before: Timestamp,
    /// When the last answer came, and how close a next one is one too many.
    answered_at: Option<Timestamp>,
    /// When the last request ended, well or not.
    ended_at: Option<Timestamp>,
    close: Duration,
}

impl Refresh {
    pub(crate) fn new(max_age: Duration, (initial, max): (Duration, Duration)) -> Self {
        Self {
            max_age,
            backoff: Backoff::new(initial, max),
            due: Timestamp::ZERO,
            in_flight: false,
            again: false,
            not_before: Timestamp::ZERO,
            answered_at: None,
            ended_at: None,
            close: max.saturating_mul(2),
        }
    }

    /// Somebody needs newer metadata.
    pub(crate) fn request(&mut self, now: Timestamp) {
        if self.in_flight {
            self.again = true;
        }
        self.due = self.due.min(now);
    }

    /// When a request may be sent; none while one is in flight.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        (!self.in_flight).then(|| self.due.max(self.not_before))
    }

    pub(crate) fn sent(&mut self) {
        self.in_flight = true;
        self.again = false;
    }

    /// An answer came. `complete`: everything that is wanted was in it. Gives whether it helped, as far as is known:
    /// it is complete, and not one of several in a row after which somebody asked for more.
    pub(crate) fn answered(&mut self, now: Timestamp, complete: bool, rng: &mut Rng) -> bool {
        self.ended(now);
        let close = self.answered_at.is_some_and(|at| now.since(at) < self.close);
        self.answered_at = Some(now);
        let helped;
        if complete && !self.again {
            // Whoever finds no help in one good answer after the other waits as well: for a partition that does
            // not exist, or a leader that is another one each time.
            let first = !close || self.backoff.failures() == 0;
            if !close {
                self.backoff.reset();
            }
            let pause = if close { self.backoff.next(rng) } else { Duration::ZERO };
            self.due = now + self.max_age;
            self.not_before = if first { now } else { now + pause };
            helped = first;
        } else {
            // Asked for again and again without help (a leader that lags behind, a topic that is not there):
            // the pauses grow. The first time somebody had only come too late for the request under way.
            let first = complete && self.backoff.failures() == 0;
            let pause = self.backoff.next(rng);
            self.not_before = if first { now } else { now + pause };
            self.due = now;
            helped = first;
        }
        self.again = false;
        helped
    }

    /// A request came to an end. What did not help long ago says nothing of what is the matter now.
    fn ended(&mut self, now: Timestamp) {
        self.in_flight = false;
        if self.ended_at.is_some_and(|at| now.since(at) >= self.close) {
            self.backoff.reset();
        }
        self.ended_at = Some(now);
    }

    /// The request failed.
    pub(crate) fn failed(&mut self, now: Timestamp, rng: &mut Rng) {
        self.ended(now);
        self.again = false;
        self.due = now;
        self.not_before = now + self.backoff.next(rng);
    }

    /// Whether somebody asked while a request was in flight.
    #[cfg(test)]
    pub(crate) fn is_asked_again(&self) -> bool {
        self.again
    }
}
