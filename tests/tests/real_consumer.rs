//! The consumer on real Kafka: records produced by Kafka's own client, groups of ottla alone and with others.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{Assignor, Commit, Consumer, ConsumerHandle, Event, Offset, Record, TopicPartition};
use ottla_tests::kafka::{Expected, KafkaCluster, Member, MemberSpec, RecordSpec, shared, unique, versions};
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A guard against hanging, and nothing else.
const GUARD: Duration = Duration::from_secs(240);

async fn guarded<T>(what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(GUARD, future).await.map_err(|_| format!("{what} hangs"))?
}

fn expected_of(record: &Record) -> Expected {
    Expected {
        partition: record.partition() as u32,
        timestamp: record.timestamp(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(k, v)| (k.as_bytes().to_vec(), v.map(<[u8]>::to_vec))).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_that_java_produced_arrives() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = unique(codec);
            let spec = RecordSpec::new(20_000)
                .partitions(6)
                .codec(codec)
                .nulls()
                .headers()
                .value_size(0, 300)
                .big(5_000, 5 << 20)
                .batching(40_000, 20);
            {
                let mut tool = kafka.tool()?;
                tool.create_topic(&topic, 6)?;
                tool.produce(&topic, &spec)?;
            }
            let mut consumer = Consumer::builder(kafka.bootstrap()).connect().await?;
            let partitions = consumer.partitions_of(&topic).await?;
            assert_eq!(partitions.len(), 6);
            consumer.assign(partitions.into_iter().map(|tp| (tp, Offset::Earliest))).await?;
            let mut wanted: BTreeMap<i32, _> =
                (0..6).map(|p| (p, (0i64..).zip(spec.of_partition(p as u32)).peekable())).collect();
            guarded("reading", async {
                while wanted.values_mut().any(|rest| rest.peek().is_some()) {
                    let batch = consumer.next_batch().await?.ok_or("the end")?;
                    for record in batch.records() {
                        let next = wanted.get_mut(&record.partition()).and_then(Iterator::next);
                        let (offset, record_expected) = next.ok_or("a record too many")?;
                        assert_eq!(record.offset(), offset, "{topic}-{}", record.partition());
                        assert!(
                            expected_of(&record) == record_expected,
                            "{topic}-{} at {offset}",
                            record.partition()
                        );
                    }
                }
                Ok(())
            })
            .await?;
            consumer.close().await?;
        }
    }
    Ok(())
}

/// What members of a group report.
#[derive(Debug)]
enum Told {
    Owns(usize, BTreeSet<TopicPartition>),
    Records(TopicPartition, Vec<i64>),
    Ended(usize),
}

/// Who owns what, as the readers see it: never two.
type Owners = Arc<Mutex<BTreeMap<TopicPartition, usize>>>;

struct Group {
    bootstrap: String,
    group: String,
    topic: String,
    assignor: Assignor,
    session_timeout: Duration,
    owners: Owners,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    owned: BTreeMap<usize, BTreeSet<TopicPartition>>,
    seen: BTreeMap<TopicPartition, BTreeSet<i64>>,
    repeated: usize,
}

