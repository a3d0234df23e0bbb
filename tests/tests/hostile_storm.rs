//! Connections that are accepted and closed, a hundred thousand times, against the whole client (reliability: storm;
//! invariants L1, L3 and S12).

use std::time::Duration;

use ottla_broker::Api;
use ottla_tests::hostile::Stage;
use ottla_tests::sim::Lie;

const STORM: usize = 100_000;
const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_storm_of_accepted_and_closed_connections_obeys_the_backoff_and_everything_arrives_after_it() {
    let mut stage = Stage::new(2, 3, 50);
    stage.subscribe();
    stage.all_is_read();
    // Established connections end with their next answer, and none comes up again.
    for api in [Api::Fetch, Api::Heartbeat, Api::Metadata, Api::ApiVersions] {
        stage.lie(Lie::about(api, |answer| answer.close()));
    }
    let (begun, before) = (stage.world.now(), stage.world.connects.len());
    stage.world.run_until(100 * HOUR, |w| w.connects.len() - before >= STORM);
    let time = stage.world.now().since(begun);
    // Two bootstrap addresses, and two brokers with three uses each; none more often than every 0.8 s, which is the
    // longest backoff less its jitter.
    let most = (2 + 2 * 3) as f64 * time.as_secs_f64() / 0.8;
    assert!((STORM as f64) < most + 100.0, "{STORM} connections in {time:?}");
    stage.never_hot();
    let fatal: Vec<_> = stage.errors().into_iter().filter(|e| e.is_fatal()).collect();
    assert!(fatal.is_empty(), "{fatal:?}");
    stage.heal();
    stage.everything_arrives();
    stage.never_reset();
    stage.never_hot();
    stage.closes();
}
