//! The threads that decode ahead of the reader.

use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle};

use ottla_core::delivery::{BatchDecoder, Shared};
use ottla_core::{Error, ErrorKind};

use super::hub::lock;

/// Ends its threads when it is dropped. Nobody waits for that: each finishes the batch that it is at.
#[derive(Debug)]
pub(crate) struct Decoders {
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the times that there was something new to do.
    news: u64,
    stopped: bool,
}

impl Decoders {
    /// Starts so many threads.
    pub(crate) fn spawn(threads: usize, delivery: &Arc<Shared>) -> Result<Self, Error> {
        let signal = Arc::new(Signal::default());
        delivery.set_decoder_waker(Waker::from(signal.clone()));
        // Dropped on an error, it ends those that were started.
        let mut decoders = Self { signal, threads: Vec::new() };
        for _ in 0..threads {
            let (signal, delivery) = (decoders.signal.clone(), Arc::downgrade(delivery));
            let thread = thread::Builder::new().name("ottla-decode".to_owned());
            let thread = thread.spawn(move || signal.work(&delivery)).map_err(|error| {
                Error::new(ErrorKind::Limit, format!("cannot start a thread for decoding: {error}"))
                    .with_source(error)
            })?;
            decoders.threads.push(thread);
        }
        Ok(decoders)
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        lock(&self.signal.state).stopped = true;
        self.signal.changed.notify_all();
    }
}

impl Signal {
    /// One thread's life. It does not keep the delivery alive while it waits.
    fn work(&self, delivery: &Weak<Shared>) {
        let mut decoder = BatchDecoder::default();
        loop {
            let state = lock(&self.state);
            let (news, stopped) = (state.news, state.stopped);
            drop(state);
            let Some(delivery) = delivery.upgrade().filter(|_| !stopped) else { return };
            // Looked at between batches, so that the end does not wait for all of them.
            match delivery.next_decode_job() {
                Some(job) => {
                    drop(delivery);
                    job.run(&mut decoder);
                }
                None => {
                    drop(delivery);
                    self.wait(news);
                }
            }
        }
    }

    /// Until there is something that was not there when `seen` was read.
    fn wait(&self, seen: u64) {
        let mut state = lock(&self.state);
        while state.news == seen && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        lock(&self.state).news += 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use ottla_core::config::Config;
    use ottla_core::delivery::DeliveryConfig;

    use super::*;

    fn threads(delivery: &Arc<Shared>) -> (Decoders, Vec<JoinHandle<()>>) {
        let mut decoders = Decoders::spawn(3, delivery).unwrap();
        let threads = std::mem::take(&mut decoders.threads);
        assert_eq!(threads.len(), 3);
        (decoders, threads)
    }

    fn delivery() -> Arc<Shared> {
        Shared::new(DeliveryConfig::from(&Config { decode_threads: 3, ..Config::default() }))
    }

    #[test]
    fn the_threads_end_when_the_driver_does() {
        let delivery = delivery();
        let (decoders, threads) = threads(&delivery);
        drop(decoders);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn they_keep_no_delivery_alive_and_end_without_one() {
        let delivery = delivery();
        let (decoders, threads) = threads(&delivery);
        let weak = Arc::downgrade(&delivery);
        drop(delivery);
        // Woken, they see that it is gone.
        decoders.signal.wake_by_ref();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(weak.upgrade().is_none());
    }
}
