//! What the simulator has found: one test for each bug, named after the rule that was broken.

use std::time::Duration;

use ottla_broker::{Api, BatchBuilder, ErrorCode, Fault, TestRecord};
use ottla_core::client::{Command, CommitItem, Offset, Outcome};
use ottla_core::config::{CommitMode, GroupConfig, IsolationLevel};
use ottla_core::delivery::{
    BatchDecoder, CommitRequest, DeliveryConfig, Fetched, Filter, Pushed, Shared, Start, StartCause, Taken,
};
use ottla_core::{Timestamp, TopicPartition};
use ottla_tests::sim::{Seen, World};

/// Room for one fetch, and two brokers: the first in order took it again and again.
#[test]
fn little_room_goes_round_among_brokers() {
    let mut world = World::new(1, 2);
    world.cluster.create_topic("t", 2).expect("a topic");
    let now = world.broker_now();
    let partitions = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
    let leaders =
        partitions.each_ref().map(|tp| world.cluster.leader("t", tp.partition()).expect("a partition").0);
    assert_ne!(leaders[0], leaders[1], "one partition for each broker");
    for tp in &partitions {
        world.cluster.produce(now, "t", tp.partition(), ["a", "b", "c"]).expect("produced");
    }
    let mut config = world.config();
    config.max_buffered_bytes = 64 << 10;
    let id = world.join(config);
    world.command(id, Command::Assign(partitions.iter().map(|tp| (tp.clone(), Offset::Earliest)).collect()));
    world.run_until(Duration::from_secs(10), |w| w.member(id).count() == 6);
}

/// The unsubscription was never told to be done when a subscription came before the group had been left.
#[test]
fn an_unsubscription_is_done_when_a_subscription_follows() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 2).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.member(id).outcomes.clear();
    world.command(id, Command::Unsubscribe);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    let outcomes = &world.member(id).outcomes;
    assert!(matches!(outcomes[..], [Outcome::Done, Outcome::Done]), "{outcomes:?}");
}

/// A subscription that was given up before the reader had read of its partitions was told after the next one.
#[test]
fn nothing_is_told_of_partitions_that_were_given_up() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 2).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.member(id).auto_read = false;
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.command(id, Command::Unsubscribe);
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().is_empty());
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 2);
    world.member(id).auto_read = true;
    world.run_for(Duration::from_secs(1));
    let told = |seen: &Seen| matches!(seen, Seen::Assigned(_));
    assert_eq!(world.member(id).seen.iter().filter(|(_, seen)| told(seen)).count(), 1);
}

/// A revocation that waited to be read was told after its partitions were lost, which the reader never knew of.
#[test]
fn a_revocation_of_what_was_lost_meanwhile_is_not_told() {
    let delivery = Shared::new(DeliveryConfig::default());
    let (now, tps) = (Timestamp::from_millis(1), [TopicPartition::new("t", 0)]);
    delivery.lock().assign(now, &tps);
    delivery.lock().revoke(now, &tps, Timestamp::from_millis(1000));
    delivery.lock().lose(now, &tps);
    let told = delivery.take(now, &mut BatchDecoder::new(), Filter::EVENTS, None);
    assert!(matches!(told, Taken::Pending), "{told:?}");
}

