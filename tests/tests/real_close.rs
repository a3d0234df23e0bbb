//! Item 7 of the integration suite, on real Kafka: in a process of its own, because it counts threads.

use ottla_tests::kafka::{is_at_least, versions};
use ottla_tests::scenarios::{self, Backend, Result};

#[tokio::test(flavor = "multi_thread")]
async fn close_returns_whatever_is_gone() -> Result<()> {
    for version in versions() {
        scenarios::close_returns_whatever_is_gone(&Backend::own(&version, 3)?).await?;
        // Groups of the consumer protocol are there unasked from 4.0 on.
        if is_at_least(&version, 4, 0) {
            // One after the other: threads are those of the whole process.
            scenarios::consumer_protocol::close_returns_whatever_is_gone(&Backend::own(&version, 3)?).await?;
        } else {
            println!("{version}: groups of the classic protocol alone");
        }
    }
    Ok(())
}
