//! The same conversation of members of both protocols in one group (KIP-848, online migration) with the embedded
//! broker and with a real one.
//!
//! `tests/parity/mixed_groups.txt` is what Apache Kafka 4.3.1 answered; see `parity.rs` for how to hold the
//! conversation with a real broker and how to record its answers.

mod support;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use ottla_broker::Broker;
use support::consumers::*;
use support::member::{commit, heartbeat, leave, sync};
use support::talk::*;
use support::*;
use uuid::Uuid;

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

/// Topics with partitions, as both messages of the consumer protocol have them.
fn put_partitions(out: &mut BytesMut, topic: &str, partitions: &[i32]) {
    out.put_i32(i32::from(!partitions.is_empty()));
    if !partitions.is_empty() {
        put_text(out, topic);
        out.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|p| out.put_i32(*p));
    }
}

/// A subscription to one topic; version 0 has no owned partitions.
fn subscription(version: i16, topic: &str, owned: &[i32]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    out.put_i32(1);
    put_text(&mut out, topic);
    out.put_i32(-1);
    if version >= 1 {
        put_partitions(&mut out, topic, owned);
    }
    if version >= 2 {
        out.put_i32(-1);
    }
    if version >= 3 {
        out.put_i16(-1);
    }
    out.freeze()
}

fn assignment(topic: &str, partitions: &[i32], user_data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    put_partitions(&mut out, topic, partitions);
    out.put_i32(if user_data.is_empty() { -1 } else { user_data.len() as i32 });
    out.put_slice(user_data);
    out.freeze()
}

/// Version, partitions and length of the user data of an assignment.
fn read(mut bytes: Bytes) -> (i16, Vec<i32>, i32) {
    if bytes.is_empty() {
        return (-1, Vec::new(), -1);
    }
    let version = bytes.get_i16();
    let mut all = Vec::new();
    for _ in 0..bytes.get_i32() {
        let length = bytes.get_i16() as usize;
        bytes.advance(length);
        for _ in 0..bytes.get_i32() {
            all.push(bytes.get_i32());
        }
    }
    all.sort_unstable();
    (version, all, bytes.get_i32())
}

/// A member of the classic protocol, as it sees itself.
#[derive(Clone)]
struct Classic {
    group: String,
    topic: String,
    id: String,
    instance: Option<String>,
    generation: i32,
    version: i16,
    assignors: Vec<&'static str>,
    owned: Vec<i32>,
}

impl Classic {
    fn new(group: &str, topic: &str, version: i16, assignors: &[&'static str]) -> Self {
        Self {
            group: group.to_owned(),
            topic: topic.to_owned(),
            id: String::new(),
            instance: None,
            generation: -1,
            version,
            assignors: assignors.to_vec(),
            owned: Vec::new(),
        }
    }

    fn joining(&self) -> JoinGroupRequest {
        let metadata = subscription(self.version, &self.topic, &self.owned);
        let protocol = |name: &&str| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(self.assignors.iter().map(protocol).collect())
    }

    async fn join(&mut self, talk: &mut Talk, conn: &mut Conn, label: &str) {
        let r = talk.call(conn, 9, &self.joining()).await;
        let (leader, id) = (talk.member(&r.leader), talk.member(&r.member_id));
        talk.say(format!(
            "{label} joins: {} generation {} type {:?} protocol {:?} leader {leader} member {id} members {} skip {}",
            code(r.error_code),
            r.generation_id,
            r.protocol_type.as_deref().map(|s| s as &str),
            r.protocol_name.as_deref().map(|s| s as &str),
            r.members.len(),
            r.skip_assignment
        ));
        if r.error_code == 0 || r.error_code == 79 {
            self.id = r.member_id.to_string();
        }
        if r.error_code == 0 {
            self.generation = r.generation_id;
        }
    }

    fn syncing(&self) -> SyncGroupRequest {
        sync(&self.group, &self.id, self.generation, &[])
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text(self.assignors[0])))
    }

    /// As the leader, if it assigns something.
    async fn sync(&mut self, talk: &mut Talk, conn: &mut Conn, label: &str, assign: Option<Bytes>) {
        let mut request = self.syncing();
        if let Some(assign) = assign {
            let all = SyncGroupRequestAssignment::default().with_member_id(text(&self.id));
            request = request.with_assignments(vec![all.with_assignment(assign)]);
        }
        self.told(talk, conn, label, &request).await;
    }

    async fn told(&mut self, talk: &mut Talk, conn: &mut Conn, label: &str, request: &SyncGroupRequest) {
        let r = talk.call(conn, 5, request).await;
        let (version, partitions, user_data) = read(r.assignment);
        talk.say(format!(
            "{label} syncs: {} type {:?} protocol {:?} version {version} partitions {} user data {user_data}",
            code(r.error_code),
            r.protocol_type.as_deref().map(|s| s as &str),
            r.protocol_name.as_deref().map(|s| s as &str),
            partitions.len(),
        ));
        if r.error_code == 0 {
            self.owned = partitions;
        }
    }

    async fn beat(&self, talk: &mut Talk, conn: &mut Conn, label: &str) {
        let request = heartbeat(&self.group, &self.id, self.generation)
            .with_group_instance_id(self.instance.as_deref().map(text));
        talk.beat(&format!("{label} beats"), conn, &request).await;
    }

    /// Joins and syncs as the only member.
    async fn lead(&mut self, talk: &mut Talk, conn: &mut Conn, label: &str, partitions: i32) {
        self.join(talk, conn, label).await;
        if self.instance.is_none() {
            self.join(talk, conn, label).await;
        }
        let all = assignment(&self.topic, &(0..partitions).collect::<Vec<_>>(), &[]);
        self.sync(talk, conn, label, Some(all)).await;
    }
}