/// A commit behind an aborted transaction carried the epoch of the record before that transaction: whoever begins
/// there would ask where that epoch ended, and take the answer for a truncated log.
#[test]
fn a_commit_behind_an_aborted_transaction_carries_that_ones_leader_epoch() {
    let mut world = World::new(1, 2);
    world.cluster.create_topic("t", 1).expect("a topic");
    let tp = TopicPartition::new("t", 0);
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.commit = CommitMode::Manual;
    config.isolation_level = IsolationLevel::ReadCommitted;
    let id = world.join(config);
    world.command(id, Command::Assign(vec![(tp.clone(), Offset::Earliest)]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 1);
    // From here on it reads only when it is told to.
    world.run_for(Duration::from_secs(1));
    world.member(id).auto_read = false;
    let now = world.broker_now();
    world.cluster.produce(now, "t", 0, ["a"]).expect("produced");
    let (leader, epoch) = world.cluster.leader("t", 0).expect("a partition");
    let other = 3 - leader.expect("a leader");
    world.cluster.move_leader(now, "t", 0, other).expect("moved");
    let aborted = BatchBuilder::new(vec![TestRecord::new("b")]).transactional(7, 0, -1).finish();
    world.cluster.produce_batch(now, "t", 0, &aborted).expect("produced");
    world.cluster.produce_batch(now, "t", 0, &BatchBuilder::abort_marker(7, 0)).expect("aborted");
    world.run_for(Duration::from_secs(5));
    assert!(world.read(id));
    let token = world.member(id).hand.as_ref().expect("a batch").token();
    assert_eq!(token.next_offset(), 3, "the aborted transaction belongs to the batch before it");
    // With more behind it, the commit is not that of the position.
    let now = world.broker_now();
    world.cluster.produce(now, "t", 0, ["c"]).expect("produced");
    world.run_for(Duration::from_millis(1));
    world.run_until(Duration::from_secs(10), |w| w.read(id));
    world.command(id, Command::Commit(vec![CommitItem::Token(token)]));
    world.run_for(Duration::from_secs(1));
    let commits = world.cluster.commits();
    let last = &commits.last().expect("a commit").committed;
    assert_eq!((last.offset, last.leader_epoch), (3, epoch + 1));
}

/// The reset of a partition that the user had given up meanwhile was told after the next subscription.
#[test]
fn nothing_is_told_of_the_reset_of_what_was_given_up() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 1).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.member(id).auto_read = false;
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.read(id));
    assert!(matches!(world.member(id).seen.last(), Some((_, Seen::Assigned(_)))));
    world.run_for(Duration::from_secs(1));
    world.command(id, Command::Unsubscribe);
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().is_empty());
    assert!(!world.read(id), "{:?}", world.member(id).seen);
}

/// Each partition that was refused waited for a time of its own, and then had a request of its own.
#[test]
fn what_was_refused_together_is_asked_for_together_again() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 24).expect("a topic");
    let config = world.config();
    let id = world.join(config);
    let all = (0..24).map(|p| (TopicPartition::new("t", p), Offset::At(0))).collect();
    world.command(id, Command::Assign(all));
    world.run_for(Duration::from_secs(1));
    world.cluster.add_fault(Fault::on(Api::Fetch).always().error(ErrorCode::FENCED_LEADER_EPOCH));
    let before = world.cluster.next_request_index();
    world.run_for(Duration::from_secs(4));
    let fetches = world.cluster.requests().filter(|r| r.index >= before && r.api == Api::Fetch).count();
    // Backoff from 100 ms to 1 s, and partitions that were not refused the first time.
    assert!((4..=16).contains(&fetches), "{fetches} requests for 24 partitions in 4 s");
}

