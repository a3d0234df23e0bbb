//! Item 3: groups in which not everybody is ottla. The peers need the jars of Kafka and a Python wheel, so that these
//! scenarios run on real Kafka only: the suite on the embedded broker needs nothing but Rust.

use std::collections::{BTreeMap, BTreeSet};

use ottla::{Assignor, ConsumerHandle, GroupProtocol, TopicPartition};

use super::{Backend, GUARD, Group, Partitions, Result, guarded};
use crate::kafka::{Event, KafkaCluster, Member, MemberSpec, RecordSpec, unique};

/// A member that is not ours, and what it said.
struct Peer {
    member: Member,
    owned: Partitions,
    /// How often it got or gave back something. (Peers also tell that nothing changed.)
    changes: usize,
    seen: BTreeMap<TopicPartition, BTreeSet<i64>>,
}

impl Peer {
    fn new(member: Member) -> Self {
        Self { member, owned: Partitions::new(), changes: 0, seen: BTreeMap::new() }
    }

    fn take_in(&mut self, event: Event) -> Result<()> {
        let set = |list: Vec<(String, u32)>| -> Partitions {
            list.into_iter().map(|(topic, p)| TopicPartition::new(topic, p as i32)).collect()
        };
        match event {
            Event::Assigned(new) => {
                self.changes += usize::from(!new.is_empty());
                self.owned.extend(set(new));
            }
            Event::Revoked(old) => {
                self.changes += usize::from(!old.is_empty());
                let old = set(old);
                self.owned.retain(|tp| !old.contains(tp));
            }
            Event::Records { topic, partition, first, last, count } => {
                let tp = TopicPartition::new(topic, partition as i32);
                let offsets = first..=last;
                assert_eq!(offsets.clone().count() as u64, count, "{tp}: a gap from {first} to {last}");
                for offset in offsets {
                    let new = self.seen.entry(tp.clone()).or_default().insert(offset);
                    assert!(new, "{tp}: it read {offset} twice");
                }
            }
            Event::Committed => {}
            other => return Err(format!("a peer said {other:?}").into()),
        }
        Ok(())
    }

    /// Takes in what it has said already.
    fn look(&mut self) -> Result<()> {
        while let Some(event) = self.member.try_next()? {
            self.take_in(event)?;
        }
        Ok(())
    }

    /// Takes in what it says until it has read this many records.
    fn until_count(&mut self, count: usize) -> Result<()> {
        while self.count() < count {
            let event = self.member.next(GUARD)?;
            self.take_in(event)?;
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }
}

/// Members of three kinds in one group.
struct Mixed<'a> {
    kafka: &'a KafkaCluster,
    backend: &'a Backend,
    topic: String,
    ours: Group,
    peers: BTreeMap<&'static str, Peer>,
    written: i64,
    /// What peers that are gone had read.
    seen_before: Vec<(TopicPartition, BTreeSet<i64>)>,
}

impl<'a> Mixed<'a> {
    fn new(kafka: &'a KafkaCluster, backend: &'a Backend, topic: String, ours: Group) -> Result<Self> {
        backend.create_topic(&topic, 6)?;
        let peers = BTreeMap::new();
        Ok(Self { kafka, backend, topic, ours, peers, written: 0, seen_before: Vec::new() })
    }

    /// A peer that reads in the group.
    fn spec(&self, name: &str, properties: &[(String, String)]) -> MemberSpec {
        let spec = MemberSpec::new(&self.ours.group, &[&self.topic]).property("client.id", name);
        properties.iter().fold(spec, |spec, (name, value)| spec.property(name, value))
    }

