//! What the tests of this program share: runs on virtual time, futures that are polled and dropped, what was seen.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ottla::{Batch, Builder, Commit, Consumer, GroupProtocol, TopicPartition};
use ottla_broker::Broker;
use tokio::runtime::{Handle, Runtime};

use crate::net::Net;

pub const TOPIC: &str = "orders";
pub const OTHER: &str = "payments";
pub const GROUP: &str = "billing";
pub const PARTITIONS: i32 = 2;

pub fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

pub fn all() -> Vec<TopicPartition> {
    (0..PARTITIONS).map(tp).collect()
}

/// A runtime whose clock stands while anything can be done. Without sockets: whoever opened one would fail.
pub fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// One run on a clock of its own. An hour of it is for ever.
pub fn run<T>(body: impl Future<Output = T>) -> T {
    paused()
        .block_on(async { tokio::time::timeout(Duration::from_secs(3_600), body).await.expect("it ends") })
}

/// A cluster and the network to it.
pub struct World {
    pub net: Net,
    pub broker: Arc<Broker>,
    /// Tasks of the broker alone.
    tasks: usize,
}

impl World {
    pub async fn new(nodes: usize) -> Self {
        let builder = Broker::builder().in_memory().brokers(nodes).topic(TOPIC, PARTITIONS).topic(OTHER, 1);
        // Not the present time: it would be in the bytes.
        let builder = builder.configure(|config| config.start_time_ms = 1_700_000_000_000);
        let broker = Arc::new(builder.start().await.unwrap());
        Self { net: Net::new(broker.clone(), 1), broker, tasks: tasks() }
    }

    /// A consumer on the test's runtime and clock.
    pub fn consumer(&self) -> Builder {
        let net = self.net.clone();
        Consumer::builder(self.broker.bootstrap())
            .__connect_with(move |host, port| net.clone().connect(host, port))
            .__seed(1)
            .on_current_runtime()
            .max_batch_records(4)
    }

    /// A classic one: joining takes the most steps, at each of which something may end.
    pub fn member(&self) -> Builder {
        let member = self.consumer().group(GROUP).group_protocol(GroupProtocol::Classic);
        member.subscribe([TOPIC]).commit(Commit::Manual)
    }

    /// Appends `count` records to each partition, six in a batch; the values are the offsets.
    pub fn produce(&self, count: i64) {
        for partition in 0..PARTITIONS {
            let end = self.end(partition);
            for from in (end..end + count).step_by(6) {
                let values = (from..(end + count).min(from + 6)).map(|offset| offset.to_string());
                self.broker.produce(TOPIC, partition, values).unwrap();
            }
        }
    }

    pub fn end(&self, partition: i32) -> i64 {
        self.broker.log_end_offset(TOPIC, partition).unwrap()
    }

    pub fn committed(&self, partition: i32) -> Option<i64> {
        self.broker.committed(GROUP, TOPIC, partition)
    }

    /// Reads on until everything that was produced was seen.
    pub async fn read_to_the_end(&self, consumer: &mut Consumer, seen: &mut Seen) {
        while !(0..PARTITIONS).all(|p| seen.last(p) == Some(self.end(p) - 1)) {
            let batch = consumer.next_batch().await.unwrap().expect("nobody shuts it down");
            seen.batch(&batch);
            assert_eq!(consumer.position(batch.topic_partition()).unwrap(), Some(batch.next_offset()));
        }
    }

    /// No task and no socket of a consumer is left; with them go its timers, which live in one or the other.
    pub async fn assert_nothing_left(&self) {
        // The runtime takes an ended task away with its next turn, and the broker sees the end of a connection.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(self.net.sockets(), 0, "sockets are left");
        assert_eq!(self.broker.connection_count(), 0, "the broker has connections");
        assert_eq!(tasks(), self.tasks, "tasks are left");
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// After so many polls.
    pub polls: u32,
    /// Not at once, but when it was woken or something happened on the network: what it would have found at its
    /// next poll is there.
    pub late: bool,
}

/// Runs `case` for every number of polls from none up to that which completes, dropped at once and dropped late.
/// Returns how many polls it took.
pub fn for_every_cut(what: &str, case: impl AsyncFn(Cut) -> bool) -> u32 {
    let mut most = 0;
    for late in [false, true] {
        for polls in 0.. {
            assert!(polls < 1_000, "{what} never completes");
            let cut = Cut { polls, late };
            let completed = named(&format!("{what}: {cut:?}"), || run(case(cut)));
            if completed {
                most = most.max(polls);
                break;
            }
        }
    }
    most
}

/// Says which run it was if it fails.
pub fn named<T>(name: &str, body: impl FnOnce() -> T) -> T {
    struct Said<'a>(&'a str);
    impl Drop for Said<'_> {
        fn drop(&mut self) {
            eprintln!("the run: {}", self.0);
        }
    }
    let said = Said(name);
    let result = body();
    std::mem::forget(said);
    result
}

/// Polls a future whenever it is woken or anything happens on the network, and drops it as `cut` says.
///
/// A future that turns out to be ready without having been woken is a lost wake-up.
pub async fn polled<F: Future>(future: F, cut: Cut, net: &Net) -> Option<F::Output> {
    let mut future = pin!(future);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    for poll in 1..=cut.polls {
        let due = poll == 1 || woken.woken.swap(false, Ordering::AcqRel);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            assert!(due, "it was ready and nobody had woken it");
            return Some(output);
        }
        if poll < cut.polls || cut.late {
            let step = net.steps() + 1;
            tokio::select! {
                biased;
                () = woken.wait() => {}
                () = net.reached(step) => {}
                // Nothing happens any more; it may be that it does not complete.
                () = tokio::time::sleep(Duration::from_secs(600)) => {}
            }
        }
    }
    None
}

/// Tells a wake-up of the future from one of the task that polls it.
#[derive(Default)]
struct Woken {
    woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Woken {
    async fn wait(&self) {
        poll_fn(|cx| {
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            if self.woken.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What one reader was handed out, in order.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<i32, Vec<i64>>);

impl Seen {
    pub fn record(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        let value = std::str::from_utf8(value.expect("a value")).unwrap();
        assert_eq!(value, offset.to_string(), "the value at offset {offset} of partition {partition}");
        self.0.entry(partition).or_default().push(offset);
    }

    pub fn batch(&mut self, batch: &Batch) {
        for record in batch {
            self.record(record.partition(), record.offset(), record.value());
        }
    }

    pub fn last(&self, partition: i32) -> Option<i64> {
        self.of(partition).last().copied()
    }

    pub fn of(&self, partition: i32) -> &[i64] {
        self.0.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// Where a record does not follow the one before: the offset that was next, and the one that came.
    pub fn jumps(&self, partition: i32) -> Vec<(i64, i64)> {
        let mut next = 0;
        let mut jumps = Vec::new();
        for offset in self.of(partition) {
            if *offset != next {
                jumps.push((next, *offset));
            }
            next = offset + 1;
        }
        jumps
    }

    /// Every record of every partition, once and in order.
    pub fn assert_whole(&self, world: &World) {
        for partition in 0..PARTITIONS {
            assert_eq!(self.jumps(partition), [], "jumps in partition {partition}");
            assert_eq!(self.last(partition), Some(world.end(partition) - 1), "partition {partition}");
        }
    }
}
