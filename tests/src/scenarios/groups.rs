//! Items 2 and 6: members that come, go, work for long, or stay away.

use std::time::Duration;

use ottla::{Assignor, Commit, Consumer, Error, Event};

use super::{Backend, Group, Result, guarded};
use crate::kafka::{RecordSpec, unique};

/// 1 → 3 → 2 → 1 members: everything is handed out, nothing twice, and no partition has two owners.
///
/// # Errors
/// When something is lost, or it hangs.
pub async fn members_come_and_go(backend: &Backend) -> Result<()> {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let topic = unique("group");
        backend.create_topic(&topic, 6)?;
        let produce =
            |phase| backend.produce(&topic, "none", &RecordSpec::new(600).partitions(6).seed(phase));
        let mut group = Group::new(backend, &topic, assignor);
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
        let committed = backend.committed(&group.group, &topic)?;
        assert_eq!(committed.values().sum::<i64>(), 2400, "{committed:?}");
    }
    Ok(())
}

/// A revocation while a batch is being worked on, finished in time: the work is committed before the partition
/// goes to its next owner, who does not repeat it.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_finished_in_time_is_committed(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("intime"), unique("intime"));
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2))?;
    let mut worker = worker(backend, &topic, &group, Duration::from_secs(60)).connect().await?;
    let batch =
        guarded("the first batch", async { Ok(worker.next_batch().await?.ok_or("the end")?) }).await?;
    let mut newcomer = self::worker(backend, &topic, &group, Duration::from_secs(60)).connect().await?;
    // Coming back, with nothing of the batch alive, is what says that the work is done.
    drop(batch);
    let handle = worker.handle();
    let working = tokio::spawn(async move {
        while worker.next_batch().await?.is_some() {}
        worker.close().await
    });
    guarded("the newcomer's partition", async {
        while !matches!(newcomer.next_event().await?, Some(Event::Assigned(_))) {}
        Ok(())
    })
    .await?;
    backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2).seed(1))?;
    let first =
        guarded("the newcomer's first batch", async { Ok(newcomer.next_batch().await?.ok_or("the end")?) });
    assert_eq!(first.await?.first_offset(), 100, "all before was worked on by the one who had it");
    newcomer.close().await?;
    handle.shutdown();
    guarded("the worker", async { Ok(working.await??) }).await
}

/// A revocation while a batch is being worked on, not finished in time: the partition is lost, the batch stays
/// readable, its token commits nothing, and the next owner repeats the work.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_not_finished_in_time_is_lost(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("late"), unique("late"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let mut slow = worker(backend, &topic, &group, Duration::from_millis(500)).connect().await?;
    let batch = guarded("the first batch", async { Ok(slow.next_batch().await?.ok_or("the end")?) }).await?;
    // One partition for two: whoever gets it, the slow one has lost what it was working on.
    let mut newcomer = worker(backend, &topic, &group, Duration::from_secs(60)).connect().await?;
    let joining = newcomer.handle();
    let reading = tokio::spawn(async move {
        while newcomer.next_batch().await?.is_some() {}
        newcomer.close().await
    });
    guarded("the loss", async {
        while batch.is_owned() {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    assert_eq!(batch.iter().count(), batch.len(), "a batch in hand stays readable");
    let refused = slow.commit(batch.token()).await;
    assert!(matches!(refused, Err(ottla::CommitError::NotOwned)), "{refused:?}");
    drop(batch);
    guarded("being told", async {
        while !matches!(slow.next_event().await?, Some(Event::Lost(_))) {}
        Ok(())
    })
    .await?;
    slow.close().await?;
    joining.shutdown();
    guarded("the newcomer", async { Ok(reading.await??) }).await
}

/// Eager: everything is taken back when somebody joins, so the batch in hand is concerned.
fn worker(backend: &Backend, topic: &str, group: &str, revoke_timeout: Duration) -> ottla::Builder {
    Consumer::builder(backend.bootstrap())
        .group(group)
        .subscribe([topic])
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(300))
        .revoke_timeout(revoke_timeout)
        .assignors([Assignor::Range])
}

/// `max_poll_interval` exceeded: the member leaves, its partitions are lost and go to others, and when the reader
/// comes back it joins again.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_reader_that_stays_away_is_put_out(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("away"), unique("away"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let builder = || {
        Consumer::builder(backend.bootstrap())
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10)
            .session_timeout(Duration::from_secs(10))
            .heartbeat_interval(Duration::from_millis(300))
    };
    let mut slow = builder()
        .max_poll_interval(Duration::from_secs(1))
        .rebalance_timeout(Duration::from_secs(10))
        .connect()
        .await?;
    let batch = guarded("the first batch", async { Ok(slow.next_batch().await?.ok_or("the end")?) }).await?;
    let mut other = builder().connect().await?;
    let taken = guarded("the other", async { Ok(other.next_batch().await?.ok_or("the end")?) }).await?;
    assert_eq!(taken.first_offset(), 0, "nothing was committed");
    assert!(!batch.is_owned());
    let refused = slow.commit(&batch).await;
    assert!(matches!(refused, Err(ottla::CommitError::NotOwned)), "{refused:?}");
    drop((batch, taken));
    let mut told: Vec<Error> = Vec::new();
    let mut lost = false;
    guarded("coming back", async {
        while !lost || told.is_empty() {
            match slow.next_event().await {
                Ok(Some(Event::Lost(_))) => lost = true,
                Ok(Some(_)) => {}
                Ok(None) => return Err("the end".into()),
                Err(error) => told.push(error),
            }
        }
        Ok(())
    })
    .await?;
    assert!(told.iter().any(|e| e.to_string().contains("max_poll_interval") && !e.is_fatal()), "{told:?}");
    other.close().await?;
    guarded("joining again", async {
        while !matches!(slow.next_event().await?, Some(Event::Batch(_))) {}
        Ok(())
    })
    .await?;
    slow.close().await?;
    Ok(())
}
