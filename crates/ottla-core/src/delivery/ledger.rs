//! The byte ledger: every allocation that holds records counts once, whole, and by who needs it.
//!
//! While something that was not handed out yet lies in it, an allocation is in the *ledger*, which fetching is
//! bounded by. Once only handles of the user hold it, it is *pinned*, which is reported and never blocks. The
//! counters are atomics because a handle may be dropped anywhere, also by a thread that holds the lock.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// What is touched without the lock: the two counters and the way to the driver.
///
/// The driver's waker is called wherever something happens, also under the lock of the state: it must do no
/// more than say that the driver is to run, which is what wakers do.
#[derive(Debug, Default)]
pub(super) struct Signals {
    limit: usize,
    ledger: AtomicIsize,
    /// What of it is decoded, or being decoded, ahead of the reader.
    ahead: AtomicIsize,
    pinned: AtomicIsize,
    /// The driver waits until this much is free; 0: it does not wait.
    room_wanted: AtomicUsize,
    /// Something waits for handles to be dropped.
    watch_handles: AtomicBool,
    driver_dirty: AtomicBool,
    driver_waker: Mutex<Option<Waker>>,
}

impl Signals {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn ledger(&self) -> usize {
        // Released on one thread before it was seen as taken on another: negative for a moment.
        usize::try_from(self.ledger.load(Ordering::SeqCst)).unwrap_or(0)
    }

    pub(super) fn ahead(&self) -> usize {
        usize::try_from(self.ahead.load(Ordering::SeqCst)).unwrap_or(0)
    }

    pub(super) fn pinned(&self) -> usize {
        usize::try_from(self.pinned.load(Ordering::SeqCst)).unwrap_or(0)
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.ledger())
    }

    /// What is free. If it is less than `wanted`, the driver is woken when there is that much.
    pub(super) fn room(&self, wanted: usize) -> usize {
        if self.free() < wanted {
            // Stored before the counter is read again: whoever releases in between sees one or the other.
            self.room_wanted.store(wanted.min(self.limit).max(1), Ordering::SeqCst);
        }
        self.free()
    }

    fn release(&self, bytes: usize) {
        add(&self.ledger, bytes, -1);
        let wanted = self.room_wanted.load(Ordering::SeqCst);
        if wanted > 0 && self.free() >= wanted && self.room_wanted.swap(0, Ordering::SeqCst) > 0 {
            self.wake_driver();
        }
    }

    /// From now on (or no longer) the driver is woken when the last handle of a batch is dropped.
    pub(super) fn set_watch_handles(&self, watch: bool) {
        self.watch_handles.store(watch, Ordering::SeqCst);
        // Pairs with the fence in `handle_dropped`: either that sees the flag, or we see the handle gone.
        fence(Ordering::SeqCst);
    }

    /// To be called when the last handle of a batch is gone.
    pub(super) fn handle_dropped(&self) {
        fence(Ordering::SeqCst);
        if self.watch_handles.load(Ordering::SeqCst) {
            self.wake_driver();
        }
    }

    /// To be called when nobody holds a record of a strip any more, after its counter was changed.
    #[inline]
    pub(super) fn record_dropped(&self) {
        // Both that counter and this flag are sequentially consistent wherever they are touched: either this sees
        // the flag, or whoever has set it sees the counter. That spares a fence for every record.
        if self.watch_handles.load(Ordering::SeqCst) {
            self.wake_driver();
        }
    }

    pub(super) fn wake_driver(&self) {
        self.driver_dirty.store(true, Ordering::SeqCst);
        let waker = self.driver_waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn set_driver_waker(&self, waker: Waker) {
        let mut slot = self.driver_waker.lock().unwrap_or_else(PoisonError::into_inner);
        let old = slot.replace(waker);
        drop(slot);
        // Dropping a waker may run foreign code.
        drop(old);
    }

    pub(super) fn take_driver_dirty(&self) -> bool {
        self.driver_dirty.swap(false, Ordering::SeqCst)
    }
}

fn add(counter: &AtomicIsize, bytes: usize, sign: isize) {
    // An allocation never has more than isize::MAX bytes; a made-up number wraps and is taken off again alike.
    counter.fetch_add((bytes as isize).wrapping_mul(sign), Ordering::SeqCst);
}

