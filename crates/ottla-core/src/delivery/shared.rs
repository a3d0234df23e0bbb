//! What reader and driver share: the state, its lock, and who is woken after it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ottla_wire::records::DecodeOptions;

use super::ledger::{FrameCharge, Signals};
use super::{Delivery, DeliveryConfig};
use crate::planted::planting;

/// The state of delivery behind its lock.
///
/// The lock is short: nothing is decoded, awaited or called back under it. A panic of another thread under the
/// lock does not poison it.
pub struct Shared {
    pub(super) state: Mutex<Delivery>,
    pub(super) signals: Arc<Signals>,
    pub(super) config: DeliveryConfig,
}

impl Shared {
    /// The state before the first assignment.
    pub fn new(config: DeliveryConfig) -> Arc<Self> {
        // What is decoded ahead has its share, or fetching would take all the room as it is freed.
        let room = config.max_buffered_bytes.saturating_sub(config.decode_ahead_bytes);
        let signals = Arc::new(Signals::new(room));
        Arc::new_cyclic(|shared| Self {
            state: Mutex::new(Delivery::new(config.clone(), shared.clone(), Arc::clone(&signals))),
            signals,
            config,
        })
    }

    /// Locks the state. What has to be woken is woken when the guard is dropped, after the lock.
    pub fn lock(&self) -> Guard<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { state, after: Wakes::default() }
    }

    /// Whether there may ever be something to decode ahead.
    pub fn decodes_ahead(&self) -> bool {
        self.config.decode_ahead_bytes > 0
    }

    pub(super) fn decode_options(&self) -> DecodeOptions {
        DecodeOptions {
            check_crcs: self.config.check_crcs && !planting!(CorruptTaken),
            max_decompressed_batch_bytes: self.config.max_decompressed_batch_bytes,
        }
    }

    /// Counts an allocation that records are read into; dropping the charge gives the bytes back.
    pub fn charge(&self, bytes: usize) -> FrameCharge {
        FrameCharge::new(&self.signals, bytes)
    }

    /// Whom to wake when the driver has something to do. Needs no lock.
    pub fn set_driver_waker(&self, waker: Waker) {
        self.signals.set_driver_waker(waker);
    }

    /// Whether the driver was woken since it last asked. Needs no lock.
    pub fn take_driver_dirty(&self) -> bool {
        self.signals.take_driver_dirty()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("signals", &self.signals).finish_non_exhaustive()
    }
}

/// The locked state.
pub struct Guard<'a> {
    // Fields are dropped in this order: the lock is given back before anyone is woken, so that a waker may do
    // what it likes.
    state: MutexGuard<'a, Delivery>,
    after: Wakes,
}

#[derive(Default)]
struct Wakes {
    driver: Option<Arc<Signals>>,
    wake: Vec<Waker>,
    /// Only dropped, which may free the task that held a reader.
    stale: Vec<Waker>,
}

impl Deref for Guard<'_> {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.state
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Delivery {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let wakes_driver = std::mem::take(&mut self.state.wakes_driver);
        self.after.driver = wakes_driver.then(|| Arc::clone(&self.state.signals));
        self.after.wake = std::mem::take(&mut self.state.wakes);
        self.after.stale = std::mem::take(&mut self.state.stale);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake_driver();
        }
        for waker in self.wake.drain(..) {
            waker.wake();
        }
        self.stale.clear();
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}
