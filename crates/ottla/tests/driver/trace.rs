//! The same seed gives the same bytes at the same times.

use std::time::Duration;

use ottla::{Commit, Offset};

use crate::harness::{Seen, World, all, run, tp};
use crate::net::Weather;

/// A day with some of everything; its trace.
fn day(seed: u64) -> u64 {
    run(async {
        let world = World::new(3).await;
        world.net.set(Weather::Choppy);
        world.produce(24);
        let mut seen = Seen::default();
        let commit = Commit::Auto { interval: Duration::from_millis(300) };
        let mut first = world.member().__seed(seed).commit(commit).connect_lazy().unwrap();
        for _ in 0..5 {
            seen.batch(&first.next_batch().await.unwrap().unwrap());
        }
        // A second member takes one of the partitions and gives it back.
        let mut second = world.member().__seed(seed + 1).connect_lazy().unwrap();
        let both = async {
            loop {
                tokio::select! {
                    biased;
                    read = first.next_batch() => drop(read),
                    read = second.next_batch() => drop(read),
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), both).await;
        drop(second);
        first.seek(&tp(0), Offset::At(3)).await.unwrap_or_default();
        first.end_offsets(all()).await.unwrap();
        world.broker.kill_connections();
        world.broker.stop_node(2).unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let _ = first.next_record().await;
            }
        })
        .await;
        let _ = first.close().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.assert_nothing_left().await;
        assert!(world.net.steps() > 500, "{} steps", world.net.steps());
        world.net.trace()
    })
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let trace = day(seed);
        assert_eq!(trace, day(seed), "seed {seed}");
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 20, "another seed, another trace");
}