/// Which partitions somebody has is the broker's choice: they are not named.
async fn commits(talk: &mut Talk, conn: &mut Conn, label: &str, version: i16, request: &OffsetCommitRequest) {
    let r = talk.call(conn, version, request).await;
    talk.say(format!("{label}: {}", code(r.topics[0].partitions[0].error_code)));
}

/// What the administrator's requests say of the group.
async fn described(talk: &mut Talk, conn: &mut Conn, group: &str) {
    let r = talk.call(conn, 5, &ListGroupsRequest::default()).await;
    let listed = r.groups.iter().find(|l| l.group_id.as_str() == group);
    let listed =
        listed.map(|l| (l.group_state.to_string(), l.group_type.to_string(), l.protocol_type.to_string()));
    let r = talk.call(conn, 5, &DescribeGroupsRequest::default().with_groups(vec![group_id(group)])).await;
    let d = &r.groups[0];
    let members: Vec<String> = d
        .members
        .iter()
        .map(|m| format!("{} {}", talk.member(&m.member_id), read(m.member_assignment.clone()).1.len()))
        .collect();
    talk.say(format!(
        "described: listed {listed:?}, {} {} {} {members:?}",
        d.group_state, d.protocol_type, d.protocol_data
    ));
}

/// A group goes from classic to consumer, is mixed, and goes back.
async fn there_and_back(talk: &mut Talk, conn: &mut Conn, topic: &str, id: Uuid) {
    talk.say("# a consumer member joins a classic group");
    let group = talk.name("mixed");
    let g = group.as_str();
    let mut a = Classic::new(g, topic, 3, &["cooperative-sticky", "range"]);
    a.lead(talk, conn, "a", 6).await;
    let all = a.owned.clone();
    described(talk, conn, g).await;
    let mut c = Member::new(g, "c", topic);
    let request = c.joining();
    beat(talk, conn, "c joins", &mut c, &request).await;
    state(talk, conn, "when c has joined", g).await;
    described(talk, conn, g).await;
    talk.say("# the classic member makes room");
    for version in [7, 9] {
        let request = commit(g, &a.id, a.generation, &[(topic, 0, 5)]);
        commits(talk, conn, &format!("a commits in version {version}"), version, &request).await;
    }
    a.sync(talk, conn, "a", None).await;
    a.beat(talk, conn, "a").await;
    let before = a.generation;
    a.join(talk, conn, "a").await;
    a.sync(talk, conn, "a", None).await;
    state(talk, conn, "while a has to give up", g).await;
    a.beat(talk, conn, "a").await;
    let given_up = all.iter().find(|p| !a.owned.contains(p)).copied().unwrap();
    let request = commit(g, &a.id, a.generation, &[(topic, given_up, 6)]);
    commits(talk, conn, "a commits what it gives up", 9, &request).await;
    let request = c.delta();
    beat(talk, conn, "c waits", &mut c, &request).await;
    a.join(talk, conn, "a").await;
    a.beat(talk, conn, "a").await;
    a.sync(talk, conn, "a", None).await;
    a.beat(talk, conn, "a").await;
    let request = c.delta();
    beat(talk, conn, "c gets its share", &mut c, &request).await;
    let request = owning(c.delta(), id, &c.told);
    beat(talk, conn, "c owns it", &mut c, &request).await;
    state(talk, conn, "when both have theirs", g).await;
    let (kept, theirs) = (a.owned[0], c.told[0]);
    for (label, generation, partition) in [
        ("of a kept partition with the generation before", before, kept),
        ("of a partition of c's with the generation before", before, theirs),
        ("with a generation from the future", a.generation + 3, kept),
    ] {
        let request = commit(g, &a.id, generation, &[(topic, partition, 9)]);
        commits(talk, conn, &format!("commit {label}"), 9, &request).await;
    }
    for (label, generation) in [("with its generation", a.generation), ("with an old one", before)] {
        let request = fetch_offsets(g, topic, &[0], Some(&a.id), generation);
        fetched(talk, conn, &format!("offsets of a {label}"), &request).await;
    }

    talk.say("# what is refused");
    let stranger = Classic { id: "x".to_owned(), ..a.clone() };
    stranger.beat(talk, conn, "a stranger").await;
    let consumer = Classic { id: "c".to_owned(), ..a.clone() };
    consumer.beat(talk, conn, "c in classic words").await;
    Classic { generation: before, ..a.clone() }.beat(talk, conn, "a of before").await;
    Classic { generation: before, ..a.clone() }.sync(talk, conn, "a of before", None).await;
    Classic { assignors: vec!["range"], ..a.clone() }.sync(talk, conn, "a with another protocol", None).await;
    let mut other = Classic::new(g, topic, 3, &["sticky"]);
    other.join(talk, conn, "one of another protocol").await;
    let mut other = Classic { instance: Some("j".to_owned()), id: "j1".to_owned(), ..a.clone() };
    other.join(talk, conn, "an unknown instance with an id").await;

    talk.say("# an eager classic member joins");
    let mut b = Classic::new(g, topic, 0, &["range"]);
    b.join(talk, conn, "b").await;
    b.join(talk, conn, "b").await;
    b.sync(talk, conn, "b", None).await;
    b.beat(talk, conn, "b").await;
    state(talk, conn, "when b has joined", g).await;
    let had = c.told.clone();
    let request = c.delta();
    beat(talk, conn, "c beats", &mut c, &request).await;
    if c.told.len() < had.len() {
        let request = owning(c.delta(), id, &c.told);
        beat(talk, conn, "c has given up", &mut c, &request).await;
    }
    a.beat(talk, conn, "a").await;
    a.join(talk, conn, "a").await;
    a.sync(talk, conn, "a", None).await;
    a.join(talk, conn, "a").await;
    a.sync(talk, conn, "a", None).await;
    b.beat(talk, conn, "b").await;
    b.join(talk, conn, "b").await;
    b.sync(talk, conn, "b", None).await;
    b.beat(talk, conn, "b").await;
    state(talk, conn, "when all three have theirs", g).await;
    talk.leave("a classic leave of b and a stranger", conn, &{
        let mut both = leave(g, &b.id, None);
        both.members.push(leave(g, "x", None).members[0].clone());
        both
    })
    .await;
    state(talk, conn, "without b", g).await;
    a.beat(talk, conn, "a").await;
    let request = c.delta();
    beat(talk, conn, "c beats", &mut c, &request).await;
    a.beat(talk, conn, "a").await;

    talk.say("# the last consumer member leaves");
    let request = c.delta().with_member_epoch(-1);
    beat(talk, conn, "c leaves", &mut c.clone(), &request).await;
    described(talk, conn, g).await;
    state(talk, conn, "of a classic group", g).await;
    let request = c.delta();
    beat(talk, conn, "c beats on", &mut c.clone(), &request).await;
    a.beat(talk, conn, "a").await;
    a.join(talk, conn, "a").await;
    a.sync(talk, conn, "a", Some(assignment(topic, &all, &[]))).await;
    a.beat(talk, conn, "a").await;
    described(talk, conn, g).await;

    talk.say("# a consumer member is put out by a classic leave");
    c.epoch = 0;
    let request = c.joining();
    beat(talk, conn, "c joins", &mut c, &request).await;
    talk.leave("an administrator removes c", conn, &leave(g, "c", None)).await;
    described(talk, conn, g).await;
    a.beat(talk, conn, "a").await;
    talk.leave("a leaves", conn, &leave(g, &a.id, None)).await;
    described(talk, conn, g).await;
}

