//! Static members that bounce and instance ids that are taken, on real Kafka, as in `bounces_embedded.rs`.

use std::sync::Arc;

use ottla::GroupProtocol;
use ottla_tests::kafka::{is_at_least, versions};
use ottla_tests::scenarios::{self, Backend, Bounce, Result};

/// The protocols in which the brokers know static members.
fn protocols(version: &str) -> Vec<GroupProtocol> {
    let mut protocols = Vec::new();
    if is_at_least(version, 2, 3) {
        protocols.push(GroupProtocol::Classic);
    } else {
        println!("{version} has no static members");
    }
    if is_at_least(version, 4, 0) {
        protocols.push(GroupProtocol::Consumer);
    }
    protocols
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_bounce_repeat_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        for protocol in protocols(&version) {
            // The others take a rebalance each time, and many minutes: the matrix runs them.
            for bounce in Bounce::ALL.into_iter().filter(|bounce| bounce.fixed) {
                scenarios::members_that_bounce_repeat_nothing(&backend, protocol, bounce, 2).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_with_taken_instance_ids() -> Result<()> {
    for version in versions() {
        let backend = Backend::shared(&version)?;
        for protocol in protocols(&version) {
            for newcomers in [1, 2] {
                scenarios::newcomers_with_taken_instance_ids(&backend, protocol, newcomers).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_instance_ids_of_all_at_once_leave_one_each() -> Result<()> {
    for version in versions() {
        let backend = Backend::shared(&version)?;
        for protocol in protocols(&version) {
            scenarios::doubled_instance_ids_of_all_at_once_leave_one_each(&backend, protocol).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn assignors_are_changed_one_member_after_the_other() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        scenarios::assignors_are_changed_one_member_after_the_other(&backend).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignor_of_ones_own_shares_the_partitions_out() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        scenarios::an_assignor_of_ones_own_shares_the_partitions_out(&backend).await?;
    }
    Ok(())
}
