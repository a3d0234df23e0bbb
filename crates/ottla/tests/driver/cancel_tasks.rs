//! The futures of `run_partitioned` and of its tasks, polled n times and dropped; and reads while threads decode.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ottla::{Consumer, Error, Offset, PartitionConsumer};
use ottla_wire::records::{BatchWriter, Compression};

use crate::cancel::{READS, a_moment};
use crate::harness::{Cut, PARTITIONS, Seen, TOPIC, World, all, for_every_cut, polled, tp};
use crate::net::{Net, Weather};

const RECORDS: i64 = 12;

/// What tasks have seen, shared between them.
#[derive(Clone)]
struct Tasks {
    seen: Arc<Mutex<Seen>>,
    /// A future of a task has completed under the cut.
    completed: Arc<AtomicBool>,
    net: Net,
    cut: Cut,
}

impl Tasks {
    fn new(world: &World, cut: Cut) -> Self {
        let (seen, completed) = (Arc::default(), Arc::default());
        Self { seen, completed, net: world.net.clone(), cut }
    }

    /// Counts a batch, and ends everything when all has been seen.
    fn saw(&self, partition: &PartitionConsumer, batch: &ottla::Batch) {
        let mut seen = self.seen.lock().unwrap();
        seen.batch(batch);
        if (0..PARTITIONS).all(|p| seen.last(p) == Some(RECORDS - 1)) {
            partition.handle().shutdown();
        }
    }

    async fn read_on(&self, mut partition: PartitionConsumer) -> Result<(), Error> {
        while let Some(batch) = partition.next_batch().await? {
            self.saw(&partition, &batch);
            partition.commit(&batch).await.unwrap();
        }
        Ok(())
    }

    /// The first read is dropped.
    async fn read_cut(&self, mut partition: PartitionConsumer) -> Result<(), Error> {
        if let Some(read) = polled(partition.next_batch(), self.cut, &self.net).await {
            self.completed.store(true, Ordering::Release);
            let batch = read?.expect("nobody ends it");
            self.saw(&partition, &batch);
            partition.commit(&batch).await.unwrap();
        }
        self.read_on(partition).await
    }

    async fn finish(&self, world: &World, consumer: Consumer) {
        self.seen.lock().unwrap().assert_whole(world);
        consumer.close().await.unwrap();
        for partition in 0..PARTITIONS {
            assert_eq!(world.committed(partition), Some(RECORDS));
        }
        world.assert_nothing_left().await;
    }
}

#[test]
fn a_run_that_is_dropped_is_taken_over_by_the_next() {
    for weather in [Weather::Fair, Weather::Choppy] {
        let most = for_every_cut(&format!("{weather:?} run_partitioned"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            world.produce(RECORDS);
            let mut consumer = world.member().connect_lazy().unwrap();
            let tasks = Tasks::new(&world, cut);
            let task = |partition| {
                let tasks = tasks.clone();
                async move { tasks.read_on(partition).await }
            };
            let run = polled(consumer.run_partitioned(task), cut, &world.net).await;
            let completed = run.is_some();
            match run {
                Some(run) => run.unwrap(),
                None => consumer.run_partitioned(task).await.unwrap(),
            }
            tasks.finish(&world, consumer).await;
            completed
        });
        assert!(most >= 5, "only {most} polls with {weather:?}");
    }
}

#[test]
fn runs_that_are_dropped_again_and_again_lose_nothing() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for polls in 1..6 {
            for late in [false, true] {
                crate::harness::run(async {
                    let world = World::new(1).await;
                    world.net.set(weather);
                    world.produce(RECORDS);
                    let mut consumer = world.member().connect_lazy().unwrap();
                    let cut = Cut { polls, late };
                    let tasks = Tasks::new(&world, cut);
                    let task = |partition| {
                        let tasks = tasks.clone();
                        async move { tasks.read_on(partition).await }
                    };
                    let mut round = 0;
                    while polled(consumer.run_partitioned(task), cut, &world.net).await.is_none() {
                        round += 1;
                        assert!(round < 2_000, "it never ends");
                        tokio::time::sleep(std::time::Duration::from_millis(round % 4)).await;
                    }
                    tasks.finish(&world, consumer).await;
                });
            }
        }
    }
}

