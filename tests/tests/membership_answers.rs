//! What the coordinator's answers mean to the whole client, on virtual time: what ends a membership, what ends the
//! member, and topics that are not known yet.

use std::time::Duration;

use ottla_broker::sim::ClusterConfig;
use ottla_broker::{Api, ErrorCode, Fault};
use ottla_core::client::{Command, CommitItem, Offset, Outcome};
use ottla_core::config::{GroupConfig, GroupProtocol};
use ottla_core::delivery::{BatchDecoder, Filter, Taken};
use ottla_core::{CommitError, ErrorKind, TopicPartition};
use ottla_tests::sim::{MemberId, Seen, World};

mod members;

use members::{MINUTE, PARTITIONS, produce, requests, shares, subscriber, told_of_partitions, world};

fn group(protocol: GroupProtocol) -> GroupConfig {
    GroupConfig { protocol, session_timeout: Duration::from_secs(10), ..GroupConfig::new("g") }
}

/// The first words of what a member was told about its partitions since `before`.
fn words(world: &mut World, member: MemberId, before: usize) -> Vec<String> {
    let told = told_of_partitions(world, member, before);
    told.into_iter().map(|text| text.split('(').next().unwrap_or_default().to_owned()).collect()
}

fn settled(world: &mut World, members: &[MemberId]) {
    world.run_until(3 * MINUTE, |w| shares(w, members).iter().sum::<usize>() == PARTITIONS);
    world.run_for(Duration::from_secs(5));
}

/// A member whose generation, id or epoch the coordinator does not accept any more has lost what it owned: it is told
/// so once, without an error, joins again and is assigned anew. Where it owned nothing yet nothing is told.
#[test]
fn what_ends_a_membership_is_told_as_lost_once() {
    use ErrorCode as E;
    let (classic, consumer) = (GroupProtocol::Classic, GroupProtocol::Consumer);
    let cases = [
        (classic, Api::Heartbeat, E::ILLEGAL_GENERATION),
        (classic, Api::Heartbeat, E::UNKNOWN_MEMBER_ID),
        (consumer, Api::ConsumerGroupHeartbeat, E::FENCED_MEMBER_EPOCH),
        (consumer, Api::ConsumerGroupHeartbeat, E::UNKNOWN_MEMBER_ID),
    ];
    for (protocol, api, code) in cases {
        let mut world = world(1);
        let member = subscriber(&mut world, group(protocol));
        settled(&mut world, &[member]);
        assert_eq!(words(&mut world, member, 0), ["Assigned"], "{api} {code}");
        let before = world.member(member).seen.len();
        let fault = world.cluster.add_fault(Fault::on(api).times(1).error(code));
        world.run_until(MINUTE, |w| w.cluster.fault_fired(fault) == 1);
        world.run_for(Duration::from_secs(30));
        assert_eq!(words(&mut world, member, before), ["Lost", "Assigned"], "{api} {code}");
        // It reads on.
        let (owned, count) = (world.member(member).owned(), world.member(member).count());
        produce(&mut world, &owned);
        world.run_until(MINUTE, |w| w.member(member).count() == count + PARTITIONS);
    }
    // While it joins it owns nothing that could be lost.
    let cases = [
        (classic, Api::JoinGroup, E::UNKNOWN_MEMBER_ID),
        (classic, Api::SyncGroup, E::ILLEGAL_GENERATION),
        (classic, Api::SyncGroup, E::UNKNOWN_MEMBER_ID),
        (consumer, Api::ConsumerGroupHeartbeat, E::FENCED_MEMBER_EPOCH),
        (consumer, Api::ConsumerGroupHeartbeat, E::UNKNOWN_MEMBER_ID),
    ];
    for (protocol, api, code) in cases {
        let mut world = world(1);
        let fault = world.cluster.add_fault(Fault::on(api).times(1).error(code));
        let member = subscriber(&mut world, group(protocol));
        settled(&mut world, &[member]);
        assert_eq!(world.cluster.fault_fired(fault), 1, "{api} {code}");
        assert_eq!(words(&mut world, member, 0), ["Assigned"], "{api} {code}");
    }
}

