//! The rules of the API and of the driver, and the test that holds each. `every_rule_names_tests_that_exist` reads
//! this table. Tests without a path are in this crate's `tests`; `core` are those of `ottla-core`, `unit` those in this
//! crate's sources, `suite` those of the unpublished `tests`.
//!
//! | rule | tests |
//! |---|---|
//! | **Reads** | |
//! | Reads take `&mut self`, so two readers are a compile error; the types that travel are `Send` | types_that_travel_are_send_and_sync, all_futures_are_send |
//! | A handle holds weak ends: once the consumer is gone its calls give `Closed` | handle_calls_give_closed_once_the_consumer_is_gone, a_call_that_waits_ends_when_the_consumer_goes |
//! | The reads are faces of one `take`; `next_batch` and `next_record` handle events by the defaults | core: events_come_before_data_and_the_defaults_read_over_them, a_manual_assignment_is_no_event |
//! | `next_batches` waits for a number of records or a time, over all partitions, and takes nothing before | it_waits_for_the_number_of_records_and_no_longer, when_the_time_is_over_it_gives_what_is_there_or_nothing, a_future_that_is_dropped_while_it_gathers_has_taken_nothing, a_reader_that_gathers_for_longer_than_max_poll_interval_is_not_away |
//! | `records()` is a stream of owned records | records_are_a_stream_that_ends_with_shutdown, a_stream_that_is_dropped_loses_nothing |
//! | Every public future is cancel safe, a position moves in the poll that returns the value | reads_that_are_dropped_while_they_wait_lose_and_repeat_nothing, the_position_moves_in_the_poll_that_returns |
//! | A batch is joined or split, at most `max_batch_records` | a_batch_holds_at_most_max_batch_records; core: batches_are_joined_up_to_max_batch_records_and_split_above, batches_of_several_responses_are_joined |
//! | A record knows topic, partition, offset, leader epoch, timestamp and its type | core: a_record_is_what_was_written |
//! | An owned record shares the batch and outlives everything | an_owned_record_outlives_everything |
//! | `key_bytes()` and `value_bytes()` share the buffer and are not seen | shared_bytes_outlive_their_record_and_do_not_hold_back_what_is_done |
//! | `detach()` copies and frees the buffer | detached_data_frees_its_buffer_and_is_not_seen |
//! | The default of `auto_offset_reset` is earliest | partitions_assigned_by_hand_may_begin_at_the_committed_offset |
//! | By duration: at the first record that is young enough, else at the end | a_reset_by_duration_begins_at_the_first_record_that_is_young_enough |
//! | Partitions that appear after the subscription started begin at earliest | a_topic_that_comes_back_is_new_and_begins_at_earliest |
//! | A recreated topic: `DataLoss` once, then earliest of the new id, with an event | a_recreated_topic_is_data_loss_once_and_is_read_from_its_beginning, a_recreated_topic_stops_its_partitions_where_the_policy_is_error, what_was_read_of_a_recreated_topic_is_not_committed_where_the_policy_is_error |
//! | `pause` and `seek`: once the call resolves no record of the old state is returned | once_a_pause_resolves_no_record_of_the_partition_is_returned, once_a_seek_resolves_no_record_of_the_old_position_is_returned |
//! | `PartitionEof` comes after the last record was handed out, once until new data | the_end_of_a_partition_is_told_once_until_there_is_more, the_end_comes_after_a_seek_to_the_very_end_and_after_assigning_anew |
//! | Unsubscribing commits what is done and leaves, without waiting for the reader | unsubscribe_commits_what_is_done_leaves_the_group_and_allows_to_begin_anew, unsubscribing_does_not_wait_for_what_is_held_of_a_revocation |
//! | An unknown topic is created only where that is allowed | an_unknown_topic_is_created_only_where_that_is_allowed |
//! | **Done, marks and commits** | |
//! | Auto: done is what the reader came back from … | auto_commits_only_what_the_reader_has_come_back_from, close_commits_what_is_done_and_not_what_is_in_hand |
//! | … and of which no `Batch` or `Record` is alive | auto_does_not_commit_what_is_still_held; core: thirty_two_records_in_flight_are_not_committed_early |
//! | Detached or copied data cannot be seen | detached_data_frees_its_buffer_and_is_not_seen |
//! | A handle that holds back commits is reported with its partition and age | auto_does_not_commit_what_is_still_held; core: a_handle_that_holds_back_commits_is_reported_with_its_age |
//! | Manual: `commit` is cumulative | manual_commits_are_cumulative, manual_commits_nothing_by_itself |
//! | `commit_delivered()`: everything handed out, the batch in hand included | commit_delivered_takes_the_batch_in_hand_too |
//! | `commit_in_background`: the latest per partition, one in flight, the outcome as an event | commits_in_the_background_keep_one_in_flight_and_the_latest_of_each_partition |
//! | What waits goes out together, each who asked gets an answer | commits_that_wait_go_out_together_and_each_gets_its_answer, of_commits_that_go_out_together_only_the_refused_partition_fails |
//! | `mark()`: only the gap-free prefix is committed | marks_commit_the_prefix_without_a_gap |
//! | Delivery of a partition pauses at `max_unmarked` behind a gap | delivery_of_a_partition_pauses_at_max_unmarked_and_the_others_go_on |
//! | A metadata string goes in and comes back | a_text_goes_in_with_a_record_and_comes_back_with_the_offset, plain_offsets_go_back_only_with_rewind |
//! | Explicit commits are allowed under Auto and count as done | explicit_commits_are_allowed_under_auto_and_count_as_done |
//! | The committed offset is the position: control, aborted and compacted offsets next to done data are done | control_and_aborted_offsets_next_to_done_data_are_done; core: control_and_compacted_offsets_next_to_done_data_are_done |
//! | A position that the reset policy chose is committed at once | an_idle_latest_group_commits_the_position_it_chose |
//! | The ownership epoch changes on assignment, revocation, loss and every seek … | a_token_of_before_a_seek_is_not_owned_and_never_sent, after_a_seek_and_back_the_epoch_is_another_and_marks_have_no_effect |
//! | … never when the generation of a kept partition moves | core: the_epoch_of_a_kept_partition_does_not_move_with_the_generation |
//! | A token of another epoch gives `NotOwned` and is never sent | a_token_of_before_a_seek_is_not_owned_and_never_sent |
//! | A token at or below what this ownership committed resolves Ok unsent | manual_commits_are_cumulative |
//! | Plain offsets are checked against present ownership and go lower only with `rewind` | plain_offsets_go_back_only_with_rewind, a_plain_offset_may_be_below_one_that_was_not_committed |
//! | A commit over several partitions sends the owned ones and answers per partition | a_commit_over_several_partitions_sends_the_owned_ones_and_answers_for_each |
//! | On ILLEGAL_GENERATION with a newer one known, tokens still held are sent again | a_commit_is_sent_again_with_the_generation_that_came_meanwhile |
//! | A cancelled commit is still sent | a_cancelled_commit_is_still_sent |
//! | `External`: the function is run inside the read, repeated if cancelled; `Assigned` is answered by `start_at`; nothing is fetched before, nothing written | nothing_is_fetched_before_the_answer, with_events_the_assignment_is_answered_by_start_at, partitions_begin_where_the_users_store_says_and_nothing_is_committed |
//! | **Rebalance, liveness, end** | |
//! | Revocation is an event met on the next read; heartbeats continue | a_revocation_is_met_on_the_next_read_and_ends_with_finish |
//! | The deadline is the shorter of `revoke_timeout` and the rebalance timeout less a margin | core: the_deadline_of_a_revocation_leaves_room_for_the_last_commit_and_the_join |
//! | Past the deadline the partitions are lost and said so | a_revocation_that_is_not_finished_in_time_loses_the_partitions; core: past_the_deadline_the_partitions_are_lost_and_said_so |
//! | The default holds the revocation until everything handed out is done, or the deadline | by_default_a_revocation_waits_for_what_is_held_and_ends_when_it_is_dropped |
//! | `next_batch` in Manual gives up exactly what was committed or marked | core: manual_gives_up_exactly_what_was_committed_or_marked |
//! | With `next_event`, reading on after `Revoking` equals `finish` | core: with_events_reading_on_equals_finish |
//! | While a revocation is open no JoinGroup is sent; commits go on | while_a_revocation_is_open_no_join_group_is_sent_and_commits_go_on |
//! | After a revocation no read returns a record of the old ownership; what is in hand is readable, its tokens `NotOwned` | a_revocation_is_met_on_the_next_read_and_ends_with_finish; core: from_the_revocation_on_nothing_of_the_partition_is_returned |
//! | `max_poll_interval`: the clock runs while something is there or handed out … | a_reader_that_stays_away_for_too_long_loses_its_partitions_and_may_come_back |
//! | … and stands while nothing is; `None` disables it | the_poll_clock_stands_while_nothing_is_there; core: none_disables_the_clock |
//! | Pause survives rebalances of kept partitions | a_pause_survives_rebalances_of_kept_partitions |
//! | An eager assignor in the list makes the member eager | core: one_eager_assignor_makes_the_member_eager_as_in_java, a_list_with_an_eager_assignor_claims_nothing |
//! | Every assignor shares the partitions out | every_assignor_shares_the_partitions_out |
//! | `shutdown()` drops what was not handed out; the next read is `None` and marks the batch before as done | shutdown_marks_the_batch_before_as_done, shutdown_ends_reading_at_once |
//! | `close` commits what is done, leaves, is bounded, returns what failed | close_commits_what_is_done_and_not_what_is_in_hand, close_is_bounded_when_the_coordinator_does_not_answer, close_is_bounded_when_all_brokers_are_gone, close_is_bounded_when_no_broker_was_ever_reached |
//! | Dropping the `close()` future equals `Drop`, which never blocks and never spawns | dropping_the_close_future_equals_dropping_the_consumer, a_dropped_consumer_leaves_its_group, no_task_is_left_after_drop, a_consumer_may_be_dropped_outside_of_any_runtime |
//! | `connect` is bounded, and no address uses up the time of the others | connect_tries_for_the_time_for_connecting_and_no_longer, a_broker_that_comes_up_after_two_seconds_is_reached, addresses_where_nobody_answers_do_not_use_up_the_time_of_the_others |
//! | **`run_partitioned`** | |
//! | Each partition has its own task and its own backpressure | a_partition_that_is_slow_holds_up_no_other; core: each_partition_gives_its_data_to_its_own_reader_only |
//! | A task is never aborted; its next call ends with the reason | a_revocation_waits_for_the_task_to_return_and_the_next_task_begins_when_it_comes_again, tasks_of_a_consumer_that_is_dropped_are_not_aborted_and_learn_of_it; core: the_next_call_of_a_task_ends_with_the_reason_until_it_has_returned |
//! | The next task of a partition begins after the one before has returned | a_task_that_is_stuck_loses_its_partition_and_the_next_one_waits_for_it; core: what_is_owned_is_claimed_once_and_again_when_its_task_has_returned |
//! | The first error or panic stops fetching, ends all and is returned | the_first_task_that_fails_ends_all_and_its_work_is_not_committed, a_panic_of_a_task_ends_all_and_is_told, an_error_of_the_consumer_ends_all_tasks |
//! | `max_poll_interval` is per partition: the stuck one ends *Lost*, the member leaves and joins again | a_task_that_is_stuck_loses_its_partition_and_the_next_one_waits_for_it; core: the_poll_clock_is_per_partition_and_names_the_stuck_one |
//! | Its future is cancel safe | a_future_that_is_dropped_leaves_the_tasks_to_the_next_call |
//! | **Errors** | |
//! | An error of one partition is returned once, stops that partition only, and carries `resume_at()` | an_error_of_one_partition_is_told_once_and_the_others_go_on |
//! | An unauthorized topic is told once, the others go on | a_topic_that_may_not_be_described_is_told_once_and_the_others_go_on, a_topic_that_may_not_be_read_stops_its_partitions_once_each_and_the_others_go_on |
//! | Fatal errors repeat | a_fatal_error_repeats_and_close_returns, without_an_assignor_in_common_the_error_prints_both_lists |
//! | `code()`, `broker()`, `topic_partition()` and `is_retriable()` say what the text says | a_topic_that_may_not_be_read_stops_its_partitions_once_each_and_the_others_go_on |
//! | A batch over a limit is `Limit`, not `Corrupt`, and names the setting | core: a_batch_over_the_limit_is_limit_and_names_the_setting |
//! | The text names the address; the cause is in `source()` | connect_fails_in_its_time_and_names_the_address |
//! | **Configuration** | |
//! | Values are checked together; what is wrong is told all at once | a_wrong_configuration_starts_nothing_and_tells_all_that_is_wrong |
//! | `from_properties` takes the file of another client with its names, words and defaults | unit: every_property_of_both_clients_is_in_its_table_once, what_is_not_set_is_what_it_is_in_that_client, unknown_names_are_refused_with_the_nearest_one, defaults_that_differ_between_the_worlds_are_told_once_each |
//! | When members have no assignor in common the error prints both lists | without_an_assignor_in_common_the_error_prints_both_lists, where_the_group_cannot_be_described_the_error_says_how_to_find_out |
//! | **Driver** | |
//! | It never runs user code: a handler that blocks stops no heartbeat | a_handler_that_blocks_a_current_thread_runtime_for_two_sessions_keeps_its_partitions, a_handler_that_blocks_a_multi_thread_runtime_for_two_sessions_keeps_its_partitions |
//! | A thread of its own, or the caller's runtime | it_works_on_a_current_thread_runtime, it_works_on_a_multi_thread_runtime, the_callers_runtime_needs_to_exist, no_thread_is_left_after_close_or_drop |
//! | The ledger covers fetched frames and decompressed data and is bounded, whatever the reader does | the_ledger_is_bounded_with_a_reader_that_is_stuck, the_ledger_is_bounded_with_a_reader_that_is_slow_and_everything_comes |
//! | The ledger counts allocations; a small rest is copied out | core: a_frame_counts_whole_until_its_last_slice_goes, a_small_rest_of_a_frame_is_copied_out_when_room_is_needed |
//! | The next fetch is in flight while the user drains | fetching_goes_on_while_the_reader_works |
//! | Buffers of paused partitions are given up, oldest first, and fetched again | a_paused_partition_gives_its_room_to_one_that_is_read_and_loses_nothing; core: paused_buffers_are_evicted_oldest_first_and_fetched_again_on_resume |
//! | Handing out moves bytes to `pinned_bytes`, which never blocks | what_is_handed_out_is_pinned_and_blocks_nothing |
//! | A fetch offset from an unverified header is provisional | core: a_fetch_offset_is_provisional_until_all_below_it_was_verified, a_provisional_offset_out_of_range_drops_the_prefetch_and_goes_back_to_what_is_verified, an_offset_above_the_high_watermark_is_asked_for_again_and_then_corrupt |
//! | The same seed and inputs give byte-identical outputs of the core | suite: the_same_seed_and_inputs_give_byte_identical_outputs |

