//! Members that go and come back, and members that are one too many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla::{ConsumerHandle, Error, ErrorCode, Event, GroupProtocol, TopicPartition};
use tokio::sync::mpsc;

use super::group::Change;
use super::mortal::Network;
use super::{Backend, Group, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

const PARTITIONS: u32 = 6;

/// Who goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// Whether the members have instance ids.
    pub fixed: bool,
    /// Whether they go together, instead of one after the other.
    pub at_once: bool,
    /// Whether one of the three stays.
    pub one_stays: bool,
}

impl Bounce {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self { fixed: false, at_once: false, one_stays: false },
        Self { fixed: false, at_once: true, one_stays: false },
        Self { fixed: false, at_once: false, one_stays: true },
        Self { fixed: false, at_once: true, one_stays: true },
        Self { fixed: true, at_once: false, one_stays: true },
        Self { fixed: true, at_once: true, one_stays: true },
    ];
}

/// Longer than a member is away on any machine.
const LONG: Duration = Duration::from_secs(300);

/// Members close and come back, one after the other or together, while somebody writes: every record is handed out
/// once. Who stays is told nothing when the others are static, and gives back when they are not.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn members_that_bounce_repeat_nothing(
    backend: &Arc<Backend>,
    protocol: GroupProtocol,
    bounce: Bounce,
    rounds: usize,
) -> Result<()> {
    bounces(backend, protocol, bounce, rounds)
        .await
        .map_err(|error| format!("{protocol:?}, {bounce:?}: {error}").into())
}

async fn bounces(
    backend: &Arc<Backend>,
    protocol: GroupProtocol,
    bounce: Bounce,
    rounds: usize,
) -> Result<()> {
    let topic = unique("bounce");
    backend.create_topic(&topic, PARTITIONS)?;
    let mut group = Group::over(backend, &topic, protocol);
    group.fixed = bounce.fixed;
    if bounce.fixed {
        group.session_timeout = LONG;
    }
    let mut handles = BTreeMap::new();
    for id in 0..3 {
        handles.insert(id, group.join(id).await?);
    }
    group.write_on(backend, PARTITIONS);
    group.until("three members", settled).await?;
    let before = group.changes.len();
    let who = if bounce.one_stays { 1..3 } else { 0..3 };
    for round in 0..rounds {
        let turns: Vec<Vec<usize>> = if bounce.at_once {
            vec![who.clone().collect()]
        } else {
            who.clone().map(|id| vec![id]).collect()
        };
        for turn in turns {
            for id in &turn {
                handles[id].shutdown();
            }
            let gone = |g: &Group| turn.iter().all(|id| !g.owned.contains_key(id));
            group.until(&format!("{turn:?} gone in round {round}"), gone).await?;
            if bounce.one_stays && !bounce.fixed {
                // Nobody waits for who was there: it is shared out among those who are left.
                let all =
                    |g: &Group| g.held.is_empty() && g.sizes().iter().sum::<usize>() == PARTITIONS as usize;
                group.until(&format!("{turn:?} replaced in round {round}"), all).await?;
            }
            for id in &turn {
                handles.insert(*id, group.join(*id).await?);
            }
            group.until(&format!("{turn:?} back in round {round}"), settled).await?;
        }
    }
    let written = group.write_no_more();
    group.until("everything", |g| g.count() == written && settled(g)).await?;
    if bounce.one_stays {
        let told = group.changes_of(0, before);
        let gave_back = told.iter().any(|change| matches!(change, Change::Revoking(_)));
        assert!(
            if bounce.fixed { told.is_empty() } else { gave_back },
            "{bounce:?}: who stays was told {told:?}"
        );
    }
    handles.values().for_each(ConsumerHandle::shutdown);
    group.until("nobody", |g| g.owned.is_empty()).await?;
    let each = written as i64 / i64::from(PARTITIONS);
    group.assert_each_record_once(PARTITIONS, each);
    assert_eq!(backend.committed(&group.group, &topic)?, (0..PARTITIONS).map(|p| (p, each)).collect());
    Ok(())
}

/// Each of three members has two of the six partitions, and nobody has anything to give back.
fn settled(group: &Group) -> bool {
    group.sizes() == [2, 2, 2] && group.held.is_empty()
}