/// A rebalance in which JoinGroup or SyncGroup is refused, so that the member has to join as new: what it kept until then
/// is told as lost once, and everything is shared out again.
#[test]
fn a_membership_that_ends_in_a_rebalance_is_told_as_lost_once() {
    use ErrorCode as E;
    for (api, code, times) in [
        (Api::JoinGroup, E::UNKNOWN_MEMBER_ID, 1),
        (Api::JoinGroup, E::ILLEGAL_GENERATION, 5),
        (Api::SyncGroup, E::ILLEGAL_GENERATION, 5),
        (Api::SyncGroup, E::UNKNOWN_MEMBER_ID, 1),
    ] {
        let mut world = world(1);
        let mut config = world.config();
        config.group = Some(group(GroupProtocol::Classic));
        config.client_id = "first".into();
        let first = world.join(config);
        world.command(first, Command::Subscribe(vec!["t".to_owned()]));
        settled(&mut world, &[first]);
        let before = world.member(first).seen.len();
        world.cluster.add_fault(Fault::on(api).client_id("first").times(times).error(code));
        let second = subscriber(&mut world, group(GroupProtocol::Classic));
        world.run_until(3 * MINUTE, |w| shares(w, &[first, second]) == [6, 6]);
        world.run_for(MINUTE);
        let told = words(&mut world, first, before);
        assert_eq!(told.iter().filter(|word| *word == "Lost").count(), 1, "{api} {code}: {told:?}");
        assert!(!told.iter().any(|word| word == "Error"), "{api} {code}: {told:?}");
        assert_eq!(shares(&mut world, &[first, second]), [6, 6]);
    }
}

/// Whether the member was told a fatal error with this text, and everything after it is that error too.
fn is_over(world: &mut World, member: MemberId, code: &str) -> bool {
    let errors: Vec<_> = world
        .member(member)
        .seen
        .iter()
        .filter_map(|(_, seen)| if let Seen::Error(error) = seen { Some(error) } else { None })
        .collect();
    !errors.is_empty() && errors.iter().all(|error| error.is_fatal() && error.to_string().contains(code))
}

