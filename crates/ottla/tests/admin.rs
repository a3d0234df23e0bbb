//! The administrator on the embedded broker, on virtual time: every call, its errors, its retries and its bound.

mod common;
#[path = "common/net.rs"]
mod net;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use common::{GROUP, TOPIC, answered, broker, consumer, member, produce, tp};
use net::{Net, Weather};
use ottla::{
    Admin, AdminBuilder, BrokerId, Error, ErrorCode, ErrorKind, GroupState, GroupType, NewTopic, Offset,
    TopicPartition,
};
use ottla_broker::{Api, Broker, Fault};
use tokio::time::Instant;

const BOUND: Duration = Duration::from_secs(60);

async fn admin(broker: &Arc<Broker>) -> Admin {
    AdminBuilder::from(consumer(broker)).connect().await.unwrap()
}

async fn three_nodes() -> Arc<Broker> {
    Arc::new(Broker::builder().in_memory().brokers(3).topic(TOPIC, 3).start().await.unwrap())
}

fn code<T: std::fmt::Debug>(result: &Result<T, Error>) -> Option<ErrorCode> {
    result.as_ref().unwrap_err().code()
}

/// One group for each node, coordinated by it, with one committed offset.
fn a_group_on_each(broker: &Broker) {
    for node in 1..=3 {
        let group = format!("group-{node}");
        broker.set_committed(&group, TOPIC, 0, i64::from(node)).unwrap();
        broker.move_coordinator(&group, node).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn topics_are_listed_created_and_deleted() {
    let broker = three_nodes().await;
    let admin = admin(&broker).await;
    let bills = || NewTopic::new("bills").num_partitions(2).replication_factor(3);
    let validated = admin.validate_topics([bills(), NewTopic::new(TOPIC)]).await.unwrap();
    assert_eq!(validated["bills"].as_ref().unwrap().num_partitions, Some(2));
    assert_eq!(code(&validated[TOPIC]), Some(ErrorCode::TopicAlreadyExists));
    assert_eq!(admin.list_topics().await.unwrap().len(), 1, "nothing was created");
    let wrong = [
        NewTopic::new("no/name"),
        NewTopic::new("none").num_partitions(0),
        NewTopic::new("wide").replication_factor(4),
    ];
    let created = admin.create_topics([bills()].into_iter().chain(wrong)).await.unwrap();
    let bill = created["bills"].as_ref().unwrap();
    assert_eq!((bill.num_partitions, bill.replication_factor), (Some(2), Some(3)));
    assert_eq!(code(&created["no/name"]), Some(ErrorCode::InvalidTopicException));
    assert_eq!(code(&created["none"]), Some(ErrorCode::InvalidPartitions));
    assert_eq!(code(&created["wide"]), Some(ErrorCode::InvalidReplicationFactor));
    let error = created["wide"].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse);
    assert!(error.to_string().contains("topic \"wide\": the broker refuses it: \"more replicas"), "{error}");
    let topics = admin.list_topics().await.unwrap();
    assert_eq!(topics.keys().map(String::as_str).collect::<Vec<_>>(), ["bills", TOPIC]);
    assert_eq!((topics["bills"].partitions, topics["bills"].is_internal), (2, false));
    assert_eq!(topics["bills"].topic_id, bill.topic_id);
    let deleted = admin.delete_topics(["bills", "nowhere", "bills"]).await.unwrap();
    assert!(deleted["bills"].is_ok());
    assert_eq!(code(&deleted["nowhere"]), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(deleted.len(), 2);
    assert_eq!(admin.list_topics().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_about_nothing_is_answered_without_a_request() {
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    let before = broker.requests().len();
    assert!(admin.create_topics([]).await.unwrap().is_empty());
    assert!(admin.delete_topics::<String>([]).await.unwrap().is_empty());
    assert!(admin.describe_groups::<String>([]).await.unwrap().is_empty());
    assert!(admin.delete_groups::<String>([]).await.unwrap().is_empty());
    assert!(admin.alter_group_offsets(GROUP, []).await.unwrap().is_empty());
    assert!(admin.delete_group_offsets::<TopicPartition>(GROUP, []).await.unwrap().is_empty());
    assert_eq!(broker.requests().len(), before);
}

#[tokio::test(start_paused = true)]
async fn every_broker_is_asked_for_its_groups() {
    let broker = three_nodes().await;
    a_group_on_each(&broker);
    let admin = admin(&broker).await;
    let groups = admin.list_groups().await.unwrap();
    assert_eq!(groups.keys().map(String::as_str).collect::<Vec<_>>(), ["group-1", "group-2", "group-3"]);
    let one = &groups["group-1"];
    assert_eq!((one.state, one.group_type), (Some(GroupState::Empty), Some(GroupType::Classic)));
    let described = admin.describe_groups(groups.keys().cloned()).await.unwrap();
    for node in 1..=3 {
        let group = described[&format!("group-{node}")].as_ref().unwrap();
        assert_eq!(group.coordinator, BrokerId(node));
        assert!(group.members.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_groups_is_whole_although_a_broker_goes() {
    let broker = three_nodes().await;
    a_group_on_each(&broker);
    let admin = admin(&broker).await;
    let gone = Fault::on(Api::ListGroups).node(2).close_connection().before_processing();
    broker.fault(gone);
    let listing = async { admin.list_groups().await.unwrap() };
    let stopping = async {
        broker.wait_for(|request| request.api == Api::ListGroups && request.node == 2).await;
        broker.stop_node(2).unwrap();
    };
    let (groups, ()) = tokio::join!(listing, stopping);
    assert_eq!(groups.keys().map(String::as_str).collect::<Vec<_>>(), ["group-1", "group-2", "group-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_described_with_its_members_and_cannot_be_touched_while_it_has_any() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    let mut consumer =
        member(&broker, 7).client_id("watched").group_instance_id("desk").connect().await.unwrap();
    consumer.next_record().await.unwrap().unwrap();
    let admin = admin(&broker).await;
    let described = admin.describe_groups([GROUP, "nowhere"]).await.unwrap();
    let billing = described[GROUP].as_ref().unwrap();
    assert_eq!((billing.state, billing.group_type), (GroupState::Stable, GroupType::Classic));
    assert_eq!((&*billing.protocol_type, &*billing.partition_assignor), ("consumer", "cooperative-sticky"));
    let [only] = &billing.members[..] else { panic!("{billing:?}") };
    assert_eq!((&*only.client_id, only.group_instance_id.as_deref()), ("watched", Some("desk")));
    assert_eq!(only.assignment, [tp(0), tp(1)]);
    assert_eq!(only.member_id, consumer.group_metadata().await.unwrap().unwrap().member_id);
    assert_eq!(code(&described["nowhere"]), Some(ErrorCode::GroupIdNotFound));

    let deleted = admin.delete_groups([GROUP, "nowhere"]).await.unwrap();
    let error = deleted[GROUP].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ApiMisuse, Some(ErrorCode::NonEmptyGroup)));
    assert!(
        error.to_string().contains("group \"billing\": the group has members: stop them first"),
        "{error}"
    );
    assert_eq!(code(&deleted["nowhere"]), Some(ErrorCode::GroupIdNotFound));
    let before = broker.committed(GROUP, TOPIC, 0);
    let altered = admin.alter_group_offsets(GROUP, [(tp(0), Offset::At(9))]).await.unwrap();
    let error = altered[&tp(0)].as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NonEmptyGroup));
    assert_eq!(error.topic_partition(), Some(&tp(0)));
    let deleted = admin.delete_group_offsets(GROUP, [tp(0)]).await.unwrap();
    assert_eq!(code(&deleted[&tp(0)]), Some(ErrorCode::GroupSubscribedToTopic));
    assert_eq!(broker.committed(GROUP, TOPIC, 0), before, "nothing was moved");
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_group_without_members_are_listed_reset_and_deleted() {
    let broker = broker(4).await;
    produce(&broker, 4, 0..40);
    broker.delete_records(TOPIC, 0, 3).unwrap();
    let admin = admin(&broker).await;
    assert!(admin.list_group_offsets(GROUP).await.unwrap().is_empty());
    let places = [
        (tp(0), Offset::Earliest),
        (tp(1), Offset::Latest),
        (tp(2), Offset::At(5)),
        (tp(3), Offset::FromEnd(2)),
        (tp(9), Offset::Latest),
        (tp(10), Offset::At(1)),
        (TopicPartition::new("nowhere", 0), Offset::At(1)),
    ];
    let altered = admin.alter_group_offsets(GROUP, places).await.unwrap();
    for (partition, offset) in [(0, 3), (1, 10), (2, 5), (3, 8)] {
        assert_eq!(*altered[&tp(partition)].as_ref().unwrap(), offset);
        assert_eq!(broker.committed(GROUP, TOPIC, partition), Some(offset));
    }
    assert_eq!(altered[&tp(9)].as_ref().unwrap_err().kind(), ErrorKind::ApiMisuse);
    assert_eq!(code(&altered[&tp(10)]), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(code(&altered[&TopicPartition::new("nowhere", 0)]), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(altered.len(), 7);
    // A time nobody wrote after: the end.
    let late = [(tp(2), Offset::Timestamp(i64::MAX)), (tp(0), Offset::Committed), (tp(1), Offset::At(-1))];
    let altered = admin.alter_group_offsets(GROUP, late).await.unwrap();
    assert_eq!(*altered[&tp(2)].as_ref().unwrap(), 10);
    assert_eq!(altered[&tp(0)].as_ref().unwrap_err().kind(), ErrorKind::ApiMisuse);
    assert_eq!(altered[&tp(1)].as_ref().unwrap_err().kind(), ErrorKind::ApiMisuse);

    let deleted = admin.delete_group_offsets(GROUP, [tp(0), tp(1)]).await.unwrap();
    assert!(deleted.values().all(Result::is_ok), "{deleted:?}");
    let left = admin.list_group_offsets(GROUP).await.unwrap();
    assert_eq!(left.keys().cloned().collect::<Vec<_>>(), [tp(2), tp(3)]);
    assert_eq!(left[&tp(3)].as_ref().unwrap().offset, 8);
    assert_eq!(
        code(&admin.delete_group_offsets("nowhere", [tp(0)]).await.unwrap()[&tp(0)]),
        Some(ErrorCode::GroupIdNotFound)
    );
    // A consumer begins there.
    let mut consumer = member(&broker, 7).connect().await.unwrap();
    let mut first = std::collections::BTreeMap::new();
    while first.len() < 3 {
        let record = consumer.next_record().await.unwrap().unwrap();
        first.entry(record.topic_partition().partition()).or_insert_with(|| record.offset());
    }
    assert_eq!(first, [(0, 3), (1, 0), (3, 8)].into());
    consumer.close().await.unwrap();
    assert!(admin.delete_groups([GROUP]).await.unwrap()[GROUP].is_ok());
    assert!(admin.list_groups().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again() {
    use ottla_broker::ErrorCode as E;
    let broker = three_nodes().await;
    a_group_on_each(&broker);
    let admin = admin(&broker).await;
    for fault in [
        Fault::on(Api::CreateTopics).error(E::NOT_CONTROLLER).times(2),
        Fault::on(Api::DeleteTopics).close_connection(),
        Fault::on(Api::FindCoordinator).error(E::COORDINATOR_NOT_AVAILABLE).times(2),
        Fault::on(Api::DescribeGroups).error(E::COORDINATOR_LOAD_IN_PROGRESS).times(2),
        Fault::on(Api::DeleteGroups).error(E::NOT_COORDINATOR),
        Fault::on(Api::ListGroups).error(E::COORDINATOR_LOAD_IN_PROGRESS),
        Fault::on(Api::OffsetFetch).error(E::UNSTABLE_OFFSET_COMMIT),
        Fault::on(Api::OffsetCommit).error(E::NOT_COORDINATOR),
        Fault::on(Api::OffsetDelete).error(E::COORDINATOR_NOT_AVAILABLE),
        // No layout of anything.
        Fault::on(Api::OffsetDelete).respond_body(vec![0xff; 3]),
    ] {
        broker.fault(fault);
    }
    let created = admin.create_topics([NewTopic::new("bills")]).await.unwrap();
    assert!(created["bills"].is_ok(), "{created:?}");
    // The answer was lost, and the next one says that it is gone: as documented.
    assert_eq!(
        code(&admin.delete_topics(["bills"]).await.unwrap()["bills"]),
        Some(ErrorCode::UnknownTopicOrPartition)
    );
    let described = admin.describe_groups(["group-1", "group-2"]).await.unwrap();
    assert!(described.values().all(Result::is_ok), "{described:?}");
    assert_eq!(admin.list_groups().await.unwrap().len(), 3);
    assert_eq!(admin.list_group_offsets("group-3").await.unwrap()[&tp(0)].as_ref().unwrap().offset, 3);
    let altered =
        admin.alter_group_offsets("group-3", [(tp(0), Offset::At(8)), (tp(1), Offset::At(9))]).await.unwrap();
    assert!(altered.values().all(Result::is_ok), "{altered:?}");
    assert!(admin.delete_group_offsets("group-3", [tp(0)]).await.unwrap()[&tp(0)].is_ok());
    assert!(admin.delete_groups(["group-2"]).await.unwrap()["group-2"].is_ok());
    assert_eq!(broker.committed("group-3", TOPIC, 0), None);
    assert_eq!(broker.committed("group-3", TOPIC, 1), Some(9));
    assert_eq!(broker.unfired_faults().len(), 0, "every fault has hit");
}

#[tokio::test(start_paused = true)]
async fn items_that_are_done_are_not_sent_again() {
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    broker.fault(Fault::on(Api::CreateTopics).topic("late").error(ottla_broker::ErrorCode::NOT_CONTROLLER));
    let created = admin.create_topics(["early", "late"].map(NewTopic::new)).await.unwrap();
    assert!(created.values().all(Result::is_ok), "{created:?}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_is_followed() {
    let broker = three_nodes().await;
    a_group_on_each(&broker);
    let admin = admin(&broker).await;
    broker.fault(Fault::on(Api::DescribeGroups).delay(Duration::from_secs(1)).before_processing());
    let moving = async {
        broker.wait_for(|request| request.api == Api::DescribeGroups).await;
        broker.move_coordinator("group-1", 3).unwrap();
    };
    let (described, ()) = tokio::join!(admin.describe_groups(["group-1"]), moving);
    assert_eq!(described.unwrap()["group-1"].as_ref().unwrap().coordinator, BrokerId(3));
    broker.stop_node(3).unwrap();
    let described = admin.describe_groups(["group-1"]).await.unwrap();
    assert_ne!(described["group-1"].as_ref().unwrap().coordinator, BrokerId(3));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_does_not_pass_is_told_at_the_deadline() {
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    broker.fault(
        Fault::on(Api::FindCoordinator).error(ottla_broker::ErrorCode::COORDINATOR_NOT_AVAILABLE).always(),
    );
    let begun = Instant::now();
    let deleted = admin.delete_groups([GROUP]).await.unwrap();
    assert!((BOUND..BOUND + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let error = deleted[GROUP].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Transport, Some(ErrorCode::CoordinatorNotAvailable))
    );
    assert!(error.is_retriable());
    let asked = broker.requests().iter().filter(|r| r.api == Api::FindCoordinator).count();
    assert!((50..90).contains(&asked), "with a pause that grows to a second: {asked}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_told_at_once() {
    use ottla_broker::ErrorCode as E;
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    broker.fault(Fault::on(Api::FindCoordinator).error(E::GROUP_AUTHORIZATION_FAILED));
    broker.fault(Fault::on(Api::ListGroups).error(E::CLUSTER_AUTHORIZATION_FAILED));
    broker.fault(Fault::on(Api::OffsetFetch).error(E::GROUP_AUTHORIZATION_FAILED));
    let begun = Instant::now();
    let described = admin.describe_groups([GROUP]).await.unwrap();
    assert_eq!(described[GROUP].as_ref().unwrap_err().kind(), ErrorKind::Authorization);
    assert_eq!(admin.list_groups().await.unwrap_err().kind(), ErrorKind::Authorization);
    assert_eq!(admin.list_group_offsets(GROUP).await.unwrap_err().kind(), ErrorKind::Authorization);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

/// Every call, each with whether it failed and its error's text.
async fn every_call(admin: &Admin) -> Vec<(&'static str, Error)> {
    fn only<K, V>(results: ottla::Results<K, V>) -> Error {
        results.into_values().next().and_then(Result::err).expect("it failed")
    }
    let (a, b, c, d, e, f, g, h, i) = tokio::join!(
        admin.list_topics(),
        admin.create_topics([NewTopic::new("bills")]),
        admin.delete_topics([TOPIC]),
        admin.list_groups(),
        admin.describe_groups([GROUP]),
        admin.delete_groups([GROUP]),
        admin.list_group_offsets(GROUP),
        admin.alter_group_offsets(GROUP, [(tp(0), Offset::Latest)]),
        admin.delete_group_offsets(GROUP, [tp(0)]),
    );
    vec![
        ("list_topics", a.unwrap_err()),
        ("create_topics", only(b.unwrap())),
        ("delete_topics", only(c.unwrap())),
        ("list_groups", d.unwrap_err()),
        ("describe_groups", only(e.unwrap())),
        ("delete_groups", only(f.unwrap())),
        ("list_group_offsets", g.unwrap_err()),
        ("alter_group_offsets", only(h.unwrap())),
        ("delete_group_offsets", only(i.unwrap())),
    ]
}

async fn in_bad_weather(weather: Weather) -> Vec<(&'static str, Error)> {
    let broker = broker(1).await;
    broker.set_committed(GROUP, TOPIC, 0, 5).unwrap();
    let net = Net::new(broker.clone(), 1);
    let transport = net.clone();
    let builder = consumer(&broker).__connect_with(move |host, port| transport.clone().connect(host, port));
    let admin = AdminBuilder::from(builder).connect().await.unwrap();
    net.set(weather);
    let begun = Instant::now();
    let errors = every_call(&admin).await;
    assert!((BOUND..BOUND + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Nothing is left of a call that ended, and the next one finds the broker again.
    net.set(Weather::Fair);
    assert_eq!(admin.list_topics().await.unwrap().len(), 1);
    assert_eq!(broker.committed(GROUP, TOPIC, 0), Some(5), "nothing was sent after the end");
    drop(admin);
    common::settle().await;
    assert_eq!(net.sockets(), 0, "the driver has ended");
    errors
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_at_its_deadline_in_a_black_hole() {
    for weather in [Weather::Silent, Weather::Clogged] {
        for (call, error) in in_bad_weather(weather).await {
            assert_eq!(error.kind(), ErrorKind::Transport, "{call}: {error}");
            assert!(error.is_retriable());
            let text = error.to_string();
            assert!(text.contains("default_api_timeout"), "{call}: {text}");
            assert!(text.contains("in time: "), "{call} names what stood in the way: {text}");
            assert!(std::error::Error::source(&error).is_some(), "{call}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_at_its_deadline_when_connections_are_refused() {
    for (call, error) in in_bad_weather(Weather::Gone).await {
        assert_eq!(error.kind(), ErrorKind::Transport, "{call}: {error}");
        assert!(error.to_string().contains("default_api_timeout"), "{call}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_is_carried_out() {
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    {
        let mut call = pin!(admin.create_topics([NewTopic::new("bills")]));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    answered(&broker, 0, Api::CreateTopics).await;
    assert!(admin.list_topics().await.unwrap().contains_key("bills"));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_request_can_carry_is_an_error() {
    let broker = broker(1).await;
    let admin = admin(&broker).await;
    let long = "x".repeat(40_000);
    let begun = Instant::now();
    assert!(admin.create_topics([NewTopic::new(long.clone())]).await.unwrap()[&long].is_err());
    assert!(admin.describe_groups([long.clone()]).await.unwrap()[&long].is_err());
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(admin.list_topics().await.unwrap().len(), 1, "the connection is as it was");
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_a_consumer_are_taken_without_its_group() {
    let broker = broker(1).await;
    let builder = member(&broker, 3).client_id("tool").session_timeout(Duration::from_secs(9));
    let admin = AdminBuilder::from(builder).connect().await.unwrap();
    admin.list_topics().await.unwrap();
    common::settle().await;
    assert!(broker.requests().iter().all(|r| r.client_id.as_deref() == Some("tool")));
    assert!(broker.group(GROUP).is_none(), "no member joined");
}

/// As every kind of broker has it: with and without states, types, topic ids and batched keys.
#[tokio::test(start_paused = true)]
async fn brokers_of_every_age_are_understood() {
    for version in ["2.1", "2.4", "2.8", "3.9", "4.3"] {
        let builder = Broker::builder().in_memory().brokers(3).topic(TOPIC, 2).as_version(version);
        let broker = Arc::new(builder.start().await.unwrap());
        produce(&broker, 2, 0..10);
        let admin = admin(&broker).await;
        let bills = NewTopic::new("bills").num_partitions(1).replication_factor(1);
        let created = admin.create_topics([bills]).await.unwrap();
        let created = created["bills"].as_ref().unwrap();
        assert_eq!(created.num_partitions.is_some(), version != "2.1", "{version}");
        assert_eq!(created.topic_id.is_some(), !version.starts_with("2.") || version == "2.8", "{version}");
        assert!(admin.delete_topics(["bills"]).await.unwrap()["bills"].is_ok(), "{version}");
        let altered = admin.alter_group_offsets(GROUP, [(tp(0), Offset::Latest)]).await.unwrap();
        assert_eq!(*altered[&tp(0)].as_ref().unwrap(), 5, "{version}");
        let listed = admin.list_group_offsets(GROUP).await.unwrap();
        assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), [tp(0)], "{version}");
        let groups = admin.list_groups().await.unwrap();
        let with_state = !matches!(version, "2.1" | "2.4");
        assert_eq!(groups[GROUP].state, with_state.then_some(GroupState::Empty), "{version}");
        let described = admin.describe_groups([GROUP, "nowhere"]).await.unwrap();
        assert_eq!(described[GROUP].as_ref().unwrap().state, GroupState::Empty, "{version}");
        assert_eq!(code(&described["nowhere"]), Some(ErrorCode::GroupIdNotFound), "{version}");
        let deleted = admin.delete_group_offsets(GROUP, [tp(0)]).await.unwrap();
        match &deleted[&tp(0)] {
            Ok(()) => assert_ne!(version, "2.1"),
            Err(error) => assert_eq!((version, error.kind()), ("2.1", ErrorKind::Unsupported), "{error}"),
        }
        assert!(admin.delete_groups([GROUP]).await.unwrap()[GROUP].is_ok(), "{version}");
    }
}