/// Static members are restarted, and after them all brokers: they still read, and there is no rebalance.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn static_members_outlive_restarts_of_all_brokers(
    backend: &Arc<Backend>,
    protocol: GroupProtocol,
    brokers: u32,
) -> Result<()> {
    let topic = unique("outlive");
    backend.create_topic(&topic, PARTITIONS)?;
    let mut producer = backend.producer()?;
    let mut group = Group::over(backend, &topic, protocol);
    (group.fixed, group.session_timeout) = (true, LONG);
    let mut handles = BTreeMap::new();
    for id in 0..3 {
        handles.insert(id, group.join(id).await?);
    }
    group.until("three members", settled).await?;
    let before = group.changes.len();
    for turn in [vec![1], vec![0, 2]] {
        for id in &turn {
            handles[id].shutdown();
        }
        group.until("some gone", |g| turn.iter().all(|id| !g.owned.contains_key(id))).await?;
        for id in &turn {
            handles.insert(*id, group.join(*id).await?);
        }
        group.until("all back", settled).await?;
    }
    let after = group.changes.len();
    assert_eq!(after - before, 3, "who came back took up what it had: {:?}", group.changes);
    let mut generations = Vec::new();
    for handle in handles.values() {
        generations.push(handle.group_metadata().await?);
    }
    (1..=brokers).try_for_each(|node| backend.restart(node))?;
    let spec = RecordSpec::new(600).partitions(PARTITIONS);
    producer.produce(&topic, &spec)?;
    group.wrote(spec);
    group.until("records after the restart", |g| g.count() == 600).await?;
    for (handle, before) in handles.values().zip(&generations) {
        assert_eq!(handle.group_metadata().await?, *before, "no rebalance");
    }
    assert_eq!(group.changes.len(), after, "{:?}", group.changes);
    handles.values().for_each(ConsumerHandle::shutdown);
    group.until("nobody", |g| g.owned.is_empty()).await?;
    group.assert_each_record_once(PARTITIONS, 100);
    assert_eq!(backend.committed(&group.group, &topic)?, (0..PARTITIONS).map(|p| (p, 100)).collect());
    Ok(())
}

/// Three members are there, and `newcomers` more come with instance ids that are taken: with the classic protocol the
/// older ones are put out, with the consumer protocol the newer ones are refused. As many remain as there are ids, and
/// they read everything.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn newcomers_with_taken_instance_ids(
    backend: &Backend,
    protocol: GroupProtocol,
    newcomers: usize,
) -> Result<()> {
    let mut doubled = Doubled::new(backend, protocol)?;
    (0..3).try_for_each(|number| doubled.start(number))?;
    doubled.until("three members", |d| d.owning.len() == 3).await?;
    (3..3 + newcomers).try_for_each(|number| doubled.start(number))?;
    doubled.until("the end of some", |d| d.ended.len() == newcomers).await?;
    let out = if protocol == GroupProtocol::Classic { 0..newcomers } else { 3..3 + newcomers };
    assert!(doubled.ended.keys().copied().eq(out), "{:?}", doubled.ended);
    doubled.read_all().await
}

/// Two members of each of three instance ids start at once: one of each id remains, the other is put out or refused,
/// and those who remain read everything.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn doubled_instance_ids_of_all_at_once_leave_one_each(
    backend: &Backend,
    protocol: GroupProtocol,
) -> Result<()> {
    let mut doubled = Doubled::new(backend, protocol)?;
    (0..6).try_for_each(|number| doubled.start(number))?;
    doubled.until("the end of half", |d| d.ended.len() == 3).await?;
    let ids: BTreeSet<usize> = doubled.ended.keys().map(|number| number % 3).collect();
    assert_eq!(ids.len(), 3, "one of each id: {:?}", doubled.ended);
    doubled.read_all().await
}

/// What a member with an instance id says.
enum Word {
    Owns(usize),
    Read(TopicPartition, i64),
    Ended(usize, Option<Error>),
}

