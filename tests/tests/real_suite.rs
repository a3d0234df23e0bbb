//! The integration suite on real Kafka, and what only real peers can show: groups mixed with the Java client and
//! librdkafka, and what Kafka's own tools see.

use std::collections::BTreeMap;

use ottla::{Assignor, Commit, Consumer};
use ottla_tests::kafka::{RecordSpec, shared, unique, versions};
use ottla_tests::scenarios::{self, Backend, Result, guarded};

/// On the cluster that all tests of a version share.
macro_rules! on_shared {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                for version in versions() {
                    scenarios::$name(&Backend::shared(&version)?).await?;
                }
                Ok(())
            }
        )*
    };
}

/// On a cluster of their own, because they stop its brokers.
macro_rules! on_own {
    ($($name:ident($brokers:expr)),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                for version in versions() {
                    scenarios::$name(&Backend::own(&version, $brokers)?).await?;
                }
                Ok(())
            }
        )*
    };
}

on_shared! {
    every_byte_arrives,
    members_come_and_go,
    kept_partitions_are_read_during_a_rebalance,
    work_that_is_finished_in_time_is_committed,
    work_that_is_not_finished_in_time_is_lost,
    a_reader_that_stays_away_is_put_out,
    auto_commits_only_what_the_reader_came_back_from,
    manual_commits_are_where_the_next_member_begins,
    a_token_of_a_lost_ownership_moves_nothing,
    offsets_are_reset_by_policy,
    a_committed_offset_out_of_range_is_reset_by_policy,
    positions_that_a_policy_chose_are_committed_at_once,
    unknown_topics_hold_up_nothing,
    topics_come_and_go,
}

on_own! {
    a_restarted_broker_loses_nothing(1),
    leaders_and_coordinators_move(3),
}

#[tokio::test(flavor = "multi_thread")]
async fn close_returns_whatever_is_gone() -> Result<()> {
    for version in versions() {
        scenarios::close_returns_whatever_is_gone(&Backend::own(&version, 1)?, 1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_is_replaced() -> Result<()> {
    for version in versions() {
        let backend = Backend::shared(&version)?;
        scenarios::a_member_that_dies_is_replaced(&backend, env!("CARGO_BIN_EXE_victim")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_tools_see_the_member_its_offsets_and_its_lag() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let (topic, group) = (unique("seen"), unique("seen"));
        {
            let mut tool = kafka.tool()?;
            tool.create_topic(&topic, 2)?;
            tool.produce(&topic, &RecordSpec::new(100).partitions(2))?;
        }
        let mut consumer = Consumer::builder(kafka.bootstrap())
            .client_id("watched")
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10)
            .connect()
            .await?;
        let batch =
            guarded("the first batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        let (tp, done) = (batch.topic_partition().clone(), batch.next_offset());
        consumer.commit(&batch).await?;
        let described = kafka.tool()?.group(&group)?;
        assert_eq!((described.state.as_str(), described.assignor.as_str()), ("Stable", "cooperative-sticky"));
        assert_eq!(described.members.len(), 1);
        assert_eq!(described.members[0].client_id, "watched");
        assert_eq!(described.members[0].assignment[&topic], [0, 1]);
        let table = kafka.tool()?.consumer_groups(&["--describe", "--group", &group])?;
        let row = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|row| {
                row.get(1) == Some(&topic.as_str()) && row.get(2) == Some(&&*tp.partition().to_string())
            })
            .ok_or_else(|| format!("no row for {tp} in\n{table}"))?;
        let numbers = [done.to_string(), "50".to_owned(), (50 - done).to_string()];
        assert_eq!(row[3..6], numbers, "committed, end and lag in\n{table}");
        assert!(row[6].starts_with("watched-"), "{table}");
        consumer.close().await?;
        // What was committed is where the next one begins.
        let mut next = Consumer::builder(kafka.bootstrap())
            .group(group.as_str())
            .subscribe([topic.as_str()])
            .max_batch_records(10)
            .connect()
            .await?;
        let mut first = BTreeMap::new();
        guarded("the rest", async {
            while first.len() < 2 {
                let batch = next.next_batch().await?.ok_or("the end")?;
                first.entry(batch.partition()).or_insert(batch.first_offset());
            }
            Ok(())
        })
        .await?;
        assert_eq!(first.remove(&tp.partition()), Some(done));
        assert_eq!(first.into_values().collect::<Vec<_>>(), [0]);
        next.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_group_mixed_with_java_and_librdkafka_is_stable_and_loses_nothing() -> Result<()> {
    mixed(Assignor::CooperativeSticky).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_group_mixed_with_java_and_librdkafka_is_stable_and_loses_nothing() -> Result<()> {
    mixed(Assignor::Range).await
}

async fn mixed(assignor: Assignor) -> Result<()> {
    for version in versions() {
        let (kafka, backend) = (shared(&version)?, Backend::shared(&version)?);
        scenarios::a_mixed_group_is_stable_and_loses_nothing(&kafka, &backend, assignor).await?;
    }
    Ok(())
}
