//! The client's core against the embedded broker's core, on virtual time.

use std::time::Duration;

use ottla_core::assignor::Assignor;
use ottla_core::client::{Command, Offset, Outcome};
use ottla_core::config::{CommitMode, GroupConfig, GroupProtocol, OffsetReset};
use ottla_core::{ErrorKind, Timestamp, TopicPartition};
use ottla_tests::sim::{MemberId, Seen, World};

const MINUTE: Duration = Duration::from_secs(60);

fn world(nodes: usize, partitions: i32) -> World {
    let mut world = World::new(7, nodes);
    world.cluster.create_topic("t", partitions).expect("a topic");
    world
}

fn fill(world: &mut World, partitions: i32, each: usize) {
    let now = world.broker_now();
    for p in 0..partitions {
        for chunk in (0..each).collect::<Vec<_>>().chunks(100) {
            let values: Vec<String> = chunk.iter().map(|i| format!("{p}/{i}")).collect();
            world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
        }
    }
}

fn subscriber(world: &mut World) -> MemberId {
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    id
}

fn assert_all_in_order(world: &mut World, id: MemberId, partitions: i32, each: usize) {
    for p in 0..partitions {
        let values = &world.member(id).values[&TopicPartition::new("t", p)];
        let expected: Vec<(i64, Vec<u8>)> =
            (0..each).map(|i| (i as i64, format!("{p}/{i}").into_bytes())).collect();
        assert_eq!(values, &expected, "partition {p}");
    }
}

#[test]
fn assigned_partitions_are_read_from_the_beginning_in_order() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 1000);
    let config = world.config();
    let id = world.join(config);
    let partitions = (0..6).map(|p| (TopicPartition::new("t", p), Offset::Earliest)).collect();
    world.command(id, Command::Assign(partitions));
    world.run_until(MINUTE, |w| w.member(id).count() == 6000);
    assert_all_in_order(&mut world, id, 6, 1000);
}

#[test]
fn a_group_of_one_reads_everything_and_commits_what_is_done() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 1000);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 6000);
    assert_all_in_order(&mut world, id, 6, 1000);
    world.command(id, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(MINUTE, |w| w.member(id).is_closed());
    let Some(Outcome::Closed(errors)) = world.member(id).outcomes.last() else { panic!("not closed") };
    assert!(errors.is_empty(), "{errors:?}");
    for p in 0..6 {
        let committed = world.cluster.committed("g", "t", p).expect("committed");
        assert_eq!(committed.offset, 1000, "partition {p}");
    }
}

#[test]
fn three_members_share_the_partitions_and_none_is_ever_owned_twice() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 200);
    let members: Vec<MemberId> = (0..3).map(|_| subscriber(&mut world)).collect();
    world.run_until(MINUTE, |w| {
        let mut owned: Vec<_> = members.iter().flat_map(|m| w.member(*m).owned()).collect();
        let count = owned.len();
        owned.sort();
        owned.dedup();
        assert_eq!(owned.len(), count, "a partition is owned twice");
        members.iter().all(|m| w.member(*m).owned().len() == 2)
    });
    for m in members {
        let errors = world.member(m).seen.iter().filter(|(_, s)| matches!(s, Seen::Error(_))).count();
        assert_eq!(errors, 0);
    }
}

fn close(world: &mut World, id: MemberId) {
    world.command(id, Command::Close { timeout: Duration::from_secs(10) });
    world.run_until(MINUTE, |w| w.member(id).is_closed());
}

/// Every value of every partition was given to somebody.
fn assert_nothing_lost(world: &mut World, members: &[MemberId], partitions: i32, each: usize) {
    for p in 0..partitions {
        let tp = TopicPartition::new("t", p);
        let mut seen = vec![false; each];
        for m in members {
            for (offset, value) in world.member(*m).values.get(&tp).into_iter().flatten() {
                assert_eq!(value, format!("{p}/{offset}").as_bytes());
                seen[*offset as usize] = true;
            }
        }
        let missing: Vec<usize> = (0..each).filter(|i| !seen[*i]).collect();
        assert!(missing.is_empty(), "partition {p} lacks {missing:?}");
    }
}

