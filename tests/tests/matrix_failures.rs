//! Three real brokers that are stopped and killed: minutes, so not a part of CI.

use std::sync::Arc;

use ottla::GroupProtocol;
use ottla_tests::kafka::{is_at_least, versions};
use ottla_tests::scenarios::{self, Backend, Result};

/// The protocols that brokers of a version have.
fn protocols(version: &str) -> &'static [GroupProtocol] {
    let all = &[GroupProtocol::Classic, GroupProtocol::Consumer];
    if is_at_least(version, 4, 0) { all } else { &all[..1] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_good_costs_no_rebalance() -> Result<()> {
    for version in versions() {
        let backend = Backend::own(&version, 3)?;
        for protocol in protocols(&version) {
            scenarios::a_broker_that_is_gone_for_good_costs_no_rebalance(&backend, *protocol).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_killed_at_random_lose_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::own(&version, 3)?);
        for protocol in protocols(&version) {
            scenarios::brokers_that_are_killed_at_random_lose_nothing(&backend, *protocol).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn seeks_and_commits_while_brokers_are_killed() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::own(&version, 3)?);
        scenarios::seeks_and_commits_while_brokers_are_killed(&backend).await?;
    }
    Ok(())
}