impl Group {
    fn new(kafka: &KafkaCluster, topic: &str, assignor: Assignor) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            bootstrap: kafka.bootstrap().to_owned(),
            group: unique("group"),
            topic: topic.to_owned(),
            assignor,
            session_timeout: Duration::from_secs(10),
            owners: Owners::default(),
            tell,
            told,
            owned: BTreeMap::new(),
            seen: BTreeMap::new(),
            repeated: 0,
        }
    }

    async fn join(&mut self, id: usize) -> Result<ConsumerHandle> {
        let mut consumer = Consumer::builder(self.bootstrap.as_str())
            .group(self.group.as_str())
            .subscribe([self.topic.as_str()])
            .assignors([self.assignor])
            .session_timeout(self.session_timeout)
            .heartbeat_interval(Duration::from_millis(300))
            .connect()
            .await?;
        let handle = consumer.handle();
        let (owners, tell) = (self.owners.clone(), self.tell.clone());
        tokio::spawn(async move {
            let mut mine = BTreeSet::new();
            loop {
                let event = match consumer.next_event().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => panic!("member {id}: {error}"),
                };
                match event {
                    Event::Batch(batch) => {
                        let tp = batch.topic_partition().clone();
                        assert!(mine.contains(&tp), "member {id} was handed {tp}, which is not its own");
                        let offsets = batch.iter().map(|r| r.offset()).collect();
                        let _ = tell.send(Told::Records(tp, offsets));
                    }
                    Event::Assigned(partitions) => {
                        let mut owners = owners.lock().unwrap();
                        for tp in partitions {
                            let before = owners.insert(tp.clone(), id);
                            assert_eq!(before, None, "{tp} is owned by {before:?} and {id}");
                            mine.insert(tp);
                        }
                        let _ = tell.send(Told::Owns(id, mine.clone()));
                    }
                    Event::Revoking(revocation) => {
                        let mut owners = owners.lock().unwrap();
                        for tp in revocation.partitions() {
                            owners.remove(tp);
                            mine.remove(tp);
                        }
                        let _ = tell.send(Told::Owns(id, mine.clone()));
                    }
                    Event::Lost(partitions) => panic!("member {id} lost {partitions:?}"),
                    _ => {}
                }
            }
            {
                let mut owners = owners.lock().unwrap();
                owners.retain(|_, owner| *owner != id);
            }
            consumer.close().await.expect("a clean close");
            let _ = tell.send(Told::Ended(id));
        });
        Ok(handle)
    }

    /// Takes in what members say until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        guarded(what, async {
            while !done(self) {
                match self.told.recv().await.ok_or("all members are gone")? {
                    Told::Owns(id, owned) => {
                        self.owned.insert(id, owned);
                    }
                    Told::Records(tp, offsets) => {
                        let seen = self.seen.entry(tp).or_default();
                        for offset in offsets {
                            self.repeated += usize::from(!seen.insert(offset));
                        }
                    }
                    Told::Ended(id) => {
                        self.owned.remove(&id);
                    }
                }
            }
            Ok(())
        })
        .await
    }

    fn sizes(&self) -> Vec<usize> {
        self.owned.values().map(BTreeSet::len).collect()
    }

    fn count(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_and_shrinks_and_hands_out_everything_once() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
            let topic = unique("group");
            kafka.tool()?.create_topic(&topic, 6)?;
            let produce =
                |phase: u64| kafka.tool()?.produce(&topic, &RecordSpec::new(600).partitions(6).seed(phase));
            let mut group = Group::new(&kafka, &topic, assignor);
            produce(0)?;
            let first = group.join(0).await?;
            group.until("one member", |g| g.count() == 600).await?;
            let second = group.join(1).await?;
            let third = group.join(2).await?;
            group.until("three members", |g| g.sizes() == [2, 2, 2]).await?;
            produce(1)?;
            group.until("records for three", |g| g.count() == 1200).await?;
            first.shutdown();
            group.until("two members", |g| g.sizes() == [3, 3]).await?;
            produce(2)?;
            group.until("records for two", |g| g.count() == 1800).await?;
            second.shutdown();
            group.until("one member again", |g| g.sizes() == [6]).await?;
            produce(3)?;
            group.until("records for the last", |g| g.count() == 2400).await?;
            assert_eq!(group.repeated, 0, "everybody left in order: nothing is read twice");
            third.shutdown();
            group.until("nobody", |g| g.owned.is_empty()).await?;
            let committed = kafka.tool()?.committed(&group.group)?;
            let sum: i64 = committed.values().map(|(offset, _)| offset).sum();
            assert_eq!(sum, 2400, "{committed:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_tools_see_the_member_its_offsets_and_its_lag() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let (topic, group) = (unique("seen"), unique("seen"));
        {
            let mut tool = kafka.tool()?;
            tool.create_topic(&topic, 2)?;
            tool.produce(&topic, &RecordSpec::new(100).partitions(2))?;
        }
        let mut consumer = Consumer::builder(kafka.bootstrap())
            .client_id("watched")
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10)
            .connect()
            .await?;
        let batch =
            guarded("the first batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        let tp = batch.topic_partition().clone();
        consumer.commit(&batch).await?;
        let described = kafka.tool()?.group(&group)?;
        assert_eq!((described.state.as_str(), described.assignor.as_str()), ("Stable", "cooperative-sticky"));
        assert_eq!(described.members.len(), 1);
        assert_eq!(described.members[0].client_id, "watched");
        assert_eq!(described.members[0].assignment[&topic], [0, 1]);
        let table = kafka.tool()?.consumer_groups(&["--describe", "--group", &group])?;
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| {
                row.get(1) == Some(&topic.as_str()) && row.get(2) == Some(&&*tp.partition().to_string())
            })
            .ok_or_else(|| format!("no row for {tp} in\n{table}"))?;
        assert_eq!(row[3..6], ["10", "50", "40"], "committed, end and lag in\n{table}");
        assert!(row[6].starts_with("watched-"), "{table}");
        consumer.close().await?;
        // What was committed is where the next one begins.
        let mut next = Consumer::builder(kafka.bootstrap())
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .max_batch_records(10)
            .connect()
            .await?;
        let mut first = BTreeMap::new();
        guarded("the rest", async {
            while first.len() < 2 {
                let batch = next.next_batch().await?.ok_or("the end")?;
                first.entry(batch.partition()).or_insert(batch.first_offset());
            }
            Ok(())
        })
        .await?;
        assert_eq!(first.remove(&tp.partition()), Some(10));
        assert_eq!(first.into_values().collect::<Vec<_>>(), [0]);
        next.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_mixed_with_java_and_librdkafka_is_stable_and_loses_nothing() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        for (assignor, name) in
            [(Assignor::CooperativeSticky, "cooperative-sticky"), (Assignor::Range, "range")]
        {
            let topic = unique("mixed");
            {
                let mut tool = kafka.tool()?;
                tool.create_topic(&topic, 6)?;
                tool.produce(&topic, &RecordSpec::new(600).partitions(6))?;
            }
            let mut group = Group::new(&kafka, &topic, assignor);
            let handle = group.join(0).await?;
            group.until("ottla alone", |g| g.sizes() == [6] && g.count() == 600).await?;
            let java_name = match assignor {
                Assignor::Range => "org.apache.kafka.clients.consumer.RangeAssignor",
                _ => "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            };
            let spec = MemberSpec::new(&group.group, &[&topic]).property("session.timeout.ms", "10000");
            let java =
                Member::java(&kafka, &spec.clone().property("partition.assignment.strategy", java_name))?;
            group.until("ottla and Java", |g| g.sizes() == [3]).await?;
            let librdkafka =
                Member::librdkafka(&kafka, &spec.property("partition.assignment.strategy", name))?;
            group.until("ottla, Java and librdkafka", |g| g.sizes() == [2]).await?;
            let described = kafka.tool()?.group(&group.group)?;
            assert_eq!(described.members.len(), 3);
            java.close(GUARD)?;
            group.until("ottla and librdkafka", |g| g.sizes() == [3]).await?;
            librdkafka.close(GUARD)?;
            group.until("ottla alone again", |g| g.sizes() == [6]).await?;
            kafka.tool()?.produce(&topic, &RecordSpec::new(600).partitions(6).seed(1))?;
            group.until("the rest", |g| g.count() == 1200).await?;
            handle.shutdown();
            group.until("nobody", |g| g.owned.is_empty()).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_under_a_consumer_loses_nothing_and_resets_nothing() -> Result<()> {
    for version in versions() {
        let mut kafka = KafkaCluster::start(&version, 1)?;
        let topic = unique("restart");
        kafka.tool()?.create_topic(&topic, 3)?;
        kafka.tool()?.produce(&topic, &RecordSpec::new(300).partitions(3))?;
        let mut group = Group::new(&kafka, &topic, Assignor::CooperativeSticky);
        // Longer than the restart takes: the generation stands.
        group.session_timeout = Duration::from_secs(60);
        let handle = group.join(0).await?;
        group.until("before", |g| g.count() == 300).await?;
        for phase in 1..=2 {
            kafka.stop_node(1)?;
            kafka.restart_node(1)?;
            kafka.tool()?.produce(&topic, &RecordSpec::new(300).partitions(3).seed(phase))?;
            let count = 300 * (phase as usize + 1);
            group.until("after the restart", |g| g.count() == count).await?;
        }
        assert_eq!(group.repeated, 0);
        handle.shutdown();
        group.until("nobody", |g| g.owned.is_empty()).await?;
    }
    Ok(())
}

#[test]
fn a_member_that_dies_is_replaced_after_its_session_and_its_uncommitted_work_repeated() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let (topic, group) = (unique("killed"), unique("killed"));
        {
            let mut tool = kafka.tool()?;
            tool.create_topic(&topic, 1)?;
            tool.produce(&topic, &RecordSpec::new(100).partitions(1))?;
        }
        let builder = || {
            Consumer::builder(kafka.bootstrap())
                .group(group.as_str())
                .subscribe([topic.as_str()])
                .commit(Commit::Manual)
                .max_batch_records(40)
                .session_timeout(Duration::from_secs(6))
                .heartbeat_interval(Duration::from_secs(1))
                .on_current_runtime()
        };
        // The runtime ends with everything in it: sockets close, nobody leaves the group.
        let victim = tokio::runtime::Runtime::new()?;
        victim.block_on(guarded("the victim", async {
            let mut consumer = builder().connect().await?;
            let first = consumer.next_batch().await?.ok_or("the end")?;
            consumer.commit(&first).await?;
            let second = consumer.next_batch().await?.ok_or("the end")?;
            assert_eq!((first.next_offset(), second.first_offset()), (40, 40));
            std::mem::forget(consumer);
            Ok(())
        }))?;
        victim.shutdown_background();
        tokio::runtime::Runtime::new()?.block_on(guarded("the heir", async {
            let mut consumer = builder().connect().await?;
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            assert_eq!(batch.first_offset(), 40, "it begins at the committed offset");
            consumer.close().await?;
            Ok(())
        }))?;
    }
    Ok(())
}
