//! Groups in a chain on real Kafka with half a million records, as in `real_etl.rs`: minutes, so not a part of CI.

use std::sync::Arc;

use ottla_tests::kafka::versions;
use ottla_tests::scenarios::{self, Backend, Chain, Result};

const RECORDS: u64 = 500_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_groups_loses_and_repeats_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        for chain in Chain::of(&backend) {
            let backend = Arc::clone(&backend);
            scenarios::a_chain_of_groups_loses_and_repeats_nothing(backend, chain, RECORDS).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_groups_whose_connections_die_loses_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        for chain in Chain::of(&backend) {
            let backend = Arc::clone(&backend);
            scenarios::a_chain_of_groups_whose_connections_die_loses_nothing(backend, chain, RECORDS, 200)
                .await?;
        }
    }
    Ok(())
}