/// Classic groups that cannot become consumer groups.
async fn refusals(talk: &mut Talk, conn: &mut Conn, topic: &str) {
    talk.say("# groups that stay classic");
    let all = assignment(topic, &[0, 1, 2, 3], &[]);
    let custom = assignment(topic, &[0, 1, 2, 3], b"mine");
    for (label, kind, metadata, told) in [
        ("of another type", "connect", subscription(0, topic, &[]), all.clone()),
        ("with strange metadata", "consumer", Bytes::from_static(b"m"), all),
        ("with a strange assignment", "consumer", subscription(0, topic, &[]), Bytes::from_static(b"a")),
        ("with user data", "consumer", subscription(0, topic, &[]), custom),
    ] {
        talk.say(format!("a group {label}"));
        let group = talk.name(&label.replace(' ', "-"));
        let mut a = Classic::new(&group, topic, 0, &["range"]);
        let mut request = a.joining().with_protocol_type(text(kind));
        request.protocols[0].metadata = metadata;
        let first = talk.call(conn, 9, &request).await;
        a.id = first.member_id.to_string();
        let second = talk.call(conn, 9, &request.clone().with_member_id(text(&a.id))).await;
        a.generation = second.generation_id;
        let assigned =
            SyncGroupRequestAssignment::default().with_member_id(text(&a.id)).with_assignment(told);
        let request = a.syncing().with_protocol_type(Some(text(kind))).with_assignments(vec![assigned]);
        let r = talk.call(conn, 5, &request).await;
        talk.say(format!("a syncs: {}", code(r.error_code)));
        let mut c = Member::new(&group, "c", topic);
        let request = c.joining();
        beat(talk, conn, "c joins", &mut c, &request).await;
        a.beat(talk, conn, "a").await;
        talk.leave("a leaves", conn, &leave(&group, &a.id, None)).await;
    }
}

