//! Members that bounce, on the embedded broker, in memory and on paused time; the same on real Kafka in
//! `real_bounces.rs` and `matrix_bounces.rs`.

use std::sync::Arc;

use ottla::GroupProtocol;
use ottla_tests::scenarios::{self, Backend, Bounce, Result};

const PROTOCOLS: [GroupProtocol; 2] = [GroupProtocol::Classic, GroupProtocol::Consumer];

async fn backend(brokers: usize) -> Result<Arc<Backend>> {
    Ok(Arc::new(Backend::in_memory(brokers).await?))
}

#[tokio::test(start_paused = true)]
async fn members_that_bounce_repeat_nothing() -> Result<()> {
    for protocol in PROTOCOLS {
        for bounce in Bounce::ALL {
            scenarios::members_that_bounce_repeat_nothing(&backend(3).await?, protocol, bounce, 5).await?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn static_members_outlive_restarts_of_all_brokers() -> Result<()> {
    for protocol in PROTOCOLS {
        let backend = backend(3).await?;
        scenarios::static_members_outlive_restarts_of_all_brokers(&backend, protocol, 3).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn newcomers_with_taken_instance_ids() -> Result<()> {
    for protocol in PROTOCOLS {
        for newcomers in [1, 2] {
            scenarios::newcomers_with_taken_instance_ids(&*backend(3).await?, protocol, newcomers).await?;
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn doubled_instance_ids_of_all_at_once_leave_one_each() -> Result<()> {
    for protocol in PROTOCOLS {
        let backend = backend(3).await?;
        scenarios::doubled_instance_ids_of_all_at_once_leave_one_each(&backend, protocol).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn assignors_are_changed_one_member_after_the_other() -> Result<()> {
    scenarios::assignors_are_changed_one_member_after_the_other(&backend(3).await?).await
}

#[tokio::test(start_paused = true)]
async fn an_assignor_of_ones_own_shares_the_partitions_out() -> Result<()> {
    scenarios::an_assignor_of_ones_own_shares_the_partitions_out(&backend(3).await?).await
}