/// Members of which several may have one of three instance ids.
struct Doubled<'a> {
    backend: &'a Backend,
    protocol: GroupProtocol,
    topic: String,
    group: String,
    handles: Vec<ConsumerHandle>,
    tell: mpsc::UnboundedSender<Word>,
    told: mpsc::UnboundedReceiver<Word>,
    /// Who was given partitions.
    owning: BTreeSet<usize>,
    /// Who is not there any more, and why.
    ended: BTreeMap<usize, Option<Error>>,
    /// Every record that was read.
    read: Vec<(TopicPartition, i64)>,
}

impl<'a> Doubled<'a> {
    fn new(backend: &'a Backend, protocol: GroupProtocol) -> Result<Self> {
        let topic = unique("doubled");
        backend.create_topic(&topic, PARTITIONS)?;
        let (tell, told) = mpsc::unbounded_channel();
        Ok(Self {
            backend,
            protocol,
            topic,
            group: unique("doubled"),
            handles: Vec::new(),
            tell,
            told,
            owning: BTreeSet::new(),
            ended: BTreeMap::new(),
            read: Vec::new(),
        })
    }

    /// Starts a member that reads until it is shut down or a fatal error ends it.
    fn start(&mut self, number: usize) -> Result<()> {
        let mut builder = over(&self.backend.bootstrap(), &self.group, self.protocol)
            .client_id(format!("member-{number}"))
            .group_instance_id(format!("instance-{}", number % 3))
            .subscribe([self.topic.as_str()]);
        if let Some(broker) = self.backend.without_sockets() {
            builder = Network::good().plug(Some(broker), builder).__seed(number as u64);
        }
        let mut consumer = builder.connect_lazy()?;
        self.handles.push(consumer.handle());
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let end = loop {
                match consumer.next_event().await {
                    Ok(Some(Event::Batch(batch))) => {
                        for record in &batch {
                            let _ = tell.send(Word::Read(batch.topic_partition().clone(), record.offset()));
                        }
                    }
                    Ok(Some(Event::Assigned(new))) if !new.is_empty() => drop(tell.send(Word::Owns(number))),
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) if error.is_fatal() => break Some(error),
                    Err(_) => {}
                }
            };
            // What it could not do because it was put out, the error has said.
            let _ = consumer.close().await;
            let _ = tell.send(Word::Ended(number, end));
        });
        Ok(())
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let result = guarded(what, async {
            while !done(self) {
                match self.told.recv().await.ok_or("nobody is there")? {
                    Word::Owns(number) => drop(self.owning.insert(number)),
                    Word::Read(tp, offset) => self.read.push((tp, offset)),
                    Word::Ended(number, why) => drop(self.ended.insert(number, why)),
                }
            }
            Ok(())
        });
        result.await.map_err(|error| {
            format!("{error}: {:?} owned something, {:?} ended", self.owning, self.ended).into()
        })
    }

    /// Those who ended have the reason that they must have. The others read what is written now, each record once.
    async fn read_all(mut self) -> Result<()> {
        let code = match self.protocol {
            GroupProtocol::Classic => ErrorCode::FencedInstanceId,
            _ => ErrorCode::UnreleasedInstanceId,
        };
        for (number, why) in &self.ended {
            assert_eq!(why.as_ref().and_then(Error::code), Some(code), "member {number}: {why:?}");
        }
        let out = self.ended.len();
        let spec = RecordSpec::new(600).partitions(PARTITIONS);
        self.backend.produce(&self.topic, "none", &spec)?;
        self.until("everything", |d| d.read.len() >= 600).await?;
        assert_eq!(self.ended.len(), out, "nobody else ended: {:?}", self.ended);
        self.handles.iter().for_each(ConsumerHandle::shutdown);
        let all = self.handles.len();
        self.until("the end of all", |d| d.ended.len() == all).await?;
        self.read.sort();
        let tp = |p| TopicPartition::new(self.topic.as_str(), p as i32);
        let expected: Vec<_> = (0..PARTITIONS).flat_map(|p| (0..100).map(move |o| (p, o))).collect();
        assert!(self.read.iter().eq(&expected.into_iter().map(|(p, o)| (tp(p), o)).collect::<Vec<_>>()));
        let committed = self.backend.committed(&self.group, &self.topic)?;
        assert_eq!(committed, (0..PARTITIONS).map(|p| (p, 100)).collect());
        Ok(())
    }
}
