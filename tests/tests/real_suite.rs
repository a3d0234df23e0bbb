//! The integration suite on real Kafka, and what only real peers can show: groups mixed with the Java client and
//! librdkafka, and what Kafka's own tools see.

use std::collections::BTreeMap;

use ottla::{
    Admin, Assignor, Commit, Consumer, Error, ErrorCode, GroupProtocol, GroupState, GroupType, Offset,
    TopicPartition,
};
use ottla_tests::kafka::{Event, Member, MemberSpec, RecordSpec, is_at_least, shared, unique, versions};
use ottla_tests::scenarios::{self, Backend, GUARD, Result, guarded};

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

/// Classic everywhere, and the consumer protocol where the version has it. Before 3.1 fetches tell topics by their names:
/// one that is made anew at once may be taken for one whose log was truncated.
#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_made_anew_are_read_anew() -> Result<()> {
    for version in versions() {
        if !is_at_least(&version, 3, 1) {
            println!("{version} has no fetches by topic id");
            continue;
        }
        let backend = Backend::shared(&version)?;
        scenarios::topics_that_are_made_anew_are_read_anew(&backend, GroupProtocol::Classic).await?;
        if is_at_least(&version, 4, 0) {
            scenarios::topics_that_are_made_anew_are_read_anew(&backend, GroupProtocol::Consumer).await?;
        }
    }
    Ok(())
}

on_shared! {
    admin,
    the_figures_are_those_of_what_was_done,
    every_byte_arrives,
    members_come_and_go,
    kept_partitions_are_read_during_a_rebalance,
    work_that_is_finished_in_time_is_committed,
    work_that_is_not_finished_in_time_is_lost,
    a_reader_that_stays_away_is_put_out,
    auto_commits_only_what_the_reader_came_back_from,
    auto_commits_in_between_stop_before_what_is_in_hand,
    manual_commits_are_where_the_next_member_begins,
    a_token_of_a_lost_ownership_moves_nothing,
    offsets_are_reset_by_policy,
    a_committed_offset_out_of_range_is_reset_by_policy,
    positions_that_a_policy_chose_are_committed_at_once,
    unknown_topics_hold_up_nothing,
    topics_come_and_go,
    partitions_are_added_and_taken_away_by_hand,
    topics_have_policies_and_commits_come_by_number,
    offsets_in_a_database_decide_where_reading_begins,
    topics_that_match_a_pattern_come_and_go,
    transactions_are_seen_when_they_are_committed,
    aborted_records_alone_are_no_trouble,
}

