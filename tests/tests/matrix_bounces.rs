//! Members that bounce on real Kafka, five times each, and static ones whose brokers restart: minutes, so not a part of
//! CI.

use std::sync::Arc;

use ottla::GroupProtocol;
use ottla_tests::kafka::versions;
use ottla_tests::scenarios::{self, Backend, Bounce, Result};

fn protocols(backend: &Backend) -> Vec<GroupProtocol> {
    let consumer = backend.is_at_least(4, 0).then_some(GroupProtocol::Consumer);
    [GroupProtocol::Classic].into_iter().chain(consumer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_bounce_repeat_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        for protocol in protocols(&backend) {
            for bounce in Bounce::ALL {
                if bounce.fixed && !backend.is_at_least(2, 3) {
                    println!("{version}: members that are not static alone");
                    continue;
                }
                scenarios::members_that_bounce_repeat_nothing(&backend, protocol, bounce, 5).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn static_members_outlive_restarts_of_all_brokers() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::own(&version, 3)?);
        if !backend.is_at_least(2, 3) {
            println!("{version} has no static members");
            continue;
        }
        for protocol in protocols(&backend) {
            scenarios::static_members_outlive_restarts_of_all_brokers(&backend, protocol, 3).await?;
        }
    }
    Ok(())
}
