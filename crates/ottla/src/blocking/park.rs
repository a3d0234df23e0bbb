//! A future on the calling thread, which sleeps while it waits.

use std::convert::Infallible;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Parked {
    thread: Thread,
    /// Somebody else may unpark a thread too, and it may wake up by itself.
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// What the future gives.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    match drive(future, || {
        thread::park();
        ControlFlow::<Infallible>::Continue(())
    }) {
        ControlFlow::Continue(output) => output,
        ControlFlow::Break(never) => match never {},
    }
}

/// What the future gives, or `None` if that takes longer than `timeout`. It is polled once at least.
pub(super) fn block_on_for<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    // A time that lies beyond what the clock can say does not come.
    let deadline = Instant::now().checked_add(timeout);
    let wait = || {
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return ControlFlow::Break(()),
            Some(left) => thread::park_timeout(left),
        }
        ControlFlow::Continue(())
    };
    match drive(future, wait) {
        ControlFlow::Continue(output) => Some(output),
        ControlFlow::Break(()) => None,
    }
}

/// Polls the future whenever it is woken, and has `wait` pass the time until then.
fn drive<F: Future, B>(future: F, wait: impl Fn() -> ControlFlow<B>) -> ControlFlow<B, F::Output> {
    // Inside of a runtime a task's budget is given back when it yields, which a thread that sleeps does not.
    let mut future = pin!(tokio::task::unconstrained(future));
    let parked = Arc::new(Parked { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&parked));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return ControlFlow::Continue(output);
        }
        while !parked.woken.swap(false, Ordering::Acquire) {
            wait()?;
        }
    }
}