/// An instance changes its protocol.
async fn instances(talk: &mut Talk, conn: &mut Conn, topic: &str, id: Uuid) {
    talk.say("# a static member changes its protocol");
    let group = talk.name("instances");
    let g = group.as_str();
    let mut a = Classic { instance: Some("inst".to_owned()), ..Classic::new(g, topic, 1, &["range"]) };
    a.lead(talk, conn, "a", 4).await;
    let mut c = Member { instance: Some("inst".to_owned()), ..Member::new(g, "c", topic) };
    let request = c.joining();
    beat(talk, conn, "c joins", &mut c, &request).await;
    state(talk, conn, "with c", g).await;
    a.beat(talk, conn, "a").await;
    let request = owning(c.delta(), id, &c.told);
    beat(talk, conn, "c owns all", &mut c, &request).await;
    let mut back = Classic { id: String::new(), generation: -1, owned: Vec::new(), ..a.clone() };
    back.join(talk, conn, "a as it was").await;
    described(talk, conn, g).await;
    back.sync(talk, conn, "a as it was", None).await;
    back.beat(talk, conn, "a as it was").await;
    let request = c.delta();
    beat(talk, conn, "c beats on", &mut c, &request).await;
    talk.leave("a leaves", conn, &leave(g, "", Some("inst"))).await;
    described(talk, conn, g).await;
}

/// What is given up, and what of it another change makes more.
async fn subscriptions(talk: &mut Talk, conn: &mut Conn, topic_a: &str, topic_b: (&str, Uuid)) {
    talk.say("# a subscription shrinks while something is being given up");
    let group = talk.name("shrinks");
    let g = group.as_str();
    let mut c = Member::new(g, "c", topic_a);
    c.topics.push(topic_b.0.to_owned());
    let request = c.joining();
    beat(talk, conn, "c joins", &mut c, &request).await;
    let mut d = Member::new(g, "d", topic_a);
    let request = d.joining();
    beat(talk, conn, "d joins", &mut d, &request).await;
    let request = c.delta();
    beat(talk, conn, "c has to give up", &mut c, &request).await;
    let request = c.delta().with_subscribed_topic_names(Some(vec![topic_name(topic_a)]));
    beat(talk, conn, "c drops a topic", &mut c, &request).await;
    state(talk, conn, "while c holds on to all", g).await;
    let request = owning(c.delta(), topic_b.1, &[0, 1]);
    beat(talk, conn, "c owns that topic only", &mut c, &request).await;
    state(talk, conn, "while c holds on to that", g).await;
    let request = owning(c.delta(), topic_b.1, &[]);
    beat(talk, conn, "c owns nothing", &mut c, &request).await;
    state(talk, conn, "when it has", g).await;
}

#[tokio::test]
async fn answers_about_mixed_groups_are_those_of_apache_kafka() {
    let broker = Broker::builder().start().await.unwrap();
    let (mut talk, mut conn, name, id) = begin(&broker).await;
    let (six, six_id) = topic(&mut talk, &mut conn, "six", 6).await;
    learned(&mut talk, &mut conn, &six, 6).await;
    there_and_back(&mut talk, &mut conn, &six, six_id).await;
    refusals(&mut talk, &mut conn, &name).await;
    instances(&mut talk, &mut conn, &name, id).await;
    let (other, other_id) = topic(&mut talk, &mut conn, "other", 2).await;
    learned(&mut talk, &mut conn, &other, 2).await;
    subscriptions(&mut talk, &mut conn, &name, (&other, other_id)).await;
    talk.compare("mixed_groups.txt");
}