/// Whether the group is between JoinGroup and SyncGroup.
fn joining(world: &World, group: &str) -> bool {
    use ottla_broker::GroupState::{CompletingRebalance, PreparingRebalance};
    world.cluster.group(group).is_some_and(|g| matches!(g.state, PreparingRebalance | CompletingRebalance))
}

/// When the first records came: resets before that are those of a group that has committed nothing.
fn world_start(seen: &[(Timestamp, Seen)]) -> Timestamp {
    seen.iter().find(|(_, s)| matches!(s, Seen::Records(..))).map_or(Timestamp::NEVER, |(at, _)| *at)
}

fn requests(world: &World, api: &str) -> usize {
    world.cluster.requests().filter(|r| format!("{:?}", r.api) == api).count()
}

#[test]
fn members_come_and_go_and_nothing_is_lost() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let mut world = world(3, 6);
        let mut members = Vec::new();
        let mut filled = 0;
        let add = |world: &mut World, members: &mut Vec<MemberId>| {
            let mut config = world.config();
            let mut group = GroupConfig::new("g");
            group.assignors = vec![assignor];
            config.group = Some(group);
            let id = world.join(config);
            world.command(id, Command::Subscribe(vec!["t".to_owned()]));
            members.push(id);
        };
        let mut produce = |world: &mut World| {
            let now = world.broker_now();
            for p in 0..6 {
                let values: Vec<String> = (filled..filled + 50).map(|i| format!("{p}/{i}")).collect();
                world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
            }
            filled += 50;
            filled
        };
        add(&mut world, &mut members);
        produce(&mut world);
        world.run_until(MINUTE, |w| w.member(members[0]).count() == 300);
        add(&mut world, &mut members);
        add(&mut world, &mut members);
        produce(&mut world);
        world.run_until(MINUTE, |w| members.iter().all(|m| w.member(*m).owned().len() == 2));
        let each = produce(&mut world);
        close(&mut world, members[0]);
        world.run_until(MINUTE, |w| members[1..].iter().all(|m| w.member(*m).owned().len() == 3));
        close(&mut world, members[1]);
        world.run_until(MINUTE, |w| w.member(members[2]).owned().len() == 6);
        let last = members[2];
        world.run_until(MINUTE, |w| {
            (0..6).all(|p| {
                w.member(last).delivery.lock().position(&TopicPartition::new("t", p)) == Some(each as i64)
            })
        });
        assert_nothing_lost(&mut world, &members, 6, each);
        // Everybody left in order: nothing had to be read twice.
        let total: usize = members.iter().map(|m| world.member(*m).count()).sum();
        assert_eq!(total, 6 * each, "{assignor:?}");
    }
}

#[test]
fn cooperative_members_keep_reading_while_others_join_and_look_up_no_offset_again() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 10);
    let first = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(first).count() == 60);
    let second = subscriber(&mut world);
    // The join of the second waits for the first, which goes on reading what is written meanwhile.
    world.run_until(MINUTE, |w| joining(w, "g"));
    let now = world.broker_now();
    for p in 0..6 {
        world.cluster.produce(now, "t", p, ["meanwhile"]).expect("produced");
    }
    let mut during = 0;
    world.run_until(MINUTE, |w| {
        if joining(w, "g") {
            during = w.member(first).count() - 60;
        }
        w.member(second).owned().len() == 3
    });
    assert!(during > 0, "kept partitions hand out records between JoinGroup and SyncGroup");
    let kept = world.member(first).owned();
    assert_eq!(kept.len(), 3);
    let lost = world.member(first).seen.iter().filter(|(_, s)| matches!(s, Seen::Lost(_))).count();
    assert_eq!(lost, 0);
    for tp in &kept {
        let asked = world
            .cluster
            .requests()
            .filter(|r| format!("{:?}", r.api) == "OffsetFetch" && r.names("t", tp.partition()))
            .count();
        assert_eq!(asked, 1, "{tp} was kept: its committed offset is asked for once");
    }
}

