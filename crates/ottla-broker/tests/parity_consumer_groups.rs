//! The same conversation about consumer groups (KIP-848) with the embedded broker and with a real one.
//!
//! `tests/parity/consumer_groups.txt` is what Apache Kafka 4.3.1 answered; see `parity.rs` for how to hold the
//! conversation with a real broker and how to record its answers.

mod support;

use kafka_protocol::messages::*;
use ottla_broker::Broker;
use support::consumers::*;
use support::member::{commit, heartbeat, join, leave, offset_fetch};
use support::talk::*;
use support::*;
use uuid::Uuid;

async fn refusals(talk: &mut Talk, conn: &mut Conn, topic: &str) {
    talk.say("# what is refused");
    let group = talk.name("refused");
    let mut member = Member::new(&group, "a", topic);
    let good = member.joining();
    let requests = [
        ("no member id", good.clone().with_member_id(text(""))),
        ("no group id", good.clone().with_group_id(group_id(""))),
        ("empty instance id", good.clone().with_instance_id(Some(text("")))),
        ("empty rack", good.clone().with_rack_id(Some(text("")))),
        ("no rebalance timeout", good.clone().with_rebalance_timeout_ms(-1)),
        ("no owned partitions", good.clone().with_topic_partitions(None)),
        ("owned partitions", owning(good.clone(), Uuid::from_u128(7), &[1])),
        ("no subscription", good.clone().with_subscribed_topic_names(None)),
        ("unknown assignor", good.clone().with_server_assignor(Some(text("sticky")))),
        ("a pattern that is none", good.clone().with_subscribed_topic_regex(Some(text("(")))),
        ("epoch -3", good.clone().with_member_epoch(-3)),
        ("epoch -2 of a dynamic member", good.clone().with_member_epoch(-2)),
        ("unknown group", good.clone().with_member_epoch(3)),
        ("leave an unknown group", good.clone().with_member_epoch(-1)),
    ];
    for (label, request) in requests {
        beat(talk, conn, label, &mut member, &request).await;
    }
    let fetch = fetch_offsets(&group, topic, &[0], Some("a"), 3);
    fetched(talk, conn, "offsets of an unknown group", &fetch).await;
    talk.commit("commit to an unknown group", conn, 9, &commit(&group, "a", 3, &[(topic, 0, 1)])).await;
}

