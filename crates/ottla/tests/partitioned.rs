//! A task for each partition: `run_partitioned`.

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use common::{GROUP, TOPIC, answered, broker, consumer, member, produce, tp};
use ottla::{Commit, Consumer, Error, ErrorKind, Event, Offset, PartitionConsumer, PartitionTaskError};
use ottla_broker::{Api, Broker};
use tokio::sync::{Notify, Semaphore};

/// What tasks tell: a line each.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>, Arc<Notify>);

impl Story {
    fn tell(&self, line: String) {
        self.0.lock().unwrap().push(line);
        self.1.notify_waiters();
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, line: &str) {
        loop {
            let told = self.1.notified();
            if self.lines().iter().any(|l| l == line) {
                return;
            }
            told.await;
        }
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|l| *l == line).count()
    }
}

/// Reads to the end and tells what it sees; `may_return` is asked before it returns.
async fn read(
    mut partition: PartitionConsumer,
    story: Story,
    may_return: Arc<Semaphore>,
) -> Result<(), Error> {
    let p = partition.topic_partition().partition();
    story.tell(format!("{p} begins"));
    while let Some(batch) = partition.next_batch().await? {
        assert_eq!(batch.partition(), p);
        story.tell(format!("{p} has {}", batch.len()));
    }
    story.tell(format!("{p} ends: {:?}", partition.end().unwrap()));
    may_return.acquire().await.unwrap().forget();
    story.tell(format!("{p} returns"));
    Ok(())
}

fn free() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1000))
}

fn committed(broker: &Broker, partition: i32) -> Option<i64> {
    broker.committed(GROUP, TOPIC, partition)
}

/// The consumer runs on a task of its own and is given back when all has ended.
fn spawn<F>(
    mut consumer: Consumer,
    task: impl Fn(PartitionConsumer) -> F + Send + 'static,
) -> tokio::task::JoinHandle<(Consumer, Result<(), PartitionTaskError>)>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    tokio::spawn(async move {
        let outcome = consumer.run_partitioned(task).await;
        (consumer, outcome)
    })
}