#[test]
fn a_killed_member_is_replaced_after_its_session_and_only_the_uncommitted_is_read_again() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 100);
    let victim = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(victim).count() == 600);
    // The commit interval passes, then more is read that is not committed.
    world.run_for(Duration::from_secs(6));
    assert!((0..6).all(|p| world.cluster.committed("g", "t", p).is_some_and(|c| c.offset == 100)));
    let now = world.broker_now();
    for p in 0..6 {
        let values: Vec<String> = (100..110).map(|i| format!("{p}/{i}")).collect();
        world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
    }
    world.run_until(MINUTE, |w| w.member(victim).count() == 660);
    world.kill(victim);
    let heir = subscriber(&mut world);
    let before = world.now();
    world.run_until(2 * MINUTE, |w| w.member(heir).count() == 60);
    assert!(world.now().since(before) <= Duration::from_secs(60), "session timeout and a rebalance");
    for values in world.member(heir).values.values() {
        assert_eq!(values.first().map(|v| v.0), Some(100), "it begins at the committed offset");
    }
}

#[test]
fn a_broker_that_bounces_within_the_session_causes_no_rebalance_and_no_loss() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 100);
    let members: Vec<MemberId> = (0..2).map(|_| subscriber(&mut world)).collect();
    world.run_until(MINUTE, |w| members.iter().all(|m| w.member(*m).owned().len() == 3));
    world.run_until(MINUTE, |w| members.iter().map(|m| w.member(*m).count()).sum::<usize>() == 600);
    let joins = requests(&world, "JoinGroup");
    let mut each = 100;
    for node in 1..=3 {
        let now = world.broker_now();
        world.cluster.stop_node(now, node).expect("stopped");
        world.run_for(Duration::from_secs(5));
        let now = world.broker_now();
        world.cluster.start_node(now, node).expect("started");
        world.run_for(Duration::from_secs(2));
        let now = world.broker_now();
        for p in 0..6 {
            let values: Vec<String> = (each..each + 10).map(|i| format!("{p}/{i}")).collect();
            world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
        }
        each += 10;
        world.run_until(MINUTE, |w| members.iter().map(|m| w.member(*m).count()).sum::<usize>() == 6 * each);
    }
    assert_eq!(requests(&world, "JoinGroup"), joins, "no rebalance");
    assert_nothing_lost(&mut world, &members, 6, each);
    for m in members {
        let seen = &world.member(m).seen;
        let begun = world_start(seen);
        let later = seen.iter().filter(|(at, _)| *at > begun);
        assert!(!later.clone().any(|(_, s)| matches!(s, Seen::Reset(..) | Seen::Lost(_))), "{seen:?}");
    }
}

#[test]
fn a_leader_and_a_coordinator_that_move_lose_nothing() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 100);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 600);
    let mut each = 100;
    for node in [1, 2, 3, 1] {
        let now = world.broker_now();
        for p in 0..6 {
            world.cluster.move_leader(now, "t", p, node).expect("moved");
        }
        world.cluster.move_coordinator(now, "g", 4 - node).expect("moved");
        for p in 0..6 {
            let values: Vec<String> = (each..each + 10).map(|i| format!("{p}/{i}")).collect();
            world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).expect("produced");
        }
        each += 10;
        world.run_until(MINUTE, |w| w.member(id).count() == 6 * each);
    }
    assert_all_in_order(&mut world, id, 6, each);
    close(&mut world, id);
    assert!((0..6).all(|p| world.cluster.committed("g", "t", p).is_some_and(|c| c.offset == each as i64)));
}

#[test]
fn an_idle_consumer_is_quiet() {
    let mut world = world(3, 6);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).owned().len() == 6);
    let before = world.cluster.requests().count();
    world.run_for(10 * MINUTE);
    let per_minute = (world.cluster.requests().count() - before) / 10;
    // Three brokers, two long polls a second each, and twenty heartbeats.
    assert!(per_minute <= 3 * 125 + 25, "{per_minute} requests a minute");
}

