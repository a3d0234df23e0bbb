//! The integration suite: one code for the embedded broker and for real Kafka.
//!
//! Nothing here sleeps and nothing asserts on wall time: a scenario waits for events, with a guard against
//! hanging. Bounds in time are asserted on virtual time, in `tests/core_on_broker.rs`.

mod admin;
mod assignors;
mod backend;
mod bounces;
mod bytes;
mod close;
mod commits;
pub mod consumer_protocol;
mod etl;
mod failures;
mod figures;
mod group;
mod groups;
mod migration;
mod mortal;
mod offsets;
mod peers;
mod subscriptions;
mod topics;
mod transactions;

use std::future::Future;
use std::time::Duration;

use ottla::{Builder, Consumer, GroupProtocol};

pub use admin::admin;
pub use assignors::{
    an_assignor_of_ones_own_shares_the_partitions_out, assignors_are_changed_one_member_after_the_other,
};
pub use backend::Backend;
pub use bounces::{
    Bounce, doubled_instance_ids_of_all_at_once_leave_one_each, members_that_bounce_repeat_nothing,
    newcomers_with_taken_instance_ids, static_members_outlive_restarts_of_all_brokers,
};
pub use bytes::every_byte_arrives;
pub use close::close_returns_whatever_is_gone;
pub use commits::{
    a_token_of_a_lost_ownership_moves_nothing, auto_commits_in_between_stop_before_what_is_in_hand,
    auto_commits_only_what_the_reader_came_back_from, manual_commits_are_where_the_next_member_begins,
};
pub use etl::{
    Chain, a_chain_of_groups_loses_and_repeats_nothing, a_chain_of_groups_whose_connections_die_loses_nothing,
};
pub use failures::{
    a_broker_that_is_gone_for_good_costs_no_rebalance, a_member_that_dies_is_replaced,
    a_restarted_broker_loses_nothing, brokers_that_are_killed_at_random_lose_nothing,
    leaders_and_coordinators_move, rolling_restarts, seeks_and_commits_while_brokers_are_killed,
};
pub use figures::the_figures_are_those_of_what_was_done;
pub use group::{Change, Group, Partitions};
pub use groups::{
    a_reader_that_stays_away_is_put_out, kept_partitions_are_read_during_a_rebalance, members_come_and_go,
    work_that_is_finished_in_time_is_committed, work_that_is_not_finished_in_time_is_lost,
};
pub use migration::{
    a_group_of_ours_is_migrated_online_and_back, members_with_the_default_protocol_join_a_classic_group,
};
pub use offsets::{
    a_committed_offset_out_of_range_is_reset_by_policy, offsets_are_reset_by_policy,
    positions_that_a_policy_chose_are_committed_at_once,
};
pub use peers::{
    a_group_is_migrated_online_and_back, a_mixed_group_is_stable_and_loses_nothing,
    a_mixed_group_of_the_consumer_protocol_is_stable_and_loses_nothing,
};
pub use subscriptions::{
    offsets_in_a_database_decide_where_reading_begins, partitions_are_added_and_taken_away_by_hand,
    topics_have_policies_and_commits_come_by_number,
};
pub use topics::{
    topics_come_and_go, topics_that_are_made_anew_are_read_anew, topics_that_match_a_pattern_come_and_go,
    unknown_topics_hold_up_nothing,
};
pub use transactions::{aborted_records_alone_are_no_trouble, transactions_are_seen_when_they_are_committed};

/// A member of `group` that speaks `protocol` and, a classic one, heartbeats often. (Under the consumer protocol the
/// brokers decide about that.)
fn over(bootstrap: &str, group: &str, protocol: GroupProtocol) -> Builder {
    let builder = Consumer::builder(bootstrap).group(group).group_protocol(protocol);
    match protocol {
        GroupProtocol::Classic => {
            builder.session_timeout(Duration::from_secs(10)).heartbeat_interval(Duration::from_millis(300))
        }
        _ => builder,
    }
}

/// What a scenario gives.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A guard against hanging, and nothing else.
pub const GUARD: Duration = Duration::from_secs(180);

/// `future`, or an error that says what hangs.
///
/// # Errors
/// Those of `future`, or that it hangs.
pub async fn guarded<T>(what: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(GUARD, future).await.map_err(|_| format!("{what} hangs"))?
}