    /// Waits until the group is stable with these shares (ours first, then the peers' by name), and everybody knows
    /// the assignment that the coordinator knows.
    async fn settle(&mut self, what: &str, shares: &[usize]) -> Result<()> {
        let members = shares.iter().filter(|s| **s > 0).count();
        guarded(what, async {
            loop {
                self.backend.group_is(&self.ours.group, "Stable", members).await?;
                self.ours.look()?;
                for peer in self.peers.values_mut() {
                    peer.look()?;
                }
                if self.shares() == shares && self.views() == self.assignment()? {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        })
        .await?;
        let all: Vec<_> = self.views().into_values().flatten().collect();
        assert_eq!(all.len(), 6, "complete: {all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 6, "disjoint: {all:?}");
        Ok(())
    }

    fn shares(&self) -> Vec<usize> {
        let ours = self.ours.owned.values().map(BTreeSet::len).sum();
        std::iter::once(ours).chain(self.peers.values().map(|p| p.owned.len())).collect()
    }

    /// What each member says that it owns, by client id.
    fn views(&self) -> BTreeMap<String, Partitions> {
        let ours = self.ours.owned.iter().map(|(id, owned)| (format!("member-{id}"), owned.clone()));
        ours.chain(self.peers.iter().map(|(name, p)| ((*name).to_owned(), p.owned.clone()))).collect()
    }

    /// The same as the coordinator says it.
    fn assignment(&self) -> Result<BTreeMap<String, Partitions>> {
        let described = self.kafka.tool()?.group(&self.ours.group)?;
        let partitions = |assignment: BTreeMap<String, Vec<u32>>| {
            let all = assignment
                .into_iter()
                .flat_map(|(topic, list)| list.into_iter().map(move |p| (topic.clone(), p as i32)));
            all.map(|(topic, p)| TopicPartition::new(topic, p)).collect()
        };
        Ok(described.members.into_iter().map(|m| (m.client_id, partitions(m.assignment))).collect())
    }

    fn changes(&self) -> Vec<usize> {
        std::iter::once(self.ours.changes.len()).chain(self.peers.values().map(|p| p.changes)).collect()
    }

    /// Rounds of records until one goes by without a rebalance. A peer that has given back something asks for one
    /// more rebalance, in which nothing moves and which may come late; a group that goes on with that is not stable.
    async fn rounds(&mut self, handle: &ConsumerHandle) -> Result<()> {
        for _ in 0..4 {
            let before = handle.group_metadata().await?;
            self.round().await?;
            if handle.group_metadata().await? == before {
                return Ok(());
            }
        }
        Err("the group keeps rebalancing".into())
    }

    /// Writes a hundred records into each partition: each member hands out those of its own, and nobody's partitions
    /// move meanwhile.
    async fn round(&mut self) -> Result<()> {
        let before = self.changes();
        let spec = RecordSpec::new(600).partitions(6).seed(self.written as u64);
        self.backend.produce(&self.topic, "none", &spec)?;
        self.ours.wrote(spec);
        self.written += 100;
        for (name, peer) in &mut self.peers {
            peer.until_count(peer.count() + 100 * peer.owned.len())
                .map_err(|error| format!("{name}: {error}"))?;
        }
        let ours: usize = self.ours.owned.values().map(BTreeSet::len).sum();
        let count = self.ours.count() + 100 * ours;
        self.ours.until("our share of the records", |g| g.count() == count).await?;
        for peer in self.peers.values_mut() {
            peer.look()?;
        }
        assert_eq!(self.changes(), before, "a stable assignment");
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<()> {
        let mut peer = self.peers.remove(name).ok_or("no such peer")?;
        peer.look()?;
        self.seen_before.extend(peer.seen);
        // What it gives back on its way out is no news.
        peer.member.close(GUARD)?;
        Ok(())
    }

    /// Each record was read by somebody, and by nobody else.
    fn assert_each_record_once(&self) {
        let mut all: BTreeMap<&TopicPartition, BTreeSet<i64>> = BTreeMap::new();
        let peers = self.peers.values().flat_map(|p| &p.seen);
        let before = self.seen_before.iter().map(|(tp, seen)| (tp, seen));
        let ours = self.ours.seen();
        for (tp, seen) in peers.chain(before).chain(&ours) {
            for offset in seen {
                let new = all.entry(tp).or_default().insert(*offset);
                assert!(new, "{tp}: {offset} was read by two members");
            }
        }
        assert_eq!(all.len(), 6);
        for (tp, seen) in all {
            assert!(seen.iter().copied().eq(0..self.written), "{tp}: {seen:?}");
        }
        self.ours.assert_as_written();
        assert_eq!(self.ours.repeated, 0);
    }
}

/// A group of ottla, Kafka's Java consumer and librdkafka, led by ottla and then by one of the others: complete,
/// disjoint and stable assignments, and every record read once.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_mixed_group_is_stable_and_loses_nothing(
    kafka: &KafkaCluster,
    backend: &Backend,
    assignor: Assignor,
) -> Result<()> {
    let (java_name, librdkafka_name) = match assignor {
        Assignor::Range => ("org.apache.kafka.clients.consumer.RangeAssignor", "range"),
        _ => ("org.apache.kafka.clients.consumer.CooperativeStickyAssignor", "cooperative-sticky"),
    };
    let properties = |assignor: &str| {
        let list = [
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "300"),
            ("partition.assignment.strategy", assignor),
        ];
        list.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let topic = unique("mixed");
    let ours = Group::new(backend, &topic, assignor);
    let mixed = Mixed::new(kafka, backend, topic, ours)?;
    three_kinds(mixed, &properties(java_name), &properties(librdkafka_name)).await
}

/// The same over the consumer protocol (KIP-848), where nobody leads.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_mixed_group_of_the_consumer_protocol_is_stable_and_loses_nothing(
    kafka: &KafkaCluster,
    backend: &Backend,
) -> Result<()> {
    let properties = [("group.protocol".to_owned(), "consumer".to_owned())];
    let topic = unique("mixed");
    let ours = Group::over(backend, &topic, GroupProtocol::Consumer);
    three_kinds(Mixed::new(kafka, backend, topic, ours)?, &properties, &properties).await
}

/// A group of classic members into which ottla comes with the consumer protocol, and that is classic again when ottla
/// has left: Kafka migrates it online, and nothing is lost or read twice.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_group_is_migrated_online_and_back(kafka: &KafkaCluster, backend: &Backend) -> Result<()> {
    let topic = unique("migrated");
    let ours = Group::over(backend, &topic, GroupProtocol::Consumer);
    let mut mixed = Mixed::new(kafka, backend, topic, ours)?;
    let classic = [
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "300"),
        ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
    ];
    let classic = classic.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let java = mixed.spec("java", &classic);
    mixed.peers.insert("java", Peer::new(Member::java(kafka, &java)?));
    mixed.settle("Java alone", &[0, 6]).await?;
    mixed.round().await?;
    let first = mixed.ours.join(0).await?;
    mixed.settle("both protocols in one group", &[3, 3]).await?;
    mixed.rounds(&first).await?;
    mixed.close("java")?;
    mixed.settle("the consumer protocol alone", &[6]).await?;
    mixed.rounds(&first).await?;
    mixed.peers.insert("java", Peer::new(Member::java(kafka, &java)?));
    mixed.settle("both protocols again", &[3, 3]).await?;
    mixed.rounds(&first).await?;
    first.shutdown();
    mixed.settle("the classic protocol alone", &[0, 6]).await?;
    mixed.round().await?;
    mixed.close("java")?;
    mixed.assert_each_record_once();
    assert_eq!(mixed.ours.resets, [], "Java had begun and committed");
    Ok(())
}