async fn two_members(talk: &mut Talk, conn: &mut Conn, topic: &str, id: Uuid) {
    talk.say("# two members");
    let group = talk.name("two");
    let g = group.as_str();
    let (mut a, mut b) = (Member::new(g, "a", topic), Member::new(g, "b", topic));
    let request = a.joining();
    beat(talk, conn, "a joins", &mut a, &request).await;
    beat(talk, conn, "a joins again", &mut a, &request).await;
    let request = a.delta();
    beat(talk, conn, "a beats", &mut a, &request).await;
    let request = owning(a.delta(), id, &a.told);
    beat(talk, conn, "a owns all", &mut a, &request).await;
    let all = a.told.clone();
    talk.commit("a commits", conn, 9, &commit(g, "a", a.epoch, &[(topic, 0, 5)])).await;
    talk.commit("a commits without a member", conn, 9, &commit(g, "", -1, &[(topic, 0, 5)])).await;

    let request = b.joining();
    beat(talk, conn, "b joins", &mut b, &request).await;
    let request = b.delta();
    beat(talk, conn, "b waits", &mut b, &request).await;
    state(talk, conn, "while a holds", g).await;
    let request = a.delta();
    beat(talk, conn, "a has to revoke", &mut a, &request).await;
    let gone: Vec<i32> = all.iter().copied().filter(|p| !a.told.contains(p)).collect();
    let request = a.delta();
    beat(talk, conn, "a says nothing", &mut a, &request).await;
    let request = owning(a.delta(), id, &all);
    beat(talk, conn, "a still owns all", &mut a, &request).await;
    talk.commit("a commits what it revokes", conn, 9, &commit(g, "a", a.epoch, &[(topic, gone[0], 7)])).await;
    let request = b.delta();
    beat(talk, conn, "b still waits", &mut b, &request).await;
    let before = a.epoch;
    let request = owning(a.delta(), id, &a.told);
    beat(talk, conn, "a has revoked", &mut a, &request).await;
    let request = b.delta();
    beat(talk, conn, "b gets them", &mut b, &request).await;
    let request = owning(b.delta(), id, &b.told);
    beat(talk, conn, "b owns them", &mut b, &request).await;
    state(talk, conn, "when all have theirs", g).await;

    let (kept, theirs) = (a.told[0], b.told[0]);
    for (label, epoch, partition) in [
        ("of a kept partition with the epoch before", before, kept),
        ("of a partition of b's with the epoch before", before, theirs),
        ("of a partition of b's with the present epoch", a.epoch, theirs),
        ("with an epoch from the future", a.epoch + 4, kept),
    ] {
        talk.commit(&format!("commit {label}"), conn, 9, &commit(g, "a", epoch, &[(topic, partition, 9)]))
            .await;
    }
    talk.commit("commit of a stranger", conn, 9, &commit(g, "x", 1, &[(topic, 0, 9)])).await;
    talk.commit("commit in version 8", conn, 8, &commit(g, "a", a.epoch, &[(topic, 0, 9)])).await;
    for (label, member, epoch) in [
        ("of a member", Some("a"), a.epoch),
        ("with an old epoch", Some("a"), before),
        ("with an epoch from the future", Some("a"), 99),
        ("of a stranger", Some("x"), 1),
        ("of nobody", None, -1),
        ("of an empty name", Some(""), -1),
    ] {
        let request = fetch_offsets(g, topic, &[0], member, epoch);
        fetched(talk, conn, &format!("offsets {label}"), &request).await;
    }
    let r = talk.call(conn, 7, &offset_fetch(g, topic, &[0])).await;
    talk.say(format!("offsets in version 7: {}", code(r.error_code)));

    let older = a.delta().with_member_epoch(before);
    beat(talk, conn, "a repeats the epoch before", &mut a.clone(), &older).await;
    let request = owning(older.clone(), id, &a.told);
    beat(talk, conn, "a repeats it with what it owns", &mut a.clone(), &request).await;
    let request = owning(older, id, &all);
    beat(talk, conn, "a repeats it with too much", &mut a.clone(), &request).await;
    let request = a.delta().with_member_epoch(99);
    beat(talk, conn, "a comes from the future", &mut a.clone(), &request).await;
    let request = a.joining();
    beat(talk, conn, "a joins with epoch 0 while it is known", &mut a.clone(), &request).await;
    let request = b.joining();
    beat(talk, conn, "b joins with epoch 0 while it is known", &mut b.clone(), &request).await;
    let full = owning(a.joining().with_member_epoch(a.epoch), id, &a.told);
    beat(talk, conn, "a tells all", &mut a, &full).await;
    let stranger = Member::new(g, "x", topic).delta().with_member_epoch(2);
    beat(talk, conn, "a stranger", &mut a.clone(), &stranger).await;
    let request = stranger.with_member_epoch(-1);
    beat(talk, conn, "a stranger leaves", &mut a.clone(), &request).await;

    talk.say("# other requests");
    let r = talk.call(conn, 4, &heartbeat(g, "a", a.epoch)).await;
    talk.say(format!("classic heartbeat: {}", code(r.error_code)));
    let r = talk.call(conn, 9, &join(g, "", &[("range", "")]).with_protocol_type(text("connect"))).await;
    talk.say(format!("classic join of another type: {}", code(r.error_code)));
    talk.leave("classic leave", conn, &leave(g, "x", None)).await;
    let list = ListGroupsRequest::default().with_types_filter(vec![text("Consumer")]);
    let r = talk.call(conn, 5, &list).await;
    let ours = r.groups.iter().find(|l| l.group_id.as_str() == g);
    talk.say(format!(
        "list: {:?}",
        ours.map(|l| (l.group_state.to_string(), l.group_type.to_string(), l.protocol_type.to_string()))
    ));
    for version in [5, 6] {
        let r =
            talk.call(conn, version, &DescribeGroupsRequest::default().with_groups(vec![group_id(g)])).await;
        let d = &r.groups[0];
        let message = d.error_message.as_deref().map(|m| words(m, &talk.suffix));
        talk.say(format!("describe v{version}: {} {message:?} {}", code(d.error_code), d.group_state));
    }
    let unknown =
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(&talk.name("nobody"))]);
    let r = talk.call(conn, 1, &unknown).await;
    let message = r.groups[0].error_message.as_deref().map(|m| words(m, &talk.suffix));
    talk.say(format!("describe an unknown one: {} {message:?}", code(r.groups[0].error_code)));
    let r = talk.call(conn, 2, &DeleteGroupsRequest::default().with_groups_names(vec![group_id(g)])).await;
    talk.say(format!("delete with members: {}", code(r.results[0].error_code)));

    talk.say("# changes");
    let request = a.delta().with_subscribed_topic_names(Some(vec![topic_name(&talk.name("nothing"))]));
    beat(talk, conn, "a subscribes to what is not there", &mut a, &request).await;
    let request = owning(a.delta(), id, &[]);
    beat(talk, conn, "a owns nothing", &mut a, &request).await;
    let request = b.delta();
    beat(talk, conn, "b gets the rest", &mut b, &request).await;
    let request = b.delta().with_member_epoch(-1);
    beat(talk, conn, "b leaves", &mut b.clone(), &request).await;
    let request = b.delta();
    beat(talk, conn, "b beats on", &mut b, &request).await;
    let request = a.delta();
    beat(talk, conn, "a beats", &mut a, &request).await;
    let request = a.delta().with_member_epoch(-1);
    beat(talk, conn, "a leaves", &mut a, &request).await;
    state(talk, conn, "when nobody is left", g).await;
    let request = fetch_offsets(g, topic, &[0], Some("a"), 3);
    fetched(talk, conn, "offsets of who has left", &request).await;
    talk.commit("commit of who has left", conn, 9, &commit(g, "a", 3, &[(topic, 0, 9)])).await;
    talk.commit("commit of nobody", conn, 9, &commit(g, "", -1, &[(topic, 0, 9)])).await;
    let r = talk.call(conn, 2, &DeleteGroupsRequest::default().with_groups_names(vec![group_id(g)])).await;
    talk.say(format!("delete: {}", code(r.results[0].error_code)));
}

