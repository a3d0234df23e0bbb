//! Items 4, 7 and 8: what dies, restarts and moves.

use std::time::Duration;

use ottla::{Assignor, Commit, Consumer};

use super::{Backend, Group, Result, guarded};
use crate::kafka::{RecordSpec, unique};

/// A member dies without a word: after the session timeout the next one begins at the committed offset.
///
/// # Errors
/// When it is otherwise, or hangs.
pub fn a_member_that_dies_is_replaced(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("killed"), unique("killed"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let builder = || {
        Consumer::builder(backend.bootstrap())
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
    let committed = victim.block_on(guarded("the victim", async {
        let mut consumer = builder().connect().await?;
        let first = consumer.next_batch().await?.ok_or("the end")?;
        consumer.commit(&first).await?;
        let second = consumer.next_batch().await?.ok_or("the end")?;
        assert_eq!(first.next_offset(), second.first_offset());
        let committed = first.next_offset();
        // Dropping it would leave the group: that is not what a crash does.
        std::mem::forget(consumer);
        Ok(committed)
    }))?;
    victim.shutdown_background();
    tokio::runtime::Runtime::new()?.block_on(guarded("the heir", async {
        let mut consumer = builder().connect().await?;
        let batch = consumer.next_batch().await?.ok_or("the end")?;
        assert_eq!(batch.first_offset(), committed, "only what was not committed is repeated");
        consumer.close().await?;
        Ok(())
    }))
}

/// A broker restarts under a consumer: nothing is lost, nothing reset, nothing repeated, no partition lost.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_restarted_broker_loses_nothing(backend: &Backend) -> Result<()> {
    let topic = unique("restart");
    backend.create_topic(&topic, 3)?;
    backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3))?;
    let mut group = Group::new(backend, &topic, Assignor::CooperativeSticky);
    // Longer than the restart takes: the generation stands.
    group.session_timeout = Duration::from_secs(60);
    let handle = group.join(0).await?;
    group.until("before", |g| g.count() == 300).await?;
    for phase in 1..=2 {
        backend.restart(1)?;
        backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3).seed(phase))?;
        let count = 300 * (phase as usize + 1);
        group.until("after the restart", |g| g.count() == count).await?;
    }
    assert_eq!(group.repeated, 0);
    handle.shutdown();
    group.until("nobody", |g| g.owned.is_empty()).await
}

/// On three brokers: leaders move, and the coordinator's broker restarts, so that the group finds another one.
///
/// # Errors
/// When something is lost or repeated, or it hangs.
pub async fn leaders_and_coordinators_move(backend: &Backend) -> Result<()> {
    let topic = unique("moves");
    backend.create_topic(&topic, 3)?;
    backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3))?;
    let mut group = Group::new(backend, &topic, Assignor::CooperativeSticky);
    group.session_timeout = Duration::from_secs(60);
    let handle = group.join(0).await?;
    group.until("before", |g| g.count() == 300).await?;
    for to in 1..=3 {
        for partition in 0..3 {
            backend.move_leader(&topic, partition, to)?;
        }
        backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3).seed(u64::from(to)))?;
        let count = 300 * (to as usize + 1);
        group.until("after the leaders moved", |g| g.count() == count).await?;
    }
    let coordinator = backend.coordinator(&group.group)?;
    backend.restart(coordinator)?;
    backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3).seed(9))?;
    group.until("after the coordinator was gone", |g| g.count() == 1500).await?;
    assert_eq!(group.repeated, 0);
    handle.shutdown();
    group.until("nobody", |g| g.owned.is_empty()).await?;
    let committed = backend.committed(&group.group, &topic)?;
    assert_eq!(committed.values().sum::<i64>(), 1500, "{committed:?}");
    Ok(())
}

/// `close` returns, whatever is gone: healthy, mid-rebalance, without a coordinator, without any broker. The
/// brokers are down afterwards.
///
/// # Errors
/// When it hangs.
pub async fn close_returns_whatever_is_gone(backend: &Backend, brokers: u32) -> Result<()> {
    let (topic, group) = (unique("close"), unique("close"));
    backend.create_topic(&topic, 3)?;
    backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3))?;
    let connect = || async {
        let builder = Consumer::builder(backend.bootstrap())
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .close_timeout(Duration::from_secs(5));
        builder.connect().await
    };
    let reading = || async {
        let mut consumer = connect().await?;
        guarded("a batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(consumer)
    };
    guarded("a healthy close", async { Ok(reading().await?.close().await?) }).await?;

    // Mid-rebalance: one member holds its batch, so the other's join is not answered.
    let mut holder = connect().await?;
    let held = guarded("a batch", async { Ok(holder.next_batch().await?.ok_or("the end")?) }).await?;
    let joining = connect().await?;
    guarded("a close in a rebalance", async { Ok(joining.close().await?) }).await?;
    drop(held);
    guarded("the holder's close", async { Ok(holder.close().await?) }).await?;

    let without_coordinator = reading().await?;
    backend.stop(backend.coordinator(&group)?)?;
    // It may say that it could not commit or leave; it must return.
    let _ = guarded("a close without a coordinator", async { Ok(without_coordinator.close().await) }).await?;

    for node in 1..=brokers {
        // The coordinator is down already.
        let _ = backend.stop(node);
    }
    let lazy = Consumer::builder(backend.bootstrap())
        .group(group.as_str())
        .subscribe([topic.as_str()])
        .close_timeout(Duration::from_secs(5))
        .connect_lazy()?;
    let _ = guarded("a close without any broker", async { Ok(lazy.close().await) }).await?;
    Ok(())
}