/// An answer that ends the member: every read says so, it is assigned nothing more, and it closes at once.
#[test]
fn fatal_answers_end_every_call_and_close() {
    use ErrorCode as E;
    let first = [
        (E::INVALID_REQUEST, "INVALID_REQUEST"),
        (E::GROUP_MAX_SIZE_REACHED, "GROUP_MAX_SIZE_REACHED"),
        (E::UNSUPPORTED_ASSIGNOR, "UNSUPPORTED_ASSIGNOR"),
        (E::UNSUPPORTED_VERSION, "UNSUPPORTED_VERSION"),
        (E::UNRELEASED_INSTANCE_ID, "UNRELEASED_INSTANCE_ID"),
        (E::GROUP_AUTHORIZATION_FAILED, "GROUP_AUTHORIZATION_FAILED"),
        (E::GROUP_ID_NOT_FOUND, "GROUP_ID_NOT_FOUND"),
        (E::CLUSTER_AUTHORIZATION_FAILED, "CLUSTER_AUTHORIZATION_FAILED"),
    ];
    let second = [
        (E::INVALID_REQUEST, "INVALID_REQUEST"),
        (E::GROUP_AUTHORIZATION_FAILED, "GROUP_AUTHORIZATION_FAILED"),
    ];
    let cases = first.map(|case| (false, case)).into_iter().chain(second.map(|case| (true, case)));
    for (later, (code, name)) in cases {
        let mut world = world(1);
        let fault = || Fault::on(Api::ConsumerGroupHeartbeat).always().error(code);
        if !later {
            world.cluster.add_fault(fault());
        }
        let member = subscriber(&mut world, group(GroupProtocol::Consumer));
        if later {
            settled(&mut world, &[member]);
            world.cluster.add_fault(fault());
        }
        let before = world.member(member).seen.len();
        world.run_until(MINUTE, |w| is_over(w, member, name));
        world.run_for(MINUTE);
        assert!(is_over(&mut world, member, name), "{name}, later {later}");
        let (delivery, now) = (world.member(member).delivery.clone(), world.now());
        for _ in 0..3 {
            match delivery.take(now, &mut BatchDecoder::new(), Filter::EVENTS, None) {
                Taken::Error(error) => {
                    assert!(error.is_fatal() && error.to_string().contains(name), "{error}")
                }
                other => panic!("{name}, later {later}: again and again, not {other:?}"),
            }
        }
        let told = words(&mut world, member, before);
        assert!(!told.iter().any(|word| word == "Assigned"), "{name}, later {later}: {told:?}");
        assert_eq!(world.member(member).owned(), [], "{name}, later {later}");
        let offset = CommitItem::Offset {
            topic_partition: TopicPartition::new("t", 0),
            offset: 1,
            leader_epoch: None,
            metadata: None,
            rewind: false,
        };
        world.member(member).outcomes.clear();
        world.command(member, Command::Commit(vec![offset]));
        world.command(member, Command::CommitDelivered);
        world.command(member, Command::Seek(TopicPartition::new("t", 0), Offset::At(0)));
        world.command(member, Command::Committed(vec![TopicPartition::new("t", 0)]));
        world.run_for(MINUTE);
        let outcomes = std::mem::take(&mut world.member(member).outcomes);
        // Nothing is owned that could be committed or sought; what takes no member is answered all the same.
        let [
            Outcome::Commit(refused),
            Outcome::Commit(delivered),
            Outcome::Failed(sought),
            Outcome::Committed(queried),
        ] = &outcomes[..]
        else {
            panic!("{name}, later {later}: {outcomes:?}")
        };
        assert!(matches!(refused[..], [(_, Err(CommitError::NotOwned))]), "{name}: {refused:?}");
        assert!(delivered.is_empty(), "{name}: {delivered:?}");
        assert_eq!(sought.kind(), ErrorKind::ApiMisuse, "{name}: {sought}");
        assert!(matches!(queried[..], [(_, Ok(_))]), "{name}: {queried:?}");
        let begun = world.now();
        let timeout = Duration::from_secs(10);
        world.command(member, Command::Close { timeout });
        world.run_until(MINUTE, |w| w.member(member).is_closed());
        assert!(world.now().since(begun) <= Duration::from_secs(1), "{name}, later {later}");
        let outcome = world.member(member).outcomes.pop();
        let Some(Outcome::Closed(errors)) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(errors.is_empty(), "{name}, later {later}: {errors:?}");
    }
}

/// A group that is full: who comes too late is told so, and the others notice nothing. When one of them has left there is
/// room again.
#[test]
fn who_is_one_too_many_is_told_and_the_others_read_on() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let mut config = ClusterConfig::with_nodes(1);
        (config.max_group_size, config.max_consumer_group_size) = (3, 3);
        let mut world = World::with_config(11, config);
        world.cluster.create_topic("t", 12).expect("a topic");
        let members: Vec<_> = (0..3).map(|_| subscriber(&mut world, group(protocol))).collect();
        world.run_until(3 * MINUTE, |w| shares(w, &members) == [4, 4, 4]);
        world.run_for(Duration::from_secs(10));
        let before: Vec<usize> = members.iter().map(|m| world.member(*m).seen.len()).collect();
        let late = subscriber(&mut world, group(protocol));
        world.run_until(MINUTE, |w| is_over(w, late, "GROUP_MAX_SIZE_REACHED"));
        world.run_for(MINUTE);
        for (member, before) in members.iter().zip(before) {
            assert_eq!(told_of_partitions(&mut world, *member, before), [""; 0], "{protocol:?}");
            let owned = world.member(*member).owned();
            let count = world.member(*member).count();
            produce(&mut world, &owned);
            world.run_until(MINUTE, |w| w.member(*member).count() == count + 4);
        }
        assert_eq!(world.member(late).owned(), [], "{protocol:?}");
        world.command(members[0], Command::Close { timeout: Duration::from_secs(10) });
        world.run_until(MINUTE, |w| w.member(members[0]).is_closed());
        let next = subscriber(&mut world, group(protocol));
        world.run_until(3 * MINUTE, |w| shares(w, &[members[1], members[2], next]) == [4, 4, 4]);
    }
}