/// A commit of a position behind offsets without a record, whose outcome nobody learned, was followed by one in front
/// of them when more had been handed out meanwhile.
#[test]
fn a_commit_that_is_made_again_does_not_go_back_over_offsets_without_a_record() {
    let mut config = DeliveryConfig::default();
    config.commit = CommitMode::Manual;
    let delivery = Shared::new(config);
    let (now, tp) = (Timestamp::from_millis(1), TopicPartition::new("t", 0));
    let epoch = delivery.lock().assign(now, std::slice::from_ref(&tp))[0].1;
    let start = Start { offset: 0, leader_epoch: None, cause: StartCause::Explicit };
    assert!(delivery.lock().start(now, &tp, epoch, start));
    let push = |offset: i64, records: &[u8], end: i64| {
        let fetched = Fetched {
            tp: tp.clone(),
            epoch,
            fetch_offset: offset,
            leader_epoch: None,
            records: records.to_vec().into(),
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: 0,
            aborted: Vec::new(),
            charge: None,
        };
        assert_eq!(delivery.lock().push(now, fetched), Pushed::Accepted { next_fetch_offset: end });
    };
    let read = || delivery.take(now, &mut BatchDecoder::new(), Filter::BATCHES, None);
    push(0, &BatchBuilder::new(vec![TestRecord::new("a")]).finish(), 1);
    let Taken::Batch(first) = read() else { panic!("no batch") };
    // A batch that compaction has emptied.
    push(1, &BatchBuilder::new(Vec::<TestRecord>::new()).base_offset(1).last_offset_delta(4).finish(), 6);
    assert!(matches!(read(), Taken::Pending));
    let entry = delivery
        .lock()
        .check_commit(now, CommitRequest::Token(&first.token()))
        .expect("owned")
        .expect("not committed yet");
    assert_eq!(entry.offset, 6);
    push(6, &BatchBuilder::new(vec![TestRecord::new("b")]).base_offset(6).finish(), 7);
    let Taken::Batch(_second) = read() else { panic!("no batch") };
    // Its answer was lost.
    delivery.lock().note_not_committed(&tp, epoch, None);
    let again = delivery
        .lock()
        .check_commit(now, CommitRequest::Token(&first.token()))
        .expect("owned")
        .expect("not committed yet");
    assert_eq!(again.offset, 6);
}

/// The same for committed offsets: the coordinator loads, and every partition asked on its own.
#[test]
fn committed_offsets_that_were_refused_together_are_asked_for_together_again() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 24).expect("a topic");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let loads = Fault::on(Api::OffsetFetch).always().error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    world.cluster.add_fault(loads);
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).owned().len() == 24);
    let before = world.cluster.next_request_index();
    world.run_for(Duration::from_secs(4));
    let asked = world.cluster.requests().filter(|r| r.index >= before && r.api == Api::OffsetFetch).count();
    assert!((4..=10).contains(&asked), "{asked} requests for 24 partitions in 4 s");
}

/// Room for one fetch, and a broker without news: its long poll kept the room from the one with records, each time.
#[test]
fn little_room_is_not_kept_by_long_polls() {
    let mut world = World::new(1, 2);
    world.cluster.create_topic("t", 2).expect("a topic");
    let now = world.broker_now();
    for _ in 0..50 {
        world.cluster.produce(now, "t", 0, [vec![b'v'; 500]]).expect("produced");
    }
    let mut config = world.config();
    config.max_buffered_bytes = 64 << 10;
    config.max_partition_fetch_bytes = 600;
    let id = world.join(config);
    let both = (0..2).map(|p| (TopicPartition::new("t", p), Offset::Earliest)).collect();
    world.command(id, Command::Assign(both));
    world.run_until(Duration::from_secs(5), |w| w.member(id).count() == 50);
}

/// The last commit of a revocation had a twentieth of the rebalance timeout, even when nearly all of the time for
/// giving back was left: a coordinator that refused it thrice cost all that was done since the commit before.
#[test]
fn the_last_commit_of_a_revocation_has_the_time_that_giving_back_has() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 2).expect("a topic");
    let now = world.broker_now();
    for p in 0..2 {
        world.cluster.produce(now, "t", p, ["a", "b", "c"]).expect("produced");
    }
    let mut config = world.config();
    let mut group = GroupConfig::new("g");
    group.rebalance_timeout = Duration::from_secs(6);
    config.group = Some(group);
    config.commit = CommitMode::Auto { interval: Duration::from_secs(3600) };
    let first = world.join(config.clone());
    world.command(first, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(first).count() == 6);
    let refused = Fault::on(Api::OffsetCommit).times(3).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    world.cluster.add_fault(refused);
    let second = world.join(config);
    world.command(second, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(20), |w| w.member(second).owned().len() == 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.member(first).count(), world.member(second).count()), (6, 0), "nothing twice");
}

