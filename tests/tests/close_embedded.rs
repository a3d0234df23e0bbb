//! Item 7 of the integration suite, on the embedded broker: in a process of its own, because it counts threads.

use ottla_tests::scenarios::{self, Backend, Result};

#[tokio::test(flavor = "multi_thread")]
async fn close_returns_whatever_is_gone() -> Result<()> {
    // One after the other: threads are those of the whole process.
    scenarios::close_returns_whatever_is_gone(&Backend::embedded(3).await?).await?;
    scenarios::consumer_protocol::close_returns_whatever_is_gone(&Backend::embedded(3).await?).await
}