#[test]
fn a_read_of_a_task_that_is_dropped_took_nothing() {
    for weather in [Weather::Fair, Weather::Choppy] {
        for_every_cut(&format!("{weather:?} PartitionConsumer::next_batch"), async |cut| {
            let world = World::new(1).await;
            world.net.set(weather);
            world.produce(RECORDS);
            let mut consumer = world.member().connect_lazy().unwrap();
            let tasks = Tasks::new(&world, cut);
            let task = |partition: PartitionConsumer| {
                let tasks = tasks.clone();
                async move {
                    match partition.topic_partition().partition() {
                        0 => tasks.read_cut(partition).await,
                        _ => tasks.read_on(partition).await,
                    }
                }
            };
            consumer.run_partitioned(task).await.unwrap();
            tasks.finish(&world, consumer).await;
            tasks.completed.load(Ordering::Acquire)
        });
    }
}

#[test]
fn a_commit_of_a_task_that_is_dropped_is_sent_once_it_was_polled() {
    for_every_cut("PartitionConsumer::commit", async |cut| {
        let world = World::new(1).await;
        world.produce(RECORDS);
        let mut consumer = world.member().connect_lazy().unwrap();
        let tasks = Tasks::new(&world, cut);
        let broker = world.broker.clone();
        let task = |mut partition: PartitionConsumer| {
            let (tasks, broker) = (tasks.clone(), broker.clone());
            async move {
                if partition.topic_partition().partition() == 0 {
                    let batch = partition.next_batch().await?.expect("nobody ends it");
                    tasks.saw(&partition, &batch);
                    // The position that was chosen is committed by now.
                    a_moment().await;
                    let committed = polled(partition.commit(&batch), cut, &tasks.net).await;
                    a_moment().await;
                    let expected = if cut.polls == 0 { 0 } else { batch.next_offset() };
                    assert_eq!(broker.committed(crate::harness::GROUP, TOPIC, 0), Some(expected));
                    if let Some(committed) = committed {
                        committed.unwrap();
                        tasks.completed.store(true, Ordering::Release);
                    }
                }
                tasks.read_on(partition).await
            }
        };
        consumer.run_partitioned(task).await.unwrap();
        tasks.finish(&world, consumer).await;
        tasks.completed.load(Ordering::Acquire)
    });
}

/// Batches of so many records with every codec in turn; the values are the offsets.
fn compressed(world: &World, batches: i64, records: i64) {
    for partition in 0..PARTITIONS {
        for batch in 0..batches {
            let codec = Compression::ALL[usize::try_from(batch).unwrap() % Compression::ALL.len()];
            let mut writer = BatchWriter::new().compression(codec);
            for offset in batch * records..(batch + 1) * records {
                writer.append(0, None, Some(offset.to_string().as_bytes()), &[]).unwrap();
            }
            world.broker.produce_batch(TOPIC, partition, writer.finish()).unwrap();
        }
    }
}

/// Which thread decodes what, and when, differs from run to run: what must not is what the reader gets. Partitions are
/// assigned by hand, because the clock of a test runs while a thread works, and no session is to end by that.
#[test]
fn a_read_that_is_dropped_while_threads_decode_took_nothing() {
    for read in READS {
        for polls in [1, 2, 3, 5, 8, 13, 40] {
            for late in [false, true] {
                crate::harness::named(&format!("{read:?} {polls} {late}"), || {
                    crate::harness::run(async {
                        let world = World::new(1).await;
                        compressed(&world, 40, 25);
                        let builder = world.consumer().decode_threads(2).fetch_max_bytes(2_000);
                        let mut consumer = builder.max_partition_fetch_bytes(1_000).connect_lazy().unwrap();
                        consumer.assign(all().into_iter().map(|p| (p, Offset::Earliest))).await.unwrap();
                        let mut seen = Seen::default();
                        for round in 0..60 {
                            // One read, or a few, are dropped; the next one goes on.
                            let cut = Cut { polls: polls.min(1 + round), late };
                            read.polled(&mut consumer, cut, &world, &mut seen).await;
                            if round % 3 == 0 {
                                seen.batch(&consumer.next_batch().await.unwrap().unwrap());
                            }
                        }
                        world.read_to_the_end(&mut consumer, &mut seen).await;
                        seen.assert_whole(&world);
                        assert_eq!(consumer.position(&tp(0)).unwrap(), Some(1_000));
                        consumer.close().await.unwrap();
                        world.assert_nothing_left().await;
                    });
                });
            }
        }
    }
}
