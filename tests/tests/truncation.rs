//! Logs that an unclean leader election has cut, on virtual time (KIP-320).

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, ErrorCode, Fault};

use ottla_core::client::{Command, CommitItem, Offset};
use ottla_core::config::{CommitMode, GroupConfig, OffsetReset};
use ottla_core::delivery::ResetCause;
use ottla_core::{ErrorKind, LeaderEpoch, TopicPartition};
use ottla_tests::sim::{MemberId, Seen, World};

const MINUTE: Duration = Duration::from_secs(60);

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Three brokers and a topic with one partition that holds 100 records.
fn world() -> World {
    with(ClusterConfig::with_nodes(3))
}

fn with(config: ClusterConfig) -> World {
    let mut world = World::with_config(7, config);
    world.cluster.create_topic("t", 1).expect("a topic");
    produce(&mut world, "old", 0..100);
    world
}

fn produce(world: &mut World, text: &str, numbers: std::ops::Range<i64>) {
    let now = world.broker_now();
    for n in numbers {
        world.cluster.produce(now, "t", 0, [format!("{text} {n}").as_str()]).expect("produced");
    }
}

fn assigned(world: &mut World, reset: OffsetReset) -> MemberId {
    let mut config = world.config();
    config.auto_offset_reset = reset;
    let id = world.join(config);
    world.command(id, Command::Assign(vec![(tp(), Offset::Earliest)]));
    id
}

fn subscriber(world: &mut World) -> MemberId {
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    id
}

/// Another broker leads, whose log ends at `to`, and has gone on from there.
fn elect_uncleanly(world: &mut World, to: i64, more: std::ops::Range<i64>) {
    let now = world.broker_now();
    let (leader, _) = world.cluster.leader("t", 0).expect("a partition");
    let other = if leader == Some(1) { 2 } else { 1 };
    world.cluster.elect_uncleanly(now, "t", 0, other, to).expect("elected");
    produce(world, "new", more);
}

fn requests(world: &World, api: &str) -> usize {
    world.cluster.requests().filter(|r| format!("{:?}", r.api) == api).count()
}

fn truncations(world: &mut World, id: MemberId) -> Vec<(i64, i64)> {
    let cut = |(_, to, cause): &(TopicPartition, i64, ResetCause)| match cause {
        ResetCause::LogTruncation { offset } => Some((*offset, *to)),
        _ => None,
    };
    world.member(id).resets.iter().filter_map(cut).collect()
}

/// What was handed out, from the first time on that `offset` was for the `nth` time.
fn values_from(world: &mut World, id: MemberId, index: usize) -> Vec<(i64, String)> {
    let values = &world.member(id).values[&tp()];
    values[index..].iter().map(|(o, v)| (*o, String::from_utf8_lossy(v).into_owned())).collect()
}

fn expected(text: &str, numbers: std::ops::Range<i64>) -> Vec<(i64, String)> {
    numbers.map(|n| (n, format!("{text} {n}"))).collect()
}

#[test]
fn kip_320_after_an_unclean_election_it_reads_on_from_where_the_logs_part_and_says_so() {
    // The new log is shorter than the position, or longer: then the offset alone would tell nothing.
    for end in [70, 100, 130] {
        let mut world = world();
        let id = assigned(&mut world, OffsetReset::Earliest);
        world.run_until(MINUTE, |w| w.member(id).count() == 100);
        elect_uncleanly(&mut world, 60, 60..end);
        let all = 100 + usize::try_from(end - 60).expect("a length");
        world.run_until(MINUTE, |w| w.member(id).count() == all);
        assert_eq!(truncations(&mut world, id), [(100, 60)], "told once");
        assert_eq!(values_from(&mut world, id, 100), expected("new", 60..end));
        world.run_for(MINUTE);
        assert_eq!(world.member(id).count(), all);
    }
}

#[test]
fn kip_320_a_leader_with_the_same_log_is_asked_once_and_nothing_is_read_twice() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    assert_eq!(requests(&world, "OffsetForLeaderEpoch"), 0, "a bare offset has no leader epoch");
    for round in 1..4 {
        let now = world.broker_now();
        world.cluster.move_leader(now, "t", 0, 1 + round % 3).expect("moved");
        let from = 100 + i64::from(round - 1) * 10;
        produce(&mut world, "old", from..from + 10);
        world.run_until(MINUTE, |w| w.member(id).count() == usize::try_from(from + 10).expect("a count"));
        world.run_for(MINUTE);
        assert_eq!(requests(&world, "OffsetForLeaderEpoch"), usize::try_from(round).expect("a count"));
    }
    assert_eq!(values_from(&mut world, id, 0), expected("old", 0..130));
    assert!(world.member(id).resets.is_empty());
}