#[test]
fn a_topic_that_comes_later_is_found_and_read_from_its_beginning() {
    let mut world = World::new(7, 3);
    let id = subscriber(&mut world);
    world.run_for(Duration::from_secs(20));
    world.cluster.create_topic("t", 2).expect("a topic");
    fill(&mut world, 2, 10);
    world.run_until(MINUTE, |w| w.member(id).count() == 20);
}

#[test]
fn a_deleted_topic_is_given_up_and_its_successor_is_read() {
    let mut world = world(3, 2);
    fill(&mut world, 2, 10);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 20);
    let now = world.broker_now();
    world.cluster.delete_topic(now, "t").expect("deleted");
    world.run_until(2 * MINUTE, |w| w.member(id).owned().is_empty());
    world.member(id).values.clear();
    world.cluster.create_topic("t", 2).expect("made anew");
    fill(&mut world, 2, 30);
    world.run_until(10 * MINUTE, |w| w.member(id).owned().len() == 2);
    world.run_until(MINUTE, |w| w.member(id).count() >= 60);
    assert_all_in_order(&mut world, id, 2, 30);
}

#[test]
fn unsubscribing_commits_what_is_done_and_leaves_without_waiting_for_the_reader() {
    let mut world = world(3, 2);
    fill(&mut world, 2, 10);
    let id = subscriber(&mut world);
    world.run_until(MINUTE, |w| w.member(id).count() == 20);
    world.member(id).auto_read = false;
    let before = world.now();
    world.command(id, Command::Unsubscribe);
    world.run_until(MINUTE, |w| w.member(id).outcomes.len() == 2 && w.member(id).owned().is_empty());
    assert!(world.now().since(before) < Duration::from_secs(1));
    assert!(world.cluster.group("g").is_none_or(|g| g.members.is_empty()), "it left");
    assert!(
        (0..2).any(|p| world.cluster.committed("g", "t", p).is_some_and(|c| c.offset == 10)),
        "what is done"
    );
    // And the client can be given partitions by hand right away.
    world.command(id, Command::Assign(vec![(TopicPartition::new("t", 0), Offset::Earliest)]));
    assert!(matches!(world.member(id).outcomes.last(), Some(Outcome::Done)));
    world.member(id).auto_read = true;
    world.member(id).values.clear();
    world.run_until(MINUTE, |w| w.member(id).count() == 10);
}

#[test]
fn assigning_anew_commits_what_is_done_of_the_former_assignment() {
    let mut world = world(1, 2);
    fill(&mut world, 2, 10);
    let mut config = world.config();
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    let (first, second) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
    world.command(id, Command::Assign(vec![(first.clone(), Offset::Committed)]));
    world.run_until(MINUTE, |w| w.member(id).count() == 10);
    world.command(id, Command::Assign(vec![(first, Offset::Committed), (second, Offset::Committed)]));
    world.run_until(MINUTE, |w| w.member(id).count() == 20);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.member(id).count(), 20, "what was done is not read again");
}

#[test]
fn two_resets_in_a_row_are_both_committed_at_once() {
    let mut world = world(2, 2);
    fill(&mut world, 2, 10);
    let mut config = world.config();
    config.auto_offset_reset = OffsetReset::Latest;
    config.commit = CommitMode::Auto { interval: 100 * MINUTE };
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| {
        (0..2).all(|p| w.cluster.committed("g", "t", p).is_some_and(|c| c.offset == 10))
    });
}

#[test]
fn a_reader_that_stays_away_leaves_the_group_also_when_it_owns_nothing() {
    let mut world = world(1, 1);
    fill(&mut world, 1, 10);
    let join = |world: &mut World| {
        let mut config = world.config();
        let mut group = GroupConfig::new("g");
        group.assignors = vec![Assignor::Range];
        group.max_poll_interval = Some(Duration::from_secs(300));
        group.revoke_timeout = Duration::from_secs(5);
        config.group = Some(group);
        let id = world.join(config);
        world.command(id, Command::Subscribe(vec!["t".to_owned()]));
        id
    };
    // It sits on its batch while its partition goes to somebody else.
    let hung = join(&mut world);
    world.member(hung).auto_read = false;
    world.run_until(MINUTE, |w| {
        w.read(hung);
        w.member(hung).hand.is_some()
    });
    let others: Vec<MemberId> = (0..3).map(|_| join(&mut world)).collect();
    world.run_until(3 * MINUTE, |w| others.iter().any(|m| w.member(*m).owned().len() == 1));
    world.run_for(8 * MINUTE);
    let members = world.cluster.group("g").map_or(0, |g| g.members.len());
    assert_eq!(members, 3, "the one that hangs is out");
}

