//! Three real brokers: an unclean leader election (KIP-320), and fetching from the follower in one's rack (KIP-392).

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ottla::{Consumer, Event, Offset, ResetCause, TopicPartition};
use ottla_tests::kafka::{KafkaCluster, RecordSpec, Replicas, StartOptions, is_at_least, unique, versions};
use ottla_tests::scenarios::{GUARD, Result, guarded};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_read_from_and_unclean_elections_are_told() -> Result<()> {
    for version in versions() {
        // Before that no leader names a replica, and leader epochs are not told reliably.
        if !is_at_least(&version, 2, 4) {
            println!("{version} has no replica that leaders name");
            continue;
        }
        let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
        let mut kafka =
            StartOptions::new(&version).brokers(3).property("replica.selector.class", selector).start()?;
        records_come_from_the_follower_in_the_rack(&kafka).await?;
        an_unclean_election_is_told_and_read_on_from_where_the_logs_part(&mut kafka).await?;
    }
    Ok(())
}

/// Counts what comes from each port.
type Counts = Arc<Mutex<BTreeMap<u16, usize>>>;

struct Counted {
    stream: TcpStream,
    port: u16,
    counts: Counts,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(self.port).or_default() += buf.filled().len() - before;
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn replicas(kafka: &KafkaCluster, topic: &str) -> Result<Replicas> {
    kafka.tool()?.replicas(topic)?.into_iter().next().ok_or_else(|| "no partition".into())
}

/// Waits until partition 0 is as it should be.
fn until(kafka: &KafkaCluster, topic: &str, what: &str, is: impl Fn(&Replicas) -> bool) -> Result<()> {
    let begun = Instant::now();
    // While the controllers elect, nothing may answer.
    while !replicas(kafka, topic).is_ok_and(|found| is(&found)) {
        if begun.elapsed() > GUARD {
            return Err(format!("{what}: {:?}", replicas(kafka, topic)).into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

async fn records_come_from_the_follower_in_the_rack(kafka: &KafkaCluster) -> Result<()> {
    let topic = unique("rack");
    kafka.tool()?.create_topic_with(&topic, 1, Some(3), &[])?;
    let spec = RecordSpec::new(4_000).value_size(500, 500);
    kafka.tool()?.produce(&topic, &spec)?;
    let leader = replicas(kafka, &topic)?.leader.ok_or("no leader")?;
    let follower = leader % 3 + 1;
    let counts = Counts::default();
    let counting = Arc::clone(&counts);
    let mut consumer =
        Consumer::builder(kafka.bootstrap())
            .client_rack(format!("rack-{follower}"))
            .__connect_with(move |host, port| {
                let counts = Arc::clone(&counting);
                async move {
                    Ok(Counted { stream: TcpStream::connect((host.as_str(), port)).await?, port, counts })
                }
            })
            .connect()
            .await?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    consumer.assign([(tp, Offset::Earliest)]).await?;
    let mut next = 0;
    while next < 4_000 {
        let batch = guarded("a batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!(batch.first_offset(), next, "nothing twice, nothing left out");
        next = batch.next_offset();
    }
    let of = |node: u32| -> Result<usize> {
        let port = kafka.node_address(node)?.port();
        Ok(counts.lock().unwrap_or_else(PoisonError::into_inner).get(&port).copied().unwrap_or(0))
    };
    assert!(of(follower)? > 2_000_000, "{counts:?}: the follower is {follower}");
    assert!(of(leader)? < 100_000, "{counts:?}: the leader is {leader}");
    consumer.close().await?;
    Ok(())
}

async fn an_unclean_election_is_told_and_read_on_from_where_the_logs_part(
    kafka: &mut KafkaCluster,
) -> Result<()> {
    let topic = unique("unclean");
    let unclean = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    kafka.tool()?.create_topic_with(&topic, 1, Some(2), &unclean)?;
    let mut tool = kafka.own_tool()?;
    tool.produce(&topic, &RecordSpec::new(100))?;
    let found = replicas(kafka, &topic)?;
    let leader = found.leader.ok_or("no leader")?;
    let follower = *found.replicas.iter().find(|id| **id != leader).ok_or("no follower")?;
    kafka.kill_node(follower)?;
    until(kafka, &topic, "the follower is out", |r| r.in_sync == [leader])?;
    tool.produce(&topic, &RecordSpec::new(100).seed(1))?;
    let mut consumer =
        Consumer::builder(kafka.bootstrap()).request_timeout(Duration::from_secs(5)).connect().await?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    consumer.assign([(tp.clone(), Offset::Earliest)]).await?;
    let mut next = 0;
    while next < 200 {
        let batch =
            guarded("the old log", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!(batch.first_offset(), next);
        next = batch.next_offset();
    }
    // Nobody else has the last hundred.
    kafka.kill_node(leader)?;
    kafka.restart_node(follower)?;
    until(kafka, &topic, "the follower leads", |r| r.leader == Some(follower))?;
    let new = RecordSpec::new(150).seed(2);
    tool.produce(&topic, &new)?;
    let told = guarded("what is told", async {
        loop {
            match consumer.next_event().await?.ok_or("the end")? {
                Event::OffsetReset { topic_partition, offset, cause } => {
                    return Ok((topic_partition, offset, cause));
                }
                Event::Batch(batch) => return Err(format!("{batch:?} of another log").into()),
                _ => {}
            }
        }
    })
    .await?;
    assert_eq!(told, (tp, 100, ResetCause::LogTruncation { offset: 200 }));
    let mut next = 100;
    while next < 250 {
        let batch =
            guarded("the new log", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!(batch.first_offset(), next);
        for record in &batch {
            let written = new.record(u64::try_from(record.offset() - 100)?);
            assert_eq!(record.value(), written.value.as_deref(), "{}", record.offset());
        }
        next = batch.next_offset();
    }
    consumer.close().await?;
    Ok(())
}