#[test]
fn kip_320_with_the_policy_error_a_truncation_is_data_loss_that_says_where_to_go_on() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Error);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    elect_uncleanly(&mut world, 60, 60..130);
    world.run_for(MINUTE);
    let member = world.member(id);
    let errors: Vec<_> = member
        .seen
        .iter()
        .filter_map(|(_, s)| match s {
            Seen::Error(e) => Some((e.kind(), e.resume_at(), e.is_fatal())),
            _ => None,
        })
        .collect();
    assert_eq!(errors, [(ErrorKind::DataLoss, Some(60), false)], "told once");
    assert_eq!(member.count(), 100, "nothing is read on");
    assert!(member.resets.is_empty());
    world.command(id, Command::Seek(tp(), Offset::At(60)));
    world.run_until(MINUTE, |w| w.member(id).count() == 170);
    assert_eq!(values_from(&mut world, id, 100), expected("new", 60..130));
}

#[test]
fn kip_320_a_committed_offset_beyond_the_cut_hides_nothing_from_the_next_member() {
    let mut world = world();
    let first = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(first).count() == 100);
    world.command(first, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(MINUTE, |w| w.member(first).is_closed());
    assert_eq!(world.cluster.committed("g", "t", 0).expect("committed").offset, 100);
    elect_uncleanly(&mut world, 60, 60..130);
    let second = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(second).count() == 70);
    assert_eq!(values_from(&mut world, second, 0), expected("new", 60..130));
    assert_eq!(truncations(&mut world, second), [(100, 60)]);
}

#[test]
fn kip_320_what_is_committed_beyond_the_cut_is_committed_anew_at_once() {
    let mut world = world();
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 100));
    elect_uncleanly(&mut world, 60, 60..60);
    world.run_until(MINUTE, |w| w.member(id).resets.len() == 2);
    assert_eq!(truncations(&mut world, id), [(100, 60)]);
    let before = world.now();
    world.run_until(Duration::from_secs(2), |w| {
        w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 60)
    });
    assert!(world.now().since(before) < Duration::from_secs(1), "long before the commit interval");
    produce(&mut world, "new", 60..70);
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 70));
    let offsets: Vec<i64> = world.cluster.commits().iter().map(|c| c.committed.offset).collect();
    let at = offsets.iter().position(|o| *o == 60).expect("the cut is committed");
    assert!(offsets[at..].iter().all(|o| (60..=70).contains(o)), "nothing of before the cut: {offsets:?}");
}

#[test]
fn kip_320_what_was_fetched_ahead_beyond_the_cut_is_dropped_and_nothing_is_told() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.member(id).auto_read = false;
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.member(id).count(), 0, "all of it waits");
    elect_uncleanly(&mut world, 60, 60..130);
    world.run_for(MINUTE);
    world.member(id).auto_read = true;
    world.run_until(MINUTE, |w| w.member(id).count() == 130);
    let mut all = expected("old", 0..60);
    all.extend(expected("new", 60..130));
    assert_eq!(values_from(&mut world, id, 0), all);
    assert!(world.member(id).resets.is_empty(), "the reader has seen nothing of what is gone");
}

/// The new leader's last epoch up to ours ends beyond our position, but our records are of a later one: its log is
/// another one all the same, and what it holds from where that epoch began was never read.
#[test]
fn kip_320_an_epoch_that_the_leader_never_had_is_another_log_wherever_its_own_ends() {
    let mut world = world();
    let now = world.broker_now();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    // Read under one leader epoch …
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    produce(&mut world, "old", 100..110);
    world.run_until(MINUTE, |w| w.member(id).count() == 110);
    // … which the log that wins has nothing of: there the epoch before goes on.
    let epoch = world.cluster.leader("t", 0).expect("a partition").1;
    assert!(epoch > 0);
    let now = world.broker_now();
    world.cluster.elect_uncleanly(now, "t", 0, 3, 100).expect("elected");
    let values: Vec<String> = (100..140).map(|n| format!("new {n}")).collect();
    let values = values.iter().map(String::as_str);
    world.cluster.produce_in_epoch(now, "t", 0, 0, values).expect("produced");
    world.run_until(MINUTE, |w| w.member(id).count() == 150);
    assert_eq!(truncations(&mut world, id), [(110, 100)]);
    let offsets: Vec<i64> = values_from(&mut world, id, 110).into_iter().map(|(o, _)| o).collect();
    assert_eq!(offsets, (100..140).collect::<Vec<_>>());
}