/// One allocation and who needs it: how many hold it in the ledger, and in the upper half how many pin it. One word,
/// so that whoever gives up the last of either knows what is left of the other.
struct Account {
    bytes: AtomicUsize,
    state: AtomicU64,
    /// Bytes of it that are still queued.
    queued: AtomicUsize,
    /// It counts as decoded ahead.
    is_ahead: AtomicBool,
    signals: Arc<Signals>,
}

impl Account {
    /// Does not change any more once there is no hold.
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

const ONE_HOLD: u64 = 1;
const ONE_PIN: u64 = 1 << 32;
const HOLDS: u64 = ONE_PIN - 1;

/// Keeps an allocation in the ledger. Counted whole until the last clone is dropped; from then on it counts as pinned
/// as long as handed-out records lie in it.
pub struct FrameCharge(Arc<Account>);

impl FrameCharge {
    pub(super) fn new(signals: &Arc<Signals>, bytes: usize) -> Self {
        add(&signals.ledger, bytes, 1);
        Self(Arc::new(Account {
            bytes: AtomicUsize::new(bytes),
            state: AtomicU64::new(ONE_HOLD),
            queued: AtomicUsize::new(0),
            is_ahead: AtomicBool::new(false),
            signals: Arc::clone(signals),
        }))
    }

    /// The same for what is decoded before the reader came to it.
    pub(super) fn new_ahead(signals: &Arc<Signals>, bytes: usize) -> Self {
        add(&signals.ahead, bytes, 1);
        let charge = Self::new(signals, bytes);
        charge.0.is_ahead.store(true, Ordering::Relaxed);
        charge
    }

    /// The reader has come to it.
    pub(super) fn reached(&self) {
        if self.0.is_ahead.swap(false, Ordering::Relaxed) {
            add(&self.0.signals.ahead, self.bytes(), -1);
        }
    }

    /// The size of the allocation, or of all that were added up.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Counts another allocation that is given back with this one: batches that are decoded for one read.
    pub(super) fn grow(&self, bytes: usize) {
        // There is one hold at least, this one, so what is there is in the ledger.
        add(&self.0.signals.ledger, bytes, 1);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether less than a quarter of it is still queued: worth copying out so that the rest is freed.
    pub(super) fn is_small_rest(&self) -> bool {
        self.0.queued.load(Ordering::Relaxed).saturating_mul(4) < self.bytes()
    }

    /// Whether some of it is not queued any more.
    pub(super) fn is_rest(&self) -> bool {
        self.0.queued.load(Ordering::Relaxed) < self.bytes()
    }

    /// Whether handed-out records lie in it: then copying out what is queued frees no memory.
    pub(super) fn is_pinned(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) >= ONE_PIN
    }
}

impl Clone for FrameCharge {
    fn clone(&self) -> Self {
        // There is one hold at least, this one, so it is in the ledger already.
        self.0.state.fetch_add(ONE_HOLD, Ordering::SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for FrameCharge {
    fn drop(&mut self) {
        let account = &*self.0;
        let before = account.state.fetch_sub(ONE_HOLD, Ordering::SeqCst);
        if before & HOLDS != ONE_HOLD {
            return;
        }
        self.reached();
        if before >= ONE_PIN {
            add(&account.signals.pinned, account.bytes(), 1);
        }
        account.signals.release(account.bytes());
    }
}

impl fmt::Debug for FrameCharge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameCharge({} bytes)", self.bytes())
    }
}

/// Part of an allocation that waits to be handed out.
#[derive(Debug)]
pub(super) struct Queued {
    charge: FrameCharge,
    bytes: usize,
}

impl Queued {
    pub(super) fn new(charge: FrameCharge, bytes: usize) -> Self {
        charge.0.queued.fetch_add(bytes, Ordering::Relaxed);
        Self { charge, bytes }
    }

    pub(super) fn charge(&self) -> &FrameCharge {
        &self.charge
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes up to `bytes` off: they are handed out, or held by another part.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        self.bytes -= bytes;
        self.charge.0.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes up to `bytes` off, for another part to hold.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { charge: self.charge.clone(), bytes }
    }

