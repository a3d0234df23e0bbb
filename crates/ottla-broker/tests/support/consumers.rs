//! Members of consumer groups (KIP-848) in a conversation.

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::member::offset_fetch;
use super::talk::{Conn, Talk, code};
use super::{group_id, text, topic_name};

/// A member's own view.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) epoch: i32,
    pub(crate) instance: Option<String>,
    pub(crate) topics: Vec<String>,
    /// What it was told last.
    pub(crate) told: Vec<i32>,
}

impl Member {
    pub(crate) fn new(group: &str, id: &str, topic: &str) -> Self {
        let topics = vec![topic.to_owned()];
        Self {
            group: group.to_owned(),
            id: id.to_owned(),
            epoch: 0,
            instance: None,
            topics,
            told: Vec::new(),
        }
    }

    pub(crate) fn delta(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.as_deref().map(text))
    }

    pub(crate) fn joining(&self) -> ConsumerGroupHeartbeatRequest {
        self.delta()
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(self.topics.iter().map(|t| topic_name(t)).collect()))
            .with_topic_partitions(Some(Vec::new()))
    }
}

pub(crate) fn owning(
    request: ConsumerGroupHeartbeatRequest,
    id: Uuid,
    partitions: &[i32],
) -> ConsumerGroupHeartbeatRequest {
    let topic = TopicPartitions::default().with_topic_id(id).with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(if partitions.is_empty() { Vec::new() } else { vec![topic] }))
}

/// The words of an error hold names that differ from run to run.
pub(crate) fn words(message: &str, suffix: &str) -> String {
    // What exactly is wrong with a pattern, each engine says in its own words.
    let pattern = " is not a valid regular expression: ";
    let message = message.split_once(pattern).map_or(message, |(head, _)| head);
    message.replace(suffix, "*")
}

pub(crate) async fn beat(
    talk: &mut Talk,
    conn: &mut Conn,
    label: &str,
    member: &mut Member,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let r = talk.call(conn, 1, request).await;
    let told = r.assignment.as_ref().map(|assignment| {
        let mut all: Vec<i32> =
            assignment.topic_partitions.iter().flat_map(|t| t.partitions.iter().copied()).collect();
        all.sort_unstable();
        all
    });
    if r.error_code == 0 {
        member.epoch = r.member_epoch;
    }
    if let Some(told) = &told {
        member.told.clone_from(told);
    }
    let message = r.error_message.as_deref().map(|m| words(m, &talk.suffix));
    talk.say(format!(
        "{label}: {} {message:?} member {:?} epoch {} interval {} partitions {:?}",
        code(r.error_code),
        r.member_id.as_deref().map(|s| words(s, &talk.suffix)),
        r.member_epoch,
        r.heartbeat_interval_ms > 0,
        told.map(|t| t.len()),
    ));
    r
}

pub(crate) async fn topic(talk: &mut Talk, conn: &mut Conn, short: &str, partitions: i32) -> (String, Uuid) {
    let name = talk.name(short);
    let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
        CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(1),
    ]);
    talk.call(conn, 7, &request).await;
    loop {
        let ask = MetadataRequest::default()
            .with_allow_auto_topic_creation(false)
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic_name(&name)))]));
        let r = talk.call(conn, 12, &ask).await;
        let topic = &r.topics[0];
        if topic.error_code == 0 && topic.partitions.iter().all(|p| p.error_code == 0) {
            return (name, topic.topic_id);
        }
    }
}

pub(crate) fn fetch_offsets(
    group: &str,
    topic: &str,
    partitions: &[i32],
    member: Option<&str>,
    epoch: i32,
) -> OffsetFetchRequest {
    let topics = OffsetFetchRequestTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(partitions.to_vec());
    OffsetFetchRequest::default().with_groups(vec![
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(Some(vec![topics])),
    ])
}

pub(crate) async fn fetched(talk: &mut Talk, conn: &mut Conn, label: &str, request: &OffsetFetchRequest) {
    let r = talk.call(conn, 9, request).await;
    let partitions: Vec<String> = r.groups[0]
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| format!("{} {}", p.committed_offset, code(p.error_code)))
        .collect();
    talk.say(format!("{label}: {} {partitions:?}", code(r.groups[0].error_code)));
}

pub(crate) async fn state(talk: &mut Talk, conn: &mut Conn, label: &str, group: &str) {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let r = talk.call(conn, 1, &request).await;
    let d = &r.groups[0];
    let count = |a: &consumer_group_describe_response::Assignment| {
        a.topic_partitions.iter().map(|t| t.partitions.len()).sum::<usize>()
    };
    let mut members: Vec<String> = d
        .members
        .iter()
        .map(|m| {
            format!(
                "{} {:?} epoch {} type {} has {} of {}",
                talk.member(&m.member_id),
                m.instance_id.as_deref(),
                m.member_epoch,
                m.member_type,
                count(&m.assignment),
                count(&m.target_assignment)
            )
        })
        .collect();
    members.sort();
    talk.say(format!(
        "state {label}: {} {} epoch {} target {} by {} {members:?}",
        code(d.error_code),
        d.group_state,
        d.group_epoch,
        d.assignment_epoch,
        d.assignor_name
    ));
}

/// A conversation with a fresh embedded broker, or with the real one of `OTTLA_PARITY_BOOTSTRAP`, and a topic of four
/// partitions that all its coordinators know.
pub(crate) async fn begin(broker: &ottla_broker::Broker) -> (Talk, Conn, String, Uuid) {
    let address = std::env::var("OTTLA_PARITY_BOOTSTRAP").unwrap_or_else(|_| broker.bootstrap());
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut talk = Talk { address, suffix: unique.to_string(), lines: Vec::new(), members: Vec::new() };
    let mut conn = talk.connect().await;
    // A real broker makes its internal topics at the first question.
    let find = FindCoordinatorRequest::default().with_key(text("warm"));
    while talk.call(&mut conn, 3, &find).await.error_code != 0 {}
    while talk.call(&mut conn, 7, &offset_fetch("warm", "t", &[0])).await.error_code != 0 {}
    let (name, id) = topic(&mut talk, &mut conn, "topic", 4).await;
    learned(&mut talk, &mut conn, &name, 4).await;
    (talk, conn, name, id)
}

/// A real coordinator learns of a topic a little later than Metadata tells of it.
pub(crate) async fn learned(talk: &mut Talk, conn: &mut Conn, topic: &str, partitions: usize) {
    let said = talk.lines.len();
    let mut scout = Member::new(&talk.name("scout"), &format!("scout-{said}"), topic);
    while scout.told.len() < partitions {
        let request = scout.joining();
        beat(talk, conn, "scout", &mut scout, &request).await;
    }
    let request = scout.delta().with_member_epoch(-1);
    beat(talk, conn, "scout", &mut scout, &request).await;
    talk.lines.truncate(said);
}