#[test]
fn kip_320_brokers_that_cannot_be_asked_are_read_from_without_asking() {
    let config = ClusterConfig::with_nodes(3).as_version("2.2").expect("a release");
    let mut world = with(config);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    produce(&mut world, "old", 100..110);
    world.run_until(MINUTE, |w| w.member(id).count() == 110);
    assert_eq!(requests(&world, "OffsetForLeaderEpoch"), 0);
    assert!(truncations(&mut world, id).is_empty());
}

#[test]
fn kip_320_cuts_one_after_the_other_are_each_told_once_and_do_not_loop() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    elect_uncleanly(&mut world, 80, 80..90);
    elect_uncleanly(&mut world, 60, 60..65);
    world.run_for(MINUTE);
    assert_eq!(truncations(&mut world, id), [(100, 60)]);
    let asked = requests(&world, "OffsetForLeaderEpoch");
    assert!(asked <= 6, "{asked} requests");
    elect_uncleanly(&mut world, 20, 20..30);
    world.run_for(MINUTE);
    assert_eq!(truncations(&mut world, id), [(100, 60), (65, 20)]);
    assert_eq!(values_from(&mut world, id, 105), expected("new", 20..30));
}

/// What is in hand belongs to an ownership that is over: it is handed out again instead of being committed as done.
#[test]
fn kip_320_what_is_in_hand_before_the_cut_is_read_again_and_not_committed() {
    let mut world = world();
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.max_batch_records = 10;
    let id = world.join(config);
    world.member(id).auto_read = false;
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_for(Duration::from_secs(10));
    // Events first; then the first fifty records, the last ten of which stay in hand.
    while world.member(id).count() < 50 {
        assert!(world.read(id), "there is something to read");
    }
    elect_uncleanly(&mut world, 45, 45..130);
    world.run_for(Duration::from_secs(20));
    let committed = world.cluster.committed("g", "t", 0).expect("committed").offset;
    assert!(committed <= 40, "{committed} is committed, from 40 on it is in hand");
    world.member(id).auto_read = true;
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 130));
    assert_eq!(truncations(&mut world, id), [(50, 40)]);
    let mut again = expected("old", 40..45);
    again.extend(expected("new", 45..130));
    assert_eq!(values_from(&mut world, id, 50), again);
}

/// The log is shorter than what was read, and the brokers cannot be asked about leader epochs: the offset is out of range, and the policy
/// says the end. What is in hand and still in the log is handed out again instead of being committed as done.
#[test]
fn what_is_in_hand_when_the_offset_is_out_of_range_is_read_again_and_not_committed() {
    let mut world = with(ClusterConfig::with_nodes(3).as_version("2.2").expect("a release"));
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.auto_offset_reset = OffsetReset::Latest;
    config.max_batch_records = 10;
    let id = world.join(config);
    world.member(id).auto_read = false;
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 100));
    produce(&mut world, "old", 100..150);
    world.run_for(Duration::from_secs(10));
    // Events first; then the fifty records, the last ten of which stay in hand.
    while world.member(id).count() < 50 {
        assert!(world.read(id), "there is something to read");
    }
    let now = world.broker_now();
    world.cluster.truncate(now, "t", 0, 145).expect("truncated");
    world.run_for(Duration::from_secs(20));
    let committed = world.cluster.committed("g", "t", 0).expect("committed").offset;
    assert!(committed <= 140, "{committed} is committed, from 140 on it is in hand");
    produce(&mut world, "new", 145..160);
    world.member(id).auto_read = true;
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 160));
    let mut again = expected("old", 140..145);
    again.extend(expected("new", 145..160));
    assert_eq!(values_from(&mut world, id, 50), again);
    let reset = world.member(id).resets.last().cloned();
    assert_eq!(reset, Some((tp(), 140, ResetCause::OutOfRange { offset: 150 })));
}