    /// What is handed out holds the allocation from now on.
    pub(super) fn pin(&self) -> Pin {
        self.charge.0.state.fetch_add(ONE_PIN, Ordering::SeqCst);
        Pin(Arc::clone(&self.charge.0))
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.charge.0.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Held by a handed-out batch for each allocation that it lies in.
pub(super) struct Pin(Arc<Account>);

/// Pins what one batch lies in: an allocation once, however many of its parts are in it.
#[derive(Default)]
pub(super) struct Pins(Option<*const Account>);

impl Pins {
    /// The pin of the next part; `None` if that of the part before holds it as well.
    pub(super) fn pin(&mut self, queued: &Queued) -> Option<Pin> {
        let account = Arc::as_ptr(&queued.charge.0);
        (self.0.replace(account) != Some(account)).then(|| queued.pin())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.0.state.fetch_sub(ONE_PIN, Ordering::SeqCst);
        if before == ONE_PIN {
            add(&self.0.signals.pinned, self.0.bytes(), -1);
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({} bytes)", self.0.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_counts_whole_in_the_ledger_until_its_last_slice_goes_and_is_pinned_after_that() {
        let signals = Arc::new(Signals::new(1000));
        let frame = FrameCharge::new(&signals, 600);
        let (a, b) = (Queued::new(frame.clone(), 100), Queued::new(frame.clone(), 50));
        drop(frame);
        assert_eq!((signals.ledger(), signals.pinned()), (600, 0));
        let pin = a.pin();
        drop(a);
        assert_eq!((signals.ledger(), signals.pinned()), (600, 0), "b still waits in it");
        drop(b);
        assert_eq!((signals.ledger(), signals.pinned()), (0, 600));
        drop(pin);
        assert_eq!((signals.ledger(), signals.pinned()), (0, 0));
    }

    #[test]
    fn a_charge_that_grows_is_counted_and_given_back_whole() {
        let signals = Arc::new(Signals::new(1000));
        let charge = FrameCharge::new(&signals, 100);
        let mut all = Queued::new(charge.clone(), 300);
        charge.grow(200);
        drop(charge);
        let (first, mut pins) = (all.split(100), Pins::default());
        let pinned = (pins.pin(&first), pins.pin(&all));
        assert!(pinned.0.is_some() && pinned.1.is_none());
        drop(first);
        assert_eq!((signals.ledger(), signals.pinned()), (300, 0));
        drop(all);
        assert_eq!((signals.ledger(), signals.pinned()), (0, 300));
        drop(pinned);
        assert_eq!((signals.ledger(), signals.pinned()), (0, 0));
    }

    #[test]
    fn a_pin_that_goes_before_the_last_slice_leaves_nothing_pinned() {
        let signals = Arc::new(Signals::new(1000));
        let slice = Queued::new(FrameCharge::new(&signals, 600), 100);
        drop(slice.pin());
        assert_eq!((signals.ledger(), signals.pinned()), (600, 0));
        drop(slice);
        assert_eq!((signals.ledger(), signals.pinned()), (0, 0));
    }

    #[test]
    fn the_driver_is_woken_once_the_room_it_waits_for_is_there() {
        let signals = Arc::new(Signals::new(1000));
        let (a, b) = (FrameCharge::new(&signals, 700), FrameCharge::new(&signals, 400));
        assert_eq!(signals.room(500), 0);
        drop(b);
        assert!(!signals.take_driver_dirty(), "300 are free");
        drop(a);
        assert!(signals.take_driver_dirty());
        drop(FrameCharge::new(&signals, 900));
        assert!(!signals.take_driver_dirty(), "nobody waits any more");
    }

    #[test]
    fn the_rest_of_a_frame_is_small_below_a_quarter() {
        let signals = Arc::new(Signals::new(1000));
        let frame = FrameCharge::new(&signals, 400);
        let mut slice = Queued::new(frame.clone(), 400);
        slice.shrink(300);
        assert!(!frame.is_small_rest());
        slice.shrink(1);
        assert!(frame.is_small_rest());
    }
}