#[path = "../common/mod.rs"]
mod common;

mod commits;
mod groups;
mod memory;
mod positions;
mod subscriptions;

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all test functions below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let mut test = false;
            for line in source.lines().map(str::trim_start) {
                let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
                match function {
                    Some(function) if test => names.extend(function.split('(').next().map(str::to_owned)),
                    _ if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => test = true,
                    _ if line.starts_with("#[") => {}
                    _ => test = false,
                }
            }
        }
    }
}

#[test]
fn every_rule_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = |folder: &str| {
        let mut names = BTreeSet::new();
        tests_below(&root.join(folder), &mut names);
        names
    };
    let (here, core, suite) = (below("tests"), below("../ottla-core/src"), below("../../tests/tests"));
    let unit = below("src");
    let mut rules = 0;
    for row in include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let Some((rule, tests)) = row.trim_end_matches(" |").rsplit_once(" | ") else { continue };
        if rule == "rule" {
            continue;
        }
        rules += 1;
        for part in tests.split("; ") {
            let (known, list) = match part.split_once(": ") {
                Some(("core", list)) => (&core, list),
                Some(("suite", list)) => (&suite, list),
                Some(("unit", list)) => (&unit, list),
                Some((other, _)) => panic!("{other} of {rule:?} is no place"),
                None => (&here, part),
            };
            for test in list.split(", ") {
                assert!(known.contains(test), "{test:?} of the rule {rule:?} is no test");
            }
        }
    }
    assert!(rules > 65, "only {rules} rules were read");
}
