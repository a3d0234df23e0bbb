//! What the oracle allows and what it does not: a test for each hole that it had, on either side.

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_core::client::Command;
use ottla_core::config::GroupConfig;

use super::*;

const TRAITS: Traits = Traits {
    events: true,
    by_hand: false,
    auto: true,
    latest: false,
    read_committed: false,
    session: Duration::from_secs(10),
    max_ledger: usize::MAX,
    readers: 1,
    max_sockets: usize::MAX,
};

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// An oracle with a member, and a log whose batches end at these offsets.
fn oracle(traits: Traits, ends: &[i64]) -> Oracle {
    let mut oracle = Oracle::default();
    oracle.joined(Timestamp::ZERO, traits);
    let (mut first, log) = (0, oracle.log(&tp()));
    for (n, end) in ends.iter().enumerate() {
        let at = Timestamp::from_millis(n as u64 * 1000);
        let entry = |offset| Entry {
            offset,
            kind: Kind::Data,
            content: 0,
            epoch: 0,
            at,
            delivered: false,
            acked: false,
        };
        log.append(at, (first, 0), (first..*end).map(entry), *end);
        first = *end;
    }
    oracle
}

/// A group of one stable member, m0, on brokers of this release.
fn group(release: &str) -> (World, Oracle) {
    let config = ClusterConfig::with_nodes(1).as_version(release).expect("a release");
    let mut world = World::with_config(1, config);
    world.cluster.create_topic("t", 1).expect("a topic");
    let mut oracle = Oracle::default();
    join(&mut world, &mut oracle);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.member(MemberId(0)).owned(), [tp()]);
    (world, oracle)
}

fn join(world: &mut World, oracle: &mut Oracle) -> MemberId {
    let mut config = world.config();
    config.group = Some(GroupConfig::new(GROUP));
    config.client_id = format!("m{}", world.member_count());
    let id = world.join(config);
    oracle.joined(world.now(), TRAITS);
    world.command(id, Command::Subscribe(vec!["t".to_owned()]));
    id
}

fn left(world: &World, oracle: &mut Oracle, id: MemberId) -> Option<Violation> {
    oracle.tick(world.now());
    oracle.left_well(world.now(), id, &world.cluster, false);
    oracle.violation().cloned()
}

/// Seeds 1562 and 3186.
#[test]
fn who_closes_while_its_first_join_is_parked_before_kip_394_has_no_id_to_leave_with() {
    let (mut world, mut oracle) = group("2.1");
    let second = join(&mut world, &mut oracle);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.cluster.group(GROUP).expect("a group").members.len(), 2, "its join is parked");
    assert_eq!(left(&world, &mut oracle, second), None);
}

#[test]
fn who_has_an_id_leaves() {
    for release in ["2.1", "2.8"] {
        let (world, mut oracle) = group(release);
        let violation = left(&world, &mut oracle, MemberId(0)).expect("it is still a member");
        assert_eq!(violation.invariant, "L2");
    }
}

/// Seed 2047.
#[test]
fn a_position_below_the_start_of_the_log_may_be_reset_to_its_end() {
    for (sought, expected) in [(5, None), (25, Some("S8"))] {
        let mut oracle = oracle(Traits { latest: true, ..TRAITS }, &[10, 20, 30]);
        oracle.log(&tp()).delete_below(15);
        let now = Timestamp::from_millis(5000);
        oracle.committed.insert(tp(), vec![(now, 20)]);
        oracle.ends_asked.insert((0, tp()), vec![now]);
        oracle.assigned(now, MemberId(0), &[tp()]);
        oracle.sought(now, MemberId(0), &tp(), Sought::At(sought));
        oracle.check_commit(MemberId(0), &tp(), (30, -1), None);
        assert_eq!(oracle.violation().map(|v| v.invariant), expected, "{sought}");
    }
}

/// Seed 1723: the leader that cut the log to 20 begins behind a gap, at 22.
#[test]
fn only_what_was_compacted_may_lie_between_a_cut_and_where_it_goes_on() {
    for (begins, skips) in [(22, false), (21, true), (20, true)] {
        let mut oracle = oracle(TRAITS, &[30]);
        let now = Timestamp::from_millis(5000);
        oracle.truncated(now, &tp(), 20);
        let entry = |offset| Entry {
            offset,
            kind: Kind::Data,
            content: 1,
            epoch: 1,
            at: now,
            delivered: false,
            acked: false,
        };
        let log = oracle.log(&tp());
        log.append(now, (begins, 1), (begins..25).map(entry), 25);
        assert_eq!(log.holds_any(20, 22), skips, "{begins}");
        assert!(!log.holds_any(22, 20) && log.holds_any(20, 24));
    }
}

/// Seed 1542.
#[test]
fn what_a_lost_answer_kept_from_being_committed_may_be_read_again() {
    let now = Timestamp::from_millis(30_000);
    for (hurt, expected) in [(None, Some("S15")), (Some(now - Duration::from_secs(7)), None)] {
        let mut oracle = oracle(TRAITS, &[10]);
        oracle.joined(Timestamp::ZERO, TRAITS);
        oracle.members[0].hurt = hurt;
        oracle.handovers.insert(tp(), Handover { from: 0, done: Some(10) });
        oracle.takes_over(now, MemberId(1), &tp(), 5);
        assert_eq!(oracle.violation().map(|v| v.invariant), expected, "{hurt:?}");
    }
}