/// Reads at `start` of a topic whose leader moves from 1 to 2, and knows of it within a second.
fn between_leaders(world: &mut World, start: Offset) -> MemberId {
    assert_eq!(world.cluster.leader("t", 0).expect("a partition").0, Some(1));
    let mut config = world.config();
    config.metadata_max_age = Duration::from_secs(1);
    let id = world.join(config);
    world.command(id, Command::Assign(vec![(tp(), start)]));
    id
}

#[test]
fn kip_320_an_answer_of_the_former_leader_while_the_new_one_is_asked_does_not_end_reading() {
    let mut world = world();
    let id = between_leaders(&mut world, Offset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    // The former leader's answer with records is on its way for as long as it takes to ask the new one, who answers
    // later still.
    world.cluster.add_fault(Fault::on(Api::Fetch).node(1).always().delay(Duration::from_secs(3)));
    world.cluster.add_fault(Fault::on(Api::OffsetForLeaderEpoch).node(2).delay(Duration::from_secs(6)));
    let before = requests(&world, "Fetch");
    world.run_until(MINUTE, |w| requests(w, "Fetch") > before);
    produce(&mut world, "old", 100..110);
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    world.run_until(Duration::from_millis(2500), |w| requests(w, "OffsetForLeaderEpoch") == 1);
    assert_eq!(world.member(id).count(), 100, "asked before the former leader's answer is there");
    world.run_until(Duration::from_secs(3), |w| w.member(id).count() > 100);
    produce(&mut world, "old", 110..200);
    world.run_until(MINUTE, |w| w.member(id).count() == 200);
    assert_eq!(values_from(&mut world, id, 0), expected("old", 0..200));
    assert!(world.member(id).resets.is_empty());
}

#[test]
fn kip_320_a_bare_offset_that_both_leaders_are_asked_for_does_not_end_reading() {
    let mut world = world();
    world.cluster.add_fault(Fault::on(Api::Fetch).node(1).delay(Duration::from_secs(3)));
    world.cluster.add_fault(Fault::on(Api::Fetch).node(2).delay(Duration::from_secs(6)));
    let id = between_leaders(&mut world, Offset::At(0));
    world.run_until(MINUTE, |w| requests(w, "Fetch") == 1);
    world.run_for(Duration::from_millis(100));
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    world.run_until(Duration::from_millis(2500), |w| requests(w, "Fetch") == 2);
    assert_eq!(world.member(id).count(), 0, "nobody has answered");
    world.run_until(Duration::from_secs(3), |w| w.member(id).count() == 100);
    produce(&mut world, "old", 100..200);
    world.run_until(MINUTE, |w| w.member(id).count() == 200);
    assert_eq!(values_from(&mut world, id, 0), expected("old", 0..200));
    assert!(world.member(id).resets.is_empty());
}

/// What a position at the end of a log says of its leader's epoch is in no log, if nothing was written in it.
#[test]
fn kip_320_an_epoch_in_which_nothing_was_written_is_no_truncation() {
    let mut world = world();
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    let join = |world: &mut World, reset| {
        let mut config = world.config();
        config.group = Some(GroupConfig::new("g"));
        config.auto_offset_reset = reset;
        let id = world.join(config);
        world.command(id, Command::Subscribe(vec!["t".to_owned()]));
        id
    };
    let first = join(&mut world, OffsetReset::Latest);
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 100));
    world.command(first, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(MINUTE, |w| w.member(first).is_closed());
    assert_eq!(world.cluster.committed("g", "t", 0).expect("committed").leader_epoch, 1);
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 3).expect("moved");
    let second = join(&mut world, OffsetReset::Error);
    world.run_for(MINUTE);
    assert!(requests(&world, "OffsetForLeaderEpoch") > 0, "the new leader was asked");
    produce(&mut world, "later", 100..110);
    world.run_until(MINUTE, |w| w.member(second).count() == 10);
    assert_eq!(values_from(&mut world, second, 0), expected("later", 100..110));
    let member = world.member(second);
    assert!(!member.seen.iter().any(|(_, s)| matches!(s, Seen::Error(_))), "nothing was lost");
    assert!(member.resets.is_empty());
}

