//! Groups in a chain on real Kafka, as in `etl_embedded.rs`: some of them here, all of them with more records in
//! `matrix_etl.rs`.

use std::sync::Arc;

use ottla_tests::kafka::versions;
use ottla_tests::scenarios::{self, Backend, Chain, Result};

const RECORDS: u64 = 20_000;

/// Those that are run with connections that live.
const STABLE: [Chain; 3] = [Chain::Range, Chain::BrokersUniform, Chain::CooperativeStatic];

/// Those that are run with connections that die.
const MORTAL: [Chain; 2] = [Chain::Cooperative, Chain::BrokersStatic];

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_groups_loses_and_repeats_nothing() -> Result<()> {
    for version in versions() {
        let backend = Arc::new(Backend::shared(&version)?);
        for chain in Chain::of(&backend).into_iter().filter(|c| STABLE.contains(c)) {
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
        for chain in Chain::of(&backend).into_iter().filter(|c| MORTAL.contains(c)) {
            let backend = Arc::clone(&backend);
            scenarios::a_chain_of_groups_whose_connections_die_loses_nothing(backend, chain, RECORDS, 40)
                .await?;
        }
    }
    Ok(())
}
