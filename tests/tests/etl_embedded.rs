//! Groups in a chain on the embedded broker, in memory and on paused time; the same run on real Kafka in
//! `real_etl.rs` and `matrix_etl.rs`.

use std::sync::Arc;

use ottla_tests::scenarios::{self, Backend, Chain, Result};

const RECORDS: u64 = 20_000;

async fn backend() -> Result<Arc<Backend>> {
    Ok(Arc::new(Backend::in_memory(3).await?))
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_groups_loses_and_repeats_nothing() -> Result<()> {
    for chain in Chain::ALL {
        scenarios::a_chain_of_groups_loses_and_repeats_nothing(backend().await?, chain, RECORDS).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_groups_whose_connections_die_loses_nothing() -> Result<()> {
    for chain in Chain::ALL {
        let backend = backend().await?;
        scenarios::a_chain_of_groups_whose_connections_die_loses_nothing(backend, chain, RECORDS, 40).await?;
    }
    Ok(())
}
