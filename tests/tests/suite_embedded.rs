//! The integration suite on the embedded broker; the same scenarios run on real Kafka in `real_suite.rs`.

use std::sync::Arc;

use ottla::GroupProtocol;
use ottla_tests::scenarios::{self, Backend, Result};

macro_rules! on_embedded {
    ($($name:ident($brokers:expr)),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() -> Result<()> {
                scenarios::$name(&Backend::embedded($brokers).await?).await
            }
        )*
    };
}

on_embedded! {
    admin(3),
    the_figures_are_those_of_what_was_done(3),
    every_byte_arrives(3),
    members_come_and_go(3),
    kept_partitions_are_read_during_a_rebalance(3),
    work_that_is_finished_in_time_is_committed(3),
    work_that_is_not_finished_in_time_is_lost(3),
    a_reader_that_stays_away_is_put_out(3),
    auto_commits_only_what_the_reader_came_back_from(3),
    auto_commits_in_between_stop_before_what_is_in_hand(3),
    manual_commits_are_where_the_next_member_begins(3),
    a_token_of_a_lost_ownership_moves_nothing(3),
    a_restarted_broker_loses_nothing(1),
    leaders_and_coordinators_move(3),
    offsets_are_reset_by_policy(3),
    a_committed_offset_out_of_range_is_reset_by_policy(3),
    positions_that_a_policy_chose_are_committed_at_once(3),
    unknown_topics_hold_up_nothing(3),
    topics_come_and_go(3),
    partitions_are_added_and_taken_away_by_hand(3),
    topics_have_policies_and_commits_come_by_number(3),
    offsets_in_a_database_decide_where_reading_begins(3),
    topics_that_match_a_pattern_come_and_go(3),
    transactions_are_seen_when_they_are_committed(3),
    aborted_records_alone_are_no_trouble(3),
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_is_replaced() -> Result<()> {
    let backend = Backend::embedded(3).await?;
    scenarios::a_member_that_dies_is_replaced(&backend, env!("CARGO_BIN_EXE_victim")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_made_anew_are_read_anew() -> Result<()> {
    let backend = Backend::embedded(3).await?;
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        scenarios::topics_that_are_made_anew_are_read_anew(&backend, protocol).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_good_costs_no_rebalance() -> Result<()> {
    let backend = Backend::embedded(3).await?;
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        scenarios::a_broker_that_is_gone_for_good_costs_no_rebalance(&backend, protocol).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_killed_at_random_lose_nothing() -> Result<()> {
    let backend = Arc::new(Backend::embedded(3).await?);
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        scenarios::brokers_that_are_killed_at_random_lose_nothing(&backend, protocol).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn seeks_and_commits_while_brokers_are_killed() -> Result<()> {
    let backend = Arc::new(Backend::embedded(3).await?);
    scenarios::seeks_and_commits_while_brokers_are_killed(&backend).await
}

/// The same over the consumer protocol (KIP-848), and what is different there.
mod consumer_protocol {
    use ottla_tests::scenarios::{Backend, Result, consumer_protocol as scenarios};

    on_embedded! {
        members_come_and_go(3),
        work_that_is_finished_in_time_is_committed(3),
        work_that_is_not_finished_in_time_is_lost(3),
        a_reader_that_stays_away_is_put_out(3),
        a_static_member_that_comes_back_moves_nothing(3),
        a_group_that_changes_its_protocol_keeps_its_offsets(3),
        auto_commits_only_what_the_reader_came_back_from(3),
        auto_commits_in_between_stop_before_what_is_in_hand(3),
        manual_commits_are_where_the_next_member_begins(3),
        a_token_of_a_lost_ownership_moves_nothing(3),
        offsets_in_a_database_decide_where_reading_begins(3),
        topics_that_match_a_pattern_come_and_go(3),
        a_restarted_broker_loses_nothing(1),
        leaders_and_coordinators_move(3),
    }

    /// Members of both protocols in one group.
    mod mixed {
        use ottla_tests::scenarios::{self, Backend, Result};

        on_embedded! {
            a_group_of_ours_is_migrated_online_and_back(1),
            members_with_the_default_protocol_join_a_classic_group(1),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_member_that_dies_is_replaced() -> Result<()> {
        let backend = Backend::embedded(3).await?;
        scenarios::a_member_that_dies_is_replaced(&backend, env!("CARGO_BIN_EXE_victim")).await
    }
}