async fn statics(talk: &mut Talk, conn: &mut Conn, topic: &str, id: Uuid) {
    talk.say("# static members");
    let group = talk.name("static");
    let g = group.as_str();
    let with = |id: &str| Member { instance: Some("i".to_owned()), ..Member::new(g, id, topic) };
    let (mut s, mut t) = (with("s"), with("t"));
    let request = s.joining().with_server_assignor(Some(text("range")));
    beat(talk, conn, "s joins", &mut s, &request).await;
    let request = t.joining();
    beat(talk, conn, "t joins as the same instance", &mut t.clone(), &request).await;
    let request = t.delta().with_member_epoch(1);
    beat(talk, conn, "t beats", &mut t.clone(), &request).await;
    let request = t.delta().with_member_epoch(-2);
    beat(talk, conn, "t leaves for a while", &mut t.clone(), &request).await;
    let unknown = Member { instance: Some("j".to_owned()), ..t.clone() };
    let request = unknown.delta().with_member_epoch(1);
    beat(talk, conn, "an unknown instance", &mut t.clone(), &request).await;
    let request = owning(s.delta(), id, &s.told);
    beat(talk, conn, "s owns all", &mut s, &request).await;
    let request = s.delta().with_member_epoch(-2);
    beat(talk, conn, "s leaves for a while", &mut s.clone(), &request).await;
    state(talk, conn, "while s is away", g).await;
    let request = s.delta();
    beat(talk, conn, "s beats on", &mut s.clone(), &request).await;
    talk.commit("s commits", conn, 9, &commit(g, "s", s.epoch, &[(topic, 0, 9)])).await;
    let request = t.joining();
    beat(talk, conn, "t takes over", &mut t, &request).await;
    state(talk, conn, "with t", g).await;
    let request = s.delta();
    beat(talk, conn, "s is back", &mut s.clone(), &request).await;
    let request = s.joining();
    beat(talk, conn, "s joins", &mut s.clone(), &request).await;
    let request = t.joining();
    beat(talk, conn, "t joins with epoch 0 while it is known", &mut t.clone(), &request).await;
    let request = t.delta().with_member_epoch(-1);
    beat(talk, conn, "t leaves for good", &mut t, &request).await;
    state(talk, conn, "without t", g).await;
}

#[tokio::test]
async fn answers_about_consumer_groups_are_those_of_apache_kafka() {
    let broker = Broker::builder().start().await.unwrap();
    let (mut talk, mut conn, name, id) = begin(&broker).await;
    let r = talk
        .call(
            &mut conn,
            4,
            &ApiVersionsRequest::default()
                .with_client_software_name(text("tester"))
                .with_client_software_version(text("1")),
        )
        .await;
    let feature = r.finalized_features.iter().find(|f| f.name.as_str() == "group.version");
    talk.say(format!("group.version: {:?}", feature.map(|f| (f.min_version_level, f.max_version_level))));
    refusals(&mut talk, &mut conn, &name).await;
    two_members(&mut talk, &mut conn, &name, id).await;
    statics(&mut talk, &mut conn, &name, id).await;
    talk.compare("consumer_groups.txt");
}
