//! How much memory client code asks for, in a world where clients, brokers and network share one thread.
//!
//! Counts only where a test's allocator tells it [`allocated`] and [`freed`].

use std::cell::Cell;

#[derive(Clone, Copy)]
struct Meter {
    /// Client code is running.
    inside: bool,
    /// What it has asked for and not given back, since it was entered.
    live: isize,
    /// The most that this has been in any call.
    most: isize,
    /// What everybody has asked for and not given back.
    total: isize,
}

thread_local! {
    static METER: Cell<Meter> = const { Cell::new(Meter { inside: false, live: 0, most: 0, total: 0 }) };
}

fn change(change: impl FnOnce(&mut Meter)) {
    // Nobody asks any more when the thread ends.
    let _ = METER.try_with(|meter| {
        let mut now = meter.get();
        change(&mut now);
        meter.set(now);
    });
}

/// To be called by the allocator.
pub fn allocated(bytes: usize) {
    change(|meter| {
        meter.total += bytes as isize;
        if meter.inside {
            meter.live += bytes as isize;
            meter.most = meter.most.max(meter.live);
        }
    });
}

/// To be called by the allocator.
pub fn freed(bytes: usize) {
    change(|meter| {
        meter.total -= bytes as isize;
        if meter.inside {
            meter.live -= bytes as isize;
        }
    });
}

/// The most that one call of a client has had at once, since this was last asked.
pub fn most() -> usize {
    let mut most = 0;
    change(|meter| most = std::mem::take(&mut meter.most));
    usize::try_from(most).unwrap_or(0)
}

/// What the whole thread has asked for and not given back.
pub fn total() -> isize {
    METER.with(Cell::get).total
}

/// Client code runs until this is dropped.
pub(super) struct Inside;

impl Inside {
    pub(super) fn enter() -> Self {
        change(|meter| (meter.inside, meter.live) = (true, 0));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        change(|meter| meter.inside = false);
    }
}