on_own! {
    a_restarted_broker_loses_nothing(1),
    leaders_and_coordinators_move(3),
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
            .group_protocol(GroupProtocol::Classic)
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
        let member = consumer.group_metadata().await?.ok_or("no member")?.member_id;
        assert_eq!(described.members[0].id, member);
        // A position that the reset policy chose is committed, too.
        let other = 1 - tp.partition() as u32;
        let expected: BTreeMap<u32, i64> = [(tp.partition() as u32, done), (other, 0)].into();
        assert_eq!(Backend::shared(&version)?.committed(&group, &topic)?, expected);
        let table = kafka.tool()?.consumer_groups(&["--describe", "--group", &group])?;
        let mut rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        rows.retain(|row| row.get(1) == Some(&topic.as_str()));
        rows.sort();
        let mut expected = expected
            .iter()
            .map(|(p, committed)| {
                let numbers = [i64::from(*p), *committed, 50, 50 - committed].map(|n| n.to_string());
                let names = [member.as_str(), "/127.0.0.1", "watched"].map(str::to_owned);
                [&[group.clone(), topic.clone()][..], &numbers, &names].concat()
            })
            .collect::<Vec<_>>();
        expected.sort();
        assert_eq!(rows, expected, "committed, end, lag, member, host and client id in\n{table}");
        let table = kafka.tool()?.consumer_groups(&["--describe", "--group", &group, "--members"])?;
        let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = row.filter(|row| row.contains(&member.as_str())).collect::<Vec<_>>();
        let [row] = &row[..] else { return Err(format!("not one member in\n{table}").into()) };
        assert_eq!(row[1..5], [member.as_str(), "/127.0.0.1", "watched", "2"], "{table}");
        consumer.close().await?;
        let state = kafka.tool()?.consumer_groups(&["--describe", "--group", &group, "--members"]);
        assert!(!state.is_ok_and(|table| table.contains(&member)), "it left");
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

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_a_group_of_the_consumer_protocol() -> Result<()> {
    for version in versions_with_consumer_groups() {
        let kafka = shared(&version)?;
        let (topic, group) = (unique("new-protocol"), unique("new-protocol"));
        {
            let mut tool = kafka.tool()?;
            tool.create_topic(&topic, 2)?;
            tool.produce(&topic, &RecordSpec::new(100).partitions(2))?;
        }
        let spec = MemberSpec::new(&group, &[&topic]).property("group.protocol", "consumer");
        let mut member = Member::java(&kafka, &spec)?;
        member.until(GUARD, |event| matches!(event, Event::Records { .. }))?;
        let admin = Admin::builder(kafka.bootstrap()).connect().await?;
        let tp = |partition| TopicPartition::new(topic.as_str(), partition);
        let described = guarded("a stable group", async {
            loop {
                let described =
                    admin.describe_groups([&group]).await?.remove(&group).ok_or("no result")??;
                if described.state == GroupState::Stable {
                    return Ok(described);
                }
            }
        })
        .await?;
        assert_eq!(described.group_type, GroupType::Consumer);
        assert_eq!(described.members.len(), 1, "{described:?}");
        assert_eq!(described.members[0].assignment, [tp(0), tp(1)]);
        assert_eq!(admin.list_groups().await?[&group].group_type, Some(GroupType::Consumer));
        let code = |error: Option<&Error>| error.and_then(Error::code);
        let deleted = admin.delete_groups([&group]).await?;
        assert_eq!(code(deleted[&group].as_ref().err()), Some(ErrorCode::NonEmptyGroup));
        let altered = admin.alter_group_offsets(group.as_str(), [(tp(0), Offset::Earliest)]).await?;
        assert_eq!(code(altered[&tp(0)].as_ref().err()), Some(ErrorCode::NonEmptyGroup), "{altered:?}");
        let deleted = admin.delete_group_offsets(group.as_str(), [tp(0)]).await?;
        assert_eq!(code(deleted[&tp(0)].as_ref().err()), Some(ErrorCode::GroupSubscribedToTopic));
        member.close(GUARD)?;
        let altered = admin.alter_group_offsets(group.as_str(), [(tp(0), Offset::At(3))]).await?;
        assert_eq!(altered[&tp(0)].as_ref().ok(), Some(&3), "{altered:?}");
        assert_eq!(Backend::shared(&version)?.committed(&group, &topic)?.get(&0), Some(&3));
        assert!(admin.delete_groups([&group]).await?[&group].is_ok());
    }
    Ok(())
}

/// The versions that have groups of the consumer protocol (KIP-848) unasked.
fn versions_with_consumer_groups() -> Vec<String> {
    let (new, old) = versions().into_iter().partition::<Vec<_>, _>(|v| is_at_least(v, 4, 0));
    old.iter().for_each(|version| println!("{version} has no groups of the consumer protocol"));
    new
}

/// The same over the consumer protocol (KIP-848), and what is different there.
mod consumer_protocol {
    use ottla_tests::kafka::shared;
    use ottla_tests::scenarios::{
        Backend, Result, a_mixed_group_of_the_consumer_protocol_is_stable_and_loses_nothing,
        consumer_protocol as scenarios,
    };

    use super::versions_with_consumer_groups as versions;

    on_shared! {
        members_come_and_go,
        work_that_is_finished_in_time_is_committed,
        work_that_is_not_finished_in_time_is_lost,
        a_reader_that_stays_away_is_put_out,
        a_static_member_that_comes_back_moves_nothing,
        a_group_that_changes_its_protocol_keeps_its_offsets,
        auto_commits_only_what_the_reader_came_back_from,
        auto_commits_in_between_stop_before_what_is_in_hand,
        manual_commits_are_where_the_next_member_begins,
        a_token_of_a_lost_ownership_moves_nothing,
        offsets_in_a_database_decide_where_reading_begins,
        topics_that_match_a_pattern_come_and_go,
    }

    on_own! {
        a_restarted_broker_loses_nothing(1),
        leaders_and_coordinators_move(3),
    }

    /// Members of both protocols in one group.
    mod mixed {
        use ottla_tests::scenarios::{self, Backend, Result};

        use super::versions;

        on_shared! {
            a_group_of_ours_is_migrated_online_and_back,
            members_with_the_default_protocol_join_a_classic_group,
        }
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
    async fn a_group_mixed_with_java_and_librdkafka_is_stable_and_loses_nothing() -> Result<()> {
        for version in versions() {
            let (kafka, backend) = (shared(&version)?, Backend::shared(&version)?);
            a_mixed_group_of_the_consumer_protocol_is_stable_and_loses_nothing(&kafka, &backend).await?;
        }
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_group_is_migrated_online_and_back() -> Result<()> {
        for version in versions() {
            let (kafka, backend) = (shared(&version)?, Backend::shared(&version)?);
            ottla_tests::scenarios::a_group_is_migrated_online_and_back(&kafka, &backend).await?;
        }
        Ok(())
    }
}