/// Who commits by hand: an offset that nobody has called done is not committed because of a cut behind it.
#[test]
fn kip_320_a_cut_commits_nothing_that_the_user_has_not_committed() {
    let mut world = world();
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.commit = CommitMode::Manual;
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    let item = CommitItem::Offset {
        topic_partition: tp(),
        offset: 50,
        leader_epoch: None,
        metadata: None,
        rewind: false,
    };
    world.command(id, Command::Commit(vec![item]));
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 50));
    elect_uncleanly(&mut world, 60, 60..130);
    world.run_until(MINUTE, |w| w.member(id).count() == 180);
    world.run_for(MINUTE);
    assert_eq!(world.cluster.committed("g", "t", 0).expect("committed").offset, 50);
    assert_eq!(truncations(&mut world, id), [(100, 50)], "what is not done is read again");
    let mut again = expected("old", 50..60);
    again.extend(expected("new", 60..130));
    assert_eq!(values_from(&mut world, id, 100), again);
}

/// The log that wins has other records than those that were read before a later epoch began, too.
#[test]
fn kip_320_epochs_that_part_one_before_the_other_are_each_asked_about() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    // Read: epoch 0 up to 100, and 2 from there on; the leader of epoch 1 wrote elsewhere.
    for node in [2, 3] {
        let now = world.broker_now();
        world.cluster.move_leader(now, "t", 0, node).expect("moved");
    }
    produce(&mut world, "old", 100..110);
    world.run_until(MINUTE, |w| w.member(id).count() == 110);
    // The log that wins: epoch 0 up to 80, and 1 from there on, beyond where 2 began.
    let now = world.broker_now();
    world.cluster.elect_uncleanly(now, "t", 0, 2, 80).expect("elected");
    let values: Vec<String> = (80..140).map(|n| format!("new {n}")).collect();
    world.cluster.produce_in_epoch(now, "t", 0, 1, values.iter().map(String::as_str)).expect("produced");
    world.run_until(MINUTE, |w| w.member(id).values[&tp()].last().is_some_and(|(o, _)| *o == 139));
    assert_eq!(values_from(&mut world, id, 110), expected("new", 80..140), "none is left out");
    assert_eq!(truncations(&mut world, id), [(110, 100), (100, 80)]);
}

/// Cuts that nobody was told of in between are one: from where the reader really was.
#[test]
fn kip_320_a_cut_that_was_not_told_yet_is_part_of_the_next() {
    let mut world = world();
    let id = assigned(&mut world, OffsetReset::Earliest);
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
    world.member(id).auto_read = false;
    for cut in [80, 60] {
        elect_uncleanly(&mut world, cut, cut..cut);
        world.run_for(MINUTE * 6);
    }
    world.member(id).auto_read = true;
    produce(&mut world, "new", 60..70);
    world.run_until(MINUTE, |w| w.member(id).count() == 110);
    assert_eq!(truncations(&mut world, id), [(100, 60)]);
    assert_eq!(values_from(&mut world, id, 100), expected("new", 60..70));
}

/// librdkafka's 0104: the offset of a log that is no more, with the epoch of that log. Of a bare offset nobody is asked:
/// what the new log has below it is left out.
#[test]
fn kip_320_a_seek_with_a_leader_epoch_goes_on_where_the_logs_part() {
    let kept = Offset::AtEpoch { offset: 100, leader_epoch: LeaderEpoch(0) };
    for (place, from) in [(kept, 60), (Offset::At(100), 100)] {
        for seek in [true, false] {
            let mut world = world();
            elect_uncleanly(&mut world, 60, 60..130);
            let mut config = world.config();
            config.auto_offset_reset = OffsetReset::Earliest;
            let id = world.join(config);
            let begin = if seek { Offset::Earliest } else { place };
            world.command(id, Command::Assign(vec![(tp(), begin)]));
            let mut before = 0;
            if seek {
                world.run_until(MINUTE, |w| w.member(id).count() == 130);
                before = 130;
                world.command(id, Command::Seek(tp(), place));
            }
            let more = usize::try_from(130 - from).expect("a number");
            world.run_until(MINUTE, |w| w.member(id).count() == before + more);
            world.run_for(MINUTE);
            assert_eq!(values_from(&mut world, id, before), expected("new", from..130), "{place}, {seek}");
            let asked = matches!(place, Offset::AtEpoch { .. });
            // Once more of where the logs part, if that was read before.
            let questions = if asked { 1..=2 } else { 0..=0 };
            assert!(questions.contains(&requests(&world, "OffsetForLeaderEpoch")), "{place}, {seek}");
            let told = if asked { vec![(100, 60)] } else { Vec::new() };
            assert_eq!(truncations(&mut world, id), told, "{place}, {seek}");
        }
    }
}