#[test]
fn seek_pause_and_resume_move_the_position_and_lose_nothing() {
    let mut world = world(1, 1);
    fill(&mut world, 1, 1000);
    let config = world.config();
    let id = world.join(config);
    let tp = TopicPartition::new("t", 0);
    world.command(id, Command::Assign(vec![(tp.clone(), Offset::At(500))]));
    world.run_until(MINUTE, |w| w.member(id).count() == 500);
    assert_eq!(world.member(id).values[&tp][0].0, 500);
    for (offset, first, count) in
        [(Offset::Earliest, 0, 1000), (Offset::FromEnd(10), 990, 10), (Offset::At(999), 999, 1)]
    {
        world.member(id).values.clear();
        world.command(id, Command::Seek(tp.clone(), offset));
        world.run_until(MINUTE, |w| w.member(id).count() == count);
        assert_eq!(world.member(id).values[&tp][0].0, first);
    }
    world.member(id).values.clear();
    world.command(id, Command::Pause(vec![tp.clone()]));
    world.command(id, Command::Seek(tp.clone(), Offset::At(0)));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.member(id).count(), 0);
    world.command(id, Command::Resume(vec![tp.clone()]));
    world.run_until(MINUTE, |w| w.member(id).count() == 1000);
}

#[test]
fn out_of_range_resets_by_policy_and_says_so() {
    for (policy, first) in [(OffsetReset::Earliest, Some(40)), (OffsetReset::Latest, None)] {
        let mut world = world(1, 1);
        fill(&mut world, 1, 100);
        let now = world.broker_now();
        world.cluster.delete_records(now, "t", 0, 40).expect("deleted");
        let mut config = world.config();
        config.auto_offset_reset = policy;
        let id = world.join(config);
        let tp = TopicPartition::new("t", 0);
        world.command(id, Command::Assign(vec![(tp.clone(), Offset::At(10))]));
        world.run_until(MINUTE, |w| {
            w.member(id)
                .seen
                .iter()
                .any(|(_, s)| matches!(s, Seen::Reset(_, at) if *at == first.unwrap_or(100)))
        });
        if let Some(first) = first {
            world.run_until(MINUTE, |w| w.member(id).count() == 60);
            assert_eq!(world.member(id).values[&tp][0].0, first);
        }
    }
    let mut world = world(1, 1);
    fill(&mut world, 1, 100);
    let mut config = world.config();
    config.auto_offset_reset = OffsetReset::Error;
    let id = world.join(config);
    let tp = TopicPartition::new("t", 0);
    world.command(id, Command::Assign(vec![(tp.clone(), Offset::At(1000))]));
    world.run_until(MINUTE, |w| {
        w.member(id).seen.iter().any(|(_, s)| matches!(s, Seen::Error(e) if e.kind() == ErrorKind::NoOffset))
    });
    world.run_for(MINUTE);
    let errors = world.member(id).seen.iter().filter(|(_, s)| matches!(s, Seen::Error(_))).count();
    assert_eq!(errors, 1, "told once");
    world.command(id, Command::Seek(tp, Offset::At(0)));
    world.run_until(MINUTE, |w| w.member(id).count() == 100);
}