/// All tasks have ended well, and so does the consumer.
async fn close(running: tokio::task::JoinHandle<(Consumer, Result<(), PartitionTaskError>)>) {
    let (consumer, outcome) = running.await.unwrap();
    outcome.unwrap();
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_slow_holds_up_no_other() {
    let broker = broker(3).await;
    produce(&broker, 3, 0..300);
    let consumer = member(&broker, 1).connect().await.unwrap();
    let handle = consumer.handle();
    let (story, go_on) = (Story::default(), Arc::new(Notify::new()));
    let running = spawn(consumer, {
        let (story, go_on) = (story.clone(), go_on.clone());
        move |mut partition| {
            let (story, go_on) = (story.clone(), go_on.clone());
            async move {
                let p = partition.topic_partition().partition();
                let mut records = 0;
                while let Some(batch) = partition.next_batch().await? {
                    if p == 0 {
                        go_on.notified().await;
                    }
                    records += batch.len();
                    story.tell(format!("{p} has {records}"));
                }
                Ok(())
            }
        }
    });
    story.until("1 has 100").await;
    story.until("2 has 100").await;
    produce(&broker, 3, 300..600);
    story.until("1 has 200").await;
    story.until("2 has 200").await;
    assert_eq!(story.count("0 has 100"), 0);
    go_on.notify_one();
    story.until("0 has 100").await;
    // Nobody came back from what is in hand: that of 0 is still worked on when it all ends.
    handle.shutdown();
    go_on.notify_one();
    close(running).await;
    assert_eq!([0, 1, 2].map(|p| committed(&broker, p)), [Some(200), Some(200), Some(200)]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_waits_for_the_task_to_return_and_the_next_task_begins_when_it_comes_again() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let one = member(&broker, 1).connect().await.unwrap();
    let handle = one.handle();
    let (story, may_return) = (Story::default(), Arc::new(Semaphore::new(0)));
    let running = spawn(one, {
        let (story, may_return) = (story.clone(), may_return.clone());
        move |partition| read(partition, story.clone(), may_return.clone())
    });
    story.until("0 has 10").await;
    story.until("1 has 10").await;
    let mut two = member(&broker, 2).connect().await.unwrap();
    let mut next = Box::pin(two.next_event());
    let revoked = async {
        tokio::select! {
            () = story.until("0 ends: Revoked") => 0,
            () = story.until("1 ends: Revoked") => 1,
        }
    };
    let given = tokio::select! {
        given = revoked => given,
        event = &mut next => panic!("{event:?} before the task ended"),
    };
    // Ten seconds: well within the deadline. The partition is still this member's.
    let early = tokio::time::timeout(Duration::from_secs(10), &mut next).await;
    assert!(early.is_err(), "{early:?} before the task returned");
    assert!(handle.assignment().unwrap().contains(&tp(given)));
    may_return.add_permits(1);
    let event = next.await.unwrap();
    assert!(matches!(&event, Some(Event::Assigned(tps)) if *tps == [tp(given)]), "{event:?}");
    assert_eq!(story.count(&format!("{given} returns")), 1);
    assert_eq!(committed(&broker, given), Some(10));
    // The other one leaves: it comes again, and so does a task.
    two.close().await.unwrap();
    produce(&broker, 2, 20..40);
    let begins = format!("{given} begins");
    while story.count(&begins) < 2 {
        story.1.notified().await;
    }
    may_return.add_permits(1000);
    handle.shutdown();
    close(running).await;
    assert_eq!(story.count("0 ends: Shutdown") + story.count("1 ends: Shutdown"), 2);
    assert_eq!(story.count("0 begins") + story.count("1 begins"), 3);
}

#[tokio::test(start_paused = true)]
async fn the_first_task_that_fails_ends_all_and_its_work_is_not_committed() {
    let broker = broker(3).await;
    produce(&broker, 3, 0..30);
    let consumer = member(&broker, 1).connect().await.unwrap();
    let story = Story::default();
    let running = spawn(consumer, {
        let story = story.clone();
        move |mut partition| {
            let story = story.clone();
            async move {
                let p = partition.topic_partition().partition();
                while let Some(batch) = partition.next_batch().await? {
                    story.tell(format!("{p} has {}", batch.len()));
                    if p == 1 {
                        story.until("0 has 10").await;
                        story.until("2 has 10").await;
                        return Err(Error::new(ErrorKind::ApiMisuse, "the database is gone"));
                    }
                }
                story.tell(format!("{p} ends: {:?}", partition.end().unwrap()));
                Ok(())
            }
        }
    });
    let (consumer, outcome) = running.await.unwrap();
    let error = outcome.unwrap_err();
    assert!(
        matches!(&error, PartitionTaskError::Task { topic_partition, .. } if *topic_partition == tp(1)),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("orders-1") && text.contains("the database is gone"), "{text}");
    consumer.close().await.unwrap();
    let lines = story.lines();
    assert_eq!((story.count("0 ends: Shutdown"), story.count("2 ends: Shutdown")), (1, 1), "{lines:?}");
    assert_eq!([0, 1, 2].map(|p| committed(&broker, p)), [Some(10), Some(0), Some(10)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_task_ends_all_and_is_told() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let consumer = member(&broker, 1).connect().await.unwrap();
    let running = spawn(consumer, |mut partition| async move {
        while let Some(batch) = partition.next_batch().await? {
            assert!(batch.partition() != 1, "number {} cannot be", batch.partition());
        }
        Ok(())
    });
    let (consumer, outcome) = running.await.unwrap();
    let error = outcome.unwrap_err();
    assert!(
        matches!(&error, PartitionTaskError::Panicked { topic_partition, message: Some(message) }
            if *topic_partition == tp(1) && message == "number 1 cannot be"),
        "{error:?}"
    );
    consumer.close().await.unwrap();
    assert_eq!(committed(&broker, 1), Some(0), "where it began");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_stuck_loses_its_partition_and_the_next_one_waits_for_it() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let builder = member(&broker, 1).max_poll_interval(Duration::from_secs(60));
    let consumer = builder.connect().await.unwrap();
    let handle = consumer.handle();
    let (story, go_on) = (Story::default(), Arc::new(Semaphore::new(0)));
    let running = spawn(consumer, {
        let (story, go_on) = (story.clone(), go_on.clone());
        move |mut partition| {
            let (story, go_on) = (story.clone(), go_on.clone());
            async move {
                let p = partition.topic_partition().partition();
                story.tell(format!("{p} begins"));
                while let Some(batch) = partition.next_batch().await? {
                    story.tell(format!("{p} has {}", batch.len()));
                    if p == 0 {
                        go_on.acquire().await.unwrap().forget();
                    }
                }
                story.tell(format!("{p} ends: {:?}", partition.end().unwrap()));
                Ok(())
            }
        }
    });
    // The member leaves and joins again; the other partition's next task begins at once.
    story.until("1 ends: Lost").await;
    while story.count("1 begins") < 2 {
        story.1.notified().await;
    }
    assert_eq!((story.count("0 begins"), story.count("0 ends: Lost")), (1, 0));
    // What waits for a task that has not returned is nobody's fault any more: the other goes on undisturbed.
    produce(&broker, 2, 20..40);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((story.count("1 begins"), story.count("1 ends: Lost")), (2, 1), "{:?}", story.lines());
    assert_eq!(handle.assignment().unwrap(), [tp(0), tp(1)]);
    go_on.add_permits(1000);
    story.until("0 ends: Lost").await;
    while story.count("0 begins") < 2 {
        story.1.notified().await;
    }
    handle.shutdown();
    close(running).await;
    assert_eq!(committed(&broker, 1), Some(20));
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_leaves_the_tasks_to_the_next_call() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    let (story, may_return) = (Story::default(), free());
    let task = |partition| read(partition, story.clone(), may_return.clone());
    tokio::select! {
        outcome = consumer.run_partitioned(task) => panic!("{outcome:?}"),
        () = story.until("1 has 10") => {}
    }
    story.until("0 has 10").await;
    // They go on without it.
    produce(&broker, 2, 20..30);
    story.until("0 has 5").await;
    story.until("1 has 5").await;
    consumer.handle().shutdown();
    consumer.run_partitioned(task).await.unwrap();
    assert_eq!((story.count("0 begins"), story.count("1 begins")), (1, 1));
    assert_eq!((story.count("0 returns"), story.count("1 returns")), (1, 1));
    consumer.close().await.unwrap();
    assert_eq!([0, 1].map(|p| committed(&broker, p)), [Some(15), Some(15)]);
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_consumer_that_is_dropped_are_not_aborted_and_learn_of_it() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = consumer(&broker).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let (story, may_return) = (Story::default(), free());
    tokio::select! {
        outcome = consumer.run_partitioned(|p| read(p, story.clone(), may_return.clone())) => {
            panic!("{outcome:?}");
        }
        () = story.until("0 has 10") => {}
    }
    drop(consumer);
    story.until("0 ends: Shutdown").await;
    story.until("0 returns").await;
}

#[tokio::test(start_paused = true)]
async fn a_task_commits_what_it_was_given() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).commit(Commit::Manual).connect().await.unwrap();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let handle = consumer.handle();
    consumer
        .run_partitioned(|mut partition| {
            let (seen, handle) = (seen.clone(), handle.clone());
            async move {
                while let Some(batch) = partition.next_batch().await? {
                    seen.lock().unwrap().extend(batch.iter().map(|record| record.offset()));
                    partition.commit(&batch).await.expect("it is owned");
                    handle.shutdown();
                }
                Ok::<_, Error>(())
            }
        })
        .await
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 10);
    assert_eq!(committed(&broker, 0), Some(10));
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_consumer_ends_all_tasks() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let consumer = member(&broker, 1).connect().await.unwrap();
    let (story, may_return) = (Story::default(), free());
    let running = spawn(consumer, {
        let story = story.clone();
        move |partition| read(partition, story.clone(), may_return.clone())
    });
    story.until("0 has 10").await;
    let mark = broker.mark();
    let refused = ottla_broker::Fault::on(Api::Heartbeat).always();
    broker.fault(refused.error(ottla_broker::ErrorCode::GROUP_AUTHORIZATION_FAILED));
    answered(&broker, mark, Api::Heartbeat).await;
    let (consumer, outcome) = running.await.unwrap();
    let error = outcome.unwrap_err();
    assert!(
        matches!(&error, PartitionTaskError::Consumer(e) if e.kind() == ErrorKind::Authorization),
        "{error:?}"
    );
    assert_eq!(story.lines(), ["0 begins", "0 has 10"], "the task met it too");
    drop(consumer);
}

#[test]
fn it_needs_a_runtime_to_spawn_on_and_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut consumer = runtime.block_on(async {
        let broker = broker(1).await;
        consumer(&broker).connect().await.unwrap()
    });
    let mut run = pin!(consumer.run_partitioned(|_| async { Ok::<_, Error>(()) }));
    let mut cx = Context::from_waker(Waker::noop());
    let std::task::Poll::Ready(Err(error)) = run.as_mut().poll(&mut cx) else { panic!("no error") };
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_outlives_its_task_reads_nothing_of_the_next_one() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let consumer = member(&broker, 1).connect().await.unwrap();
    let handle = consumer.handle();
    let (story, kept) = (Story::default(), Arc::new(Mutex::new(Vec::new())));
    let running = spawn(consumer, {
        let (story, kept) = (story.clone(), kept.clone());
        move |mut partition| {
            let (story, kept) = (story.clone(), kept.clone());
            async move {
                let first = kept.lock().unwrap().is_empty();
                if first {
                    partition.next_batch().await?;
                    kept.lock().unwrap().push(partition);
                    return Ok(());
                }
                story.tell("the next".to_owned());
                while let Some(batch) = partition.next_batch().await? {
                    story.tell(format!("has {}", batch.len()));
                }
                Ok(())
            }
        }
    });
    story.until("the next").await;
    produce(&broker, 1, 10..30);
    let mut old = kept.lock().unwrap().pop().unwrap();
    assert!(old.next_batch().await.unwrap().is_none());
    assert!(old.end().is_some());
    story.until("has 20").await;
    handle.shutdown();
    running.await.unwrap().1.unwrap();
}