/// librdkafka's 0139: nobody can be asked about the epoch of a seek. It waits, without haste, resets nothing and tells
/// nothing; when somebody answers it goes on where it was told to.
#[test]
fn kip_320_a_seek_whose_epoch_nobody_answers_for_waits_and_resets_nothing() {
    let faults: [fn(Fault) -> Fault; 3] =
        [Fault::close_connection, Fault::drop_response, |fault| fault.error(ErrorCode::UNKNOWN_SERVER_ERROR)];
    for (case, fault) in faults.into_iter().enumerate() {
        let mut world = world();
        let now = world.broker_now();
        world.cluster.move_leader(now, "t", 0, 2).expect("moved");
        produce(&mut world, "old", 100..110);
        let id = assigned(&mut world, OffsetReset::Earliest);
        world.run_until(MINUTE, |w| w.member(id).count() == 110);
        let seen = world.member(id).seen.len();
        let fault = world.cluster.add_fault(fault(Fault::on(Api::OffsetForLeaderEpoch).always()));
        world.command(id, Command::Seek(tp(), Offset::AtEpoch { offset: 50, leader_epoch: LeaderEpoch(0) }));
        world.run_for(MINUTE);
        assert_eq!(world.member(id).seen.len(), seen, "case {case}: nothing comes, and nothing is told");
        let asked = requests(&world, "OffsetForLeaderEpoch");
        assert!((2..=120).contains(&asked), "case {case}: {asked} requests in a minute");
        world.cluster.cancel_fault(fault);
        world.run_until(MINUTE, |w| w.member(id).count() == 170);
        assert_eq!(values_from(&mut world, id, 110), expected("old", 50..110), "case {case}");
        assert!(world.member(id).resets.is_empty(), "case {case}");
    }
}

/// librdkafka's 0139: a record is written, another leader is elected, or metadata are refused while the new leader is
/// being asked. Every record comes once, nothing is reset, and nobody is asked without end.
#[test]
fn kip_320_whatever_happens_during_a_validation_every_record_comes_once() {
    let refused = || Fault::on(Api::OffsetForLeaderEpoch).error(ErrorCode::UNKNOWN_SERVER_ERROR);
    let slow = Fault::on(Api::OffsetForLeaderEpoch).delay(Duration::from_secs(3));
    let no_metadata = || Fault::on(Api::Metadata).times(3).error(ErrorCode::LEADER_NOT_AVAILABLE);
    let cases = [
        ("slow", vec![slow], false, 1),
        ("refused", vec![refused().times(3)], false, 4),
        ("refused, another leader", vec![refused().times(3)], true, 5),
        ("refused, no metadata", vec![refused().times(3), no_metadata()], false, 4),
        ("refused, no metadata, another leader", vec![refused().times(3), no_metadata()], true, 6),
    ];
    for (case, faults, another, most) in cases {
        let mut world = world();
        let id = assigned(&mut world, OffsetReset::Earliest);
        world.run_until(MINUTE, |w| w.member(id).count() == 100);
        for fault in faults {
            world.cluster.add_fault(fault);
        }
        let now = world.broker_now();
        world.cluster.move_leader(now, "t", 0, 2).expect("moved");
        world.run_until(MINUTE, |w| requests(w, "OffsetForLeaderEpoch") > 0);
        produce(&mut world, "old", 100..110);
        if another {
            let now = world.broker_now();
            world.cluster.move_leader(now, "t", 0, 3).expect("moved");
        }
        world.run_until(MINUTE, |w| w.member(id).count() == 110);
        produce(&mut world, "old", 110..120);
        world.run_until(MINUTE, |w| w.member(id).count() == 120);
        world.run_for(MINUTE);
        assert_eq!(values_from(&mut world, id, 0), expected("old", 0..120), "{case}");
        assert!(world.member(id).resets.is_empty(), "{case}");
        let asked = requests(&world, "OffsetForLeaderEpoch");
        assert!((1..=most).contains(&asked), "{case}: {asked} requests");
    }
}