/// A commit that had been given to a connection on which the broker had asked for silence was answered when that was
/// over, however long that took. Seed 40.
#[test]
fn a_commit_is_told_in_time_while_the_broker_wants_silence() {
    let mut world = World::new(1, 1);
    world.cluster.create_topic("t", 1).expect("a topic");
    let now = world.broker_now();
    world.cluster.produce(now, "t", 0, ["a", "b"]).expect("produced");
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.commit = CommitMode::Manual;
    config.default_api_timeout = Duration::from_secs(5);
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(10), |w| w.member(id).count() == 2);
    world.member(id).outcomes.clear();
    world.cluster.add_fault(Fault::on(Api::OffsetCommit).times(1).throttle(Duration::from_secs(60)));
    let commit = |offset| {
        let topic_partition = TopicPartition::new("t", 0);
        let (leader_epoch, metadata) = (None, None);
        Command::Commit(vec![CommitItem::Offset {
            topic_partition,
            offset,
            leader_epoch,
            metadata,
            rewind: false,
        }])
    };
    world.command(id, commit(1));
    world.run_until(Duration::from_secs(1), |w| w.member(id).outcomes.len() == 1);
    world.command(id, commit(2));
    world.run_until(Duration::from_secs(6), |w| w.member(id).outcomes.len() == 2);
    let outcomes = &world.member(id).outcomes;
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Commit(results) if results[0].1.is_err());
    assert!(!failed(&outcomes[0]) && failed(&outcomes[1]), "{outcomes:?}");
    world.member(id).outcomes.clear();
    // When the silence is over, the next one goes out.
    world.run_for(Duration::from_secs(53));
    world.command(id, commit(2));
    world.run_until(Duration::from_secs(4), |w| w.member(id).outcomes.len() == 1);
    assert!(!failed(&world.member(id).outcomes[0]));
}

/// An offset of the user's own, without the leader epoch that it was read with, was committed without one (seed 3555):
/// the next owner had nothing to ask about, and left out what came below it after an unclean election.
#[test]
fn a_cut_below_an_offset_of_the_users_own_hides_nothing_from_the_next_owner() {
    let tp = TopicPartition::new("t", 0);
    let mut world = World::new(1, 3);
    world.cluster.create_topic("t", 1).expect("a topic");
    let produce = |world: &mut World, count: usize| {
        let now = world.broker_now();
        for _ in 0..count {
            world.cluster.produce(now, "t", 0, ["r"]).expect("produced");
        }
    };
    produce(&mut world, 60);
    let now = world.broker_now();
    world.cluster.move_leader(now, "t", 0, 2).expect("moved");
    produce(&mut world, 40);
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    config.commit = CommitMode::Manual;
    let first = world.join(config.clone());
    world.command(first, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(30), |w| w.member(first).count() == 100);
    let (_, epoch) = world.cluster.leader("t", 0).expect("a partition");
    for (offset, expected) in [(60, epoch - 1), (61, epoch), (100, epoch)] {
        let topic_partition = tp.clone();
        let item =
            CommitItem::Offset { topic_partition, offset, leader_epoch: None, metadata: None, rewind: false };
        world.command(first, Command::Commit(vec![item]));
        world.run_for(Duration::from_secs(1));
        let committed = world.cluster.committed("g", "t", 0).expect("committed");
        assert_eq!((committed.offset, committed.leader_epoch), (offset, expected));
    }
    world.command(first, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(Duration::from_secs(30), |w| w.member(first).is_closed());
    let now = world.broker_now();
    world.cluster.elect_uncleanly(now, "t", 0, 3, 70).expect("elected");
    produce(&mut world, 50);
    let second = world.join(config);
    world.command(second, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(Duration::from_secs(60), |w| w.member(second).count() == 50);
    assert_eq!(world.member(second).values[&tp].first().map(|(offset, _)| *offset), Some(70));
}
