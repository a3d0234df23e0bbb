//! Who woke the driver: one task waits for everything, and learns here what there is to do.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use ottla_core::client::CommitItem;
use ottla_core::{ConnectionId, TopicPartition};

/// Collects wake-ups until the driver's next turn, so that a turn costs what happened and not what exists.
#[derive(Debug, Default)]
pub(super) struct Hub {
    driver: Mutex<Option<Waker>>,
    ready: Mutex<Vec<ConnectionId>>,
    delivery: AtomicBool,
}

impl Hub {
    /// Makes `waker` the one that is woken from now on.
    pub(super) fn register(&self, waker: &Waker) {
        let mut driver = lock(&self.driver);
        if !driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *driver = Some(waker.clone());
        }
    }

    /// The connections whose sockets moved since the last call, into `into`.
    pub(super) fn take_ready(&self, into: &mut Vec<ConnectionId>) {
        into.append(&mut lock(&self.ready));
    }

    /// Whether the reader's side moved since the last call.
    pub(super) fn take_delivery(&self) -> bool {
        self.delivery.swap(false, Ordering::AcqRel)
    }

    fn wake_driver(&self) {
        // Cloned out: what a waker runs is not ours, and must not run under our lock.
        let waker = lock(&self.driver).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Woken by the reader's side, through the delivery.
#[derive(Debug)]
pub(super) struct DeliveryWaker(pub(super) Arc<Hub>);

impl Wake for DeliveryWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.0.delivery.swap(true, Ordering::AcqRel) {
            self.0.wake_driver();
        }
    }
}

/// Woken by one connection's socket.
#[derive(Debug)]
pub(super) struct ConnectionWaker {
    hub: Arc<Hub>,
    conn: ConnectionId,
    queued: AtomicBool,
}

impl ConnectionWaker {
    pub(super) fn new(hub: &Arc<Hub>, conn: ConnectionId) -> Arc<Self> {
        Arc::new(Self { hub: hub.clone(), conn, queued: AtomicBool::new(false) })
    }

    /// To be called before the socket is polled, so that a wake-up from then on counts again.
    pub(super) fn taken(&self) {
        // A swap, not a store: a wake-up that came before and queued nothing is seen here with everything that its
        // thread did before it. Behind a store the poll might miss that, and nobody would tell again.
        self.queued.swap(false, Ordering::AcqRel);
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.hub.ready).push(self.conn);
            self.hub.wake_driver();
        }
    }
}

/// Commits in the background that the driver has not taken yet: the latest of each partition, so that
/// committing after every record costs a map entry and no queue.
#[derive(Debug, Default)]
pub(crate) struct Background(Mutex<BTreeMap<TopicPartition, CommitItem>>);

impl Background {
    /// Adds `items`; true if the driver is to be told that there is something.
    pub(crate) fn add(&self, items: Vec<CommitItem>) -> bool {
        let mut waiting = lock(&self.0);
        let first = waiting.is_empty();
        for item in items {
            let topic_partition = match &item {
                CommitItem::Token(token) => token.topic_partition().clone(),
                CommitItem::Offset { topic_partition, .. } => topic_partition.clone(),
            };
            waiting.insert(topic_partition, item);
        }
        first && !waiting.is_empty()
    }

    pub(super) fn take(&self) -> Vec<CommitItem> {
        mem::take(&mut *lock(&self.0)).into_values().collect()
    }
}

/// No lock of this crate is held across a call that may panic, so a poisoned one is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_connection_is_queued_once_however_often_it_is_woken() {
        let hub = Arc::new(Hub::default());
        let count = Arc::new(Count::default());
        hub.register(&Waker::from(count.clone()));
        let connection = ConnectionWaker::new(&hub, ConnectionId(7));
        let waker = Waker::from(connection.clone());
        waker.wake_by_ref();
        waker.wake_by_ref();
        let mut ready = Vec::new();
        hub.take_ready(&mut ready);
        assert_eq!(ready, [ConnectionId(7)]);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);

        connection.taken();
        waker.wake_by_ref();
        hub.take_ready(&mut ready);
        assert_eq!(ready.len(), 2);
    }

    #[test]
    fn the_delivery_wakes_once_until_it_is_looked_at() {
        let hub = Arc::new(Hub::default());
        let count = Arc::new(Count::default());
        hub.register(&Waker::from(count.clone()));
        let waker = Waker::from(Arc::new(DeliveryWaker(hub.clone())));
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(hub.take_delivery());
        assert!(!hub.take_delivery());
    }
}
