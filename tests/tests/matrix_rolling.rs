//! Rolling restarts of three real brokers, under load: minutes, so not a part of CI.

use ottla::GroupProtocol;
use ottla_tests::kafka::{is_at_least, versions};
use ottla_tests::scenarios::{Backend, Result, rolling_restarts};

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_cause_no_rebalance() -> Result<()> {
    for version in versions() {
        rolling_restarts(&Backend::own(&version, 3)?, GroupProtocol::Classic).await?;
        if is_at_least(&version, 4, 0) {
            rolling_restarts(&Backend::own(&version, 3)?, GroupProtocol::Consumer).await?;
        } else {
            println!("{version} has no groups of the consumer protocol");
        }
    }
    Ok(())
}