/// Nothing is gone: closing takes a commit and a farewell, a few times there and back, and does not wait for a
/// rebalance on either side of it.
#[test]
fn close_takes_a_few_round_trips_when_healthy_and_in_a_rebalance() {
    const SOON: Duration = Duration::from_millis(100);
    let eager = |world: &mut World| {
        let mut config = world.config();
        let mut group = GroupConfig::new("g");
        group.assignors = vec![Assignor::Range];
        config.group = Some(group);
        let id = world.join(config);
        world.command(id, Command::Subscribe(vec!["t".to_owned()]));
        id
    };
    let closed = |world: &mut World, id: MemberId, what: &str| {
        let before = world.now();
        close(world, id);
        let took = world.now().since(before);
        assert!(took <= SOON, "{what}: {took:?}");
        let Some(Outcome::Closed(errors)) = world.member(id).outcomes.last() else { panic!("not closed") };
        assert!(errors.is_empty(), "{what}: {errors:?}");
    };
    let mut world = world(3, 6);
    fill(&mut world, 6, 100);
    let healthy = eager(&mut world);
    world.run_until(MINUTE, |w| w.member(healthy).count() == 600);
    closed(&mut world, healthy, "healthy");
    for holder_goes_first in [true, false] {
        let holder = eager(&mut world);
        world.run_until(MINUTE, |w| w.member(holder).owned().len() == 6);
        // It does not read on after its revocation, so that the other's join is not answered.
        world.member(holder).auto_read = false;
        let joining = eager(&mut world);
        world.run_until(MINUTE, |w| {
            if !matches!(w.member(holder).seen.last(), Some((_, Seen::Revoking(_)))) {
                w.read(holder);
                return false;
            }
            self::joining(w, "g")
        });
        world.run_for(Duration::from_secs(5));
        assert!(self::joining(&world, "g"), "the rebalance stands still");
        let mut order = [(joining, "of one that joins"), (holder, "of one that is waited for")];
        if holder_goes_first {
            order.reverse();
        }
        for (id, what) in order {
            closed(&mut world, id, what);
        }
    }
}

#[test]
fn close_is_bounded_with_the_coordinator_gone_and_with_all_brokers_gone() {
    for gone in [1, 3] {
        let mut world = world(3, 6);
        fill(&mut world, 6, 100);
        let id = subscriber(&mut world);
        world.run_until(MINUTE, |w| w.member(id).count() == 600);
        let coordinator = world.cluster.coordinator("g").expect("a coordinator");
        let now = world.broker_now();
        let others = (1..=3).filter(|n| gone == 3 || *n == coordinator).collect::<Vec<_>>();
        for node in others {
            world.cluster.stop_node(now, node).expect("stopped");
        }
        let before = world.now();
        world.command(id, Command::Close { timeout: Duration::from_secs(10) });
        world.run_until(MINUTE, |w| w.member(id).is_closed());
        assert!(world.now().since(before) <= Duration::from_secs(10));
    }
}

#[test]
fn a_reader_that_stays_away_loses_its_partitions_and_joins_again_when_it_comes_back() {
    let mut world = world(3, 6);
    fill(&mut world, 6, 100);
    let mut config = world.config();
    let mut group = GroupConfig::new("g");
    group.max_poll_interval = Some(Duration::from_secs(30));
    config.group = Some(group);
    let slow = world.join(config);
    world.command(slow, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.member(slow).count() > 0);
    world.member(slow).auto_read = false;
    let other = subscriber(&mut world);
    world.run_until(3 * MINUTE, |w| w.member(other).owned().len() == 6);
    world.member(slow).auto_read = true;
    world.run_until(3 * MINUTE, |w| w.member(slow).owned().len() == 3);
    let seen = &world.member(slow).seen;
    assert!(seen.iter().any(|(_, s)| matches!(s, Seen::Lost(t) if t.len() == 6)), "{seen:?}");
    assert!(
        seen.iter().any(|(_, s)| matches!(s, Seen::Error(e) if e.to_string().contains("max_poll_interval")))
    );
}

