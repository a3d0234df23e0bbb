//! Item 7: the end, in whatever state the cluster is.

use std::time::Duration;

use ottla::{Assignor, Batch, Builder, Consumer, GroupProtocol};
use tokio::runtime::Handle;

use super::{Backend, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

/// Where the driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OwnThread,
    CurrentRuntime,
}

const PLACES: [Place; 2] = [Place::OwnThread, Place::CurrentRuntime];

/// A cluster with a topic, and what has to be gone after each close.
struct Stage<'a> {
    backend: &'a Backend,
    topic: String,
    protocol: GroupProtocol,
}

impl Stage<'_> {
    fn builder(&self, place: Place, group: &str) -> Builder {
        let mut builder = over(&self.backend.bootstrap(), group, self.protocol)
            .subscribe([self.topic.as_str()])
            .close_timeout(Duration::from_secs(5));
        if self.protocol == GroupProtocol::Classic {
            // Eager: what is in hand holds up a rebalance.
            builder = builder.assignors([Assignor::Range]);
        }
        if place == Place::CurrentRuntime { builder.on_current_runtime() } else { builder }
    }

    /// A consumer that has read, and what it has in hand.
    async fn reading(&self, place: Place, group: &str) -> Result<(Consumer, Batch)> {
        let mut consumer = self.builder(place, group).connect().await?;
        let batch = async { Ok(consumer.next_batch().await?.ok_or("the end")?) };
        let batch = guarded("a batch", batch).await?;
        Ok((consumer, batch))
    }

    /// A consumer of each kind that has read, in groups that broker 1 coordinates.
    async fn two_reading(&self) -> Result<Vec<(Consumer, Batch)>> {
        let mut readers = Vec::new();
        for place in PLACES {
            let group = unique("close");
            readers.push(self.reading(place, &group).await?);
            if self.backend.coordinator(&group)? != 1 {
                self.backend.move_coordinator(&group, 1).await?;
            }
        }
        Ok(readers)
    }

    /// Closes them one after the other; what they could not do they may say.
    async fn close_all(&self, what: &str, consumers: Vec<Consumer>) -> Result<()> {
        for consumer in consumers {
            let _ = guarded(what, async { Ok(consumer.close().await) }).await?;
        }
        nothing_is_left(what).await
    }
}

/// No task of this runtime (nobody else uses it) and no thread of ottla's in this process.
async fn nothing_is_left(what: &str) -> Result<()> {
    guarded(&format!("the end of all tasks and threads after {what}"), async {
        while Handle::current().metrics().num_alive_tasks() > 0 || threads() > 0 {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await
}

/// How many threads are called after ottla. Only Linux tells.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("ottla-driver") || name.starts_with("ottla-resolve"))
        .count()
}

/// `close` returns and leaves no task and no thread, on a thread of its own and on the caller's runtime: healthy, in a
/// rebalance (on both sides of it), without a coordinator, without any broker, and when there never was one. Of a
/// cluster of three brokers none runs afterwards. Threads are counted in the whole process, so that this has one for
/// itself. (Its bounds in time are asserted on virtual time, in `tests/core_on_broker.rs`.)
///
/// # Errors
/// When it hangs, or something is left.
pub async fn close_returns_whatever_is_gone(backend: &Backend) -> Result<()> {
    close_returns(backend, GroupProtocol::Classic).await
}

pub(super) async fn close_returns(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let stage = Stage { backend, topic: unique("close"), protocol };
    let moving = if protocol == GroupProtocol::Consumer { "Reconciling" } else { "PreparingRebalance" };
    backend.create_topic(&stage.topic, 3)?;
    backend.produce(&stage.topic, "none", &RecordSpec::new(300).partitions(3))?;

    for place in PLACES {
        let group = unique("close");
        let (consumer, hand) = stage.reading(place, &group).await?;
        // One of them is counted, so that none can be.
        assert_eq!(threads(), usize::from(place == Place::OwnThread && cfg!(target_os = "linux")));
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks > 0, place == Place::CurrentRuntime, "{tasks} tasks");
        guarded("a healthy close", async { Ok(consumer.close().await?) }).await?;
        drop(hand);
        nothing_is_left("a healthy close").await?;
        backend.group_is(&group, "Empty", 0).await?;
    }

    for place in PLACES {
        let group = unique("close");
        let (holder, hand) = stage.reading(place, &group).await?;
        let joining = stage.builder(place, &group).connect().await?;
        backend.group_is(&group, moving, 2).await?;
        guarded("the close of one that joins", async { Ok(joining.close().await?) }).await?;
        let joining = stage.builder(place, &group).connect().await?;
        backend.group_is(&group, moving, 2).await?;
        guarded("the close of one that is waited for", async { Ok(holder.close().await?) }).await?;
        drop(hand);
        guarded("the close of the other", async { Ok(joining.close().await?) }).await?;
        nothing_is_left("a close in a rebalance").await?;
    }

    let (consumers, hands): (Vec<_>, Vec<_>) = stage.two_reading().await?.into_iter().unzip();
    backend.kill(1)?;
    stage.close_all("a close without a coordinator", consumers).await?;
    drop(hands);
    backend.start(1)?;

    let (consumers, hands): (Vec<_>, Vec<_>) = stage.two_reading().await?.into_iter().unzip();
    (1..=3).try_for_each(|node| backend.kill(node))?;
    stage.close_all("a close without any broker", consumers).await?;
    drop(hands);

    let lazy = PLACES.map(|place| stage.builder(place, &unique("close")).connect_lazy());
    let lazy = lazy.into_iter().collect::<std::result::Result<_, _>>()?;
    stage.close_all("a close that never saw a broker", lazy).await
}
