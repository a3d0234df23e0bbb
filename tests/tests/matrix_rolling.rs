//! Rolling restarts of three real brokers, under load: minutes, so not a part of CI.

use ottla::GroupProtocol;
use ottla_tests::kafka::{is_at_least, versions};
use ottla_tests::scenarios::{Backend, Result, rolling_restarts};

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_cause_no_rebalance() -> Result<()> {
    for version in versions() {
        let protocols = if is_at_least(&version, 4, 0) {
            &[GroupProtocol::Classic, GroupProtocol::Consumer][..]
        } else {
            println!("{version}: groups of the classic protocol alone");
            &[GroupProtocol::Classic]
        };
        rolling_restarts(&Backend::own(&version, 3)?, protocols).await?;
    }
    Ok(())
}