#[test]
fn partitions_that_appear_after_the_subscription_begin_at_the_earliest_whatever_the_policy() {
    let mut world = world(1, 1);
    fill(&mut world, 1, 10);
    let mut config = world.config();
    config.auto_offset_reset = OffsetReset::Latest;
    config.metadata_max_age = Duration::from_secs(5);
    config.group = Some(GroupConfig::new("g"));
    let id = world.join(config);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    world.run_until(MINUTE, |w| w.member(id).seen.iter().any(|(_, s)| matches!(s, Seen::Reset(_, 10))));
    world.cluster.create_partitions("t", 2).expect("grown");
    let now = world.broker_now();
    world.cluster.produce(now, "t", 1, ["new"]).expect("produced");
    world.run_until(MINUTE, |w| w.member(id).count() == 1);
    assert_eq!(world.member(id).values[&TopicPartition::new("t", 1)], [(0, b"new".to_vec())]);
}

#[test]
fn an_idle_latest_group_does_not_lose_what_came_while_it_was_away() {
    let mut world = world(1, 1);
    fill(&mut world, 1, 10);
    let join = |world: &mut World| {
        let mut config = world.config();
        config.auto_offset_reset = OffsetReset::Latest;
        config.group = Some(GroupConfig::new("g"));
        let id = world.join(config);
        world.command(id, Command::Subscribe(vec!["t".to_owned()]));
        id
    };
    let first = join(&mut world);
    // The position that the policy chose is committed at once.
    world.run_until(MINUTE, |w| w.cluster.committed("g", "t", 0).is_some_and(|c| c.offset == 10));
    close(&mut world, first);
    let now = world.broker_now();
    world.cluster.produce(now, "t", 0, ["meanwhile"]).expect("produced");
    let second = join(&mut world);
    world.run_until(MINUTE, |w| w.member(second).count() == 1);
}

/// What Kafka's `ConsumerBounceTest` asks of close: by either protocol and with partitions by hand, with everybody there,
/// without the coordinator, and without any broker, also when the time for it is longer than that for a request.
#[test]
fn close_is_quick_whatever_the_protocol_and_whoever_is_gone() {
    let members = [Some(GroupProtocol::Classic), Some(GroupProtocol::Consumer), None];
    for (protocol, gone) in members.into_iter().flat_map(|p| [0, 1, 3].map(|gone| (p, gone))) {
        for timeout in [10, 60].map(Duration::from_secs) {
            let case = format!("{protocol:?}, {gone} gone, {timeout:?}");
            let mut world = world(3, 6);
            fill(&mut world, 6, 100);
            let mut config = world.config();
            let group = GroupConfig::new("g");
            config.group = Some(GroupConfig { protocol: protocol.unwrap_or(group.protocol), ..group });
            let id = world.join(config);
            let by_hand = (0..6).map(|p| (TopicPartition::new("t", p), Offset::Earliest)).collect();
            world.command(
                id,
                match protocol {
                    Some(_) => Command::Subscribe(vec!["t".to_owned()]),
                    None => Command::Assign(by_hand),
                },
            );
            world.run_until(MINUTE, |w| w.member(id).count() == 600);
            let coordinator = world.cluster.coordinator("g").expect("a coordinator");
            let now = world.broker_now();
            for node in (1..=3).filter(|node| gone == 3 || (gone == 1 && *node == coordinator)) {
                world.cluster.stop_node(now, node).expect("stopped");
            }
            let before = world.now();
            world.command(id, Command::Close { timeout });
            world.run_until(2 * MINUTE, |w| w.member(id).is_closed());
            let took = world.now().since(before);
            let outcome = world.member(id).outcomes.pop();
            let Some(Outcome::Closed(errors)) = outcome else { panic!("{case}: {outcome:?}") };
            if gone == 3 {
                // Nothing can be committed or left: it gives up in time, and says what it could not do.
                assert!(took <= timeout, "{case}: {took:?}");
                // A session may end over it: what is somebody else's then is no failure.
                assert!(!errors.is_empty() || took > Duration::from_secs(40), "{case}: nothing is said");
            } else {
                // Without the coordinator as well: another broker is, and is asked at once.
                assert!(took <= Duration::from_millis(100), "{case}: {took:?}");
                assert!(errors.is_empty(), "{case}: {errors:?}");
                let committed = |p| world.cluster.committed("g", "t", p).map(|c| c.offset);
                assert_eq!((0..6).map(committed).collect::<Vec<_>>(), [Some(100); 6], "{case}");
            }
        }
    }
}