/// Members of three kinds come, lead, and go.
async fn three_kinds(
    mut mixed: Mixed<'_>,
    java: &[(String, String)],
    librdkafka: &[(String, String)],
) -> Result<()> {
    let kafka = mixed.kafka;
    let (java, librdkafka) = (mixed.spec("java", java), mixed.spec("librdkafka", librdkafka));
    let first = mixed.ours.join(0).await?;
    mixed.settle("ottla alone", &[6]).await?;
    mixed.rounds(&first).await?;
    mixed.peers.insert("java", Peer::new(Member::java(kafka, &java)?));
    mixed.settle("ottla and Java", &[3, 3]).await?;
    mixed.rounds(&first).await?;
    mixed.peers.insert("librdkafka", Peer::new(Member::librdkafka(kafka, &librdkafka)?));
    mixed.settle("ottla, Java and librdkafka", &[2, 2, 2]).await?;
    mixed.rounds(&first).await?;
    // Without its leader the group makes one of the others lead.
    first.shutdown();
    mixed.settle("Java and librdkafka", &[0, 3, 3]).await?;
    mixed.round().await?;
    let second = mixed.ours.join(1).await?;
    mixed.settle("ottla led by a peer", &[2, 2, 2]).await?;
    mixed.rounds(&second).await?;
    mixed.close("java")?;
    mixed.settle("ottla and librdkafka", &[3, 3]).await?;
    mixed.rounds(&second).await?;
    mixed.close("librdkafka")?;
    mixed.settle("ottla alone again", &[6]).await?;
    mixed.rounds(&second).await?;
    second.shutdown();
    mixed.ours.until("nobody", |g| g.owned.is_empty()).await?;
    mixed.assert_each_record_once();
    mixed.ours.assert_reset_once_at_the_beginning(6);
    Ok(())
}