/// A commit that ends a membership: what was owned is told as lost once, is assigned anew, and what was not committed
/// comes again.
#[test]
fn a_commit_that_ends_a_membership_is_told_as_lost_once() {
    use ErrorCode as E;
    let (classic, consumer) = (GroupProtocol::Classic, GroupProtocol::Consumer);
    // Under the consumer protocol the epoch is asked for first (a heartbeat): if the membership stands, so does the commit.
    for (protocol, code, ends) in [
        (classic, E::ILLEGAL_GENERATION, true),
        (classic, E::UNKNOWN_MEMBER_ID, true),
        (consumer, E::UNKNOWN_MEMBER_ID, false),
    ] {
        let mut world = world(1);
        let member = subscriber(&mut world, group(protocol));
        settled(&mut world, &[member]);
        let before = world.member(member).seen.len();
        let fault = world.cluster.add_fault(Fault::on(Api::OffsetCommit).times(1).error(code));
        let owned = world.member(member).owned();
        produce(&mut world, &owned);
        world.run_until(MINUTE, |w| w.cluster.fault_fired(fault) == 1);
        world.run_for(Duration::from_secs(30));
        let expected: &[&str] = if ends { &["Lost", "Assigned"] } else { &[] };
        assert_eq!(words(&mut world, member, before), expected, "{protocol:?} {code}");
        let times = if ends { 2 } else { 1 };
        assert_eq!(world.member(member).count(), times * PARTITIONS, "{protocol:?} {code}");
        for p in 0..PARTITIONS as i32 {
            assert_eq!(world.cluster.committed("g", "t", p).map(|c| c.offset), Some(1), "{code}: t-{p}");
        }
    }
}

/// The coordinator has assigned a topic whose name is not known yet: it is asked for nothing of it, goes on with the
/// others, and reads it as soon as it is known.
#[test]
fn a_topic_whose_id_is_not_known_yet_is_read_when_it_is() {
    for alone in [true, false] {
        let mut world = world(1);
        world.cluster.create_topic("other", 1).expect("a topic");
        let (new, other) = (TopicPartition::new("t", 0), TopicPartition::new("other", 0));
        let now = world.broker_now();
        world.cluster.produce(now, "other", 0, ["a record"]).expect("produced");
        world.cluster.produce(now, "t", 0, ["a record"]).expect("produced");
        let fault = world
            .cluster
            .add_fault(Fault::on(Api::Metadata).topic("t").always().error(ErrorCode::UNKNOWN_TOPIC_ID));
        let mut config = world.config();
        config.group = Some(group(GroupProtocol::Consumer));
        let member = world.join(config);
        let topics = if alone { vec!["t".to_owned()] } else { vec!["t".to_owned(), "other".to_owned()] };
        world.command(member, Command::Subscribe(topics));
        world.run_for(Duration::from_secs(30));
        assert!(world.cluster.fault_fired(fault) > 1, "it asks again");
        let read = |world: &World| {
            let records = |tp: &TopicPartition| world.look(member).values.get(tp).map_or(0, Vec::len);
            (records(&new), records(&other))
        };
        assert_eq!(read(&world), (0, usize::from(!alone)), "alone {alone}");
        let fetches = world.cluster.requests().filter(|r| r.api == Api::Fetch && r.names("t", 0)).count();
        assert_eq!(fetches, 0, "alone {alone}");
        world.cluster.cancel_fault(fault);
        world.run_until(MINUTE, |w| read(w).0 == 1);
        assert!(words(&mut world, member, 0).iter().all(|word| word == "Assigned"));
        assert_eq!(requests(&world, Api::JoinGroup, 0), 0);
    }
}
